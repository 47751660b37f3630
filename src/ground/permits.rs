//! A limit, and what waits behind it in order, as plain values.

use std::collections::VecDeque;

/// So many places, and a line of what found none.
///
/// A free place is never passed by: whoever changes something asks [`next`](Permits::next) until it
/// has no answer.
#[derive(Debug)]
pub(crate) struct Permits<T> {
    limit: usize,
    /// So much of the line is taken in; what stands behind is still asking.
    room: usize,
    taken: usize,
    /// By number, which only grows: found by bisection.
    line: VecDeque<(u64, T)>,
    number: u64,
}

impl<T> Permits<T> {
    pub(crate) fn new(limit: usize, room: usize) -> Permits<T> {
        Permits {
            limit,
            room,
            taken: 0,
            line: VecDeque::new(),
            number: 0,
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
        self.line.len() < self.room
    }

    /// Stands `value` at the end of the line.
    pub(crate) fn park(&mut self, value: T) -> u64 {
        self.number += 1;
        self.line.push_back((self.number, value));
        self.number
    }

    /// The head of the line, with a place taken for it.
    pub(crate) fn next(&mut self) -> Option<T> {
        if self.taken == self.limit {
            return None;
        }
        let (_, value) = self.line.pop_front()?;
        self.taken += 1;
        if self.line.is_empty() && self.line.capacity() > 1024 {
            self.line = VecDeque::new();
        }
        Some(value)
    }

    /// The last of those that are taken in; after each step forward it may be new there.
    pub(crate) fn newest_inside(&mut self) -> Option<&mut T> {
        let last = self.room.checked_sub(1)?;
        self.line.get_mut(last).map(|(_, value)| value)
    }

    pub(crate) fn parked(&mut self, number: u64) -> Option<&mut T> {
        let place = self.place(number)?;
        self.line.get_mut(place).map(|(_, value)| value)
    }

    /// Takes one out of the line, wherever it stands.
    pub(crate) fn withdraw(&mut self, number: u64) -> Option<T> {
        let place = self.place(number)?;
        self.line.remove(place).map(|(_, value)| value)
    }

    pub(crate) fn clear(&mut self) -> VecDeque<(u64, T)> {
        std::mem::take(&mut self.line)
    }

    fn place(&self, number: u64) -> Option<usize> {
        self.line.binary_search_by_key(&number, |(n, _)| *n).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_overtakes_the_line() {
        let mut permits = Permits::new(1, 0);
        assert!(permits.take());
        permits.park('a');
        permits.give_back();
        assert!(!permits.take(), "a place is free, but it is for the line");
        assert_eq!(permits.next(), Some('a'));
        assert_eq!((permits.next(), permits.taken()), (None, 1));
    }

    #[test]
    fn one_in_the_middle_can_leave() {
        let mut permits = Permits::new(1, 0);
        assert!(permits.take());
        let numbers = ['a', 'b', 'c'].map(|value| permits.park(value));
        assert_eq!(permits.withdraw(numbers[1]), Some('b'));
        assert_eq!(permits.withdraw(numbers[1]), None);
        permits.give_back();
        assert_eq!(permits.next(), Some('a'));
        permits.give_back();
        assert_eq!(permits.next(), Some('c'));
    }

    #[test]
    fn a_step_forward_brings_one_more_inside() {
        let mut permits = Permits::new(1, 1);
        assert!(permits.take() && permits.has_room());
        permits.park('a');
        assert!(!permits.has_room());
        permits.park('b');
        permits.give_back();
        assert_eq!(permits.next(), Some('a'));
        assert_eq!(permits.newest_inside(), Some(&mut 'b'));
    }
}
