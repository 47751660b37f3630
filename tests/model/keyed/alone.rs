//! One history of keys that run alone beside a list of entries per key: what waits for a run of its key, what is done
//! to it meanwhile, and every end of the group in the middle of it.
//!
//! Times are whole milliseconds, and each kind has a millisecond of its own in every eight: so no two that race share
//! one, and the outcome is one and only one.

use std::collections::{BTreeMap, BTreeSet};
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use schedgroup::keyed::{Inserted, KeyedContext, KeyedGroup, OnDuplicate};
use schedgroup::{Report, WaitError};
use tokio::time::{Instant, sleep_until};

use super::play::{Step, wins};
use crate::common::{Log, alive_tasks, ms};

// What happens where in every eight milliseconds. Entries are due in the first one.
const ACTS: u64 = 1;
const LOOKS: u64 = 2;
const RUN_ENDS: u64 = 4;
const GROUP_ENDS: u64 = 6;

/// Few, so that several entries wait for one run.
const KEYS: u64 = 2;

/// When the run of that value that begins now ends.
fn run_ends(now: u64, value: u64) -> u64 {
    match value / 4 % 6 {
        0 => now,
        length => (now / 8 + (1 << length)) * 8 + RUN_ENDS,
    }
}

/// An entry of such a value inserts another one under its key at the end of its run; that one does not.
fn inserts_again(value: u64) -> Option<u64> {
    (value % 4 == 1).then(|| value + 1_001)
}

