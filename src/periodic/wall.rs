//! Jobs at times of the wall clock.

use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::clock::{Origin, WallClock};
use super::handle::{Once, TimedHandle};
use crate::{Handle, Job, Next};

impl WallClock {
    /// Runs `job` once, when this clock has reached `at`; at once if it has.
    ///
    /// `wait` waits for it, as for every job. In a group that takes no more jobs it is dropped, and the returned
    /// handle is a finished one.
    #[track_caller]
    pub fn schedule(&self, group: &Handle, at: SystemTime, job: impl Job) -> TimedHandle {
        let origin = Origin::Wall(self.clone(), at);
        let (mut once, claim) = Once::new(job);
        let first = origin.look_for(Duration::ZERO, origin.read());
        let handle = group.repeat(first.unwrap_or_else(Instant::now), move |_| {
            let again = origin.look_for(Duration::ZERO, origin.read());
            let job = match again {
                None => once.begin(),
                Some(_) => None,
            };
            async move {
                if let Some(job) = job {
                    job.await;
                }
                again.map_or(Next::Done, Next::At)
            }
        });
        TimedHandle::once(handle, claim)
    }
}
