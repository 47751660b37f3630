-- What the jobs of a queue may do together, over all workers: how many run at a time, and the microseconds from start to
-- start with how many may start together; the same for the jobs of each limit key.
create table delayed_jobs_limits (
    queue       text primary key,
    at_once     bigint,
    every       bigint,
    burst       bigint,
    key_at_once bigint,
    key_every   bigint,
    key_burst   bigint
);
-- When the next start is due by the rate alone, of a queue (its key is empty) and of the keys in it.
create table delayed_jobs_paces (
    queue text   not null,
    key   text   not null,
    due   bigint not null,
    primary key (queue, key)
);
create index delayed_jobs_paces_over on delayed_jobs_paces (queue, due);

alter table delayed_jobs add column limit_key text;
create index delayed_jobs_running on delayed_jobs (queue, limit_key) where state = 'running';
