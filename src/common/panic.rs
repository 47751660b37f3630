//! A panic of user code, caught and kept as a value.

use std::any::Any;
use std::fmt;
use std::future::poll_fn;
use std::ops::{Deref, DerefMut};
use std::panic::{AssertUnwindSafe, Location, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

/// The payload of a panic.
pub(crate) type Payload = Box<dyn Any + Send>;

/// Runs user code and catches its panic.
///
/// It asserts unwind safety: after a panic the caller only drops what the code may have left half changed.
pub(crate) fn catch<R>(code: impl FnOnce() -> R) -> Result<R, Payload> {
    catch_unwind(AssertUnwindSafe(code))
}

/// Drops a user's value; a panic of its destructor is handed to the caller.
pub(crate) fn discard<T>(value: T) -> Result<(), Payload> {
    catch(move || drop(value))
}

/// Drops a payload that is not needed.
///
/// A payload can panic in its own destructor, and so can what *that* panic carries: the second one
/// is leaked, which ends the chain.
pub(crate) fn drop_payload(payload: Payload) {
    if let Err(second) = discard(payload) {
        std::mem::forget(second);
    }
}

/// Drops a user's value; a panic of its destructor ends here.
pub(crate) fn drop_quietly<T>(value: T) {
    discard(value).unwrap_or_else(drop_payload);
}

/// Drops the values one by one, whatever their destructors do: in one collection the second panic would
/// end the process.
pub(crate) fn discard_each<T>(values: impl IntoIterator<Item = T>) {
    values.into_iter().for_each(drop_quietly);
}

/// A collection of users' values that is dropped with [`discard_each`].
#[derive(Default)]
pub(crate) struct DiscardEach<C: Default + IntoIterator>(C);

impl<C: Default + IntoIterator> DiscardEach<C> {
    pub(crate) fn take(&mut self) -> C {
        std::mem::take(&mut self.0)
    }
}

impl<C: Default + IntoIterator> From<C> for DiscardEach<C> {
    fn from(values: C) -> DiscardEach<C> {
        DiscardEach(values)
    }
}

impl<C: Default + IntoIterator> Deref for DiscardEach<C> {
    type Target = C;

    fn deref(&self) -> &C {
        &self.0
    }
}

impl<C: Default + IntoIterator> DerefMut for DiscardEach<C> {
    fn deref_mut(&mut self) -> &mut C {
        &mut self.0
    }
}

impl<C: Default + IntoIterator> Drop for DiscardEach<C> {
    fn drop(&mut self) {
        discard_each(self.take());
    }
}

/// A user's value whose holder may be dropped anywhere, as by the driver of a group or while a panic unwinds: a panic of
/// its destructor is caught.
pub(crate) struct Guarded<T>(DiscardEach<Option<T>>);

impl<T> Guarded<T> {
    pub(crate) fn new(value: T) -> Guarded<T> {
        Guarded(Some(value).into())
    }

    pub(crate) fn into_inner(mut self) -> T {
        self.0.take().expect("it is there until the drop")
    }
}

impl<T> Deref for Guarded<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.0.as_ref().expect("it is there until the drop")
    }
}

impl<T> DerefMut for Guarded<T> {
    fn deref_mut(&mut self) -> &mut T {
        self.0.as_mut().expect("it is there until the drop")
    }
}

/// Wakes them one by one: a waker may be a user's, and panic. The panic hook has reported that.
pub(crate) fn wake_each(wakers: impl IntoIterator<Item = Waker>) {
    for waker in wakers {
        catch(|| waker.wake()).unwrap_or_else(drop_payload);
    }
}

/// The message when a future of ours is polled after it has resolved.
pub(crate) const ENDED: &str = "schedgroup: a future was polled after it had ended";

/// Polls a task and catches its panic. At its end the task is dropped, so that what it held is gone before the end is
/// reported; a panic of that counts as the task's own.
pub(crate) fn poll_caught<F: Future>(
    mut task: Pin<&mut Option<F>>,
    cx: &mut Context<'_>,
) -> Poll<Result<F::Output, Payload>> {
    let running = task.as_mut().as_pin_mut().expect(ENDED);
    let end = match catch(|| running.poll(cx)) {
        Ok(Poll::Pending) => return Poll::Pending,
        Ok(Poll::Ready(output)) => Ok(output),
        Err(payload) => Err(payload),
    };
    let dropped = catch(|| task.set(None));
    Poll::Ready(match (end, dropped) {
        (end, Ok(())) => end,
        (Ok(output), Err(payload)) => {
            drop_quietly(output);
            Err(payload)
        }
        (Err(payload), Err(second)) => {
            drop_payload(second);
            Err(payload)
        }
    })
}

