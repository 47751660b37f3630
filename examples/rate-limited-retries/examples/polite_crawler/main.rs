//! Shows a crawler that obeys `Retry-After`, with forty hosts of seven kinds on the loopback interface.
//!
//! You should see no request within a pause that a server has asked for, none over the rate, each page of the hosts that
//! answer once, and retries within the budget. Ctrl-C stops the crawler, and shows the work that was left after five
//! seconds.
//!
//! ```sh
//! cargo run --release -p rate-limited-retries --example polite_crawler
//! cargo run --release -p rate-limited-retries --example polite_crawler -- --urls 100 --hosts 20
//! cargo run --release -p rate-limited-retries --example polite_crawler -- --stop-after 3   # as if by Ctrl-C
//! cargo run --release -p rate-limited-retries --example polite_crawler -- --runs 20
//! cargo run --release -p rate-limited-retries --example polite_crawler -- --rude           # shows what the check finds
//! ```
#![forbid(unsafe_code)]

mod client;
mod crawl;
mod report;
mod server;

use std::time::Duration;

use crawl::Manners;
use server::Server;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (mut urls, mut hosts, mut runs) = (500, 40, 1);
    let (mut stop_after, mut manners) = (None, Manners::Polite);
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut number = || {
            let number = words.next().and_then(|number| number.parse().ok());
            number.ok_or_else(|| format!("{word} needs a number"))
        };
        match word.as_str() {
            "--urls" => urls = number()?,
            "--hosts" => hosts = number()?,
            "--runs" => runs = number()?,
            "--stop-after" => stop_after = Some(number()?),
            "--rude" => manners = Manners::Rude,
            _ => return Err(format!("unknown option {word}").into()),
        }
    }
    let (mut forbidden, mut over) = (0, 0);
    for _ in 0..runs {
        let server = Server::start(hosts)?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()?;
        let stop = async {
            match stop_after {
                Some(seconds) => tokio::time::sleep(Duration::from_secs(seconds as u64)).await,
                None if tokio::signal::ctrl_c().await.is_ok() => {}
                None => std::future::pending().await,
            }
        };
        let crawl = crawl::crawl(&server.hosts, urls, manners, report::live, stop);
        let crawled = runtime.block_on(crawl);
        let found = report::report(&server.hosts, &crawled);
        forbidden += found.0;
        over += found.1;
        if crawled.drained.is_some() && stop_after.is_none() {
            // By Ctrl-C.
            break;
        }
    }
    println!(
        "\nby the servers' logs: {forbidden} requests in a forbidden window, {over} over the rate"
    );
    if manners == Manners::Polite && (forbidden > 0 || over > 0) {
        return Err("the crawler was not polite".into());
    }
    Ok(())
}
