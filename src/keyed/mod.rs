//! Jobs under keys: at most one pending job per key, to be replaced, moved, kept or cancelled by key.
//!
//! What session and cache expiry, debouncing, request timeouts and watchdogs are made of. A
//! [`KeyedGroup`] owns a [`Group`](crate::Group), or works in one that is there already as a
//! [`KeyedHandle`]; each pending key is one job of that group.
//!
//! ```
//! use std::time::Duration;
//! use schedgroup::keyed::{KeyedGroup, OnDuplicate};
//! use tokio::time::Instant;
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), schedgroup::WaitError> {
//! const IDLE: Duration = Duration::from_secs(60);
//! let sessions = KeyedGroup::new();
//! for user in ["ada", "ben"] {
//!     let expired = async move { println!("{user} is gone") };
//!     sessions.delay(user, IDLE, expired, OnDuplicate::Replace);
//! }
//! assert!(sessions.touch("ada", Instant::now() + 2 * IDLE));
//! assert!(sessions.cancel("ben"));
//! sessions.wait().await // ada is gone
//! # }
//! ```
//!
//! | you want | reach for |
//! |---|---|
//! | a job for a key, and a rule for when it has one | [`KeyedGroup::schedule`], [`OnDuplicate`] |
//! | one run after a burst of events | [`KeyedGroup::debounce`] |
//! | a key's job moved, nothing else | [`KeyedGroup::touch`] |
//! | a key's job dropped | [`KeyedGroup::cancel`] |
//! | at most one run of a key at a time | [`Builder::exclusive`] |
//! | a job that schedules its own key again | [`KeyedGroup::schedule_with`], [`KeyedContext`] |
//!
//! # Keys
//!
//! A key is hashed once per call, outside of any lock. `Eq` runs under the lock, for keys of equal
//! hashes only: it must not call back into the keyed group. A panic of `Hash` or `Eq` goes to the
//! caller and changes nothing. Keys and jobs are dropped outside of the lock, so their destructors may
//! call back. The hasher is the second of the keyed group's types; the default withstands chosen keys.

// Modules:
//
// builder  settings
// group    the owner of the keys and of their group
// handle   the keys for other tasks, and for a key's own job
// verbs    the verbs by key, of all three
// job      a key's job, on its way through the group
// shared   the lock
// state    the state of each key

mod builder;
mod group;
mod handle;
mod job;
mod shared;
mod state;
mod verbs;

pub use builder::Builder;
pub use group::KeyedGroup;
pub use handle::{KeyedContext, KeyedHandle};
pub use state::{OnDuplicate, Outcome};
