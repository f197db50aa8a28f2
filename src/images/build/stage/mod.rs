//! The state of a stage while its instructions are gone through: configuration, environment, history. Pure.

use std::collections::BTreeMap;

use serde_json::Value;

use super::super::dockerfile::expand::{self, ExpandError, Variables};
use super::super::dockerfile::instruction::{Argument, Command, Healthcheck, Kind};
use super::super::manifest::{self, History, ImageConfig};
use super::super::reference::Digest;
use super::copy::Destination;
use super::history::{self, quoted};
use ports::parse_ports;
use signal::is_signal;

mod ports;
mod shown;
mod signal;
#[cfg(test)]
mod tests;

/// What `PATH` is where an image says nothing (moby `system.DefaultPathEnvUnix`).
pub const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Arguments that need no `ARG` and are in no key: proxies come and go without changing what is built.
const PROXIES: [&str; 5] = [
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "FTP_PROXY",
    "NO_PROXY",
    "ALL_PROXY",
];

/// An instruction that says something impossible.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StageError {
    /// A variable or quote.
    #[error(transparent)]
    Expand(#[from] ExpandError),
    /// `EXPOSE`.
    #[error("invalid port `{0}`: it must be like 80, 80/udp or 8000-8010/tcp")]
    Port(String),
    /// `STOPSIGNAL`.
    #[error("invalid signal `{0}`")]
    Signal(String),
    /// `VOLUME` of nothing, once expanded.
    #[error("VOLUME specified can not be an empty string")]
    Volume,
    /// A name that is nothing once expanded.
    #[error("{0} names can not be blank")]
    Blank(&'static str),
}

/// What is given to a build from outside.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Given {
    /// Build arguments.
    pub arguments: Variables,
    /// `ARG`s before the first `FROM`, and the automatic ones, with their values.
    pub globals: Variables,
    /// The escape character.
    pub escape: char,
}

/// A stage under construction.
#[derive(Debug, Clone, PartialEq)]
pub struct StageState {
    /// The configuration so far; its `rootfs` is not kept up.
    pub config: ImageConfig,
    /// Bottom first.
    pub layers: Vec<Digest>,
    /// `ENV` and `ARG` together in the order first named; of one name the last value counts. What `RUN` sees.
    environment: Vec<(String, String)>,
    /// The same by name.
    variables: Variables,
    /// `ARG`s with a value, in order: for the history.
    arguments: Vec<(String, String)>,
    /// Whether this stage has said `CMD` itself.
    has_cmd: bool,
    /// When the last layer was made, RFC 3339.
    pub created: Option<String>,
}

impl StageState {
    /// Starts from an image.
    pub fn of_image(config: ImageConfig, layers: Vec<Digest>) -> Self {
        let last = config.history.iter().rev().find_map(|h| h.created.clone());
        let environment: Vec<_> = config.config.env.iter().map(|pair| split(pair)).collect();
        let mut state = Self {
            created: config.created.clone().or(last),
            variables: environment.iter().cloned().collect(),
            environment,
            config,
            layers,
            arguments: Vec::new(),
            has_cmd: false,
        };
        if !state.environment.iter().any(|(name, _)| name == "PATH") {
            state.set_env("PATH", DEFAULT_PATH);
        }
        // The triggers have become instructions of this stage.
        state.config.config.on_build.clear();
        state
    }

    /// Starts from nothing.
    pub fn of_scratch(platform: &manifest::Platform) -> Self {
        let mut config = ImageConfig::new(platform);
        "/".clone_into(&mut config.config.working_dir);
        Self::of_image(config, Vec::new())
    }

    /// Starts from an earlier stage, whose arguments keep their values.
    pub fn of_stage(earlier: Self) -> Self {
        let mut state = earlier;
        state.config.config.on_build.clear();
        state.has_cmd = false;
        // The history of a `RUN` lists the arguments of its own stage.
        state.arguments.clear();
        state
    }

    /// Returns what variables mean now.
    pub fn variables(&self) -> &Variables {
        &self.variables
    }

