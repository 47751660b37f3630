//! A store and the workers on it in this process.

use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use super::engine::Engine;
use crate::job::JobId;
use crate::lock::lock;
use crate::store::Store;
use crate::time::Micros;

/// The state that the handles of a queue and its workers share, so that a worker knows at once of a job that was
/// enqueued in this process.
#[derive(Debug)]
pub(crate) struct Site {
    pub(crate) store: Arc<dyn Store>,
    engines: Mutex<Vec<Weak<Engine>>>,
}

impl Site {
    pub(crate) fn new(store: Arc<dyn Store>) -> Site {
        Site {
            store,
            engines: Mutex::default(),
        }
    }

    pub(super) fn join(&self, engine: &Arc<Engine>) {
        let mut engines = lock(&self.engines);
        engines.retain(|known| known.strong_count() > 0);
        engines.push(Arc::downgrade(engine));
    }

    fn engines(&self) -> Vec<Arc<Engine>> {
        lock(&self.engines)
            .iter()
            .filter_map(Weak::upgrade)
            .collect()
    }

    /// Tells the workers that a job of `queue` will be due at `at`.
    pub(crate) fn hint(&self, queue: &str, id: JobId, at: Micros) {
        for engine in self.engines() {
            engine.hint_for(queue, id, at);
        }
    }

    /// Tells the worker that runs a job to cancel it.
    pub(crate) fn cancel(&self, id: JobId) {
        for engine in self.engines() {
            engine.cancel(id);
        }
    }

    /// Makes the workers look at the store, since limits or schedules have changed.
    pub(crate) fn request_looks(&self) {
        for engine in self.engines() {
            engine.look_after(Duration::ZERO);
        }
    }

    /// Makes the workers claim, since a change may let jobs run.
    pub(crate) fn request_claims(&self) {
        for engine in self.engines() {
            engine.request_all_claims();
        }
    }
}
