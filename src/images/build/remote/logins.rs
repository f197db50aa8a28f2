//! What logs in at the servers of sources: secrets and ssh agents of whoever builds, under BuildKit's names (`source/http`,
//! `source/git`).
//!
//! | source | secrets, the first that is given counts | sent as |
//! | --- | --- | --- |
//! | `http://`, `https://` | `HTTP_AUTH_TOKEN_<host>` | `Authorization: Bearer <secret>` |
//! | | `HTTP_AUTH_HEADER_<host>` | `Authorization: <secret>` |
//! | git over these | `GIT_AUTH_HEADER.<host[:port]>` | `Authorization: <secret>` |
//! | | `GIT_AUTH_TOKEN.<host[:port]>` | as user `x-access-token` with that password |
//! | | `GIT_AUTH_HEADER`, `GIT_AUTH_TOKEN` | the same |
//! | git over ssh | the agent `default` | `SSH_AUTH_SOCK` |
//!
//! None of it is part of a key: what the server gave is. None goes to another host, whatever an answer points to.

use std::collections::BTreeMap;
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::Url;

use super::super::secrets::SecretSource;
use super::RemoteError;
use super::credentials::{pieces, shown};

/// The user that a token of a git server logs in as (GitHub).
const TOKEN_USER: &str = "x-access-token";
/// The agent that git is given.
const GIT_AGENT: &str = "default";
/// Hosts whose repositories share a token: submodules are as private as what has them.
const SHARED: [&str; 2] = ["https://github.com/", "https://www.github.com/"];

/// What a build was given to log in with.
#[derive(Debug, Clone, Copy)]
pub struct Logins<'a> {
    /// By id.
    pub secrets: &'a BTreeMap<String, SecretSource>,
    /// Sockets of ssh agents, by id.
    pub agents: &'a BTreeMap<String, PathBuf>,
}

/// How git logs in.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct GitLogin {
    /// The address that the header is for and all below it, and the value of `Authorization`.
    pub(super) header: Option<(String, String)>,
    /// The socket of an ssh agent.
    pub(super) agent: Option<PathBuf>,
    /// Whether the keys of whoever builds may be used without that.
    pub(super) is_own: bool,
}

impl GitLogin {
    /// Allows the keys of whoever builds, who has named the repository himself.
    pub(in crate::images::build) fn of_own(self) -> Self {
        Self {
            is_own: self.agent.is_none(),
            ..self
        }
    }
}

impl Logins<'_> {
    /// Returns the value of `Authorization` for a URL.
    pub(in crate::images) fn web(&self, url: &str) -> Result<Option<String>, RemoteError> {
        let Some(url) = Url::parse(url).ok() else {
            return Ok(None);
        };
        let host = url.host_str().unwrap_or_default();
        let host = host.trim_start_matches('[').trim_end_matches(']');
        if let Some(token) = self.secret("HTTP_AUTH_TOKEN_", host)? {
            return Ok(Some(format!("Bearer {token}")));
        }
        self.secret("HTTP_AUTH_HEADER_", host)
    }

    /// Returns how git logs in at a repository.
    pub(in crate::images) fn git(&self, remote: &str) -> Result<GitLogin, RemoteError> {
        let is_web = remote.starts_with("http://") || remote.starts_with("https://");
        let mut login = GitLogin::default();
        if is_web {
            let address = super::credentials::part(remote).address;
            if let Some(value) = self.git_header(&address)? {
                let shared = SHARED.iter().find(|prefix| address.starts_with(**prefix));
                let scope = shared.map_or(address.as_str(), |prefix| *prefix);
                login.header = Some((scope.to_owned(), value));
            }
        } else {
            login.agent = self.agents.get(GIT_AGENT).cloned();
        }
        Ok(login)
    }

    fn git_header(&self, address: &str) -> Result<Option<String>, RemoteError> {
        let rest = address.split_once("://").map_or("", |(_, rest)| rest);
        let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
        for host in [Some(host), None] {
            let get = |name: &str| match host {
                Some(host) => self.secret(&format!("{name}."), host),
                None => self.secret(name, ""),
            };
            if let Some(header) = get("GIT_AUTH_HEADER")? {
                return Ok(Some(header));
            }
            if let Some(token) = get("GIT_AUTH_TOKEN")? {
                let pair = format!("{TOKEN_USER}:{token}");
                return Ok(Some(format!("Basic {}", STANDARD.encode(pair))));
            }
        }
        Ok(None)
    }

    /// Returns the secret of a name and a host, in whatever case that is, as what a header can have.
    fn secret(&self, name: &str, host: &str) -> Result<Option<String>, RemoteError> {
        let found = self.secrets.iter().find(|(id, _)| {
            let rest = id.strip_prefix(name);
            rest.is_some_and(|rest| rest.eq_ignore_ascii_case(host))
        });
        let Some((id, source)) = found else {
            return Ok(None);
        };
        let content = source.read(id)?;
        let wrong = || RemoteError::Header(id.clone());
        let text = String::from_utf8(content).map_err(|_| wrong())?;
        // Files end with a newline that nobody means.
        let text = text.trim_end_matches(['\r', '\n']);
        if text.is_empty() || !text.bytes().all(|b| matches!(b, b' '..=b'~')) {
            return Err(wrong());
        }
        Ok(Some(text.to_owned()))
    }
}

/// Returns what may help where a server says no.
pub(super) fn advice(url: &str, status: u16) -> String {
    let Some(url) = Url::parse(url).ok().filter(|_| status == 401) else {
        return String::new();
    };
    let host = url.host_str().unwrap_or_default();
    format!(
        ": it wants a login: give the build a secret HTTP_AUTH_TOKEN_{host} or HTTP_AUTH_HEADER_{host}"
    )
}

