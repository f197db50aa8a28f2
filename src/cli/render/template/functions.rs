//! What templates can call: Go's functions and Docker's.

use std::cmp::Ordering;

use super::super::document::{Nil, Value};
use super::print::{display, truth};

/// All that there are.
const NAMES: &[&str] = &[
    "and", "eq", "ge", "gt", "html", "index", "join", "js", "json", "le", "len", "lower", "lt",
    "ne", "not", "or", "pad", "print", "printf", "println", "slice", "split", "title", "truncate",
    "upper", "urlquery",
];

/// The widest that a value is padded to: nobody's terminal is wider.
const MAX_WIDTH: usize = 4096;

/// Whether there is a function of this name.
pub(super) fn is_function(name: &str) -> bool {
    NAMES.contains(&name)
}

/// Calls it.
pub(super) fn call(name: &str, arguments: &[Value]) -> Result<Value, String> {
    let text = |value: String| Ok(Value::Text(value));
    match (name, arguments) {
        ("and" | "or", [.., last]) => {
            let wanted = name == "or";
            let found = arguments.iter().find(|value| truth(value) == wanted);
            Ok(found.unwrap_or(last).clone())
        }
        ("not", [value]) => Ok(Value::Bool(!truth(value))),
        ("len", [value]) => length(value),
        ("index", [value, keys @ ..]) => keys
            .iter()
            .try_fold(value.clone(), |value, key| index(&value, key)),
        ("slice", [value, bounds @ ..]) => slice(value, bounds),
        ("print", values) => text(print(values)),
        ("println", values) => {
            let shown: Vec<String> = values.iter().map(display).collect();
            text(shown.join(" ") + "\n")
        }
        ("printf", [Value::Text(format), values @ ..]) => text(printf(format, values)),
        ("html", values) => text(escape(&print(values), html)),
        ("js", values) => text(escape(&print(values), js)),
        ("urlquery", values) => text(url_query(&print(values))),
        ("eq", [first, rest @ ..]) if !rest.is_empty() => {
            let equal = rest.iter().map(|value| compare_equal(first, value));
            let equal: Result<Vec<bool>, String> = equal.collect();
            Ok(Value::Bool(equal?.contains(&true)))
        }
        ("ne", [a, b]) => Ok(Value::Bool(!compare_equal(a, b)?)),
        ("lt", [a, b]) => Ok(Value::Bool(order(a, b)? == Ordering::Less)),
        ("le", [a, b]) => Ok(Value::Bool(order(a, b)? != Ordering::Greater)),
        ("gt", [a, b]) => Ok(Value::Bool(order(a, b)? == Ordering::Greater)),
        ("ge", [a, b]) => Ok(Value::Bool(order(a, b)? != Ordering::Less)),
        ("json", [value]) => text(value.to_json()),
        ("split", [Value::Text(value), Value::Text(separator)]) => {
            Ok(Value::List(split(value, separator)))
        }
        ("join", [list, Value::Text(separator)]) => join(list, separator),
        ("title", [Value::Text(value)]) => text(title(value)),
        ("lower", [Value::Text(value)]) => text(value.to_lowercase()),
        ("upper", [Value::Text(value)]) => text(value.to_uppercase()),
        ("pad", [Value::Text(value), Value::Int(before), Value::Int(after)]) => {
            if value.is_empty() {
                return text(String::new());
            }
            text(format!("{}{value}{}", spaces(*before), spaces(*after)))
        }
        ("truncate", [Value::Text(value), Value::Int(length)]) => {
            let length = usize::try_from(*length).map_err(|_| "the length is negative")?;
            text(value.chars().take(length).collect())
        }
        _ => Err(format!("wrong number or type of arguments for {name}")),
    }
}

fn spaces(count: i64) -> String {
    " ".repeat(usize::try_from(count).unwrap_or(0).min(MAX_WIDTH))
}

