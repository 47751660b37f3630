//! The wall clock: when a time is due, and when to look again.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use crate::common::panic::Guarded;
use crate::common::time::later;

/// The time between two looks at a wall clock, unless it is set.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// A source of calendar time, and how often to look at it.
///
/// A wall clock can be set forward or back while a job waits for a time of it, and no timer reports that. So such a job
/// looks at the clock at least once a second, or as often as [`look_every`](WallClock::look_every) sets. After a step
/// forward the job is late by at most that interval; after a step back it keeps waiting. A job never starts while the
/// clock shows an earlier time than the job's.
///
/// # Examples
///
/// ```
/// # use std::time::{Duration, SystemTime};
/// # use schedgroup::Group;
/// # use schedgroup::periodic::WallClock;
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), schedgroup::WaitError> {
/// let group = Group::new();
/// let clock = WallClock::system();
/// let soon = SystemTime::now() + Duration::from_millis(5);
/// clock.schedule(&group, soon, |_| async { println!("now") });
///
/// let hour = Duration::from_secs(3600);
/// let hourly = group.every(hour).on_wall_clock(&clock, SystemTime::UNIX_EPOCH); // on the hour, UTC
/// let chimes = hourly.run(|_| async { println!("ding dong") });
/// chimes.cancel();
/// group.wait().await
/// # }
/// ```
#[derive(Clone)]
pub struct WallClock {
    now: Arc<dyn Fn() -> SystemTime + Send + Sync>,
    /// The longest time between two looks.
    pub(super) look_every: Duration,
}

impl WallClock {
    /// Returns the clock of the operating system.
    ///
    /// It keeps real time in a test on a paused clock, too: use [`new`](WallClock::new) there.
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::time::{Duration, SystemTime};
    /// use schedgroup::periodic::WallClock;
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), schedgroup::WaitError> {
    /// let group = schedgroup::Group::new();
    /// let (clock, day) = (WallClock::system(), Duration::from_secs(24 * 3600));
    /// # let begun = tokio::time::Instant::now();
    /// # let clock = WallClock::new(move || SystemTime::UNIX_EPOCH + begun.elapsed());
    /// let daily = group.every(day).on_wall_clock(&clock, SystemTime::UNIX_EPOCH);
    /// daily.run(|_| async { println!("midnight, UTC") });
    /// tokio::time::sleep(2 * day).await;
    /// group.wait().await
    /// # }
    /// ```
    pub fn system() -> WallClock {
        WallClock::new(SystemTime::now)
    }

    /// Creates a clock that reads what `now` returns, for tests and for other sources of time.
    ///
    /// In a test on a paused clock a job looks at it once per second of the test's time, so a test of many days sets
    /// [`look_every`](WallClock::look_every).
    ///
    /// # Examples
    ///
    /// In this example the wall clock advances together with the paused clock of a test:
    ///
    /// ```
    /// # use std::time::{Duration, SystemTime};
    /// # use schedgroup::periodic::WallClock;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), schedgroup::WaitError> {
    /// let (begun, start) = (tokio::time::Instant::now(), SystemTime::UNIX_EPOCH);
    /// let clock = WallClock::new(move || start + begun.elapsed());
    /// let group = schedgroup::Group::new();
    /// let hour = Duration::from_secs(3600);
    /// clock.schedule(&group, start + hour, |_| async { println!("01:00") });
    /// group.wait().await?;
    /// assert_eq!(begun.elapsed(), hour);
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias = "mock")]
    pub fn new(now: impl Fn() -> SystemTime + Send + Sync + 'static) -> WallClock {
        // Guarded, since it may be dropped together with the closure of a series: of their destructors only one may
        // panic.
        let now = Guarded::new(now);
        let read = move || {
            let now = &*now;
            now()
        };
        WallClock {
            now: Arc::new(read),
            look_every: LOOK_EVERY,
        }
    }

    /// Sets the longest time between two looks at the clock; a second by default.
    ///
    /// # Panics
    ///
    /// If it is zero.
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::time::{Duration, SystemTime};
    /// use schedgroup::periodic::WallClock;
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), schedgroup::WaitError> {
    /// let group = schedgroup::Group::new();
    /// let begun = tokio::time::Instant::now();
    /// let clock = WallClock::new(move || SystemTime::UNIX_EPOCH + begun.elapsed())
    ///     .look_every(Duration::from_secs(3600)); // it is never set, so a test of years has fewer looks
    /// let year = Duration::from_secs(365 * 24 * 3600);
    /// group.at_wall(&clock, SystemTime::UNIX_EPOCH + year, |_| async { println!("a year later") });
    /// group.wait().await
    /// # }
    /// ```
    #[track_caller]
    #[must_use = "the clock is returned"]
    pub fn look_every(mut self, interval: Duration) -> WallClock {
        assert!(
            !interval.is_zero(),
            "schedgroup: WallClock::look_every was called with zero"
        );
        self.look_every = interval;
        self
    }

    pub(super) fn now(&self) -> SystemTime {
        (self.now)()
    }
}

