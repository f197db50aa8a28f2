//! `stack config`: what the files come to, in one of its forms.
//!
//! ```text
//! load ─> lists (--services, --hash, --variables, …)
//!      ─> document: what no service uses left out ─ digests ─> YAML | JSON | with origins
//! ```

mod digests;
mod document;
mod lists;

use crate::cli::args::{ConfigArgs, ConfigFormat};
use crate::cli::commands::output::{self, Access};
use crate::cli::context::Context;
use crate::cli::failure::CliError;
use crate::plan::graph::{Dependencies, Selection};
use crate::spec::render::{Dollars, Form, to_json, to_yaml};
use crate::spec::{Loaded, Steps, json_schema, origin, render};

/// Checks the files and shows what they come to.
pub(super) fn run(context: &Context, args: &ConfigArgs) -> Result<(), CliError> {
    if args.schema {
        let schema = json_text(&json_schema::schema())?;
        return write(context, args, &schema);
    }
    if args.no_interpolate && !args.names.is_empty() {
        context.warn("services are not selected with `--no-interpolate`");
    }
    let loaded = context.load_steps(&args.names, steps(args))?;
    let args = &ConfigArgs {
        names: loaded.stack.named(&args.names),
        ..args.clone()
    };
    let text = match lists::listing(context, args, &loaded)? {
        Some(text) => text,
        None if args.quiet && !asks_registries(args) => {
            selected(args, &loaded)?;
            return Ok(());
        }
        None => document(context, args, &loaded)?,
    };
    if args.quiet {
        return Ok(());
    }
    write(context, args, &text)
}

fn steps(args: &ConfigArgs) -> Steps {
    Steps {
        interpolate: !(args.no_interpolate || args.variables),
        normalize: !args.no_normalize,
        resolve_paths: !args.no_path_resolution,
        check_consistency: !args.no_consistency,
        resolve_environment: !args.no_env_resolution,
    }
}

fn asks_registries(args: &ConfigArgs) -> bool {
    args.resolve_image_digests || args.lock_image_digests
}

/// Renders the project, or what was asked for of it.
fn document(context: &Context, args: &ConfigArgs, loaded: &Loaded) -> Result<String, CliError> {
    let format = args.format.unwrap_or(ConfigFormat::Yaml);
    let form = match format {
        _ if args.no_interpolate => Form::AsWritten,
        ConfigFormat::Json if !args.origin => Form::Json,
        ConfigFormat::Json | ConfigFormat::Yaml => Form::Model,
    };
    let mut project = render::render(&loaded.stack, form);
    if !args.no_interpolate {
        let selected = selected(args, loaded)?;
        document::keep_services(&mut project, selected.as_deref());
        document::drop_unused(&mut project);
        if !args.no_env_resolution {
            document::drop_read_files(&mut project);
        }
    }
    if asks_registries(args) {
        let digests = digests::resolve(context, &project)?;
        document::pin_images(&mut project, &digests);
    }
    if args.lock_image_digests {
        project = document::images_only(&project);
    }
    let dollars = if args.no_interpolate {
        Dollars::AsTheyAre
    } else {
        Dollars::Doubled
    };
    if args.origin {
        let leaves = origin::explain(loaded, &document::as_yaml(&project));
        return match format {
            ConfigFormat::Yaml => {
                let text = to_yaml(&project, dollars);
                Ok(origin::yaml(&text, &leaves, &loaded.sources))
            }
            ConfigFormat::Json => json_text(&origin::json(&leaves, &loaded.sources)),
        };
    }
    match format {
        ConfigFormat::Yaml => Ok(to_yaml(&project, dollars)),
        ConfigFormat::Json => json_text(&to_json(&project, dollars)),
    }
}

/// Returns the named services and those they depend on; `None` for all.
fn selected(args: &ConfigArgs, loaded: &Loaded) -> Result<Option<Vec<String>>, CliError> {
    if args.names.is_empty() {
        return Ok(None);
    }
    let selection = Selection::new(&loaded.stack, &args.names, Dependencies::Follow)?;
    let names = selection.services.iter().map(|(name, _)| name.to_string());
    Ok(Some(names.collect()))
}

fn json_text(value: &serde_json::Value) -> Result<String, CliError> {
    match serde_json::to_string_pretty(value) {
        Ok(text) => Ok(text + "\n"),
        Err(error) => Err(CliError::System {
            attempted: "write JSON",
            source: error.into(),
        }),
    }
}

/// Writes to `-o`, else to standard output.
fn write(context: &Context, args: &ConfigArgs, text: &str) -> Result<(), CliError> {
    match &args.output {
        Some(path) => output::write(context, path, text, Access::Umask),
        None => context.out(text),
    }
}
