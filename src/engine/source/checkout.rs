//! A revision of a repository as files: resolved, fetched, checked out, kept as long as it is used.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use sha2::Digest;

use super::git::{ASK, Call, FETCH, Git, LOCAL};
use super::{GitSource, Origin, SourceError};
use crate::engine::Engine;
use crate::engine::cancel::Cancel;
use crate::engine::error::EngineError;
use crate::engine::project::{DesiredProject, ProjectRecord, lock};
use crate::spec::names::ProjectName;
use crate::sys::atomic::{self, Durability};
use crate::sys::lock::{Lock, Mode};

/// The one ref of our repositories.
const FETCHED: &str = "refs/stack/fetched";

/// A revision that lies ready; stays at least until this is dropped.
#[derive(Debug)]
pub struct Checkout {
    /// Top of its files, absolute, without a link.
    pub tree: PathBuf,
    /// The directory asked for, in `tree`.
    pub directory: PathBuf,
    /// Where it comes from.
    pub origin: Origin,
    _used: Lock,
}

impl Checkout {
    /// Fails where `path` leads out of the tree through a link; what is not there leads nowhere.
    pub fn contains(&self, path: &Path) -> Result<(), EngineError> {
        within(&self.tree, path, &self.origin.url)?;
        Ok(())
    }
}

/// What ls-remote says of a ref.
enum Asked {
    /// It names this commit.
    Commit(String),
    /// It may name a commit that no ref names.
    Unlisted,
}

/// The directories of one repository.
struct Cache<'a> {
    git: Git<'a>,
    source: &'a GitSource,
    /// `<root>/cache/git/<key>`.
    directory: PathBuf,
}

impl Engine {
    /// Brings `source` here as it is now. Asks the repository what the ref names, fetches only what is not here.
    pub async fn fetch(
        &self,
        source: &GitSource,
        cancel: &Cancel,
    ) -> Result<Checkout, EngineError> {
        let cache = Cache {
            git: Git {
                environment: &self.environment,
                url: &source.url,
            },
            source,
            directory: self.repositories().join(key(&source.url.to_string())),
        };
        tokio::select! {
            fetched = cache.fetch() => fetched,
            () = cancel.cancelled() => Err(EngineError::Interrupted),
        }
    }

    /// Returns where the project was applied from last, if it was fetched from somewhere.
    pub fn applied(&self, project: &ProjectName) -> Result<Option<Origin>, EngineError> {
        let record = self.project_record(project)?;
        Ok(record.and_then(|record| record.source))
    }

    /// Removes the trees that nothing uses any more.
    pub fn sweep_sources(&self) -> Result<(), EngineError> {
        let caches = list(&self.repositories())?;
        if caches.is_empty() {
            return Ok(());
        }
        let mut used = String::new();
        for container in self.runtime.list()? {
            let text = serde_json::to_string(&container.record.config);
            let failed = |error: serde_json::Error| SourceError::Process(error.into());
            used.push_str(&text.map_err(failed)?);
            used.push('\n');
        }
        for record in self.project_records()? {
            if record.desired == DesiredProject::Up {
                for path in record.files.iter().chain([&record.directory]) {
                    used.push_str(&path.to_string_lossy());
                    used.push('\n');
                }
            }
        }
        for key in caches {
            self.sweep(&key, &used)?;
        }
        Ok(())
    }

    /// Returns where the tree that holds `directory` comes from, if it is one of ours.
    pub(crate) fn origin(&self, directory: &Path) -> Result<Option<Origin>, EngineError> {
        // <key>/trees/<commit>/<name>/…
        let Ok(below) = directory.strip_prefix(self.repositories()) else {
            return Ok(None);
        };
        let tree: PathBuf = below.components().take(3).collect();
        let path = self.repositories().join(tree).join("source.json");
        Ok(Some(read_origin(&path)?))
    }

    fn repositories(&self) -> PathBuf {
        self.roots.root.join("cache/git")
    }

