//! What the group, its handles, its runners and its driver share: the lock, and what is done after it.

use std::cell::Cell;
#[cfg(not(shuttle))]
use std::sync::Mutex;
use std::sync::{Arc, PoisonError};

// Under the scheduler of tests/shuttle the lock is a place to switch, and a task is a thread.
#[cfg(shuttle)]
use shuttle::{sync::Mutex, thread_local};
use tokio::runtime;
use tokio_util::sync::CancellationToken;

use super::error::JobPanic;
use super::jobs::Unstarted;
use super::state::{State, Todo};
use crate::ground::panic::{self, Payload};
use crate::ground::timeline::{Tick, Timeline};
use crate::ground::trace;

pub(super) struct Shared {
    /// The only lock. Nothing of the user's is run, dropped or woken under it.
    state: Mutex<State>,
    /// How often it was taken.
    #[cfg(test)]
    pub(super) entered: std::sync::atomic::AtomicU64,
    pub(super) timeline: Timeline,
    /// A child of the caller's token, so that ending this group ends no other.
    pub(super) token: CancellationToken,
    pub(super) runtime: runtime::Handle,
    pub(super) name: Option<Box<str>>,
}

thread_local! {
    /// The group whose job this thread is polling, by its address; 0 for none.
    static INSIDE: Cell<usize> = const { Cell::new(0) };
}

/// Puts the former value back, also when the job panics.
struct Restore(usize);

impl Drop for Restore {
    fn drop(&mut self) {
        INSIDE.with(|inside| inside.set(self.0));
    }
}

impl Shared {
    pub(super) fn new(
        state: State,
        timeline: Timeline,
        token: CancellationToken,
        runtime: runtime::Handle,
        name: Option<Box<str>>,
    ) -> Arc<Shared> {
        Arc::new(Shared {
            state: Mutex::new(state),
            #[cfg(test)]
            entered: Default::default(),
            timeline,
            token,
            runtime,
            name,
        })
    }

    /// One transition under the lock, then what it leaves to be done.
    pub(super) fn enter<R>(&self, transition: impl FnOnce(&mut State, &mut Todo) -> R) -> R {
        #[cfg(test)]
        self.entered
            .fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let mut todo = Todo::default();
        let result = transition(
            &mut self.state.lock().unwrap_or_else(PoisonError::into_inner),
            &mut todo,
        );
        // The driver's waker is tokio's; the others may be users', and so may those of the token.
        if let Some(driver) = todo.driver {
            driver.wake();
        }
        if todo.cancel {
            panic::catch(|| self.token.cancel()).unwrap_or_else(panic::forget);
        }
        // After that: who waited for an end finds the token cancelled.
        if !todo.wake.is_empty() {
            panic::wake_each(todo.wake);
        }
        result
    }

    pub(super) fn now(&self) -> Tick {
        self.timeline.now()
    }

    pub(super) fn is_cancelled(&self) -> bool {
        self.token.is_cancelled()
    }

    pub(super) fn name(&self) -> &str {
        self.name.as_deref().unwrap_or("")
    }

    /// Runs a job's code: its panic ends here.
    pub(super) fn inside<R>(&self, code: impl FnOnce() -> R) -> Result<R, Payload> {
        let _restore =
            Restore(INSIDE.with(|inside| inside.replace(std::ptr::from_ref(self) as usize)));
        panic::catch(code)
    }

    /// Is this called by the code of one of the group's own jobs?
    pub(super) fn is_inside(&self) -> bool {
        INSIDE.with(Cell::get) == std::ptr::from_ref(self) as usize
    }

    /// Drops the bodies of jobs that never started, and stops counting them.
    pub(super) fn drop_unstarted(&self, jobs: impl IntoIterator<Item = Unstarted>) {
        let mut count = 0;
        for job in jobs {
            count += 1;
            if let Err(payload) = panic::discard(job.body) {
                let panic = JobPanic::new(payload, job.id, job.scheduled_at);
                self.tell(&panic);
            }
        }
        if count > 0 {
            self.enter(|state, todo| state.dropped(count, todo));
        }
    }

    /// Makes a panic seen though nobody may wait.
    pub(super) fn tell(&self, panic: &JobPanic) {
        trace::panicked(
            self.name(),
            panic.job().0,
            panic.scheduled_at(),
            panic.message(),
        );
    }

    /// Drops all pending jobs that are due at `from` or later, without a pause.
    pub(super) fn drop_all(&self, from: Tick) {
        for chunk in 0..self.enter(|state, _| state.chunks()) {
            let jobs = self.enter(|state, todo| state.unstart_chunk(chunk, from, todo));
            self.drop_unstarted(jobs);
        }
    }
}
