//! Each public item, method and setting, by its full type: a program that names one of them still compiles.
//!
//! Most of it is checked by the compiler alone. Auto traits are in `types`.

use std::any::Any;
use std::convert::Infallible;
use std::error::Error;
use std::fmt::{Debug, Display};
use std::future::{Ready, ready};
use std::hash::{BuildHasherDefault, DefaultHasher, Hash};
use std::panic::Location;
use std::time::{Duration, SystemTime};

use schedgroup::flow::{
    self, Ended, Flow, RaceError, RetryError, RetryHandle, Stream, Verdict, Waterfall,
};
use schedgroup::keyed::{
    BoxedJob, End, Inserted, KeyedContext, KeyedGroup, KeyedHandle, OnDuplicate,
};
use schedgroup::periodic::{self, Every, MissedTicks, OnPanic, Tick, TimedHandle, WallClock};
use schedgroup::task::{self, Cause, Member, OnError, TaskGroup, TaskHandle, TaskStats};
use schedgroup::{
    Builder, CancellationToken, Drain, Group, Handle, Job, JobContext, JobError, JobHandle, JobId,
    JobInfo, JobPanic, JobState, JoinHandle, Next, Panic, Report, ScheduleError, Shutdown, Stats,
    TaskError, TaskErrors, TaskPanic, Wait, WaitError,
};
use tokio::time::Instant;

use crate::common::HOUR;

fn debug<T: Debug>() {}
fn cloned<T: Clone + Debug>() {}
fn default<T: Default + Debug>() {}
fn key<T: Eq + Hash + Debug>() {}
fn compares<T: Eq + Debug>() {}
fn plain<T: Copy + Eq + Hash + Debug>() {}
fn error<T: Error + Clone + Send + Sync + 'static>() {}
fn lends<T: AsRef<Handle> + Debug>() {}
fn resolves<F: Future<Output = T> + Debug, T>() {}

/// A key, a value or an error without any trait.
struct Bare;

type Attempt = Ready<Result<u8, String>>;
type Unit = Ready<Result<(), String>>;
type Hasher = BuildHasherDefault<DefaultHasher>;

macro_rules! schedules {
    ($group:ty) => {
        let _: fn(&$group, Duration, Ready<()>) -> JobHandle = <$group>::delay;
        let _: fn(&$group, Instant, Ready<()>) -> JobHandle = <$group>::schedule;
        let _: fn(&$group, Duration, Ready<()>) -> Result<_, ScheduleError<Ready<()>>> =
            <$group>::try_delay;
        let _: fn(&$group, Instant, Ready<()>) -> Result<JobHandle, ScheduleError<_>> =
            <$group>::try_schedule;
        let _: fn(&$group, Duration, fn(JobContext) -> Ready<()>) -> JobHandle =
            <$group>::delay_with;
        let _: fn(&$group, Instant, fn(JobContext) -> Ready<()>) -> JobHandle =
            <$group>::schedule_with;
        let _: fn(&$group, Duration, Ready<u8>) -> JoinHandle<u8> = <$group>::spawn_after;
        let _: fn(&$group, Instant, Ready<u8>) -> JoinHandle<u8> = <$group>::spawn_at;
        let _: fn(&$group, Instant, fn(JobContext) -> Ready<Next>) -> JobHandle = <$group>::repeat;
        let _: fn(&$group, Duration) -> Every<'_> = <$group>::every;
        let _: fn(&$group, &WallClock, SystemTime, fn(JobContext) -> Ready<()>) -> TimedHandle =
            <$group>::at_wall;
        let _ = |group: &$group, op: fn() -> Attempt| -> RetryHandle<u8, String> {
            group.retry(flow::retry(op))
        };
        lends::<$group>();
    };
}

