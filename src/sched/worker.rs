//! Workers: tasks that start due jobs in release order, and poll again the jobs that were woken.
//!
//! A worker claims a few jobs in one step under the group's lock, and runs them without it. A job that is ready at its
//! first poll needs no task, no allocation and no step under the lock of its own: its end is recorded by the next
//! claim. A job that has to await moves to a [place](super::awaiting::AwaitingJob) until it is woken, and the worker
//! goes on.
//!
//! No job starts in a group that has ended, which is ensured in two ways. A step that ends the group takes the claimed
//! jobs out of all local queues. The token and the clock end the group without such a step, so the worker checks them
//! before each start.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::task::coop;

use super::awaiting::{AwaitingJob, Places, Resumed};
use super::local_queue::{Claim, NextJob};
use super::run::{RunOutcome, RunningJob};
use super::runnable::{Run, Started, Work};
use super::shared::Shared;
use super::state::{ClaimResult, Registration};
use super::yield_now::yield_now;
use crate::common::panic;
use crate::common::time::Timestamp;
use crate::common::trace::Span;

/// A worker polls this many short jobs before other tasks of its thread get a turn, or a quarter as many others.
///
/// Eight short jobs take less than 20 microseconds (see [`CachedClock`]), so a turn of them takes at most 1.3 ms, and
/// mostly a tenth of that. With shorter turns the driver, which releases 512 jobs in each of its own, gets further ahead
/// of the workers: the ready queue grows, and what the driver has touched has left the cache when a worker claims it.
const TURN: usize = 512;

/// A job counts as this much of a turn, unless it is known to be short.
const COST_OF_JOB: usize = 4;

/// A job that has to await counts as this much, since it takes memory until it is polled again: if it has yielded,
/// tokio wakes it only when its thread has polled some dozens of tasks, or has nothing else to do.
const COST_OF_PENDING: usize = 32;

/// Starts workers, which the state counts already.
#[inline]
pub(super) fn start(shared: &Arc<Shared>, count: usize) {
    // Mostly none, so this is all that is inlined.
    if count > 0 {
        start_some(shared, count);
    }
}

#[inline(never)]
fn start_some(shared: &Arc<Shared>, count: usize) {
    for _ in 0..count {
        let worker = Worker {
            shared: Arc::clone(shared),
            registration: Registration::new(),
            places: Places::default(),
            clock: CachedClock::new(),
            turn: TURN,
        };
        shared.runtime.spawn(worker.work());
    }
    // The job that is polled here next may block this thread. The last worker is not to wait for that; and if it is
    // the only one, no other thread has been woken to drive the runtime's timers.
    shared.make_stealable();
}

/// The clock of a worker. To read the time for each job would be a large part of what a short job costs.
///
/// It is read for the first and the last of the claimed jobs, and for each eighth in between; or for each one, as long
/// as jobs take longer than a few microseconds. So after short jobs, a long one is noticed at the next reading: up to
/// seven jobs behind it start by a time from before it.
struct CachedClock {
    now: Timestamp,
    /// The clock was read for the job that starts now.
    is_exact: bool,
    /// The jobs before it took no longer than a few microseconds.
    are_short: bool,
    /// How many jobs start before the clock is read again.
    left: u32,
}

impl CachedClock {
    const JOBS: u32 = 8;
    const SHORT: Duration = Duration::from_micros(20);

    fn new() -> CachedClock {
        CachedClock {
            now: Timestamp::ALWAYS,
            is_exact: false,
            are_short: false,
            left: 0,
        }
    }

    /// Returns how much of a turn the job counts as that starts now.
    fn cost(&self) -> usize {
        if self.are_short { 1 } else { COST_OF_JOB }
    }

    /// Returns the time at which the next job starts.
    fn look(&mut self, shared: &Shared, is_last: bool) -> Timestamp {
        self.is_exact = self.left == 0 || is_last;
        if !self.is_exact {
            self.left -= 1;
            return self.now;
        }
        let before = std::mem::replace(&mut self.now, shared.now());
        self.are_short = self.now.since(before) < CachedClock::SHORT;
        self.left = if self.are_short {
            CachedClock::JOBS - 1
        } else {
            0
        };
        self.now
    }
}

struct Worker {
    shared: Arc<Shared>,
    // Owned by this task, and passed to each step under the group's lock. All of it but `ended` changes only there, so
    // it agrees with the counts in `Workers` whenever the lock is free.
    registration: Registration,
    /// Places for jobs that have to await.
    places: Places,
    clock: CachedClock,
    /// How much of its turn is left until the worker yields.
    turn: usize,
}

