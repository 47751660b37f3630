//! What each store promises: the same tests for all three.
#![forbid(unsafe_code)]

mod support;

use std::sync::Arc;
use std::time::Duration;

use delayed_jobs::store::{
    After, Asked, Change, Claim, Claimed, Ended, Lease, Lot, MemoryStore, NewJob, Reclaimed,
    ScheduleSpec, Slot, Store, Suspects, UniqueKey, Verdict, open_postgres, open_sqlite,
};
use delayed_jobs::{
    Enqueued, Filter, JobId, Limit, Micros, OnDuplicate, Priority, QueueRow, State, UniqueWhile,
    WorkerRow,
};

/// A store, and what has to live as long.
struct Opened {
    store: Arc<dyn Store>,
    _dir: Option<tempfile::TempDir>,
}

impl std::ops::Deref for Opened {
    type Target = Arc<dyn Store>;

    fn deref(&self) -> &Arc<dyn Store> {
        &self.store
    }
}

async fn memory() -> Option<Opened> {
    let store = Arc::new(MemoryStore::new());
    Some(Opened { store, _dir: None })
}

async fn sqlite() -> Option<Opened> {
    let (dir, path) = support::sqlite();
    let store = open_sqlite(path).await.expect("a new file");
    Some(Opened {
        store,
        _dir: Some(dir),
    })
}

async fn postgres() -> Option<Opened> {
    let url = support::postgres()?.database().await;
    let store = open_postgres(&url).await.expect("a new database");
    Some(Opened { store, _dir: None })
}

macro_rules! promises {
    ($($name:ident),* $(,)?) => {
        promises!(@ memory: $($name)*);
        promises!(@ sqlite: $($name)*);
        promises!(@ postgres: $($name)*);
    };
    (@ $kind:ident: $($name:ident)*) => {
        mod $kind {
            $(
                #[tokio::test]
                async fn $name() {
                    if let Some(opened) = super::$kind().await {
                        super::$name(opened).await;
                    }
                }
            )*
        }
    };
}

promises![
    a_claim_takes_what_is_due_by_priority_and_time,
    a_job_is_claimed_once,
    an_old_claim_ends_nothing,
    verdicts_leave_the_job_as_they_say,
    an_expired_lease_is_taken_back_and_a_renewed_one_is_not,
    a_job_that_kills_its_workers_is_dead,
    a_lost_job_that_was_to_be_cancelled_is,
    a_key_is_rejected_kept_or_replaced,
    a_running_job_loses_its_key_to_its_replacement,
    a_key_is_free_when_its_job_has_ended,
    cancel_tells_what_it_met,
    retry_tells_what_it_met,
    a_cancel_that_was_granted_holds,
    only_known_kinds_are_claimed,
    a_worker_is_told_what_it_holds,
    a_paused_queue_gives_nothing,
    the_look_ahead_is_bounded_and_in_order,
    a_slot_is_filled_once,
    pruning_forgets_what_ended_before,
    listing_filters_and_orders,
    progress_is_seen_until_the_next_claim,
    many_jobs_keep_their_order,
    texts_come_back_as_they_were,
    a_key_is_held_in_the_states_of_its_rule,
    a_key_is_another_in_another_period,
    a_key_of_a_period_is_remembered_beyond_the_end_of_its_job,
    a_job_brings_its_own_limits,
    the_errors_of_the_last_tries_are_kept,
    what_a_job_brought_forth_is_kept,
    many_jobs_are_cancelled_by_a_filter,
    many_jobs_are_retried_by_a_filter,
    many_jobs_are_deleted_by_a_filter,
    a_list_has_pages,
    a_queue_with_limits_gives_nothing_to_those_who_do_not_know,
    a_queue_has_a_limit_over_all_workers,
    each_key_has_a_limit_over_all_workers,
    a_rate_spreads_the_starts_of_a_queue_and_of_a_key,
    many_workers_at_once_keep_a_limit,
    a_suspect_keeps_the_limits,
    priorities_age,
    a_job_comes_after_others_are_done,
    a_job_is_cancelled_if_one_before_it_fails_and_so_are_those_after_it,
    a_callback_comes_after_all_ends,
    what_has_ended_before_is_not_waited_for,
    workers_are_seen_while_they_live,
    what_comes_and_goes_is_counted,
];

const T: fn(i64) -> Micros = |seconds| Micros(seconds * 1_000_000);

fn job(run_at: i64) -> NewJob {
    NewJob {
        kind: "test".to_owned(),
        queue: "default".to_owned(),
        payload: "{}".to_owned(),
        priority: Priority::Normal,
        run_at: T(run_at),
        created_at: T(0),
        attempts: None,
        timeout: None,
        limit_key: None,
        key: None,
        after: None,
    }
}

fn keyed(key: &str, on_duplicate: OnDuplicate, run_at: i64) -> NewJob {
    let key = UniqueKey {
        key: key.to_owned(),
        on_duplicate,
        within: UniqueWhile::Unfinished,
        until: None,
    };
    NewJob {
        key: Some(key),
        ..job(run_at)
    }
}

async fn put(store: &Opened, job: NewJob) -> Enqueued {
    let enqueued = store.enqueue(vec![job]).await.expect("enqueued");
    enqueued[0]
}

async fn claim(store: &Opened, worker: &str, limit: usize, now: i64) -> Vec<Claimed> {
    let claim = Claim {
        worker: worker.to_owned(),
        queue: "default".to_owned(),
        limit,
        now: T(now),
        lease_until: T(now + 30),
        kinds: ["test", "a", "b"].map(str::to_owned).to_vec(),
        suspects: Suspects::Without(9),
        limited: false,
        ageing: None,
    };
    store.claim(claim).await.expect("a claim").jobs
}

async fn claim_one(store: &Opened, now: i64) -> Lease {
    let claimed = claim(store, "w", 1, now).await;
    claimed[0].lease
}

async fn finish(store: &Opened, lease: Lease, at: i64, verdict: Verdict) -> bool {
    let at = T(at);
    let ended = Ended { lease, at, verdict };
    store.finish(ended).await.expect("an answer")
}

async fn state(store: &Opened, id: JobId) -> State {
    store
        .get(id)
        .await
        .expect("an answer")
        .expect("a job")
        .state
}

fn ids(claimed: &[Claimed]) -> Vec<JobId> {
    claimed.iter().map(|claimed| claimed.lease.id).collect()
}

async fn forget(store: &Opened, state: State, before: i64, limit: usize) -> usize {
    let old = Filter {
        state: Some(state),
        ended_before: Some(T(before)),
        limit,
        ..Filter::default()
    };
    let forgotten = store.change(Change::Delete, old, T(0)).await;
    forgotten.expect("deleted").len()
}

