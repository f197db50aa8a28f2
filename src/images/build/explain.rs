//! Why a step is not in the cache: what in its key is not as it was when the same place of the same Dockerfile was last done.
//!
//! ```text
//! <root>/cache/why/<place, 64 hex>     JSON: [["command", "…"], ["environment", "A=1\n"], …], the parts of the key
//! ```
//!
//! A place is context, Dockerfile, stage and number of the step. Written whenever a step is done; read only for `--explain`.

use std::io;
use std::path::{Path, PathBuf};

use super::cache::{FinishedKey, Key, Part};
use crate::sys::atomic::{self, Durability};

/// Where a step stands.
#[derive(Debug, Clone, Copy)]
pub(super) struct StepPlace<'a> {
    /// The context.
    pub(super) context: &'a Path,
    /// As messages show it.
    pub(super) dockerfile: &'a Path,
    /// The stage's name.
    pub(super) stage: &'a str,
    /// From 1.
    pub(super) number: usize,
}

impl StepPlace<'_> {
    /// Returns the file of the place below `cache/why`.
    fn file(&self, directory: &Path) -> PathBuf {
        let Self {
            context,
            dockerfile,
            stage,
            number,
        } = self;
        let key = Key::new("place", &[])
            .with("context", &context.to_string_lossy())
            .with("file", &dockerfile.to_string_lossy())
            .with("stage", stage)
            .with("number", &number.to_string());
        directory.join(key.finish().hex)
    }
}

/// Remembers what a step was done with.
pub(super) fn write(directory: &Path, place: StepPlace<'_>, key: &FinishedKey) -> io::Result<()> {
    let parts = key.parts.iter();
    let parts: Vec<(&str, &str)> = parts.map(|part| (part.name, part.value.as_str())).collect();
    let bytes = serde_json::to_vec(&parts).map_err(io::Error::other)?;
    fs_err::create_dir_all(directory)?;
    atomic::write(&place.file(directory), &bytes, 0o600, Durability::Cached)
}

/// Says what changed from the last time.
pub(super) fn explain(
    directory: &Path,
    place: StepPlace<'_>,
    key: &FinishedKey,
) -> io::Result<String> {
    let bytes = match fs_err::read(place.file(directory)) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Ok("it was never done here".to_owned());
        }
        Err(error) => return Err(error),
    };
    let before: Vec<(String, String)> = serde_json::from_slice(&bytes).unwrap_or_default();
    Ok(difference(&before, &key.parts))
}

/// Says which part is the first that differs.
fn difference(before: &[(String, String)], now: &[Part]) -> String {
    for (index, part) in now.iter().enumerate() {
        match before.get(index) {
            Some((name, value)) if name == part.name && *value == part.value => {}
            Some((name, value)) if name == part.name => {
                return match first_changed(value, &part.value) {
                    Some(variable) if part.name == "environment" => {
                        format!("{}: `{variable}` changed", part.name)
                    }
                    _ => format!("{} changed", part.name),
                };
            }
            _ => return format!("{} is new", part.name),
        }
    }
    match before.get(now.len()) {
        Some((name, _)) => format!("{name} is gone"),
        None => "its result is not in the store any more".to_owned(),
    }
}

/// Returns the name of the first `NAME=value` line that differs.
fn first_changed(before: &str, now: &str) -> Option<String> {
    let (mut old, mut new) = (before.lines(), now.lines());
    loop {
        let line = match (old.next(), new.next()) {
            (Some(old), Some(new)) if old == new => continue,
            (_, Some(new)) => new,
            (Some(old), None) => old,
            (None, None) => return None,
        };
        return Some(line.split('=').next().unwrap_or_default().to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::reference::Digest;
    use super::*;

    fn key(layer: &[u8], command: &str, env: &[&str], network: Option<&str>) -> FinishedKey {
        let key = Key::new("run", &[Digest::of(layer)])
            .with_all("command", &[command])
            .with_all("environment", env);
        match network {
            Some(network) => key.with("network", network).finish(),
            None => key.finish(),
        }
    }

    #[test]
    fn the_first_difference_is_told() {
        let temp = tempfile::tempdir().unwrap();
        let place = StepPlace {
            context: Path::new("/c"),
            dockerfile: Path::new("/c/Dockerfile"),
            stage: "a",
            number: 2,
        };
        let before = key(b"1", "make", &["A=1", "B=2"], Some("none"));
        let ask = |key: &FinishedKey| explain(temp.path(), place, key).unwrap();
        assert_eq!(ask(&before), "it was never done here");
        write(temp.path(), place, &before).unwrap();
        let table = [
            (
                key(b"1", "make", &["A=1", "B=2"], Some("none")),
                "its result is not in the store any more",
            ),
            (
                key(b"2", "other", &["A=1", "B=2"], Some("none")),
                "layers below changed",
            ),
            (
                key(b"1", "other", &["A=1", "B=2"], Some("none")),
                "command changed",
            ),
            (
                key(b"1", "make", &["A=1", "B=3"], Some("none")),
                "environment: `B` changed",
            ),
            (
                key(b"1", "make", &["A=1"], Some("none")),
                "environment: `B` changed",
            ),
            (key(b"1", "make", &["A=1", "B=2"], None), "network is gone"),
        ];
        for (key, expected) in table {
            assert_eq!(ask(&key), expected);
        }
        let elsewhere = StepPlace { number: 3, ..place };
        assert_eq!(
            explain(temp.path(), elsewhere, &before).unwrap(),
            "it was never done here"
        );
    }
}
