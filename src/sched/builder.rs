//! The settings of a group.

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::{self, RuntimeFlavor};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::driver::Driver;
use super::group::Group;
use super::shared::Shared;
use super::state::{State, Workers};
use super::timer::{Timer, TimerFd};
use crate::common::run;
use crate::common::time::{Clock, Timestamp};

/// Settings for a [`Group`]; created by [`Group::builder`].
///
/// # Examples
///
/// ```
/// # use std::time::Duration;
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() {
/// let group = schedgroup::Group::builder()
///     .name("retries")
///     .max_running(8)
///     .timeout(Duration::from_secs(30))
///     .build();
/// group.delay(Duration::from_secs(60), async { unreachable!("too late") });
/// let ended = group.wait().await;
/// assert!(matches!(ended, Err(schedgroup::WaitError::DeadlineExceeded)));
/// # }
/// ```
#[derive(Debug, Default)]
#[must_use = "a builder does nothing until `build`"]
pub struct Builder {
    token: Option<CancellationToken>,
    deadline: Option<Instant>,
    timeout: Option<Duration>,
    max_running: Option<usize>,
    name: Option<Box<str>>,
    runtime: Option<runtime::Handle>,
    timerfd: bool,
}

impl Builder {
    /// Sets a parent token: the group is cancelled when `token` is.
    ///
    /// The group works on a child of it: ending the group does not cancel `token`.
    ///
    /// # Examples
    ///
    /// ```
    /// use schedgroup::{CancellationToken, Group};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// let token = CancellationToken::new();
    /// let group = Group::builder().token(token.clone()).build();
    /// group.cancel();
    /// assert!(!token.is_cancelled());
    /// # }
    /// ```
    pub fn token(mut self, token: CancellationToken) -> Builder {
        self.token = Some(token);
        self
    }

    /// Sets the instant at which the group ends: no job starts at this instant or later.
    ///
    /// [`wait`](crate::Group::wait) returns [`DeadlineExceeded`](crate::WaitError::DeadlineExceeded) then, unless the
    /// group was closed and every job had ended before. Running jobs are not interrupted, as after a
    /// [`cancel`](crate::Group::cancel).
    ///
    /// If a [`timeout`](Builder::timeout) is set too, the earlier of the two applies.
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use schedgroup::{Group, WaitError};
    /// # use tokio::time::Instant;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() {
    /// let at = Instant::now() + Duration::from_secs(1);
    /// let group = Group::builder().deadline(at).build();
    /// group.schedule(at, async { unreachable!() });
    /// assert!(matches!(group.wait().await, Err(WaitError::DeadlineExceeded)));
    /// # }
    /// ```
    pub fn deadline(mut self, deadline: Instant) -> Builder {
        self.deadline = Some(deadline);
        self
    }

    /// Sets the time after [`build`](Builder::build) at which the group ends, as it does at a
    /// [`deadline`](Builder::deadline).
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use schedgroup::{Group, WaitError};
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() {
    /// let group = Group::builder().timeout(Duration::from_secs(1)).build();
    /// group.delay(Duration::from_secs(2), async { unreachable!() });
    /// assert!(matches!(group.wait().await, Err(WaitError::DeadlineExceeded)));
    /// # }
    /// ```
    pub fn timeout(mut self, timeout: Duration) -> Builder {
        self.timeout = Some(timeout);
        self
    }

    /// Limits the number of jobs that run at a time.
    ///
    /// Due jobs wait for a slot in the order of their deadlines, and the first of them takes a free slot at once. Only
    /// running jobs hold slots; a running job holds its slot while it awaits, too.
    ///
    /// # Panics
    ///
    /// If `limit` is zero.
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::time::Duration;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), schedgroup::WaitError> {
    /// let group = schedgroup::Group::builder().max_running(2).build();
    /// let start = tokio::time::Instant::now();
    /// for _ in 0..4 {
    ///     group.delay_with(Duration::ZERO, |_| tokio::time::sleep(Duration::from_secs(1)));
    /// }
    /// group.wait().await?;
    /// assert_eq!(start.elapsed().as_secs(), 2);
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias = "concurrency")]
    #[track_caller]
    pub fn max_running(mut self, limit: usize) -> Builder {
        assert!(limit > 0, "schedgroup: max_running must be at least 1");
        self.max_running = Some(limit);
        self
    }

    /// Sets the name of the group, for spans, events and `Debug`.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// let group = schedgroup::Group::builder().name("mails").build();
    /// assert!(format!("{group:?}").contains("mails"));
    /// # }
    /// ```
    pub fn name(mut self, name: impl Into<String>) -> Builder {
        self.name = Some(name.into().into_boxed_str());
        self
    }

    /// Sets the runtime on which the group runs; by default the one in which `build` is called.
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::time::Duration;
    /// let runtime = tokio::runtime::Runtime::new()?;
    /// let group = schedgroup::Group::builder().runtime(runtime.handle().clone()).build();
    /// let answer = group.spawn_after(Duration::from_millis(1), async { 42 });
    /// assert_eq!(runtime.block_on(answer)?, 42);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn runtime(mut self, runtime: runtime::Handle) -> Builder {
        self.runtime = Some(runtime);
        self
    }

    /// Uses a timerfd of the Linux kernel, which starts jobs within some tens of microseconds of their deadlines.
    ///
    /// It needs the crate's feature `timerfd`. Without it, and on other systems, this setting changes nothing.
    ///
    /// tokio's timers work in whole milliseconds: without a timerfd, jobs start half a millisecond to one millisecond
    /// late in the median, and one in a hundred two milliseconds late. A group with a timerfd holds one file open. It
    /// wakes the runtime once for each deadline, so it costs more CPU where there are many deadlines. If the process may
    /// open no more files, the group uses tokio's timer alone. On a paused clock a timerfd makes no difference.
    ///
    /// The runtime needs its I/O driver (`enable_io` or `enable_all`): [`build`](Builder::build) panics
    /// without it.
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::time::Duration;
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), schedgroup::WaitError> {
    /// let group = schedgroup::Group::builder().timerfd().build();
    /// group.delay(Duration::from_micros(300), async { println!("now") });
    /// group.wait().await
    /// # }
    /// ```
    pub fn timerfd(mut self) -> Builder {
        self.timerfd = true;
        self
    }

    /// Creates the group and starts its driver.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime if none was set, on a runtime without a timer, and with a
    /// [`timerfd`](Builder::timerfd) on one without an I/O driver.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), schedgroup::WaitError> {
    /// let group = schedgroup::Group::builder().build();
    /// group.wait().await
    /// # }
    /// ```
    #[track_caller]
    pub fn build(self) -> Group {
        let runtime = run::runtime_for(self.runtime);
        let entered = runtime.enter();
        let clock = Clock::new(Instant::now());
        let deadline = self
            .deadline
            .map_or(Timestamp::NEVER, |at| clock.timestamp(at));
        let timeout = self
            .timeout
            .map_or(Timestamp::NEVER, |timeout| clock.now().after(timeout));
        let fine = if self.timerfd {
            TimerFd::new().ok()
        } else {
            None
        };
        let timer = Timer::new(clock, fine);
        drop(entered);
        let threads = match runtime.runtime_flavor() {
            RuntimeFlavor::CurrentThread => None,
            _ => Some(runtime.metrics().num_workers()),
        };
        let token_is_shared = self.token.is_some();
        let token = self.token.unwrap_or_default().child_token();
        let shared = Shared::new(
            State::new(
                self.max_running.unwrap_or(usize::MAX),
                Workers::new(threads.unwrap_or(1), threads.is_some()),
                deadline.min(timeout),
            ),
            clock,
            token,
            token_is_shared,
            runtime,
            self.name,
            timer,
        );
        let driver = Driver::new(Arc::clone(&shared));
        shared.runtime.spawn(driver.drive());
        shared.make_stealable();
        Group::new_from(shared)
    }
}