/// Runs a user's future within an `async` block. If it panics, it is dropped before that panic goes on: a panic of its
/// destructor while the first one unwinds would end the process.
pub(crate) async fn run_inside<F: Future>(mut task: Pin<&mut Option<F>>) -> F::Output {
    let end = poll_fn(|cx| poll_caught(task.as_mut(), cx)).await;
    end.unwrap_or_else(|payload| resume_unwind(payload))
}

/// The text of a panic, as the default hook would print it.
pub(crate) fn message(payload: &(dyn Any + Send)) -> &str {
    if let Some(text) = payload.downcast_ref::<&'static str>() {
        text
    } else if let Some(text) = payload.downcast_ref::<String>() {
        text
    } else {
        "Box<dyn Any>"
    }
}

/// The panic of one job or task: its message, its payload, which job or task it was, and the line that scheduled or
/// spawned it.
///
/// Use it by its aliases [`JobPanic`](crate::JobPanic), for jobs, and [`TaskPanic`], for tasks. Clones share one
/// payload.
///
/// # Examples
///
/// ```
/// use schedgroup::TaskError;
/// use schedgroup::task::TaskGroup;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let group = TaskGroup::new();
/// group.spawn(async {});
/// group.spawn(async { panic!("no route") });
/// let Err(TaskError::Panicked(panic)) = group.wait().await else {
///     unreachable!("a panic is an error of its task");
/// };
/// assert_eq!((panic.index(), panic.message()), (1, "no route"));
/// assert_eq!(panic.spawned_at().file(), file!());
/// assert!(panic.into_payload().is::<&str>());
/// # }
/// ```
#[derive(Clone)]
pub struct Panic<I> {
    message: Arc<str>,
    payload: Arc<Keep>,
    id: I,
    call_site: &'static Location<'static>,
}

/// The panic of a task, which is identified by its index.
///
/// # Examples
///
/// ```
/// use schedgroup::task::TaskGroup;
/// use schedgroup::{TaskError, TaskPanic};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let group: TaskGroup = TaskGroup::new();
/// group.spawn(async { panic!("no route") });
/// if let Err(TaskError::Panicked(panic)) = group.wait().await {
///     let panic: TaskPanic = panic;
///     assert_eq!(panic.message(), "no route");
/// }
/// # }
/// ```
pub type TaskPanic = Panic<usize>;

/// The payload until it is taken; dropped with care if it never is.
struct Keep(Mutex<Option<Payload>>);

impl Keep {
    fn take(&self) -> Option<Payload> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Drop for Keep {
    fn drop(&mut self) {
        if let Some(payload) = self.take() {
            drop_payload(payload);
        }
    }
}

impl<I> Panic<I> {
    pub(crate) fn new(payload: Payload, id: I, call_site: &'static Location<'static>) -> Panic<I> {
        Panic {
            message: message(&*payload).into(),
            payload: Arc::new(Keep(Mutex::new(Some(payload)))),
            id,
            call_site,
        }
    }

    pub(crate) fn id(&self) -> &I {
        &self.id
    }

    pub(crate) fn call_site(&self) -> &'static Location<'static> {
        self.call_site
    }

    /// Returns the message of the panic, as the default hook prints it; the text `Box<dyn Any>` if the payload is not a
    /// string.
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::time::Duration;
    /// use schedgroup::{Group, JobError};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// let group = Group::new();
    /// let value = group.spawn_after(Duration::ZERO, async { panic!("{} routes", 0) });
    /// if let Err(JobError::Panicked(panic)) = value.await {
    ///     assert_eq!(panic.message(), "0 routes");
    /// }
    /// # }
    /// ```
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Returns the payload of the panic. Only the first call gets the original; later calls, on clones too, get the
    /// message as a `String`.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::panic::panic_any;
    /// # use std::time::Duration;
    /// use schedgroup::{Group, WaitError};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// struct Code(u32);
    ///
    /// let group = Group::new();
    /// group.delay(Duration::ZERO, async { panic_any(Code(7)) });
    /// if let Err(WaitError::Panicked(panic)) = group.wait().await {
    ///     let code = panic.into_payload().downcast::<Code>();
    ///     assert_eq!(code.map(|code| code.0).ok(), Some(7));
    /// }
    /// # }
    /// ```
    pub fn into_payload(self) -> Box<dyn Any + Send> {
        self.payload
            .take()
            .unwrap_or_else(|| Box::new(String::from(&*self.message)))
    }

