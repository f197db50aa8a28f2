//! Where a build takes files from that are no stage: its context, and named ones.

use std::cell::RefCell;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use sha2::{Digest as _, Sha256};

use super::super::Images;
use super::super::archive::load::LayoutImage;
use super::super::reference::Reference;
use super::super::store::Staging;
use super::archive;
use super::builder::Build;
use super::cache::Cache;
use super::context::{self, FileIndex, Origin, Owners, Selected, hex};
use super::copy::{Destination, Filling, Owner};
use super::elsewhere::RemoteContext;
use super::error::{BuildError, StepFailure};
use super::mounts::copy_into;
use super::pattern::{self, IgnoreRules};
use super::tree::Tree;

/// What a named context is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NamedContext {
    /// A directory of the machine; whether its own `.dockerignore` counts.
    Directory(PathBuf),
    /// An image.
    Image(Reference),
    /// A repository or a file, fetched where a step needs it.
    Remote(RemoteContext),
    /// An image of an OCI layout.
    Layout(LayoutImage),
}

/// A directory that `COPY`, `ADD` and mounts take from.
#[derive(Debug)]
pub(super) struct Local {
    pub(super) tree: Tree,
    pub(super) ignore: IgnoreRules,
    pub(super) index: RefCell<FileIndex>,
    /// For messages: `the build context`.
    pub(super) name: String,
}

/// A part of a context as steps see it.
#[derive(Debug)]
pub(super) struct ContextCopy {
    pub(super) staging: Staging,
    /// Whether files changed between their hashing and their copying.
    pub(super) is_unsteady: bool,
}

/// A context that was made for one build; dropped, it is removed.
#[derive(Debug)]
pub struct Spooled {
    staging: Staging,
    /// Where it is, if not all of the staging directory's.
    directory: Option<PathBuf>,
    /// The Dockerfile, where there was nothing else.
    pub dockerfile: Option<String>,
}

impl Spooled {
    /// Returns the context's directory.
    pub fn directory(&self) -> PathBuf {
        let whole = || self.staging.diff();
        self.directory.clone().unwrap_or_else(whole)
    }

    /// Says where a context lies that is kept by `staging`.
    pub(super) fn new(
        staging: Staging,
        directory: Option<PathBuf>,
        dockerfile: Option<String>,
    ) -> Self {
        Self {
            staging,
            directory,
            dockerfile,
        }
    }

    /// Takes what a file holds, a file of `staging`: a tar archive, also compressed, or a Dockerfile alone.
    pub(super) fn open(staging: Staging, path: &Path) -> Result<Self, BuildError> {
        let failed = |source| BuildError::Spool { source };
        let kind = archive::kind_of(path).map_err(failed)?;
        let Some(tar) = archive::open(path, kind).map_err(failed)? else {
            let mut text = String::new();
            let file = fs_err::File::open(path).map_err(failed)?;
            let mut file = file.take(MAX_DOCKERFILE);
            file.read_to_string(&mut text).map_err(failed)?;
            return Ok(Self::new(staging, None, Some(text)));
        };
        let mut filling = Filling::new(&staging.diff(), &[]);
        let root = Destination {
            path: PathBuf::from("/"),
            is_directory: true,
        };
        filling
            .unpack(tar, &root, Some(Owner::ROOT))
            .map_err(failed)?;
        filling.finish().map_err(failed)?;
        fs_err::remove_file(path).map_err(failed)?;
        Ok(Self::new(staging, None, None))
    }
}

/// Bytes of the largest Dockerfile that is read from a stream.
const MAX_DOCKERFILE: u64 = 16 << 20;

impl Images {
    /// Takes a context from a stream: a tar archive, also compressed, or a Dockerfile alone.
    pub fn spool_context(&self, reader: &mut dyn Read) -> Result<Spooled, BuildError> {
        let staging = self.store().staging()?;
        let path = staging.directory().join("context");
        let failed = |source| BuildError::Spool { source };
        let mut file = fs_err::File::create(&path).map_err(failed)?;
        std::io::copy(reader, &mut file).map_err(failed)?;
        drop(file);
        Spooled::open(staging, &path)
    }
}

impl Local {
    /// Opens a directory, which must be without links; with a cache the hashes of its files are kept.
    pub(super) fn open(
        cache: Option<&Cache>,
        path: &Path,
        ignore: IgnoreRules,
        name: &str,
    ) -> Result<Self, BuildError> {
        let index = match cache {
            Some(cache) => FileIndex::open(&cache.files(), path).map_err(BuildError::Cache)?,
            None => FileIndex::none(),
        };
        Ok(Self {
            tree: Tree::directory(path),
            ignore,
            index: RefCell::new(index),
            name: name.to_owned(),
        })
    }
}

