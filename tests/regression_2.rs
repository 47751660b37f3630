//! A future and its value that both panicked when they were dropped ended the whole process.
//!
//! The value that a `spawn_*` job had just returned was held while its future was dropped. If that
//! destructor panicked, the value was dropped in the course of the panic, and a second panic there is
//! an abort.

use std::panic::resume_unwind;
use std::pin::Pin;
use std::task::{Context, Poll};

use crate::common::ms;
use schedgroup::{Group, JobError, JobState, WaitError};

/// A value that panics when it is dropped, past the panic hook, which would print it.
struct Bomb(&'static str);

impl Drop for Bomb {
    fn drop(&mut self) {
        resume_unwind(Box::new(self.0));
    }
}

/// Ends with a bomb, and holds another until it is dropped itself.
struct Bombs(
    Option<Bomb>,
    #[expect(dead_code, reason = "held until the end")] Bomb,
);

impl Future for Bombs {
    type Output = Bomb;

    fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Bomb> {
        Poll::Ready(self.0.take().expect("polled once"))
    }
}

#[tokio::test(start_paused = true)]
async fn a_future_and_its_value_may_both_panic_when_they_are_dropped() {
    let group = Group::new();
    let bombs = Bombs(Some(Bomb("value")), Bomb("future"));
    let job = group.spawn_after(ms(1), bombs);
    let other = group.spawn_after(ms(2), async { "ran" });
    let waited = group.wait().await;
    assert!(
        matches!(&waited, Err(WaitError::Panicked(panic)) if panic.message() == "future"),
        "{waited:?}"
    );
    assert_eq!(job.job().state(), JobState::Panicked);
    let joined = job.await.map(|_| "a value");
    assert!(
        matches!(&joined, Err(JobError::Panicked(panic)) if panic.message() == "future"),
        "{joined:?}"
    );
    assert!(matches!(other.await, Ok("ran")));
}
