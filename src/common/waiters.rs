//! The wakers of tasks that wait for a group to drain or to end.

use std::task::Waker;

/// One waker for each future that has found that the group has not ended. It asks and registers under one hold of the
/// group's lock, so an end in between is not missed.
#[derive(Debug, Default)]
pub(crate) struct Waiters {
    // By the numbers of their futures. `take` empties it: a future that is woken and still has to wait registers again,
    // under the number that it has.
    wakers: Vec<(u64, Waker)>,
    /// The last number that was given out.
    last: u64,
}

impl Waiters {
    /// Registers `waker` under that number, which is given out with the first call. Returns the waker that was
    /// registered before, to be dropped after the lock.
    pub(crate) fn listen(&mut self, number: &mut Option<u64>, waker: Waker) -> Option<Waker> {
        let number = *number.get_or_insert_with(|| {
            self.last += 1;
            self.last
        });
        match self.find(number) {
            Some(index) => Some(std::mem::replace(&mut self.wakers[index].1, waker)),
            None => {
                self.wakers.push((number, waker));
                None
            }
        }
    }

    /// Removes the waker of that number, to be dropped after the lock.
    pub(crate) fn leave(&mut self, number: u64) -> Option<Waker> {
        self.find(number)
            .map(|index| self.wakers.swap_remove(index).1)
    }

    /// Takes all of them, to be woken after the lock.
    pub(crate) fn take(&mut self) -> impl Iterator<Item = Waker> + use<> {
        let wakers = std::mem::take(&mut self.wakers);
        wakers.into_iter().map(|(_, waker)| waker)
    }

    fn find(&self, number: u64) -> Option<usize> {
        self.wakers.iter().position(|(found, _)| *found == number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listen(waiters: &mut Waiters, number: &mut Option<u64>) -> bool {
        waiters.listen(number, Waker::noop().clone()).is_some()
    }

    #[test]
    fn each_has_one_waker_and_comes_again_after_it_was_woken() {
        let mut waiters = Waiters::default();
        let (mut one, mut two) = (None, None);
        assert!(!listen(&mut waiters, &mut one));
        assert!(!listen(&mut waiters, &mut two));
        assert!(listen(&mut waiters, &mut one), "polled again");
        assert_eq!(waiters.take().count(), 2);
        assert_eq!(waiters.take().count(), 0);
        assert!(!listen(&mut waiters, &mut two));
        assert!(waiters.leave(one.unwrap()).is_none());
        assert!(waiters.leave(two.unwrap()).is_some());
    }
}
