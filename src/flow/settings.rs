//! The settings with which a set of tasks is run.

use std::fmt;
use std::panic::Location;
use std::task::{Context, Poll};

use tokio::runtime::Handle;

use super::stop::StopSignal;
use crate::common::run;

/// The settings of one call, and where it was.
pub(super) struct Settings {
    pub(super) name: &'static str,
    pub(super) called_at: &'static Location<'static>,
    pub(super) limit: usize,
    /// Whether a stream hands out ends in order of completion.
    pub(super) unordered: bool,
    pub(super) stop: StopSignal,
    /// The runtime on which tasks are spawned: that of the first poll.
    pub(super) runtime: Option<Handle>,
}

/// Polls a set of tasks. The closure hides the types of the rule, of the iterator and of the tasks.
pub(super) type Work<'a, T> =
    Box<dyn FnMut(&mut Settings, &mut Context<'_>) -> Poll<T> + Send + 'a>;

impl Settings {
    #[track_caller]
    pub(super) fn new(name: &'static str, limit: usize) -> Settings {
        Settings {
            name,
            called_at: Location::caller(),
            limit,
            unordered: false,
            stop: StopSignal::default(),
            runtime: None,
        }
    }

    #[track_caller]
    pub(super) fn set_limit(&mut self, setter: &str, tasks: usize) {
        assert!(
            tasks > 0,
            "schedgroup: {setter} must be at least 1: no task could ever run"
        );
        self.limit = tasks;
    }

    /// Takes the runtime of the first poll, and makes the sleep of a deadline: within `Work` the line of the poll is not
    /// known.
    #[track_caller]
    pub(super) fn start(&mut self) {
        if self.runtime.is_none() {
            let Ok(runtime) = Handle::try_current() else {
                let name = self.name;
                panic!("schedgroup: {name} was run outside of a tokio runtime: its tasks need one");
            };
            self.runtime = Some(runtime);
        }
        self.stop.arm();
    }

    /// Drops a value of the user's; a panic of its destructor is an event and harms nothing else.
    pub(super) fn discard<V>(&self, index: usize, value: V) {
        run::discard_of_task(self.name, index, self.called_at, || drop(value));
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct(self.name)
            .field("limit", &self.limit)
            .field("started", &self.runtime.is_some())
            .field("called_at", &format_args!("{}", self.called_at))
            .finish_non_exhaustive()
    }
}
