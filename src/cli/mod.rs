//! The command line: arguments, one small file a command, rendering. Decides nothing about containers.
//!
//! ```text
//! argv ─args─> Cli ─context─> Context (+ environment, directory, Printer) ─commands─> engine ─events─> render
//! ```
//!
//! Reading order: `args.rs` (what may be typed; `later.rs`: what is not supported yet), `context.rs` (what commands
//! start from), `commands/` (one each), `signals.rs` (interrupts), `render/` (the one door to the terminal),
//! `failure.rs` (exit codes). Nothing here knows how a container is made; nothing but `context.rs` reads the
//! environment; nothing but `render/` writes to the terminal. `time.rs` has times as people write and read them.

mod args;
mod commands;
mod context;
mod failure;
mod files;
mod later;
mod render;
mod signals;
mod time;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches};

use args::{AnsiArg, Cli};
use context::{Context, read_environment};
use failure::CliError;
use render::Printer;
use render::progress::ProgressMode;

/// Runs the command that `argv` asks for, the program's own name first.
///
/// Exit codes: 0 done, 1 failed, 2 usage, 130 interrupted, else the container's.
pub fn run(argv: impl IntoIterator<Item = OsString>) -> ExitCode {
    let environment = read_environment();
    let early = Printer::standard(AnsiArg::Auto, &environment);
    let matches = match later::extend(Cli::command()).try_get_matches_from(argv) {
        Ok(matches) => matches,
        Err(error) => return show_usage(&early, &error),
    };
    if let Some(error) = later::find(&matches) {
        return end(&early, ProgressMode::Plain, error);
    }
    let cli = match Cli::from_arg_matches(&matches) {
        Ok(cli) => cli,
        Err(error) => return show_usage(&early, &error),
    };
    let context = match Context::gather(cli.global, environment, cli.command.is_build()) {
        Ok(context) => context,
        Err(error) => return end(&early, ProgressMode::Plain, error),
    };
    let result = context
        .check_settings()
        .and_then(|()| commands::run(&context, cli.command))
        .and_then(|()| context.flush());
    context.leave();
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => end(&context.printer, context.progress, error),
    }
}

/// Says why and returns with what exit code; what was already written still goes out.
fn end(printer: &Printer, progress: ProgressMode, error: CliError) -> ExitCode {
    // A failure to write is told only where nothing else is.
    let error = match (printer.flush(), &error) {
        (Err(flush), CliError::Ended(0)) => CliError::Output(flush),
        _ => error,
    };
    error.report(printer, progress);
    ExitCode::from(error.exit_code())
}

/// Writes help to standard output, and what is wrong with the arguments to standard error.
fn show_usage(printer: &Printer, error: &clap::Error) -> ExitCode {
    let text = error.render();
    if error.use_stderr() {
        let text = if printer.err_look.colour {
            text.ansi().to_string()
        } else {
            text.to_string()
        };
        printer.err(text);
        return ExitCode::from(2);
    }
    let text = if printer.out_look.colour {
        text.ansi().to_string()
    } else {
        text.to_string()
    };
    match printer.out(text).and_then(|()| printer.flush()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => ExitCode::from(CliError::Output(error).exit_code()),
    }
}
