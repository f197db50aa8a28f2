//! What happens while a plan is applied, for whoever draws it.

use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::plan::action::Resource;
use crate::plan::observed::ContainerId;
use crate::plan::{Plan, Step};

/// One thing that happened to one subject.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// To what.
    pub subject: Subject,
    /// What happened.
    pub kind: EventKind,
}

/// A resource; its `Display` is Docker Compose's: `Container web-1`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Subject {
    /// By its name on the machine.
    Network(String),
    /// By its name on the machine.
    Volume(String),
    /// By reference; pulled or removed.
    Image(String),
    /// Images in a file that are being loaded: its name.
    Archive(String),
    /// One layer of an image being pulled: reference and short digest.
    Layer(String, String),
    /// The image of this reference being built.
    Build(String),
    /// By name.
    Container(String),
    /// The whole application, by name.
    Project(String),
}

/// Returns what is shown of a resource.
pub fn subject(resource: &Resource) -> Subject {
    match resource {
        Resource::Network(name) => Subject::Network(name.clone()),
        Resource::Volume(name) => Subject::Volume(name.clone()),
        Resource::Image(name) => Subject::Image(name.clone()),
        Resource::Build(name) => Subject::Build(name.clone()),
        Resource::Container(name) => Subject::Container(name.clone()),
    }
}

/// What happened to a subject.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EventKind {
    /// Work began: `Creating`, `Starting`, `Pulling`.
    Started(&'static str),
    /// Work is so far along.
    Progress {
        /// What is being done: `Downloading`.
        verb: &'static str,
        /// Bytes done.
        done: u64,
        /// Bytes in all, where known.
        total: Option<u64>,
    },
    /// A line of output.
    Line(String),
    /// Something happened to a step of a build.
    Building(BuildStep),
    /// Work ended well: `Created`, `Started`, `Pulled`.
    Finished(&'static str),
    /// Nothing had to be done: `Running`, `Exists`.
    Unchanged(&'static str),
    /// Work was given up, since something else failed.
    CutOff,
    /// Work failed; the error itself is returned as well.
    Failed(String),
    /// Something the user should know.
    Warning(String),
    /// As that, of a place in a file.
    Remark(Box<Remark>),
}

/// What happened to one step of a build. Its `Display` is BuildKit's plain line: `#5 0.31 cc -o main main.c`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildStep {
    /// From 1, in the order in which the steps of the build were first told of.
    pub number: usize,
    /// What.
    pub news: StepNews,
}

/// See [`BuildStep`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StepNews {
    /// It began: `[compile 2/3] RUN make`.
    Began(String),
    /// What it makes is there already.
    Cached,
    /// Another build does it: a process, where that can be told.
    Waits(Option<u32>),
    /// Why it is not there.
    Explained(String),
    /// It wrote a line, so long after it began.
    Wrote(Duration, String),
    /// It did so much of what it is for, which stays to be seen: `writing image sha256:…`.
    Noted(String),
    /// It ended well, and took so long.
    Done(Duration),
    /// Its command ended with this code.
    Failed(i32),
    /// It failed otherwise, for this reason.
    Broke(String),
    /// It was cut off: another one failed, or the build was interrupted.
    CutOff,
}

impl StepNews {
    /// Returns what is waited for.
    pub fn awaited(holder: Option<u32>) -> String {
        match holder {
            Some(pid) if pid == std::process::id() => {
                "waiting for the same step, which goes on in this build already".to_owned()
            }
            Some(pid) => format!("waiting for another build of this step (pid {pid})"),
            None => "waiting for another build of this step".to_owned(),
        }
    }
}

impl fmt::Display for BuildStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{} ", self.number)?;
        match &self.news {
            StepNews::Began(what) => f.write_str(what),
            StepNews::Cached => f.write_str("CACHED"),
            StepNews::Waits(holder) => f.write_str(&StepNews::awaited(*holder)),
            StepNews::Explained(why) => write!(f, "not cached: {why}"),
            StepNews::Wrote(after, line) => write!(f, "{:.2} {line}", after.as_secs_f64()),
            StepNews::Noted(what) => write!(f, "{what} done"),
            StepNews::Done(time) => write!(f, "DONE {:.1}s", time.as_secs_f64()),
            StepNews::Failed(code) => write!(f, "ERROR: exit code: {code}"),
            StepNews::Broke(why) => write!(f, "ERROR: {why}"),
            StepNews::CutOff => f.write_str("CANCELED"),
        }
    }
}

/// Something that is not wise in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remark {
    /// The rule that says so: `JSONArgsRecommended`.
    pub rule: &'static str,
    /// What, one sentence.
    pub message: String,
    /// The file, as it is shown.
    pub path: PathBuf,
    /// Its text.
    pub text: String,
    /// First byte and one past the last of what it is about, all of whose lines are drawn.
    pub range: (usize, usize),
}

impl Remark {
    /// Returns the line, from 1, on which that begins.
    pub fn line(&self) -> usize {
        let before = self.text.get(..self.range.0).unwrap_or_default();
        before.matches('\n').count() + 1
    }
}

impl fmt::Display for Remark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.rule, self.message)
    }
}

/// Where events go. Called on the thread that applies; must return at once.
pub trait EventSink {
    /// Takes one event.
    fn emit(&self, event: Event);

    /// Hears how a step ended, once for each step of a plan that is applied.
    fn step(&self, _step: &Step, _end: &StepEnd) {}

    /// Hears which plan of containers is about to be applied.
    fn begins(&self, _plan: &Plan) {}

    /// Hears of each container that runs as it is asked to: left alone, or started by a step just now.
    fn runs(&self, _container: &ContainerId) {}

    /// Hears, once the pulls and builds have ended, which references name another image than before.
    fn images(&self, _changed: &BTreeSet<String>) {}
}

/// How a step of a plan ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StepEnd {
    /// Well.
    Done,
    /// Not well; the text says why.
    Failed(String),
    /// Not well, and the plan can do without it; the text says why.
    Spared(String),
    /// It was not done: what it needs failed, or the work was interrupted.
    Skipped,
    /// It was not needed: it would have made up for a failure that did not happen.
    NotNeeded,
}

/// Drops every event.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoEvents;

impl EventSink for NoEvents {
    fn emit(&self, _event: Event) {}
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Network(name) => write!(f, "Network {name}"),
            Self::Volume(name) => write!(f, "Volume {name}"),
            Self::Image(name) | Self::Build(name) => write!(f, "Image {name}"),
            Self::Archive(name) => write!(f, "Archive {name}"),
            Self::Layer(image, digest) => write!(f, "Image {image} layer {digest}"),
            Self::Container(name) => write!(f, "Container {name}"),
            Self::Project(name) => write!(f, "Project {name}"),
        }
    }
}
