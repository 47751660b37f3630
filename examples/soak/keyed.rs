//! Keyed groups that end while other threads use them: no value may be lost, no run of a key may overlap another one in
//! an exclusive group, and nothing may hang.

use std::hash::{Hash, Hasher};
use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed, Ordering::SeqCst};
use std::time::{Duration, Instant};

use schedgroup::keyed::{Inserted, KeyedContext, KeyedGroup, KeyedHandle, OnDuplicate};
use schedgroup::{Handle, Report, Stats, WaitError};
use tokio::runtime::Runtime;

use crate::{Xorshift, two_workers};

/// Few keys, so that the threads often use the same one.
const KEYS: u64 = 4;
const PATIENCE: Duration = Duration::from_secs(5);
const FAR: Duration = Duration::from_secs(3600);

/// In a crowded race most entries are expired, and runs take long: in an exclusive group many entries wait for the run
/// of their key.
static IS_CROWDED: AtomicBool = AtomicBool::new(false);

fn is_crowded() -> bool {
    IS_CROWDED.load(Relaxed)
}

fn keys() -> u64 {
    if is_crowded() { 2 } else { KEYS }
}

/// In a crowded race calls often take their time in `Hash`, which is called before the locks are taken, and in `Eq`,
/// which is called under that of the table. What was looked at before the lock, such as the time, has changed by then.
#[derive(Clone, Copy, Eq)]
struct Key(u64);

