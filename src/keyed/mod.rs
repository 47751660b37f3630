//! Values under keys, each with a deadline: at most one pending entry per key, which is replaced, moved or removed by
//! its key.
//!
//! Session and cache expiry, request timeouts, debouncing, batching and watchdogs are built from this. A [`KeyedGroup`]
//! owns a [`Group`](crate::Group); a [`KeyedHandle`] can also work in an existing one. Each pending entry is one job of
//! that group. One handler runs for each entry that expires, with its key and its value. In a `KeyedGroup<K>` the
//! values are jobs, which need no handler.
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
//! | to | use |
//! |---|---|
//! | insert a value for a key, with a rule for the case that the key has one | [`KeyedGroup::insert_after`], [`KeyedGroup::insert_at`], [`OnDuplicate`] |
//! | move the deadline of an entry | [`KeyedGroup::reset_after`], [`KeyedGroup::reset_at`] |
//! | look at a value, or remove it | [`KeyedGroup::with`], [`KeyedGroup::remove`] |
//! | get a value or insert one | [`KeyedGroup::debounce_with`] |
//! | have one run after a burst of events; collect all its events in one value | [`KeyedGroup::debounce`]; [`KeyedGroup::debounce_with`] |
//! | collect a batch until it is full, or until a time after its first item | [`KeyedGroup::debounce_with`] with a `quiet` of `Duration::MAX`; [`KeyedGroup::expire`] when it is full |
//! | have an entry handled now; have all handled at the end | [`KeyedGroup::expire`]; the same after [`KeyedGroup::drain`] |
//! | have at most one run of a key at a time; stop it | [`Builder::exclusive`]; then [`KeyedGroup::abort`] |
//! | insert an entry again from its handler, as to reload or to retry | [`KeyedContext`] |
//! | end the group and get the entries that are left | [`KeyedGroup::drain`], [`KeyedGroup::shutdown`], [`KeyedGroup::drain_values`] |
//! | schedule a job for a key, instead of a value and a handler | [`KeyedGroup::delay`], [`KeyedGroup::schedule`] |
//! | keep entries in an existing group | [`Builder::on_with`], [`Builder::on`] |
//! | have a second deadline per key, as to refresh a value before it expires | a second table: [`Builder::on_with`] |
//!
//! # From `DelayQueue` and moka
//!
//! What tokio-util's `DelayQueue` and the cache moka call it, and what corresponds to it here:
//!
//! | there | here |
//! |---|---|
//! | `insert`, which returns a key | [`insert_after`](KeyedGroup::insert_after) with a key of your own |
//! | `reset`, `reset_at`, `deadline` | [`reset_after`](KeyedGroup::reset_after), [`reset_at`](KeyedGroup::reset_at), [`deadline`](KeyedGroup::deadline) |
//! | `remove`, which panics without an entry; `try_remove` | [`remove`](KeyedGroup::remove), which returns an `Option` |
//! | `poll_expired`, or `next` in a `select!` | the handler, which may send to a channel |
//! | `clear` | [`drain_values`](KeyedGroup::drain_values) |
//! | `get`, `get_with` | [`with`](KeyedGroup::with), [`debounce_with`](KeyedGroup::debounce_with) |
//! | `time_to_live`; `time_to_idle` | the delay of an insert; [`reset_after`](KeyedGroup::reset_after) after each look |
//! | `eviction_listener` | the handler if the entry expires; if it is removed or replaced, the caller gets the value |
//! | `max_capacity` | nothing: for a cache of bounded size, use moka |
//!
//! In this example a loop takes the values as they expire:
//!
//! ```
//! use std::time::Duration;
//! use schedgroup::keyed::{KeyedGroup, OnDuplicate};
//! use tokio::sync::mpsc;
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() {
//! let (sender, mut expired) = mpsc::unbounded_channel();
//! let requests = KeyedGroup::with_handler(move |_, id: u64, to: &str| {
//!     let _ = sender.send((id, to)); // fails if the loop has ended
//!     async {}
//! });
//! requests.insert_after(1, "db-1", Duration::from_secs(1), OnDuplicate::Replace);
//! requests.insert_after(2, "db-2", Duration::from_secs(2), OnDuplicate::Replace);
//! let mut end = std::pin::pin!(tokio::time::sleep(Duration::from_secs(10)));
//! # let mut seen = Vec::new();
//! loop {
//!     tokio::select! {
//!         Some((id, to)) = expired.recv() => {
//!             println!("request {id}: no answer from {to}");
//! #           seen.push(id);
//!         }
//!         () = &mut end => break,
//!     }
//! }
//! # assert_eq!(seen, [1, 2]);
//! # }
//! ```
//!
//! A value in the channel has left the table: `remove` and `reset_after` do not find it. If the loop itself has to
//! decide until it takes the value, keep the `DelayQueue`. To take all values at the end, await
//! [`wait`](KeyedGroup::wait), and then empty the channel.
//!
//! # What an entry costs
//!
//! A pending entry costs its key and value and about 13 bytes in the table, 7 to 11 bytes in the index of the keys, and
//! in the group about 46 bytes, or up to 85 with fewer than some 65,000 entries. It has no allocation of its own; a value
//! that is a job has one, of the size of the job. An entry that is debounced costs 20 to 40 bytes more, for the instant
//! at which it was first debounced. Storage is allocated for 32 entries at a time, so box values that are larger than a
//! few KiB.
//!
//! The cost of a method does not depend on the number of entries, but for [`keys`](KeyedGroup::keys) and
//! [`drain_values`](KeyedGroup::drain_values): it is one hash, one look-up and one step in the group. A removal leaves
//! the step in the group to a later call, and a later insert may reuse the group's slot of the removed entry. The
//! storage grows and shrinks by about a factor of two, and the index is rebuilt then. A run costs the allocation of the
//! handler's future.
//!
//! # Keys and locks
//!
//! A key is hashed once per call. `Hash`, `Clone` and `Drop` of keys and values, and the handler, run under no lock and
//! may call the keyed group. `Eq` of keys, and the closures of [`with`](KeyedGroup::with) and
//! [`debounce_with`](KeyedGroup::debounce_with), run under the lock of the keyed group: if one of them calls a method of
//! the same keyed group that needs its entries, such as `len` or `remove`, that panics with a message that says so.
//! `stats`, `token`, `cancel` and the like need none. If one of them drops the group, the entries are dropped when the
//! lock is free. A closure may call another keyed group; but if closures of two keyed groups call each other's, they can
//! deadlock, like code that takes two mutexes in either order. A panic of `Hash`, `Clone`, `Eq` or a closure is passed on
//! to the caller and leaves the entries intact; in a run it is that of the run. Where the keyed group drops a key or a
//! value, a panic of its `Drop` is caught. The third type parameter is the hasher; the default withstands keys that are
//! chosen by an attacker.

mod builder;
mod end;
mod group;
mod handle;
mod index;
mod job;
mod key;
mod methods;
mod queues;
mod rows;
mod rt;
mod rule;
mod shared;
mod table;

pub use builder::Builder;
pub use end::End;
pub use group::KeyedGroup;
pub use handle::{KeyedContext, KeyedHandle};
pub use job::{BoxedJob, ValueFrom};
pub use rule::{Inserted, OnDuplicate};
