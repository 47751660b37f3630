//! What users hand in is dropped under no lock of ours: a destructor may call back into the group.
//!
//! Where it may not, it blocks for good, and `watched` says so.

use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::time::Duration;

use schedgroup::{Group, Handle, JobError, JobHandle, JoinHandle, Next};
use tokio::time::Instant;

use crate::common::{
    Flag, HOUR, Hold, Log, OnDrop, bounded, ms, on_both, runtimes, until, watched,
};

/// A group, and values whose destructors call back into it.
struct Callbacks {
    group: Option<Arc<Group>>,
    flag: Flag,
}

impl Callbacks {
    fn new() -> Callbacks {
        Callbacks::of(Group::builder())
    }

    fn of(builder: schedgroup::Builder) -> Callbacks {
        Callbacks {
            group: Some(Arc::new(builder.build())),
            flag: Flag::new(),
        }
    }

    fn group(&self) -> &Group {
        self.group.as_ref().unwrap()
    }

    /// A value that makes use of everything when it is dropped.
    fn value(&self) -> impl Send + use<> {
        let group = Arc::downgrade(self.group.as_ref().unwrap());
        let handle = self.group().handle();
        let mut others = [(); 4].map(|()| Some(self.group().delay(HOUR, async {})));
        let guard = self.flag.guard();
        OnDrop(move || {
            let _counted = &guard;
            let clone = handle.clone();
            // Rejected or not: it must come back.
            drop(clone.try_delay(HOUR, async {}));
            let [cancelled, moved, aborted, asked] =
                [0, 1, 2, 3].map(|n| others[n].take().unwrap());
            cancelled.cancel();
            moved.reset_after(ms(1));
            aborted.abort();
            drop(format!("{:?} {:?}", asked.state(), asked.deadline()));
            ask(&group);
        })
    }

    async fn dropped(&self, what: &str) {
        until(what, || self.flag.drops() == 1).await;
    }
}

fn ask(group: &Weak<Group>) {
    if let Some(group) = group.upgrade() {
        drop(format!("{:?}", group.stats()));
        group.token().is_cancelled();
    }
}

async fn job_with(value: impl Send + 'static) {
    drop(value);
}

/// Runs until it is stopped, and holds the value.
fn endless<T: Send + 'static>(value: T, hold: &Hold) -> impl Future<Output = ()> + Send + use<T> {
    let held = hold.job();
    async move {
        held.await;
        drop(value);
    }
}

#[test]
fn of_a_job_at_the_end_of_its_run() {
    on_both(|| async {
        let callbacks = Callbacks::new();
        callbacks
            .group()
            .delay(Duration::ZERO, job_with(callbacks.value()));
        callbacks.dropped("a job's own").await;
        // A future that ends with what it captured, rather than with what it dropped itself.
        let callbacks = Callbacks::new();
        let value = callbacks.value();
        callbacks.group().delay(Duration::ZERO, async move {
            let _to_the_end = &value;
        });
        callbacks.dropped("a job's captures").await;
    });
}

#[test]
fn of_a_pending_job_that_is_cancelled_or_aborted() {
    on_both(|| async {
        for aborts in [true, false] {
            let callbacks = Callbacks::new();
            let job = callbacks.group().delay(HOUR, job_with(callbacks.value()));
            if aborts {
                job.abort();
            } else {
                assert!(job.cancel());
            }
            assert_eq!(callbacks.flag.drops(), 1, "aborts: {aborts}");
        }
    });
}

#[test]
fn of_a_job_that_waits_for_a_slot() {
    on_both(|| async {
        let callbacks = Callbacks::of(Group::builder().max_running(1));
        let hold = Hold::new();
        callbacks.group().delay(Duration::ZERO, hold.job());
        hold.started().await;
        let job = callbacks
            .group()
            .delay(Duration::ZERO, job_with(callbacks.value()));
        until("it waits", || callbacks.group().stats().waiting == 1).await;
        assert!(job.cancel());
        assert_eq!(callbacks.flag.drops(), 1);
        hold.release();
    });
}

#[test]
fn of_a_running_job_that_is_aborted() {
    on_both(|| async {
        let (callbacks, hold) = (Callbacks::new(), Hold::new());
        let job = endless(callbacks.value(), &hold);
        let job = callbacks.group().delay(Duration::ZERO, job);
        hold.started().await;
        job.abort();
        callbacks.dropped("of an aborted job").await;
    });
}

