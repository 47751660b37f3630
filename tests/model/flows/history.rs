//! What a combinator is given and what is done to it, spelt by words of bytes, and printed so that it can be read.

use std::fmt;

use crate::rounds::{Bytes, Deadline, Sleep};

/// The settings, a task, or an op. Zeros are the simplest one, and words can be left out.
pub(crate) type Word = [u8; 4];

const MOST_TASKS: usize = 40;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    All,
    TryAll,
    Race,
    Take(usize),
    TryTake(usize),
    Last(usize),
    Map,
    ForEach,
    Stream { unordered: bool },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Value,
    Error,
    Panic,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    /// The token of the whole, as it starts.
    pub(crate) cancels: bool,
    pub(crate) sleep: Sleep,
    pub(crate) end: End,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Op {
    /// Polls it until it is ready, at most for so many rounds. Of a stream that is one `next`, which is dropped
    /// if it is not ready by then.
    Poll(u64),
    /// Time passes, and nothing polls it.
    Leave(u64),
    Cancel,
    Drop,
}

#[derive(Clone, Debug)]
pub(crate) struct History {
    pub(crate) call: Call,
    pub(crate) limit: Option<usize>,
    /// Whether the input knows its length.
    pub(crate) sized: bool,
    pub(crate) deadline: Deadline,
    pub(crate) tasks: Vec<Plan>,
    pub(crate) ops: Vec<Op>,
}

impl History {
    /// What these words spell; any will do. The first one has the settings.
    pub(crate) fn spelt(words: &[Word]) -> History {
        let (settings, words) = words.split_first().unwrap_or((&[0; 4], &[]));
        let mut settings = Bytes::of(settings);
        let (mut tasks, mut ops) = (Vec::new(), Vec::new());
        for word in words {
            let mut bytes = Bytes::of(word);
            match bytes.below(8) {
                0..=4 if tasks.len() < MOST_TASKS => tasks.push(task(&mut bytes)),
                _ => ops.push(op(&mut bytes)),
            }
        }
        let call = call(&mut settings);
        let (limit, sized) = [
            (None, true),
            (Some(1), true),
            (Some(2), true),
            (Some(3), true),
            (None, false),
            (Some(1), false),
            (Some(2), false),
            (Some(3), false),
        ][settings.below(8)];
        // What is taken at once without a limit is the machine's own.
        let by_cpus = matches!(call, Call::Map | Call::ForEach | Call::Stream { .. });
        History {
            call,
            limit: if by_cpus { limit.or(Some(4)) } else { limit },
            sized,
            deadline: settings.deadline(),
            tasks,
            ops,
        }
    }
}

/// A task or an op a line.
impl fmt::Display for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let History {
            call,
            limit,
            sized,
            deadline,
            tasks,
            ops,
        } = self;
        writeln!(
            f,
            "{call:?}, limit {limit:?}, sized: {sized}, deadline {deadline:?}"
        )?;
        for (number, task) in tasks.iter().enumerate() {
            writeln!(f, "task {number}: {task:?}")?;
        }
        ops.iter().try_for_each(|op| writeln!(f, "{op:?}"))
    }
}

fn call(bytes: &mut Bytes<'_>) -> Call {
    match bytes.below(20) {
        0..=1 => Call::All,
        2..=3 => Call::TryAll,
        4..=5 => Call::Race,
        6..=8 => Call::Take(bytes.below(4)),
        9..=10 => Call::TryTake(bytes.below(4)),
        11..=12 => Call::Last(bytes.below(4)),
        13 => Call::Map,
        14 => Call::ForEach,
        other => Call::Stream {
            unordered: other > 17,
        },
    }
}

fn task(bytes: &mut Bytes<'_>) -> Plan {
    let sleep = bytes.sleep();
    let end = match bytes.below(8) {
        0..=4 => End::Value,
        5..=6 => End::Error,
        _ => End::Panic,
    };
    Plan {
        cancels: bytes.below(16) == 15,
        sleep,
        end,
    }
}

fn op(bytes: &mut Bytes<'_>) -> Op {
    match bytes.below(12) {
        0..=6 => Op::Poll(bytes.below(3) as u64 + 1),
        7..=8 => Op::Leave(bytes.below(2) as u64 + 1),
        9..=10 => Op::Cancel,
        _ => Op::Drop,
    }
}
