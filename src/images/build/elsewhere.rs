//! Build contexts that lie elsewhere: git repositories, and archives or Dockerfiles by URL.
//!
//! Facts: docker/buildx and BuildKit's `dockerui` (`context.go`, `namedcontext.go`): a URL is a repository where `ADD` would take it for
//! one, and `github.com/…` stands for one too. As the build's own context, what a URL gives is unpacked, or is the Dockerfile; as a named
//! one it stays the file that it is.

use std::io;
use std::path::{Path, PathBuf};

use super::super::Images;
use super::aside::Aside;
use super::attest::Material;
use super::contexts::Spooled;
use super::error::BuildError;
use super::remote::{Asked, Fetched, GitSource, Logins, Remote, RemoteError};

/// A context that is fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteContext(Remote);

impl RemoteContext {
    /// Reads a context as written; nothing if it is a path. What is neither a path nor can be fetched is an error.
    pub fn parse(text: &str) -> Result<Option<Self>, RemoteError> {
        let whole;
        let source = if text.starts_with("github.com/") {
            whole = match text.split_once('#') {
                Some((address, rest)) => format!("https://{}#{rest}", with_git(address)),
                None => format!("https://{}", with_git(text)),
            };
            whole.as_str()
        } else {
            text
        };
        match Remote::parse(source)? {
            Some(remote) => Ok(Some(Self(remote))),
            None if source.contains("://") => Err(RemoteError::Source(format!(
                "`{source}` is no directory, nor a URL of http, https, git or ssh"
            ))),
            None => Ok(None),
        }
    }

    /// Returns it without its password, for people.
    pub fn shown(&self) -> String {
        match &self.0 {
            Remote::Git(git) => git.shown(),
            Remote::Url(url) => super::remote::shown(url),
        }
    }
}

/// Gives the path of a repository the ending that tells it from a file.
fn with_git(address: &str) -> String {
    let (path, query) = match address.split_once('?') {
        Some((path, query)) => (path, format!("?{query}")),
        None => (address, String::new()),
    };
    let path = path.trim_end_matches('/');
    let path = path.strip_suffix(".git").unwrap_or(path);
    format!("{path}.git{query}")
}

impl Images {
    /// Fetches what is to be a build's context; `keep_git_dir` (`BUILDKIT_CONTEXT_KEEP_GIT_DIR`) leaves a repository its `.git`.
    pub async fn fetch_context(
        &self,
        context: &RemoteContext,
        keep_git_dir: bool,
        logins: Logins<'_>,
    ) -> Result<Spooled, BuildError> {
        let failed = |source| fetch_failed(context, source);
        match &context.0 {
            Remote::Git(git) => {
                let cloned = self.clone_context(git, keep_git_dir, logins).await;
                cloned.map_err(failed)
            }
            Remote::Url(url) => {
                let staging = self.store().staging()?;
                let got = self.fetch_url(url, logins, staging.directory()).await;
                let fetched = got.map_err(failed)?;
                let material = Material::of_url(url, &fetched.digest);
                let body = fetched.path;
                let aside = Aside::default();
                let opened =
                    aside.run(move |stop| Spooled::open(staging, &body.unwrap_or_default(), stop));
                let opened = opened
                    .await
                    .map_err(|source| BuildError::Spool { source })?;
                Ok(opened?.from(material))
            }
        }
    }

    /// Gets a file by URL.
    async fn fetch_url(
        &self,
        url: &str,
        logins: Logins<'_>,
        directory: &Path,
    ) -> Result<Fetched, RemoteError> {
        let authorization = logins.web(url)?;
        let asked = Asked {
            authorization: authorization.as_deref(),
            ..Asked::of(url)
        };
        Fetched::get(&self.http, asked, directory).await
    }

    /// Fetches what is to be a named context.
    pub(super) async fn fetch_named(
        &self,
        context: &RemoteContext,
        logins: Logins<'_>,
    ) -> Result<Spooled, BuildError> {
        let Remote::Url(url) = &context.0 else {
            return self.fetch_context(context, false, logins).await;
        };
        let staging = self.store().staging()?;
        let got = self.fetch_url(url, logins, staging.directory()).await;
        let fetched = got.map_err(|source| fetch_failed(context, source))?;
        if let Some(body) = fetched.path {
            let place = staging.diff().join(&fetched.name);
            fs_err::rename(body, place).map_err(|source| BuildError::Spool { source })?;
        }
        Ok(Spooled::new(staging, None, None))
    }

