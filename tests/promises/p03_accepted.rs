//! Accepted means: released exactly once, or cancelled, or dropped with the group; and nothing is
//! lost between a `schedule` and a `wait` that race.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use schedgroup::{Group, Handle, JobHandle, JobState, ScheduleError, Stats};
use tokio::time::Instant;

use crate::common::{
    Flag, HOUR, Random, bounded, ms, multi_thread, on_both, settle, until, us, watched,
};

/// Schedules jobs, some due at once and some later, until it is rejected.
fn produce(handle: Handle, runs: Arc<AtomicUsize>, flag: Flag) -> (Vec<JobHandle>, &'static str) {
    let (mut accepted, mut random) = (Vec::new(), Random(1));
    loop {
        let (runs, guard) = (Arc::clone(&runs), flag.guard());
        let job = async move {
            let _held_to_the_end = guard;
            runs.fetch_add(1, Ordering::SeqCst);
        };
        let delay = us([0, 0, 100, 2_000][random.below(4) as usize]);
        match handle.try_delay(delay, job) {
            Ok(job) => accepted.push(job),
            Err(ScheduleError::Closed(_)) => return (accepted, "closed"),
            Err(_) => return (accepted, "cancelled"),
        }
    }
}

/// Lets producers race with the end of a group, and balances the books. What `end` returns is kept
/// until they are balanced.
async fn race<F, R>(end: impl Fn(Group) -> F, rejection: &str, drains: bool)
where
    F: Future<Output = R>,
{
    let begun = Instant::now();
    for round in 0..60 {
        // On a busy machine the producers schedule ever more before the end comes.
        if begun.elapsed() > ms(10_000) {
            break;
        }
        let group = Group::new();
        let (runs, flag) = (Arc::new(AtomicUsize::new(0)), Flag::new());
        let producers = [(); 2].map(|()| {
            let (handle, runs, flag) = (group.handle(), Arc::clone(&runs), flag.clone());
            tokio::task::spawn_blocking(move || produce(handle, runs, flag))
        });
        // On a busy machine the end may come first in every round: so in each other one a job is in.
        while round % 2 == 0 && group.stats() == Stats::default() {
            tokio::task::yield_now().await;
        }
        // The moment of the end is another one in each round.
        for _ in 0..round * 10 {
            std::hint::spin_loop();
        }
        let _kept = end(group).await;
        let at_the_end = runs.load(Ordering::SeqCst);
        let mut accepted = Vec::new();
        for producer in producers {
            let (jobs, answer) = producer.await.unwrap();
            assert_eq!(answer, rejection, "round {round}");
            accepted.extend(jobs);
        }
        until("all jobs ended", || {
            accepted.iter().all(JobHandle::is_finished)
        })
        .await;
        let finished = accepted
            .iter()
            .filter(|job| job.state() == JobState::Finished)
            .count();
        let figures = (accepted.len(), finished, at_the_end);
        assert_eq!(runs.load(Ordering::SeqCst), finished, "{round} {figures:?}");
        if drains {
            assert_eq!(finished, accepted.len(), "{round} {figures:?}");
            assert_eq!(at_the_end, finished, "{round} {figures:?}");
        }
        // One rejected job for each producer.
        until("all dropped", || flag.drops() == accepted.len() + 2).await;
    }
}

#[test]
fn what_races_with_wait_is_covered_or_rejected() {
    watched(|| {
        let end = |group: Group| async move {
            group.wait().await.unwrap();
            group
        };
        multi_thread().block_on(bounded(race(end, "closed", true)));
    });
}

#[test]
fn what_races_with_a_cancel_has_run_or_was_dropped() {
    watched(|| {
        let end = |group: Group| async move {
            group.cancel();
            group
        };
        multi_thread().block_on(bounded(race(end, "cancelled", false)));
    });
}

#[test]
fn what_races_with_a_drop_has_run_or_was_dropped() {
    watched(|| {
        let end = |group: Group| async move { drop(group) };
        multi_thread().block_on(bounded(race(end, "cancelled", false)));
    });
}

#[test]
fn what_races_with_a_shutdown_has_run_or_was_dropped() {
    watched(|| {
        let end = |group: Group| async move {
            group.shutdown(HOUR).await;
            group
        };
        multi_thread().block_on(bounded(race(end, "closed", false)));
    });
}

#[test]
fn the_state_tells_what_became_of_a_job() {
    on_both(|| async {
        let group = Group::new();
        let ran = group.delay(Duration::ZERO, async {});
        let panicked = group.delay(Duration::ZERO, async { panic!("boom") });
        let running = group.delay(Duration::ZERO, std::future::pending());
        let aborted = group.delay(Duration::ZERO, std::future::pending());
        let cancelled = group.delay(HOUR, async {});
        let pending = group.delay(HOUR, async {});
        until("all have started", || group.stats().pending == 2).await;
        until("two have ended", || {
            ran.is_finished() && panicked.is_finished()
        })
        .await;
        assert!(cancelled.cancel());
        aborted.abort();
        until("aborted", || aborted.is_finished()).await;
        let states = |jobs: &[&JobHandle]| jobs.iter().map(|job| job.state()).collect::<Vec<_>>();
        let jobs = [&ran, &panicked, &running, &aborted, &cancelled, &pending];
        let mut expected = [
            JobState::Finished,
            JobState::Panicked,
            JobState::Running,
            JobState::Cancelled,
            JobState::Cancelled,
            JobState::Pending,
        ];
        assert_eq!(states(&jobs), expected);
        for job in jobs {
            let state = job.state();
            assert_eq!(job.is_pending(), state == JobState::Pending, "{job:?}");
            let open = matches!(state, JobState::Pending | JobState::Running);
            assert_eq!(job.is_finished(), !open, "{job:?}");
        }

        drop(group);
        until("dropped", || running.is_finished() && pending.is_finished()).await;
        expected[2] = JobState::Cancelled;
        expected[5] = JobState::Cancelled;
        assert_eq!(states(&jobs), expected);
    });
}

#[tokio::test(start_paused = true)]
async fn a_job_is_running_while_it_runs() {
    let group = Group::new();
    let (send, own) = tokio::sync::oneshot::channel::<JobHandle>();
    let job = group.delay(ms(1), async {
        let own = own.await.unwrap();
        assert_eq!(own.state(), JobState::Running);
    });
    assert!(send.send(job.clone()).is_ok());
    group.wait().await.unwrap();
    assert_eq!(job.state(), JobState::Finished);
}

#[tokio::test(start_paused = true)]
async fn a_final_state_stays() {
    let group = Group::new();
    let finished = group.delay(ms(0), async {});
    let cancelled = group.delay(ms(10), async {});
    settle().await;
    assert!(cancelled.cancel());
    let states = || (finished.state(), cancelled.state());
    for job in [&finished, &cancelled] {
        assert!(!job.cancel());
        job.abort();
        assert!(!job.reset_after(ms(1)));
        settle().await;
        assert_eq!(states(), (JobState::Finished, JobState::Cancelled));
    }
    group.cancel();
    settle().await;
    drop(group);
    settle().await;
    assert_eq!(states(), (JobState::Finished, JobState::Cancelled));
}
