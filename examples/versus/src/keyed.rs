//! Measures `KeyedGroup` beside the usual alternatives: a `DelayQueue` behind a map by key, with a driver task; and for
//! requests that a task awaits, a `timeout` around the reply and a map of the callers that wait.
//!
//! ```sh
//! cargo run --release -p versus -- --keyed
//! ```
//!
//! Keys are `u64`, values have 16 bytes. Each figure is the median of its rounds. In a round each contender is measured in
//! a process of its own, one right after the other. A ratio is the cost with `KeyedGroup` divided by the cost of the
//! alternative; the last column has the ratio that `KeyedGroup` aims at.

use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use schedgroup::keyed::{KeyedGroup, OnDuplicate};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::time::{DelayQueue, delay_queue};

use crate::cell::{in_child, median, median_ratio};
use crate::meter::{self, Stopwatch, quiet};
use crate::table::{Choice, NO_ROW, in_words, machine};

type Value = [u64; 2];

/// How far away nothing of a measurement expires.
const FAR: Duration = Duration::from_secs(3600);

/// How many entries were handled, by thread: a count that two threads share would be what is measured.
static HANDLED: [Count; 8] = [const { Count(AtomicUsize::new(0)) }; 8];

#[repr(align(128))]
struct Count(AtomicUsize);

fn handled() -> usize {
    HANDLED.iter().map(|count| count.0.load(Relaxed)).sum()
}

thread_local! {
    static HERE: &'static Count = {
        static THREADS: AtomicUsize = AtomicUsize::new(0);
        &HANDLED[THREADS.fetch_add(1, Relaxed) % HANDLED.len()]
    };
}

async fn handle(_: u64, _: Value) {
    HERE.with(|count| count.0.fetch_add(1, Relaxed));
}

trait Keyed: Sync {
    fn new() -> Self;
    fn insert(&self, key: u64, value: Value, at: Instant);
    fn reset(&self, key: u64, at: Instant) -> bool;
    fn remove(&self, key: u64) -> Option<Value>;
}

impl Keyed for KeyedGroup<u64, Value> {
    fn new() -> Self {
        KeyedGroup::with_handler(|_, key, value| handle(key, value))
    }

    fn insert(&self, key: u64, value: Value, at: Instant) {
        self.insert_at(key, value, at, OnDuplicate::Replace);
    }

    fn reset(&self, key: u64, at: Instant) -> bool {
        self.reset_at(&key, at)
    }

    fn remove(&self, key: u64) -> Option<Value> {
        KeyedGroup::remove(self, &key)
    }
}

/// A `DelayQueue` of keys and values, and where each key is in it.
#[derive(Default)]
struct Inner {
    queue: DelayQueue<(u64, Value)>,
    places: HashMap<u64, delay_queue::Key>,
}

struct Queue(Arc<Mutex<Inner>>);

/// Entries that the driver takes out in one go.
const BATCH: usize = 32;

impl Queue {
    fn lock(inner: &Mutex<Inner>) -> std::sync::MutexGuard<'_, Inner> {
        inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn drive(inner: Arc<Mutex<Inner>>) {
        let mut batch = Vec::with_capacity(BATCH);
        loop {
            poll_fn(|cx| {
                let mut inner = Queue::lock(&inner);
                while batch.len() < BATCH {
                    // When it is empty, the next insert wakes this task.
                    let Poll::Ready(Some(expired)) = inner.queue.poll_expired(cx) else {
                        break;
                    };
                    let (key, value) = expired.into_inner();
                    inner.places.remove(&key);
                    batch.push((key, value));
                }
                match batch.is_empty() {
                    true => Poll::Pending,
                    false => Poll::Ready(()),
                }
            })
            .await;
            for (key, value) in batch.drain(..) {
                handle(key, value).await;
            }
        }
    }
}

