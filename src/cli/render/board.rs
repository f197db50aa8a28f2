//! The state behind the live region, and its lines. Pure: time and size are arguments.

use std::collections::VecDeque;
use std::time::Duration;

use anstyle::{AnsiColor, Style};
use unicode_width::UnicodeWidthStr;

use super::paint;
use super::steps::Steps;
use super::table::shorten;
use super::text::{visible, visible_line};
use crate::cli::time::{render_elapsed, render_size};
use crate::engine::event::{Event, EventKind, Subject};

/// Turns ten times a second.
const SPINNER: [char; 10] = ['⠋', '⠙', '⠹', '⠸', '⠼', '⠴', '⠦', '⠧', '⠇', '⠏'];

/// Lines of a running build that are shown beneath it.
pub(super) const TAIL: usize = 6;

/// A speed is that of so long a time, at most.
const SPEED_OVER: Duration = Duration::from_secs(3);

/// Over a shorter time than this there is no speed yet.
const SPEED_FROM: Duration = Duration::from_millis(500);

/// Lines of a failed build that stay.
const KEPT: usize = 50;

/// Everything that happened so far.
pub(crate) struct Board {
    title: &'static str,
    /// Whether the output of failed builds stays.
    builds: bool,
    tasks: Vec<Task>,
}

/// What happened to one subject.
struct Task {
    subject: Subject,
    state: TaskState,
    verb: String,
    bytes: Option<(u64, Option<u64>)>,
    /// When how many bytes were done, lately.
    marks: VecDeque<(Duration, u64)>,
    output: VecDeque<String>,
    /// Of a build.
    steps: Steps,
    started: Duration,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum TaskState {
    Working,
    Done { at: Duration },
    Failed { at: Duration },
    CutOff { at: Duration },
}

impl Board {
    /// An empty board; `title` is the header's verb.
    pub(crate) fn new(title: &'static str, builds: bool) -> Self {
        Self {
            title,
            builds,
            tasks: Vec::new(),
        }
    }

    /// Takes what happened at `now`, a time since the beginning.
    pub(crate) fn take(&mut self, event: Event, now: Duration) {
        let found = self
            .tasks
            .iter()
            .position(|task| task.subject == event.subject);
        let index = found.unwrap_or_else(|| {
            self.tasks.push(Task::new(event.subject, now));
            self.tasks.len() - 1
        });
        if let Some(task) = self.tasks.get_mut(index) {
            task.take(event.kind, now);
        }
    }

    /// Renders the live region in at most `size` columns and lines: everything where it fits, else what is being
    /// worked on, what failed, and how much else there is.
    pub(crate) fn frame(&self, now: Duration, size: (usize, usize), colour: bool) -> Vec<String> {
        let (width, height) = size;
        if self.tasks.is_empty() {
            return Vec::new();
        }
        let rows: Vec<&Task> = self.tasks.iter().filter(|task| task.is_shown()).collect();
        let body = height.saturating_sub(1);
        let mut shown = rows.clone();
        if rows.len() > body {
            shown.retain(|task| !matches!(task.state, TaskState::Done { .. }));
            shown.truncate(body.saturating_sub(1));
        }
        let label_width = self.label_width(width);
        let mut lines = vec![self.header(colour)];
        // Steps of builds take the room that is left, beneath each build that goes on.
        let taken = lines.len() + shown.len() + usize::from(shown.len() < rows.len());
        let mut room = height.saturating_sub(taken);
        for task in &shown {
            lines.push(self.line(task, now, (label_width, width), colour));
            if task.is_working() && !task.steps.is_empty() {
                let steps = task.steps.frame(now, (width, room), colour);
                room -= steps.len();
                lines.extend(steps);
            }
        }
        if shown.len() < rows.len() {
            lines.push(format!("   … {} more", rows.len() - shown.len()));
        }
        // So does output that is of no step.
        if let Some(task) = shown
            .iter()
            .find(|task| task.is_working() && task.steps.is_empty() && !task.output.is_empty())
        {
            let room = height.saturating_sub(lines.len()).min(TAIL);
            let skipped = task.output.len().saturating_sub(room);
            let tail = task.output.iter().skip(skipped);
            lines.extend(tail.map(|line| {
                paint(
                    colour,
                    Style::new().dimmed(),
                    &fit(&format!("   {line}"), width),
                )
            }));
        }
        lines
    }

