//! The ends of tasks, in order.

use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::task::{Context, Poll, ready};

use super::crew::{Crew, News};
use super::task::Task;
use crate::ground::error::TaskError;
use crate::ground::panic::{TaskPanic, discard_each};
use crate::ground::token::Cause;

/// Runs tasks in parallel and hands their ends out in the order of the tasks.
///
/// With a limit it is bounded: so many tasks run or wait with their end to be taken, so a slow taker slows
/// the tasks down. Dropping it aborts them.
#[must_use = "a stream that is dropped aborts its tasks"]
pub struct Stream<I, K, T> {
    crew: Crew<I, K, T>,
    limit: usize,
    /// The ends of the tasks that started and were not taken, in order, as far as they are known.
    ends: VecDeque<Option<Result<T, TaskError>>>,
    phase: Phase,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Open,
    Cancelled,
    /// There is nothing more to take.
    Over,
}

impl<I, K, T> Stream<I, K, T>
where
    I: Iterator<Item: Task<K, Output = T>>,
    T: Send + 'static,
{
    pub(super) fn new(crew: Crew<I, K, T>, limit: usize) -> Stream<I, K, T> {
        let mut stream = Stream {
            crew,
            limit,
            ends: VecDeque::new(),
            phase: Phase::Open,
        };
        // A cancel that is there already comes before any start.
        if !stream.crew.is_cancelled() {
            stream.fill();
        }
        stream
    }

    /// The end of the next task in order; `None` after the last.
    ///
    /// After a cancel the ends that are there come out up to the first that is missing; in its place
    /// comes [`Cancelled`](TaskError::Cancelled), once, and then `None`. By then no task is left.
    ///
    /// # Cancel safety
    ///
    /// No end is lost if the future is dropped.
    pub async fn next(&mut self) -> Option<Result<T, TaskError>> {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// Like [`next`](Stream::next), for whoever polls by hand: so that
    /// `poll_fn(move |cx| stream.poll_next(cx))` is a stream of the crate futures.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<T, TaskError>>> {
        loop {
            if self.phase == Phase::Open {
                if self.crew.is_cancelled() {
                    self.cancel();
                } else if let Some(end) = self.take() {
                    return Poll::Ready(Some(end));
                }
            }
            match ready!(self.crew.poll_news(cx)) {
                News::Ended(index, end) => self.put(index, end),
                News::Cancelled => self.cancel(),
                News::Idle => return Poll::Ready(self.idle()),
            }
        }
    }

    /// The first end, if it is there; its place goes to the next task.
    fn take(&mut self) -> Option<Result<T, TaskError>> {
        self.fill();
        self.ends.front()?.as_ref()?;
        let end = self.ends.pop_front().flatten();
        self.fill();
        end
    }

    fn fill(&mut self) {
        while self.ends.len() < self.limit && self.crew.start_next() {
            self.ends.push_back(None);
        }
    }

    fn put(&mut self, index: usize, end: Result<T, TaskPanic>) {
        let first = self.crew.started() - self.ends.len();
        let end = end.map_err(|panic| TaskError::Panicked { index, panic });
        self.ends[index - first] = Some(end);
    }

    fn cancel(&mut self) {
        self.phase = Phase::Cancelled;
        let left = self.crew.stop(Cause::Cancelled);
        self.crew.bury(left);
    }

    /// No task is left: what there is to take.
    fn idle(&mut self) -> Option<Result<T, TaskError>> {
        if self.phase == Phase::Cancelled {
            if let Some(end) = self.ends.pop_front().flatten() {
                return Some(end);
            }
            self.phase = Phase::Over;
            discard_each(std::mem::take(&mut self.ends));
            return Some(Err(TaskError::Cancelled));
        }
        self.phase = Phase::Over;
        self.crew.stop(Cause::Finished);
        None
    }
}

impl<I, K, T> fmt::Debug for Stream<I, K, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream")
            .field("crew", &self.crew)
            .field("limit", &self.limit)
            .finish_non_exhaustive()
    }
}
