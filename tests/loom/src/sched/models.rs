//! What may not go wrong between two takings of the lock.
//!
//! A model is a few threads that do what the driver, the runners and the faces do. loom runs it in every
//! order that differs, with at most [`PREEMPTIONS`] switches that no thread asked for, and reports a
//! deadlock, which is what a lost wake-up looks like here.

use std::panic::Location;
use std::sync::Arc;
use std::task::{Wake, Waker};

use loom::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use loom::sync::{Condvar, Mutex};
use loom::thread;

use super::body::Body;
use super::closing::Outcome;
use super::ends::Ending;
use super::gate::{Caller, End};
use super::job::JobState;
use super::jobs::Started;
use super::origin::Course;
use super::queue::Queue;
use super::state::{State, Todo, Turn};
use super::workers::{Duty, Workers};
use crate::ground::timeline::Tick;

const PREEMPTIONS: usize = 4;

/// A time that has not come while the clock stands at [`Tick::ALWAYS`].
const SOON: Tick = Tick::from_bits(1 << 32);

fn check(model: impl Fn() + Send + Sync + 'static) {
    // `LOOM_MAX_PREEMPTIONS` and the like are read here.
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound.get_or_insert(PREEMPTIONS);
    let orders = std::sync::Arc::new(std::sync::atomic::AtomicU64::new(0));
    let counted = std::sync::Arc::clone(&orders);
    builder.check(move || {
        counted.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        model();
    });
    println!(
        "{} orders",
        orders.load(std::sync::atomic::Ordering::Relaxed)
    );
}

/// Stays rung until somebody has heard it, as a task stays woken until it is polled.
#[derive(Debug)]
struct Bell {
    rung: Mutex<bool>,
    heard: Condvar,
}

impl Bell {
    fn new() -> Arc<Bell> {
        Arc::new(Bell {
            rung: Mutex::new(false),
            heard: Condvar::new(),
        })
    }

    fn ring(&self) {
        *self.rung.lock().unwrap() = true;
        self.heard.notify_all();
    }

    fn listen(&self) {
        let mut rung = self.rung.lock().unwrap();
        while !*rung {
            rung = self.heard.wait(rung).unwrap();
        }
        *rung = false;
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.ring();
    }
}

/// Stands for `Shared`: the lock, and what is done after it.
struct Group {
    state: Mutex<State>,
    /// Runs of jobs.
    ran: AtomicUsize,
}

impl Group {
    /// Of one worker thread.
    fn new(limit: usize) -> Arc<Group> {
        let workers = Workers::new(1, true);
        Arc::new(Group {
            state: Mutex::new(State::new(limit, workers, Tick::NEVER)),
            ran: AtomicUsize::new(0),
        })
    }

    fn enter<R>(&self, transition: impl FnOnce(&mut State, &mut Todo) -> R) -> R {
        let mut todo = Todo::default();
        let result = transition(&mut self.state.lock().unwrap(), &mut todo);
        if let Some(driver) = todo.driver {
            driver.wake();
        }
        todo.wake.into_iter().for_each(Waker::wake);
        result
    }

    /// A job that is due at `at`; its slot if it was let in.
    fn submit(&self, at: Tick) -> Option<u32> {
        let body: Box<dyn Body> = Box::new(async {});
        self.enter(|state, todo| {
            state.admit(Caller::Outside, false).ok()?;
            let (_, slot) = state.insert(at, body, Course::Once, Location::caller(), todo);
            Some(slot)
        })
    }

    /// Drives until the group has drained. `now` is how far its clock has come; it goes on when the driver
    /// sleeps for an instant.
    fn drive(&self, mut now: Tick) {
        let bell = Bell::new();
        let waker = Waker::from(Arc::clone(&bell));
        let mut queue = Queue::new(now);
        let mut batch = Vec::new();
        loop {
            let page = sweep.as_ref().map(Sweep::page);
            let (turn, page) = self.enter(|state, todo| {
                state.told(queue.next(), queue.len());
                let turn = state.turn(now, false, todo);
                (turn, page.and_then(|page| state.page(page)))
            });
            if let Some(sweep) = &mut sweep {
                sweep.turn_page(page);
            }
            match turn {
                Turn::Exit => return,
                Turn::Drop(from) => self.drop_pending(from),
                Turn::Work { arrived, due, .. } => {
                    if let Some(sweep) = &mut sweep {
                        sweep.take_in(&arrived);
                    }
                    self.move_in(&mut queue, due);
                    queue.extend(arrived);
                    batch.extend(std::iter::from_fn(|| queue.pop_due(due)));
                    let start = self.enter(|state, _| state.release(&mut batch, &mut queue, now));
                    (0..start).for_each(|_| self.serve(Duty::Coming, None));
                    let next = queue.wakes();
                    match self.enter(|state, _| state.lie_down(next, &waker)) {
                        Some(Tick::NEVER) => bell.listen(),
                        Some(until) => now = until,
                        None => {}
                    }
                }
            }
        }
    }

