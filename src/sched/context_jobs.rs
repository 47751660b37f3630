//! Jobs whose code is made from a context: once, or for each run.

use std::panic::resume_unwind;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use super::context::JobContext;
use super::job::{Job, JobId, Next};
use super::runnable::{Run, Runnable, Started, Stateful};
use super::shared::Shared;
use crate::common::panic::{self, Payload};

/// A job whose future is made when it starts.
pub(super) struct Lazy<F> {
    shared: Arc<Shared>,
    make: F,
}

impl<F> Lazy<F> {
    pub(super) fn new(shared: &Arc<Shared>, make: F) -> Lazy<F> {
        Lazy {
            shared: Arc::clone(shared),
            make,
        }
    }
}

impl<F, J> Runnable for Lazy<F>
where
    F: FnOnce(JobContext) -> J + Send + 'static,
    J: Job,
{
    fn start(self: Box<Self>, run: &Run, started: &mut Option<Started>) {
        let Lazy { shared, make } = *self;
        let context = JobContext::new(&shared, *run, 1);
        *started = Some(Started::Future(Box::pin(make(context))));
    }
}

/// A job that runs until it says that it is done.
pub(super) struct Repeating<F, Fut> {
    shared: Arc<Shared>,
    make: F,
    /// The number of the job, once a run has begun.
    id: JobId,
    runs: u64,
    running: Option<Pin<Box<Fut>>>,
}

impl<F, Fut> Repeating<F, Fut> {
    pub(super) fn new(shared: &Arc<Shared>, make: F) -> Repeating<F, Fut> {
        Repeating {
            shared: Arc::clone(shared),
            make,
            id: JobId(0),
            runs: 0,
            running: None,
        }
    }
}

impl<F, Fut> Runnable for Repeating<F, Fut>
where
    F: FnMut(JobContext) -> Fut + Send + 'static,
    Fut: Future<Output = Next> + Send + 'static,
{
    fn start(mut self: Box<Self>, run: &Run, started: &mut Option<Started>) {
        self.runs += 1;
        self.id = run.id;
        let context = JobContext::new(&self.shared, *run, self.runs);
        let made = panic::catch(|| self.running = Some(Box::pin((self.make)(context))));
        *started = Some(Started::Stateful(self));
        // Only now: what the closure holds must not be dropped while this unwinds, since a second panic, of a destructor,
        // would end the process.
        made.unwrap_or_else(|payload| resume_unwind(payload));
    }

    fn last_run(&self) -> Option<(JobId, u64)> {
        (self.runs > 0).then_some((self.id, self.runs))
    }
}

impl<F, Fut> Stateful for Repeating<F, Fut>
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

    fn drop_run(&mut self) -> Result<(), Payload> {
        panic::discard(self.running.take())
    }

    fn into_runnable(self: Box<Self>) -> Box<dyn Runnable> {
        self
    }
}
