//! What a `COPY` or `ADD` takes from a tree: which files, and a digest of them that does not depend on times.
//!
//! # The file-hash index
//!
//! An unchanged file costs one `lstat`. `<root>/cache/files/<32 hex of the context's path>` remembers hashes:
//!
//! ```text
//! stack files 1\n
//! <sha256 hex> <size> <mtime ns> <ctime ns> <inode> <device> <path, relative to the context>\0     (repeated)
//! ```
//!
//! A line counts while size, times, inode and device are the file's. A hash is written down only if the file's times lie before
//! the moment of hashing by more than [`RACY_NS`], so that a later change in the same tick of the clock cannot go unseen
//! (git calls such entries racy). A file that cannot be read as this format is as good as none.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::Metadata;
use std::io::{self, Read};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::pattern::{self, Depth, IgnoreRules, Matched, Pattern, PatternError};
use super::tree::{Last, Node, Tree};
use crate::sys::atomic::{self, Durability};

/// Nanoseconds: several ticks of the clock that stamps files.
pub const RACY_NS: i128 = 50_000_000;

/// First line of an index.
const HEADER: &[u8] = b"stack files 1\n";

/// What is taken could not be found or read.
#[derive(Debug, thiserror::Error)]
pub enum ContextError {
    /// Nothing by that name.
    #[error("`{0}` not found in {1}")]
    NotFound(String, String),
    /// It is there, but the ignore rules leave it out.
    #[error("`{0}` is excluded by {1}")]
    Ignored(String, String),
    /// A wildcard that cannot be read.
    #[error(transparent)]
    Pattern(#[from] PatternError),
    /// A file that cannot be read.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// One thing to copy.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Below the source; empty for the source itself.
    pub path: PathBuf,
    /// Where it lies.
    pub host: PathBuf,
    /// Of itself, not of what a link points to.
    pub metadata: Metadata,
}

/// One source and all below it, parents before children, in the order of their bytes.
#[derive(Debug, Clone)]
pub struct Selected {
    /// The name that a file keeps when it is copied into a directory.
    pub name: OsString,
    /// At least the source itself.
    pub entries: Vec<Entry>,
}

/// A tree with the rules of what may be taken from it.
#[derive(Debug)]
pub struct Origin<'a> {
    /// The files.
    pub tree: &'a Tree,
    /// `.dockerignore`, of a build context.
    pub ignore: &'a IgnoreRules,
    /// For messages: `the build context`, `stage base`.
    pub name: &'a str,
}

impl Origin<'_> {
    /// Returns what `source` (a path or a pattern, expanded) takes, but for what `exclude` leaves out.
    pub fn select(
        &self,
        source: &str,
        exclude: &IgnoreRules,
    ) -> Result<Vec<Selected>, ContextError> {
        let clean = pattern::clean(source);
        let wild = pattern::is_wildcard(&clean);
        let mut selected = Vec::new();
        for path in self.candidates(&clean)? {
            let not_found = || ContextError::NotFound(source.to_owned(), self.name.to_owned());
            let resolved = self.tree.resolve(&path, Last::Follow)?;
            let Some(node) = resolved.node else {
                if wild {
                    continue;
                }
                return Err(not_found());
            };
            let (ignored, matched) = self.judge(&resolved.path);
            let entries = self.walk(&resolved.path, node, (ignored, matched), exclude)?;
            if entries.is_empty() {
                if wild {
                    continue;
                }
                let file = ".dockerignore".to_owned();
                return Err(ContextError::Ignored(source.to_owned(), file));
            }
            selected.push(Selected {
                name: path.file_name().unwrap_or_default().to_owned(),
                entries,
            });
        }
        Ok(selected)
    }

    /// Returns the paths that a source stands for; without a wildcard itself alone.
    fn candidates(&self, clean: &str) -> Result<Vec<PathBuf>, ContextError> {
        let mut paths = vec![PathBuf::new()];
        for part in clean.split('/').filter(|part| !part.is_empty()) {
            if !pattern::is_wildcard(part) {
                let literal: String = unescape(part);
                paths.iter_mut().for_each(|path| path.push(&literal));
                continue;
            }
            let wanted = Pattern::compile(part, Depth::Flat)?;
            let mut matched = Vec::new();
            for path in paths {
                let resolved = self.tree.resolve(&path, Last::Follow)?;
                let Some(node) = resolved.node.filter(|node| node.metadata.is_dir()) else {
                    continue;
                };
                let names = self.tree.children(&node)?.into_keys();
                matched.extend(
                    names
                        .filter(|name| wanted.matches(name))
                        .map(|name| path.join(name)),
                );
            }
            paths = matched;
        }
        Ok(paths)
    }

    /// Judges a path of the tree, from the root down.
    fn judge(&self, path: &Path) -> (bool, Matched) {
        let mut verdict = (false, Matched::default());
        if self.ignore.is_empty() {
            return verdict;
        }
        let mut so_far = PathBuf::new();
        for part in path {
            so_far.push(part);
            let judged = self.ignore.judge(so_far.as_os_str(), &verdict.1);
            verdict = (judged.ignored, judged.matched);
        }
        verdict
    }

    /// Lists `node` and all below it that the rules leave.
    fn walk(
        &self,
        path: &Path,
        node: Node,
        verdict: (bool, Matched),
        exclude: &IgnoreRules,
    ) -> io::Result<Vec<Entry>> {
        let mut walk = Walk {
            origin: self,
            exclude,
            entries: Vec::new(),
        };
        let start = Visit {
            full: path.to_owned(),
            below: PathBuf::new(),
            node,
            ignored: (verdict.0, false),
            matched: (verdict.1, Matched::default()),
        };
        walk.visit(start)?;
        Ok(walk.entries)
    }
}