async fn a_claim_takes_what_is_due_by_priority_and_time(store: Opened) {
    let mut put_with = Vec::new();
    for (priority, run_at) in [
        (Priority::Low, 1),
        (Priority::Normal, 5),
        (Priority::Normal, 3),
        (Priority::Normal, 3),
        (Priority::High, 9),
        (Priority::High, 11),
    ] {
        let job = NewJob {
            priority,
            ..job(run_at)
        };
        put_with.push(put(&store, job).await.id());
    }
    let elsewhere = NewJob {
        queue: "other".to_owned(),
        ..job(1)
    };
    put(&store, elsewhere).await;
    let [low, five, three, three_again, high, _] = put_with[..] else {
        unreachable!("six were put")
    };

    let first = claim(&store, "w", 3, 10).await;
    assert_eq!(ids(&first), [high, three, three_again]);
    assert_eq!((first[0].attempt, first[0].run_at), (1, T(9)));
    let rest = claim(&store, "w", 10, 10).await;
    assert_eq!(
        ids(&rest),
        [five, low],
        "what is due at 11 is not due at 10"
    );
}

async fn a_job_is_claimed_once(store: Opened) {
    for n in 0..200 {
        put(&store, job(n % 7)).await;
    }
    let mut claims = tokio::task::JoinSet::new();
    for worker in 0..8 {
        let store = Arc::clone(&store);
        claims.spawn(async move {
            let opened = Opened { store, _dir: None };
            let mut mine = Vec::new();
            loop {
                let claimed = claim(&opened, &format!("w{worker}"), 9, 10).await;
                if claimed.is_empty() {
                    return mine;
                }
                mine.extend(ids(&claimed));
            }
        });
    }
    let mut all = claims.join_all().await.concat();
    let count = all.len();
    all.sort();
    all.dedup();
    assert_eq!((count, all.len()), (200, 200));
}

async fn an_old_claim_ends_nothing(store: Opened) {
    let id = put(&store, job(0)).await.id();
    let old = claim_one(&store, 1).await;
    store.reclaim(T(100), 3).await.expect("reclaimed");
    assert!(!finish(&store, old, 101, Verdict::Done { output: None }).await);
    let new = claim_one(&store, 102).await;
    assert_eq!(new.id, old.id);
    assert!(!finish(&store, old, 103, Verdict::Done { output: None }).await);
    let renewed = store.renew(vec![old], T(200)).await.expect("an answer");
    assert_eq!(renewed, []);
    assert!(!store.progress(old, 50).await.expect("an answer"));
    assert_eq!(state(&store, id).await, State::Running);
    assert!(finish(&store, new, 104, Verdict::Done { output: None }).await);
    assert!(!finish(&store, new, 105, Verdict::Done { output: None }).await);
}

async fn verdicts_leave_the_job_as_they_say(store: Opened) {
    let id = put(&store, job(0)).await.id();
    let lease = claim_one(&store, 1).await;
    let error = "no answer".to_owned();
    let retry = Verdict::Retry { at: T(50), error };
    assert!(finish(&store, lease, 2, retry).await);
    let record = store.get(id).await.expect("an answer").expect("a job");
    assert_eq!((record.state, record.run_at), (State::Pending, T(50)));
    assert_eq!(
        (record.attempt, record.error.as_deref()),
        (1, Some("no answer"))
    );
    assert_eq!((record.worker, record.lease_until), (None, None));
    assert_eq!(claim(&store, "w", 1, 49).await.len(), 0);

    let again = claim(&store, "w", 1, 50).await;
    assert_eq!(again[0].attempt, 2);
    assert!(finish(&store, again[0].lease, 51, Verdict::Released).await);
    let released = claim(&store, "w", 1, 52).await;
    assert_eq!(
        released[0].attempt, 2,
        "a try that was given back does not count"
    );
    let error = "no hope".to_owned();
    assert!(finish(&store, released[0].lease, 53, Verdict::Dead { error }).await);
    let record = store.get(id).await.expect("an answer").expect("a job");
    assert_eq!(
        (record.state, record.finished_at),
        (State::Dead, Some(T(53)))
    );
    assert_eq!(record.error.as_deref(), Some("no hope"));
}

async fn an_expired_lease_is_taken_back_and_a_renewed_one_is_not(store: Opened) {
    for _ in 0..2 {
        put(&store, job(0)).await;
    }
    let claimed = claim(&store, "w", 2, 0).await;
    assert_eq!(store.next_expiry("w").await.expect("an answer"), None);
    assert_eq!(
        store.next_expiry("v").await.expect("an answer"),
        Some(T(30))
    );
    let kept = claimed[1].lease;
    let renewed = store.renew(vec![kept], T(60)).await.expect("an answer");
    assert_eq!(renewed, [kept.id]);

    assert_eq!(store.reclaim(T(29), 3).await.expect("an answer"), []);
    let lost = Reclaimed {
        id: claimed[0].lease.id,
        queue: "default".to_owned(),
        state: State::Pending,
    };
    assert_eq!(store.reclaim(T(30), 3).await.expect("an answer"), [lost]);
    let again = claim(&store, "v", 9, 31).await;
    assert_eq!(ids(&again), [claimed[0].lease.id]);
    assert_eq!(
        again[0].attempt, 1,
        "a try that a crash cut off does not count"
    );
}

async fn a_job_that_kills_its_workers_is_dead(store: Opened) {
    let id = put(&store, job(0)).await.id();
    for (crash, suspects, expected) in [
        (1, Suspects::Without(2), State::Pending),
        (2, Suspects::Without(2), State::Pending),
        // Not alone: that may have been its neighbour's doing.
        (3, Suspects::Without(9), State::Pending),
        (4, Suspects::Alone(2), State::Dead),
    ] {
        let claim = Claim {
            worker: "w".to_owned(),
            queue: "default".to_owned(),
            limit: 1,
            now: T(crash * 100),
            lease_until: T(crash * 100 + 30),
            kinds: vec!["test".to_owned()],
            suspects,
            limited: false,
            ageing: None,
        };
        assert_eq!(
            store.claim(claim).await.expect("a claim").jobs.len(),
            1,
            "crash {crash}"
        );
        let lost = store
            .reclaim(T(crash * 100 + 50), 3)
            .await
            .expect("an answer");
        assert_eq!(lost[0].state, expected, "after crash {crash}");
    }
    let record = store.get(id).await.expect("an answer").expect("a job");
    assert_eq!(
        record.error.as_deref(),
        Some("its worker was lost 4 times while it ran")
    );
    assert_eq!(record.finished_at, Some(T(450)));
}

async fn a_lost_job_that_was_to_be_cancelled_is(store: Opened) {
    let id = put(&store, job(0)).await.id();
    claim_one(&store, 1).await;
    store.cancel(id, T(2)).await.expect("an answer");
    let lost = store.reclaim(T(50), 3).await.expect("an answer");
    assert_eq!(lost[0].state, State::Cancelled);
}

