//! Jobs that came in from another thread, each due at once, could keep the driver from ever giving the
//! others a turn.
//!
//! The driver yields after a bounded piece of work. But when the next entry had come in before the
//! driver lay down, it began its next turn without that, and again, as long as there was a next entry each
//! time: on a `current_thread` runtime nothing else ran meanwhile. 359 turns in a row were seen.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

use crate::common::{bounded, ms, watched};
use schedgroup::Group;
use tokio::runtime::Builder;
use tokio::task::yield_now;
use tokio::time::Instant;

/// So many tasks tokio polls before it comes back to the future that the runtime was entered with.
const EVENT_INTERVAL: u64 = 61;

#[test]
fn jobs_from_another_thread_leave_others_their_turns() {
    watched(|| {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(bounded(async {
            for pause in [0, 20, 50, 100] {
                let group = Group::new();
                let over = Arc::new(AtomicBool::new(false));
                let (handle, seen) = (group.handle(), Arc::clone(&over));
                let producer = std::thread::spawn(move || {
                    while !seen.load(SeqCst) {
                        handle.delay(Duration::ZERO, async {});
                        (0..pause).for_each(|_| std::hint::spin_loop());
                    }
                });
                let (start, mut most) = (Instant::now(), 0);
                while start.elapsed() < ms(200) {
                    let before = group.stats().driver_wakeups;
                    yield_now().await;
                    most = most.max(group.stats().driver_wakeups - before);
                }
                over.store(true, SeqCst);
                producer.join().unwrap();
                assert!(
                    most <= EVENT_INTERVAL,
                    "{most} turns of the driver in a row, pause {pause}"
                );
            }
        }));
    });
}
