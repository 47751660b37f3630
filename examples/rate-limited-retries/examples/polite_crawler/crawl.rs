//! The crawl: pages wait in the lines of a pacer, and come again by a policy.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use hyper::StatusCode;
use rate_limited_retries::backoff::{Backoff, Jitter};
use rate_limited_retries::rate::{Pacer, Rate, Turn};
use rate_limited_retries::retry::{Budget, Chain, Decision, Outcome, Reason, Retry, retry_after};
use schedgroup::Group;
use tokio::runtime;
use tokio::time::Instant;

use super::client::{self, Answer, Failure};
use super::server::{Host, Kind};

/// So many pages of one host are fetched at once.
pub(crate) const IN_FLIGHT: u32 = 8;
/// Of a hundred first attempts so many may come again, and so many a second besides.
pub(crate) const RETRIES: (u32, u32) = (20, 10);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manners {
    Polite,
    /// Never mind what `Retry-After` says.
    Rude,
}

/// One request, as it was made.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) kind: Kind,
    pub(crate) sent: Instant,
    /// When it was answered, and the server's wish was made known to the pacer.
    pub(crate) answered: Instant,
    pub(crate) late: Duration,
    pub(crate) status: Option<StatusCode>,
    /// The server wishes no request between its answer and this instant.
    pub(crate) forbidden_until: Option<Instant>,
    pub(crate) then: Then,
}

/// What became of the page after a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Then {
    Done,
    Again,
    GaveUp(Reason),
}

pub(crate) struct Crawled {
    pub(crate) begun: Instant,
    pub(crate) requests: Vec<Request>,
    pub(crate) most_tasks: usize,
}

impl Crawled {
    /// The requests that were sent though the crawler had been told that they must not be.
    pub(crate) fn forbidden(&self) -> Vec<&Request> {
        let told = |early: &&Request| {
            let windows = self.requests.iter().filter(|told| told.kind == early.kind);
            let mut windows =
                windows.filter_map(|told| Some((told.answered, told.forbidden_until?)));
            windows.any(|(told, until)| told < early.sent && early.sent < until)
        };
        self.requests.iter().filter(told).collect()
    }
}

/// A page on its way: a piece of data, until its turn comes.
struct Page {
    path: String,
    chain: Chain<Failure>,
}

type Log = Arc<Mutex<(Vec<Request>, usize)>>;

/// Crawls so many pages of each host.
pub(crate) async fn crawl(hosts: &[Host], pages: u32, manners: Manners) -> Crawled {
    let (begun, log) = (Instant::now(), Log::default());
    let group = Group::new();
    let of_visits = Arc::clone(&log);
    let pacer = Pacer::builder(Rate::per_second(150).burst(IN_FLIGHT))
        .overall(Rate::per_second(500).burst(20))
        .in_flight(IN_FLIGHT)
        .run(&group, move |page, turn| {
            visit(page, turn, manners, Arc::clone(&of_visits))
        });

    let backoff = Backoff::exponential(Duration::from_millis(100), Duration::from_secs(2));
    let backoff = backoff.jitter(Jitter::Equal);
    for host in hosts {
        let budget = Budget::percent(RETRIES.0).floor_per_second(RETRIES.1);
        let policy = Retry::new(move || backoff)
            .max_attempts(12)
            .max_delay(Duration::from_secs(30))
            .budget(&budget);
        for page in 0..pages {
            let page = Page {
                path: format!("/{page}"),
                chain: policy.chain(()),
            };
            pacer.push((host.kind, host.address), page);
        }
    }
    group.wait().await.expect("no visit panics");

    let (requests, most_tasks) = std::mem::take(&mut *log.lock().unwrap());
    Crawled {
        begun,
        requests,
        most_tasks,
    }
}

/// Makes one request for a page, and sees to what comes of it.
async fn visit(mut page: Page, turn: Turn<(Kind, SocketAddr), Page>, manners: Manners, log: Log) {
    let &(kind, address) = turn.key();
    let (sent, late) = (turn.context().deadline(), turn.at().elapsed());
    if page.chain.begin().is_err() {
        unreachable!("a policy without circuits and timeout lets every attempt begin");
    }
    let answer = client::get(address, &page.path).await;
    let status = answer.as_ref().ok().map(|answer| answer.status);
    let wish = answer.as_ref().ok().and_then(wish);
    let forbidden_until = wish.map(|wish| Instant::now() + wish);

    let outcome = judge(answer, wish.filter(|_| manners == Manners::Polite));
    let then = match page.chain.end(outcome) {
        Decision::Again(at) => {
            // Who is overloaded or down wants no other page asked for either.
            if manners == Manners::Polite && status != Some(StatusCode::INTERNAL_SERVER_ERROR) {
                turn.not_before(at);
            }
            turn.again(at, page);
            Then::Again
        }
        Decision::GaveUp(gave_up) => Then::GaveUp(gave_up.reason()),
        _ => Then::Done,
    };

    let answered = Instant::now();
    let tasks = runtime::Handle::current().metrics().num_alive_tasks();
    let mut log = log.lock().unwrap();
    log.1 = log.1.max(tasks);
    log.0.push(Request {
        kind,
        sent,
        answered,
        late,
        status,
        forbidden_until,
        then,
    });
}

/// How long the server wishes to be left alone.
fn wish(answer: &Answer) -> Option<Duration> {
    retry_after(answer.retry_after.as_ref()?, SystemTime::now())
}

fn judge(answer: Result<Answer, Failure>, wish: Option<Duration>) -> Outcome<(), Failure> {
    match (answer, wish) {
        (Err(broken), _) => Outcome::Retry(broken),
        (Ok(answer), _) if answer.status.is_success() => Outcome::Done(()),
        (Ok(answer), _) if answer.status == StatusCode::NOT_FOUND => {
            Outcome::GiveUp(Failure::Status(answer.status))
        }
        (Ok(answer), Some(wish)) => Outcome::RetryAfter(Failure::Status(answer.status), wish),
        (Ok(answer), None) => Outcome::Retry(Failure::Status(answer.status)),
    }
}
