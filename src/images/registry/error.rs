//! What can go wrong with a registry.

use std::time::Duration;

use super::super::manifest::ManifestError;
use super::super::reference::Digest;
use super::auth::CredentialsError;
use super::config::ConfigError;
use super::transport::TransportError;

/// A failure to get something from a registry.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// No answer.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// The server that gives out tokens was asked until patience ended: the request that needs one is not tried again.
    #[error("get a token from `{host}`")]
    TokenServer {
        /// Whom.
        host: String,
        /// The last failure.
        #[source]
        source: Box<Self>,
    },
    /// The files that say where to ask.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The file that says as whom to ask.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// Asked as whoever we are, it may not be had. Registries answer so for what does not exist, too.
    #[error(
        "access to `{repository}` at {host} denied: it does not exist or may require login{message}{hint}"
    )]
    Denied {
        /// Path in the registry.
        repository: String,
        /// `host[:port]`.
        host: String,
        /// In the registry's words, in parentheses.
        message: String,
        /// What else may be the reason, in parentheses.
        hint: String,
    },
    /// A name and password, or a token, that the registry does not take.
    #[error("log in to {host}: {message}")]
    Login {
        /// `host[:port]`.
        host: String,
        /// Why not.
        message: String,
    },
    /// Too many requests.
    #[error("{host} takes no more requests for now{message}{}", wait.map(again).unwrap_or_default())]
    RateLimited {
        /// `host[:port]`.
        host: String,
        /// In the registry's words.
        message: String,
        /// What it says for how long.
        wait: Option<Duration>,
    },
    /// Other bytes than the rest of the blob.
    #[error("{host} answered with another part of blob {digest} than the one from byte {asked} on")]
    Range {
        /// Of the blob.
        digest: Digest,
        /// `host[:port]`.
        host: String,
        /// The first one wanted.
        asked: u64,
    },
    /// An answer that is not what the protocol says.
    #[error("read {what} from {host}: {message}")]
    Malformed {
        /// `the list of tags`.
        what: String,
        /// `host[:port]`.
        host: String,
        /// What is wrong.
        message: String,
    },
    /// No endpoint may be asked for a tag.
    #[error(
        "none of the configured hosts may be asked what `{reference}` is (hosts.toml: capabilities)"
    )]
    NoResolver {
        /// As people write it.
        reference: String,
    },
    /// The registry knows no such tag, digest or repository.
    #[error("{what} of `{repository}` not found at {host}{message}")]
    NotFound {
        /// `manifest latest`.
        what: String,
        /// Path in the registry.
        repository: String,
        /// `host[:port]`.
        host: String,
        /// In the registry's words.
        message: String,
    },
    /// Any other answer that is not what was asked for.
    #[error("{host} answered {status} to the request for {what} of `{repository}`{message}")]
    Status {
        /// `manifest latest`.
        what: String,
        /// Path in the registry.
        repository: String,
        /// `host[:port]`.
        host: String,
        /// HTTP's number.
        status: u16,
        /// In the registry's words.
        message: String,
    },
    /// Bytes that are not those asked for.
    #[error("{what} from {host} has the wrong digest: expected {expected}, got {found}")]
    Digest {
        /// `layer`, `manifest`, …
        what: &'static str,
        /// `host[:port]`.
        host: String,
        /// As referred to.
        expected: Digest,
        /// As received.
        found: Digest,
    },
    /// More or fewer bytes than announced.
    #[error(
        "{what} {digest} from {host} has the wrong size: expected {expected} bytes, got {found}"
    )]
    Size {
        /// `layer`, `manifest`, …
        what: &'static str,
        /// Of it.
        digest: Digest,
        /// `host[:port]`.
        host: String,
        /// As announced.
        expected: u64,
        /// As received.
        found: u64,
    },
    /// A document beyond all reason.
    #[error("{what} from {host} is larger than {limit} bytes")]
    TooLarge {
        /// `manifest latest`.
        what: String,
        /// `host[:port]`.
        host: String,
        /// The bound.
        limit: u64,
    },
    /// A redirect to nowhere.
    #[error(
        "{host} answered {status}, a redirect that does not say where to (no `Location` header)"
    )]
    NoLocation {
        /// `host[:port]`.
        host: String,
        /// HTTP's number.
        status: u16,
    },
    /// A way we do not go.
    #[error("{host} redirects to `{location}`, which is refused: {reason}")]
    Redirect {
        /// `host[:port]`.
        host: String,
        /// As given.
        location: String,
        /// Why.
        reason: &'static str,
    },
    /// A challenge that we cannot or will not meet.
    #[error("{host} asks for authorization in a way that is not supported: {reason}")]
    Challenge {
        /// `host[:port]`.
        host: String,
        /// Why.
        reason: String,
    },
    /// A document that is not an image.
    #[error("{host} has no usable image there")]
    Document {
        /// `host[:port]`.
        host: String,
        /// What is wrong.
        #[source]
        source: ManifestError,
    },
    /// Mirrors and the registry itself, each with its own failure.
    #[error("no registry could serve it: {}", attempts.join("; "))]
    Everywhere {
        /// One sentence each.
        attempts: Vec<String>,
    },
}

/// Says when to try again: `; try again in 1h 5m`.
fn again(wait: Duration) -> String {
    let seconds = wait.as_secs();
    let parts = [
        (seconds / 3600, 'h'),
        (seconds / 60 % 60, 'm'),
        (seconds % 60, 's'),
    ];
    let shown = parts.iter().filter(|(number, _)| *number > 0).take(2);
    let shown: String = shown
        .map(|(number, unit)| format!(" {number}{unit}"))
        .collect();
    format!("; try again in{shown}")
}

/// Shows an error with its causes in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
