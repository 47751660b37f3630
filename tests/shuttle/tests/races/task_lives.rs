//! Whole lives of groups of tasks: tasks that call anything themselves, beside threads that do too, and then any of the
//! ends. Each task is accounted for.

use std::future::poll_fn;
use std::panic::resume_unwind;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use schedgroup::task::{Cause, OnError, TaskGroup, TaskHandle, TaskStats};
use schedgroup::{Report, ScheduleError, TaskError};
use shuttle::{future, thread};

use crate::lives::{Gate, random};
use crate::{NEVER, NOW, explore};

/// No more tasks than this are made in one life.
const TASKS: usize = 24;
/// A grace whose timer fires at any time.
const SOON: Duration = Duration::from_millis(1);

/// An error. There are as many as the world has clones of the token.
type Fault = Arc<()>;
type Handle = TaskHandle<Fault>;
type Task = Pin<Box<dyn Future<Output = Result<(), Fault>> + Send>>;

/// What became of a task.
#[derive(Debug, Default)]
struct Fate {
    index: Option<usize>,
    /// How it ended by itself.
    end: Option<End>,
    /// Its destructor panicked.
    bombed: bool,
    /// The thread that drops it, or its `submit`, just now.
    dropped_by: Option<thread::ThreadId>,
    /// It was dropped so: the group has not counted it.
    came_back: bool,
    gone: bool,
}

#[derive(Debug, PartialEq)]
enum End {
    Finished,
    Failed,
    Panicked,
}

#[derive(Default)]
struct World {
    limit: usize,
    continues: bool,
    panics: bool,
    running: AtomicUsize,
    fates: Mutex<Vec<Fate>>,
    /// The tasks in the order of their starts.
    started: Mutex<Vec<usize>>,
    fault: Fault,
    is_cancelled: AtomicBool,
    /// No task may go on any more.
    over: AtomicBool,
    done: AtomicBool,
    handles: Mutex<Vec<Handle>>,
    gate: Gate,
}

/// What a task holds. Its drop may call the group back, and may panic.
struct Held(Arc<World>, usize);

impl Drop for Held {
    fn drop(&mut self) {
        let Held(world, number) = self;
        if random(4) == 0 {
            thread::yield_now();
            let handle = world.handles.lock().unwrap().pop();
            handle.iter().for_each(|handle| world.call(handle));
        }
        let may_panic = world.panics && random(6) == 0 && !std::thread::panicking();
        let panics = world.fate(*number, |fate| {
            assert!(!std::mem::replace(&mut fate.gone, true));
            fate.came_back = fate.dropped_by == Some(thread::current().id());
            fate.bombed = may_panic && !fate.came_back;
            fate.bombed
        });
        if panics {
            resume_unwind(Box::new("planned"));
        }
    }
}

/// A task that runs, until it is dropped.
struct Run(Arc<World>);

impl Drop for Run {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, SeqCst);
    }
}

/// A task that this thread drops, or its `submit`, which may have given it to the group.
struct Back<T>(Arc<World>, usize, Option<T>);

impl<T> Drop for Back<T> {
    fn drop(&mut self) {
        let Back(world, number, back) = self;
        world.fate(*number, |fate| {
            fate.dropped_by = Some(thread::current().id())
        });
        drop(back.take());
        world.fate(*number, |fate| fate.dropped_by = None);
    }
}

async fn run(held: Held, handle: Handle) -> Result<(), Fault> {
    let (world, number) = (&Arc::clone(&held.0), held.1);
    world.started.lock().unwrap().push(number);
    let before = world.running.fetch_add(1, SeqCst);
    assert!(before < world.limit, "{before} of {}", world.limit);
    let run = Run(Arc::clone(world));
    for _ in 0..random(4) {
        assert!(!world.over.load(SeqCst), "it goes on after the end");
        match random(8) {
            0 | 1 => future::yield_now().await,
            2 | 3 => world.gate.pass().await,
            4 if world.panics => {
                world.fate(number, |fate| fate.end = Some(End::Panicked));
                resume_unwind(Box::new("planned"));
            }
            5 => world.submit(&handle, 1 + random(3)).await,
            _ => world.call(&handle),
        }
    }
    drop(run);
    let fails = world.panics && random(3) == 0;
    let end = if fails { End::Failed } else { End::Finished };
    world.fate(number, |fate| fate.end = Some(end));
    drop(held);
    if fails {
        Err(world.fault.clone())
    } else {
        Ok(())
    }
}

impl World {
    fn fate<R>(&self, number: usize, change: impl FnOnce(&mut Fate) -> R) -> R {
        change(&mut self.fates.lock().unwrap()[number])
    }

    /// A new task, with its number.
    fn make(self: &Arc<World>, handle: &Handle) -> Option<(usize, Task)> {
        let mut fates = self.fates.lock().unwrap();
        let number = fates.len();
        if number == TASKS {
            return None;
        }
        fates.push(Fate::default());
        let held = Held(Arc::clone(self), number);
        Some((number, Box::pin(run(held, handle.clone()))))
    }

