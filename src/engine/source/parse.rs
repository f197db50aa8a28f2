//! What may be named: `FILE`, `DIRECTORY`, `URL[#ref[:directory]]`. Rules only; the one thing looked at is whether a path is there.

use std::fmt;
use std::path::{Component, Path, PathBuf};

use super::{Source, SourceError};

/// How a repository may be reached; git itself is told the same list.
pub(super) const PROTOCOLS: [&str; 5] = ["https", "http", "ssh", "git", "file"];

/// A revision of a repository, and where in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GitSource {
    /// The repository.
    pub url: GitUrl,
    /// Branch, tag, full ref or full commit; its `HEAD` where unset.
    pub reference: Option<String>,
    /// Directory in it, relative; empty for its top.
    pub directory: PathBuf,
}

/// A URL that git may be given. Its `Display` has no password.
#[derive(Clone, PartialEq, Eq)]
pub struct GitUrl(String);

impl Source {
    /// Reads what was typed; relative paths start from `directory`.
    pub fn parse(text: Option<&str>, directory: &Path) -> Result<Self, SourceError> {
        let Some(text) = text else {
            return Ok(Self::Here);
        };
        let path = directory.join(text);
        let (url, fragment) = match text.split_once('#') {
            Some((url, fragment)) => (url, Some(fragment)),
            None => (text, None),
        };
        // A file of that name is meant where there is one, whatever it looks like; no file is named `https://…`.
        if is_url(url) || (is_scp(url) && !path.exists()) {
            return GitSource::parse(url, fragment).map(Self::Git);
        }
        match path.metadata() {
            Ok(metadata) if metadata.is_dir() => Ok(Self::Directory(path)),
            Ok(_) => Ok(Self::File(path)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                Err(SourceError::NotFound(path))
            }
            Err(error) => Err(SourceError::file("look at", &path, error)),
        }
    }
}

impl GitSource {
    fn parse(url: &str, fragment: Option<&str>) -> Result<Self, SourceError> {
        let url = GitUrl::parse(url)?;
        let (reference, directory) = match fragment.unwrap_or_default().split_once(':') {
            Some((reference, directory)) => (reference, directory),
            None => (fragment.unwrap_or_default(), ""),
        };
        if !reference.is_empty() {
            check_ref(reference)?;
        }
        Ok(Self {
            url,
            reference: (!reference.is_empty()).then(|| reference.to_owned()),
            directory: subdirectory(directory)?,
        })
    }
}

impl GitUrl {
    /// Checks a URL, `scheme://[user@]host/path`, or `user@host:path`.
    fn parse(text: &str) -> Result<Self, SourceError> {
        let url = Self(text.to_owned());
        let invalid = |rule| {
            Err(SourceError::Invalid {
                what: "git URL",
                text: url.to_string(),
                rule,
            })
        };
        if text.chars().any(|c| c.is_control() || c.is_whitespace()) {
            return invalid("it must have no white space and no control characters");
        }
        let Some((scheme, rest)) = text.split_once("://") else {
            let (authority, path) = text.split_once(':').unwrap_or_default();
            let Some((user, host)) = authority.split_once('@') else {
                return invalid("it must be `user@host:path`");
            };
            if [user, host, path]
                .iter()
                .any(|part| part.is_empty() || part.starts_with('-'))
            {
                return invalid("user, host and path must not be empty and not begin with `-`");
            }
            return Ok(url);
        };
        if !PROTOCOLS.contains(&scheme) {
            return invalid("it must begin with https://, http://, ssh://, git:// or file://");
        }
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        if path.trim_matches('/').is_empty() {
            return invalid("it must name a repository on its host");
        }
        if scheme == "file" {
            return match authority {
                "" => Ok(url),
                _ => invalid("it must be `file:///path`"),
            };
        }
        let (user, host) = authority.rsplit_once('@').unwrap_or(("", authority));
        if host.is_empty() || host.starts_with(['-', ':']) || user.starts_with('-') {
            return invalid("it must have a host, and neither user nor host may begin with `-`");
        }
        Ok(url)
    }

