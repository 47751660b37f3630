//! A key's job, on its way through the group.

use std::hash::{BuildHasher, Hash};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::Instant;

use super::shared::Keys;
use super::state::{Entry, Outcome, Pending, Plan, Taken, Ticket};
use crate::common::panic;
use crate::common::time::later;
use crate::{Handle, Job, JobContext, ScheduleError};

/// What the group keeps for a key until its job starts: what the user handed in, and the duty to report
/// its outcome to the keys.
struct Kept<K, S, T> {
    job: T,
    duty: Duty<K, S>,
}

/// A run of a key's job.
///
/// The fields are dropped in this order: nothing of a run is left when the next one of its key may begin.
struct Run<K, S, J> {
    /// `None` once it has ended, or if it was replaced or cancelled just as it was about to start.
    job: Option<Pin<Box<J>>>,
    _duty: Duty<K, S>,
}

struct Duty<K, S> {
    keys: Arc<Keys<K, S>>,
    hash: u64,
    ticket: Ticket,
    begun: bool,
}

impl<K, S> Duty<K, S> {
    /// False if the job was replaced or cancelled just now.
    fn begin(&mut self) -> bool {
        let alone = self.keys.exclusive;
        let taken = self.keys.lock().begin(self.hash, self.ticket, alone);
        self.begun = true;
        taken.map(|Taken { key, .. }| drop_key(key)).is_some()
    }
}

/// A key whose destructor panics harms no job, its own neither.
fn drop_key<K>(key: K) {
    if let Err(payload) = panic::discard(key) {
        panic::forget(payload);
    }
}

impl<K, S> Drop for Duty<K, S> {
    fn drop(&mut self) {
        if !self.begun {
            let taken = self.keys.lock().forget(self.hash, self.ticket);
            drop_key(taken.and_then(|taken| taken.key));
        } else if self.keys.exclusive {
            let key = self.keys.lock().end(self.hash, self.ticket);
            drop_key(key);
        }
    }
}

impl<K, S, J: Job> Future for Run<K, S, J> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        if let Some(job) = &mut this.job {
            ready!(job.as_mut().poll(cx));
            this.job = None;
        }
        Poll::Ready(())
    }
}

impl<K, S> Keys<K, S>
where
    K: Eq + Hash + Send + 'static,
    S: BuildHasher + Send + Sync + 'static,
{
    /// Hands to the group, for a key, the job that `start` makes of `job` when it is due, as `decide`
    /// plans it; drops it if `decide` has no plan.
    ///
    /// `decide` gets the key's pending job. It runs under the lock and calls no user code.
    /// It all happens in one step under the lock, the group's admission in the middle of it: a job that
    /// starts at once waits for the lock and finds its ticket there.
    #[track_caller]
    pub(super) fn put<T: Send + 'static, J: Job>(
        self: &Arc<Self>,
        group: &Handle,
        key: K,
        job: T,
        start: impl FnOnce(T, &Arc<Self>, JobContext) -> J + Send + 'static,
        decide: impl FnOnce(Option<&Pending>) -> Option<Plan>,
    ) -> Result<Outcome, ScheduleError<T>> {
        let hash = self.hash(&key);
        let mut guard = self.lock();
        let state = &mut *guard;
        let ticket = state.ticket();
        let entry = state.table.find(hash, |known, _| *known == key);
        let known = entry.as_ref().and_then(|entry| entry.pending.as_ref());
        let Some(Plan { at, debounced }) = decide(known) else {
            drop(guard);
            return Ok(Outcome::Kept);
        };
        let held = entry.as_ref().is_some_and(|entry| entry.running.is_some());

        let duty = Duty {
            keys: Arc::clone(self),
            hash,
            ticket,
            begun: false,
        };
        // What is held is far away until the run before it has ended.
        let from = if held {
            later(Instant::now(), Duration::MAX)
        } else {
            at
        };
        let admitted =
            group.try_schedule_with(from, Kept { job, duty }, |kept: Kept<K, S, T>, context| {
                let Kept { job, mut duty } = kept;
                let job = duty
                    .begin()
                    .then(|| Box::pin(start(job, &duty.keys, context)));
                Run { job, _duty: duty }
            });
        let job = match admitted {
            Ok(job) => job,
            Err(refused) => {
                drop(guard);
                // The caller may be about to panic: the key's destructor must not do so first.
                drop_key(key);
                return Err(hand_back(refused));
            }
        };

        let pending = Pending {
            ticket,
            job,
            held: held.then_some(at),
            debounced,
        };
        let replaced = match entry {
            Some(entry) => entry.pending.replace(pending),
            None => {
                let entry = Entry {
                    pending: Some(pending),
                    running: None,
                };
                state.table.insert(hash, key, entry);
                None
            }
        };
        state.len += usize::from(replaced.is_none());
        drop(guard);
        Ok(match replaced {
            Some(replaced) => {
                // Its ticket counts no more; this frees what it holds.
                replaced.job.cancel();
                Outcome::Replaced
            }
            None => Outcome::Inserted,
        })
    }
}

fn hand_back<K, S, T>(refused: ScheduleError<Kept<K, S, T>>) -> ScheduleError<T> {
    match refused {
        ScheduleError::Closed(kept) => ScheduleError::Closed(kept.job),
        ScheduleError::Cancelled(kept) => ScheduleError::Cancelled(kept.job),
        ScheduleError::Full(kept) => ScheduleError::Full(kept.job),
    }
}
