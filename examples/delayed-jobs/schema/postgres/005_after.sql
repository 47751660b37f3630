-- Jobs that come after others. Until then such a job is pending and due at the end of time, and `wanted_at` is when it is
-- due by itself.
alter table delayed_jobs add column after_jobs text;
alter table delayed_jobs add column after_any bigint not null default 0;
alter table delayed_jobs add column wanted_at bigint;
-- Whether another job comes after it.
alter table delayed_jobs add column is_awaited bigint not null default 0;

-- Who still waits for whom.
create table delayed_jobs_waits (
    awaited bigint not null,
    job     bigint not null,
    primary key (awaited, job)
);
create index delayed_jobs_waits_of on delayed_jobs_waits (job);

-- By triggers, so that it is the same step as the end of the other job, however that comes.
create function delayed_jobs_begin_to_wait() returns trigger language plpgsql as $$
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

create function delayed_jobs_end_wait() returns trigger language plpgsql as $$
declare
    ending text := case tg_op when 'DELETE' then 'deleted' else new.state end;
    ended_at bigint := case tg_op when 'DELETE' then (extract(epoch from now()) * 1000000)::bigint else new.finished_at end;
    has_changed boolean;
begin
    -- Of two that end at the same time the second one sees the first one's end.
    perform pg_advisory_xact_lock(7235419200281472867);
    update delayed_jobs
    set state = 'cancelled', finished_at = ended_at,
        error = 'job ' || old.id || ', which it comes after, is ' || ending
    where ending <> 'done' and after_any = 0 and state = 'pending' and run_at = 9223372036854775807
        and id in (select job from delayed_jobs_waits where awaited = old.id);
    update delayed_jobs set run_at = greatest(wanted_at, ended_at)
    where state = 'pending' and run_at = 9223372036854775807
        and id in (select job from delayed_jobs_waits where awaited = old.id)
        and not exists (
            select 1 from delayed_jobs_waits as other
            where other.job = delayed_jobs.id and other.awaited <> old.id
        );
    has_changed := found;
    delete from delayed_jobs_waits where awaited = old.id;
    if has_changed then
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
