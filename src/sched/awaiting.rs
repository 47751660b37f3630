//! Jobs that await. Each is its own waker, and is polled again by a worker of the group, without a task of its own.

use std::sync::atomic::Ordering::{AcqRel, Acquire};
use std::sync::{Arc, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use super::rt::{AtomicU8, Mutex, MutexGuard};
use super::run::{RunOutcome, RunningJob};
use super::shared::Shared;
use super::woken::{Call, WokenJobs};
use super::worker;

/// The place of a job that has awaited. It is the job's waker too.
///
/// ```text
///             put back, still pending             woken
///   POLLED ────────────────────────────▶ (idle) ────────▶ WOKEN, in the queue of woken jobs
///    ▲  │ woken                    put back                │
///    │  └───────▶ POLLED | WOKEN ─────────────────────────▶│
///    │                                                     │ a worker takes it out of the queue
///    └─────────────────────────────────────────────────────┘
/// ```
///
/// The thread that sets `POLLED` owns the job until it puts the job back or ends it. So one thread at a time polls a
/// job, and a job ends once. An abort sets `ABORTED` and wakes the job; the owner sees the flag at the latest when it
/// puts the job back.
///
/// A worker keeps vacant places at hand. It polls a job for the first time with the waker of such a place, and moves
/// the job into the place only if it is pending. So a job that is ready at once needs no allocation. A wake-up that
/// comes before the job is in its place finds `POLLED`, and is not lost.
///
/// A place is used for one job after another. A waker that the former job has left somewhere may wake the next one,
/// which is then polled in vain. That is allowed for any waker.
pub(super) struct AwaitingJob {
    shared: Arc<Shared>,
    woken: Arc<WokenJobs>,
    flags: AtomicU8,
    /// Locked by the owner only, so there is never contention, and while the job is polled. The waker is the one that
    /// the job is polled with. It holds this place, a cycle that ends when the end of the job takes both out.
    job: Mutex<Option<(RunningJob, Waker)>>,
}

const POLLED: u8 = 1;
const WOKEN: u8 = 2;
/// The job is to stop instead of being polled again. This is set under the group's lock, and only while the job is in
/// this place. The place is given to another job only after the end of this one was recorded under that lock, and the
/// flags are cleared then (`Places::recycle`). So an abort never hits the next job.
const ABORTED: u8 = 4;

/// A place without a job, and the waker for its next job.
pub(super) struct VacantPlace {
    pub(super) place: Arc<AwaitingJob>,
    waker: Waker,
}

/// The outcome of another poll.
pub(super) enum Resumed {
    Pending,
    /// The job has ended. Its place can be used again when the group has recorded the end. If there is a slot, the
    /// caller has to pass it on to be recorded.
    Ended(VacantPlace, Option<u32>),
}

impl VacantPlace {
    /// Moves a job in that is pending after its first poll. The caller goes on to own the job.
    pub(super) fn adopt(self, job: RunningJob) -> Arc<AwaitingJob> {
        let VacantPlace { place, waker } = self;
        *lock(&place.job) = Some((job, waker));
        place
    }
}

/// The places that a worker has at hand.
#[derive(Default)]
pub(super) struct Places {
    /// The place whose waker the next job is polled with.
    next: Option<VacantPlace>,
    vacant: Vec<VacantPlace>,
    /// Places whose jobs have ended, which may not be recorded yet.
    left: Vec<VacantPlace>,
}

/// A busy worker keeps this many vacant places, and a parked one keeps one. The limit is that high
/// since hundreds of jobs that yield at their first poll can start before the first of them is polled again.
const MOST_VACANT: usize = 1024;

impl Places {
    /// Returns the waker of the next place, which `make` creates if there is none.
    pub(super) fn waker(&mut self, make: impl FnOnce() -> VacantPlace) -> &Waker {
        let Places { next, vacant, .. } = self;
        &next
            .get_or_insert_with(|| vacant.pop().unwrap_or_else(make))
            .waker
    }

    /// Takes the place whose waker the last job was polled with.
    pub(super) fn take(&mut self) -> VacantPlace {
        self.next.take().expect("its waker was given out")
    }

    /// Leaves a place whose job has ended.
    pub(super) fn leave(&mut self, place: VacantPlace) {
        self.left.push(place);
    }

    /// Makes the places that were left usable, after the ends of their jobs were recorded: no abort is on its way to
    /// them.
    pub(super) fn recycle(&mut self) {
        let Places { next, vacant, left } = self;
        if left.is_empty() {
            return;
        }
        left.truncate(1 + MOST_VACANT.saturating_sub(vacant.len()));
        for left in &*left {
            // Mostly nothing has come since the last poll. An abort is not missed, since it came before the end was
            // recorded. A wake-up that is missed wakes the next job in vain.
            if left.place.flags.load(Acquire) != POLLED {
                left.place.flags.swap(POLLED, AcqRel);
            }
        }
        *next = next.take().or_else(|| left.pop());
        vacant.append(left);
    }

    /// Frees all places but the next one.
    pub(super) fn shrink(&mut self) {
        self.vacant = Vec::new();
        self.left.shrink_to(1);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl AwaitingJob {
    pub(super) fn vacant(shared: &Arc<Shared>, woken: &Arc<WokenJobs>) -> VacantPlace {
        let place = Arc::new(AwaitingJob {
            shared: Arc::clone(shared),
            woken: Arc::clone(woken),
            flags: AtomicU8::new(POLLED),
            job: Mutex::new(None),
        });
        let waker = Waker::from(Arc::clone(&place));
        VacantPlace { place, waker }
    }

    /// Polls the job, after this was taken out of a queue of woken jobs.
    pub(super) fn resume(self: Arc<Self>) -> Resumed {
        let Some(flags) = self.own() else {
            return Resumed::Pending;
        };
        let mut held = lock(&self.job);
        let polled = match &mut *held {
            Some(_) if flags & ABORTED != 0 => Poll::Ready(RunOutcome::Aborted),
            Some((job, waker)) => job.poll(&self.shared, &mut Context::from_waker(waker)),
            None => return Resumed::Pending,
        };
        let ended = match polled {
            Poll::Ready(outcome) => held.take().map(|ended| (ended, outcome)),
            Poll::Pending => None,
        };
        drop(held);
        match ended {
            Some(((job, waker), outcome)) => {
                let unrecorded = job.end_in_batch(&self.shared, outcome);
                Resumed::Ended(VacantPlace { place: self, waker }, unrecorded)
            }
            None => {
                self.put_back();
                Resumed::Pending
            }
        }
    }

    /// Ends a job that was told to stop, when the runtime is gone. If a worker owns it, that worker ends it when it puts it
    /// back.
    pub(super) fn end_now(self: Arc<Self>) {
        if self.own().is_some() {
            self.stop();
        }
    }

    /// Tells the job to stop. The caller must wake it after this, so that a worker becomes its owner and sees the flag.
    pub(super) fn abort(&self) {
        self.flags.fetch_or(ABORTED, AcqRel);
    }

    /// Makes the caller the owner of the job, unless there is one already. Returns the former flags.
    fn own(&self) -> Option<u8> {
        let owned = |flags| (flags & POLLED == 0).then_some((flags | POLLED) & !WOKEN);
        self.flags.fetch_update(AcqRel, Acquire, owned).ok()
    }

    /// Gives up the ownership of a job that is pending, unless it was woken or aborted meanwhile. Returns whether it did.
    pub(super) fn let_go(&self) -> bool {
        self.flags
            .compare_exchange(POLLED, 0, AcqRel, Acquire)
            .is_ok()
    }

    /// Gives up the ownership of a job that is pending, and queues the job if it was woken, or stops it if it was
    /// aborted.
    pub(super) fn put_back(self: Arc<Self>) {
        let let_go = |flags| (flags & ABORTED == 0).then_some(flags & !POLLED);
        match self.flags.fetch_update(AcqRel, Acquire, let_go) {
            Err(_) => self.stop(),
            // The owner is a worker, and looks at the queue of woken jobs afterwards.
            Ok(flags) if flags & WOKEN != 0 => self.queue(|| true),
            Ok(_) => {}
        }
    }

    /// Ends an aborted job. The caller owns it.
    fn stop(&self) {
        let stopped = lock(&self.job).take();
        if let Some((job, _)) = stopped {
            job.end(&self.shared, RunOutcome::Aborted);
        }
    }

    /// Queues the job to be polled again by a worker. `within` is as for [`push`](WokenJobs::push).
    fn queue(self: &Arc<Self>, within: impl FnOnce() -> bool) {
        let shared = &self.shared;
        match self.woken.push(Arc::clone(self), within) {
            Call::Nothing => {}
            Call::Worker => {
                let start = shared.enter(|state, effects| state.want_workers(effects));
                worker::start(shared, start);
            }
            Call::Driver => shared.enter(|state, effects| state.watch(effects)),
        }
    }
}

impl Wake for AwaitingJob {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // `AcqRel` pairs with `own` and `put_back`: the poll that follows sees everything that was done before the
        // wake-up.
        if self.flags.fetch_or(WOKEN, AcqRel) & (WOKEN | POLLED) == 0 {
            self.queue(|| self.shared.is_current());
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    /// With the two counts of its `Arc`. README tells of it.
    #[test]
    fn the_place_of_a_job_that_awaits_is_as_small_as_we_say() {
        let bytes = 2 * size_of::<usize>() + size_of::<AwaitingJob>();
        assert!(bytes <= 152, "{bytes}");
    }

    #[tokio::test]
    async fn a_worker_keeps_a_thousand_places_and_one_that_has_nothing_to_do_keeps_one() {
        let (group, woken) = (crate::Group::new(), Arc::default());
        let mut places = Places::default();
        for _ in 0..MOST_VACANT + 10 {
            places.leave(AwaitingJob::vacant(group.shared(), &woken));
        }
        places.recycle();
        let kept = |places: &Places| (places.next.iter().len(), places.vacant.len());
        assert_eq!(kept(&places), (1, MOST_VACANT));
        places.shrink();
        assert_eq!(kept(&places), (1, 0));
        let storage = (places.vacant.capacity(), places.left.capacity());
        assert!(storage <= (0, 1), "{storage:?}");
    }
}
