//! What values show of themselves: `Debug`, and errors in a report.

use std::error::Error;
use std::fmt::{self, Debug};
use std::future::ready;
use std::hint::black_box;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::common::HOUR;
use rate_limited_retries::rate::{Limiter, Pacer, Rate};
use rate_limited_retries::retry::{Outcome, Retry};
use schedgroup::Group;
use tokio::sync::oneshot;

#[track_caller]
fn shows(value: &impl Debug, parts: &[&str]) {
    let text = format!("{value:?}");
    for part in parts {
        assert!(text.contains(part), "{part:?} is not in {text}");
    }
}

#[tokio::test(start_paused = true)]
async fn every_debug_shows_settings_and_counts() {
    let rate = Rate::per_second(3);
    let limiter = Limiter::new(rate).overall(rate);
    let _ = limiter.reserve(&'k', 1);
    shows(&limiter, &["Limiter", "per_key", "overall: Some", "len: 1"]);
    let group = Group::new();
    let (send, turn) = oneshot::channel();
    let send = Mutex::new(Some(send));
    let pacer = Pacer::builder(rate).run(&group, move |(), turn| {
        drop(send.lock().unwrap().take().unwrap().send(turn));
        async {}
    });
    pacer.push("host", ());
    shows(&pacer, &["Pacer", "waiting: 1", "keys: 1", "Handle"]);
    shows(&turn.await.unwrap(), &["Turn", "host", "at"]);

    let policy = Retry::new(|| [HOUR]).max_attempts(7);
    shows(&policy, &["Retry", "max_attempts: Some(7)", "budget: None"]);
    let chain = policy.chain::<()>(());
    shows(&chain, &["Chain", "attempts: 0", "under_way: false"]);
    let tried = policy.run(&group, |_| async { Outcome::<_, ()>::Done(()) });
    shows(&tried, &["RetryHandle", "JobHandle"]);
}

/// The quickest of many calls: a busy machine makes some of them slow, never all.
fn quickest(mut call: impl FnMut()) -> Duration {
    let calls = (0..100).map(|_| {
        let start = Instant::now();
        call();
        start.elapsed()
    });
    calls.min().unwrap_or_default()
}

/// A hundred times the keys, and the same cost but for what the caches make of it.
#[tokio::test(start_paused = true)]
async fn debug_of_a_pacer_costs_the_same_however_much_waits() {
    let group = Group::new();
    let pacer = |keys: u64| {
        let pacer = Pacer::builder(Rate::per_second(1)).run(&group, |_: u64, _| async {});
        (0..keys).for_each(|work| pacer.push(work, work));
        pacer
    };
    let [of_few, of_many] = [500, 50_000].map(|keys| {
        let pacer = pacer(keys);
        quickest(|| drop(black_box(format!("{pacer:?}"))))
    });
    let most = 10 * of_few + Duration::from_micros(10);
    assert!(of_many <= most, "{of_few:?} and {of_many:?}");
}

#[derive(Debug)]
struct NoRoute;

impl fmt::Display for NoRoute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no route")
    }
}

impl Error for NoRoute {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&CableCut)
    }
}

#[derive(Debug)]
struct CableCut;

impl fmt::Display for CableCut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("cable cut")
    }
}

impl Error for CableCut {}

#[tokio::test(start_paused = true)]
async fn a_chain_of_errors_tells_each_text_once() {
    let group = Group::new();
    let retry = Retry::new(|| [Duration::ZERO]);
    let tried = retry.run(&group, |_| ready(Outcome::<(), _>::Retry(NoRoute)));
    let error = tried.await.unwrap_err();
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    for part in ["no route", "cable cut", "gave up"] {
        assert_eq!(text.matches(part).count(), 1, "{part:?} in {text:?}");
    }
}
