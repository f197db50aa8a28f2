//! Control groups: where a container's processes are counted and limited.
//!
//! (Skeleton.)

use std::io;
use std::path::PathBuf;

use crate::runtime::config::Resources;

/// Why a control group could not be made, entered or removed.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    /// No hierarchy is mounted.
    #[error("no control group hierarchy is mounted under `/sys/fs/cgroup`")]
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

/// Which devices its processes may open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceAccess {
    /// Docker's default list.
    Default,
    /// Every device.
    All,
}

/// The hierarchies of this host and the place of one instance in them.
#[derive(Debug, Clone)]
pub struct Cgroups {}

/// The control group of one container.
#[derive(Debug)]
pub struct Cgroup {}

impl Cgroups {
    /// Finds the hierarchies of this host for the instance named by 8 hexadecimal digits.
    pub fn detect(instance: &str) -> Result<Self, CgroupError> {
        let _ = instance;
        Ok(Self {})
    }

    /// Makes the group of the container `id` (or takes it over, if it is there) and writes its limits.
    pub fn create(
        &self,
        id: &str,
        resources: &Resources,
        devices: DeviceAccess,
    ) -> Result<Cgroup, CgroupError> {
        let _ = (id, resources, devices);
        Ok(Cgroup {})
    }

    /// Returns the group of the container `id`, which may or may not be there.
    pub fn existing(&self, id: &str) -> Cgroup {
        let _ = id;
        Cgroup {}
    }

    /// Moves the calling process out of its session's or unit's groups into the instance's place for monitors.
    pub fn join_monitors(&self) -> Result<(), CgroupError> {
        Ok(())
    }

    /// Removes the instance's own directories if nothing is in them any more; called with the last container.
    pub fn remove_instance(&self) -> Result<(), CgroupError> {
        Ok(())
    }
}

impl Cgroup {
    /// Moves the process into the group.
    pub fn enter(&self, pid: i32) -> Result<(), CgroupError> {
        let _ = pid;
        Ok(())
    }

    /// Sends SIGKILL to every process in it.
    pub fn kill_all(&self) -> Result<(), CgroupError> {
        Ok(())
    }

    /// Waits until no process is left and removes the group; one that is not there is fine.
    pub fn remove(&self) -> Result<(), CgroupError> {
        Ok(())
    }

    /// Returns the ids of its processes, in the caller's pid namespace.
    pub fn pids(&self) -> Result<Vec<i32>, CgroupError> {
        Ok(Vec::new())
    }
}
