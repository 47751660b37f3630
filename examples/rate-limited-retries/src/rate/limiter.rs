//! A rate limit per key, and one for all of them.

use std::borrow::Borrow;
use std::fmt;
use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

use super::allowance::Rate;
use super::bucket::Bucket;
use super::calendar::Calendar;
use crate::drops::drop_each;
use crate::table::Table;
use crate::time::Clock;

/// A rate limiter that returns to each caller the instant at which it may go: in FIFO order, per key and overall.
///
/// It never waits and never rejects. It returns the caller's own instant, to be slept for or to
/// [`schedule`](schedgroup::Group::schedule) a job at; no one else gets it. A caller that does not use its
/// instant gives nothing back.
///
/// When the work itself should be queued, and a [`not_before`](Limiter::not_before) should hold up what
/// has been asked for already, reach for a [`Pacer`](super::Pacer). For "now or not at all", and
/// no view of the future: the crate governor.
///
/// A key whose past no longer counts costs nothing: such keys are removed in passing, by one scan in as many calls
/// as there were keys left.
///
/// # Examples
///
/// ```
/// # use std::time::Duration;
/// # use schedgroup::Group;
/// # use rate_limited_retries::rate::{Limiter, Rate};
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), schedgroup::WaitError> {
/// let limiter = Limiter::new(Rate::per_second(2)).overall(Rate::per_second(100).burst(10));
/// let group = Group::new();
/// for host in ["a.example", "b.example", "a.example"] {
///     let at = limiter.reserve(&host, 1);
///     group.schedule(at, async move { println!("{host}") }); // the second a.example after 500 ms
/// }
/// group.wait().await
/// # }
/// ```
pub struct Limiter<K> {
    per_key: Rate,
    overall: Option<Rate>,
    clock: Clock,
    hasher: RandomState,
    /// Of the user's code only `Eq` of keys runs under it.
    state: Mutex<State<K>>,
}

struct State<K> {
    keys: Table<K, Allowed>,
    overall: Calendar,
    /// The number of calls until the keys are looked through.
    patience: usize,
}

/// What one key may do.
#[derive(Default)]
struct Allowed {
    bucket: Bucket,
    not_before: u64,
    /// The last instant that was given out: no later call gets an earlier one.
    last: u64,
}

/// Fewer keys than that are not worth looking through.
const FEW: usize = 64;

impl<K> Limiter<K> {
    /// Creates a limiter with this rate per key.
    pub fn new(per_key: Rate) -> Limiter<K> {
        Limiter {
            per_key,
            overall: None,
            clock: Clock::new(),
            hasher: RandomState::new(),
            state: Mutex::new(State {
                keys: Table::new(),
                overall: Calendar::new(),
                patience: FEW,
            }),
        }
    }

    /// Sets a rate for all keys together.
    ///
    /// It is taken last, for the instant at which the key itself may go; so a key whose instant is far
    /// away keeps no other from going before. What is given away ahead may be spaced wider than the rate
    /// asks, for costs of one less than twice as wide, and never closer.
    #[must_use = "the limiter is returned"]
    pub fn overall(mut self, rate: Rate) -> Limiter<K> {
        self.overall = Some(rate);
        self
    }

    fn lock(&self) -> MutexGuard<'_, State<K>> {
        // Poisoned by `Eq` of a key, before anything was changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the number of keys it remembers.
    pub fn len(&self) -> usize {
        self.lock().keys.len()
    }

    /// Returns `true` if it remembers no key.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<K: Eq + Hash> Limiter<K> {
    /// Reserves and returns the caller's own instant, now or later, for work of this cost.
    ///
    /// For one key these never go back, whatever the costs. A cost of zero takes nothing and waits for
    /// its own key alone, of which it overtakes nothing. A cost above the burst waits until the whole
    /// burst is there, and those after it until it is earned. The key is cloned if it is not known.
    #[must_use = "the instant is reserved: no other caller gets it"]
    pub fn reserve<Q>(&self, key: &Q, cost: u32) -> Instant
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ToOwned<Owned = K> + ?Sized,
    {
        let at = self.with(key, |allowed, overall, now| {
            let own = allowed.bucket.earliest(self.per_key, cost);
            let own = own.max(now).max(allowed.not_before).max(allowed.last);
            let at = match self.overall {
                Some(rate) if cost > 0 => overall.reserve(rate, cost, now, own),
                _ => own,
            };
            allowed.bucket.take(self.per_key, cost, at);
            allowed.last = at;
            at
        });
        self.clock.instant(at)
    }

    /// Delays all later reservations of this key until `at`, as a server asks for with `Retry-After`.
    ///
    /// Of several the latest holds, and no success takes it back. It is for what is reserved after it;
    /// instants that were given out before stay as they are.
    pub fn not_before<Q>(&self, key: &Q, at: Instant)
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ToOwned<Owned = K> + ?Sized,
    {
        let at = self.clock.nanos(at);
        self.with(key, |allowed, _, _| {
            allowed.not_before = allowed.not_before.max(at);
        });
    }

    /// Works on one key; one that is not known is put in.
    fn with<Q, R>(&self, key: &Q, work: impl FnOnce(&mut Allowed, &mut Calendar, u64) -> R) -> R
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ToOwned<Owned = K> + ?Sized,
    {
        let hash = self.hasher.hash_one(key);
        let mut fresh = None;
        let mut guard = self.lock();
        if guard
            .keys
            .find(hash, |known, _| known.borrow() == key)
            .is_none()
        {
            drop(guard);
            fresh = Some(key.to_owned());
            guard = self.lock();
        }
        let state = &mut *guard;
        let unknown = state
            .keys
            .find(hash, |known, _| known.borrow() == key)
            .is_none();
        if let Some(key) = fresh.take_if(|_| unknown) {
            state.keys.insert(hash, key, Allowed::default());
        }
        let now = self.clock.now();
        let allowed = state.keys.find(hash, |known, _| known.borrow() == key);
        let allowed = allowed.expect("`Eq` of a key finds what it found before");
        let done = work(allowed, &mut state.overall, now);
        let idle = self.look_through(state, now);
        drop(guard);
        // Keys are dropped outside of the lock.
        drop_each(idle);
        done
    }

    /// Takes out, once in a while, the keys whose past no longer counts.
    fn look_through(&self, state: &mut State<K>, now: u64) -> Vec<(K, Allowed)> {
        state.patience -= 1;
        if state.patience > 0 {
            return Vec::new();
        }
        let idle = state.keys.sift(|allowed| {
            allowed.not_before.max(allowed.last) > now || !allowed.bucket.is_full(self.per_key, now)
        });
        state.patience = state.keys.len().max(FEW);
        idle
    }
}

impl<K> fmt::Debug for Limiter<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Limiter")
            .field("per_key", &self.per_key)
            .field("overall", &self.overall)
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}
