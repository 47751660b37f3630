//! The crawl: URLs wait in the queues of a dispatcher, and come again by a policy.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant as StdInstant};

use backon::ExponentialBuilder;
use rate_limited_retries::{Context, Dispatcher, Drained, Failure, Policy, Rate, Reason, Stats};
use schedgroup::Group;
use schedgroup::flow::Verdict;
use tokio::time::Instant;
use tower::retry::budget::TpsBudget;

use super::client::{self, Refusal};
use super::server::{Host, most_in};

/// How many URLs of one host are fetched at a time.
pub(crate) const IN_FLIGHT: u32 = 8;
/// A host that fails so often in a row is given up.
const HOPELESS: u32 = 10;
const ATTEMPT: Duration = Duration::from_millis(1_000);
/// How long a crawl that is stopped goes on with what is queued.
pub(crate) const GRACE: Duration = Duration::from_secs(5);

/// What the hosts allow, as they see it.
pub(crate) fn allowed() -> Rate {
    Rate::per_second(40).burst(4)
}

/// A little less: on its way a request takes now longer and now shorter than the one before.
pub(crate) fn per_host() -> Rate {
    Rate::per_second(38).burst(2)
}

pub(crate) fn overall() -> Rate {
    Rate::per_second(1_500).burst(20)
}

/// A budget for each host: one retry for five successes of the last ten seconds, and five a second besides.
fn budget() -> Arc<TpsBudget> {
    Arc::new(TpsBudget::new(Duration::from_secs(10), 5, 0.2))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manners {
    Polite,
    /// Never minds what `Retry-After` says.
    Rude,
}

/// Counts of requests and URLs by outcome.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) done: usize,
    /// By cause.
    pub(crate) retried: BTreeMap<String, usize>,
    /// By reason.
    pub(crate) gave_up: BTreeMap<String, usize>,
    /// Of hosts that were given up.
    pub(crate) skipped: usize,
    pub(crate) latest: Duration,
}

impl Counts {
    pub(crate) fn ended(&self) -> usize {
        self.done + self.gave_up.values().sum::<usize>() + self.skipped
    }
}

/// What is known of a host.
struct Visited {
    host: Host,
    policy: Policy<Refusal>,
    /// When each `Retry-After` was passed to the dispatcher.
    told: Mutex<Vec<Instant>>,
    failures: Mutex<u32>,
    /// The starts of its URLs, by the clock of the dispatcher.
    starts: Mutex<Vec<StdInstant>>,
}

impl Visited {
    /// Returns the most starts in any period of the rate.
    fn most_starts(&self) -> u64 {
        let mut starts = self.starts.lock().unwrap().clone();
        // Work that starts at the same time on several threads notes its start in any order.
        starts.sort_unstable();
        most_in(per_host().period(), &starts)
    }
}

pub(crate) struct Crawled {
    pub(crate) length: Duration,
    pub(crate) counts: Counts,
    pub(crate) stats: Stats,
    /// What was queued when the crawl was stopped, if it was.
    pub(crate) drained: Option<Drained<usize, String>>,
    pub(crate) most_tasks: usize,
    /// The most starts of one host in any period of its rate, by the clock of the dispatcher, which charges them.
    pub(crate) most_starts: u64,
}

