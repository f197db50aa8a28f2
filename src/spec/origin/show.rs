//! Origins for people, as comments beside the YAML, and for machines, as JSON by JSON pointer.

use std::collections::BTreeMap;

use serde_json::{Map, Value as Json, json as object};
use unicode_width::UnicodeWidthStr;

use super::explain::{Kind, Leaf, Variable, VariableSource};
use super::{Dotenv, LinkKind};
use crate::spec::diagnostic::Diagnostics;
use crate::spec::source::{SourceId, Sources, Span};
use crate::spec::tree::{Node, Value};
use crate::spec::yaml::parse;

/// Lines wider than this do not move the comments of the others.
const WIDEST: usize = 64;

/// Puts the origin of each leaf beside it, as a comment. `text` is the project as YAML.
pub fn yaml(text: &str, leaves: &[Leaf], sources: &Sources) -> String {
    let mut said = Diagnostics::default();
    let documents = parse::parse(text, SourceId(0), &mut said).unwrap_or_default();
    let mut places = BTreeMap::new();
    for document in &documents {
        find(document, &mut String::new(), &mut places);
    }
    let starts: Vec<usize> = std::iter::once(0)
        .chain(text.match_indices('\n').map(|(at, _)| at + 1))
        .collect();
    let line_of = |at: usize| starts.partition_point(|start| *start <= at) - 1;
    let mut comments: BTreeMap<usize, String> = BTreeMap::new();
    for leaf in leaves {
        if let Some(at) = places.get(&leaf.pointer) {
            comments.insert(line_of(*at), comment(leaf, sources));
        }
    }
    let lines: Vec<&str> = text.lines().collect();
    let commented = comments.keys().filter_map(|line| lines.get(*line));
    let widths = commented.map(|line| line.width());
    let column = widths
        .filter(|width| *width <= WIDEST)
        .max()
        .unwrap_or_default();
    let mut out = String::with_capacity(text.len() * 2);
    for (number, line) in lines.iter().enumerate() {
        out.push_str(line);
        if let Some(comment) = comments.get(&number) {
            let gap = column.saturating_sub(line.width()) + 2;
            out.extend(std::iter::repeat_n(' ', gap));
            out.push_str("# ");
            out.push_str(comment);
        }
        out.push('\n');
    }
    out
}

/// Returns every leaf by its JSON pointer.
pub fn json(leaves: &[Leaf], sources: &Sources) -> Json {
    let entries = leaves
        .iter()
        .map(|leaf| (leaf.pointer.clone(), leaf_object(leaf, sources)));
    Json::Object(entries.collect())
}

/// Finds the byte at which each leaf begins.
fn find(node: &Node, pointer: &mut String, places: &mut BTreeMap<String, usize>) {
    let length = pointer.len();
    match &node.value {
        Value::Mapping(mapping) if !mapping.is_empty() => {
            for entry in mapping.entries() {
                pointer.push('/');
                pointer.push_str(&entry.key.replace('~', "~0").replace('/', "~1"));
                find(&entry.value, pointer, places);
                pointer.truncate(length);
            }
        }
        Value::Sequence(items) if !items.is_empty() => {
            for (number, item) in items.iter().enumerate() {
                pointer.push('/');
                pointer.push_str(&number.to_string());
                find(item, pointer, places);
                pointer.truncate(length);
            }
        }
        _ => {
            let start = usize::try_from(node.span.start).unwrap_or(usize::MAX);
            places.insert(pointer.clone(), start);
        }
    }
}

