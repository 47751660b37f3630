//! Shows a task group that cancels its other tasks at the first error.
//!
//! You should see the error of task 1, and that task 2 learns from `TaskHandle::cause` why it is cancelled. Three more
//! tasks are queued. Task 3 starts in a free slot and does not listen, so it is aborted; the last two are skipped.
//!
//! ```sh
//! cargo run --example first_error
//! ```
#![forbid(unsafe_code)]

use std::time::Duration;

use schedgroup::TaskError;
use schedgroup::task::{OnError, TaskGroup};
use tokio::time::sleep;

#[tokio::main]
async fn main() {
    // The default is to abort the other tasks. With `Cancel`, tasks that listen to the token can clean up.
    let group = TaskGroup::builder()
        .limit(3)
        .on_error(OnError::Cancel)
        .build();
    group.spawn(async {
        sleep(Duration::from_millis(5)).await;
        println!("exec #0");
        Ok(())
    });
    group.spawn(async {
        sleep(Duration::from_millis(10)).await;
        println!("exec #1");
        Err("failed to exec #1")
    });
    let handle = group.handle();
    group.spawn_with(|token| async move {
        tokio::select! {
            () = sleep(Duration::from_secs(15)) => println!("exec #2"),
            () = token.cancelled() => println!("#2 ends early: {:?}", handle.cause()),
        }
        Ok(())
    });
    // Over the limit: they are queued, and skipped if an error comes before a slot is free.
    for _ in 3..6 {
        group.spawn(async {
            sleep(Duration::from_secs(15)).await;
            Ok(())
        });
    }
    // #3 takes the free slot of #0 after 5 ms. It does not listen to the token, so it is aborted here.
    sleep(Duration::from_millis(50)).await;
    group.abort();
    match group.wait().await {
        Ok(_) => println!("all tasks succeeded"),
        Err(TaskError::Failed { index, error }) => println!("task {index}: {error}"),
        Err(other) => println!("{other}"),
    }
    println!(
        "{} skipped, {} aborted",
        group.stats().skipped,
        group.stats().aborted
    );
}
