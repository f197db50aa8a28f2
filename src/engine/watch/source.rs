//! The watched files: what the kernel says has happened to them, and what they are now.
//!
//! Events are hints: they say where to look. What was found there, compared with what was known, is what changed. So an
//! event too many costs a look, and events that the kernel dropped cost a look at everything.
//!
//! Every directory that may hold something in scope has a watch of its own; ignored ones have none and are never read.
//! A new directory is watched first and read then, so that what is put into it meanwhile is seen by one or the other.
//! The directory above each watched path is watched too: the path itself may come, go and come again.

use std::collections::BTreeSet;
use std::fs::Metadata;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use notify::event::{AccessKind, AccessMode};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use sha2::{Digest, Sha256};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::engine::watch::error::WatchError;
use crate::engine::watch::rules::{self, Rule, Scope};
use crate::engine::watch::tree::{Node, Stamp, Tree, beneath};
use crate::runtime::record::Timestamp;

/// A file whose time is no older than this when it is looked at may change again without a trace in its stamp
/// (git calls it racy): several ticks of the clock that stamps files.
const RACY_NS: i128 = 50_000_000;

/// What was heard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Signal {
    /// Something happened to this path.
    Dirty(PathBuf),
    /// Too much happened: everything has to be looked at.
    Everything,
}

/// What a look at one path has shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seen {
    /// The path.
    pub(crate) path: PathBuf,
    /// Whether it is another than before; else it was only touched.
    pub(crate) changed: bool,
}

/// Watches and looks.
pub(crate) struct Source {
    watcher: RecommendedWatcher,
    signals: UnboundedReceiver<Signal>,
    watched: BTreeSet<PathBuf>,
}

/// How much a stamp is trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trust {
    /// Something happened to the file: read it.
    Nothing,
    /// Same stamp, same content, unless it is racy.
    Stamps,
    /// The first look: nothing to compare with, so nothing is read.
    First,
}

impl Source {
    /// Begins to listen; nothing is watched yet.
    pub(crate) fn open() -> Result<Self, WatchError> {
        let (sender, signals) = unbounded_channel();
        let heard = move |event| hear(event, &sender);
        let watcher = notify::recommended_watcher(heard);
        let watcher = watcher.map_err(|error| failed(Path::new("/"), error))?;
        Ok(Self {
            watcher,
            signals,
            watched: BTreeSet::new(),
        })
    }

    /// Returns the next signal.
    pub(crate) async fn next(&mut self) -> Signal {
        match self.signals.recv().await {
            Some(signal) => signal,
            // The listening thread cannot end before the watcher is dropped.
            None => std::future::pending().await,
        }
    }

    /// Returns a signal that is there already.
    pub(crate) fn try_next(&mut self) -> Option<Signal> {
        self.signals.try_recv().ok()
    }

    /// Returns how many directories are watched.
    pub(crate) fn directories(&self) -> usize {
        self.watched.len()
    }

    /// Looks at everything the rules watch for the first time.
    pub(crate) fn first(&mut self, rules: &[Rule]) -> Result<Tree, WatchError> {
        let mut tree = Tree::new();
        let mut look = Look::new(self, rules, &mut tree);
        for root in rules::roots(rules) {
            look.approach(&root)?;
            look.at(&root, Trust::First)?;
        }
        Ok(tree)
    }

    /// Looks at everything again.
    pub(crate) fn again(
        &mut self,
        rules: &[Rule],
        tree: &mut Tree,
    ) -> Result<Vec<Seen>, WatchError> {
        let mut look = Look::new(self, rules, tree);
        for root in rules::roots(rules) {
            look.approach(&root)?;
            look.at(&root, Trust::Stamps)?;
        }
        Ok(look.seen)
    }

    /// Looks at dirty paths.
    pub(crate) fn look(
        &mut self,
        rules: &[Rule],
        tree: &mut Tree,
        dirty: &BTreeSet<PathBuf>,
    ) -> Result<Vec<Seen>, WatchError> {
        let mut look = Look::new(self, rules, tree);
        // What is gone goes first: a directory that was renamed keeps its watch, which must not be ended under its new name.
        let (here, gone): (Vec<_>, Vec<_>) = dirty
            .iter()
            .partition(|path| fs_err::symlink_metadata(path).is_ok());
        for path in gone.into_iter().chain(here) {
            for root in rules::roots(rules) {
                if root.starts_with(path) && root != *path {
                    // It may be another directory of that name by now.
                    look.source.unwatch(path);
                    look.approach(&root)?;
                    look.at(&root, Trust::Stamps)?;
                }
            }
            look.at(path, Trust::Nothing)?;
        }
        Ok(look.seen)
    }

