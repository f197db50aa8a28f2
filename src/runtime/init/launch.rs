//! The caller's side of a start: the clone, what only the caller may do to the child, and the child's report.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use crate::runtime::cgroup::Cgroup;
use crate::runtime::config::IdMap;
use crate::runtime::init::handshake::{self, CallerEnd, ChildEnd, Failure, FailureKind, Message};
use crate::runtime::init::mounts::Mapping;
use crate::runtime::init::perform::{self, Child};
use crate::runtime::init::steps::{HostTree, InitStep};
use crate::runtime::init::{Spawned, StartError};
use crate::sys::clone::{self, Cloned, Forked, SingleThreaded};
use crate::sys::{mount, pidfd, process};

/// How a child is made.
#[derive(Debug)]
pub(crate) struct Launch<'a> {
    /// `CLONE_NEW*`.
    pub(crate) clone_flags: i32,
    /// A process in whose pid namespace the child's own is made.
    pub(crate) outer_pids: Option<BorrowedFd<'a>>,
    /// Namespaces to enter first, in order.
    pub(crate) join: Vec<(BorrowedFd<'a>, i32)>,
    /// User namespace to enter after those.
    pub(crate) userns: Option<BorrowedFd<'a>>,
    /// Its control group.
    pub(crate) cgroup: &'a Cgroup,
    /// What it does.
    pub(crate) steps: &'a [InitStep],
}

/// An unreaped child.
struct Made {
    pid: i32,
    pidfd: OwnedFd,
}

/// Makes the child, lets it perform its steps, and returns when it has executed its command.
pub(crate) fn launch(launch: &Launch<'_>, child: Child<'_>) -> Result<Spawned, StartError> {
    let (caller_end, child_end) = handshake::pair().map_err(failed("make a socket"))?;
    let alone = SingleThreaded::check().map_err(failed("count the threads"))?;
    // Whoever clones is still what the caller is, and so may clone into the control group.
    let is_own = launch.join.is_empty() && launch.userns.is_none();
    let direct = is_own && launch.outer_pids.is_none();
    let process = child.process;
    let groups = launch.cgroup.open_legacy()?;
    let unified = if is_own {
        launch.cgroup.open_unified()?
    } else {
        None
    };
    let made = match alone {
        Some(proof) if direct => {
            let cloned = clone::clone3(
                &proof,
                launch.clone_flags,
                unified.as_ref().map(AsFd::as_fd),
            );
            match cloned.map_err(failed("clone"))? {
                Cloned::Child => {
                    drop(caller_end);
                    run_child(child, child_end, groups, launch.steps)
                }
                Cloned::Parent { pid, pidfd } => {
                    drop((child, child_end));
                    Made { pid, pidfd }
                }
            }
        }
        _ => match fork_within(launch.outer_pids).map_err(failed("fork"))? {
            Forked::Child(proof) => {
                // Else the child, which inherits it, would never see its end.
                drop(caller_end);
                between(&proof, launch, child, (child_end, groups, unified))
            }
            Forked::Parent(between) => {
                drop((child, child_end));
                let made = receive_sibling(&caller_end, between)?;
                if !is_own {
                    // Takes milliseconds: the kernel waits until no process of the machine is being made.
                    let entered = launch.cgroup.enter_unified(made.pid);
                    abandon_on_error(&made, entered.map_err(Into::into))?;
                }
                made
            }
        },
    };
    let prepared = set_oom_score(made.pid, process.oom_score_adj).and_then(|warning| {
        caller_end
            .go()
            .map_err(failed("let the child go on"))
            .map(|()| warning)
    });
    let warning = abandon_on_error(&made, prepared)?;
    let mut spawned = await_execution(&caller_end, made, process)?;
    spawned.warnings.extend(warning);
    Ok(spawned)
}

/// Names a failed step.
fn failed(step: &str) -> impl FnOnce(io::Error) -> StartError + use<'_> {
    move |source| StartError::Step {
        step: step.to_owned(),
        source,
    }
}

