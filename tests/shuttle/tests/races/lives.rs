//! Whole lives of groups: jobs that call anything themselves, beside threads that do too, and then any of the ends.

use std::future::poll_fn;
use std::panic::resume_unwind;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};
use std::time::Duration;

use schedgroup::{
    CancellationToken, Group, Handle, JobContext, JobError, JobHandle, JobState, JoinHandle, Next,
    Report, Stats, WaitError,
};
use shuttle::rand::{Rng, thread_rng};
use shuttle::{future, thread};
use tokio::time::Instant;

use crate::{NEVER, NOW, explore};

pub(crate) fn random(below: usize) -> usize {
    thread_rng().gen_range(0..below)
}

pub(crate) fn when() -> Duration {
    if random(4) == 0 { NEVER } else { NOW }
}

/// Whether what is due at that instant is due never.
pub(crate) fn is_far(at: Instant) -> bool {
    at > Instant::now() + Duration::from_secs(1)
}

// The locks of the standard library here are never held where shuttle switches to another thread.
/// Where jobs wait until they are woken.
#[derive(Default)]
pub(crate) struct Gate(Mutex<(bool, Vec<Waker>)>);

impl Gate {
    /// Wakes those that wait. Nobody waits any more if it is `for_ever`.
    pub(crate) fn open(&self, for_ever: bool) {
        let wakers = {
            let mut gate = self.0.lock().unwrap();
            gate.0 |= for_ever;
            std::mem::take(&mut gate.1)
        };
        wakers.into_iter().for_each(Waker::wake);
    }

