//! Workers: tasks that start due jobs in release order, and poll again those that were woken.
//!
//! A worker claims a few jobs in one step of the group's lock and works them off without it. A job that
//! is ready at its first poll costs no task, no allocation and no lock of its own: it is recorded with the
//! next claim. One that has to await stays at its [place](super::awaiting::AwaitingJob) until it is woken, and the worker is
//! at its next job already.
//!
//! The start check is made for each job: what ends the group takes the claims out of all local queues,
//! under the group's lock, in the step that makes the end visible; a token or a clock, which end the group
//! from outside, the worker checks itself.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::task::coop;

use super::awaiting::{AwaitingJob, Places, Resumed};
use super::local_queue::{Claim, Task};
use super::runnable::{Row, Run, Started, Work};
use super::running::RunningJob;
use super::shared::Shared;
use super::state::ClaimResult;
use super::state::Registration;
use super::yield_now::yield_now;
use crate::common::panic;
use crate::common::time::Timestamp;
use crate::common::trace::Span;

/// A worker polls this many jobs before other tasks of its thread get a turn.
const JOBS_A_TURN: usize = 128;

/// A job that has to await takes as much of a turn as this many that are ready, since it stays in memory: one that yields
/// is woken by tokio only when its thread has had some dozens of turns, or has nothing else to do.
const OF_PENDING: usize = 8;

/// Starts workers; they have been counted already.
pub(super) fn start(shared: &Arc<Shared>, count: usize) {
    for _ in 0..count {
        let worker = Worker {
            shared: Arc::clone(shared),
            registration: Registration::new(),
            places: Places::default(),
            turn: JOBS_A_TURN,
        };
        shared.runtime.spawn(worker.work());
    }
    if count == 1 {
        // A single spawned task may sit in a slot of this thread from which no other thread can take it. If its
        // job then blocks this thread, no other has been woken that could turn the runtime's timers.
        shared.make_stealable();
    }
}

/// The clock of a worker, for `max_lateness` alone: to read it for each job would cost as much as all the
/// rest of a short one.
///
/// It is read at the first job and the last of what is claimed. In between it is read at each eighth, and at each single one
/// as long as jobs take longer than a few microseconds.
struct CachedClock {
    now: Timestamp,
    /// It was read for the last job.
    is_exact: bool,
    /// This many jobs start before it is read again.
    left: u32,
}

impl CachedClock {
    const JOBS: u32 = 8;
    const SHORT: Duration = Duration::from_micros(20);

    fn new() -> CachedClock {
        CachedClock {
            now: Timestamp::ALWAYS,
            is_exact: false,
            left: 0,
        }
    }

    /// The time, as the next job starts.
    fn look(&mut self, shared: &Shared, is_last: bool) -> Timestamp {
        self.is_exact = self.left == 0 || is_last;
        if !self.is_exact {
            self.left -= 1;
            return self.now;
        }
        let before = std::mem::replace(&mut self.now, shared.now());
        let are_short = self.now.since(before) < CachedClock::SHORT;
        self.left = if are_short { CachedClock::JOBS - 1 } else { 0 };
        self.now
    }
}

struct Worker {
    shared: Arc<Shared>,
    // Owned by this task, but its state changes only under the group's lock, where the worker hands it in. So
    // it agrees with the counts in `Workers` whenever the lock is free.
    registration: Registration,
    /// For the next jobs that have to await.
    places: Places,
    /// How many jobs it may still poll before it yields.
    turn: usize,
}

/// A runtime that shuts down drops its tasks wherever they are.
impl Drop for Worker {
    fn drop(&mut self) {
        // After a regular end there is nothing left to do. Otherwise the jobs that were claimed and not started go
        // back to the ready queue: they are dropped with the group, and counted, instead of lost with this task.
        let worker = &mut self.registration;
        self.shared
            .enter(|state, effects| state.worker_dropped(worker, effects));
    }
}