    fn move_in(&self, queue: &mut Queue, now: Tick) {
        while let Some(slots) = queue.arriving(now, 1) {
            queue.extend(self.enter(|state, _| state.entries(slots)));
        }
    }

    fn drop_pending(&self, from: Tick) {
        for chunk in 0..self.enter(|state, _| state.chunks()) {
            let mut jobs = Vec::new();
            self.enter(|state, todo| state.unstart_chunk(chunk, from, &mut jobs, todo));
            let count = jobs.len();
            drop(jobs);
            self.enter(|state, todo| state.dropped(count, todo));
        }
    }

    /// Takes the next job for a worker, and starts no other: those serve in the calling thread.
    fn take(&self, state: &mut State, duty: &mut Duty, todo: &mut Todo) -> Option<Started> {
        let (job, others) = state.take(duty, Tick::ALWAYS, false, todo);
        assert_eq!(others, 0, "there is one worker thread");
        job
    }

    /// Runs jobs, each to its end at once, until there is none for this worker. `running` is the slot of a
    /// job that it is with already.
    fn serve(&self, mut duty: Duty, running: Option<u32>) {
        let mut running = running;
        loop {
            let next = self.enter(|state, todo| {
                if let Some(slot) = running.take() {
                    let left = state.finish(slot, Ending::Ran(None), None, todo);
                    assert!(left.is_empty());
                }
                self.take(state, &mut duty, todo)
            });
            let Some(started) = next else { return };
            self.ran.fetch_add(1, SeqCst);
            running = Some(started.slot);
        }
    }

    /// What `wait` does; true if all is well.
    fn wait(&self) -> bool {
        self.enter(|state, todo| state.close_to_wait(Tick::ALWAYS, todo));
        let bell = Bell::new();
        let waker = Waker::from(Arc::clone(&bell));
        let mut number = None;
        loop {
            let outcome = self.enter(|state, _| {
                let outcome = state.outcome();
                let done = outcome.map(|outcome| matches!(outcome, Outcome::Done));
                if done.is_none() {
                    state.waiters().listen(&mut number, waker.clone());
                }
                done
            });
            match outcome {
                Some(well) => return well,
                None => bell.listen(),
            }
        }
    }
}

fn with_driver(group: &Arc<Group>) -> thread::JoinHandle<()> {
    let group = Arc::clone(group);
    thread::spawn(move || group.drive(Tick::ALWAYS, None))
}

/// The admission rule: "open?" and "one more" are one step.
#[test]
fn a_job_beside_a_starting_wait_has_run_or_was_refused() {
    check(|| {
        let group = Group::new(1);
        let driver = with_driver(&group);
        let producer = {
            let group = Arc::clone(&group);
            thread::spawn(move || group.submit(Tick::ALWAYS).is_some())
        };
        assert!(group.wait());
        let ran = group.ran.load(SeqCst);
        let accepted = producer.join().unwrap();
        driver.join().unwrap();
        assert_eq!(ran, usize::from(accepted), "ran when wait returned");
    });
}

/// The same with a cancel: what was let in is dropped, what comes later is refused.
#[test]
fn a_job_beside_a_cancel_is_run_or_dropped_once() {
    check(|| {
        let group = Group::new(1);
        let driver = with_driver(&group);
        let producer = {
            let group = Arc::clone(&group);
            thread::spawn(move || group.submit(Tick::ALWAYS))
        };
        group.enter(|state, todo| state.end_all(End::Cancelled, todo));
        let slot = producer.join().unwrap();
        driver.join().unwrap();
        let ran = group.ran.load(SeqCst);
        group.enter(|state, _| {
            let counts = state.snapshot();
            assert_eq!((counts.pending, counts.running), (0, 0));
            if let Some(slot) = slot {
                let expected = [JobState::Cancelled, JobState::Finished][ran];
                assert_eq!(state.job_state(slot), expected);
            }
            let over = counts.tally.finished + counts.tally.dropped;
            assert_eq!(over, u64::from(slot.is_some()));
        });
    });
}

