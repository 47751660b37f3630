//! The commands of the program.
//!
//! ```text
//! args    the arguments of the command line
//! demo    the demo: 500 jobs, a live line, a page
//! work    runs a worker with its page until a signal
//! look    ls, show, cancel, retry, delete, limit, pause, resume, schedules, enqueue
//! tasks   the handlers of the program itself
//! words   reads and writes times and durations
//! ```

mod args;
mod demo;
mod look;
mod tasks;
mod words;
mod work;

use std::error::Error;
use std::io::IsTerminal;

use clap::Parser;
use delayed_jobs::store::PostgresOptions;
use delayed_jobs::{Change, Queue, StoreError};
use tracing_subscriber::EnvFilter;

use args::{Args, Command};
pub(crate) use words::print_error;
use words::{printable, say};

pub(crate) async fn run() -> Result<(), Box<dyn Error>> {
    let Args {
        database,
        schema,
        log,
        command,
    } = Args::parse();
    // The demo is silent by default, since it prints a live line and has jobs that fail on purpose.
    let usual = match command {
        Command::Demo(_) => "off",
        _ => "info",
    };
    start_log(log, usual);
    if let Command::Migrate = command {
        return migrate(&database, schema.as_deref()).await;
    }
    let makes = matches!(
        command,
        Command::Demo(_) | Command::Worker(_) | Command::Enqueue(_)
    );
    let queue = match open(&database, schema.as_deref(), makes).await {
        Ok(queue) => queue,
        Err(error) => return Err(format!("{} does not open: {error}", described(&database)).into()),
    };
    match command {
        Command::Demo(demo) => demo::run(&queue, &described(&database), demo).await,
        Command::Worker(worker) => work::run(&queue, worker).await,
        Command::Enqueue(job) => look::enqueue(&queue, job).await,
        Command::Ls(filter) => look::list(&queue, filter).await,
        Command::Show { id } => look::show(&queue, id).await,
        Command::Cancel(which) => look::change(&queue, Change::Cancel, which).await,
        Command::Retry(which) => look::change(&queue, Change::Retry, which).await,
        Command::Delete(which) => look::change(&queue, Change::Delete, which).await,
        Command::Limit(limit) => look::limit(&queue, limit).await,
        Command::Limits => look::limits(&queue).await,
        Command::Schedules => look::schedules(&queue).await,
        Command::Schedule { act, name } => look::schedule(&queue, act, &name).await,
        Command::Pause { queue: name } => look::pause(&queue, &name).await,
        Command::Resume { queue: name } => look::resume(&queue, &name).await,
        Command::Migrate => Ok(()),
    }
}

/// Logs to standard error. `RUST_LOG` sets the level. If standard error is closed, the program continues: a message about
/// the failed write would fail too, and panic.
fn start_log(log: args::Log, usual: &str) {
    let filter = EnvFilter::try_from_default_env();
    let filter = filter.unwrap_or_else(|_| EnvFilter::new(usual));
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .log_internal_errors(false)
        .with_writer(std::io::stderr);
    match log {
        args::Log::Text => lines.with_ansi(std::io::stderr().is_terminal()).init(),
        args::Log::Json => lines.json().init(),
    }
}

async fn open(database: &str, schema: Option<&str>, makes: bool) -> Result<Queue, StoreError> {
    let Some(schema) = schema else {
        return match makes {
            true => Queue::open(database).await,
            false => Queue::open_existing(database).await,
        };
    };
    let options = PostgresOptions::new(database)?.schema(schema);
    let options = if makes { options } else { options.existing() };
    Ok(Queue::on(options.open().await?))
}

async fn migrate(database: &str, schema: Option<&str>) -> Result<(), Box<dyn Error>> {
    let is_url = ["postgres://", "postgresql://"]
        .iter()
        .any(|scheme| database.to_ascii_lowercase().starts_with(scheme));
    if !is_url && schema.is_some() {
        return Err("only a Postgres database has schemas".into());
    }
    if !is_url {
        Queue::open(database).await?;
        return Ok(say!("the tables are up to date")?);
    }
    let options = PostgresOptions::new(database)?;
    let options = match schema {
        Some(schema) => options.schema(schema),
        None => options,
    };
    match options.migrate().await? {
        (before, after) if before == after => say!("the tables already have version {after}")?,
        (before, after) => say!("the tables had version {before}, and have version {after}")?,
    }
    Ok(())
}

/// Describes a database without secrets: parts of its address that are not understood are left out.
fn described(database: &str) -> String {
    let (scheme, rest) = database.split_once(':').unwrap_or(("", database));
    match scheme.to_ascii_lowercase().as_str() {
        "postgres" | "postgresql" => match PostgresOptions::new(database) {
            Ok(options) if rest.starts_with("//") => options.to_string(),
            _ => "the Postgres database".to_owned(),
        },
        "sqlite" => {
            let path = rest.strip_prefix("//").unwrap_or(rest);
            printable(path.split_once('?').map_or(path, |(path, _)| path))
        }
        "" if !rest.contains('=') => printable(rest),
        _ => "the database".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_is_described_without_its_secrets() {
        for (database, words) in [
            ("postgres://ada:p@db/jobs", "postgres://db:5432/jobs"),
            (
                "postgres://ada:p@db:1/jobs?password=p",
                "postgres://db:1/jobs",
            ),
            ("postgres:/ada:p@db/jobs", "the Postgres database"),
            ("jobs.db", "jobs.db"),
            ("sqlite://jobs.db?key=p", "jobs.db"),
            ("host=db password=p", "the database"),
            ("mysql://ada:p@db/jobs", "the database"),
        ] {
            assert_eq!(described(database), words);
        }
    }

    #[test]
    fn the_command_line_is_sound() {
        use clap::CommandFactory;
        Args::command().debug_assert();
    }
}
