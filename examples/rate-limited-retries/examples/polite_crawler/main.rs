//! A crawler that heeds what servers say, beside five kinds of them on the loopback.
//!
//! Look for: no request (`=`) in a window that a server has forbidden (`.`), every page of the four
//! well-meaning hosts once, and no more requests to the failing one than its budget allows. Then run it
//! with `--no-retry-after` and look for `!`.
//!
//! ```sh
//! cargo run -p rate-limited-retries --example polite_crawler
//! cargo run -p rate-limited-retries --example polite_crawler -- --no-retry-after
//! ```
#![forbid(unsafe_code)]

mod client;
mod crawl;
mod report;
mod server;

use std::time::Duration;

use crawl::Manners;
use server::{Kind, Server};

const PAGES: u32 = 300;

fn main() -> std::io::Result<()> {
    let manners = match std::env::args().nth(1).as_deref() {
        Some("--no-retry-after") => Manners::Rude,
        _ => Manners::Polite,
    };
    let server = Server::start(Duration::from_secs(2))?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let crawled = runtime.block_on(crawl::crawl(&server.hosts, PAGES, manners));

    report::table(&crawled);
    report::time_line(&crawled);
    let well_meaning = server
        .hosts
        .iter()
        .filter(|host| host.kind != Kind::Failing);
    let pages: usize = well_meaning.map(|host| host.answered_once(PAGES)).sum();
    println!(
        "{pages} of {} pages of the well-meaning hosts were answered once; at most {} tasks were alive",
        4 * PAGES,
        crawled.most_tasks,
    );
    Ok(())
}
