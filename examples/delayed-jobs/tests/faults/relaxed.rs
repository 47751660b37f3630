//! Queues of Postgres whose jobs are answered before they are on the disk, and all others, which are not.

use std::collections::BTreeSet;

use delayed_jobs::store::{Claim, Ended, PostgresOptions, Store, Suspects, Verdict};
use delayed_jobs::{Micros, Unique};
use sqlx::PgConnection;
use tokio::time::timeout;

use super::support::{Disk, Postgres, client};
use super::*;

/// How much of what the server has logged is not on its disk.
async fn not_on_disk(server: &mut PgConnection) -> i64 {
    let sql = "select (pg_current_wal_insert_lsn() - pg_current_wal_flush_lsn())::bigint";
    sqlx::query_scalar(sql)
        .fetch_one(server)
        .await
        .expect("a number of bytes")
}

fn claim(store: &Arc<dyn Store>, queue: &str) -> Claim {
    let now = store.clock().now();
    Claim {
        worker: "w".to_owned(),
        queue: queue.to_owned(),
        limit: 10,
        now: now.after(SECOND),
        lease_until: now.after(30 * SECOND),
        kinds: vec![Note::KIND.to_owned()],
        from: [Micros::EARLIEST; 3],
        suspects: Suspects::Without(2),
        limited: false,
        ageing: None,
    }
}

/// Enqueues, claims and ends jobs of a queue, and returns for each of these steps whether something was not on the disk
/// after it.
async fn steps(
    jobs: &Queue,
    queue: &str,
    key: &str,
    server: &mut PgConnection,
) -> Vec<(&'static str, bool)> {
    let mut seen = Vec::new();
    let store = jobs.store();
    let mut look = async |step| {
        seen.push((step, not_on_disk(server).await > 0));
        // One that waits takes all that was written before with it.
        jobs.enqueue(Note(0))
            .queue("flush")
            .await
            .expect("enqueued");
    };
    jobs.enqueue(Note(1)).queue(queue).await.expect("enqueued");
    look("one").await;
    let many = (0..3).map(|note| jobs.enqueue(Note(note)).queue(queue));
    jobs.enqueue_all(many).await.expect("enqueued");
    look("many").await;
    let keyed = jobs.enqueue(Note(1)).queue(queue).unique(Unique::key(key));
    keyed.await.expect("enqueued");
    look("with a key").await;
    // What is due by our clock may be due a moment later by the server's.
    let mut claimed = Vec::new();
    let claim_all = async {
        while claimed.len() < 5 {
            let lot = store.claim(claim(store, queue)).await;
            claimed.extend(lot.expect("a claim").jobs);
        }
    };
    let in_time = timeout(30 * SECOND, claim_all).await;
    in_time.expect("all of them are due by now");
    look("claim").await;
    let ended = Ended {
        lease: claimed[0].lease,
        at: store.clock().now(),
        verdict: Verdict::Done { output: None },
        relaxed: claimed[0].relaxed,
    };
    assert!(store.finish(ended).await.expect("an answer"));
    look("end").await;
    seen
}

/// Repeats the steps until each of them was seen as it should be: not on the disk after those in `relaxed`, and on it
/// after the others.
///
/// A notification follows within 40 ms. If it comes just before a look, the step before it may be seen otherwise.
async fn check(jobs: &Queue, queue: &str, server: &mut PgConnection, relaxed: &[&str]) {
    let mut right = BTreeSet::new();
    let rounds = async {
        for round in 0.. {
            let seen = steps(jobs, queue, &format!("{queue} {round}"), server).await;
            let all = seen.len();
            let is_right = |(step, waits): &(&str, bool)| relaxed.contains(step) == *waits;
            right.extend(seen.into_iter().filter(is_right));
            if right.len() == all {
                break;
            }
        }
    };
    let in_time = timeout(60 * SECOND, rounds).await;
    assert!(in_time.is_ok(), "{queue}: {right:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_what_goes_with_a_relaxed_queue_is_answered_before_it_is_on_the_disk() {
    // The server writes by itself so seldom that it is not taken for one of us.
    let settings = "wal_writer_delay = 10s\nautovacuum = off\n";
    let Some(server) = Postgres::start_with(Disk::Waited, &[], settings) else {
        return;
    };
    let address = server.database().await;
    let options = PostgresOptions::new(&address).expect("an address");
    let queue = Queue::on(
        options
            .relaxed_queue("fast")
            .open()
            .await
            .expect("it opens"),
    );
    let mut server = client(&address).await;
    let relaxed = ["one", "many", "claim", "end"];
    check(&queue, "fast", &mut server, &relaxed).await;
    check(&queue, "default", &mut server, &[]).await;
}
