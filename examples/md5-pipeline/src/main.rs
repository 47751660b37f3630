//! The MD5 sums of all files below a folder, read and digested by at most 20 tasks.
//!
//! Look for: one line per file in the order of their paths, as `md5sum` prints them, and a count.
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

const DIGESTERS: usize = 20;

type Sum = (PathBuf, String);

/// A task per entry: a folder spawns one for each entry in it, a file sends its sum.
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
        let sum = Md5::digest(fs::read(&path).await?);
        let hex: String = sum.iter().map(|byte| format!("{byte:02x}")).collect();
        // An error means that the receiver is gone.
        let _ = sums.send((path, hex));
    }
    Ok(())
}

fn spawn_walk(path: PathBuf, group: &TaskHandle<io::Error>, sums: &mpsc::UnboundedSender<Sum>) {
    let task: std::pin::Pin<Box<dyn Future<Output = io::Result<()>> + Send>> =
        Box::pin(walk(path, group.clone(), sums.clone()));
    group.spawn(task);
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

    // The channel ends with the last task that holds its other end.
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
