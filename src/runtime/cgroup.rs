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

use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;

use crate::runtime::config::Resources;
use crate::sys::{bpf, pidfd};

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

/// Which devices its processes may open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceAccess {
    /// Docker's default list.
    Default,
    /// Every device.
    All,
}

/// The two interfaces of the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Version {
    /// A hierarchy for one or a few controllers.
    V1,
    /// The unified hierarchy.
    V2,
}

/// A mounted hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hierarchy {
    /// Where it is mounted.
    pub(crate) mount: PathBuf,
    /// Its interface.
    pub(crate) version: Version,
    /// Its controllers; `name=systemd` for one without.
    pub(crate) controllers: Vec<String>,
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

/// v2 controllers that are enabled for containers, where the host has them.
const ENABLED: [&str; 5] = ["cpu", "cpuset", "io", "memory", "pids"];

/// Longest wait for the last process to go, in seconds: SIGKILL takes as long as the slowest device.
const EMPTY_TIMEOUT_S: i64 = 10;

/// Docker's default devices: any may be made; null, zero, full, random, urandom, tty, console, ptmx, terminals and tun be used.
const DEVICES: [bpf::DeviceRule; 12] = {
    use bpf::{DeviceKind, DeviceRule};
    const fn character(major: u32, minor: Option<u32>) -> DeviceRule {
        DeviceRule {
            kind: DeviceKind::Character,
            major: Some(major),
            minor,
            access: bpf::READ | bpf::WRITE | bpf::MAKE,
        }
    }
    const fn make(kind: DeviceKind) -> DeviceRule {
        DeviceRule {
            kind,
            major: None,
            minor: None,
            access: bpf::MAKE,
        }
    }
    [
        make(DeviceKind::Character),
        make(DeviceKind::Block),
        character(1, Some(3)),
        character(1, Some(5)),
        character(1, Some(7)),
        character(1, Some(8)),
        character(1, Some(9)),
        character(5, Some(0)),
        character(5, Some(1)),
        character(5, Some(2)),
        character(136, None),
        character(10, Some(200)),
    ]
};

/// One write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Setting {
    /// The controller whose hierarchy has the file.
    pub(crate) controller: &'static str,
    /// The file.
    pub(crate) file: &'static str,
    /// What is written.
    pub(crate) value: String,
    /// Whether the file may be missing: swap accounting is an option of the kernel's.
    pub(crate) optional: bool,
}

/// Turns limits into writes, for a host that has each controller in the version that `owner` says.
///
/// Errors: a limit whose controller nobody has.
pub(crate) fn settings(
    resources: &Resources,
    owner: impl Fn(&str) -> Option<Version>,
) -> Result<Vec<Setting>, CgroupError> {
    let find = |limit, controller| {
        owner(controller).ok_or(CgroupError::NoController { limit, controller })
    };
    let mut settings = Vec::new();
    let mut add = |controller, file, value: String, optional| {
        settings.push(Setting {
            controller,
            file,
            value,
            optional,
        });
    };
    if let Some(bytes) = resources.memory_bytes {
        match find("memory", "memory")? {
            // As much swap as memory, as Docker: the total is twice the limit.
            Version::V2 => {
                add("memory", "memory.max", bytes.to_string(), false);
                add("memory", "memory.swap.max", bytes.to_string(), true);
            }
            Version::V1 => {
                let total = bytes.saturating_mul(2).to_string();
                add("memory", "memory.limit_in_bytes", bytes.to_string(), false);
                add("memory", "memory.memsw.limit_in_bytes", total, true);
            }
        }
    }
    if let Some(milli) = resources.cpu_milli {
        let (quota, period) = cpu_quota(milli);
        match find("cpus", "cpu")? {
            Version::V2 => add("cpu", "cpu.max", format!("{quota} {period}"), false),
            Version::V1 => {
                add("cpu", "cpu.cfs_period_us", period.to_string(), false);
                add("cpu", "cpu.cfs_quota_us", quota.to_string(), false);
            }
        }
    }
    if let Some(count) = resources.pids {
        find("pids", "pids")?;
        add("pids", "pids.max", count.to_string(), false);
    }
    Ok(settings)
}

