//! A walk through a tree, under rules.

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};

use super::super::super::stop::Stop;
use super::super::pattern::{IgnoreRules, Matched};
use super::super::tree::{Node, Tree};
use super::Entry;

/// How deep directories may lie in each other. The longest path of the kernel has room for half as many again.
const MAX_DEPTH: usize = 1360;

/// What of a source is taken.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rules<'a> {
    /// `.dockerignore`: paths from the tree's root.
    pub(super) ignore: &'a IgnoreRules,
    /// `--parents`: what is asked for, by its path from the source; everything where there is none.
    pub(super) include: Option<&'a IgnoreRules>,
    /// `--exclude`: paths from the source.
    pub(super) exclude: &'a IgnoreRules,
    /// Whether it is still wanted.
    pub(super) stop: &'a Stop,
}

/// One path of a walk.
pub(super) struct Visit {
    /// From the tree's root: what the ignore rules see, where there are some.
    full: PathBuf,
    /// From the source: what `--exclude` sees.
    below: PathBuf,
    /// What is there.
    node: Node,
    /// Whether the ignore rules leave it out.
    is_ignored: bool,
    /// Whether `--exclude` leaves it out, or `--parents` does not ask for it.
    is_left: bool,
    /// The rules that matched.
    matched: [Matched; 3],
    /// How many directories it is below the source.
    depth: usize,
}

impl Visit {
    /// Begins at a source, which is taken itself unless it is ignored.
    pub(super) fn top(full: PathBuf, node: Node, is_ignored: bool, matched: Matched) -> Self {
        Self {
            full,
            below: PathBuf::new(),
            node,
            is_ignored,
            is_left: false,
            matched: [matched, Matched::default(), Matched::default()],
            depth: 0,
        }
    }
}

/// Lists `start` and all below it that the rules leave, parents first.
pub(super) fn list(tree: &Tree, rules: Rules<'_>, start: Visit) -> io::Result<Vec<Entry>> {
    let mut walk = Walk {
        tree,
        rules,
        entries: Vec::new(),
    };
    walk.visit(start)?;
    // Nothing that was asked for: not even the directory that would have it.
    let is_bare = rules.include.is_some() && walk.entries.len() == 1;
    if is_bare {
        walk.entries.clear();
    }
    Ok(walk.entries)
}

struct Walk<'a> {
    tree: &'a Tree,
    rules: Rules<'a>,
    entries: Vec<Entry>,
}

impl Walk<'_> {
    /// Adds a path and what is below it.
    fn visit(&mut self, visit: Visit) -> io::Result<()> {
        let is_out = visit.is_ignored || visit.is_left;
        let is_directory = visit.node.metadata.is_dir();
        if is_out && (!is_directory || !self.may_take_below(&visit)) {
            return Ok(());
        }
        if visit.depth > MAX_DEPTH {
            let text = format!("`{}` lies too deep", visit.node.host.display());
            return Err(io::Error::other(text));
        }
        self.rules.stop.check()?;
        if !is_directory {
            self.entries.push(Entry {
                path: visit.below,
                host: visit.node.host,
                metadata: visit.node.metadata,
                leads: false,
            });
            return Ok(());
        }
        let at = self.entries.len();
        self.entries.push(Entry {
            path: visit.below.clone(),
            host: visit.node.host.clone(),
            metadata: visit.node.metadata.clone(),
            leads: visit.is_left,
        });
        for (name, node) in self.tree.children(&visit.node)? {
            let child = self.child(&visit, &name, node);
            self.visit(child)?;
        }
        // A directory that is out is there only for what is taken from below it.
        if is_out && self.entries.len() == at + 1 {
            self.entries.truncate(at);
        }
        Ok(())
    }

    /// Returns whether something below a directory that is out may not be.
    fn may_take_below(&self, visit: &Visit) -> bool {
        let Rules {
            ignore,
            include,
            exclude,
            stop: _,
        } = self.rules;
        if visit.is_ignored && !ignore.may_keep_below(visit.full.as_os_str()) {
            return false;
        }
        if !visit.is_left {
            return true;
        }
        let below = visit.below.as_os_str();
        let is_asked = include.is_none_or(|rules| rules.may_take_below(below));
        let is_excluded = exclude.judge(below, &Matched::default()).ignored;
        is_asked && (!is_excluded || exclude.may_keep_below(below))
    }

    /// Judges one child.
    fn child(&self, parent: &Visit, name: &OsStr, node: Node) -> Visit {
        // Nothing else asks for it.
        let full = if self.rules.ignore.is_empty() {
            PathBuf::new()
        } else {
            parent.full.join(name)
        };
        let below = parent.below.join(name);
        let [ignored, included, excluded] = &parent.matched;
        let ignored = judge(self.rules.ignore, &full, ignored);
        let excluded = judge(self.rules.exclude, &below, excluded);
        let included = match self.rules.include {
            Some(rules) => judge(rules, &below, included),
            None => (true, Matched::default()),
        };
        Visit {
            full,
            below,
            node,
            is_ignored: ignored.0,
            is_left: excluded.0 || !included.0,
            matched: [ignored.1, included.1, excluded.1],
            depth: parent.depth + 1,
        }
    }
}

/// Judges a path by one set of rules.
fn judge(rules: &IgnoreRules, path: &Path, parent: &Matched) -> (bool, Matched) {
    if rules.is_empty() {
        return (false, Matched::default());
    }
    let verdict = rules.judge(path.as_os_str(), parent);
    (verdict.ignored, verdict.matched)
}
