//! What must come of a history: a list of jobs, sorted when it is looked at, and a clock that is a number.

use std::collections::VecDeque;
use std::sync::Arc;

use schedgroup::JobState;

use crate::history::{Act, End, Grace, History, Job, Kind, MS, NEVER, Op, Run, acts, wakes};

/// What is written down while it happens, in this order and no other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Record {
    Submitted {
        job: usize,
        accepted: bool,
    },
    Started {
        job: usize,
        at: u64,
        /// As its context tells: number of the run, deadline, lateness, and whether the group drains.
        told: Option<(u64, u64, u64, bool)>,
    },
    Cancelled {
        job: usize,
        answer: bool,
        /// Of a call that says `true`: is the payload gone when it returns?
        freed: bool,
    },
    Reset {
        job: usize,
        answer: bool,
    },
}

/// The group's counts when everything of the moment has happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) pending: usize,
    pub(crate) waiting: usize,
    pub(crate) running: usize,
    pub(crate) finished: u64,
    pub(crate) cancelled: u64,
    pub(crate) panicked: u64,
    pub(crate) max_lateness: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Waited {
    Ok,
    Cancelled,
    DeadlineExceeded,
    /// By the job of that number.
    Panicked(usize),
}

/// Finished, aborted, dropped.
pub(crate) type Reported = (u64, u64, u64);

#[derive(Debug)]
pub(crate) struct Planned {
    job: Arc<Job>,
    pub(crate) state: JobState,
    pub(crate) has_handle: bool,
    pub(crate) deadline: u64,
    /// The number of its submission; a later run of a series has a new one.
    submitted: u64,
    run: u64,
    /// Due, and released to wait for a slot.
    waiting: bool,
    /// When it wakes, while it sleeps in a run.
    wakes: Option<u64>,
    aborted: bool,
    /// A call of `cancel` was told that the present run is the last.
    cancelled: bool,
    again: Option<u64>,
}

impl Planned {
    fn may_run_again(&self) -> bool {
        self.job.kind == Kind::Series && !self.cancelled && !self.aborted
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Open,
    /// By `wait` or `drain`: contexts are admitted.
    Waited,
    ShutDown,
}

#[derive(Debug, Default)]
struct EndCounts {
    finished: u64,
    panicked: u64,
    aborted: u64,
    dropped: u64,
}

impl EndCounts {
    fn report(&self) -> Reported {
        (self.finished + self.panicked, self.aborted, self.dropped)
    }
}

/// A call of `drain` or `shutdown`.
#[derive(Debug, Default)]
pub(crate) struct Closing {
    /// The counts at the call.
    before: Option<Reported>,
    /// Its future was dropped.
    pub(crate) given_up: bool,
    /// What it returned, and when.
    pub(crate) reported: Option<(Reported, u64)>,
}

impl Closing {
    fn report(&mut self, counts: Reported, now: u64) {
        if let Some(before) = self.before.filter(|_| !self.given_up) {
            self.reported
                .get_or_insert((counts_since(before, counts), now));
        }
    }
}

fn counts_since(before: Reported, counts: Reported) -> Reported {
    (
        counts.0 - before.0,
        counts.1 - before.1,
        counts.2 - before.2,
    )
}

#[derive(Debug)]
pub(crate) struct Oracle {
    pub(crate) now: u64,
    pub(crate) jobs: Vec<Planned>,
    pub(crate) records: Vec<Record>,
    /// What the call of `wait` returned, and when.
    pub(crate) waited: Option<(Waited, u64)>,
    pub(crate) drain: Closing,
    pub(crate) shutdown: Closing,
    /// A job was moved or cancelled: until the driver has looked, `next_deadline` may be too early.
    pub(crate) moved: bool,
    ready: VecDeque<usize>,
    /// How many jobs, and later runs of series, were submitted.
    submissions: u64,
    limit: usize,
    running: usize,
    phase: Phase,
    ended: Option<Waited>,
    deadline: u64,
    end_counts: EndCounts,
    max_lateness: u64,
    first_panic: Option<usize>,
    waiter: bool,
    /// The earliest end of the grace of a drain or a shutdown.
    grace_ends: u64,
    /// No job is accepted any more and none runs again; the counts when that began.
    sealed: Option<Reported>,
    pub(crate) group_dropped: bool,
}

impl Oracle {
    pub(crate) fn new(history: &History, now: u64) -> Oracle {
        Oracle {
            now,
            jobs: Vec::new(),
            records: Vec::new(),
            waited: None,
            drain: Closing::default(),
            shutdown: Closing::default(),
            moved: false,
            ready: VecDeque::new(),
            submissions: 0,
            limit: history.limit.unwrap_or(usize::MAX),
            running: 0,
            phase: Phase::Open,
            ended: None,
            deadline: history.deadline.map_or(NEVER, |when| when.after(now)),
            end_counts: EndCounts::default(),
            max_lateness: 0,
            first_panic: None,
            waiter: false,
            grace_ends: NEVER,
            sealed: None,
            group_dropped: false,
        }
    }

