//! Steps that give the process its terminal and streams, its user and its rights.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags, fstat, openat};
use rustix::io::Errno;

use crate::runtime::init::Stdio;
use crate::runtime::init::handshake::ChildEnd;
use crate::runtime::init::perform::{Child, Fault, bad_descriptor, open_slash};
use crate::runtime::init::user;
use crate::sys::mount::{self, Depth};
use crate::sys::paths;
use crate::sys::{caps, process, pty};

impl Child<'_> {
    /// Opens a terminal of the container's devpts, sends its master and makes it /dev/console.
    pub(super) fn open_terminal(&mut self) -> Result<(), Fault> {
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
    pub(super) fn connect_stdio(&mut self) -> Result<(), Fault> {
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

    /// Looks the user up in the container's files and gives it the pipes or the terminal.
    pub(super) fn find_user(&mut self, user: &str, groups: &[String]) -> Result<(), Fault> {
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
    pub(super) fn drop_privileges(
        &self,
        allowed: u64,
        no_new_privileges: bool,
    ) -> Result<(), Fault> {
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
