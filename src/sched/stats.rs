//! What a group tells about itself.

use std::time::Duration;

use tokio::time::Instant;

/// A group's counts at one moment, all taken together.
///
/// Every job that was accepted is in exactly one of `pending`, `running`, `finished`, `cancelled` and
/// `panicked`. A repeating job is one job: it is pending or running until its series ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Jobs that have not started.
    pub pending: usize,
    /// The part of `pending` that is due and has no place to run yet.
    pub waiting: usize,
    /// Jobs that have started and not ended.
    pub running: usize,
    /// Jobs that ran to their end.
    pub finished: u64,
    /// Jobs that were cancelled, aborted, or dropped with the group.
    pub cancelled: u64,
    /// Jobs that ended by a panic.
    pub panicked: u64,
    /// Never later than the earliest deadline of a pending job, possibly earlier: a job that was moved,
    /// cancelled or started since may still be counted. `None` if nothing is pending.
    pub next_deadline: Option<Instant>,
    /// How late the latest start of a job has been until now.
    pub max_lateness: Duration,
    /// How often the driver has woken. A job that is due later than the one the driver sleeps
    /// for does not wake it.
    pub driver_wakeups: u64,
}

/// What became of the jobs that a group held when [`shutdown`](crate::Group::shutdown) was called.
///
/// The three numbers add up to their count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Report {
    /// Jobs that ran to their end, by a panic or not; repeating ones too, whatever they wanted next.
    pub finished: usize,
    /// Jobs that had started and were stopped, by the end of the grace or one by one.
    pub aborted: usize,
    /// Jobs that had not started and never will; repeating ones between two runs, or cancelled in one, too.
    pub dropped: usize,
}
