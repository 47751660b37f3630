//! Shows a task group that a cancellation token from outside ends, with a grace for the tasks that listen to it.
//!
//! You should see that task 0 notices the cancel and puts its file away, that task 1, which does not listen, is aborted
//! when the grace is over, and that three tasks are dropped before they start. `wait` then returns `Cancelled`.
//!
//! ```sh
//! cargo run --example cancellable
//! ```
#![forbid(unsafe_code)]

use std::time::Duration;

use schedgroup::task::{TaskGroup, TaskHandle};
use schedgroup::{CancellationToken, TaskError};
use tokio::time::sleep;

/// Listens to the token, and cleans up when it is cancelled.
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
    // A program would cancel this token when it is interrupted.
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
    // The grace is for tasks that listen; the others are aborted when it is over.
    let report = group.shutdown(Duration::from_millis(20)).await;
    println!("{report:?}");

    let outcome = group.wait().await;
    assert!(matches!(outcome, Err(TaskError::Cancelled)));
    let stats = group.stats();
    println!(
        "{} finished, {} aborted, {} never started",
        stats.finished, stats.aborted, stats.skipped
    );
}
