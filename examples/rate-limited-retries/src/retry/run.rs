//! A chain of attempts that a group makes.

use std::fmt;
use std::hash::Hash;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use schedgroup::{Handle, JobContext, JobHandle, Next};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::chain::Chain;
use super::outcome::{Decision, GaveUp, Outcome, Reason};
use super::policy::Retry;

/// An attempt, for the future that makes it.
#[derive(Clone, Debug)]
pub struct Attempt {
    number: u32,
    deadline: Option<Instant>,
    context: JobContext,
}

impl Attempt {
    /// Returns the number of the attempt; 1 for the first.
    pub fn number(&self) -> u32 {
        self.number
    }

    /// Returns the deadline of the whole chain, if the policy has a timeout.
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// Returns the attempt's view of its group: its token, and the methods to schedule more.
    pub fn context(&self) -> &JobContext {
        &self.context
    }
}

impl Retry {
    /// Makes an attempt at once, and more of them by this policy, as one job of the group.
    ///
    /// Between two attempts the job is an entry of the group's heap: it has no task and holds no slot of
    /// `max_running`. `wait` waits for the whole chain. A panic of an attempt ends the chain, and is
    /// reported by the group. In a group that rejects jobs no attempt is made, and the handle resolves to
    /// [`Stopped`](Reason::Stopped).
    #[track_caller]
    pub fn run<T, E, F, Fut>(&self, group: &impl AsRef<Handle>, attempt: F) -> RetryHandle<T, E>
    where
        T: Send + 'static,
        E: Send + 'static,
        F: FnMut(Attempt) -> Fut + Send + 'static,
        Fut: Future<Output = Outcome<T, E>> + Send + 'static,
    {
        self.run_for(group, (), attempt)
    }
}

impl<K: Eq + Hash + Clone + Send + 'static> Retry<K> {
    /// Makes attempts for a key, which share its circuit; otherwise like [`run`](Retry::run).
    #[track_caller]
    pub fn run_for<T, E, F, Fut>(
        &self,
        group: &impl AsRef<Handle>,
        key: K,
        mut attempt: F,
    ) -> RetryHandle<T, E>
    where
        T: Send + 'static,
        E: Send + 'static,
        F: FnMut(Attempt) -> Fut + Send + 'static,
        Fut: Future<Output = Outcome<T, E>> + Send + 'static,
    {
        let (report, receiver) = oneshot::channel();
        let progress = Arc::new(Progress(Mutex::new(Course {
            chain: self.chain(key),
            report: Some(report),
        })));
        let job = group.as_ref().repeat(Instant::now(), move |context| {
            let begun = progress.begin(context).map(&mut attempt);
            let progress = Arc::clone(&progress);
            async move {
                match begun {
                    Some(attempt) => progress.end(attempt.await),
                    None => Next::Done,
                }
            }
        });
        RetryHandle { job, receiver }
    }
}

/// A chain in a group, shared by its job's runs. Only they lock it, one at a time.
struct Progress<T, E, K: Eq + Hash + Clone>(Mutex<Course<T, E, K>>);

struct Course<T, E, K: Eq + Hash + Clone> {
    chain: Chain<E, K>,
    /// Taken when it is decided.
    report: Option<oneshot::Sender<Result<T, GaveUp<E>>>>,
}

impl<T, E, K: Eq + Hash + Clone> Progress<T, E, K> {
    fn lock(&self) -> MutexGuard<'_, Course<T, E, K>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// None if there is no attempt to be made any more.
    fn begin(&self, context: JobContext) -> Option<Attempt> {
        let mut course = self.lock();
        // A job that was moved while its last attempt ran comes once more.
        course.report.as_ref()?;
        match course.chain.begin() {
            Ok(()) => Some(Attempt {
                number: course.chain.attempts(),
                deadline: course.chain.deadline(),
                context,
            }),
            Err(gave_up) => {
                self.decide(course, Err(gave_up));
                None
            }
        }
    }

    fn end(&self, outcome: Outcome<T, E>) -> Next {
        let mut course = self.lock();
        let result = match course.chain.end(outcome) {
            Decision::Again(at) => return Next::At(at),
            Decision::Done(value) => Ok(value),
            Decision::GaveUp(gave_up) => Err(gave_up),
        };
        self.decide(course, result);
        Next::Done
    }

    /// The value is handed over, or dropped, when the lock is free.
    fn decide(&self, mut course: MutexGuard<'_, Course<T, E, K>>, result: Result<T, GaveUp<E>>) {
        let report = course.report.take();
        drop(course);
        if let Some(report) = report {
            drop(report.send(result));
        }
    }
}

impl<T, E, K: Eq + Hash + Clone> Drop for Course<T, E, K> {
    fn drop(&mut self) {
        if let Some(report) = self.report.take() {
            drop(report.send(Err(self.chain.give_up(Reason::Stopped))));
        }
    }
}

/// A future of the result of a chain of attempts.
///
/// # Cancel safety
///
/// Awaiting `&mut handle` loses nothing when it is dropped. Dropping the handle does not affect the
/// attempts; only their result is dropped.
///
/// # Panics
///
/// Like tokio's handles, if it is polled again after it has given its value.
///
/// # Errors
///
/// [`GaveUp`] with the reason, the number of attempts and the last error.
#[must_use = "attempts are made without their handle, but their failure is not seen"]
pub struct RetryHandle<T, E> {
    job: JobHandle,
    receiver: oneshot::Receiver<Result<T, GaveUp<E>>>,
}

impl<T, E> RetryHandle<T, E> {
    /// Returns the job that makes the attempts: to cancel it, to move the next attempt, or to query its state.
    pub fn job(&self) -> &JobHandle {
        &self.job
    }
}

impl<T, E> Future for RetryHandle<T, E> {
    type Output = Result<T, GaveUp<E>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let received = Pin::new(&mut self.receiver).poll(cx);
        received.map(|received| received.expect("a chain reports before it is dropped"))
    }
}

impl<T, E> fmt::Debug for RetryHandle<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RetryHandle")
            .field("job", &self.job)
            .finish_non_exhaustive()
    }
}
