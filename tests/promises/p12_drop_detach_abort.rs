//! Dropping the group ends it, `detach` lets it go on, and `abort` stops one job.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use schedgroup::{Group, Handle, JobError, JobHandle, JobState, Next};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::common::{Flag, HOUR, Hold, Log, alive_tasks, context_of, ms, on_both, settle, until};

mod dropping {
    use super::*;

    #[test]
    fn the_group_ends_everything_and_leaves_nothing() {
        on_both(|| async {
            let before = alive_tasks();
            let group = Group::builder().max_running(2).build();
            let (flag, log) = (Flag::new(), Log::<()>::new());
            for delay in [Duration::ZERO, ms(1), HOUR] {
                for _ in 0..3 {
                    let (guard, log) = (flag.guard(), log.clone());
                    group.delay(delay, async move {
                        std::future::pending::<()>().await;
                        log.push(());
                        drop(guard);
                    });
                }
            }
            until("two run", || group.stats().running == 2).await;
            let value = group.spawn_after(HOUR, async { 5 });
            let (token, started) = (group.token(), std::time::Instant::now());
            drop(group);
            let took = started.elapsed();
            assert!(
                took < Duration::from_secs(5),
                "the drop blocked for {took:?}"
            );
            until("all dropped", || flag.drops() == 9).await;
            let result = value.await;
            assert!(matches!(result, Err(JobError::Cancelled)), "{result:?}");
            assert!(token.is_cancelled());
            until("no task is left", || alive_tasks() == before).await;
            assert_eq!(log.len(), 0);
        });
    }

