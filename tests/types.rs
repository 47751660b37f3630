//! What the types promise to the compiler, and what they show of themselves.

use std::collections::HashSet;
use std::error::Error;
use std::fmt::{self, Debug, Display};
use std::future::{Ready, ready};
use std::hash::{BuildHasher, RandomState};
use std::marker::PhantomData;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::time::Duration;

use schedgroup::flow::{
    Ended, Flow, RaceError, Retry, RetryError, RetryHandle, Stream, Verdict, Waterfall,
};
use schedgroup::keyed::{
    BoxedJob, End, Inserted, KeyedContext, KeyedGroup, KeyedHandle, OnDuplicate,
};
use schedgroup::periodic::{Every, MissedTicks, OnPanic, Tick, TimedHandle, WallClock};
use schedgroup::task::{Cause, Member, OnError, TaskGroup, TaskHandle, TaskStats, WaitAll};
use schedgroup::{
    Builder, Drain, Group, Handle, JobContext, JobError, JobHandle, JobId, JobInfo, JobPanic,
    JobState, JoinHandle, Next, Report, ScheduleError, Shutdown, Stats, TaskError, TaskErrors,
    TaskPanic, Wait, WaitError, flow, keyed, task,
};
use tokio::time::Instant;

use crate::common::{HOUR, ms};

/// `true` if the type has the trait: an inherent constant is found before one of a trait.
macro_rules! has {
    ($type:ty, $trait:path) => {{
        #[allow(dead_code)] // Unused where the answer is yes.
        trait Otherwise {
            const HAS: bool = false;
        }
        impl<T> Otherwise for Probe<T> {}
        struct Probe<T>(PhantomData<T>);
        #[allow(dead_code)] // Unused where the answer is no.
        impl<T: $trait> Probe<T> {
            const HAS: bool = true;
        }
        Probe::<$type>::HAS
    }};
}

macro_rules! table {
    ($($type:ty: $($letters:ident)*;)*) => {
        [$((
            stringify!($type),
            concat!($(stringify!($letters), " "),*),
            [
                ("Send", has!($type, Send)),
                ("Sync", has!($type, Sync)),
                ("Unpin", has!($type, Unpin)),
                ("Clone", has!($type, Clone)),
                ("Copy", has!($type, Copy)),
                ("UnwindSafe", has!($type, UnwindSafe)),
                ("RefUnwindSafe", has!($type, RefUnwindSafe)),
            ],
        )),*]
    };
}

type OnlySend = std::cell::Cell<u8>;
type NotSend = std::rc::Rc<u8>;
type Attempt = Ready<Result<u8, u8>>;
type Op = fn() -> Attempt;

#[test]
fn the_table_of_auto_traits() {
    let table = table! {
        Group: Send Sync Unpin UnwindSafe RefUnwindSafe;
        Builder: Send Sync Unpin UnwindSafe RefUnwindSafe;
        Handle: Send Sync Unpin Clone UnwindSafe RefUnwindSafe;
        JobContext: Send Sync Unpin Clone UnwindSafe RefUnwindSafe;
        JobHandle: Send Sync Unpin Clone UnwindSafe RefUnwindSafe;
        JoinHandle<OnlySend>: Send Sync Unpin;
        JoinHandle<NotSend>: Unpin;
        Wait<'static>: Send Unpin;
        Drain<'static>: Send Unpin;
        Shutdown<'static>: Send Unpin;
        JobId: Send Sync Unpin Clone Copy UnwindSafe RefUnwindSafe;
        JobState: Send Sync Unpin Clone Copy UnwindSafe RefUnwindSafe;
        Next: Send Sync Unpin Clone Copy UnwindSafe RefUnwindSafe;
        Stats: Send Sync Unpin Clone Copy UnwindSafe RefUnwindSafe;
        Report: Send Sync Unpin Clone Copy UnwindSafe RefUnwindSafe;
        JobInfo: Send Sync Unpin Clone Copy UnwindSafe RefUnwindSafe;
        JobPanic: Send Sync Unpin Clone UnwindSafe RefUnwindSafe;
        WaitError: Send Sync Unpin Clone UnwindSafe RefUnwindSafe;
        JobError: Send Sync Unpin Clone UnwindSafe RefUnwindSafe;
        ScheduleError<u8>: Send Sync Unpin Clone Copy UnwindSafe RefUnwindSafe;
        ScheduleError<OnlySend>: Send Unpin Clone UnwindSafe;
    };
    agree(&table);
}

