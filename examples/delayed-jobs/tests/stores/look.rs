//! What is listed and told.

use super::*;

pub(crate) async fn the_look_ahead_is_bounded_and_in_order(store: Opened) {
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

pub(crate) async fn listing_filters_and_orders(store: Opened) {
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

pub(crate) async fn progress_is_seen_until_the_next_claim(store: Opened) {
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

pub(crate) async fn texts_come_back_as_they_were(store: Opened) {
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

pub(crate) async fn a_list_has_pages(store: Opened) {
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
        let second = page(Some(cursor(&store, first[1]).await), 2).await;
        let third = page(Some(cursor(&store, second[1]).await), 2).await;
        assert_eq!([first, second, third].concat(), whole);
        assert_eq!(whole.len(), 5);
    }
}

pub(crate) async fn a_page_begins_where_a_job_was_though_that_was_moved_or_deleted(store: Opened) {
    let mut ids = Vec::new();
    for run_at in [10, 20, 30, 40] {
        ids.push(put(&store, job(run_at)).await.id());
    }
    let list = async |state, after| {
        let filter = Filter {
            state,
            after: Some(after),
            ..Filter::default()
        };
        let search = Search {
            filter: filter.clone(),
            text: String::new(),
            since: T(0),
            most: 9,
        };
        let listed = store.list(filter).await.expect("a list");
        let found = store.search(search).await.expect("found");
        assert_eq!(found.jobs, listed);
        listed.iter().map(|job| job.id).collect::<Vec<_>>()
    };
    let second = cursor(&store, ids[1]).await;
    let as_text = second.to_string().parse::<Cursor>();
    assert_eq!(as_text, Ok(second));
    let pending = Some(State::Pending);
    // It is due at once.
    store.retry(ids[1], T(1)).await.expect("an answer");
    assert_eq!(list(pending, second).await, [ids[2], ids[3]]);
    let this = Filter {
        id: Some(ids[1]),
        ..Filter::default()
    };
    let deleted = store.change(Change::Delete, this, T(1)).await;
    assert_eq!(deleted.expect("an answer"), [ids[1]]);
    assert_eq!(list(pending, second).await, [ids[2], ids[3]]);
    assert_eq!(list(None, second).await, [ids[0]]);
}

pub(crate) async fn workers_are_seen_while_they_live(store: Opened) {
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
    let mut changed = worker("b", 1, 60);
    changed.queues = "default 4".to_owned();
    store.beat(changed.clone(), T(20)).await.expect("told");
    assert_eq!(names(41).await, ["b", "a"]);
    let present = store.workers(T(42)).await.expect("workers");
    assert_eq!(present, [changed], "with its present concurrency");
    store.leave("b").await.expect("told");
    assert_eq!(names(42).await, [""; 0]);
    store.beat(worker("c", 50, 90), T(50)).await.expect("told");
    assert_eq!(names(0).await, ["c"], "`a` is forgotten");
}

/// Looks for a text until there is no more to look at, and returns what was found and in how many steps.
async fn find(store: &Opened, filter: &Filter, text: &str, since: i64) -> (Vec<JobId>, usize) {
    let mut search = Search {
        filter: filter.clone(),
        text: text.to_owned(),
        since: T(since),
        most: 10,
    };
    let (mut all, mut steps) = (Vec::new(), 0);
    loop {
        let found = store.search(search.clone()).await.expect("found");
        all.extend(found.jobs.iter().map(|job| job.id));
        steps += 1;
        match found.next {
            Some(next) => search.filter.after = Some(next),
            None => return (all, steps),
        }
    }
}

pub(crate) async fn a_search_looks_at_so_many_jobs_and_tells_where_to_go_on(store: Opened) {
    let mut ids = Vec::new();
    for n in 0..35 {
        let job = NewJob {
            payload: format!(
                r#"{{"name": "{} %_'x"}}"#,
                if n % 12 == 0 { "ada" } else { "bob" }
            ),
            created_at: T(n),
            ..job(100 - n)
        };
        ids.push(put(&store, job).await.id());
    }
    let any = Filter {
        limit: 2,
        ..Filter::default()
    };
    let (found, steps) = find(&store, &any, "ada", 0).await;
    assert_eq!(found, [ids[24], ids[12], ids[0]], "latest first");
    assert!((3..=6).contains(&steps), "ten at a time: {steps}");
    let pending = Filter {
        state: Some(State::Pending),
        ..any.clone()
    };
    let (found, _) = find(&store, &pending, "ada", 0).await;
    assert_eq!(
        found,
        [ids[24], ids[12], ids[0]],
        "by the time when they are due"
    );
    let (found, _) = find(&store, &any, "ada", 5).await;
    assert_eq!(found, [ids[24], ids[12]]);
    let (found, steps) = find(&store, &any, "eve", 0).await;
    assert_eq!((found.len(), steps), (0, 4));
    // Nothing in it is a pattern.
    assert_eq!(find(&store, &any, "a%a", 0).await.0, []);
    assert_eq!(find(&store, &any, "%_'x", 0).await.0.len(), 35);
    assert_eq!(find(&store, &any, "", 30).await.0.len(), 5);
}

pub(crate) async fn a_search_finds_a_job_that_has_replaced_an_old_one(store: Opened) {
    let at = |created: i64, job: NewJob| NewJob {
        created_at: T(created),
        ..job
    };
    let old = put(&store, at(1, keyed("k", OnDuplicate::Replace, 500)))
        .await
        .id();
    for n in 2..30 {
        put(&store, at(n, job(100))).await;
    }
    let new = at(40, keyed("k", OnDuplicate::Replace, 500));
    assert_eq!(put(&store, new).await, Enqueued::Replaced(old));
    let any = Filter::default();
    assert_eq!(find(&store, &any, "", 35).await.0, [old]);
}

pub(crate) async fn jobs_are_counted_up_to_a_limit(store: Opened) {
    for n in 0..7 {
        put(&store, job(n)).await;
    }
    claim_one(&store, 1).await;
    let count = async |state, limit| {
        let filter = Filter {
            state,
            limit,
            ..Filter::default()
        };
        store.count(filter).await.expect("a count")
    };
    assert_eq!(count(None, 100).await, 7);
    assert_eq!(count(Some(State::Pending), 100).await, 6);
    assert_eq!(count(Some(State::Running), 100).await, 1);
    assert_eq!(count(Some(State::Done), 100).await, 0);
    assert_eq!(count(None, 5).await, 5);
}

pub(crate) async fn a_text_with_a_zero_byte_is_in_no_job(store: Opened) {
    put(&store, keyed("k", OnDuplicate::Keep, 5)).await;
    let zero = || Some("test\0".to_owned());
    let any = Filter::default();
    for filter in [
        Filter {
            queue: zero(),
            ..any.clone()
        },
        Filter {
            kind: zero(),
            ..any.clone()
        },
        Filter {
            key: zero(),
            ..any.clone()
        },
    ] {
        let listed = store.list(filter.clone()).await.expect("a list");
        let counted = store.count(filter.clone()).await.expect("a count");
        let changed = store.change(Change::Delete, filter.clone(), T(9)).await;
        let changed = changed.expect("an answer");
        let seen = (listed.len(), counted, changed.len());
        assert_eq!(seen, (0, 0, 0), "{filter:?}");
        assert_eq!(find(&store, &filter, "{", 0).await.0, []);
    }
    assert_eq!(find(&store, &any, "{\0", 0).await, (Vec::new(), 1));
    assert_eq!(find(&store, &any, "\0", 0).await, (Vec::new(), 1));
}

pub(crate) async fn a_search_always_gets_further(store: Opened) {
    let mut ids = Vec::new();
    for n in 0..5 {
        ids.push(put(&store, job(n)).await.id());
    }
    ids.reverse();
    for (most, limit) in [(0, 2), (2, 0), (0, 0), (1, 1), (usize::MAX, usize::MAX)] {
        let mut search = Search {
            filter: Filter {
                limit,
                ..Filter::default()
            },
            text: "{".to_owned(),
            since: T(0),
            most,
        };
        let mut all = Vec::new();
        for _ in 0..=ids.len() {
            let found = store.search(search.clone()).await.expect("found");
            all.extend(found.jobs.iter().map(|job| job.id));
            search.filter.after = found.next;
            if found.next.is_none() {
                break;
            }
        }
        assert_eq!(all, ids, "{most} at a time, of which {limit} are found");
    }
}

pub(crate) async fn payloads_and_outputs_are_cut_on_request(store: Opened) {
    let job = NewJob {
        payload: r#""雪雪雪""#.to_owned(),
        ..job(0)
    };
    put(&store, job).await;
    let lease = claim_one(&store, 1).await;
    let output = Some(r#""done""#.to_owned());
    assert!(finish(&store, lease, 2, Verdict::Done { output }).await);
    for (longest, payload, output) in [
        (Some(0), "", ""),
        (Some(2), "\"雪", "\"d"),
        (Some(usize::MAX), "\"雪雪雪\"", "\"done\""),
        (None, "\"雪雪雪\"", "\"done\""),
    ] {
        let filter = Filter {
            longest,
            ..Filter::default()
        };
        let search = Search {
            filter: filter.clone(),
            text: "雪雪雪".to_owned(),
            since: T(0),
            most: 9,
        };
        let found = store.search(search).await.expect("found").jobs;
        for jobs in [found, store.list(filter).await.expect("a list")] {
            let seen = (jobs[0].payload.as_str(), jobs[0].output.as_deref());
            assert_eq!(seen, (payload, Some(output)), "{longest:?}");
        }
    }
}

pub(crate) async fn a_search_returns_no_more_jobs_than_its_limit(store: Opened) {
    for n in 0..7 {
        put(&store, job(n)).await;
    }
    let filter = Filter {
        limit: 3,
        ..Filter::default()
    };
    let mut search = Search {
        filter,
        text: "{}".to_owned(),
        since: T(0),
        most: 99,
    };
    let mut sizes = Vec::new();
    loop {
        let found = store.search(search.clone()).await.expect("found");
        sizes.push(found.jobs.len());
        match found.next {
            Some(next) => search.filter.after = Some(next),
            None => break,
        }
    }
    assert_eq!(sizes, [3, 3, 1]);
}

pub(crate) async fn the_jobs_of_each_state_are_counted(store: Opened) {
    let wanted = [
        (Some(Verdict::Done { output: None }), 2),
        (Some(Verdict::Cancelled), 3),
        (
            Some(Verdict::Dead {
                error: "x".to_owned(),
            }),
            4,
        ),
        (None, 5),
    ];
    for (verdict, jobs) in wanted {
        for _ in 0..jobs {
            put(&store, job(0)).await;
            let lease = claim_one(&store, 1).await;
            if let Some(verdict) = &verdict {
                assert!(finish(&store, lease, 2, verdict.clone()).await);
            }
        }
    }
    put(&store, job(0)).await;
    let counts = store.counts().await.expect("counts");
    assert_eq!(
        (
            counts.pending,
            counts.running,
            counts.done,
            counts.cancelled,
            counts.dead
        ),
        (1, 5, 2, 3, 4)
    );
    let queues = store.queues().await.expect("queues");
    assert_eq!(queues[0].unfinished, 6, "those that are pending or run");
}
