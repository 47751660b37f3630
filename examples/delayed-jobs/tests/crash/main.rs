//! Workers that are killed by SIGKILL, again and again, and what is left of their jobs.
//!
//! ```sh
//! cargo test -p delayed-jobs --test crash                     # some seconds
//! cargo test --release -p delayed-jobs --test crash -- --full # 5,000 jobs over 20 s, 200,000 rows
//! ```
//!
//! The parent enqueues and kills. Workers are this program again, with `child` as the first argument;
//! each start, end and failure of a job is a line in a file that they share.
#![forbid(unsafe_code)]

mod check;
mod child;
mod floor;
mod log;
mod parent;
#[path = "../support/mod.rs"]
mod support;

use std::time::Duration;

use parent::{Crashes, Crowd};

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let [first, rest @ ..] = &args[..]
        && first == "child"
    {
        return child::main(rest);
    }
    // The harness's way: a word that is no option is a filter, and `--list` lists.
    let filtered = args
        .iter()
        .any(|arg| !arg.starts_with('-') && !"crash".contains(arg.as_str()));
    if filtered || args.iter().any(|arg| arg == "--list") {
        return;
    }
    let full = args.iter().any(|arg| arg == "--full");
    let (crashes, crowd) = if full {
        (FULL, FULL_CROWD)
    } else {
        (QUICK, QUICK_CROWD)
    };
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        println!("== crashes on SQLite, one worker: {crashes:?}");
        let (dir, address) = support::sqlite();
        let beside = dir.path().join("beside.db");
        let beside = beside.to_str().expect("a path in UTF-8");
        parent::crashes(&address, beside, 1, &crashes).await;
        println!("== a crowd on SQLite: {crowd:?}");
        let (_dir, address) = support::sqlite();
        parent::crowd(&address, &crowd).await;
        if let Some(postgres) = support::postgres() {
            println!("== crashes on Postgres, two workers: {crashes:?}");
            let (tested, beside) = (postgres.database().await, postgres.database().await);
            parent::crashes(&tested, &beside, 2, &crashes).await;
            println!("== a crowd on Postgres: {crowd:?}");
            parent::crowd(&postgres.database().await, &crowd).await;
        }
    });
    println!("all held");
}

const FULL: Crashes = Crashes {
    jobs: 5000,
    over: Duration::from_secs(20),
    kills: 5,
};

const QUICK: Crashes = Crashes {
    jobs: 1500,
    over: Duration::from_secs(6),
    kills: 3,
};

const FULL_CROWD: Crowd = Crowd {
    overdue: 1000,
    ahead: 199_000,
};

const QUICK_CROWD: Crowd = Crowd {
    overdue: 100,
    ahead: 19_900,
};
