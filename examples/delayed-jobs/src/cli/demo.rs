//! The demo: 500 jobs over 20 seconds, a live line, and a page. Kill it and start it again.

use std::error::Error;
use std::io::{self, IsTerminal, Write, stdout};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use delayed_jobs::page::Page;
use delayed_jobs::{Counts, Filter, Metrics, Payload, Queue, Record, Snapshot, State, StoreError};
use tokio::net::TcpListener;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::args;
use super::tasks::{self, Demo};
use super::words::{histogram, say, short};
use super::work::{self, cancel_on_signal};

/// Short, so that a demo that was killed gets its running jobs back soon.
const LEASE: Duration = Duration::from_secs(2);

const USUAL: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8080);

pub(super) async fn run(
    queue: &Queue,
    database: &str,
    args: args::Demo,
) -> Result<(), Box<dyn Error>> {
    let batch = match unfinished_batch(queue).await? {
        Some(batch) => batch,
        None => enqueue(queue, database, &args).await?,
    };
    let worker = tasks::register(queue.worker()).lease(LEASE);
    let metrics = worker.metrics();
    let page = listen(args.page).await?;
    say!("page on http://{}", page.local_addr()?)?;
    let served = Page::new(queue.clone(), worker.metrics()).serve(page)?;
    tokio::spawn(served);

    let shutdown = CancellationToken::new();
    tokio::spawn(cancel_on_signal(shutdown.clone()));
    let stopped = shutdown.clone();
    let watching = async {
        let ended = tokio::select! {
            ended = watch(queue, &batch, &metrics) => ended,
            () = stopped.cancelled() => Ok(()),
        };
        if args.stay && !stopped.is_cancelled() {
            let _ = say!("all jobs have ended; the page is served until ctrl-c");
            stopped.cancelled().await;
        }
        stopped.cancel();
        ended
    };
    let running = async {
        let summary = worker.run(shutdown.clone()).await;
        // No job ends any more if the worker could not begin, so there is nothing to watch.
        shutdown.cancel();
        summary
    };
    let (summary, watched) = tokio::join!(running, watching);
    let summary = summary?;
    watched?;
    report(&batch.jobs(queue).await?, &batch, &summary)?;
    Ok(())
}

/// Listens on the given address; without one on the default port, or on any free one if that is in use.
async fn listen(asked: Option<SocketAddr>) -> Result<TcpListener, Box<dyn Error>> {
    if let Some(address) = asked {
        return work::listen(address).await;
    }
    match TcpListener::bind(USUAL).await {
        Ok(listener) => Ok(listener),
        Err(_) => work::listen((USUAL.ip(), 0).into()).await,
    }
}

/// The jobs of one demo. They were enqueued in one step, so either all or none are in the store.
struct Batch {
    began: i64,
    of: usize,
}

impl Batch {
    /// Returns the jobs of the batch from the store.
    async fn jobs(&self, queue: &Queue) -> Result<Vec<Record>, StoreError> {
        let filter = Filter {
            kind: Some(Demo::KIND.to_owned()),
            limit: self.of,
            ..Filter::default()
        };
        let mut jobs = queue.list(filter).await?;
        jobs.retain(|job| payload(job).is_some_and(|demo| demo.batch == self.began));
        Ok(jobs)
    }
}

fn payload(job: &Record) -> Option<Demo> {
    serde_json::from_str(&job.payload).ok()
}

fn count(jobs: &[Record], state: State) -> usize {
    jobs.iter().filter(|job| job.state == state).count()
}

fn unfinished(jobs: &[Record]) -> usize {
    count(jobs, State::Pending) + count(jobs, State::Running)
}

