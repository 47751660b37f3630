//! A group whose tasks can be cancelled: from outside, and each in the way that it can.
//!
//! Look for: the download that puts its file away when it sees the cancel, the one that does not listen and
//! is stopped, the three that never started, and a `wait` that says who ended it all.
//!
//! ```sh
//! cargo run --example cancellable
//! ```
#![forbid(unsafe_code)]

use std::time::Duration;

use schedgroup::task::{TaskGroup, TaskHandle};
use schedgroup::{CancellationToken, TaskError};
use tokio::time::sleep;

/// Listens: at the cancel it has its own last steps.
async fn download(token: CancellationToken, group: TaskHandle) {
    tokio::select! {
        () = sleep(Duration::from_secs(60)) => println!("#0 is complete"),
        () = token.cancelled() => {
            println!("#0 sees the cancel: {:?}", group.cause());
            sleep(Duration::from_millis(5)).await;
            println!("#0 has put its file away");
        }
    }
}

#[tokio::main]
async fn main() {
    // What a program cancels when it is interrupted.
    let program = CancellationToken::new();
    let group = TaskGroup::builder().limit(2).token(program.clone()).build();
    let handle = group.handle();
    group.spawn_with(|token| download(token, handle));
    group.spawn(sleep(Duration::from_secs(60)));
    for _ in 2..5 {
        group.spawn(async {});
    }

    sleep(Duration::from_millis(20)).await;
    program.cancel();
    // A grace for those that listen, then an end for those that do not.
    let report = group.shutdown(Duration::from_millis(20)).await;
    println!("{report:?}");

    let outcome = group.wait().await;
    assert!(matches!(outcome, Err(TaskError::Cancelled)));
    let stats = group.stats();
    println!(
        "{} ended well, {} stopped, {} never started",
        stats.finished, stats.aborted, stats.skipped
    );
}
