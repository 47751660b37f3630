//! Deliveries: what waits for its delay is a job of the group, what is due stands in the queue of its target.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use backon::ExponentialBuilder;
use rate_limited_retries::{Context, Dispatcher, Policy, Rate, Reason};
use schedgroup::flow::Verdict;
use schedgroup::{Group, Handle, JobHandle};

use super::http::{self, Refusal};

/// How long an id is known after its delivery has ended.
const REMEMBERED: Duration = Duration::from_secs(3_600);
pub(crate) const GRACE: Duration = Duration::from_secs(5);

/// One delivery.
pub(crate) struct Delivery {
    pub(crate) id: String,
    /// The host and the port: the key.
    pub(crate) target: String,
    pub(crate) path: String,
    pub(crate) payload: Vec<u8>,
}

/// Where a delivery is.
enum State {
    /// It waits for its delay.
    Delayed(Arc<Delivery>, JobHandle),
    Queued(Arc<Delivery>),
    /// The number of attempts that have started.
    Begun(Arc<Delivery>, u32),
    Deleted,
    Ended,
}

/// What was not delivered when the service ended.
pub(crate) struct Left {
    pub(crate) id: String,
    pub(crate) target: String,
    pub(crate) attempts: u32,
}

/// The answer to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Accepted,
    Known,
    Busy,
    Prevented,
    TooLate,
    Unknown,
}

type Table = Arc<Mutex<HashMap<String, State>>>;
type Deliveries = Dispatcher<String, Arc<Delivery>>;

pub(crate) struct Service {
    group: Group,
    dispatcher: Deliveries,
    table: Table,
    is_ending: AtomicBool,
}

fn lock(table: &Table) -> MutexGuard<'_, HashMap<String, State>> {
    table.lock().expect("nothing panics under it")
}

impl Service {
    pub(crate) fn start() -> Service {
        let (group, table) = (Group::new(), Table::default());
        let backoff = ExponentialBuilder::default()
            .with_min_delay(Duration::from_millis(200))
            .with_max_delay(Duration::from_secs(60))
            .with_max_times(10)
            .with_jitter();
        let policy = Policy::new(backoff)
            .when(|refusal| match *refusal {
                Refusal::Status(429 | 503, Some(after)) => Verdict::RetryAfter(after),
                Refusal::Status(429 | 500.., _) | Refusal::Broken(_) => Verdict::Retry,
                Refusal::Status(..) => Verdict::Stop,
            })
            .max_retry_after(Duration::from_secs(600))
            .attempt_timeout(Duration::from_secs(10))
            .in_order()
            .notify(|failure, pause| eprintln!("{failure}: again in {pause:?}"));
        let of_work = Arc::clone(&table);
        let dispatcher = Dispatcher::builder()
            .per_key(Rate::per_second(50).burst(5))
            // In order: one at a time of a target, and the policy lets nothing overtake it.
            .in_flight(1)
            .max_running(100)
            .bound(10_000)
            .run(&group, move |delivery, context| {
                deliver(delivery, context, policy.clone(), Arc::clone(&of_work))
            });
        Service {
            group,
            dispatcher,
            table,
            is_ending: AtomicBool::new(false),
        }
    }

    /// Accepts a delivery, if its id is new.
    pub(crate) fn accept(&self, delivery: Delivery, delay: Duration) -> Answer {
        let delivery = Arc::new(delivery);
        let mut table = lock(&self.table);
        let Entry::Vacant(place) = table.entry(delivery.id.clone()) else {
            return Answer::Known;
        };
        if delay.is_zero() {
            // Under the table's lock, so that no other request finds the id of a delivery that is rejected.
            let pushed = self
                .dispatcher
                .try_push(delivery.target.clone(), Arc::clone(&delivery));
            if pushed.is_err() {
                return Answer::Busy;
            }
            place.insert(State::Queued(delivery));
            return Answer::Accepted;
        }
        if self.is_ending.load(Ordering::SeqCst) {
            return Answer::Busy;
        }
        let (dispatcher, due, known) = (
            self.dispatcher.clone(),
            Arc::clone(&delivery),
            Arc::clone(&self.table),
        );
        let job = self.group.handle().delay(delay, async move {
            // Not the delivery of a later request with the same id, if this one was deleted.
            let is_own = |state: &State| match state {
                State::Delayed(delivery, _) => Arc::ptr_eq(delivery, &due),
                _ => false,
            };
            let is_due = lock(&known)
                .get_mut(&due.id)
                .filter(|state| is_own(state))
                .map(|state| std::mem::replace(state, State::Queued(Arc::clone(&due))));
            if is_due.is_some() {
                // It fails only if the service ends, which then lists the delivery.
                let _ = dispatcher.push(due.target.clone(), due).await;
            }
        });
        place.insert(State::Delayed(delivery, job));
        Answer::Accepted
    }

