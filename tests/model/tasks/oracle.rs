//! What must come of a history of tasks: a list of them, a queue, and a clock that is a number.

use std::collections::VecDeque;
use std::sync::Arc;

use schedgroup::task::{Cause, OnError};

use super::history::{Act, End, Grace, History, OnCancel, Op, Plan, Verb};
use crate::rounds::{NEVER, Sleep, acts, wakes};

/// What is written down while it happens, in this order and no other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Record {
    Put {
        task: usize,
        answer: Answer,
        /// Is the task gone when the call returns?
        dropped: bool,
    },
    Started {
        task: usize,
        at: u64,
        /// Is its token cancelled?
        cancelled: bool,
    },
    Member {
        index: usize,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// With the index.
    In(usize),
    Full,
    Closed,
    Cancelled,
}

/// What `wait` may say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Of that index, with that error.
    Failed(usize, usize),
    /// Of that index, by that task.
    Panicked(usize, usize),
    Cancelled,
    DeadlineExceeded,
}

impl Fault {
    fn index(&self) -> usize {
        match self {
            Fault::Failed(index, _) | Fault::Panicked(index, _) => *index,
            _ => unreachable!("it has an index"),
        }
    }

    fn cause(&self) -> Cause {
        match *self {
            Fault::Failed(index, _) => Cause::Failed { index },
            Fault::Panicked(index, _) => Cause::Panicked { index },
            _ => unreachable!("it is a task's"),
        }
    }
}

/// In the order of the fields of `TaskStats`.
pub(crate) type Stats = [u64; 8];
/// Finished, aborted, dropped.
pub(crate) type Reported = [u64; 3];
/// The counts, or the faults: the first, or all.
pub(crate) type Waited = Result<Stats, Vec<Fault>>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// In the queue of the group.
    Queued,
    /// In the queue, of a `submit` that waits.
    Waiting,
    /// Given to the runtime, and not polled yet.
    Launched,
    Running,
    Over,
}

#[derive(Debug)]
pub(crate) struct Task {
    plan: Arc<Plan>,
    state: State,
    index: usize,
    wakes: u64,
    /// It sleeps, and looks at its token.
    listens: bool,
    aborted: bool,
}

impl Task {
    pub(crate) fn is_over(&self) -> bool {
        self.state == State::Over
    }
}

#[derive(Debug)]
pub(crate) struct Submit {
    task: usize,
    pub(crate) by_handle: bool,
    pub(crate) answer: Option<(Answer, u64)>,
    /// The future is gone.
    pub(crate) dropped: bool,
}

#[derive(Debug)]
struct Member {
    index: usize,
    /// Admitted, and not gone.
    counts: bool,
}

#[derive(Debug)]
pub(crate) struct Closing {
    before: Reported,
    pub(crate) answer: Option<(Reported, u64)>,
    pub(crate) dropped: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Open,
    Draining,
    ShutDown,
    Drained,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Caller {
    Owner,
    Handle,
}

#[derive(Debug)]
pub(crate) struct Oracle {
    pub(crate) now: u64,
    pub(crate) records: Vec<Record>,
    pub(crate) tasks: Vec<Task>,
    pub(crate) submits: Vec<Submit>,
    pub(crate) closings: Vec<Closing>,
    pub(crate) waited: Option<(Waited, u64)>,
    pub(crate) is_cancelled: bool,
    pub(crate) cause: Option<Cause>,
    /// A `wait` is alive, or a `wait_all`.
    waiter: Option<bool>,
    limit: usize,
    capacity: usize,
    on_error: OnError,
    deadline: u64,
    phase: Phase,
    group_dropped: bool,
    /// Nothing starts any more.
    stopping: bool,
    grace_ends: u64,
    grace_over: bool,
    members: Vec<Member>,
    queue: VecDeque<usize>,
    /// Tasks that the runtime polls in this millisecond, in this order.
    ready: VecDeque<usize>,
    running: usize,
    next_index: usize,
    faults: Vec<Fault>,
    /// The counts at the end of the group.
    drained: Option<Stats>,
    finished: u64,
    aborted: u64,
    /// Held, and never started; never held.
    dropped: u64,
    rejected: u64,
    discarded: u64,
    /// Tasks and members that ended by themselves.
    ended: u64,
}

impl Oracle {
    pub(crate) fn new(history: &History, now: u64) -> Oracle {
        let mut oracle = Oracle {
            now,
            records: Vec::new(),
            tasks: Vec::new(),
            submits: Vec::new(),
            closings: Vec::new(),
            waited: None,
            is_cancelled: false,
            cause: None,
            waiter: None,
            limit: history.limit,
            capacity: history.queue,
            on_error: history.on_error,
            deadline: history.deadline.after(now),
            phase: Phase::Open,
            group_dropped: false,
            stopping: false,
            grace_ends: NEVER,
            grace_over: false,
            members: Vec::new(),
            queue: VecDeque::new(),
            ready: VecDeque::new(),
            running: 0,
            next_index: 0,
            faults: Vec::new(),
            drained: None,
            finished: 0,
            aborted: 0,
            dropped: 0,
            rejected: 0,
            discarded: 0,
            ended: 0,
        };
        oracle.look_at_the_clock();
        oracle
    }

