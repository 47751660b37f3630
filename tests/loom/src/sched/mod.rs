#[path = "../../../../src/sched/body.rs"]
mod body;
#[path = "../../../../src/sched/closing.rs"]
mod closing;
#[path = "../../../../src/sched/ends.rs"]
mod ends;
#[path = "../../../../src/sched/error.rs"]
mod error;
#[path = "../../../../src/sched/gate.rs"]
mod gate;
#[path = "../../../../src/sched/intake.rs"]
mod intake;
#[path = "../../../../src/sched/job.rs"]
mod job;
#[path = "../../../../src/sched/job_task.rs"]
mod job_task;
#[path = "../../../../src/sched/jobs.rs"]
mod jobs;
#[path = "../../../../src/sched/local_queue.rs"]
mod local_queue;
#[path = "../../../../src/sched/origin.rs"]
mod origin;
#[path = "../../../../src/sched/queue.rs"]
mod queue;
#[path = "../../../../src/sched/ready.rs"]
mod ready;
#[path = "../../../../src/sched/run.rs"]
mod run;
#[path = "../../../../src/sched/running.rs"]
mod running;
#[path = "../../../../src/sched/slot.rs"]
mod slot;
#[path = "../../../../src/sched/spare.rs"]
mod spare;
#[path = "../../../../src/sched/state.rs"]
mod state;
#[path = "../../../../src/sched/stats.rs"]
mod stats;
#[path = "../../../../src/sched/sweep.rs"]
mod sweep;
#[path = "../../../../src/sched/wheel.rs"]
mod wheel;
#[path = "../../../../src/sched/worker.rs"]
mod worker;
#[path = "../../../../src/sched/workers.rs"]
mod workers;

mod models;
mod rt;
mod shared;
mod yield_now;
