//! Standard output is for what was asked; a reader that goes away is success.

use std::process::Stdio;

use insta::assert_snapshot;

use crate::command::{run, shown, stack};

#[test]
fn the_version_has_three_forms() {
    let shown: String = [
        &["version"][..],
        &["version", "--short"],
        &["version", "-f", "json"],
        &["--version"],
        &["-v"],
    ]
    .iter()
    .map(|arguments| run(arguments))
    .collect();
    let shown = shown.replace(env!("CARGO_PKG_VERSION"), "VERSION");
    assert_snapshot!(shown, @r#"
    exit 0
    --- stdout
    stack version VERSION
    exit 0
    --- stdout
    VERSION
    exit 0
    --- stdout
    {"version":"VERSION"}
    exit 0
    --- stdout
    stack version VERSION
    exit 0
    --- stdout
    stack version VERSION
    "#);
}

#[test]
fn a_reader_that_went_away_is_success() {
    for arguments in [&["version"][..], &["--help"], &["up", "--help"]] {
        let directory = tempfile::tempdir().unwrap();
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = stack(directory.path(), arguments)
            .stdout(writer)
            .stderr(Stdio::piped())
            .output()
            .unwrap();
        assert_eq!(
            (output.status.code(), output.stderr.as_slice()),
            (Some(0), &b""[..]),
            "{arguments:?}"
        );
    }
}

#[test]
fn a_full_disk_is_an_error() {
    let directory = tempfile::tempdir().unwrap();
    let full = fs_err::OpenOptions::new()
        .write(true)
        .open("/dev/full")
        .unwrap();
    let mut command = stack(directory.path(), &["version"]);
    command.stdout(full.into_parts().0);
    assert_snapshot!(shown(&mut command), @r"
    exit 1
    --- stderr
    error: write to standard output: No space left on device
    ");
}

#[test]
fn errors_are_json_where_progress_is() {
    let shown = run(&["--progress", "json", "ps"]);
    let line = shown.lines().last().unwrap();
    let value: serde_json::Value = serde_json::from_str(line).unwrap();
    assert_eq!(
        value.get("error"),
        Some(&serde_json::Value::Bool(true)),
        "{line}"
    );
}
