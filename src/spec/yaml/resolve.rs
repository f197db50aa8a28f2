//! Which type a scalar has: the rules of go-yaml, which Docker Compose reads with.
//!
//! YAML 1.2's core schema, but `0644` and `0b11` are numbers, `1_000` is a thousand, `2001-01-01` is a time (and becomes
//! the text that Go prints of it), and neither `yes` nor `22:22` is anything but text.

use std::borrow::Cow;

use crate::spec::tree::Value;

/// What a scalar stands for.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Scalar {
    /// A plain `<<`: as a key, it merges a map into this one.
    MergeKey,
    /// A value.
    Value(Value),
}

/// Returns the text of one of the standard tags, such as `int`.
fn standard(tag: &str) -> Option<&str> {
    tag.strip_prefix("tag:yaml.org,2002:")
}

/// Resolves `text`, written `plain` or in quotes, with `tag` (in its long form) before it.
pub(crate) fn resolve(text: &str, plain: bool, tag: Option<&str>) -> Scalar {
    let typed = tag.and_then(standard);
    let is_text = match (tag, typed) {
        (_, Some("str" | "binary")) => true,
        (_, Some(_)) => false,
        _ => !plain,
    };
    if is_text {
        return Scalar::Value(Value::String(text.into()));
    }
    if text == "<<" {
        return Scalar::MergeKey;
    }
    Scalar::Value(resolve_plain(text))
}

/// Whether `text`, written without quotes, would be read back as the same text.
pub(crate) fn reads_as_text(text: &str) -> bool {
    matches!(resolve(text, true, None), Scalar::Value(Value::String(read)) if *read == *text)
}

fn resolve_plain(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "true" | "True" | "TRUE" => return Value::Bool(true),
        "false" | "False" | "FALSE" => return Value::Bool(false),
        ".nan" | ".NaN" | ".NAN" => return Value::Float(f64::NAN),
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => {
            return Value::Float(f64::INFINITY);
        }
        "-.inf" | "-.Inf" | "-.INF" => return Value::Float(f64::NEG_INFINITY),
        "-0" | "-0.0" => return Value::Float(-0.0),
        _ => {}
    }
    let number = match text.as_bytes().first() {
        Some(b'.') => resolve_dotted(text),
        Some(b'0'..=b'9' | b'+' | b'-') => resolve_number(text),
        _ => None,
    };
    number.unwrap_or_else(|| Value::String(text.into()))
}

fn resolve_dotted(text: &str) -> Option<Value> {
    let misplaced = text.starts_with("._") || text.ends_with('_') || text.contains("__");
    let digits = without_underscores(text);
    if misplaced || !is_float(&digits) {
        return None;
    }
    digits.parse().ok().map(Value::Float)
}

fn resolve_number(text: &str) -> Option<Value> {
    if let Some(time) = go_time(text) {
        return Some(Value::String(time.into()));
    }
    let digits = without_underscores(text);
    if let Some(integer) = go_integer(&digits) {
        return Some(integer);
    }
    if !is_float(&digits) {
        return None;
    }
    let number: f64 = digits.parse().ok()?;
    number.is_finite().then_some(Value::Float(number))
}

fn without_underscores(text: &str) -> Cow<'_, str> {
    if text.contains('_') {
        text.replace('_', "").into()
    } else {
        text.into()
    }
}

/// Go's `strconv.ParseInt(text, 0, 64)`, then `ParseUint`.
fn go_integer(text: &str) -> Option<Value> {
    let (sign, digits) = match text.as_bytes().first()? {
        b'-' => (Some('-'), &text[1..]),
        b'+' => (Some('+'), &text[1..]),
        _ => (None, text),
    };
    let lower = |prefix: &str| {
        let head = digits.get(..2)?;
        head.eq_ignore_ascii_case(prefix).then(|| &digits[2..])
    };
    let (radix, digits) = if let Some(rest) = lower("0x") {
        (16, rest)
    } else if let Some(rest) = lower("0b") {
        (2, rest)
    } else if let Some(rest) = lower("0o") {
        (8, rest)
    } else if digits.len() > 1 && digits.starts_with('0') {
        (8, &digits[1..])
    } else {
        (10, digits)
    };
    if digits.is_empty() || !digits.chars().all(|c| c.is_digit(radix)) {
        return None;
    }
    let magnitude = u64::from_str_radix(digits, radix).ok()?;
    match sign {
        Some('-') => 0_i64.checked_sub_unsigned(magnitude).map(Value::Integer),
        sign => match i64::try_from(magnitude) {
            Ok(value) => Some(Value::Integer(value)),
            Err(_) if sign.is_some() => None,
            Err(_) => Some(Value::Unsigned(magnitude)),
        },
    }
}

