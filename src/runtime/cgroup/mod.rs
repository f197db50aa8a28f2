//! Control groups: where a container's processes are counted, limited and killed together.
//!
//! ```text
//! <hierarchy>/stack-<instance>/            one for each instance, in each hierarchy that is used
//!                              _mon/       monitors that were started from a session's or unit's group
//!                              <id>/       one container; limits are written before a process enters
//! ```
//!
//! Unified (v2), legacy (v1) and hybrid hosts differ only in which hierarchy has which controller: each limit goes to the
//! hierarchy that has its controller. Containers are placed in those of [`USED`] and in the v2 hierarchy, if there is one, which
//! then kills and tells emptiness; the rest they inherit from who starts them.

mod devices;
mod files;
mod hierarchy;
mod settings;
#[cfg(test)]
mod tests;

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::event::PollFlags;
use rustix::fs::OFlags;

use crate::runtime::cgroup::devices::DEVICES;
use crate::runtime::cgroup::files::{
    absent_is_fine, failed, list_tree, make_directory, read, remove_tree, wait_for, wait_until,
    wait_until_frozen, wait_until_unpopulated, write,
};
use crate::runtime::cgroup::hierarchy::{parse_hierarchies, place_in};
use crate::runtime::cgroup::settings::settings;
use crate::runtime::config::Resources;
use crate::sys::{bpf, pidfd};

pub use crate::runtime::cgroup::devices::DeviceAccess;
pub(crate) use crate::runtime::cgroup::hierarchy::{Hierarchy, Version};

/// Why a control group could not be made, entered or removed.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    /// No hierarchy is mounted.
    #[error("no control group hierarchy is mounted")]
    NotMounted,
    /// A limit needs a controller that this host does not offer.
    #[error("limit `{limit}` needs the `{controller}` controller, which this host does not offer")]
    NoController {
        /// The limit, as people write it.
        limit: &'static str,
        /// The controller.
        controller: &'static str,
    },
    /// A file of the hierarchy could not be read or written.
    #[error("{action} `{}`", path.display())]
    File {
        /// What was attempted, with the value.
        action: String,
        /// On which file.
        path: PathBuf,
        /// The kernel's reason.
        #[source]
        source: io::Error,
    },
    /// Processes remained in it.
    #[error("control group `{}` did not become empty", path.display())]
    Busy {
        /// Its directory.
        path: PathBuf,
    },
}

/// The hierarchies of this host and the place of one instance in them.
#[derive(Debug, Clone)]
pub struct Cgroups {
    hierarchies: Vec<Hierarchy>,
    instance: String,
}

/// The control group of one container.
#[derive(Debug)]
pub struct Cgroup {
    placed: Vec<Placed>,
}

/// Its directory in one hierarchy.
#[derive(Debug)]
struct Placed {
    directory: PathBuf,
    hierarchy: Hierarchy,
}

/// v1 controllers whose hierarchies containers are placed in.
const USED: [&str; 5] = ["cpu", "cpuacct", "devices", "memory", "pids"];

impl Cgroups {
    /// Finds the hierarchies of this host for the instance named by 8 hexadecimal digits.
    pub fn detect(instance: &str) -> Result<Self, CgroupError> {
        let mountinfo = read(Path::new("/proc/self/mountinfo"))?;
        let mut hierarchies = parse_hierarchies(&mountinfo);
        for hierarchy in &mut hierarchies {
            if hierarchy.version == Version::V2 {
                let text = read(&hierarchy.mount.join("cgroup.controllers"))?;
                hierarchy.controllers = text.split_whitespace().map(str::to_owned).collect();
            }
        }
        if hierarchies.is_empty() {
            return Err(CgroupError::NotMounted);
        }
        Ok(Self {
            hierarchies,
            instance: format!("stack-{instance}"),
        })
    }