#[test]
fn the_scheduling_group() {
    schedules!(Group);
    schedules!(Handle);
    schedules!(JobContext);
    let _: fn() -> Group = Group::new;
    let _: fn(tokio_util::sync::CancellationToken) -> Group = Group::with_token;
    let _: fn() -> Builder = Group::builder;
    let _: fn(&Group) -> Handle = Group::handle;
    let _: fn(&Group) -> CancellationToken = Group::token;
    let _: fn(&Group) -> Wait<'_> = Group::wait;
    let _: fn(&Group, Duration) -> Drain<'_> = Group::drain;
    let _: fn(&Group, Duration) -> Shutdown<'_> = Group::shutdown;
    let _: fn(&Group) = Group::cancel;
    let _: fn(Group) = Group::detach;
    let _: fn(&Group) -> Stats = Group::stats;
    let _: fn(&Group) -> Vec<JobInfo> = Group::jobs;
    default::<Group>();
    let _ = |runtime: tokio::runtime::Handle| -> Group {
        let builder: Builder = Group::builder().token(CancellationToken::new());
        let builder = builder.deadline(Instant::now()).timeout(HOUR);
        let builder = builder.max_running(1).name("mails").name(String::new());
        builder.runtime(runtime).timerfd().build()
    };
    debug::<Builder>();

    cloned::<Handle>();
    let _: fn(&Handle) -> CancellationToken = Handle::token;
    let _: fn(&Handle) -> Stats = Handle::stats;
    let _: fn(&Handle) -> bool = Handle::is_closed;
    cloned::<JobContext>();
    let _: fn(&JobContext) -> CancellationToken = JobContext::token;
    let _: fn(&JobContext) -> Instant = JobContext::deadline;
    let _: fn(&JobContext) -> Duration = JobContext::lateness;
    let _: fn(&JobContext) -> u64 = JobContext::run;
    let _: fn(&JobContext) -> bool = JobContext::is_draining;
    let _: fn(&JobContext) -> JobId = JobContext::id;
    let _: fn(&JobContext) -> Handle = JobContext::handle;
    cloned::<JobHandle>();
    key::<JobHandle>();
    let _: fn(&JobHandle) -> bool = JobHandle::cancel;
    let _: fn(&JobHandle, Instant) -> bool = JobHandle::reset_at;
    let _: fn(&JobHandle, Duration) -> bool = JobHandle::reset_after;
    let _: fn(&JobHandle) = JobHandle::abort;
    let _: fn(&JobHandle) -> JobId = JobHandle::id;
    let _: fn(&JobHandle) -> Instant = JobHandle::deadline;
    let _: fn(&JobHandle) -> bool = JobHandle::is_pending;
    let _: fn(&JobHandle) -> bool = JobHandle::is_finished;
    let _: fn(&JobHandle) -> JobState = JobHandle::state;
    let _: fn(&JoinHandle<u8>) -> &JobHandle = JoinHandle::job;
    let _: fn(JoinHandle<u8>) -> JoinHandle<u8> = JoinHandle::abort_on_drop;
    resolves::<JoinHandle<Bare>, Result<Bare, JobError>>();
    resolves::<Wait<'_>, Result<(), WaitError>>();
    resolves::<Drain<'_>, Report>();
    resolves::<Shutdown<'_>, Report>();
    fn is_job<J: Job>() {}
    is_job::<Ready<()>>();
}

