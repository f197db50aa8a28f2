//! Which images a list or a removal is about: `--filter key=value`, as `docker images` and `docker image prune` take it. Pure.

use std::collections::BTreeMap;

use super::build::pattern::{Depth, Pattern};
use super::reference::Reference;
use super::store::Known;

/// One condition.
#[derive(Debug, Clone, PartialEq)]
pub enum Filter {
    /// Whether it has no name.
    Dangling(bool),
    /// Whether it has a label, and which value of it.
    Label {
        /// Name of the label.
        key: String,
        /// Its value; any where unset.
        value: Option<String>,
        /// Whether it must not have it.
        not: bool,
    },
    /// Made before this image (a name or id).
    Before(String),
    /// Made after this image.
    Since(String),
    /// Named like this; of several, like any.
    Reference(Pattern),
    /// Made before this time, nanoseconds since 1970.
    Until(i128),
}

/// A filter that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    /// No `=`.
    #[error("bad format of filter (expected name=value): `{0}`")]
    Format(String),
    /// Not one of this command's.
    #[error("invalid filter '{0}'")]
    Unknown(String),
    /// A value that does not fit.
    #[error("invalid value of filter '{key}': `{value}`")]
    Value {
        /// Which filter.
        key: String,
        /// As given.
        value: String,
    },
}

impl Filter {
    /// Parses `key=value`; `known` are the command's keys, `time` reads a point in time.
    pub fn parse(
        text: &str,
        known: &[&str],
        time: impl Fn(&str) -> Option<i128>,
    ) -> Result<Self, FilterError> {
        let parts = text.split_once('=');
        let (key, value) = parts.ok_or_else(|| FilterError::Format(text.to_owned()))?;
        // `label!=x`
        let key = key.trim().to_ascii_lowercase();
        let value = value.trim();
        if !known.contains(&key.as_str()) {
            return Err(FilterError::Unknown(key));
        }
        let invalid = || FilterError::Value {
            key: key.clone(),
            value: value.to_owned(),
        };
        match key.as_str() {
            "dangling" => match value {
                "true" | "1" => Ok(Self::Dangling(true)),
                "false" | "0" => Ok(Self::Dangling(false)),
                _ => Err(invalid()),
            },
            "label" | "label!" => {
                let (name, wanted) = match value.split_once('=') {
                    Some((name, wanted)) => (name, Some(wanted.to_owned())),
                    None => (value, None),
                };
                Ok(Self::Label {
                    key: name.to_owned(),
                    value: wanted,
                    not: key.ends_with('!'),
                })
            }
            "before" => Ok(Self::Before(value.to_owned())),
            "since" => Ok(Self::Since(value.to_owned())),
            "reference" => Self::reference(value).ok_or_else(invalid),
            "until" => time(value).map(Self::Until).ok_or_else(invalid),
            _ => Err(FilterError::Unknown(key.clone())),
        }
    }

    /// Makes a filter of a pattern of names; `None` where it is none.
    pub fn reference(pattern: &str) -> Option<Self> {
        let pattern = Pattern::compile(pattern, Depth::Flat).ok()?;
        Some(Self::Reference(pattern))
    }
}

/// Returns the images that fit every filter, with the names that fit. `created_ns` finds the image of another filter's value.
pub fn select<E>(
    mut images: Vec<Known>,
    filters: &[Filter],
    mut created_ns: impl FnMut(&str) -> Result<i128, E>,
) -> Result<Vec<Known>, E> {
    let patterns: Vec<&Pattern> = filters
        .iter()
        .filter_map(|filter| match filter {
            Filter::Reference(pattern) => Some(pattern),
            _ => None,
        })
        .collect();
    for filter in filters {
        match filter {
            Filter::Before(image) => {
                let limit = created_ns(image)?;
                images.retain(|known| created_of(known) < limit);
            }
            Filter::Since(image) => {
                let limit = created_ns(image)?;
                images.retain(|known| created_of(known) > limit);
            }
            Filter::Until(limit) => images.retain(|known| created_of(known) < *limit),
            Filter::Dangling(wanted) => images.retain(|known| known.names.is_empty() == *wanted),
            Filter::Label { .. } => {
                let fits = |known: &Known| label_fits(&known.image.config.config.labels, filter);
                images.retain(|known| fits(known).unwrap_or(true));
            }
            Filter::Reference(_) => {}
        }
    }
    if !patterns.is_empty() {
        let fits = |name: &Reference| patterns.iter().any(|pattern| is_like(name, pattern));
        images.retain_mut(|known| {
            known.names.retain(fits);
            known.digests.retain(fits);
            !(known.names.is_empty() && known.digests.is_empty())
        });
    }
    Ok(images)
}

