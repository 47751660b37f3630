//! The state of each key, and every transition of it, under the lock of [`shared`](super::shared).
//!
//! The jobs themselves are the group's. A ticket says which job speaks for a key: a job that starts
//! and finds that its ticket no longer counts was replaced or cancelled, and does nothing. So it is
//! this state that decides between a job's start and whoever is about to replace it, and what it
//! tells either of them is the truth.

use std::num::NonZeroU64;

use tokio::time::Instant;

use crate::JobHandle;
use crate::common::table::Table;

/// A rule for a job that is scheduled for a key which has a pending job already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum OnDuplicate {
    /// The new job replaces the pending one, at its own instant.
    Replace,
    /// The one that is due first stays, and the other is dropped. The pending one wins a tie.
    KeepEarliest,
    /// The one that is due last stays, and the other is dropped. The pending one wins a tie.
    KeepLatest,
    /// The pending one stays as it is, and the new one is dropped.
    KeepExisting,
}

impl OnDuplicate {
    /// The plan for a job that is due at `at`, unless it does not take the place of the pending one.
    pub(super) fn plan(self, at: Instant) -> impl FnOnce(Option<&Pending>) -> Option<Plan> {
        move |known| {
            let wins = known.is_none_or(|pending| self.replaces(pending.deadline(), at));
            wins.then_some(Plan {
                at,
                debounced: None,
            })
        }
    }

    /// Returns whether a job that is due at `new` replaces one that is due at `pending`.
    fn replaces(self, pending: Instant, new: Instant) -> bool {
        match self {
            OnDuplicate::Replace => true,
            OnDuplicate::KeepEarliest => new < pending,
            OnDuplicate::KeepLatest => new > pending,
            OnDuplicate::KeepExisting => false,
        }
    }
}

/// The outcome of scheduling a job for a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Outcome {
    /// The key had no pending job, and now has this one.
    Inserted,
    /// The key had a pending job, which will not run; this one replaces it.
    Replaced,
    /// The key keeps the pending job that it had; this one was dropped.
    Kept,
    /// The group rejects jobs (it was waited for, shut down, cancelled or dropped, or its runtime has
    /// ended): this one was dropped, and the key keeps the pending job that it had.
    Refused,
}

/// Names one job of one key; never used twice.
pub(super) type Ticket = NonZeroU64;

/// A key's job that has not begun.
pub(super) struct Pending {
    pub(super) ticket: Ticket,
    pub(super) job: JobHandle,
    /// While another job of the key runs this one is far away in the group; it is wanted at this
    /// instant, and gets it when that run has ended.
    pub(super) held: Option<Instant>,
    /// The first debounce since a job was last scheduled for the key, or since it became pending.
    pub(super) debounced: Option<Instant>,
}

/// What a job of a key is admitted for: its instant, and the first debounce from which the ceiling of
/// further ones counts.
pub(super) struct Plan {
    pub(super) at: Instant,
    pub(super) debounced: Option<Instant>,
}

impl Pending {
    pub(super) fn deadline(&self) -> Instant {
        self.held.unwrap_or_else(|| self.job.deadline())
    }
}

/// A key in use: something is pending, or running, or both.
pub(super) struct Entry {
    pub(super) pending: Option<Pending>,
    /// The run that keeps others of its key waiting.
    pub(super) running: Option<Ticket>,
}

impl Entry {
    fn awaits(&self, ticket: Ticket) -> bool {
        self.pending
            .as_ref()
            .is_some_and(|pending| pending.ticket == ticket)
    }
}

/// What is taken out, to be dropped or cancelled once the lock is free.
pub(super) struct Taken<K> {
    pub(super) pending: Pending,
    /// The key goes when nothing of it is left.
    pub(super) key: Option<K>,
}

pub(super) struct State<K> {
    pub(super) table: Table<K, Entry>,
    /// Keys with something pending.
    pub(super) len: usize,
    last: u64,
}

impl<K> State<K> {
    pub(super) fn new() -> State<K> {
        State {
            table: Table::new(),
            len: 0,
            last: 0,
        }
    }

    pub(super) fn ticket(&mut self) -> Ticket {
        self.last += 1;
        Ticket::new(self.last).expect("schedgroup: more jobs than a u64 can count")
    }

    /// The key's pending job.
    pub(super) fn pending(
        &mut self,
        hash: u64,
        mut is: impl FnMut(&K) -> bool,
    ) -> Option<&mut Pending> {
        self.table.find(hash, |key, _| is(key))?.pending.as_mut()
    }

    /// Takes the pending job of the entry that passes the test, and its key if that was all.
    pub(super) fn take(
        &mut self,
        hash: u64,
        mut is: impl FnMut(&K, &Entry) -> bool,
    ) -> Option<Taken<K>> {
        let entry = self.table.find(hash, &mut is)?;
        let pending = entry.pending.take()?;
        self.len -= 1;
        let key = match entry.running {
            Some(_) => None,
            None => self.remove_idle(hash),
        };
        Some(Taken { pending, key })
    }

    fn remove_idle(&mut self, hash: u64) -> Option<K> {
        let idle = |_: &K, entry: &Entry| entry.pending.is_none() && entry.running.is_none();
        self.table.remove(hash, idle).map(|(key, _)| key)
    }

    /// A job never began: its key goes, unless another job has its place.
    pub(super) fn forget(&mut self, hash: u64, ticket: Ticket) -> Option<Taken<K>> {
        self.take(hash, |_, entry| entry.awaits(ticket))
    }

    /// A job begins; `None` if it was replaced or cancelled. With `alone` the key stays, and keeps
    /// further jobs waiting until [`end`](State::end).
    pub(super) fn begin(&mut self, hash: u64, ticket: Ticket, alone: bool) -> Option<Taken<K>> {
        if !alone {
            return self.forget(hash, ticket);
        }
        let entry = self.table.find(hash, |_, entry| entry.awaits(ticket))?;
        let pending = entry.pending.take()?;
        entry.running = Some(ticket);
        self.len -= 1;
        Some(Taken { pending, key: None })
    }

    /// A run of a key that runs alone has ended: what waited for it gets its instant.
    pub(super) fn end(&mut self, hash: u64, ticket: Ticket) -> Option<K> {
        let entry = self
            .table
            .find(hash, |_, entry| entry.running == Some(ticket))?;
        entry.running = None;
        match &mut entry.pending {
            Some(pending) => {
                if let Some(at) = pending.held.take() {
                    // False only for a group that goes down, which drops the job.
                    pending.job.reset_at(at);
                }
                None
            }
            None => self.remove_idle(hash),
        }
    }
}
