//! The rule by which each combinator makes its value of the ends of its tasks, as plain values.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::ops::ControlFlow::{self, Break, Continue};
use std::ops::{Deref, DerefMut};

use super::error::RaceError;
use super::stop::Stop;
use crate::common::error::{TaskError, TaskErrors};
use crate::common::panic::{TaskPanic, discard_each};

/// The rule of one combinator: it gets the ends of the tasks in order of completion.
pub(super) trait Rule {
    /// The output of the tasks.
    type Input: Send + 'static;
    /// The output of the combinator.
    type Output;

    /// Whether each task has a slot in the value, also when it never started.
    const SLOTS: bool = false;

    /// Adds the end of a task.
    fn ended(&mut self, index: usize, end: Result<Self::Input, TaskPanic>);

    /// Breaks when the value is there; at most `to_come` tasks have no end yet, where that is known.
    /// Asked before the first start and after each end.
    fn decide(&self, to_come: Option<usize>) -> ControlFlow<()>;

    /// The value, when all tasks have ended or after a break.
    fn settle(self) -> Self::Output;

    /// The value when a stop cut tasks off: with slots all of them are counted, else at least one is.
    fn stopped(self, stop: Stop, cut_off: usize) -> Self::Output;
}

/// An end of a task that may fail.
fn fallible<T, E>(index: usize, end: Result<Result<T, E>, TaskPanic>) -> Result<T, TaskError<E>> {
    match end {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(TaskError::Failed { index, error }),
        Err(panic) => Err(TaskError::Panicked(panic)),
    }
}

/// A collection of what tasks made, dropped one by one: in one go the second destructor that panics would
/// end the process.
#[derive(Default)]
pub(super) struct Kept<C: Default + IntoIterator>(C);

impl<C: Default + IntoIterator> Kept<C> {
    fn take(mut self) -> C {
        std::mem::take(&mut self.0)
    }
}

impl<C: Default + IntoIterator> Drop for Kept<C> {
    fn drop(&mut self) {
        discard_each(std::mem::take(&mut self.0));
    }
}

impl<C: Default + IntoIterator> Deref for Kept<C> {
    type Target = C;

    fn deref(&self) -> &C {
        &self.0
    }
}

impl<C: Default + IntoIterator> DerefMut for Kept<C> {
    fn deref_mut(&mut self) -> &mut C {
        &mut self.0
    }
}

/// Values by position, in any order of arrival.
type Slots<T> = Kept<Vec<Option<T>>>;

impl<T> Slots<T> {
    fn put(&mut self, index: usize, value: T) {
        if self.len() <= index {
            self.resize_with(index + 1, || None);
        }
        self[index] = Some(value);
    }

    /// All of them, when none is empty.
    fn full(self) -> Vec<T> {
        let values = self.take().into_iter();
        values.map(|value| value.expect("all have ended")).collect()
    }
}

/// The first error or panic, which decides.
type Fault<E> = Option<TaskError<E>>;

fn stop_at<E>(fault: &Fault<E>) -> ControlFlow<()> {
    match fault {
        Some(_) => Break(()),
        None => Continue(()),
    }
}

/// The rule of `all`.
pub(super) struct All<T> {
    slots: Slots<Result<T, TaskError>>,
}

impl<T> All<T> {
    pub(super) fn new() -> All<T> {
        All {
            slots: Slots::default(),
        }
    }
}

impl<T: Send + 'static> Rule for All<T> {
    type Input = T;
    type Output = Vec<Result<T, TaskError>>;

    const SLOTS: bool = true;

    fn ended(&mut self, index: usize, end: Result<T, TaskPanic>) {
        let end = end.map_err(TaskError::Panicked);
        self.slots.put(index, end);
    }

    fn decide(&self, _: Option<usize>) -> ControlFlow<()> {
        Continue(())
    }

    fn settle(self) -> Self::Output {
        self.slots.full()
    }

    fn stopped(self, stop: Stop, cut_off: usize) -> Self::Output {
        let mut slots = self.slots.take();
        let ended = slots.iter().flatten().count();
        slots.resize_with(ended + cut_off, || None);
        let ends = slots.into_iter();
        ends.map(|end| end.unwrap_or(Err(stop.into()))).collect()
    }
}

/// The rule of `try_all`.
pub(super) struct TryAll<T, E> {
    slots: Slots<T>,
    fault: Fault<E>,
}

/// The rule of `map`.
pub(super) type Map<T> = TryAll<T, Infallible>;

impl<T, E> TryAll<T, E> {
    pub(super) fn new() -> TryAll<T, E> {
        TryAll {
            slots: Slots::default(),
            fault: None,
        }
    }
}

impl<T: Send + 'static, E: Send + 'static> Rule for TryAll<T, E> {
    type Input = Result<T, E>;
    type Output = Result<Vec<T>, TaskError<E>>;

    fn ended(&mut self, index: usize, end: Result<Result<T, E>, TaskPanic>) {
        match fallible(index, end) {
            Ok(value) => self.slots.put(index, value),
            Err(error) => self.fault = Some(error),
        }
    }

    fn decide(&self, _: Option<usize>) -> ControlFlow<()> {
        stop_at(&self.fault)
    }

    fn settle(self) -> Self::Output {
        match self.fault {
            Some(error) => Err(error),
            None => Ok(self.slots.full()),
        }
    }

    fn stopped(self, stop: Stop, _: usize) -> Self::Output {
        Err(stop.into())
    }
}

