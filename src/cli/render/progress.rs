//! Events while a plan is applied: a live region on a terminal, else a line or a JSON object an event.
//!
//! ```text
//! [+] Running 2/3
//!  ✔ Network hello_default    Created                       0.1s
//!  ✔ Container hello-web-1    Started                       0.3s
//!  ⠹ Container hello-fetch-1  Starting                      0.2s
//! ```
//!
//! The region is drawn over itself: cursor up, each line cleared to its end, all of it within one synchronized update.
//! It is never higher than the terminal, and its last state stays in the scrollback.

use std::cell::RefCell;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use serde_json::json;

use super::Printer;
use super::board::Board;
use super::diagnostic::{Drawing, render_message, render_remark};
use super::rawjson::RawJson;
use super::text::{lines, sanitize, visible_line};
use crate::engine::Planned;
use crate::engine::event::{BuildStep, Event, EventKind, EventSink, StepNews, Subject, subject};

/// Least time between two drawings; ten a second are smooth enough.
pub(crate) const FRAME: Duration = Duration::from_millis(100);

/// Most lines of the live region.
const HIGHEST: usize = 24;

/// How progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ProgressMode {
    /// A live region.
    Tty,
    /// One line an event.
    Plain,
    /// One JSON object an event.
    Json,
    /// Warnings only.
    Quiet,
    /// BuildKit's `SolveStatus`, one JSON object a change.
    RawJson,
}

/// What of the work is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shown {
    /// First word of the header: `Running`.
    pub(crate) title: &'static str,
    /// Output of build steps.
    pub(crate) builds: bool,
    /// Layers of pulls.
    pub(crate) pulls: bool,
}

/// Draws events.
pub(crate) struct Progress<'a> {
    printer: &'a Printer,
    mode: ProgressMode,
    shown: Shown,
    started: Instant,
    live: RefCell<Live>,
    raw: RefCell<RawJson>,
}

/// The live region.
struct Live {
    board: Board,
    /// Lines drawn last, which the next drawing writes over.
    height: usize,
    /// Whether the region has made way for other lines.
    hidden: bool,
    drawn: Option<Instant>,
}

impl<'a> Progress<'a> {
    /// Begins.
    pub(crate) fn new(printer: &'a Printer, mode: ProgressMode, shown: Shown) -> Self {
        Self {
            printer,
            mode,
            shown,
            started: Instant::now(),
            raw: RefCell::default(),
            live: RefCell::new(Live {
                board: Board::new(shown.title, shown.builds),
                height: 0,
                hidden: false,
                drawn: None,
            }),
        }
    }

    /// Whether somebody has to call [`Progress::tick`].
    pub(crate) fn is_live(&self) -> bool {
        self.mode == ProgressMode::Tty
    }

    /// Draws again, so that spinners turn and times go on.
    pub(crate) fn tick(&self) {
        if self.is_live() {
            self.draw(&mut self.live.borrow_mut(), "");
        }
    }

    /// Writes `text`, whole lines, above the live region.
    pub(crate) fn above(&self, text: &str) {
        if self.is_live() {
            self.draw(&mut self.live.borrow_mut(), text);
        } else {
            self.printer.status(text);
        }
    }

    /// Takes the live region away, so that others may write whole lines; [`Progress::come_back`] draws it again beneath them.
    pub(crate) fn make_way(&self) {
        let mut live = self.live.borrow_mut();
        if live.height > 0 {
            self.printer
                .status(format!("\x1b[?2026h\x1b[{}A\r\x1b[J", live.height));
            live.height = 0;
            live.hidden = true;
        }
    }

    /// Draws the live region again where it made way.
    pub(crate) fn come_back(&self) {
        let mut live = self.live.borrow_mut();
        if live.hidden {
            self.draw(&mut live, "");
        }
    }

    /// Writes the last state, which stays; the region is empty after it.
    pub(crate) fn finish(&self) {
        if !self.is_live() {
            return;
        }
        let mut live = self.live.borrow_mut();
        let (width, _) = Printer::size();
        let lines = live.board.summary(
            self.started.elapsed(),
            width,
            self.printer.status_look().colour,
        );
        self.replace(&mut live, "", &lines);
        live.height = 0;
        live.board = Board::new(self.shown.title, self.shown.builds);
    }

