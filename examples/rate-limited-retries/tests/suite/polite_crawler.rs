//! The crawler in small, on the real clock against its own servers.
// Its report is left out here.
#![allow(dead_code)]

#[path = "../../examples/polite_crawler/client.rs"]
mod client;
#[path = "../../examples/polite_crawler/crawl.rs"]
mod crawl;
#[path = "../../examples/polite_crawler/server.rs"]
mod server;

use std::future::pending;

use crate::common::{bounded, ms, multi_thread};
use crawl::{Crawled, IN_FLIGHT, Manners, allowed, crawl, per_host};
use server::{Kind, Server, Verdict};
use tokio::time::sleep;

const HOSTS: usize = 10;

fn crawled(urls: usize, manners: Manners, stop: impl Future<Output = ()>) -> (Server, Crawled) {
    let server = Server::start(HOSTS).unwrap();
    let crawl = crawl(&server.hosts, urls, manners, |_, _, _| {}, stop);
    let crawled = multi_thread().block_on(bounded(crawl));
    (server, crawled)
}

fn verdicts(server: &Server) -> Vec<(Kind, Verdict)> {
    let verdicts = server.hosts.iter();
    verdicts
        .map(|host| (host.kind, host.verdict(allowed())))
        .collect()
}

/// The rate is checked by the clock of the dispatcher. By the clock of a server, requests may come closer together or be
/// answered after their timeout, since the machine is busy: the program `polite_crawler` counts these.
#[test]
fn a_polite_crawl_gets_every_page_and_keeps_to_every_limit() {
    const URLS: usize = 100;
    let (server, crawled) = crawled(URLS, Manners::Polite, pending());
    for (kind, verdict) in verdicts(&server) {
        assert_eq!(verdict.forbidden, 0, "{kind:?}: {verdict:?}");
        if matches!(kind, Kind::Seconds | Kind::Date) {
            assert!(
                verdict.said > 0,
                "{kind:?} never had to say when to come again"
            );
        }
        if !matches!(kind, Kind::Dead | Kind::Refused) {
            let answered = verdict.once + verdict.twice;
            assert_eq!(answered, URLS, "{kind:?}: {verdict:?}");
        }
    }
    let (most, allowed) = (crawled.most_starts, per_host().in_a_period());
    assert!(most <= allowed, "{most} starts of a host in a period");
    assert_eq!(
        crawled.counts.done,
        URLS * (HOSTS - 1),
        "{:?}",
        crawled.counts
    );
    assert_eq!(crawled.counts.ended(), URLS * HOSTS, "{:?}", crawled.counts);
    let most = HOSTS * IN_FLIGHT as usize + 20;
    assert!(crawled.most_tasks < most, "{} tasks", crawled.most_tasks);
}

#[test]
fn the_log_of_a_server_shows_the_forbidden_requests_of_a_rude_crawl() {
    let (server, _) = crawled(100, Manners::Rude, pending());
    let forbidden = verdicts(&server)
        .iter()
        .map(|(_, verdict)| verdict.forbidden)
        .sum::<usize>();
    assert!(forbidden > 0, "the check is blind");
}

#[test]
fn a_crawl_that_is_stopped_goes_on_for_its_grace_and_gives_back_the_rest() {
    const URLS: usize = 2_000;
    let (_server, crawled) = crawled(URLS, Manners::Polite, async { sleep(ms(300)).await });
    let drained = crawled.drained.expect("it was stopped");
    assert!(drained.started > 0, "{drained:?}");
    let gone = crawled.counts.ended();
    assert_eq!(
        gone + drained.left.len(),
        URLS * HOSTS,
        "{:?}",
        crawled.counts
    );
}
