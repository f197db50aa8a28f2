//! A further process in a running container: `exec`, health probes, hooks.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::runtime::cgroup::Cgroup;
use crate::runtime::config::Process;
use crate::runtime::init::launch::{Launch, launch};
use crate::runtime::init::perform::{Child as Performer, Opened};
use crate::runtime::init::{StartError, Stdio, seccomp, steps};
use crate::sys::{clone, pidfd};

/// What [`run`] needs.
#[derive(Debug)]
pub struct ExecRequest<'a> {
    /// The pidfd of the container's first process.
    pub init: BorrowedFd<'a>,
    /// What to run, as whom; `init` is ignored.
    pub process: &'a Process,
    /// Its standard streams.
    pub stdio: Stdio<'a>,
    /// The container's control group.
    pub cgroup: &'a Cgroup,
}

/// A process that joined a container; a child of the caller.
#[derive(Debug)]
pub struct Child {
    /// Its id in the caller's pid namespace.
    pub pid: i32,
    /// The process itself; readable when it has ended.
    pub pidfd: OwnedFd,
    /// Master end of its terminal, with [`Stdio::Terminal`].
    pub terminal: Option<OwnedFd>,
    /// What could not be had but was only a default.
    pub warnings: Vec<String>,
}

impl Child {
    /// Waits for the end and returns the exit code, 128 + N after signal N. Reaps it.
    pub fn wait(&self) -> io::Result<i32> {
        Ok(pidfd::wait(self.pidfd.as_fd())?.code())
    }

    /// Returns the exit code if it has ended, without waiting. Reaps it.
    pub fn try_wait(&self) -> io::Result<Option<i32>> {
        Ok(pidfd::try_wait(self.pidfd.as_fd())?.map(pidfd::Exit::code))
    }

    /// Sends a signal to it alone.
    pub fn signal(&self, signal: i32) -> io::Result<()> {
        pidfd::signal(self.pidfd.as_fd(), signal)
    }

    /// Kills its whole session: it, and what it started that did not begin a session of its own.
    ///
    /// Each process is held by a pidfd while its session is looked at, so that no id can come to mean another one.
    pub fn kill_tree(&self) -> io::Result<()> {
        // Its own end last: as long as it is unreaped, its id is no one else's session.
        loop {
            let mut found = false;
            for member in session_members(self.pid)? {
                found = true;
                ignore_ended(pidfd::signal(member.as_fd(), libc::SIGKILL))?;
            }
            if !found {
                break;
            }
        }
        ignore_ended(self.signal(libc::SIGKILL))
    }
}

/// A process that has ended needs no signal.
fn ignore_ended(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(()),
        result => result,
    }
}

/// Opens the living processes of a session other than its leader.
fn session_members(session: i32) -> io::Result<Vec<OwnedFd>> {
    let mut members = Vec::new();
    for entry in fs_err::read_dir("/proc")? {
        let entry = entry?;
        let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse::<i32>().ok())
        else {
            continue;
        };
        if pid == session {
            continue;
        }
        // Opened first, looked at second: if it is in the session then, the descriptor is its.
        let Ok(process) = pidfd::open(pid) else {
            continue;
        };
        let Ok(stat) = fs_err::read_to_string(entry.path().join("stat")) else {
            continue;
        };
        if is_living_member(&stat, session) {
            members.push(process);
        }
    }
    Ok(members)
}

/// Reads /proc/PID/stat (`man 5 proc`): after the name in parentheses come state, parent, group and session.
fn is_living_member(stat: &str, session: i32) -> bool {
    let Some((_, rest)) = stat.rsplit_once(')') else {
        return false;
    };
    let mut fields = rest.split_whitespace();
    let state = fields.next().unwrap_or("Z");
    let found = fields.nth(2).and_then(|field| field.parse::<i32>().ok());
    !matches!(state, "Z" | "X") && found == Some(session)
}

/// Starts a process in all namespaces of a running container and returns when it has executed its command.
pub fn run(request: &ExecRequest<'_>) -> Result<Child, StartError> {
    let steps = steps::plan_exec(request.process).map_err(StartError::Config)?;
    let filter = seccomp::compile(request.process).map_err(StartError::Config)?;
    let not_running = |source| StartError::Step {
        step: "join the container".to_owned(),
        source,
    };
    let pid = pidfd::pid_of(request.init).map_err(not_running)?;
    let pid = pid.ok_or_else(|| not_running(io::Error::from_raw_os_error(libc::ESRCH)))?;
    let mut flags = clone::CLONE_NEWNS
        | clone::CLONE_NEWPID
        | clone::CLONE_NEWNET
        | clone::CLONE_NEWIPC
        | clone::CLONE_NEWUTS;
    let mapped = has_user_namespace(pid).map_err(not_running)?;
    if mapped {
        flags |= clone::CLONE_NEWUSER;
    }
    let spawned = launch(
        &Launch {
            clone_flags: 0,
            outer_pids: None,
            join: vec![(request.init, flags)],
            userns: None,
            cgroup: request.cgroup,
            steps: &steps,
        },
        Performer {
            socket: None,
            root: None,
            trees: Vec::new(),
            netns: None,
            init: Some(request.init),
            stdio: request.stdio,
            process: request.process,
            secret_env: &[],
            filter: &filter,
            opened: Opened::default(),
        },
    )?;
    Ok(Child {
        pid: spawned.pid,
        pidfd: spawned.pidfd,
        terminal: spawned.terminal,
        warnings: spawned.warnings,
    })
}

/// Whether the process is in another user namespace than the caller, who may not join its own again (`man 2 setns`).
fn has_user_namespace(pid: i32) -> io::Result<bool> {
    let other = rustix::fs::stat(format!("/proc/{pid}/ns/user").as_str())?;
    let own = rustix::fs::stat("/proc/self/ns/user")?;
    Ok((other.st_dev, other.st_ino) != (own.st_dev, own.st_ino))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_found_whatever_their_name() {
        for (stat, expected) in [
            ("7 (sh) S 1 7 5 0 -1", true),
            ("7 (a) S 1 5) S 1 7 5 0", true),
            ("7 (sh) Z 1 7 5 0 -1", false),
            ("7 (sh) S 1 5 7 0 -1", false),
            ("", false),
        ] {
            assert_eq!(is_living_member(stat, 5), expected, "{stat}");
        }
    }
}
