//! One tick, as its run sees it.

use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use crate::JobContext;

/// One tick of a series, passed to the run that is made for it.
///
/// # Examples
///
/// ```
/// # use std::time::Duration;
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), schedgroup::WaitError> {
/// let group = schedgroup::Group::new();
/// group.every(Duration::from_secs(1)).run(|tick| async move {
///     println!("tick {}, {:?} late", tick.number(), tick.lateness());
///     tick.context().delay(Duration::from_millis(500), async { println!("half a second later") });
/// });
/// tokio::time::sleep(Duration::from_secs(3)).await;
/// group.wait().await
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Tick {
    pub(super) number: u64,
    pub(super) intended: Instant,
    pub(super) wall_time: Option<SystemTime>,
    pub(super) lateness: Duration,
    pub(super) context: JobContext,
}

impl Tick {
    /// Returns the number of the tick. Tick k of [`every`](crate::Group::every) is due k periods after the start; the
    /// ticks of [`at`](super::at) are counted from zero.
    ///
    /// Missed ticks leave gaps in the numbers, unless they run later. Numbers go back only when a
    /// wall clock was set back by more than a period.
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::time::Duration;
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), schedgroup::WaitError> {
    /// let group = schedgroup::Group::new();
    /// let second = Duration::from_secs(1);
    /// group.every(second).run(move |tick| async move {
    ///     println!("tick {}", tick.number()); // tick 0, tick 3: those missed meanwhile are skipped
    ///     tokio::time::sleep(2 * second + second / 2).await;
    /// });
    /// tokio::time::sleep(4 * second).await;
    /// group.wait().await
    /// # }
    /// ```
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Returns the instant at which the tick was due. With [`Delay`](super::MissedTicks::Delay) it is the one to which
    /// the tick was postponed: for a tick that was missed during a run, the end of that run. If the series follows a wall
    /// clock, this is an estimate, computed from the time that the clock shows when the run starts.
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use tokio::time::Instant;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), schedgroup::WaitError> {
    /// let group = schedgroup::Group::new();
    /// let (start, minute) = (Instant::now(), Duration::from_secs(60));
    /// group.every(minute).starting_at(start).run(move |tick| async move {
    ///     assert_eq!(tick.intended(), start + tick.number() as u32 * minute);
    /// });
    /// tokio::time::sleep(3 * minute).await;
    /// group.wait().await
    /// # }
    /// ```
    pub fn intended(&self) -> Instant {
        self.intended
    }

    /// Returns the time of the wall clock at which the tick was due; `None` if its series does not follow a wall clock.
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::time::{Duration, SystemTime};
    /// # use schedgroup::Group;
    /// # use schedgroup::periodic::WallClock;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), schedgroup::WaitError> {
    /// let group = Group::new();
    /// let (clock, start) = (WallClock::system(), SystemTime::now() + Duration::from_millis(5));
    /// group
    ///     .every(Duration::from_secs(3600))
    ///     .on_wall_clock(&clock, start)
    ///     .run(move |tick| async move { assert_eq!(tick.wall_time(), Some(start)) });
    /// tokio::time::sleep(Duration::from_millis(20)).await;
    /// group.wait().await
    /// # }
    /// ```
    pub fn wall_time(&self) -> Option<SystemTime> {
        self.wall_time
    }

    /// Returns how late the run starts, by the clock that its series follows.
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
    /// group.every(second).missed(MissedTicks::Burst(1)).run(move |tick| async move {
    ///     if tick.number() == 0 {
    ///         tokio::time::sleep(second + second / 2).await;
    ///     } else if tick.number() == 1 {
    ///         assert_eq!(tick.lateness(), second / 2);
    ///     }
    /// });
    /// tokio::time::sleep(3 * second).await;
    /// group.wait().await
    /// # }
    /// ```
    pub fn lateness(&self) -> Duration {
        self.lateness
    }

    /// Returns the run's view of its group: its token, and the methods to schedule more.
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::time::Duration;
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), schedgroup::WaitError> {
    /// let group = schedgroup::Group::new();
    /// group.every(Duration::from_secs(60)).run(|tick| async move {
    ///     let token = tick.context().token();
    ///     tokio::select! {
    ///         () = token.cancelled() => println!("the group was cancelled"),
    ///         () = tokio::time::sleep(Duration::from_secs(5)) => println!("run {} is done", tick.context().run()),
    ///     }
    /// });
    /// tokio::time::sleep(Duration::from_secs(1)).await;
    /// group.wait().await // run 1 is done
    /// # }
    /// ```
    pub fn context(&self) -> &JobContext {
        &self.context
    }
}
