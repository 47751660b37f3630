//! What may not go wrong between two takings of a lock.
//!
//! A model is a few threads: those of the runtime, which poll workers, job tasks and the driver as tokio does,
//! and those of the callers. loom runs it in every order that differs, with at most [`PREEMPTIONS`] switches
//! that no thread asked for, and reports a deadlock, which is what a lost wake-up looks like here.

use std::future::{pending, poll_fn};
use std::panic::Location;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex as Plain};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use loom::sync::{Condvar, Mutex};
use loom::thread::{self, JoinHandle};

use super::awaiting::AwaitingJob;
use super::handle::Handle;
use super::job::{JobState, Next};
use super::queue::Queue;
use super::queue::Sweep;
use super::runnable::{Run, Runnable, Started, Stateful};
use super::shared::Shared;
use super::state::GroupOutcome;
use super::state::Workers;
use super::state::{Caller, DroppedChunk};
use super::state::{Counts, JobKind};
use super::state::{Effects, State, Turn};
use super::stats::Stats;
use super::worker;
use super::yield_now::yield_now;
use crate::common::closing::{Closing, Report, StopReason};
use crate::common::panic::Payload;
use crate::common::time::Timestamp;

/// In the models with few threads; the others have one less, and still more orders. The long form has more.
const PREEMPTIONS: usize = 3;

/// A time that has come.
pub(crate) const NOW: Timestamp = Timestamp::ALWAYS;
/// A time that has not come while the clock stands at [`NOW`].
const SOON: Timestamp = Timestamp::from_bits(1 << 32);

pub(crate) fn check(model: impl Fn() + Send + Sync + 'static) {
    check_within(PREEMPTIONS, model);
}

pub(crate) fn check_large(model: impl Fn() + Send + Sync + 'static) {
    check_within(PREEMPTIONS - 1, model);
}

fn check_within(preemptions: usize, model: impl Fn() + Send + Sync + 'static) {
    // `LOOM_MAX_PREEMPTIONS` and the like are read here.
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound.get_or_insert(preemptions);
    builder.max_branches = builder.max_branches.max(20_000);
    let orders = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&orders);
    builder.check(move || {
        counted.fetch_add(1, Relaxed);
        model();
    });
    println!("{} orders", orders.load(Relaxed));
}

/// Stays rung until somebody has heard it.
#[derive(Debug, Default)]
struct Bell {
    rung: Mutex<bool>,
    heard: Condvar,
}

impl Bell {
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
        *self.rung.lock().unwrap() = true;
        self.heard.notify_all();
    }
}

/// What a job awaits.
#[derive(Clone, Default)]
struct Signal(Arc<Mutex<(bool, Option<Waker>)>>);