    /// Watches a directory, anew if it was watched: what is there may be another of the same name.
    fn watch(&mut self, directory: &Path) -> Result<(), WatchError> {
        self.unwatch(directory);
        match self.watcher.watch(directory, RecursiveMode::NonRecursive) {
            Ok(()) => {
                self.watched.insert(directory.to_owned());
                Ok(())
            }
            // It has gone since: the event of that is on its way.
            Err(notify::Error {
                kind: notify::ErrorKind::PathNotFound,
                ..
            }) => Ok(()),
            Err(notify::Error {
                kind: notify::ErrorKind::Io(error),
                ..
            }) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(failed(directory, error)),
        }
    }

    fn unwatch(&mut self, directory: &Path) {
        if self.watched.remove(directory) {
            // The kernel ends the watch of what was removed by itself, so that there may be none.
            let _ended = self.watcher.unwatch(directory);
        }
    }
}

/// Whether a path is one that a rule is about, or leads to one.
pub(crate) fn concerns(rules: &[Rule], path: &Path) -> bool {
    rules::widest(rules, path) > Scope::Out || rules.iter().any(|rule| rule.path.starts_with(path))
}

/// One round of looking.
struct Look<'a> {
    source: &'a mut Source,
    rules: &'a [Rule],
    tree: &'a mut Tree,
    seen: Vec<Seen>,
}

impl<'a> Look<'a> {
    fn new(source: &'a mut Source, rules: &'a [Rule], tree: &'a mut Tree) -> Self {
        Self {
            source,
            rules,
            tree,
            seen: Vec::new(),
        }
    }

    /// Watches what is nearest to `root` above it.
    fn approach(&mut self, root: &Path) -> Result<(), WatchError> {
        // Between the look and the watch the next part of the path may come: then it is looked at again.
        loop {
            let above = || root.ancestors().skip(1).find(|path| path.is_dir());
            let Some(nearest) = above() else {
                return Ok(());
            };
            if !self.source.watched.contains(nearest) {
                self.source.watch(nearest)?;
            }
            if above() == Some(nearest) {
                return Ok(());
            }
        }
    }

    /// Looks at `path` and, where it is a directory, at all beneath it.
    fn at(&mut self, path: &Path, trust: Trust) -> Result<(), WatchError> {
        let scope = rules::widest(self.rules, path);
        if scope == Scope::Out {
            return Ok(());
        }
        let Ok(metadata) = fs_err::symlink_metadata(path) else {
            return self.gone(path);
        };
        if metadata.is_dir() {
            return self.directory(path, &metadata, trust);
        }
        let known = self.tree.get(path);
        let was_directory = matches!(known, Some(Node::Directory { .. }));
        if scope < Scope::In {
            return if was_directory {
                self.gone(path)
            } else {
                Ok(())
            };
        }
        let Some(node) = read(path, &metadata, known, trust) else {
            return self.gone(path);
        };
        if was_directory {
            self.gone(path)?;
        }
        self.put(path, node);
        Ok(())
    }

    /// Looks at a directory: watches it, then reads it.
    fn directory(
        &mut self,
        path: &Path,
        metadata: &Metadata,
        trust: Trust,
    ) -> Result<(), WatchError> {
        self.source.watch(path)?;
        let node = Node::Directory {
            mode: metadata.mode() & 0o7777,
        };
        self.put(path, node);
        let mut names = BTreeSet::new();
        // One that cannot be read has nothing to give; one that has gone since is reported by its own event.
        if let Ok(entries) = fs_err::read_dir(path) {
            names.extend(entries.flatten().map(|entry| entry.path()));
        }
        let known = beneath(self.tree, path)
            .filter(|(found, _)| found.parent() == Some(path))
            .map(|(found, _)| found.clone());
        names.extend(known.collect::<Vec<_>>());
        let trust = match trust {
            Trust::Nothing | Trust::Stamps => Trust::Stamps,
            Trust::First => Trust::First,
        };
        for child in names {
            self.at(&child, trust)?;
        }
        Ok(())
    }

    /// Notes that `path` is not there, and nothing beneath it.
    fn gone(&mut self, path: &Path) -> Result<(), WatchError> {
        let paths: Vec<PathBuf> = beneath(self.tree, path)
            .map(|(found, _)| found.clone())
            .collect();
        for found in paths {
            self.tree.remove(&found);
            self.source.unwatch(&found);
            self.seen.push(Seen {
                path: found,
                changed: true,
            });
        }
        if rules::roots(self.rules).contains(path) {
            self.approach(path)?;
        }
        Ok(())
    }

    fn put(&mut self, path: &Path, node: Node) {
        let old = self.tree.get(path);
        let changed = old.is_none_or(|old| !old.is_same(&node));
        let touched = old != Some(&node);
        self.tree.insert(path.to_owned(), node);
        if touched {
            self.seen.push(Seen {
                path: path.to_owned(),
                changed,
            });
        }
    }
}

