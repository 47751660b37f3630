//! What a job costs and what it leaves behind, in exact bytes of a counting allocator.
#![deny(unsafe_code)]

mod counting;

use std::future::pending;
use std::time::Duration;

use schedgroup::{Group, JobHandle, Next};
use tokio::time::{Instant, sleep};

use counting::{allocations, live};

const JOBS: usize = 100_000;
const FAR: Duration = Duration::from_secs(3600);
const SPARE: i64 = 16 * 1024;
/// The entries of some cancelled jobs, which stay until they are due, and the levels of the wheel in which they are.
const DEAD: i64 = 8 * 1024;
/// What a group keeps once it has been large, however many of its jobs are left.
const FIXED: i64 = 32 * 1024;

/// A future of exactly `N` bytes and one more for its state.
async fn sized<const N: usize>(payload: [u8; N]) {
    std::hint::black_box(&payload);
}

/// The allocator is one for the whole program, so everything is measured in one test.
#[tokio::test(start_paused = true)]
async fn a_job_costs_little_and_leaves_nothing() {
    cost_of_pending_jobs().await;
    // What a dropped group holds goes when its driver is polled.
    sleep(Duration::from_millis(1)).await;
    for jobs in [100, 1_000, JOBS] {
        for (name, end) in [
            ("fired", End::Fired),
            ("cancelled one by one", End::EachCancelled),
            ("cancelled long before they were due", End::FarCancelled),
            ("cancelled together", End::GroupCancelled),
            ("dropped with the group", End::GroupDropped),
        ] {
            let before = live();
            let group = leave_behind(jobs, end).await;
            let left = live() - before;
            let most = match end {
                End::FarCancelled => SPARE + DEAD,
                _ => SPARE,
            };
            println!("{left} bytes left of {jobs} jobs that were {name}");
            assert!(
                left <= most,
                "{left} bytes left of {jobs} jobs that were {name}, group alive: {}",
                group.is_some()
            );
            drop(group);
            sleep(Duration::from_millis(1)).await;
        }
    }
    for one_in in [64, 512, 3_000, 20_000] {
        survivors_of_a_burst(one_in).await;
    }
    the_last_of_a_burst().await;
    the_last_of_a_backlog().await;
    dead_entries_are_few().await;
    waves_are_flat().await;
    groups_leave_nothing().await;
    idle_groups_are_small().await;
}

async fn cost_of_pending_jobs() {
    let group = Group::new();
    let (bytes, before) = (live(), allocations());
    let at = Instant::now() + FAR;
    for _ in 0..JOBS {
        group.schedule(at, sized([0; 31]));
    }
    sleep(Duration::from_millis(1)).await;
    let each = (live() - bytes) as f64 / JOBS as f64;
    let allocated = (allocations() - before) as f64 / JOBS as f64;
    let future = size_of_val(&sized([0; 31])) as f64;
    println!("{each:.1} bytes and {allocated:.3} allocations a pending job of {future} bytes");
    // A slot of 40 bytes in whole pages of 64, and an entry of 4 in storage that grows by doubling.
    assert!(
        each <= future + 40.0 + 4.0 * 2.0,
        "{each} bytes a job of {future}"
    );
    assert!(allocated <= 1.02, "{allocated} allocations a job");
}

#[derive(Clone, Copy)]
enum End {
    Fired,
    EachCancelled,
    FarCancelled,
    GroupCancelled,
    GroupDropped,
}

async fn leave_behind(jobs: usize, end: End) -> Option<Group> {
    let group = Group::new();
    let first = match end {
        End::FarCancelled => FAR,
        _ => Duration::from_micros(1),
    };
    let handles: Vec<JobHandle> = (0..jobs as u64)
        .map(|job| group.delay(first + Duration::from_micros(job), sized([0; 200])))
        .collect();
    if let End::FarCancelled = end {
        // The driver has their entries by then.
        sleep(Duration::from_millis(1)).await;
    }
    let group = match end {
        End::Fired => Some(group),
        End::EachCancelled | End::FarCancelled => {
            assert!(handles.iter().all(JobHandle::cancel));
            Some(group)
        }
        End::GroupCancelled => {
            group.cancel();
            Some(group)
        }
        End::GroupDropped => {
            drop(group);
            None
        }
    };
    drop(handles);
    sleep(Duration::from_secs(1)).await;
    group
}

/// Of a burst one job in so many is far away and stays: what is left is counted for each of those.
async fn survivors_of_a_burst(one_in: usize) {
    let group = Group::new();
    let before = live();
    for job in 0..2 * JOBS {
        let survives = job % one_in == one_in / 2;
        let delay = if survives {
            FAR
        } else {
            Duration::from_millis(5)
        };
        group.delay(delay, sized([0; 31]));
    }
    sleep(Duration::from_millis(10)).await;
    let survivors = group.stats().pending as i64;
    let left = live() - before;
    let each = left / survivors;
    println!("{each} bytes for each of {survivors} survivors, one in {one_in}");
    assert!(survivors >= (2 * JOBS / one_in) as i64);
    assert!(
        left <= survivors * 4096 + FIXED,
        "{each} bytes for each of {survivors} survivors, one in {one_in}"
    );
    drop(group);
    sleep(Duration::from_millis(1)).await;
}

