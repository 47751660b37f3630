//! Random histories of keyed jobs beside a plain map, on the paused clock.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::common::{Log, Random, ms};
use schedgroup::keyed::{KeyedGroup, OnDuplicate, Outcome};
use tokio::time::{Instant, sleep_until};

/// What is pending: when, which job, and its first debounce since it was scheduled.
type Model = BTreeMap<u64, (Duration, u64, Option<Duration>)>;

#[tokio::test(start_paused = true)]
async fn random_histories_agree_with_a_plain_map() {
    let histories = std::env::var("SCHEDGROUP_HISTORIES");
    let histories = histories.map_or(300, |count| count.parse().expect("a number"));
    for seed in 0..histories {
        history(seed).await;
    }
}

/// Everything happens at odd milliseconds and is due at even ones, so that no two race.
async fn history(seed: u64) {
    let mut random = Random(seed);
    let (keyed, log, mut model) = (KeyedGroup::new(), Log::new(), Model::new());
    let start = Instant::now();
    let mut now = ms(1);
    for step in 0..120_u64 {
        now += ms(2 * random.below(6));
        sleep_until(start + now).await;
        let due: Vec<_> = model
            .iter()
            .filter(|(_, job)| job.0 < now)
            .map(|(key, _)| *key)
            .collect();
        let mut expected: Vec<_> = due.iter().filter_map(|key| model.remove(key)).collect();
        expected.sort_by_key(|job| job.0);
        let mut ran = log.take();
        ran.sort_by_key(|&(job, at)| (at, expected.iter().position(|other| other.1 == job)));
        let expected: Vec<_> = expected.iter().map(|job| (job.1, job.0)).collect();
        assert_eq!(ran, expected, "seed {seed}, step {step}");

        let key = random.below(6);
        let at = now + ms(1 + 2 * random.below(20));
        let known = model.get(&key).copied();
        match random.below(8) {
            0 => assert_eq!(
                keyed.cancel(&key),
                model.remove(&key).is_some(),
                "seed {seed}"
            ),
            1 | 2 => {
                assert_eq!(
                    keyed.touch(&key, start + at),
                    known.is_some(),
                    "seed {seed}"
                );
                model.entry(key).and_modify(|job| job.0 = at);
            }
            3 => {
                let since = known.and_then(|job| job.2).unwrap_or(now);
                // Sometimes the quiet is shorter, sometimes what the ceiling leaves.
                let (quiet, ceiling) = (at - now, now - since + ms(11));
                keyed.debounce(key, quiet, ceiling, log.job(step));
                model.insert(key, (at.min(since + ceiling), step, Some(since)));
            }
            rule => {
                let (rule, wins) = match (rule, known) {
                    (4, _) => (OnDuplicate::Replace, true),
                    (5, known) => (
                        OnDuplicate::KeepEarliest,
                        known.is_none_or(|job| at < job.0),
                    ),
                    (6, known) => (OnDuplicate::KeepLatest, known.is_none_or(|job| at > job.0)),
                    (_, known) => (OnDuplicate::KeepExisting, known.is_none()),
                };
                let outcome = keyed.schedule(key, start + at, log.job(step), rule);
                let expected = match (known, wins) {
                    (None, _) => Outcome::Inserted,
                    (Some(_), true) => Outcome::Replaced,
                    (Some(_), false) => Outcome::Kept,
                };
                assert_eq!(outcome, expected, "seed {seed}, step {step}, {rule:?}");
                if wins {
                    model.insert(key, (at, step, None));
                }
            }
        }
        assert_eq!(keyed.len(), model.len(), "seed {seed}, step {step}");
        let deadline = model.get(&key).map(|job| start + job.0);
        assert_eq!(keyed.deadline(&key), deadline, "seed {seed}, step {step}");
    }
}
