//! What keeps a watch from going on.

use std::io;
use std::path::PathBuf;

use crate::images::build::BuildError;
use crate::images::build::pattern::PatternError;

/// Why nothing can be watched.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    /// No service says what to watch.
    #[error("none of the selected services has a `develop.watch` section")]
    NoRules,
    /// `rebuild` of what is not built.
    #[error("can't watch service \"{service}\" with action rebuild without a build context")]
    NothingToBuild {
        /// Which service.
        service: String,
    },
    /// A pattern of a rule.
    #[error("service `{service}`: the watch rule of `{}`", path.display())]
    Pattern {
        /// Which service.
        service: String,
        /// The rule's path.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: PatternError,
    },
    /// `.dockerignore` of a build context.
    #[error("service `{service}`: the ignore rules of its build")]
    Ignore {
        /// Which service.
        service: String,
        /// Why they cannot be read.
        #[source]
        source: Box<BuildError>,
    },
    /// Another watch runs.
    #[error("project `{project}` is watched already{}", holder(*.pid))]
    Taken {
        /// Which project.
        project: String,
        /// By which process, where it is known.
        pid: Option<u32>,
    },
    /// The kernel's limit on watched directories.
    #[error("watch `{}`: the limit on watched directories is reached", .0.display())]
    Limit(PathBuf),
    /// Watching.
    #[error("watch `{}`", path.display())]
    Watch {
        /// Which directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl WatchError {
    /// Returns advice, where there is some.
    pub(crate) fn hint(&self) -> Option<&'static str> {
        match self {
            Self::NoRules => Some("add `develop: watch:` to a service"),
            Self::Limit(_) => Some(
                "raise it (`sysctl fs.inotify.max_user_watches=524288`), or ignore large directories",
            ),
            Self::Taken { .. } => Some("end that one first"),
            _ => None,
        }
    }
}

/// Names the process that watches.
fn holder(pid: Option<u32>) -> String {
    pid.map_or_else(String::new, |pid| format!(" by process {pid}"))
}
