//! Whole lives of combinators and streams: inputs and tasks that stop them, fail and panic, beside a thread that cancels,
//! polled by several wakers and perhaps dropped. Each end of a task is accounted for.

use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use schedgroup::flow::{self, RaceError};
use schedgroup::{CancellationToken, TaskError};
use shuttle::{future, thread};

use crate::explore;
use crate::lives::{Gate, random};

/// What a task returns or fails with: its number, and a clone of the world's token.
type Value = (usize, Arc<()>);

#[derive(Default)]
struct World {
    limit: usize,
    /// How many tasks the input has.
    all: usize,
    panics: bool,
    token: CancellationToken,
    running: AtomicUsize,
    /// The tasks that were taken from the input, and those that are gone.
    made: AtomicUsize,
    gone: AtomicUsize,
    /// The tasks that have ended by themselves.
    ended: Mutex<Vec<(usize, End)>>,
    values: Arc<()>,
    /// Whether the input is gone.
    is_over: AtomicBool,
    gate: Gate,
}

#[derive(Clone, Copy, PartialEq)]
enum End {
    Value,
    Failed,
    Panicked,
}

/// What a task holds, until it is dropped.
struct Held(Arc<World>);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.call_back();
        self.0.gone.fetch_add(1, SeqCst);
    }
}

struct Run<'a>(&'a World);

impl Drop for Run<'_> {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, SeqCst);
    }
}

async fn run(held: Held, number: usize) -> Result<Value, Value> {
    let world = &*held.0;
    let before = world.running.fetch_add(1, SeqCst);
    assert!(before < world.limit, "{before} of {}", world.limit);
    let run = Run(world);
    for _ in 0..random(3) {
        match random(6) {
            0 | 1 => future::yield_now().await,
            2 | 3 => world.gate.pass().await,
            4 if world.panics && random(2) == 0 => {
                world.ended.lock().unwrap().push((number, End::Panicked));
                resume_unwind(Box::new("planned"));
            }
            _ => world.call_back(),
        }
    }
    drop(run);
    let fails = world.panics && random(4) == 0;
    let end = if fails { End::Failed } else { End::Value };
    world.ended.lock().unwrap().push((number, end));
    let value = (number, Arc::clone(&world.values));
    if fails { Err(value) } else { Ok(value) }
}

impl World {
    fn call_back(&self) {
        match random(12) {
            0 => thread::yield_now(),
            1 => self.gate.open(false),
            2 if random(4) == 0 => self.token.cancel(),
            _ => {}
        }
    }

    fn has(&self, number: usize, end: End) -> bool {
        self.ended.lock().unwrap().contains(&(number, end))
    }

    fn is_gone(&self) -> bool {
        let is_gone = self.made.load(SeqCst) == self.gone.load(SeqCst);
        is_gone && self.is_over.load(SeqCst) && Arc::strong_count(&self.values) == 1
    }

    /// Checks an error that ended a combinator, or is one of those that did.
    fn check(&self, error: &TaskError<Value>) {
        assert!(match error {
            TaskError::Failed { index, error } =>
                error.0 == *index && self.has(*index, End::Failed),
            TaskError::Panicked(panic) => self.has(panic.index(), End::Panicked),
            _ => self.token.is_cancelled(),
        });
    }
}

/// The input, which may panic and cancel, and may know its length.
struct Input(Arc<World>, bool);

impl Iterator for Input {
    type Item = Pin<Box<dyn Future<Output = Result<Value, Value>> + Send>>;

    fn next(&mut self) -> Option<Self::Item> {
        let world = &self.0;
        world.call_back();
        if world.panics && random(6) == 0 {
            resume_unwind(Box::new("input"));
        }
        let number = world.made.load(SeqCst);
        (number < world.all).then(|| -> Self::Item {
            world.made.fetch_add(1, SeqCst);
            Box::pin(run(Held(Arc::clone(world)), number))
        })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.0.all - self.0.made.load(SeqCst);
        (0, self.1.then_some(left))
    }
}

impl Drop for Input {
    fn drop(&mut self) {
        self.0.call_back();
        self.0.is_over.store(true, SeqCst);
    }
}

/// Polls by several wakers, and again after a panic of the input. `None` if it was given up.
async fn poll_at_random<T>(mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>) -> Option<T> {
    let gives_up = random(4) == 0;
    poll_fn(|cx| {
        loop {
            if gives_up && random(4) == 0 {
                return Poll::Ready(None);
            }
            let by_other = random(3) == 0;
            let mut other = Context::from_waker(Waker::noop());
            let cx = if by_other { &mut other } else { &mut *cx };
            match catch_unwind(AssertUnwindSafe(|| poll(cx))) {
                Ok(Poll::Pending) if by_other => {}
                Ok(polled) => return polled.map(Some),
                Err(payload) => assert_eq!(payload.downcast_ref(), Some(&"input")),
            }
        }
    })
    .await
}

