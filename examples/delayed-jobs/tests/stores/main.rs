//! What each store promises: the same tests for Postgres, and for SQLite in a file and in memory.
#![forbid(unsafe_code)]

mod after;
mod changes;
mod claims;
mod keys;
mod limits;
mod look;
mod others;
#[path = "../support/mod.rs"]
mod support;

use std::sync::Arc;
use std::time::Duration;

use delayed_jobs::store::{
    After, Asked, Change, Claim, Claimed, Ended, Lease, Lot, MemoryStore, NewJob, Reclaimed,
    ScheduleSpec, Slot, Store, Suspects, UniqueKey, Verdict, open_postgres, open_sqlite,
};
use delayed_jobs::{
    Cursor, EnqueueError, Enqueued, Filter, JobId, Limit, Micros, OnDuplicate, Priority, Queue,
    QueueRow, Record, Search, State, StoreError, Unique, UniqueWhile, WorkerRow,
};

use after::*;
use changes::*;
use claims::*;
use keys::*;
use limits::*;
use look::*;
use others::*;

/// A store, and what has to live as long.
struct Opened {
    store: Arc<dyn Store>,
    _dir: Option<tempfile::TempDir>,
}

impl std::ops::Deref for Opened {
    type Target = Arc<dyn Store>;

    fn deref(&self) -> &Arc<dyn Store> {
        &self.store
    }
}

async fn memory() -> Option<Opened> {
    let store = Arc::new(MemoryStore::new());
    Some(Opened { store, _dir: None })
}

async fn sqlite() -> Option<Opened> {
    let (dir, path) = support::sqlite();
    let store = open_sqlite(path).await.expect("a new file");
    Some(Opened {
        store,
        _dir: Some(dir),
    })
}

async fn postgres() -> Option<Opened> {
    let url = support::postgres()?.database().await;
    let store = open_postgres(&url).await.expect("a new database");
    Some(Opened { store, _dir: None })
}

macro_rules! promises {
    ($($name:ident),* $(,)?) => {
        promises!(@ memory: $($name)*);
        promises!(@ sqlite: $($name)*);
        promises!(@ postgres: $($name)*);
    };
    (@ $kind:ident: $($name:ident)*) => {
        mod $kind {
            $(
                #[tokio::test]
                async fn $name() {
                    if let Some(opened) = super::$kind().await {
                        super::$name(opened).await;
                    }
                }
            )*
        }
    };
}

promises![
    a_claim_takes_what_is_due_by_priority_and_time,
    a_claim_may_leave_out_what_is_earlier,
    a_claim_may_ask_for_any_number,
    a_job_is_claimed_once,
    an_old_claim_ends_nothing,
    verdicts_leave_the_job_as_they_say,
    an_expired_lease_is_taken_back_and_a_renewed_one_is_not,
    a_job_that_kills_its_workers_is_dead,
    a_lost_job_that_was_to_be_cancelled_is,
    a_key_is_rejected_kept_or_replaced,
    a_running_job_loses_its_key_to_its_replacement,
    a_key_is_free_when_its_job_has_ended,
    cancel_tells_what_it_met,
    retry_tells_what_it_met,
    a_cancel_that_was_granted_holds,
    only_known_kinds_are_claimed,
    a_worker_is_told_what_it_holds,
    a_paused_queue_gives_nothing,
    the_look_ahead_is_bounded_and_in_order,
    a_slot_is_filled_once,
    an_old_worker_takes_no_job_of_a_changed_schedule_away,
    a_job_of_a_schedule_that_has_started_is_not_dropped,
    a_retry_does_not_hold_up_runs_that_may_overlap,
    a_schedule_that_was_not_paused_keeps_its_slot,
    a_paused_schedule_fills_no_slot_and_is_run_by_hand,
    pruning_forgets_what_ended_before,
    listing_filters_and_orders,
    progress_is_seen_until_the_next_claim,
    many_jobs_keep_their_order,
    texts_come_back_as_they_were,
    a_key_is_held_in_the_states_of_its_rule,
    a_job_does_not_get_its_key_back_from_one_that_is_done,
    a_key_is_another_in_another_period,
    a_debounced_job_is_put_off_for_so_long_at_most,
    a_key_of_a_period_is_remembered_beyond_the_end_of_its_job,
    a_job_brings_its_own_limits,
    the_errors_of_the_last_tries_are_kept,
    what_a_job_brought_forth_is_kept,
    a_retry_of_a_due_job_keeps_its_place,
    a_change_may_begin_after_a_job,
    a_search_finds_a_job_that_has_replaced_an_old_one,
    many_jobs_are_cancelled_by_a_filter,
    many_jobs_are_retried_by_a_filter,
    many_jobs_are_deleted_by_a_filter,
    a_list_has_pages,
    a_page_begins_where_a_job_was_though_that_was_moved_or_deleted,
    a_search_looks_at_so_many_jobs_and_tells_where_to_go_on,
    a_text_with_a_zero_byte_is_in_no_job,
    a_search_always_gets_further,
    payloads_and_outputs_are_cut_on_request,
    jobs_are_counted_up_to_a_limit,
    a_queue_with_limits_gives_nothing_to_those_who_do_not_know,
    a_queue_has_a_limit_over_all_workers,
    each_key_has_a_limit_over_all_workers,
    a_rate_spreads_the_starts_of_a_queue_and_of_a_key,
    a_rate_counts_each_start_once,
    a_job_with_an_empty_key_does_not_stop_a_queue_with_rates,
    a_rate_is_kept_though_claims_are_late,
    a_rate_that_is_changed_applies_at_once,
    a_rate_goes_on_though_the_clock_was_set_back,
    the_slowest_rate_starts_one_job,
    many_workers_at_once_keep_a_limit,
    a_suspect_keeps_the_limits,
    priorities_age,
    a_job_that_its_limits_do_not_hold_back_is_not_asked_for_again,
    a_job_comes_after_others_are_done,
    a_job_is_cancelled_if_one_before_it_fails_and_so_are_those_after_it,
    a_chain_of_any_length_is_cancelled_with_its_first_job,
    a_callback_comes_after_all_ends,
    what_has_ended_before_is_not_waited_for,
    a_job_of_a_schedule_that_is_dropped_is_not_waited_for,
    a_job_cannot_come_after_itself,
    jobs_that_are_enqueued_together_do_not_wait_for_each_other,
    a_job_that_replaces_one_that_waits_waits_for_nothing,
    a_job_that_comes_after_others_replaces_none,
    workers_are_seen_while_they_live,
    a_claim_takes_only_jobs_of_its_queue_and_kinds_that_are_due,
    the_look_ahead_sees_only_pending_jobs_of_its_queue_and_time,
    the_next_suspect_is_the_first_one_that_may_run,
    a_call_for_one_job_changes_no_other,
    a_retry_begins_anew,
    only_a_run_that_fails_by_itself_clears_the_count_of_lost_workers,
    the_last_error_is_kept_when_a_job_is_done,
    a_replacement_leaves_other_keys_and_periods_alone,
    a_schedule_changes_no_job_of_another_one,
    the_limits_of_other_queues_and_keys_do_not_count,
    a_suspect_keeps_the_limits_of_its_key,
    the_end_of_a_job_changes_only_those_that_come_after_it,
    a_change_of_many_jobs_keeps_its_limit_and_its_order,
    a_search_returns_no_more_jobs_than_its_limit,
    the_jobs_of_each_state_are_counted,
    each_setting_of_a_job_is_stored_without_the_others,
    many_jobs_of_a_key_at_its_limit_hide_no_others,
    a_claim_is_asked_for_when_the_first_key_may_go_on,
    the_longest_times_do_not_overflow,
    a_lost_job_waits_longer_after_each_loss,
    a_queue_is_asked_again_when_its_own_rate_allows,
    the_jobs_of_a_key_start_by_priority,
    a_rate_is_not_forgotten_with_another_one,
    a_replacement_is_like_a_new_job,
    a_new_rate_shortens_no_wait_of_another_queue,
];

