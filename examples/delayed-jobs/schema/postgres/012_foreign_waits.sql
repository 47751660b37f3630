-- A job can come only after jobs that were there before it, and not after itself: it would wait for ever. A row of another
-- program may come after others without a time of its own (`wanted_at`). It is due at once when they have ended.

create or replace function delayed_jobs_begin_to_wait() returns trigger language plpgsql
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off
as $$
declare
    ids bigint[] := array(select value::bigint from jsonb_array_elements_text(new.after_jobs::jsonb) as value);
begin
    if new.id = any (ids) then
        raise exception 'a job cannot come after itself' using errcode = 'DJ001';
    end if;
    -- Who ends one of them at this moment waits until this job is there, or has ended it before.
    perform 1 from delayed_jobs where id = any (ids) order by id for update;
    insert into delayed_jobs_waits (awaited, job)
    select jobs.id, new.id from delayed_jobs as jobs
    where jobs.id = any (ids) and jobs.state in ('pending', 'running') and jobs.id < new.id
    on conflict do nothing;
    update delayed_jobs set is_awaited = 1
    where id in (select awaited from delayed_jobs_waits where job = new.id) and is_awaited = 0;
    update delayed_jobs
    set state = 'cancelled', finished_at = new.created_at, error = 'a job that it comes after has failed'
    where id = new.id and new.after_any = 0 and exists (
        select 1 from delayed_jobs as jobs where jobs.id = any (ids) and jobs.state in ('dead', 'cancelled')
    );
    update delayed_jobs set run_at = coalesce(new.wanted_at, new.created_at)
    where id = new.id and state = 'pending' and not exists (select 1 from delayed_jobs_waits where job = new.id);
    return null;
end
$$;