#[test]
fn the_table_of_auto_traits_of_the_siblings() {
    let table = table! {
        KeyedGroup<u8>: Send Sync Unpin UnwindSafe RefUnwindSafe;
        KeyedGroup<u8, OnlySend>: Send Sync Unpin UnwindSafe RefUnwindSafe;
        KeyedHandle<u8, OnlySend>: Send Sync Unpin Clone UnwindSafe RefUnwindSafe;
        KeyedContext<u8, OnlySend>: Send Sync Unpin Clone UnwindSafe RefUnwindSafe;
        keyed::Builder<u8, OnlySend>: Send Sync Unpin UnwindSafe RefUnwindSafe;
        End<'static, u8, u8, RandomState>: Send Unpin;
        BoxedJob: Send Unpin;
        Inserted<u8>: Send Sync Unpin Clone Copy UnwindSafe RefUnwindSafe;
        Inserted<OnlySend>: Send Unpin Clone UnwindSafe;
        OnDuplicate: Send Sync Unpin Clone Copy UnwindSafe RefUnwindSafe;
        Every<'static>: Send Sync Unpin Clone;
        WallClock: Send Sync Unpin Clone;
        Tick: Send Sync Unpin Clone UnwindSafe RefUnwindSafe;
        TimedHandle: Send Sync Unpin Clone UnwindSafe RefUnwindSafe;
        MissedTicks: Send Sync Unpin Clone Copy UnwindSafe RefUnwindSafe;
        OnPanic: Send Sync Unpin Clone Copy UnwindSafe RefUnwindSafe;
        TaskGroup: Send Sync Unpin UnwindSafe RefUnwindSafe;
        TaskGroup<OnlySend>: Send Sync Unpin UnwindSafe RefUnwindSafe;
        TaskHandle<OnlySend>: Send Sync Unpin Clone UnwindSafe RefUnwindSafe;
        task::Builder<OnlySend>: Send Sync Unpin UnwindSafe RefUnwindSafe;
        Member<OnlySend>: Send Sync Unpin UnwindSafe RefUnwindSafe;
        task::Wait<'static, OnlySend>: Send Sync Unpin UnwindSafe RefUnwindSafe;
        WaitAll<'static, OnlySend>: Send Sync Unpin UnwindSafe RefUnwindSafe;
        task::Drain<'static, OnlySend>: Send Sync Unpin UnwindSafe RefUnwindSafe;
        task::Shutdown<'static, OnlySend>: Send Sync Unpin UnwindSafe RefUnwindSafe;
        TaskStats: Send Sync Unpin Clone Copy UnwindSafe RefUnwindSafe;
        OnError: Send Sync Unpin Clone Copy UnwindSafe RefUnwindSafe;
        Cause: Send Sync Unpin Clone Copy UnwindSafe RefUnwindSafe;
        TaskError<u8>: Send Sync Unpin Clone UnwindSafe RefUnwindSafe;
        TaskError<OnlySend>: Send Unpin Clone UnwindSafe;
        TaskErrors<u8>: Send Sync Unpin Clone UnwindSafe RefUnwindSafe;
        TaskPanic: Send Sync Unpin Clone UnwindSafe RefUnwindSafe;
        Flow<'static, OnlySend>: Send Unpin;
        Stream<'static, OnlySend>: Send Unpin;
        Waterfall<'static, u8, u8>: Send Unpin;
        Retry<'static, Op, Attempt, u8>: Send Unpin;
        RetryHandle<OnlySend, u8>: Send Sync Unpin;
        RetryError<u8>: Send Sync Unpin Clone Copy UnwindSafe RefUnwindSafe;
        RaceError<u8>: Send Sync Unpin Clone UnwindSafe RefUnwindSafe;
        Ended: Send Sync Unpin Clone Copy UnwindSafe RefUnwindSafe;
        Verdict: Send Sync Unpin Clone Copy UnwindSafe RefUnwindSafe;
    };
    agree(&table);
}

/// A row: the type, the traits that are promised, and each trait with whether the type has it.
type Row = (&'static str, &'static str, [(&'static str, bool); 7]);

#[track_caller]
fn agree(table: &[Row]) {
    for (name, promised, found) in table {
        let found = found
            .iter()
            .filter(|(_, has)| *has)
            .map(|(name, _)| format!("{name} "))
            .collect::<String>();
        assert_eq!(found, *promised, "{name}");
    }
}

/// An error of a user's, with a source of its own.
#[derive(Clone, Debug)]
struct NoRoute(CableCut);

#[derive(Clone, Debug)]
struct CableCut;

const NO_ROUTE: NoRoute = NoRoute(CableCut);

impl Display for NoRoute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no route")
    }
}

impl Error for NoRoute {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.0)
    }
}

