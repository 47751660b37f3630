//! Jobs that are cancelled, retried and deleted, one by one and by a filter.

use super::*;

pub(crate) async fn cancel_tells_what_it_met(store: Opened) {
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

pub(crate) async fn a_cancel_that_was_granted_holds(store: Opened) {
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

pub(crate) async fn retry_tells_what_it_met(store: Opened) {
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

pub(crate) async fn a_retry_of_a_due_job_keeps_its_place(store: Opened) {
    let [first, second] = [
        put(&store, job(1)).await.id(),
        put(&store, job(2)).await.id(),
    ];
    let asked = store.retry(first, T(9)).await.expect("an answer");
    assert_eq!(asked, Asked::Granted(State::Pending));
    assert_eq!(ids(&claim(&store, "w", 9, 9).await), [first, second]);
}

pub(crate) async fn a_change_may_begin_after_a_job(store: Opened) {
    let mut all = Vec::new();
    for run_at in [30, 10, 20] {
        all.push(put(&store, job(run_at)).await.id());
    }
    // In a list of all states the latest job comes first.
    let rest = Filter {
        after: Some(cursor(&store, all[1]).await),
        ..Filter::default()
    };
    let list = store.list(rest.clone()).await.expect("a list");
    assert_eq!(list.iter().map(|job| job.id).collect::<Vec<_>>(), [all[0]]);
    for change in [Change::Cancel, Change::Delete] {
        let changed = store.change(change, rest.clone(), T(1)).await;
        assert_eq!(changed.expect("an answer"), [all[0]], "{change:?}");
    }
}

pub(crate) async fn pruning_forgets_what_ended_before(store: Opened) {
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

pub(crate) async fn many_jobs_are_cancelled_by_a_filter(store: Opened) {
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

pub(crate) async fn many_jobs_are_retried_by_a_filter(store: Opened) {
    let [dead, cancelled, done, _, pending, later] = one_of_each(&store, "a").await;
    one_of_each(&store, "b").await;
    let all = changed(&store, Change::Retry, Filter::default()).await;
    assert_eq!(all, [dead, cancelled]);
    let waiting = Filter {
        state: Some(State::Pending),
        after: Some(cursor(&store, pending).await),
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
    // The last one need not be one that could be retried.
    let claimed = claim(&store, "w", 99, 9).await;
    let retried = claimed.iter().find(|job| job.lease.id == keyed_ids[2]);
    let lease = retried.expect("it is due").lease;
    let done = Verdict::Done { output: None };
    assert!(finish(&store, lease, 9, done).await);
    assert_eq!(retry().await, []);

    // An earlier one holds the key although it is cancelled, since its replacement came with another rule.
    let last = keyed_ids[2];
    let one = Filter {
        id: Some(last),
        ..Filter::default()
    };
    store
        .change(Change::Delete, one, T(9))
        .await
        .expect("deleted");
    store.retry(keyed_ids[0], T(9)).await.expect("an answer");
    let mut kept = keyed("k", OnDuplicate::Replace, 0);
    if let Some(key) = &mut kept.key {
        key.within = UniqueWhile::Kept;
    }
    assert_eq!(put(&store, kept).await, Enqueued::Replaced(keyed_ids[0]));
    store.cancel(keyed_ids[0], T(9)).await.expect("an answer");
    assert_eq!(retry().await, []);
}

pub(crate) async fn many_jobs_are_deleted_by_a_filter(store: Opened) {
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

pub(crate) async fn a_change_of_many_jobs_keeps_its_limit_and_its_order(store: Opened) {
    let change = async |kind, state, ended_before: Option<i64>, limit| {
        let filter = Filter {
            state,
            ended_before: ended_before.map(T),
            limit,
            ..Filter::default()
        };
        let mut changed = store.change(kind, filter, T(50)).await.expect("an answer");
        changed.sort();
        changed
    };
    let mut ids = Vec::new();
    for run_at in [0, 0, 0, 30, 20] {
        ids.push(put(&store, job(run_at)).await.id());
    }
    let [first, second, running, later, sooner] = ids[..] else {
        unreachable!("five were put")
    };
    let leases = claim(&store, "w", 9, 1).await;
    for (lease, at) in [(leases[1].lease, 10), (leases[0].lease, 11)] {
        assert!(finish(&store, lease, at, Verdict::Done { output: None }).await);
    }
    let one = change(Change::Delete, None, Some(40), 1).await;
    assert_eq!(one, [second], "it ended first");
    // The jobs of all states together, of which the pending ones are first.
    let one = change(Change::Cancel, None, None, 1).await;
    assert_eq!(one, [sooner], "it is due first");
    let both = change(Change::Cancel, None, None, 9).await;
    assert_eq!(both, [running, later]);
    let pending = put(&store, job(90)).await.id();
    let two = change(Change::Delete, None, None, 2).await;
    assert_eq!(two, [first, pending], "before those that were cancelled");
    let two = change(Change::Retry, None, None, 1).await;
    assert_eq!(two, [later], "of two that are cancelled");
}