    #[tokio::test(start_paused = true)]
    async fn the_group_keeps_due_jobs_from_starting() {
        let group = Group::new();
        let log = Log::new();
        group.delay(Duration::ZERO, log.job("due"));
        group.delay(ms(10), log.job("pending"));
        drop(group);
        sleep(ms(20)).await;
        assert_eq!(log.len(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn the_group_aborts_running_jobs_at_their_next_await() {
        let group = Group::new();
        let log = Log::new();
        let steps = log.clone();
        let job = group.delay(Duration::ZERO, async move {
            steps.push("started");
            sleep(ms(10)).await;
            steps.push("not reached");
        });
        sleep(ms(5)).await;
        drop(group);
        sleep(ms(20)).await;
        assert_eq!(log.labels(), ["started"]);
        assert_eq!(job.state(), JobState::Cancelled);
    }

    #[tokio::test(start_paused = true)]
    async fn a_drained_group_changes_nothing() {
        let group = Group::new();
        let job = group.delay(ms(1), async {});
        let value = group.spawn_after(ms(2), async { 5 });
        group.wait().await.unwrap();
        drop(group);
        assert_eq!(job.state(), JobState::Finished);
        assert_eq!(value.await.unwrap(), 5);
    }
}

mod detaching {
    use super::*;

    #[test]
    fn lets_the_group_go_on_until_it_is_drained() {
        on_both(|| async {
            let before = alive_tasks();
            let group = Group::new();
            let log = Log::new();
            let repeating = log.clone();
            group.delay(ms(5), log.job("once"));
            group.repeat(Instant::now() + ms(10), move |context| {
                repeating.push("again");
                let last = context.run() == 2;
                async move { if last { Next::Done } else { Next::After(ms(5)) } }
            });
            group.detach();
            until("no task is left", || alive_tasks() == before).await;
            assert_eq!(log.labels(), ["once", "again", "again"]);
        });
    }

    #[test]
    fn lets_an_idle_group_end_at_once() {
        on_both(|| async {
            let before = alive_tasks();
            Group::new().detach();
            until("no task is left", || alive_tasks() == before).await;
        });
    }

    #[test]
    fn lets_handles_go_on_scheduling() {
        on_both(|| async {
            let before = alive_tasks();
            let group = Group::new();
            let (one, log) = (group.handle(), Log::new());
            let other = one.clone();
            group.detach();
            one.delay(ms(1), log.job("one"));
            until("it ran", || log.len() == 1).await;
            drop(one);
            let job = other.delay(ms(1), log.job("other"));
            drop(other);
            until("it ran", || job.is_finished()).await;
            assert_eq!(log.labels(), ["one", "other"]);
            until("no task is left", || alive_tasks() == before).await;
        });
    }

    #[tokio::test(start_paused = true)]
    async fn keeps_the_driver_for_as_long_as_there_is_a_handle() {
        let before = alive_tasks();
        let group = Group::new();
        let handle = group.handle();
        group.detach();
        sleep(HOUR).await;
        assert_eq!(alive_tasks(), before + 1);
        let log = Log::new();
        let start = Instant::now();
        handle.delay(ms(5), log.job(start));
        sleep(ms(5)).await;
        settle().await;
        assert_eq!(log.len(), 1);
        drop(handle);
        settle().await;
        assert_eq!(alive_tasks(), before);
    }

    #[tokio::test(start_paused = true)]
    async fn goes_on_for_a_clone_of_what_it_lends_and_not_for_what_it_lends() {
        let before = alive_tasks();
        let lent = |group: &Group| AsRef::<Handle>::as_ref(group).clone();
        let group = Group::new();
        let (clone, hold) = (lent(&group), Hold::new());
        let context = context_of(&group, &hold).await;
        hold.release();
        settle().await;
        group.detach();
        settle().await;
        assert!(!clone.is_closed(), "it goes on for the clone");
        drop(clone);
        settle().await;
        assert_eq!(alive_tasks(), before, "it does not for the context");
        assert!(context.try_delay(HOUR, async {}).is_err());
    }

    #[test]
    fn leaves_the_token_as_the_way_to_end_it() {
        on_both(|| async {
            let before = alive_tasks();
            let token = CancellationToken::new();
            let group = Group::with_token(token.clone());
            let (handle, flag) = (group.handle(), Flag::new());
            group.delay(HOUR, flag.job());
            group.detach();
            token.cancel();
            until("all dropped", || flag.drops() == 1).await;
            until("no task is left", || alive_tasks() == before).await;
            assert!(handle.try_delay(ms(1), async {}).is_err());
        });
    }

    #[tokio::test(start_paused = true)]
    async fn lets_jobs_go_on_scheduling() {
        let group = Group::new();
        let log = Log::new();
        let inner = log.job("inner");
        group.delay_with(ms(1), |context| async move {
            context.delay(ms(1), inner);
        });
        group.detach();
        sleep(ms(5)).await;
        assert_eq!(log.take(), [("inner", ms(2))]);
    }
}

mod aborting {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_pending_job_cancels_it() {
        let group = Group::new();
        let flag = Flag::new();
        let job = group.delay(HOUR, flag.job());
        job.abort();
        assert_eq!((job.state(), flag.drops()), (JobState::Cancelled, 1));
        assert!(!job.cancel(), "it was prevented already");
        group.wait().await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_running_job_stops_it_at_its_await_and_frees_its_slot() {
        let group = Group::builder().max_running(1).build();
        let (log, flag) = (Log::new(), Flag::new());
        let (steps, guard) = (log.clone(), flag.guard());
        let running = group.delay(Duration::ZERO, async move {
            steps.push("started");
            sleep(HOUR).await;
            steps.push("not reached");
            drop(guard);
        });
        group.delay(Duration::ZERO, log.job("next"));
        sleep(ms(10)).await;
        running.abort();
        group.wait().await.unwrap();
        assert_eq!(log.take(), [("started", ms(0)), ("next", ms(10))]);
        assert_eq!((running.state(), flag.drops()), (JobState::Cancelled, 1));
    }

    /// Its earlier run has awaited, and what it left is used by another job.
    #[tokio::test(start_paused = true)]
    async fn a_series_in_its_first_poll_stops_no_other_job() {
        let group = Group::new();
        let log = Log::new();
        let own = Arc::new(OnceLock::<JobHandle>::new());
        let this = Arc::clone(&own);
        let series = group.repeat(Instant::now(), move |context| {
            if context.run() == 2 {
                this.get().unwrap().abort();
            }
            async move {
                sleep(ms(1)).await;
                Next::After(ms(10))
            }
        });
        own.set(series.clone()).unwrap();
        sleep(ms(5)).await;
        let steps = log.clone();
        group.delay(Duration::ZERO, async move {
            sleep(ms(20)).await;
            steps.push("up to its end");
        });
        group.wait().await.unwrap();
        assert_eq!(log.labels(), ["up to its end"]);
        assert_eq!(series.state(), JobState::Cancelled);
    }

    #[tokio::test(start_paused = true)]
    async fn with_its_join_handle_stops_a_job_only_if_that_was_asked_for() {
        let (group, log) = (Group::new(), Log::new());
        let (running, pending) = (Flag::new(), Flag::new());
        let guard = running.guard();
        let runs = group
            .spawn_after(Duration::ZERO, async move {
                sleep(HOUR).await;
                drop(guard);
            })
            .abort_on_drop();
        let waits = group.spawn_after(HOUR, pending.job()).abort_on_drop();
        let value = group.spawn_after(ms(1), async { 7 }).abort_on_drop();
        drop(group.spawn_after(ms(5), log.job("kept")));
        sleep(ms(2)).await;
        assert_eq!(value.await.unwrap(), 7);
        let jobs = [runs.job().clone(), waits.job().clone()];
        drop((runs, waits));
        assert_eq!(pending.drops(), 1, "a pending job is dropped at once");
        group.wait().await.unwrap();
        assert_eq!((running.drops(), log.take()), (1, vec![("kept", ms(5))]));
        assert!(jobs.iter().all(|job| job.state() == JobState::Cancelled));
    }

    #[test]
    fn a_running_job_works_from_any_thread() {
        on_both(|| async {
            for _ in 0..100 {
                let group = Group::new();
                let hold = Hold::new();
                let job = group.delay(Duration::ZERO, hold.job());
                hold.started().await;
                std::thread::spawn(move || job.abort()).join().unwrap();
                group.wait().await.unwrap();
            }
        });
    }

    #[tokio::test(start_paused = true)]
    async fn a_job_in_its_first_poll_stops_it_at_its_first_await() {
        let group = Group::new();
        let log = Log::new();
        let (send, own) = tokio::sync::oneshot::channel::<schedgroup::JobHandle>();
        let steps = log.clone();
        let job = group.delay(ms(1), async move {
            let mut own = own;
            own.try_recv().unwrap().abort();
            steps.push("up to its await");
            sleep(ms(1)).await;
            steps.push("not reached");
        });
        assert!(send.send(job.clone()).is_ok());
        group.wait().await.unwrap();
        assert_eq!(log.labels(), ["up to its await"]);
        assert_eq!(job.state(), JobState::Cancelled);
    }

    /// It comes too late for a job that ends without an await. The next one has its place.
    #[tokio::test(start_paused = true)]
    async fn a_job_that_ends_in_its_first_poll_stops_neither_it_nor_the_next_one() {
        let group = Group::new();
        let log = Log::new();
        let (send, own) = tokio::sync::oneshot::channel::<schedgroup::JobHandle>();
        let job = group.delay(ms(1), async move {
            let mut own = own;
            own.try_recv().unwrap().abort();
        });
        assert!(send.send(job.clone()).is_ok());
        sleep(ms(2)).await;
        assert_eq!(job.state(), JobState::Finished);
        drop(job);
        let steps = log.clone();
        group.delay(ms(1), async move {
            sleep(ms(1)).await;
            steps.push("up to its end");
        });
        group.wait().await.unwrap();
        assert_eq!(log.labels(), ["up to its end"]);
    }

    /// It would find out what it waits for, and end well.
    #[tokio::test(start_paused = true)]
    async fn a_job_whose_wake_up_is_on_its_way_polls_it_no_more() {
        let (group, log) = (Group::new(), Log::new());
        let (wake, woken) = tokio::sync::oneshot::channel::<()>();
        let steps = log.clone();
        let job = group.delay(Duration::ZERO, async move {
            woken.await.unwrap();
            steps.push("not reached");
        });
        settle().await;
        wake.send(()).unwrap();
        job.abort();
        group.wait().await.unwrap();
        assert_eq!(log.labels(), [""; 0]);
        assert_eq!(job.state(), JobState::Cancelled);
    }

    /// There is no await left at which it could be stopped: it ran to its end.
    #[tokio::test(start_paused = true)]
    async fn a_job_after_its_last_await_finds_it_finished() {
        let group = Group::new();
        let (send, own) = tokio::sync::oneshot::channel::<schedgroup::JobHandle>();
        let job = group.delay(ms(1), async move { own.await.unwrap().abort() });
        assert!(send.send(job.clone()).is_ok());
        let value = {
            let (send, own) = tokio::sync::oneshot::channel::<schedgroup::JobHandle>();
            let value = group.spawn_after(ms(1), async move {
                own.await.unwrap().abort();
                5
            });
            assert!(send.send(value.job().clone()).is_ok());
            value
        };
        group.wait().await.unwrap();
        assert_eq!(job.state(), JobState::Finished);
        assert_eq!(value.job().state(), JobState::Finished);
        assert_eq!(value.await.unwrap(), 5);
        let stats = group.stats();
        assert_eq!((stats.finished, stats.cancelled), (2, 0), "{stats:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_job_is_no_error_of_the_group() {
        let group = Group::new();
        let running = group.spawn_after(Duration::ZERO, std::future::pending::<()>());
        let pending = group.spawn_after(HOUR, async {});
        settle().await;
        running.job().abort();
        pending.job().abort();
        group.wait().await.unwrap();
        for value in [running, pending] {
            let result = value.await;
            assert!(matches!(result, Err(JobError::Cancelled)), "{result:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_running_series_ends_it() {
        let group = Group::new();
        let (log, flag) = (Log::new(), Flag::new());
        let (runs, guard) = (log.clone(), flag.guard());
        let job = group.repeat(Instant::now(), move |context| {
            let _held_by_the_series = &guard;
            runs.push(context.run());
            async {
                sleep(ms(10)).await;
                Next::After(Duration::ZERO)
            }
        });
        sleep(ms(15)).await;
        job.abort();
        group.wait().await.unwrap();
        assert_eq!(log.take(), [(1, ms(0)), (2, ms(10))]);
        assert_eq!((job.state(), flag.drops()), (JobState::Cancelled, 1));
    }
}