    /// Polls a submit so many times, by more than one waker.
    async fn submit(self: &Arc<World>, handle: &Handle, most: usize) {
        let Some((number, task)) = self.make(handle) else {
            return;
        };
        let submit = Box::pin(handle.submit(task));
        let mut submit = Back(Arc::clone(self), number, Some(submit));
        let mut polls = 0;
        let submitted = poll_fn(|cx| {
            let submit = submit.2.as_mut().unwrap();
            let mut other = Context::from_waker(Waker::noop());
            let mut polled = Poll::Pending;
            if random(3) == 0 {
                polled = submit.as_mut().poll(&mut other);
            }
            if polled.is_pending() {
                polled = submit.as_mut().poll(cx);
            }
            polls += 1;
            match polled {
                Poll::Ready(submitted) => return Poll::Ready(Some(submitted)),
                Poll::Pending if polls == most => return Poll::Ready(None),
                Poll::Pending if most < usize::MAX => cx.waker().wake_by_ref(),
                Poll::Pending => {}
            }
            Poll::Pending
        })
        .await;
        if let Some(submitted) = submitted {
            self.answer(number, submitted);
        }
    }

    fn answer(self: &Arc<World>, number: usize, answer: Result<usize, ScheduleError<Task>>) {
        match answer {
            Ok(index) => self.fate(number, |fate| fate.index = Some(index)),
            Err(error) => {
                assert!(!self.fate(number, |fate| fate.gone), "it comes back whole");
                drop(Back(Arc::clone(self), number, Some(error)));
            }
        }
    }

    fn call(self: &Arc<World>, handle: &Handle) {
        match random(15) {
            0 => self.gate.open(false),
            1 => {
                let stats = handle.stats();
                assert!(stats.running <= self.limit, "{stats:?}");
            }
            2 | 3 => {
                let clone = handle.clone();
                self.handles.lock().unwrap().push(clone);
            }
            4 if random(6) == 0 => {
                self.is_cancelled.store(true, SeqCst);
                match random(3) {
                    0 => handle.token().cancel(),
                    1 => handle.cancel(),
                    _ => handle.abort(),
                }
            }
            kind @ 5.. => {
                let Some((number, task)) = self.make(handle) else {
                    return;
                };
                let answer = match kind {
                    5 | 6 => handle.try_spawn(task),
                    _ => Ok(handle.spawn(task)),
                };
                self.answer(number, answer);
            }
            _ => {}
        }
    }

    fn is_gone(&self) -> bool {
        let fates = self.fates.lock().unwrap();
        fates.iter().all(|fate| fate.gone) && Arc::strong_count(&self.fault) == 1
    }

    /// Checks the counts after the end, when no thread calls the group any more.
    fn check(&self, stats: TaskStats) {
        assert_eq!((stats.pending, stats.running), (0, 0), "{stats:?}");
        assert!(self.is_gone() && self.running.load(SeqCst) == 0);
        let fates = self.fates.lock().unwrap();
        let count = |is: fn(&Fate) -> bool| fates.iter().filter(|fate| is(fate)).count() as u64;
        let finished = count(|fate| fate.end == Some(End::Finished) && !fate.bombed);
        let failed = count(|fate| fate.end == Some(End::Failed) && !fate.bombed);
        let panicked = count(|fate| fate.end.is_some()) - finished - failed;
        // Those that never started are skipped.
        let stopped = count(|fate| fate.end.is_none() && fate.bombed);
        assert_eq!(
            (stats.finished, stats.failed),
            (finished, failed),
            "{stats:?} {fates:?}"
        );
        assert!(
            (panicked..=panicked + stopped).contains(&stats.panicked),
            "{stats:?} {fates:?}"
        );
        let counted = count(|fate| !fate.came_back);
        assert_eq!(ended(stats) + stats.skipped, counted, "{stats:?} {fates:?}");
        let mut indices: Vec<_> = fates.iter().filter_map(|fate| fate.index).collect();
        let started = self.started.lock().unwrap();
        let started = started.iter().filter_map(|&number| fates[number].index);
        assert!(self.limit > 1 || started.is_sorted(), "{fates:?}");
        indices.sort_unstable();
        assert!(indices.is_sorted_by(|a, b| a < b), "{indices:?}");
        assert!(indices.last().is_none_or(|&last| last < fates.len()));
    }

    /// Checks what `wait` says; nothing else has ended the group if it `covers` all.
    fn check_wait(&self, cause: Cause, waited: Result<TaskStats, TaskError<Fault>>, covers: bool) {
        let is_free = !covers || self.is_cancelled.load(SeqCst);
        match (waited, cause) {
            (Ok(stats), _) => assert_eq!(ended(stats) + stats.skipped, stats.finished),
            (Err(TaskError::Cancelled), _) => assert!(is_free, "{cause:?}"),
            (Err(error), Cause::Failed { index } | Cause::Panicked { index }) => {
                assert_eq!(error.index(), Some(index));
            }
            _ => assert!(is_free || self.continues, "{cause:?}"),
        }
    }
}