/// The rule of `take`.
pub(super) struct Take<T, E> {
    count: usize,
    values: Kept<Vec<T>>,
    /// In order of time.
    errors: Kept<Vec<TaskError<E>>>,
}

impl<T, E> Take<T, E> {
    pub(super) fn new(count: usize) -> Take<T, E> {
        Take {
            count,
            values: Kept::default(),
            errors: Kept::default(),
        }
    }
}

impl<T: Send + 'static, E: Send + 'static> Rule for Take<T, E> {
    type Input = Result<T, E>;
    type Output = Result<Vec<T>, RaceError<E>>;

    fn ended(&mut self, index: usize, end: Result<Result<T, E>, TaskPanic>) {
        match fallible(index, end) {
            Ok(value) => self.values.push(value),
            Err(error) => self.errors.push(error),
        }
    }

    fn decide(&self, to_come: Option<usize>) -> ControlFlow<()> {
        let wanted = self.count - self.values.len();
        if wanted == 0 {
            return Break(());
        }
        match to_come {
            Some(most) if most < wanted => Break(()),
            _ => Continue(()),
        }
    }

    fn settle(self) -> Self::Output {
        if self.values.len() == self.count {
            return Ok(self.values.take());
        }
        Err(TaskErrors::new(self.errors.take()).map_or(RaceError::TooFew, RaceError::Failed))
    }

    fn stopped(self, stop: Stop, _: usize) -> Self::Output {
        Err(stop.into())
    }
}

/// The rule of `race`: that of `take` for one value.
pub(super) struct Race<T, E>(Take<T, E>);

impl<T, E> Race<T, E> {
    pub(super) fn new() -> Race<T, E> {
        Race(Take::new(1))
    }

    fn one(values: Result<Vec<T>, RaceError<E>>) -> Result<T, RaceError<E>> {
        values.map(|mut values| values.pop().expect("it takes one"))
    }
}

impl<T: Send + 'static, E: Send + 'static> Rule for Race<T, E> {
    type Input = Result<T, E>;
    type Output = Result<T, RaceError<E>>;

    fn ended(&mut self, index: usize, end: Result<Result<T, E>, TaskPanic>) {
        self.0.ended(index, end);
    }

    fn decide(&self, to_come: Option<usize>) -> ControlFlow<()> {
        self.0.decide(to_come)
    }

    fn settle(self) -> Self::Output {
        Race::one(self.0.settle())
    }

    fn stopped(self, stop: Stop, cut_off: usize) -> Self::Output {
        Race::one(self.0.stopped(stop, cut_off))
    }
}

/// The rule of `try_take`.
pub(super) struct TryTake<T, E> {
    count: usize,
    values: Kept<Vec<T>>,
    fault: Fault<E>,
}

impl<T, E> TryTake<T, E> {
    pub(super) fn new(count: usize) -> TryTake<T, E> {
        TryTake {
            count,
            values: Kept::default(),
            fault: None,
        }
    }
}

impl<T: Send + 'static, E: Send + 'static> Rule for TryTake<T, E> {
    type Input = Result<T, E>;
    type Output = Result<Vec<T>, TaskError<E>>;

    fn ended(&mut self, index: usize, end: Result<Result<T, E>, TaskPanic>) {
        match fallible(index, end) {
            Ok(value) => self.values.push(value),
            Err(error) => self.fault = Some(error),
        }
    }

    fn decide(&self, _: Option<usize>) -> ControlFlow<()> {
        if self.values.len() == self.count {
            return Break(());
        }
        stop_at(&self.fault)
    }

    fn settle(self) -> Self::Output {
        match self.fault {
            Some(error) => Err(error),
            None => Ok(self.values.take()),
        }
    }

    fn stopped(self, stop: Stop, _: usize) -> Self::Output {
        Err(stop.into())
    }
}

/// The rule of `last`.
pub(super) struct Last<T, E> {
    count: usize,
    values: Kept<VecDeque<T>>,
    fault: Fault<E>,
}

impl<T, E> Last<T, E> {
    pub(super) fn new(count: usize) -> Last<T, E> {
        Last {
            count,
            values: Kept::default(),
            fault: None,
        }
    }
}

impl<T: Send + 'static, E: Send + 'static> Rule for Last<T, E> {
    type Input = Result<T, E>;
    type Output = Result<Vec<T>, TaskError<E>>;

    fn ended(&mut self, index: usize, end: Result<Result<T, E>, TaskPanic>) {
        match fallible(index, end) {
            Ok(value) => self.values.push_back(value),
            Err(error) => self.fault = Some(error),
        }
        if self.values.len() > self.count {
            discard_each(self.values.pop_front());
        }
    }

    fn decide(&self, _: Option<usize>) -> ControlFlow<()> {
        stop_at(&self.fault)
    }

    fn settle(self) -> Self::Output {
        match self.fault {
            Some(error) => Err(error),
            None => Ok(self.values.take().into()),
        }
    }

    fn stopped(self, stop: Stop, _: usize) -> Self::Output {
        Err(stop.into())
    }
}

/// The rule of `for_each`: nothing is kept.
pub(super) struct Each {
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

    fn ended(&mut self, _: usize, end: Result<(), TaskPanic>) {
        if let Err(panic) = end {
            self.fault = Some(TaskError::Panicked(panic));
        }
    }

    fn decide(&self, _: Option<usize>) -> ControlFlow<()> {
        stop_at(&self.fault)
    }

    fn settle(self) -> Self::Output {
        self.fault.map_or(Ok(()), Err)
    }

    fn stopped(self, stop: Stop, _: usize) -> Self::Output {
        Err(stop.into())
    }
}