async fn a_key_is_rejected_kept_or_replaced(store: Opened) {
    let first = put(&store, keyed("k", OnDuplicate::Reject, 10)).await.id();
    let rejected = put(&store, keyed("k", OnDuplicate::Reject, 20)).await;
    assert_eq!(rejected, Enqueued::Refused(first));
    let kept = put(&store, keyed("k", OnDuplicate::Keep, 20)).await;
    assert_eq!(kept, Enqueued::Kept(first));
    let replacement = NewJob {
        payload: "[1]".to_owned(),
        priority: Priority::High,
        ..keyed("k", OnDuplicate::Replace, 5)
    };
    assert_eq!(put(&store, replacement).await, Enqueued::Replaced(first));
    let other = put(&store, keyed("l", OnDuplicate::Reject, 10)).await;
    assert_eq!(store.counts().await.expect("counts").pending, 2);
    assert!(matches!(other, Enqueued::New(_)));

    let claimed = claim(&store, "w", 9, 5).await;
    assert_eq!(ids(&claimed), [first]);
    assert_eq!(claimed[0].payload, "[1]");
}

async fn a_running_job_loses_its_key_to_its_replacement(store: Opened) {
    let first = put(&store, keyed("k", OnDuplicate::Reject, 0)).await.id();
    let lease = claim_one(&store, 1).await;
    let rejected = put(&store, keyed("k", OnDuplicate::Reject, 20)).await;
    assert_eq!(rejected, Enqueued::Refused(first));
    let second = put(&store, keyed("k", OnDuplicate::Replace, 20)).await;
    assert!(
        matches!(second, Enqueued::New(id) if id != first),
        "{second:?}"
    );
    let third = put(&store, keyed("k", OnDuplicate::Keep, 20)).await;
    assert_eq!(third, Enqueued::Kept(second.id()));
    assert!(finish(&store, lease, 2, Verdict::Done { output: None }).await);
}

async fn a_key_is_free_when_its_job_has_ended(store: Opened) {
    let first = put(&store, keyed("k", OnDuplicate::Reject, 0)).await.id();
    let lease = claim_one(&store, 1).await;
    assert!(finish(&store, lease, 2, Verdict::Done { output: None }).await);
    let second = put(&store, keyed("k", OnDuplicate::Reject, 0)).await;
    assert!(
        matches!(second, Enqueued::New(id) if id != first),
        "{second:?}"
    );
}

async fn cancel_tells_what_it_met(store: Opened) {
    let pending = put(&store, job(100)).await.id();
    let asked = store.cancel(pending, T(1)).await.expect("an answer");
    assert_eq!(asked, Asked::Granted(State::Cancelled));
    let asked = store.cancel(pending, T(2)).await.expect("an answer");
    assert_eq!(asked, Asked::Refused(State::Cancelled));
    let record = store.get(pending).await.expect("an answer").expect("a job");
    assert_eq!(record.finished_at, Some(T(1)));

    let running = put(&store, job(0)).await.id();
    let lease = claim_one(&store, 1).await;
    assert_eq!(store.asked_to_cancel("w").await.expect("an answer"), []);
    let asked = store.cancel(running, T(2)).await.expect("an answer");
    assert_eq!(asked, Asked::Granted(State::Running));
    assert_eq!(
        store.asked_to_cancel("w").await.expect("an answer"),
        [running]
    );
    assert_eq!(store.asked_to_cancel("v").await.expect("an answer"), []);
    assert!(finish(&store, lease, 3, Verdict::Cancelled).await);
    assert_eq!(store.asked_to_cancel("w").await.expect("an answer"), []);
    assert_eq!(state(&store, running).await, State::Cancelled);
    let nobody = store.cancel(JobId(999), T(4)).await.expect("an answer");
    assert_eq!(nobody, Asked::Unknown);
}

async fn a_cancel_that_was_granted_holds(store: Opened) {
    let error = || "x".to_owned();
    for (verdict, expected) in [
        (
            Verdict::Retry {
                at: T(9),
                error: error(),
            },
            State::Cancelled,
        ),
        (Verdict::Dead { error: error() }, State::Cancelled),
        (Verdict::Released, State::Cancelled),
        (Verdict::Snoozed { at: T(9) }, State::Cancelled),
        (Verdict::Done { output: None }, State::Done),
    ] {
        let id = put(&store, job(0)).await.id();
        let lease = claim_one(&store, 1).await;
        store.cancel(id, T(2)).await.expect("an answer");
        assert!(finish(&store, lease, 3, verdict.clone()).await);
        let record = store.get(id).await.expect("an answer").expect("a job");
        let seen = (record.state, record.finished_at);
        assert_eq!(seen, (expected, Some(T(3))), "{verdict:?}");
    }
}

async fn only_known_kinds_are_claimed(store: Opened) {
    let unknown = NewJob {
        kind: "new \"kind\"".to_owned(),
        ..job(0)
    };
    put(&store, unknown).await;
    let known = put(&store, job(1)).await.id();
    assert_eq!(ids(&claim(&store, "w", 9, 5).await), [known]);
}

async fn a_worker_is_told_what_it_holds(store: Opened) {
    put(&store, job(0)).await;
    put(&store, job(0)).await;
    let lease = claim_one(&store, 1).await;
    assert_eq!(store.held_by("w").await.expect("an answer"), [lease]);
    assert_eq!(store.held_by("v").await.expect("an answer"), []);
}

async fn retry_tells_what_it_met(store: Opened) {
    let id = put(&store, keyed("k", OnDuplicate::Reject, 0)).await.id();
    let lease = claim_one(&store, 1).await;
    let asked = store.retry(id, T(2)).await.expect("an answer");
    assert_eq!(asked, Asked::Refused(State::Running));
    let error = "x".to_owned();
    assert!(finish(&store, lease, 2, Verdict::Dead { error }).await);

    let successor = put(&store, keyed("k", OnDuplicate::Reject, 500)).await.id();
    let asked = store.retry(id, T(3)).await.expect("an answer");
    assert_eq!(asked, Asked::KeyTaken);
    assert_eq!(state(&store, id).await, State::Dead);
    store.cancel(successor, T(4)).await.expect("an answer");
    let asked = store.retry(id, T(5)).await.expect("an answer");
    assert_eq!(asked, Asked::Granted(State::Pending));
    let again = claim(&store, "w", 9, 5).await;
    assert_eq!((ids(&again), again[0].attempt), (vec![id], 1));

    let far = put(&store, job(1000)).await.id();
    let asked = store.retry(far, T(6)).await.expect("an answer");
    assert_eq!(asked, Asked::Granted(State::Pending));
    assert_eq!(ids(&claim(&store, "w", 9, 6).await), [far]);
}

