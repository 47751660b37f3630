-- The tables on SQLite. Times are microseconds since 1970, UTC.

-- The versions of these tables. The program creates version 9, and each later migration adds one.
create table delayed_jobs_schema (
    version integer primary key
);

-- The jobs.
create table delayed_jobs (
    id          integer primary key autoincrement,
    -- Selects the handler.
    kind        text    not null,
    queue       text    not null,
    -- JSON.
    payload     text    not null,
    -- 0 is high, 1 is normal, 2 is low.
    priority    integer not null,
    -- When it is due, or was due if it has started. A job that waits for others is due at 9223372036854775807.
    run_at      integer not null,
    -- pending, running, done, dead or cancelled.
    state       text    not null default 'pending',
    -- The number of the current or last attempt.
    attempt     integer not null default 0,
    -- The number of the claim. A worker can end a job only with the number of its own claim.
    claim       integer not null default 0,
    -- How many workers were lost while they ran it.
    crashes     integer not null default 0,
    -- The unique key, also if the job no longer holds it.
    key         text,
    -- The schedule that made it, and for which of its times. A job that was made by hand has no slot.
    schedule    text,
    slot        integer,
    -- Who runs it, and until when if the lease is not renewed.
    worker      text,
    lease_until integer,
    -- Whether its cancellation was requested while it runs.
    cancel      integer not null default 0,
    -- In percent.
    progress    integer,
    -- The last error.
    error       text,
    created_at  integer not null,
    -- When the last attempt started.
    started_at  integer,
    finished_at integer,
    -- Whether the worker runs no other job meanwhile, since the job may be what ends workers.
    alone       integer not null default 0,
    -- In which states the job holds its key: 1 is pending, 2 is running, 4 is done, 8 is dead, 16 is cancelled.
    holds       integer not null default 0,
    -- The end of the period in which the key is unique, or 0 for a key without one.
    held_until  integer not null default 0,
    -- The maximum number of attempts and the timeout, if they are not those of the handler.
    attempts    integer,
    timeout     integer,
    -- The last errors, as a JSON array of objects with `attempt`, `at` and `error`.
    errors      text,
    -- The result, as JSON.
    output      text,
    -- The key by which the limits per key count it.
    limit_key   text,
    -- The jobs that it comes after, as a JSON array of ids. It does not wait for those with a higher id than its own.
    after_jobs  text,
    -- Whether it also runs if one of them fails. Otherwise it is cancelled then.
    after_any   integer not null default 0,
    -- When it is due once they have ended.
    wanted_at   integer,
    -- Whether another job comes after this one.
    is_awaited  integer not null default 0,
    -- When the first of the jobs was enqueued of which each has replaced the one before; null if it has replaced none.
    first_at    integer
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
create index delayed_jobs_ended on delayed_jobs (state, max(finished_at, held_until)) where finished_at is not null;
-- Running jobs are few: one index has all that is asked of them.
create index delayed_jobs_running on delayed_jobs (queue, limit_key, worker, lease_until) where state = 'running';
-- What has ended, latest first, for people who look. Pending jobs are found by their times, and running ones are few.
create index delayed_jobs_state on delayed_jobs (state, id) where finished_at is not null;

-- Which job still waits for which other one.
create table delayed_jobs_waits (
    awaited integer not null,
    job     integer not null,
    primary key (awaited, job)
) without rowid;
create index delayed_jobs_waits_of on delayed_jobs_waits (job);

-- Queues that are paused.
create table delayed_jobs_paused (
    queue text primary key
) without rowid;

-- What the jobs of a queue may do together, over all workers.
create table delayed_jobs_limits (
    queue          text primary key,
    -- How many may run at a time.
    at_once        integer,
    -- The time from start to start, and how many may start together.
    every          integer,
    burst          integer,
    -- The same for the jobs of each limit key.
    key_at_once    integer,
    key_every      integer,
    key_burst      integer,
    -- How many each worker runs at a time, whatever it was started with.
    worker_at_once integer
) without rowid;

-- The rates of queues, and of the keys in them. The key of a queue itself is empty.
create table delayed_jobs_paces (
    queue text   not null,
    key   text   not null,
    -- When the next start is due by the rate alone.
    due   integer not null,
    primary key (queue, key)
) without rowid;
create index delayed_jobs_paces_over on delayed_jobs_paces (queue, due);

-- The schedules that workers have declared.
create table delayed_jobs_schedules (
    name    text primary key,
    -- What it is, as a text: another one is another schedule.
    spec    text not null,
    -- The last slot that was filled. It is remembered apart from its job, which is forgotten one day.
    slot    integer,
    -- What its jobs are, so that one can be made by hand.
    kind    text,
    queue   text,
    payload text,
    paused  integer not null default 0
) without rowid;

-- Workers that live, by their own word: they say so again long before `until`.
create table delayed_jobs_workers (
    name     text primary key,
    host     text not null,
    -- Its queues and their concurrency, in words.
    queues   text not null,
    began_at integer not null,
    until    integer not null
) without rowid;

-- A job that comes after others waits by triggers, so that it is the same step as the end of the other job, however that
-- comes. The triggers on the table of jobs are as small as they can be, since SQLite prepares for them at each change.

create trigger delayed_jobs_begin_to_wait after insert on delayed_jobs when new.after_jobs is not null
begin
    insert or ignore into delayed_jobs_waits (awaited, job)
    select jobs.id, new.id from json_each(new.after_jobs) as ids
    join delayed_jobs as jobs on jobs.id = ids.value
    where jobs.state in ('pending', 'running');
    update delayed_jobs set is_awaited = 1
    where id in (select awaited from delayed_jobs_waits where job = new.id) and is_awaited = 0;
    update delayed_jobs
    set state = 'cancelled', finished_at = new.created_at, error = 'a job that it comes after has failed'
    where id = new.id and new.after_any = 0 and exists (
        select 1 from json_each(new.after_jobs) as ids
        join delayed_jobs as jobs on jobs.id = ids.value
        where jobs.state in ('dead', 'cancelled')
    );
    update delayed_jobs set run_at = new.wanted_at
    where id = new.id and state = 'pending' and not exists (select 1 from delayed_jobs_waits where job = new.id);
end;

-- Ends of jobs that others wait for; each is dealt with as it comes, and goes.
create view delayed_jobs_ends as select null as id, null as ending, null as at where 0;

-- By the time of the end, which a claim does not write: nothing is prepared for the trigger then.
create trigger delayed_jobs_end_wait after update of finished_at on delayed_jobs
when new.is_awaited = 1 and old.state in ('pending', 'running') and new.state in ('done', 'dead', 'cancelled')
begin
    insert into delayed_jobs_ends (id, ending, at) values (new.id, new.state, new.finished_at);
end;

create trigger delayed_jobs_lose_wait after delete on delayed_jobs
when old.is_awaited = 1 and old.state in ('pending', 'running')
begin
    insert into delayed_jobs_ends (id, ending, at)
    values (old.id, 'deleted', cast((julianday('now') - 2440587.5) * 86400000000 as integer));
end;

-- Jobs that come after each other can be a chain of any length. If one of them is not done in the end, all that are
-- cancelled with it are found here first, since triggers that cancel one after the other could be nested only so deep.
create table delayed_jobs_gone (
    job integer primary key
);

create trigger delayed_jobs_let_go instead of insert on delayed_jobs_ends
begin
    insert into delayed_jobs_gone (job)
    with recursive gone (job) as (
        select new.id
        union
        select waits.job from gone
        join delayed_jobs_waits as waits on waits.awaited = gone.job
        join delayed_jobs as jobs on jobs.id = waits.job
        where new.ending <> 'done' and jobs.after_any = 0 and jobs.state = 'pending' and jobs.run_at = 9223372036854775807
    )
    select job from gone;
    -- They are awaited no more, so no trigger runs for them. The first of those that a job comes after has the least
    -- id.
    update delayed_jobs
    set state = 'cancelled', is_awaited = 0, finished_at = new.at, error = (
        select 'job ' || min(awaited) || ', which it comes after, is ' || case min(awaited) when new.id then new.ending else 'cancelled' end
        from delayed_jobs_waits
        where job = delayed_jobs.id and exists (select 1 from delayed_jobs_gone as gone where gone.job = awaited)
    )
    where id in (select job from delayed_jobs_gone where job <> new.id);
    update delayed_jobs set run_at = max(wanted_at, new.at)
    where state = 'pending' and run_at = 9223372036854775807
        and id in (select job from delayed_jobs_waits where awaited in (select job from delayed_jobs_gone))
        and not exists (
            select 1 from delayed_jobs_waits as other
            where other.job = delayed_jobs.id
                and not exists (select 1 from delayed_jobs_gone as gone where gone.job = other.awaited)
        );
    delete from delayed_jobs_waits where awaited in (select job from delayed_jobs_gone);
    delete from delayed_jobs_gone;
end;
