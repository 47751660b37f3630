-- When the first of the jobs was enqueued of which each has replaced the one before; null if this one has replaced none.
alter table delayed_jobs add column first_at integer;

-- How many jobs of the queue each worker runs at a time, whatever it was started with.
alter table delayed_jobs_limits add column worker_at_once integer;

-- What a schedule's jobs are, so that one can be made by hand, and whether none is made meanwhile.
alter table delayed_jobs_schedules add column kind text;
alter table delayed_jobs_schedules add column queue text;
alter table delayed_jobs_schedules add column payload text;
alter table delayed_jobs_schedules add column paused integer not null default 0;
