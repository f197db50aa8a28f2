//! The JSON schema (draft 2020-12) of what a Compose file may say, for editors: made of the table of attributes, so that
//! it accepts what loads.
//!
//! It describes a file before variables are filled in: whatever has a form also accepts a text with a dollar sign.

use serde_json::{Map, Value, json};

use super::schema::{self, Attribute, Shape, Status};

/// What a value with a variable in it looks like.
const VARIABLE: &str = r"\$";

/// Words for truth values, in any case: the regular expressions of editors (ECMA 262) have no flag for that.
const TRUTH: &str =
    "^([yYnN]|[tT][rR][uU][eE]|[fF][aA][lL][sS][eE]|[yY][eE][sS]|[nN][oO]|[oO][nN]|[oO][fF][fF])$";

/// Names of services, networks and the like (compose-spec).
const NAME: &str = "^[a-zA-Z0-9._-]+$";

/// Returns the schema of a whole file.
pub fn schema() -> Value {
    let mut definitions = Definitions::default();
    let mut root = definitions.object("project", schema::PROJECT);
    if let Some(properties) = root.get_mut("properties").and_then(Value::as_object_mut) {
        let include = definitions.reference("include", schema::INCLUDE);
        let include =
            json!({ "type": "array", "items": { "anyOf": [{ "type": "string" }, include] } });
        properties.insert("include".to_owned(), include);
    }
    let mut whole = Map::new();
    whole.insert(
        "$schema".to_owned(),
        "https://json-schema.org/draft/2020-12/schema".into(),
    );
    whole.insert("title".to_owned(), "Compose file".into());
    if let Value::Object(root) = root {
        whole.extend(root);
    }
    let tables = definitions.tables.into_iter();
    let definitions: Map<String, Value> = tables.map(|table| (table.name, table.schema)).collect();
    whole.insert("$defs".to_owned(), Value::Object(definitions));
    Value::Object(whole)
}

/// The objects that have a name in `$defs`.
#[derive(Default)]
struct Definitions {
    tables: Vec<Table>,
}

struct Table {
    name: String,
    attributes: *const Attribute,
    schema: Value,
}

impl Definitions {
    /// Returns a reference to the object of `attributes`, which is defined under `name` where it is not yet.
    fn reference(&mut self, name: &str, attributes: &'static [Attribute]) -> Value {
        let start = attributes.as_ptr();
        let known = self.tables.iter().find(|table| table.attributes == start);
        if let Some(known) = known {
            return json!({ "$ref": format!("#/$defs/{}", known.name) });
        }
        let taken = |name: &str| self.tables.iter().any(|table| table.name == name);
        let mut unique = name.to_owned();
        let mut number = 2;
        while taken(&unique) {
            unique = format!("{name}_{number}");
            number += 1;
        }
        let place = self.tables.len();
        self.tables.push(Table {
            name: unique.clone(),
            attributes: start,
            schema: Value::Null,
        });
        let schema = self.object(name, attributes);
        if let Some(table) = self.tables.get_mut(place) {
            table.schema = schema;
        }
        json!({ "$ref": format!("#/$defs/{unique}") })
    }

    /// Returns an object with these attributes, and those that must be there beside the ones that the table says.
    fn object(&mut self, name: &str, attributes: &'static [Attribute]) -> Value {
        let mut properties = Map::new();
        for attribute in attributes {
            let value = self.attribute(attribute);
            properties.insert(attribute.name.to_owned(), value);
        }
        let must = must_have(attributes);
        let required = attributes
            .iter()
            .filter(|attribute| attribute.required || must.contains(&attribute.name))
            .map(|attribute| Value::from(attribute.name));
        let required: Vec<Value> = required.collect();
        let mut object = json!({
            "type": "object",
            "properties": properties,
            "additionalProperties": false,
        });
        // `x-` is an extension in every object of the specification's own keys.
        object["patternProperties"] = json!({ "^x-": {} });
        if !required.is_empty() {
            object["required"] = Value::Array(required);
        }
        if name != "project" {
            object["title"] = name.into();
        }
        object
    }

    fn attribute(&mut self, attribute: &'static Attribute) -> Value {
        let mut schema = self.shape(attribute.name, &attribute.shape);
        if attribute.shape.null_refused().is_none() {
            schema = or_null(schema);
        }
        let note = match attribute.status {
            Status::Supported => return schema,
            Status::Later => "Not supported yet where it would be used.".to_owned(),
            Status::LaterUnless(values) => {
                format!(
                    "Supported yet where it would be used: {}.",
                    values.join(", ")
                )
            }
            Status::Ignored(_) => "Ignored: it is for Windows or a swarm.".to_owned(),
        };
        if let Value::Object(fields) = &mut schema {
            fields.insert("description".to_owned(), note.into());
        }
        schema
    }