#[test]
fn the_values_of_the_scheduling_group() {
    fn an_id<T: Ord + Display>() {}
    an_id::<JobId>();
    plain::<JobId>();
    plain::<JobState>();
    plain::<Next>();
    plain::<Report>();
    default::<Stats>();
    default::<Report>();
    compares::<Stats>();
    compares::<JobInfo>();
    let _ = |stats: Stats| -> (usize, usize, usize, u64, u64, u64) {
        let (finished, panicked) = (stats.finished, stats.panicked);
        let open = (stats.pending, stats.waiting, stats.running);
        let _: (Option<Instant>, Duration) = (stats.next_deadline, stats.max_lateness);
        let _: u64 = stats.driver_wakeups;
        (open.0, open.1, open.2, finished, stats.cancelled, panicked)
    };
    let _ = |report: Report| -> [usize; 3] { [report.finished, report.aborted, report.dropped] };
    let _ = |job: JobInfo| -> (JobId, JobState, Instant, &'static Location<'static>, u64) {
        (job.id, job.state, job.deadline, job.scheduled_at, job.run)
    };
    let _ = |next| match next {
        Next::After(delay) => Instant::now().checked_add(delay),
        Next::At(at) => Some(at),
        Next::Done | _ => None,
    };
    let _ = |state| {
        use JobState::{Cancelled, Finished, Panicked, Pending, Running};
        matches!(state, Pending | Running | Finished | Cancelled | Panicked)
    };

    error::<WaitError>();
    error::<JobError>();
    error::<ScheduleError<u8>>();
    compares::<ScheduleError<u8>>();
    let _ = |error| match error {
        WaitError::Panicked(panic) => Some::<JobPanic>(panic),
        WaitError::Cancelled | WaitError::DeadlineExceeded | _ => None,
    };
    let _ = |error| match error {
        JobError::Panicked(panic) => Some::<JobPanic>(panic),
        JobError::Cancelled | _ => None,
    };
    let _ = |error: ScheduleError<Bare>| match error {
        ScheduleError::Closed(job) | ScheduleError::Cancelled(job) | ScheduleError::Full(job) => {
            job
        }
        other => other.into_inner(),
    };
    debug::<ScheduleError<Bare>>();

    error::<Panic<JobId>>();
    error::<Panic<usize>>();
    let _: fn(&JobPanic) -> JobId = JobPanic::job;
    let _: fn(&JobPanic) -> &'static Location<'static> = JobPanic::scheduled_at;
    let _: fn(&TaskPanic) -> usize = TaskPanic::index;
    let _: fn(&TaskPanic) -> &'static Location<'static> = TaskPanic::spawned_at;
    let _: fn(&JobPanic) -> &str = JobPanic::message;
    let _: fn(JobPanic) -> Box<dyn Any + Send> = JobPanic::into_payload;
    let _: fn(TaskPanic) -> ! = TaskPanic::resume;
}

macro_rules! works_by_key {
    ($entries:ident) => {{
        type Values = $entries<String, u8>;
        let _: fn(&Values, String, u8, Instant, OnDuplicate) -> Inserted<u8> = Values::insert_at;
        let _: fn(&Values, String, u8, Duration, OnDuplicate) -> Inserted<u8> =
            Values::insert_after;
        let _: fn(&Values, String, Duration, Duration, u8) -> Inserted<u8> = Values::debounce;
        let _: fn(&Values, String, Duration, Duration, fn() -> u8, fn(&mut u8)) -> bool =
            Values::debounce_with;
        let _: fn(&Values, &str, Instant) -> bool = Values::reset_at;
        let _: fn(&Values, &str, Duration) -> bool = Values::reset_after;
        let _: fn(&Values, &str) -> Option<u8> = Values::remove;
        let _: fn(&Values, &str) -> bool = Values::expire;
        let _: fn(&Values, &str) -> bool = Values::abort;
        let _: fn(&Values, &str) -> bool = Values::contains_key;
        let _: fn(&Values, &str, fn(&mut u8) -> Bare) -> Option<Bare> = Values::with;
        let _: fn(&Values) -> usize = Values::len;
        let _: fn(&Values) -> bool = Values::is_empty;
        let _: fn(&Values) -> Vec<String> = Values::keys;
        let _: fn(&Values) -> Vec<(String, u8)> = Values::drain_values;
        let _: fn(&Values) -> CancellationToken = Values::token;
        lends::<Values>();

        type Jobs = $entries<String>;
        type With = fn(KeyedContext<String>) -> Ready<()>;
        let _: fn(&Jobs, String, Duration, Ready<()>, OnDuplicate) -> Inserted<BoxedJob> =
            Jobs::delay;
        let _: fn(&Jobs, String, Instant, Ready<()>, OnDuplicate) -> Inserted<BoxedJob> =
            Jobs::schedule;
        let _: fn(&Jobs, String, Duration, With, OnDuplicate) -> Inserted<BoxedJob> =
            Jobs::delay_with;
        let _: fn(&Jobs, String, Instant, With, OnDuplicate) -> Inserted<BoxedJob> =
            Jobs::schedule_with;
        let _: fn(&Jobs, String, Duration, Duration, Ready<()>) -> Inserted<BoxedJob> =
            Jobs::debounce;
    }};
}

