//! Lines that containers wrote, each behind its container's name.
//!
//! ```text
//! web-1    | 10.0.0.3 - - [21/Nov/2026:10:38:00 +0000] "GET / HTTP/1.1" 200 12
//! fetch-1  | hello
//! fetch-1 exited with code 0
//! ```
//!
//! On a terminal, what would move its cursor or change its state is left out (`text.rs`); to anything else the bytes
//! go as they were written.

use std::collections::BTreeMap;

use anstyle::{AnsiColor, Style};
use unicode_width::UnicodeWidthStr;

use super::text::{sanitize, visible};
use super::{Look, paint};
use crate::engine::view::{LogKind, LogLine};

/// Red and yellow are left to errors and warnings.
const COLOURS: [AnsiColor; 8] = [
    AnsiColor::Cyan,
    AnsiColor::Green,
    AnsiColor::Magenta,
    AnsiColor::Blue,
    AnsiColor::BrightCyan,
    AnsiColor::BrightGreen,
    AnsiColor::BrightMagenta,
    AnsiColor::BrightBlue,
];

/// How lines are shown.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LogStyle {
    /// With the container's name.
    pub(crate) prefix: bool,
    /// With the time.
    pub(crate) timestamps: bool,
    /// Names are coloured.
    pub(crate) colour: bool,
}

/// Renders lines; knows every container's name beforehand, so that colours and widths are the same in every run.
pub(crate) struct LogPainter {
    project: String,
    style: LogStyle,
    look: Look,
    width: usize,
    colours: BTreeMap<String, AnsiColor>,
}

impl LogPainter {
    /// Begins with the project's containers: each with its service and its number.
    pub(crate) fn new<'a>(
        project: &str,
        containers: impl Iterator<Item = (&'a str, &'a str, u32)>,
        style: LogStyle,
        look: Look,
    ) -> Self {
        let mut painter = Self {
            project: project.to_owned(),
            style,
            look,
            width: 0,
            colours: BTreeMap::new(),
        };
        painter.learn(containers);
        painter
    }

    /// Learns of further containers.
    pub(crate) fn learn<'a>(&mut self, containers: impl Iterator<Item = (&'a str, &'a str, u32)>) {
        let mut labels: Vec<String> = containers
            .map(|(name, service, number)| self.label(name, service, number))
            .collect();
        labels.sort();
        for label in labels {
            self.know(&label);
        }
    }

    /// Names a container as the prefix does: without the project, unless it has a name of its own.
    pub(crate) fn label(&self, name: &str, service: &str, number: u32) -> String {
        if name == format!("{}-{service}-{number}", self.project) {
            format!("{service}-{number}")
        } else {
            visible(name)
        }
    }

    /// Renders one line, its end included.
    pub(crate) fn render(&mut self, line: &LogLine) -> Vec<u8> {
        let label = self.label(&line.container, &line.service, line.number);
        let colour = self.know(&label);
        let style = Style::new().fg_color(Some(colour.into()));
        match &line.kind {
            LogKind::Exited { code, restarting } => {
                let label = paint(self.style.colour, style, &label);
                let code = code.map_or_else(|| "unknown".to_owned(), |code| code.to_string());
                let restarting = if *restarting { " (restarting)" } else { "" };
                format!("{label} exited with code {code}{restarting}\n").into_bytes()
            }
            LogKind::Text { time, text, .. } => {
                let mut prefix = String::new();
                if self.style.prefix {
                    let padding = " ".repeat(self.width.saturating_sub(label.width()));
                    prefix = paint(self.style.colour, style, &format!("{label}{padding}  |"));
                    prefix.push(' ');
                }
                if self.style.timestamps {
                    prefix.push_str(&visible(time));
                    prefix.push(' ');
                }
                self.pieces(&prefix, text)
            }
        }
    }

    fn pieces(&self, prefix: &str, text: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(prefix.len() + text.len() + 1);
        if !self.look.terminal {
            bytes.extend_from_slice(prefix.as_bytes());
            bytes.extend_from_slice(text);
            bytes.push(b'\n');
            return bytes;
        }
        for piece in sanitize(text) {
            bytes.extend_from_slice(prefix.as_bytes());
            bytes.extend_from_slice(piece.as_bytes());
            bytes.push(b'\n');
        }
        bytes
    }

    /// Returns a label's colour: chosen by the label, the next free one where another container has that already.
    fn know(&mut self, label: &str) -> AnsiColor {
        if let Some(colour) = self.colours.get(label) {
            return *colour;
        }
        let first = hash(label) % COLOURS.len();
        let order =
            || (0..COLOURS.len()).filter_map(|step| COLOURS.get((first + step) % COLOURS.len()));
        let free = order().find(|colour| !self.colours.values().any(|taken| taken == *colour));
        let colour = free
            .or_else(|| order().next())
            .copied()
            .unwrap_or(AnsiColor::Cyan);
        self.width = self.width.max(label.width());
        self.colours.insert(label.to_owned(), colour);
        colour
    }
}

