//! Which place of the file an error is about. Pure.
//!
//! What fails only when it is used (an image that is not there, a port that somebody holds, a user that the image does not have)
//! is the file's fault as much as what does not load: it is shown with the key that asked for it.

use crate::engine::apply::{ApplyError, StepFailure};
use crate::engine::build::blame::in_dockerfile;
use crate::engine::error::{EngineError, PortConflict};
use crate::engine::lower::LowerError;
use crate::images::build::BuildError;
use crate::net::error::NetError;
use crate::plan::action::{Action, Awaited};
use crate::plan::error::PlanError;
use crate::plan::naming;
use crate::runtime::StartError;
use crate::spec::Diagnostic;
use crate::spec::model::Stack;
use crate::spec::model::service::Service;
use crate::spec::model::volume::{FileObject, MountSource};
use crate::spec::names::ServiceName;
use crate::spec::source::{Sources, Span};

/// Places that are at fault, the best one first.
type Blame = Vec<Span>;

impl EngineError {
    /// Returns what went wrong with the places in `stack`'s files that asked for it, or in Dockerfiles, which are added to `sources`;
    /// nothing where no place is at fault.
    pub fn diagnose(&self, stack: &Stack, sources: &mut Sources) -> Vec<Diagnostic> {
        let diagnostics: Vec<Diagnostic> = match self {
            Self::Apply(ApplyError::Failed { failures }) => {
                let each = failures.iter();
                each.flat_map(|failure| {
                    let found = failure.in_dockerfile(sources);
                    if found.is_empty() {
                        vec![of_step(failure, stack)]
                    } else {
                        found
                    }
                })
                .collect()
            }
            Self::Ports { conflicts } => {
                let each = conflicts.iter();
                each.map(|conflict| of_port(conflict, stack)).collect()
            }
            Self::BuildSecrets { missing } => {
                let each = missing.iter();
                let field = "build.secrets";
                each.map(|secret| {
                    placed(
                        secret.to_string(),
                        &of_service(stack, &secret.service, field),
                    )
                })
                .collect()
            }
            Self::Build(error) => in_dockerfile(error, sources),
            Self::Plan(error) => vec![placed(self.to_string(), &of_plan(error, stack))],
            _ => Vec::new(),
        };
        if diagnostics
            .iter()
            .any(|diagnostic| diagnostic.span.is_some())
        {
            diagnostics
        } else {
            Vec::new()
        }
    }
}

/// Makes a diagnostic at the best of the places.
fn placed(message: String, spans: &Blame) -> Diagnostic {
    match spans.split_first() {
        None => Diagnostic::error_without_place(message),
        Some((first, more)) => more
            .iter()
            .fold(Diagnostic::error(*first, message), |diagnostic, span| {
                diagnostic.note(*span, "")
            }),
    }
}

/// Returns where a field of a service stands, as a list that is empty where the service has no place.
fn of_service(stack: &Stack, service: &str, field: &str) -> Blame {
    place(stack, service, field).into_iter().collect()
}

/// Returns where a network or volume is declared; that of the first service that uses it where the file does not declare it.
fn declared(stack: &Stack, kind: &str, key: &str, user: impl FnOnce() -> Blame) -> Blame {
    let declaration = stack.document.get(kind).and_then(|all| all.get(key));
    match declaration.map(|node| node.span) {
        Some(span) if span != Span::default() => vec![span],
        _ => user(),
    }
}

/// Returns where a field of a service stands: itself, or what it is part of, or the service.
fn place(stack: &Stack, service: &str, field: &str) -> Option<Span> {
    let (_, service) = find(stack, service)?;
    let mut field = field;
    loop {
        if let Some(span) = service.places.get(field) {
            return Some(*span);
        }
        match field.rsplit_once('.') {
            Some((parent, _)) => field = parent,
            None => return Some(service.span),
        }
    }
}

fn find<'a>(stack: &'a Stack, name: &str) -> Option<(&'a ServiceName, &'a Service)> {
    let mut all = stack.services.iter().chain(&stack.disabled);
    all.find(|(service, _)| service.as_str() == name)
}

fn of_port(conflict: &PortConflict, stack: &Stack) -> Diagnostic {
    let diagnostic = placed(conflict.to_string(), &of_conflict(conflict, stack));
    match conflict.hint() {
        Some(hint) => diagnostic.hint(hint),
        None => diagnostic,
    }
}

