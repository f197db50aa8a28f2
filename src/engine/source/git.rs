//! The program `git`, bounded: it asks nothing, runs nothing of the repository, takes no option from outside, and ends in time.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::SourceError;
use super::parse::{GitUrl, PROTOCOLS};
use crate::sys::child::Running;
use crate::sys::git;

/// Most of an output that is read; the rest is let go.
const OUTPUT_BYTES: u64 = 1 << 20;

/// Most of git's complaint that is shown, in characters.
const COMPLAINT: usize = 600;

/// Asking what a ref names.
pub(super) const ASK: Duration = Duration::from_mins(1);

/// Fetching a revision.
pub(super) const FETCH: Duration = Duration::from_mins(15);

/// Work on the disk alone.
pub(super) const LOCAL: Duration = Duration::from_mins(5);

/// Settings of every call, beside those of any git.
const SETTINGS: [&str; 3] = [
    "core.attributesFile=/dev/null",
    "submodule.recurse=false",
    "fetch.recurseSubmodules=false",
];

/// Git for one repository.
pub(super) struct Git<'a> {
    /// The environment of the command.
    pub(super) environment: &'a BTreeMap<String, String>,
    /// The repository.
    pub(super) url: &'a GitUrl,
}

/// One call.
pub(super) struct Call<'a> {
    /// For errors: `fetch`, `check out`.
    pub(super) attempted: &'static str,
    /// Where it runs.
    pub(super) directory: &'a Path,
    /// Whether it talks to the repository, with what the user configured to reach it; else no configuration but ours counts.
    pub(super) remote: bool,
    /// Variables of its own.
    pub(super) variables: &'a [(&'a str, &'a Path)],
    /// Its limit.
    pub(super) limit: Duration,
}

/// What a call that ended said.
pub(super) struct Said {
    /// Whether it succeeded.
    pub(super) success: bool,
    /// Its output.
    pub(super) output: String,
    /// Its complaint, fit to be shown.
    pub(super) complaint: String,
}

impl Git<'_> {
    /// Runs git and requires success; returns its output.
    pub(super) async fn require<S: AsRef<OsStr>>(
        &self,
        call: &Call<'_>,
        arguments: &[S],
    ) -> Result<String, SourceError> {
        let said = self.run(call, arguments).await?;
        if said.success {
            return Ok(said.output);
        }
        Err(SourceError::Git {
            attempted: call.attempted,
            url: self.url.to_string(),
            message: said.complaint,
        })
    }

    /// Runs git to its end. Where this future is dropped, git and all it started are killed.
    pub(super) async fn run<S: AsRef<OsStr>>(
        &self,
        call: &Call<'_>,
        arguments: &[S],
    ) -> Result<Said, SourceError> {
        let ssh = if call.remote && self.reaches_by_ssh() {
            self.ssh_command(call).await?
        } else {
            None
        };
        let mut command = self.command(call, arguments);
        command.envs(ssh.map(|ssh| ("GIT_SSH_COMMAND", ssh)));
        self.finish(call, command).await
    }

    /// Whether ssh is what reaches the repository.
    fn reaches_by_ssh(&self) -> bool {
        let url = self.url.as_str();
        url.starts_with("ssh://") || !url.contains("://")
    }

    /// Returns the ssh that asks nothing, unless the user has said which ssh to use.
    async fn ssh_command(&self, call: &Call<'_>) -> Result<Option<&'static str>, SourceError> {
        let said = ["GIT_SSH_COMMAND", "GIT_SSH"];
        if said.iter().any(|name| self.environment.contains_key(*name)) {
            return Ok(None);
        }
        let command = self.command(call, &["config", "--get", "core.sshCommand"]);
        let configured = self.finish(call, command).await?;
        let is_unset = configured.output.trim().is_empty();
        Ok(is_unset.then_some("ssh -o BatchMode=yes -o ConnectTimeout=30"))
    }

    /// Prepares a call.
    #[expect(
        clippy::disallowed_methods,
        reason = "git is a program, as ssh is: nothing of ours speaks their protocols"
    )]
    fn command<S: AsRef<OsStr>>(&self, call: &Call<'_>, arguments: &[S]) -> Command {
        let mut command = Command::new("git");
        command
            .env_clear()
            .env(
                "PATH",
                "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            )
            .envs(self.environment);
        git::confine(&mut command, &PROTOCOLS);
        if !call.remote {
            command
                .env("GIT_CONFIG_NOSYSTEM", "1")
                .env("GIT_CONFIG_GLOBAL", "/dev/null")
                .env_remove("GIT_CONFIG_COUNT")
                .env_remove("GIT_CONFIG_PARAMETERS");
        }
        command.envs(call.variables.iter().copied());
        for setting in SETTINGS {
            command.args(["-c", setting]);
        }
        command.args(arguments).current_dir(call.directory);
        command
    }

    /// Starts a prepared call and sees it to its end.
    async fn finish(&self, call: &Call<'_>, mut command: Command) -> Result<Said, SourceError> {
        let spawned = command.spawn().map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => SourceError::NoGit {
                url: self.url.to_string(),
            },
            _ => SourceError::Process(error),
        });
        let mut running = Running::new(spawned?, OUTPUT_BYTES);
        let work = running.end();
        let ended = tokio::time::timeout(call.limit, work).await;
        let ended = ended
            .map_err(|_| SourceError::TimedOut {
                attempted: call.attempted,
                url: self.url.to_string(),
                seconds: call.limit.as_secs(),
            })?
            .map_err(SourceError::Process)?;
        Ok(Said {
            success: ended.status.success(),
            output: String::from_utf8_lossy(&ended.output).into_owned(),
            complaint: self.clean(&String::from_utf8_lossy(&ended.complaint)),
        })
    }

    /// Makes git's complaint fit to be shown: what matters of it, on one line, without the password.
    fn clean(&self, text: &str) -> String {
        let lines: Vec<&str> = text
            .lines()
            .map(str::trim)
            .filter(|l| !l.is_empty())
            .collect();
        let telling = lines.iter().filter(|line| {
            ["fatal: ", "error: ", "remote: ", "ssh: "]
                .iter()
                .any(|start| line.starts_with(start))
        });
        let telling: Vec<&str> = telling.copied().collect();
        let chosen = if telling.is_empty() { lines } else { telling };
        let stripped = chosen
            .iter()
            .map(|line| line.strip_prefix("fatal: ").unwrap_or(line));
        let mut text = stripped
            .collect::<Vec<_>>()
            .join("; ")
            .replace(char::is_control, " ");
        if let Some(password) = self.url.password() {
            text = text.replace(password, "***");
        }
        if text.is_empty() {
            return "git failed and said nothing".to_owned();
        }
        text.chars().take(COMPLAINT).collect()
    }
}
