//! No `unsafe`: each crate forbids it at its root, but for those that count what they allocate.

use std::fs;
use std::path::PathBuf;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn the_library_forbids_it_at_its_root() {
    let text = fs::read_to_string(root().join("src/lib.rs")).unwrap();
    let forbids = text.lines().any(|line| line == "#![forbid(unsafe_code)]");
    assert!(forbids, "src/lib.rs must forbid unsafe code");
}

/// An allocator that counts cannot be written without; nothing else needs it.
#[test]
fn examples_and_benches_forbid_it_unless_they_count_allocations() {
    let mut seen = 0;
    for folder in ["examples", "benches"] {
        for entry in fs::read_dir(root().join(folder)).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_none_or(|ext| ext != "rs") {
                continue;
            }
            seen += 1;
            let text = fs::read_to_string(&path).unwrap();
            let has = |line| text.lines().any(|found| found == line);
            let counts = has("#[global_allocator]");
            let expected = if counts {
                "#![allow(unsafe_code)]"
            } else {
                "#![forbid(unsafe_code)]"
            };
            assert!(has(expected), "{path:?} lacks `{expected}`");
        }
    }
    assert!(seen >= 4, "only {seen} files found");
}
