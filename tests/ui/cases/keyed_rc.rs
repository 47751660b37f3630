use schedgroup::keyed::{KeyedGroup, OnDuplicate};
use std::rc::Rc;
use std::time::Duration;

fn main() {
    let sessions = KeyedGroup::with_handler(|_, _: u64, _: Rc<str>| async {});
    sessions.insert_after(7, "ada".into(), Duration::ZERO, OnDuplicate::Replace);
}
