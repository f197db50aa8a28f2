//! Performs [`InitStep`]s in the child, one after the other, and executes the command.
//!
//! Decides nothing. Until [`InitStep::Pivot`] nothing in the container's root is reached but through descriptors of ours;
//! after [`InitStep::ConnectStdio`] no descriptor is left but the standard streams and the socket to the caller.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{
    FileType, Mode, OFlags, ResolveFlags, fstat, mknodat, openat, openat2, symlinkat,
};
use rustix::io::Errno;

use crate::runtime::config::Process;
use crate::runtime::init::Stdio;
use crate::runtime::init::handshake::{ChildEnd, Failure, FailureKind};
use crate::runtime::init::steps::{Content, DeviceNode, InitStep, Place};
use crate::runtime::init::user::{self, Identity};
use crate::sys::mount::{self, Attributes, Depth, Filesystem};
use crate::sys::paths::{self, Kind, PROC_MAGIC};
use crate::sys::seccomp::Instruction;
use crate::sys::{caps, clone, pidfd, process, pty};

/// Where commands are looked for when the environment names no `PATH`.
pub(crate) const DEFAULT_PATH: &str =
    "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A directory of the host's that is covered, in the container's mount namespace alone, until the root is changed; nothing
/// is looked up in it meanwhile.
const OLD_ROOT_PLACE: &str = "/sys";

/// Why a step did not work.
enum Fault {
    /// The kernel's reason.
    System(io::Error),
    /// A rule of ours.
    Refused(String),
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        Self::System(error)
    }
}

impl From<Errno> for Fault {
    fn from(errno: Errno) -> Self {
        Self::System(errno.into())
    }
}

/// What the child was given and what it has opened on its way.
pub(crate) struct Child<'a> {
    /// To the caller.
    pub(crate) socket: Option<ChildEnd>,
    /// The root file system, detached.
    pub(crate) root: Option<OwnedFd>,
    /// Trees of the host, detached.
    pub(crate) trees: Vec<OwnedFd>,
    /// The network namespace to enter.
    pub(crate) netns: Option<BorrowedFd<'a>>,
    /// The first process of the container that is joined.
    pub(crate) init: Option<BorrowedFd<'a>>,
    /// Standard streams.
    pub(crate) stdio: Stdio<'a>,
    /// What to execute.
    pub(crate) process: &'a Process,
    /// System call filter; none where empty.
    pub(crate) filter: &'a [Instruction],
    /// What the steps open.
    pub(crate) opened: Opened,
}

/// Descriptors and facts that steps leave for later ones.
#[derive(Default)]
pub(crate) struct Opened {
    proc: Option<OwnedFd>,
    sys: Option<OwnedFd>,
    dev: Option<OwnedFd>,
    terminals: Option<OwnedFd>,
    null: Option<OwnedFd>,
    empty: Option<OwnedFd>,
    files: Option<(OwnedFd, u32)>,
    slave: Option<OwnedFd>,
    terminal: bool,
    identity: Option<Identity>,
}

