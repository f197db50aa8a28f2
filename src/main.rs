//! The doors: the command line, and the hidden commands that the engine enters by.
//!
//! ```text
//! stack monitor ID …   one container's monitor, before an argument is parsed or a thread is made
//! stack …              the command line
//! ```

use std::process::ExitCode;

fn main() -> ExitCode {
    if std::env::args_os()
        .nth(1)
        .is_some_and(|word| word == "monitor")
    {
        return stack::engine::doors::monitor(std::env::args_os().skip(2));
    }
    stack::sys::heap::share();
    stack::cli::run(std::env::args_os())
}
