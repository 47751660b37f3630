//! The commands of the program.
//!
//! ```text
//! args    the words of the command line
//! demo    the main job: 500 jobs, a live line, a page
//! work    a worker until ctrl-c, with its page
//! look    ls, show, cancel, retry, pause, resume, enqueue
//! tasks   the jobs that the program itself can do
//! words   times and durations, to read and to write
//! ```

mod args;
mod demo;
mod look;
mod tasks;
mod words;
mod work;

use std::error::Error;

use clap::Parser;
use delayed_jobs::Queue;

use args::{Args, Command};

pub(crate) async fn run() -> Result<(), Box<dyn Error>> {
    let Args { database, command } = Args::parse();
    let queue = match Queue::open(&database).await {
        Ok(queue) => queue,
        Err(error) => {
            return Err(format!("{} does not open: {error}", hide_password(&database)).into());
        }
    };
    match command {
        Command::Demo(demo) => demo::run(&queue, &hide_password(&database), demo).await,
        Command::Worker(worker) => work::run(&queue, worker).await,
        Command::Enqueue(job) => look::enqueue(&queue, job).await,
        Command::Ls(filter) => look::list(&queue, filter).await,
        Command::Show { id } => look::show(&queue, id).await,
        Command::Cancel { id } => look::cancel(&queue, id).await,
        Command::Retry { id } => look::retry(&queue, id).await,
        Command::Pause { queue: name } => look::pause(&queue, &name).await,
        Command::Resume { queue: name } => look::resume(&queue, &name).await,
    }
}

/// `postgres://user:secret@host/name` without the secret.
fn hide_password(database: &str) -> String {
    let parts = database.split_once("://").and_then(|(scheme, rest)| {
        let (login, place) = rest.rsplit_once('@')?;
        let (user, _) = login.split_once(':')?;
        Some(format!("{scheme}://{user}:***@{place}"))
    });
    parts.unwrap_or_else(|| database.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_not_shown() {
        assert_eq!(
            hide_password("postgres://ada:p@ss@db/jobs"),
            "postgres://ada:***@db/jobs"
        );
        assert_eq!(
            hide_password("postgres://ada@db/jobs"),
            "postgres://ada@db/jobs"
        );
        assert_eq!(hide_password("jobs.db"), "jobs.db");
    }

    #[test]
    fn the_command_line_is_sound() {
        use clap::CommandFactory;
        Args::command().debug_assert();
    }
}
