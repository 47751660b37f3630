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

/// The word at the beginning of a text.
fn word(text: &str) -> &str {
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_');
    &text[..end.unwrap_or(text.len())]
}

/// What code names by paths from the crate's root: modules, and names that `lib.rs` re-exports.
fn named(code: &str) -> impl Iterator<Item = &str> {
    code.split("crate::").skip(1).flat_map(|path| {
        let list = path
            .strip_prefix('{')
            .and_then(|list| list.split('}').next());
        let most = if list.is_some() { usize::MAX } else { 1 };
        let names = list.unwrap_or(path).split(',').take(most);
        names.map(|name| word(name.trim_start()))
    })
}

/// The module from which `lib.rs` re-exports a name.
fn home<'a>(lib: &'a str, name: &str) -> Option<&'a str> {
    let mut paths = lib.split("pub use ").skip(1);
    paths.find_map(|path| {
        let path = path.split(';').next().unwrap_or(path);
        let mut words = path.split(|c: char| !c.is_alphanumeric() && c != '_');
        words.any(|found| found == name).then(|| word(path))
    })
}

#[test]
fn modules_import_downwards_only() {
    let mut seen = 0;
    let lib = read(&root().join("src/lib.rs"));
    for (file, text) in sources(&root().join("src")) {
        let Some((module, _)) = file.split_once('/') else {
            continue;
        };
        let known = MODULES.iter().find(|(name, _)| *name == module);
        let (_, below) = known.unwrap_or_else(|| panic!("src/{file} is in no known module"));
        let code: Vec<_> = code(&text).collect();
        for name in named(&code.join("\n")) {
            let other = home(&lib, name).unwrap_or(name);
            let is_module = MODULES.iter().any(|(name, _)| *name == other);
            if is_module && other != module {
                assert!(below.contains(&other), "src/{file} imports {name}");
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
            let holds = [
                "fn",
                "impl",
                "enum",
                "trait",
                "static",
                "const",
                "macro_rules",
            ];
            let mut words = line.split(|c: char| !c.is_alphanumeric() && c != '_');
            let found = words.any(|word| holds.contains(&word));
            assert!(!found, "src/{file}: {line}");
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
