//! What is mounted in a service: volumes, binds, memory, secrets and configs.

use super::{Decoder, boolean, items, span_at, text, unsigned};
use crate::spec::diagnostic::Diagnostic;
use crate::spec::model::volume::{FileGrant, Mount, MountSource};
use crate::spec::names::VolumeKey;
use crate::spec::tree::Node;
use crate::spec::units;

impl Decoder<'_> {
    pub(super) fn mount(&mut self, mount: &Node, place: &str) -> Option<Mount> {
        let target = text(mount, "target")?;
        if !target.starts_with('/') {
            self.error(
                span_at(mount, "target"),
                format!("{place}: invalid mount path `{target}`: it must be absolute"),
            );
        }
        let kind = text(mount, "type")?;
        let options = mount.get(&kind);
        if !matches!(kind.as_str(), "bind" | "volume" | "tmpfs") {
            let what = format!("{place}: a mount of type {kind}");
            self.not_yet(span_at(mount, "type"), what);
            return None;
        }
        self.propagation(mount, place);
        let source = match kind.as_str() {
            "bind" => MountSource::Bind {
                source: text(mount, "source")?.into(),
                create_host_path: options
                    .and_then(|bind| boolean(bind, "create_host_path"))
                    .unwrap_or(true),
                propagation: options
                    .and_then(|bind| text(bind, "propagation"))
                    .filter(|propagation| !propagation.is_empty()),
            },
            "volume" => MountSource::Volume {
                source: match text(mount, "source").filter(|source| !source.is_empty()) {
                    // An invalid one is reported as undefined.
                    Some(source) => Some(VolumeKey::new(&source).ok()?),
                    None => None,
                },
                copy: !options
                    .and_then(|volume| boolean(volume, "nocopy"))
                    .unwrap_or_default(),
                subpath: options.and_then(|volume| text(volume, "subpath")),
            },
            _ => MountSource::Tmpfs {
                size_bytes: options.and_then(|tmpfs| self.bytes(tmpfs, "size", place)),
                mode: options.and_then(|tmpfs| unsigned(tmpfs, "mode")),
            },
        };
        Some(Mount {
            source,
            target,
            read_only: boolean(mount, "read_only").unwrap_or_default(),
        })
    }

    /// Reports a propagation that is none.
    pub(super) fn propagation(&mut self, mount: &Node, place: &str) {
        const WORDS: [&str; 6] = [
            "private", "rprivate", "shared", "rshared", "slave", "rslave",
        ];
        let Some(written) = mount.get("bind").and_then(|bind| bind.get("propagation")) else {
            return;
        };
        let word = written.as_str().unwrap_or_default();
        if !word.is_empty() && !WORDS.contains(&word) {
            self.obstacle(
                Diagnostic::error(
                    written.span,
                    format!(
                        "{place}: invalid propagation `{word}`: it must be one of {}",
                        WORDS.join(", ")
                    ),
                )
                .suggest(word, WORDS),
            );
        }
    }

    /// `tmpfs: /target[:option,…]`.
    pub(super) fn tmpfs(&mut self, node: &Node, place: &str) -> Option<Mount> {
        let written = node.as_str()?;
        let (target, options) = written.split_once(':').unwrap_or((written, ""));
        if !target.starts_with('/') {
            self.error(
                node.span,
                format!("{place}: invalid mount path `{target}`: it must be absolute"),
            );
        }
        let (mut size_bytes, mut mode, mut read_only) = (None, None, false);
        for option in options.split(',').filter(|option| !option.is_empty()) {
            let (name, value) = option.split_once('=').unwrap_or((option, ""));
            match name {
                "rw" => read_only = false,
                "ro" => read_only = true,
                "noexec" | "nosuid" | "nodev" => {}
                "size" => {
                    size_bytes =
                        units::parse_bytes(value).and_then(|bytes| u64::try_from(bytes).ok());
                    if size_bytes.is_none() {
                        self.error(node.span, format!("{place}: invalid size `{value}`"));
                    }
                }
                "mode" => {
                    mode = units::parse_mode(value);
                    if mode.is_none() {
                        self.error(node.span, format!("{place}: invalid mode `{value}`"));
                    }
                }
                _ => self.not_yet(node.span, format!("{place}: the option `{option}`")),
            }
        }
        Some(Mount {
            source: MountSource::Tmpfs { size_bytes, mode },
            target: crate::spec::canonical::paths::clean(target),
            read_only,
        })
    }

    /// Decodes `secrets` or `configs` of a service.
    pub(super) fn grants(&mut self, node: &Node, key: &str, place: &str) -> Vec<FileGrant> {
        let directory = if key == "secrets" {
            "/run/secrets/"
        } else {
            "/"
        };
        let mut grants = Vec::new();
        for (index, grant) in items(node, key).enumerate() {
            let Some(source) = text(grant, "source") else {
                continue;
            };
            let target = text(grant, "target").unwrap_or_else(|| source.clone());
            let target = if target.starts_with('/') {
                target
            } else {
                format!("{directory}{target}")
            };
            let mut number = |field: &str| {
                let written = text(grant, field)?;
                let number = written.parse().ok();
                if number.is_none() {
                    let message =
                        format!("{place}.{key}.{index}.{field}: `{written}` is not a number");
                    let hint = "names of the container's users and groups are not known here";
                    self.diagnostics
                        .push(Diagnostic::error(span_at(grant, field), message).hint(hint));
                }
                number
            };
            let (uid, gid) = (number("uid"), number("gid"));
            grants.push(FileGrant {
                source,
                target,
                uid,
                gid,
                mode: text(grant, "mode").and_then(|mode| units::parse_mode(&mode)),
            });
        }
        grants
    }
}
