//! `stack config`.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::sync::Arc;

use crate::cli::args::{ConfigArgs, ConfigFormat};
use crate::cli::context::Context;
use crate::cli::failure::CliError;
use crate::plan::graph::{Dependencies, Selection};
use crate::plan::naming::image_reference;
use crate::spec::Loaded;
use crate::spec::model::Stack;
use crate::spec::model::service::Service;
use crate::spec::model::volume::MountSource;
use crate::spec::names::ServiceName;
use crate::spec::render::{render_json, render_yaml};
use crate::spec::tree::{Mapping, Value};

/// Checks the files and shows what they come to.
pub(super) fn run(context: &Context, args: &ConfigArgs) -> Result<(), CliError> {
    let mut loaded = context.load_as(!args.no_interpolate)?;
    if let Some(text) = listing(args, &loaded)? {
        return write(context, args, &text);
    }
    if args.names.is_empty() || args.no_interpolate {
        if !args.names.is_empty() {
            context.warn("services are not selected with `--no-interpolate`");
        }
    } else {
        narrow(&mut loaded.stack, &args.names)?;
    }
    if args.quiet {
        return Ok(());
    }
    let text = match args.format {
        ConfigFormat::Yaml => render_yaml(&loaded.stack),
        ConfigFormat::Json => match serde_json::to_string_pretty(&render_json(&loaded.stack)) {
            Ok(text) => text + "\n",
            Err(error) => {
                return Err(CliError::System {
                    attempted: "write JSON",
                    source: error.into(),
                });
            }
        },
    };
    write(context, args, &text)
}

/// Writes to `-o`, else to standard output.
fn write(context: &Context, args: &ConfigArgs, text: &str) -> Result<(), CliError> {
    let Some(path) = &args.output else {
        return context.out(text);
    };
    let written = fs_err::write(context.directory.join(path), text);
    written.map_err(|source| CliError::File {
        attempted: "write",
        path: path.clone(),
        source,
    })
}

/// Returns the list that was asked for, if one was.
fn listing(args: &ConfigArgs, loaded: &Loaded) -> Result<Option<String>, CliError> {
    let stack = &loaded.stack;
    let selection = Selection::new(stack, &args.names, Dependencies::Follow)?;
    let selected = || selection.services.iter().copied();
    let lines: Vec<String> = match () {
        () if args.services => selected().map(|(name, _)| name.to_string()).collect(),
        () if args.images => selected()
            .map(|(name, service)| image_reference(stack, name, service))
            .collect(),
        () if args.volumes => stack.volumes.keys().map(ToString::to_string).collect(),
        () if args.networks => stack.networks.keys().map(ToString::to_string).collect(),
        () if args.profiles => {
            let services = stack.services.values().chain(stack.disabled.values());
            let profiles: BTreeSet<&String> =
                services.flat_map(|service| &service.profiles).collect();
            profiles.into_iter().cloned().collect()
        }
        () if args.environment => loaded
            .environment
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect(),
        () => return Ok(None),
    };
    let mut text = String::new();
    for line in lines {
        // Writing to a string cannot fail.
        let _infallible = writeln!(text, "{line}");
    }
    Ok(Some(text))
}

/// Leaves out of the project what the named services and those they depend on do not use.
fn narrow(stack: &mut Stack, names: &[String]) -> Result<(), CliError> {
    let selection = Selection::new(stack, names, Dependencies::Follow)?;
    let services: Vec<(&ServiceName, &Service)> = selection.services.clone();
    let kept = [
        (
            "services",
            services.iter().map(|(name, _)| name.to_string()).collect(),
        ),
        (
            "networks",
            used(&services, |service| {
                service.networks.keys().map(ToString::to_string).collect()
            }),
        ),
        ("volumes", used(&services, named_volumes)),
        (
            "secrets",
            used(&services, |service| {
                service
                    .secrets
                    .iter()
                    .map(|grant| grant.source.clone())
                    .collect()
            }),
        ),
        (
            "configs",
            used(&services, |service| {
                service
                    .configs
                    .iter()
                    .map(|grant| grant.source.clone())
                    .collect()
            }),
        ),
    ];
    let Value::Mapping(top) = &mut stack.document.value else {
        return Ok(());
    };
    for (section, kept) in kept {
        let Some(node) = top.get_mut(section) else {
            continue;
        };
        if let Value::Mapping(mapping) = &mut Arc::make_mut(node).value {
            retain(mapping, &kept);
            if mapping.is_empty() {
                top.remove(section);
            }
        }
    }
    Ok(())
}

fn used(
    services: &[(&ServiceName, &Service)],
    of: impl Fn(&Service) -> Vec<String>,
) -> BTreeSet<String> {
    services
        .iter()
        .flat_map(|(_, service)| of(service))
        .collect()
}

fn named_volumes(service: &Service) -> Vec<String> {
    let sources = service.volumes.iter().map(|mount| &mount.source);
    sources
        .filter_map(|source| match source {
            MountSource::Volume {
                source: Some(key), ..
            } => Some(key.to_string()),
            _ => None,
        })
        .collect()
}

fn retain(mapping: &mut Mapping, kept: &BTreeSet<String>) {
    let gone: Vec<_> = mapping
        .entries()
        .iter()
        .map(|entry| Arc::clone(&entry.key))
        .collect();
    for key in gone.iter().filter(|key| !kept.contains(&***key)) {
        mapping.remove(key);
    }
}
