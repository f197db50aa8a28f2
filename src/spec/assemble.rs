//! Many files into one canonical tree: interpolation, `include`, `extends` and merging, in the order of Docker Compose.
//!
//! For every document of every file: fill variables in, make canonical, load what it includes, take over what its services
//! extend, merge onto what is there.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use super::budget::Resource;
use super::canonical::Canonicalizer;
use super::canonical::paths::{PathBase, is_remote};
use super::diagnostic::Diagnostic;
use super::discover::{absolute, add_missing, default_env_file};
use super::dotenv::{Format, Outside};
use super::interpolate::Interpolator;
use super::merge;
use super::normalize;
use super::origin::{Dotenv, LinkKind, Places};
use super::session::{Environment, Parsed, Provided, Session};
use super::source::Span;
use super::tree::{Entry, Mapping, Node, Value};

/// How many services may extend, or files include, each other in a chain.
const MAX_CHAIN: usize = 100;

/// What the paths and variables of a file mean.
#[derive(Clone)]
pub(crate) struct Setting {
    /// What its relative paths are relative to.
    pub(crate) directory: PathBuf,
    /// Its variables.
    pub(crate) environment: Rc<Environment>,
    /// Where those of them are set that a dotenv file sets.
    pub(crate) places: Rc<Places>,
}

/// Puts the files of one load together.
pub(crate) struct Assembler<'s, 'a> {
    session: &'s mut Session<'a>,
    /// The files being included, from the outermost on, with the place that includes each.
    including: Vec<(PathBuf, Option<Span>)>,
    /// Files that services extend from.
    extended: BTreeMap<PathBuf, Option<Rc<Scope>>>,
    /// Files and services of the cycles that were reported.
    circular: BTreeSet<(String, String)>,
}

/// Where a service's base is looked for.
struct Scope {
    /// As shown in errors.
    name: String,
    setting: Setting,
    /// Canonical projects, the first one first.
    projects: Vec<Arc<Node>>,
    /// Services as they were read; made canonical one by one, as the rest of such a file does not count.
    raw: Option<Arc<Node>>,
    /// Services with what they extend beneath them; `None` for those that cannot be.
    resolved: RefCell<BTreeMap<String, Option<Arc<Node>>>>,
}

/// One step of a chain of `extends`.
struct Link {
    file: String,
    service: String,
    span: Span,
}

impl<'s, 'a> Assembler<'s, 'a> {
    /// Starts with nothing.
    pub(crate) fn new(session: &'s mut Session<'a>) -> Self {
        Self {
            session,
            including: Vec::new(),
            extended: BTreeMap::new(),
            circular: BTreeSet::new(),
        }
    }

    /// Puts `files` together; `None` where they have no document at all.
    pub(crate) fn files(&mut self, files: Vec<Parsed>, setting: &Setting) -> Option<Arc<Node>> {
        let mut whole: Option<Arc<Node>> = None;
        for file in files {
            let Parsed {
                path,
                documents,
                has_variables,
                start,
            } = file;
            self.trace(start, setting);
            self.including.push((path.clone(), None));
            for document in documents {
                let filled = self.interpolated(document, has_variables, &setting.environment);
                whole = self.document(whole, filled, &path, setting);
            }
            self.including.pop();
        }
        whole
    }

    fn document(
        &mut self,
        whole: Option<Arc<Node>>,
        filled: Arc<Node>,
        path: &Path,
        setting: &Setting,
    ) -> Option<Arc<Node>> {
        let canonical = self.canonicalizer(setting).project(&filled);
        drop(filled);
        let Some(mut layer) = canonical else {
            return whole;
        };
        self.warn_of_version(&layer, path);
        let mut whole = whole;
        if let Some(included) = layer.get("include").filter(|node| !node.is_null()) {
            whole = self.includes(whole, &Arc::new(included.clone()), setting);
        }
        layer = without(layer, &["include", "version"]);
        if extends_any(&layer) {
            let projects = [Some(Arc::clone(&layer)), whole.clone()];
            let scope = Scope {
                name: self.session.shown(path).display().to_string(),
                setting: setting.clone(),
                projects: projects.into_iter().flatten().collect(),
                raw: None,
                resolved: RefCell::default(),
            };
            layer = self.extend_services(layer, &Rc::new(scope));
        }
        match whole {
            Some(whole) => Some(merge::project(whole, &layer)),
            None => merge::settled(&layer),
        }
    }