    /// Is the history to leave this out, because its outcome is open or it would be misuse?
    pub(crate) fn passes_over(&self, op: &Op) -> bool {
        match op {
            Op::Wait => self.group_dropped || !self.may_wait(),
            Op::DropWait => !self.waiter,
            Op::Drain(_) => self.group_dropped || self.drain.before.is_some(),
            Op::Shutdown(_) => self.group_dropped || self.shutdown.before.is_some(),
            Op::DropDrain => self.drain.before.is_none() || self.drain.reported.is_some(),
            Op::DropShutdown => self.shutdown.before.is_none() || self.shutdown.reported.is_some(),
            // Which of two comes first, the end of a sleep or something that is due meanwhile, is not promised.
            Op::Jump(rounds) => {
                let to = acts(*rounds, self.now);
                let wakes = |job: &Planned| job.wakes.is_some_and(|wakes| wakes <= to);
                self.jobs.iter().any(wakes)
            }
            Op::DropGroup => self.group_dropped,
            Op::Act(Act::CancelGroup) => self.group_dropped,
            // Where a moved job comes in among jobs that were due before is not promised.
            Op::Act(Act::Reset { job, when, .. }) => self.target(*job).is_some_and(|job| {
                let job = &self.jobs[job];
                when.after(self.now) <= self.now
                    && (job.waiting || (job.state == JobState::Running && self.limit != usize::MAX))
            }),
            _ => false,
        }
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.phase != Phase::Open
    }

    /// No call of `wait` is on its way, and none has ended.
    pub(crate) fn may_wait(&self) -> bool {
        !self.waiter && self.waited.is_none()
    }

    pub(crate) fn is_ended(&self) -> bool {
        self.ended.is_some()
    }

    /// Something that is not pending for ever is still to come.
    pub(crate) fn is_busy(&self) -> bool {
        self.next_event() != NEVER
    }

    /// An act or another op of the history; time passes only in [`advance`](Oracle::advance).
    pub(crate) fn apply(&mut self, op: &Op) {
        match op {
            Op::Act(act) => self.act(act, None),
            Op::CloneHandle(_) => {}
            Op::DropHandle(job) => {
                if let Some(job) = self.target(*job) {
                    self.jobs[job].has_handle = false;
                }
            }
            Op::Advance(rounds) => self.advance(*rounds),
            Op::Jump(rounds) => {
                self.now = acts(*rounds, self.now);
                self.settle();
            }
            Op::Wait => {
                self.check_deadline();
                self.waiter = true;
                if self.phase == Phase::Open {
                    self.phase = Phase::Waited;
                }
                self.answer();
            }
            Op::DropWait => self.waiter = false,
            Op::Drain(grace) => self.drain(*grace),
            Op::DropDrain => self.drain.given_up = true,
            Op::Shutdown(grace) => self.shut_down(*grace),
            Op::DropShutdown => self.shutdown.given_up = true,
            Op::DropGroup => {
                self.group_dropped = true;
                self.waiter = false;
                self.end_all(Waited::Cancelled);
                self.abort_running();
            }
        }
    }

