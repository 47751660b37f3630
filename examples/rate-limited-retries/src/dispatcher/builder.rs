//! Settings of a dispatcher.

use std::fmt;
use std::hash::Hash;
use std::marker::PhantomData;
use std::time::Duration;

use schedgroup::Handle;

use super::context::Context;
use super::handle::Dispatcher;
use super::shared::{Settings, Work};
use crate::lanes::Limits;
use crate::rate::Rate;

/// Settings for a [`Dispatcher`]; created by [`Dispatcher::builder`]. [`run`](Builder::run) starts the dispatcher.
///
/// | setting | without it |
/// |---|---|
/// | [`per_key`](Builder::per_key) | work of a key starts as soon as it is pushed |
/// | [`overall`](Builder::overall) | the rates of all keys add up |
/// | [`in_flight`](Builder::in_flight) | any number of one key runs at a time; with 1, each key is a serial queue |
/// | [`max_running`](Builder::max_running) | any number runs at a time overall |
/// | [`bound`](Builder::bound) | any number may be queued, and `push` never waits |
/// | [`max_hold`](Builder::max_hold) | `not_before` holds a key for at most an hour |
/// | [`slack`](Builder::slack) | starts that are less than a millisecond apart share a wake-up |
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
/// let dispatcher = Dispatcher::builder()
///     .per_key(Rate::per_second(2).burst(2))
///     .overall(Rate::per_second(100).burst(10))
///     .in_flight(8)
///     .max_running(64)
///     .bound(10_000)
///     .run(&group, |page: u32, context| async move {
///         println!("{} {page}", context.key());
///     });
/// dispatcher.push("a.example", 1).await?;
/// group.wait().await?;
/// # Ok(())
/// # }
/// ```
#[must_use = "a dispatcher does not start until `run` is called"]
pub struct Builder<K, T> {
    settings: Settings,
    of: PhantomData<fn(K, T)>,
}

impl<K, T> Builder<K, T> {
    pub(super) fn new() -> Builder<K, T> {
        Builder {
            settings: Settings {
                limits: Limits {
                    per_key: None,
                    overall: None,
                    in_flight: u32::MAX,
                    max_running: usize::MAX,
                },
                bound: None,
                max_hold: Duration::from_secs(3_600),
                slack: Duration::ZERO,
            },
            of: PhantomData,
        }
    }

    /// Sets a rate for each key.
    ///
    /// # Examples
    ///
    /// ```
    /// use rate_limited_retries::{Dispatcher, Rate};
    ///
    /// let builder = Dispatcher::<String, String>::builder().per_key(Rate::per_second(2));
    /// # drop(builder);
    /// ```
    pub fn per_key(mut self, rate: Rate) -> Builder<K, T> {
        self.settings.limits.per_key = Some(rate);
        self
    }

    /// Sets a rate for all keys together.
    ///
    /// If the costs of work differ, give the rate [per key](Builder::per_key) a burst: otherwise keys that wait for the
    /// overall rate lose some of their own. [`Rate::burst`] says how much.
    ///
    /// # Examples
    ///
    /// ```
    /// use rate_limited_retries::{Dispatcher, Rate};
    ///
    /// let builder = Dispatcher::<String, String>::builder().overall(Rate::per_second(100));
    /// # drop(builder);
    /// ```
    pub fn overall(mut self, rate: Rate) -> Builder<K, T> {
        self.settings.limits.overall = Some(rate);
        self
    }

    /// Lets at most `count` pieces of work of one key run at a time. Others wait until one has ended.
    ///
    /// With 1 and no rate a dispatcher is a serial queue per key.
    ///
    /// # Panics
    ///
    /// If `count` is zero.
    ///
    /// # Examples
    ///
    /// ```
    /// use rate_limited_retries::Dispatcher;
    ///
    /// let serial = Dispatcher::<String, String>::builder().in_flight(1);
    /// # drop(serial);
    /// ```
    #[track_caller]
    pub fn in_flight(mut self, count: u32) -> Builder<K, T> {
        assert!(
            count > 0,
            "rate-limited-retries: in_flight must be at least 1: nothing could ever start"
        );
        self.settings.limits.in_flight = count;
        self
    }