    /// Prevents a delivery whose first attempt has not begun.
    pub(crate) fn delete(&self, id: &str) -> Answer {
        let mut table = lock(&self.table);
        match table.get_mut(id) {
            None => Answer::Unknown,
            // It is left out when its turn comes. The client may have heard nothing, and ask again.
            Some(state @ (State::Queued(_) | State::Deleted)) => {
                *state = State::Deleted;
                Answer::Prevented
            }
            Some(State::Delayed(..)) => {
                let state = table.remove(id);
                drop(table);
                match state {
                    // Its job looks for the id if it has just begun.
                    Some(State::Delayed(_, job)) => {
                        job.cancel();
                        Answer::Prevented
                    }
                    _ => Answer::Unknown,
                }
            }
            Some(State::Begun(..) | State::Ended) => Answer::TooLate,
        }
    }

    /// Counts, as lines of text.
    pub(crate) fn stats(&self, target: Option<&String>) -> String {
        let Some(target) = target else {
            let stats = self.dispatcher.stats();
            return format!(
                "queued {}\ndelayed {}\nrunning {}\nstarted {}\nretried {}\ntargets {}\nwaiting for their delay {}\n",
                stats.queued,
                stats.delayed,
                stats.running,
                stats.started,
                stats.returned,
                stats.keys,
                self.waiting(),
            );
        };
        let stats = self.dispatcher.key_stats(target);
        let next = stats
            .next
            .map(|next| next.saturating_duration_since(tokio::time::Instant::now()));
        format!(
            "queued {}\ndelayed {}\nrunning {}\nstarted {}\nnext in {next:?}\n",
            stats.queued, stats.delayed, stats.running, stats.started,
        )
    }

    fn waiting(&self) -> usize {
        let table = lock(&self.table);
        let states = table.values();
        states
            .filter(|state| matches!(state, State::Delayed(..)))
            .count()
    }

    /// Accepts no more, lets what is queued go on for the grace, and returns what is left.
    pub(crate) async fn drain(&self) -> Vec<Left> {
        self.is_ending.store(true, Ordering::SeqCst);
        let drained = self.dispatcher.drain(GRACE).await;
        // Attempts that run go on for a moment.
        self.group.shutdown(Duration::from_secs(1)).await;
        let mut table = lock(&self.table);
        let queued = drained.left.into_iter().filter_map(|left| {
            let state = table.remove(&left.work.id);
            let is_wanted = !matches!(state, Some(State::Deleted));
            is_wanted.then(|| Left {
                id: left.work.id.clone(),
                target: left.work.target.clone(),
                attempts: left.attempts,
            })
        });
        let mut left: Vec<Left> = queued.collect();
        // The others wait for their delay, were due when the dispatcher was closed, or their attempt was cut off.
        left.extend(table.drain().filter_map(|(id, state)| {
            let (delivery, attempts) = match state {
                State::Delayed(delivery, _) | State::Queued(delivery) => (delivery, 0),
                State::Begun(delivery, attempts) => (delivery, attempts),
                State::Deleted | State::Ended => return None,
            };
            let target = delivery.target.clone();
            Some(Left {
                id,
                target,
                attempts,
            })
        }));
        left
    }
}

/// Makes one attempt.
async fn deliver(
    delivery: Arc<Delivery>,
    context: Context<String, Arc<Delivery>>,
    policy: Policy<Refusal>,
    table: Table,
) {
    let group: Handle = context.job().handle();
    match lock(&table).get_mut(&delivery.id) {
        Some(State::Deleted) | None => return forget_later(&group, &table, &delivery.id),
        Some(state) => *state = State::Begun(Arc::clone(&delivery), context.attempt()),
    }
    if let Err(failure) = policy.attempt(http::post(&delivery)).await {
        let retried = context.retry(&policy, Arc::clone(&delivery), &failure);
        let Err(gave_up) = retried else {
            return;
        };
        if gave_up.reason == Reason::Closed {
            // The service ends, and lists it.
            return;
        }
        let (id, attempts) = (&delivery.id, gave_up.attempts);
        eprintln!(
            "{id}: given up after {attempts} attempts, {}: {failure}",
            gave_up.reason
        );
    }
    if let Some(state) = lock(&table).get_mut(&delivery.id) {
        *state = State::Ended;
    }
    forget_later(&group, &table, &delivery.id);
}

