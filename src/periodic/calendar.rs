//! Series at the times of a calendar.

use std::fmt;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::clock::WallClock;
use super::handle::TimedHandle;
use super::on_panic::OnPanic;
use super::tick::Tick;
use crate::common::panic::{Guarded, catch};
use crate::common::time::later;
use crate::{Handle, JobContext, Next};

/// Creates a series at the times of a calendar, which starts with [`run`](At::run). `next` is given a time, and returns
/// the time of the first tick after it, or `None` to end the series.
///
/// It is for times that no fixed period describes: daily at 02:30 in a time zone, the last Friday of the month, a cron
/// expression. The crate has no calendar of its own; `next` can ask a crate such as `croner` or `jiff`. With `croner`
/// and `chrono`, `"30 2 * * *".parse::<Cron>()` is daily at 02:30, and `next` is
/// `move |now| cron.find_next_occurrence(&DateTime::<Local>::from(now), false).ok().map(SystemTime::from)`. The
/// example `daily` of the repository is a zone with daylight saving time.
///
/// # Examples
///
/// In this example a job runs daily at 02:30, two hours ahead of UTC:
///
/// ```
/// use std::time::{Duration, SystemTime, UNIX_EPOCH};
/// use schedgroup::{Group, periodic};
///
/// const HOUR: u64 = 3_600;
///
/// fn next_half_past_two(now: SystemTime) -> Option<SystemTime> {
///     let local = now.duration_since(UNIX_EPOCH).ok()?.as_secs() + 2 * HOUR;
///     let today = local - local % (24 * HOUR) + 2 * HOUR + HOUR / 2;
///     let next = if today > local { today } else { today + 24 * HOUR };
///     Some(UNIX_EPOCH + Duration::from_secs(next - 2 * HOUR))
/// }
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), schedgroup::WaitError> {
/// let group = Group::new();
/// # let begun = tokio::time::Instant::now();
/// # let clock = periodic::WallClock::new(move || UNIX_EPOCH + begun.elapsed()).look_every(Duration::from_secs(HOUR));
/// let backups = periodic::at(next_half_past_two);
/// # let backups = backups.on_wall_clock(&clock);
/// backups.run(&group, |tick| async move {
///     println!("backup {} at {:?}", tick.number(), tick.wall_time());
/// #   assert_eq!(tick.wall_time(), Some(UNIX_EPOCH + Duration::from_secs(tick.number() * 24 * HOUR + HOUR / 2)));
/// });
/// tokio::time::sleep(Duration::from_secs(50 * HOUR)).await; // backup 0, backup 1
/// # assert_eq!(group.jobs()[0].state, schedgroup::JobState::Pending);
/// group.wait().await // ends the series
/// # }
/// ```
#[doc(alias = "cron")]
pub fn at<F>(next: F) -> At<F>
where
    F: FnMut(SystemTime) -> Option<SystemTime> + Send + 'static,
{
    At {
        next,
        clock: WallClock::system(),
        on_panic: OnPanic::default(),
    }
}

/// The settings of a series at the times of a calendar, which starts with [`run`](At::run); created by [`at`].
///
/// # Examples
///
/// ```
/// # use std::time::Duration;
/// use schedgroup::periodic::{self, OnPanic, WallClock};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), schedgroup::WaitError> {
/// let group = schedgroup::Group::new();
/// let clock = WallClock::system().look_every(Duration::from_millis(10));
/// let series = periodic::at(|now| Some(now + Duration::from_secs(3600)))
///     .on_wall_clock(&clock)
///     .on_panic(OnPanic::Continue)
///     .run(&group, |_| async { println!("an hour later") });
/// assert!(series.cancel());
/// group.wait().await
/// # }
/// ```
#[must_use = "a series does not start until `run` is called"]
pub struct At<F> {
    next: F,
    clock: WallClock,
    on_panic: OnPanic,
}

impl<F> At<F>
where
    F: FnMut(SystemTime) -> Option<SystemTime> + Send + 'static,
{
    /// Sets the clock that the series follows; by default that of the operating system.
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::time::{Duration, SystemTime};
    /// use schedgroup::periodic::{self, WallClock};
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), schedgroup::WaitError> {
    /// let group = schedgroup::Group::new();
    /// let begun = tokio::time::Instant::now();
    /// let clock = WallClock::new(move || SystemTime::UNIX_EPOCH + begun.elapsed());
    /// let minute = Duration::from_secs(60);
    /// periodic::at(move |now| Some(now + minute))
    ///     .on_wall_clock(&clock)
    ///     .run(&group, |tick| async move { println!("{:?}", tick.wall_time()) });
    /// tokio::time::sleep(3 * minute).await;
    /// group.wait().await
    /// # }
    /// ```
    pub fn on_wall_clock(mut self, clock: &WallClock) -> At<F> {
        self.clock = clock.clone();
        self
    }

    /// Sets what happens to the series when a run panics; [`End`](OnPanic::End) by default. A panic of its clock, or of
    /// the closure that returns the times, always ends the series.
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::time::{Duration, SystemTime};
    /// use schedgroup::periodic::{self, OnPanic, WallClock};
    /// use schedgroup::{Group, WaitError};
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() {
    /// let group = Group::new();
    /// let begun = tokio::time::Instant::now();
    /// let clock = WallClock::new(move || SystemTime::UNIX_EPOCH + begun.elapsed());
    /// let minute = Duration::from_secs(60);
    /// periodic::at(move |now| Some(now + minute))
    ///     .on_wall_clock(&clock)
    ///     .on_panic(OnPanic::Continue)
    ///     .run(&group, |tick| async move { assert_ne!(tick.number(), 1, "the second tick") });
    /// tokio::time::sleep(4 * minute).await;
    /// assert!(matches!(group.wait().await, Err(WaitError::Panicked(_)))); // after ticks 2 and 3
    /// # }
    /// ```
    pub fn on_panic(mut self, on_panic: OnPanic) -> At<F> {
        self.on_panic = on_panic;
        self
    }

    /// Runs `work` for each tick, until there is no next time, the series is cancelled, a run panics, or the group
    /// ends. A group that is in an `Arc` is passed as `&*group`.
    ///
    /// The closure that returns the times is called by the series' job: at the beginning, after each run, and when the
    /// clock was set forward or back by more than the time between two [looks](WallClock::look_every). It is given the
    /// time that the clock shows then, so ticks whose time passes during a run are skipped.
    ///
    /// A run starts at its tick's time or after it. If the clock is set forward over several ticks, the first of them
    /// runs as soon as the step is noticed. If the closure returns a time that is not later than that of the last tick,
    /// the tick runs at the next look at the clock, or when the clock shows that time if that is later. So a closure
    /// that always returns the same time does not keep a thread busy.
    ///
    /// If the clock is set back just after the time of a tick, by however little, the closure is given a time before that
    /// tick and may return the tick's time once more. The tick then runs a second time. Work that must not do so keeps
    /// the [`wall_time`](Tick::wall_time) of its last tick, and returns at once if that of a tick is not later.
    ///
    /// Once `wait`, `drain` or `shutdown` was called no further tick starts, and a run in progress finishes. A series
    /// that is begun after that is dropped, and the returned handle is a finished one, even if a job begins it through
    /// its context.
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::time::{Duration, SystemTime};
    /// use schedgroup::Group;
    /// use schedgroup::periodic::{self, WallClock};
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), schedgroup::WaitError> {
    /// let group = Group::new();
    /// let begun = tokio::time::Instant::now();
    /// let clock = WallClock::new(move || SystemTime::UNIX_EPOCH + begun.elapsed());
    /// let (minute, end) = (Duration::from_secs(60), SystemTime::UNIX_EPOCH + Duration::from_secs(200));
    /// let series = periodic::at(move |now| Some(now + minute).filter(|next| *next < end))
    ///     .on_wall_clock(&clock)
    ///     .run(&group, |tick| async move { println!("minute {}", tick.number() + 1) }); // 1, 2, 3
    /// tokio::time::sleep(5 * minute).await;
    /// assert!(series.is_finished(), "there was no next time");
    /// group.wait().await
    /// # }
    /// ```
    #[track_caller]
    pub fn run<W, Fut>(self, group: &impl AsRef<Handle>, mut work: W) -> TimedHandle
    where
        W: FnMut(Tick) -> Fut + Send + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let on_panic = self.on_panic;
        let mut series = Series {
            // Guarded, since it is dropped together with `work`: of their destructors only one may panic.
            next: Guarded::new(self.next),
            clock: self.clock,
            coming: None,
            last: None,
            read: None,
            ticks: 0,
        };
        let job = group
            .as_ref()
            .repeat_until_wait(Instant::now(), move |context| {
                let look = series.look(&context).map(|tick| catch(|| work(tick)));
                async move {
                    match look {
                        Ok(run) => {
                            on_panic.run(run, &context).await;
                            Next::At(Instant::now())
                        }
                        // The group may have been closed during the look.
                        Err(_) if context.is_draining() => Next::Done,
                        Err(next) => next,
                    }
                }
            });
        TimedHandle::series(job)
    }
}

impl<F> fmt::Debug for At<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("At")
            .field("clock", &self.clock)
            .field("on_panic", &self.on_panic)
            .finish_non_exhaustive()
    }
}

