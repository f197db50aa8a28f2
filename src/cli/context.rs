//! Arguments, environment and working directory, put together: the one place that reads the environment.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::args::{AnsiArg, Global, ProgressArg};
use super::failure::CliError;
use super::files::{Disk, bounded, working_directory};
use super::render::Printer;
use super::render::diagnostic::{Drawing, render_all, render_message};
use super::render::progress::{Progress, ProgressMode, Shown};
use crate::engine::Engine;
use crate::engine::roots::Roots;
use crate::spec::names::ProjectName;
use crate::spec::source::Sources;
use crate::spec::{Diagnostic, LoadOptions, Loaded, Steps, load};

/// Names under which a Compose file is found (compose-spec 03-compose-file.md), best first.
pub(crate) const FILE_NAMES: [&str; 4] = [
    "compose.yaml",
    "compose.yml",
    "docker-compose.yaml",
    "docker-compose.yml",
];

/// Everything a command starts from.
pub(crate) struct Context {
    /// Options before the command.
    pub(crate) global: Global,
    /// Variables whose names and values are UTF-8.
    pub(crate) environment: BTreeMap<String, String>,
    /// The same, with those of the project's `.env` beneath them that are about Compose itself.
    pub(crate) settings: BTreeMap<String, String>,
    /// Where the command runs, absolute.
    pub(crate) directory: PathBuf,
    /// The terminal.
    pub(crate) printer: Printer,
    /// How progress is shown.
    pub(crate) progress: ProgressMode,
}

/// What a command works on: a project, and its file where there is one.
pub(crate) struct Target {
    /// Its name.
    pub(crate) project: ProjectName,
    /// What was loaded, unless the project was only named.
    pub(crate) loaded: Option<Loaded>,
}

impl Context {
    /// Puts everything together.
    pub(crate) fn gather(
        global: Global,
        environment: BTreeMap<String, String>,
        is_build: bool,
    ) -> Result<Self, CliError> {
        let directory =
            working_directory(environment.get("PWD")).map_err(|source| CliError::System {
                attempted: "find the working directory",
                source,
            })?;
        let settings = settings(&global, &environment, &directory);
        let ansi = match global.ansi {
            Some(ansi) => ansi,
            None => choose(&settings, "COMPOSE_ANSI", AnsiArg::Auto)?,
        };
        let progress = match global.progress {
            Some(progress) => progress,
            None => choose(&settings, "COMPOSE_PROGRESS", ProgressArg::Auto)?,
        };
        // BuildKit's own variable counts where nothing of ours is said (docker/buildx, Docker Compose).
        let progress = if is_build && progress == ProgressArg::Auto {
            choose(&environment, "BUILDKIT_PROGRESS", ProgressArg::Auto)?
        } else {
            progress
        };
        if progress == ProgressArg::RawJson && !is_build {
            let message = "`--progress rawjson` is of builds: `json` is what other commands have";
            return Err(CliError::usage(message));
        }
        let mut printer = Printer::standard(ansi, &environment);
        printer.status_to_out = is_on(&settings, "COMPOSE_STATUS_STDOUT");
        let terminal = printer.status_look().terminal;
        let progress = progress_mode(progress, ansi, terminal, &environment)?;
        Ok(Self {
            global,
            environment,
            settings,
            directory,
            printer,
            progress,
        })
    }

    /// Loads the project, and says what the load warns of.
    pub(crate) fn load(&self) -> Result<Loaded, CliError> {
        self.load_with(&[])
    }

    /// Loads the project for a command that names `services`: naming one enables the profiles it is behind, as in Docker
    /// Compose.
    pub(crate) fn load_with(&self, services: &[String]) -> Result<Loaded, CliError> {
        self.load_steps(services, Steps::default())
    }

