//! The times of histories of tasks, and the bytes that spell them.
//!
//! Times are whole milliseconds from the start of the runtime, arranged so that the outcome is one and only one.
//! A round is 2,048 ms long. The history acts in its first milliseconds; each task that sleeps wakes in a
//! millisecond of its own; a deadline and the end of each grace have one where nothing else happens.

const ROUND: u64 = 2048;
/// Where in a round the first task wakes, the second a millisecond later, and so on.
const WAKES: u64 = 256;
const MOST_TASKS: usize = 1600;
const DEADLINE: u64 = 1900;
/// Where the grace of the first drain or shutdown ends, that of the second a millisecond later, and so on.
const GRACES: u64 = 1901;
/// The time that is never reached.
pub(crate) const NEVER: u64 = u64::MAX;

/// When a task that begins to sleep now for so many rounds wakes.
pub(crate) fn wakes(task: usize, rounds: u64, now: u64) -> u64 {
    assert!(task < MOST_TASKS, "{task} tasks in one history");
    let at = acts(rounds, now) + WAKES + task as u64;
    if at > now { at } else { at + ROUND }
}

/// When the history acts next.
pub(crate) fn acts(rounds: u64, now: u64) -> u64 {
    (now / ROUND + rounds) * ROUND
}

/// When a grace of so many rounds ends, of the drain or shutdown of that number.
pub(crate) fn grace_ends(number: usize, rounds: u64, now: u64) -> u64 {
    acts(rounds, now) + GRACES + number as u64
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Deadline {
    Never,
    /// As it is set.
    Now,
    Rounds(u64),
}

impl Deadline {
    pub(crate) fn after(self, now: u64) -> u64 {
        match self {
            Deadline::Never => NEVER,
            Deadline::Now => now,
            Deadline::Rounds(rounds) => acts(rounds, now) + DEADLINE,
        }
    }
}

/// How long a task sleeps.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Sleep {
    Not,
    Rounds(u64),
    Forever,
}

/// The bytes that decide; zeros when they are used up.
pub(crate) struct Bytes<'a>(std::slice::Iter<'a, u8>);

impl<'a> Bytes<'a> {
    pub(crate) fn of(bytes: &'a [u8]) -> Bytes<'a> {
        Bytes(bytes.iter())
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        usize::from(self.0.next().copied().unwrap_or(0)) % bound
    }

    pub(crate) fn sleep(&mut self) -> Sleep {
        match self.below(8) {
            0..=2 => Sleep::Not,
            3..=4 => Sleep::Rounds(0),
            5..=6 => Sleep::Rounds(1),
            _ => Sleep::Forever,
        }
    }

    pub(crate) fn deadline(&mut self) -> Deadline {
        match self.below(12) {
            0..=7 => Deadline::Never,
            8 => Deadline::Now,
            rounds => Deadline::Rounds(rounds as u64 - 9),
        }
    }
}
