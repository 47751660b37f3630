//! What a job is: its name, its place in life, its payload, and the row a store keeps of it.

use std::fmt;
use std::str::FromStr;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::time::Micros;

/// Names a job in its store. Later jobs have greater ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct JobId(pub i64);

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What a job carries, and which handler it is for.
///
/// # Examples
///
/// ```
/// use delayed_jobs::Payload;
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize)]
/// struct Email {
///     to: String,
/// }
///
/// impl Payload for Email {
///     const KIND: &'static str = "email";
/// }
/// ```
pub trait Payload: Serialize + DeserializeOwned + Send + 'static {
    /// The name in the store. It outlives the program: a new meaning wants a new name.
    const KIND: &'static str;

    /// The queue that its jobs go to, unless they are told otherwise.
    const QUEUE: &'static str = DEFAULT_QUEUE;
}

/// The queue of jobs that name none.
pub const DEFAULT_QUEUE: &str = "default";

/// Where a job is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum State {
    /// It waits for its time, for the first one or for a retry.
    Pending,
    /// A worker holds its lease.
    Running,
    /// It was done.
    Done,
    /// It failed for good, and waits for somebody to look at it.
    Dead,
    /// It was cancelled.
    Cancelled,
}

impl State {
    /// All of them, in the order of a job's life.
    pub const ALL: [State; 5] = [
        State::Pending,
        State::Running,
        State::Done,
        State::Dead,
        State::Cancelled,
    ];

    /// The word for it, in the store and in print.
    pub fn word(self) -> &'static str {
        match self {
            State::Pending => "pending",
            State::Running => "running",
            State::Done => "done",
            State::Dead => "dead",
            State::Cancelled => "cancelled",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

impl FromStr for State {
    type Err = String;

    fn from_str(word: &str) -> Result<State, String> {
        let found = State::ALL.into_iter().find(|state| state.word() == word);
        found.ok_or_else(|| {
            format!("no state `{word}`: it is pending, running, done, dead or cancelled")
        })
    }
}

/// Which of the due jobs of a queue go first.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Priority {
    /// Before all others.
    High,
    /// The usual.
    #[default]
    Normal,
    /// When nothing else is due.
    Low,
}

impl Priority {
    /// The number in the store; lower goes first.
    pub fn rank(self) -> i64 {
        self as i64
    }

    pub(crate) fn from_rank(rank: i64) -> Priority {
        match rank {
            0 => Priority::High,
            1 => Priority::Normal,
            _ => Priority::Low,
        }
    }
}

/// Everything that a store knows of one job.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Record {
    /// Its name.
    pub id: JobId,
    /// Which handler it is for.
    pub kind: String,
    /// The queue it is in.
    pub queue: String,
    /// The payload, as JSON.
    pub payload: String,
    /// Which of the due jobs go first.
    pub priority: Priority,
    /// When it is due; once it has started, when it was.
    pub run_at: Micros,
    /// Where it is in its life.
    pub state: State,
    /// Which try this is, or was the last; 0 before the first. Tries that a crash cut off do not count.
    pub attempt: u32,
    /// How often the worker that ran it was lost.
    pub crashes: u32,
    /// The key that no other unfinished job has.
    pub key: Option<String>,
    /// Who runs it.
    pub worker: Option<String>,
    /// Until when that is believed without a further sign of life.
    pub lease_until: Option<Micros>,
    /// How far it said it was, in percent.
    pub progress: Option<u8>,
    /// Why the last try failed.
    pub error: Option<String>,
    /// When it was enqueued.
    pub created_at: Micros,
    /// When the last try started.
    pub started_at: Option<Micros>,
    /// When it came to its end, whichever.
    pub finished_at: Option<Micros>,
}
