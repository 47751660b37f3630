//! No `unsafe`: each crate forbids it at its root, but for those that count what they allocate.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

/// The workspace of the crate, and those beside it.
const WORKSPACES: [&str; 5] = [
    "",
    "tests/fuzz",
    "tests/loom",
    "tests/shuttle",
    "examples/delayed-jobs/versus",
];

/// An allocator that counts cannot be written without it, so these deny it, and allow it where that is.
const COUNT_ALLOCATIONS: [&str; 9] = [
    "benches/siblings.rs",
    "examples/rate-limited-retries/examples/figures/main.rs",
    "examples/rate-limited-retries/tests/memory.rs",
    "examples/soak/main.rs",
    "examples/versus/src/main.rs",
    "tests/keyed_memory.rs",
    "tests/memory.rs",
    "tests/task_memory.rs",
    "tests/tracing.rs",
];

/// The root of each crate that cargo builds in that workspace: libraries, programs, examples, tests, build scripts.
fn crate_roots(workspace: &str) -> Vec<PathBuf> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(workspace);
    let metadata = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--offline", "--format-version=1"])
        .arg("--manifest-path")
        .arg(folder.join("Cargo.toml"))
        .output()
        .unwrap();
    let text = String::from_utf8(metadata.stdout).unwrap();
    let roots = text.split("\"src_path\":\"").skip(1);
    let roots: Vec<_> = roots
        .map(|rest| rest.split('"').next().unwrap())
        .map(|root| fs::canonicalize(root).unwrap())
        .collect();
    let error = String::from_utf8_lossy(&metadata.stderr);
    assert!(!roots.is_empty(), "{workspace}: {error}");
    roots
}

#[test]
fn each_crate_forbids_it_at_its_root_unless_it_counts_allocations() {
    let top = fs::canonicalize(env!("CARGO_MANIFEST_DIR")).unwrap();
    let roots: Vec<_> = WORKSPACES.into_iter().flat_map(crate_roots).collect();
    assert!(roots.contains(&top.join("src/lib.rs")), "{roots:?}");
    for root in roots {
        let text = fs::read_to_string(&root).unwrap();
        let name = root.strip_prefix(&top).unwrap().to_str().unwrap();
        let expected = if COUNT_ALLOCATIONS.contains(&name) {
            "#![deny(unsafe_code)]"
        } else {
            "#![forbid(unsafe_code)]"
        };
        assert!(
            text.lines().any(|line| line == expected),
            "{name} lacks `{expected}`"
        );
    }
}
