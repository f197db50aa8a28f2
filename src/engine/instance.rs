//! One instance: a pair of roots, set up and named.
//!
//! ```text
//! <root>/VERSION      the format's number; a newer one is refused
//! <root>/instance     8 random hexadecimal digits: name the nft table, the links and the cgroup
//! <root>/locks/       one file a project, locked from observing to the end of applying
//! ```

use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use crate::engine::roots::Roots;
use crate::sys::atomic::{self, Durability};
use crate::sys::lock::{Lock, Mode};

/// The format this program reads and writes.
const FORMAT: &str = "1\n";

/// An instance's name: 8 hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstanceId(String);

/// Why an instance cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum InstanceError {
    /// A directory or file of the root cannot be made or read.
    #[error("set up `{}`", path.display())]
    SetUp {
        /// Which one.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Written by a later program.
    #[error("`{}` has format {found}, this program knows format 1: use a newer stack", path.display())]
    Format {
        /// The VERSION file.
        path: PathBuf,
        /// What it says.
        found: String,
    },
}

impl InstanceId {
    /// Returns the digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Makes both roots where they are missing and returns the instance's name.
pub fn open(roots: &Roots) -> Result<InstanceId, InstanceError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| InstanceError::SetUp { path, source }
    };
    for directory in [&roots.root, &roots.run, &roots.root.join("locks")] {
        make_private(directory).map_err(failed(directory))?;
    }
    let id_path = roots.root.join("instance");
    if let Some(id) = read_id(&id_path).map_err(failed(&id_path))? {
        check_format(&roots.root)?;
        return Ok(id);
    }
    let lock_path = roots.root.join("locks/.instance");
    let lock = Lock::acquire(&lock_path, Mode::Exclusive).map_err(failed(&lock_path))?;
    let made = match read_id(&id_path).map_err(failed(&id_path))? {
        Some(id) => id,
        None => create(&roots.root, &id_path).map_err(failed(&id_path))?,
    };
    drop(lock);
    check_format(&roots.root)?;
    Ok(made)
}

/// Writes the format's number, then a new name.
fn create(root: &Path, id_path: &Path) -> io::Result<InstanceId> {
    atomic::write(
        &root.join("VERSION"),
        FORMAT.as_bytes(),
        0o600,
        Durability::Synced,
    )?;
    let id = format!("{:08x}", crate::sys::random::u32()?);
    atomic::write(
        id_path,
        format!("{id}\n").as_bytes(),
        0o600,
        Durability::Synced,
    )?;
    Ok(InstanceId(id))
}

/// Returns the stored name, `None` where there is none yet.
fn read_id(path: &Path) -> io::Result<Option<InstanceId>> {
    match fs_err::read_to_string(path) {
        Ok(text) => {
            let id = text.trim();
            let hex = id.len() == 8
                && id
                    .bytes()
                    .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
            if hex {
                Ok(Some(InstanceId(id.to_owned())))
            } else {
                Err(io::ErrorKind::InvalidData.into())
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Refuses a root that a later program wrote.
fn check_format(root: &Path) -> Result<(), InstanceError> {
    let path = root.join("VERSION");
    let found = fs_err::read_to_string(&path).map_err(|source| InstanceError::SetUp {
        path: path.clone(),
        source,
    })?;
    if found == FORMAT {
        return Ok(());
    }
    Err(InstanceError::Format {
        path,
        found: found.trim().to_owned(),
    })
}

/// Makes `directory` and its parents; itself with mode 0700, so that no other user can reach the
/// setuid files of layers (`reference/runtime.md` 6, row 17).
fn make_private(directory: &Path) -> io::Result<()> {
    if directory.is_dir() {
        return Ok(());
    }
    if let Some(parent) = directory.parent() {
        fs_err::create_dir_all(parent)?;
    }
    match std::fs::DirBuilder::new().mode(0o700).create(directory) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}