    /// Renders what stays: every subject but layers, and the end of the output of failed builds.
    pub(crate) fn summary(&self, now: Duration, width: usize, colour: bool) -> Vec<String> {
        let rows = || self.tasks.iter().filter(|task| !task.is_layer());
        if rows().next().is_none() {
            return Vec::new();
        }
        let label_width = self.label_width(width);
        let mut lines = vec![self.header(colour)];
        for task in rows() {
            lines.push(self.line(task, now, (label_width, width), colour));
            if self.builds {
                lines.extend(task.steps.summary(now, width, colour));
            }
        }
        let failed =
            rows().filter(|task| self.builds && matches!(task.state, TaskState::Failed { .. }));
        for task in failed.filter(|task| !task.output.is_empty()) {
            lines.push(format!("--- {}", visible_line(&task.subject.to_string())));
            lines.extend(task.output.iter().cloned());
            lines.push("---".to_owned());
        }
        lines
    }

    fn header(&self, colour: bool) -> String {
        let rows = || self.tasks.iter().filter(|task| !task.is_layer());
        let done = rows()
            .filter(|task| matches!(task.state, TaskState::Done { .. }))
            .count();
        let text = format!("[+] {} {done}/{}", self.title, rows().count());
        if done == rows().count() {
            paint(colour, AnsiColor::Blue.on_default(), &text)
        } else {
            text
        }
    }

    /// Columns for names: the longest one's, but never more than leaves room for a status and a time.
    fn label_width(&self, width: usize) -> usize {
        let rows = self.tasks.iter().filter(|task| !task.is_layer());
        let longest = rows.map(|task| task.label().width()).max().unwrap_or(0);
        longest.min(width.saturating_sub(28).max(10))
    }

    /// ` ✔ Container hello-web-1  Started      0.3s`
    fn line(&self, task: &Task, now: Duration, widths: (usize, usize), colour: bool) -> String {
        let (label_width, width) = widths;
        let indent = if task.is_layer() { "   " } else { " " };
        let (icon, style) = match task.state {
            TaskState::Working => (spinner(now), AnsiColor::Cyan.on_default()),
            TaskState::Done { .. } => ('✔', AnsiColor::Green.on_default()),
            TaskState::Failed { .. } => ('✘', AnsiColor::Red.on_default()),
            TaskState::CutOff { .. } => ('-', Style::new().dimmed()),
        };
        let label = shorten(&task.label(), label_width);
        let label = format!(
            "{label}{}",
            " ".repeat(label_width.saturating_sub(label.width()))
        );
        let time = render_elapsed(task.elapsed(now));
        let used = indent.len() + 2 + label.width() + 2 + 1 + time.len() + 1;
        let room = width.saturating_sub(used);
        let status = shorten(&self.status(task, now), room);
        let padding = " ".repeat(room.saturating_sub(status.width()));
        let icon = paint(colour, style, &icon.to_string());
        let status = paint(colour, style, &status);
        let time = paint(colour, AnsiColor::Blue.on_default(), &time);
        format!("{indent}{icon} {label}  {status}{padding} {time}")
    }

    /// What is written beside the name: the verb, how many bytes of how many, and how many a second; an image counts its layers'
    /// bytes.
    fn status(&self, task: &Task, now: Duration) -> String {
        if !task.is_working() {
            return task.verb.clone();
        }
        let layers = self
            .tasks
            .iter()
            .filter(|layer| match (&layer.subject, &task.subject) {
                (Subject::Layer(image, _), Subject::Image(name)) => image == name,
                _ => false,
            });
        let parts: Vec<&Task> = layers.chain(std::iter::once(task)).collect();
        let bytes = parts.iter().filter_map(|part| part.bytes);
        let sum = bytes.reduce(|(done, total), (more, further)| {
            let total = total.zip(further).map(|(a, b)| a.saturating_add(b));
            (done.saturating_add(more), total)
        });
        let speeds = parts.iter().filter_map(|part| part.speed(now));
        let speed = speeds.reduce(u64::saturating_add);
        let speed = speed.map(|speed| format!(" {}/s", render_size(speed)));
        let speed = speed.unwrap_or_default();
        match sum {
            None => task.verb.clone(),
            Some((done, None)) => format!("{} {}{speed}", task.verb, render_size(done)),
            Some((done, Some(total))) => {
                let (done, total) = (render_size(done), render_size(total));
                format!("{} {done}/{total}{speed}", task.verb)
            }
        }
    }
}

impl Task {
    fn new(subject: Subject, now: Duration) -> Self {
        Self {
            subject,
            state: TaskState::Working,
            verb: String::new(),
            bytes: None,
            marks: VecDeque::new(),
            output: VecDeque::new(),
            steps: Steps::default(),
            started: now,
        }
    }

