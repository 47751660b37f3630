//! The attempts of one piece of work so far.

use std::sync::Mutex;
use std::time::Duration;

use crate::drops::drop_each;

pub(super) type Delays = Box<dyn Iterator<Item = Duration> + Send>;

/// The attempts so far of work that is retried. Work that was never tried has no such value.
#[derive(Default)]
pub(crate) struct Tries {
    /// The number of attempts that were made.
    pub(crate) attempts: u32,
    /// The delays that are left. They are created by the first decision of a policy. The lock is never taken: it lets
    /// other threads borrow the context of running work, although an iterator is for one thread at a time.
    pub(super) delays: Option<Mutex<Delays>>,
}

/// The delays are a value of the user, and are dropped beside the work, which is another one.
impl Drop for Tries {
    fn drop(&mut self) {
        drop_each(self.delays.take());
    }
}
