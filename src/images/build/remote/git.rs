//! Git repositories, through the program `git`: it asks nothing, runs no hooks, and speaks only the protocols of a source.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::{AtFlags, CWD, Timespec, Timestamps};

use super::logins::{GitLogin, redact};
use super::parse::{GitSource, ModifiedTimes};
use super::{RemoteError, credentials};
use crate::sys::child::Running;
use crate::sys::git;
use crate::sys::sockets::ShortPath;

/// Most of an output that is read.
const OUTPUT_BYTES: u64 = 16 << 20;

/// Most of git's complaint that is shown, in characters.
const COMPLAINT: usize = 600;

/// What a source may be fetched by.
const PROTOCOLS: [&str; 4] = ["https", "http", "ssh", "git"];

/// A repository at a commit, on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkout {
    /// Its top.
    pub directory: PathBuf,
    /// The full name of the commit.
    pub commit: String,
}

impl GitSource {
    /// Returns the commit that the source names now.
    pub async fn resolve(&self, login: &GitLogin) -> Result<String, RemoteError> {
        if let Some(name) = self.reference.as_deref().filter(|name| is_commit(name)) {
            return self.checked(name.to_owned());
        }
        let name = self.reference.as_deref().unwrap_or("HEAD");
        let deref = format!("{name}^{{}}");
        let address = credentials::part(&self.remote).address;
        let arguments = ["ls-remote", "--", &address, name, &deref];
        let said = self.git("ask", Path::new("/"), &arguments, login).await?;
        let refs: BTreeMap<&str, &str> = said
            .lines()
            .filter_map(|line| line.split_once('\t'))
            .map(|(commit, name)| (name, commit))
            .collect();
        let short = name.trim_start_matches("refs/");
        let tag = format!("refs/tags/{}", short.trim_start_matches("tags/"));
        // A branch comes before a tag of its name, and a tag stands for the commit that it names.
        let wanted = [
            format!("refs/heads/{}", short.trim_start_matches("heads/")),
            format!("{tag}^{{}}"),
            tag,
            format!("refs/{short}"),
            name.to_owned(),
        ];
        let found = wanted.iter().find_map(|name| refs.get(name.as_str()));
        match found {
            Some(commit) => self.checked((*commit).to_owned()),
            None => Err(RemoteError::Git {
                attempted: "ask",
                url: self.shown(),
                message: format!("repository does not contain ref {name}"),
            }),
        }
    }

    /// Compares a commit with the checksum.
    fn checked(&self, commit: String) -> Result<String, RemoteError> {
        match &self.checksum {
            Some(expected) if !commit.starts_with(expected.as_str()) => Err(RemoteError::Commit {
                found: commit,
                expected: expected.clone(),
            }),
            _ => Ok(commit),
        }
    }

    /// Checks `commit` out below `directory`, which is empty.
    pub async fn checkout(
        &self,
        commit: &str,
        directory: &Path,
        keep_git_dir: bool,
        login: &GitLogin,
    ) -> Result<Checkout, RemoteError> {
        let top = directory.join("checkout");
        fs_err::create_dir(&top).map_err(RemoteError::file("make", &top))?;
        self.git("make", &top, &["init", "-q"], login).await?;
        let address = credentials::part(&self.remote).address;
        let add = ["remote", "add", "origin", "--", &address];
        self.git("make", &top, &add, login).await?;
        self.fetch(commit, &top, login).await?;
        let detach = ["checkout", "-q", "--detach", commit];
        self.git("check out", &top, &detach, login).await?;
        if !self.without_submodules && top.join(".gitmodules").symlink_metadata().is_ok() {
            let update = [
                "submodule",
                "update",
                "-q",
                "--init",
                "--recursive",
                "--depth=1",
            ];
            self.git("update the submodules of", &top, &update, login)
                .await?;
        }
        let time = match self.times {
            ModifiedTimes::Checkout => None,
            ModifiedTimes::Commit => {
                let log = ["log", "-1", "--format=%ct", commit];
                let said = self.git("date", &top, &log, login).await?;
                said.trim().parse().ok()
            }
        };
        if keep_git_dir {
            forget_fetches(&top.join(".git"))?;
        }
        settle(&top, time, keep_git_dir)?;
        Ok(Checkout {
            directory: top,
            commit: commit.to_owned(),
        })
    }

