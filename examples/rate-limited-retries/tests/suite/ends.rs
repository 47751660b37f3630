//! Work that comes again, what ends it, and users' code that panics or calls back.

use std::hash::{Hash, Hasher};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::task::{self, Wake};
use std::time::Duration;

use crate::common::{
    Flag, HOUR, Hold, Key, Log, OnDrop, bounded, context_of, misuse, ms, multi_thread, panic_of,
    settle, watched,
};
use crate::dispatcher::{logged, push};
use rate_limited_retries::{
    Builder, Closed, Context, Dispatcher, Failure, Policy, Rate, TryPushError,
};
use schedgroup::keyed::{KeyedContext, KeyedGroup, OnDuplicate};
use schedgroup::{Group, WaitError};
use tokio::time::{Instant, sleep};

#[tokio::test(start_paused = true)]
async fn work_can_be_retried_while_the_group_drains() {
    let (group, log) = (Group::new(), Log::new());
    let of_work = log.clone();
    let dispatcher =
        Dispatcher::builder()
            .per_key(Rate::per_second(100))
            .run(&group, move |n: u64, context| {
                of_work.push(n);
                async move {
                    match n {
                        0 => _ = context.again(Instant::now() + ms(500), 1),
                        1 => _ = context.push('j', 2),
                        2 => {
                            context.not_before(Instant::now() + ms(50));
                            _ = context.again(Instant::now(), 3);
                        }
                        _ => {}
                    }
                }
            });
    push(&dispatcher, 'k', 0);
    group.wait().await.unwrap();
    let expected = [(0, 0), (1, 500), (2, 500), (3, 550)];
    assert_eq!(log.take(), expected.map(|(n, at)| (n, ms(at))));
    assert_eq!(dispatcher.stats().queued, 0);
}

#[tokio::test(start_paused = true)]
async fn retried_work_goes_before_work_that_was_pushed_later() {
    let (group, log) = (Group::new(), Log::new());
    let of_work = log.clone();
    let rate = Rate::per_second(10).burst(3);
    let dispatcher = Dispatcher::builder()
        .per_key(rate)
        .run(&group, move |n: u64, context| {
            of_work.push(n);
            async move {
                if n < 2 {
                    _ = context.again(Instant::now() + ms(30), n + 10);
                }
            }
        });
    push(&dispatcher, 'k', 0);
    push(&dispatcher, 'k', 1);
    // It could start at 200. Retried work costs less than this, and may start before it.
    dispatcher.try_push_cost('k', 3, 2).unwrap();
    push(&dispatcher, 'k', 3);
    group.wait().await.unwrap();
    let expected = [(0, 0), (1, 0), (10, 30), (11, 100), (2, 400), (3, 500)];
    assert_eq!(log.take(), expected.map(|(n, at)| (n, ms(at))));
}

