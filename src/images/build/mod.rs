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

mod annotation;
pub mod archive;
mod aside;
mod assemble;
pub mod attest;
mod bases;
mod bill;
mod budget;
mod builder;
pub mod cache;
mod caches;
pub mod context;
mod contexts;
pub mod copy;
mod deliver;
pub mod describe;
mod devices;
mod early;
mod elsewhere;
pub mod error;
pub mod exchange;
mod execute;
mod explain;
mod graph;
mod history;
mod inputs;
mod keep;
mod label;
pub mod mode;
mod mounts;
mod output;
pub mod owner;
pub mod pattern;
pub mod plan;
pub mod remote;
mod resolve;
pub mod run;
mod secrets;
mod session;
mod ssh;
pub mod stage;
mod step;
mod transfer;
pub mod tree;
mod warnings;
mod work;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use super::dockerfile::instruction::Dockerfile;
use super::dockerfile::lint;
use super::manifest::{Descriptor, Platform};
use super::progress::BlobState;
use super::reference::{Digest, Reference};
use super::store::Image;

pub use annotation::{Annotation, AnnotationPlace};
pub use attest::{Material, Provenance};
pub use bill::Scanner;
pub use caches::CacheMount;
pub use contexts::{NamedContext, Spooled};
pub use devices::AllowedDevices;
pub use elsewhere::RemoteContext;
pub use error::{BuildError, Excerpt, StepFailure};
pub use exchange::{CacheExport, CachePlace};
pub use inputs::ignore_rules;
pub use remote::Logins;
pub use secrets::{SecretError, SecretSource};
pub use session::Session;
pub use ssh::{AgentSource, KeyAgent, KeyError};
pub use step::{
    DeviceEdits, DeviceMount, DeviceNode, FoundDevice, Heard, Limit, Requirements, RunStep,
    StepDevice, StepError, StepFile, StepMount, StepNetwork, StepRunner, StepSource,
};

