//! The build cache: what a step made last time.
//!
//! ```text
//! <root>/cache/steps/<key, 64 hex>     stack step 2\n <diff id of the layer>\n <when it was made, RFC 3339>\n [<another key of it>\n]
//! <root>/cache/why/<64 hex>            what steps were last done with: see [`super::explain`]
//! <root>/cache/mounts/                   what `RUN --mount=type=cache` shows: see [`super::caches`]
//! <root>/cache/files/<32 hex>          file-hash indexes: see [`super::context`]
//! <root>/cache/urls/<64 hex>           what URLs held
//! <root>/cache/.budget                 its time says when all of it was last looked through
//! ```
//!
//! A key is the SHA-256 of the layers below (their diff ids, so that equal content is equal whatever made it) and of
//! all that goes into the step: see [`Key`]. A file's time is that of its last use, by the day; what is old goes: see [`super::budget`]. An entry counts only while its layer is in the store. Nothing here is ever synced or locked:
//! entries are replaced whole, and a lost one costs a step.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::super::reference::Digest;
use super::context::{Hash, hash_part, hex};
use crate::sys::atomic::{self, Durability};

/// First line of an entry, and first part of every key: a new meaning of keys takes a new number.
const FORMAT: &str = "stack step 2";

/// A key under construction.
#[derive(Debug, Clone)]
pub struct Key {
    hash: Sha256,
    parts: Vec<Part>,
}

/// One part of a key, for saying what is different: see [`super::explain`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// What it is, in words: `command`, `the environment`.
    pub name: &'static str,
    /// What it was, or a digest of that.
    pub value: String,
}

impl Key {
    /// Starts the key of a step of the given kind above `layers` (bottom first).
    pub fn new(kind: &'static str, layers: &[Digest]) -> Self {
        let mut hash = Sha256::new();
        hash_part(&mut hash, FORMAT.as_bytes());
        let hexes: Vec<&str> = layers.iter().map(Digest::hex).collect();
        let key = Self {
            hash,
            parts: Vec::new(),
        };
        key.with("kind of the step", kind)
            .with_all("layers below", &hexes)
    }

    /// Adds a value.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: &str) -> Self {
        hash_part(&mut self.hash, value.as_bytes());
        self.parts.push(Part {
            name,
            value: value.to_owned(),
        });
        self
    }

    /// Adds values, and how many they are.
    #[must_use]
    pub fn with_all<T: AsRef<str>>(mut self, name: &'static str, values: &[T]) -> Self {
        self.hash.update((values.len() as u64).to_le_bytes());
        let mut shown = String::new();
        for value in values {
            hash_part(&mut self.hash, value.as_ref().as_bytes());
            shown.push_str(value.as_ref());
            shown.push('\n');
        }
        self.parts.push(Part { name, value: shown });
        self
    }

    /// Adds a digest: of files, as a rule.
    #[must_use]
    pub fn with_digest(mut self, name: &'static str, digest: Hash) -> Self {
        self.hash.update(digest);
        self.parts.push(Part {
            name,
            value: hex(&digest),
        });
        self
    }

    /// Returns the finished key.
    pub fn finish(self) -> FinishedKey {
        FinishedKey {
            hex: hex(&self.hash.finalize()),
            parts: self.parts,
        }
    }
}

/// A key with all its parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FinishedKey {
    /// 64 hexadecimal digits.
    pub hex: String,
    /// In the order they were added.
    pub parts: Vec<Part>,
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
#[derive(Debug, Clone)]
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

    /// Returns the directory of what URLs held.
    pub fn urls(&self) -> PathBuf {
        self.directory.join("urls")
    }

    /// Returns the directory of cache mounts: see [`super::caches`].
    pub fn mounts(&self) -> PathBuf {
        self.directory.join("mounts")
    }

    /// Returns the directory of what steps were last done with.
    pub fn reasons(&self) -> PathBuf {
        self.directory.join("why")
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
        self.put_with(key, made, "")
    }

    /// The same, where the step has another key too, which says more.
    pub fn put_alias(&self, key: &str, made: &Made, other: &str) -> io::Result<()> {
        self.put_with(key, made, &format!("{other}\n"))
    }

    /// Returns the other key of a step, if it has one.
    pub fn other_key(&self, key: &str) -> Option<String> {
        let text = fs_err::read_to_string(self.entry(key)).ok()?;
        text.lines().nth(3).map(str::to_owned)
    }

    fn put_with(&self, key: &str, made: &Made, rest: &str) -> io::Result<()> {
        let path = self.entry(key);
        if let Some(directory) = path.parent() {
            fs_err::create_dir_all(directory)?;
        }
        let text = format!("{FORMAT}\n{}\n{}\n{rest}", made.layer, made.created);
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

    /// Returns the directories of what is worth only the time to find it out again.
    pub(super) fn notes(&self) -> [PathBuf; 3] {
        [self.files(), self.urls(), self.reasons()]
    }

    /// Returns the file that says when the budget was last looked at.
    pub(super) fn budget_stamp(&self) -> PathBuf {
        self.directory.join(".budget")
    }

    /// Returns keys and layers of steps, and when each was last used, nanoseconds since 1970.
    pub(super) fn used(&self) -> io::Result<Vec<(String, Digest, i128)>> {
        let mut used = Vec::new();
        for entry in self.entries()? {
            let entry = entry?;
            let key = entry.file_name().to_string_lossy().into_owned();
            if let Some(made) = self.get(&key)? {
                // It may be gone by now.
                if let Ok(used_ns) = modified_ns(&entry.path()) {
                    used.push((key, made.layer, used_ns));
                }
            }
        }
        Ok(used)
    }

    /// Notes that a step was taken from the cache.
    pub(super) fn note_use(&self, key: &str, now: jiff::Timestamp) {
        super::budget::note_use(&self.entry(key), now);
    }

    /// Forgets what a step made.
    pub(super) fn remove(&self, key: &str) -> io::Result<()> {
        remove_file(&self.entry(key))
    }

    /// Forgets what was last used before a time, nanoseconds since 1970, but cache mounts; also what cannot be read.
    pub fn clear(&self, before_ns: i128) -> io::Result<()> {
        for entry in self.entries()? {
            let entry = entry?;
            let known = self.get(&entry.file_name().to_string_lossy())?;
            if known.is_none() || modified_ns(&entry.path()).is_ok_and(|at| at < before_ns) {
                remove_file(&entry.path())?;
            }
        }
        let notes = self.notes();
        notes
            .iter()
            .try_for_each(|directory| Self::clear_files(directory, before_ns))
    }

    /// Removes the files of one of its directories that were last used before a time.
    pub(super) fn clear_files(directory: &Path, before_ns: i128) -> io::Result<()> {
        for entry in entries_of(directory)? {
            let path = entry?.path();
            if modified_ns(&path).is_ok_and(|at| at < before_ns) {
                remove_file(&path)?;
            }
        }
        Ok(())
    }

    fn entries(&self) -> io::Result<impl Iterator<Item = io::Result<fs_err::DirEntry>>> {
        entries_of(&self.directory.join("steps"))
    }

    /// Returns where an entry is.
    fn entry(&self, key: &str) -> PathBuf {
        self.directory.join("steps").join(key)
    }
}

