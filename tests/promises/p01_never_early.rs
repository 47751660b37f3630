//! A job is released at or after its deadline; a past one is due at once, without passing through a
//! sleep.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use schedgroup::Group;
use tokio::time::{Instant, sleep};

use crate::common::{Hold, Log, Random, context_of, methods, ms, on_both, settle, us};

#[tokio::test(start_paused = true)]
async fn every_method_fires_exactly_at_its_deadline() {
    let group = Group::new();
    let hold = Hold::new();
    let (handle, context) = (group.handle(), context_of(&group, &hold).await);
    let log = Log::new();
    let (at, job) = (Instant::now() + ms(5), || log.job(()));
    let of_group = methods!(group, at, job);
    let of_handle = methods!(handle, at, job);
    let of_context = methods!(context, at, job);
    for (method, call) in of_group.into_iter().chain(of_handle).chain(of_context) {
        assert_eq!(call().deadline(), at, "{method}");
    }
    hold.release();
    group.wait().await.unwrap();
    assert_eq!(log.take(), vec![((), ms(5)); 21]);
}

#[test]
fn no_job_starts_before_its_deadline_on_a_real_clock() {
    on_both(|| async {
        let group = Group::new();
        let early = Arc::new(AtomicUsize::new(0));
        let mut random = Random(1);
        for _ in 0..2_000 {
            let at = Instant::now() + Duration::from_nanos(random.below(30_000_000));
            let early = Arc::clone(&early);
            group.schedule_with(at, move |context| async move {
                let late = Instant::now().checked_duration_since(at);
                let told = context.deadline() == at && late >= Some(context.lateness());
                early.fetch_add(usize::from(!told), Ordering::SeqCst);
            });
        }
        group.wait().await.unwrap();
        assert_eq!(early.load(Ordering::SeqCst), 0);
    });
}

#[test]
fn no_moved_job_starts_before_its_last_deadline_on_a_real_clock() {
    on_both(|| async {
        let group = Group::new();
        let mut random = Random(2);
        let jobs = (0..500).map(|_| {
            let started = Arc::new(std::sync::Mutex::new(None));
            let seen = Arc::clone(&started);
            let job = group.delay(us(random.below(5_000)), async move {
                *seen.lock().unwrap() = Some(Instant::now());
            });
            (job, started)
        });
        let jobs = jobs.collect::<Vec<_>>();
        for _ in 0..4 {
            for (job, _) in &jobs {
                job.reset_after(us(random.below(10_000)));
            }
            tokio::task::yield_now().await;
        }
        group.wait().await.unwrap();
        for (job, started) in jobs {
            let started = started.lock().unwrap().unwrap();
            assert!(
                started >= job.deadline(),
                "{:?} early",
                job.deadline() - started
            );
        }
    });
}

/// Nothing here lets the paused clock move, nor a timer fire.
#[tokio::test(start_paused = true)]
async fn a_past_deadline_needs_no_timer() {
    let group = Group::new();
    let log = Log::new();
    group.delay(Duration::ZERO, log.job("zero"));
    settle().await;
    assert_eq!(log.take(), [("zero", ms(0))]);
    group.schedule(Instant::now() - ms(1), log.job("past"));
    settle().await;
    assert_eq!(log.take(), [("past", ms(0))]);
    let moved = group.delay(ms(10), log.job("moved"));
    settle().await;
    assert!(moved.reset_at(Instant::now() - ms(1)));
    settle().await;
    assert_eq!(log.take(), [("moved", ms(0))]);
}

#[tokio::test(start_paused = true)]
async fn a_context_tells_deadline_and_lateness() {
    let group = Group::builder().max_running(1).build();
    let log = Log::new();
    let start = Instant::now();
    let job = |label, work| {
        let log = log.clone();
        move |context: schedgroup::JobContext| async move {
            log.push((label, context.deadline() - start, context.lateness()));
            sleep(work).await;
        }
    };
    // It fires at the next whole millisecond, and then holds the one slot.
    group.delay_with(us(300), job("rounded up", ms(9)));
    group.delay_with(ms(2), job("without a slot", ms(0)));
    group.delay_with(ms(20), job("on time", ms(0)));
    sleep(ms(30)).await;
    let seen = |label, deadline, lateness, at| ((label, deadline, lateness), at);
    assert_eq!(
        log.take(),
        [
            seen("rounded up", us(300), us(700), ms(1)),
            seen("without a slot", ms(2), ms(8), ms(10)),
            seen("on time", ms(20), ms(0), ms(20)),
        ]
    );
    group.schedule_with(start, move |context| async move {
        assert_eq!((context.deadline(), context.lateness()), (start, ms(30)));
    });
    group.wait().await.unwrap();
}
