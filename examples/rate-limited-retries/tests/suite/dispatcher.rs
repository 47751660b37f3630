//! Queued work: when it starts, in which order, and how much runs.

use std::collections::{BTreeMap, VecDeque};
use std::hash::Hash;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::common::{HOUR, Hold, Log, Random, ms, settle};
use rate_limited_retries::{Context, Dispatcher, Rate};
use schedgroup::{Group, WaitError};
use tokio::time::{Instant, advance, sleep};

/// Pushes work that is dropped if it is not accepted.
pub(crate) fn push<K, T>(dispatcher: &Dispatcher<K, T>, key: K, work: T)
where
    K: Eq + Hash + Send + Sync + 'static,
    T: Send + 'static,
{
    drop(dispatcher.try_push(key, work));
}

/// A dispatcher whose work says when it started.
pub(crate) fn logged(
    group: &Group,
    rate: Rate,
) -> (Dispatcher<&'static str, u64>, Log<(&'static str, u64)>) {
    let log = Log::new();
    let of_work = log.clone();
    let dispatcher = Dispatcher::builder()
        .per_key(rate)
        .run(&group, move |n, context| {
            of_work.push((*context.key(), n));
            async {}
        });
    (dispatcher, log)
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
    let dispatcher = Dispatcher::builder()
        .per_key(Rate::per_second(20).burst(5))
        .overall(Rate::per_second(2_000).burst(50))
        .run(&group, move |url: u64, context| {
            let (exact, now) = (context.at() - start, start.elapsed());
            of_work
                .lock()
                .unwrap()
                .push((*context.key(), url, exact, now));
            async {}
        });
    // Half of the hosts have ten times as many, so that now one rate counts and now the other.
    let mut lines: BTreeMap<usize, VecDeque<u64>> = BTreeMap::new();
    for url in 0..URLS {
        let few = random.below(11) == 0;
        let host = random.below(HOSTS as u64 / 2) as usize + if few { HOSTS / 2 } else { 0 };
        lines.entry(host).or_default().push_back(url);
        push(&dispatcher, host, url);
    }
    assert_eq!(dispatcher.stats().queued, URLS as usize);
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
    let dispatcher =
        Dispatcher::builder()
            .per_key(Rate::per_second(3))
            .run(&group, move |n, context| {
                of_work.push((n, context.at()));
                async {}
            });
    let start = Instant::now();
    (0..=3000_u64).for_each(|n| push(&dispatcher, 'k', n));
    group.wait().await.unwrap();
    let ((last, exact), at) = log.take().pop().unwrap();
    assert_eq!(
        (last, exact - start, at),
        (3000, ms(1_000_000), ms(1_000_000))
    );
}

#[tokio::test(start_paused = true)]
async fn work_waits_in_proportion_to_its_cost() {
    let group = Group::new();
    let (dispatcher, log) = logged(&group, Rate::per_second(10).burst(2));
    for (n, cost) in [2, 1, 0, 5, 1].into_iter().enumerate() {
        dispatcher.try_push_cost("k", cost, n as u64).unwrap();
    }
    group.wait().await.unwrap();
    let at = log.take().into_iter().map(|((_, n), at)| (n, at));
    let expected = [(0, 0), (1, 100), (2, 100), (3, 300), (4, 700)];
    assert!(at.eq(expected.map(|(n, at)| (n, ms(at)))));
}

#[tokio::test(start_paused = true)]
async fn work_that_is_pushed_later_starts_as_soon_as_it_may() {
    let group = Group::new();
    let (dispatcher, log) = logged(&group, Rate::per_second(10));
    push(&dispatcher, "a", 1);
    push(&dispatcher, "a", 2);
    dispatcher.not_before("far", Instant::now() + HOUR);
    push(&dispatcher, "far", 1);
    sleep(ms(150)).await;
    push(&dispatcher, "b", 1);
    push(&dispatcher, "a", 3);
    sleep(ms(200)).await;
    let expected = [("a", 1, 0), ("a", 2, 100), ("b", 1, 150), ("a", 3, 200)];
    assert_eq!(log.take(), expected.map(|(key, n, at)| ((key, n), ms(at))));
    assert_eq!(dispatcher.stats().queued, 1);
}

