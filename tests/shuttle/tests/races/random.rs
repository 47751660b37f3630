//! Calls that are chosen at random, by two threads at once, and then one of the ends. Each job and each value is accounted
//! for.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use schedgroup::keyed::{Inserted, KeyedGroup, KeyedHandle, OnDuplicate};
use schedgroup::{Group, JobHandle, JobState, Next, WaitError};
use shuttle::rand::{Rng, thread_rng};
use shuttle::{future, thread};

use crate::{Entry, Ledger, NEVER, NOW, explore};

fn random(below: usize) -> usize {
    thread_rng().gen_range(0..below)
}

/// One time in `n` never, otherwise now.
fn seldom_never(n: usize) -> Duration {
    if random(n) == 0 { NEVER } else { NOW }
}

#[derive(Clone)]
struct Scheduled {
    handle: JobHandle,
    is_series: bool,
    runs: Arc<AtomicUsize>,
    cancels: Arc<AtomicUsize>,
    aborts: Arc<AtomicUsize>,
}

const RUNS_OF_SERIES: u64 = 3;

/// A job of a random kind. `nested` counts the jobs that it schedules itself.
fn schedule(group: &Group, ledger: &Ledger, nested: &Arc<AtomicUsize>) -> Scheduled {
    let (entry, runs) = (Entry(ledger.clone()), Arc::<AtomicUsize>::default());
    let (began, nested) = (Arc::clone(&runs), Arc::clone(nested));
    let (kind, when) = (random(5), seldom_never(4));
    let job = async move {
        let _entry = entry;
        began.fetch_add(1, SeqCst);
        if kind > 0 {
            future::yield_now().await;
        }
    };
    let handle = match kind {
        0 | 1 => group.delay(when, job),
        2 => group.spawn_after(when, job).job().clone(),
        3 => group.delay_with(when, move |context| {
            let accepted = context.try_delay(NOW, async {}).is_ok();
            nested.fetch_add(usize::from(accepted), SeqCst);
            job
        }),
        _ => {
            let runs = Arc::clone(&runs);
            group.repeat(tokio::time::Instant::now(), move |context| {
                let _until_its_end = &job;
                runs.fetch_add(1, SeqCst);
                async move {
                    future::yield_now().await;
                    match context.run() < RUNS_OF_SERIES {
                        true => Next::After(NOW),
                        false => Next::Done,
                    }
                }
            })
        }
    };
    Scheduled {
        handle,
        is_series: kind == 4,
        runs,
        cancels: Arc::default(),
        aborts: Arc::default(),
    }
}

fn call(group: &Group, jobs: &[Scheduled]) {
    let job = &jobs[random(jobs.len())];
    match random(7) {
        0 => {
            if job.handle.cancel() {
                assert_eq!(job.cancels.fetch_add(1, SeqCst), 0, "two prevented it");
                let (runs, state) = (job.runs.load(SeqCst), job.handle.state());
                assert!(job.is_series || (runs, state) == (0, JobState::Cancelled));
            }
        }
        1 => {
            job.aborts.fetch_add(1, SeqCst);
            job.handle.abort();
        }
        2 => _ = job.handle.reset_after(seldom_never(2)),
        3 => _ = job.handle.state(),
        4 => {
            let stats = group.stats();
            assert!(stats.waiting <= stats.pending, "{stats:?}");
        }
        5 => {
            let of_job = |state| matches!(state, JobState::Pending | JobState::Running);
            assert!(group.jobs().iter().all(|job| of_job(job.state)));
        }
        _ => drop(job.handle.clone()),
    }
}

/// Two threads that call `call` a few times each. They are joined now, or else by the caller.
fn two_threads(call: impl Fn() + Clone + Send + 'static) -> Vec<thread::JoinHandle<()>> {
    let threads = [(); 2].map(|()| {
        let call = call.clone();
        thread::spawn(move || (0..3).for_each(|_| call()))
    });
    let mut threads = Vec::from(threads);
    if random(2) == 0 {
        join(&mut threads);
    }
    threads
}

