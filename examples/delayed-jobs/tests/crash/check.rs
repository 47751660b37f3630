//! What must hold, whenever the workers were killed.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use delayed_jobs::{Filter, Micros, Queue, State};

use super::child::{LEASE, LIMIT, Work};
use super::log::{Event, Line};
use super::parent::{Crashes, TAIL};

/// From the claim, which begins the lease, to the first line that a job writes.
const ON_THE_WAY: Duration = Duration::from_millis(250);

pub(crate) async fn all(
    queue: &Queue,
    lines: &[Line],
    plan: &Crashes,
    kills: &[Micros],
    floor: (Duration, Duration),
) {
    nothing_is_lost(queue, plan).await;
    the_dead_are_those_that_always_fail(queue, plan).await;
    effects_are_repeated_only_across_a_kill(lines, kills);
    nothing_starts_before_its_time(lines);
    nothing_is_claimed_twice_while_its_lease_lives(lines);
    jobs_that_meet_a_free_slot_are_hardly_late(lines, plan, floor);
}

/// A start may take as many times as long as a single claim on a machine that has much else to do: it waits for the commit
/// before its own and for its turn on a processor, and so does what the claim is for.
pub(crate) const TIMES: u32 = 5;

/// Of sorted times the one at this part of them.
pub(crate) fn at(late: &[Duration], part: f64) -> Duration {
    let last = late.len().saturating_sub(1) as f64;
    late.get((last * part) as usize)
        .copied()
        .unwrap_or_default()
}

async fn nothing_is_lost(queue: &Queue, plan: &Crashes) {
    let counts = queue.counts().await.expect("counts");
    let lost = i64::from(plan.jobs + TAIL) - (counts.done + counts.dead) as i64;
    println!("   {} done, {} dead, lost {lost}", counts.done, counts.dead);
    assert_eq!(lost, 0, "{counts:?}");
}

async fn the_dead_are_those_that_always_fail(queue: &Queue, plan: &Crashes) {
    let filter = Filter {
        state: Some(State::Dead),
        limit: usize::MAX >> 1,
        ..Filter::default()
    };
    let dead = queue.list(filter).await.expect("a list");
    let number = |payload: &str| serde_json::from_str::<Work>(payload).expect("ours").number;
    let dead: BTreeSet<u32> = dead.iter().map(|job| number(&job.payload)).collect();
    let planned = (0..plan.jobs + TAIL).filter(|number| Work { number: *number }.always_fails());
    assert_eq!(dead, planned.collect());
}

fn effects_are_repeated_only_across_a_kill(lines: &[Line], kills: &[Micros]) {
    let mut ends: BTreeMap<u32, Vec<i64>> = BTreeMap::new();
    for line in lines.iter().filter(|line| line.event == Event::Done) {
        ends.entry(line.number).or_default().push(line.at);
    }
    let mut repeated = 0;
    for (number, ends) in &ends {
        for pair in ends.windows(2) {
            repeated += 1;
            let crossed = kills
                .iter()
                .any(|kill| pair[0] <= kill.0 && kill.0 <= pair[1]);
            assert!(
                crossed,
                "job {number} was done at {pair:?}, and no worker was killed in between"
            );
        }
    }
    println!("   {repeated} effects repeated by {} kills", kills.len());
    assert!(
        repeated <= LIMIT * kills.len(),
        "{repeated} effects were repeated"
    );
}

fn nothing_starts_before_its_time(lines: &[Line]) {
    let early: Vec<_> = lines.iter().filter(|line| line.at < line.run_at).collect();
    assert!(early.is_empty(), "{early:?}");
}

/// A run that wrote no end was cut off: the next start of its job comes when its lease has expired.
fn nothing_is_claimed_twice_while_its_lease_lives(lines: &[Line]) {
    let mut open: BTreeMap<u32, &Line> = BTreeMap::new();
    let mut cut_off = 0;
    for line in lines {
        if line.event != Event::Start {
            open.remove(&line.number);
        } else if let Some(before) = open.insert(line.number, line) {
            cut_off += 1;
            let between = Micros(line.at).since(Micros(before.at));
            assert!(
                between + ON_THE_WAY >= LEASE && before.worker != line.worker,
                "{before:?}\n{line:?}: {between:?} after it, by a lease of {LEASE:?}"
            );
        }
    }
    println!("   {cut_off} runs were cut off, and started again after their lease");
}

/// By some milliseconds, which no polling reaches: half of its period would be the median. On a machine that has much
/// else to do it is more, but not more than a few times as much as a single claim takes there. The jobs of the tail are
/// so few that there always is a free slot; of the others many wait for one on such a machine.
fn jobs_that_meet_a_free_slot_are_hardly_late(
    lines: &[Line],
    plan: &Crashes,
    floor: (Duration, Duration),
) {
    let starts = lines
        .iter()
        .filter(|line| line.event == Event::Start && line.number >= plan.jobs);
    let mut late: Vec<_> = starts
        .map(|line| Micros(line.at).since(Micros(line.run_at)))
        .collect();
    late.sort();
    assert!(
        late.len() >= 100,
        "only {} jobs are left to look at",
        late.len()
    );
    let (p50, p99) = (at(&late, 0.5), at(&late, 0.99));
    println!(
        "   lateness of {} starts: p50 {p50:?}, p99 {p99:?}, max {:?}; of single claims meanwhile: p50 {:?}, p99 {:?}",
        late.len(),
        at(&late, 1.0),
        floor.0,
        floor.1
    );
    let most = Duration::from_millis(15) + TIMES * floor.0;
    assert!(p50 <= most, "p50 {p50:?}, at most {most:?}");
    let most = Duration::from_millis(100) + TIMES * floor.1;
    assert!(p99 <= most, "p99 {p99:?}, at most {most:?}");
}
