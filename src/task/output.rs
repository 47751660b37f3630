//! The outputs that a task may have.

use std::convert::Infallible;

/// The output of a task of a [`TaskGroup<E>`](super::TaskGroup).
///
/// | group | its tasks return |
/// |---|---|
/// | `TaskGroup`, which is `TaskGroup<Infallible>` | `()` |
/// | `TaskGroup<E>` | `Result<(), E>` |
/// | any | `!`: the task never ends, as `async { loop { .. } }` |
///
/// The trait is sealed: other crates can name it in bounds but cannot implement it.
///
/// # Examples
///
/// ```
/// use schedgroup::task::{TaskGroup, TaskOutput};
///
/// fn spawn_twice<E: Send + 'static, T>(group: &TaskGroup<E>, task: fn() -> T)
/// where
///     T: Future<Output: TaskOutput<E>> + Send + 'static,
/// {
///     group.spawn(task());
///     group.spawn(task());
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let group = TaskGroup::new();
/// spawn_twice(&group, || async {});
/// assert_eq!(group.wait().await.unwrap().finished, 2);
/// # }
/// ```
#[diagnostic::on_unimplemented(
    message = "a task of a `TaskGroup<{E}>` cannot return `{Self}`",
    label = "a task that returns `{Self}`",
    note = "in a `TaskGroup<E>` a task returns `Result<(), E>`: end with `Ok(())`",
    note = "in a `TaskGroup` without an error type, which is `TaskGroup<Infallible>`, a task returns `()`",
    note = "to get the values of tasks, use `flow::try_all`, `flow::all` or `flow::stream`"
)]
pub trait TaskOutput<E>: Send + 'static {
    #[doc(hidden)]
    fn into_result(self, _: Sealed) -> Result<(), E>;
}

/// Other crates cannot name it, which seals the trait.
#[derive(Debug)]
pub struct Sealed(());

impl Sealed {
    pub(super) const NEW: Sealed = Sealed(());
}

impl TaskOutput<Infallible> for () {
    fn into_result(self, _: Sealed) -> Result<(), Infallible> {
        Ok(())
    }
}

impl<E: Send + 'static> TaskOutput<E> for Result<(), E> {
    fn into_result(self, _: Sealed) -> Result<(), E> {
        self
    }
}

/// The type `!`, which has no name in stable Rust but is what this function pointer returns.
type Never = <fn() -> ! as Returns>::Output;

/// What a function pointer returns.
pub trait Returns {
    /// The type.
    type Output;
}

impl<T> Returns for fn() -> T {
    type Output = T;
}

// Hidden, since its name would be shown in full; the table above has it as `!`.
#[doc(hidden)]
impl<E> TaskOutput<E> for Never {
    fn into_result(self, _: Sealed) -> Result<(), E> {
        self
    }
}
