//! The graceful end.

use std::time::Duration;

use crate::common::{Flag, HOUR, Hold, Log, bounded, ms, multi_thread, settle, until, watched};
use rate_limited_retries::{Closed, Dispatcher, Rate};
use schedgroup::Group;
use tokio::time::{Instant, sleep, timeout};

#[tokio::test(start_paused = true)]
async fn a_drain_lets_work_start_at_its_rate_and_gives_back_the_rest() {
    let (group, log) = (Group::new(), Log::new());
    let of_work = log.clone();
    let builder = Dispatcher::builder().per_key(Rate::per_second(10));
    let dispatcher = builder.run(&group, move |n: u64, context| {
        of_work.push(n);
        async move {
            if n == 100 {
                context.again(Instant::now() + HOUR, 100).unwrap();
            }
        }
    });
    dispatcher.push("c", 100).await.unwrap();
    for n in 0..10 {
        dispatcher.push("a", n).await.unwrap();
        dispatcher.push_cost("b", 2, 10 + n).await.unwrap();
    }
    sleep(ms(1)).await;
    let drain = dispatcher.drain(ms(349));
    assert_eq!(
        dispatcher.push("a", 77).await,
        Err(Closed(77)),
        "from the call on"
    );
    let begin = Instant::now();
    let drained = drain.await;
    assert_eq!(begin.elapsed(), ms(349));
    // "a" at 0, 100, 200, 300 and "b" at 0, 200; three before the call.
    assert_eq!((drained.started, drained.running), (4, 0));
    let left: Vec<_> = drained
        .left
        .iter()
        .map(|left| (*left.key, left.work))
        .collect();
    let a = (4..10).map(|n| ("a", n));
    let b = (12..20).map(|n| ("b", n));
    let mut sorted = left.clone();
    sorted.sort_unstable();
    assert!(
        sorted.into_iter().eq(a.chain(b).chain([("c", 100)])),
        "{left:?}"
    );
    assert_eq!(left.last(), Some(&("c", 100)), "what would have come again");
    let costs = drained.left.iter().map(|left| (left.cost, left.attempts));
    assert_eq!(costs.max(), Some((2, 0)));
    assert_eq!(drained.left.last().unwrap().attempts, 1);
    assert_eq!(log.len(), 7);
    // Nothing keeps the group any more.
    timeout(ms(1), group.wait()).await.unwrap().unwrap();
}

/// Its instant comes while the group has no slot, so it could not start.
#[tokio::test(start_paused = true)]
async fn work_that_is_due_again_is_left_before_other_work_of_its_key() {
    let group = Group::builder().max_running(1).build();
    let dispatcher = Dispatcher::builder().run(&group, |n: u64, context| async move {
        context.again(Instant::now() + ms(10), n).unwrap();
    });
    dispatcher.push("k", 1).await.unwrap();
    sleep(ms(1)).await;
    group.delay(Duration::ZERO, sleep(HOUR));
    settle().await;
    for n in [2, 3] {
        dispatcher.push("k", n).await.unwrap();
    }
    let drained = dispatcher.drain(ms(20)).await;
    let left = drained.left.iter().map(|left| left.work);
    assert_eq!(left.collect::<Vec<_>>(), [1, 2, 3]);
}

#[tokio::test(start_paused = true)]
async fn a_drain_ends_as_soon_as_nothing_is_left() {
    let group = Group::new();
    let builder = Dispatcher::builder().per_key(Rate::per_second(10));
    let dispatcher = builder.run(&group, |again: bool, context| async move {
        sleep(ms(30)).await;
        if again {
            context.again(Instant::now() + ms(50), false).unwrap();
        }
    });
    for again in [false, false, true] {
        dispatcher.push("k", again).await.unwrap();
    }
    let begin = Instant::now();
    let drained = dispatcher.drain(HOUR).await;
    // At 0, 100, 200, and the last again at 300.
    assert_eq!(
        (drained.started, drained.left.len(), begin.elapsed()),
        (4, 0, ms(330))
    );
    let drained = dispatcher.drain(HOUR).await;
    assert_eq!(
        (drained.started, drained.left.len()),
        (0, 0),
        "there is nothing twice"
    );
    assert_eq!(begin.elapsed(), ms(330));
}

#[tokio::test(start_paused = true)]
async fn work_that_runs_longer_than_the_grace_is_counted_and_its_pushes_are_given_back() {
    let (group, hold, log) = (Group::new(), Hold::new(), Log::new());
    let (held, of_work) = (hold.clone(), log.clone());
    let dispatcher = Dispatcher::builder()
        .in_flight(1)
        .run(&group, move |n: u64, context| {
            let (held, log) = (held.job(), of_work.clone());
            async move {
                held.await;
                log.push(
                    context
                        .again(Instant::now(), n)
                        .map_err(|Closed(work)| work),
                );
            }
        });
    for n in 0..3 {
        dispatcher.push("k", n).await.unwrap();
    }
    hold.started().await;
    let drained = dispatcher.drain(ms(100)).await;
    assert_eq!((drained.running, drained.left.len()), (1, 2));
    hold.release();
    group.wait().await.unwrap();
    assert_eq!(log.labels(), [Err(0)]);
}

