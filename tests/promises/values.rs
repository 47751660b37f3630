//! What the group says about itself is true at every moment: counts, the next deadline, the lateness,
//! names.
//!
//! Traits and `Debug` texts of the types are in `tests/types.rs`.

use std::collections::BTreeSet;
use std::future::pending;
use std::panic::Location;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use schedgroup::{Group, JobHandle, JobInfo, JobState, Next, Stats};
use tokio::time::{Instant, sleep};

use crate::common::{HOUR, Hold, Log, Random, context_of, jump, methods, ms, settle, us};

#[tokio::test(start_paused = true)]
async fn ids_are_unique_and_rise_across_methods_and_ends() {
    let group = Group::new();
    let hold = Hold::new();
    let (handle, context) = (group.handle(), context_of(&group, &hold).await);
    let (at, job) = (Instant::now() + HOUR, || async {});
    let mut ids = vec![context.id()];
    for (_, call) in methods!(group, at, job)
        .into_iter()
        .chain(methods!(handle, at, job))
        .chain(methods!(context, at, job))
    {
        let job = call();
        // A name is not given to another job when its own has gone.
        assert!(job.cancel());
        ids.push(job.id());
    }
    assert!(ids.is_sorted_by(|one, next| one < next), "{ids:?}");
    let texts = ids.iter().map(ToString::to_string).collect::<BTreeSet<_>>();
    assert_eq!(texts.len(), ids.len(), "{texts:?}");
    let padded = format!("{:>5}", ids[0]);
    assert_eq!(padded.len(), 5, "a width is heeded: {padded:?}");
    hold.release();
}

#[tokio::test(start_paused = true)]
async fn a_handle_has_the_counts_and_the_token_of_its_group() {
    let (group, hold) = (Group::new(), Hold::new());
    let context = context_of(&group, &hold).await;
    group.delay(HOUR, async {});
    let handles = [group.handle(), context.handle()];
    for handle in &handles {
        assert_eq!(handle.stats(), group.stats());
        assert!(!handle.token().is_cancelled());
    }
    group.cancel();
    assert!(handles.iter().all(|handle| handle.token().is_cancelled()));
    hold.release();
    settle().await;
    drop(group);
    let stats = context.handle().stats();
    assert_eq!(
        (stats.finished, stats.cancelled),
        (1, 1),
        "also when it is gone"
    );
}

/// That these are the jobs of the group, by their states and the numbers of their runs.
#[track_caller]
fn assert_listed<const N: usize>(group: &Group, expected: [(&JobHandle, JobState, u64); N]) {
    let listed = group.jobs();
    let listed: Vec<_> = listed
        .iter()
        .map(|job| (job.id, job.state, job.run))
        .collect();
    assert_eq!(
        listed,
        expected.map(|(job, state, run)| (job.id(), state, run))
    );
}

#[tokio::test(start_paused = true)]
async fn the_jobs_that_have_not_ended_are_listed_in_the_order_of_submission() {
    use JobState::{Pending, Running};
    let (group, hold) = (Group::builder().max_running(1).build(), Hold::new());
    assert_eq!(group.jobs(), []);
    let later = group.delay(2 * HOUR, async {});
    let runs = group.delay(Duration::ZERO, hold.job());
    let waits = group.delay(Duration::ZERO, async {});
    let site = Location::caller().line() - 1;
    let (ended, cancelled) = (group.delay(HOUR, async {}), group.delay(HOUR, async {}));
    hold.started().await;
    cancelled.cancel();
    let expected = [
        (&later, Pending, 1),
        (&runs, Running, 1),
        (&waits, Pending, 1),
        (&ended, Pending, 1),
    ];
    assert_listed(&group, expected);
    let JobInfo {
        deadline,
        scheduled_at,
        ..
    } = group.jobs()[2];
    assert_eq!(deadline, waits.deadline());
    assert_eq!((scheduled_at.file(), scheduled_at.line()), (file!(), site));
    runs.abort();
    ended.reset_after(Duration::ZERO);
    settle().await;
    assert!(ended.is_finished() && waits.is_finished());
    assert_listed(&group, [(&later, Pending, 1)]);
}

