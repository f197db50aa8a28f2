//! Errors and warnings: with a place, its excerpt and what to do where a file is at fault, else the chain of causes in
//! one line.
//!
//! ```text
//! error: unknown key `volume` in service `web`
//!  --> compose.yaml:9:5
//!   |
//! 9 |     volume: data
//!   |     ^^^^^^
//!   |
//!   = help: did you mean `volumes`?
//!
//! error: start `hello-web-1`: mount `/data`: no such file or directory
//! help: create the directory, or use a named volume
//! ```

use std::fmt::Write as _;
use std::ops::Range;

use annotate_snippets::{Annotation, AnnotationKind, Group, Level, Origin, Renderer, Snippet};
use anstyle::{AnsiColor, Style};

use super::text::{settled, visible, without_numbers};
use super::{Printer, excerpt, paint};
use crate::engine::event::Remark;
use crate::spec::source::{Source, SourceId, Sources, Span};
use crate::spec::{Diagnostic, Severity};

/// Bytes of a line from which on only a part of it is drawn, and how many are drawn on each side of the place.
const LONG_LINE: usize = 2_000;
const AROUND: usize = 120;

/// Lines between two places of one file that are still drawn as one excerpt.
const NEAR_LINES: usize = 20;

/// Columns of an excerpt where no terminal says how many it has.
const COLUMNS: usize = 140;

/// How excerpts are drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Drawing {
    /// Whether colours may be used.
    pub(crate) colour: bool,
    /// How wide a line may be; longer ones are cut around the place that they are shown for.
    pub(crate) columns: usize,
}

impl Drawing {
    /// As standard error shows it.
    pub(crate) fn on(printer: &Printer) -> Self {
        let look = printer.err_look;
        Self {
            colour: look.colour,
            columns: if look.terminal {
                Printer::size().0
            } else {
                COLUMNS
            },
        }
    }

    /// As wide as no terminal asks otherwise, without colours.
    pub(crate) fn plain() -> Self {
        Self {
            colour: false,
            columns: COLUMNS,
        }
    }
}

/// Renders every diagnostic of a load, each with an empty line after it.
pub(crate) fn render_all(
    diagnostics: &[Diagnostic],
    sources: &Sources,
    drawing: Drawing,
) -> String {
    let mut text = String::new();
    for diagnostic in diagnostics {
        text.push_str(&render(diagnostic, sources, drawing));
        text.push_str("\n\n");
    }
    text.truncate(text.trim_end_matches('\n').len());
    if !text.is_empty() {
        text.push('\n');
    }
    text
}

/// Renders one error and its causes as `error: a: b: c`, then a line a hint.
///
/// A cause whose words the message before it already ends with is not repeated.
pub(crate) fn render_chain(
    error: &dyn std::error::Error,
    hints: &[String],
    colour: bool,
) -> String {
    render_message("error", &chain(error), hints, colour)
}

pub(crate) use crate::engine::chain;

/// Renders `error: message` or `warning: message`, then a line a hint. Lines after a message's first are indented.
pub(crate) fn render_message(level: &str, message: &str, hints: &[String], colour: bool) -> String {
    let colours = match level {
        "error" => AnsiColor::BrightRed,
        _ => AnsiColor::Yellow,
    };
    let level = paint(
        colour,
        Style::new().bold().fg_color(Some(colours.into())),
        level,
    );
    let message = visible(without_numbers(message).trim_end()).replace('\n', "\n    ");
    let mut text = format!("{level}: {message}\n");
    text.push_str(&render_hints(hints, colour));
    text
}

/// Renders a line a hint.
pub(crate) fn render_hints(hints: &[String], colour: bool) -> String {
    let mut text = String::new();
    for hint in hints {
        let help = paint(
            colour,
            Style::new()
                .bold()
                .fg_color(Some(AnsiColor::BrightCyan.into())),
            "help",
        );
        // Writing to a string cannot fail.
        let _infallible = writeln!(text, "{help}: {}", visible(hint).replace('\n', "\n    "));
    }
    text
}

