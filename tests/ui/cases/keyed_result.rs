use schedgroup::keyed::KeyedGroup;

fn main() {
    let sessions = KeyedGroup::with_handler(|_, path: &str, text: String| async move {
        std::fs::write(path, text)
    });
    drop(sessions);
}
