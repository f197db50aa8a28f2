//! One leaf after the other: what is written at its span, and which variables filled it in.

use std::collections::BTreeSet;

use serde_json::Value as Json;

use super::index::{Index, Written};
use super::{Dotenv, LinkKind, MAX_SHOWN, NameFrom, Scope, Trace};
use crate::spec::budget::Resource;
use crate::spec::canonical::scalar_text;
use crate::spec::load::Loaded;
use crate::spec::source::{SourceId, Sources, Span};
use crate::spec::template::{self, Use};
use crate::spec::tree::{Node, Value};

/// One value of the rendered project and where it came from.
#[derive(Debug, Clone, PartialEq)]
pub struct Leaf {
    /// JSON pointer (RFC 6901).
    pub pointer: String,
    /// The value: a scalar, or an empty list or object.
    pub value: Json,
    /// What put it there.
    pub kind: Kind,
    /// Where it is written; for a default, what it is the default of.
    pub place: Option<Span>,
    /// The part of the file that it is written in, where that is not its own: `services.base`, `x-common`.
    pub part: Option<String>,
    /// Variables that filled it in, in the order of writing.
    pub variables: Vec<Variable>,
    /// How its file or service came in, from the inside out.
    pub via: Vec<Via>,
    /// Values that it stands above.
    pub over: Vec<Overridden>,
}

/// What put a value there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A Compose file says so.
    Written,
    /// Nothing says otherwise.
    Default,
    /// An env file of the service says so.
    EnvFile,
    /// A bare variable, whose value the environment has.
    Bare,
    /// `-p`.
    Option,
    /// `COMPOSE_PROJECT_NAME`.
    Environment,
    /// The name of the project's directory.
    Directory,
}

/// One variable of a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Variable {
    /// Its name.
    pub name: String,
    /// Where the value names it.
    pub at: Span,
    /// What it was taken from.
    pub source: VariableSource,
}

/// What a variable was taken from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VariableSource {
    /// The environment of the command.
    Environment,
    /// A dotenv file, at the place of the key.
    Dotenv(Span, Dotenv),
    /// What stands behind `-` or `:-`, at this place.
    Default(Span),
    /// What stands behind `+` or `:+`, at this place.
    Alternate(Span),
    /// The project itself: its name, its directory.
    Project,
    /// Nothing: it is not set.
    Unset,
}

/// One step on which a value came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Via {
    /// How.
    pub kind: LinkKind,
    /// Where that is asked for.
    pub at: Span,
}

/// A value that another one stands above.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Overridden {
    /// Where it is written.
    pub at: Span,
}

/// The variable that the loader sets to the project's name, wherever that comes from.
const NAME_VARIABLE: &str = "COMPOSE_PROJECT_NAME";

/// What a short form says although it is not written in it.
const IMPLIED: [&str; 10] = [
    "bind",
    "condition",
    "dockerfile",
    "mode",
    "protocol",
    "required",
    "restart",
    "target",
    "type",
    "volume",
];

/// The first word of a health check that is written as one text.
const SHELL_TEST: &str = "CMD-SHELL";

/// Explains every leaf of `rendered`, which was rendered from `loaded`, in the order of rendering.
pub fn explain(loaded: &Loaded, rendered: &Json) -> Vec<Leaf> {
    let trace = &loaded.trace;
    let ids: BTreeSet<SourceId> = trace.scopes.iter().map(|scope| scope.source).collect();
    let explainer = Explainer {
        trace,
        sources: &loaded.sources,
        index: Index::new(&loaded.sources, ids),
    };
    let mut walk = Walk {
        explainer: &explainer,
        way: Vec::new(),
        leaves: Vec::new(),
    };
    let root = &loaded.stack.document;
    walk.value(rendered, Some(root), root.span, root.span);
    walk.leaves
}

/// Goes through the rendered project and the tree it was rendered from, side by side.
struct Walk<'a> {
    explainer: &'a Explainer<'a>,
    way: Vec<String>,
    leaves: Vec<Leaf>,
}

