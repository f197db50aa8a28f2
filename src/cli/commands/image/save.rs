//! `stack image save`.

use std::io::{self, BufWriter, Write};

use crate::cli::args::SaveArgs;
use crate::cli::commands::output::{Access, Output, refuse_terminal};
use crate::cli::context::Context;
use crate::cli::failure::CliError;

/// Writes images to a file or to standard output.
pub(in crate::cli) fn run(context: &Context, args: &SaveArgs) -> Result<(), CliError> {
    context.refuse_dry_run("image save")?;
    let platform = args.platform.as_deref();
    let Some(path) = &args.output else {
        refuse_terminal(context, "save")?;
        let engine = context.engine()?;
        let mut sink = BufWriter::with_capacity(1 << 20, io::stdout());
        engine.save_images(&args.images, platform, &mut sink)?;
        return sink.flush().map_err(CliError::Output);
    };
    let engine = context.engine()?;
    let mut output = Output::create(context, path, Access::Owner)?;
    engine.save_images(&args.images, platform, output.writer())?;
    output.finish()
}
