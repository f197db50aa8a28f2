//! Which files to load, and the environment to load them with (Docker Compose's `buildProjectOptions`).

use std::collections::btree_map::Entry;
use std::path::{Path, PathBuf};

use super::canonical::paths::{clean, is_remote};
use super::diagnostic::Diagnostic;
use super::dotenv::{Format, Outside};
use super::origin::{Dotenv, Places};
use super::session::{Environment, Provided, Session};
use super::units;

/// The names searched for, first one first.
const NAMES: [&str; 4] = [
    "compose.yaml",
    "compose.yml",
    "docker-compose.yml",
    "docker-compose.yaml",
];

/// What may lie beside it and is merged onto it.
const OVERRIDES: [&str; 4] = [
    "compose.override.yml",
    "compose.override.yaml",
    "docker-compose.override.yml",
    "docker-compose.override.yaml",
];

/// What a load starts from.
pub(crate) struct Discovered {
    /// Absolute paths in the order of merging; `-` for standard input.
    pub(crate) files: Vec<PathBuf>,
    /// The project's directory, absolute.
    pub(crate) directory: PathBuf,
    /// The command's environment with the dotenv files beneath it.
    pub(crate) environment: Environment,
    /// Where those variables are set that a dotenv file sets.
    pub(crate) places: Places,
}

/// Makes `path` absolute and clean.
pub(crate) fn absolute(path: &Path, directory: &Path, home: Option<&String>) -> PathBuf {
    let base = super::canonical::paths::PathBase {
        directory,
        home: home.map(String::as_str),
        resolves: true,
    };
    match path.to_str() {
        Some(text) => PathBuf::from(clean(&base.resolve(text))),
        None => directory.join(path),
    }
}

/// Finds the files and the environment; `None` where there are no files, which is reported.
pub(crate) fn discover(session: &mut Session<'_>) -> Option<Discovered> {
    let options = session.options;
    let cwd = options.working_directory.clone();
    let home = options.environment.get("HOME");
    let project_directory = options
        .project_directory
        .as_ref()
        .map(|path| absolute(path, &cwd, home));
    let mut environment = options.environment.clone();
    environment
        .entry("PWD".to_owned())
        .or_insert_with(|| cwd.display().to_string());

    let given: Vec<PathBuf> = options
        .files
        .iter()
        .map(|file| located(file, &cwd, home))
        .collect();
    let mut places = Places::new();
    let first_directory = |files: &[PathBuf]| {
        let first = files.first();
        let first = first.filter(|file| !is_stdin(file) && !is_elsewhere(file));
        first.and_then(|file| file.parent()).map(Path::to_owned)
    };
    let env_directory = project_directory
        .clone()
        .or_else(|| first_directory(&given))
        .unwrap_or_else(|| cwd.clone());
    let env_files = explicit_env_files(session, &environment);
    let disabled = environment
        .get("COMPOSE_DISABLE_ENV_FILE")
        .and_then(|text| units::parse_switch(text))
        .unwrap_or_default();
    match &env_files {
        Some(files) => {
            let read = read_env_files(session, files, &environment);
            add_missing(&mut environment, &mut places, read);
        }
        None if !disabled => {
            default_env_file(session, &env_directory, &mut environment, &mut places);
        }
        None => {}
    }

    let mut files = given;
    if files.is_empty() {
        files = from_environment(session, &environment);
    }
    if files.is_empty() {
        files = search(session, &env_directory)?;
    }
    let directory = project_directory
        .or_else(|| first_directory(&files))
        .unwrap_or(cwd);
    if env_files.is_none() && !disabled && directory != env_directory {
        default_env_file(session, &directory, &mut environment, &mut places);
    }
    Some(Discovered {
        files,
        directory,
        environment,
        places,
    })
}

/// Whether a file is standard input.
pub(crate) fn is_stdin(file: &Path) -> bool {
    file == Path::new("-")
}

/// Whether a file is fetched from a registry or a repository.
pub(crate) fn is_elsewhere(file: &Path) -> bool {
    file.to_str().is_some_and(is_remote)
}

fn located(file: &Path, cwd: &Path, home: Option<&String>) -> PathBuf {
    if is_stdin(file) || is_elsewhere(file) {
        file.to_owned()
    } else {
        absolute(file, cwd, home)
    }
}

