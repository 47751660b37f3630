//! The tests of Go's schedgroup, told anew for this crate: `github.com/mdlayher/schedgroup`,
//! `group_test.go` and `heap_test.go`, Copyright (C) 2020-2022 Matt Layher, MIT licence (the head of
//! `group_test.go` names the Apache License 2.0); and the two tests that the fork
//! `github.com/bi-zone/schedgroup` added to `group_test.go`, Apache License 2.0.

mod group_test {
    use std::time::Duration;

    use schedgroup::{Group, JobState, WaitError};
    use tokio::sync::mpsc;
    use tokio::time::{Instant, sleep};
    use tokio_util::sync::CancellationToken;

    use crate::common::{Log, bounded, ms, multi_thread, panic_of};

    #[tokio::test(start_paused = true)]
    async fn test_group_scheduling() {
        let (times, mut received) = mpsc::unbounded_channel();
        let waiter = tokio::spawn(async move {
            let group = Group::new();
            for n in 1..=5 {
                let times = times.clone();
                group.delay(ms(100) * n, async move {
                    times.send(Instant::now()).unwrap();
                });
            }
            drop(times);
            group.wait().await.unwrap();
        });
        let start = Instant::now();
        let mut elapsed = Vec::new();
        while let Some(time) = received.recv().await {
            elapsed.push(time - start);
        }
        assert_eq!(elapsed, [100, 200, 300, 400, 500].map(ms));
        waiter.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn test_group_context_cancel_immediate() {
        let token = CancellationToken::new();
        token.cancel();
        let group = Group::with_token(token);
        for _ in 0..5 {
            group.schedule(Instant::now(), async { panic!("should not be called") });
            sleep(ms(2)).await;
        }
        let outcome = group.wait().await;
        assert!(matches!(outcome, Err(WaitError::Cancelled)), "{outcome:?}");
        let stats = group.stats();
        assert_eq!((stats.finished, stats.panicked), (0, 0), "{stats:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn test_group_schedule_past() {
        let group = Group::new();
        let log = Log::new();
        // There is no negative `Duration`: zero is the least there is.
        group.delay(Duration::ZERO, log.job("delay"));
        group.schedule(Instant::now() - ms(1_000), log.job("schedule"));
        group.wait().await.unwrap();
        let mut ran = log.take();
        ran.sort_unstable();
        assert_eq!(ran, [("delay", ms(0)), ("schedule", ms(0))]);
    }

    #[tokio::test(start_paused = true)]
    async fn test_group_scheduled_tasks_context_cancel() {
        let token = CancellationToken::new();
        let group = Group::with_token(token.clone());
        let log = Log::new();
        let (ran, mut wait) = mpsc::channel(1);
        let mut states = Vec::new();
        for n in 0..10 {
            let (log, ran) = (log.clone(), ran.clone());
            let job = group.delay(ms(1), async move {
                log.push(n);
                ran.send(()).await.expect("no job runs after the cancel");
            });
            // Answers at once when it is closed.
            wait.recv().await;
            states.push((n, job));
            if n == 5 {
                token.cancel();
                wait.close();
            }
        }
        let outcome = group.wait().await;
        assert!(matches!(outcome, Err(WaitError::Cancelled)), "{outcome:?}");
        let each_ms = (0..6).map(|n| (n, ms(n + 1))).collect::<Vec<_>>();
        assert_eq!(log.take(), each_ms);
        for (n, job) in states {
            let state = if n < 6 {
                JobState::Finished
            } else {
                JobState::Cancelled
            };
            assert_eq!(job.state(), state, "job {n}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn test_group_wait_context_deadline_exceeded() {
        let start = Instant::now();
        let group = Group::builder().timeout(ms(10)).build();
        let (done, ran) = tokio::sync::oneshot::channel();
        group.schedule(start, async { done.send(Instant::now()).unwrap() });
        group.delay(ms(1_000), async { panic!("should not be called") });
        assert_eq!(ran.await.unwrap() - start, ms(0));
        let outcome = group.wait().await;
        assert!(
            matches!(outcome, Err(WaitError::DeadlineExceeded)),
            "{outcome:?}"
        );
        assert_eq!(start.elapsed(), ms(10));
    }

    /// The same under the name that it had in Go's first commit, where nothing but the group's
    /// deadline was looked at: here as an instant.
    #[tokio::test(start_paused = true)]
    async fn test_group_scheduled_tasks_deadline_exceeded() {
        let start = Instant::now();
        let group = Group::builder().deadline(start + ms(10)).build();
        let log = Log::new();
        group.schedule(start, log.job("now"));
        group.delay(ms(1_000), log.job("should not be called"));
        let outcome = group.wait().await;
        assert!(
            matches!(outcome, Err(WaitError::DeadlineExceeded)),
            "{outcome:?}"
        );
        assert_eq!(log.take(), [("now", ms(0))]);
        assert_eq!(start.elapsed(), ms(10));
    }

    #[tokio::test(start_paused = true)]
    async fn test_group_wait_no_context() {
        let group = Group::new();
        let (done, mut ran) = mpsc::unbounded_channel();
        for delay in [0, 50] {
            let done = done.clone();
            group.delay(ms(delay), async move { done.send(delay).unwrap() });
        }
        assert_eq!(ran.recv().await, Some(0));
        assert_eq!(ran.recv().await, Some(50));
        group.wait().await.unwrap();
    }

    /// Until 2020-05-06 Go's test waited first, which its `Wait` could hang on.
    #[tokio::test(start_paused = true)]
    async fn test_group_wait_no_context_in_its_old_order() {
        let group = Group::new();
        let log = Log::new();
        group.schedule(Instant::now(), log.job("now"));
        group.delay(ms(50), log.job("later"));
        group.wait().await.unwrap();
        assert_eq!(log.take(), [("now", ms(0)), ("later", ms(50))]);
    }

    #[tokio::test(start_paused = true)]
    async fn test_group_schedule_after_wait_panic() {
        let group = Group::new();
        group.wait().await.unwrap();
        let panic = panic_of(|| {
            group.schedule(Instant::now(), async { panic!("should not be scheduled") })
        });
        assert_eq!(
            panic.message,
            "schedgroup: attempted to schedule job after Group::wait was called"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn test_group_double_wait_panic() {
        let group = Group::new();
        group.wait().await.unwrap();
        let panic = panic_of(|| drop(group.wait()));
        assert_eq!(panic.message, "schedgroup: multiple calls to Group::wait");
    }

    #[test]
    fn test_group_schedule_no_tasks() {
        multi_thread().block_on(bounded(async {
            let waiters = (0..8).map(|_| {
                tokio::spawn(async {
                    for _ in 0..1024 {
                        Group::new().wait().await.unwrap();
                    }
                })
            });
            for waiter in waiters.collect::<Vec<_>>() {
                waiter.await.unwrap();
            }
        }));
    }

    #[tokio::test(start_paused = true)]
    async fn test_group_wait_after_scheduled() {
        let group = Group::new();
        let (done, ran) = tokio::sync::oneshot::channel();
        group.schedule(Instant::now(), async { done.send(()).unwrap() });
        ran.await.unwrap();
        sleep(ms(100)).await;
        let start = Instant::now();
        group.wait().await.unwrap();
        assert_eq!(start.elapsed(), ms(0));
    }

    #[tokio::test(start_paused = true)]
    async fn example_group_wait() {
        let group = Group::new();
        let log = Log::new();
        for n in 1..=3 {
            group.delay(ms(100) * n, log.job(n));
        }
        group.wait().await.unwrap();
        assert_eq!(log.take(), [(1, ms(100)), (2, ms(200)), (3, ms(300))]);
    }

    #[tokio::test(start_paused = true)]
    async fn example_group_cancelation() {
        let group = Group::builder().timeout(ms(500)).build();
        let log = Log::new();
        let start = Instant::now();
        group.schedule(start + ms(1_000), async {
            panic!("this shouldn't happen!")
        });
        group.schedule(start + ms(200), log.job("world"));
        group.schedule(start + ms(100), log.job("hello"));
        match group.wait().await {
            Err(WaitError::DeadlineExceeded) => log.push("timeout!"),
            other => panic!("{other:?}"),
        }
        assert_eq!(
            log.take(),
            [
                ("hello", ms(100)),
                ("world", ms(200)),
                ("timeout!", ms(500))
            ]
        );
    }

    /// Go dropped jobs that return errors; here a job's result goes to its own `JoinHandle`, and the
    /// first error is found by asking them in order.
    #[tokio::test(start_paused = true)]
    async fn example_group_errors() {
        let group = Group::new();
        let log = Log::new();
        let jobs = [1, 2, 3].map(|n| {
            let log = log.clone();
            group.spawn_after(ms(100) * n, async move {
                if n == 2 {
                    return Err("timeout");
                }
                log.push(n);
                Ok(())
            })
        });
        group.wait().await.unwrap();
        let mut first_error = None;
        for job in jobs {
            first_error = first_error.or(job.await.unwrap().err());
        }
        assert_eq!(first_error, Some("timeout"));
        assert_eq!(log.take(), [(1, ms(100)), (3, ms(300))]);
    }
}

/// Go pushes into its heap and pops; here the heap is seen through the order in which jobs fire.
mod heap_test {
    use std::time::Duration;

    use schedgroup::Group;

    use crate::common::Log;

    async fn popped(pushed: [u64; 3]) -> Vec<u64> {
        let group = Group::new();
        let log = Log::new();
        for seconds in pushed {
            group.delay(Duration::from_secs(seconds), log.job(seconds));
        }
        group.wait().await.unwrap();
        log.labels()
    }

    #[tokio::test(start_paused = true)]
    async fn test_tasks_heap_ordered() {
        assert_eq!(popped([1, 2, 3]).await, [1, 2, 3]);
    }

    #[tokio::test(start_paused = true)]
    async fn test_tasks_heap_unordered() {
        assert_eq!(popped([3, 1, 2]).await, [1, 2, 3]);
    }
}

/// The fork runs tasks one after another in its monitor, without goroutines: `max_running(1)`.
mod bi_zone_group_test {
    use std::time::Duration;

    use schedgroup::{Group, WaitError};
    use tokio::time::{Instant, sleep};
    use tokio_util::sync::CancellationToken;

    use crate::common::{Log, beside, ms};

    #[tokio::test(start_paused = true)]
    async fn test_group_without_goroutines() {
        let token = CancellationToken::new();
        let group = Group::builder().token(token.clone()).max_running(1).build();
        let start = Instant::now();
        let blocking = group.schedule(start - ms(1_000), token.clone().cancelled_owned());
        let second = group.schedule(start + ms(500), async { panic!("must not start") });
        let canceller = async {
            sleep(Duration::from_secs(1)).await;
            assert!(second.is_pending(), "{:?}", second.state());
            token.cancel();
        };
        let outcome = beside(group.wait(), canceller).await;
        assert!(matches!(outcome, Err(WaitError::Cancelled)), "{outcome:?}");
        assert_eq!(start.elapsed(), ms(1_000));
        // The first has seen the cancel, too, and ends by itself.
        while !blocking.is_finished() {
            tokio::task::yield_now().await;
        }
        assert_eq!(group.stats().panicked, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn test_dead_lock() {
        let group = Group::builder().max_running(1).build();
        let log = Log::new();
        let (handle, inner) = (group.handle(), log.job("scheduled by a job"));
        let past = Instant::now() - ms(1_000);
        let outer = group.schedule(past, async move {
            handle.schedule(past, inner);
        });
        sleep(ms(1_000)).await;
        assert!(outer.is_finished());
        assert_eq!(log.take(), [("scheduled by a job", ms(0))]);
        group.wait().await.unwrap();
    }
}
