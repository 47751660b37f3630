//! Jobs that come after others.

use super::*;

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

pub(crate) async fn a_job_comes_after_others_are_done(store: Opened) {
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

pub(crate) async fn a_job_is_cancelled_if_one_before_it_fails_and_so_are_those_after_it(
    store: Opened,
) {
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

pub(crate) async fn a_chain_of_any_length_is_cancelled_with_its_first_job(store: Opened) {
    let length = 1100;
    let first = put(&store, job(0)).await.id().0;
    let chain = (first..first + length).map(|before| after(&[JobId(before)], false, 0));
    let mut last = JobId(first);
    for jobs in chain.collect::<Vec<_>>().chunks(100) {
        let enqueued = store.enqueue(jobs.to_vec()).await.expect("enqueued");
        last = enqueued[enqueued.len() - 1].id();
    }
    assert_eq!(last.0, first + length);
    assert_eq!(run_at(&store, last).await, Micros::NEVER);
    let jobs = [JobId(first + 7), last];
    let callback = put(&store, after(&jobs, true, 7)).await.id();
    let error = "x".to_owned();
    end(&store, JobId(first), 10, Verdict::Dead { error }).await;
    let counts = store.counts().await.expect("counts");
    assert_eq!(
        (counts.dead, counts.cancelled, counts.pending),
        (1, length as u64, 1)
    );
    let record = store.get(last).await.expect("an answer").expect("a job");
    let words = format!("job {}, which it comes after, is cancelled", last.0 - 1);
    assert_eq!(record.error, Some(words));
    assert_eq!(run_at(&store, callback).await, T(10));
}

pub(crate) async fn a_callback_comes_after_all_ends(store: Opened) {
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

pub(crate) async fn what_has_ended_before_is_not_waited_for(store: Opened) {
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

/// The next id can be guessed.
pub(crate) async fn a_job_cannot_come_after_itself(store: Opened) {
    let queue = Queue::on(Arc::clone(&store));
    let other = || queue.enqueue_json("test", &serde_json::json!({}));
    for case in ["alone", "of any end", "with a key", "beside another"] {
        let last = other().await.expect("enqueued").id();
        let own = JobId(last.0 + 1);
        let after_done = other().after_done([last, own]);
        let error = match case {
            "alone" => after_done.await.map(drop),
            "of any end" => other().after_ended([own]).await.map(drop),
            "with a key" => after_done.unique("k").await.map(drop),
            _ => queue.enqueue_all([after_done, other()]).await.map(drop),
        };
        let error = error.expect_err("it would wait for ever");
        assert!(
            matches!(error, EnqueueError::AfterItself),
            "{case}: {error}"
        );
    }
    let counts = store.counts().await.expect("counts");
    assert_eq!(counts.pending, 4, "nothing of what was rejected is there");
}

pub(crate) async fn jobs_that_are_enqueued_together_do_not_wait_for_each_other(store: Opened) {
    let last = put(&store, job(0)).await.id().0;
    let [first, second] = [JobId(last + 1), JobId(last + 2)];
    let both = vec![after(&[second], false, 5), after(&[first], false, 5)];
    let enqueued = store.enqueue(both).await.expect("enqueued");
    assert_eq!(enqueued, [first, second].map(Enqueued::New));
    assert_eq!(run_at(&store, first).await, T(5));
    assert_eq!(run_at(&store, second).await, Micros::NEVER);
}

pub(crate) async fn a_job_that_replaces_one_that_waits_waits_for_nothing(store: Opened) {
    let first = put(&store, job(0)).await.id();
    let waits = NewJob {
        key: keyed("k", OnDuplicate::Reject, 0).key,
        ..after(&[first], false, 5)
    };
    let waits = put(&store, waits).await.id();
    // It is due never, as a job is that waits.
    let never = NewJob {
        run_at: Micros::NEVER,
        ..keyed("k", OnDuplicate::Replace, 0)
    };
    assert_eq!(put(&store, never).await, Enqueued::Replaced(waits));
    let error = "broken".to_owned();
    end(&store, first, 10, Verdict::Dead { error }).await;
    assert_eq!(state(&store, waits).await, State::Pending);
    let centuries = Duration::from_secs(1 << 40);
    assert!(run_at(&store, waits).await > T(0).after(centuries));
}

pub(crate) async fn a_job_that_comes_after_others_replaces_none(store: Opened) {
    let first = put(&store, job(0)).await.id();
    let key = keyed("k", OnDuplicate::Replace, 5).key;
    let pending = put(&store, keyed("k", OnDuplicate::Reject, 5)).await.id();
    let replacement = NewJob {
        key,
        ..after(&[first], false, 5)
    };
    let both = vec![job(1), replacement];
    let error = store
        .enqueue(both)
        .await
        .expect_err("it would wait for ever");
    assert!(matches!(error, StoreError::ReplacesAndWaits), "{error}");
    assert_eq!(run_at(&store, pending).await, T(5));

    let queue = Queue::on(Arc::clone(&store));
    let other = || queue.enqueue_json("test", &serde_json::json!({}));
    let replacement = other().after_done([first]);
    let replacement = replacement.unique(Unique::key("k").or(OnDuplicate::Replace));
    let error = queue.enqueue_all([other(), replacement]).await;
    let error = error.expect_err("it is rejected here, too");
    assert!(matches!(error, EnqueueError::ReplacesAndWaits), "{error}");
    let counts = store.counts().await.expect("counts");
    assert_eq!(counts.pending, 2, "nothing of what was rejected is there");
}

pub(crate) async fn a_job_of_a_schedule_that_is_dropped_is_not_waited_for(store: Opened) {
    let declare = async |spec| store.declare(hourly(spec)).await.expect("declared");
    for drops in ["a pause", "a change", "a later slot"] {
        declare("a").await;
        store.pause_schedule("hourly", false).await.expect("known");
        assert!(store.fill_slot(slot(10, "a")).await.expect("an answer"));
        let of = Filter {
            state: Some(State::Pending),
            ..Filter::default()
        };
        let first = store.list(of).await.expect("a list")[0].id;
        let second = put(&store, after(&[first], false, 0)).await.id();
        let callback = put(&store, after(&[first, second], true, 7)).await.id();
        match drops {
            "a pause" => {
                let known = store.pause_schedule("hourly", true).await;
                assert!(known.expect("an answer"));
            }
            "a change" => declare("b").await,
            _ => {
                let slot = Slot {
                    earliest: T(20),
                    latest: T(40),
                    ..slot(30, "a")
                };
                assert!(store.fill_slot(slot).await.expect("an answer"));
            }
        }
        assert_eq!(store.get(first).await.expect("an answer"), None);
        let seen = state(&store, second).await;
        assert_eq!(seen, State::Cancelled, "after {drops}");
        let due = run_at(&store, callback).await;
        assert_ne!(due, Micros::NEVER, "after {drops}");
        let all = Filter::default();
        let deleted = store.change(Change::Delete, all, T(60)).await;
        deleted.expect("an answer");
    }
}
