//! Random histories beside a simple model, which goes from instant to instant and looks at all that there is.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};

use crate::common::{Random, bounded, ms, paused, settle};
use rate_limited_retries::{Dispatcher, Rate, TryPushError};
use schedgroup::Group;
use tokio::time::{Instant, sleep, sleep_until};

const KEYS: usize = 4;

/// A piece of work, whose times follow from its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Work {
    id: u64,
    cost: u32,
    attempt: u32,
    bounded: bool,
}

impl Work {
    /// Returns how long it runs, and after how long it comes again. Both are in milliseconds.
    fn behaviour(self) -> (u64, Option<u64>) {
        let mut random = Random(self.id * 100 + u64::from(self.attempt));
        let length = random.below(2) * (1 + random.below(40));
        let again = random.below(3) == 0 && self.attempt < 5;
        (length, again.then(|| 1 + random.below(300)))
    }
}

#[derive(Clone, Copy, Debug)]
struct Settings {
    /// The milliseconds between two starts, and the burst.
    rate: Option<(u64, u64)>,
    in_flight: usize,
    bound: Option<usize>,
}

#[derive(Default)]
struct Lane {
    queue: VecDeque<Work>,
    returned: VecDeque<Work>,
    /// With the instant at which it ends.
    running: Vec<(u64, Work)>,
    hold: u64,
    /// When the bucket is full again.
    full: u64,
}

impl Lane {
    fn head(&self) -> Option<Work> {
        self.returned.front().or(self.queue.front()).copied()
    }

    fn queued(&self) -> usize {
        self.queue.len() + self.returned.len()
    }

    /// Returns when its head may start, if there is a slot.
    fn next(&self, settings: Settings) -> Option<u64> {
        let head = self.head()?;
        if self.running.len() >= settings.in_flight {
            return None;
        }
        let rate = settings.rate.map_or(0, |(each, burst)| {
            let credit = burst - u64::from(head.cost).min(burst);
            self.full.saturating_sub(credit * each)
        });
        Some(rate.max(self.hold))
    }
}

/// A start: the key, the work and the instant.
type Start = (usize, u64, u32, u64);

struct Model {
    settings: Settings,
    now: u64,
    lanes: [Lane; KEYS],
    delayed: BTreeMap<(u64, u64), (usize, Work)>,
    numbers: u64,
    starts: Vec<Start>,
    returned: u64,
    permits: usize,
    /// From here on the order is not determined.
    tie: u64,
    /// The instant of the last start or end.
    last_event: u64,
}

impl Model {
    fn ends(&self) -> impl Iterator<Item = u64> {
        let running = self.lanes.iter().flat_map(|lane| &lane.running);
        running.map(|(at, _)| *at)
    }

    fn next(&self) -> Option<u64> {
        let starts = self
            .lanes
            .iter()
            .filter_map(|lane| lane.next(self.settings));
        let delayed = self.delayed.keys().map(|(at, _)| *at);
        starts.chain(delayed).min()
    }

    /// Returns the numbers of queued, delayed, running, started and returned work.
    fn counts(&self) -> (usize, usize, usize, u64, u64) {
        let queued = self.lanes.iter().map(Lane::queued).sum();
        let running = self.lanes.iter().map(|lane| lane.running.len()).sum();
        let started = self.starts.len() as u64;
        (queued, self.delayed.len(), running, started, self.returned)
    }

    fn again(&mut self, key: usize, work: Work) {
        let Some(pause) = work.behaviour().1 else {
            return;
        };
        self.returned += 1;
        self.numbers += 1;
        let at = self.now + pause;
        let is_tie = |(other, _): (&(u64, u64), &(usize, Work))| other.0 == at;
        if self.delayed.iter().any(is_tie) {
            self.tie = self.tie.min(at);
        }
        let work = Work {
            attempt: work.attempt + 1,
            bounded: false,
            ..work
        };
        self.delayed.insert((at, self.numbers), (key, work));
    }

