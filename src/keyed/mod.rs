//! Values under keys, each with a deadline: at most one pending entry per key, to be replaced, moved, kept or removed
//! by key.
//!
//! What session and cache expiry, request timeouts, debouncing, batching and watchdogs are made of. A [`KeyedGroup`]
//! owns a [`Group`](crate::Group), or works in one that is there already as a [`KeyedHandle`]; each pending entry is
//! one job of that group. One handler runs for each entry that expires, with its key and its value. In a
//! `KeyedGroup<K>` the values are jobs, which run themselves.
//!
//! ```
//! use std::time::Duration;
//! use schedgroup::keyed::{KeyedGroup, OnDuplicate};
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), schedgroup::WaitError> {
//! const IDLE: Duration = Duration::from_secs(60);
//! let sessions = KeyedGroup::with_handler(|_, user: &str, cart: Vec<u64>| async move {
//!     println!("{user} is gone, {} things in the cart", cart.len());
//! });
//! for user in ["ada", "ben"] {
//!     sessions.insert_after(user, Vec::new(), IDLE, OnDuplicate::Replace);
//! }
//! sessions.with("ada", |cart| cart.push(7));
//! assert!(sessions.reset_after("ada", 2 * IDLE));
//! assert_eq!(sessions.remove("ben"), Some(vec![]));
//! sessions.wait().await // ada is gone, 1 things in the cart
//! # }
//! ```
//!
//! | you want | reach for |
//! |---|---|
//! | a value under a key, and a rule for when the key has one | [`KeyedGroup::insert_after`], [`KeyedGroup::insert_at`], [`OnDuplicate`] |
//! | an entry moved, and nothing else | [`KeyedGroup::reset_after`], [`KeyedGroup::reset_at`] |
//! | the value looked at, or back | [`KeyedGroup::with`], [`KeyedGroup::remove`] |
//! | one run after a burst of events; all events of it in one value | [`KeyedGroup::debounce`]; [`KeyedGroup::debounce_with`] |
//! | an entry handled now | [`KeyedGroup::expire`] |
//! | at most one run of a key at a time | [`Builder::exclusive`] |
//! | an entry that inserts itself again | [`KeyedContext`] |
//! | an end that gives back what is left | [`KeyedGroup::drain`], [`KeyedGroup::shutdown`], [`KeyedGroup::drain_values`] |
//! | a job for a key, instead of a value and a handler | [`KeyedGroup::delay`], [`KeyedGroup::schedule`] |
//! | entries in a group that has another owner | [`Builder::on_with`], [`Builder::on`] |
//!
//! For a loop of your own that polls values as they expire, without tasks that handle them, there is `DelayQueue` of
//! tokio-util; for a cache with a bound on its size, `moka`.
//!
//! # What an entry costs
//!
//! A pending entry costs its key and value and about 13 bytes in the table, about 46 in the group, and 7 to 11 in the
//! index of the keys, and has no allocation of its own. A value that is a job is one allocation, of the size of the
//! job. An entry that is debounced costs about 40 bytes more, for when it was debounced first.
//!
//! Each method but [`keys`](KeyedGroup::keys) and [`drain_values`](KeyedGroup::drain_values) costs the same however
//! many entries there are: a hash, a look-up, and one step in the group; a removal leaves that step to the next calls,
//! of which an insert takes over what the group has for the removed entry. The storage grows and shrinks by about a
//! factor of two, and the index is built anew then. A run costs the allocation of the handler's future.
//!
//! # Keys and locks
//!
//! A key is hashed once per call. `Hash`, `Clone` and `Drop` of keys and values, and the handler, run under no lock and
//! may call back. `Eq` of keys, and the closures of [`with`](KeyedGroup::with) and
//! [`debounce_with`](KeyedGroup::debounce_with), run under the lock of the keyed group: they must not call it, which is
//! a panic that says so. A panic of any of them goes to the caller and leaves the entries whole. The hasher is the
//! third of the types; the default withstands keys that are chosen by an attacker.

// Modules:
//
// builder  settings
// group    the owner: KeyedGroup
// handle   for other tasks: KeyedHandle; for the run of an entry: KeyedContext
// methods  the methods by key, written once for all three
// rule     what happens to a key that has an entry already
// end      the future of drain and shutdown, with the entries that are left
// job      jobs as values
// shared   the lock of the table, and every method under it
// table    entries and runs, by key and by row
// rows     the storage of the rows
// index    the numbers of rows, by hash
// key      keys that a row shares with others
// rt       what loom and shuttle replace

mod builder;
mod end;
mod group;
mod handle;
mod index;
mod job;
mod key;
mod methods;
mod rows;
mod rt;
mod rule;
mod shared;
mod table;

pub use builder::Builder;
pub use end::End;
pub use group::KeyedGroup;
pub use handle::{KeyedContext, KeyedHandle};
pub use job::{BoxedJob, IntoValue};
pub use rule::{Inserted, OnDuplicate};
