//! Each statement that is used again and again finds its rows by an index, whatever the number of rows.
//!
//! The statements are taken from the databases themselves: a worker and a page run beside, and what they send is
//! explained. So none is forgotten here.

use delayed_jobs::{Change, Limit};
use sqlx::{Executor, Row};
use tokio::time::sleep;

use super::*;

/// Enough that a planner takes an index where there is one.
const ROWS: u32 = 60_000;

fn fill_sql(kind: &str) -> String {
    let series = match kind {
        "sqlite" => format!(
            "with recursive n(n) as (select 1 union all select n + 1 from n where n < {ROWS})"
        ),
        _ => format!("with n(n) as (select generate_series(1, {ROWS}))"),
    };
    format!(
        "insert into delayed_jobs (kind, queue, payload, priority, run_at, state, created_at, finished_at)
        {series}
        select 'note', case n % 3 when 1 then 'backlog' else 'default' end, '1', 1, case n % 3 when 1 then n else 4102444800000000 + n end,
            case n % 3 when 0 then 'done' else 'pending' end,
            0, case n % 3 when 0 then 4102444800000000 + n end from n"
    )
}

/// What all who work and all who look on do.
async fn use_all(queue: &Queue) {
    let log = Log::new();
    let worker = noting(queue, &log)
        .every("tick", 100 * MILLI, &Note(1))
        .concurrency("backlog", 4)
        .lease(300 * MILLI);
    let limit = Limit::default().at_once(4).rate(500, SECOND).key_at_once(2);
    queue.limit("backlog", limit).await.expect("set");
    let address = pages::served(queue).await;
    let busy = spawn(worker);
    for n in 0..20 {
        let job = queue
            .enqueue(Note(n))
            .unique(delayed_jobs::Unique::key("k").or(delayed_jobs::OnDuplicate::Replace));
        job.await.expect("enqueued");
        let keep = queue
            .enqueue(Note(n))
            .after(SECOND)
            .unique(delayed_jobs::Unique::key("l").or(delayed_jobs::OnDuplicate::Keep));
        let id = keep.await.expect("enqueued").id();
        let _ = queue.cancel(id).await;
        let _ = queue.retry(id).await;
        let one = |state, key: Option<&str>| delayed_jobs::Filter {
            state,
            key: key.map(str::to_owned),
            limit: 1,
            ..delayed_jobs::Filter::default()
        };
        let cancelled = Some(delayed_jobs::State::Cancelled);
        for (change, filter) in [
            (Change::Cancel, one(None, Some("l"))),
            (Change::Retry, one(cancelled, None)),
            (Change::Cancel, one(None, Some("l"))),
            (Change::Delete, one(cancelled, Some("l"))),
        ] {
            queue.change(change, filter).await.expect("changed");
        }
        sleep(20 * MILLI).await;
    }
    let answer = pages::ask(address, "GET /api/overview", &["host: localhost"]).await;
    assert_eq!(pages::status(&answer), "200");
    busy.end().await;
}

/// Counting needs all rows, and is what the page does seldom, on a connection of its own. The other tables are small.
fn is_known(sql: &str) -> bool {
    sql.contains("group by")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_statement_reads_a_whole_table_of_postgres() {
    let Some(server) = support::postgres() else {
        return;
    };
    let database = server.database().await;
    let queue = Queue::open(&database).await.expect("it opens");
    let mut client = support::client(&database).await;
    support::execute(&mut client, &fill_sql("postgres")).await;
    support::execute(&mut client, "vacuum analyze delayed_jobs").await;
    let name = database.rsplit('/').next().expect("a name");
    // What each session plans from now on is told by the planner itself.
    for setting in [
        "auto_explain.log_min_duration = 0",
        "auto_explain.log_level = 'log'",
        "auto_explain.log_analyze = on",
        "auto_explain.log_nested_statements = on",
        "session_preload_libraries = 'auto_explain'",
    ] {
        let sql = format!("alter database {name} set {setting}");
        support::execute(&mut client, &sql).await;
    }
    let from = server.log().len();
    let queue_again = Queue::open(&database).await.expect("it opens");
    drop(queue);
    use_all(&queue_again).await;
    let log = server.log();
    let mut wrong = Vec::new();
    let (mut seen, mut dearest) = (0, 0.0_f64);
    for entry in log[from..].split("Query Text: ").skip(1) {
        let entry = entry.split("\n2").next().unwrap_or(entry);
        if !entry.contains("delayed_jobs") || is_known(entry) {
            continue;
        }
        seen += 1;
        // Whatever reads all rows, or sorts them, costs some thousands.
        let cost = entry
            .split("cost=")
            .nth(1)
            .and_then(|cost| cost.split("..").nth(1));
        let cost = cost.and_then(|cost| cost.split(' ').next()?.parse::<f64>().ok());
        dearest = dearest.max(cost.unwrap_or(0.0));
        let removed = entry.split("Rows Removed by Filter: ").skip(1);
        let removed =
            removed.filter_map(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
        if removed.max() > Some(1000)
            || entry.contains("Seq Scan on delayed_jobs ")
            || cost.is_none_or(|cost| cost > 900.0)
        {
            wrong.push(entry.to_owned());
        }
    }
    wrong.sort();
    wrong.dedup();
    println!("{seen} plans, the dearest of them costs {dearest}");
    assert!(seen > 20, "only {seen} plans were seen");
    assert!(
        wrong.is_empty(),
        "{} of {seen}: {}",
        wrong.len(),
        wrong.join("\n")
    );
    let rows = client
        .fetch_one("select count(*) from delayed_jobs")
        .await
        .expect("a count");
    assert!(rows.get::<i64, _>(0) >= i64::from(ROWS));
}