/// One line: `compose.yaml:3:12, TAG from .env:1:1; over base.yaml:5:12`.
fn comment(leaf: &Leaf, sources: &Sources) -> String {
    let shown = |span: Span| shown(span, sources);
    let mut parts = vec![match (leaf.kind, leaf.place) {
        (Kind::Written | Kind::EnvFile, Some(place)) => shown(place),
        (Kind::Bare, _) => String::new(),
        (Kind::Default, Some(place)) => format!("default, for {}", shown(place)),
        (Kind::Option, _) => "option -p".to_owned(),
        (Kind::Environment, Some(place)) => format!("COMPOSE_PROJECT_NAME from {}", shown(place)),
        (Kind::Environment, None) => "COMPOSE_PROJECT_NAME from environment".to_owned(),
        (Kind::Directory, _) => "name of the directory".to_owned(),
        (_, None) => "default".to_owned(),
    }];
    if leaf.kind == Kind::Bare {
        let place = leaf.place.map(shown).unwrap_or_default();
        parts = vec![place];
    }
    if let Some(part) = &leaf.part {
        let first = &mut parts[0];
        *first = format!("{first} ({part})");
    }
    parts.extend(
        leaf.variables
            .iter()
            .map(|variable| format!("{} {}", variable.name, source_words(variable, sources))),
    );
    parts.extend(leaf.via.iter().map(|via| match via.kind {
        LinkKind::Included => format!("included at {}", shown(via.at)),
        LinkKind::Extended => format!("extended at {}", shown(via.at)),
    }));
    parts.extend(
        leaf.over
            .iter()
            .map(|over| format!("over {}", shown(over.at))),
    );
    // A comment is one line, whatever a file or a key is called.
    parts.join(", ").replace(char::is_control, "?")
}

fn shown(span: Span, sources: &Sources) -> String {
    let place = sources.place(span).map(|place| place.to_string());
    place.unwrap_or_default()
}

fn source_words(variable: &Variable, sources: &Sources) -> String {
    match variable.source {
        VariableSource::Environment => "from environment".to_owned(),
        VariableSource::Dotenv(place, Dotenv::Given) => {
            format!("from --env-file {}", shown(place, sources))
        }
        VariableSource::Dotenv(place, _) => format!("from {}", shown(place, sources)),
        VariableSource::Default(_) => "by default".to_owned(),
        VariableSource::Alternate(_) => "is set".to_owned(),
        VariableSource::Project => "from project".to_owned(),
        VariableSource::Unset => "unset".to_owned(),
    }
}

fn place_object(span: Span, sources: &Sources) -> Json {
    match sources.place(span) {
        Some(place) => object!({
            "path": place.path.display().to_string(),
            "line": place.line,
            "column": place.column,
        }),
        None => Json::Null,
    }
}

fn leaf_object(leaf: &Leaf, sources: &Sources) -> Json {
    let place = |span: Span| place_object(span, sources);
    let kind = match leaf.kind {
        Kind::Written => "file",
        Kind::Default => "default",
        Kind::EnvFile => "env_file",
        Kind::Bare => "variable",
        Kind::Option => "option",
        Kind::Environment => "environment",
        Kind::Directory => "directory",
    };
    let mut fields = Map::new();
    fields.insert("value".to_owned(), leaf.value.clone());
    fields.insert("kind".to_owned(), kind.into());
    if let Some(span) = leaf.place {
        fields.insert("place".to_owned(), place(span));
    }
    if let Some(part) = &leaf.part {
        fields.insert("part".to_owned(), part.clone().into());
    }
    let mut list = |key: &str, items: Vec<Json>| {
        if !items.is_empty() {
            fields.insert(key.to_owned(), Json::Array(items));
        }
    };
    let variables = leaf.variables.iter();
    list(
        "variables",
        variables
            .map(|variable| variable_object(variable, sources))
            .collect(),
    );
    let via = leaf.via.iter().map(|via| {
        let kind = match via.kind {
            LinkKind::Included => "include",
            LinkKind::Extended => "extends",
        };
        object!({ "kind": kind, "place": place(via.at) })
    });
    list("via", via.collect());
    let over = leaf.over.iter().map(|over| place(over.at));
    list("over", over.collect());
    Json::Object(fields)
}

fn variable_object(variable: &Variable, sources: &Sources) -> Json {
    let (source, at) = match variable.source {
        VariableSource::Environment => ("environment", None),
        VariableSource::Dotenv(place, Dotenv::Given) => ("--env-file", Some(place)),
        VariableSource::Dotenv(place, _) => ("dotenv", Some(place)),
        VariableSource::Default(place) => ("default", Some(place)),
        VariableSource::Alternate(place) => ("alternate", Some(place)),
        VariableSource::Project => ("project", None),
        VariableSource::Unset => ("unset", None),
    };
    let mut fields = Map::new();
    fields.insert("name".to_owned(), variable.name.clone().into());
    fields.insert("at".to_owned(), place_object(variable.at, sources));
    fields.insert("source".to_owned(), source.into());
    if let Some(place) = at {
        fields.insert("place".to_owned(), place_object(place, sources));
    }
    Json::Object(fields)
}
