//! The rows of the table, as data.

use std::time::Duration;

use crate::cell::Who;
use crate::workload::{Beside, Job, Workload};

/// One line of the table: one figure of one workload at one size.
pub(crate) struct Row {
    pub(crate) workload: Workload,
    pub(crate) size: usize,
    pub(crate) figure: &'static str,
    pub(crate) what: &'static str,
    pub(crate) who: &'static [Who],
    /// Left out of the quick table.
    pub(crate) full: bool,
}

const PEERS: &[Who] = &[Who::Tracker, Who::JoinSet, Who::DelayQueue, Who::Ours];
const OURS: &[Who] = &[
    Who::Tracker,
    Who::JoinSet,
    Who::DelayQueue,
    Who::Ours,
    Who::OursLimited,
    Who::OursWithHandles,
];
const FINE: &[Who] = &[
    Who::Tracker,
    Who::JoinSet,
    Who::DelayQueue,
    Who::Ours,
    Who::OursFine,
];
const SPLIT: &[Who] = &[
    Who::Tracker,
    Who::JoinSet,
    Who::DelayQueue,
    Who::Ours,
    Who::OursSplit,
];
const TIMEOUTS: &[Who] = &[
    Who::Tracker,
    Who::JoinSet,
    Who::DelayQueue,
    Who::Ours,
    Who::TokioTimeout,
    Who::PingoraTimeout,
];

const fn row(
    workload: Workload,
    size: usize,
    figure: &'static str,
    what: &'static str,
    who: &'static [Who],
) -> Row {
    Row {
        workload,
        size,
        figure,
        what,
        who,
        full: false,
    }
}

impl Row {
    const fn full(mut self) -> Row {
        self.full = true;
        self
    }
}

const K: usize = 1_000;
const M: usize = 1_000 * K;
const ONE: Workload = Workload::Schedule { producers: 1 };
const TWO: Workload = Workload::Schedule { producers: 2 };
const FOUR: Workload = Workload::Schedule { producers: 4 };
const EIGHT: Workload = Workload::Schedule { producers: 8 };
const PLAIN: Workload = Workload::Lateness(Beside::Nothing);
const HOG: Workload = Workload::Lateness(Beside::Hog);
const ALONE: Workload = Workload::Lateness(Beside::BlockingJob);
const AMONG: Workload = Workload::Lateness(Beside::BlockingJobAmongOthers);
const FLOOD: Workload = Workload::Lateness(Beside::Flood);
const READY: Workload = Workload::Burst(Job::Ready);
const PENDS_ONCE: Workload = Workload::Burst(Job::Pends(1));
const PENDS_FIVE_TIMES: Workload = Workload::Burst(Job::Pends(5));
const SLEEPS: Workload = Workload::Burst(Job::Sleeps);
const SPREAD: Workload = Workload::Spread(Job::Ready);
const REPEAT_10_PER_SECOND: Workload = Workload::RepeatOnTwoWorkers {
    period: Duration::from_millis(100),
};
const REPEAT_EACH_SECOND: Workload = Workload::RepeatOnTwoWorkers {
    period: Duration::from_secs(1),
};

