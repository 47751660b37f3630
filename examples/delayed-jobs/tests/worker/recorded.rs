//! What a recorder of the facade `metrics` gets.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::AtomicU64;

use metrics::{
    Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit,
    set_default_local_recorder,
};

use super::*;

/// Keeps the counters by their names and labels.
#[derive(Default)]
struct Counters(Mutex<BTreeMap<String, Arc<AtomicU64>>>);

impl Recorder for Counters {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        let labels = key.labels().map(|label| format!(" {}", label.value()));
        let name = key.name().to_owned() + &labels.collect::<String>();
        let mut counters = self.0.lock().expect("no panic");
        Counter::from_arc(Arc::clone(counters.entry(name).or_default()))
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::noop()
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}

#[tokio::test(start_paused = true)]
async fn a_recorder_counts_the_same_ends_as_the_worker() {
    let counters = Counters::default();
    let recording = set_default_local_recorder(&counters);
    let queue = testkit::queue();
    for note in 0..5 {
        put(&queue, note, Duration::ZERO).await;
    }
    let worker = queue.worker().grace(SECOND);
    let once = Handling::default().retry(Retry::never());
    let worker = worker.register_with(once, |job: Job<Note>| async move {
        match job.payload.0 {
            0 => Ok(()),
            1 => Err(Failure::new("for good")),
            2 => Err(Failure::snooze(3600 * SECOND)),
            // Given back at the shutdown.
            _ => std::future::pending().await,
        }
    });
    let summary = beside(worker, sleep(10 * SECOND)).await;
    drop(recording);
    let counters = counters.0.into_inner().expect("no panic");
    let count = |name: &str| {
        let count = counters.get(name);
        count.map_or(0, |count| count.load(Ordering::SeqCst))
    };
    let ended = |outcome: &str| count(&format!("delayed_jobs_ended_total note {outcome}"));
    let recorded = ["done", "dead", "snoozed", "released"].map(ended);
    let counted = [
        summary.done,
        summary.dead,
        summary.snoozed,
        summary.released,
    ];
    assert_eq!((recorded, counted), ([1, 1, 1, 2], [1, 1, 1, 2]));
    assert_eq!(count("delayed_jobs_started_total"), summary.started);
}
