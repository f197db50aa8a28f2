//! What can go wrong at the top, with advice and an exit code.

use std::io;
use std::path::PathBuf;

use crate::engine::apply::ApplyError;
use crate::engine::instance::InstanceError;
use crate::engine::lower::LowerError;
use crate::engine::source::SourceError;
use crate::engine::watch::error::WatchError;
use crate::images::{ImageError, ReferenceError};
use crate::net::error::NetError;
use crate::plan::error::PlanError;
use crate::runtime::RuntimeError;

/// Why a command of the engine failed.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// Not enough rights.
    #[error("containers need root: this process runs as user {uid}")]
    NotRoot {
        /// Who runs it.
        uid: u32,
    },
    /// Too old a kernel.
    #[error("Linux {found} is too old: 5.15 or later is needed")]
    Kernel {
        /// `uname -r`.
        found: String,
    },
    /// The roots.
    #[error(transparent)]
    Instance(#[from] InstanceError),
    /// Planning.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// Applying.
    #[error(transparent)]
    Apply(#[from] ApplyError),
    /// Containers.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    /// Networks.
    #[error(transparent)]
    Net(#[from] NetError),
    /// Images.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// A name of an image.
    #[error(transparent)]
    Reference(#[from] ReferenceError),
    /// Where a project is taken from.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// A service asks for what cannot be.
    #[error("service `{service}`")]
    Lower {
        /// Which.
        service: String,
        /// What.
        #[source]
        source: LowerError,
    },
    /// Several teardowns failed.
    #[error("{}", messages.join("; "))]
    Several {
        /// One line each.
        messages: Vec<String>,
    },
    /// A record, lock or file of the engine's own.
    #[error("{attempted} `{}`", path.display())]
    File {
        /// `read`, `write`, `lock`.
        attempted: &'static str,
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// No such container to run something in.
    #[error("service `{service}` is not running: no container with number {index}")]
    NotRunning {
        /// Which service.
        service: String,
        /// Which of its containers.
        index: u32,
    },
    /// A further process did not start.
    #[error("{message}")]
    Start {
        /// 126, 127 or 128.
        code: i32,
        /// Why.
        message: String,
    },
    /// A process or descriptor of the engine's own.
    #[error("{attempted}")]
    System {
        /// What was attempted.
        attempted: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Watching source files.
    #[error(transparent)]
    Watch(#[from] WatchError),
    /// The user asked to stop.
    #[error("interrupted")]
    Interrupted,
}

impl EngineError {
    /// Makes an error of a file of the engine's own.
    pub(crate) fn file(attempted: &'static str, path: &std::path::Path, source: io::Error) -> Self {
        Self::File {
            attempted,
            path: path.to_owned(),
            source,
        }
    }

    /// Returns advice, where there is some.
    pub fn hints(&self) -> Vec<String> {
        let hint = match self {
            Self::NotRoot { .. } => "run it with `sudo`; running without root is not supported yet",
            Self::NotRunning { .. } => "`stack ps` shows what runs",
            Self::Watch(error) => match error.hint() {
                Some(hint) => hint,
                None => return Vec::new(),
            },
            Self::Source(error) => match error.hint() {
                Some(hint) => hint,
                None => return Vec::new(),
            },
            _ => return Vec::new(),
        };
        vec![hint.to_owned()]
    }

    /// Returns the exit code: 127 and 126 of a command that cannot run, 130 interrupted, else 1.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Start { code, .. } => u8::try_from(*code).unwrap_or(1),
            Self::Interrupted | Self::Apply(ApplyError::Interrupted { .. }) => 130,
            Self::Apply(ApplyError::Failed { failures }) => failures
                .iter()
                .find_map(|failure| start_code(failure.source.as_ref()))
                .unwrap_or(1),
            Self::Source(error) if error.is_usage() => 2,
            _ => 1,
        }
    }
}

/// Returns 126 or 127 where a command could not be run.
fn start_code(error: &(dyn std::error::Error + 'static)) -> Option<u8> {
    match error.downcast_ref::<crate::runtime::StartError>() {
        Some(crate::runtime::StartError::Failed {
            code: code @ (126 | 127),
            ..
        }) => u8::try_from(*code).ok(),
        _ => None,
    }
}
