//! Sources of `ADD` that lie elsewhere: files by URL, and git repositories. Only what a Dockerfile names is asked for.
//!
//! ```text
//! source ─parse─> Url ──GET──> a file, 0600, with the time of its Last-Modified
//!             └─> Git ──ls-remote, fetch, checkout──> a directory, without .git unless it is kept
//! ```
//!
//! Facts: BuildKit's `dfgitutil` and its http and git sources.

use std::path::{Path, PathBuf};

use super::super::registry::transport::TransportError;
use super::secrets::SecretError;

mod credentials;
mod git;
mod http;
mod logins;
mod parse;
#[cfg(test)]
mod tests;

pub(in crate::images) use credentials::shown;
pub use git::Checkout;
pub use http::{Asked, Fetched, Known};
pub use logins::{GitLogin, Logins};
pub use parse::{GitSource, ModifiedTimes, Remote};

/// A remote source that cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum RemoteError {
    /// The source says something wrong.
    #[error("{0}")]
    Source(String),
    /// Not a digest.
    #[error("invalid checksum `{0}`: it must be sha256:, sha384: or sha512: and the digits")]
    Checksum(String),
    /// Another file than expected.
    #[error("digest mismatch {found}: {expected}")]
    Mismatch {
        /// What came.
        found: String,
        /// What the Dockerfile says.
        expected: String,
    },
    /// Another commit than expected.
    #[error("expected checksum to match {expected}, got {found}")]
    Commit {
        /// What came.
        found: String,
        /// What the Dockerfile says.
        expected: String,
    },
    /// The server says no.
    #[error("GET {url}: invalid response status {status}{advice}")]
    Status {
        /// Without a password.
        url: String,
        /// HTTP's number.
        status: u16,
        /// What may help.
        advice: String,
    },
    /// More than there is room for.
    #[error("GET {url}: the disk has no room for it: {received} bytes came, and {left} are free")]
    NoRoom {
        /// Without a password.
        url: String,
        /// How many bytes came, or would.
        received: u64,
        /// How many more there is room for.
        left: u64,
    },
    /// A secret that is to log in somewhere.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// One that no request can have.
    #[error("the secret \"{0}\" is no header's value: one line of ASCII characters")]
    Header(String),
    /// It leads nowhere.
    #[error("GET {0}: {1}")]
    Redirect(String, &'static str),
    /// There is no answer.
    #[error("GET {url}")]
    Transport {
        /// Without a password.
        url: String,
        /// Why not.
        #[source]
        source: TransportError,
    },
    /// Git said no.
    #[error("git: {attempted} `{url}`: {message}")]
    Git {
        /// `fetch`, …
        attempted: &'static str,
        /// Without a password.
        url: String,
        /// What it says.
        message: String,
    },
    /// There is no git.
    #[error("`{0}` needs the program `git`, which is not installed")]
    NoGit(String),
    /// A file.
    #[error("{attempted} `{}`", path.display())]
    File {
        /// What was attempted.
        attempted: &'static str,
        /// On which.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: std::io::Error,
    },
    /// A process.
    #[error("run git")]
    Process(#[source] std::io::Error),
}

impl RemoteError {
    /// Names a file that failed.
    pub(super) fn file<'p>(
        attempted: &'static str,
        path: &'p Path,
    ) -> impl FnOnce(std::io::Error) -> Self + use<'p> {
        move |source| Self::File {
            attempted,
            path: path.to_owned(),
            source,
        }
    }
}
