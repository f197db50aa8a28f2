//! Images: references, registries, the store, unpacking, Dockerfiles, building.
//!
//! This room never says which larger application an image is for, and never runs a container itself: the builder hands
//! its steps to a [`build::StepRunner`] that the engine implements.
//!
//! Reading order: [`mod@reference`] (names), [`manifest`] (documents), [`store`] (on disk), [`unpack`] (tar to files),
//! [`registry`] (from afar), `pull`, `push`, [`import`].

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub mod archive;
mod beside;
pub mod boolean;
pub mod build;
pub mod commit;
pub mod dockerfile;
pub mod error;
pub mod filter;
pub mod flatten;
pub mod history;
pub mod import;
pub mod manifest;
pub mod progress;
mod pull;
mod push;
pub mod reference;
pub mod registry;
pub mod remove;
pub mod stop;
pub mod store;
#[cfg(test)]
pub(crate) mod testing;
pub mod unpack;

pub use archive::load::Loaded;
use build::CacheMount;
use build::cache::Cache;
use build::remote::{Asked, Fetched, shown};
pub use commit::{Changes, CommitOptions};
pub use error::ImageError;
pub use import::{Change, ImportOptions};
pub use manifest::{ImageConfig, Platform};
pub use progress::{BlobState, Progress, Silent};
use pull::Naming;
pub use pull::{Pulled, remote_digest};
pub use push::{PushChoices, Pushed};
pub use reference::{Digest, Reference, ReferenceError};
use registry::Client;
pub use registry::ClientEnvironment;
use registry::transport::Http;
pub use remove::{ImageUser, Removal, RemoveConflict};
pub use stop::Stop;
pub use store::{
    BegunUse, Checked, Collected, Finding, Hold, Image, ImageSummary, Known, Packing, Removing,
    Reserved, Store, StoreError,
};

/// What the store takes.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Sizes {
    /// Every image.
    pub images: Vec<Known>,
    /// Bytes of the layers of all images, by diff id.
    pub layers: BTreeMap<Digest, u64>,
    /// Bytes of the layers that the build cache has, by diff id; images may have them too.
    pub cached: BTreeMap<Digest, u64>,
    /// Bytes of the packed forms that are kept of any of those layers, by diff id: as pulled, or as pushed.
    pub packed: BTreeMap<Digest, u64>,
    /// Cache mounts of builds, and whether a build uses each.
    pub mounts: Vec<(CacheMount, bool)>,
    /// Bytes of what else the build cache remembers.
    pub notes: u64,
}

/// The images below one root, and the way to registries.
#[derive(Debug)]
pub struct Images {
    /// Threads of a build share it.
    store: Arc<Store>,
    environment: ClientEnvironment,
    http: Http,
}

impl Images {
    /// Opens the store below `root`, made if missing.
    pub fn open(root: &Path, environment: ClientEnvironment) -> Result<Self, ImageError> {
        Ok(Self {
            store: Arc::new(Store::open(root)?),
            http: Http::new(environment.retry.stall),
            environment,
        })
    }

    /// Returns the store, for the builder.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Returns the store, for a thread.
    pub(crate) fn shared_store(&self) -> Arc<Store> {
        Arc::clone(&self.store)
    }

    /// Finds the image of a name or digest.
    pub fn resolve(&self, reference: &Reference) -> Result<Option<Image>, ImageError> {
        Ok(self.store.resolve(reference)?)
    }

    /// Finds the image of exactly this id (`sha256:<hex>`), which no name can stand for.
    pub fn find_id(&self, id: &str) -> Result<Option<Image>, ImageError> {
        match Digest::parse(id) {
            Ok(id) => Ok(self.store.image_of(&id)?),
            Err(_) => Ok(None),
        }
    }

    /// Finds the image of a name, a digest or the first digits of an id.
    pub fn find(&self, text: &str) -> Result<Option<Image>, ImageError> {
        Ok(self.store.find(text)?)
    }

    /// As [`Images::find`], and for a platform: of several images the best; `None` where nothing suits it.
    pub fn find_for(&self, text: &str, platform: &Platform) -> Result<Option<Image>, ImageError> {
        Ok(self.store.find_for(text, platform)?)
    }

