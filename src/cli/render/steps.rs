//! The steps of one build on a terminal, as BuildKit draws them: a row each, and beneath those that go on what they wrote last.
//!
//! ```text
//!    ✔ CACHED [compile 1/3] FROM busybox
//!    ✔ [compile 2/3] COPY . /src                            0.1s
//!    ⠹ [compile 3/3] RUN make                               2.4s
//!      1.31 cc -o main main.c
//! ```
//!
//! Pure: time and size are arguments.

use std::collections::VecDeque;
use std::time::Duration;

use anstyle::{AnsiColor, Style};
use unicode_width::UnicodeWidthStr;

use super::board::{TAIL, fit, spinner};
use super::paint;
use super::table::shorten;
use super::text::visible_line;
use crate::cli::time::render_elapsed;
use crate::engine::event::{BuildStep, StepNews};

/// The steps that were told of, by number.
#[derive(Debug, Default)]
pub(super) struct Steps {
    rows: Vec<Row>,
}

#[derive(Debug)]
struct Row {
    number: usize,
    label: String,
    state: State,
    began: Duration,
    output: VecDeque<String>,
    /// What it did that is to be seen when all is over.
    notes: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Working,
    Cached,
    Done(Duration),
    Failed(Duration),
    CutOff(Duration),
}

