//! A container's record.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::{LinuxHost, of_service, runtime_id};
use crate::engine::annotations::Annotations;
use crate::engine::etc::Resolver;
use crate::engine::host::HostResult;
use crate::engine::lower::mounts::VolumePaths;
use crate::engine::lower::{self, LowerError};
use crate::images::Image;
use crate::plan::action::ContainerSpec;
use crate::plan::observed::ContainerId;
use crate::runtime::config as runtime;
use crate::spec::model::Stack;
use crate::spec::model::service::Service;
use crate::spec::model::volume::MountSource;
use crate::sys::atomic::Durability;
use crate::sys::random;

/// Label of a volume that nobody named, as Docker's.
const ANONYMOUS: &str = "com.docker.volume.anonymous";

impl LinuxHost<'_> {
    /// Makes a container, not started.
    pub(super) fn create(
        &self,
        spec: &ContainerSpec,
        network_of: Option<&ContainerId>,
    ) -> HostResult<runtime::ContainerId> {
        let stack = self.stack()?;
        let service = stack
            .services
            .get(&spec.service)
            .ok_or_else(|| format!("service `{}` is not in the file", spec.service))?;
        let image = self.engine.images.find(&spec.image_id)?;
        let image =
            image.ok_or_else(|| format!("image `{}` ({}) is gone", spec.image, spec.image_id))?;
        make_bind_sources(service)?;
        let id = crate::runtime::random_id()?;
        let paths = self.volume_paths(stack, service, &image, spec)?;
        let annotations = annotations(stack, service, spec, &id, &paths, network_of);
        let network_owner = network_of.map(runtime_id).transpose()?;
        let input = lower::Input {
            stack,
            service,
            name: &spec.name,
            short_id: id.short(),
            labels: labels(&image, spec),
            annotations: serde_json::to_value(&annotations)?,
            image: runtime::ImageUse {
                reference: spec.image.clone(),
                id: image.id.to_string(),
                layers: self.engine.images.layer_directories(&image),
            },
            defaults: &image.config.config,
            volumes: &paths.directories,
            seccomp_profile: read_seccomp_profile(stack, service)?,
            network_owner,
            environment: &self.engine.environment,
        };
        let config = lower::container(input).map_err(|error| of_service(&spec.service, error))?;
        // The lease comes first: a layer without a container costs room, a container without its layers is lost.
        self.engine.images.lease(id.as_str(), &image)?;
        if let Err(error) = self
            .engine
            .runtime
            .create_as(&id, &config, Durability::Cached)
        {
            self.engine.images.release(id.as_str())?;
            return Err(error.into());
        }
        if !annotations.endpoints.is_empty() {
            let sandbox = annotations.sandbox(id.as_str());
            self.unleased.borrow_mut().push(sandbox);
        }
        Ok(id)
    }

    /// Finds the directories of the volumes that a container mounts; makes its anonymous ones.
    fn volume_paths(
        &self,
        stack: &Stack,
        service: &Service,
        image: &Image,
        spec: &ContainerSpec,
    ) -> HostResult<Volumes> {
        let volumes = self.engine.runtime.volumes();
        let mut found = Volumes::default();
        for mount in &service.volumes {
            if let MountSource::Volume {
                source: Some(key),
                subpath,
                ..
            } = &mount.source
                && let Some(volume) = stack.volumes.get(key)
            {
                let data = volumes.data(&volume.name);
                if let Some(subpath) = subpath
                    && !data.join(subpath).is_dir()
                {
                    let problem =
                        format!("`{subpath}` is not a directory of volume `{}`", volume.name);
                    return Err(of_service(
                        &spec.service,
                        LowerError::new("volumes", problem),
                    ));
                }
                found.directories.named.insert(key.to_string(), data);
                found.named.insert(volume.name.clone());
            }
        }
        for target in lower::mounts::anonymous_targets(service, &image.config.config) {
            let name = match spec.inherits.get(&target) {
                Some(name) => name.clone(),
                None => hex(&random::bytes::<32>()?),
            };
            let mut labels = BTreeMap::from([(ANONYMOUS.to_owned(), String::new())]);
            labels.insert(
                crate::plan::naming::PROJECT.to_owned(),
                stack.name.to_string(),
            );
            volumes.create(&name, &labels, Durability::Cached)?;
            found
                .directories
                .anonymous
                .insert(target.clone(), volumes.data(&name));
            found.anonymous.insert(target, name);
        }
        Ok(found)
    }
}

/// Volumes of one container.
#[derive(Debug, Default)]
struct Volumes {
    directories: VolumePaths,
    named: BTreeSet<String>,
    anonymous: BTreeMap<String, String>,
}

/// Returns what is to be found again with the container.
fn annotations(
    stack: &Stack,
    service: &Service,
    spec: &ContainerSpec,
    id: &runtime::ContainerId,
    volumes: &Volumes,
    network_of: Option<&ContainerId>,
) -> Annotations {
    let endpoints = lower::network::endpoints(
        stack,
        &spec.service,
        service,
        &spec.settled_name,
        id.short(),
    );
    Annotations {
        asked: spec.asked.clone(),
        endpoints,
        ports: lower::network::ports(service),
        resolver: Resolver {
            servers: service.dns.clone(),
            search: service.dns_search.clone(),
            options: service.dns_opt.clone(),
        },
        extra_hosts: service.extra_hosts.clone(),
        anonymous_volumes: volumes.anonymous.clone(),
        named_volumes: volumes.named.clone(),
        network_of: network_of.map(|id| id.as_str().to_owned()),
    }
}

/// Returns the image's labels under the plan's.
fn labels(image: &Image, spec: &ContainerSpec) -> BTreeMap<String, String> {
    // An image must not pass for somebody else's container (`reference/runtime.md` 6, row 14).
    let own = |name: &str| name.starts_with(crate::plan::naming::LABEL_PREFIX);
    let of_image = image
        .config
        .config
        .labels
        .iter()
        .filter(|(name, _)| !own(name));
    let mut labels: BTreeMap<_, _> = of_image
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    labels.extend(spec.labels.clone());
    labels
}

/// Makes missing sources of bind mounts directories, where that is asked for; else they are an error.
fn make_bind_sources(service: &Service) -> HostResult<()> {
    for mount in &service.volumes {
        let MountSource::Bind {
            source,
            create_host_path,
            ..
        } = &mount.source
        else {
            continue;
        };
        if source.exists() {
            continue;
        }
        if !create_host_path {
            return Err(format!("bind source path does not exist: {}", source.display()).into());
        }
        fs_err::create_dir_all(source)?;
    }
    Ok(())
}

/// Reads the profile that `security_opt: seccomp=PATH` names, relative to the project.
fn read_seccomp_profile(stack: &Stack, service: &Service) -> HostResult<Option<String>> {
    let named = service.security_opt.iter().find_map(|option| {
        option
            .strip_prefix("seccomp=")
            .or(option.strip_prefix("seccomp:"))
    });
    match named {
        None | Some("unconfined" | "builtin") => Ok(None),
        Some(path) => Ok(Some(fs_err::read_to_string(
            stack.directory.join(Path::new(path)),
        )?)),
    }
}

/// Renders bytes in hexadecimal.
fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            // Writing to a string cannot fail.
            let _ok = write!(text, "{byte:02x}");
            text
        })
}