/// Renders what is not wise in a file, with its lines, and an empty line after it.
pub(crate) fn render_remark(remark: &Remark, drawing: Drawing) -> String {
    let (source, span) = place_of(remark);
    let sources = Sources {
        files: vec![source],
    };
    let diagnostic = Diagnostic {
        whole_lines: true,
        ..Diagnostic::warning(span, remark.to_string())
    };
    format!("{}\n\n", render(&diagnostic, &sources, drawing))
}

/// Renders one finding of a check: rule, where that is explained, what it says, and the lines.
pub(crate) fn render_finding(remark: &Remark, url: &str, drawing: Drawing) -> String {
    let warning = paint(
        drawing.colour,
        Style::new().bold().fg_color(Some(AnsiColor::Yellow.into())),
        "WARNING",
    );
    let (source, span) = place_of(remark);
    let lines = excerpt::draw(&source, span, drawing.columns);
    let message = visible(&remark.message);
    format!("{warning}: {} - {url}\n{message}\n{lines}", remark.rule)
}

/// Returns the file of a remark, and the place in it.
fn place_of(remark: &Remark) -> (Source, Span) {
    let place = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
    let span = Span {
        start: place(remark.range.0),
        end: place(remark.range.1),
        ..Span::default()
    };
    (Source::new(remark.path.clone(), remark.text.clone()), span)
}

fn render(diagnostic: &Diagnostic, sources: &Sources, drawing: Drawing) -> String {
    let colour = drawing.colour;
    let (level, word) = match diagnostic.severity {
        Severity::Error => (Level::ERROR, "error"),
        Severity::Warning => (Level::WARNING, "warning"),
    };
    if let (true, Some(span)) = (diagnostic.whole_lines, diagnostic.span)
        && let Some(source) = sources.get(span.source)
    {
        return instruction(
            diagnostic,
            &excerpt::draw(source, span, drawing.columns),
            word,
            colour,
        );
    }
    let primary = diagnostic
        .span
        .and_then(|span| Mark::new(sources, span, diagnostic.label.as_deref(), true));
    let Some(primary) = primary else {
        let text = render_message(word, &diagnostic.message, &diagnostic.hints, colour);
        return text.trim_end().to_owned();
    };
    let notes = diagnostic.notes.iter();
    let notes = notes.filter_map(|(span, text)| Mark::new(sources, *span, Some(text), false));
    let mut frames: Vec<Frame<'_>> = Vec::new();
    for mark in std::iter::once(primary).chain(notes) {
        match frames.iter_mut().find(|frame| frame.is_near(&mark)) {
            Some(frame) => frame.add(mark),
            None => frames.push(Frame::new(mark)),
        }
    }
    let mut group =
        Group::with_title(level.primary_title(visible(&without_numbers(&diagnostic.message))));
    for frame in &frames {
        if let Some(origin) = frame.origin() {
            group = group.element(origin);
        }
        group = group.element(frame.snippet());
    }
    if !diagnostic.output.is_empty() {
        let lines: Vec<String> = diagnostic.output.iter().map(|line| settled(line)).collect();
        let output = format!("its output ends with\n{}", lines.join("\n"));
        group = group.element(Level::NOTE.message(output));
    }
    group = group.elements(
        diagnostic
            .hints
            .iter()
            .map(|hint| Level::HELP.message(visible(hint))),
    );
    let renderer = if colour {
        Renderer::styled()
    } else {
        Renderer::plain()
    };
    renderer.term_width(drawing.columns).render(&[group])
}

/// Renders what is said of a whole instruction, whose lines are drawn already.
fn instruction(diagnostic: &Diagnostic, lines: &str, word: &str, colour: bool) -> String {
    let mut text = render_message(word, &diagnostic.message, &[], colour);
    text.push_str(lines);
    if !diagnostic.output.is_empty() {
        text.push_str(&paint(colour, Style::new().bold(), "its output ends with"));
        text.push_str(":\n");
        for line in &diagnostic.output {
            // Writing to a string cannot fail.
            let _infallible = writeln!(text, "{}", settled(line));
        }
    }
    text.push_str(&render_hints(&diagnostic.hints, colour));
    text.trim_end().to_owned()
}

