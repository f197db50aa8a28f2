//! Files that are either the old one or the new one, never half of either.
//!
//! A record is written under a temporary name beside its own (`.NAME.PID.N.tmp`) and renamed over it. With
//! [`Durability::Synced`] the content reaches the disk before the rename, and the rename before the return.

use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// Whether a write must survive a loss of power.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// `fsync` of the file, then of its directory.
    Synced,
    /// The page cache is enough: the caller syncs the file system once, or the file means nothing after a boot.
    Cached,
}

/// Replaces `path` by `bytes` with permission bits `mode`.
///
/// Errors: the temporary file cannot be made, written, synced or renamed; nothing is left behind then.
pub fn write(path: &Path, bytes: &[u8], mode: u32, durability: Durability) -> io::Result<()> {
    let temporary = temporary_beside(path)?;
    let written = write_new(&temporary, bytes, mode, durability)
        .and_then(|()| fs_err::rename(&temporary, path));
    if let Err(error) = written {
        return Err(match fs_err::remove_file(&temporary) {
            Err(left) if left.kind() != io::ErrorKind::NotFound => {
                io::Error::other(format!("{error}; and then: {left}"))
            }
            _ => error,
        });
    }
    match durability {
        Durability::Synced => sync_directory(path.parent().unwrap_or(Path::new("/"))),
        Durability::Cached => Ok(()),
    }
}

/// Makes the entries of `directory` durable.
pub fn sync_directory(directory: &Path) -> io::Result<()> {
    fs_err::File::open(directory)?.sync_all()
}

/// Returns a name beside `path` that no other write of this or another process uses.
fn temporary_beside(path: &Path) -> io::Result<PathBuf> {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let name = path
        .file_name()
        .ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
    let number = COUNTER.fetch_add(1, Ordering::Relaxed);
    let temporary = format!(
        ".{}.{}.{number}.tmp",
        name.to_string_lossy(),
        std::process::id()
    );
    Ok(path.with_file_name(temporary))
}

/// Creates `path` with `bytes`. What is there is the remains of a killed process of the same id, or was put there to be written through.
fn write_new(path: &Path, bytes: &[u8], mode: u32, durability: Durability) -> io::Result<()> {
    let mut options = fs_err::OpenOptions::new();
    options.write(true).create_new(true);
    options.options_mut().mode(mode);
    let mut file = match options.open(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            fs_err::remove_file(path)?;
            options.open(path)?
        }
        opened => opened?,
    };
    file.write_all(bytes)?;
    match durability {
        Durability::Synced => file.sync_all(),
        Durability::Cached => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn replaces_the_whole_file_with_its_mode_and_leaves_no_temporary() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("record.json");
        write(&path, b"a longer first text", 0o644, Durability::Cached).unwrap();
        write(&path, b"second", 0o600, Durability::Synced).unwrap();
        let mode = fs_err::metadata(&path).unwrap().permissions().mode() & 0o7777;
        let names: Vec<_> = fs_err::read_dir(directory.path())
            .unwrap()
            .map(|e| e.unwrap().file_name())
            .collect();
        assert_eq!(
            (fs_err::read(&path).unwrap(), mode, names),
            (b"second".to_vec(), 0o600, vec!["record.json".into()])
        );
    }

    #[test]
    fn a_failed_write_leaves_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("taken");
        fs_err::create_dir(&path).unwrap();
        write(&path, b"x", 0o600, Durability::Cached).unwrap_err();
        assert_eq!(fs_err::read_dir(directory.path()).unwrap().count(), 1);
    }
}
