//! Jobs that await: each is woken by itself, and polled by the workers, without a task of its own.

use std::sync::atomic::Ordering::{AcqRel, Acquire};
use std::sync::{Arc, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use super::rt::{AtomicU8, Mutex, MutexGuard};
use super::run::RunningJob;
use super::shared::Shared;
use super::woken::{Call, WokenJobs};
use super::worker;

/// A job that has awaited, and its waker.
///
/// ```text
///                 put back: still pending           woken
///   POLLED ────────────────────────────────▶ idle ────────▶ WOKEN, in the queue of those
///    ▲  │ woken                  put back                    │
///    │  └──────▶ POLLED | WOKEN ────────────────────────────▶│
///    │                                                       │ a worker takes it
///    └───────────────────────────────────────────────────────┘
/// ```
///
/// The caller that sets `POLLED` owns the job until it puts it back or ends it: so a job is polled by one worker at a
/// time, and ends once. An abort is a flag and a wake-up: who owns the job sees the flag before it lets go.
///
/// A worker polls a job for the first time with the waker of such a place that it has at hand, and puts the job
/// in only if it is pending. So one that is ready at once costs no allocation, and a wake-up that comes
/// before the job is in its place is not lost: it finds `POLLED`. A waker that a former job has left behind
/// may wake the next one for nothing, as any waker may.
pub(super) struct AwaitingJob {
    shared: Arc<Shared>,
    woken: Arc<WokenJobs>,
    flags: AtomicU8,
    /// Locked by the owner alone, and for as long as it polls. With the job lies the waker that it is polled with,
    /// which holds this place; the end of the job takes both out.
    job: Mutex<Option<(RunningJob, Waker)>>,
}

const POLLED: u8 = 1;
const WOKEN: u8 = 2;
/// Stop instead of being polled again. Except at the end of the runtime it is set under the group's lock, and only as
/// long as the group knows that this is the job's place. No other job comes there before the group knows of the end, so
/// it never hits the next one.
const ABORTED: u8 = 4;

/// The place of a job that has not come yet, and the waker that this job will be polled with.
pub(super) struct VacantPlace {
    place: Arc<AwaitingJob>,
    waker: Waker,
}

/// The outcome of another poll.
pub(super) enum Resumed {
    Pending,
    /// It has ended, and the place may have the next one as soon as the group knows. The slot, if the caller has to
    /// record the end.
    Ended(VacantPlace, Option<u32>),
}

impl VacantPlace {
    pub(super) fn job(&self) -> &Arc<AwaitingJob> {
        &self.place
    }

    /// Takes a job in that is pending after its first poll. The group knows of this place already.
    pub(super) fn adopt(self, job: RunningJob) {
        let VacantPlace { place, waker } = self;
        *lock(&place.job) = Some((job, waker));
        place.put_back();
    }
}

/// The places that a worker has at hand.
#[derive(Default)]
pub(super) struct Places {
    next: Option<VacantPlace>,
    vacant: Vec<VacantPlace>,
    /// Their jobs have ended, which the group does not know yet.
    left: Vec<VacantPlace>,
}

/// A worker that has work keeps as many vacant places; one that has none keeps one. Jobs that yield at their first poll
/// come by hundreds before the first of them is woken.
const MOST_VACANT: usize = 1024;

impl Places {
    /// The waker of the next place, which `make` makes if there is none.
    pub(super) fn waker(&mut self, make: impl FnOnce() -> VacantPlace) -> &Waker {
        let Places { next, vacant, .. } = self;
        &next
            .get_or_insert_with(|| vacant.pop().unwrap_or_else(make))
            .waker
    }

    /// Takes the place whose waker a job was polled with.
    pub(super) fn take(&mut self) -> VacantPlace {
        self.next.take().expect("its waker was given out")
    }

    pub(super) fn leave(&mut self, place: VacantPlace) {
        self.left.push(place);
    }

    /// The group knows of all ends, so no abort is on its way to a place that was left: it may have another job.
    pub(super) fn recycle(&mut self) {
        let Places { next, vacant, left } = self;
        if left.is_empty() {
            return;
        }
        left.truncate(1 + MOST_VACANT.saturating_sub(vacant.len()));
        for left in &*left {
            left.place.flags.swap(POLLED, AcqRel);
        }
        *next = next.take().or_else(|| left.pop());
        vacant.append(left);
    }

    /// Keeps the next place alone.
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

    /// Polls the job that was taken out of the queue.
    pub(super) fn resume(self: Arc<Self>) -> Resumed {
        let Some(flags) = self.own() else {
            return Resumed::Pending;
        };
        let mut held = lock(&self.job);
        let polled = match &mut *held {
            Some(_) if flags & ABORTED != 0 => Poll::Ready(Ok(None)),
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

    /// The group is over with its runtime: a job that no worker owns ends here, and any other where it is.
    pub(super) fn end_now(self: Arc<Self>) {
        self.abort();
        if self.own().is_some() {
            self.stop();
        }
    }

    /// Lets the job stop when its owner sees it, who has to be woken after this.
    pub(super) fn abort(&self) {
        self.flags.fetch_or(ABORTED, AcqRel);
    }

    /// Makes the caller the owner of a job that is idle or woken; the flags that it had.
    fn own(&self) -> Option<u8> {
        let owned = |flags| (flags & POLLED == 0).then_some((flags | POLLED) & !WOKEN);
        self.flags.fetch_update(AcqRel, Acquire, owned).ok()
    }

    /// The owner lets go of a job that is pending.
    fn put_back(self: Arc<Self>) {
        let let_go = |flags| (flags & ABORTED == 0).then_some(flags & !POLLED);
        match self.flags.fetch_update(AcqRel, Acquire, let_go) {
            Err(_) => self.stop(),
            // The owner is a worker, which looks at the queue afterwards.
            Ok(flags) if flags & WOKEN != 0 => self.queue(|| true),
            Ok(_) => {}
        }
    }

    /// The owner ends a job that is to stop.
    fn stop(&self) {
        let stopped = lock(&self.job).take();
        if let Some((job, _)) = stopped {
            job.end(&self.shared, Ok(None));
        }
    }

    /// Some worker is to poll it again. `within` as in [`push`](WokenJobs::push).
    fn queue(self: &Arc<Self>, within: impl FnOnce() -> bool) {
        let shared = &self.shared;
        match self.woken.push(Arc::clone(self), within) {
            Call::Nobody => {}
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
        // It pairs with the owner's: what was done before the wake-up is seen by the poll after it.
        if self.flags.fetch_or(WOKEN, AcqRel) & (WOKEN | POLLED) == 0 {
            self.queue(|| self.shared.is_current());
        }
    }

    fn wake_by_ref(self: &Arc<Self>) {
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
