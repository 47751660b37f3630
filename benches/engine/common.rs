//! What the queue needs of the crate's `common` module.

// The queue needs only a part of it.
#[allow(dead_code)]
#[path = "../../src/common/time.rs"]
pub(crate) mod time;