#[tokio::test(start_paused = true)]
async fn the_grace_of_a_drain_begins_at_the_call() {
    let group = Group::new();
    let builder = Dispatcher::builder().per_key(Rate::per_second(10));
    let dispatcher = builder.run(&group, |_: u64, _| async {});
    for n in 0..10 {
        dispatcher.push("k", n).await.unwrap();
    }
    let begin = Instant::now();
    let drain = dispatcher.drain(ms(250));
    sleep(ms(200)).await;
    let drained = drain.await;
    assert_eq!((drained.started, begin.elapsed()), (3, ms(250)));
}

#[tokio::test(start_paused = true)]
async fn a_drain_of_a_cancelled_group_ends_at_once_though_work_still_runs() {
    let (group, hold) = (Group::new(), Hold::new());
    let held = hold.clone();
    let dispatcher = Dispatcher::builder()
        .in_flight(1)
        .run(&group, move |_: u64, _| held.job());
    for n in 0..3 {
        dispatcher.push("k", n).await.unwrap();
    }
    hold.started().await;
    for cancelled_during_the_drain in [true, false] {
        let begin = Instant::now();
        let drain = dispatcher.drain(HOUR);
        let cancel = async {
            if cancelled_during_the_drain {
                sleep(ms(20)).await;
                group.cancel();
            }
        };
        let (drained, ()) = tokio::join!(drain, cancel);
        let (left, at) = if cancelled_during_the_drain {
            (2, 20)
        } else {
            (0, 0)
        };
        assert_eq!((drained.running, drained.left.len()), (1, left));
        assert_eq!(begin.elapsed(), ms(at));
    }
    hold.release();
}

#[tokio::test(start_paused = true)]
async fn a_drain_that_is_dropped_goes_on_and_may_be_repeated() {
    let group = Group::new();
    let builder = Dispatcher::builder().per_key(Rate::per_second(10));
    let dispatcher = builder.run(&group, |_: u64, _| async {});
    for n in 0..10 {
        dispatcher.push("k", n).await.unwrap();
    }
    assert!(timeout(ms(150), dispatcher.drain(HOUR)).await.is_err());
    assert_eq!(dispatcher.push("k", 10).await, Err(Closed(10)));
    sleep(ms(200)).await;
    let drained = dispatcher.drain(Duration::ZERO).await;
    assert_eq!((drained.started, drained.left.len()), (0, 6));
}

/// On the real clock, with pushes, work that comes again, holds, clears and a drain on several threads: each piece of
/// work ends once, or is given back.
#[test]
fn nothing_is_lost_and_nothing_runs_twice() {
    for round in 0..20 {
        watched(move || {
            let runtime = multi_thread();
            runtime.block_on(bounded(async move {
                let group = Group::new();
                let (ended, of_work) = (Flag::new(), Flag::new());
                let (in_work, rejected) = (ended.clone(), Flag::new());
                let builder = Dispatcher::builder()
                    .per_key(Rate::per_second(2_000).burst(3))
                    .overall(Rate::per_second(10_000).burst(7))
                    .in_flight(2)
                    .max_running(5)
                    .bound(50);
                let in_vain = rejected.clone();
                let dispatcher = builder.run(&group, move |n: u64, context| {
                    let (ended, rejected) = (in_work.clone(), in_vain.clone());
                    async move {
                        tokio::task::yield_now().await;
                        if n % 3 == 0 && context.attempt() < 3 {
                            if n % 2 == 0 {
                                context.not_before(Instant::now() + ms(1));
                            }
                            let again = context.again(Instant::now() + ms(n % 4), n);
                            if again.is_err() {
                                drop(rejected.guard());
                            }
                            return;
                        }
                        drop(ended.guard());
                    }
                });
                let pushers = (0..4).map(|key| {
                    let (dispatcher, accepted) = (dispatcher.clone(), of_work.clone());
                    tokio::spawn(async move {
                        for n in 0..200 {
                            if dispatcher.push(key, n).await.is_err() {
                                return;
                            }
                            drop(accepted.guard());
                            if n % 16 == 0 {
                                dispatcher.clear_not_before(&key);
                            }
                        }
                    })
                });
                let pushers: Vec<_> = pushers.collect();
                sleep(ms(round * 5)).await;
                let drained = dispatcher.drain(ms(round)).await;
                for pusher in pushers {
                    pusher.await.unwrap();
                }
                until("what ran has ended", || dispatcher.stats().running == 0).await;
                bounded(group.wait()).await.unwrap();
                let gone = ended.drops() + rejected.drops() + drained.left.len();
                assert_eq!(
                    gone,
                    of_work.drops(),
                    "round {round}: {:?}",
                    dispatcher.stats()
                );
                assert_eq!(dispatcher.stats().queued + dispatcher.stats().delayed, 0);
            }));
        });
    }
}
