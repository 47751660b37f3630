//! Postgres servers: connections that fall silent, clocks, roles, what is left on the server.

use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::CommandExt as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use delayed_jobs::store::{
    Claim, Claimed, Ended, Lease, PostgresOptions, Store, Suspects, Verdict,
};
use delayed_jobs::{Failure, Handling, Retry, State};
use sqlx::Connection;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::*;

/// A way to the server that can be made silent, or closed.
pub(super) struct Proxy {
    port: u16,
    /// How many connections there were so far.
    connections: Arc<AtomicUsize>,
    /// All connections are closed, as while the server is stopped.
    gone: watch::Sender<bool>,
    /// Nothing passes, and connections are accepted all the same.
    pub(super) frozen: watch::Sender<bool>,
    /// The connections that there are fall silent, and new ones pass.
    strand: watch::Sender<u64>,
    /// How long requests take to the server. Answers come at once.
    way: watch::Sender<Duration>,
}

impl Proxy {
    async fn to(port: u16) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let own = listener.local_addr().expect("an address").port();
        let connections = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&connections);
        let (gone, is_gone) = watch::channel(false);
        let (frozen, is_frozen) = watch::channel(false);
        let (strand, strands) = watch::channel(0);
        let (way, ways) = watch::channel(Duration::ZERO);
        let (_, no_way) = watch::channel(Duration::ZERO);
        tokio::spawn(async move {
            while let Ok((inner, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                let (mut is_gone, mut is_frozen) = (is_gone.clone(), is_frozen.clone());
                let strands = strands.clone();
                let (ways, no_way) = (ways.clone(), no_way.clone());
                let age = *strands.borrow();
                tokio::spawn(async move {
                    let _ = is_frozen.wait_for(|frozen| !*frozen).await;
                    let Ok(outer) = TcpStream::connect(("127.0.0.1", port)).await else {
                        return;
                    };
                    let (ir, iw) = inner.into_split();
                    let (or, ow) = outer.into_split();
                    let there = pump(ir, ow, is_frozen.clone(), strands.clone(), age, ways);
                    let back = pump(or, iw, is_frozen, strands, age, no_way);
                    let closed = is_gone.wait_for(|gone| *gone);
                    tokio::select! { biased; _ = closed => {}, () = there => {}, () = back => {} }
                });
            }
        });
        Proxy {
            port: own,
            connections,
            gone,
            frozen,
            strand,
            way,
        }
    }
}

