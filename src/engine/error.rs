//! What can go wrong at the top, with advice and an exit code.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use crate::engine::apply::ApplyError;
use crate::engine::instance::InstanceError;
use crate::engine::lower::LowerError;
use crate::engine::source::SourceError;
use crate::engine::watch::error::WatchError;
use crate::images::{ImageError, ReferenceError};
use crate::net::config::Protocol;
use crate::net::error::NetError;
use crate::net::ports::Holder;
use crate::plan::error::PlanError;
use crate::runtime::RuntimeError;

/// A host port that a container cannot have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortConflict {
    /// Whose service.
    pub service: String,
    /// Which of the service's `ports`, from 0.
    pub index: usize,
    /// Which container.
    pub container: String,
    /// Address and port on the host.
    pub address: SocketAddr,
    /// Transport.
    pub protocol: Protocol,
    /// Who has it.
    pub holder: PortHolder,
}

/// Who has a host port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PortHolder {
    /// Another container that is to be started with it, of this service or another one of the project.
    Planned {
        /// Its name.
        container: String,
        /// Whether it is of the same service.
        same_service: bool,
    },
    /// A container that runs.
    Container {
        /// Its name.
        container: String,
        /// Its project.
        project: String,
    },
    /// A process of the host.
    Process(Holder),
    /// Nobody that could be found.
    Unknown,
    /// Nobody: it cannot be had, for this reason.
    Refused(String),
}

impl PortConflict {
    /// Returns advice, where there is some.
    pub fn hint(&self) -> Option<&'static str> {
        match &self.holder {
            PortHolder::Planned {
                same_service: true, ..
            } => Some(
                "leave the host's port out, or give a range of ports, for a service of several containers",
            ),
            _ => None,
        }
    }
}

impl std::fmt::Display for PortConflict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            container,
            address,
            protocol,
            holder,
            ..
        } = self;
        let protocol = protocol.name();
        write!(
            f,
            "host port {address}/{protocol} for container {container} "
        )?;
        match holder {
            PortHolder::Planned { container, .. } => {
                write!(f, "is also for container {container}")
            }
            PortHolder::Container { container, project } if project.is_empty() => {
                write!(f, "is in use by container {container}")
            }
            PortHolder::Container { container, project } => {
                write!(f, "is in use by container {container} of project {project}")
            }
            PortHolder::Process(Holder { pid, command }) => {
                write!(f, "is in use by process {pid} ({command})")
            }
            PortHolder::Unknown => f.write_str("is in use"),
            PortHolder::Refused(reason) => write!(f, "cannot be bound: {reason}"),
        }
    }
}

/// A file of a secret that a build is given, and that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("secret `{secret}` of the build of service `{service}`: file `{}`: {reason}", path.display())]
pub struct MissingSecret {
    /// Whose build.
    pub service: String,
    /// Key of the secret.
    pub secret: String,
    /// The file.
    pub path: PathBuf,
    /// Why.
    pub reason: String,
}

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
    /// Images that go as fast as they come.
    #[error("the images of the project are removed by other commands as soon as they are here")]
    ImagesGone,
    /// A build.
    #[error(transparent)]
    Build(Box<crate::images::build::BuildError>),
    /// An option of a build.
    #[error(transparent)]
    Option(#[from] crate::engine::build::options::OptionError),
    /// Secrets of builds whose files are not there.
    #[error("{}", missing.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    BuildSecrets {
        /// One for each secret of each service.
        missing: Vec<MissingSecret>,
    },
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
    /// Host ports that somebody has.
    #[error("{}", conflicts.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Ports {
        /// One for each port.
        conflicts: Vec<PortConflict>,
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
    /// There is none of that name or id.
    #[error("No such container: {key}")]
    NoSuchContainer {
        /// As asked for.
        key: String,
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

impl From<crate::images::build::BuildError> for EngineError {
    fn from(error: crate::images::build::BuildError) -> Self {
        match error {
            crate::images::build::BuildError::Interrupted => Self::Interrupted,
            error => Self::Build(Box::new(error)),
        }
    }
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

    /// Whether an image was named that is not there.
    pub fn is_no_such_image(&self) -> bool {
        matches!(self, Self::Image(ImageError::NoSuchImage { .. }))
    }

    /// Returns advice, where there is some.
    pub fn hints(&self) -> Vec<String> {
        let hint = match self {
            Self::NotRoot { .. } => "run it with `sudo`; running without root is not supported yet",
            Self::NotRunning { .. } => "`stack ps` shows what runs",
            Self::Ports { conflicts } => match conflicts.iter().find_map(PortConflict::hint) {
                Some(hint) => hint,
                None => return Vec::new(),
            },
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
            Self::Option(_) => 2,
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
