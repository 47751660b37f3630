//! The words of the command line.

use std::net::SocketAddr;
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};
use delayed_jobs::{Micros, OnDuplicate, Priority, State, UniqueWhile};

use super::words::{duration, lease, period, rate, schema};

/// Runs and manages delayed jobs that survive a crash.
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
    #[arg(long, global = true, value_parser = schema)]
    pub(super) schema: Option<String>,
    /// The format of events on standard error; RUST_LOG filters them
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
    /// Enqueues 500 jobs over 20 seconds and runs them; after a kill it continues them
    Demo(Demo),
    /// Runs jobs of the kinds `print` and `demo` until ctrl-c or SIGTERM
    Worker(Worker),
    /// Enqueues a job
    Enqueue(Enqueue),
    /// Creates the tables, or brings them up to date
    Migrate,
    /// Lists jobs
    Ls(Ls),
    /// Shows a job, with its payload, its output and its last errors
    Show {
        /// The id of the job
        id: i64,
    },
    /// Cancels jobs, also running ones
    Cancel(Which),
    /// Makes dead and cancelled jobs due now; pending ones too, if given by id or by `--state pending`
    Retry(Which),
    /// Deletes jobs, except running ones
    Delete(Which),
    /// Sets the limits of a queue over all workers, also for workers that run
    Limit(Limit),
    /// Lists the limits of queues
    Limits,
    /// Lists the schedules that workers have declared
    Schedules,
    /// Pauses or resumes a schedule, or enqueues a job of it that is due now
    Schedule {
        /// The action
        #[arg(value_enum)]
        act: Act,
        /// The schedule
        name: String,
    },
    /// Pauses a queue; running jobs continue
    Pause {
        /// The queue
        queue: String,
    },
    /// Resumes a paused queue
    Resume {
        /// The queue
        queue: String,
    },
}

#[derive(Debug, clap::Args)]
pub(super) struct Demo {
    /// The number of jobs, at most 1000
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(super) jobs: u32,
    /// The time over which they are due
    #[arg(long, default_value = "20s", value_parser = duration)]
    pub(super) over: Duration,
    /// The address of the page; by default 127.0.0.1:8080, or a free port if that is in use
    #[arg(long)]
    pub(super) page: Option<SocketAddr>,
    /// Serves the page after all jobs have ended, until ctrl-c
    #[arg(long)]
    pub(super) stay: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct Worker {
    /// The maximum number of jobs that run at a time
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(super) concurrency: u32,
    /// Serves the page at this address
    #[arg(long)]
    pub(super) page: Option<SocketAddr>,
    /// The token for the page; needed if other machines can reach it
    #[arg(long, env = "DELAYED_JOBS_TOKEN", hide_env_values = true)]
    pub(super) page_token: Option<String>,
    /// A host name of the page, in addition to those of this machine; may be repeated
    #[arg(long)]
    pub(super) page_host: Vec<String>,
    /// The time for which a worker keeps a job without a heartbeat
    #[arg(long, default_value = "30s", value_parser = lease)]
    pub(super) lease: Duration,
    /// The time for which running jobs may continue after the first signal; a second signal ends the program at once
    #[arg(long, default_value = "15s", value_parser = duration)]
    pub(super) grace: Duration,
}

#[derive(Debug, clap::Args)]
pub(super) struct Enqueue {
    /// The kind, which selects the handler; `print` and `demo` are those of `delayed-jobs worker`
    pub(super) kind: String,
    /// The payload, as JSON; any other text is taken as a string. Whole numbers of more than 64 bits lose digits
    #[arg(default_value = "null", allow_negative_numbers = true)]
    pub(super) payload: String,
    /// Due after this long: 500ms, 3s, 10m, 2h, 3d
    #[arg(long = "in", value_parser = duration, conflicts_with = "at")]
    pub(super) after: Option<Duration>,
    /// Due at this time: 2026-11-25 03:01:12Z
    #[arg(long)]
    pub(super) at: Option<Micros>,
    /// Waits until these jobs are done: 7,8
    #[arg(long, value_delimiter = ',')]
    pub(super) after_done: Vec<i64>,
    /// The key by which the limits per key count the job
    #[arg(long)]
    pub(super) limit_key: Option<String>,
    /// A unique key: no other job may have it
    #[arg(long)]
    pub(super) key: Option<String>,
    /// What happens if another job has the key
    #[arg(long, value_enum, default_value_t = OnDuplicate::Reject, requires = "key")]
    pub(super) on_duplicate: OnDuplicate,
    /// The key is unique per period of this length
    #[arg(long, value_parser = period, requires = "key")]
    pub(super) per: Option<Duration>,
    /// The maximum time by which replacements may postpone the job
    #[arg(long, value_parser = duration, requires = "key")]
    pub(super) max_wait: Option<Duration>,
    /// The states in which a job has its key
    #[arg(long, value_enum, default_value_t = UniqueWhile::Unfinished, requires = "key")]
    pub(super) within: UniqueWhile,
    /// The maximum number of attempts, instead of the handler's
    #[arg(long)]
    pub(super) attempts: Option<u32>,
    /// The timeout of a run, instead of the handler's
    #[arg(long, value_parser = duration)]
    pub(super) timeout: Option<Duration>,
    /// The priority among due jobs
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
    /// The maximum number of jobs of the queue that run at a time
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) at_once: Option<u32>,
    /// The maximum number of jobs of the queue that start per period: 100/1m
    #[arg(long, value_parser = rate)]
    pub(super) rate: Option<(u32, Duration)>,
    /// The maximum number of jobs of each limit key that run at a time
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) key_at_once: Option<u32>,
    /// The maximum number of jobs of each limit key that start per period
    #[arg(long, value_parser = rate)]
    pub(super) key_rate: Option<(u32, Duration)>,
    /// The maximum number of jobs of the queue that each worker runs at a time, instead of its own
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) worker_at_once: Option<u32>,
    /// Removes the limits
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

/// The names of what is in [`Those`].
const THOSE: [&str; 5] = ["state", "queue", "kind", "key", "ended"];

/// A filter: jobs that have all of these.
#[derive(Debug, clap::Args)]
pub(super) struct Those {
    /// Only jobs in this state: pending, running, done, dead, cancelled
    #[arg(long)]
    pub(super) state: Option<State>,
    /// Only jobs in this queue
    #[arg(long)]
    pub(super) queue: Option<String>,
    /// Only jobs of this kind
    #[arg(long)]
    pub(super) kind: Option<String>,
    /// Only jobs with this key
    #[arg(long)]
    pub(super) key: Option<String>,
    /// Only jobs that ended longer ago than this, as did the period of those that are unique per period: 30d
    #[arg(long, value_parser = duration)]
    pub(super) ended: Option<Duration>,
}

/// Jobs by their ids, or by a filter.
#[derive(Debug, clap::Args)]
pub(super) struct Which {
    /// The ids of the jobs
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
    /// Only jobs after this one, for the next page
    #[arg(long)]
    pub(super) after: Option<i64>,
}
