//! The build cache: what a step made last time.
//!
//! ```text
//! <root>/cache/steps/<key, 64 hex>     stack step 1\n <diff id of the layer>\n <when it was made, RFC 3339>\n
//! <root>/cache/files/<32 hex>          file-hash indexes: see [`super::context`]
//! ```
//!
//! A key is the SHA-256 of the layers below (their diff ids, so that equal content is equal whatever made it) and of
//! all that goes into the step: see [`Key`]. An entry counts only while its layer is in the store. Nothing here is ever synced or locked:
//! entries are replaced whole, and a lost one costs a step.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::super::reference::Digest;
use super::context::{hash_part, hex};
use crate::sys::atomic::{self, Durability};

/// First line of an entry, and first part of every key: a new meaning of keys takes a new number.
const FORMAT: &str = "stack step 1";

/// A key under construction.
#[derive(Debug, Clone)]
pub struct Key(Sha256);

impl Key {
    /// Starts the key of a step of the given kind above `layers` (bottom first).
    pub fn new(kind: &str, layers: &[Digest]) -> Self {
        let mut hash = Sha256::new();
        hash_part(&mut hash, FORMAT.as_bytes());
        hash_part(&mut hash, kind.as_bytes());
        hash.update((layers.len() as u64).to_le_bytes());
        for layer in layers {
            hash_part(&mut hash, layer.hex().as_bytes());
        }
        Self(hash)
    }

    /// Adds a value.
    #[must_use]
    pub fn with(mut self, value: &str) -> Self {
        hash_part(&mut self.0, value.as_bytes());
        self
    }

    /// Adds values, and how many they are.
    #[must_use]
    pub fn with_all<T: AsRef<str>>(mut self, values: &[T]) -> Self {
        self.0.update((values.len() as u64).to_le_bytes());
        for value in values {
            hash_part(&mut self.0, value.as_ref().as_bytes());
        }
        self
    }

    /// Gives the hash for adding files.
    pub fn hash(&mut self) -> &mut Sha256 {
        &mut self.0
    }

    /// Returns the finished key.
    pub fn finish(self) -> String {
        hex(&self.0.finalize())
    }
}

/// What a step made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Made {
    /// The diff id of its layer.
    pub layer: Digest,
    /// When, RFC 3339.
    pub created: String,
}

/// The entries of one root.
#[derive(Debug)]
pub struct Cache {
    /// `<root>/cache`
    directory: PathBuf,
}

impl Cache {
    /// Returns the cache below `root`.
    pub fn below(root: &Path) -> Self {
        Self {
            directory: root.join("cache"),
        }
    }

    /// Returns the directory of file-hash indexes.
    pub fn files(&self) -> PathBuf {
        self.directory.join("files")
    }

    /// Returns what the step of that key made; `None` also for an entry that cannot be read as one.
    pub fn get(&self, key: &str) -> io::Result<Option<Made>> {
        match fs_err::read_to_string(self.entry(key)) {
            Ok(text) => Ok(parse_entry(&text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Remembers what the step of that key made.
    pub fn put(&self, key: &str, made: &Made) -> io::Result<()> {
        let path = self.entry(key);
        if let Some(directory) = path.parent() {
            fs_err::create_dir_all(directory)?;
        }
        let text = format!("{FORMAT}\n{}\n{}\n", made.layer, made.created);
        atomic::write(&path, text.as_bytes(), 0o600, Durability::Cached)
    }

    /// Returns the layers that steps made last time, for garbage collection.
    pub fn layers(&self) -> io::Result<BTreeSet<Digest>> {
        let mut layers = BTreeSet::new();
        for entry in self.entries()? {
            let made = self.get(&entry?.file_name().to_string_lossy())?;
            layers.extend(made.map(|made| made.layer));
        }
        Ok(layers)
    }

    /// Forgets what steps made.
    pub fn clear(&self) -> io::Result<()> {
        for entry in self.entries()? {
            match fs_err::remove_file(entry?.path()) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    fn entries(&self) -> io::Result<impl Iterator<Item = io::Result<fs_err::DirEntry>>> {
        let found = match fs_err::read_dir(self.directory.join("steps")) {
            Ok(entries) => Some(entries),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        Ok(found.into_iter().flatten())
    }

    /// Returns where an entry is.
    fn entry(&self, key: &str) -> PathBuf {
        self.directory.join("steps").join(key)
    }
}

/// Reads an entry.
fn parse_entry(text: &str) -> Option<Made> {
    let mut lines = text.lines();
    if lines.next() != Some(FORMAT) {
        return None;
    }
    Some(Made {
        layer: Digest::parse(lines.next()?).ok()?,
        created: lines.next()?.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_come_back_and_damage_is_a_miss() {
        let temp = tempfile::tempdir().unwrap();
        let cache = Cache::below(temp.path());
        let made = Made {
            layer: Digest::of(b"x"),
            created: "2026-01-02T03:04:05Z".to_owned(),
        };
        let key = Key::new("run", &[]).finish();
        assert_eq!(cache.get(&key).unwrap(), None);
        cache.put(&key, &made).unwrap();
        assert_eq!(cache.get(&key).unwrap(), Some(made));
        for damaged in [&b"stack step 1\nsha2"[..], b"", b"\xff\xfe"] {
            atomic::write(&cache.entry(&key), damaged, 0o600, Durability::Cached).unwrap();
            assert_eq!(cache.get(&key).unwrap(), None);
        }
    }

    #[test]
    fn parts_of_keys_cannot_be_mistaken_for_each_other() {
        let layer = [Digest::of(b"x")];
        let keys = [
            Key::new("run", &[]).with("ab").with("c").finish(),
            Key::new("run", &[]).with("a").with("bc").finish(),
            Key::new("run", &layer).with("ab").with("c").finish(),
            Key::new("run", &[]).with_all(&["ab", "c"]).finish(),
            Key::new("copy", &[]).with("ab").with("c").finish(),
        ];
        let distinct: BTreeSet<_> = keys.iter().collect();
        assert_eq!(distinct.len(), keys.len());
    }
}