    /// Who does it: where it would be misuse by the owner, a handle.
    pub(crate) fn caller(&self, act: &Act) -> Caller {
        let misuse = matches!(
            act,
            Act::Put(Verb::Spawn | Verb::SpawnWith, _) | Act::Member
        );
        if self.group_dropped || (misuse && self.phase != Phase::Open) {
            Caller::Handle
        } else {
            Caller::Owner
        }
    }

    /// Is the history to leave this out?
    pub(crate) fn passes_over(&self, op: &Op) -> bool {
        match op {
            Op::Wait { .. } => self.group_dropped || self.waiter.is_some() || self.waited.is_some(),
            Op::DropWait => self.waiter.is_none(),
            Op::Drain(_) | Op::Shutdown(_) | Op::DropGroup => self.group_dropped,
            Op::Submit { by_handle, .. } => self.group_dropped && !by_handle,
            _ => false,
        }
    }

    pub(crate) fn is_drained(&self) -> bool {
        self.phase == Phase::Drained
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.phase != Phase::Open
    }

    pub(crate) fn has_members(&self) -> bool {
        !self.grace_over && self.members.iter().any(|member| member.counts)
    }

    pub(crate) fn target(number: usize, of: usize) -> Option<usize> {
        number.checked_rem(of)
    }

    pub(crate) fn stats(&self) -> Stats {
        let panicked = |fault: &&Fault| matches!(fault, Fault::Panicked(..));
        let panicked = self.faults.iter().filter(panicked).count();
        [
            self.queue.len() as u64,
            self.running as u64,
            self.finished,
            (self.faults.len() - panicked) as u64,
            panicked as u64,
            self.dropped + self.rejected,
            self.aborted,
            self.discarded,
        ]
    }

    fn reported(&self) -> Reported {
        [self.ended, self.aborted, self.dropped]
    }

    // What the history does.

    pub(crate) fn apply(&mut self, op: &Op) {
        match op {
            Op::Act(act) => self.act(self.caller(act), act, None),
            Op::ByHandle(act) => self.act(Caller::Handle, act, None),
            Op::Submit { plan, by_handle } => self.submit(plan, *by_handle),
            Op::DropSubmit(submit) => {
                if let Some(submit) = Oracle::target(*submit, self.submits.len()) {
                    self.drop_submit(submit);
                }
            }
            Op::DropMember(member) => self.drop_member(*member),
            Op::CancelParent => self.cancel(),
            Op::Wait { all } => {
                self.waiter = Some(*all);
                self.close(Phase::Draining);
            }
            Op::DropWait => self.waiter = None,
            Op::Drain(grace) => self.close_within(Phase::Draining, *grace),
            Op::Shutdown(grace) => self.close_within(Phase::ShutDown, *grace),
            Op::DropClosing(closing) => {
                if let Some(closing) = Oracle::target(*closing, self.closings.len()) {
                    self.closings[closing].dropped = true;
                }
            }
            Op::DropGroup => {
                self.waiter = None;
                for closing in &mut self.closings {
                    closing.dropped = true;
                }
                for submit in 0..self.submits.len() {
                    if !self.submits[submit].by_handle {
                        self.drop_submit(submit);
                    }
                }
                self.group_dropped = true;
                self.stopping = true;
                // No `wait` can come that they would hold up, or that would return their errors.
                for member in &mut self.members {
                    member.counts = false;
                }
                self.abort(None);
            }
            Op::Advance(rounds) => self.pass(acts(*rounds, self.now)),
        }
    }

