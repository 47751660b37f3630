//! The shape of the house: imports go down only, signboards hold no logic, and CI runs what the
//! README tells people to type.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// From the bottom up. A file may know its own floor and those below it.
const FLOORS: &[(&str, &[&str])] = &[
    (
        "ground",
        &["ground/panic", "ground/timeline", "ground/trace"],
    ),
    (
        "sched ground",
        &[
            "sched/job",
            "sched/error",
            "sched/stats",
            "sched/queue",
            "sched/body",
            "sched/slot",
            "sched/intake",
            "sched/gate",
            "sched/places",
        ],
    ),
    ("joints", &["sched/state", "sched/shared"]),
    ("engines", &["sched/runner", "sched/driver"]),
    (
        FACES,
        &[
            "sched/verbs",
            "sched/builder",
            "sched/group",
            "sched/handle",
            "sched/context",
            "sched/wait",
        ],
    ),
];

/// Faces hand one another out (a group its builder, a builder its group), so they may form circles.
const FACES: &str = "faces";

const SIGNBOARDS: &[&str] = &["lib", "ground/mod", "sched/mod"];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|err| panic!("{}: {err}", path.display()))
}

/// Every `.rs` below `src`, as `folder/name`, with its text.
fn sources() -> BTreeMap<String, String> {
    fn collect(src: &Path, dir: &Path, found: &mut BTreeMap<String, String>) {
        for entry in fs::read_dir(dir).expect("src can be listed") {
            let path = entry.expect("src can be listed").path();
            if path.is_dir() {
                collect(src, &path, found);
            } else if path.extension().is_some_and(|ext| ext == "rs") {
                let name = path.strip_prefix(src).expect("it lies in src");
                let name = name.with_extension("").to_string_lossy().replace('\\', "/");
                found.insert(name, read(&path));
            }
        }
    }
    let (src, mut found) = (root().join("src"), BTreeMap::new());
    collect(&src, &src, &mut found);
    found
}

/// The text without comments and without the items under `#[cfg(test)]` and `#[cfg(doctest)]`.
///
/// Leans on rustfmt: an item ends at the first line of its own indentation that closes it.
fn built(text: &str) -> String {
    let indent = |line: &str| line.len() - line.trim_start().len();
    let mut lines = text.lines();
    let mut kept = String::new();
    while let Some(line) = lines.next() {
        let bare = line.trim_start();
        if bare.starts_with("#[cfg(test)]") || bare.starts_with("#[cfg(doctest)]") {
            let depth = indent(line);
            for line in lines.by_ref() {
                let end = line.trim_end();
                let closes = end.ends_with(';') || end.ends_with('}');
                if indent(line) == depth && closes && !end.trim_start().starts_with('#') {
                    break;
                }
            }
        } else if !bare.starts_with("//") {
            kept.push_str(line.split(" // ").next().unwrap_or(line));
            kept.push('\n');
        }
    }
    kept
}

/// The identifiers at the start of each path that follows `prefix`; of `a::{b, c}` all the braces' own.
fn after<'a>(text: &'a str, prefix: &str) -> Vec<&'a str> {
    let ident = |s: &'a str| {
        let end = s.find(|c: char| !c.is_alphanumeric() && c != '_');
        &s[..end.unwrap_or(s.len())]
    };
    let mut found = Vec::new();
    for (at, _) in text.match_indices(prefix) {
        let before = text[..at].chars().next_back();
        if before.is_some_and(|c| c.is_alphanumeric() || c == '_') {
            continue;
        }
        let rest = &text[at + prefix.len()..];
        let Some(inside) = rest.strip_prefix('{') else {
            found.push(ident(rest));
            continue;
        };
        let (mut depth, mut start) = (0, 0);
        for (i, c) in inside.char_indices() {
            match c {
                '{' => depth += 1,
                '}' if depth > 0 => depth -= 1,
                ',' | '}' if depth == 0 => {
                    found.push(ident(inside[start..i].trim_start()));
                    start = i + 1;
                    if c == '}' {
                        break;
                    }
                }
                _ => {}
            }
        }
    }
    found.retain(|name| !name.is_empty());
    found
}

/// The files that `file` names, by `super::` and by `crate::`.
///
/// A name from the crate's root (`crate::Job`) is a re-export of a face, which hides where it comes
/// from; macros need `$crate::` and are the only ones that may write it.
fn imports(file: &str, text: &str) -> BTreeSet<String> {
    let folder = file.split('/').next().expect("split gives at least one");
    let text = built(text);
    let mut named = BTreeSet::new();
    for name in after(&text, "super::") {
        named.insert(match name {
            "super" => format!("{folder}/super::super"),
            name => format!("{folder}/{name}"),
        });
    }
    let plain = text.replace("$crate::", "$ROOT::");
    for family in after(&plain, "crate::") {
        if !matches!(family, "ground" | "sched") {
            named.insert(format!("crate::{family}"));
        }
    }
    for family in ["ground", "sched"] {
        for name in after(&text, &format!("crate::{family}::")) {
            named.insert(format!("{family}/{name}"));
        }
    }
    named
}

