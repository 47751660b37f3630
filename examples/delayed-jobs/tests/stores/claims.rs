//! Leases: what is claimed, and how a claim ends.

use super::*;

pub(crate) async fn a_claim_takes_what_is_due_by_priority_and_time(store: Opened) {
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

pub(crate) async fn a_claim_may_leave_out_what_is_earlier(store: Opened) {
    let mut put_with = Vec::new();
    for (priority, run_at) in [
        (Priority::High, 1),
        (Priority::Normal, 1),
        (Priority::Normal, 2),
        (Priority::Normal, 3),
        (Priority::Low, 1),
    ] {
        let job = NewJob {
            priority,
            ..job(run_at)
        };
        put_with.push(put(&store, job).await.id());
    }
    let [high, one, two, three, low] = put_with[..] else {
        unreachable!("five were put")
    };
    let claim = |from: [Micros; 3]| Claim {
        from,
        ..request("w", 10, 10)
    };
    let later = claim([Micros::EARLIEST, T(2), T(2)]);
    let later = store.claim(later).await.expect("a claim").jobs;
    assert_eq!(ids(&later), [high, two, three]);
    assert_eq!(
        later.iter().map(|job| job.priority).collect::<Vec<_>>(),
        [Priority::High, Priority::Normal, Priority::Normal]
    );
    let all = claim([Micros::EARLIEST; 3]);
    let all = store.claim(all).await.expect("a claim").jobs;
    assert_eq!(ids(&all), [one, low]);
}

pub(crate) async fn a_job_is_claimed_once(store: Opened) {
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

pub(crate) async fn an_old_claim_ends_nothing(store: Opened) {
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

pub(crate) async fn verdicts_leave_the_job_as_they_say(store: Opened) {
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

pub(crate) async fn an_expired_lease_is_taken_back_and_a_renewed_one_is_not(store: Opened) {
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

pub(crate) async fn a_job_that_kills_its_workers_is_dead(store: Opened) {
    let id = put(&store, job(0)).await.id();
    for (crash, suspects, is_shared, expected) in [
        (1, Suspects::Without(2), false, State::Pending),
        (2, Suspects::Without(2), false, State::Pending),
        // Not alone: that may have been its neighbour's doing.
        (3, Suspects::Without(9), false, State::Pending),
        // Alone only at first.
        (4, Suspects::Alone(2), true, State::Pending),
        (5, Suspects::Alone(2), false, State::Dead),
    ] {
        let claim = Claim {
            worker: "w".to_owned(),
            queue: "default".to_owned(),
            limit: 1,
            now: T(crash * 100),
            lease_until: T(crash * 100 + 30),
            kinds: vec!["test".to_owned()],
            from: [Micros::EARLIEST; 3],
            suspects,
            limited: false,
            ageing: None,
        };
        let claimed = store.claim(claim).await.expect("a claim").jobs;
        assert_eq!(claimed.len(), 1, "crash {crash}");
        let lease = claimed[0].lease;
        if is_shared {
            assert!(store.share(lease).await.expect("an answer"));
            let claim = lease.claim - 1;
            let old = store.share(Lease { claim, ..lease });
            assert!(!old.await.expect("an answer"));
        }
        let lost = store
            .reclaim(T(crash * 100 + 50), 3)
            .await
            .expect("an answer");
        assert_eq!(lost[0].state, expected, "after crash {crash}");
    }
    let record = store.get(id).await.expect("an answer").expect("a job");
    assert_eq!(
        record.error.as_deref(),
        Some("its worker was lost 5 times while it ran")
    );
    assert_eq!(record.finished_at, Some(T(550)));
}

pub(crate) async fn a_lost_job_that_was_to_be_cancelled_is(store: Opened) {
    let id = put(&store, job(0)).await.id();
    claim_one(&store, 1).await;
    store.cancel(id, T(2)).await.expect("an answer");
    let lost = store.reclaim(T(50), 3).await.expect("an answer");
    assert_eq!(lost[0].state, State::Cancelled);
}

pub(crate) async fn only_known_kinds_are_claimed(store: Opened) {
    let unknown = NewJob {
        kind: "new \"kind\"".to_owned(),
        ..job(0)
    };
    put(&store, unknown).await;
    let known = put(&store, job(1)).await.id();
    assert_eq!(ids(&claim(&store, "w", 9, 5).await), [known]);
}

pub(crate) async fn a_worker_is_told_what_it_holds(store: Opened) {
    put(&store, job(0)).await;
    put(&store, job(0)).await;
    let lease = claim_one(&store, 1).await;
    assert_eq!(store.held_by("w").await.expect("an answer"), [lease]);
    assert_eq!(store.held_by("v").await.expect("an answer"), []);
}

pub(crate) async fn a_paused_queue_gives_nothing(store: Opened) {
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

pub(crate) fn hourly(spec: &str) -> ScheduleSpec {
    ScheduleSpec {
        name: "hourly".to_owned(),
        spec: spec.to_owned(),
        kind: "test".to_owned(),
        queue: "default".to_owned(),
        payload: "7".to_owned(),
    }
}

pub(crate) fn slot(at: i64, spec: &str) -> Slot {
    Slot {
        schedule: "hourly".to_owned(),
        spec: spec.to_owned(),
        slot: T(at),
        earliest: T(0),
        latest: T(1000),
        overlap: false,
        job: job(at),
    }
}

pub(crate) async fn a_paused_schedule_fills_no_slot_and_is_run_by_hand(store: Opened) {
    let fill = async |slot| store.fill_slot(slot).await.expect("an answer");
    let pause = async |paused| {
        let paused = store.pause_schedule("hourly", paused).await;
        paused.expect("an answer")
    };
    let run = async |at| {
        let made = store.run_schedule("hourly", T(at)).await;
        made.expect("an answer")
    };
    assert!(!pause(true).await, "nobody knows it");
    assert_eq!(run(1).await, None);
    store.declare(hourly("a")).await.expect("declared");
    assert!(fill(slot(10, "a")).await);
    assert!(pause(true).await);
    assert_eq!(store.counts().await.expect("counts").pending, 0);
    assert!(!fill(slot(10, "a")).await);
    assert!(store.schedules().await.expect("schedules")[0].paused);
    store.declare(hourly("a")).await.expect("declared again");
    assert!(
        !fill(slot(10, "a")).await,
        "a worker that begins ends no pause"
    );

    let (id, queue) = run(5).await.expect("a job");
    assert_eq!(queue, "default");
    let claimed = claim(&store, "w", 9, 5).await;
    assert_eq!(
        (claimed[0].lease.id, claimed[0].payload.as_str()),
        (id, "7")
    );
    assert!(finish(&store, claimed[0].lease, 6, Verdict::Done { output: None }).await);

    assert!(pause(false).await);
    assert_eq!(store.last_slot("hourly").await.expect("an answer"), None);
    assert!(fill(slot(10, "a")).await, "its slot is free again");
    assert!(run(7).await.is_some(), "beside the one that waits");
    assert_eq!(store.counts().await.expect("counts").pending, 2);
}

pub(crate) async fn a_slot_is_filled_once(store: Opened) {
    let declare = async |spec: &str| {
        store.declare(hourly(spec)).await.expect("declared");
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

pub(crate) async fn an_old_worker_takes_no_job_of_a_changed_schedule_away(store: Opened) {
    // The new program runs it once a day, and workers of the old one, which runs it each minute, are still there.
    for spec in ["each minute", "daily"] {
        store.declare(hourly(spec)).await.expect("declared");
    }
    let daily = Slot {
        latest: T(172_800),
        ..slot(86_400, "daily")
    };
    assert!(store.fill_slot(daily.clone()).await.expect("an answer"));
    let next = Slot {
        latest: T(120),
        ..slot(60, "each minute")
    };
    let missed = Slot {
        earliest: T(86_460),
        latest: T(86_580),
        ..slot(86_520, "each minute")
    };
    for old in [next, missed] {
        assert!(!store.fill_slot(old).await.expect("an answer"));
        assert_eq!(store.counts().await.expect("counts").pending, 1);
    }
}

pub(crate) async fn many_jobs_keep_their_order(store: Opened) {
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

pub(crate) async fn a_job_brings_its_own_limits(store: Opened) {
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

pub(crate) async fn the_errors_of_the_last_tries_are_kept(store: Opened) {
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

pub(crate) async fn what_a_job_brought_forth_is_kept(store: Opened) {
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

pub(crate) async fn a_claim_may_ask_for_any_number(store: Opened) {
    for _ in 0..2 {
        put(&store, job(0)).await;
    }
    let all = claim(&store, "w", usize::MAX, 1).await;
    assert_eq!(all.len(), 2);
    for claimed in all {
        assert!(finish(&store, claimed.lease, 1, Verdict::Released).await);
    }
    let ageing = Claim {
        ageing: Some(Duration::MAX),
        ..request("w", usize::MAX, 2)
    };
    let lot = store.claim(ageing).await.expect("a claim");
    assert_eq!(lot.jobs.len(), 2);
}

pub(crate) async fn a_job_of_a_schedule_that_has_started_is_not_dropped(store: Opened) {
    let fill = async |slot| store.fill_slot(slot).await.expect("an answer");
    store.declare(hourly("a")).await.expect("declared");
    let error = || "x".to_owned();
    // A job that was snoozed, given back or lost has no attempt that counts.
    for verdict in [
        Verdict::Snoozed { at: T(500) },
        Verdict::Released,
        Verdict::Retry {
            at: T(500),
            error: error(),
        },
    ] {
        assert!(fill(slot(10, "a")).await, "{verdict:?}");
        let lease = claim_one(&store, 10).await;
        assert!(finish(&store, lease, 11, verdict.clone()).await);
        let later = Slot {
            earliest: T(550),
            ..slot(600, "a")
        };
        assert!(!fill(later).await, "{verdict:?}: it has not ended");
        assert_eq!(state(&store, lease.id).await, State::Pending, "{verdict:?}");
        let paused = store.pause_schedule("hourly", true).await;
        assert!(paused.expect("an answer"));
        assert_eq!(state(&store, lease.id).await, State::Pending, "{verdict:?}");
        store.declare(hourly("b")).await.expect("declared");
        assert_eq!(state(&store, lease.id).await, State::Pending, "{verdict:?}");
        // As if it had never been.
        store.declare(hourly("a")).await.expect("declared");
        let resumed = store.pause_schedule("hourly", false).await;
        assert!(resumed.expect("an answer"));
        let all = Filter::default();
        let deleted = store.change(Change::Delete, all, T(12)).await;
        assert_eq!(deleted.expect("an answer"), [lease.id], "{verdict:?}");
    }

    // So has a dead one that is retried by hand.
    assert!(fill(slot(10, "a")).await);
    let lease = claim_one(&store, 10).await;
    assert!(finish(&store, lease, 11, Verdict::Dead { error: error() }).await);
    store.retry(lease.id, T(12)).await.expect("an answer");
    // And one that is made by hand is for no slot that could be missed.
    let by_hand = store.run_schedule("hourly", T(13)).await;
    let (by_hand, _) = by_hand.expect("an answer").expect("a job");
    let later = Slot {
        earliest: T(550),
        ..slot(600, "a")
    };
    assert!(!fill(later).await);
    for id in [lease.id, by_hand] {
        assert_eq!(state(&store, id).await, State::Pending, "{id}");
    }
}

pub(crate) async fn a_retry_does_not_hold_up_runs_that_may_overlap(store: Opened) {
    store.declare(hourly("a")).await.expect("declared");
    let fill = async |at, overlap| {
        let slot = Slot {
            overlap,
            ..slot(at, "a")
        };
        store.fill_slot(slot).await.expect("an answer")
    };
    assert!(fill(10, true).await);
    let lease = claim_one(&store, 10).await;
    let error = "x".to_owned();
    assert!(finish(&store, lease, 11, Verdict::Retry { at: T(90), error }).await);
    assert!(!fill(20, false).await, "it has not ended");
    assert!(fill(20, true).await);
    assert!(!fill(30, true).await, "one waits already");
}

pub(crate) async fn a_schedule_that_was_not_paused_keeps_its_slot(store: Opened) {
    store.declare(hourly("a")).await.expect("declared");
    assert!(store.fill_slot(slot(10, "a")).await.expect("an answer"));
    let resumed = store.pause_schedule("hourly", false).await;
    assert!(resumed.expect("an answer"));
    let last = store.last_slot("hourly").await.expect("an answer");
    assert_eq!(last, Some(T(10)));
}

pub(crate) async fn each_setting_of_a_job_is_stored_without_the_others(store: Opened) {
    let minute = Duration::from_secs(60);
    let mut jobs = vec![job(1), job(1), job(1), job(1)];
    jobs[1].attempts = Some(7);
    jobs[2].timeout = Some(minute);
    jobs[3].limit_key = Some("k".to_owned());
    let alone = |job: &NewJob| vec![job.clone()];
    for lot in jobs.iter().map(alone).chain([jobs.clone()]) {
        let enqueued = store.enqueue(lot.clone()).await.expect("enqueued");
        for (job, enqueued) in lot.iter().zip(enqueued) {
            let seen = store.get(enqueued.id()).await.expect("an answer");
            let seen = seen.expect("a job");
            assert_eq!(
                (seen.attempts, seen.timeout, &seen.limit_key),
                (job.attempts, job.timeout, &job.limit_key)
            );
        }
    }
}

/// It runs again at once after the first loss, since that may have been a deploy.
pub(crate) async fn a_lost_job_waits_longer_after_each_loss(store: Opened) {
    let id = put(&store, job(0)).await.id();
    let error = "no answer".to_owned();
    let lease = claim_one(&store, 1).await;
    let failed = Verdict::Retry { at: T(2), error };
    assert!(finish(&store, lease, 2, failed).await);
    let mut waits = Vec::new();
    for loss in 1..=23 {
        let now = loss * 1000;
        let claim = Claim {
            // It runs beside others, or alone and is not dead yet.
            suspects: match loss {
                1..8 => Suspects::Without(99),
                _ => Suspects::Alone(1),
            },
            ..request("w", 1, now)
        };
        let claimed = store.claim(claim).await.expect("a claim").jobs;
        assert_eq!(ids(&claimed), [id], "after {} losses", loss - 1);
        let most = if loss < 8 { 3 } else { 99 };
        let lost = store.reclaim(T(now + 100), most).await.expect("lost");
        assert_eq!((lost[0].id, lost[0].state), (id, State::Pending));
        let seen = store.get(id).await.expect("an answer").expect("a job");
        waits.push((seen.run_at.0 - T(now + 100).0) / 1_000_000);
        assert_eq!(seen.error.as_deref(), Some("no answer"));
        assert_eq!((seen.worker, seen.lease_until), (None, None));
        assert_eq!((seen.attempt, seen.finished_at), (1, None));
        let errors = seen.errors.iter().map(|tried| (tried.attempt, tried.at));
        let errors: Vec<_> = errors.collect();
        assert_eq!(errors.len(), 20.min(loss as usize + 1));
        assert_eq!(errors.last(), Some(&(2, T(now + 100))));
        let is_first_kept = errors[0] == (1, T(2));
        assert_eq!(is_first_kept, loss < 20, "after {loss} losses");
    }
    assert_eq!(waits[0], 2 - 1100, "its time stays");
    assert_eq!(waits[1..8], [1, 2, 4, 8, 16, 60, 60]);
    // A cancel has priority over death, and is no error.
    let alone = Claim {
        suspects: Suspects::Alone(1),
        ..request("w", 1, 50_000)
    };
    assert_eq!(store.claim(alone).await.expect("a claim").jobs.len(), 1);
    store.cancel(id, T(50_001)).await.expect("an answer");
    let lost = store.reclaim(T(50_100), 3).await.expect("lost");
    assert_eq!(lost[0].state, State::Cancelled);
    let seen = store.get(id).await.expect("an answer").expect("a job");
    assert_eq!(seen.error.as_deref(), Some("no answer"));
    assert_eq!(seen.finished_at, Some(T(50_100)));
}
