//! Measures the dispatcher on the real clock, and compares it with governor, backon and a semaphore, and with a task and a
//! sleep per item.
//!
//! You should see the figures of the README: rates, CPU and wake-ups per start, and bytes per queued item.
//!
//! ```sh
//! cargo run --release -p rate-limited-retries --example figures
//! cargo run --release -p rate-limited-retries --example figures -- --small
//! cargo run --release -p rate-limited-retries --example figures -- rates   # or memory, keys
//! ```
#![deny(unsafe_code)]

#[path = "../../../../tests/counting/mod.rs"]
mod counting;
mod keys;
mod memory;
mod meter;
mod ours;
mod peers;
mod rates;

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let small = words.iter().any(|word| word == "--small");
    let wants = |row: &str| {
        let mut rows = words
            .iter()
            .filter(|word| !word.starts_with("--"))
            .peekable();
        rows.peek().is_none() || rows.any(|word| word == row)
    };
    println!("{}", meter::machine());
    let lines = |source: &str| {
        let lines = source.lines().map(str::trim);
        lines
            .filter(|line| !line.is_empty() && !line.starts_with("//"))
            .count()
    };
    println!(
        "lines of code for the same task: {} with the dispatcher, {} with governor, backon and a semaphore",
        lines(include_str!("ours.rs")),
        lines(include_str!("peers.rs")),
    );
    if wants("rates") {
        rates::run(small);
    }
    if wants("memory") {
        memory::run(small);
    }
    if wants("keys") {
        keys::run(small);
    }
}