/// A walk under way.
struct Walk<'a, 'b> {
    origin: &'a Origin<'b>,
    exclude: &'a IgnoreRules,
    entries: Vec<Entry>,
}

/// One path of a walk.
struct Visit {
    /// From the tree's root: what the ignore rules see.
    full: PathBuf,
    /// From the source: what `--exclude` sees.
    below: PathBuf,
    /// What is there.
    node: Node,
    /// Whether the ignore rules, and whether `--exclude`, leave it out.
    ignored: (bool, bool),
    /// Their rules that matched.
    matched: (Matched, Matched),
}

impl Walk<'_, '_> {
    /// Adds a path and what is below it.
    fn visit(&mut self, visit: Visit) -> io::Result<()> {
        let out = visit.ignored.0 || visit.ignored.1;
        let is_directory = visit.node.metadata.is_dir();
        if out && !is_directory {
            return Ok(());
        }
        let kept_below = !(visit.ignored.0
            && !self.origin.ignore.may_keep_below(visit.full.as_os_str())
            || visit.ignored.1 && !self.exclude.may_keep_below(visit.below.as_os_str()));
        if out && !kept_below {
            return Ok(());
        }
        let at = self.entries.len();
        self.entries.push(Entry {
            path: visit.below.clone(),
            host: visit.node.host.clone(),
            metadata: visit.node.metadata.clone(),
        });
        if is_directory {
            for (name, node) in self.origin.tree.children(&visit.node)? {
                self.visit(self.below(&visit, &name, node))?;
            }
        }
        // An ignored directory is there only for what is kept below it.
        if out && self.entries.len() == at + 1 {
            self.entries.truncate(at);
        }
        Ok(())
    }

    /// Judges one child.
    fn below(&self, parent: &Visit, name: &OsStr, node: Node) -> Visit {
        let full = parent.full.join(name);
        let below = parent.below.join(name);
        let judge = |rules: &IgnoreRules, path: &Path, matched: &Matched| {
            if rules.is_empty() {
                return (false, Matched::default());
            }
            let verdict = rules.judge(path.as_os_str(), matched);
            (verdict.ignored, verdict.matched)
        };
        let first = judge(self.origin.ignore, &full, &parent.matched.0);
        let second = judge(self.exclude, &below, &parent.matched.1);
        Visit {
            full,
            below,
            node,
            ignored: (first.0, second.0),
            matched: (first.1, second.1),
        }
    }
}

/// Returns a path part without its escapes.
fn unescape(part: &str) -> String {
    let mut text = String::new();
    let mut characters = part.chars();
    while let Some(character) = characters.next() {
        text.extend(if character == '\\' {
            characters.next()
        } else {
            Some(character)
        });
    }
    text
}

/// Whether owners belong to a digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owners {
    /// The files become root's, whoever has them here.
    Ignored,
    /// They are kept.
    Counted,
}

