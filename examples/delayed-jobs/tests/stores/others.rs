//! What a call does not mean: each of these tests has jobs, queues, keys or schedules beside those that a call is for.

use super::*;

/// All jobs as they are.
async fn all(store: &Opened) -> Vec<Record> {
    let filter = Filter {
        limit: 999,
        ..Filter::default()
    };
    store.list(filter).await.expect("a list")
}

async fn record(store: &Opened, id: JobId) -> Record {
    store.get(id).await.expect("an answer").expect("a job")
}

/// Asserts that no job but these has changed since `before`.
async fn only_these_have_changed(store: &Opened, before: &[Record], these: &[JobId]) {
    let others = |all: &[Record]| {
        let others = all.iter().filter(|job| !these.contains(&job.id));
        others.cloned().collect::<Vec<_>>()
    };
    assert_eq!(others(&all(store).await), others(before));
}

async fn claim_by(store: &Opened, claim: Claim) -> Lot {
    store.claim(claim).await.expect("a claim")
}

/// Jobs of which none but the first two may be claimed at 200: the second one first.
async fn put_beside(store: &Opened, queue: &str, priority: Priority) -> [JobId; 5] {
    let job = |kind: &str, queue: &str, run_at| NewJob {
        kind: kind.to_owned(),
        queue: queue.to_owned(),
        priority,
        ..job(run_at)
    };
    let elsewhere = format!("beside {queue}");
    let jobs = vec![
        job("test", queue, 5),
        job("test", queue, 3),
        job("a", queue, 1),
        job("test", queue, 1000),
        job("test", &elsewhere, 1),
    ];
    let enqueued = store.enqueue(jobs).await.expect("enqueued");
    let ids: Vec<_> = enqueued.into_iter().map(Enqueued::id).collect();
    ids.try_into().expect("five were put")
}

pub(crate) async fn a_claim_takes_only_jobs_of_its_queue_and_kinds_that_are_due(store: Opened) {
    for limited in [false, true] {
        for priority in [Priority::High, Priority::Normal, Priority::Low] {
            let queue = format!("{limited} {priority:?}");
            // These lose a worker, so they are suspects.
            let suspects = put_beside(&store, &queue, priority).await;
            let beside = format!("beside {queue}");
            for queue in [&queue, &beside] {
                let claim = Claim {
                    queue: queue.clone(),
                    lease_until: T(1030),
                    ..request("v", 9, 1000)
                };
                for job in claim_by(&store, claim).await.jobs {
                    assert!(store.progress(job.lease, 7).await.expect("an answer"));
                }
            }
            assert_eq!(store.reclaim(T(2000), 9).await.expect("lost").len(), 5);
            // And these were given back.
            let others = put_beside(&store, &queue, priority).await;
            for queue in [&queue, &beside] {
                let claim = Claim {
                    queue: queue.clone(),
                    suspects: Suspects::Without(1),
                    lease_until: T(1030),
                    ..request("v", 9, 1000)
                };
                for job in claim_by(&store, claim).await.jobs {
                    assert!(store.progress(job.lease, 7).await.expect("an answer"));
                    assert!(finish(&store, job.lease, 1001, Verdict::Released).await);
                }
            }
            // The limits of another queue do not keep those from a claim who know of none.
            let limit = Limit::default().at_once(1);
            store.set_limit(&beside, limit).await.expect("set");

            for (suspects_are, [later, first, ..]) in [
                (Suspects::Without(1), others),
                (Suspects::Alone(1), suspects),
            ] {
                let claim = |limit| Claim {
                    queue: queue.clone(),
                    kinds: vec!["test".to_owned()],
                    suspects: suspects_are,
                    limited,
                    lease_until: T(9000),
                    ..request("w", limit, 200)
                };
                store.pause(&queue).await.expect("paused");
                let before = all(&store).await;
                let paused = claim_by(&store, claim(9)).await;
                assert_eq!((ids(&paused.jobs), paused.again), (vec![], None));
                only_these_have_changed(&store, &before, &[]).await;
                store.resume(&queue).await.expect("resumed");
                let one = claim_by(&store, claim(1)).await;
                assert_eq!((ids(&one.jobs), one.again), (vec![first], None));
                assert_eq!(one.jobs[0].lease.claim, 2);
                only_these_have_changed(&store, &before, &[first]).await;
                let rest = claim_by(&store, claim(9)).await;
                assert_eq!((ids(&rest.jobs), rest.again), (vec![later], None));
                only_these_have_changed(&store, &before, &[first, later]).await;
                let claimed = record(&store, first).await;
                assert_eq!(
                    (claimed.worker.as_deref(), claimed.state, claimed.attempt),
                    (Some("w"), State::Running, 1)
                );
                assert_eq!((claimed.started_at, claimed.progress), (Some(T(200)), None));
                assert!(claimed.lease_until >= Some(T(9000)));
            }
        }
    }
}