#[test]
fn keyed_groups() {
    works_by_key!(KeyedGroup);
    works_by_key!(KeyedHandle);
    works_by_key!(KeyedContext);
    type Values = KeyedGroup<String, u8>;
    type Handler = fn(KeyedContext<String, u8>, String, u8) -> Ready<()>;
    let _: fn(Handler) -> Values = KeyedGroup::with_handler;
    let _: fn() -> KeyedGroup<String> = KeyedGroup::new;
    default::<KeyedGroup<String>>();
    let _ = |runtime: tokio::runtime::Handle, group: &Group, handler: Handler| {
        let builder = KeyedGroup::builder().token(CancellationToken::new());
        let builder = builder.deadline(Instant::now()).timeout(HOUR);
        let builder = builder.max_running(1).name("mails").runtime(runtime);
        let _: Values = builder.timerfd().exclusive().build_with(handler);
        let _: KeyedGroup<String> = KeyedGroup::builder().build();
        let _: KeyedHandle<String> = KeyedGroup::builder().on(group);
        let _: KeyedHandle<String, u8> = KeyedGroup::builder().on_with(group, handler);
        let _: KeyedGroup<String, BoxedJob, Hasher> =
            KeyedGroup::builder().hasher(Hasher::default()).build();
    };
    let _: fn(&Values) -> Wait<'_> = Values::wait;
    let _: fn(&Values, Duration) -> End<'_, String, u8, _> = Values::drain;
    let _: fn(&Values, Duration) -> End<'_, String, u8, _> = Values::shutdown;
    resolves::<End<'_, String, u8, Hasher>, (Report, Vec<(String, u8)>)>();
    let _: fn(&Values) -> KeyedHandle<String, u8> = Values::handle;
    let _: fn(&Values) = Values::cancel;
    let _: fn(&Values) -> Stats = Values::stats;
    let _: fn(&Values, &str) -> Option<Instant> = Values::deadline;
    let _: fn(&KeyedHandle<String, u8>) -> Stats = KeyedHandle::stats;
    let _: fn(&KeyedHandle<String, u8>, &str) -> Option<Instant> = KeyedHandle::deadline;
    cloned::<KeyedHandle<Bare, Bare>>();

    type Context = KeyedContext<String, u8>;
    cloned::<KeyedContext<Bare, Bare>>();
    let _: fn(&Context) -> Instant = Context::deadline;
    let _: fn(&Context) -> Duration = Context::lateness;
    let _: fn(&Context) -> u64 = Context::run;
    let _: fn(&Context) -> bool = Context::is_draining;
    let _: fn(&Context) -> JobId = Context::id;
    let _: fn(&Context) -> KeyedHandle<String, u8> = Context::handle;

    plain::<OnDuplicate>();
    plain::<Inserted<u8>>();
    debug::<BoxedJob>();
    let _: fn(Ready<()>) -> BoxedJob = BoxedJob::new;
    let _ = |rule| {
        use OnDuplicate::{Keep, KeepEarliest, KeepLatest, Replace};
        matches!(rule, Replace | Keep | KeepEarliest | KeepLatest)
    };
    let _ = |inserted| match inserted {
        Inserted::Replaced(value) | Inserted::Kept(value) | Inserted::Rejected(value) => {
            Some::<Bare>(value)
        }
        Inserted::New | _ => None,
    };
}

#[test]
fn series() {
    type Run = fn(Tick) -> Ready<()>;
    let _ = |group: &Group, clock: &WallClock, run: Run| {
        let every = group.every(HOUR).starting_at(Instant::now());
        let every: Every<'_> = every
            .missed(MissedTicks::Burst(2))
            .on_panic(OnPanic::Continue);
        let _: TimedHandle = every.run(run);
        let every = group.every(HOUR).on_wall_clock(clock, SystemTime::now());
        let _: TimedHandle = every.run(run);
        let at = periodic::at(|now: SystemTime| Some(now)).on_wall_clock(clock);
        let _: TimedHandle = at.on_panic(OnPanic::End).run(group, run);
        let _: TimedHandle = clock.schedule(group, SystemTime::now(), |_: JobContext| ready(()));
    };
    let _: fn() -> WallClock = WallClock::system;
    let _: fn(fn() -> SystemTime) -> WallClock = WallClock::new;
    let _: fn(WallClock, Duration) -> WallClock = WallClock::look_every;
    let _: fn(&Tick) -> u64 = Tick::number;
    let _: fn(&Tick) -> Instant = Tick::intended;
    let _: fn(&Tick) -> Option<SystemTime> = Tick::wall_time;
    let _: fn(&Tick) -> Duration = Tick::lateness;
    let _: fn(&Tick) -> &JobContext = Tick::context;
    let _: fn(&TimedHandle) -> bool = TimedHandle::cancel;
    let _: fn(&TimedHandle) = TimedHandle::abort;
    let _: fn(&TimedHandle) -> JobId = TimedHandle::id;
    let _: fn(&TimedHandle) -> JobState = TimedHandle::state;
    let _: fn(&TimedHandle) -> bool = TimedHandle::is_finished;
    cloned::<Every<'_>>();
    cloned::<WallClock>();
    cloned::<Tick>();
    cloned::<TimedHandle>();
    plain::<MissedTicks>();
    default::<MissedTicks>();
    plain::<OnPanic>();
    default::<OnPanic>();
}

