//! What the errors of tasks say: each text once, also to a reporter that walks down the chain.

use std::error::Error;
use std::fmt;

use schedgroup::task::{OnError, TaskGroup};
use schedgroup::{TaskError, TaskErrors, flow};

use crate::common::bounded;

#[derive(Debug, thiserror::Error)]
#[error("no route")]
struct NoRoute(#[source] Unplugged);

#[derive(Debug, thiserror::Error)]
#[error("the cable is out")]
struct Unplugged;

fn no_route() -> NoRoute {
    NoRoute(Unplugged)
}

/// What a reporter prints.
fn report(error: &dyn Error) -> String {
    std::iter::successors(Some(error), |&error| error.source())
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(": ")
}

async fn errors<E: Send + 'static>(failures: impl IntoIterator<Item = E>) -> TaskErrors<E> {
    let group = TaskGroup::builder().on_error(OnError::Continue).build();
    for failure in failures {
        group.spawn(async { Err(failure) });
    }
    bounded(group.wait_all()).await.unwrap_err()
}

async fn error<E: Send + 'static>(failure: E) -> TaskError<E> {
    errors([failure]).await.into_iter().next().unwrap()
}

#[tokio::test]
async fn a_chain_tells_a_tasks_error_once_and_goes_on_with_its_source() {
    let error = error(no_route()).await;
    assert_eq!(error.to_string(), "task 0: no route");
    assert_eq!(report(&error), "task 0: no route: the cable is out");
    assert!(error.source().unwrap().is::<Unplugged>());
    assert!(matches!(error.error(), Some(NoRoute(Unplugged))));
}

#[tokio::test]
async fn a_chain_of_all_errors_tells_each_once() {
    let one = errors([no_route()]).await;
    assert_eq!(report(&one), "task 0: no route: the cable is out");
    let two = errors([no_route(), no_route()]).await;
    assert_eq!(
        report(&two),
        "2 errors: task 0: no route | task 1: no route"
    );
    let mut each = Vec::new();
    for error in &two {
        each.push(error.to_string());
    }
    assert_eq!(each, ["task 0: no route", "task 1: no route"]);
}

#[tokio::test]
async fn a_chain_tells_a_panic_once() {
    let group = TaskGroup::<NoRoute>::new();
    group.spawn(async { panic!("boom") });
    let error = bounded(group.wait()).await.unwrap_err();
    let report = report(&error);
    assert_eq!(report.matches("boom").count(), 1, "{report}");
    assert!(report.starts_with("task 0 spawned at "), "{report}");
}

#[tokio::test]
async fn an_error_that_is_only_a_text_is_told() {
    let error = error(String::from("no route")).await;
    assert_eq!(error.to_string(), "task 0: no route");
}

/// As `anyhow::Error` is: no `Error`, and its causes are shown with `{:#}`.
#[tokio::test]
async fn an_error_that_shows_its_causes_in_its_own_way_is_asked_to() {
    struct Any;
    impl fmt::Display for Any {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(if f.alternate() {
                "above: below"
            } else {
                "above"
            })
        }
    }
    let error = error(Any).await;
    assert_eq!(error.to_string(), "task 0: above");
    assert_eq!(format!("{error:#}"), "task 0: above: below");
    let errors = errors([Any, Any]).await;
    assert_eq!(
        format!("{errors:#}"),
        "2 errors: task 0: above: below | task 1: above: below"
    );
    let failing = || std::future::ready(Err::<(), _>(Any));
    let error = flow::race([failing()]).await.unwrap_err();
    let race = "too many tasks failed, the last was task 0: above";
    assert_eq!(error.to_string(), race);
    assert_eq!(format!("{error:#}"), format!("{race}: below"));
    let error = flow::retry(failing).attempts(1).await.unwrap_err();
    let retry = "gave up after 1 attempt: above";
    assert_eq!(error.to_string(), retry);
    assert_eq!(format!("{error:#}"), format!("{retry}: below"));
}
