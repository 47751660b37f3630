//! The rule by which each combinator makes its value of the ends of its tasks, as plain values.

use std::collections::VecDeque;

use super::error::RaceError;
use crate::common::closing::StopReason;
use crate::common::error::{TaskError, TaskErrors};
use crate::common::panic::{DiscardEach, TaskPanic, discard_each};

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

    /// Returns whether the value is there before all tasks have ended; at most `to_come` of them have no end yet, where
    /// that is known. Asked before the first start and after each end.
    fn is_settled(&self, to_come: Option<usize>) -> bool;

    /// The value, when it is settled or all tasks have ended. It is taken out, as by `stopped`: either is called once.
    fn settle(&mut self) -> Self::Output;

    /// The value when a stop cut tasks off: with slots all of them are counted, else at least one is.
    fn stopped(&mut self, stop: StopReason, cut_off: usize) -> Self::Output;
}

/// An end of a task that may fail.
fn fallible<T, E>(index: usize, end: Result<Result<T, E>, TaskPanic>) -> Result<T, TaskError<E>> {
    match end {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(TaskError::Failed { index, error }),
        Err(panic) => Err(TaskError::Panicked(panic)),
    }
}

/// Values by position, in any order of arrival.
type Slots<T> = DiscardEach<Vec<Option<T>>>;

impl<T> Slots<T> {
    fn put(&mut self, index: usize, value: T) {
        if self.len() <= index {
            self.resize_with(index + 1, || None);
        }
        self[index] = Some(value);
    }

    /// All of them, when none is empty.
    fn take_full(&mut self) -> Vec<T> {
        let values = self.take().into_iter();
        values.map(|value| value.expect("all have ended")).collect()
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
        self.slots.put(index, end.map_err(TaskError::Panicked));
    }

    fn is_settled(&self, _: Option<usize>) -> bool {
        false
    }

    fn settle(&mut self) -> Self::Output {
        self.slots.take_full()
    }

    fn stopped(&mut self, stop: StopReason, cut_off: usize) -> Self::Output {
        let mut slots = self.slots.take();
        let ended = slots.iter().flatten().count();
        slots.resize_with(ended + cut_off, || None);
        let ends = slots.into_iter();
        ends.map(|end| end.unwrap_or(Err(stop.into()))).collect()
    }
}

/// The rule of `try_all` and `map`.
pub(super) struct TryAll<T, E> {
    slots: Slots<T>,
    /// The first error or panic.
    error: DiscardEach<Option<TaskError<E>>>,
}

impl<T, E> TryAll<T, E> {
    pub(super) fn new() -> TryAll<T, E> {
        TryAll {
            slots: Slots::default(),
            error: DiscardEach::default(),
        }
    }
}

impl<T: Send + 'static, E: Send + 'static> Rule for TryAll<T, E> {
    type Input = Result<T, E>;
    type Output = Result<Vec<T>, TaskError<E>>;

    fn ended(&mut self, index: usize, end: Result<Result<T, E>, TaskPanic>) {
        match fallible(index, end) {
            Ok(value) => self.slots.put(index, value),
            Err(error) => *self.error = Some(error),
        }
    }

    fn is_settled(&self, _: Option<usize>) -> bool {
        self.error.is_some()
    }

    fn settle(&mut self) -> Self::Output {
        match self.error.take() {
            Some(error) => Err(error),
            None => Ok(self.slots.take_full()),
        }
    }

    fn stopped(&mut self, stop: StopReason, _: usize) -> Self::Output {
        Err(stop.into())
    }
}

/// The rule of `take`, and of `race`, which takes one.
pub(super) struct Take<T, E> {
    count: usize,
    values: DiscardEach<Vec<T>>,
    /// In order of time.
    errors: DiscardEach<Vec<TaskError<E>>>,
}

impl<T, E> Take<T, E> {
    pub(super) fn new(count: usize) -> Take<T, E> {
        Take {
            count,
            values: DiscardEach::default(),
            errors: DiscardEach::default(),
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

    fn is_settled(&self, to_come: Option<usize>) -> bool {
        let wanted = self.count - self.values.len();
        wanted == 0 || to_come.is_some_and(|most| most < wanted)
    }

    fn settle(&mut self) -> Self::Output {
        if self.values.len() == self.count {
            return Ok(self.values.take());
        }
        Err(TaskErrors::new(self.errors.take()).map_or(RaceError::TooFew, RaceError::Failed))
    }

    fn stopped(&mut self, stop: StopReason, _: usize) -> Self::Output {
        Err(stop.into())
    }
}

/// The rule of `try_take`, which ends with the first `count` values, of `last`, which keeps the last `count` of all, and
/// of `for_each`, which keeps none.
pub(super) struct TryTake<T, E> {
    count: usize,
    ends_at_count: bool,
    /// In order of time.
    values: DiscardEach<VecDeque<T>>,
    /// The first error or panic.
    error: DiscardEach<Option<TaskError<E>>>,
}

impl<T, E> TryTake<T, E> {
    pub(super) fn first(count: usize) -> TryTake<T, E> {
        TryTake {
            count,
            ends_at_count: true,
            values: DiscardEach::default(),
            error: DiscardEach::default(),
        }
    }

    pub(super) fn last(count: usize) -> TryTake<T, E> {
        TryTake {
            ends_at_count: false,
            ..TryTake::first(count)
        }
    }
}

impl<T: Send + 'static, E: Send + 'static> Rule for TryTake<T, E> {
    type Input = Result<T, E>;
    type Output = Result<Vec<T>, TaskError<E>>;

    fn ended(&mut self, index: usize, end: Result<Result<T, E>, TaskPanic>) {
        match fallible(index, end) {
            Ok(value) => self.values.push_back(value),
            Err(error) => *self.error = Some(error),
        }
        if self.values.len() > self.count {
            discard_each(self.values.pop_front());
        }
    }

    fn is_settled(&self, _: Option<usize>) -> bool {
        self.error.is_some() || (self.ends_at_count && self.values.len() == self.count)
    }

    fn settle(&mut self) -> Self::Output {
        match self.error.take() {
            Some(error) => Err(error),
            None => Ok(self.values.take().into()),
        }
    }

    fn stopped(&mut self, stop: StopReason, _: usize) -> Self::Output {
        Err(stop.into())
    }
}
