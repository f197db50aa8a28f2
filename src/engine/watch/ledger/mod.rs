//! What each container still has to be given, and what is to be done next. Pure: no file, no clock, no container.
//!
//! ```text
//! a look ──seen()──> owed paths, wanted restarts, services to build ──next()──> tasks ──served(), built()──> less owed
//! containers ──found()──> a new one owes all that has changed since its image's build began
//! ```
//!
//! Nothing is crossed off but by the task that did it, and only if it has not changed again since that task began.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use crate::engine::watch::rules::{Rule, Scope};
use crate::engine::watch::source::Seen;
use crate::engine::watch::tree::{Tree, differing};
use crate::spec::model::build::WatchAction;

/// The first process of a container, which no other can be mistaken for: its id and its start in clock ticks since boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Init {
    /// In the host's pid namespace.
    pub(crate) pid: i32,
    /// Field 22 of /proc/PID/stat.
    pub(crate) started: u64,
}

/// What a container is doing, as far as it matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Doing {
    /// It runs.
    Running(Init),
    /// It ended, and its restart policy will start it again.
    Waiting,
    /// It does not run.
    Nothing,
}

/// A container as it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    /// Its id.
    pub(crate) id: String,
    /// Its name.
    pub(crate) name: String,
    /// Its service.
    pub(crate) service: String,
    /// `sha256:…` of its image.
    pub(crate) image: String,
    /// What it is doing.
    pub(crate) doing: Doing,
    /// Where memory is mounted, which is empty again after a restart.
    pub(crate) volatile: Vec<PathBuf>,
}

/// A path of one rule, by its number.
pub(crate) type Key = (usize, PathBuf);

/// A change's number: later ones are greater.
pub(crate) type Version = u64;

/// One container.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Replica {
    found: Found,
    owed: BTreeMap<Key, Version>,
    restart: Option<Version>,
    /// What was tried last failed: nothing is tried again until something has changed.
    held: bool,
}

/// How the build of a service stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Building {
    /// It has changed since the last build began.
    wanted: bool,
    /// The last build failed: a touch is enough for the next.
    failed: bool,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Task {
    /// Build these services and bring up what follows.
    Build {
        /// By name.
        services: BTreeSet<String>,
    },
    /// Give the containers of one service what they are owed, then restart those that want it.
    Serve {
        /// By name.
        service: String,
        /// One or more.
        orders: Vec<Order>,
    },
}

/// What one container gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Order {
    /// Which container.
    pub(crate) found: Found,
    /// What is copied.
    pub(crate) owed: BTreeMap<Key, Version>,
    /// Whether it is restarted afterwards in any case.
    pub(crate) restart: Option<Version>,
}

/// What came of one [`Order`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Served {
    /// What it has now.
    pub(crate) given: BTreeMap<Key, Version>,
    /// Whether it was restarted.
    pub(crate) restarted: bool,
    /// Whether anything failed.
    pub(crate) failed: bool,
}

/// The whole state.
#[derive(Debug)]
pub(crate) struct Ledger {
    rules: Vec<Rule>,
    /// What was there when watching began.
    start: Rc<Tree>,
    /// What was there when the build of an image began.
    images: BTreeMap<String, Rc<Tree>>,
    replicas: BTreeMap<String, Replica>,
    builds: BTreeMap<String, Building>,
    /// Services that are being built.
    in_build: BTreeSet<String>,
    /// What was there when that build began.
    building: Rc<Tree>,
    /// Services that a task is serving.
    in_service: BTreeSet<String>,
    version: Version,
}

impl Ledger {
    /// Begins with what is there.
    pub(crate) fn new(rules: Vec<Rule>, start: &Tree) -> Self {
        let start = Rc::new(start.clone());
        Self {
            rules,
            building: Rc::clone(&start),
            start,
            images: BTreeMap::new(),
            replicas: BTreeMap::new(),
            builds: BTreeMap::new(),
            in_build: BTreeSet::new(),
            in_service: BTreeSet::new(),
            version: 0,
        }
    }