/// Whether a name is like a pattern, with its tag or without (distribution/reference `FamiliarMatch`).
fn is_like(name: &Reference, pattern: &Pattern) -> bool {
    let whole = name.familiar();
    let repository = name.familiar_repository();
    pattern.matches(whole.as_ref()) || pattern.matches(repository.as_ref())
}

/// Whether what has these labels fits a filter; `None` for a filter that is not about labels.
pub fn label_fits(labels: &BTreeMap<String, String>, filter: &Filter) -> Option<bool> {
    let Filter::Label { key, value, not } = filter else {
        return None;
    };
    let found = labels.get(key);
    let has = found.is_some_and(|found| value.as_ref().is_none_or(|value| value == found));
    Some(has != *not)
}

/// Returns when an image was made, nanoseconds since 1970; 0 where nobody knows.
pub fn created_of(known: &Known) -> i128 {
    let created = known.image.config.created.as_deref();
    let time = created.and_then(|text| text.parse::<jiff::Timestamp>().ok());
    time.map_or(0, jiff::Timestamp::as_nanosecond)
}

#[cfg(test)]
mod tests {
    use super::super::manifest::{Descriptor, ImageConfig, OCI_MANIFEST};
    use super::super::reference::Digest;
    use super::super::store::Image;
    use super::*;

    fn known(names: &[&str], created: &str, label: &str) -> Known {
        let digest = Digest::of(created.as_bytes());
        let mut config = ImageConfig {
            created: Some(created.to_owned()),
            ..ImageConfig::default()
        };
        config
            .config
            .labels
            .insert("k".to_owned(), label.to_owned());
        Known {
            id: digest.clone(),
            members: Vec::new(),
            image: Image {
                id: digest.clone(),
                manifest: digest.clone(),
                config,
                layers: Vec::new(),
            },
            descriptor: Descriptor::new(OCI_MANIFEST, digest, 1),
            names: names.iter().map(|name| name.parse().unwrap()).collect(),
            digests: Vec::new(),
            size_bytes: 0,
            tagged: None,
        }
    }

    fn check(filters: &[&str], expected: &str) {
        let images = || {
            vec![
                known(&["a:1", "b/a:2"], "2024-01-03T00:00:00Z", "x"),
                known(&["localhost:5000/c:3"], "2024-01-02T00:00:00Z", "y"),
                known(&[], "2024-01-01T00:00:00Z", "y"),
            ]
        };
        let all = [
            "dangling",
            "label",
            "label!",
            "before",
            "since",
            "reference",
            "until",
        ];
        let time = |text: &str| {
            text.parse::<jiff::Timestamp>()
                .ok()
                .map(jiff::Timestamp::as_nanosecond)
        };
        let filters: Result<Vec<Filter>, FilterError> = filters
            .iter()
            .map(|text| Filter::parse(text, &all, time))
            .collect();
        let created = |asked: &str| {
            let found = images()
                .into_iter()
                .find(|known| known.names.iter().any(|name| name.familiar() == asked));
            found.map(|known| created_of(&known)).ok_or("no such image")
        };
        let shown = match filters {
            Err(error) => error.to_string(),
            Ok(filters) => match select(images(), &filters, created) {
                Err(error) => error.to_owned(),
                Ok(found) => {
                    let names = |known: Known| {
                        known
                            .names
                            .iter()
                            .map(Reference::familiar)
                            .collect::<Vec<_>>()
                            .join(",")
                    };
                    found.into_iter().map(names).collect::<Vec<_>>().join(" ")
                }
            },
        };
        assert_eq!(shown, expected);
    }

    #[test]
    fn filters_as_docker_does() {
        check(&[], "a:1,b/a:2 localhost:5000/c:3 ");
        check(&["dangling=true"], "");
        check(&["dangling=0"], "a:1,b/a:2 localhost:5000/c:3");
        check(&["label=k=y"], "localhost:5000/c:3 ");
        check(&["label!=k=y"], "a:1,b/a:2");
        check(&["label=k", "label=z"], "");
        check(&["before=a:1"], "localhost:5000/c:3 ");
        check(&["since=localhost:5000/c:3"], "a:1,b/a:2");
        check(&["before=a:1", "since=none"], "no such image");
        check(&["until=2024-01-02T00:00:00Z"], "");
        check(&["reference=a"], "a:1");
        check(
            &["reference=*/*:2", "reference=local*/c"],
            "b/a:2 localhost:5000/c:3",
        );
        check(&["reference=*:[0-1]"], "a:1");
        check(&["x=y"], "invalid filter 'x'");
        check(
            &["label"],
            "bad format of filter (expected name=value): `label`",
        );
        check(
            &["dangling=maybe"],
            "invalid value of filter 'dangling': `maybe`",
        );
        check(&["reference=["], "invalid value of filter 'reference': `[`");
        check(
            &["until=tomorrow"],
            "invalid value of filter 'until': `tomorrow`",
        );
    }
}
