//! The one door to the terminal.
//!
//! Standard output carries what was asked for (lists, the resolved file, logs); standard error carries progress,
//! warnings and errors. What is drawn does not depend on whether a terminal reads it, but for decoration: colours, and
//! lines that are redrawn. A reader that goes away (`stack logs | head`) is success, not an error.
//!
//! ```text
//! mod.rs         Printer: both streams, what each can show
//! text.rs        what must not reach a terminal
//! diagnostic.rs  places in files, error chains, hints
//! table.rs       aligned columns
//! listing.rs     lists by a template of the user's
//! document.rs    JSON in its own order; template/: Go templates over it
//! containers.rs  ps          images.rs  images          system.rs  system
//! progress.rs    events -> live region | lines | JSON; board.rs: what the live region shows
//! changes.rs     one JSON object a change, of `apply`
//! logs.rs        `web-1  | text`
//! watch.rs       what a watch did, a line a batch
//! prompt.rs      questions
//! terminal.rs    raw mode and the relay of `exec`
//! ```

pub(crate) mod board;
pub(crate) mod changes;
pub(crate) mod containers;
pub(crate) mod described;
pub(crate) mod diagnostic;
pub(crate) mod document;
mod excerpt;
pub(crate) mod images;
pub(crate) mod listing;
pub(crate) mod logs;
pub(crate) mod progress;
pub(crate) mod prompt;
mod rawjson;
mod steps;
pub(crate) mod system;
pub(crate) mod table;
pub(crate) mod template;
pub(crate) mod terminal;
pub(crate) mod text;
pub(crate) mod watch;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::{self, BufWriter, IsTerminal, Write};

use anstyle::Style;

use super::args::AnsiArg;

/// What a stream can show.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Look {
    /// A terminal reads it.
    pub(crate) terminal: bool,
    /// Colours may be used.
    pub(crate) colour: bool,
}

/// Both streams of the command.
pub(crate) struct Printer {
    out: RefCell<Box<dyn Write>>,
    err: RefCell<Box<dyn Write>>,
    /// What standard output can show.
    pub(crate) out_look: Look,
    /// What standard error can show.
    pub(crate) err_look: Look,
    /// Whether progress goes to standard output (`COMPOSE_STATUS_STDOUT`).
    pub(crate) status_to_out: bool,
}

impl Printer {
    /// Opens the process's own streams.
    pub(crate) fn standard(ansi: AnsiArg, environment: &BTreeMap<String, String>) -> Self {
        Self {
            out: RefCell::new(Box::new(BufWriter::with_capacity(1 << 16, io::stdout()))),
            err: RefCell::new(Box::new(BufWriter::new(io::stderr()))),
            out_look: look(ansi, environment, io::stdout().is_terminal()),
            err_look: look(ansi, environment, io::stderr().is_terminal()),
            status_to_out: false,
        }
    }

    /// Makes a printer over any two writers.
    #[cfg(test)]
    pub(crate) fn new(out: Box<dyn Write>, err: Box<dyn Write>, look: Look) -> Self {
        Self {
            out: RefCell::new(out),
            err: RefCell::new(err),
            out_look: look,
            err_look: look,
            status_to_out: false,
        }
    }

    /// Writes to standard output; what fails comes out again at the latest with [`Printer::flush`].
    pub(crate) fn out(&self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.out.borrow_mut().write_all(bytes.as_ref())
    }

    /// Hands everything to standard output's reader.
    pub(crate) fn flush(&self) -> io::Result<()> {
        self.out.borrow_mut().flush()
    }

    /// Writes to standard error, after what is already on its way to standard output.
    ///
    /// Standard error that cannot be written is no reason to leave work half done, and there is nobody left to tell.
    pub(crate) fn err(&self, bytes: impl AsRef<[u8]>) {
        let flushed = self.flush();
        let mut err = self.err.borrow_mut();
        let written = err.write_all(bytes.as_ref()).and_then(|()| err.flush());
        drop((flushed, written));
    }

    /// Writes progress.
    pub(crate) fn status(&self, bytes: impl AsRef<[u8]>) {
        if self.status_to_out {
            // A reader that went away has seen enough; the work goes on.
            let _written = self.out(bytes).and_then(|()| self.flush());
        } else {
            self.err(bytes);
        }
    }

    /// What the stream of the progress can show.
    pub(crate) fn status_look(&self) -> Look {
        if self.status_to_out {
            self.out_look
        } else {
            self.err_look
        }
    }

    /// Columns and rows of the terminal behind standard error, where there is one.
    pub(crate) fn size() -> (usize, usize) {
        terminal::size(io::stderr()).map_or((80, 24), |(columns, rows)| {
            (usize::from(columns.max(20)), usize::from(rows.max(2)))
        })
    }
}

/// Decides what a stream can show: `--ansi`, then `NO_COLOR` (no-color.org), `CLICOLOR_FORCE`, `TERM=dumb`, then
/// whether a terminal reads it.
fn look(ansi: AnsiArg, environment: &BTreeMap<String, String>, is_terminal: bool) -> Look {
    let set = |name: &str| environment.get(name).is_some_and(|value| !value.is_empty());
    let forced = set("CLICOLOR_FORCE")
        && environment
            .get("CLICOLOR_FORCE")
            .is_some_and(|value| value != "0");
    let dumb = environment.get("TERM").is_some_and(|term| term == "dumb");
    let colour = match ansi {
        AnsiArg::Never => false,
        AnsiArg::Always => true,
        AnsiArg::Auto if set("NO_COLOR") => false,
        AnsiArg::Auto => forced || (is_terminal && !dumb),
    };
    Look {
        terminal: is_terminal,
        colour,
    }
}

/// Puts `text` in `style` where colours may be used.
pub(crate) fn paint(colour: bool, style: Style, text: &str) -> String {
    if colour && !text.is_empty() {
        format!("{style}{text}{style:#}")
    } else {
        text.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_follow_the_option_then_the_environment_then_the_terminal() {
        type Row = (AnsiArg, &'static [(&'static str, &'static str)], bool, bool);
        let rows: [Row; 9] = [
            (AnsiArg::Auto, &[], true, true),
            (AnsiArg::Auto, &[], false, false),
            (AnsiArg::Auto, &[("NO_COLOR", "1")], true, false),
            (AnsiArg::Auto, &[("NO_COLOR", "")], true, true),
            (
                AnsiArg::Auto,
                &[("NO_COLOR", "1"), ("CLICOLOR_FORCE", "1")],
                false,
                false,
            ),
            (AnsiArg::Auto, &[("CLICOLOR_FORCE", "1")], false, true),
            (AnsiArg::Auto, &[("TERM", "dumb")], true, false),
            (AnsiArg::Always, &[("NO_COLOR", "1")], false, true),
            (AnsiArg::Never, &[("CLICOLOR_FORCE", "1")], true, false),
        ];
        for (ansi, environment, terminal, colour) in rows {
            let environment = environment
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect();
            assert_eq!(
                look(ansi, &environment, terminal),
                Look { terminal, colour },
                "{ansi:?} {environment:?}"
            );
        }
    }
}