/// The number of its run, while it runs and for the next one; whatever is asked of it meanwhile.
#[tokio::test(start_paused = true)]
async fn a_series_is_listed_with_the_number_of_its_run() {
    let (group, hold) = (Group::new(), Hold::new());
    let held = hold.clone();
    let series = group.repeat(Instant::now() + ms(1), move |_| {
        let held = held.job();
        async move {
            held.await;
            Next::After(HOUR)
        }
    });
    for run in 1..=3 {
        assert_listed(&group, [(&series, JobState::Pending, run)]);
        assert!(series.reset_after(ms(1)));
        assert_listed(&group, [(&series, JobState::Pending, run)]);
        hold.started().await;
        assert_listed(&group, [(&series, JobState::Running, run)]);
        assert!(series.reset_after(HOUR));
        assert_listed(&group, [(&series, JobState::Running, run)]);
        hold.release();
        settle().await;
    }
    assert!(series.cancel());
    assert_listed(&group, []);
}

/// A worker claims several jobs at a time, and those behind the first have not started.
#[tokio::test(start_paused = true)]
async fn a_job_in_its_first_poll_is_listed_as_running_and_those_behind_it_are_not() {
    let group = Arc::new(Group::new());
    let seen = Arc::new(Mutex::new(Vec::new()));
    let look = || {
        let (group, seen) = (Arc::downgrade(&group), Arc::clone(&seen));
        move || {
            let jobs = group.upgrade().map(|group| group.jobs());
            let states = jobs.into_iter().flatten().map(|job| (job.state, job.run));
            seen.lock().unwrap().push(states.collect::<Vec<_>>());
        }
    };
    let (first, second) = (look(), look());
    group.delay(ms(1), async move { first() });
    group.repeat(Instant::now() + ms(1), move |_| {
        second();
        async { Next::Done }
    });
    group.delay(ms(1), async {});
    group.wait().await.unwrap();
    let (running, pending) = ((JobState::Running, 1), (JobState::Pending, 1));
    let expected = [vec![running, pending, pending], vec![running, pending]];
    assert_eq!(*seen.lock().unwrap(), expected);
}

/// A worker has claimed it, and another job gets its slot.
#[tokio::test(start_paused = true)]
async fn a_series_that_is_cancelled_just_before_its_run_leaves_its_id_to_no_other_job() {
    let group = Group::new();
    let series = Arc::new(Mutex::new(None::<JobHandle>));
    let claimed = Arc::clone(&series);
    group.delay(ms(1), async move {
        let series = claimed.lock().unwrap().take();
        assert!(series.is_some_and(|series| series.cancel()));
    });
    let at = Instant::now() + ms(1);
    *series.lock().unwrap() = Some(group.repeat(at, |_| async { unreachable!() }));
    sleep(ms(2)).await;
    let [one, two] = [(); 2].map(|()| group.delay(Duration::ZERO, pending()));
    settle().await;
    let expected = [(&one, JobState::Running, 1), (&two, JobState::Running, 1)];
    assert_listed(&group, expected);
}

/// Ends of jobs, by the states of their handles.
fn count(jobs: &[JobHandle], state: JobState) -> usize {
    jobs.iter().filter(|job| job.state() == state).count()
}

/// A random group: at every millisecond its counts are those of its jobs' states.
#[tokio::test(start_paused = true)]
async fn the_counts_are_those_of_the_jobs_at_every_moment() {
    for seed in 0..50 {
        let mut random = Random(seed);
        let group = Group::builder()
            .max_running(1 + random.below(4) as usize)
            .build();
        let mut jobs = Vec::new();
        for at in 0..60 {
            for _ in 0..random.below(3) {
                let (delay, work) = (ms(random.below(20)), ms(1 + random.below(8)));
                let runs = 1 + random.below(3);
                jobs.push(match random.below(4) {
                    0 => group.delay(delay, async { std::panic::resume_unwind(Box::new(())) }),
                    1 => group.repeat(Instant::now() + delay, move |context| async move {
                        sleep(work).await;
                        if context.run() == runs {
                            Next::Done
                        } else {
                            Next::After(work)
                        }
                    }),
                    _ => group.delay_with(delay, move |_| sleep(work)),
                });
            }
            if !jobs.is_empty() {
                let job = &jobs[random.below(jobs.len() as u64) as usize];
                match random.below(8) {
                    0 => _ = job.cancel(),
                    1 => job.abort(),
                    2 | 3 => _ = job.reset_after(ms(random.below(10))),
                    _ => {}
                }
            }
            assert_true(&group, &jobs, &format!("seed {seed}, {at} ms"));
            sleep(ms(1)).await;
        }
        assert!(jobs.iter().any(|job| job.is_pending()), "seed {seed}");
        group.cancel();
        settle().await;
        assert_true(&group, &jobs, &format!("seed {seed}, cancelled"));
    }
}

