//! `stack version`.

use crate::cli::args::{VersionArgs, VersionFormat};
use crate::cli::context::Context;
use crate::cli::failure::CliError;

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Shows the version.
pub(super) fn run(context: &Context, args: &VersionArgs) -> Result<(), CliError> {
    let text = match args.format {
        _ if args.short => format!("{VERSION}\n"),
        VersionFormat::Pretty => format!("stack version {VERSION}\n"),
        VersionFormat::Json => format!("{}\n", serde_json::json!({ "version": VERSION })),
    };
    context.out(text)
}
