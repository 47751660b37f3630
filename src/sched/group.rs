//! The owner of a group.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::builder::Builder;
use super::gate::{Caller, End};
use super::handle::Handle;
use super::shared::Shared;
use super::stats::Stats;
use super::verbs::{Entrance, verbs};
use super::wait::{Shutdown, Wait};
use crate::ground::timeline::Tick;
use crate::ground::trace;

/// Runs many jobs at their times from one task, to be waited for, cancelled and shut down together.
///
/// One driver task owns one heap of deadlines and one sleep; a pending job is a few dozen bytes beside
/// its own future, not a task and a timer. Reach for [`tokio::time::sleep`] in a task of your own when
/// there is a handful of timers and nothing to wait for as a whole.
///
/// Dropping the group ends it: pending jobs never run, running ones are stopped at their next await, and
/// its token is cancelled. [`detach`](Group::detach) lets it go on by itself.
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
    shared: Arc<Shared>,
    detached: bool,
}

impl Group {
    /// A group that nothing cancels but itself.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime, and on one without a timer.
    #[track_caller]
    pub fn new() -> Group {
        Group::builder().build()
    }

    /// A group that ends when `token` is cancelled. It works on a child of `token`.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime, and on one without a timer.
    #[track_caller]
    pub fn with_token(token: CancellationToken) -> Group {
        Group::builder().token(token).build()
    }

    /// Settings for a group.
    pub fn builder() -> Builder {
        Builder::default()
    }

    pub(super) fn new_from(shared: Arc<Shared>) -> Group {
        Group {
            shared,
            detached: false,
        }
    }

    /// An end to schedule with from elsewhere.
    pub fn handle(&self) -> Handle {
        Handle::new(Arc::clone(&self.shared), Caller::Outside)
    }

    /// The group's own token: cancelled with the group, and cancelling it cancels the group.
    pub fn token(&self) -> CancellationToken {
        self.shared.share_token()
    }

    /// Closes the group and waits until every job has ended.
    ///
    /// The group is closed by the call itself, not by the first poll. Whatever races with it is either
    /// covered or refused. Running jobs may go on scheduling through their context, and are covered.
    /// The future ends as soon as nothing is pending or running and all that jobs held was dropped, or
    /// at once when the group is cancelled, in which case running jobs may still be running.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future does not open the group again. If it was unfinished, as in a `select!` or a
    /// `timeout`, `wait` may be called again.
    ///
    /// # Panics
    ///
    /// While another `wait` of the group is alive or after one has completed, and from inside one of the
    /// group's own jobs, which could only wait for itself.
    ///
    /// # Errors
    ///
    /// [`Cancelled`](crate::WaitError::Cancelled) or
    /// [`DeadlineExceeded`](crate::WaitError::DeadlineExceeded), whichever came first, before
    /// everything else; then [`Panicked`](crate::WaitError::Panicked) with the first panic in time,
    /// after all other jobs have ended too. What comes once every job has ended changes nothing.
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
        assert!(
            !self.shared.is_inside(),
            "schedgroup: Group::wait was called from inside one of the group's own jobs"
        );
        let now = self.shared.now();
        let cancelled = self.shared.is_cancelled();
        let admitted = self.shared.enter(|state, todo| {
            state.check_end(now, cancelled, todo);
            state.close_to_wait(todo)
        });
        assert!(admitted, "schedgroup: multiple calls to Group::wait");
        Wait::new(&self.shared)
    }

    /// Ends the group within `grace`, and reports what became of the jobs it held.
    ///
    /// From the call on no job is taken in, not even from running ones. What is not yet due is
    /// dropped. What runs, and what is due, may finish until `grace` is over; then running jobs are
    /// stopped at their next await and the others dropped. When the future ends no job code runs any
    /// more: a job that blocks its thread is waited for. A repeating job whose run finishes meanwhile has
    /// finished. With several calls the earliest end of grace holds. A `wait` beside it ends too, with an
    /// error if any job was dropped or aborted.
    ///
    /// A job of the group that awaits this is one of those that it waits for, and is stopped when the
    /// grace is over.
    ///
    /// # Cancel safety
    ///
    /// It takes effect at the call and goes on if the future is dropped.
    pub fn shutdown(&self, grace: Duration) -> Shutdown<'_> {
        let now = self.shared.now();
        let cancelled = self.shared.is_cancelled();
        let before = self.shared.enter(|state, todo| {
            state.check_end(now, cancelled, todo);
            state.shut_down(now, now.after(grace), todo)
        });
        Shutdown::new(&self.shared, before)
    }

    /// Cancels the group: no further job starts, and what is pending is dropped.
    ///
    /// Running jobs are not interrupted; they see it through the token of their context. The first
    /// reason stays: after the group's own deadline this changes nothing, nor what
    /// [`wait`](Group::wait) says once every job has ended.
    pub fn cancel(&self) {
        let now = self.shared.now();
        self.shared.enter(|state, todo| {
            state.check_end(now, false, todo);
            state.end_all(End::Cancelled, todo);
        });
    }

    /// Lets the group go on by itself: until it is empty and no [`Handle`] is left, or its token is
    /// cancelled.
    pub fn detach(mut self) {
        self.detached = true;
    }

    /// Returns the group's counts at this moment. It costs the same however many jobs there are.
    pub fn stats(&self) -> Stats {
        let now = self.shared.enter(|state, _| state.snapshot());
        Stats {
            pending: now.pending,
            waiting: now.waiting,
            running: now.running,
            finished: now.tally.finished,
            cancelled: now.tally.aborted + now.tally.dropped,
            panicked: now.tally.panicked,
            next_deadline: now.next.map(|at: Tick| self.shared.timeline.instant(at)),
            max_lateness: now.max_lateness,
            driver_wakeups: now.turns,
        }
    }

    fn entrance(&self) -> Entrance<'_> {
        Entrance {
            shared: &self.shared,
            caller: Caller::Owner,
        }
    }
}

verbs!(Group, "# Panics\n\nAfter `wait` or `shutdown` was called.");

impl Default for Group {
    #[track_caller]
    fn default() -> Group {
        Group::new()
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // What a cancelled group has not dropped yet is no surprise to anybody.
        let expected = self.shared.token.is_cancelled();
        let (held, panic) = self.shared.enter(|state, todo| {
            let held = if self.detached {
                state.detach(todo);
                None
            } else {
                Some(state.abandon(todo))
            };
            (held, state.stop_hearing())
        });
        drop(panic);
        if let Some((pending, running)) = held.filter(|held| held.0 > 0 && !expected) {
            trace::dropped(self.shared.name(), pending, running);
        }
    }
}

impl fmt::Debug for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Group")
            .field("name", &self.shared.name())
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::sync::atomic::Ordering::Relaxed;

    use tokio::time::{Instant, sleep};

    use super::*;

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
    async fn nothing_looks_at_more_than_a_page_of_jobs_under_the_lock() {
        type Call = fn(Group) -> Option<Group>;
        let calls: [(&str, Call); 7] = [
            ("stats", |group| {
                group.stats();
                Some(group)
            }),
            ("Debug", |group| {
                let _ = format!("{group:?}");
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
            let shared = Arc::clone(&group.shared);
            shared.most_looks.store(0, Relaxed);
            let group = call(group);
            settle().await;
            sleep(Duration::from_secs(2)).await;
            drop(group);
            settle().await;
            let most = shared.most_looks.load(Relaxed);
            assert!(most <= MOST, "{what}: {most} looks");
        }
    }
}
