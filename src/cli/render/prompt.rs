//! Questions at the terminal.

use std::io::{self, BufRead};

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

use super::Printer;

/// Asks for a line.
pub(crate) fn ask(printer: &Printer, prompt: &str) -> io::Result<String> {
    printer.err(prompt);
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line)?;
    Ok(line.trim().to_owned())
}

/// Asks for a line that is not shown while it is typed.
pub(crate) fn ask_hidden(printer: &Printer, prompt: &str) -> io::Result<String> {
    let hidden = Hidden::enter()?;
    printer.err(prompt);
    let mut line = String::new();
    let read = io::stdin().lock().read_line(&mut line);
    drop(hidden);
    printer.err("\n");
    read?;
    let line = line.strip_suffix('\n').unwrap_or(&line);
    Ok(line.strip_suffix('\r').unwrap_or(line).to_owned())
}

/// A terminal that does not show what is typed; dropped, it does again.
struct Hidden {
    before: Termios,
}

impl Hidden {
    fn enter() -> io::Result<Self> {
        let stdin = io::stdin();
        let before = tcgetattr(&stdin)?;
        let mut hidden = before.clone();
        hidden.local_modes.remove(LocalModes::ECHO);
        tcsetattr(&stdin, OptionalActions::Flush, &hidden)?;
        Ok(Self { before })
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        // A terminal that hung up has no mode to give back.
        let _restored = tcsetattr(io::stdin(), OptionalActions::Drain, &self.before);
    }
}
