//! Single verbs of a group, on a runtime of one thread whose clock stands still.

use std::time::Duration;

use divan::Bencher;
use schedgroup::{Group, JobHandle};
use tokio::runtime::{Builder, Runtime};
use tokio::time::Instant;

const HOUR: Duration = Duration::from_secs(3600);

/// A group that holds this many jobs, an hour away.
fn group(pending: usize) -> (Runtime, Group, Vec<JobHandle>) {
    let mut builder = Builder::new_current_thread();
    let runtime = builder.enable_all().start_paused(true).build();
    let runtime = runtime.expect("a runtime");
    let group = runtime.block_on(async { Group::new() });
    let handles = (0..pending).map(|_| group.delay(HOUR, async {})).collect();
    // The driver takes them in.
    runtime.block_on(tokio::task::yield_now());
    (runtime, group, handles)
}

#[divan::bench]
fn schedule_and_cancel(bencher: Bencher<'_, '_>) {
    let (runtime, group, _) = group(0);
    let _entered = runtime.enter();
    let at = Instant::now() + HOUR;
    // Before each sample the driver takes in what the last one has left.
    let bencher = bencher.with_inputs(|| runtime.block_on(tokio::task::yield_now()));
    bencher.bench_local_values(|()| group.schedule(at, async {}).cancel());
}

#[divan::bench(args = [1, 100_000])]
fn move_later(bencher: Bencher<'_, '_>, pending: usize) {
    let (runtime, _group, handles) = group(pending);
    let _entered = runtime.enter();
    let (mut at, mut next) = (Instant::now() + HOUR, handles.iter().cycle());
    bencher.bench_local(|| {
        at += Duration::from_nanos(1);
        next.next().expect("a cycle").reset_at(at)
    });
}

#[divan::bench]
fn clone_and_drop_a_handle(bencher: Bencher<'_, '_>) {
    let (_runtime, _group, handles) = group(1);
    bencher.bench_local(|| handles[0].clone());
}

#[divan::bench]
fn ask_for_the_state(bencher: Bencher<'_, '_>) {
    let (_runtime, _group, handles) = group(1);
    bencher.bench_local(|| handles[0].state());
}

#[divan::bench]
fn run_one_job(bencher: Bencher<'_, '_>) {
    let (runtime, group, _) = group(0);
    bencher.bench_local(|| {
        runtime.block_on(async {
            let ran = group.spawn_after(Duration::ZERO, async {});
            ran.await.expect("it runs");
        });
    });
}

#[divan::bench]
fn make_a_group_and_wait(bencher: Bencher<'_, '_>) {
    let (runtime, _group, _) = group(0);
    bencher.bench_local(|| runtime.block_on(async { Group::new().wait().await }));
}