    /// Starts what may start now, and ends what ends now.
    fn step(&mut self) {
        for key in 0..KEYS {
            while let Some(place) = self.lanes[key]
                .running
                .iter()
                .position(|(at, _)| *at <= self.now)
            {
                let (_, work) = self.lanes[key].running.remove(place);
                self.again(key, work);
            }
        }
        while let Some(first) = self
            .delayed
            .first_entry()
            .filter(|first| first.key().0 <= self.now)
        {
            let (key, work) = first.remove();
            self.lanes[key].returned.push_back(work);
        }
        for key in 0..KEYS {
            loop {
                let lane = &mut self.lanes[key];
                if lane.next(self.settings).is_none_or(|at| at > self.now) {
                    break;
                }
                let work = lane.returned.pop_front().or_else(|| lane.queue.pop_front());
                let work = work.expect("there is a head");
                if let Some((each, _)) = self.settings.rate {
                    lane.full = lane.full.max(self.now) + each * u64::from(work.cost);
                }
                self.permits += usize::from(work.bounded);
                self.starts.push((key, work.id, work.attempt, self.now));
                match work.behaviour().0 {
                    0 => self.again(key, work),
                    length => lane.running.push((self.now + length, work)),
                }
            }
        }
    }

    fn go_to(&mut self, at: u64) {
        self.step();
        while let Some(next) = self.next().into_iter().chain(self.ends()).min() {
            if next > at {
                break;
            }
            self.now = self.now.max(next);
            self.last_event = self.now;
            self.step();
        }
        self.now = at;
    }
}

/// The order of starts of several keys at one instant is not checked here.
fn by_key(mut starts: Vec<Start>) -> Vec<Start> {
    starts.sort_by_key(|start| (start.0, start.3));
    starts
}

