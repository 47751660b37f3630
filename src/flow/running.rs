//! A combinator under way.

use std::fmt;
use std::future::Future;
use std::ops::ControlFlow::Break;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use super::rule::Rule;
use super::task::Task;
use super::task_set::{Event, TaskSet};
use crate::ground::panic::TaskPanic;
use crate::ground::token::Cause;

/// Runs the tasks and ends with their value; a [`Flow`](super::Flow) becomes it when it is awaited.
///
/// # Cancel safety
///
/// Dropping it aborts its tasks at their next await, and the values that they had are lost.
#[must_use = "nothing runs until it is awaited"]
pub struct Running<I, K, R: Rule> {
    set: TaskSet<I, K, R::Input>,
    limit: usize,
    rule: Option<R>,
    over: Option<Over>,
}

/// Why no more tasks start, while those that run are waited for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Over {
    /// The rule has its value: what still ends does not count.
    Settled,
    /// What had ended by itself before the abort reached it still counts.
    Cancelled,
}

/// Tasks and values are moved about, and not polled here.
impl<I, K, R: Rule> Unpin for Running<I, K, R> {}

impl<I, K, R> Running<I, K, R>
where
    I: Iterator<Item: Task<K, Output = R::Input>>,
    R: Rule,
{
    pub(super) fn new(set: TaskSet<I, K, R::Input>, rule: R, limit: usize) -> Running<I, K, R> {
        Running {
            set,
            limit,
            rule: Some(rule),
            over: None,
        }
    }

    /// Starts what may start, unless the value or a cancel is there.
    fn start(&mut self) {
        self.decide();
        // Asked before any start, also the first one.
        if self.over.is_none() && self.set.is_cancelled() {
            self.cancel();
        }
        if self.over.is_none() {
            while self.set.running() < self.limit && self.set.start_next() {}
            // The end of the input may be known only now.
            self.decide();
        }
    }

    /// Asks the rule for its decision; a value that is there wins over a cancel.
    fn decide(&mut self) {
        let (None | Some(Over::Cancelled), Some(rule)) = (self.over, &self.rule) else {
            return;
        };
        if let Break(cause) = rule.decide(self.set.without_end()) {
            self.over = Some(Over::Settled);
            self.set.stop(cause);
            self.set.cut_off(0);
        }
    }

    fn cancel(&mut self) {
        self.over = Some(Over::Cancelled);
        self.set.stop(Cause::Cancelled);
    }

    fn ended(&mut self, index: usize, end: Result<R::Input, TaskPanic>) {
        match (self.over, &mut self.rule) {
            (None | Some(Over::Cancelled), Some(rule)) => rule.ended(index, end),
            _ => self.set.bury(end),
        }
    }

    /// Takes the value, when no task runs any more.
    fn finish(&mut self) -> R::Output {
        let Some(rule) = self.rule.take() else {
            panic!("schedgroup: a combinator was polled after it had ended");
        };
        self.set.stop(Cause::Finished);
        if self.over != Some(Over::Cancelled) {
            return rule.settle();
        }
        // Without slots one task is enough to show that the cancel cut something off.
        match self.set.cut_off(if R::SLOTS { usize::MAX } else { 1 }) {
            0 => rule.settle(),
            cut_off => rule.cancelled(cut_off),
        }
    }
}

impl<I, K, R> Future for Running<I, K, R>
where
    I: Iterator<Item: Task<K, Output = R::Input>>,
    R: Rule,
{
    type Output = R::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<R::Output> {
        let this = &mut *self;
        loop {
            this.start();
            match ready!(this.set.poll_event(cx)) {
                Event::Ended(index, end) => this.ended(index, end),
                Event::Cancelled => this.cancel(),
                Event::Idle => return Poll::Ready(this.finish()),
            }
        }
    }
}

impl<I, K, R: Rule> fmt::Debug for Running<I, K, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Running")
            .field("set", &self.set)
            .field("limit", &self.limit)
            .finish_non_exhaustive()
    }
}
