//! Bugs that were found late, a module for each.

/// Of two jobs that panicked, `wait` returned while the second one's payload was still being dropped.
///
/// The first panic is kept for `wait`. A later one was dropped after its job had been counted down, so a
/// payload with a slow destructor outlived the group on another worker; after `shutdown` too, which says
/// that no code of a job runs any more.
mod wait_returned_before_a_payload_was_dropped {
    use std::panic::resume_unwind;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

    use crate::common::{OnDrop, bounded, ms, multi_thread};
    use schedgroup::{Group, WaitError};

    #[test]
    fn wait_covers_the_payload_of_every_panic() {
        let ended = Arc::new(AtomicBool::new(false));
        let end = Arc::clone(&ended);
        let payload = OnDrop(move || {
            std::thread::sleep(ms(200));
            end.store(true, SeqCst);
        });
        multi_thread().block_on(bounded(async {
            let group = Group::builder().max_running(1).build();
            group.delay(ms(0), async { resume_unwind(Box::new("the first")) });
            group.delay(ms(0), async { resume_unwind(Box::new(payload)) });
            let waited = group.wait().await;
            assert!(
                matches!(&waited, Err(WaitError::Panicked(panic)) if panic.message() == "the first"),
                "{waited:?}"
            );
            assert!(ended.load(SeqCst), "a payload was still being dropped");
        }));
    }
}

/// A future and its value that both panicked when they were dropped ended the whole process.
///
/// The value that a `spawn_*` job had just returned was held while its future was dropped. If that
/// destructor panicked, the value was dropped in the course of the panic, and a second panic there is
/// an abort.
mod two_destructors_that_panicked_ended_the_process {
    use std::panic::resume_unwind;
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use crate::common::ms;
    use schedgroup::{Group, JobError, JobState, WaitError};

    /// A value that panics when it is dropped, past the panic hook, which would print it.
    struct Bomb(&'static str);

    impl Drop for Bomb {
        fn drop(&mut self) {
            resume_unwind(Box::new(self.0));
        }
    }

    /// Ends with a bomb, and holds another until it is dropped itself.
    struct Bombs(
        Option<Bomb>,
        #[expect(dead_code, reason = "held until the end")] Bomb,
    );

    impl Future for Bombs {
        type Output = Bomb;

        fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Bomb> {
            Poll::Ready(self.0.take().expect("polled once"))
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_future_and_its_value_may_both_panic_when_they_are_dropped() {
        let group = Group::new();
        let bombs = Bombs(Some(Bomb("value")), Bomb("future"));
        let job = group.spawn_after(ms(1), bombs);
        let other = group.spawn_after(ms(2), async { "ran" });
        let waited = group.wait().await;
        assert!(
            matches!(&waited, Err(WaitError::Panicked(panic)) if panic.message() == "future"),
            "{waited:?}"
        );
        assert_eq!(job.job().state(), JobState::Panicked);
        let joined = job.await.map(|_| "a value");
        assert!(
            matches!(&joined, Err(JobError::Panicked(panic)) if panic.message() == "future"),
            "{joined:?}"
        );
        assert!(matches!(other.await, Ok("ran")));
    }
}

/// Jobs that came in from another thread, each due at once, could keep the driver from ever giving the
/// others a turn.
///
/// The driver yields after a bounded piece of work. But when the next entry had come in before the
/// driver parked, it began its next turn without that, and again, as long as there was a next entry each
/// time: on a `current_thread` runtime nothing else ran meanwhile. 359 turns in a row were seen.
mod the_driver_left_other_tasks_no_turn {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
    use std::time::Duration;

    use crate::common::{bounded, ms, watched};
    use schedgroup::Group;
    use tokio::runtime::Builder;
    use tokio::task::yield_now;
    use tokio::time::Instant;

    /// So many tasks tokio polls before it comes back to the future that the runtime was entered with.
    const EVENT_INTERVAL: u64 = 61;

    #[test]
    fn jobs_from_another_thread_leave_others_their_turns() {
        watched(|| {
            let runtime = Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(bounded(async {
                for pause in [0, 20, 50, 100] {
                    let group = Group::new();
                    let over = Arc::new(AtomicBool::new(false));
                    let (handle, seen) = (group.handle(), Arc::clone(&over));
                    let producer = std::thread::spawn(move || {
                        while !seen.load(SeqCst) {
                            handle.delay(Duration::ZERO, async {});
                            (0..pause).for_each(|_| std::hint::spin_loop());
                        }
                    });
                    let (start, mut most) = (Instant::now(), 0);
                    while start.elapsed() < ms(200) {
                        let before = group.stats().driver_wakeups;
                        yield_now().await;
                        most = most.max(group.stats().driver_wakeups - before);
                    }
                    over.store(true, SeqCst);
                    producer.join().unwrap();
                    assert!(
                        most <= EVENT_INTERVAL,
                        "{most} turns of the driver in a row, pause {pause}"
                    );
                }
            }));
        });
    }
}
