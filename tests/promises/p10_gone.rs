//! After a cancel, and once the group or its runtime is gone, `delay` and its like return finished
//! handles of dropped jobs, and the `try_` forms say `Cancelled`.

use std::future::ready;
use std::time::Duration;

use schedgroup::{Group, Handle, JobError, JobState, ScheduleError};
use tokio::time::{Instant, sleep};

use crate::common::{Flag, methods, ms, on_both, runtimes, settle, watched};

/// That the handle leads nowhere, by every method.
fn assert_leads_nowhere(handle: &Handle, how: &str) {
    let flag = Flag::new();
    let (at, job) = (Instant::now() + ms(5), || flag.job());
    for (method, call) in methods!(handle, at, job) {
        let before = flag.drops();
        let job = call();
        assert_eq!(job.state(), JobState::Cancelled, "{how}, {method}");
        assert!(job.is_finished() && !job.is_pending(), "{how}, {method}");
        assert_eq!(flag.drops(), before + 1, "{how}, {method}");
        // A `delay` counts from its own now, which may be later than that of `at`.
        let asked = at..=Instant::now() + ms(5);
        let deadline = job.deadline();
        assert!(asked.contains(&deadline), "{how}, {method}: {deadline:?}");
        assert!(!job.cancel() && !job.reset_at(at), "{how}, {method}");
        job.abort();
        assert_eq!(job.clone().id(), job.id(), "{how}, {method}");
    }
    for rejected in [
        handle.try_delay(ms(1), ready(())).err(),
        handle.try_schedule(at, ready(())).err(),
    ] {
        assert!(
            matches!(rejected, Some(ScheduleError::Cancelled(_))),
            "{how}: {rejected:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_handle_of_a_cancelled_group_leads_nowhere() {
    let group = Group::new();
    let handle = group.handle();
    group.cancel();
    assert_leads_nowhere(&handle, "at once");
    settle().await;
    assert_leads_nowhere(&handle, "after a while");

    let by_token = Group::new();
    by_token.token().cancel();
    assert_leads_nowhere(&by_token.handle(), "by its token");

    let passed = Group::builder().timeout(ms(1)).build();
    sleep(ms(2)).await;
    assert_leads_nowhere(&passed.handle(), "by its deadline");
}

#[test]
fn a_handle_of_a_dropped_group_leads_nowhere() {
    on_both(|| async {
        let group = Group::new();
        let handle = group.handle();
        drop(group);
        assert_leads_nowhere(&handle, "dropped");
    });
}

#[test]
fn a_handle_whose_runtime_is_gone_leads_nowhere() {
    watched(|| {
        for (flavour, runtime) in runtimes() {
            let group = {
                let _inside = runtime.enter();
                Group::new()
            };
            let handle = group.handle();
            drop(runtime);
            assert_leads_nowhere(&handle, flavour);
        }
    });
}

#[tokio::test(start_paused = true)]
async fn rejected_jobs_still_have_names_of_their_own() {
    let group = Group::new();
    let accepted = group.delay(ms(1), async {});
    group.cancel();
    let rejected = [(); 2].map(|()| group.delay(ms(1), async {}).id());
    assert!(
        accepted.id() < rejected[0] && rejected[0] < rejected[1],
        "{rejected:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_join_handle_of_a_rejected_job_says_cancelled_at_once() {
    let group = Group::new();
    group.cancel();
    let start = Instant::now();
    let value = group.spawn_after(Duration::from_secs(3_600), async { 5 });
    let result = value.await;
    assert!(matches!(result, Err(JobError::Cancelled)), "{result:?}");
    assert_eq!(start.elapsed(), ms(0));
}

/// A rejected job is no job of the group.
#[tokio::test(start_paused = true)]
async fn rejected_jobs_are_not_counted() {
    let group = Group::new();
    group.cancel();
    group.delay(ms(1), async {});
    settle().await;
    let stats = group.stats();
    assert_eq!(
        (stats.pending, stats.running, stats.cancelled),
        (0, 0, 0),
        "{stats:?}"
    );
}