    /// Sweeps the trees of one repository; not while somebody fetches from it.
    fn sweep(&self, key: &str, used: &str) -> Result<(), EngineError> {
        let directory = self.repositories().join(key);
        let path = directory.join("lock");
        let Some(_lock) = Lock::try_acquire(&path, Mode::Exclusive)
            .map_err(|error| SourceError::file("lock", &path, error))?
        else {
            return Ok(());
        };
        let trees = directory.join("trees");
        for name in list(&trees)? {
            let Some(commit) = name.strip_suffix(".lock") else {
                continue;
            };
            // The keys of the two directories are digits, so that this part of a path reads the same in every notation.
            if used.contains(&format!("cache/git/{key}/trees/{commit}/")) {
                continue;
            }
            let path = trees.join(&name);
            let Some(_alone) = Lock::try_acquire(&path, Mode::Exclusive)
                .map_err(|error| SourceError::file("lock", &path, error))?
            else {
                continue;
            };
            remove(&trees.join(commit))?;
            fs_err::remove_file(&path)
                .map_err(|error| SourceError::file("remove", &path, error))?;
        }
        Ok(())
    }

    fn project_records(&self) -> Result<Vec<ProjectRecord>, EngineError> {
        let mut records = Vec::new();
        for file in list(&self.roots.root.join("projects"))? {
            let name = file.strip_suffix(".json").map(ProjectName::new);
            if let Some(Ok(name)) = name {
                records.extend(self.project_record(&name)?);
            }
        }
        Ok(records)
    }
}