    /// As [`Context::load_with`], by these steps.
    pub(crate) fn load_steps(&self, services: &[String], steps: Steps) -> Result<Loaded, CliError> {
        let mut options = self.load_options(steps)?;
        options.services = services.to_vec();
        let mut loaded = load_files(&options)?;
        let named = services
            .iter()
            .filter_map(|name| loaded.stack.disabled.get(name.as_str()));
        let behind: Vec<String> = named.flat_map(|service| service.profiles.clone()).collect();
        if !behind.is_empty() {
            if options.profiles.is_empty() {
                // Those of the flag stand instead of the variable's: both are wanted here.
                let listed = loaded.environment.get("COMPOSE_PROFILES");
                let listed = listed.into_iter().flat_map(|names| names.split(','));
                let listed = listed.map(str::trim).filter(|name| !name.is_empty());
                options.profiles = listed.map(str::to_owned).collect();
            }
            options.profiles.extend(behind);
            loaded = load_files(&options)?;
        }
        self.warn_of(&loaded);
        Ok(loaded)
    }

    /// Says what a load warns of.
    pub(crate) fn warn_of(&self, loaded: &Loaded) {
        self.warn_with(&loaded.warnings, &loaded.sources);
    }

    /// Shows warnings with their places.
    pub(crate) fn warn_with(&self, warnings: &[Diagnostic], sources: &Sources) {
        if !warnings.is_empty() {
            let drawing = Drawing::on(&self.printer);
            self.printer.err(render_all(warnings, sources, drawing));
        }
    }

    /// Loads the project for a command that makes no containers of it: no env file is read, which need not be there.
    pub(crate) fn load_without_environment(&self, services: &[String]) -> Result<Loaded, CliError> {
        let steps = Steps {
            resolve_environment: false,
            ..Steps::default()
        };
        self.load_steps(services, steps)
    }

    /// Loads the project if there is a file, or takes its name alone where it was given; for commands on what is there
    /// already.
    pub(crate) fn target(&self) -> Result<Target, CliError> {
        if let Some(name) = self.named_project()
            && !self.has_file()
        {
            let project =
                ProjectName::new(&name).map_err(|error| CliError::usage(error.to_string()))?;
            return Ok(Target {
                project,
                loaded: None,
            });
        }
        let loaded = self.load_without_environment(&[])?;
        Ok(Target {
            project: loaded.stack.name.clone(),
            loaded: Some(loaded),
        })
    }

    /// As [`Context::target`]; `None` where neither a name nor a file is there.
    pub(crate) fn target_if_any(&self) -> Result<Option<Target>, CliError> {
        if self.named_project().is_none() && !self.has_file() {
            return Ok(None);
        }
        self.target().map(Some)
    }

    /// Opens the engine where `--root` and the environment say.
    pub(crate) fn engine(&self) -> Result<Engine, CliError> {
        let mut engine = Engine::open(&self.roots(), &self.environment)?;
        engine.limit(self.parallel()?);
        Ok(engine)
    }

    /// Returns how many operations may go on at once: `--parallel`, else `COMPOSE_PARALLEL_LIMIT`; negative is no limit.
    fn parallel(&self) -> Result<Option<NonZeroUsize>, CliError> {
        let bad = |text: &str, name: &str| {
            CliError::usage(format!(
                "`{text}` of {name} is not a number of operations, nor -1"
            ))
        };
        let (number, name) = match (
            self.global.parallel,
            self.variable("COMPOSE_PARALLEL_LIMIT"),
        ) {
            (Some(number), _) => (number, "`--parallel`"),
            (None, Some(text)) => {
                let name = "the variable COMPOSE_PARALLEL_LIMIT";
                (text.parse().map_err(|_| bad(text, name))?, name)
            }
            (None, None) => return Ok(None),
        };
        if number < 0 {
            return Ok(None);
        }
        let number = usize::try_from(number).ok().and_then(NonZeroUsize::new);
        number.map(Some).ok_or_else(|| bad("0", name))
    }