pub(crate) const ROWS: &[Row] = &[
    row(ONE, 100 * K, "wall", "schedule, ns a call", OURS),
    row(
        ONE,
        100 * K,
        "cpu",
        "schedule, CPU ns a job until quiet",
        OURS,
    ),
    row(
        ONE,
        100 * K,
        "turns",
        "schedule, turns of the driver in all",
        OURS,
    ),
    row(
        TWO,
        100 * K,
        "wall",
        "schedule, 2 producers, ns a job",
        PEERS,
    )
    .full(),
    row(
        FOUR,
        100 * K,
        "wall",
        "schedule, 4 producers, ns a job",
        PEERS,
    )
    .full(),
    row(
        EIGHT,
        100 * K,
        "wall",
        "schedule, 8 producers, ns a job",
        PEERS,
    ),
    row(
        EIGHT,
        100 * K,
        "cpu",
        "schedule, 8 producers, CPU ns a job until quiet",
        PEERS,
    ),
    row(
        Workload::ScheduleOnCurrentThread,
        100 * K,
        "wall",
        "schedule, current_thread, ns a call",
        PEERS,
    )
    .full(),
    row(
        Workload::ScheduleLarge,
        100 * K,
        "wall",
        "schedule, futures of 256 bytes, ns a call",
        PEERS,
    )
    .full(),
    row(ONE, M, "wall", "schedule 1 M, ns a call", PEERS).full(),
    row(
        ONE,
        M,
        "cpu",
        "schedule 1 M, CPU ns a job until quiet",
        PEERS,
    )
    .full(),
    row(ONE, 10 * M, "wall", "schedule 10 M, ns a call", PEERS).full(),
    row(
        Workload::Memory,
        M,
        "live",
        "pending, 1 M of 32 bytes, live bytes a job",
        OURS,
    ),
    row(
        Workload::Memory,
        M,
        "resident",
        "pending, 1 M of 32 bytes, resident bytes a job",
        OURS,
    ),
    row(
        Workload::MemoryLarge,
        M,
        "live",
        "pending, 1 M of 256 bytes, live bytes a job",
        PEERS,
    )
    .full(),
    row(
        Workload::AlreadyDue,
        100 * K,
        "wall",
        "already due when scheduled, ns a job, schedule to wait",
        PEERS,
    ),
    row(
        Workload::AlreadyDue,
        100 * K,
        "cpu",
        "already due when scheduled, CPU ns a job, schedule to wait",
        PEERS,
    )
    .full(),
    row(READY, 100 * K, "wall", "all due at once, ns a job", OURS),
    row(
        READY,
        100 * K,
        "firing",
        "all due at once, CPU ns a job of the firing",
        OURS,
    ),
    row(
        READY,
        100 * K,
        "life",
        "all due at once, CPU ns a job, schedule to wait",
        OURS,
    ),
    row(READY, M, "wall", "1 M due at once, ns a job", PEERS).full(),
    row(
        READY,
        M,
        "firing",
        "1 M due at once, CPU ns a job of the firing",
        PEERS,
    )
    .full(),
    row(
        READY,
        M,
        "life",
        "1 M due at once, CPU ns a job, schedule to wait",
        PEERS,
    )
    .full(),
    row(
        PENDS_ONCE,
        100 * K,
        "wall",
        "all due at once, each pends once, ns a job",
        PEERS,
    ),
    row(
        PENDS_ONCE,
        100 * K,
        "firing",
        "all due at once, each pends once, CPU ns a job of the firing",
        PEERS,
    ),
    row(
        PENDS_ONCE,
        100 * K,
        "life",
        "all due at once, each pends once, CPU ns a job, schedule to wait",
        PEERS,
    ),
    row(
        PENDS_FIVE_TIMES,
        100 * K,
        "wall",
        "all due at once, each pends five times, ns a job",
        PEERS,
    )
    .full(),
    row(
        PENDS_FIVE_TIMES,
        100 * K,
        "firing",
        "all due at once, each pends five times, CPU ns a job of the firing",
        PEERS,
    ),
    row(
        PENDS_FIVE_TIMES,
        100 * K,
        "life",
        "all due at once, each pends five times, CPU ns a job, schedule to wait",
        PEERS,
    )
    .full(),
    row(
        SLEEPS,
        100 * K,
        "wall",
        "all due at once, each sleeps 1 ms, ns a job",
        PEERS,
    )
    .full(),
    row(
        SLEEPS,
        100 * K,
        "firing",
        "all due at once, each sleeps 1 ms, CPU ns a job of the firing",
        PEERS,
    ),
    row(
        SLEEPS,
        100 * K,
        "life",
        "all due at once, each sleeps 1 ms, CPU ns a job, schedule to wait",
        PEERS,
    ),
    row(
        Workload::BurstOnCurrentThread,
        100 * K,
        "wall",
        "all due at once, current_thread, ns a job",
        PEERS,
    )
    .full(),
    row(
        Workload::BurstOnCurrentThread,
        100 * K,
        "firing",
        "all due at once, current_thread, CPU ns a job of the firing",
        PEERS,
    )
    .full(),
    row(
        Workload::BurstOnCurrentThread,
        100 * K,
        "life",
        "all due at once, current_thread, CPU ns a job, schedule to wait",
        PEERS,
    )
    .full(),
    row(
        SPREAD,
        10 * K,
        "firing",
        "10 k over a second, CPU ns a job of the firing",
        FINE,
    ),
    row(
        SPREAD,
        100 * K,
        "firing",
        "100 k over a second, CPU ns a job of the firing",
        PEERS,
    ),
    row(
        SPREAD,
        M,
        "firing",
        "1 M over a second, CPU ns a job of the firing",
        PEERS,
    )
    .full(),
    row(
        SPREAD,
        M,
        "end",
        "1 M over a second, µs from the last deadline to the end of wait",
        PEERS,
    )
    .full(),
    row(
        Workload::Spread(Job::Pends(1)),
        100 * K,
        "firing",
        "100 k over a second, each pends once, CPU ns a job of the firing",
        PEERS,
    ),
    row(
        Workload::Spread(Job::Sleeps),
        100 * K,
        "firing",
        "100 k over a second, each sleeps 1 ms, CPU ns a job of the firing",
        PEERS,
    ),
    row(
        Workload::Lone,
        100 * K,
        "cpu",
        "lone firings in 64 groups, paused clock, CPU ns each",
        PEERS,
    ),
    row(
        Workload::LoneOnTwoWorkers,
        K,
        "cpu",
        "lone firings in 64 groups, two workers, CPU ns each",
        PEERS,
    )
    .full(),
    row(
        Workload::Repeat,
        K,
        "cpu",
        "repeat of 1 k series, paused clock, CPU ns a run",
        PEERS,
    ),
    row(
        REPEAT_10_PER_SECOND,
        K,
        "cpu",
        "repeat of 1 k series, 10 k/s, CPU ns a run",
        PEERS,
    )
    .full(),
    row(
        REPEAT_EACH_SECOND,
        200 * K,
        "cpu",
        "repeat of 200 k series, 200 k/s, CPU ns a run",
        SPLIT,
    )
    .full(),
    row(
        Workload::Timeouts,
        100 * K,
        "cpu",
        "timeout of which 1 in 1,000 elapses, CPU ns a call",
        TIMEOUTS,
    ),
    row(PLAIN, K, "p50", "lateness at 1 k/s, µs, p50", FINE).full(),
    row(PLAIN, K, "p99", "lateness at 1 k/s, µs, p99", FINE).full(),
    row(PLAIN, 10 * K, "p50", "lateness at 10 k/s, µs, p50", FINE),
    row(PLAIN, 10 * K, "p99", "lateness at 10 k/s, µs, p99", FINE),
    row(
        PLAIN,
        10 * K,
        "p99.9",
        "lateness at 10 k/s, µs, p99.9",
        PEERS,
    )
    .full(),
    row(PLAIN, 10 * K, "max", "lateness at 10 k/s, µs, max", FINE).full(),
    row(PLAIN, 100 * K, "p50", "lateness at 100 k/s, µs, p50", FINE),
    row(PLAIN, 100 * K, "p99", "lateness at 100 k/s, µs, p99", FINE),
    row(PLAIN, 500 * K, "p50", "lateness at 500 k/s, µs, p50", FINE).full(),
    row(PLAIN, 500 * K, "p99", "lateness at 500 k/s, µs, p99", FINE).full(),
    row(
        HOG,
        10 * K,
        "p99",
        "lateness at 10 k/s beside a hog, µs, p99",
        PEERS,
    )
    .full(),
    row(
        HOG,
        100 * K,
        "p99",
        "lateness at 100 k/s beside a hog, µs, p99",
        PEERS,
    )
    .full(),
    row(
        ALONE,
        K,
        "max",
        "beside a job that blocks for 200 ms in its first poll, others late, µs, max",
        PEERS,
    ),
    row(
        AMONG,
        K,
        "max",
        "the same, due among others, µs, max",
        PEERS,
    )
    .full(),
    row(
        FLOOD,
        K,
        "p99",
        "beside two threads that schedule without a pause, µs, p99",
        PEERS,
    )
    .full(),
    row(
        Workload::CancelAll,
        100 * K,
        "wall",
        "cancel all, ns a job",
        PEERS,
    ),
    row(
        Workload::CancelAll,
        M,
        "wall",
        "cancel all 1 M, ns a job",
        PEERS,
    )
    .full(),
    row(
        Workload::CancelHalf,
        100 * K,
        "cpu",
        "cancel half by key, CPU ns each until quiet",
        PEERS,
    ),
    row(
        Workload::ResetLater,
        100 * K,
        "wall",
        "move later by key, ns each",
        PEERS,
    ),
    row(
        Workload::Churn,
        10 * K,
        "wall",
        "churn of 10 k, ns a step",
        PEERS,
    )
    .full(),
    row(
        Workload::Churn,
        100 * K,
        "wall",
        "churn of 100 k, ns a step",
        PEERS,
    ),
    row(Workload::Churn, M, "wall", "churn of 1 M, ns a step", PEERS).full(),
    row(
        Workload::Idle,
        M,
        "cpu",
        "1 M pending, idle, CPU µs a second",
        PEERS,
    )
    .full(),
    row(
        Workload::Idle,
        M,
        "wakes",
        "1 M pending, idle, wake-ups a second",
        PEERS,
    )
    .full(),
    row(
        Workload::AfterBurst,
        M,
        "live",
        "live bytes a second after 1 M have fired",
        PEERS,
    )
    .full(),
];
