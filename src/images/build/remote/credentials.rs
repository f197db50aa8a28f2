//! User names and passwords of URLs: kept from people, from the arguments of processes, and from what lands in an image.

use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::logins::GitLogin;
use super::parse::unescape;

/// An address without what logs in there, and that.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Parted {
    /// As processes and files may see it.
    pub(super) address: String,
    /// Value of the header `Authorization`.
    pub(super) authorization: Option<String>,
}

/// Takes user and password out of an `http` or `https` address. The user of another one is no secret, and goes with it.
pub(super) fn part(address: &str) -> Parted {
    let found = pieces(address).filter(|(scheme, ..)| is_web(scheme));
    let Some((scheme, user, rest)) = found else {
        return Parted {
            address: address.to_owned(),
            authorization: None,
        };
    };
    let (user, password) = user.split_once(':').unwrap_or((user, ""));
    let both = format!("{}:{}", unescape(user), unescape(password));
    Parted {
        address: format!("{scheme}://{rest}"),
        authorization: Some(format!("Basic {}", STANDARD.encode(both))),
    }
}

/// Has git log in at `remote`. It is told by the environment, which other users cannot read. Who logs in goes where he was sent, and no
/// server sends him on: git would take along to a new host what it was given for the first.
pub(super) fn authorize(command: &mut Command, remote: &str, login: &GitLogin) {
    let header = if login.header.is_some() {
        login.header.clone()
    } else {
        let parted = part(remote);
        origin(&parted.address).zip(parted.authorization)
    };
    let Some((scope, value)) = header else {
        return;
    };
    let settings = [
        (
            format!("http.{scope}.extraHeader"),
            format!("Authorization: {value}"),
        ),
        ("http.followRedirects".to_owned(), "false".to_owned()),
    ];
    command.env("GIT_CONFIG_COUNT", settings.len().to_string());
    for (index, (key, value)) in settings.into_iter().enumerate() {
        command
            .env(format!("GIT_CONFIG_KEY_{index}"), key)
            .env(format!("GIT_CONFIG_VALUE_{index}"), value);
    }
}

/// Returns scheme and host of an address.
fn origin(address: &str) -> Option<String> {
    let (scheme, rest) = address.split_once("://")?;
    let host = rest.split('/').next().unwrap_or_default();
    Some(format!("{scheme}://{host}/"))
}

/// Returns an address for people: on the web a lone user is a token more often than a name.
pub(in crate::images) fn shown(address: &str) -> String {
    let Some((scheme, user, rest)) = pieces(address) else {
        return address.to_owned();
    };
    let hidden = match (is_web(scheme), user.split_once(':')) {
        (true, Some(_)) => "xxxxx:xxxxx",
        (true, None) => "xxxxx",
        (false, Some((user, _))) => return format!("{scheme}://{user}:xxxxx@{rest}"),
        (false, None) => user,
    };
    format!("{scheme}://{hidden}@{rest}")
}

fn is_web(scheme: &str) -> bool {
    matches!(scheme, "http" | "https")
}

/// Splits `SCHEME://USER@REST`.
pub(super) fn pieces(address: &str) -> Option<(&str, &str, &str)> {
    let (scheme, rest) = address.split_once("://")?;
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let at = rest.get(..end)?.rfind('@')?;
    Some((scheme, rest.get(..at)?, rest.get(at + 1..)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_sees_who_logs_in() {
        for (address, expected) in [
            ("https://ghp_x@h/p/q.git", "https://xxxxx@h/p/q.git"),
            ("https://me:pass@h/x.tar", "https://xxxxx:xxxxx@h/x.tar"),
            ("https://me:p@ss@h:8/x", "https://xxxxx:xxxxx@h:8/x"),
            ("https://h/x@y", "https://h/x@y"),
            ("https://h?x=a@y", "https://h?x=a@y"),
            ("ssh://git@h/x", "ssh://git@h/x"),
            ("ssh://git:pass@h/x", "ssh://git:xxxxx@h/x"),
            ("git@h:x", "git@h:x"),
        ] {
            assert_eq!(shown(address), expected);
        }
    }

    #[test]
    fn what_logs_in_is_parted_from_the_address() {
        let parted = |address: &str, authorization: Option<&str>| Parted {
            address: address.to_owned(),
            authorization: authorization.map(str::to_owned),
        };
        for (address, expected) in [
            ("https://h/x", parted("https://h/x", None)),
            (
                "https://token@h/x",
                parted("https://h/x", Some("Basic dG9rZW46")),
            ),
            (
                "http://me:p%40ss@h:8/x",
                parted("http://h:8/x", Some("Basic bWU6cEBzcw==")),
            ),
            ("ssh://git@h/x", parted("ssh://git@h/x", None)),
        ] {
            assert_eq!(part(address), expected);
        }
    }
}
