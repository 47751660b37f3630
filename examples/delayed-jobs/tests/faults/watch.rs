//! The page, as machines and strangers meet it: tokens, probes, figures, and one job.

use delayed_jobs::page::Page;
use delayed_jobs::testkit;
use serde_json::json;
use tokio::net::TcpListener;

use super::pages::{ask, status};
use super::*;

async fn listener(address: &str) -> (TcpListener, std::net::SocketAddr) {
    let listener = TcpListener::bind(address).await.expect("a port");
    let address = listener.local_addr().expect("an address");
    (listener, address)
}

#[tokio::test]
async fn where_others_can_reach_it_the_page_needs_a_token() {
    let queue = testkit::queue();
    let page = || Page::new(queue.clone(), queue.worker().metrics());
    let (open, _) = listener("0.0.0.0:0").await;
    let refused = page().serve(open).err().expect("no token");
    assert!(refused.to_string().contains("needs a token"), "{refused}");

    let (open, address) = listener("0.0.0.0:0").await;
    let guarded = page().token("a-long-token").host("jobs.example.org");
    tokio::spawn(guarded.serve(open).expect("it is served"));
    let address = std::net::SocketAddr::from(([127, 0, 0, 1], address.port()));
    let host = "host: jobs.example.org:80";
    for (line, more, wanted) in [
        ("GET /api/overview", "accept: */*", "401"),
        ("GET /", "accept: */*", "401"),
        ("GET /metrics", "accept: */*", "401"),
        (
            "GET /api/overview",
            "authorization: Bearer another-token",
            "401",
        ),
        ("GET /api/overview?token=a-long-token", "accept: */*", "401"),
        ("GET /?token=a-long-token", "accept: */*", "303"),
        (
            "GET /api/overview",
            "authorization: Bearer a-long-token",
            "200",
        ),
        (
            "GET /",
            "cookie: a=b; delayed-jobs-token=a-long-token",
            "200",
        ),
        ("GET /live", "accept: */*", "200"),
        ("GET /ready", "accept: */*", "200"),
    ] {
        let answer = ask(address, line, &[host, more]).await;
        assert_eq!(status(&answer), wanted, "{line} with {more}");
    }
    let answer = ask(address, "GET /?token=a-long-token", &[host]).await;
    assert!(answer.contains("HttpOnly; SameSite=Strict"), "{answer}");
}

#[tokio::test]
async fn a_payload_is_shown_for_one_job_and_as_far_as_it_may_be() {
    let queue = testkit::queue();
    let payload = json!({ "to": "ada", "password": "s3cret" });
    let id = queue
        .enqueue_json("note", &payload)
        .await
        .expect("enqueued")
        .id();
    let big = json!("x".repeat(1_000_000));
    let large = queue
        .enqueue_json("big", &big)
        .await
        .expect("enqueued")
        .id();
    let (socket, address) = listener("127.0.0.1:0").await;
    let page = Page::new(queue.clone(), queue.worker().metrics());
    let page = page.redact(|kind, payload| match kind {
        "note" => payload.replace("s3cret", "***"),
        _ => payload.to_owned(),
    });
    tokio::spawn(page.serve(socket).expect("it is served"));
    let job = ask(
        address,
        &format!("GET /api/jobs/{id}"),
        &["host: localhost"],
    )
    .await;
    assert!(job.contains("ada") && !job.contains("s3cret"), "{job}");
    let job = ask(
        address,
        &format!("GET /api/jobs/{large}"),
        &["host: localhost"],
    )
    .await;
    assert!(job.len() < 70_000, "{} bytes", job.len());
    let none = ask(address, "GET /api/jobs/77", &["host: localhost"]).await;
    assert_eq!(status(&none), "404");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn figures_are_there_for_prometheus() {
    let (_dir, path) = support::sqlite();
    let queue = Queue::open(&path).await.expect("a new file");
    let (socket, address) = listener("127.0.0.1:0").await;
    let worker = noting(&queue, &Log::new());
    let page = Page::new(queue.clone(), worker.metrics());
    tokio::spawn(page.serve(socket).expect("it is served"));
    for n in 0..3 {
        put(&queue, n).await;
    }
    queue
        .enqueue(Note(9))
        .after(3600 * SECOND)
        .await
        .expect("enqueued");
    queue
        .enqueue(Note(9))
        .queue("a \"b\"\\")
        .await
        .expect("enqueued");
    let running = spawn(worker);
    let done = || async { queue.counts().await.expect("counts").done == 3 };
    support::until("three are done", done).await;
    let answer = ask(address, "GET /metrics", &["host: localhost"]).await;
    running.end().await;
    for line in [
        "delayed_jobs{state=\"done\"} 3",
        "delayed_jobs{state=\"pending\"} 2",
        "delayed_jobs_queue_unfinished{queue=\"a \\\"b\\\"\\\\\"} 1",
        "delayed_jobs_worker_runs_total{outcome=\"done\"} 3",
        "delayed_jobs_worker_started_total 3",
        "# TYPE delayed_jobs_worker_lateness_seconds histogram",
    ] {
        assert!(answer.contains(line), "no {line} in {answer}");
    }
    let oldest = answer
        .lines()
        .find_map(|line| line.strip_prefix("delayed_jobs_oldest_due_seconds "));
    let oldest: f64 = oldest
        .and_then(|seconds| seconds.parse().ok())
        .expect("a number");
    assert!(oldest > 0.0, "a job of a queue without a worker is due");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_on_a_silent_server_is_alive_and_not_ready() {
    let Some((_, url, proxy)) = servers::by_proxy().await else {
        return;
    };
    let queue = Queue::open(&url).await.expect("it opens");
    let (socket, address) = listener("127.0.0.1:0").await;
    let page = Page::new(queue.clone(), queue.worker().metrics());
    tokio::spawn(page.serve(socket).expect("it is served"));
    assert_eq!(
        status(&ask(address, "GET /ready", &["host: localhost"]).await),
        "200"
    );
    proxy.frozen.send_replace(true);
    assert_eq!(
        status(&ask(address, "GET /live", &["host: localhost"]).await),
        "200"
    );
    assert_eq!(
        status(&ask(address, "GET /ready", &["host: localhost"]).await),
        "503"
    );
}
