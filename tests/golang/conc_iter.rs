//! `github.com/sourcegraph/conc`, `iter/iter_test.go` and `iter/map_test.go`, Copyright (c) 2023
//! Sourcegraph, MIT.
//!
//! Not here: "mutating inputs is fine" (items are handed in by value and come back as values), reuse of
//! an `Iterator` (`f` is a value).

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use schedgroup::TaskError;
use schedgroup::flow;

use crate::common::{Meter, bounded};

mod for_each {
    use super::*;

    #[tokio::test]
    async fn empty() {
        let none: [u8; 0] = [];
        flow::for_each(none, |_| async { unreachable!() })
            .await
            .unwrap();
    }

    #[tokio::test]
    async fn panic_is_propagated() {
        let outcome = flow::for_each([1], |_| async { panic!("super bad thing") }).await;
        assert!(
            matches!(&outcome, Err(TaskError::Panicked(panic)) if panic.index() == 0 && panic.message() == "super bad thing"),
            "{outcome:?}"
        );
    }

    #[tokio::test]
    async fn huge_inputs() {
        let sum = Arc::new(AtomicUsize::new(0));
        let added = Arc::clone(&sum);
        flow::for_each(0..10_000, move |n| {
            let sum = Arc::clone(&sum);
            async move {
                sum.fetch_add(n, SeqCst);
            }
        })
        .await
        .unwrap();
        assert_eq!(added.load(SeqCst), 10_000 * 9_999 / 2);
    }

    #[tokio::test]
    async fn index_by_enumerate() {
        let seen = Arc::new(std::sync::Mutex::new(Vec::new()));
        let list = Arc::clone(&seen);
        flow::for_each(["a", "b", "c"].into_iter().enumerate(), move |pair| {
            let list = Arc::clone(&list);
            async move { list.lock().unwrap().push(pair) }
        })
        .limit(1)
        .await
        .unwrap();
        assert_eq!(*seen.lock().unwrap(), [(0, "a"), (1, "b"), (2, "c")]);
    }
}

mod map {
    use super::*;

    #[tokio::test]
    async fn empty() {
        let none: [u8; 0] = [];
        let values = flow::map(none, |n| async move { n }).await.unwrap();
        assert_eq!(values, []);
    }

    #[tokio::test]
    async fn panic_is_propagated() {
        let outcome = flow::map([1, 2], |n| async move {
            if n == 2 {
                panic!("super bad thing");
            }
            n
        });
        let outcome = outcome.await;
        assert!(
            matches!(&outcome, Err(TaskError::Panicked(panic)) if panic.index() == 1),
            "{outcome:?}"
        );
    }

    #[tokio::test]
    async fn basic_increment() {
        let values = flow::map(1..=5, |n| async move { n + 1 }).await.unwrap();
        assert_eq!(values, [2, 3, 4, 5, 6]);
    }

    #[tokio::test]
    async fn huge_inputs() {
        let values = flow::map(0..10_000, |n| async move { n + 1 })
            .await
            .unwrap();
        assert!(values.into_iter().eq(1..=10_000));
    }
}

/// So many as the machine has processors, however many items there are, or as the limit says.
#[tokio::test]
async fn the_default_limit_is_the_number_of_processors() {
    let processors = std::thread::available_parallelism().unwrap().get();
    for (limit, most) in [
        (None, processors.min(300)),
        (Some(7), 7),
        (Some(1_000), 300),
    ] {
        let meter = Meter::default();
        let running = meter.clone();
        let map = flow::map(0..300, move |_| running.clone().run());
        let map = match limit {
            Some(limit) => map.limit(limit),
            None => map,
        };
        bounded(map).await.unwrap();
        assert_eq!((meter.all(), meter.most()), (300, most));
    }
}

/// `MapErr`: the function can fail, so it is `all` or `try_all` over the mapped items.
mod map_err {
    use super::*;

    async fn odd(n: u32) -> Result<u32, String> {
        if n % 2 == 0 {
            return Err(format!("{n} is even"));
        }
        Ok(n)
    }

    #[tokio::test]
    async fn empty() {
        assert!(flow::all((0..0).map(odd)).await.is_empty());
    }

    #[tokio::test]
    async fn errors_are_joined_and_values_kept() {
        let ends = flow::all((1..=4).map(odd)).limit(2).await;
        let ends: Vec<_> = ends.into_iter().map(Result::unwrap).collect();
        let even = |n: u32| Err(format!("{n} is even"));
        assert_eq!(ends, [Ok(1), even(2), Ok(3), even(4)]);
    }

    #[tokio::test]
    async fn the_first_error_alone() {
        let error = flow::try_all((1..=4).map(odd)).limit(1).await.unwrap_err();
        assert_eq!(error.to_string(), "task 1: 2 is even");
    }

    #[tokio::test]
    async fn panic_is_propagated() {
        let ends = flow::all((0..2).map(|n| async move {
            if n == 0 {
                panic!("super bad thing");
            }
            odd(n).await
        }));
        let ends = ends.await;
        assert!(
            matches!(&ends[..], [Err(TaskError::Panicked(panic)), Ok(Ok(1))] if panic.index() == 0),
            "{ends:?}"
        );
    }
}
