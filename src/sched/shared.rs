//! What the group, its handles, its workers and its driver share: the lock, and what is done after it.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, PoisonError};

// Under the scheduler of tests/shuttle a task is a thread.
#[cfg(shuttle)]
use shuttle::thread_local;
use tokio::runtime::{self, RuntimeFlavor};
#[cfg(not(shuttle))]
use tokio::task::try_id;
use tokio_util::sync::CancellationToken;

use super::awaiting::{AwaitingJob, WokenJobs};
use super::error::JobPanic;
use super::local_queue::Claim;
use super::rt::Mutex;
use super::state::CHUNK;
use super::state::DroppedJob;
use super::state::{Effects, State};
use super::stats::JobInfo;
use super::worker;
use crate::common::panic::{self, Payload};
use crate::common::time::{Clock, Timestamp};
use crate::common::trace;

pub(super) struct Shared {
    /// The state knows it too.
    woken: Arc<WokenJobs>,
    /// The only lock. Nothing of the user's is run, dropped or woken under it.
    state: Mutex<State>,
    /// How often it was taken.
    #[cfg(test)]
    pub(super) entered: std::sync::atomic::AtomicU64,
    pub(super) clock: Clock,
    /// A child of the caller's token, so that ending this group ends no other.
    pub(super) token: CancellationToken,
    /// Somebody else can cancel the token: its parent or a clone of it was handed out. As long as nobody
    /// can, the state knows all that ends the group, and the token's lock is not taken for each job.
    token_is_shared: AtomicBool,
    pub(super) runtime: runtime::Handle,
    pub(super) name: Option<Box<str>>,
    /// The group's own deadline.
    deadline: Timestamp,
    /// Worker threads of the runtime steal tasks from each other.
    steals: bool,
    /// The most often that slots were looked at while the lock was held once.
    #[cfg(test)]
    pub(super) most_looks: std::sync::atomic::AtomicUsize,
}

/// There, no task sits in a slot from which it cannot be taken.
#[cfg(shuttle)]
fn try_id() -> Option<std::convert::Infallible> {
    None
}

thread_local! {
    /// The group whose job this thread is polling, by its address; 0 for none.
    static CURRENT_GROUP: Cell<usize> = const { Cell::new(0) };
}

/// Puts the former value back, also when the job panics.
struct Restore(usize);

impl Drop for Restore {
    fn drop(&mut self) {
        CURRENT_GROUP.with(|inside| inside.set(self.0));
    }
}

impl Shared {
    pub(super) fn new(
        state: State,
        clock: Clock,
        token: CancellationToken,
        token_is_shared: bool,
        runtime: runtime::Handle,
        name: Option<Box<str>>,
        deadline: Timestamp,
    ) -> Arc<Shared> {
        let steals = runtime.runtime_flavor() != RuntimeFlavor::CurrentThread
            && runtime.metrics().num_workers() > 1;
        Arc::new(Shared {
            woken: Arc::clone(&state.woken),
            state: Mutex::new(state),
            #[cfg(test)]
            entered: Default::default(),
            clock,
            token,
            token_is_shared: AtomicBool::new(token_is_shared),
            runtime,
            name,
            deadline,
            steals,
            #[cfg(test)]
            most_looks: std::sync::atomic::AtomicUsize::new(0),
        })
    }

    /// A look under the lock, or a transition that leaves nothing to be done.
    pub(super) fn with<R>(&self, transition: impl FnOnce(&mut State) -> R) -> R {
        #[cfg(test)]
        self.entered
            .fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let result = transition(&mut state);
        // An allocator may take its time to free it, and all that wait for the lock would wait for that.
        let emptied = state.jobs.take_emptied();
        #[cfg(test)]
        self.most_looks.fetch_max(
            state.jobs.take_looks(),
            std::sync::atomic::Ordering::Relaxed,
        );
        drop(state);
        drop(emptied);
        result
    }

    /// One transition under the lock, then what it leaves to be done.
    pub(super) fn enter<R>(&self, transition: impl FnOnce(&mut State, &mut Effects) -> R) -> R {
        let mut effects = Effects::default();
        let result = self.with(|state| transition(state, &mut effects));
        self.apply(effects);
        result
    }

    /// Does what transitions have left to be done, when no lock is held.
    pub(super) fn apply(&self, effects: Effects) {
        // The driver's waker is tokio's; the others may be users', and so may those of the token.
        if let Some(driver) = effects.driver {
            driver.wake();
            self.make_stealable();
        }
        if let Some(worker) = effects.worker {
            worker.wake();
            self.make_stealable();
        }
        if effects.cancel {
            panic::catch(|| self.token.cancel()).unwrap_or_else(panic::forget);
        }
        // After that: who waited for an end finds the token cancelled.
        if !effects.wake.is_empty() {
            panic::wake_each(effects.wake);
        }
    }

    /// Lets other worker threads take the task that was woken or spawned last.
    ///
    /// From inside a task tokio puts it into a slot of the present worker from which none is stolen, to
    /// be polled when the present task yields; one that blocks its thread then would hold it up. The
    /// next task to be spawned pushes it out of there, and wakes another worker.
    pub(super) fn make_stealable(&self) {
        if self.steals && try_id().is_some() {
            self.runtime.spawn(async {});
        }
    }

