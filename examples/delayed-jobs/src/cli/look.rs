//! The commands that enqueue, show and change jobs.

use std::error::Error;

use delayed_jobs::{
    AskError, Change, Enqueued, Filter, JobId, Limit, Micros, Queue, Record, State, TryError,
    Unique,
};

use super::args;
use super::words::{print_error, printable, relative, say};

type Outcome = Result<(), Box<dyn Error>>;

pub(super) async fn enqueue(queue: &Queue, args: args::Enqueue) -> Outcome {
    let payload = serde_json::from_str(&args.payload)
        .unwrap_or_else(|_| serde_json::Value::String(args.payload.clone()));
    let mut job = queue.enqueue_json(&args.kind, &payload).queue(args.queue);
    job = job.priority(args.priority);
    if let Some(after) = args.after {
        job = job.after(after);
    }
    if let Some(at) = args.at {
        job = job.at(at);
    }
    if !args.after_done.is_empty() {
        job = job.after_done(args.after_done.into_iter().map(JobId));
    }
    if let Some(key) = args.limit_key {
        job = job.limit_key(key);
    }
    if let Some(key) = args.key {
        let mut unique = Unique::key(key).or(args.on_duplicate).within(args.within);
        if let Some(period) = args.per {
            unique = unique.per(period);
        }
        if let Some(max_wait) = args.max_wait {
            unique = unique.max_wait(max_wait);
        }
        job = job.unique(unique);
    }
    if let Some(attempts) = args.attempts {
        job = job.attempts(attempts);
    }
    if let Some(timeout) = args.timeout {
        job = job.timeout(timeout);
    }
    match job.await? {
        Enqueued::New(id) => say!("job {id} is enqueued")?,
        Enqueued::Replaced(id) => say!("job {id} was replaced")?,
        other => say!("job {} has the key, and was kept", other.id())?,
    }
    Ok(())
}

fn filter(queue: &Queue, those: args::Those) -> Filter {
    let now = queue.store().clock().now();
    Filter {
        state: those.state,
        queue: those.queue,
        kind: those.kind,
        key: those.key,
        ended_before: those.ended.map(|age| now.before(age)),
        limit: usize::MAX,
        ..Filter::default()
    }
}

pub(super) async fn list(queue: &Queue, args: args::Ls) -> Outcome {
    let after = match args.after.map(JobId) {
        Some(id) => {
            let job = queue.job(id).await?;
            Some(job.ok_or(AskError::Unknown(id))?.cursor())
        }
        None => None,
    };
    let filter = Filter {
        limit: args.limit,
        longest: Some(0),
        after,
        ..filter(queue, args.those)
    };
    let jobs = queue.list(filter).await?;
    let now = queue.store().clock().now();
    if !jobs.is_empty() {
        say!(
            "{:>8}  {:<10} {:<12} {:<10} {:>5}  {:<14} error",
            "id",
            "state",
            "kind",
            "queue",
            "tries",
            "when"
        )?;
    }
    for job in &jobs {
        let error = printable(job.error.as_deref().unwrap_or(""));
        let (kind, queue) = (printable(&job.kind), printable(&job.queue));
        let when = match job.finished_at.unwrap_or(job.run_at) {
            Micros::NEVER => "after others".to_owned(),
            at => relative(at, now),
        };
        say!(
            "{:>8}  {:<10} {:<12} {:<10} {:>5}  {when:<14} {error}",
            job.id,
            job.state,
            kind,
            queue,
            job.attempt
        )?;
    }
    let counts = queue.counts().await?;
    say!(
        "{} shown of {} pending, {} running, {} done, {} dead, {} cancelled",
        jobs.len(),
        counts.pending,
        counts.running,
        counts.done,
        counts.dead,
        counts.cancelled
    )?;
    for row in queue.queues().await?.iter().filter(|row| row.paused) {
        say!("the queue `{}` is paused", printable(&row.name))?;
    }
    Ok(())
}

pub(super) async fn show(queue: &Queue, id: i64) -> Outcome {
    let Some(job) = queue.job(JobId(id)).await? else {
        return Err(format!("there is no job {id}").into());
    };
    for (name, value) in lines(&job, queue.store().clock().now()) {
        say!("{name:<10} {}", printable(&value))?;
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
        (
            "due",
            match job.run_at {
                Micros::NEVER => "after others".to_owned(),
                at => time(at),
            },
        ),
    ];
    let maybe = [
        ("started", job.started_at.map(time)),
        ("ended", job.finished_at.map(time)),
        ("key", job.key.clone()),
        ("limit key", job.limit_key.clone()),
        (
            "after",
            (!job.after.is_empty()).then(|| {
                let ids: Vec<_> = job.after.iter().map(ToString::to_string).collect();
                ids.join(", ")
            }),
        ),
        ("worker", job.worker.clone()),
        ("lease", job.lease_until.map(time)),
        (
            "progress",
            job.progress.map(|percent| format!("{percent} %")),
        ),
        (
            "attempts",
            job.attempts.map(|most| format!("{most} at most")),
        ),
        (
            "timeout",
            job.timeout.map(|limit| format!("{limit:?} a run")),
        ),
        ("error", job.error.clone()),
        ("output", job.output.clone()),
    ];
    lines.extend(
        maybe
            .into_iter()
            .filter_map(|(name, value)| Some((name, value?))),
    );
    let failed = |error: &TryError| {
        let TryError {
            attempt, at, error, ..
        } = error;
        ("failed", format!("try {attempt}, {}: {error}", time(*at)))
    };
    lines.extend(job.errors.iter().map(failed));
    lines
}

