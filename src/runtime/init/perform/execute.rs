//! The end of the steps: the command in place of the child, or beside it where the child stays as init process.

use std::ffi::{CString, OsStr, OsString};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt as _;

use rustix::io::Errno;

use crate::runtime::config::Process;
use crate::runtime::init::handshake::{ChildEnd, Failure, FailureKind};
use crate::runtime::init::perform::{Child, Fault, failure_text};
use crate::sys::{clone, pidfd, process, pty};

/// Where commands are looked for when the environment names no `PATH`.
pub(crate) const DEFAULT_PATH: &str =
    "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

impl Child<'_> {
    /// Stays as the init process; returns in the child that goes on.
    pub(super) fn become_reaper(&mut self) -> Result<(), Fault> {
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
    pub(super) fn execute(&self) -> Failure {
        let fault = |kind, errno: i32| Failure {
            kind,
            errno,
            text: String::new(),
        };
        if let Err(error) = self.lead_session() {
            return failure_text("begin a session", Fault::System(error));
        }
        let environment = self.process.env.iter().map(OsStr::new);
        let secret = self.secret_env.iter().map(OsString::as_os_str);
        let mut environment: Vec<&OsStr> = environment.chain(secret).collect();
        let home = self
            .opened
            .identity
            .as_ref()
            .map(|identity| format!("HOME={}", identity.home));
        let is_home = |entry: &&OsStr| entry.as_bytes().starts_with(b"HOME=");
        if !environment.iter().any(is_home) {
            environment.extend(home.as_deref().map(OsStr::new));
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
