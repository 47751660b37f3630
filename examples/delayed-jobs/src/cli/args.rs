//! The words of the command line.

use std::net::SocketAddr;
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};
use delayed_jobs::{Micros, State};

use super::words::{duration, lease, rate};

/// Delayed jobs that survive a crash.
#[derive(Debug, Parser)]
#[command(version, arg_required_else_help = true)]
pub(super) struct Args {
    /// A SQLite file, or postgres://user@host/name
    #[arg(
        long,
        global = true,
        env = "DATABASE_URL",
        default_value = "delayed-jobs.db",
        hide_env_values = true
    )]
    pub(super) database: String,
    /// The schema of the tables, on Postgres
    #[arg(long, global = true)]
    pub(super) schema: Option<String>,
    /// How events are written to standard error; RUST_LOG says which
    #[arg(long, global = true, value_enum, default_value_t = Log::Text)]
    pub(super) log: Log,
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum Log {
    Text,
    Json,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Enqueues 500 jobs over 20 seconds and works them; continues them if it was killed
    Demo(Demo),
    /// Works jobs of the kinds `print` and `demo` until ctrl-c or SIGTERM
    Worker(Worker),
    /// Enqueues a job
    Enqueue(Enqueue),
    /// Makes the tables, or brings them up to date
    Migrate,
    /// Lists jobs
    Ls(Ls),
    /// Shows all that is known of a job
    Show {
        /// The job
        id: i64,
    },
    /// Cancels jobs, also running ones
    Cancel(Which),
    /// Makes dead and cancelled jobs due now; pending ones if they are named, or `--state pending` is
    Retry(Which),
    /// Deletes jobs that do not run
    Delete(Which),
    /// Limits the jobs of a queue over all workers, also those that run
    Limit(Limit),
    /// Lists the limits of queues
    Limits,
    /// Lists the schedules that workers have declared
    Schedules,
    /// Pauses or resumes a schedule, or makes a job of it that is due now
    Schedule {
        /// What is done
        #[arg(value_enum)]
        act: Act,
        /// The schedule
        name: String,
    },
    /// Lets the jobs of a queue wait
    Pause {
        /// The queue
        queue: String,
    },
    /// Lets the jobs of a queue go again
    Resume {
        /// The queue
        queue: String,
    },
}

