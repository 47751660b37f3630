//! Runners: tasks that take due jobs in release order and poll each to its first await.
//!
//! A job that is ready at its first poll costs no task of its own. One that is not keeps the task: the
//! runner stays with it, so that the job's waker and task id stay the same for its whole run, and
//! another runner takes over the queue if jobs wait. When the job has ended its task serves again if
//! it is needed.

use std::panic::Location;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::task::{coop, yield_now};

use super::body::{Body, Live, Run, job_panic};
use super::ends::Ending;
use super::error::JobPanic;
use super::job::{JobId, Next};
use super::jobs::Started;
use super::shared::Shared;
use super::state::{State, Todo};
use crate::ground::panic::{self, Payload};
use crate::ground::timeline::Tick;
use crate::ground::trace::Span;

/// So many jobs are served before other tasks of the worker get a turn.
const SERVED: usize = 128;

/// Starts runners; they have been counted already.
pub(super) fn start(shared: &Arc<Shared>, count: usize) {
    for _ in 0..count {
        shared.runtime.spawn(serve(Seat {
            shared: Arc::clone(shared),
            on_duty: true,
        }));
    }
}

/// A runner's seat among those that serve the queue, given up in `Drop`: a runtime that shuts down
/// drops its tasks wherever they are.
struct Seat {
    shared: Arc<Shared>,
    on_duty: bool,
}

impl Drop for Seat {
    fn drop(&mut self) {
        if self.on_duty {
            self.shared.enter(|state, _| state.places().leave());
        }
    }
}

async fn serve(mut seat: Seat) {
    let mut served = 0;
    let mut next = seat.next();
    while let Some(started) = next {
        served += 1;
        next = match InRun::new(&mut seat, started, served % SERVED == 0).await {
            After::ServeOn(next) => next,
            After::Pause => {
                yield_now().await;
                seat.next()
            }
        };
    }
}

impl Seat {
    /// The next job to start; without one the seat is given up.
    fn next(&mut self) -> Option<Started> {
        let Seat { shared, on_duty } = self;
        let now = shared.now();
        let cancelled = shared.is_cancelled();
        shared.enter(|state, todo| next(on_duty, state, now, cancelled, todo))
    }
}

fn next(
    on_duty: &mut bool,
    state: &mut State,
    now: Tick,
    cancelled: bool,
    todo: &mut Todo,
) -> Option<Started> {
    if !*on_duty {
        *on_duty = state.places().return_to_duty();
    }
    if !*on_duty {
        return None;
    }
    let started = state.take(now, cancelled, todo);
    if started.is_none() {
        *on_duty = false;
        state.places().leave();
    }
    started
}

/// What a runner does after a run.
enum After {
    /// Starts this job, or goes if there is none for it.
    ServeOn(Option<Started>),
    /// Gives others a turn before it looks for a job.
    Pause,
}

/// One run of one job. It ends the run in `Drop` if it is dropped before.
struct InRun<'a> {
    seat: &'a mut Seat,
    slot: u32,
    id: JobId,
    scheduled_at: &'static Location<'static>,
    span: Span,
    stage: Stage,
    /// The runner must let others have a turn after this run.
    turn_over: bool,
}

enum Stage {
    Begin(Box<dyn Body>, Run),
    Going(Live),
    Over,
}