    /// Makes the group of the container `id` (or takes it over, if it is there) and writes its limits.
    pub fn create(
        &self,
        id: &str,
        resources: &Resources,
        devices: &DeviceAccess,
    ) -> Result<Cgroup, CgroupError> {
        let settings = settings(resources, |controller| {
            self.owner(controller).map(|hierarchy| hierarchy.version)
        })?;
        let group = self.existing(id);
        for placed in &group.placed {
            make_directory(placed)?;
        }
        for setting in &settings {
            let path = group
                .of(setting.controller)
                .map(|placed| placed.directory.join(setting.file))
                .ok_or(CgroupError::NotMounted)?;
            match write(&path, &setting.value) {
                Err(CgroupError::File { source, .. })
                    if setting.optional && source.kind() == io::ErrorKind::NotFound => {}
                result => result?,
            }
        }
        group.limit_devices(devices)?;
        Ok(group)
    }

    /// Returns the group of the container `id`, which may or may not be there.
    pub fn existing(&self, id: &str) -> Cgroup {
        let used = self
            .hierarchies
            .iter()
            .filter(|hierarchy| self.places(hierarchy));
        Cgroup {
            placed: used
                .map(|hierarchy| Placed {
                    directory: hierarchy.mount.join(&self.instance).join(id),
                    hierarchy: hierarchy.clone(),
                })
                .collect(),
        }
    }

    /// Moves the calling process out of its session's or unit's groups into the instance's place for monitors.
    ///
    /// Where it is in the root of a hierarchy already, nobody's end can take it along and it stays.
    pub fn join_monitors(&self) -> Result<(), CgroupError> {
        let own = read(Path::new("/proc/self/cgroup"))?;
        for hierarchy in &self.hierarchies {
            let place = place_in(&own, hierarchy);
            let monitors = Path::new("/").join(&self.instance).join("_mon");
            if matches!(place, None | Some("/")) || place.map(Path::new) == Some(&monitors) {
                continue;
            }
            let placed = Placed {
                directory: hierarchy.mount.join(&self.instance).join("_mon"),
                hierarchy: hierarchy.clone(),
            };
            make_directory(&placed)?;
            write(&placed.entrance(), "0")?;
        }
        Ok(())
    }

    /// Removes the instance's own directories if nothing is in them any more; called with the last container.
    pub fn remove_instance(&self) -> Result<(), CgroupError> {
        for hierarchy in &self.hierarchies {
            let top = hierarchy.mount.join(&self.instance);
            for directory in [top.join("_mon"), top] {
                match rustix::fs::rmdir(&directory) {
                    // Never made, or still in use: then whoever is last removes it.
                    Ok(())
                    | Err(
                        rustix::io::Errno::NOENT
                        | rustix::io::Errno::BUSY
                        | rustix::io::Errno::NOTEMPTY,
                    ) => {}
                    Err(errno) => return Err(failed("remove", &directory)(errno.into())),
                }
            }
        }
        Ok(())
    }

    /// Whether containers get a group of their own in it.
    fn places(&self, hierarchy: &Hierarchy) -> bool {
        let unified = self
            .hierarchies
            .iter()
            .any(|other| other.version == Version::V2);
        match hierarchy.version {
            Version::V2 => true,
            Version::V1 => hierarchy.controllers.iter().any(|controller| {
                // Without v2 there is no other way to stop a fork bomb while it is killed.
                USED.contains(&controller.as_str()) || (controller == "freezer" && !unified)
            }),
        }
    }

    /// Returns the hierarchy that has a controller.
    fn owner(&self, controller: &str) -> Option<&Hierarchy> {
        let has =
            |hierarchy: &&Hierarchy| hierarchy.controllers.iter().any(|own| own == controller);
        self.hierarchies.iter().find(has)
    }
}

impl Placed {
    /// Returns the file by which a process of one thread moves itself here, writing `0`.
    ///
    /// In v1 that is `tasks`: a thread that moves itself alone waits for nobody, while a move by `cgroup.procs` waits for all
    /// processors (an RCU grace period, 10 ms and more) so that no other thread ends or executes meanwhile.
    fn entrance(&self) -> PathBuf {
        self.directory.join(match self.hierarchy.version {
            Version::V1 => "tasks",
            Version::V2 => "cgroup.procs",
        })
    }
}

/// A group whose processes stand still. Dropped, they go on.
#[derive(Debug)]
pub struct Frozen {
    path: PathBuf,
    thawed: &'static str,
}

