//! Jobs under keys: one pending job a key, moved, replaced, kept and cancelled by key.
#![forbid(unsafe_code)]

mod common;

use std::hash::{BuildHasher, Hash, Hasher};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use common::{
    Flag, HOUR, Hold, Log, OnDrop, Random, bounded, ms, multi_thread, panic_of, settle, until,
    watched,
};
use schedgroup::keyed::OnDuplicate::{KeepEarliest, KeepExisting, KeepLatest, Replace};
use schedgroup::keyed::Outcome::{Inserted, Kept, Refused, Replaced};
use schedgroup::keyed::{KeyedGroup, KeyedHandle, OnDuplicate};
use schedgroup::{Group, ScheduleError, WaitError};
use tokio::time::{Instant, sleep};

async fn nothing() {}

// One pending job for each key.

#[tokio::test(start_paused = true)]
async fn the_rules_for_duplicates() {
    // rule, first at, second at, answer, who runs, when
    let table = [
        (Replace, 10, 5, Replaced, "second", 5),
        (Replace, 10, 20, Replaced, "second", 20),
        (KeepEarliest, 10, 5, Replaced, "second", 5),
        (KeepEarliest, 10, 10, Kept, "first", 10),
        (KeepEarliest, 10, 20, Kept, "first", 10),
        (KeepLatest, 10, 5, Kept, "first", 10),
        (KeepLatest, 10, 10, Kept, "first", 10),
        (KeepLatest, 10, 20, Replaced, "second", 20),
        (KeepExisting, 10, 5, Kept, "first", 10),
        (KeepExisting, 10, 20, Kept, "first", 10),
    ];
    for (rule, first, second, answer, who, when) in table {
        let (keyed, log) = (KeyedGroup::new(), Log::new());
        let now = Instant::now();
        let inserted = keyed.schedule('k', now + ms(first), log.job("first"), rule);
        let answered = keyed.schedule('k', now + ms(second), log.job("second"), rule);
        assert_eq!(
            (inserted, answered),
            (Inserted, answer),
            "{rule:?} {second}"
        );
        assert_eq!(
            keyed.deadline(&'k'),
            Some(now + ms(when)),
            "{rule:?} {second}"
        );
        keyed.wait().await.unwrap();
        assert_eq!(log.take(), [(who, ms(when))], "{rule:?} {second}");
    }
}

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
    assert_eq!((keyed.len(), keyed.contains(&'k')), (0, false));
    assert!(!keyed.cancel(&'k') && !keyed.touch(&'k', Instant::now()));
    let again = keyed.delay('k', ms(1), log.job("beside it"), KeepExisting);
    assert_eq!(again, Inserted);
    sleep(ms(2)).await;
    assert_eq!(log.labels(), ["beside it"]);
    hold.release();
    keyed.wait().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn keys_are_found_by_what_they_borrow_as() {
    let keyed: KeyedGroup<String> = KeyedGroup::new();
    keyed.delay("ada".to_owned(), HOUR, nothing(), Replace);
    assert!(keyed.contains("ada") && !keyed.contains("ben"));
    assert!(keyed.touch_after("ada", ms(1)) && !keyed.touch_after("ben", ms(1)));
    assert!(keyed.cancel("ada") && keyed.is_empty());
}

// Moving and cancelling.

#[tokio::test(start_paused = true)]
async fn a_touched_key_runs_its_own_job_at_the_new_time() {
    let (keyed, log) = (KeyedGroup::new(), Log::new());
    let start = Instant::now();
    keyed.delay("later", ms(10), log.job("later"), Replace);
    keyed.delay("sooner", ms(500), log.job("sooner"), Replace);
    assert!(keyed.touch("later", start + ms(300)));
    assert!(keyed.touch("sooner", start + ms(20)));
    assert_eq!(keyed.deadline("later"), Some(start + ms(300)));
    keyed.wait().await.unwrap();
    assert_eq!(log.take(), [("sooner", ms(20)), ("later", ms(300))]);
}

