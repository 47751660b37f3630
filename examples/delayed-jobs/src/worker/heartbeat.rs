//! Heartbeats on their own thread and runtime, so that jobs whose handlers block do not lose their leases.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{MissedTickBehavior, interval};

use super::engine::Engine;

/// The longest time between two heartbeats, however long the lease is.
pub(super) const SELDOM: Duration = Duration::from_secs(24 * 3600);

/// A runtime that runs no task of the worker for longer than this is blocked.
const BLOCKED: Duration = Duration::from_secs(1);

/// The thread of the heartbeats, which ends when this is dropped.
pub(super) struct Heartbeat {
    _stop: oneshot::Sender<()>,
}

impl Heartbeat {
    /// Starts the thread. Returns `None` if the store cannot be used from another runtime, like the one in memory.
    pub(super) fn start(engine: &Arc<Engine>) -> Option<Heartbeat> {
        let store = engine.store.apart()?;
        let engine = Arc::clone(engine);
        let (stop, stopped) = oneshot::channel();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        let runtime = runtime.ok()?;
        let begun = u64::try_from(engine.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        engine.alive.store(begun, Ordering::SeqCst);
        let work = async move {
            let mut beats = interval((engine.settings.lease / 3).min(SELDOM));
            beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
            let mut looks = interval(BLOCKED / 2);
            looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            let mut said = false;
            loop {
                tokio::select! {
                    _ = beats.tick() => engine.renew(&*store).await,
                    // After a standstill no handler is to blame.
                    _ = looks.tick() => if !engine.watch_standstill() {
                        said = watch(&engine, said);
                    },
                }
            }
        };
        let run = move || {
            runtime.block_on(async {
                tokio::select! {
                    () = work => {}
                    _ = stopped => {}
                }
            });
            // Requests to a server that does not answer are not waited for.
            runtime.shutdown_background();
        };
        let thread = thread::Builder::new().name("jobs-heartbeat".to_owned());
        thread.spawn(run).ok()?;
        Some(Heartbeat { _stop: stop })
    }
}

/// Logs once when the runtime is blocked, and once when it is not any more.
fn watch(engine: &Engine, said: bool) -> bool {
    let now = engine.begun.elapsed();
    let silent = now.saturating_sub(Duration::from_millis(engine.pulse.load(Ordering::Relaxed)));
    let is_blocked = silent > BLOCKED;
    if is_blocked && !said {
        tracing::warn!(
            ?silent,
            "handlers block the runtime, so jobs are late: run what blocks in `spawn_blocking`"
        );
    }
    is_blocked
}