fn assert_true(group: &Group, jobs: &[JobHandle], when: &str) {
    let stats: Stats = group.stats();
    let counted = [
        stats.pending,
        stats.running,
        stats.finished as usize,
        stats.cancelled as usize,
        stats.panicked as usize,
    ];
    let states = [
        JobState::Pending,
        JobState::Running,
        JobState::Finished,
        JobState::Cancelled,
        JobState::Panicked,
    ]
    .map(|state| count(jobs, state));
    assert_eq!(counted, states, "{when}: {stats:?}");
    assert_eq!(counted.iter().sum::<usize>(), jobs.len(), "{when}");
    assert!(stats.waiting <= stats.pending, "{when}: {stats:?}");
    let pending = jobs.iter().filter(|job| job.is_pending());
    let earliest = pending.map(JobHandle::deadline).min();
    let held = jobs.iter().filter(|job| !job.is_finished());
    let held: Vec<_> = held
        .map(|job| (job.id(), job.state(), job.deadline()))
        .collect();
    let listed = group.jobs();
    let listed: Vec<_> = listed
        .iter()
        .map(|job| (job.id, job.state, job.deadline))
        .collect();
    assert_eq!(listed, held, "{when}");
    match (stats.next_deadline, earliest) {
        (Some(told), Some(earliest)) => assert!(told <= earliest, "{when}: {stats:?}"),
        (told, earliest) => assert_eq!(told, earliest, "{when}: {stats:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn the_next_deadline_is_exact_once_the_driver_has_looked() {
    let group = Group::new();
    let start = Instant::now();
    let next = || group.stats().next_deadline.map(|at| at - start);
    assert_eq!(next(), None);
    let first = group.delay(ms(30), async {});
    assert_eq!(next(), Some(ms(30)), "before the driver has seen it");
    let earlier = group.delay(us(10_500), async {});
    assert_eq!(next(), Some(us(10_500)));
    settle().await;
    assert_eq!(next(), Some(us(10_500)));
    assert!(earlier.reset_at(start + ms(5)));
    assert_eq!(next(), Some(ms(5)), "a move to earlier is told at once");
    assert!(earlier.reset_at(start + ms(50)));
    assert!(next() <= Some(ms(30)), "{:?}", next());
    // The driver looks again when what it sleeps for has passed.
    sleep(ms(12)).await;
    assert_eq!(next(), Some(ms(30)));
    assert!(first.cancel());
    sleep(ms(20)).await;
    assert_eq!(next(), Some(ms(50)));
    assert!(earlier.cancel());
    assert_eq!(next(), None, "nothing is pending");
}

#[tokio::test(start_paused = true)]
async fn a_due_job_that_waits_is_the_next_deadline() {
    let group = Group::builder().max_running(1).build();
    let start = Instant::now();
    group.delay(Duration::ZERO, sleep(ms(50)));
    group.delay(ms(40), async {});
    group.delay(ms(20), async {});
    group.delay(HOUR, async {});
    sleep(ms(45)).await;
    let stats = group.stats();
    assert_eq!((stats.pending, stats.waiting), (3, 2), "{stats:?}");
    assert_eq!(stats.next_deadline, Some(start + ms(20)), "{stats:?}");
    sleep(ms(10)).await;
    assert_eq!(group.stats().next_deadline, Some(start + HOUR));
}

/// What was cancelled while it waited for a slot is found in passing, or by a sweep, after which nothing of it is left.
#[tokio::test(start_paused = true)]
async fn many_due_jobs_that_are_cancelled_leave_nothing_in_front_of_the_next_deadline() {
    let group = Group::builder().max_running(1).build();
    let start = Instant::now();
    group.delay(Duration::ZERO, sleep(HOUR));
    let due = |at: u64, count| (0..count).map(move |_| ms(at));
    let jobs = due(10, 100).chain(due(20, 3_000));
    let jobs: Vec<_> = jobs.map(|due| group.delay(due, async {})).collect();
    sleep(ms(30)).await;
    assert_eq!(group.stats().waiting, 3_100);
    for job in &jobs[..2_600] {
        assert!(job.cancel());
    }
    let stats = group.stats();
    assert_eq!(stats.waiting, 500);
    assert_eq!(stats.next_deadline, Some(start + ms(20)));
}

#[tokio::test(start_paused = true)]
async fn the_max_lateness_is_that_of_the_latest_start() {
    let group = Group::builder().max_running(1).build();
    let late = || group.stats().max_lateness;
    group.delay(ms(5), async { sleep(ms(10)).await });
    sleep(ms(6)).await;
    assert_eq!(late(), ms(0));
    // Due while the first one runs until fifteen, and after that on time.
    group.delay(ms(2), async {});
    sleep(ms(10)).await;
    assert_eq!(late(), ms(7));
    group.delay(us(500), async {});
    sleep(ms(10)).await;
    assert_eq!(late(), ms(7), "less late than before");
    group.schedule(Instant::now() - ms(20), async {});
    settle().await;
    assert_eq!(late(), ms(20));
}

/// Wherever that one is among those that a worker has claimed together.
#[tokio::test(start_paused = true)]
async fn the_max_lateness_counts_what_a_long_job_held_up() {
    for jobs in 2..=8 {
        for long in 0..jobs - 1 {
            let (group, now) = (Group::new(), Instant::now());
            for job in 0..jobs {
                group.schedule(now, async move {
                    if job == long {
                        jump(ms(5));
                    }
                });
            }
            group.wait().await.unwrap();
            assert_eq!(group.stats().max_lateness, ms(5), "{long} of {jobs}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_job_counts_those_of_its_batch_that_have_not_started_as_waiting() {
    let (group, due) = (Group::new(), Instant::now() + ms(1));
    let seen = Log::new();
    for _ in 0..10 {
        let seen = seen.clone();
        group.schedule_with(due, move |context| async move {
            let stats = context.handle().stats();
            let counts = (stats.pending, stats.waiting, stats.running, stats.finished);
            seen.push((counts, stats.next_deadline));
        });
    }
    group.delay(HOUR, async {});
    sleep(ms(2)).await;
    let expected = (0..10).map(|before| {
        let waiting = 9 - before as usize;
        let next = if waiting == 0 {
            due - ms(1) + HOUR
        } else {
            due
        };
        ((waiting + 1, waiting, 1, before), Some(next))
    });
    assert_eq!(seen.labels(), expected.collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn the_lateness_of_a_moved_job_counts_from_where_it_was_moved_to() {
    let group = Group::builder().max_running(1).build();
    let log = Log::new();
    let told = log.clone();
    group.delay(Duration::ZERO, sleep(ms(50)));
    let moved = group.delay_with(ms(1), move |context| async move {
        told.push(context.lateness());
    });
    sleep(ms(10)).await;
    assert!(moved.reset_after(ms(30)));
    group.wait().await.unwrap();
    assert_eq!(log.take(), [(ms(10), ms(50))]);
    assert_eq!(group.stats().max_lateness, ms(10));
}

#[tokio::test(start_paused = true)]
async fn a_deadline_stays_what_the_last_run_was_for() {
    let group = Group::new();
    let start = Instant::now();
    let job = group.delay(ms(10), async { sleep(ms(10)).await });
    let due = || job.deadline() - start;
    assert_eq!(due(), ms(10));
    assert!(job.reset_after(us(20_300)));
    assert_eq!(due(), us(20_300));
    sleep(ms(25)).await;
    assert_eq!((job.state(), due()), (JobState::Running, us(20_300)));
    assert!(!job.reset_after(ms(1)));
    group.wait().await.unwrap();
    assert_eq!((job.state(), due()), (JobState::Finished, us(20_300)));
}

#[tokio::test]
async fn a_group_is_known_by_its_name() {
    for name in ["mails", ""] {
        let group = Group::builder().name(name).build();
        let expected = format!("{name:?}");
        for text in [format!("{group:?}"), format!("{:?}", group.handle())] {
            assert!(text.contains(&expected), "no {expected} in {text}");
        }
    }
    let (one, other) = (
        Group::builder().name("one").build(),
        Group::builder().name(String::from("one")).build(),
    );
    let id = one.delay(HOUR, async {}).id();
    assert_eq!(id, other.delay(HOUR, async {}).id(), "names are not keys");
}