impl Cache<'_> {
    async fn fetch(&self) -> Result<Checkout, EngineError> {
        make(&self.directory)?;
        let _lock = lock(self.directory.join("lock")).await?;
        let reference = self.source.reference.as_deref();
        let commit = match reference.filter(|reference| is_commit(reference)) {
            Some(commit) if self.tree(commit).exists() => commit.to_owned(),
            Some(commit) => self.fetch_commit(commit).await?,
            None => match self.ask().await? {
                (_, Asked::Commit(commit)) if self.tree(&commit).exists() => commit,
                (name, Asked::Commit(_) | Asked::Unlisted) => self.fetch_ref(&name).await?,
            },
        };
        make(&self.directory.join("trees"))?;
        // Before the tree is there, so that each tree has its lock, which is what sweeping goes by.
        let path = self.directory.join("trees").join(format!("{commit}.lock"));
        let used = Lock::acquire(&path, Mode::Shared)
            .map_err(|error| SourceError::file("lock", &path, error))?;
        if !self.tree(&commit).exists() {
            self.check_out(&commit).await?;
        }
        self.open(commit, used)
    }

    fn tree(&self, commit: &str) -> PathBuf {
        self.directory.join("trees").join(commit)
    }

    fn repository(&self) -> PathBuf {
        self.directory.join("repository")
    }

    fn url(&self) -> String {
        self.source.url.to_string()
    }

    /// Asks the repository for the ref; returns its full name and what it names. A branch comes before a tag.
    async fn ask(&self) -> Result<(String, Asked), SourceError> {
        let names = match self.source.reference.as_deref() {
            None | Some("HEAD") => vec!["HEAD".to_owned()],
            Some(full) if full.starts_with("refs/") => vec![full.to_owned()],
            Some(short) => vec![format!("refs/heads/{short}"), format!("refs/tags/{short}")],
        };
        let mut arguments = vec![
            "ls-remote".to_owned(),
            "--quiet".to_owned(),
            "--".to_owned(),
        ];
        arguments.push(self.source.url.as_str().to_owned());
        for name in &names {
            arguments.extend([name.clone(), format!("{name}^{{}}")]);
        }
        let call = local_call("fetch", &self.directory, ASK);
        let listed = self
            .git
            .require(
                &Call {
                    remote: true,
                    ..call
                },
                &arguments,
            )
            .await?;
        let listed: BTreeMap<&str, &str> = listed
            .lines()
            .filter_map(|line| line.split_once('\t'))
            .map(|(commit, name)| (name, commit))
            .collect();
        for name in names {
            // An annotated tag is an object of its own; what it is of comes after `^{}`.
            let peeled = listed.get(format!("{name}^{{}}").as_str());
            if let Some(commit) = peeled.or_else(|| listed.get(name.as_str())) {
                let asked = if is_commit(commit) {
                    Asked::Commit((*commit).to_owned())
                } else {
                    Asked::Unlisted
                };
                return Ok((name, asked));
            }
        }
        match &self.source.reference {
            None => Err(SourceError::Empty { url: self.url() }),
            Some(reference) => Err(SourceError::NoRef {
                url: self.url(),
                reference: reference.clone(),
            }),
        }
    }

    /// Fetches what a full ref names and returns its commit, which may be a newer one than was asked about.
    async fn fetch_ref(&self, name: &str) -> Result<String, SourceError> {
        self.make_repository().await?;
        let refspec = format!("+{name}:{FETCHED}");
        let arguments = self.fetching(&["--depth=1"], &[&refspec]);
        let repository = self.repository();
        let call = local_call("fetch", &repository, FETCH);
        self.git
            .require(
                &Call {
                    remote: true,
                    ..call
                },
                &arguments,
            )
            .await?;
        self.commit_of(FETCHED)
            .await?
            .ok_or_else(|| SourceError::NoRef {
                url: self.url(),
                reference: name.to_owned(),
            })
    }

    /// Fetches a commit by its digits; from a server that gives only what a ref names, everything is fetched to find it.
    async fn fetch_commit(&self, commit: &str) -> Result<String, SourceError> {
        self.make_repository().await?;
        let repository = self.repository();
        let call = local_call("fetch", &repository, FETCH);
        let remote = Call {
            remote: true,
            ..call
        };
        let refspec = format!("+{commit}:{FETCHED}");
        let arguments = self.fetching(&["--depth=1"], &[&refspec]);
        let alone = self.git.run(&remote, &arguments).await?;
        if !alone.success {
            let depth: &[&str] = if repository.join("shallow").exists() {
                &["--unshallow"]
            } else {
                &[]
            };
            let all = [
                "+refs/heads/*:refs/stack/heads/*",
                "+refs/tags/*:refs/stack/tags/*",
            ];
            self.git
                .require(&remote, &self.fetching(depth, &all))
                .await?;
        }
        self.commit_of(commit)
            .await?
            .ok_or_else(|| SourceError::NoRef {
                url: self.url(),
                reference: commit.to_owned(),
            })
    }

    /// Returns the arguments of a fetch: what comes from outside stands after `--`.
    fn fetching(&self, depth: &[&str], refspecs: &[&str]) -> Vec<String> {
        let options = [
            "--git-dir=.",
            "fetch",
            "--quiet",
            "--force",
            "--no-tags",
            "--no-recurse-submodules",
            "--no-write-fetch-head",
        ];
        let after = ["--", self.source.url.as_str()];
        let all = options.iter().chain(depth).chain(&after).chain(refspecs);
        all.map(|argument| (*argument).to_owned()).collect()
    }

    /// Returns the commit that a name means in our repository.
    async fn commit_of(&self, name: &str) -> Result<Option<String>, SourceError> {
        let repository = self.repository();
        let call = local_call("read", &repository, LOCAL);
        let commit = format!("{name}^{{commit}}");
        let arguments = [
            "--git-dir=.",
            "rev-parse",
            "--verify",
            "--quiet",
            "--end-of-options",
            &commit,
        ];
        let said = self.git.run(&call, &arguments).await?;
        let commit = said.output.trim();
        Ok((said.success && is_commit(commit)).then(|| commit.to_owned()))
    }

    /// Makes our repository, where it is missing, and keeps it from growing without end.
    async fn make_repository(&self) -> Result<(), SourceError> {
        let repository = self.repository();
        let call = local_call("fetch", &self.directory, LOCAL);
        if !repository.join("HEAD").exists() {
            // Without a template there is no hook in it.
            let arguments = [
                "init",
                "--quiet",
                "--bare",
                "--template=",
                "--",
                "repository",
            ];
            self.git.require(&call, &arguments).await?;
        }
        let call = local_call("fetch", &repository, LOCAL);
        // Only refs keep anything, and there are few: each fetch adds a pack, some fifty of them become one.
        let settings = ["gc.auto=6700", "gc.autoDetach=false", "gc.pruneExpire=now"];
        let settings = settings.iter().flat_map(|setting| ["-c", setting]);
        let arguments: Vec<&str> = settings
            .chain(["--git-dir=.", "gc", "--auto", "--quiet"])
            .collect();
        self.git.require(&call, &arguments).await?;
        Ok(())
    }

    /// Writes the files of a commit, whole or not at all. No hook runs and no filter: only the program's own plumbing is called.
    async fn check_out(&self, commit: &str) -> Result<(), EngineError> {
        let new = self.directory.join("trees/.new");
        remove(&new)?;
        let files = new.join(self.source.url.name());
        make(&files)?;
        let (repository, index) = (self.repository(), new.join("index"));
        let variables = [
            ("GIT_DIR", repository.as_path()),
            ("GIT_WORK_TREE", files.as_path()),
            ("GIT_INDEX_FILE", index.as_path()),
        ];
        let call = Call {
            variables: &variables,
            ..local_call("check out", &files, LOCAL)
        };
        self.git.require(&call, &["read-tree", commit]).await?;
        let arguments = ["checkout-index", "--all", "--force", "--quiet"];
        self.git.require(&call, &arguments).await?;
        fs_err::remove_file(&index).map_err(|error| SourceError::file("remove", &index, error))?;
        let origin = Origin {
            version: 1,
            url: self.url(),
            revision: commit.to_owned(),
        };
        let path = new.join("source.json");
        let written = serde_json::to_vec(&origin)
            .map_err(io::Error::from)
            .and_then(|bytes| atomic::write(&path, &bytes, 0o600, Durability::Cached))
            .and_then(|()| Ok(rustix::fs::syncfs(&fs_err::File::open(&new)?)?));
        written.map_err(|error| SourceError::file("write", &path, error))?;
        let tree = self.tree(commit);
        fs_err::rename(&new, &tree).map_err(|error| SourceError::file("make", &tree, error))?;
        Ok(())
    }

    /// Returns a tree that is there, at the directory asked for.
    fn open(&self, commit: String, used: Lock) -> Result<Checkout, EngineError> {
        let origin = read_origin(&self.tree(&commit).join("source.json"))?;
        let top = self.tree(&commit).join(self.source.url.name());
        let tree =
            fs_err::canonicalize(&top).map_err(|error| SourceError::file("read", &top, error))?;
        let directory = tree.join(&self.source.directory);
        let found = within(&tree, &directory, &self.url())?;
        match found.filter(|found| found.is_dir()) {
            Some(directory) => Ok(Checkout {
                tree,
                directory,
                origin,
                _used: used,
            }),
            None => Err(SourceError::NoDirectory {
                url: self.url(),
                directory: self.source.directory.clone(),
                revision: commit,
            }
            .into()),
        }
    }
}