fn floor_of(file: &str) -> Option<usize> {
    FLOORS.iter().position(|(_, files)| files.contains(&file))
}

#[test]
fn every_file_has_a_floor() {
    let sources = sources();
    let homeless: Vec<_> = sources
        .keys()
        .filter(|file| floor_of(file).is_none() && !SIGNBOARDS.contains(&file.as_str()))
        .collect();
    assert!(homeless.is_empty(), "not in the floor table: {homeless:?}");

    let listed = FLOORS
        .iter()
        .flat_map(|(_, files)| *files)
        .chain(SIGNBOARDS);
    let missing: Vec<_> = listed
        .filter(|file| !sources.contains_key(**file))
        .collect();
    assert!(
        missing.is_empty(),
        "in the floor table, not in src: {missing:?}"
    );
}

#[test]
fn imports_go_down_only() {
    let (mut seen, mut wrong) = (0, Vec::new());
    for (file, text) in sources() {
        let Some(floor) = floor_of(&file) else {
            continue;
        };
        for import in imports(&file, &text) {
            seen += 1;
            match floor_of(&import) {
                Some(below) if below <= floor => {}
                Some(above) => wrong.push(format!(
                    "{file} ({}) imports {import} ({})",
                    FLOORS[floor].0, FLOORS[above].0
                )),
                None => wrong.push(format!("{file} imports {import}, which has no floor")),
            }
        }
    }
    assert!(
        seen > 40,
        "only {seen} imports were found: is the parser blind?"
    );
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn below_the_faces_no_files_import_each_other_in_a_circle() {
    let mut open: BTreeMap<String, BTreeSet<String>> = sources()
        .into_iter()
        .filter(|(file, _)| floor_of(file).is_some_and(|floor| FLOORS[floor].0 != FACES))
        .map(|(file, text)| {
            let mut named = imports(&file, &text);
            named.remove(&file);
            (file, named)
        })
        .collect();
    // Take away what stands on nothing that is left, until nothing more can be taken.
    loop {
        let before = open.len();
        let left: BTreeSet<String> = open.keys().cloned().collect();
        open.retain(|_, named| named.iter().any(|name| left.contains(name)));
        if open.len() == before {
            break;
        }
    }
    assert!(open.is_empty(), "in a circle, or above one: {open:#?}");
}

#[test]
fn signboards_hold_no_logic() {
    let sources = sources();
    for board in SIGNBOARDS {
        let text = built(&sources[*board]);
        for line in text.lines() {
            for word in [
                "fn ",
                "impl ",
                "impl<",
                "struct ",
                "enum ",
                "trait ",
                "macro_rules!",
            ] {
                assert!(!line.contains(word), "{board}.rs holds `{}`", line.trim());
            }
        }
    }
}

#[test]
fn ci_runs_the_commands_of_the_readme() {
    let readme = read(&root().join("README.md"));
    let ci = read(&root().join(".ci/run"));
    let steps: BTreeSet<&str> = ci
        .lines()
        .filter_map(|line| line.strip_prefix("step "))
        .collect();

    let (mut commands, mut in_shell) = (Vec::new(), false);
    for line in readme.lines() {
        if line.starts_with("```") {
            in_shell = line == "```sh";
        } else if in_shell {
            commands.push(line.trim());
        }
    }
    assert!(
        commands.contains(&"cargo test"),
        "the README's commands: {commands:?}"
    );
    assert!(
        commands.contains(&"cargo run --example hello"),
        "the README's commands: {commands:?}"
    );
    for command in commands {
        assert!(
            steps.contains(command),
            "`{command}` is in the README, but is no step of .ci/run"
        );
    }
}

#[test]
fn the_parser_sees_what_it_should() {
    let text = "\
use super::one;
use crate::ground::{two, three::{Four, Five}};
// use super::comment;
use super::{
    six,
    seven::Eight,
};
fn f() { super::nine::go(); $crate::Job; crate::Group::new() }

#[cfg(test)]
mod tests {
    use super::super::hidden;
    fn g() {
    }
}
use super::last;
";
    let named = imports("sched/file", text);
    let expected = [
        "crate::Group",
        "ground/three",
        "ground/two",
        "sched/last",
        "sched/nine",
        "sched/one",
        "sched/seven",
        "sched/six",
    ];
    assert_eq!(
        named.iter().map(String::as_str).collect::<Vec<_>>(),
        expected
    );
}
