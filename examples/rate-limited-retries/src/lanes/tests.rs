//! Tests with random histories.

use super::lane::Past;
use super::*;
use std::time::Duration;

/// Random numbers, by splitmix64.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }

    fn rate(&mut self) -> Option<Rate> {
        let count = 1 + self.below(200) as u32;
        let period = Duration::from_millis(1 + self.below(1_000));
        let rate = Rate::new(count, period).burst(1 + self.below(4) as u32);
        (self.below(3) > 0).then_some(rate)
    }
}

/// Returns the key of work that could start, found by a look at each lane, without the heap.
fn could_start(lanes: &Lanes<u64, u64>, now: u64) -> Option<u64> {
    if lanes.counts.running >= lanes.limits.max_running {
        return None;
    }
    let free = lanes.lanes.iter().flatten().filter(|lane| {
        let Some(exact) = lane
            .exact(lanes.limits.per_key, 0)
            .filter(|exact| *exact <= now)
        else {
            return false;
        };
        let cost = lane.cost().unwrap_or(0);
        let per_key = lanes.limits.per_key;
        let blocked = per_key.map_or(0, |rate| lane.blocked_until(rate, cost));
        let overall = lanes.limits.overall.map_or(0, |rate| {
            lanes
                .overall
                .exact(rate, cost)
                .max(lanes.overall.blocked_until(rate, cost))
        });
        lane.running() < lanes.limits.in_flight && exact.max(blocked).max(overall) <= now
    });
    free.map(|lane| *lane.key()).next()
}

/// Fails if there are more starts in a window of one period than the rate allows.
fn assert_in_rate(starts: &[u64], rate: Option<Rate>, seed: u64) {
    let Some(rate) = rate else {
        return;
    };
    let most = rate.in_a_period() as usize;
    for (first, last) in starts.iter().zip(starts.iter().skip(most)) {
        let apart = last - first;
        assert!(
            apart >= rate.period_nanos(),
            "seed {seed}: {} starts in {apart}",
            most + 1
        );
    }
}

/// Returns milliseconds in nanoseconds.
pub(crate) fn ms(millis: u64) -> u64 {
    millis * 1_000_000
}

pub(crate) fn item(work: u64) -> Item<u64> {
    Item {
        work,
        cost: 1,
        bounded: false,
    }
}

fn returned(work: u64) -> Returned<u64> {
    Returned {
        item: item(work),
        tries: Box::default(),
    }
}

/// Lanes of which at most `in_flight` pieces of work run per key.
fn without_rates(in_flight: u32) -> Lanes<u64, u64> {
    Lanes::new(Limits {
        per_key: None,
        overall: None,
        in_flight,
        max_running: usize::MAX,
    })
}

/// After random pushes, holds, lifts and ends, all work that may start starts in order and within the rates, and nothing
/// could start before the next look. All work has the same cost, since work that waits for the overall rate goes before
/// cheaper work.
#[test]
fn nothing_that_may_start_is_overlooked_and_no_rate_is_exceeded() {
    for seed in 0..300 {
        let mut random = Random(seed);
        let limits = Limits {
            per_key: random.rate(),
            overall: random.rate(),
            in_flight: 1 + random.below(3) as u32,
            max_running: 1 + random.below(6) as usize,
        };
        let mut lanes: Lanes<u64, u64> = Lanes::new(limits);
        let (mut now, mut number, mut running) = (0, 0, Vec::new());
        let (mut latest, mut starts) = ([0; 8], Vec::new());
        for _ in 0..1_000 {
            let key = random.below(8);
            let lane = lanes.find(key, &key);
            let lane = lane.unwrap_or_else(|| lanes.insert(key, Key::Owned(key), now));
            match random.below(8) {
                0..=2 => {
                    number += 1;
                    lanes.push(lane, item(number), now);
                }
                3 => {
                    let at = now + random.below(50_000_000);
                    lanes.push_returned(lane, returned(0), at, now);
                }
                4 => lanes.hold(lane, now + random.below(100_000_000), now),
                5 => lanes.lift(lane, now),
                6 if !running.is_empty() => {
                    let which = random.below(running.len() as u64) as usize;
                    lanes.ended(running.swap_remove(which), now);
                }
                _ => now += random.below(30_000_000),
            }
            while let Some(started) = lanes.start(now) {
                assert!(started.at <= now, "seed {seed}");
                running.push(started.slot);
                let (key, work) = (*started.key as usize, started.item.work);
                assert!(work == 0 || work > latest[key], "seed {seed}: out of order");
                latest[key] = latest[key].max(work);
                starts.push((key, now));
            }
            let overlooked = could_start(&lanes, now);
            assert_eq!(overlooked, None, "seed {seed}, at {now}");
            drop(lanes.sweep(now));
            // All that may start now has started, so the next look is later. It may be too early, since the instant of
            // an entry may be, but it is not too late.
            let next = lanes.next(now);
            let until = next.unwrap_or(NEVER);
            assert!(until > now, "seed {seed}: {next:?} at {now}");
            let missed = could_start(&lanes, until - 1);
            assert_eq!(missed, None, "seed {seed}: before {next:?}, at {now}");
            if limits.overall.is_none() && lanes.counts.running < limits.max_running {
                let of_keys = (0..8).filter_map(|key| lanes.lane_counts(key, &key, now)?.next);
                let first = of_keys.chain(lanes.first_delayed()).min();
                assert_eq!(first, next, "seed {seed}, at {now}");
            }
        }
        for key in 0..8 {
            let of_key = starts.iter().filter(|start| start.0 == key);
            let of_key: Vec<u64> = of_key.map(|start| start.1).collect();
            assert_in_rate(&of_key, limits.per_key, seed);
        }
        let all: Vec<u64> = starts.iter().map(|start| start.1).collect();
        assert_in_rate(&all, limits.overall, seed);
        let queued = lanes.counts.queued + lanes.delayed.len();
        let left = lanes.clear(now);
        assert_eq!(left.len(), queued, "seed {seed}");
        assert!(lanes.next(now).is_none(), "seed {seed}");
    }
}