impl Display for CableCut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("cable cut")
    }
}

impl Error for CableCut {}

/// What a reporter of errors prints: each error of the chain, between colons.
fn report(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

/// That the report tells each of these, and once.
#[track_caller]
fn tells_once(error: &dyn Error, parts: &[&str]) {
    let text = report(error);
    for part in parts {
        assert_eq!(text.matches(part).count(), 1, "{part:?} in {text:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_chain_of_errors_tells_each_text_once() {
    let group = Group::new();
    let join = group.spawn_after(ms(1), async { panic!("boom") });
    let error: JobError = Result::<(), _>::unwrap_err(join.await);
    tells_once(&error, &["boom", "types.rs", "panicked"]);
    let error = group.wait().await.unwrap_err();
    tells_once(&error, &["boom", "types.rs", "panicked"]);
    let WaitError::Panicked(panic) = error else {
        panic!("{error:?}");
    };
    tells_once(&panic, &["boom", "types.rs", "panicked"]);
    tells_once(&JobError::Cancelled, &["cancelled"]);
    tells_once(&WaitError::Cancelled, &["cancelled"]);
    tells_once(&WaitError::DeadlineExceeded, &["deadline"]);
    tells_once(&ScheduleError::Closed(()), &["closed"]);
    tells_once(&ScheduleError::Cancelled(()), &["cancelled"]);
    tells_once(&ScheduleError::Full(()), &["full"]);

    let tasks = TaskGroup::<()>::new();
    drop(tasks.wait());
    let rejected = tasks.try_spawn(async { Ok(()) });
    tells_once(&rejected.err().unwrap(), &["closed"]);

    let failing = || ready(Err::<(), _>(NO_ROUTE));
    let error = flow::race([failing(), failing()]).await.unwrap_err();
    tells_once(&error, &["no route", "cable cut", "task 1", "too many"]);
    let error = flow::take(3, [failing()]).await.unwrap_err();
    tells_once(&error, &["fewer tasks"]);
    let retry = || flow::retry(failing).delays([Duration::ZERO]);
    let error = retry().await.unwrap_err();
    tells_once(&error, &["no route", "cable cut", "gave up", "2 attempts"]);
    let error = retry().when(|_| Verdict::Stop).await.unwrap_err();
    tells_once(&error, &["no route", "cable cut", "stopped", "1 attempt"]);
    let late = flow::retry(failing).delays([HOUR]).deadline(Instant::now());
    let error = late.await.unwrap_err();
    tells_once(&error, &["deadline", "0 attempts"]);
    let error = flow::race([failing()]).deadline(Instant::now());
    tells_once(&error.await.unwrap_err(), &["deadline"]);
    let error = flow::try_all([failing()]).deadline(Instant::now());
    tells_once(&error.await.unwrap_err(), &["deadline"]);
}

/// An error that is only text is told all the same.
#[tokio::test]
async fn an_error_that_is_only_text_is_in_the_line() {
    let failing = || ready(Err::<(), _>("no route"));
    let error = flow::race([failing()]).await.unwrap_err();
    assert_eq!(error.to_string().matches("no route").count(), 1, "{error}");
    let error = flow::retry(failing).attempts(1).await.unwrap_err();
    assert_eq!(error.to_string(), "gave up after 1 attempt: no route");
}

#[tokio::test]
async fn a_job_id_is_ordered_by_submission_and_can_be_a_key() {
    let group = Group::new();
    let later = group.delay(2 * HOUR, async {}).id();
    let earlier = group.delay(HOUR, async {}).id();
    assert!(
        later < earlier,
        "the order is that of the calls: {later} {earlier}"
    );
    assert_eq!(HashSet::from([later, earlier, later]).len(), 2);
    assert_ne!(later.to_string(), earlier.to_string());
    assert!(!later.to_string().is_empty());
}

/// With the feature and without it, on Linux and elsewhere.
#[tokio::test(start_paused = true)]
async fn a_timer_of_the_kernel_may_be_asked_for_everywhere() {
    let group = Group::builder().timerfd().build();
    group.delay(HOUR, async {});
    group.wait().await.unwrap();
}

/// Two groups give the same ids.
#[tokio::test(start_paused = true)]
async fn handles_are_equal_if_they_refer_to_the_same_job_of_the_same_group() {
    let (one, other) = (Group::new(), Group::new());
    let (job, twin) = (one.delay(HOUR, async {}), other.delay(HOUR, async {}));
    let sibling = one.delay(HOUR, async {});
    assert_eq!(job.id(), twin.id());
    assert_eq!(job, job.clone());
    assert_ne!(job, twin);
    assert_ne!(job, sibling);
    let hashes = RandomState::new();
    assert_eq!(hashes.hash_one(&job), hashes.hash_one(job.clone()));
    assert_ne!(hashes.hash_one(&job), hashes.hash_one(&sibling));
    #[allow(
        clippy::mutable_key_type,
        reason = "what is hashed is the job's number, which never changes"
    )]
    let jobs = HashSet::from([job.clone(), job, twin, sibling]);
    assert_eq!(jobs.len(), 3);
    drop((one.wait(), other.wait()));
    let (rejected, twin) = (one.handle(), other.handle());
    let (rejected, twin) = (rejected.delay(HOUR, async {}), twin.delay(HOUR, async {}));
    assert_eq!(rejected, rejected.clone());
    assert_ne!(rejected, twin);
}

/// Whatever takes a handle takes each of these by reference.
#[tokio::test(start_paused = true)]
async fn what_works_in_a_group_lends_its_handle() {
    fn pending(group: &impl AsRef<Handle>) -> usize {
        group.as_ref().stats().pending
    }
    let (group, keyed) = (Group::new(), KeyedGroup::new());
    group.delay(HOUR, async {});
    assert_eq!((pending(&group), pending(&group.handle())), (1, 1));
    let of_key = KeyedGroup::<u8>::builder().on(&group);
    assert_eq!(pending(&of_key), 1);
    group.delay_with(ms(1), |context: JobContext| async move {
        assert_eq!(pending(&context), 1);
    });
    keyed.delay('h', HOUR, async {}, OnDuplicate::Replace);
    let of_its_job = |context: KeyedContext<char>| async move {
        assert_eq!((pending(&context), pending(&context.handle())), (1, 1));
    };
    keyed.delay_with('k', ms(1), of_its_job, OnDuplicate::Replace);
    assert_eq!((pending(&keyed), pending(&keyed.handle())), (2, 2));
    group.wait().await.unwrap();
    keyed.wait().await.unwrap();
}

/// That the text is there, and that it shows these.
#[track_caller]
fn shows(value: &dyn Debug, expected: &[&str]) {
    let text = format!("{value:?}");
    for part in expected {
        assert!(text.contains(part), "no {part:?} in {text}");
    }
}

#[tokio::test(start_paused = true)]
async fn every_debug_shows_what_one_would_look_for() {
    let builder = Group::builder().name("mails").max_running(3);
    shows(&builder, &["Builder", "mails", "3"]);
    let group = builder.build();
    let job = group.delay(HOUR, async {});
    let id = job.id().to_string();
    shows(&group, &["Group", "mails", "pending: 1"]);
    shows(&group.handle(), &["Handle", "mails"]);
    shows(&job, &["JobHandle", &id, "Pending"]);
    shows(&job.id(), &["JobId", &id]);
    shows(
        &group.jobs()[0],
        &["JobInfo", &id, "Pending", file!(), "run: 1"],
    );
    shows(&job.state(), &["Pending"]);
    shows(
        &group.stats(),
        &[
            "Stats",
            "pending: 1",
            "next_deadline: Some",
            "max_lateness: 0ns",
        ],
    );
    shows(&Next::After(ms(5)), &["After", "5ms"]);

    let join = group.spawn_after(ms(1), async { 5 });
    shows(
        &join,
        &["JoinHandle", &join.job().id().to_string(), "Pending"],
    );
    let (send, context) = tokio::sync::oneshot::channel();
    group.delay_with(ms(2), |context| async { drop(send.send(context)) });
    let context = context.await.unwrap();
    shows(&context, &["JobContext", &context.id().to_string()]);

    assert!(job.cancel());
    shows(&job, &["Cancelled"]);
    group.delay(ms(1), async { panic!("boom") });
    let mut wait = group.wait();
    shows(&wait, &["Wait"]);
    let error = (&mut wait).await.unwrap_err();
    drop(wait);
    shows(&error, &["Panicked", "Panic", "JobId", "boom", file!()]);
    shows(&WaitError::Cancelled, &["Cancelled"]);
    shows(&group.drain(Duration::ZERO), &["Drain"]);
    let shutdown = group.shutdown(Duration::ZERO);
    shows(&shutdown, &["Shutdown"]);
    shows(
        &shutdown.await,
        &["Report", "finished: 0", "aborted: 0", "dropped: 0"],
    );
}

#[tokio::test(start_paused = true)]
async fn every_debug_of_a_group_of_tasks_shows_its_counts() {
    let builder = TaskGroup::<()>::builder().limit(1).queue(2);
    shows(&builder, &["Builder", "limit: 1", "queue: 2", "on_error"]);
    let group = builder.build();
    group.spawn(async { panic!("boom") });
    shows(&group, &["TaskGroup", "running: 1", "cause: None"]);
    shows(&group.handle(), &["TaskHandle", "running: 1"]);
    shows(&group.member(), &["Member", "index: 1"]);
    shows(&group.submit(async { Ok(()) }), &["Submit", "step: "]);
    let wait = group.wait();
    shows(&wait, &["Wait", "running: 1"]);
    let error = wait.await.unwrap_err();
    shows(&error, &["Panicked", "Panic", "id: 0", "boom", file!()]);
    shows(&group.try_spawn(async { Ok(()) }), &["Closed"]);

    let group = TaskGroup::<()>::new();
    shows(&group.wait_all(), &["WaitAll", "running: 0"]);
    let group = TaskGroup::<()>::builder().name("mails").build();
    shows(&group, &["TaskGroup", "mails"]);
    shows(&group.drain(HOUR), &["Drain", "running: 0"]);
    shows(&group.shutdown(HOUR), &["Shutdown", "running: 0"]);
}

#[tokio::test(start_paused = true)]
async fn every_debug_of_a_set_of_tasks_shows_its_settings() {
    let mut all = flow::all([ready(())]).limit(3);
    let started = ["Flow", "flow::all", "limit: 3", "started: false", file!()];
    shows(&all, &started);
    (&mut all).await;
    shows(&all, &["started: true"]);
    let stream = flow::stream([ready(())]);
    shows(&stream, &["Stream", "flow::stream", "limit", file!()]);
    let waterfall = flow::waterfall::<_, ()>(1).then(|_| ready(Ok(2)));
    shows(&waterfall, &["Waterfall", "steps: 1"]);
    let retry = || flow::retry(|| ready(Err::<(), _>(()))).attempts(7);
    shows(&retry(), &["Retry", "attempts: 0", "max_attempts: 7"]);
    let group = Group::new();
    let spawned = retry().spawn_on(group.handle());
    shows(&spawned, &["RetryHandle", "JobHandle"]);
}

#[tokio::test(start_paused = true)]
async fn every_debug_of_what_hangs_on_a_group_shows_its_settings() {
    let builder = KeyedGroup::builder().exclusive().name("keys");
    shows(&builder, &["Builder", "exclusive: true", "keys"]);
    let keyed = builder.build();
    keyed.delay('k', HOUR, async {}, OnDuplicate::Replace);
    shows(&keyed, &["KeyedGroup", "len: 1", "exclusive: true"]);
    let kept = keyed.delay('k', HOUR, async {}, OnDuplicate::Keep);
    shows(&kept, &["Kept", "BoxedJob"]);
    let (send, context) = tokio::sync::oneshot::channel();
    let tells = |context| async { drop(send.send(context)) };
    keyed.delay_with('l', ms(1), tells, OnDuplicate::Replace);
    shows(&context.await.unwrap(), &["KeyedContext", "len: 1"]);
    let hooks = KeyedGroup::with_handler(|_, _: char, _: u8| async {});
    shows(&hooks.shutdown(HOUR), &["End"]);
    shows(&WallClock::system(), &["WallClock", "look_every"]);
    let calendar = schedgroup::periodic::at(|_| None);
    shows(&calendar, &["At", "clock", "on_panic: End"]);
}

#[tokio::test]
async fn a_default_group_is_a_new_one() {
    let group = Group::default();
    assert_eq!(group.stats(), Group::new().stats());
    let tasks = TaskGroup::<()>::default();
    assert_eq!(tasks.stats(), TaskGroup::<()>::new().stats());
}

#[test]
fn an_end_without_an_error_of_a_task_has_none() {
    for (end, text) in [
        (TaskError::Cancelled, "cancelled before the end"),
        (
            TaskError::DeadlineExceeded,
            "deadline passed before the end",
        ),
    ] {
        let end: TaskError<u8> = end;
        assert_eq!(end.to_string(), text);
        assert_eq!((end.index(), end.error()), (None, None));
        assert_eq!(end.into_error(), None);
    }
}

#[test]
fn the_debug_of_a_rejection_hides_the_job() {
    struct Secret;
    shows(&ScheduleError::Closed(Secret), &["Closed"]);
    shows(&ScheduleError::Cancelled(Secret), &["Cancelled"]);
    shows(&ScheduleError::Full(Secret), &["Full"]);
}
