//! `github.com/sourcegraph/conc`, `waitgroup_test.go`, `panics/panics_test.go` and `panics/try_test.go`,
//! Copyright (c) 2023 Sourcegraph, MIT.
//!
//! Not here: the nil cases of `Recovered` (there is a panic or there is none).

use std::panic::{AssertUnwindSafe, catch_unwind, panic_any};

use schedgroup::TaskError;
use schedgroup::task::TaskGroup;

use crate::common::{Meter, bounded, continuing};

fn group() -> TaskGroup {
    continuing()
}

/// The message of the first panic in time.
async fn first(group: TaskGroup) -> Option<String> {
    match bounded(group.wait()).await {
        Ok(_) => None,
        Err(TaskError::Panicked(panic)) => Some(panic.message().to_owned()),
        Err(other) => panic!("{other:?}"),
    }
}

mod waitgroup_test {
    use super::*;

    #[tokio::test]
    async fn all_spawned_run() {
        let (group, meter) = (group(), Meter::default());
        for _ in 0..100 {
            let meter = meter.clone();
            group.spawn(async move {
                meter.run().await;
            });
        }
        assert_eq!(first(group).await, None);
        assert_eq!(meter.all(), 100);
    }

    #[tokio::test]
    async fn panic_is_propagated() {
        let group = group();
        group.spawn(async { panic!("super bad thing") });
        let Err(TaskError::Panicked(panic)) = group.wait().await else {
            panic!("expected a panic as a value");
        };
        let again = catch_unwind(AssertUnwindSafe(|| panic.resume())).unwrap_err();
        assert_eq!(again.downcast_ref(), Some(&"super bad thing"));
    }

    #[tokio::test]
    async fn one_panic_of_two_is_propagated() {
        let group = group();
        group.spawn(async { panic!("super bad thing") });
        group.spawn(async { panic!("super badder thing") });
        assert_eq!(first(group).await.as_deref(), Some("super bad thing"));
    }

    #[tokio::test]
    async fn tasks_that_do_not_panic_run_and_hide_no_panic() {
        let (group, meter) = (group(), Meter::default());
        for n in 0..10 {
            let meter = meter.clone();
            group.spawn(async move {
                if n == 4 {
                    panic!("super bad thing");
                }
                meter.run().await;
            });
        }
        assert_eq!(first(group).await.as_deref(), Some("super bad thing"));
        assert_eq!(meter.all(), 9);
    }
}

mod panics_test {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("an error of its own")]
    struct Own;

    #[tokio::test]
    async fn a_payload_that_is_an_error_is_kept() {
        let group = group();
        group.spawn(async { panic_any(Own) });
        let Err(TaskError::Panicked(panic)) = group.wait().await else {
            panic!("expected a panic as a value");
        };
        assert!(panic.into_payload().is::<Own>());
    }

    #[tokio::test]
    async fn a_payload_that_is_no_error_is_kept() {
        let group = group();
        group.spawn(async { panic_any(7_u64) });
        let Err(TaskError::Panicked(panic)) = group.wait().await else {
            panic!("expected a panic as a value");
        };
        assert_eq!(panic.into_payload().downcast_ref(), Some(&7_u64));
    }

    #[tokio::test]
    async fn of_fifty_the_first_wins() {
        let group = group();
        for n in 0..50 {
            group.spawn(async move { panic!("{n}") });
        }
        assert_eq!(first(group).await.as_deref(), Some("0"));
    }

    /// A panic is an error: it has a text, which is the task's error's too, and is had by its type.
    #[tokio::test]
    async fn recovered_as_error() {
        use std::error::Error;
        let group = group();
        group.spawn(async { panic!("boom") });
        let error = group.wait().await.unwrap_err();
        assert!(error.to_string().ends_with("panicked: boom"), "{error}");
        let TaskError::Panicked(panic) = &error else {
            panic!("{error:?}");
        };
        let panic: &dyn Error = panic;
        assert!(panic.to_string().ends_with("panicked: boom"), "{panic}");
        assert!(error.source().is_none(), "the text is told already");
    }
}

mod try_test {
    use super::*;

    #[tokio::test]
    async fn panics_and_no_panic() {
        let ends = schedgroup::flow::all([true, false].map(|panics| async move {
            if panics {
                panic!("boom");
            }
            7
        }))
        .await;
        assert!(
            matches!(&ends[..], [Err(TaskError::Panicked(panic)), Ok(7)] if panic.index() == 0),
            "{ends:?}"
        );
    }
}