impl<'a> InRun<'a> {
    fn new(seat: &'a mut Seat, started: Started, turn_over: bool) -> InRun<'a> {
        let shared = &seat.shared;
        let run = Run {
            id: started.id,
            deadline: shared.timeline.instant(started.deadline),
            lateness: started.lateness,
        };
        InRun {
            span: Span::job(
                shared.name(),
                started.id.0,
                started.scheduled_at,
                started.lateness,
            ),
            slot: started.slot,
            id: started.id,
            scheduled_at: started.scheduled_at,
            stage: Stage::Begin(started.body, run),
            turn_over,
            seat,
        }
    }

    /// Polls the user's code; its panic comes back as a payload.
    fn poll_job(&mut self, cx: &mut Context<'_>) -> Result<Poll<Next>, Payload> {
        let (shared, stage) = (&self.seat.shared, &mut self.stage);
        let poll = || {
            if let Stage::Begin(..) = stage {
                let Stage::Begin(body, run) = std::mem::replace(stage, Stage::Over) else {
                    unreachable!("just seen");
                };
                *stage = Stage::Going(body.start(run));
            }
            match stage {
                Stage::Going(Live::Future(future)) => future.as_mut().poll(cx).map(|()| Next::Done),
                Stage::Going(Live::Own(own)) => own.poll_run(cx),
                Stage::Begin(..) | Stage::Over => unreachable!("polled after its end"),
            }
        };
        self.span.enter(|| shared.inside(poll))
    }

    /// The job wants to go on later: from now on this task is its own. True if it must stop instead.
    fn park(&mut self, cx: &mut Context<'_>) -> bool {
        if !self.seat.on_duty {
            return false;
        }
        self.seat.on_duty = false;
        let (stop, replace) = self.seat.shared.enter(|state, _| {
            let stop = state.park(self.slot, cx.waker());
            (stop, state.places().stay_with_job())
        });
        start(&self.seat.shared, usize::from(replace));
        stop
    }

    /// Drops what the run held, counts it as ended, and takes the next job in the same step if
    /// `serve_on`.
    fn end(&mut self, mut ended: Result<Option<Next>, Payload>, serve_on: bool) -> Option<Started> {
        let Seat { shared, on_duty } = &mut *self.seat;
        let mut body = None;
        let discarded = match std::mem::replace(&mut self.stage, Stage::Over) {
            Stage::Going(Live::Future(future)) => panic::discard(future),
            Stage::Going(Live::Own(own)) => {
                body = Some(own.into_body());
                Ok(())
            }
            Stage::Begin(unstarted, _) => panic::discard(unstarted),
            Stage::Over => Ok(()),
        };
        match discarded {
            Err(payload) if ended.is_ok() => ended = Err(payload),
            Err(payload) => panic::forget(payload),
            Ok(()) => {}
        }
        let now = shared.now();
        let ending = match ended {
            Ok(Some(Next::Done)) => Ending::Ran(None),
            Ok(Some(Next::After(delay))) => Ending::Ran(Some(now.after(delay))),
            Ok(Some(Next::At(at))) => Ending::Ran(Some(shared.timeline.tick(at))),
            Ok(None) => Ending::Aborted,
            Err(payload) => {
                let panic = job_panic(payload, self.id, self.scheduled_at);
                shared.tell(&panic);
                Ending::Panicked(panic)
            }
        };
        let cancelled = shared.is_cancelled();
        let (finished, started) = shared.enter(|state, todo| {
            // What came before the end of the last job is what ended the group.
            state.check_end(now, cancelled, todo);
            let finished = state.finish(self.slot, ending, body, todo);
            let serve_on = serve_on && finished.is_empty();
            let started = serve_on.then(|| next(on_duty, state, now, cancelled, todo));
            (finished, started.flatten())
        });
        if finished.is_empty() {
            return started;
        }
        drop(finished.panic);
        if let Err(payload) = panic::discard(finished.body) {
            shared.tell(&JobPanic::new(payload, self.id, self.scheduled_at));
        }
        shared.dropped(1);
        serve_on.then(|| self.seat.next()).flatten()
    }
}

impl Future for InRun<'_> {
    type Output = After;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let run = &mut *self;
        let parked = !run.seat.on_duty;
        let stop = parked && run.seat.shared.enter(|state, _| state.must_stop(run.slot));
        let ended = if stop {
            Ok(None)
        } else {
            match run.poll_job(cx) {
                Ok(Poll::Ready(next)) => Ok(Some(next)),
                Ok(Poll::Pending) if !run.park(cx) => return Poll::Pending,
                Ok(Poll::Pending) => Ok(None),
                Err(payload) => Err(payload),
            }
        };
        let serve_on = !run.turn_over && coop::has_budget_remaining();
        let next = run.end(ended, serve_on);
        Poll::Ready(if serve_on {
            After::ServeOn(next)
        } else {
            After::Pause
        })
    }
}

impl Drop for InRun<'_> {
    fn drop(&mut self) {
        if !matches!(self.stage, Stage::Over) {
            // Only a runtime that goes drops a run. It is what ends the group, also if this run is the last.
            self.seat.shared.enter(|state, todo| state.abandon(todo));
            self.end(Ok(None), false);
        }
    }
}
