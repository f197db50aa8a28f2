//! `RUN --mount`, `--network`, `--security` and `--device`: what a step of its own kind of container gets (Dockerfile reference, "RUN
//! --mount" and after; keys, defaults and messages are those of BuildKit's frontend).
//!
//! A mount is text until its step is reached, since its values may have variables: [`MountFlag`] is that text, and
//! [`Mount::parse`] gives it meaning.

use super::super::boolean::parse_bool;
use super::Span;
use super::expand::ExpandError;
use super::nearest;

#[cfg(test)]
mod tests;
mod value;

pub use value::csv_fields;
pub use value::parse_size;
use value::{parse_id, parse_mode};

/// A `--mount` as written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountFlag {
    /// `key` or `key=value`, in order, keys in lower case, values unexpanded.
    pub fields: Vec<(String, Option<String>)>,
    /// Of the flag.
    pub span: Span,
}

impl MountFlag {
    /// Returns the stage or image that it mounts from. It has no variables in it, so that stages are known before any of them runs.
    pub fn from(&self) -> Option<&str> {
        let mut values = self.fields.iter().rev();
        let (_, value) = values.find(|(key, _)| key == "from")?;
        value.as_deref().filter(|from| !from.is_empty())
    }

    /// Splits the value of a `--mount`; refuses what no variable can make right.
    pub fn parse(text: &str, span: Span) -> Result<Self, MountError> {
        let mut fields = Vec::new();
        for field in csv_fields(text)? {
            let (key, value) = match field.split_once('=') {
                Some((key, value)) => (key, Some(value.to_owned())),
                None => (field.as_str(), None),
            };
            let key = key.to_lowercase();
            let has_variable = value
                .as_deref()
                .and_then(|value| value.split_once('$'))
                .is_some_and(|(_, name)| !name.is_empty());
            if key == "from" && has_variable {
                return Err(MountError::FromVariable);
            }
            fields.push((key, value));
        }
        Ok(Self { fields, span })
    }
}

/// A mount of one `RUN`, with everything expanded and every default filled in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Where it is mounted, as written: relative to the working directory, empty for that itself. `None` where only a variable is
    /// given (`type=secret,env=…`).
    pub target: Option<String>,
    /// What.
    pub kind: MountKind,
}

/// What is mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MountKind {
    /// A part of the context, of a stage or of an image; what is written to it is thrown away.
    Bind {
        /// Stage or image; the context where absent.
        from: Option<String>,
        /// Inside it, as written; empty is all of it.
        source: String,
        /// Whether it can be written to.
        writable: bool,
    },
    /// A directory that outlives the build.
    Cache {
        /// What it is known by; the clean target where absent.
        id: Option<String>,
        /// Stage or image whose files it starts with.
        from: Option<String>,
        /// Inside that, or inside the cache; empty is all of it.
        source: String,
        /// What other steps may do meanwhile.
        sharing: Sharing,
        /// Whether it can be written to.
        writable: bool,
        /// Given to it when it is made.
        access: Access,
    },
    /// Memory.
    Tmpfs {
        /// Its limit in bytes; 0 is none.
        size_bytes: u64,
    },
    /// A file or variable of whoever builds, never in the layer or the key.
    Secret {
        /// Which.
        id: String,
        /// The variable that gets it.
        env: Option<String>,
        /// Whether the step fails without it.
        required: bool,
        /// Of the file: 0400, 0:0 by default.
        access: Access,
    },
    /// The socket of an ssh agent.
    Ssh {
        /// Which agent: `default`.
        id: String,
        /// Whether the step fails without it.
        required: bool,
        /// Of the socket: 0600, 0:0 by default.
        access: Access,
    },
}

/// Who else may use a cache while a step does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Sharing {
    /// Everybody.
    #[default]
    Shared,
    /// Nobody: others get a new one.
    Private,
    /// Nobody: others wait.
    Locked,
}

/// Mode and owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Access {
    /// Permission bits; `None` is the kind's usual ones.
    pub mode: Option<u32>,
    /// `None` is 0.
    pub uid: Option<u32>,
    /// `None` is 0.
    pub gid: Option<u32>,
}

/// `RUN --network`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RunNetwork {
    /// That of the build.
    #[default]
    Default,
    /// Only a loopback interface.
    None,
    /// The machine's.
    Host,
}

/// `RUN --security`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RunSecurity {
    /// As containers have it.
    #[default]
    Sandbox,
    /// Every capability, no filter.
    Insecure,
}

/// `RUN --device`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// Name of the Container Device Interface, `vendor/class=name`.
    pub name: String,
    /// Whether the step fails without it.
    pub required: bool,
    /// Of the flag.
    pub span: Span,
}