    /// Says which variables ask for what is not there yet, and fails where going on would do something else.
    pub(crate) fn check_settings(&self) -> Result<(), CliError> {
        if is_on(&self.settings, "COMPOSE_COMPATIBILITY") {
            let what = "variable COMPOSE_COMPATIBILITY";
            return Err(CliError::NotSupported(what.to_owned()));
        }
        for name in ["COMPOSE_MENU", "COMPOSE_CONVERT_WINDOWS_PATHS"] {
            if is_on(&self.settings, name) {
                self.warn(&format!(
                    "variable {name}: not supported yet; it is ignored"
                ));
            }
        }
        Ok(())
    }

    /// Runs on from where containers cannot reach this program; before anything is read.
    pub(crate) fn sealed(&self) -> Result<(), CliError> {
        Ok(crate::engine::run_sealed(&self.roots())?)
    }

    /// Leaves nothing on the machine that only containers need, where there are none.
    pub(crate) fn leave(&self) {
        if rustix::process::geteuid().is_root() {
            crate::engine::leave(&self.roots());
        }
    }

    /// Returns where everything is kept.
    fn roots(&self) -> Roots {
        let is_root = rustix::process::geteuid().is_root();
        let root = self
            .global
            .root
            .as_deref()
            .map(|root| self.directory.join(root));
        Roots::choose(root.as_deref(), &self.environment, is_root)
    }

    /// Begins to show the progress of a pull; with `quiet` nothing but what goes wrong.
    pub(crate) fn show_pull(&self, quiet: bool) -> Progress<'_> {
        self.show_transfer("Pulling", quiet)
    }

    /// The same of a push.
    pub(crate) fn show_push(&self, quiet: bool) -> Progress<'_> {
        self.show_transfer("Pushing", quiet)
    }

    /// The same of a load.
    pub(crate) fn show_load(&self, quiet: bool) -> Progress<'_> {
        self.show_transfer("Loading", quiet)
    }

    fn show_transfer(&self, title: &'static str, quiet: bool) -> Progress<'_> {
        let shown = Shown {
            title,
            builds: true,
            pulls: true,
        };
        self.show_unless(quiet, shown)
    }

    /// Begins to show progress; with `quiet` nothing but what goes wrong.
    pub(crate) fn show_unless(&self, quiet: bool, shown: Shown) -> Progress<'_> {
        let mode = if quiet {
            ProgressMode::Quiet
        } else {
            self.progress
        };
        Progress::new(&self.printer, mode, shown)
    }

    /// Begins to show progress.
    pub(crate) fn show(&self, shown: Shown) -> Progress<'_> {
        Progress::new(&self.printer, self.progress, shown)
    }

    /// Says something the user should know.
    pub(crate) fn warn(&self, message: &str) {
        if self.progress == ProgressMode::Json {
            let object = serde_json::json!({ "status": "Warning", "text": message });
            self.printer.err(format!("{object}\n"));
            return;
        }
        self.printer.err(render_message(
            "warning",
            message,
            &[],
            self.printer.err_look.colour,
        ));
    }

    /// Says what could not be done of something that was done else; fails where there is anything.
    pub(crate) fn fail_with(&self, failures: &[String]) -> Result<(), CliError> {
        for failure in failures {
            self.warn(failure);
        }
        if failures.is_empty() {
            Ok(())
        } else {
            Err(CliError::Ended(1))
        }
    }

    /// Writes to standard output.
    pub(crate) fn out(&self, text: impl AsRef<[u8]>) -> Result<(), CliError> {
        self.printer.out(text).map_err(CliError::Output)
    }

    /// Hands everything to standard output's reader.
    pub(crate) fn flush(&self) -> Result<(), CliError> {
        self.printer.flush().map_err(CliError::Output)
    }

    /// Fails where `--dry-run` was asked of a command that cannot do it.
    pub(crate) fn refuse_dry_run(&self, command: &str) -> Result<(), CliError> {
        if self.global.dry_run {
            Err(CliError::NotSupported(format!(
                "option `--dry-run` of `{command}`"
            )))
        } else {
            Ok(())
        }
    }

    /// Returns what a load starts from; reads standard input where that is asked for.
    pub(crate) fn load_options(&self, steps: Steps) -> Result<LoadOptions, CliError> {
        let dash = Path::new("-");
        let from_environment = self.variable("COMPOSE_FILE").is_some_and(|files| {
            let separator = self.variable("COMPOSE_PATH_SEPARATOR");
            let separator = separator.map_or(":", String::as_str);
            files.split(separator).any(|file| file == "-")
        });
        let reads_stdin = self.global.file.iter().any(|file| file == dash)
            || (self.global.file.is_empty() && from_environment);
        let mut stdin = None;
        if reads_stdin {
            // What is too long is reported by the loader.
            let bytes = bounded(std::io::stdin()).map_err(|source| CliError::System {
                attempted: "read the Compose file from standard input",
                source,
            })?;
            stdin = Some(bytes);
        }
        Ok(LoadOptions {
            stdin,
            steps,
            ..load_options(&self.global, &self.environment, &self.directory)
        })
    }

    fn variable(&self, name: &str) -> Option<&String> {
        self.settings.get(name).filter(|value| !value.is_empty())
    }

    /// Adds `hint` to the failure of a load where there is no project at all.
    pub(crate) fn outside(&self, error: CliError, hint: &str) -> CliError {
        match error {
            CliError::Load(mut failure) if !self.has_file() => {
                if let Some(first) = failure.diagnostics.first_mut() {
                    first.hints.push(hint.to_owned());
                }
                CliError::Load(failure)
            }
            error => error,
        }
    }

    fn named_project(&self) -> Option<String> {
        let named = self.global.project_name.as_ref();
        named
            .or_else(|| self.variable("COMPOSE_PROJECT_NAME"))
            .cloned()
    }

    /// Whether a load would find a file: one is named, or one lies here or above.
    fn has_file(&self) -> bool {
        if !self.global.file.is_empty() || self.variable("COMPOSE_FILE").is_some() {
            return true;
        }
        let start = match &self.global.project_directory {
            Some(directory) => self.directory.join(directory),
            None => self.directory.clone(),
        };
        let mut directories = start.ancestors();
        directories.any(|directory| FILE_NAMES.iter().any(|name| directory.join(name).exists()))
    }
}

