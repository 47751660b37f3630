//! Lateness of jobs during a flood and while jobs block, and of callers while very many jobs end.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use schedgroup::Group;
use schedgroup::keyed::{KeyedGroup, OnDuplicate};

use crate::{Gone, Xorshift, two_workers};

/// The distance between jobs whose lateness is measured.
pub(crate) const APART: Duration = Duration::from_millis(10);

/// The lateness of jobs, in microseconds.
#[derive(Clone)]
pub(crate) struct Late(Arc<Mutex<Vec<u64>>>);

impl Late {
    pub(crate) fn empty() -> Late {
        Late(Arc::default())
    }

    /// One that was due then, and runs now.
    pub(crate) fn add(&self, due: tokio::time::Instant) {
        let late = due.elapsed().as_micros() as u64;
        self.0.lock().expect("no job panics").push(late);
    }

    /// Jobs at a fixed rate on the real clock, for a number of seconds.
    pub(crate) async fn of_jobs(group: &Group, apart: Duration, seconds: u64) -> Late {
        let start = tokio::time::Instant::now();
        let mut jobs = Vec::new();
        for job in 1..=seconds * 1000 / apart.as_millis() as u64 {
            let due = start + apart * job as u32;
            jobs.push(group.spawn_at(due, async move { due.elapsed().as_micros() as u64 }));
        }
        let mut late = Vec::new();
        for job in jobs {
            late.push(job.await.expect("it runs"));
        }
        Late(Arc::new(Mutex::new(late)))
    }

    /// Returns the median, the 99th percentile and the maximum.
    pub(crate) fn figures(&self) -> [f64; 3] {
        let mut late = self.0.lock().expect("no job panics").clone();
        late.sort_unstable();
        [50, 99, 100].map(|part| late[(late.len() * part / 100).max(1) - 1] as f64 / 1000.0)
    }
}

/// An idle machine, for comparison.
pub(crate) fn idle(seconds: u64) -> u64 {
    let late = two_workers().block_on(async move {
        Late::of_jobs(&Group::new(), Duration::from_millis(1), seconds).await
    });
    let [half, most, all] = late.figures();
    println!("idle: late by p50 {half} ms, p99 {most} ms, at most {all} ms");
    u64::from(most > 5.0)
}

/// A million jobs with far deadlines are scheduled per second.
pub(crate) fn flood(seconds: u64) -> u64 {
    beside_pushes(seconds, Some(1_000_000))
}

/// Two threads schedule jobs with far deadlines as fast as they can.
pub(crate) fn deluge(seconds: u64) -> u64 {
    beside_pushes(seconds, None)
}

fn beside_pushes(seconds: u64, rate: Option<u64>) -> u64 {
    let (late, pushed, freed) = two_workers().block_on(async move {
        let group = Group::new();
        let (over, pushed) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicU64::new(0)),
        );
        let producers = [(); 2].map(|()| {
            let (handle, over, pushed) = (group.handle(), Arc::clone(&over), Arc::clone(&pushed));
            std::thread::spawn(move || {
                let (start, mut own) = (Instant::now(), 0);
                while !over.load(Relaxed) {
                    let due =
                        rate.map(|rate| start.elapsed().as_micros() as u64 * rate / 2_000_000);
                    if due.is_some_and(|due| own >= due) {
                        std::thread::sleep(Duration::from_micros(500));
                        continue;
                    }
                    handle.delay(Duration::from_secs(3600), async {});
                    own += 1;
                    pushed.fetch_add(1, Relaxed);
                }
            })
        });
        let late = Late::of_jobs(&group, APART, seconds).await;
        over.store(true, Relaxed);
        for producer in producers {
            producer.join().expect("a producer");
        }
        let pushed = pushed.load(Relaxed);
        let cancel = Instant::now();
        group.cancel();
        group.shutdown(Duration::MAX).await;
        (late, pushed, cancel.elapsed())
    });
    let [half, most, all] = late.figures();
    println!(
        "late by p50 {half} ms, p99 {most} ms, at most {all} ms beside {} pushes a second; {pushed} freed in {freed:.1?}",
        pushed / seconds
    );
    u64::from(most > 20.0)
}

