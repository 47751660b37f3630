-- Jobs of one state, latest first, for people who look; and the counts of states.
drop index delayed_jobs_state;
create index delayed_jobs_state on delayed_jobs (state, id);
-- What is due next in all queues, for people who look. By an expression, so that no claim is tempted to read all
-- queues by it.
create index delayed_jobs_next on delayed_jobs ((run_at + 0), id) where state = 'pending';
-- What a worker holds.
create index delayed_jobs_held on delayed_jobs (worker) where state = 'running';
-- Jobs that have lost a worker, which may have to run alone.
create index delayed_jobs_suspects on delayed_jobs (run_at) where state = 'pending' and crashes > 0;
create index delayed_jobs_of_schedule on delayed_jobs (schedule) where schedule is not null and state in ('pending', 'running');
-- Whether the run has its worker for itself.
alter table delayed_jobs add column alone bigint not null default 0;
-- Room for new versions of a row on its own page.
alter table delayed_jobs set (fillfactor = 80);

-- The slots of a schedule are remembered apart from its jobs, which are forgotten one day.
create table delayed_jobs_schedules (
    name text primary key,
    spec text not null,
    slot bigint
);