    fn act(&mut self, caller: Caller, act: &Act, by: Option<usize>) {
        match act {
            Act::Put(verb, plan) => self.put(caller, *verb, plan),
            Act::Member => {
                let index = self.index();
                let is_closed = self.rejection(caller) == Some(Answer::Closed);
                let counts = !is_closed && !self.group_dropped;
                self.members.push(Member { index, counts });
                self.records.push(Record::Member { index });
            }
            Act::Fail(member) => self.fail(*member, by),
            Act::Cancel | Act::CancelToken => self.cancel(),
            Act::Abort => self.abort(by),
        }
    }

    fn index(&mut self) -> usize {
        self.next_index += 1;
        self.next_index - 1
    }

    fn rejection(&self, caller: Caller) -> Option<Answer> {
        match self.phase {
            Phase::Drained | Phase::ShutDown => Some(Answer::Closed),
            // Its owner is gone: the end of the group is all that a handle is told.
            _ if self.group_dropped => Some(Answer::Cancelled),
            Phase::Draining if caller == Caller::Owner => Some(Answer::Closed),
            _ => (self.stopping || self.is_cancelled).then_some(Answer::Cancelled),
        }
    }

    fn new_task(&mut self, plan: &Arc<Plan>) -> usize {
        self.tasks.push(Task {
            plan: Arc::clone(plan),
            state: State::Over,
            index: usize::MAX,
            wakes: NEVER,
            listens: false,
            aborted: false,
        });
        self.tasks.len() - 1
    }

    fn put(&mut self, caller: Caller, verb: Verb, plan: &Arc<Plan>) {
        let task = self.new_task(plan);
        let rejection = self.rejection(caller);
        let answer = match rejection {
            Some(rejection) if verb == Verb::TrySpawn => rejection,
            Some(_) => {
                self.rejected += 1;
                Answer::In(self.index())
            }
            None => {
                let bounded = verb == Verb::TrySpawn;
                self.enter(task, bounded).unwrap_or_else(|| {
                    self.discarded += 1;
                    Answer::Full
                })
            }
        };
        let dropped = rejection.is_some() && verb != Verb::TrySpawn;
        self.records.push(Record::Put {
            task,
            answer,
            dropped,
        });
    }

    /// Starts or queues a task that was let in; `None` if it is full.
    fn enter(&mut self, task: usize, bounded: bool) -> Option<Answer> {
        if self.queue.is_empty() && self.running < self.limit {
            self.launch(task);
        } else if !bounded || self.queue.len() < self.capacity {
            self.tasks[task].state = State::Queued;
            self.queue.push_back(task);
        } else {
            return None;
        }
        self.tasks[task].index = self.index();
        Some(Answer::In(self.tasks[task].index))
    }

    fn submit(&mut self, plan: &Arc<Plan>, by_handle: bool) {
        let task = self.new_task(plan);
        let caller = if by_handle {
            Caller::Handle
        } else {
            Caller::Owner
        };
        let answer = self.rejection(caller).or_else(|| self.enter(task, true));
        if answer.is_none() {
            self.tasks[task].index = self.index();
            self.tasks[task].state = State::Waiting;
            self.queue.push_back(task);
        }
        self.submits.push(Submit {
            task,
            by_handle,
            answer: answer.map(|answer| (answer, self.now)),
            dropped: false,
        });
    }

    fn drop_submit(&mut self, submit: usize) {
        let submit = &mut self.submits[submit];
        if submit.answer.is_some() || std::mem::replace(&mut submit.dropped, true) {
            return;
        }
        let task = submit.task;
        self.queue.retain(|&queued| queued != task);
        self.tasks[task].state = State::Over;
        self.settle();
    }

    fn drop_member(&mut self, member: usize) {
        let Some(member) = Oracle::target(member, self.members.len()) else {
            return;
        };
        if std::mem::take(&mut self.members[member].counts) && !self.grace_over {
            self.ended += 1;
            self.settle();
        }
    }

    fn fail(&mut self, member: usize, by: Option<usize>) {
        let Some(number) = Oracle::target(member, self.members.len()) else {
            return;
        };
        let member = &self.members[number];
        if member.counts && !self.grace_over && self.phase != Phase::Drained {
            let fault = Fault::Failed(member.index, error_of_member(number));
            self.fault(fault, by);
            self.fill();
        }
    }

