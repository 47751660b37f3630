//! What is done to a group: spelt by bytes, and printed so that it can be read.
//!
//! Times are arranged so that the outcome is one and only one. A round is 1,024 ms long. The history acts
//! in its second millisecond; deadlines fall into its last sixteen, many into the same one and some on the
//! very same nanosecond; each job that sleeps wakes in a millisecond of its own; the grace of a drain or a
//! shutdown ends in one where nothing else happens. So no two events whose order nobody promises share a
//! millisecond. The exception is a jump of the clock, which makes all that is due in several rounds due in one
//! moment: a history jumps only over times whose order is promised.

use std::fmt;
use std::sync::Arc;

/// A millisecond, in nanoseconds, like all times here; they are counted from the start of the runtime.
pub(crate) const MS: u64 = 1_000_000;
pub(crate) const ROUND: u64 = 1024 * MS;
/// Where in a round the history acts.
const ACTS: u64 = MS;
/// Where in a round the first job wakes, the second a millisecond later, and so on.
const WAKES: u64 = 2 * MS;
const GRACE_ENDS: u64 = 1000 * MS;
const DRAIN_ENDS: u64 = 1001 * MS;
/// The last milliseconds of a round, in which jobs fall due.
const DUE: u64 = 16;
/// More jobs than the milliseconds in which they can wake would spoil the arrangement.
const MOST_JOBS: usize = 900;
/// The time that is never reached.
pub(crate) const NEVER: u64 = u64::MAX;

#[derive(Clone, Copy, Debug)]
pub(crate) enum When {
    Now,
    /// So many nanoseconds ago.
    Ago(u64),
    /// So many rounds on, so many milliseconds and nanoseconds before the end of that round.
    Round {
        rounds: u64,
        ms: u64,
        ns: u64,
    },
    Never,
}

impl When {
    pub(crate) fn after(self, now: u64) -> u64 {
        match self {
            When::Now => now,
            When::Ago(ns) => now - ns,
            When::Round { rounds, ms, ns } => {
                ((now + DUE * MS) / ROUND + 1 + rounds) * ROUND - ms * MS - ns
            }
            When::Never => NEVER,
        }
    }

    fn is_later(self) -> bool {
        matches!(self, When::Round { .. } | When::Never)
    }
}

/// When a job that begins to sleep now for so many rounds wakes.
pub(crate) fn wakes(job: usize, rounds: u64, now: u64) -> u64 {
    assert!(job < MOST_JOBS, "{job} jobs in one history");
    ((now + DUE * MS) / ROUND + 1 + rounds) * ROUND + WAKES + job as u64 * MS
}

