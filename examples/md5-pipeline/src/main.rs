//! Prints the MD5 sums of all files below a folder, with at most 20 tasks at a time.
//!
//! You should see one line per file, in the order of the paths and in the format of `md5sum`, and then the number of files.
//! The first file that cannot be read ends all tasks, and the program fails with its error.
//!
//! ```sh
//! cargo run -p md5-pipeline -- src
//! ```
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;

use md5::{Digest, Md5};
use schedgroup::TaskError;
use schedgroup::task::{TaskGroup, TaskHandle};
use tokio::fs;
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;

const DIGESTERS: usize = 20;

type Sum = (PathBuf, String);

/// Handles one path: spawns a task for each entry of a folder, or sends the sum of a file.
async fn walk(
    path: PathBuf,
    group: TaskHandle<io::Error>,
    sums: mpsc::UnboundedSender<Sum>,
) -> io::Result<()> {
    let kind = fs::symlink_metadata(&path).await?.file_type();
    if kind.is_dir() {
        let mut entries = fs::read_dir(&path).await?;
        while let Some(entry) = entries.next_entry().await? {
            spawn_walk(entry.path(), &group, &sums);
        }
    } else if kind.is_file() {
        // The sum of a large file takes long, and would keep a worker of the runtime from other tasks.
        let sum = spawn_blocking(move || {
            let sum = Md5::digest(std::fs::read(&path)?);
            let hex = sum.iter().map(|byte| format!("{byte:02x}")).collect();
            io::Result::Ok((path, hex))
        });
        // It fails only if the receiver was dropped.
        let _ = sums.send(sum.await??);
    }
    Ok(())
}

/// A function that is not `async`: an `async fn` that spawns itself does not compile.
fn spawn_walk(path: PathBuf, group: &TaskHandle<io::Error>, sums: &mpsc::UnboundedSender<Sum>) {
    group.spawn(walk(path, group.clone(), sums.clone()));
}

#[tokio::main]
async fn main() -> Result<(), TaskError<io::Error>> {
    let root = std::env::args()
        .nth(1)
        .unwrap_or_else(|| String::from("src"));
    let group = TaskGroup::builder().limit(DIGESTERS).build();
    let (sums, mut collected) = mpsc::unbounded_channel();
    spawn_walk(root.into(), &group.handle(), &sums);
    drop(sums);

    // The channel closes when the last task that has a sender ends.
    let mut sorted = BTreeMap::new();
    while let Some((path, sum)) = collected.recv().await {
        sorted.insert(path, sum);
    }
    group.wait().await?;
    for (path, sum) in &sorted {
        println!("{sum}  {}", path.display());
    }
    println!("{} files", sorted.len());
    Ok(())
}