    fn canonicalizer<'c>(&'c mut self, setting: &'c Setting) -> Canonicalizer<'c> {
        let steps = self.session.options.steps;
        let paths = PathBase {
            directory: &setting.directory,
            home: setting.environment.get("HOME").map(String::as_str),
            resolves: steps.resolve_paths,
        };
        Canonicalizer::new(paths, &mut self.session.diagnostics).keep_variables(!steps.interpolate)
    }

    /// Takes note of the variables that the file beginning at `start` sees.
    fn trace(&mut self, start: Span, setting: &Setting) {
        let (environment, places) = (&setting.environment, &setting.places);
        self.session
            .trace
            .scope(start.source, Rc::clone(environment), Rc::clone(places));
    }

    fn interpolated(
        &mut self,
        node: Arc<Node>,
        has_variables: bool,
        environment: &Environment,
    ) -> Arc<Node> {
        if !has_variables {
            return node;
        }
        let whole = self.session.options.steps.interpolate;
        let Session {
            sources,
            diagnostics,
            unset,
            ..
        } = &mut *self.session;
        let mut interpolator = Interpolator {
            environment,
            sources,
            diagnostics,
            unset,
        };
        if whole {
            interpolator.tree(&node)
        } else {
            interpolator.references(&node)
        }
    }

    fn warn_of_version(&mut self, layer: &Node, path: &Path) {
        let Some(version) = layer
            .as_mapping()
            .and_then(|mapping| mapping.entry("version"))
        else {
            return;
        };
        let shown = self.session.shown(path);
        self.session.diagnostics.push(
            Diagnostic::warning(
                version.key_span,
                format!(
                    "{}: the attribute `version` is obsolete, it will be ignored, please remove it to avoid potential confusion",
                    shown.display()
                ),
            ),
        );
    }

    /// Loads what a file includes and merges it onto `whole`; the file itself comes above it.
    fn includes(
        &mut self,
        whole: Option<Arc<Node>>,
        list: &Arc<Node>,
        setting: &Setting,
    ) -> Option<Arc<Node>> {
        let Some(items) = list.as_sequence() else {
            self.session.diagnostics.push(
                Diagnostic::error(list.span, "include must be a list")
                    .label(format!("this is {}", list.kind())),
            );
            return whole;
        };
        let mut whole = whole;
        for item in items {
            // Its variables are filled in, whatever becomes of the others.
            let mut canonicalizer = self.canonicalizer(setting).keep_variables(false);
            let item = canonicalizer.include(item);
            let included = item.and_then(|item| self.include(&item, setting));
            self.session.is_partial |= included.is_none();
            whole = match (whole, included) {
                (Some(whole), Some(included)) => Some(merge::project(whole, &included)),
                (whole, included) => whole.or(included),
            };
        }
        whole
    }

