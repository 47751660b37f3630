//! How a run is polled, and how it ends.

use std::sync::Arc;
use std::task::{Context, Poll};

use super::error::JobPanic;
use super::job::Next;
use super::runnable::{Started, job_panic};
use super::running::RunningJob;
use super::shared::Shared;
use super::state::Ending;
use super::worker;
use crate::common::panic::{self, Payload};

/// How the code of a run ended: what it wants next, `None` if it was stopped, or its panic.
pub(super) type RunOutcome = Result<Option<Next>, Payload>;

impl Started {
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Next> {
        match self {
            Started::Future(future) => future.as_mut().poll(cx).map(|()| Next::Done),
            Started::Stateful(own) => own.poll_run(cx),
        }
    }
}

impl RunningJob {
    /// Polls the user's code; its panic ends here.
    pub(super) fn poll(&mut self, shared: &Shared, cx: &mut Context<'_>) -> Poll<RunOutcome> {
        let RunningJob { span, live, .. } = self;
        let Some(live) = live else {
            return Poll::Ready(Ok(None));
        };
        match span.enter(|| shared.inside(|| live.poll(cx))) {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(next)) => Poll::Ready(Ok(Some(next))),
            Err(payload) => Poll::Ready(Err(payload)),
        }
    }

    /// Ends the run, in two steps: what it held is dropped before its end is told, and what is left of it
    /// then, a value or a runnable that is not wanted again, before the group counts it as gone.
    ///
    /// The slot is free from the first step on, and who takes it is decided there. So a destructor in the
    /// second step that blocks holds up nobody.
    pub(super) fn end(self, shared: &Arc<Shared>, outcome: RunOutcome) {
        let RunningJob {
            slot,
            id,
            scheduled_at,
            span,
            live,
        } = self;
        let mut runnable = None;
        let discarded = match live {
            Some(Started::Stateful(own)) => {
                runnable = Some(own.into_runnable());
                Ok(())
            }
            Some(Started::Future(future)) => panic::discard(future),
            None => Ok(()),
        };
        let outcome = match (outcome, discarded) {
            (Ok(_), Err(payload)) => Err(payload),
            (outcome, Ok(())) => outcome,
            (Err(first), Err(second)) => {
                panic::forget(second);
                Err(first)
            }
        };
        let ending = match outcome {
            Ok(Some(Next::Done)) => Ending::Ran(None),
            Ok(Some(Next::After(delay))) => Ending::Ran(Some(shared.now().after(delay))),
            Ok(Some(Next::At(at))) => Ending::Ran(Some(shared.clock.timestamp(at))),
            Ok(None) => Ending::Aborted,
            Err(payload) => {
                let panic = job_panic(payload, id, scheduled_at);
                shared.report_panic(&panic);
                Ending::Panicked(panic)
            }
        };
        // Its subscriber hears of the end before the group does.
        {
            let _ended = span;
        }
        let (now, cancelled) = (shared.deadline_clock(), shared.is_cancelled());
        let ended = shared.enter(|state, effects| {
            // What came before the end of the last job is what ended the group.
            state.check_end(now, cancelled, effects);
            state.finish(slot, ending, runnable, effects)
        });
        worker::start(shared, ended.start);
        if !ended.left.is_empty() {
            drop(ended.left.panic);
            if let Err(payload) = panic::discard(ended.left.runnable) {
                shared.report_panic(&JobPanic::new(payload, id, scheduled_at));
            }
            shared.dropped(1);
        }
    }
}
