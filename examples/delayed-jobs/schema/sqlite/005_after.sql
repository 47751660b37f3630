-- Jobs that come after others. Until then such a job is pending and due at the end of time, and `wanted_at` is when it is
-- due by itself.
alter table delayed_jobs add column after_jobs text;
alter table delayed_jobs add column after_any integer not null default 0;
alter table delayed_jobs add column wanted_at integer;
-- Whether another job comes after it.
alter table delayed_jobs add column is_awaited integer not null default 0;

-- Who still waits for whom.
create table delayed_jobs_waits (
    awaited integer not null,
    job     integer not null,
    primary key (awaited, job)
) without rowid;
create index delayed_jobs_waits_of on delayed_jobs_waits (job);

-- By triggers, so that it is the same step as the end of the other job, however that comes.
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

-- Ends of jobs that others wait for; each is dealt with as it comes, and goes. The triggers on the table of jobs are as
-- small as they can be, since SQLite prepares for them at each change.
create view delayed_jobs_ends as select null as id, null as ending, null as at where 0;

create trigger delayed_jobs_end_wait after update of state on delayed_jobs
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

create trigger delayed_jobs_let_go instead of insert on delayed_jobs_ends
begin
    update delayed_jobs
    set state = 'cancelled', finished_at = new.at, error = 'job ' || new.id || ', which it comes after, is ' || new.ending
    where new.ending <> 'done' and after_any = 0 and state = 'pending' and run_at = 9223372036854775807
        and id in (select job from delayed_jobs_waits where awaited = new.id);
    update delayed_jobs set run_at = max(wanted_at, new.at)
    where state = 'pending' and run_at = 9223372036854775807
        and id in (select job from delayed_jobs_waits where awaited = new.id)
        and not exists (
            select 1 from delayed_jobs_waits as other
            where other.job = delayed_jobs.id and other.awaited <> new.id
        );
    delete from delayed_jobs_waits where awaited = new.id;
end;