impl Signal {
    fn send(&self) {
        let waker = {
            let mut signal = self.0.lock().unwrap();
            signal.0 = true;
            signal.1.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    async fn received(self) {
        poll_fn(|cx| {
            let mut signal = self.0.lock().unwrap();
            if signal.0 {
                return Poll::Ready(());
            }
            signal.1 = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }
}

/// Labels in the order in which jobs noted them. No thread ever waits for it.
#[derive(Clone, Default)]
struct Log(Arc<Plain<Vec<u32>>>);

impl Log {
    fn note(&self, label: u32) {
        self.0.lock().unwrap().push(label);
    }

    /// A job that is ready at its first poll.
    fn job(&self, label: u32) -> impl Future<Output = ()> + Send + use<> {
        let log = self.clone();
        async move { log.note(label) }
    }

    /// A job that awaits the signal before.
    fn after(&self, signal: &Signal, label: u32) -> impl Future<Output = ()> + Send + use<> {
        let (log, signal) = (self.clone(), signal.clone());
        async move {
            signal.received().await;
            log.note(label);
        }
    }

    fn labels(&self) -> Vec<u32> {
        self.0.lock().unwrap().clone()
    }

    fn len(&self) -> usize {
        self.0.lock().unwrap().len()
    }
}

/// A group, as its owner, its handles and its driver see it.
#[derive(Clone)]
pub(crate) struct Group(Arc<Shared>);

impl Group {
    /// `threads` is how many workers it has, unless one is stuck.
    pub(crate) fn new(limit: usize, threads: usize) -> Group {
        let workers = Workers::new(threads, true);
        Group(Shared::new(State::new(limit, workers, Timestamp::NEVER)))
    }

    pub(crate) fn handle(&self) -> Handle {
        Handle::uncounted(Arc::clone(&self.0), Caller::External)
    }

    /// Lets a caller do something beside all others.
    pub(crate) fn beside<T: 'static>(
        &self,
        call: impl FnOnce(Group) -> T + 'static,
    ) -> JoinHandle<T> {
        let group = self.clone();
        thread::spawn(move || call(group))
    }

    /// A thread of the runtime.
    pub(crate) fn thread(&self) -> JoinHandle<()> {
        self.beside(|group| group.0.runtime.run())
    }

    pub(crate) fn threads(&self) -> [JoinHandle<()>; 2] {
        [self.thread(), self.thread()]
    }

    pub(crate) fn drive(&self) {
        self.drive_beside(None);
    }

    fn drive_beside(&self, sweep: Option<Sweep>) {
        let driver = Driver {
            group: self.clone(),
            done: false,
        };
        self.0.runtime.spawn(driver.drive(NOW, sweep));
    }

    /// A job's slot if it was let in.
    fn submit(
        &self,
        at: Timestamp,
        runnable: impl Runnable + 'static,
        kind: JobKind,
    ) -> Option<u32> {
        self.submit_as(Caller::External, at, runnable, kind)
    }

    fn submit_as(
        &self,
        caller: Caller,
        at: Timestamp,
        runnable: impl Runnable + 'static,
        kind: JobKind,
    ) -> Option<u32> {
        let (runnable, now) = (Box::new(runnable), self.0.now());
        self.0.enter(|state, effects| {
            state.lifecycle.admit(caller, now, false).ok()?;
            Some(
                state
                    .insert(at, runnable, kind, Location::caller(), effects)
                    .1,
            )
        })
    }

    fn add(&self, at: Timestamp, runnable: impl Runnable + 'static) -> u32 {
        self.submit(at, runnable, JobKind::Once)
            .expect("it is open")
    }

    /// What a turn of the driver does with jobs that are due by then.
    fn release(&self, queue: &mut Queue, now: Timestamp) {
        let start = self.0.enter(|state, effects| {
            let Turn::Work { arrived, due, .. } = state.turn(now, false, Vec::new(), effects)
            else {
                panic!("the group is open");
            };
            queue.extend(arrived);
            while let Some(slots) = queue.cascade(due, 512) {
                queue.extend(state.jobs.entries(slots.iter().copied()));
            }
            let mut batch = Vec::new();
            queue.pop_due(due, &mut batch, usize::MAX);
            state.release(&mut batch, queue, now, effects)
        });
        worker::start(&self.0, start);
    }

    fn cancel(&self, slot: u32) -> bool {
        let mut unstarted = None;
        let prevented = self
            .0
            .enter_checked(|state, effects| state.cancel(slot, &mut unstarted, effects));
        self.0.drop_jobs(unstarted);
        prevented
    }

    fn abort(&self, slot: u32) {
        let mut unstarted = None;
        self.0
            .enter_checked(|state, effects| state.abort(slot, &mut unstarted, effects));
        self.0.drop_jobs(unstarted);
    }

    fn reset(&self, slot: u32, at: Timestamp) -> bool {
        let is_over = self.0.is_over();
        self.0
            .enter(|state, effects| state.reset(slot, at, is_over, effects))
    }

    fn state(&self, slot: u32) -> JobState {
        self.0.enter(|state, _| state.job_state(slot))
    }

    fn stats(&self) -> Stats {
        self.0.enter(|state, _| state.stats(&self.0.clock))
    }

    fn drop_pending(&self, from: Timestamp) {
        let mut dropped = DroppedChunk::new();
        for chunk in 0..self.0.enter(|state, _| state.jobs.chunks()) {
            self.0.enter(|state, effects| {
                state.take_pending_chunk(chunk, from, &mut dropped, effects);
            });
            self.0.drop_jobs(dropped.drain());
        }
    }

    /// What the driver does with running jobs when its runtime goes.
    fn end_running(&self) {
        for chunk in 0..self.0.enter(|state, _| state.jobs.chunks()) {
            let running = self.0.enter(|state, _| state.jobs.running_of_chunk(chunk));
            running.into_iter().for_each(AwaitingJob::end_now);
        }
    }

    /// What the driver does when it sees that nothing more starts.
    fn drop_all(&self, now: Timestamp) {
        let turn = self
            .0
            .enter(|state, effects| state.turn(now, false, Vec::new(), effects));
        if let Turn::Drop(from) = turn {
            self.drop_pending(from);
        }
    }

    /// Closes the group, with a grace that ends [`SOON`]. Returns the counts that the report begins with.
    fn close_until_soon(&self, closing: Closing) -> Counts {
        self.0.enter(|state, effects| {
            self.0.note_grace(SOON);
            state.close_until(closing, NOW, SOON, effects)
        })
    }

    /// Returns the report of a group that has drained.
    fn report(&self, before: Counts) -> Report {
        let report = self.0.enter(|state, _| state.report_since(before));
        report.expect("it has drained")
    }

    fn close(&self) -> bool {
        self.0.enter(|state, effects| state.close_to_wait(effects))
    }

    /// What `wait` does; true if all is well. No task is left when the threads end.
    pub(crate) fn wait(&self) -> bool {
        assert!(self.close());
        let well = self.outcome();
        self.0.runtime.close();
        well
    }

    fn outcome(&self) -> bool {
        let bell = Arc::<Bell>::default();
        let waker = Waker::from(Arc::clone(&bell));
        let mut number = None;
        loop {
            let outcome = self.0.enter(|state, _| {
                let outcome = state.outcome();
                let done = outcome.map(|outcome| matches!(outcome, GroupOutcome::Done));
                if done.is_none() {
                    state.waiters.listen(&mut number, waker.clone());
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

/// Drives until the group has drained, at first beside a sweep if there is one. `now` is how far the clock has
/// come: it goes on when the driver sleeps for an instant, and is [`SOON`] after the sweep.
async fn drive(group: &Group, mut now: Timestamp, mut sweep: Option<Sweep>) {
    let shared = &group.0;
    let mut queue = Queue::new(now);
    let mut batch = Vec::new();
    loop {
        let chunk = sweep.as_ref().map(Sweep::chunk);
        let (turn, chunk) = shared.enter(|state, effects| {
            let turn = state.turn(now, false, Vec::new(), effects);
            (turn, chunk.and_then(|chunk| state.jobs.entries_in(chunk)))
        });
        if let Some(sweep) = &mut sweep {
            sweep.add_chunk(chunk);
        }
        let (arrived, due) = match turn {
            Turn::Exit => break,
            Turn::Drop(from) => {
                group.drop_pending(from);
                continue;
            }
            Turn::Expedite => unreachable!("no series here ends with `wait`"),
            Turn::Work { arrived, due, .. } => (arrived, due),
        };
        if let Some(sweep) = &mut sweep {
            sweep.add_arrived(&arrived);
        }
        cascade_near(shared, &mut queue, due);
        queue.extend(arrived);
        queue.pop_due(due, &mut batch, usize::MAX);
        let busy = sweep.is_some();
        let mut slept = false;
        let until = poll_fn(|cx| {
            if slept {
                return Poll::Ready(None);
            }
            let mut effects = Effects::default();
            let mut timer = shared.driver.lock().unwrap();
            let (start, until) = shared.with(|state| {
                let start = state.release(&mut batch, &mut queue, now, &mut effects);
                state.inbox.set_queue_stats(queue.next(), queue.len());
                if busy {
                    return (start, None);
                }
                (start, state.park(queue.next(), cx.waker()))
            });
            *timer = Some(cx.waker().clone());
            drop(timer);
            shared.apply(effects);
            worker::start(shared, start);
            slept = until == Some(Timestamp::NEVER);
            if slept {
                Poll::Pending
            } else {
                Poll::Ready(until)
            }
        })
        .await;
        if let Some(until) = until {
            // The clock goes on by itself, and the others have their time meanwhile.
            now = now.max(until);
            if until < Timestamp::NEVER {
                shared.advance(until);
            }
            thread::yield_now();
        }
        if let Some(fresh) = sweep.as_mut().and_then(Sweep::gathered) {
            cascade_near(shared, fresh, due);
            std::mem::swap(fresh, &mut queue);
            (sweep, now) = (None, SOON);
        }
        if busy || until.is_some() {
            yield_now(&shared.runtime).await;
        }
    }
}

fn cascade_near(shared: &Shared, queue: &mut Queue, now: Timestamp) {
    while let Some(slots) = queue.cascade(now, 512) {
        queue.extend(shared.enter(|state, _| state.jobs.entries(slots.iter().copied())));
    }
}

pub(crate) fn join(threads: impl IntoIterator<Item = JoinHandle<()>>) {
    threads
        .into_iter()
        .for_each(|thread| thread.join().unwrap());
}

struct Driver {
    group: Group,
    done: bool,
}

impl Driver {
    async fn drive(mut self, now: Timestamp, sweep: Option<Sweep>) {
        drive(&self.group, now, sweep).await;
        self.done = true;
    }
}

/// Only a runtime that goes drops it before its end.
impl Drop for Driver {
    fn drop(&mut self) {
        if !self.done {
            self.group
                .0
                .enter(|state, effects| state.runtime_gone(effects));
            self.group.drop_pending(Timestamp::ALWAYS);
            self.group.end_running();
        }
    }
}

/// A series: its runs await the signals, one each, and it ends after the last.
struct Series {
    signals: std::vec::IntoIter<Signal>,
    run: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl Series {
    fn new(signals: Vec<Signal>) -> Series {
        Series {
            signals: signals.into_iter(),
            run: None,
        }
    }
}

impl Runnable for Series {
    fn start(mut self: Box<Self>, _: &Run, live: &mut Option<Started>) {
        let signal = self.signals.next().expect("it has ended");
        self.run = Some(Box::pin(signal.received()));
        *live = Some(Started::Stateful(self));
    }
}

impl Stateful for Series {
    fn poll_run(&mut self, cx: &mut Context<'_>) -> Poll<Next> {
        let run = self.run.as_mut().expect("it runs");
        let next = match self.signals.len() {
            0 => Next::Done,
            _ => Next::After(Duration::ZERO),
        };
        run.as_mut().poll(cx).map(|()| next)
    }

    fn drop_run(&mut self) -> Result<(), Payload> {
        self.run = None;
        Ok(())
    }

    fn into_runnable(self: Box<Self>) -> Box<dyn Runnable> {
        self
    }
}

mod admission {
    use super::*;

    /// The admission rule: "open?" and "one more" are one step.
    #[test]
    fn a_job_beside_a_starting_wait_has_run_or_was_rejected() {
        check(|| {
            let (group, log) = (Group::new(1, 1), Log::default());
            group.drive();
            let thread = group.thread();
            let job = log.job(1);
            let producer = group.beside(|group| group.submit(NOW, job, JobKind::Once).is_some());
            assert!(group.wait());
            let ran = log.len();
            let accepted = producer.join().unwrap();
            join([thread]);
            assert_eq!(ran, usize::from(accepted), "ran when wait returned");
        });
    }

    /// The same with a cancel: what was let in is dropped, what comes later is rejected.
    #[test]
    fn a_job_beside_a_cancel_is_run_or_dropped_once() {
        check(|| {
            let (group, log) = (Group::new(1, 1), Log::default());
            group.drive();
            let thread = group.thread();
            let job = log.job(1);
            let producer = group.beside(|group| group.submit(NOW, job, JobKind::Once));
            group
                .0
                .enter(|state, effects| state.stop(StopReason::Cancelled, effects));
            group.0.runtime.close();
            let slot = producer.join().unwrap();
            join([thread]);
            let stats = group.stats();
            assert_eq!((stats.pending, stats.running), (0, 0));
            if let Some(slot) = slot {
                let expected = [JobState::Cancelled, JobState::Finished][log.len()];
                assert_eq!(group.state(slot), expected);
            }
            let over = stats.finished + stats.cancelled;
            assert_eq!(over, u64::from(slot.is_some()));
        });
    }
}

mod driver {
    use super::*;

    /// Arm or wake: "is there something earlier?" and "park" are one step, and so are "push" and "is it
    /// asleep?".
    #[test]
    fn an_earlier_job_wakes_the_driver_that_lies_down_for_a_later_one() {
        check(|| {
            let (group, log) = (Group::new(1, 1), Log::default());
            let far = group.add(Timestamp::NEVER, log.job(0));
            group.drive();
            let thread = group.thread();
            // Due now: only a driver that was woken for it, or looked before it parked, runs it.
            group.add(NOW, log.job(1));
            let canceller = group.beside(move |group| group.cancel(far));
            assert!(group.wait());
            assert_eq!(log.labels(), [1]);
            assert!(canceller.join().unwrap(), "nothing else ends it");
            join([thread]);
        });
    }

    /// The same for a job that is moved from never to now.
    #[test]
    fn a_job_that_is_moved_earlier_wakes_the_driver() {
        check(|| {
            let (group, log) = (Group::new(1, 1), Log::default());
            let job = group.add(Timestamp::NEVER, log.job(1));
            group.drive();
            let thread = group.thread();
            assert!(group.reset(job, NOW));
            assert!(group.wait());
            assert_eq!(log.labels(), [1]);
            join([thread]);
        });
    }

    /// Slots that a sweep looks at in a turn: it takes two for all slots here.
    const CHUNK: u32 = 512;

    /// A group with a job that is far away in the first chunk of a sweep, and another one in the second, beside
    /// which its driver begins. What fills the first chunk is to be cancelled in the end.
    fn beside_a_sweep(log: &Log) -> (Group, [u32; 2], Vec<u32>) {
        let group = Group::new(1, 1);
        let first = group.add(Timestamp::NEVER, log.job(1));
        let fill = group.0.enter(|state, effects| {
            let mut add = || {
                let job = Box::new(async {});
                let site = Location::caller();
                state
                    .insert(Timestamp::NEVER, job, JobKind::Once, site, effects)
                    .1
            };
            (1..CHUNK).map(|_| add()).collect()
        });
        let second = group.add(Timestamp::NEVER, log.job(2));
        group.drive_beside(Some(Sweep::new(NOW, CHUNK)));
        (group, [first, second], fill)
    }

    fn cancel_all(group: &Group, fill: Vec<u32>) {
        let jobs = group.0.enter(|state, effects| {
            let cancelled = fill.into_iter().map(|slot| {
                let mut unstarted = None;
                state.cancel(slot, &mut unstarted, effects);
                unstarted
            });
            cancelled.collect::<Vec<_>>()
        });
        group.0.drop_jobs(jobs.into_iter().flatten());
    }

    /// The sweep beside the service: while the driver gathers the heap anew, one job is due, one is moved from
    /// never to a time that comes after the sweep, and one is cancelled.
    #[test]
    fn jobs_that_are_due_moved_and_cancelled_beside_a_sweep_are_not_lost() {
        for [moved, cancelled] in [[0, 1], [1, 0]] {
            check(move || {
                let log = Log::default();
                let (group, slots, fill) = beside_a_sweep(&log);
                group.add(NOW, log.job(0));
                let thread = group.thread();
                assert!(group.reset(slots[moved], SOON), "it was pending");
                assert!(group.cancel(slots[cancelled]), "nothing else ends it");
                cancel_all(&group, fill);
                assert!(group.wait());
                join([thread]);
                assert_eq!(log.labels(), [0, 1 + moved as u32]);
            });
        }
    }

    /// The same for a job that comes meanwhile, into a slot of either chunk.
    #[test]
    fn a_job_that_comes_beside_a_sweep_is_not_lost() {
        for chunk in [0, 1] {
            check(move || {
                let log = Log::default();
                let (group, slots, fill) = beside_a_sweep(&log);
                let thread = group.thread();
                assert!(group.cancel(slots[chunk]), "nothing else ends it");
                group.0.enter(|state, _| state.jobs.ref_dec(slots[chunk]));
                assert_eq!(group.add(SOON, log.job(3)), slots[chunk]);
                assert!(group.reset(slots[1 - chunk], SOON), "it was pending");
                cancel_all(&group, fill);
                assert!(group.wait());
                join([thread]);
                let mut ran = log.labels();
                ran.sort_unstable();
                assert_eq!(ran, [2 - chunk as u32, 3]);
            });
        }
    }
}

mod slots {
    use super::*;

    /// The hand-over of a slot: one job holds the only one while it awaits, and another falls due. Whichever
    /// comes second, the end of the one or the release of the other, starts it.
    #[test]
    fn a_due_job_takes_the_slot_that_is_freed_beside_it() {
        check(|| {
            let (group, log, signal) = (Group::new(1, 1), Log::default(), Signal::default());
            let mut queue = Queue::new(NOW);
            group.add(NOW, log.after(&signal, 1));
            group.release(&mut queue, NOW);
            group.0.runtime.run_ready();
            let sender = group.beside(move |_| signal.send());
            let thread = group.thread();
            group.add(NOW, log.job(2));
            group.release(&mut queue, NOW);
            assert!(group.wait());
            assert_eq!(log.labels(), [1, 2]);
            sender.join().unwrap();
            join([thread]);
        });
    }

    /// The same while the only worker is with a job that blocks its thread: the driver watches, and adds a spare
    /// worker in time.
    #[test]
    fn a_slot_that_gets_free_is_taken_though_no_worker_returns() {
        check_large(|| {
            let (group, log, signal) = (Group::new(2, 1), Log::default(), Signal::default());
            let (started, blocked) = (Signal::default(), Arc::<Bell>::default());
            group.add(NOW, log.after(&signal, 1));
            group.drive();
            group.0.runtime.run_ready();
            let (held, begun) = (Arc::clone(&blocked), started.clone());
            group.add(NOW, async move {
                begun.send();
                held.listen();
            });
            // Freed when the third is waiting already, or only then.
            let (freed, third) = (log.clone(), log.job(2));
            group.add(NOW, async move {
                third.await;
                assert_eq!(freed.labels(), [1, 2]);
                Waker::from(blocked).wake();
            });
            let threads = group.threads();
            let sender = group.beside(move |_| {
                let bell = Arc::<Bell>::default();
                let waker = Waker::from(Arc::clone(&bell));
                let mut begun = std::pin::pin!(started.received());
                let polled = begun.as_mut().poll(&mut Context::from_waker(&waker));
                if polled.is_pending() {
                    bell.listen();
                }
                signal.send();
            });
            assert!(group.wait());
            sender.join().unwrap();
            join(threads);
        });
    }

    /// A worker that finds nothing parks; a job that is released beside that wakes it, or is found.
    #[test]
    fn a_job_that_is_released_beside_a_worker_that_parks_is_started() {
        for threads in [1, 2] {
            check_large(move || {
                let (group, log) = (Group::new(9, threads), Log::default());
                let mut queue = Queue::new(NOW);
                group.add(NOW, log.job(1));
                group.release(&mut queue, NOW);
                let runtime: Vec<_> = (0..threads).map(|_| group.thread()).collect();
                for label in [2, 3] {
                    group.add(NOW, log.job(label));
                    group.release(&mut queue, NOW);
                }
                assert!(group.wait());
                let mut labels = log.labels();
                labels.sort_unstable();
                assert_eq!(labels, [1, 2, 3]);
                join(runtime);
            });
        }
    }

    /// Release order is (deadline, submission), whatever comes when and is asked or cancelled meanwhile.
    #[test]
    fn jobs_that_wait_for_the_slot_start_in_the_order_of_their_deadlines() {
        check(|| {
            let (group, log, signal) = (Group::new(1, 2), Log::default(), Signal::default());
            let mut queue = Queue::new(NOW);
            let at = |millis| NOW.after(Duration::from_millis(millis));
            group.add(at(1), log.after(&signal, 1));
            group.release(&mut queue, at(5));
            group.0.runtime.run_ready();
            let [late, lost] = [4, 3].map(|n| group.add(at(n), log.job(n as u32)));
            group.release(&mut queue, at(5));
            let early = group.add(at(2), log.job(2));
            group.release(&mut queue, at(5));
            let asker = group.beside(move |group| {
                for slot in [early, late] {
                    group.state(slot);
                }
                group.cancel(lost)
            });
            let thread = group.thread();
            signal.send();
            assert!(group.wait());
            let expected = match asker.join().unwrap() {
                true => vec![1, 2, 4],
                false => vec![1, 2, 3, 4],
            };
            assert_eq!(log.labels(), expected);
            join([thread]);
        });
    }
}

/// Jobs that a worker has claimed and not started.
mod claimed {
    use super::*;

    /// Two due jobs, which one worker claims at once, on a runtime of one thread, beside a caller who does
    /// something about the second; what is answered, and the order of what has run.
    fn beside_a_claim<T: 'static>(call: impl Fn(&Group, u32) -> T) -> (Group, T, Vec<u32>) {
        let (group, log) = (Group::new(usize::MAX, 1), Log::default());
        let slots = [0, 1].map(|label| group.add(NOW, log.job(label)));
        let mut queue = Queue::new(NOW);
        group.release(&mut queue, NOW);
        let thread = group.thread();
        let answer = call(&group, slots[1]);
        // What was moved is due now.
        group.release(&mut queue, SOON);
        assert!(group.wait());
        join([thread]);
        let stats = group.stats();
        assert_eq!((stats.pending, stats.waiting, stats.running), (0, 0, 0));
        let over = stats.finished + stats.cancelled;
        assert_eq!((over, stats.finished), (2, log.len() as u64), "each once");
        (group, answer, log.labels())
    }

    #[test]
    fn a_cancel_has_one_winner() {
        check(|| {
            let (group, prevented, ran) = beside_a_claim(|group, slot| {
                let prevented = group.cancel(slot);
                assert!(!group.cancel(slot), "one call at most prevents it");
                prevented
            });
            let expected: &[u32] = if prevented { &[0] } else { &[0, 1] };
            assert_eq!(ran, expected);
            assert_eq!(group.state(1) == JobState::Cancelled, prevented);
        });
    }

    #[test]
    fn an_abort_cancels_it_or_comes_too_late() {
        check(|| {
            let (group, (), ran) = beside_a_claim(Group::abort);
            let cancelled = group.state(1) == JobState::Cancelled;
            let expected: &[u32] = if cancelled { &[0] } else { &[0, 1] };
            assert_eq!(ran, expected);
        });
    }

    #[test]
    fn a_reset_moves_it_or_comes_too_late() {
        check(|| {
            let (_, moved, ran) = beside_a_claim(|group, slot| {
                let moved = group.reset(slot, SOON);
                assert!(!moved || group.state(slot) == JobState::Pending);
                moved
            });
            assert_eq!(ran, [0, 1], "moved: {moved}");
        });
    }

    #[test]
    fn its_state_goes_forward_and_its_order_stays() {
        check(|| {
            let (_, seen, ran) = beside_a_claim(|group, slot| [(); 3].map(|()| group.state(slot)));
            assert_eq!(ran, [0, 1]);
            let step = |state: &JobState| match state {
                JobState::Pending => 0,
                JobState::Running => 1,
                JobState::Finished => 2,
                _ => panic!("{seen:?}"),
            };
            assert!(seen.iter().map(step).is_sorted(), "{seen:?}");
        });
    }

    /// The same with counts: at each moment the three jobs are all there, and none runs that is pending.
    #[test]
    fn the_counts_of_one_moment_add_up() {
        check(|| {
            let (group, log) = (Group::new(usize::MAX, 1), Log::default());
            for label in 0..3 {
                group.add(NOW, log.job(label));
            }
            group.release(&mut Queue::new(NOW), NOW);
            let thread = group.thread();
            let stats = group.stats();
            let held = (stats.pending + stats.running) as u64;
            assert_eq!(held + stats.finished, 3);
            assert!(stats.running <= 1 && stats.waiting == stats.pending);
            assert!(group.wait());
            join([thread]);
        });
    }

    /// Two workers: one claims two of three jobs, the other one, and then steals. Beside that one is cancelled.
    #[test]
    fn a_cancel_beside_a_theft_has_one_winner() {
        check(|| {
            let (group, log) = (Group::new(usize::MAX, 2), Log::default());
            let slots = [0, 1, 2].map(|label| group.add(NOW, log.job(label)));
            group.release(&mut Queue::new(NOW), NOW);
            let threads = group.threads();
            let prevented = group.cancel(slots[1]);
            assert!(group.wait());
            join(threads);
            let mut ran = log.labels();
            ran.sort_unstable();
            let expected: &[u32] = if prevented { &[0, 2] } else { &[0, 1, 2] };
            assert_eq!(ran, expected);
            let stats = group.stats();
            assert_eq!(stats.finished, 3 - u64::from(prevented));
            assert_eq!(stats.cancelled, u64::from(prevented));
        });
    }

    /// Three due jobs and two workers, which claim and steal, beside the end of their group. What is pending
    /// after it never starts, what runs then may go on.
    fn beside_the_end_of_their_group(end: impl Fn(&Group) + Send + Sync + 'static) {
        check(move || {
            let (group, log) = (Group::new(usize::MAX, 2), Log::default());
            let slots = [0, 1, 2].map(|label| group.add(NOW, log.job(label)));
            group.release(&mut Queue::new(NOW), NOW);
            let threads = group.threads();
            end(&group);
            let at_the_end = group.stats();
            assert!(at_the_end.running <= 2, "one for each worker");
            let lost = at_the_end.cancelled + at_the_end.pending as u64;
            group.drop_all(NOW);
            group.0.runtime.close();
            join(threads);
            let stats = group.stats();
            assert_eq!((stats.pending, stats.running), (0, 0));
            let (finished, dropped) = (stats.finished, stats.cancelled);
            assert_eq!((dropped, finished), (lost, 3 - lost));
            assert_eq!(finished, log.len() as u64);
            let finished = slots.map(|slot| group.state(slot) == JobState::Finished);
            let ran = log.labels();
            let expected = [0, 1, 2].map(|label| ran.contains(&label));
            assert_eq!(finished, expected);
        });
    }

    #[test]
    fn none_starts_after_a_cancel_of_the_group() {
        beside_the_end_of_their_group(|group| {
            group
                .0
                .enter(|state, effects| state.stop(StopReason::Cancelled, effects));
        });
    }

    #[test]
    fn none_starts_after_the_group_was_dropped() {
        beside_the_end_of_their_group(|group| {
            group.0.enter(|state, effects| {
                state.group_dropped(effects);
            });
        });
    }

    /// With a grace of zero, which is over at the call.
    #[test]
    fn none_starts_when_the_grace_of_a_shutdown_is_over() {
        beside_the_end_of_their_group(|group| {
            group.0.enter(|state, effects| {
                state.close_until(Closing::ShutDown, NOW, NOW, effects);
            });
            group.drop_all(NOW);
        });
    }

    /// A worker is dropped with what it has claimed: only a runtime that goes does that.
    #[test]
    fn none_is_lost_when_the_runtime_goes() {
        check(|| {
            let (group, log) = (Group::new(usize::MAX, 2), Log::default());
            group.drive();
            for label in 0..3 {
                group.add(NOW, log.job(label));
            }
            let threads = group.threads();
            group.0.runtime.shut_down();
            join(threads);
            let stats = group.stats();
            assert_eq!((stats.pending, stats.running), (0, 0));
            assert_eq!(stats.finished + stats.cancelled, 3);
            assert_eq!(stats.finished as usize, log.len());
        });
    }
}

/// A grace that the clock ends before any step under the lock has noted it.
mod grace {
    use super::*;

    /// Three due jobs and two workers, beside `call` once the grace is over. What is pending after it never starts.
    fn over_beside_a_claim(closing: Closing, call: impl Fn(&Group, u32) + Send + Sync + 'static) {
        check_large(move || {
            let (group, log) = (Group::new(usize::MAX, 2), Log::default());
            let slots = [0, 1, 2].map(|label| group.add(NOW, log.job(label)));
            group.release(&mut Queue::new(NOW), NOW);
            let before = group.close_until_soon(closing);
            let threads = group.threads();
            // The workers claim before the end and go on after it, in orders that need no preemption of this thread.
            thread::yield_now();
            group.0.advance(SOON);
            call(&group, slots[2]);
            let lost = group.stats();
            let lost = lost.cancelled + lost.pending as u64;
            thread::yield_now();
            group.drop_all(SOON);
            group.0.runtime.close();
            join(threads);
            let (stats, report) = (group.stats(), group.report(before));
            assert_eq!((stats.pending, stats.running), (0, 0));
            assert_eq!(stats.finished as usize, log.len());
            // One that has left its local queue, and counts as running, may still be given back.
            assert!(stats.cancelled >= lost, "{stats:?}, {lost} lost");
            let reported = (report.finished as u64, report.dropped as u64);
            assert_eq!(reported, (stats.finished, stats.cancelled));
            assert_eq!(stats.finished + stats.cancelled, 3);
        });
    }

    #[test]
    fn none_starts_after_a_shutdown() {
        over_beside_a_claim(Closing::ShutDown, |_, _| {});
    }

    #[test]
    fn none_starts_after_a_drain() {
        over_beside_a_claim(Closing::Drain, |_, _| {});
    }

    #[test]
    fn a_cancel_prevents_nothing_any_more() {
        over_beside_a_claim(Closing::ShutDown, |group, slot| {
            assert!(!group.cancel(slot))
        });
    }

    #[test]
    fn a_reset_moves_nothing_any_more() {
        over_beside_a_claim(Closing::Drain, |group, slot| {
            assert!(!group.reset(slot, SOON))
        });
    }

    #[test]
    fn an_abort_comes_too_late() {
        over_beside_a_claim(Closing::Drain, Group::abort);
    }

    /// The driver ends the grace as soon as it has nothing else to do.
    #[test]
    fn what_a_job_schedules_beside_its_end_is_in_the_report_or_was_rejected() {
        check(|| {
            let (group, log) = (Group::new(9, 1), Log::default());
            group.drive();
            let accepted = Arc::new(AtomicU64::new(0));
            let (inner, count, outer, job) =
                (group.clone(), Arc::clone(&accepted), log.job(0), log.job(1));
            group.add(NOW, async move {
                outer.await;
                let slot = inner.submit_as(Caller::Job, NOW, job, JobKind::Once);
                count.fetch_add(u64::from(slot.is_some()), Relaxed);
            });
            let before = group.close_until_soon(Closing::Drain);
            let thread = group.thread();
            let well = group.outcome();
            group.0.runtime.close();
            join([thread]);
            let report = group.report(before);
            assert_eq!((report.finished, report.aborted), (log.len(), 0));
            assert_eq!(well, report.dropped == 0, "{report:?}");
            let accepted = accepted.load(Relaxed) as usize;
            assert_eq!(report.finished + report.dropped, 1 + accepted);
        });
    }
}

/// Jobs that await, and the places where they do.
mod awaiting {
    use super::*;

    /// A group whose worker has a place at hand, if `ready`, where another job has awaited.
    fn group(limit: usize, ready: bool) -> Group {
        let group = Group::new(limit, 1);
        if ready {
            let signal = Signal::default();
            group.add(NOW, signal.clone().received());
            group.release(&mut Queue::new(NOW), NOW);
            group.0.runtime.run_ready();
            signal.send();
            group.0.runtime.run_ready();
        }
        group
    }

    /// A wake-up that comes while the job is on its way to its place, or later.
    fn hears_of_its_wake_up(ready: bool) {
        check(move || {
            let (group, log, signal) = (group(9, ready), Log::default(), Signal::default());
            group.add(NOW, log.after(&signal, 1));
            group.release(&mut Queue::new(NOW), NOW);
            let threads = group.threads();
            signal.send();
            assert!(group.wait());
            assert_eq!(log.labels(), [1]);
            join(threads);
        });
    }

    #[test]
    fn a_job_hears_of_its_wake_up_at_a_new_place() {
        hears_of_its_wake_up(false);
    }

    #[test]
    fn a_job_hears_of_its_wake_up_at_a_place_that_is_used_again() {
        hears_of_its_wake_up(true);
    }

    /// Wake-ups of a former job, which kept its waker, are not taken for those of the next, and harm nothing.
    #[test]
    fn a_late_wake_up_of_a_former_job_harms_nothing() {
        check(|| {
            let (group, log, signal) = (Group::new(1, 1), Log::default(), Signal::default());
            let kept = Arc::new(Plain::new(None));
            let keeper = Arc::clone(&kept);
            group.add(
                NOW,
                poll_fn(move |cx| {
                    *keeper.lock().unwrap() = Some(cx.waker().clone());
                    Poll::Ready(())
                }),
            );
            group.add(NOW, log.after(&signal, 1));
            let mut queue = Queue::new(NOW);
            group.release(&mut queue, NOW);
            let threads = group.threads();
            if let Some(waker) = kept.lock().unwrap().take() {
                waker.wake();
            }
            signal.send();
            assert!(group.wait());
            assert_eq!(log.labels(), [1]);
            join(threads);
        });
    }

    /// An abort reaches a run whatever it does at the moment: before its start, at its first await, on its way to
    /// its place, or after.
    fn is_stopped_by_an_abort(ready: bool) {
        check(move || {
            let group = group(9, ready);
            let job = group.add(NOW, pending());
            group.release(&mut Queue::new(NOW), NOW);
            let threads = group.threads();
            group.abort(job);
            assert!(group.wait(), "it is no error");
            assert_eq!(group.state(job), JobState::Cancelled);
            join(threads);
        });
    }

    #[test]
    fn an_abort_stops_a_run_on_its_way_to_a_new_place() {
        is_stopped_by_an_abort(false);
    }

    #[test]
    fn an_abort_stops_a_run_on_its_way_to_a_place_that_is_used_again() {
        is_stopped_by_an_abort(true);
    }

    /// A wake-up against an abort: the job ends by itself or is stopped, once.
    #[test]
    fn a_wake_up_beside_an_abort_has_one_winner() {
        check(|| {
            let (group, log, signal) = (group(9, true), Log::default(), Signal::default());
            let job = group.add(NOW, log.after(&signal, 1));
            group.release(&mut Queue::new(NOW), NOW);
            group.0.runtime.run_ready();
            let thread = group.thread();
            let sender = group.beside(move |_| signal.send());
            group.abort(job);
            assert!(group.wait());
            sender.join().unwrap();
            join([thread]);
            let stats = group.stats();
            let (finished, aborted) = (stats.finished - 1, stats.cancelled);
            assert_eq!((finished as usize, finished + aborted), (log.len(), 1));
        });
    }

    /// An abort of a job beside its end, after which its place is the next job's: that one is not hit.
    fn an_abort_hits_no_other_job(limit: usize) {
        check(move || {
            let (group, log) = (group(limit, true), Log::default());
            let signals = [(); 2].map(|()| Signal::default());
            let job = group.add(NOW, log.after(&signals[0], 0));
            let mut queue = Queue::new(NOW);
            group.release(&mut queue, NOW);
            group.0.runtime.run_ready();
            let next = group.add(NOW, log.after(&signals[1], 1));
            group.release(&mut queue, NOW);
            let threads = group.threads();
            signals[0].send();
            group.abort(job);
            signals[1].send();
            assert!(group.wait());
            assert_eq!(group.state(next), JobState::Finished);
            assert_eq!(log.labels().last(), Some(&1));
            join(threads);
        });
    }

    /// The end is recorded at once, since another job waits for the slot.
    #[test]
    fn an_abort_never_hits_the_next_job_of_the_same_place() {
        an_abort_hits_no_other_job(1);
    }

    /// The end is recorded with the next claim.
    #[test]
    fn an_abort_never_hits_a_job_that_starts_before_the_end_of_the_former_is_recorded() {
        an_abort_hits_no_other_job(9);
    }

    /// A run of a series that awaits again finds another place; an abort is for the one where it is.
    #[test]
    fn an_abort_of_a_series_is_for_the_place_of_its_present_run() {
        check_large(|| {
            let (group, never) = (Group::new(9, 2), Signal::default());
            group.drive();
            let signal = Signal::default();
            let runs = Series::new(vec![signal.clone(), never.clone()]);
            let series = group
                .submit(NOW, runs, JobKind::Series)
                .expect("it is open");
            let threads = group.threads();
            signal.send();
            // Until its second run awaits.
            while never.0.lock().unwrap().1.is_none() {
                thread::yield_now();
            }
            group.abort(series);
            assert!(group.wait());
            let stats = group.stats();
            assert_eq!((stats.finished, stats.cancelled), (0, 1));
            join(threads);
        });
    }

    /// The walk that wakes what is to be aborted beside a run that comes to its first await: it is told there, or
    /// woken afterwards.
    fn is_stopped_by_the_end_of_its_group(ready: bool) {
        check(move || {
            let group = group(9, ready);
            group.add(NOW, pending());
            group.release(&mut Queue::new(NOW), NOW);
            let threads = group.threads();
            group.0.enter(|state, effects| {
                state.group_dropped(effects);
            });
            group.drop_all(NOW);
            group.0.runtime.close();
            join(threads);
            let stats = group.stats();
            assert_eq!((stats.pending, stats.running), (0, 0));
            assert_eq!(stats.cancelled, 1);
        });
    }

    #[test]
    fn the_end_of_a_group_stops_a_run_on_its_way_to_a_new_place() {
        is_stopped_by_the_end_of_its_group(false);
    }

    #[test]
    fn the_end_of_a_group_stops_a_run_on_its_way_to_a_place_that_is_used_again() {
        is_stopped_by_the_end_of_its_group(true);
    }

    /// The runtime drops the tasks one after the other while a job is on its way into one of them: the job was lost,
    /// and `wait` must not say that all is well.
    fn is_not_well_when_the_runtime_goes(ready: bool) {
        check(move || {
            let group = group(9, ready);
            group.drive();
            let job = group.add(NOW, pending());
            let threads = group.threads();
            assert!(group.close());
            group.0.runtime.shut_down();
            assert!(!group.outcome());
            join(threads);
            assert_eq!(group.state(job), JobState::Cancelled);
            let stats = group.stats();
            assert_eq!((stats.pending, stats.running), (0, 0));
        });
    }

    #[test]
    fn a_runtime_that_goes_beside_the_first_await_ends_the_group() {
        is_not_well_when_the_runtime_goes(false);
    }

    #[test]
    fn a_runtime_that_goes_beside_an_await_at_a_place_that_is_used_again_ends_the_group() {
        is_not_well_when_the_runtime_goes(true);
    }
}

mod wait {
    use super::*;

    /// Two jobs that await, which end beside the call of `wait`.
    fn two_that_end() -> (Group, [JoinHandle<()>; 3]) {
        let (group, log) = (Group::new(2, 1), Log::default());
        let signals = [(); 2].map(|()| Signal::default());
        for signal in &signals {
            group.add(NOW, log.after(signal, 1));
        }
        group.release(&mut Queue::new(NOW), NOW);
        group.0.runtime.run_ready();
        let sender = group.beside(move |_| signals.iter().for_each(Signal::send));
        let [one, two] = group.threads();
        (group, [sender, one, two])
    }

    /// The last one out rings.
    #[test]
    fn it_hears_of_the_last_end() {
        check_large(|| {
            let (group, threads) = two_that_end();
            assert!(group.wait());
            join(threads);
        });
    }

    /// A `wait` that is given up, as a `select!` does, and called again.
    #[test]
    fn one_after_another_that_was_given_up_hears_of_the_last_end() {
        check_large(|| {
            let (group, threads) = two_that_end();
            assert!(group.close());
            let mut number = None;
            group.0.enter(|state, _| {
                if state.outcome().is_none() {
                    let unheard = Waker::from(Arc::<Bell>::default());
                    state.waiters.listen(&mut number, unheard);
                }
            });
            if let Some(number) = number {
                group.0.enter(|state, _| drop(state.waiters.leave(number)));
            }
            group.0.enter(|state, _| state.lifecycle.give_up_wait());
            assert!(group.wait());
            join(threads);
        });
    }
}
