//! What the integration tests share: runtimes, bounded waits, recorders.

// Each test program compiles its own copy and uses a part of it.
#![allow(dead_code, unused_imports, unused_macros)]

use std::cell::RefCell;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Once, PoisonError, mpsc};
use std::task::{Context, Wake, Waker};
use std::time::Duration;

use schedgroup::task::{OnError, TaskGroup};
use schedgroup::{CancellationToken, Group, JobContext, Report};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{Semaphore, oneshot};
use tokio::time::Instant;

pub(crate) const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

pub(crate) const fn us(micros: u64) -> Duration {
    Duration::from_micros(micros)
}

pub(crate) const HOUR: Duration = Duration::from_secs(3_600);

/// Longer than any correct test takes, also where others leave it a tenth of a processor.
const PATIENCE: Duration = Duration::from_secs(120);

/// One runtime of each flavour, on the real clock.
pub(crate) fn runtimes() -> [(&'static str, Runtime); 2] {
    [
        (
            "current_thread",
            Builder::new_current_thread().enable_all().build().unwrap(),
        ),
        ("multi_thread(2)", multi_thread()),
    ]
}

/// A current-thread runtime whose clock is paused.
pub(crate) fn paused() -> Runtime {
    Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap()
}

/// Two workers on the real clock.
pub(crate) fn multi_thread() -> Runtime {
    Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
}

/// `future.await` on the real clock, and a panic if it does not end.
pub(crate) async fn bounded<F: IntoFuture>(future: F) -> F::Output {
    tokio::time::timeout(PATIENCE, future)
        .await
        .unwrap_or_else(|_| panic!("still not done after {PATIENCE:?}"))
}

/// Awaits `waits` beside `acts`. Once `acts` has ended, `waits` is not polled again unless it is woken: so a wake-up
/// that is lost is a panic, on a paused clock at once.
pub(crate) async fn beside<T>(waits: impl Future<Output = T>, acts: impl Future<Output = ()>) -> T {
    let both = async { tokio::join!(biased; waits, acts) };
    bounded(both).await.0
}

/// Runs code on a thread of its own, and panics if that thread is blocked for good.
pub(crate) fn watched<R: Send + 'static>(code: impl FnOnce() -> R + Send + 'static) -> R {
    let (done, result) = mpsc::channel();
    let thread = std::thread::spawn(move || {
        let result = catch_unwind(AssertUnwindSafe(code));
        // Nobody listens any more if the time is over.
        drop(done.send(result));
    });
    let result = result
        .recv_timeout(3 * PATIENCE)
        .unwrap_or_else(|_| panic!("a thread was still blocked after {:?}", 3 * PATIENCE));
    thread.join().unwrap();
    result.unwrap_or_else(|payload| resume_unwind(payload))
}

/// Runs a test on both flavours of runtime, each time under a bounded wait.
pub(crate) fn on_both<F, Fut>(test: F)
where
    F: Fn() -> Fut + Send + 'static,
    Fut: Future<Output = ()>,
{
    watched(move || {
        for (flavour, runtime) in runtimes() {
            println!("on {flavour}");
            runtime.block_on(bounded(test()));
        }
    });
}

/// Waits on the real clock until something holds that nobody signals.
pub(crate) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < PATIENCE, "never came true: {what}");
        tokio::time::sleep(ms(1)).await;
    }
}

/// Blocks the thread until another job says so, which must not wait for this one.
pub(crate) fn block_until_told(told: &mpsc::Receiver<()>) {
    told.recv_timeout(Duration::from_secs(10))
        .expect("the other job should have run by now");
}

/// Advances the paused clock, and lets no other task run.
pub(crate) fn jump(by: Duration) {
    // The clock moves at the first poll. A second one would come after a turn of the others.
    assert!(poll_once(&mut Box::pin(tokio::time::advance(by))).is_pending());
}

/// How many tasks of this runtime have not ended.
pub(crate) fn alive_tasks() -> usize {
    tokio::runtime::Handle::current()
        .metrics()
        .num_alive_tasks()
}

/// Finished, aborted, dropped.
pub(crate) fn counts(report: Report) -> (usize, usize, usize) {
    (report.finished, report.aborted, report.dropped)
}

