//! How a group is closed with a grace, what it reports, and why a group or a combinator is stopped.

/// The method that closes a group with a grace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Closing {
    Drain,
    ShutDown,
}

/// The reason why nothing more starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StopReason {
    Cancelled,
    DeadlineExceeded,
}

/// Counts of a group's jobs by outcome at its end; returned by [`drain`](crate::Group::drain) and
/// [`shutdown`](crate::Group::shutdown), also by those of a [`TaskGroup`](crate::task::TaskGroup).
///
/// The three numbers add up to the number of jobs that the group held at the call; for a drain, plus those that were
/// scheduled later. After a cancel, pending jobs that were dropped before the call are not counted; how many these are is
/// a matter of timing.
///
/// # Examples
///
/// ```
/// # use std::time::Duration;
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() {
/// let group = schedgroup::Group::new();
/// group.delay(Duration::from_secs(1), async {});
/// let report = group.shutdown(Duration::ZERO).await;
/// assert_eq!((report.finished, report.aborted, report.dropped), (0, 0, 1));
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Report {
    /// Jobs that ran to their end, by a panic or not. A repeating job whose run ends within the grace of a `shutdown`
    /// is among them, whatever that run returns.
    pub finished: usize,
    /// Jobs that had started and were aborted, at the end of the grace or by a handle.
    pub aborted: usize,
    /// Jobs that had not started and never will. Repeating jobs that were between two runs, or were cancelled during a
    /// run, are among them, and so are retries that could make no further attempt.
    pub dropped: usize,
}