    fn cancel(&mut self) {
        self.cancel_token(Cause::Cancelled);
        self.fill();
    }

    fn abort(&mut self, by: Option<usize>) {
        self.cancel();
        self.abort_all(by);
        self.settle();
    }

    fn close(&mut self, phase: Phase) {
        if self.phase == Phase::Open || (self.phase == Phase::Draining && phase == Phase::ShutDown)
        {
            self.phase = phase;
        }
        self.settle();
    }

    fn close_within(&mut self, phase: Phase, grace: Grace) {
        let ends = grace.ends(self.closings.len(), self.now);
        self.closings.push(Closing {
            before: self.reported(),
            answer: None,
            dropped: false,
        });
        self.grace_ends = self.grace_ends.min(ends);
        self.close(phase);
        self.look_at_the_clock();
    }

    // Why and how the group ends.

    /// The first reason stays.
    fn cancel_token(&mut self, cause: Cause) {
        if std::mem::replace(&mut self.is_cancelled, true) {
            return;
        }
        self.cause = Some(cause);
        for (number, task) in self.tasks.iter_mut().enumerate() {
            if std::mem::take(&mut task.listens) {
                self.ready.push_back(number);
            }
        }
    }

    /// A task, or a member that a task calls, has failed.
    fn fault(&mut self, fault: Fault, by: Option<usize>) {
        self.faults.push(fault);
        if self.on_error == OnError::Continue || std::mem::replace(&mut self.stopping, true) {
            return;
        }
        self.cancel_token(fault.cause());
        if self.on_error == OnError::Abort {
            self.abort_all(by);
        }
    }

    /// All that run but the one that calls it: that one goes on to its next await.
    fn abort_all(&mut self, by: Option<usize>) {
        for number in 0..self.tasks.len() {
            let task = &mut self.tasks[number];
            if !matches!(task.state, State::Launched | State::Running) {
                continue;
            }
            if by == Some(number) {
                task.aborted = true;
            } else {
                self.ready.retain(|&ready| ready != number);
                self.stop(number);
            }
        }
    }

    fn stop(&mut self, task: usize) {
        self.tasks[task].state = State::Over;
        self.aborted += 1;
        self.running -= 1;
    }

    /// The deadline or the end of a grace, if it has come.
    fn look_at_the_clock(&mut self) {
        if self.phase == Phase::Drained || self.group_dropped {
            return;
        }
        if self.deadline <= self.now {
            self.deadline = NEVER;
            self.stopping = true;
            self.cancel_token(Cause::DeadlineExceeded);
            self.fill();
            if self.on_error == OnError::Abort {
                self.abort_all(None);
                self.settle();
            }
        }
        if self.grace_ends <= self.now && !std::mem::replace(&mut self.grace_over, true) {
            self.phase = Phase::ShutDown;
            self.stopping = true;
            let members = self.members.iter().filter(|member| member.counts).count();
            self.aborted += members as u64;
            self.abort(None);
        }
    }

    /// Gives free slots to the queue, or skips it.
    fn fill(&mut self) {
        if self.stopping || self.is_cancelled {
            for task in std::mem::take(&mut self.queue) {
                match self.tasks[task].state {
                    State::Waiting => self.answer_submit(task, Answer::Cancelled),
                    _ => self.dropped += 1,
                }
                self.tasks[task].state = State::Over;
            }
        }
        while self.running < self.limit {
            let Some(task) = self.queue.pop_front() else {
                break;
            };
            self.accept(task);
            self.launch(task);
        }
        for place in 0..self.queue.len().min(self.capacity) {
            self.accept(self.queue[place]);
        }
        self.settle();
    }

    fn accept(&mut self, task: usize) {
        if self.tasks[task].state == State::Waiting {
            self.tasks[task].state = State::Queued;
            self.answer_submit(task, Answer::In(self.tasks[task].index));
        }
    }

    fn answer_submit(&mut self, task: usize, answer: Answer) {
        let mut submits = self.submits.iter_mut();
        let submit = submits.find(|submit| submit.task == task);
        submit.expect("it waits").answer = Some((answer, self.now));
    }

    fn launch(&mut self, task: usize) {
        self.running += 1;
        self.tasks[task].state = State::Launched;
        self.ready.push_back(task);
    }

