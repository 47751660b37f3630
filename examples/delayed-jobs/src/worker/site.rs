//! A store, and the workers on it in this process.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use super::engine::Engine;
use crate::job::JobId;
use crate::store::Store;
use crate::time::Micros;

/// What the queue's handles and the workers share, so that a job enqueued here is known here at once.
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

    fn lock(&self) -> MutexGuard<'_, Vec<Weak<Engine>>> {
        self.engines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn join(&self, engine: &Arc<Engine>) {
        let mut engines = self.lock();
        engines.retain(|known| known.strong_count() > 0);
        engines.push(Arc::downgrade(engine));
    }

    fn engines(&self) -> Vec<Arc<Engine>> {
        self.lock().iter().filter_map(Weak::upgrade).collect()
    }

    /// A job of `queue` will be due.
    pub(crate) fn hint(&self, queue: &str, id: JobId, at: Micros) {
        for engine in self.engines() {
            engine.hint_for(queue, id, at);
        }
    }

    /// A running job is to be cancelled; the worker that has it should know.
    pub(crate) fn cancel(&self, id: JobId) {
        for engine in self.engines() {
            engine.cancel(id);
        }
    }

    /// Something changed that a look finds: limits, schedules.
    pub(crate) fn look_again(&self) {
        for engine in self.engines() {
            engine.look_after(Duration::ZERO);
        }
    }

    /// Something changed that may let jobs run.
    pub(crate) fn look(&self) {
        for engine in self.engines() {
            engine.ring_all();
        }
    }
}
