//! JSON whose members keep their order, as Docker's `inspect` prints it.

use std::fmt::Write as _;

use serde::de::{MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use super::template::{Template, TemplateError};
use crate::cli::failure::CliError;
use crate::engine::inspect::LEFT_OUT_WHEN_EMPTY;

/// A value; of an object the members as they came.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    /// `null`, in place of what is said.
    Null(Nil),
    /// `true`
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// Any other number.
    Float(f64),
    /// Text.
    Text(String),
    /// `[…]`
    List(Vec<Self>),
    /// `{…}` with members that are always the same: a Go struct.
    Struct(Vec<(String, Self)>),
    /// `{…}` with any members: a Go map.
    Map(Vec<(String, Self)>),
}

/// What a `null` stands for: it decides how Go prints it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Nil {
    /// A pointer.
    Pointer,
    /// A slice.
    List,
    /// A map.
    Map,
    /// Nothing at all: a key that a map does not have.
    Missing,
}

/// Members that are maps in Docker's types; all other objects are structs.
const MAPS: &[&str] = &[
    "Annotations",
    "Data",
    "DriverOpts",
    "ExposedPorts",
    "Labels",
    "LogOpts",
    "Networks",
    "Options",
    "Ports",
    "PortBindings",
    "Sysctls",
    "Tmpfs",
    "Volumes",
    "annotations",
];

/// Members that are slices in Docker's types and may be `null`.
const LISTS: &[&str] = &[
    "Aliases",
    "Args",
    "Binds",
    "CapAdd",
    "CapDrop",
    "Cmd",
    "Devices",
    "Dns",
    "DnsOptions",
    "DnsSearch",
    "Entrypoint",
    "Env",
    "ExecIDs",
    "ExtraHosts",
    "GroupAdd",
    "Links",
    "MaskedPaths",
    "Mounts",
    "OnBuild",
    "ReadonlyPaths",
    "SecurityOpt",
    "Shell",
    "Test",
    "Ulimits",
    "VolumesFrom",
];

impl Value {
    /// Makes a value of anything that can be written as JSON.
    pub(crate) fn of(document: &impl Serialize) -> Result<Self, CliError> {
        let text = serde_json::to_string(document);
        let value = text.and_then(|text| serde_json::from_str(&text));
        value.map_err(|source| CliError::System {
            attempted: "write JSON",
            source: source.into(),
        })
    }

    /// Returns a member of an object.
    pub(crate) fn get(&self, key: &str) -> Option<&Self> {
        let (Self::Struct(members) | Self::Map(members)) = self else {
            return None;
        };
        let found = members.iter().find(|(name, _)| name == key);
        found.map(|(_, value)| value)
    }

    /// Makes of an object or `null` what the member `key` has in Docker's types.
    fn typed(self, key: &str) -> Self {
        match self {
            Self::Struct(members) if MAPS.contains(&key) => Self::Map(members),
            Self::Null(_) if MAPS.contains(&key) => Self::Null(Nil::Map),
            Self::Null(_) if LISTS.contains(&key) => Self::Null(Nil::List),
            other => other,
        }
    }

    /// Writes it as JSON on one line.
    pub(crate) fn to_json(&self) -> String {
        let mut text = String::new();
        self.write(&mut text, None);
        text
    }

    /// Whether Docker leaves a member with this value out.
    fn is_left_out(&self, key: &str) -> bool {
        let is_empty = match self {
            Self::Null(_) | Self::Bool(false) | Self::Int(0) => true,
            Self::Text(text) => text.is_empty(),
            Self::List(list) => list.is_empty(),
            Self::Struct(members) | Self::Map(members) => members.is_empty(),
            Self::Bool(true) | Self::Int(_) | Self::Float(_) => false,
        };
        is_empty && LEFT_OUT_WHEN_EMPTY.contains(&key)
    }