    /// Continues the panic on this thread, with its payload. The panic hook does not run again.
    ///
    /// # Examples
    ///
    /// ```
    /// use schedgroup::task::TaskGroup;
    /// use schedgroup::TaskError;
    ///
    /// /// Panics if a task did, as the scope of `std::thread::scope` does.
    /// async fn join(group: TaskGroup) {
    ///     if let Err(TaskError::Panicked(panic)) = group.wait().await {
    ///         panic.resume();
    ///     }
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// let joined = tokio::spawn(async {
    ///     let group = TaskGroup::new();
    ///     group.spawn(async { panic!("no route") });
    ///     join(group).await;
    /// });
    /// assert!(joined.await.is_err_and(|error| error.is_panic()));
    /// # }
    /// ```
    pub fn resume(self) -> ! {
        resume_unwind(self.into_payload())
    }
}

impl Panic<usize> {
    /// Returns the index of the task: what `spawn` returned, or its position in the input of a combinator.
    ///
    /// # Examples
    ///
    /// ```
    /// use schedgroup::{TaskError, flow};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// let ends = flow::all([1, 0].map(|n| async move { 6 / n })).await;
    /// if let Err(TaskError::Panicked(panic)) = &ends[1] {
    ///     assert_eq!(panic.index(), 1);
    /// }
    /// # }
    /// ```
    pub fn index(&self) -> usize {
        self.id
    }

    /// Returns the line of the program that spawned the task.
    ///
    /// # Examples
    ///
    /// ```
    /// use schedgroup::TaskError;
    /// use schedgroup::task::TaskGroup;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// let group: TaskGroup = TaskGroup::new();
    /// group.spawn(async { panic!("no route") });
    /// if let Err(TaskError::Panicked(panic)) = group.wait().await {
    ///     println!("spawned at {}", panic.spawned_at()); // src/main.rs:6:7
    /// }
    /// # }
    /// ```
    pub fn spawned_at(&self) -> &'static Location<'static> {
        self.call_site
    }
}

impl fmt::Display for Panic<usize> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (index, at) = (self.id, self.call_site);
        write!(f, "task {index} spawned at {at} panicked: {}", self.message)
    }
}

impl<I: fmt::Debug> fmt::Debug for Panic<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Panic")
            .field("message", &self.message)
            .field("id", &self.id)
            .field("call_site", &format_args!("{}", self.call_site))
            .finish_non_exhaustive()
    }
}

impl<I> std::error::Error for Panic<I> where Panic<I>: fmt::Debug + fmt::Display {}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use super::*;

    fn caught(code: fn()) -> TaskPanic {
        TaskPanic::new(catch(code).unwrap_err(), 0, Location::caller())
    }

    #[test]
    fn the_first_taker_gets_the_payload_and_later_ones_the_message() {
        let caught = caught(|| std::panic::panic_any(String::from("boom")));
        let again = caught.clone();
        assert_eq!(caught.message(), "boom");
        assert_eq!(*caught.into_payload().downcast::<String>().unwrap(), "boom");
        assert_eq!(*again.into_payload().downcast::<String>().unwrap(), "boom");
    }

    #[test]
    fn a_payload_of_any_type_is_kept() {
        let caught = caught(|| std::panic::panic_any(7_u8));
        let again = caught.clone();
        assert_eq!(*caught.into_payload().downcast::<u8>().unwrap(), 7);
        assert_eq!(
            *again.into_payload().downcast::<String>().unwrap(),
            "Box<dyn Any>"
        );
    }

    /// It panics when it is dropped, and so does what that panic carries. None of the payloads has a size, so what is leaked
    /// at the end of the chain is no memory.
    struct Bomb;

    struct Second;

    impl Drop for Bomb {
        fn drop(&mut self) {
            std::panic::panic_any(Second);
        }
    }

    impl Drop for Second {
        fn drop(&mut self) {
            std::panic::panic_any(());
        }
    }

    #[test]
    fn a_payload_that_panics_when_dropped_harms_nobody() {
        drop(TaskPanic::new(Box::new(Bomb), 0, Location::caller()));
        drop_payload(Box::new(Bomb));
    }

    #[test]
    fn a_task_has_one_panic_though_its_destructor_and_what_is_left_of_it_panic_too() {
        struct Task {
            ends: bool,
        }
        impl Future for Task {
            type Output = Bomb;
            fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Bomb> {
                assert!(self.ends, "boom");
                Poll::Ready(Bomb)
            }
        }
        impl Drop for Task {
            fn drop(&mut self) {
                std::panic::panic_any(Bomb);
            }
        }
        for ends in [true, false] {
            let task = pin!(Some(Task { ends }));
            let polled = poll_caught(task, &mut Context::from_waker(Waker::noop()));
            let Poll::Ready(Err(payload)) = polled else {
                panic!("it has no output");
            };
            assert_eq!(payload.is::<Bomb>(), ends);
            drop_payload(payload);
        }
    }
}
