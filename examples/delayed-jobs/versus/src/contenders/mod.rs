//! Ways to work the same jobs. Each gets a database of its own, enqueues, and then works until it is stopped.

mod apalis;
mod graphile;
mod ours;

use std::pin::Pin;
use std::time::Duration;

use super::Task;

pub type Outcome = std::result::Result<(), Box<dyn std::error::Error + Send + Sync>>;
pub type Running = Pin<Box<dyn Future<Output = Outcome>>>;

/// What is set for those that are tuned: how often they ask, and how many jobs at a time.
const POLL: Duration = Duration::from_millis(50);
const LOT: usize = 256;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Store {
    Sqlite,
    Postgres,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settings {
    Defaults,
    Tuned,
}

pub struct Contender {
    pub name: &'static str,
    pub store: Store,
    pub run: fn(Task) -> Running,
}

use Settings::{Defaults, Tuned};
use Store::{Postgres, Sqlite};

pub static ALL: [Contender; 10] = [
    Contender {
        name: "delayed-jobs, SQLite",
        store: Sqlite,
        run: |task| Box::pin(ours::work(task)),
    },
    Contender {
        name: "its store, polled each second",
        store: Sqlite,
        run: |task| Box::pin(ours::poll(task)),
    },
    Contender {
        name: "apalis-sqlite 1.0.0, defaults",
        store: Sqlite,
        run: |task| Box::pin(apalis::on_sqlite(task, Defaults)),
    },
    Contender {
        name: "apalis-sqlite 1.0.0, tuned",
        store: Sqlite,
        run: |task| Box::pin(apalis::on_sqlite(task, Tuned)),
    },
    Contender {
        name: "delayed-jobs, Postgres",
        store: Postgres,
        run: |task| Box::pin(ours::work(task)),
    },
    Contender {
        name: "its store, polled each second",
        store: Postgres,
        run: |task| Box::pin(ours::poll(task)),
    },
    Contender {
        name: "apalis-postgres 1.0.0, defaults",
        store: Postgres,
        run: |task| Box::pin(apalis::on_postgres(task, Defaults)),
    },
    Contender {
        name: "apalis-postgres 1.0.0, tuned",
        store: Postgres,
        run: |task| Box::pin(apalis::on_postgres(task, Tuned)),
    },
    Contender {
        name: "graphile_worker 0.14.1, defaults",
        store: Postgres,
        run: |task| Box::pin(graphile::work(task, Defaults)),
    },
    Contender {
        name: "graphile_worker 0.14.1, tuned",
        store: Postgres,
        run: |task| Box::pin(graphile::work(task, Tuned)),
    },
];
