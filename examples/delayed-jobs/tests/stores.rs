//! What each store promises: the same tests for all three.
#![forbid(unsafe_code)]

mod support;

use std::sync::Arc;
use std::time::Duration;

use delayed_jobs::store::{
    Asked, Claim, Claimed, Ended, Lease, MemoryStore, NewJob, Reclaimed, ScheduleSpec, Slot, Store,
    Suspects, UniqueKey, Verdict, open_postgres, open_sqlite,
};
use delayed_jobs::{Enqueued, Filter, JobId, Micros, OnDuplicate, Priority, QueueRow, State};

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
        key: None,
    }
}

fn keyed(key: &str, on_duplicate: OnDuplicate, run_at: i64) -> NewJob {
    let key = UniqueKey {
        key: key.to_owned(),
        on_duplicate,
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
    };
    store.claim(claim).await.expect("a claim")
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
    assert!(!finish(&store, old, 101, Verdict::Done).await);
    let new = claim_one(&store, 102).await;
    assert_eq!(new.id, old.id);
    assert!(!finish(&store, old, 103, Verdict::Done).await);
    let renewed = store.renew(vec![old], T(200)).await.expect("an answer");
    assert_eq!(renewed, []);
    assert!(!store.progress(old, 50).await.expect("an answer"));
    assert_eq!(state(&store, id).await, State::Running);
    assert!(finish(&store, new, 104, Verdict::Done).await);
    assert!(!finish(&store, new, 105, Verdict::Done).await);
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
        };
        assert_eq!(
            store.claim(claim).await.expect("a claim").len(),
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
    assert!(finish(&store, lease, 2, Verdict::Done).await);
}

async fn a_key_is_free_when_its_job_has_ended(store: Opened) {
    let first = put(&store, keyed("k", OnDuplicate::Reject, 0)).await.id();
    let lease = claim_one(&store, 1).await;
    assert!(finish(&store, lease, 2, Verdict::Done).await);
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
        (Verdict::Done, State::Done),
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
    assert!(finish(&store, lease, 11, Verdict::Done).await);
    let lease = claim_one(&store, 20).await;
    assert!(finish(&store, lease, 21, Verdict::Done).await);
    assert!(!fill(slot(20, "a")).await, "also when it is done");
    assert_eq!(store.prune(T(100), 9).await.expect("pruned"), 2);
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
        assert!(finish(&store, lease, end, Verdict::Done).await);
    }
    put(&store, job(0)).await;
    let lease = claim_one(&store, 1).await;
    let error = "x".to_owned();
    assert!(finish(&store, lease, 5, Verdict::Dead { error }).await);
    put(&store, job(0)).await;

    assert_eq!(store.prune(T(30), 1).await.expect("pruned"), 1);
    assert_eq!(store.prune(T(30), 10).await.expect("pruned"), 1);
    let counts = store.counts().await.expect("counts");
    assert_eq!((counts.done, counts.dead, counts.pending), (1, 1, 1));
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
