//! A series of ticks with a period: its builder, and how it runs.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::clock::{Origin, Reading, WallClock};
use super::handle::TimedHandle;
use super::on_panic::OnPanic;
use super::table::{MissedTicks, Position, Timetable};
use super::tick::Tick;
use crate::common::panic::{Guarded, catch};
use crate::{Handle, JobContext, Next};

/// The settings of a series of ticks, which starts with [`run`](Every::run); created by
/// [`Group::every`](crate::Group::every).
///
/// # Examples
///
/// ```
/// # use std::time::Duration;
/// # use schedgroup::Group;
/// # use schedgroup::periodic::MissedTicks;
/// # use tokio::time::Instant;
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), schedgroup::WaitError> {
/// let group = Group::new();
/// let second = Duration::from_secs(1);
/// let polls = group
///     .every(10 * second)
///     .starting_at(Instant::now() + second)
///     .missed(MissedTicks::Delay)
///     .run(|tick| async move {
///         println!("poll {}, {:?} late", tick.number(), tick.lateness());
///     });
/// tokio::time::sleep(15 * second).await; // poll 0, poll 1
/// assert!(polls.cancel());
/// group.wait().await
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use = "a series does not start until `run` is called"]
pub struct Every<'a> {
    group: &'a Handle,
    table: Timetable,
    origin: Option<Origin>,
    on_panic: OnPanic,
}

impl<'a> Every<'a> {
    #[track_caller]
    pub(super) fn new(group: &'a Handle, period: Duration) -> Every<'a> {
        assert!(
            !period.is_zero(),
            "schedgroup: every was called with a period of zero"
        );
        Every {
            group,
            table: Timetable {
                period,
                missed: MissedTicks::default(),
            },
            origin: None,
            on_panic: OnPanic::default(),
        }
    }

    /// Sets the instant of tick 0; by default the instant at which [`run`](Every::run) is called.
    ///
    /// If it has passed when `run` is called, the series begins with the first tick that has not passed. It replaces an
    /// earlier [`on_wall_clock`](Every::on_wall_clock).
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use tokio::time::Instant;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), schedgroup::WaitError> {
    /// let group = schedgroup::Group::new();
    /// let (minute, start) = (Duration::from_secs(60), Instant::now());
    /// group.every(minute).starting_at(start + minute / 2).run(move |tick| async move {
    ///     println!("{:?}: tick {}", start.elapsed(), tick.number()); // 30s: tick 0, 90s: tick 1
    /// });
    /// tokio::time::sleep(2 * minute).await;
    /// group.wait().await
    /// # }
    /// ```
    #[doc(alias = "interval_at")]
    pub fn starting_at(mut self, start: Instant) -> Every<'a> {
        self.origin = Some(Origin::Tokio(start));
        self
    }