    /// Gets an image from its registry, whatever the store has under that name.
    pub async fn pull(
        &self,
        reference: &Reference,
        platform: &Platform,
        progress: &dyn Progress,
    ) -> Result<Image, ImageError> {
        let pulled = self.fetch(reference, platform, progress).await?;
        Ok(pulled.image)
    }

    /// The same, but what has that name here keeps it: an image for another platform of the same index shares it.
    pub(crate) async fn pull_beside(
        &self,
        reference: &Reference,
        platform: &Platform,
        progress: &dyn Progress,
    ) -> Result<Image, ImageError> {
        let pulled = self.fetch_as(reference, (platform, Naming::Keep), progress);
        Ok(pulled.await?.image)
    }

    /// The same, and says what came of it.
    pub async fn fetch(
        &self,
        reference: &Reference,
        platform: &Platform,
        progress: &dyn Progress,
    ) -> Result<Pulled, ImageError> {
        let wanted = (platform, Naming::Take);
        self.fetch_as(reference, wanted, progress).await
    }

    async fn fetch_as(
        &self,
        reference: &Reference,
        wanted: (&Platform, Naming),
        progress: &dyn Progress,
    ) -> Result<Pulled, ImageError> {
        let client = self.registry_client();
        let client = client.map_err(|source| ImageError::Pull {
            reference: reference.familiar(),
            source: Box::new(source),
        })?;
        let pulled = Box::pin(pull::pull(
            &self.store,
            &client,
            reference,
            wanted,
            progress,
        ))
        .await;
        tell_warnings(&client, progress);
        pulled
    }

