//! What shows once the environment of a stage is known.

use std::collections::{BTreeMap, BTreeSet};

use super::super::Span;
use super::super::expand::{self, Variables};
use super::super::instruction::{Argument, Command, Dockerfile, Instruction, Kind, Transfer};
use super::super::nearest;
use super::{Collector, Options, Warning};

/// What a stage starts with.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Known {
    /// The environment of its base, and the arguments of an earlier stage that it goes on from.
    pub variables: Variables,
    /// Arguments without a value.
    pub unset: BTreeSet<String>,
    /// Whether an earlier stage has said `WORKDIR`.
    pub has_workdir: bool,
    /// Whether there is a `SHELL`.
    pub has_shell: bool,
}

/// A stage that is built.
#[derive(Clone, Copy)]
pub struct Reached<'a> {
    /// Its own instructions, without triggers.
    pub instructions: &'a [Instruction],
    /// Values of the arguments before the first `FROM`, and of the automatic ones.
    pub globals: &'a Variables,
    /// What is given to the build.
    pub given: &'a Variables,
    /// Whether a path of the context is left out by the ignore rules for certain; its argument is clean.
    pub leaves_out: &'a dyn Fn(&str) -> bool,
}

/// Goes through a stage; returns its warnings and what a stage that goes on from it starts with.
pub fn stage(
    file: &Dockerfile,
    options: &Options,
    reached: Reached<'_>,
    start: Known,
) -> (Vec<Warning>, Known) {
    let mut pass = Pass {
        lint: Collector::new(file, options),
        reached,
        known: start,
        once: BTreeMap::new(),
    };
    for instruction in reached.instructions {
        pass.instruction(instruction);
    }
    (pass.lint.finish(), pass.known)
}

struct Pass<'a> {
    lint: Collector<'a>,
    reached: Reached<'a>,
    known: Known,
    /// Where instructions stood of which the last one counts.
    once: BTreeMap<&'static str, Span>,
}

