-- Workers that live, by their own word: they say so again long before `until`.
create table delayed_jobs_workers (
    name     text primary key,
    host     text not null,
    queues   text not null,
    began_at integer not null,
    until    integer not null
) without rowid;
