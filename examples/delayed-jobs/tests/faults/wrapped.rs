//! A store around another one, in which a test notices each call.

use std::sync::atomic::{AtomicBool, Ordering};

use delayed_jobs::store::{
    Answer, Asked, Claim, Ended, Lease, Lot, NewJob, Reclaimed, ScheduleSpec, Slot, Store,
};
use delayed_jobs::{
    Change, Clock, Counts, Enqueued, Filter, Found, Limit, Micros, QueueRow, ScheduleRow, Search,
    WorkerRow,
};
use tokio::sync::watch;
use tokio::time::sleep;

use super::*;

/// Whether a call begins, or has been answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum When {
    Before,
    After,
}

/// Told of each call by its name. Answers are held back for what it returns.
type Hook = Box<dyn Fn(When, &str) -> Duration + Send + Sync>;

pub(super) struct Wrapped {
    store: Arc<dyn Store>,
    hook: Hook,
    /// Calls of this name do what they should, and say that they have failed.
    broken: &'static str,
    /// Calls of this name fail, and do nothing.
    refused: &'static str,
    /// Meanwhile all calls fail, and do nothing.
    is_out: Arc<AtomicBool>,
    /// Meanwhile all calls do nothing, and get no answer.
    is_silent: Arc<AtomicBool>,
    /// Workers are not told of changes.
    is_deaf: bool,
}

impl Wrapped {
    fn new(store: &Arc<dyn Store>) -> Wrapped {
        Wrapped {
            store: Arc::clone(store),
            hook: Box::new(|_, _| Duration::ZERO),
            broken: "",
            refused: "",
            is_out: Arc::default(),
            is_silent: Arc::default(),
            is_deaf: false,
        }
    }

    fn opened(self) -> Queue {
        Queue::on(Arc::new(self))
    }

    pub(super) fn broken(store: &Arc<dyn Store>, broken: &'static str) -> Queue {
        let wrapped = Wrapped::new(store);
        Wrapped { broken, ..wrapped }.opened()
    }

    pub(super) fn refusing(store: &Arc<dyn Store>, refused: &'static str) -> Queue {
        let wrapped = Wrapped::new(store);
        Wrapped { refused, ..wrapped }.opened()
    }

    pub(super) fn with_outages(store: &Arc<dyn Store>, is_out: &Arc<AtomicBool>) -> Queue {
        let (wrapped, is_out) = (Wrapped::new(store), Arc::clone(is_out));
        Wrapped { is_out, ..wrapped }.opened()
    }

    pub(super) fn with_silences(store: &Arc<dyn Store>, is_silent: &Arc<AtomicBool>) -> Queue {
        let (wrapped, is_silent) = (Wrapped::new(store), Arc::clone(is_silent));
        Wrapped {
            is_silent,
            ..wrapped
        }
        .opened()
    }

    pub(super) fn deaf(store: &Arc<dyn Store>) -> Queue {
        let wrapped = Wrapped::new(store);
        let is_deaf = true;
        Wrapped { is_deaf, ..wrapped }.opened()
    }

    pub(super) fn queue(
        store: &Arc<dyn Store>,
        hook: impl Fn(When, &str) -> Duration + Send + Sync + 'static,
    ) -> Queue {
        let (wrapped, hook) = (Wrapped::new(store), Box::new(hook));
        Wrapped { hook, ..wrapped }.opened()
    }
}

impl std::fmt::Debug for Wrapped {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.store.fmt(f)
    }
}

macro_rules! forward {
    ($($name:ident($($arg:ident: $type:ty),*) -> $answer:ty;)*) => {
        impl Store for Wrapped {
            $(fn $name(&self, $($arg: $type),*) -> Answer<'_, $answer> {
                if self.is_out.load(Ordering::SeqCst) || self.refused == stringify!($name) {
                    return Box::pin(async { Err(StoreError::Closed) });
                }
                if self.is_silent.load(Ordering::SeqCst) {
                    return Box::pin(std::future::pending());
                }
                (self.hook)(When::Before, stringify!($name));
                let answer = self.store.$name($($arg),*);
                Box::pin(async move {
                    let answer = answer.await;
                    sleep((self.hook)(When::After, stringify!($name))).await;
                    match self.broken == stringify!($name) {
                        true => Err(StoreError::Closed),
                        false => answer,
                    }
                })
            })*

            fn clock(&self) -> Clock {
                self.store.clock()
            }

            fn apart(&self) -> Option<Arc<dyn Store>> {
                self.store.apart()
            }

            fn schema(&self) -> Option<&str> {
                self.store.schema()
            }

            fn changes(&self) -> watch::Receiver<u64> {
                match self.is_deaf {
                    true => watch::channel(0).1,
                    false => self.store.changes(),
                }
            }
        }
    };
}

forward! {
    enqueue(jobs: Vec<NewJob>) -> Vec<Enqueued>;
    ahead(queue: &str, after: Micros, until: Micros, limit: usize) -> Vec<(Micros, JobId)>;
    claim(claim: Claim) -> Lot;
    finish(ended: Ended) -> bool;
    renew(leases: Vec<Lease>, until: Micros) -> Vec<JobId>;
    held_by(worker: &str) -> Vec<Lease>;
    asked_to_cancel(worker: &str) -> Vec<JobId>;
    reclaim(now: Micros, crashes: u32) -> Vec<Reclaimed>;
    next_suspect(queues: &[String], kinds: &[String], crashes: u32) -> Option<(Micros, String)>;
    share(lease: Lease) -> bool;
    next_expiry(worker: &str) -> Option<Micros>;
    progress(lease: Lease, percent: u8) -> bool;
    cancel(id: JobId, now: Micros) -> Asked;
    retry(id: JobId, now: Micros) -> Asked;
    get(id: JobId) -> Option<Record>;
    list(filter: Filter) -> Vec<Record>;
    search(search: Search) -> Found;
    count(filter: Filter) -> u64;
    counts() -> Counts;
    queues() -> Vec<QueueRow>;
    beat(worker: WorkerRow, now: Micros) -> ();
    leave(worker: &str) -> ();
    workers(now: Micros) -> Vec<WorkerRow>;
    schedules() -> Vec<ScheduleRow>;
    pause(queue: &str) -> ();
    resume(queue: &str) -> ();
    set_limit(queue: &str, limit: Limit) -> ();
    limits() -> Vec<(String, Limit)>;
    declare(schedule: ScheduleSpec) -> ();
    pause_schedule(schedule: &str, paused: bool) -> bool;
    run_schedule(schedule: &str, now: Micros) -> Option<(JobId, String)>;
    last_slot(schedule: &str) -> Option<Micros>;
    fill_slot(slot: Slot) -> bool;
    change(change: Change, filter: Filter, now: Micros) -> Vec<JobId>;
    set_clock() -> i64;
}
