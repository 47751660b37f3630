//! A limit, and what waits behind it in order, as plain values.

use std::collections::BTreeMap;
use std::ops::Bound::{Excluded, Unbounded};

/// A limit, and a FIFO line of what found it reached.
///
/// The head of the line is taken in; what stands behind is still asking, and may leave from anywhere. A free
/// place is never passed by: whoever changes something asks [`next`](WaitQueue::next) until it has no answer.
///
/// Each step costs a search in a tree: nothing is swept or copied, however long the line is, and its storage
/// goes as it gets shorter.
#[derive(Debug)]
pub(crate) struct WaitQueue<T> {
    limit: usize,
    /// How much of the line is taken in at most.
    room: usize,
    taken: usize,
    /// By number, in order of arrival.
    line: BTreeMap<u64, T>,
    /// How much of the line is taken in. It fills the room if anything is asking.
    inside: usize,
    /// The number of the last one that was taken in: those behind it are asking.
    newest: u64,
    /// The last number that was given.
    last: u64,
}

/// So much of a line is taken out at once.
const PAGE: usize = 512;

impl<T> WaitQueue<T> {
    pub(crate) fn new(limit: usize, room: usize) -> WaitQueue<T> {
        WaitQueue {
            limit,
            room,
            taken: 0,
            line: BTreeMap::new(),
            inside: 0,
            newest: 0,
            last: 0,
        }
    }

    pub(crate) fn taken(&self) -> usize {
        self.taken
    }

    pub(crate) fn waiting(&self) -> usize {
        self.line.len()
    }

    /// Takes a place, if one is free and nobody has asked before.
    pub(crate) fn take(&mut self) -> bool {
        let free = self.line.is_empty() && self.taken < self.limit;
        self.taken += usize::from(free);
        free
    }

    pub(crate) fn give_back(&mut self) {
        self.taken -= 1;
    }

    pub(crate) fn has_room(&self) -> bool {
        self.inside < self.room
    }

    /// Stands `value` at the end of the line. By the number it is found for as long as it is asking.
    pub(crate) fn park(&mut self, value: T) -> u64 {
        self.last += 1;
        if self.has_room() {
            self.inside += 1;
            self.newest = self.last;
        }
        self.line.insert(self.last, value);
        self.last
    }

    /// The head of the line, with a place taken for it.
    pub(crate) fn next(&mut self) -> Option<T> {
        if self.taken == self.limit {
            return None;
        }
        let (_, value) = self.line.pop_first()?;
        self.taken += 1;
        if self.inside > 0 {
            self.inside -= 1;
            let mut asking = self.line.range((Excluded(self.newest), Unbounded));
            if let Some((&number, _)) = asking.next() {
                self.inside += 1;
                self.newest = number;
            }
        }
        Some(value)
    }

    /// The last of those that are taken in, if they fill the room; after each step forward it may be new
    /// there.
    pub(crate) fn newest_inside(&mut self) -> Option<&mut T> {
        if self.has_room() {
            return None;
        }
        // Not there if there is no room at all.
        self.line.get_mut(&self.newest)
    }

    pub(crate) fn asking(&mut self, number: u64) -> Option<&mut T> {
        if number <= self.newest {
            return None;
        }
        self.line.get_mut(&number)
    }

    /// Takes one out that is asking, wherever it stands.
    pub(crate) fn withdraw(&mut self, number: u64) -> Option<T> {
        if number <= self.newest {
            return None;
        }
        self.line.remove(&number)
    }

    /// Takes a page out of a line that nothing is added to any more, in order.
    pub(crate) fn take_page(&mut self) -> Vec<T> {
        let head = std::iter::from_fn(|| self.line.pop_first());
        let page: Vec<T> = head.take(PAGE).map(|(_, value)| value).collect();
        self.inside = self.inside.saturating_sub(page.len());
        page
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_overtakes_the_line() {
        let mut queue = WaitQueue::new(1, 0);
        assert!(queue.take());
        queue.park('a');
        queue.give_back();
        assert!(!queue.take(), "a place is free, but it is for the line");
        assert_eq!(queue.next(), Some('a'));
        assert_eq!((queue.next(), queue.taken()), (None, 1));
    }

    #[test]
    fn one_in_the_middle_can_leave() {
        let mut queue = WaitQueue::new(1, 0);
        assert!(queue.take());
        let numbers = ['a', 'b', 'c'].map(|value| queue.park(value));
        assert_eq!(queue.withdraw(numbers[1]), Some('b'));
        assert_eq!(queue.withdraw(numbers[1]), None);
        queue.give_back();
        assert_eq!(queue.next(), Some('a'));
        queue.give_back();
        assert_eq!(queue.next(), Some('c'));
    }

    #[test]
    fn a_step_forward_brings_one_more_inside() {
        let mut queue = WaitQueue::new(1, 1);
        assert!(queue.take() && queue.has_room());
        queue.park('a');
        assert!(!queue.has_room());
        queue.park('b');
        queue.give_back();
        assert_eq!(queue.next(), Some('a'));
        assert_eq!(queue.newest_inside(), Some(&mut 'b'));
    }

    #[test]
    fn what_is_taken_in_and_what_asks_come_in_the_order_in_which_they_came() {
        let mut queue = WaitQueue::new(1, 2);
        assert!(queue.take());
        let numbers = [0, 1, 2, 3, 4].map(|value| queue.park(value));
        assert_eq!(queue.withdraw(numbers[0]), None, "it is taken in");
        assert_eq!(queue.withdraw(numbers[3]), Some(3));
        assert_eq!(queue.asking(numbers[2]), Some(&mut 2));
        queue.give_back();
        assert_eq!(queue.next(), Some(0));
        assert_eq!(queue.asking(numbers[2]), None, "there was room for it");
        assert_eq!((queue.waiting(), queue.has_room()), (3, false));
        assert_eq!(queue.take_page(), [1, 2, 4]);
        assert_eq!((queue.waiting(), queue.take_page().len()), (0, 0));
    }

    #[test]
    fn those_in_the_middle_leave_the_room_to_those_behind() {
        let mut queue = WaitQueue::new(1, 1);
        assert!(queue.take());
        let numbers = ['a', 'b', 'c'].map(|value| queue.park(value));
        assert_eq!(queue.withdraw(numbers[1]), Some('b'));
        queue.give_back();
        assert_eq!(queue.next(), Some('a'));
        assert_eq!(queue.newest_inside(), Some(&mut 'c'));
        assert_eq!(queue.withdraw(numbers[2]), None, "it is taken in");
        queue.give_back();
        assert_eq!(queue.next(), Some('c'));
        assert!(queue.has_room());
    }

    #[test]
    fn a_long_line_goes_page_by_page_in_order() {
        for room in [0, 700, 2_000] {
            let mut queue = WaitQueue::new(0, room);
            for value in 0..1_500 {
                queue.park(value);
            }
            let pages = std::iter::from_fn(|| Some(queue.take_page())).take(4);
            let pages: Vec<_> = pages.collect();
            let lengths: Vec<_> = pages.iter().map(Vec::len).collect();
            assert_eq!(lengths, [PAGE, PAGE, 1_500 - 2 * PAGE, 0], "room {room}");
            assert!(pages.into_iter().flatten().eq(0..1_500), "room {room}");
        }
    }
}