/// Pending and running jobs, in each way that a group ends.
#[test]
fn of_the_jobs_of_a_group_that_ends() {
    on_both(|| async {
        for way in ["cancel", "token", "shutdown", "drop"] {
            for pending in [true, false] {
                let (mut callbacks, hold) = (Callbacks::new(), Hold::new());
                let value = callbacks.value();
                if pending {
                    callbacks.group().delay(HOUR, job_with(value));
                } else {
                    let job = endless(value, &hold);
                    callbacks.group().delay(Duration::ZERO, job);
                    hold.started().await;
                }
                match way {
                    "cancel" => callbacks.group().cancel(),
                    "token" => callbacks.group().token().cancel(),
                    "shutdown" => {
                        let report = callbacks.group().shutdown(Duration::ZERO).await;
                        let aborted = usize::from(!pending);
                        assert_eq!(report.aborted, aborted, "{report:?}");
                    }
                    _ => callbacks.group = None,
                }
                // A cancel does not interrupt what runs.
                hold.release();
                callbacks.dropped(way).await;
            }
        }
    });
}

#[test]
fn of_the_closures_that_make_jobs() {
    on_both(|| async {
        // One that is called, one that is cancelled, a series that ends, one that is cancelled.
        for runs in [true, false] {
            let callbacks = Callbacks::new();
            let value = callbacks.value();
            let at = if runs { Duration::ZERO } else { HOUR };
            let job = callbacks
                .group()
                .delay_with(at, move |_| async move { drop(value) });
            assert_eq!(!runs && job.cancel(), !runs);
            callbacks.dropped("delay_with").await;

            let callbacks = Callbacks::new();
            let value = callbacks.value();
            let job = callbacks.group().repeat(Instant::now() + at, move |_| {
                let _held_by_the_series = &value;
                async { Next::Done }
            });
            assert_eq!(!runs && job.cancel(), !runs);
            callbacks.dropped("repeat").await;
        }
    });
}

#[test]
fn of_a_series_that_is_cancelled_while_it_runs() {
    on_both(|| async {
        let (callbacks, hold) = (Callbacks::new(), Hold::new());
        let (value, held) = (callbacks.value(), hold.clone());
        let job = callbacks.group().repeat(Instant::now(), move |_| {
            let _held_by_the_series = &value;
            let run = held.job();
            async move {
                run.await;
                Next::After(Duration::ZERO)
            }
        });
        hold.started().await;
        assert!(job.cancel());
        hold.release();
        callbacks.dropped("a cancelled series").await;
    });
}

#[test]
fn of_a_jobs_value() {
    on_both(|| async {
        for taken in [true, false] {
            let callbacks = Callbacks::new();
            let value = callbacks.value();
            let join = callbacks
                .group()
                .spawn_after(Duration::ZERO, async move { value });
            if taken {
                drop(join.await.unwrap());
            } else {
                drop(join);
            }
            callbacks.dropped("a value").await;
        }
    });
}

/// The group's first panic is kept until somebody asks, a later one is dropped at once.
#[test]
fn of_what_a_panic_carries() {
    on_both(|| async {
        let first = Callbacks::new();
        let second = Callbacks {
            group: first.group.clone(),
            flag: Flag::new(),
        };
        let (value, other) = (first.value(), second.value());
        let panicked = first.group().spawn_after(Duration::ZERO, async move {
            std::panic::resume_unwind(Box::new(value));
        });
        let Err(JobError::Panicked(panic)) = panicked.await else {
            panic!("it panicked");
        };
        first.group().delay(Duration::ZERO, async move {
            std::panic::resume_unwind(Box::new(other));
        });
        second.dropped("the second's").await;
        assert_eq!(first.flag.drops(), 0, "nobody has asked");
        drop(panic.into_payload());
        assert_eq!(first.flag.drops(), 1);
    });
}

#[test]
fn of_a_job_that_is_rejected() {
    on_both(|| async {
        let callbacks = Callbacks::new();
        let value = callbacks.value();
        callbacks.group().cancel();
        callbacks.group().delay(HOUR, job_with(value));
        assert_eq!(callbacks.flag.drops(), 1);

        let callbacks = Callbacks::new();
        let value = callbacks.value();
        let wait = callbacks.group().wait();
        let rejected = callbacks.group().try_delay(HOUR, job_with(value));
        drop(rejected.unwrap_err());
        assert_eq!(callbacks.flag.drops(), 1);
        drop(wait);
    });
}

