//! The crawler of the examples in small, on the real clock against its own server.
// Its figures and its time line are left out here.
#![allow(dead_code)]

#[path = "../../examples/polite_crawler/client.rs"]
mod client;
#[path = "../../examples/polite_crawler/crawl.rs"]
mod crawl;
#[path = "../../examples/polite_crawler/server.rs"]
mod server;

use std::time::Duration;

use crate::common::{bounded, multi_thread};
use crawl::{Crawled, IN_FLIGHT, Manners, RETRIES, Then, crawl};
use hyper::StatusCode;
use server::{KINDS, Kind, Server};

const PAGES: u32 = 70;

fn crawled(manners: Manners) -> (Server, Crawled) {
    let server = Server::start(Duration::from_millis(500)).unwrap();
    let crawled = multi_thread().block_on(bounded(crawl(&server.hosts, PAGES, manners)));
    (server, crawled)
}

#[test]
fn a_polite_crawl_gets_every_page_once_and_respects_every_wish() {
    let (server, crawled) = crawled(Manners::Polite);
    let of = |kind| crawled.requests.iter().filter(move |r| r.kind == kind);

    for host in server
        .hosts
        .iter()
        .filter(|host| host.kind != Kind::Failing)
    {
        let once = host.answered_once(PAGES);
        assert_eq!(once, PAGES as usize, "{:?}", host.kind);
        let answers = of(host.kind).filter(|r| r.status == Some(StatusCode::OK));
        assert_eq!(answers.count(), once, "{:?}", host.kind);
    }

    for kind in [Kind::Seconds, Kind::Date] {
        let wishes = of(kind).filter(|r| r.forbidden_until.is_some()).count();
        assert!(wishes > 0, "{kind:?} never had to say when to come again");
    }
    let forbidden = crawled.forbidden();
    assert!(forbidden.is_empty(), "{forbidden:#?}");

    let end = |kind| of(kind).map(|r| r.answered).max().unwrap();
    let (well, frozen) = (end(Kind::Well), end(Kind::Seconds).min(end(Kind::Date)));
    assert!(well < frozen, "a frozen host kept another waiting");

    let (share, floor) = RETRIES;
    let length = end(Kind::Failing) - crawled.begun;
    let most = PAGES + PAGES * share / 100 + floor * (10 + length.as_secs() as u32);
    let sent = of(Kind::Failing).count();
    assert!(
        sent <= most as usize,
        "{sent} requests, {most} in the budget"
    );
    let lost = of(Kind::Failing).filter(|r| matches!(r.then, Then::GaveUp(_)));
    assert_eq!(lost.count(), PAGES as usize);

    let most = (KINDS.len() as u32 * IN_FLIGHT + 10) as usize;
    assert!(crawled.most_tasks < most, "{} tasks", crawled.most_tasks);
}

#[test]
fn a_rude_crawl_runs_into_what_was_forbidden() {
    let (_server, crawled) = crawled(Manners::Rude);
    assert!(crawled.forbidden().len() > 10, "the check is blind");
}