    fn draw(&self, live: &mut Live, above: &str) {
        live.drawn = Some(Instant::now());
        let (width, height) = Printer::size();
        let highest = HIGHEST.min(height - 1);
        let colour = self.printer.status_look().colour;
        let lines = live
            .board
            .frame(self.started.elapsed(), (width, highest), colour);
        self.replace(live, above, &lines);
    }

    fn replace(&self, live: &mut Live, above: &str, lines: &[String]) {
        if lines.is_empty() && live.height == 0 {
            if !above.is_empty() {
                self.printer.status(above);
            }
            return;
        }
        let mut text = String::from("\x1b[?2026h");
        if live.height > 0 {
            // Writing to a string cannot fail.
            let _infallible = write!(text, "\x1b[{}A\r\x1b[J", live.height);
        }
        text.push_str(above);
        for line in lines {
            text.push_str(line);
            text.push('\n');
        }
        text.push_str("\x1b[?2026l");
        live.height = lines.len();
        live.hidden = false;
        self.printer.status(text);
    }
}

impl EventSink for Progress<'_> {
    fn emit(&self, event: Event) {
        let colour = self.printer.status_look().colour;
        let is_output = matches!(event.kind, EventKind::Line(_) | EventKind::Building(_));
        if self.mode == ProgressMode::RawJson && (self.shown.builds || !is_output) {
            let line = self.raw.borrow_mut().render(&event, jiff::Timestamp::now());
            self.printer.status(line);
            return;
        }
        if let EventKind::Warning(text) = &event.kind {
            match self.mode {
                ProgressMode::Json => self.printer.status(render_json(&event)),
                _ => self.above(&render_message("warning", text, &[], colour)),
            }
            return;
        }
        if let EventKind::Remark(remark) = &event.kind {
            match self.mode {
                // Docker's `--quiet` says nothing of style either.
                ProgressMode::Quiet => {}
                ProgressMode::Json => self.printer.status(render_json(&event)),
                _ => self.above(&render_remark(remark, Drawing::on(self.printer))),
            }
            return;
        }
        if !self.shown.pulls && matches!(event.subject, Subject::Layer(..)) {
            return;
        }
        if !self.shown.builds && is_output {
            return;
        }
        match self.mode {
            ProgressMode::Quiet | ProgressMode::RawJson => {}
            ProgressMode::Json => self.printer.status(render_json(&event)),
            ProgressMode::Plain => self.printer.status(render_plain(&event)),
            ProgressMode::Tty => {
                let mut live = self.live.borrow_mut();
                live.board.take(event, self.started.elapsed());
                if live.drawn.is_none_or(|drawn| drawn.elapsed() >= FRAME) {
                    self.draw(&mut live, "");
                }
            }
        }
    }
}

/// Renders one event as a line, or as nothing where it only says how far a transfer is.
fn render_plain(event: &Event) -> String {
    let subject = visible_line(&event.subject.to_string());
    match &event.kind {
        EventKind::Started(_) if matches!(event.subject, Subject::Layer(..)) => String::new(),
        EventKind::Started(verb) | EventKind::Finished(verb) | EventKind::Unchanged(verb) => {
            format!(" {subject}  {verb}\n")
        }
        EventKind::Progress { .. } => String::new(),
        EventKind::Line(text) => plain_line(&subject, text),
        EventKind::Building(step) => match &step.news {
            StepNews::Wrote(after, text) => {
                let pieces = sanitize(text.trim_end().as_bytes()).into_iter();
                lines(pieces.map(|piece| {
                    let news = StepNews::Wrote(*after, piece);
                    let number = step.number;
                    format!(" {subject} | {}", BuildStep { number, news })
                }))
            }
            _ => plain_line(&subject, &step.to_string()),
        },
        // Why is said at the end, with its place.
        EventKind::Failed(_) => format!(" {subject}  Error\n"),
        EventKind::CutOff => format!(" {subject}  Canceled\n"),
        EventKind::Warning(text) => format!(" {subject}  Warning: {}\n", visible_line(text)),
        EventKind::Remark(remark) => {
            format!(
                " {subject}  Warning: {}\n",
                visible_line(&remark.to_string())
            )
        }
    }
}

/// Renders output of a subject, also such as has carriage returns.
fn plain_line(subject: &str, text: &str) -> String {
    let pieces = sanitize(text.trim_end().as_bytes());
    lines(pieces.iter().map(|piece| format!(" {subject} | {piece}")))
}

