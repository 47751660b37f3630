//! The workers of a group: how many there are, what they have claimed, and whether they are stuck.

use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use super::local_queue::LocalQueue;
use crate::ground::timeline::Tick;

/// The worker tasks of a group.
///
/// ```text
///           start              claim                 nothing to start
///   (none) ───────▶ coming ─────────────▶ busy ──────────────────────────▶ parked
///                     ▲                    │                                 │
///                     │                    │ nothing, and another is parked  │
///                     │                    ▼                                 │
///                     │                  (gone)                              │
///                     └──────────────────────────────────────────────────────┘
///                                       woken
/// ```
///
/// Coming and busy workers are *active*: they look at the ready queue without being asked, a busy one
/// after the jobs that it has claimed. There are at most as many as the runtime has worker threads. One
/// that finds nothing parks, if no other is, so that a lone job wakes a task instead of spawning one.
///
/// If all of them block their threads, a job that could start waits although no limit keeps it. That
/// cannot be seen; that no job was started for a while can. So as long as there may be jobs that no
/// coming worker is there for, the driver *watches*, and adds a spare worker when [`PATIENCE`] has passed
/// without a start. The spare one takes from the ready queue, or from the local queues of the others.
pub(super) struct Workers {
    active: usize,
    /// The part of `active` that is about to look at the ready queue.
    coming: usize,
    /// The runtime's worker threads.
    threads: usize,
    /// Of the workers that are active or parked.
    locals: Vec<Arc<LocalQueue>>,
    parked: Option<(Arc<LocalQueue>, Waker)>,
    /// Jobs that were started by workers that have gone.
    started: u64,
    watch: Watch,
    /// A worker can block without blocking the driver.
    watches: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Watch {
    Off,
    /// The driver has not looked yet.
    Wanted,
    /// So many jobs had been started then.
    Since {
        started: u64,
        at: Tick,
    },
}

/// What the task of a worker is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Duty {
    Coming,
    Busy,
    Parked,
    Gone,
}

/// How long a job may be startable without any being started.
const PATIENCE: Duration = Duration::from_millis(5);
/// A worker claims at most this many jobs at a time.
const MOST_CLAIMED: usize = 32;

/// What is to be done for the jobs that could start.
#[derive(Default)]
#[must_use]
pub(super) struct Staffing {
    /// The parked worker, to be woken.
    pub(super) wake: Option<Waker>,
    /// Workers to start beside it. All of them are counted as coming.
    pub(super) start: usize,
    /// The driver must look again: it does not know of the watch yet.
    pub(super) watch: bool,
}

impl Workers {
    /// `threads` is how many worker threads the runtime has; `watches` if one can be blocked without
    /// blocking the driver.
    pub(super) fn new(threads: usize, watches: bool) -> Workers {
        Workers {
            active: 0,
            coming: 0,
            threads,
            locals: Vec::new(),
            parked: None,
            started: 0,
            watch: Watch::Off,
            watches,
        }
    }

    // For the jobs that could start.

    /// Sees to it that somebody comes for the jobs that could start now.
    pub(super) fn staff(&mut self, startable: usize) -> Staffing {
        let wanted = startable.saturating_sub(self.coming);
        if wanted == 0 {
            return Staffing::default();
        }
        let coming = wanted.min(self.threads.saturating_sub(self.active));
        self.active += coming;
        self.coming += coming;
        let parked = if coming > 0 { self.parked.take() } else { None };
        Staffing {
            start: coming - usize::from(parked.is_some()),
            wake: parked.map(|(_, waker)| waker),
            watch: coming < wanted && self.watch(),
        }
    }

    /// True if the driver does not watch yet, and must.
    pub(super) fn watch(&mut self) -> bool {
        let begins = self.watches && self.watch == Watch::Off;
        if begins {
            self.watch = Watch::Wanted;
        }
        begins
    }

