//! `RUN` steps: the builder's [`StepRunner`] over the runtime.
//!
//! A step is a container without a record or a monitor: this process is its parent, its network is a bridge of the
//! instance's own. What a step needs around it (a *scene*: network namespace, addresses, control group, name server) is made for the
//! first step of a build and taken over by the next, and is gone when the build has ended or was cut off. Of a step itself nothing
//! stays in it: its process namespace ends with its command, and with the build, however that ends ([`warden`]).

mod agent;
mod config;
mod resolver;
mod scene;
mod warden;

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::rc::Rc;

use crate::engine::cdi::Registry;
use crate::engine::linux::read_host_resolver;
use crate::engine::{Engine, chain};
use crate::images::build::{FoundDevice, Heard, RunStep, StepError, StepRunner};
use crate::runtime::cgroup::Cgroups;
use crate::runtime::init::StartError;
use crate::sys::lock::{Lock, Mode};
use resolver::{Resolver, resolver};
use scene::{Kind, Scene};
use warden::Warden;

/// The network of the first scene, which has it for itself (`net::pair`); made when its first step runs.
const STEP_NETWORK: &str = "stack.step";
/// The network of every other scene.
const BUILD_NETWORK: &str = "stack_build";
/// Both. Neither is a stack's: what holds addresses there is no container.
pub(crate) const NETWORKS: [&str; 2] = [STEP_NETWORK, BUILD_NETWORK];
/// The directory of running steps beneath the run directory: one directory each, named by its id.
const STEPS: &str = "steps";
/// In it, locked while the build lives that the step is of.
const OWNER: &str = "owner";
/// Where systemd-resolved lists the servers behind its own.
const RESOLVED: &str = "/run/systemd/resolve/resolv.conf";

/// Runs steps with the engine's runtime and network.
pub(crate) struct RuntimeSteps<'a> {
    engine: &'a Engine,
    cgroups: Cgroups,
    /// Keeps other commands from cleaning up what steps use.
    building: RefCell<Option<Lock>>,
    resolver: Resolver,
    /// Scenes whose step has ended.
    idle: RefCell<Vec<Scene<'a>>>,
    /// Ends all steps with this process; there once a step has run.
    warden: RefCell<Option<Rc<Warden>>>,
    /// The machine's devices, once a step has asked for one.
    devices: RefCell<Option<Registry>>,
}

impl<'a> RuntimeSteps<'a> {
    /// Looks at the host once for all steps.
    pub(crate) fn new(engine: &'a Engine) -> Result<Self, Box<dyn std::error::Error>> {
        let host = read_host_resolver(Path::new("/etc/resolv.conf"))?;
        let behind = read_host_resolver(Path::new(RESOLVED))?;
        Ok(Self {
            engine,
            cgroups: Cgroups::detect(engine.instance.as_str())?,
            building: RefCell::new(Some(engine.lock_instance(Mode::Shared)?)),
            resolver: resolver(&host, &behind),
            idle: RefCell::default(),
            warden: RefCell::default(),
            devices: RefCell::default(),
        })
    }

    /// Runs one step to its end.
    async fn execute(
        &self,
        step: &RunStep,
        hear: &mut dyn FnMut(Heard<'_>),
    ) -> Result<i32, Box<dyn std::error::Error + Send + Sync>> {
        let kind = Kind::of(step);
        let scene = match self.take_idle(&kind) {
            Some(scene) => scene,
            None => self.set_up(step, kind).await?,
        };
        let resolv_conf = self.resolver.text_in(&step.network);
        let warden = self.warden()?;
        let code = scene.run(step, resolv_conf, &warden, hear).await?;
        self.idle.borrow_mut().push(scene);
        Ok(code)
    }

    /// Returns the warden of this build, which is started if there is none.
    fn warden(&self) -> Result<Rc<Warden>, StartError> {
        let mut known = self.warden.borrow_mut();
        if let Some(warden) = known.as_ref() {
            return Ok(Rc::clone(warden));
        }
        let started = Warden::start().map_err(|source| StartError::Step {
            step: "start the process that steps end with".to_owned(),
            source,
        })?;
        Ok(Rc::clone(known.insert(Rc::new(started))))
    }

    /// Returns a scene that a step has left.
    fn take_idle(&self, kind: &Kind) -> Option<Scene<'a>> {
        let mut idle = self.idle.borrow_mut();
        let found = idle.iter().position(|scene| scene.kind == *kind)?;
        Some(idle.swap_remove(found))
    }