pub(crate) async fn the_look_ahead_sees_only_pending_jobs_of_its_queue_and_time(store: Opened) {
    let mut wanted = Vec::new();
    for priority in [Priority::High, Priority::Normal, Priority::Low] {
        let job = |queue: &str, run_at| NewJob {
            queue: queue.to_owned(),
            priority,
            ..job(run_at)
        };
        put(&store, job("default", 20)).await;
        let claimed = claim(&store, "w", 9, 20).await;
        assert_eq!(claimed.len(), 1, "it runs");
        for (queue, run_at) in [("default", 10), ("default", 40), ("other", 20)] {
            let kind = "of another worker".to_owned();
            put(
                &store,
                NewJob {
                    kind,
                    ..job(queue, run_at)
                },
            )
            .await;
        }
        let rank = priority.rank();
        for run_at in [24 + rank, 21 + rank] {
            wanted.push((T(run_at), put(&store, job("default", run_at)).await.id()));
        }
        put(&store, job("default", 19)).await;
        assert_eq!(claim(&store, "w", 99, 19).await.len(), 1);
    }
    wanted.sort();
    for limit in [1, 2, 4, 9] {
        let ahead = store.ahead("default", T(19), T(30), limit).await;
        let expected = &wanted[..limit.min(wanted.len())];
        assert_eq!(ahead.expect("hints"), expected);
    }
}

pub(crate) async fn the_next_suspect_is_the_first_one_that_may_run(store: Opened) {
    let job = |kind: &str, queue: &str, run_at| NewJob {
        kind: kind.to_owned(),
        queue: queue.to_owned(),
        ..job(run_at)
    };
    for (kind, queue, run_at) in [
        ("test", "default", 7),
        ("test", "default", 5),
        ("test", "default", 4),
        ("b", "default", 3),
        ("test", "foreign", 2),
        ("test", "paused", 1),
    ] {
        put(&store, job(kind, queue, run_at)).await;
    }
    for queue in ["default", "foreign", "paused"] {
        let claim = Claim {
            queue: queue.to_owned(),
            ..request("w", 9, 10)
        };
        claim_by(&store, claim).await;
    }
    assert_eq!(store.reclaim(T(100), 9).await.expect("lost").len(), 6);
    // One of them runs again, and one has lost no worker.
    let four = Claim {
        suspects: Suspects::Alone(1),
        kinds: vec!["test".to_owned()],
        ..request("w", 1, 110)
    };
    assert_eq!(claim_by(&store, four).await.jobs[0].run_at, T(4));
    put(&store, job("test", "default", 1)).await;
    store.pause("paused").await.expect("paused");

    let queues = ["default", "paused"].map(str::to_owned);
    let kinds = ["test".to_owned()];
    let next = async |crashes| {
        let next = store.next_suspect(&queues, &kinds, crashes).await;
        next.expect("an answer")
    };
    assert_eq!(next(1).await, Some((T(5), "default".to_owned())));
    assert_eq!(next(2).await, None, "they have lost one worker each");
}

pub(crate) async fn a_call_for_one_job_changes_no_other(store: Opened) {
    for _ in 0..2 {
        put(&store, job(0)).await;
    }
    let claimed = claim(&store, "w", 9, 1).await;
    let [first, second] = [claimed[0].lease, claimed[1].lease];
    for _ in 0..2 {
        put(&store, job(50)).await;
    }
    let before = all(&store).await;
    let (one, lease) = (first.id, first);
    assert!(store.progress(lease, 40).await.expect("an answer"));
    assert!(store.share(lease).await.expect("an answer"));
    let renewed = store.renew(vec![lease], T(99)).await;
    assert_eq!(renewed.expect("an answer"), [one]);
    store.cancel(one, T(2)).await.expect("an answer");
    assert_eq!(store.asked_to_cancel("w").await.expect("asked"), [one]);
    assert_eq!(store.asked_to_cancel("v").await.expect("asked"), []);
    assert!(finish(&store, lease, 3, Verdict::Cancelled).await);
    only_these_have_changed(&store, &before, &[one]).await;
    let ended = record(&store, one).await;
    assert!(!store.progress(lease, 50).await.expect("an answer"));
    assert!(!store.share(lease).await.expect("an answer"));
    assert_eq!(
        store.renew(vec![lease], T(100)).await.expect("an answer"),
        []
    );
    assert!(!finish(&store, lease, 4, Verdict::Released).await);
    assert_eq!(record(&store, one).await, ended, "its claim is over");

    let third = before[0].id;
    store.cancel(third, T(5)).await.expect("an answer");
    store.retry(third, T(6)).await.expect("an answer");
    only_these_have_changed(&store, &before, &[one, third]).await;
    assert_eq!(store.held_by("w").await.expect("leases"), [second]);
}