/// Returns the files of `--env-file` or `COMPOSE_ENV_FILES`.
fn explicit_env_files(session: &Session<'_>, environment: &Environment) -> Option<Vec<PathBuf>> {
    let options = session.options;
    if !options.env_files.is_empty() {
        return Some(options.env_files.clone());
    }
    let listed = environment
        .get("COMPOSE_ENV_FILES")
        .filter(|list| !list.is_empty())?;
    Some(listed.split(',').map(PathBuf::from).collect())
}

/// Reads env files, the later above the earlier.
fn read_env_files(
    session: &mut Session<'_>,
    files: &[PathBuf],
    environment: &Environment,
) -> Provided {
    let mut read = Provided::new();
    for file in files {
        let path = absolute(
            file,
            &session.options.working_directory,
            environment.get("HOME"),
        );
        let Some(id) = session.open(&path, None, "couldn't find env file:") else {
            continue;
        };
        session.trace.dotenv(id, Dotenv::Given);
        let own = |name: &str| read.get(name).map(|variable| &variable.value);
        let outside = Outside {
            environment: &|name| environment.get(name).map(String::as_str),
            earlier: &|name| own(name).map(String::as_str),
        };
        if let Some(variables) = session.dotenv(&path, id, Format::Dotenv, outside) {
            read.extend(variables);
        }
    }
    read
}

/// Adds what `environment` has not, and to `places` where that is set.
pub(crate) fn add_missing(environment: &mut Environment, places: &mut Places, more: Provided) {
    for (name, variable) in more {
        if let Entry::Vacant(vacant) = environment.entry(name) {
            places.insert(vacant.key().clone(), variable.span);
            vacant.insert(variable.value);
        }
    }
}

/// Reads `.env` of a directory, where there is one.
pub(crate) fn default_env_file(
    session: &mut Session<'_>,
    directory: &Path,
    environment: &mut Environment,
    places: &mut Places,
) {
    let path = directory.join(".env");
    let is_directory = || session.reader.exists(&path.join(".."));
    if !session.reader.exists(&path) || is_directory() {
        return;
    }
    let Some(id) = session.open(&path, None, "env file") else {
        return;
    };
    session.trace.dotenv(id, Dotenv::Found);
    let lookup = |name: &str| environment.get(name).map(String::as_str);
    let outside = Outside::environment(&lookup);
    if let Some(variables) = session.dotenv(&path, id, Format::Dotenv, outside) {
        add_missing(environment, places, variables);
    }
}

/// Returns the files that `COMPOSE_FILE` lists; none where it is not set.
fn from_environment(session: &Session<'_>, environment: &Environment) -> Vec<PathBuf> {
    let Some(list) = environment
        .get("COMPOSE_FILE")
        .filter(|list| !list.is_empty())
    else {
        return Vec::new();
    };
    let separator = match environment.get("COMPOSE_PATH_SEPARATOR") {
        Some(separator) if !separator.is_empty() => separator.as_str(),
        _ => ":",
    };
    let cwd = &session.options.working_directory;
    let home = environment.get("HOME");
    let files = list.split(separator);
    files
        .map(|file| located(Path::new(file), cwd, home))
        .collect()
}

/// Searches `start` and the directories above it for a file with a standard name.
fn search(session: &mut Session<'_>, start: &Path) -> Option<Vec<PathBuf>> {
    for directory in start.ancestors() {
        let named = |names: &[&str]| -> Vec<PathBuf> {
            let paths = names.iter().map(|name| directory.join(name));
            paths.filter(|path| session.reader.exists(path)).collect()
        };
        let (mains, overrides) = (named(&NAMES), named(&OVERRIDES));
        let Some(main) = mains.first() else {
            continue;
        };
        for (found, what) in [(&mains, "config"), (&overrides, "override")] {
            if let [used, _, ..] = found.as_slice() {
                let all = found.iter().map(|path| clean(&path.to_string_lossy()));
                let all = all.collect::<Vec<_>>().join(", ");
                session
                    .diagnostics
                    .push(Diagnostic::warning_without_place(format!(
                        "found multiple {what} files with supported names: {all}; using {}",
                        used.display()
                    )));
            }
        }
        return Some(
            [Some(main.clone()), overrides.first().cloned()]
                .into_iter()
                .flatten()
                .collect(),
        );
    }
    session.diagnostics.push(
        Diagnostic::error_without_place("no configuration file provided: not found").hint(format!(
            "write a compose.yaml in {} or in a directory above it, or name one with -f",
            start.display()
        )),
    );
    None
}
