#[path = "../../../../src/ground/panic.rs"]
pub(crate) mod panic;
#[path = "../../../../src/ground/timeline.rs"]
pub(crate) mod timeline;
#[path = "../../../../src/ground/trace.rs"]
pub(crate) mod trace;
#[path = "../../../../src/ground/waiters.rs"]
pub(crate) mod waiters;
