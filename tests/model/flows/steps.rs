//! Random waterfalls and retries: one thing at a time, so what must come of them is a loop over a clock that is a
//! number.
//!
//! Steps and pauses take whole seconds, an attempt is given up 300 ms past one, cancels are 150 ms past one and
//! deadlines 75 ms: so no two of them come at the same time. A step that never ends has a cancel to come.

use std::fmt;
use std::future::pending;
use std::panic::resume_unwind;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use schedgroup::flow::{self, Ended, Retry, Verdict};
use schedgroup::{CancellationToken, Group, TaskError};
use tokio::time::{Instant, sleep, sleep_until};

use super::history::{End, Word};
use super::oracle::Stop;
use crate::common::paused;
use crate::rounds::{Bytes, NEVER};

const SECOND: u64 = 1000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Call {
    Waterfall,
    Retry,
    /// As a job of a group.
    SpawnedRetry,
}

#[derive(Clone, Copy, Debug)]
enum Asks {
    Nothing,
    Pause(u64),
    Stop,
}

/// A step of a waterfall, or an attempt and the pause behind it.
#[derive(Clone, Copy, Debug)]
struct Step {
    takes: u64,
    end: End,
    pause: u64,
    /// What its error asks for.
    asks: Asks,
    /// The token of the whole, at its end.
    cancels: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct Steps {
    call: Call,
    attempts: u32,
    /// After how many pauses the delays end.
    delays: Option<usize>,
    attempt_timeout: u64,
    cancel: u64,
    deadline: u64,
    steps: Vec<Step>,
}

/// How it ended, with the number of the step.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Outcome {
    Value(usize),
    Failed(usize),
    Panicked(usize),
    Stopped(Stop),
    GaveUp {
        attempts: u32,
        ended: Ended,
        last: Option<usize>,
    },
}

/// Everything that can be seen of it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    outcome: Outcome,
    at: u64,
    /// When each step began.
    begun: Vec<u64>,
    /// Errors that are retried, and their pauses.
    notified: Vec<(usize, u64)>,
}

impl Steps {
    /// What these words spell; any will do. The first two have the settings.
    pub(crate) fn spelt(words: &[Word]) -> Steps {
        let (settings, steps) = words.split_at(words.len().min(2));
        let settings = settings.concat();
        let mut bytes = Bytes::of(&settings);
        let call = [Call::Retry, Call::SpawnedRetry, Call::Waterfall][bytes.below(3)];
        let mut all = Steps {
            call,
            attempts: [u32::MAX, 1, 2, 3, 5][bytes.below(5)],
            delays: [None, Some(1), Some(2), Some(3)][bytes.below(8).saturating_sub(4)],
            attempt_timeout: [NEVER, 300, SECOND + 300][bytes.below(6).saturating_sub(3)],
            cancel: NEVER,
            deadline: NEVER,
            steps: Vec::new(),
        };
        all.cancel = some_time(&mut bytes, 150);
        all.deadline = some_time(&mut bytes, 75);
        let steps = steps.iter().map(|word| step(&mut Bytes::of(word), &all));
        all.steps = steps.collect();
        all
    }

    /// Compares what must come of it with what does.
    pub(crate) fn perform(&self) {
        let expected = match self.call {
            Call::Waterfall => self.waterfall(),
            Call::Retry | Call::SpawnedRetry => self.retry(),
        };
        let runtime = paused();
        assert_eq!(runtime.block_on(self.play()), expected);
    }

    // What must come of it.

    fn stop(&self, cancel: u64, now: u64) -> Option<Stop> {
        if cancel <= now {
            Some(Stop::Cancelled)
        } else {
            (self.deadline <= now).then_some(Stop::DeadlineExceeded)
        }
    }

    /// The attempt or step of that number; behind the last there is a value at once.
    fn step(&self, number: usize) -> Step {
        self.steps.get(number).copied().unwrap_or(Step {
            takes: 0,
            end: End::Value,
            pause: 0,
            asks: Asks::Nothing,
            cancels: false,
        })
    }

    fn waterfall(&self) -> Seen {
        let (mut now, mut cancel, mut begun) = (0, self.cancel, Vec::new());
        let mut outcome = Outcome::Value(self.steps.len());
        for (number, step) in self.steps.iter().enumerate() {
            if let Some(stop) = self.stop(cancel, now) {
                outcome = Outcome::Stopped(stop);
                break;
            }
            begun.push(now);
            let ends = now.saturating_add(step.takes);
            now = ends.min(cancel).min(self.deadline);
            if now < ends {
                outcome = Outcome::Stopped(self.stop(cancel, now).expect("it came first"));
                break;
            }
            if step.cancels {
                cancel = cancel.min(now);
            }
            match step.end {
                End::Value => continue,
                End::Error => outcome = Outcome::Failed(number),
                End::Panic => outcome = Outcome::Panicked(number),
            }
            break;
        }
        Seen {
            outcome,
            at: now,
            begun,
            notified: Vec::new(),
        }
    }