/// A mount, or a part of it, that says nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MountError {
    /// Quotes that do not fit.
    #[error("failed to parse csv mounts: {0}")]
    Csv(&'static str),
    /// `from=$X`.
    #[error("'from' doesn't support variable expansion, define alias stage instead")]
    FromVariable,
    /// A variable.
    #[error(transparent)]
    Expand(#[from] ExpandError),
    /// A word that is no key.
    #[error("invalid field '{0}' must be a key=value pair")]
    Field(String),
    /// Not a key.
    #[error("unexpected key '{key}' in '{field}'{}", suggestion(near.as_deref()))]
    Key {
        /// As written, in lower case.
        key: String,
        /// With its value.
        field: String,
        /// What may have been meant.
        near: Option<String>,
    },
    /// A key of other mounts.
    #[error("unexpected key '{0}' for mount type '{1}'")]
    KeyOfType(String, &'static str),
    /// Not a type.
    #[error("unsupported mount type \"{0}\"{hint}", hint = suggestion(.1.as_deref()))]
    Type(String, Option<String>),
    /// Not a way to share.
    #[error("unsupported sharing value \"{0}\"{hint}", hint = suggestion(.1.as_deref()))]
    Sharing(String, Option<String>),
    /// `mode`, `uid` or `gid` of a mount that has none.
    #[error("{0} not allowed for \"{1}\" type mounts")]
    NotAllowed(&'static str, &'static str),
    /// A number or truth that is none.
    #[error("invalid value for {0}: {1}")]
    Value(String, String),
    /// `mode`, `uid` or `gid`.
    #[error("invalid value {1} for {0}")]
    Number(&'static str, String),
    /// Keys that do not go together, or are missing.
    #[error("{0}")]
    Together(&'static str),
    /// `sharing` of something else.
    #[error("invalid cache sharing set for {0} mount")]
    NoCache(&'static str),
}

/// Returns ` (did you mean x?)`.
fn suggestion(near: Option<&str>) -> String {
    near.map(|near| format!(" (did you mean {near}?)"))
        .unwrap_or_default()
}

/// The types.
const TYPES: [&str; 5] = ["bind", "cache", "tmpfs", "secret", "ssh"];

/// Every key.
const KEYS: [&str; 19] = [
    "type",
    "from",
    "source",
    "target",
    "readonly",
    "id",
    "sharing",
    "required",
    "size",
    "mode",
    "uid",
    "gid",
    "src",
    "dst",
    "destination",
    "ro",
    "rw",
    "readwrite",
    "env",
];

/// Keys that may stand alone.
const ALONE: [&str; 5] = ["readonly", "ro", "readwrite", "rw", "required"];

/// The values of a mount, before its type says which of them count.
#[derive(Default)]
struct Values {
    from: Option<String>,
    source: Option<String>,
    target: Option<String>,
    read_only: Option<bool>,
    required: Option<bool>,
    size_bytes: Option<u64>,
    id: Option<String>,
    sharing: Option<Sharing>,
    env: Option<String>,
    access: Access,
}

impl Mount {
    /// Gives meaning to a flag: `expand` replaces the variables of one value.
    ///
    /// Keys may stand in any order: BuildKit wants `type` before some others, so that all that it takes is taken.
    pub fn parse(
        flag: &MountFlag,
        expand: &dyn Fn(&str) -> Result<String, ExpandError>,
    ) -> Result<Self, MountError> {
        let mut fields = Vec::new();
        for (key, value) in &flag.fields {
            let value = match value {
                Some(value) if key == "from" => Some(value.clone()),
                Some(value) => Some(expand(value)?),
                None => None,
            };
            fields.push((key.as_str(), value));
        }
        let mut kind = "bind";
        for (_, value) in fields.iter().filter(|(key, _)| *key == "type") {
            let value = value.as_deref().unwrap_or_default();
            let lower = value.to_lowercase();
            let found = TYPES.into_iter().find(|known| *known == lower);
            kind = found.ok_or_else(|| {
                let near = nearest(&lower, TYPES).map(str::to_owned);
                MountError::Type(value.to_owned(), near)
            })?;
        }
        let mut values = Values::default();
        for (key, value) in fields {
            values.take(kind, key, value)?;
        }
        values.finish(kind)
    }
}

impl Values {
    /// Takes one field.
    fn take(
        &mut self,
        kind: &'static str,
        key: &str,
        value: Option<String>,
    ) -> Result<(), MountError> {
        let Some(value) = value else {
            if !ALONE.contains(&key) {
                return Err(MountError::Field(key.to_owned()));
            }
            return self.take_flag(kind, key, true);
        };
        let wrong = || MountError::Value(key.to_owned(), value.clone());
        match key {
            "type" => {}
            "from" => self.from = Some(value).filter(|from| !from.is_empty()),
            "source" | "src" => self.source = Some(value),
            "target" | "dst" | "destination" => self.target = Some(value),
            "id" => self.id = Some(value).filter(|id| !id.is_empty()),
            "env" if kind == "secret" => self.env = Some(value).filter(|name| !name.is_empty()),
            "size" if kind == "tmpfs" => {
                self.size_bytes = Some(parse_size(&value).ok_or_else(wrong)?);
            }
            "env" | "size" => return Err(MountError::KeyOfType(key.to_owned(), kind)),
            "sharing" => self.sharing = Some(parse_sharing(&value)?),
            "mode" => {
                let mode = parse_mode(&value);
                self.access.mode = Some(mode.ok_or(MountError::Number("mode", value))?);
            }
            "uid" => {
                let uid = parse_id(&value);
                self.access.uid = Some(uid.ok_or(MountError::Number("uid", value))?);
            }
            "gid" => {
                let gid = parse_id(&value);
                self.access.gid = Some(gid.ok_or(MountError::Number("gid", value))?);
            }
            key if ALONE.contains(&key) => {
                let is_on = parse_bool(&value).ok_or_else(wrong)?;
                self.take_flag(kind, key, is_on)?;
            }
            _ => {
                return Err(MountError::Key {
                    key: key.to_owned(),
                    field: format!("{key}={value}"),
                    near: nearest(key, KEYS).map(str::to_owned),
                });
            }
        }
        Ok(())
    }

    /// Takes a key that is on or off.
    fn take_flag(&mut self, kind: &'static str, key: &str, is_on: bool) -> Result<(), MountError> {
        match key {
            "readonly" | "ro" => self.read_only = Some(is_on),
            "readwrite" | "rw" => self.read_only = Some(!is_on),
            _ if matches!(kind, "secret" | "ssh") => self.required = Some(is_on),
            _ => return Err(MountError::KeyOfType(key.to_owned(), kind)),
        }
        Ok(())
    }

    /// Checks what goes together, and fills in what is not given.
    fn finish(self, kind: &'static str) -> Result<Mount, MountError> {
        let Access { mode, uid, gid } = self.access;
        if matches!(kind, "bind" | "tmpfs") {
            let given = [("mode", mode), ("uid", uid), ("gid", gid)];
            if let Some((key, _)) = given.into_iter().find(|(_, value)| value.is_some()) {
                return Err(MountError::NotAllowed(key, kind));
            }
        }
        if kind == "secret" {
            return self.finish_secret();
        }
        if self.sharing.is_some() && kind != "cache" {
            return Err(MountError::NoCache(kind));
        }
        let (from, access) = (self.from, self.access);
        let source = self.source.clone().unwrap_or_default();
        let mut target = Some(self.target.clone().unwrap_or_default());
        let kind = match kind {
            "cache" => MountKind::Cache {
                id: self.id,
                from,
                source,
                sharing: self.sharing.unwrap_or_default(),
                writable: !self.read_only.unwrap_or(false),
                access,
            },
            "tmpfs" => MountKind::Tmpfs {
                size_bytes: self.size_bytes.unwrap_or(0),
            },
            "ssh" => {
                if self.source.is_some_and(|source| !source.is_empty()) {
                    return Err(MountError::Together("ssh does not support source"));
                }
                target = self.target.filter(|target| !target.is_empty());
                MountKind::Ssh {
                    id: self.id.unwrap_or_else(|| "default".to_owned()),
                    required: self.required.unwrap_or(false),
                    access,
                }
            }
            _ => MountKind::Bind {
                from,
                source,
                writable: !self.read_only.unwrap_or(true),
            },
        };
        Ok(Mount { target, kind })
    }

    /// Finishes a secret.
    fn finish_secret(self) -> Result<Mount, MountError> {
        let source = self.source.filter(|source| !source.is_empty());
        let target = self.target.filter(|target| !target.is_empty());
        let wrong = |text| Err(MountError::Together(text));
        if self.from.is_some() {
            return wrong("secret mount should not have a from");
        }
        if self.sharing.is_some() {
            return wrong("secret mount should not define sharing");
        }
        let id = match (source, self.id, &target) {
            (Some(_), Some(_), _) => return wrong("both source and id can't be set"),
            (Some(id), None, _) | (None, Some(id), _) => id,
            (None, None, Some(target)) => base_name(target).to_owned(),
            (None, None, None) => {
                return wrong("invalid secret mount. one of source, target required");
            }
        };
        let target = match (target, &self.env) {
            (None, Some(_)) => None,
            (None, None) => Some(format!("/run/secrets/{}", base_name(&id))),
            (target, _) => target,
        };
        Ok(Mount {
            target,
            kind: MountKind::Secret {
                id,
                env: self.env,
                required: self.required.unwrap_or(false),
                access: self.access,
            },
        })
    }
}

/// Returns the last part of a path.
fn base_name(path: &str) -> &str {
    let path = path.trim_end_matches('/');
    path.rsplit('/').next().unwrap_or(path)
}

/// Parses the value of `sharing`.
fn parse_sharing(text: &str) -> Result<Sharing, MountError> {
    match text.to_lowercase().as_str() {
        "shared" => Ok(Sharing::Shared),
        "private" => Ok(Sharing::Private),
        "locked" => Ok(Sharing::Locked),
        other => {
            let near = nearest(other, ["shared", "private", "locked"]);
            Err(MountError::Sharing(
                text.to_owned(),
                near.map(str::to_owned),
            ))
        }
    }
}
