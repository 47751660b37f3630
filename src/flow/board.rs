//! Where the tasks of a combinator tell that they have ended.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use crate::ground::panic::{TaskPanic, discard, forget, wake_each};

/// Ends in order of time, and who is to be woken by the next one.
///
/// Under its lock values are only moved.
pub(super) struct Board<T> {
    state: Mutex<State<T>>,
}

struct State<T> {
    ended: VecDeque<Ended<T>>,
    reader: Option<Waker>,
    /// Nobody reads any more.
    closed: bool,
}

/// The end of one task.
pub(super) struct Ended<T> {
    pub(super) index: usize,
    pub(super) seat: u32,
    /// None: it was aborted.
    pub(super) end: Option<Result<T, TaskPanic>>,
}

impl<T> Board<T> {
    pub(super) fn new() -> Arc<Board<T>> {
        Arc::new(Board {
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
    pub(super) fn read(&self, list: &mut VecDeque<Ended<T>>, reader: &Waker) {
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

    /// What comes from now on is dropped by its task.
    pub(super) fn close(&self) -> VecDeque<Ended<T>> {
        let mut state = self.lock();
        state.closed = true;
        let (ended, reader) = (std::mem::take(&mut state.ended), state.reader.take());
        drop(state);
        drop(reader);
        ended
    }

    fn tell(&self, ended: Ended<T>) {
        let mut state = self.lock();
        if state.closed {
            drop(state);
            return discard(ended).unwrap_or_else(forget);
        }
        state.ended.push_back(ended);
        let reader = state.reader.take();
        drop(state);
        wake_each(reader);
    }
}

/// Tells the end of one task, whatever the end: if it is dropped, the task was aborted.
pub(super) struct Report<T> {
    /// Until the end was told.
    board: Option<Arc<Board<T>>>,
    index: usize,
    seat: u32,
}

impl<T> Report<T> {
    pub(super) fn new(board: &Arc<Board<T>>, index: usize, seat: u32) -> Report<T> {
        Report {
            board: Some(Arc::clone(board)),
            index,
            seat,
        }
    }

    pub(super) fn index(&self) -> usize {
        self.index
    }

    pub(super) fn tell(&mut self, end: Option<Result<T, TaskPanic>>) {
        if let Some(board) = self.board.take() {
            let (index, seat) = (self.index, self.seat);
            board.tell(Ended { index, seat, end });
        }
    }
}

impl<T> Drop for Report<T> {
    fn drop(&mut self) {
        self.tell(None);
    }
}
