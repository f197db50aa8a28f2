//! What a watch tells whoever draws it.

use std::path::PathBuf;
use std::time::Duration;

/// One thing that a watch did, or could not do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WatchEvent {
    /// Changes count from now on.
    Enabled {
        /// Services with rules.
        services: Vec<String>,
        /// How many directories are watched.
        directories: usize,
    },
    /// Files were copied, deleted, containers restarted.
    Done {
        /// Whose.
        service: String,
        /// What changed, relative to the project where it lies in it.
        changed: Changed,
        /// Files written or deleted, over all containers.
        synced: usize,
        /// Containers restarted.
        restarted: usize,
        /// From the first change heard to the end.
        took: Duration,
    },
    /// An image is being built.
    Rebuilding {
        /// Whose.
        services: Vec<String>,
        /// What changed.
        changed: Changed,
    },
    /// The build was given up for a newer one.
    Superseded {
        /// Whose.
        services: Vec<String>,
    },
    /// Image and containers are new.
    Rebuilt {
        /// Whose.
        services: Vec<String>,
        /// From the change heard to the end.
        took: Duration,
    },
    /// It could not be done; what ran goes on, and the next save tries again.
    Failed {
        /// Whose.
        service: String,
        /// What was attempted, on what.
        attempted: String,
        /// Why, a line or more.
        reason: String,
    },
    /// Something the user should know.
    Warning(String),
}

/// The paths of one batch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changed {
    /// The first of them.
    pub first: PathBuf,
    /// How many more there are.
    pub more: usize,
}

/// Where the events go. Called on the watching thread; must return at once.
pub trait WatchSink {
    /// Takes one event.
    fn watched(&self, event: WatchEvent);
}
