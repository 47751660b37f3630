//! A timer of the Linux kernel that tokio polls as a file. It fires within some tens of microseconds, where tokio's own
//! timers work in whole milliseconds.

use std::io;
use std::os::fd::OwnedFd;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rustix::io::read;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Boxed, so that it takes little room in a group without one.
pub(super) struct TimerFd(Box<AsyncFd<OwnedFd>>);

impl TimerFd {
    /// Must be called inside a runtime with an I/O driver. Fails where the process may open no more
    /// files.
    #[track_caller]
    pub(super) fn new() -> io::Result<TimerFd> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        // Deprecated because not every type keeps its descriptor open; an `OwnedFd` does, and the way
        // that tokio offers instead is unsafe for all of them.
        #[allow(deprecated)]
        let timer = AsyncFd::with_interest(timer, Interest::READABLE)?;
        Ok(TimerFd(Box::new(timer)))
    }

    pub(super) fn set(&mut self, delay: Duration) {
        // Zero would disarm it.
        let delay = delay.max(Duration::from_nanos(1));
        let once = Itimerspec {
            it_interval: Timespec {
                tv_sec: 0,
                tv_nsec: 0,
            },
            it_value: Timespec {
                tv_sec: i64::try_from(delay.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: delay.subsec_nanos().into(),
            },
        };
        // If it cannot be set, tokio's sleep beside it wakes the driver.
        let _ = timerfd_settime(&*self.0, TimerfdTimerFlags::empty(), &once);
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            // An error means that the runtime is shutting down.
            let Ok(mut rung) = ready!(self.0.poll_read_ready(cx)) else {
                return Poll::Pending;
            };
            let mut times = [0; 8];
            if rung.try_io(|timer| Ok(read(timer, &mut times)?)).is_ok() {
                return Poll::Ready(());
            }
        }
    }
}
