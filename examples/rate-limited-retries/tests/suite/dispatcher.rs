//! Work in lines: when it goes, in which order, and what ends it.

use std::cell::Cell;
use std::collections::{BTreeMap, VecDeque};
use std::hash::{Hash, Hasher};
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Wake};
use std::time::Duration;

use crate::common::{
    Flag, HOUR, Hold, Key, Log, OnDrop, Random, bounded, context_of, ms, multi_thread, panic_of,
    settle, watched,
};
use rate_limited_retries::rate::{Pacer, Rate, Turn};
use schedgroup::{Group, WaitError};
use tokio::time::{Instant, advance, sleep};

/// A pacer whose work says when it went.
fn logged(group: &Group, rate: Rate) -> (Pacer<&'static str, u64>, Log<(&'static str, u64)>) {
    let log = Log::new();
    let of_work = log.clone();
    let pacer = Pacer::builder(rate).run(&group, move |n, turn| {
        of_work.push((*turn.key(), n));
        async {}
    });
    (pacer, log)
}

// When and in which order.

/// An instant of a rate, exactly: costs of one, in nanoseconds.
#[derive(Clone, Copy)]
struct Gcra {
    each: u64,
    burst: u64,
    full: u64,
}

impl Gcra {
    fn earliest(&self) -> u64 {
        self.full.saturating_sub((self.burst - 1) * self.each)
    }

    fn take(&mut self, at: u64) {
        assert!(at >= self.earliest(), "{at} is before {}", self.earliest());
        self.full = self.full.max(at) + self.each;
    }
}

#[tokio::test(start_paused = true)]
async fn fifty_thousand_urls_of_five_hundred_hosts_go_at_their_exact_instants() {
    const HOSTS: usize = 500;
    const URLS: u64 = 50_000;
    let (group, mut random) = (Group::new(), Random(5));
    let sent = Arc::new(Mutex::new(Vec::new()));
    let start = Instant::now();
    let of_work = Arc::clone(&sent);
    let pacer = Pacer::builder(Rate::per_second(20).burst(5))
        .overall(Rate::per_second(2_000).burst(50))
        .run(&group, move |url: u64, turn| {
            let (exact, now) = (turn.at() - start, start.elapsed());
            of_work.lock().unwrap().push((*turn.key(), url, exact, now));
            async {}
        });
    // Half of the hosts have ten times as many, so that now one rate counts and now the other.
    let mut lines: BTreeMap<usize, VecDeque<u64>> = BTreeMap::new();
    for url in 0..URLS {
        let few = random.below(11) == 0;
        let host = random.below(HOSTS as u64 / 2) as usize + if few { HOSTS / 2 } else { 0 };
        lines.entry(host).or_default().push_back(url);
        pacer.push(host, url);
    }
    assert_eq!(pacer.waiting(), URLS as usize);
    group.wait().await.unwrap();

    let sent = std::mem::take(&mut *sent.lock().unwrap());
    assert_eq!(sent.len() as u64, URLS);
    let gcra = |each: u64, burst| Gcra {
        each,
        burst,
        full: 0,
    };
    let mut of_hosts = vec![gcra(50_000_000, 5); HOSTS];
    let mut overall = gcra(500_000, 50);
    let mut idle = 0;
    for (host, url, exact, at) in sent {
        let line = lines.get_mut(&host).expect("a host with work left");
        assert_eq!(line.pop_front(), Some(url), "host {host}: not in order");
        // The first of those that may go by themselves, and not before the rate over all lets it.
        let earliest = |host: &usize| of_hosts[*host].earliest();
        let others = lines.iter().filter(|(_, line)| !line.is_empty());
        let first = others.map(|(host, _)| earliest(host)).min();
        let first = first.unwrap_or(u64::MAX).min(earliest(&host));
        let due = first.max(overall.earliest());
        assert_eq!(exact.as_nanos() as u64, due, "host {host}, url {url}");
        assert_eq!(at, ms(due.div_ceil(1_000_000)), "host {host}, url {url}");
        idle += usize::from(first > overall.earliest());
        of_hosts[host].take(due);
        overall.take(due);
    }
    assert!(
        (100..URLS as usize - 100).contains(&idle),
        "both rates count: {idle}"
    );
}

