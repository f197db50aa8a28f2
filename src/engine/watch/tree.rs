//! What was last seen of the watched files. Pure.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// What was seen, by absolute path; the children of a directory follow it.
pub(crate) type Tree = BTreeMap<PathBuf, Node>;

/// One file, directory or link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Node {
    /// A directory.
    Directory {
        /// Permission bits.
        mode: u32,
    },
    /// A regular file.
    File {
        /// Permission bits.
        mode: u32,
        /// What changes when the content does.
        stamp: Stamp,
        /// SHA-256, once it was read.
        hash: Option<[u8; 32]>,
    },
    /// A symbolic link.
    Link {
        /// What it says.
        target: PathBuf,
    },
}

/// What the file system says of a file's content without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    /// In bytes.
    pub(crate) size: u64,
    /// Inode.
    pub(crate) inode: u64,
    /// Modification, nanoseconds since 1970.
    pub(crate) modified_ns: i128,
    /// Change of anything, nanoseconds since 1970.
    pub(crate) changed_ns: i128,
}

impl Node {
    /// Whether a container that has `other` has this too. Where it cannot be told, it has not.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (
                Self::File { mode, stamp, hash },
                Self::File {
                    mode: other_mode,
                    stamp: other_stamp,
                    hash: other_hash,
                },
            ) => {
                let content = match (hash, other_hash) {
                    (Some(hash), Some(other)) => hash == other,
                    _ => stamp == other_stamp,
                };
                mode == other_mode && content
            }
            (one, other) => one == other,
        }
    }
}

/// Returns `path` and all beneath it that a tree has.
pub(crate) fn beneath<'a>(
    tree: &'a Tree,
    path: &'a Path,
) -> impl Iterator<Item = (&'a PathBuf, &'a Node)> {
    tree.range(path.to_path_buf()..)
        .take_while(move |(found, _)| found.starts_with(path))
}

/// Returns the paths that are not the same in both.
pub(crate) fn differing<'a>(one: &'a Tree, other: &'a Tree) -> impl Iterator<Item = &'a PathBuf> {
    let changed = one
        .iter()
        .filter(|(path, node)| other.get(*path).is_none_or(|found| !found.is_same(node)))
        .map(|(path, _)| path);
    let gone = other.keys().filter(|path| !one.contains_key(*path));
    changed.chain(gone)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(size: u64, hash: Option<u8>) -> Node {
        Node::File {
            mode: 0o644,
            stamp: Stamp {
                size,
                inode: 1,
                modified_ns: 0,
                changed_ns: 0,
            },
            hash: hash.map(|byte| [byte; 32]),
        }
    }

    #[test]
    fn content_decides_and_stamps_where_it_is_not_known() {
        let directory = Node::Directory { mode: 0o755 };
        let rows = [
            (file(1, Some(1)), file(2, Some(1)), true),
            (file(1, Some(1)), file(1, Some(2)), false),
            (file(1, None), file(1, Some(2)), true),
            (file(1, None), file(2, Some(2)), false),
            (file(1, None), directory.clone(), false),
            (directory.clone(), directory, true),
        ];
        for (one, other, expected) in rows {
            assert_eq!(one.is_same(&other), expected, "{one:?} {other:?}");
        }
    }

    #[test]
    fn a_directory_is_followed_by_what_is_in_it_and_nothing_else() {
        let names = ["/p", "/p/a", "/p/a/b", "/p/a-b", "/p/ab"];
        let tree: Tree = names
            .iter()
            .map(|name| (PathBuf::from(name), file(1, None)))
            .collect();
        let found: Vec<_> = beneath(&tree, Path::new("/p/a"))
            .map(|(path, _)| path.to_str().unwrap())
            .collect();
        assert_eq!(found, ["/p/a", "/p/a/b"]);
    }

    #[test]
    fn trees_differ_where_one_has_what_the_other_has_not() {
        let tree = |names: &[(&str, u64)]| -> Tree {
            names
                .iter()
                .map(|(name, size)| (PathBuf::from(name), file(*size, None)))
                .collect()
        };
        let (one, other) = (
            tree(&[("a", 1), ("b", 1), ("c", 1)]),
            tree(&[("a", 1), ("b", 2), ("d", 1)]),
        );
        let found: Vec<_> = differing(&one, &other)
            .map(|path| path.to_str().unwrap())
            .collect();
        assert_eq!(found, ["b", "c", "d"]);
    }
}
