//! The shape of the crate, as far as the compiler's privacy does not hold it.
#![forbid(unsafe_code)]

use std::fs;
use std::path::{Path, PathBuf};

/// The modules of the crate, from the bottom up, each with the modules that it may import.
const MODULES: &[(&str, &[&str])] = &[
    ("common", &[]),
    ("sched", &["common"]),
    ("task", &["common"]),
    ("flow", &["common", "sched"]),
    ("keyed", &["common", "sched"]),
    ("periodic", &["common", "sched"]),
];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Every source below `dir`, by its path from there.
fn sources(dir: &Path) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut dirs = vec![dir.to_owned()];
    while let Some(next) = dirs.pop() {
        for entry in fs::read_dir(&next).expect("a folder of the crate") {
            let path = entry.expect("an entry of it").path();
            if path.is_dir() {
                dirs.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(dir).expect("it is below").display();
                found.push((name.to_string(), read(&path)));
            }
        }
    }
    assert!(found.len() > 20, "{}", dir.display());
    found
}

/// The lines of code above the unit tests, without comments.
fn code(text: &str) -> impl Iterator<Item = &str> {
    let built = text
        .split("#[cfg(test)]\nmod tests {")
        .next()
        .unwrap_or(text);
    let lines = built.lines().map(str::trim_start);
    lines.filter(|line| !line.starts_with("//"))
}

/// The modules that a line names by a path from the crate's root.
fn named(line: &str) -> impl Iterator<Item = &str> {
    let paths = line.split("crate::").skip(1);
    paths.map(|path| {
        let end = path.find(|c: char| !c.is_alphanumeric() && c != '_');
        &path[..end.unwrap_or(path.len())]
    })
}

#[test]
fn modules_import_downwards_only() {
    let mut seen = 0;
    for (file, text) in sources(&root().join("src")) {
        let Some((module, _)) = file.split_once('/') else {
            continue;
        };
        let known = MODULES.iter().find(|(name, _)| *name == module);
        let (_, below) = known.unwrap_or_else(|| panic!("src/{file} is in no known module"));
        for other in code(&text).flat_map(named) {
            let is_module = MODULES.iter().any(|(name, _)| *name == other);
            if is_module && other != module {
                assert!(below.contains(&other), "src/{file} imports {other}");
                seen += 1;
            }
        }
    }
    assert!(seen > 50, "only {seen} imports were seen");
}

/// `lib.rs` and each `mod.rs` show what there is.
#[test]
fn module_roots_hold_no_logic() {
    let roots = |(file, _): &(String, String)| file == "lib.rs" || file.ends_with("/mod.rs");
    for (file, text) in sources(&root().join("src")).into_iter().filter(roots) {
        for line in code(&text) {
            let holds = ["fn ", "impl ", "enum ", "trait ", "static ", "macro_rules!"];
            let found = holds.iter().find(|word| {
                let stripped = line.trim_start_matches("pub ");
                stripped.starts_with(**word) || stripped.starts_with(&format!("pub(crate) {word}"))
            });
            assert!(found.is_none(), "src/{file}: {line}");
        }
    }
}

/// What the README tells people to type is what CI runs.
#[test]
fn ci_runs_the_commands_of_the_readme() {
    let gate = read(&root().join(".ci/run"));
    let readme = read(&root().join("README.md"));
    let commands: Vec<&str> = readme
        .split("```sh\n")
        .skip(1)
        .flat_map(|block| block.split("```").next().unwrap_or("").lines())
        .map(|line| line.split(" #").next().unwrap_or("").trim())
        .filter(|line| line.starts_with("cargo run --example") || line.starts_with("cargo test"))
        .collect();
    assert!(commands.len() >= 2, "{commands:?}");
    for command in commands {
        let step = format!("step {command}");
        assert!(gate.lines().any(|line| line == step), "{step}");
    }
}
