use schedgroup::task::TaskGroup;

async fn page() -> Result<u64, std::io::Error> {
    Ok(7)
}

fn main() {
    let group = TaskGroup::new();
    group.spawn(page());
}