/// When that one is due.
fn again(now: u64) -> u64 {
    (now / 8 + 2) * 8
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum What {
    Begins,
    Ends,
}

type Record = (u64, u64, u64, What);

#[derive(Clone, Copy, Debug)]
struct Entry {
    value: u64,
    due: u64,
    first: Option<u64>,
    /// The group still has a job for it.
    held: bool,
}

#[derive(Debug, Default)]
struct Key {
    pending: Option<Entry>,
    expired: Vec<Entry>,
    /// The value of the run, and when it ends.
    run: Option<(u64, u64)>,
}

impl Key {
    fn entries(&mut self) -> impl Iterator<Item = &mut Entry> {
        self.pending.iter_mut().chain(&mut self.expired)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Waited {
    Ok,
    Cancelled,
    DeadlineExceeded,
}

/// Finished, aborted, dropped.
type Counts = [usize; 3];
/// How a drain or a shutdown ends: its report, the values that are left, and when.
type Ended = (Counts, Vec<(u64, u64)>, u64);

fn since(before: Counts, now: Counts) -> Counts {
    [0, 1, 2].map(|count| now[count] - before[count])
}

#[derive(Debug)]
struct Model {
    now: u64,
    keys: BTreeMap<u64, Key>,
    records: BTreeSet<Record>,
    counts: Counts,
    closed: bool,
    stopped: Option<Waited>,
    /// Nothing is inserted or moved any more, and only what was due by then runs; the counts at that time.
    sealed: Option<(u64, Counts)>,
    grace_ends: u64,
    deadline: u64,
    drained: bool,
    waits: bool,
    waited: Option<(Waited, u64)>,
    /// The counts before the drain or shutdown.
    ending: Option<Counts>,
    ended: Option<Ended>,
}

impl Model {
    fn new(deadline: u64) -> Model {
        Model {
            now: ACTS,
            keys: (0..KEYS).map(|key| (key, Key::default())).collect(),
            records: BTreeSet::new(),
            counts: [0; 3],
            closed: false,
            stopped: None,
            sealed: None,
            grace_ends: u64::MAX,
            deadline,
            drained: false,
            waits: false,
            waited: None,
            ending: None,
            ended: None,
        }
    }

    fn key(&mut self, key: u64) -> &mut Key {
        self.keys.get_mut(&key).unwrap()
    }

    fn may_move(&self) -> bool {
        self.stopped.is_none() && self.sealed.is_none() && !self.drained
    }

    fn admits(&self) -> bool {
        !self.closed && self.may_move()
    }

    fn may_start(&self, due: u64) -> bool {
        self.stopped.is_none()
            && self.now < self.grace_ends
            && self.sealed.is_none_or(|(sealed, _)| due <= sealed)
    }

    /// Counts the jobs of the entries that do not start any more.
    fn drop_jobs(&mut self) {
        let mut keys = std::mem::take(&mut self.keys);
        for entry in keys.values_mut().flat_map(Key::entries) {
            if entry.held && !self.may_start(entry.due) {
                entry.held = false;
                self.counts[2] += 1;
            }
        }
        self.keys = keys;
    }

    fn stop(&mut self, why: Waited) {
        if self.stopped.is_none() && !self.drained {
            self.stopped = Some(why);
            self.drop_jobs();
        }
    }

    fn seal(&mut self) {
        self.sealed.get_or_insert((self.now, self.counts));
        self.drop_jobs();
    }

    /// Everything that happens now.
    fn settle(&mut self) {
        if self.now >= self.deadline {
            self.stop(Waited::DeadlineExceeded);
        }
        if self.now >= self.grace_ends && !self.drained {
            self.seal();
            for key in self.keys.values_mut() {
                self.counts[1] += usize::from(key.run.take().is_some());
            }
        }
        for key in 0..KEYS {
            while self.ends_run(key) || self.begins_run(key) {}
        }
        self.look();
    }

    fn ends_run(&mut self, key: u64) -> bool {
        let now = self.now;
        let Some((value, _)) = self.key(key).run.take_if(|(_, ends)| *ends <= now) else {
            return false;
        };
        self.records.insert((now, key, value, What::Ends));
        self.counts[0] += 1;
        if let Some(value) = inserts_again(value).filter(|_| self.may_move()) {
            let again = Entry {
                value,
                due: again(now),
                first: None,
                held: true,
            };
            self.key(key).pending.get_or_insert(again);
        }
        true
    }

    fn begins_run(&mut self, key: u64) -> bool {
        let now = self.now;
        if self.key(key).run.is_some() {
            return false;
        }
        let first = self.key(key).entries().map(|entry| entry.due).min();
        let Some(due) = first.filter(|&due| due <= now && self.may_start(due)) else {
            return false;
        };
        let known = self.key(key);
        let entry = match known.pending.take_if(|entry| entry.due == due) {
            Some(entry) => entry,
            None => {
                let place = known.expired.iter().position(|entry| entry.due == due);
                known.expired.remove(place.unwrap())
            }
        };
        known.run = Some((entry.value, run_ends(now, entry.value)));
        self.records.insert((now, key, entry.value, What::Begins));
        true
    }

    /// Answers those who wait.
    fn look(&mut self) {
        let entries = self.keys.values_mut().flat_map(Key::entries);
        let held = entries.filter(|entry| entry.held).count();
        self.drained |= (self.closed || self.stopped.is_some()) && held == 0 && self.running() == 0;
        let left_over = self.sealed.is_some_and(|(_, before)| {
            let [_, aborted, dropped] = since(before, self.counts);
            aborted + dropped > 0
        });
        let answer = match self.stopped {
            Some(why) => Some(why),
            None if !self.drained => None,
            None if left_over => Some(Waited::Cancelled),
            None => Some(Waited::Ok),
        };
        if let Some(answer) = answer.filter(|_| self.waits) {
            self.waited.get_or_insert((answer, self.now));
        }
        if let Some(before) = self.ending.take_if(|_| self.drained) {
            let report = since(before, self.counts);
            self.ended = Some((report, self.take_values(), self.now));
        }
    }

    fn running(&self) -> usize {
        self.keys.values().filter(|key| key.run.is_some()).count()
    }

    /// Lets everything happen that happens by then.
    fn pass(&mut self, to: u64) {
        loop {
            self.settle();
            let keys = self.keys.values().flat_map(|key| {
                let run = key.run.map(|(_, ends)| ends);
                run.into_iter().chain(key.pending.map(|entry| entry.due))
            });
            let events = keys.chain([self.deadline, self.grace_ends]);
            let Some(next) = events.filter(|&at| self.now < at && at <= to).min() else {
                break;
            };
            self.now = next;
        }
        self.now = to;
    }

    fn insert(&mut self, key: u64, value: u64, due: u64, rule: OnDuplicate) -> Inserted<u64> {
        if !self.admits() {
            return Inserted::Rejected(value);
        }
        let known = self.key(key).pending;
        if !wins(rule, due, known.map(|known| known.due)) {
            return Inserted::Kept(value);
        }
        self.key(key).pending = Some(Entry {
            value,
            due,
            first: None,
            held: true,
        });
        known.map_or(Inserted::New, |known| {
            self.counts[2] += 1;
            Inserted::Replaced(known.value)
        })
    }

    /// The entry that was there.
    fn debounce(&mut self, key: u64, value: u64, quiet: u64, ceiling: u64) -> Option<Entry> {
        let now = self.now;
        let known = self.key(key).pending;
        let first = known.and_then(|known| known.first).unwrap_or(now);
        self.key(key).pending = Some(Entry {
            value,
            due: (now + quiet).min(first + ceiling),
            first: Some(first),
            held: true,
        });
        known
    }

    fn remove(&mut self, key: u64) -> Option<u64> {
        let removed = self.key(key).pending.take()?;
        self.counts[2] += usize::from(removed.held);
        Some(removed.value)
    }

    fn expire(&mut self, key: u64) -> bool {
        let Some(mut entry) = self.key(key).pending else {
            return false;
        };
        let expires = match entry.due <= self.now {
            true => !self.drained && self.may_start(entry.due),
            false => self.may_move(),
        };
        if expires {
            entry.due = entry.due.min(self.now);
            let known = self.key(key);
            known.pending = None;
            known.expired.push(entry);
        }
        expires
    }

    fn take_values(&mut self) -> Vec<(u64, u64)> {
        let mut all = Vec::new();
        for (&key, known) in &mut self.keys {
            for entry in known
                .pending
                .take()
                .into_iter()
                .chain(known.expired.drain(..))
            {
                self.counts[2] += usize::from(entry.held);
                all.push((key, entry.value));
            }
        }
        all.sort_unstable();
        all
    }
}

type Calls<T> = Option<Pin<Box<dyn Future<Output = T>>>>;

struct Player {
    keyed: Arc<KeyedGroup<u64, u64>>,
    start: Instant,
    log: Log<(u64, u64, What)>,
    wait: Calls<Result<(), WaitError>>,
    waited: Option<(Waited, u64)>,
    end: Calls<(Report, Vec<(u64, u64)>)>,
    ended: Option<Ended>,
    model: Model,
}

pub(crate) async fn play(steps: Vec<Step>) {
    let mut steps = steps.into_iter();
    let settings = steps.next().unwrap_or_default();
    let mut player = Player::new(&settings);
    player.to(ACTS).await;
    for (number, step) in steps.enumerate() {
        player.step(number as u64 + 1, step);
        player.to(player.model.now / 8 * 8 + LOOKS).await;
        player.compare(&format!("{number}: {step:?}"));
        player
            .to((player.model.now / 8 + step.0 + 1) * 8 + ACTS)
            .await;
    }
    player.finish().await;
}

impl Player {
    fn new((which, _, _, one, _): &Step) -> Player {
        let (log, start) = (Log::new(), Instant::now());
        let deadline = match which {
            0 => (one + 1) * 40 + GROUP_ENDS,
            _ => u64::MAX,
        };
        let mut builder = KeyedGroup::builder().exclusive();
        if deadline != u64::MAX {
            builder = builder.deadline(start + ms(deadline));
        }
        let runs = log.clone();
        let keyed = builder.build_with(move |context: KeyedContext<u64, u64>, key, value: u64| {
            let now = start.elapsed().as_millis() as u64;
            runs.push((key, value, What::Begins));
            let runs = runs.clone();
            async move {
                let ends = run_ends(now, value);
                if ends > now {
                    sleep_until(start + ms(ends)).await;
                }
                if let Some(value) = inserts_again(value) {
                    let at = start + ms(again(ends));
                    let _ = context.insert_at(key, value, at, OnDuplicate::Keep);
                }
                runs.push((key, value, What::Ends));
            }
        });
        Player {
            keyed: Arc::new(keyed),
            start,
            log,
            wait: None,
            waited: None,
            end: None,
            ended: None,
            model: Model::new(deadline),
        }
    }

    /// Lets time pass, and polls what was called.
    async fn to(&mut self, to: u64) {
        let mut sleep = Box::pin(sleep_until(self.start + ms(to)));
        poll_fn(|cx| {
            self.poll_calls(cx);
            sleep.as_mut().poll(cx)
        })
        .await;
        self.model.pass(to);
    }

    fn poll_calls(&mut self, cx: &mut Context<'_>) {
        let now = self.start.elapsed().as_millis() as u64;
        if let Some(Poll::Ready(result)) = self.wait.as_mut().map(|wait| wait.as_mut().poll(cx)) {
            self.wait = None;
            let waited = match result {
                Ok(()) => Waited::Ok,
                Err(WaitError::DeadlineExceeded) => Waited::DeadlineExceeded,
                Err(WaitError::Cancelled) => Waited::Cancelled,
                Err(error) => panic!("{error:?}"),
            };
            self.waited = Some((waited, now));
        }
        if let Some(Poll::Ready((report, mut left))) =
            self.end.as_mut().map(|end| end.as_mut().poll(cx))
        {
            self.end = None;
            left.sort_unstable();
            let counts = [report.finished, report.aborted, report.dropped];
            self.ended = Some((counts, left, now));
        }
    }

    fn step(&mut self, number: u64, (_, verb, key, one, other): Step) {
        let (keyed, model, start) = (&self.keyed, &mut self.model, self.start);
        let (now, key) = (model.now, key % KEYS);
        let value = 100 * number + 4 * (other % 6) + one % 4;
        let due = if one == 0 { now } else { now + 8 * one + 7 };
        let rules = [
            OnDuplicate::Replace,
            OnDuplicate::Keep,
            OnDuplicate::KeepEarliest,
            OnDuplicate::KeepLatest,
        ];
        match verb {
            0..6 => {
                let rule = rules[(verb % 4) as usize];
                let inserted = keyed.insert_at(key, value, start + ms(due), rule);
                assert_eq!(inserted, model.insert(key, value, due, rule), "{number}");
            }
            6 => assert_eq!(keyed.remove(&key), model.remove(key), "{number}"),
            7 | 8 => {
                let may_move = model.may_move();
                let known = model.key(key).pending.as_mut().filter(|_| may_move);
                let expected = known.map(|entry| entry.due = due).is_some();
                assert_eq!(keyed.reset_at(&key, start + ms(due)), expected, "{number}");
            }
            9..12 => assert_eq!(keyed.expire(&key), model.expire(key), "{number}"),
            12 | 13 => {
                let (quiet, ceiling) = self.debounces(key, one, other);
                let (keyed, model) = (&self.keyed, &mut self.model);
                let expected = match model.admits() {
                    false => Inserted::Rejected(value),
                    true => match model.debounce(key, value, quiet, ceiling) {
                        None => Inserted::New,
                        Some(known) => Inserted::Replaced(known.value),
                    },
                };
                let debounced = keyed.debounce(key, ms(quiet), ms(ceiling), value);
                assert_eq!(debounced, expected, "{number}");
            }
            14 => {
                let (quiet, ceiling) = self.debounces(key, one, other);
                let (keyed, model) = (&self.keyed, &mut self.model);
                let admits = model.admits();
                if admits {
                    let known = model.key(key).pending.map(|known| known.value + 24);
                    model.debounce(key, known.unwrap_or(value), quiet, ceiling);
                }
                let add = |known: &mut u64| *known += 24;
                let debounced = keyed.debounce_with(key, ms(quiet), ms(ceiling), || value, add);
                assert_eq!(debounced, admits, "{number}");
            }
            15 => {
                let run = model.key(key).run.take();
                model.counts[1] += usize::from(run.is_some());
                assert_eq!(keyed.abort(&key), run.is_some(), "{number}");
            }
            16 if one < 3 => {
                let mut drained = keyed.drain_values();
                drained.sort_unstable();
                assert_eq!(drained, model.take_values(), "{number}");
            }
            17 => self.end(one, other),
            _ => {}
        }
    }

    fn debounces(&mut self, key: u64, one: u64, other: u64) -> (u64, u64) {
        let now = self.model.now;
        let first = self.model.key(key).pending.and_then(|known| known.first);
        let passed = first.map_or(0, |first| now - first);
        (8 * one + 7, passed + 8 * other + 7)
    }

    /// Calls a method that ends the group, unless it was called before.
    fn end(&mut self, which: u64, grace: u64) {
        let (keyed, model) = (Arc::clone(&self.keyed), &mut self.model);
        let ends = match grace {
            0 => model.now,
            19 => u64::MAX,
            grace => model.now / 8 * 8 + 8 * grace + GROUP_ENDS,
        };
        let grace = match ends {
            u64::MAX => Duration::MAX,
            ends => ms(ends - model.now),
        };
        let is_ending = model.ending.is_some() || model.ended.is_some();
        match which {
            0 if !model.waits => {
                model.closed = true;
                model.waits = true;
                self.wait = Some(Box::pin(async move { keyed.wait().await }));
            }
            1..=2 if !is_ending => {
                model.ending = Some(model.counts);
                model.closed = true;
                model.grace_ends = model.grace_ends.min(ends);
                self.end = Some(Box::pin(async move { keyed.drain(grace).await }));
            }
            3..=4 if !is_ending => {
                model.ending = Some(model.counts);
                model.closed = true;
                model.grace_ends = model.grace_ends.min(ends);
                model.seal();
                self.end = Some(Box::pin(async move { keyed.shutdown(grace).await }));
            }
            5 => {
                model.stop(Waited::Cancelled);
                keyed.cancel();
            }
            _ => {}
        }
        self.poll_calls(&mut Context::from_waker(std::task::Waker::noop()));
        self.model.settle();
    }

    fn compare(&mut self, step: &str) {
        let (keyed, model, start) = (&self.keyed, &mut self.model, self.start);
        let records = self.log.take().into_iter();
        let records: BTreeSet<Record> = records
            .map(|((key, value, what), at)| (at.as_millis() as u64, key, value, what))
            .collect();
        assert_eq!(records, std::mem::take(&mut model.records), "after {step}");
        assert_eq!(self.waited, model.waited, "after {step}");
        assert_eq!(self.ended, model.ended, "after {step}");
        let mut len = 0;
        for key in 0..KEYS {
            let pending = model.key(key).pending;
            len += usize::from(pending.is_some());
            let value = keyed.with(&key, |value| *value);
            assert_eq!(
                value,
                pending.map(|entry| entry.value),
                "{key} after {step}"
            );
            assert_eq!(
                keyed.contains_key(&key),
                pending.is_some(),
                "{key} after {step}"
            );
            let due = pending.filter(|entry| model.may_start(entry.due));
            let due = due.map(|entry| start + ms(entry.due));
            assert_eq!(keyed.deadline(&key), due, "{key} after {step}");
        }
        assert_eq!(
            (keyed.len(), keyed.keys().len()),
            (len, len),
            "after {step}"
        );
        let entries = model.keys.values_mut().flat_map(Key::entries);
        let held = entries.filter(|entry| entry.held).count();
        let stats = keyed.stats();
        assert_eq!(
            (stats.pending, stats.running),
            (held, model.running()),
            "after {step}: {model:?}"
        );
        let counts = [stats.finished, stats.cancelled].map(|count| count as usize);
        let [finished, aborted, dropped] = model.counts;
        assert_eq!(counts, [finished, aborted + dropped], "after {step}");
    }

    /// Lets everything come to its end.
    async fn finish(mut self) {
        self.end(0, 0);
        self.to(self.model.now + 80_000 + GROUP_ENDS - ACTS).await;
        self.compare("the end");
        assert!(self.model.waited.is_some(), "{:?}", self.model);
        let mut left = self.keyed.drain_values();
        left.sort_unstable();
        assert_eq!(left, self.model.take_values());
        drop((self.wait, self.end, self.keyed));
        sleep_until(Instant::now() + ms(1)).await;
        assert_eq!(alive_tasks(), 0, "tasks are left");
    }
}
