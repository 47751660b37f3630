use std::time::Duration;

async fn work() -> Result<(), std::io::Error> {
    Ok(())
}

fn main() {
    let group = schedgroup::Group::new();
    group.delay(Duration::ZERO, work());
}