/// Lets every task that is ready run, on a `current_thread` runtime, without any passing of time.
pub(crate) async fn settle() {
    for _ in 0..64 {
        tokio::task::yield_now().await;
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Records what happened and when, counted from its own making.
#[derive(Debug)]
pub(crate) struct Log<T> {
    start: Instant,
    entries: Arc<Mutex<Vec<(T, Duration)>>>,
}

impl<T> Clone for Log<T> {
    fn clone(&self) -> Self {
        Log {
            start: self.start,
            entries: Arc::clone(&self.entries),
        }
    }
}

impl<T> Log<T> {
    pub(crate) fn new() -> Self {
        Log {
            start: Instant::now(),
            entries: Arc::default(),
        }
    }

    pub(crate) fn push(&self, label: T) {
        let elapsed = self.start.elapsed();
        locked(&self.entries).push((label, elapsed));
    }

    /// All entries so far, which are forgotten.
    pub(crate) fn take(&self) -> Vec<(T, Duration)> {
        std::mem::take(&mut *locked(&self.entries))
    }

    /// The labels of all entries so far, which are forgotten.
    pub(crate) fn labels(&self) -> Vec<T> {
        self.take().into_iter().map(|(label, _)| label).collect()
    }

    pub(crate) fn len(&self) -> usize {
        locked(&self.entries).len()
    }
}

impl<T: Send + 'static> Log<T> {
    /// A job that records its start and ends.
    pub(crate) fn job(&self, label: T) -> impl Future<Output = ()> + Send + use<T> {
        let log = self.clone();
        async move { log.push(label) }
    }
}

/// Counts how many of its guards were dropped.
#[derive(Clone, Debug, Default)]
pub(crate) struct Flag(Arc<AtomicUsize>);

/// Adds one to its [`Flag`] when it is dropped.
#[derive(Debug)]
pub(crate) struct Guard(Flag);

impl Flag {
    pub(crate) fn new() -> Flag {
        Flag::default()
    }

    pub(crate) fn guard(&self) -> Guard {
        Guard(self.clone())
    }

    pub(crate) fn drops(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }

    /// A job that does nothing and holds a guard.
    pub(crate) fn job(&self) -> impl Future<Output = ()> + Send + use<> {
        let guard = self.guard();
        async move { drop(guard) }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// Calls a closure when it is dropped: a payload with a destructor of its own.
pub(crate) struct OnDrop<F: FnMut()>(pub(crate) F);

impl<F: FnMut()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

/// Tasks that end after so many milliseconds.
pub(crate) fn timed<const N: usize>(
    tasks: [(u64, Result<u32, &'static str>); N],
) -> [impl Future<Output = Result<u32, &'static str>> + Send + 'static; N] {
    tasks.map(|(millis, outcome)| async move {
        tokio::time::sleep(ms(millis)).await;
        outcome
    })
}

/// A token that is cancelled after so many milliseconds.
pub(crate) fn cancelled_after(millis: u64) -> CancellationToken {
    let token = CancellationToken::new();
    let timer = token.clone();
    tokio::spawn(async move {
        tokio::time::sleep(ms(millis)).await;
        timer.cancel();
    });
    token
}

/// Counts how often it was woken.
#[derive(Default)]
pub(crate) struct Woken(AtomicUsize);

impl Woken {
    pub(crate) fn times(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// A future that panics when it is polled, and again when it is dropped.
pub(crate) fn twice_panicking<T: Send>() -> impl Future<Output = T> + Send + 'static {
    let bomb = OnDrop(|| panic!("bomb"));
    poll_fn(move |_| {
        let _held = &bomb;
        panic!("boom")
    })
}

/// Polls a future that is not ready, with a waker that panics when it is woken.
pub(crate) fn poll_with_bomb(future: Pin<&mut impl Future>) {
    struct Bomb;
    impl Wake for Bomb {
        fn wake(self: Arc<Self>) {
            panic!("in a waker");
        }
    }
    let waker = Arc::new(Bomb).into();
    assert!(future.poll(&mut Context::from_waker(&waker)).is_pending());
}

/// A waker whose destructor panics.
pub(crate) fn waker_with_bomb() -> Waker {
    struct Bomb(#[expect(dead_code, reason = "it is dropped")] OnDrop<fn()>);
    impl Wake for Bomb {
        fn wake(self: Arc<Self>) {}
    }
    Arc::new(Bomb(OnDrop(|| panic!("in the destructor of a waker")))).into()
}

/// A key whose destructor panics, if it says so.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct Key(pub(crate) u64, pub(crate) bool);

impl Drop for Key {
    fn drop(&mut self) {
        assert!(!self.1, "in the destructor of a key");
    }
}

/// Holds jobs: each says that it has started, and ends when it is let go.
#[derive(Clone, Debug)]
pub(crate) struct Hold(Arc<(Semaphore, Semaphore)>);

impl Hold {
    pub(crate) fn new() -> Hold {
        Hold(Arc::new((Semaphore::new(0), Semaphore::new(0))))
    }

    /// What the job does.
    pub(crate) fn job(&self) -> impl Future<Output = ()> + Send + use<> {
        let Hold(both) = self.clone();
        async move {
            both.0.add_permits(1);
            both.1.acquire().await.unwrap().forget();
        }
    }

    /// One more of the jobs has started.
    pub(crate) async fn started(&self) {
        self.0.0.acquire().await.unwrap().forget();
    }

    /// Lets one job go.
    pub(crate) fn release(&self) {
        self.0.1.add_permits(1);
    }
}

/// The context of a job of this group that runs until it is released.
pub(crate) async fn context_of(group: &Group, hold: &Hold) -> JobContext {
    let (send, context) = oneshot::channel();
    let held = hold.job();
    group.delay_with(Duration::ZERO, |context| async move {
        drop(send.send(context));
        held.await;
    });
    context.await.unwrap()
}

/// Pseudo-random numbers (splitmix64): the same seed gives the same ones.
#[derive(Clone, Debug)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

/// What a panic said, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Misuse {
    pub(crate) message: String,
    pub(crate) file: String,
    pub(crate) line: u32,
}

thread_local! {
    /// `None`: panics of this thread are not being looked at.
    static SEEN: RefCell<Option<Vec<Misuse>>> = const { RefCell::new(None) };
}

/// The panic that the code ends with; another panic if it ends without one.
///
/// The hook that looks at panics is installed once for the whole process, and hands on those of
/// threads that are not in this function.
pub(crate) fn panic_of<R>(code: impl FnOnce() -> R) -> Misuse {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let looked_at = SEEN.with_borrow_mut(|seen| {
                let location = info.location().expect("a panic has a location");
                seen.as_mut().map(|seen| {
                    seen.push(Misuse {
                        message: text(info.payload()),
                        file: location.file().to_owned(),
                        line: location.line(),
                    })
                })
            });
            if looked_at.is_none() {
                before(info);
            }
        }));
    });
    SEEN.set(Some(Vec::new()));
    let result = catch_unwind(AssertUnwindSafe(code));
    let seen = SEEN.take().unwrap();
    assert!(result.is_err(), "it did not panic");
    let [panic] = &seen[..] else {
        panic!("not one panic but {seen:?}")
    };
    panic.clone()
}

fn text(payload: &(dyn std::any::Any + Send)) -> String {
    payload
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_default()
}

/// Counts what runs, and the most that ran at once.
#[derive(Clone, Default)]
pub(crate) struct Meter(Arc<(AtomicUsize, AtomicUsize, AtomicUsize)>);

impl Meter {
    /// One task: in, a turn for the others, out.
    pub(crate) async fn run(self) {
        let (now, most, all) = &*self.0;
        most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        all.fetch_add(1, Ordering::SeqCst);
        tokio::task::yield_now().await;
        now.fetch_sub(1, Ordering::SeqCst);
    }

    pub(crate) fn most(&self) -> usize {
        self.0.1.load(Ordering::SeqCst)
    }

    pub(crate) fn all(&self) -> usize {
        self.0.2.load(Ordering::SeqCst)
    }
}

/// The text of the panic of misused code, which must name the line of the misuse.
#[track_caller]
pub(crate) fn misuse<R>(code: impl FnOnce() -> R) -> String {
    let here = std::panic::Location::caller();
    let panic = panic_of(code);
    assert_eq!(panic.file, here.file(), "{panic:?}");
    assert!(
        panic.line.abs_diff(here.line()) <= 1,
        "{panic:?}, not at {here}"
    );
    panic.message
}

/// Every method that schedules, to be called on the group, handle or context `$on`: each makes one job
/// that is due at `$at` and does `$work()`.
///
/// All of it is on the line where the macro is called.
macro_rules! methods {
    ($on:expr, $at:expr, $work:expr) => {{
        let (on, at, work) = (&$on, $at, &$work);
        let delay =
            tokio::time::Instant::saturating_duration_since(&at, tokio::time::Instant::now());
        let methods: [(
            &'static str,
            Box<dyn FnOnce() -> schedgroup::JobHandle + '_>,
        ); 7] = [
            ("delay", Box::new(move || on.delay(delay, work()))),
            ("schedule", Box::new(move || on.schedule(at, work()))),
            (
                "delay_with",
                Box::new(move || {
                    let job = work();
                    on.delay_with(delay, |_| job)
                }),
            ),
            (
                "schedule_with",
                Box::new(move || {
                    let job = work();
                    on.schedule_with(at, |_| job)
                }),
            ),
            (
                "spawn_after",
                Box::new(move || on.spawn_after(delay, work()).job().clone()),
            ),
            (
                "spawn_at",
                Box::new(move || on.spawn_at(at, work()).job().clone()),
            ),
            (
                "repeat",
                Box::new(move || {
                    let mut job = Some(work());
                    on.repeat(at, move |_| {
                        let job = job.take().expect("it runs once");
                        async {
                            job.await;
                            schedgroup::Next::Done
                        }
                    })
                }),
            ),
        ];
        methods
    }};
}
pub(crate) use methods;

/// A group that goes on after an error.
#[track_caller]
pub(crate) fn continuing<E: Send + 'static>() -> TaskGroup<E> {
    TaskGroup::builder().on_error(OnError::Continue).build()
}

/// A sized group, as go-pkgz/syncs has it: at most `limit` tasks at a time, and a panic ends its own task alone.
#[track_caller]
pub(crate) fn sized(limit: usize) -> TaskGroup {
    let builder = TaskGroup::builder().limit(limit);
    builder.on_error(OnError::Continue).build()
}

/// Polls a future once, with a waker that does nothing.
#[track_caller]
pub(crate) fn poll_once<F: Future + Unpin>(future: &mut F) -> std::task::Poll<F::Output> {
    Pin::new(future).poll(&mut Context::from_waker(std::task::Waker::noop()))
}
