//! The program as a process, on folders with known sums.
#![forbid(unsafe_code)]

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

fn sums_of(folder: &Path) -> Output {
    let program = Command::new(env!("CARGO_BIN_EXE_md5-pipeline"))
        .arg(folder)
        .output();
    program.expect("the program runs")
}

/// An empty folder of this test.
fn folder(name: &str) -> std::path::PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).expect("a folder");
    folder
}

#[test]
fn all_files_below_a_folder_are_listed_in_the_order_of_their_paths() {
    let root = folder("sums");
    fs::create_dir_all(root.join("b/c")).expect("folders");
    // More than there are tasks at a time. The sums are those of RFC 1321.
    for number in 10..40 {
        fs::write(root.join(format!("b/{number}")), "abc").expect("a file");
    }
    fs::write(root.join("b/c/z"), "message digest").expect("a file");
    fs::write(root.join("a"), "").expect("a file");
    #[cfg(unix)]
    std::os::unix::fs::symlink(root.join("a"), root.join("link")).expect("a link");

    let output = sums_of(&root);
    let mut expected = format!(
        "d41d8cd98f00b204e9800998ecf8427e  {}\n",
        root.join("a").display()
    );
    for number in 10..40 {
        let path = root.join(format!("b/{number}"));
        expected += &format!("900150983cd24fb0d6963f7d28e17f72  {}\n", path.display());
    }
    let last = root.join("b/c/z");
    expected += &format!("f96b697d7cb7938d525a2f31aaf161d0  {}\n", last.display());
    expected += "32 files\n";
    assert_eq!(String::from_utf8_lossy(&output.stdout), expected);
    assert!(output.status.success());
}

#[test]
fn a_file_that_cannot_be_read_ends_the_program_with_its_error() {
    let missing = folder("missing").join("nothing");
    let output = sums_of(&missing);
    assert!(!output.status.success());
    assert!(output.stdout.is_empty(), "no sum is printed");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("NotFound"), "{said}");
}