/// Reads what is not a directory; `None` for what cannot be synced, or has gone.
fn read(path: &Path, metadata: &Metadata, known: Option<&Node>, trust: Trust) -> Option<Node> {
    if metadata.is_symlink() {
        return Some(Node::Link {
            target: fs_err::read_link(path).ok()?,
        });
    }
    if !metadata.is_file() {
        return None;
    }
    let stamp = stamp_of(metadata);
    let mode = metadata.mode() & 0o7777;
    let racy = i128::from(Timestamp::now().0) - stamp.changed_ns < RACY_NS;
    let hash = match (trust, known) {
        (Trust::First, _) => None,
        (
            Trust::Stamps,
            Some(Node::File {
                stamp: old, hash, ..
            }),
        ) if *old == stamp && !racy => *hash,
        _ => Some(hash_of(path).ok()?),
    };
    Some(Node::File { mode, stamp, hash })
}

fn stamp_of(metadata: &Metadata) -> Stamp {
    let nanoseconds =
        |seconds: i64, rest: i64| i128::from(seconds) * 1_000_000_000 + i128::from(rest);
    Stamp {
        size: metadata.size(),
        inode: metadata.ino(),
        modified_ns: nanoseconds(metadata.mtime(), metadata.mtime_nsec()),
        changed_ns: nanoseconds(metadata.ctime(), metadata.ctime_nsec()),
    }
}

fn hash_of(path: &Path) -> io::Result<[u8; 32]> {
    let mut file = fs_err::File::open(path)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hash.finalize().into()),
            count => hash.update(buffer.get(..count).unwrap_or_default()),
        }
    }
}

/// Passes on what may have changed a file. Reading one, which looking does itself, is no such thing.
fn hear(event: notify::Result<notify::Event>, sender: &UnboundedSender<Signal>) {
    // Once the receiver is gone, nobody wants to know.
    let send = |signal| drop(sender.send(signal));
    match event {
        Ok(event) if event.need_rescan() => send(Signal::Everything),
        Ok(event) => match event.kind {
            EventKind::Access(AccessKind::Close(AccessMode::Write))
            | EventKind::Any
            | EventKind::Create(_)
            | EventKind::Modify(_)
            | EventKind::Remove(_)
            | EventKind::Other => event.paths.into_iter().map(Signal::Dirty).for_each(send),
            EventKind::Access(_) => {}
        },
        // What went wrong cannot be told apart from events that were lost.
        Err(_) => send(Signal::Everything),
    }
}

