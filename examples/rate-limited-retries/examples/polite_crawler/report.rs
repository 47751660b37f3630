//! What the crawl came to, in figures and along the time.

use std::time::Duration;

use hyper::StatusCode;
use rate_limited_retries::retry::Reason;
use tokio::time::Instant;

use super::crawl::{Crawled, Request, Then};
use super::server::{KINDS, Kind};

pub(crate) fn table(crawled: &Crawled) {
    println!("host      sent  429s  retried  denied by budget  given up  worst lateness");
    for kind in KINDS {
        let requests: Vec<&Request> = of(crawled, kind).collect();
        let count = |holds: &dyn Fn(&Request) -> bool| requests.iter().filter(|r| holds(r)).count();
        let worst = requests.iter().map(|r| r.late).max().unwrap_or_default();
        println!(
            "{:<8}{:>6}{:>6}{:>9}{:>18}{:>10}{:>13} ms",
            format!("{kind:?}").to_lowercase(),
            requests.len(),
            count(&|r| r.status == Some(StatusCode::TOO_MANY_REQUESTS)),
            count(&|r| r.then == Then::Again),
            count(&|r| r.then == Then::GaveUp(Reason::Budget)),
            count(&|r| matches!(r.then, Then::GaveUp(_))),
            worst.as_millis(),
        );
    }
}

fn of(crawled: &Crawled, kind: Kind) -> impl Iterator<Item = &Request> {
    crawled.requests.iter().filter(move |r| r.kind == kind)
}

const COLUMNS: u32 = 72;

/// `=` requests, `.` a time in which the server wishes none, `!` requests in such a time.
pub(crate) fn time_line(crawled: &Crawled) {
    let end = crawled.requests.iter().map(|r| r.answered).max();
    let length = end.map_or(Duration::ZERO, |end| end - crawled.begun);
    let column = length / COLUMNS + Duration::from_nanos(1);
    let forbidden: Vec<_> = crawled.forbidden();
    println!("\n{} ms a column", column.as_millis());
    for kind in KINDS {
        let mut line = String::new();
        for n in 0..COLUMNS {
            let from = crawled.begun + column * n;
            let within = |at: Instant| from <= at && at < from + column;
            let sent = of(crawled, kind).any(|r| within(r.sent));
            let early = forbidden.iter().any(|r| r.kind == kind && within(r.sent));
            let windows = of(crawled, kind).filter_map(|r| Some((r.answered, r.forbidden_until?)));
            let closed = windows
                .into_iter()
                .any(|(told, until)| told < from + column && from < until);
            line.push(match (early, sent, closed) {
                (true, ..) => '!',
                (_, true, _) => '=',
                (_, _, true) => '.',
                _ => ' ',
            });
        }
        println!("{:<8}|{line}|", format!("{kind:?}").to_lowercase());
    }
    println!(
        "{} requests were sent though the server had said not to\n",
        forbidden.len()
    );
}