    /// Checks a repository out.
    async fn clone_context(
        &self,
        git: &GitSource,
        keep_git_dir: bool,
        logins: Logins<'_>,
    ) -> Result<Spooled, RemoteError> {
        let staging = self.store().staging().map_err(|error| {
            RemoteError::file("make a directory in", self.store().root())(io::Error::other(error))
        })?;
        let login = logins.git(&git.remote)?.of_own();
        let commit = git.resolve(&login).await?;
        let keep = git.keep_git_dir.unwrap_or(keep_git_dir);
        let checkout = git.checkout(&commit, staging.directory(), keep, &login);
        let checkout = checkout.await?;
        let directory = below(&checkout.directory, &git.directory)?;
        let material = Material::of_git(&git.shown(), git.reference.as_deref(), &commit);
        Ok(Spooled::new(staging, Some(directory), None).from(material))
    }
}

/// Returns a directory of a repository, which its links must not lead out of.
fn below(top: &Path, directory: &str) -> Result<PathBuf, RemoteError> {
    let wrong = |why: &str| {
        let text = format!("the directory `{directory}` of the repository {why}");
        Err(RemoteError::Source(text))
    };
    let read = |path: &Path| fs_err::canonicalize(path).map_err(RemoteError::file("find", path));
    let top = read(top)?;
    let found = match fs_err::canonicalize(top.join(directory.trim_start_matches('/'))) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return wrong("is not there"),
        Err(error) => return Err(RemoteError::file("find", &top)(error)),
    };
    if !found.starts_with(&top) {
        return wrong("is not in it");
    }
    if found.is_dir() {
        Ok(found)
    } else {
        wrong("is a file")
    }
}

/// Names the context that could not be had.
fn fetch_failed(context: &RemoteContext, source: RemoteError) -> BuildError {
    BuildError::Fetch {
        context: context.shown(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contexts_are_paths_or_are_fetched() {
        let table = [
            (".", "path"),
            ("/a/b", "path"),
            ("dir#x", "path"),
            ("github.com/a/b", "https://github.com/a/b.git"),
            (
                "github.com/a/b.git#v1:d",
                "https://github.com/a/b.git ref v1 in d",
            ),
            (
                "github.com/a/b/?ref=v1",
                "https://github.com/a/b.git ref v1 in ",
            ),
            ("git@h:a/b.git#r:d", "git@h:a/b.git ref r in d"),
            ("https://h/x.git", "https://h/x.git"),
            ("https://me:pass@h/x.tar", "https://xxxxx:xxxxx@h/x.tar"),
            ("http://h/Dockerfile", "http://h/Dockerfile"),
            (
                "ftp://h/x",
                "`ftp://h/x` is no directory, nor a URL of http, https, git or ssh",
            ),
            ("https://h/x.git#a:b?c=d", "https://h/x.git ref a in b?c=d"),
        ];
        for (text, expected) in table {
            let found = match RemoteContext::parse(text) {
                Err(error) => error.to_string(),
                Ok(None) => "path".to_owned(),
                Ok(Some(context)) => match &context.0 {
                    Remote::Git(GitSource {
                        reference: Some(reference),
                        directory,
                        ..
                    }) => format!("{} ref {reference} in {directory}", context.shown()),
                    _ => context.shown(),
                },
            };
            assert_eq!(found, expected, "{text}");
        }
    }

    #[test]
    fn a_directory_of_a_repository_is_in_it() {
        let temp = tempfile::tempdir().unwrap();
        let top = temp.path().join("top");
        fs_err::create_dir_all(top.join("a/b")).unwrap();
        fs_err::write(top.join("file"), "").unwrap();
        std::os::unix::fs::symlink("/etc", top.join("out")).unwrap();
        std::os::unix::fs::symlink("a", top.join("in")).unwrap();
        let top = fs_err::canonicalize(&top).unwrap();
        let not =
            |name: &str, why: &str| Err(format!("the directory `{name}` of the repository {why}"));
        let table = [
            ("", Ok(top.clone())),
            ("/a/b", Ok(top.join("a/b"))),
            ("in/b", Ok(top.join("a/b"))),
            ("none", not("none", "is not there")),
            ("file", not("file", "is a file")),
            ("out", not("out", "is not in it")),
            ("../..", not("../..", "is not in it")),
        ];
        for (name, expected) in table {
            let found = below(&top, name).map_err(|error| error.to_string());
            assert_eq!(found, expected, "{name}");
        }
    }
}
