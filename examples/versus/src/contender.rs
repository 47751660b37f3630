//! Who is compared: the ways to run many jobs at their times, behind one small trait.

use std::future::{Future, poll_fn};
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};

use schedgroup::{Group, JobHandle};
use tokio::task::{AbortHandle, JoinHandle, JoinSet};
use tokio::time::{Instant, sleep_until};
use tokio_util::task::TaskTracker;
use tokio_util::time::{DelayQueue, delay_queue};

pub(crate) type Boxed = Pin<Box<dyn Future<Output = ()> + Send>>;

pub(crate) trait Contender: Send + Sync + 'static {
    /// What speaks for one job.
    type Key: Send + 'static;
    /// Are keys kept until the job has ended?
    const KEEPS: bool = false;
    /// Can the whole be cancelled?
    const CANCELS_ALL: bool = true;

    fn new() -> Self;
    fn schedule(&self, at: Instant, job: impl Future<Output = ()> + Send + 'static) -> Self::Key;
    fn cancel(&self, key: &Self::Key);
    /// Moves a job that is pending; the job is handed in for those who can only start anew.
    fn reset(
        &self,
        key: &mut Self::Key,
        at: Instant,
        job: impl Future<Output = ()> + Send + 'static,
    );
    fn wait(self) -> impl Future<Output = ()> + Send;
    /// Never called for those that [cannot](Contender::CANCELS_ALL).
    fn cancel_all(self) -> impl Future<Output = ()> + Send
    where
        Self: Sized,
    {
        self.wait()
    }
    /// How often the driver was awake, if there is one that counts it.
    fn turns(&self) -> Option<u64> {
        None
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
        // Those that have ended would pile up.
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
    const CANCELS_ALL: bool = false;

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

    async fn wait(self) {
        self.0.close();
        self.0.wait().await;
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
        let job = Box::pin(job);
        self.shared.state.lock().unwrap().queue.insert_at(job, at)
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

/// Ours.
pub(crate) struct Ours<S: Setting>(Group, PhantomData<S>);

/// How ours is set up and used.
pub(crate) trait Setting: Send + Sync + 'static {
    const KEEPS: bool = false;

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

impl<S: Setting> Contender for Ours<S> {
    type Key = JobHandle;
    const KEEPS: bool = S::KEEPS;

    fn new() -> Self {
        Ours(S::builder().build(), PhantomData)
    }

    fn schedule(&self, at: Instant, job: impl Future<Output = ()> + Send + 'static) -> JobHandle {
        self.0.schedule(at, job)
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

    async fn wait(self) {
        self.0.wait().await.unwrap();
    }

    async fn cancel_all(self) {
        self.0.cancel();
        // Ends when all that jobs held has been dropped.
        self.0.shutdown(std::time::Duration::MAX).await;
    }

    fn turns(&self) -> Option<u64> {
        Some(self.0.stats().driver_wakeups)
    }
}
