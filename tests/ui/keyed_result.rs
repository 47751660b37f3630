use schedgroup::keyed::KeyedGroup;

#[tokio::main]
async fn main() {
    let sessions = KeyedGroup::with_handler(|_, path: &str, text: String| async move {
        std::fs::write(path, text)
    });
    drop(sessions);
}