/// What a build tells while it goes on. Steps of different stages go on at once.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum BuildEvent<'a> {
    /// What a step takes is looked at, which may take long.
    Looking(StepLabel<'a>),
    /// A step begins.
    Started(StepLabel<'a>),
    /// The step that began was found in the cache.
    Cached(StepLabel<'a>),
    /// The running step wrote one line, without its newline.
    Output(StepLabel<'a>, &'a [u8]),
    /// The step is being done by somebody else, who is waited for: a process, where it can be told.
    Waiting(StepLabel<'a>, Option<u32>),
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
    /// Something else than the command failed, for this reason.
    Broke(StepLabel<'a>, &'a str),
    /// The step is not needed any more: another one failed, or the build was interrupted.
    CutOff(StepLabel<'a>),
    /// A base image is being pulled.
    Pulling {
        /// As the Dockerfile names it.
        image: &'a str,
        /// One of its layers.
        blob: &'a Digest,
        /// Where that stands.
        state: BlobState,
    },
    /// The image is in the store: its id (of its configuration, or its index) and the names that it has now.
    Stored(&'a Digest, &'a [Reference]),
    /// What is done that is no step.
    Note(&'a str),
    /// Something that does not stop the build but that its author should know.
    Warning(&'a str),
    /// As that, of an instruction of the Dockerfile.
    Lint(&'a lint::Warning, &'a Dockerfile),
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
    /// Its number from 0: several may have one name.
    pub stage_index: usize,
    /// The instruction, on one line, with its variables' values.
    pub text: &'a str,
}

impl std::fmt::Display for StepLabel<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            number,
            total,
            stage,
            stage_index: _,
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
    /// The text itself, as a file of another kind gives it.
    Inline(String),
    /// The text itself, and what messages call it.
    Text {
        /// Such as [`FROM_STREAM`].
        name: &'static str,
        /// All of it.
        text: String,
    },
}

/// What messages call a Dockerfile that standard input gave.
pub const FROM_STREAM: &str = "<stdin>";

/// What to build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildRequest {
    /// The directory that `COPY` and `ADD` take from.
    pub context: PathBuf,
    /// Whether it is a directory of whoever builds: its ignore rules count, and the hashes of its files are kept. Else it was made for this
    /// build, of an archive or a repository.
    pub is_local: bool,
    /// Where the context was fetched from, if it was.
    pub source: Option<Material>,
    /// The Dockerfile.
    pub dockerfile: DockerfileSource,
    /// Messages show a Dockerfile beneath this directory relative to it: where whoever builds is.
    pub shown_from: PathBuf,
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
    /// Do every step of these stages again: names, whatever their case.
    pub no_cache_filter: Vec<String>,
    /// What `RUN --mount=type=secret` finds, by id.
    pub secrets: BTreeMap<String, SecretSource>,
    /// Sockets of what `RUN --mount=type=ssh` finds, by id.
    pub agents: BTreeMap<String, PathBuf>,
    /// What stands for stages and images of these names.
    pub contexts: BTreeMap<String, NamedContext>,
    /// The network of every `RUN` that says nothing else.
    pub network: StepNetwork,
    /// What every `RUN` is given.
    pub requirements: Requirements,
    /// What a `RUN` may ask for beyond a container's rights.
    pub allowed: BTreeSet<Entitlement>,
    /// Which devices a `RUN` may ask for, where it may not ask for all.
    pub allowed_devices: AllowedDevices,
    /// Say of each step that is done why it was not in the cache.
    pub explain: bool,
    /// Ask the registry also for base images that are here.
    pub pull: bool,
    /// Where steps are looked for that the cache does not have.
    pub cache_from: Vec<CachePlace>,
    /// Where the steps of the build are brought to.
    pub cache_to: Vec<CacheExport>,
    /// What the image is to run on.
    pub platform: Platform,
    /// Where it is to be for several, all of them, in the order of the index; `platform` does not count then.
    pub platforms: Vec<Platform>,
    /// What its manifests and its index say of it.
    pub annotations: Vec<Annotation>,
    /// Whether it is known in the store when it is built, also where it has no name. Else what was made stays for as long as whoever builds
    /// keeps garbage collection away ([`Images::hold`]); the cache is the same.
    ///
    /// [`Images::hold`]: crate::images::Images::hold
    pub is_stored: bool,
    /// What is to be attested of it.
    pub provenance: Option<Provenance>,
    /// Who makes a bill of materials of it.
    pub scanner: Option<Scanner>,
    /// The time at which the build begins; new layers are dated from it.
    pub started: jiff::Timestamp,
}

/// What goes beyond a container's rights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Entitlement {
    /// `network.host`: the machine's network.
    NetworkHost,
    /// `security.insecure`: every capability and device.
    SecurityInsecure,
    /// `device`: every device that the machine has a name for.
    Device,
}

impl Entitlement {
    /// Reads its name.
    pub fn parse(text: &str) -> Option<Self> {
        let all = [Self::NetworkHost, Self::SecurityInsecure, Self::Device];
        all.into_iter().find(|known| known.name() == text)
    }

    /// Returns its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::NetworkHost => "network.host",
            Self::SecurityInsecure => "security.insecure",
            Self::Device => "device",
        }
    }
}

impl BuildRequest {
    /// Returns the plainest build of a context.
    pub fn new(context: PathBuf, dockerfile: DockerfileSource, started: jiff::Timestamp) -> Self {
        Self {
            context,
            is_local: true,
            source: None,
            dockerfile,
            shown_from: PathBuf::new(),
            args: BTreeMap::new(),
            target: None,
            tags: Vec::new(),
            labels: BTreeMap::new(),
            no_cache: false,
            no_cache_filter: Vec::new(),
            secrets: BTreeMap::new(),
            agents: BTreeMap::new(),
            contexts: BTreeMap::new(),
            network: StepNetwork::default(),
            requirements: Requirements::default(),
            allowed: BTreeSet::new(),
            allowed_devices: AllowedDevices::new(),
            explain: false,
            pull: false,
            cache_from: Vec::new(),
            cache_to: Vec::new(),
            platform: Platform::host(),
            platforms: Vec::new(),
            annotations: Vec::new(),
            is_stored: true,
            provenance: None,
            scanner: None,
            started,
        }
    }
}

impl BuildRequest {
    /// Whether it is for several platforms.
    pub fn is_several(&self) -> bool {
        self.platforms.len() > 1
    }

    /// Whether it makes an index, and not an image alone.
    pub fn makes_index(&self) -> bool {
        self.is_several() || self.provenance.is_some() || self.scanner.is_some()
    }

    /// Returns what logs in at the servers of sources.
    pub(super) fn logins(&self) -> Logins<'_> {
        Logins {
            secrets: &self.secrets,
            agents: &self.agents,
        }
    }

    /// Returns the same for each platform by itself.
    fn for_each_platform(&self) -> Vec<Self> {
        if self.platforms.is_empty() {
            return vec![self.clone()];
        }
        let platforms = self.platforms.iter();
        let each = platforms.map(|platform| Self {
            platform: platform.clone(),
            ..self.clone()
        });
        each.collect()
    }

    /// Builds from a context that was made for it, which must stay as long; where that is a Dockerfile alone, from that.
    pub fn take_from(&mut self, context: &Spooled) {
        self.context = context.directory();
        self.is_local = false;
        self.source.clone_from(&context.material);
        if let Some(dockerfile) = context.dockerfile_alone() {
            self.dockerfile = dockerfile;
        }
    }
}

/// What a build made.
#[derive(Debug, Clone, PartialEq)]
pub struct Built {
    /// The image; of several that for this machine, or the first.
    pub image: Image,
    /// The image of each platform.
    pub images: Vec<(Platform, Image)>,
    /// What the names stand for now: a manifest, or an index.
    pub target: Descriptor,
    /// Steps that make layers and were in the cache.
    pub steps_cached: usize,
    /// Steps that were done.
    pub steps_run: usize,
}

impl Built {
    /// Returns what it is known by: the digest of its configuration, or of its index.
    pub fn id(&self) -> &Digest {
        if self.target.is_index() {
            &self.target.digest
        } else {
            &self.image.id
        }
    }

    /// Returns the diff ids of all layers.
    fn layers(&self) -> Vec<Digest> {
        let mut layers: Vec<Digest> = Vec::new();
        for layer in self.images.iter().flat_map(|(_, image)| &image.layers) {
            if !layers.contains(layer) {
                layers.push(layer.clone());
            }
        }
        layers
    }
}

#[cfg(test)]
mod tests;
