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
        &[
            "ground/error",
            "ground/panic",
            "ground/seats",
            "ground/table",
            "ground/timeline",
            "ground/trace",
            "ground/waiters",
        ],
    ),
    (
        "sched's ground",
        &[
            "sched/job",
            "sched/error",
            "sched/stats",
            "sched/wheel",
            "sched/queue",
            "sched/sweep",
            "sched/body",
            "sched/origin",
            "sched/slot",
            "sched/rt",
            "sched/alarm",
            "sched/timerfd",
        ],
    ),
    (
        "parts",
        &[
            "sched/intake",
            "sched/gate",
            "sched/ends",
            "sched/closing",
            "sched/running",
            "sched/local_queue",
            "sched/spare",
            "sched/ready",
            "sched/workers",
            "sched/jobs",
        ],
    ),
    ("joints", &["sched/state", "sched/shared"]),
    (
        "engines",
        &[
            "sched/yield_now",
            "sched/run",
            "sched/job_task",
            "sched/worker",
            "sched/driver",
        ],
    ),
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
    (
        "flow",
        &[
            "flow/combinators",
            "flow/completions",
            "flow/error",
            "flow/future",
            "flow/retry",
            "flow/retry_job",
            "flow/rule",
            "flow/settings",
            "flow/stop",
            "flow/stream",
            "flow/task_set",
            "flow/waterfall",
        ],
    ),
    (
        "keyed",
        &[
            "keyed/state",
            "keyed/shared",
            "keyed/job",
            "keyed/verbs",
            "keyed/handle",
            "keyed/group",
            "keyed/builder",
        ],
    ),
    (
        "task",
        &[
            "task/policy",
            "task/stats",
            "task/output",
            "task/pool",
            "task/submit",
            "task/wait",
            "task/member",
            "task/methods",
            "task/builder",
            "task/handle",
            "task/group",
        ],
    ),
    (
        "periodic",
        &[
            "periodic/table",
            "periodic/clock",
            "periodic/handle",
            "periodic/tick",
            "periodic/on_panic",
            "periodic/wall",
            "periodic/calendar",
            "periodic/every",
            "periodic/methods",
        ],
    ),
];

/// Faces hand one another out (a group its builder, a builder its group), so they may form circles.
const FACES: &str = "faces";
const IN_CIRCLES: [&str; 2] = [FACES, "task"];
const A_FACE: &str = "sched/group";

const SIGNBOARDS: &[&str] = &[
    "lib",
    "ground/mod",
    "sched/mod",
    "keyed/mod",
    "periodic/mod",
    "task/mod",
    "flow/mod",
];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|err| panic!("{}: {err}", path.display()))
}

/// Every room with its text: a `.rs` in a family's folder is one, as `folder/name`, and so is a whole folder
/// below that, whose leaves are hidden.
fn sources() -> BTreeMap<String, String> {
    let mut rooms = BTreeMap::<String, String>::new();
    for (file, text) in files() {
        // `pub(super)` and `mod` keep the leaves of a folder in it; what they import counts as its own.
        let room = file.splitn(3, '/').take(2).collect::<Vec<_>>().join("/");
        let text = match file.split('/').count() {
            0..=2 => text,
            _ => built(&text)
                .replace("super::super::", &format!("crate::{}::", family(&file)))
                .replace("super::", "self::"),
        };
        rooms.entry(room).or_default().push_str(&text);
    }
    rooms
}

fn family(file: &str) -> &str {
    file.split('/').next().expect("split gives at least one")
}