/// When the history acts next.
pub(crate) fn acts(rounds: u64, now: u64) -> u64 {
    (now / ROUND + rounds) * ROUND + ACTS
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Grace {
    None,
    Rounds(u64),
    Endless,
}

impl Grace {
    /// When the grace of a shutdown ends.
    pub(crate) fn ends(self, now: u64) -> u64 {
        self.ends_at(GRACE_ENDS, now)
    }

    /// When the grace of a drain ends.
    pub(crate) fn drain_ends(self, now: u64) -> u64 {
        self.ends_at(DRAIN_ENDS, now)
    }

    fn ends_at(self, in_round: u64, now: u64) -> u64 {
        match self {
            Grace::None => now,
            Grace::Rounds(rounds) => (now / ROUND + rounds) * ROUND + in_round,
            Grace::Endless => NEVER,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `schedule`, `delay`.
    Plain,
    /// `try_schedule`, `try_delay`.
    Try,
    /// `schedule_with`, `delay_with`.
    Context,
    /// `spawn_at`, `spawn_after`.
    Joined,
    /// `repeat`.
    Series,
}

#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) kind: Kind,
    pub(crate) when: When,
    /// By `delay` and the like, if they can say it.
    pub(crate) relative: bool,
    /// By a `Handle` instead of the `Group`.
    pub(crate) by_handle: bool,
    runs: Vec<Run>,
}

impl Job {
    /// What the job does when it runs; nothing if it has to run more often than it wants.
    pub(crate) fn run(&self, number: u64) -> &Run {
        static NOTHING: Run = Run {
            acts: Vec::new(),
            sleep: None,
            end: End::Done,
        };
        self.runs.get(number as usize - 1).unwrap_or(&NOTHING)
    }
}

#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) acts: Vec<Act>,
    /// Then it sleeps, in rounds.
    pub(crate) sleep: Option<u64>,
    pub(crate) end: End,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum End {
    Done,
    Panic,
    /// `Next::At`, or `Next::After` if it is relative.
    Again {
        when: When,
        relative: bool,
    },
}

/// What is done by the history, or by a job through its context.
///
/// A job is named by any number: the one in that place of all that were ever submitted, counted round.
#[derive(Clone, Debug)]
pub(crate) enum Act {
    Submit(Arc<Job>),
    Cancel(usize),
    Reset {
        job: usize,
        when: When,
        relative: bool,
    },
    Abort(usize),
    CancelGroup,
}

#[derive(Clone, Debug)]
pub(crate) enum Op {
    Act(Act),
    CloneHandle(usize),
    DropHandle(usize),
    Advance(u64),
    /// The clock is set forward by so many rounds at once.
    Jump(u64),
    Wait,
    DropWait,
    Drain(Grace),
    DropDrain,
    Shutdown(Grace),
    DropShutdown,
    DropGroup,
}

/// How often what happens, in percent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mix {
    pub(crate) ops: u64,
    pub(crate) limited: u64,
    pub(crate) deadline: u64,
    pub(crate) series: u64,
    pub(crate) sleeps: u64,
    pub(crate) panics: u64,
    /// Runs that schedule, cancel, move and abort.
    pub(crate) meddling: u64,
    /// Ops that bring the group to its end.
    pub(crate) ends: u64,
}

impl Mix {
    /// Everything there is.
    pub(crate) const ALL: Mix = Mix {
        ops: 40,
        limited: 40,
        deadline: 30,
        series: 30,
        sleeps: 60,
        panics: 10,
        meddling: 40,
        ends: 7,
    };
}

#[derive(Clone, Debug)]
pub(crate) struct History {
    pub(crate) limit: Option<usize>,
    pub(crate) deadline: Option<When>,
    pub(crate) ops: Vec<Op>,
    /// The runtime ends after them, rather than the group by itself.
    pub(crate) runtime_ends: bool,
}

impl History {
    /// The history that these numbers spell; any will do. A shorter one, and smaller numbers, make a
    /// simpler history.
    pub(crate) fn spelt(mix: &Mix, numbers: Vec<u8>) -> History {
        let mut writer = Writer {
            numbers: numbers.into_iter(),
            mix: *mix,
            limited: false,
            moves: 0,
        };
        writer.limited = writer.percent(mix.limited);
        let limit = writer.limited.then(|| writer.below(4) as usize + 1);
        let deadline = writer
            .percent(mix.deadline)
            .then(|| writer.group_deadline());
        let runtime_ends = writer.percent(2 * mix.ends);
        let ops = (0..mix.ops)
            .map_while(|_| (writer.numbers.len() > 0).then(|| writer.op()))
            .collect();
        History {
            limit,
            deadline,
            ops,
            runtime_ends,
        }
    }
}

/// An op a line.
impl fmt::Display for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let History {
            limit,
            deadline,
            ops,
            runtime_ends,
        } = self;
        writeln!(
            f,
            "limit {limit:?}, deadline {deadline:?}, runtime ends: {runtime_ends}"
        )?;
        ops.iter().try_for_each(|op| writeln!(f, "{op:?}"))
    }
}

struct Writer {
    /// Each decides on something.
    numbers: std::vec::IntoIter<u8>,
    mix: Mix,
    limited: bool,
    /// Every move goes to a nanosecond of its own: the place of a moved job among equal deadlines is not
    /// promised.
    moves: u64,
}

impl Writer {
    /// The highest there is when the numbers are used up.
    fn below(&mut self, bound: u64) -> u64 {
        let number = self.numbers.next();
        number.map_or(bound - 1, |number| u64::from(number) % bound)
    }

    fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    fn op(&mut self) -> Op {
        if self.percent(self.mix.ends) {
            return match self.below(16) {
                0..=3 => Op::Wait,
                4 => Op::DropWait,
                5..=6 => Op::Shutdown(self.grace()),
                7..=8 => Op::Act(Act::CancelGroup),
                9 => Op::DropGroup,
                10..=13 => Op::Drain(self.grace()),
                14 => Op::DropDrain,
                _ => Op::DropShutdown,
            };
        }
        match self.below(100) {
            0..=44 => Op::Act(Act::Submit(Arc::new(self.job(0)))),
            45..=54 => Op::Act(Act::Cancel(self.target())),
            55..=69 => {
                let when = if self.percent(30) {
                    When::Ago(self.unique())
                } else {
                    self.later_than_now()
                };
                Op::Act(self.reset(when))
            }
            70..=73 => Op::Act(Act::Abort(self.target())),
            74..=76 => Op::CloneHandle(self.target()),
            77..=79 => Op::DropHandle(self.target()),
            80..=83 => Op::Jump(self.below(3) + 1),
            _ => Op::Advance(self.below(3) + 1),
        }
    }