    /// Returns the environment of a `RUN`, `NAME=value`.
    pub fn run_environment(&self) -> Vec<String> {
        let pairs = self.environment.iter();
        pairs
            .map(|(name, value)| format!("{name}={value}"))
            .collect()
    }

    /// Returns the environment of a `RUN` with the proxies among the build arguments, in both cases of letters; they win over what
    /// the stage says, and an empty one is none (BuildKit `proxyEnvList`).
    pub fn proxied_environment(&self, given: &Variables) -> Vec<String> {
        let mut found = Vec::new();
        for upper in PROXIES {
            let lower = upper.to_ascii_lowercase();
            let value = given.get(upper).or_else(|| given.get(&lower));
            let Some(value) = value.filter(|value| !value.is_empty()) else {
                continue;
            };
            found.push((upper.to_owned(), value));
            found.push((lower, value));
        }
        let own = self.environment.iter();
        let own = own.filter(|(name, _)| !found.iter().any(|(proxy, _)| proxy == name));
        let own = own.map(|(name, value)| format!("{name}={value}"));
        let proxies = found.iter().map(|(name, value)| format!("{name}={value}"));
        own.chain(proxies).collect()
    }

    /// Returns the working directory: absolute, clean.
    pub fn working_directory(&self) -> String {
        absolute("/", &self.config.config.working_dir)
    }

    /// Returns the arguments that run a command.
    pub fn arguments_of(&self, command: &Command) -> Vec<String> {
        match command {
            Command::Exec(words) => words.clone(),
            Command::Shell(text) => {
                let mut words = self.shell();
                words.push(text.clone());
                words
            }
        }
    }

    /// Returns the shell.
    fn shell(&self) -> Vec<String> {
        let shell = self.config.config.shell.clone();
        shell.unwrap_or_else(|| vec!["/bin/sh".to_owned(), "-c".to_owned()])
    }

    /// Takes an instruction that changes the configuration alone.
    pub fn apply(&mut self, kind: &Kind, given: &Given) -> Result<(), StageError> {
        let variables = &self.variables;
        let expand = |text: &str| expand::expand(text, given.escape, variables);
        let by = match kind {
            Kind::Env(pairs) => {
                let pairs = expand_pairs(pairs, "ENV", &expand)?;
                for (name, value) in &pairs {
                    self.set_env(name, value);
                }
                Some(format!("ENV {}", joined(&pairs)))
            }
            Kind::Label(pairs) => {
                let pairs = expand_pairs(pairs, "LABEL", &expand)?;
                self.config.config.labels.extend(pairs.iter().cloned());
                Some(format!("LABEL {}", joined(&pairs)))
            }
            Kind::Arg(arguments) => Some(self.apply_arg(arguments, given)?),
            Kind::User(user) => {
                self.config.config.user = expand(user)?;
                Some(format!("USER {}", self.config.config.user))
            }
            Kind::Expose(words) => {
                // Sorted as they are written; a range stays in order.
                let mut words: Vec<&str> = words.iter().map(String::as_str).collect();
                words.sort_unstable();
                let mut ports = Vec::new();
                for word in words {
                    for word in expand::expand_words(word, given.escape, variables)? {
                        ports.extend(parse_ports(&word)?);
                    }
                }
                self.config.config.exposed_ports.extend(ports.clone());
                Some(format!("EXPOSE [{}]", ports.join(" ")))
            }
            Kind::Volume(paths) => {
                let paths = paths.iter().map(|path| expand(path));
                let paths = paths.collect::<Result<Vec<_>, _>>()?;
                if paths.iter().any(String::is_empty) {
                    return Err(StageError::Volume);
                }
                self.config.config.volumes.extend(paths.iter().cloned());
                Some(format!("VOLUME [{}]", paths.join(" ")))
            }
            Kind::StopSignal(signal) => {
                let signal = expand(signal)?;
                if !is_signal(&signal) {
                    return Err(StageError::Signal(signal));
                }
                self.config.config.stop_signal.clone_from(&signal);
                Some(format!("STOPSIGNAL {signal}"))
            }
            Kind::Cmd(_) | Kind::Entrypoint(_) | Kind::Shell(_) | Kind::Healthcheck(_) => {
                Some(self.apply_command(kind))
            }
            Kind::Onbuild(trigger) => {
                self.config.config.on_build.push(trigger.clone());
                None
            }
            Kind::Maintainer(name) => {
                self.config.author = Some(name.clone());
                Some(format!("MAINTAINER {name}"))
            }
            Kind::Run(_) | Kind::Copy(_) | Kind::Add(_) | Kind::Workdir(_) => None,
        };
        if let Some(by) = by {
            self.remember(by, true);
        }
        Ok(())
    }