/// `[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?`
fn is_float(text: &str) -> bool {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let (mantissa, exponent) = match unsigned.find(['e', 'E']) {
        Some(at) => (&unsigned[..at], Some(&unsigned[at + 1..])),
        None => (unsigned, None),
    };
    let all_digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
    let (whole, fraction) = match mantissa.split_once('.') {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (mantissa, None),
    };
    let has_digits = !whole.is_empty() || fraction.is_some_and(|digits| !digits.is_empty());
    let exponent_is_number = exponent.is_none_or(|digits| {
        let digits = digits.strip_prefix(['-', '+']).unwrap_or(digits);
        !digits.is_empty() && all_digits(digits)
    });
    has_digits && all_digits(whole) && fraction.is_none_or(all_digits) && exponent_is_number
}

/// Reads at most `width` digits as a number of at most `max`.
fn bounded(text: &str, width: usize, max: u32) -> Option<u32> {
    if text.is_empty() || text.len() > width || !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    text.parse().ok().filter(|number| *number <= max)
}

/// Returns what Go prints of a time in one of go-yaml's four layouts: `Y-M-DTh:m:s[.f]Z07:00` (also with `t`),
/// `Y-M-D h:m:s[.f]` and `Y-M-D`.
fn go_time(text: &str) -> Option<String> {
    let year = text.get(..4)?;
    if !year.bytes().all(|b| b.is_ascii_digit()) || text.as_bytes().get(4) != Some(&b'-') {
        return None;
    }
    let separator = text.find(['T', 't', ' ']);
    let (date, time) = match separator {
        Some(at) => (&text[..at], Some((&text[at..=at], &text[at + 1..]))),
        None => (text, None),
    };
    let date = go_date(date)?;
    let Some((separator, time)) = time else {
        return Some(format!("{date} 00:00:00 +0000 UTC"));
    };
    let (clock, zone) = if separator == " " {
        (time, "+0000 UTC".to_owned())
    } else if let Some(clock) = time.strip_suffix('Z') {
        (clock, "+0000 UTC".to_owned())
    } else {
        let at = time.len().checked_sub(6)?;
        let (clock, zone) = (time.get(..at)?, time.get(at..)?);
        let hours = bounded(zone.get(1..3)?, 2, 24)?;
        let minutes = bounded(zone.get(4..)?, 2, 59)?;
        if !zone.starts_with(['+', '-']) || zone.as_bytes().get(3) != Some(&b':') {
            return None;
        }
        let zone = format!("{}{hours:02}{minutes:02}", zone.get(..1)?);
        let name = if hours == 0 && minutes == 0 {
            "UTC".to_owned()
        } else {
            zone.clone()
        };
        (clock, format!("{zone} {name}"))
    };
    Some(format!("{date} {} {zone}", go_clock(clock)?))
}

fn go_date(text: &str) -> Option<String> {
    let mut parts = text.split('-');
    let year = bounded(parts.next()?, 4, 9999)?;
    let month = bounded(parts.next()?, 2, 12).filter(|month| *month > 0)?;
    let day = bounded(parts.next()?, 2, 31).filter(|day| *day > 0)?;
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let days = match month {
        2 => 28 + u32::from(leap),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    };
    if parts.next().is_some() || day > days {
        return None;
    }
    Some(format!("{year:04}-{month:02}-{day:02}"))
}

fn go_clock(text: &str) -> Option<String> {
    let (clock, fraction) = match text.split_once('.') {
        Some((clock, fraction)) => (clock, Some(fraction)),
        None => (text, None),
    };
    let mut parts = clock.split(':');
    let hour = bounded(parts.next()?, 2, 23)?;
    let minute = bounded(parts.next()?, 2, 59)?;
    let second = bounded(parts.next()?, 2, 59)?;
    if parts.next().is_some() {
        return None;
    }
    let fraction = match fraction {
        None => String::new(),
        Some(digits) => {
            bounded(digits, 9, u32::MAX)?;
            let digits = digits.trim_end_matches('0');
            if digits.is_empty() {
                String::new()
            } else {
                format!(".{digits}")
            }
        }
    };
    Some(format!("{hour:02}:{minute:02}:{second:02}{fraction}"))
}

