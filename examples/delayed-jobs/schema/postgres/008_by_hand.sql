-- When the first of the jobs was enqueued of which each has replaced the one before; null if this one has replaced none.
alter table delayed_jobs add column first_at bigint;

-- How many jobs of the queue each worker runs at a time, whatever it was started with.
alter table delayed_jobs_limits add column worker_at_once bigint;

-- What a schedule's jobs are, so that one can be made by hand, and whether none is made meanwhile.
alter table delayed_jobs_schedules add column kind text;
alter table delayed_jobs_schedules add column queue text;
alter table delayed_jobs_schedules add column payload text;
alter table delayed_jobs_schedules add column paused bigint not null default 0;

-- Each job leaves two old versions of its row. Those of jobs that were due first lie where each claim begins, so they are to be
-- cleared away before they are a fifth of all rows.
alter table delayed_jobs set (
    autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 10000, autovacuum_vacuum_cost_delay = 0
);