/// Returns another random number at each call.
fn any() -> u64 {
    static CALLS: AtomicU64 = AtomicU64::new(0);
    CALLS
        .fetch_add(1, Relaxed)
        .wrapping_mul(0x9E37_79B9_7F4A_7C15)
        >> 32
}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        match any() % 32 {
            0 if is_crowded() => std::thread::sleep(Duration::from_micros(any() % 1500)),
            1..=4 if is_crowded() => std::thread::yield_now(),
            _ => {}
        }
        self.0.hash(state);
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Key) -> bool {
        if is_crowded() && any() % 16 == 0 {
            std::thread::yield_now();
        }
        self.0 == other.0
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum End {
    Wait,
    Drain,
    Shutdown,
    Cancel,
    /// The group is dropped while there are handles.
    Drop,
    /// The entries are in a group of another owner. All their handles are dropped, and then that group is waited for.
    DropHandles,
}

/// Counts of one race. An event is a value that was handed in, or was added to a pending value by `debounce_with`.
#[derive(Default)]
struct Ledger {
    /// Events that were handed in. Each of them must be in exactly one of the next three counts in the end.
    made: AtomicU64,
    handled: AtomicU64,
    given_back: AtomicU64,
    /// Events in values that the group has dropped itself.
    dropped: AtomicU64,
    /// Entries that the group must have counted as jobs.
    entries: AtomicU64,
    /// Moves of a pending entry: each of them makes another job if the entry is just being started.
    moved: AtomicU64,
    finished: AtomicU64,
    panicked: AtomicU64,
    aborted: AtomicU64,
    /// Runs that began during another run of their key.
    overlaps: AtomicU64,
    /// Answers that contradict each other, such as a value under another key.
    wrong: AtomicU64,
    running: [AtomicBool; KEYS as usize],
}

fn add(counter: &AtomicU64, count: impl Into<u64>) {
    counter.fetch_add(count.into(), SeqCst);
}

impl Ledger {
    fn value(self: &Arc<Ledger>, key: u64, lives: u64) -> Value {
        add(&self.made, 1_u64);
        Value {
            ledger: Arc::clone(self),
            key,
            lives,
            events: 1,
        }
    }

    /// Counts what an insert or a debounce has returned. Returns whether it was rejected.
    fn inserted(&self, inserted: Inserted<Value>, key: u64, is_debounce: bool) -> bool {
        let is_rejected = matches!(inserted, Inserted::Rejected(_));
        match &inserted {
            Inserted::Replaced(_) if is_debounce => add(&self.moved, 1_u64),
            Inserted::New | Inserted::Replaced(_) => add(&self.entries, 1_u64),
            _ => add(&self.wrong, is_debounce && !is_rejected),
        }
        match inserted {
            Inserted::Replaced(value) | Inserted::Kept(value) | Inserted::Rejected(value) => {
                value.give_back(key);
            }
            _ => {}
        }
        is_rejected
    }

    fn read(&self) -> [u64; 7] {
        [
            &self.made,
            &self.handled,
            &self.given_back,
            &self.dropped,
            &self.aborted,
            &self.panicked,
            &self.overlaps,
        ]
        .map(|count| count.load(SeqCst))
    }

    fn is_settled(&self) -> bool {
        let [made, handled, given_back, dropped, ..] = self.read();
        made == handled + given_back + dropped
    }
}

struct Value {
    ledger: Arc<Ledger>,
    key: u64,
    /// How often its handler inserts another value.
    lives: u64,
    /// Zero once it has come out.
    events: u64,
}

impl Value {
    fn give_back(self, key: u64) {
        self.comes_out(key, |ledger| &ledger.given_back);
    }

    fn comes_out(mut self, key: u64, count: fn(&Ledger) -> &AtomicU64) {
        add(count(&self.ledger), std::mem::take(&mut self.events));
        add(&self.ledger.wrong, self.key != key);
    }
}

impl Drop for Value {
    fn drop(&mut self) {
        add(&self.ledger.dropped, self.events);
    }
}

/// A run of a key, from the call of the handler until its future is dropped.
struct Run {
    ledger: Arc<Ledger>,
    key: u64,
    outcome: fn(&Ledger) -> &AtomicU64,
}

impl Run {
    fn begin(ledger: &Arc<Ledger>, key: u64) -> Run {
        let overlaps = ledger.running[key as usize].swap(true, SeqCst);
        add(&ledger.overlaps, overlaps);
        Run {
            ledger: Arc::clone(ledger),
            key,
            outcome: |ledger| &ledger.aborted,
        }
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        self.ledger.running[self.key as usize].store(false, SeqCst);
        add((self.outcome)(&self.ledger), 1_u64);
    }
}

/// The handler: it returns at once or yields some times, may insert a value for its own or another key, and may panic.
async fn handle(mut run: Run, context: KeyedContext<Key, Value>, lives: u64, mut random: Xorshift) {
    for _ in 0..random.below(if is_crowded() { 2000 } else { 4 }) {
        tokio::task::yield_now().await;
    }
    if lives > 0 {
        let key = (run.key + random.below(2)) % keys();
        let value = run.ledger.value(key, lives - 1);
        let delay = Duration::from_micros(random.below(50));
        let inserted = context.insert_after(Key(key), value, delay, rule(&mut random));
        run.ledger.inserted(inserted, key, false);
    }
    if random.below(50) == 0 {
        run.outcome = |ledger| &ledger.panicked;
        // Unlike `panic!` it prints nothing.
        resume_unwind(Box::new(()));
    }
    run.outcome = |ledger| &ledger.finished;
}

fn rule(random: &mut Xorshift) -> OnDuplicate {
    const RULES: [OnDuplicate; 4] = [
        OnDuplicate::Replace,
        OnDuplicate::Keep,
        OnDuplicate::KeepEarliest,
        OnDuplicate::KeepLatest,
    ];
    RULES[random.below(4) as usize]
}

/// Calls the methods by key until the group rejects a value, and then removes far entries if `wait` would not return.
fn produce(entries: &KeyedHandle<Key, Value>, ledger: &Arc<Ledger>, end: End, random: Xorshift) {
    call_all(entries, ledger, end, random);
    let far = tokio::time::Instant::now() + FAR / 2;
    for key in (0..KEYS).filter(|_| end == End::Wait) {
        if entries.deadline(&Key(key)).is_some_and(|at| at > far) {
            if let Some(value) = entries.remove(&Key(key)) {
                value.give_back(key);
            }
        }
    }
}

/// Calls every method by key, at random, until the group rejects a value, but at most 100 times, or 60 times in a
/// crowded race.
fn call_all(
    entries: &KeyedHandle<Key, Value>,
    ledger: &Arc<Ledger>,
    end: End,
    mut random: Xorshift,
) {
    // Far entries never expire by themselves. `wait` returns since they are removed at the end; but no handle is left
    // to remove them if all are dropped.
    let has_far = end != End::DropHandles;
    let (calls, longest) = if is_crowded() { (60, 1000) } else { (100, 100) };
    for _ in 0..calls {
        if random.below(4) == 0 {
            // The workers start what is due meanwhile.
            (0..random.below(1000)).for_each(|_| std::hint::spin_loop());
        }
        let key = random.below(keys());
        let delay = match random.below(4) {
            0 => Duration::ZERO,
            1 if has_far => FAR,
            _ => Duration::from_micros(random.below(longest)),
        };
        let value = || ledger.value(key, delay.subsec_micros() as u64 % 3);
        let expires = is_crowded() && random.below(2) == 0;
        let rejected = match if expires { 11 } else { random.below(16) } {
            0..=5 => {
                let inserted = entries.insert_after(Key(key), value(), delay, rule(&mut random));
                ledger.inserted(inserted, key, false)
            }
            6 | 7 => {
                let debounced = entries.debounce(Key(key), delay, 2 * delay, value());
                ledger.inserted(debounced, key, true)
            }
            8 | 9 => {
                let (mut made, mut updated) = (false, false);
                let make = || {
                    made = true;
                    value()
                };
                let update = |value: &mut Value| {
                    updated = true;
                    value.events += 1;
                    add(&ledger.made, 1_u64);
                };
                let accepted = entries.debounce_with(Key(key), delay, 2 * delay, make, update);
                add(&ledger.entries, made && accepted);
                add(&ledger.moved, updated);
                // One of them was called if it was accepted.
                add(
                    &ledger.wrong,
                    u64::from(made) + u64::from(updated) != u64::from(accepted),
                );
                !accepted
            }
            10 => {
                let moved = entries.reset_after(&Key(key), delay);
                add(&ledger.moved, moved);
                false
            }
            11 => {
                entries.expire(&Key(key));
                false
            }
            12 => {
                entries.abort(&Key(key));
                false
            }
            13 | 14 => {
                if let Some(value) = entries.remove(&Key(key)) {
                    value.give_back(key);
                }
                false
            }
            _ if random.below(4) == 0 => {
                give_back(entries.drain_values());
                false
            }
            _ => {
                entries.with(&Key(key), |value| add(&ledger.wrong, value.key != key));
                false
            }
        };
        if rejected {
            return;
        }
    }
}

/// Counts the values that came back. Returns how many they were.
fn give_back(values: Vec<(Key, Value)>) -> usize {
    let count = values.len();
    for (Key(key), value) in values {
        value.give_back(key);
    }
    count
}

/// Returns whether the condition holds soon.
fn soon(condition: impl Fn() -> bool) -> bool {
    let start = Instant::now();
    while !condition() {
        if start.elapsed() > PATIENCE {
            return false;
        }
        std::thread::yield_now();
    }
    true
}

/// Two threads call the methods by key while the group ends, in every way to end a group. Each value must have been
/// handled, given back, or dropped with its group, and the counts must agree.
pub(crate) fn keyed_races(races: u64) -> u64 {
    const ENDS: [End; 6] = [
        End::Wait,
        End::Drain,
        End::Shutdown,
        End::Cancel,
        End::Drop,
        End::DropHandles,
    ];
    let (mut misses, runtime) = (0, two_workers());
    for (end, exclusive) in ENDS.into_iter().flat_map(|end| [(end, false), (end, true)]) {
        let (start, races) = (Instant::now(), races / (2 * ENDS.len() as u64));
        let (mut sum, mut astray, mut hung) = ([0; 7], 0, 0);
        for round in 0..races {
            match race(&runtime, end, exclusive, round) {
                Some((counts, missing)) => {
                    astray += missing;
                    for (sum, count) in sum.iter_mut().zip(counts) {
                        *sum += count;
                    }
                }
                None => hung += 1,
            }
        }
        let [
            made,
            handled,
            given_back,
            dropped,
            aborted,
            panicked,
            overlaps,
        ] = sum;
        let kind = if exclusive { "exclusive" } else { "shared" };
        println!(
            "keyed-races: {astray} astray of {made} values, {hung} hung of {races} races against {end:?}, {kind}: {handled} handled, {given_back} given back, {dropped} dropped, {overlaps} runs overlapped, {aborted} aborted, {panicked} panicked, {:.1?}",
            start.elapsed()
        );
        misses += astray + hung;
    }
    misses
}

/// The counts, and how many values they do not tell of; `None` if it hangs.
fn race(runtime: &Runtime, end: End, exclusive: bool, round: u64) -> Option<([u64; 7], u64)> {
    let ledger = Arc::new(Ledger::default());
    // Where nothing that waits is dropped, and at most two runs take all slots.
    let is_crowded = exclusive && round % 3 == 1 && matches!(end, End::Wait | End::DropHandles);
    IS_CROWDED.store(is_crowded, Relaxed);
    let random =
        move |number: u64| Xorshift((1000 * round + number).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    let handler = {
        let ledger = Arc::clone(&ledger);
        move |context, Key(key), value: Value| {
            let run = Run::begin(&ledger, key);
            let (lives, random) = (value.lives, random(3 + ledger.handled.load(SeqCst)));
            value.comes_out(key, |ledger| &ledger.handled);
            handle(run, context, lives, random)
        }
    };
    let builder = || match exclusive {
        false => KeyedGroup::builder(),
        true => KeyedGroup::builder().exclusive(),
    };
    let owner = builder()
        .runtime(runtime.handle().clone())
        .max_running([1, 2, usize::MAX][round as usize % 3])
        .build_with(handler.clone());
    let stats = AsRef::<Handle>::as_ref(&owner).clone();
    let entries = match end {
        End::DropHandles => builder().on_with(&owner, handler.clone()),
        _ => owner.handle(),
    };
    let producers = [1, 2].map(|number| {
        let (entries, ledger, random) = (entries.clone(), Arc::clone(&ledger), random(number));
        std::thread::spawn(move || {
            produce(&entries, &ledger, end, random);
            // Kept until the group has ended: the drop of a handle makes the group look whether it has drained.
            (end != End::DropHandles).then_some(entries)
        })
    });
    let is_finished = std::thread::JoinHandle::is_finished;
    let have_produced = || soon(|| producers.iter().all(is_finished));
    // After a different number of values in each round.
    soon(|| ledger.made.load(SeqCst) >= round * 7919 % 100 || producers.iter().all(is_finished));
    let entries = (end != End::DropHandles).then_some(entries);
    if end == End::DropHandles && round % 2 == 0 && !have_produced() {
        return None;
    }
    let owner = (end != End::Drop).then_some(owner);
    let ended = match &owner {
        Some(owner) => {
            let ended = async {
                let ended = end_of(owner, end, round, &ledger);
                tokio::time::timeout(PATIENCE, ended).await
            };
            runtime.block_on(ended).ok()?
        }
        None => Ended::default(),
    };
    let is_idle = || {
        let stats = stats.stats();
        stats.pending == 0 && stats.running == 0
    };
    let mut missing = u64::from(ended.drained && !is_idle());
    if !have_produced() || !soon(is_idle) {
        return None;
    }
    for producer in producers {
        drop(producer.join().expect("a producer"));
    }
    if let (Some(entries), Some(_)) = (&entries, &owner) {
        let left = give_back(entries.drain_values());
        missing += if ended.may_leave { 0 } else { left as u64 };
    }
    // The values of a dropped group are dropped in a turn of its driver.
    soon(|| ledger.is_settled() && entries.as_ref().is_none_or(KeyedHandle::is_empty));
    missing += entries.as_ref().map_or(0, KeyedHandle::len) as u64;

    missing += astray(&ledger, &stats.stats(), end, exclusive, &ended);
    // Nothing keeps the handler or a value in memory any longer.
    drop((owner, entries, stats, handler));
    missing += u64::from(!soon(|| Arc::strong_count(&ledger) == 1));
    Some((ledger.read(), missing))
}

/// How many values are lost, runs overlap, and counts contradict each other.
fn astray(ledger: &Ledger, stats: &Stats, end: End, exclusive: bool, ended: &Ended) -> u64 {
    let load = |count: &AtomicU64| count.load(SeqCst);
    let out = load(&ledger.handled) + load(&ledger.given_back) + load(&ledger.dropped);
    let mut astray = load(&ledger.made).abs_diff(out) + load(&ledger.wrong);
    if end != End::Drop {
        astray += load(&ledger.dropped);
    }
    if exclusive {
        astray += load(&ledger.overlaps);
    }
    let jobs = stats.finished + stats.cancelled + stats.panicked;
    let fewest = load(&ledger.entries);
    astray += jobs.abs_diff(jobs.clamp(fewest, fewest + load(&ledger.moved)));
    astray += stats.finished.abs_diff(load(&ledger.finished));
    astray += stats.panicked.abs_diff(load(&ledger.panicked));
    astray += load(&ledger.aborted).saturating_sub(stats.cancelled);
    if let Some(is_ok) = ended.waited {
        astray += u64::from(is_ok != (stats.panicked == 0));
    }
    if let Some(report) = ended.report {
        let reported = (report.finished + report.aborted + report.dropped) as u64;
        astray += reported.saturating_sub(jobs);
    }
    astray
}

/// What the end of a group has said.
#[derive(Default)]
struct Ended {
    /// No entry is pending and no handler runs any more.
    drained: bool,
    /// Values may be left in the table.
    may_leave: bool,
    /// Whether `wait` returned `Ok`, where only a panic prevents it.
    waited: Option<bool>,
    report: Option<Report>,
}

async fn end_of(owner: &KeyedGroup<Key, Value>, end: End, round: u64, ledger: &Ledger) -> Ended {
    let grace = Duration::from_micros(round % 2 * 50);
    let ending = match end {
        End::Wait | End::DropHandles => {
            let waited = owner.wait().await;
            let is_expected = matches!(waited, Ok(()) | Err(WaitError::Panicked(_)));
            add(&ledger.wrong, !is_expected);
            return Ended {
                drained: true,
                waited: Some(waited.is_ok()),
                ..Ended::default()
            };
        }
        End::Cancel => {
            owner.cancel();
            let waited = owner.wait().await;
            add(&ledger.wrong, !matches!(waited, Err(WaitError::Cancelled)));
            return Ended {
                may_leave: true,
                ..Ended::default()
            };
        }
        End::Drain => owner.drain(grace),
        End::Shutdown => owner.shutdown(grace),
        End::Drop => unreachable!("a dropped group has no methods"),
    };
    if round % 4 == 3 {
        // It goes on, and `drain_values` returns what is left.
        drop(ending);
        let _ = owner.wait().await;
        return Ended {
            drained: true,
            may_leave: true,
            ..Ended::default()
        };
    }
    let (report, left) = ending.await;
    // What is removed during the end counts as dropped too.
    add(&ledger.wrong, report.dropped < give_back(left));
    Ended {
        drained: true,
        report: Some(report),
        ..Ended::default()
    }
}
