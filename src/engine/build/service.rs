//! The build of a service, as its file says.

use std::path::Path;

use super::Agents;
use super::options::{self, OptionError};
use crate::engine::error::{EngineError, MissingSecret};
use crate::engine::host::HostResult;
use crate::engine::{BuildChoices, Engine};
use crate::images::Platform;
use crate::images::build::{
    BuildRequest, DockerfileSource, Entitlement, Limit, NamedContext, Requirements, SecretSource,
};
use crate::plan::Plan;
use crate::plan::action::{Action, BuildImage};
use crate::plan::naming;
use crate::spec::model::Stack;
use crate::spec::model::build::BuildMore;
use crate::spec::model::volume::FileObject;

impl Engine {
    /// Finds or starts the ssh agents that `build:` of a service asks for, or whoever builds in its place.
    pub(crate) async fn service_agents(
        &self,
        stack: &Stack,
        build: &BuildImage,
        choices: &BuildChoices,
    ) -> Result<Agents, EngineError> {
        if choices.ssh.is_empty() {
            let listed = &build.build.more.ssh;
            return self.agents(listed, &stack.directory).await;
        }
        let here = std::env::current_dir().map_err(|source| EngineError::System {
            attempted: "find the working directory, for the keys of --ssh".to_owned(),
            source,
        })?;
        self.agents(&choices.ssh, &here).await
    }

    /// Returns what `build:` of a service asks for, beyond its names and the use of the cache, and warnings.
    pub(crate) fn service_request(
        &self,
        stack: &Stack,
        build: &BuildImage,
        (choices, agents): (&BuildChoices, &Agents),
        dockerfile: DockerfileSource,
    ) -> HostResult<(BuildRequest, Vec<String>)> {
        let (asked, more) = (&build.build, &build.build.more);
        let mut args = asked.args.clone();
        args.extend(choices.args.clone());
        let network = options::network(more.network.as_deref().unwrap_or_default());
        let mut allowed = super::allowed(&more.entitlements, &network)?;
        if more.privileged {
            let all = &mut allowed.entitlements;
            all.insert(Entitlement::SecurityInsecure);
        }
        let nowhere = Path::new("/");
        let tags = more.tags.iter().map(|tag| tag.parse());
        let mut request = BuildRequest {
            // Where there is none, paths are shown whole.
            shown_from: std::env::current_dir().unwrap_or_default(),
            args: self.arguments(&args),
            target: asked.target.clone(),
            labels: naming::resource_labels(
                stack,
                naming::SERVICE,
                build.service.as_str(),
                &more.labels,
            ),
            no_cache_filter: more.no_cache_filter.clone(),
            agents: agents.sockets.clone(),
            network,
            allowed: allowed.entitlements,
            allowed_devices: allowed.devices,
            requirements: requirements(more, choices)?,
            tags: tags.collect::<Result<_, _>>()?,
            ..BuildRequest::new(asked.context.clone(), dockerfile, jiff::Timestamp::now())
        };
        for (name, value) in &more.additional_contexts {
            let context = match value.strip_prefix("service:") {
                Some(service) => image_of(stack, service)?,
                None => options::named_context(value, nowhere)
                    .map_err(|message| format!("context `{name}`: {message}"))?,
            };
            request.contexts.insert(name.clone(), context);
        }
        for secret in &more.secrets {
            let missing = || format!("secret `{}` is not declared", secret.source);
            let source = match stack.secrets.get(&secret.source).ok_or_else(missing)? {
                FileObject::File(path) => SecretSource::File(path.clone()),
                FileObject::Content(text) => SecretSource::Value(text.clone().into_bytes()),
                FileObject::Environment(name) => {
                    let value = self.environment.get(name).cloned().unwrap_or_default();
                    SecretSource::Value(value.into_bytes())
                }
            };
            request.secrets.insert(secret.id.clone(), source);
        }
        let caches = (more.cache_from.as_slice(), more.cache_to.as_slice());
        let warnings = super::add_caches(&mut request, caches, &stack.directory)?;
        let attestations = [("provenance", &more.provenance), ("sbom", &more.sbom)];
        let attestations = attestations.map(|(name, value)| {
            let chosen = choices.attestations.get(name);
            (name, chosen.unwrap_or(value).clone())
        });
        let (provenance, scanner) = super::attest::parse(&attestations)?;
        request.provenance = provenance;
        request.scanner = scanner;
        let chosen = platforms(build, choices.all_platforms)?;
        super::platforms::set(&mut request, chosen);
        Ok((request, warnings))
    }
}

/// Fails where the file of a secret is not there that a build of `plan` is given: before anything is built.
pub(crate) fn check_secrets(stack: &Stack, plan: &Plan) -> Result<(), EngineError> {
    let mut missing = Vec::new();
    for step in &plan.steps {
        let Action::BuildImage(build) = &step.action else {
            continue;
        };
        for secret in &build.build.more.secrets {
            let Some(FileObject::File(path)) = stack.secrets.get(&secret.source) else {
                continue;
            };
            if let Err(error) = readable_file(path) {
                missing.push(MissingSecret {
                    service: build.service.to_string(),
                    secret: secret.source.clone(),
                    path: path.clone(),
                    reason: crate::engine::reason(&error),
                });
            }
        }
    }
    if missing.is_empty() {
        Ok(())
    } else {
        Err(EngineError::BuildSecrets { missing })
    }
}

/// Fails where there is no file to read.
fn readable_file(path: &Path) -> std::io::Result<()> {
    let stat = rustix::fs::stat(path)?;
    match rustix::fs::FileType::from_raw_mode(stat.st_mode) {
        rustix::fs::FileType::Directory => Err(rustix::io::Errno::ISDIR.into()),
        _ => Ok(()),
    }
}

/// Returns the image of a service as a named context.
fn image_of(stack: &Stack, service: &str) -> HostResult<NamedContext> {
    let found = stack.services.get_key_value(service);
    let (name, service) =
        found.ok_or_else(|| format!("service `{service}` of a context is not in the file"))?;
    let image = naming::image_reference(stack, name, service);
    Ok(NamedContext::Image(image.parse()?))
}

/// Chooses the platforms: `all` that the build lists, or the one that is to run, which is the service's own, else of those that are listed
/// the machine's (Docker Compose `pkg/compose/build.go`).
fn platforms(build: &BuildImage, all: bool) -> HostResult<Vec<Platform>> {
    let listed = super::platforms::parse(&build.build.more.platforms, None)?;
    let is_listed = !build.build.more.platforms.is_empty();
    if all && is_listed {
        return Ok(listed);
    }
    if let Some(text) = &build.platform {
        return Ok(vec![Platform::parse(text)?]);
    }
    let host = Platform::host();
    Ok(match listed.as_slice() {
        [first, ..] if !listed.contains(&host) => vec![first.clone()],
        _ => vec![host],
    })
}

/// Returns what every step is given.
fn requirements(more: &BuildMore, choices: &BuildChoices) -> Result<Requirements, OptionError> {
    let hosts = more.extra_hosts.iter();
    let hosts = hosts.map(|(name, address)| options::host(&format!("{name}={address}")));
    let unlimited = |number: i64| u64::try_from(number).unwrap_or(u64::MAX);
    let limits = more.ulimits.iter();
    Ok(Requirements {
        hosts: hosts.collect::<Result<_, _>>()?,
        shm_bytes: more.shm_bytes,
        limits: limits
            .map(|(name, limit)| Limit {
                name: name.clone(),
                soft: unlimited(limit.soft),
                hard: unlimited(limit.hard),
            })
            .collect(),
        memory_bytes: choices.memory_bytes,
    })
}
