//! How late jobs start, and what a worker takes of memory, beside many rows: with no page open, and with three.
//!
//! The worker is a process of its own, and so are those who look: the pages ask as their script does.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use delayed_jobs::page::Page;
use delayed_jobs::{Job, Queue};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::{Email, Kind, Outcome, Pending, Place, email, load, median};

/// The jobs of a round, and the time over which they are due.
const JOBS: usize = 1000;
const OVER: Duration = Duration::from_secs(20);

/// Rounds of each, by turns.
const ROUNDS: usize = 3;

const PAGES: usize = 3;

pub(crate) async fn run(kinds: &[Kind], rows: u64) -> Outcome {
    println!(
        "| {rows} rows, {JOBS} jobs over {OVER:?} | p50 | p99 | max | the machine's own p50, p99 | the worker's memory | load |"
    );
    println!("|---|---|---|---|---|---|---|");
    for kind in kinds {
        let Some(place) = Place::new(*kind).await else {
            continue;
        };
        let queue = place.open().await?;
        let begun = Instant::now();
        place.fill(rows, Pending::Far).await?;
        eprintln!("{kind:?} has {rows} rows after {:?}", begun.elapsed());
        let mut all = [const { [const { Vec::new() }; 3] }; 2];
        for _ in 0..ROUNDS {
            for (pages, all) in [0, PAGES].into_iter().zip(&mut all) {
                let seen = round(&place, &queue, pages).await?;
                let late = [0.5, 0.99, 1.0].map(|part| at(&seen.late, part));
                for (all, late) in all.iter_mut().zip(late) {
                    all.push(late);
                }
                println!(
                    "| {kind:?}, {pages} pages, {} answers | {} | {:.1}, {:.1} ms | {} | {} |",
                    seen.answers,
                    words(late),
                    at(&seen.machine, 0.5),
                    at(&seen.machine, 0.99),
                    seen.memory,
                    load(),
                );
            }
        }
        let [without, with] = all.map(|all| all.map(median));
        println!(
            "| {kind:?}, medians without pages | {} | | | |",
            words(without)
        );
        println!(
            "| {kind:?}, medians with {PAGES} pages | {} | | | |",
            words(with)
        );
        println!(
            "| {kind:?}, p99 with pages by that without | | {:.2} | | | | |",
            with[1] / without[1]
        );
    }
    Ok(())
}

/// The cells for p50, p99 and the latest.
fn words(late: [f64; 3]) -> String {
    late.map(|late| format!("{late:.1} ms")).join(" | ")
}

/// What a round has shown: milliseconds of lateness in their order.
struct Seen {
    late: Vec<f64>,
    /// How late a timer is that writes a page to the disk then, as a claim does, in no queue at all.
    machine: Vec<f64>,
    memory: String,
    answers: usize,
}

async fn round(place: &Place, queue: &Queue, pages: usize) -> Outcome<Seen> {
    let mut worker = Command::new(std::env::current_exe()?)
        .args(["worker", &place.address])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut said = BufReader::new(worker.stdout.take().ok_or("its output")?);
    let mut line = String::new();
    said.read_line(&mut line)?;
    let address: SocketAddr = line.trim().parse()?;
    let asked = Arc::new(Mutex::new(0));
    let looking: Vec<_> = (0..pages)
        .map(|_| tokio::spawn(look(address, Arc::clone(&asked))))
        .collect();
    sleep(Duration::from_secs(2)).await;
    let first = queue.store().clock().now().after(Duration::from_secs(1));
    let jobs = (0..JOBS).map(|number| {
        let at = first.after(OVER * u32::try_from(number).unwrap_or(0) / JOBS as u32);
        queue.enqueue(email(number)).at(at)
    });
    queue.enqueue_all(jobs).await?;
    let machine = tokio::task::block_in_place(machine)?;
    sleep(Duration::from_secs(2)).await;
    let memory = memory(&worker);
    worker
        .stdin
        .take()
        .ok_or("its input")?
        .write_all(b"end\n")?;
    let mut told = String::new();
    said.read_to_string(&mut told)?;
    worker.wait()?;
    for look in looking {
        look.abort();
    }
    let late: Result<Vec<f64>, _> = told.split_whitespace().map(str::parse).collect();
    let mut late = late?;
    late.sort_by(f64::total_cmp);
    if late.len() != JOBS {
        return Err(format!("{} of {JOBS} have started", late.len()).into());
    }
    let answers = *asked.lock().map_err(|_| "a panic")?;
    Ok(Seen {
        late,
        machine,
        memory,
        answers,
    })
}

fn at(sorted: &[f64], part: f64) -> f64 {
    sorted[((sorted.len() - 1) as f64 * part).round() as usize]
}

/// How late a bare sleep of a thread and a write to disk are meanwhile: no job can be earlier than that.
fn machine() -> Outcome<Vec<f64>> {
    let mut file = tempfile::tempfile()?;
    let begun = Instant::now();
    let mut late = Vec::new();
    while begun.elapsed() < OVER {
        let pause = Duration::from_millis(19);
        let due = Instant::now() + pause;
        std::thread::sleep(pause);
        file.write_all(&[7; 4096])?;
        file.sync_data()?;
        late.push(due.elapsed().as_secs_f64() * 1e3);
    }
    late.sort_by(f64::total_cmp);
    Ok(late)
}

/// The most memory that a process has had in use.
fn memory(process: &Child) -> String {
    let status = fs::read_to_string(format!("/proc/{}/status", process.id())).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib: f64 = line
        .and_then(|line| line.split_whitespace().next()?.parse().ok())
        .unwrap_or(0.0);
    format!("{:.1} MiB", kib / 1024.0)
}

/// As the page's script: twice a second, less often when the answer is slow.
async fn look(address: SocketAddr, asked: Arc<Mutex<usize>>) {
    loop {
        let begun = Instant::now();
        let answer = ask(address).await;
        if answer.is_ok_and(|answer| answer.starts_with("HTTP/1.1 200")) {
            *asked.lock().expect("no panic") += 1;
        }
        sleep(Duration::from_millis(500).max(5 * begun.elapsed())).await;
    }
}

async fn ask(address: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    let head = "GET /api/overview HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    stream.write_all(head.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

/// Works until its input ends a line, and then says how late each job has started, in milliseconds.
pub(crate) async fn worker(address: &str) -> Outcome {
    let queue = Queue::open(address).await?;
    let late = Arc::new(Mutex::new(Vec::with_capacity(JOBS)));
    let seen = Arc::clone(&late);
    let worker = queue.worker().register(move |job: Job<Email>| {
        seen.lock().expect("no panic").push(job.lateness());
        async { Ok(()) }
    });
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?);
    tokio::spawn(Page::new(queue.clone(), worker.metrics()).serve(listener)?);
    let shutdown = CancellationToken::new();
    let stop = shutdown.clone();
    std::thread::spawn(move || {
        let _ = std::io::stdin().read_line(&mut String::new());
        stop.cancel();
    });
    worker.run(shutdown).await?;
    let late = late.lock().map_err(|_| "a panic")?;
    let words = late
        .iter()
        .map(|late| format!("{:.3}\n", late.as_secs_f64() * 1e3));
    print!("{}", words.collect::<String>());
    Ok(())
}
