//! The maps are true, `tests/README.md`, `docs/guarantees.md`, `docs/siblings.md` and that of `CONTRIBUTING.md`: what they
//! name exists, and no file, family, promise, case, row or fault is missing.
#![forbid(unsafe_code)]

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn tests() -> PathBuf {
    root().join("tests")
}

fn map() -> String {
    fs::read_to_string(tests().join("README.md")).expect("tests/README.md can be read")
}

fn siblings() -> String {
    fs::read_to_string(root().join("docs/siblings.md")).expect("docs/siblings.md can be read")
}

/// The rows of the table below that heading, by their cells, without its head.
fn rows<'a>(map: &'a str, heading: &str) -> Vec<Vec<&'a str>> {
    map.lines()
        .skip_while(|line| *line != heading)
        .skip_while(|line| !line.starts_with("|-"))
        .skip(1)
        .map_while(|line| line.strip_prefix('|'))
        .map(|row| row.split('|').map(str::trim).collect())
        .collect()
}

/// What stands between backticks and is a path of names.
fn named(text: &str) -> impl Iterator<Item = Vec<&str>> {
    text.split('`')
        .skip(1)
        .step_by(2)
        .map(|quoted| quoted.split("::").collect::<Vec<_>>())
        .filter(|path| path.len() > 1)
}

/// The text of a test crate or of a module in one, if there is such a file.
fn source(path: &[&str]) -> Option<String> {
    let path = tests().join(path.join("/"));
    let alone = path.with_extension("rs");
    let file = if alone.exists() {
        alone
    } else {
        path.join("main.rs")
    };
    fs::read_to_string(file).ok()
}

/// Is there a test of that path? The modules before its name are files, and then modules in one.
fn is_test(path: &[&str]) -> bool {
    let Some((name, modules)) = path.split_last() else {
        return false;
    };
    (1..=modules.len()).rev().any(|files| {
        let (file, inner) = modules.split_at(files);
        source(file).is_some_and(|text| {
            let inner = inner
                .iter()
                .all(|name| text.contains(&format!("mod {name} {{")));
            inner && has_test(&text, name)
        })
    })
}

/// Does that text hold a test of that name?
fn has_test(text: &str, name: &str) -> bool {
    let mut above = "";
    text.lines().map(str::trim_start).any(|line| {
        let declares = ["fn ", "async fn "].iter().any(|start| {
            line.strip_prefix(start)
                .and_then(|rest| rest.strip_prefix(name))
                .is_some_and(|rest| rest.starts_with("()"))
        });
        let is_test = above.starts_with("#[test]") || above.starts_with("#[tokio::test");
        above = line;
        declares && is_test
    })
}

#[test]
fn every_test_and_module_that_is_named_exists() {
    let map = map();
    let (mut found, mut missing) = (0, Vec::new());
    for path in named(&map).filter(|path| *path != ["file", "name"] && *path != ["Duration", "MAX"])
    {
        found += 1;
        if !is_test(&path) && source(&path).is_none() {
            missing.push(path.join("::"));
        }
    }
    assert!(found > 80, "only {found} names were found");
    assert!(missing.is_empty(), "named, but not there: {missing:?}");
}

/// The number that each row of the table begins with, and the first thing it names.
fn numbered(heading: &str) -> Vec<(u32, String)> {
    let map = map();
    let rows = rows(&map, heading).into_iter().map(|cells| {
        let number = cells[0]
            .split(' ')
            .next()
            .and_then(|word| word.parse().ok());
        let first = named(cells[1]).next().map(|path| path.join("::"));
        (
            number.unwrap_or_else(|| panic!("no number: {cells:?}")),
            first.unwrap_or_else(|| panic!("names nothing: {cells:?}")),
        )
    });
    rows.collect()
}

