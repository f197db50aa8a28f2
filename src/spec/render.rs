//! The canonical form, as `stack config` prints it.
//!
//! Rendered from [`Stack::document`], the tree that the model was decoded from: what nothing acts on yet, extensions
//! among it, is there too, and every leaf still has its place. What is `false`, zero or empty is left out, but for
//! the attributes whose absence means something else.

use serde_json::{Map, Number, Value as Json};

use super::model::Stack;
use super::schema::{self, Attribute, Shape};
use super::tree::{Mapping, Node, Value};
use super::yaml::emit::emit;

/// The order of the top level.
const ORDER: [&str; 6] = [
    "name", "services", "networks", "volumes", "secrets", "configs",
];

/// How the dollar signs of values are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dollars {
    /// Twice, so that loading it again takes none of them for a variable.
    Doubled,
    /// As they are: variables were not filled in.
    AsTheyAre,
}

/// Renders the project as YAML that loads back to the same model.
pub fn render_yaml(stack: &Stack) -> String {
    to_yaml(&render_json(stack), Dollars::Doubled)
}

/// Writes a rendered project as YAML; what is only absent is left out.
pub fn to_yaml(project: &Json, dollars: Dollars) -> String {
    let Json::Object(project) = without_absences(project.clone()) else {
        return String::new();
    };
    let mut out = String::new();
    let rest = project
        .keys()
        .map(String::as_str)
        .filter(|key| !ORDER.contains(key));
    for key in ORDER.into_iter().chain(rest) {
        if let Some(value) = project.get(key) {
            let one = Map::from_iter([(key.to_owned(), to_json(value, dollars))]);
            out += &emit(&Json::Object(one));
        }
    }
    out
}

/// Returns a rendered project as JSON that loads back to the same model.
pub fn to_json(project: &Json, dollars: Dollars) -> Json {
    match dollars {
        Dollars::Doubled => escaped(project),
        Dollars::AsTheyAre => project.clone(),
    }
}

/// Writes any value as YAML.
pub fn emit_yaml(value: &Json) -> String {
    emit(value)
}

/// Leaves out what the JSON form says of things that are not there: `command: null`, `ipam: {}`. In an override, those
/// would reset what they stand above.
pub fn without_absences(mut project: Json) -> Json {
    let each = |project: &mut Json, section: &str, change: fn(&mut Map<String, Json>)| {
        let section = project.get_mut(section).and_then(Json::as_object_mut);
        for value in section.into_iter().flat_map(Map::values_mut) {
            if let Json::Object(fields) = value {
                change(fields);
            }
        }
    };
    each(&mut project, "services", |service| {
        for key in ["command", "entrypoint"] {
            if service.get(key).is_some_and(Json::is_null) {
                service.remove(key);
            }
        }
    });
    each(&mut project, "networks", |network| {
        let ipam = network.get("ipam").and_then(Json::as_object);
        if ipam.is_some_and(Map::is_empty) {
            network.remove("ipam");
        }
    });
    project
}

/// Renders the project as JSON, equal in value to what `docker compose config --format json` prints.
pub fn render_json(stack: &Stack) -> Json {
    let mut project = object(stack.document.as_mapping(), schema::PROJECT);
    if let Json::Object(fields) = &mut project {
        fields
            .entry("services")
            .or_insert_with(|| Json::Object(Map::new()));
        fields
            .iter_mut()
            .for_each(|(key, value)| complete(key, value));
    }
    project
}

/// Fills in what is the same with or without normalizing: resources without attributes are objects, networks have an
/// address management, dependencies say whether they are required.
fn complete(section: &str, value: &mut Json) {
    let Json::Object(entries) = value else {
        return;
    };
    for entry in entries.values_mut() {
        match section {
            "networks" | "volumes" | "configs" | "secrets" if entry.is_null() => {
                *entry = Json::Object(Map::new());
            }
            "services" => {
                let dependencies = entry.get_mut("depends_on").and_then(Json::as_object_mut);
                for dependency in dependencies.into_iter().flat_map(Map::values_mut) {
                    if let Json::Object(fields) = dependency {
                        fields.entry("required").or_insert(Json::Bool(true));
                    }
                }
            }
            _ => {}
        }
        if let ("networks", Json::Object(fields)) = (section, entry) {
            fields
                .entry("ipam")
                .or_insert_with(|| Json::Object(Map::new()));
        }
    }
}

