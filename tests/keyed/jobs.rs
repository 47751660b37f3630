//! Entries whose values are jobs.

use std::future::{Ready, poll_fn};
use std::hash::{BuildHasher, Hash, Hasher};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Wake};
use std::time::Duration;

use crate::common::{
    Flag, HOUR, Hold, Log, OnDrop, Random, bounded, ms, multi_thread, panic_of, paused, settle,
    until, watched,
};
use schedgroup::keyed::OnDuplicate::{Keep, KeepEarliest, KeepLatest, Replace};
use schedgroup::keyed::{BoxedJob, Inserted, KeyedContext, KeyedGroup, KeyedHandle, OnDuplicate};
use schedgroup::{Group, WaitError};
use tokio::time::{Instant, sleep};

async fn nothing() {}

/// What became of a job that was handed in.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Answer {
    New,
    Replaced,
    Kept,
    Rejected,
}

use Answer::{Kept, New, Rejected, Replaced};

/// The answer without the job that comes back, which is dropped.
fn answer<V>(inserted: Inserted<V>) -> Answer {
    match inserted {
        Inserted::New => New,
        Inserted::Replaced(_) => Replaced,
        Inserted::Kept(_) => Kept,
        Inserted::Rejected(_) => Rejected,
        other => panic!("{}", std::any::type_name_of_val(&other)),
    }
}

// One pending job for each key.

#[tokio::test(start_paused = true)]
async fn keys_do_not_meddle_with_each_other() {
    let (keyed, log) = (KeyedGroup::new(), Log::new());
    for key in 0..100_u64 {
        keyed.delay(key, ms(100 - key), log.job(key), Replace);
    }
    assert_eq!(keyed.len(), 100);
    keyed.wait().await.unwrap();
    let expected: Vec<u64> = (0..100).rev().collect();
    assert_eq!(log.labels(), expected);
}

#[tokio::test(start_paused = true)]
async fn equal_deadlines_start_in_the_order_of_submission() {
    let (keyed, log) = (KeyedGroup::new(), Log::new());
    let at = Instant::now() + ms(5);
    for key in [3, 1, 2] {
        keyed.schedule(key, at, log.job(key), Replace);
    }
    keyed.wait().await.unwrap();
    assert_eq!(log.labels(), [3, 1, 2]);
}

