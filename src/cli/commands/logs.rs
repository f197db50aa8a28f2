//! `stack logs`.

use super::check_services;
use super::follow::{Follow, painter};
use crate::cli::args::LogsArgs;
use crate::cli::context::{Context, now};
use crate::cli::failure::CliError;
use crate::cli::signals::Interrupts;
use crate::cli::time::parse_time;
use crate::engine::view::LogQuery;

/// Shows what containers wrote.
pub(super) async fn run(context: &Context, args: LogsArgs) -> Result<(), CliError> {
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
        check_services(&loaded.stack, &args.services)?;
    }
    let engine = context.engine()?;
    let containers = engine.containers(Some(&target.project), true)?;
    let painter = painter(
        context,
        &target.project,
        &containers,
        (args.look, args.timestamps),
    );
    let mut stream = engine.logs(
        &target.project,
        &LogQuery {
            services: args.services,
            follow: args.follow,
            tail: args.tail.0,
            since_ns,
            until_ns,
            past_ends: false,
        },
    )?;
    let mut interrupts = Interrupts::listen()?;
    let mut follow = Follow::new(context, painter);
    tokio::select! {
        biased;
        result = follow.copy(&mut stream) => result,
        _ = interrupts.next() => {
            // Following is meant to end so.
            if args.follow { Ok(()) } else { Err(CliError::Ended(130)) }
        }
    }
}

fn time(option: &str, text: &str) -> Result<i128, CliError> {
    parse_time(text, now()).ok_or_else(|| CliError::Usage {
        message: format!("`{text}` of `{option}` is not a time"),
        hints: vec!["write RFC 3339 such as 2026-11-21T10:38:00Z, seconds since 1970, or back from now such as 42m".to_owned()],
    })
}
