//! The limit of a group, and the FIFO queue of tasks that found it reached.

use std::collections::BTreeMap;
use std::task::Waker;

use super::queued::{Queued, QueuedTask};

/// A limit, and a FIFO queue of what found it reached.
///
/// The front of the queue, as far as its capacity goes, is accepted: the group owns those tasks. Behind it
/// are the tasks of waiting `submit`s, which may be taken out from anywhere. A free slot is never passed by:
/// after each change [`next`](WaitQueue::next) is called until it returns `None`.
///
/// Each step costs a search in a tree: nothing is swept or copied, however long the queue is, and its storage
/// goes as it gets shorter.
// All under the pool's lock. A slot that is released while tasks are queued is theirs: `try_acquire` refuses as long as
// anything is queued, so only `next` can take it.
pub(super) struct WaitQueue<E> {
    limit: usize,
    /// How many queued tasks are accepted; `spawn` queues beyond it.
    capacity: usize,
    running: usize,
    /// By index, which is the order of arrival. They fill the capacity if any are behind them.
    accepted: BTreeMap<usize, Queued<E>>,
    /// Those behind: the tasks of waiting `submit`s, and of `spawn` beyond the capacity.
    behind: BTreeMap<usize, Queued<E>>,
    /// A caller is starting queued tasks: the others leave theirs to it.
    starting: bool,
}

/// The head of the queue, which has its slot.
pub(super) struct Next<E> {
    pub(super) queued: Queued<E>,
    /// Wakes the `submit` whose task is accepted by this step of the queue.
    pub(super) accepted: Option<Waker>,
}

/// The most tasks that are taken out of a queue in one step, under the lock.
const CHUNK: usize = 512;

impl<E> WaitQueue<E> {
    pub(super) fn new(limit: usize, capacity: usize) -> WaitQueue<E> {
        WaitQueue {
            limit,
            capacity,
            running: 0,
            accepted: BTreeMap::new(),
            behind: BTreeMap::new(),
            starting: false,
        }
    }

    pub(super) fn running(&self) -> usize {
        self.running
    }

    pub(super) fn len(&self) -> usize {
        self.accepted.len() + self.behind.len()
    }

    /// Returns whether a slot is free and nothing is queued for it.
    pub(super) fn has_slot(&self) -> bool {
        // With a queue, a free slot is for its head: a task that comes now must not overtake it.
        self.len() == 0 && self.running < self.limit
    }

    /// Takes a slot, if there is one for a task that comes now.
    pub(super) fn try_acquire(&mut self) -> bool {
        let free = self.has_slot();
        self.running += usize::from(free);
        free
    }

    pub(super) fn release(&mut self) {
        self.running -= 1;
    }

    pub(super) fn has_capacity(&self) -> bool {
        self.accepted.len() < self.capacity
    }

    /// Queues a task at the end: its index is above all that were queued before. One that finds capacity is accepted
    /// at once.
    pub(super) fn push(&mut self, queued: Queued<E>) {
        let queue = if self.has_capacity() {
            &mut self.accepted
        } else {
            &mut self.behind
        };
        queue.insert(queued.meta.index, queued);
    }

    /// The head of the queue, with a slot taken for it.
    pub(super) fn next(&mut self) -> Option<Next<E>> {
        if self.running == self.limit {
            return None;
        }
        // The slot belongs to the task and not to its submit: the task runs even if that is dropped from here on.
        let (_, queued) = self.pop_first()?;
        self.running += 1;
        if let QueuedTask::Submitted(task, _) = &queued.task {
            task.accept();
        }
        let accepted = self.accept_next();
        Some(Next { queued, accepted })
    }

    fn pop_first(&mut self) -> Option<(usize, Queued<E>)> {
        let accepted = self.accepted.pop_first();
        accepted.or_else(|| self.behind.pop_first())
    }

    /// Accepts the first task behind, since the head has left and so there may be capacity for one more. Returns the
    /// waker of its submit.
    fn accept_next(&mut self) -> Option<Waker> {
        if !self.has_capacity() {
            return None;
        }
        let (index, mut queued) = self.behind.pop_first()?;
        let waker = match &mut queued.task {
            QueuedTask::Submitted(task, waker) => {
                task.accept();
                waker.take()
            }
            // Of a `spawn`: the group had it before, and now it counts towards the capacity.
            QueuedTask::Owned(_) => None,
        };
        self.accepted.insert(index, queued);
        waker
    }

    /// Registers a waker for the `submit` of that task, and returns the one before; `Err` if the task is not
    /// waiting to be accepted any more.
    pub(super) fn register(&mut self, index: usize, fresh: Waker) -> Result<Option<Waker>, Waker> {
        match self.behind.get_mut(&index).map(|queued| &mut queued.task) {
            Some(QueuedTask::Submitted(_, waker)) => Ok(waker.replace(fresh)),
            _ => Err(fresh),
        }
    }

    /// Takes out a task that is not accepted. One that is accepted is not its submit's any more.
    pub(super) fn remove(&mut self, index: usize) -> Option<Queued<E>> {
        self.behind.remove(&index)
    }

    /// Takes a chunk out, in order, of a queue that nothing is added to any more.
    pub(super) fn take_chunk(&mut self) -> Vec<Queued<E>> {
        let head = std::iter::from_fn(|| self.pop_first());
        head.take(CHUNK).map(|(_, queued)| queued).collect()
    }

    /// Begins to start queued tasks. Returns `false` if another caller does so already.
    pub(super) fn begin_starting(&mut self) -> bool {
        !std::mem::replace(&mut self.starting, true)
    }

    pub(super) fn end_starting(&mut self) {
        self.starting = false;
    }