impl Pass<'_> {
    fn instruction(&mut self, instruction: &Instruction) {
        let span = instruction.span;
        match &instruction.kind {
            Kind::Env(pairs) => {
                self.legacy(span, "ENV");
                for (name, value) in pairs {
                    self.texts(span, [name.as_str(), value.as_str()]);
                }
                let expanded: Vec<(String, String)> = pairs
                    .iter()
                    .map(|(name, value)| (self.expanded(name), self.expanded(value)))
                    .collect();
                for (name, value) in expanded {
                    self.secret(span, "ENV", &name);
                    self.known.variables.insert(name, value);
                }
            }
            Kind::Label(pairs) => {
                self.legacy(span, "LABEL");
                for (name, value) in pairs {
                    self.texts(span, [name.as_str(), value.as_str()]);
                }
            }
            Kind::Arg(arguments) => self.arguments(span, arguments),
            Kind::Copy(transfer) => self.transfer(span, "Copy", transfer),
            Kind::Add(transfer) => self.transfer(span, "Add", transfer),
            Kind::Workdir(path) => {
                self.texts(span, [path.as_str()]);
                let expanded = self.expanded(path);
                if !self.known.has_workdir && !expanded.starts_with('/') {
                    let message = format!(
                        "Relative workdir {expanded:?} can have unexpected results if the base image changes"
                    );
                    self.lint.warn(span, "WorkdirRelativePath", message);
                }
                self.known.has_workdir = true;
            }
            Kind::User(text) | Kind::StopSignal(text) => self.texts(span, [text.as_str()]),
            Kind::Volume(paths) => self.texts(span, paths.iter().map(String::as_str)),
            Kind::Expose(ports) => self.ports(span, ports),
            Kind::Cmd(command) => {
                self.once(span, "CMD");
                self.json(span, "CMD", command);
            }
            Kind::Entrypoint(command) => {
                self.once(span, "ENTRYPOINT");
                self.json(span, "ENTRYPOINT", command);
            }
            Kind::Healthcheck(_) => self.once(span, "HEALTHCHECK"),
            Kind::Shell(_) => self.known.has_shell = true,
            Kind::Run(_) | Kind::Onbuild(_) | Kind::Maintainer(_) => {}
        }
    }

    /// `UndefinedVar`
    fn texts<'t>(&mut self, span: Span, texts: impl IntoIterator<Item = &'t str>) {
        for text in texts {
            let escape = self.lint.file.escape;
            let Ok(expanded) = expand::expand_noting(text, escape, &self.known.variables) else {
                continue;
            };
            for name in expanded.unknown {
                if self.known.unset.contains(&name) {
                    continue;
                }
                let near = nearest(&name, self.known.variables.keys().map(String::as_str));
                let near = near.map(|near| format!(" (did you mean ${near}?)"));
                let message = format!(
                    "Usage of undefined variable '${name}'{}",
                    near.unwrap_or_default()
                );
                self.lint.warn(span, "UndefinedVar", message);
            }
        }
    }

    /// Returns a text with what is known of its variables.
    fn expanded(&self, text: &str) -> String {
        let escape = self.lint.file.escape;
        expand::expand(text, escape, &self.known.variables).unwrap_or_else(|_| text.to_owned())
    }

    fn arguments(&mut self, span: Span, arguments: &[Argument]) {
        for argument in arguments {
            self.secret(span, "ARG", &argument.name);
            let given = self.reached.given.get(&argument.name).cloned();
            let value = match (given, &argument.default) {
                (Some(given), _) => Some(given),
                (None, Some(default)) => {
                    self.texts(span, [default.as_str()]);
                    Some(self.expanded(default))
                }
                (None, None) => self.reached.globals.get(&argument.name).cloned(),
            };
            let name = argument.name.clone();
            match value {
                Some(value) => drop(self.known.variables.insert(name, value)),
                None => drop(self.known.unset.insert(name)),
            }
        }
    }

    fn transfer(&mut self, span: Span, keyword: &str, transfer: &Transfer) {
        self.texts(span, transfer.sources.iter().map(String::as_str));
        let rest = [
            Some(&transfer.destination),
            transfer.chown.as_ref(),
            transfer.chmod.as_ref(),
        ];
        self.texts(span, rest.into_iter().flatten().map(String::as_str));
        if transfer.from.is_some() {
            return;
        }
        for source in &transfer.sources {
            let source = self.expanded(source);
            if source.contains("://") || !(self.reached.leaves_out)(&source) {
                continue;
            }
            let shown = source.strip_prefix("./").unwrap_or(&source);
            let message =
                format!("Attempting to {keyword} file {shown:?} that is excluded by .dockerignore");
            self.lint.warn(span, "CopyIgnoredFile", message);
        }
    }

    /// `ExposeProtoCasing`, `ExposeInvalidFormat`
    fn ports(&mut self, span: Span, ports: &[String]) {
        self.texts(span, ports.iter().map(String::as_str));
        for port in ports {
            let port = self.expanded(port);
            let protocol = port.split_once('/').map_or("", |(_, protocol)| protocol);
            if protocol != protocol.to_lowercase() {
                let message =
                    format!("Defined protocol '{port}' in EXPOSE instruction should be lowercase");
                self.lint.warn(span, "ExposeProtoCasing", message);
            }
            if port.contains(':') {
                let message = format!(
                    "EXPOSE instruction should not define an IP address or host-port mapping, found '{port}'"
                );
                self.lint.warn(span, "ExposeInvalidFormat", message);
            }
        }
    }

    /// `MultipleInstructionsDisallowed`: named at the one that does not count.
    fn once(&mut self, span: Span, keyword: &'static str) {
        if let Some(earlier) = self.once.insert(keyword, span) {
            let message = format!(
                "Multiple {keyword} instructions should not be used in the same stage because only the last one will be used"
            );
            self.lint
                .warn(earlier, "MultipleInstructionsDisallowed", message);
        }
    }

    /// `JSONArgsRecommended`
    fn json(&mut self, span: Span, keyword: &str, command: &Command) {
        if matches!(command, Command::Shell(_)) && !self.known.has_shell {
            let message = format!(
                "JSON arguments recommended for {keyword} to prevent unintended behavior related to OS signals"
            );
            self.lint.warn(span, "JSONArgsRecommended", message);
        }
    }

    /// `LegacyKeyValueFormat`
    fn legacy(&mut self, span: Span, keyword: &str) {
        let written = self.lint.written(span);
        if written.is_some_and(|written| written.is_legacy_pair) {
            let message = format!(
                "\"{keyword} key=value\" should be used instead of legacy \"{keyword} key value\" format"
            );
            self.lint.warn(span, "LegacyKeyValueFormat", message);
        }
    }

    /// `SecretsUsedInArgOrEnv`
    fn secret(&mut self, span: Span, keyword: &str, name: &str) {
        if is_secret(name) {
            let message = format!(
                "Do not use ARG or ENV instructions for sensitive data ({keyword} {name:?})"
            );
            self.lint.warn(span, "SecretsUsedInArgOrEnv", message);
        }
    }
}

/// Whether a name speaks of something that is not for everybody.
pub(crate) fn is_secret(name: &str) -> bool {
    const SECRETS: [&str; 10] = [
        "apikey",
        "auth",
        "credential",
        "credentials",
        "key",
        "password",
        "pword",
        "passwd",
        "secret",
        "token",
    ];
    const OPEN: [&str; 3] = ["public", "file", "version"];
    let lower = name.to_lowercase();
    let has = |words: &[&str]| lower.split('_').any(|part| words.contains(&part));
    has(&SECRETS) && !has(&OPEN)
}
