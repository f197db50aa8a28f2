//! Why a step is not in the cache: what in its key is not as it was when the same place of the same Dockerfile was last done.
//!
//! ```text
//! <root>/cache/why/<place, 64 hex>     JSON: [[["command", "…"], ["environment digests", "A=6b86b273\n"], …], …], the parts of its last keys
//! ```
//!
//! Several keys, because who tries something and goes back to what was before must not be told of the difference to the trial:
//! what is said is the difference to the key that is most like the new one.
//!
//! A place is context, Dockerfile, stage and number of the step. Written whenever a step is done; read only for `--explain`.

use std::io;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::cache::{FinishedKey, Key};
use super::context::hex;
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
    pub(super) fn file(&self, directory: &Path) -> PathBuf {
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

/// Keys that are remembered of a place.
const REMEMBERED: usize = 8;

/// The parts of a key, by name.
type Parts = Vec<(String, String)>;

/// Remembers in the file of its place what a step was done with.
pub(super) fn write(file: &Path, key: &FinishedKey) -> io::Result<()> {
    let parts = kept(key);
    let mut known = read(file)?;
    known.retain(|other| *other != parts);
    known.push(parts);
    let superfluous = known.len().saturating_sub(REMEMBERED);
    let newest = known.get(superfluous..).unwrap_or_default();
    let bytes = serde_json::to_vec(newest).map_err(io::Error::other)?;
    if let Some(directory) = file.parent() {
        fs_err::create_dir_all(directory)?;
    }
    atomic::write(file, &bytes, 0o600, Durability::Cached)
}

/// Says what changed from the last time.
pub(super) fn explain(file: &Path, key: &FinishedKey) -> io::Result<String> {
    let known = read(file)?;
    let now = kept(key);
    // The last of those that are equally like it: the newest.
    let closest = known.iter().max_by_key(|before| likeness(before, &now));
    Ok(closest.map_or_else(
        || "it was never done here".to_owned(),
        |before| difference(before, &now),
    ))
}

/// Name of the part that holds variables.
const ENVIRONMENT: &str = "environment";
/// Under which it is kept: without their values, of which a build argument's may be a password.
const DIGESTS: &str = "environment digests";

/// Returns what is kept of a key.
fn kept(key: &FinishedKey) -> Parts {
    let parts = key.parts.iter();
    parts
        .map(|part| without_values(part.name.to_owned(), part.value.clone()))
        .collect()
}

/// Returns a part with digests of the values of variables, too short to tell what they were.
fn without_values(name: String, value: String) -> (String, String) {
    if name != ENVIRONMENT {
        return (name, value);
    }
    let digest = |text: &str| {
        let hex = hex(&Sha256::digest(text.as_bytes()));
        hex.get(..8).unwrap_or_default().to_owned()
    };
    let mut digests = String::new();
    for line in value.lines() {
        match line.split_once('=') {
            Some((name, value)) => {
                digests.push_str(name);
                digests.push('=');
                digests.push_str(&digest(value));
            }
            // Of a value with several lines.
            None => digests.push_str(&digest(line)),
        }
        digests.push('\n');
    }
    (DIGESTS.to_owned(), digests)
}

/// Returns the keys that a place was last done with, the newest last.
fn read(file: &Path) -> io::Result<Vec<Parts>> {
    match fs_err::read(file) {
        Ok(bytes) => {
            let known: Vec<Parts> = serde_json::from_slice(&bytes).unwrap_or_default();
            let known = known.into_iter().map(|parts| {
                // Earlier versions kept the values.
                let parts = parts.into_iter();
                parts
                    .map(|(name, value)| without_values(name, value))
                    .collect()
            });
            Ok(known.collect())
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// Returns how many parts of two keys are the same, less those that only one has.
fn likeness(before: &Parts, now: &Parts) -> isize {
    let same = before.iter().zip(now);
    let same = same.filter(|(before, now)| before == now);
    let more = before.len().abs_diff(now.len());
    same.count().cast_signed() - more.cast_signed()
}

/// Says which part is the first that differs.
fn difference(before: &Parts, now: &Parts) -> String {
    for (index, part) in now.iter().enumerate() {
        let name = shown(&part.0);
        match before.get(index) {
            Some(before) if before == part => {}
            Some((before, value)) if *before == part.0 => {
                return match first_changed(value, &part.1) {
                    Some(variable) if part.0 == DIGESTS => {
                        format!("{name}: `{variable}` changed")
                    }
                    _ => format!("{name} changed"),
                };
            }
            _ => return format!("{name} is new"),
        }
    }
    match before.get(now.len()) {
        Some((name, _)) => format!("{} is gone", shown(name)),
        None => "its result is not in the store any more".to_owned(),
    }
}

/// Returns how a part is named for people.
fn shown(name: &str) -> &str {
    if name == DIGESTS { ENVIRONMENT } else { name }
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
        let file = place.file(temp.path());
        let ask = |key: &FinishedKey| explain(&file, key).unwrap();
        assert_eq!(ask(&before), "it was never done here");
        // As an earlier version kept it.
        let earlier = [before
            .parts
            .iter()
            .map(|part| (part.name, &part.value))
            .collect::<Vec<_>>()];
        fs_err::write(&file, serde_json::to_vec(&earlier).unwrap()).unwrap();
        write(&file, &before).unwrap();
        let text = fs_err::read_to_string(&file).unwrap();
        assert!(
            !text.contains("A=1") && text.contains("[\"environment digests\",\"A="),
            "{text}"
        );
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
            explain(&elsewhere.file(temp.path()), &before).unwrap(),
            "it was never done here"
        );
    }

    #[test]
    fn the_difference_is_to_the_key_that_is_most_like_the_new_one() {
        let temp = tempfile::tempdir().unwrap();
        let place = StepPlace {
            context: Path::new("/c"),
            dockerfile: Path::new("/c/Dockerfile"),
            stage: "a",
            number: 2,
        };
        let file = place.file(temp.path());
        let ask = |key: &FinishedKey| explain(&file, key).unwrap();
        // Something was tried, and taken back: what is cached below is as before the trial.
        write(&file, &key(b"1", "make", &["A=1"], None)).unwrap();
        write(&file, &key(b"2", "make", &["A=1"], None)).unwrap();
        assert_eq!(
            ask(&key(b"1", "make", &["A=2"], None)),
            "environment: `A` changed"
        );
        assert_eq!(
            ask(&key(b"3", "make", &["A=1"], None)),
            "layers below changed"
        );
        // No more than some are kept, and none twice.
        for layer in 0..20 {
            let again = key(&[layer], "make", &[], None);
            write(&file, &again).unwrap();
            write(&file, &again).unwrap();
        }
        let known = read(&file).unwrap();
        assert_eq!(known.len(), REMEMBERED);
        let last = key(&[19], "make", &[], None);
        assert_eq!(known.last().unwrap()[1].1, last.parts[1].value);
    }
}
