//! The tests of the Go systems, told anew for this crate, one module per system or file of tests.
//!
//! Names are kept. The clock is paused where time matters, so what Go allows some leeway is exact here.
//! Each module's head names source and licence, and what of it makes no sense in Rust, and why. The faults
//! of those systems stand beside their tests; `docs/siblings.md` has both by name.

mod conc_iter;
mod conc_pool;
mod conc_results;
mod conc_stream;
mod conc_waitgroup;
mod facebookgo;
mod gollback;
mod hunch;
mod kratos;
mod mdlayher;
mod neilotoole;
mod syncs;
mod waitgroup;
mod xsync;
