//! What a name of a database means. Nothing that is not understood is taken for a file.

use std::path::PathBuf;

use super::StoreError;

/// A database, before it is opened.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Address {
    /// A SQLite file, and whether it may be created.
    Sqlite { path: PathBuf, create: bool },
    /// A URL of Postgres.
    Postgres(String),
}

impl Address {
    /// What was asked for may hold a secret, so no error repeats it.
    pub(crate) fn parse(text: &str) -> Result<Address, StoreError> {
        let refuse = |why: &'static str| Err(StoreError::Address(why));
        if text.is_empty() {
            return refuse("the name of the database is empty");
        }
        if text.contains('\0') {
            return refuse("the name of the database holds a zero byte");
        }
        let (scheme, rest) = match text.split_once(':') {
            Some((scheme, rest)) if is_scheme(scheme) => (scheme.to_ascii_lowercase(), rest),
            _ => (String::new(), text),
        };
        match scheme.as_str() {
            "postgres" | "postgresql" => match rest.strip_prefix("//") {
                Some(rest) => Ok(Address::Postgres(format!("postgres://{rest}"))),
                None => refuse("a URL of Postgres begins with postgres://"),
            },
            "sqlite" => sqlite(rest.strip_prefix("//").unwrap_or(rest)),
            "file" => refuse("a file is named by its path, or as sqlite:path, not as file:path"),
            "" if [":memory:", "::memory:"].contains(&text) => refuse(IN_MEMORY),
            "" if is_key_value(text) => {
                refuse("settings like host=... are not read: write postgres://user@host/name")
            }
            "" => Ok(Address::Sqlite {
                path: text.into(),
                create: true,
            }),
            _ => refuse("this is no database that is known here: write a path, or postgres://..."),
        }
    }
}

const IN_MEMORY: &str =
    "a database in memory is lost with the program: name a file; for tests there is the testkit";

/// Two letters at least, so that `C:` is a drive.
fn is_scheme(word: &str) -> bool {
    word.len() > 1 && word.chars().all(|c| c.is_ascii_alphanumeric() || c == '+')
}

/// The form of libpq. Such a name, taken for a file, would leave a password in the folder.
fn is_key_value(text: &str) -> bool {
    let keys = ["host", "hostaddr", "port", "dbname", "user", "password"];
    text.split_whitespace()
        .filter_map(|word| word.split_once('='))
        .any(|(key, _)| keys.contains(&key.to_ascii_lowercase().as_str()))
}

/// `path` or `path?mode=rw`, as sqlx and others write it.
fn sqlite(text: &str) -> Result<Address, StoreError> {
    let (path, query) = text.split_once('?').unwrap_or((text, ""));
    let mut create = true;
    for setting in query.split('&').filter(|setting| !setting.is_empty()) {
        match setting {
            "mode=rwc" => create = true,
            "mode=rw" => create = false,
            "mode=ro" => return Err(StoreError::Address("a store cannot be read-only")),
            "mode=memory" => return Err(StoreError::Address(IN_MEMORY)),
            _ => {
                return Err(StoreError::Address(
                    "of a SQLite URL's settings only mode=rwc and mode=rw are known",
                ));
            }
        }
    }
    match path {
        "" => Err(StoreError::Address("the name of the SQLite file is empty")),
        ":memory:" => Err(StoreError::Address(IN_MEMORY)),
        path => Ok(Address::Sqlite {
            path: path.into(),
            create,
        }),
    }
}