    fn retry(&self) -> Seen {
        let (mut now, mut cancel, mut last) = (0, self.cancel, None);
        let (mut begun, mut notified) = (Vec::new(), Vec::new());
        let ended = loop {
            if let Some(stop) = self.stop(cancel, now) {
                break stop.into();
            }
            let number = begun.len();
            let step = self.step(number);
            begun.push(now);
            let ends = now.saturating_add(step.takes);
            let given_up = now.saturating_add(self.attempt_timeout);
            now = ends.min(given_up).min(cancel).min(self.deadline);
            if now == ends && step.end == End::Value {
                return Seen {
                    outcome: Outcome::Value(number),
                    at: now,
                    begun,
                    notified,
                };
            }
            if now < ends && now < given_up {
                continue;
            }
            let failed = now == ends;
            if failed {
                last = Some(number);
                if step.cancels {
                    cancel = cancel.min(now);
                }
            }
            if self.attempts == begun.len() as u32 {
                break Ended::Attempts;
            }
            if failed && matches!(step.asks, Asks::Stop) {
                break Ended::Stopped;
            }
            if self.delays.is_some_and(|delays| begun.len() > delays) {
                break Ended::Delays;
            }
            let pause = match step.asks {
                Asks::Pause(pause) if failed => pause,
                _ => self.pause(number),
            };
            // Only a retry that is to come is notified.
            if let Some(stop) = self.stop(cancel, now) {
                break stop.into();
            }
            if self.deadline <= now + pause {
                break Ended::DeadlineExceeded;
            }
            if failed {
                notified.push((number, pause));
            }
            now = (now + pause).min(cancel.max(now));
        };
        Seen {
            outcome: Outcome::GaveUp {
                attempts: begun.len() as u32,
                ended,
                last,
            },
            at: now,
            begun,
            notified,
        }
    }

    /// Without delays there are no pauses.
    fn pause(&self, number: usize) -> u64 {
        if self.delays.is_some() {
            self.step(number).pause
        } else {
            0
        }
    }

    // What does.

    async fn play(&self) -> Seen {
        let origin = Instant::now();
        let (token, begun, notified) = (
            CancellationToken::new(),
            Arc::<Mutex<Vec<u64>>>::default(),
            Arc::<Mutex<Vec<(usize, u64)>>>::default(),
        );
        if self.cancel == 0 {
            token.cancel();
        } else if self.cancel != NEVER {
            let (token, at) = (token.clone(), origin + Duration::from_millis(self.cancel));
            tokio::spawn(async move {
                sleep_until(at).await;
                token.cancel();
            });
        }
        let begin = {
            let begun = Arc::clone(&begun);
            move || {
                let mut begun = begun.lock().unwrap();
                begun.push(origin.elapsed().as_millis() as u64);
                begun.len() - 1
            }
        };
        let outcome = match self.call {
            Call::Waterfall => self.play_waterfall(origin, token, begin).await,
            Call::Retry | Call::SpawnedRetry => {
                let (steps, whole) = (self.clone(), token.clone());
                let op = move || {
                    let number = begin();
                    steps.step(number).run(number, token.clone())
                };
                self.play_retry(origin, whole, op, &notified).await
            }
        };
        Seen {
            outcome,
            at: origin.elapsed().as_millis() as u64,
            begun: begun.lock().unwrap().clone(),
            notified: notified.lock().unwrap().clone(),
        }
    }

    async fn play_waterfall(
        &self,
        origin: Instant,
        token: CancellationToken,
        begin: impl Fn() -> usize + Clone + Send + 'static,
    ) -> Outcome {
        let mut waterfall = flow::waterfall::<usize, usize>(0);
        for &step in &self.steps {
            let (begin, token) = (begin.clone(), token.clone());
            waterfall = waterfall.then(move |value| {
                let number = begin();
                assert_eq!(number, value, "the value of the step before");
                // The closure of a step may panic, too.
                if step.takes == 0 && step.end == End::Panic {
                    resume_unwind(Box::new("in a closure"));
                }
                async move { step.run(number, token).await.map(|number| number + 1) }
            });
        }
        waterfall = waterfall.token(token);
        if self.deadline != NEVER {
            waterfall = waterfall.deadline(origin + Duration::from_millis(self.deadline));
        }
        match waterfall.await {
            Ok(value) => Outcome::Value(value),
            Err(TaskError::Failed { index, error }) => {
                assert_eq!(index, error, "the index of an error");
                Outcome::Failed(index)
            }
            Err(TaskError::Panicked(panic)) => Outcome::Panicked(panic.index()),
            Err(TaskError::Cancelled) => Outcome::Stopped(Stop::Cancelled),
            Err(TaskError::DeadlineExceeded) => Outcome::Stopped(Stop::DeadlineExceeded),
            Err(error) => panic!("{error:?} is new"),
        }
    }