fn length(value: &Value) -> Result<Value, String> {
    let length = match value {
        Value::Text(text) => text.len(),
        Value::List(list) => list.len(),
        Value::Map(members) => members.len(),
        Value::Null(Nil::List | Nil::Map) => 0,
        other => return Err(format!("len of {}", display(other))),
    };
    Ok(Value::Int(i64::try_from(length).unwrap_or(i64::MAX)))
}

fn index(value: &Value, key: &Value) -> Result<Value, String> {
    match (value, key) {
        (Value::List(list), Value::Int(position)) => {
            let found = usize::try_from(*position)
                .ok()
                .and_then(|position| list.get(position));
            found
                .cloned()
                .ok_or_else(|| format!("index out of range: {position}"))
        }
        (Value::Text(text), Value::Int(position)) => {
            let byte = usize::try_from(*position)
                .ok()
                .and_then(|position| text.as_bytes().get(position));
            let byte = byte.ok_or_else(|| format!("index out of range: {position}"))?;
            Ok(Value::Int((*byte).into()))
        }
        (Value::Map(members) | Value::Struct(members), Value::Text(key)) => {
            let found = members.iter().find(|(name, _)| name == key);
            // A map of texts has an empty one for what it does not have.
            let of_texts = members
                .iter()
                .all(|(_, value)| matches!(value, Value::Text(_)));
            let none = if of_texts {
                Value::Text(String::new())
            } else {
                Value::Null(Nil::Missing)
            };
            Ok(found.map_or(none, |(_, value)| value.clone()))
        }
        (Value::Null(Nil::Map), Value::Text(_)) => Ok(Value::Text(String::new())),
        (Value::Null(_), _) => Err("index of untyped nil".to_owned()),
        (other, key) => Err(format!(
            "cannot index {} with {}",
            display(other),
            display(key)
        )),
    }
}

fn slice(value: &Value, bounds: &[Value]) -> Result<Value, String> {
    let bound = |position: usize, default: usize| match bounds.get(position) {
        None => Ok(default),
        Some(Value::Int(bound)) => {
            usize::try_from(*bound).map_err(|_| format!("index out of range: {bound}"))
        }
        Some(other) => Err(format!("cannot index slice with {}", display(other))),
    };
    let length = match value {
        Value::Text(text) => text.len(),
        Value::List(list) => list.len(),
        other => return Err(format!("can't slice {}", display(other))),
    };
    let (start, end) = (bound(0, 0)?, bound(1, length)?);
    let outside = || format!("slice bounds out of range: {start}:{end}");
    match value {
        Value::Text(text) => text
            .get(start..end)
            .map(|part| Value::Text(part.to_owned())),
        Value::List(list) => list.get(start..end).map(|part| Value::List(part.to_vec())),
        _ => None,
    }
    .ok_or_else(outside)
}

/// A space between two operands of which neither is text (`fmt.Sprint`).
fn print(values: &[Value]) -> String {
    let mut shown = String::new();
    let mut before_is_text = true;
    for value in values {
        let is_text = matches!(value, Value::Text(_));
        if !shown.is_empty() && !is_text && !before_is_text {
            shown.push(' ');
        }
        shown.push_str(&display(value));
        before_is_text = is_text;
    }
    shown
}

fn split(text: &str, separator: &str) -> Vec<Value> {
    let part = |part: &str| Value::Text(part.to_owned());
    if separator.is_empty() {
        return text.chars().map(|c| Value::Text(c.to_string())).collect();
    }
    text.split(separator).map(part).collect()
}

fn join(list: &Value, separator: &str) -> Result<Value, String> {
    match list {
        Value::List(list) => {
            let parts: Vec<String> = list.iter().map(display).collect();
            Ok(Value::Text(parts.join(separator)))
        }
        Value::Null(Nil::List) => Ok(Value::Text(String::new())),
        other => Err(format!("{} is no list", display(other))),
    }
}

/// The first letter of each word upper-case (Go `strings.Title`).
fn title(text: &str) -> String {
    let mut shown = String::new();
    let mut in_word = false;
    for c in text.chars() {
        if in_word {
            shown.push(c);
        } else {
            shown.extend(c.to_uppercase());
        }
        in_word = c.is_alphanumeric() || c == '_' || c == '\'';
    }
    shown
}

