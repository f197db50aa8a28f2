//! Durations, sizes, modes and truth values, as written in Compose files (compose-spec 11-extension.md).

use std::time::Duration;

const UNITS: [(&str, u128); 9] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60 * 1_000_000_000),
    ("h", 3_600 * 1_000_000_000),
    ("d", 86_400 * 1_000_000_000),
    ("w", 604_800 * 1_000_000_000),
];

/// Reads `1w2d3h4m5s6ms7us8ns`: any of the parts, decimals allowed; a bare `0`.
pub(crate) fn parse_duration(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let text = text.strip_prefix('+').unwrap_or(text);
    let mut rest = text;
    let mut total: u128 = 0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at(digits);
        let unit_end = tail
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(tail.len());
        let (unit, after) = tail.split_at(unit_end);
        let (_, factor) = UNITS.iter().find(|(name, _)| *name == unit)?;
        total = total.checked_add(scaled(number, *factor)?)?;
        rest = after;
    }
    if text.is_empty() {
        return None;
    }
    // Go's durations end at 2^63 ns, 292 years.
    let nanoseconds = i64::try_from(total).ok()?;
    Some(Duration::from_nanos(nanoseconds.unsigned_abs()))
}

/// Returns `number` times `factor`, decimals cut off at the end.
fn scaled(number: &str, factor: u128) -> Option<u128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') || whole.len() > 20 {
        return None;
    }
    let whole: u128 = if whole.is_empty() {
        0
    } else {
        whole.parse().ok()?
    };
    let fraction = &fraction[..fraction.len().min(18)];
    let part = match fraction.len() {
        0 => 0,
        places => {
            fraction.parse::<u128>().ok()?.checked_mul(factor)?
                / 10_u128.pow(u32::try_from(places).ok()?)
        }
    };
    whole.checked_mul(factor)?.checked_add(part)
}

/// Writes a duration as Go does: `1m30s`, `1.5s`, `200ms`, `0s`.
pub(crate) fn format_duration(duration: Duration) -> String {
    let nanoseconds = duration.as_nanos();
    let decimal = |value: u128, unit: u128, name: &str| {
        let fraction = format!("{:0width$}", value % unit, width = unit.ilog10() as usize);
        let fraction = fraction.trim_end_matches('0');
        let whole = value / unit;
        if fraction.is_empty() || unit == 1 {
            format!("{whole}{name}")
        } else {
            format!("{whole}.{fraction}{name}")
        }
    };
    match nanoseconds {
        0 => "0s".to_owned(),
        1..1_000 => format!("{nanoseconds}ns"),
        1_000..1_000_000 => decimal(nanoseconds, 1_000, "µs"),
        1_000_000..1_000_000_000 => decimal(nanoseconds, 1_000_000, "ms"),
        _ => {
            let minutes = nanoseconds / 60_000_000_000;
            let seconds = decimal(nanoseconds % 60_000_000_000, 1_000_000_000, "s");
            match (minutes / 60, minutes % 60) {
                (0, 0) => seconds,
                (0, minutes) => format!("{minutes}m{seconds}"),
                (hours, minutes) => format!("{hours}h{minutes}m{seconds}"),
            }
        }
    }
}

/// Reads a size in bytes: a number, decimals allowed, with `b k kb m mb g gb t tb p pb`, any case, an `i` between
/// allowed; 1 k is 1024. A negative number of bytes is for "no limit" where an attribute has that.
pub(crate) fn parse_bytes(text: &str) -> Option<i64> {
    if let Some(digits) = text.strip_prefix('-') {
        return digits
            .parse::<i64>()
            .ok()
            .filter(|_| !digits.starts_with(['-', '+']))
            .map(|bytes| -bytes);
    }
    let number_end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(number_end);
    let unit = unit.strip_prefix(' ').unwrap_or(unit).to_ascii_lowercase();
    let unit = unit.strip_suffix('b').unwrap_or(&unit);
    let unit = unit.strip_suffix('i').unwrap_or(unit);
    let power = match unit {
        "" => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        "p" => 5,
        _ => return None,
    };
    let bytes = scaled(number, 1_u128 << (10 * power))?;
    i64::try_from(bytes).ok()
}

/// Reads a switch of the environment.
pub(crate) fn parse_switch(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "1" | "t" => Some(true),
        "0" | "f" => Some(false),
        other => parse_boolean(other).map(|(on, _)| on),
    }
}

/// Reads a truth value; the second is whether it is one of those that YAML 1.2 no longer has (`yes`, `on`, …).
pub(crate) fn parse_boolean(text: &str) -> Option<(bool, bool)> {
    Some(match text.to_ascii_lowercase().as_str() {
        "true" => (true, false),
        "false" => (false, false),
        "y" | "yes" | "on" => (true, true),
        "n" | "no" | "off" => (false, true),
        _ => return None,
    })
}

