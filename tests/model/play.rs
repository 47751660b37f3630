//! A history played on a real group, step by step beside the oracle.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use schedgroup::{
    Group, Handle, JobContext, JobError, JobHandle, JobState, JoinHandle, Next, Report,
    ScheduleError, WaitError,
};
use tokio::time::{Instant, sleep_until};

use crate::common::{Flag, Guard, alive_tasks, paused};
use crate::history::{Act, End, History, Job, Kind, MS, NEVER, Op, ROUND, When, acts, wakes};
use crate::oracle::{Counts, Oracle, Record, Reported, Waited};

/// No deadline but `When::Never` is so far away.
const FAR: u64 = 100 * 365 * 86_400 * 1000 * MS;

/// One job that was submitted.
struct Entry {
    handle: Option<JobHandle>,
    joined: Option<JoinHandle<usize>>,
    freed: Flag,
}

/// What the jobs and the history share: the clock, and what is written down.
#[derive(Clone)]
struct Tape {
    origin: Instant,
    records: Arc<Mutex<Vec<Record>>>,
    jobs: Arc<Mutex<Vec<Entry>>>,
}

/// Through what an act reaches the group.
#[derive(Clone, Copy)]
enum Via<'a> {
    Group(&'a Group),
    Handle(&'a Handle),
    Context(&'a JobContext),
}

impl Tape {
    fn now(&self) -> u64 {
        self.nanos(Instant::now())
    }

    fn nanos(&self, at: Instant) -> u64 {
        at.duration_since(self.origin).as_nanos() as u64
    }

    fn instant(&self, at: u64) -> Instant {
        self.origin + Duration::from_nanos(at)
    }

    /// As a delay, if that is the way to say it.
    fn delay(&self, when: When, relative: bool) -> Option<Duration> {
        match when.after(self.now()) {
            NEVER => Some(Duration::MAX),
            at if relative => Some(Duration::from_nanos(at - self.now())),
            _ => None,
        }
    }

    fn at(&self, when: When) -> Instant {
        self.instant(when.after(self.now()))
    }

    fn write(&self, record: Record) {
        self.records.lock().unwrap().push(record);
    }

    /// A handle on that job, and its number. It is a clone, so that no job is called while the list of
    /// them is locked.
    fn target(&self, number: usize) -> Option<(usize, JobHandle, Flag)> {
        let jobs = self.jobs.lock().unwrap();
        let index = number.checked_rem(jobs.len())?;
        let entry = &jobs[index];
        Some((index, entry.handle.clone()?, entry.freed.clone()))
    }

    fn act(&self, via: Via<'_>, closed: bool, act: &Act) {
        match act {
            Act::Submit(job) => self.submit(via, closed, job),
            Act::CancelGroup => match via {
                Via::Group(group) => group.cancel(),
                Via::Context(context) => context.token().cancel(),
                Via::Handle(_) => {}
            },
            Act::Cancel(job) => {
                if let Some((job, handle, flag)) = self.target(*job) {
                    let answer = handle.cancel();
                    let freed = answer && flag.drops() == 1;
                    self.write(Record::Cancelled { job, answer, freed });
                }
            }
            Act::Reset {
                job,
                when,
                relative,
            } => {
                if let Some((job, handle, _)) = self.target(*job) {
                    let answer = match self.delay(*when, *relative) {
                        Some(delay) => handle.reset_after(delay),
                        None => handle.reset_at(self.at(*when)),
                    };
                    self.write(Record::Reset { job, answer });
                }
            }
            Act::Abort(job) => {
                if let Some((_, handle, _)) = self.target(*job) {
                    handle.abort();
                }
            }
        }
    }

    fn submit(&self, via: Via<'_>, closed: bool, job: &Arc<Job>) {
        let index = self.jobs.lock().unwrap().len();
        let freed = Flag::new();
        let guard = freed.guard();
        let mut joined = None;
        // After `wait` or `shutdown` anything but a `try_` form is misuse.
        let kind = if closed { Kind::Try } else { job.kind };
        let (job, tape) = (Arc::clone(job), self.clone());
        let delay = self.delay(job.when, job.relative);
        let plain = {
            let (job, tape) = (Arc::clone(&job), tape.clone());
            move |guard| play(tape, job, index, None, guard)
        };
        // The three have the same methods by design, and no trait in common.
        macro_rules! submit {
            ($via:expr) => {
                match (kind, delay) {
                    (Kind::Plain, Some(delay)) => Some($via.delay(delay, plain(guard))),
                    (Kind::Plain, None) => Some($via.schedule(self.at(job.when), plain(guard))),
                    (Kind::Try, Some(delay)) => $via.try_delay(delay, plain(guard)).ok(),
                    (Kind::Try, None) => $via.try_schedule(self.at(job.when), plain(guard)).ok(),
                    (Kind::Context, Some(delay)) => Some($via.delay_with(delay, {
                        move |context| play(tape, job, index, Some(context), guard)
                    })),
                    (Kind::Context, None) => Some($via.schedule_with(self.at(job.when), {
                        move |context| play(tape, job, index, Some(context), guard)
                    })),
                    (Kind::Joined, _) => {
                        let future = async move {
                            plain(guard).await;
                            index
                        };
                        let handle = match delay {
                            Some(delay) => $via.spawn_after(delay, future),
                            None => $via.spawn_at(self.at(job.when), future),
                        };
                        let job = handle.job().clone();
                        joined = Some(handle);
                        Some(job)
                    }
                    (Kind::Series, _) => {
                        let first = match delay {
                            Some(Duration::MAX) => self.instant(2 * FAR),
                            _ => self.at(job.when),
                        };
                        Some($via.repeat(first, move |context| {
                            let _ = &guard;
                            let (tape, job) = (tape.clone(), Arc::clone(&job));
                            async move { run(&tape, &job, index, Some(&context)).await }
                        }))
                    }
                }
            };
        }
        let handle = match via {
            Via::Group(group) => submit!(group),
            Via::Handle(handle) => submit!(handle),
            Via::Context(context) => submit!(context),
        };
        let accepted = handle.as_ref().is_some_and(|handle| !handle.is_finished());
        self.write(Record::Submitted {
            job: index,
            accepted,
        });
        self.jobs.lock().unwrap().push(Entry {
            handle,
            joined,
            freed,
        });
    }
}

/// The future of a job that is no series; it holds the guard from its making to its end.
async fn play(tape: Tape, job: Arc<Job>, index: usize, context: Option<JobContext>, guard: Guard) {
    run(&tape, &job, index, context.as_ref()).await;
    drop(guard);
}

/// One run.
async fn run(tape: &Tape, job: &Job, index: usize, context: Option<&JobContext>) -> Next {
    let now = tape.now();
    tape.write(Record::Started {
        job: index,
        at: now,
        told: context.map(|context| {
            (
                context.run(),
                tape.nanos(context.deadline()),
                context.lateness().as_nanos() as u64,
                context.is_draining(),
            )
        }),
    });
    let run = job.run(context.map_or(1, |context| context.run()));
    if let Some(context) = context {
        for act in &run.acts {
            tape.act(Via::Context(context), false, act);
        }
    }
    if let Some(rounds) = run.sleep {
        sleep_until(tape.instant(wakes(index, rounds, now))).await;
    }
    match run.end {
        End::Done => Next::Done,
        // Past the panic hook, which would print it.
        End::Panic => std::panic::resume_unwind(Box::new(format!("panic of job {index}"))),
        End::Again { when, relative } => match tape.delay(when, relative) {
            Some(delay) => Next::After(delay),
            None => Next::At(tape.at(when)),
        },
    }
}

type Waiting = Pin<Box<dyn Future<Output = Result<(), WaitError>>>>;

/// A call of `wait`, `drain` or `shutdown`, polled by the history whenever it passes time.
struct Call<T> {
    future: Option<Pin<Box<dyn Future<Output = T>>>>,
    result: Option<(T, u64)>,
}

impl<T> Call<T> {
    fn none() -> Call<T> {
        Call {
            future: None,
            result: None,
        }
    }

    fn poll(&mut self, cx: &mut std::task::Context<'_>, now: u64) {
        if let Some(future) = &mut self.future {
            if let Poll::Ready(result) = future.as_mut().poll(cx) {
                self.future = None;
                self.result = Some((result, now));
            }
        }
    }
}

struct Player {
    tape: Tape,
    group: Option<Arc<Group>>,
    handle: Handle,
    wait: Call<Result<(), WaitError>>,
    drain: Call<Report>,
    shutdown: Call<Report>,
    oracle: Oracle,
}

/// Plays a history on a runtime of its own; panics where group and oracle differ.
pub(crate) fn perform(history: &History) {
    let runtime = paused();
    let player = runtime.block_on(play_ops(history));
    if history.runtime_ends {
        drop(runtime);
        player.outlive();
    } else {
        runtime.block_on(player.finish());
    }
}

async fn play_ops(history: &History) -> Player {
    let origin = Instant::now();
    let tape = Tape {
        origin,
        records: Arc::default(),
        jobs: Arc::default(),
    };
    // So that there is a past.
    sleep_until(tape.instant(acts(1, 0))).await;
    let mut builder = Group::builder();
    if let Some(limit) = history.limit {
        builder = builder.max_running(limit);
    }
    let oracle = Oracle::new(history, tape.now());
    if let Some(deadline) = history.deadline {
        builder = builder.deadline(tape.at(deadline));
    }
    let group = Arc::new(builder.build());
    let mut player = Player {
        tape,
        handle: group.handle(),
        group: Some(group),
        wait: Call::none(),
        drain: Call::none(),
        shutdown: Call::none(),
        oracle,
    };
    if matches!(history.deadline, Some(When::Ago(_))) {
        // Until the group has noticed, what it answers is a race.
        player.step(&Op::Advance(1)).await;
    }
    for op in &history.ops {
        player.step(op).await;
    }
    player
}

impl Player {
    async fn step(&mut self, op: &Op) {
        if self.oracle.passes_over(op) {
            return;
        }
        let closed = self.oracle.is_closed();
        let went_on = !self.oracle.is_ended();
        self.oracle.apply(op);
        self.apply(op, closed).await;
        // What the history does next, before the driver or an aborted job has noticed, is a race.
        let ended = went_on && self.oracle.is_ended();
        let stops = matches!(
            op,
            Op::Act(Act::Abort(_)) | Op::Jump(_) | Op::Drain(_) | Op::Shutdown(_) | Op::DropGroup
        );
        if ended || stops {
            self.oracle.advance(1);
            self.pass(1).await;
        }
        let settled = ended || stops || matches!(op, Op::Advance(_));
        self.compare(settled);
    }

    async fn apply(&mut self, op: &Op, closed: bool) {
        match op {
            Op::Act(act) => {
                let by_handle = matches!(act, Act::Submit(job) if job.by_handle);
                let via = match &self.group {
                    Some(group) if !by_handle => Via::Group(group),
                    _ => Via::Handle(&self.handle),
                };
                self.tape.act(via, closed, act);
            }
            Op::CloneHandle(job) => {
                if let Some((job, handle, _)) = self.tape.target(*job) {
                    let former = self.tape.jobs.lock().unwrap()[job].handle.replace(handle);
                    drop(former);
                }
            }
            Op::DropHandle(job) => {
                let mut jobs = self.tape.jobs.lock().unwrap();
                let handle = job
                    .checked_rem(jobs.len())
                    .and_then(|job| jobs[job].handle.take());
                drop(jobs);
                drop(handle);
            }
            Op::Advance(rounds) => self.pass(*rounds).await,
            Op::Wait => {
                let group = self.group.clone().unwrap();
                self.wait.future = Some(Box::pin(async move { group.wait().await }));
                self.poll_calls().await;
            }
            Op::DropWait => self.wait.future = None,
            Op::Jump(rounds) => {
                let to = self.tape.instant(acts(*rounds, self.tape.now()));
                tokio::time::advance(to.duration_since(Instant::now())).await;
                self.poll_calls().await;
            }
            Op::Drain(grace) => {
                let group = self.group.clone().unwrap();
                let grace = self.grace(grace.drain_ends(self.tape.now()));
                self.drain.future = Some(Box::pin(async move { group.drain(grace).await }));
                self.poll_calls().await;
            }
            Op::DropDrain => self.drain.future = None,
            Op::Shutdown(grace) => {
                let group = self.group.clone().unwrap();
                let grace = self.grace(grace.ends(self.tape.now()));
                self.shutdown.future = Some(Box::pin(async move { group.shutdown(grace).await }));
                self.poll_calls().await;
            }
            Op::DropShutdown => self.shutdown.future = None,
            Op::DropGroup => {
                self.wait.future = None;
                self.drain.future = None;
                self.shutdown.future = None;
                self.group = None;
            }
        }
    }

    /// The grace that ends then, of a call now.
    fn grace(&self, ends: u64) -> Duration {
        match ends {
            NEVER => Duration::MAX,
            ends => Duration::from_nanos(ends - self.tape.now()),
        }
    }

    /// Once, so that the call is made.
    async fn poll_calls(&mut self) {
        poll_fn(|cx| {
            self.poll_each(cx);
            Poll::Ready(())
        })
        .await;
    }

    fn poll_each(&mut self, cx: &mut std::task::Context<'_>) {
        let now = self.tape.now();
        self.wait.poll(cx, now);
        self.drain.poll(cx, now);
        self.shutdown.poll(cx, now);
    }

    async fn pass(&mut self, rounds: u64) {
        let mut sleep = Box::pin(sleep_until(
            self.tape.instant(acts(rounds, self.tape.now())),
        ));
        poll_fn(|cx| {
            self.poll_each(cx);
            sleep.as_mut().poll(cx)
        })
        .await;
    }

    /// Lets everything come to its end, and looks whether anything is left.
    async fn finish(mut self) {
        self.step(&Op::Wait).await;
        self.step(&Op::Advance(1)).await;
        let mut rounds = 0;
        while self.oracle.is_busy() {
            self.step(&Op::Advance(1)).await;
            rounds += 1;
            assert!(rounds < 10_000, "the history has no end");
        }
        // Jobs that are never due are left.
        self.step(&Op::Act(Act::CancelGroup)).await;
        self.compare(true);
        drop((self.group, self.wait, self.drain, self.shutdown));
        sleep_until(Instant::now() + Duration::from_nanos(ROUND)).await;
        assert_eq!(alive_tasks(), 0, "tasks are left");
        let jobs = std::mem::take(&mut *self.tape.jobs.lock().unwrap());
        for (index, (entry, expected)) in jobs.into_iter().zip(&self.oracle.jobs).enumerate() {
            assert_eq!(
                entry.freed.drops(),
                1,
                "drops of the payload of job {index}"
            );
            if let Some(joined) = entry.joined {
                let result = joined.await;
                let right = match (&result, expected.state) {
                    (Ok(value), JobState::Finished) => *value == index,
                    (Err(JobError::Cancelled), JobState::Cancelled) => true,
                    (Err(JobError::Panicked(panic)), JobState::Panicked) => {
                        panic.message() == format!("panic of job {index}")
                    }
                    _ => false,
                };
                assert!(
                    right,
                    "job {index} is {:?}, joined {result:?}",
                    expected.state
                );
            }
        }
    }

    /// The runtime has gone: nothing is held any more, nothing is taken in, and who waits is told.
    fn outlive(mut self) {
        let jobs = std::mem::take(&mut *self.tape.jobs.lock().unwrap());
        for (index, (entry, expected)) in jobs.iter().zip(&self.oracle.jobs).enumerate() {
            assert_eq!(
                entry.freed.drops(),
                1,
                "drops of the payload of job {index}"
            );
            let Some(handle) = &entry.handle else {
                continue;
            };
            let state = match expected.state {
                JobState::Pending | JobState::Running => JobState::Cancelled,
                state => state,
            };
            assert_eq!(handle.state(), state, "job {index}");
            assert!(!handle.cancel() && !handle.reset_after(Duration::ZERO));
        }
        let rejected = self.handle.try_delay(Duration::ZERO, async {});
        match rejected {
            Err(ScheduleError::Closed(_)) if self.oracle.is_closed() => {}
            Err(ScheduleError::Cancelled(_)) if !self.oracle.is_closed() => {}
            other => panic!("{other:?} of a group without a runtime"),
        }
        let Some(group) = self.group.take() else {
            return;
        };
        let stats = group.stats();
        assert_eq!((stats.pending, stats.running), (0, 0), "{stats:?}");
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        let wait: Option<Waiting> = match self.wait.future.take() {
            None if self.oracle.may_wait() => Some(Box::pin(async move { group.wait().await })),
            on_its_way => on_its_way,
        };
        if let Some(mut wait) = wait {
            let ended = wait.as_mut().poll(&mut cx);
            let well = match &ended {
                Poll::Ready(Ok(())) => self.oracle.is_drained(),
                Poll::Ready(Err(_)) => true,
                Poll::Pending => false,
            };
            assert!(well, "{ended:?} of a wait without a runtime");
        }
        for mut closing in [self.drain.future, self.shutdown.future]
            .into_iter()
            .flatten()
        {
            let ended = closing.as_mut().poll(&mut cx);
            assert!(ended.is_ready(), "it was on its way");
        }
    }

    /// Compares everything that can be seen. The rest, when all that is to happen now has happened.
    fn compare(&self, settled: bool) {
        let expected = &self.oracle.records;
        let records = self.tape.records.lock().unwrap();
        if let Some(first) = (0..expected.len().max(records.len()))
            .find(|&record| expected.get(record) != records.get(record))
        {
            let around = first.saturating_sub(3)..;
            panic!(
                "at record {first}:\nexpected {:#?}\n but was {:#?}",
                expected.get(around.clone()),
                records.get(around)
            );
        }
        self.compare_stats(settled);
        self.compare_jobs(settled);
        if settled {
            let waited = self.wait.result.as_ref();
            let waited = waited.map(|(result, at)| (self.waited(result), *at));
            if !self.oracle.group_dropped || waited.is_some() {
                assert_eq!(waited, self.oracle.waited, "wait");
            }
            for (call, expected) in [
                (&self.drain, &self.oracle.drain),
                (&self.shutdown, &self.oracle.shutdown),
            ] {
                let told = call.result.map(|(report, at)| (reported(report), at));
                if !self.oracle.group_dropped || told.is_some() {
                    assert_eq!(told, expected.reported, "{expected:?}");
                }
            }
        }
    }

    fn compare_stats(&self, settled: bool) {
        let Some(group) = &self.group else {
            return;
        };
        let stats = group.stats();
        let mut expected = self.oracle.counts();
        if !settled {
            expected.waiting = stats.waiting;
        }
        let counts = Counts {
            pending: stats.pending,
            waiting: stats.waiting,
            running: stats.running,
            finished: stats.finished,
            cancelled: stats.cancelled,
            panicked: stats.panicked,
            max_lateness: stats.max_lateness.as_nanos() as u64,
        };
        assert_eq!(counts, expected, "stats");
        let next = stats.next_deadline.map(|next| self.tape.nanos(next));
        match (next, self.oracle.next_deadline()) {
            (None, None) => {}
            (Some(next), Some(NEVER)) if next >= FAR => {}
            (Some(next), Some(expected)) if next == expected => {}
            (Some(next), Some(expected)) if next < expected && self.oracle.moved => {}
            // One that has started may still be counted while others wait.
            (Some(next), Some(expected)) if next < expected && stats.waiting > 0 => {}
            (next, expected) => panic!("next deadline {next:?}, expected {expected:?}"),
        }
    }

    fn compare_jobs(&self, settled: bool) {
        let jobs = self.tape.jobs.lock().unwrap();
        for (index, (entry, expected)) in jobs.iter().zip(&self.oracle.jobs).enumerate() {
            let state = expected.state;
            let over = !matches!(state, JobState::Pending | JobState::Running);
            assert_eq!(
                entry.freed.drops(),
                usize::from(over),
                "drops of the payload of job {index}, {state:?}"
            );
            assert_eq!(
                entry.handle.is_some(),
                expected.has_handle,
                "job {index} has a handle"
            );
            let Some(handle) = &entry.handle else {
                continue;
            };
            assert_eq!(
                (handle.state(), handle.is_pending(), handle.is_finished()),
                (state, state == JobState::Pending, over),
                "job {index}, settled: {settled}"
            );
            if !over {
                let deadline = self.tape.nanos(handle.deadline());
                let right = match expected.deadline {
                    NEVER => deadline >= FAR,
                    expected => deadline == expected,
                };
                assert!(
                    right,
                    "deadline {deadline} of job {index}, expected {}",
                    expected.deadline
                );
            }
        }
    }

    fn waited(&self, result: &Result<(), WaitError>) -> Waited {
        match result {
            Ok(()) => Waited::Ok,
            Err(WaitError::Cancelled) => Waited::Cancelled,
            Err(WaitError::DeadlineExceeded) => Waited::DeadlineExceeded,
            Err(WaitError::Panicked(panic)) => {
                let jobs = self.tape.jobs.lock().unwrap();
                let job = panic.message().strip_prefix("panic of job ");
                let job: usize = job.and_then(|job| job.parse().ok()).expect("a job's panic");
                if let Some(handle) = &jobs[job].handle {
                    assert_eq!(panic.job(), handle.id(), "job of the panic");
                }
                Waited::Panicked(job)
            }
            Err(error) => panic!("{error:?} is new"),
        }
    }
}

fn reported(report: Report) -> Reported {
    let Report {
        finished,
        aborted,
        dropped,
        ..
    } = report;
    (finished as u64, aborted as u64, dropped as u64)
}