/// Returns quota and period in microseconds; the kernel takes no quota below 1000.
fn cpu_quota(milli: u64) -> (u64, u64) {
    match milli {
        0..10 => (milli.max(1) * 1000, 1_000_000),
        _ => (milli.saturating_mul(100), 100_000),
    }
}

/// Finds the hierarchies in the text of /proc/self/mountinfo (`man 5 proc`); v2 controllers are filled in by the caller.
///
/// Of several mounts of one hierarchy the first counts.
pub(crate) fn parse_hierarchies(mountinfo: &str) -> Vec<Hierarchy> {
    let mut found: Vec<Hierarchy> = Vec::new();
    for line in mountinfo.lines() {
        let Some((place, kind)) = line.split_once(" - ") else {
            continue;
        };
        let Some(mount) = place.split(' ').nth(4).map(unescape) else {
            continue;
        };
        let mut kind = kind.split(' ');
        let (version, options) = match (kind.next(), kind.next(), kind.next()) {
            (Some("cgroup"), _, Some(options)) => (Version::V1, options),
            (Some("cgroup2"), ..) => (Version::V2, ""),
            _ => continue,
        };
        let no_controllers = [
            "rw",
            "ro",
            "xattr",
            "clone_children",
            "noprefix",
            "none",
            "",
        ];
        let controllers: Vec<String> = options
            .split(',')
            .filter(|option| {
                !no_controllers.contains(option) && !option.starts_with("release_agent=")
            })
            .map(str::to_owned)
            .collect();
        let known = found
            .iter()
            .any(|known| known.version == version && known.controllers == controllers);
        if !known {
            found.push(Hierarchy {
                mount: mount.into(),
                version,
                controllers,
            });
        }
    }
    found
}

/// Undoes `\040` and its like.
fn unescape(text: &str) -> String {
    text.replace("\\040", " ")
        .replace("\\011", "\t")
        .replace("\\134", "\\")
}

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
        devices: DeviceAccess,
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