/// Arm or wake: "is there something earlier?" and "lie down" are one step, and so are "push" and "is it
/// asleep?".
#[test]
fn an_earlier_job_wakes_the_driver_that_lies_down_for_a_later_one() {
    check(|| {
        let group = Group::new(1);
        group.submit(Tick::NEVER).expect("it is open");
        let driver = with_driver(&group);
        // Due now: only a driver that was woken for it, or looked before it lay down, runs it.
        group.submit(Tick::ALWAYS).expect("it is open");
        let canceller = {
            let group = Arc::clone(&group);
            thread::spawn(move || {
                let (prevented, unstarted) = group.enter(|state, todo| state.cancel(0, todo));
                assert!(prevented, "nobody else ends it");
                drop(unstarted);
                group.enter(|state, todo| state.dropped(1, todo));
            })
        };
        assert!(group.wait());
        assert_eq!(group.ran.load(SeqCst), 1);
        canceller.join().unwrap();
        driver.join().unwrap();
    });
}

/// The same for a job that is moved from never to now.
#[test]
fn a_job_that_is_moved_earlier_wakes_the_driver() {
    check(|| {
        let group = Group::new(1);
        let slot = group.submit(Tick::NEVER).expect("it is open");
        let driver = with_driver(&group);
        let moved =
            group.enter(|state, todo| state.reset(slot, Tick::ALWAYS, || Tick::ALWAYS, todo));
        assert!(moved);
        assert!(group.wait());
        assert_eq!(group.ran.load(SeqCst), 1);
        driver.join().unwrap();
    });
}

/// The sweep beside the service: while the driver gathers the heap anew, a slot a turn, one job is due, one is
/// moved from never to a time that comes after the sweep, and one is cancelled.
#[test]
fn jobs_that_are_due_moved_and_cancelled_beside_a_sweep_are_not_lost() {
    check(|| {
        let group = Group::new(1);
        let [moved, cancelled] = [(); 2].map(|()| group.submit(Tick::NEVER).expect("it is open"));
        group.submit(Tick::ALWAYS).expect("it is open");
        let driver = {
            let group = Arc::clone(&group);
            thread::spawn(move || group.drive(Tick::ALWAYS, Some(Sweep::new(Tick::ALWAYS, 1))))
        };
        let mover = {
            let group = Arc::clone(&group);
            thread::spawn(move || {
                group.enter(|state, todo| state.reset(moved, SOON, || Tick::ALWAYS, todo))
            })
        };
        let (prevented, unstarted) = group.enter(|state, todo| state.cancel(cancelled, todo));
        assert!(prevented, "nobody else ends it");
        drop(unstarted);
        group.enter(|state, todo| state.dropped(1, todo));
        assert!(group.wait());
        assert!(mover.join().unwrap(), "it was pending");
        driver.join().unwrap();
        assert_eq!(group.ran.load(SeqCst), 2);
    });
}

/// The hand-over of a place: one job holds the only place in a task of its own while another falls due.
/// Whoever comes second, the end of the one or the release of the other, starts it.
#[test]
fn a_due_job_takes_the_place_that_is_freed_beside_it() {
    check(|| {
        let group = Group::new(1);
        let first = group.submit(Tick::ALWAYS).expect("it is open");
        let mut queue = Queue::new(Tick::ALWAYS);
        assert_eq!(release(&group, &mut queue), 1);
        // The first runs, and has its task to itself.
        group.enter(|state, todo| {
            let started = group
                .take(state, &mut Duty::Coming, todo)
                .expect("it is due");
            assert_eq!(started.slot, first);
            let (stop, others) = state.park(first, Waker::noop(), Tick::ALWAYS, todo);
            assert!(!stop && others == 0, "no other waits");
        });
        let ends = {
            let group = Arc::clone(&group);
            thread::spawn(move || group.serve(Duty::Off, Some(first)))
        };
        group.submit(Tick::ALWAYS).expect("it is open");
        let start = release(&group, &mut queue);
        (0..start).for_each(|_| group.serve(Duty::Coming, None));
        ends.join().unwrap();
        let counts = group.enter(|state, _| state.snapshot());
        assert_eq!(counts.tally.finished, 2, "{} wait", counts.waiting);
    });
}

/// What a turn of the driver does to due jobs; how many workers are to start.
fn release(group: &Group, queue: &mut Queue) -> usize {
    let turn = group.enter(|state, todo| state.turn(Tick::ALWAYS, false, todo));
    let Turn::Work { arrived, due, .. } = turn else {
        panic!("the group is open");
    };
    queue.extend(arrived);
    let mut batch: Vec<_> = std::iter::from_fn(|| queue.pop_due(due)).collect();
    group.enter(|state, _| state.release(&mut batch, queue, Tick::ALWAYS))
}