/// Adds everything about `selected` that reaches the layer, but times, to `hash`.
pub fn hash_selected(
    hash: &mut Sha256,
    selected: &[Selected],
    owners: Owners,
    index: &mut FileIndex,
) -> io::Result<()> {
    for source in selected {
        hash_part(hash, source.name.as_bytes());
        for entry in &source.entries {
            let metadata = &entry.metadata;
            hash_part(hash, entry.path.as_os_str().as_bytes());
            hash.update(metadata.mode().to_le_bytes());
            if owners == Owners::Counted {
                hash.update(metadata.uid().to_le_bytes());
                hash.update(metadata.gid().to_le_bytes());
            }
            let kind = metadata.file_type();
            if kind.is_file() {
                hash.update(index.hash_of(entry)?);
            } else if kind.is_symlink() {
                let target = fs_err::read_link(&entry.host)?;
                hash_part(hash, target.as_os_str().as_bytes());
            } else if kind.is_block_device() || kind.is_char_device() {
                hash.update(metadata.rdev().to_le_bytes());
            }
        }
        // What ends the list cannot be a path.
        hash_part(hash, b"\0");
    }
    Ok(())
}

/// Adds bytes with their length, so that neighbours cannot be mistaken.
pub fn hash_part(hash: &mut Sha256, bytes: &[u8]) {
    hash.update((bytes.len() as u64).to_le_bytes());
    hash.update(bytes);
}

/// What says that a file is still the one that was hashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Identity {
    size: u64,
    mtime_ns: i128,
    ctime_ns: i128,
    inode: u64,
    device: u64,
}

impl Identity {
    /// Takes it from a file.
    fn of(metadata: &Metadata) -> Self {
        let ns = |seconds: i64, ns: i64| i128::from(seconds) * 1_000_000_000 + i128::from(ns);
        Self {
            size: metadata.size(),
            mtime_ns: ns(metadata.mtime(), metadata.mtime_nsec()),
            ctime_ns: ns(metadata.ctime(), metadata.ctime_nsec()),
            inode: metadata.ino(),
            device: metadata.dev(),
        }
    }
}

/// Returns whether a file changed between two looks at it.
pub fn changed(before: &Metadata, after: &Metadata) -> bool {
    Identity::of(before) != Identity::of(after)
}

/// A SHA-256.
pub type Hash = [u8; 32];

/// Hashes of the files of one context.
#[derive(Debug)]
pub struct FileIndex {
    /// Where it is kept; `None` for trees whose files are not remembered.
    file: Option<PathBuf>,
    /// The context.
    root: PathBuf,
    /// By path below the context.
    known: BTreeMap<PathBuf, (Identity, Hash)>,
    /// Whether `known` has something that the file has not.
    changed: bool,
}

impl FileIndex {
    /// Returns an index that remembers nothing.
    pub fn none() -> Self {
        Self {
            file: None,
            root: PathBuf::new(),
            known: BTreeMap::new(),
            changed: false,
        }
    }

    /// Reads the index of the context `root` from the directory `cache/files`.
    pub fn open(directory: &Path, root: &Path) -> io::Result<Self> {
        let name = hex(&Sha256::digest(root.as_os_str().as_bytes()));
        let file = directory.join(name.get(..32).unwrap_or_default());
        let known = match fs_err::read(&file) {
            Ok(bytes) => parse_index(&bytes).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => BTreeMap::new(),
            Err(error) => return Err(error),
        };
        Ok(Self {
            file: Some(file),
            root: root.to_owned(),
            known,
            changed: false,
        })
    }

    /// Returns the hash of a regular file's content and extended attributes.
    fn hash_of(&mut self, entry: &Entry) -> io::Result<Hash> {
        let identity = Identity::of(&entry.metadata);
        let below = entry.host.strip_prefix(&self.root).unwrap_or(&entry.host);
        if let Some((known, hash)) = self.known.get(below)
            && *known == identity
        {
            return Ok(*hash);
        }
        let now = coarse_now_ns();
        let hash = hash_file(&entry.host)?;
        if self.file.is_some() {
            if identity.ctime_ns.max(identity.mtime_ns) + RACY_NS < now {
                self.known.insert(below.to_owned(), (identity, hash));
                self.changed = true;
            } else {
                self.changed |= self.known.remove(below).is_some();
            }
        }
        Ok(hash)
    }

