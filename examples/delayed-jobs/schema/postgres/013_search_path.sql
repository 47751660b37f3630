-- The functions of the triggers find the tables where they are, whatever the `search_path` of the session is that changes
-- a job. A later migration that replaces one of these functions has to set its path again.

do $$
declare
    home regnamespace := (
        select relnamespace from pg_catalog.pg_class
        where oid = (select tableoid from delayed_jobs_schema limit 1)
    );
    called regprocedure;
begin
    for called in
        select distinct tgfoid from pg_catalog.pg_trigger as triggers
        join pg_catalog.pg_class as jobs on jobs.oid = tgrelid
        where relnamespace = home and relname = 'delayed_jobs'
            and tgname in ('delayed_jobs_begin_to_wait', 'delayed_jobs_end_wait', 'delayed_jobs_lose_wait')
    loop
        execute format('alter function %s set search_path = %s, pg_temp', called, home);
    end loop;
end
$$;
