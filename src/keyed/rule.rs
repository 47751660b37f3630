//! What happens to a key that has an entry already, and what an insert answers.

use crate::common::time::Timestamp;

/// A rule for the case that an entry is inserted for a key that has a pending entry already.
///
/// # Examples
///
/// ```
/// # use std::time::Duration;
/// # use schedgroup::keyed::{Inserted, KeyedGroup, OnDuplicate};
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() {
/// let leases = KeyedGroup::with_handler(|_, _: u64, _: &str| async {});
/// let minute = Duration::from_secs(60);
/// leases.insert_after(7, "first", minute, OnDuplicate::Replace);
/// let later = leases.insert_after(7, "second", 2 * minute, OnDuplicate::KeepEarliest);
/// assert_eq!(later, Inserted::Kept("second"));
/// let sooner = leases.insert_after(7, "third", minute / 2, OnDuplicate::KeepEarliest);
/// assert_eq!(sooner, Inserted::Replaced("first"));
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum OnDuplicate {
    /// The new entry replaces the pending one, at its own deadline.
    Replace,
    /// The pending entry stays as it is.
    Keep,
    /// The entry with the earlier deadline stays. The pending one wins a tie.
    KeepEarliest,
    /// The entry with the later deadline stays. The pending one wins a tie.
    KeepLatest,
}

impl OnDuplicate {
    /// Returns whether an entry that is due at `new` replaces the one that is due at `pending`, which is `None` in a
    /// group that has ended.
    pub(super) fn replaces(
        self,
        pending: impl FnOnce() -> Option<Timestamp>,
        new: Timestamp,
    ) -> bool {
        match self {
            OnDuplicate::Replace => true,
            OnDuplicate::Keep => false,
            OnDuplicate::KeepEarliest => pending().is_some_and(|pending| new < pending),
            OnDuplicate::KeepLatest => pending().is_some_and(|pending| new > pending),
        }
    }
}

/// The outcome of an insert: where the value went.
///
/// # Examples
///
/// ```
/// # use std::time::Duration;
/// # use schedgroup::keyed::{Inserted, KeyedGroup, OnDuplicate};
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() {
/// let sessions = KeyedGroup::with_handler(|_, _: &str, _: u32| async {});
/// let minute = Duration::from_secs(60);
/// assert_eq!(sessions.insert_after("ada", 1, minute, OnDuplicate::Keep), Inserted::New);
/// assert_eq!(sessions.insert_after("ada", 2, minute, OnDuplicate::Keep), Inserted::Kept(2));
/// assert_eq!(sessions.insert_after("ada", 3, minute, OnDuplicate::Replace), Inserted::Replaced(1));
/// sessions.cancel();
/// assert_eq!(sessions.insert_after("ada", 4, minute, OnDuplicate::Replace), Inserted::Rejected(4));
/// assert_eq!(sessions.remove("ada"), Some(3));
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Inserted<V> {
    /// The key had no pending entry, and now has this one.
    New,
    /// The key's pending entry had this value. It will not be handled; the new one is pending.
    Replaced(V),
    /// The key keeps the pending entry that it had. This is the value that was handed in.
    Kept(V),
    /// The group rejects entries, since it was waited for, shut down, cancelled or dropped, or its runtime has
    /// ended. This is the value that was handed in; the key keeps the entry that it had.
    Rejected(V),
}
