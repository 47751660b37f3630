//! A job: its id, its state, its payload, and the row that a store keeps of it.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::time::Micros;

/// The id of a job in its store. Later jobs have greater ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct JobId(pub i64);

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The place of a job in a list: the next page begins there, also if the job was moved or deleted since. It is written as a
/// text without spaces.
///
/// # Examples
///
/// ```
/// # use delayed_jobs::{Filter, Payload, State, testkit};
/// # use serde::{Deserialize, Serialize};
/// # #[derive(Serialize, Deserialize)]
/// # struct Email(u32);
/// # impl Payload for Email { const KIND: &'static str = "email"; }
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let queue = testkit::queue();
/// # queue.enqueue_all((0..250).map(|n| queue.enqueue(Email(n)))).await?;
/// let mut pending = Filter { state: Some(State::Pending), limit: 100, ..Filter::default() };
/// # let mut listed = 0;
/// loop {
///     let page = queue.list(pending.clone()).await?;
///     let Some(last) = page.last() else { break };
///     pending.after = Some(last.cursor());
/// #   listed += page.len();
/// }
/// # assert_eq!(listed, 250);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Cursor {
    /// Pending jobs are listed by this time.
    pub(crate) run_at: Micros,
    pub(crate) id: JobId,
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.run_at.0, self.id)
    }
}

impl FromStr for Cursor {
    type Err = &'static str;

    /// Reads what [`Display`](fmt::Display) writes.
    fn from_str(text: &str) -> Result<Cursor, &'static str> {
        let read = || {
            let (run_at, id) = text.split_once('.')?;
            Some(Cursor {
                run_at: Micros(run_at.parse().ok()?),
                id: JobId(id.parse().ok()?),
            })
        };
        read().ok_or("no place in a list of jobs")
    }
}

impl From<Cursor> for String {
    fn from(cursor: Cursor) -> String {
        cursor.to_string()
    }
}

impl TryFrom<String> for Cursor {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Cursor, &'static str> {
        text.parse()
    }
}

/// The data of a job, which also selects its handler.
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
    /// The name in the store. It outlives the program: a new meaning needs a new name.
    const KIND: &'static str;

    /// The queue of its jobs, unless [`Enqueue::queue`](crate::Enqueue::queue) sets another.
    const QUEUE: &'static str = DEFAULT_QUEUE;
}

/// The queue of jobs that do not name one.
pub const DEFAULT_QUEUE: &str = "default";

/// The state of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum State {
    /// It waits for its time, before its first attempt or before a retry.
    Pending,
    /// A worker holds its lease.
    Running,
    /// It has succeeded.
    Done,
    /// It failed for good, and is kept for inspection.
    Dead,
    /// It was cancelled.
    Cancelled,
}

impl State {
    /// All states, in the order of a job's life.
    pub const ALL: [State; 5] = [
        State::Pending,
        State::Running,
        State::Done,
        State::Dead,
        State::Cancelled,
    ];

    /// Returns the name of the state, as it is stored and printed.
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

/// The priority of a job among the due jobs of its queue.
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Priority {
    /// Starts before all others.
    High,
    /// The default.
    #[default]
    Normal,
    /// Starts when no other job is due.
    Low,
}

impl Priority {
    /// Returns the number that is stored. Lower numbers start first.
    pub fn rank(self) -> i64 {
        self as i64
    }

    #[cfg(any(feature = "sqlite", feature = "postgres"))]
    pub(crate) fn from_rank(rank: i64) -> Priority {
        match rank {
            0 => Priority::High,
            1 => Priority::Normal,
            _ => Priority::Low,
        }
    }
}

/// The error of one attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TryError {
    /// The number of the attempt.
    pub attempt: u32,
    /// When it ended.
    pub at: Micros,
    /// The text of the error: its first 1,000 characters.
    pub error: String,
}

/// A job, as a store returns it.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Record {
    /// Its id.
    pub id: JobId,
    /// The kind, which selects the handler.
    pub kind: String,
    /// The queue it is in.
    pub queue: String,
    /// The payload, as JSON.
    pub payload: String,
    /// Its priority among due jobs.
    pub priority: Priority,
    /// When it is due or, once it has started, was due.
    pub run_at: Micros,
    /// Its state.
    pub state: State,
    /// The number of the current or last attempt; 0 before the first. Attempts that a crash cut off do not count.
    pub attempt: u32,
    /// The number of times that the worker that ran it was lost.
    pub crashes: u32,
    /// The maximum number of attempts, if it was enqueued with one.
    pub attempts: Option<u32>,
    /// The timeout of a run, if it was enqueued with one.
    pub timeout: Option<Duration>,
    /// The key by which the limits per key count it.
    pub limit_key: Option<String>,
    /// The key that it was enqueued with, also if it no longer has it.
    pub key: Option<String>,
    /// The worker that runs it.
    pub worker: Option<String>,
    /// When the lease of that worker expires, unless it is renewed.
    pub lease_until: Option<Micros>,
    /// The progress that it reported, in percent.
    pub progress: Option<u8>,
    /// The error of the last attempt that failed.
    pub error: Option<String>,
    /// The errors of the last twenty attempts that failed or were cut off, oldest first.
    pub errors: Vec<TryError>,
    /// The output, as JSON.
    pub output: Option<String>,
    /// The jobs that it comes after. Until they have ended it is due at [`Micros::NEVER`].
    pub after: Vec<JobId>,
    /// When it was enqueued.
    pub created_at: Micros,
    /// When the last attempt started.
    pub started_at: Option<Micros>,
    /// When it was done, died or was cancelled.
    pub finished_at: Option<Micros>,
}

impl Record {
    /// Returns the place of the job in a list, after which the next page begins.
    pub fn cursor(&self) -> Cursor {
        Cursor {
            run_at: self.run_at,
            id: self.id,
        }
    }
}