    async fn play_retry<O, F>(
        &self,
        origin: Instant,
        token: CancellationToken,
        op: O,
        notified: &Arc<Mutex<Vec<(usize, u64)>>>,
    ) -> Outcome
    where
        O: FnMut() -> F + Send + 'static,
        F: Future<Output = Result<usize, usize>> + Send + 'static,
    {
        let (steps, notified) = (self.clone(), Arc::clone(notified));
        let mut retry: Retry<'static, O, F, usize> = flow::retry(op)
            .attempts(self.attempts)
            .token(token)
            .when(move |&number| match steps.step(number).asks {
                Asks::Nothing => Verdict::Retry,
                Asks::Pause(pause) => Verdict::RetryAfter(Duration::from_millis(pause)),
                Asks::Stop => Verdict::Stop,
            })
            .notify(move |&number, pause| {
                let pause = pause.as_millis() as u64;
                notified.lock().unwrap().push((number, pause));
            });
        if let Some(delays) = self.delays {
            let steps = self.clone();
            let pauses = (0..delays).map(move |number| Duration::from_millis(steps.pause(number)));
            retry = retry.delays(pauses);
        }
        if self.attempt_timeout != NEVER {
            retry = retry.attempt_timeout(Duration::from_millis(self.attempt_timeout));
        }
        if self.deadline != NEVER {
            retry = retry.deadline(origin + Duration::from_millis(self.deadline));
        }
        let end = if self.call == Call::Retry {
            retry.await
        } else {
            let group = Group::new();
            let end = retry.spawn_on(&group).await;
            group.wait().await.expect("no job panics");
            end
        };
        match end {
            Ok(value) => Outcome::Value(value),
            Err(error) => Outcome::GaveUp {
                attempts: error.attempts,
                ended: error.ended,
                last: error.last,
            },
        }
    }
}

impl Step {
    async fn run(self, number: usize, token: CancellationToken) -> Result<usize, usize> {
        match self.takes {
            0 => {}
            NEVER => pending().await,
            millis => sleep(Duration::from_millis(millis)).await,
        }
        if self.cancels {
            token.cancel();
        }
        match self.end {
            End::Value => Ok(number),
            End::Error => Err(number),
            // Past the panic hook, which would print it.
            End::Panic => resume_unwind(Box::new("in a step")),
        }
    }
}

impl From<Stop> for Ended {
    fn from(stop: Stop) -> Ended {
        match stop {
            Stop::Cancelled => Ended::Cancelled,
            Stop::DeadlineExceeded => Ended::DeadlineExceeded,
        }
    }
}

/// So many milliseconds past a second, at the start, or never.
fn some_time(bytes: &mut Bytes<'_>, past: u64) -> u64 {
    match bytes.below(12) {
        0..=6 => NEVER,
        7 => 0,
        seconds => (seconds as u64 - 8) * SECOND + past,
    }
}

fn step(bytes: &mut Bytes<'_>, of: &Steps) -> Step {
    let [takes, end, pause, asks] = [8, 8, 4, 16].map(|bound| bytes.below(bound));
    Step {
        takes: match takes {
            0..=4 => 0,
            7 if of.cancel != NEVER => NEVER,
            seconds => (seconds as u64 - 4) * SECOND,
        },
        // A value is the end of a retry; it passes a panic on.
        end: match (of.call, end) {
            (Call::Waterfall, 0..=5) | (_, 0) => End::Value,
            (Call::Waterfall, 7) => End::Panic,
            _ => End::Error,
        },
        pause: pause as u64 * SECOND,
        asks: match asks {
            9..=12 => Asks::Pause((asks as u64 - 9) * SECOND),
            13 => Asks::Stop,
            _ => Asks::Nothing,
        },
        cancels: asks > 13,
    }
}

/// A step a line.
impl fmt::Display for Steps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = |at: u64| Some(at).filter(|&at| at != NEVER);
        let Steps {
            call,
            attempts,
            delays,
            ..
        } = self;
        writeln!(
            f,
            "{call:?}, attempts {attempts}, delays {delays:?}, each at most {:?}, cancel {:?}, deadline {:?}",
            time(self.attempt_timeout),
            time(self.cancel),
            time(self.deadline)
        )?;
        self.steps
            .iter()
            .try_for_each(|step| writeln!(f, "{step:?}"))
    }
}