    /// Writes the index if it has something new.
    pub fn save(&self) -> io::Result<()> {
        let Some(file) = self.file.as_ref().filter(|_| self.changed) else {
            return Ok(());
        };
        let mut bytes = HEADER.to_vec();
        for (path, (identity, hash)) in &self.known {
            let Identity {
                size,
                mtime_ns,
                ctime_ns,
                inode,
                device,
            } = identity;
            let line = format!(
                "{} {size} {mtime_ns} {ctime_ns} {inode} {device} ",
                hex(hash)
            );
            bytes.extend_from_slice(line.as_bytes());
            bytes.extend_from_slice(path.as_os_str().as_bytes());
            bytes.push(0);
        }
        if let Some(directory) = file.parent() {
            fs_err::create_dir_all(directory)?;
        }
        atomic::write(file, &bytes, 0o600, Durability::Cached)
    }
}

/// Reads an index; `None` if it is not one.
fn parse_index(bytes: &[u8]) -> Option<BTreeMap<PathBuf, (Identity, Hash)>> {
    let mut known = BTreeMap::new();
    let lines = bytes.strip_prefix(HEADER)?;
    for line in lines.split(|byte| *byte == 0).filter(|l| !l.is_empty()) {
        let mut parts = line.splitn(7, |byte| *byte == b' ');
        let hash = parse_hex(parts.next()?)?;
        let mut number = || {
            std::str::from_utf8(parts.next()?)
                .ok()?
                .parse::<i128>()
                .ok()
        };
        let identity = Identity {
            size: number()?.try_into().ok()?,
            mtime_ns: number()?,
            ctime_ns: number()?,
            inode: number()?.try_into().ok()?,
            device: number()?.try_into().ok()?,
        };
        let path = OsString::from_vec(parts.next()?.to_vec());
        known.insert(PathBuf::from(path), (identity, hash));
    }
    Some(known)
}

/// Returns the time of the clock that stamps files.
fn coarse_now_ns() -> i128 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::RealtimeCoarse);
    i128::from(now.tv_sec) * 1_000_000_000 + i128::from(now.tv_nsec)
}

/// Hashes a file's content, and its attributes if it has any.
fn hash_file(path: &Path) -> io::Result<Hash> {
    let mut file = fs_err::File::open(path)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0_u8; 64 * 1024];
    loop {
        let count = file.read(&mut buffer)?;
        if count == 0 {
            break;
        }
        hash.update(buffer.get(..count).unwrap_or_default());
    }
    for (name, value) in super::copy::attributes(path) {
        hash_part(&mut hash, name.as_bytes());
        hash_part(&mut hash, &value);
    }
    Ok(hash.finalize().into())
}

/// Returns bytes as lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |nibble: u8| char::from(*DIGITS.get(usize::from(nibble)).unwrap_or(&b'0'));
    let pairs = bytes
        .iter()
        .flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]);
    pairs.collect()
}

