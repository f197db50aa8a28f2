//! The loading pipeline.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::assemble::{Assembler, Setting};
use super::diagnostic::{Diagnostic, Diagnostics};
use super::discover::{self, Discovered, is_elsewhere, is_stdin};
use super::interpolate::{Interpolator, Step};
use super::model::Stack;
use super::names::ProjectName;
use super::origin::{NameFrom, Trace};
use super::session::{Environment, Parsed, Session};
use super::source::Sources;
use super::tree::Mapping;
use super::{decode, normalize, validate};

/// How the loader reads files; the only way anything reaches it.
pub trait ReadFile {
    /// Returns a file's bytes.
    fn read(&self, path: &Path) -> Result<Vec<u8>, ReadError>;
    /// Whether `path` names anything.
    fn exists(&self, path: &Path) -> bool;
    /// Whether `path` itself is a symbolic link.
    fn is_link(&self, path: &Path) -> bool;
}

/// Why a file cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// There is none.
    #[error("no such file or directory")]
    NotFound,
    /// Anything else, in the system's words.
    #[error("{0}")]
    Other(String),
}

/// What to load and with what.
#[derive(Debug, Clone)]
pub struct LoadOptions {
    /// `-f`: in this order, `-` for standard input; `COMPOSE_FILE` or the standard names, searched upward, where empty.
    pub files: Vec<PathBuf>,
    /// What standard input holds, where `-` is among the files.
    pub stdin: Option<Vec<u8>>,
    /// Absolute path that the command runs in.
    pub working_directory: PathBuf,
    /// `--project-directory`.
    pub project_directory: Option<PathBuf>,
    /// `-p`.
    pub project_name: Option<String>,
    /// `--profile`; `COMPOSE_PROFILES` where empty.
    pub profiles: Vec<String>,
    /// Services that the command names, or patterns of such names: env files are read for these and what they depend on;
    /// for all where empty.
    pub services: Vec<String>,
    /// `--env-file`; `.env` where empty.
    pub env_files: Vec<PathBuf>,
    /// The environment of the command.
    pub environment: BTreeMap<String, String>,
    /// Which steps of loading are taken.
    pub steps: Steps,
}

/// The steps of loading that can be left out (`config --no-…`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Steps {
    /// Whether variables are filled in. Where they are not, a value that names one stays as it is written, every service
    /// counts as enabled, and nothing is checked that a variable could change.
    pub interpolate: bool,
    /// Whether what the files imply is written out: names, the default network, implied dependencies.
    pub normalize: bool,
    /// Whether relative paths become absolute.
    pub resolve_paths: bool,
    /// Whether references and contradictions are checked.
    pub check_consistency: bool,
    /// Whether env files are read and bare variables take their value.
    pub resolve_environment: bool,
}

impl Default for Steps {
    fn default() -> Self {
        Self {
            interpolate: true,
            normalize: true,
            resolve_paths: true,
            check_consistency: true,
            resolve_environment: true,
        }
    }
}

impl Default for LoadOptions {
    fn default() -> Self {
        Self {
            files: Vec::new(),
            stdin: None,
            working_directory: PathBuf::from("/"),
            project_directory: None,
            project_name: None,
            profiles: Vec::new(),
            services: Vec::new(),
            env_files: Vec::new(),
            environment: BTreeMap::new(),
            steps: Steps::default(),
        }
    }
}

/// A project that loads.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The project.
    pub stack: Stack,
    /// What to say all the same.
    pub warnings: Vec<Diagnostic>,
    /// Every file read.
    pub sources: Sources,
    /// The command's environment with `.env` beneath it.
    pub environment: BTreeMap<String, String>,
    /// What is needed to say where each value came from.
    pub trace: Trace,
}

/// A project that does not load.
#[derive(Debug, Clone)]
pub struct LoadFailure {
    /// Every error of every file, warnings among them, in the order of the places.
    pub diagnostics: Vec<Diagnostic>,
    /// Every file read.
    pub sources: Sources,
}

