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

/// Resolves `text`, written `plain` or in quotes, with `tag` (in its long form) before it; an error where the text is not
/// what the tag says.
///
/// The types that a tag can ask for are go-yaml's; with any other tag the text is text.
pub(crate) fn resolve(
    text: Cow<'_, str>,
    plain: bool,
    tag: Option<&str>,
) -> Result<Scalar, String> {
    let string = |text: Cow<'_, str>| Ok(Scalar::Value(Value::String(text.into_owned().into())));
    let Some(tag) = tag.filter(|tag| *tag != "!") else {
        return if !plain {
            string(text)
        } else if text == "<<" {
            Ok(Scalar::MergeKey)
        } else {
            typed(&text).map_or_else(|| string(text), |value| Ok(Scalar::Value(value)))
        };
    };
    match tag.strip_prefix("tag:yaml.org,2002:") {
        Some("binary") => binary(&text),
        Some("merge") if text == "<<" => Ok(Scalar::MergeKey),
        Some(wanted @ ("int" | "float" | "bool" | "null" | "timestamp")) => {
            let value = typed(&text);
            let found = match &value {
                Some(Value::Null) => "null",
                Some(Value::Bool(_)) => "bool",
                Some(Value::Integer(_) | Value::Unsigned(_)) => "int",
                Some(Value::Float(_)) => "float",
                Some(_) => "timestamp",
                None => "str",
            };
            if let Some(value) = value
                && (found == wanted || (found, wanted) == ("int", "float"))
            {
                return Ok(Scalar::Value(value));
            }
            Err(format!("cannot decode !!{found} `{text}` as a !!{wanted}"))
        }
        // A null that is to stand for something else is one all the same.
        None if tag == "!override" && plain && typed(&text) == Some(Value::Null) => {
            Ok(Scalar::Value(Value::Null))
        }
        _ => string(text),
    }
}

/// Decodes what `!!binary` stands before.
fn binary(text: &str) -> Result<Scalar, String> {
    use base64::Engine as _;
    let digits: String = text.chars().filter(|c| !matches!(c, '\r' | '\n')).collect();
    let bytes = base64::engine::general_purpose::STANDARD
        .decode(digits)
        .map_err(|_| "!!binary value contains invalid base64 data".to_owned())?;
    let text =
        String::from_utf8(bytes).map_err(|_| "!!binary value is no text in UTF-8".to_owned())?;
    Ok(Scalar::Value(Value::String(text.into())))
}

/// Whether `text`, written without quotes, would be read back as the same text.
pub(crate) fn reads_as_text(text: &str) -> bool {
    text != "<<" && typed(text).is_none()
}

/// Returns what a plain scalar is, where it is no text that stays as it is.
fn typed(text: &str) -> Option<Value> {
    // Most are text, which the first byte tells.
    match text.as_bytes().first() {
        None | Some(b'~' | b'n' | b'N' | b't' | b'T' | b'f' | b'F') => word(text),
        Some(b'.') => word(text).or_else(|| resolve_dotted(text)),
        Some(b'0'..=b'9' | b'+' | b'-') => word(text).or_else(|| resolve_number(text)),
        _ => None,
    }
}

