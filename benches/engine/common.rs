//! Of the crate's own ground, what its queue stands on.

// The queue needs a part of it.
#[allow(dead_code)]
#[path = "../../src/common/time.rs"]
pub(crate) mod time;