impl Drop for Frozen {
    fn drop(&mut self) {
        match write(&self.path, self.thawed) {
            // A group that is gone has nothing to thaw.
            Ok(()) | Err(_) => {}
        }
    }
}

impl Cgroup {
    /// Moves the process into the group's v2 hierarchy, if it was not cloned into that.
    pub(crate) fn enter_unified(&self, pid: i32) -> Result<(), CgroupError> {
        self.unified().map_or(Ok(()), |placed| {
            write(&placed.directory.join("cgroup.procs"), &pid.to_string())
        })
    }

    /// Opens where a process of one thread moves itself into the group's v1 hierarchies, by writing `0` to each.
    pub(crate) fn open_legacy(&self) -> Result<Vec<OwnedFd>, CgroupError> {
        let legacy = |placed: &&Placed| placed.hierarchy.version == Version::V1;
        let opened = self.placed.iter().filter(legacy).map(|placed| {
            let path = placed.entrance();
            let flags = OFlags::WRONLY | OFlags::CLOEXEC;
            let opened = rustix::fs::open(&path, flags, rustix::fs::Mode::empty());
            opened
                .map_err(io::Error::from)
                .map_err(failed("open", &path))
        });
        opened.collect()
    }

    /// Opens its v2 directory, to clone into; `None` where there is no v2 hierarchy.
    pub(crate) fn open_unified(&self) -> Result<Option<OwnedFd>, CgroupError> {
        let Some(placed) = self.unified() else {
            return Ok(None);
        };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = rustix::fs::open(&placed.directory, flags, rustix::fs::Mode::empty());
        let opened = opened.map_err(io::Error::from);
        opened.map(Some).map_err(failed("open", &placed.directory))
    }

    /// Returns the hierarchies it is in.
    pub(crate) fn hierarchies(&self) -> impl Iterator<Item = &Hierarchy> {
        self.placed.iter().map(|placed| &placed.hierarchy)
    }

    /// Returns the file that freezes it, and what says so there and what says the opposite.
    fn freezer(&self) -> Result<(PathBuf, &'static str, &'static str), CgroupError> {
        if let Some(placed) = self.unified() {
            Ok((placed.directory.join("cgroup.freeze"), "1", "0"))
        } else if let Some(placed) = self.of("freezer") {
            Ok((placed.directory.join("freezer.state"), "FROZEN", "THAWED"))
        } else {
            Err(CgroupError::NotMounted)
        }
    }

    /// Lets every process in it go on; one that is not there, or is not frozen, is fine.
    pub fn thaw(&self) -> Result<(), CgroupError> {
        let (path, _, thawed) = self.freezer()?;
        absent_is_fine(write(&path, thawed))
    }

    /// Holds every process in it still, until [`Frozen`] is dropped; one that is not there is fine.
    pub fn freeze(&self) -> Result<Frozen, CgroupError> {
        let (path, frozen, thawed) = self.freezer()?;
        // Thawed again whatever comes of it.
        let state = Frozen { path, thawed };
        absent_is_fine(write(&state.path, frozen))?;
        match self.unified() {
            Some(placed) => wait_until(&placed.directory, "frozen 1")?,
            None => wait_until_frozen(&state.path)?,
        }
        Ok(state)
    }

    /// Sends SIGKILL to every process in it; one that is not there is fine.
    pub fn kill_all(&self) -> Result<(), CgroupError> {
        if let Some(placed) = self.unified() {
            return absent_is_fine(write(&placed.directory.join("cgroup.kill"), "1"));
        }
        let freezer = self
            .of("freezer")
            .map(|placed| placed.directory.join("freezer.state"));
        // What is frozen forks no more; a SIGKILL waits until it is thawed.
        if let Some(state) = &freezer {
            absent_is_fine(write(state, "FROZEN"))?;
        }
        let killed = self.kill_each();
        if let Some(state) = &freezer {
            absent_is_fine(write(state, "THAWED"))?;
        }
        killed
    }