/// One marked place: a part of one line.
struct Mark<'a> {
    id: SourceId,
    source: &'a Source,
    /// Bytes of the text, on character boundaries, within one line.
    range: Range<usize>,
    /// Bytes of the text that its line has, or of the part of it that is drawn.
    line: Range<usize>,
    /// Its first character's place in its line, from 0, where only a part of the line is drawn.
    column: Option<usize>,
    /// Number of that line, from 0.
    number: usize,
    label: Option<&'a str>,
    primary: bool,
}

/// One excerpt: neighbouring lines of one file, with at least one mark.
struct Frame<'a> {
    marks: Vec<Mark<'a>>,
}

impl<'a> Mark<'a> {
    /// Finds the place. Spans are clamped here and nowhere else: to the text, to characters, and to the first line
    /// that they touch (`annotate_snippets` panics on a span that cuts a character or leaves the text).
    fn new(
        sources: &'a Sources,
        span: Span,
        label: Option<&'a str>,
        primary: bool,
    ) -> Option<Self> {
        let source = sources.get(span.source)?;
        let text = source.text.as_str();
        let start = text.floor_char_boundary(usize::try_from(span.start).ok()?);
        let line = source.line(start);
        let mut drawn = line.range.clone();
        if let Some(rest) = text.get(start..drawn.end) {
            drawn.end = start + rest.trim_end_matches('\r').len();
        }
        let mut column = None;
        if line.range.len() > LONG_LINE {
            column = Some(source.characters(line.range.start..start));
            let after = text.ceil_char_boundary(start + AROUND);
            let before = text.floor_char_boundary(start.saturating_sub(AROUND));
            drawn = before.max(drawn.start)..after.min(drawn.end);
        }
        let end = text
            .ceil_char_boundary(usize::try_from(span.end).ok()?)
            .clamp(start, drawn.end);
        Some(Self {
            id: span.source,
            source,
            range: start..end,
            line: drawn,
            column,
            number: line.number,
            label,
            primary,
        })
    }
}

impl<'a> Frame<'a> {
    fn new(mark: Mark<'a>) -> Self {
        Self { marks: vec![mark] }
    }

    fn is_near(&self, mark: &Mark<'_>) -> bool {
        let mut others = self.marks.iter();
        let is_cut = others
            .clone()
            .chain([mark])
            .any(|mark| mark.column.is_some());
        !is_cut
            && others.any(|other| {
                other.id == mark.id && other.number.abs_diff(mark.number) <= NEAR_LINES
            })
    }

    fn add(&mut self, mark: Mark<'a>) {
        self.marks.push(mark);
    }