const T: fn(i64) -> Micros = |seconds| Micros(seconds * 1_000_000);

fn job(run_at: i64) -> NewJob {
    NewJob {
        kind: "test".to_owned(),
        queue: "default".to_owned(),
        payload: "{}".to_owned(),
        priority: Priority::Normal,
        run_at: T(run_at),
        created_at: T(0),
        attempts: None,
        timeout: None,
        limit_key: None,
        key: None,
        after: None,
    }
}

fn keyed(key: &str, on_duplicate: OnDuplicate, run_at: i64) -> NewJob {
    let key = UniqueKey {
        key: key.to_owned(),
        on_duplicate,
        within: UniqueWhile::Unfinished,
        until: None,
        max_wait: None,
    };
    NewJob {
        key: Some(key),
        ..job(run_at)
    }
}

async fn put(store: &Opened, job: NewJob) -> Enqueued {
    let enqueued = store.enqueue(vec![job]).await.expect("enqueued");
    enqueued[0]
}

fn request(worker: &str, limit: usize, now: i64) -> Claim {
    Claim {
        worker: worker.to_owned(),
        queue: "default".to_owned(),
        limit,
        now: T(now),
        lease_until: T(now + 30),
        kinds: ["test", "a", "b"].map(str::to_owned).to_vec(),
        from: [Micros::EARLIEST; 3],
        suspects: Suspects::Without(9),
        limited: false,
        ageing: None,
    }
}

async fn claim(store: &Opened, worker: &str, limit: usize, now: i64) -> Vec<Claimed> {
    let claim = request(worker, limit, now);
    store.claim(claim).await.expect("a claim").jobs
}

async fn claim_one(store: &Opened, now: i64) -> Lease {
    let claimed = claim(store, "w", 1, now).await;
    claimed[0].lease
}

async fn finish(store: &Opened, lease: Lease, at: i64, verdict: Verdict) -> bool {
    let at = T(at);
    let ended = Ended {
        lease,
        at,
        verdict,
        relaxed: false,
    };
    store.finish(ended).await.expect("an answer")
}

async fn state(store: &Opened, id: JobId) -> State {
    store
        .get(id)
        .await
        .expect("an answer")
        .expect("a job")
        .state
}

async fn cursor(store: &Opened, id: JobId) -> Cursor {
    let record = store.get(id).await.expect("an answer").expect("a job");
    record.cursor()
}

fn ids(claimed: &[Claimed]) -> Vec<JobId> {
    claimed.iter().map(|claimed| claimed.lease.id).collect()
}

async fn forget(store: &Opened, state: State, before: i64, limit: usize) -> usize {
    let old = Filter {
        state: Some(state),
        ended_before: Some(T(before)),
        limit,
        ..Filter::default()
    };
    let forgotten = store.change(Change::Delete, old, T(0)).await;
    forgotten.expect("deleted").len()
}