/// The child: enters its control groups, waits, performs, executes.
fn run_child(
    mut child: Child<'_>,
    socket: ChildEnd,
    groups: Vec<OwnedFd>,
    steps: &[InitStep],
) -> ! {
    let _guard = process::ExitOnDrop(2);
    process::reset_signals();
    let hidden = process::forbid_tracing();
    let entered = groups
        .iter()
        .try_for_each(|group| rustix::io::write(group, b"0").map(drop));
    drop(groups);
    let waited = hidden.and_then(|()| socket.wait_for_go());
    child.socket = Some(socket);
    if let Err(errno) = entered {
        child.fail(&report("enter the control group", &errno.into()));
    }
    match waited {
        Ok(true) => child.run(steps),
        // The caller has given up or died.
        Ok(false) => process::exit_now(2),
        Err(error) => child.fail(&report("wait for the caller", &error)),
    }
}

/// Makes a report of a failed call.
fn report(step: &str, error: &io::Error) -> Failure {
    Failure {
        kind: FailureKind::Step,
        errno: error.raw_os_error().unwrap_or(0),
        text: step.to_owned(),
    }
}

/// The process between: enters namespaces and clones the child as its sibling.
fn between(
    proof: &SingleThreaded,
    launch: &Launch<'_>,
    child: Child<'_>,
    (socket, groups, unified): (ChildEnd, Vec<OwnedFd>, Option<OwnedFd>),
) -> ! {
    let _guard = process::ExitOnDrop(2);
    // An interrupt from the terminal goes to the whole process group: between the clone and the message it would leave a child that
    // waits for a caller who has never heard of it.
    process::block_signals();
    match enter_and_clone(proof, launch, unified.as_ref()) {
        Ok(Cloned::Child) => run_child(child, socket, groups, launch.steps),
        Ok(Cloned::Parent { pid: _, pidfd }) => {
            // If this fails the caller sees the end of the socket and the child, without a caller, ends too.
            process::exit_now(if socket.send_child(pidfd.as_fd()).is_ok() {
                0
            } else {
                2
            })
        }
        Err((step, error)) => {
            let told = socket.send_failure(&report(step, &error));
            process::exit_now(if told.is_ok() { 1 } else { 2 })
        }
    }
}

/// Enters namespaces in their order and clones.
fn enter_and_clone(
    proof: &SingleThreaded,
    launch: &Launch<'_>,
    unified: Option<&OwnedFd>,
) -> Result<Cloned, (&'static str, io::Error)> {
    // Root of a container that is joined must not trace us (CVE-2016-9962).
    process::forbid_tracing().map_err(|error| ("forbid tracing", error))?;
    for (namespace, flags) in &launch.join {
        clone::setns(*namespace, *flags).map_err(|error| ("join the namespaces", error))?;
    }
    if let Some(userns) = launch.userns {
        let entered = clone::setns(userns, clone::CLONE_NEWUSER)
            .and_then(|()| process::set_groups(&[]))
            .and_then(|()| process::set_gid(0))
            .and_then(|()| process::set_uid(0));
        entered.map_err(|error| ("enter the user namespace", error))?;
        // Changing ids has made the process traceable or not by a setting of the host's.
        process::forbid_tracing().map_err(|error| ("forbid tracing", error))?;
    }
    let flags = launch.clone_flags | clone::CLONE_PARENT;
    let into = unified.map(AsFd::as_fd);
    clone::clone3(proof, flags, into).map_err(|error| ("clone", error))
}

/// Makes the process between, in the pid namespace of `outer`: the kernel makes a new one only within that of who asks for it.
fn fork_within(outer: Option<BorrowedFd<'_>>) -> io::Result<Forked> {
    match outer {
        None => clone::fork(),
        Some(outer) => clone::fork_within(outer),
    }
}

/// Takes the child from the process between, and reaps that.
fn receive_sibling(caller_end: &CallerEnd, between: i32) -> Result<Made, StartError> {
    let message = caller_end.receive();
    process::reap(between).map_err(failed("reap the process between"))?;
    match message.map_err(failed("hear from the process between"))? {
        Some(Message::Child(pidfd)) => {
            let known = pidfd::pid_of(pidfd.as_fd()).map_err(failed("look at the child"))?;
            // It is our child and unreaped, so that it has an id.
            let pid = known.ok_or(StartError::Died { killed: false })?;
            Ok(Made { pid, pidfd })
        }
        Some(Message::Failed(failure)) => Err(started_error(failure, None)),
        Some(Message::Terminal(_) | Message::Warning(_) | Message::Ready) | None => {
            Err(StartError::Died { killed: false })
        }
    }
}

