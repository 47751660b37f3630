//! The page: who may ask, and what is told.

use std::net::SocketAddr;

use delayed_jobs::{Failure, Filter, Handling, Retry, State, page, testkit};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::program::Program;
use super::*;

pub(super) async fn served(queue: &Queue) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let metrics = queue.worker().metrics();
    tokio::spawn(page::serve(listener, queue.clone(), metrics));
    address
}

/// The whole answer to a request, made by hand.
pub(super) async fn ask(address: SocketAddr, line: &str, headers: &[&str]) -> String {
    ask_with(address, line, headers, "").await
}

async fn ask_with(address: SocketAddr, line: &str, headers: &[&str], body: &str) -> String {
    let mut stream = TcpStream::connect(address).await.expect("a connection");
    let headers = headers.join("\r\n");
    let length = body.len();
    let request = format!(
        "{line} HTTP/1.1\r\n{headers}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
    );
    stream
        .write_all(request.as_bytes())
        .await
        .expect("it is sent");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.expect("an answer");
    String::from_utf8_lossy(&answer).into_owned()
}

pub(super) fn status(answer: &str) -> &str {
    answer.split(' ').nth(1).unwrap_or_default()
}

#[tokio::test]
async fn the_page_answers_to_its_own_names_and_origin_only() {
    let queue = testkit::queue();
    let id = queue
        .enqueue(Note(1))
        .after(3600 * SECOND)
        .await
        .expect("enqueued")
        .id();
    let address = served(&queue).await;
    let cancel = format!("POST /api/jobs/{id}/cancel");
    for (line, host, more, wanted) in [
        ("GET /api/overview", "rebound.example", "accept: */*", "421"),
        ("GET /", "rebound.example:80", "accept: */*", "421"),
        (
            &cancel,
            "rebound.example",
            "origin: http://rebound.example",
            "421",
        ),
        (&cancel, "localhost", "origin: http://evil.example", "403"),
        (&cancel, "localhost", "origin: null", "403"),
        ("GET /api/overview", "localhost:8080", "accept: */*", "200"),
        ("GET /api/overview", "127.0.0.1", "accept: */*", "200"),
        ("GET /api/overview", "[::1]:8080", "accept: */*", "200"),
        // A probe asks at the address that its container was given.
        ("GET /live", "10.0.0.7:8080", "accept: */*", "200"),
        ("GET /ready", "10.0.0.7:8080", "accept: */*", "200"),
        ("GET /metrics", "10.0.0.7:8080", "accept: */*", "421"),
    ] {
        let host_line = format!("host: {host}");
        let answer = ask(address, line, &[&host_line, more, "x-delayed-jobs: 1"]).await;
        let head = answer.lines().next();
        assert_eq!(
            status(&answer),
            wanted,
            "{line} as {host} with {more}: {head:?}"
        );
    }
    assert_eq!(record(&queue, id).await.state, State::Pending);
    let own = [
        "host: localhost:8080",
        "origin: http://localhost:8080",
        "x-delayed-jobs: 1",
    ];
    assert_eq!(status(&ask(address, &cancel, &own).await), "200");
    assert_eq!(record(&queue, id).await.state, State::Cancelled);
}

