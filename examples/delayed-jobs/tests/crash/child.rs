//! A worker that will be killed.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::sync::Arc;
use std::time::Duration;

use delayed_jobs::{Clock, Failure, Handling, Job, Payload, Queue, Retry};
use serde::{Deserialize, Serialize};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::log::{Event, Line};

pub(crate) const LIMIT: usize = 32;
pub(crate) const LEASE: Duration = Duration::from_secs(2);
const TRIES: u32 = 4;

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Work {
    pub(crate) number: u32,
}

impl Payload for Work {
    const KIND: &'static str = "work";
}

impl Work {
    /// One of a hundred.
    pub(crate) fn always_fails(&self) -> bool {
        self.number % 100 == 7
    }

    /// One of ten.
    fn fails_twice(&self) -> bool {
        self.number % 10 == 3
    }
}

/// Works until it is killed, or its parent is gone: then its standard input ends.
pub(crate) fn main(args: &[String]) {
    let [address, log, name] = args else {
        panic!("a child is told the database, the log and its name, not {args:?}")
    };
    let (address, name) = (address.clone(), name.clone());
    let log = OpenOptions::new().append(true).open(log).expect("the log");
    std::thread::spawn(|| {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(0);
    });
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let queue = Queue::open(&address).await.expect("the database");
        let notes = Arc::new(Notes {
            log,
            name,
            clock: queue.store().clock(),
        });
        let retry = Retry::fixed(Duration::from_millis(200)).attempts(TRIES);
        let worker = queue
            .worker()
            .lease(LEASE)
            .concurrency("default", LIMIT)
            .register_with(Handling::default().retry(retry), move |job| {
                work(job, Arc::clone(&notes))
            });
        worker.run(CancellationToken::new()).await.expect("a run");
    });
}

/// Where a worker writes what it did. A line is one write, so lines of many workers do not mix; and what
/// is written outlives the writer.
struct Notes {
    log: File,
    name: String,
    clock: Clock,
}

impl Notes {
    fn write(&self, event: Event, job: &Job<Work>) {
        let line = Line {
            event,
            number: job.payload.number,
            at: self.clock.now().0,
            run_at: job.run_at().0,
            worker: self.name.clone(),
        };
        (&self.log)
            .write_all(line.to_string().as_bytes())
            .expect("a line in the log");
    }
}

async fn work(job: Job<Work>, notes: Arc<Notes>) -> Result<(), Failure> {
    notes.write(Event::Start, &job);
    sleep(Duration::from_millis(
        5 + u64::from(job.payload.number % 30),
    ))
    .await;
    if job.payload.always_fails() || job.payload.fails_twice() && job.attempt() <= 2 {
        notes.write(Event::Failed, &job);
        return Err(Failure::new("as planned"));
    }
    notes.write(Event::Done, &job);
    Ok(())
}