fn failed(path: &Path, error: notify::Error) -> WatchError {
    match error.kind {
        notify::ErrorKind::MaxFilesWatch => WatchError::Limit(path.to_owned()),
        notify::ErrorKind::Io(source) if source.raw_os_error() == Some(libc::ENOSPC) => {
            WatchError::Limit(path.to_owned())
        }
        notify::ErrorKind::Io(source) => WatchError::Watch {
            path: path.to_owned(),
            source,
        },
        _ => WatchError::Watch {
            path: path.to_owned(),
            source: io::Error::other(error),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::model::build::{WatchAction, WatchRule};
    use crate::spec::model::service::Service;

    /// A watched directory with its rules.
    struct Scene {
        directory: tempfile::TempDir,
        rules: Vec<Rule>,
        source: Source,
        tree: Tree,
    }

    fn scene(path: &str, ignore: &[&str], before: &[&str]) -> Scene {
        let directory = tempfile::tempdir().unwrap();
        let base = fs_err::canonicalize(directory.path()).unwrap();
        for file in before {
            write(&base.join(file), "first");
        }
        let service = Service {
            watch: vec![WatchRule {
                action: WatchAction::Sync,
                path: base.join(path),
                target: Some("/app".to_owned()),
                ignore: ignore.iter().map(ToString::to_string).collect(),
                include: Vec::new(),
                initial_sync: false,
            }],
            ..Service::default()
        };
        let rules =
            Rule::of_service("web", &service, &None, Path::to_path_buf, &mut Vec::new()).unwrap();
        let mut source = Source::open().unwrap();
        let tree = source.first(&rules).unwrap();
        Scene {
            directory,
            rules,
            source,
            tree,
        }
    }

    fn write(path: &Path, text: &str) {
        use std::io::Write;
        fs_err::create_dir_all(path.parent().unwrap()).unwrap();
        fs_err::File::create(path)
            .unwrap()
            .write_all(text.as_bytes())
            .unwrap();
    }

    impl Scene {
        fn path(&self, name: &str) -> PathBuf {
            fs_err::canonicalize(self.directory.path())
                .unwrap()
                .join(name)
        }

        /// Hears until `wanted` has changed and returns all that has.
        async fn changes_until(&mut self, wanted: &[&str]) -> BTreeSet<String> {
            let base = self.path("");
            let mut changed = BTreeSet::new();
            while !wanted.iter().all(|name| changed.contains(*name)) {
                let signal =
                    tokio::time::timeout(std::time::Duration::from_secs(20), self.source.next());
                let seen = match signal
                    .await
                    .unwrap_or_else(|_| panic!("only {changed:?} changed"))
                {
                    Signal::Dirty(path) => {
                        self.source
                            .look(&self.rules, &mut self.tree, &BTreeSet::from([path]))
                    }
                    Signal::Everything => self.source.again(&self.rules, &mut self.tree),
                };
                let seen = seen.unwrap().into_iter().filter(|seen| seen.changed);
                changed.extend(seen.map(|seen| {
                    seen.path
                        .strip_prefix(&base)
                        .unwrap()
                        .to_str()
                        .unwrap()
                        .to_owned()
                }));
            }
            changed
        }
    }

    #[tokio::test]
    async fn a_file_in_a_chain_of_new_directories_is_seen() {
        let mut scene = scene("src", &["skip"], &["src/a"]);
        write(&scene.path("src/skip/no"), "x");
        write(&scene.path("src/x/y/z/deep"), "x");
        let changed = scene.changes_until(&["src/x/y/z/deep"]).await;
        assert!(
            !changed.iter().any(|path| path.contains("skip")),
            "{changed:?}"
        );
        write(&scene.path("src/x/y/z/deep"), "another");
        scene.changes_until(&["src/x/y/z/deep"]).await;
    }

    #[tokio::test]
    async fn a_renamed_directory_is_gone_there_and_watched_here() {
        let mut scene = scene("src", &[], &["src/old/a"]);
        fs_err::rename(scene.path("src/old"), scene.path("src/new")).unwrap();
        let changed = scene.changes_until(&["src/old/a", "src/new/a"]).await;
        assert_eq!(
            changed.iter().map(String::as_str).collect::<Vec<_>>(),
            ["src/new", "src/new/a", "src/old", "src/old/a"]
        );
        write(&scene.path("src/new/a"), "another");
        scene.changes_until(&["src/new/a"]).await;
    }

    #[tokio::test]
    async fn a_watched_path_may_come_go_and_come_again() {
        let mut scene = scene("a/b/src", &[], &[]);
        for _ in 0..3 {
            write(&scene.path("a/b/src/file"), "x");
            scene.changes_until(&["a/b/src/file"]).await;
            fs_err::remove_dir_all(scene.path("a")).unwrap();
            scene.changes_until(&["a/b/src/file"]).await;
        }
    }

    #[tokio::test]
    async fn a_single_file_survives_the_rename_of_editors() {
        let mut scene = scene("conf", &[], &["conf", "other"]);
        for text in ["second", "third"] {
            write(&scene.path("conf~tmp"), text);
            fs_err::rename(scene.path("conf~tmp"), scene.path("conf")).unwrap();
            assert_eq!(scene.changes_until(&["conf"]).await.len(), 1);
        }
    }

    #[test]
    fn a_saved_file_that_is_the_same_has_only_been_touched() {
        let mut scene = scene("src", &[], &["src/a"]);
        let path = scene.path("src/a");
        let dirty = BTreeSet::from([path.clone()]);
        let mut look = |text: &str| {
            write(&path, text);
            let seen = scene
                .source
                .look(&scene.rules, &mut scene.tree, &dirty)
                .unwrap();
            seen.iter().map(|seen| seen.changed).collect::<Vec<_>>()
        };
        assert_eq!(look("second"), [true]);
        assert_eq!(look("second"), [false]);
        assert_eq!(look("third."), [true]);
    }

    #[test]
    fn lost_events_cost_one_look_at_everything() {
        let mut scene = scene("src", &[], &["src/a", "src/d/b"]);
        write(&scene.path("src/a"), "other");
        fs_err::remove_dir_all(scene.path("src/d")).unwrap();
        write(&scene.path("src/e/f"), "x");
        let seen = scene.source.again(&scene.rules, &mut scene.tree).unwrap();
        let base = scene.path("");
        let changed: BTreeSet<_> = seen
            .iter()
            .filter(|seen| seen.changed)
            .map(|seen| seen.path.strip_prefix(&base).unwrap().to_str().unwrap())
            .collect();
        assert_eq!(
            changed.into_iter().collect::<Vec<_>>(),
            ["src/a", "src/d", "src/d/b", "src/e", "src/e/f"]
        );
    }
}
