//! Enqueueing a job, and looking after them.

use std::error::Error;

use delayed_jobs::{Enqueued, Filter, JobId, Micros, OnDuplicate, Priority, Queue, Record, State};

use super::args;
use super::words::{printable, relative};

type Outcome = Result<(), Box<dyn Error>>;

pub(super) async fn enqueue(queue: &Queue, args: args::Enqueue) -> Outcome {
    let payload = serde_json::from_str(&args.payload)
        .unwrap_or_else(|_| serde_json::Value::String(args.payload.clone()));
    let mut job = queue.enqueue_json(&args.kind, &payload).queue(args.queue);
    job = job.priority(match args.priority {
        args::Priority::High => Priority::High,
        args::Priority::Normal => Priority::Normal,
        args::Priority::Low => Priority::Low,
    });
    if let Some(after) = args.after {
        job = job.after(after);
    }
    if let Some(at) = args.at {
        job = job.at(at);
    }
    if let Some(key) = args.key {
        job = job.unique_or(
            key,
            match args.on_duplicate {
                args::OnDuplicate::Reject => OnDuplicate::Reject,
                args::OnDuplicate::Keep => OnDuplicate::Keep,
                args::OnDuplicate::Replace => OnDuplicate::Replace,
            },
        );
    }
    match job.await? {
        Enqueued::New(id) => println!("job {id} is enqueued"),
        Enqueued::Replaced(id) => println!("job {id} was replaced"),
        other => println!("job {} has the key, and was kept", other.id()),
    }
    Ok(())
}

pub(super) async fn list(queue: &Queue, args: args::Ls) -> Outcome {
    let filter = Filter {
        state: args.state,
        queue: args.queue,
        kind: args.kind,
        limit: args.limit,
    };
    let jobs = queue.list(filter).await?;
    let now = queue.store().clock().now();
    if !jobs.is_empty() {
        println!(
            "{:>8}  {:<10} {:<12} {:<10} {:>5}  {:<14} error",
            "id", "state", "kind", "queue", "tries", "when"
        );
    }
    for job in &jobs {
        let error = printable(job.error.as_deref().unwrap_or(""));
        let (kind, queue) = (printable(&job.kind), printable(&job.queue));
        let when = relative(job.finished_at.unwrap_or(job.run_at), now);
        println!(
            "{:>8}  {:<10} {:<12} {:<10} {:>5}  {when:<14} {error}",
            job.id, job.state, kind, queue, job.attempt
        );
    }
    let counts = queue.counts().await?;
    println!(
        "{} shown of {} pending, {} running, {} done, {} dead, {} cancelled",
        jobs.len(),
        counts.pending,
        counts.running,
        counts.done,
        counts.dead,
        counts.cancelled
    );
    for row in queue.queues().await?.iter().filter(|row| row.paused) {
        println!("the queue `{}` is paused", printable(&row.name));
    }
    Ok(())
}

pub(super) async fn show(queue: &Queue, id: i64) -> Outcome {
    let Some(job) = queue.job(JobId(id)).await? else {
        return Err(format!("there is no job {id}").into());
    };
    for (name, value) in lines(&job, queue.store().clock().now()) {
        println!("{name:<10} {}", printable(&value));
    }
    Ok(())
}

fn lines(job: &Record, now: Micros) -> Vec<(&'static str, String)> {
    let time = |at: Micros| format!("{at}  {}", relative(at, now));
    let mut lines = vec![
        ("id", job.id.to_string()),
        ("state", job.state.to_string()),
        ("kind", job.kind.clone()),
        ("queue", job.queue.clone()),
        ("payload", job.payload.clone()),
        ("priority", format!("{:?}", job.priority).to_lowercase()),
        ("tries", job.attempt.to_string()),
        ("crashes", job.crashes.to_string()),
        ("enqueued", time(job.created_at)),
        ("due", time(job.run_at)),
    ];
    let maybe = [
        ("started", job.started_at.map(time)),
        ("ended", job.finished_at.map(time)),
        ("key", job.key.clone()),
        ("worker", job.worker.clone()),
        ("lease", job.lease_until.map(time)),
        (
            "progress",
            job.progress.map(|percent| format!("{percent} %")),
        ),
        ("error", job.error.clone()),
    ];
    lines.extend(
        maybe
            .into_iter()
            .filter_map(|(name, value)| Some((name, value?))),
    );
    lines
}

pub(super) async fn cancel(queue: &Queue, id: i64) -> Outcome {
    match queue.cancel(JobId(id)).await? {
        State::Running => println!("job {id} runs; its worker is told to stop it"),
        _ => println!("job {id} is cancelled"),
    }
    Ok(())
}

pub(super) async fn retry(queue: &Queue, id: i64) -> Outcome {
    queue.retry(JobId(id)).await?;
    println!("job {id} is due now");
    Ok(())
}

pub(super) async fn pause(queue: &Queue, name: &str) -> Outcome {
    queue.pause(name).await?;
    println!("the queue `{name}` is paused; `resume {name}` lets it go on");
    Ok(())
}

pub(super) async fn resume(queue: &Queue, name: &str) -> Outcome {
    queue.resume(name).await?;
    println!("the queue `{name}` goes on");
    Ok(())
}
