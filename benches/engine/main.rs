//! The parts of the engine, one by one.
//!
//! ```sh
//! cargo bench --bench engine            # all
//! cargo bench --bench engine -- queue   # those with that word
//! ```
//!
//! What a whole group costs beside its neighbours is measured by `cargo run --release -p versus`; what was
//! tried is in `benches/NOTES.md`.
#![forbid(unsafe_code)]

mod common;
mod sched;
mod verbs;

fn main() {
    divan::main();
}
