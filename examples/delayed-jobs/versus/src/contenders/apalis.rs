//! apalis on both stores. Tuned, it asks often and takes many jobs at a time.

use std::any::type_name;

use ::apalis::prelude::*;
use apalis_postgres::PostgresStorage;
use apalis_sqlite::{SqlitePool, SqliteStorage};
use sqlx::PgPool;

use super::{LOT, Outcome, POLL, Settings};
use crate::Task;

pub async fn on_sqlite(task: Task, settings: Settings) -> Outcome {
    let pool = SqlitePool::connect(&format!("sqlite:{}?mode=rwc", task.address)).await?;
    SqliteStorage::setup(&pool).await?;
    let mut backend = SqliteStorage::new(&pool);
    for (number, at) in (0_u32..).zip(task.times.iter()) {
        backend
            .push_task(TaskBuilder::new(number).run_at_time(*at).build())
            .await?;
    }
    let starts = task.starts;
    starts.begin();
    let run = move |number: u32| {
        starts.note(number);
        async { Ok::<(), BoxDynError>(()) }
    };
    let builder = WorkerBuilder::new("worker");
    match settings {
        Settings::Defaults => builder.backend(backend).build(run).run().await?,
        Settings::Tuned => {
            let config = apalis_sqlite::Config::default().queue(type_name::<u32>());
            let backend = SqliteStorage::new(&pool)
                .with_config(config.batch_size(LOT))
                .poll_with_interval(POLL);
            let builder = builder.backend(backend).concurrency(task.at_once);
            builder.build(run).run().await?;
        }
    }
    Ok(())
}

pub async fn on_postgres(task: Task, settings: Settings) -> Outcome {
    let pool = PgPool::connect(&task.address).await?;
    PostgresStorage::setup(&pool).await?;
    let mut backend = PostgresStorage::new(&pool);
    for (number, at) in (0_u32..).zip(task.times.iter()) {
        backend
            .push_task(TaskBuilder::new(number).run_at_time(*at).build())
            .await?;
    }
    let starts = task.starts;
    starts.begin();
    let run = move |number: u32| {
        starts.note(number);
        async { Ok::<(), BoxDynError>(()) }
    };
    let builder = WorkerBuilder::new("worker");
    match settings {
        Settings::Defaults => builder.backend(backend).build(run).run().await?,
        Settings::Tuned => {
            let config = apalis_postgres::Config::default().queue(type_name::<u32>());
            let backend = PostgresStorage::new(&pool)
                .with_config(config.batch_size(LOT))
                .poll_with_interval(POLL);
            let builder = builder.backend(backend).concurrency(task.at_once);
            builder.build(run).run().await?;
        }
    }
    Ok(())
}