#[tokio::test(start_paused = true)]
async fn a_key_is_free_from_the_start_of_its_job() {
    let (keyed, hold, log) = (KeyedGroup::new(), Hold::new(), Log::new());
    keyed.delay('k', Duration::ZERO, hold.job(), Replace);
    hold.started().await;
    assert_eq!((keyed.len(), keyed.contains_key(&'k')), (0, false));
    assert!(keyed.remove(&'k').is_none() && !keyed.reset_at(&'k', Instant::now()));
    let again = keyed.delay('k', ms(1), log.job("beside it"), Keep);
    assert_eq!(answer(again), New);
    sleep(ms(2)).await;
    assert_eq!(log.labels(), ["beside it"]);
    hold.release();
    keyed.wait().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn keys_are_found_by_what_they_borrow_as() {
    let keyed: KeyedGroup<String> = KeyedGroup::new();
    keyed.delay("ada".to_owned(), HOUR, nothing(), Replace);
    assert!(keyed.contains_key("ada") && !keyed.contains_key("ben"));
    assert!(keyed.reset_after("ada", ms(1)) && !keyed.reset_after("ben", ms(1)));
    assert!(keyed.remove("ada").is_some() && keyed.is_empty());
}

// Moving and cancelling.

#[tokio::test(start_paused = true)]
async fn a_moved_key_runs_its_own_job_at_the_new_time() {
    let (keyed, log) = (KeyedGroup::new(), Log::new());
    let start = Instant::now();
    keyed.delay("later", ms(10), log.job("later"), Replace);
    keyed.delay("sooner", ms(500), log.job("sooner"), Replace);
    assert!(keyed.reset_at("later", start + ms(300)));
    assert!(keyed.reset_at("sooner", start + ms(20)));
    assert_eq!(keyed.deadline("later"), Some(start + ms(300)));
    keyed.wait().await.unwrap();
    assert_eq!(log.take(), [("sooner", ms(20)), ("later", ms(300))]);
}

#[tokio::test(start_paused = true)]
async fn a_reset_brings_no_new_job() {
    let keyed = KeyedGroup::new();
    keyed.delay(1, HOUR, nothing(), Replace);
    for step in 0..1000 {
        assert!(keyed.reset_after(&1, HOUR + ms(step)));
    }
    let stats = keyed.stats();
    assert_eq!((stats.pending, stats.cancelled), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn what_is_removed_or_replaced_counts_as_cancelled() {
    let keyed = KeyedGroup::new();
    for key in 0..4 {
        keyed.delay(key, HOUR, nothing(), Replace);
        assert!(keyed.remove(&key).is_some());
        assert_eq!(keyed.stats().cancelled, key + 1);
    }
}

/// A worker has claimed both, and starts one after the other.
#[tokio::test(start_paused = true)]
async fn an_entry_has_its_deadline_until_it_starts() {
    let (keyed, log) = (KeyedGroup::new(), Log::new());
    let at = Instant::now() + ms(1);
    for key in ['a', 'b'] {
        let (handle, log) = (keyed.handle(), log.clone());
        let looks = async move { log.push(['a', 'b'].map(|key| handle.deadline(&key))) };
        keyed.schedule(key, at, looks, Replace);
    }
    keyed.wait().await.unwrap();
    assert_eq!(log.labels(), [[None, Some(at)], [None, None]]);
}

#[tokio::test(start_paused = true)]
async fn any_deadline_will_do() {
    let (keyed, log) = (KeyedGroup::new(), Log::new());
    keyed.delay("far", Duration::MAX, log.job("far"), Replace);
    keyed.delay("near", ms(1), log.job("near"), Replace);
    assert!(keyed.reset_after("near", Duration::MAX));
    keyed.debounce("calm", Duration::MAX, Duration::MAX, log.job("calm"));
    sleep(HOUR).await;
    assert_eq!((keyed.len(), log.len()), (3, 0));
    assert!(keyed.reset_at("near", Instant::now() - ms(1)));
    assert!(keyed.remove("far").is_some() && keyed.remove("calm").is_some());
    keyed.wait().await.unwrap();
    assert_eq!(log.take(), [("near", HOUR)]);
}

#[tokio::test(start_paused = true)]
async fn a_removed_job_is_given_back_once() {
    let (keyed, flag) = (KeyedGroup::new(), Flag::new());
    keyed.delay(1, HOUR, flag.job(), Replace);
    assert!(keyed.remove(&1).is_some());
    assert_eq!((flag.drops(), keyed.len()), (1, 0));
    assert!(keyed.remove(&1).is_none());
    assert_eq!(keyed.wait().await.ok(), Some(()));
}

#[tokio::test(start_paused = true)]
async fn the_job_that_is_not_kept_is_given_back() {
    let (keyed, old, new) = (KeyedGroup::new(), Flag::new(), Flag::new());
    keyed.delay(1, HOUR, old.job(), Replace);
    keyed.delay(1, HOUR, new.job(), Keep);
    assert_eq!((old.drops(), new.drops()), (0, 1), "kept");
    keyed.delay(1, HOUR, new.job(), Replace);
    assert_eq!((old.drops(), new.drops()), (1, 1), "replaced");
}

// Debouncing.

#[tokio::test(start_paused = true)]
async fn a_burst_runs_its_last_job_once_after_the_quiet() {
    let (keyed, log) = (KeyedGroup::new(), Log::new());
    for event in 0..5 {
        let outcome = keyed.debounce('k', ms(100), HOUR, log.job(event));
        let expected = if event == 0 { New } else { Replaced };
        assert_eq!(answer(outcome), expected);
        sleep(ms(50)).await;
    }
    keyed.wait().await.unwrap();
    assert_eq!(log.take(), [(4, ms(300))]);
}

#[tokio::test(start_paused = true)]
async fn a_burst_without_a_pause_is_cut_by_the_ceiling() {
    let (keyed, log) = (KeyedGroup::new(), Log::new());
    for event in 0..10 {
        keyed.debounce('k', ms(100), ms(260), log.job(event));
        sleep(ms(50)).await;
    }
    keyed.wait().await.unwrap();
    // The second burst begins with the event at 300 and ends with the one at 450.
    assert_eq!(log.take(), [(5, ms(260)), (9, ms(550))]);
}

#[tokio::test(start_paused = true)]
async fn the_ceiling_counts_from_the_first_debounce_of_what_is_pending() {
    let (keyed, log) = (KeyedGroup::new(), Log::new());
    keyed.delay('k', HOUR, log.job("expiry"), Replace);
    sleep(ms(1_000)).await;
    keyed.debounce('k', ms(100), ms(150), log.job("first"));
    sleep(ms(90)).await;
    keyed.debounce('k', ms(100), ms(150), log.job("second"));
    sleep(ms(100)).await;
    assert_eq!(log.take(), [("second", ms(1_150))]);

    keyed.debounce('k', ms(100), ms(150), log.job("before"));
    sleep(ms(90)).await;
    keyed.delay('k', HOUR, log.job("scheduled"), Replace);
    keyed.debounce('k', ms(100), ms(150), log.job("anew"));
    keyed.wait().await.unwrap();
    assert_eq!(log.take(), [("anew", ms(1_380))]);
}

// Never twice at once.

fn exclusive<K: Clone + Eq + Hash + Send + Sync + 'static>() -> KeyedGroup<K> {
    KeyedGroup::builder().exclusive().build()
}

#[tokio::test(start_paused = true)]
async fn events_during_a_run_cause_exactly_one_more_run_after_it() {
    let (keyed, log) = (exclusive(), Log::new());
    let long = log.clone();
    let run = async move {
        long.push("begin");
        sleep(ms(100)).await;
        long.push("end");
    };
    keyed.delay('k', Duration::ZERO, run, Replace);
    sleep(ms(10)).await;
    for event in 0..5 {
        let outcome = keyed.delay('k', Duration::ZERO, log.job("again"), Replace);
        let expected = if event == 0 { New } else { Replaced };
        assert_eq!(answer(outcome), expected);
        sleep(ms(10)).await;
    }
    assert_eq!((keyed.len(), keyed.contains_key(&'k')), (1, true));
    keyed.wait().await.unwrap();
    let expected = [("begin", ms(0)), ("end", ms(100)), ("again", ms(100))];
    assert_eq!(log.take(), expected);
}

#[tokio::test(start_paused = true)]
async fn what_waits_for_a_run_keeps_its_own_time() {
    let (keyed, log, start) = (exclusive(), Log::new(), Instant::now());
    keyed.delay('k', Duration::ZERO, sleep(ms(100)), Replace);
    settle().await;
    keyed.schedule('k', start + ms(400), log.job(()), Replace);
    assert_eq!(keyed.deadline(&'k'), Some(start + ms(400)));
    assert!(keyed.reset_at(&'k', start + ms(300)));
    assert_eq!(keyed.deadline(&'k'), Some(start + ms(300)));
    keyed.wait().await.unwrap();
    assert_eq!(log.take(), [((), ms(300))]);
}

#[tokio::test(start_paused = true)]
async fn rules_look_at_the_time_of_what_waits_for_a_run() {
    let (keyed, log) = (exclusive(), Log::new());
    keyed.delay('k', Duration::ZERO, sleep(ms(100)), Replace);
    settle().await;
    keyed.delay('k', ms(300), log.job(300), KeepEarliest);
    let later = keyed.delay('k', ms(400), log.job(400), KeepEarliest);
    let sooner = keyed.delay('k', ms(200), log.job(200), KeepEarliest);
    assert_eq!((answer(later), answer(sooner)), (Kept, Replaced));
    keyed.wait().await.unwrap();
    assert_eq!(log.take(), [(200, ms(200))]);
}

#[tokio::test(start_paused = true)]
async fn what_waits_for_a_run_can_be_cancelled() {
    let (keyed, hold, flag) = (exclusive(), Hold::new(), Flag::new());
    keyed.delay('k', Duration::ZERO, hold.job(), Replace);
    hold.started().await;
    keyed.delay('k', Duration::ZERO, flag.job(), Replace);
    assert!(keyed.remove(&'k').is_some());
    assert_eq!((flag.drops(), keyed.len()), (1, 0));
    hold.release();
    keyed.wait().await.unwrap();
    assert_eq!(keyed.stats().finished, 1);
}

#[tokio::test(start_paused = true)]
async fn a_run_that_panics_lets_the_next_one_of_its_key_run() {
    let (keyed, log) = (exclusive(), Log::new());
    let boom = async {
        sleep(ms(10)).await;
        panic!("boom");
    };
    keyed.delay('k', Duration::ZERO, boom, Replace);
    settle().await;
    keyed.delay('k', Duration::ZERO, log.job("next"), Replace);
    let result = keyed.wait().await;
    assert!(matches!(&result, Err(WaitError::Panicked(panic)) if panic.message() == "boom"));
    assert_eq!(log.take(), [("next", ms(10))]);
}

#[tokio::test(start_paused = true)]
async fn what_waits_for_a_run_takes_no_slot() {
    let (keyed, hold, log) = (
        KeyedGroup::builder().max_running(2).exclusive().build(),
        Hold::new(),
        Log::new(),
    );
    keyed.delay("busy", Duration::ZERO, hold.job(), Replace);
    hold.started().await;
    keyed.delay("busy", Duration::ZERO, log.job("busy again"), Replace);
    keyed.delay("other", ms(1), log.job("other"), Replace);
    sleep(ms(2)).await;
    assert_eq!(log.labels(), ["other"]);
    hold.release();
    keyed.wait().await.unwrap();
    assert_eq!(log.labels(), ["busy again"]);
}

#[tokio::test(start_paused = true)]
async fn wait_covers_what_waits_for_a_run() {
    let (keyed, hold, log) = (exclusive(), Hold::new(), Log::new());
    keyed.delay('k', Duration::ZERO, hold.job(), Replace);
    hold.started().await;
    keyed.delay('k', Duration::ZERO, log.job("next"), Replace);
    let wait = keyed.wait();
    hold.release();
    wait.await.unwrap();
    assert_eq!(log.labels(), ["next"]);
}

#[tokio::test(start_paused = true)]
async fn shutdown_lets_what_is_due_and_waits_for_a_run_follow_within_the_grace() {
    for (grace, ran) in [(HOUR, 2), (ms(5), 0)] {
        let (keyed, flag) = (exclusive(), Flag::new());
        keyed.delay('k', Duration::ZERO, sleep(ms(10)), Replace);
        settle().await;
        keyed.delay('k', Duration::ZERO, flag.job(), Replace);
        settle().await;
        let (report, left) = keyed.shutdown(grace).await;
        assert_eq!(report.finished, ran, "{grace:?}: {report:?}");
        assert_eq!(left.len(), report.dropped, "{grace:?}: {report:?}");
        assert_eq!((flag.drops(), keyed.len()), (ran / 2, 0), "{grace:?}");
    }
}

#[test]
fn runs_of_one_key_never_overlap_on_two_workers() {
    watched(|| {
        multi_thread().block_on(bounded(async {
            let keyed = exclusive();
            let (inside, runs) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
            let mut inserted = 0;
            for _ in 0..2_000 {
                let (inside, runs) = (Arc::clone(&inside), Arc::clone(&runs));
                let run = async move {
                    assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0, "two at once");
                    tokio::task::yield_now().await;
                    inside.fetch_sub(1, Ordering::SeqCst);
                    runs.fetch_add(1, Ordering::SeqCst);
                };
                if answer(keyed.delay('k', Duration::ZERO, run, Replace)) == New {
                    inserted += 1;
                }
                tokio::task::yield_now().await;
            }
            keyed.wait().await.unwrap();
            assert_eq!(runs.load(Ordering::SeqCst), inserted);
        }));
    });
}

// Races.

/// Each pending time of a key begins with a `New`, and ends in one run or one removal.
#[test]
fn every_insertion_ends_in_exactly_one_run_or_cancel() {
    watched(|| {
        multi_thread().block_on(bounded(async {
            let keyed = Arc::new(KeyedGroup::new());
            let runs = Arc::new(AtomicUsize::new(0));
            let threads: Vec<_> = (0..3_u64)
                .map(|thread| {
                    let (keyed, runs) = (Arc::clone(&keyed), Arc::clone(&runs));
                    std::thread::spawn(move || {
                        let mut random = Random(thread);
                        let (mut inserted, mut cancelled) = (0, 0);
                        for _ in 0..20_000 {
                            let key = random.below(3);
                            if random.below(8) == 0 {
                                cancelled += usize::from(keyed.remove(&key).is_some());
                                continue;
                            }
                            let runs = Arc::clone(&runs);
                            let run = async move {
                                runs.fetch_add(1, Ordering::SeqCst);
                            };
                            let rule =
                                [Replace, KeepEarliest, KeepLatest, Keep][random.below(4) as usize];
                            let outcome = keyed.delay(key, Duration::ZERO, run, rule);
                            inserted += usize::from(answer(outcome) == New);
                        }
                        (inserted, cancelled)
                    })
                })
                .collect();
            until("the threads are done", || {
                threads.iter().all(std::thread::JoinHandle::is_finished)
            })
            .await;
            let (mut inserted, mut cancelled) = (0, 0);
            for thread in threads {
                let (more, fewer) = thread.join().unwrap();
                inserted += more;
                cancelled += fewer;
            }
            keyed.wait().await.unwrap();
            let runs = runs.load(Ordering::SeqCst);
            assert_eq!(
                runs + cancelled,
                inserted,
                "{runs} runs, {cancelled} cancelled"
            );
            assert_eq!(keyed.len(), 0);
        }));
    });
}

#[tokio::test(start_paused = true)]
async fn a_due_job_that_has_no_slot_is_still_pending() {
    let (keyed, hold, log) = (
        KeyedGroup::builder().max_running(1).build(),
        Hold::new(),
        Log::new(),
    );
    keyed.delay("busy", Duration::ZERO, hold.job(), Replace);
    hold.started().await;
    keyed.delay("k", Duration::ZERO, log.job("first"), Replace);
    sleep(ms(5)).await;
    let second = keyed.delay("k", Duration::ZERO, log.job("second"), Replace);
    assert_eq!(answer(second), Replaced);
    hold.release();
    keyed.wait().await.unwrap();
    assert_eq!(log.labels(), ["second"]);
}

// Closed and cancelled groups.

#[tokio::test(start_paused = true)]
async fn after_wait_the_owner_is_rejected_at_its_line() {
    let keyed = KeyedGroup::new();
    keyed.delay(1, ms(5), nothing(), Replace);
    let wait = keyed.wait();
    let says = "schedgroup: attempted to schedule job after Group::wait was called";
    let line = line!();
    let misuses = [
        panic_of(|| keyed.delay(2, ms(1), nothing(), Replace)),
        panic_of(|| keyed.schedule(1, Instant::now(), nothing(), Replace)),
        panic_of(|| keyed.delay_with(2, ms(1), |_| nothing(), Replace)),
        panic_of(|| keyed.schedule_with(1, Instant::now(), |_| nothing(), Replace)),
    ];
    for (misuse, below) in misuses.iter().zip(2..) {
        assert_eq!((misuse.message.as_str(), misuse.line), (says, line + below));
        assert!(misuse.file.ends_with("jobs.rs"), "{misuse:?}");
    }
    assert_eq!(keyed.len(), 1);
    wait.await.unwrap();
}

/// The answers of all verbs that hand in a job and cannot hand it back.
macro_rules! answers {
    ($on:expr, $key:expr, $job:expr) => {{
        let (on, key, job) = (&$on, $key, $job);
        let made = |job| move |_| job;
        [
            on.delay(key, ms(1), job(), Replace),
            on.schedule(key, Instant::now() + ms(1), job(), Replace),
            on.delay_with(key, ms(1), made(job()), Replace),
            on.schedule_with(key, Instant::now() + ms(1), made(job()), Replace),
            on.debounce(key, ms(1), ms(1), job()),
        ]
        .map(answer)
    }};
}

#[tokio::test(start_paused = true)]
async fn a_handle_does_not_panic_in_a_group_that_was_closed_or_cancelled() {
    let ends: [fn(&KeyedGroup<u8>); 3] = [
        |keyed| drop(keyed.wait()),
        |keyed| drop(keyed.shutdown(HOUR)),
        |keyed| keyed.cancel(),
    ];
    for (end, door) in ends.iter().zip(["wait", "shutdown", "cancel"]) {
        let (keyed, hold, flag) = (KeyedGroup::new(), Hold::new(), Flag::new());
        let handle = keyed.handle();
        handle.delay(0, Duration::ZERO, hold.job(), Replace);
        hold.started().await;
        end(&keyed);
        assert_eq!(answers!(handle, 1, || flag.job()), [Rejected; 5], "{door}");
        assert_eq!((flag.drops(), handle.len()), (5, 0), "{door}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_rejected_through_a_handle_leaves_the_key_its_job() {
    let (keyed, log, flag) = (KeyedGroup::new(), Log::new(), Flag::new());
    keyed.delay(1, ms(5), log.job("kept"), Replace);
    let (wait, handle) = (keyed.wait(), keyed.handle());
    assert_eq!(answers!(handle, 1, || flag.job()), [Rejected; 5]);
    assert_eq!(flag.drops(), 5);
    wait.await.unwrap();
    assert_eq!(log.take(), [("kept", ms(5))]);
}

#[tokio::test(start_paused = true)]
async fn debounce_of_the_owner_answers_after_wait() {
    let (keyed, log, flag) = (KeyedGroup::new(), Log::new(), Flag::new());
    keyed.delay(1, ms(5), log.job("kept"), Replace);
    let wait = keyed.wait();
    let answers = [1, 2].map(|key| answer(keyed.debounce(key, ms(1), ms(1), flag.job())));
    assert_eq!((answers, flag.drops()), ([Rejected; 2], 2));
    wait.await.unwrap();
    assert_eq!(log.take(), [("kept", ms(5))]);
}

#[tokio::test(start_paused = true)]
async fn after_the_end_a_handle_answers_rejected_and_drops_the_job() {
    let ends: [fn(&KeyedGroup<u8>); 2] = [
        |keyed| drop(keyed.wait()),
        |keyed| drop(keyed.shutdown(HOUR)),
    ];
    for end in ends {
        let (keyed, flag) = (KeyedGroup::new(), Flag::new());
        let (handle, elsewhere) = (keyed.handle(), KeyedGroup::builder().on(&keyed));
        keyed.delay(1, Duration::ZERO, nothing(), Replace);
        end(&keyed);
        let answers = [&handle, &handle.clone(), &elsewhere].map(|keys| {
            [
                keys.delay(2, ms(1), flag.job(), Replace),
                keys.schedule(1, Instant::now(), flag.job(), Replace),
                keys.debounce(2, ms(1), ms(1), flag.job()),
            ]
            .map(answer)
        });
        assert_eq!(answers, [[Rejected; 3]; 3]);
        assert_eq!(flag.drops(), 9);
    }
}

#[tokio::test(start_paused = true)]
async fn a_second_wait_is_misuse_at_its_line() {
    let keyed: KeyedGroup<u8> = KeyedGroup::new();
    keyed.wait().await.unwrap();
    let (line, misuse) = (line!(), panic_of(|| keyed.wait()));
    assert_eq!(misuse.message, "schedgroup: multiple calls to Group::wait");
    assert_eq!(misuse.line, line);
}

#[test]
fn a_keyed_group_needs_a_runtime() {
    for (line, misuse) in [
        (line!(), panic_of(|| drop(KeyedGroup::<u8>::new()))),
        (line!(), panic_of(|| KeyedGroup::<u8>::builder().build())),
    ] {
        assert!(misuse.message.starts_with("schedgroup: "), "{misuse:?}");
        assert_eq!(misuse.line, line);
    }
    let (runtime, log) = (paused(), Log::new());
    let builder = KeyedGroup::builder().runtime(runtime.handle().clone());
    let keyed = builder.build();
    keyed.delay(1, ms(1), log.job("ran"), Replace);
    assert!(runtime.block_on(keyed.wait()).is_ok());
    assert_eq!(log.len(), 1, "the runtime can be named");
}

#[tokio::test(start_paused = true)]
async fn a_rejected_job_comes_back_and_the_key_keeps_what_it_had() {
    let (keyed, other, log) = (KeyedGroup::new(), KeyedGroup::new(), Log::new());
    keyed.delay(1, ms(5), log.job("kept"), Replace);
    let wait = keyed.wait();
    let job = BoxedJob::new(log.job("rejected"));
    let Inserted::Rejected(job) = keyed.insert_after(1, job, ms(1), Replace) else {
        panic!("the group is closed")
    };
    other.insert_after("elsewhere", job, ms(1), Replace);
    let job = BoxedJob::new(nothing());
    let kept = keyed.insert_at(1, job, Instant::now(), Keep);
    assert_eq!(answer(kept), Rejected, "also where the other would be kept");
    assert!(
        keyed.reset_after(&1, ms(7)),
        "a pending key can be moved while the group drains"
    );
    wait.await.unwrap();
    assert_eq!(log.take(), [("rejected", ms(1)), ("kept", ms(7))]);
}

#[tokio::test(start_paused = true)]
async fn a_key_can_be_cancelled_while_the_group_drains() {
    let (keyed, flag, start) = (KeyedGroup::new(), Flag::new(), Instant::now());
    keyed.delay(1, HOUR, flag.job(), Replace);
    keyed.delay(2, ms(5), nothing(), Replace);
    let wait = keyed.wait();
    let removed = keyed.remove(&1).is_some();
    assert_eq!((removed, flag.drops()), (true, 1));
    wait.await.unwrap();
    assert_eq!(start.elapsed(), ms(5));
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_group_keeps_all_values_and_rejects_others() {
    let (keyed, flag) = (KeyedGroup::new(), Flag::new());
    for key in 0..10 {
        keyed.delay(key, HOUR, flag.job(), Replace);
    }
    keyed.cancel();
    assert!(!keyed.reset_after(&1, ms(1)) && !keyed.expire(&1));
    for key in [1, 11] {
        let rejected = keyed.delay(key, HOUR, flag.job(), Replace);
        assert_eq!(answer(rejected), Rejected);
    }
    assert!(matches!(keyed.wait().await, Err(WaitError::Cancelled)));
    settle().await;
    assert_eq!((keyed.len(), flag.drops()), (10, 2));
    assert_eq!(keyed.deadline(&1), None, "it has none any more");
    assert!(keyed.remove(&1).is_some());
    assert_eq!((keyed.drain_values().len(), keyed.len()), (9, 0));
    assert_eq!(flag.drops(), 12);
}

#[tokio::test(start_paused = true)]
async fn dropping_the_keyed_group_drops_its_jobs() {
    for cancelled in [false, true] {
        let (keyed, flag) = (KeyedGroup::new(), Flag::new());
        keyed.delay(1, HOUR, flag.job(), Replace);
        let handle = keyed.handle();
        if cancelled {
            keyed.cancel();
            settle().await;
        }
        drop(keyed);
        assert_eq!((handle.len(), flag.drops()), (0, 1));
        assert_eq!(answer(handle.delay(1, HOUR, nothing(), Replace)), Rejected);
    }
}

#[test]
fn a_runtime_that_ends_leaves_the_values() {
    let (runtime, flag) = (multi_thread(), Flag::new());
    let keyed = {
        let _inside = runtime.enter();
        KeyedGroup::new()
    };
    keyed.delay(1, HOUR, flag.job(), Replace);
    drop(runtime);
    assert_eq!((keyed.len(), flag.drops()), (1, 0));
    assert_eq!(answer(keyed.delay(2, HOUR, nothing(), Replace)), Rejected);
    drop(keyed);
    assert_eq!(flag.drops(), 1);
}

#[tokio::test(start_paused = true)]
async fn keys_live_in_a_group_of_somebody_else_too() {
    let (group, log) = (Group::new(), Log::new());
    let (saves, loads) = (
        KeyedGroup::builder().on(&group),
        KeyedGroup::builder().on(&group),
    );
    saves.delay(1, ms(2), log.job("saved"), Replace);
    loads.delay(1, ms(1), log.job("loaded"), Replace);
    let also_saves = saves.clone();
    assert!(also_saves.reset_after(&1, ms(3)));
    assert_eq!(group.stats().pending, 2);
    group.wait().await.unwrap();
    assert_eq!(log.take(), [("loaded", ms(1)), ("saved", ms(3))]);
}

#[tokio::test(start_paused = true)]
async fn the_handle_of_a_context_is_admitted_while_the_group_drains() {
    let (group, log) = (Group::new(), Log::new());
    let of_job = log.clone();
    group.delay_with(ms(1), |context| async move {
        let keyed = KeyedGroup::builder().on(&context);
        keyed.delay(1, ms(1), of_job.job("from inside"), Replace);
    });
    group.wait().await.unwrap();
    assert_eq!(log.take(), [("from inside", ms(2))]);
}

#[tokio::test(start_paused = true)]
async fn a_panic_names_the_line_that_scheduled_the_job() {
    type Put = fn(&KeyedGroup<u8>) -> u32;
    let verbs: [Put; 3] = [
        |keyed| {
            keyed.delay(1, ms(1), async { panic!("boom") }, Replace);
            line!() - 1
        },
        |keyed| {
            keyed.delay_with(1, ms(1), |_| async { panic!("boom") }, Replace);
            line!() - 1
        },
        |keyed| {
            keyed.debounce(1, ms(1), ms(1), async { panic!("boom") });
            line!() - 1
        },
    ];
    for put in verbs {
        let keyed = KeyedGroup::new();
        let line = put(&keyed);
        let Err(WaitError::Panicked(panic)) = keyed.wait().await else {
            panic!("the panic is lost")
        };
        assert_eq!(panic.scheduled_at().line(), line);
        assert!(panic.scheduled_at().file().ends_with("jobs.rs"));
    }
}

// Jobs that see their group.

#[tokio::test(start_paused = true)]
async fn a_job_schedules_its_own_key_while_the_group_drains() {
    fn hook(
        context: KeyedContext<u8>,
        left: u32,
        log: Log<(u32, bool)>,
    ) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(async move {
            log.push((left, context.is_draining()));
            if left > 0 {
                let again = move |context| hook(context, left - 1, log);
                let again = context.delay_with(1, ms(10), again, Keep);
                assert_eq!(answer(again), New);
            }
        })
    }
    for exclusive in [false, true] {
        let builder = KeyedGroup::builder();
        let builder = if exclusive {
            builder.exclusive()
        } else {
            builder
        };
        let (keyed, log) = (builder.build(), Log::new());
        let of_job = log.clone();
        keyed.delay_with(1, ms(10), |context| hook(context, 2, of_job), Replace);
        keyed.wait().await.unwrap();
        let runs = [(2, 10), (1, 20), (0, 30)].map(|(left, at)| ((left, true), ms(at)));
        assert_eq!(log.take(), runs, "exclusive: {exclusive}");
    }
}

#[tokio::test(start_paused = true)]
async fn all_methods_of_a_context_are_admitted_while_the_group_drains() {
    let (keyed, log) = (KeyedGroup::new(), Log::new());
    let of_job = log.clone();
    let run = move |context: KeyedContext<u8>| async move {
        let job = || of_job.job("by a verb");
        let expected = [New, Replaced, Replaced, Replaced, Replaced];
        assert_eq!(answers!(context, 1, job), expected);
        assert_eq!(answers!(context.handle(), 2, job), expected);
        let inserted = context.insert_after(3, BoxedJob::new(job()), ms(1), Replace);
        assert_eq!(answer(inserted), New);
        let at = Instant::now() + ms(2);
        let inserted = context.insert_at(3, BoxedJob::new(job()), at, KeepLatest);
        assert_eq!(answer(inserted), Replaced);
        assert!(context.reset_at(&2, Instant::now() + ms(5)) && context.reset_after(&1, ms(5)));
        assert_eq!((context.len(), context.contains_key(&3)), (3, true));
        assert!(context.remove(&3).is_some() && !context.is_empty());
    };
    keyed.delay_with(1, ms(1), run, Replace);
    keyed.wait().await.unwrap();
    assert_eq!(log.take(), [("by a verb", ms(6)); 2]);
}

#[tokio::test(start_paused = true)]
async fn a_context_never_panics_and_may_outlive_its_job() {
    async fn context_of(keyed: &KeyedGroup<u8>, hold: &Hold) -> KeyedContext<u8> {
        let (send, context) = tokio::sync::oneshot::channel();
        let held = hold.job();
        let run = |context| async move {
            drop(send.send(context));
            held.await;
        };
        keyed.delay_with(0, Duration::ZERO, run, Replace);
        context.await.unwrap()
    }
    let (keyed, hold, flag) = (KeyedGroup::new(), Hold::new(), Flag::new());
    let context = context_of(&keyed, &hold).await;
    hold.release();
    keyed.wait().await.unwrap();
    assert_eq!(
        answers!(context, 1, || flag.job()),
        [Rejected; 5],
        "drained"
    );

    let keyed = KeyedGroup::new();
    let context = context_of(&keyed, &hold).await;
    drop(keyed.shutdown(HOUR));
    assert_eq!(
        answers!(context, 1, || flag.job()),
        [Rejected; 5],
        "shut down"
    );
    drop(keyed);
    assert_eq!(
        answers!(context, 1, || flag.job()),
        [Rejected; 5],
        "dropped"
    );
    assert_eq!(flag.drops(), 15);
}

#[tokio::test(start_paused = true)]
async fn a_context_tells_of_its_run() {
    let keyed = KeyedGroup::builder().max_running(1).build();
    let (log, hold, start) = (Log::new(), Hold::new(), Instant::now());
    keyed.delay("busy", Duration::ZERO, hold.job(), Replace);
    hold.started().await;
    let of_job = log.clone();
    let run = move |context: KeyedContext<&'static str>| async move {
        let times = (context.deadline(), context.lateness());
        of_job.push((context.id(), times, context.is_draining()));
        context.token().cancelled().await;
    };
    let before = keyed.as_ref().delay(HOUR, nothing()).id();
    keyed.delay_with("k", ms(10), run, Replace);
    let after = keyed.as_ref().delay(HOUR, nothing()).id();
    sleep(ms(25)).await;
    hold.release();
    settle().await;
    keyed.cancel();
    assert!(matches!(keyed.wait().await, Err(WaitError::Cancelled)));
    let [(id, times, is_draining)] = log.labels()[..] else {
        panic!("it ran once")
    };
    assert!(before < id && id < after, "{before} {id} {after}");
    assert_eq!((times, is_draining), ((start + ms(10), ms(15)), false));
}

#[tokio::test(start_paused = true)]
async fn a_closure_that_panics_while_it_makes_its_job_frees_its_key() {
    let (keyed, log) = (exclusive(), Log::new());
    let boom = |_: KeyedContext<char>| -> Ready<()> { panic!("boom") };
    keyed.delay_with('k', Duration::ZERO, boom, Replace);
    settle().await;
    keyed.delay('k', Duration::ZERO, log.job("next"), Replace);
    let result = keyed.wait().await;
    assert!(matches!(&result, Err(WaitError::Panicked(panic)) if panic.message() == "boom"));
    assert_eq!(log.labels(), ["next"]);
}

/// Two panics at once would end the process.
#[tokio::test(start_paused = true)]
async fn a_job_in_a_group_of_other_keys_may_panic_when_it_is_dropped() {
    let (keyed, other) = (KeyedGroup::new(), KeyedGroup::new());
    let bomb = OnDrop(|| panic!("in a destructor"));
    let made = move |_| async move { drop(bomb) };
    keyed.delay_with('k', HOUR, made, Replace);
    let job = keyed.remove(&'k').expect("it is pending");
    other.insert_after("k", job, ms(1), Replace);
    let result = other.wait().await;
    let Err(WaitError::Panicked(panic)) = result else {
        panic!("{result:?}");
    };
    assert!(panic.message().ends_with("of other keys"), "{panic}");
}

#[tokio::test(start_paused = true)]
async fn what_a_closure_holds_goes_with_the_removed_job() {
    let (keyed, flag) = (KeyedGroup::new(), Flag::new());
    let guard = flag.guard();
    let made = move |_| async move { drop(guard) };
    keyed.delay_with('k', HOUR, made, Replace);
    let removed = keyed.remove(&'k').is_some();
    assert_eq!((removed, flag.drops()), (true, 1));
}

#[tokio::test(start_paused = true)]
async fn the_type_of_the_keys_can_be_named_at_the_builder() {
    let keyed = KeyedGroup::<String>::builder().exclusive().build();
    keyed.delay("k".to_owned(), HOUR, nothing(), Replace);
    assert!(keyed.contains_key("k"));
}

// The user's own code.

/// A key whose hash and equality panic on demand.
#[derive(Clone, Debug)]
struct Touchy {
    name: u8,
    hash_panics: bool,
    eq_panics: bool,
}

fn calm(name: u8) -> Touchy {
    Touchy {
        name,
        hash_panics: false,
        eq_panics: false,
    }
}

impl Hash for Touchy {
    fn hash<H: Hasher>(&self, state: &mut H) {
        assert!(!self.hash_panics, "hash");
        self.name.hash(state);
    }
}

impl PartialEq for Touchy {
    fn eq(&self, other: &Touchy) -> bool {
        assert!(!self.eq_panics && !other.eq_panics, "eq");
        self.name == other.name
    }
}

impl Eq for Touchy {}

#[tokio::test(start_paused = true)]
async fn a_panic_of_hash_or_eq_goes_to_the_caller_and_changes_nothing() {
    for (hash_panics, eq_panics) in [(true, false), (false, true)] {
        let (keyed, log, flag) = (KeyedGroup::new(), Log::new(), Flag::new());
        keyed.delay(calm(1), ms(1), log.job("it runs"), Replace);
        let bad = Touchy {
            name: 1,
            hash_panics,
            eq_panics,
        };
        let says = if hash_panics { "hash" } else { "eq" };
        let misuses = [
            panic_of(|| keyed.delay(bad.clone(), ms(1), flag.job(), Replace)),
            panic_of(|| keyed.reset_at(&bad, Instant::now())),
            panic_of(|| keyed.remove(&bad).is_some()),
            panic_of(|| keyed.contains_key(&bad)),
            panic_of(|| keyed.deadline(&bad)),
        ];
        for misuse in misuses {
            assert_eq!(misuse.message, says);
        }
        assert_eq!((keyed.len(), flag.drops()), (1, 1));
        assert!(keyed.reset_after(&calm(1), ms(3)));
        keyed.wait().await.unwrap();
        assert_eq!(log.take(), [("it runs", ms(3))]);
    }
}

/// Growing and shrinking ask no key for its hash, so that no other call can meet its panic.
#[tokio::test(start_paused = true)]
async fn a_key_is_hashed_once_a_call() {
    static HASHED: AtomicUsize = AtomicUsize::new(0);
    #[derive(PartialEq, Eq)]
    struct Counted(u32);
    impl Hash for Counted {
        fn hash<H: Hasher>(&self, state: &mut H) {
            HASHED.fetch_add(1, Ordering::SeqCst);
            self.0.hash(state);
        }
    }
    let keyed = KeyedGroup::new();
    for key in 0..1_000 {
        keyed.delay(Counted(key), ms(1), nothing(), Replace);
    }
    keyed.wait().await.unwrap();
    assert_eq!(HASHED.load(Ordering::SeqCst), 1_000);
}

/// Lets time pass without a turn for the driver or for anybody else.
async fn pass(time: Duration) {
    let mut advance = pin!(tokio::time::advance(time));
    poll_fn(|cx| {
        assert!(
            advance.as_mut().poll(cx).is_pending(),
            "it has advanced, and yields"
        );
        Poll::Ready(())
    })
    .await;
}

/// A waker that asks the keys something.
struct CallsBack(KeyedHandle<u8>, AtomicUsize);

impl Wake for CallsBack {
    fn wake(self: Arc<Self>) {
        self.1.fetch_add(self.0.len() + 1, Ordering::SeqCst);
    }
}

#[test]
fn wakers_of_a_group_that_is_past_its_deadline_may_call_back() {
    let resets = ["reset", "reset of what waits for a run"];
    for way in resets.into_iter().chain(["end of a run", "schedule"]) {
        println!("{way}");
        watched(move || {
            let mut builder = tokio::runtime::Builder::new_current_thread();
            let runtime = builder.enable_time().start_paused(true).build().unwrap();
            runtime.block_on(async {
                let builder = KeyedGroup::<u8>::builder().exclusive();
                let keyed = builder.timeout(ms(10)).build();
                let calls = Arc::new(CallsBack(keyed.handle(), AtomicUsize::new(0)));
                let waker = Arc::clone(&calls).into();
                let mut cancelled = pin!(keyed.token().cancelled_owned());
                let polled = cancelled.as_mut().poll(&mut Context::from_waker(&waker));
                assert!(polled.is_pending());

                // Each of them comes to the group before its driver has seen the time pass.
                let (hold, handle) = (Hold::new(), keyed.handle());
                match way {
                    "end of a run" => {
                        let run = async move {
                            handle.delay(1, HOUR, nothing(), Replace);
                            pass(ms(10)).await;
                        };
                        keyed.delay(1, Duration::ZERO, run, Replace);
                    }
                    "schedule" => {
                        pass(ms(10)).await;
                        keyed.delay(1, HOUR, nothing(), Replace);
                    }
                    way => {
                        if way != "reset" {
                            keyed.delay(1, Duration::ZERO, hold.job(), Replace);
                            hold.started().await;
                        }
                        keyed.delay(1, HOUR, nothing(), Replace);
                        pass(ms(10)).await;
                        assert!(!keyed.reset_after(&1, ms(1)));
                        hold.release();
                    }
                }
                settle().await;
                let calls = calls.1.load(Ordering::SeqCst);
                assert_ne!(calls, 0, "the waker was not woken");
                let ended = keyed.wait().await;
                assert!(
                    matches!(ended, Err(WaitError::DeadlineExceeded)),
                    "{ended:?}"
                );
            });
        });
    }
}

/// A key that calls its group back when it is hashed and when it is dropped.
#[derive(Clone)]
struct Caller(u8, Arc<OnceLock<KeyedHandle<Caller>>>, Arc<AtomicUsize>);

impl Caller {
    fn call(&self) {
        if let Some(keyed) = self.1.get() {
            self.2.fetch_add(keyed.len() + 1, Ordering::SeqCst);
        }
    }
}

impl Hash for Caller {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.call();
        self.0.hash(state);
    }
}

impl PartialEq for Caller {
    fn eq(&self, other: &Caller) -> bool {
        self.0 == other.0
    }
}

impl Eq for Caller {}

impl Drop for Caller {
    fn drop(&mut self) {
        self.call();
    }
}

#[test]
fn hashes_and_destructors_of_keys_and_jobs_may_call_back() {
    watched(|| {
        for exclusive in [false, true] {
            multi_thread().block_on(bounded(async move {
                let builder = KeyedGroup::builder();
                let builder = if exclusive {
                    builder.exclusive()
                } else {
                    builder
                };
                let keyed: KeyedGroup<Caller> = builder.build();
                let (home, calls) = (Arc::new(OnceLock::new()), Arc::new(AtomicUsize::new(0)));
                assert!(home.set(keyed.handle()).is_ok());
                let key = |name| Caller(name, Arc::clone(&home), Arc::clone(&calls));
                let job = || {
                    let handle = keyed.handle();
                    let back = OnDrop(move || {
                        handle.len();
                    });
                    async move {
                        let _back = back;
                        tokio::task::yield_now().await;
                    }
                };
                keyed.delay(key(1), HOUR, job(), Replace);
                keyed.delay(key(1), HOUR, job(), Replace);
                keyed.delay(key(1), HOUR, job(), Keep);
                let job_with = |job| move |_| job;
                keyed.delay_with(key(1), HOUR, job_with(job()), Replace);
                keyed.delay_with(key(1), HOUR, job_with(job()), Keep);
                assert!(keyed.reset_after(&key(1), HOUR) && keyed.contains_key(&key(1)));
                assert!(keyed.remove(&key(1)).is_some());
                keyed.delay(key(2), Duration::ZERO, job(), Replace);
                let stats = || keyed.stats();
                until("the due job has run", || stats().finished == 1).await;
                keyed.delay(key(3), HOUR, job(), Replace);
                keyed.cancel();
                until("the last job was dropped", || stats().pending == 0).await;
                keyed.delay(key(4), HOUR, job(), Replace);
                drop(keyed.wait());
                let handle = home.get().unwrap();
                let answers = [
                    keyed.debounce(key(4), HOUR, HOUR, job()),
                    handle.delay(key(4), HOUR, job(), Replace),
                ];
                assert_eq!(answers.map(answer), [Rejected; 2]);
                assert!(calls.load(Ordering::SeqCst) > 0, "no key called back");
            }));
        }
    });
}

#[tokio::test(start_paused = true)]
async fn a_key_that_panics_when_it_is_dropped_does_not_cost_its_job_the_run() {
    #[derive(PartialEq, Eq, Hash)]
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("bomb");
        }
    }
    let (keyed, log) = (KeyedGroup::new(), Log::new());
    keyed.delay(Bomb, ms(1), log.job("it ran"), Replace);
    keyed.wait().await.unwrap();
    assert_eq!(log.labels(), ["it ran"]);
}

