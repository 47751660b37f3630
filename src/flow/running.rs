//! A combinator under way.

use std::fmt;
use std::future::Future;
use std::ops::ControlFlow::Break;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use super::crew::{Crew, News};
use super::rule::Rule;
use super::task::Task;
use crate::ground::panic::TaskPanic;
use crate::ground::token::Cause;

/// Runs the tasks and ends with their value; a [`Flow`](super::Flow) becomes it when it is awaited.
///
/// # Cancel safety
///
/// Dropping it aborts its tasks at their next await, and the values that they had are lost.
#[must_use = "nothing runs until it is awaited"]
pub struct Running<I, K, R: Rule> {
    crew: Crew<I, K, R::Input>,
    limit: usize,
    rule: Option<R>,
    over: Option<Over>,
}

/// What is known while the last tasks are waited for.
#[derive(Clone, Copy)]
enum Over {
    /// The rule has its value.
    Settled,
    /// It was cancelled, and there were to be so many tasks.
    Cancelled(usize),
}

/// Tasks and values are moved about, and not polled here.
impl<I, K, R: Rule> Unpin for Running<I, K, R> {}

impl<I, K, R> Running<I, K, R>
where
    I: Iterator<Item: Task<K, Output = R::Input>>,
    R: Rule,
{
    pub(super) fn new(crew: Crew<I, K, R::Input>, rule: R, limit: usize) -> Running<I, K, R> {
        Running {
            crew,
            limit,
            rule: Some(rule),
            over: None,
        }
    }

    fn start(&mut self) {
        if self.rule.as_ref().is_some_and(Rule::is_settled) {
            self.settle(Cause::Finished);
        } else {
            while self.crew.running() < self.limit && self.crew.start_next() {}
        }
    }

    fn settle(&mut self, cause: Cause) {
        self.over = Some(Over::Settled);
        let left = self.crew.stop(cause);
        self.crew.bury(left);
    }

    fn cancel(&mut self) {
        let left = self.crew.stop(Cause::Cancelled);
        let mut tasks = self.crew.started();
        if R::SLOTS {
            for task in left.into_iter().flatten() {
                self.crew.bury(task);
                tasks += 1;
            }
        } else {
            self.crew.bury(left);
        }
        self.over = Some(Over::Cancelled(tasks));
    }

    fn ended(&mut self, index: usize, end: Result<R::Input, TaskPanic>) {
        // Asked after the end was taken, so that a cancel which came before it is always seen.
        if self.over.is_none() && self.crew.is_cancelled() {
            self.cancel();
        }
        match (self.over, &mut self.rule) {
            (None, Some(rule)) => {
                if let Break(cause) = rule.ended(index, end) {
                    self.settle(cause);
                }
            }
            // It had ended before the abort reached it.
            (Some(Over::Cancelled(_)), Some(rule)) => drop(rule.ended(index, end)),
            _ => self.crew.bury(end),
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
        // A cancel that is there already comes before any start.
        if this.over.is_none() && this.crew.is_cancelled() {
            this.cancel();
        }
        loop {
            if this.over.is_none() {
                this.start();
            }
            match ready!(this.crew.poll_news(cx)) {
                News::Ended(index, end) => this.ended(index, end),
                News::Cancelled => this.cancel(),
                News::Idle => break,
            }
        }
        this.crew.stop(Cause::Finished);
        let Some(rule) = this.rule.take() else {
            panic!("schedgroup: a combinator was polled after it had ended");
        };
        Poll::Ready(match this.over {
            Some(Over::Cancelled(tasks)) => rule.cancelled(tasks),
            _ => rule.settle(),
        })
    }
}

impl<I, K, R: Rule> fmt::Debug for Running<I, K, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Running")
            .field("crew", &self.crew)
            .field("limit", &self.limit)
            .finish_non_exhaustive()
    }
}
