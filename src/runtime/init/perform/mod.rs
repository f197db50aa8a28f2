//! Performs [`InitStep`]s in the child, one after the other, and executes the command.
//!
//! Decides nothing. Until [`InitStep::Pivot`] nothing in the container's root is reached but through descriptors of ours;
//! after [`InitStep::ConnectStdio`] no descriptor is left but the standard streams and the socket to the caller.
//!
//! This file goes through the steps; `filesystems` mounts, `identity` gives streams, user and rights, `execute` ends it.

mod execute;
mod filesystems;
mod identity;

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags, openat, symlinkat};
use rustix::io::Errno;

use crate::runtime::config::Process;
use crate::runtime::init::Stdio;
use crate::runtime::init::handshake::{ChildEnd, Failure, FailureKind};
use crate::runtime::init::steps::InitStep;
use crate::runtime::init::user::Identity;
use crate::sys::mount::{self, Attributes, Depth};
use crate::sys::paths::{self, Kind};
use crate::sys::seccomp::Instruction;
use crate::sys::{clone, process};

pub(crate) use crate::runtime::init::perform::execute::search_path;
use crate::runtime::init::perform::filesystems::{dev, kernel_path};

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
    /// Variables that it is given too, and that are written down nowhere.
    pub(crate) secret_env: &'a [OsString],
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
}

/// A descriptor that a step needs was never opened.
fn bad_descriptor() -> io::Error {
    io::Error::from_raw_os_error(libc::EBADF)
}

/// Opens `/`.
fn open_slash() -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(openat(rustix::fs::CWD, "/", flags, Mode::empty())?)
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
