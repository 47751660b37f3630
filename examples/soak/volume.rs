//! Very many jobs, and very long times: no job may be lost, run twice or start early.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed, Ordering::SeqCst};
use std::time::{Duration, Instant};

use schedgroup::{Group, Next};

use crate::{Xorshift, paused_clock, two_workers};

/// Schedules jobs at random deadlines within a second. Each must run once, and not before its deadline.
pub(crate) fn volume(jobs: u64) -> u64 {
    const WINDOW: u64 = 400_000;
    let start = Instant::now();
    let (early, doubled, ran) = paused_clock().block_on(async move {
        let group = Group::new();
        let early = Arc::new(AtomicU64::new(0));
        let doubled = Arc::new(AtomicU64::new(0));
        let ran = Arc::new(AtomicU64::new(0));
        let seen: Arc<[AtomicU64]> = (0..jobs.div_ceil(64)).map(|_| AtomicU64::new(0)).collect();
        let mut random = Xorshift(0x9E37_79B9_7F4A_7C15);
        for first in (0..jobs).step_by(WINDOW as usize) {
            let now = tokio::time::Instant::now();
            for job in first..jobs.min(first + WINDOW) {
                let at = now + Duration::from_nanos(random.below(1_000_000_000));
                let (early, doubled, ran, seen) =
                    (early.clone(), doubled.clone(), ran.clone(), seen.clone());
                group.schedule(at, async move {
                    early.fetch_add(u64::from(tokio::time::Instant::now() < at), SeqCst);
                    let bit = 1 << (job % 64);
                    let before = seen[(job / 64) as usize].fetch_or(bit, SeqCst);
                    doubled.fetch_add(u64::from(before & bit != 0), SeqCst);
                    ran.fetch_add(1, SeqCst);
                });
            }
            tokio::time::sleep(Duration::from_secs(2)).await;
        }
        group.wait().await.expect("no job panics");
        (early.load(SeqCst), doubled.load(SeqCst), ran.load(SeqCst))
    });
    let lost = jobs.abs_diff(ran - doubled);
    println!(
        "volume: {lost} lost, {doubled} twice, {early} early of {jobs} jobs, {:.1?}",
        start.elapsed()
    );
    lost + doubled + early
}

/// The same on the real clock, from eight tasks on two workers.
pub(crate) fn real(jobs: u64) -> u64 {
    const PRODUCERS: u64 = 8;
    /// The maximum number of jobs that are pending or wait.
    const WINDOW: u64 = 200_000;
    let start = Instant::now();
    let (ran, early) = two_workers().block_on(async move {
        let group = Arc::new(Group::new());
        let (ran, early) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let mut producers = tokio::task::JoinSet::new();
        for producer in 0..PRODUCERS {
            let (group, ran, early) = (Arc::clone(&group), ran.clone(), early.clone());
            producers.spawn(async move {
                for job in (producer..jobs).step_by(PRODUCERS as usize) {
                    while job >= ran.load(Relaxed) + WINDOW {
                        tokio::time::sleep(Duration::from_millis(1)).await;
                    }
                    let at =
                        tokio::time::Instant::now() + Duration::from_micros(job * 7919 % 20_000);
                    let (ran, early) = (ran.clone(), early.clone());
                    group.schedule(at, async move {
                        early.fetch_add(u64::from(tokio::time::Instant::now() < at), Relaxed);
                        ran.fetch_add(1, Relaxed);
                    });
                    if job % 1024 < PRODUCERS {
                        tokio::task::yield_now().await;
                    }
                }
            });
        }
        producers.join_all().await;
        group.wait().await.expect("no job panics");
        (ran.load(SeqCst), early.load(SeqCst))
    });
    let wrong = jobs.abs_diff(ran);
    println!(
        "real: {wrong} lost or twice, {early} early of {jobs} jobs, {:.1?}",
        start.elapsed()
    );
    wrong + early
}

/// Runs a series and a job every hour for that many years of a paused clock. Each must run exactly at its instant.
pub(crate) fn years(years: u64) -> u64 {
    const HOUR: Duration = Duration::from_secs(3600);
    let hours = years * 8760;
    let start = Instant::now();
    let (runs, off) = paused_clock().block_on(async move {
        let group = Group::new();
        let begin = tokio::time::Instant::now();
        let (runs, off) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let (counter, astray) = (runs.clone(), off.clone());
        group.repeat(begin + HOUR, move |context| {
            let (counter, astray) = (counter.clone(), astray.clone());
            async move {
                let hour = context.run();
                let due = begin + HOUR * hour as u32;
                astray.fetch_add(u64::from(tokio::time::Instant::now() != due), SeqCst);
                counter.fetch_add(1, SeqCst);
                match hour < hours {
                    true => Next::At(due + HOUR),
                    false => Next::Done,
                }
            }
        });
        for hour in 1..=hours {
            let due = begin + HOUR * hour as u32;
            let (runs, off) = (runs.clone(), off.clone());
            group.schedule(due, async move {
                off.fetch_add(u64::from(tokio::time::Instant::now() != due), SeqCst);
                runs.fetch_add(1, SeqCst);
            });
        }
        group.wait().await.expect("no job panics");
        (runs.load(SeqCst), off.load(SeqCst))
    });
    let missing = runs.abs_diff(2 * hours);
    println!(
        "years: {missing} missing, {off} not at their instant of {} runs in {years} years, {:.1?}",
        2 * hours,
        start.elapsed()
    );
    missing + off
}
