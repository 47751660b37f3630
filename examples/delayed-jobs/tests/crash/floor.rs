//! What the machine allows meanwhile: how late a single claim is answered that is sent at a time that was set before, in
//! a database of the same kind beside the one that is tested.
//!
//! Other programs on the same processors and disk make jobs late, and this one likewise.

use std::time::Duration;

use delayed_jobs::store::{Claim, Suspects};
use delayed_jobs::{Micros, Queue};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

use super::check::at;

/// From one claim to the next.
const EVERY: Duration = Duration::from_millis(40);

/// Claims on their way, until they are asked for.
pub(crate) struct Floor(
    JoinHandle<()>,
    tokio::sync::mpsc::UnboundedReceiver<Duration>,
);

impl Floor {
    pub(crate) async fn start(address: &str) -> Floor {
        let queue = Queue::open(address).await.expect("a database");
        let (sender, seen) = tokio::sync::mpsc::unbounded_channel();
        let claims = tokio::spawn(async move {
            let mut due = Instant::now();
            loop {
                due = (due + EVERY).max(Instant::now());
                queue
                    .enqueue_json("work", &serde_json::Value::Null)
                    .await
                    .expect("enqueued");
                sleep_until(due).await;
                let now = queue.store().clock().now();
                let claim = Claim {
                    worker: "floor".to_owned(),
                    queue: "default".to_owned(),
                    limit: 1,
                    now,
                    lease_until: now.after(Duration::from_secs(3600)),
                    kinds: vec!["work".to_owned()],
                    from: [Micros::EARLIEST; 3],
                    suspects: Suspects::Without(2),
                    limited: false,
                    ageing: None,
                };
                queue.store().claim(claim).await.expect("a claim");
                if sender.send(due.elapsed()).is_err() {
                    return;
                }
            }
        });
        Floor(claims, seen)
    }

    /// The median and the 99th percentile since the start, or since they were asked for.
    pub(crate) fn seen(&mut self) -> (Duration, Duration) {
        let mut late = Vec::new();
        while let Ok(one) = self.1.try_recv() {
            late.push(one);
        }
        late.sort();
        (at(&late, 0.5), at(&late, 0.99))
    }
}

impl Drop for Floor {
    fn drop(&mut self) {
        self.0.abort();
    }
}