async fn pump(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    mut frozen: watch::Receiver<bool>,
    strands: watch::Receiver<u64>,
    age: u64,
    ways: watch::Receiver<Duration>,
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
        let way = *ways.borrow();
        sleep(way).await;
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

/// If the local clock were ahead, a worker would claim a job before the server considers it due, and find it only when
/// it looks next.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_local_clock_of_a_server_is_not_ahead_of_it() {
    let Some((_, url, proxy)) = by_proxy().await else {
        return;
    };
    proxy.way.send_replace(50 * MILLI);
    let queue = Queue::open(&url).await.expect("it opens");
    for _ in 0..3 {
        let shown = queue.store().clock().now();
        // The server is on this machine.
        let theirs = delayed_jobs::Micros::from(std::time::SystemTime::now());
        assert!(shown <= theirs, "{shown} is ahead of {theirs}");
        queue.store().set_clock().await.expect("an answer");
    }
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
async fn a_worker_seldom_asks_a_server_that_is_gone() {
    let Some((_, url, proxy)) = by_proxy().await else {
        return;
    };
    let queue = Queue::open(&url).await.expect("it opens");
    let log = Log::new();
    let running = spawn(noting(&queue, &log));
    put(&queue, 1).await;
    support::until("the first has run", || async { log.lines().len() == 1 }).await;
    let connections = || proxy.connections.load(Ordering::SeqCst);
    let before = connections();
    proxy.gone.send_replace(true);
    sleep(5 * SECOND).await;
    let tried = connections() - before;
    proxy.gone.send_replace(false);
    put(&queue, 2).await;
    support::until("the second has run", || async { log.lines().len() == 2 }).await;
    running.end().await;
    // The waits between them grow.
    assert!(tried < 50, "{tried} connections in 5 s");
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

/// Those that the other tests do not make.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_call_has_a_limit_though_the_server_says_nothing() {
    let Some((_, url, proxy)) = by_proxy().await else {
        return;
    };
    let options = PostgresOptions::new(&url).expect("an address");
    let store = options.query_timeout(SECOND / 2).open().await;
    let queue = Queue::on(store.expect("it opens"));
    queue.counts().await.expect("counts");
    proxy.frozen.send_replace(true);
    // The connection that it has, and then new ones.
    let steps = timeout(30 * SECOND, queue.pause_schedule("x"));
    assert!(matches!(steps.await, Ok(Err(_))), "several steps");
    let write = timeout(30 * SECOND, queue.cancel(JobId(1)));
    assert!(matches!(write.await, Ok(Err(_))), "a write");
    let query = timeout(30 * SECOND, queue.counts());
    assert!(matches!(query.await, Ok(Err(_))), "a query");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_find_no_connection_whose_session_the_server_has_ended() {
    let Some((database, queue)) = opened().await else {
        return;
    };
    let store = queue.store();
    let mut client = support::client(&database).await;
    // Two connections for work, whose sessions end.
    let mut end_two = async |after| {
        let (first, second) = tokio::join!(store.limits(), store.limits());
        assert!(first.is_ok() && second.is_ok());
        sleep(after).await;
        let end = "select pg_terminate_backend(pid, 30000) from pg_stat_activity
            where datname = current_database() and pid <> pg_backend_pid()";
        support::execute(&mut client, end).await;
    };
    let enqueue = async |note: u32| {
        let job = queue.enqueue(Note(note)).unique(note.to_string());
        job.await.map(|job| job.id())
    };
    // They were used a moment ago, so they are not checked.
    end_two(Duration::ZERO).await;
    store.limits().await.expect("a read runs again");
    let both = tokio::join!(enqueue(1), enqueue(2));
    assert!(both.0.is_ok() && both.1.is_ok(), "{both:?}");

    end_two(Duration::ZERO).await;
    // A write that has failed does not run again.
    let _ = enqueue(3).await;
    enqueue(4).await.expect("the other one is not used");

    end_two(1100 * MILLI).await;
    enqueue(5).await.expect("the connection was checked");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_replaces_one_that_was_ended_is_used_again() {
    let Some((database, queue)) = opened().await else {
        return;
    };
    let mut client = support::client(&database).await;
    let mut sessions = async |also: &str| -> Vec<i32> {
        queue.store().limits().await.expect("an answer");
        let sessions = format!(
            "select pid {also} from pg_stat_activity
             where datname = current_database() and query like '%from delayed_jobs_limits%'
                and pid <> pg_backend_pid() order by pid"
        );
        let sessions = sqlx::query_scalar(sqlx::AssertSqlSafe(sessions));
        sessions.fetch_all(&mut client).await.expect("sessions")
    };
    for idle in [Duration::ZERO, 1100 * MILLI] {
        let ended = sessions(", pg_terminate_backend(pid, 30000)").await;
        sleep(idle).await;
        let new = sessions("").await;
        assert_ne!(new, ended);
        assert_eq!(sessions("").await, new, "after {idle:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_hears_of_changes_again_after_its_connection_fell_silent() {
    let Some((database, url, proxy)) = by_proxy().await else {
        return;
    };
    let options = PostgresOptions::new(&url).expect("an address");
    let store = options.connect_timeout(SECOND).open().await;
    let store = store.expect("it opens");
    let there = Queue::open(&database).await.expect("it opens");
    let seen = || *store.changes().borrow();
    support::until("it listens", || async { seen() > 0 }).await;
    let before = seen();
    proxy.strand.send_modify(|n| *n += 1);
    // It looks for what it has missed.
    support::until("it listens again", || async { seen() > before }).await;
    let before = seen();
    put(&there, 1).await;
    support::until("it has heard", || async { seen() > before }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_of_a_schedule_is_told_of() {
    let Some((database, queue)) = opened().await else {
        return;
    };
    let worker = noting(&queue, &Log::new()).every("rare", 86_400 * SECOND, &Note(1));
    beside(worker, async {
        let filled = || async { queue.counts().await.expect("counts").pending == 1 };
        support::until("its first job is enqueued", filled).await;
    })
    .await;
    let listener = sqlx::postgres::PgListener::connect(&database).await;
    let mut listener = listener.expect("a connection");
    listener.listen("delayed_jobs").await.expect("it listens");
    queue.pause_schedule("rare").await.expect("paused");
    let told = timeout(30 * SECOND, listener.recv()).await;
    assert!(matches!(told, Ok(Ok(_))), "{told:?}");
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
    assert_below(250 * MILLI, || async {
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
        Duration::from_micros(summary.max)
    })
    .await;
}

#[derive(Debug, Serialize, Deserialize)]
struct Print(serde_json::Value);

impl Payload for Print {
    const KIND: &'static str = "print";
}

/// A server that stands still, until this is dropped.
struct Stopped(String);

impl Stopped {
    fn new(server: &support::Postgres) -> Stopped {
        let stopped = Stopped(server.pid());
        stopped.signal("STOP");
        stopped
    }

    /// To all of its processes, which the first one has started.
    fn signal(&self, name: &str) {
        // One of the others may end meanwhile.
        let sh = format!(
            "kill -{name} {0} && {{ kill -{name} $(pgrep -P {0}) || true; }}",
            self.0
        );
        let sent = std::process::Command::new("sh").args(["-c", &sh]).status();
        assert!(sent.expect("sh runs").success());
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        self.signal("CONT");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_program_ends_within_its_grace_though_the_server_stands_still() {
    // A server of its own, since it harms all who use it.
    let Some(server) = support::Postgres::start(support::Disk::Trusted) else {
        return;
    };
    let address = server.database().await;
    let queue = Queue::open(&address).await.expect("it opens");
    let slow = serde_json::json!({ "batch": 1, "number": 20, "of": 21 });
    let id = queue
        .enqueue_json("demo", &slow)
        .await
        .expect("enqueued")
        .id();
    let mut worker =
        program::Program::start(&["--database", &address, "worker", "--grace", "500ms"]);
    let runs = || async { record(&queue, id).await.state == State::Running };
    support::until("the job runs", runs).await;
    let stopped = Stopped::new(&server);
    worker.signal("TERM");
    let ended = tokio::task::block_in_place(|| worker.wait(10 * SECOND));
    drop(stopped);
    let (took, code) = ended.expect("it is still there after ten seconds");
    assert!(
        took < 500 * MILLI + 2 * SECOND && code == Some(0),
        "{took:?}, exit code {code:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_stood_still_is_found_again_and_nothing_is_lost() {
    let Some(server) = support::Postgres::start(support::Disk::Trusted) else {
        return;
    };
    let address = server.database().await;
    let queue = Queue::open(&address).await.expect("it opens");
    let log = Log::new();
    let running = spawn(noting(&queue, &log).lease(4 * SECOND));
    put(&queue, 1).await;
    support::until("the first has run", || async { log.lines().len() == 1 }).await;
    let stopped = Stopped::new(&server);
    sleep(6 * SECOND).await;
    drop(stopped);
    let again = Instant::now();
    let enqueued = queue.enqueue(Note(2)).await;
    enqueued.expect("enqueued");
    support::until("the second has run", || async { log.lines().len() == 2 }).await;
    let took = again.elapsed();
    running.end().await;
    assert!(
        took < 4 * SECOND,
        "one lease later it has not started: {took:?}"
    );
}

/// A worker that is not killed runs no job twice, whatever happens to the server.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_restarts_under_load_loses_no_job_and_repeats_none() {
    let Some(mut server) = support::Postgres::start(support::Disk::Trusted) else {
        return;
    };
    let address = server.database().await;
    let queue = Queue::open(&address).await.expect("it opens");
    let log = Log::new();
    let seen = log.clone();
    let worker = queue.worker().register(move |job: Job<Note>| {
        seen.note(&job);
        async {
            sleep(20 * MILLI).await;
            Ok(())
        }
    });
    let running = spawn(worker.concurrency("default", 64));
    let stop = CancellationToken::new();
    let enqueuers: Vec<_> = (0..4)
        .map(|enqueuer| {
            let (queue, stop) = (queue.clone(), stop.clone());
            tokio::spawn(async move {
                let (mut confirmed, mut failed) = (Vec::new(), 0);
                for n in 0.. {
                    if stop.is_cancelled() {
                        break;
                    }
                    match queue.enqueue(Note(enqueuer * 1_000_000 + n)).await {
                        Ok(job) => confirmed.push(job.id()),
                        Err(_) => failed += 1,
                    }
                    sleep(2 * MILLI).await;
                }
                (confirmed, failed)
            })
        })
        .collect();
    for signal in ["INT", "QUIT", "QUIT"] {
        let before = log.lines().len();
        let more = || async { log.lines().len() > before + 200 };
        support::until("jobs run", more).await;
        server.restart(signal);
    }
    let before = log.lines().len();
    let more = || async { log.lines().len() > before + 200 };
    support::until("jobs run after all", more).await;
    stop.cancel();
    let (mut confirmed, mut failed) = (Vec::new(), 0);
    for enqueuer in enqueuers {
        let (jobs, errors) = enqueuer.await.expect("no panic");
        confirmed.extend(jobs);
        failed += errors;
    }
    let ended = || async {
        queue
            .counts()
            .await
            .is_ok_and(|counts| counts.unfinished() == 0)
    };
    support::until("all have ended", ended).await;
    running.end().await;
    println!("{} confirmed, {failed} failed", confirmed.len());
    assert!(failed > 0, "no call met a server that was gone");
    for id in &confirmed {
        assert_eq!(record(&queue, *id).await.state, State::Done);
    }
    let mut notes = log.notes();
    let starts = notes.len();
    notes.sort_unstable();
    notes.dedup();
    let repeated = starts - notes.len();
    assert_eq!(repeated, 0, "of {starts} starts");
}

/// Sets the largest size of a file that a server may write. Beyond it each write fails, as on a full disk.
fn limit_files(server: &support::Postgres, bytes: &str) {
    // One of its processes may end meanwhile.
    let sh = format!(
        "for pid in $(pgrep -P {0}) {0}; do prlimit --pid $pid --fsize={bytes}:; done",
        server.pid()
    );
    let owner = std::fs::metadata(format!("/proc/{}", server.pid())).expect("it runs");
    let mut set = std::process::Command::new("sh");
    set.args(["-c", &sh]).current_dir("/");
    set.uid(owner.uid()).gid(owner.gid());
    assert!(set.status().expect("sh runs").success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_whose_disk_is_full_for_a_while_loses_no_job_and_repeats_none() {
    // It would make room.
    let without = "autovacuum = off\n";
    let server = support::Postgres::start_with(support::Disk::Trusted, &[], without);
    let Some(server) = server else { return };
    let address = server.database().await;
    let queue = Queue::open(&address).await.expect("it opens");
    let mut client = support::client(&address).await;
    // The table is to be larger than a segment of the log, which still has room: without that the server would end.
    let fill = "insert into delayed_jobs (kind, queue, payload, priority, run_at, created_at)
        select 'note', 'of nobody', '1', 1, 0, 0 from generate_series(1, 100000)";
    support::execute(&mut client, fill).await;
    let size = sqlx::query_scalar("select pg_relation_size('delayed_jobs')");
    let size: i64 = size.fetch_one(&mut client).await.expect("a size");
    assert!(size > 1 << 24, "{size}");
    let log = Log::new();
    let seen = log.clone();
    let running = spawn(queue.worker().register(move |job: Job<Note>| {
        seen.note(&job);
        async {
            sleep(20 * MILLI).await;
            Ok(())
        }
    }));
    let (mut confirmed, mut failed) = (Vec::new(), 0);
    for note in 0..900 {
        match note {
            300 => limit_files(&server, &size.to_string()),
            600 => limit_files(&server, "unlimited"),
            _ => {}
        }
        match queue.enqueue(Note(note)).await {
            Ok(job) => confirmed.push(job.id()),
            Err(_) => failed += 1,
        }
        sleep(2 * MILLI).await;
    }
    assert!(failed > 0, "no call met the full disk");
    for id in &confirmed {
        let done = || async { record(&queue, *id).await.state == State::Done };
        support::until("it is done", done).await;
    }
    running.end().await;
    let mut notes = log.notes();
    notes.sort_unstable();
    let starts = notes.len();
    notes.dedup();
    assert_eq!(starts, notes.len(), "some ran twice");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outage_is_one_line_and_its_end_another() {
    let Some((database, url, proxy)) = by_proxy().await else {
        return;
    };
    let direct = Queue::open(&database).await.expect("it opens");
    for n in 0..200 {
        let job = direct.enqueue(Note(n)).after(SECOND + n * 25 * MILLI);
        job.queue("default").await.expect("enqueued");
    }
    let (dir, _) = support::sqlite();
    let said = dir.path().join("said");
    let log = std::fs::File::create(&said).expect("a file");
    let _worker =
        program::Program::start_with(&["--database", &url, "worker", "--lease", "2s"], |worker| {
            worker.env("RUST_LOG", "delayed_jobs=info,off").stderr(log);
        });
    // The program knows no notes; its hints fire all the same.
    sleep(1500 * MILLI).await;
    proxy.frozen.send_replace(true);
    sleep(7 * SECOND).await;
    proxy.frozen.send_replace(false);
    proxy.strand.send_modify(|n| *n += 1);
    sleep(6 * SECOND).await;
    let said = std::fs::read_to_string(&said).expect("a file");
    let lines: Vec<_> = said.lines().collect();
    assert!(lines.len() <= 12, "{} lines: {said}", lines.len());
    assert!(
        said.contains("trying again until the store answers"),
        "{said}"
    );
    assert!(said.contains("the store answers again"), "{said}");
    drop(direct);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_tells_with_its_commit_whatever_others_did() {
    let Some((database, queue)) = opened().await else {
        return;
    };
    let elsewhere = support::postgres().expect("it is there").database().await;
    let other = Queue::open(&elsewhere).await.expect("it opens");
    assert_below(250 * MILLI, || async {
        let log = Log::new();
        let running = spawn(noting(&queue, &log));
        sleep(SECOND).await;
        let there = Queue::open(&database).await.expect("it opens");
        let (mut ours, mut theirs) = (
            support::client(&database).await,
            support::client(&elsewhere).await,
        );
        let mut worst = 0;
        for n in 0..6 {
            // Of another database, and rolled back: neither may silence what comes next.
            let mut transaction = theirs.begin().await.expect("a transaction");
            other
                .enqueue(Note(100))
                .in_postgres(&mut transaction)
                .await
                .expect("enqueued");
            transaction.commit().await.expect("committed");
            let mut transaction = ours.begin().await.expect("a transaction");
            there
                .enqueue(Note(200))
                .in_postgres(&mut transaction)
                .await
                .expect("enqueued");
            transaction.rollback().await.expect("rolled back");
            let mut transaction = ours.begin().await.expect("a transaction");
            there
                .enqueue(Note(n))
                .in_postgres(&mut transaction)
                .await
                .expect("enqueued");
            sleep(200 * MILLI).await;
            transaction.commit().await.expect("committed");
            let committed = log.start.elapsed().as_millis() as u64;
            worst = worst.max(start_of(&log, n).await.saturating_sub(committed));
        }
        running.end().await;
        Duration::from_millis(worst)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_tells_of_a_job_only_if_it_is_due_soon() {
    let Some((database, queue)) = opened().await else {
        return;
    };
    let there = Queue::open(&database).await.expect("it opens");
    let seen = || *queue.store().changes().borrow();
    support::until("it listens", || async { seen() > 0 }).await;
    let before = seen();
    let mut client = support::client(&database).await;
    let mut enqueue = async |after| {
        let mut transaction = client.begin().await.expect("a transaction");
        let job = there.enqueue(Note(1)).after(after);
        job.in_postgres(&mut transaction).await.expect("enqueued");
        transaction.commit().await.expect("committed");
    };
    enqueue(3 * 86_400 * SECOND).await;
    sleep(500 * MILLI).await;
    assert_eq!(seen(), before);
    enqueue(30 * SECOND).await;
    support::until("it is told", || async { seen() > before }).await;
}

/// An idle worker of another process would find it only when it looks.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_that_is_due_again_soon_is_told_of() {
    let Some((database, queue)) = opened().await else {
        return;
    };
    let listener = sqlx::postgres::PgListener::connect(&database).await;
    let mut listener = listener.expect("a connection");
    listener.listen("delayed_jobs").await.expect("it listens");
    let mut client = support::client(&database).await;
    // The process itself does not notify of these.
    let insert = "insert into delayed_jobs (kind, queue, payload, priority, run_at, created_at)
        select 'note', 'default', '1', 1, 0, 0 from generate_series(1, 5)";
    support::execute(&mut client, insert).await;
    let claimed = queue.store().claim(claim(5)).await.expect("a claim").jobs;
    let now = queue.store().clock().now();
    let retry = |wait| Verdict::Retry {
        at: now.after(wait),
        error: "x".to_owned(),
    };
    let done = Verdict::Done { output: None };
    for (job, verdict) in claimed.iter().zip([done, retry(60 * SECOND)]) {
        assert!(ended(&queue, job, verdict).await.expect("an answer"));
        support::execute(&mut client, "notify delayed_jobs, 'nothing before this'").await;
        let first = listener.recv().await.expect("a notification");
        assert_eq!(first.payload(), "nothing before this");
    }
    let snoozed = Verdict::Snoozed {
        at: now.after(SECOND),
    };
    let soon = [retry(SECOND), snoozed, Verdict::Released];
    for (job, verdict) in claimed[2..].iter().zip(soon) {
        let words = format!("{verdict:?}");
        assert!(ended(&queue, job, verdict).await.expect("an answer"));
        let told = timeout(30 * SECOND, listener.recv()).await;
        assert!(told.is_ok(), "nobody was told of {words}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_notifies_seldom_however_many_jobs_it_enqueues_at_once() {
    let Some((database, queue)) = opened().await else {
        return;
    };
    let listener = sqlx::postgres::PgListener::connect(&database).await;
    let mut listener = listener.expect("a connection");
    listener.listen("delayed_jobs").await.expect("it listens");
    let begun = Instant::now();
    let mut enqueues = tokio::task::JoinSet::new();
    for note in 0..200 {
        let queue = queue.clone();
        enqueues.spawn(async move {
            let job = queue.enqueue(Note(note)).unique(note.to_string());
            job.await.expect("enqueued")
        });
    }
    enqueues.join_all().await;
    let mut notified = 0;
    let mut latest = begun.elapsed();
    while let Ok(notification) = timeout(SECOND, listener.recv()).await {
        notification.expect("a notification");
        (notified, latest) = (notified + 1, begun.elapsed());
    }
    let most = 2 + latest.as_millis() / 20;
    assert!(
        (1..=most).contains(&notified),
        "{notified} within {latest:?}, at most {most}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idle_workers_with_schedules_do_not_wake_each_other() {
    let Some((database, queue)) = opened().await else {
        return;
    };
    let there = Queue::open(&database).await.expect("it opens");
    let year = 365 * 86_400 * SECOND;
    let running = [&queue, &there].map(|queue| {
        let worker = noting(queue, &Log::new()).every("a", year, &Note(1));
        spawn(worker.every("b", year, &Note(2)))
    });
    let filled = || async { queue.counts().await.expect("counts").pending == 2 };
    support::until("both schedules have a job", filled).await;
    // Longer than the time between two looks.
    let mut changes = queue.store().changes();
    let mut until_quiet = async || {
        let begun = Instant::now();
        while timeout(3 * SECOND, changes.changed()).await.is_ok() {
            let took = begun.elapsed();
            assert!(took < 15 * SECOND, "still woken after {took:?}");
        }
    };
    until_quiet().await;
    let one = async || {
        let job = there.enqueue(Note(3)).queue("of nobody");
        job.unique("one").await.is_ok()
    };
    assert!(one().await);
    until_quiet().await;
    // Duplicates that are rejected change nothing, either.
    let before = *queue.store().changes().borrow();
    for _ in 0..4 {
        assert!(!one().await);
    }
    sleep(500 * MILLI).await;
    assert_eq!(*queue.store().changes().borrow(), before);
    for running in running {
        running.end().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_role_that_may_create_nothing_works_on_tables_that_are_up_to_date() {
    let Some((database, _owner)) = opened().await else {
        return;
    };
    let role = format!("app_{}", fastrand_name());
    support::run(
        &database,
        &format!(
            "create role {role} login;
             revoke create on schema public from public;
             grant select, insert, update, delete on all tables in schema public to {role}"
        ),
    )
    .await;
    let url = database.replace("postgres@", &format!("{role}@"));
    let queue = Queue::open(&url)
        .await
        .expect("it opens without a right to create");
    let log = Log::new();
    let running = spawn(noting(&queue, &log).every("tick", 100 * MILLI, &Note(7)));
    put(&queue, 1).await;
    let both = || async { log.lines().iter().any(|line| line.1 == 1) && log.lines().len() > 2 };
    support::until("jobs and schedules run", both).await;
    running.end().await;
}

fn fastrand_name() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(0)
}

/// Another program has the lock of the migrations.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_migration_waits_for_another_one_however_long_that_takes() {
    let Some(server) = support::postgres() else {
        return;
    };
    let database = server.database().await;
    let options = || PostgresOptions::new(&database).expect("an address");
    let mut other = support::client(&database).await;
    support::execute(
        &mut other,
        "select pg_advisory_lock(x'64656c6179656421'::bigint)",
    )
    .await;
    let late = options().query_timeout(SECOND / 2);
    let late = tokio::spawn(async move { late.migrate().await });
    sleep(1500 * MILLI).await;
    assert!(!late.is_finished(), "it does not wait");
    support::execute(&mut other, "select pg_advisory_unlock_all()").await;
    let (found, reached) = late.await.expect("no panic").expect("migrated");
    assert!(found == 0 && reached > 0, "from {found} to {reached}");
    let again = options().migrate().await.expect("it is up to date");
    assert_eq!(again, (reached, reached));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tables_live_in_the_schema_that_was_named() {
    let Some(server) = support::postgres() else {
        return;
    };
    let database = server.database().await;
    let options = || {
        PostgresOptions::new(&database)
            .expect("a URL")
            .schema("own_jobs")
    };
    let missing = options().existing().open().await.expect_err("no tables");
    assert!(
        matches!(missing, StoreError::TooOld { found: 0, .. }),
        "{missing}"
    );
    let (none, made) = options().migrate().await.expect("made");
    assert!(none == 0 && made > 0, "from {none} to {made}");
    let again = options().migrate().await.expect("made before");
    assert_eq!(again, (made, made));
    let queue = Queue::on(options().existing().open().await.expect("it opens"));
    let log = Log::new();
    let running = spawn(noting(&queue, &log).every("tick", 100 * MILLI, &Note(7)));
    let first = queue.enqueue(Note(5)).after(200 * MILLI);
    let first = first.await.expect("enqueued").id();
    let next = queue.enqueue(Note(6)).after_done([first]);
    next.await.expect("enqueued");
    sleep(SECOND).await;
    assert!(log.notes().contains(&6), "it came after the other one");
    let there = Queue::on(options().open().await.expect("it opens"));
    let mut client = support::client(&database).await;
    let mut transaction = client.begin().await.expect("a transaction");
    there
        .enqueue(Note(1))
        .in_postgres(&mut transaction)
        .await
        .expect("enqueued");
    transaction.commit().await.expect("committed");
    let begun = log.start.elapsed().as_millis() as u64;
    let ran = || async { log.lines().iter().any(|line| line.1 == 1) };
    support::until("it has run", ran).await;
    let line = log
        .lines()
        .into_iter()
        .find(|line| line.1 == 1)
        .expect("a line");
    running.end().await;
    assert!(line.0 < begun + 500, "the channel is that of the schema");
    let sql = "select count(*) from pg_tables where tablename like 'delayed_jobs%' and schemaname <> 'own_jobs'";
    let elsewhere: i64 = sqlx::query_scalar(sql)
        .fetch_one(&mut client)
        .await
        .expect("a count");
    assert_eq!(elsewhere, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn neighbours_of_a_job_that_kills_its_worker_live() {
    let Some((database, queue)) = opened().await else {
        return;
    };
    // The program's own crash test has real kills; here the worker is dropped as it runs.
    for note in 0..7 {
        put(&queue, note).await;
    }
    let begun = Instant::now();
    while queue.counts().await.expect("counts").unfinished() > 0 {
        assert!(begun.elapsed() < 60 * SECOND, "{:?}", queue.counts().await);
        let here = Queue::open(&database).await.expect("it opens");
        let (killer, bang) = (CancellationToken::new(), CancellationToken::new());
        let kill = killer.clone();
        let worker = here
            .worker()
            .lease(500 * MILLI)
            .register(move |job: Job<Note>| {
                let kill = kill.clone();
                async move {
                    if job.payload.0 == 0 {
                        kill.cancel();
                        std::future::pending::<()>().await;
                    }
                    sleep(100 * MILLI).await;
                    Ok(())
                }
            });
        tokio::select! {
            ended = worker.run(bang) => panic!("{ended:?}"),
            () = killer.cancelled() => {}
            () = sleep(10 * SECOND) => {}
        }
    }
    let counts = queue.counts().await.expect("counts");
    assert_eq!((counts.done, counts.dead), (6, 1), "{counts:?}");
}

/// Enqueues a job that a worker has claimed, or that none has, and returns another connection that has locked it.
async fn locked(address: &str, queue: &Queue, is_running: bool) -> sqlx::PgConnection {
    let id = put(queue, 1).await;
    if is_running {
        let lease = "update delayed_jobs set state = 'running', worker = 'w', claim = 1, lease_until = 1 << 62";
        support::run(address, &lease.replace("1 << 62", "4611686018427387904")).await;
    }
    let mut theirs = support::client(address).await;
    let lock = match is_running {
        // As by a renewal of the lease.
        true => "begin; select 1 from delayed_jobs for update",
        // As by a claim.
        false => "begin; update delayed_jobs set state = 'running', worker = 'w', claim = 1",
    };
    support::execute(&mut theirs, lock).await;
    assert_eq!(record(queue, id).await.attempt, 0);
    theirs
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancel_of_many_jobs_misses_none_that_is_locked_for_a_moment() {
    for is_running in [true, false] {
        let Some((database, queue)) = opened().await else {
            return;
        };
        let mut theirs = locked(&database, &queue, is_running).await;
        let all = delayed_jobs::Filter::default();
        let cancel = queue.change(delayed_jobs::Change::Cancel, all);
        let (cancelled, ()) = tokio::join!(cancel, async {
            sleep(150 * MILLI).await;
            support::execute(&mut theirs, "commit").await;
        });
        assert_eq!(cancelled.expect("an answer"), 1, "running: {is_running}");
        let asked = queue.store().asked_to_cancel("w").await;
        assert_eq!(asked.expect("an answer").len(), 1, "running: {is_running}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancel_of_many_jobs_misses_none_that_fails_meanwhile() {
    let Some((database, queue)) = opened().await else {
        return;
    };
    let later = queue.enqueue(Note(1)).after(3600 * SECOND);
    let later = later.await.expect("enqueued").id();
    put(&queue, 2).await;
    let claimed = queue.store().claim(claim(1)).await.expect("a claim").jobs;
    let mut theirs = support::client(&database).await;
    let lock = format!("begin; select 1 from delayed_jobs where id = {later} for update");
    support::execute(&mut theirs, &lock).await;
    let all = delayed_jobs::Filter::default();
    let cancel = queue.change(delayed_jobs::Change::Cancel, all);
    let (cancelled, ()) = tokio::join!(cancel, async {
        let waiting = "select count(*) from pg_locks where not granted";
        let is_waiting = || async {
            let mut client = support::client(&database).await;
            let waiting = sqlx::query_scalar(waiting).fetch_one(&mut client).await;
            waiting.is_ok_and(|waiting: i64| waiting > 0)
        };
        support::until("the cancel waits for a lock", is_waiting).await;
        // The running job is pending again, and the cancel has not come to it yet.
        let retry = Verdict::Retry {
            at: delayed_jobs::Micros::NEVER,
            error: "x".to_owned(),
        };
        assert!(ended(&queue, &claimed[0], retry).await.expect("an end"));
        support::execute(&mut theirs, "commit").await;
    });
    assert_eq!(cancelled.expect("an answer"), 2);
    let record = record(&queue, claimed[0].lease.id).await;
    assert_eq!(record.state, delayed_jobs::State::Cancelled);
}

fn claim(limit: usize) -> Claim {
    let now = delayed_jobs::Micros::from(std::time::SystemTime::now());
    Claim {
        worker: "w".to_owned(),
        queue: "default".to_owned(),
        limit,
        now,
        lease_until: now.after(30 * SECOND),
        kinds: vec!["note".to_owned()],
        from: [delayed_jobs::Micros::EARLIEST; 3],
        suspects: Suspects::Without(9),
        limited: false,
        ageing: None,
    }
}

async fn ended(queue: &Queue, job: &Claimed, verdict: Verdict) -> Result<bool, StoreError> {
    let ended = Ended {
        lease: job.lease,
        at: delayed_jobs::Micros::from(std::time::SystemTime::now()),
        verdict,
        relaxed: false,
    };
    queue.store().finish(ended).await
}

/// As by a transaction of another program that enqueues a job which comes after a running one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_running_job_that_is_locked_for_long_costs_no_other_its_lease_or_its_end() {
    let Some((database, queue)) = opened().await else {
        return;
    };
    let log = Log::new();
    let worker = || {
        let seen = log.clone();
        let worker = queue.worker().lease(2 * SECOND);
        spawn(worker.register(move |job: Job<Note>| {
            seen.note(&job);
            async move {
                sleep(job.payload.0 * SECOND).await;
                Ok(())
            }
        }))
    };
    // One ends while the first one is locked, and one after that. All are of one worker; the other one takes leases away
    // that it does not renew.
    let first = worker();
    let mut ids = Vec::new();
    for note in [1, 3, 7] {
        ids.push(put(&queue, note).await);
        start_of(&log, note).await;
    }
    let second = worker();
    let mut theirs = support::client(&database).await;
    let lock = format!(
        "begin; select 1 from delayed_jobs where id = {} for update",
        ids[0]
    );
    support::execute(&mut theirs, &lock).await;
    let is_done = async |id| record(&queue, id).await.state == State::Done;
    for id in &ids[1..] {
        support::until("the other jobs are done", || is_done(*id)).await;
        assert_eq!(record(&queue, *id).await.crashes, 0);
    }
    assert!(!is_done(ids[0]).await, "it is locked");
    support::execute(&mut theirs, "commit").await;
    support::until("the first job is done", || is_done(ids[0])).await;
    for worker in [first, second] {
        worker.end().await;
    }
    let others = log.notes().into_iter().filter(|note| *note != 1);
    assert_eq!(others.collect::<Vec<_>>(), [3, 7]);
}

/// On one thread both are asked for before the store writes the first of them, so they share a statement.
#[tokio::test]
async fn an_end_under_a_former_claim_is_told_from_one_under_the_present_claim() {
    let Some((_, queue)) = opened().await else {
        return;
    };
    let id = put(&queue, 1).await;
    let claimed = async || {
        let claimed = queue.store().claim(claim(1)).await;
        claimed.expect("a claim").jobs.pop().expect("a job")
    };
    let former = claimed().await;
    let given_back = ended(&queue, &former, Verdict::Released).await;
    assert!(given_back.expect("an answer"));
    let present = claimed().await;
    let done = Verdict::Done { output: None };
    let dead = Verdict::Dead {
        error: "x".to_owned(),
    };
    let both = tokio::join!(ended(&queue, &former, dead), ended(&queue, &present, done));
    let written = (both.0.expect("an answer"), both.1.expect("an answer"));
    assert_eq!(written, (false, true));
    assert_eq!(record(&queue, id).await.state, State::Done);
}

#[tokio::test]
async fn an_end_that_cannot_be_written_keeps_no_other_from_it() {
    let Some((database, queue)) = opened().await else {
        return;
    };
    let refuses = r#"
        create function refuse() returns trigger language plpgsql as $$ begin raise exception 'no'; end $$;
        create trigger refuse before update on delayed_jobs for each row
        when (new.state = 'done' and new.payload = '7') execute function refuse()"#;
    for sql in refuses.split_inclusive("$$;") {
        support::run(&database, sql).await;
    }
    let notes = (0..50).map(|note| queue.enqueue(Note(note)));
    queue.enqueue_all(notes).await.expect("enqueued");
    let claimed = queue.store().claim(claim(50)).await.expect("a claim").jobs;
    let mut ends = tokio::task::JoinSet::new();
    for job in claimed {
        let queue = queue.clone();
        ends.spawn(async move { ended(&queue, &job, Verdict::Done { output: None }).await });
    }
    let ends = ends.join_all().await;
    let errors: Vec<_> = ends.iter().filter(|end| end.is_err()).collect();
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert_eq!(queue.counts().await.expect("counts").done, 49);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crowd_of_callers_has_the_same_limit_though_the_server_says_nothing() {
    let Some((_, url, proxy)) = by_proxy().await else {
        return;
    };
    let options = PostgresOptions::new(&url).expect("an address");
    let options = options.query_timeout(SECOND);
    let queue = Queue::on(options.open().await.expect("it opens"));
    put(&queue, 0).await;
    proxy.frozen.send_replace(true);
    let begun = Instant::now();
    let mut callers = tokio::task::JoinSet::new();
    for n in 0..8000 {
        let queue = queue.clone();
        callers.spawn(async move { queue.enqueue(Note(n)).await.is_err() });
    }
    let answers = timeout(60 * SECOND, callers.join_all()).await;
    let took = begun.elapsed();
    let answers = answers.expect("all are answered");
    let failed = answers.iter().filter(|failed| **failed).count();
    // What was on its way may have come through.
    assert!(failed > 6000, "{failed} failed");
    assert!(took < 5 * SECOND, "the last of them waited for {took:?}");
}
