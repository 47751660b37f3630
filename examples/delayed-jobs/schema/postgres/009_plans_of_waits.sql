-- A session may plan this function while there are few rows and no statistics, and keeps its plans. If one of them read a
-- whole table, each job that comes after others would take longer to insert than the one before it.
alter function delayed_jobs_begin_to_wait() set enable_seqscan = off;
alter function delayed_jobs_begin_to_wait() set enable_hashjoin = off;
alter function delayed_jobs_begin_to_wait() set enable_mergejoin = off;