    /// Makes the series follow a wall clock, and sets the time of tick 0; tick k is due k periods later by that clock.
    ///
    /// A start in the past aligns the series: with a period of an hour, a start at `SystemTime::UNIX_EPOCH` makes a
    /// tick at every full hour, UTC. [`Tick::number`] counts from that start, so the numbers are then large.
    ///
    /// If the clock is set forward over several ticks, the first of them runs when the step is noticed and the others
    /// are missed; with [`Burst`](MissedTicks::Burst) the last of them run. If the clock is set back by up to a period,
    /// no tick runs twice: the series goes on where it was, and its next tick runs when the clock shows that tick's
    /// time. If it is set back by more than a period, at once or in several steps between two ticks, the series starts
    /// anew from the time that the clock shows now, and the times that come a second time have their ticks a second
    /// time. So a clock that was far ahead for a moment does not silence a series; but no tick comes before `start`, so
    /// a start that was read from such a clock is waited for.
    ///
    /// It replaces an earlier [`starting_at`](Every::starting_at).
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::time::{Duration, SystemTime};
    /// # use schedgroup::periodic::WallClock;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), schedgroup::WaitError> {
    /// let group = schedgroup::Group::new();
    /// let (clock, hour) = (WallClock::system(), Duration::from_secs(3600));
    /// # let begun = tokio::time::Instant::now();
    /// # let clock = WallClock::new(move || SystemTime::UNIX_EPOCH + begun.elapsed());
    /// group
    ///     .every(hour)
    ///     .on_wall_clock(&clock, SystemTime::UNIX_EPOCH + hour / 4)
    ///     .run(|_| async { println!("a quarter past the hour, UTC") });
    /// tokio::time::sleep(3 * hour).await; // three times
    /// group.wait().await
    /// # }
    /// ```
    pub fn on_wall_clock(mut self, clock: &WallClock, start: SystemTime) -> Every<'a> {
        self.origin = Some(Origin::Wall(clock.clone(), start));
        self
    }

    /// Sets how missed ticks are handled; [`Skip`](MissedTicks::Skip) by default.
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::time::Duration;
    /// use schedgroup::periodic::MissedTicks;
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), schedgroup::WaitError> {
    /// let group = schedgroup::Group::new();
    /// let second = Duration::from_secs(1);
    /// group.every(second).missed(MissedTicks::Delay).run(move |tick| async move {
    ///     if tick.number() == 0 {
    ///         tokio::time::sleep(second + second / 2).await;
    ///     }
    ///     println!("tick {}", tick.number());
    /// });
    /// tokio::time::sleep(3 * second).await; // tick 0, and half a second late: tick 1, tick 2
    /// group.wait().await
    /// # }
    /// ```
    pub fn missed(mut self, missed: MissedTicks) -> Every<'a> {
        self.table.missed = missed;
        self
    }

    /// Sets what happens to the series when a run panics; [`End`](OnPanic::End) by default. A panic of its clock always
    /// ends the series.
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::time::Duration;
    /// use schedgroup::periodic::OnPanic;
    /// use schedgroup::{Group, WaitError};
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() {
    /// let group = Group::new();
    /// let second = Duration::from_secs(1);
    /// let polls = group.every(second).on_panic(OnPanic::Continue).run(|tick| async move {
    ///     assert_ne!(tick.number(), 1, "the second tick");
    /// });
    /// tokio::time::sleep(3 * second).await;
    /// assert!(!polls.is_finished());
    /// assert!(matches!(group.wait().await, Err(WaitError::Panicked(_))));
    /// # }
    /// ```
    pub fn on_panic(mut self, on_panic: OnPanic) -> Every<'a> {
        self.on_panic = on_panic;
        self
    }

    /// Runs `work` for each tick, until the series is cancelled, a run panics, or the group ends.
    ///
    /// A run starts at its tick's time or after it, and never before the previous run has ended.
    ///
    /// Once `wait`, `drain` or `shutdown` was called no further tick starts, and a run in progress finishes. A series
    /// that is begun after that through a handle or a job's context, or in a group that was cancelled, is dropped, and
    /// the returned handle is a finished one.
    ///
    /// # Panics
    ///
    /// If it was created by a method of the [`Group`](crate::Group) itself, and `wait`, `drain` or `shutdown` was
    /// called. A panic of its wall clock, which is read here for the first time, is passed on.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::sync::Arc;
    /// # use std::time::Duration;
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), schedgroup::WaitError> {
    /// let group = schedgroup::Group::new();
    /// let (connections, second) = (Arc::new(()), Duration::from_secs(1));
    /// let pings = group.every(second).run(move |tick| {
    ///     let connections = Arc::clone(&connections); // one for each run
    ///     async move { println!("ping {} to {connections:?}", tick.number()) }
    /// });
    /// tokio::time::sleep(3 * second).await;
    /// assert!(pings.cancel());
    /// group.wait().await
    /// # }
    /// ```
    #[track_caller]
    pub fn run<F, Fut>(self, work: F) -> TimedHandle
    where
        F: FnMut(Tick) -> Fut + Send + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        // Guarded while a clock of the user is read.
        let work = Guarded::new(work);
        // Without a start, tick 0 is due now. The reading below comes some nanoseconds later.
        let is_due = self.origin.is_none();
        let origin = self.origin.unwrap_or_else(|| Origin::Tokio(Instant::now()));
        let now = origin.read();
        let elapsed = if is_due { Duration::ZERO } else { now.elapsed };
        let progress = Mutex::new(Progress {
            position: self.table.first(elapsed),
            read: now,
            runs: 0,
        });
        let on_panic = self.on_panic;
        let series = Arc::new(Series {
            table: self.table,
            origin,
            progress,
        });
        let first = series.look().unwrap_or_else(Instant::now);
        let mut work = work.into_inner();
        let job = self.group.repeat_until_wait(first, move |context| {
            let series = Arc::clone(&series);
            let run = series.tick(&context).map(|tick| catch(|| work(tick)));
            async move {
                let has_ticked = run.is_some();
                if let Some(run) = run {
                    on_panic.run(run, &context).await;
                    series.advance();
                }
                let next = series.look().unwrap_or_else(Instant::now);
                // Asked last: to read the clock is user code, and the group may have been closed meanwhile.
                match has_ticked || !context.is_draining() {
                    true => Next::At(next),
                    false => Next::Done,
                }
            }
        });
        TimedHandle::series(job)
    }
}

