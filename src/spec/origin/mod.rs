//! Where each value of a loaded project came from.
//!
//! ```text
//! while loading     Trace: which file sees which variables, which file or service was taken in from where
//! when asked        the files are read again into an index of their spans; every leaf of the project is looked up there
//! ```
//!
//! Nodes carry their span anyway, so a load only keeps what no span tells. Which variables a value was filled with is
//! found when it is asked for, from the text at its span and the variables that its file sees: loading costs nothing more.

mod explain;
mod index;
mod show;

use std::collections::BTreeMap;
use std::rc::Rc;

use super::diagnostic::Diagnostic;
use super::session::Environment;
use super::source::{SourceId, Sources, Span};
pub use explain::{Kind, Leaf, Overridden, Variable, VariableSource, Via, explain};
pub use show::{json, yaml};

/// Where variables are set, of those that a dotenv file sets.
pub(crate) type Places = BTreeMap<String, Span>;

/// How many steps of a chain are drawn.
const MAX_SHOWN: usize = 8;

/// How many services that extend the same one are asked whether a message is about them.
const MAX_LOOKED_AT: usize = 100;

/// What a load keeps to answer where a value came from.
#[derive(Debug, Clone, Default)]
pub struct Trace {
    scopes: Vec<Scope>,
    links: Vec<Link>,
    dotenv: BTreeMap<SourceId, Dotenv>,
    /// Where the project's name was taken from.
    pub(crate) name: NameFrom,
}

/// The variables that one file sees. A file that is included twice has two.
#[derive(Debug, Clone)]
struct Scope {
    source: SourceId,
    environment: Rc<Environment>,
    places: Rc<Places>,
}

/// One file or service taken in.
#[derive(Debug, Clone)]
struct Link {
    /// What was taken in: the file.
    source: SourceId,
    /// The service of it; the whole file where none.
    within: Option<Span>,
    /// Where that is asked for.
    at: Span,
    kind: LinkKind,
    /// The service that asks for it.
    service: Option<String>,
}

/// How a file came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkKind {
    /// By `include`.
    Included,
    /// By `extends`.
    Extended,
}

/// Why a dotenv file was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dotenv {
    /// Named by `--env-file` or `COMPOSE_ENV_FILES`.
    Given,
    /// The `.env` of a directory, or named by `include`.
    Found,
    /// Named by a service.
    Service,
}

/// What the project's name was taken from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum NameFrom {
    /// `-p`.
    Option,
    /// `COMPOSE_PROJECT_NAME`.
    Environment,
    /// `name:` at this place.
    File(Span),
    /// The name of the project's directory.
    #[default]
    Directory,
}

impl Trace {
    /// Notes which variables the file sees.
    pub(crate) fn scope(
        &mut self,
        source: SourceId,
        environment: Rc<Environment>,
        places: Rc<Places>,
    ) {
        self.scopes.push(Scope {
            source,
            environment,
            places,
        });
    }

    /// Notes that a whole file was taken in.
    pub(crate) fn link(&mut self, source: SourceId, at: Span, kind: LinkKind) {
        self.links.push(Link {
            source,
            within: None,
            at,
            kind,
            service: None,
        });
    }

    /// Notes that `service` extends what was read from `base`.
    pub(crate) fn extended(&mut self, service: &str, base: Span, at: Span) {
        self.links.push(Link {
            source: base.source,
            within: Some(base),
            at,
            kind: LinkKind::Extended,
            service: Some(service.to_owned()),
        });
    }

    /// Notes why a dotenv file was read; the first reason stands.
    pub(crate) fn dotenv(&mut self, source: SourceId, why: Dotenv) {
        self.dotenv.entry(source).or_insert(why);
    }

    /// Returns the names of all variables that a file sees.
    pub(crate) fn variables(&self) -> impl Iterator<Item = &str> {
        let environments = self.scopes.iter().map(|scope| &scope.environment);
        environments.flat_map(|environment| environment.keys().map(String::as_str))
    }

    /// Returns the project's name as a file writes it, variables not filled in.
    pub(crate) fn written_name<'s>(&self, sources: &'s Sources) -> Option<&'s str> {
        let NameFrom::File(span) = self.name else {
            return None;
        };
        let start = usize::try_from(span.start).ok()?;
        let end = usize::try_from(span.end).ok()?;
        sources.get(span.source)?.text.get(start..end)
    }

    /// Draws how the place at fault came into the project, where another file or service took it in.
    pub(crate) fn add_chain(&self, diagnostic: &mut Diagnostic, sources: &Sources) {
        let Some(mut span) = diagnostic.span else {
            return;
        };
        for _ in 0..MAX_SHOWN {
            let names = |service: &str| {
                let message = &diagnostic.message;
                message.contains(&format!("\"{service}\""))
                    || message.contains(&format!("services.{service}."))
                    || message.contains(&format!("service {service} "))
            };
            let Some(link) = self.way_in(span, names) else {
                return;
            };
            let known = diagnostic.span == Some(link.at)
                || diagnostic.notes.iter().any(|(note, _)| *note == link.at);
            if known {
                return;
            }
            let text = match (link.kind, sources.place(span)) {
                (LinkKind::Extended, Some(place)) => format!("extended from {place}"),
                (LinkKind::Extended, None) => "extended from here".to_owned(),
                (LinkKind::Included, _) => "included from here".to_owned(),
            };
            diagnostic.notes.push((link.at, text));
            span = link.at;
        }
    }

    /// Returns what took `span` in: the service that `names` says, else the first that took in what is around it. Within
    /// one file only a service that is named counts, as its base is wrong all the same.
    fn way_in(&self, span: Span, names: impl Fn(&str) -> bool) -> Option<&Link> {
        let takes = |link: &&Link| {
            link.source == span.source
                && link
                    .within
                    .is_none_or(|within| within.start <= span.start && span.end <= within.end)
        };
        let named = |link: &&Link| link.service.as_deref().is_some_and(&names);
        let other_file = |link: &&Link| link.at.source != span.source;
        let links = || self.links.iter().filter(takes);
        links()
            .take(MAX_LOOKED_AT)
            .find(named)
            .or_else(|| {
                links()
                    .filter(other_file)
                    .find(|link| link.within.is_some())
            })
            .or_else(|| links().find(other_file))
    }
}