/// Every `.rs` below `src`, as `folder/name`, with its text.
fn files() -> BTreeMap<String, String> {
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

/// The text without comments and without the items under `#[cfg(test)]`, alone or with more, and `#[cfg(doctest)]`.
///
/// Leans on rustfmt: an item ends at the first line of its own indentation that closes it.
fn built(text: &str) -> String {
    let indent = |line: &str| line.len() - line.trim_start().len();
    let mut lines = text.lines();
    let mut kept = String::new();
    while let Some(line) = lines.next() {
        let bare = line.trim_start();
        if bare.starts_with("#[cfg(test)]")
            || bare.starts_with("#[cfg(all(test,")
            || bare.starts_with("#[cfg(doctest)]")
        {
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

/// Every path in `text` that starts with `root::`, by its segments, with braces written out.
fn paths(text: &str, root: &str) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    for (at, _) in text.match_indices(root) {
        let before = text[..at].chars().next_back();
        let Some(rest) = text[at + root.len()..].strip_prefix("::") else {
            continue;
        };
        if !before.is_some_and(|c| c.is_alphanumeric() || c == '_') {
            expand(rest, &[], &mut found);
        }
    }
    found
}

/// Reads one use tree, and answers what stands behind it.
fn expand<'a>(text: &'a str, above: &[String], found: &mut Vec<Vec<String>>) -> &'a str {
    let text = text.trim_start();
    if let Some(mut inside) = text.strip_prefix('{') {
        loop {
            inside = inside.trim_start().trim_start_matches(',').trim_start();
            match inside.strip_prefix('}') {
                Some(behind) => return behind,
                None if inside.is_empty() => return inside,
                None => inside = expand(inside, above, found),
            }
        }
    }
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_' && c != '*');
    let (segment, mut behind) = text.split_at(end.unwrap_or(text.len()).max(1).min(text.len()));
    let mut path = above.to_vec();
    path.push(segment.to_owned());
    match behind.strip_prefix("::") {
        // Not a turbofish.
        Some(deeper) if !deeper.starts_with('<') => expand(deeper, &path, found),
        _ => {
            found.push(path);
            // The rest of `a as b`.
            if let Some(renamed) = behind.strip_prefix(" as ") {
                behind = renamed.trim_start_matches(|c: char| c.is_alphanumeric() || c == '_');
            }
            behind
        }
    }
}

/// The files that `file` names, by `super::` and by `crate::`; what names no file stays as it is
/// written, and so has no floor.
///
/// A name from the crate's root (`crate::Job`) is a re-export, which hides where it comes from. Macros
/// need `$crate::`, and families beside the group stand on what the crate shows: only those may write
/// it, and it counts as the face it mostly is.
fn imports(file: &str, text: &str) -> BTreeSet<String> {
    let folder = family(file);
    let text = built(text);
    let beside_the_group = !["ground", "sched"].contains(&folder);
    let mut named = BTreeSet::new();
    for path in paths(&text, "super") {
        named.insert(format!("{folder}/{}", path[0]));
    }
    let reexported = |path: &[String]| path[0].starts_with(char::is_uppercase);
    for path in paths(&text, "$crate") {
        if reexported(&path) {
            named.insert(A_FACE.to_owned());
        }
    }
    for path in paths(&text.replace("$crate::", "$root::"), "crate")
        .into_iter()
        .chain(
            paths(&text, "$crate")
                .into_iter()
                .filter(|path| !reexported(path)),
        )
    {
        named.insert(match &path[..] {
            [family, file, ..] if family != "super" => format!("{family}/{file}"),
            path if beside_the_group && reexported(path) => A_FACE.to_owned(),
            _ => format!("crate::{}", path.join("::")),
        });
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
        .filter(|(file, _)| {
            floor_of(file).is_some_and(|floor| !IN_CIRCLES.contains(&FLOORS[floor].0))
        })
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
    let boards = files().into_iter();
    for (board, text) in boards.filter(|(file, _)| file == "lib" || file.ends_with("/mod")) {
        let text = built(&text);
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

/// The rows of the last ```` ```text ```` drawing in a signboard's prose, word by word.
fn drawing(text: &str) -> Vec<Vec<&str>> {
    let prose = text.lines().filter_map(|line| line.strip_prefix("//!"));
    let (mut rows, mut inside) = (Vec::new(), false);
    for line in prose.map(str::trim) {
        match line {
            "```text" => {
                rows.clear();
                inside = true;
            }
            "```" => inside = false,
            _ if inside => rows.push(line.split_whitespace().collect()),
            _ => {}
        }
    }
    rows
}

/// The modules that a signboard declares.
fn declared(text: &str) -> BTreeSet<&str> {
    text.lines()
        .map(|line| {
            line.trim_start_matches("pub(crate) ")
                .trim_start_matches("pub ")
        })
        .filter_map(|line| line.strip_prefix("mod "))
        .filter_map(|name| name.strip_suffix(';'))
        .collect()
}

#[test]
fn signboards_declare_all_that_lies_beside_them() {
    let sources = sources();
    for board in SIGNBOARDS {
        let folder = board.strip_suffix("mod").unwrap_or("");
        let beside: BTreeSet<&str> = sources
            .keys()
            .filter(|file| *file != board)
            .filter_map(|file| match folder {
                "" => file.strip_suffix("/mod").or(Some(file)),
                _ => file.strip_prefix(folder),
            })
            .filter(|name| !name.contains('/'))
            .collect();
        assert_eq!(declared(&sources[*board]), beside, "{board}.rs");
    }
}

#[test]
fn the_drawn_maps_name_every_module_and_no_other() {
    let sources = sources();
    for board in ["lib", "ground/mod", "keyed/mod", "periodic/mod"] {
        let text = &sources[board];
        let drawn: Vec<&str> = drawing(text).iter().map(|row| row[0]).collect();
        let once: BTreeSet<&str> = drawn.iter().copied().collect();
        assert_eq!(once, declared(text), "the map of {board}.rs");
        assert_eq!(once.len(), drawn.len(), "twice in {board}.rs: {drawn:?}");
    }

    let text = &sources["sched/mod"];
    let drawn = drawing(text);
    let rows = drawn.iter().map(|row| (row[0], &row[1..]));
    let rows = rows.map(|(floor, files)| {
        let files = files.iter().map(|name| format!("sched/{name}"));
        (floor.to_owned(), files.collect())
    });
    assert_eq!(rows.collect::<Vec<_>>(), table("sched/", "sched's "));
}

#[test]
fn the_map_of_the_contributing_guide_is_the_floor_table() {
    let guide = read(&root().join("CONTRIBUTING.md"));
    let rows = guide.lines().filter_map(|line| {
        let mut cells = line.strip_prefix('|')?.split('|').map(str::trim);
        let (floor, files) = (cells.next()?, cells.next()?);
        let (folder, names) = files
            .strip_prefix('`')?
            .strip_suffix("}`")?
            .split_once('{')?;
        let files = names.split(',').map(|name| format!("{folder}{name}"));
        Some((floor.to_owned(), files.collect()))
    });
    assert_eq!(rows.collect::<Vec<_>>(), table("", ""));
}

/// The floors that have files below `folder`, from the top down.
fn table(folder: &str, prefix: &str) -> Vec<(String, BTreeSet<String>)> {
    let floors = FLOORS.iter().rev().map(|(floor, files)| {
        let files = files.iter().filter(|file| file.starts_with(folder));
        let floor = floor.strip_prefix(prefix).unwrap_or(floor);
        (
            floor.to_owned(),
            files.map(|file| file.to_string()).collect(),
        )
    });
    floors
        .filter(|(_, files): &(_, BTreeSet<_>)| !files.is_empty())
        .collect()
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
use crate::{ground::{ten}, sched::eleven as other, sched};
use super::{self, *};
// use super::comment;
use super::{
    six,
    seven::Eight,
};
fn f() { super::nine::go(); $crate::Job; $crate::sched::twelve::go(); crate::Group; }
fn g() { super::super::up(); my_super::no(); crate::ground::thirteen::go::<u8>() }

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
        "crate::sched",
        "ground/ten",
        "ground/thirteen",
        "ground/three",
        "ground/two",
        "sched/*",
        "sched/eleven",
        A_FACE,
        "sched/last",
        "sched/nine",
        "sched/one",
        "sched/self",
        "sched/seven",
        "sched/six",
        "sched/super",
        "sched/twelve",
        "sched/up",
    ];
    assert_eq!(
        named.iter().map(String::as_str).collect::<Vec<_>>(),
        expected
    );
}
