//! Postgres servers: connections that fall silent, clocks, roles, what is left on the server.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use delayed_jobs::store::{Lease, Store};
use delayed_jobs::{Failure, Handling, Retry, State};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::*;

/// A way to the server that can be made silent.
pub(super) struct Proxy {
    port: u16,
    /// Nothing passes, and connections are accepted all the same.
    pub(super) frozen: watch::Sender<bool>,
    /// The connections that there are fall silent, and new ones pass.
    strand: watch::Sender<u64>,
}

impl Proxy {
    async fn to(port: u16) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let own = listener.local_addr().expect("an address").port();
        let (frozen, is_frozen) = watch::channel(false);
        let (strand, strands) = watch::channel(0);
        tokio::spawn(async move {
            while let Ok((inner, _)) = listener.accept().await {
                let (mut is_frozen, strands) = (is_frozen.clone(), strands.clone());
                let age = *strands.borrow();
                tokio::spawn(async move {
                    let _ = is_frozen.wait_for(|frozen| !*frozen).await;
                    let Ok(outer) = TcpStream::connect(("127.0.0.1", port)).await else {
                        return;
                    };
                    let (ir, iw) = inner.into_split();
                    let (or, ow) = outer.into_split();
                    let there = pump(ir, ow, is_frozen.clone(), strands.clone(), age);
                    let back = pump(or, iw, is_frozen, strands, age);
                    tokio::select! { () = there => {}, () = back => {} }
                });
            }
        });
        Proxy {
            port: own,
            frozen,
            strand,
        }
    }
}

async fn pump(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    mut frozen: watch::Receiver<bool>,
    strands: watch::Receiver<u64>,
    age: u64,
) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut buffer = vec![0; 65_536];
    loop {
        let Ok(n) = from.read(&mut buffer).await else {
            return;
        };
        if n == 0 {
            return;
        }
        let _ = frozen.wait_for(|frozen| !*frozen).await;
        if *strands.borrow() != age {
            continue;
        }
        if to.write_all(&buffer[..n]).await.is_err() {
            return;
        }
    }
}

/// A database, and the same one by way of a proxy.
pub(super) async fn by_proxy() -> Option<(String, String, Proxy)> {
    let server = support::postgres()?;
    let database = server.database().await;
    let proxy = Proxy::to(server.port()).await;
    let url = database.replace(&format!(":{}", server.port()), &format!(":{}", proxy.port));
    Some((database, url, proxy))
}

