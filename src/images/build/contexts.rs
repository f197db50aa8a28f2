//! Where a build takes files from that are no stage: its context, and named ones.

use std::io::{Read, Write as _};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;

use super::super::Images;
use super::super::archive::load::LayoutImage;
use super::super::reference::Reference;
use super::super::stop::Stop;
use super::super::store::Staging;
use super::archive;
use super::aside::{Aside, panicked};
use super::attest::Material;
use super::builder::Build;
use super::cache::Cache;
use super::context::{self, FileIndex, Origin, Owners, Selected, hex};
use super::copy::{Destination, Filling, Owner};
use super::elsewhere::RemoteContext;
use super::error::{BuildError, StepFailure};
use super::mounts::copy_into;
use super::pattern::IgnoreRules;
use super::tree::Tree;
use super::{DockerfileSource, FROM_STREAM};

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

/// Files that `COPY`, `ADD` and mounts take from: a directory, or layers.
#[derive(Debug)]
pub(super) struct Local {
    pub(super) tree: Tree,
    pub(super) ignore: IgnoreRules,
    pub(super) index: FileIndex,
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
    /// Where it is from.
    pub material: Option<Material>,
}

impl Spooled {
    /// Returns the context's directory.
    pub fn directory(&self) -> PathBuf {
        let whole = || self.staging.diff();
        self.directory.clone().unwrap_or_else(whole)
    }

    /// Returns the Dockerfile, where there was nothing else: what standard input gave, or the file of a URL.
    pub fn dockerfile_alone(&self) -> Option<DockerfileSource> {
        let is_fetched = self.material.is_some();
        Some(DockerfileSource::Text {
            name: if is_fetched {
                "Dockerfile"
            } else {
                FROM_STREAM
            },
            text: self.dockerfile.clone()?,
        })
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
            material: None,
        }
    }

    /// Says where it is from.
    pub(super) fn from(self, material: Material) -> Self {
        Self {
            material: Some(material),
            ..self
        }
    }

    /// Takes what a file holds, a file of `staging`: a tar archive, also compressed, or a Dockerfile alone.
    pub(super) fn open(staging: Staging, path: &Path, stop: &Stop) -> Result<Self, BuildError> {
        let failed = |source| BuildError::Spool { source };
        let kind = archive::kind_of(path).map_err(failed)?;
        let Some(tar) = archive::open(path, kind).map_err(failed)? else {
            let mut text = String::new();
            let file = fs_err::File::open(path).map_err(failed)?;
            let mut file = file.take(MAX_DOCKERFILE);
            file.read_to_string(&mut text).map_err(failed)?;
            return Ok(Self::new(staging, None, Some(text)));
        };
        let mut filling = Filling::plain(&staging.diff()).heeding(stop);
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
    /// Takes a context from a stream: a tar archive, also compressed, or a Dockerfile alone. Dropped, it waits for the stream no longer.
    pub async fn spool_context(&self, reader: Box<dyn Read + Send>) -> Result<Spooled, BuildError> {
        let staging = self.store().staging()?;
        let path = staging.directory().join("context");
        let failed = |source| BuildError::Spool { source };
        let mut file = fs_err::File::create(&path).map_err(failed)?;
        let (sender, mut chunks) = mpsc::channel(CHUNKS);
        // It owns nothing: a terminal that nobody types at may keep it for good.
        let reading = std::thread::Builder::new().spawn(move || read_chunks(reader, &sender));
        reading.map_err(failed)?;
        loop {
            let chunk = chunks.recv().await.unwrap_or_else(|| Err(panicked()));
            let chunk = chunk.map_err(failed)?;
            if chunk.is_empty() {
                break;
            }
            file.write_all(&chunk).map_err(failed)?;
        }
        drop(file);
        let aside = Aside::default();
        let spooled = aside.run(move |stop| Spooled::open(staging, &path, stop));
        spooled.await.map_err(failed)?
    }
}