impl Child<'_> {
    /// Performs the steps and executes the command; reports what fails and ends the process.
    pub(crate) fn run(mut self, steps: &[InitStep]) -> ! {
        // The umask of whoever called `stack` must not shape the container.
        rustix::process::umask(Mode::empty());
        for step in steps {
            if let Err(fault) = self.perform(step) {
                self.fail(&failure_of(step, fault));
            }
        }
        rustix::process::umask(Mode::from_raw_mode(0o022));
        let failure = self.execute();
        self.fail(&failure)
    }

    /// Reports and ends.
    pub(crate) fn fail(&self, failure: &Failure) -> ! {
        let told = self
            .socket
            .as_ref()
            .map(|socket| socket.send_failure(failure));
        // A caller that is gone needs no report; the code only shows in a trace.
        process::exit_now(if matches!(told, Some(Ok(()))) { 1 } else { 2 })
    }

    /// Performs one step.
    #[expect(clippy::too_many_lines, reason = "one arm a step")]
    fn perform(&mut self, step: &InitStep) -> Result<(), Fault> {
        match step {
            InitStep::EnterNetwork => {
                let netns = self.netns.ok_or_else(bad_descriptor)?;
                clone::setns(netns, clone::CLONE_NEWNET)?;
            }
            InitStep::LoopbackUp => process::loopback_up()?,
            InitStep::JoinCgroupNamespace => {
                let init = self.init.ok_or_else(bad_descriptor)?;
                clone::setns(init, clone::CLONE_NEWCGROUP)?;
            }
            InitStep::NewCgroupNamespace => clone::unshare(clone::CLONE_NEWCGROUP)?,
            InitStep::IsolateMounts => mount::make_all_slaves()?,
            // Over "/" itself: paths go on naming the host's root, which is pivoted away from below.
            InitStep::AttachRoot => mount::attach_at(self.root()?, Path::new("/"))?,
            InitStep::Mount {
                kind,
                options,
                attributes,
                target,
                place,
            } => {
                self.mount(kind, options, *attributes, (target, *place))?;
            }
            InitStep::MakeNode(node) => self.make_node(node)?,
            InitStep::MakeLink { name, target } => symlinkat(*target, dev(&self.opened)?, *name)?,
            InitStep::LinkCgroup {
                directory,
                controllers,
            } => {
                let parent = paths::open(self.root()?, Path::new("/sys/fs/cgroup"), OFlags::PATH)?;
                for controller in controllers {
                    symlinkat(directory, &parent, controller)?;
                }
            }
            InitStep::SealCgroups => {
                let sys = self.opened.sys.as_ref().ok_or_else(bad_descriptor)?;
                let cgroup = kernel_path(sys.as_fd(), "fs/cgroup")?.ok_or_else(bad_descriptor)?;
                mount::set_attributes(
                    cgroup.as_fd(),
                    Attributes::MOUNT_ATTR_RDONLY,
                    0,
                    Depth::One,
                )?;
            }
            InitStep::KeepNull => self.keep_null()?,
            InitStep::Bind {
                tree,
                target,
                propagation,
                over_proc,
                place,
            } => {
                self.bind(*tree, target, (*propagation, *over_proc), *place)?;
            }
            InitStep::Inject {
                target,
                content,
                uid,
                gid,
                mode,
            } => {
                self.inject(target, content, (*uid, *gid, *mode))?;
            }
            InitStep::SetSysctl { path, value } => self.set_sysctl(path, value)?,
            InitStep::Mask(path) => self.mask(path)?,
            InitStep::MakeReadOnly(path) => self.make_read_only(path)?,
            InitStep::SetHostname(name) => rustix::system::sethostname(name.as_bytes())?,
            InitStep::SetDomainname(name) => rustix::system::setdomainname(name.as_bytes())?,
            InitStep::OpenTerminal => self.open_terminal()?,
            InitStep::MakeDirectory(path) => {
                paths::open_or_create(self.root()?, Path::new(path), Kind::Directory)?;
            }
            InitStep::MakeRootReadOnly => {
                mount::set_attributes(self.root()?, Attributes::MOUNT_ATTR_RDONLY, 0, Depth::One)?;
            }
            InitStep::Pivot => mount::pivot_into(self.root()?)?,
            InitStep::ConnectStdio => self.connect_stdio()?,
            InitStep::JoinKeyring => join_keyring()?,
            InitStep::SetLimit { resource, limit } => {
                let set = process::set_limit(*resource, limit.soft, limit.hard);
                self.warn_unless(limit.required, set, || format!("limit `{}`", limit.name))?;
            }
            InitStep::FindUser { user, groups } => self.find_user(user, groups)?,
            InitStep::EnterDirectory { path, make } => enter_directory(path, *make)?,
            InitStep::DropPrivileges {
                capabilities,
                no_new_privileges,
            } => {
                self.drop_privileges(*capabilities, *no_new_privileges)?;
            }
            InitStep::BecomeReaper => self.become_reaper()?,
        }
        Ok(())
    }

    /// Returns the root file system.
    fn root(&self) -> Result<BorrowedFd<'_>, Fault> {
        Ok(self.root.as_ref().ok_or_else(bad_descriptor)?.as_fd())
    }

    /// Makes a file system and puts it in place.
    fn mount(
        &mut self,
        kind: &str,
        options: &[(String, Option<String>)],
        attributes: Attributes,
        (target, place): (&str, Place),
    ) -> Result<(), Fault> {
        let filesystem = Filesystem::open(kind)?;
        for (key, value) in options {
            filesystem.set(key, value.as_deref())?;
        }
        let mounted = filesystem.mount(attributes)?;
        let onto = self.target(target, place, Kind::Directory)?;
        if place == Place::InRoot {
            refuse_procfs(&onto)?;
        }
        mount::attach(mounted.as_fd(), onto.as_fd())?;
        self.keep(place, mounted, kind);
        Ok(())
    }

    /// Opens or makes a target.
    fn target(&self, target: &str, place: Place, kind: Kind) -> Result<OwnedFd, Fault> {
        match place {
            Place::RealDirectory(name) => Ok(paths::real_directory(self.root()?, name)?),
            Place::InRoot => Ok(paths::open_or_create(
                self.root()?,
                Path::new(target),
                kind,
            )?),
        }
    }

    /// Keeps a mount that later steps work in.
    fn keep(&mut self, place: Place, mounted: OwnedFd, kind: &str) {
        match place {
            Place::RealDirectory("proc") => self.opened.proc = Some(mounted),
            Place::RealDirectory("sys") => self.opened.sys = Some(mounted),
            Place::RealDirectory("dev") => self.opened.dev = Some(mounted),
            Place::RealDirectory(_) | Place::InRoot => {
                if kind == "devpts" {
                    self.opened.terminals = Some(mounted);
                }
            }
        }
    }

    /// Makes a device, with the directories of its name.
    fn make_node(&self, node: &DeviceNode) -> Result<(), Fault> {
        let dev = dev(&self.opened)?;
        if let Some((parent, _)) = node.name.rsplit_once('/') {
            paths::open_or_create(dev, Path::new(parent), Kind::Directory)?;
        }
        let kind = FileType::from_raw_mode(node.mode);
        let mode = Mode::from_raw_mode(node.mode & 0o7777);
        Ok(mknodat(dev, node.name.as_str(), kind, mode, node.device)?)
    }

    /// Opens our /dev/null and checks that it is what it says (CVE-2025-31133).
    fn keep_null(&mut self) -> Result<(), Fault> {
        let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let null = openat(dev(&self.opened)?, "null", flags, Mode::empty())?;
        let stat = fstat(&null)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::CharacterDevice
            || stat.st_rdev != rustix::fs::makedev(1, 3)
        {
            return Err(Fault::Refused("it is not the null device".to_owned()));
        }
        self.opened.null = Some(null);
        Ok(())
    }

    /// Puts a tree of the host in place.
    fn bind(
        &mut self,
        tree: usize,
        target: &str,
        (propagation, over_proc): (libc::c_ulong, bool),
        place: Place,
    ) -> Result<(), Fault> {
        let tree = self.trees.get(tree).ok_or_else(bad_descriptor)?;
        let kind = match FileType::from_raw_mode(fstat(tree)?.st_mode) {
            FileType::Directory => Kind::Directory,
            _ => Kind::File,
        };
        let onto = self.target(target, place, kind)?;
        if !over_proc && mount::filesystem_magic(tree)? != PROC_MAGIC {
            refuse_procfs(&onto)?;
        }
        mount::attach(tree.as_fd(), onto.as_fd())?;
        let depth = if propagation & libc::MS_REC == 0 {
            Depth::One
        } else {
            Depth::Recursive
        };
        let change = propagation & !libc::MS_REC;
        mount::set_attributes(tree.as_fd(), Attributes::empty(), change, depth)?;
        if place != Place::InRoot {
            let kept = rustix::io::fcntl_dupfd_cloexec(tree, 3)?;
            self.keep(place, kept, "");
        }
        Ok(())
    }

    /// Writes a file into a tmpfs that the container does not see, and binds it read-only.
    fn inject(
        &mut self,
        target: &str,
        content: &Content,
        (uid, gid, mode): (u32, u32, u32),
    ) -> Result<(), Fault> {
        let (files, number) = if let Some((files, number)) = self.opened.files.take() {
            (files, number + 1)
        } else {
            let tmpfs = Filesystem::open("tmpfs")?;
            tmpfs.set("mode", Some("700"))?;
            let files = tmpfs.mount(inert())?;
            // Before 6.15 only what is mounted somewhere can be bound; the old root goes when the new one takes its place.
            mount::attach_at(files.as_fd(), Path::new(OLD_ROOT_PLACE))?;
            (files, 0)
        };
        let name = number.to_string();
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let file = openat(&files, &name, flags, Mode::RUSR)?;
        let mut rest = content.0.as_bytes();
        while !rest.is_empty() {
            let written = rustix::io::retry_on_intr(|| rustix::io::write(&file, rest))?;
            rest = rest.get(written..).unwrap_or(&[]);
        }
        rustix::fs::fchown(
            &file,
            Some(rustix::fs::Uid::from_raw(uid)),
            Some(rustix::fs::Gid::from_raw(gid)),
        )?;
        rustix::fs::fchmod(&file, Mode::from_raw_mode(mode & 0o7777))?;
        let tree = mount::clone_tree(files.as_fd(), Path::new(&name), Depth::One)?;
        mount::set_attributes(tree.as_fd(), Attributes::MOUNT_ATTR_RDONLY, 0, Depth::One)?;
        let onto = paths::open_or_create(self.root()?, Path::new(target), Kind::File)?;
        refuse_procfs(&onto)?;
        mount::attach(tree.as_fd(), onto.as_fd())?;
        self.opened.files = Some((files, number));
        Ok(())
    }

    /// Writes a kernel parameter through our own procfs.
    fn set_sysctl(&self, path: &str, value: &str) -> Result<(), Fault> {
        let proc = self.opened.proc.as_ref().ok_or_else(bad_descriptor)?;
        let file = openat2(
            proc,
            format!("sys/{path}"),
            OFlags::WRONLY | OFlags::CLOEXEC,
            Mode::empty(),
            ResolveFlags::NO_SYMLINKS | ResolveFlags::BENEATH,
        )?;
        rustix::io::write(&file, value.as_bytes())?;
        Ok(())
    }

    /// Returns the kept mount that a path of the kernel's file systems is in, and the rest of the path.
    fn kernel_mount<'p>(&self, path: &'p str) -> Result<(BorrowedFd<'_>, &'p str), Fault> {
        let (mount, rest) = match path.strip_prefix("/proc/") {
            Some(rest) => (&self.opened.proc, rest),
            None => (&self.opened.sys, path.trim_start_matches("/sys/")),
        };
        Ok((mount.as_ref().ok_or_else(bad_descriptor)?.as_fd(), rest))
    }

    /// Hides a file behind our null device, a directory behind an empty one.
    fn mask(&mut self, path: &str) -> Result<(), Fault> {
        let (mount, rest) = self.kernel_mount(path)?;
        let Some(target) = kernel_path(mount, rest)? else {
            return Ok(());
        };
        let cover = if FileType::from_raw_mode(fstat(&target)?.st_mode) == FileType::Directory {
            if self.opened.empty.is_none() {
                let tmpfs = Filesystem::open("tmpfs")?;
                tmpfs.set("mode", Some("555"))?;
                let attributes = inert() | Attributes::MOUNT_ATTR_RDONLY;
                // The first one is mounted itself: before 6.15 only what is mounted somewhere can be bound elsewhere.
                let empty = tmpfs.mount(attributes)?;
                mount::attach(empty.as_fd(), target.as_fd())?;
                self.opened.empty = Some(empty);
                return Ok(());
            }
            &self.opened.empty
        } else {
            &self.opened.null
        };
        let cover = cover.as_ref().ok_or_else(bad_descriptor)?;
        let cover = mount::clone_tree(cover.as_fd(), Path::new(""), Depth::One)?;
        Ok(mount::attach(cover.as_fd(), target.as_fd())?)
    }

    /// Binds a path of the kernel's file systems over itself, read-only.
    fn make_read_only(&self, path: &str) -> Result<(), Fault> {
        let (mount, rest) = self.kernel_mount(path)?;
        let Some(target) = kernel_path(mount, rest)? else {
            return Ok(());
        };
        let tree = mount::clone_tree(target.as_fd(), Path::new(""), Depth::Recursive)?;
        let depth = Depth::Recursive;
        mount::set_attributes(tree.as_fd(), Attributes::MOUNT_ATTR_RDONLY, 0, depth)?;
        Ok(mount::attach(tree.as_fd(), target.as_fd())?)
    }

    /// Opens a terminal of the container's devpts, sends its master and makes it /dev/console.
    fn open_terminal(&mut self) -> Result<(), Fault> {
        let joined = if self.opened.terminals.is_none() {
            let root = open_slash()?;
            let flags = OFlags::PATH | OFlags::DIRECTORY;
            Some(paths::open(root.as_fd(), Path::new("/dev/pts"), flags)?)
        } else {
            None
        };
        let terminals = self.opened.terminals.as_ref().or(joined.as_ref());
        let pair = pty::open_in(terminals.ok_or_else(bad_descriptor)?.as_fd())?;
        if let Some(socket) = &self.socket {
            socket.send_terminal(pair.master.as_fd())?;
        }
        if let Some(dev) = &self.opened.dev {
            let flags = OFlags::RDONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
            let console = openat(dev, "console", flags, Mode::from_raw_mode(0o620))?;
            let tree = mount::clone_tree(pair.slave.as_fd(), Path::new(""), Depth::One)?;
            mount::attach(tree.as_fd(), console.as_fd())?;
        }
        self.opened.slave = Some(pair.slave);
        self.opened.terminal = true;
        Ok(())
    }

    /// Puts the standard streams in place and closes everything else but the socket.
    fn connect_stdio(&mut self) -> Result<(), Fault> {
        let [input, out, err] = match (&self.opened.slave, self.stdio) {
            (Some(slave), _) => {
                let copy = || process::above_stdio(slave.as_fd());
                [copy()?, copy()?, copy()?]
            }
            (None, Stdio::Terminal) => return Err(bad_descriptor().into()),
            (None, Stdio::Pipes { out, err, input }) => {
                let input = match (input, &self.opened.null) {
                    (Some(input), _) => process::above_stdio(input)?,
                    (None, Some(null)) => process::above_stdio(null.as_fd())?,
                    (None, None) => joined_null()?,
                };
                [
                    input,
                    process::above_stdio(out)?,
                    process::above_stdio(err)?,
                ]
            }
        };
        for (number, fd) in [(0, input), (1, out), (2, err)] {
            process::set_stdio(fd.as_fd(), number)?;
        }
        let socket = self.socket.take().ok_or_else(bad_descriptor)?;
        let kept = process::above_stdio(socket.into_fd().as_fd())?;
        self.socket = Some(ChildEnd::from_fd(process::close_all_but(kept)?));
        Ok(())
    }

    /// Sends a warning instead of failing where `required` is false and the kernel forbids it.
    fn warn_unless(
        &self,
        required: bool,
        result: io::Result<()>,
        subject: impl FnOnce() -> String,
    ) -> Result<(), Fault> {
        match (result, &self.socket) {
            (Err(error), Some(socket))
                if !required && error.raw_os_error() == Some(libc::EPERM) =>
            {
                Ok(socket.send_warning(&format!("{} was not set: {error}", subject()))?)
            }
            (result, _) => Ok(result?),
        }
    }

    /// Looks the user up in the container's files and gives it the pipes or the terminal.
    fn find_user(&mut self, user: &str, groups: &[String]) -> Result<(), Fault> {
        let root = open_slash()?;
        let passwd = user::read_database(root.as_fd(), "/etc/passwd").map_err(Fault::Refused)?;
        let group = user::read_database(root.as_fd(), "/etc/group").map_err(Fault::Refused)?;
        let identity = user::resolve(user, groups, &passwd, &group).map_err(Fault::Refused)?;
        if identity.uid != 0 {
            give_stdio(identity.uid, self.opened.terminal)?;
        }
        self.opened.identity = Some(identity);
        Ok(())
    }

    /// Changes to the user with no more than the capabilities allowed, and installs the filter.
    fn drop_privileges(&self, allowed: u64, no_new_privileges: bool) -> Result<(), Fault> {
        const SYS_ADMIN: u64 = 1 << 21;
        let identity = self.opened.identity.as_ref().ok_or_else(bad_descriptor)?;
        let permitted = caps::get()?.permitted;
        caps::limit_bounding_set(allowed)?;
        caps::clear_ambient_set()?;
        process::set_groups(&identity.groups)?;
        process::set_gid(identity.gid)?;
        caps::keep_across_setuid()?;
        process::set_uid(identity.uid)?;
        // Root keeps its share; any other user starts with none (CVE-2022-24769).
        let last = if identity.uid == 0 {
            allowed & permitted
        } else {
            0
        };
        let last = caps::Sets {
            effective: last,
            permitted: last,
            inheritable: 0,
        };
        if no_new_privileges {
            caps::set(last)?;
            process::set_no_new_privileges()?;
            self.install_filter()?;
        } else {
            // Without no_new_privs a filter needs CAP_SYS_ADMIN, so it comes before the last capabilities go.
            let meanwhile = (last.permitted | SYS_ADMIN) & permitted;
            caps::set(caps::Sets {
                effective: meanwhile,
                permitted: meanwhile,
                inheritable: 0,
            })?;
            self.install_filter()?;
            caps::set(last)?;
        }
        Ok(())
    }

    /// Installs the filter, if there is one.
    fn install_filter(&self) -> Result<(), Fault> {
        if self.filter.is_empty() {
            return Ok(());
        }
        Ok(crate::sys::seccomp::install(self.filter)?)
    }

    /// Stays as the init process; returns in the child that goes on.
    fn become_reaper(&mut self) -> Result<(), Fault> {
        process::block_signals();
        let clone::Forked::Parent(child) = clone::fork()? else {
            process::unblock_signals();
            return Ok(());
        };
        drop(self.socket.take());
        process::set_name(c"stack-init")?;
        rustix::process::setsid().map(drop).or_else(accept_leader)?;
        process::exit_now(reap_until_end(child).unwrap_or(255))
    }

    /// Executes the command; returns why it could not.
    fn execute(&self) -> Failure {
        let fault = |kind, errno: i32| Failure {
            kind,
            errno,
            text: String::new(),
        };
        if let Err(error) = self.lead_session() {
            return failure_text("begin a session", Fault::System(error));
        }
        let mut environment: Vec<&str> = self.process.env.iter().map(String::as_str).collect();
        let home = self
            .opened
            .identity
            .as_ref()
            .map(|identity| format!("HOME={}", identity.home));
        if !environment.iter().any(|entry| entry.starts_with("HOME=")) {
            environment.extend(home.as_deref());
        }
        let candidates = candidates(self.process);
        let arguments = process::Strings::new(self.process.args.iter().map(String::as_str));
        let environment = process::Strings::new(environment);
        let (Some(arguments), Some(environment)) = (arguments, environment) else {
            return fault(FailureKind::Execute, libc::EINVAL);
        };
        let ready = process::close_all_on_exec()
            .and_then(|()| self.socket.as_ref().map_or(Ok(()), ChildEnd::send_ready));
        if let Err(error) = ready {
            return failure_text("report to the caller", Fault::System(error));
        }
        let error = process::execute(&candidates, &arguments, &environment);
        let errno = error.raw_os_error().unwrap_or(0);
        let there = |path: &CString| rustix::fs::stat(path.as_c_str()).is_ok();
        if errno == libc::ENOENT && candidates.iter().any(there) {
            return fault(FailureKind::Interpreter, errno);
        }
        fault(FailureKind::Execute, errno)
    }

    /// Begins a session, with the terminal where there is one.
    fn lead_session(&self) -> io::Result<()> {
        rustix::process::setsid().map(drop).or_else(accept_leader)?;
        if self.opened.terminal {
            pty::take_control(io::stdin().as_fd())?;
        }
        Ok(())
    }
}

