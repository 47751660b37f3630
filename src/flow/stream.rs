//! The ends of tasks, in order.

use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::task::{Context, Poll, ready};

use super::rule::Kept;
use super::task::Task;
use super::task_set::{Event, TaskSet};
use crate::ground::error::TaskError;
use crate::ground::panic::TaskPanic;
use crate::ground::token::Cause;

/// Runs tasks in parallel and hands their ends out in the order of the tasks.
///
/// At most [`limit`](super::Flow::limit) tasks run or wait with their end to be taken, so a slow reader
/// slows the tasks down. Dropping the stream aborts them.
#[must_use = "a stream that is dropped aborts its tasks"]
pub struct Stream<I, K, T> {
    set: TaskSet<I, K, T>,
    limit: usize,
    /// The ends of the tasks that started and were not taken, in order, as far as they are known.
    ends: Kept<VecDeque<Option<Result<T, TaskError>>>>,
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
    pub(super) fn new(set: TaskSet<I, K, T>, limit: usize) -> Stream<I, K, T> {
        let mut stream = Stream {
            set,
            limit,
            ends: Kept::default(),
            phase: Phase::Open,
        };
        // A cancel that is there already comes before any start.
        if !stream.set.is_cancelled() {
            stream.fill();
        }
        stream
    }

    /// Returns the end of the next task in order; `None` after the last.
    ///
    /// After a cancel it returns the ends that are there, in order of the tasks but without those that the
    /// cancel cut off; then [`Cancelled`](TaskError::Cancelled), once, if it cut any off; then `None`. The
    /// first of these comes when all tasks have ended.
    ///
    /// # Cancel safety
    ///
    /// No end is lost if the future is dropped.
    pub async fn next(&mut self) -> Option<Result<T, TaskError>> {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// Polls for what [`next`](Stream::next) returns: `poll_fn(move |cx| stream.poll_next(cx))` is a stream
    /// of the crate futures.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<T, TaskError>>> {
        loop {
            if self.phase == Phase::Open {
                if self.set.is_cancelled() {
                    self.cancel();
                } else if let Some(end) = self.take() {
                    return Poll::Ready(Some(end));
                }
            }
            match ready!(self.set.poll_event(cx)) {
                Event::Ended(index, end) => self.put(index, end),
                Event::Cancelled => self.cancel(),
                Event::Idle => return Poll::Ready(self.idle()),
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
        while self.ends.len() < self.limit && self.set.start_next() {
            self.ends.push_back(None);
        }
    }

    fn put(&mut self, index: usize, end: Result<T, TaskPanic>) {
        let first = self.set.started() - self.ends.len();
        let end = end.map_err(|panic| TaskError::Panicked { index, panic });
        self.ends[index - first] = Some(end);
    }

    fn cancel(&mut self) {
        self.phase = Phase::Cancelled;
        self.set.stop(Cause::Cancelled);
    }

    /// Takes what is left when no task runs any more.
    fn idle(&mut self) -> Option<Result<T, TaskError>> {
        // After a cancel there are gaps, of the tasks that were aborted.
        while let Some(end) = self.ends.pop_front() {
            if end.is_some() {
                return end;
            }
        }
        let phase = std::mem::replace(&mut self.phase, Phase::Over);
        self.set.stop(Cause::Finished);
        let cut_off = phase == Phase::Cancelled && self.set.cut_off(1) > 0;
        cut_off.then_some(Err(TaskError::Cancelled))
    }
}

impl<I, K, T> fmt::Debug for Stream<I, K, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream")
            .field("set", &self.set)
            .field("limit", &self.limit)
            .finish_non_exhaustive()
    }
}
