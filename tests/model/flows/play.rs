//! A combinator that is run as its history says, step by step beside the oracle.

use std::future::{Future, pending, poll_fn};
use std::panic::resume_unwind;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use schedgroup::flow::{self, Flow, RaceError, Stream};
use schedgroup::{CancellationToken, TaskError};
use tokio::time::{Instant, sleep_until};

use super::history::{Call, End, History, Op, Plan};
use super::oracle::{Oracle, Outcome, Slot, Started, Stop};
use crate::common::{Flag, Guard, alive_tasks, paused};
use crate::rounds::{NEVER, Sleep, acts, wakes};

/// What the tasks and the history share.
#[derive(Clone)]
struct Tape {
    origin: Instant,
    token: CancellationToken,
    started: Arc<Mutex<Vec<Started>>>,
    taken_out: Arc<AtomicUsize>,
    gone: Arc<Vec<Flag>>,
}

impl Tape {
    fn now(&self) -> u64 {
        self.origin.elapsed().as_millis() as u64
    }

    fn instant(&self, at: u64) -> Instant {
        self.origin + Duration::from_millis(at)
    }
}

/// What the input hands out.
struct Item {
    tape: Tape,
    task: usize,
    plan: Plan,
    guard: Guard,
}

impl Item {
    async fn run(self) -> Result<usize, usize> {
        let Item {
            tape,
            task,
            plan,
            guard,
        } = self;
        let now = tape.now();
        tape.started.lock().unwrap().push((task, now));
        if plan.cancels {
            tape.token.cancel();
        }
        match plan.sleep {
            Sleep::Not => {}
            Sleep::Rounds(rounds) => sleep_until(tape.instant(wakes(task, rounds, now))).await,
            Sleep::Forever => pending().await,
        }
        drop(guard);
        match plan.end {
            End::Value => Ok(task),
            End::Error => Err(task),
            // Past the panic hook, which would print it.
            End::Panic => resume_unwind(Box::new(format!("panic of task {task}"))),
        }
    }
}

/// The items, which know how many they are or do not.
fn input(history: &History, tape: &Tape) -> Box<dyn Iterator<Item = Item> + Send> {
    let tape = tape.clone();
    let plans = history.tasks.clone().into_iter().enumerate();
    let mut items = plans.map(move |(task, plan)| {
        tape.taken_out.fetch_add(1, SeqCst);
        let guard = tape.gone[task].guard();
        let tape = tape.clone();
        Item {
            tape,
            task,
            plan,
            guard,
        }
    });
    if history.sized {
        Box::new(items)
    } else {
        Box::new(std::iter::from_fn(move || items.next()))
    }
}

enum Running {
    Flow(Pin<Box<dyn Future<Output = Outcome>>>),
    Stream(Stream<'static, Result<usize, usize>>),
    Gone,
}

impl Running {
    fn new(history: &History, tape: &Tape) -> Running {
        let items = input(history, tape);
        let tasks = input(history, tape).map(Item::run);
        match history.call {
            Call::All => of_flow(flow::all(tasks), history, tape, |ends| {
                Outcome::Slots(ends.into_iter().map(slot).collect())
            }),
            Call::TryAll => of_flow(flow::try_all(tasks), history, tape, values),
            Call::Race => of_flow(flow::race(tasks), history, tape, |end| {
                raced(end.map(|value| vec![value]))
            }),
            Call::Take(count) => of_flow(flow::take(count, tasks), history, tape, raced),
            Call::TryTake(count) => of_flow(flow::try_take(count, tasks), history, tape, values),
            Call::Last(count) => of_flow(flow::last(count, tasks), history, tape, values),
            Call::Map => of_flow(
                flow::map(items, Item::run),
                history,
                tape,
                |ends| match ends {
                    Ok(ends) => Outcome::Values(ends.into_iter().map(either).collect()),
                    Err(error) => Outcome::Fault(fault(error)),
                },
            ),
            Call::ForEach => {
                let run = |item: Item| async {
                    // What it returns is not looked at.
                    let _ = item.run().await;
                };
                of_flow(flow::for_each(items, run), history, tape, |end| match end {
                    Ok(()) => Outcome::Done,
                    Err(error) => Outcome::Fault(fault(error)),
                })
            }
            Call::Stream { unordered } => {
                let mut stream = flow::stream(tasks).token(tape.token.clone());
                if let Some(limit) = history.limit {
                    stream = stream.limit(limit);
                }
                if unordered {
                    stream = stream.unordered();
                }
                match history.deadline.after(tape.now()) {
                    NEVER => {}
                    at => stream = stream.deadline(tape.instant(at)),
                }
                Running::Stream(stream)
            }
        }
    }

