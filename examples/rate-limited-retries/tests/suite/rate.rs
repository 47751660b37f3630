//! Instants from a limiter against exact arithmetic, and what becomes of keys.

use std::cell::{Cell, RefCell};
use std::mem::ManuallyDrop;
use std::rc::Rc;
use std::time::Duration;

use crate::common::{HOUR, Key, Random, ms, panic_of};
use rate_limited_retries::rate::{Limiter, Rate};
use tokio::time::{Instant, advance};

/// A bucket of tokens in exact fractions: what the promise means, written down in another way.
#[derive(Clone)]
struct Tokens {
    count: i128,
    period: i128,
    burst: i128,
    /// In parts of a token, `period` to the token; below zero while something dear is paid off.
    level: i128,
    /// In parts of a nanosecond, `count` to the nanosecond: one fills one part of a token.
    at: i128,
}

impl Tokens {
    fn new(count: u32, period: Duration, burst: u32) -> Tokens {
        let (count, period, burst) = (count.into(), period.as_nanos() as i128, burst.into());
        Tokens {
            count,
            period,
            burst,
            level: burst * period,
            at: 0,
        }
    }

    /// The first nanosecond from `now` on at which the cost may go; it goes then.
    fn take(&mut self, cost: u32, now: Duration) -> Duration {
        let now = (now.as_nanos() as i128 * self.count).max(self.at);
        self.level = (self.level + now - self.at).min(self.burst * self.period);
        self.at = now;
        let missing = self.burst.min(cost.into()) * self.period - self.level;
        if missing > 0 {
            self.at += missing;
            self.level += missing;
        }
        self.level -= i128::from(cost) * self.period;
        let nanos = (self.at + self.count - 1) / self.count;
        Duration::from_nanos(nanos as u64)
    }

    /// Whether the cost may go within the nanosecond that ends at `at`: what is given out is rounded up.
    fn admits(&mut self, cost: u32, at: Duration) -> bool {
        self.take(cost, at.saturating_sub(Duration::from_nanos(1))) <= at
    }
}

