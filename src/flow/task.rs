//! What a combinator runs.

use std::future::Future;

use tokio_util::sync::CancellationToken;

/// A future, or a closure that is handed the combinator's [`CancellationToken`] and answers with one.
///
/// The closure is called by the task itself. `Kind` tells the two apart; the compiler finds it. The
/// trait cannot be implemented by hand.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no task: neither a future nor a closure from a `CancellationToken` to a future",
    label = "not a task",
    note = "the future, its output and what it captures must be `Send + 'static`",
    note = "a closure must name its argument's type: `|token: CancellationToken| async move {{ .. }}`",
    note = "`try_all`, `race`, `take`, `try_take` and `last` want tasks that return a `Result`"
)]
pub trait Task<Kind>: Send + 'static {
    /// What the task returns.
    type Output: Send + 'static;

    #[doc(hidden)]
    const LISTENS: bool;

    #[doc(hidden)]
    fn run(self, token: Given) -> impl Future<Output = Self::Output> + Send + 'static;
}

/// The kind of a future.
#[derive(Debug)]
pub struct Plain;

/// The kind of a closure.
#[derive(Debug)]
pub struct Told;

/// A token for the tasks that listen: each clone takes the token's lock, so the others get none. It
/// cannot be named elsewhere, which seals the trait.
#[derive(Debug)]
pub struct Given(pub(super) Option<CancellationToken>);

impl<F> Task<Plain> for F
where
    F: Future<Output: Send + 'static> + Send + 'static,
{
    type Output = F::Output;

    const LISTENS: bool = false;

    fn run(self, _: Given) -> impl Future<Output = F::Output> + Send + 'static {
        self
    }
}

impl<C, F> Task<Told> for C
where
    C: FnOnce(CancellationToken) -> F + Send + 'static,
    F: Future<Output: Send + 'static> + Send + 'static,
{
    type Output = F::Output;

    const LISTENS: bool = true;

    fn run(self, token: Given) -> impl Future<Output = F::Output> + Send + 'static {
        let token = token.0.expect("it listens, so it is given one");
        async move { self(token).await }
    }
}