/// FNV-1a: the same in every run and release.
fn hash(text: &str) -> usize {
    let hash = text.bytes().fold(0x811c_9dc5_u32, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    });
    usize::try_from(hash).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;

    use super::*;

    fn line(service: &str, text: &[u8]) -> LogLine {
        LogLine {
            container: format!("hello-{service}-1"),
            service: service.to_owned(),
            number: 1,
            kind: LogKind::Text {
                time: "2026-11-21T10:38:00.123456789Z".to_owned(),
                stderr: false,
                text: text.to_vec(),
            },
        }
    }

    fn exit(code: Option<i32>, restarting: bool) -> LogLine {
        LogLine {
            kind: LogKind::Exited { code, restarting },
            ..line("web", b"")
        }
    }

    fn render(style: LogStyle, look: Look, lines: &[LogLine]) -> String {
        let containers = [
            ("hello-web-1", "web", 1),
            ("hello-fetch-1", "fetch", 1),
            ("own-name", "db", 1),
        ];
        let mut painter = LogPainter::new("hello", containers.into_iter(), style, look);
        let bytes: Vec<u8> = lines.iter().flat_map(|line| painter.render(line)).collect();
        String::from_utf8_lossy(&bytes).replace('\x1b', "^")
    }

    const PLAIN: LogStyle = LogStyle {
        prefix: true,
        timestamps: false,
        colour: false,
    };

    #[test]
    fn prefixes_are_aligned() {
        let own = LogLine {
            container: "own-name".to_owned(),
            ..line("db", b"ready")
        };
        let lines = [
            line("web", b"GET /"),
            line("fetch", b""),
            own,
            exit(Some(0), false),
            exit(Some(1), true),
            exit(None, false),
        ];
        assert_snapshot!(render(PLAIN, Look::default(), &lines), @r"
        web-1     | GET /
        fetch-1   | 
        own-name  | ready
        web-1 exited with code 0
        web-1 exited with code 1 (restarting)
        web-1 exited with code unknown
        ");
        let style = LogStyle {
            timestamps: true,
            prefix: false,
            ..PLAIN
        };
        assert_snapshot!(render(style, Look::default(), &lines[..2]), @r"
        2026-11-21T10:38:00.123456789Z GET /
        2026-11-21T10:38:00.123456789Z
        ");
    }

    #[test]
    fn colours_differ_and_stay() {
        let style = LogStyle {
            colour: true,
            ..PLAIN
        };
        let look = Look {
            terminal: true,
            colour: true,
        };
        let lines = [
            line("web", b"a"),
            line("fetch", b"b"),
            line("later", b"c"),
            line("web", b"d"),
            exit(Some(0), false),
        ];
        assert_snapshot!(render(style, look, &lines), @r"
        ^[94mweb-1     |^[0m a
        ^[32mfetch-1   |^[0m b
        ^[36mlater-1   |^[0m c
        ^[94mweb-1     |^[0m d
        ^[94mweb-1^[0m exited with code 0
        ");
    }

    #[test]
    fn only_a_terminal_is_protected() {
        let lines = [line("web", b"\x1b[2J\x1b[32mok\x1b[0m\r50%\r100%")];
        let terminal = Look {
            terminal: true,
            colour: false,
        };
        assert_snapshot!(render(PLAIN, terminal, &lines), @r"
        web-1     | ^[32mok^[0m
        web-1     | 50%
        web-1     | 100%
        ");
        assert_snapshot!(render(PLAIN, Look::default(), &lines).replace('\r', "<CR>"), @r"
        web-1     | ^[2J^[32mok^[0m<CR>50%<CR>100%
        ");
    }
}
