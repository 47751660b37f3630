//! The limits beside the rates, what is charged and when, and counts.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::common::{Flag, HOUR, Hold, Log, bounded, jump, ms, multi_thread, settle, watched};
use rate_limited_retries::{Closed, Dispatcher, Failure, KeyStats, Policy, Rate, TryPushError};
use schedgroup::Group;
use tokio::time::{Instant, sleep, timeout};

/// Counts how many run, in all and at most.
#[derive(Clone, Default)]
struct Gauge(Arc<(AtomicUsize, AtomicUsize)>);

impl Gauge {
    async fn run(self, length: Duration) {
        let (now, most) = &*self.0;
        most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        sleep(length).await;
        now.fetch_sub(1, Ordering::SeqCst);
    }

    fn most(&self) -> usize {
        self.0.1.load(Ordering::SeqCst)
    }
}

// Without a rate.

#[tokio::test(start_paused = true)]
async fn without_a_rate_a_key_is_a_serial_queue() {
    let (group, log) = (Group::new(), Log::new());
    let of_work = log.clone();
    let builder = Dispatcher::builder().in_flight(1);
    let dispatcher = builder.run(&group, move |n: u64, context| {
        let log = of_work.clone();
        async move {
            sleep(ms(10)).await;
            log.push((*context.key(), n));
        }
    });
    for n in 0..3 {
        dispatcher.push("a", n).await.unwrap();
        dispatcher.push("b", n).await.unwrap();
    }
    group.wait().await.unwrap();
    let mut ended = log.take();
    ended.sort_by_key(|&((key, n), at)| (at, key, n));
    let expected = [10, 20, 30].into_iter().zip(0..);
    let expected = expected.flat_map(|(at, n)| ["a", "b"].map(|key| ((key, n), ms(at))));
    assert!(ended.iter().copied().eq(expected), "{ended:?}");
}

#[tokio::test(start_paused = true)]
async fn without_any_limit_all_starts_at_once() {
    let (group, gauge) = (Group::new(), Gauge::default());
    let of_work = gauge.clone();
    let dispatcher =
        Dispatcher::builder().run(&group, move |length, _| of_work.clone().run(length));
    for _ in 0..1_000 {
        dispatcher.push("k", ms(5)).await.unwrap();
    }
    let begin = Instant::now();
    group.wait().await.unwrap();
    assert_eq!((gauge.most(), begin.elapsed()), (1_000, ms(5)));
}

// How many run, and how many are queued.

/// One key has work without end, and as many slots as there are. Another key gets the next slot that is free.
#[tokio::test(start_paused = true)]
async fn keys_that_wait_for_a_slot_take_turns() {
    for limits_group in [false, true] {
        let log = Log::new();
        let (group, builder) = match limits_group {
            false => (Group::new(), Dispatcher::builder().max_running(1)),
            true => (
                Group::builder().max_running(1).build(),
                Dispatcher::builder(),
            ),
        };
        for overall in [false, true] {
            let (group, log, builder) = (&group, log.clone(), builder.clone());
            let builder = match overall {
                false => builder,
                true => builder.overall(Rate::per_second(1_000)),
            };
            let of_work = log.clone();
            let dispatcher = builder.run(group, move |n: u64, context| {
                of_work.push((*context.key(), n));
                sleep(ms(1_000))
            });
            for n in 0..4 {
                dispatcher.push("many", n).await.unwrap();
            }
            sleep(ms(500)).await;
            for n in 0..2 {
                dispatcher.push("few", n).await.unwrap();
            }
            sleep(ms(6_000)).await;
            let expected = [
                ("many", 0),
                ("many", 1),
                ("few", 0),
                ("many", 2),
                ("few", 1),
                ("many", 3),
            ];
            assert_eq!(
                log.labels(),
                expected,
                "group {limits_group}, overall {overall}"
            );
        }
    }
}

