//! The driver's one sleep, and what may wake it more finely.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

#[cfg(all(feature = "timerfd", target_os = "linux"))]
pub(super) use super::timerfd::TimerFd;

/// Not available here: to ask for it changes nothing.
#[cfg(not(all(feature = "timerfd", target_os = "linux")))]
pub(super) enum TimerFd {}

#[cfg(not(all(feature = "timerfd", target_os = "linux")))]
impl TimerFd {
    pub(super) fn new() -> Result<TimerFd, ()> {
        Err(())
    }

    fn set(&mut self, _: Duration) {
        match *self {}
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<()> {
        match *self {}
    }
}

/// Rings at an instant or a little later.
///
/// tokio's sleep is what counts: it knows the paused clock, and is up to two milliseconds late. A
/// timerfd beside it only makes the driver look earlier.
pub(super) struct Timer {
    sleep: Pin<Box<Sleep>>,
    fine: Option<TimerFd>,
    at: Instant,
}

/// No sleep is longer: one very long sleep has stalled tokio's short ones before (its issue 8334),
/// and a job's deadline is kept by the heap anyway.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

impl Timer {
    /// Must be called inside the runtime that will drive it, for its timer.
    #[track_caller]
    pub(super) fn new(fine: Option<TimerFd>) -> Timer {
        let at = Instant::now() + LONGEST;
        Timer {
            sleep: Box::pin(sleep_until(at)),
            fine,
            at,
        }
    }

    /// `now` may be a little ago.
    pub(super) fn set(&mut self, at: Instant, now: Instant) {
        self.at = at.min(now + LONGEST);
        self.sleep.as_mut().reset(self.at);
        if let Some(fine) = &mut self.fine {
            fine.set(self.at.saturating_duration_since(Instant::now()));
        }
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(Poll::Ready(())) = self.fine.as_mut().map(|fine| fine.poll(cx)) {
            if Instant::now() >= self.at {
                return Poll::Ready(());
            }
            // It rang before its time: tokio's clock is paused. Ringing on would keep the runtime awake,
            // and a paused clock advances only when nothing is awake.
            self.fine = None;
        }
        self.sleep.as_mut().poll(cx)
    }
}
