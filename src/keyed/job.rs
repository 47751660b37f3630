//! A key's job, on its way through the group.

use std::hash::{BuildHasher, Hash};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::Instant;

use super::shared::Keys;
use super::state::{Entry, Outcome, Pending, Taken, Ticket};
use crate::ground::panic;
use crate::{Handle, Job, ScheduleError};

/// What the group holds for a key: the user's job, and the duty to tell the keys about its end.
///
/// The user's job is dropped before that duty is done, so that nothing of a run is left when the next
/// one of its key may begin.
struct KeyedJob<K, S, J> {
    stage: Stage<J>,
    duty: Duty<K, S>,
}

/// The job is in a box of its own, so that it can be handed back until it is first polled.
enum Stage<J> {
    Waiting(Box<J>),
    Running(Pin<Box<J>>),
    Over,
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

impl<K, S, J: Job> Future for KeyedJob<K, S, J> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        loop {
            match &mut this.stage {
                Stage::Waiting(_) if !this.duty.begin() => this.stage = Stage::Over,
                Stage::Waiting(_) => {
                    if let Stage::Waiting(job) = std::mem::replace(&mut this.stage, Stage::Over) {
                        this.stage = Stage::Running(Box::into_pin(job));
                    }
                }
                Stage::Running(job) => {
                    ready!(job.as_mut().poll(cx));
                    this.stage = Stage::Over;
                }
                Stage::Over => return Poll::Ready(()),
            }
        }
    }
}

impl<K, S> Keys<K, S>
where
    K: Eq + Hash + Send + 'static,
    S: BuildHasher + Send + Sync + 'static,
{
    /// Hands a job to the group for a key, at the instant that `decide` names; drops it if `decide`
    /// names none.
    ///
    /// `decide` is told the deadline of the key's pending job, and since when the key is pending.
    /// It all happens in one step under the lock, the group's admission in the middle of it: a job that
    /// starts at once waits for the lock and finds its ticket there.
    #[track_caller]
    pub(super) fn put<J: Job>(
        self: &Arc<Self>,
        group: &Handle,
        key: K,
        job: J,
        decide: impl FnOnce(Option<&Pending>) -> Option<Instant>,
    ) -> Result<Outcome, ScheduleError<J>> {
        let hash = self.hash(&key);
        let mut guard = self.lock();
        let state = &mut *guard;
        let ticket = state.ticket();
        let entry = state.table.find(hash, |known, _| *known == key);
        let known = entry.as_ref().and_then(|entry| entry.pending.as_ref());
        let Some(at) = decide(known) else {
            drop(guard);
            return Ok(Outcome::Kept);
        };
        let since = known.map_or_else(Instant::now, |pending| pending.since);
        let held = entry.as_ref().is_some_and(|entry| entry.running.is_some());

        let job = KeyedJob {
            stage: Stage::Waiting(Box::new(job)),
            duty: Duty {
                keys: Arc::clone(self),
                hash,
                ticket,
                begun: false,
            },
        };
        let admitted = if held {
            group.try_delay(Duration::MAX, job)
        } else {
            group.try_schedule(at, job)
        };
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
            since,
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

fn hand_back<K, S, J>(refused: ScheduleError<KeyedJob<K, S, J>>) -> ScheduleError<J> {
    let closed = matches!(refused, ScheduleError::Closed(_));
    let Stage::Waiting(job) = refused.into_inner().stage else {
        unreachable!("a refused job was never polled");
    };
    if closed {
        ScheduleError::Closed(*job)
    } else {
        ScheduleError::Cancelled(*job)
    }
}
