//! Attempts again and again: by which delays, until when, and what comes back.

use std::cell::Cell;
use std::mem::ManuallyDrop;
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Wake, Waker};
use std::time::{Duration, SystemTime};

use crate::common::{Flag, HOUR, Hold, Key, Log, Random, context_of, ms, panic_of, settle};
use rate_limited_retries::backoff::{Backoff, Jitter};
use rate_limited_retries::retry::{
    Budget, Chain, Decision, GaveUp, Outcome, Reason, Retry, RetryHandle, retry_after,
};
use schedgroup::{Group, JobState, WaitError};
use tokio::time::{Instant, advance, sleep};

const SECOND: Duration = Duration::from_secs(1);

/// Runs attempts that answer like `script`, one after the other, and log when they start.
fn scripted(
    group: &Group,
    policy: &Retry,
    script: impl IntoIterator<Item = Outcome<u32, u32>, IntoIter: Send + 'static>,
) -> (RetryHandle<u32, u32>, Log<u32>) {
    let (log, mut script) = (Log::new(), script.into_iter());
    let of_attempts = log.clone();
    let handle = policy.run(&group, move |attempt| {
        of_attempts.push(attempt.number());
        let outcome = script.next().expect("no attempt beyond the script");
        async move { outcome }
    });
    (handle, log)
}

fn failing() -> impl Iterator<Item = Outcome<u32, u32>> + Send {
    (1..).map(Outcome::Retry)
}

/// The reason, the number of attempts and the last error.
fn told<T: std::fmt::Debug, E: Copy>(ended: Result<T, GaveUp<E>>) -> (Reason, u32, Option<E>) {
    match ended {
        Ok(value) => panic!("it succeeded: {value:?}"),
        Err(gave_up) => (
            gave_up.reason(),
            gave_up.attempts(),
            // Lent and given: none if either has none.
            gave_up.last_error().copied().and(gave_up.into_last_error()),
        ),
    }
}

// When.