/// Returns the latest demo if it was not completed.
async fn unfinished_batch(queue: &Queue) -> Result<Option<Batch>, Box<dyn Error>> {
    let filter = Filter {
        kind: Some(Demo::KIND.to_owned()),
        limit: 1,
        ..Filter::default()
    };
    let latest = queue.list(filter).await?;
    let Some(demo) = latest.first().and_then(payload) else {
        return Ok(None);
    };
    let batch = Batch {
        began: demo.batch,
        of: demo.of as usize,
    };
    let jobs = batch.jobs(queue).await?;
    if unfinished(&jobs) == 0 {
        return Ok(None);
    }
    say!(
        "resumed {} pending, {} under leases that expire within {LEASE:?}, {} done before; lost {}",
        count(&jobs, State::Pending),
        count(&jobs, State::Running),
        count(&jobs, State::Done),
        batch.of - jobs.len(),
    )?;
    Ok(Some(batch))
}

async fn enqueue(
    queue: &Queue,
    database: &str,
    args: &args::Demo,
) -> Result<Batch, Box<dyn Error>> {
    let began = queue.store().clock().now();
    let jobs = (0..args.jobs).map(|number| {
        let after = args.over.mul_f64(f64::from(number) / f64::from(args.jobs));
        let demo = Demo {
            batch: began.0,
            number,
            of: args.jobs,
        };
        queue.enqueue(demo).at(began.after(after))
    });
    queue.enqueue_all(jobs).await?;
    say!(
        "{database}: {} jobs, due over {}; ctrl-c or kill -9, then start it again",
        args.jobs,
        short(args.over)
    )?;
    Ok(Batch {
        began: began.0,
        of: args.jobs as usize,
    })
}

/// Shows a live line until all jobs of the batch have ended.
async fn watch(queue: &Queue, batch: &Batch, metrics: &Metrics) -> Result<(), Box<dyn Error>> {
    let begun = Instant::now();
    let live = stdout().is_terminal();
    let mut lines = 0;
    loop {
        let counts = queue.counts().await?;
        let over = counts.unfinished() == 0 || unfinished(&batch.jobs(queue).await?) == 0;
        // Without a terminal, a line every two seconds is enough.
        if live || over || lines % 10 == 0 {
            let line = line(begun.elapsed(), &counts, &metrics.snapshot());
            write!(
                stdout(),
                "{}{line}{}",
                if live { "\r" } else { "" },
                if live { "\x1b[K" } else { "\n" }
            )?;
            stdout().flush()?;
        }
        if over {
            if live {
                say!()?;
            }
            return Ok(());
        }
        lines += 1;
        sleep(Duration::from_millis(200)).await;
    }
}

fn line(time: Duration, counts: &Counts, metrics: &Snapshot) -> String {
    let late = |micros| short(Duration::from_micros(micros));
    format!(
        "{:>5.1} s  pending {:>3}  running {:>2}  done {:>3}  dead {}  retries {}  late p50 {}, p99 {}",
        time.as_secs_f64(),
        counts.pending,
        counts.running,
        counts.done,
        counts.dead,
        metrics.failed,
        late(metrics.p50),
        late(metrics.p99),
    )
}

fn report(jobs: &[Record], batch: &Batch, metrics: &Snapshot) -> io::Result<()> {
    let late = |micros| short(Duration::from_micros(micros));
    let left = unfinished(jobs);
    say!(
        "{} done, {} dead, {} cancelled, lost {}",
        count(jobs, State::Done),
        count(jobs, State::Dead),
        count(jobs, State::Cancelled),
        batch.of - jobs.len(),
    )?;
    if left > 0 {
        say!("{left} are left; start the demo again to continue")?;
    }
    say!(
        "lateness of {} starts: p50 {}, p99 {}, max {}",
        metrics.started - metrics.overdue,
        late(metrics.p50),
        late(metrics.p99),
        late(metrics.max),
    )?;
    if metrics.overdue > 0 {
        say!(
            "without {} starts of jobs that were due before the program started",
            metrics.overdue
        )?;
    }
    write!(stdout(), "{}", histogram(metrics))
}