fn ended(stats: TaskStats) -> u64 {
    stats.finished + stats.failed + stats.panicked + stats.aborted
}

/// Polls by another waker first.
async fn poll_twice<F: Future + Unpin>(mut future: F) -> F::Output {
    let mut other = Context::from_waker(Waker::noop());
    match Pin::new(&mut future).poll(&mut other) {
        Poll::Ready(output) => output,
        Poll::Pending => future.await,
    }
}

async fn end(world: &World, group: &TaskGroup<Fault>, kind: usize, grace: Duration) {
    let before = group.stats();
    let check = |report: Report, closed: TaskStats| {
        let (held, stats) = ((report.finished + report.aborted) as u64, group.stats());
        let most = ended(stats) - ended(before);
        assert!((ended(stats) - ended(closed)..=most).contains(&held));
        assert!(
            report.dropped as u64 <= stats.skipped,
            "{report:?} {stats:?}"
        );
    };
    let waited = match kind {
        0 => {
            let mut wait = group.wait();
            let polled = poll_fn(|cx| Poll::Ready(Pin::new(&mut wait).poll(cx))).await;
            drop(wait);
            match polled {
                Poll::Ready(waited) => waited,
                Poll::Pending => poll_twice(group.wait()).await,
            }
        }
        1 => {
            let (drain, closed) = (group.drain(grace), group.stats());
            let wait = group.wait();
            check(poll_twice(drain).await, closed);
            wait.await
        }
        2 => {
            let (shutdown, closed) = (group.shutdown(grace), group.stats());
            check(poll_twice(shutdown).await, closed);
            group.wait().await
        }
        3 => {
            let (drain, wait) = (group.drain(SOON), group.wait());
            drop(group.drain(NEVER));
            group.shutdown(grace).await;
            drain.await;
            wait.await
        }
        _ => {
            world.is_cancelled.store(true, SeqCst);
            match kind {
                4 => group.cancel(),
                _ => group.abort(),
            }
            group.wait().await
        }
    };
    let cause = group.cause().expect("it has ended");
    world.check_wait(cause, waited, kind == 0);
    world.over.store(true, SeqCst);
    assert_eq!((group.stats().pending, group.stats().running), (0, 0));
}

async fn live(panics: bool) {
    let policy = [OnError::Abort, OnError::Cancel, OnError::Continue][random(3)];
    let world = Arc::new(World {
        limit: [usize::MAX, 1, 1, 2][random(4)],
        continues: policy == OnError::Continue,
        panics,
        ..World::default()
    });
    let builder = TaskGroup::builder().queue(random(3)).on_error(policy);
    let group = builder.limit(world.limit).build();
    let handle = group.handle();
    (0..2 + random(4)).for_each(|_| world.call(&handle));
    let mut threads: Vec<_> = (0..1 + random(2))
        .map(|_| {
            let (world, handle) = (Arc::clone(&world), handle.clone());
            thread::spawn(move || {
                (0..3).for_each(|_| match random(4) {
                    0 => future::block_on(world.submit(&handle, usize::MAX)),
                    1 => future::block_on(world.submit(&handle, 1 + random(2))),
                    _ => world.call(&handle),
                });
            })
        })
        .collect();
    let (kind, grace) = (random(7), [NOW, SOON, NEVER][random(3)]);
    // What waits at the gate then goes on only if it is aborted.
    let aborts = kind > 4 || ((1..4).contains(&kind) && grace < NEVER);
    let of_closer = Arc::clone(&world);
    let closer = thread::spawn(move || {
        while !of_closer.done.load(SeqCst) {
            if !aborts {
                of_closer.gate.open(false);
            }
            thread::yield_now();
        }
    });
    // Then the end of the group does not wake their submits.
    if random(2) == 0 && !aborts {
        threads.drain(..).for_each(|thread| thread.join().unwrap());
    }
    match kind {
        6 => drop(group),
        _ => end(&world, &group, kind, grace).await,
    }
    threads
        .into_iter()
        .for_each(|thread| thread.join().unwrap());
    // A group that was dropped is not waited for.
    while kind == 6 && (!world.is_gone() || handle.stats().running > 0) {
        thread::yield_now();
    }
    world.done.store(true, SeqCst);
    closer.join().unwrap();
    drop(std::mem::take(&mut *world.handles.lock().unwrap()));
    world.check(handle.stats());
}

#[test]
fn a_group_of_tasks_lives_and_ends_whatever_its_tasks_call() {
    explore(|| future::block_on(live(false)));
}

#[test]
fn a_group_of_tasks_lives_and_ends_whatever_its_tasks_call_though_some_fail() {
    explore(|| future::block_on(live(true)));
}
