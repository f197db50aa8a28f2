//! What `/proc` tells: which boot this is, whether a process is still the same one, who holds a lock.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::FlockOperation;
use rustix::process::{Flock, FlockOffsetType, FlockType, Pid, PidfdFlags};

/// Returns the random id of this boot.
pub fn boot_id() -> io::Result<String> {
    let text = fs_err::read_to_string("/proc/sys/kernel/random/boot_id")?;
    Ok(text.trim_end().to_owned())
}

/// Returns when `pid` started, in clock ticks since boot; `None` if there is no such process, or only its zombie.
pub fn start_time(pid: i32) -> io::Result<Option<u64>> {
    match fs_err::read_to_string(format!("/proc/{pid}/stat")) {
        Ok(text) => Ok(parse_start_time(&text)),
        Err(error) if is_gone(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Tells whether `pid` is the process that started at `start_time`, and has not ended.
pub fn is_alive(pid: i32, started: u64) -> bool {
    matches!(start_time(pid), Ok(Some(time)) if time == started)
}

/// Opens the process that has `pid` and started at `started`; `None` if it has ended.
pub fn open_process(pid: i32, started: u64) -> io::Result<Option<OwnedFd>> {
    let Some(number) = Pid::from_raw(pid) else {
        return Ok(None);
    };
    let pidfd = match rustix::process::pidfd_open(number, PidfdFlags::empty()) {
        Ok(pidfd) => pidfd,
        Err(rustix::io::Errno::SRCH | rustix::io::Errno::INVAL) => return Ok(None),
        Err(errno) => return Err(errno.into()),
    };
    // Looked at after the open: if the number was given to another process, that one started later.
    Ok(is_alive(pid, started).then_some(pidfd))
}

/// Holds a lock that [`lock_holder`] sees, until this process ends. Children do not inherit it.
///
/// A POSIX record lock: it is lost as soon as this process closes *any* descriptor of the file. `None` if another process
/// holds it.
pub fn hold_lock(path: &Path) -> io::Result<Option<fs_err::File>> {
    let mut options = fs_err::OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    options
        .options_mut()
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW);
    let file = options.open(path)?;
    match rustix::fs::fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(file)),
        Err(rustix::io::Errno::AGAIN | rustix::io::Errno::ACCESS) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

/// Returns the process that holds the lock on `path`; `None` where nobody does or there is no such file.
pub fn lock_holder(path: &Path) -> io::Result<Option<i32>> {
    let mut options = fs_err::OpenOptions::new();
    options.read(true).write(true);
    options.options_mut().custom_flags(libc::O_NOFOLLOW);
    let file = match options.open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let asked = Flock {
        start: 0,
        length: 0,
        pid: None,
        typ: FlockType::WriteLock,
        offset_type: FlockOffsetType::Set,
    };
    let holder = rustix::process::fcntl_getlk(&file, &asked)?;
    // A holder outside this pid namespace has no number here.
    Ok(holder.map(|lock| lock.pid.map_or(0, |pid| pid.as_raw_nonzero().get())))
}

/// Tells whether the error means that the process has ended.
fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(libc::ESRCH)
}

/// Takes field 22 of a line of `/proc/PID/stat`, unless field 3 says zombie or dead. The name in field 2 may hold anything.
fn parse_start_time(text: &str) -> Option<u64> {
    let (_, after_name) = text.rsplit_once(") ")?;
    let mut fields = after_name.split_ascii_whitespace();
    let state = fields.next()?;
    (!matches!(state, "Z" | "X" | "x")).then_some(())?;
    fields.nth(18)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_start_time_is_found_behind_any_name() {
        let rest = "1 1 1 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 123456 8 9";
        let cases = [
            (format!("7 (sh) S {rest}"), Some(123_456)),
            (format!("7 (a) S 1 (b) R {rest}"), Some(123_456)),
            (format!("7 (sh) Z {rest}"), None),
            ("7 (sh".to_owned(), None),
            (String::new(), None),
        ];
        for (text, expected) in cases {
            assert_eq!(parse_start_time(&text), expected, "{text}");
        }
    }

    #[test]
    fn this_process_is_alive_and_another_start_is_not_it() {
        let pid = i32::try_from(std::process::id()).unwrap();
        let started = start_time(pid).unwrap().unwrap();
        assert!(is_alive(pid, started));
        assert!(!is_alive(pid, started + 1));
        assert!(open_process(pid, started).unwrap().is_some());
        assert!(open_process(pid, started + 1).unwrap().is_none());
    }
}