fn of_conflict(conflict: &PortConflict, stack: &Stack) -> Blame {
    of_service(
        stack,
        &conflict.service,
        &format!("ports.{}", conflict.index),
    )
}

/// Returns what a plan could not be made for.
fn of_plan(error: &PlanError, stack: &Stack) -> Blame {
    let one = |service: &str, field: &str| of_service(stack, service, field);
    match error {
        PlanError::Image { service, .. } => one(service, "image"),
        PlanError::Platform { service, .. } => one(service, "platform"),
        PlanError::DependencyDisabled {
            service,
            dependency,
        }
        | PlanError::DependencyUndefined {
            service,
            dependency,
        } => one(service, &format!("depends_on.{dependency}")),
        PlanError::NameWithScale { service, .. } | PlanError::NameTaken { service, .. } => {
            one(service, "container_name")
        }
        PlanError::NameTwice { first, second, .. } => {
            let mut both = one(first, "container_name");
            both.extend(one(second, "container_name"));
            both
        }
        PlanError::DonorMissing { service, .. } => one(service, "network_mode"),
        PlanError::TooMany { service, .. } => {
            let has = |field: &str| {
                find(stack, service).is_some_and(|(_, found)| found.places.contains_key(field))
            };
            let fields = ["scale", "deploy.replicas"];
            let written = fields.into_iter().find(|field| has(field));
            written.map_or_else(Vec::new, |field| one(service, field))
        }
        PlanError::ExternalNetwork { name } => of_network(stack, name),
        PlanError::ExternalVolume { name } => {
            let mut volumes = stack.volumes.iter();
            let Some((key, _)) = volumes.find(|(_, volume)| volume.name == *name) else {
                return Vec::new();
            };
            declared(stack, "volumes", key.as_str(), || {
                mount_of(
                    stack,
                    |source| matches!(source, MountSource::Volume { source: Some(used), .. } if used == key),
                )
            })
        }
        PlanError::NoSuchService { .. }
        | PlanError::Cycle { .. }
        | PlanError::NothingToStart { .. }
        | PlanError::Entangled { .. } => Vec::new(),
    }
}

/// Finds a network by its name on the machine.
fn of_network(stack: &Stack, name: &str) -> Blame {
    let mut networks = stack.networks.iter();
    let Some((key, _)) = networks.find(|(_, network)| network.name == name) else {
        return Vec::new();
    };
    declared(stack, "networks", key.as_str(), || {
        let mut services = stack.services.iter();
        let user = services.find(|(_, service)| service.networks.contains_key(key));
        user.map_or_else(Vec::new, |(service, _)| {
            of_service(stack, service.as_str(), &format!("networks.{key}"))
        })
    })
}

/// Finds the first mount of a kind.
fn mount_of(stack: &Stack, wanted: impl Fn(&MountSource) -> bool) -> Blame {
    for (name, service) in &stack.services {
        let index = service.volumes.iter().position(|m| wanted(&m.source));
        if let Some(index) = index {
            return of_service(stack, name.as_str(), &format!("volumes.{index}"));
        }
    }
    Vec::new()
}

/// Returns a step's failure, with the place of what it was done for.
fn of_step(failure: &StepFailure, stack: &Stack) -> Diagnostic {
    // The place says whose and which field it is.
    let lowered = match failure.source.downcast_ref::<EngineError>() {
        Some(EngineError::Lower { service, source }) => Some((service, source)),
        _ => None,
    };
    let message = match lowered {
        Some((_, LowerError { field, problem })) => {
            let key = field.split('.').next().unwrap_or_default();
            format!("{}: {key}: {problem}", failure.attempted)
        }
        None => crate::engine::chain(failure),
    };
    let blames = match (lowered, failure.source.downcast_ref::<EngineError>()) {
        (Some((service, LowerError { field, .. })), _) => of_service(stack, service, field),
        (None, Some(EngineError::Ports { conflicts })) => conflicts
            .iter()
            .flat_map(|conflict| of_conflict(conflict, stack))
            .collect(),
        (None, _) => of_action(failure, stack),
    };
    placed(message, &blames)
}