impl Walk<'_> {
    /// `key` is the place of the value's key, `parent` that of what holds it.
    fn value(&mut self, json: &Json, node: Option<&Node>, key: Span, parent: Span) {
        let span = node.map_or(parent, |node| node.span);
        match json {
            Json::Object(map) if !map.is_empty() => {
                for (name, value) in map {
                    let entry = node
                        .and_then(Node::as_mapping)
                        .and_then(|mapping| mapping.entry(name));
                    let key = entry.map_or(span, |entry| entry.key_span);
                    self.way.push(name.clone());
                    self.value(value, entry.map(|entry| &*entry.value), key, span);
                    self.way.pop();
                }
            }
            Json::Array(items) if !items.is_empty() => {
                let nodes = node.and_then(Node::as_sequence).unwrap_or_default();
                for (number, value) in items.iter().enumerate() {
                    let item = nodes.get(number).map(|item| &**item);
                    let key = item.map_or(span, |item| item.span);
                    self.way.push(number.to_string());
                    self.value(value, item, key, span);
                    self.way.pop();
                }
            }
            leaf => {
                let leaf = self.explainer.leaf(&self.way, leaf, node, key, parent);
                self.leaves.push(leaf);
            }
        }
    }
}

struct Explainer<'a> {
    trace: &'a Trace,
    sources: &'a Sources,
    index: Index,
}