/// A series that is running. Only its own runs have it, one at a time.
struct Series<F> {
    next: Guarded<F>,
    clock: WallClock,
    /// The tick that comes next, once it was asked for.
    coming: Option<Coming>,
    /// The time of the last tick.
    last: Option<SystemTime>,
    /// The clock when it was last read.
    read: Option<WallReading>,
    ticks: u64,
}

#[derive(Clone, Copy)]
struct Coming {
    at: SystemTime,
    /// Not before this instant, also if the clock says so.
    not_before: Instant,
}

impl<F: FnMut(SystemTime) -> Option<SystemTime>> Series<F> {
    /// Returns the tick that is to run now; `Err` says when to look again, or that the series has ended.
    fn look(&mut self, context: &JobContext) -> Result<Tick, Next> {
        if context.is_draining() {
            return Err(Next::Done);
        }
        let now = WallReading::of(&self.clock);
        let look_every = self.clock.look_every;
        let before = self.read.replace(now);
        let stepped = before.is_some_and(|before| now.step_since(before) > look_every);
        // A time that has come has its tick, also if the clock was set forward over it.
        let waits = self
            .coming
            .filter(|coming| coming.at <= now.wall || !stepped);
        let coming = match waits {
            Some(coming) => coming,
            None => {
                let Some(at) = (self.next)(now.wall) else {
                    return Err(Next::Done);
                };
                let again = self.last.is_some_and(|last| at <= last);
                let pause = if again { look_every } else { Duration::ZERO };
                Coming {
                    at,
                    not_before: later(now.after, pause),
                }
            }
        };
        self.coming = Some(coming);
        let left = coming.at.duration_since(now.wall).unwrap_or_default();
        let look = later(now.after, left.min(look_every)).max(coming.not_before);
        if !left.is_zero() || coming.not_before > now.after {
            return Err(Next::At(look));
        }
        let number = self.ticks;
        self.ticks += 1;
        self.coming = None;
        self.last = Some(coming.at);
        let lateness = now.wall.duration_since(coming.at).unwrap_or_default();
        Ok(Tick {
            number,
            intended: now.before.checked_sub(lateness).unwrap_or(now.before),
            wall_time: Some(coming.at),
            lateness,
            context: context.clone().with_run(self.ticks),
        })
    }
}

