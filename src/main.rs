//! The doors: the command line, and the hidden commands that the engine enters by.
//!
//! ```text
//! stack monitor ID …   one container's monitor (engine::doors), before an argument is parsed or a thread made
//! stack …              the command line
//! ```

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os();
    if let Some(code) = doors::enter(arguments.by_ref().skip(1)) {
        return code;
    }
    stack::cli::run(std::env::args_os())
}

/// The hidden commands.
mod doors {
    use std::ffi::OsString;
    use std::process::ExitCode;

    /// Runs the hidden command that the first argument names, if it names one.
    pub(crate) fn enter(mut arguments: impl Iterator<Item = OsString>) -> Option<ExitCode> {
        // To become `stack::engine::doors::monitor(arguments)` once the engine has it.
        (arguments.next()? == "monitor").then_some(ExitCode::FAILURE)
    }
}
