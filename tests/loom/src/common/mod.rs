#[path = "../../../../src/common/panic.rs"]
pub(crate) mod panic;
#[path = "../../../../src/common/time.rs"]
pub(crate) mod time;
#[path = "../../../../src/common/trace.rs"]
pub(crate) mod trace;
#[path = "../../../../src/common/waiters.rs"]
pub(crate) mod waiters;
