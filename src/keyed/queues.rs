//! The queues of an exclusive keyed group: due entries that wait for the run of their key, by the numbers of their rows.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::rows::{KEPT, RowMap};
use crate::common::time::Timestamp;

/// Due entries that start one after the other. So each end of a run unblocks one of them, however many there are.
#[derive(Default)]
pub(super) struct Queues {
    /// The entries that start after the run in a row; or between two runs, after the entry in that row, which may start
    /// now.
    behind: RowMap<Queue>,
    /// The turns of the entries that are in a queue. A queue may have former turns, too, which are passed over.
    turns: RowMap<u64>,
    /// The turn that was given last.
    last: u64,
}

/// Deadlines, turns and rows of the entries of one key, in the order in which they start.
type Queue = BinaryHeap<Reverse<(Timestamp, u64, u32)>>;

impl Queues {
    /// Adds the entry in `row`, which became due at `at`, to the queue behind the run in the row `run`.
    pub(super) fn push(&mut self, run: u32, row: u32, at: Timestamp) {
        self.last += 1;
        self.turns.insert(row, self.last);
        let queue = self.behind.entry(run).or_default();
        if queue.len() == queue.capacity() {
            // Or it could grow for as long as the run lasts, while entries come and are taken out.
            queue.retain(|Reverse((_, turn, row))| self.turns.get(row) == Some(turn));
            queue.reserve(queue.len() + 1);
        }
        queue.push(Reverse((at, self.last, row)));
    }

    /// Takes the first entry from the queue behind a row. Returns its row. The others start after that one.
    pub(super) fn pop(&mut self, row: u32) -> Option<u32> {
        let mut queue = self.behind.remove(&row)?;
        self.behind.shrink_to(KEPT.max(2 * self.behind.len()));
        loop {
            let Reverse((_, turn, next)) = queue.pop()?;
            if self.turns.get(&next) != Some(&turn) {
                continue;
            }
            self.remove(next);
            if queue.capacity() > KEPT.max(4 * queue.len()) {
                queue.shrink_to(2 * queue.len());
            }
            if !queue.is_empty() {
                // There is a queue behind it already if another entry, which came later, has started before it.
                self.behind.entry(next).or_default().append(&mut queue);
            }
            return Some(next);
        }
    }

    /// Takes the entry in a row out of its queue. If it was taken from the front before and may start now, the next one
    /// may start in its place: its row is returned.
    pub(super) fn leave(&mut self, row: u32) -> Option<u32> {
        if self.behind.is_empty() {
            return None;
        }
        self.remove(row);
        self.pop(row)
    }

    fn remove(&mut self, row: u32) {
        if self.turns.remove(&row).is_some() {
            self.turns.shrink_to(KEPT.max(2 * self.turns.len()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Timestamp {
        Timestamp::ALWAYS.after(std::time::Duration::from_millis(millis))
    }

    /// The rows in the order of their turns, from the one behind `run`.
    fn drain(queues: &mut Queues, run: u32) -> Vec<u32> {
        let rows: Vec<u32> =
            std::iter::successors(queues.pop(run), |&row| queues.pop(row)).collect();
        assert!(queues.behind.is_empty() && queues.turns.is_empty());
        rows
    }

    #[test]
    fn entries_start_in_the_order_of_their_deadlines_and_then_as_they_came() {
        let mut queues = Queues::default();
        for (row, millis) in [(3, 3), (1, 1), (2, 2), (4, 3)] {
            queues.push(0, row, at(millis));
            queues.push(10, 10 + row, at(millis));
        }
        assert_eq!(queues.pop(0), Some(1));
        // Another one has started in between.
        queues.push(9, 1, at(1));
        queues.push(9, 5, at(2));
        assert_eq!(queues.pop(10), Some(11));
        assert_eq!(queues.pop(9), Some(1));
        assert_eq!(queues.pop(11), Some(12));
        queues.remove(13);
        assert_eq!(queues.pop(12), Some(14));
        assert_eq!(drain(&mut queues, 1), [2, 5, 3, 4]);
    }

    #[test]
    fn a_row_that_is_used_again_has_the_turn_of_its_new_entry() {
        let mut queues = Queues::default();
        queues.push(0, 1, at(1));
        queues.push(0, 2, at(2));
        queues.remove(1);
        queues.push(10, 1, at(3));
        queues.push(10, 3, at(4));
        assert_eq!(queues.pop(0), Some(2), "it is not of this key any more");
        assert_eq!(queues.pop(2), None);
        assert_eq!(drain(&mut queues, 10), [1, 3]);
    }

    #[test]
    fn storage_follows_the_number_of_entries() {
        let (mut queues, most) = (Queues::default(), 10_000);
        for row in 1..most {
            queues.push(0, row, at(0));
        }
        for row in 0..most - 1 {
            assert_eq!(queues.pop(row), Some(row + 1));
            let queue = queues.behind.get(&(row + 1));
            let (len, capacity) = queue.map_or((0, 0), |queue| (queue.len(), queue.capacity()));
            assert!(capacity <= KEPT.max(4 * len + 4), "{capacity} for {len}");
            let (len, capacity) = (queues.turns.len(), queues.turns.capacity());
            assert!(capacity <= (8 * len).max(2 * KEPT), "{capacity} for {len}");
        }
        assert!(queues.behind.is_empty());
    }

    #[test]
    fn storage_follows_the_number_of_runs() {
        let (mut queues, most) = (Queues::default(), 10_000);
        for run in 0..most {
            queues.push(run, most + run, at(0));
        }
        for run in 0..most {
            assert_eq!(queues.pop(run), Some(most + run));
            let (len, capacity) = (queues.behind.len(), queues.behind.capacity());
            assert!(capacity <= (8 * len).max(2 * KEPT), "{capacity} for {len}");
        }
    }

    /// Or each entry that comes would look at all of them, while one at a time is taken out.
    #[test]
    fn a_queue_that_was_full_has_room_again() {
        let mut queues = Queues::default();
        let room = |queues: &Queues| {
            let queue = &queues.behind[&0];
            queue.capacity() - queue.len()
        };
        queues.push(0, 1, at(0));
        let mut len = 1;
        while room(&queues) > 0 {
            len += 1;
            queues.push(0, len, at(0));
        }
        queues.remove(1);
        queues.push(0, 1, at(0));
        assert!(
            room(&queues) >= len as usize - 1,
            "{} for {len}",
            room(&queues)
        );
    }

    #[test]
    fn a_queue_does_not_grow_by_entries_that_were_taken_out() {
        let mut queues = Queues::default();
        for row in 0..10_000 {
            let row = 1 + row % 2;
            queues.push(0, row, at(0));
            queues.remove(row);
        }
        let capacity = queues.behind[&0].capacity();
        assert!(capacity <= KEPT, "{capacity} for none");
        assert_eq!(queues.pop(0), None);
    }
}
