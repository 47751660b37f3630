//! Every misuse panics with these words, at the line of the caller; every `try_` form gives the job
//! back instead; a context's methods do neither; and what errors say.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use schedgroup::flow;
use schedgroup::keyed::{KeyedGroup, OnDuplicate};
use schedgroup::task::TaskGroup;
use schedgroup::{Group, JobContext, JobError, JobHandle, JobState, ScheduleError, WaitError};
use tokio::sync::oneshot;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::common::{
    Flag, HOUR, Hold, Key, Log, Misuse, OnDrop, context_of, methods, ms, multi_thread, on_both,
    panic_of, poll_once, settle,
};

const AFTER_WAIT: &str = "schedgroup: attempted to schedule job after Group::wait was called";
const AFTER_DRAIN: &str = "schedgroup: attempted to schedule job after Group::drain was called";
const AFTER_SHUTDOWN: &str =
    "schedgroup: attempted to schedule job after Group::shutdown was called";
const WAIT_TWICE: &str = "schedgroup: multiple calls to Group::wait";
const WAIT_INSIDE: &str =
    "schedgroup: Group::wait was called from inside one of the group's own jobs";
const NO_RUNTIME: &str = "schedgroup: a group must be created inside a tokio runtime; enter one, or name one with `builder().runtime(handle)`";
const NO_SLOT: &str = "schedgroup: max_running must be at least 1";

fn at_line(line: u32, message: &str) -> Misuse {
    Misuse {
        message: message.to_owned(),
        file: file!().to_owned(),
        line,
    }
}

/// The methods' panics, and that each has dropped the job that it was given.
#[track_caller]
fn assert_all_panic<'a>(
    methods: impl IntoIterator<Item = (&'static str, Box<dyn FnOnce() -> JobHandle + 'a>)>,
    flag: &Flag,
    expected: &Misuse,
) {
    for (method, call) in methods {
        let before = flag.drops();
        assert_eq!(panic_of(call), *expected, "{method}");
        assert_eq!(flag.drops(), before + 1, "{method} drops what it was given");
    }
}

mod scheduling_on_a_closed_group {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn every_method_panics_at_the_callers_line_after_wait() {
        let (group, flag) = (Group::new(), Flag::new());
        group.wait().await.unwrap();
        let (now, job) = (Instant::now(), || flag.job());
        let methods = methods!(group, now, job);
        assert_all_panic(methods, &flag, &at_line(line!() - 1, AFTER_WAIT));
    }

    #[tokio::test(start_paused = true)]
    async fn every_method_panics_at_the_callers_line_after_shutdown() {
        let (group, flag) = (Group::new(), Flag::new());
        group.shutdown(HOUR).await;
        let (now, job) = (Instant::now(), || flag.job());
        let methods = methods!(group, now, job);
        assert_all_panic(methods, &flag, &at_line(line!() - 1, AFTER_SHUTDOWN));
    }

    /// Also when its grace is over; and whatever else is called, the words are those of the method that closed it
    /// furthest.
    #[tokio::test(start_paused = true)]
    async fn every_method_panics_at_the_callers_line_after_drain() {
        let (group, flag) = (Group::new(), Flag::new());
        group.delay(HOUR, async {});
        let drain = group.drain(ms(10));
        let (now, job) = (Instant::now(), || flag.job());
        let methods = methods!(group, now, job);
        assert_all_panic(methods, &flag, &at_line(line!() - 1, AFTER_DRAIN));
        drop(group.wait());
        drain.await;
        let methods = methods!(group, now, job);
        assert_all_panic(methods, &flag, &at_line(line!() - 1, AFTER_DRAIN));
        let rejected = group.try_delay(ms(1), flag.job()).unwrap_err();
        assert!(matches!(rejected, ScheduleError::Closed(_)), "{rejected:?}");
        group.shutdown(HOUR).await;
        let methods = methods!(group, now, job);
        assert_all_panic(methods, &flag, &at_line(line!() - 1, AFTER_SHUTDOWN));
    }

    #[tokio::test(start_paused = true)]
    async fn a_group_is_closed_from_the_call_of_wait_on() {
        let (group, flag) = (Group::new(), Flag::new());
        group.delay(HOUR, async {});
        let wait = group.wait();
        let (now, job) = (Instant::now(), || flag.job());
        let unpolled = methods!(group, now, job);
        assert_all_panic(unpolled, &flag, &at_line(line!() - 1, AFTER_WAIT));
        drop(wait);
        let dropped = methods!(group, now, job);
        assert_all_panic(dropped, &flag, &at_line(line!() - 1, AFTER_WAIT));
    }