    /// Returns the rules.
    pub(crate) fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// Takes what a look has shown; returns whether what is being built has changed under it.
    pub(crate) fn seen(&mut self, seen: &[Seen]) -> bool {
        self.version += 1;
        let mut superseded = false;
        for seen in seen {
            for index in 0..self.rules.len() {
                superseded |= self.seen_by(index, seen);
            }
        }
        superseded
    }

    /// Takes what one rule sees of one path; returns whether what is being built has changed under it.
    fn seen_by(&mut self, index: usize, Seen { path, changed }: &Seen) -> bool {
        let Some(rule) = self
            .rules
            .get(index)
            .filter(|rule| rule.judge(path) == Scope::In)
        else {
            return false;
        };
        if rule.action == WatchAction::Rebuild {
            let build = self.builds.entry(rule.service.clone()).or_default();
            let wanted = *changed || build.failed;
            build.wanted |= wanted;
            return wanted && self.in_build.contains(&rule.service);
        }
        let replicas = self.replicas.values_mut();
        for replica in replicas.filter(|replica| replica.found.service == rule.service) {
            // A touch has what failed tried again.
            replica.held = false;
            if *changed {
                replica.owe(index, rule, path, self.version);
            }
        }
        false
    }

    /// Takes the project's containers as they are now.
    pub(crate) fn found(&mut self, found: Vec<Found>, tree: &Tree) {
        let ids: BTreeSet<_> = found.iter().map(|found| found.id.clone()).collect();
        self.replicas.retain(|id, _| ids.contains(id));
        for found in found {
            match self.replicas.get_mut(&found.id) {
                None => {
                    let owed = self.owed_by_new(&found, tree);
                    let replica = Replica {
                        owed,
                        restart: None,
                        held: false,
                        found,
                    };
                    self.replicas.insert(replica.found.id.clone(), replica);
                }
                Some(replica) if replica.found.doing != found.doing => {
                    let renewed = matches!(found.doing, Doing::Running(_));
                    replica.found = found;
                    replica.held = false;
                    if renewed {
                        let lost = owed_of_memory(
                            &self.rules,
                            &replica.found,
                            &self.start,
                            tree,
                            self.version,
                        );
                        replica.owed.extend(lost);
                    }
                }
                Some(replica) => replica.found = found,
            }
        }
        let used: BTreeSet<&String> = self
            .replicas
            .values()
            .map(|replica| &replica.found.image)
            .collect();
        self.images.retain(|image, _| used.contains(image));
    }

    /// Returns what a new container has to be given: what has changed since watching began or its image's build did, and with
    /// `initial_sync` everything.
    fn owed_by_new(&self, found: &Found, tree: &Tree) -> BTreeMap<Key, Version> {
        let mut changed: BTreeSet<&PathBuf> = differing(&self.start, tree).collect();
        // One that comes before its build is told to have ended is of that build.
        let begun = self
            .in_build
            .contains(&found.service)
            .then_some(&self.building);
        if let Some(built) = self.images.get(&found.image).or(begun) {
            changed.extend(differing(built, tree));
        }
        let mut owed = BTreeMap::new();
        for (index, rule) in self.rules.iter().enumerate() {
            if rule.service != found.service || !rule.syncs() {
                continue;
            }
            let all = tree.keys().filter(|_| rule.initial_sync);
            let paths = changed.iter().copied().chain(all);
            let in_scope = paths.filter(|path| rule.judge(path) == Scope::In);
            owed.extend(in_scope.map(|path| ((index, path.clone()), self.version)));
        }
        owed
    }

