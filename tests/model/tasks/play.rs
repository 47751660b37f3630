//! A history played on a real group of tasks, step by step beside the oracle.

use std::future::{Future, pending, poll_fn};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use schedgroup::task::{Member, TaskGroup, TaskHandle, TaskStats};
use schedgroup::{CancellationToken, Report, ScheduleError, TaskError};
use tokio::time::{Instant, sleep_until};

use super::history::{Act, End, Grace, History, OnCancel, Op, Plan, Verb};
use super::oracle::{
    Answer, Caller, Fault, Oracle, Record, Reported, Stats, Waited, error_of_member,
};
use crate::common::{Flag, Guard, alive_tasks, paused};
use crate::rounds::{NEVER, Sleep, acts, wakes};

type Group = TaskGroup<usize>;
type Handle = TaskHandle<usize>;

/// What the tasks and the history share: the clock, and what is written down.
#[derive(Clone)]
struct Tape {
    origin: Instant,
    handle: Handle,
    records: Arc<Mutex<Vec<Record>>>,
    /// For each task that there was, whether it is gone.
    tasks: Arc<Mutex<Vec<Flag>>>,
    members: Arc<Mutex<Vec<Option<Member<usize>>>>>,
}

impl Tape {
    fn now(&self) -> u64 {
        self.origin.elapsed().as_millis() as u64
    }

    fn instant(&self, at: u64) -> Instant {
        self.origin + Duration::from_millis(at)
    }

    fn write(&self, record: Record) {
        self.records.lock().unwrap().push(record);
    }

    fn new_task(&self) -> (usize, Flag) {
        let mut tasks = self.tasks.lock().unwrap();
        tasks.push(Flag::new());
        (tasks.len() - 1, tasks[tasks.len() - 1].clone())
    }

    /// By the owner, if there is one.
    fn act(&self, owner: Option<&Group>, act: &Act) {
        // The two have the same methods by design, and no trait in common.
        macro_rules! by {
            ($caller:ident => $call:expr) => {
                match owner {
                    Some($caller) => $call,
                    None => {
                        let $caller = &self.handle;
                        $call
                    }
                }
            };
        }
        match act {
            Act::Put(verb, plan) => {
                let (task, flag) = self.new_task();
                let (tape, plan, guard) = (self.clone(), Arc::clone(plan), flag.guard());
                let answer = match verb {
                    Verb::Spawn => by!(caller => {
                        let token = caller.token();
                        Answer::In(caller.spawn(run(tape, plan, task, token, guard)))
                    }),
                    Verb::SpawnWith => by!(caller => Answer::In(caller.spawn_with(
                        move |token| run(tape, plan, task, token, guard)
                    ))),
                    Verb::TrySpawn => by!(caller => {
                        let token = caller.token();
                        answer(caller.try_spawn(run(tape, plan, task, token, guard)), &flag)
                    }),
                };
                let given_back = !matches!(answer, Answer::In(_));
                self.write(Record::Put {
                    task,
                    answer,
                    dropped: flag.drops() == 1 && !given_back,
                });
            }
            Act::Member => {
                let member = by!(caller => caller.member());
                let index = member.index();
                self.members.lock().unwrap().push(Some(member));
                self.write(Record::Member { index });
            }
            Act::Fail(member) => {
                let members = self.members.lock().unwrap();
                if let Some(number) = Oracle::target(*member, members.len()) {
                    if let Some(member) = &members[number] {
                        member.fail(error_of_member(number));
                    }
                }
            }
            Act::Cancel => by!(caller => caller.cancel()),
            Act::CancelToken => by!(caller => caller.token().cancel()),
            Act::Abort => by!(caller => caller.abort()),
        }
    }
}

/// What `try_spawn` or `submit` says. A task that comes back is whole, and is dropped here.
fn answer<F>(answer: Result<usize, ScheduleError<F>>, flag: &Flag) -> Answer {
    let (answer, task) = match answer {
        Ok(index) => return Answer::In(index),
        Err(ScheduleError::Full(task)) => (Answer::Full, task),
        Err(ScheduleError::Closed(task)) => (Answer::Closed, task),
        Err(ScheduleError::Cancelled(task)) => (Answer::Cancelled, task),
        Err(_) => panic!("an error that is new"),
    };
    assert_eq!(flag.drops(), 0, "a task that is given back is whole");
    drop(task);
    answer
}