    #[tokio::test(start_paused = true)]
    async fn a_group_is_closed_from_the_call_of_shutdown_on() {
        let (group, flag) = (Group::new(), Flag::new());
        drop(group.shutdown(HOUR));
        let (now, job) = (Instant::now(), || flag.job());
        let methods = methods!(group, now, job);
        assert_all_panic(methods, &flag, &at_line(line!() - 1, AFTER_SHUTDOWN));
    }

    /// What the rejected job's destructor panics with is not what the caller hears.
    #[tokio::test(start_paused = true)]
    async fn the_panic_is_ours_though_a_destructor_of_the_rejected_job_panics_too() {
        let (group, keyed) = (Group::new(), KeyedGroup::new());
        group.wait().await.unwrap();
        keyed.wait().await.unwrap();
        let now = Instant::now();
        let bomb = || {
            let bomb = OnDrop(|| panic!("in a destructor"));
            async move { drop(bomb) }
        };
        let says_so = |what, call: Box<dyn FnOnce() + '_>| {
            let panic = catch_unwind(AssertUnwindSafe(call)).unwrap_err();
            let text = panic.downcast_ref::<String>().map(String::as_str);
            assert_eq!(text, Some(AFTER_WAIT), "{what}");
        };
        for (method, call) in methods!(group, now, bomb) {
            says_so(method, Box::new(|| drop(call())));
        }
        let of_key = || keyed.delay(Key(1, true), ms(1), async {}, OnDuplicate::Replace);
        says_so("a key", Box::new(|| _ = of_key()));
        let of_job = || keyed.delay(Key(1, false), ms(1), bomb(), OnDuplicate::Replace);
        says_so("a keyed job", Box::new(|| _ = of_job()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_group_both_closed_and_cancelled_answers_as_closed() {
        for cancel_first in [true, false] {
            let group = Group::new();
            let flag = Flag::new();
            if cancel_first {
                group.cancel();
            }
            drop(group.wait());
            group.cancel();
            let (now, job) = (Instant::now(), || flag.job());
            let methods = methods!(group, now, job);
            assert_all_panic(methods, &flag, &at_line(line!() - 1, AFTER_WAIT));
            let rejected = group.try_delay(ms(1), flag.job()).unwrap_err();
            assert!(matches!(rejected, ScheduleError::Closed(_)), "{rejected:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_rejection_harms_nothing_that_was_accepted() {
        let group = Group::new();
        let log = Log::new();
        group.delay(ms(10), log.job("accepted"));
        let wait = group.wait();
        panic_of(|| group.delay(ms(1), async {}));
        wait.await.unwrap();
        assert_eq!(log.take(), [("accepted", ms(10))]);
    }
}

mod waiting {
    use super::*;

    #[test]
    fn a_second_wait_panics_at_the_callers_line() {
        on_both(|| async {
            let finished = Group::new();
            finished.wait().await.unwrap();
            let again = panic_of(|| drop(finished.wait()));
            assert_eq!(again, at_line(line!() - 1, WAIT_TWICE));

            let pending = Group::new();
            let job = pending.delay(HOUR, async {});
            let first = pending.wait();
            let again = panic_of(|| drop(pending.wait()));
            assert_eq!(again, at_line(line!() - 1, WAIT_TWICE));
            // The first one is unharmed.
            assert!(job.cancel());
            first.await.unwrap();

            let dropped = Group::new();
            drop(dropped.wait());
            let second = dropped.wait();
            let again = panic_of(|| drop(dropped.wait()));
            assert_eq!(again, at_line(line!() - 1, WAIT_TWICE));
            second.await.unwrap();
            let again = panic_of(|| drop(dropped.wait()));
            assert_eq!(again, at_line(line!() - 1, WAIT_TWICE));

            let cancelled = Group::new();
            cancelled.cancel();
            cancelled.wait().await.unwrap_err();
            let again = panic_of(|| drop(cancelled.wait()));
            assert_eq!(again, at_line(line!() - 1, WAIT_TWICE));
        });
    }

    #[test]
    fn one_wait_beside_a_shutdown_is_no_misuse() {
        on_both(|| async {
            let group = Group::new();
            group.shutdown(HOUR).await;
            group.wait().await.unwrap();

            let group = Group::new();
            group.wait().await.unwrap();
            group.shutdown(HOUR).await;
        });
    }

    #[test]
    fn wait_inside_a_job_of_the_group_panics_at_the_callers_line() {
        on_both(|| async {
            let group = Arc::new(Group::new());
            let (send, seen) = oneshot::channel();
            let inner = Arc::clone(&group);
            group.delay(ms(1), async move {
                let before_an_await = panic_of(|| drop(inner.wait()));
                let line = line!() - 1;
                tokio::time::sleep(ms(1)).await;
                let after_it = panic_of(|| drop(inner.wait()));
                drop(inner);
                let expected = [at_line(line, WAIT_INSIDE), at_line(line + 3, WAIT_INSIDE)];
                send.send(([before_an_await, after_it], expected)).unwrap();
            });
            let (panics, expected) = seen.await.unwrap();
            assert_eq!(panics, expected);
            // The rejected calls were none: this is the first.
            group.wait().await.unwrap();
        });
    }

    #[test]
    fn a_job_may_wait_for_another_group() {
        on_both(|| async {
            let outer = Group::new();
            let log = Log::new();
            let done = log.clone();
            outer.delay(ms(1), async move {
                let inner = Group::new();
                inner.delay(ms(1), done.job("inner"));
                inner.wait().await.unwrap();
                done.push("outer");
            });
            outer.wait().await.unwrap();
            assert_eq!(log.labels(), ["inner", "outer"]);
        });
    }

    /// The check asks who calls, not on which thread it once ran.
    #[test]
    fn a_task_that_a_job_spawned_may_wait() {
        on_both(|| async {
            let group = Arc::new(Group::new());
            let (send, waiter) = oneshot::channel();
            let inner = Arc::clone(&group);
            group.delay(ms(1), async move {
                let waiter = tokio::spawn(async move { inner.wait().await });
                send.send(waiter).unwrap();
            });
            waiter.await.unwrap().await.unwrap().unwrap();
        });
    }
}

mod polling {
    use super::*;

    /// That a future which has ended panics with our words if it is polled again.
    #[track_caller]
    fn assert_named<F: Future + Unpin>(what: &str, mut future: F) {
        assert!(poll_once(&mut future).is_ready(), "{what} has ended");
        let again = panic_of(|| drop(poll_once(&mut future)));
        let named = "schedgroup: a future was polled after it had ended";
        assert_eq!(again.message, named, "{what}");
    }

    #[tokio::test(start_paused = true)]
    async fn after_the_end_is_named_whatever_the_future() {
        let (group, keyed) = (Group::new(), KeyedGroup::<u8>::new());
        let join = group.spawn_after(ms(1), async {});
        let retry = flow::retry(|| std::future::ready(Ok::<_, ()>(()))).spawn_on(&group);
        tokio::time::sleep(ms(2)).await;
        assert_named("JoinHandle", join);
        assert_named("RetryHandle", retry);
        assert_named("Wait", group.wait());
        let rejected = group.handle().spawn_after(ms(1), async {});
        assert_named("a rejected JoinHandle", rejected);
        assert_named("Drain", group.drain(HOUR));
        assert_named("Shutdown", group.shutdown(HOUR));
        assert_named("keyed Wait", keyed.wait());
        assert_named("keyed End", keyed.drain(HOUR));
        let tasks = TaskGroup::<()>::new();
        assert_named("tasks' Drain", tasks.drain(HOUR));
        assert_named("tasks' WaitAll", tasks.wait_all());
        assert_named("tasks' Shutdown", tasks.shutdown(HOUR));
    }
}

mod building {
    use super::*;

    #[test]
    fn a_group_without_a_runtime_panics_at_the_callers_line() {
        let new = panic_of(|| drop(Group::new()));
        assert_eq!(new, at_line(line!() - 1, NO_RUNTIME));
        let with_token = panic_of(|| drop(Group::with_token(CancellationToken::new())));
        assert_eq!(with_token, at_line(line!() - 1, NO_RUNTIME));
        let build = panic_of(|| drop(Group::builder().build()));
        assert_eq!(build, at_line(line!() - 1, NO_RUNTIME));
        let default = panic_of(|| drop(Group::builder().name("n").max_running(1).build()));
        assert_eq!(default, at_line(line!() - 1, NO_RUNTIME));
        let keyed = panic_of(|| drop(KeyedGroup::<u8>::new()));
        assert_eq!(keyed, at_line(line!() - 1, NO_RUNTIME));
        let tasks = panic_of(|| drop(TaskGroup::<()>::with_token(CancellationToken::new())));
        assert_eq!(tasks, at_line(line!() - 1, NO_RUNTIME));
    }

    #[test]
    fn the_remedy_that_the_panic_names_works() {
        let runtime = multi_thread();
        let group = Group::builder().runtime(runtime.handle().clone()).build();
        let log = Log::new();
        group.delay(ms(1), log.job("ran"));
        runtime.block_on(group.wait()).unwrap();
        assert_eq!(log.labels(), ["ran"]);
    }

    #[test]
    fn no_slot_at_all_panics_at_the_callers_line() {
        let panic = panic_of(|| Group::builder().max_running(0));
        assert_eq!(panic, at_line(line!() - 1, NO_SLOT));
    }
}

mod try_forms {
    use super::*;

    /// That both forms, on a group and on its handle, reject with this variant and give the very job
    /// back.
    fn assert_rejected(group: &Group, is_expected: fn(&ScheduleError<Boxed>) -> bool) {
        let handle = group.handle();
        let now = Instant::now();
        let rejections: [(&str, &dyn Fn(Boxed) -> _); 4] = [
            ("Group::try_delay", &|job| group.try_delay(ms(1), job)),
            ("Group::try_schedule", &|job| group.try_schedule(now, job)),
            ("Handle::try_delay", &|job| handle.try_delay(ms(1), job)),
            ("Handle::try_schedule", &|job| handle.try_schedule(now, job)),
        ];
        for (form, reject) in rejections {
            let flag = Flag::new();
            let rejection = reject(Box::pin(flag.job())).unwrap_err();
            assert!(is_expected(&rejection), "{form}: {rejection:?}");
            assert_eq!(flag.drops(), 0, "{form} keeps the job");
            // Its own guard proves that it is the same one.
            drop(rejection.into_inner());
            assert_eq!(flag.drops(), 1, "{form}");
        }
    }

    type Boxed = std::pin::Pin<Box<dyn Future<Output = ()> + Send>>;

    #[tokio::test(start_paused = true)]
    async fn say_closed_after_wait_and_after_shutdown() {
        let waited = Group::new();
        waited.delay(HOUR, async {});
        drop(waited.wait());
        assert_rejected(&waited, |rejection| {
            matches!(rejection, ScheduleError::Closed(_))
        });
        let shut = Group::new();
        drop(shut.shutdown(HOUR));
        assert_rejected(&shut, |rejection| {
            matches!(rejection, ScheduleError::Closed(_))
        });
    }

    #[tokio::test(start_paused = true)]
    async fn say_cancelled_after_a_cancel_of_any_kind() {
        let cancelled = Group::new();
        cancelled.cancel();
        let token = CancellationToken::new();
        let by_token = Group::with_token(token.clone());
        token.cancel();
        let by_deadline = Group::builder().timeout(ms(1)).build();
        tokio::time::sleep(ms(2)).await;
        for group in [cancelled, by_token, by_deadline] {
            assert_rejected(&group, |rejection| {
                matches!(rejection, ScheduleError::Cancelled(_))
            });
        }
    }

    #[tokio::test(start_paused = true)]
    async fn say_cancelled_when_the_group_is_gone() {
        let group = Group::new();
        let handle = group.handle();
        drop(group);
        let rejection = handle.try_delay(ms(1), async {}).unwrap_err();
        assert!(
            matches!(rejection, ScheduleError::Cancelled(_)),
            "{rejection:?}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn accept_on_an_open_group() {
        let group = Group::new();
        let log = Log::new();
        let delayed = group.try_delay(ms(5), log.job("delayed")).unwrap();
        let at = Instant::now() + ms(7);
        group.try_schedule(at, log.job("scheduled")).unwrap();
        assert!(delayed.is_pending());
        group.wait().await.unwrap();
        assert_eq!(log.take(), [("delayed", ms(5)), ("scheduled", ms(7))]);
    }
}

mod contexts {
    use super::*;

    /// That the methods of a context and of its handle return finished handles of dropped jobs.
    fn assert_all_dropped(context: &JobContext) {
        let flag = Flag::new();
        let handle = context.handle();
        let (now, job) = (Instant::now(), || flag.job());
        let of_context = methods!(context, now, job);
        let of_handle = methods!(handle, now, job);
        for (method, call) in of_context.into_iter().chain(of_handle) {
            let before = flag.drops();
            let job = call();
            assert!(job.is_finished(), "{method}: {job:?}");
            assert_eq!(job.state(), JobState::Cancelled, "{method}");
            assert_eq!(flag.drops(), before + 1, "{method}");
            assert!(!job.cancel(), "{method}: nothing was prevented");
            assert!(!job.reset_after(ms(1)), "{method}: nothing can be moved");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn of_a_group_that_was_shut_down_never_panic() {
        let group = Group::new();
        let hold = Hold::new();
        let context = context_of(&group, &hold).await;
        let shutdown = group.shutdown(HOUR);
        assert_all_dropped(&context);
        let rejection = context.try_delay(ms(1), async {}).unwrap_err();
        assert!(
            matches!(rejection, ScheduleError::Closed(_)),
            "{rejection:?}"
        );
        hold.release();
        shutdown.await;
        assert_all_dropped(&context);
    }

    #[tokio::test(start_paused = true)]
    async fn of_a_cancelled_group_never_panic() {
        let group = Group::new();
        let hold = Hold::new();
        let context = context_of(&group, &hold).await;
        group.cancel();
        assert_all_dropped(&context);
        let rejection = context.try_delay(ms(1), async {}).unwrap_err();
        assert!(
            matches!(rejection, ScheduleError::Cancelled(_)),
            "{rejection:?}"
        );
        hold.release();
    }

    #[tokio::test(start_paused = true)]
    async fn of_a_drained_group_never_panic() {
        let group = Group::new();
        let hold = Hold::new();
        let context = context_of(&group, &hold).await;
        hold.release();
        group.wait().await.unwrap();
        assert_all_dropped(&context);
        let rejection = context.try_schedule(Instant::now(), async {}).unwrap_err();
        assert!(
            matches!(rejection, ScheduleError::Closed(_)),
            "{rejection:?}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn of_a_dropped_group_never_panic() {
        let group = Group::new();
        let hold = Hold::new();
        let context = context_of(&group, &hold).await;
        drop(group);
        settle().await;
        assert_all_dropped(&context);
    }
}

mod texts {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn errors_end_without_a_full_stop_and_begin_in_lower_case() {
        let group = Group::new();
        let join = group.spawn_after(ms(1), async { panic!("boom") });
        let wait_error = group.wait().await.unwrap_err();
        let job_error = join.await.unwrap_err();
        let WaitError::Panicked(panic) = &wait_error else {
            panic!("{wait_error:?}")
        };
        let texts = [
            WaitError::Cancelled.to_string(),
            WaitError::DeadlineExceeded.to_string(),
            wait_error.to_string(),
            JobError::Cancelled.to_string(),
            job_error.to_string(),
            panic.to_string(),
            ScheduleError::Closed(()).to_string(),
            ScheduleError::Cancelled(()).to_string(),
        ];
        for text in &texts {
            assert!(!text.ends_with(['.', '!', ' ', '\n']), "{text:?}");
            assert!(
                text.starts_with(|first: char| first.is_lowercase()),
                "{text:?}"
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_panics_text_names_its_job_its_place_and_its_message() {
        let group = Group::new();
        let job = group.delay(ms(1), async { panic!("boom") });
        let place = format!("{}:{}:", file!(), line!() - 1);
        let error = group.wait().await.unwrap_err();
        let text = error.to_string();
        for part in [&job.id().to_string(), &place, "boom"] {
            assert!(text.contains(part), "no {part:?} in {text:?}");
        }
    }

    /// Its text is that of the error, so it is not the source as well.
    #[tokio::test(start_paused = true)]
    async fn a_panic_is_had_from_its_error_by_its_type() {
        use std::error::Error;
        let group = Group::new();
        let join = group.spawn_after(ms(1), async { panic!("boom") });
        let wait_error = group.wait().await.unwrap_err();
        let job_error = Result::<(), _>::unwrap_err(join.await);
        for error in [&wait_error as &dyn Error, &job_error] {
            assert!(error.source().is_none(), "{error:?}");
        }
        let (WaitError::Panicked(one), JobError::Panicked(other)) = (wait_error, job_error) else {
            panic!("both report the panic");
        };
        assert_eq!((one.message(), other.message()), ("boom", "boom"));
    }

    #[tokio::test(start_paused = true)]
    async fn debug_hides_the_job_and_the_payload() {
        #[derive(Debug)]
        struct Secret;
        for error in [
            ScheduleError::Closed(Secret),
            ScheduleError::Cancelled(Secret),
        ] {
            let text = format!("{error:?}");
            assert!(!text.contains("Secret"), "{text}");
        }
        let group = Group::new();
        group.delay(ms(1), async { std::panic::panic_any(Secret) });
        let error = group.wait().await.unwrap_err();
        for text in [format!("{error:?}"), error.to_string()] {
            assert!(!text.contains("Secret"), "{text}");
        }
    }
}