    #[expect(
        clippy::too_many_lines,
        reason = "one arm a shape, so that none is forgotten"
    )]
    fn shape(&mut self, name: &str, shape: &'static Shape) -> Value {
        match shape {
            Shape::Any => json!({}),
            Shape::Text | Shape::TextOrNull | Shape::Context | Shape::Path => text(),
            Shape::TextOrBoolean => json!({ "type": ["string", "boolean"] }),
            Shape::TextOrNumber => json!({ "type": ["string", "number"] }),
            Shape::Word(words) => any_of([json!({ "enum": words }), text_like(VARIABLE)]),
            Shape::Boolean => any_of([
                json!({ "type": "boolean" }),
                text_like(&format!("{TRUTH}|{VARIABLE}")),
            ]),
            Shape::Integer(low, high) => any_of([
                integer(*low, *high),
                text_like(&format!(r"^[+-]?\d+$|{VARIABLE}")),
            ]),
            Shape::Cut(..) => any_of([
                json!({ "type": "number" }),
                text_like(&format!(r"^[+-]?\d+$|{VARIABLE}")),
            ]),
            Shape::Number => any_of([
                json!({ "type": "number", "minimum": 0 }),
                text_like(&format!(r"^\+?[0-9.eE+-]+$|{VARIABLE}")),
            ]),
            Shape::Bytes => any_of([
                json!({ "type": "number" }),
                text_like(&format!(
                    r"^-\d+$|^[0-9.]+ ?([kKmMgGtTpP][iI]?)?[bB]?$|{VARIABLE}"
                )),
            ]),
            Shape::Duration => text_like(&format!(
                r"^[+-]?([0-9.]+(ns|us|µs|μs|ms|s|m|h|d|w))+$|^[+-]?0$|{VARIABLE}"
            )),
            Shape::Mode | Shape::NumericMode => any_of([
                json!({ "type": if matches!(shape, Shape::Mode) { "integer" } else { "number" }, "minimum": 0 }),
                text_like(&format!(r"^(0o)?[0-7]+$|{VARIABLE}")),
            ]),
            Shape::List(items, _) => {
                let items = self.shape(&singular(name), items);
                list_of(items)
            }
            Shape::Map(values) => self.map(name, values),
            Shape::Object(attributes) => self.reference(name, attributes),
            Shape::NullOrObject(attributes) => or_null(self.reference(name, attributes)),
            Shape::OneOrMany(_) | Shape::Paths | Shape::Command | Shape::HealthTest => {
                any_of([text(), list_of(text())])
            }
            Shape::Options => map_of(json!({ "type": ["string", "number", "null"] })),
            Shape::MultiOptions => {
                let scalar = || json!({ "type": ["string", "number", "boolean"] });
                map_of(any_of([scalar(), list_of(scalar())]))
            }
            Shape::KeyValues(_) | Shape::Contexts | Shape::Ssh => any_of([
                json!({
                    "type": "object",
                    "additionalProperties": { "type": ["string", "number", "boolean", "null"] },
                }),
                list_of(text()),
            ]),
            Shape::Build => any_of([text(), self.reference("build", schema::BUILD)]),
            Shape::Extends => any_of([text(), self.reference("extends", schema::EXTENDS)]),
            Shape::External => any_of([
                json!({ "type": ["boolean", "string"] }),
                self.reference("external", schema::EXTERNAL),
            ]),
            Shape::DependsOn => {
                let dependency = self.reference("dependency", schema::DEPENDENCY);
                any_of([list_of(text()), map_of(dependency)])
            }
            Shape::ServiceNetworks => {
                let attachment = self.reference("attachment", schema::ATTACHMENT);
                any_of([list_of(text()), map_of(or_null(attachment))])
            }
            Shape::Ports => {
                let port = self.reference("port", schema::PORT);
                list_of(any_of([json!({ "type": ["string", "number"] }), port]))
            }
            Shape::Mounts => {
                let mount = self.reference("mount", schema::MOUNT);
                list_of(any_of([text(), mount]))
            }
            Shape::ServiceModels => {
                let model = self.reference("model_use", schema::MODEL_USE);
                any_of([list_of(text()), map_of(or_null(model))])
            }
            Shape::Logging => self.reference("logging", schema::LOGGING),
            Shape::Devices => {
                let device = self.reference("device", schema::DEVICE);
                list_of(any_of([text(), device]))
            }
            Shape::Gpus => {
                let gpu = self.reference("gpu", schema::GPU);
                any_of([
                    json!({ "enum": ["all"] }),
                    text_like(VARIABLE),
                    list_of(gpu),
                ])
            }
            Shape::DeviceCount => any_of([
                integer(i64::MIN, i64::MAX),
                text_like(&format!(r"^all$|^[+-]?\d+$|{VARIABLE}")),
            ]),
            Shape::Grants(_) | Shape::BuildSecrets => {
                let grant = self.reference("grant", schema::GRANT);
                list_of(any_of([text(), grant]))
            }
            Shape::EnvFiles => {
                let file = self.reference("env_file", schema::ENV_FILE);
                any_of([text(), list_of(any_of([text(), file]))])
            }
            Shape::ExtraHosts => {
                any_of([list_of(text()), map_of(any_of([text(), list_of(text())]))])
            }
            Shape::Ulimits => {
                let limit = self.reference("ulimit", schema::ULIMIT);
                let number = self.shape("ulimit", &Shape::Integer(-1, i64::MAX));
                map_of(any_of([number, limit]))
            }
        }
    }

    /// A map with keys of the user's; those of objects are names.
    fn map(&mut self, name: &str, values: &'static Shape) -> Value {
        let schema = self.shape(&singular(name), values);
        match values {
            Shape::Object(_) | Shape::NullOrObject(_) => json!({
                "type": "object",
                "patternProperties": { NAME: schema },
                "additionalProperties": false,
            }),
            _ => map_of(schema),
        }
    }
}

