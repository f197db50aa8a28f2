//! Reads a file tree that lies on disk as one directory (a build context) or as a stack of overlay layers, without mounting it.
//!
//! In a layer a character device 0:0 hides the name below it, and a directory with the attribute `trusted.overlay.opaque=y`
//! hides what the layers below have in it (kernel documentation, `filesystems/overlayfs`). Symbolic links resolve inside the
//! tree, absolute ones from its root; nothing outside of it is ever reached through one.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::fs::Metadata;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Component, Path, PathBuf};

/// How many symbolic links one path may go through, as in the kernel.
const MAX_LINKS: usize = 40;

/// A tree to read.
#[derive(Debug, Clone)]
pub struct Tree {
    /// Top first.
    roots: Vec<PathBuf>,
    /// Whether whiteouts and opaque directories mean something.
    layered: bool,
}

/// What one path of a tree is.
#[derive(Debug, Clone)]
pub struct Node {
    /// Where it lies on the host: in the top-most layer that has it.
    pub host: PathBuf,
    /// Of `host`, the link itself if it is one.
    pub metadata: Metadata,
    /// For a directory: where each layer that has a part of it keeps it, top first.
    parts: Vec<PathBuf>,
}

impl Node {
    /// Returns where each layer that has a part of this directory keeps it, top first.
    pub fn parts(&self) -> &[PathBuf] {
        &self.parts
    }
}

/// Where a path leads.
#[derive(Debug, Clone)]
pub struct Resolved {
    /// From the root, without `.`, `..` and symbolic links; empty is the root.
    pub path: PathBuf,
    /// What is there; `None` where nothing is.
    pub node: Option<Node>,
}

/// Whether a link at the end of a path is followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Last {
    /// It is.
    Follow,
    /// It is the result.
    Keep,
}

impl Tree {
    /// Returns the tree of one directory.
    pub fn directory(root: &Path) -> Self {
        Self {
            roots: vec![root.to_owned()],
            layered: false,
        }
    }

    /// Returns the tree that an overlay of `layers` (top first) would show.
    pub fn layers(layers: Vec<PathBuf>) -> Self {
        Self {
            roots: layers,
            layered: true,
        }
    }

    /// Follows `path` from the root.
    pub fn resolve(&self, path: &Path, last: Last) -> io::Result<Resolved> {
        self.resolve_in(&self.root()?, path, last)
    }

    /// Follows `path` from a directory as if that were the root: no link, nor a `..`, leads out of it. What is returned begins there too.
    pub fn resolve_in(&self, root: &Node, path: &Path, last: Last) -> io::Result<Resolved> {
        let mut ahead: VecDeque<OsString> = VecDeque::new();
        push_front(&mut ahead, path);
        // The directories gone through, the root first.
        let mut trail: Vec<(OsString, Node)> = Vec::new();
        // What is not there, below them: `..` leads back out of it, and what follows may be there again.
        let mut absent: Vec<OsString> = Vec::new();
        let mut links = 0;
        while let Some(name) = ahead.pop_front() {
            if name == ".." {
                if absent.pop().is_none() {
                    trail.pop();
                }
                continue;
            }
            if !absent.is_empty() {
                absent.push(name);
                continue;
            }
            let here = trail.last().map_or(root, |(_, node)| node);
            let Some(node) = self.child(here, &name)? else {
                absent.push(name);
                continue;
            };
            if node.metadata.is_symlink() && (!ahead.is_empty() || last == Last::Follow) {
                links += 1;
                if links > MAX_LINKS {
                    return Err(io::Error::other(format!(
                        "too many symbolic links in `{}`",
                        path.display()
                    )));
                }
                let target = fs_err::read_link(&node.host)?;
                if target.is_absolute() {
                    trail.clear();
                }
                push_front(&mut ahead, &target);
                continue;
            }
            if !node.metadata.is_dir() && !ahead.is_empty() {
                return Err(io::Error::new(
                    io::ErrorKind::NotADirectory,
                    format!(
                        "`{}` goes through something that is not a directory",
                        path.display()
                    ),
                ));
            }
            trail.push((name, node));
        }
        let found = trail.iter().map(|(name, _)| name);
        let path = found.chain(&absent).collect();
        let node = trail.pop().map_or_else(|| root.clone(), |(_, node)| node);
        Ok(Resolved {
            path,
            node: absent.is_empty().then_some(node),
        })
    }

    /// Returns what the directory `node` has, in the order of the names.
    pub fn children(&self, node: &Node) -> io::Result<Vec<(OsString, Node)>> {
        if let ([part], false) = (node.parts.as_slice(), self.layered) {
            return children_of(part);
        }
        let mut names = Vec::new();
        for part in &node.parts {
            for entry in fs_err::read_dir(part)? {
                names.push(entry?.file_name());
            }
        }
        names.sort_unstable();
        names.dedup();
        let mut children = Vec::new();
        for name in names {
            if let Some(child) = self.child(node, &name)? {
                children.push((name, child));
            }
        }
        Ok(children)
    }

    /// Returns the root.
    pub fn root(&self) -> io::Result<Node> {
        let Some(first) = self.roots.first() else {
            // An image of no layers: an empty tree. Any directory stands for the root's metadata; none is read.
            return Ok(Node {
                host: PathBuf::from("/"),
                metadata: fs_err::symlink_metadata("/")?,
                parts: Vec::new(),
            });
        };
        Ok(Node {
            host: first.clone(),
            metadata: fs_err::metadata(first)?,
            parts: self.roots.clone(),
        })
    }