/// An id that has ended, or was deleted, is known for a while, so that it is not delivered twice.
fn forget_later(group: &Handle, table: &Table, id: &str) {
    let (table, id) = (Arc::clone(table), id.to_owned());
    group.delay(REMEMBERED, async move {
        lock(&table).remove(&id);
    });
}

#[cfg(test)]
mod tests {
    use schedgroup::JobState;

    use super::*;

    fn delivery(id: impl ToString) -> Delivery {
        Delivery {
            id: id.to_string(),
            target: "127.0.0.1:1".to_owned(),
            path: "/hook".to_owned(),
            payload: Vec::new(),
        }
    }

    /// The delivery is deleted and posted again when the job of its delay has begun, and before that looks for it.
    #[test]
    fn a_delayed_delivery_that_is_deleted_and_posted_again_is_queued_once() {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let _inside = runtime.enter();
        let service = Service::start();
        let accepted = service.accept(delivery(7), Duration::from_millis(1));
        assert_eq!(accepted, Answer::Accepted);
        let mut table = lock(&service.table);
        let Some(State::Delayed(_, begun)) = table.remove("7") else {
            panic!("it is not delayed");
        };
        // It waits for the lock.
        while begun.state() != JobState::Running {
            std::thread::yield_now();
        }
        let again = Arc::new(delivery(7));
        let later = service.group.delay(REMEMBERED, async {});
        table.insert("7".to_owned(), State::Delayed(again, later));
        drop(table);
        while !begun.is_finished() {
            std::thread::yield_now();
        }
        assert_eq!(service.waiting(), 1);
        let stats = service.dispatcher.stats();
        assert_eq!((stats.queued, stats.started), (0, 0));
    }

    /// The client of a `DELETE` that got no answer asks again.
    #[test]
    fn a_delivery_that_was_deleted_is_not_too_late_to_delete() {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        let runtime = builder.enable_all().start_paused(true).build().unwrap();
        let _inside = runtime.enter();
        let service = Service::start();
        service.accept(delivery(1), Duration::ZERO);
        let delete = || service.delete("1");
        assert_eq!([delete(), delete()], [Answer::Prevented; 2]);
        runtime.block_on(tokio::time::sleep(GRACE));
        assert_eq!(service.dispatcher.stats().started, 1, "its turn has come");
        assert_eq!(delete(), Answer::Prevented);
    }

    /// One of them finds the id in the table. It must not be the id of a delivery that is just being rejected.
    #[test]
    fn of_two_requests_with_one_id_none_is_known_if_the_other_is_rejected() {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let _inside = runtime.enter();
        let service = Service::start();
        let both = std::sync::Barrier::new(2);
        // The second half of them finds the dispatcher full.
        let accept_all = || {
            let ids = (0..20_000).map(|id| {
                both.wait();
                service.accept(delivery(id), Duration::ZERO)
            });
            ids.collect::<Vec<_>>()
        };
        let (answers, others) = std::thread::scope(|scope| {
            let others = scope.spawn(accept_all);
            (accept_all(), others.join().unwrap())
        });
        let pairs = || answers.iter().zip(&others);
        let unheard = pairs().find(|pair| {
            matches!(
                pair,
                (Answer::Known, Answer::Busy) | (Answer::Busy, Answer::Known)
            )
        });
        assert_eq!(unheard, None);
        let rejected = pairs().filter(|pair| *pair == (&Answer::Busy, &Answer::Busy));
        assert!(rejected.count() > 1_000, "it was hardly ever full");
    }

    #[test]
    fn what_is_posted_during_a_drain_is_rejected_also_if_it_has_a_delay() {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        let runtime = builder.enable_all().start_paused(true).build().unwrap();
        let _inside = runtime.enter();
        let service = Service::start();
        // It is retried until the grace is over.
        assert_eq!(
            service.accept(delivery(1), Duration::ZERO),
            Answer::Accepted
        );
        let post = async {
            let answers =
                [Duration::ZERO, REMEMBERED].map(|delay| service.accept(delivery(2), delay));
            assert_eq!(answers, [Answer::Busy; 2]);
        };
        let (left, ()) = runtime.block_on(async { tokio::join!(service.drain(), post) });
        let left: Vec<String> = left.into_iter().map(|left| left.id).collect();
        assert_eq!(left, ["1"]);
    }
}
