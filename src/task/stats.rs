//! Counts of a group's tasks.

/// Counts of a group's tasks by outcome; each task is counted once.
///
/// Members are not counted, with two exceptions: an error of a member counts as `failed`, and a member that was alive
/// when the grace of a drain or shutdown was over counts as `aborted`.
///
/// # Examples
///
/// ```
/// use schedgroup::task::TaskGroup;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let group = TaskGroup::builder().limit(1).build();
/// group.spawn(async {});
/// group.spawn(async {});
/// let stats = group.stats();
/// assert_eq!((stats.running, stats.pending), (1, 1));
/// assert_eq!(group.wait().await.unwrap().finished, 2);
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct TaskStats {
    /// Tasks in the queue, including those of `submit` calls that wait.
    pub pending: usize,
    /// Tasks that are running.
    pub running: usize,
    /// Tasks that ended without an error.
    pub finished: u64,
    /// Tasks that returned an error.
    pub failed: u64,
    /// Tasks that panicked, also in their destructor when they were aborted.
    pub panicked: u64,
    /// Tasks that never started, since the group had ended before or a handle's spawn was rejected.
    pub skipped: u64,
    /// Tasks that were stopped while they ran.
    pub aborted: u64,
    /// Tasks that `try_spawn` gave back because the group was full.
    pub discarded: u64,
}
