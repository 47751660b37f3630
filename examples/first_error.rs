//! The first error of three tasks, and a group whose tasks can be cancelled.
//!
//! Look for: the second task's error with its index, the third task, which sees why it should end, and two
//! tasks that never started.
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
    // The default is to abort the other tasks; here those that listen end in their own way.
    let group = TaskGroup::builder()
        .limit(3)
        .on_error(OnError::Cancel)
        .build();
    group.spawn(async {
        sleep(Duration::from_millis(5)).await;
        println!("exec #1");
        Ok(())
    });
    group.spawn(async {
        sleep(Duration::from_millis(10)).await;
        println!("exec #2");
        Err("failed to exec #2")
    });
    let handle = group.handle();
    group.spawn_with(|token| async move {
        tokio::select! {
            () = sleep(Duration::from_secs(15)) => println!("exec #3"),
            () = token.cancelled() => println!("#3 ends early: {:?}", handle.cause()),
        }
        Ok(())
    });
    // Over the limit: kept as data, and skipped if an error comes before a slot is free.
    for _ in 4..=6 {
        group.spawn(async {
            sleep(Duration::from_secs(15)).await;
            Ok(())
        });
    }
    // The first slot goes to #4 after 5 ms; it does not listen, so it is stopped here.
    sleep(Duration::from_millis(50)).await;
    group.abort();
    match group.wait().await {
        Ok(_) => println!("all went well"),
        Err(TaskError::Failed { index, error }) => println!("task {index}: {error}"),
        Err(other) => println!("{other}"),
    }
    println!(
        "{} skipped, {} stopped",
        group.stats().skipped,
        group.stats().aborted
    );
}