#[derive(Debug, clap::Args)]
pub(super) struct Demo {
    /// How many jobs, 1000 at most
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(super) jobs: u32,
    /// In how much time they are due
    #[arg(long, default_value = "20s", value_parser = duration)]
    pub(super) over: Duration,
    /// Where the page is served; 127.0.0.1:8080, or a free port if that is taken
    #[arg(long)]
    pub(super) page: Option<SocketAddr>,
    /// Keeps serving the page when all jobs have ended, until ctrl-c
    #[arg(long)]
    pub(super) stay: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct Worker {
    /// How many jobs run at once
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(super) concurrency: u32,
    /// Serves the page here
    #[arg(long)]
    pub(super) page: Option<SocketAddr>,
    /// What a browser has to say for the page; needed where others than this machine can reach it
    #[arg(long, env = "DELAYED_JOBS_TOKEN", hide_env_values = true)]
    pub(super) page_token: Option<String>,
    /// A name under which the page is reached, beside that of this machine; more than once for more
    #[arg(long)]
    pub(super) page_host: Vec<String>,
    /// How long a job is left to a worker that gives no sign of life
    #[arg(long, default_value = "30s", value_parser = lease)]
    pub(super) lease: Duration,
    /// How long running jobs may go on after the first signal; the second ends at once
    #[arg(long, default_value = "15s", value_parser = duration)]
    pub(super) grace: Duration,
}

#[derive(Debug, clap::Args)]
pub(super) struct Enqueue {
    /// Which handler it is for: `print` for this program's own worker
    pub(super) kind: String,
    /// The payload, as JSON; what is no JSON is taken as a string
    #[arg(default_value = "null")]
    pub(super) payload: String,
    /// Due after this long: 500ms, 3s, 10m, 2h, 3d
    #[arg(long = "in", value_parser = duration, conflicts_with = "at")]
    pub(super) after: Option<Duration>,
    /// Due at this time: 2026-11-25 03:01:12Z
    #[arg(long)]
    pub(super) at: Option<Micros>,
    /// It waits until these jobs are done: 7,8
    #[arg(long, value_delimiter = ',')]
    pub(super) after_done: Vec<i64>,
    /// What the limits for keys are counted by
    #[arg(long)]
    pub(super) limit_key: Option<String>,
    /// No other unfinished job may have this key
    #[arg(long)]
    pub(super) key: Option<String>,
    /// What happens if one has it
    #[arg(long, value_enum, default_value_t = OnDuplicate::Reject, requires = "key")]
    pub(super) on_duplicate: OnDuplicate,
    /// Another may have the key in another period of this length
    #[arg(long, value_parser = duration, requires = "key")]
    pub(super) per: Option<Duration>,
    /// How long replacements may put the job off, from the first one on
    #[arg(long, value_parser = duration, requires = "key")]
    pub(super) max_wait: Option<Duration>,
    /// How long the key is held
    #[arg(long, value_enum, default_value_t = Within::Unfinished, requires = "key")]
    pub(super) within: Within,
    /// The maximum number of attempts, instead of the handler's
    #[arg(long)]
    pub(super) attempts: Option<u32>,
    /// How long a run may take, instead of the handler's limit
    #[arg(long, value_parser = duration)]
    pub(super) timeout: Option<Duration>,
    /// Which of the due jobs go first
    #[arg(long, value_enum, default_value_t = Priority::Normal)]
    pub(super) priority: Priority,
    /// The queue
    #[arg(long, default_value = delayed_jobs::DEFAULT_QUEUE)]
    pub(super) queue: String,
}

#[derive(Debug, clap::Args)]
pub(super) struct Limit {
    /// The queue
    pub(super) queue: String,
    /// How many of its jobs run at a time
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) at_once: Option<u32>,
    /// How many of its jobs start in a period: 100/1m
    #[arg(long, value_parser = rate)]
    pub(super) rate: Option<(u32, Duration)>,
    /// How many jobs of each limit key run at a time
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) key_at_once: Option<u32>,
    /// How many jobs of each limit key start in a period
    #[arg(long, value_parser = rate)]
    pub(super) key_rate: Option<(u32, Duration)>,
    /// How many of its jobs each worker runs at a time, whatever it was started with
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) worker_at_once: Option<u32>,
    /// Takes the limits away
    #[arg(long, conflicts_with_all = LIMITS, required_unless_present_any = LIMITS)]
    pub(super) none: bool,
}

const LIMITS: [&str; 5] = [
    "at_once",
    "rate",
    "key_at_once",
    "key_rate",
    "worker_at_once",
];

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum Act {
    Pause,
    Resume,
    Run,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum OnDuplicate {
    Reject,
    Keep,
    Replace,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum Within {
    Pending,
    Unfinished,
    Succeeded,
    Kept,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum Priority {
    High,
    Normal,
    Low,
}

/// The names of what is in [`Those`].
const THOSE: [&str; 5] = ["state", "queue", "kind", "key", "ended"];

/// Jobs that have all of these.
#[derive(Debug, clap::Args)]
pub(super) struct Those {
    /// Those in this state: pending, running, done, dead, cancelled
    #[arg(long)]
    pub(super) state: Option<State>,
    /// Those in this queue
    #[arg(long)]
    pub(super) queue: Option<String>,
    /// Those of this kind
    #[arg(long)]
    pub(super) kind: Option<String>,
    /// Those with this key
    #[arg(long)]
    pub(super) key: Option<String>,
    /// Those that ended longer ago than this: 30d
    #[arg(long, value_parser = duration)]
    pub(super) ended: Option<Duration>,
}

/// Jobs by their ids, or by what they are.
#[derive(Debug, clap::Args)]
pub(super) struct Which {
    /// The jobs
    #[arg(required_unless_present_any = THOSE, conflicts_with_all = THOSE)]
    pub(super) ids: Vec<i64>,
    #[command(flatten)]
    pub(super) those: Those,
}

#[derive(Debug, clap::Args)]
pub(super) struct Ls {
    #[command(flatten)]
    pub(super) those: Those,
    /// The maximum number of jobs
    #[arg(long, default_value_t = 20)]
    pub(super) limit: usize,
    /// Those that come after this one: the next page
    #[arg(long)]
    pub(super) after: Option<i64>,
}