    /// Returns the place of a part of a line: the excerpt cannot tell it.
    fn origin(&self) -> Option<Origin<'static>> {
        let mark = self.marks.first()?;
        let column = mark.column?;
        let path = visible(&mark.source.path.display().to_string());
        Some(
            Origin::path(path)
                .line(mark.number + 1)
                .char_column(column + 1),
        )
    }

    /// Cuts the window of lines out of the file and moves the marks into it.
    fn snippet(&self) -> Snippet<'a, Annotation<'a>> {
        let lines = || self.marks.iter().map(|mark| &mark.line);
        let start = lines().map(|line| line.start).min().unwrap_or(0);
        let end = lines().map(|line| line.end).max().unwrap_or(0);
        let text = self
            .marks
            .first()
            .map_or("", |mark| mark.source.text.as_str());
        let window = text.get(start..end).unwrap_or("");
        let first = self.marks.iter().map(|mark| mark.number).min().unwrap_or(0);
        let path = self
            .marks
            .first()
            .filter(|mark| mark.column.is_none())
            .map(|mark| visible(&mark.source.path.display().to_string()));
        let annotations = self.marks.iter().map(|mark| {
            let kind = if mark.primary {
                AnnotationKind::Primary
            } else {
                AnnotationKind::Context
            };
            kind.span(mark.range.start - start..mark.range.end - start)
                .label(mark.label.map(visible))
        });
        Snippet::source(window)
            .line_start(first + 1)
            .path(path)
            .annotations(annotations)
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use insta::assert_snapshot;
    use proptest::prelude::*;

    use super::*;

    const TEXT: &str = "services:\n  web:\n    image: busybox\n    volume: data\n    ports:\n      - \"8080:80\"\n  \
                        größe:\n    image: größe\n    ports: [8080:81]\n";

    fn sources(text: &str) -> Sources {
        let mut sources = Sources::default();
        sources.add(PathBuf::from("compose.yaml"), text.to_owned());
        sources
    }

    fn span(text: &str, part: &str) -> Span {
        let start = text.find(part).unwrap();
        Span {
            source: SourceId(0),
            start: u32::try_from(start).unwrap(),
            end: u32::try_from(start + part.len()).unwrap(),
        }
    }

    #[test]
    fn a_place_is_shown_with_its_excerpt_and_a_hint() {
        let diagnostic = Diagnostic::error(
            span(TEXT, "volume"),
            "unknown key `volume` in service `web`",
        )
        .hint("did you mean `volumes`?");
        assert_snapshot!(render_all(&[diagnostic], &sources(TEXT), Drawing::plain()), @r"
        error: unknown key `volume` in service `web`
         --> compose.yaml:4:5
          |
        4 |     volume: data
          |     ^^^^^^
          |
          = help: did you mean `volumes`?
        ");
    }

    #[test]
    fn all_errors_and_every_place_are_shown() {
        let mut sources = sources(TEXT);
        let other = sources.add(
            PathBuf::from("base/compose.yaml"),
            "a: 1\nb: 2\n".to_owned(),
        );
        let diagnostics = [
            Diagnostic::error(
                span(TEXT, "8080:81"),
                "host port 8080/tcp is published twice",
            )
            .label("`größe` publishes it here")
            .note(span(TEXT, "\"8080:80\""), "`web` already publishes it")
            .note(
                Span {
                    source: other,
                    start: 5,
                    end: 6,
                },
                "extended from here",
            ),
            Diagnostic::warning(span(TEXT, "größe"), "a name with letters beyond ASCII"),
            Diagnostic::error_without_place("no configuration file provided: not found")
                .hint("use -f"),
        ];
        assert_snapshot!(render_all(&diagnostics, &sources, Drawing::plain()), @r#"
        error: host port 8080/tcp is published twice
         --> compose.yaml:9:13
          |
        6 |       - "8080:80"
          |         --------- `web` already publishes it
        ...
        9 |     ports: [8080:81]
          |             ^^^^^^^ `größe` publishes it here
          |
         ::: base/compose.yaml:2:1
          |
        2 | b: 2
          | - extended from here

        warning: a name with letters beyond ASCII
         --> compose.yaml:7:3
          |
        7 |   größe:
          |   ^^^^^

        error: no configuration file provided: not found
        help: use -f
        "#);
    }

    #[test]
    fn places_far_apart_have_excerpts_of_their_own() {
        let text = format!("first: 1\n{}last: 2\n", "# filler\n".repeat(500));
        let diagnostic =
            Diagnostic::error(span(&text, "last"), "twice").note(span(&text, "first"), "here too");
        assert_snapshot!(render_all(&[diagnostic], &sources(&text), Drawing::plain()), @r"
        error: twice
           --> compose.yaml:502:1
            |
        502 | last: 2
            | ^^^^
            |
           ::: compose.yaml:1:1
            |
          1 | first: 1
            | ----- here too
        ");
    }

    #[test]
    fn control_characters_never_reach_the_terminal() {
        let text = "key\x1b]0;x\x07: value\n";
        let diagnostic =
            Diagnostic::error(span(text, "value"), "bad \x1b[31mname").label("\x1b[2J");
        let shown = render_all(&[diagnostic], &sources(text), Drawing::plain());
        assert_eq!(
            shown.chars().find(|c| c.is_control() && *c != '\n'),
            None,
            "{shown:?}"
        );
    }

    #[test]
    fn a_chain_of_causes_is_one_line() {
        #[derive(Debug, thiserror::Error)]
        #[error("start `web-1`")]
        struct Outer(#[source] Inner);
        #[derive(Debug, thiserror::Error)]
        #[error("mount `/data`: permission denied")]
        struct Inner(#[source] std::io::Error);
        let error = Outer(Inner(std::io::Error::other("permission denied")));
        assert_eq!(
            render_chain(&error, &["look at\nthe log".to_owned()], false),
            "error: start `web-1`: mount `/data`: permission denied\nhelp: look at\n    the log\n"
        );
    }

    #[test]
    fn a_file_of_one_long_line_is_drawn_in_part() {
        let text = format!("{{{}bad: 1}}", "\"key\": \"é\", ".repeat(20_000));
        let shown = render_all(
            &[Diagnostic::error(span(&text, "bad"), "no")],
            &sources(&text),
            Drawing::plain(),
        );
        assert!(shown.len() < 1000, "{}", shown.len());
        assert!(shown.contains("bad"), "{shown}");
        assert!(shown.contains("compose.yaml:1:240002"), "{shown}");
    }

    /// Draws an error at `part` of `text`, in so many columns.
    fn drawn(text: &str, part: &str, columns: usize) -> String {
        let drawing = Drawing {
            colour: false,
            columns,
        };
        let diagnostic = Diagnostic::error(span(text, part), "wrong").label("this");
        render_all(&[diagnostic], &sources(text), drawing)
    }

    #[test]
    fn tabs_and_wide_letters_keep_the_mark_beneath_its_place() {
        assert_snapshot!(drawn("a:\t\tbad\n", "bad", 80), @r"
    error: wrong
     --> compose.yaml:1:5
      |
    1 | a:        bad
      |           ^^^ this
    ");
        assert_snapshot!(drawn("\u{65e5}\u{672c}: bad\n", "bad", 80), @r"
    error: wrong
     --> compose.yaml:1:5
      |
    1 | 日本: bad
      |       ^^^ this
    ");
        let combined = drawn("e\u{301}e\u{301}: bad\n", "bad", 80);
        assert!(combined.ends_with("\n  |     ^^^ this\n"), "{combined}");
        assert_snapshot!(drawn("\u{1f980}: [\u{1f980}, bad]\n", "bad", 80), @r"
    error: wrong
     --> compose.yaml:1:8
      |
    1 | 🦀: [🦀, bad]
      |          ^^^ this
    ");
    }

    #[test]
    fn long_lines_are_cut_around_the_place() {
        let text = format!(
            "{}bad{}\n",
            "0123456789".repeat(20),
            "abcdefghij".repeat(20)
        );
        for columns in [40, 80, 140] {
            let shown = drawn(&text, "bad", columns);
            let widest = shown
                .lines()
                .map(unicode_width::UnicodeWidthStr::width)
                .max();
            assert!(widest.unwrap_or(0) <= columns + 10, "{columns}: {shown}");
            assert!(shown.contains("bad"), "{shown}");
        }
        assert_snapshot!(drawn(&text, "bad", 60), @r"
    error: wrong
     --> compose.yaml:1:201
      |
    1 | ...901234567890123456789badabcdefghijabcdefghijabcdef...
      |                         ^^^ this
    ");
    }

    #[test]
    fn carriage_returns_before_line_feeds_are_not_drawn() {
        let text = "a: 1\r\nbad: 2\r\nc: 3\r\n";
        let diagnostic =
            Diagnostic::error(span(text, "bad"), "wrong").note(span(text, "c"), "also");
        let shown = render_all(&[diagnostic], &sources(text), Drawing::plain());
        assert_eq!(shown.find('\r'), None, "{shown:?}");
        assert_snapshot!(shown, @r"
    error: wrong
     --> compose.yaml:2:1
      |
    2 | bad: 2
      | ^^^
    3 | c: 3
      | - also
    ");
    }

    proptest! {
        #[test]
        fn no_span_of_any_text_panics(
            text in "(é|日|\t|\r\n|\n|a|: |\u{1b}|🦀|e\u{301}){0,40}",
            spans in prop::collection::vec((0_u32..120, 0_u32..120, 0_u32..2), 1..4),
        ) {
            let spans: Vec<Span> = spans
                .into_iter()
                .map(|(start, end, source)| Span { source: SourceId(source), start, end })
                .collect();
            let mut diagnostic = Diagnostic::error(spans[0], "message").label("label");
            for span in &spans[1..] {
                diagnostic = diagnostic.note(*span, "note");
            }
            let shown = render_all(&[diagnostic], &sources(&text), Drawing { colour: true, columns: 80 });
            prop_assert!(shown.contains("message"));
        }
    }
}
