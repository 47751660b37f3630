//! The same task with kept crates: a task for each item, which waits for a slot of its key, then for the rate, and is
//! retried by backon.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use backon::{ExponentialBuilder, Retryable};
use governor::clock::DefaultClock;
use governor::middleware::NoOpMiddleware;
use governor::state::keyed::HashMapStateStore;
use governor::{Quota, RateLimiter};
use rate_limited_retries::Rate;
use tokio::sync::Semaphore;

type Limiter =
    RateLimiter<&'static str, HashMapStateStore<&'static str>, DefaultClock, NoOpMiddleware>;

pub(crate) struct Peers {
    limiter: Arc<Limiter>,
    /// Without it all waiting tasks would wake up for each start.
    slots: Mutex<HashMap<&'static str, Arc<Semaphore>>>,
    in_flight: usize,
}

impl Peers {
    pub(crate) fn new(rate: Rate, in_flight: usize) -> Peers {
        let each = rate.period() / rate.count();
        let burst = NonZeroU32::new(rate.burst_size()).expect("a burst is not zero");
        let quota = Quota::with_period(each).expect("a period is not zero");
        Peers {
            limiter: Arc::new(RateLimiter::hashmap(quota.allow_burst(burst))),
            slots: Mutex::default(),
            in_flight,
        }
    }

    /// One item: the whole of its life, for a task.
    pub(crate) fn item<F, Fut>(
        &self,
        key: &'static str,
        work: F,
    ) -> impl Future<Output = ()> + Send + use<F, Fut>
    where
        F: Fn(Instant) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), String>> + Send + 'static,
    {
        let mut slots = self.slots.lock().expect("no holder panics");
        let slot = slots.entry(key);
        let slot = slot.or_insert_with(|| Arc::new(Semaphore::new(self.in_flight)));
        let (slot, limiter) = (Arc::clone(slot), Arc::clone(&self.limiter));
        async move {
            let attempt = || async {
                let _slot = slot.acquire().await.map_err(|error| error.to_string())?;
                limiter.until_key_ready(&key).await;
                work(Instant::now()).await
            };
            let retried = attempt
                .retry(ExponentialBuilder::default().with_jitter())
                .sleep(tokio::time::sleep)
                .notify(|error, pause| println!("{error}: again in {pause:?}"));
            if let Err(error) = retried.await {
                println!("gave up: {error}");
            }
        }
    }
}