fn word(text: &str) -> Option<Value> {
    Some(match text {
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "true" | "True" | "TRUE" => Value::Bool(true),
        "false" | "False" | "FALSE" => Value::Bool(false),
        ".nan" | ".NaN" | ".NAN" => Value::Float(f64::NAN),
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => Value::Float(f64::INFINITY),
        "-.inf" | "-.Inf" | "-.INF" => Value::Float(f64::NEG_INFINITY),
        "-0.0" => Value::Float(-0.0),
        _ => return None,
    })
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

/// Returns a number as Go's `fmt` prints it: the shortest digits that read back to it, with an exponent where that is below
/// -4 or above 5 (`strconv.FormatFloat` with `g`).
pub(crate) fn go_float(number: f64) -> String {
    if number.is_nan() {
        return "NaN".to_owned();
    }
    if number.is_infinite() {
        return if number > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    let text = format!("{number:e}");
    let exponent = text.rsplit_once('e').map(|(_, exponent)| exponent.parse());
    if let Some(Ok(-4_i32..=5)) = exponent {
        return number.to_string();
    }
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
        match resolve(text.into(), true, None).unwrap() {
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
            ("18446744073709551616", "float 1.8446744073709552e+19"),
            ("08 8.0 8e0", "float 8"),
            ("1e3 1E3 1e+3", "float 1000"),
            ("1e6 1000000.0", "float 1e+06"),
            (".5 +.5 0.5", "float 0.5"),
            ("5e-324", "float 5e-324"),
            ("1e21", "float 1e+21"),
            ("123456789.5 1.234567895e8", "float 1.234567895e+08"),
            ("1234567.0", "float 1.234567e+06"),
            ("123456.5", "float 123456.5"),
            ("0.0001", "float 0.0001"),
            ("0.00001 1e-5", "float 1e-05"),
            ("-0.0", "float -0"),
            ("-0 +0 0", "int 0"),
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
        let standard = |tag: &str| format!("tag:yaml.org,2002:{tag}");
        let text = |text: &str| Ok(Scalar::Value(Value::String(text.into())));
        let value = |value| Ok(Scalar::Value(value));
        let (plain, quoted) = (true, false);
        let rows = [
            ("3", quoted, String::new(), text("3")),
            ("<<", quoted, String::new(), text("<<")),
            ("3", plain, standard("str"), text("3")),
            ("<<", plain, standard("str"), text("<<")),
            ("<<", quoted, standard("merge"), Ok(Scalar::MergeKey)),
            ("x", plain, standard("merge"), text("x")),
            ("3", quoted, standard("int"), value(Value::Integer(3))),
            (
                "0644",
                quoted,
                standard("int"),
                value(Value::Integer(0o644)),
            ),
            ("3", plain, standard("float"), value(Value::Integer(3))),
            (".5", plain, standard("float"), value(Value::Float(0.5))),
            ("true", quoted, standard("bool"), value(Value::Bool(true))),
            ("", quoted, standard("null"), value(Value::Null)),
            ("aGVs\nbG8=", plain, standard("binary"), text("hello")),
            ("", plain, standard("binary"), text("")),
            ("3", plain, "!".to_owned(), value(Value::Integer(3))),
            ("3", quoted, "!".to_owned(), text("3")),
            ("3", plain, "!mine".to_owned(), text("3")),
            ("true", plain, "!override".to_owned(), text("true")),
            ("~", plain, "!override".to_owned(), value(Value::Null)),
            ("~", quoted, "!override".to_owned(), text("~")),
            ("{}", plain, standard("set"), text("{}")),
            (
                "2001-01-01",
                plain,
                standard("timestamp"),
                text("2001-01-01 00:00:00 +0000 UTC"),
            ),
        ];
        for (written, plain, tag, expected) in rows {
            let tag = Some(tag.as_str()).filter(|tag| !tag.is_empty());
            assert_eq!(
                resolve(written.into(), plain, tag),
                expected,
                "{tag:?} {written}"
            );
        }
        let wrong = [
            ("abc", "int", "cannot decode !!str `abc` as a !!int"),
            ("1.5", "int", "cannot decode !!float `1.5` as a !!int"),
            ("abc", "float", "cannot decode !!str `abc` as a !!float"),
            ("yes", "bool", "cannot decode !!str `yes` as a !!bool"),
            ("x", "null", "cannot decode !!str `x` as a !!null"),
            ("x", "timestamp", "cannot decode !!str `x` as a !!timestamp"),
            (
                "x!",
                "binary",
                "!!binary value contains invalid base64 data",
            ),
            ("/w==", "binary", "!!binary value is no text in UTF-8"),
        ];
        for (written, tag, message) in wrong {
            let error = resolve(written.into(), true, Some(&standard(tag))).unwrap_err();
            assert_eq!(error, message);
        }
    }
}
