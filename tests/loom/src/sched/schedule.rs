//! Stands for the crate's scheduling methods: what a table of rows needs of them.

use super::error::ScheduleError;
use super::state::Rejected;

pub(super) fn hand_back<J>((rejected, job): (Rejected, J)) -> ScheduleError<J> {
    match rejected {
        Rejected::Closed(_) => ScheduleError::Closed(job),
        Rejected::Cancelled => ScheduleError::Cancelled(job),
    }
}