    pub(crate) fn advance(&mut self, rounds: u64) {
        let to = acts(rounds, self.now);
        self.settle();
        loop {
            let next = self.next_event();
            if next > to {
                break;
            }
            self.now = next;
            self.wake();
            self.settle();
        }
        self.now = to;
    }

    pub(crate) fn counts(&self) -> Counts {
        let pending = self.pending().count();
        Counts {
            pending,
            waiting: self.ready.len(),
            running: self.running,
            finished: self.end_counts.finished,
            cancelled: self.end_counts.aborted + self.end_counts.dropped,
            panicked: self.end_counts.panicked,
            max_lateness: self.max_lateness,
        }
    }

    pub(crate) fn next_deadline(&self) -> Option<u64> {
        self.pending().map(|job| self.jobs[job].deadline).min()
    }

    pub(crate) fn target(&self, number: usize) -> Option<usize> {
        number.checked_rem(self.jobs.len())
    }

    fn pending(&self) -> impl Iterator<Item = usize> {
        let jobs = self.jobs.iter().enumerate();
        jobs.filter(|(_, job)| job.state == JobState::Pending)
            .map(|(index, _)| index)
    }

    // What is done to the group.

    fn act(&mut self, act: &Act, by: Option<usize>) {
        match act {
            Act::Submit(job) => self.submit(job, by),
            Act::CancelGroup => {
                self.check_deadline();
                self.end_all(Waited::Cancelled);
            }
            Act::Cancel(job) | Act::Abort(job) | Act::Reset { job, .. } => {
                let Some(job) = self.target(*job).filter(|&job| self.jobs[job].has_handle) else {
                    return;
                };
                match act {
                    Act::Abort(_) => self.abort(job),
                    Act::Reset { when, .. } => self.reset(job, when.after(self.now)),
                    _ => self.cancel(job),
                }
            }
        }
    }

    fn submit(&mut self, job: &Arc<Job>, by: Option<usize>) {
        let closed = match self.phase {
            Phase::Open => false,
            Phase::Waited => by.is_none(),
            Phase::ShutDown => true,
        };
        let accepted = !closed && self.ended.is_none();
        let tried = job.kind == Kind::Try || (by.is_none() && self.is_closed());
        let index = self.jobs.len();
        self.submissions += 1;
        let submitted = self.submissions;
        self.jobs.push(Planned {
            job: Arc::clone(job),
            state: if accepted {
                JobState::Pending
            } else {
                JobState::Cancelled
            },
            has_handle: accepted || !tried,
            deadline: job.when.after(self.now),
            submitted,
            run: 0,
            waiting: false,
            wakes: None,
            aborted: false,
            cancelled: false,
            again: None,
        });
        self.records.push(Record::Submitted {
            job: index,
            accepted,
        });
    }

    fn cancel(&mut self, index: usize) {
        let down = self.is_going_down();
        let job = &mut self.jobs[index];
        let freed = job.state == JobState::Pending;
        // The end of the group has prevented every further run.
        let runs_again = job.state == JobState::Running && job.may_run_again();
        let answer = freed || (runs_again && !down);
        if freed {
            self.drop_pending(index);
        } else if answer {
            job.cancelled = true;
        }
        self.records.push(Record::Cancelled {
            job: index,
            answer,
            freed,
        });
    }

    fn reset(&mut self, index: usize, at: u64) {
        let down = self.is_going_down();
        let job = &mut self.jobs[index];
        let answer = match job.state {
            _ if down => false,
            JobState::Pending => {
                self.moved = true;
                job.deadline = at;
                if std::mem::take(&mut job.waiting) {
                    self.ready.retain(|&ready| ready != index);
                }
                true
            }
            JobState::Running if job.may_run_again() => {
                job.again = Some(at);
                true
            }
            _ => false,
        };
        self.records.push(Record::Reset { job: index, answer });
    }