async fn take_stream(world: &Arc<World>, input: Input) {
    let mut stream = flow::stream(input)
        .limit(world.limit)
        .token(world.token.clone());
    let is_ordered = random(2) == 0;
    if !is_ordered {
        stream = stream.unordered();
    }
    let (mut taken, mut is_stopped) = (Vec::new(), false);
    loop {
        let Some(next) = poll_at_random(|cx| pin!(stream.next()).poll(cx)).await else {
            return;
        };
        assert!(next.is_none() || !is_stopped, "the reason is the last");
        match next {
            None => break,
            Some(Ok(Ok(value) | Err(value))) => taken.push(value.0),
            Some(Err(TaskError::Panicked(panic))) => taken.push(panic.index()),
            Some(Err(_)) => is_stopped = true,
        }
    }
    assert!(stream.next().await.is_none());
    assert!(!is_ordered || taken.is_sorted(), "{taken:?}");
    assert_eq!(is_stopped, taken.len() < world.all, "{taken:?}");
    assert!(!is_stopped || world.token.is_cancelled());
    let mut ended: Vec<_> = world
        .ended
        .lock()
        .unwrap()
        .iter()
        .map(|end| end.0)
        .collect();
    ended.sort_unstable();
    taken.sort_unstable();
    assert_eq!(taken, ended, "each end is handed out once");
}

async fn combine(world: &Arc<World>, input: Input, count: usize) {
    macro_rules! run {
        ($flow:expr) => {{
            let mut flow = $flow.limit(world.limit).token(world.token.clone());
            let Some(end) = poll_at_random(|cx| Pin::new(&mut flow).poll(cx)).await else {
                return;
            };
            // All tasks have ended.
            assert_eq!(world.made.load(SeqCst), world.gone.load(SeqCst));
            end
        }};
    }
    let raced = |raced: Result<Vec<Value>, RaceError<Value>>, count: usize| match raced {
        Ok(values) => {
            assert_eq!(values.len(), count);
            assert!(values.iter().all(|value| world.has(value.0, End::Value)));
        }
        Err(RaceError::TooFew) => assert!(world.all < count),
        Err(RaceError::Failed(errors)) => errors.iter().for_each(|error| world.check(error)),
        Err(_) => assert!(world.token.is_cancelled()),
    };
    let all_or_first = |ended: Result<Vec<Value>, TaskError<Value>>, count: usize| match ended {
        Ok(values) => assert_eq!(values.len(), count),
        Err(error) => world.check(&error),
    };
    match random(6) {
        0 => {
            let ends = run!(flow::all(input));
            assert_eq!(ends.len(), world.all);
            for (number, end) in ends.into_iter().enumerate() {
                let ended =
                    [End::Value, End::Failed, End::Panicked].map(|end| world.has(number, end));
                assert_eq!(
                    ended,
                    match end {
                        Ok(Ok(value)) => [value.0 == number, false, false],
                        Ok(Err(value)) => [false, value.0 == number, false],
                        Err(TaskError::Panicked(panic)) => [false, false, panic.index() == number],
                        Err(_) => [false; 3],
                    }
                );
            }
        }
        1 => {
            let values = run!(flow::try_all(input));
            assert!(values.iter().flatten().is_sorted());
            all_or_first(values, world.all);
        }
        2 => raced(run!(flow::race(input)).map(|value| vec![value]), 1),
        3 => raced(run!(flow::take(count, input)), count),
        4 => all_or_first(run!(flow::try_take(count, input)), count.min(world.all)),
        _ => all_or_first(run!(flow::last(count, input)), count.min(world.all)),
    }
}

fn live(is_stream: bool) {
    let world = Arc::new(World {
        limit: [1, 2, usize::MAX][random(3)],
        all: random(5),
        panics: random(2) == 0,
        ..World::default()
    });
    let of_other = Arc::clone(&world);
    let other = thread::spawn(move || {
        // What waits at the gate then goes on only if it is aborted.
        let cancels = random(4) == 0;
        while !of_other.is_gone() {
            match cancels {
                true if random(8) == 0 => of_other.token.cancel(),
                true => {}
                false => of_other.gate.open(false),
            }
            thread::yield_now();
        }
    });
    let input = Input(Arc::clone(&world), random(2) == 0);
    future::block_on(async {
        match is_stream {
            true => take_stream(&world, input).await,
            false => combine(&world, input, random(4)).await,
        }
    });
    // Tasks of one that was dropped are not waited for.
    other.join().unwrap();
}

#[test]
fn a_stream_lives_and_ends_whatever_its_input_and_tasks_do() {
    explore(|| live(true));
}

#[test]
fn a_combinator_lives_and_ends_whatever_its_input_and_tasks_do() {
    explore(|| live(false));
}