async fn a_paused_queue_gives_nothing(store: Opened) {
    put(&store, job(0)).await;
    for _ in 0..2 {
        store.pause("default").await.expect("paused");
    }
    store.pause("idle").await.expect("paused");
    assert_eq!(claim(&store, "w", 9, 1).await.len(), 0);
    let row = |name: &str, unfinished| QueueRow {
        name: name.to_owned(),
        paused: true,
        unfinished,
    };
    let queues = store.queues().await.expect("queues");
    assert_eq!(queues, [row("default", 1), row("idle", 0)]);
    for _ in 0..2 {
        store.resume("default").await.expect("resumed");
    }
    assert_eq!(claim(&store, "w", 9, 1).await.len(), 1);
    assert!(!store.queues().await.expect("queues")[0].paused);
}

async fn the_look_ahead_is_bounded_and_in_order(store: Opened) {
    for run_at in [9, 3, 7, 5, 1, 11] {
        put(&store, job(run_at)).await;
    }
    let ahead = store.ahead("default", T(3), T(9), 2).await.expect("hints");
    let times: Vec<_> = ahead.iter().map(|(at, _)| *at).collect();
    assert_eq!(times, [T(5), T(7)]);
    let ahead = store.ahead("default", T(3), T(9), 10).await.expect("hints");
    assert_eq!(ahead.len(), 3);
    assert_eq!(ahead[2], (T(9), JobId(ahead[0].1.0 - 3)));
    assert_eq!(
        store.ahead("other", T(0), T(99), 9).await.expect("hints"),
        []
    );
}

async fn a_slot_is_filled_once(store: Opened) {
    let slot = |at: i64, spec: &str| Slot {
        schedule: "hourly".to_owned(),
        spec: spec.to_owned(),
        slot: T(at),
        earliest: T(0),
        latest: T(1000),
        overlap: false,
        job: job(at),
    };
    let declare = async |spec: &str| {
        let schedule = ScheduleSpec {
            name: "hourly".to_owned(),
            spec: spec.to_owned(),
        };
        store.declare(schedule).await.expect("declared");
    };
    let fill = async |slot| store.fill_slot(slot).await.expect("an answer");
    assert!(!fill(slot(10, "a")).await, "a schedule that nobody knows");
    declare("a").await;
    assert!(fill(slot(10, "a")).await);
    assert_eq!(
        store.last_slot("hourly").await.expect("an answer"),
        Some(T(10))
    );
    declare("a").await;
    assert!(!fill(slot(10, "a")).await);
    assert!(!fill(slot(20, "a")).await, "one waits already");
    let lease = claim_one(&store, 10).await;
    assert!(!fill(slot(20, "a")).await, "it has not ended");
    let over = Slot {
        overlap: true,
        ..slot(20, "a")
    };
    assert!(fill(over).await, "it may begin all the same");
    assert!(finish(&store, lease, 11, Verdict::Done { output: None }).await);
    let lease = claim_one(&store, 20).await;
    assert!(finish(&store, lease, 21, Verdict::Done { output: None }).await);
    assert!(!fill(slot(20, "a")).await, "also when it is done");
    assert_eq!(forget(&store, State::Done, 100, 9).await, 2);
    assert!(!fill(slot(20, "a")).await, "also when it is forgotten");

    assert!(fill(slot(30, "a")).await);
    declare("b").await;
    assert_eq!(
        store.counts().await.expect("counts").pending,
        0,
        "the old one goes"
    );
    assert!(!fill(slot(40, "a")).await, "an old worker fills no more");
    assert!(fill(slot(40, "b")).await);
    let early = Slot {
        latest: T(35),
        ..slot(30, "b")
    };
    assert!(fill(early).await, "one that lies too far ahead makes room");
    let late = Slot {
        earliest: T(35),
        ..slot(50, "b")
    };
    assert!(fill(late).await, "one that was missed makes room");
    assert_eq!(store.counts().await.expect("counts").pending, 1);
}

async fn pruning_forgets_what_ended_before(store: Opened) {
    for end in [10, 20, 30] {
        put(&store, job(0)).await;
        let lease = claim_one(&store, 1).await;
        assert!(finish(&store, lease, end, Verdict::Done { output: None }).await);
    }
    put(&store, job(0)).await;
    let lease = claim_one(&store, 1).await;
    let error = "x".to_owned();
    assert!(finish(&store, lease, 5, Verdict::Dead { error }).await);
    put(&store, job(0)).await;

    assert_eq!(forget(&store, State::Done, 30, 1).await, 1);
    assert_eq!(forget(&store, State::Done, 30, 10).await, 1);
    let counts = store.counts().await.expect("counts");
    assert_eq!((counts.done, counts.dead, counts.pending), (1, 1, 1));
    assert_eq!(forget(&store, State::Dead, 5, 10).await, 0);
    assert_eq!(forget(&store, State::Dead, 6, 10).await, 1);
    assert_eq!(store.counts().await.expect("counts").dead, 0);
}

async fn listing_filters_and_orders(store: Opened) {
    for (kind, run_at) in [("a", 30), ("b", 10), ("a", 20)] {
        let job = NewJob {
            kind: kind.to_owned(),
            ..job(run_at)
        };
        put(&store, job).await;
    }
    let list = async |filter: Filter| {
        let records = store.list(filter).await.expect("a list");
        records
            .iter()
            .map(|record| record.run_at.0 / 1_000_000)
            .collect::<Vec<_>>()
    };
    assert_eq!(list(Filter::default()).await, [20, 10, 30], "latest first");
    let mut filter = Filter {
        state: Some(State::Pending),
        ..Filter::default()
    };
    assert_eq!(list(filter.clone()).await, [10, 20, 30], "next due first");
    filter.limit = 2;
    assert_eq!(list(filter.clone()).await, [10, 20]);
    filter.kind = Some("a".to_owned());
    assert_eq!(list(filter.clone()).await, [20, 30]);
    filter.queue = Some("other".to_owned());
    assert!(list(filter).await.is_empty());
    let dead = Filter {
        state: Some(State::Dead),
        ..Filter::default()
    };
    assert!(list(dead).await.is_empty());
    assert_eq!(store.get(JobId(999)).await.expect("an answer"), None);
}

async fn progress_is_seen_until_the_next_claim(store: Opened) {
    let id = put(&store, job(0)).await.id();
    let lease = claim_one(&store, 1).await;
    assert!(store.progress(lease, 40).await.expect("an answer"));
    let record = store.get(id).await.expect("an answer").expect("a job");
    assert_eq!((record.progress, record.started_at), (Some(40), Some(T(1))));
    let error = "x".to_owned();
    assert!(finish(&store, lease, 2, Verdict::Retry { at: T(3), error }).await);
    claim_one(&store, 4).await;
    let record = store.get(id).await.expect("an answer").expect("a job");
    assert_eq!(record.progress, None);
}