/// Who leads a session already has one of its own.
fn accept_leader(errno: Errno) -> rustix::io::Result<()> {
    if errno == Errno::PERM {
        Ok(())
    } else {
        Err(errno)
    }
}

/// A descriptor that a step needs was never opened.
fn bad_descriptor() -> io::Error {
    io::Error::from_raw_os_error(libc::EBADF)
}

/// Our /dev.
fn dev(opened: &Opened) -> Result<BorrowedFd<'_>, Fault> {
    Ok(opened.dev.as_ref().ok_or_else(bad_descriptor)?.as_fd())
}

/// `nosuid,nodev,noexec`.
fn inert() -> Attributes {
    Attributes::MOUNT_ATTR_NOSUID | Attributes::MOUNT_ATTR_NODEV | Attributes::MOUNT_ATTR_NOEXEC
}

/// Opens `/`.
fn open_slash() -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(openat(rustix::fs::CWD, "/", flags, Mode::empty())?)
}

/// Opens the null device of a container that was joined.
fn joined_null() -> Result<OwnedFd, Fault> {
    let root = open_slash()?;
    let null = paths::open(root.as_fd(), Path::new("/dev/null"), OFlags::RDWR)?;
    if fstat(&null)?.st_rdev != rustix::fs::makedev(1, 3) {
        return Err(Fault::Refused(
            "the container's /dev/null is not the null device".to_owned(),
        ));
    }
    Ok(process::above_stdio(null.as_fd())?)
}

