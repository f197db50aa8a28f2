//! What is remembered of entries until the archive ends, by true paths. All of it together is bounded: an archive of a few bytes
//! can say a great deal.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::super::error::UnpackError;

/// Bytes of all notes.
const MAX_BYTES: usize = 16 << 20;
/// What a note takes beside its texts.
const EACH: usize = 64;

#[derive(Debug, Default)]
pub(super) struct Notes {
    /// Directories that no entry describes.
    implied: BTreeSet<PathBuf>,
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
        self.implied.insert(path);
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
        let from = || path.to_owned()..;
        for known in within(self.implied.range(from()), path) {
            self.implied.remove(&known);
        }
        for known in within(self.links.range(from()).map(|(known, _)| known), path) {
            self.links.remove(&known);
        }
        for known in within(self.acls.range(from()).map(|(known, _)| known), path) {
            self.acls.remove(&known);
        }
    }

    pub(super) fn acls(&self) -> impl Iterator<Item = (&PathBuf, &Vec<u8>)> {
        self.acls.iter()
    }

    /// Returns the implied directories and the links to below.
    pub(super) fn into_parts(self) -> (Vec<PathBuf>, Vec<(PathBuf, PathBuf)>) {
        (
            self.implied.into_iter().collect(),
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

/// Returns `path` and what is below it, of the paths behind it. They stand together there: an archive that makes and replaces
/// directories without end must not have all notes gone through each time.
fn within<'a>(behind: impl Iterator<Item = &'a PathBuf>, path: &Path) -> Vec<PathBuf> {
    let within = behind.take_while(|known| known.starts_with(path));
    within.cloned().collect()
}
