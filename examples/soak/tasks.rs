//! Task groups that end while other tasks spawn: nothing may hang or be lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

use schedgroup::ScheduleError;
use schedgroup::task::{OnError, TaskGroup, TaskHandle};

use crate::two_workers;

#[derive(Clone, Copy, Debug, PartialEq)]
enum End {
    Wait,
    Cancel,
    Abort,
    Shutdown,
    Drop,
}

/// Counts of the tasks of one race by outcome.
#[derive(Clone, Default)]
struct Ledger {
    made: Arc<AtomicU64>,
    ran: Arc<AtomicU64>,
    came_back: Arc<AtomicU64>,
    gone: Arc<AtomicU64>,
}

struct Entry(Ledger);

impl Drop for Entry {
    fn drop(&mut self) {
        self.0.gone.fetch_add(1, SeqCst);
    }
}

impl Ledger {
    /// Every other one awaits, so that it can be stopped on its way.
    fn task(&self, number: u64) -> impl Future<Output = ()> + Send + use<> {
        self.made.fetch_add(1, SeqCst);
        let entry = Entry(self.clone());
        async move {
            if number % 2 == 0 {
                tokio::task::yield_now().await;
            }
            entry.0.ran.fetch_add(1, SeqCst);
        }
    }

    fn came_back<T>(&self, answer: Result<usize, ScheduleError<T>>) -> bool {
        let came_back = answer.is_err();
        self.came_back.fetch_add(u64::from(came_back), SeqCst);
        came_back
    }

    fn read(&self) -> [u64; 4] {
        [&self.made, &self.ran, &self.came_back, &self.gone].map(|count| count.load(SeqCst))
    }
}

/// Spawns until the group rejects a task, at most this many.
async fn produce(handle: TaskHandle, ledger: Ledger) {
    for number in 0..30 {
        let task = ledger.task(number);
        match number % 3 {
            0 => {
                handle.spawn(task);
            }
            1 => {
                ledger.came_back(handle.try_spawn(task));
            }
            _ => {
                if ledger.came_back(handle.submit(task).await) {
                    return;
                }
            }
        }
    }
}

/// Two tasks call `spawn`, `try_spawn` and `submit` while the group ends, in every way to end a group. Each task must have
/// ended in one way, and the counts must agree.
pub(crate) fn task_races(races: u64) -> u64 {
    const ENDS: [End; 5] = [End::Wait, End::Cancel, End::Abort, End::Shutdown, End::Drop];
    let (mut misses, runtime) = (0, two_workers());
    for end in ENDS {
        let (start, races) = (Instant::now(), races / ENDS.len() as u64);
        let (mut sum, mut lost, mut hung) = ([0; 6], 0, 0);
        for round in 0..races {
            match runtime.block_on(race(end, round)) {
                Some((counts, missing)) => {
                    lost += missing;
                    for (sum, count) in sum.iter_mut().zip(counts) {
                        *sum += count;
                    }
                }
                None => hung += 1,
            }
        }
        let [made, ran, came_back, finished, skipped, aborted] = sum;
        println!(
            "task-races: {lost} astray of {made} tasks, {hung} hung of {races} races against {end:?}: {ran} ran, {finished} finished, {skipped} skipped, {aborted} stopped, {came_back} came back, {:.1?}",
            start.elapsed()
        );
        misses += lost + hung;
    }
    misses
}

/// The counts, and how many tasks they do not tell of; `None` if it hangs.
async fn race(end: End, round: u64) -> Option<([u64; 6], u64)> {
    let limit = [1, 2, usize::MAX][round as usize % 3];
    let group = TaskGroup::builder()
        .limit(limit)
        .queue(round as usize / 3 % 2)
        .on_error(OnError::Continue)
        .build();
    let (handle, ledger) = (group.handle(), Ledger::default());
    let producers = [(); 2].map(|()| tokio::spawn(produce(group.handle(), ledger.clone())));
    // A different moment in each round, without a clock.
    for _ in 0..(round * 7919) % 20_000 {
        std::hint::spin_loop();
    }
    let patience = Duration::from_secs(5);
    let ended = match end {
        End::Wait => tokio::time::timeout(patience, group.wait()).await.is_ok(),
        End::Cancel => {
            group.cancel();
            tokio::time::timeout(patience, group.wait()).await.is_ok()
        }
        End::Abort => {
            group.abort();
            tokio::time::timeout(patience, group.wait()).await.is_ok()
        }
        End::Shutdown => {
            let grace = Duration::from_micros(round % 2 * 50);
            tokio::time::timeout(patience, group.shutdown(grace))
                .await
                .is_ok()
        }
        End::Drop => {
            drop(group);
            true
        }
    };
    for producer in producers {
        let produced = tokio::time::timeout(patience, producer).await;
        produced.ok()?.expect("a producer");
    }
    // The tasks of a dropped group end in turns of their own: bounded, and seen by count.
    let start = Instant::now();
    loop {
        let (stats, [made, ran, came_back, gone]) = (handle.stats(), ledger.read());
        let over = stats.running == 0 && stats.pending == 0 && gone == made;
        if over || start.elapsed() > patience {
            let accepted = stats.finished + stats.skipped + stats.aborted;
            let missing = made.abs_diff(gone)
                + made.abs_diff(accepted + came_back)
                + ran.abs_diff(stats.finished);
            let counts = [
                made,
                ran,
                came_back,
                stats.finished,
                stats.skipped,
                stats.aborted,
            ];
            return ended.then_some((counts, missing));
        }
        tokio::task::yield_now().await;
    }
}
