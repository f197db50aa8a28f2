//! Times as people write and read them. Pure: the present is an argument.

use std::time::Duration;

use jiff::Timestamp;

/// Says how long a time is, in Docker's words: `About a minute`, `3 hours` (docker/go-units `HumanDuration`).
pub(crate) fn render_age(seconds: i64) -> String {
    let minutes = seconds / 60;
    let hours = (seconds + 1800) / 3600;
    match () {
        () if seconds < 1 => "Less than a second".to_owned(),
        () if seconds == 1 => "1 second".to_owned(),
        () if seconds < 60 => format!("{seconds} seconds"),
        () if minutes == 1 => "About a minute".to_owned(),
        () if minutes < 60 => format!("{minutes} minutes"),
        () if hours == 1 => "About an hour".to_owned(),
        () if hours < 48 => format!("{hours} hours"),
        () if hours < 24 * 7 * 2 => format!("{} days", hours / 24),
        () if hours < 24 * 30 * 2 => format!("{} weeks", hours / 24 / 7),
        () if hours < 24 * 365 * 2 => format!("{} months", hours / 24 / 30),
        () => format!("{} years", seconds / 3600 / 24 / 365),
    }
}

/// Renders a point in time as Docker's lists do, in UTC: `2026-11-21 10:38:00 +0000 UTC`.
pub(crate) fn render_date(seconds: i64) -> String {
    match Timestamp::from_second(seconds) {
        Ok(time) => time.strftime("%Y-%m-%d %H:%M:%S +0000 UTC").to_string(),
        Err(_) => "N/A".to_owned(),
    }
}

/// Renders a point in time in UTC: `2026-11-21T10:38:00Z`.
pub(crate) fn render_rfc3339(seconds: i64) -> String {
    match Timestamp::from_second(seconds) {
        Ok(time) => time.to_string(),
        Err(_) => "N/A".to_owned(),
    }
}

/// Renders a number of bytes with three significant digits in powers of 1000: `4.26MB` (docker/go-units
/// `HumanSizeWithPrecision(…, 3)`).
pub(crate) fn render_size(bytes: u64) -> String {
    size(bytes, 100)
}

/// Renders a number of bytes with four significant digits in powers of 1000: `4.262MB` (docker/go-units `HumanSize`).
pub(crate) fn render_precise_size(bytes: u64) -> String {
    size(bytes, 1000)
}

/// `scale` is 10 to the power of the digits behind the point of a number below 10.
fn size(bytes: u64, scale: u128) -> String {
    const UNITS: [&str; 7] = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];
    let mut unit = 0;
    let mut divisor = 1_u128;
    while unit + 1 < UNITS.len() && u128::from(bytes) >= divisor * 1000 {
        unit += 1;
        divisor *= 1000;
    }
    let limit = scale * 10;
    let mut scale = scale;
    loop {
        let number = (u128::from(bytes) * scale * 2 + divisor) / (divisor * 2);
        // What rounding makes 1000 is 1 of the next unit where there are digits for that.
        if number >= limit && scale > 1 {
            scale /= 10;
            continue;
        }
        let (whole, rest) = (number / scale, number % scale);
        if whole >= 1000 && limit <= 1000 && unit + 1 < UNITS.len() {
            return format!("1{}", UNITS.get(unit + 1).unwrap_or(&""));
        }
        let digits = usize::try_from(scale.ilog10()).unwrap_or(0);
        let text = match digits {
            0 => whole.to_string(),
            _ => format!("{whole}.{rest:0digits$}"),
        };
        let text = if text.contains('.') {
            text.trim_end_matches('0').trim_end_matches('.')
        } else {
            &text
        };
        return format!("{text}{}", UNITS.get(unit).unwrap_or(&""));
    }
}

/// Renders a time that has passed since a task began: `0.4s`, `12.3s`, `2m05s`.
pub(crate) fn render_elapsed(elapsed: Duration) -> String {
    let seconds = elapsed.as_secs();
    if seconds < 100 {
        return format!("{seconds}.{}s", elapsed.subsec_millis() / 100);
    }
    format!("{}m{:02}s", seconds / 60, seconds % 60)
}

/// Reads a time span as Go writes them: `300ms`, `1.5h`, `1h30m`.
pub(crate) fn parse_duration(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut total = Duration::ZERO;
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
        let seconds = match unit {
            "ns" => 1e-9,
            "us" | "µs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            "d" => 86400.0,
            _ => return None,
        };
        let number: f64 = number.parse().ok()?;
        total = total.checked_add(Duration::try_from_secs_f64(number * seconds).ok()?)?;
        rest = after;
    }
    Some(total)
}