    /// Returns it as git gets it, password and all.
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the password in it, if there is one.
    pub(super) fn password(&self) -> Option<&str> {
        let (_, rest) = self.0.split_once("://")?;
        let (authority, _) = rest.split_once('/').unwrap_or((rest, ""));
        let (user, _) = authority.rsplit_once('@')?;
        let (_, password) = user.split_once(':')?;
        (!password.is_empty()).then_some(password)
    }

    /// Returns the repository's name: the last part of its path without `.git`.
    pub(super) fn name(&self) -> &str {
        let path = self.0.trim_end_matches('/');
        let last = path.rsplit(['/', ':']).next().unwrap_or_default();
        let name = last.strip_suffix(".git").unwrap_or(last);
        match name {
            "" | "." | ".." => "repository",
            name => name,
        }
    }
}

impl fmt::Display for GitUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.password() {
            Some(password) => {
                let hidden = self.0.replacen(&format!(":{password}@"), "@", 1);
                f.write_str(&hidden)
            }
            None => f.write_str(&self.0),
        }
    }
}

/// As `Display`: no password in a log.
impl fmt::Debug for GitUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GitUrl({self})")
    }
}

/// Whether `text` begins as URLs do (RFC 3986 3.1).
fn is_url(text: &str) -> bool {
    text.split_once("://").is_some_and(|(scheme, _)| {
        let mut characters = scheme.chars();
        characters.next().is_some_and(|c| c.is_ascii_alphabetic())
            && characters.all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'))
    })
}

/// Whether `text` looks like `user@host:path`.
fn is_scp(text: &str) -> bool {
    let authority = text.split_once(':').map(|(authority, _)| authority);
    authority.is_some_and(|authority| authority.contains('@') && !authority.contains('/'))
}

/// Checks a branch, tag, full ref or commit by the rules of `man git-check-ref-format`, and that it is no option.
fn check_ref(text: &str) -> Result<(), SourceError> {
    let forbidden = |c: char| {
        c.is_control() || c.is_whitespace() || matches!(c, '~' | '^' | ':' | '?' | '*' | '[' | '\\')
    };
    // Git's own lock files; it compares no other case either.
    let is_lock = |part: &str| part.strip_suffix(".lock").is_some();
    let part_is_good = |part: &str| !part.is_empty() && !part.starts_with('.') && !is_lock(part);
    let is_good = text.len() <= 255
        && !text.starts_with('-')
        && !text.ends_with('.')
        && !text.contains(forbidden)
        && !text.contains("..")
        && !text.contains("@{")
        && text != "@"
        && text.split('/').all(part_is_good);
    if is_good {
        return Ok(());
    }
    Err(SourceError::Invalid {
        what: "git ref",
        text: text.to_owned(),
        rule: "it must be a branch, a tag or a full commit, as `git check-ref-format` allows",
    })
}

