//! One run of a job that has started: its polls, and its end.

use std::panic::Location;
use std::sync::Arc;
use std::task::{Context, Poll};

use super::error::JobPanic;
use super::job::{JobId, Next};
use super::runnable::{Started, job_panic};
use super::shared::Shared;
use super::state::Ending;
use super::worker;
use crate::common::panic::{self, Payload};
use crate::common::trace::Span;

/// One run of one job, from its first poll to its end. Its owner must call [`end`](RunningJob::end).
pub(super) struct RunningJob {
    // The number alone identifies the job: a slot is freed only after its job has ended, which is what `end` records.
    // So no sequence is compared here.
    pub(super) slot: u32,
    pub(super) id: JobId,
    pub(super) scheduled_at: &'static Location<'static>,
    pub(super) span: Span,
    /// `None` if the job panicked before it had a future, or its future was dropped already.
    pub(super) started: Option<Started>,
}

/// How the code of a run has ended.
pub(super) enum RunOutcome {
    /// By itself. The job wants this next.
    Ran(Next),
    Aborted,
    Panicked(Payload),
}

impl Started {
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Next> {
        match self {
            Started::Future(future) => future.as_mut().poll(cx).map(|()| Next::Done),
            Started::Stateful(stateful) => stateful.poll_run(cx),
        }
    }
}

impl RunningJob {
    /// Polls the user's code and catches its panic.
    pub(super) fn poll(&mut self, shared: &Shared, cx: &mut Context<'_>) -> Poll<RunOutcome> {
        let RunningJob { span, started, .. } = self;
        let Some(started) = started else {
            return Poll::Ready(RunOutcome::Aborted);
        };
        match span.enter(|| shared.catch_as_current(|| started.poll(cx))) {
            Ok(polled) => polled.map(RunOutcome::Ran),
            Err(payload) => Poll::Ready(RunOutcome::Panicked(payload)),
        }
    }

    /// Ends the run. If the job only has to be recorded, returns its slot for a worker that records ends in batches, as
    /// for jobs that are ready at their first poll.
    pub(super) fn end_in_batch(mut self, shared: &Arc<Shared>, outcome: RunOutcome) -> Option<u32> {
        let is_plain = matches!(
            (&outcome, &self.started),
            (RunOutcome::Ran(_), Some(Started::Future(_)))
        );
        // In a group with a limit the end is recorded at once, since another job may wait for the slot of
        // `max_running`.
        if !is_plain || shared.is_limited {
            self.end(shared, outcome);
            return None;
        }
        match panic::discard(self.started.take()) {
            Ok(()) => Some(self.slot),
            Err(payload) => {
                self.end(shared, RunOutcome::Panicked(payload));
                None
            }
        }
    }

    /// Ends the run: drops the user's values, and records the end under the group's lock.
    pub(super) fn end(self, shared: &Arc<Shared>, outcome: RunOutcome) {
        // The end of a run has four parts, and each relies on the ones before it:
        //
        // 1. Without a lock: the future is dropped. The job still counts as running and holds its slot of
        //    `max_running`. So a panic of the destructor is a panic of this job, and the group cannot drain meanwhile.
        // 2. Under the lock, `finish` records the end, frees the slot, and calls a worker for the next job that can
        //    start. If values are left, the job counts as being dropped from here on.
        // 3. Without a lock: these values are dropped: a runnable that does not run again, a panic that is not kept. A
        //    `JoinHandle` gets its value by the drop of the runnable. Since part 2 came first, its reader finds a
        //    finished job, and a destructor that blocks holds no slot.
        // 4. `end_drops` stops counting the job, without the lock; only in a group that is closing it takes the lock,
        //    and wakes `wait` if the job was the last one. So when a group has drained, no `JoinHandle` still waits for
        //    a value, and no destructor of a job is running.
        //
        // Parts 3 and 4 are left out if no value is left.
        let RunningJob {
            slot,
            id,
            scheduled_at,
            span,
            started,
        } = self;
        let mut runnable = None;
        let discarded = match started {
            // The runnable outlives the run. After an abort or a panic it still holds the future.
            Some(Started::Stateful(mut stateful)) => {
                let dropped = stateful.drop_run();
                runnable = Some(stateful.into_runnable());
                dropped
            }
            Some(Started::Future(future)) => panic::discard(future),
            None => Ok(()),
        };
        let report = |payload| {
            let panic = job_panic(payload, id, scheduled_at);
            shared.report_panic(&panic);
            panic
        };
        let ending = match (outcome, discarded) {
            (RunOutcome::Ran(next), Ok(())) => Ending::Ran(match next {
                Next::Done => None,
                Next::After(delay) => Some(shared.now().after(delay)),
                Next::At(at) => Some(shared.clock.timestamp(at)),
            }),
            (RunOutcome::Ran(_), Err(payload)) | (RunOutcome::Panicked(payload), Ok(())) => {
                Ending::Panicked(report(payload))
            }
            // A run reports one panic: that of its code, and not that of its destructor.
            (RunOutcome::Panicked(first), Err(second)) => {
                panic::drop_payload(second);
                Ending::Panicked(report(first))
            }
            (RunOutcome::Aborted, discarded) => Ending::Aborted(discarded.err().map(report)),
        };
        // This calls the tracing subscriber, which is user code, so it comes before the lock. It also comes before
        // `wait` can return: after that a program may read what the subscriber has collected.
        {
            let _ended = span;
        }
        let (left, start) =
            shared.enter_checked(|state, effects| state.finish(slot, ending, runnable, effects));
        // Before part 3, since the slot is free and the destructors below may take long.
        worker::start(shared, start);
        if !left.is_empty() {
            drop(left.panic);
            // The job has ended in part 2, so this panic does not change how it ended. It is only an error event.
            if let Err(payload) = panic::discard(left.runnable) {
                shared.report_panic(&JobPanic::new(payload, id, scheduled_at));
            }
            shared.end_drops(1);
        }
    }
}
