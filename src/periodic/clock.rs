//! When a time is due, and when to look again.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use crate::ground::timeline::later;

/// So often a wall clock is looked at, unless it says otherwise.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// A source of calendar time, and how often to look at it.
///
/// A wall clock can be set forward and back while a job waits for it, and no timer tells. So a job that
/// waits for a time of it looks again at least once a second, or as often as
/// [`look_every`](WallClock::look_every) says: after a step forward the job is late by at most that
/// long, and after a step back it goes on waiting. It is never early by the clock as it reads when the
/// job starts.
///
/// # Examples
///
/// ```
/// # use std::time::{Duration, SystemTime};
/// # use schedgroup::Group;
/// # use schedgroup::periodic::{WallClock, every};
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), schedgroup::WaitError> {
/// let group = Group::new();
/// let clock = WallClock::system();
/// let soon = SystemTime::now() + Duration::from_millis(5);
/// clock.schedule(&group.handle(), soon, async { println!("now") });
///
/// let hour = Duration::from_secs(3600);
/// let hourly = every(hour).on_wall_clock(&clock, SystemTime::UNIX_EPOCH); // on the hour, UTC
/// let chimes = hourly.run(&group.handle(), |_| async { println!("ding dong") });
/// chimes.cancel();
/// group.wait().await
/// # }
/// ```
#[derive(Clone)]
pub struct WallClock {
    now: Arc<dyn Fn() -> SystemTime + Send + Sync>,
    look_every: Duration,
}

impl WallClock {
    /// The clock of the operating system.
    pub fn system() -> WallClock {
        WallClock::new(SystemTime::now)
    }

    /// A clock that reads what `now` says, for tests and for other sources of time.
    pub fn new(now: impl Fn() -> SystemTime + Send + Sync + 'static) -> WallClock {
        WallClock {
            now: Arc::new(now),
            look_every: LOOK_EVERY,
        }
    }

    /// The longest time between two looks; a second by default.
    ///
    /// # Panics
    ///
    /// If it is zero.
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
}

impl fmt::Debug for WallClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WallClock")
            .field("look_every", &self.look_every)
            .finish_non_exhaustive()
    }
}

/// A moment from which a timetable counts, on one clock or the other.
#[derive(Clone, Debug)]
pub(super) enum Origin {
    Tokio(Instant),
    Wall(WallClock, SystemTime),
}

impl Origin {
    /// How long ago it was; zero if it lies ahead.
    pub(super) fn elapsed(&self) -> Duration {
        match self {
            Origin::Tokio(start) => start.elapsed(),
            Origin::Wall(clock, start) => {
                let now = (clock.now)();
                now.duration_since(*start).unwrap_or(Duration::ZERO)
            }
        }
    }

    /// When to look for the time that is `offset` later; `None` if it has come.
    pub(super) fn look_for(&self, offset: Duration) -> Option<Instant> {
        let now = Instant::now();
        match self {
            Origin::Tokio(start) => {
                let due = later(*start, offset);
                (due > now).then_some(due)
            }
            Origin::Wall(clock, start) => {
                let left = match start.checked_add(offset) {
                    Some(due) => due.duration_since((clock.now)()).unwrap_or(Duration::ZERO),
                    None => Duration::MAX,
                };
                (!left.is_zero()).then(|| later(now, left.min(clock.look_every)))
            }
        }
    }

    /// How late it is for the time that is `offset` later.
    pub(super) fn lateness(&self, offset: Duration) -> Duration {
        self.elapsed().saturating_sub(offset)
    }
}