/// The instants by which late starts are charged lie in the past. They do not bring a key with short work forward.
#[tokio::test(start_paused = true)]
async fn serial_keys_that_wait_for_a_slot_take_turns_however_long_their_work_is() {
    for overall in [false, true] {
        let (group, log) = (Group::new(), Log::new());
        let of_work = log.clone();
        let rate = Rate::per_second(1_000);
        let builder = Dispatcher::builder().in_flight(1).max_running(1);
        let builder = match overall {
            false => builder.per_key(rate),
            true => builder.per_key(rate).overall(rate),
        };
        let dispatcher = builder.run(&group, move |length: u64, context| {
            of_work.push(*context.key());
            sleep(ms(length))
        });
        for _ in 0..20 {
            dispatcher.push("short", 1).await.unwrap();
            dispatcher.push("long", 60).await.unwrap();
        }
        group.wait().await.unwrap();
        let turns = ["short", "long"].into_iter().cycle().take(40);
        assert!(log.labels().into_iter().eq(turns), "overall {overall}");
    }
}

/// Work that is retried goes before the rest of its key, whose turn it takes, also if the rest costs more.
#[tokio::test(start_paused = true)]
async fn a_key_keeps_its_turn_for_a_slot_if_its_work_is_retried() {
    for cost in [1, 2] {
        let (group, log) = (Group::new(), Log::new());
        let of_work = log.clone();
        let builder = Dispatcher::builder().max_running(1);
        let dispatcher = builder.run(&group, move |n: u64, context| {
            of_work.push((*context.key(), n, context.attempt()));
            async move {
                sleep(ms(10)).await;
                if (*context.key(), context.attempt()) == ("a", 1) {
                    context.again(Instant::now() + ms(15), n).unwrap();
                }
            }
        });
        for (n, cost) in [(0, 1), (1, cost)] {
            for key in ["a", "b", "c"] {
                dispatcher.push_cost(key, cost, n).await.unwrap();
            }
        }
        group.wait().await.unwrap();
        let expected = [
            ("a", 0, 1),
            ("b", 0, 1),
            ("c", 0, 1),
            ("a", 0, 2),
            ("b", 1, 1),
            ("c", 1, 1),
            ("a", 1, 1),
            ("a", 1, 2),
        ];
        assert_eq!(log.labels(), expected, "cost {cost}");
    }
}

#[tokio::test(start_paused = true)]
async fn at_most_max_running_run_of_all_keys() {
    let (group, gauge) = (Group::new(), Gauge::default());
    let of_work = gauge.clone();
    let builder = Dispatcher::builder().max_running(3).in_flight(2);
    let dispatcher = builder.run(&group, move |length, _| of_work.clone().run(length));
    for n in 0..40 {
        dispatcher.push(n % 4, ms(10)).await.unwrap();
    }
    let begin = Instant::now();
    group.wait().await.unwrap();
    assert_eq!(gauge.most(), 3);
    // 40 pieces in 3 slots; a slot that is free is taken at once.
    assert_eq!(begin.elapsed(), ms(140));
}

