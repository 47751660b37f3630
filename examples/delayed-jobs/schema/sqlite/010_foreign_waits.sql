-- A job can come only after jobs that were there before it, and not after itself: it would wait for ever. A row of another
-- program may come after others without a time of its own (`wanted_at`). It is due at once when they have ended, and does
-- not keep them from ending.

drop trigger delayed_jobs_begin_to_wait;
create trigger delayed_jobs_begin_to_wait after insert on delayed_jobs when new.after_jobs is not null
begin
    select raise(abort, 'a job cannot come after itself')
    where exists (select 1 from json_each(new.after_jobs) as ids where ids.value = new.id);
    insert or ignore into delayed_jobs_waits (awaited, job)
    select jobs.id, new.id from json_each(new.after_jobs) as ids
    join delayed_jobs as jobs on jobs.id = ids.value
    where jobs.state in ('pending', 'running') and jobs.id < new.id;
    update delayed_jobs set is_awaited = 1
    where id in (select awaited from delayed_jobs_waits where job = new.id) and is_awaited = 0;
    update delayed_jobs
    set state = 'cancelled', finished_at = new.created_at, error = 'a job that it comes after has failed'
    where id = new.id and new.after_any = 0 and exists (
        select 1 from json_each(new.after_jobs) as ids
        join delayed_jobs as jobs on jobs.id = ids.value
        where jobs.state in ('dead', 'cancelled')
    );
    update delayed_jobs set run_at = coalesce(new.wanted_at, new.created_at)
    where id = new.id and state = 'pending' and not exists (select 1 from delayed_jobs_waits where job = new.id);
end;

drop trigger delayed_jobs_let_go;
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
    update delayed_jobs set run_at = max(coalesce(wanted_at, new.at), new.at)
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