    /// Makes a scene.
    async fn set_up(
        &self,
        step: &RunStep,
        kind: Kind,
    ) -> Result<Scene<'a>, Box<dyn std::error::Error + Send + Sync>> {
        let id = crate::runtime::random_id()?;
        let mut scene = Scene {
            engine: self.engine,
            kind,
            directory: directory(self.engine, id.as_str()),
            id,
            cgroup: None,
            netns: None,
            names: None,
            owner: None,
            gateway: None,
        };
        // First: it says what there is to be taken apart.
        scene.owner = Some(own(&scene.directory)?);
        let limits = config::limits(step);
        let devices = config::devices(step);
        // Also where only a part of it can be made.
        scene.cgroup = Some(self.cgroups.existing(scene.id.as_str()));
        scene.cgroup = Some(self.cgroups.create(scene.id.as_str(), &limits, &devices)?);
        let attached = scene.attach(self.resolver.is_forwarded).await;
        attached.map_err(|error| chain(&*error))?;
        Ok(scene)
    }
}

impl StepRunner for RuntimeSteps<'_> {
    fn run<'a>(
        &'a self,
        step: &'a RunStep,
        hear: &'a mut dyn FnMut(Heard<'_>),
    ) -> Pin<Box<dyn Future<Output = Result<i32, StepError>> + 'a>> {
        Box::pin(async move {
            let done = self.execute(step, hear).await;
            done.map_err(|source| StepError {
                message: format!("run `{}`", step.args.join(" ")),
                source: Some(source),
            })
        })
    }

    fn find_devices(&self, name: &str) -> Result<Vec<FoundDevice>, StepError> {
        let failed = |message| StepError {
            message,
            source: None,
        };
        if self.devices.borrow().is_none() {
            let read = Registry::read(&self.engine.environment);
            *self.devices.borrow_mut() = Some(read.map_err(|error| failed(error.to_string()))?);
        }
        let devices = self.devices.borrow();
        let found = devices.as_ref().map(|devices| devices.find(name));
        found.unwrap_or_else(|| Ok(Vec::new())).map_err(failed)
    }

    fn finish(&self) {
        self.idle.borrow_mut().clear();
        drop(self.warden.take());
        drop(self.building.take());
        self.engine.clean_up_early();
    }
}

/// Says why a command could not be executed, as Docker does.
fn not_executed(error: &StartError) -> String {
    match error {
        StartError::NotExecutable { command, source } => {
            let why = crate::engine::reason(source).to_lowercase();
            format!("exec {command}: {why}\n")
        }
        _ => format!("{error}\n"),
    }
}

/// Takes apart the steps of builds that were killed; returns what could not be. No build may be running.
pub(crate) fn sweep(engine: &Engine) -> Vec<String> {
    let steps = engine.roots.run.join(STEPS);
    // A build that is about to begin has its keys there, and no step yet.
    let goes = |directory: &Path| !directory.join(OWNER).exists() || is_dead(directory);
    sweep_directories(&steps, goes, |id| take_apart(engine, id))
}

/// Takes apart those steps of builds that were killed that can be told from the steps of builds that run: what they go on writing,
/// the next build may read.
pub(crate) fn sweep_dead(engine: &Engine) -> Vec<String> {
    let steps = engine.roots.run.join(STEPS);
    sweep_directories(&steps, is_dead, |id| take_apart(engine, id))
}

/// Whether nobody owns the step of that directory any more.
fn is_dead(directory: &Path) -> bool {
    let owner = directory.join(OWNER);
    // One that is not there is not there yet, or the step is being removed.
    owner.exists() && matches!(Lock::try_acquire(&owner, Mode::Exclusive), Ok(Some(_)))
}