    fn abort(&mut self, index: usize) {
        let job = &mut self.jobs[index];
        match job.state {
            JobState::Pending => self.drop_pending(index),
            JobState::Running => {
                job.aborted = true;
                if job.wakes.is_some() {
                    self.stop(index);
                }
            }
            _ => {}
        }
    }

    fn shut_down(&mut self, grace: Grace) {
        self.shutdown.before = Some(self.end_counts.report());
        self.check_deadline();
        self.phase = Phase::ShutDown;
        self.grace_ends = self.grace_ends.min(grace.ends(self.now));
        self.sealed.get_or_insert(self.end_counts.report());
        let late: Vec<usize> = self
            .pending()
            .filter(|&job| self.jobs[job].deadline > self.now)
            .collect();
        for job in late {
            self.drop_pending(job);
        }
    }

    fn drain(&mut self, grace: Grace) {
        self.drain.before = Some(self.end_counts.report());
        self.check_deadline();
        if self.phase == Phase::Open {
            self.phase = Phase::Waited;
        }
        self.grace_ends = self.grace_ends.min(grace.drain_ends(self.now));
    }

    // How jobs and the group end.

    fn is_going_down(&self) -> bool {
        self.ended.is_some() || self.sealed.is_some()
    }

    /// Nothing is held and nothing more can come.
    pub(crate) fn is_drained(&self) -> bool {
        (self.is_closed() || self.ended.is_some())
            && self.running == 0
            && self.pending().next().is_none()
    }

    fn drop_pending(&mut self, index: usize) {
        self.moved = true;
        let job = &mut self.jobs[index];
        job.state = JobState::Cancelled;
        if std::mem::take(&mut job.waiting) {
            self.ready.retain(|&ready| ready != index);
        }
        self.end_counts.dropped += 1;
    }

    fn stop(&mut self, index: usize) {
        let job = &mut self.jobs[index];
        job.state = JobState::Cancelled;
        job.wakes = None;
        self.running -= 1;
        self.end_counts.aborted += 1;
    }

    fn check_deadline(&mut self) {
        if self.now >= self.deadline && !self.is_drained() {
            self.end_all(Waited::DeadlineExceeded);
        }
    }

    /// The first reason stays.
    fn end_all(&mut self, why: Waited) {
        if self.ended.is_none() && !self.is_drained() {
            self.ended = Some(why);
            self.drop_all_pending();
        }
    }

    fn drop_all_pending(&mut self) {
        for job in self.pending().collect::<Vec<_>>() {
            self.drop_pending(job);
        }
    }

    fn abort_running(&mut self) {
        for index in 0..self.jobs.len() {
            if self.jobs[index].state == JobState::Running {
                self.stop(index);
            }
        }
    }

    // The passing of time.

    /// The next millisecond in which anything happens.
    fn next_event(&self) -> u64 {
        let jobs = self.jobs.iter().map(|job| match job.state {
            JobState::Pending if !job.waiting => job.deadline,
            JobState::Running => job.wakes.unwrap_or(NEVER),
            _ => NEVER,
        });
        let group = match self.ended {
            None if !self.is_drained() => self.deadline,
            _ => NEVER,
        };
        let grace = match self.is_drained() {
            true => NEVER,
            false => self.grace_ends,
        };
        let next = jobs.chain([group, grace]).min().unwrap_or(NEVER);
        match next {
            NEVER => NEVER,
            // A timer of a paused clock fires in the next whole millisecond.
            next => next.max(self.now).div_ceil(MS) * MS,
        }
    }