/// Kills and reaps the child if the caller's part failed.
fn abandon_on_error<T>(made: &Made, result: Result<T, StartError>) -> Result<T, StartError> {
    if result.is_err() {
        end(made)?;
    }
    result
}

/// Kills and reaps the child, whatever state it is in.
fn end(made: &Made) -> Result<pidfd::Exit, StartError> {
    match pidfd::signal(made.pidfd.as_fd(), libc::SIGKILL) {
        Err(error) if error.raw_os_error() != Some(libc::ESRCH) => {
            return Err(failed("kill the child")(error));
        }
        _ => {}
    }
    pidfd::wait(made.pidfd.as_fd()).map_err(failed("reap the child"))
}

/// Writes `oom_score_adj` for the child, which has not started to be someone else; lowering it may be forbidden.
fn set_oom_score(pid: i32, score: Option<i32>) -> Result<Option<String>, StartError> {
    let Some(score) = score else {
        return Ok(None);
    };
    let path = format!("/proc/{pid}/oom_score_adj");
    let written = rustix::fs::open(
        path.as_str(),
        rustix::fs::OFlags::WRONLY | rustix::fs::OFlags::CLOEXEC,
        rustix::fs::Mode::empty(),
    )
    .and_then(|file| rustix::io::write(&file, score.to_string().as_bytes()));
    match written {
        Ok(_) => Ok(None),
        Err(errno @ (rustix::io::Errno::ACCESS | rustix::io::Errno::PERM)) => Ok(Some(format!(
            "oom_score_adj was not set to {score}: {errno}"
        ))),
        Err(errno) => Err(failed("set oom_score_adj")(errno.into())),
    }
}

/// Hears the child out.
fn await_execution(
    caller_end: &CallerEnd,
    made: Made,
    process: &crate::runtime::config::Process,
) -> Result<Spawned, StartError> {
    let mut terminal = None;
    let mut warnings = Vec::new();
    let mut ready = false;
    loop {
        let message = caller_end.receive().map_err(failed("hear from the child"));
        match abandon_on_error(&made, message)? {
            Some(Message::Terminal(master)) => terminal = Some(master),
            Some(Message::Warning(text)) => warnings.push(text),
            Some(Message::Ready) => ready = true,
            Some(Message::Failed(failure)) => {
                end(&made)?;
                return Err(started_error(failure, Some(process)));
            }
            Some(Message::Child(_)) => {}
            None if ready => {
                return Ok(Spawned {
                    pid: made.pid,
                    pidfd: made.pidfd,
                    terminal,
                    warnings,
                });
            }
            None => {
                let exit = end_of(&made)?;
                return Err(StartError::Died {
                    killed: exit == pidfd::Exit::Signal(libc::SIGKILL),
                });
            }
        }
    }
}

/// Reaps a child that has closed its socket without a word.
fn end_of(made: &Made) -> Result<pidfd::Exit, StartError> {
    pidfd::wait(made.pidfd.as_fd()).map_err(failed("reap the child"))
}

/// Makes the caller's error of the child's report.
fn started_error(
    failure: Failure,
    process: Option<&crate::runtime::config::Process>,
) -> StartError {
    let command = || {
        let command = process.and_then(|process| process.args.first());
        command.cloned().unwrap_or_default()
    };
    let source = || io::Error::from_raw_os_error(failure.errno);
    match failure.kind {
        FailureKind::Step if failure.errno != 0 => StartError::Step {
            step: failure.text.clone(),
            source: source(),
        },
        // Text and reason are one where the kernel gave words instead of a number.
        FailureKind::Step | FailureKind::Refused => StartError::Config(failure.text),
        FailureKind::Interpreter => StartError::NoInterpreter { command: command() },
        FailureKind::Execute if failure.errno == libc::ENOENT => {
            let command = command();
            let searched = match process {
                Some(process) if !command.contains('/') => perform::search_path(process),
                _ => "",
            };
            StartError::NotFound {
                path_searched: searched.to_owned(),
                command,
            }
        }
        FailureKind::Execute => StartError::NotExecutable {
            command: command(),
            source: source(),
        },
    }
}

