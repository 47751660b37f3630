//! What the tests of other trusted timers ask, and no other file here does.

use std::pin::Pin;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use crate::common::{
    Log, Random, alive_tasks, block_until_told, bounded, ms, multi_thread, watched,
};
use schedgroup::{Group, JobContext, JobHandle, WaitError};
use tokio::time::{Instant, sleep};

/// Go's `TestZeroTimer`, of timers that were missed. There none may be more than two seconds late; here none more than twenty,
/// since a busy machine may let the whole program wait for longer than two.
#[test]
fn a_storm_of_jobs_without_delay_leaves_none_behind() {
    const JOBS: usize = 100_000;
    watched(|| {
        multi_thread().block_on(bounded(async {
            let group = Group::new();
            let (ran, latest) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicU64::new(0)));
            for _ in 0..JOBS {
                let (ran, latest, pushed) = (ran.clone(), latest.clone(), Instant::now());
                group.delay(Duration::ZERO, async move {
                    latest.fetch_max(pushed.elapsed().as_millis() as u64, SeqCst);
                    ran.fetch_add(1, SeqCst);
                });
            }
            group.wait().await.unwrap();
            let latest = latest.load(SeqCst);
            assert_eq!(ran.load(SeqCst), JOBS);
            assert!(latest < 20_000, "one was {latest} ms late");
        }));
    });
}

/// Go's `TestAdjustTimers` and `TestLongAdjustTimers`: five thousand jobs, moved fifty thousand times.
#[tokio::test(start_paused = true)]
async fn jobs_that_are_moved_about_fire_where_they_were_moved_to_last() {
    const JOBS: u64 = 5_000;
    let (group, log, mut random) = (Group::new(), Log::new(), Random(7));
    let start = Instant::now();
    let far = start + Duration::from_secs(3_600);
    let jobs: Vec<JobHandle> = (0..JOBS)
        .map(|job| group.schedule(far, log.job(job)))
        .collect();
    let mut last = vec![far; JOBS as usize];
    for round in 0..50_000 {
        let job = random.below(JOBS) as usize;
        // Not before the last of the moves has been made.
        let at = start + ms(60_000 + random.below(600_000));
        assert!(jobs[job].reset_at(at));
        last[job] = at;
        if round % 1_000 == 0 {
            sleep(ms(1)).await;
        }
    }
    group.wait().await.unwrap();
    let fired = log.take();
    assert_eq!(fired.len(), JOBS as usize);
    for (job, at) in fired {
        assert_eq!(start + at, last[job as usize], "job {job}");
    }
}

/// CPython's `test_taskgroup_24`: each job starts two more, until one of them ends it for all.
#[tokio::test(start_paused = true)]
async fn jobs_that_double_end_with_their_group() {
    type Head = Pin<Box<dyn Future<Output = ()> + Send>>;
    fn head(context: JobContext, heads: Arc<AtomicUsize>) -> Head {
        Box::pin(async move {
            if heads.fetch_add(1, SeqCst) == 1_000 {
                context.token().cancel();
            }
            for _ in 0..2 {
                let heads = heads.clone();
                context.delay_with(ms(1), |context| head(context, heads));
            }
        })
    }
    let (group, heads) = (Group::new(), Arc::new(AtomicUsize::new(0)));
    let first = heads.clone();
    group.delay_with(ms(1), |context| head(context, first));
    let waited = group.wait().await;
    assert!(matches!(waited, Err(WaitError::Cancelled)), "{waited:?}");
    sleep(ms(10)).await;
    assert_eq!(heads.load(SeqCst), 1_001, "heads after the cancel");
    assert_eq!(alive_tasks(), 0, "tasks are left");
}

/// A blocked worker is one worker: the driver and its timer go on beside it.
#[test]
fn a_job_that_blocks_its_worker_leaves_the_others_theirs() {
    watched(|| {
        multi_thread().block_on(bounded(async {
            let group = Group::new();
            let (tell, told) = mpsc::channel();
            group.delay(ms(10), async move { block_until_told(&told) });
            group.delay(ms(100), async move { tell.send(()).unwrap() });
            group.wait().await.unwrap();
        }));
    });
}