impl fmt::Debug for WallClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WallClock")
            .field("look_every", &self.look_every)
            .finish_non_exhaustive()
    }
}

/// The moment from which a timetable counts, on tokio's clock or on a wall clock.
#[derive(Clone, Debug)]
pub(super) enum Origin {
    Tokio(Instant),
    Wall(WallClock, SystemTime),
}

impl Origin {
    /// Reads the clock.
    pub(super) fn read(&self) -> Reading {
        let before = Instant::now();
        let (ahead, elapsed) = match self {
            Origin::Tokio(start) => (
                start.saturating_duration_since(before),
                before.saturating_duration_since(*start),
            ),
            Origin::Wall(clock, start) => match clock.now().duration_since(*start) {
                Ok(elapsed) => (Duration::ZERO, elapsed),
                Err(error) => (error.duration(), Duration::ZERO),
            },
        };
        Reading {
            ahead,
            elapsed,
            before,
            after: Instant::now(),
        }
    }

    /// Returns the time of the wall clock that is `offset` after the origin; `None` on tokio's clock.
    pub(super) fn wall_time(&self, offset: Duration) -> Option<SystemTime> {
        match self {
            Origin::Tokio(_) => None,
            Origin::Wall(_, start) => start.checked_add(offset),
        }
    }

    /// Returns when to read the clock again for the time that is `offset` after the origin; `None` if it has come.
    pub(super) fn look_for(&self, offset: Duration, now: Reading) -> Option<Instant> {
        let left = now.left(offset);
        (!left.is_zero()).then(|| match self {
            Origin::Tokio(_) => later(now.before, left),
            Origin::Wall(clock, _) => later(now.after, left.min(clock.look_every)),
        })
    }
}

/// A clock as it was read once, counted from an origin.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reading {
    /// How far ahead the origin lies; zero if it does not.
    ahead: Duration,
    /// How long ago it was; zero if it lies ahead.
    pub(super) elapsed: Duration,
    /// The instants before and after the reading, which takes time.
    before: Instant,
    after: Instant,
}

impl Reading {
    /// Returns how long it is until the time that is `offset` after the origin; zero if it has come. `Duration::MAX`
    /// never comes, however long ago the origin was.
    pub(super) fn left(&self, offset: Duration) -> Duration {
        if offset == Duration::MAX {
            return Duration::MAX;
        }
        let left = offset.saturating_sub(self.elapsed);
        left.saturating_add(self.ahead)
    }

    /// Returns the instant at which the clock read `offset` after the origin, if it was not set since.
    pub(super) fn instant_of(&self, offset: Duration) -> Instant {
        let ago = self.elapsed.saturating_sub(offset);
        self.before.checked_sub(ago).unwrap_or(self.before)
    }

    /// Returns how far the clock was set back, at the least, since an earlier reading.
    pub(super) fn set_back_since(&self, earlier: Reading) -> Duration {
        let passed = self.before.saturating_duration_since(earlier.after);
        let expected = earlier.elapsed.saturating_add(passed);
        let read = self.elapsed.saturating_add(earlier.ahead);
        expected.saturating_add(self.ahead).saturating_sub(read)
    }
}
