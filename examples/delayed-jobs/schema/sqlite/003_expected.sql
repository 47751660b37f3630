-- In which states a job holds its key, and until when: the end of a period, or 0 for a key without one. Bits are those of
-- the states in the order of a job's life.
alter table delayed_jobs add column holds integer not null default 0;
alter table delayed_jobs add column held_until integer not null default 0;
update delayed_jobs set holds = 3 where key is not null;
drop index delayed_jobs_key;
create unique index delayed_jobs_key on delayed_jobs (key, held_until)
where key is not null
    and (holds & case state when 'pending' then 1 when 'running' then 2 when 'done' then 4 when 'dead' then 8 else 16 end) <> 0;
-- Jobs by their keys, whether they hold them or not.
create index delayed_jobs_of_key on delayed_jobs (key, id) where key is not null;

-- What a job was enqueued with, instead of what its handler has.
alter table delayed_jobs add column attempts integer;
alter table delayed_jobs add column timeout integer;
-- The last errors, and what the job has brought forth, as JSON.
alter table delayed_jobs add column errors text;
alter table delayed_jobs add column output text;

-- What can be forgotten, of each state. Who holds a key until the end of a period is remembered as long.
drop index delayed_jobs_finished;
create index delayed_jobs_ended on delayed_jobs (state, max(finished_at, held_until)) where finished_at is not null;
