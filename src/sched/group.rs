//! The owner of a group.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::builder::Builder;
use super::handle::Handle;
use super::schedule::{Submitter, schedule_methods};
use super::shared::Shared;
use super::state::Caller;
use super::stats::{JobInfo, Stats};
use super::wait::{Drain, Shutdown, Wait};
use crate::common::closing::{Closing, StopReason};
use crate::common::trace;

/// A group of delayed jobs on one tokio driver task, which are waited for, cancelled and shut down together.
///
/// The driver owns the queue of all deadlines (a binary heap, and beside it a hierarchical timing wheel for far ones) and
/// one sleep; due jobs run in parallel on the runtime's workers. A pending job costs a few dozen bytes beside its own
/// future, but no task and no timer. If you have only a handful of timers, and do not wait for all of them together, use
/// [`tokio::time::sleep`] in a task of your own.
///
/// The group has one owner; other tasks schedule through a [`Handle`], and jobs of the group through their
/// [`JobContext`](crate::JobContext): a job that captured the group itself would end it when that job ends. A group in
/// an [`Arc`] is owned by every task that has a clone: once one of them has called [`wait`](Group::wait), the scheduling
/// methods panic in all of them, and those of a handle do not. A function that takes `&impl AsRef<Handle>` can be called
/// with `&group`.
///
/// Dropping the group ends it: pending jobs never run, running ones are aborted at their next await, and
/// its token is cancelled. [`detach`](Group::detach) keeps it running in the background. A
/// [table](crate#how-a-group-ends) compares all the ways in which a group ends.
///
/// # Examples
///
/// ```
/// # use std::time::Duration;
/// # use schedgroup::Group;
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), schedgroup::WaitError> {
/// let group = Group::new();
/// for i in 1..=3 {
///     group.delay(Duration::from_millis(100 * i), async move { println!("{i}") });
/// }
/// group.wait().await
/// # }
/// ```
#[must_use = "a group that is dropped drops its pending jobs"]
pub struct Group {
    /// The handle its owner schedules through, for which a closed group is misuse.
    own: Handle,
    /// The handle it lends to functions that take one, for which it is not.
    lent: Handle,
    detached: bool,
}

impl Group {
    /// Creates a group that is not tied to a parent cancellation token.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime, and on one without a timer.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), schedgroup::WaitError> {
    /// let group = schedgroup::Group::new();
    /// group.wait().await
    /// # }
    /// ```
    #[track_caller]
    pub fn new() -> Group {
        Group::builder().build()
    }

    /// Creates a group that is cancelled when `token` is. It works on a child of `token`.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime, and on one without a timer.
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::time::Duration;
    /// use schedgroup::{CancellationToken, Group, WaitError};
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() {
    /// let token = CancellationToken::new();
    /// let group = Group::with_token(token.clone());
    /// group.delay(Duration::from_secs(3600), async { unreachable!() });
    /// token.cancel();
    /// assert!(matches!(group.wait().await, Err(WaitError::Cancelled)));
    /// # }
    /// ```
    #[track_caller]
    pub fn with_token(token: CancellationToken) -> Group {
        Group::builder().token(token).build()
    }

    /// Returns a [`Builder`] with the default settings.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// let group = schedgroup::Group::builder().max_running(8).name("mails").build();
    /// assert!(format!("{group:?}").contains("mails"));
    /// # }
    /// ```
    pub fn builder() -> Builder {
        Builder::default()
    }

    pub(super) fn new_from(shared: Arc<Shared>) -> Group {
        Group {
            own: Handle::uncounted(Arc::clone(&shared), Caller::Owner),
            lent: Handle::uncounted(shared, Caller::External),
            detached: false,
        }
    }

    /// The handle for methods that are the owner's: in a closed group they panic.
    pub(crate) fn own(&self) -> &Handle {
        &self.own
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        self.own.shared()
    }

    /// Returns a cheap, cloneable handle for scheduling from other tasks and threads.
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::time::Duration;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let group = schedgroup::Group::new();
    /// let handle = group.handle();
    /// tokio::spawn(async move {
    ///     handle.delay(Duration::from_secs(1), async { println!("hello") });
    /// })
    /// .await?;
    /// group.wait().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn handle(&self) -> Handle {
        self.lent.clone()
    }

    /// Returns the group's own token. Cancelling it cancels the group.
    ///
    /// It is cancelled by [`cancel`](Group::cancel), by a parent token, at the group's deadline unless the group was
    /// closed and every job had ended before, and when the group is dropped or its runtime ends. `wait`, `drain` and
    /// `shutdown` do not cancel it, not even at the end of a grace.
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::time::Duration;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() {
    /// let group = schedgroup::Group::new();
    /// let token = group.token();
    /// group.cancel();
    /// assert!(token.is_cancelled());
    /// # }
    /// ```
    pub fn token(&self) -> CancellationToken {
        self.own.token()
    }

    /// Closes the group and waits until every job has ended.
    ///
    /// The group is closed by the call itself, not by the first poll. A job scheduled concurrently with this call is
    /// either waited for or rejected; it is never lost. Running jobs may still schedule through their context, and
    /// what they schedule is waited for.
    ///
    /// The future resolves as soon as no job is pending or running and all that jobs held has been dropped. If the
    /// group is cancelled it resolves at once, and then running jobs may still be running.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future does not open the group again. If it was dropped before it had resolved, as by a `select!`
    /// or a `timeout`, `wait` may be called again.
    ///
    /// # Panics
    ///
    /// If the future of another `wait` of the group is alive or has resolved, and inside one of the group's own jobs,
    /// which would wait for itself.
    ///
    /// # Errors
    ///
    /// [`Cancelled`](crate::WaitError::Cancelled) or [`DeadlineExceeded`](crate::WaitError::DeadlineExceeded),
    /// whichever came first, as soon as it comes, and even if a job has panicked. Otherwise
    /// [`Panicked`](crate::WaitError::Panicked), with the panic that came first, once all other jobs have ended too.
    ///
    /// A cancel or a deadline that comes while the group is open is an error even if no job is left. One that comes
    /// after the group was closed and every job has ended changes nothing.
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use schedgroup::Group;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), schedgroup::WaitError> {
    /// let group = Group::new();
    /// group.delay(Duration::from_secs(5), async { println!("done") });
    /// loop {
    ///     match tokio::time::timeout(Duration::from_secs(2), group.wait()).await {
    ///         Ok(outcome) => break outcome,
    ///         Err(_) => println!("{} still pending", group.stats().pending),
    ///     }
    /// }
    /// # }
    /// ```
    #[track_caller]
    pub fn wait(&self) -> Wait<'_> {
        let shared = self.shared();
        assert!(
            !shared.is_current(),
            "schedgroup: Group::wait was called from inside one of the group's own jobs"
        );
        let admitted = shared.enter_checked(|state, effects| state.close_to_wait(effects));
        assert!(admitted, "schedgroup: multiple calls to Group::wait");
        Wait::new(shared)
    }

    /// Closes the group and waits until every job has ended, or `grace` is over; then it ends the group.
    ///
    /// It is a [`wait`](Group::wait) with a time limit. From the call on, new jobs are rejected unless a running job
    /// schedules them through its context. Jobs that are due within the grace run. When the grace is over, running jobs
    /// are aborted at their next await and pending ones are dropped, as by [`shutdown`](Group::shutdown) with a grace
    /// of zero; a job that is due at that very instant is dropped, too. The future resolves as soon as no job is left,
    /// and from then on no job code runs.
    ///
    /// The report counts the jobs that the group held at the call and those that were scheduled later. A repeating job
    /// whose next run lies beyond the grace counts as dropped. If `drain` and `shutdown` are called several times, the
    /// grace that is over first applies. `wait` may be called before, during and after a drain: it resolves to an error
    /// if any job was dropped or aborted at the end of the grace.
    ///
    /// A job of the group should not await this: it would wait for itself, until it is aborted at the end of the grace.
    ///
    /// # Cancel safety
    ///
    /// The drain begins at the call and goes on if the future is dropped.
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::time::Duration;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() {
    /// let group = schedgroup::Group::new();
    /// let second = Duration::from_secs(1);
    /// group.delay_with(second, move |context| async move {
    ///     context.delay(second, async { println!("runs too") });
    /// });
    /// group.delay(3600 * second, async { unreachable!("beyond the grace") });
    /// let report = group.drain(10 * second).await;
    /// assert_eq!((report.finished, report.aborted, report.dropped), (2, 0, 1));
    /// # }
    /// ```
    pub fn drain(&self, grace: Duration) -> Drain<'_> {
        let shared = self.shared();
        Drain::new(shared, shared.close_within(Closing::Drain, grace))
    }

    /// Ends the group within `grace`, and reports the outcomes of the jobs it held.
    ///
    /// From the call on every new job is rejected, even if a running job schedules it. Jobs that are not yet due are
    /// dropped at once. Jobs that are running or due may finish until `grace` is over; then running jobs are aborted at
    /// their next await, and due jobs that have not started are dropped. To let pending jobs run that become due within
    /// the grace, use [`drain`](Group::drain).
    ///
    /// When the future resolves, no job code runs any more; a job that blocks its thread is waited for. A repeating job
    /// whose run finishes within the grace counts as finished. If `drain` and `shutdown` are called several times, the
    /// grace that is over first applies. A concurrent `wait` resolves too, to an error if any job was dropped or
    /// aborted.
    ///
    /// Running jobs are not told of it by the group's token. To tell them at once, call [`cancel`](Group::cancel) before
    /// this; it drops due jobs, too.
    ///
    /// A job of the group should not await this: it would wait for itself, until it is aborted at the end of the grace.
    ///
    /// # Cancel safety
    ///
    /// The shutdown begins at the call and goes on if the future is dropped.
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::time::Duration;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() {
    /// let group = schedgroup::Group::new();
    /// let second = Duration::from_secs(1);
    /// group.delay(Duration::ZERO, tokio::time::sleep(second)); // finishes within the grace
    /// group.delay(Duration::ZERO, std::future::pending()); // has to be aborted
    /// group.delay(3600 * second, async {}); // is not due, and dropped at once
    /// tokio::time::sleep(second / 2).await;
    /// let report = group.shutdown(10 * second).await;
    /// assert_eq!((report.finished, report.aborted, report.dropped), (1, 1, 1));
    /// # }
    /// ```
    pub fn shutdown(&self, grace: Duration) -> Shutdown<'_> {
        let shared = self.shared();
        Shutdown::new(shared, shared.close_within(Closing::ShutDown, grace))
    }

    /// Cancels the group: no further job starts, and pending jobs are dropped.
    ///
    /// Running jobs are not interrupted; they see the cancel through the token of their context. To wait until they have
    /// ended, call [`shutdown`](Group::shutdown) after this: [`wait`](Group::wait) resolves at once, unlike that of a
    /// [`TaskGroup`](crate::task::TaskGroup). This changes nothing if the group's own deadline has passed before, and it
    /// does not change what `wait` returns if the group was closed and every job had ended before.
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::time::Duration;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() {
    /// let group = schedgroup::Group::new();
    /// group.delay_with(Duration::ZERO, |context| async move {
    ///     context.token().cancelled().await;
    ///     println!("tidied up");
    /// });
    /// tokio::time::sleep(Duration::from_secs(1)).await;
    /// group.cancel();
    /// group.shutdown(Duration::from_secs(1)).await; // waits for the job
    /// # }
    /// ```
    pub fn cancel(&self) {
        self.shared()
            .enter_checked(|state, effects| state.stop(StopReason::Cancelled, effects));
    }

    /// Detaches the group: it keeps running in the background until it has no jobs and no [`Handle`] is left, or its
    /// token is cancelled.
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::time::Duration;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), schedgroup::JobError> {
    /// let group = schedgroup::Group::new();
    /// let answer = group.spawn_after(Duration::from_secs(1), async { 42 });
    /// group.detach();
    /// assert_eq!(answer.await?, 42);
    /// # Ok(())
    /// # }
    /// ```
    pub fn detach(mut self) {
        self.detached = true;
    }

    /// Returns the group's counts at this moment. The cost does not depend on the number of jobs.
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::time::Duration;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() {
    /// let group = schedgroup::Group::new();
    /// let job = group.delay(Duration::from_secs(1), async {});
    /// let stats = group.stats();
    /// assert_eq!((stats.pending, stats.next_deadline), (1, Some(job.deadline())));
    /// # }
    /// ```
    pub fn stats(&self) -> Stats {
        self.own.stats()
    }

    /// Returns a list of the jobs that have not ended, in the order of their submission: a snapshot for debugging.
    ///
    /// The list is copied 512 jobs at a time, so that other threads are not held up. So it does not show one
    /// single moment: a job that is scheduled or ends during the call may be in the list or not.
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::time::Duration;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() {
    /// let group = schedgroup::Group::new();
    /// group.delay(Duration::from_secs(3600), async {});
    /// for job in group.jobs() {
    ///     println!("job {} of {} is {:?}", job.id, job.scheduled_at, job.state);
    /// }
    /// # }
    /// ```
    pub fn jobs(&self) -> Vec<JobInfo> {
        self.shared().jobs()
    }

    fn submitter(&self) -> Submitter<'_> {
        self.own.submitter()
    }
}

schedule_methods!(
    Group,
    "# Panics\n\nAfter `wait`, `drain` or `shutdown` was called."
);

impl AsRef<Handle> for Group {
    /// Returns a handle that [`detach`](Group::detach) does not count.
    fn as_ref(&self) -> &Handle {
        &self.lent
    }
}

impl Default for Group {
    #[track_caller]
    fn default() -> Group {
        Group::new()
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let shared = self.shared();
        // Read before the step below, which cancels the token. A group that was cancelled before may well have pending
        // jobs when it is dropped, and there is no warning for that.
        let expected = shared.token.is_cancelled();
        let (held, goes_on, panic) = shared.enter(|state, effects| {
            let held = if self.detached {
                state.detach(effects);
                None
            } else {
                Some(state.group_dropped(effects))
            };
            let goes_on = self.detached && !state.lifecycle.has_ended();
            (held, goes_on, state.jobs.first_panic.discard())
        });
        // The first panic was taken out in the same step, so that no later one is kept either. Its payload may hold a
        // handle of this group, and would keep `Shared` alive for ever. It is a user's value, so it is dropped after
        // the lock.
        drop(panic);
        // If it goes on, the driver does this at the end.
        if !goes_on {
            shared.clear_tables();
        }
        if let Some((pending, running)) = held.filter(|held| held.0 > 0 && !expected) {
            trace::dropped(shared.name(), pending, running);
        }
    }
}

impl fmt::Debug for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Group")
            .field("name", &self.shared().name())
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::sync::atomic::Ordering::Relaxed;

    use tokio::task::coop;
    use tokio::time::{Instant, sleep};

    use super::*;
    use crate::WaitError;

    /// A walk looks at 512 slots before it lets go of the lock, and at each a few times.
    const MOST: usize = 4 * 512;

    const HOUR: Duration = Duration::from_secs(3600);

    async fn settle() {
        for _ in 0..1000 {
            tokio::task::yield_now().await;
        }
    }

    /// Thousands of jobs of each kind: not due, waiting for a slot, running, and series that end with `wait`.
    async fn crowd() -> Group {
        let group = Group::builder().max_running(3_000).build();
        for _ in 0..3_000 {
            group.delay(Duration::ZERO, pending());
            group.delay(HOUR, async {});
        }
        settle().await;
        for _ in 0..3_000 {
            group.delay(Duration::ZERO, async {});
            group
                .handle()
                .repeat_until_wait(Instant::now() + HOUR, |_| pending());
        }
        settle().await;
        let stats = group.stats();
        assert_eq!((stats.running, stats.waiting), (3_000, 3_000), "{stats:?}");
        assert_eq!(stats.pending, 9_000, "{stats:?}");
        group
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_looks_at_more_than_a_chunk_of_jobs_under_the_lock() {
        type Call = fn(Group) -> Option<Group>;
        let calls: [(&str, Call); 9] = [
            ("stats", |group| {
                group.stats();
                Some(group)
            }),
            ("Debug", |group| {
                let _ = format!("{group:?}");
                Some(group)
            }),
            ("jobs", |group| {
                group.jobs();
                Some(group)
            }),
            ("drain", |group| {
                drop(group.drain(Duration::from_secs(1)));
                Some(group)
            }),
            ("wait", |group| {
                drop(group.wait());
                Some(group)
            }),
            ("shutdown", |group| {
                drop(group.shutdown(Duration::from_secs(1)));
                Some(group)
            }),
            ("cancel", |group| {
                group.cancel();
                Some(group)
            }),
            ("detach", |group| {
                group.detach();
                None
            }),
            ("drop", |_| None),
        ];
        for (what, call) in calls {
            let group = crowd().await;
            let shared = Arc::clone(group.shared());
            shared.costs.most_looks.store(0, Relaxed);
            let group = call(group);
            settle().await;
            sleep(Duration::from_secs(2)).await;
            drop(group);
            settle().await;
            let most = shared.costs.most_looks.load(Relaxed);
            assert!(most <= MOST, "{what}: {most} looks");
            assert_eq!(most > 0, what != "detach", "{what}: looks are counted");
        }
    }

    /// Thousands of due jobs wait for a slot. Most of a half of them are cancelled, and the first one last: then many
    /// dead entries lie before the next job.
    #[tokio::test(start_paused = true)]
    async fn neither_a_cancel_of_a_due_job_nor_a_start_looks_at_many_others() {
        const WAITING: usize = 20_000;
        for scattered in [false, true] {
            let group = Group::builder().max_running(1).build();
            let holder = group.delay(Duration::ZERO, pending());
            let jobs: Vec<_> = (0..WAITING)
                .map(|_| group.delay(Duration::ZERO, async {}))
                .collect();
            sleep(Duration::from_millis(1)).await;
            assert_eq!(group.stats().waiting, WAITING);
            let costs = &group.shared().costs;
            costs.most_looks.store(0, Relaxed);
            let (cancels, step) = match scattered {
                false => (WAITING / 2, 1),
                true => (WAITING * 3 / 4, 7_919),
            };
            for job in (0..cancels).rev() {
                assert!(jobs[job * step % WAITING].cancel());
            }
            holder.abort();
            group.wait().await.unwrap();
            assert_eq!(group.stats().finished, (WAITING - cancels) as u64);
            let most = costs.most_looks.load(Relaxed);
            assert!(most <= MOST, "{most} looks, scattered: {scattered}");
        }
    }

    /// Returns how often the lock was taken since the last call.
    fn locks(group: &Group) -> u64 {
        group.shared().costs.locks.swap(0, Relaxed)
    }

    /// One for the job, two for the driver's turn, and two claims of the worker, the second of which records the end.
    /// The job sets the timer by itself, and its handle is counted down by the driver.
    #[tokio::test(start_paused = true)]
    async fn a_lone_firing_takes_the_lock_five_times() {
        let group = Group::new();
        tokio::task::yield_now().await;
        for round in 0..10 {
            locks(&group);
            group.delay(Duration::from_millis(1), async {});
            sleep(Duration::from_millis(2)).await;
            assert_eq!(locks(&group), 5, "round {round}");
        }
    }

    /// In a group that neither has a deadline nor is drained.
    #[tokio::test(start_paused = true)]
    async fn a_cancel_or_an_abort_of_a_pending_job_takes_the_lock_once_and_reads_no_clock() {
        let group = Group::new();
        tokio::task::yield_now().await;
        let reads = || group.shared().costs.clock_reads.swap(0, Relaxed);
        for aborts in [false, true] {
            let job = group.schedule(Instant::now(), async {});
            locks(&group);
            reads();
            match aborts {
                false => assert!(job.cancel()),
                true => job.abort(),
            }
            assert_eq!((locks(&group), reads()), (1, 0), "aborts: {aborts}");
        }
    }

    /// The last of them is counted down by the look that asks.
    #[tokio::test(start_paused = true)]
    async fn handles_that_are_dropped_on_several_threads_free_all_slots() {
        let group = Group::new();
        let jobs = (0..20_000).map(|_| group.delay(Duration::ZERO, async {}));
        let jobs: Vec<_> = jobs.flat_map(|job| [job.clone(), job]).collect();
        sleep(Duration::from_millis(1)).await;
        assert_eq!(group.stats().finished, 20_000);
        let chunks = || group.shared().with(|state| state.jobs.chunks());
        assert_ne!(chunks(), 0);
        let mut jobs = jobs.into_iter();
        std::thread::scope(|threads| {
            for _ in 0..4 {
                let part: Vec<_> = jobs.by_ref().take(10_000).collect();
                threads.spawn(|| drop(part));
            }
        });
        assert_eq!(chunks(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn pending_jobs_that_the_end_of_the_group_drops_free_their_slots() {
        const HOUR: Duration = Duration::from_secs(3_600);
        let group = Group::new();
        let jobs = (0..20_000).map(|_| group.delay(HOUR, async {}));
        // A page that has one with a handle does not leave whole.
        let kept: Vec<_> = jobs.step_by(50).collect();
        group.cancel();
        sleep(Duration::from_millis(1)).await;
        let chunks = || group.shared().with(|state| state.jobs.chunks());
        assert_ne!(chunks(), 0);
        drop(kept);
        assert_eq!(chunks(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn many_due_jobs_share_their_locks() {
        const JOBS: u64 = 10_000;
        let group = Group::new();
        let at = Instant::now() + Duration::from_millis(1);
        for _ in 0..JOBS {
            group.schedule(at, async {});
        }
        assert_eq!(locks(&group), JOBS, "its handle is left to the next one");
        sleep(Duration::from_millis(2)).await;
        assert_eq!(group.stats().finished, JOBS);
        let firing = locks(&group);
        assert!(firing <= JOBS / 25, "{firing} for {JOBS} jobs");
    }

    /// What keeps its place alive is the group, and the group is kept alive by nothing.
    #[test]
    fn a_runtime_that_goes_leaves_nothing_of_a_group_whose_jobs_await() {
        let one = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build();
        let two = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_time()
            .build();
        for runtime in [one.unwrap(), two.unwrap()] {
            let group = Group::builder().runtime(runtime.handle().clone()).build();
            for _ in 0..10 {
                group.schedule(Instant::now(), std::future::pending());
            }
            runtime.block_on(async {
                while group.stats().pending > 0 {
                    tokio::task::yield_now().await;
                }
            });
            let shared = Arc::downgrade(group.shared());
            drop(runtime);
            assert_eq!(group.stats().running, 0);
            drop(group);
            assert_eq!(shared.strong_count(), 0);
        }
    }

    /// The worker is dropped with the end of the last job, which is not recorded yet, before the driver or after it.
    #[test]
    fn a_cancel_before_the_runtime_goes_is_what_ends_the_group() {
        for tasks in 0..16 {
            let home = tokio::runtime::Builder::new_current_thread()
                .enable_time()
                .event_interval(1)
                .build()
                .unwrap();
            let token = CancellationToken::new();
            let group = Group::builder()
                .runtime(home.handle().clone())
                .token(token.clone())
                .build();
            // The order in which a runtime drops its tasks depends on their numbers.
            (0..tasks).for_each(|_| drop(home.spawn(async {})));
            let cancels = token.clone();
            group.schedule(Instant::now(), async move {
                cancels.cancel();
                // So that the worker lets others have a turn before it records the end.
                while coop::has_budget_remaining() {
                    coop::consume_budget().await;
                }
            });
            let wait = group.wait();
            home.block_on(async {
                while !token.is_cancelled() {
                    tokio::task::yield_now().await;
                }
            });
            drop(home);
            let elsewhere = tokio::runtime::Builder::new_current_thread().build();
            let waited = elsewhere.unwrap().block_on(wait);
            assert!(matches!(waited, Err(WaitError::Cancelled)), "{waited:?}");
        }
    }

    /// A wake-up takes no lock of the group but the first of many, which calls a worker.
    #[tokio::test(start_paused = true)]
    async fn jobs_that_are_woken_together_share_their_locks() {
        let group = Group::new();
        let rounds = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        for _ in 0..100 {
            let rounds = Arc::clone(&rounds);
            group.delay(Duration::ZERO, async move {
                loop {
                    sleep(Duration::from_millis(1)).await;
                    rounds.fetch_add(1, Relaxed);
                }
            });
        }
        sleep(Duration::from_millis(10)).await;
        let (_, before) = (locks(&group), rounds.load(Relaxed));
        sleep(Duration::from_millis(100)).await;
        let polls = rounds.load(Relaxed) - before;
        let locks = locks(&group);
        assert!(polls >= 9_000, "{polls} polls");
        assert!(
            locks <= polls as u64 / 10,
            "{locks} locks for {polls} polls"
        );
    }
}