/// Returns what a load starts from, without standard input.
fn load_options(
    global: &Global,
    environment: &BTreeMap<String, String>,
    directory: &Path,
) -> LoadOptions {
    LoadOptions {
        files: global.file.clone(),
        stdin: None,
        working_directory: directory.to_owned(),
        project_directory: global.project_directory.clone(),
        project_name: global.project_name.clone(),
        profiles: global.profile.clone(),
        services: Vec::new(),
        env_files: global.env_file.clone(),
        environment: environment.clone(),
        steps: Steps::default(),
    }
}

/// Adds the variables about Compose itself from the project's dotenv files, which count as if they were exported
/// (Docker Compose: `setEnvWithDotEnv`).
fn settings(
    global: &Global,
    environment: &BTreeMap<String, String>,
    directory: &Path,
) -> BTreeMap<String, String> {
    let found = crate::spec::environment(&load_options(global, environment, directory), &Disk);
    let mut settings = environment.clone();
    for (name, value) in found.unwrap_or_default() {
        if name.starts_with("COMPOSE_") {
            settings.entry(name).or_insert(value);
        }
    }
    settings
}

/// Whether a switch in the environment is on (Go `strconv.ParseBool`).
pub(crate) fn is_on(environment: &BTreeMap<String, String>, name: &str) -> bool {
    let value = environment.get(name).map(String::as_str);
    matches!(value, Some("1" | "t" | "T" | "true" | "TRUE" | "True"))
}