/// A series that is running.
struct Series {
    table: Timetable,
    origin: Origin,
    /// Locked by `Every::run`, and then by the runs of the series, one at a time. The clock is a user's code, and read
    /// without the lock.
    progress: Mutex<Progress>,
}

/// The progress of a series.
struct Progress {
    /// The tick that runs or comes next.
    position: Position,
    /// The clock when it was last read, or before it was set back since the last tick.
    read: Reading,
    /// The number of runs that it has begun. Its job runs more often, to look at the clock.
    runs: u64,
}

impl Series {
    /// Notes this reading of the clock. Returns the progress, and whether the series was anchored anew.
    ///
    /// When a clock is set forward, the position moves forward with it. When it is set back by more than a period, the
    /// position is found anew: the series would be silent until the clock had come to where it was. Several steps back
    /// count as one.
    fn progress(&self, now: Reading) -> (MutexGuard<'_, Progress>, bool) {
        let mut progress = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
        let set_back = now.set_back_since(progress.read);
        let anew = set_back > self.table.period;
        if anew {
            progress.position = self.table.first(now.elapsed);
        }
        if anew || set_back.is_zero() {
            progress.read = now;
        }
        (progress, anew)
    }

    /// Returns when to look for the tick that comes next; `None` if it is due.
    fn look(&self) -> Option<Instant> {
        let now = self.origin.read();
        let due = self.table.due(self.progress(now).0.position);
        self.origin.look_for(due, now)
    }

    /// Returns the tick that is to run now, if one is due.
    fn tick(&self, context: &JobContext) -> Option<Tick> {
        if context.is_draining() {
            return None;
        }
        let now = self.origin.read();
        let (mut progress, _) = self.progress(now);
        if !now.left(self.table.due(progress.position)).is_zero() {
            return None;
        }
        let tick = self.table.begin(progress.position, now.elapsed);
        progress.position = self.table.begun(tick, now.elapsed);
        progress.read = now;
        progress.runs += 1;
        let due = self.table.due(tick);
        Some(Tick {
            number: tick.number,
            intended: now.instant_of(due),
            wall_time: self.origin.wall_time(due),
            lateness: now.elapsed.saturating_sub(due),
            context: context.clone().with_run(progress.runs),
        })
    }

    /// Moves on to the next tick, after a run.
    fn advance(&self) {
        let now = self.origin.read();
        let (mut progress, anew) = self.progress(now);
        if !anew {
            progress.position = self.table.after(progress.position, now.elapsed);
        }
    }
}