/// Two threads reset keyed entries a million times a second, while other entries of the same group fall due.
pub(crate) fn keyed_resets(seconds: u64) -> u64 {
    const RATE: u64 = 1_000_000;
    const KEYS: u64 = 100_000;
    const HOUR: Duration = Duration::from_secs(3600);
    let (late, resets, missing) = two_workers().block_on(async move {
        let late = Late::empty();
        let handled = late.clone();
        let keyed = Arc::new(KeyedGroup::with_handler(
            move |_, _: u64, due: Option<tokio::time::Instant>| {
                if let Some(due) = due {
                    handled.add(due);
                }
                async {}
            },
        ));
        for key in 0..KEYS {
            keyed.insert_after(key, None, HOUR, OnDuplicate::Replace);
        }
        let start = tokio::time::Instant::now();
        let all = seconds * 1000 / APART.as_millis() as u64;
        for entry in 1..=all {
            let due = start + APART * entry as u32;
            keyed.insert_at(KEYS + entry, Some(due), due, OnDuplicate::Replace);
        }
        let threads = [1, 2].map(|seed| {
            let (keyed, mut random) = (Arc::clone(&keyed), Xorshift(seed));
            std::thread::spawn(move || {
                let mut own = 0;
                while start.elapsed() < Duration::from_secs(seconds) {
                    if own >= start.elapsed().as_micros() as u64 * RATE / 2_000_000 {
                        std::thread::sleep(Duration::from_micros(500));
                        continue;
                    }
                    own += u64::from(keyed.reset_after(&random.below(KEYS), HOUR));
                }
                own
            })
        });
        tokio::time::sleep_until(start + Duration::from_secs(seconds + 1)).await;
        let resets = threads.map(|thread| thread.join().expect("a thread"));
        let missing = all - late.0.lock().expect("no handler panics").len() as u64;
        (late, resets.iter().sum::<u64>(), missing)
    });
    let [half, most, all] = late.figures();
    println!(
        "keyed-resets: {missing} missing, late by p50 {half} ms, p99 {most} ms, at most {all} ms beside {} resets a second",
        resets / seconds
    );
    missing + u64::from(most > 20.0)
}

/// A job blocks one of two workers for 300 ms, again and again.
pub(crate) fn blocked(seconds: u64) -> u64 {
    let late = two_workers().block_on(async move {
        let group = Group::new();
        for round in 0..seconds * 2 {
            group.delay(Duration::from_millis(500 * round + 5), async {
                std::thread::sleep(Duration::from_millis(300));
            });
        }
        Late::of_jobs(&group, APART, seconds).await
    });
    let [half, most, all] = late.figures();
    println!("blocked: late by p50 {half} ms, p99 {most} ms, at most {all} ms");
    u64::from(all > 20.0)
}