async fn opened() -> Option<(String, Queue)> {
    let database = support::postgres()?.database().await;
    let queue = Queue::open(&database).await.expect("it opens");
    Some((database, queue))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn granted_cancels_hold() {
    let Some((database, here)) = opened().await else {
        return;
    };
    let there = Queue::open(&database).await.expect("it opens");
    files::cancel_race(here, there).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_goes_on_when_its_connections_fell_silent_and_new_ones_work() {
    let Some((database, url, proxy)) = by_proxy().await else {
        return;
    };
    let queue = Queue::open(&url).await.expect("it opens");
    let log = Log::new();
    let running = spawn(noting(&queue, &log).lease(2 * SECOND));
    let direct = Queue::open(&database).await.expect("it opens");
    put(&direct, 1).await;
    support::until("the first has run", || async { log.lines().len() == 1 }).await;
    proxy.strand.send_modify(|n| *n += 1);
    let begun = Instant::now();
    put(&direct, 2).await;
    let all = || async { log.lines().len() == 2 };
    support::until("the second has run, by new connections", all).await;
    let took = begun.elapsed();
    running.end().await;
    assert!(took < 12 * SECOND, "it took {took:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_and_the_end_of_a_worker_have_limits_though_the_server_says_nothing() {
    let Some((_, url, proxy)) = by_proxy().await else {
        return;
    };
    let queue = Queue::open(&url).await.expect("it opens");
    let worker = queue.worker().lease(2 * SECOND).grace(300 * MILLI);
    let worker = worker.register(|_: Job<Note>| async {
        sleep(60 * SECOND).await;
        Ok(())
    });
    for n in 0..40 {
        put(&queue, n).await;
    }
    let running = spawn(worker);
    let started = || async { queue.counts().await.expect("counts").running == 16 };
    support::until("sixteen run", started).await;
    proxy.frozen.send_replace(true);
    let enqueue = timeout(40 * SECOND, queue.enqueue(Note(99)));
    let (begun, shutdown) = (Instant::now(), running.shutdown);
    let end = async {
        shutdown.cancel();
        let ended = timeout(40 * SECOND, running.task).await;
        (ended.is_ok(), begun.elapsed())
    };
    let (enqueued, (ended, took)) = tokio::join!(enqueue, end);
    assert!(
        matches!(enqueued, Ok(Err(_))),
        "{enqueued:?} after {:?}",
        begun.elapsed()
    );
    assert!(
        ended && took < 300 * MILLI + 2 * SECOND,
        "the end took {took:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn heartbeats_leave_nothing_behind_on_the_server() {
    let Some((database, queue)) = opened().await else {
        return;
    };
    let memory = || backends(&database);
    let store: Arc<dyn Store> = Arc::clone(queue.store());
    let mut seen = Vec::new();
    for round in 0..1501_i64 {
        if round % 500 == 0 {
            seen.push(memory());
        }
        // What a heartbeat does, with sixteen other leases each time.
        let leases = (0..16).map(|n| Lease {
            id: JobId(round * 16 + n),
            claim: 1,
        });
        let until = store.clock().now().after(30 * SECOND);
        store
            .renew(leases.collect(), until)
            .await
            .expect("an answer");
    }
    let grown = seen[3].saturating_sub(seen[1]);
    assert!(
        grown < 3000,
        "1000 heartbeats left {grown} KiB on the server: {seen:?}"
    );
}

/// KiB of private memory of the server's processes for a database.
fn backends(database: &str) -> u64 {
    let name = database.rsplit('/').next().expect("a name");
    let mut sum = 0;
    for entry in std::fs::read_dir("/proc").expect("Linux").flatten() {
        let path = entry.path();
        let title = std::fs::read_to_string(path.join("cmdline")).unwrap_or_default();
        if title.starts_with("postgres:") && title.contains(&format!(" {name} ")) {
            let status = std::fs::read_to_string(path.join("status")).unwrap_or_default();
            let line = status
                .lines()
                .find_map(|line| line.strip_prefix("RssAnon:"));
            let number = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
            sum += number.unwrap_or(0);
        }
    }
    sum
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_error_with_a_zero_byte_is_a_failure_like_others() {
    let Some((_, queue)) = opened().await else {
        return;
    };
    let runs = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&runs);
    let twice = Handling::default().retry(Retry::fixed(100 * MILLI).attempts(2));
    let worker = queue.worker().lease(SECOND);
    let worker = worker.register_with(twice, move |_: Job<Note>| {
        count.fetch_add(1, Ordering::SeqCst);
        async { Err(Failure::new("bad bytes: a\0b")) }
    });
    let id = put(&queue, 1).await;
    beside(worker, sleep(6 * SECOND)).await;
    let job = record(&queue, id).await;
    let seen = (runs.load(Ordering::SeqCst), job.state, job.crashes);
    assert_eq!(seen, (2, State::Dead, 0), "{:?}", job.error);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_short_lived_program_enqueues_is_not_late() {
    let Some((database, queue)) = opened().await else {
        return;
    };
    let worker = noting(&queue, &Log::new()).register(|_: Job<Print>| async { Ok(()) });
    let metrics = worker.metrics();
    let running = spawn(worker);
    sleep(SECOND).await;
    for _ in 0..12 {
        let mut enqueue =
            program::Program::start(&["--database", &database, "enqueue", "print", "1"]);
        let ended = tokio::task::block_in_place(|| enqueue.wait(10 * SECOND));
        assert!(ended.is_some_and(|(_, code)| code == Some(0)));
        sleep(150 * MILLI).await;
    }
    let started = || async { metrics.snapshot().started >= 12 };
    support::until("all have run", started).await;
    let summary = running.end().await;
    let worst = summary.max / 1000;
    assert!(
        worst < 250,
        "late by {worst} ms at most, {} ms in the middle",
        summary.p50 / 1000
    );
}

#[derive(Debug, Serialize, Deserialize)]
struct Print(serde_json::Value);

impl Payload for Print {
    const KIND: &'static str = "print";
}