    /// Returns a client of registries.
    fn registry_client(&self) -> Result<Client<'_>, registry::RegistryError> {
        Client::new(&self.http, &self.environment)
    }

    /// Lists the tags that a reference's repository has in its registry.
    pub async fn remote_tags(&self, reference: &Reference) -> Result<Vec<String>, ImageError> {
        let failed = |source| ImageError::Tags {
            repository: reference.familiar_repository(),
            source: Box::new(source),
        };
        let client = self.registry_client().map_err(failed)?;
        pull::tags(&client, reference).await.map_err(failed)
    }

    /// Brings an image to its registry, under the tag it has here.
    pub async fn push(
        &self,
        reference: &Reference,
        options: &PushChoices,
        progress: &dyn Progress,
    ) -> Result<Pushed, ImageError> {
        let client = self.registry_client();
        let client = client.map_err(|source| ImageError::Push {
            reference: reference.familiar(),
            source: Box::new(source),
        })?;
        let pushed = Box::pin(push::push(
            &self.store,
            &client,
            reference,
            options,
            progress,
        ))
        .await;
        tell_warnings(&client, progress);
        pushed
    }

    /// Lists the tags that a reference's repository has here; fails where there are none.
    pub fn local_tags(&self, reference: &Reference) -> Result<Vec<String>, ImageError> {
        push::local_tags(&self.store, reference)
    }

    /// Makes an image of a root file system tar (plain, gzip or zstd).
    pub fn import(
        &self,
        reader: impl std::io::Read + Send,
        reference: Option<&Reference>,
        options: &ImportOptions,
    ) -> Result<Image, ImageError> {
        import::import_from(&self.store, reader, "-", reference, options)
    }

    /// As [`Images::import`], of a tar that lies elsewhere.
    pub async fn import_url(
        &self,
        url: &str,
        reference: Option<&Reference>,
        options: &ImportOptions,
    ) -> Result<Image, ImageError> {
        let staging = self.store.staging()?;
        let fetched = Fetched::get(&self.http, Asked::of(url), staging.directory()).await;
        let fetched = fetched.map_err(|error| ImageError::ImportUrl(Box::new(error)))?;
        let path = staging.directory().join("body");
        let path = fetched.path.unwrap_or(path);
        let file = fs_err::File::open(&path).map_err(StoreError::io("open", &path))?;
        import::import_from(&self.store, file, &shown(url), reference, options)
    }

    /// Copies what the overlay upper directory `upper`, which must hold still, has, unless it is stopped.
    pub fn changes(&self, upper: &Path, stop: &Stop) -> Result<Changes, ImageError> {
        commit::changes(&self.store, upper, stop)
    }

    /// Makes an image of `base` and what was changed of it.
    pub fn commit(
        &self,
        base: &Image,
        changes: &Changes,
        options: &CommitOptions,
    ) -> Result<Image, ImageError> {
        commit::commit(&self.store, base, changes, options)
    }

    /// Looks for damage; with `repair` mends what can be mended from what is here.
    pub fn check(&self, repair: bool) -> Result<Checked, ImageError> {
        Ok(self.store.check(repair)?)
    }

    /// Returns the layers that each image and the build cache have, with their sizes in bytes.
    pub fn sizes(&self) -> Result<Sizes, ImageError> {
        let size = |diff_id: &Digest| -> Result<u64, ImageError> {
            let layer = self.store.layer(diff_id)?;
            Ok(layer.map_or(0, |layer| layer.size_bytes))
        };
        let mut sizes = Sizes::default();
        for known in self.known()? {
            for diff_id in known.layers() {
                sizes.layers.insert(diff_id.clone(), size(diff_id)?);
            }
            sizes.images.push(known);
        }
        for diff_id in self.cached()? {
            if self.store.layer(&diff_id)?.is_some() {
                let bytes = size(&diff_id)?;
                sizes.cached.insert(diff_id, bytes);
            }
        }
        for diff_id in sizes.layers.keys().chain(sizes.cached.keys()) {
            let bytes = self.store.packed_bytes(diff_id)?;
            sizes.packed.insert(diff_id.clone(), bytes);
        }
        (sizes.mounts, sizes.notes) = self.cache_sizes()?;
        Ok(sizes)
    }

    /// Lists every name, and every image without one, newest first.
    pub fn list(&self) -> Result<Vec<ImageSummary>, ImageError> {
        Ok(self.store.list()?)
    }

    /// Returns every image with its names, newest first.
    pub fn known(&self) -> Result<Vec<Known>, ImageError> {
        Ok(self.store.known()?)
    }

    /// Returns the images that fit every filter, with the names that fit, newest first.
    pub fn select(&self, filters: &[filter::Filter]) -> Result<Vec<Known>, ImageError> {
        let created = |asked: &str| Ok(filter::created_of(&self.find_known(asked)?));
        filter::select(self.known()?, filters, created)
    }

    /// Returns how an image came to be, the last step first.
    pub fn history(&self, image: &Image) -> Result<Vec<history::Step>, ImageError> {
        let mut sizes = Vec::new();
        for diff_id in &image.layers {
            let layer = self.store.layer(diff_id)?;
            sizes.push(layer.map_or(0, |layer| layer.size_bytes));
        }
        Ok(history::steps(&image.config, &sizes))
    }

    /// Finds the image of a name, a digest or the first digits of an id, with all that is known of it.
    pub fn find_known(&self, text: &str) -> Result<Known, ImageError> {
        let known = self.store.find_known(text)?;
        known.ok_or_else(|| ImageError::NoSuchImage {
            text: text.to_owned(),
        })
    }

    /// Points `reference` to the image that `source` names.
    pub fn tag(&self, source: &str, reference: &Reference) -> Result<(), ImageError> {
        let known = self.find_known(source)?;
        Ok(self.store.tag_known(&known, reference)?)
    }

    /// Writes images into one tar, which is a docker-archive and an OCI layout. Of `platform` they must be, where given.
    pub fn save(
        &self,
        asked: &[String],
        platform: Option<&Platform>,
        sink: impl std::io::Write,
    ) -> Result<(), ImageError> {
        Ok(archive::save::save(&self.store, asked, platform, sink)?)
    }

    /// Loads the images of an archive: docker-archive or OCI layout, plain, gzip or zstd. Of one for several machines, what is for
    /// `platform`, or for this one.
    pub fn load(
        &self,
        source: impl std::io::Read + Send + 'static,
        platform: Option<&Platform>,
        told: archive::load::Told<'_>,
    ) -> Result<Vec<Loaded>, ImageError> {
        Ok(archive::load::load(&self.store, source, platform, told)?)
    }

    /// Does what [`remove::decide`] decided. Returns the layers that nobody holds any more, by chain id, the top first; with
    /// `collect` they go at once, unless a pull, import or build is running.
    pub fn remove(
        &self,
        known: &Known,
        removal: &Removal,
        collect: bool,
    ) -> Result<Vec<Digest>, ImageError> {
        let Removal {
            names,
            digests,
            forget,
        } = removal;
        // What cannot be read is told before anything is gone.
        let cached = self.cached()?;
        self.store.unname(&known.id, names, digests, *forget)?;
        if !forget {
            return Ok(Vec::new());
        }
        let freed = self.store.freed(known, &cached)?;
        if collect {
            self.collect()?;
        }
        Ok(freed)
    }

    /// Writes an image that was built, which need not be known, into a tar as [`Images::save`] does.
    pub fn save_built(
        &self,
        built: &build::Built,
        names: &[Reference],
        sink: impl std::io::Write,
    ) -> Result<(), ImageError> {
        let image = (&built.image, &built.target);
        Ok(archive::save::save_built(&self.store, image, names, sink)?)
    }

    /// Keeps garbage collection away until what is returned is dropped.
    pub fn hold(&self) -> Result<Hold, ImageError> {
        Ok(self.store.hold()?)
    }

    /// Removes what no image, container or build step's result holds, unless a pull, import or build is running.
    pub fn collect(&self) -> Result<Collected, ImageError> {
        Ok(self.store.collect(&self.cached()?)?)
    }

    /// Removes downloads that broke off and that nobody goes on with now; returns their bytes.
    pub fn remove_partials(&self) -> Result<u64, ImageError> {
        Ok(self.store.remove_partials()?)
    }

    /// Returns the layers that the build cache holds.
    fn cached(&self) -> Result<BTreeSet<Digest>, ImageError> {
        let cache = Cache::below(self.store.root());
        let path = self.store.root().join("cache");
        let layers = cache.layers().map_err(StoreError::io("read", &path));
        Ok(layers?)
    }

    /// Returns the overlay lower directories, top-most first.
    pub fn layer_directories(&self, image: &Image) -> Vec<PathBuf> {
        self.store.layer_directories(&image.layers)
    }

    /// Makes room for what a removal has to write, where the disk is full; [`Images::fill_reserve`] is to follow.
    pub fn make_room(&self) -> Result<(), ImageError> {
        Ok(self.store.make_room()?)
    }

    /// Puts something by again for the next time that the disk is full, where there is room for it.
    pub fn fill_reserve(&self) -> Result<(), ImageError> {
        Ok(self.store.fill_reserve()?)
    }

    /// Keeps other removals of images away, which are to be told of what this one leaves.
    pub fn removing(&self) -> Result<Removing, ImageError> {
        Ok(self.store.removing()?)
    }

    /// Makes sure that nobody begins to use the image `id` while it is removed; `None` where somebody has begun.
    pub fn try_reserve(
        &self,
        removing: &Removing,
        id: &Digest,
    ) -> Result<Option<Reserved>, ImageError> {
        Ok(self.store.try_reserve(removing, id)?)
    }

    /// Keeps the image `id` from removal until there is a container of it; waits for a removal that is going on.
    pub fn begin_use(&self, id: &Digest) -> Result<BegunUse, ImageError> {
        Ok(self.store.begin_use(id)?)
    }

    /// Keeps `image` from garbage collection for `holder` (`[A-Za-z0-9._-]+`), replacing what it held.
    pub fn lease(&self, holder: &str, image: &Image) -> Result<(), ImageError> {
        Ok(self.store.lease(holder, image)?)
    }

    /// Whether `holder` has a lease that reached the disk.
    pub fn is_leased(&self, holder: &str) -> Result<bool, ImageError> {
        Ok(self.store.is_leased(holder)?)
    }

    /// Returns who holds images.
    pub fn holders(&self) -> Result<Vec<String>, ImageError> {
        Ok(self.store.holders()?)
    }

    /// Ends a lease, if there is one.
    pub fn release(&self, holder: &str) -> Result<(), ImageError> {
        Ok(self.store.release(holder)?)
    }
}

/// Tells what registries warned of (distribution-spec: `Warning` headers are for people).
fn tell_warnings(client: &Client<'_>, progress: &dyn Progress) {
    for warning in client.warnings() {
        progress.warning(&warning);
    }
}