impl Explainer<'_> {
    fn leaf(
        &self,
        way: &[String],
        json: &Json,
        node: Option<&Node>,
        key: Span,
        parent: Span,
    ) -> Leaf {
        let mut leaf = Leaf {
            pointer: pointer(way),
            value: json.clone(),
            kind: Kind::Default,
            place: Some(parent),
            part: None,
            variables: Vec::new(),
            via: Vec::new(),
            over: Vec::new(),
        };
        if matches!(way, [only] if only == "name") {
            self.project_name(&mut leaf);
            return leaf;
        }
        let Some(node) = node else {
            self.complete(&mut leaf, way, key);
            return leaf;
        };
        leaf.place = Some(node.span);
        if self.trace.dotenv.contains_key(&node.span.source) {
            leaf.kind = Kind::EnvFile;
            self.complete(&mut leaf, way, key);
            return leaf;
        }
        match self.index.at(node.span) {
            Some(Written::Scalar(written)) => self.scalar(&mut leaf, way, node, written),
            Some(Written::Collection(written)) if written.value == node.value => {
                leaf.kind = Kind::Written;
            }
            Some(Written::Collection(_) | Written::Key) | None => {}
        }
        self.complete(&mut leaf, way, node.span);
        leaf
    }

    /// Explains a value that was made of one scalar.
    fn scalar(&self, leaf: &mut Leaf, way: &[String], node: &Node, written: &Node) {
        let name = way.last().map(String::as_str).unwrap_or_default();
        let value = scalar_text(node).unwrap_or_default();
        let is_absent = written.is_null() && !node.is_null();
        if is_absent || written.as_str() == Some(name) && is_bare(way) {
            if is_bare(way)
                && let Some(scope) = self.scopes(node.span.source).next()
            {
                leaf.kind = Kind::Bare;
                leaf.variables.push(Variable {
                    name: name.to_owned(),
                    at: node.span,
                    source: self.set_in(scope, name),
                });
            }
            return;
        }
        let raw = self.text(node.span);
        let uses = template::uses(raw);
        let filled = self.scopes(node.span.source).map(|scope| {
            let filled = scope.fill(written.as_str().unwrap_or_default());
            (scope, filled)
        });
        let filled: Vec<_> = filled.collect();
        let fits = |(_, filled): &&(&Scope, String)| filled.contains(&value);
        let chosen = filled.iter().find(fits).or(filled.first());
        let whole = match chosen {
            Some((_, filled)) if !uses.is_empty() => filled.clone(),
            _ => scalar_text(written).unwrap_or_default(),
        };
        let is_shell_test = value == SHELL_TEST && way.iter().any(|key| key == "healthcheck");
        let is_short_form = whole != value && (IMPLIED.contains(&name) || is_shell_test);
        let is_implied = node.as_mapping().is_some()
            || is_short_form && (value.is_empty() || !whole.contains(&value));
        if is_implied {
            return;
        }
        leaf.kind = Kind::Written;
        let Some((scope, _)) = chosen.filter(|_| !uses.is_empty()) else {
            return;
        };
        let mut variables = Vec::new();
        for one in &uses {
            let from = variables.len();
            self.variable(scope, one, node.span, &mut variables);
            let own = scope.value_of(one);
            // Of a short form that is taken apart, only what this part has in it.
            let is_here = whole == value || own.is_empty() || has_word(&value, &own);
            if !is_here {
                variables.truncate(from);
            }
        }
        leaf.variables = variables;
    }

    /// Adds what one variable was taken from, and those that stand in for it.
    fn variable(&self, scope: &Scope, one: &Use<'_>, text: Span, out: &mut Vec<Variable>) {
        let span = |at: usize, length: usize| Span {
            source: text.source,
            start: text.start.saturating_add(offset(at)),
            end: text.start.saturating_add(offset(at + length)),
        };
        let argument = span(one.argument_at, one.argument.len());
        let is_taken = scope.takes_argument(one);
        let source = match one.operator {
            Some(('-', _)) if is_taken => VariableSource::Default(argument),
            Some(('+', _)) if is_taken => VariableSource::Alternate(argument),
            _ => self.set_in(scope, one.name),
        };
        out.push(Variable {
            name: one.name.to_owned(),
            at: span(one.at.start, one.at.len()),
            source,
        });
        if is_taken && out.len() < 1_000 {
            for inner in template::uses(one.argument) {
                self.variable(scope, &inner, argument, out);
            }
        }
    }

    /// Returns what sets a variable.
    fn set_in(&self, scope: &Scope, name: &str) -> VariableSource {
        if name == NAME_VARIABLE && self.trace.name != NameFrom::Environment {
            return VariableSource::Project;
        }
        if let Some(place) = scope.places.get(name) {
            let why = self.trace.dotenv.get(&place.source).copied();
            return VariableSource::Dotenv(*place, why.unwrap_or(Dotenv::Found));
        }
        if scope.environment.contains_key(name) {
            VariableSource::Environment
        } else {
            VariableSource::Unset
        }
    }

    fn project_name(&self, leaf: &mut Leaf) {
        leaf.place = None;
        leaf.kind = match self.trace.name {
            NameFrom::Option => Kind::Option,
            NameFrom::Environment => Kind::Environment,
            NameFrom::Directory => Kind::Directory,
            NameFrom::File(span) => {
                leaf.place = Some(span);
                Kind::Written
            }
        };
        if self.trace.name == NameFrom::Environment {
            let scope = self.trace.scopes.first();
            leaf.place = scope.and_then(|scope| scope.places.get(NAME_VARIABLE).copied());
        }
    }

    /// Says in which part of a file the value is written, how that came in, and what it stands above. `from` is the place
    /// in a Compose file that put it there.
    fn complete(&self, leaf: &mut Leaf, way: &[String], from: Span) {
        let own = way.get(..2).map(|own| own.join("."));
        let part = self.index.part(from);
        leaf.part = part
            .filter(|part| part.contains('.') || part.starts_with("x-"))
            .filter(|part| own.as_deref() != Some(part))
            .map(str::to_owned);
        let service = way.get(1).map(String::as_str).unwrap_or_default();
        let mut at = from;
        while leaf.via.len() < MAX_SHOWN {
            let Some(link) = self.trace.way_in(at, |name| name == service) else {
                break;
            };
            if leaf.via.iter().any(|via| via.at == link.at) {
                break;
            }
            leaf.via.push(Via {
                kind: link.kind,
                at: link.at,
            });
            at = link.at;
        }
        if leaf.kind == Kind::Written {
            leaf.over = self.overridden(way, from);
        }
    }

    /// Returns what else is written for the same value: in other files, and in what its service extends.
    fn overridden(&self, way: &[String], stands: Span) -> Vec<Overridden> {
        let [section, service, rest @ ..] = way else {
            return Vec::new();
        };
        let in_documents = self.index.documents().filter_map(|document| {
            let part = document.get(section)?.get(service)?;
            descend(part, rest)
        });
        let links = self.trace.links.iter();
        let bases = links.filter(|link| link.service.as_ref() == Some(service));
        let in_bases = bases.filter_map(|link| match self.index.at(link.within?)? {
            Written::Collection(base) if section == "services" => descend(base, rest),
            _ => None,
        });
        let mut found: Vec<Overridden> = in_documents
            .chain(in_bases)
            .filter(|node| is_scalar(node) && node.span != stands)
            .map(|node| Overridden { at: node.span })
            .collect();
        found.sort_by_key(|over| over.at);
        found.dedup();
        found
    }

    fn scopes(&self, source: SourceId) -> impl Iterator<Item = &Scope> {
        let scopes = self.trace.scopes.iter();
        scopes.filter(move |scope| scope.source == source)
    }

    /// Returns what is written at a span, as it stands in the file.
    fn text(&self, span: Span) -> &str {
        let range = || {
            let start = usize::try_from(span.start).ok()?;
            let end = usize::try_from(span.end).ok()?;
            self.sources.get(span.source)?.text.get(start..end)
        };
        range().unwrap_or_default()
    }
}

