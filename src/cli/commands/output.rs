//! A file that a command writes: whole under its name, or not at all.
//!
//! ```text
//! a regular file, or nothing yet   a file without a name (O_TMPFILE), or .NAME.PID.N.tmp ─ linked, renamed ─> NAME
//! a link                           the same of what it points to: the link stays one
//! a pipe, a device                 written as it is
//! standard output or error         written where that one stands, however it is named: /dev/stdout, /proc/self/fd/1
//! ```

use std::io::{self, BufWriter, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, linkat, openat};

use super::super::context::Context;
use super::super::failure::CliError;

/// Links that are followed in a row, as many as the kernel follows.
const MAX_LINKS: usize = 40;

/// Names that are tried for a temporary file.
const MAX_NAMES: u32 = 100;

/// Who can read a file that was not there before; one that was keeps its mode and owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    /// Its owner: archives hold what containers hold (`docker save -o`).
    Owner,
    /// As the umask says.
    Umask,
}

impl Access {
    fn mode(self) -> u32 {
        match self {
            Self::Owner => 0o600,
            Self::Umask => 0o666,
        }
    }
}

/// Fails where an archive would go to a terminal, as Docker does.
pub(super) fn refuse_terminal(context: &Context, attempted: &str) -> Result<(), CliError> {
    if context.printer.out_look.terminal {
        return Err(CliError::Refused(format!(
            "cowardly refusing to {attempted} to a terminal. Use the -o flag or redirect"
        )));
    }
    Ok(())
}

/// Writes a text to `path`, relative to the command's directory.
pub(super) fn write(
    context: &Context,
    path: &Path,
    text: &str,
    access: Access,
) -> Result<(), CliError> {
    let mut output = Output::create(context, path, access)?;
    output.write_text(text)?;
    output.finish()
}

/// Takes away what an earlier command left at `path`, so that a failure leaves none; only a regular file, never a link or device.
pub(super) fn remove_stale(context: &Context, path: &Path) -> Result<(), CliError> {
    let full = context.directory.join(path);
    if !std::fs::symlink_metadata(&full).is_ok_and(|stat| stat.is_file()) {
        return Ok(());
    }
    fs_err::remove_file(&full).map_err(|source| CliError::File {
        attempted: "remove",
        path: path.to_owned(),
        source,
    })
}

/// A file under construction.
#[derive(Debug)]
pub(super) struct Output {
    file: BufWriter<fs_err::File>,
    shown: PathBuf,
    /// Where it does not stand under its name yet.
    pending: Option<Pending>,
}

/// What is to be renamed.
#[derive(Debug)]
struct Pending {
    /// Its name until then; none has no name at all, and is gone with this process.
    temporary: Option<Temporary>,
    target: PathBuf,
}

/// A path that is removed.
#[derive(Debug)]
struct Temporary(PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        match fs_err::remove_file(&self.0) {
            // Renamed; or nothing that could still be done about it.
            Ok(()) | Err(_) => {}
        }
    }
}

impl Output {
    /// Opens what will be `path`, relative to the command's directory.
    pub(super) fn create(context: &Context, path: &Path, access: Access) -> Result<Self, CliError> {
        let opened = open(&context.directory.join(path), access);
        let (file, pending) = opened.map_err(|source| CliError::File {
            attempted: "write",
            path: path.to_owned(),
            source,
        })?;
        Ok(Self {
            file: BufWriter::with_capacity(1 << 20, file),
            shown: path.to_owned(),
            pending,
        })
    }

    /// Returns where the content goes.
    pub(super) fn writer(&mut self) -> &mut impl Write {
        &mut self.file
    }

    fn write_text(&mut self, text: &str) -> Result<(), CliError> {
        let written = self.file.write_all(text.as_bytes());
        written.map_err(|source| self.failed(source))
    }

    /// Gives it its name.
    pub(super) fn finish(mut self) -> Result<(), CliError> {
        let done = self.file.flush().and_then(|()| match &self.pending {
            Some(pending) => pending.take_place(self.file.get_ref()),
            None => Ok(()),
        });
        done.map_err(|source| self.failed(source))
    }

    fn failed(&self, source: io::Error) -> CliError {
        CliError::File {
            attempted: "write",
            path: self.shown.clone(),
            source,
        }
    }
}

impl Pending {
    fn take_place(&self, file: &fs_err::File) -> io::Result<()> {
        if let Some(temporary) = &self.temporary {
            return fs_err::rename(&temporary.0, &self.target);
        }
        let own = format!("/proc/self/fd/{}", file.as_raw_fd());
        let temporary = named(&self.target, |name| {
            Ok(linkat(
                CWD,
                own.as_str(),
                CWD,
                name,
                AtFlags::SYMLINK_FOLLOW,
            )?)
        })?;
        let ((), temporary) = temporary;
        fs_err::rename(&temporary.0, &self.target)
    }
}

