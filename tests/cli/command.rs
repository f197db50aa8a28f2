//! Runs the binary in a directory of its own, with an environment of its own.

use std::path::Path;
use std::process::{Command, Output, Stdio};

/// Prepares `stack` with `arguments` in `directory`.
pub(crate) fn stack(directory: &Path, arguments: &[&str]) -> Command {
    let mut command = program(env!("CARGO_BIN_EXE_stack"), directory);
    command.args(arguments);
    command
}

/// Prepares any program in `directory`.
#[expect(
    clippy::disallowed_methods,
    reason = "the binary under test is a process"
)]
pub(crate) fn program(name: &str, directory: &Path) -> Command {
    let mut command = Command::new(name);
    command
        .current_dir(directory)
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .stdin(Stdio::null());
    command
}

/// Runs it and shows everything that came of it: exit code, standard output, standard error.
pub(crate) fn shown(command: &mut Command) -> String {
    let output = command.output().unwrap();
    show(&output)
}

/// Shows everything that came of a run.
pub(crate) fn show(output: &Output) -> String {
    let part = |name: &str, bytes: &[u8]| match bytes {
        [] => String::new(),
        bytes => format!("--- {name}\n{}", String::from_utf8_lossy(bytes)),
    };
    format!(
        "exit {}\n{}{}",
        output.status.code().unwrap_or(-1),
        part("stdout", &output.stdout),
        part("stderr", &output.stderr)
    )
}

/// Runs `stack` with `arguments` in an empty directory.
pub(crate) fn run(arguments: &[&str]) -> String {
    let directory = tempfile::tempdir().unwrap();
    let shown = shown(&mut stack(directory.path(), arguments));
    shown.replace(directory.path().to_str().unwrap(), "/DIR")
}