/// Crawls `urls` URLs of each host; `live` is called each second with the progress, and `stop` ends it early.
pub(crate) async fn crawl(
    hosts: &[Host],
    urls: usize,
    manners: Manners,
    live: impl Fn(&Counts, &Stats, Duration),
    stop: impl Future<Output = ()>,
) -> Crawled {
    let (begun, group) = (StdInstant::now(), Group::new());
    let counts = Arc::new(Mutex::new(Counts::default()));
    let visited = hosts.iter().map(|host| Visited {
        host: host.clone(),
        policy: policy(manners, &counts),
        told: Mutex::default(),
        failures: Mutex::default(),
        starts: Mutex::default(),
    });
    let visited: Arc<[Visited]> = visited.collect();
    let (of_visits, all_visited) = (Arc::clone(&counts), Arc::clone(&visited));
    let dispatcher = Dispatcher::builder()
        .per_key(per_host())
        .overall(overall())
        .in_flight(IN_FLIGHT)
        .run(&group, move |url, context| {
            visit(
                Arc::clone(&all_visited),
                url,
                context,
                Arc::clone(&of_visits),
            )
        });
    // As links are found: from host to host.
    for url in 0..urls {
        for host in 0..hosts.len() {
            let pushed = dispatcher.push(host, format!("/{url}")).await;
            pushed.expect("the crawl has not ended");
        }
    }

    let mut most_tasks = 0;
    let (all, mut stop) = (urls * hosts.len(), std::pin::pin!(stop));
    let mut tick = tokio::time::interval(Duration::from_millis(100));
    let drained = loop {
        tokio::select! {
            () = &mut stop => break Some(dispatcher.drain(GRACE).await),
            now = tick.tick() => {
                let tasks = tokio::runtime::Handle::current().metrics().num_alive_tasks();
                most_tasks = most_tasks.max(tasks);
                let counts = counts.lock().unwrap().clone();
                if now.into_std().duration_since(begun).subsec_millis() < 100 {
                    live(&counts, &dispatcher.stats(), begun.elapsed());
                }
                if counts.ended() == all {
                    break None;
                }
            }
        }
    };
    group.drain(Duration::from_secs(2)).await;
    let counts = counts.lock().unwrap().clone();
    Crawled {
        length: begun.elapsed(),
        counts,
        stats: dispatcher.stats(),
        drained,
        most_tasks,
        most_starts: visited.iter().map(Visited::most_starts).max().unwrap_or(0),
    }
}

fn policy(manners: Manners, counts: &Arc<Mutex<Counts>>) -> Policy<Refusal> {
    let backoff = ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(100))
        .with_max_delay(Duration::from_secs(2))
        .with_max_times(8)
        .with_jitter();
    let counts = Arc::clone(counts);
    Policy::new(backoff)
        .when(move |refusal| match *refusal {
            Refusal::Status(status, Some(after))
                if manners == Manners::Polite && matches!(status.as_u16(), 429 | 503) =>
            {
                Verdict::RetryAfter(after)
            }
            Refusal::Status(status, _) if status.is_client_error() && status != 429 => {
                Verdict::Stop
            }
            _ => Verdict::Retry,
        })
        .max_retry_after(Duration::from_secs(30))
        .attempt_timeout(ATTEMPT)
        .budget(budget())
        .notify(move |failure, _| {
            let mut counts = counts.lock().unwrap();
            *counts.retried.entry(cause(failure)).or_default() += 1;
        })
}

fn cause(failure: &Failure<Refusal>) -> String {
    match failure {
        Failure::Error(Refusal::Status(status, _)) => status.as_str().to_owned(),
        Failure::Error(Refusal::Broken(_)) => "no connection".to_owned(),
        _ => "timeout".to_owned(),
    }
}

/// Makes one request for a URL, and sees to what comes of it.
async fn visit(
    visited: Arc<[Visited]>,
    url: String,
    context: Context<usize, String>,
    counts: Arc<Mutex<Counts>>,
) {
    let Visited {
        host,
        policy,
        told,
        failures,
        starts,
    } = &visited[*context.key()];
    let started = context.started();
    let late = started - context.at();
    starts.lock().unwrap().push(started.into_std());
    if *failures.lock().unwrap() >= HOPELESS {
        counts.lock().unwrap().skipped += 1;
        return;
    }
    // What this start could know: a start is no earlier than a hold that was set before it.
    let known = told
        .lock()
        .unwrap()
        .iter()
        .filter(|at| **at < started)
        .count();
    let result = policy.attempt(client::get(host.address, &url, known)).await;

    let Err(failure) = result else {
        *failures.lock().unwrap() = 0;
        let mut counts = counts.lock().unwrap();
        counts.done += 1;
        counts.latest = counts.latest.max(late);
        return;
    };
    let is_told = matches!(failure, Failure::Error(Refusal::Status(_, Some(_))));
    if !is_told {
        *failures.lock().unwrap() += 1;
    }
    let retried = context.retry(policy, url, &failure);
    if is_told {
        told.lock().unwrap().push(Instant::now());
    }
    if let Err(gave_up) = retried {
        let reason = match gave_up.reason {
            Reason::Closed => "stopped".to_owned(),
            reason => reason.to_string(),
        };
        let mut counts = counts.lock().unwrap();
        *counts.gave_up.entry(reason).or_default() += 1;
    }
}