impl Steps {
    /// Takes what happened at `now`, a time since the beginning.
    pub(super) fn take(&mut self, step: &BuildStep, now: Duration) {
        if let StepNews::Began(label) = &step.news {
            self.rows.push(Row {
                number: step.number,
                label: visible_line(label),
                state: State::Working,
                began: now,
                output: VecDeque::new(),
                notes: Vec::new(),
            });
            return;
        }
        let number = step.number;
        let Some(row) = self.rows.iter_mut().find(|row| row.number == number) else {
            return;
        };
        match &step.news {
            StepNews::Began(_) | StepNews::Explained(_) => {}
            StepNews::Noted(what) => row.notes.push(visible_line(what)),
            StepNews::Cached => row.state = State::Cached,
            StepNews::Done(time) => row.state = State::Done(*time),
            StepNews::Failed(_) | StepNews::Broke(_) => {
                row.state = State::Failed(now.saturating_sub(row.began));
            }
            StepNews::CutOff => row.state = State::CutOff(now.saturating_sub(row.began)),
            StepNews::Waits(holder) => row.output.push_back(StepNews::awaited(*holder)),
            StepNews::Wrote(after, text) => {
                for piece in super::text::sanitize(text.trim_end().as_bytes()) {
                    let piece = piece.replace('\t', "    ");
                    row.output
                        .push_back(format!("{:.2} {piece}", after.as_secs_f64()));
                }
                while row.output.len() > TAIL {
                    row.output.pop_front();
                }
            }
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Renders at most `size` columns and lines: every step where that fits, else those that go on and the last that ended.
    pub(super) fn frame(&self, now: Duration, size: (usize, usize), colour: bool) -> Vec<String> {
        let (width, height) = size;
        let (hidden, rows) = self.chosen(height);
        let mut lines = Vec::new();
        if hidden > 0 && height > 0 {
            lines.push(shorten(&format!("   … {hidden} more"), width));
        }
        let speaking = |row: &&&Row| row.state == State::Working && !row.output.is_empty();
        let count = rows.iter().filter(speaking).count().max(1);
        let room = height.saturating_sub(lines.len() + rows.len()) / count;
        for row in &rows {
            lines.push(row.line(now, width, colour));
            if speaking(&row) {
                let skipped = row.output.len().saturating_sub(room.min(TAIL));
                lines.extend(row.output.iter().skip(skipped).map(|line| {
                    let line = fit(&format!("     {line}"), width);
                    paint(colour, Style::new().dimmed(), &line)
                }));
            }
        }
        lines
    }

    /// Renders every step, without output; what a step did of its own is not cut, since somebody may want to copy it.
    pub(super) fn summary(&self, now: Duration, width: usize, colour: bool) -> Vec<String> {
        let lines = self.rows.iter().flat_map(|row| {
            let notes = row.notes.iter();
            let notes =
                notes.map(|note| paint(colour, Style::new().dimmed(), &format!("     {note}")));
            std::iter::once(row.line(now, width, colour)).chain(notes)
        });
        lines.collect()
    }

    /// Chooses the rows that are shown in so many lines, and counts the others.
    fn chosen(&self, height: usize) -> (usize, Vec<&Row>) {
        if self.rows.len() <= height {
            return (0, self.rows.iter().collect());
        }
        let is_working = |row: &&Row| row.state == State::Working;
        let working = self.rows.iter().filter(is_working).count();
        // One line counts the others.
        let room = height.saturating_sub(1);
        let mut ended = room.saturating_sub(working);
        let mut chosen: Vec<&Row> = Vec::new();
        for row in self.rows.iter().rev() {
            if row.state == State::Working {
                chosen.push(row);
            } else if ended > 0 {
                ended -= 1;
                chosen.push(row);
            }
        }
        chosen.truncate(room);
        chosen.reverse();
        (self.rows.len() - chosen.len(), chosen)
    }
}

impl Row {
    /// `   ✔ [compile 2/3] COPY . /src         0.1s`
    fn line(&self, now: Duration, width: usize, colour: bool) -> String {
        let (icon, style) = match self.state {
            State::Working => (spinner(now), AnsiColor::Cyan.on_default()),
            State::Cached | State::Done(_) => ('✔', AnsiColor::Green.on_default()),
            State::Failed(_) => ('✘', AnsiColor::Red.on_default()),
            State::CutOff(_) => ('-', Style::new().dimmed()),
        };
        let (label, time) = match self.state {
            State::Cached => (format!("CACHED {}", self.label), String::new()),
            State::Working => {
                let elapsed = render_elapsed(now.saturating_sub(self.began));
                (self.label.clone(), elapsed)
            }
            State::CutOff(time) => (format!("CANCELED {}", self.label), render_elapsed(time)),
            State::Done(time) | State::Failed(time) => (self.label.clone(), render_elapsed(time)),
        };
        let room = width.saturating_sub(5 + 1 + time.len() + 1);
        let label = shorten(&label, room);
        let padding = " ".repeat(room.saturating_sub(label.width()));
        let icon = paint(colour, style, &icon.to_string());
        let time = paint(colour, AnsiColor::Blue.on_default(), &time);
        format!("   {icon} {label}{padding} {time}")
            .trim_end()
            .to_owned()
    }
}

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;

    use super::*;

    fn steps(news: &[(u64, usize, StepNews)]) -> Steps {
        let mut steps = Steps::default();
        for (at, number, news) in news {
            let step = BuildStep {
                number: *number,
                news: news.clone(),
            };
            steps.take(&step, Duration::from_millis(*at));
        }
        steps
    }

    fn build() -> Steps {
        let began = |label: &str| StepNews::Began(label.to_owned());
        let wrote =
            |millis, text: &str| StepNews::Wrote(Duration::from_millis(millis), text.to_owned());
        steps(&[
            (0, 1, began("[a 1/2] FROM busybox")),
            (0, 1, StepNews::Cached),
            (0, 2, began("[a 2/2] RUN make \x1b[2Jall")),
            (0, 3, began("[b 1/2] COPY . /src")),
            (120, 3, StepNews::Done(Duration::from_millis(120))),
            (130, 4, began("[b 2/2] RUN long")),
            (200, 2, wrote(200, "one\n")),
            (300, 2, wrote(300, "two")),
            (300, 4, wrote(170, "from b")),
        ])
    }

    #[test]
    fn every_step_has_a_row_and_those_that_go_on_have_their_output() {
        let frame = |height| {
            let size = (44, height);
            build()
                .frame(Duration::from_secs(1), size, false)
                .join("\n")
        };
        assert_snapshot!(frame(20), @r"
        ✔ CACHED [a 1/2] FROM busybox
        ⠋ [a 2/2] RUN make \u{1b}[2Jall     1.0s
          0.20 one
          0.30 two
        ✔ [b 1/2] COPY . /src               0.1s
        ⠋ [b 2/2] RUN long                  0.8s
          0.17 from b
        ");
        // Where there is little room, the ones that go on come first.
        assert_snapshot!(frame(5), @r"
        ✔ CACHED [a 1/2] FROM busybox
        ⠋ [a 2/2] RUN make \u{1b}[2Jall     1.0s
        ✔ [b 1/2] COPY . /src               0.1s
        ⠋ [b 2/2] RUN long                  0.8s
        ");
        assert_snapshot!(frame(3), @r"
        … 2 more
        ⠋ [a 2/2] RUN make \u{1b}[2Jall     1.0s
        ⠋ [b 2/2] RUN long                  0.8s
        ");
        assert_eq!(frame(1), "   … 4 more");
    }

    #[test]
    fn how_steps_ended_stays() {
        let mut steps = build();
        let failed = BuildStep {
            number: 2,
            news: StepNews::Failed(2),
        };
        steps.take(&failed, Duration::from_millis(1500));
        assert_snapshot!(steps.summary(Duration::from_secs(2), 44, false).join("\n"), @r"
        ✔ CACHED [a 1/2] FROM busybox
        ✘ [a 2/2] RUN make \u{1b}[2Jall     1.5s
        ✔ [b 1/2] COPY . /src               0.1s
        ⠋ [b 2/2] RUN long                  1.8s
        ");
    }

    #[test]
    fn what_was_written_is_told_in_the_end_and_whole() {
        let image = format!("writing image sha256:{}", "0123456789abcdef".repeat(4));
        let steps = steps(&[
            (0, 1, StepNews::Began("exporting to image".to_owned())),
            (0, 1, StepNews::Noted(image)),
            (0, 1, StepNews::Noted("naming to \u{1b}[2Jx".to_owned())),
            (10, 1, StepNews::Done(Duration::ZERO)),
        ]);
        let summary = steps.summary(Duration::from_secs(1), 44, false);
        assert_snapshot!(summary.join("\n"), @r"
        ✔ exporting to image                0.0s
          writing image sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef
          naming to \u{1b}[2Jx
        ");
        let frame = steps.frame(Duration::from_secs(1), (44, 9), false);
        assert_eq!(frame.len(), 1);
    }

    #[test]
    fn who_waits_says_so_and_what_is_cut_off_too() {
        let began = |label: &str| StepNews::Began(label.to_owned());
        let steps = steps(&[
            (0, 1, began("[a 1/2] RUN make")),
            (0, 2, began("[b 1/2] RUN long")),
            (0, 2, StepNews::Waits(Some(1))),
            (500, 1, StepNews::CutOff),
        ]);
        let frame = steps.frame(Duration::from_secs(1), (60, 20), false);
        assert_snapshot!(frame.join("\n"), @r"
        - CANCELED [a 1/2] RUN make                         0.5s
        ⠋ [b 1/2] RUN long                                  1.0s
          waiting for another build of this step (pid 1)
        ");
    }

    #[test]
    fn no_frame_is_higher_or_wider_than_it_may_be() {
        for height in 0..12 {
            for width in [10, 20, 80] {
                let lines = build().frame(Duration::from_secs(1), (width, height), false);
                assert!(lines.len() <= height, "{height}: {lines:?}");
                assert!(lines.iter().all(|line| line.width() <= width), "{lines:?}");
            }
        }
    }
}