impl Keyed for Queue {
    fn new() -> Self {
        let inner: Arc<Mutex<Inner>> = Arc::default();
        tokio::spawn(Queue::drive(Arc::clone(&inner)));
        Queue(inner)
    }

    fn insert(&self, key: u64, value: Value, at: Instant) {
        let mut inner = Queue::lock(&self.0);
        let place = inner.queue.insert_at((key, value), at);
        if let Some(former) = inner.places.insert(key, place) {
            inner.queue.remove(&former);
        }
    }

    fn reset(&self, key: u64, at: Instant) -> bool {
        let mut inner = Queue::lock(&self.0);
        let Some(&place) = inner.places.get(&key) else {
            return false;
        };
        inner.queue.reset_at(&place, at);
        true
    }

    fn remove(&self, key: u64) -> Option<Value> {
        let mut inner = Queue::lock(&self.0);
        let place = inner.places.remove(&key)?;
        Some(inner.queue.remove(&place).into_inner().1)
    }
}

/// A request that is awaited.
trait Requests: Send + Sync + 'static {
    fn new() -> Self;
    /// Opens a request, and waits for its reply for at most `limit`.
    fn ask(&self, id: u64, limit: Duration) -> impl Future<Output = Option<u64>> + Send;
    fn reply(&self, id: u64, reply: u64) -> bool;
}

/// Who waits is the value; a request that expires drops it.
struct ByKey(KeyedGroup<u64, oneshot::Sender<u64>>);

impl Requests for ByKey {
    fn new() -> Self {
        ByKey(KeyedGroup::with_handler(|_, _, _| async {}))
    }

    async fn ask(&self, id: u64, limit: Duration) -> Option<u64> {
        let (sender, reply) = oneshot::channel();
        self.0.insert_after(id, sender, limit, OnDuplicate::Replace);
        reply.await.ok()
    }

    fn reply(&self, id: u64, reply: u64) -> bool {
        self.0
            .remove(&id)
            .is_some_and(|sender| sender.send(reply).is_ok())
    }
}

/// Who waits is in a map, and has a `timeout` of its own.
#[derive(Default)]
struct ByTimeout(Mutex<HashMap<u64, oneshot::Sender<u64>>>);

impl ByTimeout {
    fn take(&self, id: u64) -> Option<oneshot::Sender<u64>> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&id)
    }
}

impl Requests for ByTimeout {
    fn new() -> Self {
        ByTimeout::default()
    }

    async fn ask(&self, id: u64, limit: Duration) -> Option<u64> {
        let (sender, reply) = oneshot::channel();
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(id, sender);
        let answered = timeout(limit, reply).await;
        if answered.is_err() {
            self.take(id);
        }
        answered.ok()?.ok()
    }

    fn reply(&self, id: u64, reply: u64) -> bool {
        self.take(id)
            .is_some_and(|sender| sender.send(reply).is_ok())
    }
}

/// What is measured in one process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Cell {
    Bytes,
    Reset,
    Request,
    Expire,
    Awaited,
}

