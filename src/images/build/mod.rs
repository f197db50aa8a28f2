//! Builds images from Dockerfiles: a layer per step, and a cache.
//!
//! ```text
//! Dockerfile ─plan─> steps of the stages that are needed ─┬─ key in the cache ──> its layer
//!                                                         └─ else copy | run ──> staging/diff ─commit─> layer, cache entry
//! ```
//!
//! The upper directory of a step is its layer: no tar is written (see the store for who gets one). A layer's digest is that of the
//! tar all the same; the digest of a large one is found out by a thread beside the next `RUN`, and always before the build ends.
//!
//! This room decides and copies; it never runs a container. `RUN` steps go to a [`StepRunner`], which the engine
//! implements.

pub mod archive;
mod builder;
pub mod cache;
pub mod context;
pub mod copy;
pub mod error;
mod execute;
mod explain;
mod graph;
mod inputs;
pub mod mode;
pub mod owner;
pub mod pattern;
pub mod plan;
pub mod run;
mod session;
pub mod stage;
mod transfer;
pub mod tree;
mod work;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::pin::Pin;
use std::time::Duration;

use super::manifest::Platform;
use super::progress::BlobState;
use super::reference::{Digest, Reference};
use super::store::Image;

pub use error::{BuildError, Excerpt, StepFailure};
pub use inputs::ignore_rules;
pub use session::Session;

/// Runs the command of a `RUN` step in a container of its own.
pub trait StepRunner {
    /// Runs `step` to its end and returns its exit code (128 + signal where a signal ended it), passing what it writes to
    /// stdout and stderr, as it comes and in any pieces, to `output`.
    ///
    /// The runner mounts an overlay of `step.layers` below `step.upper` (without `redirect_dir`, `metacopy` and `index`, so that
    /// the upper directory is a layer by itself), runs with stdin closed, and takes every mount down before it returns.
    fn run<'a>(
        &'a self,
        step: &'a RunStep,
        output: &'a mut dyn FnMut(&[u8]),
    ) -> Pin<Box<dyn Future<Output = Result<i32, StepError>> + 'a>>;
}

/// One `RUN` step, ready to be run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunStep {
    /// Overlay lower directories, top first. The top one may hold mount points that the image lacks ([`run`]).
    pub layers: Vec<PathBuf>,
    /// Overlay upper directory, which becomes the layer: empty but for missing `/proc`, `/sys` and `/dev`.
    pub upper: PathBuf,
    /// Overlay work directory: empty, on the file system of `upper`.
    pub work: PathBuf,
    /// The program and its arguments; the program is looked up in `PATH` of `env`, inside the root.
    pub args: Vec<String>,
    /// `NAME=value`, in order, each name once. The runner adds `HOME` from `/etc/passwd` where it is missing.
    pub env: Vec<String>,
    /// Absolute working directory inside the root.
    pub cwd: String,
    /// As `USER` gives it: name or number, with an optional `:group`; empty is root.
    pub user: String,
}

/// Why a step could not be run at all; a command that fails is not an error but an exit code.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct StepError {
    /// What was attempted, on what.
    pub message: String,
    /// Why it failed.
    #[source]
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// What a build tells while it goes on. Steps of different stages go on at once.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum BuildEvent<'a> {
    /// A step begins.
    Started(StepLabel<'a>),
    /// The step that began was found in the cache.
    Cached(StepLabel<'a>),
    /// The running step wrote one line, without its newline.
    Output(StepLabel<'a>, &'a [u8]),
    /// The step is not in the cache, for this reason ([`BuildRequest::explain`]).
    Explained(StepLabel<'a>, &'a str),
    /// The step is done.
    Done(StepLabel<'a>, Duration),
    /// The command of a `RUN` step ended with an exit code other than 0; the last lines it wrote follow.
    Failed {
        /// The step.
        step: StepLabel<'a>,
        /// Its exit code.
        exit_code: i32,
        /// At most [`TAIL_LINES`] lines.
        tail: &'a [String],
    },
    /// A base image is being pulled.
    Pulling {
        /// As the Dockerfile names it.
        image: &'a str,
        /// One of its layers.
        blob: &'a Digest,
        /// Where that stands.
        state: BlobState,
    },
    /// Something that does not stop the build but that its author should know.
    Warning(&'a str),
}

/// How many last lines of a failed step's output are kept.
pub const TAIL_LINES: usize = 20;

/// A step's name: `[stage 2/5] RUN make`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StepLabel<'a> {
    /// From 1.
    pub number: usize,
    /// How many there are.
    pub total: usize,
    /// The stage's name, or its number from 0; empty where the build has one stage.
    pub stage: &'a str,
    /// The instruction, on one line, with its variables' values.
    pub text: &'a str,
}

impl std::fmt::Display for StepLabel<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            number,
            total,
            stage,
            text,
        } = self;
        if stage.is_empty() {
            write!(f, "[{number}/{total}] {text}")
        } else {
            write!(f, "[{stage} {number}/{total}] {text}")
        }
    }
}

/// Hears what a build tells.
pub trait BuildProgress {
    /// Takes one event.
    fn event(&self, event: BuildEvent<'_>);
}

/// Where the Dockerfile is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DockerfileSource {
    /// A path, relative to the context unless absolute.
    Path(PathBuf),
    /// The text itself.
    Inline(String),
}

/// What to build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildRequest {
    /// The directory that `COPY` and `ADD` take from.
    pub context: PathBuf,
    /// The Dockerfile.
    pub dockerfile: DockerfileSource,
    /// Build arguments; one without a value is as good as not given.
    pub args: BTreeMap<String, Option<String>>,
    /// The stage to build: a name or a number from 0; the last where absent.
    pub target: Option<String>,
    /// The names that the image gets.
    pub tags: Vec<Reference>,
    /// Labels that it gets beside those of the Dockerfile, and over them.
    pub labels: BTreeMap<String, String>,
    /// Do every step again; what they make is remembered all the same.
    pub no_cache: bool,
    /// Say of each step that is done why it was not in the cache.
    pub explain: bool,
    /// Ask the registry also for base images that are here.
    pub pull: bool,
    /// What the image is to run on.
    pub platform: Platform,
    /// The time at which the build begins; new layers are dated from it.
    pub started: jiff::Timestamp,
}

/// What a build made.
#[derive(Debug, Clone, PartialEq)]
pub struct Built {
    /// The image.
    pub image: Image,
    /// Steps that make layers and were in the cache.
    pub steps_cached: usize,
    /// Steps that were done.
    pub steps_run: usize,
}

#[cfg(test)]
mod tests;
