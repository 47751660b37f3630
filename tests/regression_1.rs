//! Of two jobs that panicked, `wait` returned while the second one's payload was still being dropped.
//!
//! The first panic is kept for `wait`. A later one was dropped after its job had been counted down, so a
//! payload with a slow destructor outlived the group on another worker; after `shutdown` too, which says
//! that no code of a job runs any more.

use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use crate::common::{OnDrop, bounded, ms, multi_thread};
use schedgroup::{Group, WaitError};

#[test]
fn wait_covers_the_payload_of_every_panic() {
    let ended = Arc::new(AtomicBool::new(false));
    let end = Arc::clone(&ended);
    let payload = OnDrop(move || {
        std::thread::sleep(ms(200));
        end.store(true, SeqCst);
    });
    multi_thread().block_on(bounded(async {
        let group = Group::builder().max_running(1).build();
        group.delay(ms(0), async { resume_unwind(Box::new("the first")) });
        group.delay(ms(0), async { resume_unwind(Box::new(payload)) });
        let waited = group.wait().await;
        assert!(
            matches!(&waited, Err(WaitError::Panicked(panic)) if panic.message() == "the first"),
            "{waited:?}"
        );
        assert!(ended.load(SeqCst), "a payload was still being dropped");
    }));
}
