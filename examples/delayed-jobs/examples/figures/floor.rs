//! A worker on Postgres beside its own statements without it: what a loop takes that does nothing but claim and end.
//!
//! The statements are read from the log of a server that a worker has used, so that they are the same.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Row};
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::support::{self, Disk, Postgres};
use super::{Kind, Outcome, Pending, Place, SERVER, cpu_time, load, median, work};

const JOBS: u64 = 40_000;
const ROUNDS: usize = 3;

/// As many connections as are tried, of which the best counts.
const CONNECTIONS: [usize; 3] = [1, 2, 4];

/// The texts of a claim and of the ends of many jobs.
struct Statements {
    claim: String,
    finish: String,
}

pub(crate) async fn run() -> Outcome {
    let Some(statements) = statements().await? else {
        return Ok(());
    };
    let statements = Arc::new(statements);
    let Some(server) = Postgres::start_with(Disk::Waited, &[], SERVER) else {
        return Ok(());
    };
    println!("load {}\n", load());
    println!(
        "| jobs a second, {ROUNDS} rounds by turns | the worker | its statements alone | the part | CPU of a job here | jobs to a transaction |"
    );
    println!("|---|---|---|---|---|---|");
    for at_once in [64, 512] {
        let (mut ours, mut floors) = (Vec::new(), [Vec::new(), Vec::new(), Vec::new()]);
        let mut spent = [(Vec::new(), Vec::new()), (Vec::new(), Vec::new())];
        for _ in 0..ROUNDS {
            for (connections, floors) in CONNECTIONS.into_iter().zip(&mut floors) {
                let place = filled(&server, JOBS).await?;
                let (before, used) = (transactions(&place.address).await?, cpu_time());
                floors.push(floor(&place.address, &statements, connections, at_once).await?);
                let used = cpu_time() - used;
                spent[1].0.push(used.as_secs_f64() * 1e6 / JOBS as f64);
                spent[1]
                    .1
                    .push(JOBS as f64 / (transactions(&place.address).await? - before));
            }
            let place = filled(&server, JOBS).await?;
            let queue = place.open().await?;
            let before = transactions(&place.address).await?;
            let worked = work(&queue, "default", at_once, JOBS, Duration::from_secs(60)).await?;
            ours.push(worked.jobs);
            spent[0].0.push(worked.cpu.as_secs_f64() * 1e6);
            spent[0]
                .1
                .push(JOBS as f64 / (transactions(&place.address).await? - before));
        }
        let spent = spent.map(|(cpu, lots)| (median(cpu), median(lots)));
        let ours = median(ours);
        let floors = floors.map(median);
        let best = floors.into_iter().fold(0.0, f64::max);
        println!(
            "| {at_once} at once | {ours:.0} | {} on {CONNECTIONS:?} connections | {:.0} % | {:.0} µs, {:.0} µs | {:.0}, {:.0} |",
            floors.map(|floor| format!("{floor:.0}")).join(", "),
            100.0 * ours / best,
            spent[0].0,
            spent[1].0,
            spent[0].1,
            spent[1].1,
        );
    }
    Ok(())
}

/// The transactions of a database so far, as its sessions have told; they do so once a second.
async fn transactions(address: &str) -> Outcome<f64> {
    sleep(Duration::from_millis(1500)).await;
    let mut client = support::client(address).await;
    let sql = "select xact_commit from pg_stat_database where datname = current_database()";
    let commits: i64 = sqlx::query_scalar(sql).fetch_one(&mut client).await?;
    Ok(commits as f64)
}

/// A database of the server's, with jobs that are due.
async fn filled(server: &Postgres, jobs: u64) -> Outcome<Place> {
    let place = Place {
        kind: Kind::Postgres,
        address: server.database().await,
        _dir: None,
        _server: None,
    };
    drop(place.open().await?);
    place.fill(jobs, Pending::Due).await?;
    Ok(place)
}

/// What a worker sends to claim and to end, as the server has logged it.
async fn statements() -> Outcome<Option<Statements>> {
    let Some(server) = Postgres::start_with(Disk::Trusted, &[], "log_statement = 'all'\n") else {
        return Ok(None);
    };
    let queue = filled(&server, 100).await?.open().await?;
    work(&queue, "default", 64, 100, Duration::from_secs(30)).await?;
    let log = server.log();
    let find = |has: &str, not: &str| {
        log.split("\n20")
            .filter_map(|entry| entry.split_once("execute ")?.1.split_once(": "))
            .map(|(_, text)| text.split("\n20").next().unwrap_or(text))
            .map(|text| text.split(" DETAIL:").next().unwrap_or(text).trim())
            .find(|text| text.contains(has) && !text.contains(not))
            .map(str::to_owned)
            .ok_or_else(|| format!("no statement with {has} was logged"))
    };
    Ok(Some(Statements {
        claim: find("set state = 'running'", "crashes > 0")?,
        finish: find("e_claim", "nothing else")?,
    }))
}

/// Connections that claim and end, one lot after the other.
async fn floor(
    address: &str,
    statements: &Arc<Statements>,
    connections: usize,
    lot: usize,
) -> Outcome<f64> {
    let done = Arc::new(AtomicU64::new(0));
    let mut loops = JoinSet::new();
    let mut clients = Vec::new();
    for _ in 0..connections {
        clients.push(support::client(address).await);
    }
    let begun = Instant::now();
    for client in clients {
        let (statements, done) = (Arc::clone(statements), Arc::clone(&done));
        loops.spawn(async move { drain(client, &statements, lot, &done).await });
    }
    for ended in loops.join_all().await {
        ended?;
    }
    Ok(done.load(Ordering::Relaxed) as f64 / begun.elapsed().as_secs_f64())
}

async fn drain(
    mut client: PgConnection,
    statements: &Statements,
    lot: usize,
    done: &AtomicU64,
) -> Result<(), sqlx::Error> {
    let far = 4_102_444_800_000_000_i64;
    // As a worker does over a backlog, each claim begins where the last one has ended.
    let mut from = i64::MIN;
    loop {
        let rows = sqlx::query(AssertSqlSafe(statements.claim.clone()))
            .bind("floor")
            .bind(far)
            .bind(1_700_000_000_000_000_i64)
            .bind("default")
            .bind(lot as i64)
            .bind(r#"["email"]"#)
            .bind(2_i64)
            .bind(i64::MIN)
            .bind(from)
            .bind(i64::MIN)
            .fetch_all(&mut client)
            .await?;
        if rows.is_empty() {
            if from == i64::MIN {
                return Ok(());
            }
            from = i64::MIN;
            continue;
        }
        from = rows
            .iter()
            .map(|row| row.get("run_at"))
            .max()
            .unwrap_or(from);
        let ids: Vec<i64> = rows.iter().map(|row| row.get("id")).collect();
        let claims: Vec<i64> = rows.iter().map(|row| row.get("claim")).collect();
        let all = ids.len();
        let ended = sqlx::query(AssertSqlSafe(statements.finish.clone()))
            .bind(ids)
            .bind(claims)
            .bind(vec!["done"; all])
            .bind(vec![None::<i64>; all])
            .bind(vec![None::<String>; all])
            .bind(vec![0_i64; all])
            .bind(vec![1_700_000_000_000_000_i64; all])
            .bind(vec![None::<String>; all])
            .fetch_all(&mut client)
            .await?;
        done.fetch_add(ended.len() as u64, Ordering::Relaxed);
    }
}
