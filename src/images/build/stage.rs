//! The state of a stage while its instructions are gone through: configuration, environment, history. Pure.

use std::collections::BTreeMap;

use serde_json::Value;

use super::super::dockerfile::expand::{self, ExpandError, Variables};
use super::super::dockerfile::instruction::{Argument, Command, Healthcheck, Kind};
use super::super::dockerfile::lint::is_secret;
use super::super::manifest::{self, History, ImageConfig};
use super::super::reference::Digest;
use super::copy::Destination;
use super::history::{self, quoted};

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

    /// Returns an instruction as it is shown: with the values of its variables, as BuildKit shows it, but for those whose names speak of
    /// secrets. What is quoted, unknown or more than a name stays as written.
    pub fn shown(&self, text: &str) -> String {
        let mut shown = String::new();
        let mut rest = text;
        let mut is_quoted = false;
        while let Some(character) = rest.chars().next() {
            let (kept, after) = rest.split_at(character.len_utf8());
            match character {
                '$' if !is_quoted => {
                    let (name, beyond) = variable_name(after);
                    if let Some(value) = self.shown_value(name) {
                        shown.push_str(value);
                        rest = beyond;
                        continue;
                    }
                }
                '\\' if !is_quoted && after.starts_with('$') => {
                    shown.push_str("\\$");
                    rest = after.get(1..).unwrap_or_default();
                    continue;
                }
                '\'' => is_quoted = !is_quoted,
                _ => {}
            }
            shown.push_str(kept);
            rest = after;
        }
        shown
    }

    /// Returns the value of a variable that may be shown, if it fits on a line.
    fn shown_value(&self, name: &str) -> Option<&str> {
        let value = self.variables.get(name).filter(|_| !is_secret(name))?;
        (!value.contains('\n')).then_some(value)
    }

    /// Returns the environment of a `RUN`, `NAME=value`.
    pub fn run_environment(&self) -> Vec<String> {
        let pairs = self.environment.iter();
        pairs
            .map(|(name, value)| format!("{name}={value}"))
            .collect()
    }

    /// Returns the proxies among the build arguments, in both cases of letters, where the stage has not named them itself.
    pub fn proxies(&self, given: &Variables) -> Vec<String> {
        let mut found = Vec::new();
        for upper in PROXIES {
            let lower = upper.to_ascii_lowercase();
            let Some(value) = given.get(upper).or_else(|| given.get(&lower)) else {
                continue;
            };
            for name in [upper, &lower] {
                if !self.environment.iter().any(|(known, _)| known == name) {
                    found.push(format!("{name}={value}"));
                }
            }
        }
        found
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
                let text = expand::expand_words(&words.join(" "), given.escape, variables)?;
                let mut ports = Vec::new();
                for word in text {
                    ports.extend(parse_ports(&word)?);
                }
                ports.sort();
                self.config.config.exposed_ports.extend(ports.clone());
                Some(format!("EXPOSE [{}]", ports.join(" ")))
            }
            Kind::Volume(paths) => {
                let paths = paths.iter().map(|path| expand(path));
                let paths = paths.collect::<Result<Vec<_>, _>>()?;
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

    /// Moves to a working directory; returns the new one.
    pub fn enter_directory(&mut self, path: &str, given: &Given) -> Result<String, StageError> {
        let path = expand::expand(path, given.escape, &self.variables)?;
        let directory = absolute(&self.working_directory(), &path);
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

/// Parses `[[ip:]host:]port[-port][/protocol]` to `port/protocol`; only the container's side counts.
fn parse_ports(text: &str) -> Result<Vec<String>, StageError> {
    let wrong = || StageError::Port(text.to_owned());
    let (ports, protocol) = text.split_once('/').unwrap_or((text, ""));
    let protocol = match protocol {
        "" => "tcp".to_owned(),
        protocol => protocol.to_ascii_lowercase(),
    };
    if !matches!(protocol.as_str(), "tcp" | "udp" | "sctp") {
        return Err(wrong());
    }
    let ports = ports.rsplit(':').next().unwrap_or_default();
    let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse::<u16>()
            .ok()
            .filter(|_| digits)
            .ok_or_else(wrong)
    };
    let (first, last) = (number(first)?, number(last)?);
    if first > last {
        return Err(wrong());
    }
    Ok((first..=last)
        .map(|port| format!("{port}/{protocol}"))
        .collect())
}

/// Returns whether `text` names or numbers a signal of Linux.
fn is_signal(text: &str) -> bool {
    const NAMES: [&str; 33] = [
        "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "IOT", "BUS", "FPE", "KILL", "USR1", "SEGV",
        "USR2", "PIPE", "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU",
        "URG", "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "POLL", "PWR", "SYS",
    ];
    if let Ok(number) = text.parse::<u8>() {
        return (1..=64).contains(&number);
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let offset = |rest: &str, sign: char| {
        let digits = rest.strip_prefix(sign);
        rest.is_empty() || digits.is_some_and(|d| d.parse::<u8>().is_ok_and(|n| n <= 30))
    };
    let real_time = name
        .strip_prefix("RTMIN")
        .is_some_and(|rest| offset(rest, '+'))
        || name
            .strip_prefix("RTMAX")
            .is_some_and(|rest| offset(rest, '-'));
    real_time || NAMES.contains(&name)
}

/// Splits what follows a `$` into the name of a plain `$NAME` or `${NAME}`, empty where it is neither, and what comes after.
fn variable_name(text: &str) -> (&str, &str) {
    let inner = text.strip_prefix('{').unwrap_or(text);
    let is_part = |c: char| c == '_' || c.is_ascii_alphanumeric();
    let end = inner.find(|c| !is_part(c)).unwrap_or(inner.len());
    let (name, beyond) = inner.split_at(end);
    match (inner.len() < text.len(), beyond.strip_prefix('}')) {
        (false, _) => (name, beyond),
        (true, Some(beyond)) => (name, beyond),
        (true, None) => ("", text),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::super::dockerfile::parser;
    use super::*;

    /// The state after the configuration instructions of a stage.
    fn after(body: &str, arguments: &[(&str, &str)]) -> StageState {
        let file = parser::parse(Path::new("D"), &format!("FROM a\n{body}")).unwrap();
        let owned = |pairs: &[(&str, &str)]| -> Variables {
            let pairs = pairs.iter();
            pairs
                .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
                .collect()
        };
        let given = Given {
            arguments: owned(arguments),
            globals: owned(&[("G", "global"), ("TARGETARCH", "amd64")]),
            escape: file.escape,
        };
        let mut base = ImageConfig::default();
        base.config.cmd = Some(vec!["sh".to_owned()]);
        let mut state = StageState::of_image(base, Vec::new());
        for instruction in &file.stages[0].instructions {
            match &instruction.kind {
                Kind::Workdir(path) => drop(state.enter_directory(path, &given).unwrap()),
                kind => state.apply(kind, &given).unwrap(),
            }
        }
        state
    }

    #[test]
    fn headings_show_what_variables_are() {
        let mut state = StageState::of_scratch(&manifest::Platform::host());
        state.set_env("D", "/dst");
        state.set_env("API_KEY", "hush");
        state.set_env("LINES", "a\nb");
        let table = [
            ("COPY $D ${D}/x", "COPY /dst /dst/x"),
            (
                "RUN a $D$D \\$D '$D' \"$D\"",
                "RUN a /dst/dst \\$D '$D' \"/dst\"",
            ),
            (
                "RUN for i in $LIST; do echo ${i:-$D} $1 $$; done",
                "RUN for i in $LIST; do echo ${i:-/dst} $1 $$; done",
            ),
            ("RUN use $API_KEY ${LINES} $", "RUN use $API_KEY ${LINES} $"),
            ("RUN é${D", "RUN é${D"),
        ];
        for (text, expected) in table {
            assert_eq!(state.shown(text), expected);
        }
    }

    #[test]
    fn environments_follow_docker() {
        let path = format!("PATH={DEFAULT_PATH}");
        let table: [(&str, &[&str], &[&str]); 7] = [
            (
                "ENV a=1 b=\"two words\" c=$a d=${a}x e=${none:-dflt} f=${a:+alt} g=\\$a\nENV old style value here\nENV h=\"$old\" i='$a'",
                &[
                    "a=1",
                    "b=two words",
                    "c=",
                    "d=x",
                    "e=dflt",
                    "f=",
                    "g=$a",
                    "old=style value here",
                    "h=style value here",
                    "i=$a",
                ],
                &[
                    "a=1",
                    "b=two words",
                    "c=",
                    "d=x",
                    "e=dflt",
                    "f=",
                    "g=$a",
                    "old=style value here",
                    "h=style value here",
                    "i=$a",
                ],
            ),
            ("ARG X=1\nENV Y=$X", &["Y=1"], &["X=1", "Y=1"]),
            ("ENV A=1\nARG A=2", &["A=1"], &["A=2"]),
            ("ARG A=2\nENV A=1", &["A=1"], &["A=1"]),
            (
                "ARG G\nARG N\nARG TARGETARCH",
                &[],
                &["G=global", "TARGETARCH=amd64"],
            ),
            ("ARG V=dflt\nARG W=w-$V", &[], &["V=cli", "W=w-cli"]),
            ("ENV A=1\nENV A=2 B=$A", &["A=2", "B=1"], &["A=2", "B=1"]),
        ];
        for (body, env, run) in table {
            let state = after(body, &[("V", "cli"), ("UNDECLARED", "x")]);
            let with_path = |rest: &[&str]| -> Vec<String> {
                let rest = rest.iter().map(|pair| (*pair).to_owned());
                std::iter::once(path.clone()).chain(rest).collect()
            };
            assert_eq!(state.config.config.env, with_path(env), "{body}");
            assert_eq!(state.run_environment(), with_path(run), "{body}");
        }
    }

    #[test]
    fn metadata_follows_docker() {
        let body = "LABEL a=b \"c d\"=\"e f\" multi=\"l1\\\nl2\"\nEXPOSE 80 443/tcp 53/UDP 9000-9002\nVOLUME /v1 /v2\nVOLUME [\"/v 3\"]\nSTOPSIGNAL SIGQUIT\nHEALTHCHECK --interval=5s --retries=4 CMD test -f /ok\nMAINTAINER me\nUSER 5:6\nWORKDIR /a\nWORKDIR b\nWORKDIR ../c\nENTRYPOINT [\"/bin/echo\", \"a b\"]\n";
        let state = after(body, &[]);
        let json = serde_json::to_value(&state.config.config).unwrap();
        assert_eq!(
            json,
            serde_json::json!({
                "Env": [format!("PATH={DEFAULT_PATH}")],
                "Labels": {"a": "b", "c d": "e f", "multi": "l1l2"},
                "ExposedPorts": {"443/tcp": {}, "53/udp": {}, "80/tcp": {}, "9000/tcp": {}, "9001/tcp": {}, "9002/tcp": {}},
                "Volumes": {"/v 3": {}, "/v1": {}, "/v2": {}},
                "StopSignal": "SIGQUIT",
                "Healthcheck": {"Test": ["CMD-SHELL", "test -f /ok"], "Interval": 5_000_000_000_i64, "Retries": 4},
                "User": "5:6",
                "WorkingDir": "/a/c",
                "Entrypoint": ["/bin/echo", "a b"],
            })
        );
        let by: Vec<_> = state
            .config
            .history
            .iter()
            .filter_map(|entry| entry.created_by.as_deref())
            .collect();
        assert_eq!(
            by,
            [
                "LABEL a=b c d=e f multi=l1l2",
                "EXPOSE [443/tcp 53/udp 80/tcp 9000/tcp 9001/tcp 9002/tcp]",
                "VOLUME [/v1 /v2]",
                "VOLUME [/v 3]",
                "STOPSIGNAL SIGQUIT",
                "HEALTHCHECK &{[\"CMD-SHELL\" \"test -f /ok\"] \"5s\" \"0s\" \"0s\" \"0s\" '\\x04'}",
                "MAINTAINER me",
                "USER 5:6",
                "ENTRYPOINT [\"/bin/echo\" \"a b\"]",
            ]
        );
    }

    #[test]
    fn commands_and_shells() {
        type Words = Option<&'static [&'static str]>;
        let table: [(&str, Words, Words); 4] = [
            ("CMD x y", Some(&["/bin/sh", "-c", "x y"]), None),
            ("ENTRYPOINT [\"e\"]", None, Some(&["e"])),
            (
                "CMD [\"c\"]\nENTRYPOINT [\"e\"]",
                Some(&["c"]),
                Some(&["e"]),
            ),
            (
                "SHELL [\"/bin/bash\", \"-c\"]\nCMD x",
                Some(&["/bin/bash", "-c", "x"]),
                None,
            ),
        ];
        let owned = |words: Option<&[&str]>| -> Option<Vec<String>> {
            words.map(|words| words.iter().map(|w| (*w).to_owned()).collect())
        };
        for (body, cmd, entrypoint) in table {
            let config = after(body, &[]).config.config;
            assert_eq!(
                (config.cmd, config.entrypoint),
                (owned(cmd), owned(entrypoint)),
                "{body}"
            );
        }
    }

    #[test]
    fn ports_and_signals_are_checked() {
        for wrong in ["", "x", "80/xyz", "70000", "9-8", "80-", "+80"] {
            assert_eq!(
                parse_ports(wrong),
                Err(StageError::Port(wrong.to_owned())),
                "{wrong}"
            );
        }
        for tcp in ["127.0.0.1:8080:80", "80/", "80/TCP"] {
            assert_eq!(parse_ports(tcp).unwrap(), ["80/tcp"], "{tcp}");
        }
        let table = [
            ("SIGTERM", true),
            ("term", true),
            ("9", true),
            ("RTMIN+3", true),
            ("0", false),
            ("65", false),
            ("SIGFOO", false),
            ("RTMIN+99", false),
        ];
        for (text, expected) in table {
            assert_eq!(is_signal(text), expected, "{text}");
        }
    }
}
