//! What each combinator makes of the ends of its tasks, as plain values.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::marker::PhantomData;
use std::ops::ControlFlow::{self, Break, Continue};

use super::error::RaceError;
use crate::ground::error::{TaskError, TaskErrors};
use crate::ground::panic::{TaskPanic, discard_each};
use crate::ground::token::Cause;

/// The rule of one combinator: it is told the ends of the tasks in order of time.
pub trait Rule {
    /// What the tasks return.
    type Input: Send + 'static;
    /// What the combinator returns.
    type Output;

    /// Does each task have a slot in the value, also when it never started?
    const SLOTS: bool = false;

    /// Is the value there before any task has started?
    fn is_settled(&self) -> bool {
        false
    }

    /// Breaks when the value is there, with what the tasks that still run are told.
    fn ended(&mut self, index: usize, end: Result<Self::Input, TaskPanic>) -> ControlFlow<Cause>;

    /// The value, when all tasks have ended or after a break.
    fn settle(self) -> Self::Output;

    /// The value after a cancel, when there were to be so many tasks.
    fn cancelled(self, tasks: usize) -> Self::Output;
}

/// An end of a task that may fail.
fn told<T, E>(index: usize, end: Result<Result<T, E>, TaskPanic>) -> Result<T, TaskError<E>> {
    match end {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(TaskError::Failed { index, error }),
        Err(panic) => Err(TaskError::Panicked { index, panic }),
    }
}

/// Values by position, in whatever order they come.
#[derive(Debug)]
struct Slots<T>(Vec<Option<T>>);

impl<T> Slots<T> {
    fn put(&mut self, index: usize, value: T) {
        if self.0.len() <= index {
            self.0.resize_with(index + 1, || None);
        }
        self.0[index] = Some(value);
    }

    /// All of them, when none is empty.
    fn full(self) -> Vec<T> {
        let values = self.0.into_iter();
        values.map(|value| value.expect("all have ended")).collect()
    }
}

/// The first error or panic, after which nothing else counts.
type Fault<E> = Option<TaskError<E>>;

fn stop_at<E>(fault: &mut Fault<E>, error: TaskError<E>) -> ControlFlow<Cause> {
    let cause = Cause::of(&error);
    *fault = Some(error);
    Break(cause)
}

/// Nobody gets the values: the error counts.
fn instead_of<T, V, E>(values: impl IntoIterator<Item = V>, error: E) -> Result<T, E> {
    discard_each(values);
    Err(error)
}

/// The rule of [`all`](super::all).
#[derive(Debug)]
pub struct All<T> {
    slots: Slots<Result<T, TaskError>>,
}

impl<T> All<T> {
    pub(super) fn new() -> All<T> {
        All {
            slots: Slots(Vec::new()),
        }
    }
}

impl<T: Send + 'static> Rule for All<T> {
    type Input = T;
    type Output = Vec<Result<T, TaskError>>;

    const SLOTS: bool = true;

    fn ended(&mut self, index: usize, end: Result<T, TaskPanic>) -> ControlFlow<Cause> {
        let end = end.map_err(|panic| TaskError::Panicked { index, panic });
        self.slots.put(index, end);
        Continue(())
    }

    fn settle(self) -> Self::Output {
        self.slots.full()
    }

    fn cancelled(self, tasks: usize) -> Self::Output {
        let mut slots = self.slots.0;
        slots.resize_with(tasks, || None);
        let ends = slots.into_iter();
        ends.map(|end| end.unwrap_or(Err(TaskError::Cancelled)))
            .collect()
    }
}

/// The rule of [`try_all`](super::try_all).
#[derive(Debug)]
pub struct TryAll<T, E> {
    slots: Slots<T>,
    fault: Fault<E>,
}

/// The rule of [`map`](super::map).
pub type Map<T> = TryAll<T, Infallible>;

impl<T, E> TryAll<T, E> {
    pub(super) fn new() -> TryAll<T, E> {
        TryAll {
            slots: Slots(Vec::new()),
            fault: None,
        }
    }
}

impl<T: Send + 'static, E: Send + 'static> Rule for TryAll<T, E> {
    type Input = Result<T, E>;
    type Output = Result<Vec<T>, TaskError<E>>;

    fn ended(&mut self, index: usize, end: Result<Result<T, E>, TaskPanic>) -> ControlFlow<Cause> {
        match told(index, end) {
            Ok(value) => self.slots.put(index, value),
            Err(error) => return stop_at(&mut self.fault, error),
        }
        Continue(())
    }

    fn settle(self) -> Self::Output {
        match self.fault {
            Some(error) => instead_of(self.slots.0, error),
            None => Ok(self.slots.full()),
        }
    }

    fn cancelled(self, _: usize) -> Self::Output {
        instead_of(self.slots.0, TaskError::Cancelled)
    }
}