/// Checks a directory in a repository: relative, downward.
fn subdirectory(text: &str) -> Result<PathBuf, SourceError> {
    let mut directory = PathBuf::new();
    let mut is_good = !text.contains(char::is_control) && !text.starts_with('/');
    for component in Path::new(text).components() {
        match component {
            Component::Normal(part) => directory.push(part),
            Component::CurDir => {}
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => is_good = false,
        }
    }
    // Git's own directory is not part of what it keeps.
    is_good &= !directory
        .components()
        .any(|part| part.as_os_str() == ".git");
    if is_good {
        return Ok(directory);
    }
    Err(SourceError::Invalid {
        what: "directory in the repository",
        text: text.to_owned(),
        rule: "it must be relative and lead downward",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn git(url: &str, reference: Option<&str>, directory: &str) -> GitSource {
        GitSource {
            url: GitUrl(url.to_owned()),
            reference: reference.map(str::to_owned),
            directory: directory.into(),
        }
    }

    #[test]
    fn urls_with_refs_and_directories() {
        let commit = "0123456789abcdef0123456789abcdef01234567";
        let rows = [
            (
                "https://h/a/b.git",
                Some(git("https://h/a/b.git", None, "")),
            ),
            (
                "https://h/r#main",
                Some(git("https://h/r", Some("main"), "")),
            ),
            (
                "https://h/r#main:a/b",
                Some(git("https://h/r", Some("main"), "a/b")),
            ),
            ("https://h/r#:./a/", Some(git("https://h/r", None, "a"))),
            (
                "https://h/r#feature/x:",
                Some(git("https://h/r", Some("feature/x"), "")),
            ),
            (
                &format!("ssh://git@h:22/r#{commit}"),
                Some(git("ssh://git@h:22/r", Some(commit), "")),
            ),
            (
                "git@h:a/b.git#v1.0:c",
                Some(git("git@h:a/b.git", Some("v1.0"), "c")),
            ),
            ("file:///srv/r", Some(git("file:///srv/r", None, ""))),
            // Options, however they come.
            ("https://h/r#--upload-pack=touch x", None),
            ("https://h/r#--upload-pack=x", None),
            ("https://h/r#-x:dir", None),
            ("ssh://-oProxyCommand=x/r", None),
            ("ssh://-oProxyCommand=x@h/r", None),
            ("-oProxyCommand=x@h:r", None),
            ("git@-oProxyCommand=x:r", None),
            ("git@h:-r", None),
            // Protocols that run things, or that nobody lists.
            ("ext::sh -c touch% x", None),
            ("ext://sh", None),
            ("fd://17/r", None),
            ("ftp://h/r", None),
            ("file://host/r", None),
            ("https:///r", None),
            ("https://h", None),
            ("https://h/r\n#x", None),
            // Refs that mean something else, and ways out.
            ("https://h/r#main..x", None),
            ("https://h/r#main^{tree}", None),
            ("https://h/r#HEAD@{1}", None),
            ("https://h/r#a b", None),
            ("https://h/r#refs/heads/*", None),
            ("https://h/r#x.lock", None),
            ("https://h/r#main:../x", None),
            ("https://h/r#main:a/../../x", None),
            ("https://h/r#main:/etc", None),
            ("https://h/r#main:.git/hooks", None),
        ];
        for (text, expected) in rows {
            let found = match Source::parse(Some(text), Path::new("/nonexistent")) {
                Ok(Source::Git(source)) => Some(source),
                Ok(other) => panic!("{text}: {other:?}"),
                Err(_) => None,
            };
            assert_eq!(found, expected, "{text}");
        }
    }

    #[test]
    fn names_and_passwords() {
        let rows = [
            ("https://h/a/shop.git", "https://h/a/shop.git", "shop"),
            (
                "https://user:se:cret@h/a/shop/",
                "https://user@h/a/shop/",
                "shop",
            ),
            ("https://token@h/shop", "https://token@h/shop", "shop"),
            ("git@h:shop.git", "git@h:shop.git", "shop"),
            ("file:///srv/..", "file:///srv/..", "repository"),
        ];
        for (text, shown, name) in rows {
            let url = GitUrl::parse(text).unwrap();
            assert_eq!(
                (url.to_string().as_str(), url.name()),
                (shown, name),
                "{text}"
            );
            assert_eq!(format!("{url:?}"), format!("GitUrl({shown})"));
        }
    }

    #[test]
    fn paths_are_taken_where_they_are() {
        let directory = tempfile::tempdir().unwrap();
        let at = directory.path();
        fs_err::create_dir(at.join("git@host:path")).unwrap();
        let parse = |text| Source::parse(text, at).ok();
        assert_eq!(parse(None), Some(Source::Here));
        assert_eq!(parse(Some(".")), Some(Source::Directory(at.join("."))));
        assert_eq!(
            parse(Some("git@host:path")),
            Some(Source::Directory(at.join("git@host:path")))
        );
        assert_eq!(parse(Some("missing.yaml")), None);
        fs_err::File::create(at.join("s.yaml")).unwrap();
        assert_eq!(parse(Some("s.yaml")), Some(Source::File(at.join("s.yaml"))));
    }
}
