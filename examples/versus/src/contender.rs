//! The contenders: ways to run many jobs at their times, behind one small trait.

use std::future::{Future, poll_fn};
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};
use std::time::Duration;

use schedgroup::{Group, JobHandle, Next};
use tokio::task::{AbortHandle, JoinHandle, JoinSet};
use tokio::time::{Instant, interval_at, sleep_until};
use tokio_util::task::TaskTracker;
use tokio_util::time::{DelayQueue, delay_queue};

pub(crate) type Boxed = Pin<Box<dyn Future<Output = ()> + Send>>;

pub(crate) trait Contender: Send + Sync + 'static {
    /// The handle of one job.
    type Key: Send + 'static;
    /// Whether keys are kept until the job has ended.
    const KEEPS: bool = false;

    fn new() -> Self;
    fn schedule(&self, at: Instant, job: impl Future<Output = ()> + Send + 'static) -> Self::Key;
    fn cancel(&self, key: &Self::Key);
    /// Moves a pending job. The job is passed again for contenders that can only schedule it anew.
    fn reset(
        &self,
        key: &mut Self::Key,
        at: Instant,
        job: impl Future<Output = ()> + Send + 'static,
    );
    /// Runs a job at `first`, and again after each `period`, without an end.
    fn repeat<J>(&self, first: Instant, period: Duration, job: fn() -> J)
    where
        J: Future<Output = ()> + Send + 'static;
    /// Removes the jobs that have ended, if the user has to do so.
    fn reap(&self) {}
    fn wait(self) -> impl Future<Output = ()> + Send;
    fn cancel_all(self) -> impl Future<Output = ()> + Send;
    /// Returns the number of wake-ups of the driver, if there is one that counts them.
    fn turns(&self) -> Option<u64> {
        None
    }
}

/// A series as a task of its own.
async fn ticks<J: Future<Output = ()>>(first: Instant, period: Duration, job: fn() -> J) {
    let mut ticks = interval_at(first, period);
    loop {
        ticks.tick().await;
        job().await;
    }
}

/// A task and a sleep for each job, in a `JoinSet`.
pub(crate) struct Joined(Mutex<JoinSet<()>>);

impl Contender for Joined {
    type Key = AbortHandle;

    fn new() -> Joined {
        Joined(Mutex::new(JoinSet::new()))
    }

    fn schedule(&self, at: Instant, job: impl Future<Output = ()> + Send + 'static) -> AbortHandle {
        self.0.lock().unwrap().spawn(async move {
            sleep_until(at).await;
            job.await;
        })
    }

    fn cancel(&self, key: &AbortHandle) {
        key.abort();
    }

    fn reset(
        &self,
        key: &mut AbortHandle,
        at: Instant,
        job: impl Future<Output = ()> + Send + 'static,
    ) {
        key.abort();
        *key = self.schedule(at, job);
        self.reap();
    }

    fn repeat<J>(&self, first: Instant, period: Duration, job: fn() -> J)
    where
        J: Future<Output = ()> + Send + 'static,
    {
        self.0.lock().unwrap().spawn(ticks(first, period, job));
    }

    fn reap(&self) {
        while self.0.lock().unwrap().try_join_next().is_some() {}
    }

    async fn wait(self) {
        let mut tasks = self.0.into_inner().unwrap();
        while tasks.join_next().await.is_some() {}
    }

    async fn cancel_all(self) {
        let mut tasks = self.0.into_inner().unwrap();
        tasks.shutdown().await;
    }
}

/// A task and a sleep for each job, under a `TaskTracker`. It has no way to cancel the whole.
pub(crate) struct Tracked(TaskTracker);

impl Contender for Tracked {
    type Key = JoinHandle<()>;

    fn new() -> Tracked {
        Tracked(TaskTracker::new())
    }

    fn schedule(
        &self,
        at: Instant,
        job: impl Future<Output = ()> + Send + 'static,
    ) -> JoinHandle<()> {
        self.0.spawn(async move {
            sleep_until(at).await;
            job.await;
        })
    }

    fn cancel(&self, key: &JoinHandle<()>) {
        key.abort();
    }

    fn reset(
        &self,
        key: &mut JoinHandle<()>,
        at: Instant,
        job: impl Future<Output = ()> + Send + 'static,
    ) {
        key.abort();
        *key = self.schedule(at, job);
    }

    fn repeat<J>(&self, first: Instant, period: Duration, job: fn() -> J)
    where
        J: Future<Output = ()> + Send + 'static,
    {
        self.0.spawn(ticks(first, period, job));
    }

    async fn wait(self) {
        self.0.close();
        self.0.wait().await;
    }

    async fn cancel_all(self) {
        unreachable!("`Who::can` says no");
    }
}

/// tokio-util's `DelayQueue` behind a lock, with a driver task that polls it and spawns what is due.
pub(crate) struct Delayed {
    shared: Arc<Queue>,
    driver: JoinHandle<()>,
}

struct Queue {
    state: Mutex<QueueState>,
    running: TaskTracker,
}

struct QueueState {
    queue: DelayQueue<Boxed>,
    closed: bool,
    /// The driver's, for the close. For an earlier job the queue wakes it by itself.
    driver: Option<Waker>,
}

impl Queue {
    fn insert(&self, at: Instant, job: Boxed) -> delay_queue::Key {
        self.state.lock().unwrap().queue.insert_at(job, at)
    }

    /// The run of a series that is due at `at`; it puts the next one into the queue.
    fn run_of_series<J>(self: Arc<Self>, at: Instant, period: Duration, job: fn() -> J) -> Boxed
    where
        J: Future<Output = ()> + Send + 'static,
    {
        Box::pin(async move {
            job().await;
            let next = at + period;
            let run = Arc::clone(&self).run_of_series(next, period, job);
            self.insert(next, run);
        })
    }

