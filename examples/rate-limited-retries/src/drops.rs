//! Destructors of users' values, which may panic.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// Drops the values one by one, and catches each panic of a destructor. If a collection dropped them, a second panic
/// would abort the process.
pub(crate) fn drop_each<T>(values: impl IntoIterator<Item = T>) {
    for value in values {
        if let Err(payload) = catch_unwind(AssertUnwindSafe(|| drop(value))) {
            // The panic hook has reported it. The payload is leaked, since its own destructor may panic.
            std::mem::forget(payload);
        }
    }
}
