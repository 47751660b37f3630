-- The end of a job has to see the ends of others that were committed while its transaction ran. With the snapshot of a
-- stricter isolation it would not, and a job that comes after both would wait for ever. Such a transaction fails instead.
create or replace function delayed_jobs_end_wait() returns trigger language plpgsql as $$
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
-- As for the other function.
alter function delayed_jobs_end_wait() set enable_seqscan = off;
alter function delayed_jobs_end_wait() set enable_hashjoin = off;
alter function delayed_jobs_end_wait() set enable_mergejoin = off;
