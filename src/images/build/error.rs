//! What can go wrong with a build.

use std::io;
use std::path::PathBuf;

use super::super::dockerfile::mount::MountError;
use super::super::dockerfile::{DockerfileError, Place, Span};
use super::super::error::ImageError;
use super::super::reference::ReferenceError;
use super::super::store::StoreError;
use super::StepError;
use super::context::ContextError;
use super::exchange::CacheError;
use super::owner::OwnerError;
use super::pattern::PatternError;
use super::remote::RemoteError;
use super::secrets::SecretError;
use super::stage::StageError;

/// A failed build.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The Dockerfile cannot be read.
    #[error("read the Dockerfile `{}`", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The Dockerfile says something wrong, or something that is not supported yet.
    #[error(transparent)]
    Dockerfile(#[from] DockerfileError),
    /// A target that is no stage.
    #[error("target stage `{name}` could not be found in `{}`", path.display())]
    Target {
        /// As asked for.
        name: String,
        /// The Dockerfile, as shown in messages.
        path: PathBuf,
        /// What may have been meant.
        hint: String,
    },
    /// No bill of materials could be made.
    #[error("make a bill of materials with `{image}`")]
    Scanner {
        /// The scanner's image.
        image: String,
        /// Why not.
        #[source]
        source: Box<StepFailure>,
    },
    /// The context is not a directory.
    #[error("build context `{}`", path.display())]
    Context {
        /// Which.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A named context is not there.
    #[error("named context `{name}`")]
    Named {
        /// As it was given.
        name: String,
        /// Why not.
        #[source]
        source: Box<Self>,
    },
    /// The ignore rules cannot be read.
    #[error("read `{}`", path.display())]
    Ignore {
        /// Which file.
        path: PathBuf,
        /// What is wrong in it.
        #[source]
        source: PatternError,
    },
    /// A step failed.
    #[error("{}: {}", at.place, at.step)]
    Step {
        /// Where.
        at: Box<Excerpt>,
        /// Why.
        #[source]
        source: Box<StepFailure>,
    },
    /// A context from a stream.
    #[error("read the build context")]
    Spool {
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A context that is elsewhere.
    #[error("fetch the build context `{context}`")]
    Fetch {
        /// Without a password.
        context: String,
        /// Why it cannot be had.
        #[source]
        source: RemoteError,
    },
    /// A Dockerfile that a link of the context puts outside of it.
    #[error("the Dockerfile `{}` is not in the build context", path.display())]
    Outside {
        /// As asked for.
        path: PathBuf,
    },
    /// A cache that cannot be brought to where it is to go.
    #[error("write the cache `{place}`")]
    Export {
        /// Where to.
        place: String,
        /// Why not.
        #[source]
        source: Box<CacheError>,
    },
    /// `SOURCE_DATE_EPOCH`.
    #[error("invalid SOURCE_DATE_EPOCH `{0}`: it must be seconds since 1970")]
    Epoch(String),
    /// Nothing to build for.
    #[error("there is no platform to build for")]
    NoPlatform,
    /// Whoever builds wants it no longer.
    #[error("interrupted")]
    Interrupted,
    /// The store, outside of any step.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The cache's directory.
    #[error(transparent)]
    Cache(io::Error),
}

/// An instruction in its Dockerfile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Excerpt {
    /// Where it begins.
    pub place: Place,
    /// On one line.
    pub step: String,
    /// All of it, in `text`.
    pub span: Span,
    /// The Dockerfile.
    pub text: String,
}

/// Why a step failed.
#[derive(Debug, thiserror::Error)]
pub enum StepFailure {
    /// Its command did.
    #[error("process \"{command}\" did not complete successfully: exit code: {exit_code}")]
    Exit {
        /// The command.
        command: String,
        /// 128 + signal where a signal ended it.
        exit_code: i32,
        /// The last lines that it wrote.
        tail: Vec<String>,
    },
    /// A base image that is here for another platform only.
    #[error("base image `{image}` is here for {found} only, and for {wanted} it cannot be pulled")]
    OtherPlatform {
        /// As written.
        image: String,
        /// What it is for.
        found: String,
        /// What is built.
        wanted: String,
        /// Why it cannot be had.
        #[source]
        source: Box<ImageError>,
    },
    /// Its command is for another processor, and the kernel has no emulator for it.
    #[error(
        "process \"{command}\" did not complete successfully: exec format error: it is for {platform}, and this machine runs {host}: install an emulator that the kernel runs it with (binfmt_misc), on Debian `apt-get install qemu-user-static binfmt-support`"
    )]
    Foreign {
        /// The command.
        command: String,
        /// What it is for.
        platform: String,
        /// What this machine runs.
        host: String,
    },
    /// It could not be run.
    #[error(transparent)]
    Runner(#[from] StepError),
    /// Its text cannot be expanded.
    #[error(transparent)]
    Stage(#[from] StageError),
    /// What it copies cannot be found.
    #[error(transparent)]
    Context(#[from] ContextError),
    /// A pattern of `--exclude`.
    #[error(transparent)]
    Pattern(#[from] PatternError),
    /// Its owner is not known.
    #[error(transparent)]
    Owner(#[from] OwnerError),
    /// `--chmod`.
    #[error("invalid chmod parameter: '{0}'. it should be octal string and between 0 and 07777")]
    Mode(String),
    /// A source of `ADD` that lies elsewhere.
    #[error(transparent)]
    Remote(#[from] RemoteError),
    /// A `--mount`.
    #[error(transparent)]
    Mount(#[from] MountError),
    /// Mounted over everything.
    #[error("invalid mount target \"{0}\"")]
    MountTarget(String),
    /// Required, and not given.
    #[error("secret \"{0}\": not found: it is required and was not given")]
    NoSecret(String),
    /// A secret that cannot be read.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// What no variable can hold.
    #[error("secret \"{0}\" has a NUL byte: the variable {1} cannot hold it")]
    SecretNul(String, String),
    /// Required, and not given.
    #[error("ssh agent \"{0}\": not found: it is required and was not given")]
    NoAgent(String),
    /// Required, and not there.
    #[error("required device {0:?} is not registered")]
    NoDevice(String),
    /// Not for this build.
    #[error(
        "device {0:?} is not allowed: the build must be given `--allow device` or `--allow device={0}`"
    )]
    DeviceNotAllowed(String),
    /// A device that is named and not there.
    #[error("device {name:?}: `{}`", path.display())]
    Device {
        /// Its name.
        name: String,
        /// Its node on the machine.
        path: PathBuf,
        /// What is wrong with that.
        #[source]
        source: io::Error,
    },
    /// A named context.
    #[error("context `{name}`")]
    NamedContext {
        /// Which.
        name: String,
        /// Why not.
        #[source]
        source: Box<BuildError>,
    },
    /// Asks for what whoever builds has not allowed.
    #[error("{0} is not allowed: the build must be given `--allow {0}`")]
    NotAllowed(&'static str),
    /// Valid, but not done by this builder.
    #[error("not supported yet: {0}")]
    NotSupported(String),
    /// What a cache begins with is not what it was when the cache got its name.
    #[error("`{}` changed while the build went on", .0.display())]
    Changed(PathBuf),
    /// A here-document that cannot be a file of that name.
    #[error("the name of a here-document that becomes a file cannot be a path")]
    DocumentName,
    /// Never valid.
    #[error("{0}")]
    Invalid(&'static str),
    /// Not the name of an image.
    #[error(transparent)]
    Reference(#[from] ReferenceError),
    /// The image cannot be got.
    #[error(transparent)]
    Image(Box<ImageError>),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A file.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl From<ImageError> for StepFailure {
    fn from(error: ImageError) -> Self {
        Self::Image(Box::new(error))
    }
}
