//! Where everything is kept.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The two directories of one instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Roots {
    /// What survives a boot: images, volumes, records.
    pub root: PathBuf,
    /// What a boot empties: sockets, live state.
    pub run: PathBuf,
}

impl Roots {
    /// Chooses from `--root`, then `STACK_ROOT` and `STACK_RUN`, then the defaults of the user.
    ///
    /// `--root DIR` sets both beneath one directory: `DIR/lib` and `DIR/run`.
    pub fn choose(
        flag: Option<&Path>,
        environment: &BTreeMap<String, String>,
        is_root: bool,
    ) -> Self {
        if let Some(directory) = flag {
            return Self {
                root: directory.join("lib"),
                run: directory.join("run"),
            };
        }
        let set = |name: &str| {
            environment
                .get(name)
                .filter(|value| !value.is_empty())
                .map(PathBuf::from)
        };
        let home = set("HOME").unwrap_or_else(|| PathBuf::from("/"));
        let (root, run) = if is_root {
            (PathBuf::from("/var/lib/stack"), PathBuf::from("/run/stack"))
        } else {
            let data = set("XDG_DATA_HOME").unwrap_or_else(|| home.join(".local/share"));
            let runtime = set("XDG_RUNTIME_DIR").unwrap_or_else(|| PathBuf::from("/tmp"));
            (data.join("stack"), runtime.join("stack"))
        };
        Self {
            root: set("STACK_ROOT").unwrap_or(root),
            run: set("STACK_RUN").unwrap_or(run),
        }
    }
}