    pub(super) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// The group's token, for others.
    pub(super) fn share_token(&self) -> CancellationToken {
        // Before anybody can cancel it, so that each start check from then on asks it.
        self.token_is_shared.store(true, SeqCst);
        self.token.clone()
    }

    /// Returns whether the token was cancelled from outside the group.
    pub(super) fn is_cancelled(&self) -> bool {
        self.token_is_shared.load(SeqCst) && self.token.is_cancelled()
    }

    /// The clock, as far as it can end the group: it is not read for one without a deadline.
    pub(super) fn deadline_clock(&self) -> Timestamp {
        if self.deadline < Timestamp::NEVER {
            self.now()
        } else {
            Timestamp::ALWAYS
        }
    }

    /// A job that awaits was woken. Some worker polls it again.
    pub(super) fn push_woken(self: &Arc<Self>, job: Arc<AwaitingJob>) {
        if self.woken.push(job, self.is_current()) {
            let start = self.enter(|state, effects| state.want_workers(effects));
            worker::start(self, start);
        }
    }

    /// The start check of a job: returns whether a token or the clock has ended the group from outside.
    ///
    /// What ends it from within takes the claims out of the local queues itself.
    pub(super) fn is_over(&self) -> bool {
        self.is_cancelled() || self.deadline_clock() >= self.deadline
    }

    /// Ends the group that [`is_over`](Shared::is_over), and gives back a job that was about to start.
    pub(super) fn give_back(&self, claim: Claim) {
        let (now, cancelled) = (self.deadline_clock(), self.is_cancelled());
        self.enter(|state, effects| {
            state.check_end(now, cancelled, effects);
            state.give_back(claim, effects);
        });
    }

    pub(super) fn name(&self) -> &str {
        self.name.as_deref().unwrap_or("")
    }

    /// Runs a job's code: its panic ends here.
    pub(super) fn inside<R>(&self, code: impl FnOnce() -> R) -> Result<R, Payload> {
        let _restore =
            Restore(CURRENT_GROUP.with(|inside| inside.replace(std::ptr::from_ref(self) as usize)));
        panic::catch(code)
    }

    /// Returns whether this is called by the code of one of the group's own jobs.
    pub(super) fn is_current(&self) -> bool {
        CURRENT_GROUP.with(Cell::get) == std::ptr::from_ref(self) as usize
    }

    /// Drops what jobs were that never started, and stops counting them.
    pub(super) fn drop_jobs(&self, jobs: impl IntoIterator<Item = DroppedJob>) {
        let mut count = 0;
        for job in jobs {
            count += 1;
            if let Err(payload) = panic::discard(job.work) {
                let panic = JobPanic::new(payload, job.id, job.scheduled_at);
                self.report_panic(&panic);
            }
        }
        if count > 0 {
            self.dropped(count);
        }
    }

    /// The values of so many jobs have been dropped. If they were the last ones, a cancel that came before is
    /// still what ended the group.
    pub(super) fn dropped(&self, count: usize) {
        let (now, cancelled) = (self.deadline_clock(), self.is_cancelled());
        self.enter(|state, effects| {
            state.check_end(now, cancelled, effects);
            state.dropped(count, effects);
        });
    }

    /// Drops what is left in the tables of a group that nobody can ask for it.
    pub(super) fn clear_tables(&self) {
        let tables = self.with(|state| state.jobs.tables.all());
        tables.iter().for_each(|table| table.clear());
    }

    /// Makes a panic seen though nobody may wait.
    pub(super) fn report_panic(&self, panic: &JobPanic) {
        trace::panicked(
            self.name(),
            panic.job().0,
            panic.scheduled_at(),
            panic.message(),
        );
    }

    /// The jobs that have not ended, in the order of their submission.
    pub(super) fn jobs(&self) -> Vec<JobInfo> {
        let mut jobs = Vec::new();
        for chunk in 0..self.with(|state| state.jobs.chunks()) {
            jobs.reserve(CHUNK);
            self.with(|state| state.list_chunk(chunk, &self.clock, &mut jobs));
        }
        jobs.sort_unstable_by_key(|job: &JobInfo| job.id);
        jobs
    }

    /// Drops the pending jobs of one chunk that are due at `from` or later, and wakes those that are to be
    /// aborted.
    pub(super) fn drop_chunk(&self, chunk: usize, from: Timestamp) {
        // What is taken out under the lock has room before: an allocator that is asked for much may first put
        // in order all that was freed, and has needed tens of milliseconds for that.
        let mut jobs = Vec::with_capacity(CHUNK);
        self.enter(|state, effects| state.take_pending_chunk(chunk, from, &mut jobs, effects));
        self.drop_jobs(jobs);
    }

    /// The runtime is gone: ends the running jobs of one chunk that no worker polls at the moment.
    pub(super) fn end_chunk(&self, chunk: usize) {
        let running = self.with(|state| state.jobs.running_of_chunk(chunk));
        running.into_iter().for_each(AwaitingJob::end_now);
    }
}
