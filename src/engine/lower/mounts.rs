//! Mounts, anonymous volumes, secrets and configs.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use super::{Input, LowerError};
use crate::images::manifest::RunConfig;
use crate::runtime::config as runtime;
use crate::spec::model::service::Service;
use crate::spec::model::volume::{FileGrant, FileObject, MountSource};

/// Permission bits of a secret or a config where the file does not say (compose-spec 05-services.md#secrets).
const FILE_MODE: u32 = 0o444;

/// Data directories of the volumes that one container mounts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VolumePaths {
    /// Of named volumes, by key.
    pub named: BTreeMap<String, PathBuf>,
    /// Of anonymous volumes, by target.
    pub anonymous: BTreeMap<String, PathBuf>,
}

/// Returns the targets at which a container of `service` needs an anonymous volume: volumes without a source, and the
/// image's `VOLUME`s that nothing else is mounted on.
pub fn anonymous_targets(service: &Service, image: &RunConfig) -> BTreeSet<String> {
    let taken: BTreeSet<&str> = service
        .volumes
        .iter()
        .map(|mount| trimmed(&mount.target))
        .collect();
    let unnamed = service
        .volumes
        .iter()
        .filter(|mount| matches!(mount.source, MountSource::Volume { source: None, .. }));
    let of_image = image
        .volumes
        .iter()
        .filter(|target| !taken.contains(trimmed(target)));
    unnamed
        .map(|mount| mount.target.clone())
        .chain(of_image.cloned())
        .collect()
}

/// Drops trailing slashes: `/data/` and `/data` are one place.
fn trimmed(target: &str) -> &str {
    let shorter = target.trim_end_matches('/');
    if shorter.is_empty() { "/" } else { shorter }
}

/// Returns the mounts of a container, parents before what is mounted beneath them.
pub fn mounts(
    service: &Service,
    image: &RunConfig,
    volumes: &VolumePaths,
) -> Result<Vec<runtime::Mount>, LowerError> {
    let mut mounts = Vec::new();
    for (index, mount) in service.volumes.iter().enumerate() {
        let field = format!("volumes.{index}");
        let source = match &mount.source {
            MountSource::Bind {
                source,
                propagation,
                ..
            } => runtime::MountSource::Bind {
                path: source.clone(),
                propagation: propagation.clone().unwrap_or_else(|| "rprivate".to_owned()),
            },
            MountSource::Volume {
                source,
                copy,
                subpath,
            } => {
                let directory = match source {
                    Some(key) => volumes.named.get(key.as_str()),
                    None => volumes.anonymous.get(&mount.target),
                };
                let directory =
                    directory.ok_or_else(|| LowerError::new(&field, "the volume was not made"))?;
                runtime::MountSource::Volume {
                    path: directory.clone(),
                    subpath: subpath.as_ref().map(PathBuf::from),
                    copy_up: *copy && subpath.is_none(),
                }
            }
            MountSource::Tmpfs { size_bytes, mode } => runtime::MountSource::Tmpfs {
                size_bytes: *size_bytes,
                mode: *mode,
                executable: false,
            },
        };
        mounts.push(runtime::Mount {
            target: mount.target.clone(),
            source,
            read_only: mount.read_only,
        });
    }
    let named: BTreeSet<&str> = service
        .volumes
        .iter()
        .map(|mount| trimmed(&mount.target))
        .collect();
    for target in image
        .volumes
        .iter()
        .filter(|target| !named.contains(trimmed(target)))
    {
        let path = volumes.anonymous.get(target);
        let path = path.ok_or_else(|| {
            LowerError::new("image", format!("its volume `{target}` was not made"))
        })?;
        let source = runtime::MountSource::Volume {
            path: path.clone(),
            subpath: None,
            copy_up: true,
        };
        mounts.push(runtime::Mount {
            target: target.clone(),
            source,
            read_only: false,
        });
    }
    mounts.sort_by_key(|mount| trimmed(&mount.target).matches('/').count());
    Ok(mounts)
}

/// Returns the secrets and configs of a container.
pub fn files(input: &Input<'_>) -> Result<Vec<runtime::InjectedFile>, LowerError> {
    let (stack, service) = (input.stack, input.service);
    let secrets = service.secrets.iter().enumerate().map(|(index, grant)| {
        (
            format!("secrets.{index}"),
            grant,
            stack.secrets.get(&grant.source),
        )
    });
    let configs = service.configs.iter().enumerate().map(|(index, grant)| {
        (
            format!("configs.{index}"),
            grant,
            stack.configs.get(&grant.source),
        )
    });
    secrets
        .chain(configs)
        .map(|(field, grant, object)| file(&field, grant, object, input))
        .collect()
}

/// Returns one secret or config.
fn file(
    field: &str,
    grant: &FileGrant,
    object: Option<&FileObject>,
    input: &Input<'_>,
) -> Result<runtime::InjectedFile, LowerError> {
    let origin = match object {
        None => {
            return Err(LowerError::new(
                field,
                format!("`{}` is not defined", grant.source),
            ));
        }
        Some(FileObject::File(path)) => match input.contents.get(path) {
            Some(text) if grant.uid.is_some() || grant.gid.is_some() || grant.mode.is_some() => {
                runtime::FileOrigin::Content(text.clone())
            }
            _ => runtime::FileOrigin::HostFile(path.clone()),
        },
        Some(FileObject::Content(text)) => runtime::FileOrigin::Content(text.clone()),
        Some(FileObject::Environment(name)) => {
            let value = input.environment.get(name).ok_or_else(|| {
                let problem = format!(
                    "`{}` comes from the variable `{name}`, which is not set",
                    grant.source
                );
                LowerError::new(field, problem)
            })?;
            runtime::FileOrigin::Content(value.clone())
        }
    };
    Ok(runtime::InjectedFile {
        target: grant.target.clone(),
        origin,
        uid: grant.uid.unwrap_or(0),
        gid: grant.gid.unwrap_or(0),
        mode: grant.mode.unwrap_or(FILE_MODE),
    })
}