/// Chunks of a stream that wait.
const CHUNKS: usize = 4;

/// Hands on what comes, to an empty chunk at the end.
fn read_chunks(mut reader: Box<dyn Read + Send>, sender: &mpsc::Sender<std::io::Result<Vec<u8>>>) {
    loop {
        let mut chunk = vec![0; 64 << 10];
        let read = match reader.read(&mut chunk) {
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            read => read,
        };
        let chunk = read.map(|count| {
            chunk.truncate(count);
            chunk
        });
        let is_last = chunk.as_ref().map_or(true, Vec::is_empty);
        if sender.blocking_send(chunk).is_err() || is_last {
            return;
        }
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
            index,
            name: name.to_owned(),
        })
    }

    /// Takes layers, top first.
    pub(super) fn layers(directories: Vec<PathBuf>, name: String) -> Self {
        Self {
            tree: Tree::layers(directories),
            ignore: IgnoreRules::default(),
            index: FileIndex::none(),
            name,
        }
    }
}

impl Local {
    /// Finds a source, a path and no pattern, with a digest.
    pub(super) async fn select(
        self: &Arc<Self>,
        aside: &Aside,
        source: &Path,
        owners: Owners,
    ) -> Result<(Arc<Vec<Selected>>, String), StepFailure> {
        let (local, path) = (Arc::clone(self), source.to_owned());
        let selected = aside.run(move |stop| {
            let origin = local.origin(stop);
            let selected = origin.take_path(&path, &IgnoreRules::default())?;
            let mut hash = Sha256::new();
            context::hash_selected(&mut hash, &selected, owners, &local.index, stop)?;
            Ok((Arc::new(selected), hex(&hash.finalize())))
        });
        selected.await?
    }

    /// Returns what may be taken from it, while `stop` does not ask to end.
    pub(super) fn origin<'a>(&'a self, stop: &'a Stop) -> Origin<'a> {
        Origin {
            tree: &self.tree,
            ignore: &self.ignore,
            name: &self.name,
            stop,
        }
    }
}

impl Build<'_> {
    /// Returns a named context that is a directory, fetched if it is elsewhere; `None` where it is an image. No lock may be held.
    pub(super) async fn directory_context(
        &self,
        name: &str,
    ) -> Result<Option<Arc<Local>>, StepFailure> {
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
            return Ok(Some(Arc::clone(known)));
        }
        let canonical = super::inputs::canonical_directory(&path).map_err(wrong)?;
        let ignore = match cache {
            Some(_) => super::inputs::read_ignore_of(&canonical, None).map_err(wrong)?,
            None => IgnoreRules::default(),
        };
        let shown = format!("context `{name}`");
        let local = Local::open(cache, &canonical, ignore, &shown).map_err(wrong)?;
        let local = Arc::new(local);
        let mut locals = self.locals.borrow_mut();
        locals.insert(name.to_owned(), Arc::clone(&local));
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
    pub(super) async fn copy_of(
        &self,
        digest: &str,
        selected: &Arc<Vec<Selected>>,
    ) -> Result<Rc<ContextCopy>, StepFailure> {
        let cell = Rc::clone(
            self.copies
                .borrow_mut()
                .entry(digest.to_owned())
                .or_default(),
        );
        let copy = || async {
            let (staging, selected) = (self.store().staging()?, Arc::clone(selected));
            let copied = self.aside.run(move |stop| {
                let changed = copy_into(&selected, &staging.diff(), stop)?;
                Ok::<_, StepFailure>((staging, changed))
            });
            let (staging, changed) = copied.await??;
            self.warn_of_changes(&changed);
            Ok::<_, StepFailure>(Rc::new(ContextCopy {
                staging,
                is_unsteady: !changed.is_empty(),
            }))
        };
        Ok(Rc::clone(cell.get_or_try_init(copy).await?))
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
