use schedgroup::keyed::{KeyedGroup, OnDuplicate};
use std::time::Duration;

#[derive(PartialEq, Eq)]
struct User(u64);

fn main() {
    let sessions = KeyedGroup::with_handler(|_, _: User, _: String| async {});
    sessions.insert_after(User(7), String::new(), Duration::ZERO, OnDuplicate::Replace);
}