/// Cancels, retries or deletes jobs by their ids, or those of a filter. An error for one job does not keep the others from
/// being changed.
pub(super) async fn change(queue: &Queue, change: Change, which: args::Which) -> Outcome {
    if which.ids.is_empty() {
        let filter = filter(queue, which.those);
        let changed = queue.change(change, filter).await?;
        let done = match change {
            Change::Cancel => "cancelled",
            Change::Retry => "due now",
            _ => "deleted",
        };
        return Ok(say!("{changed} jobs are {done}")?);
    }
    let mut last: Outcome = Ok(());
    for id in which.ids {
        match change_one(queue, change, JobId(id)).await {
            // The others are changed even if standard output is closed.
            Ok(done) => drop(say!("{done}")),
            Err(error) => {
                if let Err(before) = std::mem::replace(&mut last, Err(error)) {
                    print_error(&*before);
                }
            }
        }
    }
    last
}

async fn change_one(queue: &Queue, change: Change, id: JobId) -> Result<String, Box<dyn Error>> {
    match change {
        Change::Cancel => Ok(match queue.cancel(id).await? {
            State::Running => format!("job {id} runs; its worker is told to stop it"),
            _ => format!("job {id} is cancelled"),
        }),
        Change::Retry => {
            queue.retry(id).await?;
            Ok(format!("job {id} is due now"))
        }
        _ => {
            let filter = Filter {
                id: Some(id),
                ..Filter::default()
            };
            if queue.change(Change::Delete, filter).await? > 0 {
                return Ok(format!("job {id} is deleted"));
            }
            Err(match queue.job(id).await? {
                Some(job) => format!("job {id} is {}: cancel it first", job.state).into(),
                None => format!("there is no job {id}").into(),
            })
        }
    }
}

pub(super) async fn limit(queue: &Queue, args: args::Limit) -> Outcome {
    let mut limit = Limit::default();
    if let Some(most) = args.at_once {
        limit = limit.at_once(most);
    }
    if let Some((starts, period)) = args.rate {
        limit = limit.rate(starts, period);
    }
    if let Some(most) = args.key_at_once {
        limit = limit.key_at_once(most);
    }
    if let Some((starts, period)) = args.key_rate {
        limit = limit.key_rate(starts, period);
    }
    if let Some(most) = args.worker_at_once {
        limit = limit.worker_at_once(most);
    }
    queue.limit(&args.queue, limit).await?;
    limits(queue).await
}

pub(super) async fn limits(queue: &Queue) -> Outcome {
    let limits = queue.limits().await?;
    if limits.is_empty() {
        say!("no queue has limits")?;
    }
    for (name, limit) in limits {
        say!("{}: {limit}", printable(&name))?;
    }
    Ok(())
}

pub(super) async fn schedules(queue: &Queue) -> Outcome {
    let now = queue.store().clock().now();
    let schedules = queue.schedules().await?;
    if schedules.is_empty() {
        say!("no worker has declared a schedule")?;
    }
    for schedule in schedules {
        let next = match (schedule.paused, schedule.slot) {
            (true, _) => "paused".to_owned(),
            (false, Some(slot)) => relative(slot, now),
            (false, None) => "no run yet".to_owned(),
        };
        say!(
            "{}: {next}, {}",
            printable(&schedule.name),
            printable(&schedule.spec)
        )?;
    }
    Ok(())
}

pub(super) async fn schedule(queue: &Queue, act: args::Act, name: &str) -> Outcome {
    match act {
        args::Act::Pause => {
            queue.pause_schedule(name).await?;
            say!("the schedule `{name}` is paused")?;
        }
        args::Act::Resume => {
            queue.resume_schedule(name).await?;
            say!("the schedule `{name}` goes on")?;
        }
        args::Act::Run => {
            let id = queue.run_schedule(name).await?;
            say!("job {id} of the schedule `{name}` is due now")?;
        }
    }
    Ok(())
}

pub(super) async fn pause(queue: &Queue, name: &str) -> Outcome {
    queue.pause(name).await?;
    say!("the queue `{name}` is paused; `resume {name}` lets it go on")?;
    Ok(())
}

pub(super) async fn resume(queue: &Queue, name: &str) -> Outcome {
    queue.resume(name).await?;
    say!("the queue `{name}` goes on")?;
    Ok(())
}