impl Local {
    /// Finds a source, a path and no pattern, with a digest.
    pub(super) fn select(&self, source: &str) -> Result<(Vec<Selected>, String), StepFailure> {
        let origin = self.origin();
        let path = PathBuf::from(pattern::clean(source));
        let selected = origin.take_path(&path, &IgnoreRules::default())?;
        let mut hash = Sha256::new();
        let mut index = self.index.borrow_mut();
        context::hash_selected(&mut hash, &selected, Owners::Ignored, &mut index)?;
        Ok((selected, hex(&hash.finalize())))
    }

    /// Returns what may be taken from it.
    pub(super) fn origin(&self) -> Origin<'_> {
        Origin {
            tree: &self.tree,
            ignore: &self.ignore,
            name: &self.name,
        }
    }
}

impl Build<'_> {
    /// Returns a named context that is a directory, fetched if it is elsewhere; `None` where it is an image. No lock may be held.
    pub(super) async fn directory_context(
        &self,
        name: &str,
    ) -> Result<Option<Rc<Local>>, StepFailure> {
        let context = match self.request.contexts.get(name) {
            Some(NamedContext::Image(_) | NamedContext::Layout(_)) => return Ok(None),
            Some(context) => context,
            None => return Err(StepFailure::Invalid("its context was not given")),
        };
        let wrong = |error: BuildError| StepFailure::NamedContext {
            name: name.to_owned(),
            source: Box::new(error),
        };
        let (path, cache) = match context {
            NamedContext::Remote(remote) => {
                (self.fetched(name, remote).await.map_err(wrong)?, None)
            }
            NamedContext::Directory(path) => (path.clone(), Some(&self.cache)),
            NamedContext::Image(_) | NamedContext::Layout(_) => return Ok(None),
        };
        if let Some(known) = self.locals.borrow().get(name) {
            return Ok(Some(Rc::clone(known)));
        }
        let canonical = super::inputs::canonical_directory(&path).map_err(wrong)?;
        let ignore = match cache {
            Some(_) => super::inputs::read_ignore_of(&canonical, None).map_err(wrong)?,
            None => IgnoreRules::default(),
        };
        let shown = format!("context `{name}`");
        let local = Local::open(cache, &canonical, ignore, &shown).map_err(wrong)?;
        let local = Rc::new(local);
        let mut locals = self.locals.borrow_mut();
        locals.insert(name.to_owned(), Rc::clone(&local));
        Ok(Some(local))
    }

    /// Fetches a named context, once a build; returns where it lies.
    async fn fetched(&self, name: &str, remote: &RemoteContext) -> Result<PathBuf, BuildError> {
        let cell = Rc::clone(
            self.fetches
                .borrow_mut()
                .entry(name.to_owned())
                .or_default(),
        );
        let fetch = || self.images.fetch_named(remote, self.request.logins());
        let spooled = cell.get_or_try_init(fetch).await?;
        Ok(spooled.directory())
    }

    /// Copies what was selected of a context to where steps may see it; each once a build.
    pub(super) fn copy_of(
        &self,
        digest: &str,
        selected: &[Selected],
    ) -> Result<Rc<ContextCopy>, StepFailure> {
        if let Some(copy) = self.copies.borrow().get(digest) {
            return Ok(Rc::clone(copy));
        }
        let staging = self.store().staging()?;
        let changed = copy_into(selected, &staging.diff())?;
        self.warn_of_changes(&changed);
        let copy = Rc::new(ContextCopy {
            staging,
            is_unsteady: !changed.is_empty(),
        });
        let mut copies = self.copies.borrow_mut();
        copies.insert(digest.to_owned(), Rc::clone(&copy));
        Ok(copy)
    }

    /// Returns the content of a secret; `None` where it is not given and not required.
    pub(super) fn secret(&self, id: &str, required: bool) -> Result<Option<Vec<u8>>, StepFailure> {
        match self.request.secrets.get(id) {
            Some(source) => Ok(Some(source.read(id)?)),
            None if required => Err(StepFailure::NoSecret(id.to_owned())),
            None => Ok(None),
        }
    }

    /// Returns the socket of an ssh agent; `None` where it is not given and not required.
    pub(super) fn agent(&self, id: &str, required: bool) -> Result<Option<PathBuf>, StepFailure> {
        match self.request.agents.get(id) {
            Some(socket) => Ok(Some(socket.clone())),
            None if required => Err(StepFailure::NoAgent(id.to_owned())),
            None => Ok(None),
        }
    }
}