    /// One look at the queue by the driver: spawns what is due; ready when closed and empty.
    fn drive(&self, cx: &mut std::task::Context<'_>) -> Poll<()> {
        for _ in 0..128 {
            let mut state = self.state.lock().unwrap();
            match state.queue.poll_expired(cx) {
                Poll::Ready(Some(expired)) => {
                    drop(state);
                    self.running.spawn(expired.into_inner());
                }
                Poll::Ready(None) if state.closed => return Poll::Ready(()),
                _ => {
                    state.driver = Some(cx.waker().clone());
                    return Poll::Pending;
                }
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl Contender for Delayed {
    type Key = delay_queue::Key;

    fn new() -> Delayed {
        let shared = Arc::new(Queue {
            state: Mutex::new(QueueState {
                queue: DelayQueue::new(),
                closed: false,
                driver: None,
            }),
            running: TaskTracker::new(),
        });
        let queue = Arc::clone(&shared);
        let driver = tokio::spawn(poll_fn(move |cx| queue.drive(cx)));
        Delayed { shared, driver }
    }

    fn schedule(
        &self,
        at: Instant,
        job: impl Future<Output = ()> + Send + 'static,
    ) -> delay_queue::Key {
        self.shared.insert(at, Box::pin(job))
    }

    fn cancel(&self, key: &delay_queue::Key) {
        self.shared.state.lock().unwrap().queue.try_remove(key);
    }

    fn reset(
        &self,
        key: &mut delay_queue::Key,
        at: Instant,
        _job: impl Future<Output = ()> + Send + 'static,
    ) {
        self.shared.state.lock().unwrap().queue.reset_at(key, at);
    }

    fn repeat<J>(&self, first: Instant, period: Duration, job: fn() -> J)
    where
        J: Future<Output = ()> + Send + 'static,
    {
        let run = Arc::clone(&self.shared).run_of_series(first, period, job);
        self.shared.insert(first, run);
    }

    async fn wait(self) {
        {
            let mut state = self.shared.state.lock().unwrap();
            state.closed = true;
            if let Some(driver) = state.driver.take() {
                driver.wake();
            }
        }
        self.driver.await.unwrap();
        self.shared.running.close();
        self.shared.running.wait().await;
    }

    async fn cancel_all(self) {
        self.shared.state.lock().unwrap().queue.clear();
        self.wait().await;
    }
}

/// A scheduling group.
pub(crate) struct Ours<S: Setting> {
    groups: Vec<Group>,
    /// The group that the next job goes to.
    turn: AtomicUsize,
    setting: PhantomData<S>,
}

/// How the scheduling group is set up and used.
pub(crate) trait Setting: Send + Sync + 'static {
    const KEEPS: bool = false;
    /// The jobs are dealt out to that many groups.
    const GROUPS: usize = 1;

    fn builder() -> schedgroup::Builder {
        Group::builder()
    }
}

pub(crate) struct Plain;

impl Setting for Plain {}

/// All handles are kept.
pub(crate) struct WithHandles;

impl Setting for WithHandles {
    const KEEPS: bool = true;
}

/// At most 64 run at once.
pub(crate) struct Limited;

impl Setting for Limited {
    fn builder() -> schedgroup::Builder {
        Group::builder().max_running(64)
    }
}

/// In 200 groups.
pub(crate) struct Split;

impl Setting for Split {
    const GROUPS: usize = 200;
}

/// Woken by the kernel's timer too, where there is one.
pub(crate) struct Fine;

impl Setting for Fine {
    fn builder() -> schedgroup::Builder {
        #[cfg(all(feature = "timerfd", target_os = "linux"))]
        return Group::builder().timerfd();
        #[cfg(not(all(feature = "timerfd", target_os = "linux")))]
        return Group::builder();
    }
}

impl<S: Setting> Ours<S> {
    fn group(&self) -> &Group {
        if S::GROUPS == 1 {
            return &self.groups[0];
        }
        &self.groups[self.turn.fetch_add(1, Relaxed) % S::GROUPS]
    }
}

impl<S: Setting> Contender for Ours<S> {
    type Key = JobHandle;
    const KEEPS: bool = S::KEEPS;

    fn new() -> Self {
        Ours {
            groups: (0..S::GROUPS).map(|_| S::builder().build()).collect(),
            turn: AtomicUsize::new(0),
            setting: PhantomData,
        }
    }

    fn schedule(&self, at: Instant, job: impl Future<Output = ()> + Send + 'static) -> JobHandle {
        self.group().schedule(at, job)
    }

    fn cancel(&self, key: &JobHandle) {
        key.cancel();
    }

    fn reset(
        &self,
        key: &mut JobHandle,
        at: Instant,
        _job: impl Future<Output = ()> + Send + 'static,
    ) {
        key.reset_at(at);
    }

    fn repeat<J>(&self, first: Instant, period: Duration, job: fn() -> J)
    where
        J: Future<Output = ()> + Send + 'static,
    {
        self.group().repeat(first, move |context| async move {
            job().await;
            Next::At(context.deadline() + period)
        });
    }

    async fn wait(self) {
        for group in &self.groups {
            group.wait().await.unwrap();
        }
    }

    async fn cancel_all(self) {
        for group in &self.groups {
            group.cancel();
        }
        for group in &self.groups {
            // Ends when all that jobs held has been dropped.
            group.shutdown(Duration::MAX).await;
        }
    }

    fn turns(&self) -> Option<u64> {
        let wakeups = self.groups.iter().map(|group| group.stats().driver_wakeups);
        Some(wakeups.sum())
    }
}