#[tokio::test(start_paused = true)]
async fn thirds_of_a_second_do_not_drift() {
    let group = Group::new();
    let log = Log::new();
    let of_work = log.clone();
    let pacer = Pacer::builder(Rate::per_second(3)).run(&group, move |n, turn| {
        of_work.push((n, turn.at()));
        async {}
    });
    let start = Instant::now();
    (0..=3000_u64).for_each(|n| pacer.push('k', n));
    group.wait().await.unwrap();
    let ((last, exact), at) = log.take().pop().unwrap();
    assert_eq!(
        (last, exact - start, at),
        (3000, ms(1_000_000), ms(1_000_000))
    );
}

#[tokio::test(start_paused = true)]
async fn costs_wait_for_as_much_as_they_take() {
    let group = Group::new();
    let (pacer, log) = logged(&group, Rate::per_second(10).burst(2));
    for (n, cost) in [2, 1, 0, 5, 1].into_iter().enumerate() {
        pacer.push_costly("k", cost, n as u64);
    }
    group.wait().await.unwrap();
    let at = log.take().into_iter().map(|((_, n), at)| (n, at));
    let expected = [(0, 0), (1, 100), (2, 100), (3, 300), (4, 700)];
    assert!(at.eq(expected.map(|(n, at)| (n, ms(at)))));
}

