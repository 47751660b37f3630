//! Ends of jobs: those that arrive while a statement is under way are combined into the next one.

use std::collections::HashSet;
use std::sync::LazyLock;
use std::time::Duration;

use super::super::StoreError;
use super::super::sql::{FINISH, Purpose, Row, Value};
use super::batch::{Combine, columns, lists};
use super::pool::Pool;

/// If another transaction locks a job for longer than this, the ends of the other jobs of the statement are written
/// without it.
const LONGEST_LOCK: &str = "1s";

pub(super) struct End {
    /// The parameters of [`FINISH`].
    pub(super) values: Vec<Value>,
    pub(super) purpose: Purpose,
    pub(super) soon: bool,
}

/// The id of a job, and the number of the claim: the same job may occur twice, with an old claim and with a new one.
type Claim = (Option<i64>, Option<i64>);

impl End {
    fn claim(&self) -> Claim {
        let value = |at: usize| as_int(self.values.get(at).cloned());
        (value(0), value(1))
    }
}

impl Combine for End {
    /// Whether the claim was valid.
    type Answer = bool;

    const MOST: usize = 512;

    const LINGER: Option<Duration> = Some(Duration::from_millis(1));

    async fn run(pool: &Pool, ends: &[&End]) -> Result<Vec<bool>, StoreError> {
        static SQL: LazyLock<[String; 2]> = LazyLock::new(|| [false, true].map(statement));
        let soon = ends.iter().any(|end| end.soon);
        let purpose = Purpose::of_all(ends.iter().map(|end| end.purpose));
        let values = ends.iter().map(|end| end.values.clone()).collect();
        let arguments = columns(values, COLUMNS.map(|(_, is_text)| is_text).into_iter())?;
        let rows = pool
            .query(purpose, &SQL[usize::from(soon)], arguments)
            .await?;
        let claim = |mut row: Row| (as_int(row.0.next()), as_int(row.0.next()));
        let written: HashSet<Claim> = rows.into_iter().map(claim).collect();
        let is_written = |end: &&End| written.contains(&end.claim());
        Ok(ends.iter().map(is_written).collect())
    }
}

fn as_int(value: Option<Value>) -> Option<i64> {
    match value {
        Some(Value::Int(value)) => value,
        _ => None,
    }
}

/// The names of the parameters of [`FINISH`], each with whether it is a text.
const COLUMNS: [(&str, bool); 8] = [
    ("e_id", false),
    ("e_claim", false),
    ("e_state", true),
    ("e_at", false),
    ("e_error", true),
    ("e_back", false),
    ("e_end", false),
    ("e_output", true),
];

/// Returns [`FINISH`] for many jobs. Other workers are notified if one of them is due again `soon`. Rows are locked in the
/// order of their ids, as by a renewal, so that the two cannot deadlock. Each end is joined to its row only once, since a
/// planner that does not know their number would otherwise compare every end with every row.
fn statement(soon: bool) -> String {
    let mut one = FINISH.to_owned();
    for (number, (name, _)) in (1..).zip(COLUMNS) {
        one = one.replace(&format!("${number}"), name);
    }
    let set = one
        .split_once("where id = e_id")
        .map_or(one.as_str(), |(set, _)| set);
    let names = COLUMNS.map(|(name, _)| name).join(", ");
    let lists = lists(COLUMNS.into_iter());
    let tell = if soon { " /*tell */" } else { "" };
    format!(
        "with held as materialized (
            select ends.* from unnest({lists}) as ends({names})
            join delayed_jobs as jobs on jobs.id = e_id and jobs.claim = e_claim
            where jobs.state = 'running' and (select set_config('lock_timeout', '{LONGEST_LOCK}', true)) is not null
            order by jobs.id for update of jobs
        )
        {set}
        from held
        where delayed_jobs.id = e_id and delayed_jobs.claim = e_claim /*relax and */
        returning delayed_jobs.id, delayed_jobs.claim{tell}"
    )
}