    /// Sends SIGKILL to each process that is listed.
    fn kill_each(&self) -> Result<(), CgroupError> {
        for process in self.processes()? {
            match pidfd::signal(process.as_fd(), libc::SIGKILL) {
                Err(error) if error.raw_os_error() != Some(libc::ESRCH) => {
                    return Err(failed("kill a process of", &self.path())(error));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Waits until no process is left and removes the group; one that is not there is fine.
    ///
    /// Errors: [`CgroupError::Busy`] after 10 seconds. Kills nobody: see [`Self::kill_all`].
    pub fn remove(&self) -> Result<(), CgroupError> {
        match self.unified() {
            Some(placed) => wait_until_unpopulated(&placed.directory)?,
            None => self.wait_for_each()?,
        }
        for placed in &self.placed {
            remove_tree(&placed.directory)?;
        }
        Ok(())
    }

    /// Waits for the end of each process that is listed, and of those that come meanwhile.
    fn wait_for_each(&self) -> Result<(), CgroupError> {
        loop {
            let processes = self.processes()?;
            if processes.is_empty() {
                return Ok(());
            }
            for process in processes {
                wait_for(process.as_fd(), PollFlags::IN, &self.path())?;
            }
        }
    }

    /// Returns the ids of its processes, in the caller's pid namespace.
    pub fn pids(&self) -> Result<Vec<i32>, CgroupError> {
        let Some(placed) = self.unified().or_else(|| self.placed.first()) else {
            return Ok(Vec::new());
        };
        let mut pids = Vec::new();
        list_tree(&placed.directory, &mut pids)?;
        Ok(pids)
    }

    /// Returns how many of its processes the kernel has killed for lack of memory; 0 where memory is not accounted.
    pub fn oom_kills(&self) -> Result<u64, CgroupError> {
        let Some(memory) = self.of("memory") else {
            return Ok(0);
        };
        let file = match memory.hierarchy.version {
            Version::V1 => "memory.oom_control",
            Version::V2 => "memory.events",
        };
        let text = read(&memory.directory.join(file))?;
        let count = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
        Ok(count.and_then(|count| count.parse().ok()).unwrap_or(0))
    }

    /// Opens its processes; one that ends meanwhile is left out.
    fn processes(&self) -> Result<Vec<OwnedFd>, CgroupError> {
        let pids = self.pids()?;
        Ok(pids
            .into_iter()
            .filter_map(|pid| pidfd::open(pid).ok())
            .collect())
    }

    /// Allows devices: by the `devices` hierarchy, else by a program on the v2 group.
    fn limit_devices(&self, devices: &DeviceAccess) -> Result<(), CgroupError> {
        let more = match devices {
            DeviceAccess::All => return Ok(()),
            DeviceAccess::Default => &[],
            DeviceAccess::And(more) => more.as_slice(),
        };
        let rules = [&DEVICES, more].concat();
        if let Some(placed) = self.of("devices") {
            write(&placed.directory.join("devices.deny"), "a")?;
            let allow = placed.directory.join("devices.allow");
            return rules
                .iter()
                .try_for_each(|rule| write(&allow, &rule.to_string()));
        }
        let Some(placed) = self.unified() else {
            return Ok(());
        };
        let directory =
            fs_err::File::open(&placed.directory).map_err(failed("open", &placed.directory))?;
        bpf::limit_devices(directory.file().as_fd(), &rules)
            .map_err(failed("limit the devices of", &placed.directory))
    }

    /// Returns the directory in the v2 hierarchy.
    fn unified(&self) -> Option<&Placed> {
        self.placed
            .iter()
            .find(|placed| placed.hierarchy.version == Version::V2)
    }

    /// Returns the directory in the hierarchy that has a controller.
    fn of(&self, controller: &str) -> Option<&Placed> {
        let has = |placed: &&Placed| {
            placed
                .hierarchy
                .controllers
                .iter()
                .any(|own| own == controller)
        };
        self.placed.iter().find(has)
    }

    /// Returns a directory to name it by.
    fn path(&self) -> PathBuf {
        self.placed
            .first()
            .map(|placed| placed.directory.clone())
            .unwrap_or_default()
    }
}
