//! Timeouts: for each contender, a job that is cancelled when the work is done; and the timeout futures of two crates.

use std::future::Future;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::contender::Contender;

pub(crate) trait Timeouts: Send + Sync + 'static {
    fn new() -> Self;
    /// Runs `work` for at most `limit`, and returns whether it was done by then.
    fn within(
        &self,
        limit: Duration,
        work: impl Future<Output = ()> + Send,
    ) -> impl Future<Output = bool> + Send;
}

impl<C: Contender> Timeouts for C {
    fn new() -> C {
        C::new()
    }

    async fn within(&self, limit: Duration, work: impl Future<Output = ()> + Send) -> bool {
        let (alarm, elapsed) = oneshot::channel();
        let timer = self.schedule(Instant::now() + limit, async move {
            // Fails if the work was done first.
            let _ = alarm.send(());
        });
        let done = tokio::select! {
            biased;
            () = work => true,
            _ = elapsed => false,
        };
        // The key of an entry that has left a `DelayQueue` may be another's by now.
        if done {
            self.cancel(&timer);
        }
        self.reap();
        done
    }
}

/// `tokio::time::timeout`.
pub(crate) struct OfTokio;

impl Timeouts for OfTokio {
    fn new() -> OfTokio {
        OfTokio
    }

    async fn within(&self, limit: Duration, work: impl Future<Output = ()> + Send) -> bool {
        tokio::time::timeout(limit, work).await.is_ok()
    }
}

/// pingora-timeout's, whose timers are rounded up to 10 ms and shared.
pub(crate) struct OfPingora;

impl Timeouts for OfPingora {
    fn new() -> OfPingora {
        OfPingora
    }

    async fn within(&self, limit: Duration, work: impl Future<Output = ()> + Send) -> bool {
        pingora_timeout::timeout(limit, work).await.is_ok()
    }
}
