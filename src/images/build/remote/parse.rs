//! Which sources are remote, and what they say.

use super::RemoteError;
use super::credentials::shown;

/// A source that is not in the context.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Remote {
    /// `http://…` or `https://…`
    Url(String),
    /// A git repository.
    Git(GitSource),
}

/// A revision of a git repository.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GitSource {
    /// As git is given it.
    pub remote: String,
    /// Branch, tag, full ref or full commit; its `HEAD` where absent.
    pub reference: Option<String>,
    /// Directory in it.
    pub directory: String,
    /// What the commit must begin with.
    pub checksum: Option<String>,
    /// Whether `.git` stays.
    pub keep_git_dir: Option<bool>,
    /// Whether its submodules come too.
    pub without_submodules: bool,
    /// What times its files get.
    pub times: ModifiedTimes,
}

/// Times of the files of a checkout.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ModifiedTimes {
    /// When it was checked out.
    #[default]
    Checkout,
    /// When the commit was made.
    Commit,
}

impl Remote {
    /// Reads a source; nothing if it is one of the context.
    pub fn parse(source: &str) -> Result<Option<Self>, RemoteError> {
        let is_http = source.starts_with("http://") || source.starts_with("https://");
        let (address, fragment) = split(source, '#');
        let (address, query) = split(address, '?');
        let has_git_scheme = ["ssh://", "git://"].iter().any(|s| source.starts_with(s));
        let is_git = has_git_scheme
            || (is_http && address.strip_suffix(".git").is_some())
            || (!source.contains("://") && is_scp(address));
        if is_git {
            return GitSource::parse(address, query, fragment).map(|git| Some(Self::Git(git)));
        }
        Ok(is_http.then(|| Self::Url(source.to_owned())))
    }
}

/// Splits at the first `at`.
fn split(text: &str, at: char) -> (&str, Option<&str>) {
    match text.split_once(at) {
        Some((before, after)) => (before, Some(after)),
        None => (text, None),
    }
}

/// Whether it is `user@host:path`.
fn is_scp(address: &str) -> bool {
    let word = |text: &str| {
        let mut bytes = text.bytes();
        !text.is_empty() && bytes.all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
    };
    let parts = address.split_once('@').and_then(|(user, rest)| {
        let (host, path) = rest.split_once(':')?;
        Some((user, host, path))
    });
    parts.is_some_and(|(user, host, path)| {
        word(user) && word(host) && !user.starts_with('-') && !path.is_empty()
    })
}

impl GitSource {
    /// Reads the parts of an address.
    fn parse(
        address: &str,
        query: Option<&str>,
        fragment: Option<&str>,
    ) -> Result<Self, RemoteError> {
        let wrong = |text: String| Err(RemoteError::Source(text));
        if address.chars().any(|c| c.is_control() || c.is_whitespace()) {
            return wrong(format!("invalid git URL {address:?}"));
        }
        let mut git = Self {
            remote: address.to_owned(),
            ..Self::default()
        };
        let (mut tag, mut branch) = (None, None);
        for pair in query
            .unwrap_or_default()
            .split('&')
            .filter(|p| !p.is_empty())
        {
            let (key, value) = split(pair, '=');
            let value = unescape(value.unwrap_or_default());
            match key {
                "ref" => git.reference = some(value),
                "tag" => tag = some(value),
                "branch" => branch = some(value),
                "subdir" => git.directory = value,
                "checksum" | "commit" => git.checksum = some(value),
                "keep-git-dir" => git.keep_git_dir = Some(truth(key, &value)?),
                "submodules" => git.without_submodules = !truth(key, &value)?,
                // How the commit is got changes nothing of what comes.
                "fetch-by-commit" => drop(truth(key, &value)?),
                "mtime" => {
                    git.times = match value.as_str() {
                        "checkout" => ModifiedTimes::Checkout,
                        "commit" => ModifiedTimes::Commit,
                        _ => return wrong(format!("invalid mtime value {value:?}")),
                    }
                }
                _ => return wrong(format!("unexpected query {key:?}")),
            }
        }
        if tag.is_some() && branch.is_some() {
            return wrong("branch conflicts with tag".to_owned());
        }
        let (reference, directory) = split(fragment.unwrap_or_default(), ':');
        let named = [
            some(unescape(reference)),
            tag.map(|tag| format!("refs/tags/{tag}")),
            branch.map(|branch| format!("refs/heads/{branch}")),
        ];
        for name in named.into_iter().flatten() {
            if let Some(other) = git.reference.replace(name.clone())
                && other != name
            {
                return wrong(format!("ref conflicts: {other:?} vs {name:?}"));
            }
        }
        if let Some(directory) = directory {
            if !git.directory.is_empty() {
                return wrong(format!(
                    "subdir conflicts: {:?} vs {directory:?}",
                    git.directory
                ));
            }
            git.directory = unescape(directory);
        }
        match &git.reference {
            Some(name) if !is_ref(name) => wrong(format!("invalid ref {name:?}")),
            _ => Ok(git),
        }
    }

    /// Returns the address for people: without what logs in there.
    pub fn shown(&self) -> String {
        shown(&self.remote)
    }
}

/// Takes a value that says something.
fn some(value: String) -> Option<String> {
    Some(value).filter(|value| !value.is_empty())
}

/// Reads true or false; nothing is true.
fn truth(key: &str, value: &str) -> Result<bool, RemoteError> {
    match value.to_ascii_lowercase().as_str() {
        "" | "1" | "t" | "true" => Ok(true),
        "0" | "f" | "false" => Ok(false),
        _ => Err(RemoteError::Source(format!(
            "invalid {key} value {value:?}"
        ))),
    }
}

/// Whether git may be given a word as a ref: no option, and no pattern.
fn is_ref(name: &str) -> bool {
    let bad = ['~', '^', ':', '?', '*', '[', '\\'];
    !name.starts_with('-')
        && !name.contains("..")
        && !name
            .chars()
            .any(|c| c.is_control() || c.is_whitespace() || bad.contains(&c))
}

/// Takes `%41` for `A`.
pub(super) fn unescape(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let digits = after.get(..2).and_then(|two| std::str::from_utf8(two).ok());
        let escaped = digits.and_then(|two| u8::from_str_radix(two, 16).ok());
        match (first, escaped) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = after.get(2..).unwrap_or_default();
            }
            (byte, _) => {
                bytes.push(*byte);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
