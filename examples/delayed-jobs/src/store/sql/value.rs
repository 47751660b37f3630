//! Parameters and results of statements.

use std::time::Duration;
use std::vec;

use super::super::StoreError;
use super::super::types::Lease;
use crate::job::{JobId, State};
use crate::time::Micros;

/// A parameter, or a cell of a result.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::store) enum Value {
    Int(Option<i64>),
    Text(Option<String>),
}

impl From<i64> for Value {
    fn from(value: i64) -> Value {
        Value::Int(Some(value))
    }
}

impl From<&str> for Value {
    fn from(value: &str) -> Value {
        Value::Text(Some(value.to_owned()))
    }
}

impl From<String> for Value {
    fn from(value: String) -> Value {
        Value::Text(Some(value))
    }
}

impl From<Micros> for Value {
    fn from(value: Micros) -> Value {
        Value::Int(Some(value.0))
    }
}

impl From<JobId> for Value {
    fn from(value: JobId) -> Value {
        Value::Int(Some(value.0))
    }
}

impl From<Option<i64>> for Value {
    fn from(value: Option<i64>) -> Value {
        Value::Int(value)
    }
}

impl From<Option<Micros>> for Value {
    fn from(value: Option<Micros>) -> Value {
        Value::Int(value.map(|value| value.0))
    }
}

impl From<Option<&str>> for Value {
    fn from(value: Option<&str>) -> Value {
        Value::Text(value.map(str::to_owned))
    }
}

impl From<Option<String>> for Value {
    fn from(value: Option<String>) -> Value {
        Value::Text(value)
    }
}

impl From<&[String]> for Value {
    /// A list of texts is one parameter, in JSON.
    fn from(value: &[String]) -> Value {
        Value::from(serde_json::Value::from(value).to_string())
    }
}

/// Creates the parameters of a statement, from left to right.
macro_rules! values {
    ($($value:expr),* $(,)?) => { vec![$(Value::from($value)),*] };
}
pub(super) use values;

/// A row of a result, which is read from left to right.
pub(in crate::store) struct Row(pub(in crate::store) vec::IntoIter<Value>);

impl Row {
    pub(in crate::store) fn int(&mut self) -> Result<i64, StoreError> {
        self.maybe_int()?.ok_or_else(|| wrong("a number", None))
    }

    pub(super) fn maybe_int(&mut self) -> Result<Option<i64>, StoreError> {
        match self.0.next() {
            Some(Value::Int(value)) => Ok(value),
            Some(Value::Text(text)) => Ok(text.as_deref().map(number)),
            other => Err(wrong("a number", other)),
        }
    }

    pub(super) fn text(&mut self) -> Result<String, StoreError> {
        self.maybe_text()?.ok_or_else(|| wrong("a text", None))
    }

    pub(super) fn maybe_text(&mut self) -> Result<Option<String>, StoreError> {
        match self.0.next() {
            Some(Value::Text(value)) => Ok(value),
            Some(Value::Int(None)) => Ok(None),
            other => Err(wrong("a text", other)),
        }
    }

    pub(super) fn state(&mut self) -> Result<State, StoreError> {
        let word = self.text()?;
        word.parse().map_err(|_| StoreError::Row {
            job: None,
            wanted: "a state",
            found: format!("`{word}`"),
        })
    }

    pub(super) fn id(&mut self) -> Result<JobId, StoreError> {
        self.int().map(JobId)
    }

    pub(super) fn lease(&mut self) -> Result<Lease, StoreError> {
        Ok(Lease {
            id: self.id()?,
            claim: self.int()?,
        })
    }

    pub(super) fn count(&mut self) -> Result<u64, StoreError> {
        self.int().map(|count| u64::try_from(count).unwrap_or(0))
    }

    pub(super) fn maybe_small(&mut self) -> Result<Option<u32>, StoreError> {
        let count = self.maybe_int()?;
        Ok(count.map(|count| u32::try_from(count).unwrap_or(u32::MAX)))
    }

    pub(super) fn maybe_time(&mut self) -> Result<Option<Duration>, StoreError> {
        let micros = self.maybe_int()?;
        Ok(micros.map(|micros| Duration::from_micros(u64::try_from(micros).unwrap_or(0))))
    }

    pub(super) fn small(&mut self) -> Result<u32, StoreError> {
        self.int().map(|count| u32::try_from(count).unwrap_or(0))
    }
}

/// Reads the number that a text begins with, or zero, as SQLite does where it needs a number: in its columns of numbers other
/// programs may store texts. An error would keep the other jobs of a claim from running.
fn number(text: &str) -> i64 {
    let text = text.trim_start();
    let is_part = |(at, c): (usize, char)| c.is_ascii_digit() || at == 0 && (c == '-' || c == '+');
    let end = text.char_indices().find(|at| !is_part(*at));
    let digits = &text[..end.map_or(text.len(), |(at, _)| at)];
    digits.parse().unwrap_or(0)
}

fn wrong(wanted: &'static str, found: Option<Value>) -> StoreError {
    let found = found.map_or("nothing".to_owned(), |value| format!("{value:?}"));
    let job = None;
    StoreError::Row { job, wanted, found }
}

#[cfg(test)]
mod tests {
    use super::number;

    #[test]
    fn a_text_for_a_number_is_the_number_that_it_begins_with() {
        for (text, wanted) in [
            ("30s", 30),
            ("  -5.7", -5),
            ("+7", 7),
            ("3-4", 3),
            ("3+4", 3),
            ("-", 0),
            ("--5", 0),
            ("", 0),
            ("many", 0),
            ("x5", 0),
            ("99999999999999999999", 0),
        ] {
            assert_eq!(number(text), wanted, "`{text}`");
        }
    }
}
