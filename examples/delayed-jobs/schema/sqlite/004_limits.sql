-- What the jobs of a queue may do together, over all workers: how many run at a time, and the microseconds from start to
-- start with how many may start together; the same for the jobs of each limit key.
create table delayed_jobs_limits (
    queue       text primary key,
    at_once     integer,
    every       integer,
    burst       integer,
    key_at_once integer,
    key_every   integer,
    key_burst   integer
) without rowid;
-- When the next start is due by the rate alone, of a queue (its key is empty) and of the keys in it.
create table delayed_jobs_paces (
    queue text   not null,
    key   text   not null,
    due   integer not null,
    primary key (queue, key)
) without rowid;
create index delayed_jobs_paces_over on delayed_jobs_paces (queue, due);

alter table delayed_jobs add column limit_key text;
create index delayed_jobs_running on delayed_jobs (queue, limit_key) where state = 'running';