/// Loads a project: finds its files, reads and merges them, and checks the whole.
///
/// Every error of every file is reported, not only the first.
pub fn load(options: &LoadOptions, files: &dyn ReadFile) -> Result<Loaded, LoadFailure> {
    let mut session = Session::new(options, files);
    let loaded = run(&mut session);
    session.warn_of_unset();
    let failed = session.diagnostics.errors() > 0;
    let mut diagnostics = session.diagnostics.finish();
    for diagnostic in &mut diagnostics {
        session.trace.add_chain(diagnostic, &session.sources);
    }
    match loaded {
        Some((stack, environment)) if !failed => Ok(Loaded {
            stack,
            warnings: diagnostics,
            sources: session.sources,
            environment,
            trace: session.trace,
        }),
        _ => Err(LoadFailure {
            diagnostics,
            sources: session.sources,
        }),
    }
}

/// Returns the command's environment with the dotenv files of the project beneath it, for what is to be known before a load;
/// `None` where there is no project. What is wrong with the files is for the load to say.
pub fn environment(options: &LoadOptions, files: &dyn ReadFile) -> Option<Environment> {
    let mut session = Session::new(options, files);
    discover::discover(&mut session).map(|found| found.environment)
}

/// Loads as far as it goes; `None` where nothing is left to go on with.
fn run(session: &mut Session<'_>) -> Option<(Stack, Environment)> {
    let Discovered {
        files,
        directory,
        mut environment,
        places,
    } = discover::discover(session)?;
    let parsed = parse(session, &files);
    session.is_partial |= parsed.len() < files.len();
    let name = project_name(session, &parsed, &environment, &directory);
    if let Some(name) = &name {
        environment.insert("COMPOSE_PROJECT_NAME".to_owned(), name.to_string());
    }
    let first = parsed.first().map(|file| file.start);
    let setting = Setting {
        directory,
        environment: Rc::new(environment),
        places: Rc::new(places),
    };
    let project = Assembler::new(session).files(parsed, &setting);
    let is_empty = project
        .as_ref()
        .is_none_or(|project| project.as_mapping().is_none_or(Mapping::is_empty));
    if is_empty {
        if session.diagnostics.errors() == 0 {
            let diagnostic = match first {
                Some(start) => Diagnostic::error(start, "empty compose file"),
                None => Diagnostic::error_without_place("empty compose file"),
            };
            session
                .diagnostics
                .push(diagnostic.hint("it needs at least `services:`"));
        }
        return None;
    }
    let mut project = project?;
    if !session.is_partial {
        normalize::check_complete(&mut project, &mut session.diagnostics);
    }
    let steps = session.options.steps;
    let profiles = if steps.interpolate {
        active_profiles(session.options, &setting.environment)
    } else {
        vec!["*".to_owned()]
    };
    let shown_name = name.as_ref().map_or("", |name| name.as_str());
    let normalized = normalize::normalize(session, project, &setting, shown_name, &profiles);
    if steps.check_consistency && steps.interpolate && !session.is_partial {
        validate::validate(&normalized, &mut session.diagnostics);
    }
    let files = files.into_iter().filter(|file| !is_stdin(file)).collect();
    // What a variable stands for, a name that was not written out, or what an unreadable file says, is not there to be
    // decoded.
    let mut unsaid = Diagnostics::default();
    let is_whole =
        steps.interpolate && steps.normalize && steps.check_consistency && !session.is_partial;
    let diagnostics = if is_whole {
        &mut session.diagnostics
    } else {
        &mut unsaid
    };
    let stack = decode::decode(normalized, name?, setting.directory, files, diagnostics);
    Some((stack, Rc::unwrap_or_clone(setting.environment)))
}