/// Renders plans that are not applied: a line a step, or a JSON object a step with the keys of the progress.
pub(crate) fn render_plans(planned: &Planned, mode: ProgressMode) -> String {
    if mode != ProgressMode::Json {
        return planned.to_string();
    }
    let steps = planned.plans.iter().flat_map(|plan| &plan.steps);
    lines(steps.map(|step| {
        let after: Vec<String> = step.after.iter().map(ToString::to_string).collect();
        let ids = step.action.resources();
        let ids: Vec<String> = ids.iter().map(|r| subject(r).to_string()).collect();
        json!({
            "dry-run": true,
            "id": ids.join(", "),
            "status": "Planned",
            "text": step.action.to_string(),
            "step": step.id.0,
            "after": after,
            "cause": step.cause.to_string(),
        })
    }))
}

/// Renders one event as a line of JSON, with the keys of Docker Compose's `--progress json`.
fn render_json(event: &Event) -> String {
    let mut object = serde_json::Map::new();
    match &event.subject {
        Subject::Layer(image, digest) => {
            object.insert("id".to_owned(), json!(digest));
            object.insert("parent_id".to_owned(), json!(format!("Image {image}")));
        }
        subject => {
            object.insert("id".to_owned(), json!(subject.to_string()));
        }
    }
    let (status, text) = match &event.kind {
        EventKind::Started(verb) => ("Working", *verb),
        EventKind::Progress { verb, done, total } => {
            object.insert("current".to_owned(), json!(done));
            if let Some(total) = total {
                object.insert("total".to_owned(), json!(total));
                let percent = u128::from(*done) * 100 / u128::from((*total).max(1));
                object.insert(
                    "percent".to_owned(),
                    json!(u64::try_from(percent).unwrap_or(u64::MAX)),
                );
            }
            ("Working", *verb)
        }
        EventKind::Line(text) => {
            object.insert("details".to_owned(), json!(text));
            ("Working", "Building")
        }
        EventKind::Building(step) => {
            object.insert("details".to_owned(), json!(step.to_string()));
            ("Working", "Building")
        }
        EventKind::Finished(verb) | EventKind::Unchanged(verb) => ("Done", *verb),
        EventKind::Failed(message) => {
            object.insert("details".to_owned(), json!(message));
            ("Error", "Error")
        }
        EventKind::CutOff => ("Warning", "Canceled"),
        EventKind::Warning(text) => ("Warning", text.as_str()),
        EventKind::Remark(remark) => {
            let place = format!("{}:{}", remark.path.display(), remark.line());
            object.insert("details".to_owned(), json!(place));
            object.insert("rule".to_owned(), json!(remark.rule));
            ("Warning", remark.message.as_str())
        }
    };
    object.insert("status".to_owned(), json!(status));
    object.insert("text".to_owned(), json!(text));
    format!("{}\n", serde_json::Value::Object(object))
}

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;

    use super::*;

    fn events() -> Vec<Event> {
        let container = Subject::Container("hello-web-1".to_owned());
        let image = Subject::Image("busybox:latest".to_owned());
        let layer = Subject::Layer("busybox:latest".to_owned(), "9ad63333ebc9".to_owned());
        let event = |subject: &Subject, kind| Event {
            subject: subject.clone(),
            kind,
        };
        vec![
            event(&image, EventKind::Started("Pulling")),
            event(&layer, EventKind::Started("Downloading")),
            event(
                &layer,
                EventKind::Progress {
                    verb: "Downloading",
                    done: 1,
                    total: Some(4),
                },
            ),
            event(
                &layer,
                EventKind::Progress {
                    verb: "Downloading",
                    done: 3,
                    total: None,
                },
            ),
            event(&layer, EventKind::Finished("Pull complete")),
            event(&image, EventKind::Finished("Pulled")),
            event(
                &Subject::Build("web".to_owned()),
                EventKind::Line("step 1\x1b[2J\n".to_owned()),
            ),
            event(
                &Subject::Build("web".to_owned()),
                EventKind::Building(BuildStep {
                    number: 2,
                    news: StepNews::Wrote(
                        Duration::from_millis(310),
                        "10%\r\x1b[1A20%\x1b]0;title\x07\r\n".to_owned(),
                    ),
                }),
            ),
            event(
                &Subject::Network("hello_default".to_owned()),
                EventKind::Unchanged("Exists"),
            ),
            event(&container, EventKind::Started("Creating")),
            event(&container, EventKind::Warning("odd".to_owned())),
            event(&container, EventKind::Failed("no\nluck".to_owned())),
        ]
    }

    #[test]
    fn plain_lines() {
        let text: String = events().iter().map(render_plain).collect();
        assert_snapshot!(text, @r"
        Image busybox:latest  Pulling
        Image busybox:latest layer 9ad63333ebc9  Pull complete
        Image busybox:latest  Pulled
        Image web | step 1
        Image web | #2 0.31 10%
        Image web | #2 0.31 20%
        Network hello_default  Exists
        Container hello-web-1  Creating
        Container hello-web-1  Warning: odd
        Container hello-web-1  Error
        ");
    }

    #[test]
    fn json_lines() {
        let text: String = events().iter().map(render_json).collect();
        assert_snapshot!(text, @r##"
        {"id":"Image busybox:latest","status":"Working","text":"Pulling"}
        {"id":"9ad63333ebc9","parent_id":"Image busybox:latest","status":"Working","text":"Downloading"}
        {"current":1,"id":"9ad63333ebc9","parent_id":"Image busybox:latest","percent":25,"status":"Working","text":"Downloading","total":4}
        {"current":3,"id":"9ad63333ebc9","parent_id":"Image busybox:latest","status":"Working","text":"Downloading"}
        {"id":"9ad63333ebc9","parent_id":"Image busybox:latest","status":"Done","text":"Pull complete"}
        {"id":"Image busybox:latest","status":"Done","text":"Pulled"}
        {"details":"step 1\u001b[2J\n","id":"Image web","status":"Working","text":"Building"}
        {"details":"#2 0.31 10%\r\u001b[1A20%\u001b]0;title\u0007\r\n","id":"Image web","status":"Working","text":"Building"}
        {"id":"Network hello_default","status":"Done","text":"Exists"}
        {"id":"Container hello-web-1","status":"Working","text":"Creating"}
        {"id":"Container hello-web-1","status":"Warning","text":"odd"}
        {"details":"no\nluck","id":"Container hello-web-1","status":"Error","text":"Error"}
        "##);
    }

    /// A stream whose bytes can be looked at.
    #[derive(Clone, Default)]
    struct Screen(std::rc::Rc<RefCell<Vec<u8>>>);

    impl std::io::Write for Screen {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.borrow_mut().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    /// What a terminal shows in the end of `bytes`, where they only clear from a line above downwards.
    fn settle(bytes: &[u8]) -> String {
        let text = String::from_utf8_lossy(bytes)
            .replace("\x1b[?2026h", "")
            .replace("\x1b[?2026l", "");
        let mut lines: Vec<String> = Vec::new();
        for line in text.lines() {
            let mut line = line;
            if let Some((height, rest)) = line
                .strip_prefix("\x1b[")
                .and_then(|rest| rest.split_once("A\r\x1b[J"))
            {
                lines.truncate(lines.len() - height.parse::<usize>().unwrap());
                line = rest;
            }
            lines.push(line.to_owned());
        }
        lines.join("\n")
    }

    #[test]
    fn the_live_region_is_drawn_over_itself_and_warnings_stay_above_it() {
        let screen = Screen::default();
        let printer = Printer::new(
            Box::new(Screen::default()),
            Box::new(screen.clone()),
            crate::cli::render::Look::default(),
        );
        let shown = Shown {
            title: "Running",
            builds: true,
            pulls: true,
        };
        let progress = Progress::new(&printer, ProgressMode::Tty, shown);
        for event in events()
            .into_iter()
            .filter(|event| !matches!(event.subject, Subject::Build(_)))
        {
            progress.emit(event);
            progress.tick();
        }
        progress.finish();
        progress.finish();
        // How long it took is not compared.
        let is_time = |c: char| c.is_ascii_digit() || ".ms".contains(c);
        let lines = settle(&screen.0.borrow());
        let lines: Vec<&str> = lines
            .lines()
            .map(|line| {
                line.strip_suffix('s')
                    .map_or(line, |line| line.trim_end_matches(is_time).trim_end())
            })
            .collect();
        assert_snapshot!(lines.join("\n"), @r"
        warning: odd
        [+] Running 2/3
         ✔ Image busybox:latest   Pulled
         ✔ Network hello_default  Exists
         ✘ Container hello-web-1  Error no luck
        ");
    }
}
