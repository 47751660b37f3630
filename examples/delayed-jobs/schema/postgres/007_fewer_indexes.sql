-- Each index costs its part of every job, so there is none that another one can do the work of.

-- Running jobs are few: one index has all that is asked of them.
drop index delayed_jobs_leased;
drop index delayed_jobs_held;
drop index delayed_jobs_running;
create index delayed_jobs_running on delayed_jobs (queue, limit_key, worker, lease_until) where state = 'running';
-- What has ended, latest first, for people who look. Pending jobs are found by their times, and running ones are few.
drop index delayed_jobs_state;
create index delayed_jobs_state on delayed_jobs (state, id) where finished_at is not null;
-- The look-ahead goes through the priorities of a queue, one by one.
drop index delayed_jobs_ahead;