/// Opens what is to be written, and says what remains to be done for its name.
fn open(path: &Path, access: Access) -> io::Result<(fs_err::File, Option<Pending>)> {
    let target = match resolve(path)? {
        Place::Standard(fd) => {
            return Ok((fs_err::File::from_parts(fd.into(), path.to_owned()), None));
        }
        Place::Descriptor(link) => {
            let file = fs_err::OpenOptions::new().append(true).open(link)?;
            return Ok((file, None));
        }
        Place::Path(target) => target,
    };
    let there = match std::fs::metadata(&target) {
        Ok(there) => Some(there),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    if there.as_ref().is_some_and(|stat| !stat.is_file()) {
        let file = fs_err::OpenOptions::new().write(true).open(&target)?;
        return Ok((file, None));
    }
    let (file, temporary) = if let Some(file) = unnamed(&target, access)? {
        (file, None)
    } else {
        let (file, temporary) = named(&target, |name| {
            let mut options = fs_err::OpenOptions::new();
            options.write(true).create_new(true);
            options.options_mut().mode(access.mode());
            options.open(name)
        })?;
        (file, Some(temporary))
    };
    if let Some(there) = there {
        keep_access(&file, &there)?;
    }
    Ok((file, Some(Pending { temporary, target })))
}

/// Gives the new file the owner and mode of the one that it replaces.
fn keep_access(file: &fs_err::File, there: &std::fs::Metadata) -> io::Result<()> {
    let own = file.metadata()?;
    if (own.uid(), own.gid()) != (there.uid(), there.gid()) {
        std::os::unix::fs::fchown(file, Some(there.uid()), Some(there.gid()))?;
    }
    let mode = there.permissions().mode() & 0o777;
    file.set_permissions(std::fs::Permissions::from_mode(mode))
}

/// What a path leads to.
enum Place {
    /// A descriptor that this process was started with.
    Standard(OwnedFd),
    /// The link of another descriptor: what is behind it need not have a path (`-o >(cat)`).
    Descriptor(PathBuf),
    /// No link, and perhaps nothing yet.
    Path(PathBuf),
}

/// Follows links, also one that points to nothing yet.
fn resolve(path: &Path) -> io::Result<Place> {
    let mut path = path.to_owned();
    for _ in 0..MAX_LINKS {
        if let Some(fd) = standard(&path)? {
            return Ok(Place::Standard(fd));
        }
        match std::fs::read_link(&path) {
            Ok(_) if path.starts_with("/proc") || path.starts_with("/dev/fd") => {
                return Ok(Place::Descriptor(path));
            }
            Ok(next) => path = path.parent().unwrap_or(Path::new("/")).join(next),
            Err(_) => return Ok(Place::Path(path)),
        }
    }
    Err(rustix::io::Errno::LOOP.into())
}

/// Returns standard output or error where `path` is it.
///
/// Opened again, a regular file would be written from its beginning, by two who do not know of each other.
fn standard(path: &Path) -> io::Result<Option<OwnedFd>> {
    let number = ["/proc/self/fd", "/dev/fd"]
        .iter()
        .find_map(|directory| path.strip_prefix(directory).ok());
    let fd = match number.and_then(Path::to_str) {
        Some("1") => io::stdout().as_fd().try_clone_to_owned()?,
        Some("2") => io::stderr().as_fd().try_clone_to_owned()?,
        _ => return Ok(None),
    };
    Ok(Some(fd))
}

/// Makes a file without a name in the directory of `target`; `None` where the file system has no such files.
fn unnamed(target: &Path, access: Access) -> io::Result<Option<fs_err::File>> {
    let directory = target.parent().unwrap_or(Path::new("/"));
    let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
    match openat(CWD, directory, flags, Mode::from_raw_mode(access.mode())) {
        Ok(fd) => Ok(Some(fs_err::File::from_parts(fd.into(), target))),
        Err(errno) if [rustix::io::Errno::OPNOTSUPP, rustix::io::Errno::ISDIR].contains(&errno) => {
            Ok(None)
        }
        Err(errno) => Err(errno.into()),
    }
}

/// Makes something under a name beside `target` that nothing else has.
fn named<T>(
    target: &Path,
    mut make: impl FnMut(&Path) -> io::Result<T>,
) -> io::Result<(T, Temporary)> {
    let invalid = || io::Error::from(io::ErrorKind::InvalidInput);
    let name = target.file_name().ok_or_else(invalid)?.to_string_lossy();
    let id = std::process::id();
    for number in 0..MAX_NAMES {
        let path = target.with_file_name(format!(".{name}.{id}.{number}.tmp"));
        match make(&path) {
            Ok(made) => return Ok((made, Temporary(path))),
            // The remains of a killed process, or another's on purpose.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}