pub(crate) async fn a_retry_begins_anew(store: Opened) {
    let id = put(&store, job(0)).await.id();
    claim_one(&store, 1).await;
    store.reclaim(T(100), 9).await.expect("lost");
    let lease = claim_one(&store, 101).await;
    assert!(store.progress(lease, 40).await.expect("an answer"));
    store.cancel(id, T(102)).await.expect("an answer");
    let retry = Verdict::Snoozed { at: T(103) };
    assert!(finish(&store, lease, 103, retry).await);
    let cancelled = record(&store, id).await;
    assert_eq!(
        (cancelled.state, cancelled.crashes, cancelled.finished_at),
        (State::Cancelled, 1, Some(T(103)))
    );
    let asked = store.retry(id, T(200)).await.expect("an answer");
    assert_eq!(asked, Asked::Granted(State::Pending));
    let again = record(&store, id).await;
    assert_eq!(
        (again.state, again.run_at, again.attempt),
        (State::Pending, T(200), 0)
    );
    assert_eq!(
        (again.crashes, again.progress, again.finished_at),
        (0, None, None)
    );
    // It was cancelled before its retry, and not since.
    let lease = claim_one(&store, 200).await;
    assert_eq!(store.asked_to_cancel("w").await.expect("asked"), []);
    let error = "x".to_owned();
    let failed = Verdict::Retry { at: T(210), error };
    assert!(finish(&store, lease, 201, failed).await);
    assert_eq!(state(&store, id).await, State::Pending);
    // The same if its worker was lost.
    claim_one(&store, 210).await;
    store.cancel(id, T(211)).await.expect("an answer");
    store.reclaim(T(300), 9).await.expect("lost");
    assert_eq!(state(&store, id).await, State::Cancelled);
    store.retry(id, T(301)).await.expect("an answer");
    claim_one(&store, 301).await;
    assert_eq!(store.asked_to_cancel("w").await.expect("asked"), []);
    // And if it had not started.
    for by_filter in [false, true] {
        let id = put(&store, job(400)).await.id();
        if by_filter {
            let this = Filter {
                id: Some(id),
                ..Filter::default()
            };
            let cancelled = store.change(Change::Cancel, this, T(401)).await;
            assert_eq!(cancelled.expect("an answer"), [id]);
        } else {
            store.cancel(id, T(401)).await.expect("an answer");
        }
        store.retry(id, T(402)).await.expect("an answer");
        assert_eq!(claim_one(&store, 402).await.id, id);
        assert_eq!(store.asked_to_cancel("w").await.expect("asked"), []);
    }
}

pub(crate) async fn only_a_run_that_fails_by_itself_clears_the_count_of_lost_workers(
    store: Opened,
) {
    let error = || "x".to_owned();
    let mut now = 0;
    for (verdict, crashes) in [
        (Verdict::Snoozed { at: T(0) }, 1),
        (Verdict::Released, 1),
        (Verdict::Done { output: None }, 1),
        (Verdict::Dead { error: error() }, 1),
        (
            Verdict::Retry {
                at: T(1_000_000),
                error: error(),
            },
            0,
        ),
    ] {
        let id = put(&store, job(now)).await.id();
        claim_one(&store, now).await;
        now += 100;
        store.reclaim(T(now), 9).await.expect("lost");
        let lease = claim_one(&store, now).await;
        assert!(finish(&store, lease, now, verdict.clone()).await);
        let seen = record(&store, id).await;
        assert_eq!((seen.id, seen.crashes), (id, crashes), "{verdict:?}");
        store.cancel(id, T(now)).await.expect("an answer");
    }
}

