//! The settings of a group.

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::{self, RuntimeFlavor};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::alarm::Alarm;
use super::driver::Driver;
use super::group::Group;
use super::shared::Shared;
use super::state::State;
#[cfg(all(feature = "timerfd", target_os = "linux"))]
use super::timerfd::TimerFd;
use super::workers::Workers;
use crate::ground::timeline::{Tick, Timeline};

/// Settings for a [`Group`]; made by [`Group::builder`].
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
    token: CancellationToken,
    has_token: bool,
    deadline: Option<Instant>,
    timeout: Option<Duration>,
    max_running: Option<usize>,
    name: Option<Box<str>>,
    runtime: Option<runtime::Handle>,
    #[cfg(all(feature = "timerfd", target_os = "linux"))]
    timerfd: bool,
}

impl Builder {
    /// Cancels the group when `token` is cancelled.
    ///
    /// The group works on a child of it: ending the group does not cancel `token`.
    pub fn token(mut self, token: CancellationToken) -> Builder {
        self.token = token;
        self.has_token = true;
        self
    }

    /// Ends the group at this instant: no job starts at it or later, and `wait` returns
    /// [`DeadlineExceeded`](crate::WaitError::DeadlineExceeded).
    ///
    /// With a [`timeout`](Builder::timeout) beside it the earlier one holds.
    pub fn deadline(mut self, deadline: Instant) -> Builder {
        self.deadline = Some(deadline);
        self
    }

    /// Ends the group so long after [`build`](Builder::build), as a [`deadline`](Builder::deadline)
    /// does.
    pub fn timeout(mut self, timeout: Duration) -> Builder {
        self.timeout = Some(timeout);
        self
    }

    /// Lets at most `limit` jobs run at once.
    ///
    /// Due jobs wait for a place in the order in which they were due, and take a free one at once.
    /// Only running jobs hold places.
    ///
    /// # Panics
    ///
    /// If `limit` is zero.
    #[track_caller]
    pub fn max_running(mut self, limit: usize) -> Builder {
        assert!(limit > 0, "schedgroup: max_running must be at least 1");
        self.max_running = Some(limit);
        self
    }

    /// Names the group in spans, events and `Debug`.
    pub fn name(mut self, name: impl Into<String>) -> Builder {
        self.name = Some(name.into().into_boxed_str());
        self
    }

    /// Runs the group on this runtime rather than the one that `build` is called in.
    pub fn runtime(mut self, runtime: runtime::Handle) -> Builder {
        self.runtime = Some(runtime);
        self
    }

    /// Starts jobs within some tens of microseconds of their deadlines, by a timerfd of the kernel.
    ///
    /// tokio's timers work in whole milliseconds, and jobs start half a millisecond late in the middle
    /// and two at worst. A group with a timerfd holds one file open and wakes the runtime for each
    /// deadline by itself, so it costs more CPU where there are many. Where the process may open no more
    /// files, it goes on with tokio's timer alone. On a paused clock it makes no difference.
    ///
    /// The runtime needs its I/O driver (`enable_io` or `enable_all`): [`build`](Builder::build) panics
    /// without it.
    #[cfg(all(feature = "timerfd", target_os = "linux"))]
    #[cfg_attr(docsrs, doc(cfg(all(feature = "timerfd", target_os = "linux"))))]
    pub fn timerfd(mut self) -> Builder {
        self.timerfd = true;
        self
    }

    /// Starts the group.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime if none was named, and on a runtime without a timer.
    #[track_caller]
    pub fn build(self) -> Group {
        let Some(runtime) = self.runtime.or_else(|| runtime::Handle::try_current().ok()) else {
            panic!(
                "schedgroup: Group::new must be called inside a tokio runtime; enter one, or name one with Group::builder().runtime(handle)"
            );
        };
        let entered = runtime.enter();
        let timeline = Timeline::new(Instant::now());
        let deadline = self.deadline.map_or(Tick::NEVER, |at| timeline.tick(at));
        let timeout = self
            .timeout
            .map_or(Tick::NEVER, |timeout| timeline.now().after(timeout));
        let threads = match runtime.runtime_flavor() {
            RuntimeFlavor::CurrentThread => None,
            _ => Some(runtime.metrics().num_workers()),
        };
        let shared = Shared::new(
            State::new(
                self.max_running.unwrap_or(usize::MAX),
                Workers::new(threads.unwrap_or(1), threads.is_some()),
                deadline.min(timeout),
            ),
            timeline,
            self.token.child_token(),
            self.has_token,
            runtime.clone(),
            self.name,
            deadline.min(timeout),
        );
        #[cfg(all(feature = "timerfd", target_os = "linux"))]
        let fine = if self.timerfd {
            TimerFd::new().ok()
        } else {
            None
        };
        #[cfg(not(all(feature = "timerfd", target_os = "linux")))]
        let fine = None;
        let driver = Driver::new(Arc::clone(&shared), Alarm::new(fine));
        drop(entered);
        runtime.spawn(driver.drive());
        Group::new_from(shared)
    }
}