    /// Fetches a commit: it alone where the server gives it so, else all that leads to refs.
    async fn fetch(&self, commit: &str, top: &Path, login: &GitLogin) -> Result<(), RemoteError> {
        let name = self.reference.as_deref().unwrap_or("HEAD");
        let has = ["cat-file", "-e", commit];
        for wanted in [commit, name] {
            let shallow = [
                "fetch",
                "-q",
                "--depth=1",
                "--no-tags",
                "origin",
                "--",
                wanted,
            ];
            let fetched = self.git("fetch", top, &shallow, login).await;
            if fetched.is_ok() && self.git("find", top, &has, login).await.is_ok() {
                return Ok(());
            }
        }
        let all = [
            "fetch",
            "-q",
            "--tags",
            "origin",
            "--",
            "+refs/heads/*:refs/remotes/origin/*",
        ];
        self.git("fetch", top, &all, login).await?;
        self.git("find the commit in", top, &has, login)
            .await
            .map(drop)
    }

    /// Runs git to its end and returns its output; where this is dropped, git and all it started are killed.
    #[expect(
        clippy::disallowed_methods,
        reason = "git is a program, as ssh is: nothing of ours speaks their protocols"
    )]
    async fn git(
        &self,
        attempted: &'static str,
        directory: &Path,
        arguments: &[&str],
        login: &GitLogin,
    ) -> Result<String, RemoteError> {
        let mut command = Command::new("git");
        git::confine(&mut command, &PROTOCOLS);
        credentials::authorize(&mut command, &self.remote, login);
        let agent = login.agent.as_deref().map(ShortPath::of);
        let agent = agent.transpose().map_err(RemoteError::Process)?;
        ssh(&mut command, agent.as_ref().map(ShortPath::path), login);
        command
            .args(["-c", "advice.detachedHead=false"])
            .args(arguments.iter().map(OsStr::new))
            .current_dir(directory);
        let spawned = command.spawn().map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => RemoteError::NoGit(self.shown()),
            _ => RemoteError::Process(error),
        });
        let mut running = Running::new(spawned?, OUTPUT_BYTES);
        let ended = running.end().await.map_err(RemoteError::Process)?;
        if ended.status.success() {
            return Ok(String::from_utf8_lossy(&ended.output).into_owned());
        }
        let complaint = String::from_utf8_lossy(&ended.complaint);
        let complaint = redact(&complaint, &self.remote, login);
        let lines = complaint.lines().map(str::trim).filter(|l| !l.is_empty());
        let joined = lines.collect::<Vec<_>>().join("; ");
        let clean = joined.replace(char::is_control, " ");
        let mut message: String = clean.chars().take(COMPLAINT).collect();
        message.push_str(advice(&message, login));
        Err(RemoteError::Git {
            attempted,
            url: self.shown(),
            message,
        })
    }
}

/// Says what ssh may use: the agent it is given, and keys of whoever builds only where he named the repository himself, and no Dockerfile.
///
/// A host that was never met is believed, as with BuildKit, which asks it for its key; one that has another key than it had is not.
fn ssh(command: &mut Command, agent: Option<&Path>, login: &GitLogin) {
    let mut options = vec![
        "ssh",
        "-o BatchMode=yes",
        "-o StrictHostKeyChecking=accept-new",
        // What is new is written to the first, and so nowhere.
        "-o 'UserKnownHostsFile=/dev/null ~/.ssh/known_hosts ~/.ssh/known_hosts2'",
    ];
    match agent {
        Some(agent) => {
            command.env("SSH_AUTH_SOCK", agent);
            options.push("-o IdentityAgent=SSH_AUTH_SOCK");
        }
        None if login.is_own => {}
        None => options.push("-o IdentityAgent=none"),
    }
    if !login.is_own {
        options.push("-o IdentityFile=none");
    }
    let setting = format!("core.sshCommand={}", options.join(" "));
    command.args(["-c", &setting]);
}

