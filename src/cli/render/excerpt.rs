//! Whole instructions of a Dockerfile, drawn as BuildKit draws them (buildkit `solver/errdefs/source.go`). Pure.
//!
//! ```text
//! Dockerfile:3
//! --------------------
//!    1 |     FROM busybox
//!    2 |     WORKDIR /src
//!    3 | >>> RUN make \
//!    4 | >>>   && make install
//!    5 |     CMD ["x"]
//! --------------------
//! ```

use std::fmt::Write as _;

use unicode_width::UnicodeWidthStr;

use super::table::shorten;
use super::text::visible;
use crate::spec::source::{Source, Span};

/// Above and beneath the lines.
const RULE: &str = "--------------------";

/// Most lines of one instruction that are drawn: a here-document may have thousands. The last few are drawn whatever their number.
const MOST: usize = 40;
const LAST: usize = 5;

/// Draws the lines that `span` touches and those around it, each cut to `columns`; where it is a part of one line, that part is
/// underlined.
pub(super) fn draw(source: &Source, span: Span, columns: usize) -> String {
    let text = source.text.as_str();
    let place = |at: u32| usize::try_from(at).map_or(text.len(), |at| at.min(text.len()));
    let start = text.floor_char_boundary(place(span.start));
    let end = text.ceil_char_boundary(place(span.end)).max(start);
    let marked = text.get(start..end).unwrap_or_default().trim_end();
    let first = source.line(start);
    let last = source.line(start + marked.len());
    let count = text.lines().count().max(1);
    let (from, to) = around(first.number, last.number, count);
    let digits = (to + 1).to_string().len().max(3);
    let path = visible(&source.path.display().to_string());
    let mut drawn = format!("{path}:{}\n{RULE}\n", first.number + 1);
    let left_out = left_out(first.number, last.number);
    for (number, line) in text.lines().enumerate().take(to + 1).skip(from) {
        if left_out.contains(&number) {
            if number == left_out.start {
                let more = left_out.len();
                // Writing to a string cannot fail.
                let _infallible = writeln!(drawn, " {:digits$} | >>> … {more} more lines", "");
            }
            continue;
        }
        let is_marked = (first.number..=last.number).contains(&number);
        let mark = if is_marked { ">>>" } else { "   " };
        let row = format!(" {:digits$} | {mark} {}", number + 1, plain(line));
        let _infallible = writeln!(drawn, "{}", shorten(row.trim_end(), columns));
    }
    // Beneath the only line, so that nothing comes between them.
    let whole = text.get(first.range.clone()).unwrap_or_default();
    let before = text.get(first.range.start..start).unwrap_or_default();
    if first.number == last.number && !marked.is_empty() && marked != whole.trim() {
        let (skip, wide) = (plain(before).width(), plain(marked).width());
        let under = format!(" {:digits$} |     {:skip$}{}", "", "", "^".repeat(wide));
        if under.width() <= columns {
            insert_after(&mut drawn, first.number - from + 2, &under);
        }
    }
    drawn.push_str(RULE);
    drawn.push('\n');
    drawn
}

/// Makes one line of what stands in a file: tabs are drawn as spaces, so that what is beneath a character stays there.
fn plain(line: &str) -> String {
    visible(&line.replace('\t', "    "))
}

/// Returns which lines are drawn, from and to (from 0): those of the instruction, and two to four more where there are any.
fn around(first: usize, last: usize, count: usize) -> (usize, usize) {
    let wanted = if first == last { 4 } else { 2 };
    let (mut from, mut to, mut more) = (first, last.min(count - 1).max(first), 0);
    while more < wanted {
        if from > 0 {
            from -= 1;
            more += 1;
        }
        if to + 1 < count {
            to += 1;
            more += 1;
        }
        more += 1;
    }
    (from, to)
}

/// Returns the lines in the midst of a long instruction that are not drawn.
fn left_out(first: usize, last: usize) -> std::ops::Range<usize> {
    if last - first < MOST {
        return last..last;
    }
    first + MOST - LAST..last + 1 - LAST
}

/// Puts a line behind the first `lines` ones.
fn insert_after(text: &mut String, lines: usize, line: &str) {
    let before = text.split_inclusive('\n').take(lines + 1);
    let at = before.map(str::len).sum();
    text.insert_str(at, &format!("{line}\n"));
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use insta::assert_snapshot;

    use super::*;

    fn drawn(text: &str, part: &str) -> String {
        let source = Source::new(PathBuf::from("Dockerfile"), text.to_owned());
        let start = text.find(part).unwrap();
        let place = |at: usize| u32::try_from(at).unwrap();
        let span = Span {
            start: place(start),
            end: place(start + part.len()),
            ..Span::default()
        };
        draw(&source, span, 60)
    }

    #[test]
    fn every_line_of_an_instruction_is_marked() {
        let text =
            "FROM busybox\nWORKDIR /src\nRUN make \\\n\t&& make install\nCMD [\"x\"]\n\nUSER a\n";
        assert_snapshot!(drawn(text, "RUN make \\\n\t&& make install\n"), @r#"
        Dockerfile:3
        --------------------
           2 |     WORKDIR /src
           3 | >>> RUN make \
           4 | >>>     && make install
           5 |     CMD ["x"]
        --------------------
        "#);
        assert_snapshot!(drawn(text, "FROM busybox"), @r#"
        Dockerfile:1
        --------------------
           1 | >>> FROM busybox
           2 |     WORKDIR /src
           3 |     RUN make \
        --------------------
        "#);
        assert_snapshot!(drawn(text, "/src"), @r#"
        Dockerfile:2
        --------------------
           1 |     FROM busybox
           2 | >>> WORKDIR /src
             |             ^^^^
           3 |     RUN make \
           4 |         && make install
        --------------------
        "#);
        assert_snapshot!(drawn("FROM a", "FROM a"), @r"
        Dockerfile:1
        --------------------
           1 | >>> FROM a
        --------------------
        ");
        assert_snapshot!(drawn("", ""), @r"
        Dockerfile:1
        --------------------
        --------------------
        ");
    }

    #[test]
    fn what_is_long_is_cut() {
        let body: String = (0..1200).map(|number| format!("line {number}\n")).collect();
        let text = format!("FROM a\nRUN <<E\n{body}E\n{}\n", "x".repeat(100));
        let shown = drawn(&text, &format!("RUN <<E\n{body}E\n"));
        assert_eq!(shown.lines().count(), 3 + MOST + 1 + 2, "{shown}");
        assert!(
            shown.contains("\n      | >>> … 1162 more lines\n"),
            "{shown}"
        );
        assert!(
            shown.contains("\n 1203 | >>> E\n 1204 |     xxxx"),
            "{shown}"
        );
        assert!(shown.lines().all(|line| line.width() <= 60), "{shown}");
    }
}
