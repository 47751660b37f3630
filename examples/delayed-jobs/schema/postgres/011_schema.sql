-- The tables on Postgres. Times are microseconds since 1970, UTC.

-- The versions of these tables. The program creates version 11, and each later migration adds one.
create table delayed_jobs_schema (
    version bigint primary key
);

-- The jobs.
create table delayed_jobs (
    id          bigint  primary key generated always as identity,
    -- Selects the handler.
    kind        text    not null,
    queue       text    not null,
    -- JSON.
    payload     text    not null,
    -- 0 is high, 1 is normal, 2 is low.
    priority    bigint  not null,
    -- When it is due, or was due if it has started. A job that waits for others is due at 9223372036854775807.
    run_at      bigint  not null,
    -- pending, running, done, dead or cancelled.
    state       text    not null default 'pending',
    -- The number of the current or last attempt.
    attempt     bigint  not null default 0,
    -- The number of the claim. A worker can end a job only with the number of its own claim.
    claim       bigint  not null default 0,
    -- How many workers were lost while they ran it.
    crashes     bigint  not null default 0,
    -- The unique key, also if the job no longer holds it.
    key         text,
    -- The schedule that made it, and for which of its times. A job that was made by hand has no slot.
    schedule    text,
    slot        bigint,
    -- Who runs it, and until when if the lease is not renewed.
    worker      text,
    lease_until bigint,
    -- Whether its cancellation was requested while it runs.
    cancel      bigint  not null default 0,
    -- In percent.
    progress    bigint,
    -- The last error.
    error       text,
    created_at  bigint  not null,
    -- When the last attempt started.
    started_at  bigint,
    finished_at bigint,
    -- Whether the worker runs no other job meanwhile, since the job may be what ends workers.
    alone       bigint  not null default 0,
    -- In which states the job holds its key: 1 is pending, 2 is running, 4 is done, 8 is dead, 16 is cancelled.
    holds       bigint  not null default 0,
    -- The end of the period in which the key is unique, or 0 for a key without one.
    held_until  bigint  not null default 0,
    -- The maximum number of attempts and the timeout, if they are not those of the handler.
    attempts    bigint,
    timeout     bigint,
    -- The last errors, as a JSON array of objects with `attempt`, `at` and `error`.
    errors      text,
    -- The result, as JSON.
    output      text,
    -- The key by which the limits per key count it.
    limit_key   text,
    -- The jobs that it comes after, as a JSON array of ids. It does not wait for those with a higher id than its own.
    after_jobs  text,
    -- Whether it also runs if one of them fails. Otherwise it is cancelled then.
    after_any   bigint  not null default 0,
    -- When it is due once they have ended.
    wanted_at   bigint,
    -- Whether another job comes after this one.
    is_awaited  bigint  not null default 0,
    -- When the first of the jobs was enqueued of which each has replaced the one before; null if it has replaced none.
    first_at    bigint
) with (
    -- Room for new versions of a row on its own page.
    fillfactor = 80,
    -- Each job leaves two old versions of its row. Those of jobs that were due first lie where each claim begins, so they
    -- are to be cleared away before they are a fifth of all rows.
    autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 10000, autovacuum_vacuum_cost_delay = 0
);

-- Each index costs its part of every job, so there is none that another one can do the work of.

-- A claim takes the due jobs of a queue by priority and time.
create index delayed_jobs_due on delayed_jobs (queue, priority, run_at, id) where state = 'pending';
-- There is one job for each slot, ever.
create unique index delayed_jobs_slot on delayed_jobs (schedule, slot) where schedule is not null;
-- What is due next in all queues, for people who look. By an expression, so that no claim is tempted to read all queues
-- by it.
create index delayed_jobs_next on delayed_jobs ((run_at + 0), id) where state = 'pending';
-- Jobs that have lost a worker, which may have to run alone.
create index delayed_jobs_suspects on delayed_jobs (run_at) where state = 'pending' and crashes > 0;
create index delayed_jobs_of_schedule on delayed_jobs (schedule)
where schedule is not null and state in ('pending', 'running');
-- Who holds a key.
create unique index delayed_jobs_key on delayed_jobs (key, held_until)
where key is not null
    and (holds & case state when 'pending' then 1 when 'running' then 2 when 'done' then 4 when 'dead' then 8 else 16 end) <> 0;
-- Jobs by their keys, whether they hold them or not.
create index delayed_jobs_of_key on delayed_jobs (key, id) where key is not null;
-- What can be forgotten, of each state. Who holds a key until the end of a period is remembered as long.
create index delayed_jobs_ended on delayed_jobs (state, greatest(finished_at, held_until)) where finished_at is not null;
-- Running jobs are few: one index has all that is asked of them.
create index delayed_jobs_running on delayed_jobs (queue, limit_key, worker, lease_until) where state = 'running';
-- What has ended, latest first, for people who look. Pending jobs are found by their times, and running ones are few.
create index delayed_jobs_state on delayed_jobs (state, id) where finished_at is not null;

-- Which job still waits for which other one.
create table delayed_jobs_waits (
    awaited bigint not null,
    job     bigint not null,
    primary key (awaited, job)
);
create index delayed_jobs_waits_of on delayed_jobs_waits (job);

-- Queues that are paused.
create table delayed_jobs_paused (
    queue text primary key
);

-- What the jobs of a queue may do together, over all workers.
create table delayed_jobs_limits (
    queue          text primary key,
    -- How many may run at a time.
    at_once        bigint,
    -- The time from start to start, and how many may start together.
    every          bigint,
    burst          bigint,
    -- The same for the jobs of each limit key.
    key_at_once    bigint,
    key_every      bigint,
    key_burst      bigint,
    -- How many each worker runs at a time, whatever it was started with.
    worker_at_once bigint
);