/// What the long forms must have, which is checked where they are read.
fn must_have(attributes: &'static [Attribute]) -> &'static [&'static str] {
    let rows: [(&[Attribute], &[&str]); 7] = [
        (schema::PORT, &["target"]),
        (schema::MOUNT, &["type", "target"]),
        (schema::GRANT, &["source"]),
        (schema::DEVICE, &["source", "target"]),
        (schema::ENV_FILE, &["path"]),
        (schema::ULIMIT, &["soft", "hard"]),
        (schema::INCLUDE, &["path"]),
    ];
    let is_it = |row: &&(&[Attribute], &'static [&'static str])| std::ptr::eq(row.0, attributes);
    rows.iter().find(is_it).map_or(&[], |row| row.1)
}

fn text() -> Value {
    json!({ "type": "string" })
}

fn text_like(pattern: &str) -> Value {
    json!({ "type": "string", "pattern": pattern })
}

/// A whole number; the bounds of the type itself are left out.
fn integer(low: i64, high: i64) -> Value {
    let mut schema = json!({ "type": "integer" });
    if low > i64::MIN {
        schema["minimum"] = low.into();
    }
    if high < i64::MAX {
        schema["maximum"] = high.into();
    }
    schema
}

fn keyword(name: &str, value: Value) -> Value {
    Value::Object(Map::from_iter([(name.to_owned(), value)]))
}

fn any_of<const N: usize>(schemas: [Value; N]) -> Value {
    keyword("anyOf", Value::Array(schemas.into()))
}

fn list_of(items: Value) -> Value {
    let mut list = keyword("items", items);
    list["type"] = "array".into();
    list
}

fn map_of(values: Value) -> Value {
    let mut map = keyword("additionalProperties", values);
    map["type"] = "object".into();
    map
}

fn or_null(schema: Value) -> Value {
    if schema.as_object().is_some_and(Map::is_empty) {
        return schema;
    }
    if let Some(Value::Array(choices)) = schema.get("anyOf") {
        let null = json!({ "type": "null" });
        if choices.contains(&null) {
            return schema;
        }
        let mut choices = choices.clone();
        choices.push(null);
        return json!({ "anyOf": choices });
    }
    any_of([schema, json!({ "type": "null" })])
}

/// The name of one of `services`: `service`.
fn singular(name: &str) -> String {
    name.strip_suffix('s').unwrap_or(name).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every reference of `value`.
    fn references<'v>(value: &'v Value, found: &mut Vec<&'v str>) {
        match value {
            Value::Object(map) => {
                found.extend(map.get("$ref").and_then(Value::as_str));
                map.values().for_each(|value| references(value, found));
            }
            Value::Array(items) => items.iter().for_each(|value| references(value, found)),
            _ => {}
        }
    }

    #[test]
    fn every_reference_has_its_definition() {
        let schema = schema();
        let mut found = Vec::new();
        references(&schema, &mut found);
        assert!(!found.is_empty());
        for reference in found {
            let pointer = reference.strip_prefix('#').unwrap();
            assert!(
                schema.pointer(pointer).is_some_and(Value::is_object),
                "{reference}"
            );
        }
    }

    #[test]
    fn every_attribute_of_a_service_is_in_it() {
        let schema = schema();
        let service = schema.pointer("/$defs/service/properties").unwrap();
        let keys: Vec<&str> = service
            .as_object()
            .unwrap()
            .keys()
            .map(String::as_str)
            .collect();
        let names: Vec<&str> = schema::SERVICE
            .iter()
            .map(|attribute| attribute.name)
            .collect();
        assert_eq!(keys, names);
    }
}
