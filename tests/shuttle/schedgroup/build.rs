//! Switches the crate's lock over to shuttle's.
#![forbid(unsafe_code)]

fn main() {
    println!("cargo::rustc-cfg=shuttle");
    println!("cargo::rerun-if-changed=build.rs");
}
