//! What the group says through `tracing`, to whom, and what it costs when nobody listens.
#![deny(unsafe_code)]

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::future::poll_fn;
use std::task::Poll;

use schedgroup::{Group, Job};
use tokio::time::{Instant, sleep};

use common::ms;

struct Counting;

thread_local! {
    /// Of this thread alone, so that tests beside this one are not counted.
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: every call is passed on to the system's allocator unchanged.
#[allow(
    unsafe_code,
    reason = "a global allocator cannot be written without it"
)]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: as our caller promised.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as our caller promised.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// So many jobs, due together, to their ends; how often they and the group allocated.
async fn wave(group: &Group, jobs: usize) -> usize {
    let before = ALLOCATIONS.get();
    let at = Instant::now() + ms(1);
    for _ in 0..jobs {
        group.schedule(at, async {});
    }
    sleep(ms(2)).await;
    ALLOCATIONS.get() - before
}

/// Those that schedule and the driver exchange two buffers: after this both have grown.
async fn warm(group: &Group) {
    for _ in 0..3 {
        wave(group, 1_000).await;
    }
}

/// This holds with the feature and without it.
#[tokio::test(start_paused = true)]
async fn a_job_allocates_its_box_and_nothing_else_when_nobody_listens() {
    let group = Group::builder().name("mails").build();
    warm(&group).await;
    let one = wave(&group, 1_000).await;
    assert_eq!(wave(&group, 1_000).await, one, "the same again");
    // What the group's own storage needs to grow, in pages and batches and by doubling, is no job's.
    for (jobs, allocations) in [(1_000, one), (2_000, wave(&group, 2_000).await)] {
        let beyond = allocations.checked_sub(jobs);
        let few = beyond.is_some_and(|beyond| beyond < 64 + jobs / 16);
        assert!(few, "{allocations} allocations for {jobs} jobs");
    }
}

