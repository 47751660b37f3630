//! No `unsafe`: each crate forbids it at its root, but for those that count what they allocate.

use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Every `.rs` in a folder, and below it if `deep`, with its text.
fn sources(folder: &Path, deep: bool) -> Vec<(PathBuf, String)> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.unwrap().path();
        if path.is_dir() && deep {
            found.extend(sources(&path, deep));
        } else if path.extension().is_some_and(|ext| ext == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            found.push((path, text));
        }
    }
    found
}

/// The code of a text, without its comments, by words.
fn words(text: &str) -> impl Iterator<Item = &str> {
    text.lines()
        .map(|line| line.split("//").next().unwrap_or(line))
        .flat_map(|line| line.split(|c: char| !c.is_alphanumeric() && c != '_'))
}

#[test]
fn the_library_forbids_it_at_its_root() {
    let text = fs::read_to_string(root().join("src/lib.rs")).unwrap();
    let forbids = text.lines().any(|line| line == "#![forbid(unsafe_code)]");
    assert!(forbids, "src/lib.rs must forbid unsafe code");
}

#[test]
fn the_librarys_code_does_not_hold_the_word() {
    let sources = sources(&root().join("src"), true);
    assert!(sources.len() > 20, "only {} files found", sources.len());
    for (path, text) in sources {
        assert!(!words(&text).any(|word| word == "unsafe"), "{path:?}");
    }
}

/// An allocator that counts cannot be written without; nothing else needs it.
#[test]
fn examples_and_benches_forbid_it_unless_they_count_allocations() {
    let mut seen = 0;
    for folder in ["examples", "benches"] {
        for (path, text) in sources(&root().join(folder), false) {
            seen += 1;
            let has = |line| text.lines().any(|found| found == line);
            let counts = words(&text).any(|word| word == "global_allocator");
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
