//! The effect of a panic of one run on its series.

use std::future::poll_fn;
use std::panic::resume_unwind;
use std::pin::pin;

use crate::JobContext;
use crate::common::panic::{Payload, poll_caught};

/// The effect on a series when one of its runs panics.
///
/// # Examples
///
/// ```
/// # use std::time::Duration;
/// use schedgroup::periodic::OnPanic;
/// use schedgroup::{Group, WaitError};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() {
/// let group = Group::new();
/// let second = Duration::from_secs(1);
/// group.every(second).on_panic(OnPanic::Continue).run(|tick| async move {
///     assert_ne!(tick.number(), 1, "the second tick");
///     println!("tick {}", tick.number());
/// });
/// tokio::time::sleep(3 * second).await; // tick 0, tick 2, tick 3
/// assert!(matches!(group.wait().await, Err(WaitError::Panicked(_))));
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum OnPanic {
    /// The series ends, and counts as panicked.
    #[default]
    End,
    /// The series goes on: the next tick runs as if this run had finished.
    ///
    /// Each panic is a `tracing` event, and `wait` still returns the first panic of the group. In
    /// [`Stats`](crate::Stats) the series counts as finished at its end, not as panicked. The values that the closure
    /// owns are in the state in which the panic left them.
    Continue,
}

impl OnPanic {
    /// Polls a run to its end; `Err` is the panic of the code that made it.
    pub(super) async fn run<F>(self, run: Result<F, Payload>, context: &JobContext)
    where
        F: Future<Output = ()>,
    {
        let ended = match run {
            Ok(run) => {
                let mut run = pin!(Some(run));
                poll_fn(|cx| poll_caught(run.as_mut(), cx)).await
            }
            Err(payload) => Err(payload),
        };
        match (ended, self) {
            (Ok(()), _) => {}
            (Err(payload), OnPanic::End) => resume_unwind(payload),
            (Err(payload), OnPanic::Continue) => context.report_panic(payload),
        }
    }
}
