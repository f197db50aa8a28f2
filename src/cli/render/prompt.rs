//! Questions at the terminal.

use std::io::{self, BufRead};
use std::os::fd::AsFd;

use rustix::termios::{
    LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr,
};

use super::Printer;
use crate::sys::ready::readable;

/// No character is this key (`_POSIX_VDISABLE`).
const DISABLED: u8 = 0;

/// Asks for a line; `None` where `interrupted` comes before it.
pub(crate) async fn ask(
    printer: &Printer,
    prompt: &str,
    interrupted: impl Future,
) -> io::Result<Option<String>> {
    printer.err(prompt);
    let line = line(interrupted).await?;
    Ok(line.map(|line| line.trim().to_owned()))
}

/// Asks for a line that is not shown while it is typed; the terminal shows again what is typed however this ends.
pub(crate) async fn ask_hidden(
    printer: &Printer,
    prompt: &str,
    interrupted: impl Future,
) -> io::Result<Option<String>> {
    let hidden = Hidden::enter()?;
    printer.err(prompt);
    let line = line(interrupted).await;
    drop(hidden);
    printer.err("\n");
    Ok(line?.map(|line| {
        let line = line.strip_suffix('\n').unwrap_or(&line);
        line.strip_suffix('\r').unwrap_or(line).to_owned()
    }))
}

/// Reads a line: a terminal can be read when it has a whole one.
async fn line(interrupted: impl Future) -> io::Result<Option<String>> {
    let stdin = io::stdin();
    tokio::select! {
        biased;
        _ = interrupted => return Ok(None),
        ready = readable(stdin.as_fd()) => ready?,
    }
    let mut line = String::new();
    stdin.lock().read_line(&mut line)?;
    Ok(Some(line))
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
        // What would end or stop this program before it could undo this is a character like any other.
        for key in [SpecialCodeIndex::VQUIT, SpecialCodeIndex::VSUSP] {
            hidden.special_codes[key] = DISABLED;
        }
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