    /// Takes `CMD`, `ENTRYPOINT`, `SHELL` and `HEALTHCHECK`, in which nothing is expanded; returns the history's text.
    fn apply_command(&mut self, kind: &Kind) -> String {
        match kind {
            Kind::Cmd(command) => {
                let words = self.arguments_of(command);
                let by = format!("CMD {}", quoted(&words));
                self.config.config.cmd = Some(words);
                self.has_cmd = true;
                let extra = &mut self.config.config.extra;
                extra.insert("ArgsEscaped".to_owned(), Value::Bool(true));
                by
            }
            Kind::Entrypoint(command) => {
                let words = self.arguments_of(command);
                let by = format!("ENTRYPOINT {}", quoted(&words));
                self.config.config.entrypoint = Some(words).filter(|words| !words.is_empty());
                // What the base image would run is no argument for this entrypoint.
                if !self.has_cmd {
                    self.config.config.cmd = None;
                }
                by
            }
            Kind::Shell(words) => {
                self.config.config.shell = Some(words.clone());
                format!("SHELL [{}]", words.join(" "))
            }
            Kind::Healthcheck(check) => {
                let check = lower_healthcheck(check);
                let by = history::healthcheck(&check);
                self.config.config.healthcheck = Some(check);
                by
            }
            _ => String::new(),
        }
    }

    /// Takes `ARG`.
    fn apply_arg(&mut self, arguments: &[Argument], given: &Given) -> Result<String, StageError> {
        // All of them in what was known before the instruction.
        let mut found = Vec::new();
        for argument in arguments {
            let expand = |text: &str| expand::expand(text, given.escape, &self.variables);
            let name = expand(&argument.name)?;
            let value = match (given.arguments.get(&name), &argument.default) {
                (Some(value), _) => Some(value.clone()),
                (None, Some(default)) => Some(expand(default)?),
                (None, None) => given.globals.get(&name).cloned(),
            };
            found.push((name, value));
        }
        let mut shown = Vec::new();
        for (name, value) in found {
            shown.push(match &value {
                Some(value) => format!("{name}={value}"),
                None => name.clone(),
            });
            set(
                &mut self.arguments,
                &name,
                value.as_deref().unwrap_or_default(),
            );
            if let Some(value) = value {
                self.set_variable(&name, &value);
            }
        }
        Ok(format!("ARG {}", shown.join(" ")))
    }

    /// Sets a variable.
    fn set_variable(&mut self, name: &str, value: &str) {
        set(&mut self.environment, name, value);
        self.variables.insert(name.to_owned(), value.to_owned());
    }

    /// Sets a variable of the image.
    fn set_env(&mut self, name: &str, value: &str) {
        self.set_variable(name, value);
        let pair = format!("{name}={value}");
        let env = &mut self.config.config.env;
        let same = |known: &&mut String| known.split('=').next() == Some(name);
        match env.iter_mut().find(same) {
            Some(known) => *known = pair,
            None => env.push(pair),
        }
    }

    /// Moves to a working directory; returns the new one as the configuration and the history have it: an absolute path as it is
    /// written (`/app/`), any other joined with the one before and made clean (BuildKit `system.NormalizeWorkdir`).
    pub fn enter_directory(&mut self, path: &str, given: &Given) -> Result<String, StageError> {
        let path = expand::expand(path, given.escape, &self.variables)?;
        let directory = if path.starts_with('/') {
            path
        } else {
            absolute(&self.working_directory(), &path)
        };
        self.config.config.working_dir.clone_from(&directory);
        Ok(directory)
    }