pub(crate) async fn the_last_error_is_kept_when_a_job_is_done(store: Opened) {
    let id = put(&store, job(0)).await.id();
    let error = "no answer".to_owned();
    let lease = claim_one(&store, 1).await;
    assert!(finish(&store, lease, 2, Verdict::Retry { at: T(3), error }).await);
    for verdict in [Verdict::Released, Verdict::Done { output: None }] {
        let lease = claim_one(&store, 3).await;
        assert!(finish(&store, lease, 4, verdict).await);
        let seen = record(&store, id).await;
        assert_eq!(seen.error.as_deref(), Some("no answer"));
    }
}

pub(crate) async fn a_replacement_leaves_other_keys_and_periods_alone(store: Opened) {
    let keyed = |key: &str, until: Option<i64>, on_duplicate, run_at| {
        let mut job = keyed(key, on_duplicate, run_at);
        if let Some(key) = &mut job.key {
            key.until = until.map(T);
        }
        job
    };
    let keys = [("k", None), ("k", Some(100)), ("l", None)];
    let run = async || {
        let mut ids = Vec::new();
        for (key, until) in keys {
            let new = keyed(key, until, OnDuplicate::Reject, 0);
            ids.push(put(&store, new).await.id());
        }
        ids
    };
    let pending = run().await;
    let before = all(&store).await;
    let replaced = put(&store, keyed("k", None, OnDuplicate::Replace, 5)).await;
    assert_eq!(replaced, Enqueued::Replaced(pending[0]));
    only_these_have_changed(&store, &before, &pending[..1]).await;
    // They have started, and one loses its key.
    assert_eq!(claim(&store, "w", 9, 6).await.len(), 3);
    let new = put(&store, keyed("k", None, OnDuplicate::Replace, 50)).await;
    assert!(matches!(new, Enqueued::New(_)), "{new:?}");
    for (at, (key, until)) in keys.into_iter().enumerate() {
        let holder = if at == 0 { new.id() } else { pending[at] };
        let kept = put(&store, keyed(key, until, OnDuplicate::Keep, 50)).await;
        assert_eq!(kept, Enqueued::Kept(holder), "{key} {until:?}");
    }
}

pub(crate) async fn a_schedule_changes_no_job_of_another_one(store: Opened) {
    let other = ScheduleSpec {
        name: "other".to_owned(),
        ..hourly("a")
    };
    for schedule in [hourly("a"), other] {
        store.declare(schedule).await.expect("declared");
    }
    let fill = async |slot| store.fill_slot(slot).await.expect("an answer");
    let of_other = |at| Slot {
        schedule: "other".to_owned(),
        ..slot(at, "a")
    };
    assert!(fill(of_other(10)).await);
    let theirs = all(&store).await;
    assert_eq!(theirs.len(), 1);

    assert!(fill(slot(10, "a")).await);
    assert_eq!(all(&store).await.len(), 2);
    // A run that was cancelled stays in the list, whatever becomes of its schedule.
    let id = all(&store).await[0].id;
    store.cancel(id, T(1)).await.expect("an answer");
    let late = Slot {
        earliest: T(15),
        ..slot(20, "a")
    };
    assert!(fill(late).await, "its slot is over");
    store.declare(hourly("b")).await.expect("declared");
    assert!(fill(slot(30, "b")).await);
    let paused = store.pause_schedule("hourly", true).await;
    assert!(paused.expect("an answer"));
    let cancelled = record(&store, id).await;
    assert_eq!(
        all(&store).await,
        [vec![cancelled], theirs.clone()].concat()
    );
    let last = async |name: &str| store.last_slot(name).await.expect("an answer");
    assert_eq!(
        (last("hourly").await, last("other").await),
        (None, Some(T(10)))
    );
    let schedules = store.schedules().await.expect("schedules");
    let paused: Vec<_> = schedules.iter().map(|row| row.paused).collect();
    assert_eq!(paused, [true, false], "in the order of their names");
    // The other one has the definition that this one had before.
    let resumed = store.pause_schedule("hourly", false).await;
    assert!(resumed.expect("an answer"));
    assert!(fill(slot(30, "b")).await);
    store.declare(hourly("a")).await.expect("declared");
    assert!(fill(slot(40, "a")).await, "the run at 30 has made room");
    assert_eq!(all(&store).await.len(), 3);
    // A resume of one that is not paused deletes nothing.
    let resumed = store.pause_schedule("hourly", false).await;
    assert!(resumed.expect("an answer"));
    assert_eq!(all(&store).await.len(), 3);
    // A run by hand is what it was declared as last.
    let spec = ScheduleSpec {
        kind: "b".to_owned(),
        queue: "foreign".to_owned(),
        payload: "8".to_owned(),
        ..hourly("c")
    };
    store.declare(spec).await.expect("declared");
    let made = store.run_schedule("hourly", T(50)).await;
    let (made, queue) = made.expect("an answer").expect("a job");
    let made = record(&store, made).await;
    assert_eq!(
        [&made.kind, &made.queue, &made.payload, &queue],
        ["b", "foreign", "8", "foreign"]
    );
}