fn compare_equal(a: &Value, b: &Value) -> Result<bool, String> {
    match (a, b) {
        (Value::Text(a), Value::Text(b)) => Ok(a == b),
        (Value::Bool(a), Value::Bool(b)) => Ok(a == b),
        (Value::Null(_), other) | (other, Value::Null(_)) => Ok(matches!(other, Value::Null(_))),
        (Value::Int(_) | Value::Float(_), Value::Int(_) | Value::Float(_)) => {
            Ok(order(a, b)? == Ordering::Equal)
        }
        (Value::List(_) | Value::Map(_) | Value::Struct(_), _)
        | (_, Value::List(_) | Value::Map(_) | Value::Struct(_)) => {
            Err("non-comparable type".to_owned())
        }
        _ => Err("incompatible types for comparison".to_owned()),
    }
}

fn order(a: &Value, b: &Value) -> Result<Ordering, String> {
    #[expect(
        clippy::cast_precision_loss,
        reason = "Go refuses to compare them; close is good enough"
    )]
    let float = |number: i64| number as f64;
    let ordering = match (a, b) {
        (Value::Int(a), Value::Int(b)) => Some(a.cmp(b)),
        (Value::Float(a), Value::Float(b)) => a.partial_cmp(b),
        (Value::Int(a), Value::Float(b)) => float(*a).partial_cmp(b),
        (Value::Float(a), Value::Int(b)) => a.partial_cmp(&float(*b)),
        (Value::Text(a), Value::Text(b)) => Some(a.cmp(b)),
        _ => return Err("incompatible types for comparison".to_owned()),
    };
    ordering.ok_or_else(|| "incompatible types for comparison".to_owned())
}

fn escape(text: &str, escaped: fn(char) -> Option<&'static str>) -> String {
    let mut shown = String::new();
    for c in text.chars() {
        match escaped(c) {
            Some(escaped) => shown.push_str(escaped),
            None => shown.push(c),
        }
    }
    shown
}

fn html(c: char) -> Option<&'static str> {
    Some(match c {
        '"' => "&#34;",
        '\'' => "&#39;",
        '&' => "&amp;",
        '<' => "&lt;",
        '>' => "&gt;",
        '\0' => "\u{fffd}",
        _ => return None,
    })
}

fn js(c: char) -> Option<&'static str> {
    Some(match c {
        '\\' => "\\\\",
        '\'' => "\\'",
        '"' => "\\\"",
        '<' => "\\u003C",
        '>' => "\\u003E",
        '&' => "\\u0026",
        '=' => "\\u003D",
        '\n' => "\\u000A",
        '\r' => "\\u000D",
        '\t' => "\\u0009",
        _ => return None,
    })
}

fn url_query(text: &str) -> String {
    let mut shown = String::new();
    for byte in text.bytes() {
        match byte {
            b' ' => shown.push('+'),
            b'-' | b'_' | b'.' | b'~' => shown.push(byte.into()),
            _ if byte.is_ascii_alphanumeric() => shown.push(byte.into()),
            _ => shown.extend(["%".to_owned(), format!("{byte:02X}")]),
        }
    }
    shown
}

/// One verb of a format: `%-8.3f`.
#[derive(Debug, Default, Clone, Copy)]
struct Verb {
    left: bool,
    zeros: bool,
    plus: bool,
    alternate: bool,
    width: usize,
    precision: Option<usize>,
}

