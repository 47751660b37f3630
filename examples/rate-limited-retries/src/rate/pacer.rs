//! Queued work that a group runs at a rate.

use std::fmt;
use std::hash::Hash;
use std::pin::Pin;
use std::sync::Arc;

use schedgroup::Handle;
use tokio::time::Instant;

use super::allowance::Rate;
use super::lines::{Limits, Place};
use super::pump::{New, Shared, Turn};

/// A queue of work per key, each piece run as a job of a group as soon as the rate limits allow.
///
/// What waits is data in the queue of its key: no task, no timer, and no slot of `max_running`. When
/// it is due it becomes a job of the group like any other; the pacer itself is one job while
/// something waits. Three limits hold: a [`Rate`] for each key, one for all of them, and a maximum of runs per
/// key at a time.
///
/// Guarantees:
///
/// - Work of one key goes in the order in which it was pushed, what comes [`again`](Turn::again) first, each at the
///   exact instant of its rate, rounded up to the timer's millisecond.
/// - The rate over all is taken last, when the key itself may go. So no key waits for another's
///   instant that is further away: with costs of one, no key that may go waits while the rate over all has
///   something left. Those that wait for it go in the order of their own instants.
/// - After [`not_before`](Pacer::not_before) nothing of the key starts until then; what has started
///   continues. It only ever moves later.
/// - A key costs memory while it has work, or a past that still counts; after that it is forgotten in
///   passing.
///
/// Clones share the queues. Dropping a pacer does not affect queued work: it still runs. It keeps `wait`
/// waiting while it has work, and in the reports of its group all that waits in it is one job. Each push counts as one
/// cancelled job in the group's [`stats`](schedgroup::Group::stats): such a job tests whether the group is open.
///
/// For instants that your own code waits for, use [`Limiter`](super::Limiter).
///
/// # Examples
///
/// ```
/// # use std::time::Duration;
/// # use schedgroup::Group;
/// # use rate_limited_retries::rate::{Pacer, Rate};
/// # use tokio::time::Instant;
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), schedgroup::WaitError> {
/// let group = Group::new();
/// let pacer = Pacer::builder(Rate::per_second(2).burst(2))
///     .overall(Rate::per_second(100).burst(10))
///     .in_flight(8)
///     .run(&group, |page: u32, turn| async move {
///         println!("{} {page}", turn.key());
///     });
/// for page in 1..=3 {
///     pacer.push("a.example", page);
///     pacer.push("b.example", page);
/// }
/// pacer.not_before("b.example", Instant::now() + Duration::from_secs(60));
/// group.wait().await // a 1, a 2, after 500 ms a 3, and after a minute the others
/// # }
/// ```
pub struct Pacer<K, T> {
    shared: Arc<Shared<K, T>>,
}

/// Settings for a [`Pacer`]; nothing is started until [`run`](Builder::run).
#[derive(Clone, Debug)]
#[must_use = "a pacer does not start until `run` is called"]
pub struct Builder {
    limits: Limits,
}

impl Pacer<(), ()> {
    /// Returns settings for a pacer with this rate per key.
    pub fn builder(per_key: Rate) -> Builder {
        Builder {
            limits: Limits {
                per_key,
                overall: None,
                in_flight: u32::MAX,
            },
        }
    }
}

impl Builder {
    /// Sets a rate for all keys together.
    pub fn overall(mut self, rate: Rate) -> Builder {
        self.limits.overall = Some(rate);
        self
    }

    /// Sets how much work of one key runs at a time: at most `count`; more waits until a run has ended.
    ///
    /// # Panics
    ///
    /// If it is zero.
    #[track_caller]
    pub fn in_flight(mut self, count: u32) -> Builder {
        assert!(
            count > 0,
            "rate-limited-retries: in_flight must be at least 1: nothing could ever go"
        );
        self.limits.in_flight = count;
        self
    }

    /// Creates a pacer that runs `work` in this group for each piece that is pushed, when it is due.
    pub fn run<K, T, F, Fut>(self, group: &impl AsRef<Handle>, work: F) -> Pacer<K, T>
    where
        K: Eq + Hash + Send + Sync + 'static,
        T: Send + 'static,
        F: Fn(T, Turn<K, T>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let work = Box::new(
            move |item, turn| -> Pin<Box<dyn Future<Output = ()> + Send>> {
                Box::pin(work(item, turn))
            },
        );
        let shared = Shared::new(self.limits, group.as_ref().clone(), work);
        Pacer {
            shared: Arc::new(shared),
        }
    }
}

impl<K, T> Pacer<K, T>
where
    K: Eq + Hash + Send + Sync + 'static,
    T: Send + 'static,
{
    /// Queues work of cost one for its key.
    ///
    /// In a group that was closed by `wait` or `shutdown`, was cancelled or dropped, or whose runtime has ended,
    /// the work is dropped. Running work pushes more with [`Turn::push`], which is admitted while the group
    /// drains, as a pacer is that was made with the handle of a job's context.
    #[track_caller]
    pub fn push(&self, key: K, work: T) {
        self.push_costly(key, 1, work);
    }

    /// Queues work of this cost for its key; otherwise like [`push`](Pacer::push).
    ///
    /// A cost of zero takes nothing of the rates and is queued all the same. A cost above the
    /// burst goes when the whole burst is there; those after it wait until it is earned.
    #[track_caller]
    pub fn push_costly(&self, key: K, cost: u32, work: T) {
        let group = &self.shared.group;
        let place = Place::End;
        self.shared
            .push(group, Arc::new(key), New { place, cost, work });
    }

    /// Delays the start of this key's work until `at`, as a server asks for with `Retry-After`.
    ///
    /// Of several the latest holds, and no success takes it back. What has started continues; what waits
    /// for a slot in its group does not start.
    pub fn not_before(&self, key: K, at: Instant) {
        self.shared.not_before(Arc::new(key), at);
    }
}

impl<K: Eq, T> Pacer<K, T> {
    /// Returns the number of queued pieces of work.
    pub fn waiting(&self) -> usize {
        self.shared.lock().lines.waiting()
    }

    /// Returns the number of keys it remembers.
    pub fn keys(&self) -> usize {
        self.shared.lock().lines.len()
    }
}

impl<K, T> Clone for Pacer<K, T> {
    fn clone(&self) -> Pacer<K, T> {
        Pacer {
            shared: Arc::clone(&self.shared),
        }
    }
}

impl<K: Eq, T> fmt::Debug for Pacer<K, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pacer")
            .field("waiting", &self.waiting())
            .field("keys", &self.keys())
            .field("group", &self.shared.group)
            .finish_non_exhaustive()
    }
}