#[tokio::test(start_paused = true)]
async fn work_that_is_pushed_later_goes_as_soon_as_it_may() {
    let group = Group::new();
    let (pacer, log) = logged(&group, Rate::per_second(10));
    pacer.push("a", 1);
    pacer.push("a", 2);
    pacer.not_before("far", Instant::now() + HOUR);
    pacer.push("far", 1);
    sleep(ms(150)).await;
    pacer.push("b", 1);
    pacer.push("a", 3);
    sleep(ms(200)).await;
    let expected = [("a", 1, 0), ("a", 2, 100), ("b", 1, 150), ("a", 3, 200)];
    assert_eq!(log.take(), expected.map(|(key, n, at)| ((key, n), ms(at))));
    assert_eq!(pacer.waiting(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_wish_holds_up_what_waits_already_and_only_moves_later() {
    let group = Group::new();
    let (pacer, log) = logged(&group, Rate::per_second(100));
    (0..4).for_each(|n| pacer.push("k", n));
    pacer.push("other", 0);
    sleep(ms(15)).await;
    pacer.not_before("k", Instant::now() + ms(500));
    pacer.not_before("k", Instant::now() + ms(100));
    pacer.push("other", 1);
    group.wait().await.unwrap();
    let expected = [
        ("k", 0, 0),
        ("other", 0, 0),
        ("k", 1, 10),
        ("other", 1, 15),
        ("k", 2, 515),
        ("k", 3, 525),
    ];
    assert_eq!(log.take(), expected.map(|(key, n, at)| ((key, n), ms(at))));
}

#[tokio::test(start_paused = true)]
async fn a_wish_holds_up_what_waits_for_a_place_too() {
    let (group, hold) = (Group::builder().max_running(1).build(), Hold::new());
    let (pacer, log) = logged(&group, Rate::per_second(100).burst(2));
    group.delay(ms(1), hold.job());
    hold.started().await;
    (0..3).for_each(|n| pacer.push("k", n));
    // The pump has to have its place.
    hold.release();
    group.delay(Duration::ZERO, hold.job());
    hold.started().await;
    sleep(ms(2)).await;
    assert_eq!((pacer.waiting(), log.len()), (1, 0), "two wait for a place");
    pacer.not_before("k", Instant::now() + ms(97));
    hold.release();
    group.wait().await.unwrap();
    let went = log.take();
    let expected = [(0, 100), (1, 100), (2, 110)];
    assert_eq!(went, expected.map(|(n, at)| (("k", n), ms(at))));
}

#[tokio::test(start_paused = true)]
async fn a_key_that_is_held_up_takes_nothing_of_the_rate_over_all() {
    let (group, log) = (Group::new(), Log::new());
    let of_work = log.clone();
    let pacer = Pacer::builder(Rate::per_second(100))
        .overall(Rate::per_second(10))
        .run(&group, move |n: u64, _| of_work.job(n));
    pacer.not_before("held", Instant::now() + ms(150));
    pacer.push("held", 9);
    (0..3).for_each(|n| pacer.push("free", n));
    group.wait().await.unwrap();
    // Both wait for the rate over all from 100 on; "free" may go by itself from 110.
    let expected = [(0, 0), (1, 100), (2, 200), (9, 300)];
    assert_eq!(log.take(), expected.map(|(n, at)| (n, ms(at))));
}

#[tokio::test(start_paused = true)]
async fn a_program_that_was_stopped_does_not_make_up_for_it_all_at_once() {
    let group = Group::new();
    let (pacer, log) = logged(&group, Rate::per_second(100).burst(3));
    (0..50).for_each(|n| pacer.push("k", n));
    sleep(ms(5)).await;
    assert_eq!(log.take().len(), 3);
    advance(ms(1000)).await;
    settle().await;
    assert_eq!(log.take().len(), 3, "a burst, not a second's worth");
    group.wait().await.unwrap();
}

// How many run.

#[tokio::test(start_paused = true)]
async fn a_crowd_that_may_go_at_once_leaves_other_tasks_their_turns() {
    let (group, rate) = (Group::new(), Rate::per_second(10_000).burst(10_000));
    let pacer = Pacer::builder(rate).run(&group, |_, _| async {});
    (0..10_000).for_each(|n| pacer.push('k', n));
    let seen = pacer.clone();
    let beside = tokio::spawn(async move {
        let (mut before, mut most) = (seen.waiting(), 0);
        while before > 0 {
            tokio::task::yield_now().await;
            let now = seen.waiting();
            most = most.max(before - now);
            before = now;
        }
        most
    });
    let most = beside.await.unwrap();
    assert!(
        most <= 1_000,
        "{most} went between two turns of another task"
    );
    group.wait().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_key_that_hangs_keeps_no_other_waiting() {
    let (group, hold, log) = (Group::new(), Hold::new(), Log::new());
    let (held, of_work) = (hold.clone(), log.clone());
    let pacer = Pacer::builder(Rate::per_second(1000).burst(10))
        .in_flight(2)
        .run(&group, move |n: u64, turn| {
            of_work.push((*turn.key(), n));
            let held = held.job();
            async move {
                if *turn.key() == "hangs" {
                    held.await;
                }
            }
        });
    for n in 0..3 {
        pacer.push("hangs", n);
        pacer.push("runs", n);
    }
    sleep(ms(10)).await;
    let mut went = log.labels();
    went.sort_unstable();
    let expected = [
        ("hangs", 0),
        ("hangs", 1),
        ("runs", 0),
        ("runs", 1),
        ("runs", 2),
    ];
    assert_eq!((went.as_slice(), pacer.waiting()), (&expected[..], 1));
    hold.release();
    sleep(ms(1)).await;
    assert_eq!(log.labels(), [("hangs", 2)]);
    (0..2).for_each(|_| hold.release());
    group.wait().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_waits_holds_no_place_and_no_task() {
    let (group, log) = (Group::builder().max_running(1).build(), Log::new());
    let of_work = log.clone();
    let pacer = Pacer::builder(Rate::per_second(1)).run(&group, move |n, _| of_work.job(n));
    let tasks = || {
        tokio::runtime::Handle::current()
            .metrics()
            .num_alive_tasks()
    };
    (0..100).for_each(|n| pacer.push('k', n));
    settle().await;
    let alive = tasks();
    assert!(alive <= 2, "{alive} tasks for {} waiting", pacer.waiting());
    let stats = group.stats();
    assert_eq!(
        (stats.pending, stats.finished),
        (1, 1),
        "the pacer is one job"
    );
    group.delay(ms(500), log.job(1000));
    sleep(ms(600)).await;
    assert_eq!(log.take(), [(0, ms(0)), (1000, ms(500))]);
}

#[tokio::test(start_paused = true)]
async fn a_panic_frees_its_place_and_is_the_groups_to_tell() {
    let (group, log) = (Group::new(), Log::new());
    let of_work = log.clone();
    let pacer =
        Pacer::builder(Rate::per_second(1000))
            .in_flight(1)
            .run(&group, move |n: u64, _| {
                assert_ne!(n, 0, "the first one");
                of_work.job(n)
            });
    (0..3).for_each(|n| pacer.push('k', n));
    let ended = group.wait().await;
    assert!(matches!(ended, Err(WaitError::Panicked(_))), "{ended:?}");
    assert_eq!(log.labels(), [1, 2]);
}

// Coming back, and the end.

#[tokio::test(start_paused = true)]
async fn work_can_come_again_while_the_group_drains() {
    let (group, log) = (Group::new(), Log::new());
    let of_work = log.clone();
    let pacer = Pacer::builder(Rate::per_second(100)).run(&group, move |n: u64, turn| {
        of_work.push(n);
        async move {
            match n {
                0 => turn.again(Instant::now() + ms(500), 1),
                1 => turn.push('j', 2),
                2 => turn.not_before(Instant::now() + ms(50)),
                _ => {}
            }
            if n == 2 {
                turn.again(Instant::now(), 3);
            }
        }
    });
    pacer.push('k', 0);
    group.wait().await.unwrap();
    let expected = [(0, 0), (1, 500), (2, 500), (3, 550)];
    assert_eq!(log.take(), expected.map(|(n, at)| (n, ms(at))));
    assert_eq!(pacer.waiting(), 0);
}

#[tokio::test(start_paused = true)]
async fn what_comes_again_goes_before_what_was_pushed_later() {
    let (group, log) = (Group::new(), Log::new());
    let of_work = log.clone();
    let rate = Rate::per_second(10).burst(3);
    let pacer = Pacer::builder(rate).run(&group, move |n: u64, turn| {
        of_work.push(n);
        async move {
            if n < 2 {
                turn.again(Instant::now() + ms(30), n + 10);
            }
        }
    });
    pacer.push('k', 0);
    pacer.push('k', 1);
    // Its turn would come at 200; what comes again is cheaper, and may go earlier.
    pacer.push_costly('k', 3, 2);
    pacer.push('k', 3);
    group.wait().await.unwrap();
    let expected = [(0, 0), (1, 0), (10, 30), (11, 100), (2, 400), (3, 500)];
    assert_eq!(log.take(), expected.map(|(n, at)| (n, ms(at))));
}

/// Whether the pacer has no work, or has some that drains, or its own job has not run for the first time.
#[tokio::test(start_paused = true)]
async fn work_that_is_pushed_after_the_end_is_dropped() {
    let ends: [fn(&Group); 2] = [
        |group| drop(group.wait()),
        |group| drop(group.shutdown(HOUR)),
    ];
    for end in ends {
        for (waiting, has_run) in [(0, true), (2, true), (2, false)] {
            let (group, flag) = (Group::new(), Flag::new());
            let pacer = Pacer::builder(Rate::per_second(1)).run(&group, |_, _| async {});
            (0..waiting).for_each(|_| pacer.push('k', flag.guard()));
            if has_run {
                settle().await;
            }
            end(&group);
            settle().await;
            let before = flag.drops();
            pacer.push('k', flag.guard());
            pacer.push_costly('j', 2, flag.guard());
            assert_eq!(flag.drops(), before + 2, "{waiting} waiting, {has_run}");
            drop(group.wait().await);
            assert_eq!(flag.drops(), 2 + waiting, "{waiting} waiting, {has_run}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_group_that_ends_drops_what_waits() {
    let ends: [(fn(Group), _); 3] = [
        (|group| group.cancel(), true),
        (drop, true),
        (|group| drop(group.shutdown(Duration::ZERO)), false),
    ];
    for (end, is_cancel) in ends {
        let (group, flag) = (Group::new(), Flag::new());
        let pacer = Pacer::builder(Rate::per_second(1)).run(&group, |_, _| async {});
        (0..10).for_each(|_| pacer.push('k', flag.guard()));
        settle().await;
        assert_eq!((pacer.waiting(), flag.drops()), (9, 1));
        end(group);
        settle().await;
        assert_eq!((pacer.waiting(), flag.drops()), (0, 10));
        if is_cancel {
            pacer.push('k', flag.guard());
            assert_eq!((pacer.waiting(), flag.drops()), (0, 11));
        }
    }
}

#[test]
fn a_runtime_that_ends_drops_what_waits() {
    let (runtime, flag) = (multi_thread(), Flag::new());
    let pacer = {
        let _inside = runtime.enter();
        let group = Group::new();
        let rate = Rate::new(1, HOUR);
        let pacer = Pacer::builder(rate).run(&group, |_, _| async {});
        group.detach();
        pacer
    };
    (0..10).for_each(|_| pacer.push('k', flag.guard()));
    drop(runtime);
    assert_eq!((pacer.waiting(), flag.drops()), (0, 10));
    pacer.push('k', flag.guard());
    assert_eq!((pacer.waiting(), flag.drops()), (0, 11));
}

#[tokio::test(start_paused = true)]
async fn work_pushes_in_vain_and_without_a_panic_when_its_group_has_ended() {
    let (group, hold, flag) = (Group::new(), Hold::new(), Flag::new());
    let (held, of_work) = (hold.clone(), flag.clone());
    let rate = Rate::per_second(1);
    let pacer = Pacer::builder(rate).run(&group, move |(), turn: Turn<char, ()>| {
        let (held, guard) = (held.job(), of_work.guard());
        async move {
            held.await;
            turn.push('j', ());
            turn.again(Instant::now(), ());
            drop(guard);
        }
    });
    pacer.push('k', ());
    hold.started().await;
    group.cancel();
    hold.release();
    settle().await;
    assert_eq!((flag.drops(), pacer.waiting()), (1, 0));
    assert_eq!(group.stats().panicked, 0);
    assert!(matches!(group.wait().await, Err(WaitError::Cancelled)));
}

#[tokio::test(start_paused = true)]
async fn a_pacer_that_is_dropped_lets_go_what_waits() {
    let group = Group::new();
    let (pacer, log) = logged(&group, Rate::per_second(10));
    let clone = pacer.clone();
    pacer.push("k", 0);
    clone.push("k", 1);
    assert_eq!(
        (pacer.waiting(), clone.waiting()),
        (2, 2),
        "one set of lines"
    );
    drop((pacer, clone));
    group.wait().await.unwrap();
    assert_eq!(log.take(), [(("k", 0), ms(0)), (("k", 1), ms(100))]);
}

#[tokio::test(start_paused = true)]
async fn a_pacer_made_from_inside_takes_work_while_the_group_drains() {
    let (group, hold, log) = (Group::new(), Hold::new(), Log::new());
    let (inside, of_work) = (context_of(&group, &hold).await.handle(), log.clone());
    let wait = group.wait();
    let rate = Rate::per_second(10);
    let pacer = Pacer::builder(rate).run(&inside, move |n: u64, _| of_work.job(n));
    (0..2).for_each(|n| pacer.push('k', n));
    settle().await;
    // By now it knows that the group drains.
    pacer.push('k', 2);
    hold.release();
    wait.await.unwrap();
    assert_eq!(log.take(), [(0, ms(0)), (1, ms(100)), (2, ms(200))]);
}

#[tokio::test(start_paused = true)]
async fn destructors_may_call_back() {
    let (group, pushed) = (Group::new(), Arc::new(AtomicUsize::new(0)));
    let pacer: Pacer<char, Box<dyn Send>> =
        Pacer::builder(Rate::per_second(1)).run(&group, |_, _| async {});
    for _ in 0..3 {
        let (calls, pushed) = (pacer.clone(), Arc::clone(&pushed));
        let calls_back = OnDrop(move || {
            calls.not_before('k', Instant::now());
            pushed.fetch_add(calls.waiting() + 1, Ordering::SeqCst);
        });
        pacer.push('k', Box::new(calls_back));
    }
    settle().await;
    drop(group);
    settle().await;
    assert_eq!(pushed.load(Ordering::SeqCst), 3 + 2);
}

#[tokio::test(start_paused = true)]
async fn destructors_that_panic_harm_nobody() {
    let (group, drops) = (Group::new(), Flag::new());
    let pacer = Pacer::builder(Rate::per_second(1)).run(&group, |_, _| async {});
    for n in 0..9 {
        let guard = drops.guard();
        let bomb = OnDrop(move || {
            let _dropped = &guard;
            assert!(n % 2 == 0, "in a destructor");
        });
        pacer.push('k', bomb);
    }
    settle().await;
    drop(group);
    settle().await;
    assert_eq!((pacer.waiting(), drops.drops()), (0, 9));
}

/// Of keys that are forgotten in passing too: it is another's call that drops them.
#[tokio::test(start_paused = true)]
async fn forgotten_keys_that_panic_in_their_destructors_harm_nobody() {
    let (group, log) = (Group::new(), Log::new());
    let of_work = log.clone();
    let pacer = Pacer::builder(Rate::per_second(1000)).run(&group, move |n, _| {
        of_work.push(n);
        async {}
    });
    let (calm, bomb) = (Key(0, false), |n| Key(n, true));
    for n in 1..=3 {
        pacer.push(bomb(n), n);
    }
    sleep(ms(100)).await;
    for n in 4..=100 {
        pacer.push(calm.clone(), n);
    }
    assert_eq!(pacer.keys(), 1, "the others are forgotten");
    group.wait().await.unwrap();
    assert_eq!(log.len(), 100);
}

thread_local! {
    static PANICS: Cell<bool> = const { Cell::new(false) };
}

/// A key that cannot be compared at times.
#[derive(Eq)]
struct Fickle;

impl Hash for Fickle {
    fn hash<H: Hasher>(&self, _: &mut H) {}
}

impl PartialEq for Fickle {
    fn eq(&self, _: &Fickle) -> bool {
        assert!(!PANICS.get(), "in a comparison");
        true
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_of_eq_goes_to_the_caller_and_changes_nothing() {
    let (group, flag) = (Group::new(), Flag::new());
    let pacer = Pacer::builder(Rate::per_second(1)).run(&group, |_, _| async {});
    // It does not wait any more, and is remembered.
    pacer.push(Fickle, flag.guard());
    settle().await;
    PANICS.set(true);
    let panic = panic_of(|| pacer.push(Fickle, flag.guard()));
    PANICS.set(false);
    assert_eq!(panic.message, "in a comparison");
    settle().await;
    assert_eq!(
        (flag.drops(), pacer.waiting(), group.stats().pending),
        (2, 0, 0)
    );
    pacer.push(Fickle, flag.guard());
    group.wait().await.unwrap();
    assert_eq!(flag.drops(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_pacer_without_work_is_no_job_and_remembers_no_key_for_long() {
    let group = Group::new();
    let (pacer, log) = logged(&group, Rate::per_second(100));
    pacer.push("k", 0);
    sleep(ms(100)).await;
    assert_eq!((log.len(), group.stats().pending), (1, 0));
    for key in 0..10_000 {
        pacer.push(key.to_string().leak(), 0);
        sleep(ms(1)).await;
    }
    assert!(pacer.keys() <= 2 * 12 + 64, "{} keys", pacer.keys());
    group.wait().await.unwrap();
}

/// However many others come and go meanwhile.
#[tokio::test(start_paused = true)]
async fn a_key_is_known_while_it_runs_or_is_held_up() {
    let (group, log, hold) = (Group::new(), Log::new(), Hold::new());
    let (of_work, held) = (log.clone(), hold.clone());
    let rate = Rate::per_second(1000);
    let pacer =
        Pacer::builder(rate)
            .in_flight(1)
            .run(&group, move |n: u64, turn: Turn<u64, u64>| {
                of_work.push((*turn.key(), n));
                let held = held.clone();
                async move {
                    if n == 1 {
                        held.job().await;
                    }
                }
            });
    pacer.push(1, 1);
    pacer.not_before(2, Instant::now() + HOUR);
    assert_eq!((pacer.keys(), pacer.waiting()), (2, 1));
    hold.started().await;
    sleep(ms(10)).await;
    for other in 10..1000 {
        pacer.push(other, 0);
    }
    sleep(ms(10)).await;
    log.take();
    pacer.push(1, 2);
    pacer.push(2, 2);
    sleep(ms(10)).await;
    assert_eq!(log.take(), []);
    hold.release();
    settle().await;
    assert_eq!(log.labels(), [(1, 2)]);
    sleep(HOUR).await;
    assert_eq!(log.labels(), [(2, 2)]);
    group.wait().await.unwrap();
}

/// Of two that may go at the same instant the one that came first goes first, whichever key is older.
#[tokio::test(start_paused = true)]
async fn keys_that_may_go_at_the_same_instant_go_in_the_order_of_their_work() {
    let (group, log) = (Group::new(), Log::new());
    let of_work = log.clone();
    let rate = Rate::per_second(10);
    let pacer = Pacer::builder(rate)
        .overall(rate)
        .run(&group, move |(), turn: Turn<char, ()>| {
            of_work.push(*turn.key());
            async {}
        });
    for key in ['a', 'b', 'c'] {
        pacer.not_before(key, Instant::now() + ms(500));
    }
    for key in ['c', 'a', 'b'] {
        pacer.push(key, ());
    }
    group.wait().await.unwrap();
    let expected = [('c', 500), ('a', 600), ('b', 700)];
    assert_eq!(log.take(), expected.map(|(key, at)| (key, ms(at))));
}

#[test]
fn pushes_that_race_with_wait_run_before_it_ends_or_are_dropped() {
    for _ in 0..200 {
        let (at_wait, at_last, gone) = watched(|| {
            let runtime = multi_thread();
            let (ran, flag) = (Arc::new(AtomicUsize::new(0)), Flag::new());
            let at_wait = runtime.block_on(bounded(async {
                let group = Group::new();
                let of_work = Arc::clone(&ran);
                let rate = Rate::per_second(1_000_000).burst(1000);
                let pacer = Pacer::builder(rate).run(&group, move |_held, _| {
                    of_work.fetch_add(1, Ordering::SeqCst);
                    async {}
                });
                let pushers: Vec<_> = (0..3)
                    .map(|key| {
                        let (pacer, flag) = (pacer.clone(), flag.clone());
                        std::thread::spawn(move || {
                            (0..20).for_each(|_| pacer.push(key, flag.guard()));
                        })
                    })
                    .collect();
                group.wait().await.unwrap();
                let at_wait = ran.load(Ordering::SeqCst);
                for pusher in pushers {
                    pusher.join().unwrap();
                }
                at_wait
            }));
            drop(runtime);
            (at_wait, ran.load(Ordering::SeqCst), flag.drops())
        });
        assert_eq!((at_last, gone), (at_wait, 60));
    }
}

#[test]
fn no_places_at_all_is_misuse_at_its_line() {
    let builder = Pacer::builder(Rate::per_second(1));
    let (line, misuse) = (line!(), panic_of(|| builder.in_flight(0)));
    let says = "rate-limited-retries: in_flight must be at least 1: nothing could ever go";
    assert_eq!((misuse.message.as_str(), misuse.line), (says, line));
}

/// Equal to itself until it breaks.
#[derive(Clone)]
struct Brittle(Arc<AtomicUsize>);

impl std::hash::Hash for Brittle {
    fn hash<H: std::hash::Hasher>(&self, _: &mut H) {}
}

impl PartialEq for Brittle {
    fn eq(&self, _: &Brittle) -> bool {
        assert_eq!(self.0.load(Ordering::SeqCst), 0, "it is brittle");
        true
    }
}

impl Eq for Brittle {}

#[tokio::test(start_paused = true)]
async fn a_key_that_panics_leaves_no_job_behind_and_its_work_may_call_back() {
    let (group, broken) = (Group::new(), Arc::new(AtomicUsize::new(0)));
    let pacer = Pacer::builder(Rate::per_second(1)).run(&group, |work, _| async { drop(work) });
    let key = Brittle(Arc::clone(&broken));
    pacer.not_before(key.clone(), Instant::now() + HOUR);
    broken.store(1, Ordering::SeqCst);
    let calls = pacer.clone();
    let calls_back: Box<dyn FnMut() + Send> = Box::new(move || assert_eq!(calls.waiting(), 0));
    let work = OnDrop(calls_back);
    watched(move || _ = panic_of(|| pacer.push(key, work)));
    // By another thread's clock, which is not the paused one, the pacer's job is due a little later.
    bounded(group.wait()).await.unwrap();
    assert_eq!(group.stats().pending, 0);
}

/// A push to a group that is past its deadline, before the group's driver has seen the time pass.
#[test]
fn a_waker_of_the_group_may_call_the_pacer_back() {
    struct CallsBack(Pacer<u8, ()>, AtomicUsize);
    impl Wake for CallsBack {
        fn wake(self: Arc<Self>) {
            _ = self.0.waiting() + self.0.keys();
            self.1.fetch_add(1, Ordering::SeqCst);
        }
    }
    watched(|| {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        let runtime = builder.enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let group = Group::builder().timeout(Duration::ZERO).build();
            let pacer = Pacer::builder(Rate::per_second(1)).run(&group, |(), _| async {});
            let calls = Arc::new(CallsBack(pacer.clone(), AtomicUsize::new(0)));
            let waker = Arc::clone(&calls).into();
            let mut cancelled = pin!(group.token().cancelled_owned());
            let polled = cancelled.as_mut().poll(&mut Context::from_waker(&waker));
            assert!(polled.is_pending());
            pacer.push(1, ());
            let ended = group.wait().await;
            assert!(
                matches!(ended, Err(WaitError::DeadlineExceeded)),
                "{ended:?}"
            );
            let calls = calls.1.load(Ordering::SeqCst);
            assert_ne!(calls, 0, "the waker was not woken");
        });
    });
}
