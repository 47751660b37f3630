//! What must come of a combinator: a list of ends, what it decides on after each, and a clock that is a number.

use std::collections::VecDeque;

use super::history::{Call, End, History, Op};
use crate::rounds::{NEVER, Sleep, acts, wakes};

/// A task that started, and when.
pub(crate) type Started = (usize, u64);

/// Why it ended early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    Cancelled,
    DeadlineExceeded,
}

/// One task's result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Slot {
    Value(usize),
    /// What the task returned, where that is not looked at; else its failure.
    Failed(usize),
    Panicked(usize),
    Stopped(Stop),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Of `all`.
    Slots(Vec<Slot>),
    Values(Vec<usize>),
    /// Of `for_each`.
    Done,
    Fault(Slot),
    /// Of `race` and `take`: all that failed, if any did.
    TooFew(Vec<Slot>),
    /// Of one `next`.
    Next(Option<Slot>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Started,
    /// It is over, also if its end has not been taken.
    Over,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Over {
    Decided,
    Stopped(Stop),
}

#[derive(Debug)]
pub(crate) struct Oracle {
    history: History,
    pub(crate) now: u64,
    pub(crate) started: Vec<Started>,
    /// One for each that was taken out of the input.
    tasks: Vec<(State, u64)>,
    /// What was polled to its end, and when.
    pub(crate) outcomes: Vec<(Outcome, u64)>,
    pub(crate) is_gone: bool,
    deadline: u64,
    is_cancelled: bool,
    /// Nothing more is taken out of the input.
    is_exhausted: bool,
    /// Tasks that the runtime polls in this millisecond, in this order.
    ready: VecDeque<usize>,
    /// Those that ended by themselves, until that is taken.
    ended: VecDeque<usize>,
    running: usize,
    aborted: usize,
    taken: Vec<usize>,
    over: Option<Over>,
    /// Of a stream: what can be handed out, or has its place.
    window: VecDeque<(usize, bool)>,
}

impl Oracle {
    pub(crate) fn new(history: &History, now: u64) -> Oracle {
        Oracle {
            history: history.clone(),
            now,
            started: Vec::new(),
            tasks: Vec::new(),
            outcomes: Vec::new(),
            is_gone: false,
            deadline: history.deadline.after(now),
            is_cancelled: false,
            is_exhausted: false,
            ready: VecDeque::new(),
            ended: VecDeque::new(),
            running: 0,
            aborted: 0,
            taken: Vec::new(),
            over: None,
            window: VecDeque::new(),
        }
    }

    pub(crate) fn taken_out(&self) -> usize {
        self.tasks.len()
    }

    pub(crate) fn is_over(&self, task: usize) -> bool {
        self.tasks[task].0 == State::Over
    }

    pub(crate) fn apply(&mut self, op: &Op) {
        match op {
            Op::Poll(rounds) => self.pass(acts(*rounds, self.now), true),
            Op::Leave(rounds) => self.pass(acts(*rounds, self.now), false),
            Op::Cancel => self.is_cancelled = true,
            Op::Drop => {
                self.is_gone = true;
                self.abort_all();
            }
        }
    }

    /// Everything that happens until then.
    pub(crate) fn pass(&mut self, to: u64, mut polled: bool) {
        polled &= !self.is_gone;
        loop {
            if polled {
                if let Some(outcome) = self.poll() {
                    polled = false;
                    self.is_gone = !matches!(outcome, Outcome::Next(_));
                    self.outcomes.push((outcome, self.now));
                }
            }
            if self.run_ready() {
                continue;
            }
            let started = self.tasks.iter().filter(|task| task.0 == State::Started);
            let wakes = started.map(|task| task.1).min().unwrap_or(NEVER);
            let deadline = Some(self.deadline).filter(|&at| at > self.now);
            let next = wakes.min(deadline.unwrap_or(NEVER));
            if next > to {
                break;
            }
            self.now = next;
            if let Some(task) = self
                .tasks
                .iter()
                .position(|task| *task == (State::Started, next))
            {
                self.end(task);
            }
        }
        self.now = to;
    }

    /// False if there was none.
    fn run_ready(&mut self) -> bool {
        let any = !self.ready.is_empty();
        while let Some(task) = self.ready.pop_front() {
            self.started.push((task, self.now));
            let plan = self.history.tasks[task];
            self.is_cancelled |= plan.cancels;
            match plan.sleep {
                Sleep::Not => self.end(task),
                Sleep::Rounds(rounds) => self.tasks[task].1 = wakes(task, rounds, self.now),
                Sleep::Forever => {}
            }
        }
        any
    }

    fn end(&mut self, task: usize) {
        self.tasks[task].0 = State::Over;
        self.ended.push_back(task);
    }

    fn stop(&self) -> Option<Stop> {
        if self.is_cancelled {
            Some(Stop::Cancelled)
        } else if self.deadline <= self.now {
            Some(Stop::DeadlineExceeded)
        } else {
            None
        }
    }

    /// Starts the next task of the input.
    fn start(&mut self) -> bool {
        if self.is_exhausted || self.tasks.len() == self.history.tasks.len() {
            self.is_exhausted = true;
            return false;
        }
        self.ready.push_back(self.tasks.len());
        self.tasks.push((State::Started, NEVER));
        self.running += 1;
        true
    }

    /// All that run; those that have ended by themselves have.
    fn abort_all(&mut self) {
        self.ready.clear();
        for task in &mut self.tasks {
            if task.0 == State::Started {
                task.0 = State::Over;
                self.aborted += 1;
                self.running -= 1;
            }
        }
    }

    fn take_end(&mut self) -> Option<usize> {
        let task = self.ended.pop_front()?;
        self.running -= 1;
        Some(task)
    }

    /// How many tasks a stop has cut off. For `all` it takes the input to its end, and else one item if need be.
    fn cut_off(&mut self) -> usize {
        let rest = self.history.tasks.len() - self.tasks.len();
        let rest = if self.is_exhausted { 0 } else { rest };
        self.is_exhausted = true;
        let more = match self.history.call {
            Call::All => rest,
            _ if self.aborted == 0 => rest.min(1),
            _ => 0,
        };
        self.tasks
            .extend(std::iter::repeat_n((State::Over, NEVER), more));
        self.aborted + more
    }

    fn poll(&mut self) -> Option<Outcome> {
        if let Call::Stream { unordered } = self.history.call {
            return self.poll_next(unordered).map(Outcome::Next);
        }
        loop {
            self.decide();
            if self.over.is_none() {
                match self.stop() {
                    Some(stop) => self.stop_all(stop),
                    None => {
                        let limit = self.history.limit.unwrap_or(usize::MAX);
                        while self.running < limit && self.start() {}
                        self.decide();
                    }
                }
            }
            if self.running == 0 {
                return Some(self.outcome());
            }
            match (self.take_end(), self.stop()) {
                (Some(task), _) if self.over != Some(Over::Decided) => self.taken.push(task),
                (Some(_), _) => {}
                (None, Some(stop)) if self.over.is_none() => self.stop_all(stop),
                (None, _) => return None,
            }
        }
    }

    fn stop_all(&mut self, stop: Stop) {
        self.over = Some(Over::Stopped(stop));
        self.abort_all();
    }

    fn decide(&mut self) {
        if self.over != Some(Over::Decided) && self.is_decided() {
            self.over = Some(Over::Decided);
            self.is_exhausted = true;
            self.abort_all();
        }
    }

    fn slots(&self) -> impl Iterator<Item = Slot> {
        self.taken.iter().map(|&task| self.slot(task))
    }

    fn slot(&self, task: usize) -> Slot {
        match self.history.tasks[task].end {
            End::Value => Slot::Value(task),
            End::Error => Slot::Failed(task),
            End::Panic => Slot::Panicked(task),
        }
    }

    /// Values, in order of completion. Where a result is not looked at, an error is one too.
    fn values(&self) -> Vec<usize> {
        let values = self.slots().filter_map(|slot| match slot {
            Slot::Value(task) => Some(task),
            Slot::Failed(task) if self.is_blind() => Some(task),
            _ => None,
        });
        values.collect()
    }

    fn is_blind(&self) -> bool {
        matches!(self.history.call, Call::Map | Call::ForEach)
    }

    fn faults(&self) -> Vec<Slot> {
        let faults = self.slots().filter(|slot| match slot {
            Slot::Failed(_) => !self.is_blind(),
            Slot::Panicked(_) => true,
            _ => false,
        });
        faults.collect()
    }

    /// Is the result known, whatever else comes?
    fn is_decided(&self) -> bool {
        let values = self.values().len();
        let wanted = match self.history.call {
            Call::Race => 1,
            Call::Take(count) => count,
            Call::TryTake(count) => return values == count || !self.faults().is_empty(),
            Call::All => return false,
            _ => return !self.faults().is_empty(),
        };
        let rest = self.history.tasks.len() - self.tasks.len();
        let may_come = match (self.is_exhausted, self.history.sized) {
            (true, _) => Some(0),
            (false, sized) => sized.then_some(rest),
        };
        let most = may_come.map(|rest| values + self.running + self.aborted + rest);
        values == wanted || most.is_some_and(|most| most < wanted)
    }

    fn outcome(&mut self) -> Outcome {
        if let Some(Over::Stopped(stop)) = self.over {
            if self.cut_off() > 0 {
                let stopped = Slot::Stopped(stop);
                if self.history.call != Call::All {
                    return Outcome::Fault(stopped);
                }
                let slots = (0..self.tasks.len()).map(|task| {
                    if self.taken.contains(&task) {
                        self.slot(task)
                    } else {
                        stopped
                    }
                });
                return Outcome::Slots(slots.collect());
            }
        }
        let (mut values, faults) = (self.values(), self.faults());
        match self.history.call {
            Call::All => {
                Outcome::Slots((0..self.tasks.len()).map(|task| self.slot(task)).collect())
            }
            Call::Race if values.is_empty() => Outcome::TooFew(faults),
            Call::Take(count) if values.len() < count => Outcome::TooFew(faults),
            Call::Race | Call::Take(_) => Outcome::Values(values),
            _ if !faults.is_empty() => Outcome::Fault(faults[0]),
            Call::ForEach => Outcome::Done,
            Call::TryTake(_) => Outcome::Values(values),
            Call::Last(count) => {
                Outcome::Values(values.split_off(values.len().saturating_sub(count)))
            }
            _ => {
                values.sort_unstable();
                Outcome::Values(values)
            }
        }
    }

    // A stream.

    fn poll_next(&mut self, unordered: bool) -> Option<Option<Slot>> {
        loop {
            if self.over.is_none() {
                if let Some(stop) = self.stop() {
                    self.stop_all(stop);
                } else {
                    self.fill(unordered);
                    if let Some(slot) = self.first(false) {
                        self.fill(unordered);
                        return Some(Some(slot));
                    }
                }
            }
            if self.running == 0 {
                return Some(self.last_ones());
            }
            match self.take_end() {
                Some(task) if unordered => self.window.push_back((task, true)),
                Some(task) => {
                    let mut window = self.window.iter_mut();
                    window.find(|place| place.0 == task).expect("its place").1 = true;
                }
                None => return None,
            }
        }
    }

    /// As far as the limit goes: of what is there and not handed out, and of what runs.
    fn fill(&mut self, unordered: bool) {
        let limit = self.history.limit.expect("a stream has one");
        loop {
            let held = self.window.len() + if unordered { self.running } else { 0 };
            if held >= limit || !self.start() {
                return;
            }
            if !unordered {
                self.window.push_back((self.tasks.len() - 1, false));
            }
        }
    }

    /// The first, if it is there; behind gaps, if those will not be filled any more.
    fn first(&mut self, skips: bool) -> Option<Slot> {
        let place = self
            .window
            .iter()
            .position(|place| place.1 || !skips)
            .filter(|&place| self.window[place].1)?;
        let (task, _) = self.window.drain(..=place).next_back()?;
        Some(self.slot(task))
    }

    /// What is left when nothing runs any more, then the reason why that was not all, then no more.
    fn last_ones(&mut self) -> Option<Slot> {
        if let Some(slot) = self.first(true) {
            return Some(slot);
        }
        match self.over.replace(Over::Decided) {
            Some(Over::Stopped(stop)) if self.cut_off() > 0 => Some(Slot::Stopped(stop)),
            _ => None,
        }
    }
}