/// All instants are whole milliseconds, so all work starts at the very instant at which it may.
async fn history(seed: u64) {
    let mut random = Random(seed);
    let settings = Settings {
        rate: (random.below(4) > 0).then(|| (1 + random.below(30), 1 + random.below(4))),
        in_flight: [1, 2, 3, usize::MAX][random.below(4) as usize],
        bound: (random.below(2) == 0).then(|| 1 + random.below(10) as usize),
    };
    let mut builder = Dispatcher::builder();
    if let Some((each, burst)) = settings.rate {
        builder = builder.per_key(Rate::new(1, ms(each)).burst(burst as u32));
    }
    if settings.in_flight < usize::MAX {
        builder = builder.in_flight(settings.in_flight as u32);
    }
    if let Some(bound) = settings.bound {
        builder = builder.bound(bound);
    }
    let (group, begin) = (Group::new(), Instant::now());
    let log = Arc::new(Mutex::new(Vec::new()));
    let of_work = Arc::clone(&log);
    let dispatcher = builder.run(&group, move |id: u64, context| {
        let work = Work {
            id,
            cost: context.cost(),
            attempt: context.attempt(),
            bounded: false,
        };
        let now = begin.elapsed().as_millis() as u64;
        of_work
            .lock()
            .unwrap()
            .push((*context.key(), id, work.attempt, now));
        assert_eq!(context.at(), Instant::now(), "seed {seed}: {work:?}");
        async move {
            let (length, again) = work.behaviour();
            if length > 0 {
                sleep(ms(length)).await;
            }
            if let Some(pause) = again {
                // After a drain it is given back.
                let _ = context.again(Instant::now() + ms(pause), id);
            }
        }
    });
    let mut model = Model {
        settings,
        now: 0,
        lanes: Default::default(),
        delayed: BTreeMap::new(),
        numbers: 0,
        starts: Vec::new(),
        returned: 0,
        permits: settings.bound.unwrap_or(0),
        tie: u64::MAX,
        last_event: 0,
    };
    for id in 0..200 {
        let key = random.below(KEYS as u64) as usize;
        let at = model.now + random.below(2) * random.below(60);
        sleep_until(begin + ms(at)).await;
        settle().await;
        model.go_to(at);
        if model.now >= model.tie {
            return;
        }
        let info = || format!("seed {seed}, {settings:?}, at {at}, operation {id}");
        let starts = (
            by_key(log.lock().unwrap().clone()),
            by_key(model.starts.clone()),
        );
        let mut pairs = starts.0.iter().zip(&starts.1);
        assert_eq!(
            pairs.find(|(real, expected)| real != expected),
            None,
            "{}",
            info()
        );
        assert_eq!(group.stats().panicked, 0, "{}", info());
        let stats = dispatcher.stats();
        let counts = (
            stats.queued,
            stats.delayed,
            stats.running,
            stats.started,
            stats.returned,
        );
        assert_eq!(counts, model.counts(), "{}", info());
        let instant = |at: u64| begin + ms(at);
        assert_eq!(stats.next, model.next().map(instant), "{}", info());
        let (stats, lane) = (dispatcher.key_stats(&key), &model.lanes[key]);
        let counts = (stats.queued, stats.running);
        assert_eq!(counts, (lane.queued(), lane.running.len()), "{}", info());
        assert_eq!(stats.next, lane.next(settings).map(instant), "{}", info());
        let held = (lane.hold > at).then(|| instant(lane.hold));
        assert_eq!(stats.not_before, held, "{}", info());
        let lane = &mut model.lanes[key];
        match random.below(8) {
            0 => {
                let until = at + random.below(400);
                dispatcher.not_before(key, begin + ms(until));
                lane.hold = lane.hold.max(until);
            }
            1 => {
                dispatcher.clear_not_before(&key);
                lane.hold = lane.hold.min(at);
            }
            _ => {
                let work = Work {
                    id,
                    cost: random.below(3) as u32,
                    attempt: 1,
                    bounded: settings.bound.is_some(),
                };
                match dispatcher.try_push_cost(key, work.cost, id) {
                    Ok(()) => {
                        assert!(!work.bounded || model.permits > 0, "{}", info());
                        model.permits = model.permits.saturating_sub(1);
                        lane.queue.push_back(work);
                    }
                    Err(TryPushError::Full(_)) => assert_eq!(model.permits, 0, "{}", info()),
                    Err(error) => panic!("{error:?}: {}", info()),
                }
            }
        }
    }
    let (end, info) = (model.now + 1 + random.below(400), || {
        format!("seed {seed}, {settings:?}")
    });
    let drained = dispatcher.drain(begin + ms(end) - Instant::now()).await;
    let ended = begin.elapsed().as_millis() as u64;
    model.go_to(ended);
    let is_quiet = model.next().is_none() && model.ends().next().is_none();
    assert!(
        ended == end || is_quiet,
        "{}: ended at {ended}, not {end}",
        info()
    );
    if model.tie <= end || model.last_event == end {
        // What happens at the end of the grace happens before or after it.
        return;
    }
    let (.., running, started, _) = model.counts();
    assert_eq!(drained.running, running, "{}", info());
    let left = drained
        .left
        .iter()
        .map(|left| (*left.key, left.work, left.attempts + 1));
    let mut left: Vec<_> = left.collect();
    let delayed = left.split_off(left.len() - model.delayed.len());
    left.sort_by_key(|left| left.0);
    let lanes = model.lanes.iter().enumerate();
    let expected = lanes.flat_map(|(key, lane)| {
        let work = lane.returned.iter().chain(&lane.queue);
        work.map(move |work| (key, work.id, work.attempt))
    });
    assert!(left.iter().copied().eq(expected), "{}: {left:?}", info());
    let expected = model
        .delayed
        .values()
        .map(|(key, work)| (*key, work.id, work.attempt));
    assert!(
        delayed.iter().copied().eq(expected),
        "{}: {delayed:?}",
        info()
    );
    assert_eq!(dispatcher.stats().started, started, "{}", info());
    bounded(group.wait()).await.unwrap();
    assert_eq!(dispatcher.stats().started, started, "{}", info());
}

#[test]
fn work_starts_as_in_a_simple_model() {
    for seed in 0..100 {
        paused().block_on(history(seed));
    }
}