    /// The group has drained, if nothing is left and nothing more can come.
    fn settle(&mut self) {
        let closed = matches!(self.phase, Phase::Draining | Phase::ShutDown);
        let is_idle = self.running == 0 && self.queue.is_empty() && !self.has_members();
        if closed && is_idle && !self.group_dropped {
            self.phase = Phase::Drained;
            self.drained = Some(self.stats());
            self.cancel_token(Cause::Finished);
        }
        let Some(drained) = self.drained else {
            return;
        };
        let (reported, now) = (self.reported(), self.now);
        for closing in &mut self.closings {
            let since = [0, 1, 2].map(|count| reported[count] - closing.before[count]);
            closing.answer.get_or_insert((since, now));
        }
        if let Some(all) = self.waiter.take() {
            let waited = self.outcome(all, drained);
            self.waited = Some((waited, now));
        }
    }

    fn outcome(&self, all: bool, drained: Stats) -> Waited {
        let mut faults = self.faults.clone();
        if faults.is_empty() {
            let [.., skipped, aborted, _] = drained;
            let why = match self.cause {
                Some(Cause::DeadlineExceeded) => Fault::DeadlineExceeded,
                _ => Fault::Cancelled,
            };
            return if skipped + aborted > 0 {
                Err(vec![why])
            } else {
                Ok(drained)
            };
        }
        if all {
            faults.sort_by_key(Fault::index);
        } else {
            faults.truncate(1);
        }
        Err(faults)
    }

    // The passing of time.

    /// Everything that happens until then.
    pub(crate) fn pass(&mut self, to: u64) {
        self.run_ready();
        loop {
            let next = self.next_event();
            if next > to {
                break;
            }
            self.now = next;
            for task in 0..self.tasks.len() {
                if self.tasks[task].wakes == next {
                    self.ready.push_back(task);
                }
            }
            self.look_at_the_clock();
            self.run_ready();
        }
        self.now = to;
    }

    pub(crate) fn next_event(&self) -> u64 {
        let tasks = self.tasks.iter().filter(|task| !task.is_over());
        let next = tasks.map(|task| task.wakes).min().unwrap_or(NEVER);
        if self.phase == Phase::Drained || self.group_dropped {
            return next;
        }
        let grace_ends = if self.grace_over {
            NEVER
        } else {
            self.grace_ends
        };
        next.min(self.deadline).min(grace_ends)
    }

    fn run_ready(&mut self) {
        while let Some(task) = self.ready.pop_front() {
            self.poll(task);
        }
    }

    fn poll(&mut self, number: usize) {
        let plan = Arc::clone(&self.tasks[number].plan);
        if self.tasks[number].state == State::Launched {
            self.tasks[number].state = State::Running;
            self.records.push(Record::Started {
                task: number,
                at: self.now,
                cancelled: self.is_cancelled,
            });
            for act in &plan.before {
                self.act(Caller::Handle, act, Some(number));
            }
        } else if std::mem::replace(&mut self.tasks[number].wakes, NEVER) == self.now {
            return self.end_run(number, &plan);
        }
        let own = wakes(number, 0, self.now);
        let wakes = match plan.sleep {
            Sleep::Not => return self.end_run(number, &plan),
            Sleep::Rounds(rounds) => wakes(number, rounds, self.now),
            Sleep::Forever => NEVER,
        };
        let wakes = match plan.on_cancel {
            OnCancel::End if self.is_cancelled => return self.end_run(number, &plan),
            OnCancel::EndLater if self.is_cancelled => own,
            _ => wakes,
        };
        if self.tasks[number].aborted {
            self.stop(number);
            return self.fill();
        }
        let task = &mut self.tasks[number];
        task.wakes = wakes;
        task.listens = plan.on_cancel != OnCancel::SleepOn && !self.is_cancelled;
    }

    fn end_run(&mut self, number: usize, plan: &Plan) {
        self.tasks[number].listens = false;
        for act in &plan.after {
            self.act(Caller::Handle, act, Some(number));
        }
        self.tasks[number].state = State::Over;
        self.ended += 1;
        let index = self.tasks[number].index;
        match plan.end {
            End::Well => self.finished += 1,
            End::Error => self.fault(Fault::Failed(index, number), None),
            End::Panic => self.fault(Fault::Panicked(index, number), None),
        }
        self.running -= 1;
        self.fill();
    }
}

/// The error that a member fails with: no task has it.
pub(crate) fn error_of_member(member: usize) -> usize {
    1_000_000 + member
}