/// Doubles the dollar signs of every text but keys.
fn escaped(value: &Json) -> Json {
    match value {
        Json::String(text) => Json::String(text.replace('$', "$$")),
        Json::Array(items) => items.iter().map(escaped).collect(),
        Json::Object(map) => map
            .iter()
            .map(|(key, value)| (key.clone(), escaped(value)))
            .collect(),
        other => other.clone(),
    }
}

fn object(mapping: Option<&Mapping>, attributes: &[Attribute]) -> Json {
    let mut out = Map::new();
    for entry in mapping.into_iter().flat_map(Mapping::entries) {
        let attribute = schema::find(attributes, &entry.key);
        let value = match attribute {
            Some(attribute) => shaped(&entry.value, &attribute.shape),
            None => plain(&entry.value),
        };
        let is_shown = attribute
            .is_none_or(|attribute| attribute.shows_zero || !is_zero(&value, &attribute.shape));
        if is_shown {
            out.insert(entry.key.to_string(), value);
        }
    }
    if std::ptr::eq(attributes, schema::SERVICE) {
        for key in ["command", "entrypoint"] {
            out.entry(key).or_insert(Json::Null);
        }
    }
    Json::Object(out)
}

/// Whether rendering leaves it out.
fn is_zero(value: &Json, shape: &Shape) -> bool {
    match value {
        Json::Null => true,
        Json::Bool(value) => !value,
        Json::Number(number) => number.as_f64() == Some(0.0),
        Json::String(text) => {
            text.is_empty()
                || matches!(
                    (&**text, shape),
                    ("0", Shape::Bytes) | ("0s", Shape::Duration)
                )
        }
        Json::Array(items) => items.is_empty(),
        Json::Object(map) => {
            map.is_empty()
                && !matches!(
                    shape,
                    Shape::Object(_) | Shape::NullOrObject(_) | Shape::Build
                )
        }
    }
}

fn shaped(node: &Node, shape: &Shape) -> Json {
    match (&node.value, shape) {
        (Value::Mapping(mapping), Shape::Object(attributes) | Shape::NullOrObject(attributes)) => {
            object(Some(mapping), attributes)
        }
        (Value::Mapping(mapping), Shape::Build) => object(Some(mapping), schema::BUILD),
        (Value::Mapping(mapping), Shape::Map(values)) => {
            map(mapping, |value| shaped(value, values))
        }
        (Value::Mapping(mapping), shape) => match shape.items() {
            Some(attributes) => map(mapping, |value| item(value, attributes)),
            None => plain(node),
        },
        (Value::Sequence(items), Shape::List(each, _)) => {
            items.iter().map(|item| shaped(item, each)).collect()
        }
        (Value::Sequence(items), shape) => match shape.items() {
            Some(attributes) => items.iter().map(|node| item(node, attributes)).collect(),
            None => plain(node),
        },
        _ => plain(node),
    }
}

fn item(node: &Node, attributes: &[Attribute]) -> Json {
    match node.as_mapping() {
        Some(mapping) => object(Some(mapping), attributes),
        None => plain(node),
    }
}

fn map(mapping: &Mapping, each: impl Fn(&Node) -> Json) -> Json {
    let entries = mapping.entries().iter();
    Json::Object(
        entries
            .map(|entry| (entry.key.to_string(), each(&entry.value)))
            .collect(),
    )
}

/// The node as it is.
fn plain(node: &Node) -> Json {
    match &node.value {
        Value::Null | Value::Invalid => Json::Null,
        Value::Bool(value) => Json::Bool(*value),
        Value::Integer(value) => Json::from(*value),
        Value::Unsigned(value) => Json::from(*value),
        // JSON has no word for what is not a number.
        Value::Float(value) => Number::from_f64(*value).map_or(Json::Null, Json::Number),
        Value::String(text) => Json::String(text.to_string()),
        Value::Sequence(items) => items.iter().map(|item| plain(item)).collect(),
        Value::Mapping(mapping) => map(mapping, plain),
    }
}