/// A backlog of one key. The timer is up to two milliseconds late, as a real one is.
#[test]
fn retries_and_serial_queues_lose_no_capacity_to_late_starts() {
    for (count, retries, in_flight, length) in [
        (100, 2, u32::MAX, 0),
        (1_000, 2, u32::MAX, 0),
        (5_000, 2, u32::MAX, 0),
        (5_000, 0, 1, 0),
        (5_000, 2, 1, 0),
        (1_000, 0, 1, 500_000),
        (100, 0, 1, 9_000_000),
    ] {
        let limits = Limits {
            per_key: Some(Rate::per_second(count)),
            overall: None,
            in_flight,
            max_running: usize::MAX,
        };
        let mut lanes: Lanes<u64, u64> = Lanes::new(limits);
        let lane = lanes.insert(1, Key::Owned(1), 0);
        (0..20_000).for_each(|work| lanes.push(lane, item(work), 0));
        let (mut random, mut now, mut starts) = (Random(1), 0, Vec::new());
        while now < 2_000_000_000 {
            while let Some(started) = lanes.start(now) {
                starts.push(now);
                now += length;
                let again = random.below(20);
                if again < retries {
                    // At once, or within 20 ms. The work still runs.
                    let at = now + again * random.below(20_000_000);
                    lanes.push_returned(lane, returned(started.item.work), at, now);
                }
                lanes.ended(started.slot, now);
            }
            let next = lanes.next(now).expect("there is more work");
            now = next.next_multiple_of(1_000_000) + random.below(1_000_000);
        }
        let share = starts.len() as u64 * 1_000 / (2 * u64::from(count));
        assert!(
            share >= 995,
            "{share} of a thousand at {count}/s, {in_flight} in flight for {length} ns"
        );
        assert_in_rate(&starts, limits.per_key, 1);
    }
}

/// Nothing was queued behind the late start, so the next work could not have started before it was pushed.
#[test]
fn a_late_start_gives_no_credit_to_work_that_is_pushed_later() {
    let mut lanes: Lanes<u64, u64> = Lanes::new(Limits {
        per_key: Some(Rate::per_second(50)),
        ..without_rates(1).limits
    });
    let lane = lanes.insert(1, Key::Owned(1), 0);
    lanes.push(lane, item(1), 0);
    let late = lanes.start(ms(50)).expect("it is due");
    lanes.push(lane, item(2), ms(55));
    lanes.push(lane, item(3), ms(55));
    lanes.ended(late.slot, ms(60));
    let next = lanes.start(ms(60)).expect("its slot is free");
    assert_eq!(next.at, ms(60));
    lanes.ended(next.slot, ms(60));
    assert_eq!(lanes.next(ms(60)), Some(ms(80)));
}

/// Three at 100 per second: two late starts fill the period that begins with the first.
#[test]
fn the_next_start_of_a_key_comes_after_a_period_that_late_starts_have_filled() {
    let mut lanes: Lanes<u64, u64> = Lanes::new(Limits {
        per_key: Some(Rate::new(1, Duration::from_millis(10))),
        ..without_rates(u32::MAX).limits
    });
    let lane = lanes.insert(1, Key::Owned(1), 0);
    (0..3).for_each(|work| lanes.push(lane, item(work), 0));
    assert_eq!(
        [(); 3].map(|()| lanes.start(ms(19)).is_some()),
        [true, true, false]
    );
    let next = [20, 21, 28].map(|at| {
        let counts = lanes.lane_counts(1, &1, ms(at)).expect("it is known");
        assert_eq!(counts.next, lanes.next(ms(at)));
        counts.next
    });
    assert_eq!(next, [Some(ms(29)); 3]);
}

