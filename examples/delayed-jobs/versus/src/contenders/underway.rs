//! underway, in a process of its own: see its package beside this one.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, SystemTime};

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::Command;

use super::{Outcome, Settings};
use crate::Task;

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("underway")
}

fn program() -> PathBuf {
    folder().join("target/release/delayed-jobs-versus-underway")
}

/// Builds it, so that no job waits for that.
pub fn build() -> Outcome {
    let manifest = folder().join("Cargo.toml");
    let built = std::process::Command::new("cargo")
        .args(["build", "--release", "--quiet", "--manifest-path"])
        .arg(manifest)
        .env_remove("CARGO_TARGET_DIR")
        .status()?;
    match built.success() {
        true => Ok(()),
        false => Err("underway does not build here".into()),
    }
}

pub async fn work(task: Task, settings: Settings) -> Outcome {
    let settings = match settings {
        Settings::Defaults => "defaults",
        Settings::Tuned => "tuned",
    };
    let mut child = Command::new(program())
        .args([&task.address, &task.at_once.to_string(), settings])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let since = |at: &SystemTime| at.duration_since(SystemTime::UNIX_EPOCH);
    let micros: Result<Vec<_>, _> = task.times.iter().map(|at| since(at)).collect();
    let lines = micros?
        .iter()
        .map(|at| format!("{}\n", at.as_micros()))
        .collect::<String>();
    let mut input = child.stdin.take().ok_or("its input")?;
    input.write_all(lines.as_bytes()).await?;
    drop(input);
    let mut lines = BufReader::new(child.stdout.take().ok_or("its output")?).lines();
    while let Some(line) = lines.next_line().await? {
        match line.split_once(' ') {
            None => task.starts.begin(),
            Some((number, at)) => {
                let at = SystemTime::UNIX_EPOCH + Duration::from_micros(at.parse()?);
                task.starts.note_at(number.parse()?, at);
            }
        }
    }
    Err("underway has ended".into())
}