/// A task; it holds the guard from its making to its end.
async fn run(
    tape: Tape,
    plan: Arc<Plan>,
    task: usize,
    token: CancellationToken,
    guard: Guard,
) -> Result<(), usize> {
    let now = tape.now();
    tape.write(Record::Started {
        task,
        at: now,
        cancelled: token.is_cancelled(),
    });
    for act in &plan.before {
        tape.act(None, act);
    }
    let sleeps = async {
        match plan.sleep {
            Sleep::Not => {}
            Sleep::Rounds(rounds) => sleep_until(tape.instant(wakes(task, rounds, now))).await,
            Sleep::Forever => pending().await,
        }
    };
    let sleeps_not = matches!(plan.sleep, Sleep::Not);
    tokio::select! {
        biased;
        () = token.cancelled(), if !sleeps_not && plan.on_cancel != OnCancel::SleepOn => {
            if plan.on_cancel == OnCancel::EndLater {
                sleep_until(tape.instant(wakes(task, 0, tape.now()))).await;
            }
        }
        () = sleeps => {}
    }
    for act in &plan.after {
        tape.act(None, act);
    }
    drop(guard);
    match plan.end {
        End::Well => Ok(()),
        End::Error => Err(task),
        // Past the panic hook, which would print it.
        End::Panic => std::panic::resume_unwind(Box::new(format!("panic of task {task}"))),
    }
}

type Called<T> = Pin<Box<dyn Future<Output = T>>>;

/// A call that the history polls whenever it passes time.
struct Call<T> {
    future: Option<Called<T>>,
    result: Option<(T, u64)>,
}

impl<T> Call<T> {
    fn new(future: impl Future<Output = T> + 'static) -> Call<T> {
        Call {
            future: Some(Box::pin(future)),
            result: None,
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>, now: u64) {
        if let Some(future) = &mut self.future {
            if let Poll::Ready(result) = future.as_mut().poll(cx) {
                self.future = None;
                self.result = Some((result, now));
            }
        }
    }
}

struct Player {
    tape: Tape,
    parent: CancellationToken,
    group: Option<Arc<Group>>,
    submits: Vec<Call<Answer>>,
    closings: Vec<Call<Report>>,
    wait: Option<Call<Waited>>,
    oracle: Oracle,
}

/// Plays a history on a runtime of its own; panics where group and oracle differ.
pub(crate) fn perform(history: &History) {
    let runtime = paused();
    let player = runtime.block_on(play(history));
    if history.runtime_ends {
        drop(runtime);
        player.outlive();
    } else {
        runtime.block_on(player.finish());
    }
}

async fn play(history: &History) -> Player {
    let (origin, parent) = (Instant::now(), CancellationToken::new());
    let mut builder = Group::builder()
        .queue(history.queue)
        .on_error(history.on_error)
        .token(parent.clone());
    if history.limit < usize::MAX {
        builder = builder.limit(history.limit);
    }
    let oracle = Oracle::new(history, 0);
    match history.deadline.after(0) {
        NEVER => {}
        at => builder = builder.deadline(origin + Duration::from_millis(at)),
    }
    let group = Arc::new(builder.build());
    let mut player = Player {
        tape: Tape {
            origin,
            handle: group.handle(),
            records: Arc::default(),
            tasks: Arc::default(),
            members: Arc::default(),
        },
        parent,
        group: Some(group),
        submits: Vec::new(),
        closings: Vec::new(),
        wait: None,
        oracle,
    };
    for op in &history.ops {
        player.step(op).await;
    }
    player
}

impl Player {
    async fn step(&mut self, op: &Op) {
        if self.oracle.passes_over(op) {
            return;
        }
        let caller = match op {
            Op::Act(act) => self.oracle.caller(act),
            _ => Caller::Handle,
        };
        self.oracle.apply(op);
        self.apply(op, caller).await;
        // When those that are aborted notice is not promised.
        let settles = !matches!(
            op,
            Op::Act(Act::Put(..) | Act::Member)
                | Op::ByHandle(Act::Put(..) | Act::Member)
                | Op::Submit { .. }
                | Op::DropSubmit(_)
                | Op::DropWait
                | Op::DropClosing(_)
                | Op::Advance(_)
        );
        if settles {
            let to = self.tape.now() + 1;
            self.oracle.pass(to);
            self.pass(to).await;
        }
        self.compare(settles || matches!(op, Op::Advance(_)));
    }

