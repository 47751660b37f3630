//! The attempts of one piece of work so far.

use std::fmt;
use std::time::Duration;

pub(super) type Delays = Box<dyn Iterator<Item = Duration> + Send>;

/// Goes with work that comes again. What has not been tried has none.
#[derive(Default)]
pub(crate) struct Tries {
    /// How many were made.
    pub(crate) attempts: u32,
    /// From the first decision of a policy on.
    pub(super) delays: Option<Delays>,
}

impl fmt::Debug for Tries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tries")
            .field("attempts", &self.attempts)
            .finish_non_exhaustive()
    }
}