-- The rates of queues, and of the keys in them. The key of a queue itself is empty.
create table delayed_jobs_paces (
    queue text   not null,
    key   text   not null,
    -- When the next start is due by the rate alone.
    due   bigint not null,
    primary key (queue, key)
);
create index delayed_jobs_paces_over on delayed_jobs_paces (queue, due);

-- The schedules that workers have declared.
create table delayed_jobs_schedules (
    name    text primary key,
    -- What it is, as a text: another one is another schedule.
    spec    text not null,
    -- The last slot that was filled. It is remembered apart from its job, which is forgotten one day.
    slot    bigint,
    -- What its jobs are, so that one can be made by hand.
    kind    text,
    queue   text,
    payload text,
    paused  bigint not null default 0
);

-- Workers that live, by their own word: they say so again long before `until`.
create table delayed_jobs_workers (
    name     text primary key,
    host     text not null,
    -- Its queues and their concurrency, in words.
    queues   text not null,
    began_at bigint not null,
    until    bigint not null
);

-- A job that comes after others waits by triggers, so that it is the same step as the end of the other job, however that
-- comes. A session may plan their functions while there are few rows and no statistics, and keeps its plans. If one of
-- them read a whole table, each job that comes after others would take longer to insert than the one before it.

create function delayed_jobs_begin_to_wait() returns trigger language plpgsql
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off
as $$
declare
    ids bigint[] := array(select value::bigint from jsonb_array_elements_text(new.after_jobs::jsonb) as value);
begin
    -- Who ends one of them at this moment waits until this job is there, or has ended it before.
    perform 1 from delayed_jobs where id = any (ids) order by id for update;
    insert into delayed_jobs_waits (awaited, job)
    select jobs.id, new.id from delayed_jobs as jobs
    where jobs.id = any (ids) and jobs.state in ('pending', 'running')
    on conflict do nothing;
    update delayed_jobs set is_awaited = 1
    where id in (select awaited from delayed_jobs_waits where job = new.id) and is_awaited = 0;
    update delayed_jobs
    set state = 'cancelled', finished_at = new.created_at, error = 'a job that it comes after has failed'
    where id = new.id and new.after_any = 0 and exists (
        select 1 from delayed_jobs as jobs where jobs.id = any (ids) and jobs.state in ('dead', 'cancelled')
    );
    update delayed_jobs set run_at = new.wanted_at
    where id = new.id and state = 'pending' and not exists (select 1 from delayed_jobs_waits where job = new.id);
    return null;
end
$$;
create trigger delayed_jobs_begin_to_wait after insert on delayed_jobs
for each row when (new.after_jobs is not null) execute function delayed_jobs_begin_to_wait();

-- Jobs that come after each other can be a chain of any length. If one of them is not done in the end, those that come
-- after it are cancelled here step by step, since triggers that cancel one after the other could be nested only so deep.
-- The end of a job has to see the ends of others that were committed while its transaction ran. With the snapshot of a
-- stricter isolation it would not, and a job that comes after both would wait for ever. Such a transaction fails instead.
create function delayed_jobs_end_wait() returns trigger language plpgsql
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off
as $$
declare
    ending text := case tg_op when 'DELETE' then 'deleted' else new.state end;
    ended_at bigint := case tg_op when 'DELETE' then (extract(epoch from now()) * 1000000)::bigint else new.finished_at end;
    ended bigint[] := array[old.id];
    gone bigint[] := ended;
    freed bigint[];
begin
    if current_setting('transaction_isolation') in ('repeatable read', 'serializable') then
        raise exception 'jobs come after job %, so the transaction that ends it must be READ COMMITTED', old.id
            using errcode = 'feature_not_supported';
    end if;
    -- Of two that end at the same time the second one sees the first one's end.
    perform pg_advisory_xact_lock(7235419200281472867);
    while ending <> 'done' and ended is not null loop
        -- They are awaited no more, so no trigger runs for them. Who begins to wait for one of them at this moment has
        -- locked it before, and is found in the next step.
        with waits as (
            select job, min(awaited) as first from unnest(ended) as before
            join delayed_jobs_waits on awaited = before
            group by job
        ), cancelled as (
            update delayed_jobs as jobs
            set state = 'cancelled', is_awaited = 0, finished_at = ended_at,
                error = 'job ' || first || ', which it comes after, is ' || case first when old.id then ending else 'cancelled' end
            from waits
            where id = job and after_any = 0 and state = 'pending' and run_at = 9223372036854775807
            returning id
        )
        select array_agg(id) into ended from cancelled;
        gone := gone || ended;
    end loop;
    with waits as (
        delete from delayed_jobs_waits where awaited = any (gone) returning job
    )
    select array_agg(distinct job) into freed from waits;
    update delayed_jobs set run_at = greatest(wanted_at, ended_at)
    where id = any (freed) and state = 'pending' and run_at = 9223372036854775807
        and not exists (select 1 from delayed_jobs_waits where job = delayed_jobs.id);
    if found then
        perform pg_notify('{channel}', '');
    end if;
    return null;
end
$$;
create trigger delayed_jobs_end_wait after update of state on delayed_jobs
for each row when (
    new.is_awaited = 1 and old.state in ('pending', 'running') and new.state in ('done', 'dead', 'cancelled')
) execute function delayed_jobs_end_wait();
create trigger delayed_jobs_lose_wait after delete on delayed_jobs
for each row when (old.is_awaited = 1 and old.state in ('pending', 'running')) execute function delayed_jobs_end_wait();