    async fn next(&mut self) -> Outcome {
        match self {
            Running::Flow(flow) => {
                let outcome = flow.await;
                *self = Running::Gone;
                outcome
            }
            Running::Stream(stream) => Outcome::Next(stream.next().await.map(slot)),
            Running::Gone => pending().await,
        }
    }
}

/// With its settings, and its value told in the oracle's words.
fn of_flow<T: 'static>(
    mut flow: Flow<'static, T>,
    history: &History,
    tape: &Tape,
    told: fn(T) -> Outcome,
) -> Running {
    flow = flow.token(tape.token.clone());
    if let Some(limit) = history.limit {
        flow = flow.limit(limit);
    }
    match history.deadline.after(tape.now()) {
        NEVER => {}
        at => flow = flow.deadline(tape.instant(at)),
    }
    Running::Flow(Box::pin(async move { told(flow.await) }))
}

fn either(end: Result<usize, usize>) -> usize {
    end.unwrap_or_else(|error| error)
}

fn values(end: Result<Vec<usize>, TaskError<usize>>) -> Outcome {
    match end {
        Ok(values) => Outcome::Values(values),
        Err(error) => Outcome::Fault(fault(error)),
    }
}

fn raced(end: Result<Vec<usize>, RaceError<usize>>) -> Outcome {
    match end {
        Ok(values) => Outcome::Values(values),
        Err(RaceError::TooFew) => Outcome::TooFew(Vec::new()),
        Err(RaceError::Failed(errors)) => Outcome::TooFew(errors.into_iter().map(fault).collect()),
        Err(RaceError::Cancelled) => Outcome::Fault(Slot::Stopped(Stop::Cancelled)),
        Err(RaceError::DeadlineExceeded) => Outcome::Fault(Slot::Stopped(Stop::DeadlineExceeded)),
        Err(error) => panic!("{error:?} is new"),
    }
}

fn slot(end: Result<Result<usize, usize>, TaskError>) -> Slot {
    match end {
        Ok(Ok(task)) => Slot::Value(task),
        Ok(Err(task)) => Slot::Failed(task),
        Err(error) => fault(error),
    }
}

fn fault<E: Into<Task> + std::fmt::Debug>(error: TaskError<E>) -> Slot {
    match error {
        TaskError::Failed { index, error } => {
            let Task(task) = error.into();
            assert_eq!(index, task, "the index of an error");
            Slot::Failed(task)
        }
        TaskError::Panicked(panic) => {
            let task = panic.index();
            assert_eq!(panic.message(), format!("panic of task {task}"));
            assert!(panic.spawned_at().file().ends_with("play.rs"), "{panic:?}");
            Slot::Panicked(task)
        }
        TaskError::Cancelled => Slot::Stopped(Stop::Cancelled),
        TaskError::DeadlineExceeded => Slot::Stopped(Stop::DeadlineExceeded),
        error => panic!("{error:?} is new"),
    }
}

/// The number of the task whose error it is.
struct Task(usize);

impl From<usize> for Task {
    fn from(task: usize) -> Task {
        Task(task)
    }
}

impl From<std::convert::Infallible> for Task {
    fn from(never: std::convert::Infallible) -> Task {
        match never {}
    }
}

/// Plays a history on a runtime of its own; panics where combinator and oracle differ.
pub(crate) fn perform(history: &History) {
    let runtime = paused();
    runtime.block_on(play(history));
}

async fn play(history: &History) {
    let tape = Tape {
        origin: Instant::now(),
        token: CancellationToken::new(),
        started: Arc::default(),
        taken_out: Arc::default(),
        gone: history
            .tasks
            .iter()
            .map(|_| Flag::new())
            .collect::<Vec<_>>()
            .into(),
    };
    let (mut oracle, mut outcomes) = (Oracle::new(history, 0), Vec::new());
    let mut running = Running::new(history, &tape);
    // In the end it is polled until nothing more can come, and dropped.
    let last = [Op::Poll(3), Op::Poll(1), Op::Drop];
    for op in history.ops.iter().chain(&last) {
        oracle.apply(op);
        match op {
            Op::Poll(rounds) => {
                let to = tape.instant(acts(*rounds, tape.now()));
                let mut next = pin!(running.next());
                let mut over = pin!(sleep_until(to));
                let outcome = poll_fn(|cx| match next.as_mut().poll(cx) {
                    Poll::Ready(outcome) => Poll::Ready(Some(outcome)),
                    Poll::Pending => over.as_mut().poll(cx).map(|()| None),
                });
                outcomes.extend(outcome.await.map(|outcome| (outcome, tape.now())));
                sleep_until(to).await;
            }
            Op::Leave(rounds) => sleep_until(tape.instant(acts(*rounds, tape.now()))).await,
            Op::Cancel => tape.token.cancel(),
            Op::Drop => running = Running::Gone,
        }
        // What is aborted is gone by then.
        let to = tape.now() + 1;
        oracle.pass(to, false);
        sleep_until(tape.instant(to)).await;
        assert_eq!(*tape.started.lock().unwrap(), oracle.started, "started");
        assert_eq!(outcomes, oracle.outcomes, "outcomes");
        let taken_out = tape.taken_out.load(SeqCst);
        assert_eq!(taken_out, oracle.taken_out(), "taken out of the input");
        for task in 0..taken_out {
            let drops = usize::from(oracle.is_over(task));
            assert_eq!(tape.gone[task].drops(), drops, "drops of task {task}");
        }
    }
    assert_eq!(alive_tasks(), 0, "tasks are left");
}