    /// Adds what a step made.
    pub fn add_layer(&mut self, layer: Digest, created: String, by: String) {
        self.layers.push(layer);
        self.created = Some(created);
        self.remember(by, false);
    }

    /// Adds an entry to the history, dated like the last layer, so that the same build has the same id.
    pub fn remember(&mut self, by: String, empty_layer: bool) {
        self.config.history.push(History {
            created: self.created.clone(),
            created_by: Some(by),
            comment: Some("buildkit.dockerfile.v0".to_owned()),
            empty_layer,
            ..History::default()
        });
    }

    /// Returns how a `RUN` looks in the history.
    pub fn history_of_run(&self, arguments: &[String]) -> String {
        let shown: Vec<String> = self
            .arguments
            .iter()
            .map(|(name, value)| {
                // An `ENV` of that name may have come after it.
                let mut known = self.environment.iter();
                let now = known.find(|(known, _)| known == name);
                format!("{name}={}", now.map_or(value, |(_, now)| now))
            })
            .collect();
        let words = arguments.join(" ");
        if shown.is_empty() {
            format!("RUN {words} # buildkit")
        } else {
            format!(
                "RUN |{} {} {words} # buildkit",
                shown.len(),
                shown.join(" ")
            )
        }
    }

    /// Returns where a destination is.
    pub fn destination(&self, text: &str) -> Destination {
        Destination::parse(text, &self.working_directory())
    }

    /// Returns the finished configuration.
    pub fn finish(mut self, labels: &BTreeMap<String, String>) -> (ImageConfig, Vec<Digest>) {
        let labels = labels.iter().map(|(k, v)| (k.clone(), v.clone()));
        self.config.config.labels.extend(labels);
        self.config.created = self.created;
        (self.config, self.layers)
    }
}

/// Replaces or adds a pair.
fn set(pairs: &mut Vec<(String, String)>, name: &str, value: &str) {
    match pairs.iter_mut().find(|(known, _)| known == name) {
        Some((_, known)) => value.clone_into(known),
        None => pairs.push((name.to_owned(), value.to_owned())),
    }
}

/// Splits `NAME=value`.
fn split(pair: &str) -> (String, String) {
    let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
    (name.to_owned(), value.to_owned())
}

/// Expands names and values, all in the environment before the instruction.
fn expand_pairs(
    pairs: &[(String, String)],
    keyword: &'static str,
    expand: &dyn Fn(&str) -> Result<String, ExpandError>,
) -> Result<Vec<(String, String)>, StageError> {
    pairs
        .iter()
        .map(|(name, value)| {
            let name = expand(name)?;
            if name.is_empty() {
                return Err(StageError::Blank(keyword));
            }
            Ok((name, expand(value)?))
        })
        .collect()
}

/// Shows pairs as the history does.
fn joined(pairs: &[(String, String)]) -> String {
    let shown: Vec<String> = pairs.iter().map(|(k, v)| format!("{k}={v}")).collect();
    shown.join(" ")
}

/// Returns `path` from `directory`, without `.`, `..` and doubled slashes.
pub(super) fn absolute(directory: &str, path: &str) -> String {
    let joined = if path.starts_with('/') {
        path.to_owned()
    } else {
        format!("{directory}/{path}")
    };
    format!("/{}", super::pattern::clean(&joined))
}

/// Brings a health check into the form of configurations.
fn lower_healthcheck(check: &Healthcheck) -> manifest::Healthcheck {
    let words = |kind: &str, words: &[String]| {
        let kind = kind.to_owned();
        std::iter::once(kind).chain(words.iter().cloned()).collect()
    };
    manifest::Healthcheck {
        test: match &check.command {
            None => words("NONE", &[]),
            Some(Command::Shell(text)) => words("CMD-SHELL", std::slice::from_ref(text)),
            Some(Command::Exec(arguments)) => words("CMD", arguments),
        },
        interval_ns: check.interval_ns,
        timeout_ns: check.timeout_ns,
        start_period_ns: check.start_period_ns,
        start_interval_ns: check.start_interval_ns,
        retries: check.retries,
    }
}
