//! What is remembered of entries until the archive ends, by true paths. All of it together is bounded: an archive of a few bytes
//! can say a great deal.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::super::error::UnpackError;

/// Bytes of all notes.
const MAX_BYTES: usize = 16 << 20;
/// What a note takes beside its texts.
const EACH: usize = 64;

#[derive(Debug, Default)]
pub(super) struct Notes {
    /// Directories that no entry describes.
    implied: BTreeMap<PathBuf, ()>,
    /// Hard links that the layers below have to give: link to target.
    links: BTreeMap<PathBuf, PathBuf>,
    /// Default ACLs of directories, which everything made in them would get, too.
    acls: BTreeMap<PathBuf, Vec<u8>>,
    bytes: usize,
}

impl Notes {
    /// A directory that an entry is in, and that none describes so far.
    pub(super) fn implied(&mut self, path: PathBuf) -> Result<(), UnpackError> {
        self.take(path.as_os_str().len())?;
        self.implied.insert(path, ());
        Ok(())
    }

    /// Described by an entry after all.
    pub(super) fn described(&mut self, path: &Path) {
        self.implied.remove(path);
        self.acls.remove(path);
    }

    /// A hard link to what the layer lacks: nothing is at `link`.
    pub(super) fn link(&mut self, link: PathBuf, target: PathBuf) -> Result<(), UnpackError> {
        self.take(link.as_os_str().len() + target.as_os_str().len())?;
        self.links.insert(link, target);
        Ok(())
    }

    /// Returns what a link to below links to.
    pub(super) fn target_of(&self, link: &Path) -> Option<&PathBuf> {
        self.links.get(link)
    }

    /// Whether a link to below is to be there.
    pub(super) fn is_link(&self, path: &Path) -> bool {
        self.links.contains_key(path)
    }

    /// Something of the layer's own is at `path` now.
    pub(super) fn made(&mut self, path: &Path) {
        self.links.remove(path);
    }

    /// The default ACL of a directory, for the end.
    pub(super) fn acl(&mut self, path: &Path, acl: &[u8]) -> Result<(), UnpackError> {
        self.take(path.as_os_str().len() + acl.len())?;
        self.acls.insert(path.to_owned(), acl.to_owned());
        Ok(())
    }

    /// The directory `path` is gone with all in it.
    pub(super) fn gone(&mut self, path: &Path) {
        forget(&mut self.implied, path);
        forget(&mut self.links, path);
        forget(&mut self.acls, path);
    }

    pub(super) fn acls(&self) -> impl Iterator<Item = (&PathBuf, &Vec<u8>)> {
        self.acls.iter()
    }

    /// Returns the implied directories and the links to below.
    pub(super) fn into_parts(self) -> (Vec<PathBuf>, Vec<(PathBuf, PathBuf)>) {
        (
            self.implied.into_keys().collect(),
            self.links.into_iter().collect(),
        )
    }

    fn take(&mut self, bytes: usize) -> Result<(), UnpackError> {
        self.bytes += bytes + EACH;
        if self.bytes <= MAX_BYTES {
            return Ok(());
        }
        Err(UnpackError::Limit {
            limit: MAX_BYTES as u64,
            unit: "bytes of paths that are left to the layers below",
        })
    }
}

/// Forgets `path` and what is below. Such paths stand together, right behind it: an archive that makes and replaces directories
/// without end must not have all notes gone through each time.
fn forget<T>(notes: &mut BTreeMap<PathBuf, T>, path: &Path) {
    let within = notes.range(path.to_owned()..).map(|(known, _)| known);
    let within: Vec<PathBuf> = within
        .take_while(|known| known.starts_with(path))
        .cloned()
        .collect();
    for known in within {
        notes.remove(&known);
    }
}