#[tokio::test]
async fn each_button_needs_the_script_of_the_page_and_its_token() {
    let queue = testkit::queue();
    let id = queue
        .enqueue(Note(1))
        .after(3600 * SECOND)
        .await
        .expect("enqueued")
        .id();
    let worker = noting(&queue, &Log::new()).every("rare", 3600 * SECOND, &Note(1));
    beside(worker, tokio::time::sleep(SECOND / 10)).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let page = page::Page::new(queue.clone(), queue.worker().metrics()).token("open-sesame");
    tokio::spawn(page.serve(listener).expect("served"));

    let (json, body) = ("content-type: application/json", r#"{"at_once":3}"#);
    for path in [
        format!("/api/jobs/{id}/cancel"),
        format!("/api/jobs/{id}/retry"),
        format!("/api/jobs/{id}/delete"),
        "/api/change/cancel?queue=default".to_owned(),
        "/api/change/delete?queue=default".to_owned(),
        "/api/queues/default/pause".to_owned(),
        "/api/queues/default/resume".to_owned(),
        "/api/queues/default/limit".to_owned(),
        "/api/schedules/rare/pause".to_owned(),
        "/api/schedules/rare/run".to_owned(),
    ] {
        let line = format!("POST {path}");
        let token = "authorization: Bearer open-sesame";
        for (headers, wanted) in [
            (
                ["host: localhost", "x-delayed-jobs: 1", "accept: */*"],
                "401",
            ),
            (["host: rebound.example", "x-delayed-jobs: 1", token], "421"),
            (["host: localhost", "accept: */*", token], "403"),
            (
                ["host: localhost", "origin: http://evil.example", token],
                "403",
            ),
        ] {
            let answer = ask_with(address, &line, &[&headers[..], &[json]].concat(), body).await;
            assert_eq!(status(&answer), wanted, "{line} with {headers:?}");
        }
    }
    assert_eq!(record(&queue, id).await.state, State::Pending);
    assert_eq!(queue.counts().await.expect("counts").pending, 2);
    assert!(queue.limits().await.expect("limits").is_empty());
    assert!(!queue.schedules().await.expect("schedules")[0].paused);
    assert!(!queue.queues().await.expect("queues")[0].paused);
}

#[tokio::test]
async fn what_is_redacted_is_neither_found_nor_changed_by_what_it_says() {
    let queue = testkit::queue();
    let at = |n: u32| queue.enqueue_json("card", &json!({ "n": n, "number": format!("4111-{n}") }));
    let jobs = queue.enqueue_all((0..60).map(|n| at(n).after(3600 * SECOND)));
    jobs.await.expect("enqueued");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let page = page::Page::new(queue.clone(), queue.worker().metrics());
    let page = page.redact(|_, payload| {
        let n = serde_json::from_str::<serde_json::Value>(payload).expect("JSON")["n"].clone();
        json!({ "n": n, "number": "hidden" }).to_string()
    });
    tokio::spawn(page.serve(listener).expect("served"));
    let ours = ["host: localhost", "x-delayed-jobs: 1"];
    let body = |answer: String| -> serde_json::Value {
        let (_, body) = answer.split_once("\r\n\r\n").expect("a body");
        serde_json::from_str(body).expect("JSON")
    };
    for (text, found) in [
        ("4111", 0),
        ("4111-7", 0),
        ("%22n%22:7", 1),
        ("%22n%22", 25),
    ] {
        let hits = ask(address, &format!("GET /api/jobs?text={text}"), &ours).await;
        let hits = body(hits)["jobs"].as_array().expect("jobs").len();
        assert_eq!(hits, found, "{text}");
    }
    let change = async |query: &str| {
        let mut after = String::new();
        let mut all = 0;
        loop {
            let line = format!("POST /api/change/cancel?{query}{after}");
            let changed = body(ask(address, &line, &ours).await);
            all += changed["jobs"].as_u64().expect("a number");
            if changed["more"] == json!(false) {
                return all;
            }
            after = match changed["after"].as_str() {
                Some(place) => format!("&after={place}"),
                None => String::new(),
            };
        }
    };
    assert_eq!(change("text=4111").await, 0);
    assert_eq!(
        change("text=%22n%22:1&state=pending").await,
        11,
        "1 and 10 to 19"
    );
    assert_eq!(change("text=%22n%22").await, 49);
    let all = ask(address, "POST /api/change/delete", &ours).await;
    assert_eq!(status(&all), "400", "not all that there is");
    assert_eq!(queue.counts().await.expect("counts").cancelled, 60);
}

#[tokio::test]
async fn the_overview_has_no_payloads_and_is_small() {
    let queue = testkit::queue();
    let big = json!({ "password": "s3cret", "more": "x".repeat(3_000_000) });
    let job = queue.enqueue_json("note", &big).after(3600 * SECOND);
    job.unique("key of s3cret").await.expect("enqueued");
    let never = Handling::default().retry(Retry::never());
    let worker = queue.worker().register_with(never, |_: Job<Other>| async {
        Err(Failure::new("e".repeat(7000)))
    });
    queue.enqueue(Other(1)).await.expect("enqueued");
    beside(worker, tokio::time::sleep(SECOND / 10)).await;
    let address = served(&queue).await;
    let answer = ask(address, "GET /api/overview", &["host: localhost"]).await;
    assert_eq!(status(&answer), "200");
    assert!(!answer.contains("s3cret"), "a payload or a key is told");
    assert!(answer.len() < 10_000, "{} bytes", answer.len());
    for header in [
        "x-content-type-options: nosniff",
        "cache-control: no-store",
        "base-uri 'none'",
    ] {
        assert!(answer.contains(header), "no {header}");
    }
}

#[tokio::test]
async fn a_queue_that_nobody_uses_cannot_be_paused_from_the_page() {
    let queue = testkit::queue();
    queue
        .enqueue(Note(1))
        .after(3600 * SECOND)
        .await
        .expect("enqueued");
    let address = served(&queue).await;
    let ours = ["host: localhost", "x-delayed-jobs: 1"];
    let answer = ask(address, "POST /api/queues/%3Cscript%3E/pause", &ours).await;
    assert_eq!(status(&answer), "404");
    assert_eq!(queue.queues().await.expect("queues").len(), 1);
    let answer = ask(address, "POST /api/queues/default/pause", &ours).await;
    assert_eq!(status(&answer), "200");
    assert!(queue.queues().await.expect("queues")[0].paused);
}

#[tokio::test]
async fn each_queue_of_the_page_can_be_paused_and_its_limits_changed() {
    let queue = testkit::queue();
    let limit = delayed_jobs::Limit::default();
    let set = queue.limit("idle", limit.at_once(3)).await;
    set.expect("set");
    let address = served(&queue).await;
    let headers = [
        "host: localhost",
        "x-delayed-jobs: 1",
        "content-type: application/json",
    ];
    let shown = ask(address, "GET /api/overview", &headers).await;
    assert!(shown.contains(r#""name":"idle""#), "{shown}");
    let ask = async |line: &str, body: &str| ask_with(address, line, &headers, body).await;
    let changed = ask("POST /api/queues/idle/limit", r#"{"at_once":5}"#).await;
    assert_eq!(status(&changed), "200", "{changed}");
    let known = queue.limits().await.expect("limits");
    assert_eq!(known, [("idle".to_owned(), limit.at_once(5))]);
    let paused = ask("POST /api/queues/idle/pause", "").await;
    assert_eq!(status(&paused), "200", "{paused}");
}

/// Pages list jobs twice a second, beside a worker that must not run out of memory.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lists_of_a_page_read_no_large_payloads() {
    let (_dir, path) = support::sqlite();
    drop(Queue::open(&path).await.expect("a new file"));
    let connection = rusqlite::Connection::open(&path).expect("a connection");
    let sql = "with recursive n(n) as (select 1 union all select n + 1 from n where n < 20)
        insert into delayed_jobs (kind, queue, payload, priority, run_at, created_at)
        select 'print', 'default', '\"' || hex(zeroblob(2500000)) || '\"', 1, 1 << 60, 0 from n";
    connection.execute(sql, []).expect("rows");
    let free = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = free.local_addr().expect("an address");
    drop(free);
    let page = address.to_string();
    let program = Program::start(&["worker", "--database", &path, "--page", &page]);
    let serves = || async { TcpStream::connect(address).await.is_ok() };
    support::until("the page is served", serves).await;
    let host = format!("host: {address}");
    for path in ["overview", "jobs?state=pending", "jobs?text=no"] {
        let answer = ask(address, &format!("GET /api/{path}"), &[&host]).await;
        assert_eq!(status(&answer), "200", "{path}: {answer:.300}");
    }
    let status = std::fs::read_to_string(format!("/proc/{}/status", program.0.id()));
    let status = status.expect("it runs");
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let peak = peak.and_then(|peak| peak.trim().strip_suffix(" kB"));
    let peak: u64 = peak.and_then(|peak| peak.parse().ok()).expect("a number");
    assert!(peak < 60_000, "20 jobs of 5 MB took {peak} kB");
}

#[tokio::test]
async fn a_change_of_what_was_found_reaches_all_of_it() {
    for (change, state) in [
        ("retry", State::Pending),
        ("cancel", State::Cancelled),
        ("delete", State::Done),
    ] {
        let queue = testkit::queue();
        let jobs = (0..1300).map(|n| queue.enqueue(Note(n)).after(3600 * SECOND));
        queue.enqueue_all(jobs).await.expect("enqueued");
        let address = served(&queue).await;
        let ours = ["host: localhost", "x-delayed-jobs: 1"];
        let (mut all, mut after, mut more) = (0, String::new(), true);
        while more {
            let line = format!("POST /api/change/{change}?state=pending&within=3600{after}");
            let answer = ask(address, &line, &ours).await;
            let (_, body) = answer.split_once("\r\n\r\n").expect("a body");
            let changed: serde_json::Value = serde_json::from_str(body).expect("JSON");
            all += changed["jobs"].as_u64().expect("a number");
            more = changed["more"] == json!(true);
            after = match changed["after"].as_str() {
                Some(place) => format!("&after={place}"),
                None => String::new(),
            };
        }
        assert_eq!(all, 1300, "{change}");
        let now = queue.store().clock().now();
        let jobs = queue.list(Filter {
            limit: 2000,
            ..Filter::default()
        });
        for job in jobs.await.expect("a list") {
            assert_eq!(job.state, state, "{change}");
            assert!(change != "retry" || job.run_at <= now, "{change}");
        }
    }
}