pub(crate) async fn the_limits_of_other_queues_and_keys_do_not_count(store: Opened) {
    let second = Duration::from_secs(1);
    let of = |queue: &str, key: Option<&str>| NewJob {
        queue: queue.to_owned(),
        limit_key: key.map(str::to_owned),
        ..job(0)
    };
    let lot = async |queue: &str, limit, now, suspects| {
        let claim = Claim {
            queue: queue.to_owned(),
            limited: true,
            suspects,
            lease_until: T(9000),
            ..request("w", limit, now)
        };
        claim_by(&store, claim).await
    };
    let without = Suspects::Without(9);
    // A busy queue with tight limits.
    let tight = Limit::default().at_once(1).key_rate(1, 900 * second);
    store.set_limit("other", tight).await.expect("set");
    put(&store, of("other", Some("b"))).await;
    assert_eq!(lot("other", 9, 100, without).await.jobs.len(), 1);

    let limit = Limit::default().at_once(9).key_at_once(2);
    store.set_limit("default", limit).await.expect("set");
    for key in [Some("a"), Some("a"), Some("a"), Some("b"), Some("b")] {
        put(&store, of("default", key)).await;
    }
    for _ in 0..4 {
        put(&store, of("default", None)).await;
    }
    let first = lot("default", 2, 101, without).await;
    assert_eq!(first.jobs.len(), 2, "both of `a`");
    let rest = lot("default", 9, 101, without).await;
    assert_eq!(rest.jobs.len(), 6, "two of `b`, and all without a key");
    // With a rate per key, too.
    let limit = Limit::default().key_rate(1, second);
    store.set_limit("default", limit).await.expect("set");
    put(&store, of("default", Some("b"))).await;
    let rated = lot("default", 9, 200, without).await;
    assert_eq!(rated.jobs.len(), 2, "one of `a` was left");
    // Then a limit per key is set anew.
    for most in [1, 3] {
        let limit = Limit::default().key_at_once(most);
        store.set_limit("default", limit).await.expect("set");
        let limits = store.limits().await.expect("limits");
        let names = ["default", "other"].map(str::to_owned);
        let [default, other] = names;
        assert_eq!(limits, [(default, limit), (other, tight)]);
    }
}

pub(crate) async fn a_suspect_keeps_the_limits_of_its_key(store: Opened) {
    let of = |queue: &str, key: &str| NewJob {
        queue: queue.to_owned(),
        limit_key: Some(key.to_owned()),
        ..job(0)
    };
    let lot = async |queue: &str, suspects, lease_until| {
        let claim = Claim {
            queue: queue.to_owned(),
            limited: true,
            suspects,
            lease_until: T(lease_until),
            ..request("w", 9, 100)
        };
        claim_by(&store, claim).await.jobs
    };
    let without = Suspects::Without(1);
    let suspect = put(&store, of("default", "a")).await.id();
    assert_eq!(ids(&lot("default", without, 110).await), [suspect]);
    store.reclaim(T(200), 9).await.expect("lost");
    let limit = Limit::default().key_at_once(1);
    for queue in ["default", "other"] {
        store.set_limit(queue, limit).await.expect("set");
    }
    // Others run with another key, and with the same key in another queue.
    for (queue, key) in [("default", "b"), ("other", "a")] {
        put(&store, of(queue, key)).await;
        assert_eq!(lot(queue, without, 9000).await.len(), 1);
    }
    put(&store, of("default", "a")).await;
    let beside = lot("default", without, 9000).await;
    assert_eq!(beside.len(), 1, "of its own key");
    let alone = Suspects::Alone(1);
    assert_eq!(ids(&lot("default", alone, 9000).await), []);
    let done = Verdict::Done { output: None };
    assert!(finish(&store, beside[0].lease, 210, done).await);
    let unaware = Claim {
        suspects: alone,
        ..request("w", 9, 100)
    };
    let none = claim_by(&store, unaware.clone()).await.jobs;
    assert_eq!(ids(&none), [], "this worker does not know the limits");
    // What each worker is to keep by itself is no limit over all.
    let own = Limit::default().worker_at_once(7);
    store.set_limit("default", own).await.expect("set");
    let one = claim_by(&store, unaware).await.jobs;
    assert_eq!(ids(&one), [suspect]);
    assert!(finish(&store, one[0].lease, 211, Verdict::Released).await);
    store.set_limit("default", limit).await.expect("set");
    assert_eq!(ids(&lot("default", alone, 9000).await), [suspect]);
}