/// Returns a number as Go's `fmt` prints it: the shortest digits that read back to it, with an exponent below 1e-4 and
/// from 1e21 on.
pub(crate) fn go_float(number: f64) -> String {
    if number.is_nan() {
        return "NaN".to_owned();
    }
    if number.is_infinite() {
        return if number > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    let magnitude = number.abs();
    if magnitude == 0.0 || (1e-4..1e21).contains(&magnitude) {
        return number.to_string();
    }
    let text = format!("{number:e}");
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let (sign, exponent) = match exponent.strip_prefix('-') {
        Some(exponent) => ('-', exponent),
        None => ('+', exponent),
    };
    format!("{digits}e{sign}{exponent:0>2}")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What Docker makes of a plain scalar, as it would print it.
    fn printed(text: &str) -> String {
        match resolve(text, true, None) {
            Scalar::MergeKey => "merge".to_owned(),
            Scalar::Value(value) => match value {
                Value::Null => "null".to_owned(),
                Value::Bool(value) => format!("bool {value}"),
                Value::Integer(value) => format!("int {value}"),
                Value::Unsigned(value) => format!("uint {value}"),
                Value::Float(value) => format!("float {}", go_float(value)),
                Value::String(value) => format!("str {value}"),
                other => format!("{other:?}"),
            },
        }
    }

    #[test]
    fn plain_scalars_are_what_docker_reads() {
        let rows = [
            (
                "yes No on y n nUll 22:22 1:30:00 -1:30 0xZ 0b12 _1 1.2.3.4 1.2.3 10.0.0.0/8",
                "str",
            ),
            (
                "2001-13-01 2001-02-30 2001-01-01T10:00:00 20010101x 2001-01 1e3.5 NaN nan inf 1,000 =",
                "str",
            ),
            (
                "1h30m 512m 0b 0o 0x -- +- . .. 1e +0x10000000000000000 1e400 -1e400 <<x",
                "str",
            ),
            ("true True TRUE", "bool true"),
            ("~ null Null NULL", "null"),
            ("0644 0o644 0O644", "int 420"),
            ("-0644", "int -420"),
            (
                "0x1F 0X1f 0b11111 0B11111 31 +31 3_1 31_ 3__1 0x_1F",
                "int 31",
            ),
            (
                "0777777777777777777777 9223372036854775807 +9223372036854775807",
                "int 9223372036854775807",
            ),
            ("-9223372036854775808", "int -9223372036854775808"),
            ("9223372036854775808", "uint 9223372036854775808"),
            ("18446744073709551616", "float 18446744073709552000"),
            ("08 8.0 8e0", "float 8"),
            ("1e3 1E3 1e+3", "float 1000"),
            (".5 +.5 0.5", "float 0.5"),
            ("5e-324", "float 5e-324"),
            ("1e21", "float 1e+21"),
            ("-0 -0.0", "float -0"),
        ];
        for (texts, expected) in rows {
            for text in texts.split(' ') {
                let expected = if expected == "str" {
                    format!("str {text}")
                } else {
                    expected.to_owned()
                };
                assert_eq!(printed(text), expected, "{text}");
            }
        }
        let times = [
            ("2001-01-01", "str 2001-01-01 00:00:00 +0000 UTC"),
            ("2001-1-1", "str 2001-01-01 00:00:00 +0000 UTC"),
            ("2001-01-01T10:00:00Z", "str 2001-01-01 10:00:00 +0000 UTC"),
            (
                "2001-01-01T1:2:3.50Z",
                "str 2001-01-01 01:02:03.5 +0000 UTC",
            ),
            (
                "2001-01-01t10:00:00+02:00",
                "str 2001-01-01 10:00:00 +0200 +0200",
            ),
            ("2001-01-01 10:00:00", "str 2001-01-01 10:00:00 +0000 UTC"),
            ("<<", "merge"),
        ];
        for (text, expected) in times {
            assert_eq!(printed(text), expected, "{text}");
        }
    }

    #[test]
    fn tags_and_quotes_choose_the_type() {
        let text = |text: &str| Scalar::Value(Value::String(text.into()));
        assert_eq!(resolve("3", false, None), text("3"));
        assert_eq!(resolve("3", true, Some("tag:yaml.org,2002:str")), text("3"));
        assert_eq!(resolve("<<", false, None), text("<<"));
        assert_eq!(
            resolve("3", false, Some("tag:yaml.org,2002:int")),
            Scalar::Value(Value::Integer(3))
        );
    }
}