macro_rules! spawns {
    ($group:ident) => {{
        type Tasks = $group<String>;
        let _: fn(&Tasks, Unit) -> usize = Tasks::spawn;
        let _: fn(&Tasks, fn(CancellationToken) -> Unit) -> usize = Tasks::spawn_with;
        let _: fn(&Tasks, Unit) -> Result<usize, ScheduleError<Unit>> = Tasks::try_spawn;
        let _: fn(&Tasks, Unit) -> task::Submit<'_, Unit, String> = Tasks::submit;
        let _: fn(&Tasks) -> Member<String> = Tasks::member;
        let _: fn(&Tasks) = Tasks::cancel;
        let _: fn(&Tasks) = Tasks::abort;
        let _: fn(&Tasks) -> Option<Cause> = Tasks::cause;
        let _: fn(&Tasks) -> TaskStats = Tasks::stats;
        let _: fn(&Tasks) -> CancellationToken = Tasks::token;
        let _ = |group: &$group<Infallible>| group.spawn(async {});
        let _ = |group: &Tasks| {
            group.spawn(async {
                loop {
                    tokio::task::yield_now().await
                }
            })
        };
        debug::<$group<Bare>>();
    }};
}

#[test]
fn task_groups() {
    spawns!(TaskGroup);
    spawns!(TaskHandle);
    type Tasks = TaskGroup<String>;
    let _: fn() -> Tasks = TaskGroup::new;
    let _: fn(CancellationToken) -> TaskGroup<Infallible> = TaskGroup::with_token;
    let _ = |runtime: tokio::runtime::Handle| -> Tasks {
        let builder = TaskGroup::builder()
            .limit(1)
            .queue(1)
            .on_error(OnError::Abort);
        let builder: task::Builder<String> = builder.token(CancellationToken::new());
        let builder = builder.deadline(Instant::now()).timeout(HOUR).name("mails");
        builder.runtime(runtime).build()
    };
    let _: fn(&Tasks) -> TaskHandle<String> = Tasks::handle;
    let _: fn(&Tasks) -> task::Wait<'_, String> = Tasks::wait;
    let _: fn(&Tasks) -> task::WaitAll<'_, String> = Tasks::wait_all;
    let _: fn(&Tasks, Duration) -> task::Drain<'_, String> = Tasks::drain;
    let _: fn(&Tasks, Duration) -> task::Shutdown<'_, String> = Tasks::shutdown;
    let _: fn(&Member<String>, String) = Member::fail;
    resolves::<task::Submit<'_, Unit, String>, Result<usize, ScheduleError<Unit>>>();
    resolves::<task::Wait<'_, Bare>, Result<TaskStats, TaskError<Bare>>>();
    resolves::<task::WaitAll<'_, Bare>, Result<TaskStats, TaskErrors<Bare>>>();
    resolves::<task::Drain<'_, Bare>, Report>();
    resolves::<task::Shutdown<'_, Bare>, Report>();
    default::<TaskGroup<Bare>>();
    cloned::<TaskHandle<Bare>>();
    debug::<Member<Bare>>();
    plain::<OnError>();
    default::<OnError>();
    plain::<Cause>();
    plain::<TaskStats>();
    default::<TaskStats>();

    error::<TaskError>();
    error::<TaskError<WaitError>>();
    error::<TaskErrors<WaitError>>();
    let _: fn(&TaskError<Bare>) -> Option<usize> = TaskError::index;
    let _: fn(&TaskError<Bare>) -> Option<&Bare> = TaskError::error;
    let _: fn(TaskError<Bare>) -> Option<Bare> = TaskError::into_error;
    let _: fn(&TaskErrors<Bare>) -> &TaskError<Bare> = TaskErrors::last;
    let _: fn(&TaskErrors<Bare>) -> usize = TaskErrors::len;
    let _ = |errors: &TaskErrors<Bare>| errors.iter().chain(errors).count();
    let _ = |error: TaskError<Bare>| match error {
        TaskError::Failed { index, error } => (index, Some(error)),
        TaskError::Panicked(panic) => (TaskPanic::index(&panic), None),
        TaskError::Cancelled | TaskError::DeadlineExceeded | _ => (0, None),
    };
}