async fn many_jobs_keep_their_order(store: Opened) {
    let jobs = (0..2500).map(|n| NewJob {
        payload: n.to_string(),
        ..job(n)
    });
    let enqueued = store.enqueue(jobs.collect()).await.expect("enqueued");
    assert_eq!(enqueued.len(), 2500);
    for n in [0, 1, 999, 1000, 1999, 2499] {
        let record = store
            .get(enqueued[n].id())
            .await
            .expect("an answer")
            .expect("a job");
        assert_eq!(record.payload, n.to_string());
    }
    let counts = store.counts().await.expect("counts");
    assert_eq!(counts.pending, 2500);
}

async fn texts_come_back_as_they_were(store: Opened) {
    let payload = r#"{"$1":"it's ?1, \"quoted\", 雪"}"#.to_owned();
    let job = NewJob {
        payload: payload.clone(),
        run_at: Micros::NEVER.before(Duration::from_micros(1)),
        ..job(0)
    };
    let id = put(&store, job).await.id();
    let record = store.get(id).await.expect("an answer").expect("a job");
    assert_eq!(record.payload, payload);
    assert_eq!(record.run_at, Micros(i64::MAX - 1));
}

/// A job with a key that is held in these states.
fn held_while(within: UniqueWhile, until: Option<i64>, on_duplicate: OnDuplicate) -> NewJob {
    let key = UniqueKey {
        key: "k".to_owned(),
        on_duplicate,
        within,
        until: until.map(T),
    };
    NewJob {
        key: Some(key),
        ..job(0)
    }
}

async fn a_key_is_held_in_the_states_of_its_rule(store: Opened) {
    use UniqueWhile::{Kept, Pending, Succeeded, Unfinished};
    let error = || "x".to_owned();
    let verdicts = [
        Verdict::Done { output: None },
        Verdict::Dead { error: error() },
        Verdict::Cancelled,
    ];
    for (within, running, ended) in [
        (Pending, false, [false, false, false]),
        (Unfinished, true, [false, false, false]),
        (Succeeded, true, [true, false, false]),
        (Kept, true, [true, true, true]),
    ] {
        for (verdict, held) in verdicts.clone().into_iter().zip(ended) {
            let new = || held_while(within, None, OnDuplicate::Reject);
            let first = put(&store, new()).await.id();
            assert_eq!(put(&store, new()).await, Enqueued::Refused(first));
            let lease = claim_one(&store, 1).await;
            assert_eq!(lease.id, first, "{within:?}");
            let beside = put(&store, new()).await;
            assert_eq!(beside == Enqueued::Refused(first), running, "{within:?}");
            if !running {
                // A retry of the first goes on beside it, without the key.
                let retry = Verdict::Retry {
                    at: T(0),
                    error: error(),
                };
                assert!(finish(&store, lease, 2, retry).await);
                store.cancel(beside.id(), T(2)).await.expect("an answer");
            }
            let lease = match running {
                true => lease,
                false => claim_one(&store, 3).await,
            };
            assert!(finish(&store, lease, 4, verdict.clone()).await);
            let after = put(&store, new()).await;
            let is_held = after == Enqueued::Refused(first);
            assert_eq!(is_held, held, "{within:?} after {verdict:?}");
            if is_held {
                // It loses the key to its successor, and stays what it is.
                let successor = held_while(within, None, OnDuplicate::Replace);
                let after = put(&store, successor).await;
                assert!(
                    matches!(after, Enqueued::New(id) if id != first),
                    "{after:?}"
                );
            }
            let all = Filter {
                limit: 99,
                ..Filter::default()
            };
            store
                .change(Change::Delete, all, T(9))
                .await
                .expect("deleted");
        }
    }
}

async fn a_key_is_another_in_another_period(store: Opened) {
    let new = |until| held_while(UniqueWhile::Kept, until, OnDuplicate::Keep);
    let first = put(&store, new(Some(10))).await;
    assert_eq!(put(&store, new(Some(10))).await, Enqueued::Kept(first.id()));
    let next = put(&store, new(Some(20))).await;
    let without = put(&store, new(None)).await;
    assert!(matches!(
        (next, without),
        (Enqueued::New(_), Enqueued::New(_))
    ));
    let by_key = Filter {
        key: Some("k".to_owned()),
        ..Filter::default()
    };
    assert_eq!(store.list(by_key).await.expect("a list").len(), 3);
}

async fn a_key_of_a_period_is_remembered_beyond_the_end_of_its_job(store: Opened) {
    put(
        &store,
        held_while(UniqueWhile::Succeeded, Some(100), OnDuplicate::Keep),
    )
    .await;
    let lease = claim_one(&store, 1).await;
    assert!(finish(&store, lease, 2, Verdict::Done { output: None }).await);
    assert_eq!(forget(&store, State::Done, 100, 9).await, 0);
    assert_eq!(forget(&store, State::Done, 101, 9).await, 1);
}

async fn a_job_brings_its_own_limits(store: Opened) {
    let own = || NewJob {
        attempts: Some(3),
        timeout: Some(Duration::from_millis(1500)),
        ..job(0)
    };
    let one = put(&store, own()).await.id();
    let many = vec![own(), own()];
    store.enqueue(many).await.expect("enqueued");
    put(&store, job(1)).await;
    let claimed = claim(&store, "w", 9, 5).await;
    let limits: Vec<_> = claimed
        .iter()
        .map(|job| (job.attempts, job.timeout))
        .collect();
    let theirs = (Some(3), Some(Duration::from_millis(1500)));
    assert_eq!(limits, [theirs, theirs, theirs, (None, None)]);
    let record = store.get(one).await.expect("an answer").expect("a job");
    assert_eq!((record.attempts, record.timeout), theirs);
}

async fn the_errors_of_the_last_tries_are_kept(store: Opened) {
    let id = put(&store, job(0)).await.id();
    let record = async || store.get(id).await.expect("an answer").expect("a job");
    for n in 1..=23 {
        let lease = claim_one(&store, n).await;
        let error = format!("error {n}: \"{}\" \\", "é".repeat(2000));
        let retry = Verdict::Retry { at: T(n), error };
        assert!(finish(&store, lease, n, retry).await);
    }
    let errors = record().await.errors;
    let told: Vec<_> = errors
        .iter()
        .map(|error| (error.attempt, error.at, error.error.chars().count()))
        .collect();
    let expected: Vec<_> = (4..=23_u32).map(|n| (n, T(n.into()), 1000)).collect();
    assert_eq!(told, expected);
    assert!(
        errors[0].error.starts_with("error 4: \"éé"),
        "{}",
        errors[0].error
    );
    claim_one(&store, 100).await;
    store.reclaim(T(200), 9).await.expect("reclaimed");
    let last = record().await.errors.pop().expect("an error");
    assert_eq!(
        (last.attempt, last.at, last.error.as_str()),
        (24, T(200), "its worker was lost")
    );
    let lease = claim_one(&store, 300).await;
    assert!(finish(&store, lease, 301, Verdict::Done { output: None }).await);
    assert_eq!(record().await.errors.len(), 20, "also when it is done");
}

