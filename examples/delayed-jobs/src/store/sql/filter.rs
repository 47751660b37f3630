//! Statements for the jobs of a filter: they list, count and change them.

use super::super::StoreError;
use super::super::types::{Change, Filter, Search};
use super::text::{CANCEL_MANY, RETRY_MANY, holds_key};
use super::value::{Row, Value};
use crate::job::{Cursor, JobId, Priority, Record, State};
use crate::time::Micros;

pub(super) const COLUMNS: &str = "\
id, kind, queue, payload, priority, run_at, state, attempt, crashes, attempts, timeout, limit_key, key, worker, lease_until, progress, \
error, errors, output, after_jobs, created_at, started_at, finished_at";

pub(super) fn record(mut row: Row) -> Result<Record, StoreError> {
    let id = row.id()?;
    record_of(id, row).map_err(|error| error.of_job(id))
}

/// Reads the columns after the id.
fn record_of(id: JobId, mut row: Row) -> Result<Record, StoreError> {
    Ok(Record {
        id,
        kind: row.text()?,
        queue: row.text()?,
        payload: row.text()?,
        priority: Priority::from_rank(row.int()?),
        run_at: row.int().map(Micros)?,
        state: row.state()?,
        attempt: row.small()?,
        crashes: row.small()?,
        attempts: row.maybe_small()?,
        timeout: row.maybe_time()?,
        limit_key: row.maybe_text()?,
        key: row.maybe_text()?,
        worker: row.maybe_text()?,
        lease_until: row.maybe_int()?.map(Micros),
        progress: row
            .maybe_int()?
            .map(|percent| u8::try_from(percent).unwrap_or(0)),
        error: row.maybe_text()?,
        errors: row
            .maybe_text()?
            .and_then(|errors| serde_json::from_str(&errors).ok())
            .unwrap_or_default(),
        output: row.maybe_text()?,
        after: row
            .maybe_text()?
            .and_then(|after| serde_json::from_str(&after).ok())
            .unwrap_or_default(),
        created_at: row.int().map(Micros)?,
        started_at: row.maybe_int()?.map(Micros),
        finished_at: row.maybe_int()?.map(Micros),
    })
}

/// Returns the columns of a job, with payload and output cut if the filter asks for that, and adds the parameter for it.
fn columns(filter: &Filter, values: &mut Vec<Value>) -> String {
    let Some(longest) = filter.longest else {
        return COLUMNS.to_owned();
    };
    values.push(Value::from(longest.min(i32::MAX as usize) as i64));
    let n = values.len();
    let cut = |columns: &str, column: &str| {
        let cut =
            format!("/*sqlite substr({column}, 1, ${n}) *//*postgres left({column}, ${n}::int) */");
        columns.replace(&format!(" {column},"), &format!(" {cut},"))
    };
    cut(&cut(COLUMNS, "payload"), "output")
}

/// Returns whether the filter names jobs or a key, so that it matches few jobs.
fn is_of_few(filter: &Filter) -> bool {
    filter.key.is_some() || filter.id.is_some()
}

/// Returns a hint for SQLite, which without statistics would sort all pending jobs, or search all jobs for running
/// ones.
fn index(filter: &Filter, state: Option<State>) -> &'static str {
    match state {
        _ if is_of_few(filter) => "",
        Some(State::Pending) => " /*sqlite indexed by delayed_jobs_next */",
        Some(State::Running) => " /*sqlite indexed by delayed_jobs_running */",
        _ => "",
    }
}

/// A statement that is being built.
struct Builder {
    sql: String,
    values: Vec<Value>,
}

impl Builder {
    /// Adds a text, in which the parameter replaces `$`.
    fn push(&mut self, text: &str, value: impl Into<Value>) {
        self.values.push(value.into());
        self.sql += &text.replace('$', &format!("${}", self.values.len()));
    }

    /// Adds a condition with a text. Postgres rejects a text with a zero byte, which no job has.
    fn push_text(&mut self, condition: &str, text: &str) {
        match text.contains('\0') {
            true => self.sql += " and 1 = 0",
            false => self.push(condition, text),
        }
    }

    /// Adds the conditions of a filter for jobs of one state.
    fn conditions(&mut self, filter: &Filter, state: Option<State>) {
        self.sql += " where 1 = 1";
        if let Some(state) = state {
            // The state is a literal, since each partial index covers one state.
            self.sql += &format!(" and state = '{}'", state.word());
        }
        let has_ended =
            state.is_some_and(|state| !matches!(state, State::Pending | State::Running));
        if has_ended || filter.ended_before.is_some() {
            self.sql += " and finished_at is not null";
        }
        if let Some(id) = filter.id {
            self.push(" and id = $", id);
        }
        let texts = [
            (" and queue = $", &filter.queue),
            (" and kind = $", &filter.kind),
            (" and key = $", &filter.key),
        ];
        for (text, value) in texts {
            if let Some(value) = value {
                self.push_text(text, value);
            }
        }
        if let Some(before) = filter.ended_before {
            let ended = "/*sqlite max *//*postgres greatest */(finished_at, held_until)";
            self.push(&format!(" and {ended} < $"), before);
        }
        if let Some(Cursor { run_at, id }) = filter.after {
            match filter.state {
                Some(State::Pending) => {
                    self.push(" and (run_at + 0, id) > ($", run_at);
                    self.push(", $)", id);
                }
                _ => self.push(" and id < $", id),
            }
        }
    }