    /// Lets at most `count` pieces of work of all keys run at a time.
    ///
    /// # Panics
    ///
    /// If `count` is zero.
    ///
    /// # Examples
    ///
    /// ```
    /// use rate_limited_retries::Dispatcher;
    ///
    /// let builder = Dispatcher::<String, String>::builder().max_running(64);
    /// # drop(builder);
    /// ```
    #[track_caller]
    pub fn max_running(mut self, count: usize) -> Builder<K, T> {
        assert!(
            count > 0,
            "rate-limited-retries: max_running must be at least 1: nothing could ever start"
        );
        self.settings.limits.max_running = count;
        self
    }

    /// Lets at most `count` pieces of work be queued. Beyond that, [`push`](Dispatcher::push) waits for a permit, and
    /// [`try_push`](Dispatcher::try_push) returns `Full`.
    ///
    /// Permits are given in the order of the calls. Work that is retried, or that running work pushes, takes none, since
    /// running work that waits for a permit could wait for itself. So work that is retried is queued in addition to the
    /// bound.
    ///
    /// # Panics
    ///
    /// If `count` is zero.
    ///
    /// # Examples
    ///
    /// ```
    /// use rate_limited_retries::Dispatcher;
    ///
    /// let builder = Dispatcher::<String, String>::builder().bound(10_000);
    /// # drop(builder);
    /// ```
    #[track_caller]
    pub fn bound(mut self, count: usize) -> Builder<K, T> {
        assert!(
            count > 0,
            "rate-limited-retries: bound must be at least 1: nothing could ever be pushed"
        );
        self.settings.bound = Some(count);
        self
    }

    /// Sets the longest time for which `not_before` may hold a key, so that one wrong answer does not hold it for a year.
    ///
    /// # Examples
    ///
    /// ```
    /// use rate_limited_retries::Dispatcher;
    /// use std::time::Duration;
    ///
    /// let builder = Dispatcher::<String, String>::builder().max_hold(Duration::from_secs(600));
    /// # drop(builder);
    /// ```
    pub fn max_hold(mut self, hold: Duration) -> Builder<K, T> {
        self.settings.max_hold = hold;
        self
    }

    /// Sets how late work may start in order to share a wake-up with other work: up to 10 ms.
    ///
    /// With many slow keys, most of the CPU time is spent on wake-ups, one per millisecond or two. No capacity is lost,
    /// since starts are charged at their exact instants.
    ///
    /// # Panics
    ///
    /// If `slack` is more than 10 ms.
    ///
    /// # Examples
    ///
    /// ```
    /// use rate_limited_retries::{Dispatcher, Rate};
    /// use std::time::Duration;
    ///
    /// let builder = Dispatcher::<String, String>::builder()
    ///     .per_key(Rate::new(1, Duration::from_secs(10)))
    ///     .slack(Duration::from_millis(10));
    /// # drop(builder);
    /// ```
    #[track_caller]
    pub fn slack(mut self, slack: Duration) -> Builder<K, T> {
        assert!(
            slack <= Duration::from_millis(10),
            "rate-limited-retries: slack must be at most 10 ms: more would cost capacity"
        );
        self.settings.slack = slack;
        self
    }

    /// Creates a dispatcher. It calls `work` in this group for each piece of work that is pushed, as soon as the limits allow.
    ///
    /// If the closure calls a method of its key and the compiler asks for a type, name the types where the builder is
    /// created: `Dispatcher::<String, Page>::builder()`.
    ///
    /// # Examples
    ///
    /// ```
    /// use rate_limited_retries::Dispatcher;
    /// use schedgroup::Group;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let group = Group::new();
    /// let dispatcher = Dispatcher::builder()
    ///     .in_flight(1)
    ///     .run(&group, |line: &'static str, context| async move {
    ///         println!("{}: {line}", context.key());
    ///     });
    /// dispatcher.push("account 1", "credit").await?;
    /// dispatcher.push("account 1", "debit").await?;
    /// group.wait().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn run<F, Fut>(self, group: &impl AsRef<Handle>, work: F) -> Dispatcher<K, T>
    where
        K: Eq + Hash + Send + Sync + 'static,
        T: Send + 'static,
        F: Fn(T, Context<K, T>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let work = Box::new(move |item, context| -> Work { Box::pin(work(item, context)) });
        Dispatcher::new(self.settings, group.as_ref().clone(), work)
    }
}

impl<K, T> Clone for Builder<K, T> {
    fn clone(&self) -> Builder<K, T> {
        Builder {
            settings: self.settings,
            of: PhantomData,
        }
    }
}

impl<K, T> fmt::Debug for Builder<K, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Builder").field(&self.settings).finish()
    }
}
