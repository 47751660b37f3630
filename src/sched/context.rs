//! What a job sees of its group, and the jobs that ask for it.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::body::{Body, Live, Own, Run};
use super::gate::Caller;
use super::handle::Handle;
use super::job::{Job, JobId, Next};
use super::shared::Shared;
use super::verbs::{Entrance, verbs};

/// A running job's view of its group: when it was due, whether to stop, and the verbs to schedule more.
///
/// The verbs are admitted while the group drains, and `wait` covers what they schedule. They never
/// panic: once the group is shut down, cancelled or drained they drop the job and return a finished
/// handle. A context may outlive its job.
#[derive(Clone)]
pub struct JobContext {
    shared: Arc<Shared>,
    run: Run,
    lateness: Duration,
    number: u64,
}

impl JobContext {
    /// The context of a run that starts now.
    fn new(shared: &Arc<Shared>, run: Run, number: u64) -> JobContext {
        JobContext {
            lateness: shared.now().since(run.deadline),
            shared: Arc::clone(shared),
            run,
            number,
        }
    }

    /// The group's token. A cancel of the group does not interrupt running jobs: they see it here.
    pub fn token(&self) -> CancellationToken {
        self.shared.share_token()
    }

    /// When this run was due.
    pub fn deadline(&self) -> Instant {
        self.shared.timeline.instant(self.run.deadline)
    }

    /// How much later than that it started.
    pub fn lateness(&self) -> Duration {
        self.lateness
    }

    /// Returns the number of this run of the job; 1 for the first.
    pub fn run(&self) -> u64 {
        self.number
    }

    /// Was `wait` or `shutdown` called?
    pub fn is_draining(&self) -> bool {
        self.shared.enter(|state, _| state.is_draining())
    }

    /// The name of the job.
    pub fn id(&self) -> JobId {
        self.run.id
    }

    /// A handle with this context's rights, to be passed on.
    pub fn handle(&self) -> Handle {
        Handle::new(Arc::clone(&self.shared), Caller::Inside)
    }

    fn entrance(&self) -> Entrance<'_> {
        Entrance {
            shared: &self.shared,
            caller: Caller::Inside,
        }
    }
}

verbs!(
    JobContext,
    "Never panics: once the group has drained or was shut down too the job is dropped and the returned handle is a \
     finished one."
);

impl fmt::Debug for JobContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JobContext")
            .field("id", &self.run.id)
            .field("run", &self.number)
            .field("deadline", &self.deadline())
            .field("lateness", &self.lateness)
            .finish_non_exhaustive()
    }
}

/// A job that is made when it starts, of what is kept for it until then.
pub(super) struct With<T, F> {
    shared: Arc<Shared>,
    kept: T,
    make: F,
}

impl<T, F> With<T, F> {
    pub(super) fn new(shared: &Arc<Shared>, kept: T, make: F) -> With<T, F> {
        With {
            shared: Arc::clone(shared),
            kept,
            make,
        }
    }

    /// What was kept for a job that will not start.
    pub(super) fn into_kept(self) -> T {
        self.kept
    }
}

impl<T, F, J> Body for With<T, F>
where
    T: Send + 'static,
    F: FnOnce(T, JobContext) -> J + Send + 'static,
    J: Job,
{
    fn start(self: Box<Self>, run: Run) -> Live {
        let With { shared, kept, make } = *self;
        let context = JobContext::new(&shared, run, 1);
        Live::Future(Box::pin(make(kept, context)))
    }
}

/// A job that runs until it says that it is done.
pub(super) struct Repeat<F, Fut> {
    shared: Arc<Shared>,
    make: F,
    runs: u64,
    running: Option<Pin<Box<Fut>>>,
}

impl<F, Fut> Repeat<F, Fut> {
    pub(super) fn new(shared: &Arc<Shared>, make: F) -> Repeat<F, Fut> {
        Repeat {
            shared: Arc::clone(shared),
            make,
            runs: 0,
            running: None,
        }
    }
}

impl<F, Fut> Body for Repeat<F, Fut>
where
    F: FnMut(JobContext) -> Fut + Send + 'static,
    Fut: Future<Output = Next> + Send + 'static,
{
    fn start(mut self: Box<Self>, run: Run) -> Live {
        self.runs += 1;
        let context = JobContext::new(&self.shared, run, self.runs);
        self.running = Some(Box::pin((self.make)(context)));
        Live::Own(self)
    }
}

impl<F, Fut> Own for Repeat<F, Fut>
where
    F: FnMut(JobContext) -> Fut + Send + 'static,
    Fut: Future<Output = Next> + Send + 'static,
{
    fn poll_run(&mut self, cx: &mut Context<'_>) -> Poll<Next> {
        let Some(running) = &mut self.running else {
            return Poll::Pending;
        };
        let polled = running.as_mut().poll(cx);
        if polled.is_ready() {
            self.running = None;
        }
        polled
    }

    fn into_body(self: Box<Self>) -> Box<dyn Body> {
        self
    }
}