#[tokio::test(start_paused = true)]
async fn pushes_get_permits_in_order() {
    let (group, log) = (Group::new(), Log::new());
    let builder = Dispatcher::builder().per_key(Rate::per_second(10)).bound(2);
    let dispatcher = builder.run(&group, |_: u64, _| async {});
    // The first starts at once, and frees its place.
    for n in 0..3 {
        dispatcher.push("k", n).await.unwrap();
    }
    assert_eq!(dispatcher.try_push("k", 3), Err(TryPushError::Full(3)));
    let pushers = (3..6).map(|n| {
        let (dispatcher, log) = (dispatcher.clone(), log.clone());
        tokio::spawn(async move {
            dispatcher.push("other", n).await.unwrap();
            log.push(n);
        })
    });
    let pushers: Vec<_> = pushers.collect();
    settle().await;
    assert_eq!(log.take(), []);
    for pusher in pushers {
        pusher.await.unwrap();
    }
    // A place is free when work of the key starts, and "other" starts at once.
    let pushed = log.take();
    assert_eq!(
        pushed.iter().map(|(n, _)| *n).collect::<Vec<_>>(),
        [3, 4, 5]
    );
    assert_eq!(pushed[0].1, ms(100));
    group.wait().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_push_that_is_dropped_loses_no_permit() {
    let group = Group::new();
    let builder = Dispatcher::builder().per_key(Rate::per_second(1)).bound(1);
    let dispatcher = builder.run(&group, |_: u64, _| async {});
    dispatcher.push("k", 0).await.unwrap();
    dispatcher.push("k", 1).await.unwrap();
    for _ in 0..10 {
        let waits = timeout(ms(10), dispatcher.push("k", 9)).await;
        assert!(waits.is_err());
    }
    sleep(ms(1_000)).await;
    dispatcher.push("k", 2).await.unwrap();
    assert_eq!(dispatcher.try_push("k", 3), Err(TryPushError::Full(3)));
    group.wait().await.unwrap();
    assert_eq!(dispatcher.stats().started, 3);
}

#[tokio::test(start_paused = true)]
async fn a_rejected_push_releases_its_permit() {
    let group = Group::new();
    let dispatcher = Dispatcher::builder()
        .bound(1)
        .run(&group, |_: u64, _| async {});
    group.cancel();
    for n in 0..3 {
        assert_eq!(dispatcher.push("k", n).await, Err(Closed(n)));
    }
}

#[tokio::test(start_paused = true)]
async fn pushes_that_wait_end_with_the_dispatcher_and_with_the_group() {
    type End = fn(&Group, &Dispatcher<&'static str, u64>);
    let ends: [End; 2] = [
        |group, _| group.cancel(),
        |_, dispatcher| drop(dispatcher.drain(HOUR)),
    ];
    for end in ends {
        let group = Group::new();
        let builder = Dispatcher::builder().per_key(Rate::new(1, HOUR)).bound(1);
        let dispatcher = builder.run(&group, |_: u64, _| async {});
        dispatcher.push("k", 0).await.unwrap();
        dispatcher.push("k", 1).await.unwrap();
        let waits = tokio::spawn({
            let dispatcher = dispatcher.clone();
            async move { dispatcher.push("k", 2).await }
        });
        settle().await;
        end(&group, &dispatcher);
        assert_eq!(bounded(waits).await.unwrap(), Err(Closed(2)));
    }
}

/// No work starts that would make room for it, or what is pushed then is rejected anyway.
#[tokio::test(start_paused = true)]
async fn a_push_into_a_full_dispatcher_of_a_closed_group_fails_at_once() {
    let ends: [fn(&Group); 2] = [|group| group.cancel(), |group| drop(group.wait())];
    for end in ends {
        let (group, hold) = (Group::new(), Hold::new());
        let held = hold.clone();
        let builder = Dispatcher::builder().in_flight(1).bound(1);
        let dispatcher = builder.run(&group, move |_: u64, _| held.job());
        dispatcher.push("k", 0).await.unwrap();
        hold.started().await;
        dispatcher.push("k", 1).await.unwrap();
        assert_eq!(dispatcher.try_push("k", 2), Err(TryPushError::Full(2)));
        end(&group);
        assert_eq!(dispatcher.try_push("k", 2), Err(TryPushError::Closed(2)));
        let pushed = timeout(ms(1), dispatcher.push("k", 3)).await;
        assert_eq!(pushed.expect("it does not wait"), Err(Closed(3)));
        hold.release();
        hold.release();
        settle().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_push_that_waits_ends_with_the_group_though_no_work_is_due() {
    let (group, hold) = (Group::new(), Hold::new());
    let held = hold.clone();
    let builder = Dispatcher::builder().in_flight(1).bound(1);
    let dispatcher = builder.run(&group, move |n: u64, context| {
        let held = held.job();
        async move {
            if n == 0 {
                // It waits until the queue of its own key is full, and then lets work of another key start.
                sleep(ms(10)).await;
                context.push("other", 9).unwrap();
            }
            if n != 9 {
                held.await;
            }
        }
    });
    dispatcher.push("k", 0).await.unwrap();
    dispatcher.push("k", 1).await.unwrap();
    let waits = tokio::spawn({
        let dispatcher = dispatcher.clone();
        async move { dispatcher.push("k", 2).await }
    });
    hold.started().await;
    sleep(ms(10)).await;
    assert_eq!(
        (dispatcher.stats().started, dispatcher.stats().running),
        (2, 1)
    );
    group.cancel();
    assert_eq!(bounded(waits).await.unwrap(), Err(Closed(2)));
    hold.release();
}

#[tokio::test(start_paused = true)]
async fn retried_work_needs_no_permit() {
    let group = Group::new();
    let builder = Dispatcher::builder().in_flight(1).bound(1);
    let dispatcher = builder.run(&group, |n: u64, context| async move {
        if n < 10 && context.attempt() < 3 {
            context.push("other", n + 10).unwrap();
            context.again(Instant::now(), n).unwrap();
        }
    });
    dispatcher.push("k", 0).await.unwrap();
    bounded(group.wait()).await.unwrap();
    // Three times, and what it pushes twice.
    assert_eq!(
        (dispatcher.stats().started, dispatcher.stats().queued),
        (5, 0)
    );
}

// What is charged, and when.

/// Host 10 is released at once, and waits for a slot until 9.8 s. Its second piece starts ten seconds after that.
#[tokio::test(start_paused = true)]
async fn work_that_waits_for_a_slot_is_charged_when_it_starts() {
    let (group, log) = (Group::builder().max_running(1).build(), Log::new());
    let of_work = log.clone();
    let rate = Rate::new(1, Duration::from_secs(10));
    let builder = Dispatcher::builder().per_key(rate);
    let dispatcher = builder.run(&group, move |n: u64, context| {
        of_work.push((*context.key(), n));
        sleep(ms(980))
    });
    for n in 0..2 {
        for host in 0..=10 {
            dispatcher.push(host, n).await.unwrap();
        }
    }
    group.wait().await.unwrap();
    let started = log.take();
    let at = |wanted| {
        started
            .iter()
            .find(|(which, _)| *which == wanted)
            .unwrap()
            .1
    };
    assert_eq!(at((10, 0)), ms(9_800));
    for host in 0..=10 {
        let apart = at((host, 1)) - at((host, 0));
        assert!(apart >= ms(10_000), "host {host}: {apart:?}");
    }
    assert_eq!(
        at((10, 1)),
        ms(20_580),
        "behind the others, which each take a slot for 980 ms"
    );
}

/// Slots of the group that come free all at once after a while: no more start in a second than GCRA allows.
#[tokio::test(start_paused = true)]
async fn a_group_at_its_limit_breaks_no_rate() {
    let (group, hold, log) = (
        Group::builder().max_running(4).build(),
        Hold::new(),
        Log::new(),
    );
    let of_work = log.clone();
    let rate = Rate::per_second(10).burst(10);
    let builder = Dispatcher::builder().overall(rate);
    let dispatcher = builder.run(&group, move |n: u64, _| of_work.job(n));
    for _ in 0..4 {
        group.delay(Duration::ZERO, hold.job());
        hold.started().await;
    }
    for n in 0..60 {
        dispatcher.push(n % 7, n).await.unwrap();
    }
    sleep(ms(980)).await;
    (0..4).for_each(|_| hold.release());
    group.wait().await.unwrap();
    let at: Vec<Duration> = log.take().into_iter().map(|(_, at)| at).collect();
    assert_eq!(
        (at.len(), at[9]),
        (60, ms(980)),
        "a burst when there is a slot"
    );
    for (n, from) in at.iter().enumerate() {
        let within = at[n..]
            .iter()
            .take_while(|at| **at - *from < ms(1_000))
            .count();
        assert!(within <= 20, "{within} in a second from {from:?} on");
    }
    assert_eq!(at[59], ms(980 + 5_000));
}

/// Due jobs of a group start in the order of their deadlines, and a key that is always busy is due again with each start.
#[tokio::test(start_paused = true)]
async fn a_busy_key_keeps_no_other_job_from_a_slot_of_the_group() {
    for rate in [None, Some(Rate::per_second(100).burst(100))] {
        let (group, log) = (Group::builder().max_running(1).build(), Log::new());
        let mut builder = Dispatcher::builder();
        if let Some(rate) = rate {
            builder = builder.per_key(rate);
        }
        let dispatcher = builder.run(&group, |(), _| sleep(ms(1_000)));
        for _ in 0..20 {
            dispatcher.push("k", ()).await.unwrap();
        }
        sleep(ms(4_500)).await;
        group.delay(Duration::ZERO, log.job("other"));
        group.wait().await.unwrap();
        let started = log.take();
        assert!(started[0].1 <= ms(6_000), "{started:?} with {rate:?}");
    }
}

/// Work of a held key that waits for a slot of the group takes nothing of the overall rate until it starts.
#[tokio::test(start_paused = true)]
async fn work_that_is_delayed_before_it_starts_is_charged_once() {
    let (group, hold, log) = (
        Group::builder().max_running(1).build(),
        Hold::new(),
        Log::new(),
    );
    let of_work = log.clone();
    let overall = Rate::per_second(10).burst(10);
    let builder = Dispatcher::builder().overall(overall);
    let dispatcher = builder.run(&group, move |n: u64, _| of_work.job(n));
    group.delay(Duration::ZERO, hold.job());
    hold.started().await;
    for n in 0..10 {
        dispatcher.push("held", n).await.unwrap();
        dispatcher.push("free", 100 + n).await.unwrap();
    }
    sleep(ms(5)).await;
    dispatcher.not_before("held", Instant::now() + ms(1_000));
    hold.release();
    group.wait().await.unwrap();
    let started = log.take();
    let expected = (100..110).map(|n| (n, ms(5)));
    // The others have taken the whole burst. In the second since then the rate has earned it again.
    let held = (0..10).map(|n| (n, ms(1_005)));
    assert!(
        started.iter().copied().eq(expected.chain(held)),
        "{started:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn retried_work_keeps_its_cost() {
    let (group, log) = (Group::new(), Log::new());
    let of_work = log.clone();
    let builder = Dispatcher::builder().per_key(Rate::per_second(1));
    let dispatcher = builder.run(&group, move |n: u64, context| {
        of_work.push((n, context.cost()));
        async move {
            match n {
                0 => context.again(Instant::now(), 1).unwrap(),
                1 => context.push_cost("k", context.cost(), 2).unwrap(),
                _ => {}
            }
        }
    });
    dispatcher.push_cost("k", 10, 0).await.unwrap();
    group.wait().await.unwrap();
    let expected = [((0, 10), 0), ((1, 10), 10_000), ((2, 10), 20_000)];
    assert_eq!(log.take(), expected.map(|(what, at)| (what, ms(at))));
}

/// The late start is charged at its exact instant, so the next ones start at theirs.
#[tokio::test(start_paused = true)]
async fn a_start_that_is_a_little_late_does_not_delay_the_next() {
    let (group, log) = (Group::new(), Log::new());
    let of_work = log.clone();
    let builder = Dispatcher::builder().per_key(Rate::per_second(20));
    let dispatcher = builder.run(&group, move |n: u64, _| of_work.job(n));
    for n in 0..4 {
        dispatcher.push("k", n).await.unwrap();
    }
    sleep(ms(40)).await;
    // The second is 19 ms late, which is less than the tolerance.
    tokio::time::advance(ms(29)).await;
    group.wait().await.unwrap();
    let at: Vec<Duration> = log.take().into_iter().map(|(_, at)| at).collect();
    assert_eq!(at, [0, 69, 100, 150].map(ms));
}

#[tokio::test(start_paused = true)]
async fn slack_shares_wake_ups_and_costs_no_capacity() {
    let (group, log) = (Group::new(), Log::new());
    let of_work = log.clone();
    let rate = Rate::new(1, Duration::from_secs(10));
    let builder = Dispatcher::builder().per_key(rate).slack(ms(10));
    let dispatcher = builder.run(&group, move |n: u64, _| of_work.job(n));
    let begin = Instant::now();
    for key in 0..100 {
        dispatcher.not_before(key, begin + ms(100 + key));
        for n in 0..10 {
            dispatcher.push(key, n).await.unwrap();
        }
    }
    group.wait().await.unwrap();
    let started = log.take();
    assert_eq!(started.len(), 1_000);
    let mut instants: Vec<Duration> = started.iter().map(|(_, at)| *at).collect();
    instants.dedup();
    assert!(instants.len() <= 120, "{} wake-ups", instants.len());
    let last = started.last().unwrap().1;
    assert!(
        last <= ms(90_000 + 199 + 11),
        "{last:?}: no start was charged late"
    );
}

/// On the real clock: work that blocks its thread keeps no other that is due waiting.
#[test]
fn work_that_blocks_its_thread_does_not_delay_other_work() {
    watched(|| {
        multi_thread().block_on(bounded(async {
            let (group, flag) = (Group::new(), Flag::new());
            let (send, block) = std::sync::mpsc::channel::<()>();
            let (block, of_work) = (Mutex::new(block), flag.clone());
            let dispatcher = Dispatcher::builder().run(&group, move |n: u64, _| {
                if n == 0 {
                    // Until the others have run.
                    let _ = block.lock().unwrap().recv();
                }
                of_work.job()
            });
            for n in 0..10 {
                dispatcher.push(n, n).await.unwrap();
            }
            let seen = flag.clone();
            // A thread of its own: both workers may be in the dispatcher's jobs.
            std::thread::spawn(move || {
                while seen.drops() < 9 {
                    std::thread::sleep(ms(1));
                }
                drop(send);
            });
            group.wait().await.unwrap();
            assert_eq!(flag.drops(), 10);
        }));
    });
}

// Keys that are held up.

#[tokio::test(start_paused = true)]
async fn not_before_is_capped_at_an_hour_or_at_the_limit_that_is_set() {
    for (cap, until) in [
        (None, HOUR),
        (Some(ms(250)), ms(250)),
        (Some(Duration::MAX), HOUR * 9_000),
    ] {
        let (group, log) = (Group::new(), Log::new());
        let of_work = log.clone();
        let mut builder = Dispatcher::builder();
        if let Some(cap) = cap {
            builder = builder.max_hold(cap);
        }
        let dispatcher = builder.run(&group, move |n: u64, _| of_work.job(n));
        dispatcher.push("k", 0).await.unwrap();
        // A `Retry-After: 32400000`.
        dispatcher.not_before("k", Instant::now() + HOUR * 9_000);
        group.wait().await.unwrap();
        assert_eq!(log.take(), [(0, until)], "{cap:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn clear_not_before_starts_work_at_once_and_keeps_the_rate() {
    let (group, log) = (Group::new(), Log::new());
    let of_work = log.clone();
    let builder = Dispatcher::builder().per_key(Rate::per_second(10));
    let dispatcher = builder.run(&group, move |n: u64, _| of_work.job(n));
    for n in 0..3 {
        dispatcher.push("k", n).await.unwrap();
    }
    sleep(ms(50)).await;
    dispatcher.not_before("k", Instant::now() + HOUR);
    let stats = dispatcher.key_stats(&"k");
    assert_eq!(stats.not_before, Some(Instant::now() + HOUR));
    sleep(ms(500)).await;
    dispatcher.clear_not_before(&"k");
    dispatcher.clear_not_before(&"unknown");
    group.wait().await.unwrap();
    assert_eq!(log.take(), [(0, ms(0)), (1, ms(550)), (2, ms(650))]);
    assert_eq!(dispatcher.key_stats(&"k").not_before, None);
}

// Counts.

#[tokio::test(start_paused = true)]
async fn stats_have_counts_and_the_next_instant_per_key_and_overall() {
    let (group, hold) = (Group::new(), Hold::new());
    let held = hold.clone();
    let builder = Dispatcher::builder()
        .per_key(Rate::per_second(10))
        .in_flight(1);
    let dispatcher = builder.run(&group, move |n: u64, context| {
        let held = held.job();
        async move {
            match n {
                0 => held.await,
                1 => context.again(Instant::now() + HOUR, 1).unwrap(),
                _ => {}
            }
        }
    });
    let begin = Instant::now();
    for n in [0, 5, 6] {
        dispatcher.push("a", n).await.unwrap();
    }
    for n in [1, 5] {
        dispatcher.push("b", n).await.unwrap();
    }
    sleep(ms(10)).await;
    let stats = dispatcher.stats();
    assert_eq!((stats.queued, stats.delayed, stats.running), (3, 1, 1));
    assert_eq!((stats.started, stats.returned, stats.keys), (2, 1, 2));
    assert_eq!(stats.next, Some(begin + ms(100)));
    let a = dispatcher.key_stats(&"a");
    assert_eq!((a.queued, a.delayed, a.running, a.started), (2, 0, 1, 1));
    assert_eq!(a.next, None, "it waits for its slot");
    let b = dispatcher.key_stats(&"b");
    assert_eq!((b.queued, b.delayed, b.running, b.started), (1, 1, 0, 1));
    assert_eq!(b.next, Some(begin + ms(100)));
    assert_eq!(dispatcher.key_stats(&"c"), KeyStats::default());
    let text = format!("{dispatcher:?}");
    assert!(
        text.contains("queued: 3") && text.contains("Handle"),
        "{text}"
    );
}

/// Also of work that is due again and was not queued yet, and when none will start.
#[tokio::test(start_paused = true)]
async fn the_counts_of_a_key_are_those_of_the_dispatcher() {
    let group = Group::new();
    let dispatcher = Dispatcher::builder().run(&group, |_: u64, context| async move {
        if context.attempt() == 1 {
            context.again(Instant::now() + ms(100), 0).unwrap();
        }
    });
    let counts = || {
        let stats = dispatcher.key_stats(&"k");
        (stats.queued, stats.delayed, stats.next)
    };
    dispatcher.push("k", 0).await.unwrap();
    settle().await;
    assert_eq!(counts(), (0, 1, None));
    jump(ms(100));
    assert_eq!(counts(), (1, 0, Some(Instant::now())));
    group.cancel();
    settle().await;
    assert_eq!(counts(), (1, 0, None));
    assert_eq!(dispatcher.stats().next, None);
}

/// On the real clock: each end of work moves the instant since which the next work of its key could start.
#[test]
fn a_key_that_is_not_held_has_no_instant_before_which_nothing_starts() {
    watched(|| {
        multi_thread().block_on(bounded(async {
            let group = Group::new();
            let builder = Dispatcher::builder().in_flight(1);
            let dispatcher = builder.run(&group, |_: u64, _| async {});
            for n in 0..50_000 {
                dispatcher.push("k", n).await.unwrap();
            }
            std::thread::scope(|scope| {
                for _ in 0..4 {
                    scope.spawn(|| {
                        while dispatcher.stats().started < 50_000 {
                            assert_eq!(dispatcher.key_stats(&"k").not_before, None);
                        }
                    });
                }
            });
            group.wait().await.unwrap();
        }));
    });
}

// Texts.

/// Work without `Debug`.
struct Secret;

#[tokio::test(start_paused = true)]
async fn errors_and_debug_texts_tell_all_but_the_work() {
    let (group, log) = (Group::new(), Log::new());
    let of_work = log.clone();
    // A clone has the same settings.
    let builder = Dispatcher::builder().per_key(Rate::per_second(1)).bound(2);
    let dispatcher = builder.clone().run(&group, move |_: Secret, context| {
        of_work.push(format!("{context:?}"));
        async {}
    });
    for _ in 0..2 {
        assert!(dispatcher.try_push("a", Secret).is_ok());
    }
    let full = dispatcher.try_push("a", Secret).unwrap_err();
    let texts = (format!("{full:?}"), full.to_string());
    assert_eq!(texts, ("Full(..)".into(), "the dispatcher is full".into()));

    let drained = dispatcher.drain(ms(500)).await;
    let left = format!("{:?}", drained.left);
    assert_eq!(
        left,
        r#"[Unstarted { key: "a", cost: 1, attempts: 0, .. }]"#
    );
    let started = log.labels().remove(0);
    assert!(
        started.starts_with(r#"Context { key: "a", at: Instant"#),
        "{started}"
    );
    assert!(started.ends_with("attempt: 1, .. }"), "{started}");

    let closed = dispatcher.push("a", Secret).await.unwrap_err();
    let texts = (format!("{closed:?}"), closed.to_string());
    let expected = (
        "Closed(..)".to_owned(),
        "the dispatcher is closed".to_owned(),
    );
    assert_eq!(texts, expected);
    let closed = dispatcher.try_push("a", Secret).unwrap_err();
    assert_eq!((format!("{closed:?}"), closed.to_string()), expected);
    let Secret = closed.into_inner();

    let group = Group::new();
    let policy = Policy::new(std::iter::empty());
    let dispatcher = Dispatcher::builder().run(&group, move |_: Secret, context| {
        let failure = Failure::Error("busy");
        let gave_up = context.retry(&policy, Secret, &failure).unwrap_err();
        assert_eq!(
            (format!("{gave_up:?}"), gave_up.to_string()),
            (
                "GaveUp { attempts: 1, reason: Delays, .. }".to_owned(),
                "given up at attempt 1: all attempts were made".to_owned()
            )
        );
        async {}
    });
    assert!(dispatcher.try_push("a", Secret).is_ok());
    group.wait().await.unwrap();
}
