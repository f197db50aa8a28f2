//! Credential helpers: programs that keep secrets (docker-credential-helpers, `README.md#development`).
//!
//! ```text
//! docker-credential-<name> get   < https://index.docker.io/v1/     > {"ServerURL":…,"Username":"u","Secret":"p"}
//!                          store < {"ServerURL":…,"Username":…,"Secret":…}
//!                          erase < r.example:5000
//! ```
//!
//! The user name `<token>` says that the secret is an identity token. A helper that knows nothing ends with a failure and
//! `credentials not found in native keychain` on its standard output.

use std::io::Write;
use std::process::{Command, Stdio};

use serde::Deserialize;
use serde_json::json;

use super::auth::Secret;

const NOT_FOUND: &str = "credentials not found in native keychain";
const TOKEN_USER: &str = "<token>";

/// A helper that did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum HelperError {
    /// Not to be had.
    #[error("run the credential helper `docker-credential-{name}`")]
    Run {
        /// As configured.
        name: String,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// Not the name of a program.
    #[error("`{name}` is not the name of a credential helper")]
    Name {
        /// As configured.
        name: String,
    },
    /// It says no.
    #[error(
        "the credential helper `docker-credential-{name}` failed to {doing} for {server}: {message}"
    )]
    Failed {
        /// As configured.
        name: String,
        /// `get`, `store`, `erase`.
        doing: &'static str,
        /// For whom.
        server: String,
        /// In its words.
        message: String,
    },
}

/// Asks for the secret of a server.
pub(super) fn get(name: &str, server: &str) -> Result<Option<Secret>, HelperError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Answer {
        #[serde(default)]
        username: String,
        #[serde(default)]
        secret: String,
    }
    let output = match run(name, "get", server, server.as_bytes()) {
        Err(HelperError::Failed { message, .. }) if message.contains(NOT_FOUND) => return Ok(None),
        output => output?,
    };
    let answer: Answer = serde_json::from_slice(&output).map_err(|_| HelperError::Failed {
        name: name.to_owned(),
        doing: "get",
        server: server.to_owned(),
        message: "its answer is not JSON".to_owned(),
    })?;
    Ok(match (answer.username.as_str(), answer.secret) {
        (_, secret) if secret.is_empty() => None,
        (TOKEN_USER, token) => Some(Secret::Identity(token)),
        (user, password) => Some(Secret::Password {
            user: user.to_owned(),
            password,
        }),
    })
}

/// Hands over the secret of a server.
pub(super) fn store(name: &str, server: &str, secret: &Secret) -> Result<(), HelperError> {
    let (user, secret) = match secret {
        Secret::Password { user, password } => (user.as_str(), password),
        Secret::Identity(token) | Secret::Bearer(token) => (TOKEN_USER, token),
    };
    let input = json!({ "ServerURL": server, "Username": user, "Secret": secret });
    run(name, "store", server, input.to_string().as_bytes()).map(drop)
}

/// Lets a server's secret be forgotten.
pub(super) fn erase(name: &str, server: &str) -> Result<(), HelperError> {
    match run(name, "erase", server, server.as_bytes()) {
        Err(HelperError::Failed { message, .. }) if message.contains(NOT_FOUND) => Ok(()),
        output => output.map(drop),
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "helpers are programs of the user's choice"
)]
fn run(
    name: &str,
    doing: &'static str,
    server: &str,
    input: &[u8],
) -> Result<Vec<u8>, HelperError> {
    let known = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    if name.is_empty() || !name.bytes().all(known) {
        return Err(HelperError::Name {
            name: name.to_owned(),
        });
    }
    let failed = |source| HelperError::Run {
        name: name.to_owned(),
        source,
    };
    let mut child = Command::new(format!("docker-credential-{name}"))
        .arg(doing)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .map_err(failed)?;
    if let Some(mut stdin) = child.stdin.take() {
        match stdin.write_all(input) {
            // It has not read it; how it ends tells more.
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => {}
            written => written.map_err(failed)?,
        }
    }
    let output = child.wait_with_output().map_err(failed)?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let said = String::from_utf8_lossy(&output.stdout);
    let said: String = said
        .trim()
        .chars()
        .filter(|c| !c.is_control())
        .take(256)
        .collect();
    Err(HelperError::Failed {
        name: name.to_owned(),
        doing,
        server: server.to_owned(),
        message: if said.is_empty() {
            output.status.to_string()
        } else {
            said
        },
    })
}