#[tokio::test(start_paused = true)]
async fn work_that_is_pushed_after_the_end_is_given_back() {
    let ends: [fn(&Group); 4] = [
        |group| drop(group.wait()),
        |group| drop(group.drain(HOUR)),
        |group| drop(group.shutdown(HOUR)),
        |group| group.cancel(),
    ];
    for end in ends {
        for (waiting, has_run) in [(0, true), (2, true), (2, false)] {
            let (group, flag) = (Group::new(), Flag::new());
            let builder = Dispatcher::builder().per_key(Rate::per_second(1));
            let dispatcher = builder.run(&group, |_, _| async {});
            (0..waiting).for_each(|_| push(&dispatcher, 'k', flag.guard()));
            if has_run {
                settle().await;
            }
            end(&group);
            settle().await;
            let before = flag.drops();
            let Err(Closed(work)) = dispatcher.push('k', flag.guard()).await else {
                panic!("{waiting} waiting, {has_run}");
            };
            let rejected = dispatcher.try_push_cost('j', 2, flag.guard());
            let Err(TryPushError::Closed(other)) = rejected else {
                panic!("{rejected:?}: {waiting} waiting, {has_run}");
            };
            assert_eq!(flag.drops(), before, "{waiting} waiting, {has_run}");
            drop((work, other));
            drop(group);
            settle().await;
            drop(dispatcher);
            assert_eq!(flag.drops(), 2 + waiting, "{waiting} waiting, {has_run}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_group_that_ends_starts_nothing_more_and_a_drain_gives_back_what_is_left() {
    let ends: [fn(Group); 3] = [
        |group| group.cancel(),
        drop,
        |group| drop(group.shutdown(Duration::ZERO)),
    ];
    for end in ends {
        let (group, flag) = (Group::new(), Flag::new());
        let builder = Dispatcher::builder().per_key(Rate::per_second(1));
        let dispatcher = builder.run(&group, |_, _| async {});
        (0..10).for_each(|_| push(&dispatcher, 'k', flag.guard()));
        settle().await;
        assert_eq!((dispatcher.stats().queued, flag.drops()), (9, 1));
        end(group);
        sleep(HOUR).await;
        assert_eq!((dispatcher.stats().queued, flag.drops()), (9, 1));
        assert_eq!(dispatcher.stats().next, None, "none will start");
        let drained = dispatcher.drain(HOUR).await;
        assert_eq!(
            (drained.left.len(), drained.started, drained.running),
            (9, 0, 0)
        );
        assert_eq!((dispatcher.stats().queued, flag.drops()), (0, 1));
        drop(drained);
        assert_eq!(flag.drops(), 10);
    }
}

/// The job of the dispatcher is due, and waits for a slot of the group. Within the grace of a shutdown it gets the slot.
#[tokio::test(start_paused = true)]
async fn a_group_that_is_shut_down_starts_no_work_though_it_was_due() {
    let (group, hold, log) = (
        Group::builder().max_running(1).build(),
        Hold::new(),
        Log::new(),
    );
    let of_work = log.clone();
    let dispatcher = Dispatcher::builder().run(&group, move |n: u64, _| of_work.job(n));
    group.delay(Duration::ZERO, hold.job());
    hold.started().await;
    (0..3).for_each(|n| push(&dispatcher, 'k', n));
    settle().await;
    assert_eq!(group.stats().waiting, 1);
    let shutdown = group.shutdown(HOUR);
    hold.release();
    shutdown.await;
    assert_eq!(log.labels(), []);
    assert_eq!(dispatcher.drain(HOUR).await.left.len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_dispatcher_that_is_dropped_after_its_group_drops_what_is_left() {
    let (group, flag) = (Group::new(), Flag::new());
    let builder = Dispatcher::builder().per_key(Rate::per_second(1));
    let dispatcher = builder.run(&group, |_, _| async {});
    (0..10).for_each(|_| push(&dispatcher, 'k', flag.guard()));
    settle().await;
    group.cancel();
    settle().await;
    drop(dispatcher);
    assert_eq!(flag.drops(), 10);
}

#[test]
fn a_runtime_that_ends_leaves_what_is_queued() {
    let (runtime, flag) = (multi_thread(), Flag::new());
    let dispatcher = {
        let _inside = runtime.enter();
        let group = Group::new();
        let builder = Dispatcher::builder().per_key(Rate::new(1, HOUR));
        let dispatcher = builder.run(&group, |_, _| async {});
        group.detach();
        dispatcher
    };
    (0..10).for_each(|_| push(&dispatcher, 'k', flag.guard()));
    drop(runtime);
    let started = dispatcher.stats().started as usize;
    assert!(started <= 1, "{started} started");
    assert_eq!(
        (dispatcher.stats().queued, flag.drops()),
        (10 - started, started)
    );
    push(&dispatcher, 'k', flag.guard());
    assert_eq!(flag.drops(), started + 1);
    drop(dispatcher);
    assert_eq!(flag.drops(), 11);
}

#[tokio::test(start_paused = true)]
async fn a_push_by_work_whose_group_has_ended_is_given_back_without_a_panic() {
    let (group, hold, flag) = (Group::new(), Hold::new(), Flag::new());
    let (held, of_work) = (hold.clone(), flag.clone());
    let rate = Rate::per_second(1);
    let dispatcher =
        Dispatcher::builder()
            .per_key(rate)
            .run(&group, move |(), context: Context<char, ()>| {
                let (held, guard) = (held.job(), of_work.guard());
                async move {
                    held.await;
                    _ = context.push('j', ());
                    _ = context.again(Instant::now(), ());
                    drop(guard);
                }
            });
    push(&dispatcher, 'k', ());
    hold.started().await;
    group.cancel();
    hold.release();
    settle().await;
    assert_eq!((flag.drops(), dispatcher.stats().queued), (1, 0));
    assert_eq!(group.stats().panicked, 0);
    assert!(matches!(group.wait().await, Err(WaitError::Cancelled)));
}

#[tokio::test(start_paused = true)]
async fn a_dispatcher_that_is_dropped_still_starts_what_is_queued() {
    let group = Group::new();
    let (dispatcher, log) = logged(&group, Rate::per_second(10));
    let clone = dispatcher.clone();
    push(&dispatcher, "k", 0);
    push(&clone, "k", 1);
    assert_eq!(
        (dispatcher.stats().queued, clone.stats().queued),
        (2, 2),
        "one set of queues"
    );
    drop((dispatcher, clone));
    group.wait().await.unwrap();
    assert_eq!(log.take(), [(("k", 0), ms(0)), (("k", 1), ms(100))]);
}

#[tokio::test(start_paused = true)]
async fn a_dispatcher_that_a_job_creates_accepts_work_while_the_group_drains() {
    let (group, hold, log) = (Group::new(), Hold::new(), Log::new());
    let (inside, of_work) = (context_of(&group, &hold).await.handle(), log.clone());
    let wait = group.wait();
    let rate = Rate::per_second(10);
    let dispatcher = Dispatcher::builder()
        .per_key(rate)
        .run(&inside, move |n: u64, _| of_work.job(n));
    (0..2).for_each(|n| push(&dispatcher, 'k', n));
    settle().await;
    // By now it knows that the group drains.
    push(&dispatcher, 'k', 2);
    hold.release();
    wait.await.unwrap();
    assert_eq!(log.take(), [(0, ms(0)), (1, ms(100)), (2, ms(200))]);
}

#[tokio::test(start_paused = true)]
async fn destructors_may_call_back() {
    let (group, seen) = (Group::new(), Arc::new(AtomicUsize::new(0)));
    let dispatcher: Dispatcher<char, Box<dyn Send>> = Dispatcher::builder()
        .per_key(Rate::per_second(1))
        .run(&group, |_, _| async {});
    for _ in 0..3 {
        let (calls, seen) = (dispatcher.clone(), Arc::clone(&seen));
        let calls_back = OnDrop(move || {
            calls.not_before('k', Instant::now());
            seen.fetch_add(calls.stats().queued + 1, Ordering::SeqCst);
        });
        push(&dispatcher, 'k', Box::new(calls_back));
    }
    settle().await;
    drop(group);
    settle().await;
    drop(dispatcher.drain(HOUR).await);
    assert_eq!(seen.load(Ordering::SeqCst), 3 + 1 + 1);
}

/// A key that asks for counts when it is dropped.
struct Asking(u64, Weak<OnceLock<Dispatcher<Asking, u64>>>);

impl Hash for Asking {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

impl PartialEq for Asking {
    fn eq(&self, other: &Asking) -> bool {
        self.0 == other.0
    }
}

impl Eq for Asking {}

impl Drop for Asking {
    fn drop(&mut self) {
        let dispatcher = self.1.upgrade();
        if let Some(dispatcher) = dispatcher.as_ref().and_then(|cell| cell.get()) {
            dispatcher.stats();
        }
    }
}

/// One that is known already is dropped at the call, and one that is forgotten in passing.
#[test]
fn destructors_of_keys_may_call_back() {
    watched(|| {
        multi_thread().block_on(bounded(async {
            let (group, cell) = (Group::new(), Arc::new(OnceLock::new()));
            let dispatcher = Dispatcher::builder().run(&group, |_: u64, _| async {});
            let dispatcher = cell.get_or_init(|| dispatcher);
            let key = |number| Asking(number, Arc::downgrade(&cell));
            let later = Instant::now() + HOUR;
            for _ in 0..3 {
                dispatcher.not_before(key(0), later);
                push(dispatcher, key(0), 0);
            }
            for number in 1..1_000 {
                push(dispatcher, key(number), 0);
            }
            assert_eq!(dispatcher.key_stats(&key(0)).queued, 3);
            let left = dispatcher.drain(Duration::ZERO).await.left;
            assert_eq!(left.iter().filter(|left| left.key.0 == 0).count(), 3);
        }));
    });
}

#[tokio::test(start_paused = true)]
async fn destructors_that_panic_harm_nobody() {
    let (group, drops) = (Group::new(), Flag::new());
    let builder = Dispatcher::builder().per_key(Rate::per_second(1));
    let dispatcher = builder.run(&group, |_, _| async {});
    for n in 0..9 {
        let guard = drops.guard();
        let bomb = OnDrop(move || {
            let _dropped = &guard;
            assert!(n % 2 == 0, "in a destructor");
        });
        push(&dispatcher, 'k', bomb);
    }
    settle().await;
    drop(group);
    settle().await;
    drop(dispatcher);
    assert_eq!(drops.drops(), 9);
}

/// Delays that panic when they are dropped, once that is asked for.
#[derive(Clone)]
struct FragileDelays(Arc<AtomicBool>);

impl Iterator for FragileDelays {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        Some(HOUR)
    }
}

impl Drop for FragileDelays {
    fn drop(&mut self) {
        assert!(!self.0.load(Ordering::SeqCst), "in a destructor");
    }
}

/// Two panics of destructors of one piece of work do not end the process, and a drain gives back all work.
#[tokio::test(start_paused = true)]
async fn delays_that_panic_in_their_destructors_beside_their_work_harm_nobody() {
    for is_drained in [false, true] {
        let (group, drops, panics) = (Group::new(), Flag::new(), Arc::default());
        let policy = Arc::new(Policy::<&str>::new(FragileDelays(Arc::clone(&panics))));
        let of_work = Arc::clone(&policy);
        let dispatcher = Dispatcher::builder().run(&group, move |work, context| {
            let policy = Arc::clone(&of_work);
            async move {
                let retried = context.retry(&policy, work, &Failure::Error("busy"));
                assert!(retried.is_ok());
            }
        });
        for _ in 0..3 {
            let (guard, panics) = (drops.guard(), Arc::clone(&panics));
            let bomb = OnDrop(move || {
                let _dropped = &guard;
                assert!(!panics.load(Ordering::SeqCst), "in a destructor");
            });
            push(&dispatcher, 'k', bomb);
        }
        settle().await;
        group.cancel();
        settle().await;
        panics.store(true, Ordering::SeqCst);
        let left = if is_drained {
            dispatcher.drain(HOUR).await.left
        } else {
            Vec::new()
        };
        drop(dispatcher);
        panics.store(false, Ordering::SeqCst);
        assert_eq!(
            (left.len(), drops.drops()),
            if is_drained { (3, 0) } else { (0, 3) }
        );
    }
}

/// Of keys that are forgotten in passing too: it is another's call that drops them.
#[tokio::test(start_paused = true)]
async fn forgotten_keys_that_panic_in_their_destructors_harm_nobody() {
    let (group, log) = (Group::new(), Log::new());
    let of_work = log.clone();
    let dispatcher =
        Dispatcher::builder()
            .per_key(Rate::per_second(1000))
            .run(&group, move |n, _| {
                of_work.push(n);
                async {}
            });
    let (calm, bomb) = (Key(0, false), |n| Key(n, true));
    for n in 1..=3 {
        push(&dispatcher, bomb(n), n);
    }
    sleep(ms(100)).await;
    for n in 4..=100 {
        push(&dispatcher, calm.clone(), n);
    }
    assert_eq!(dispatcher.stats().keys, 1, "the others are forgotten");
    group.wait().await.unwrap();
    assert_eq!(log.len(), 100);
}

/// Keys that are all equal, and whose comparison panics while that is asked for.
#[derive(Clone, Default)]
struct Fickle(Arc<AtomicBool>);

impl Fickle {
    fn panics(&self, panics: bool) {
        self.0.store(panics, Ordering::SeqCst);
    }
}

impl Hash for Fickle {
    fn hash<H: Hasher>(&self, _: &mut H) {}
}

impl PartialEq for Fickle {
    fn eq(&self, _: &Fickle) -> bool {
        assert!(!self.0.load(Ordering::SeqCst), "in a comparison");
        true
    }
}

impl Eq for Fickle {}

#[tokio::test(start_paused = true)]
async fn a_panic_of_eq_goes_to_the_caller_and_changes_nothing() {
    let (group, flag, key) = (Group::new(), Flag::new(), Fickle::default());
    let dispatcher = Dispatcher::builder()
        .per_key(Rate::per_second(1))
        .run(&group, |_, _| async {});
    // It does not wait any more, and is remembered.
    push(&dispatcher, key.clone(), flag.guard());
    settle().await;
    key.panics(true);
    let panic = panic_of(|| push(&dispatcher, key.clone(), flag.guard()));
    key.panics(false);
    assert_eq!(panic.message, "in a comparison");
    settle().await;
    assert_eq!(
        (
            flag.drops(),
            dispatcher.stats().queued,
            group.stats().pending
        ),
        (2, 0, 0)
    );
    push(&dispatcher, key, flag.guard());
    group.wait().await.unwrap();
    assert_eq!(flag.drops(), 3);
}

#[tokio::test(start_paused = true)]
async fn an_idle_dispatcher_has_no_job_and_soon_forgets_its_keys() {
    let group = Group::new();
    let (dispatcher, log) = logged(&group, Rate::per_second(100));
    push(&dispatcher, "k", 0);
    sleep(ms(100)).await;
    assert_eq!((log.len(), group.stats().pending), (1, 0));
    for key in 0..10_000 {
        push(&dispatcher, key.to_string().leak(), 0);
        sleep(ms(1)).await;
    }
    assert!(
        dispatcher.stats().keys <= 2 * 12 + 64,
        "{} keys",
        dispatcher.stats().keys
    );
    group.wait().await.unwrap();
}

/// However many others come and go meanwhile.
#[tokio::test(start_paused = true)]
async fn a_key_is_kept_while_it_runs_or_is_delayed() {
    let (group, log, hold) = (Group::new(), Log::new(), Hold::new());
    let (of_work, held) = (log.clone(), hold.clone());
    let rate = Rate::per_second(1000);
    let dispatcher = Dispatcher::builder().per_key(rate).in_flight(1).run(
        &group,
        move |n: u64, context: Context<u64, u64>| {
            of_work.push((*context.key(), n));
            let held = held.clone();
            async move {
                if n == 1 {
                    held.job().await;
                }
            }
        },
    );
    push(&dispatcher, 1, 1);
    dispatcher.not_before(2, Instant::now() + HOUR);
    assert_eq!((dispatcher.stats().keys, dispatcher.stats().queued), (2, 1));
    hold.started().await;
    sleep(ms(10)).await;
    for other in 10..1000 {
        push(&dispatcher, other, 0);
    }
    sleep(ms(10)).await;
    log.take();
    push(&dispatcher, 1, 2);
    push(&dispatcher, 2, 2);
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
async fn keys_that_may_start_at_the_same_instant_start_in_the_order_of_their_work() {
    let (group, log) = (Group::new(), Log::new());
    let of_work = log.clone();
    let rate = Rate::per_second(10);
    let dispatcher = Dispatcher::builder().per_key(rate).overall(rate).run(
        &group,
        move |(), context: Context<char, ()>| {
            of_work.push(*context.key());
            async {}
        },
    );
    for key in ['a', 'b', 'c'] {
        dispatcher.not_before(key, Instant::now() + ms(500));
    }
    for key in ['c', 'a', 'b'] {
        push(&dispatcher, key, ());
    }
    group.wait().await.unwrap();
    let expected = [('c', 500), ('a', 600), ('b', 700)];
    assert_eq!(log.take(), expected.map(|(key, at)| (key, ms(at))));
}

#[test]
fn pushes_beside_wait_run_before_it_ends_or_are_given_back() {
    for _ in 0..200 {
        let (at_wait, at_last, gone) = watched(|| {
            let runtime = multi_thread();
            let (ran, flag) = (Arc::new(AtomicUsize::new(0)), Flag::new());
            let at_wait = runtime.block_on(bounded(async {
                let group = Group::new();
                let of_work = Arc::clone(&ran);
                let rate = Rate::per_second(1_000_000).burst(1000);
                let dispatcher =
                    Dispatcher::builder()
                        .per_key(rate)
                        .run(&group, move |_held, _| {
                            of_work.fetch_add(1, Ordering::SeqCst);
                            async {}
                        });
                let pushers: Vec<_> = (0..3)
                    .map(|key| {
                        let (dispatcher, flag) = (dispatcher.clone(), flag.clone());
                        std::thread::spawn(move || {
                            let accepted = |_| dispatcher.try_push(key, flag.guard()).is_ok();
                            (0..20).map(accepted).filter(|&accepted| accepted).count()
                        })
                    })
                    .collect();
                group.wait().await.unwrap();
                let at_wait = ran.load(Ordering::SeqCst);
                let accepted = pushers.into_iter().map(|pusher| pusher.join().unwrap());
                assert_eq!(accepted.sum::<usize>(), at_wait, "accepted, and run");
                at_wait
            }));
            drop(runtime);
            (at_wait, ran.load(Ordering::SeqCst), flag.drops())
        });
        assert_eq!((at_last, gone), (at_wait, 60));
    }
}

#[test]
fn misuse_panics_at_its_line() {
    let builder = Dispatcher::<(), ()>::builder;
    let (second, rate) = (Duration::from_secs(1), Rate::per_second(1));
    let says = [
        ("in_flight must be", misuse(|| builder().in_flight(0))),
        ("max_running must be", misuse(|| builder().max_running(0))),
        ("bound must be", misuse(|| builder().bound(0))),
        ("slack must be", misuse(|| builder().slack(ms(11)))),
        ("count of a rate must be", misuse(|| Rate::new(0, second))),
        ("count of a rate must be", misuse(|| Rate::per_second(0))),
        (
            "period of a rate must",
            misuse(|| Rate::new(1, Duration::ZERO)),
        ),
        ("burst must be", misuse(|| rate.burst(0))),
    ];
    for (part, message) in says {
        assert!(message.starts_with("rate-limited-retries: "), "{message}");
        assert!(message.contains(part), "{part}: {message}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_key_that_panics_leaves_no_job_behind_and_its_work_may_call_back() {
    let (group, key) = (Group::new(), Fickle::default());
    let dispatcher = Dispatcher::builder()
        .per_key(Rate::per_second(1))
        .run(&group, |work, _| async { drop(work) });
    dispatcher.not_before(key.clone(), Instant::now() + HOUR);
    key.panics(true);
    let calls = dispatcher.clone();
    let calls_back: Box<dyn FnMut() + Send> = Box::new(move || assert_eq!(calls.stats().queued, 0));
    let work = OnDrop(calls_back);
    watched(move || _ = panic_of(|| push(&dispatcher, key, work)));
    // By another thread's clock, which is not the paused one, the dispatcher's job is due a little later.
    bounded(group.wait()).await.unwrap();
    assert_eq!(group.stats().pending, 0);
}

/// The key of a push is dropped if it is known, when the work is queued already.
#[tokio::test(start_paused = true)]
async fn a_key_that_panics_in_its_destructor_neither_fails_its_push_nor_frees_a_permit() {
    let group = Group::new();
    let builder = Dispatcher::builder().per_key(Rate::new(1, HOUR)).bound(2);
    let dispatcher = builder.run(&group, |_: u64, _| async {});
    push(&dispatcher, Key(0, true), 0);
    settle().await;
    let pushed = [1, 2].map(|n| dispatcher.try_push(Key(0, true), n));
    assert_eq!(pushed, [Ok(()); 2]);
    dispatcher.not_before(Key(0, true), Instant::now() + HOUR);
    let full = dispatcher.try_push(Key(1, false), 3);
    assert_eq!(full, Err(TryPushError::Full(3)));
    sleep(HOUR + ms(1)).await;
    // One has started, so there is one permit.
    let pushed = [4, 5].map(|n| dispatcher.try_push(Key(1, false), n));
    assert_eq!(pushed, [Ok(()), Err(TryPushError::Full(5))]);
}

/// A push to a group that is past its deadline, before the group's driver has seen the time pass.
#[test]
fn a_waker_of_the_group_may_call_the_dispatcher_back() {
    struct CallsBack(Dispatcher<u8, ()>, AtomicUsize);
    impl Wake for CallsBack {
        fn wake(self: Arc<Self>) {
            _ = self.0.stats().queued + self.0.stats().keys;
            self.1.fetch_add(1, Ordering::SeqCst);
        }
    }
    watched(|| {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        let runtime = builder.enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let group = Group::builder().timeout(Duration::ZERO).build();
            let dispatcher = Dispatcher::builder()
                .per_key(Rate::per_second(1))
                .run(&group, |(), _| async {});
            let calls = Arc::new(CallsBack(dispatcher.clone(), AtomicUsize::new(0)));
            let waker = Arc::clone(&calls).into();
            let mut cancelled = pin!(group.token().cancelled_owned());
            let polled = cancelled
                .as_mut()
                .poll(&mut task::Context::from_waker(&waker));
            assert!(polled.is_pending());
            push(&dispatcher, 1, ());
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

#[tokio::test(start_paused = true)]
async fn work_that_pushes_for_its_own_busy_key_leaves_no_job_behind() {
    type Set = fn(Builder<&'static str, u64>) -> Builder<&'static str, u64>;
    let limits: [Set; 2] = [
        |builder| builder.in_flight(1),
        |builder| builder.max_running(1),
    ];
    for (limit, awaits) in limits
        .into_iter()
        .flat_map(|limit| [(limit, false), (limit, true)])
    {
        let group = Group::new();
        let dispatcher =
            limit(Dispatcher::builder()).run(&group, move |n: u64, context| async move {
                if n > 0 {
                    context.push("k", n - 1).unwrap();
                } else if awaits {
                    sleep(ms(10)).await;
                }
            });
        // More than one job starts in one run.
        dispatcher.push("k", 50).await.unwrap();
        bounded(group.wait()).await.unwrap();
        assert_eq!(dispatcher.stats().started, 51);
    }
}

/// A dispatcher that is dropped has keys without work, and keys with work that never started.
#[tokio::test(start_paused = true)]
async fn keys_of_a_dropped_dispatcher_that_panic_in_their_destructors_harm_nobody() {
    let (group, flag) = (Group::new(), Flag::new());
    let rate = Rate::new(1, HOUR);
    let dispatcher = Dispatcher::builder()
        .per_key(rate)
        .run(&group, |_, _| async {});
    for n in 0..3 {
        push(&dispatcher, Key(n, true), flag.guard());
    }
    settle().await;
    group.cancel();
    settle().await;
    assert_eq!(dispatcher.stats().keys, 3);
    drop(dispatcher);
    assert_eq!(flag.drops(), 3);
}

/// What the last cancel of a keyed group leaves unused is dropped by a later call of its group, but not by one that the
/// dispatcher makes under its lock.
#[test]
fn the_handler_of_a_keyed_group_is_not_dropped_under_the_dispatchers_lock() {
    watched(|| {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        let runtime = builder.enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let (group, flag) = (Group::new(), Flag::new());
            let dispatcher = Dispatcher::builder().run(&group, |(), _| async {});
            dispatcher.not_before('k', Instant::now() + HOUR);
            push(&dispatcher, 'k', ());
            let (calls, dropped) = (dispatcher.clone(), flag.clone());
            let calls_back = OnDrop(move || {
                assert_eq!(calls.stats().running, 0);
                drop(dropped.guard());
            });
            let of_handler = dispatcher.clone();
            // Twenty entries that are due run in one batch. The last but one removes the one that is not due.
            let handler = move |context: KeyedContext<u64, ()>, key, ()| {
                let (_held, dispatcher) = (&calls_back, of_handler.clone());
                async move {
                    if key == 18 {
                        assert!(context.remove(&20).is_some());
                    }
                    drop(context);
                    if key == 19 {
                        dispatcher.clear_not_before(&'k');
                    }
                }
            };
            let keyed = KeyedGroup::<u64, ()>::builder().on_with(&group, handler);
            for key in 0..=20 {
                let delay = if key < 20 { Duration::ZERO } else { HOUR };
                let _ = keyed.insert_after(key, (), delay, OnDuplicate::Replace);
            }
            drop(keyed);
            sleep(ms(1)).await;
            assert_eq!(flag.drops(), 1);
            group.wait().await.unwrap();
        });
    });
}
