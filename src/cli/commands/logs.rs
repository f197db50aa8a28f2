//! `stack logs`.

use std::cell::RefCell;

use super::follow::{Follow, painter};
use super::named_services;
use crate::cli::args::LogsArgs;
use crate::cli::context::{Context, Target, now};
use crate::cli::failure::CliError;
use crate::cli::signals::Interrupts;
use crate::cli::time::parse_time;
use crate::engine::view::LogQuery;

/// Shows what containers wrote.
pub(super) async fn run(context: &Context, mut args: LogsArgs) -> Result<(), CliError> {
    let since_ns = args
        .since
        .as_deref()
        .map(|text| time("--since", text))
        .transpose()?;
    let until_ns = args
        .until
        .as_deref()
        .map(|text| time("--until", text))
        .transpose()?;
    let target = context.target()?;
    if let Some(loaded) = &target.loaded {
        args.services = named_services(&loaded.stack, &args.services)?;
    }
    let engine = context.engine()?;
    let containers = engine.containers(Some(&target.project), true)?;
    let painter = RefCell::new(painter(
        context,
        &target.project,
        &containers,
        (args.look, args.timestamps),
    ));
    let mut stream = engine.logs(
        &target.project,
        &LogQuery {
            services: if args.services.is_empty() {
                attached_services(&target)
            } else {
                args.services
            },
            follow: args.follow,
            tail: args.tail.0,
            since_ns,
            until_ns,
            ..LogQuery::default()
        },
    )?;
    let mut interrupts = Interrupts::listen()?;
    let mut follow = Follow::new(context, &painter);
    tokio::select! {
        biased;
        result = follow.copy(&mut stream) => result,
        _ = interrupts.next() => {
            // Following is meant to end so.
            if args.follow { Ok(()) } else { Err(CliError::Ended(130)) }
        }
    }
}

/// Returns the services whose output is shown where none is named; none where that is all of them.
fn attached_services(target: &Target) -> Vec<String> {
    let Some(loaded) = &target.loaded else {
        return Vec::new();
    };
    let services = loaded.stack.services.iter().chain(&loaded.stack.disabled);
    let (attached, silent): (Vec<_>, Vec<_>) =
        services.partition(|(_, service)| service.attach != Some(false));
    if silent.is_empty() {
        return Vec::new();
    }
    attached
        .into_iter()
        .map(|(name, _)| name.to_string())
        .collect()
}

fn time(option: &str, text: &str) -> Result<i128, CliError> {
    parse_time(text, now()).ok_or_else(|| CliError::Usage {
        message: format!("`{text}` of `{option}` is not a time"),
        hints: vec!["write RFC 3339 such as 2026-11-21T10:38:00Z, seconds since 1970, or back from now such as 42m".to_owned()],
    })
}