    fn reset(&mut self, when: When) -> Act {
        Act::Reset {
            job: self.target(),
            when,
            relative: when.is_later() && self.percent(50),
        }
    }

    fn grace(&mut self) -> Grace {
        match self.below(4) {
            0 => Grace::None,
            1 => Grace::Endless,
            _ => Grace::Rounds(self.below(3)),
        }
    }

    fn target(&mut self) -> usize {
        self.below(1 << 20) as usize
    }

    fn unique(&mut self) -> u64 {
        self.moves += 1;
        1000 + self.moves
    }

    /// For a move.
    fn later_than_now(&mut self) -> When {
        if self.percent(10) {
            return When::Never;
        }
        When::Round {
            rounds: self.below(4),
            ms: self.below(DUE),
            ns: self.unique(),
        }
    }

    /// For a submission: ties are wanted.
    fn round(&mut self) -> When {
        let rounds = self.below(4);
        let ms = if self.percent(70) { 0 } else { self.below(DUE) };
        let ns = [0, 0, 1, 500_000, 999_999][self.below(5) as usize];
        When::Round { rounds, ms, ns }
    }

    fn group_deadline(&mut self) -> When {
        if self.percent(5) {
            return When::Ago(MS);
        }
        match self.round() {
            When::Round { rounds, ms, ns } => When::Round {
                rounds: rounds * 2,
                ms,
                ns,
            },
            other => other,
        }
    }

    fn when(&mut self, depth: u64) -> When {
        match self.below(20) {
            0..=3 => When::Now,
            // By the history alone: what two jobs of one millisecond put into the past may be released in
            // one turn of the driver, sorted, or in two.
            4..=5 if depth == 0 => When::Ago([1, MS, 5 * MS][self.below(3) as usize]),
            6 => When::Never,
            _ => self.round(),
        }
    }

    fn job(&mut self, depth: u64) -> Job {
        let kind = if self.percent(self.mix.series) {
            Kind::Series
        } else {
            match self.below(10) {
                0..=2 => Kind::Plain,
                3..=4 => Kind::Try,
                5..=7 => Kind::Context,
                _ => Kind::Joined,
            }
        };
        let runs = match kind {
            Kind::Series => self.below(4) + 1,
            _ => 1,
        };
        let when = self.when(depth);
        Job {
            kind,
            when,
            relative: !matches!(when, When::Ago(_)) && self.percent(50),
            by_handle: self.percent(30),
            runs: (1..=runs)
                .map(|run| self.run(kind, run == runs, depth))
                .collect(),
        }
    }

    fn run(&mut self, kind: Kind, last: bool, depth: u64) -> Run {
        let acts = if matches!(kind, Kind::Context | Kind::Series)
            && depth < 3
            && self.percent(self.mix.meddling)
        {
            self.acts(depth)
        } else {
            Vec::new()
        };
        let sleep = self.percent(self.mix.sleeps).then(|| self.below(3));
        let end = if self.percent(self.mix.panics) {
            End::Panic
        } else if last {
            End::Done
        } else {
            let when = self.again(sleep.is_some());
            let relative = when.is_later() && self.percent(50);
            End::Again { when, relative }
        };
        Run { acts, sleep, end }
    }

    fn acts(&mut self, depth: u64) -> Vec<Act> {
        let count = self.below(3) + 1;
        let mut acts: Vec<Act> = (0..count)
            .map(|_| match self.below(20) {
                0..=11 => Act::Submit(Arc::new(self.job(depth + 1))),
                12..=14 => Act::Cancel(self.target()),
                15..=17 => {
                    let when = self.later_than_now();
                    self.reset(when)
                }
                _ => Act::Abort(self.target()),
            })
            .collect();
        // What else a job does after it has cancelled its group depends on who notices first.
        if self.percent(self.mix.ends / 2) {
            acts.push(Act::CancelGroup);
        }
        acts
    }

    /// When a series wants to run again.
    ///
    /// At once only in a millisecond that is its own: after a sleep, and not beside jobs that wait for a
    /// place, since those may start in the same one.
    fn again(&mut self, slept: bool) -> When {
        match self.below(10) {
            0..=1 if slept && !self.limited => When::Now,
            2 if slept && !self.limited => When::Ago(self.unique()),
            3 => When::Never,
            _ => self.later_than_now(),
        }
    }
}