/// Returns the directory of the step `id`.
pub(crate) fn directory(engine: &Engine, id: &str) -> PathBuf {
    engine.roots.run.join(STEPS).join(id)
}

/// Makes the directory of a step, and the lock that says that somebody owns it: never there unlocked.
pub(crate) fn own(directory: &Path) -> std::io::Result<Lock> {
    fs_err::create_dir_all(directory)?;
    let made = directory.join("owner.new");
    let lock = Lock::acquire(&made, Mode::Exclusive)?;
    fs_err::rename(&made, directory.join(OWNER))?;
    Ok(lock)
}

/// Removes each directory of `top` that `goes` and whose step `take_apart` has nothing to say about any more; returns what it said
/// else, and why directories could not be removed.
fn sweep_directories(
    top: &Path,
    goes: impl Fn(&Path) -> bool,
    mut take_apart: impl FnMut(&str) -> Vec<String>,
) -> Vec<String> {
    let entries = match fs_err::read_dir(top) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Vec::new(),
        Err(error) => return vec![error.to_string()],
    };
    let mut messages = Vec::new();
    for entry in entries {
        let path = match entry {
            Ok(entry) => entry.path(),
            Err(error) => {
                messages.push(error.to_string());
                continue;
            }
        };
        if !goes(&path) {
            continue;
        }
        let id = path.file_name().unwrap_or_default().to_string_lossy();
        let left = take_apart(&id);
        // Last: while anything is left of a step, its directory says so.
        if left.is_empty() {
            let removed = crate::sys::remove::tree(&path).err();
            messages.extend(removed.map(|error| format!("remove `{}`: {error}", path.display())));
        }
        messages.extend(left);
    }
    messages
}

/// Removes what one step put on the machine, its directory left out; returns what could not be.
fn take_apart(engine: &Engine, id: &str) -> Vec<String> {
    let cgroups = Cgroups::detect(engine.instance.as_str());
    let ended = cgroups.and_then(|cgroups| {
        let group = cgroups.existing(id);
        group.kill_all()?;
        group.remove()
    });
    let mut messages: Vec<String> = ended.err().map(|error| chain(&error)).into_iter().collect();
    let released = engine.net.release(&[id]).err().unwrap_or_default();
    messages.extend(released.iter().map(|error| chain(error)));
    messages.extend(engine.net.forget(&[id]).err().map(|error| chain(&error)));
    messages
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_that_stays_keeps_no_other() {
        let top = tempfile::tempdir().unwrap();
        for id in ["a", "b", "c", "d"] {
            fs_err::create_dir_all(top.path().join(id).join("etc")).unwrap();
        }
        let mut asked = Vec::new();
        let messages = sweep_directories(
            top.path(),
            |_| true,
            |id| {
                asked.push(id.to_owned());
                // Whichever comes first is the one that stays.
                let is_first = asked.len() == 1;
                is_first
                    .then(|| format!("{id} is busy"))
                    .into_iter()
                    .collect()
            },
        );
        let left = fs_err::read_dir(top.path()).unwrap();
        let left: Vec<_> = left.map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(asked.len(), 4);
        assert_eq!(left, [asked[0].as_str()]);
        assert_eq!(messages, [format!("{} is busy", asked[0])]);
        assert_eq!(
            sweep_directories(&top.path().join("none"), |_| true, |_| unreachable!()),
            Vec::<String>::new()
        );
    }
    #[test]
    fn a_step_is_dead_when_nobody_owns_it() {
        let top = tempfile::tempdir().unwrap();
        let directory = |name: &str| top.path().join(name);
        let _owned = own(&directory("alive")).unwrap();
        drop(own(&directory("dead")).unwrap());
        fs_err::create_dir(directory("begun")).unwrap();
        let mut asked = Vec::new();
        let messages = sweep_directories(top.path(), is_dead, |id| {
            asked.push(id.to_owned());
            Vec::new()
        });
        assert_eq!((asked, messages), (vec!["dead".to_owned()], Vec::new()));
        let left = ["alive", "dead", "begun"].map(|name| directory(name).exists());
        assert_eq!(left, [true, false, true]);
    }
}