/// Loads a project from the real file system.
pub(crate) fn load_files(options: &LoadOptions) -> Result<Loaded, CliError> {
    load(options, &Disk).map_err(|failure| CliError::Load(Box::new(failure)))
}

/// Reads the environment: variables that are no UTF-8 are nobody's, since no Compose file can name them.
pub(crate) fn read_environment() -> BTreeMap<String, String> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}

/// Reads the clock.
pub(crate) fn now() -> Timestamp {
    Timestamp::now()
}

/// Takes a word of the environment as if it had been typed.
fn choose<T: clap::ValueEnum>(
    environment: &BTreeMap<String, String>,
    name: &str,
    default: T,
) -> Result<T, CliError> {
    match environment.get(name).filter(|value| !value.is_empty()) {
        None => Ok(default),
        Some(value) => T::from_str(value, true)
            .map_err(|_| CliError::usage(format!("`{value}` is no value of the variable {name}"))),
    }
}

fn progress_mode(
    asked: ProgressArg,
    ansi: AnsiArg,
    terminal: bool,
    environment: &BTreeMap<String, String>,
) -> Result<ProgressMode, CliError> {
    let dumb = environment.get("TERM").is_some_and(|term| term == "dumb");
    match (asked, ansi) {
        (ProgressArg::Tty, AnsiArg::Never) => Err(CliError::usage(
            "`--progress tty` cannot be drawn with `--ansi never`",
        )),
        (ProgressArg::Plain, AnsiArg::Always) => Err(CliError::usage(
            "`--progress plain` has nothing to draw with `--ansi always`",
        )),
        (ProgressArg::Auto, AnsiArg::Never) => Ok(ProgressMode::Plain),
        (ProgressArg::Auto, _) if terminal && !dumb => Ok(ProgressMode::Tty),
        (ProgressArg::Auto | ProgressArg::Plain, _) => Ok(ProgressMode::Plain),
        (ProgressArg::Tty, _) => Ok(ProgressMode::Tty),
        (ProgressArg::Json, _) => Ok(ProgressMode::Json),
        (ProgressArg::Quiet, _) => Ok(ProgressMode::Quiet),
        (ProgressArg::RawJson, _) => Ok(ProgressMode::RawJson),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_live_only_on_a_terminal_that_can() {
        let rows = [
            (
                ProgressArg::Auto,
                AnsiArg::Auto,
                true,
                "xterm",
                Some(ProgressMode::Tty),
            ),
            (
                ProgressArg::Auto,
                AnsiArg::Auto,
                true,
                "dumb",
                Some(ProgressMode::Plain),
            ),
            (
                ProgressArg::Auto,
                AnsiArg::Auto,
                false,
                "xterm",
                Some(ProgressMode::Plain),
            ),
            (
                ProgressArg::Auto,
                AnsiArg::Never,
                true,
                "xterm",
                Some(ProgressMode::Plain),
            ),
            (
                ProgressArg::Tty,
                AnsiArg::Auto,
                false,
                "xterm",
                Some(ProgressMode::Tty),
            ),
            (ProgressArg::Tty, AnsiArg::Never, true, "xterm", None),
            (ProgressArg::Plain, AnsiArg::Always, true, "xterm", None),
            (
                ProgressArg::Json,
                AnsiArg::Auto,
                true,
                "xterm",
                Some(ProgressMode::Json),
            ),
            (
                ProgressArg::Quiet,
                AnsiArg::Auto,
                true,
                "xterm",
                Some(ProgressMode::Quiet),
            ),
        ];
        for (asked, ansi, terminal, term, expected) in rows {
            let environment = BTreeMap::from([("TERM".to_owned(), term.to_owned())]);
            let mode = progress_mode(asked, ansi, terminal, &environment).ok();
            assert_eq!(mode, expected, "{asked:?} {ansi:?} {terminal} {term}");
        }
    }
}