/// A runtime that shuts down drops the task in whatever state it is.
impl Drop for Worker {
    fn drop(&mut self) {
        // After the end of the group this only removes the worker, and a worker that was not needed is removed already.
        // Otherwise the claimed jobs that have not started go back to the ready queue, so that they are dropped with the
        // group and counted, and not lost with this task.
        let worker = &mut self.registration;
        self.shared
            .enter_checked(|state, effects| state.worker_dropped(worker, effects));
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
                // After the yield the local queue may be empty, since others steal from it and cancel jobs in it. Then
                // `run_claimed` returns `true` at once.
                while !self.run_claimed() {
                    self.turn = TURN;
                    yield_now(&self.shared.runtime).await;
                }
            }
        }
    }

    /// Records the jobs that have ended and claims the next ones, or parks until there are some. Returns `false` if the
    /// worker is not needed any more.
    fn poll_claim(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        let Worker {
            shared,
            registration,
            places,
            turn,
            ..
        } = self;
        let (now, cancelled) = shared.end_inputs();
        // To find nothing and to park with this waker are one step under the lock, so no wake-up is lost in between. A
        // job that is released before this step is claimed by it; a job that is released later finds the waker. The
        // same is true of jobs that are woken (see `WokenJobs`).
        let (claimed, others) = shared
            .enter(|state, effects| state.claim(registration, now, cancelled, cx.waker(), effects));
        start(shared, others);
        places.recycle();
        match claimed {
            ClaimResult::Jobs => Poll::Ready(true),
            ClaimResult::Parked => {
                places.shrink();
                *turn = TURN;
                Poll::Pending
            }
            ClaimResult::Exit => Poll::Ready(false),
        }
    }

    /// Runs the jobs in the local queue. Returns `false` if other tasks must have a turn before it is empty.
    fn run_claimed(&mut self) -> bool {
        let mut ended = None;
        // Read for the first of them.
        self.clock.left = 0;
        loop {
            let (local, clock) = (&self.registration.local, &mut self.clock);
            let next = local.next(ended.take(), |is_last| clock.look(&self.shared, is_last));
            let Some((next, is_last)) = next else {
                return true;
            };
            let cost = match &next {
                NextJob::Start(_) => self.clock.cost(),
                NextJob::Resume(_) => COST_OF_JOB,
            };
            match next {
                NextJob::Resume(job) => {
                    if let Resumed::Ended(place, unrecorded) = job.resume() {
                        self.places.leave(place);
                        ended = unrecorded;
                    }
                }
                // The start check comes after the job has left the local queue. It must see a cancel in this case:
                //
                // 1. A caller cancels the token, and then finds the job pending, in the local queue, whose lock it
                //    takes for that.
                // 2. This worker takes the job out under the same lock, and so after the cancel.
                // 3. The check sees the cancel. The job does not start: it is given back, and dropped with the others.
                //
                // A check before 2 could miss a cancel that comes between the two, and a job would start that the
                // caller has found pending in a cancelled group.
                NextJob::Start(claim) if self.shared.is_over() => self.shared.give_back(claim),
                NextJob::Start(claim) => ended = self.run(claim),
            }
            self.turn = self.turn.saturating_sub(cost);
            if self.turn == 0 || !coop::has_budget_remaining() {
                // Not kept over the yield: a caller that asks for counts or for the state of this job meanwhile records
                // the jobs that it finds in this list.
                self.registration.local.ended(ended);
                return false;
            }
            if is_last {
                // Recorded by the claim that comes next.
                self.registration.ended = ended;
                return true;
            }
        }
    }

    /// Starts a job. Returns its slot if it has ended and its end only has to be recorded.
    fn run(&mut self, claim: Claim) -> Option<u32> {
        let Worker {
            shared,
            places,
            registration,
            clock,
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
            Work::Row { table, key } => table.may_start(table, key.row, slot),
        };
        // The table has made it a blocked job already, under both locks. Nothing is left to do here.
        if let Ok(false) = may_start {
            return None;
        }
        let span = Span::job(shared.name(), id.0, scheduled_at, || {
            shared.now().since(deadline)
        });
        // The first poll uses the waker of the place that the job moves to if it has to await. So the job need not be
        // polled again to register another waker, and the place remembers a wake-up that comes before the job has
        // moved.
        let mut cx = Context::from_waker(places.waker(|| {
            let woken = registration.woken.as_ref();
            AwaitingJob::vacant(shared, woken.expect("it came with the claim"))
        }));
        let mut started = None;
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
                        Work::Boxed(runnable) => runnable.start(&run, &mut started),
                        Work::Row { table, key } => {
                            let future = table.start(key.row, slot, run);
                            started = future.map(Started::Future);
                        }
                    }
                    Some(started.as_mut()?.poll(&mut cx))
                })
            })
        });
        let outcome = match polled {
            // The row was removed just before its start.
            Ok(None) => {
                shared.enter_checked(|state, effects| state.drop_claimed(slot, effects));
                return None;
            }
            Ok(Some(Poll::Ready(next))) => match started.take() {
                Some(Started::Future(future)) => match panic::discard(future) {
                    // The common case. The job counts as running until the next claim, which records all ends in one
                    // step. In a group with a limit that claim comes at once, if only one job was claimed.
                    Ok(()) if !registration.records_each => return Some(slot),
                    Ok(()) => Poll::Ready(RunOutcome::Ran(next)),
                    Err(payload) => Poll::Ready(RunOutcome::Panicked(payload)),
                },
                // A series, or a job with a value: its runnable outlives the run, so it needs all the parts of `end`.
                stateful => {
                    started = stateful;
                    Poll::Ready(RunOutcome::Ran(next))
                }
            },
            Ok(Some(Poll::Pending)) => Poll::Pending,
            Err(payload) => Poll::Ready(RunOutcome::Panicked(payload)),
        };
        let job = RunningJob {
            slot,
            id,
            scheduled_at,
            span,
            started,
        };
        match outcome {
            Poll::Ready(outcome) => job.end(shared, outcome),
            Poll::Pending => self.park(job),
        }
        None
    }

    /// Moves a job that has to await into its place. A worker polls it again when it is woken.
    fn park(&mut self, job: RunningJob) {
        let slot = job.slot;
        let place = self.places.take().adopt(job);
        self.turn = self.turn.saturating_sub(COST_OF_PENDING);
        if let Some(owned) = self.shared.with(|state| state.awaits(slot, place)) {
            owned.put_back();
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::pin::pin;
    use std::sync::Mutex;
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

    /// A worker keeps its clock from claim to claim.
    #[tokio::test(start_paused = true)]
    async fn the_clock_is_read_for_the_first_job_of_each_claim() {
        let (group, ms) = (Group::new(), Duration::from_millis);
        // The clock need not be read for what follows at once.
        (0..3).for_each(|_| drop(group.delay(Duration::ZERO, async {})));
        tokio::time::sleep(ms(1)).await;
        assert_eq!(group.stats().finished, 3);
        // The second is the last of its claim, for which the clock is read in any case.
        for late in [15, 5] {
            group.delay(ms(25 - late), async {});
        }
        advance(ms(25)).await;
        assert!(group.wait().await.is_ok());
        assert_eq!(group.stats().max_lateness, ms(15));
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
    async fn the_place_of_a_job_that_has_awaited_is_used_for_the_next_one() {
        let (group, wakers) = (Group::new(), Arc::new(Mutex::new(Vec::new())));
        for _ in 0..2 {
            let wakers = Arc::clone(&wakers);
            group.delay(Duration::ZERO, async move {
                poll_fn(|cx| {
                    wakers.lock().unwrap().push(cx.waker().clone());
                    Poll::Ready(())
                })
                .await;
                tokio::task::yield_now().await;
            });
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert!(group.wait().await.is_ok());
        let wakers = wakers.lock().unwrap();
        assert!(wakers.len() == 2 && wakers[0].will_wake(&wakers[1]));
    }

    /// What a job of a test does.
    #[derive(Clone, Copy, Debug)]
    enum Does {
        Nothing,
        TakeLong,
        Await,
    }

    #[tokio::test(start_paused = true)]
    async fn a_turn_ends_after_512_short_jobs_or_128_others_or_16_that_have_to_await() {
        for (does, jobs, turns) in [
            // The first job of a worker is not known to be short.
            (Does::Nothing, 1_000, vec![509, 491]),
            (Does::TakeLong, 300, vec![128, 128, 44]),
            (Does::Await, 300, vec![16; 18]),
        ] {
            let (group, polled) = (Group::new(), Arc::new(AtomicUsize::new(0)));
            for _ in 0..jobs {
                let polled = Arc::clone(&polled);
                group.delay(Duration::ZERO, async move {
                    polled.fetch_add(1, Relaxed);
                    match does {
                        Does::Nothing => {}
                        Does::TakeLong => {
                            let mut taken = pin!(advance(CachedClock::SHORT));
                            poll_fn(|cx| Poll::Ready(taken.as_mut().poll(cx).is_pending())).await;
                        }
                        Does::Await => std::future::pending().await,
                    }
                });
            }
            let mut seen = Vec::new();
            while seen.len() < turns.len() {
                tokio::task::yield_now().await;
                let polled = polled.swap(0, Relaxed);
                seen.extend((polled > 0).then_some(polled));
            }
            assert_eq!(seen, turns, "{does:?}");
        }
    }
}