/// Returns where the process of that /proc/PID/cgroup is in a hierarchy: lines are `id:controller,controller:path`.
fn place_in<'a>(own: &'a str, hierarchy: &Hierarchy) -> Option<&'a str> {
    own.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':');
        let (_, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
        let same = match hierarchy.version {
            Version::V2 => controllers.is_empty(),
            Version::V1 => {
                !controllers.is_empty()
                    && controllers
                        .split(',')
                        .all(|controller| hierarchy.controllers.iter().any(|own| own == controller))
            }
        };
        same.then_some(path)
    })
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
    fn limit_devices(&self, devices: DeviceAccess) -> Result<(), CgroupError> {
        if devices == DeviceAccess::All {
            return Ok(());
        }
        if let Some(placed) = self.of("devices") {
            write(&placed.directory.join("devices.deny"), "a")?;
            let allow = placed.directory.join("devices.allow");
            return DEVICES
                .iter()
                .try_for_each(|rule| write(&allow, &rule.to_string()));
        }
        let Some(placed) = self.unified() else {
            return Ok(());
        };
        let directory =
            fs_err::File::open(&placed.directory).map_err(failed("open", &placed.directory))?;
        bpf::limit_devices(directory.file().as_fd(), &DEVICES)
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

/// Makes a group's directory and those above it, with what they need to be entered.
fn make_directory(placed: &Placed) -> Result<(), CgroupError> {
    let Some(top) = placed.directory.parent() else {
        return Err(CgroupError::NotMounted);
    };
    let made_top = make_one(top)?;
    if made_top && placed.hierarchy.version == Version::V2 {
        for above in [placed.hierarchy.mount.as_path(), top] {
            enable_controllers(above, &placed.hierarchy.controllers)?;
        }
    }
    let made = make_one(&placed.directory)?;
    let cpuset = placed
        .hierarchy
        .controllers
        .iter()
        .any(|controller| controller == "cpuset");
    if placed.hierarchy.version == Version::V1 && cpuset && made {
        // A new cpuset has no CPU and no memory, and takes no process (ENOSPC).
        for directory in [top, placed.directory.as_path()] {
            fill_cpuset(directory)?;
        }
    }
    Ok(())
}

/// Makes one directory; `false` if it was there.
fn make_one(directory: &Path) -> Result<bool, CgroupError> {
    match rustix::fs::mkdir(directory, rustix::fs::Mode::from_raw_mode(0o755)) {
        Ok(()) => Ok(true),
        Err(rustix::io::Errno::EXIST) => Ok(false),
        Err(errno) => Err(failed("make", directory)(errno.into())),
    }
}

/// Lets the groups below `directory` use the controllers that the host has.
fn enable_controllers(directory: &Path, available: &[String]) -> Result<(), CgroupError> {
    let wanted = ENABLED
        .iter()
        .filter(|name| available.iter().any(|own| own == *name));
    let words: Vec<String> = wanted.map(|name| format!("+{name}")).collect();
    if words.is_empty() {
        return Ok(());
    }
    write(&directory.join("cgroup.subtree_control"), &words.join(" "))
}

/// Gives a cpuset what its parent has.
fn fill_cpuset(directory: &Path) -> Result<(), CgroupError> {
    let Some(parent) = directory.parent() else {
        return Ok(());
    };
    for file in ["cpuset.cpus", "cpuset.mems"] {
        if read(&directory.join(file))?.trim().is_empty() {
            let value = read(&parent.join(file))?;
            write(&directory.join(file), value.trim())?;
        }
    }
    Ok(())
}

/// Waits for `populated 0` in `cgroup.events`, whose changes are `POLLPRI`.
fn wait_until_unpopulated(directory: &Path) -> Result<(), CgroupError> {
    let path = directory.join("cgroup.events");
    let mut file = match fs_err::File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed("open", &path)(error)),
    };
    loop {
        let mut text = String::new();
        let read = io::Seek::rewind(&mut file).and_then(|()| file.read_to_string(&mut text));
        match read {
            Ok(_) if text.lines().any(|line| line == "populated 0") => return Ok(()),
            Ok(_) => {}
            // Somebody else has removed it.
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => return Ok(()),
            Err(error) => return Err(failed("read", &path)(error)),
        }
        wait_for(file.file().as_fd(), PollFlags::PRI, directory)?;
    }
}

/// Waits for an event, not for ever.
fn wait_for(fd: BorrowedFd<'_>, event: PollFlags, path: &Path) -> Result<(), CgroupError> {
    let limit = Timespec {
        tv_sec: EMPTY_TIMEOUT_S,
        tv_nsec: 0,
    };
    let mut watched = [PollFd::from_borrowed_fd(fd, event)];
    match rustix::io::retry_on_intr(|| poll(&mut watched, Some(&limit))) {
        Ok(0) => Err(CgroupError::Busy {
            path: path.to_owned(),
        }),
        Ok(_) => Ok(()),
        Err(errno) => Err(failed("wait for", path)(errno.into())),
    }
}

/// Removes a group and the groups that its processes made in it.
fn remove_tree(directory: &Path) -> Result<(), CgroupError> {
    match rustix::fs::rmdir(directory) {
        Ok(()) | Err(rustix::io::Errno::NOENT) => return Ok(()),
        Err(rustix::io::Errno::BUSY | rustix::io::Errno::NOTEMPTY) => {}
        Err(errno) => return Err(failed("remove", directory)(errno.into())),
    }
    for below in children(directory)? {
        remove_tree(&below)?;
    }
    match rustix::fs::rmdir(directory) {
        Ok(()) | Err(rustix::io::Errno::NOENT) => Ok(()),
        Err(rustix::io::Errno::BUSY) => Err(CgroupError::Busy {
            path: directory.to_owned(),
        }),
        Err(errno) => Err(failed("remove", directory)(errno.into())),
    }
}

