-- Times are microseconds since 1970, UTC.
create table delayed_jobs (
    id          integer primary key autoincrement,
    kind        text    not null,
    queue       text    not null,
    payload     text    not null,
    priority    integer not null,
    run_at      integer not null,
    state       text    not null default 'pending',
    attempt     integer not null default 0,
    claim       integer not null default 0,
    crashes     integer not null default 0,
    key         text,
    schedule    text,
    slot        integer,
    worker      text,
    lease_until integer,
    cancel      integer not null default 0,
    progress    integer,
    error       text,
    created_at  integer not null,
    started_at  integer,
    finished_at integer
);

-- A claim takes a queue's due jobs by priority and time.
create index delayed_jobs_due on delayed_jobs (queue, priority, run_at, id) where state = 'pending';
-- The look-ahead takes them by time alone.
create index delayed_jobs_ahead on delayed_jobs (queue, run_at) where state = 'pending';
create index delayed_jobs_leased on delayed_jobs (lease_until) where state = 'running';
create index delayed_jobs_finished on delayed_jobs (finished_at) where state in ('done', 'cancelled');
create index delayed_jobs_state on delayed_jobs (state, queue);
create unique index delayed_jobs_key on delayed_jobs (key) where key is not null and state in ('pending', 'running');
create unique index delayed_jobs_slot on delayed_jobs (schedule, slot) where schedule is not null;

create table delayed_jobs_paused (
    queue text primary key
) without rowid;