#[test]
fn each_promise_has_its_module() {
    let promises = numbered("## The promises");
    let numbers = promises.iter().map(|(number, _)| *number);
    assert!(numbers.eq(1..=19), "{promises:?}");
    for (number, module) in &promises {
        let begin = format!("promises::p{number:02}_");
        assert!(module.starts_with(&begin), "{number} is in {module}");
    }
    let main = source(&["promises"]).expect("tests/promises.rs can be read");
    for (_, module) in promises {
        let name = module.trim_start_matches("promises::");
        assert!(main.contains(&format!("mod {name};")), "{name} is not run");
    }
}

#[test]
fn each_promise_names_its_files_of_tests() {
    let guarantees = fs::read_to_string(root().join("docs/guarantees.md"))
        .expect("docs/guarantees.md can be read");
    let promises: Vec<&str> = guarantees.split("\n## ").skip(1).collect();
    assert_eq!(promises.len(), 19);
    for (number, promise) in (1..).zip(promises) {
        assert!(promise.starts_with(&format!("{number}. ")), "{promise}");
        let files: Vec<&str> = promise.split("](../").skip(1).collect();
        assert!(!files.is_empty(), "{number} names no file");
        for file in files {
            let file = file.split(')').next().expect("split gives at least one");
            assert!(root().join(file).exists(), "{number}: {file}");
        }
    }
}

/// `CONTRIBUTING.md` names each file of the crate, or its folder.
#[test]
fn each_file_of_the_crate_is_in_the_contributing_guide() {
    let guide =
        fs::read_to_string(root().join("CONTRIBUTING.md")).expect("CONTRIBUTING.md can be read");
    let named: BTreeSet<&str> = rows(&guide, "What each file holds, in `src`:")
        .iter()
        .flat_map(|cells| cells[0].split('`').skip(1).step_by(2))
        .collect();
    for name in &named {
        assert!(root().join("src").join(name).exists(), "no src/{name}");
    }
    let (mut folders, mut files) = (vec![root().join("src")], 0);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("src can be listed") {
            let path = entry.expect("src can be listed").path();
            let name = path.strip_prefix(root().join("src")).expect("it is in src");
            let name = name.display().to_string();
            if path.is_dir() && !named.contains(format!("{name}/").as_str()) {
                folders.push(path);
            } else if path.is_file() && !name.ends_with("mod.rs") && name != "lib.rs" {
                assert!(named.contains(name.as_str()), "src/{name} is in no row");
                files += 1;
            }
        }
    }
    assert!(files > 50, "only {files} files were found");
}

#[test]
fn each_case_has_a_test() {
    let cases = numbered("## The cases");
    assert!(
        cases.iter().map(|(number, _)| *number).eq(1..=48),
        "{cases:?}"
    );
    let tests = cases.iter().map(|(_, test)| test).collect::<BTreeSet<_>>();
    assert_eq!(tests.len(), cases.len(), "a test stands for two cases");
}

/// The first cell of each row below that heading of `docs/siblings.md`; its last one names tests, all of
/// which exist.
fn proved(heading: &str) -> Vec<String> {
    let page = siblings();
    let rows = rows(&page, heading).into_iter().map(|cells| {
        let proof = cells.iter().rfind(|cell| !cell.is_empty());
        let proofs: Vec<_> = proof.into_iter().flat_map(|cell| named(cell)).collect();
        assert!(!proofs.is_empty(), "no test proves {cells:?}");
        for path in proofs {
            assert!(is_test(&path), "no test: {path:?}, of {:?}", cells[0]);
        }
        cells[0].to_owned()
    });
    rows.collect()
}

#[test]
fn each_row_of_the_siblings_has_its_tests() {
    let headings = [
        "## errgroup and its extensions",
        "## Sized groups",
        "## gollback and Hunch",
        "## conc",
    ];
    let rows: Vec<_> = headings.into_iter().flat_map(proved).collect();
    let numbers = (24..=63).map(|number: u32| number.to_string());
    assert!(numbers.eq(rows.iter().cloned()), "{rows:?}");
}

