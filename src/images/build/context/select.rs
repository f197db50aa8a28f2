//! From the words of a `COPY` to the files they stand for.

use std::path::{Path, PathBuf};

use super::super::super::stop::Stop;
use super::super::pattern::{self, Depth, IgnoreRules, Matched, Pattern};
use super::super::tree::{Last, Node, Resolved, Tree};
use super::walk::{self, Rules, Visit};
use super::{ContextError, Selected};

/// A tree with the rules of what may be taken from it.
#[derive(Debug)]
pub struct Origin<'a> {
    /// The files.
    pub tree: &'a Tree,
    /// `.dockerignore`, of a build context.
    pub ignore: &'a IgnoreRules,
    /// For messages: `the build context`, `stage base`.
    pub name: &'a str,
    /// Whether what is taken is still wanted.
    pub stop: &'a Stop,
}

/// How sources are meant.
#[derive(Debug, Clone, Copy)]
pub struct Taking<'a> {
    /// `--exclude`.
    pub exclude: &'a IgnoreRules,
    /// `--parents`.
    pub parents: bool,
}

impl Origin<'_> {
    /// Returns what `source` (a path or a pattern, expanded) takes, but for what `exclude` leaves out.
    pub fn select(
        &self,
        source: &str,
        exclude: &IgnoreRules,
    ) -> Result<Vec<Selected>, ContextError> {
        let taking = Taking {
            exclude,
            parents: false,
        };
        self.take(source, taking)
    }

    /// Returns what `source` takes.
    pub fn take(&self, source: &str, taking: Taking<'_>) -> Result<Vec<Selected>, ContextError> {
        if taking.parents {
            return self.select_parents(source, taking.exclude);
        }
        let clean = pattern::clean(source);
        let is_wild = pattern::is_wildcard(&clean);
        let rules = Rules {
            ignore: self.ignore,
            include: None,
            exclude: taking.exclude,
            stop: self.stop,
        };
        let mut selected = Vec::new();
        for path in self.candidates(&clean)? {
            // What a wildcard finds need not be there; a link that it finds must lead to something, as one that is named must.
            let may_miss = is_wild && !self.keeps_link(&path)?;
            let found = self.find(&path)?;
            let Some((resolved, node)) = found.filter(|_| !self.ignores_link(&path)) else {
                if may_miss {
                    continue;
                }
                return Err(self.missing(&path.to_string_lossy(), &path));
            };
            // A file that was asked for by its name is not excluded; one that a wildcard found is.
            let name = path.file_name().unwrap_or_default();
            let is_excluded = is_wild
                && !node.metadata.is_dir()
                && taking.exclude.judge(name, &Matched::default()).ignored;
            if is_excluded {
                continue;
            }
            let entries = self.walk(resolved, node, rules)?;
            if entries.is_empty() {
                if may_miss {
                    continue;
                }
                return Err(self.missing(&path.to_string_lossy(), &path));
            }
            selected.push(Selected {
                name: name.to_owned(),
                entries,
            });
        }
        Ok(selected)
    }

    /// Returns what lies at `path`, in which no character means anything but itself, but for what `exclude` leaves out.
    pub fn take_path(
        &self,
        path: &Path,
        exclude: &IgnoreRules,
    ) -> Result<Vec<Selected>, ContextError> {
        let rules = Rules {
            ignore: self.ignore,
            include: None,
            exclude,
            stop: self.stop,
        };
        let (resolved, node) = self.named(path)?;
        let entries = self.walk(resolved, node, rules)?;
        if entries.is_empty() {
            return Err(self.missing(&path.to_string_lossy(), path));
        }
        let name = path.file_name().unwrap_or_default().to_owned();
        Ok(vec![Selected { name, entries }])
    }

    /// Fails where nothing can be taken of `source`, as far as that shows without reading a directory: [`Origin::take`] fails then too.
    pub fn expect(&self, source: &str, taking: Taking<'_>) -> Result<(), ContextError> {
        if taking.parents {
            let (base, wanted) = split_parents(source);
            return self.expect_parents(&base, &wanted);
        }
        let clean = pattern::clean(source);
        let mut path = PathBuf::new();
        for (at, part) in clean.split('/').enumerate() {
            if !pattern::is_wildcard(part) {
                path.push(unescape(part));
                continue;
            }
            self.expect_wildcard(&path)?;
            let wild = clean.split('/').skip(at);
            let mut wild = wild.filter(|part| pattern::is_wildcard(part));
            return wild.try_for_each(|part| Ok(Pattern::compile(part, Depth::Flat).map(drop)?));
        }
        self.expect_path(&path)
    }

    /// Fails where nothing can be taken of what lies at `path`, as far as that shows without reading a directory.
    pub fn expect_path(&self, path: &Path) -> Result<(), ContextError> {
        let (resolved, node) = self.named(path)?;
        let is_left_out = if node.metadata.is_dir() {
            self.leaves_out(&resolved)
        } else {
            self.judge(&resolved).0
        };
        if is_left_out {
            return Err(self.missing(&path.to_string_lossy(), path));
        }
        Ok(())
    }

    /// Follows a path that must lead to something.
    fn named(&self, path: &Path) -> Result<(PathBuf, Node), ContextError> {
        let found = self.find(path)?;
        let found = found.filter(|_| !self.ignores_link(path));
        found.ok_or_else(|| self.missing(&path.to_string_lossy(), path))
    }

    /// Follows the path to where the first wildcard is looked for, which must be there; `None` where that leads through a file.
    fn expect_wildcard(&self, path: &Path) -> Result<Option<Resolved>, ContextError> {
        let resolved = match self.tree.resolve(path, Last::Follow) {
            Err(error) if error.kind() == std::io::ErrorKind::NotADirectory => return Ok(None),
            resolved => resolved?,
        };
        if resolved.node.is_none() || self.leaves_out(&resolved.path) {
            return Err(self.missing(&path.to_string_lossy(), path));
        }
        Ok(Some(resolved))
    }

    /// Fails where the one path is not there that a source of `--parents` without a wildcard stands for.
    fn expect_parents(&self, base: &str, wanted: &str) -> Result<(), ContextError> {
        if pattern::is_wildcard(base) || pattern::is_wildcard(wanted) {
            return Ok(());
        }
        let path = Path::new(&unescape(base)).join(unescape(wanted));
        let is_there = self.find(&path)?;
        let is_there = is_there.is_some_and(|(resolved, _)| !self.leaves_out(&resolved));
        if !is_there || self.ignores_link(&path) {
            return Err(self.missing(&path.to_string_lossy(), &path));
        }
        Ok(())
    }

    /// Selects for `--parents`: what matches below the root, or below what stands before `/./`, with the directories that lead to it.
    fn select_parents(
        &self,
        source: &str,
        exclude: &IgnoreRules,
    ) -> Result<Vec<Selected>, ContextError> {
        let (base, wanted) = split_parents(source);
        let include = IgnoreRules::of([if wanted.is_empty() { "**" } else { &wanted }])?;
        let rules = Rules {
            ignore: self.ignore,
            include: Some(&include),
            exclude,
            stop: self.stop,
        };
        let is_wild = pattern::is_wildcard(&base) || pattern::is_wildcard(&wanted);
        self.expect_parents(&base, &wanted)?;
        let mut selected = Vec::new();
        for path in self.candidates(&base)? {
            let Some((resolved, node)) = self.find(&path)? else {
                if is_wild {
                    continue;
                }
                return Err(self.missing(&base, &path));
            };
            if !node.metadata.is_dir() {
                continue;
            }
            let entries = self.walk(resolved, node, rules)?;
            if !entries.is_empty() {
                selected.push(Selected {
                    name: path.file_name().unwrap_or_default().to_owned(),
                    entries,
                });
            }
        }
        Ok(selected)
    }

    /// Follows a path to its end.
    fn find(&self, path: &Path) -> Result<Option<(PathBuf, Node)>, ContextError> {
        match self.tree.resolve(path, Last::Follow) {
            Ok(resolved) => Ok(resolved.node.map(|node| (resolved.path, node))),
            // `file/x` is as absent as anything else.
            Err(error) if error.kind() == std::io::ErrorKind::NotADirectory => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Lists a path and all below it that the rules leave.
    fn walk(
        &self,
        resolved: PathBuf,
        node: Node,
        rules: Rules<'_>,
    ) -> Result<Vec<super::Entry>, ContextError> {
        let (is_ignored, matched) = self.judge(&resolved);
        let start = Visit::top(resolved, node, is_ignored, matched);
        Ok(walk::list(self.tree, rules, start)?)
    }

    /// Says that nothing is at `path`, or why it is as good as nothing.
    fn missing(&self, shown: &str, path: &Path) -> ContextError {
        let exists = matches!(self.find(path), Ok(Some(_)));
        if exists {
            return ContextError::Ignored(shown.to_owned(), ".dockerignore".to_owned());
        }
        ContextError::NotFound(shown.to_owned(), self.name.to_owned())
    }

    /// Returns the paths that a source stands for; without a wildcard itself alone.
    ///
    /// Directories below the first wildcard are not looked for through links, as Go's `filepath.Walk` does not.
    fn candidates(&self, clean: &str) -> Result<Vec<PathBuf>, ContextError> {
        let mut paths = vec![PathBuf::new()];
        let mut last = Last::Follow;
        for part in clean.split('/').filter(|part| !part.is_empty()) {
            if !pattern::is_wildcard(part) {
                let literal = unescape(part);
                if last == Last::Keep {
                    paths = self.directories(paths)?;
                }
                for path in &mut paths {
                    path.push(&literal);
                }
                continue;
            }
            let wanted = Pattern::compile(part, Depth::Flat)?;
            let mut matched = Vec::new();
            for path in paths {
                let resolved = match last {
                    Last::Follow => self.expect_wildcard(&path)?,
                    Last::Keep => match self.tree.resolve(&path, last) {
                        Err(e) if e.kind() == std::io::ErrorKind::NotADirectory => None,
                        resolved => Some(resolved?),
                    },
                };
                let Some(resolved) = resolved else { continue };
                let Some(node) = resolved.node.filter(|node| node.metadata.is_dir()) else {
                    continue;
                };
                let children = self.tree.children(&node)?.into_iter();
                let names = children.map(|(name, _)| name);
                let names = names.filter(|name| wanted.matches(name));
                matched.extend(names.map(|name| resolved.path.join(name)));
            }
            paths = matched;
            last = Last::Keep;
        }
        Ok(paths)
    }

    /// Returns whether a link lies at a path that leads there through no other, and is not ignored.
    fn keeps_link(&self, path: &Path) -> Result<bool, ContextError> {
        let resolved = self.tree.resolve(path, Last::Keep)?;
        let is_link = resolved.node.is_some_and(|node| node.metadata.is_symlink());
        Ok(is_link && !self.judge(&resolved.path).0)
    }

    /// Returns whether the rules ignore a path and all that may be below it.
    fn leaves_out(&self, path: &Path) -> bool {
        self.judge(path).0 && !self.ignore.may_keep_below(path.as_os_str())
    }

    /// Returns those of the paths that are directories: a wildcard does not see through links, nor are there any files below files.
    fn directories(&self, paths: Vec<PathBuf>) -> Result<Vec<PathBuf>, ContextError> {
        let mut directories = Vec::new();
        for path in paths {
            let node = self.tree.resolve(&path, Last::Keep)?.node;
            if node.is_some_and(|node| node.metadata.is_dir()) {
                directories.push(path);
            }
        }
        Ok(directories)
    }

    /// Returns whether the path as written is ignored; one that goes through links may end where nothing is.
    fn ignores_link(&self, path: &Path) -> bool {
        if self.ignore.is_empty() {
            return false;
        }
        match self.tree.resolve(path, Last::Keep) {
            Ok(resolved) => match resolved.node {
                Some(node) => node.metadata.is_symlink() && self.judge(&resolved.path).0,
                None => false,
            },
            Err(_) => false,
        }
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
}

/// Splits a source of `--parents`: what leads to it, and what is wanted of that with the directories that lead there.
fn split_parents(source: &str) -> (String, String) {
    let (base, wanted) = source.split_once("/./").unwrap_or(("", source));
    (pattern::clean(base), pattern::clean(wanted))
}

/// Returns a path without its escapes.
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