    /// The one job that sleeps until now goes on.
    fn wake(&mut self) {
        for index in 0..self.jobs.len() {
            if self.jobs[index].wakes == Some(self.now) {
                self.jobs[index].wakes = None;
                self.end_run(index);
            }
        }
    }

    /// Everything that happens without any passing of time.
    fn settle(&mut self) {
        self.check_deadline();
        if self.grace_ends <= self.now {
            self.sealed.get_or_insert(self.end_counts.report());
            self.drop_all_pending();
            self.abort_running();
        }
        loop {
            self.release();
            if self.running == self.limit {
                break;
            }
            match self.ready.pop_front() {
                Some(job) => self.start(job),
                None => break,
            }
        }
        self.answer();
    }

    /// All that is due waits, in the order of deadlines, then of submission.
    fn release(&mut self) {
        let due: Vec<usize> = self
            .pending()
            .filter(|&job| !self.jobs[job].waiting && self.jobs[job].deadline <= self.now)
            .collect();
        for &job in &due {
            self.jobs[job].waiting = true;
        }
        self.ready.extend(due);
        let jobs = &self.jobs;
        let order = |&job: &usize| (jobs[job].deadline, jobs[job].submitted);
        self.ready.make_contiguous().sort_by_key(order);
    }

    fn start(&mut self, index: usize) {
        let now = self.now;
        self.running += 1;
        let job = &mut self.jobs[index];
        job.waiting = false;
        job.state = JobState::Running;
        job.run += 1;
        let lateness = now - job.deadline;
        self.max_lateness = self.max_lateness.max(lateness);
        let told = matches!(job.job.kind, Kind::Context | Kind::Series).then_some((
            job.run,
            job.deadline,
            lateness,
            self.phase != Phase::Open,
        ));
        self.records.push(Record::Started {
            job: index,
            at: now,
            told,
        });
        let plan = Arc::clone(&job.job);
        let run: &Run = plan.run(job.run);
        for act in &run.acts {
            self.act(act, Some(index));
        }
        match run.sleep {
            Some(_) if self.jobs[index].aborted => self.stop(index),
            Some(rounds) => self.jobs[index].wakes = Some(wakes(index, rounds, now)),
            None => self.end_run(index),
        }
    }

    fn end_run(&mut self, index: usize) {
        let down = self.is_going_down();
        self.running -= 1;
        let job = &mut self.jobs[index];
        let wanted = match job.job.run(job.run).end {
            End::Panic => {
                job.state = JobState::Panicked;
                self.end_counts.panicked += 1;
                self.first_panic.get_or_insert(index);
                return;
            }
            End::Done => None,
            End::Again { when, .. } => Some(when.after(self.now)),
        };
        let next = wanted.into_iter().chain(job.again.take()).min();
        // A shutdown lets a series end with this run.
        if !job.cancelled && (next.is_none() || self.phase == Phase::ShutDown) {
            job.state = JobState::Finished;
            self.end_counts.finished += 1;
        } else if let Some(at) = next.filter(|_| job.may_run_again() && !down) {
            job.state = JobState::Pending;
            job.deadline = at;
            self.submissions += 1;
            job.submitted = self.submissions;
        } else {
            job.state = JobState::Cancelled;
            self.end_counts.dropped += 1;
        }
    }

    /// Gives those who wait for the group their answers, if they are known.
    fn answer(&mut self) {
        let drained = self.is_drained();
        let report = self.end_counts.report();
        if drained {
            self.drain.report(report, self.now);
            self.shutdown.report(report, self.now);
        }
        if !self.waiter || self.waited.is_some() {
            return;
        }
        let since = self.sealed.map(|before| counts_since(before, report));
        let answer = match (self.ended, since) {
            (Some(why), _) => why,
            _ if !drained => return,
            (None, Some((_, aborted, dropped))) if aborted + dropped > 0 => Waited::Cancelled,
            _ => self.first_panic.map_or(Waited::Ok, Waited::Panicked),
        };
        self.waited = Some((answer, self.now));
    }
}