    fn take(&mut self, kind: EventKind, now: Duration) {
        match kind {
            EventKind::Started(verb) => {
                // A container is created and, later, started: the time is that of the work, not of the wait between.
                if !self.is_working() {
                    self.started = now;
                }
                self.state = TaskState::Working;
                verb.clone_into(&mut self.verb);
            }
            EventKind::Progress { verb, done, total } => {
                self.state = TaskState::Working;
                verb.clone_into(&mut self.verb);
                self.bytes = Some((done, total));
                self.mark(now, done);
            }
            EventKind::Line(text) => self.keep(&text),
            EventKind::Building(step) => {
                self.keep(&step.to_string());
                self.steps.take(&step, now);
            }
            EventKind::Finished(verb) | EventKind::Unchanged(verb) => {
                self.state = TaskState::Done { at: now };
                verb.clone_into(&mut self.verb);
                if let Some((_, Some(total))) = self.bytes {
                    self.bytes = Some((total, Some(total)));
                }
            }
            EventKind::CutOff => {
                self.state = TaskState::CutOff { at: now };
                "Canceled".clone_into(&mut self.verb);
            }
            EventKind::Failed(message) => {
                self.state = TaskState::Failed { at: now };
                self.verb = format!("Error {}", visible_line(&message));
            }
            EventKind::Warning(_) | EventKind::Remark(_) => {}
        }
    }

    /// Keeps output for the case that this fails.
    fn keep(&mut self, text: &str) {
        for piece in super::text::sanitize(text.trim_end().as_bytes()) {
            self.output.push_back(piece.replace('\t', "    "));
        }
        while self.output.len() > KEPT {
            self.output.pop_front();
        }
    }

    /// Notes how far a transfer is.
    fn mark(&mut self, now: Duration, done: u64) {
        // A transfer that began anew has no past.
        if self.marks.back().is_some_and(|(_, before)| *before > done) {
            self.marks.clear();
        }
        self.marks.push_back((now, done));
        while self
            .marks
            .get(1)
            .is_some_and(|(at, _)| now.saturating_sub(*at) >= SPEED_OVER)
        {
            self.marks.pop_front();
        }
    }

    /// Bytes a second, where some are on their way; none have come since the last mark.
    fn speed(&self, now: Duration) -> Option<u64> {
        let ((from, before), (_, done)) = (self.marks.front()?, self.marks.back()?);
        let time = now.saturating_sub(*from);
        if !self.is_working() || self.marks.len() < 2 || time < SPEED_FROM {
            return None;
        }
        let bytes = u128::from(done - before) * 1000 / time.as_millis().max(1);
        u64::try_from(bytes).ok()
    }

    fn is_working(&self) -> bool {
        self.state == TaskState::Working
    }

    fn is_layer(&self) -> bool {
        matches!(self.subject, Subject::Layer(..))
    }

    /// Layers are of interest while they come.
    fn is_shown(&self) -> bool {
        !self.is_layer() || self.is_working()
    }

    fn label(&self) -> String {
        match &self.subject {
            Subject::Layer(_, digest) => visible(digest),
            subject => visible_line(&subject.to_string()),
        }
    }