    /// Returns whether no task runs, is queued, or is about to start.
    pub(super) fn is_idle(&self) -> bool {
        // While one is starting, a chunk of skipped tasks may be out of the queue and not dropped yet.
        !self.starting && self.running == 0 && self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::panic::Location;
    use std::sync::Arc;

    use super::super::queued::{PendingSubmit, TaskMeta};
    use super::*;

    type Tasks = WaitQueue<()>;

    /// A queue behind a limit of one, which is reached.
    fn full(capacity: usize) -> Tasks {
        let mut queue = WaitQueue::new(1, capacity);
        assert!(queue.try_acquire());
        queue
    }

    fn spawn(queue: &mut Tasks, index: usize) {
        push(queue, index, QueuedTask::Owned(Box::new(|_, _| ())));
    }

    /// As the pool does: the task of a `submit` waits only where there is no capacity.
    fn submit(queue: &mut Tasks, index: usize) -> usize {
        if queue.has_capacity() {
            spawn(queue, index);
        } else {
            let task = Arc::new(PendingSubmit::new(pending::<Result<(), ()>>()));
            push(queue, index, QueuedTask::Submitted(task, None));
        }
        index
    }

    fn push(queue: &mut Tasks, index: usize, task: QueuedTask<()>) {
        let spawned_at = Location::caller();
        let meta = TaskMeta { index, spawned_at };
        queue.push(Queued { meta, task });
    }

    /// Gives the slot to the next, and says which one that is.
    fn step(queue: &mut Tasks) -> Option<usize> {
        queue.release();
        queue.next().map(|next| next.queued.meta.index)
    }

    fn listens(queue: &mut Tasks, index: usize) -> bool {
        queue.register(index, Waker::noop().clone()).is_ok()
    }

    #[test]
    fn a_free_slot_is_for_the_queue() {
        let mut queue = full(0);
        spawn(&mut queue, 1);
        queue.release();
        assert!(!queue.try_acquire());
        assert_eq!(queue.next().map(|next| next.queued.meta.index), Some(1));
        assert!(queue.next().is_none());
        assert_eq!(queue.running(), 1);
    }

    #[test]
    fn a_submit_in_the_middle_can_leave() {
        let mut queue = full(0);
        let indices = [1, 2, 3].map(|index| submit(&mut queue, index));
        assert_eq!(
            queue.remove(indices[1]).map(|queued| queued.meta.index),
            Some(2)
        );
        assert!(queue.remove(indices[1]).is_none());
        assert_eq!([(); 3].map(|()| step(&mut queue)), [Some(1), Some(3), None]);
    }

    #[test]
    fn a_step_accepts_the_first_that_waits_and_returns_its_waker() {
        let mut queue = full(1);
        submit(&mut queue, 1);
        assert!(!queue.has_capacity());
        let waiting = submit(&mut queue, 2);
        assert!(listens(&mut queue, waiting));
        queue.release();
        let next = queue.next().unwrap();
        assert!(next.queued.is_accepted());
        assert!(next.accepted.is_some());
        assert!(!listens(&mut queue, waiting), "it is accepted");
        assert!(queue.remove(waiting).is_none(), "likewise");
    }

    #[test]
    fn without_capacity_only_the_head_is_accepted() {
        let mut queue = full(0);
        let indices = [1, 2].map(|index| submit(&mut queue, index));
        queue.release();
        let next = queue.next().unwrap();
        assert!(next.queued.is_accepted(), "its submit cannot take it back");
        assert!(listens(&mut queue, indices[1]));
        assert!(queue.remove(indices[1]).is_some());
    }

    #[test]
    fn accepted_tasks_and_waiting_submits_start_in_the_order_in_which_they_came() {
        let mut queue = full(2);
        let indices = [1, 2, 3, 4, 5].map(|index| submit(&mut queue, index));
        assert!(queue.remove(indices[0]).is_none(), "it is accepted");
        assert!(queue.remove(indices[3]).is_some());
        assert!(listens(&mut queue, indices[2]));
        assert_eq!(step(&mut queue), Some(1));
        assert!(
            !listens(&mut queue, indices[2]),
            "there was capacity for it"
        );
        assert_eq!((queue.len(), queue.has_capacity()), (3, false));
        let chunk: Vec<_> = queue
            .take_chunk()
            .iter()
            .map(|queued| queued.meta.index)
            .collect();
        assert_eq!((chunk, queue.len()), (vec![2, 3, 5], 0));
        assert!(queue.take_chunk().is_empty());
    }

    #[test]
    fn those_that_leave_in_the_middle_leave_the_capacity_to_those_behind() {
        let mut queue = full(1);
        let indices = [1, 2, 3].map(|index| submit(&mut queue, index));
        assert!(queue.remove(indices[1]).is_some());
        assert_eq!(step(&mut queue), Some(1));
        assert!(queue.remove(indices[2]).is_none(), "it is accepted");
        assert_eq!(step(&mut queue), Some(3));
        assert!(queue.has_capacity());
    }

    #[test]
    fn a_long_queue_goes_chunk_by_chunk_in_order() {
        for capacity in [0, 700, 2_000] {
            let mut queue = full(capacity);
            for index in 0..1_500 {
                spawn(&mut queue, index);
            }
            let chunks: Vec<_> = [(); 4].into_iter().map(|()| queue.take_chunk()).collect();
            let lengths: Vec<_> = chunks.iter().map(Vec::len).collect();
            assert_eq!(
                lengths,
                [CHUNK, CHUNK, 1_500 - 2 * CHUNK, 0],
                "capacity {capacity}"
            );
            let order = chunks.into_iter().flatten().map(|queued| queued.meta.index);
            assert!(order.eq(0..1_500), "capacity {capacity}");
        }
    }
}