    fn include(&mut self, item: &Node, setting: &Setting) -> Option<Arc<Node>> {
        let listed = |key: &str| {
            let items = item.get(key).and_then(Node::as_sequence);
            items.map(|items| {
                items
                    .iter()
                    .filter_map(|item| Some((item.as_str()?, item.span)))
                    .collect::<Vec<_>>()
            })
        };
        let Some(paths) = listed("path").filter(|paths| !paths.is_empty()) else {
            self.session
                .diagnostics
                .error(item.span, "include: missing property 'path'");
            return None;
        };
        let home = setting.environment.get("HOME").cloned();
        let resolve = |text: &str| absolute(Path::new(text), &setting.directory, home.as_ref());
        let mut files = Vec::with_capacity(paths.len());
        for (text, span) in &paths {
            if is_remote(text) {
                self.session.diagnostics.error(
                    *span,
                    format!("include: `{text}` is fetched from elsewhere: not supported yet"),
                );
                continue;
            }
            files.extend(self.included_file(&resolve(text), *span));
        }
        let first_directory = || {
            resolve(paths[0].0)
                .parent()
                .map(Path::to_owned)
                .unwrap_or_default()
        };
        let directory = item
            .get("project_directory")
            .and_then(Node::as_str)
            .map_or_else(first_directory, resolve);
        let variables = setting.environment.len();
        let diagnostics = &mut self.session.diagnostics;
        if !diagnostics.take(Resource::Files, 1, Some(item.span))
            || !diagnostics.take(Resource::Nodes, variables, Some(item.span))
        {
            return None;
        }
        let mut environment = (*setting.environment).clone();
        let mut places = (*setting.places).clone();
        match listed("env_file") {
            // That of the including file's directory is in the environment already.
            None if directory == setting.directory => {}
            None => {
                default_env_file(self.session, &directory, &mut environment, &mut places);
            }
            Some(env_files) => {
                let mut read = Provided::new();
                for (text, span) in env_files {
                    let path = resolve(text);
                    if path != Path::new("/dev/null") {
                        self.env_file(&path, span, &environment, &mut read);
                    }
                }
                add_missing(&mut environment, &mut places, read);
            }
        }
        let setting = Setting {
            directory,
            environment: Rc::new(environment),
            places: Rc::new(places),
        };
        let whole = self.included(files, paths[0].1, &setting);
        // An included file's name names only itself.
        whole.map(|whole| {
            without(
                normalize::default_contexts(whole, &setting.directory),
                &["name"],
            )
        })
    }

    fn included(&mut self, files: Vec<Parsed>, span: Span, setting: &Setting) -> Option<Arc<Node>> {
        if let Some((_, place)) = self.including.last_mut() {
            *place = Some(span);
        }
        self.files(files, setting)
    }

    fn included_file(&mut self, path: &Path, span: Span) -> Option<Parsed> {
        if self.including.iter().any(|(open, _)| open == path) {
            let way = self
                .including
                .iter()
                .map(|(open, _)| self.session.shown(open).display().to_string());
            let way: Vec<String> = way.collect();
            let end = self.session.shown(path);
            let mut diagnostic = Diagnostic::error(
                span,
                format!(
                    "include cycle detected: {} -> {}",
                    way.join(" -> "),
                    end.display()
                ),
            );
            for (open, place) in &self.including {
                if let Some(place) = place.filter(|place| *place != span) {
                    diagnostic = diagnostic.note(
                        place,
                        format!("included from {}", self.session.shown(open).display()),
                    );
                }
            }
            self.session.diagnostics.push(diagnostic);
            return None;
        }
        if self.including.len() >= MAX_CHAIN {
            self.session.diagnostics.error(
                span,
                format!("include nested too deep: the limit is {MAX_CHAIN} files"),
            );
            return None;
        }
        let id = self.session.open(path, Some(span), "included file")?;
        self.session.trace.link(id, span, LinkKind::Included);
        self.session.parse(path, id)
    }

    /// Reads an env file of an include above those that were `read` before.
    fn env_file(
        &mut self,
        path: &Path,
        span: Span,
        environment: &Environment,
        read: &mut Provided,
    ) {
        let Some(id) = self.session.open(path, Some(span), "env file") else {
            return;
        };
        let outside = Outside {
            environment: &|name| environment.get(name).map(String::as_str),
            earlier: &|name| read.get(name).map(|variable| variable.value.as_str()),
        };
        self.session.trace.dotenv(id, Dotenv::Found);
        if let Some(variables) = self.session.dotenv(path, id, Format::Dotenv, outside) {
            read.extend(variables);
        }
    }

