//! Identifiers that cross rooms, each checked once when it is made.

use std::fmt;

macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// Returns the name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    };
}

name_type! {
    /// A project: `[a-z0-9][a-z0-9_-]*` (compose-spec 04-version-and-name.md).
    ProjectName
}
name_type! {
    /// A service: `[a-zA-Z0-9._-]+` (compose-spec 05-services.md).
    ServiceName
}
name_type! {
    /// A key under the top-level `networks`, not the network's name on the machine.
    NetworkKey
}
name_type! {
    /// A key under the top-level `volumes`, not the volume's name on the machine.
    VolumeKey
}

/// A name that breaks its rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} `{name}` is not valid: {rule}")]
pub struct NameError {
    what: &'static str,
    name: String,
    rule: &'static str,
}

impl ProjectName {
    /// Checks `name`.
    pub fn new(name: &str) -> Result<Self, NameError> {
        let first = name
            .bytes()
            .next()
            .is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        let rest = name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'-');
        if first && rest {
            return Ok(Self(name.to_owned()));
        }
        Err(NameError {
            what: "project name",
            name: name.to_owned(),
            rule: "it must consist only of lowercase alphanumeric characters, hyphens, and underscores, \
                   and start with a letter or number",
        })
    }

    /// Makes a valid name of a directory's or a file's name, as Docker Compose does: lower case, other characters
    /// dropped, leading `_` and `-` dropped.
    pub fn normalized(text: &str) -> Result<Self, NameError> {
        let kept: String = text
            .to_lowercase()
            .chars()
            .filter(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || *c == '_' || *c == '-')
            .collect();
        Self::new(kept.trim_start_matches(['_', '-']))
    }
}

/// Whether `name` is `[a-zA-Z0-9._-]+`, the rule for keys of services, networks, volumes, secrets and configs.
fn is_key(name: &str) -> bool {
    !name.is_empty()
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}

macro_rules! key_constructor {
    ($name:ident, $what:literal) => {
        impl $name {
            /// Checks `name`.
            pub fn new(name: &str) -> Result<Self, NameError> {
                if is_key(name) {
                    return Ok(Self(name.to_owned()));
                }
                Err(NameError {
                    what: $what,
                    name: name.to_owned(),
                    rule: "it must match [a-zA-Z0-9._-]+",
                })
            }
        }
    };
}

key_constructor!(ServiceName, "service name");
key_constructor!(NetworkKey, "network key");
key_constructor!(VolumeKey, "volume key");
