//! CPU time, the load of the machine, and how often tasks are polled.

use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use tokio::runtime::{Builder, Runtime};

/// The CPU time of the process.
pub(crate) fn cpu() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// What the figures depend on.
pub(crate) fn machine() -> String {
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').next().unwrap_or("?").to_owned();
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    format!("{cores} cores, load {load} before the run, tokio's timer (1 ms)")
}

pub(crate) fn runtime() -> Runtime {
    Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime")
}

static POLLS: AtomicU64 = AtomicU64::new(0);

/// How often counted futures were polled.
pub(crate) fn polls() -> u64 {
    POLLS.load(Relaxed)
}

/// Counts each poll of a future: each time its task was woken.
pub(crate) struct Counted<F>(pub(crate) Pin<Box<F>>);

impl<F: Future> Future for Counted<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        POLLS.fetch_add(1, Relaxed);
        self.0.as_mut().poll(cx)
    }
}

pub(crate) fn counted<F: Future>(future: F) -> Counted<F> {
    Counted(Box::pin(future))
}