/// Reads a point in time, in nanoseconds since 1970: RFC 3339 (in UTC where it names no zone), a date, seconds since
/// 1970 with or without a fraction, or a span back from `now` (docker `--since`).
pub(crate) fn parse_time(text: &str, now: Timestamp) -> Option<i128> {
    if let Ok(time) = text.parse::<Timestamp>() {
        return Some(time.as_nanosecond());
    }
    if let Some(span) = parse_duration(text) {
        let span = i128::try_from(span.as_nanos()).ok()?;
        return Some(now.as_nanosecond() - span);
    }
    if let Ok(time) = text.parse::<jiff::civil::DateTime>() {
        let time = time.to_zoned(jiff::tz::TimeZone::UTC).ok()?;
        return Some(time.timestamp().as_nanosecond());
    }
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if seconds.is_empty() || !digits(seconds) || !digits(fraction) || fraction.len() > 9 {
        return None;
    }
    let fraction: i128 = format!("{fraction:0<9}").parse().ok()?;
    Some(i128::from(seconds.parse::<i64>().ok()?) * 1_000_000_000 + fraction)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_told_in_dockers_words() {
        let rows = [
            (-5, "Less than a second"),
            (0, "Less than a second"),
            (1, "1 second"),
            (59, "59 seconds"),
            (60, "About a minute"),
            (119, "About a minute"),
            (120, "2 minutes"),
            (3599, "59 minutes"),
            (3600, "About an hour"),
            (5400, "2 hours"),
            (86400, "24 hours"),
            (3 * 86400, "3 days"),
            (15 * 86400, "2 weeks"),
            (90 * 86400, "3 months"),
            (800 * 86400, "2 years"),
        ];
        for (seconds, expected) in rows {
            assert_eq!(render_age(seconds), expected, "{seconds}");
        }
    }

    #[test]
    fn sizes_have_three_digits() {
        let rows = [
            (0, "0B"),
            (999, "999B"),
            (1000, "1kB"),
            (1234, "1.23kB"),
            (4_261_550, "4.26MB"),
            (12_345_678, "12.3MB"),
            (12_960_000, "13MB"),
            (149_600_000, "150MB"),
            (999_600, "1MB"),
            (u64::MAX, "18.4EB"),
        ];
        for (bytes, expected) in rows {
            assert_eq!(render_size(bytes), expected, "{bytes}");
        }
    }

    #[test]
    fn spans_are_read_as_go_reads_them() {
        let rows = [
            ("42m", Some(Duration::from_mins(42))),
            ("1h30m", Some(Duration::from_mins(90))),
            ("1.5s", Some(Duration::from_millis(1500))),
            ("300ms", Some(Duration::from_millis(300))),
            ("", None),
            ("5", None),
            ("m", None),
            ("-5s", None),
            ("1e9s", None),
            ("99999999999999999999999h", None),
        ];
        for (text, expected) in rows {
            assert_eq!(parse_duration(text), expected, "{text}");
        }
    }

    #[test]
    fn times_are_read_in_every_form() {
        let now = Timestamp::from_second(1_700_000_000).unwrap();
        let rows = [
            ("2023-11-14T22:13:20Z", Some(1_700_000_000_000_000_000)),
            (
                "2023-11-14T23:13:20.5+01:00",
                Some(1_700_000_000_500_000_000),
            ),
            ("2023-11-14T22:13:20", Some(1_700_000_000_000_000_000)),
            ("2023-11-14", Some(1_699_920_000_000_000_000)),
            ("1700000000", Some(1_700_000_000_000_000_000)),
            ("1700000000.25", Some(1_700_000_000_250_000_000)),
            ("10s", Some(1_699_999_990_000_000_000)),
            ("yesterday", None),
            ("", None),
        ];
        for (text, expected) in rows {
            assert_eq!(parse_time(text, now), expected, "{text}");
        }
    }

    #[test]
    fn elapsed_times_stay_short() {
        let rows = [
            (0, "0.0s"),
            (449, "0.4s"),
            (12_340, "12.3s"),
            (125_000, "2m05s"),
        ];
        for (milliseconds, expected) in rows {
            assert_eq!(
                render_elapsed(Duration::from_millis(milliseconds)),
                expected
            );
        }
    }
}
