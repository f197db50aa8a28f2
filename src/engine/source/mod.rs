//! Where `apply` takes a project from: files that are here, or a revision of a git repository.
//!
//! ```text
//! <root>/cache/git/<key>/lock                  flock: one fetch, checkout or sweep at a time
//! <root>/cache/git/<key>/repository/           bare and shallow; one ref, refs/stack/fetched
//! <root>/cache/git/<key>/trees/<commit>/<name>/       the files of one revision, never changed once they are there
//! <root>/cache/git/<key>/trees/<commit>/source.json   Origin
//! <root>/cache/git/<key>/trees/<commit>.lock   flock, shared: held by who loads and applies that revision
//! <root>/cache/git/<key>/trees/.new/           a checkout in the making
//! ```
//!
//! `<key>` is the beginning of the SHA-256 of the URL without its password. `<name>` is the repository's, so that a project
//! without a name of its own gets that one, as in a clone.
//!
//! A tree is whole or not there: it is checked out beside, synced and renamed. It stays as long as it is used: while its lock is
//! held, while a project that should be up was applied from it, while a container mounts something of it. Every revision has
//! its own directory, so that what a container mounts never changes under it, and a revision can be gone back to; a service
//! that mounts a relative path is therefore recreated by every new commit, any other only when it changed itself.
//!
//! What is fetched is run as root, so who may push to the repository owns the machine; still, a URL, a ref or a directory that
//! somebody else chose does nothing but name what is fetched (`parse`), and fetching runs nothing of the repository (`git`): no
//! hook, no filter, no submodule, no helper protocol.
//!
//! In reading order: `parse`, `git`, `checkout`.

mod checkout;
mod git;
mod parse;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use checkout::Checkout;
pub use parse::{GitSource, GitUrl};

/// What is applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// What `up` would find.
    Here,
    /// One Compose file, absolute.
    File(PathBuf),
    /// A directory with a Compose file, absolute.
    Directory(PathBuf),
    /// A revision of a repository.
    Git(GitSource),
}

/// Where a checked-out tree comes from; `source.json`, and part of a project's record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// 1.
    pub version: u32,
    /// The repository, without a password.
    pub url: String,
    /// The commit.
    pub revision: String,
}

/// Why a source cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// It is no URL and names no file.
    #[error("no file or directory `{}`", .0.display())]
    NotFound(PathBuf),
    /// There is nothing to apply.
    #[error("no Compose file in `{0}`")]
    NoFile(String),
    /// A part of a git source breaks its rule.
    #[error("{what} `{text}` is not valid: {rule}")]
    Invalid {
        /// `git URL`, `git ref`, `directory in the repository`.
        what: &'static str,
        /// As it was given, without a password.
        text: String,
        /// The rule.
        rule: &'static str,
    },
    /// There is no git.
    #[error("fetch `{url}`: there is no program `git`")]
    NoGit {
        /// What was to be fetched.
        url: String,
    },
    /// Git failed.
    #[error("{attempted} `{url}`: {message}")]
    Git {
        /// `fetch`, `check out`.
        attempted: &'static str,
        /// The repository.
        url: String,
        /// What git said.
        message: String,
    },
    /// Git did not come to an end.
    #[error("{attempted} `{url}`: git did not end within {seconds} s")]
    TimedOut {
        /// `fetch`, `check out`.
        attempted: &'static str,
        /// The repository.
        url: String,
        /// The limit.
        seconds: u64,
    },
    /// No such branch, tag or commit.
    #[error("`{url}` has no branch, tag or commit `{reference}`")]
    NoRef {
        /// The repository.
        url: String,
        /// What was asked for.
        reference: String,
    },
    /// It has no commit at all.
    #[error("`{url}` has no commits")]
    Empty {
        /// The repository.
        url: String,
    },
    /// No such directory.
    #[error("`{url}` has no directory `{}` at {revision}", directory.display())]
    NoDirectory {
        /// The repository.
        url: String,
        /// What was asked for.
        directory: PathBuf,
        /// The commit.
        revision: String,
    },
    /// A link leads out of the repository.
    #[error("`{}` of `{url}` leads out of the repository", path.display())]
    Escapes {
        /// The repository.
        url: String,
        /// The path in it.
        path: PathBuf,
    },
    /// A file of the cache.
    #[error("{attempted} `{}`", path.display())]
    File {
        /// `read`, `make`, `lock`, …
        attempted: &'static str,
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The process of git could not be watched.
    #[error("run git")]
    Process(#[source] std::io::Error),
}

impl SourceError {
    /// Whether what was asked for is wrong in itself, so that trying again is in vain.
    pub fn is_usage(&self) -> bool {
        matches!(self, Self::Invalid { .. })
    }

    /// Returns advice, where there is some.
    pub(crate) fn hint(&self) -> Option<&'static str> {
        match self {
            Self::NoGit { .. } => Some("install git, such as with `apt-get install git`"),
            Self::NoRef { .. } => Some(
                "a commit is named by all its digits; `git ls-remote URL` lists branches and tags",
            ),
            Self::NoFile(_) => Some(
                "it is named compose.yaml, compose.yml, docker-compose.yaml or docker-compose.yml; another name is given with -f",
            ),
            Self::NotFound(_) => {
                Some("a repository is named by a URL: `https://host/path#ref:directory`")
            }
            _ => None,
        }
    }

    /// Makes an error of a file of the cache.
    fn file(attempted: &'static str, path: &std::path::Path, source: std::io::Error) -> Self {
        Self::File {
            attempted,
            path: path.to_owned(),
            source,
        }
    }
}
