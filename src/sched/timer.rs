//! The driver's one sleep, and the kernel's timer beside it.

use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::task::coop;
use tokio::time::{Sleep, sleep_until};

#[cfg(all(feature = "timerfd", target_os = "linux"))]
pub(super) use super::timerfd::TimerFd;
use crate::common::time::{CENTURY, Clock, Timestamp};

/// The kernel's timer where it is not available: it cannot be created.
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

/// Wakes the driver at an instant or a little later.
///
/// tokio's sleep is the authority: it follows the paused clock, and is up to two milliseconds late. A timerfd beside it
/// only wakes the driver earlier.
///
/// The driver sets the timer when it parks. A caller that schedules an earlier job sets it to the earlier deadline, so
/// the driver need not be woken just for that.
pub(super) struct Timer {
    sleep: Pin<Box<Sleep>>,
    fine: Option<TimerFd>,
    clock: Clock,
    /// What it is set to; `NEVER` if it is not set.
    at: Timestamp,
    /// The driver's waker; `None` until it parks for the first time.
    waker: Option<Waker>,
}

/// The longest sleep. In tokio before 1.54 one very long sleep could stall all short ones (its issue 8334). To wake up
/// early is harmless, since the heap keeps the deadlines.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

impl Timer {
    /// Must be called inside the runtime whose timer it will use.
    #[track_caller]
    pub(super) fn new(clock: Clock, fine: Option<TimerFd>) -> Timer {
        let first = clock.instant(clock.now().after(LONGEST));
        Timer {
            sleep: Box::pin(sleep_until(first)),
            fine,
            clock,
            at: Timestamp::NEVER,
            waker: None,
        }
    }

    /// Sets the timer for the driver, which parks until `until`; `now` may be a little behind. `Ready` means that it is
    /// time already, and the driver is not woken.
    pub(super) fn park(
        &mut self,
        until: Timestamp,
        now: Timestamp,
        cx: &mut Context<'_>,
    ) -> Poll<()> {
        let waker = self.waker.get_or_insert_with(|| cx.waker().clone());
        waker.clone_from(cx.waker());
        self.at = time_to_wake(until, now);
        if self.at == Timestamp::NEVER {
            return Poll::Pending;
        }
        self.sleep.as_mut().reset(self.clock.instant(self.at));
        if let Some(fine) = &mut self.fine {
            fine.set(self.at.since(self.clock.now()));
            if fine.poll(cx).is_ready() {
                if self.clock.now() >= self.at {
                    return Poll::Ready(());
                }
                // It fired before its time by tokio's clock, so that clock is paused. It advances only when the runtime
                // is idle, which a timer that goes on firing would prevent.
                self.fine = None;
            }
        }
        self.sleep.as_mut().poll(cx)
    }

    /// Sets the timer to `at`, if that is earlier. Returns whether the driver was woken at once instead: `at` has come,
    /// there is a timerfd, or the calling task has used up its budget, so that the sleep cannot be polled.
    pub(super) fn wake_at(&mut self, at: Timestamp) -> bool {
        let Some(waker) = &self.waker else {
            return false;
        };
        let now = self.clock.now();
        let mut wakes = at <= now || self.fine.is_some() || !coop::has_budget_remaining();
        let at = time_to_wake(at, now);
        if !wakes && at < self.at {
            self.at = at;
            self.sleep.as_mut().reset(self.clock.instant(at));
            // Polled, since the sleep has no waker if it was not set before, or has elapsed.
            let mut cx = Context::from_waker(waker);
            wakes = self.sleep.as_mut().poll(&mut cx).is_ready();
        }
        if wakes {
            waker.wake_by_ref();
        }
        wakes
    }
}

/// Returns when the driver wakes up for a deadline: after the longest sleep if that is earlier, and for one that is too
/// far away never.
fn time_to_wake(deadline: Timestamp, now: Timestamp) -> Timestamp {
    match deadline.since(now) < CENTURY {
        true => deadline.min(now.after(LONGEST)),
        false => Timestamp::NEVER,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
    use std::task::Wake;

    use tokio::time::{Instant, advance};

    use super::*;

    #[derive(Default)]
    struct Count(AtomicU32);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Relaxed);
        }
    }

    const MS: Duration = Duration::from_millis(1);

    fn timer() -> (Timer, Timestamp) {
        let clock = Clock::new(Instant::now());
        (Timer::new(clock, None), clock.now())
    }

    /// Parked until `until`; the timer is set to `earlier` if that is less. Milliseconds from now.
    async fn woken_after(until: Duration, earlier: Duration, passed: Duration) -> u32 {
        let count = Arc::<Count>::default();
        let waker = Waker::from(Arc::clone(&count));
        let mut cx = Context::from_waker(&waker);
        let (mut timer, now) = timer();
        assert!(timer.park(now.after(until), now, &mut cx).is_pending());
        assert_eq!(timer.wake_at(now.after(earlier)), earlier.is_zero());
        advance(passed).await;
        count.0.load(Relaxed)
    }

    #[tokio::test(start_paused = true)]
    async fn it_wakes_at_the_earlier_of_two_times() {
        let far = 2 * CENTURY;
        for until in [10 * MS, 20 * MS, far] {
            for (earlier, passed, woken) in [
                (5 * MS, 4 * MS, 0),
                (5 * MS, 5 * MS, 1),
                (Duration::ZERO, Duration::ZERO, 1),
            ] {
                let counted = woken_after(until, earlier, passed).await;
                assert_eq!(counted, woken, "{until:?}, {earlier:?}, {passed:?}");
            }
        }
        assert_eq!(woken_after(10 * MS, 15 * MS, 10 * MS).await, 1);
        assert_eq!(woken_after(far, far, 2 * LONGEST).await, 0);
    }

    /// Threads that schedule at once set it in any order.
    #[tokio::test(start_paused = true)]
    async fn it_stays_at_the_earliest_time_that_it_was_set_to() {
        let count = Arc::<Count>::default();
        let waker = Waker::from(Arc::clone(&count));
        let mut cx = Context::from_waker(&waker);
        let (mut timer, now) = timer();
        assert!(timer.park(now.after(20 * MS), now, &mut cx).is_pending());
        for at in [5, 10] {
            assert!(!timer.wake_at(now.after(at * MS)));
        }
        advance(5 * MS).await;
        assert_eq!(count.0.load(Relaxed), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_not_set_for_a_driver_that_never_parked() {
        let (mut timer, now) = timer();
        assert!(!timer.wake_at(now));
        assert_eq!(timer.at, Timestamp::NEVER);
    }
}