#[tokio::test(start_paused = true)]
async fn a_touch_brings_no_new_job() {
    let keyed = KeyedGroup::new();
    keyed.delay(1, HOUR, nothing(), Replace);
    for step in 0..1000 {
        assert!(keyed.touch_after(&1, HOUR + ms(step)));
    }
    let stats = keyed.group().stats();
    assert_eq!((stats.pending, stats.cancelled), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn any_deadline_will_do() {
    let (keyed, log) = (KeyedGroup::new(), Log::new());
    keyed.delay("far", Duration::MAX, log.job("far"), Replace);
    keyed.delay("near", ms(1), log.job("near"), Replace);
    assert!(keyed.touch_after("near", Duration::MAX));
    keyed.debounce("calm", Duration::MAX, Duration::MAX, log.job("calm"));
    sleep(HOUR).await;
    assert_eq!((keyed.len(), log.len()), (3, 0));
    assert!(keyed.touch("near", Instant::now() - ms(1)));
    assert!(keyed.cancel("far") && keyed.cancel("calm"));
    keyed.wait().await.unwrap();
    assert_eq!(log.take(), [("near", HOUR)]);
}

#[tokio::test(start_paused = true)]
async fn cancel_drops_the_job_before_it_returns_and_is_true_once() {
    let (keyed, flag) = (KeyedGroup::new(), Flag::new());
    keyed.delay(1, HOUR, flag.job(), Replace);
    assert!(keyed.cancel(&1));
    assert_eq!((flag.drops(), keyed.len()), (1, 0));
    assert!(!keyed.cancel(&1));
    assert_eq!(keyed.wait().await.ok(), Some(()));
}

#[tokio::test(start_paused = true)]
async fn the_job_that_is_not_kept_is_dropped_before_schedule_returns() {
    let (keyed, old, new) = (KeyedGroup::new(), Flag::new(), Flag::new());
    keyed.delay(1, HOUR, old.job(), Replace);
    keyed.delay(1, HOUR, new.job(), KeepExisting);
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
        assert_eq!(outcome, if event == 0 { Inserted } else { Replaced });
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

// Never twice at once.

fn exclusive<K: Eq + Hash + Send + 'static>() -> KeyedGroup<K> {
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
        assert_eq!(outcome, if event == 0 { Inserted } else { Replaced });
        sleep(ms(10)).await;
    }
    assert_eq!((keyed.len(), keyed.contains(&'k')), (1, true));
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
    assert!(keyed.touch(&'k', start + ms(300)));
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
    assert_eq!(keyed.delay('k', ms(400), log.job(400), KeepEarliest), Kept);
    assert_eq!(
        keyed.delay('k', ms(200), log.job(200), KeepEarliest),
        Replaced
    );
    keyed.wait().await.unwrap();
    assert_eq!(log.take(), [(200, ms(200))]);
}

#[tokio::test(start_paused = true)]
async fn what_waits_for_a_run_can_be_cancelled() {
    let (keyed, hold, flag) = (exclusive(), Hold::new(), Flag::new());
    keyed.delay('k', Duration::ZERO, hold.job(), Replace);
    hold.started().await;
    keyed.delay('k', Duration::ZERO, flag.job(), Replace);
    assert!(keyed.cancel(&'k'));
    assert_eq!((flag.drops(), keyed.len()), (1, 0));
    hold.release();
    keyed.wait().await.unwrap();
    assert_eq!(keyed.group().stats().finished, 1);
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
async fn what_waits_for_a_run_takes_no_place() {
    let group = Group::builder().max_running(2).build();
    let (keyed, hold, log) = (
        KeyedGroup::builder().exclusive().build_in(group),
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
async fn shutdown_drops_what_waits_for_a_run() {
    let (keyed, hold, flag) = (exclusive(), Hold::new(), Flag::new());
    keyed.delay('k', Duration::ZERO, hold.job(), Replace);
    hold.started().await;
    keyed.delay('k', Duration::ZERO, flag.job(), Replace);
    let shutdown = keyed.shutdown(HOUR);
    hold.release();
    let report = shutdown.await;
    assert_eq!((report.finished, report.dropped), (1, 1));
    assert_eq!((flag.drops(), keyed.len()), (1, 0));
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
                if keyed.delay('k', Duration::ZERO, run, Replace) == Inserted {
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

/// Each pending time of a key begins with an `Inserted`, and ends in one run or one cancel.
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
                                cancelled += usize::from(keyed.cancel(&key));
                                continue;
                            }
                            let runs = Arc::clone(&runs);
                            let run = async move {
                                runs.fetch_add(1, Ordering::SeqCst);
                            };
                            let rule = [Replace, KeepEarliest, KeepLatest, KeepExisting]
                                [random.below(4) as usize];
                            let outcome = keyed.delay(key, Duration::ZERO, run, rule);
                            inserted += usize::from(outcome == Inserted);
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
async fn a_due_job_that_has_no_place_is_still_pending() {
    let group = Group::builder().max_running(1).build();
    let (keyed, hold, log) = (
        KeyedGroup::builder().build_in(group),
        Hold::new(),
        Log::new(),
    );
    keyed.delay("busy", Duration::ZERO, hold.job(), Replace);
    hold.started().await;
    keyed.delay("k", Duration::ZERO, log.job("first"), Replace);
    sleep(ms(5)).await;
    let second = keyed.delay("k", Duration::ZERO, log.job("second"), Replace);
    assert_eq!(second, Replaced);
    hold.release();
    keyed.wait().await.unwrap();
    assert_eq!(log.labels(), ["second"]);
}

// Closed and cancelled groups.

#[tokio::test(start_paused = true)]
async fn after_wait_the_owner_is_refused_at_its_line() {
    let keyed = KeyedGroup::new();
    keyed.delay(1, ms(5), nothing(), Replace);
    let wait = keyed.wait();
    let says = "schedgroup: attempted to schedule job after Group::wait was called";
    let line = line!();
    let misuses = [
        panic_of(|| keyed.delay(2, ms(1), nothing(), Replace)),
        panic_of(|| keyed.schedule(1, Instant::now(), nothing(), Replace)),
        panic_of(|| keyed.debounce(2, ms(1), ms(1), nothing())),
    ];
    for (misuse, below) in misuses.iter().zip(2..) {
        assert_eq!((misuse.message.as_str(), misuse.line), (says, line + below));
        assert!(misuse.file.ends_with("keyed.rs"), "{misuse:?}");
    }
    assert_eq!(keyed.len(), 1);
    wait.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn after_the_end_a_handle_answers_refused_and_drops_the_job() {
    let ends: [fn(&KeyedGroup<u8>); 2] = [
        |keyed| drop(keyed.wait()),
        |keyed| drop(keyed.shutdown(HOUR)),
    ];
    for end in ends {
        let (keyed, flag) = (KeyedGroup::new(), Flag::new());
        let (handle, elsewhere) = (keyed.handle(), KeyedGroup::on(keyed.group().handle()));
        keyed.delay(1, Duration::ZERO, nothing(), Replace);
        end(&keyed);
        let answers = [&handle, &handle.clone(), &elsewhere].map(|keys| {
            [
                keys.delay(2, ms(1), flag.job(), Replace),
                keys.schedule(1, Instant::now(), flag.job(), Replace),
                keys.debounce(2, ms(1), ms(1), flag.job()),
            ]
        });
        assert_eq!(answers, [[Refused; 3]; 3]);
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
        (line!(), panic_of(|| KeyedGroup::builder().build::<u8>())),
    ] {
        assert!(misuse.message.starts_with("schedgroup: "), "{misuse:?}");
        assert_eq!(misuse.line, line);
    }
}

#[tokio::test(start_paused = true)]
async fn a_refused_job_comes_back_and_the_key_keeps_what_it_had() {
    let (keyed, log) = (KeyedGroup::new(), Log::new());
    keyed.delay(1, ms(5), log.job("kept"), Replace);
    let wait = keyed.wait();
    let refused = keyed.try_delay(1, ms(1), log.job("refused"), Replace);
    let Err(ScheduleError::Closed(job)) = refused else {
        panic!("{refused:?}")
    };
    job.await;
    assert_eq!(log.labels(), ["refused"]);
    let kept = keyed.try_schedule(1, Instant::now(), nothing(), KeepExisting);
    assert_eq!(kept.ok(), Some(Kept));
    assert!(
        keyed.touch_after(&1, ms(7)),
        "a pending key can be moved while the group drains"
    );
    wait.await.unwrap();
    assert_eq!(log.take(), [("kept", ms(7))]);
}

#[tokio::test(start_paused = true)]
async fn a_key_can_be_cancelled_while_the_group_drains() {
    let (keyed, flag, start) = (KeyedGroup::new(), Flag::new(), Instant::now());
    keyed.delay(1, HOUR, flag.job(), Replace);
    keyed.delay(2, ms(5), nothing(), Replace);
    let wait = keyed.wait();
    assert_eq!((keyed.cancel(&1), flag.drops()), (true, 1));
    wait.await.unwrap();
    assert_eq!(start.elapsed(), ms(5));
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_group_drops_all_keys_and_refuses() {
    let (keyed, flag) = (KeyedGroup::new(), Flag::new());
    for key in 0..10 {
        keyed.delay(key, HOUR, flag.job(), Replace);
    }
    keyed.group().cancel();
    assert!(!keyed.touch_after(&1, ms(1)));
    assert_eq!(keyed.delay(11, HOUR, flag.job(), Replace), Refused);
    let refused = keyed.try_delay(12, HOUR, nothing(), Replace);
    assert!(
        matches!(refused, Err(ScheduleError::Cancelled(_))),
        "{refused:?}"
    );
    assert!(matches!(keyed.wait().await, Err(WaitError::Cancelled)));
    settle().await;
    assert_eq!((keyed.len(), flag.drops()), (0, 11));
}

#[tokio::test(start_paused = true)]
async fn dropping_the_keyed_group_drops_its_jobs() {
    let (keyed, flag) = (KeyedGroup::new(), Flag::new());
    keyed.delay(1, HOUR, flag.job(), Replace);
    let handle = keyed.handle();
    drop(keyed);
    settle().await;
    assert_eq!((handle.len(), flag.drops()), (0, 1));
    assert_eq!(handle.delay(1, HOUR, nothing(), Replace), Refused);
}

#[test]
fn a_runtime_that_ends_takes_the_keys_along() {
    let (runtime, flag) = (multi_thread(), Flag::new());
    let keyed = {
        let _inside = runtime.enter();
        KeyedGroup::new()
    };
    keyed.delay(1, HOUR, flag.job(), Replace);
    drop(runtime);
    assert_eq!((keyed.len(), flag.drops()), (0, 1));
    assert_eq!(keyed.delay(1, HOUR, nothing(), Replace), Refused);
}

#[tokio::test(start_paused = true)]
async fn keys_live_in_a_group_of_somebody_else_too() {
    let (group, log) = (Group::new(), Log::new());
    let (saves, loads) = (
        KeyedGroup::on(group.handle()),
        KeyedGroup::on(group.handle()),
    );
    saves.delay(1, ms(2), log.job("saved"), Replace);
    loads.delay(1, ms(1), log.job("loaded"), Replace);
    let also_saves = saves.clone();
    assert!(also_saves.touch_after(&1, ms(3)));
    assert_eq!(group.stats().pending, 2);
    group.wait().await.unwrap();
    assert_eq!(log.take(), [("loaded", ms(1)), ("saved", ms(3))]);
}

#[tokio::test(start_paused = true)]
async fn the_handle_of_a_context_is_admitted_while_the_group_drains() {
    let (group, log) = (Group::new(), Log::new());
    let of_job = log.clone();
    group.delay_with(ms(1), |context| async move {
        let keyed = KeyedGroup::on(context.handle());
        keyed.delay(1, ms(1), of_job.job("from inside"), Replace);
    });
    group.wait().await.unwrap();
    assert_eq!(log.take(), [("from inside", ms(2))]);
}

#[tokio::test(start_paused = true)]
async fn a_panic_names_the_line_that_scheduled_the_job() {
    let keyed = KeyedGroup::new();
    let line = line!() + 1;
    keyed.delay(1, ms(1), async { panic!("boom") }, Replace);
    let Err(WaitError::Panicked(panic)) = keyed.wait().await else {
        panic!("the panic is lost")
    };
    assert_eq!(panic.scheduled_at().line(), line);
    assert!(panic.scheduled_at().file().ends_with("keyed.rs"));
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
            panic_of(|| keyed.touch(&bad, Instant::now())),
            panic_of(|| keyed.cancel(&bad)),
            panic_of(|| keyed.contains(&bad)),
            panic_of(|| keyed.deadline(&bad)),
        ];
        for misuse in misuses {
            assert_eq!(misuse.message, says);
        }
        assert_eq!((keyed.len(), flag.drops()), (1, 1));
        assert!(keyed.touch_after(&calm(1), ms(3)));
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

/// A key that calls its group back when it is dropped.
#[derive(Clone)]
struct Caller(u8, Arc<OnceLock<KeyedHandle<Caller>>>, Arc<AtomicUsize>);

impl Hash for Caller {
    fn hash<H: Hasher>(&self, state: &mut H) {
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
        if let Some(keyed) = self.1.get() {
            self.2.fetch_add(keyed.len() + 1, Ordering::SeqCst);
        }
    }
}

#[test]
fn destructors_of_keys_and_jobs_may_call_back() {
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
                keyed.delay(key(1), HOUR, job(), KeepExisting);
                assert!(keyed.cancel(&key(1)));
                keyed.delay(key(2), Duration::ZERO, job(), Replace);
                let stats = || keyed.group().stats();
                until("the due job has run", || stats().finished == 1).await;
                keyed.delay(key(3), HOUR, job(), Replace);
                keyed.group().cancel();
                until("the last job was dropped", || stats().pending == 0).await;
                keyed.delay(key(4), HOUR, job(), Replace);
                assert!(
                    calls.load(Ordering::SeqCst) > 0,
                    "no destructor called back"
                );
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
        assert!((0..20).step_by(3).all(|key| keyed.cancel(&key)));
        assert!(
            (1..20)
                .step_by(3)
                .all(|key| keyed.touch_after(&key, ms(100 + key)))
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
