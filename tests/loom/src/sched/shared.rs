//! Stands for the crate's `shared`: the lock, and what is done after it. There is no token, and the workers'
//! clock stands still.

use std::sync::Arc;

use super::error::JobPanic;
use super::jobs::Unstarted;
use super::rt::{Mutex, Runtime};
use super::spare::Spare;
use super::state::{State, Todo};
use crate::ground::panic::{self, Payload};
use crate::ground::timeline::{Tick, Timeline};

pub(super) struct Shared {
    state: Mutex<State>,
    pub(super) timeline: Timeline,
    pub(super) runtime: Runtime,
}

impl Shared {
    pub(super) fn new(state: State) -> Arc<Shared> {
        Arc::new(Shared {
            state: Mutex::new(state),
            timeline: Timeline::new(tokio::time::Instant::now()),
            runtime: Runtime::new(),
        })
    }

    pub(super) fn enter<R>(&self, transition: impl FnOnce(&mut State, &mut Todo) -> R) -> R {
        let mut todo = Todo::default();
        let result = transition(&mut self.state.lock().unwrap(), &mut todo);
        let wakers = todo.driver.into_iter().chain(todo.worker).chain(todo.wake);
        wakers.for_each(std::task::Waker::wake);
        todo.retire.into_iter().for_each(Spare::retire);
        result
    }

    pub(super) fn with<R>(&self, transition: impl FnOnce(&mut State) -> R) -> R {
        transition(&mut self.state.lock().unwrap())
    }

    pub(super) fn now(&self) -> Tick {
        Tick::ALWAYS
    }

    pub(super) fn is_cancelled(&self) -> bool {
        false
    }

    pub(super) fn deadline_clock(&self) -> Tick {
        Tick::ALWAYS
    }

    pub(super) fn check_end(&self) {}

    pub(super) fn make_stealable(&self) {}

    pub(super) fn name(&self) -> &str {
        ""
    }

    pub(super) fn inside<R>(&self, code: impl FnOnce() -> R) -> Result<R, Payload> {
        panic::catch(code)
    }

    pub(super) fn drop_unstarted(&self, jobs: impl IntoIterator<Item = Unstarted>) {
        let count = jobs.into_iter().map(drop).count();
        if count > 0 {
            self.dropped(count);
        }
    }

    pub(super) fn dropped(&self, count: usize) {
        self.enter(|state, todo| state.dropped(count, todo));
    }

    pub(super) fn tell(&self, _: &JobPanic) {}
}
