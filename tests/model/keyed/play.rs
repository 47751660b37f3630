//! One history of all verbs by key beside a plain map, or of keys that run alone. Who writes it, is another's matter.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::common::{Log, ms, settle};
use schedgroup::keyed::{Inserted, KeyedContext, KeyedGroup, OnDuplicate};
use tokio::time::{Instant, sleep, sleep_until};

/// One step: how long to wait before it, which verb, for which key, and two numbers to make the rest of.
pub(crate) type Step = (u64, u8, u64, u64, u64);

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
    /// What is handled and when, in any order within one millisecond.
    handled: BTreeSet<(Duration, u64, u64)>,
}

/// From the run of an entry to the deadline of the one that it inserts under its key, which is odd.
const AGAIN: Duration = ms(8);

/// An entry of such a value inserts another one under its key; that one does not.
fn inserts_again(value: u64) -> Option<u64> {
    (value % 4 == 1).then(|| value + 1_001)
}

impl Model {
    /// Lets everything expire that is due by then.
    fn pass(&mut self, now: Duration) {
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
                due: at + AGAIN,
                value,
                first: None,
            });
        }
    }

    fn insert(&mut self, key: u64, value: u64, due: Duration, rule: OnDuplicate) -> Inserted<u64> {
        let known = self.pending.get(&key).copied();
        let wins = match (rule, known) {
            (_, None) | (OnDuplicate::Replace, _) => true,
            (OnDuplicate::KeepEarliest, Some(known)) => due < known.due,
            (OnDuplicate::KeepLatest, Some(known)) => due > known.due,
            _ => false,
        };
        if !wins {
            return Inserted::Kept(value);
        }
        let first = None;
        self.pending.insert(key, Entry { due, value, first });
        known.map_or(Inserted::New, |known| Inserted::Replaced(known.value))
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

/// Verbs are called at odd milliseconds, and what they insert is due at even ones, so that no two race.
pub(crate) async fn play(steps: Vec<Step>) {
    let log = Log::new();
    let handled = log.clone();
    let keyed = KeyedGroup::with_handler(
        move |context: KeyedContext<u64, u64>, key: u64, value: u64| {
            handled.push((key, value));
            async move {
                if let Some(value) = inserts_again(value) {
                    let _ = context.insert_after(key, value, AGAIN, OnDuplicate::Keep);
                }
            }
        },
    );
    let (start, mut now, mut model) = (Instant::now(), ms(1), Model::default());
    let rules = [
        OnDuplicate::Replace,
        OnDuplicate::Keep,
        OnDuplicate::KeepEarliest,
        OnDuplicate::KeepLatest,
    ];
    for (step, (wait, verb, key, one, other)) in steps.into_iter().enumerate() {
        now += ms(2 * wait);
        sleep_until(start + now).await;
        // What was expired just now has run, and what that inserted is there.
        settle().await;
        model.pass(now);
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
                if let Some(entry) = expired {
                    model.handle(now, key, entry.value);
                    settle().await;
                }
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
                let left = std::mem::take(&mut model.pending);
                let left = left.into_iter().map(|(key, entry)| (key, entry.value));
                assert_eq!(drained, left.collect::<Vec<_>>(), "{step}");
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
        assert_eq!(keyed.stats().pending, model.pending.len(), "{step}");
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
    let expected = model.pending.iter().map(|(&key, entry)| (key, entry.value));
    assert_eq!(left, expected.collect::<Vec<_>>());
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
    let (report, left) = keyed.drain(ms(100)).await;
    assert_eq!(left.len(), report.dropped, "{report:?}");
    returned.extend(left.into_iter().map(|(_, value)| value));
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
        running.len() <= aborted + report.aborted,
        "{running:?}, {report:?}"
    );
    assert!(handled.is_disjoint(&returned));
    let out: BTreeSet<_> = handled.union(&returned).copied().collect();
    assert_eq!(out, inserted);
}
