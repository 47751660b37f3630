-- Jobs that come after each other can be a chain of any length. If one of them is not done in the end, all that are
-- cancelled with it are found here first, since triggers that cancel one after the other could be nested only so deep.
create table delayed_jobs_gone (
    job integer primary key
);

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
