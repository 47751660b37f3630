//! Leaves out the unit tests that take a lock outside of a model.
#![forbid(unsafe_code)]

fn main() {
    println!("cargo::rustc-cfg=loom");
    println!("cargo::rerun-if-changed=build.rs");
}