    fn limit(&mut self, most: usize) {
        let limit = i64::try_from(most).unwrap_or(i64::MAX);
        self.push(" limit $", limit);
    }
}

pub(super) fn list(filter: &Filter) -> (String, Vec<Value>) {
    let mut values = Vec::new();
    let columns = columns(filter, &mut values);
    let mut list = in_order(filter, &columns, values);
    list.limit(filter.limit);
    (list.sql, list.values)
}

/// Builds the statement for the jobs of a filter in the order of a list.
fn in_order(filter: &Filter, columns: &str, values: Vec<Value>) -> Builder {
    let index = index(filter, filter.state);
    let mut list = Builder {
        sql: format!("select {columns} from delayed_jobs{index}"),
        values,
    };
    list.conditions(filter, filter.state);
    list.sql += order(filter);
    list
}

fn order(filter: &Filter) -> &'static str {
    match filter.state {
        Some(State::Pending) => " order by run_at + 0, id",
        // An expression, so that the planner does not search backwards from the last job.
        Some(State::Running) => " order by id + 0 desc",
        _ => " order by id desc",
    }
}

/// Builds the statement that searches the first jobs of a list. Each row begins with the place of the last job that it looks
/// at if it reaches its limit, then has the id of a job that was found, and its columns. These are null in a single row if
/// none was found. Two statements would see different lists, and a search would skip the jobs by which they differ.
pub(super) fn search(search: &Search) -> (String, Vec<Value>) {
    let filter = &search.filter;
    let mut first = in_order(filter, COLUMNS, Vec::new());
    first.limit(search.most);
    let mut last = in_order(filter, "run_at as last_at, id as last_id", first.values);
    last.limit(1);
    last.push(
        " offset $",
        i64::try_from(search.most - 1).unwrap_or(i64::MAX),
    );
    let (first, last, mut values) = (first.sql, last.sql, last.values);
    let columns = columns(filter, &mut values);
    let mut found = Builder {
        sql: format!(
            "select last_at, last_id, found.id, found.* from (select 1) as one left join ({last}) as last_one on 1 = 1
            left join (select {columns} from ({first}) as first_ones where"
        ),
        values,
    };
    found.push(" created_at >= $", search.since);
    if !search.text.is_empty() {
        let within = "/*sqlite instr(substr *//*postgres strpos(left */";
        let from = "/*sqlite 1, */";
        let contains = format!(" and {within}(payload, {from}65536), $) > 0");
        found.push_text(&contains, &search.text);
    }
    found.sql += order(filter);
    found.limit(filter.limit);
    found.sql += ") as found on 1 = 1";
    found.sql += order(filter);
    (found.sql, found.values)
}

/// Builds the statement that counts jobs, up to the limit of the filter.
pub(super) fn count(filter: &Filter) -> (String, Vec<Value>) {
    let mut count = Builder {
        sql: "select count(*) from (select 1 from delayed_jobs".to_owned(),
        values: Vec::new(),
    };
    count.conditions(filter, filter.state);
    count.limit(filter.limit);
    count.sql += ") as counted";
    (count.sql, count.values)
}

/// Returns the states of the filter to which a change applies: those of each statement. A cancel is one statement,
/// since a job that fails between two of them would be in the state of neither.
pub(super) fn states(change: Change, filter: &Filter) -> Vec<Vec<State>> {
    let all: &[State] = match (change, filter.state) {
        (Change::Cancel, _) => &[State::Pending, State::Running],
        (Change::Retry, Some(State::Pending)) => &[State::Pending],
        (Change::Retry, _) => &[State::Dead, State::Cancelled],
        (Change::Delete, _) => &[State::Pending, State::Done, State::Dead, State::Cancelled],
    };
    let wanted = |state: &&State| filter.state.is_none_or(|wanted| wanted == **state);
    let states: Vec<_> = all.iter().filter(wanted).copied().collect();
    let together = if change == Change::Cancel { 2 } else { 1 };
    states.chunks(together).map(<[_]>::to_vec).collect()
}

/// Builds the statement that changes jobs of these states: pending jobs in the order in which they are due, others in
/// the order of their ids. A change must not match a job that it has changed already, or the lots of a change would
/// never end.
pub(super) fn change(
    change: Change,
    filter: &Filter,
    states: &[State],
    now: Micros,
) -> (String, Vec<Value>) {
    let (mut sql, values) = match change {
        Change::Cancel => (CANCEL_MANY.to_owned(), vec![Value::from(now)]),
        Change::Retry => (RETRY_MANY.to_owned(), vec![Value::from(now)]),
        Change::Delete => ("delete from delayed_jobs where ".to_owned(), Vec::new()),
    };
    if change == Change::Cancel {
        // Jobs that are claimed or renewed at this moment, or fail, must not escape: Postgres waits for them, and tests
        // this again.
        let words: Vec<_> = states.iter().map(|state| state.word()).collect();
        sql += &format!("/*postgres state in ('{}') and */", words.join("', '"));
    }
    // Postgres gets an array, since it might read the jobs again for each row otherwise.
    sql += "id /*sqlite in ( *//*postgres = any (array( */";
    let mut sql = Builder { sql, values };
    for (at, state) in states.iter().enumerate() {
        sql.sql += if at == 0 { "" } else { " union all " };
        sql.sql += "select id from (";
        sql.first_of(change, filter, *state);
        sql.sql += &format!(") as {}_ones", state.word());
    }
    sql.limit(filter.limit);
    sql.sql += "/*postgres ) */) returning id";
    if change != Change::Delete {
        sql.sql += " /*tell */";
    }
    (sql.sql, sql.values)
}

impl Builder {
    /// Selects the first jobs of one state to which a change applies.
    fn first_of(&mut self, change: Change, filter: &Filter, state: State) {
        let index = index(filter, Some(state));
        self.sql += &format!("select id from delayed_jobs as jobs{index}");
        self.conditions(filter, Some(state));
        self.sql += match (change, state) {
            (Change::Cancel, State::Running) => " and cancel = 0",
            (Change::Retry, State::Pending) => " and run_at > $1",
            // Of several jobs with one key only the last, and only if no other job holds the key.
            (Change::Retry, _) => concat!(
                " and (key is null or holds = 0 or not exists (
                select 1 from delayed_jobs as other
                where other.key = jobs.key and other.held_until = jobs.held_until and other.id <> jobs.id and other.holds <> 0
                    and (other.id > jobs.id or ",
                // In the innermost query these are the columns of `other`.
                holds_key!(),
                ")
            ))"
            ),
            _ => "",
        };
        self.sql += match filter.ended_before {
            // In the order of the index, the job that ended first comes first.
            Some(_) => " order by /*sqlite max *//*postgres greatest */(finished_at, held_until)",
            None => match state {
                State::Pending if !is_of_few(filter) => " order by run_at + 0, id",
                State::Running => " order by id + 0",
                _ => " order by id",
            },
        };
        self.limit(filter.limit);
        if change != Change::Cancel {
            // Others that lock an ended job change it themselves, and a pending job that is being claimed is about to
            // run.
            self.sql += " /*postgres for update skip locked */";
        }
    }
}