/// Lists the processes of a group and of the groups in it; none where it is not there.
fn list_tree(directory: &Path, pids: &mut Vec<i32>) -> Result<(), CgroupError> {
    let text = match read(&directory.join("cgroup.procs")) {
        Err(CgroupError::File { source, .. })
            if source.kind() == io::ErrorKind::NotFound
                || source.raw_os_error() == Some(libc::ENODEV) =>
        {
            return Ok(());
        }
        result => result?,
    };
    // 0 is a process of another pid namespace.
    pids.extend(
        text.lines()
            .filter_map(|line| line.parse::<i32>().ok())
            .filter(|pid| *pid > 0),
    );
    for below in children(directory)? {
        list_tree(&below, pids)?;
    }
    Ok(())
}

/// Returns the groups directly in a group.
fn children(directory: &Path) -> Result<Vec<PathBuf>, CgroupError> {
    let entries = match fs_err::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed("read", directory)(error)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(failed("read", directory))?;
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.push(entry.path());
        }
    }
    Ok(found)
}

/// Reads a file of a hierarchy.
fn read(path: &Path) -> Result<String, CgroupError> {
    fs_err::read_to_string(path).map_err(failed("read", path))
}

/// Writes a value in one call, as the kernel wants it.
fn write(path: &Path, value: &str) -> Result<(), CgroupError> {
    let flags = OFlags::WRONLY | OFlags::CLOEXEC;
    let written = rustix::fs::open(path, flags, rustix::fs::Mode::empty())
        .and_then(|file| rustix::io::retry_on_intr(|| rustix::io::write(&file, value.as_bytes())));
    written.map(drop).map_err(|errno| CgroupError::File {
        action: format!("write `{value}` to"),
        path: path.to_owned(),
        source: errno.into(),
    })
}

/// A group that is gone needs nothing done to it.
fn absent_is_fine(result: Result<(), CgroupError>) -> Result<(), CgroupError> {
    match result {
        Err(CgroupError::File { source, .. })
            if source.kind() == io::ErrorKind::NotFound
                || source.raw_os_error() == Some(libc::ENODEV) =>
        {
            Ok(())
        }
        result => result,
    }
}