/// All keys have one hash.
#[derive(Clone, Debug, Default)]
struct Constant;

impl BuildHasher for Constant {
    type Hasher = Constant;
    fn build_hasher(&self) -> Constant {
        Constant
    }
}

impl Hasher for Constant {
    fn finish(&self) -> u64 {
        7
    }
    fn write(&mut self, _: &[u8]) {}
}

#[tokio::test(start_paused = true)]
async fn keys_of_one_hash_are_kept_apart() {
    for exclusive in [false, true] {
        let builder = KeyedGroup::builder().hasher(Constant);
        let builder = if exclusive {
            builder.exclusive()
        } else {
            builder
        };
        let (keyed, log) = (builder.build(), Log::new());
        for key in 0..20_u64 {
            keyed.delay(key, ms(10 + key), log.job(key), Replace);
        }
        assert!((0..20).step_by(3).all(|key| keyed.remove(&key).is_some()));
        assert!(
            (1..20)
                .step_by(3)
                .all(|key| keyed.reset_after(&key, ms(100 + key)))
        );
        keyed.wait().await.unwrap();
        let kept = (2..20).step_by(3).map(|key| (key, ms(10 + key)));
        let moved = (1..20).step_by(3).map(|key| (key, ms(100 + key)));
        assert_eq!(log.take(), kept.chain(moved).collect::<Vec<_>>());
    }
}