#[tokio::test(start_paused = true)]
async fn attempts_are_made_after_the_delays_until_one_succeeds() {
    let group = Group::new();
    let policy = Retry::new(|| [100, 200, 400].map(ms));
    let script = [Outcome::Retry(1), Outcome::Retry(2), Outcome::Done(3)];
    let (handle, log) = scripted(&group, &policy, script);
    assert_eq!(handle.await, Ok(3));
    let expected = [(1, ms(0)), (2, ms(100)), (3, ms(300))];
    assert_eq!(log.take(), expected);
    group.wait().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_delay_counts_from_the_end_of_an_attempt() {
    let (group, log) = (Group::new(), Log::new());
    let of_attempts = log.clone();
    let policy = Retry::new(|| [ms(10); 2]);
    let handle = policy.run(&group, move |attempt| {
        of_attempts.push(attempt.number());
        async move {
            sleep(ms(50)).await;
            Outcome::<(), _>::Retry(attempt.number())
        }
    });
    assert_eq!(told(handle.await), (Reason::Exhausted, 3, Some(3)));
    assert_eq!(log.take(), [(1, ms(0)), (2, ms(60)), (3, ms(120))]);
}

#[tokio::test(start_paused = true)]
async fn a_wish_is_kept_exactly_and_uses_up_a_delay() {
    let group = Group::new();
    let policy = Retry::new(|| [ms(100), ms(10_000), ms(300)]);
    let script = [
        Outcome::Retry(1),
        Outcome::RetryAfter(2, ms(5)),
        Outcome::RetryAfter(3, ms(700)),
        Outcome::Retry(4),
    ];
    let (handle, log) = scripted(&group, &policy, script);
    assert_eq!(told(handle.await), (Reason::Exhausted, 4, Some(4)));
    let expected = [(1, ms(0)), (2, ms(100)), (3, ms(105)), (4, ms(805))];
    assert_eq!(log.take(), expected);
}

// Until when.

#[tokio::test(start_paused = true)]
async fn every_end_tells_the_reason_the_attempts_and_the_last_error() {
    let forever = || std::iter::repeat(ms(100));
    let start = Instant::now();
    let until = Reason::TooLong {
        until: start + 3 * SECOND,
    };
    let table: [(Retry, Vec<Outcome<u32, u32>>, _); 8] = [
        (
            Retry::new(|| []),
            failing().take(1).collect(),
            (Reason::Exhausted, 1, Some(1)),
        ),
        (
            Retry::new(forever).max_attempts(4),
            failing().take(4).collect(),
            (Reason::Exhausted, 4, Some(4)),
        ),
        (
            Retry::new(forever),
            vec![Outcome::Retry(1), Outcome::GiveUp(2)],
            (Reason::GiveUp, 2, Some(2)),
        ),
        (
            // At 0, 100, 200; the next one would be at 300.
            Retry::new(forever).timeout(ms(300)),
            failing().take(3).collect(),
            (Reason::TimedOut, 3, Some(3)),
        ),
        (
            Retry::new(forever).timeout(ms(301)),
            failing().take(4).collect(),
            (Reason::TimedOut, 4, Some(4)),
        ),
        (
            Retry::new(forever).max_delay(SECOND),
            vec![
                Outcome::RetryAfter(1, SECOND),
                Outcome::RetryAfter(2, 2 * SECOND),
            ],
            (until, 2, Some(2)),
        ),
        (
            Retry::new(forever).timeout(Duration::ZERO),
            vec![],
            (Reason::TimedOut, 0, None),
        ),
        (
            Retry::new(forever).budget(&Budget::percent(300)),
            failing().take(4).collect(),
            (Reason::Budget, 4, Some(4)),
        ),
    ];
    for (policy, script, mut expected) in table {
        let group = Group::new();
        let begun = Instant::now();
        let (handle, _) = scripted(&group, &policy, script);
        let ended = told(handle.await);
        if let Reason::TooLong { until } = &mut expected.0 {
            *until += begun - start;
        }
        assert_eq!(ended, expected, "{policy:?}");
        group.wait().await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_chain_does_not_wait_for_an_attempt_that_comes_too_late() {
    let (group, start) = (Group::new(), Instant::now());
    let policy = Retry::new(|| [SECOND; 3]).timeout(2 * SECOND);
    let (handle, _) = scripted(&group, &policy, failing());
    assert_eq!(told(handle.await), (Reason::TimedOut, 2, Some(2)));
    assert_eq!(start.elapsed(), SECOND);
}

#[tokio::test(start_paused = true)]
async fn long_delays_are_cut() {
    let group = Group::new();
    let policy = Retry::new(|| [HOUR, Duration::MAX]).max_delay(SECOND);
    let (handle, log) = scripted(&group, &policy, failing());
    assert_eq!(told(handle.await), (Reason::Exhausted, 3, Some(3)));
    assert_eq!(log.take(), [(1, ms(0)), (2, SECOND), (3, 2 * SECOND)]);
}

#[tokio::test(start_paused = true)]
async fn a_wish_for_ever_is_far_away_and_can_be_cancelled() {
    let group = Group::new();
    let policy = Retry::new(|| [ms(1); 3]);
    let (handle, _) = scripted(&group, &policy, [Outcome::RetryAfter(1, Duration::MAX)]);
    sleep(1000 * HOUR).await;
    assert_eq!(handle.job().state(), JobState::Pending);
    assert!(handle.job().cancel());
    assert_eq!(told(handle.await), (Reason::Stopped, 1, Some(1)));
    group.wait().await.unwrap();
}

/// What a policy means, written down once more, without a group.
#[derive(Debug)]
struct Plain {
    delays: Vec<u64>,
    max_attempts: u64,
    max_delay: u64,
    timeout: u64,
}

impl Plain {
    /// When attempts start that take so long and answer so: 0 succeeds, 1 fails, 2 fails for good, and
    /// more wishes to be asked again in as many milliseconds.
    fn starts(&self, script: &[(u64, u64)]) -> (Vec<u64>, Option<Reason>) {
        let (mut now, mut starts, mut delays) = (0, vec![], self.delays.iter());
        if self.timeout == 0 {
            return (starts, Some(Reason::TimedOut));
        }
        for &(length, answer) in script {
            starts.push(now);
            now += length;
            let attempts = starts.len() as u64;
            let next = match answer {
                0 => return (starts, None),
                2 => return (starts, Some(Reason::GiveUp)),
                _ if attempts == self.max_attempts => return (starts, Some(Reason::Exhausted)),
                _ => delays.next(),
            };
            let Some(delay) = next else {
                return (starts, Some(Reason::Exhausted));
            };
            if answer > self.max_delay {
                let until = Instant::now() + ms(answer);
                return (starts, Some(Reason::TooLong { until }));
            }
            now += if answer > 1 {
                answer
            } else {
                *delay.min(&self.max_delay)
            };
            if now >= self.timeout {
                return (starts, Some(Reason::TimedOut));
            }
        }
        panic!("the script is too short");
    }
}

#[tokio::test(start_paused = true)]
async fn random_chains_agree_with_a_plain_model() {
    for seed in 0..500 {
        let mut random = Random(seed);
        let plain = Plain {
            delays: (0..random.below(9)).map(|_| random.below(300)).collect(),
            max_attempts: 1 + random.below(12),
            max_delay: 50 + random.below(300),
            timeout: random.below(4_000),
        };
        let answer = |n| match n {
            0 => 0,
            1 => 2,
            2..=4 => 3 + n * 90,
            _ => 1,
        };
        let script: Vec<_> = (0..12)
            .map(|_| (random.below(100), answer(random.below(14))))
            .collect();
        let delays = plain.delays.clone();
        let policy = Retry::new(move || delays.clone().into_iter().map(ms))
            .max_attempts(plain.max_attempts as u32)
            .max_delay(ms(plain.max_delay))
            .timeout(ms(plain.timeout));
        let (group, log) = (Group::builder().max_running(1).build(), Log::new());
        let (of_attempts, steps) = (log.clone(), script.clone());
        let handle = policy.run(&group, move |attempt| {
            of_attempts.push(());
            let (length, answer) = steps[attempt.number() as usize - 1];
            async move {
                sleep(ms(length)).await;
                match answer {
                    0 => Outcome::Done(attempt.number()),
                    1 => Outcome::Retry(attempt.number()),
                    2 => Outcome::GiveUp(attempt.number()),
                    after => Outcome::RetryAfter(attempt.number(), ms(after)),
                }
            }
        });
        let ended = handle.await;
        let (starts, reason) = plain.starts(&script);
        let made = starts.len() as u32;
        let starts: Vec<_> = starts.into_iter().map(|at| ((), ms(at))).collect();
        assert_eq!(log.take(), starts, "seed {seed}, {plain:?}, {script:?}");
        match reason {
            None => assert_eq!(ended, Ok(made), "seed {seed}"),
            Some(reason) => {
                let last = (made > 0).then_some(made);
                assert_eq!(told(ended), (reason, made, last), "seed {seed}, {plain:?}");
            }
        }
    }
}

// In a group.

#[tokio::test(start_paused = true)]
async fn a_chain_holds_no_place_and_no_task_while_it_waits() {
    let (group, log) = (Group::builder().max_running(1).build(), Log::new());
    let policy = Retry::new(|| [SECOND; 3]);
    let (handle, _) = scripted(&group, &policy, [Outcome::Retry(1), Outcome::Done(2)]);
    settle().await;
    let alive = tokio::runtime::Handle::current()
        .metrics()
        .num_alive_tasks();
    // The driver, and the worker that has parked.
    assert!(alive <= 2, "{alive} tasks");
    group.delay(ms(10), log.job("between"));
    assert_eq!(handle.await, Ok(2));
    assert_eq!(log.take(), [("between", ms(10))]);
}

#[tokio::test(start_paused = true)]
async fn wait_covers_the_whole_chain() {
    let (group, start) = (Group::new(), Instant::now());
    let policy = Retry::new(|| [SECOND; 5]);
    let (handle, log) = scripted(&group, &policy, failing());
    group.wait().await.unwrap();
    assert_eq!((start.elapsed(), log.len()), (5 * SECOND, 6));
    assert_eq!(told(handle.await), (Reason::Exhausted, 6, Some(6)));
}

#[tokio::test(start_paused = true)]
async fn a_group_that_ends_tells_the_last_error() {
    let policy = Retry::new(|| [SECOND; 5]);
    let ends: [fn(Group); 3] = [
        |group| group.cancel(),
        drop,
        |group| drop(group.shutdown(Duration::ZERO)),
    ];
    for end in ends {
        let group = Group::new();
        let (handle, _) = scripted(&group, &policy, failing());
        sleep(ms(2_500)).await;
        end(group);
        assert_eq!(told(handle.await), (Reason::Stopped, 3, Some(3)));
    }
    let group = Group::new();
    group.cancel();
    let (handle, log) = scripted(&group, &policy, failing());
    assert_eq!(told(handle.await), (Reason::Stopped, 0, None));
    assert_eq!(log.len(), 0);
}

#[tokio::test(start_paused = true)]
async fn an_attempt_under_way_can_be_aborted() {
    let (group, hold) = (Group::new(), Hold::new());
    let held = hold.clone();
    let handle = Retry::new(|| [SECOND]).run(&group, move |_| {
        let held = held.job();
        async move {
            held.await;
            Outcome::<(), ()>::Done(())
        }
    });
    hold.started().await;
    handle.job().abort();
    assert_eq!(told(handle.await), (Reason::Stopped, 1, None));
    group.wait().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_panic_ends_the_chain_and_is_the_groups_to_tell() {
    let group = Group::new();
    let handle: RetryHandle<(), u32> =
        Retry::new(|| [SECOND; 5]).run(&group, |attempt| async move {
            assert!(attempt.number() < 2, "the second one");
            Outcome::Retry(attempt.number())
        });
    let ended = group.wait().await;
    assert!(matches!(ended, Err(WaitError::Panicked(_))), "{ended:?}");
    assert_eq!(handle.job().state(), JobState::Panicked);
    assert_eq!(told(handle.await), (Reason::Stopped, 2, Some(1)));
}

#[tokio::test(start_paused = true)]
async fn a_move_while_the_last_attempt_runs_makes_no_further_one() {
    let (group, hold, log) = (Group::new(), Hold::new(), Log::new());
    let (held, of_attempts) = (hold.clone(), log.clone());
    let handle = Retry::new(|| [SECOND]).run(&group, move |attempt| {
        of_attempts.push(attempt.number());
        let held = held.job();
        async move {
            held.await;
            Outcome::<u32, ()>::Done(attempt.number())
        }
    });
    hold.started().await;
    assert!(handle.job().reset_after(Duration::ZERO));
    hold.release();
    assert_eq!(handle.await, Ok(1));
    group.wait().await.unwrap();
    assert_eq!(log.labels(), [1]);
}

#[tokio::test(start_paused = true)]
async fn an_attempt_knows_its_deadline_and_its_group() {
    let group = Group::new();
    let start = Instant::now();
    let policy = Retry::new(|| [SECOND]).timeout(HOUR);
    let handle = policy.run(&group, |attempt| async move {
        attempt.context().delay(Duration::ZERO, async {});
        Outcome::<_, ()>::Done(attempt.deadline())
    });
    assert_eq!(handle.await, Ok(Some(start + HOUR)));
    group.wait().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_chain_made_from_inside_runs_while_the_group_drains() {
    let (group, hold) = (Group::new(), Hold::new());
    let inside = context_of(&group, &hold).await.handle();
    let wait = group.wait();
    let policy = Retry::new(|| [SECOND; 2]);
    let handle = policy.run(&inside, |attempt| async move {
        match attempt.number() {
            3 => Outcome::Done(3),
            number => Outcome::Retry(number),
        }
    });
    hold.release();
    wait.await.unwrap();
    assert_eq!(handle.await, Ok(3));
}

#[tokio::test(start_paused = true)]
async fn what_a_chain_held_is_dropped_at_its_end() {
    let (group, flag) = (Group::new(), Flag::new());
    let guard = flag.guard();
    let handle = Retry::new(|| [SECOND]).run(&group, move |_| {
        let _held = &guard;
        async { Outcome::<(), ()>::Retry(()) }
    });
    drop(handle);
    assert_eq!(flag.drops(), 0);
    group.wait().await.unwrap();
    assert_eq!(flag.drops(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_handle_loses_nothing_when_its_await_is_dropped_and_gives_its_value_once() {
    let group = Group::new();
    let policy = Retry::new(|| [SECOND]);
    let (mut handle, _) = scripted(&group, &policy, [Outcome::Retry(1), Outcome::Done(2)]);
    assert!(tokio::time::timeout(ms(10), &mut handle).await.is_err());
    assert_eq!((&mut handle).await, Ok(2));
    let again = tokio::spawn(handle).await.unwrap_err();
    assert!(again.is_panic(), "{again:?}");
}

#[tokio::test(start_paused = true)]
async fn each_chain_has_delays_of_its_own() {
    let group = Group::new();
    let backoff = Backoff::exponential(SECOND, HOUR).jitter(Jitter::Full);
    let policy = Retry::new(move || backoff).max_attempts(2);
    let mut ends = Vec::new();
    for _ in 0..20 {
        let (handle, log) = scripted(&group, &policy, failing());
        drop(handle);
        ends.push(log);
    }
    group.wait().await.unwrap();
    let mut seconds: Vec<_> = ends.iter().map(|log| log.take()[1].1).collect();
    assert!(seconds.iter().all(|at| *at <= SECOND), "{seconds:?}");
    seconds.sort_unstable();
    seconds.dedup();
    assert!(seconds.len() > 10, "spread over {seconds:?}");
}

// Limits that chains share.

#[tokio::test(start_paused = true)]
async fn retries_stay_within_the_budget() {
    let group = Group::new();
    let policy = Retry::new(|| std::iter::repeat(ms(100)));
    let policy = policy.budget(&Budget::percent(20).floor_per_second(1));
    let (attempts, denied) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicUsize::new(0)));
    for _ in 0..100 {
        let attempts = Arc::clone(&attempts);
        let handle = policy.run(&group, move |_| {
            attempts.fetch_add(1, Ordering::SeqCst);
            async { Outcome::<(), ()>::Retry(()) }
        });
        let denied = Arc::clone(&denied);
        tokio::spawn(async move {
            let is_denied = told(handle.await).0 == Reason::Budget;
            denied.fetch_add(usize::from(is_denied), Ordering::SeqCst);
        });
    }
    group.wait().await.unwrap();
    settle().await;
    // 20 of 100, and 1 for each of 10 seconds.
    assert_eq!(attempts.load(Ordering::SeqCst), 100 + 20 + 10);
    assert_eq!(denied.load(Ordering::SeqCst), 100);
}

#[tokio::test(start_paused = true)]
async fn credits_live_ten_seconds() {
    let policy = Retry::new(|| std::iter::repeat(ms(1)));
    let policy = policy.budget(&Budget::percent(100));
    let fails = |chain: &mut Chain<u32>| {
        matches!(chain.end(Outcome::<(), _>::Retry(1)), Decision::GaveUp(_))
    };
    let mut chains: Vec<Chain<u32>> = (0..3).map(|_| policy.chain(())).collect();
    for chain in &mut chains {
        chain.begin().unwrap();
    }
    assert!(!fails(&mut chains[0]));
    advance(ms(9_900)).await;
    assert!(!fails(&mut chains[1]));
    advance(ms(200)).await;
    assert!(fails(&mut chains[2]), "its credit is gone");
}

#[tokio::test(start_paused = true)]
async fn a_circuit_opens_for_its_key_alone_and_lets_one_try() {
    let group = Group::new();
    let policy = Retry::new(|| [ms(100); 9]).circuit(3, 10 * SECOND);
    let (start, broken) = (Instant::now(), Arc::new(Mutex::new(true)));
    let run = |key: &'static str| {
        let broken = Arc::clone(&broken);
        policy.run_for(&group, key, move |attempt| {
            let fails = key == "broken" && *broken.lock().unwrap();
            async move {
                sleep(ms(50)).await;
                if fails {
                    Outcome::Retry(attempt.number())
                } else {
                    Outcome::Done(attempt.number())
                }
            }
        })
    };
    let open = |until| Reason::CircuitOpen { until };
    // At 0, 150 and 300, each 50 long; the pause begins at 350.
    let opened = start + ms(350) + 10 * SECOND;
    assert_eq!(told(run("broken").await), (open(opened), 3, Some(3)));
    assert_eq!(told(run("broken").await), (open(opened), 0, None));
    assert_eq!(run("well").await, Ok(1));

    sleep(10 * SECOND).await;
    let (probe, beside) = (run("broken"), run("broken"));
    let told_beside = told(beside.await);
    assert!(
        matches!(told_beside, (Reason::CircuitOpen { .. }, 0, None)),
        "{told_beside:?}"
    );
    let failed = told(probe.await);
    assert!(
        matches!(failed, (Reason::CircuitOpen { .. }, 1, Some(1))),
        "{failed:?}"
    );

    *broken.lock().unwrap() = false;
    sleep(10 * SECOND).await;
    assert_eq!(run("broken").await, Ok(1));
    let (one, two) = (run("broken"), run("broken"));
    assert_eq!((one.await, two.await), (Ok(1), Ok(1)));
}

#[tokio::test(start_paused = true)]
async fn a_chain_that_runs_into_an_open_circuit_takes_no_credit_for_it() {
    let (group, budget) = (Group::new(), Budget::percent(50));
    let policy = Retry::new(|| [SECOND; 3])
        .budget(&budget)
        .circuit(1, 10 * SECOND);
    let start = Instant::now();
    let run = |key, error| {
        let fails = move |_| async move { Outcome::<(), _>::Retry(error) };
        policy.run_for(&group, key, fails)
    };
    let until = start + 10 * SECOND;
    for error in [1, 2] {
        let (reason, attempts, last) = told(run(error, error).await);
        assert_eq!(reason, Reason::CircuitOpen { until });
        assert_eq!((attempts, last), (1, Some(error)));
    }
    assert_eq!(start.elapsed(), Duration::ZERO, "they do not wait for it");

    let patient = Retry::new(|| [SECOND; 3]).budget(&budget);
    let script = [Outcome::Retry(1), Outcome::Done(2)];
    let (handle, _) = scripted(&group, &patient, script);
    assert_eq!(handle.await, Ok(2), "the credit is there");
}

/// Circuits that show nothing are forgotten, and those that are open or have failures are not.
#[tokio::test(start_paused = true)]
async fn a_circuit_stays_open_though_many_other_keys_fail() {
    let policy = Retry::new(|| [Duration::ZERO; 9]).circuit(2, 10 * SECOND);
    let fail = |key: u32| {
        let mut chain: Chain<&str, u32> = policy.chain(key);
        let begun = chain.begin();
        if begun.is_ok() {
            chain.end::<()>(Outcome::Retry("no"));
        }
        begun
    };
    for key in [0, 0, 1] {
        assert!(fail(key).is_ok());
    }
    for other in 10..1000 {
        assert!(fail(other).is_ok());
    }
    assert!(fail(0).is_err(), "it is open");
    assert!(fail(1).is_ok() && fail(1).is_err(), "that was its second");
}

#[tokio::test(start_paused = true)]
async fn an_aborted_probe_leaves_the_place_to_another() {
    let group = Group::new();
    let policy = Retry::new(|| []).circuit(1, SECOND);
    let mut chain: Chain<u32, _> = policy.chain('k');
    chain.begin().unwrap();
    assert!(matches!(
        chain.end(Outcome::<(), _>::Retry(1)),
        Decision::GaveUp(_)
    ));
    sleep(SECOND).await;
    let hangs = policy.run_for(&group, 'k', |_| std::future::pending::<Outcome<(), u32>>());
    settle().await;
    let refused = policy.chain::<u32>('k').begin().unwrap_err();
    assert!(matches!(refused.reason(), Reason::CircuitOpen { .. }));
    hangs.job().abort();
    assert_eq!(told(hangs.await), (Reason::Stopped, 1, None));
    assert_eq!(policy.chain::<u32>('k').begin(), Ok(()));
}

/// Attempts that began before the circuit opened may end while another sees how it goes.
#[tokio::test(start_paused = true)]
async fn only_the_attempt_that_sees_how_it_goes_leaves_its_place() {
    let begun = |policy: &Retry<char>| {
        let mut chain: Chain<u32, _> = policy.chain('k');
        chain.begin().map(|()| chain)
    };
    let fail: fn(Chain<u32, char>) = |mut chain| _ = chain.end::<()>(Outcome::Retry(1));
    for ends in [drop, fail] {
        let policy = Retry::new(|| []).circuit(1, SECOND);
        let [early, late] = [(); 2].map(|()| begun(&policy).unwrap());
        fail(early);
        sleep(SECOND).await;
        let probe = begun(&policy).unwrap();
        ends(late);
        sleep(2 * SECOND).await;
        assert!(begun(&policy).is_err(), "one at a time");
        fail(probe);
        assert!(begun(&policy).is_err(), "another pause");
        sleep(SECOND).await;
        assert!(begun(&policy).is_ok());
    }
}

#[tokio::test(start_paused = true)]
async fn a_probe_of_a_former_time_frees_nothing() {
    let policy = Retry::new(|| []).circuit(1, SECOND);
    let begun = || {
        let mut chain: Chain<u32, _> = policy.chain('k');
        chain.begin().map(|()| chain)
    };
    let [first, mut second] = [(); 2].map(|()| begun().unwrap());
    for mut failing in [first, begun().unwrap()] {
        _ = failing.end::<()>(Outcome::Retry(1));
    }
    sleep(SECOND).await;
    let former = begun().unwrap();
    assert_eq!(second.end(Outcome::Done(())), Decision::Done(()));
    _ = begun().unwrap().end::<()>(Outcome::Retry(1));
    sleep(SECOND).await;
    let _probe = begun().unwrap();
    drop(former);
    assert!(begun().is_err(), "one at a time");
}

/// The waker runs in the middle of what the group does with the aborted job.
#[tokio::test(start_paused = true)]
async fn who_learns_that_a_probe_was_stopped_may_try() {
    struct Tries(Retry<char>, Log<bool>);

    impl Wake for Tries {
        fn wake(self: Arc<Self>) {
            self.1.push(self.0.chain::<u32>('k').begin().is_ok());
        }
    }

    let (group, log) = (Group::new(), Log::new());
    let policy = Retry::new(|| []).circuit(1, SECOND);
    let mut chain: Chain<u32, _> = policy.chain('k');
    chain.begin().unwrap();
    _ = chain.end::<()>(Outcome::Retry(1));
    sleep(SECOND).await;
    let mut hangs = policy.run_for(&group, 'k', |_| std::future::pending::<Outcome<(), u32>>());
    settle().await;
    let waker = Waker::from(Arc::new(Tries(policy, log.clone())));
    let polled = Pin::new(&mut hangs).poll(&mut Context::from_waker(&waker));
    assert!(polled.is_pending());
    hangs.job().abort();
    settle().await;
    assert_eq!(log.labels(), [true]);
}

#[tokio::test(start_paused = true)]
async fn forgotten_keys_that_panic_in_their_destructors_harm_nobody() {
    let policy = Retry::new(|| []).circuit(1, SECOND);
    let fail = |key| {
        let mut chain = ManuallyDrop::new(policy.chain::<u32>(key));
        chain.begin().unwrap();
        _ = chain.end::<()>(Outcome::Retry(1));
    };
    (1..=3).for_each(|n| fail(Key(n, true)));
    sleep(3 * SECOND).await;
    // The calls among which the others are forgotten.
    (4..=100).for_each(|n| fail(Key(n, false)));
}

/// A key that cannot be cloned at times.
#[derive(PartialEq, Eq, Hash)]
struct Fickle;

thread_local! {
    static PANICS: Cell<bool> = const { Cell::new(false) };
}

impl Clone for Fickle {
    fn clone(&self) -> Fickle {
        assert!(!PANICS.get(), "in a clone");
        Fickle
    }
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_ends_in_a_panic_of_its_key_leaves_the_place_to_another() {
    let policy = Retry::new(|| []).circuit(1, SECOND);
    let mut chain: Chain<u32, _> = policy.chain(Fickle);
    chain.begin().unwrap();
    _ = chain.end::<()>(Outcome::Retry(1));
    sleep(SECOND).await;
    let mut probe: Chain<u32, _> = policy.chain(Fickle);
    probe.begin().unwrap();
    PANICS.set(true);
    panic_of(|| probe.end::<()>(Outcome::Retry(1)));
    PANICS.set(false);
    drop(probe);
    assert_eq!(policy.chain::<u32>(Fickle).begin(), Ok(()));
}

#[tokio::test(start_paused = true)]
async fn failures_further_apart_than_the_pause_are_not_in_a_row() {
    let policy = Retry::new(|| []).circuit(2, SECOND);
    let fail = || {
        let mut chain: Chain<&str, _> = policy.chain('k');
        chain
            .begin()
            .map(|()| chain.end::<()>(Outcome::Retry("no")))
    };
    for _ in 0..5 {
        assert!(fail().is_ok());
        advance(SECOND + ms(1)).await;
    }
    assert!(fail().is_ok());
    assert!(fail().is_ok(), "the one before was not the second in a row");
    assert!(fail().is_err(), "but this one was");
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_begins_beside_another_takes_its_place() {
    let policy = Retry::new(|| []).circuit(1, SECOND);
    let mut chain: Chain<u32, _> = policy.chain('k');
    chain.begin().unwrap();
    chain.end(Outcome::<(), _>::Retry(1));
    sleep(SECOND).await;
    let mut probe: Chain<u32, _> = policy.chain('k');
    assert_eq!((probe.begin(), probe.begin()), (Ok(()), Ok(())));
    assert_eq!(probe.attempts(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_failure_for_good_was_an_answer() {
    let policy = Retry::new(|| []).circuit(2, SECOND);
    for _ in 0..5 {
        let mut chain: Chain<u32, _> = policy.chain('k');
        chain.begin().unwrap();
        let ended = chain.end(Outcome::<(), _>::GiveUp(1));
        assert!(matches!(ended, Decision::GaveUp(_)), "{ended:?}");
    }
}

/// One credit, and one key whose second failure in a row is one too many.
#[tokio::test(start_paused = true)]
async fn clones_of_a_policy_share_its_budget_and_its_circuits() {
    let policy = Retry::new(|| [SECOND; 9]).budget(&Budget::percent(50));
    let fails = |policy: &Retry| {
        let mut chain: Chain<u32> = policy.chain(());
        chain.begin().unwrap();
        matches!(chain.end(Outcome::<(), _>::Retry(1)), Decision::GaveUp(_))
    };
    let clone = policy.clone();
    let denied = [&policy, &clone, &clone, &policy].map(fails);
    assert_eq!(
        denied,
        [true, false, true, false],
        "one credit for two attempts"
    );

    let policy = Retry::new(|| [SECOND; 9]).circuit(2, HOUR);
    for policy in [&policy, &policy.clone()] {
        let mut chain: Chain<u32, char> = policy.chain('k');
        chain.begin().unwrap();
        chain.end(Outcome::<(), _>::Retry(1));
    }
    let refused = policy.chain::<u32>('k').begin().unwrap_err();
    assert!(matches!(refused.reason(), Reason::CircuitOpen { .. }));
}

// What is said.

#[test]
fn errors_read_well() {
    let policy = Retry::new(|| []);
    let mut chain: Chain<std::fmt::Error> = policy.chain(());
    chain.begin().unwrap();
    let Decision::GaveUp(gave_up) = chain.end(Outcome::<(), _>::Retry(std::fmt::Error)) else {
        panic!("there is no second attempt");
    };
    let last = gave_up.last_error().expect("there was one");
    let says = format!("gave up: all attempts were used (attempts: 1, the last: {last})");
    assert_eq!(gave_up.to_string(), says);
    // The text has it already, and it has no source of its own.
    assert!(std::error::Error::source(&gave_up).is_none());
    assert_eq!(Outcome::<u8, u8>::from(Ok(1)), Outcome::Done(1));
    assert_eq!(Outcome::<u8, u8>::from(Err(1)), Outcome::Retry(1));
}

#[tokio::test(start_paused = true)]
async fn misuse_panics_at_its_line() {
    let policy = Retry::new(|| []);
    let attempts = || policy.clone().max_attempts(0);
    let (line, misuse) = (line!() - 1, panic_of(attempts));
    let says = "rate-limited-retries: Retry::max_attempts must be at least 1";
    assert_eq!((misuse.message.as_str(), misuse.line), (says, line));

    let circuit = || policy.clone().circuit::<u8>(0, SECOND);
    let (line, misuse) = (line!() - 1, panic_of(circuit));
    let says = "rate-limited-retries: Retry::circuit was called with zero failures: no attempt could be made";
    assert_eq!((misuse.message.as_str(), misuse.line), (says, line));
}

#[tokio::test(start_paused = true)]
async fn attempts_through_a_handle_after_the_end_are_stopped_before_the_first() {
    let group = Group::new();
    let handle = group.handle();
    group.wait().await.unwrap();
    let attempts = Retry::new(|| []).run(&handle, |_| std::future::pending::<Outcome<(), u32>>());
    assert!(attempts.job().is_finished());
    assert_eq!(told(attempts.await), (Reason::Stopped, 0, None));
}

// `Retry-After`.

#[test]
fn retry_after_reads_seconds_and_the_three_forms_of_dates() {
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
    let seconds = |seconds| Some(Duration::from_secs(seconds));
    let table = [
        ("0", seconds(0)),
        ("120", seconds(120)),
        (" 7 ", seconds(7)),
        ("Sun, 06 Nov 1994 08:49:37 GMT", seconds(0)),
        ("Sun, 06 Nov 1994 08:50:37 GMT", seconds(60)),
        ("Sunday, 06-Nov-94 08:50:37 GMT", seconds(60)),
        ("Sun Nov  6 08:50:37 1994", seconds(60)),
        ("Mon, 07 Nov 1994 08:49:37 GMT", seconds(86_400)),
        (
            "Tue, 29 Feb 2000 00:00:00 GMT",
            seconds(951_782_400 - 784_111_777),
        ),
        (
            "Fri, 31 Dec 9999 23:59:59 GMT",
            seconds(253_402_300_799 - 784_111_777),
        ),
        (
            "Thursday, 01-Jan-26 00:00:00 GMT",
            seconds(1_767_225_600 - 784_111_777),
        ),
        (
            "Tuesday, 01-Jan-69 00:00:00 GMT",
            seconds(3_124_224_000 - 784_111_777),
        ),
        (
            "Sat, 31 Dec 2016 23:59:60 GMT",
            seconds(1_483_228_800 - 784_111_777),
        ),
    ];
    for (value, expected) in table {
        assert_eq!(retry_after(value, now), expected, "{value}");
    }
    // Two digits of a year are those of 1970 to 2069.
    let first = "Thursday, 01-Jan-70 00:00:09 GMT";
    assert_eq!(retry_after(first, SystemTime::UNIX_EPOCH), seconds(9));
}

#[test]
fn retry_after_lets_no_nonsense_through_and_never_panics() {
    let now = SystemTime::now();
    let nonsense = [
        "",
        " ",
        "-1",
        "+1",
        "1.5",
        "1e3",
        "soon",
        "1 2",
        "٣",
        "GMT",
        ",",
        "::",
        "Sun, 06 Nov 1994 08:49:37 GMT", // long ago
        "Thu, 01 Jan 1970 00:00:00 GMT",
        "Wed, 31 Dec 1969 23:59:59 GMT",
        "Sun, 31 Feb 2099 00:00:00 GMT",
        "Sun, 29 Feb 2100 00:00:00 GMT",
        "Sun, 00 Nov 2099 00:00:00 GMT",
        "Sun, +6 Nov 2099 00:00:00 GMT",
        "Sun, 06 Nov 2099 24:00:00 GMT",
        "Sun, 06 Nov 2099 00:60:00 GMT",
        "Sun, 06 Nov 2099 00:00:61 GMT",
        "Sun, 06 Nov 2099 00:00 GMT",
        "Sun, 06 Nov 2099 00:00:00:00 GMT",
        "Sun, 06 Nov 2099 00:00:00 CET",
        "Sun, 06 Nov 2099 00:00:00 GMT GMT",
        "Sun, 06 Nov 99999 00:00:00 GMT",
        "Sun, 06 Foo 2099 00:00:00 GMT",
        "06 Nov 2099 00:00:00 GMT",
    ];
    for value in nonsense {
        assert_eq!(retry_after(value, now), None, "{value}");
    }
    let absurd = "9".repeat(100);
    assert_eq!(retry_after(&absurd, now), Some(Duration::MAX));
    let most = u64::MAX.to_string();
    assert_eq!(retry_after(&most, now), Some(Duration::from_secs(u64::MAX)));

    // Whatever a server makes up.
    let pieces = [
        "Sun", ",", " ", "06", "Nov", "-", "2099", ":", "08", "GMT", "9", "é", "\u{0}",
    ];
    let mut random = Random(1);
    for _ in 0..20_000 {
        let words = 1 + random.below(14);
        let value: String = (0..words)
            .map(|_| pieces[random.below(13) as usize])
            .collect();
        let is_seconds = value.trim().bytes().all(|byte| byte.is_ascii_digit());
        let after = retry_after(&value, now);
        assert!(
            is_seconds || after.is_none_or(|after| after < 100 * 366 * 24 * HOUR),
            "{value}: {after:?}"
        );
    }
}