/// Opens a path of procfs or sysfs, which has no links on the way; `None` if it is not there.
fn kernel_path(mount: BorrowedFd<'_>, path: &str) -> Result<Option<OwnedFd>, Fault> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let resolve = ResolveFlags::NO_SYMLINKS | ResolveFlags::BENEATH;
    match openat2(mount, path, flags, Mode::empty(), resolve) {
        Ok(found) => Ok(Some(found)),
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

/// Keeps mounts off procfs (CVE-2019-16884, CVE-2023-28642).
fn refuse_procfs(target: &OwnedFd) -> Result<(), Fault> {
    if mount::filesystem_magic(target)? == PROC_MAGIC {
        return Err(Fault::Refused("the target is inside /proc".to_owned()));
    }
    Ok(())
}

/// A keyring is a bonus: quotas and kernels without keys do without.
fn join_keyring() -> io::Result<()> {
    match process::join_session_keyring() {
        Err(error)
            if matches!(
                error.raw_os_error(),
                Some(libc::ENOSYS | libc::EPERM | libc::EDQUOT | libc::EACCES)
            ) =>
        {
            Ok(())
        }
        result => result,
    }
}

/// Gives pipes, and a terminal of our own, to the user, so that it can open /dev/stdout. Files of the host stay as they are.
fn give_stdio(uid: u32, terminal: bool) -> Result<(), Fault> {
    for fd in [
        io::stdin().as_fd(),
        io::stdout().as_fd(),
        io::stderr().as_fd(),
    ] {
        let kind = FileType::from_raw_mode(fstat(fd)?.st_mode);
        if kind != FileType::Fifo && !terminal {
            continue;
        }
        match rustix::fs::fchown(fd, Some(rustix::fs::Uid::from_raw(uid)), None) {
            // The pipe's owner may have no id in the container's user namespace.
            Ok(()) | Err(Errno::PERM | Errno::INVAL) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

/// Enters the working directory and checks that it is in the container (CVE-2024-21626).
fn enter_directory(path: &str, make: bool) -> Result<(), Fault> {
    let root = open_slash()?;
    let path = Path::new(path);
    let directory = if make {
        paths::open_or_create(root.as_fd(), path, Kind::Directory)?
    } else {
        paths::open(root.as_fd(), path, OFlags::PATH | OFlags::DIRECTORY)?
    };
    rustix::process::fchdir(&directory)?;
    let shown = rustix::process::getcwd(Vec::new())?;
    if shown.to_bytes().first() != Some(&b'/') {
        return Err(Fault::Refused("it is outside the container".to_owned()));
    }
    Ok(())
}

/// Returns the paths to try for a command.
fn candidates(process: &Process) -> Vec<CString> {
    let command = process.args.first().map_or("", String::as_str);
    let join = |directory: &str| CString::new(format!("{directory}/{command}")).ok();
    if command.contains('/') {
        return CString::new(command).into_iter().collect();
    }
    let directories = search_path(process)
        .split(':')
        .filter(|path| !path.is_empty());
    directories.filter_map(join).collect()
}

/// Returns the `PATH` in which a command is looked for.
pub(crate) fn search_path(process: &Process) -> &str {
    let given = process
        .env
        .iter()
        .rev()
        .find_map(|entry| entry.strip_prefix("PATH="));
    given.unwrap_or(DEFAULT_PATH)
}

/// Reaps every child and forwards every signal, until the child `main` has ended; returns its exit code.
fn reap_until_end(main: i32) -> io::Result<i32> {
    let mut code = None;
    loop {
        let signal = process::next_signal()?;
        if signal != libc::SIGCHLD {
            match process::kill(main, signal) {
                Err(error) if error.raw_os_error() != Some(libc::ESRCH) => return Err(error),
                _ => continue,
            }
        }
        loop {
            match process::reap_any() {
                Ok(Some((pid, exit))) if pid == main => code = Some(exit),
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(error) if error.raw_os_error() == Some(libc::ECHILD) => break,
                Err(error) => return Err(error),
            }
        }
        if let Some(exit) = code {
            return Ok(pidfd::Exit::code(exit));
        }
    }
}

/// Makes the message of a step that did not work.
fn failure_of(step: &InitStep, fault: Fault) -> Failure {
    failure_text(&step.to_string(), fault)
}

/// Makes a message.
fn failure_text(step: &str, fault: Fault) -> Failure {
    match fault {
        Fault::System(error) => Failure {
            kind: FailureKind::Step,
            errno: error.raw_os_error().unwrap_or(0),
            // An error without a number carries the kernel's own words.
            text: match error.raw_os_error() {
                Some(_) => step.to_owned(),
                None => format!("{step}: {error}"),
            },
        },
        Fault::Refused(reason) => Failure {
            kind: FailureKind::Refused,
            errno: 0,
            text: format!("{step}: {reason}"),
        },
    }
}