pub(crate) async fn the_end_of_a_job_changes_only_those_that_come_after_it(store: Opened) {
    let after = |jobs: &[JobId], any_end| NewJob {
        after: Some(After {
            jobs: jobs.to_vec(),
            any_end,
        }),
        ..job(5)
    };
    let put_some = async || {
        let mut firsts = Vec::new();
        for _ in 0..4 {
            firsts.push(put(&store, job(0)).await.id());
        }
        firsts
    };
    let firsts = put_some().await;
    let mut nexts = Vec::new();
    for first in &firsts {
        nexts.push(put(&store, after(&[*first], false)).await.id());
    }
    // Both, of which the second one fails; and some that are cancelled while they wait.
    let both = put(&store, after(&[firsts[0], firsts[1]], false))
        .await
        .id();
    for first in &firsts[..3] {
        let gone = put(&store, after(&[*first], false)).await.id();
        store.cancel(gone, T(1)).await.expect("an answer");
    }
    let third = put(&store, after(&[nexts[1], firsts[3]], false)).await.id();
    let leases = claim(&store, "w", 9, 2).await;
    assert_eq!(ids(&leases), firsts);

    let before = all(&store).await;
    let error = "x".to_owned();
    assert!(finish(&store, leases[1].lease, 10, Verdict::Dead { error }).await);
    let changed = [firsts[1], nexts[1], both, third];
    only_these_have_changed(&store, &before, &changed).await;
    let words = |first, word| format!("job {first}, which it comes after, is {word}");
    for (id, words) in [
        (nexts[1], words(firsts[1], "dead")),
        (both, words(firsts[1], "dead")),
        (third, words(nexts[1], "cancelled")),
    ] {
        let seen = record(&store, id).await;
        assert_eq!(
            (seen.state, seen.finished_at, seen.error),
            (State::Cancelled, Some(T(10)), Some(words))
        );
    }
    for at in [2, 0] {
        let before = all(&store).await;
        let done = Verdict::Done { output: None };
        assert!(finish(&store, leases[at].lease, 20, done).await);
        only_these_have_changed(&store, &before, &[firsts[at], nexts[at]]).await;
        assert_eq!(record(&store, nexts[at]).await.run_at, T(20));
    }
    // What comes after a job that has failed is cancelled at once, and nothing else.
    let before = all(&store).await;
    let mut late = after(&[firsts[1]], false);
    late.created_at = T(30);
    let late = put(&store, late).await.id();
    only_these_have_changed(&store, &before, &[late]).await;
    let seen = record(&store, late).await;
    let words = "a job that it comes after has failed";
    assert_eq!(
        (seen.state, seen.finished_at, seen.error.as_deref()),
        (State::Cancelled, Some(T(30)), Some(words))
    );
    assert_eq!(record(&store, nexts[3]).await.run_at, Micros::NEVER);
}

/// A new rate forgets the intervals of the one before it, by the clock of the store.
pub(crate) async fn a_new_rate_shortens_no_wait_of_another_queue(store: Opened) {
    let second = Duration::from_secs(1);
    let begun = store.clock().now();
    let start = async |now: Micros| {
        let claim = Claim {
            queue: "other".to_owned(),
            limited: true,
            now,
            lease_until: now.after(60 * second),
            ..request("w", 9, 0)
        };
        claim_by(&store, claim).await.jobs.len()
    };
    let slow = Limit::default().rate(1, 900 * second);
    let slow = slow.key_rate(1, 900 * second);
    store.set_limit("other", slow).await.expect("set");
    for _ in 0..2 {
        let other = NewJob {
            queue: "other".to_owned(),
            limit_key: Some("k".to_owned()),
            ..job(0)
        };
        put(&store, other).await;
    }
    assert_eq!(start(begun).await, 1);
    let fast = Limit::default().rate(9, second).key_rate(9, second);
    store.set_limit("default", fast).await.expect("set");
    assert_eq!(start(begun.after(10 * second)).await, 0);
    store.set_limit("other", fast).await.expect("set");
    assert_eq!(start(begun.after(20 * second)).await, 1);
}