    /// Returns what `name` in `directory` is.
    fn child(&self, directory: &Node, name: &OsStr) -> io::Result<Option<Node>> {
        let mut found: Option<Node> = None;
        for part in &directory.parts {
            let host = part.join(name);
            let metadata = match std::fs::symlink_metadata(&host) {
                Ok(metadata) => metadata,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => {
                    let text = format!("read `{}`: {error}", host.display());
                    return Err(io::Error::new(error.kind(), text));
                }
            };
            if self.layered && metadata.file_type().is_char_device() && metadata.rdev() == 0 {
                break;
            }
            if !metadata.is_dir() {
                // Below a directory of a higher layer a file is hidden; else it is what we look for.
                return Ok(Some(found.unwrap_or(Node {
                    host,
                    metadata,
                    parts: Vec::new(),
                })));
            }
            let opaque = self.layered && is_opaque(&host);
            match &mut found {
                Some(node) => node.parts.push(host),
                None => {
                    found = Some(Node {
                        parts: vec![host.clone()],
                        host,
                        metadata,
                    });
                }
            }
            if opaque {
                break;
            }
        }
        Ok(found)
    }
}

/// Returns what a directory of the host has, in the order of the names: each looked at from the open directory, which takes half as long as
/// by its path.
fn children_of(directory: &Path) -> io::Result<Vec<(OsString, Node)>> {
    let mut children = Vec::new();
    for entry in fs_err::read_dir(directory)? {
        let entry = entry?;
        let metadata = match entry.metadata() {
            Ok(metadata) => metadata,
            // Removed since.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        let host = entry.path();
        let parts = if metadata.is_dir() {
            vec![host.clone()]
        } else {
            Vec::new()
        };
        let node = Node {
            host,
            metadata,
            parts,
        };
        children.push((entry.file_name(), node));
    }
    children.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
    Ok(children)
}

/// Returns whether a layer's directory hides what is below it.
fn is_opaque(directory: &Path) -> bool {
    let mut value = [0_u8; 1];
    // No attribute, or a file system without attributes: not opaque.
    rustix::fs::lgetxattr(directory, "trusted.overlay.opaque", &mut value[..]) == Ok(1)
        && value == [b'y']
}

/// Puts the components of `path` in front of what is still ahead.
fn push_front(ahead: &mut VecDeque<OsString>, path: &Path) {
    for component in path.components().rev() {
        match component {
            Component::Normal(name) => ahead.push_front(name.to_owned()),
            Component::ParentDir => ahead.push_front("..".into()),
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// A stack of two layers: below `d/{a,b}`, `f`, `gone`, `hidden/x`; above `d/c` and whiteouts.
    fn layers() -> (tempfile::TempDir, Tree) {
        let temp = tempfile::tempdir().unwrap();
        let (top, bottom) = (temp.path().join("top"), temp.path().join("bottom"));
        for directory in ["top/d", "top/hidden", "bottom/d", "bottom/hidden"] {
            fs_err::create_dir_all(temp.path().join(directory)).unwrap();
        }
        for file in ["d/a", "d/b", "f", "gone", "hidden/x"] {
            fs_err::File::create(bottom.join(file)).unwrap();
        }
        fs_err::File::create(top.join("d/c")).unwrap();
        for whiteout in ["gone", "d/b"] {
            let mode = rustix::fs::Mode::empty();
            let kind = rustix::fs::FileType::CharacterDevice;
            rustix::fs::mknodat(rustix::fs::CWD, top.join(whiteout), kind, mode, 0).unwrap();
        }
        let flags = rustix::fs::XattrFlags::empty();
        rustix::fs::lsetxattr(top.join("hidden"), "trusted.overlay.opaque", b"y", flags).unwrap();
        symlink("/d", bottom.join("abs")).unwrap();
        symlink("../../../etc", bottom.join("out")).unwrap();
        symlink("loop", bottom.join("loop")).unwrap();
        symlink("/nowhere/x", bottom.join("dangling")).unwrap();
        (temp, Tree::layers(vec![top, bottom]))
    }

    #[test]
    fn layers_merge_and_links_stay_inside() {
        let (_temp, tree) = layers();
        let table = [
            ("/d/a", "d/a", true),
            ("d/b", "d/b", false),
            ("/d/c", "d/c", true),
            ("/gone", "gone", false),
            ("/hidden/x", "hidden/x", false),
            ("/abs/a", "d/a", true),
            ("/abs", "d", true),
            ("/out/passwd", "etc/passwd", false),
            ("/../../f", "f", true),
            ("/dangling", "nowhere/x", false),
            ("/new/../f2", "f2", false),
            ("/new/../abs/a", "d/a", true),
            ("/new/x/../../out/y", "etc/y", false),
            ("/new/x/../y", "new/y", false),
            ("/", "", true),
        ];
        for (path, expected, exists) in table {
            let resolved = tree.resolve(Path::new(path), Last::Follow).unwrap();
            assert_eq!(
                (resolved.path, resolved.node.is_some()),
                (PathBuf::from(expected), exists),
                "{path}"
            );
        }
        tree.resolve(Path::new("/loop"), Last::Follow).unwrap_err();
        tree.resolve(Path::new("/f/x"), Last::Follow).unwrap_err();
        let root = tree.root().unwrap();
        let children = tree.children(&root).unwrap().into_iter();
        let names: Vec<_> = children.map(|(name, _)| name).collect();
        assert_eq!(
            names,
            ["abs", "d", "dangling", "f", "hidden", "loop", "out"]
        );
    }
}