/// The order of the entries stays the same when their numbers run out, also if some entries are stale.
#[test]
fn heads_keep_their_order_when_their_numbers_begin_anew() {
    let mut lanes = without_rates(1);
    lanes.last_entry = u32::MAX - 50;
    let push = |lanes: &mut Lanes<u64, u64>, key| {
        let lane = lanes.insert(key, Key::Owned(key), 0);
        lanes.push(lane, item(key), 0);
        lane
    };
    for key in 0..100 {
        let lane = push(&mut lanes, key);
        if key % 10 == 0 {
            // This leaves a stale entry, and the lane gets a new one, which is the last.
            lanes.hold(lane, 2, 1);
            lanes.lift(lane, 1);
        }
    }
    assert!(
        lanes.last_entry < 200,
        "{} is the last number",
        lanes.last_entry
    );
    let order: Vec<u64> =
        std::iter::from_fn(|| lanes.start(1).map(|started| started.item.work)).collect();
    // The lanes that were held got their entries at 1, the others at 0.
    let others = (0..100).filter(|key| key % 10 > 0);
    let held = (0..100).filter(|key| key % 10 == 0);
    assert!(order.iter().copied().eq(others.chain(held)), "{order:?}");
}

/// A sweep holds the dispatcher's lock, so it looks at a page of the lanes only.
#[test]
fn sweeps_are_short_and_remove_every_idle_lane() {
    let mut lanes = without_rates(1);
    let insert = |lanes: &mut Lanes<u64, u64>, key| {
        let lane = lanes.insert(key, Key::Owned(key), 0);
        lanes.hold(lane, 1, 0);
    };
    // All are held until 1, so none is idle before.
    for key in 0..10_000 {
        insert(&mut lanes, key);
        assert_eq!(lanes.sweep(0).len(), 0);
    }
    let mut removed = 0;
    for key in 10_000..20_000 {
        insert(&mut lanes, key);
        let idle = lanes.sweep(if key % 2 == 0 { 0 } else { 1 });
        assert!(idle.len() <= 512, "{} in one sweep", idle.len());
        removed += idle.len();
    }
    for _ in 0..20_000 {
        removed += lanes.sweep(1).len();
    }
    assert_eq!((removed, lanes.len()), (20_000, 0));
    assert_eq!((lanes.lanes.len(), lanes.free.len()), (0, 0));
}

/// It happens under the dispatcher's lock, so it happens page by page, and nothing starts out of order meanwhile.
#[test]
fn much_work_that_is_due_again_at_once_is_queued_page_by_page() {
    const WORK: u64 = 5_000;
    let mut lanes = without_rates(u32::MAX);
    let lane = lanes.insert(1, Key::Owned(1), 0);
    lanes.push(lane, item(WORK + 1), 0);
    let again = |lanes: &mut Lanes<u64, u64>, work, at, now| {
        lanes.push_returned(lane, returned(work), at, now);
    };
    (0..WORK).for_each(|work| again(&mut lanes, work, 100, 0));
    let (mut order, mut before) = (Vec::new(), lanes.delayed.len());
    again(&mut lanes, WORK, 200, 200);
    while let Some(next) = lanes.next(200) {
        assert!(next <= 200, "{next}");
        order.extend(lanes.start(200).map(|started| started.item.work));
        let delayed = lanes.delayed.len();
        let queued = before.saturating_sub(delayed);
        assert!(queued <= 3 * PAGE, "{queued} in three calls");
        before = delayed;
    }
    assert!(order.into_iter().eq(0..=WORK + 1));
}

#[test]
fn a_key_in_use_is_found_however_many_come_and_go() {
    let mut lanes = without_rates(1);
    let (mut random, mut held) = (Random(1), [0; 3_000]);
    for now in 0..100_000 {
        let key = random.below(held.len() as u64);
        let lane = lanes.find(key, &key);
        assert!(
            lane.is_some() || held[key as usize] <= now,
            "{key} at {now}"
        );
        let lane = lane.unwrap_or_else(|| lanes.insert(key, Key::Owned(key), now));
        // In turns there are many keys in use, and few.
        let at = now + random.below(if now / 10_000 % 2 == 0 { 10_000 } else { 100 });
        lanes.hold(lane, at, now);
        held[key as usize] = held[key as usize].max(at);
        drop(lanes.sweep(now));
        if now % 1_000 == 0 {
            let in_use = held.iter().filter(|&&at| at > now).count();
            assert!(lanes.len() >= in_use, "{} at {now}", lanes.len());
        }
    }
    assert!(lanes.len() < 1_000, "{} keys are left", lanes.len());
}

/// A hold that is lifted leaves an entry that is due late, and that no start removes before.
#[test]
fn stale_entries_are_removed() {
    let mut lanes = without_rates(1);
    let lane = lanes.insert(1, Key::Owned(1), 0);
    lanes.push(lane, item(1), 0);
    for now in 1..10_000 {
        // Each hold ends earlier than the one before.
        let at = 1_000_000 - now;
        lanes.lift(lane, now);
        lanes.hold(lane, at, now);
        assert_eq!(lanes.next(now), Some(at));
        drop(lanes.sweep(now));
    }
    let kept = lanes.heads.len();
    assert!(kept <= 4 * FEW, "{kept} entries of one lane");
}

/// These sizes are part of the figures in the README.
#[test]
fn a_lane_of_short_keys_and_short_work_is_small() {
    assert_eq!(size_of::<Option<Lane<u64, u64>>>(), 48);
    assert_eq!(size_of::<Head>(), 16);
    assert_eq!(size_of::<Past<u64, u64>>(), 64);
}