#[tokio::test(start_paused = true)]
async fn not_before_delays_queued_work_and_only_moves_later() {
    let group = Group::new();
    let (dispatcher, log) = logged(&group, Rate::per_second(100));
    (0..4).for_each(|n| push(&dispatcher, "k", n));
    push(&dispatcher, "other", 0);
    sleep(ms(15)).await;
    dispatcher.not_before("k", Instant::now() + ms(500));
    dispatcher.not_before("k", Instant::now() + ms(100));
    push(&dispatcher, "other", 1);
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
async fn not_before_delays_work_that_waits_for_a_slot() {
    let (group, hold) = (Group::builder().max_running(1).build(), Hold::new());
    let (dispatcher, log) = logged(&group, Rate::per_second(100).burst(2));
    group.delay(Duration::ZERO, hold.job());
    hold.started().await;
    (0..3).for_each(|n| push(&dispatcher, "k", n));
    sleep(ms(3)).await;
    assert_eq!(group.stats().waiting, 1, "it waits for the slot");
    dispatcher.not_before("k", Instant::now() + ms(97));
    hold.release();
    group.wait().await.unwrap();
    let started = log.take();
    let expected = [(0, 100), (1, 100), (2, 110)];
    assert_eq!(started, expected.map(|(n, at)| (("k", n), ms(at))));
}

#[tokio::test(start_paused = true)]
async fn a_delayed_key_takes_nothing_of_the_overall_rate() {
    let (group, log) = (Group::new(), Log::new());
    let of_work = log.clone();
    let dispatcher = Dispatcher::builder()
        .per_key(Rate::per_second(100))
        .overall(Rate::per_second(10))
        .run(&group, move |n: u64, _| of_work.job(n));
    dispatcher.not_before("held", Instant::now() + ms(150));
    push(&dispatcher, "held", 9);
    (0..3).for_each(|n| push(&dispatcher, "free", n));
    group.wait().await.unwrap();
    // Both wait for the rate over all from 100 on; "free" may go by itself from 110.
    let expected = [(0, 0), (1, 100), (2, 200), (9, 300)];
    assert_eq!(log.take(), expected.map(|(n, at)| (n, ms(at))));
}

/// Work that costs much waits for the overall rate, and the keys behind it with it, until its own key is held.
#[tokio::test(start_paused = true)]
async fn a_key_that_is_held_makes_way_for_the_keys_behind_it() {
    let (group, log) = (Group::new(), Log::new());
    let of_work = log.clone();
    let builder = Dispatcher::builder().overall(Rate::per_second(1).burst(10));
    let dispatcher = builder.run(&group, move |n: u64, _| of_work.job(n));
    for n in 0..2 {
        dispatcher.push_cost("much", 10, n).await.unwrap();
    }
    settle().await;
    push(&dispatcher, "little", 2);
    sleep(ms(1_500)).await;
    assert_eq!(log.take(), [(0, ms(0))]);
    dispatcher.not_before("much", Instant::now() + HOUR);
    group.wait().await.unwrap();
    let held = HOUR + ms(1_500);
    assert_eq!(log.take(), [(2, ms(1_500)), (1, held)]);
}

/// Here the slot of the dispatcher is never free for long, and the queue of the key never empty.
#[tokio::test(start_paused = true)]
async fn the_instant_of_work_is_not_before_it_was_pushed_however_long_its_key_has_been_busy() {
    let group = Group::new();
    let builder = Dispatcher::builder().max_running(1);
    let dispatcher = builder.run(&group, |pushed: Instant, context| async move {
        assert!(context.at() >= pushed, "{:?} before", pushed - context.at());
        sleep(ms(1_000)).await;
    });
    push(&dispatcher, "k", Instant::now());
    for _ in 0..5 {
        push(&dispatcher, "k", Instant::now());
        sleep(ms(1_000)).await;
    }
    group.wait().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_program_that_was_stopped_does_not_catch_up_all_at_once() {
    let group = Group::new();
    let (dispatcher, log) = logged(&group, Rate::per_second(100).burst(3));
    (0..50).for_each(|n| push(&dispatcher, "k", n));
    sleep(ms(5)).await;
    assert_eq!(log.take().len(), 3);
    advance(ms(1000)).await;
    settle().await;
    assert_eq!(log.take().len(), 3, "a burst, not a second's worth");
    group.wait().await.unwrap();
}

// How many run.

#[tokio::test(start_paused = true)]
async fn much_work_that_is_due_at_once_does_not_starve_other_tasks() {
    let (group, rate) = (Group::new(), Rate::per_second(10_000).burst(10_000));
    let dispatcher = Dispatcher::builder()
        .per_key(rate)
        .run(&group, |_, _| async {});
    (0..10_000).for_each(|n| push(&dispatcher, 'k', n));
    let seen = dispatcher.clone();
    let beside = tokio::spawn(async move {
        let (mut before, mut most) = (seen.stats().queued, 0);
        while before > 0 {
            tokio::task::yield_now().await;
            let now = seen.stats().queued;
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

/// It is queued in several steps, and in no more time.
#[tokio::test(start_paused = true)]
async fn much_work_that_is_due_again_at_once_starts_at_once_and_in_order() {
    let (group, log) = (Group::new(), Log::new());
    let of_work = log.clone();
    let due = Instant::now() + ms(100);
    let dispatcher = Dispatcher::builder().run(&group, move |n: u64, context| {
        if context.attempt() == 2 {
            of_work.push(n);
        }
        async move {
            if context.attempt() == 1 {
                context.again(due, n).unwrap();
            }
        }
    });
    (0..5_000).for_each(|n| push(&dispatcher, 'k', n));
    group.wait().await.unwrap();
    let expected = (0..5_000).map(|n| (n, ms(100)));
    assert!(log.take().into_iter().eq(expected));
}

#[tokio::test(start_paused = true)]
async fn a_key_that_hangs_does_not_delay_other_keys() {
    let (group, hold, log) = (Group::new(), Hold::new(), Log::new());
    let (held, of_work) = (hold.clone(), log.clone());
    let dispatcher = Dispatcher::builder()
        .per_key(Rate::per_second(1000).burst(10))
        .in_flight(2)
        .run(&group, move |n: u64, context| {
            of_work.push((*context.key(), n));
            let held = held.job();
            async move {
                if *context.key() == "hangs" {
                    held.await;
                }
            }
        });
    for n in 0..3 {
        push(&dispatcher, "hangs", n);
        push(&dispatcher, "runs", n);
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
    assert_eq!(
        (went.as_slice(), dispatcher.stats().queued),
        (&expected[..], 1)
    );
    hold.release();
    sleep(ms(1)).await;
    assert_eq!(log.labels(), [("hangs", 2)]);
    (0..2).for_each(|_| hold.release());
    group.wait().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn queued_work_holds_no_slot_and_no_task() {
    let (group, log) = (Group::builder().max_running(1).build(), Log::new());
    let of_work = log.clone();
    let dispatcher = Dispatcher::builder()
        .per_key(Rate::per_second(1))
        .run(&group, move |n, _| of_work.job(n));
    let tasks = || {
        tokio::runtime::Handle::current()
            .metrics()
            .num_alive_tasks()
    };
    (0..100).for_each(|n| push(&dispatcher, 'k', n));
    settle().await;
    let alive = tasks();
    assert!(
        alive <= 2,
        "{alive} tasks for {} waiting",
        dispatcher.stats().queued
    );
    let stats = group.stats();
    assert_eq!(
        (stats.pending, stats.running, stats.finished),
        (1, 0, 1),
        "what is queued is one job"
    );
    group.delay(ms(500), log.job(1000));
    sleep(ms(600)).await;
    assert_eq!(log.take(), [(0, ms(0)), (1000, ms(500))]);
}

#[tokio::test(start_paused = true)]
async fn a_panic_frees_its_slot_and_is_returned_by_the_groups_wait() {
    let (group, log) = (Group::new(), Log::new());
    let of_work = log.clone();
    let dispatcher = Dispatcher::builder()
        .per_key(Rate::per_second(1000))
        .in_flight(1)
        .run(&group, move |n: u64, _| {
            assert_ne!(n, 0, "the first one");
            of_work.job(n)
        });
    (0..3).for_each(|n| push(&dispatcher, 'k', n));
    let ended = group.wait().await;
    assert!(matches!(ended, Err(WaitError::Panicked(_))), "{ended:?}");
    assert_eq!(log.labels(), [1, 2]);
}

/// It compiles, since a context can be borrowed across an await.
#[tokio::test(start_paused = true)]
async fn work_may_lend_its_context_to_a_function_that_awaits() {
    async fn visit(depth: u64, context: &Context<&'static str, u64>) {
        sleep(ms(1)).await;
        if depth > 0 {
            context.push("k", depth - 1).unwrap();
        }
    }
    let group = Group::new();
    let dispatcher = Dispatcher::builder().run(&group, |depth, context| async move {
        visit(depth, &context).await;
    });
    push(&dispatcher, "k", 3);
    group.wait().await.unwrap();
    assert_eq!(dispatcher.stats().started, 4);
}