fn join(threads: &mut Vec<thread::JoinHandle<()>>) {
    for thread in threads.drain(..) {
        thread.join().unwrap();
    }
}

async fn calls(limit: Option<usize>) {
    let builder = Group::builder();
    let group = Arc::new(match limit {
        Some(limit) => builder.max_running(limit).build(),
        None => builder.build(),
    });
    let (ledger, nested) = (Ledger::default(), Arc::default());
    let count = 3 + random(3);
    let jobs: Vec<_> = (0..count)
        .map(|_| schedule(&group, &ledger, &nested))
        .collect();
    let (shared, of_threads) = (Arc::clone(&group), jobs.clone());
    let mut threads = two_threads(move || call(&shared, &of_threads));
    let end = random(4);
    match end {
        0 => _ = group.shutdown(seldom_never(2)).await,
        1 => _ = group.drain(NOW).await,
        2 => {
            group.cancel();
            let waited = group.wait().await;
            assert!(matches!(waited, Err(WaitError::Cancelled)), "{waited:?}");
            group.shutdown(NEVER).await;
        }
        _ => {
            join(&mut threads);
            for job in &jobs {
                job.handle.reset_after(NOW);
            }
            group.wait().await.expect("no job panics");
        }
    }
    join(&mut threads);
    let (stats, accepted) = (group.stats(), (count + nested.load(SeqCst)) as u64);
    assert_eq!((stats.pending, stats.running, stats.waiting), (0, 0, 0));
    assert_eq!(stats.finished + stats.cancelled, accepted, "{stats:?}");
    assert_eq!(ledger.counts().2, count, "each of them is gone");
    assert!(group.jobs().is_empty());
    for job in jobs {
        let [runs, cancels, aborts] =
            [&job.runs, &job.cancels, &job.aborts].map(|count| count.load(SeqCst));
        let is_finished = match job.handle.state() {
            JobState::Finished => true,
            JobState::Cancelled => false,
            state => panic!("{state:?} after the end"),
        };
        assert!(job.is_series || runs <= 1, "{runs} runs");
        assert!(runs > 0 || !is_finished, "it never ran");
        assert!(cancels == 0 || !is_finished, "a cancel prevented a run");
        if end == 3 && aborts + cancels == 0 {
            let most = if job.is_series { RUNS_OF_SERIES } else { 1 };
            assert!(is_finished && runs as u64 >= most, "{runs} runs");
        }
    }
}

#[test]
fn every_job_is_accounted_for_whatever_is_called() {
    explore(|| future::block_on(calls(None)));
}

#[test]
fn every_job_of_a_group_with_a_limit_is_accounted_for_whatever_is_called() {
    explore(|| future::block_on(calls(Some(1 + random(2)))));
}

/// Which values there are, and which have come back or were handled. Values are bits.
#[derive(Clone, Default)]
struct Values {
    made: Arc<AtomicUsize>,
    seen: Arc<AtomicUsize>,
}

impl Values {
    fn make(&self) -> usize {
        1 << self.made.fetch_add(1, SeqCst)
    }

    fn note(&self, value: usize) {
        let before = self.seen.fetch_or(value, SeqCst);
        assert_eq!(before & value, 0, "{value} was seen before");
    }

    fn returned(&self, inserted: Inserted<usize>) {
        match inserted {
            Inserted::New => {}
            Inserted::Replaced(value) | Inserted::Kept(value) | Inserted::Rejected(value) => {
                self.note(value);
            }
            other => panic!("{other:?} is new"),
        }
    }
}

const KEYS: usize = 2;

/// Mostly the first, so that entries meet.
fn random_key() -> u8 {
    u8::from(random(4) == 0)
}

fn random_rule() -> OnDuplicate {
    use OnDuplicate::{Keep, KeepEarliest, KeepLatest, Replace};
    [Replace, Keep, KeepEarliest, KeepLatest][random(4)]
}