    fn elapsed(&self, now: Duration) -> Duration {
        let end = match self.state {
            TaskState::Working => now,
            TaskState::Done { at } | TaskState::Failed { at } | TaskState::CutOff { at } => at,
        };
        end.saturating_sub(self.started)
    }
}

/// Returns how the spinner stands at `now`.
pub(super) fn spinner(now: Duration) -> char {
    let turns = usize::try_from(now.as_millis() / 100).unwrap_or(0);
    SPINNER[turns % SPINNER.len()]
}

/// Cuts colours and all that is too wide.
pub(super) fn fit(line: &str, width: usize) -> String {
    let mut plain = String::with_capacity(line.len());
    let mut rest = line;
    while let Some((before, after)) = rest.split_once('\x1b') {
        plain.push_str(before);
        // Only `ESC [ … m` is left by then.
        rest = after.split_once('m').map_or("", |(_, after)| after);
    }
    plain.push_str(rest);
    shorten(&plain, width.saturating_sub(1))
}

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;

    use super::*;

    fn board(events: &[(u64, Subject, EventKind)]) -> Board {
        let mut board = Board::new("Running", true);
        for (at, subject, kind) in events {
            let event = Event {
                subject: subject.clone(),
                kind: kind.clone(),
            };
            board.take(event, Duration::from_millis(*at));
        }
        board
    }

    fn container(number: usize) -> Subject {
        Subject::Container(format!("hello-web-{number}"))
    }

    fn frame(board: &Board, now_ms: u64, width: usize, height: usize) -> String {
        board
            .frame(Duration::from_millis(now_ms), (width, height), false)
            .join("\n")
    }