/// Very many pending jobs are cancelled at once, while another task needs its turns.
pub(crate) fn cancel(jobs: u64) -> u64 {
    let (waited, freed, gap) = two_workers().block_on(async move {
        let group = Group::new();
        let gone = Arc::new(AtomicU64::new(0));
        for job in 0..jobs {
            let payload = Gone(Arc::clone(&gone));
            group.delay(Duration::from_secs(60 + job % 3600), async move {
                drop(payload)
            });
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
        let ticker = tokio::spawn(async {
            let (start, mut last, mut gap) = (Instant::now(), Instant::now(), Duration::ZERO);
            while start.elapsed() < Duration::from_millis(500) {
                tokio::time::sleep(Duration::from_millis(1)).await;
                gap = gap.max(last.elapsed());
                last = Instant::now();
            }
            gap
        });
        tokio::time::sleep(Duration::from_millis(10)).await;
        let start = Instant::now();
        group.cancel();
        group.wait().await.expect_err("it is cancelled");
        let waited = start.elapsed();
        // Looking more often would contend for the count with the destructors that are measured.
        while gone.load(Relaxed) < jobs {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        (waited, start.elapsed(), ticker.await.expect("the ticker"))
    });
    println!(
        "cancel: {jobs} pending freed in {freed:.1?}, wait was back in {waited:.1?}, longest gap of another task {gap:.1?}"
    );
    u64::from(freed > Duration::from_millis(100)) + u64::from(waited > Duration::from_millis(10))
}

/// A group of very many pending jobs is dropped, and then one of a tenth as many running jobs, while another thread
/// queries the state of a job without a pause.
pub(crate) fn end(jobs: u64) -> u64 {
    let mut misses = 0;
    for (what, count, delay) in [
        ("pending", jobs, Duration::from_secs(3600)),
        ("running", jobs / 10, Duration::ZERO),
    ] {
        let (before, beside, freed) = two_workers().block_on(async move {
            let group = Group::new();
            let gone = Arc::new(AtomicU64::new(0));
            for _ in 0..count {
                let payload = Gone(Arc::clone(&gone));
                group.delay(delay, async move {
                    std::future::pending::<()>().await;
                    drop(payload);
                });
            }
            while (delay.is_zero() && group.stats().running < count as usize)
                || group.stats().waiting > 0
            {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
            let asked = group.delay(Duration::MAX, async {});
            let (over, worst) = (
                Arc::new(AtomicBool::new(false)),
                Arc::new(AtomicU64::new(0)),
            );
            let asks = std::thread::spawn({
                let (over, worst) = (Arc::clone(&over), Arc::clone(&worst));
                move || {
                    while !over.load(Relaxed) {
                        let start = Instant::now();
                        asked.state();
                        worst.fetch_max(start.elapsed().as_micros() as u64, Relaxed);
                    }
                }
            });
            tokio::time::sleep(Duration::from_millis(300)).await;
            let before = worst.swap(0, Relaxed);
            let start = Instant::now();
            drop(group);
            while gone.load(Relaxed) < count {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            let freed = start.elapsed();
            over.store(true, Relaxed);
            asks.join().expect("the thread that asks");
            (before, worst.load(Relaxed), freed)
        });
        println!(
            "end: {count} {what} dropped with their group in {freed:.1?}; another thread waited at most {:.3} ms for an answer, {:.3} ms before",
            beside as f64 / 1000.0,
            before as f64 / 1000.0
        );
        // A machine that does other work takes the processor away from the thread that asks, too.
        misses += u64::from(beside > 2_000.max(2 * before));
    }
    misses
}

/// Half of very many pending jobs are cancelled; two thousand more of them start a sweep of the dead entries.
pub(crate) fn sweep(jobs: u64) -> u64 {
    let beat = Duration::from_millis(2);
    let late = two_workers().block_on(async move {
        let group = Group::new();
        let mut pending: Vec<_> = (0..jobs)
            .map(|job| group.delay(Duration::from_secs(3600 + job % 3600), async {}))
            .collect();
        let kept = pending.split_off(jobs as usize / 2 + 2_000);
        let (first, last) = pending.split_at(jobs as usize / 2);
        first.iter().for_each(|job| assert!(job.cancel()));
        // What has come in is in the heap before the first beat.
        Late::of_jobs(&group, Duration::from_millis(500), 1).await;
        let without = Late::of_jobs(&group, beat, 1).await;
        last.iter().for_each(|job| assert!(job.cancel()));
        let with = Late::of_jobs(&group, beat, 1).await;
        assert!(kept.iter().all(|job| job.is_pending()));
        [without, with].map(|late| late.figures())
    });
    for (what, [half, most, all]) in ["without", "with"].into_iter().zip(late) {
        println!("{what} a sweep: late by p50 {half} ms, p99 {most} ms, at most {all} ms");
    }
    u64::from(late[1][2] > late[0][2].max(5.0) + 5.0)
}

/// Very many jobs are due at once, first without and then with a job that is due just before them.
pub(crate) fn front(jobs: u64) -> u64 {
    let late = [None, Some(Duration::from_millis(6))].map(|before| {
        two_workers().block_on(async move {
            let group = Group::new();
            let due = tokio::time::Instant::now() + Duration::from_secs(4);
            let first = Arc::new(AtomicU64::new(u64::MAX));
            for _ in 0..jobs {
                let first = Arc::clone(&first);
                group.schedule(due, async move {
                    first.fetch_min(due.elapsed().as_micros() as u64, Relaxed);
                });
            }
            if let Some(before) = before {
                group.schedule(due - before, async {});
            }
            group.wait().await.expect("no job panics");
            first.load(Relaxed) as f64 / 1000.0
        })
    });
    let [without, with] = late;
    println!("front: the first of {jobs} late by {without} ms, with one before them {with} ms");
    u64::from(with > without.max(5.0) + 10.0)
}
