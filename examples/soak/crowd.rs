//! Many tasks that use one group.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

use schedgroup::{Group, JobHandle};

use crate::{Gone, Xorshift, two_workers};

/// Eight tasks schedule, cancel and move jobs for a number of seconds. Each job must have run or been cancelled once.
pub(crate) fn crowd(seconds: u64) -> u64 {
    let start = Instant::now();
    let (pushed, ran, cancelled, gone) = two_workers().block_on(async move {
        let group = Arc::new(Group::new());
        let counts: [Arc<AtomicU64>; 4] = Default::default();
        let mut tasks = tokio::task::JoinSet::new();
        for seed in 1..=8 {
            let (group, counts) = (Arc::clone(&group), counts.clone());
            tasks.spawn(async move { meddle(&group, &counts, seed, seconds).await });
        }
        tasks.join_all().await;
        group.wait().await.expect("no job panics");
        counts.map(|count| count.load(SeqCst)).into()
    });
    let astray = pushed.abs_diff(ran + cancelled) + pushed.abs_diff(gone);
    println!(
        "crowd: {astray} astray of {pushed} pushed, {ran} ran, {cancelled} cancelled, {:.1?}",
        start.elapsed()
    );
    astray
}

async fn meddle(group: &Group, counts: &[Arc<AtomicU64>; 4], seed: u64, seconds: u64) {
    let [pushed, ran, cancelled, gone] = counts;
    let (mut random, mut jobs) = (Xorshift(seed), Vec::<JobHandle>::new());
    let over = Instant::now() + Duration::from_secs(seconds);
    while Instant::now() < over {
        for _ in 0..256 {
            let delay = Duration::from_micros(random.below(20_000));
            let (ran, gone) = (Arc::clone(ran), Gone(Arc::clone(gone)));
            jobs.push(group.delay(delay, async move {
                ran.fetch_add(1, SeqCst);
                drop(gone);
            }));
            pushed.fetch_add(1, SeqCst);
            let job = random.below(jobs.len() as u64) as usize;
            match random.below(4) {
                0 if jobs[job].cancel() => {
                    cancelled.fetch_add(1, SeqCst);
                }
                1 => {
                    jobs[job].reset_after(Duration::from_micros(random.below(40_000)));
                }
                _ => {}
            }
            if jobs.len() > 4096 {
                jobs.swap_remove(job);
            }
        }
        tokio::task::yield_now().await;
    }
}