/// Reads permission bits in octal, with or without a leading `0` or `0o`.
pub(crate) fn parse_mode(text: &str) -> Option<u32> {
    let digits = text.strip_prefix("0o").unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|b| (b'0'..=b'7').contains(&b)) {
        return None;
    }
    u32::from_str_radix(digits, 8)
        .ok()
        .filter(|mode| *mode <= 0o7777)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        let rows = [
            ("30s", Some("30s")),
            ("1m30s", Some("1m30s")),
            ("90s", Some("1m30s")),
            ("60s", Some("1m0s")),
            ("1h", Some("1h0m0s")),
            ("1w2d3h4m5s6ms7us8ns", Some("219h4m5.006007008s")),
            ("1.5s", Some("1.5s")),
            ("0.5h", Some("30m0s")),
            ("1.25ms", Some("1.25ms")),
            ("10us", Some("10µs")),
            (".5s", Some("500ms")),
            ("0.3333333333s", Some("333.333333ms")),
            ("0s", Some("0s")),
            ("0", Some("0s")),
            ("+5s", Some("5s")),
            ("1.s", Some("1s")),
            ("1h1h", Some("2h0m0s")),
            ("1m1h", Some("1h1m0s")),
            ("1us", Some("1µs")),
            ("1d", Some("24h0m0s")),
            ("1w", Some("168h0m0s")),
            ("5ns", Some("5ns")),
            ("7ms8ns", Some("7.000008ms")),
            ("1h30", None),
            ("1y", None),
            ("+", None),
            ("+-5s", None),
            ("5", None),
            ("", None),
            ("s", None),
            ("-5s", None),
            ("5 s", None),
            ("5y", None),
            ("1.2.3s", None),
            ("1s2", None),
            ("99999999999999h", None),
            ("99999999999999999999999999999999999999999999w", None),
        ];
        for (text, expected) in rows {
            let printed = parse_duration(text).map(format_duration);
            assert_eq!(printed.as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn bytes() {
        let rows = [
            ("0", Some(0)),
            ("1024", Some(1024)),
            ("1b", Some(1)),
            ("1k", Some(1024)),
            ("1kb", Some(1024)),
            ("1KiB", Some(1024)),
            ("1mb", Some(1 << 20)),
            ("1MiB", Some(1 << 20)),
            ("1g", Some(1 << 30)),
            ("1tb", Some(1 << 40)),
            ("1TiB", Some(1 << 40)),
            ("1pb", Some(1 << 50)),
            ("0.5m", Some(1 << 19)),
            ("512m", Some(512 << 20)),
            ("1.5G", Some(3 << 29)),
            ("2 gb", Some(2 << 30)),
            ("1t", Some(1 << 40)),
            ("1p", Some(1 << 50)),
            ("-1", Some(-1)),
            ("-2", Some(-2)),
            ("--2", None),
            ("-2k", None),
            ("1ib", Some(1)),
            ("1ki", Some(1024)),
            ("1 ", Some(1)),
            ("1K", Some(1024)),
            ("1.0000001k", Some(1024)),
            ("100KiB", Some(102_400)),
            ("1x", None),
            ("1bb", None),
            ("1 k b", None),
            (" 1m", None),
            ("+1m", None),
            ("1,5g", None),
            ("0x10", None),
            ("", None),
            ("k", None),
            ("1.5.2k", None),
            ("99999999p", None),
        ];
        for (text, expected) in rows {
            assert_eq!(parse_bytes(text), expected, "{text}");
        }
    }

    #[test]
    fn truth_values_and_modes() {
        let booleans = [
            ("true", Some((true, false))),
            ("False", Some((false, false))),
            ("yes", Some((true, true))),
            ("off", Some((false, true))),
            ("TRUE", Some((true, false))),
            ("false", Some((false, false))),
            ("y", Some((true, true))),
            ("on", Some((true, true))),
            ("n", Some((false, true))),
            ("no", Some((false, true))),
            ("maybe", None),
            ("1", None),
            ("", None),
        ];
        assert_eq!(
            (parse_switch("1"), parse_switch("No")),
            (Some(true), Some(false))
        );
        for (text, expected) in booleans {
            assert_eq!(parse_boolean(text), expected, "{text}");
        }
        let modes = [
            ("0440", Some(0o440)),
            ("440", Some(0o440)),
            ("0o1777", Some(0o1777)),
            ("8", None),
            ("", None),
            ("77777", None),
        ];
        for (text, expected) in modes {
            assert_eq!(parse_mode(text), expected, "{text}");
        }
    }
}