fn keyed_call(keyed: &KeyedHandle<u8, usize>, values: &Values) {
    let (key, when) = (random_key(), seldom_never(3));
    match random(12) {
        0..=2 => values.returned(keyed.insert_after(key, values.make(), when, random_rule())),
        3 => values.returned(keyed.debounce(key, when, NEVER, values.make())),
        4 => keyed
            .remove(&key)
            .into_iter()
            .for_each(|value| values.note(value)),
        5 => _ = keyed.expire(&key),
        6 => _ = keyed.reset_after(&key, when),
        7 => _ = keyed.with(&key, |value| *value),
        8 => _ = (keyed.keys(), keyed.len(), keyed.contains_key(&key)),
        9 => keyed
            .drain_values()
            .into_iter()
            .for_each(|(_, value)| values.note(value)),
        10 => _ = keyed.abort(&key),
        _ => _ = (keyed.deadline(&key), keyed.as_ref().stats()),
    }
}

/// A run that goes on, until it is dropped.
struct Run(Arc<[AtomicUsize; KEYS]>, u8);

impl Drop for Run {
    fn drop(&mut self) {
        self.0[usize::from(self.1)].fetch_sub(1, SeqCst);
    }
}

async fn keyed_calls(is_exclusive: bool) {
    let mut builder = KeyedGroup::<u8, usize>::builder();
    if random(2) == 0 {
        builder = builder.max_running(1 + random(2));
    }
    if is_exclusive {
        builder = builder.exclusive();
    }
    let (values, running) = (Values::default(), Arc::<[AtomicUsize; KEYS]>::default());
    let of_handler = values.clone();
    let keyed = builder.build_with(move |context, key, value| {
        let before = running[usize::from(key)].fetch_add(1, SeqCst);
        assert!(!is_exclusive || before == 0, "two runs of {key}");
        let (run, values) = (Run(Arc::clone(&running), key), of_handler.clone());
        values.note(value);
        async move {
            if random(2) == 0 {
                future::yield_now().await;
            } else if values.made.load(SeqCst) < 32 {
                let inserted = context.insert_after(key, values.make(), NOW, random_rule());
                values.returned(inserted);
            }
            drop(run);
        }
    });
    for _ in 0..2 + random(3) {
        let key = random_key();
        values.returned(keyed.insert_after(key, values.make(), NOW, random_rule()));
        // An expired one is not replaced by the next.
        if random(3) > 0 {
            keyed.expire(&key);
        }
    }
    let (handle, of_threads) = (keyed.handle(), values.clone());
    let mut threads = two_threads(move || keyed_call(&handle, &of_threads));
    let left = match random(4) {
        0 => keyed.shutdown(seldom_never(2)).await.1,
        1 => keyed.drain(NOW).await.1,
        2 => {
            keyed.cancel();
            keyed.wait().await.unwrap_err();
            keyed.shutdown(NEVER).await.1
        }
        _ => {
            join(&mut threads);
            (0..KEYS as u8).for_each(|key| _ = keyed.expire(&key));
            keyed.wait().await.expect("no handler panics");
            Vec::new()
        }
    };
    join(&mut threads);
    let left = left.into_iter().chain(keyed.drain_values());
    left.for_each(|(_, value)| values.note(value));
    let all = (1 << values.made.load(SeqCst)) - 1;
    assert_eq!(values.seen.load(SeqCst), all, "each value is seen once");
    let stats = keyed.stats();
    assert_eq!((stats.pending, stats.running, stats.waiting), (0, 0, 0));
    assert_eq!((stats.panicked, keyed.len()), (0, 0));
}

#[test]
fn every_value_is_accounted_for_whatever_is_called() {
    explore(|| future::block_on(keyed_calls(false)));
}

#[test]
fn every_value_of_exclusive_keys_is_accounted_for_whatever_is_called() {
    explore(|| future::block_on(keyed_calls(true)));
}