    /// Puts what each service of `layer` extends beneath it.
    fn extend_services(&mut self, layer: Arc<Node>, scope: &Rc<Scope>) -> Arc<Node> {
        let services = layer.get("services").and_then(Node::as_mapping);
        let extending = services.into_iter().flat_map(Mapping::entries);
        let extending: Vec<Entry> = extending
            .filter(|entry| entry.value.get("extends").is_some())
            .cloned()
            .collect();
        let mut layer = layer;
        for entry in extending {
            let resolved = self.resolved(&entry.key, &entry.value, scope, &mut Vec::new());
            let Value::Mapping(project) = &mut Arc::make_mut(&mut layer).value else {
                continue;
            };
            let value =
                resolved.unwrap_or_else(|| Arc::new(Node::new(entry.value.span, Value::Invalid)));
            if let Some(services) = project.get_mut("services")
                && let Value::Mapping(services) = &mut Arc::make_mut(services).value
            {
                services.insert(Entry { value, ..entry });
            }
        }
        layer
    }

    /// Returns a service with all that it extends, at any depth, beneath it.
    fn resolved(
        &mut self,
        name: &str,
        service: &Arc<Node>,
        scope: &Rc<Scope>,
        chain: &mut Vec<Link>,
    ) -> Option<Arc<Node>> {
        if let Some(known) = scope.resolved.borrow().get(name) {
            return known.clone();
        }
        let resolved = self.resolve(name, service, scope, chain);
        scope
            .resolved
            .borrow_mut()
            .insert(name.to_owned(), resolved.clone());
        resolved
    }

    fn resolve(
        &mut self,
        name: &str,
        service: &Arc<Node>,
        scope: &Rc<Scope>,
        chain: &mut Vec<Link>,
    ) -> Option<Arc<Node>> {
        let Some(extends) = service.get("extends").filter(|extends| !extends.is_null()) else {
            return Some(Arc::clone(service));
        };
        let Some(target) = extends
            .get("service")
            .and_then(|node| Some((node.as_str()?, node.span)))
        else {
            self.session
                .diagnostics
                .error(extends.span, format!("extends.{name}.service is required"));
            return None;
        };
        if chain
            .iter()
            .any(|link| link.file == scope.name && link.service == name)
        {
            self.report_cycle(chain, target.1);
            return None;
        }
        if chain.len() >= MAX_CHAIN {
            self.session.diagnostics.error(
                target.1,
                format!("extends nested too deep: the limit is {MAX_CHAIN} services"),
            );
            return None;
        }
        chain.push(Link {
            file: scope.name.clone(),
            service: name.to_owned(),
            span: target.1,
        });
        let base_scope = match extends
            .get("file")
            .and_then(|node| Some((node.as_str()?, node.span)))
        {
            None => Rc::clone(scope),
            Some((file, span)) => self.file_scope(file, span, &scope.setting)?,
        };
        let Some(base) = self.look_up(&base_scope, target.0) else {
            self.report_missing_base(name, target, scope, &base_scope);
            return None;
        };
        let asked_at = extends.get("file").map_or(target.1, |file| file.span);
        self.session.trace.extended(name, base.span, asked_at);
        let base = self.resolved(target.0, &base, &base_scope, chain);
        chain.pop();
        let own = without(Arc::clone(service), &["extends"]);
        let base = base?;
        // Any number of services can take over all that one has.
        let left = self.session.diagnostics.left(Resource::Nodes);
        let weight = base.weight(left.saturating_add(1));
        let diagnostics = &mut self.session.diagnostics;
        if !diagnostics.take(Resource::Nodes, weight, Some(target.1)) {
            return None;
        }
        Some(merge::service(base, &own))
    }

    fn report_cycle(&mut self, chain: &[Link], span: Span) {
        let mut fresh = true;
        for link in chain {
            fresh &= self
                .circular
                .insert((link.file.clone(), link.service.clone()));
        }
        if !fresh {
            return;
        }
        let names = chain
            .iter()
            .chain(chain.first())
            .map(|link| format!("{} in {}", link.service, link.file));
        let names = names.collect::<Vec<_>>().join(" extends ");
        let mut diagnostic = Diagnostic::error(span, format!("circular reference: {names}"));
        for link in chain.iter().filter(|link| link.span != span) {
            diagnostic = diagnostic.note(link.span, format!("`{}` extends this", link.service));
        }
        self.session.diagnostics.push(diagnostic);
    }

