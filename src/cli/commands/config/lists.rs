//! The lists: one thing of the project, a line each.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::json_text;
use crate::cli::args::{ConfigArgs, ConfigFormat};
use crate::cli::context::Context;
use crate::cli::failure::CliError;
use crate::cli::render::table;
use crate::cli::render::text::lines;
use crate::engine::digests::config_hashes;
use crate::plan::error::PlanError;
use crate::plan::graph::{Dependencies, Selection};
use crate::plan::naming::image_reference;
use crate::spec::Loaded;
use crate::spec::variables::{self, Variable};

/// Returns the list that was asked for, if one was.
pub(super) fn listing(
    context: &Context,
    args: &ConfigArgs,
    loaded: &Loaded,
) -> Result<Option<String>, CliError> {
    if args.variables {
        return variables_of(args, loaded).map(Some);
    }
    let stack = &loaded.stack;
    let list: Vec<String> = match () {
        () if args.environment => loaded
            .environment
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect(),
        () if args.profiles => {
            let services = stack.services.values().chain(stack.disabled.values());
            let profiles: BTreeSet<&String> =
                services.flat_map(|service| &service.profiles).collect();
            profiles.into_iter().cloned().collect()
        }
        () if args.services && args.no_interpolate => {
            stack.services.keys().map(ToString::to_string).collect()
        }
        () if args.services || args.images => {
            let selection = Selection::new(stack, &args.names, Dependencies::Follow)?;
            let selected = selection.services.iter();
            selected
                .map(|(name, service)| {
                    if args.services {
                        name.to_string()
                    } else {
                        image_reference(stack, name, service)
                    }
                })
                .collect()
        }
        () if args.volumes || args.networks || args.models => resources(args, loaded)?,
        () => match &args.hash {
            Some(asked) => hashes(context, asked, loaded)?,
            None => return Ok(None),
        },
    };
    Ok(Some(lines(list)))
}

/// Returns the keys of the networks, volumes or models that the services use.
fn resources(args: &ConfigArgs, loaded: &Loaded) -> Result<Vec<String>, CliError> {
    let mut project = crate::spec::render::render_json(&loaded.stack);
    let selected = super::selected(args, loaded)?;
    super::document::keep_services(&mut project, selected.as_deref());
    super::document::drop_unused(&mut project);
    let section = match () {
        () if args.volumes => "volumes",
        () if args.networks => "networks",
        () => "models",
    };
    let resources = project.get(section).and_then(Value::as_object);
    let keys = resources.into_iter().flatten().map(|(key, _)| key.clone());
    Ok(keys.collect())
}

/// Returns `NAME HASH` of the services that `asked` names, separated by commas; of all for `*`.
fn hashes(context: &Context, asked: &str, loaded: &Loaded) -> Result<Vec<String>, CliError> {
    let hashes = config_hashes(&loaded.stack, &context.environment)?;
    if asked == "*" {
        let all = hashes.iter().map(|(name, hash)| format!("{name} {hash}"));
        return Ok(all.collect());
    }
    let asked: BTreeSet<&str> = asked.split(',').map(str::trim).collect();
    asked
        .into_iter()
        .map(|name| match hashes.get(name) {
            Some(hash) => Ok(format!("{name} {hash}")),
            None => Err(PlanError::NoSuchService {
                name: name.to_owned(),
            }
            .into()),
        })
        .collect()
}

/// Shows the variables that the files name.
fn variables_of(args: &ConfigArgs, loaded: &Loaded) -> Result<String, CliError> {
    let variables = variables::of(loaded);
    match args.format {
        None => {
            let rows: Vec<Vec<String>> = variables
                .values()
                .map(|variable| {
                    vec![
                        variable.name.clone(),
                        variable.required.to_string(),
                        variable.default.clone(),
                        variable.alternate.clone(),
                    ]
                })
                .collect();
            let header = ["NAME", "REQUIRED", "DEFAULT VALUE", "ALTERNATE VALUE"];
            Ok(table::render(&header, &rows, 20))
        }
        Some(format) => {
            let object = variables.iter().map(|(name, variable)| {
                let fields = match format {
                    ConfigFormat::Json => json_fields(variable),
                    ConfigFormat::Yaml => yaml_fields(variable),
                };
                (name.clone(), fields)
            });
            let object = Value::Object(object.collect());
            match format {
                ConfigFormat::Json => json_text(&object),
                ConfigFormat::Yaml => Ok(crate::spec::render::emit_yaml(&object)),
            }
        }
    }
}

/// The names that Docker Compose writes.
fn json_fields(variable: &Variable) -> Value {
    json!({
        "Name": variable.name,
        "DefaultValue": variable.default,
        "PresenceValue": variable.alternate,
        "Required": variable.required,
    })
}

/// The same, which Docker Compose writes in small letters here.
fn yaml_fields(variable: &Variable) -> Value {
    json!({
        "name": variable.name,
        "defaultvalue": variable.default,
        "presencevalue": variable.alternate,
        "required": variable.required,
    })
}
