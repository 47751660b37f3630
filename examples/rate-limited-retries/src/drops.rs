//! Destructors of users' values, which may panic.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// Drops the values one by one, whatever their destructors do: in one collection a second panic would end the
/// process.
pub(crate) fn drop_each<T>(values: impl IntoIterator<Item = T>) {
    for value in values {
        if let Err(payload) = catch_unwind(AssertUnwindSafe(|| drop(value))) {
            // The panic hook has reported it. What it carries may panic in its own destructor, and is leaked.
            std::mem::forget(payload);
        }
    }
}
