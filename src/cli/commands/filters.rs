//! `--filter key=value`.

use crate::cli::context::now;
use crate::cli::failure::CliError;
use crate::cli::time::parse_time;
use crate::engine::store::Filter;

/// Parses filters of which the command knows these.
pub(super) fn parse(filters: &[String], known: &[&str]) -> Result<Vec<Filter>, CliError> {
    let now = now();
    let time = |text: &str| parse_time(text, now);
    let parsed = filters.iter().map(|text| Filter::parse(text, known, time));
    let parsed: Result<Vec<Filter>, _> = parsed.collect();
    parsed.map_err(|error| CliError::Refused(error.to_string()))
}