    /// Writes JSON; `depth` is how deep it stands, of which each is four spaces.
    fn write(&self, text: &mut String, depth: Option<usize>) {
        let inner = depth.map(|depth| depth + 1);
        match self {
            Self::Null(_) => text.push_str("null"),
            Self::Bool(value) => text.push_str(if *value { "true" } else { "false" }),
            Self::Int(number) => {
                // Writing to a String cannot fail.
                let _infallible = write!(text, "{number}");
            }
            Self::Float(number) => {
                let _infallible = write!(text, "{number}");
            }
            Self::Text(value) => text.push_str(&quote(value)),
            Self::List(list) => {
                text.push('[');
                for (position, value) in list.iter().enumerate() {
                    part(text, position, inner);
                    value.write(text, inner);
                }
                end(text, list.is_empty(), depth);
                text.push(']');
            }
            Self::Struct(members) | Self::Map(members) => {
                let shown = members
                    .iter()
                    .filter(|(key, value)| !value.is_left_out(key));
                let shown: Vec<_> = shown.collect();
                text.push('{');
                for (position, (key, value)) in shown.iter().enumerate() {
                    part(text, position, inner);
                    text.push_str(&quote(key));
                    text.push_str(if depth.is_some() { ": " } else { ":" });
                    value.write(text, inner);
                }
                end(text, shown.is_empty(), depth);
                text.push('}');
            }
        }
    }
}

/// What comes before an element.
fn part(text: &mut String, position: usize, depth: Option<usize>) {
    if position > 0 {
        text.push(',');
    }
    if let Some(depth) = depth {
        text.push('\n');
        text.push_str(&"    ".repeat(depth));
    }
}

/// What comes before the closing bracket.
fn end(text: &mut String, is_empty: bool, depth: Option<usize>) {
    if let (Some(depth), false) = (depth, is_empty) {
        text.push('\n');
        text.push_str(&"    ".repeat(depth));
    }
}

/// Writes text as JSON.
fn quote(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// Renders a list as `docker inspect` does.
pub(crate) fn render_list(values: &[Value]) -> String {
    let mut text = String::new();
    Value::List(values.to_vec()).write(&mut text, Some(0));
    text.push('\n');
    text
}

/// Renders what `inspect` found: a list, or each by a template in a line of its own.
pub(crate) fn render_inspected(
    values: &[Value],
    format: Option<&str>,
) -> Result<String, TemplateError> {
    let format = match format {
        None | Some("") => return Ok(render_list(values)),
        Some("json") => "{{json .}}",
        Some(format) => format,
    };
    let template = Template::parse(&format.replace("\\t", "\t").replace("\\n", "\n"))?;
    let mut text = String::new();
    for value in values {
        text.push_str(&template.render(value)?);
        text.push('\n');
    }
    Ok(text)
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Builder)
    }
}

/// Builds a [`Value`].
struct Builder;

impl<'de> Visitor<'de> for Builder {
    type Value = Value;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null(Nil::Pointer))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Int(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        // Beyond Go's int64 it is a number all the same.
        #[expect(clippy::cast_precision_loss, reason = "shown, not counted with")]
        let float = value as f64;
        Ok(i64::try_from(value).map_or(Value::Float(float), Value::Int))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Value::Float(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::Text(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(value) = access.next_element()? {
            list.push(value);
        }
        Ok(Value::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut members = Vec::new();
        while let Some((key, value)) = access.next_entry::<String, Value>()? {
            let value = value.typed(&key);
            members.push((key, value));
        }
        Ok(Value::Struct(members))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_order_of_members_and_leaves_out_what_docker_does() {
        let text =
            r#"{"z":[],"a":{"Shell":null,"b":"<\"é\n"},"n":[1,-2,1.5,true,null],"Variant":""}"#;
        let value: Value = serde_json::from_str(text).unwrap();
        assert_eq!(
            value.to_json(),
            r#"{"z":[],"a":{"b":"<\"é\n"},"n":[1,-2,1.5,true,null]}"#
        );
        assert_eq!(
            render_list(&[value]),
            "[\n    {\n        \"z\": [],\n        \"a\": {\n            \"b\": \"<\\\"é\\n\"\n        },\n        \
             \"n\": [\n            1,\n            -2,\n            1.5,\n            true,\n            null\n        ]\n    }\n]\n"
        );
        assert_eq!(render_list(&[]), "[]\n");
    }
}
