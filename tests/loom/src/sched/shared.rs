//! Stands for the crate's `shared`: the lock, and what is done after it. There is no token, and the clock stands still
//! until a model moves it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::Waker;

use super::ended_drops::EndedDrops;
use super::error::JobPanic;
use super::local_queue::Claim;
use super::rt::{Mutex, Runtime};
use super::state::{DroppedJob, Effects, State, WakeDriver};
use crate::common::panic::{self, Payload};
use crate::common::time::{Clock, Timestamp};

pub(super) struct Shared {
    state: Mutex<State>,
    ended_drops: Arc<EndedDrops>,
    /// Stands for the timer, whose time has always come. The driver holds it while it parks.
    pub(super) driver: Mutex<Option<Waker>>,
    pub(super) clock: Clock,
    pub(super) runtime: Runtime,
    pub(super) is_limited: bool,
    /// The clock, and the end of the grace. They are not loom's: a caller reads them just before it takes a lock, where
    /// loom switches between threads anyway.
    now: AtomicU64,
    grace_ends: AtomicU64,
}

impl Shared {
    pub(super) fn new(state: State) -> Arc<Shared> {
        Arc::new(Shared {
            is_limited: state.jobs.is_limited(),
            ended_drops: Arc::clone(&state.jobs.ended_drops),
            state: Mutex::new(state),
            driver: Mutex::default(),
            clock: Clock::new(tokio::time::Instant::now()),
            runtime: Runtime::new(),
            now: AtomicU64::new(Timestamp::ALWAYS.bits()),
            grace_ends: AtomicU64::new(Timestamp::NEVER.bits()),
        })
    }

    /// Moves the clock to an instant, unless it is later already.
    pub(super) fn advance(&self, to: Timestamp) {
        self.now.fetch_max(to.bits(), Relaxed);
    }

    /// Notes the end of a grace.
    pub(super) fn note_grace(&self, grace_ends: Timestamp) {
        self.grace_ends.fetch_min(grace_ends.bits(), Relaxed);
    }

    pub(super) fn enter<R>(&self, transition: impl FnOnce(&mut State, &mut Effects) -> R) -> R {
        let mut effects = Effects::default();
        let mut state = self.state.lock().unwrap();
        effects.wake_driver(state.apply_cancels());
        let result = transition(&mut state, &mut effects);
        effects.take_unused(&mut state.jobs);
        drop(state);
        self.apply(effects);
        result
    }

    pub(super) fn enter_checked<R>(
        &self,
        transition: impl FnOnce(&mut State, &mut Effects) -> R,
    ) -> R {
        let (now, cancelled) = self.end_inputs();
        self.enter(|state, effects| {
            state.check_end(now, cancelled, effects);
            transition(state, effects)
        })
    }

    pub(super) fn apply(&self, effects: Effects) {
        let driver = match effects.driver {
            Some(WakeDriver::Now(waker)) => Some(waker),
            Some(WakeDriver::At(_)) => self.driver.lock().unwrap().clone(),
            None => None,
        };
        let wakers = driver.into_iter().chain(effects.worker).chain(effects.wake);
        wakers.for_each(std::task::Waker::wake);
    }

    pub(super) fn with<R>(&self, transition: impl FnOnce(&mut State) -> R) -> R {
        self.enter(|state, _| transition(state))
    }

    pub(super) fn with_table<R>(&self, transition: impl FnOnce(&mut State) -> R) -> R {
        transition(&mut self.state.lock().unwrap())
    }

    pub(super) fn now(&self) -> Timestamp {
        Timestamp::from_bits(self.now.load(Relaxed))
    }

    /// No model cancels the token.
    pub(super) fn end_inputs(&self) -> (Timestamp, bool) {
        (self.now(), false)
    }

    /// Then a worker is called for each wake-up, which is the harder case.
    pub(super) fn is_current(&self) -> bool {
        false
    }

    pub(super) fn is_over(&self) -> bool {
        self.now().bits() >= self.grace_ends.load(Relaxed)
    }

    pub(super) fn give_back(&self, claim: Claim) {
        let mut dropped = None;
        self.enter_checked(|state, effects| state.give_back(claim, &mut dropped, effects));
        self.drop_jobs(dropped);
    }

    pub(super) fn make_stealable(&self) {}

    pub(super) fn name(&self) -> &str {
        ""
    }

    pub(super) fn catch_as_current<R>(&self, code: impl FnOnce() -> R) -> Result<R, Payload> {
        panic::catch(code)
    }

    pub(super) fn drop_jobs(&self, jobs: impl IntoIterator<Item = DroppedJob>) {
        let count = jobs.into_iter().map(drop).count();
        if count > 0 {
            self.end_drops(count);
        }
    }

    pub(super) fn end_drops(&self, count: usize) {
        if self.ended_drops.add(count) {
            self.enter_checked(|state, effects| state.check_drained(effects));
        }
    }

    pub(super) fn report_panic(&self, _: &JobPanic) {}
}