    async fn apply(&mut self, op: &Op, caller: Caller) {
        match op {
            Op::Act(act) => {
                let owner = self.group.as_deref().filter(|_| caller == Caller::Owner);
                self.tape.act(owner, act);
            }
            Op::ByHandle(act) => self.tape.act(None, act),
            Op::Submit { plan, by_handle } => self.submit(plan, *by_handle).await,
            Op::DropSubmit(submit) => {
                if let Some(submit) = Oracle::target(*submit, self.submits.len()) {
                    self.submits[submit].future = None;
                }
            }
            Op::DropMember(member) => {
                let mut members = self.tape.members.lock().unwrap();
                if let Some(member) = Oracle::target(*member, members.len()) {
                    members[member] = None;
                }
            }
            Op::CancelParent => self.parent.cancel(),
            Op::Wait { all } => {
                let group = self.group.clone().unwrap();
                self.wait = Some(if *all {
                    Call::new(async move {
                        let ended = group.wait_all().await;
                        waited(ended.map_err(|errors| errors.into_iter().collect()))
                    })
                } else {
                    Call::new(
                        async move { waited(group.wait().await.map_err(|error| vec![error])) },
                    )
                });
                self.poll_calls().await;
            }
            Op::DropWait => self.wait = None,
            Op::Drain(grace) => {
                let (group, grace) = (self.group.clone().unwrap(), self.grace(*grace));
                self.closings
                    .push(Call::new(async move { group.drain(grace).await }));
                self.poll_calls().await;
            }
            Op::Shutdown(grace) => {
                let (group, grace) = (self.group.clone().unwrap(), self.grace(*grace));
                self.closings
                    .push(Call::new(async move { group.shutdown(grace).await }));
                self.poll_calls().await;
            }
            Op::DropClosing(closing) => {
                if let Some(closing) = Oracle::target(*closing, self.closings.len()) {
                    self.closings[closing].future = None;
                }
            }
            Op::DropGroup => {
                self.wait = None;
                for closing in &mut self.closings {
                    closing.future = None;
                }
                for (call, submit) in self.submits.iter_mut().zip(&self.oracle.submits) {
                    if !submit.by_handle {
                        call.future = None;
                    }
                }
                self.group = None;
            }
            Op::Advance(rounds) => self.pass(acts(*rounds, self.tape.now())).await,
        }
    }

    fn grace(&self, grace: Grace) -> Duration {
        match grace.ends(self.closings.len(), self.tape.now()) {
            NEVER => Duration::MAX,
            ends => Duration::from_millis(ends - self.tape.now()),
        }
    }

    async fn submit(&mut self, plan: &Arc<Plan>, by_handle: bool) {
        let (task, flag) = self.tape.new_task();
        let (tape, plan, guard) = (self.tape.clone(), Arc::clone(plan), flag.guard());
        let run = run(tape.clone(), plan, task, tape.handle.token(), guard);
        let handle = self.tape.handle.clone();
        self.submits.push(match self.group.clone() {
            Some(group) if !by_handle => {
                Call::new(async move { answer(group.submit(run).await, &flag) })
            }
            _ => Call::new(async move { answer(handle.submit(run).await, &flag) }),
        });
        self.poll_calls().await;
    }

    /// Once, so that the call is made.
    async fn poll_calls(&mut self) {
        poll_fn(|cx| {
            self.poll_each(cx);
            Poll::Ready(())
        })
        .await;
    }

    fn poll_each(&mut self, cx: &mut Context<'_>) {
        let now = self.tape.now();
        for submit in &mut self.submits {
            submit.poll(cx, now);
        }
        for closing in &mut self.closings {
            closing.poll(cx, now);
        }
        if let Some(wait) = &mut self.wait {
            wait.poll(cx, now);
        }
    }

    async fn pass(&mut self, to: u64) {
        let mut sleep = Box::pin(sleep_until(self.tape.instant(to)));
        poll_fn(|cx| {
            self.poll_each(cx);
            sleep.as_mut().poll(cx)
        })
        .await;
    }

    /// Lets everything come to its end, and looks whether anything is left.
    async fn finish(mut self) {
        self.step(&Op::Wait { all: false }).await;
        let mut rounds = 0;
        while self.oracle.next_event() != NEVER {
            self.step(&Op::Advance(1)).await;
            rounds += 1;
            assert!(rounds < 10_000, "the history has no end");
        }
        // Tasks that never end are left, and members.
        self.step(&Op::Act(Act::Abort)).await;
        let members = self.tape.members.lock().unwrap().len();
        for member in 0..members {
            self.step(&Op::DropMember(member)).await;
        }
        self.step(&Op::Advance(1)).await;
        assert!(self.oracle.is_drained() || self.group.is_none());
        drop((self.group, self.wait, self.closings, self.submits));
        sleep_until(Instant::now() + Duration::from_millis(1)).await;
        assert_eq!(alive_tasks(), 0, "tasks are left");
        assert_all_gone(&self.tape);
    }