    pub(crate) async fn pass(&self) {
        let mut waited = false;
        poll_fn(|cx| {
            let mut gate = self.0.lock().unwrap();
            if gate.0 || std::mem::replace(&mut waited, true) {
                return Poll::Ready(());
            }
            gate.1.push(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }
}

/// Things that one thread leaves for another.
struct Pool<T>(Mutex<Vec<T>>);

impl<T> Default for Pool<T> {
    fn default() -> Pool<T> {
        Pool(Mutex::default())
    }
}

impl<T> Pool<T> {
    fn push(&self, value: T) {
        self.0.lock().unwrap().push(value);
    }

    fn pop(&self) -> Option<T> {
        self.0.lock().unwrap().pop()
    }

    fn take(&self) -> Vec<T> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

#[derive(Default)]
struct World {
    limit: usize,
    panics: bool,
    running: AtomicUsize,
    /// The jobs that were made, and how many of them are gone.
    made: AtomicUsize,
    gone: AtomicUsize,
    /// No job may start or go on any more.
    over: AtomicBool,
    done: AtomicBool,
    jobs: Pool<Arc<Job>>,
    joins: Pool<JoinHandle<()>>,
    handles: Pool<Handle>,
    contexts: Pool<JobContext>,
    gate: Gate,
}

struct Job {
    handle: JobHandle,
    counts: Arc<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    is_series: bool,
    runs: AtomicUsize,
    cancels: AtomicUsize,
}

/// What a job holds. Its drop may call the group back.
struct Held(Arc<World>);

impl Drop for Held {
    fn drop(&mut self) {
        if random(4) == 0 {
            thread::yield_now();
            if let Some(handle) = self.0.handles.pop() {
                self.0.call(&handle, DEEPEST);
            }
        }
        self.0.gone.fetch_add(1, SeqCst);
    }
}

/// A run that goes on, until it is dropped.
struct Run(Arc<World>);

impl Run {
    fn begin(world: &Arc<World>, counts: &Counts) -> Run {
        counts.runs.fetch_add(1, SeqCst);
        let before = world.running.fetch_add(1, SeqCst);
        assert!(before < world.limit, "{before} of {}", world.limit);
        Run(Arc::clone(world))
    }

    async fn go(self, context: Option<JobContext>, depth: usize) {
        let world = &self.0;
        for _ in 0..random(4) {
            assert!(!world.over.load(SeqCst), "it goes on after the end");
            match (random(9), &context) {
                (0 | 1, _) => future::yield_now().await,
                (2 | 3, _) => world.gate.pass().await,
                (4, _) if world.panics && random(3) == 0 => resume_unwind(Box::new("planned")),
                (5, Some(context)) => world.contexts.push(context.clone()),
                (_, Some(context)) => world.call(&context.handle(), depth),
                _ => thread::yield_now(),
            }
        }
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, SeqCst);
    }
}

/// Jobs are scheduled by jobs up to this depth.
const DEEPEST: usize = 3;

impl World {
    fn schedule(self: &Arc<World>, group: &Handle, depth: usize) {
        if depth > DEEPEST {
            return;
        }
        self.made.fetch_add(1, SeqCst);
        let (kind, held) = (random(6), Held(Arc::clone(self)));
        let counts = Arc::new(Counts {
            is_series: kind == 2,
            ..Counts::default()
        });
        let of_run = Arc::clone(&counts);
        let once = move |held: Held, counts: Arc<Counts>, context| async move {
            let held = held;
            Run::begin(&held.0, &counts).go(context, depth).await;
        };
        let handle = match kind {
            0 => match group.try_delay(when(), once(held, of_run, None)) {
                Ok(job) => job,
                Err(rejected) => return drop(rejected),
            },
            1 => {
                let join = group.spawn_after(when(), once(held, of_run, None));
                let handle = join.job().clone();
                self.joins.push(match random(4) {
                    0 => join.abort_on_drop(),
                    _ => join,
                });
                handle
            }
            2 => group.repeat(Instant::now(), move |context| {
                let (run, number) = (Run::begin(&held.0, &of_run), context.run());
                async move {
                    run.go(Some(context), depth).await;
                    match number < 3 {
                        true => Next::After(when()),
                        false => Next::Done,
                    }
                }
            }),
            _ => group.delay_with(when(), move |context| once(held, of_run, Some(context))),
        };
        self.jobs.push(Arc::new(Job { handle, counts }));
    }

    fn call(self: &Arc<World>, group: &Handle, depth: usize) {
        let job = {
            let jobs = self.jobs.0.lock().unwrap();
            let index = random(jobs.len().max(1));
            jobs.get(index).cloned()
        };
        let Some(job) = job else {
            return;
        };
        let Job { handle, counts } = &*job;
        match random(14) {
            0 => {
                if handle.cancel() {
                    let before = counts.cancels.fetch_add(1, SeqCst);
                    assert_eq!(before, 0, "two prevented it");
                    let now = (counts.runs.load(SeqCst), handle.state());
                    assert!(counts.is_series || now == (0, JobState::Cancelled));
                }
            }
            1 => handle.abort(),
            2 => _ = handle.reset_after(when()),
            3 => _ = (handle.state(), handle.deadline()),
            4 => {
                let stats = group.stats();
                assert!(stats.waiting <= stats.pending, "{stats:?}");
                assert!(stats.running <= self.limit, "{stats:?}");
            }
            5 => drop(handle.clone()),
            6 => self.handles.push(group.clone()),
            7 => drop(self.handles.pop()),
            8 => {
                if let Some(context) = self.contexts.pop() {
                    self.schedule(&context.handle(), depth + 1);
                }
            }
            9 => self.gate.open(false),
            10 => drop(self.joins.pop()),
            _ => self.schedule(group, depth + 1),
        }
    }

    /// Makes what is due never due now. What is due already is left alone: to move it again and again would be a race
    /// with the workers without an end.
    fn hurry(&self) {
        let job = |index| self.jobs.0.lock().unwrap().get(index).cloned();
        for job in (0..).map_while(job) {
            let handle = &job.handle;
            if handle.state() == JobState::Pending && is_far(handle.deadline()) {
                handle.reset_after(NOW);
            }
        }
    }

    fn all_are_gone(&self) -> bool {
        let (gone, made) = (self.gone.load(SeqCst), self.made.load(SeqCst));
        gone == made && self.running.load(SeqCst) == 0
    }

    /// Checks the jobs after the end of their group.
    async fn check(&self, is_gone: bool) {
        assert!(self.all_are_gone());
        for join in self.joins.take() {
            let job = join.job().clone();
            let state = match join.await {
                Ok(()) => JobState::Finished,
                Err(JobError::Cancelled) => JobState::Cancelled,
                Err(_) => JobState::Panicked,
            };
            assert_eq!(job.state(), state);
        }
        for job in self.jobs.take() {
            // The end of a job is recorded after its values were dropped.
            while is_gone && !job.handle.is_finished() {
                thread::yield_now();
            }
            let (state, counts) = (job.handle.state(), &job.counts);
            let runs = counts.runs.load(SeqCst);
            match state {
                JobState::Finished | JobState::Panicked => assert!(runs > 0, "{counts:?}"),
                _ => assert_eq!(state, JobState::Cancelled),
            }
            let is_prevented = counts.cancels.load(SeqCst) > 0;
            let most = usize::from(!is_prevented);
            assert!(counts.is_series || runs <= most, "{counts:?}");
        }
        drop((self.handles.take(), self.contexts.take()));
    }
}

/// Closes a group with a grace, and compares the report with its counts.
async fn report(group: &Group, end: impl Future<Output = Report>, before: u64) -> Report {
    let ended = |stats: Stats| stats.finished + stats.cancelled + stats.panicked;
    // The group was closed in between.
    let after = ended(group.stats());
    let report = end.await;
    let all = ended(group.stats());
    let held = (report.finished + report.aborted + report.dropped) as u64;
    assert!(
        (all - after..=all - before).contains(&held),
        "{report:?} of {all}, {before} to {after} ended before"
    );
    report
}

pub(crate) async fn end(group: &Group, kind: usize, grace: Duration, panics: bool) {
    let ended = || {
        let stats = group.stats();
        stats.finished + stats.cancelled + stats.panicked
    };
    let waited = match kind {
        0 => {
            let mut wait = group.wait();
            let polled = poll_fn(|cx| Poll::Ready(Pin::new(&mut wait).poll(cx))).await;
            drop(wait);
            let waited = match polled {
                Poll::Ready(waited) => waited,
                Poll::Pending => group.wait().await,
            };
            assert!(!matches!(waited, Err(WaitError::Cancelled)));
            waited
        }
        1 => {
            let before = ended();
            let report = report(group, group.drain(grace), before).await;
            let waited = group.wait().await;
            let is_lost = matches!(waited, Err(WaitError::Cancelled));
            assert!(!is_lost || (grace == NOW && report.aborted + report.dropped > 0));
            waited
        }
        2 => {
            let wait = (random(2) == 0).then(|| group.wait());
            let before = ended();
            let report = report(group, group.shutdown(grace), before).await;
            let waited = match wait {
                Some(wait) => wait.await,
                None => group.wait().await,
            };
            let is_lost = matches!(waited, Err(WaitError::Cancelled));
            assert_eq!(is_lost, report.aborted + report.dropped > 0, "{report:?}");
            waited
        }
        _ => {
            match random(2) {
                0 => group.cancel(),
                _ => group.token().cancel(),
            }
            let waited = group.wait().await;
            assert!(matches!(waited, Err(WaitError::Cancelled)), "{waited:?}");
            group.drain(NEVER).await;
            waited
        }
    };
    match waited {
        Ok(()) => assert_eq!(group.stats().panicked, 0),
        Err(WaitError::Panicked(panic)) => assert!(panics && panic.message() == "planned"),
        Err(error) => assert!(matches!(error, WaitError::Cancelled)),
    }
}

async fn live(limit: usize, panics: bool) {
    let world = Arc::new(World {
        limit,
        panics,
        ..World::default()
    });
    let mut builder = Group::builder();
    if random(2) == 0 {
        builder = builder.token(CancellationToken::new());
    }
    if limit < usize::MAX {
        builder = builder.max_running(limit);
    }
    let group = builder.build();
    let handle = group.handle();
    (0..2 + random(4)).for_each(|_| world.schedule(&handle, 0));
    let threads: Vec<_> = (0..1 + random(2))
        .map(|_| {
            let (world, handle) = (Arc::clone(&world), handle.clone());
            thread::spawn(move || (0..3).for_each(|_| world.call(&handle, 1)))
        })
        .collect();
    drop(handle);
    let (kind, grace) = (random(6), [NOW, NEVER][random(2)]);
    let is_gone = kind > 3;
    // What waits at the gate then goes on only if it is aborted.
    let aborts = kind == 4 || ((kind == 1 || kind == 2) && grace == NOW);
    let world_of_closer = Arc::clone(&world);
    let closer = thread::spawn(move || {
        let world = world_of_closer;
        for thread in threads {
            thread.join().unwrap();
        }
        if !aborts {
            world.gate.open(true);
        }
        while !world.done.load(SeqCst) {
            world.hurry();
            thread::yield_now();
        }
    });
    match kind {
        4 => drop(group),
        5 => group.detach(),
        _ => {
            end(&group, kind, grace, panics).await;
            world.over.store(true, SeqCst);
            let stats = group.stats();
            assert_eq!((stats.pending, stats.running, stats.waiting), (0, 0, 0));
            assert!(group.jobs().is_empty());
        }
    }
    // A detached group goes on for its handles.
    while is_gone && !world.all_are_gone() {
        drop(world.handles.take());
        thread::yield_now();
    }
    world.done.store(true, SeqCst);
    closer.join().unwrap();
    while is_gone && !world.all_are_gone() {
        drop(world.handles.take());
        world.hurry();
        thread::yield_now();
    }
    world.check(is_gone).await;
}

#[test]
fn a_group_lives_and_ends_whatever_its_jobs_call() {
    explore(|| future::block_on(live(usize::MAX, false)));
}

#[test]
fn a_group_with_a_limit_lives_and_ends_whatever_its_jobs_call() {
    explore(|| future::block_on(live(1 + random(2), false)));
}

#[test]
fn a_group_lives_and_ends_whatever_its_jobs_call_though_some_panic() {
    explore(|| future::block_on(live([usize::MAX, 1, 2][random(3)], true)));
}