    fn report_missing_base(
        &mut self,
        name: &str,
        target: (&str, Span),
        scope: &Scope,
        base: &Scope,
    ) {
        let (target, span) = target;
        let place = if base.name == scope.name {
            String::new()
        } else {
            format!(" in {}", base.name)
        };
        if self.session.diagnostics.is_full() {
            return;
        }
        let projects = base
            .projects
            .iter()
            .filter_map(|project| project.get("services"));
        let services = projects
            .chain(base.raw.as_deref())
            .filter_map(Node::as_mapping);
        let names: Vec<&str> = services
            .flat_map(Mapping::entries)
            .map(|entry| &*entry.key)
            .collect();
        self.session.diagnostics.push(
            Diagnostic::error(
                span,
                format!(
                    "cannot extend service \"{name}\" in {}: service \"{target}\" not found{place}",
                    scope.name
                ),
            )
            .suggest(target, names),
        );
    }

    /// Returns a service of a scope, canonical.
    fn look_up(&mut self, scope: &Scope, name: &str) -> Option<Arc<Node>> {
        if let Some(raw) = &scope.raw {
            let entry = raw.as_mapping()?.entry(name)?;
            return self.canonicalizer(&scope.setting).service(entry);
        }
        let services = scope
            .projects
            .iter()
            .filter_map(|project| project.get("services")?.as_mapping());
        services
            .filter_map(|services| services.entry(name))
            .map(|entry| Arc::clone(&entry.value))
            .next()
    }

    /// Reads a file that services extend from.
    fn file_scope(&mut self, file: &str, span: Span, setting: &Setting) -> Option<Rc<Scope>> {
        if is_remote(file) {
            self.session.diagnostics.error(
                span,
                format!("extends.file: `{file}` is fetched from elsewhere: not supported yet"),
            );
            return None;
        }
        let path = absolute(
            Path::new(file),
            &setting.directory,
            setting.environment.get("HOME"),
        );
        if let Some(known) = self.extended.get(&path) {
            return known.clone();
        }
        let scope = self.read_scope(&path, span, setting).map(Rc::new);
        self.extended.insert(path, scope.clone());
        scope
    }

    fn read_scope(&mut self, path: &Path, span: Span, setting: &Setting) -> Option<Scope> {
        let id = self.session.open(path, Some(span), "extended file")?;
        let parsed = self.session.parse(path, id)?;
        self.session.trace.link(id, span, LinkKind::Extended);
        self.trace(parsed.start, setting);
        let name = self.session.shown(path).display().to_string();
        let mut services: Option<Arc<Node>> = None;
        for document in parsed.documents {
            let filled = self.interpolated(document, parsed.has_variables, &setting.environment);
            let found = filled
                .as_mapping()
                .and_then(|mapping| mapping.entry("services"));
            if let Some(found) = found {
                services.get_or_insert_with(|| Arc::clone(&found.value));
            }
        }
        if services
            .as_ref()
            .and_then(|node| node.as_mapping())
            .is_none()
        {
            self.session.diagnostics.push(
                Diagnostic::error(
                    span,
                    format!("cannot extend from {name}: no services section"),
                )
                .note(parsed.start, "this file"),
            );
            return None;
        }
        Some(Scope {
            name,
            setting: Setting {
                directory: path.parent().map(Path::to_owned).unwrap_or_default(),
                environment: Rc::clone(&setting.environment),
                places: Rc::clone(&setting.places),
            },
            projects: Vec::new(),
            raw: services,
            resolved: RefCell::default(),
        })
    }
}

/// Whether a service extends another.
fn extends_any(layer: &Node) -> bool {
    let services = layer.get("services").and_then(Node::as_mapping);
    services.is_some_and(|services| {
        services
            .entries()
            .iter()
            .any(|entry| entry.value.get("extends").is_some())
    })
}

/// Takes keys out of a map.
fn without(mut node: Arc<Node>, keys: &[&str]) -> Arc<Node> {
    for key in keys {
        super::canonical::forms::remove(&mut node, key);
    }
    node
}
