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
        let second = page(first.last().copied(), 2).await;
        let third = page(second.last().copied(), 2).await;
        assert_eq!([first, second, third].concat(), whole);
        assert_eq!(whole.len(), 5);
    }
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
    store.beat(worker("b", 1, 60), T(20)).await.expect("told");
    assert_eq!(names(41).await, ["b", "a"]);
    assert_eq!(names(42).await, ["b"]);
    store.leave("b").await.expect("told");
    assert_eq!(names(42).await, [""; 0]);
    store.beat(worker("c", 50, 90), T(50)).await.expect("told");
    assert_eq!(names(0).await, ["c"], "`a` is forgotten");
}

pub(crate) async fn the_last_id_tells_how_many_have_come(store: Opened) {
    let before = store.last_id().await.expect("an answer");
    assert_eq!(before, JobId(0));
    put(&store, job(0)).await;
    let id = put(&store, job(0)).await.id();
    assert_eq!(store.last_id().await.expect("an answer"), id);
}
