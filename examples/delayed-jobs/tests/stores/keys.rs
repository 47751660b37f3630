//! Unique keys.

use super::*;

pub(crate) async fn a_key_is_rejected_kept_or_replaced(store: Opened) {
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

pub(crate) async fn a_running_job_loses_its_key_to_its_replacement(store: Opened) {
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

pub(crate) async fn a_key_is_free_when_its_job_has_ended(store: Opened) {
    let first = put(&store, keyed("k", OnDuplicate::Reject, 0)).await.id();
    let lease = claim_one(&store, 1).await;
    assert!(finish(&store, lease, 2, Verdict::Done { output: None }).await);
    let second = put(&store, keyed("k", OnDuplicate::Reject, 0)).await;
    assert!(
        matches!(second, Enqueued::New(id) if id != first),
        "{second:?}"
    );
}

pub(crate) async fn a_debounced_job_is_put_off_for_so_long_at_most(store: Opened) {
    // Each is called for two seconds after the one before, and due five seconds after that.
    let call = |at: i64| {
        let mut job = keyed("k", OnDuplicate::Replace, at + 5);
        job.created_at = T(at);
        if let Some(key) = &mut job.key {
            key.max_wait = Some(Duration::from_secs(10));
        }
        job
    };
    let first = put(&store, call(0)).await.id();
    let mut due = Vec::new();
    for at in [2, 4, 6, 8] {
        assert_eq!(put(&store, call(at)).await, Enqueued::Replaced(first));
        due.push(
            store
                .get(first)
                .await
                .expect("an answer")
                .expect("a job")
                .run_at,
        );
    }
    assert_eq!(due, [T(7), T(9), T(10), T(10)]);

    // One that has begun and waits again starts a series of its own.
    let lease = claim_one(&store, 10).await;
    let retry = Verdict::Retry {
        at: T(50),
        error: "x".to_owned(),
    };
    assert!(finish(&store, lease, 11, retry).await);
    for (at, due) in [(12, 17), (14, 19), (16, 21), (18, 22), (20, 22)] {
        assert_eq!(put(&store, call(at)).await, Enqueued::Replaced(first));
        let again = store.get(first).await.expect("an answer").expect("a job");
        assert_eq!(again.run_at, T(due), "called at {at}");
    }
    // The first replacement may be the last one, too.
    let mut late = call(40);
    if let Some(key) = &mut late.key {
        key.key = "l".to_owned();
    }
    let second = put(&store, late.clone()).await.id();
    (late.run_at, late.created_at) = (T(99), T(42));
    assert_eq!(put(&store, late).await, Enqueued::Replaced(second));
    let seen = store.get(second).await.expect("an answer").expect("a job");
    assert_eq!(seen.run_at, T(50));
}

pub(crate) async fn a_replacement_is_like_a_new_job(store: Opened) {
    let plain = |key: &str| keyed(key, OnDuplicate::Replace, 500);
    let rich = |key: &str| NewJob {
        kind: "b".to_owned(),
        queue: "other".to_owned(),
        payload: "[7]".to_owned(),
        priority: Priority::Low,
        created_at: T(3),
        attempts: Some(3),
        timeout: Some(Duration::from_secs(5)),
        limit_key: Some("x".to_owned()),
        ..keyed(key, OnDuplicate::Replace, 600)
    };
    let before = put(&store, job(9000)).await.id();
    for (number, old, new) in [(1, plain("k"), rich("k")), (2, rich("l"), plain("l"))] {
        // It fails, and then loses a worker.
        let old = NewJob {
            run_at: T(number),
            ..old
        };
        let request = |now| Claim {
            queue: old.queue.clone(),
            ..request("w", 1, now)
        };
        let id = put(&store, old.clone()).await.id();
        for (at, error) in [(10, Some("x".to_owned())), (20, None)] {
            let claimed = store.claim(request(at)).await.expect("a claim").jobs;
            assert_eq!(ids(&claimed), [id]);
            let lease = claimed[0].lease;
            assert!(store.progress(lease, 40).await.expect("an answer"));
            match error {
                Some(error) => {
                    let retry = Verdict::Retry { at: T(11), error };
                    assert!(finish(&store, lease, 11, retry).await);
                }
                None => assert_eq!(store.reclaim(T(90), 9).await.expect("lost").len(), 1),
            }
        }
        assert_eq!(put(&store, new.clone()).await, Enqueued::Replaced(id));
        let mut fresh = new;
        if let Some(key) = &mut fresh.key {
            key.key = format!("fresh {number}");
        }
        let fresh = put(&store, fresh).await.id();
        let mut fresh = store.get(fresh).await.expect("an answer").expect("a job");
        let replaced = store.get(id).await.expect("an answer").expect("a job");
        (fresh.id, fresh.key) = (id, old.key.map(|key| key.key));
        assert_eq!(replaced, fresh);
    }
    // One that waits for another waits no longer, and does not say so.
    let jobs = vec![before];
    let waiting = NewJob {
        after: Some(After {
            jobs,
            any_end: true,
        }),
        ..keyed("m", OnDuplicate::Keep, 1)
    };
    let waiting = put(&store, waiting).await.id();
    let replaced = put(&store, keyed("m", OnDuplicate::Replace, 700)).await;
    assert_eq!(replaced, Enqueued::Replaced(waiting));
    let seen = store.get(waiting).await.expect("an answer").expect("a job");
    assert_eq!((seen.run_at, seen.after), (T(700), vec![]));
}

/// A job with a key that is held in these states.
fn held_while(within: UniqueWhile, until: Option<i64>, on_duplicate: OnDuplicate) -> NewJob {
    let key = UniqueKey {
        key: "k".to_owned(),
        on_duplicate,
        within,
        until: until.map(T),
        max_wait: None,
    };
    NewJob {
        key: Some(key),
        ..job(0)
    }
}

pub(crate) async fn a_key_is_held_in_the_states_of_its_rule(store: Opened) {
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

/// The job that has the key has ended, so the words must not say that it has not.
pub(crate) async fn a_job_does_not_get_its_key_back_from_one_that_is_done(store: Opened) {
    let new = || held_while(UniqueWhile::Succeeded, None, OnDuplicate::Reject);
    let first = put(&store, new()).await.id();
    let error = "x".to_owned();
    let lease = claim_one(&store, 1).await;
    assert!(finish(&store, lease, 2, Verdict::Dead { error }).await);
    put(&store, new()).await;
    let lease = claim_one(&store, 3).await;
    assert!(finish(&store, lease, 4, Verdict::Done { output: None }).await);
    let queue = Queue::on(Arc::clone(&store));
    let error = queue.retry(first).await.expect_err("it has lost its key");
    let words = format!("another job has the key of job {first} by now");
    assert_eq!(error.to_string(), words);
}

pub(crate) async fn a_key_is_another_in_another_period(store: Opened) {
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

pub(crate) async fn a_key_of_a_period_is_remembered_beyond_the_end_of_its_job(store: Opened) {
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