/// Parses 64 hexadecimal digits.
fn parse_hex(text: &[u8]) -> Option<Hash> {
    let mut hash = [0_u8; 32];
    if text.len() != 64 {
        return None;
    }
    for (byte, pair) in hash.iter_mut().zip(text.chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A context with `a.txt`, `b.md`, `d/c.txt`, `d/e/f`, and a link to `d`.
    fn context() -> tempfile::TempDir {
        let temp = tempfile::tempdir().unwrap();
        fs_err::create_dir_all(temp.path().join("d/e")).unwrap();
        for file in ["a.txt", "b.md", "d/c.txt", "d/e/f"] {
            fill(&temp.path().join(file), file);
        }
        std::os::unix::fs::symlink("d", temp.path().join("link")).unwrap();
        temp
    }

    fn fill(path: &Path, text: &str) {
        atomic::write(path, text.as_bytes(), 0o644, Durability::Cached).unwrap();
    }

    /// `name: path path …` for each selected source.
    fn shown(root: &Path, rules: &str, source: &str, exclude: &[&str]) -> String {
        let tree = Tree::directory(root);
        let ignore = IgnoreRules::parse(rules).unwrap();
        let origin = Origin {
            tree: &tree,
            ignore: &ignore,
            name: "the build context",
        };
        let exclude = IgnoreRules::of(exclude.iter().copied()).unwrap();
        match origin.select(source, &exclude) {
            Err(error) => error.to_string(),
            Ok(selected) => {
                let lines = selected.iter().map(|source| {
                    let paths = source.entries.iter().map(|e| e.path.display().to_string());
                    let name = source.name.display();
                    format!("{name}: {}", paths.collect::<Vec<_>>().join(" "))
                });
                lines.collect::<Vec<_>>().join("; ")
            }
        }
    }

    #[test]
    fn sources_select() {
        let temp = context();
        let table: [(&str, &str, &[&str], &str); 14] = [
            ("", "a.txt", &[], "a.txt: "),
            ("", "/../a.txt", &[], "a.txt: "),
            ("", "d/", &[], "d:  c.txt e e/f"),
            ("", ".", &[], ":  a.txt b.md d d/c.txt d/e d/e/f link"),
            ("", "link", &[], "link:  c.txt e e/f"),
            ("", "*.txt", &[], "a.txt: "),
            ("", "*/*.txt", &[], "c.txt: ; c.txt: "),
            ("", "no*", &[], ""),
            ("", "nope", &[], "`nope` not found in the build context"),
            (
                "a.txt",
                "a.txt",
                &[],
                "`a.txt` is excluded by .dockerignore",
            ),
            ("*\n!d/e/f", ".", &[], ":  d d/e d/e/f"),
            ("d/e", "d", &[], "d:  c.txt"),
            ("", "d", &["*.txt"], "d:  e e/f"),
            ("", "d", &["e"], "d:  c.txt"),
        ];
        for (rules, source, exclude, expected) in table {
            let got = shown(temp.path(), rules, source, exclude);
            assert_eq!(got, expected, "{rules:?} {source}");
        }
    }

    /// The digest of the whole context through the index kept in `cache`.
    fn digest(root: &Path, cache: &Path) -> (String, usize) {
        let tree = Tree::directory(root);
        let none = IgnoreRules::default();
        let origin = Origin {
            tree: &tree,
            ignore: &none,
            name: "",
        };
        let mut index = FileIndex::open(cache, root).unwrap();
        let mut hash = Sha256::new();
        let selected = origin.select(".", &none).unwrap();
        hash_selected(&mut hash, &selected, Owners::Ignored, &mut index).unwrap();
        index.save().unwrap();
        (hex(&hash.finalize()), index.known.len())
    }

    #[test]
    fn digests_depend_on_content_mode_and_names_but_not_on_times() {
        use std::os::unix::fs::PermissionsExt;
        let (temp, cache) = (context(), tempfile::tempdir().unwrap());
        let root = temp.path();
        let (first, _) = digest(root, cache.path());
        fill(&root.join("a.txt"), "a.txt");
        assert_eq!(digest(root, cache.path()).0, first, "written again");
        fill(&root.join("a.txt"), "A.txt");
        let (second, _) = digest(root, cache.path());
        assert_ne!(second, first, "content");
        fs_err::set_permissions(root.join("a.txt"), PermissionsExt::from_mode(0o600)).unwrap();
        let (third, _) = digest(root, cache.path());
        assert_ne!(third, second, "mode");
        fs_err::rename(root.join("a.txt"), root.join("z.txt")).unwrap();
        assert_ne!(digest(root, cache.path()).0, third, "name");
    }

    #[test]
    fn an_index_is_trusted_by_identity_and_only_for_settled_files() {
        let (temp, cache) = (context(), tempfile::tempdir().unwrap());
        let root = temp.path();
        let path = root.join("a.txt");
        let metadata = fs_err::symlink_metadata(&path).unwrap();
        let entry = Entry {
            path: PathBuf::new(),
            host: path.clone(),
            metadata: metadata.clone(),
        };
        let mut index = FileIndex::open(cache.path(), root).unwrap();
        let real = index.hash_of(&entry).unwrap();
        assert_eq!(index.known.len(), 0, "a fresh file may change in this tick");
        let known = (Identity::of(&metadata), [7; 32]);
        index.known.insert("a.txt".into(), known);
        index.changed = true;
        index.save().unwrap();
        let mut index = FileIndex::open(cache.path(), root).unwrap();
        assert_eq!(index.hash_of(&entry).unwrap(), [7; 32]);
        fill(&path, "a.txt");
        let metadata = fs_err::symlink_metadata(&path).unwrap();
        let entry = Entry { metadata, ..entry };
        assert_eq!(index.hash_of(&entry).unwrap(), real);
    }
}
