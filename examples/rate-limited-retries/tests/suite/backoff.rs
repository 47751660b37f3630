//! Delays between tries: their growth exactly, their spread by seed.

use std::time::Duration;

use crate::common::{ms, panic_of};
use rate_limited_retries::backoff::{Backoff, Jitter};

const JITTERS: [Jitter; 4] = [
    Jitter::None,
    Jitter::Full,
    Jitter::Equal,
    Jitter::Decorrelated,
];

fn delays(backoff: Backoff, count: usize) -> Vec<Duration> {
    backoff.iter().take(count).collect()
}

#[test]
fn delays_double_until_the_cap() {
    let backoff = Backoff::exponential(ms(100), ms(1000));
    let expected = [100, 200, 400, 800, 1000, 1000].map(ms);
    assert_eq!(delays(backoff, 6), expected);
}

#[test]
fn a_factor_is_exact_where_it_can_be() {
    let backoff = Backoff::exponential(ms(16), ms(1000)).factor(1.5);
    assert_eq!(delays(backoff, 5), [16, 24, 36, 54, 81].map(ms));
    let constant = Backoff::exponential(ms(7), ms(1000)).factor(1.0);
    assert_eq!(delays(constant, 3), [ms(7); 3]);
}

#[test]
fn equal_arguments_make_a_constant_delay_also_where_a_double_is_not_exact() {
    for nanos in [(1 << 53) + 1, (1 << 60) + 3, u64::MAX - 1] {
        let delay = Duration::from_nanos(nanos);
        let constant = Backoff::exponential(delay, delay).factor(1.0);
        assert_eq!(delays(constant, 3), [delay; 3]);
    }
}

#[test]
fn growth_without_bounds_does_not_overflow() {
    let nano = Duration::from_nanos(1);
    for jitter in JITTERS {
        let backoff = Backoff::exponential(nano, Duration::MAX)
            .factor(f64::MAX)
            .jitter(jitter);
        let last = delays(backoff, 100)[99];
        assert!(
            last <= Duration::from_nanos(u64::MAX),
            "{jitter:?}: {last:?}"
        );
    }
    let doubled = delays(Backoff::exponential(nano, Duration::MAX), 70);
    assert_eq!(doubled[62], Duration::from_nanos(1 << 62));
    assert_eq!(doubled[69], Duration::from_nanos(u64::MAX));
}

#[test]
fn it_ends_after_so_many_delays_and_stays_ended() {
    for count in [0, 1, 3] {
        let mut delays = Backoff::exponential(ms(1), ms(9)).max_delays(count).iter();
        assert_eq!(delays.size_hint(), (count, Some(count)));
        assert_eq!(delays.by_ref().count(), count);
        assert_eq!((delays.next(), delays.size_hint()), (None, (0, Some(0))));
    }
    assert_eq!(
        Backoff::exponential(ms(1), ms(9)).iter().size_hint().1,
        None
    );
}

#[test]
fn one_seed_is_one_sequence() {
    for jitter in JITTERS {
        let backoff = Backoff::exponential(ms(10), ms(1000)).jitter(jitter);
        assert_eq!(delays(backoff.seed(7), 50), delays(backoff.seed(7), 50));
        let spread = jitter != Jitter::None;
        assert_eq!(
            delays(backoff.seed(7), 50) != delays(backoff.seed(8), 50),
            spread
        );
        assert_eq!(
            delays(backoff, 50) != delays(backoff, 50),
            spread,
            "unseeded"
        );
    }
}

#[test]
fn no_jitter_leaves_its_bounds() {
    let (first, cap) = (ms(10), ms(300));
    for seed in 0..200 {
        let plain = delays(Backoff::exponential(first, cap), 20);
        for jitter in JITTERS {
            let backoff = Backoff::exponential(first, cap).jitter(jitter).seed(seed);
            let mut last = first;
            for (n, (delay, d)) in backoff.iter().zip(&plain).enumerate() {
                let (low, high) = match jitter {
                    Jitter::Full => (Duration::ZERO, *d),
                    Jitter::Equal => (*d / 2, *d),
                    Jitter::Decorrelated => (first, cap.min(last * 3)),
                    _ => (*d, *d),
                };
                assert!(
                    low <= delay && delay <= high,
                    "{jitter:?}, seed {seed}, delay {n}: {delay:?} is not in {low:?}..={high:?}"
                );
                last = delay;
            }
        }
    }
}

/// How many of the delays fall into each tenth of the range from `low` to `high`.
fn tenths(delays: &[Duration], low: Duration, high: Duration) -> [usize; 10] {
    let mut counts = [0; 10];
    for delay in delays {
        let part = (*delay - low).as_nanos() * 10 / ((high - low).as_nanos() + 1);
        counts[part as usize] += 1;
    }
    counts
}

#[test]
fn jitter_spreads_evenly() {
    let (draws, low, high) = (100_000, ms(50), ms(100));
    let constant = Backoff::exponential(high, high);
    // One draw of each of many chains, and many draws of one.
    let firsts = |jitter| -> Vec<Duration> {
        let chains = (0..draws).map(|seed| constant.jitter(jitter).seed(seed));
        chains.flat_map(|chain| chain.iter().next()).collect()
    };
    let of_one = |jitter| delays(constant.jitter(jitter).seed(1), draws as usize);
    for (jitter, low) in [(Jitter::Full, Duration::ZERO), (Jitter::Equal, low)] {
        for drawn in [firsts(jitter), of_one(jitter)] {
            let counts = tenths(&drawn, low, high);
            let even = counts.iter().all(|count| (9_500..=10_500).contains(count));
            assert!(even, "{jitter:?}: {counts:?}");
        }
    }
    let wide = Backoff::exponential(high, 10 * high).jitter(Jitter::Decorrelated);
    let chains = (0..draws).map(|seed| wide.seed(seed));
    let drawn: Vec<_> = chains.flat_map(|chain| chain.iter().next()).collect();
    let counts = tenths(&drawn, high, 3 * high);
    let even = counts.iter().all(|count| (9_500..=10_500).contains(count));
    assert!(even, "Decorrelated: {counts:?}");
}

#[test]
fn misuse_panics_at_its_line() {
    let zero = Duration::ZERO;
    let (line, misuse) = (line!(), panic_of(|| Backoff::exponential(zero, ms(1))));
    let says = "rate-limited-retries: Backoff::exponential was called with a first delay of zero";
    assert_eq!((misuse.message.as_str(), misuse.line), (says, line));

    let (line, misuse) = (line!(), panic_of(|| Backoff::exponential(ms(2), ms(1))));
    let says = "rate-limited-retries: Backoff::exponential was called with a first delay of 2ms, above its cap of 1ms";
    assert_eq!((misuse.message.as_str(), misuse.line), (says, line));

    let backoff = Backoff::exponential(ms(1), ms(1));
    for factor in [0.99, -2.0, f64::INFINITY, f64::NAN] {
        let (line, misuse) = (line!(), panic_of(|| backoff.factor(factor)));
        let says = format!(
            "rate-limited-retries: Backoff::factor must be a finite number of at least 1, not {factor}"
        );
        assert_eq!((misuse.message, misuse.line), (says, line));
    }
}
