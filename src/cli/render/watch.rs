//! What a watch did: a line, or a JSON object, a batch.
//!
//! ```text
//! watch  enabled for web, worker (12 directories)
//! watch  web  src/app.py (+2)  synced 3 files, restarted 1 container  12.4ms
//! watch  web  requirements.txt  rebuilding
//! watch  web  rebuilt  1.42s
//! ```

use std::time::Duration;

use serde_json::json;

use super::Printer;
use super::diagnostic::render_message;
use super::progress::ProgressMode;
use super::text::{sanitize, visible};
use crate::cli::context::Context;
use crate::engine::watch::event::{Changed, WatchEvent, WatchSink};

/// Writes events to standard error.
pub(crate) struct WatchPainter<'a> {
    printer: &'a Printer,
    mode: ProgressMode,
}

impl<'a> WatchPainter<'a> {
    /// Begins.
    pub(crate) fn new(context: &'a Context) -> Self {
        Self {
            printer: &context.printer,
            mode: context.progress,
        }
    }
}

impl WatchSink for WatchPainter<'_> {
    fn watched(&self, event: WatchEvent) {
        let important = matches!(event, WatchEvent::Warning(_) | WatchEvent::Failed { .. });
        match self.mode {
            ProgressMode::Json => self.printer.err(format!("{}\n", object(&event))),
            ProgressMode::Quiet if !important => {}
            ProgressMode::Quiet
            | ProgressMode::Plain
            | ProgressMode::Tty
            | ProgressMode::RawJson => {
                self.printer
                    .err(render(&event, self.printer.err_look.colour));
            }
        }
    }
}

/// Renders one event as lines.
fn render(event: &WatchEvent, colour: bool) -> String {
    let line = |text: String| {
        format!(
            "watch  {}\n",
            visible(&text.replace(['\n', '\r', '\t'], " "))
        )
    };
    match event {
        WatchEvent::Enabled {
            services,
            directories,
        } => line(format!(
            "enabled for {} ({})",
            services.join(", "),
            count(*directories, "directory", "directories")
        )),
        WatchEvent::Done {
            service,
            changed,
            synced,
            restarted,
            took,
        } => {
            let mut done = Vec::new();
            if *synced > 0 {
                done.push(format!("synced {}", count(*synced, "file", "files")));
            }
            if *restarted > 0 {
                done.push(format!(
                    "restarted {}",
                    count(*restarted, "container", "containers")
                ));
            }
            line(format!(
                "{service}  {}{}  {}",
                what(changed),
                done.join(", "),
                time(*took)
            ))
        }
        WatchEvent::Rebuilding { services, changed } => line(format!(
            "{}  {}rebuilding",
            services.join(", "),
            what(changed)
        )),
        WatchEvent::Superseded { services } => line(format!(
            "{}  build given up for a newer change",
            services.join(", ")
        )),
        WatchEvent::Rebuilt { services, took } => {
            line(format!("{}  rebuilt  {}", services.join(", "), time(*took)))
        }
        WatchEvent::Failed {
            service,
            attempted,
            reason,
        } => {
            let mut text = line(format!(
                "{service}  {attempted}: failed; what runs stays as it is"
            ));
            for piece in reason.lines().flat_map(|line| sanitize(line.as_bytes())) {
                text.push_str(&line(format!("{service}  {piece}")));
            }
            text
        }
        WatchEvent::Warning(text) => render_message("warning", text, &[], colour),
    }
}

/// Returns one event as an object.
fn object(event: &WatchEvent) -> serde_json::Value {
    let paths = |changed: &Changed| json!({ "path": changed.first, "more": changed.more });
    match event {
        WatchEvent::Enabled {
            services,
            directories,
        } => json!({ "watch": "enabled", "services": services, "directories": directories }),
        WatchEvent::Done {
            service,
            changed,
            synced,
            restarted,
            took,
        } => json!({
            "watch": "done", "service": service, "changed": paths(changed), "synced": synced,
            "restarted": restarted, "milliseconds": milliseconds(*took),
        }),
        WatchEvent::Rebuilding { services, changed } => {
            json!({ "watch": "rebuilding", "services": services, "changed": paths(changed) })
        }
        WatchEvent::Superseded { services } => {
            json!({ "watch": "superseded", "services": services })
        }
        WatchEvent::Rebuilt { services, took } => {
            json!({ "watch": "rebuilt", "services": services, "milliseconds": milliseconds(*took) })
        }
        WatchEvent::Failed {
            service,
            attempted,
            reason,
        } => json!({
            "watch": "failed", "service": service, "attempted": attempted, "reason": reason,
        }),
        WatchEvent::Warning(text) => json!({ "watch": "warning", "message": text }),
    }
}

/// Renders what changed, with the space behind it.
fn what(changed: &Changed) -> String {
    let first = changed.first.display();
    match (changed.first.as_os_str().is_empty(), changed.more) {
        (true, _) => String::new(),
        (false, 0) => format!("{first}  "),
        (false, more) => format!("{first} (+{more})  "),
    }
}

fn count(number: usize, one: &str, many: &str) -> String {
    let word = if number == 1 { one } else { many };
    format!("{number} {word}")
}

fn time(took: Duration) -> String {
    if took < Duration::from_secs(1) {
        format!("{:.1}ms", milliseconds(took))
    } else {
        format!("{:.2}s", took.as_secs_f64())
    }
}

fn milliseconds(took: Duration) -> f64 {
    // Tenths are as much as the clock of a busy machine is good for.
    (took.as_secs_f64() * 10_000.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    #[test]
    fn a_line_a_batch() {
        let changed = |more| Changed {
            first: PathBuf::from("src/app.py"),
            more,
        };
        let services = vec!["web".to_owned(), "worker".to_owned()];
        let done = |synced, restarted, more, took| WatchEvent::Done {
            service: "web".to_owned(),
            changed: changed(more),
            synced,
            restarted,
            took: Duration::from_micros(took),
        };
        let rows = [
            (
                WatchEvent::Enabled {
                    services: services.clone(),
                    directories: 1,
                },
                "watch  enabled for web, worker (1 directory)\n",
            ),
            (
                done(1, 0, 0, 12_440),
                "watch  web  src/app.py  synced 1 file  12.4ms\n",
            ),
            (
                done(3, 2, 2, 1_421_000),
                "watch  web  src/app.py (+2)  synced 3 files, restarted 2 containers  1.42s\n",
            ),
            (
                WatchEvent::Rebuilding {
                    services: services.clone(),
                    changed: changed(0),
                },
                "watch  web, worker  src/app.py  rebuilding\n",
            ),
            (
                WatchEvent::Rebuilding {
                    services: services.clone(),
                    changed: Changed::default(),
                },
                "watch  web, worker  rebuilding\n",
            ),
            (
                WatchEvent::Superseded {
                    services: services.clone(),
                },
                "watch  web, worker  build given up for a newer change\n",
            ),
            (
                WatchEvent::Rebuilt {
                    services,
                    took: Duration::from_millis(20),
                },
                "watch  web, worker  rebuilt  20.0ms\n",
            ),
            (
                WatchEvent::Failed {
                    service: "web".to_owned(),
                    attempted: "rebuild".to_owned(),
                    reason: "one\ntwo".to_owned(),
                },
                "watch  web  rebuild: failed; what runs stays as it is\nwatch  web  one\nwatch  web  two\n",
            ),
        ];
        for (event, expected) in rows {
            assert_eq!(render(&event, false), expected);
        }
    }
}
