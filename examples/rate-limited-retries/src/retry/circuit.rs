//! Circuit breakers, one per key.

use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::drops::drop_each;
use crate::table::Table;
use crate::time::later;

/// The circuits of all keys of a policy. A key that does not fail has no row.
pub(super) struct Circuits<K> {
    failures: u32,
    pause: Duration,
    hasher: RandomState,
    /// Of the user's code only `Eq` of keys runs under it.
    rows: Mutex<Rows<K>>,
}

struct Rows<K> {
    table: Table<K, Row>,
    /// The number of failures until the rows are looked through.
    patience: usize,
    /// The number of the last probe.
    probes: u64,
}

/// What is known of a key that failed.
struct Row {
    failures: u32,
    /// A pause after the last failure.
    until: Instant,
    /// The probe in progress. Other attempts may be in progress that began before the circuit opened.
    probe: Option<Probe>,
}

/// The probe of a half-open circuit. It names the row without code of the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Probe {
    hash: u64,
    number: u64,
}

/// Fewer rows than that are not worth looking through.
const FEW: usize = 64;

impl<K: Eq + Hash + Clone> Circuits<K> {
    pub(super) fn new(failures: u32, pause: Duration) -> Circuits<K> {
        Circuits {
            failures,
            pause,
            hasher: RandomState::new(),
            rows: Mutex::new(Rows {
                table: Table::new(),
                patience: FEW,
                probes: 0,
            }),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Rows<K>> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_open(&self, row: &Row) -> bool {
        row.failures >= self.failures
    }

    /// Returns the probe if an attempt may be made and is one, and until when the circuit is open at least if none may.
    pub(super) fn begin(&self, key: &K, now: Instant) -> Result<Option<Probe>, Instant> {
        let hash = self.hasher.hash_one(key);
        let mut guard = self.lock();
        let Rows { table, probes, .. } = &mut *guard;
        match table.find(hash, |known, _| known == key) {
            Some(row) if self.is_open(row) => {
                if now < row.until || row.probe.is_some() {
                    return Err(row.until);
                }
                *probes += 1;
                let number = *probes;
                row.probe = Some(Probe { hash, number });
                Ok(row.probe)
            }
            _ => Ok(None),
        }
    }

    /// An attempt was answered, in whatever way but a failure: the key is well.
    pub(super) fn succeeded(&self, key: &K) {
        let hash = self.hasher.hash_one(key);
        let gone = self.lock().table.remove(hash, |known, _| known == key);
        drop(gone);
    }

    /// An attempt failed, the probe or another: until when its circuit is open now, if it is. Failures
    /// further apart than the pause are not in a row.
    pub(super) fn failed(&self, key: &K, now: Instant, probe: Option<Probe>) -> Option<Instant> {
        let (hash, fresh) = (self.hasher.hash_one(key), key.clone());
        let until = later(now, self.pause);
        let mut guard = self.lock();
        let rows = &mut *guard;
        let mut unused = None;
        let failures = match rows.table.find(hash, |known, _| known == key) {
            Some(row) => {
                let in_a_row = now <= row.until || self.is_open(row);
                row.failures = if in_a_row {
                    row.failures.saturating_add(1)
                } else {
                    1
                };
                row.until = until;
                row.probe = row.probe.filter(|_| row.probe != probe);
                unused = Some(fresh);
                row.failures
            }
            None => {
                let row = Row {
                    failures: 1,
                    until,
                    probe: None,
                };
                rows.table.insert(hash, fresh, row);
                1
            }
        };
        let old = self.look_through(rows, now);
        drop(guard);
        // Keys are dropped outside of the lock.
        drop_each(old);
        drop(unused);
        (failures >= self.failures).then_some(until)
    }

    /// The probe ended without an answer: another one may be made.
    pub(super) fn unanswered(&self, probe: Probe) {
        let is_its = |_: &K, row: &Row| row.probe == Some(probe);
        if let Some(row) = self.lock().table.find(probe.hash, is_its) {
            row.probe = None;
        }
    }

    /// Takes out, once in a while, the rows of idle keys: those whose next failure would not be in a
    /// row, and open circuits that were not tried for another pause.
    fn look_through(&self, rows: &mut Rows<K>, now: Instant) -> Vec<(K, Row)> {
        rows.patience -= 1;
        if rows.patience > 0 {
            return Vec::new();
        }
        let old = rows.table.sift(|row| {
            let kept = if self.is_open(row) {
                self.pause
            } else {
                Duration::ZERO
            };
            row.probe.is_some() || now <= later(row.until, kept)
        });
        rows.patience = rows.table.len().max(FEW);
        old
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAUSE: Duration = Duration::from_secs(10);

    #[test]
    fn it_opens_after_failures_in_a_row_and_lets_one_try() {
        let (circuits, start) = (Circuits::new(3, PAUSE), Instant::now());
        let open = Err(start + PAUSE);
        for _ in 0..2 {
            circuits.failed(&'k', start, None);
        }
        circuits.succeeded(&'k');
        for _ in 0..3 {
            assert_eq!(circuits.begin(&'k', start), Ok(None));
            circuits.failed(&'k', start, None);
        }
        assert_eq!(circuits.begin(&'k', start), open);
        assert_eq!(circuits.begin(&'j', start), Ok(None), "another key");
        let probe = circuits.begin(&'k', start + PAUSE).unwrap();
        assert!(probe.is_some());
        assert_eq!(circuits.begin(&'k', start + PAUSE), open, "one at a time");
        circuits.failed(&'k', start + PAUSE, probe);
        assert_eq!(circuits.begin(&'k', start + PAUSE), Err(start + 2 * PAUSE));
        let probe = circuits.begin(&'k', start + 2 * PAUSE).unwrap();
        circuits.unanswered(probe.unwrap());
        assert!(matches!(
            circuits.begin(&'k', start + 2 * PAUSE),
            Ok(Some(_))
        ));
        circuits.succeeded(&'k');
        for _ in 0..2 {
            assert_eq!(circuits.begin(&'k', start + 2 * PAUSE), Ok(None));
        }
    }

    #[test]
    fn failures_far_apart_are_not_in_a_row() {
        let (circuits, start) = (Circuits::new(2, PAUSE), Instant::now());
        for n in 0..10 {
            let now = start + n * (PAUSE + Duration::from_nanos(1));
            assert_eq!(circuits.begin(&'k', now), Ok(None));
            circuits.failed(&'k', now, None);
        }
    }

    #[test]
    fn keys_that_nobody_asks_for_are_forgotten() {
        let (circuits, start) = (Circuits::new(1, PAUSE), Instant::now());
        for key in 0..10_000 {
            circuits.failed(&key, start + Duration::from_millis(100) * key, None);
        }
        let (rows, live) = (circuits.lock().table.len(), 200);
        assert!(rows <= 2 * live + FEW, "{rows} rows");
    }
}