impl Scope {
    fn value(&self, name: &str) -> Option<&str> {
        self.environment.get(name).map(String::as_str)
    }

    /// Whether what stands behind the operator is what counts.
    fn takes_argument(&self, one: &Use<'_>) -> bool {
        let value = self.value(one.name);
        match one.operator {
            None => false,
            Some((operator, colon)) => {
                let is_present = value.is_some_and(|value| !(colon && value.is_empty()));
                match operator {
                    '+' => is_present,
                    '-' => !is_present,
                    _ => false,
                }
            }
        }
    }

    /// Returns what one variable, as it is written, comes to.
    fn value_of(&self, one: &Use<'_>) -> String {
        if self.takes_argument(one) {
            self.fill(one.argument)
        } else {
            self.value(one.name).unwrap_or_default().to_owned()
        }
    }

    /// Fills a text in; as it is where that fails, which the load has reported.
    fn fill(&self, text: &str) -> String {
        struct Silent<'a>(&'a Scope);
        impl template::Variables for Silent<'_> {
            fn value(&self, name: &str) -> Option<&str> {
                self.0.value(name)
            }
            fn unset(&mut self, _name: &str, _at: std::ops::Range<usize>) {}
        }
        let filled = template::substitute(text, &mut Silent(self), Resource::Filled.limit());
        filled.map_or_else(|_| text.to_owned(), std::borrow::Cow::into_owned)
    }
}

/// Whether `part` stands in `text` with no letter or digit beside it.
fn has_word(text: &str, part: &str) -> bool {
    text.match_indices(part).any(|(at, _)| {
        let before = text[..at].chars().next_back();
        let after = text[at + part.len()..].chars().next();
        !before.is_some_and(char::is_alphanumeric) && !after.is_some_and(char::is_alphanumeric)
    })
}

/// Whether a name without a value stands for the variable of that name.
fn is_bare(way: &[String]) -> bool {
    match way {
        [section, _, key, _] => section == "services" && key == "environment",
        [section, _, build, key, _] => section == "services" && build == "build" && key == "args",
        _ => false,
    }
}

fn is_scalar(node: &Node) -> bool {
    !matches!(
        node.value,
        Value::Mapping(_) | Value::Sequence(_) | Value::Null | Value::Invalid
    )
}

fn descend<'n>(node: &'n Node, way: &[String]) -> Option<&'n Node> {
    way.iter().try_fold(node, |node, key| node.get(key))
}

fn offset(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}

/// Joins keys and numbers to a JSON pointer.
fn pointer(way: &[String]) -> String {
    way.iter()
        .map(|step| format!("/{}", step.replace('~', "~0").replace('/', "~1")))
        .collect()
}