/// Returns what may help where a server says no.
fn advice(message: &str, login: &GitLogin) -> &'static str {
    let is_refused = |why: &[&str]| why.iter().any(|text| message.contains(text));
    if login.agent.is_none()
        && is_refused(&["Permission denied (publickey", "Too many authentication"])
    {
        "; give the build an agent (`--ssh default`) or a key (`--ssh default=FILE`)"
    } else if is_refused(&["could not read Username", "Authentication failed"]) {
        "; give the build a secret GIT_AUTH_TOKEN or GIT_AUTH_HEADER"
    } else if is_refused(&[
        "unable to update url base from redirection",
        "returned error: 30",
    ]) {
        "; it points elsewhere, where what logs in does not go: name the repository where it is"
    } else {
        ""
    }
}

/// Takes away what git notes of when and whence it fetched, as BuildKit does: the same commit is to be the same layer.
fn forget_fetches(directory: &Path) -> Result<(), RemoteError> {
    let path = directory.join("FETCH_HEAD");
    let logs = directory.join("logs");
    for (path, removed) in [
        (&path, fs_err::remove_file(&path)),
        (&logs, fs_err::remove_dir_all(&logs)),
    ] {
        match removed {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(RemoteError::file("remove", path)(error));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Whether a name is that of a commit: SHA-1 or SHA-256.
fn is_commit(name: &str) -> bool {
    let is_hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    matches!(name.len(), 40 | 64) && name.bytes().all(is_hex)
}

/// Gives a checkout the modes that it has anywhere (the umask is not git's to know), times where they are said, and takes `.git` away.
fn settle(directory: &Path, time: Option<i64>, keep_git_dir: bool) -> Result<(), RemoteError> {
    let read = || RemoteError::file("read", directory);
    let mut entries = Vec::new();
    for entry in fs_err::read_dir(directory).map_err(read())? {
        entries.push(entry.map_err(read())?.path());
    }
    for path in entries {
        let metadata = fs_err::symlink_metadata(&path).map_err(RemoteError::file("read", &path))?;
        if path.file_name() == Some(OsStr::new(".git")) {
            if !keep_git_dir {
                let removed = if metadata.is_dir() {
                    crate::sys::remove::tree(&path)
                } else {
                    fs_err::remove_file(&path)
                };
                removed.map_err(RemoteError::file("remove", &path))?;
            }
            continue;
        }
        if metadata.is_dir() {
            settle(&path, time, keep_git_dir)?;
        } else if metadata.is_file() {
            let is_program = metadata.mode() & 0o100 != 0;
            set_mode(&path, if is_program { 0o755 } else { 0o644 })?;
        }
        date(&path, time)?;
    }
    set_mode(directory, 0o755)?;
    date(directory, time)
}

fn set_mode(path: &Path, mode: u32) -> Result<(), RemoteError> {
    let permissions = std::fs::Permissions::from_mode(mode);
    fs_err::set_permissions(path, permissions).map_err(RemoteError::file("change", path))
}

fn date(path: &Path, time: Option<i64>) -> Result<(), RemoteError> {
    let Some(seconds) = time else {
        return Ok(());
    };
    let time = Timespec {
        tv_sec: seconds,
        tv_nsec: 0,
    };
    let times = Timestamps {
        last_access: time,
        last_modification: time,
    };
    let dated = rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW);
    dated.map_err(|errno| RemoteError::file("date", path)(errno.into()))
}
