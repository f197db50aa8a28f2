//! Whole commands: arguments, output and exit codes of the binary itself, where no container is needed.

#![expect(clippy::unwrap_used, reason = "a test's helpers")]

#[path = "cli/command.rs"]
mod command;
#[path = "cli/config.rs"]
mod config;
#[path = "cli/errors.rs"]
mod errors;
#[path = "cli/help.rs"]
mod help;
#[path = "cli/streams.rs"]
mod streams;
#[path = "cli/usage.rs"]
mod usage;