/// Go's `fmt.Sprintf`, with the verbs that fit these values.
fn printf(format: &str, values: &[Value]) -> String {
    let mut shown = String::new();
    let mut characters = format.chars().peekable();
    let mut values = values.iter();
    while let Some(c) = characters.next() {
        if c != '%' {
            shown.push(c);
            continue;
        }
        let mut verb = Verb::default();
        while let Some(flag) = characters.next_if(|c| "-0+# ".contains(*c)) {
            match flag {
                '-' => verb.left = true,
                '0' => verb.zeros = true,
                '+' => verb.plus = true,
                '#' => verb.alternate = true,
                _ => {}
            }
        }
        verb.width = digits(&mut characters);
        if characters.next_if_eq(&'.').is_some() {
            verb.precision = Some(digits(&mut characters));
        }
        match characters.next() {
            None => shown.push_str("%!(NOVERB)"),
            Some('%') => shown.push('%'),
            Some(letter) => match values.next() {
                Some(value) => shown.push_str(&verb.format(letter, value)),
                None => shown.extend(["%!", &letter.to_string(), "(MISSING)"]),
            },
        }
    }
    let rest: Vec<String> = values
        .map(|value| format!("{}={}", type_name(value), display(value)))
        .collect();
    if !rest.is_empty() {
        shown.extend(["%!(EXTRA ", &rest.join(", "), ")"]);
    }
    shown
}

fn digits(characters: &mut std::iter::Peekable<std::str::Chars<'_>>) -> usize {
    let mut number = 0_usize;
    while let Some(digit) = characters
        .next_if(char::is_ascii_digit)
        .and_then(|c| c.to_digit(10))
    {
        number = number.saturating_mul(10).saturating_add(digit as usize);
    }
    number.min(MAX_WIDTH)
}

fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null(_) => "<nil>",
        Value::Bool(_) => "bool",
        Value::Int(_) => "int",
        Value::Float(_) => "float64",
        Value::Text(_) => "string",
        Value::List(_) => "[]interface {}",
        Value::Struct(_) | Value::Map(_) => "map[string]interface {}",
    }
}

impl Verb {
    fn format(self, letter: char, value: &Value) -> String {
        let text = match (letter, value) {
            ('v', Value::Text(text)) if self.alternate => format!("{text:?}"),
            ('v', _) | ('d', Value::List(_)) => display(value),
            ('s', Value::Text(_) | Value::List(_) | Value::Map(_) | Value::Struct(_)) => {
                self.cut(&display(value))
            }
            ('q', Value::Text(text)) => serde_json::Value::from(text.as_str()).to_string(),
            ('t', Value::Bool(value)) => value.to_string(),
            ('d', Value::Int(number)) => self.signed(number.to_string()),
            ('x', Value::Int(number)) => format!("{number:x}"),
            ('X', Value::Int(number)) => format!("{number:X}"),
            ('o', Value::Int(number)) => format!("{number:o}"),
            ('b', Value::Int(number)) => format!("{number:b}"),
            ('c', Value::Int(number)) => u32::try_from(*number)
                .ok()
                .and_then(char::from_u32)
                .unwrap_or('\u{fffd}')
                .to_string(),
            ('x', Value::Text(text)) => text.bytes().map(|byte| format!("{byte:02x}")).collect(),
            ('X', Value::Text(text)) => text.bytes().map(|byte| format!("{byte:02X}")).collect(),
            ('f' | 'F', Value::Float(number)) => {
                self.signed(format!("{number:.*}", self.precision.unwrap_or(6)))
            }
            ('g' | 'e', Value::Float(_)) => self.signed(display(value)),
            ('T', _) => type_name(value).to_owned(),
            _ => return format!("%!{letter}({}={})", type_name(value), display(value)),
        };
        let missing = self.width.saturating_sub(text.chars().count());
        match (self.left, self.zeros) {
            (true, _) => text + &" ".repeat(missing),
            (false, true) => match text.strip_prefix(['-', '+']) {
                Some(digits) => {
                    let sign = text.get(..1).unwrap_or_default();
                    format!("{sign}{}{digits}", "0".repeat(missing))
                }
                None => "0".repeat(missing) + &text,
            },
            (false, false) => " ".repeat(missing) + &text,
        }
    }

    fn cut(self, text: &str) -> String {
        text.chars()
            .take(self.precision.unwrap_or(usize::MAX))
            .collect()
    }

    fn signed(self, text: String) -> String {
        if self.plus && !text.starts_with('-') {
            format!("+{text}")
        } else {
            text
        }
    }
}