/// Returns which fields an action that failed stems from.
fn of_action(failure: &StepFailure, stack: &Stack) -> Blame {
    let service_of = |container: &str| {
        let mut services = stack.services.iter();
        services.find(|(name, service)| {
            service.container_name.as_deref() == Some(container)
                || container
                    .strip_prefix(&format!("{}-{name}-", stack.name))
                    .is_some_and(|number| number.parse::<u32>().is_ok())
        })
    };
    match failure.action.as_ref() {
        Action::PullImage(pull) => {
            let services = stack.services.iter();
            let uses = services.filter(|(name, service)| {
                naming::image_reference(stack, name, service) == pull.reference
            });
            uses.flat_map(|(name, _)| of_service(stack, name.as_str(), "image"))
                .collect()
        }
        Action::BuildImage(build) => {
            let field = match failure.source.downcast_ref::<BuildError>() {
                Some(BuildError::Read { .. }) => "build.dockerfile",
                Some(BuildError::Context { .. } | BuildError::Fetch { .. }) => "build.context",
                _ if failure.source.is::<crate::images::ReferenceError>() => "image",
                // What is wrong in a Dockerfile has its place there.
                _ => return Vec::new(),
            };
            of_service(stack, build.service.as_str(), field)
        }
        Action::CreateContainer(spec) => match find(stack, spec.service.as_str()) {
            Some((name, service)) => of_start(failure, stack, name, service),
            None => Vec::new(),
        },
        Action::StartContainer { name, .. } => match service_of(name) {
            Some((name, service)) => of_start(failure, stack, name, service),
            None => Vec::new(),
        },
        Action::AwaitCondition(wait) => {
            let check = find(stack, &wait.service)
                .and_then(|(_, service)| service.places.get("healthcheck"))
                .filter(|_| wait.condition != Awaited::Completed);
            let mut waiting = stack.services.iter();
            let depends = || {
                let (name, _) = waiting.find(|(_, service)| {
                    let mut names = service.depends_on.keys();
                    names.any(|name| name.as_str() == wait.service)
                })?;
                place(
                    stack,
                    name.as_str(),
                    &format!("depends_on.{}", wait.service),
                )
            };
            check.copied().or_else(depends).into_iter().collect()
        }
        Action::CreateNetwork(network) => of_network(stack, &network.name),
        _ => Vec::new(),
    }
}

/// Returns the field that a container could not be made or started for; the message of a start comes from the init, as words.
fn of_start(failure: &StepFailure, stack: &Stack, name: &ServiceName, service: &Service) -> Blame {
    let one = |field: String| of_service(stack, name.as_str(), &field);
    if let Some(NetError::Address { address, .. }) = failure.source.downcast_ref::<NetError>() {
        let mut attachments = service.networks.iter();
        let asks = attachments.find(|(_, asked)| asked.ipv4_address == Some(*address));
        return asks.map_or_else(Vec::new, |(key, _)| one(format!("networks.{key}")));
    }
    let Some(StartError::Failed { code, message }) = failure.source.downcast_ref::<StartError>()
    else {
        return Vec::new();
    };
    if matches!(code, 126 | 127) {
        return one(match (&service.entrypoint, &service.command) {
            (Some(words), _) if !words.is_empty() => "entrypoint".to_owned(),
            (_, Some(words)) if !words.is_empty() => "command".to_owned(),
            _ => "image".to_owned(),
        });
    }
    let Some((what, rest)) = message.split_once('`') else {
        return Vec::new();
    };
    let subject = rest.split('`').next().unwrap_or_default();
    let mount = || {
        let mut mounts = service.volumes.iter();
        mounts.position(|mount| {
            mount.target == subject
                || matches!(&mount.source, MountSource::Bind { source, .. } if source.as_os_str() == subject)
        })
    };
    let granted = |field: &str,
                   grants: &[crate::spec::model::volume::FileGrant],
                   objects: &std::collections::BTreeMap<String, FileObject>| {
        let index = grants.iter().position(|grant| {
            grant.target == subject
                || matches!(objects.get(&grant.source), Some(FileObject::File(path)) if path.as_os_str() == subject)
        });
        index.map(|index| one(format!("{field}.{index}")))
    };
    match what.trim_end() {
        "find the user" => one(
            match service.group_add.iter().position(|group| {
                // The group that is missing is named behind the user.
                rest.contains(&format!("group `{group}`"))
            }) {
                Some(index) => format!("group_add.{index}"),
                None => "user".to_owned(),
            },
        ),
        "sysctl" | "set sysctl" => one(format!("sysctls.{subject}")),
        "limit" | "set the limit" => one(format!("ulimits.{subject}")),
        _ => mount()
            .map(|index| one(format!("volumes.{index}")))
            .or_else(|| granted("secrets", &service.secrets, &stack.secrets))
            .or_else(|| granted("configs", &service.configs, &stack.configs))
            .unwrap_or_default(),
    }
}
