//! One history of all verbs by key beside a plain map, or of keys that run alone. Who writes it, is another's matter.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::common::{HOUR, Log, ms, settle};
use schedgroup::keyed::{Inserted, KeyedContext, KeyedGroup, OnDuplicate};
use tokio::task::yield_now;
use tokio::time::{Instant, sleep, sleep_until, timeout};

/// One step: how long to wait before it, which verb, for which key, and two numbers to make the rest of.
pub(crate) type Step = (u64, u8, u64, u64, u64);

/// Returns whether an entry that is due then takes the place of the pending one.
pub(super) fn wins<T: PartialOrd>(rule: OnDuplicate, due: T, known: Option<T>) -> bool {
    match (rule, known) {
        (_, None) | (OnDuplicate::Replace, _) => true,
        (OnDuplicate::KeepEarliest, Some(known)) => due < known,
        (OnDuplicate::KeepLatest, Some(known)) => due > known,
        _ => false,
    }
}

/// What is pending for a key: when it is due, its value, and its first debounce.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Entry {
    due: Duration,
    value: u64,
    first: Option<Duration>,
}

#[derive(Debug, Default)]
struct Model {
    pending: BTreeMap<u64, Entry>,
    /// What was expired, and has had no turn to run: key, value, and when.
    expired: Vec<(u64, u64, Duration)>,
    /// What is handled and when, in any order within one millisecond.
    handled: BTreeSet<(Duration, u64, u64)>,
}

/// An entry of such a value inserts another one under its key; that one does not.
fn inserts_again(value: u64) -> Option<u64> {
    (value % 4 == 1).then(|| value + 1_001)
}

/// From a run to the deadline of what it inserts, which is even.
fn again(run: Duration) -> Duration {
    ms(8 + run.as_millis() as u64 % 2)
}

impl Model {
    /// Lets everything run that is due by then.
    fn pass(&mut self, now: Duration) {
        for (key, value, at) in std::mem::take(&mut self.expired) {
            self.handle(at, key, value);
        }
        while let Some((&key, &entry)) = self
            .pending
            .iter()
            .filter(|(_, entry)| entry.due <= now)
            .min_by_key(|(_, entry)| entry.due)
        {
            self.pending.remove(&key);
            self.handle(entry.due, key, entry.value);
        }
    }

    fn handle(&mut self, at: Duration, key: u64, value: u64) {
        self.handled.insert((at, key, value));
        if let Some(value) = inserts_again(value) {
            self.pending.entry(key).or_insert(Entry {
                due: at + again(at),
                value,
                first: None,
            });
        }
    }

    fn insert(&mut self, key: u64, value: u64, due: Duration, rule: OnDuplicate) -> Inserted<u64> {
        let known = self.pending.get(&key).copied();
        if !wins(rule, due, known.map(|known| known.due)) {
            return Inserted::Kept(value);
        }
        let first = None;
        self.pending.insert(key, Entry { due, value, first });
        known.map_or(Inserted::New, |known| Inserted::Replaced(known.value))
    }

    /// Takes out the keys and values of all that has not run, in order.
    fn take_values(&mut self) -> Vec<(u64, u64)> {
        let pending = std::mem::take(&mut self.pending).into_iter();
        let expired = std::mem::take(&mut self.expired).into_iter();
        let mut all: Vec<_> = pending
            .map(|(key, entry)| (key, entry.value))
            .chain(expired.map(|(key, value, _)| (key, value)))
            .collect();
        all.sort_unstable();
        all
    }

    /// The entry that a debounce at `now` leads to, and what was there.
    fn debounce(
        &mut self,
        key: u64,
        value: u64,
        now: Duration,
        quiet: Duration,
        ceiling: Duration,
    ) -> Option<Entry> {
        let known = self.pending.get(&key).copied();
        let first = known.and_then(|known| known.first).unwrap_or(now);
        let due = (now + quiet).min(first + ceiling);
        let first = Some(first);
        self.pending.insert(key, Entry { due, value, first });
        known
    }
}