/// Whether what logs in at `from` may be shown at `to`: the same host, by no weaker a protocol.
pub(super) fn goes_along(from: &Url, to: &Url) -> bool {
    let is_weaker = from.scheme() == "https" && to.scheme() != "https";
    from.host_str() == to.host_str() && !is_weaker
}

/// Requires that no message has what logs in: takes it out of what a program said.
pub(super) fn redact(text: &str, remote: &str, login: &GitLogin) -> String {
    let mut text = text.replace(remote, &shown(remote));
    let is_secret = super::credentials::part(remote).authorization.is_some();
    if let Some((_, user, _)) = pieces(remote).filter(|_| is_secret) {
        for part in user.split(':').filter(|part| part.len() > 3) {
            text = text.replace(part, "xxxxx");
        }
    }
    if let Some((_, value)) = &login.header {
        text = text.replace(value.as_str(), "xxxxx");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn logins(names: &[&str]) -> BTreeMap<String, SecretSource> {
        let value = |name: &str| SecretSource::Value(format!("<{name}>\n").into_bytes());
        names
            .iter()
            .map(|name| ((*name).to_owned(), value(name)))
            .collect()
    }

    #[test]
    fn the_secret_of_a_host_is_for_its_urls() {
        let secrets = logins(&[
            "HTTP_AUTH_TOKEN_a.org",
            "HTTP_AUTH_HEADER_a.org",
            "HTTP_AUTH_HEADER_b.org",
            "HTTP_AUTH_TOKEN_::1",
            "other",
        ]);
        let agents = BTreeMap::new();
        let logins = Logins {
            secrets: &secrets,
            agents: &agents,
        };
        for (url, expected) in [
            ("https://a.org/x", Some("Bearer <HTTP_AUTH_TOKEN_a.org>")),
            (
                "https://A.ORG:8443/x",
                Some("Bearer <HTTP_AUTH_TOKEN_a.org>"),
            ),
            ("http://b.org/x", Some("<HTTP_AUTH_HEADER_b.org>")),
            ("http://[::1]:80/x", Some("Bearer <HTTP_AUTH_TOKEN_::1>")),
            ("http://c.b.org/x", None),
            ("http://b.org.evil/x", None),
            ("no url", None),
        ] {
            let found = logins.web(url).unwrap();
            assert_eq!(found.as_deref(), expected, "{url}");
        }
    }

    #[test]
    fn repositories_have_the_nearest_secret() {
        let basic = |token: &str| {
            let pair = STANDARD.encode(format!("x-access-token:<{token}>"));
            format!("Basic {pair}")
        };
        let hub = ["https://github.com/", "https://h:8/a.git"];
        let table = [
            (
                vec!["GIT_AUTH_TOKEN", "GIT_AUTH_HEADER"],
                "https://github.com/a/b.git",
                Some((hub[0], "<GIT_AUTH_HEADER>".to_owned())),
            ),
            (
                vec!["GIT_AUTH_TOKEN.h:8", "GIT_AUTH_HEADER"],
                "https://h:8/a.git",
                Some((hub[1], basic("GIT_AUTH_TOKEN.h:8"))),
            ),
            (
                vec!["GIT_AUTH_TOKEN"],
                "https://me:pass@h:8/a.git",
                Some((hub[1], basic("GIT_AUTH_TOKEN"))),
            ),
            (vec!["GIT_AUTH_TOKEN.h"], "https://h:8/a.git", None),
            (vec!["GIT_AUTH_TOKEN.h"], "https://i/a.git", None),
            (vec!["GIT_AUTH_TOKEN"], "git@h:a.git", None),
        ];
        let agents = BTreeMap::from([("default".to_owned(), PathBuf::from("/agent"))]);
        for (names, remote, expected) in table {
            let secrets = logins(&names);
            let logins = Logins {
                secrets: &secrets,
                agents: &agents,
            };
            let login = logins.git(remote).unwrap();
            let expected = expected.map(|(scope, value)| (scope.to_owned(), value));
            assert_eq!(login.header, expected, "{remote}");
            let agent = remote.starts_with("git@").then(|| "/agent".into());
            assert_eq!(login.agent, agent, "{remote}");
        }
    }

    #[test]
    fn what_is_no_header_is_refused_without_being_shown() {
        for bad in [&b"a\nb: c"[..], b"\xff", b"\n", b"a\0"] {
            let secret = SecretSource::Value(bad.to_vec());
            let secrets = BTreeMap::from([("HTTP_AUTH_TOKEN_h".to_owned(), secret)]);
            let agents = BTreeMap::new();
            let logins = Logins {
                secrets: &secrets,
                agents: &agents,
            };
            assert_eq!(
                logins.web("http://h/").unwrap_err().to_string(),
                "the secret \"HTTP_AUTH_TOKEN_h\" is no header's value: one line of ASCII characters"
            );
        }
    }

    #[test]
    fn nothing_goes_to_another_host() {
        for (from, to, expected) in [
            ("https://h/a", "https://h/b", true),
            ("http://h/a", "https://h/b", true),
            ("http://h:1/a", "http://h:2/b", true),
            ("https://h/a", "http://h/b", false),
            ("https://h/a", "https://h.evil/b", false),
            ("https://h/a", "https://x.h/b", false),
        ] {
            let parse = |text| Url::parse(text).unwrap();
            assert_eq!(goes_along(&parse(from), &parse(to)), expected, "{to}");
        }
    }
}