/// Returns the statements of filters that workers and pages run often. A test checks their plans.
#[cfg(test)]
pub(super) fn all() -> Vec<String> {
    let of = |state, key: bool, page: bool| Filter {
        state,
        key: key.then(|| "k".to_owned()),
        after: page.then_some(Cursor {
            run_at: Micros(1),
            id: JobId(1),
        }),
        ..Filter::default()
    };
    let mut all = Vec::new();
    for state in State::ALL {
        all.push(list(&of(Some(state), false, false)).0);
        all.push(list(&of(Some(state), false, true)).0);
        for of in [of(None, false, false), of(None, true, false)] {
            for kind in [Change::Cancel, Change::Retry, Change::Delete] {
                for states in states(kind, &of).iter().filter(|of| of[0] == state) {
                    all.push(change(kind, &of, states, Micros(0)).0);
                }
            }
        }
        let old = Filter {
            ended_before: Some(Micros(0)),
            ..Filter::default()
        };
        if !matches!(state, State::Pending | State::Running) {
            all.push(change(Change::Delete, &old, &[state], Micros(0)).0);
        }
    }
    all.push(list(&of(None, false, false)).0);
    all.push(list(&of(None, true, false)).0);
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Statements are kept, so they must not be another one for each value.
    #[test]
    fn a_statement_is_the_same_for_all_lengths_and_limits() {
        let sql = |longest, limit| {
            let filter = Filter {
                longest: Some(longest),
                limit,
                ..Filter::default()
            };
            let search = Search {
                filter: filter.clone(),
                text: "x".to_owned(),
                since: Micros(0),
                most: limit,
            };
            (list(&filter).0, super::search(&search).0)
        };
        assert_eq!(sql(1, 2), sql(200, 300));
    }
}