#[tokio::test(start_paused = true)]
async fn debug_tells_how_many_keys_are_pending() {
    let keyed = KeyedGroup::new();
    keyed.delay(1, HOUR, nothing(), Replace);
    let text = format!("{keyed:?}");
    assert!(
        text.contains("len: 1") && text.contains("exclusive: false"),
        "{text}"
    );
}

#[test]
fn keyed_groups_are_shared_between_threads() {
    fn shared<T: Send + Sync + 'static>() {}
    shared::<KeyedGroup<String>>();
    // A key need not be `Sync`.
    shared::<KeyedGroup<std::cell::Cell<u8>>>();
    shared::<KeyedHandle<String>>();
    shared::<KeyedContext<std::cell::Cell<u8>>>();
    shared::<OnDuplicate>();
}

#[tokio::test(start_paused = true)]
async fn it_is_empty_when_no_key_is_pending() {
    let keyed = KeyedGroup::new();
    assert!(keyed.is_empty());
    keyed.delay('k', HOUR, nothing(), Replace);
    assert!(!keyed.is_empty() && !keyed.handle().is_empty());
}

#[tokio::test(start_paused = true)]
async fn runs_of_a_key_overlap_unless_the_builder_is_told_otherwise() {
    for exclusive in [false, true] {
        let builder = KeyedGroup::builder();
        let builder = if exclusive {
            builder.exclusive()
        } else {
            builder
        };
        let (keyed, log) = (builder.build(), Log::new());
        for _ in 0..2 {
            let log = log.clone();
            let job = async move {
                log.push(());
                sleep(ms(10)).await;
            };
            keyed.delay('k', Duration::ZERO, job, Replace);
            sleep(ms(1)).await;
        }
        keyed.wait().await.unwrap();
        let second = log.take()[1].1;
        assert_eq!(second == ms(10), exclusive, "the second run at {second:?}");
    }
}