    #[test]
    fn every_resource_has_one_line() {
        let board = board(&[
            (
                0,
                Subject::Network("hello_default".to_owned()),
                EventKind::Started("Creating"),
            ),
            (
                120,
                Subject::Network("hello_default".to_owned()),
                EventKind::Finished("Created"),
            ),
            (130, container(1), EventKind::Started("Creating")),
            (180, container(1), EventKind::Finished("Created")),
            (200, container(1), EventKind::Started("Starting")),
            (
                210,
                container(2),
                EventKind::Failed("port 80 is\nin use".to_owned()),
            ),
            (220, container(3), EventKind::Unchanged("Running")),
        ]);
        assert_snapshot!(frame(&board, 512, 60, 10), @r"
        [+] Running 2/4
         ✔ Network hello_default  Created                      0.1s
         ⠴ Container hello-web-1  Starting                     0.3s
         ✘ Container hello-web-2  Error port 80 is in use      0.0s
         ✔ Container hello-web-3  Running                      0.0s
        ");
        assert_snapshot!(frame(&board, 512, 40, 4), @r"
        [+] Running 2/4
         ⠴ Container h…  Starting          0.3s
         ✘ Container h…  Error port 80 is… 0.0s
           … 2 more
        ");
        assert_snapshot!(board.summary(Duration::from_secs(1), 60, false).join("\n"), @r"
        [+] Running 2/4
         ✔ Network hello_default  Created                      0.1s
         ⠋ Container hello-web-1  Starting                     0.8s
         ✘ Container hello-web-2  Error port 80 is in use      0.0s
         ✔ Container hello-web-3  Running                      0.0s
        ");
        assert_snapshot!(board.summary(Duration::from_secs(1), 60, true).join("\n").replace('\x1b', "^"), @r"
        [+] Running 2/4
         ^[32m✔^[0m Network hello_default  ^[32mCreated^[0m                      ^[34m0.1s^[0m
         ^[36m⠋^[0m Container hello-web-1  ^[36mStarting^[0m                     ^[34m0.8s^[0m
         ^[31m✘^[0m Container hello-web-2  ^[31mError port 80 is in use^[0m      ^[34m0.0s^[0m
         ^[32m✔^[0m Container hello-web-3  ^[32mRunning^[0m                      ^[34m0.0s^[0m
        ");
    }

    #[test]
    fn an_image_counts_the_bytes_of_its_layers() {
        let image = Subject::Image("busybox".to_owned());
        let layer = |digest: &str| Subject::Layer("busybox".to_owned(), digest.to_owned());
        let progress = |done, total| EventKind::Progress {
            verb: "Downloading",
            done,
            total,
        };
        let board = board(&[
            (0, image.clone(), EventKind::Started("Pulling")),
            (
                0,
                layer("9ad63333ebc9"),
                progress(1_000_000, Some(4_000_000)),
            ),
            (0, layer("0123456789ab"), progress(0, Some(2_000_000))),
            (
                900,
                layer("0123456789ab"),
                EventKind::Finished("Pull complete"),
            ),
        ]);
        assert_snapshot!(frame(&board, 1000, 60, 10), @r"
        [+] Running 0/1
         ⠋ Image busybox  Pulling 3MB/6MB                      1.0s
           ⠋ 9ad63333ebc9   Downloading 1MB/4MB                1.0s
        ");
    }

    #[test]
    fn the_output_of_a_failed_build_stays() {
        let build = Subject::Build("hello-web".to_owned());
        let board = board(&[
            (0, build.clone(), EventKind::Started("Building")),
            (
                10,
                build.clone(),
                EventKind::Line("RUN \x1b[31mmake\x1b[0m\n".to_owned()),
            ),
            (
                20,
                build.clone(),
                EventKind::Line("make: no rule".to_owned()),
            ),
        ]);
        assert_snapshot!(frame(&board, 1000, 40, 10), @r"
        [+] Running 0/1
         ⠋ Image hello…  Building          1.0s
           RUN make
           make: no rule
        ");
        let mut board = board;
        let failed = Event {
            subject: build,
            kind: EventKind::Failed("exit code 2".to_owned()),
        };
        board.take(failed, Duration::from_secs(2));
        assert_snapshot!(board.summary(Duration::from_secs(2), 40, false).join("\n").replace('\x1b', "^"), @r"
        [+] Running 0/1
         ✘ Image hello…  Error exit code 2 2.0s
        --- Image hello-web
        RUN ^[31mmake^[0m
        make: no rule
        ---
        ");
    }

    #[test]
    fn transfers_have_a_speed() {
        let layer = |name: &str| Subject::Layer("busybox".to_owned(), name.to_owned());
        let came = |done| EventKind::Progress {
            verb: "Downloading",
            done,
            total: Some(90_000_000),
        };
        let mut board = Board::new("Pulling", true);
        let mut take = |millis, subject, kind| {
            board.take(Event { subject, kind }, Duration::from_millis(millis));
        };
        take(
            0,
            Subject::Image("busybox".to_owned()),
            EventKind::Started("Pulling"),
        );
        // The first seconds do not count any more.
        for (millis, done) in [
            (0, 1),
            (1000, 10_000_000),
            (4000, 40_000_000),
            (5000, 60_000_000),
        ] {
            take(millis, layer("one"), came(done));
        }
        take(5900, layer("two"), came(5_000_000));
        // It began anew.
        take(3000, layer("three"), came(7_000_000));
        take(4000, layer("three"), came(0));
        take(5000, layer("three"), came(2_000_000));
        let lines = board.frame(Duration::from_secs(6), (80, 24), false);
        assert_snapshot!(lines.join("\n"), @r"
        [+] Pulling 0/1
         ⠋ Image busybox  Pulling 67MB/270MB 11MB/s                                6.0s
           ⠋ one            Downloading 60MB/90MB 10MB/s                           6.0s
           ⠋ two            Downloading 5MB/90MB                                   0.1s
           ⠋ three          Downloading 2MB/90MB 1MB/s                             3.0s
        ");
    }

    #[test]
    fn no_line_is_wider_than_the_terminal_and_no_frame_higher() {
        let mut events: Vec<_> = (0..200)
            .map(|number| (0, container(number), EventKind::Started("Creating")))
            .collect();
        events.push((
            0,
            Subject::Image("日本/".repeat(50)),
            EventKind::Started("Pulling"),
        ));
        let board = board(&events);
        for width in [20, 37, 80, 300] {
            for height in [2, 5, 24] {
                let lines = board.frame(Duration::from_secs(5), (width, height), false);
                assert!(
                    lines.len() <= height,
                    "{width}x{height}: {} lines",
                    lines.len()
                );
                for line in lines.iter().skip(1) {
                    assert!(line.width() <= width, "{width}x{height}: {line}");
                }
            }
        }
    }
}