#[test]
fn combinators_and_retries() {
    type Tasks = Vec<Attempt>;
    type OfTasks<T, E = Infallible> = Flow<'static, Result<T, TaskError<E>>>;
    type OfRace<T> = Flow<'static, Result<T, RaceError<String>>>;
    type Double = fn(u8) -> Ready<u8>;
    type Print = fn(u8) -> Ready<()>;
    type All = Flow<'static, Vec<Result<u8, TaskError>>>;
    let _: fn(Vec<Ready<u8>>) -> All = flow::all;
    let _: fn(Tasks) -> OfTasks<Vec<u8>, String> = flow::try_all;
    let _: fn(Tasks) -> OfRace<u8> = flow::race;
    let _: fn(usize, Tasks) -> OfRace<Vec<u8>> = flow::take;
    let _: fn(usize, Tasks) -> OfTasks<Vec<u8>, String> = flow::try_take;
    let _: fn(usize, Tasks) -> OfTasks<Vec<u8>, String> = flow::last;
    let _: fn([u8; 1], Double) -> OfTasks<Vec<u8>> = flow::map;
    let _: fn([u8; 1], Print) -> OfTasks<()> = flow::for_each;
    let _: fn(Vec<Ready<u8>>) -> Stream<'static, u8> = flow::stream;
    type Token = CancellationToken;
    let _ = |all: Flow<'static, u8>, token: Token, at: Instant| -> Flow<'static, u8> {
        all.limit(1).token(token).deadline(at)
    };
    let _ = |stream: Stream<'static, u8>, token: Token, at: Instant| -> Stream<'static, u8> {
        stream.limit(1).unordered().token(token).deadline(at)
    };
    let _ = |token: Token, at: Instant| -> Waterfall<'static, u8, String> {
        let steps = flow::waterfall::<_, String>("7").then(|text| ready(Ok(text.len() as u8)));
        steps.token(token).deadline(at)
    };
    let _ = |op: fn() -> Attempt, token: Token, group: &Group| -> RetryHandle<u8, String> {
        let retry = flow::retry(op).attempts(3).delays([HOUR]);
        let retry = retry.when(|_: &String| Verdict::RetryAfter(HOUR));
        let retry = retry
            .attempt_timeout(HOUR)
            .notify(|_: &String, _: Duration| ());
        retry.token(token).deadline(Instant::now()).spawn_on(group)
    };
    let _: fn(&RetryHandle<u8, String>) -> &JobHandle = RetryHandle::job;
    resolves::<RetryHandle<u8, String>, Result<u8, RetryError<String>>>();
    resolves::<Flow<'_, u8>, u8>();
    resolves::<<flow::Retry<'_, fn() -> Attempt, Attempt, String> as IntoFuture>::IntoFuture, _>();

    error::<RaceError<WaitError>>();
    error::<RetryError<WaitError>>();
    plain::<Verdict>();
    plain::<Ended>();
    let _ = |error: RetryError<Bare>| -> (u32, Ended, Option<Bare>) {
        (error.attempts, error.ended, error.last)
    };
    let _ = |ended| {
        use Ended::{Attempts, Cancelled, DeadlineExceeded, Delays, Stopped};
        matches!(
            ended,
            Attempts | Delays | Stopped | Cancelled | DeadlineExceeded
        )
    };
    let _ = |verdict| {
        matches!(
            verdict,
            Verdict::Retry | Verdict::RetryAfter(_) | Verdict::Stop
        )
    };
    let _ = |error: RaceError<Bare>| match error {
        RaceError::Failed(errors) => TaskErrors::len(&errors),
        RaceError::TooFew | RaceError::Cancelled | RaceError::DeadlineExceeded | _ => 0,
    };
}