/// Verbs are called at odd milliseconds, and what is inserted is due at even ones, so that no two race: the paused clock
/// moves on only when nothing is left to do. What is expired runs before it does, and verbs without a wait between them
/// find it on its way.
pub(crate) async fn play(steps: Vec<Step>) {
    let (log, start) = (Log::new(), Instant::now());
    let handled = log.clone();
    let keyed = KeyedGroup::with_handler(
        move |context: KeyedContext<u64, u64>, key: u64, value: u64| {
            handled.push((key, value));
            async move {
                if let Some(value) = inserts_again(value) {
                    let delay = again(start.elapsed());
                    let _ = context.insert_after(key, value, delay, OnDuplicate::Keep);
                }
            }
        },
    );
    let (mut now, mut model) = (ms(1), Model::default());
    sleep_until(start + now).await;
    let rules = [
        OnDuplicate::Replace,
        OnDuplicate::Keep,
        OnDuplicate::KeepEarliest,
        OnDuplicate::KeepLatest,
    ];
    for (step, (wait, verb, key, one, other)) in steps.into_iter().enumerate() {
        // Of two that expire at once under one key the order is not promised.
        let same =
            (10..13).contains(&verb) && model.expired.iter().any(|&(known, ..)| known == key);
        match wait {
            0 if !same => {}
            // The driver sees by itself what the last verb left.
            1 if model.expired.is_empty() => yield_now().await,
            _ => {
                now += ms(2 * wait.max(1));
                sleep_until(start + now).await;
                model.pass(now);
            }
        }
        let value = 10 * step as u64 + one % 4;
        let due = now + ms(1 + 2 * one);
        match verb {
            0..4 => {
                let rule = rules[verb as usize];
                let inserted = keyed.insert_at(key, value, start + due, rule);
                assert_eq!(inserted, model.insert(key, value, due, rule), "{step}");
            }
            4 => {
                let inserted = keyed.insert_after(key, value, due - now, OnDuplicate::Replace);
                let expected = model.insert(key, value, due, OnDuplicate::Replace);
                assert_eq!(inserted, expected, "{step}");
            }
            5 | 6 => {
                let removed = model.pending.remove(&key).map(|entry| entry.value);
                assert_eq!(keyed.remove(&key), removed, "{step}");
            }
            7..10 => {
                let reset = match verb {
                    7 => keyed.reset_after(&key, due - now),
                    _ => keyed.reset_at(&key, start + due),
                };
                assert_eq!(reset, model.pending.contains_key(&key), "{step}");
                if let Some(entry) = model.pending.get_mut(&key) {
                    entry.due = due;
                }
            }
            10..13 => {
                let expired = model.pending.remove(&key);
                assert_eq!(keyed.expire(&key), expired.is_some(), "{step}");
                assert!(!keyed.contains_key(&key), "{step}");
                let expired = expired.map(|entry| (key, entry.value, now));
                model.expired.extend(expired);
            }
            13 | 14 => {
                // Sometimes the quiet is shorter, sometimes what the ceiling leaves.
                let (quiet, ceiling) = (ms(1 + 2 * one), ms(1 + 2 * other));
                let ceiling = model
                    .pending
                    .get(&key)
                    .and_then(|known| known.first)
                    .map_or(ceiling, |first| now - first + ceiling);
                let known = model.debounce(key, value, now, quiet, ceiling);
                let expected = known.map_or(Inserted::New, |known| Inserted::Replaced(known.value));
                let debounced = keyed.debounce(key, quiet, ceiling, value);
                assert_eq!(debounced, expected, "{step}");
            }
            15 | 16 => {
                let (quiet, ceiling) = (ms(1 + 2 * one), ms(101));
                let kept = model.pending.get(&key).map(|known| known.value);
                let known = model.pending.get(&key).and_then(|known| known.first);
                // It is due at an even millisecond either way.
                let ceiling = known.map_or(ceiling, |first| (now - first) + ms(1 + 2 * other));
                model.debounce(
                    key,
                    kept.map_or(value, |kept| kept + 4),
                    now,
                    quiet,
                    ceiling,
                );
                let add = |known: &mut u64| *known += 4;
                assert!(keyed.debounce_with(key, quiet, ceiling, || value, add));
            }
            17 => {
                let seen = model.pending.get_mut(&key).map(|entry| {
                    entry.value += 4;
                    entry.value
                });
                let look = |value: &mut u64| {
                    *value += 4;
                    *value
                };
                assert_eq!(keyed.with(&key, look), seen, "{step}");
            }
            18 if one < 3 => {
                let mut drained = keyed.drain_values();
                drained.sort_unstable();
                assert_eq!(drained, model.take_values(), "{step}");
            }
            _ => assert!(!keyed.abort(&key), "no key runs alone"),
        }
        let mut keys = keyed.keys();
        keys.sort_unstable();
        assert!(
            keys.iter().eq(model.pending.keys()),
            "{step}: {keys:?} {model:?}"
        );
        assert_eq!(keyed.len(), model.pending.len(), "{step}");
        assert_eq!(keyed.is_empty(), model.pending.is_empty(), "{step}");
        let waiting = model.pending.len() + model.expired.len();
        assert_eq!(keyed.stats().pending, waiting, "{step}");
        let deadline = model.pending.get(&key).map(|entry| start + entry.due);
        assert_eq!(keyed.deadline(&key), deadline, "{step}");
        let ran: BTreeSet<_> = log
            .take()
            .into_iter()
            .map(|((k, v), at)| (at, k, v))
            .collect();
        assert_eq!(ran, std::mem::take(&mut model.handled), "{step}");
    }
    end(keyed, log, now, model).await;
}

