//! What to do with work that has failed: a policy, and what servers say with `Retry-After`.

mod policy;
mod retry_after;
mod tries;

pub use policy::{Failure, GaveUp, Policy, Reason};
pub use retry_after::retry_after;
pub(crate) use tries::Tries;