/// The places are kept: two runners and three due jobs, one of which is cancelled meanwhile.
#[test]
fn a_cancel_beside_the_start_has_one_winner_and_no_place_is_lost() {
    check(|| {
        let group = Group::new(1);
        let slots = [(); 2].map(|()| group.submit(Tick::ALWAYS).expect("it is open"));
        let mut queue = Queue::new(Tick::ALWAYS);
        assert_eq!(release(&group, &mut queue), 1);
        let runner = {
            let group = Arc::clone(&group);
            thread::spawn(move || group.serve(Duty::Coming, None))
        };
        let (prevented, unstarted) = group.enter(|state, todo| state.cancel(slots[1], todo));
        if unstarted.is_some() {
            group.enter(|state, todo| state.dropped(1, todo));
        }
        runner.join().unwrap();
        let (counts, state) = group.enter(|state, _| (state.snapshot(), state.job_state(slots[1])));
        assert_eq!(group.ran.load(SeqCst), 2 - usize::from(prevented));
        assert_eq!(state == JobState::Cancelled, prevented);
        assert_eq!((counts.waiting, counts.running), (0, 0));
    });
}

/// An abort reaches a run whatever it does at the moment: at its first await, or after it.
#[test]
fn an_abort_beside_the_first_await_stops_the_run() {
    check(|| {
        let group = Group::new(1);
        let slot = group.submit(Tick::ALWAYS).expect("it is open");
        release(&group, &mut Queue::new(Tick::ALWAYS));
        group
            .enter(|state, todo| group.take(state, &mut Duty::Coming, todo))
            .expect("it is due");
        let run = {
            let group = Arc::clone(&group);
            thread::spawn(move || {
                let bell = Bell::new();
                let waker = Waker::from(Arc::clone(&bell));
                let (stop, _) =
                    group.enter(|state, todo| state.park(slot, &waker, Tick::ALWAYS, todo));
                if !stop {
                    bell.listen();
                    assert!(group.enter(|state, _| state.must_stop(slot)));
                }
                group.enter(|state, todo| drop(state.finish(slot, Ending::Aborted, None, todo)));
            })
        };
        assert!(group.enter(|state, todo| state.abort(slot, todo)).is_none());
        run.join().unwrap();
        let state = group.enter(|state, _| state.job_state(slot));
        assert_eq!(state, JobState::Cancelled);
    });
}

/// The last one out rings: two jobs end beside the call of `wait`.
#[test]
fn wait_hears_of_the_last_end() {
    check(|| {
        let group = Group::new(2);
        let slots = [(); 2].map(|()| group.submit(Tick::ALWAYS).expect("it is open"));
        release(&group, &mut Queue::new(Tick::ALWAYS));
        let mut duty = Duty::Coming;
        for slot in slots {
            group.enter(|state, todo| {
                let (started, _) = state.take(&mut duty, Tick::ALWAYS, false, todo);
                assert_eq!(started.expect("a slot").slot, slot);
            });
        }
        let ends = slots.map(|slot| {
            let group = Arc::clone(&group);
            thread::spawn(move || {
                group.enter(|state, todo| drop(state.finish(slot, Ending::Ran(None), None, todo)));
            })
        });
        assert!(group.wait());
        for end in ends {
            end.join().unwrap();
        }
    });
}

/// A slot gets free beside the release of the job that takes it, while the only worker thread is with a job
/// that never returns. Whichever comes second, the driver watches, and starts a spare worker in time.
#[test]
fn a_slot_that_gets_free_is_taken_though_no_worker_returns() {
    check(|| {
        let group = Group::new(2);
        let awaits = group.submit(Tick::ALWAYS).expect("it is open");
        let mut queue = Queue::new(Tick::ALWAYS);
        assert_eq!(release(&group, &mut queue), 1);
        group.enter(|state, todo| {
            let started = group.take(state, &mut Duty::Coming, todo);
            assert_eq!(started.expect("it is due").slot, awaits);
            let (stop, others) = state.park(awaits, Waker::noop(), Tick::ALWAYS, todo);
            assert!(!stop && others == 0, "no other waits");
        });
        let blocks = group.submit(Tick::ALWAYS).expect("it is open");
        assert_eq!(release(&group, &mut queue), 1);
        let blocked = group.enter(|state, todo| group.take(state, &mut Duty::Coming, todo));
        assert_eq!(blocked.expect("it is due").slot, blocks);

        let ends = {
            let group = Arc::clone(&group);
            thread::spawn(move || group.serve(Duty::Off, Some(awaits)))
        };
        let driver = with_driver(&group);
        group.submit(Tick::ALWAYS).expect("it is open");
        ends.join().unwrap();
        while group.ran.load(SeqCst) == 0 {
            thread::yield_now();
        }
        // Now the blocked one may end too.
        group.enter(|state, todo| {
            state.close_to_wait(Tick::ALWAYS, todo);
            drop(state.finish(blocks, Ending::Ran(None), None, todo));
        });
        driver.join().unwrap();
        let counts = group.enter(|state, _| state.snapshot());
        assert_eq!(counts.tally.finished, 3, "{} wait", counts.waiting);
    });
}