/// One of the ends of a group, by what the history left.
async fn end(keyed: KeyedGroup<u64, u64>, log: Log<(u64, u64)>, now: Duration, mut model: Model) {
    let grace = ms(10);
    let mut left = match model.pending.len() % 4 {
        0 => {
            keyed.wait().await.unwrap();
            model.pass(Duration::MAX);
            keyed.drain_values()
        }
        1 => {
            let (report, left) = keyed.drain(grace).await;
            model.pass(now + grace);
            assert_eq!(report.dropped, model.pending.len(), "{report:?}");
            left
        }
        2 => {
            let (report, left) = keyed.shutdown(grace).await;
            // What has expired runs, and what it inserts is rejected.
            let expired = model
                .expired
                .drain(..)
                .map(|(key, value, at)| (at, key, value));
            model.handled.extend(expired);
            assert_eq!(report.dropped, model.pending.len(), "{report:?}");
            left
        }
        _ => {
            keyed.cancel();
            assert!(keyed.wait().await.is_err());
            settle().await;
            assert_eq!(keyed.len(), model.pending.len());
            keyed.drain_values()
        }
    };
    left.sort_unstable();
    assert_eq!(left, model.take_values());
    let ran: BTreeSet<_> = log
        .take()
        .into_iter()
        .map(|((k, v), at)| (at, k, v))
        .collect();
    assert_eq!(ran, model.handled);
    assert!(keyed.is_empty());
}

/// Runs of one key take up to 40 ms; whatever is done meanwhile, none of that key overlap, and each value is handled
/// once or comes back once.
pub(crate) async fn play_alone(steps: Vec<Step>) {
    let log = Log::new();
    let runs = log.clone();
    let keyed = KeyedGroup::builder()
        .exclusive()
        .build_with(move |_, key: u64, value: u64| {
            let runs = runs.clone();
            async move {
                runs.push((key, value, "begins"));
                sleep(ms(value % 40)).await;
                runs.push((key, value, "ends"));
            }
        });
    // In, and out again by another way than a run to its end.
    let (mut inserted, mut returned, mut aborted) = (BTreeSet::new(), BTreeSet::new(), 0);
    let all_run = steps.len() % 2 == 0;
    for (step, (wait, verb, key, one, other)) in steps.into_iter().enumerate() {
        sleep(ms(wait)).await;
        let value = 40 * step as u64 + one + other;
        let replaced = match verb {
            0..8 => {
                inserted.insert(value);
                keyed.insert_after(key, value, ms(one), OnDuplicate::Replace)
            }
            8..11 => {
                inserted.insert(value);
                keyed.debounce(key, ms(one), ms(other), value)
            }
            11..16 => {
                keyed.expire(&key);
                Inserted::New
            }
            16 => {
                keyed.reset_after(&key, ms(one));
                Inserted::New
            }
            17 => {
                aborted += usize::from(keyed.abort(&key));
                Inserted::New
            }
            _ => {
                returned.extend(keyed.remove(&key));
                Inserted::New
            }
        };
        if let Inserted::Replaced(value) = replaced {
            assert!(returned.insert(value), "{value} comes back twice");
        }
    }
    let aborted_at_end = if all_run {
        // One that waits for a run that has ended would wait for good.
        timeout(HOUR, keyed.wait()).await.unwrap().unwrap();
        0
    } else {
        let (report, left) = keyed.drain(ms(100)).await;
        assert_eq!(left.len(), report.dropped, "{report:?}");
        returned.extend(left.into_iter().map(|(_, value)| value));
        report.aborted
    };
    let (mut running, mut handled) = (BTreeMap::new(), BTreeSet::new());
    for ((key, value, what), at) in log.take() {
        if what == "ends" {
            assert_eq!(running.remove(&key), Some(value), "at {at:?}");
        } else if let Some(other) = running.insert(key, value) {
            // Only a run that was aborted leaves no end.
            assert!(aborted > 0, "{value} begins beside {other} at {at:?}");
            aborted -= 1;
        }
        if what == "begins" {
            assert!(handled.insert(value), "{value} is handled twice");
        }
    }
    assert!(
        running.len() <= aborted + aborted_at_end,
        "{running:?}, {aborted} and {aborted_at_end} aborted"
    );
    assert!(handled.is_disjoint(&returned));
    let out: BTreeSet<_> = handled.union(&returned).copied().collect();
    assert_eq!(out, inserted);
}