    /// The driver looks: true if a spare worker is to start, since all others seem to be stuck. It is
    /// counted as coming.
    pub(super) fn check(&mut self, startable: usize, now: Tick) -> bool {
        if self.watch == Watch::Off {
            return false;
        }
        let claimed: usize = self.locals.iter().map(|local| local.unstarted().0).sum();
        let waiting = startable + claimed;
        let started = self.started + self.locals.iter().map(|local| local.started()).sum::<u64>();
        let stands_still = match self.watch {
            Watch::Since {
                started: before,
                at,
            } if before == started && waiting > 0 => {
                if now < at.after(PATIENCE) {
                    return false;
                }
                true
            }
            _ => false,
        };
        self.watch = match waiting {
            0 => Watch::Off,
            _ => Watch::Since { started, at: now },
        };
        let spare = stands_still && waiting > self.coming;
        self.active += usize::from(spare);
        self.coming += usize::from(spare);
        spare
    }

    /// When the driver has to [check](Workers::check) next.
    pub(super) fn next_check(&self) -> Tick {
        match self.watch {
            Watch::Off => Tick::NEVER,
            Watch::Wanted => Tick::ALWAYS,
            Watch::Since { at, .. } => at.after(PATIENCE),
        }
    }

    /// How many of so many startable jobs one worker claims: its part of them, so that the others find
    /// some too.
    pub(super) fn share_of(&self, startable: usize) -> usize {
        startable.div_ceil(self.threads).min(MOST_CLAIMED)
    }

    // What becomes of a worker.

    /// A worker that is coming looks at the ready queue. False if it has not been woken: it is parked.
    pub(super) fn comes(&mut self, local: &Arc<LocalQueue>, duty: &mut Duty) -> bool {
        match duty {
            Duty::Coming => self.locals.push(Arc::clone(local)),
            Duty::Parked if self.is_parked(local) => return false,
            Duty::Parked => {}
            Duty::Busy | Duty::Gone => return true,
        }
        self.coming -= 1;
        *duty = Duty::Busy;
        true
    }

    /// A busy worker has found nothing. It parks, unless another one has.
    pub(super) fn rests(&mut self, local: &Arc<LocalQueue>, duty: &mut Duty, waker: &Waker) {
        self.active -= 1;
        if self.parked.is_none() {
            *duty = Duty::Parked;
            self.parked = Some((Arc::clone(local), waker.clone()));
        } else {
            self.forget(local, duty);
        }
    }

    /// A busy worker has found nothing, and nothing will come.
    pub(super) fn leaves(&mut self, local: &Arc<LocalQueue>, duty: &mut Duty) {
        self.active -= 1;
        self.forget(local, duty);
    }

    fn forget(&mut self, local: &Arc<LocalQueue>, duty: &mut Duty) {
        *duty = Duty::Gone;
        self.started += local.started();
        self.locals.retain(|other| !Arc::ptr_eq(other, local));
    }

    /// A parked worker was polled for nothing, by another waker perhaps.
    pub(super) fn stays_parked(&mut self, local: &Arc<LocalQueue>, waker: &Waker) {
        if self.is_parked(local) {
            self.parked = Some((Arc::clone(local), waker.clone()));
        }
    }

    /// The task of a worker ends, or is dropped.
    pub(super) fn dropped(&mut self, local: &Arc<LocalQueue>, mut duty: Duty) {
        match duty {
            Duty::Gone => return,
            Duty::Parked if self.is_parked(local) => self.parked = None,
            Duty::Coming | Duty::Parked => {
                self.active -= 1;
                self.coming -= 1;
            }
            Duty::Busy => self.active -= 1,
        }
        self.forget(local, &mut duty);
    }

    fn is_parked(&self, local: &Arc<LocalQueue>) -> bool {
        let parked = self.parked.as_ref();
        parked.is_some_and(|(other, _)| Arc::ptr_eq(other, local))
    }

    /// No job will come: the parked worker is to be woken for the last time, and goes.
    pub(super) fn dismiss(&mut self) -> Option<Waker> {
        let (_, waker) = self.parked.take()?;
        self.active += 1;
        self.coming += 1;
        Some(waker)
    }

    pub(super) fn locals(&self) -> &[Arc<LocalQueue>] {
        &self.locals
    }
}