/// Whatever the burst was, a single survivor keeps next to nothing.
async fn the_last_of_a_burst() {
    let group = Group::new();
    let before = live();
    for _ in 0..2 * JOBS {
        group.delay(Duration::from_millis(5), sized([0; 31]));
    }
    let far = group.delay(FAR, sized([0; 31]));
    sleep(Duration::from_millis(10)).await;
    let left = live() - before;
    println!("{left} bytes left by a burst for its last job");
    assert!(
        far.is_pending() && left <= 4096 + FIXED,
        "{left} bytes left after the burst"
    );
}

/// One job moved earlier again and again, and many cancelled: their entries are dead.
/// Due jobs that wait for a slot, until few of them are left.
async fn the_last_of_a_backlog() {
    const LEFT: usize = 10;
    let group = Group::builder().max_running(1).build();
    let before = live();
    for number in 0..JOBS {
        match number == JOBS - LEFT {
            true => group.delay(Duration::ZERO, pending()),
            false => group.delay(Duration::ZERO, sized([0; 31])),
        };
    }
    sleep(Duration::from_millis(1)).await;
    assert_eq!(group.stats().waiting, LEFT - 1);
    let left = live() - before;
    assert!(left <= FIXED, "{left} bytes left for {LEFT} jobs");
}

async fn dead_entries_are_few() {
    let group = Group::new();
    let before = live();
    let job = group.delay(2 * FAR, sized([0; 31]));
    for earlier in 1..=JOBS as u64 {
        assert!(job.reset_after(2 * FAR - Duration::from_millis(earlier)));
        if earlier % 100 == 0 {
            tokio::task::yield_now().await;
        }
    }
    sleep(Duration::from_millis(1)).await;
    let moved = live() - before;
    assert!(moved <= SPARE, "{moved} bytes for one job that was moved");
    let jobs: Vec<JobHandle> = (0..JOBS)
        .map(|_| group.delay(FAR, sized([0; 31])))
        .collect();
    sleep(Duration::from_millis(1)).await;
    let (rest, cancelled) = jobs.split_at(100);
    assert!(cancelled.iter().all(JobHandle::cancel));
    sleep(Duration::from_millis(1)).await;
    assert!(rest.iter().all(JobHandle::is_pending));
    drop(jobs);
    let left = live() - before;
    assert!(left <= 2 * SPARE, "{left} bytes for 100 jobs of {JOBS}");
}

async fn waves_are_flat() {
    let group = Group::new();
    let mut after_ten = 0;
    for wave in 0..1000 {
        for _ in 0..100 {
            group.delay(Duration::from_millis(1), sized([0; 31]));
        }
        sleep(Duration::from_millis(2)).await;
        if wave == 10 {
            after_ten = live();
        }
    }
    let drift = live() - after_ten;
    assert!(
        drift.abs() <= 1024,
        "{drift} bytes between wave 10 and wave 1,000"
    );
}

/// A pending job can hold its own group's handle: dropping the group breaks that ring.
async fn groups_leave_nothing() {
    let mut after_ten = 0;
    for round in 0..=100 {
        let group = Group::new();
        let (handle, at) = (group.handle(), Instant::now() + FAR);
        let job = group.delay(FAR, async {});
        group.delay(Duration::ZERO, tokio::task::yield_now());
        group.delay(FAR, async move { drop((handle, job)) });
        group.delay_with(FAR, |_| async {});
        group.repeat(at, |_| async { Next::Done });
        group.delay_with(Duration::ZERO, |context| async move {
            let own = context.clone();
            context.delay(FAR, async move { drop(own) });
        });
        sleep(Duration::from_millis(1)).await;
        drop(group);
        sleep(Duration::from_millis(1)).await;
        if round == 10 {
            after_ten = live();
        }
    }
    let left = live() - after_ten;
    assert_eq!(left, 0, "{left} bytes left of ninety groups");
}

/// Also those with a few jobs that are due at any time within some months, for which the queue needs no wheel.
async fn idle_groups_are_small() {
    const GROUPS: i64 = 1_000;
    for (jobs, most) in [(0, 2 * 1024), (1, 3 * 1024), (10, 4 * 1024)] {
        let before = live();
        let groups: Vec<Group> = (0..GROUPS).map(|_| Group::new()).collect();
        for job in 0..jobs {
            for group in &groups {
                group.delay(FAR * 3_u32.pow(job), async {});
            }
        }
        sleep(Duration::from_millis(1)).await;
        let each = (live() - before) / GROUPS;
        println!("{each} bytes a group with {jobs} jobs");
        assert!(each <= most, "{each} bytes a group with {jobs} jobs");
        drop(groups);
        // So that what they leave is not counted for the next ones.
        sleep(Duration::from_millis(1)).await;
    }
}
