use schedgroup::keyed::KeyedGroup;

fn main() {
    let prefix = String::from("session");
    let sessions = KeyedGroup::with_handler(|_, user: u64, _: String| async {
        println!("{prefix} {user}");
    });
    drop(sessions);
}
