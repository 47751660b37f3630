//! What running work sees of its dispatcher.

use std::fmt;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use schedgroup::JobContext;
use schedgroup::flow::Verdict;
use tokio::time::Instant;

use super::error::Closed;
use super::shared::{New, Pusher, Shared};
use crate::lanes::{Item, Key};
use crate::retry::{Failure, GaveUp, Policy, Reason, Tries};
use crate::time::later;

/// The context of a running piece of work: its key, its instant, and methods to retry it or to push more work.
///
/// The methods may be called while the group or the dispatcher drains, and never wait for a permit of the
/// [bound](crate::Builder::bound).
///
/// # Examples
///
/// ```
/// use rate_limited_retries::{Dispatcher, Rate};
/// use schedgroup::Group;
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let group = Group::new();
/// let dispatcher = Dispatcher::builder().per_key(Rate::per_second(2)).run(
///     &group,
///     |depth: u32, context| async move {
///         println!("{} {depth}, attempt {}", context.key(), context.attempt());
///         if depth > 0 {
///             let _ = context.push("a.example", depth - 1);
///         }
///     },
/// );
/// dispatcher.push("a.example", 3).await?;
/// group.wait().await?; // covers what the work pushes
/// # Ok(())
/// # }
/// ```
pub struct Context<K, T> {
    pub(super) shared: Arc<Shared<K, T>>,
    pub(super) key: Arc<K>,
    pub(super) at: u64,
    pub(super) started: u64,
    pub(super) cost: u32,
    pub(super) tries: Option<Box<Tries>>,
    pub(super) job: JobContext,
}

impl<K, T> Context<K, T> {
    /// Returns the key of this work.
    ///
    /// # Examples
    ///
    /// ```
    /// # use rate_limited_retries::Dispatcher;
    /// # use schedgroup::Group;
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let group = Group::new();
    /// let dispatcher = Dispatcher::builder().run(&group, |(), context| async move {
    ///     assert_eq!(*context.key(), "host");
    /// });
    /// dispatcher.push("host", ()).await?;
    /// # group.wait().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn key(&self) -> &K {
        &self.key
    }

    /// Returns the exact instant at which the rates and the limits of its key allowed this work to start. If it waits for
    /// a slot of [`max_running`](crate::Builder::max_running) or of the group, it does so after this instant.
    ///
    /// It is up to 100 ms before the instant at which its queue or its slot was really free, if earlier starts of its key
    /// were late by as much. Work that is retried takes the instant of the work that it overtakes, also if that is before
    /// the retry.
    ///
    /// # Examples
    ///
    /// ```
    /// # use rate_limited_retries::{Dispatcher, Rate};
    /// # use schedgroup::Group;
    /// # use tokio::time::Instant;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let group = Group::new();
    /// let begin = Instant::now();
    /// let builder = Dispatcher::builder().per_key(Rate::per_second(3));
    /// let dispatcher = builder.run(&group, move |page: u32, context| async move {
    ///     assert_eq!(context.at(), begin + std::time::Duration::from_nanos([0, 333_333_334][page as usize]));
    /// });
    /// dispatcher.push("host", 0).await?;
    /// dispatcher.push("host", 1).await?;
    /// # group.wait().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn at(&self) -> Instant {
        self.shared.clock.instant(self.at)
    }

    /// Returns the instant at which this work started. If that was very late, the rates were charged at it.
    ///
    /// # Examples
    ///
    /// ```
    /// # use rate_limited_retries::Dispatcher;
    /// # use schedgroup::Group;
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let group = Group::new();
    /// let dispatcher = Dispatcher::builder().run(&group, |(), context| async move {
    ///     println!("{:?} late", context.started() - context.at());
    /// });
    /// dispatcher.push("host", ()).await?;
    /// # group.wait().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn started(&self) -> Instant {
        self.shared.clock.instant(self.started)
    }

    /// Returns the number of this attempt, which is 1 for the first one.
    ///
    /// # Examples
    ///
    /// ```
    /// # use rate_limited_retries::Dispatcher;
    /// # use schedgroup::Group;
    /// # use tokio::time::Instant;
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let group = Group::new();
    /// let dispatcher = Dispatcher::builder().run(&group, |(), context| async move {
    ///     if context.attempt() < 3 {
    ///         let _ = context.again(Instant::now(), ());
    ///     }
    /// });
    /// dispatcher.push("host", ()).await?;
    /// # group.wait().await?;
    /// # assert_eq!(dispatcher.stats().started, 3);
    /// # Ok(())
    /// # }
    /// ```
    pub fn attempt(&self) -> u32 {
        let before = self.tries.as_ref().map_or(0, |tries| tries.attempts);
        before.saturating_add(1)
    }

    /// Returns the cost of this work.
    ///
    /// # Examples
    ///
    /// ```
    /// # use rate_limited_retries::Dispatcher;
    /// # use schedgroup::Group;
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let group = Group::new();
    /// let dispatcher = Dispatcher::builder().run(&group, |(), context| async move {
    ///     assert_eq!(context.cost(), 10);
    /// });
    /// dispatcher.push_cost("host", 10, ()).await?;
    /// # group.wait().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn cost(&self) -> u32 {
        self.cost
    }

    /// Returns the context of the job that runs this work. Short pieces of work that start one after the other share a job.
    ///
    /// # Examples
    ///
    /// ```
    /// # use rate_limited_retries::Dispatcher;
    /// # use schedgroup::Group;
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let group = Group::new();
    /// let dispatcher = Dispatcher::builder().run(&group, |(), context| async move {
    ///     context.job().token().run_until_cancelled(async { println!("working") }).await;
    /// });
    /// dispatcher.push("host", ()).await?;
    /// # group.wait().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn job(&self) -> &JobContext {
        &self.job
    }
}

