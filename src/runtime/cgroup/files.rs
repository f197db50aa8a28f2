//! The directories and files of a hierarchy.

use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;

use crate::runtime::cgroup::{CgroupError, Placed, Version};

/// v2 controllers that are enabled for containers, where the host has them.
const ENABLED: [&str; 5] = ["cpu", "cpuset", "io", "memory", "pids"];

/// Longest wait for the last process to go, in seconds: SIGKILL takes as long as the slowest device.
const EMPTY_TIMEOUT_S: i64 = 10;

/// Makes a group's directory and those above it, with what they need to be entered: also where somebody else has made them, who
/// may not have come to that yet, or never will.
pub(super) fn make_directory(placed: &Placed) -> Result<(), CgroupError> {
    let Some(top) = placed.directory.parent() else {
        return Err(CgroupError::NotMounted);
    };
    let hierarchy = &placed.hierarchy;
    make_one(top)?;
    if hierarchy.version == Version::V2 {
        enable_controllers(&hierarchy.mount, top, &hierarchy.controllers)?;
    }
    make_one(&placed.directory)?;
    let cpuset = hierarchy.controllers.iter().any(|own| own == "cpuset");
    if hierarchy.version == Version::V1 && cpuset {
        fill_cpusets(top, &placed.directory)?;
    }
    Ok(())
}

/// Makes one directory; one that is there is fine.
fn make_one(directory: &Path) -> Result<(), CgroupError> {
    match rustix::fs::mkdir(directory, rustix::fs::Mode::from_raw_mode(0o755)) {
        Ok(()) | Err(rustix::io::Errno::EXIST) => Ok(()),
        Err(errno) => Err(failed("make", directory)(errno.into())),
    }
}

/// Lets the groups below `top`, which is in `mount`, use the controllers that the host has.
fn enable_controllers(mount: &Path, top: &Path, available: &[String]) -> Result<(), CgroupError> {
    let mut wanted = ENABLED.to_vec();
    wanted.retain(|name| available.iter().any(|own| own == name));
    if wanted.is_empty() {
        return Ok(());
    }
    // What is enabled there is enabled above it.
    let enabled = read(&top.join("cgroup.subtree_control"))?;
    let has = |name: &&str| enabled.split_whitespace().any(|own| own == *name);
    if wanted.iter().all(has) {
        return Ok(());
    }
    let words: Vec<String> = wanted.iter().map(|name| format!("+{name}")).collect();
    for directory in [mount, top] {
        write(&directory.join("cgroup.subtree_control"), &words.join(" "))?;
    }
    Ok(())
}

/// Gives the cpuset `directory` and `top`, in which it is, what the one above has. A new one has no CPU and no memory, and takes
/// no process (ENOSPC).
fn fill_cpusets(top: &Path, directory: &Path) -> Result<(), CgroupError> {
    // What is written last.
    if !read(&directory.join("cpuset.mems"))?.trim().is_empty() {
        return Ok(());
    }
    fill_cpuset(top)?;
    fill_cpuset(directory)
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

/// How often a freezer is read before it is given up: seconds.
const FREEZER_READINGS: u32 = 1_000_000;

/// Waits for `populated 0` in `cgroup.events`.
pub(super) fn wait_until_unpopulated(directory: &Path) -> Result<(), CgroupError> {
    wait_until(directory, "populated 0")
}

/// Waits for a line in `cgroup.events`, whose changes are `POLLPRI`.
pub(super) fn wait_until(directory: &Path, wanted: &str) -> Result<(), CgroupError> {
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
            Ok(_) if text.lines().any(|line| line == wanted) => return Ok(()),
            Ok(_) => {}
            // Somebody else has removed it.
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => return Ok(()),
            Err(error) => return Err(failed("read", &path)(error)),
        }
        wait_for(file.file().as_fd(), PollFlags::PRI, directory)?;
    }
}

/// Waits for `FROZEN` in a `freezer.state`, which has no event to wait for; the kernel itself goes on with each reading.
pub(super) fn wait_until_frozen(path: &Path) -> Result<(), CgroupError> {
    for _ in 0..FREEZER_READINGS {
        match read(path) {
            Ok(state) if state.trim() == "FREEZING" => std::thread::yield_now(),
            Ok(_) => return Ok(()),
            Err(error) => return absent_is_fine(Err(error)),
        }
    }
    Err(CgroupError::Busy {
        path: path.to_owned(),
    })
}

/// Waits for an event, not for ever.
pub(super) fn wait_for(
    fd: BorrowedFd<'_>,
    event: PollFlags,
    path: &Path,
) -> Result<(), CgroupError> {
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
pub(super) fn remove_tree(directory: &Path) -> Result<(), CgroupError> {
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
pub(super) fn list_tree(directory: &Path, pids: &mut Vec<i32>) -> Result<(), CgroupError> {
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
pub(super) fn read(path: &Path) -> Result<String, CgroupError> {
    fs_err::read_to_string(path).map_err(failed("read", path))
}

/// Writes a value in one call, as the kernel wants it.
pub(super) fn write(path: &Path, value: &str) -> Result<(), CgroupError> {
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
pub(super) fn absent_is_fine(result: Result<(), CgroupError>) -> Result<(), CgroupError> {
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
pub(super) fn failed<'a>(
    action: &'a str,
    path: &'a Path,
) -> impl Fn(io::Error) -> CgroupError + use<'a> {
    move |source| CgroupError::File {
        action: action.to_owned(),
        path: path.to_owned(),
        source,
    }
}
