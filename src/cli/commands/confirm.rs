//! Questions before something is removed.

use std::io::BufRead;

use crate::cli::context::Context;
use crate::cli::failure::CliError;

/// Shows `warning` and asks whether to go on; only `y` and `yes` mean it, and the end of the input does not.
pub(super) fn ask(context: &Context, warning: &str) -> Result<bool, CliError> {
    context.out(format!(
        "{warning}\nAre you sure you want to continue? [y/N] "
    ))?;
    context.flush()?;
    let mut answer = String::new();
    let read = std::io::stdin().lock().read_line(&mut answer);
    read.map_err(|source| CliError::System {
        attempted: "read the answer",
        source,
    })?;
    let answer = answer.trim().to_ascii_lowercase();
    Ok(matches!(answer.as_str(), "y" | "yes"))
}
