//! The builder of a series, and its ticks.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::clock::{Origin, WallClock};
use super::handle::TimedHandle;
use super::table::{MissedTicks, Position, Timetable};
use crate::{Handle, JobContext, Next};

/// A series of runs, one each `period`; nothing happens until [`run`](Every::run).
///
/// # Panics
///
/// If the period is zero.
///
/// # Examples
///
/// ```
/// # use std::time::Duration;
/// # use schedgroup::Group;
/// # use schedgroup::periodic::{MissedTicks, every};
/// # use tokio::time::Instant;
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), schedgroup::WaitError> {
/// let group = Group::new();
/// let second = Duration::from_secs(1);
/// let polls = every(10 * second)
///     .starting_at(Instant::now() + second)
///     .missed(MissedTicks::Delay)
///     .run(&group.handle(), |tick| async move {
///         println!("poll {}, {:?} late", tick.number(), tick.lateness());
///     });
/// tokio::time::sleep(15 * second).await; // poll 0, poll 1
/// assert!(polls.cancel());
/// group.wait().await
/// # }
/// ```
#[track_caller]
pub fn every(period: Duration) -> Every {
    assert!(
        !period.is_zero(),
        "schedgroup: every was called with a period of zero"
    );
    Every {
        table: Timetable {
            period,
            missed: MissedTicks::default(),
        },
        origin: None,
    }
}

/// A series that is not running yet; see [`every`].
#[derive(Clone, Debug)]
#[must_use = "a series does not start until `run` is called"]
pub struct Every {
    table: Timetable,
    origin: Option<Origin>,
}

impl Every {
    /// Tick 0 is meant for this instant; without it, for that of the call of [`run`](Every::run).
    ///
    /// If it has passed by then, the series begins with the first tick that has not. It takes the place
    /// of an [`on_wall_clock`](Every::on_wall_clock) before it.
    pub fn starting_at(mut self, start: Instant) -> Every {
        self.origin = Some(Origin::Tokio(start));
        self
    }

    /// Tick 0 is meant for this time of the wall clock, and tick k for k periods later by that clock.
    ///
    /// A start in the past aligns the series: a period of an hour from `SystemTime::UNIX_EPOCH` means
    /// every full hour, UTC. When the clock steps forward over several ticks, the first of them runs
    /// when the step is seen, and the others are missed. When it steps back no tick runs again, nor one
    /// that was missed: nothing runs until the clock has come to where it was. It takes the place of a
    /// [`starting_at`](Every::starting_at) before it.
    pub fn on_wall_clock(mut self, clock: &WallClock, start: SystemTime) -> Every {
        self.origin = Some(Origin::Wall(clock.clone(), start));
        self
    }

    /// What becomes of ticks whose time passes during a run; [`Skip`](MissedTicks::Skip) by default.
    pub fn missed(mut self, missed: MissedTicks) -> Every {
        self.table.missed = missed;
        self
    }

    /// Runs `work` for each tick, until the series is cancelled, a run panics, or the group goes down.
    ///
    /// A run starts at its tick's time or after it, and never before the one before it has ended.
    ///
    /// When `wait` was called no further tick starts, and a run in progress finishes. A series that is begun
    /// after that, or after `shutdown`, is dropped and the returned handle a finished one; through a job's context
    /// too.
    #[track_caller]
    pub fn run<F, Fut>(self, group: &Handle, mut work: F) -> TimedHandle
    where
        F: FnMut(Tick) -> Fut + Send + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let origin = self.origin.unwrap_or_else(|| Origin::Tokio(Instant::now()));
        let position = Mutex::new(self.table.first(origin.elapsed()));
        let series = Arc::new(Series {
            table: self.table,
            origin,
            position,
        });
        let first = series.look().unwrap_or_else(Instant::now);
        let job = group.repeat_until_wait(first, move |context| {
            let series = Arc::clone(&series);
            let run = series.tick(&context).map(&mut work);
            async move {
                if let Some(run) = run {
                    run.await;
                    series.advance();
                }
                Next::At(series.look().unwrap_or_else(Instant::now))
            }
        });
        TimedHandle::series(job)
    }
}

/// A series that is running.
struct Series {
    table: Timetable,
    origin: Origin,
    /// The tick that runs or comes next. Only the series itself locks it, one run at a time.
    position: Mutex<Position>,
}

impl Series {
    fn position(&self) -> MutexGuard<'_, Position> {
        self.position.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// When to look for the tick that comes next; `None` if it is due.
    fn look(&self) -> Option<Instant> {
        let due = self.table.due(*self.position());
        self.origin.look_for(due)
    }

    /// The tick that is to run now, if there is one.
    fn tick(&self, context: &JobContext) -> Option<Tick> {
        if context.is_draining() || self.look().is_some() {
            return None;
        }
        let position = *self.position();
        Some(Tick {
            number: position.number,
            lateness: self.origin.lateness(self.table.due(position)),
            context: context.clone(),
        })
    }

    /// A run has ended.
    fn advance(&self) {
        let now = self.origin.elapsed();
        let mut position = self.position();
        *position = self.table.after(*position, now);
    }
}

/// One tick of a series, for the run that is made for it.
#[derive(Clone, Debug)]
pub struct Tick {
    number: u64,
    lateness: Duration,
    context: JobContext,
}

impl Tick {
    /// Which tick it is: the one meant for the start plus so many periods.
    ///
    /// Missed ticks leave gaps in the numbers, unless they are made up for.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// How much later than its time it starts, by its own clock.
    pub fn lateness(&self) -> Duration {
        self.lateness
    }

    /// The run's view of its group: its token, and the verbs to schedule more.
    pub fn context(&self) -> &JobContext {
        &self.context
    }
}