#[test]
fn of_the_jobs_of_a_runtime_that_ends() {
    watched(|| {
        for (flavour, runtime) in runtimes() {
            let callbacks = Callbacks::of(Group::builder().runtime(runtime.handle().clone()));
            let hold = Hold::new();
            callbacks.group().delay(HOUR, job_with(callbacks.value()));
            let job = endless(callbacks.value(), &hold);
            callbacks.group().delay(Duration::ZERO, job);
            runtime.block_on(bounded(hold.started()));
            drop(runtime);
            assert_eq!(callbacks.flag.drops(), 2, "{flavour}");
        }
    });
}

/// The last `Handle`, the group itself and the job's own handle may all go in a destructor.
#[test]
fn that_drop_the_group_and_its_handles() {
    on_both(|| async {
        let group = Arc::new(std::sync::Mutex::new(None::<Group>));
        let flag = Flag::new();
        let (inner, guard) = (Arc::clone(&group), flag.guard());
        let made = Group::new();
        let mut own = vec![made.handle()];
        let bomb = OnDrop(move || {
            let _counted = &guard;
            own.clear();
            drop(inner.lock().unwrap().take());
        });
        let job: JobHandle = made.delay(HOUR, job_with(bomb));
        *group.lock().unwrap() = Some(made);
        assert!(job.cancel());
        assert_eq!(flag.drops(), 1);
    });
}

/// A waker is a user's value too.
#[test]
fn wakers_of_wait_are_woken_and_dropped_outside_the_lock() {
    struct Calls(Weak<Group>, Flag);
    impl std::task::Wake for Calls {
        fn wake(self: Arc<Self>) {
            ask(&self.0);
            drop(self.1.guard());
        }
    }
    on_both(|| async {
        let group = Arc::new(Group::new());
        let flag = Flag::new();
        let job = group.delay(HOUR, async {});
        let mut wait = Box::pin(group.wait());
        let waker = Arc::new(Calls(Arc::downgrade(&group), flag.clone())).into();
        let mut cx = std::task::Context::from_waker(&waker);
        assert!(wait.as_mut().poll(&mut cx).is_pending());
        assert!(job.cancel());
        until("woken", || flag.drops() > 0).await;
        wait.await.unwrap();
    });
}

/// Looks in its destructor whether the value of its own job is there already.
struct Looks {
    value: Arc<Mutex<Option<JoinHandle<()>>>>,
    found: Arc<Mutex<Option<bool>>>,
}

impl Drop for Looks {
    fn drop(&mut self) {
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        let mut value = self.value.lock().unwrap();
        let polled = std::pin::Pin::new(value.as_mut().unwrap()).poll(&mut context);
        *self.found.lock().unwrap() = Some(polled.is_ready());
    }
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_value_comes_when_its_future_has_been_dropped() {
    let group = Group::new();
    let (value, found) = (Arc::default(), Arc::default());
    let looks = Looks {
        value: Arc::clone(&value),
        found: Arc::clone(&found),
    };
    let handle = group.spawn_after(HOUR, async move { drop(looks) });
    let job = handle.job().clone();
    *value.lock().unwrap() = Some(handle);
    assert!(job.cancel());
    assert_eq!(*found.lock().unwrap(), Some(false), "the value was there");
    let value = value.lock().unwrap().take().unwrap();
    assert!(matches!(value.await, Err(JobError::Cancelled)));
}

/// The end of the series is known by then, and it was the last job.
#[tokio::test(start_paused = true)]
async fn the_destructor_of_a_series_may_schedule_what_wait_covers() {
    let (group, log) = (Group::new(), Log::new());
    let (own, last) = (Arc::new(OnceLock::<Handle>::new()), log.clone());
    let handle = Arc::clone(&own);
    let held = OnDrop(move || {
        let job = last.job("of the destructor");
        assert!(handle.get().unwrap().try_delay(ms(1), job).is_ok());
    });
    group.repeat(Instant::now(), move |context| {
        let _held = &held;
        own.get_or_init(|| context.handle());
        async { Next::Done }
    });
    group.wait().await.unwrap();
    assert_eq!(log.take(), [("of the destructor", ms(1))]);
}
