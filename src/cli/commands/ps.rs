//! `stack ps`.

use std::collections::BTreeSet;

use clap::ValueEnum;

use super::named_services;
use crate::cli::args::{PsArgs, StateArg};
use crate::cli::context::{Context, Target, now};
use crate::cli::failure::CliError;
use crate::cli::render::containers::{render_json, render_table, state_word};
use crate::cli::render::text::lines;
use crate::engine::view::{ContainerView, StateView};

/// Lists the project's containers.
pub(super) fn run(context: &Context, args: &PsArgs) -> Result<(), CliError> {
    let json = match args.format.as_str() {
        "table" => false,
        "json" => true,
        _ => {
            return Err(CliError::NotSupported(format!(
                "format `{}` of `ps`",
                args.format
            )));
        }
    };
    let target = context.target()?;
    let services = match &target.loaded {
        Some(loaded) => named_services(&loaded.stack, &args.services)?,
        None => args.services.clone(),
    };
    let states: Vec<StateArg> = args.status.iter().chain(&args.filter).copied().collect();
    let all = args.all || !states.is_empty();
    let mut containers = context.engine()?.containers(Some(&target.project), all)?;
    containers.retain(|container| is_wanted(container, args, &services, &states, &target));
    containers.sort_by(|a, b| a.name.cmp(&b.name));
    let now_s = now().as_second();
    context.out(if args.quiet {
        lines(containers.iter().map(|container| &container.id))
    } else if args.names {
        let names: BTreeSet<&str> = containers
            .iter()
            .map(|container| container.service.as_str())
            .collect();
        lines(names)
    } else if json {
        render_json(&containers, now_s, args.no_trunc)
    } else {
        render_table(&containers, now_s, args.no_trunc)
    })
}

fn is_wanted(
    container: &ContainerView,
    args: &PsArgs,
    services: &[String],
    states: &[StateArg],
    target: &Target,
) -> bool {
    let in_file = target.loaded.as_ref().is_none_or(|loaded| {
        let service = container.service.as_str();
        loaded.stack.services.contains_key(service) || loaded.stack.disabled.contains_key(service)
    });
    (services.is_empty() || services.contains(&container.service))
        && (args.orphans || in_file)
        && (states.is_empty() || states.iter().any(|state| is_in(&container.state, *state)))
}

fn is_in(state: &StateView, wanted: StateArg) -> bool {
    let word = wanted.to_possible_value();
    word.is_some_and(|word| word.get_name() == state_word(state))
}