/// Describes a call without configuration of the user's.
fn local_call<'c>(
    attempted: &'static str,
    directory: &'c Path,
    limit: std::time::Duration,
) -> Call<'c> {
    Call {
        attempted,
        directory,
        remote: false,
        variables: &[],
        limit,
    }
}

/// Follows links and returns where `path` leads, `None` where to nothing; fails where that is outside of `tree`.
fn within(tree: &Path, path: &Path, url: &str) -> Result<Option<PathBuf>, SourceError> {
    match fs_err::canonicalize(path) {
        Ok(real) if real.starts_with(tree) => Ok(Some(real)),
        Ok(_) => Err(SourceError::Escapes {
            url: url.to_owned(),
            path: path.strip_prefix(tree).unwrap_or(path).to_owned(),
        }),
        Err(error) => match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Ok(None),
            _ => Err(SourceError::file("read", path, error)),
        },
    }
}

/// Whether `text` is a whole object id: SHA-1 or SHA-256 in hexadecimal digits.
fn is_commit(text: &str) -> bool {
    let is_hex = text
        .bytes()
        .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    is_hex && matches!(text.len(), 40 | 64)
}

/// Returns the name of a repository's directory: 16 hexadecimal digits.
fn key(url: &str) -> String {
    let digest = sha2::Sha256::digest(url.as_bytes());
    let bytes = digest.iter().take(8);
    bytes.fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

fn read_origin(path: &Path) -> Result<Origin, SourceError> {
    let read = fs_err::read(path).and_then(|bytes| Ok(serde_json::from_slice(&bytes)?));
    read.map_err(|error| SourceError::file("read", path, error))
}

/// Makes a directory with its parents, for its owner only above what is there.
fn make(directory: &Path) -> Result<(), SourceError> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(directory)
        .map_err(|error| SourceError::file("make", directory, error))
}

/// Removes a directory with all in it, if it is there.
fn remove(directory: &Path) -> Result<(), SourceError> {
    crate::sys::remove::tree(directory)
        .map_err(|error| SourceError::file("remove", directory, error))
}

/// Returns the names in a directory; none where it is missing.
fn list(directory: &Path) -> Result<Vec<String>, SourceError> {
    let entries = match fs_err::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(|error| SourceError::file("read", directory, error))?,
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|error| SourceError::file("read", directory, error))?;
        names.extend(entry.file_name().into_string());
    }
    names.sort();
    Ok(names)
}
