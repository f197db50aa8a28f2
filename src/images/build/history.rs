//! How instructions look in an image's history: as Go's `fmt` writes them for Docker.

use super::super::manifest::Healthcheck;

/// Shows words as Go's `%q` does: quoted, blanks between them.
pub(super) fn quoted(words: &[String]) -> String {
    let words: Vec<String> = words.iter().map(|word| quote(word, '"')).collect();
    format!("[{}]", words.join(" "))
}

/// Shows a health check as Go's `%q` does a pointer to the structure: numbers as the characters that they are of.
pub(super) fn healthcheck(check: &Healthcheck) -> String {
    let durations = [
        check.interval_ns,
        check.timeout_ns,
        check.start_period_ns,
        check.start_interval_ns,
    ];
    let durations = durations.map(|ns| format!("\"{}\"", duration(ns)));
    let retries = u32::try_from(check.retries).ok().and_then(char::from_u32);
    let retries = retries.unwrap_or(char::REPLACEMENT_CHARACTER);
    format!(
        "HEALTHCHECK &{{{} {} {}}}",
        quoted(&check.test),
        durations.join(" "),
        quote(&retries.to_string(), '\'')
    )
}

/// Quotes text as Go's `strconv.Quote` does.
fn quote(text: &str, mark: char) -> String {
    let mut quoted = String::from(mark);
    for character in text.chars() {
        match character {
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            '\r' => quoted.push_str("\\r"),
            '\u{7}' => quoted.push_str("\\a"),
            '\u{8}' => quoted.push_str("\\b"),
            '\u{b}' => quoted.push_str("\\v"),
            '\u{c}' => quoted.push_str("\\f"),
            c if c == mark => quoted.extend(['\\', c]),
            c if c.is_ascii_control() => quoted.extend(format!("\\x{:02x}", u32::from(c)).chars()),
            c if c.is_control() => quoted.extend(format!("\\u{:04x}", u32::from(c)).chars()),
            c => quoted.push(c),
        }
    }
    quoted.push(mark);
    quoted
}

/// Shows nanoseconds as Go's `time.Duration` does: `1m30s`, `500ms`, `0s`.
fn duration(ns: i64) -> String {
    let decimal = |value: i64, unit: i64| {
        let fraction = format!("{:0width$}", value % unit, width = unit.ilog10() as usize);
        let fraction = fraction.trim_end_matches('0').to_owned();
        match (unit, fraction.as_str()) {
            (1, _) | (_, "") => (value / unit).to_string(),
            _ => format!("{}.{fraction}", value / unit),
        }
    };
    match ns {
        0 => "0s".to_owned(),
        1..=999 => format!("{ns}ns"),
        1_000..=999_999 => format!("{}µs", decimal(ns, 1_000)),
        1_000_000..=999_999_999 => format!("{}ms", decimal(ns, 1_000_000)),
        _ => {
            const MINUTE: i64 = 60_000_000_000;
            let (minutes, seconds) = (ns / MINUTE, decimal(ns % MINUTE, 1_000_000_000));
            match (minutes / 60, minutes % 60) {
                (0, 0) => format!("{seconds}s"),
                (0, minutes) => format!("{minutes}m{seconds}s"),
                (hours, minutes) => format!("{hours}h{minutes}m{seconds}s"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn go_writes_them_so() {
        let table = [
            (0, "0s"),
            (1, "1ns"),
            (1_500, "1.5µs"),
            (500_000_000, "500ms"),
            (5_000_000_000, "5s"),
            (1_500_000_000, "1.5s"),
            (60_000_000_000, "1m0s"),
            (90_000_000_000, "1m30s"),
            (3_600_000_000_000, "1h0m0s"),
        ];
        for (ns, expected) in table {
            assert_eq!(duration(ns), expected);
        }
        let words = ["a b", "\"q\"", "it's", "\n\t\u{1}", "é\\"].map(str::to_owned);
        assert_eq!(quoted(&words), r#"["a b" "\"q\"" "it's" "\n\t\x01" "é\\"]"#);
        let check = Healthcheck {
            test: vec!["CMD-SHELL".to_owned(), "x".to_owned()],
            interval_ns: 30_000_000_000,
            retries: 10,
            ..Healthcheck::default()
        };
        assert_eq!(
            healthcheck(&check),
            r#"HEALTHCHECK &{["CMD-SHELL" "x"] "30s" "0s" "0s" "0s" '\n'}"#
        );
    }
}
