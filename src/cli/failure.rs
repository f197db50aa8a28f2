//! How a command can end other than well.

use std::io;
use std::path::PathBuf;

use super::render::Printer;
use super::render::diagnostic::{Drawing, render_all, render_chain, render_hints};
use super::render::progress::ProgressMode;
use super::render::template::TemplateError;
use crate::engine::EngineError;
use crate::engine::apply::ApplyError;
use crate::engine::in_dockerfile;
use crate::plan::error::PlanError;
use crate::spec::source::Sources;
use crate::spec::{Diagnostic, LoadFailure, Loaded};

/// Why a command ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CliError {
    /// Typed wrongly.
    #[error("{message}")]
    Usage {
        /// What is wrong.
        message: String,
        /// What to type instead.
        hints: Vec<String>,
    },
    /// Known, but nothing does it yet.
    #[error("{0}: not supported yet")]
    NotSupported(String),
    /// It could be done, and is not.
    #[error("{0}")]
    Refused(String),
    /// The files have errors.
    #[error("the project does not load")]
    Load(Box<LoadFailure>),
    /// A service was named that is not there.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The work failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The work failed, and places of the files are at fault.
    #[error(transparent)]
    Placed(Box<Placed>),
    /// More than one thing went wrong.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Several(Vec<Self>),
    /// `--format` does not fit.
    #[error(transparent)]
    Template(#[from] TemplateError),
    /// Standard output cannot be written.
    #[error("write to standard output")]
    Output(#[source] io::Error),
    /// A file cannot be read or written.
    #[error("{attempted} `{}`", path.display())]
    File {
        /// `read`, `write`.
        attempted: &'static str,
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The process or its terminal.
    #[error("{attempted}")]
    System {
        /// What was attempted.
        attempted: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Whoever typed it wants it no longer.
    #[error("interrupted")]
    Interrupted,
    /// Nothing went wrong here: the command's result is another exit code, and all has been said.
    #[error("exit code {0}")]
    Ended(u8),
}

/// An error of the work with the places that it stems from.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub(crate) struct Placed {
    #[source]
    error: EngineError,
    diagnostics: Vec<Diagnostic>,
    sources: Sources,
}

impl CliError {
    /// Adds the places in the loaded files that are at fault, where there are any.
    pub(crate) fn at(self, loaded: &Loaded) -> Self {
        let error = match self {
            Self::Engine(error) => error,
            Self::Plan(error) => EngineError::Plan(error),
            other => return other,
        };
        let mut sources = loaded.sources.clone();
        let diagnostics = error.diagnose(&loaded.stack, &mut sources);
        if diagnostics.is_empty() {
            return Self::Engine(error);
        }
        Self::Placed(Box::new(Placed {
            error,
            diagnostics,
            sources,
        }))
    }

    /// Makes an error of what was typed.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::Usage {
            message: message.into(),
            hints: Vec::new(),
        }
    }

    /// Returns the exit code: 1 failed, 2 usage, 130 interrupted, else the container's. A reader that went away is
    /// success.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Usage { .. } | Self::NotSupported(_) => 2,
            Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => 0,
            Self::Load(_)
            | Self::Refused(_)
            | Self::Template(_)
            | Self::Plan(_)
            | Self::Output(_)
            | Self::File { .. }
            | Self::System { .. } => 1,
            Self::Engine(error) => error.exit_code(),
            Self::Placed(placed) => placed.error.exit_code(),
            Self::Several(errors) => errors.iter().map(Self::exit_code).max().unwrap_or(1),
            Self::Interrupted => 130,
            Self::Ended(code) => *code,
        }
    }

    /// Says what went wrong, with places and hints.
    pub(crate) fn report(&self, printer: &Printer, progress: ProgressMode) {
        if let Self::Ended(_) = self {
            return;
        }
        // Who pressed a key on a terminal knows why the steps end there.
        if matches!(self, Self::Interrupted) && progress == ProgressMode::Tty {
            return;
        }
        if self.exit_code() == 0 {
            return;
        }
        if progress == ProgressMode::Json {
            let message = self.text(Drawing::plain());
            let object = serde_json::json!({ "error": true, "message": message.trim_end() });
            printer.err(format!("{object}\n"));
        } else {
            printer.err(self.text(Drawing::on(printer)));
        }
    }

    /// Renders what went wrong, with places and hints.
    pub(crate) fn text(&self, drawing: Drawing) -> String {
        let colour = drawing.colour;
        match self {
            Self::Engine(EngineError::Apply(error)) => render_steps(error, &self.hints(), drawing),
            Self::Engine(EngineError::Build(error)) => {
                let mut sources = Sources::default();
                let diagnostics = in_dockerfile(error, &mut sources);
                if diagnostics.is_empty() {
                    return render_chain(self, &self.hints(), colour);
                }
                render_all(&diagnostics, &sources, drawing)
            }
            Self::Load(failure) => render_all(&failure.diagnostics, &failure.sources, drawing),
            Self::Several(errors) => errors.iter().map(|error| error.text(drawing)).collect(),
            Self::Placed(placed) => render_all(&placed.diagnostics, &placed.sources, drawing),
            error => render_chain(error, &error.hints(), colour),
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::Usage { hints, .. } => hints.clone(),
            Self::Engine(error) => error.hints(),
            _ => Vec::new(),
        }
    }
}

/// Renders every step that failed, and that the rest was left undone where it was.
fn render_steps(error: &ApplyError, hints: &[String], drawing: Drawing) -> String {
    let colour = drawing.colour;
    let (failures, rest) = match error {
        ApplyError::Failed { failures } => (failures, None),
        ApplyError::Interrupted { failures } => (failures, Some(error)),
    };
    let mut text: String = failures
        .iter()
        .map(|failure| {
            let mut sources = Sources::default();
            let diagnostics = failure.in_dockerfile(&mut sources);
            if diagnostics.is_empty() {
                render_chain(failure, &[], colour)
            } else {
                render_all(&diagnostics, &sources, drawing)
            }
        })
        .collect();
    if let Some(error) = rest {
        text.push_str(&render_chain(error, &[], colour));
    }
    text.push_str(&render_hints(hints, colour));
    text
}

/// Makes exit codes of processes (0 to 255, or -1 where none is known) ours.
pub(crate) fn result_of(code: i32) -> Result<(), CliError> {
    match code {
        0 => Ok(()),
        code => Err(CliError::Ended(u8::try_from(code).unwrap_or(1))),
    }
}