    /// Returns what can be done now, and counts it as being done.
    pub(crate) fn next(&mut self, tree: &Tree) -> Vec<Task> {
        let mut tasks = Vec::new();
        let wanted = self.builds.iter().filter(|(_, build)| build.wanted);
        let wanted: BTreeSet<String> = wanted.map(|(service, _)| service.clone()).collect();
        if self.in_build.is_empty() && !wanted.is_empty() {
            for service in &wanted {
                self.builds.insert(service.clone(), Building::default());
            }
            self.in_build.clone_from(&wanted);
            self.building = Rc::new(tree.clone());
            tasks.push(Task::Build { services: wanted });
        }
        let services: BTreeSet<String> =
            self.rules.iter().map(|rule| rule.service.clone()).collect();
        for service in services {
            if self.in_service.contains(&service) {
                continue;
            }
            // What is about to be replaced need not be restarted.
            let rebuilt = self.in_build.contains(&service);
            let of_service = self
                .replicas
                .values()
                .filter(|replica| replica.found.service == service);
            let orders: Vec<Order> = of_service
                .filter_map(|replica| replica.order(rebuilt))
                .collect();
            if !orders.is_empty() {
                self.in_service.insert(service.clone());
                tasks.push(Task::Serve { service, orders });
            }
        }
        tasks
    }

    /// Takes what came of [`Task::Serve`].
    pub(crate) fn served(&mut self, service: &str, orders: &[Order], results: Vec<Served>) {
        self.in_service.remove(service);
        for (order, served) in orders.iter().zip(results) {
            let Some(replica) = self.replicas.get_mut(&order.found.id) else {
                continue;
            };
            replica
                .owed
                .retain(|key, version| served.given.get(key).is_none_or(|given| given < version));
            if served.restarted && replica.restart <= order.restart {
                replica.restart = None;
            }
            // Whatever else happened to it meanwhile may have put an end to the reason.
            replica.held = served.failed && replica.found.doing == order.found.doing;
        }
    }

    /// Takes the end of [`Task::Build`].
    pub(crate) fn built(&mut self, outcome: BuildOutcome) {
        let services = std::mem::take(&mut self.in_build);
        match outcome {
            BuildOutcome::Done(images) => {
                for image in images {
                    // The same image again: what was there when it was first made is what counts.
                    let built = Rc::clone(&self.building);
                    self.images.entry(image).or_insert(built);
                }
            }
            BuildOutcome::Failed => {
                for service in services {
                    self.builds.entry(service).or_default().failed = true;
                }
            }
            BuildOutcome::Superseded => {
                for service in services {
                    self.builds.entry(service).or_default().wanted = true;
                }
            }
        }
    }
}

/// How a build ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum BuildOutcome {
    /// Well; with the ids of the images.
    Done(Vec<String>),
    /// Badly.
    Failed,
    /// It was broken off for a newer one.
    Superseded,
}

impl Replica {
    /// Notes what one changed path of one rule means for it.
    fn owe(&mut self, index: usize, rule: &Rule, path: &Path, version: Version) {
        if rule.syncs() {
            self.owed.insert((index, path.to_owned()), version);
        }
        if matches!(rule.action, WatchAction::Restart | WatchAction::SyncRestart) {
            self.restart = Some(version);
        }
    }

    /// Returns what it is to get now. One that does not run is given something only to be started with it; what it is owed
    /// otherwise waits until it runs.
    fn order(&self, rebuilt: bool) -> Option<Order> {
        let restart = self.restart.filter(|_| !rebuilt);
        let runs = matches!(self.found.doing, Doing::Running(_));
        let wants = restart.is_some() || (runs && !self.owed.is_empty());
        (wants && !self.held).then(|| Order {
            found: self.found.clone(),
            owed: self.owed.clone(),
            restart,
        })
    }
}

/// Returns what a container has lost with the memory it was in.
fn owed_of_memory(
    rules: &[Rule],
    found: &Found,
    start: &Tree,
    tree: &Tree,
    version: Version,
) -> BTreeMap<Key, Version> {
    let mut owed = BTreeMap::new();
    for (index, rule) in rules.iter().enumerate() {
        let in_memory =
            |target: &PathBuf| found.volatile.iter().any(|place| target.starts_with(place));
        if rule.service != found.service || !rule.target.as_ref().is_some_and(in_memory) {
            continue;
        }
        let all = tree.keys().filter(|_| rule.initial_sync);
        let paths = differing(start, tree).chain(all);
        let in_scope = paths.filter(|path| rule.judge(path) == Scope::In);
        owed.extend(in_scope.map(|path| ((index, path.clone()), version)));
    }
    owed
}

#[cfg(test)]
mod tests;
