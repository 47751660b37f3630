//! `github.com/facebookarchive/errgroup`, `errgroup_test.go`, Copyright (c) 2015 Facebook, BSD.
//!
//! Not here: `TestInvalidNilError` (an error is never nil), `TestInvalidZeroLengthMultiError` and
//! `TestInvalidOneLengthMultiError` (`TaskErrors` is made by `wait_all` only, and never empty; one error
//! prints as itself), the nil cases of `TestNewMultiError`.

use std::error::Error;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use crate::common::{bounded, continuing};

#[tokio::test]
async fn test_nada() {
    assert!(continuing::<()>().wait_all().await.is_ok());
}

#[tokio::test]
async fn test_one_error() {
    let group = continuing();
    let member = group.member();
    member.fail("1");
    drop(member);
    assert_eq!(group.wait_all().await.unwrap_err().to_string(), "task 0: 1");
}

#[tokio::test]
async fn test_two_errors() {
    let group = continuing();
    for error in ["1", "2"] {
        group.member().fail(error);
    }
    assert_eq!(
        group.wait_all().await.unwrap_err().to_string(),
        "2 errors: task 0: 1 | task 1: 2"
    );
}

#[tokio::test]
async fn test_add_done() {
    let (group, done) = (continuing::<()>(), Arc::new(AtomicUsize::new(0)));
    for _ in 0..10 {
        let (member, done) = (group.member(), done.clone());
        tokio::spawn(async move {
            tokio::task::yield_now().await;
            done.fetch_add(1, SeqCst);
            drop(member);
        });
    }
    bounded(group.wait()).await.unwrap();
    assert_eq!(done.load(SeqCst), 10);
}

#[tokio::test]
async fn test_new_multi_error() {
    let group = continuing();
    for outcome in [Ok(()), Err(1), Ok(()), Err(2)] {
        group.spawn(async move { outcome });
    }
    let errors = group.wait_all().await.unwrap_err();
    assert_eq!(errors.len(), 2);
    let list: Vec<_> = errors.iter().map(|e| e.index().unwrap()).collect();
    assert_eq!(list, [1, 3]);
}

/// F-FB1: the task's own error is had by its type, and the source chain goes on below it.
#[tokio::test]
async fn the_source_chain_reaches_the_error() {
    #[derive(Debug, thiserror::Error)]
    #[error("no settings")]
    struct NoSettings(#[from] io::Error);

    let group = continuing();
    group.spawn(async { Err(NoSettings(io::ErrorKind::NotFound.into())) });
    let errors = group.wait_all().await.unwrap_err();
    let own = errors
        .iter()
        .next()
        .and_then(|error| error.error())
        .unwrap();
    assert_eq!(own.0.kind(), io::ErrorKind::NotFound);
    let below = errors
        .source()
        .unwrap()
        .downcast_ref::<io::Error>()
        .unwrap();
    assert_eq!(below.kind(), io::ErrorKind::NotFound);
}

/// F-FB4: a member that is lost in a panic still counts down.
#[tokio::test]
async fn a_member_in_a_task_that_panics_is_done() {
    let group = continuing::<()>();
    let member = group.member();
    let task = tokio::spawn(async move {
        let _member = member;
        panic!("boom")
    });
    bounded(group.wait()).await.unwrap();
    assert!(task.await.is_err());
}