impl Worker {
    #[expect(
        clippy::manual_async_fn,
        reason = "the future of an `async fn` would hold the worker twice: as the argument, and as what that is moved to"
    )]
    fn work(mut self) -> impl Future<Output = ()> + Send {
        async move {
            while poll_fn(|cx| self.poll_claim(cx)).await {
                // After the yield the local queue may be empty: others steal from it and cancel jobs in it. Then
                // `run_claimed` returns at once, and the next claim records what has ended.
                while !self.run_claimed() {
                    self.turn = JOBS_A_TURN;
                    yield_now(&self.shared.runtime).await;
                }
            }
        }
    }

    /// Records what has ended and claims the next jobs, or parks until there are some. Returns `false` if the
    /// worker is not needed any more.
    fn poll_claim(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        let Worker {
            shared,
            registration,
            places,
            turn,
        } = self;
        let now = shared.deadline_clock();
        let cancelled = shared.is_cancelled();
        // "Nothing to start" and "parked, with this waker" are one step under the lock. A job that is released before
        // it is claimed here, one that is released after it finds the waker: no wake-up is lost in between. So it is
        // with jobs that are woken, since who wakes the first of them asks for workers under the lock.
        let (claimed, others) = shared
            .enter(|state, effects| state.claim(registration, now, cancelled, cx.waker(), effects));
        start(shared, others);
        places.recycle();
        match claimed {
            ClaimResult::Jobs => Poll::Ready(true),
            ClaimResult::Parked => {
                places.shrink();
                *turn = JOBS_A_TURN;
                Poll::Pending
            }
            ClaimResult::Exit => Poll::Ready(false),
        }
    }

    /// Runs what is claimed. Returns `false` if other tasks must have a turn first.
    fn run_claimed(&mut self) -> bool {
        let mut ended = None;
        let mut clock = CachedClock::new();
        loop {
            let local = &self.registration.local;
            match local.next(ended.take(), |is_last| clock.look(&self.shared, is_last)) {
                None => return true,
                Some(Task::Resume(job)) => {
                    if let Resumed::Ended(place, unrecorded) = job.resume() {
                        self.places.leave(place);
                        ended = unrecorded;
                    }
                }
                // The start check comes after the job has left the queue, since a caller may rely on this order:
                //
                // 1. The caller cancels the token, and then finds this job pending: it was in the local queue,
                //    whose lock is taken for that look.
                // 2. This worker takes the job out, under the same lock, and so after the cancel.
                // 3. The check below sees the cancel. The job does not start: it is given back, and dropped with the
                //    others.
                //
                // A check before 2 could miss a cancel that comes between the two.
                Some(Task::Start(claim)) if self.shared.is_over() => self.shared.give_back(claim),
                Some(Task::Start(claim)) => ended = self.run(claim, &clock),
            }
            self.turn = self.turn.saturating_sub(1);
            if self.turn == 0 || !coop::has_budget_remaining() {
                // Not kept over the yield: a caller that asks for the state of this job meanwhile, or for counts,
                // records what it finds here.
                self.registration.local.ended(ended);
                return false;
            }
        }
    }

    /// Starts a job. Returns its slot if it has ended and only has to be recorded.
    fn run(&mut self, claim: Claim, clock: &CachedClock) -> Option<u32> {
        let Worker {
            shared,
            places,
            registration,
            ..
        } = self;
        let Claim {
            slot,
            id,
            work,
            deadline,
            scheduled_at,
        } = claim;
        let may_start = match &work {
            Work::Boxed(_) => Ok(true),
            Work::Row(Row { table, key }) => table.may_start(table, key.row, slot),
        };
        // The table has given the job back to the group already, as a blocked one, under its own lock and the
        // group's. So nothing is left to record or to end here.
        if let Ok(false) = may_start {
            return None;
        }
        let span = Span::job(shared.name(), id.0, scheduled_at, || {
            shared.now().since(deadline)
        });
        // The first poll gets the waker of the place that the job would move into. So a job that has to await is not
        // polled a second time just to register another waker, and a wake-up that comes before the job has moved
        // reaches that place, which remembers it.
        let mut cx = Context::from_waker(places.waker(|| {
            let woken = registration.woken.as_ref();
            AwaitingJob::vacant(shared, woken.expect("it came with the claim"))
        }));
        let mut live = None;
        let run = Run {
            id,
            deadline,
            now: clock.now,
            is_exact: clock.is_exact,
            scheduled_at,
        };
        let polled = may_start.and_then(|_| {
            span.enter(|| {
                shared.catch_as_current(|| {
                    match work {
                        Work::Boxed(runnable) => runnable.start(&run, &mut live),
                        Work::Row(Row { table, key }) => {
                            let future = table.start(key.row, slot, run);
                            live = future.map(Started::Future);
                        }
                    }
                    Some(live.as_mut()?.poll(&mut cx))
                })
            })
        });
        let outcome = match polled {
            // It was cancelled just as it was about to start.
            Ok(None) => {
                shared.enter(|state, effects| state.drop_claimed(slot, effects));
                return None;
            }
            Ok(Some(Poll::Ready(next))) => match live.take() {
                Some(Started::Future(future)) => match panic::discard(future) {
                    // The common case. The slot stays taken until the next claim, which records the ends of a whole
                    // batch in one step; in a group with a limit a batch is one job, so no slot lies idle for it.
                    Ok(()) => return Some(slot),
                    Err(payload) => Some(Err(payload)),
                },
                // A series or a value: its runnable outlives the run, so the whole of `end` is needed.
                own => {
                    live = own;
                    Some(Ok(Some(next)))
                }
            },
            Ok(Some(Poll::Pending)) => None,
            Err(payload) => Some(Err(payload)),
        };
        let job = RunningJob {
            slot,
            id,
            scheduled_at,
            span,
            live,
        };
        match outcome {
            Some(outcome) => job.end(shared, outcome),
            None => self.park(job),
        }
        None
    }

    /// A job has to await: it goes to its place, from where a wake-up brings it back to some worker.
    fn park(&mut self, job: RunningJob) {
        // An abort may come at any time. It reaches the run in each of these steps:
        //
        // 1. Under the lock the job is recorded as running in that place. An abort that came before is seen in this
        //    step, and the job stops here. One that comes after it marks the place.
        // 2. The job goes into the place, whose mark is seen as its owner lets go of it. A caller that marks it later
        //    wakes the job, and then its owner sees the mark.
        //
        // So an abort ends the run exactly once, wherever it finds it.
        let shared = &self.shared;
        let place = self.places.take();
        self.turn = self.turn.saturating_sub(OF_PENDING - 1);
        if shared.with(|state| state.awaits(job.slot, place.job())) {
            place.adopt(job);
        } else {
            job.end(shared, Ok(None));
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::pin::pin;
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    use tokio::time::{Instant, advance};

    use super::*;
    use crate::Group;

    /// Which of these jobs the clock is read for. Each takes as long as that, and the last is the last of its batch.
    async fn read_for(jobs: usize, took: Duration) -> Vec<bool> {
        let group = Group::new();
        let (shared, mut clock) = (group.shared(), CachedClock::new());
        let mut read = Vec::new();
        for job in 1..=jobs {
            read.push(clock.look(shared, job == jobs) == shared.now());
            advance(took).await;
        }
        read
    }

    #[tokio::test(start_paused = true)]
    async fn the_clock_is_read_for_each_eighth_short_job_and_for_each_long_one() {
        let read = read_for(20, Duration::from_micros(2)).await;
        let each_eighth = [1, 2, 10, 18, 20].map(|job| job - 1);
        assert!(
            (0..20).all(|job| read[job] == each_eighth.contains(&job)),
            "{read:?}"
        );
        assert_eq!(read_for(20, CachedClock::SHORT).await, [true; 20]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_context_tells_exactly_how_late_its_run_is_whenever_the_clock_was_read() {
        let (group, now, took) = (Group::new(), Instant::now(), Duration::from_micros(1));
        for before in 0..20 {
            group.schedule_with(now, move |context| async move {
                assert_eq!(context.lateness(), before * took);
                // The first poll moves the clock, and a second one is not needed.
                let mut taken = pin!(advance(took));
                poll_fn(|cx| Poll::Ready(taken.as_mut().poll(cx).is_pending())).await;
            });
        }
        assert!(group.wait().await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_turn_ends_after_128_jobs_or_16_that_have_to_await() {
        for (awaits, turns) in [(false, vec![128, 128, 44]), (true, vec![16; 18])] {
            let (group, polled) = (Group::new(), Arc::new(AtomicUsize::new(0)));
            for _ in 0..300 {
                let polled = Arc::clone(&polled);
                group.delay(Duration::ZERO, async move {
                    polled.fetch_add(1, Relaxed);
                    if awaits {
                        std::future::pending().await
                    }
                });
            }
            let mut seen = Vec::new();
            while seen.len() < turns.len() {
                tokio::task::yield_now().await;
                let polled = polled.swap(0, Relaxed);
                seen.extend((polled > 0).then_some(polled));
            }
            assert_eq!(seen, turns);
        }
    }
}
