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

/// What a rendered project is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// To load again: every attribute under the name that files have for it.
    Model,
    /// To compare with `docker compose config --format json`, with what is peculiar to that: see [`render_json`].
    Json,
    /// To read with its variables still in it: all that is written is shown, also where it says nothing new.
    AsWritten,
}

/// Renders the project as YAML that loads back to the same model.
pub fn render_yaml(stack: &Stack) -> String {
    to_yaml(&render(stack, Form::Model), Dollars::Doubled)
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

/// Returns a rendered project as JSON, with its dollar signs as they are to be.
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

/// Leaves out what the JSON form says of things that are not there: `command: null`, `ipam: {}`, `placement: {}`. In an
/// override, the first would reset what it stands above.
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
        if let Some(Json::Object(deploy)) = service.get_mut("deploy") {
            deploy.retain(|key, value| {
                !matches!(&**key, "placement" | "resources")
                    || value.as_object().is_none_or(|fields| !fields.is_empty())
            });
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
///
/// That prints its own structures, which differ from what files say in a few places: the limits of `blkio_config` have
/// capitals, a zero in `ulimits` is left out, and so are the options of an `ipam` and every extension (`x-…`) but those of the
/// top level.
pub fn render_json(stack: &Stack) -> Json {
    render(stack, Form::Json)
}

/// Renders the project.
pub fn render(stack: &Stack, form: Form) -> Json {
    let mut project = object(stack.document.as_mapping(), schema::PROJECT, form);
    if form == Form::AsWritten {
        return project;
    }
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
/// address management, dependencies say whether they are required, deployments have a placement and resources.
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
                if let Some(Json::Object(deploy)) = entry.get_mut("deploy") {
                    for key in ["placement", "resources"] {
                        deploy
                            .entry(key)
                            .or_insert_with(|| Json::Object(Map::new()));
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

fn object(mapping: Option<&Mapping>, attributes: &'static [Attribute], form: Form) -> Json {
    let is = |table: &'static [Attribute]| std::ptr::eq(attributes, table);
    let mut out = Map::new();
    for entry in mapping.into_iter().flat_map(Mapping::entries) {
        let attribute = schema::find(attributes, &entry.key);
        if form == Form::Json && attribute.is_none() && !is(schema::PROJECT) {
            continue;
        }
        let value = match attribute {
            Some(attribute) => shaped(&entry.value, &attribute.shape, form),
            None => plain(&entry.value),
        };
        let is_shown = attribute.is_none_or(|attribute| match form {
            Form::AsWritten => true,
            Form::Json if is(schema::ULIMIT) => !is_zero(&value, &attribute.shape),
            Form::Json if is(schema::IPAM) && attribute.name == "options" => false,
            // Without these it would not load again, or mean something else.
            Form::Model if is(schema::PORT) && attribute.name == "target" => true,
            Form::Model if is(schema::BUILD) && attribute.name == "context" => true,
            _ => attribute.shows_zero || !is_zero(&value, &attribute.shape),
        });
        if is_shown {
            out.insert(entry.key.to_string(), value);
        }
    }
    if form == Form::Json && (is(schema::RATE) || is(schema::WEIGHT)) {
        return Json::Object(capitals(out, attributes));
    }
    if form != Form::AsWritten && is(schema::SERVICE) {
        for key in ["command", "entrypoint"] {
            out.entry(key).or_insert(Json::Null);
        }
    }
    Json::Object(out)
}

/// Writes the limit of a device as the structure that Docker Compose has for it: under capitals, and whole.
fn capitals(mut written: Map<String, Json>, attributes: &[Attribute]) -> Map<String, Json> {
    for attribute in attributes {
        let mut key = attribute.name.to_owned();
        if let Some(first) = key.get_mut(..1) {
            first.make_ascii_uppercase();
        }
        let absent = match attribute.shape {
            Shape::Bytes => Json::from("0"),
            Shape::Integer(..) => Json::from(0),
            _ => Json::from(""),
        };
        let value = written.remove(attribute.name).unwrap_or(absent);
        written.insert(key, value);
    }
    written
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
                    Shape::Object(_) | Shape::NullOrObject(_) | Shape::Build | Shape::Logging
                )
        }
    }
}

fn shaped(node: &Node, shape: &'static Shape, form: Form) -> Json {
    match (&node.value, shape) {
        (Value::Mapping(mapping), Shape::Object(attributes) | Shape::NullOrObject(attributes)) => {
            object(Some(mapping), attributes, form)
        }
        (Value::Mapping(mapping), Shape::Build) => object(Some(mapping), schema::BUILD, form),
        (Value::Mapping(mapping), Shape::Logging) => object(Some(mapping), schema::LOGGING, form),
        (Value::Mapping(mapping), Shape::Map(values)) => {
            map(mapping, |value| shaped(value, values, form))
        }
        (Value::Mapping(mapping), Shape::KeyValues(_))
            if form == Form::Model && mapping.get("").is_some() =>
        {
            key_values(mapping)
        }
        (Value::Mapping(mapping), shape) => match shape.items() {
            Some(attributes) => map(mapping, |value| item(value, attributes, form)),
            None => plain(node),
        },
        (Value::Sequence(items), Shape::List(each, _)) => {
            items.iter().map(|item| shaped(item, each, form)).collect()
        }
        (Value::Sequence(items), shape) => match shape.items() {
            Some(attributes) => items
                .iter()
                .map(|node| item(node, attributes, form))
                .collect(),
            None => plain(node),
        },
        _ => plain(node),
    }
}

/// Writes the map as a list: only there a name may be empty.
fn key_values(mapping: &Mapping) -> Json {
    let entries = mapping.entries().iter();
    let items = entries.map(|entry| match entry.value.as_str() {
        Some(value) => format!("{}={value}", entry.key),
        None => entry.key.to_string(),
    });
    items.map(Json::from).collect()
}

fn item(node: &Node, attributes: &'static [Attribute], form: Form) -> Json {
    match (node.as_mapping(), &node.value) {
        (Some(mapping), _) => object(Some(mapping), attributes, form),
        // One limit for both, of nothing, is a structure without anything in it.
        (None, Value::Integer(0))
            if form == Form::Json && std::ptr::eq(attributes, schema::ULIMIT) =>
        {
            Json::Object(Map::new())
        }
        (None, _) => plain(node),
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
