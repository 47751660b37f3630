//! The parts of the engine, one by one.
//!
//! ```sh
//! cargo bench --bench engine            # all
//! cargo bench --bench engine -- queue   # those with that word
//! ```
//!
//! What a whole group costs beside its neighbours is told by `cargo run --release --example versus`, and
//! what was tried by `benches/NOTES.md`.
#![forbid(unsafe_code)]

mod ground;
mod sched;
mod verbs;

fn main() {
    divan::main();
}