/// Reads every file, reporting those that cannot be.
fn parse(session: &mut Session<'_>, files: &[PathBuf]) -> Vec<Parsed> {
    let mut parsed = Vec::with_capacity(files.len());
    for file in files {
        if is_elsewhere(file) {
            let what = format!(
                "compose file `{}` is fetched from elsewhere",
                file.display()
            );
            let error = Diagnostic::error_without_place(format!("{what}: not supported yet"));
            session.diagnostics.push(error);
            continue;
        }
        let id = if is_stdin(file) {
            session.add_source(file, session.options.stdin.clone().unwrap_or_default())
        } else {
            session.open(file, None, "compose file")
        };
        parsed.extend(id.and_then(|id| session.parse(file, id)));
    }
    parsed
}

fn active_profiles(options: &LoadOptions, environment: &Environment) -> Vec<String> {
    if !options.profiles.is_empty() {
        return options.profiles.clone();
    }
    let listed = environment
        .get("COMPOSE_PROFILES")
        .map(String::as_str)
        .unwrap_or_default();
    let profiles = listed
        .split(',')
        .map(str::trim)
        .filter(|profile| !profile.is_empty());
    profiles.map(str::to_owned).collect()
}

/// Returns the project's name: `-p`, `COMPOSE_PROJECT_NAME`, the last `name:` of the files, or the directory's name.
fn project_name(
    session: &mut Session<'_>,
    parsed: &[Parsed],
    environment: &Environment,
    directory: &Path,
) -> Option<ProjectName> {
    let given = session
        .options
        .project_name
        .as_ref()
        .filter(|name| !name.is_empty());
    let given = given.or_else(|| {
        environment
            .get("COMPOSE_PROJECT_NAME")
            .filter(|name| !name.is_empty())
    });
    if let Some(given) = given {
        let is_option = session.options.project_name.as_ref() == Some(given);
        session.trace.name = if is_option {
            NameFrom::Option
        } else {
            NameFrom::Environment
        };
        let name = ProjectName::new(given).ok();
        if name.is_none() {
            session.diagnostics.push(Diagnostic::error_without_place(format!(
                "invalid project name \"{given}\": must consist only of lowercase alphanumeric characters, \
                 hyphens, and underscores as well as start with a letter or number"
            )));
        }
        return name;
    }
    let documents = parsed.iter().flat_map(|file| &file.documents).rev();
    let written = documents
        .filter_map(|document| document.get("name"))
        .find(|name| name.as_str() != Some(""));
    if let Some(written) = written {
        // What is not text is reported when the file is checked.
        let text = written.as_str()?;
        let mut interpolator = Interpolator {
            environment,
            sources: &session.sources,
            diagnostics: &mut session.diagnostics,
            unset: &mut session.unset,
        };
        let filled = if session.options.steps.interpolate {
            interpolator.text(written.span, text, &[Step::Key("name")])
        } else {
            None
        };
        let text = filled.as_deref().unwrap_or(text);
        if !text.is_empty() {
            session.trace.name = NameFrom::File(written.span);
            let name = ProjectName::normalized(text);
            if name.is_err() {
                session
                    .diagnostics
                    .error(written.span, "project name must not be empty");
            }
            return name.ok();
        }
    }
    let base = directory
        .file_name()
        .map(|name| name.to_string_lossy())
        .unwrap_or_default();
    let Ok(name) = ProjectName::normalized(&base) else {
        session.diagnostics.push(
            Diagnostic::error_without_place("project name must not be empty")
                .hint("give one with -p, or with `name:` in the file"),
        );
        return None;
    };
    if session.reader.is_link(directory) {
        // Under another way to the same directory it would be another project.
        session.diagnostics.push(
            Diagnostic::warning_without_place(format!(
                "the project has no name of its own, and its directory {} is a symbolic link: it is called `{name}` after the link",
                directory.display()
            ))
            .hint("give it a name with `name:` in the file"),
        );
    }
    Some(name)
}