/// The rule of [`race`](super::race).
#[derive(Debug)]
pub struct Race<T, E> {
    winner: Option<T>,
    /// In order of time.
    errors: Vec<TaskError<E>>,
}

impl<T, E> Race<T, E> {
    pub(super) fn new() -> Race<T, E> {
        Race {
            winner: None,
            errors: Vec::new(),
        }
    }
}

impl<T: Send + 'static, E: Send + 'static> Rule for Race<T, E> {
    type Input = Result<T, E>;
    type Output = Result<T, RaceError<E>>;

    fn ended(&mut self, index: usize, end: Result<Result<T, E>, TaskPanic>) -> ControlFlow<Cause> {
        match told(index, end) {
            Ok(value) => {
                self.winner = Some(value);
                return Break(Cause::Finished);
            }
            Err(error) => self.errors.push(error),
        }
        Continue(())
    }

    fn settle(self) -> Self::Output {
        if let Some(winner) = self.winner {
            discard_each(self.errors);
            return Ok(winner);
        }
        Err(TaskErrors::new(self.errors).map_or(RaceError::Empty, RaceError::AllFailed))
    }

    fn cancelled(self, _: usize) -> Self::Output {
        discard_each(self.errors);
        instead_of(self.winner, RaceError::Cancelled)
    }
}

/// The rule of [`take`](super::take).
#[derive(Debug)]
pub struct Take<T, E> {
    count: usize,
    values: Vec<T>,
    fault: Fault<E>,
}

impl<T, E> Take<T, E> {
    pub(super) fn new(count: usize) -> Take<T, E> {
        Take {
            count,
            values: Vec::new(),
            fault: None,
        }
    }
}

impl<T: Send + 'static, E: Send + 'static> Rule for Take<T, E> {
    type Input = Result<T, E>;
    type Output = Result<Vec<T>, TaskError<E>>;

    fn is_settled(&self) -> bool {
        self.values.len() == self.count
    }

    fn ended(&mut self, index: usize, end: Result<Result<T, E>, TaskPanic>) -> ControlFlow<Cause> {
        match told(index, end) {
            Ok(value) => self.values.push(value),
            Err(error) => return stop_at(&mut self.fault, error),
        }
        if self.is_settled() {
            return Break(Cause::Finished);
        }
        Continue(())
    }

    fn settle(self) -> Self::Output {
        match self.fault {
            Some(error) => instead_of(self.values, error),
            None => Ok(self.values),
        }
    }

    fn cancelled(self, _: usize) -> Self::Output {
        instead_of(self.values, TaskError::Cancelled)
    }
}

/// The rule of [`last`](super::last).
#[derive(Debug)]
pub struct Last<T, E> {
    count: usize,
    values: VecDeque<T>,
    fault: Fault<E>,
}

impl<T, E> Last<T, E> {
    pub(super) fn new(count: usize) -> Last<T, E> {
        Last {
            count,
            values: VecDeque::new(),
            fault: None,
        }
    }
}

impl<T: Send + 'static, E: Send + 'static> Rule for Last<T, E> {
    type Input = Result<T, E>;
    type Output = Result<Vec<T>, TaskError<E>>;

    fn ended(&mut self, index: usize, end: Result<Result<T, E>, TaskPanic>) -> ControlFlow<Cause> {
        match told(index, end) {
            Ok(value) => self.values.push_back(value),
            Err(error) => return stop_at(&mut self.fault, error),
        }
        if self.values.len() > self.count {
            discard_each(self.values.pop_front());
        }
        Continue(())
    }

    fn settle(self) -> Self::Output {
        match self.fault {
            Some(error) => instead_of(self.values, error),
            None => Ok(self.values.into()),
        }
    }

    fn cancelled(self, _: usize) -> Self::Output {
        instead_of(self.values, TaskError::Cancelled)
    }
}

/// The rule of [`for_each`](super::for_each): nothing is kept.
#[derive(Debug)]
pub struct Each {
    fault: Fault<Infallible>,
}

impl Each {
    pub(super) fn new() -> Each {
        Each { fault: None }
    }
}

impl Rule for Each {
    type Input = ();
    type Output = Result<(), TaskError>;

    fn ended(&mut self, index: usize, end: Result<(), TaskPanic>) -> ControlFlow<Cause> {
        match end {
            Ok(()) => Continue(()),
            Err(panic) => stop_at(&mut self.fault, TaskError::Panicked { index, panic }),
        }
    }

    fn settle(self) -> Self::Output {
        self.fault.map_or(Ok(()), Err)
    }

    fn cancelled(self, _: usize) -> Self::Output {
        Err(TaskError::Cancelled)
    }
}

/// The rule of [`stream`](super::stream): each end is handed out in its turn.
#[derive(Debug)]
pub struct Ordered<T>(PhantomData<fn() -> T>);

impl<T> Ordered<T> {
    pub(super) fn new() -> Ordered<T> {
        Ordered(PhantomData)
    }
}
