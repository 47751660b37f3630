//! The end of a keyed group, with what is left.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use super::shared::Keys;
use crate::Report;

/// A future that resolves to a [`Report`] and the entries that were not handled, as a `Vec<(K, V)>`; created by
/// [`KeyedGroup::drain`](super::KeyedGroup::drain) and [`KeyedGroup::shutdown`](super::KeyedGroup::shutdown).
///
/// # Cancel safety
///
/// It may be dropped at any time. The drain or shutdown goes on, and
/// [`drain_values`](super::KeyedGroup::drain_values) returns the entries that are left.
///
/// # Panics
///
/// A poll after the end panics.
///
/// # Examples
///
/// ```
/// # use std::time::Duration;
/// # use schedgroup::keyed::{KeyedGroup, OnDuplicate};
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() {
/// let hooks = KeyedGroup::with_handler(|_, _: u64, _: &str| async {});
/// hooks.insert_after(7, "order-7", Duration::from_secs(3600), OnDuplicate::Replace);
/// drop(hooks.shutdown(Duration::ZERO));
/// tokio::time::sleep(Duration::from_secs(1)).await;
/// assert_eq!(hooks.drain_values(), [(7, "order-7")]);
/// # }
/// ```
#[must_use = "the group ends already; await this to see what is left"]
pub struct End<'a, K, V, S> {
    report: Pin<Box<dyn Future<Output = Report> + Send + 'a>>,
    keys: Arc<Keys<K, V, S>>,
}

impl<'a, K, V, S> End<'a, K, V, S> {
    pub(super) fn new(
        report: impl Future<Output = Report> + Send + 'a,
        keys: &Arc<Keys<K, V, S>>,
    ) -> End<'a, K, V, S> {
        End {
            report: Box::pin(report),
            keys: Arc::clone(keys),
        }
    }
}

impl<K, V, S> Future for End<'_, K, V, S> {
    type Output = (Report, Vec<(K, V)>);

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let report = ready!(self.report.as_mut().poll(cx));
        Poll::Ready((report, self.keys.drain()))
    }
}

impl<K, V, S> fmt::Debug for End<'_, K, V, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("End").finish_non_exhaustive()
    }
}