/// Is not ready when it is polled first, and wakes itself.
async fn awaits_once() {
    let mut awaited = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut awaited, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// Fifty jobs one after the other; how often each of the last ones and the group allocated, at most.
async fn lone<J: Job>(group: &Group, job: impl Fn() -> J) -> usize {
    let mut most = 0;
    for round in 0..50 {
        let before = ALLOCATIONS.get();
        group.delay(ms(1), job());
        sleep(ms(2)).await;
        if round > 25 {
            most = most.max(ALLOCATIONS.get() - before);
        }
    }
    most
}

/// The task that it lives in is one that others have used.
#[tokio::test(start_paused = true)]
async fn a_lone_job_allocates_its_box_and_nothing_else_though_it_awaits() {
    let group = Group::new();
    let ready = lone(&group, || async {}).await;
    let awaits = lone(&group, awaits_once).await;
    assert_eq!((ready, awaits), (1, 1));
}

#[cfg(feature = "tracing")]
mod heard {
    use std::fmt::{Debug, Write};
    use std::panic::panic_any;
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    use schedgroup::periodic::OnPanic;
    use schedgroup::task::TaskGroup;
    use schedgroup::{JobHandle, JobState, Next, TaskError, WaitError, flow};
    use tokio::time::timeout;
    use tracing::field::{Field, Visit};
    use tracing::level_filters::LevelFilter;
    use tracing::span::{Attributes, Id, Record};
    use tracing::subscriber::{DefaultGuard, Interest};
    use tracing::{Event, Level, Metadata, Subscriber};

    use super::*;
    use crate::common::{HOUR, Hold, OnDrop, context_of, settle, sized, us};

    /// Records what this crate says on this thread for as long as the guard lives.
    fn record(most: Level) -> (Records, DefaultGuard) {
        let records = Records::default();
        let guard = tracing::subscriber::set_default(Recorder {
            records: records.clone(),
            most,
        });
        (records, guard)
    }

    /// Lines: `span job field=value ..`, `enter`, `exit`, `LEVEL field=value ..`.
    #[derive(Clone, Default)]
    struct Records(Arc<Mutex<Vec<String>>>);

    impl Records {
        fn push(&self, line: String) {
            self.0.lock().unwrap().push(line);
        }

        /// All lines so far that start so; everything is forgotten.
        fn take(&self, start: &str) -> Vec<String> {
            let mut lines = std::mem::take(&mut *self.0.lock().unwrap());
            lines.retain(|line| line.starts_with(start));
            lines
        }
    }

    struct Recorder {
        records: Records,
        most: Level,
    }

    struct Text(String);

    impl Visit for Text {
        fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
            write!(self.0, " {}={value:?}", field.name()).unwrap();
        }

        fn record_str(&mut self, field: &Field, value: &str) {
            write!(self.0, " {}={value}", field.name()).unwrap();
        }
    }

    impl Subscriber for Recorder {
        fn enabled(&self, metadata: &Metadata<'_>) -> bool {
            metadata.target() == "schedgroup" && *metadata.level() <= self.most
        }

        // The crate asks first for the most that any subscriber of the program records.
        fn max_level_hint(&self) -> Option<LevelFilter> {
            Some(self.most.into())
        }

        fn new_span(&self, span: &Attributes<'_>) -> Id {
            let mut text = Text(format!("span {}", span.metadata().name()));
            span.record(&mut text);
            self.records.push(text.0);
            Id::from_u64(1)
        }

        fn record(&self, _: &Id, _: &Record<'_>) {}

        fn record_follows_from(&self, _: &Id, _: &Id) {}

        fn event(&self, event: &Event<'_>) {
            let mut text = Text(event.metadata().level().to_string());
            event.record(&mut text);
            self.records.push(text.0);
        }

        fn enter(&self, _: &Id) {
            self.records.push("enter".to_owned());
        }

        fn exit(&self, _: &Id) {
            self.records.push("exit".to_owned());
        }
    }

    /// The line of a run's span.
    fn span(job: &JobHandle, line: u32, late: Duration) -> String {
        let (id, file, late) = (job.id(), file!(), late.as_micros());
        format!("span job group=mails id={id} scheduled_at={file}:{line} lateness_us={late}")
    }

    /// A place is told with its column, which is of no interest here.
    fn without_columns(mut lines: Vec<String>) -> Vec<String> {
        for line in &mut lines {
            let column = line.rfind(':').unwrap();
            let end = line[column..].find(' ').unwrap();
            line.replace_range(column..column + end, "");
        }
        lines
    }

    fn mails() -> Group {
        Group::builder().name("mails").max_running(1).build()
    }

    #[tokio::test(start_paused = true)]
    async fn each_run_is_a_span_with_group_id_place_and_lateness() {
        let (records, _recording) = record(Level::DEBUG);
        let group = mails();
        let first = group.delay(us(300), async { sleep(ms(9)).await });
        let line = line!() - 1;
        let second = group.spawn_after(us(2_500), async {}).job().clone();
        let on_time = group.delay_with(ms(20), |_| async {});
        group.wait().await.unwrap();
        let expected = [
            span(&first, line, us(700)),
            span(&second, line + 2, us(7_500)),
            span(&on_time, line + 3, us(0)),
        ];
        assert_eq!(without_columns(records.take("span")), expected);
    }

    #[tokio::test(start_paused = true)]
    async fn each_run_of_a_series_is_a_span() {
        let (records, _recording) = record(Level::DEBUG);
        let group = mails();
        let start = Instant::now();
        let series = group.repeat(start, move |context| async move {
            match context.run() {
                1 => Next::At(start + us(1_500)),
                2 => Next::After(ms(1)),
                _ => Next::Done,
            }
        });
        let line = line!() - 7;
        group.wait().await.unwrap();
        let expected = [0, 500, 0].map(|late| span(&series, line, us(late)));
        assert_eq!(without_columns(records.take("span")), expected);
    }

    #[tokio::test(start_paused = true)]
    async fn the_span_is_entered_for_each_poll_and_for_nothing_else() {
        let (records, _recording) = record(Level::DEBUG);
        let group = mails();
        group.delay(ms(1), async {
            tracing::info!(target: "schedgroup", "one");
            sleep(ms(5)).await;
            tracing::info!(target: "schedgroup", "two");
        });
        sleep(ms(10)).await;
        tracing::info!(target: "schedgroup", "outside");
        let mut lines = records.take("");
        let span = lines.remove(0);
        assert!(span.starts_with("span job"), "{span}");
        let expected = [
            "enter",
            "INFO message=one",
            "exit",
            "enter",
            "INFO message=two",
            "exit",
            "INFO message=outside",
        ];
        assert_eq!(lines, expected);
    }

    #[tokio::test(start_paused = true)]
    async fn what_never_starts_has_no_span() {
        let (records, _recording) = record(Level::DEBUG);
        let group = mails();
        let cancelled = group.delay(ms(1), async {});
        group.delay(HOUR, async {});
        assert!(cancelled.cancel());
        sleep(ms(2)).await;
        group.cancel();
        group.delay(ms(1), async {});
        settle().await;
        assert_eq!(records.take(""), Vec::<String>::new());
    }

    /// The only one of the lines, with these parts in it.
    #[track_caller]
    fn assert_one(lines: &[String], parts: &[&str]) {
        let [line] = lines else { panic!("{lines:?}") };
        for part in parts {
            assert!(line.contains(part), "no {part:?} in {line}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_panic_is_an_error_event_though_nobody_waits() {
        let (records, _recording) = record(Level::DEBUG);
        let group = mails();
        let job = group.delay(ms(1), async { panic!("boom") });
        let place = format!("scheduled_at={}:{}:", file!(), line!() - 1);
        sleep(ms(2)).await;
        let id = format!("id={} ", job.id());
        let parts = ["group=mails", &id, &place, "panic=boom"];
        assert_one(&records.take("ERROR"), &parts);
    }

    #[tokio::test(start_paused = true)]
    async fn each_panic_is_one_event_whatever_the_method() {
        let (records, _recording) = record(Level::DEBUG);
        let group = mails();
        let value = group.spawn_after(ms(1), async { panic!("of a value") });
        value.await.unwrap_err();
        assert_one(&records.take("ERROR"), &["panic=of a value"]);
        let made = group.delay_with(ms(1), |_| async { panic!("of a context's") });
        sleep(ms(2)).await;
        assert_eq!(made.state(), JobState::Panicked);
        assert_one(&records.take("ERROR"), &["panic=of a context's"]);
        group.repeat(Instant::now(), |context| async move {
            assert!(context.run() < 3, "third run");
            Next::After(ms(1))
        });
        sleep(ms(10)).await;
        assert_one(&records.take("ERROR"), &["panic=third run"]);
        let ticks = group.every(ms(10)).on_panic(OnPanic::Continue);
        ticks.run(|tick| async move { assert_ne!(tick.number(), 1, "second tick") });
        sleep(ms(25)).await;
        group.wait().await.unwrap_err();
        assert_one(&records.take("ERROR"), &["second tick"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_panic_in_a_set_of_tasks_is_an_event_under_its_index() {
        let (records, _recording) = record(Level::DEBUG);
        let line = line!() + 1;
        let ends = flow::all((0..4).map(|n| async move { assert!(n < 3, "boom") })).await;
        assert_eq!(ends.iter().filter(|end| end.is_err()).count(), 1);
        let place = format!("spawned_at={}:{line}:", file!());
        let parts = [
            "task panicked",
            "group=flow::all",
            "index=3 ",
            &place,
            "panic=boom",
        ];
        assert_one(&records.take("ERROR"), &parts);
    }

    #[tokio::test(start_paused = true)]
    async fn a_panic_in_a_group_of_tasks_is_an_event_under_its_name_and_index() {
        let (records, _recording) = record(Level::DEBUG);
        let group = TaskGroup::builder().name("mails").build();
        group.spawn(async {});
        let line = line!() + 1;
        group.spawn(async { panic!("boom") });
        assert!(group.wait().await.is_err());
        let place = format!("spawned_at={}:{line}:", file!());
        let parts = [
            "task panicked",
            "group=mails",
            "index=1 ",
            &place,
            "panic=boom",
        ];
        assert_one(&records.take("ERROR"), &parts);
    }

    /// Tasks that are aborted: by a group, by a race that has its value, and by a flow that is dropped.
    #[tokio::test(start_paused = true)]
    async fn a_panic_of_an_aborted_tasks_destructor_is_an_event() {
        fn endless() -> impl Future<Output = Result<(), ()>> + Send {
            let bomb = OnDrop(|| panic!("in a destructor"));
            async move {
                let _bomb = bomb;
                std::future::pending::<Result<(), ()>>().await
            }
        }
        let (records, _recording) = record(Level::DEBUG);
        let one = |group: &str| {
            let lines = records.take("ERROR");
            assert_one(
                &lines,
                &["task panicked", group, "index=0 ", "panic=in a destructor"],
            );
        };
        for is_polled in [false, true] {
            let group = TaskGroup::builder().name("mails").build();
            group.spawn(endless());
            if is_polled {
                settle().await;
            }
            drop(group);
            settle().await;
            one("group=mails");
        }
        let ready: std::pin::Pin<Box<dyn Future<Output = _> + Send>> = Box::pin(async { Ok(()) });
        assert!(flow::race([Box::pin(endless()), ready]).await.is_ok());
        one("group=flow::race");
        let unfinished = timeout(ms(1), flow::try_all([endless()]));
        assert!(unfinished.await.is_err());
        settle().await;
        one("group=flow::try_all");
    }

    #[tokio::test(start_paused = true)]
    async fn a_panic_of_a_destructor_of_a_task_that_never_started_is_an_event_under_its_index() {
        let (records, _recording) = record(Level::TRACE);
        let tasks = (0..2).map(|n| {
            let bomb = OnDrop(move || panic!("destructor {n}"));
            async move { drop(bomb) }
        });
        let ends = flow::all(tasks).deadline(Instant::now()).await;
        assert!(ends.iter().all(Result::is_err));
        let lines = records.take("ERROR");
        assert_one(&lines[..1], &["flow::all", "index=0 ", "destructor 0"]);
        assert_one(&lines[1..], &["flow::all", "index=1 ", "destructor 1"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_panic_that_is_no_text_is_told_as_such() {
        let (records, _recording) = record(Level::DEBUG);
        let group = mails();
        group.delay(ms(1), async { panic_any(5) });
        sleep(ms(2)).await;
        assert_one(&records.take("ERROR"), &["panic=Box<dyn Any>"]);
    }

    /// A job that panics in its destructor, with its label.
    fn bomb(label: &'static str) -> impl Future<Output = ()> + Send {
        let bomb = OnDrop(move || panic!("{label}"));
        async move {
            let _to_the_end = &bomb;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_destructors_panic_is_an_error_event() {
        let (records, _recording) = record(Level::DEBUG);
        let group = mails();
        let one = |label| {
            let lines = records.take("ERROR");
            assert_one(&lines, &["group=mails", label, file!()]);
        };
        group.delay(ms(1), bomb("at its end"));
        sleep(ms(2)).await;
        one("panic=at its end");
        assert!(group.delay(HOUR, bomb("when cancelled")).cancel());
        one("panic=when cancelled");
        let guard = OnDrop(|| panic!("of a series"));
        group.repeat(Instant::now(), move |_| {
            let _held_by_the_series = &guard;
            async { Next::Done }
        });
        sleep(ms(2)).await;
        one("panic=of a series");
        group.delay(HOUR, bomb("with the group"));
        group.cancel();
        settle().await;
        one("panic=with the group");
        group.delay(HOUR, bomb("when rejected"));
        one("panic=when rejected");
    }

    /// Each later run has a number of its own, among those of jobs.
    #[tokio::test(start_paused = true)]
    async fn a_panic_of_the_destructor_of_a_series_is_an_event_under_the_number_of_the_series() {
        let (records, _recording) = record(Level::DEBUG);
        let group = mails();
        let guard = OnDrop(|| panic!("in a destructor"));
        let series = group.repeat(Instant::now(), move |_| {
            let _held_by_the_series = &guard;
            async { Next::After(HOUR) }
        });
        sleep(ms(2)).await;
        assert!(series.cancel());
        let id = format!("id={} ", series.id());
        assert_one(&records.take("ERROR"), &[&id, "panic=in a destructor"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_group_that_drops_pending_jobs_is_a_warning_that_tells_how_many() {
        let (records, _recording) = record(Level::DEBUG);
        let (group, hold) = (mails(), Hold::new());
        drop(context_of(&group, &hold).await);
        for _ in 0..3 {
            group.delay(HOUR, async {});
        }
        drop(group);
        let parts = ["group=mails", "pending=3", "running=1"];
        assert_one(&records.take("WARN"), &parts);
        let group = mails();
        group.delay(HOUR, async {});
        drop(group);
        let parts = ["group=mails", "pending=1", "running=0"];
        assert_one(&records.take("WARN"), &parts);
    }

    #[tokio::test(start_paused = true)]
    async fn a_group_that_drops_no_pending_job_is_no_warning() {
        let (records, _recording) = record(Level::WARN);
        drop(mails());
        let drained = mails();
        drained.delay(ms(1), async {});
        drained.wait().await.unwrap();
        drop(drained);
        let detached = mails();
        detached.delay(ms(1), async {});
        detached.detach();
        let cancelled = mails();
        cancelled.delay(HOUR, async {});
        cancelled.cancel();
        settle().await;
        drop(cancelled);
        let not_swept_yet = mails();
        not_swept_yet.delay(HOUR, async {});
        not_swept_yet.cancel();
        drop(not_swept_yet);
        let shut = mails();
        shut.delay(HOUR, async {});
        shut.shutdown(Duration::ZERO).await;
        drop(shut);
        sleep(ms(5)).await;
        assert_eq!(records.take(""), Vec::<String>::new());
    }

    #[tokio::test(start_paused = true)]
    async fn who_listens_to_errors_only_costs_no_run_an_allocation() {
        let group = mails();
        warm(&group).await;
        let alone = wave(&group, 1_000).await;
        let (records, _recording) = record(Level::ERROR);
        warm(&group).await;
        assert_eq!(wave(&group, 1_000).await, alone);
        assert_eq!(records.take(""), Vec::<String>::new());
    }

    /// Panics when it is told of this.
    struct Panics {
        at: &'static str,
        panicked: Arc<AtomicUsize>,
    }

    impl Panics {
        fn told(&self, what: &str) {
            if what == self.at {
                self.panicked.fetch_add(1, Relaxed);
                panic!("in a subscriber's {what}");
            }
        }
    }

    impl Subscriber for Panics {
        /// So `enabled` is called for each span and event.
        fn register_callsite(&self, _: &'static Metadata<'static>) -> Interest {
            Interest::sometimes()
        }

        fn enabled(&self, metadata: &Metadata<'_>) -> bool {
            let is_ours = metadata.target() == "schedgroup";
            if is_ours {
                self.told("enabled");
            }
            is_ours
        }

        fn max_level_hint(&self) -> Option<LevelFilter> {
            Some(LevelFilter::DEBUG)
        }

        fn new_span(&self, _: &Attributes<'_>) -> Id {
            self.told("new span");
            Id::from_u64(1)
        }

        fn record(&self, _: &Id, _: &Record<'_>) {}

        fn record_follows_from(&self, _: &Id, _: &Id) {}

        fn event(&self, event: &Event<'_>) {
            self.told(event.metadata().level().as_str());
        }

        fn enter(&self, _: &Id) {
            self.told("enter");
        }

        fn exit(&self, _: &Id) {
            self.told("exit");
        }

        fn try_close(&self, _: Id) -> bool {
            self.told("close");
            true
        }
    }

    /// Calls `test` for each thing that a subscriber is told, with one that panics at it.
    async fn with_each_panic(test: impl AsyncFn(&str)) {
        for at in [
            "enabled", "new span", "enter", "exit", "close", "ERROR", "WARN",
        ] {
            let panicked = Arc::default();
            let subscriber = Panics {
                at,
                panicked: Arc::clone(&panicked),
            };
            let _listening = tracing::subscriber::set_default(subscriber);
            test(at).await;
            assert!(panicked.load(Relaxed) > 0, "none at {at}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_subscriber_that_panics_costs_no_job_its_slot_or_its_end() {
        with_each_panic(async |at| {
            let group = mails();
            let value = group.spawn_after(ms(1), async {
                sleep(ms(1)).await;
                7
            });
            group.delay(ms(1), async { panic!("boom") });
            group.delay(ms(1), bomb("at its end"));
            assert!(group.delay(HOUR, bomb("when cancelled")).cancel(), "{at}");
            let last = group.delay(ms(1), async {});
            let ended = timeout(HOUR, group.wait()).await;
            let ended = ended.unwrap_or_else(|_| panic!("wait hangs after a panic at {at}"));
            let panicked =
                matches!(&ended, Err(WaitError::Panicked(first)) if first.message() == "boom");
            assert!(panicked, "{at}: {ended:?}");
            assert_eq!(value.await.unwrap(), 7, "{at}");
            assert_eq!(last.state(), JobState::Finished, "{at}");
            let stats = group.stats();
            assert_eq!((stats.finished, stats.panicked), (2, 2), "{at}: {stats:?}");

            let dropped = mails();
            let pending = dropped.delay(HOUR, async {});
            drop(dropped);
            settle().await;
            assert_eq!(pending.state(), JobState::Cancelled, "{at}");
        })
        .await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_subscriber_that_panics_costs_no_task_its_slot_or_its_end() {
        let panicked = Arc::default();
        let _listening = tracing::subscriber::set_default(Panics {
            at: "ERROR",
            panicked: Arc::clone(&panicked),
        });
        let group = sized(1);
        group.spawn(async { panic!("boom") });
        group.spawn(bomb("at its end"));
        group.spawn(async {});
        let outcome = timeout(HOUR, group.wait()).await.expect("wait ends");
        assert!(outcome.is_err(), "{outcome:?}");
        let stats = group.stats();
        assert_eq!((stats.finished, stats.panicked), (1, 2), "{stats:?}");
        let cancelled = sized(1);
        cancelled.spawn(std::future::pending::<()>());
        cancelled.spawn(bomb("when it is skipped"));
        cancelled.cancel();
        assert_eq!(cancelled.stats().skipped, 1);
        let tasks = [true, false].map(|bad| async move { assert!(!bad, "of a flow") });
        let ended = timeout(HOUR, flow::all(tasks)).await.expect("it ends");
        assert!(
            matches!(ended[..], [Err(TaskError::Panicked(_)), Ok(())]),
            "{ended:?}"
        );
        assert_eq!(panicked.load(Relaxed), 4);
    }
}
