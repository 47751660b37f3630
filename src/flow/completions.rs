//! The queue in which the tasks of a combinator report that they have ended.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use crate::common::panic::{TaskPanic, discard, forget, wake_each};

/// Ends in order of completion, and the waker for the next one.
///
/// Under its lock values are only moved.
pub(super) struct Completions<T> {
    state: Mutex<State<T>>,
}

struct State<T> {
    ended: VecDeque<Completion<T>>,
    reader: Option<Waker>,
    /// The reader was dropped.
    closed: bool,
}

/// The end of one task.
pub(super) struct Completion<T> {
    pub(super) index: usize,
    pub(super) handle_index: u32,
    /// None: it was aborted.
    pub(super) end: Option<Result<T, TaskPanic>>,
}

impl<T> Completions<T> {
    pub(super) fn new() -> Arc<Completions<T>> {
        Arc::new(Completions {
            state: Mutex::new(State {
                ended: VecDeque::new(),
                reader: None,
                closed: false,
            }),
        })
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts all that is new in `list`, which is empty; if there is nothing, `reader` is woken by the next
    /// end. The two lists take turns, so that neither is made anew.
    pub(super) fn read(&self, list: &mut VecDeque<Completion<T>>, reader: &Waker) {
        let fresh = reader.clone();
        let mut state = self.lock();
        std::mem::swap(&mut state.ended, list);
        let old = state.reader.take();
        if list.is_empty() {
            state.reader = Some(fresh);
        }
        drop(state);
        drop(old);
    }

    /// Returns what was not read; what comes from now on is dropped by its task.
    pub(super) fn close(&self) -> VecDeque<Completion<T>> {
        let mut state = self.lock();
        state.closed = true;
        let (ended, reader) = (std::mem::take(&mut state.ended), state.reader.take());
        drop(state);
        drop(reader);
        ended
    }

    pub(super) fn push(&self, completion: Completion<T>) {
        let mut state = self.lock();
        if state.closed {
            drop(state);
            return discard(completion).unwrap_or_else(forget);
        }
        state.ended.push_back(completion);
        let reader = state.reader.take();
        drop(state);
        wake_each(reader);
    }
}
