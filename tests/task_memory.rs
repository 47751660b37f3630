//! What a task of a group costs, in exact allocations of a counting allocator.
#![deny(unsafe_code)]

mod counting;

use std::sync::atomic::{AtomicI64, Ordering::SeqCst};

use schedgroup::flow;
use schedgroup::task::TaskGroup;

use counting::{allocations, live};

const TASKS: u64 = 100_000;

/// The allocator is one for the whole program, so everything is measured in one test.
#[tokio::test]
async fn what_a_task_of_a_group_costs() {
    // The queue of the runtime keeps the room that a burst has needed, so it has one before.
    let burst: Vec<_> = (0..TASKS).map(|_| tokio::spawn(async {})).collect();
    for task in burst {
        task.await.unwrap();
    }
    let before = live();
    {
        let group = TaskGroup::<()>::builder().limit(1).build();
        let start = allocations();
        for n in 0..TASKS {
            group.spawn(async move {
                std::hint::black_box(n);
                Ok(())
            });
        }
        // A box each, and the nodes of the line, six tasks or more in each.
        let parked = allocations() - start;
        assert!(
            (TASKS..=TASKS + TASKS / 6 + 32).contains(&parked),
            "{parked} allocations to park {TASKS}"
        );
        group.wait().await.unwrap();
        let all = allocations() - start;
        assert!(
            (2 * TASKS..=2 * TASKS + TASKS / 6 + 64).contains(&all),
            "{all} allocations for {TASKS}"
        );
    }
    {
        let group = TaskGroup::<()>::new();
        let start = allocations();
        for _ in 0..TASKS {
            group.spawn(async { Ok(()) });
            tokio::task::yield_now().await;
        }
        group.wait().await.unwrap();
        let all = allocations() - start;
        assert!(
            (TASKS..=TASKS + 32).contains(&all),
            "{all} allocations for {TASKS} unparked"
        );
    }
    {
        // A task; what its ends and the results are kept in grows by doubling.
        let start = allocations();
        let tasks = (0..TASKS).map(|n| async move { n });
        assert_eq!(flow::all(tasks).limit(16).await.len() as u64, TASKS);
        let all = allocations() - start;
        assert!(
            (TASKS..=TASKS + 64).contains(&all),
            "{all} allocations for {TASKS} in a flow"
        );
    }
    {
        // Never more at once than may run, so the peak is that of 16 tasks, whatever their number.
        let (start, most) = (live(), AtomicI64::new(0));
        let room = |_| {
            most.fetch_max(live(), SeqCst);
            async move { std::hint::black_box([0_u8; 1024]).len() }
        };
        let each = flow::all((0..TASKS).map(room)).limit(16);
        assert_eq!(each.await.len() as u64, TASKS);
        let most = most.load(SeqCst) - start;
        let results = TASKS as i64 * 2 * 48;
        assert!(most < results + 200 * 1024, "{most} bytes at most");
    }
    {
        // A large task is stored once. (An async block keeps what it captured beside what it awaits.)
        const LARGE: usize = 10_000;
        let group = TaskGroup::<()>::new();
        let (start, state) = (live(), [0_u8; LARGE]);
        group.spawn(async move {
            std::future::pending::<()>().await;
            std::hint::black_box(&state);
            Ok(())
        });
        let live = live() - start;
        assert!(live < LARGE as i64 * 3 / 2, "{live} bytes for a large task");
    }
    {
        let group = TaskGroup::<()>::new();
        let start = live();
        for n in 0..TASKS {
            group.spawn(async move {
                if n % 10_000 == 0 {
                    std::future::pending::<()>().await;
                }
                Ok(())
            });
        }
        let survivors = (TASKS / 10_000) as i64;
        while group.stats().running as i64 > survivors {
            tokio::task::yield_now().await;
        }
        let left = live() - start;
        assert!(
            left <= survivors * 4 * 1024,
            "{left} bytes for {survivors} that outlive {TASKS}"
        );
        group.abort();
        assert!(group.wait().await.is_err());
    }
    let left = live() - before;
    assert!(left <= 16 * 1024, "{left} bytes left");
}
