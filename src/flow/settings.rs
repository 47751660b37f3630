//! The settings that all sets of tasks share.

use std::fmt;
use std::future::IntoFuture;
use std::marker::PhantomData;
use std::panic::Location;

use tokio_util::sync::CancellationToken;

use super::rule::{Ordered, Rule};
use super::running::Running;
use super::stream::Stream;
use super::task::Task;
use super::task_set::TaskSet;
use crate::ground::token::Token;

/// Tasks, what is to be made of them, and how: awaited, it runs them.
///
/// `R` is the rule, by the name of the function that made it.
#[must_use = "nothing runs until it is awaited; a stream is started with `start`"]
pub struct Flow<I, K, R> {
    name: &'static str,
    called_at: &'static Location<'static>,
    tasks: I,
    rule: R,
    limit: usize,
    token: Option<CancellationToken>,
    kind: PhantomData<fn() -> K>,
}

impl<I, K, R> Flow<I, K, R> {
    #[track_caller]
    pub(super) fn new(name: &'static str, tasks: I, rule: R) -> Flow<I, K, R> {
        Flow {
            name,
            called_at: Location::caller(),
            tasks,
            rule,
            // As many as there are. Those with a default of their own set it.
            limit: usize::MAX,
            token: None,
            kind: PhantomData,
        }
    }

    /// Runs at most `tasks` tasks at a time; those of a [`stream`](super::stream) whose end is not taken
    /// yet are among them.
    ///
    /// The input is then taken as slots become free: at most `tasks` futures exist, and it may be endless
    /// where the combinator ends early. Without a limit `map`, `for_each` and `stream` run as many as the
    /// machine has CPUs; all others take the whole input and start it at once, so it must be finite.
    ///
    /// # Panics
    ///
    /// For zero, with which no task could ever run.
    #[track_caller]
    pub fn limit(mut self, tasks: usize) -> Flow<I, K, R> {
        assert!(
            tasks > 0,
            "schedgroup: Flow::limit must be at least 1: no task could ever run"
        );
        self.limit = tasks;
        self
    }

    /// Ends it when `token` is cancelled; tasks get a child of it.
    ///
    /// A cancel ends only what has not finished: a value that is there when it arrives is returned, and so
    /// is an error.
    pub fn token(mut self, token: CancellationToken) -> Flow<I, K, R> {
        self.token = Some(token);
        self
    }

    #[track_caller]
    fn set<T: Send + 'static>(self) -> (TaskSet<I, K, T>, R, usize) {
        let token = Token::new(self.token.as_ref());
        let Some(set) = TaskSet::new(self.name, self.called_at, token, self.tasks) else {
            let name = self.name;
            panic!("schedgroup: {name} was run outside of a tokio runtime: its tasks need one");
        };
        (set, self.rule, self.limit)
    }
}

impl<I, K, R> IntoFuture for Flow<I, K, R>
where
    I: Iterator<Item: Task<K, Output = R::Input>>,
    R: Rule,
{
    type Output = R::Output;
    type IntoFuture = Running<I, K, R>;

    /// # Panics
    ///
    /// Outside of a tokio runtime.
    #[track_caller]
    fn into_future(self) -> Running<I, K, R> {
        let (set, rule, limit) = self.set();
        Running::new(set, rule, limit)
    }
}

impl<I, K, T> Flow<I, K, Ordered<T>>
where
    I: Iterator<Item: Task<K, Output = T>>,
    T: Send + 'static,
{
    /// Starts the first tasks; their ends come out of the stream in order.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    #[track_caller]
    pub fn start(self) -> Stream<I, K, T> {
        let (set, Ordered { .. }, limit) = self.set();
        Stream::new(set, limit)
    }
}

impl<I, K, R> fmt::Debug for Flow<I, K, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Flow")
            .field("of", &self.name)
            .field("limit", &self.limit)
            .field("called_at", &format_args!("{}", self.called_at))
            .finish_non_exhaustive()
    }
}
