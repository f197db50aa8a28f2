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

/// Whether `pattern` is `name`, or matches the whole of it: `*` for any text, `?` for one character, `[a-z]` and `[^a-z]` for
/// one of a class, a backslash before what stands for itself (Go `filepath.Match`). A broken pattern matches nothing.
pub fn matches(pattern: &str, name: &str) -> bool {
    pattern == name || glob(pattern, name).unwrap_or_default()
}

/// Matches a pattern; `None` where it is broken.
fn glob(pattern: &str, name: &str) -> Option<bool> {
    let (pattern, name): (Vec<char>, Vec<char>) =
        (pattern.chars().collect(), name.chars().collect());
    let (mut at, mut next) = (0, 0);
    // Where the last `*` stands, and where what it took ends: only that one needs to be tried again.
    let mut star: Option<(usize, usize)> = None;
    loop {
        let taken = match pattern.get(at) {
            Some('*') => {
                star = Some((at, next));
                at += 1;
                continue;
            }
            None if next == name.len() => return Some(true),
            None => None,
            Some(_) => {
                let (width, takes) = one(&pattern[at..], name.get(next).copied())?;
                takes.then_some(width)
            }
        };
        if let Some(width) = taken {
            at += width;
            next += 1;
            continue;
        }
        match &mut star {
            Some((begun, end)) if *end < name.len() => {
                *end += 1;
                (at, next) = (*begun + 1, *end);
            }
            _ => return Some(false),
        }
    }
}

/// Returns how many characters of a pattern stand for the one in hand, and whether that is one of theirs.
fn one(pattern: &[char], c: Option<char>) -> Option<(usize, bool)> {
    match pattern.first()? {
        '?' => Some((1, c.is_some())),
        '\\' => Some((2, c == Some(*pattern.get(1)?))),
        '[' => {
            let mut at = 1;
            let negated = pattern.get(at) == Some(&'^');
            at += usize::from(negated);
            let mut found = false;
            let first = at;
            while pattern.get(at) != Some(&']') || at == first {
                let low = class_end(pattern, &mut at)?;
                let high = if pattern.get(at) == Some(&'-') {
                    at += 1;
                    class_end(pattern, &mut at)?
                } else {
                    low
                };
                found |= c.is_some_and(|c| (low..=high).contains(&c));
            }
            Some((at + 1, c.is_some() && found != negated))
        }
        literal => Some((1, c == Some(*literal))),
    }
}

/// Reads one end of a range of a class.
fn class_end(pattern: &[char], at: &mut usize) -> Option<char> {
    let mut c = *pattern.get(*at)?;
    if c == '-' || c == ']' {
        return None;
    }
    if c == '\\' {
        *at += 1;
        c = *pattern.get(*at)?;
    }
    *at += 1;
    Some(c)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_of_names() {
        let rows = [
            ("web", "web", true),
            ("web", "web1", false),
            ("*", "", true),
            ("*", "web", true),
            ("web*", "web-1", true),
            ("*b", "webb", true),
            ("w*b*1", "web-b-1", true),
            ("w*b*2", "web-b-1", false),
            ("w?b", "web", true),
            ("w?b", "wb", false),
            ("?", "", false),
            ("[a-c]1", "b1", true),
            ("[^a-c]1", "b1", false),
            ("[^a-c]1", "d1", true),
            ("[ab-]1", "a1", false),
            ("[\\-]1", "-1", true),
            ("[a", "a", false),
            ("[]a]", "a", false),
            ("\\*", "*", true),
            ("\\*", "a", false),
            ("a\\", "a", false),
            ("***a", "bca", true),
        ];
        for (pattern, name, expected) in rows {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }
}