#[test]
fn each_fault_of_the_go_systems_has_its_test() {
    let faults: BTreeSet<_> = proved("## The faults").into_iter().collect();
    let page = siblings();
    let untested = page
        .split("\nThree have no test")
        .nth(1)
        .expect("they are told");
    for (system, count) in [
        ("XS", 9),
        ("KR", 7),
        ("NE", 8),
        ("FB", 4),
        ("SY", 9),
        ("GB", 5),
        ("HU", 6),
        ("GW", 4),
        ("CO", 7),
    ] {
        for number in 1..=count {
            let fault = format!("F-{system}{number}");
            // The list has no such number.
            if fault == "F-XS8" {
                continue;
            }
            let told = faults.contains(&fault) || untested.contains(&format!("{fault} "));
            assert!(told, "nothing is said of {fault}");
        }
    }
}

#[test]
fn the_reader_tells_tests_from_other_functions() {
    let text = "#[test]\nfn one() {}\nfn two() {}\n    #[tokio::test(start_paused = true)]\n    async fn three() {";
    let names = ["one", "two", "three", "on"];
    assert_eq!(
        names.map(|name| has_test(text, name)),
        [true, false, true, false]
    );
}

/// The rows of a table that tells a test, or after a dash why there is none.
fn told(heading: &str, last: u32) {
    let map = map();
    let rows = rows(&map, heading);
    let numbers = rows.iter().map(|cells| {
        let number = cells[0].split(' ').next();
        number.and_then(|word| word.parse::<u32>().ok())
    });
    assert!(
        numbers.eq((1..=last).map(Some)),
        "{heading}: a row is missing"
    );
    for cells in rows {
        let is_told = cells[1].starts_with("– ") || named(cells[1]).next().is_some();
        assert!(is_told, "{heading}: {cells:?}");
    }
}

#[test]
fn each_test_of_another_system_has_a_test_here_or_a_reason() {
    told("## Tests of other systems", 97);
}

#[test]
fn each_fault_has_a_test_or_a_reason() {
    told("## The faults", 34);
}

/// The names in that folder, without `.rs`.
fn names(folder: PathBuf) -> BTreeSet<String> {
    let entries = fs::read_dir(folder).expect("the folder can be read");
    let names = entries.map(|entry| entry.expect("it can be read").file_name());
    names
        .map(|name| name.to_string_lossy().trim_end_matches(".rs").to_owned())
        .filter(|name| !name.contains('.'))
        .collect()
}

#[test]
fn each_file_and_folder_of_tests_is_told() {
    let map = map();
    let tables = ["# Where each promise is tested", BESIDE];
    let told: BTreeSet<_> = tables
        .into_iter()
        .flat_map(|heading| rows(&map, heading))
        .flat_map(|cells| cells[0].split('`').skip(1).step_by(2))
        .map(str::to_owned)
        .collect();
    assert_eq!(told, names(tests()));
}

/// The line above the table of the workspaces.
const BESIDE: &str =
    "Beside them, in workspaces of their own (`CONTRIBUTING.md` has the commands):";

#[test]
fn each_family_has_its_promises_and_each_of_them_a_test() {
    let map = map();
    let folders = names(root().join("src")).into_iter();
    let folders = folders.filter(|name| root().join("src").join(name).is_dir());
    // The scheduling group has tables of its own.
    let elsewhere = ["common", "sched"];
    let families: Vec<_> = folders
        .filter(|name| !elsewhere.contains(&name.as_str()))
        .collect();
    assert!(families.len() >= 3, "{families:?}");
    for family in families {
        let promises = rows(&map, &format!("### `{family}`"));
        assert!(promises.len() > 5, "{family} promises {promises:?}");
        for cells in promises {
            let tests: Vec<_> = named(cells[1]).collect();
            assert!(!tests.is_empty(), "{family}: no test of {cells:?}");
            for path in tests {
                assert!(is_test(&path), "{family}: no test: {path:?}");
            }
        }
    }
}
