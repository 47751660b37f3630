//! Limits over all workers, and priorities that age.

use super::*;

/// What one worker may have by the limits of the queue, and when to ask again.
async fn lot(store: &Opened, worker: &str, limit: usize, now: Micros) -> Lot {
    let claim = Claim {
        worker: worker.to_owned(),
        queue: "default".to_owned(),
        limit,
        now,
        lease_until: now.after(Duration::from_secs(30)),
        kinds: vec!["test".to_owned()],
        from: [Micros::EARLIEST; 3],
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

pub(crate) async fn a_queue_with_limits_gives_nothing_to_those_who_do_not_know(store: Opened) {
    put(&store, job(0)).await;
    let limit = Limit::default()
        .at_once(5)
        .key_rate(3, Duration::from_secs(1));
    set(&store, limit).await;
    let limits = store.limits().await.expect("limits");
    assert_eq!(limits, [("default".to_owned(), limit)]);
    assert!(claim(&store, "w", 9, 1).await.is_empty());
    // What each worker is to keep by itself is no limit over all.
    set(&store, limit.worker_at_once(7)).await;
    let limits = store.limits().await.expect("limits");
    assert_eq!(limits, [("default".to_owned(), limit.worker_at_once(7))]);
    set(&store, Limit::default().worker_at_once(7)).await;
    let claimed = claim(&store, "w", 9, 1).await;
    assert_eq!(claimed.len(), 1);
    assert!(finish(&store, claimed[0].lease, 1, Verdict::Released).await);
    set(&store, Limit::default()).await;
    assert!(store.limits().await.expect("limits").is_empty());
    assert_eq!(lot(&store, "w", 9, T(1)).await.jobs.len(), 1);
}

pub(crate) async fn a_queue_has_a_limit_over_all_workers(store: Opened) {
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

pub(crate) async fn each_key_has_a_limit_over_all_workers(store: Opened) {
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

pub(crate) async fn a_rate_spreads_the_starts_of_a_queue_and_of_a_key(store: Opened) {
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

/// Only other programs insert such a job. The key of the queue itself is empty, too.
pub(crate) async fn a_job_with_an_empty_key_does_not_stop_a_queue_with_rates(store: Opened) {
    for key in [Some(""), None, Some("")] {
        put_of_key(&store, key).await;
    }
    let second = Duration::from_secs(1);
    set(&store, Limit::default().rate(1, second).key_rate(1, second)).await;
    for at in [100, 102, 104] {
        let started = lot(&store, "w", 9, T(at)).await.jobs;
        assert_eq!(started.len(), 1, "at {at} s");
    }
}

/// On a paused clock a worker makes several claims at one time.
pub(crate) async fn a_rate_counts_each_start_once(store: Opened) {
    for _ in 0..9 {
        put_of_key(&store, Some("a")).await;
    }
    // Four within a tenth of a second.
    let second = Duration::from_secs(1);
    for limit in [
        Limit::default().rate(40, second),
        Limit::default().key_rate(40, second),
    ] {
        set(&store, limit).await;
        let mut all = Vec::new();
        for _ in 0..9 {
            all.extend(lot(&store, "w", 1, T(5)).await.jobs);
        }
        assert_eq!(all.len(), 4, "{limit}");
        for job in all {
            assert!(finish(&store, job.lease, 5, Verdict::Released).await);
        }
    }
}

/// Claims come later than they could, and starts are not lost by that.
pub(crate) async fn a_rate_is_kept_though_claims_are_late(store: Opened) {
    let seconds = 4;
    for (at, starts, every) in [
        (100, 1, 7_000),
        (200, 9, 7_000),
        (300, 50, 13_000),
        (400, 1000, 20_000),
    ] {
        let limit = Limit::default().rate(starts, Duration::from_secs(1));
        set(&store, limit).await;
        let jobs = i64::from(starts) * (seconds + 1);
        let jobs = (0..jobs).map(|_| job(0)).collect();
        store.enqueue(jobs).await.expect("enqueued");
        let begin = T(at);
        let mut times = Vec::new();
        for n in 0..seconds * 1_000_000 / every {
            let now = begin.after(Duration::from_micros((n * every) as u64));
            let lot = lot(&store, "w", 1000, now).await;
            times.extend(lot.jobs.iter().map(|_| now));
        }
        let expected = i64::from(starts) * seconds;
        let together = i64::from(starts / 10).max(1);
        let all = times.len() as i64;
        assert!(
            all >= expected * 97 / 100 && all <= expected + together + 1,
            "{limit}: {all} of {expected}"
        );
        let second = Duration::from_secs(1);
        let within = |from: usize| {
            let end = times[from].after(second);
            times.partition_point(|at| *at < end) - from
        };
        let most = (0..times.len()).map(within).max().unwrap_or(0) as i64;
        assert!(
            most <= i64::from(starts) + together,
            "{limit}: {most} in a second"
        );
        let all = Filter {
            limit: usize::MAX,
            ..Filter::default()
        };
        store
            .change(Change::Cancel, all, begin)
            .await
            .expect("cancelled");
    }
}

pub(crate) async fn a_rate_that_is_changed_applies_at_once(store: Opened) {
    let (hour, second) = (Duration::from_secs(3600), Duration::from_secs(1));
    let now = store.clock().now();
    for _ in 0..3 {
        put_of_key(&store, Some("a")).await;
    }
    for (slow, fast) in [
        (
            Limit::default().rate(1, hour),
            Limit::default().rate(5, second),
        ),
        (
            Limit::default().key_rate(1, hour),
            Limit::default().key_rate(5, second),
        ),
    ] {
        set(&store, slow).await;
        let first = lot(&store, "w", 9, now).await.jobs;
        assert_eq!(first.len(), 1);
        // The same limit again allows nothing more.
        set(&store, slow).await;
        let soon = now.after(60 * second);
        assert!(lot(&store, "w", 9, soon).await.jobs.is_empty());
        set(&store, fast).await;
        let next = lot(&store, "w", 9, soon).await.jobs;
        assert_eq!(next.len(), 1, "the hour of the old limit is over");
        for job in [&first[0], &next[0]] {
            assert!(finish(&store, job.lease, 1, Verdict::Released).await);
        }
        set(&store, Limit::default()).await;
    }
}

pub(crate) async fn a_rate_goes_on_though_the_clock_was_set_back(store: Opened) {
    let (hour, second) = (Duration::from_secs(3600), Duration::from_secs(1));
    let now = store.clock().now();
    put_of_key(&store, Some("a")).await;
    for limit in [
        Limit::default().rate(5, second),
        Limit::default().key_rate(5, second),
    ] {
        set(&store, limit).await;
        for at in [now.after(hour), now] {
            // The first claim after the step may find out only that there was one.
            let first = lot(&store, "w", 9, at).await;
            let soon = first.again.map_or(second, |again| again.since(at));
            assert!(soon <= second, "{soon:?}");
            let jobs = match first.jobs.is_empty() {
                true => lot(&store, "w", 9, at.after(soon)).await.jobs,
                false => first.jobs,
            };
            assert_eq!(jobs.len(), 1, "{limit}, at {at}");
            assert!(finish(&store, jobs[0].lease, 1, Verdict::Released).await);
        }
        set(&store, Limit::default()).await;
    }
}

pub(crate) async fn the_slowest_rate_starts_one_job(store: Opened) {
    let limit = Limit::default().rate(1, Duration::MAX);
    set(&store, limit.key_rate(1, Duration::MAX)).await;
    for _ in 0..2 {
        put_of_key(&store, Some("a")).await;
    }
    let now = store.clock().now();
    assert_eq!(lot(&store, "w", 9, now).await.jobs.len(), 1);
    let years = Duration::from_secs(100 * 365 * 86_400);
    assert!(lot(&store, "w", 9, now.after(years)).await.jobs.is_empty());
}

pub(crate) async fn many_workers_at_once_keep_a_limit(store: Opened) {
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

pub(crate) async fn a_suspect_keeps_the_limits(store: Opened) {
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
        from: [Micros::EARLIEST; 3],
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

pub(crate) async fn priorities_age(store: Opened) {
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
        from: [Micros::EARLIEST; 3],
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

pub(crate) async fn a_job_that_its_limits_do_not_hold_back_is_not_asked_for_again(store: Opened) {
    set(&store, Limit::default().at_once(3)).await;
    let unknown = NewJob {
        kind: "unknown".to_owned(),
        ..job(0)
    };
    put(&store, unknown).await;
    let again = lot(&store, "w", 9, T(1)).await.again;
    assert_eq!(again, None, "another worker has to know its kind");

    put(&store, job(0)).await;
    store.pause("default").await.expect("paused");
    let again = lot(&store, "w", 9, T(1)).await.again;
    assert_eq!(again, None, "a resume is told");
    store.resume("default").await.expect("resumed");

    // It has lost its worker, and runs alone.
    assert_eq!(lot(&store, "w", 9, T(1)).await.jobs.len(), 1);
    for now in [50, 100] {
        store.reclaim(T(now), 9).await.expect("an answer");
        let suspects = Suspects::Without(if now == 50 { 9 } else { 1 });
        let claim = Claim {
            suspects,
            limited: true,
            ..request("w", 9, now + 5)
        };
        let lot = store.claim(claim).await.expect("a claim");
        let seen = (lot.jobs.len(), lot.again);
        assert_eq!(seen, (usize::from(now == 50), None), "at {now}");
    }
}

pub(crate) async fn many_jobs_of_a_key_at_its_limit_hide_no_others(store: Opened) {
    set(&store, Limit::default().key_at_once(1)).await;
    put_of_key(&store, Some("full")).await;
    assert_eq!(lot(&store, "w", 1, T(1)).await.jobs.len(), 1);
    for _ in 0..100 {
        put_of_key(&store, Some("full")).await;
    }
    let free = put_of_key(&store, Some("free")).await;
    assert_eq!(ids(&lot(&store, "w", 1, T(1)).await.jobs), [free]);
}

/// Twenty starts per second of each key, two at a time: the next two are due fifty milliseconds after the first two.
pub(crate) async fn a_claim_is_asked_for_when_the_first_key_may_go_on(store: Opened) {
    let limit = Limit::default().key_rate(20, Duration::from_secs(1));
    let at = |millis: u64| T(100).after(Duration::from_millis(millis));
    let start = async |queue: &str, key: &str, now, jobs| {
        store.set_limit(queue, limit).await.expect("set");
        for _ in 0..jobs {
            let job = NewJob {
                queue: queue.to_owned(),
                limit_key: Some(key.to_owned()),
                ..job(0)
            };
            put(&store, job).await;
        }
        let claim = Claim {
            queue: queue.to_owned(),
            now,
            lease_until: T(900),
            limited: true,
            ..request("w", 9, 0)
        };
        store.claim(claim).await.expect("a claim")
    };
    // A key that has one start left, and keys of another queue, are not waited for.
    assert_eq!(start("another", "a", at(0), 3).await.jobs.len(), 2);
    let first = start("default", "c", at(1), 1).await;
    assert_eq!((first.jobs.len(), first.again), (1, None));
    let first = start("default", "b", at(2), 3).await;
    assert_eq!((first.jobs.len(), first.again), (2, Some(at(7))));
    assert_eq!(start("default", "a", at(12), 3).await.jobs.len(), 2);
    let none = start("default", "a", at(13), 0).await;
    assert_eq!((none.jobs.len(), none.again), (0, Some(at(27))));
    let key_b = start("default", "a", at(27), 0).await;
    assert_eq!(key_b.jobs.len(), 1);
    // Of two that may start together one has started before.
    assert_eq!(start("third", "d", at(1), 1).await.jobs.len(), 1);
    assert_eq!(start("third", "d", at(2), 3).await.jobs.len(), 1);
}

pub(crate) async fn a_queue_is_asked_again_when_its_own_rate_allows(store: Opened) {
    let at = |millis: u64| T(100).after(Duration::from_millis(millis));
    for (queue, now) in [("another", 0), ("default", 200), ("third", 100)] {
        // One each half second, of which the first may be taken for late.
        let limit = Limit::default().rate(2, Duration::from_secs(1));
        store.set_limit(queue, limit).await.expect("set");
        for _ in 0..2 {
            let queue = queue.to_owned();
            put(&store, NewJob { queue, ..job(0) }).await;
        }
        let claim = Claim {
            queue: queue.to_owned(),
            now: at(now),
            lease_until: T(900),
            limited: true,
            ..request("w", 9, 0)
        };
        let lot = store.claim(claim).await.expect("a claim");
        assert_eq!((lot.jobs.len(), lot.again), (1, Some(at(now + 450))));
    }
}

pub(crate) async fn the_jobs_of_a_key_start_by_priority(store: Opened) {
    set(&store, Limit::default().key_at_once(1)).await;
    let mut all = Vec::new();
    for (priority, run_at) in [
        (Priority::Low, 1),
        (Priority::Normal, 3),
        (Priority::Normal, 2),
        (Priority::High, 4),
    ] {
        let job = NewJob {
            priority,
            limit_key: Some("k".to_owned()),
            ..job(run_at)
        };
        all.push(put(&store, job).await.id());
    }
    let [low, third, second, high] = all[..] else {
        unreachable!("four were put")
    };
    for next in [high, second, third, low] {
        let jobs = lot(&store, "w", 9, T(10)).await.jobs;
        assert_eq!(ids(&jobs), [next]);
        let done = Verdict::Done { output: None };
        assert!(finish(&store, jobs[0].lease, 11, done).await);
    }
}

pub(crate) async fn the_longest_times_do_not_overflow(store: Opened) {
    let priorities = [Priority::Low, Priority::Normal, Priority::High];
    for priority in priorities {
        let job = NewJob { priority, ..job(1) };
        put(&store, job).await;
    }
    let ageing = Claim {
        ageing: Some(Duration::MAX),
        ..request("w", 9, 5)
    };
    let claimed = store.claim(ageing).await.expect("a claim").jobs;
    let order: Vec<_> = claimed.iter().map(|job| job.priority).collect();
    assert_eq!(order, [Priority::High, Priority::Normal, Priority::Low]);

    for run_at in [500, 700] {
        let mut job = keyed("k", OnDuplicate::Replace, run_at);
        job.created_at = T(400);
        if let Some(key) = &mut job.key {
            key.max_wait = Some(Duration::MAX);
        }
        let id = put(&store, job).await.id();
        let seen = store.get(id).await.expect("an answer").expect("a job");
        assert_eq!(seen.run_at, T(run_at));
    }
}

/// Paces of the past are deleted at each claim.
pub(crate) async fn a_rate_is_not_forgotten_with_another_one(store: Opened) {
    let second = Duration::from_secs(1);
    let start = async |queue: &str, now| {
        let claim = Claim {
            queue: queue.to_owned(),
            lease_until: T(9000),
            limited: true,
            ..request("w", 9, now)
        };
        store.claim(claim).await.expect("a claim").jobs.len()
    };
    let of = |queue: &str, key: Option<&str>| NewJob {
        queue: queue.to_owned(),
        limit_key: key.map(str::to_owned),
        ..job(0)
    };
    // That of another queue, or of the same key in it, has been over for long.
    for (old, queue) in [("a", "b"), ("d", "c")] {
        for limit in [
            Limit::default().rate(1, 100 * second),
            Limit::default().key_rate(1, 100 * second),
        ] {
            for (queue, jobs) in [(old, 1), (queue, 4)] {
                store.set_limit(queue, limit).await.expect("set");
                let jobs = (0..jobs).map(|_| of(queue, Some("k"))).collect();
                store.enqueue(jobs).await.expect("enqueued");
            }
            assert_eq!(start(old, 100).await, 1);
            for (queue, now, jobs) in [
                (queue, 1000, 1),
                (queue, 1001, 0),
                (queue, 1002, 0),
                (old, 1003, 0),
                (queue, 1004, 0),
            ] {
                assert_eq!(start(queue, now).await, jobs, "{queue} at {now} s");
            }
            store.set_limit(old, Limit::default()).await.expect("set");
            store.set_limit(queue, Limit::default()).await.expect("set");
            assert_eq!(start(queue, 1005).await, 3, "the rest");
        }
    }
    // A slow rate of the queue beside a fast one of each key, and the other way round.
    for (queue, limit, second_key) in [
        (
            "slow",
            Limit::default().rate(1, 1000 * second).key_rate(9, second),
            0,
        ),
        (
            "fast",
            Limit::default().rate(9, second).key_rate(1, 1000 * second),
            1,
        ),
    ] {
        store.set_limit(queue, limit).await.expect("set");
        let jobs = ["k", "k"].map(|key| of(queue, Some(key))).to_vec();
        store.enqueue(jobs).await.expect("enqueued");
        assert_eq!(start(queue, 2000).await, 1, "{queue}");
        assert_eq!(start(queue, 2002).await, 0, "{queue}");
        put(&store, of(queue, Some("l"))).await;
        assert_eq!(start(queue, 2004).await, second_key, "{queue}");
    }
}
