//! How Go writes values (`fmt`, verb `%v`) and what it takes for true.

use super::super::document::{Nil, Value};

/// Writes a value as `{{.}}` does.
pub(super) fn display(value: &Value) -> String {
    match value {
        Value::Null(Nil::Pointer) => "<nil>".to_owned(),
        Value::Null(Nil::List) => "[]".to_owned(),
        Value::Null(Nil::Map) => "map[]".to_owned(),
        Value::Null(Nil::Missing) => "<no value>".to_owned(),
        Value::Bool(value) => value.to_string(),
        Value::Int(number) => number.to_string(),
        Value::Float(number) => float(*number),
        Value::Text(text) => text.clone(),
        Value::List(list) => format!("[{}]", joined(list.iter().map(display))),
        Value::Struct(members) => {
            format!(
                "{{{}}}",
                joined(members.iter().map(|(_, value)| display(value)))
            )
        }
        Value::Map(members) => {
            let mut members: Vec<&(String, Value)> = members.iter().collect();
            members.sort_by(|a, b| a.0.cmp(&b.0));
            let shown = members
                .iter()
                .map(|(key, value)| format!("{key}:{}", display(value)));
            format!("map[{}]", joined(shown))
        }
    }
}

fn joined(parts: impl Iterator<Item = String>) -> String {
    parts.collect::<Vec<_>>().join(" ")
}

/// The shortest that reads back, with an exponent below 1e-4 and from 1e21 on (`%v`).
fn float(number: f64) -> String {
    let magnitude = number.abs();
    if number == 0.0 || !number.is_finite() || (1e-4..1e21).contains(&magnitude) {
        return number.to_string();
    }
    let text = format!("{number:e}");
    match text.split_once('e') {
        Some((digits, exponent)) => {
            let (sign, exponent) = match exponent.strip_prefix('-') {
                Some(exponent) => ('-', exponent),
                None => ('+', exponent),
            };
            format!("{digits}e{sign}{exponent:0>2}")
        }
        None => text,
    }
}

/// Whether a value is neither empty nor zero.
pub(super) fn truth(value: &Value) -> bool {
    match value {
        Value::Null(_) => false,
        Value::Bool(value) => *value,
        Value::Int(number) => *number != 0,
        Value::Float(number) => *number != 0.0,
        Value::Text(text) => !text.is_empty(),
        Value::List(list) => !list.is_empty(),
        Value::Map(members) => !members.is_empty(),
        Value::Struct(_) => true,
    }
}
