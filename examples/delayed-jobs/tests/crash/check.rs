//! What must hold, whenever the workers were killed.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use delayed_jobs::{Filter, Micros, Queue, State};

use super::child::{LEASE, LIMIT, Work};
use super::log::{Event, Line};
use super::parent::Crashes;

/// From the claim, which begins the lease, to the first line that a job writes.
const ON_THE_WAY: Duration = Duration::from_millis(250);

pub(crate) async fn all(
    queue: &Queue,
    lines: &[Line],
    plan: &Crashes,
    kills: &[Micros],
    last: Micros,
) {
    nothing_is_lost(queue, plan).await;
    the_dead_are_those_that_always_fail(queue, plan).await;
    effects_are_repeated_only_across_a_kill(lines, kills);
    nothing_starts_before_its_time(lines);
    nothing_is_claimed_twice_while_its_lease_lives(lines);
    jobs_after_the_last_restart_are_hardly_late(lines, last);
}

async fn nothing_is_lost(queue: &Queue, plan: &Crashes) {
    let counts = queue.counts().await.expect("counts");
    let lost = i64::from(plan.jobs) - (counts.done + counts.dead) as i64;
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
    let planned = (0..plan.jobs).filter(|number| Work { number: *number }.always_fails());
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

fn jobs_after_the_last_restart_are_hardly_late(lines: &[Line], last: Micros) {
    let from = last.after(Duration::from_secs(1)).0;
    let starts = lines
        .iter()
        .filter(|line| line.event == Event::Start && line.run_at >= from);
    let mut late: Vec<_> = starts
        .map(|line| Micros(line.at).since(Micros(line.run_at)))
        .collect();
    late.sort();
    assert!(
        late.len() >= 100,
        "only {} jobs are left to look at",
        late.len()
    );
    let at = |part: f64| late[((late.len() - 1) as f64 * part) as usize];
    let (p50, p99) = (at(0.5), at(0.99));
    println!(
        "   lateness of {} starts: p50 {p50:?}, p99 {p99:?}, max {:?}",
        late.len(),
        at(1.0)
    );
    assert!(p50 <= Duration::from_millis(15), "p50 {p50:?}");
    assert!(p99 <= Duration::from_millis(100), "p99 {p99:?}");
}
