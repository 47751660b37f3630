//! Pure pieces that every family of groups stands on.
//!
//! ```text
//! drained   the end of a pool, waited for
//! ends      how the tasks of a pool ended, and what a failure does to the others
//! error     how tasks fail
//! gate      who may come into a pool, and how it closes
//! line      tasks that wait for a place of a pool
//! panic     a panic of user code, caught and kept as a value
//! parked    a task in the line of a pool, as data
//! permits   a limit, and what waits behind it in order
//! policy    the words of a group of tasks
//! pool      tasks of one group, so many at once, until the last has ended
//! refusal   a task that was not taken in, handed back
//! run       the run of one task of a pool
//! seats     running tasks, to be aborted together
//! submit    waits for a place of a pool
//! table     rows by key, without calling the code of a key to hash
//! timeline  instants and durations as one ordered number
//! token     a token that says why it was cancelled
//! trace     spans and events, or nothing at all without the feature `tracing`
//! verbs     what the owner of a pool and its handles can do
//! ```

pub(crate) mod drained;
mod ends;
pub(crate) mod error;
mod gate;
mod line;
pub(crate) mod panic;
pub(crate) mod parked;
pub(crate) mod permits;
pub(crate) mod policy;
pub(crate) mod pool;
pub(crate) mod refusal;
mod run;
pub(crate) mod seats;
pub(crate) mod submit;
pub(crate) mod table;
pub(crate) mod timeline;
pub(crate) mod token;
pub(crate) mod trace;
pub(crate) mod verbs;
