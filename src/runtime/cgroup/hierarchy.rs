//! Which hierarchies a host has. Pure.

use std::path::PathBuf;

/// The two interfaces of the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Version {
    /// A hierarchy for one or a few controllers.
    V1,
    /// The unified hierarchy.
    V2,
}

/// A mounted hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hierarchy {
    /// Where it is mounted.
    pub(crate) mount: PathBuf,
    /// Its interface.
    pub(crate) version: Version,
    /// Its controllers; `name=systemd` for one without.
    pub(crate) controllers: Vec<String>,
}

/// Finds the hierarchies in the text of /proc/self/mountinfo (`man 5 proc`); v2 controllers are filled in by the caller.
///
/// Of several mounts of one hierarchy the first counts.
pub(crate) fn parse_hierarchies(mountinfo: &str) -> Vec<Hierarchy> {
    let mut found: Vec<Hierarchy> = Vec::new();
    for line in mountinfo.lines() {
        let Some((place, kind)) = line.split_once(" - ") else {
            continue;
        };
        let Some(mount) = place.split(' ').nth(4).map(unescape) else {
            continue;
        };
        let mut kind = kind.split(' ');
        let (version, options) = match (kind.next(), kind.next(), kind.next()) {
            (Some("cgroup"), _, Some(options)) => (Version::V1, options),
            (Some("cgroup2"), ..) => (Version::V2, ""),
            _ => continue,
        };
        let no_controllers = [
            "rw",
            "ro",
            "xattr",
            "clone_children",
            "noprefix",
            "none",
            "",
        ];
        let controllers: Vec<String> = options
            .split(',')
            .filter(|option| {
                !no_controllers.contains(option) && !option.starts_with("release_agent=")
            })
            .map(str::to_owned)
            .collect();
        let known = found
            .iter()
            .any(|known| known.version == version && known.controllers == controllers);
        if !known {
            found.push(Hierarchy {
                mount: mount.into(),
                version,
                controllers,
            });
        }
    }
    found
}

/// Undoes `\040` and its like.
fn unescape(text: &str) -> String {
    text.replace("\\040", " ")
        .replace("\\011", "\t")
        .replace("\\134", "\\")
}

/// Returns where the process of that /proc/PID/cgroup is in a hierarchy: lines are `id:controller,controller:path`.
pub(super) fn place_in<'a>(own: &'a str, hierarchy: &Hierarchy) -> Option<&'a str> {
    own.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':');
        let (_, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
        let same = match hierarchy.version {
            Version::V2 => controllers.is_empty(),
            Version::V1 => {
                !controllers.is_empty()
                    && controllers
                        .split(',')
                        .all(|controller| hierarchy.controllers.iter().any(|own| own == controller))
            }
        };
        same.then_some(path)
    })
}
