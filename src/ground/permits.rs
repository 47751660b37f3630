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
    inside: VecDeque<T>,
    /// Empty unless the room is full.
    asking: Asking<T>,
}

/// Storage that is not worth giving back.
const KEPT: usize = 1024;

impl<T> Permits<T> {
    pub(crate) fn new(limit: usize, room: usize) -> Permits<T> {
        Permits {
            limit,
            room,
            taken: 0,
            inside: VecDeque::new(),
            asking: Asking::default(),
        }
    }

    pub(crate) fn taken(&self) -> usize {
        self.taken
    }

    pub(crate) fn waiting(&self) -> usize {
        self.inside.len() + self.asking.here
    }

    /// Takes a place, if one is free and nobody has asked before.
    pub(crate) fn take(&mut self) -> bool {
        let free = self.waiting() == 0 && self.taken < self.limit;
        self.taken += usize::from(free);
        free
    }

    pub(crate) fn give_back(&mut self) {
        self.taken -= 1;
    }

    pub(crate) fn has_room(&self) -> bool {
        self.inside.len() < self.room
    }

    /// Stands `value` at the end of the line. By the number it is found for as long as it is asking.
    pub(crate) fn park(&mut self, value: T) -> u64 {
        if self.has_room() {
            self.inside.push_back(value);
            self.asking.number()
        } else {
            self.asking.push(value)
        }
    }

    /// The head of the line, with a place taken for it.
    pub(crate) fn next(&mut self) -> Option<T> {
        if self.taken == self.limit {
            return None;
        }
        let value = self.inside.pop_front().or_else(|| self.asking.pop())?;
        if self.has_room() {
            self.inside.extend(self.asking.pop());
        }
        self.taken += 1;
        if self.inside.is_empty() && self.inside.capacity() > KEPT {
            self.inside = VecDeque::new();
        }
        Some(value)
    }

    /// The last of those that are taken in, if they fill the room; after each step forward it may be new
    /// there.
    pub(crate) fn newest_inside(&mut self) -> Option<&mut T> {
        let full = !self.has_room();
        self.inside.back_mut().filter(|_| full)
    }

    pub(crate) fn asking(&mut self, number: u64) -> Option<&mut T> {
        self.asking.find(number)?.as_mut()
    }

    /// Takes one out that is asking, wherever it stands.
    pub(crate) fn withdraw(&mut self, number: u64) -> Option<T> {
        self.asking.remove(number)
    }

    /// Takes all out, in order.
    pub(crate) fn clear(&mut self) -> impl Iterator<Item = T> + use<T> {
        let inside = std::mem::take(&mut self.inside);
        inside.into_iter().chain(self.asking.clear())
    }
}

/// A queue that one in the middle may leave. Its place stays empty until there are more empty places than
/// others, and enough to be worth a sweep: leaving costs a search by bisection.
#[derive(Debug)]
struct Asking<T> {
    /// By number, which only grows.
    places: VecDeque<(u64, Option<T>)>,
    /// Places that are not empty.
    here: usize,
    last: u64,
}

impl<T> Default for Asking<T> {
    fn default() -> Asking<T> {
        Asking {
            places: VecDeque::new(),
            here: 0,
            last: 0,
        }
    }
}

impl<T> Asking<T> {
    fn number(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    fn push(&mut self, value: T) -> u64 {
        let number = self.number();
        self.places.push_back((number, Some(value)));
        self.here += 1;
        number
    }

    fn pop(&mut self) -> Option<T> {
        let places = &mut self.places;
        let value = std::iter::from_fn(|| places.pop_front()).find_map(|(_, value)| value)?;
        self.left();
        Some(value)
    }

    fn find(&mut self, number: u64) -> Option<&mut Option<T>> {
        let place = self
            .places
            .binary_search_by_key(&number, |(n, _)| *n)
            .ok()?;
        Some(&mut self.places[place].1)
    }

    fn remove(&mut self, number: u64) -> Option<T> {
        let value = self.find(number)?.take()?;
        self.left();
        Some(value)
    }

    /// One has left.
    fn left(&mut self) {
        self.here -= 1;
        if self.places.len() > 2 * self.here + KEPT {
            self.places.retain(|(_, value)| value.is_some());
        }
        if self.here == 0 {
            self.places.clear();
            if self.places.capacity() > KEPT {
                self.places = VecDeque::new();
            }
        }
    }

    fn clear(&mut self) -> impl Iterator<Item = T> + use<T> {
        self.here = 0;
        let places = std::mem::take(&mut self.places);
        places.into_iter().filter_map(|(_, value)| value)
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

    #[test]
    fn what_is_taken_in_and_what_asks_come_in_the_order_in_which_they_came() {
        let mut permits = Permits::new(1, 2);
        assert!(permits.take());
        let numbers = [0, 1, 2, 3, 4].map(|value| permits.park(value));
        assert_eq!(permits.withdraw(numbers[0]), None, "it is taken in");
        assert_eq!(permits.withdraw(numbers[3]), Some(3));
        assert_eq!(permits.asking(numbers[2]), Some(&mut 2));
        permits.give_back();
        assert_eq!(permits.next(), Some(0));
        assert_eq!(permits.asking(numbers[2]), None, "there was room for it");
        assert_eq!((permits.waiting(), permits.has_room()), (3, false));
        assert_eq!(permits.clear().collect::<Vec<_>>(), [1, 2, 4]);
        assert_eq!((permits.waiting(), permits.clear().count()), (0, 0));
    }

    /// In the worst order, from the back.
    #[test]
    fn empty_places_never_outnumber_the_others_by_more_than_a_constant() {
        let mut permits = Permits::new(0, 0);
        let numbers: Vec<u64> = (0..10_000).map(|value| permits.park(value)).collect();
        let mut sweeps = 0;
        for (value, &number) in numbers.iter().enumerate().skip(1).rev() {
            let before = permits.asking.places.len();
            assert_eq!(permits.withdraw(number), Some(value));
            let (places, here) = (permits.asking.places.len(), permits.waiting());
            assert!(places <= 2 * here + KEPT, "{places} places for {here}");
            sweeps += usize::from(places < before);
        }
        assert!(sweeps < 10, "{sweeps} sweeps");
        assert_eq!(permits.asking(numbers[0]), Some(&mut 0));
        permits.withdraw(numbers[0]);
        assert!(permits.asking.places.capacity() <= KEPT);
    }
}
