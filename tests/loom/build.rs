//! Leaves out the unit tests that take a lock outside of a model.

fn main() {
    println!("cargo::rustc-cfg=loom");
    println!("cargo::rerun-if-changed=build.rs");
}
