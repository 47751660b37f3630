//! The metrics in the text format of Prometheus.

use std::fmt::Write;

use super::overview::Overview;
use crate::job::State;
use crate::metrics::Snapshot;

/// The upper bounds of the buckets of the histogram, in microseconds.
const BOUNDS: [u64; 12] = [
    1_000,
    2_500,
    5_000,
    10_000,
    25_000,
    50_000,
    100_000,
    250_000,
    1_000_000,
    5_000_000,
    30_000_000,
    300_000_000,
];

/// Returns the metrics as text. A write to a `String` never fails, so errors are ignored.
pub(super) fn text(overview: &Overview, worker: &Snapshot) -> String {
    let mut text = String::new();
    let head = |text: &mut String, name: &str, kind: &str, help: &str| {
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
    };

    head(
        &mut text,
        "delayed_jobs",
        "gauge",
        "Jobs in the store by state.",
    );
    let mut counts = overview.counts;
    for state in State::ALL {
        let count = *counts.of(state);
        let _ = writeln!(text, "delayed_jobs{{state=\"{state}\"}} {count}");
    }
    let name = "delayed_jobs_oldest_due_seconds";
    head(
        &mut text,
        name,
        "gauge",
        "How long the first job that is due has waited.",
    );
    let _ = writeln!(text, "{name} {}", overview.oldest_due as f64 / 1e6);
    let name = "delayed_jobs_workers";
    head(&mut text, name, "gauge", "Workers that live.");
    let _ = writeln!(text, "{name} {}", overview.workers.len());
    let name = "delayed_jobs_queue_unfinished";
    head(
        &mut text,
        name,
        "gauge",
        "Jobs of a queue that are pending or running.",
    );
    for queue in &overview.queues {
        let label = escape(&queue.row.name);
        let _ = writeln!(text, "{name}{{queue=\"{label}\"}} {}", queue.row.unfinished);
    }
    let name = "delayed_jobs_queue_paused";
    head(&mut text, name, "gauge", "Whether a queue is paused.");
    for queue in &overview.queues {
        let label = escape(&queue.row.name);
        let _ = writeln!(
            text,
            "{name}{{queue=\"{label}\"}} {}",
            u8::from(queue.row.paused)
        );
    }

    let name = "delayed_jobs_worker_runs_total";
    head(
        &mut text,
        name,
        "counter",
        "Runs of this worker by outcome.",
    );
    for (outcome, count) in [
        ("done", worker.done),
        ("failed", worker.failed),
        ("dead", worker.dead),
        ("cancelled", worker.cancelled),
        ("snoozed", worker.snoozed),
        ("released", worker.released),
    ] {
        let _ = writeln!(text, "{name}{{outcome=\"{outcome}\"}} {count}");
    }
    for (name, help, count) in [
        (
            "delayed_jobs_worker_started_total",
            "Runs that this worker has started.",
            worker.started,
        ),
        (
            "delayed_jobs_worker_reclaimed_total",
            "Leases of lost workers that this one took back.",
            worker.reclaimed,
        ),
        (
            "delayed_jobs_worker_leases_lost_total",
            "Leases that this worker has lost.",
            worker.lost,
        ),
    ] {
        head(&mut text, name, "counter", help);
        let _ = writeln!(text, "{name} {count}");
    }

    let name = "delayed_jobs_worker_lateness_seconds";
    head(
        &mut text,
        name,
        "histogram",
        "How late this worker has started jobs.",
    );
    let up_to = |bound: u64| -> u64 {
        let below = worker.buckets.iter().filter(|(upper, _)| *upper <= bound);
        below.map(|(_, count)| count).sum()
    };
    let all = up_to(u64::MAX);
    for bound in BOUNDS {
        let _ = writeln!(
            text,
            "{name}_bucket{{le=\"{}\"}} {}",
            bound as f64 / 1e6,
            up_to(bound)
        );
    }
    let _ = writeln!(
        text,
        "{name}_bucket{{le=\"+Inf\"}} {all}\n{name}_count {all}"
    );
    let sum: f64 = worker
        .buckets
        .iter()
        .map(|(upper, count)| *upper as f64 * *count as f64)
        .sum();
    let _ = writeln!(text, "{name}_sum {}", sum / 1e6);
    text
}

/// Escapes the value of a label.
fn escape(text: &str) -> String {
    text.replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}
