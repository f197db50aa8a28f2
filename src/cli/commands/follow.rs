//! Copying log lines to the terminal, for `logs` and attached `up`.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;

use crate::cli::args::LogLook;
use crate::cli::context::Context;
use crate::cli::failure::CliError;
use crate::cli::render::logs::{LogPainter, LogStyle};
use crate::cli::render::progress::Progress;
use crate::engine::LogStream;
use crate::engine::cancel::Cancel;
use crate::engine::view::{ContainerView, LogKind, LogLine};
use crate::spec::names::ProjectName;

/// Which end of a container is told to whoever waits for [`Ends::happened`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum EndsOn {
    /// None.
    Nothing,
    /// With an exit code other than 0.
    Failure,
    /// Every one.
    Exit,
}

/// The first end of a container that matters.
#[derive(Default)]
pub(super) struct Ends {
    /// Cancelled once it happened.
    pub(super) happened: Cancel,
    /// Its exit code.
    pub(super) code: Cell<i32>,
}

/// Copies lines.
pub(super) struct Follow<'a> {
    context: &'a Context,
    painter: &'a RefCell<LogPainter>,
    /// Services whose lines are shown; all where `None`.
    pub(super) shown: Option<BTreeSet<String>>,
    /// Which ends matter, of the shown services and of `verdict_of`.
    pub(super) ends_on: EndsOn,
    /// A service whose end matters though it may not be shown.
    pub(super) verdict_of: Option<String>,
    /// What is drawn on the same terminal.
    pub(super) beside: Option<&'a Progress<'a>>,
}

impl<'a> Follow<'a> {
    /// Shows every line; no end matters.
    pub(super) fn new(context: &'a Context, painter: &'a RefCell<LogPainter>) -> Self {
        Self {
            context,
            painter,
            shown: None,
            ends_on: EndsOn::Nothing,
            verdict_of: None,
            beside: None,
        }
    }

    /// Copies until the stream ends.
    pub(super) async fn copy(&mut self, stream: &mut LogStream) -> Result<(), CliError> {
        self.copy_telling(stream, &Ends::default()).await
    }

    /// Copies until the stream ends, and tells the first end that matters.
    pub(super) async fn copy_telling(
        &mut self,
        stream: &mut LogStream,
        ends: &Ends,
    ) -> Result<(), CliError> {
        while let Some(line) = self.next(stream).await? {
            if let LogKind::Exited {
                code,
                restarting: false,
            } = line.kind
            {
                let code = code.unwrap_or(1);
                let matters = match self.ends_on {
                    EndsOn::Nothing => false,
                    EndsOn::Failure => code != 0,
                    EndsOn::Exit => true,
                };
                let of_interest =
                    self.is_shown(&line) || self.verdict_of.as_ref() == Some(&line.service);
                if matters && of_interest && !ends.happened.is_cancelled() {
                    ends.code.set(code);
                    ends.happened.cancel();
                }
            }
            self.show(&line)?;
        }
        self.context.flush()
    }

    /// Returns the next line; while there is none, nothing waits in the buffer.
    async fn next(&self, stream: &mut LogStream) -> Result<Option<LogLine>, CliError> {
        let mut next = pin!(stream.next());
        let ready = poll_fn(|task| Poll::Ready(next.as_mut().poll(task))).await;
        match ready {
            Poll::Ready(line) => Ok(line?),
            Poll::Pending => {
                self.context.flush()?;
                self.beside.inspect(|progress| progress.come_back());
                Ok(next.await?)
            }
        }
    }

    fn is_shown(&self, line: &LogLine) -> bool {
        let shown = self.shown.as_ref();
        shown.is_none_or(|shown| shown.contains(&line.service))
    }

    fn show(&mut self, line: &LogLine) -> Result<(), CliError> {
        if !self.is_shown(line) {
            return Ok(());
        }
        let bytes = self.painter.borrow_mut().render(line);
        let to_err = matches!(line.kind, LogKind::Text { stderr: true, .. });
        if to_err || self.context.printer.out_look.terminal {
            self.beside.inspect(|progress| progress.make_way());
        }
        if to_err {
            self.context.flush()?;
            self.context.printer.err(bytes);
            Ok(())
        } else {
            self.context.out(bytes)
        }
    }
}

/// Makes a painter that knows the project's containers.
pub(super) fn painter(
    context: &Context,
    project: &ProjectName,
    containers: &[ContainerView],
    (look, timestamps): (LogLook, bool),
) -> LogPainter {
    let style = LogStyle {
        prefix: !look.no_log_prefix,
        timestamps,
        colour: context.printer.out_look.colour && !look.no_color,
    };
    let names = containers.iter().map(|container| {
        (
            container.name.as_str(),
            container.service.as_str(),
            container.number,
        )
    });
    LogPainter::new(project.as_str(), names, style, context.printer.out_look)
}
