//! A container's record.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::{LinuxHost, of_service, runtime_id};
use crate::engine::annotations::Annotations;
use crate::engine::apply::{ApplyError, StepFailure};
use crate::engine::etc::Resolver;
use crate::engine::event::{Event, EventKind, Subject};
use crate::engine::host::{HostError, HostResult};
use crate::engine::lower::mounts::VolumePaths;
use crate::engine::lower::{self, LowerError};
use crate::engine::{chain, reason};
use crate::images::Image;
use crate::plan::Plan;
use crate::plan::action::{Action, ContainerSpec};
use crate::plan::observed::ContainerId;
use crate::runtime::config as runtime;
use crate::spec::model::Stack;
use crate::spec::model::service::{NetworkMode, Service};
use crate::spec::model::volume::{FileObject, MountSource};
use crate::sys::atomic::Durability;
use crate::sys::random;

/// The largest secret or config that is copied, as Docker's limit of either (Swarm: 500 kB) and some room.
const MAX_COPY_BYTES: u64 = 1 << 20;

/// Label of a volume that nobody named, as Docker's.
const ANONYMOUS: &str = "com.docker.volume.anonymous";

impl LinuxHost<'_> {
    /// Makes a container, not started.
    pub(super) fn create(
        &self,
        spec: &ContainerSpec,
        network_of: Option<&ContainerId>,
    ) -> HostResult<runtime::ContainerId> {
        let (stack, service, image) = self.asked(spec)?;
        make_bind_sources(service).map_err(|error| of_service(&spec.service, error))?;
        check_files(stack, service).map_err(|error| of_service(&spec.service, error))?;
        let mut made = Vec::new();
        let created = self.create_of(spec, (stack, service), &image, network_of, &mut made);
        created.map_err(|error| self.remove_volumes(&made, error))
    }

    /// Fails with all that is wrong with the containers that `plan` makes, while nothing has been made.
    pub(crate) fn check(&self, plan: &Plan) -> Result<(), ApplyError> {
        let mut seen = BTreeSet::new();
        let mut failures = Vec::new();
        for step in &plan.steps {
            if let Action::CreateContainer(spec) = &step.action
                && seen.insert(&spec.service)
                && let Err(source) = self.check_container(spec)
            {
                failures.push(StepFailure {
                    step: step.id,
                    action: Box::new(step.action.clone()),
                    attempted: step.action.to_string(),
                    source,
                });
            }
        }
        if failures.is_empty() {
            Ok(())
        } else {
            Err(ApplyError::Failed { failures })
        }
    }

    /// Lowers a container with stand-ins for what is only there once it is made.
    fn check_container(&self, spec: &ContainerSpec) -> HostResult<()> {
        let (stack, service, image) = self.asked(spec)?;
        check_files(stack, service).map_err(|error| of_service(&spec.service, error))?;
        let id = crate::runtime::random_id()?;
        let volumes = self.engine.runtime.volumes();
        let named = stack.volumes.iter();
        let targets = lower::mounts::anonymous_targets(service, &image.config.config);
        let shares = matches!(service.network_mode, Some(NetworkMode::Service(_)));
        let pieces = Pieces {
            annotations: serde_json::Value::Null,
            volumes: VolumePaths {
                named: named
                    .map(|(key, volume)| (key.to_string(), volumes.data(&volume.name)))
                    .collect(),
                anonymous: targets
                    .into_iter()
                    .map(|target| (target.clone(), PathBuf::from(target)))
                    .collect(),
            },
            contents: BTreeMap::new(),
            network_owner: shares.then(|| id.clone()),
        };
        self.lower(spec, (stack, service), &image, &id, &pieces)?;
        Ok(())
    }

    /// Finds the service and the image of a container that is to be made.
    fn asked(&self, spec: &ContainerSpec) -> HostResult<(&Stack, &Service, Image)> {
        let stack = self.stack()?;
        let service = stack.services.get(&spec.service);
        let service =
            service.ok_or_else(|| format!("service `{}` is not in the file", spec.service))?;
        let image = self.used.get(&spec.image_id).cloned();
        let image =
            image.ok_or_else(|| format!("image `{}` ({}) is gone", spec.image, spec.image_id))?;
        Ok((stack, service, image))
    }

    /// Returns the whole configuration of a container.
    fn lower(
        &self,
        spec: &ContainerSpec,
        (stack, service): (&Stack, &Service),
        image: &Image,
        id: &runtime::ContainerId,
        pieces: &Pieces,
    ) -> HostResult<runtime::ContainerConfig> {
        let of_service = |error| of_service(&spec.service, error);
        let hostname = match service.network_mode {
            Some(NetworkMode::Host) => {
                let host = rustix::system::uname();
                host.nodename().to_string_lossy().into_owned()
            }
            _ => id.short().to_owned(),
        };
        let input = lower::Input {
            stack,
            service,
            name: &spec.name,
            hostname: &hostname,
            labels: labels(image, spec),
            annotations: pieces.annotations.clone(),
            image: runtime::ImageUse {
                reference: spec.image.clone(),
                id: image.id.to_string(),
                layers: self.engine.images.layer_directories(image),
            },
            defaults: &image.config.config,
            volumes: &pieces.volumes,
            contents: &pieces.contents,
            seccomp_profile: read_seccomp_profile(stack, service).map_err(of_service)?,
            network_owner: pieces.network_owner.clone(),
            environment: &self.engine.environment,
        };
        lower::container(input).map_err(of_service)
    }

    /// Makes a container of an image; notes the volumes that it makes for it.
    fn create_of(
        &self,
        spec: &ContainerSpec,
        (stack, service): (&Stack, &Service),
        image: &Image,
        network_of: Option<&ContainerId>,
        made: &mut Vec<String>,
    ) -> HostResult<runtime::ContainerId> {
        let id = crate::runtime::random_id()?;
        let paths = self.volume_paths(stack, service, image, spec, made)?;
        let annotations = annotations(stack, service, spec, &id, &paths, network_of);
        let pieces = Pieces {
            annotations: serde_json::to_value(&annotations)?,
            volumes: paths.directories,
            contents: self.contents(stack, service, &spec.name),
            network_owner: network_of.map(runtime_id).transpose()?,
        };
        let config = self.lower(spec, (stack, service), image, &id, &pieces)?;
        // The lease comes first: a layer without a container costs room, a container without its layers is lost.
        self.engine.images.lease(id.as_str(), image)?;
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

    /// Reads the files of secrets and configs that are to have another owner or mode than on the host: a copy has them, where
    /// the host's file itself stays as it is. Of what cannot be copied, a warning is told.
    fn contents(
        &self,
        stack: &Stack,
        service: &Service,
        container: &str,
    ) -> BTreeMap<PathBuf, String> {
        let mut contents = BTreeMap::new();
        let secrets = service.secrets.iter().map(|grant| (grant, &stack.secrets));
        let configs = service.configs.iter().map(|grant| (grant, &stack.configs));
        for (grant, objects) in secrets.chain(configs) {
            let asked = grant.uid.is_some() || grant.gid.is_some() || grant.mode.is_some();
            let Some(FileObject::File(path)) = objects.get(&grant.source).filter(|_| asked) else {
                continue;
            };
            match read_text(path) {
                Some(text) => {
                    contents.insert(path.clone(), text);
                }
                None => self.events.emit(Event {
                    subject: Subject::Container(container.to_owned()),
                    kind: EventKind::Warning(format!(
                        "`uid`, `gid` and `mode` of `{}` are not supported for `{}`, they are ignored: only a text \
                         file of at most {} KiB can be copied",
                        grant.source,
                        path.display(),
                        MAX_COPY_BYTES >> 10
                    )),
                }),
            }
        }
        contents
    }

    /// Removes new volumes that came to nothing; returns why, and what stays.
    fn remove_volumes(&self, names: &[String], error: HostError) -> HostError {
        let volumes = self.engine.runtime.volumes();
        let removed = names
            .iter()
            .map(|name| volumes.remove(name, Durability::Cached));
        let left: Vec<String> = removed
            .filter_map(|removed| Some(chain(&removed.err()?)))
            .collect();
        if left.is_empty() {
            return error;
        }
        format!("{}; and then: {}", chain(&*error), left.join("; ")).into()
    }

    /// Finds the directories of the volumes that a container mounts; makes its anonymous ones, and notes those nobody has had.
    fn volume_paths(
        &self,
        stack: &Stack,
        service: &Service,
        image: &Image,
        spec: &ContainerSpec,
        made: &mut Vec<String>,
    ) -> HostResult<Volumes> {
        let volumes = self.engine.runtime.volumes();
        let mut found = Volumes::default();
        for (index, mount) in service.volumes.iter().enumerate() {
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
                        LowerError::new(&format!("volumes.{index}"), problem),
                    ));
                }
                found.directories.named.insert(key.to_string(), data);
                found.named.insert(volume.name.clone());
            }
        }
        for target in lower::mounts::anonymous_targets(service, &image.config.config) {
            let name = if let Some(name) = spec.inherits.get(&target) {
                name.clone()
            } else {
                let name = hex(&random::bytes::<32>()?);
                made.push(name.clone());
                name
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

/// Reads a small file of text; `None` for anything else.
fn read_text(path: &Path) -> Option<String> {
    use std::io::Read;
    let found = fs_err::metadata(path).ok()?;
    if !found.is_file() || found.len() > MAX_COPY_BYTES {
        return None;
    }
    let mut text = String::new();
    let file = fs_err::File::open(path).ok()?;
    file.take(MAX_COPY_BYTES + 1)
        .read_to_string(&mut text)
        .ok()?;
    Some(text)
}

/// What a container is lowered with beside its service and image.
struct Pieces {
    annotations: serde_json::Value,
    volumes: VolumePaths,
    /// Of files that are copied, by path.
    contents: BTreeMap<PathBuf, String>,
    network_owner: Option<runtime::ContainerId>,
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
fn make_bind_sources(service: &Service) -> Result<(), LowerError> {
    for (index, mount) in service.volumes.iter().enumerate() {
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
        let field = format!("volumes.{index}");
        if !create_host_path {
            let problem = format!("bind source path does not exist: {}", source.display());
            return Err(LowerError::new(&field, problem));
        }
        fs_err::create_dir_all(source)
            .map_err(|error| LowerError::new(&field, error.to_string()))?;
    }
    Ok(())
}

/// Checks that the files of secrets and configs are there.
fn check_files(stack: &Stack, service: &Service) -> Result<(), LowerError> {
    let kinds = [
        ("secrets", &service.secrets, &stack.secrets),
        ("configs", &service.configs, &stack.configs),
    ];
    for (field, grants, objects) in kinds {
        for (index, grant) in grants.iter().enumerate() {
            if let Some(FileObject::File(path)) = objects.get(&grant.source)
                && let Err(error) = fs_err::metadata(path)
            {
                let (path, reason) = (path.display(), reason(&error));
                let problem = format!("file `{path}` of `{}`: {reason}", grant.source);
                return Err(LowerError::new(&format!("{field}.{index}"), problem));
            }
        }
    }
    Ok(())
}

/// Reads the profile that `security_opt: seccomp=PATH` names, relative to the project.
fn read_seccomp_profile(stack: &Stack, service: &Service) -> Result<Option<String>, LowerError> {
    for (index, option) in service.security_opt.iter().enumerate() {
        let named = option
            .strip_prefix("seccomp=")
            .or(option.strip_prefix("seccomp:"));
        match named {
            None | Some("unconfined" | "builtin") => {}
            Some(path) => {
                let text = fs_err::read_to_string(stack.directory.join(Path::new(path)));
                return text.map(Some).map_err(|error| {
                    let problem = format!("seccomp profile `{path}`: {}", reason(&error));
                    LowerError::new(&format!("security_opt.{index}"), problem)
                });
            }
        }
    }
    Ok(None)
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
