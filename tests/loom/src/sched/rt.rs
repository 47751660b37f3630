//! loom's locks, and a runtime that does what the group relies on of tokio's: a task is polled by one thread
//! at a time, a wake-up is never lost, and a runtime that goes drops all of them.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

use loom::sync::Condvar;
pub(super) use loom::sync::atomic::{AtomicU8, AtomicU32, AtomicUsize};
pub(super) use loom::sync::{Mutex, MutexGuard};

type Code = Pin<Box<dyn Future<Output = ()> + Send>>;

#[derive(Clone)]
pub(super) struct Runtime(Arc<Threads>);

/// What its threads share: `called` is notified when there is something to look at.
struct Threads {
    tasks: Mutex<Tasks>,
    called: Condvar,
}

#[derive(Default)]
struct Tasks {
    ready: VecDeque<Arc<Task>>,
    alive: Vec<Arc<Task>>,
    /// Threads go when no task is alive.
    closed: bool,
    /// The runtime has gone, and its tasks with it.
    gone: bool,
}

struct Task {
    threads: Arc<Threads>,
    // Both are looked at under the lock of the tasks, or by the thread that polls; so nothing ever waits here.
    stage: std::sync::Mutex<Stage>,
    code: std::sync::Mutex<Option<Code>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Idle,
    /// In the run queue.
    Ready,
    Polled,
    /// The same, and to be polled again.
    Woken,
    Ended,
}

impl Task {
    fn stage(&self) -> Stage {
        *self.stage.lock().unwrap()
    }

    fn set(&self, stage: Stage) {
        *self.stage.lock().unwrap() = stage;
    }

    fn take(&self) -> Option<Code> {
        self.code.lock().unwrap().take()
    }
}

impl Threads {
    fn call(&self, task: &Arc<Task>) {
        let mut tasks = self.tasks.lock().unwrap();
        match task.stage() {
            Stage::Idle => {
                task.set(Stage::Ready);
                tasks.ready.push_back(Arc::clone(task));
                self.called.notify_one();
            }
            Stage::Polled => task.set(Stage::Woken),
            Stage::Ready | Stage::Woken | Stage::Ended => {}
        }
    }

    /// Polls or drops a task that was taken out of the run queue.
    fn poll(&self, task: &Arc<Task>) {
        let mut code = task.take();
        let waker = Waker::from(Arc::clone(task));
        let polled = code.as_mut().expect("it has not ended");
        let polled = polled.as_mut().poll(&mut Context::from_waker(&waker));
        let ended = polled != Poll::Pending;
        if ended {
            drop(code.take());
        }
        *task.code.lock().unwrap() = code;
        let mut tasks = self.tasks.lock().unwrap();
        if ended || tasks.gone {
            task.set(Stage::Ended);
            tasks.alive.retain(|other| !Arc::ptr_eq(other, task));
            self.called.notify_all();
        } else if task.stage() == Stage::Woken {
            task.set(Stage::Ready);
            tasks.ready.push_back(Arc::clone(task));
            self.called.notify_one();
        } else {
            task.set(Stage::Idle);
        }
        drop(tasks);
        if task.stage() == Stage::Ended {
            drop(task.take());
        }
    }
}

impl Runtime {
    pub(super) fn new() -> Runtime {
        Runtime(Arc::new(Threads {
            tasks: Mutex::default(),
            called: Condvar::new(),
        }))
    }

    pub(super) fn spawn(&self, code: impl Future<Output = ()> + Send + 'static) {
        let task = Arc::new(Task {
            threads: Arc::clone(&self.0),
            stage: std::sync::Mutex::new(Stage::Ready),
            code: std::sync::Mutex::new(Some(Box::pin(code))),
        });
        let mut tasks = self.0.tasks.lock().unwrap();
        if tasks.gone {
            drop(tasks);
            task.set(Stage::Ended);
            drop(task.take());
        } else {
            tasks.alive.push(Arc::clone(&task));
            tasks.ready.push_back(Arc::clone(&task));
            self.0.called.notify_one();
        }
    }

    /// What a thread of the runtime does until it is closed and no task is alive.
    pub(super) fn run(&self) {
        let mut tasks = self.0.tasks.lock().unwrap();
        loop {
            if let Some(task) = Self::next(&mut tasks) {
                drop(tasks);
                self.0.poll(&task);
                tasks = self.0.tasks.lock().unwrap();
            } else if tasks.gone || (tasks.closed && tasks.alive.is_empty()) {
                return;
            } else {
                tasks = self.0.called.wait(tasks).unwrap();
            }
        }
    }

    /// Polls what is ready until nothing is, in this thread.
    pub(super) fn run_ready(&self) {
        while let Some(task) = { Self::next(&mut self.0.tasks.lock().unwrap()) } {
            self.0.poll(&task);
        }
    }

    fn next(tasks: &mut Tasks) -> Option<Arc<Task>> {
        let task = tasks.ready.pop_front()?;
        task.set(Stage::Polled);
        Some(task)
    }

    /// No thread stays longer than the tasks.
    pub(super) fn close(&self) {
        self.0.tasks.lock().unwrap().closed = true;
        self.0.called.notify_all();
    }

    /// The runtime goes: what is not being polled is dropped here, the oldest first as in tokio's lists, and the rest after its poll.
    pub(super) fn shut_down(&self) {
        let mut tasks = self.0.tasks.lock().unwrap();
        tasks.gone = true;
        tasks.ready.clear();
        let idle = |task: &Arc<Task>| matches!(task.stage(), Stage::Idle | Stage::Ready);
        let (dropped, alive) = std::mem::take(&mut tasks.alive)
            .into_iter()
            .partition::<Vec<_>, _>(idle);
        tasks.alive = alive;
        dropped.iter().for_each(|task| task.set(Stage::Ended));
        self.0.called.notify_all();
        drop(tasks);
        dropped.iter().for_each(|task| drop(task.take()));
    }
}

impl Wake for Task {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.threads.call(self);
    }
}
