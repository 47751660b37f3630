//! Why work is not accepted.

use std::fmt;

/// The error of a push into a dispatcher that accepts no more work: it was drained, or its group was closed, cancelled
/// or dropped.
///
/// # Examples
///
/// ```
/// use rate_limited_retries::{Closed, Dispatcher};
/// use schedgroup::Group;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let group = Group::new();
/// let dispatcher = Dispatcher::builder().run(&group, |_: u32, _| async {});
/// group.cancel();
/// let Closed(work) = dispatcher.push("key", 7).await.unwrap_err();
/// assert_eq!(work, 7);
/// # }
/// ```
#[derive(Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the dispatcher is closed")]
pub struct Closed<T>(
    /// The work.
    pub T,
);

impl<T> fmt::Debug for Closed<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Closed(..)")
    }
}

/// The reason why work was not accepted at once, with the work.
///
/// # Examples
///
/// ```
/// use rate_limited_retries::{Dispatcher, Rate, TryPushError};
/// use schedgroup::Group;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let group = Group::new();
/// let dispatcher = Dispatcher::builder().bound(1).run(&group, |_: u32, _| async {});
/// assert!(dispatcher.try_push("key", 1).is_ok());
/// match dispatcher.try_push("key", 2) {
///     Err(TryPushError::Full(work)) => assert_eq!(work, 2),
///     other => panic!("{other:?}"),
/// }
/// # }
/// ```
#[derive(Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TryPushError<T> {
    /// The [bound](crate::Builder::bound) of the queue is reached.
    #[error("the dispatcher is full")]
    Full(T),
    /// The dispatcher accepts no more work: see [`Closed`].
    #[error("the dispatcher is closed")]
    Closed(T),
}

impl<T> TryPushError<T> {
    /// Returns the work.
    ///
    /// # Examples
    ///
    /// ```
    /// assert_eq!(rate_limited_retries::TryPushError::Full("work").into_inner(), "work");
    /// ```
    pub fn into_inner(self) -> T {
        match self {
            TryPushError::Full(work) | TryPushError::Closed(work) => work,
        }
    }
}

impl<T> From<Closed<T>> for TryPushError<T> {
    fn from(Closed(work): Closed<T>) -> TryPushError<T> {
        TryPushError::Closed(work)
    }
}

impl<T> fmt::Debug for TryPushError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TryPushError::Full(_) => "Full(..)",
            TryPushError::Closed(_) => "Closed(..)",
        })
    }
}
