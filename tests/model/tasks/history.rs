//! What is done to a group of tasks, spelt by words of bytes, and printed so that it can be read.

use std::fmt;
use std::sync::Arc;

use schedgroup::task::OnError;

use crate::rounds::{Bytes, Deadline, NEVER, Sleep, grace_ends};

/// One op. Zeros are the simplest one, and words that are left out leave the others as they are: so a history
/// that fails gets small.
pub(crate) type Word = [u8; 16];

#[derive(Clone, Copy, Debug)]
pub(crate) enum Grace {
    Zero,
    Rounds(u64),
    Endless,
}

impl Grace {
    /// When it ends, for the drain or shutdown of that number.
    pub(crate) fn ends(self, number: usize, now: u64) -> u64 {
        match self {
            Grace::Zero => now,
            Grace::Rounds(rounds) => grace_ends(number, rounds, now),
            Grace::Endless => NEVER,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    Spawn,
    SpawnWith,
    TrySpawn,
}

/// What a task that sleeps does when its token is cancelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OnCancel {
    SleepOn,
    End,
    /// It ends in its next millisecond.
    EndLater,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum End {
    Well,
    Error,
    Panic,
}

#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) before: Vec<Act>,
    pub(crate) sleep: Sleep,
    pub(crate) on_cancel: OnCancel,
    pub(crate) after: Vec<Act>,
    pub(crate) end: End,
}

/// What is done by the history, or by a task through its handle.
///
/// A member is named by any number: the one in that place of all that there were, counted round.
#[derive(Clone, Debug)]
pub(crate) enum Act {
    Put(Verb, Arc<Plan>),
    Member,
    Fail(usize),
    Cancel,
    CancelToken,
    Abort,
}

#[derive(Clone, Debug)]
pub(crate) enum Op {
    /// By the owner, unless that would be misuse.
    Act(Act),
    ByHandle(Act),
    Submit {
        plan: Arc<Plan>,
        by_handle: bool,
    },
    DropSubmit(usize),
    DropMember(usize),
    CancelParent,
    /// `wait`, or `wait_all`.
    Wait {
        all: bool,
    },
    DropWait,
    Drain(Grace),
    Shutdown(Grace),
    /// The future of a drain or shutdown.
    DropClosing(usize),
    DropGroup,
    Advance(u64),
}

#[derive(Clone, Debug)]
pub(crate) struct History {
    pub(crate) limit: usize,
    pub(crate) queue: usize,
    pub(crate) on_error: OnError,
    pub(crate) deadline: Deadline,
    /// The runtime ends after the ops, rather than the group by itself.
    pub(crate) runtime_ends: bool,
    pub(crate) ops: Vec<Op>,
}

impl History {
    /// The history that these words spell; any will do. The first one has the settings.
    pub(crate) fn spelt(words: &[Word]) -> History {
        let (settings, ops) = words.split_first().unwrap_or((&[0; 16], &[]));
        let mut settings = Bytes::of(settings);
        History {
            limit: [1, 2, 3, usize::MAX][settings.below(4)],
            queue: [0, 1, 3][settings.below(3)],
            on_error: [OnError::Continue, OnError::Cancel, OnError::Abort][settings.below(3)],
            deadline: settings.deadline(),
            runtime_ends: settings.below(8) == 7,
            // Each may take a millisecond, and all of them have to come before the first task wakes.
            ops: ops
                .iter()
                .take(100)
                .map(|word| op(&mut Bytes::of(word)))
                .collect(),
        }
    }
}

/// An op a line.
impl fmt::Display for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let History {
            limit,
            queue,
            on_error,
            deadline,
            runtime_ends,
            ops,
        } = self;
        writeln!(
            f,
            "limit {limit}, queue {queue}, {on_error:?}, deadline {deadline:?}, runtime ends: {runtime_ends}"
        )?;
        ops.iter().try_for_each(|op| writeln!(f, "{op:?}"))
    }
}

fn op(bytes: &mut Bytes<'_>) -> Op {
    match bytes.below(100) {
        0..=31 => Op::Act(Act::Put(verb(bytes), plan(bytes, 0))),
        32..=37 => Op::ByHandle(Act::Put(verb(bytes), plan(bytes, 0))),
        38..=51 => Op::Submit {
            by_handle: bytes.below(2) == 1,
            plan: plan(bytes, 0),
        },
        52..=56 => Op::DropSubmit(bytes.below(64)),
        57..=73 => Op::Advance(bytes.below(2) as u64 + 1),
        74..=76 => Op::Act(Act::Member),
        77..=78 => Op::ByHandle(Act::Member),
        79..=80 => Op::Act(Act::Fail(bytes.below(64))),
        81..=84 => Op::DropMember(bytes.below(64)),
        85 => Op::Act(Act::Cancel),
        86 => Op::ByHandle(Act::CancelToken),
        87 => Op::CancelParent,
        88 => Op::Act(Act::Abort),
        89..=91 => Op::Wait {
            all: bytes.below(2) == 1,
        },
        92 => Op::DropWait,
        93..=94 => Op::Drain(grace(bytes)),
        95..=96 => Op::Shutdown(grace(bytes)),
        97 => Op::DropClosing(bytes.below(64)),
        98 => Op::DropGroup,
        _ => Op::ByHandle(Act::Abort),
    }
}

fn verb(bytes: &mut Bytes<'_>) -> Verb {
    [Verb::Spawn, Verb::TrySpawn, Verb::SpawnWith][bytes.below(3)]
}

fn grace(bytes: &mut Bytes<'_>) -> Grace {
    match bytes.below(6) {
        0 => Grace::Zero,
        1 => Grace::Endless,
        rounds => Grace::Rounds(rounds as u64 - 2),
    }
}

fn plan(bytes: &mut Bytes<'_>, depth: usize) -> Arc<Plan> {
    let sleep = bytes.sleep();
    let end = match bytes.below(8) {
        0..=4 => End::Well,
        5..=6 => End::Error,
        _ => End::Panic,
    };
    let on_cancel =
        [OnCancel::SleepOn, OnCancel::End, OnCancel::EndLater][bytes.below(6).saturating_sub(3)];
    Arc::new(Plan {
        before: acts(bytes, depth),
        sleep,
        on_cancel,
        after: acts(bytes, depth),
        end,
    })
}

fn acts(bytes: &mut Bytes<'_>, depth: usize) -> Vec<Act> {
    if depth == 2 {
        return Vec::new();
    }
    let count = bytes.below(6).saturating_sub(3);
    (0..count)
        .map(|_| match bytes.below(24) {
            0..=15 => Act::Put(verb(bytes), plan(bytes, depth + 1)),
            16..=18 => Act::Member,
            19..=20 => Act::Fail(bytes.below(64)),
            21 => Act::Cancel,
            22 => Act::CancelToken,
            _ => Act::Abort,
        })
        .collect()
}