/// Lists a directory; one that is not there has nothing.
fn entries_of(
    directory: &Path,
) -> io::Result<impl Iterator<Item = io::Result<fs_err::DirEntry>> + use<>> {
    let found = match fs_err::read_dir(directory) {
        Ok(entries) => Some(entries),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    Ok(found.into_iter().flatten())
}

/// Removes a file that may be gone already.
fn remove_file(path: &Path) -> io::Result<()> {
    match fs_err::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Returns when a file was last used, nanoseconds since 1970.
pub(super) fn modified_ns(path: &Path) -> io::Result<i128> {
    let modified = fs_err::metadata(path)?.modified()?;
    let at = jiff::Timestamp::try_from(modified).map_err(io::Error::other)?;
    Ok(at.as_nanosecond())
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
        let key = Key::new("run", &[]).finish().hex;
        assert_eq!(cache.get(&key).unwrap(), None);
        cache.put(&key, &made).unwrap();
        assert_eq!(cache.get(&key).unwrap(), Some(made.clone()));
        assert_eq!(cache.other_key(&key), None);
        cache.put_alias(&key, &made, "other").unwrap();
        assert_eq!(cache.get(&key).unwrap(), Some(made));
        assert_eq!(cache.other_key(&key).as_deref(), Some("other"));
        for damaged in [&b"stack step 2\nsha2"[..], b"", b"\xff\xfe"] {
            atomic::write(&cache.entry(&key), damaged, 0o600, Durability::Cached).unwrap();
            assert_eq!(cache.get(&key).unwrap(), None);
        }
    }

    #[test]
    fn what_is_cleared_was_used_before() {
        let temp = tempfile::tempdir().unwrap();
        let cache = Cache::below(temp.path());
        let made = Made {
            layer: Digest::of(b"x"),
            created: "2024-01-02T03:04:05Z".to_owned(),
        };
        for directory in cache.notes() {
            fs_err::create_dir_all(directory).unwrap();
        }
        let time = |year: i16| jiff::civil::date(year, 1, 2).to_zoned(jiff::tz::TimeZone::UTC);
        for year in [2024, 2025, 2026] {
            let name = year.to_string();
            cache.put(&name, &made).unwrap();
            let mut paths = vec![cache.entry(&name)];
            paths.extend(cache.notes().map(|directory| directory.join(&name)));
            for path in paths {
                let file = fs_err::File::options().append(true).create(true).open(path);
                let at = time(year).unwrap().timestamp();
                file.unwrap().set_modified(at.into()).unwrap();
            }
        }
        let left = || {
            let mut directories = vec![cache.directory.join("steps")];
            directories.extend(cache.notes());
            let lists = directories.iter().map(|directory| {
                let entries = entries_of(directory).unwrap();
                let names = entries.map(|e| e.unwrap().file_name().into_string().unwrap());
                let mut names: Vec<String> = names.collect();
                names.sort();
                names.join(" ")
            });
            lists.collect::<Vec<_>>()
        };
        let limit = time(2025).unwrap().timestamp();
        cache.clear(limit.as_nanosecond()).unwrap();
        assert_eq!(left(), ["2025 2026"; 4]);
        // What cannot be read is of no use to anybody.
        fs_err::write(cache.entry("odd"), "odd").unwrap();
        cache.clear(0).unwrap();
        assert_eq!(left(), ["2025 2026"; 4]);
        cache.clear(i128::MAX).unwrap();
        assert_eq!(left(), [""; 4]);
    }

    #[test]
    fn parts_of_keys_cannot_be_mistaken_for_each_other() {
        let layer = [Digest::of(b"x")];
        let keys = [
            Key::new("run", &[]).with("a", "ab").with("b", "c"),
            Key::new("run", &[]).with("a", "a").with("b", "bc"),
            Key::new("run", &layer).with("a", "ab").with("b", "c"),
            Key::new("run", &[]).with_all("a", &["ab", "c"]),
            Key::new("copy", &[]).with("a", "ab").with("b", "c"),
        ]
        .map(|key| key.finish().hex);
        let distinct: BTreeSet<_> = keys.iter().collect();
        assert_eq!(distinct.len(), keys.len());
    }
}