impl<K, T> Context<K, T>
where
    K: Eq + Hash + Send + Sync + 'static,
    T: Send + 'static,
{
    /// Queues more work of cost one.
    ///
    /// # Errors
    ///
    /// Returns [`Closed`], with the work, if the dispatcher was drained or its group has ended.
    ///
    /// # Examples
    ///
    /// ```
    /// # use rate_limited_retries::Dispatcher;
    /// # use schedgroup::Group;
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let group = Group::new();
    /// let dispatcher = Dispatcher::builder().run(&group, |link: u32, context| async move {
    ///     if link < 10 {
    ///         let _ = context.push("host", link + 1);
    ///     }
    /// });
    /// dispatcher.push("host", 1).await?;
    /// # group.wait().await?;
    /// # assert_eq!(dispatcher.stats().started, 10);
    /// # Ok(())
    /// # }
    /// ```
    pub fn push(&self, key: K, work: T) -> Result<(), Closed<T>> {
        self.push_cost(key, 1, work)
    }

    /// Queues more work of this cost; otherwise like [`push`](Context::push).
    ///
    /// # Errors
    ///
    /// Those of [`push`](Context::push).
    ///
    /// # Examples
    ///
    /// ```
    /// # use rate_limited_retries::Dispatcher;
    /// # use schedgroup::Group;
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let group = Group::new();
    /// let dispatcher = Dispatcher::builder().run(&group, |link: u32, context| async move {
    ///     if link < 10 {
    ///         let _ = context.push_cost("host", context.cost(), link + 1);
    ///     }
    /// });
    /// dispatcher.push_cost("host", 5, 1).await?;
    /// # group.wait().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn push_cost(&self, key: K, cost: u32, work: T) -> Result<(), Closed<T>> {
        let new = New {
            item: Item {
                work,
                cost,
                bounded: false,
            },
            again: None,
        };
        self.send(Key::Owned(key), new)
    }

    /// Puts work back at the head of this key's queue at the instant `at`. It keeps its cost.
    ///
    /// Until then, other work of the key may start. Of several pieces that were put back, the first goes first.
    ///
    /// # Errors
    ///
    /// Those of [`push`](Context::push).
    ///
    /// # Examples
    ///
    /// ```
    /// # use rate_limited_retries::Dispatcher;
    /// # use schedgroup::Group;
    /// # use std::time::Duration;
    /// # use tokio::time::Instant;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let group = Group::new();
    /// let dispatcher = Dispatcher::builder().run(&group, |page: &str, context| async move {
    ///     if context.attempt() == 1 {
    ///         let _ = context.again(Instant::now() + Duration::from_secs(1), page);
    ///     }
    /// });
    /// dispatcher.push("host", "/a").await?;
    /// # group.wait().await?;
    /// # assert_eq!(dispatcher.stats().returned, 1);
    /// # Ok(())
    /// # }
    /// ```
    pub fn again(mut self, at: Instant, work: T) -> Result<(), Closed<T>> {
        let tries = self.count_attempt();
        self.send_back(at, work, tries)
    }

    /// Puts failed work back at the head of this key's queue, if the policy says so. Returns the pause.
    ///
    /// The delays are those of the policy of the first retry, also if a later one is by another policy.
    ///
    /// A verdict of [`RetryAfter`](Verdict::RetryAfter) holds the whole key until then, like
    /// [`not_before`](Context::not_before), also if there is no other attempt. If the hold is lifted, the work starts, before
    /// other work of its key.
    ///
    /// # Errors
    ///
    /// Returns [`GaveUp`], with the work and the reason, if there is no other attempt.
    ///
    /// # Examples
    ///
    /// ```
    /// use backon::ConstantBuilder;
    /// use rate_limited_retries::{Dispatcher, Policy, Reason};
    /// # use schedgroup::Group;
    /// # async fn fetch(_: &str) -> Result<(), &'static str> { Err("busy") }
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let group = Group::new();
    /// let policy = Policy::new(ConstantBuilder::default().with_max_times(3));
    /// let dispatcher = Dispatcher::builder().run(&group, move |page: &str, context| {
    ///     let policy = policy.clone();
    ///     async move {
    ///         if let Err(failure) = policy.attempt(fetch(page)).await {
    ///             if let Err(gave_up) = context.retry(&policy, page, &failure) {
    ///                 assert_eq!((gave_up.attempts, gave_up.reason), (4, Reason::Delays));
    ///             }
    ///         }
    ///     }
    /// });
    /// dispatcher.push("host", "/a").await?;
    /// # group.wait().await?;
    /// # assert_eq!(dispatcher.stats().started, 4);
    /// # Ok(())
    /// # }
    /// ```
    pub fn retry<E>(
        mut self,
        policy: &Policy<E>,
        work: T,
        failure: &Failure<E>,
    ) -> Result<Duration, GaveUp<T>> {
        let mut tries = self.count_attempt();
        let attempts = tries.attempts;
        let gave_up = |work, reason| GaveUp {
            work,
            attempts,
            reason,
        };
        let verdict = policy.verdict(failure);
        if let Verdict::RetryAfter(pause) = verdict {
            // No other work of this key need try before then, whatever comes of this one.
            self.not_before(later(Instant::now(), pause));
        }
        let is_closed = self.shared.is_closed(&self.job);
        let pause = match policy.decide(&mut tries, verdict, is_closed) {
            Ok(pause) => pause,
            Err(reason) => return Err(gave_up(work, reason)),
        };
        let is_held = match verdict {
            _ if policy.in_order => true,
            Verdict::RetryAfter(_) => pause <= self.shared.max_hold,
            _ => false,
        };
        let mut at = later(Instant::now(), pause);
        if is_held {
            // It waits at the head of its queue, which is held until then. So it is still the first if the hold is
            // lifted.
            self.shared.hold(Key::Shared(Arc::clone(&self.key)), at);
            at = Instant::now();
        }
        match self.send_back(at, work, tries) {
            Ok(()) => {
                policy.call_notify(failure, pause);
                Ok(pause)
            }
            Err(Closed(work)) => Err(gave_up(work, Reason::Closed)),
        }
    }

    /// Delays the start of this key's work until `at`, like [`Dispatcher::not_before`](crate::Dispatcher::not_before).
    ///
    /// # Examples
    ///
    /// ```
    /// # use rate_limited_retries::Dispatcher;
    /// # use schedgroup::Group;
    /// # use std::time::Duration;
    /// # use tokio::time::Instant;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let group = Group::new();
    /// let dispatcher = Dispatcher::builder().in_flight(1).run(&group, |(), context| async move {
    ///     context.not_before(Instant::now() + Duration::from_secs(60));
    /// });
    /// dispatcher.push("host", ()).await?;
    /// dispatcher.push("host", ()).await?; // a minute later
    /// # group.wait().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn not_before(&self, at: Instant) {
        let key = Key::Shared(Arc::clone(&self.key));
        self.shared.not_before(key, at);
    }

    fn count_attempt(&mut self) -> Box<Tries> {
        let mut tries = self.tries.take().unwrap_or_default();
        tries.attempts = tries.attempts.saturating_add(1);
        tries
    }

    fn send_back(self, at: Instant, work: T, tries: Box<Tries>) -> Result<(), Closed<T>> {
        let new = New {
            item: Item {
                work,
                cost: self.cost,
                bounded: false,
            },
            again: Some((at, tries)),
        };
        let key = Key::Shared(Arc::clone(&self.key));
        self.send(key, new)
    }

    fn send(&self, key: Key<K>, new: New<T>) -> Result<(), Closed<T>> {
        let pusher = Pusher::Work(&self.job);
        let sent = self.shared.push(&pusher, key, new);
        sent.map_err(|Closed(new)| Closed(new.item.work))
    }
}

impl<K: fmt::Debug, T> fmt::Debug for Context<K, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("key", &self.key)
            .field("at", &self.at())
            .field("attempt", &self.attempt())
            .finish_non_exhaustive()
    }
}