/// A wall clock as it was read once, between two instants: to read it takes time of its own.
#[derive(Clone, Copy)]
struct WallReading {
    wall: SystemTime,
    before: Instant,
    after: Instant,
}

impl WallReading {
    fn of(clock: &WallClock) -> WallReading {
        let before = Instant::now();
        let wall = clock.now();
        let after = Instant::now();
        WallReading {
            wall,
            before,
            after,
        }
    }

    /// How far the clock was set, forward or back, since an earlier reading, at the least.
    fn step_since(&self, earlier: WallReading) -> Duration {
        let least = self.before.saturating_duration_since(earlier.after);
        let most = self.after.saturating_duration_since(earlier.before);
        match self.wall.duration_since(earlier.wall) {
            Ok(read) if read < least => least - read,
            Ok(read) => read.saturating_sub(most),
            Err(back) => back.duration().saturating_add(least),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each reading took two milliseconds, and ten lie between them: so between ten and fourteen have passed.
    #[tokio::test(start_paused = true)]
    async fn a_step_is_what_the_time_between_two_readings_cannot_explain() {
        let ms = Duration::from_millis;
        let (begun, wall) = (Instant::now(), SystemTime::UNIX_EPOCH + ms(1_000));
        let reading = |at: Duration, wall: SystemTime| WallReading {
            wall,
            before: begun + at,
            after: begun + at + ms(2),
        };
        let first = reading(ms(0), wall);
        let step = |wall| reading(ms(12), wall).step_since(first);
        for (passed, stepped) in [(10, 0), (14, 0), (15, 1), (3_614, 3_600), (9, 1), (0, 10)] {
            assert_eq!(step(wall + ms(passed)), ms(stepped), "{passed} ms passed");
        }
        assert_eq!(step(wall - ms(1)), ms(11), "back");
    }
}
