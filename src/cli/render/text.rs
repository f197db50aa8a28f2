//! What must not reach a terminal: names, messages and output come from files, images and containers of others.

use std::fmt::{Display, Write as _};

/// Replaces control characters (but tab and line feed), and those that turn the direction of writing, by their
/// visible escapes.
pub(crate) fn visible(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\n' | '\t' => shown.push(character),
            character if is_harmful(character) => shown.extend(character.escape_unicode()),
            character => shown.push(character),
        }
    }
    shown
}

/// As [`visible`], in one line: what follows a line feed is joined by a space.
pub(crate) fn visible_line(text: &str) -> String {
    let joined = text.split_whitespace().collect::<Vec<_>>().join(" ");
    visible(&joined)
}

/// Takes the numbers of system errors away, which the standard library writes behind their words: ` (os error 13)`.
pub(crate) fn without_numbers(text: &str) -> String {
    const BEGIN: &str = " (os error ";
    let mut parts = text.split(BEGIN);
    let mut kept = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        match part.split_once(')') {
            Some((number, rest)) if number.bytes().all(|byte| byte.is_ascii_digit()) => {
                kept.push_str(rest);
            }
            _ => {
                kept.push_str(BEGIN);
                kept.push_str(part);
            }
        }
    }
    kept
}

/// Joins values, each in a line of its own.
pub(crate) fn lines<T: Display>(values: impl IntoIterator<Item = T>) -> String {
    let mut text = String::new();
    for value in values {
        // Writing to a string cannot fail.
        let _infallible = writeln!(text, "{value}");
    }
    text
}

fn is_harmful(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}')
}

/// Splits one line of a container's output into what a terminal may show: colours (`CSI … m`) and tabs stay; cursor
/// movement, titles, clipboard and other sequences go; a carriage return, which would write over the prefix, begins a
/// new piece. Bytes that are no UTF-8 become U+FFFD. Where colours were set, each piece ends with a reset.
pub(crate) fn sanitize(line: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(line);
    let mut pieces = Vec::new();
    for piece in text.split('\r') {
        let mut shown = String::with_capacity(piece.len());
        let mut coloured = false;
        let mut rest = piece;
        while let Some(character) = rest.chars().next() {
            let after = &rest[character.len_utf8()..];
            match character {
                '\x1b' => {
                    let (sequence, after) = split_escape(rest);
                    if is_colour(sequence) {
                        shown.push_str(sequence);
                        coloured = !matches!(sequence, "\x1b[0m" | "\x1b[m");
                    }
                    rest = after;
                    continue;
                }
                '\t' => shown.push('\t'),
                character if is_harmful(character) => {}
                character => shown.push(character),
            }
            rest = after;
        }
        if coloured {
            shown.push_str("\x1b[0m");
        }
        if !shown.is_empty() {
            pieces.push(shown);
        }
    }
    if pieces.is_empty() {
        pieces.push(String::new());
    }
    pieces
}

/// Returns what a terminal shows in the end of one line of a container's output, where each carriage return begins it anew; without colours.
pub(crate) fn settled(line: &str) -> String {
    let last = sanitize(line.as_bytes()).pop().unwrap_or_default();
    let mut shown = String::with_capacity(last.len());
    let mut rest = last.as_str();
    // Only colours are left.
    while let Some((before, escape)) = rest.split_once('\x1b') {
        shown.push_str(before);
        rest = escape.split_once('m').map_or("", |(_, after)| after);
    }
    shown.push_str(rest);
    shown
}

/// Splits the escape sequence off that `text` begins with (ECMA-48 5.4, 5.6).
fn split_escape(text: &str) -> (&str, &str) {
    let bytes = text.as_bytes();
    let end = match bytes.get(1) {
        // CSI: parameters and intermediates, then one final byte.
        Some(b'[') => bytes
            .iter()
            .skip(2)
            .position(|byte| !(0x20..0x40).contains(byte))
            .map(|index| match bytes[index + 2] {
                0x40..0x7f => index + 3,
                _ => index + 2,
            }),
        // OSC, DCS, SOS, PM, APC: a string up to BEL or ESC \.
        Some(b']' | b'P' | b'X' | b'^' | b'_') => {
            let bell = text.find('\x07').map(|index| index + 1);
            let terminator = text.find("\x1b\\").map(|index| index + 2);
            bell.into_iter().chain(terminator).min()
        }
        Some(0x20..=0x2f) => Some(3),
        Some(0x30..=0x7e) => Some(2),
        _ => Some(1),
    };
    let end = end.unwrap_or(text.len()).min(text.len());
    // Only ASCII was stepped over but for the bytes after intermediates.
    text.split_at_checked(end).unwrap_or((text, ""))
}

fn is_colour(sequence: &str) -> bool {
    sequence
        .strip_prefix("\x1b[")
        .and_then(|rest| rest.strip_suffix('m'))
        .is_some_and(|parameters| {
            parameters
                .bytes()
                .all(|byte| matches!(byte, b'0'..=b'9' | b';' | b':'))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_keeps_its_colours_and_loses_what_moves_the_cursor() {
        let rows: [(&[u8], &[&str]); 14] = [
            (b"plain", &["plain"]),
            (b"", &[""]),
            (b"\ta\tb", &["\ta\tb"]),
            (b"\x1b[31mred\x1b[0m", &["\x1b[31mred\x1b[0m"]),
            (b"\x1b[31mred", &["\x1b[31mred\x1b[0m"]),
            (b"\x1b[2K\x1b[1Acleared", &["cleared"]),
            (b"\x1b]0;title\x07text", &["text"]),
            (b"\x1b]52;c;AAAA\x1b\\text", &["text"]),
            (b"\x1b]0;unfinished", &[""]),
            (b"10%\r20%\r\r30%", &["10%", "20%", "30%"]),
            (b"bell\x07 null\0", &["bell null"]),
            (b"c1 \xc2\x9b31m", &["c1 31m"]),
            (b"broken \xff", &["broken \u{fffd}"]),
            ("\x1b[\u{e9} \x1b\u{e9}\x1b(".as_bytes(), &["\u{e9} \u{e9}"]),
        ];
        for (line, expected) in rows {
            assert_eq!(
                sanitize(line),
                expected,
                "{:?}",
                String::from_utf8_lossy(line)
            );
        }
    }

    #[test]
    fn the_end_of_a_line_is_what_a_terminal_would_show() {
        let rows = [
            ("plain", "plain"),
            ("10%\r20%\r", "20%"),
            ("\x1b[31mred\x1b[0m and \x1b[1;32mgreen", "red and green"),
            ("\x1b[2J\x1b]0;t\x07a\x08b", "ab"),
            ("\r", ""),
        ];
        for (line, expected) in rows {
            assert_eq!(settled(line), expected, "{line:?}");
        }
    }

    #[test]
    fn numbers_of_system_errors_go() {
        let rows = [
            (
                "open `x`: No such file (os error 2): then (os error 13)",
                "open `x`: No such file: then",
            ),
            ("an (os error x) stays", "an (os error x) stays"),
        ];
        for (text, expected) in rows {
            assert_eq!(without_numbers(text), expected);
        }
    }

    #[test]
    fn names_are_shown_with_their_control_characters_escaped() {
        let rows = [
            ("a\tb\nc", "a\tb\nc"),
            ("\x1b[31mred", "\\u{1b}[31mred"),
            ("\u{202e}txt", "\\u{202e}txt"),
            ("grün 日本", "grün 日本"),
        ];
        for (text, expected) in rows {
            assert_eq!(visible(text), expected);
        }
        assert_eq!(visible_line("one\n  two\tthree"), "one two three");
    }
}