/// Makes a user namespace with these maps, held by the returned descriptor alone.
pub(crate) fn make_user_namespace(uids: &[IdMap], gids: &[IdMap]) -> Result<Mapping, StartError> {
    let step = "make a user namespace";
    let root_of = |maps: &[IdMap]| {
        let map = maps.iter().find(|map| map.inside == 0 && map.count > 0);
        map.map(|map| map.outside)
            .ok_or_else(|| StartError::Config("the id maps have no root".to_owned()))
    };
    let (uid, gid) = (root_of(uids)?, root_of(gids)?);
    let (caller_end, child_end) = handshake::pair().map_err(failed(step))?;
    let pid = match clone::fork().map_err(failed(step))? {
        Forked::Parent(pid) => pid,
        Forked::Child(_) => {
            let _guard = process::ExitOnDrop(2);
            drop(caller_end);
            let told = match clone::unshare(clone::CLONE_NEWUSER) {
                Ok(()) => child_end.send_ready(),
                Err(error) => child_end.send_failure(&report(step, &error)),
            };
            // Until the caller has opened the namespace, or is gone.
            let waited = told.and_then(|()| child_end.wait_for_go());
            process::exit_now(if waited.is_ok() { 0 } else { 2 })
        }
    };
    drop(child_end);
    let opened = match caller_end.receive().map_err(failed(step)) {
        Ok(Some(Message::Ready)) => map_and_open(pid, uids, gids),
        Ok(Some(Message::Failed(failure))) => Err(started_error(failure, None)),
        Ok(_) => Err(StartError::Died { killed: false }),
        Err(error) => Err(error),
    };
    drop(caller_end);
    process::reap(pid).map_err(failed(step))?;
    Ok(Mapping {
        namespace: opened?,
        uid,
        gid,
    })
}

/// Writes the maps of a process's user namespace and opens it.
fn map_and_open(pid: i32, uids: &[IdMap], gids: &[IdMap]) -> Result<OwnedFd, StartError> {
    for (file, maps) in [("uid_map", uids), ("gid_map", gids)] {
        let lines = maps
            .iter()
            .map(|map| format!("{} {} {}\n", map.inside, map.outside, map.count));
        let path = format!("/proc/{pid}/{file}");
        let flags = rustix::fs::OFlags::WRONLY | rustix::fs::OFlags::CLOEXEC;
        rustix::fs::open(path.as_str(), flags, rustix::fs::Mode::empty())
            .and_then(|map| rustix::io::write(&map, lines.collect::<String>().as_bytes()))
            .map_err(|errno| failed(&format!("write `{path}`"))(errno.into()))?;
    }
    let path = format!("/proc/{pid}/ns/user");
    let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::CLOEXEC;
    rustix::fs::open(path.as_str(), flags, rustix::fs::Mode::empty())
        .map_err(|errno| failed("open the user namespace")(errno.into()))
}

/// Takes a tree out of another container's mount namespace, which only a process inside it can.
pub(crate) fn take_tree_within(
    container: BorrowedFd<'_>,
    tree: &HostTree,
) -> Result<OwnedFd, StartError> {
    let step = format!("open `{}` of the other container", tree.path.display());
    let (caller_end, child_end) = handshake::pair().map_err(failed(&step))?;
    let pid = match clone::fork().map_err(failed(&step))? {
        Forked::Parent(pid) => pid,
        Forked::Child(_) => {
            let _guard = process::ExitOnDrop(2);
            drop(caller_end);
            let taken = process::forbid_tracing()
                .and_then(|()| clone::setns(container, clone::CLONE_NEWNS))
                .and_then(|()| {
                    mount::clone_tree(rustix::fs::CWD, Path::new(&tree.path), tree.depth)
                });
            let told = match taken {
                Ok(taken) => child_end.send_terminal(taken.as_fd()),
                Err(error) => child_end.send_failure(&report(&step, &error)),
            };
            process::exit_now(if told.is_ok() { 0 } else { 2 })
        }
    };
    drop(child_end);
    let message = caller_end.receive();
    process::reap(pid).map_err(failed(&step))?;
    match message.map_err(failed(&step))? {
        Some(Message::Terminal(taken)) => Ok(taken),
        Some(Message::Failed(failure)) => Err(started_error(failure, None)),
        Some(Message::Child(_) | Message::Warning(_) | Message::Ready) | None => {
            Err(StartError::Died { killed: false })
        }
    }
}
