//! A stream of results beside the streams of other crates.
#![forbid(unsafe_code)]

use std::future::ready;

use futures_util::{StreamExt, TryStreamExt};
use schedgroup::flow;

/// With what the crates futures and tokio-stream have for streams.
#[tokio::test]
async fn a_stream_is_a_stream_of_the_crate_futures() {
    let tasks = (0..100).map(|n| async move { n });
    let sum = flow::stream(tasks)
        .limit(8)
        .unordered()
        .try_fold(0, |sum, n| ready(Ok(sum + n)));
    assert_eq!(sum.await.unwrap(), 4950);
    let evens = flow::stream((0..5).map(|n| async move { n }))
        .filter(|end| ready(matches!(end, Ok(n) if n % 2 == 0)))
        .count();
    assert_eq!(evens.await, 3);
}