/// Names what failed.
fn failed<'a>(action: &'a str, path: &'a Path) -> impl Fn(io::Error) -> CgroupError + use<'a> {
    move |source| CgroupError::File {
        action: action.to_owned(),
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::init::Stdio;
    use crate::runtime::testing::{Sandbox, pipe};

    /// Renders the writes for a host whose controllers are all of one version.
    fn check(resources: &Resources, version: Version, expected: &str) {
        let found = settings(resources, |_| Some(version)).unwrap();
        let shown: Vec<String> = found
            .iter()
            .map(|setting| format!("{}={}", setting.file, setting.value))
            .collect();
        assert_eq!(shown.join(" "), expected);
    }

    #[test]
    fn limits_become_writes() {
        let all = Resources {
            memory_bytes: Some(1 << 20),
            cpu_milli: Some(1500),
            pids: Some(7),
        };
        check(
            &all,
            Version::V2,
            "memory.max=1048576 memory.swap.max=1048576 cpu.max=150000 100000 pids.max=7",
        );
        check(
            &all,
            Version::V1,
            "memory.limit_in_bytes=1048576 memory.memsw.limit_in_bytes=2097152 \
             cpu.cfs_period_us=100000 cpu.cfs_quota_us=150000 pids.max=7",
        );
        let little = Resources {
            cpu_milli: Some(5),
            ..Resources::default()
        };
        check(&little, Version::V2, "cpu.max=5000 1000000");
        check(&Resources::default(), Version::V1, "");
    }

    #[test]
    fn a_limit_without_its_controller_is_an_error() {
        let resources = Resources {
            pids: Some(7),
            ..Resources::default()
        };
        let error = settings(&resources, |_| None).unwrap_err().to_string();
        assert_eq!(
            error,
            "limit `pids` needs the `pids` controller, which this host does not offer"
        );
    }

    #[test]
    fn hierarchies_are_read_from_mountinfo() {
        let text = "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755\n\
            32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct\n\
            33 31 0:29 / /other\\040place rw,relatime - cgroup cgroup rw,cpu,cpuacct\n\
            40 31 0:37 / /sys/fs/cgroup/systemd rw shared:9 - cgroup cgroup rw,xattr,name=systemd\n\
            41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw,nsdelegate\n";
        let hierarchy = |mount: &str, version, controllers: &[&str]| Hierarchy {
            mount: mount.into(),
            version,
            controllers: controllers.iter().map(|&name| name.to_owned()).collect(),
        };
        let expected = [
            hierarchy(
                "/sys/fs/cgroup/cpu,cpuacct",
                Version::V1,
                &["cpu", "cpuacct"],
            ),
            hierarchy("/sys/fs/cgroup/systemd", Version::V1, &["name=systemd"]),
            hierarchy("/sys/fs/cgroup/unified", Version::V2, &[]),
        ];
        assert_eq!(parse_hierarchies(text), expected);
        let own = "9:name=systemd:/session-1\n2:cpuacct,cpu:/a\n0::/b\n";
        let places: Vec<_> = expected
            .iter()
            .map(|hierarchy| place_in(own, hierarchy))
            .collect();
        assert_eq!(places, [Some("/a"), Some("/session-1"), Some("/b")]);
    }

    #[test]
    fn limits_hold_and_everything_in_a_group_is_killed() {
        let mut sandbox = Sandbox::new(
            "cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/pids/pids.max \
             /sys/fs/cgroup/cpu/cpu.cfs_quota_us; sleep 1000 & sleep 1000 & echo ready; wait",
        );
        let resources = Resources {
            memory_bytes: Some(64 << 20),
            cpu_milli: Some(500),
            pids: Some(10),
        };
        sandbox.cgroup = sandbox
            .cgroups
            .create("c", &resources, DeviceAccess::Default)
            .unwrap();
        let (read, write) = pipe();
        let spawned = sandbox
            .start(Stdio::Pipes {
                out: write.as_fd(),
                err: write.as_fd(),
                input: None,
            })
            .unwrap();
        let mut text = String::new();
        while !text.contains("ready") {
            let mut buffer = [0; 256];
            let read = rustix::io::read(&read, &mut buffer).unwrap();
            text.push_str(std::str::from_utf8(&buffer[..read]).unwrap());
        }
        assert_eq!(text, "67108864\n10\n50000\nready\n");
        assert_eq!(sandbox.cgroup.pids().unwrap().len(), 3);
        sandbox.cgroup.kill_all().unwrap();
        assert_eq!(
            pidfd::wait(spawned.pidfd.as_fd()).unwrap(),
            pidfd::Exit::Signal(9)
        );
        sandbox.cgroup.remove().unwrap();
        sandbox.cgroup.remove().unwrap();
        assert_eq!(sandbox.cgroup.pids().unwrap(), Vec::<i32>::new());
    }

    #[test]
    fn devices_that_are_not_listed_cannot_be_opened() {
        // fuse may be made (`c *:* m`), not opened.
        let sandbox =
            Sandbox::new("mknod /tmp/f c 10 229 && cat /tmp/f; cat /dev/null && echo fine");
        fs_err::os::unix::fs::symlink("busybox", sandbox.image("bin/mknod")).unwrap();
        let outcome = sandbox.run().unwrap();
        assert_eq!(
            (outcome.out.as_str(), outcome.err.as_str()),
            (
                "fine\n",
                "cat: can't open '/tmp/f': Operation not permitted\n"
            )
        );
        // The same by a program, on a host with v2 alone.
        let unified = |own: &Hierarchy| own.version == Version::V2;
        let mut cgroups = sandbox.cgroups.clone();
        cgroups.hierarchies.retain(unified);
        let Some(hierarchy) = cgroups.hierarchies.first().cloned() else {
            return;
        };
        let group = cgroups
            .create("v2", &Resources::default(), DeviceAccess::Default)
            .unwrap();
        assert_eq!(group.hierarchies().collect::<Vec<_>>(), [&hierarchy]);
        group.kill_all().unwrap();
        group.remove().unwrap();
    }
}