#[tokio::test(start_paused = true)]
async fn instants_are_those_of_exact_arithmetic() {
    for seed in 0..300 {
        let mut random = Random(seed);
        let period = Duration::from_nanos(1 + random.below(1_000_000_000));
        let (count, burst) = (1 + random.below(60) as u32, 1 + random.below(6) as u32);
        let limiter = Limiter::new(Rate::new(count, period).burst(burst));
        let mut model = [(); 3].map(|()| (Tokens::new(count, period, burst), Duration::ZERO));
        let start = Instant::now();
        for step in 0..200 {
            if random.below(4) == 0 {
                advance(Duration::from_nanos(
                    random.below(3 * period.as_nanos() as u64),
                ))
                .await;
            }
            let now = start.elapsed();
            let key = random.below(3) as usize;
            let (tokens, held) = &mut model[key];
            if random.below(10) == 0 {
                let until = now + period.mul_f64(random.below(100) as f64 / 10.0);
                limiter.not_before(&key, start + until);
                *held = (*held).max(until);
            }
            let cost = [0, 1, 1, 1, 1, 2, 3, 9][random.below(8) as usize];
            let expected = tokens.take(cost, now.max(*held));
            let given = limiter.reserve(&key, cost) - start;
            assert_eq!(given, expected, "seed {seed}, step {step}, cost {cost}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn with_a_rate_over_all_neither_is_ever_exceeded_and_no_key_is_overtaken_by_itself() {
    for seed in 0..100 {
        let mut random = Random(seed);
        let own = (
            1 + random.below(20) as u32,
            ms(1000),
            1 + random.below(5) as u32,
        );
        let all = (
            1 + random.below(60) as u32,
            ms(1000),
            1 + random.below(8) as u32,
        );
        let rate = |(count, period, burst)| Rate::new(count, period).burst(burst);
        let limiter = Limiter::new(rate(own)).overall(rate(all));
        let start = Instant::now();
        let mut given = Vec::new();
        for _ in 0..200 {
            if random.below(4) == 0 {
                advance(Duration::from_nanos(random.below(300_000_000))).await;
            }
            let (key, cost) = (random.below(5), random.below(3) as u32);
            if random.below(20) == 0 {
                limiter.not_before(&key, Instant::now() + ms(random.below(5_000)));
            }
            let at = limiter.reserve(&key, cost) - start;
            assert!(at >= start.elapsed());
            given.push((at, key, cost));
        }
        for key in 0..5 {
            let mut bucket = Tokens::new(own.0, own.1, own.2);
            let of_key: Vec<_> = given.iter().filter(|given| given.1 == key).collect();
            for &&(at, _, cost) in &of_key {
                assert!(bucket.admits(cost, at), "seed {seed}, key {key}, {at:?}");
            }
            assert!(of_key.is_sorted_by_key(|given| given.0), "seed {seed}");
        }
        given.sort_by_key(|&(at, _, _)| at);
        let mut bucket = Tokens::new(all.0, all.1, all.2);
        // What costs nothing takes nothing of what all share, and does not wait for it.
        for (at, key, cost) in given.into_iter().filter(|given| given.2 > 0) {
            assert!(bucket.admits(cost, at), "seed {seed}, key {key}, {at:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_key_that_is_held_up_keeps_no_other_waiting() {
    let rate = Rate::per_second(10);
    let limiter: Limiter<String> = Limiter::new(rate).overall(rate);
    let start = Instant::now();
    limiter.not_before("held", start + HOUR);
    assert_eq!(limiter.reserve("held", 1), start + HOUR);
    for n in 0..5 {
        assert_eq!(
            limiter.reserve(n.to_string().as_str(), 1),
            start + ms(100) * n
        );
    }
    assert_eq!(limiter.reserve("held", 1), start + HOUR + ms(100));
}

#[tokio::test(start_paused = true)]
async fn a_cost_of_none_takes_nothing_of_what_all_share() {
    let limiter = Limiter::new(Rate::per_second(1000)).overall(Rate::per_second(10));
    let start = Instant::now();
    // Each would cut a piece off that is too short for a cost of one.
    for n in 0..100 {
        limiter.not_before(&n, start + ms(n));
        assert_eq!(limiter.reserve(&n, 0), start + ms(n));
    }
    assert_eq!(limiter.reserve(&1000, 1), start);
    assert_eq!(limiter.reserve(&1001, 1), start + ms(100));
    assert_eq!(limiter.reserve(&1002, 0), start, "it does not wait for it");
}

#[tokio::test(start_paused = true)]
async fn a_wish_only_moves_later() {
    let limiter = Limiter::new(Rate::per_second(1000).burst(100));
    let start = Instant::now();
    limiter.not_before(&'k', start + ms(50));
    limiter.not_before(&'k', start + ms(20));
    assert_eq!(limiter.reserve(&'k', 1), start + ms(50));
    advance(ms(30)).await;
    assert_eq!(limiter.reserve(&'k', 1), start + ms(50));
    advance(ms(30)).await;
    assert_eq!(limiter.reserve(&'k', 1), start + ms(60));
    assert_eq!(limiter.reserve(&'j', 1), start + ms(60), "another key");
}

#[tokio::test(start_paused = true)]
async fn a_wish_for_ever_is_far_away_and_no_panic() {
    let limiter = Limiter::new(Rate::new(1, Duration::MAX).burst(2));
    let now = Instant::now();
    let far = now + 1000 * HOUR;
    assert_eq!(limiter.reserve(&'k', 2), now);
    for cost in [0, 1, 2, u32::MAX, 0] {
        assert!(cost == 0 || limiter.reserve(&'k', cost) > far);
    }
    limiter.not_before(&'j', far);
    assert!(limiter.reserve(&'j', 1) >= far);
}

#[tokio::test(start_paused = true)]
async fn keys_that_nothing_shows_of_are_forgotten() {
    let limiter = Limiter::new(Rate::per_second(10).burst(2)).overall(Rate::per_second(1_000_000));
    limiter.not_before(&u64::MAX, Instant::now() + HOUR);
    for key in 0..10_000_u64 {
        let _ = limiter.reserve(&key, 1);
        advance(ms(1)).await;
    }
    let live = 200;
    assert!(limiter.len() <= 2 * live + 64, "{} keys", limiter.len());
    advance(ms(1000)).await;
    for _ in 0..1000 {
        let _ = limiter.reserve(&0, 0);
    }
    assert!(limiter.len() <= 3, "{} keys", limiter.len());
    let held = limiter.reserve(&u64::MAX, 1);
    assert!(held > Instant::now() + HOUR / 2, "what is held up stays");
}

#[tokio::test(start_paused = true)]
async fn keys_are_looked_through_once_in_so_many_calls() {
    let limiter = Limiter::new(Rate::per_second(10));
    assert!(limiter.is_empty());
    let _ = limiter.reserve(&0, 1);
    assert_eq!((limiter.len(), limiter.is_empty()), (1, false));
    advance(ms(1000)).await;
    for call in 2..=64 {
        assert_eq!(limiter.len(), if call == 2 { 1 } else { 2 }, "call {call}");
        let _ = limiter.reserve(&1, 1);
    }
    assert_eq!(limiter.len(), 1, "nothing shows of the first");
    for key in 1..=200 {
        let _ = limiter.reserve(&key, 1);
    }
    advance(HOUR).await;
    let _ = limiter.reserve(&1000, 1);
    let len = limiter.len();
    let calls = (1..).take_while(|_| {
        let _ = limiter.reserve(&1000, 1);
        limiter.len() == len
    });
    // The keys were looked through in the calls 64 and 128 of these: the next time is after 128 more.
    assert_eq!(200 + 1 + calls.count() + 1, 128 + 128, "{len} keys");
}

#[tokio::test(start_paused = true)]
async fn forgotten_keys_that_panic_in_their_destructors_harm_nobody() {
    let limiter = Limiter::new(Rate::per_second(1000));
    for n in 1..=3 {
        let bomb = ManuallyDrop::new(Key(n, true));
        let _ = limiter.reserve::<Key>(&bomb, 1);
    }
    advance(ms(100)).await;
    for _ in 0..100 {
        let _ = limiter.reserve(&Key(0, false), 1);
    }
    assert_eq!(limiter.len(), 1, "the others are forgotten");
}

/// Counts how often it is cloned.
#[derive(PartialEq, Eq, Hash)]
struct Counted;

thread_local! {
    static CLONES: Cell<u32> = const { Cell::new(0) };
    /// Asked for the key that is being cloned, once.
    static ASKED: RefCell<Option<Rc<Limiter<Counted>>>> = const { RefCell::new(None) };
}

impl Clone for Counted {
    fn clone(&self) -> Counted {
        CLONES.set(CLONES.get() + 1);
        if let Some(limiter) = ASKED.take() {
            let _ = limiter.reserve(self, 1);
        }
        Counted
    }
}

#[tokio::test(start_paused = true)]
async fn a_key_is_cloned_once_and_may_call_back() {
    let limiter = Rc::new(Limiter::new(Rate::per_second(10)));
    let start = Instant::now();
    ASKED.set(Some(Rc::clone(&limiter)));
    assert_eq!(
        limiter.reserve(&Counted, 1),
        start + ms(100),
        "the clone was first"
    );
    assert_eq!((limiter.len(), CLONES.get()), (1, 2));
    assert_eq!(limiter.reserve(&Counted, 1), start + ms(200));
    assert_eq!((limiter.len(), CLONES.get()), (1, 2), "it is known");
}

#[test]
fn misuse_panics_at_its_line() {
    let table: [(u32, _, &str); 4] = [
        (
            line!() + 1,
            panic_of(|| Rate::new(0, ms(1))),
            "rate-limited-retries: Rate::new was called with a count of zero: nothing could ever go",
        ),
        (
            line!() + 1,
            panic_of(|| Rate::per_second(0)),
            "rate-limited-retries: Rate::new was called with a count of zero: nothing could ever go",
        ),
        (
            line!() + 1,
            panic_of(|| Rate::new(1, Duration::ZERO)),
            "rate-limited-retries: Rate::new was called with a period of zero",
        ),
        (
            line!() + 1,
            panic_of(|| Rate::per_second(1).burst(0)),
            "rate-limited-retries: Rate::burst must be at least 1: nothing could ever go",
        ),
    ];
    for (line, misuse, says) in table {
        assert_eq!((misuse.message.as_str(), misuse.line), (says, line));
    }
}