    /// The runtime has gone: nothing is held any more but by a `submit` that waits, and who waits is told.
    fn outlive(mut self) {
        let mut cx = Context::from_waker(Waker::noop());
        let stats = self.tape.handle.stats();
        assert_eq!((stats.pending, stats.running), (0, 0), "{stats:?}");
        let covered = self.oracle.is_closed() && !self.oracle.has_members();
        if let Some(Call {
            future: Some(wait), ..
        }) = &mut self.wait
        {
            let ended = wait.as_mut().poll(&mut cx).is_ready();
            assert!(ended || !covered, "a wait without a runtime has no end");
        }
        for closing in &mut self.closings {
            if let Some(closing) = &mut closing.future {
                let ended = closing.as_mut().poll(&mut cx).is_ready();
                assert!(ended || !covered, "a drain without a runtime has no end");
            }
        }
        for submit in &mut self.submits {
            if let Some(submit) = &mut submit.future {
                let ended = submit.as_mut().poll(&mut cx).is_ready();
                assert!(ended, "a submit without a runtime has no end");
            }
        }
        self.tape.act(
            None,
            &Act::Put(
                Verb::TrySpawn,
                Arc::new(Plan {
                    before: Vec::new(),
                    sleep: Sleep::Not,
                    on_cancel: OnCancel::SleepOn,
                    after: Vec::new(),
                    end: End::Well,
                }),
            ),
        );
        drop((self.wait, self.closings, self.submits));
        assert_all_gone(&self.tape);
    }

    /// Compares everything that can be seen. The rest, when all that is to happen now has happened.
    fn compare(&self, settled: bool) {
        let expected = &self.oracle.records;
        let records = self.tape.records.lock().unwrap();
        if let Some(first) = (0..expected.len().max(records.len()))
            .find(|&record| expected.get(record) != records.get(record))
        {
            let around = first.saturating_sub(3)..;
            panic!(
                "at record {first}:\nexpected {:#?}\n but was {:#?}",
                expected.get(around.clone()),
                records.get(around)
            );
        }
        drop(records);
        assert_eq!(
            stats(self.tape.handle.stats()),
            self.oracle.stats(),
            "stats"
        );
        let token = self.tape.handle.token();
        assert_eq!(
            (token.is_cancelled(), self.tape.handle.cause()),
            (self.oracle.is_cancelled, self.oracle.cause),
            "token and cause"
        );
        if !settled {
            return;
        }
        let tasks = self.tape.tasks.lock().unwrap();
        for (number, (flag, expected)) in tasks.iter().zip(&self.oracle.tasks).enumerate() {
            let drops = usize::from(expected.is_over());
            assert_eq!(flag.drops(), drops, "drops of task {number}");
        }
        let submits = self.submits.iter().zip(&self.oracle.submits).enumerate();
        for (number, (call, expected)) in submits {
            if call.future.is_some() || call.result.is_some() {
                assert_eq!(call.result, expected.answer, "submit {number}");
            }
        }
        for (number, (call, expected)) in
            self.closings.iter().zip(&self.oracle.closings).enumerate()
        {
            if !expected.dropped {
                let report = call.result.map(|(report, at)| (reported(report), at));
                assert_eq!(report, expected.answer, "drain or shutdown {number}");
            }
        }
        if let Some(wait) = &self.wait {
            assert_eq!(wait.result, self.oracle.waited, "wait");
        }
    }
}

fn assert_all_gone(tape: &Tape) {
    for (number, flag) in tape.tasks.lock().unwrap().iter().enumerate() {
        assert_eq!(flag.drops(), 1, "drops of task {number}");
    }
}

fn stats(stats: TaskStats) -> Stats {
    let TaskStats {
        pending,
        running,
        finished,
        failed,
        panicked,
        skipped,
        aborted,
        discarded,
        ..
    } = stats;
    let (pending, running) = (pending as u64, running as u64);
    [
        pending, running, finished, failed, panicked, skipped, aborted, discarded,
    ]
}

fn reported(report: Report) -> Reported {
    let Report {
        finished,
        aborted,
        dropped,
        ..
    } = report;
    [finished as u64, aborted as u64, dropped as u64]
}

fn waited(ended: Result<TaskStats, Vec<TaskError<usize>>>) -> Waited {
    let faults = |errors: Vec<TaskError<usize>>| errors.iter().map(fault).collect();
    ended.map(stats).map_err(faults)
}

fn fault(error: &TaskError<usize>) -> Fault {
    match error {
        TaskError::Failed { index, error } => Fault::Failed(*index, *error),
        TaskError::Panicked(panic) => {
            assert!(panic.spawned_at().file().ends_with("play.rs"), "{panic:?}");
            let task = panic.message().strip_prefix("panic of task ");
            let task = task.and_then(|task| task.parse().ok());
            Fault::Panicked(panic.index(), task.expect("a task's panic"))
        }
        TaskError::Cancelled => Fault::Cancelled,
        TaskError::DeadlineExceeded => Fault::DeadlineExceeded,
        _ => panic!("{error:?} is new"),
    }
}
