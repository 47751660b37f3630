//! The task with the dispatcher: an item is queued under its key, starts at the rate, and is retried.

use std::time::Instant;

use backon::ExponentialBuilder;
use rate_limited_retries::{Dispatcher, Policy, Rate};
use schedgroup::Group;

pub(crate) struct Ours<W> {
    pub(crate) group: Group,
    dispatcher: Dispatcher<&'static str, W>,
}

impl<W, Fut> Ours<W>
where
    W: Fn(Instant) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<(), String>> + Send + 'static,
{
    pub(crate) fn new(rate: Rate, in_flight: u32) -> Ours<W> {
        let group = Group::new();
        let policy = Policy::new(ExponentialBuilder::default().with_jitter())
            .notify(|failure, pause| println!("{failure}: again in {pause:?}"));
        let dispatcher = Dispatcher::builder()
            .per_key(rate)
            .in_flight(in_flight)
            .run(&group, move |work: W, context| {
                let (policy, started) = (policy.clone(), context.started().into_std());
                async move {
                    if let Err(failure) = policy.attempt(work(started)).await {
                        if context.retry(&policy, work, &failure).is_err() {
                            println!("gave up: {failure}");
                        }
                    }
                }
            });
        Ours { group, dispatcher }
    }

    /// One item: a push.
    pub(crate) fn item(&self, key: &'static str, work: W) {
        self.dispatcher.try_push(key, work).expect("it is open");
    }
}