impl Cell {
    const ALL: [Cell; 5] = [
        Cell::Bytes,
        Cell::Reset,
        Cell::Request,
        Cell::Expire,
        Cell::Awaited,
    ];
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Who {
    Ours,
    Theirs,
}

impl Who {
    const ALL: [Who; 2] = [Who::Ours, Who::Theirs];
}

/// A line of the table. Rows of one cell, which is measured in one process, follow each other.
struct Row {
    what: &'static str,
    cell: Cell,
    figure: &'static str,
    must: f64,
    size: usize,
}

const ROWS: [Row; 8] = [
    row("live bytes an entry", Cell::Bytes, "live", 1.0, 500_000),
    row(
        "resident bytes an entry",
        Cell::Bytes,
        "resident",
        1.0,
        500_000,
    ),
    row(
        "reset by key, in no order, ns a call",
        Cell::Reset,
        "call",
        0.75,
        500_000,
    ),
    row(
        "reset by key, in no order, CPU ns each until quiet",
        Cell::Reset,
        "cpu",
        0.75,
        500_000,
    ),
    row(
        "insert + remove, a tenth open, answered in no order, ns",
        Cell::Request,
        "call",
        1.0,
        1_000_000,
    ),
    row(
        "insert + remove, a tenth open, answered in no order, CPU ns until quiet",
        Cell::Request,
        "cpu",
        1.0,
        1_000_000,
    ),
    row(
        "all expire at once, handler ready at once, CPU ns an entry",
        Cell::Expire,
        "cpu",
        0.5,
        500_000,
    ),
    row(
        "awaited request and its reply, CPU ns",
        Cell::Awaited,
        "cpu",
        1.5,
        100_000,
    ),
];

const fn row(what: &'static str, cell: Cell, figure: &'static str, must: f64, size: usize) -> Row {
    Row {
        what,
        cell,
        figure,
        must,
        size,
    }
}

/// Measures and prints the chosen rows.
pub(crate) fn print(choice: &Choice) -> ExitCode {
    let rows: Vec<&Row> = ROWS.iter().filter(|row| choice.names(row.what)).collect();
    if rows.is_empty() {
        eprintln!("{NO_ROW}");
        return ExitCode::FAILURE;
    }
    let size = |row: &Row| row.size / if choice.small { 100 } else { 1 };
    let rounds = choice.rounds.unwrap_or(if choice.small { 1 } else { 5 });
    println!(
        "{}. Figures and ratios are medians of {}. A ratio is the cost with KeyedGroup divided by that of \
         the alternative: below 1, KeyedGroup costs less.\n",
        machine(),
        in_words(rounds),
    );
    println!("| what | entries | alternative | KeyedGroup | ratio | aim |");
    println!("|---|---:|---:|---:|---:|---:|");
    let mut cells = rows.clone();
    cells.dedup_by_key(|row| row.cell);
    let mut measured: HashMap<(Who, Cell, String), Vec<f64>> = HashMap::new();
    for _ in 0..rounds {
        for (row, who) in cells
            .iter()
            .flat_map(|row| [(row, Who::Theirs), (row, Who::Ours)])
        {
            let (contender, cell) = (format!("{who:?}"), format!("{:?}", row.cell));
            let size = size(row).to_string();
            let figures = in_child(&["--keyed-cell", &contender, &cell, &size]);
            let figures = figures.unwrap_or_else(|_| panic!("{who:?} failed at {cell}"));
            for (figure, value) in figures {
                let figures = measured.entry((who, row.cell, figure)).or_default();
                figures.push(value);
            }
        }
    }
    for row in rows {
        let figures = |who| &measured[&(who, row.cell, row.figure.to_owned())];
        let median = |who| median(figures(who)).expect("a figure of each round");
        let ratio = median_ratio(figures(Who::Ours), figures(Who::Theirs));
        println!(
            "| {} | {} | {:.1} | {:.1} | {:.2} | {:.2} |",
            row.what,
            size(row),
            median(Who::Theirs),
            median(Who::Ours),
            ratio.expect("a ratio of each round"),
            row.must,
        );
    }
    ExitCode::SUCCESS
}

/// What a child process does; its parent wrote the arguments.
pub(crate) fn measure_cell(who: &str, cell: &str, size: usize) -> ExitCode {
    let who = Who::ALL
        .into_iter()
        .find(|known| format!("{known:?}") == who);
    let cell = Cell::ALL
        .into_iter()
        .find(|known| format!("{known:?}") == cell);
    let (Some(who), Some(cell)) = (who, cell) else {
        return ExitCode::FAILURE;
    };
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(2).enable_all().build();
    let runtime = runtime.expect("a runtime");
    let figures = runtime.block_on(async {
        match who {
            Who::Ours => measure::<KeyedGroup<u64, Value>, ByKey>(cell, size as u64).await,
            Who::Theirs => measure::<Queue, ByTimeout>(cell, size as u64).await,
        }
    });
    for (name, figure) in figures {
        println!("{name}={figure}");
    }
    ExitCode::SUCCESS
}

/// Every number below `size` once, in an order that no cache foresees. `prime` divides no size.
fn shuffled(size: u64, prime: u64) -> impl Iterator<Item = u64> {
    (0..size).map(move |at| at * prime % size)
}

async fn measure<C: Keyed, R: Requests>(cell: Cell, size: u64) -> Vec<(&'static str, f64)> {
    let per = |figure: f64| figure / size as f64;
    let start = Instant::now();
    match cell {
        Cell::Bytes => {
            meter::count_bytes();
            let contender = C::new();
            let (live, resident) = (meter::live_bytes(), meter::resident_bytes());
            for key in 0..size {
                contender.insert(key, [key; 2], start + FAR);
            }
            quiet().await;
            let (live, resident) = (
                meter::live_bytes() - live,
                meter::resident_bytes() - resident,
            );
            assert_eq!(contender.remove(0), Some([0; 2]));
            vec![("live", per(live)), ("resident", per(resident))]
        }
        Cell::Reset => {
            let contender = C::new();
            for key in 0..size {
                contender.insert(key, [key; 2], start + FAR);
            }
            // Once before: in use they lie in the order of their last resets, not in that of their inserts.
            for (round, key) in (0..).zip(shuffled(size, 7_368_787)) {
                let at = start + 2 * FAR + Duration::from_micros(round);
                assert!(contender.reset(key, at));
            }
            quiet().await;
            let watch = Stopwatch::start();
            for (round, key) in (0..).zip(shuffled(size, 7_654_321)) {
                let at = start + 3 * FAR + Duration::from_micros(round);
                assert!(contender.reset(key, at));
            }
            let call = watch.wall();
            quiet().await;
            vec![("call", per(call)), ("cpu", per(watch.cpu()))]
        }
        Cell::Request => {
            // As many are open at a time, and the replies come in another order than the requests.
            let open = size / 10;
            let contender = C::new();
            quiet().await;
            let watch = Stopwatch::start();
            for first in (0..size + open).step_by(open as usize) {
                for (at, answered) in (0..).zip(shuffled(open, 7_368_787)) {
                    if first < size {
                        contender.insert(first + at, [at; 2], Instant::now() + FAR);
                    }
                    if let Some(block) = first.checked_sub(open) {
                        assert_eq!(contender.remove(block + answered), Some([answered; 2]));
                    }
                }
            }
            let call = watch.wall();
            quiet().await;
            vec![("call", per(call)), ("cpu", per(watch.cpu()))]
        }
        Cell::Expire => {
            let contender = C::new();
            let at = start + Duration::from_secs(2);
            for key in 0..size {
                contender.insert(key, [key; 2], at);
            }
            quiet().await;
            assert!(Instant::now() < at, "inserted too late");
            // What is done ahead of the deadline counts too.
            let watch = Stopwatch::start();
            sleep_until(at).await;
            while handled() < size as usize {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            vec![("cpu", per(watch.cpu()))]
        }
        Cell::Awaited => vec![("cpu", per(awaited::<R>(size).await))],
    }
}

/// Returns the CPU time of requests and their replies.
async fn awaited<R: Requests>(size: u64) -> f64 {
    let requests = Arc::new(R::new());
    quiet().await;
    let watch = Stopwatch::start();
    let asked: Vec<_> = (0..size)
        .map(|id| {
            let requests = Arc::clone(&requests);
            tokio::spawn(async move { requests.ask(id, FAR).await })
        })
        .collect();
    for id in 0..size {
        while !requests.reply(id, id) {
            tokio::task::yield_now().await;
        }
    }
    for (id, asked) in (0..).zip(asked) {
        assert_eq!(asked.await.ok().flatten(), Some(id));
    }
    quiet().await;
    watch.cpu()
}
