//! `HEALTHCHECK`, and durations as Go writes them.

use super::super::Fault;
use super::super::instruction::{Command, Healthcheck, Kind};
use super::arguments::{Arguments, BLANKS, Flags};

/// Parses `HEALTHCHECK [flags] CMD command` and `HEALTHCHECK NONE`.
pub(super) fn parse_healthcheck(
    arguments: &Arguments<'_>,
    flags: &mut Flags,
) -> Result<Kind, Fault> {
    let (kind, rest) = match arguments.rest.split_once(BLANKS) {
        Some((kind, rest)) => (kind, rest.trim()),
        None => (arguments.rest, ""),
    };
    let mut check = Healthcheck {
        interval_ns: duration_flag(flags, "interval")?,
        timeout_ns: duration_flag(flags, "timeout")?,
        start_period_ns: duration_flag(flags, "start-period")?,
        start_interval_ns: duration_flag(flags, "start-interval")?,
        ..Healthcheck::NONE
    };
    let retries = flags.placed("retries")?;
    if let Some((text, span)) = retries.filter(|(text, _)| !text.is_empty()) {
        let number: i32 = text
            .parse()
            .map_err(|_| Fault::new(span, format!("invalid number of --retries: `{text}`")))?;
        if number < 0 {
            let message = format!("--retries cannot be negative ({number})");
            return Err(Fault::new(span, message));
        }
        check.retries = i64::from(number);
    }
    match kind.to_ascii_uppercase().as_str() {
        // Whatever the flags say: there is nothing that they could be of.
        "NONE" if rest.is_empty() => Ok(Kind::Healthcheck(Healthcheck::NONE)),
        "NONE" => Err(arguments.fault("HEALTHCHECK NONE takes no arguments")),
        "CMD" => {
            let command = Arguments { rest, ..*arguments }.command()?;
            let is_missing = rest.is_empty() || command == Command::Exec(Vec::new());
            if is_missing {
                return Err(arguments.fault("Missing command after HEALTHCHECK CMD"));
            }
            Ok(Kind::Healthcheck(Healthcheck {
                command: Some(command),
                ..check
            }))
        }
        kind => Err(arguments.fault(format!("Unknown type {kind:?} in HEALTHCHECK (try CMD)"))),
    }
}

/// Takes a duration flag, 0 where absent.
fn duration_flag(flags: &mut Flags, name: &str) -> Result<i64, Fault> {
    let given = flags.placed(name)?;
    let Some((text, span)) = given.filter(|(text, _)| !text.is_empty()) else {
        return Ok(0);
    };
    let duration = parse_duration(&text).ok_or_else(|| {
        let message = format!("invalid duration `{text}` of --{name}: write it like `1m30s`");
        Fault::new(span, message)
    })?;
    if duration != 0 && duration < 1_000_000 {
        let message = format!("Interval {name:?} cannot be less than 1ms");
        return Err(Fault::new(span, message));
    }
    Ok(duration)
}

/// Parses Go's duration syntax (`1h2m3.5s`, `100ms`, `0`) to nanoseconds.
pub(super) fn parse_duration(text: &str) -> Option<i64> {
    let unsigned = text.strip_prefix('+').unwrap_or(text);
    let (sign, unsigned) = match unsigned.strip_prefix('-') {
        Some(rest) if unsigned.len() == text.len() => (-1, rest),
        _ => (1, unsigned),
    };
    if unsigned == "0" {
        return Some(0);
    }
    let mut rest = unsigned;
    let mut total = 0_i64;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let number_end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, after) = rest.split_at(number_end);
        let unit_end = after
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_end);
        total = total.checked_add(part_ns(number, unit)?)?;
        rest = after;
    }
    total.checked_mul(sign)
}

/// Returns one number with its unit in nanoseconds.
fn part_ns(number: &str, unit: &str) -> Option<i64> {
    let unit_ns: i64 = match unit {
        "ns" => 1,
        "us" | "µs" | "μs" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return None,
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
        return None;
    }
    let whole: i64 = match whole {
        "" => 0,
        whole => whole.parse().ok()?,
    };
    let mut total = whole.checked_mul(unit_ns)?;
    let mut digit_ns = unit_ns;
    for digit in fraction.chars() {
        digit_ns /= 10;
        total = total.checked_add(digit_ns.checked_mul(i64::from(digit.to_digit(10)?))?)?;
    }
    Some(total)
}