async fn what_a_job_brought_forth_is_kept(store: Opened) {
    for output in [None, Some(r#"{"pages":["é",3]}"#.to_owned())] {
        let id = put(&store, job(0)).await.id();
        let lease = claim_one(&store, 1).await;
        let done = Verdict::Done {
            output: output.clone(),
        };
        assert!(finish(&store, lease, 2, done).await);
        let record = store.get(id).await.expect("an answer").expect("a job");
        assert_eq!((record.state, record.output), (State::Done, output));
    }
}

/// A dead, a cancelled, a done, a running and two pending ones, all of this kind.
async fn one_of_each(store: &Opened, kind: &str) -> [JobId; 6] {
    let new = |run_at| NewJob {
        kind: kind.to_owned(),
        ..job(run_at)
    };
    let mut ids = Vec::new();
    let error = "x".to_owned();
    for verdict in [
        Some(Verdict::Dead { error }),
        Some(Verdict::Cancelled),
        Some(Verdict::Done { output: None }),
        None,
    ] {
        ids.push(put(store, new(0)).await.id());
        let lease = claim_one(store, 1).await;
        if let Some(verdict) = verdict {
            assert!(finish(store, lease, 2, verdict).await);
        }
    }
    ids.push(put(store, new(40)).await.id());
    ids.push(put(store, new(50)).await.id());
    ids.try_into().expect("six")
}

/// Only those of one kind, of which there are two; the other stays as it is.
async fn changed(store: &Opened, change: Change, filter: Filter) -> Vec<JobId> {
    let filter = Filter {
        kind: Some("a".to_owned()),
        ..filter
    };
    let mut changed = store.change(change, filter, T(9)).await.expect("an answer");
    changed.sort();
    changed
}

async fn many_jobs_are_cancelled_by_a_filter(store: Opened) {
    let [.., running, pending, later] = one_of_each(&store, "a").await;
    let [.., other] = one_of_each(&store, "b").await;
    let next = Filter {
        state: Some(State::Pending),
        limit: 1,
        ..Filter::default()
    };
    assert_eq!(changed(&store, Change::Cancel, next).await, [pending]);
    let all = changed(&store, Change::Cancel, Filter::default()).await;
    assert_eq!(all, [running, later]);
    assert_eq!(
        store.asked_to_cancel("w").await.expect("an answer"),
        [running]
    );
    let again = changed(&store, Change::Cancel, Filter::default()).await;
    assert_eq!(again, []);
    assert_eq!(state(&store, later).await, State::Cancelled);
    assert_eq!(state(&store, other).await, State::Pending);
}

async fn many_jobs_are_retried_by_a_filter(store: Opened) {
    let [dead, cancelled, done, _, pending, later] = one_of_each(&store, "a").await;
    one_of_each(&store, "b").await;
    let all = changed(&store, Change::Retry, Filter::default()).await;
    assert_eq!(all, [dead, cancelled]);
    let waiting = Filter {
        state: Some(State::Pending),
        after: Some(pending),
        ..Filter::default()
    };
    assert_eq!(changed(&store, Change::Retry, waiting).await, [later]);
    assert_eq!(state(&store, done).await, State::Done);
    let record = store.get(dead).await.expect("an answer").expect("a job");
    assert_eq!((record.attempt, record.run_at), (0, T(9)));

    // Of three with one key it is the last, and none if another one holds the key.
    let mut keyed_ids = Vec::new();
    for _ in 0..3 {
        keyed_ids.push(put(&store, keyed("k", OnDuplicate::Reject, 0)).await.id());
        store
            .cancel(keyed_ids[keyed_ids.len() - 1], T(1))
            .await
            .expect("an answer");
    }
    let by_key = || Filter {
        key: Some("k".to_owned()),
        ..Filter::default()
    };
    let retry = async || {
        let retried = store.change(Change::Retry, by_key(), T(9)).await;
        retried.expect("an answer")
    };
    assert_eq!(retry().await, [keyed_ids[2]]);
    assert_eq!(retry().await, []);
}

async fn many_jobs_are_deleted_by_a_filter(store: Opened) {
    let [dead, cancelled, done, running, pending, later] = one_of_each(&store, "a").await;
    let others = one_of_each(&store, "b").await;
    let one = Filter {
        id: Some(dead),
        ..Filter::default()
    };
    assert_eq!(changed(&store, Change::Delete, one).await, [dead]);
    let ended = Filter {
        ended_before: Some(T(3)),
        ..Filter::default()
    };
    let all = changed(&store, Change::Delete, ended).await;
    assert_eq!(all, [cancelled, done]);
    let all = changed(&store, Change::Delete, Filter::default()).await;
    assert_eq!(all, [pending, later]);
    assert_eq!(state(&store, running).await, State::Running);
    assert_eq!(store.get(dead).await.expect("an answer"), None);
    for other in others {
        state(&store, other).await;
    }
}

/// What one worker may have by the limits of the queue, and when to ask again.
async fn lot(store: &Opened, worker: &str, limit: usize, now: Micros) -> Lot {
    let claim = Claim {
        worker: worker.to_owned(),
        queue: "default".to_owned(),
        limit,
        now,
        lease_until: now.after(Duration::from_secs(30)),
        kinds: vec!["test".to_owned()],
        suspects: Suspects::Without(9),
        limited: true,
        ageing: None,
    };
    store.claim(claim).await.expect("a claim")
}

async fn set(store: &Opened, limit: Limit) {
    store.set_limit("default", limit).await.expect("set");
}

async fn put_of_key(store: &Opened, key: Option<&str>) -> JobId {
    let job = NewJob {
        limit_key: key.map(str::to_owned),
        ..job(0)
    };
    put(store, job).await.id()
}

async fn a_queue_with_limits_gives_nothing_to_those_who_do_not_know(store: Opened) {
    put(&store, job(0)).await;
    let limit = Limit::default()
        .at_once(5)
        .key_rate(3, Duration::from_secs(1));
    set(&store, limit).await;
    let limits = store.limits().await.expect("limits");
    assert_eq!(limits, [("default".to_owned(), limit)]);
    assert!(claim(&store, "w", 9, 1).await.is_empty());
    set(&store, Limit::default()).await;
    assert!(store.limits().await.expect("limits").is_empty());
    assert_eq!(lot(&store, "w", 9, T(1)).await.jobs.len(), 1);
}

async fn a_queue_has_a_limit_over_all_workers(store: Opened) {
    for _ in 0..9 {
        put(&store, job(0)).await;
    }
    set(&store, Limit::default().at_once(3)).await;
    let first = lot(&store, "w", 2, T(1)).await;
    assert_eq!(
        (first.jobs.len(), first.again),
        (2, None),
        "as many as asked for"
    );
    let second = lot(&store, "v", 9, T(1)).await;
    assert_eq!(second.jobs.len(), 1);
    assert!(second.again > Some(T(1)));
    let third = lot(&store, "v", 9, T(2)).await;
    let soon = T(2).after(Duration::from_millis(100));
    assert_eq!((third.jobs.len(), third.again), (0, Some(soon)));
    let done = Verdict::Done { output: None };
    assert!(finish(&store, first.jobs[0].lease, 3, done).await);
    assert_eq!(lot(&store, "v", 9, T(3)).await.jobs.len(), 1);
    set(&store, Limit::default().at_once(5)).await;
    assert_eq!(
        lot(&store, "v", 9, T(4)).await.jobs.len(),
        2,
        "it was changed"
    );
    set(&store, Limit::default().at_once(1)).await;
    assert!(lot(&store, "v", 9, T(5)).await.jobs.is_empty());
    set(&store, Limit::default()).await;
    let rest = lot(&store, "v", 9, T(6)).await;
    assert_eq!((rest.jobs.len(), rest.again), (3, None));
}

async fn each_key_has_a_limit_over_all_workers(store: Opened) {
    let mut put_with = Vec::new();
    for key in [
        Some("a"),
        Some("a"),
        Some("a"),
        None,
        Some("b"),
        None,
        Some("a"),
    ] {
        put_with.push(put_of_key(&store, key).await);
    }
    set(&store, Limit::default().key_at_once(2)).await;
    let first = lot(&store, "w", 3, T(1)).await.jobs;
    assert_eq!(ids(&first), [put_with[0], put_with[1], put_with[3]]);
    let second = lot(&store, "v", 9, T(1)).await;
    assert_eq!(ids(&second.jobs), [put_with[4], put_with[5]]);
    assert!(second.again.is_some(), "of `a` two are left");
    let done = Verdict::Done { output: None };
    assert!(finish(&store, first[1].lease, 3, done).await);
    let third = lot(&store, "v", 9, T(3)).await.jobs;
    assert_eq!(ids(&third), [put_with[2]]);
}

async fn a_rate_spreads_the_starts_of_a_queue_and_of_a_key(store: Opened) {
    let second = Duration::from_secs(1);
    let at = |millis: u64| T(100).after(Duration::from_millis(millis));
    for _ in 0..6 {
        put_of_key(&store, None).await;
    }
    // One each half second.
    set(&store, Limit::default().rate(2, second)).await;
    let first = lot(&store, "w", 9, at(0)).await;
    assert_eq!(first.jobs.len(), 1);
    assert_eq!(
        first.again,
        Some(at(450)),
        "the first may be taken for late"
    );
    assert!(lot(&store, "v", 9, at(400)).await.jobs.is_empty());
    assert_eq!(lot(&store, "v", 9, at(460)).await.jobs.len(), 1);
    // Forty a second: four within a tenth of one.
    set(&store, Limit::default().rate(40, second)).await;
    let burst = lot(&store, "w", 9, at(2000)).await;
    assert_eq!(burst.jobs.len(), 4);

    set(&store, Limit::default().key_rate(1, second)).await;
    for key in ["a", "a", "b"] {
        put_of_key(&store, Some(key)).await;
    }
    let both = lot(&store, "w", 9, at(5000)).await;
    assert_eq!(both.jobs.len(), 2, "one of each key");
    assert!(both.again > Some(at(5000)));
    assert!(lot(&store, "w", 9, at(5900)).await.jobs.is_empty());
    assert_eq!(lot(&store, "w", 9, at(6000)).await.jobs.len(), 1);
}

async fn many_workers_at_once_keep_a_limit(store: Opened) {
    for n in 0..60 {
        let key = ["a", "b", "c"][n % 3];
        put_of_key(&store, Some(key)).await;
    }
    set(&store, Limit::default().at_once(5).key_at_once(2)).await;
    let mut claims = tokio::task::JoinSet::new();
    for worker in 0..8 {
        let store = Arc::clone(&store);
        claims.spawn(async move {
            let opened = Opened { store, _dir: None };
            lot(&opened, &format!("w{worker}"), 9, T(1))
                .await
                .jobs
                .len()
        });
    }
    let all: usize = claims.join_all().await.into_iter().sum();
    assert_eq!(all, 5);
    let running = Filter {
        state: Some(State::Running),
        ..Filter::default()
    };
    let mut keys: Vec<_> = store
        .list(running)
        .await
        .expect("a list")
        .into_iter()
        .filter_map(|record| record.limit_key)
        .collect();
    keys.sort();
    assert!(
        keys.windows(3).all(|three| three[0] != three[2]),
        "{keys:?}"
    );
}

async fn a_suspect_keeps_the_limits(store: Opened) {
    put(&store, job(0)).await;
    claim_one(&store, 1).await;
    store.reclaim(T(100), 9).await.expect("reclaimed");
    for _ in 0..2 {
        put(&store, job(200)).await;
    }
    set(&store, Limit::default().at_once(1)).await;
    let alone = || Claim {
        worker: "v".to_owned(),
        queue: "default".to_owned(),
        limit: 1,
        now: T(300),
        lease_until: T(330),
        kinds: vec!["test".to_owned()],
        suspects: Suspects::Alone(1),
        limited: true,
        ageing: None,
    };
    let claim = Claim {
        suspects: Suspects::Without(1),
        worker: "w".to_owned(),
        ..alone()
    };
    let other = store.claim(claim).await.expect("a claim").jobs;
    assert_eq!(other.len(), 1);
    assert!(store.claim(alone()).await.expect("a claim").jobs.is_empty());
    let done = Verdict::Done { output: None };
    assert!(finish(&store, other[0].lease, 301, done).await);
    assert_eq!(store.claim(alone()).await.expect("a claim").jobs.len(), 1);
}

async fn priorities_age(store: Opened) {
    let mut put_with = Vec::new();
    for (priority, run_at) in [
        (Priority::Low, 10),
        (Priority::Low, 60),
        (Priority::Normal, 50),
        (Priority::High, 65),
        (Priority::High, 100),
    ] {
        let job = NewJob {
            priority,
            ..job(run_at)
        };
        put_with.push(put(&store, job).await.id());
    }
    let [low_10, low_60, normal_50, high_65, high_100] = put_with[..] else {
        unreachable!("five were put")
    };
    let claim = Claim {
        worker: "w".to_owned(),
        queue: "default".to_owned(),
        limit: 9,
        now: T(200),
        lease_until: T(230),
        kinds: vec!["test".to_owned()],
        suspects: Suspects::Without(9),
        limited: false,
        ageing: Some(Duration::from_secs(20)),
    };
    // Their turns come at 50, 100, 70, 65 and 100.
    let first = Claim {
        limit: 3,
        ..claim.clone()
    };
    let first = store.claim(first).await.expect("a claim").jobs;
    assert_eq!(ids(&first), [low_10, high_65, normal_50]);
    let rest = store.claim(claim).await.expect("a claim").jobs;
    assert_eq!(ids(&rest), [low_60, high_100]);
}

async fn a_list_has_pages(store: Opened) {
    for run_at in [30, 10, 20, 20, 40] {
        put(&store, job(run_at)).await;
    }
    for state in [None, Some(State::Pending)] {
        let page = async |after, limit| {
            let filter = Filter {
                state,
                after,
                limit,
                ..Filter::default()
            };
            let records = store.list(filter).await.expect("a list");
            records.iter().map(|record| record.id).collect::<Vec<_>>()
        };
        let whole = page(None, 9).await;
        let first = page(None, 2).await;
        let second = page(first.last().copied(), 2).await;
        let third = page(second.last().copied(), 2).await;
        assert_eq!([first, second, third].concat(), whole);
        assert_eq!(whole.len(), 5);
    }
}

fn after(jobs: &[JobId], any_end: bool, run_at: i64) -> NewJob {
    let jobs = jobs.to_vec();
    NewJob {
        after: Some(After { jobs, any_end }),
        ..job(run_at)
    }
}

async fn end(store: &Opened, id: JobId, at: i64, verdict: Verdict) {
    let lease = claim_one(store, at).await;
    assert_eq!(lease.id, id);
    assert!(finish(store, lease, at, verdict).await);
}

async fn run_at(store: &Opened, id: JobId) -> Micros {
    let record = store.get(id).await.expect("an answer").expect("a job");
    record.run_at
}

async fn a_job_comes_after_others_are_done(store: Opened) {
    let [first, second] = [
        put(&store, job(0)).await.id(),
        put(&store, job(1)).await.id(),
    ];
    let next = put(&store, after(&[first, second, first], false, 5))
        .await
        .id();
    let later = put(&store, after(&[first], false, 500)).await.id();
    assert_eq!(run_at(&store, next).await, Micros::NEVER);
    let done = || Verdict::Done { output: None };
    end(&store, first, 10, done()).await;
    assert_eq!(run_at(&store, next).await, Micros::NEVER);
    assert_eq!(
        run_at(&store, later).await,
        T(500),
        "it is due later by itself"
    );
    end(&store, second, 20, done()).await;
    assert_eq!(run_at(&store, next).await, T(20));
    end(&store, next, 30, done()).await;
    let record = store.get(next).await.expect("an answer").expect("a job");
    assert_eq!(record.after, [first, second, first]);
}

async fn a_job_is_cancelled_if_one_before_it_fails_and_so_are_those_after_it(store: Opened) {
    for failure in ["dead", "cancelled", "deleted", "lost"] {
        let first = put(&store, job(0)).await.id();
        let second = put(&store, after(&[first], false, 0)).await.id();
        let third = put(&store, after(&[second], false, 0)).await.id();
        let callback = put(&store, after(&[third, second], true, 7)).await.id();
        let error = "x".to_owned();
        match failure {
            "dead" => end(&store, first, 10, Verdict::Dead { error }).await,
            "cancelled" => {
                store.cancel(first, T(10)).await.expect("an answer");
            }
            "deleted" => {
                let this = Filter {
                    id: Some(first),
                    ..Filter::default()
                };
                let deleted = store.change(Change::Delete, this, T(10)).await;
                assert_eq!(deleted.expect("an answer"), [first]);
            }
            _ => {
                claim_one(&store, 1).await;
                store.cancel(first, T(2)).await.expect("an answer");
                store.reclaim(T(50), 9).await.expect("reclaimed");
            }
        }
        let record = store.get(second).await.expect("an answer").expect("a job");
        let word = if failure == "lost" {
            "cancelled"
        } else {
            failure
        };
        let words = format!("job {first}, which it comes after, is {word}");
        assert_eq!(
            (record.state, record.error),
            (State::Cancelled, Some(words))
        );
        assert_eq!(
            state(&store, third).await,
            State::Cancelled,
            "after {failure}"
        );
        assert_eq!(state(&store, callback).await, State::Pending);
        assert_ne!(
            run_at(&store, callback).await,
            Micros::NEVER,
            "after {failure}"
        );
        store.cancel(callback, T(60)).await.expect("an answer");
    }
}

async fn a_callback_comes_after_all_ends(store: Opened) {
    let jobs = [
        put(&store, job(0)).await.id(),
        put(&store, job(1)).await.id(),
    ];
    let callback = put(&store, after(&jobs, true, 0)).await.id();
    let error = "x".to_owned();
    end(&store, jobs[0], 10, Verdict::Dead { error }).await;
    assert_eq!(run_at(&store, callback).await, Micros::NEVER);
    end(&store, jobs[1], 20, Verdict::Done { output: None }).await;
    assert_eq!(run_at(&store, callback).await, T(20));
}

async fn what_has_ended_before_is_not_waited_for(store: Opened) {
    let done = put(&store, job(0)).await.id();
    end(&store, done, 1, Verdict::Done { output: None }).await;
    let gone = JobId(done.0 + 999);
    let next = put(&store, after(&[done, gone], false, 5)).await.id();
    assert_eq!(run_at(&store, next).await, T(5));
    store.cancel(next, T(2)).await.expect("an answer");
    let many = vec![after(&[next], false, 5), after(&[next], true, 5)];
    let many = store.enqueue(many).await.expect("enqueued");
    assert_eq!(state(&store, many[0].id()).await, State::Cancelled);
    assert_eq!(run_at(&store, many[1].id()).await, T(5));
}

async fn workers_are_seen_while_they_live(store: Opened) {
    let worker = |name: &str, began: i64, until: i64| WorkerRow {
        name: name.to_owned(),
        host: "here".to_owned(),
        queues: "default 16".to_owned(),
        began_at: T(began),
        until: T(until),
    };
    let names = async |now| {
        let workers = store.workers(T(now)).await.expect("workers");
        workers
            .into_iter()
            .map(|worker| worker.name)
            .collect::<Vec<_>>()
    };
    store.beat(worker("b", 1, 40), T(1)).await.expect("told");
    store.beat(worker("a", 2, 41), T(2)).await.expect("told");
    store.beat(worker("b", 1, 60), T(20)).await.expect("told");
    assert_eq!(names(41).await, ["b", "a"]);
    assert_eq!(names(42).await, ["b"]);
    store.leave("b").await.expect("told");
    assert_eq!(names(42).await, [""; 0]);
    store.beat(worker("c", 50, 90), T(50)).await.expect("told");
    assert_eq!(names(0).await, ["c"], "`a` is forgotten");
}

async fn what_comes_and_goes_is_counted(store: Opened) {
    let before = store.flow(T(0)).await.expect("an answer");
    for at in [10, 20, 30] {
        put(&store, job(0)).await;
        let lease = claim_one(&store, at).await;
        assert!(finish(&store, lease, at, Verdict::Done { output: None }).await);
    }
    let id = put(&store, job(0)).await.id();
    store.cancel(id, T(25)).await.expect("an answer");
    let flow = store.flow(T(20)).await.expect("an answer");
    assert_eq!((flow.last - before.last, flow.ended), (4, 3));
}
