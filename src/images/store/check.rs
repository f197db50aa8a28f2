//! Looking for damage, and mending what can be mended from what is here.
//!
//! ```text
//! every blob     its content is hashed
//! every layer    its tree is packed again: the tar has its diff id, or is that of a fresh unpacking of one of its blobs
//! every record   can be read
//! index.json     can be read
//! every name     leads to a manifest, a configuration and layers that are here
//! ```
//!
//! With repair, what is damaged is set aside below `damaged/` (never deleted: a container may still use it, and somebody may want to
//! look), layers are made again of their blobs, and what cannot be is named, to be pulled again. An image without its documents is
//! nothing more than a name: it goes out of the index, which is kept there too.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read};
use std::path::PathBuf;

use sha2::Digest as _;

use super::super::manifest::{Descriptor, Document, parse_document};
use super::super::reference::Digest;
use super::super::unpack::pipeline::{ReaderChunks, run};
use super::layers::{Measured, chain_ids};
use super::leases::names;
use super::{LayerRecord, Member, Staging, Store, StoreError, index};

/// Something that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// `blob sha256:…`, `layer sha256:…`, `image busybox:latest`.
    pub subject: String,
    /// What is wrong.
    pub problem: String,
    /// What was done, or what is to be done.
    pub advice: String,
    /// Whether it is whole again.
    pub mended: bool,
}

/// What a check looked at and found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Checked {
    /// Files that were hashed.
    pub blobs: u64,
    /// Trees that were compared.
    pub layers: u64,
    /// Entries of the index.
    pub images: u64,
    /// What is wrong.
    pub findings: Vec<Finding>,
}

/// Layers and diff ids of an image, bottom first.
type Documents = (Vec<Descriptor>, Vec<Digest>);

impl Checked {
    fn tell(&mut self, subject: String, problem: &str, advice: &str, mended: bool) {
        self.findings.push(Finding {
            subject,
            problem: problem.to_owned(),
            advice: advice.to_owned(),
            mended,
        });
    }
}

impl Store {
    /// Checks everything; with `repair` mends what can be.
    pub fn check(&self, repair: bool) -> Result<Checked, StoreError> {
        // What is looked at must not be collected meanwhile.
        let _hold = self.hold()?;
        let mut checked = Checked::default();
        for (path, error) in self.sweep()? {
            let problem = format!(
                "is left of a command that was ended, and cannot be removed: {}",
                crate::images::registry::error::chain(&error)
            );
            let subject = format!("directory {}", path.display());
            checked.tell(subject, &problem, "remove it by hand", false);
        }
        self.check_blobs(repair, &mut checked)?;
        if !self.check_index(repair, &mut checked)? {
            return Ok(checked);
        }
        let blobs = self.blobs_of_layers()?;
        self.check_layers(repair, &blobs, &mut checked)?;
        let lost = self.check_images(repair, &blobs, &mut checked)?;
        if repair && !lost.is_empty() {
            self.give_up(&lost)?;
        }
        Ok(checked)
    }

    fn check_blobs(&self, repair: bool, checked: &mut Checked) -> Result<(), StoreError> {
        for name in names(&self.path("images/blobs/sha256"))? {
            let path = self.path("images/blobs/sha256").join(&name);
            let Some(digest) = Digest::from_hex(&name) else {
                checked.tell(
                    format!("file {}", path.display()),
                    "is no blob",
                    "remove it by hand",
                    false,
                );
                continue;
            };
            checked.blobs += 1;
            let found = match hash(&path) {
                Ok(found) => found,
                // Another command's removal.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(StoreError::io("read", &path)(error)),
            };
            if found == digest {
                continue;
            }
            let tree = self
                .layer(&digest)?
                .filter(|record| record.tar_bytes.is_some());
            let advice = match (&tree, repair) {
                (_, false) => "run `stack system check --repair`",
                (Some(_), true) => {
                    "it was set aside, and is made again of its layer when it is needed"
                }
                (None, true) => "it was set aside: pull or load its image again",
            };
            if repair {
                self.set_aside(&path, &name)?;
            }
            let problem = format!("is damaged: its content is {found}");
            checked.tell(
                format!("blob {digest}"),
                &problem,
                advice,
                repair && tree.is_some(),
            );
        }
        Ok(())
    }

    /// Whether `index.json` can be read. With repair it is made again of the manifests that are here: the names are lost, no image.
    fn check_index(&self, repair: bool, checked: &mut Checked) -> Result<bool, StoreError> {
        let problem = match self.read_index() {
            Ok(_) => return Ok(true),
            Err(StoreError::Record { source, .. }) => format!("cannot be read: {source}"),
            Err(StoreError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                "is not here".to_owned()
            }
            Err(error) => return Err(error),
        };
        let path = self.path("images/index.json");
        let subject = format!("index {}", path.display());
        if !repair {
            let advice = "run `stack system check --repair`: it is made again of the images that are here, without their names";
            checked.tell(subject, &problem, advice, false);
            return Ok(false);
        }
        if path.exists() {
            self.set_aside(&path, "index.json")?;
        }
        {
            let _locked = self.lock()?;
            self.begin_index()?;
        }
        let blobs = names(&self.path("images/blobs/sha256"))?;
        let blobs: Vec<Digest> = blobs.iter().filter_map(|n| Digest::from_hex(n)).collect();
        let mut within = BTreeSet::new();
        for digest in &blobs {
            // What an index has more of than one image came together.
            let members = self.members(digest).unwrap_or_default();
            let is_image = |member: &&Member| member.image.is_some();
            let attests = |member: &&Member| member.is_here && member.descriptor.is_attestation();
            let count = members.iter().filter(is_image).count();
            if count > 1 || (count == 1 && members.iter().any(|member| attests(&member))) {
                within.extend(members.into_iter().map(|member| member.descriptor.digest));
                let entry = self.describe_index(digest)?;
                self.name_entry(entry, digest, &[], None)?;
            }
        }
        for digest in blobs.into_iter().filter(|digest| !within.contains(digest)) {
            // Most blobs are no manifests, and attestations no images.
            let Ok(Some((layers, _))) = self.documents(&digest) else {
                continue;
            };
            if layers.iter().any(|layer| !layer.media_type.contains("tar")) {
                continue;
            }
            match self.load(&digest)? {
                Some(image) => self.name(&image, &[], None)?,
                None => checked.tell(
                    format!("image {digest}"),
                    "lacks a layer",
                    "pull, load or build it again",
                    false,
                ),
            }
        }
        let advice = "it was set aside and made again of the images that are here, without their names: `stack image tag` or pull them again before the next `prune`";
        checked.tell(subject, &problem, advice, true);
        Ok(true)
    }

    /// Returns the blobs of each layer that images name, by diff id.
    fn blobs_of_layers(&self) -> Result<BTreeMap<Digest, Vec<Descriptor>>, StoreError> {
        let mut blobs: BTreeMap<Digest, Vec<Descriptor>> = BTreeMap::new();
        for manifest in self.known_manifests()? {
            let Ok(Some((layers, diff_ids))) = self.documents(&manifest) else {
                continue; // told of with the images
            };
            for (layer, diff_id) in layers.into_iter().zip(diff_ids) {
                blobs.entry(diff_id).or_default().push(layer);
            }
        }
        Ok(blobs)
    }

    /// Returns the manifests of all images that are known.
    fn known_manifests(&self) -> Result<Vec<Digest>, StoreError> {
        let mut found = Vec::new();
        for entry in &self.read_index()?.manifests {
            // A damaged index is told of with the images.
            found.extend(self.manifests_of(&entry.digest).unwrap_or_default());
        }
        Ok(found)
    }

    /// As [`Store::documents`]; `None` also for what is not known as an image's.
    pub(super) fn image_documents(
        &self,
        manifest: &Digest,
    ) -> Result<Option<Documents>, StoreError> {
        match self.documents(manifest) {
            Err(error) if error.is_no_image() => Ok(None),
            found => found,
        }
    }

    /// Returns the layers and the diff ids that a manifest and its configuration name.
    pub(super) fn documents(&self, manifest: &Digest) -> Result<Option<Documents>, StoreError> {
        let invalid = |source| StoreError::Document {
            image: manifest.clone(),
            source,
        };
        let Some(bytes) = self.read_blob(manifest)? else {
            return Ok(None);
        };
        let Document::Manifest(document) = parse_document(&bytes, None).map_err(invalid)? else {
            return Ok(None);
        };
        let Some(bytes) = self.read_blob(&document.config.digest)? else {
            return Ok(None);
        };
        let config = super::super::manifest::parse_config(&bytes).map_err(invalid)?;
        Ok(Some((document.layers, config.rootfs.diff_ids)))
    }

    fn check_layers(
        &self,
        repair: bool,
        blobs: &BTreeMap<Digest, Vec<Descriptor>>,
        checked: &mut Checked,
    ) -> Result<(), StoreError> {
        for name in names(&self.path("layers"))? {
            let Some(id) = Digest::from_hex(&name) else {
                continue;
            };
            let Some(record) = self.layer(&id)? else {
                self.mend_layer(&id, "has no readable record", repair, blobs, checked)?;
                continue;
            };
            if record.diff_id != id {
                // A tree by chain id is made of links to one that is checked.
                continue;
            }
            checked.layers += 1;
            let problem = match self.compare(&record) {
                Ok(true) => continue,
                Ok(false) => "is not what its diff id says".to_owned(),
                // A full disk says nothing of the layer.
                Err(error) if error.is_lack_of_room() => return Err(error),
                Err(error) => format!(
                    "cannot be checked: {}",
                    crate::images::registry::error::chain(&error)
                ),
            };
            self.mend_layer(&id, &problem, repair, blobs, checked)?;
        }
        Ok(())
    }

    /// Whether a layer's tree is what its diff id says.
    fn compare(&self, record: &LayerRecord) -> Result<bool, StoreError> {
        let diff = self.layer_path(&record.diff_id).join("diff");
        let found = Measured::of(&diff)?;
        if found.is(&record.diff_id) {
            return Ok(true);
        }
        if record.tar_bytes.is_some() {
            return Ok(false);
        }
        // Others write tars in other ways: what comes of theirs decides.
        for blob in &record.blobs {
            if let Some((staging, again)) = self.unpack_blob(&record.diff_id, blob)? {
                // No archive says how old markers and implied directories are, and earlier unpackers gave them the time of day.
                let found = Measured::settled(&diff, &again.implied)?;
                return Ok(Measured::settled(&staging.diff(), &again.implied)? == found);
            }
        }
        let missing = record.blobs.first().map(|blob| blob.digest.clone());
        Err(StoreError::NoBlob {
            digest: missing.unwrap_or_else(|| record.diff_id.clone()),
        })
    }

    /// Unpacks a blob; `None` where it is not here, or does not unpack to that diff id.
    fn unpack_blob(
        &self,
        diff_id: &Digest,
        blob: &Descriptor,
    ) -> Result<Option<(Staging, LayerRecord)>, StoreError> {
        let path = self.blob_path(&blob.digest);
        let file = match fs_err::File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(StoreError::io("open", &path)(error)),
        };
        let staging = self.staging()?;
        let outcome = run(
            ReaderChunks(file),
            &mut io::sink(),
            &staging.diff(),
            u64::MAX,
        );
        let right = outcome
            .packed
            .is_ok_and(|packed| packed.digest == blob.digest);
        let unpacked = outcome.unpacked.map_err(|source| StoreError::Unpack {
            layer: blob.digest.to_string(),
            source,
        })?;
        if !right || unpacked.diff_id != *diff_id {
            return Ok(None);
        }
        let mut blob = blob.clone();
        blob.annotations.clear();
        let record = LayerRecord::new(unpacked.diff_id, blob, unpacked.report);
        Ok(Some((staging, record)))
    }

    /// Tells of a layer that is not whole, and makes it again of a blob, where that is wanted and possible.
    fn mend_layer(
        &self,
        diff_id: &Digest,
        problem: &str,
        repair: bool,
        blobs: &BTreeMap<Digest, Vec<Descriptor>>,
        checked: &mut Checked,
    ) -> Result<(), StoreError> {
        let subject = format!("layer {diff_id}");
        if !repair {
            checked.tell(subject, problem, "run `stack system check --repair`", false);
            return Ok(());
        }
        let path = self.layer_path(diff_id);
        let known = self
            .layer(diff_id)?
            .map(|record| record.blobs)
            .unwrap_or_default();
        let named = blobs.get(diff_id).into_iter().flatten().cloned();
        let mut again = None;
        for blob in known.into_iter().chain(named) {
            again = self.unpack_blob(diff_id, &blob)?;
            if again.is_some() {
                break;
            }
        }
        let was_here = path.exists();
        if was_here {
            self.set_aside(&path, diff_id.hex())?;
        }
        match again {
            Some((staging, record)) => {
                self.place_layer(&staging, None, record)?;
                self.seal(std::slice::from_ref(diff_id))?;
                let advice = if was_here {
                    "it was set aside and made again of its blob; containers that run keep the old one until they are started again"
                } else {
                    "it was made again of its blob"
                };
                checked.tell(subject, problem, advice, true);
            }
            None => checked.tell(
                subject,
                problem,
                "it was set aside: pull, load or build its image again",
                false,
            ),
        }
        Ok(())
    }

    fn check_images(
        &self,
        repair: bool,
        blobs: &BTreeMap<Digest, Vec<Descriptor>>,
        checked: &mut Checked,
    ) -> Result<Vec<Digest>, StoreError> {
        let mut lost = Vec::new();
        for entry in &self.read_index()?.manifests {
            checked.images += 1;
            let name = index::reference_of(entry).map(|name| name.familiar());
            let subject = format!("image {}", name.unwrap_or_else(|| entry.digest.to_string()));
            let documents = self.manifests_of(&entry.digest).and_then(|manifests| {
                let documents = manifests.iter().map(|manifest| self.documents(manifest));
                documents.collect::<Result<Vec<_>, _>>()
            });
            let problem = match documents {
                Ok(documents) if documents.iter().any(Option::is_some) => {
                    for (_, diff_ids) in documents.iter().flatten() {
                        self.check_image(diff_ids, repair, blobs, checked)?;
                    }
                    continue;
                }
                Ok(_) if self.is_foreign_index(entry)? => continue,
                Ok(_) => "lacks its manifest or configuration".to_owned(),
                // A disk that cannot be read says nothing of the image.
                Err(error @ StoreError::Io { .. }) => return Err(error),
                Err(error) => crate::images::registry::error::chain(&error),
            };
            let advice = if repair {
                "it was taken out of the index: pull, load or build it again"
            } else {
                "run `stack system check --repair`, then pull, load or build it again"
            };
            checked.tell(subject, &problem, advice, false);
            lost.push(entry.digest.clone());
        }
        Ok(lost)
    }

    /// Makes again what an image lacks of its layers.
    fn check_image(
        &self,
        diff_ids: &[Digest],
        repair: bool,
        blobs: &BTreeMap<Digest, Vec<Descriptor>>,
        checked: &mut Checked,
    ) -> Result<(), StoreError> {
        for diff_id in diff_ids {
            if self.layer(diff_id)?.is_none() && !self.layer_path(diff_id).exists() {
                self.mend_layer(diff_id, "is not here", repair, blobs, checked)?;
            }
        }
        if repair {
            self.stand_again(diff_ids)?;
        }
        Ok(())
    }

    /// Keeps the index as it was and takes images out of it that nothing can be made of any more.
    fn give_up(&self, manifests: &[Digest]) -> Result<(), StoreError> {
        let path = self.path("images/index.json");
        let before = fs_err::read(&path).map_err(StoreError::io("read", &path))?;
        let directory = self.path("damaged");
        fs_err::create_dir_all(&directory).map_err(StoreError::io("make", &directory))?;
        let stamp = jiff::Timestamp::now().as_nanosecond();
        self.replace(&directory.join(format!("index.json.{stamp}")), &before)?;
        let is_here = |entry: &Descriptor| {
            let manifests = self.manifests_of(&entry.digest).unwrap_or_default();
            let mut documents = manifests.iter().map(|manifest| self.documents(manifest));
            documents.any(|found| matches!(found, Ok(Some(_))))
        };
        self.change_index(|index| {
            index
                .manifests
                .retain(|entry| !manifests.contains(&entry.digest) || is_here(entry));
        })
    }

    /// Whether something is an index without images that other tools put here: none of ours, and no damage.
    fn is_foreign_index(&self, entry: &Descriptor) -> Result<bool, StoreError> {
        Ok(index::id_of(entry).is_none() && self.index_of(&entry.digest)?.is_some())
    }

    /// Makes trees by chain id that are missing, where all layers are here.
    fn stand_again(&self, diff_ids: &[Digest]) -> Result<(), StoreError> {
        for diff_id in diff_ids {
            if self.layer(diff_id)?.is_none() {
                return Ok(());
            }
        }
        self.stand(diff_ids)?;
        self.seal(diff_ids)
    }

    /// Moves something damaged to `damaged/`, and the trees by chain id that were made of a layer with it.
    fn set_aside(&self, path: &std::path::Path, name: &str) -> Result<(), StoreError> {
        let directory = self.path("damaged");
        let mut builder = std::fs::DirBuilder::new();
        std::os::unix::fs::DirBuilderExt::mode(builder.recursive(true), 0o700);
        builder
            .create(&directory)
            .map_err(StoreError::io("make", &directory))?;
        let _locked = self.lock()?;
        let stamp = jiff::Timestamp::now().as_nanosecond();
        let to = directory.join(format!("{name}.{stamp}"));
        fs_err::rename(path, &to).map_err(StoreError::io("set aside", path))?;
        let Some(diff_id) = Digest::from_hex(name).filter(|_| to.is_dir()) else {
            return Ok(());
        };
        for manifest in self.known_manifests()? {
            let Ok(Some((_, diff_ids))) = self.documents(&manifest) else {
                continue;
            };
            for (chain, of) in chain_ids(&diff_ids).iter().zip(&diff_ids) {
                let path = self.layer_path(chain);
                if *of == diff_id && chain != of && path.exists() {
                    let to: PathBuf = directory.join(format!("{}.{stamp}", chain.hex()));
                    fs_err::rename(&path, &to).map_err(StoreError::io("set aside", &path))?;
                }
            }
        }
        Ok(())
    }
}

fn hash(path: &std::path::Path) -> io::Result<Digest> {
    let mut file = fs_err::File::open(path)?;
    let mut hash = sha2::Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        let length = file.read(&mut buffer)?;
        if length == 0 {
            return Ok(Digest::from_hash(&hash.finalize()));
        }
        hash.update(buffer.get(..length).unwrap_or_default());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::images::import::import;

    #[test]
    fn an_index_that_cannot_be_read_is_made_again_of_the_images() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(root.path()).unwrap();
        let tar = tar::Builder::new(Vec::new()).into_inner().unwrap();
        let name = "a/b:1".parse().unwrap();
        let image = import(&store, tar.as_slice(), Some(&name), &[]).unwrap();
        let path = store.path("images/index.json");
        for garbage in [Some("garbage"), Some(""), None] {
            match garbage {
                Some(text) => fs_err::write(&path, text).unwrap(),
                None => fs_err::remove_file(&path).unwrap(),
            }
            let told = |repair: bool| {
                let checked = store.check(repair).unwrap();
                let findings = checked.findings.iter();
                let told = findings.map(|f| (f.subject.clone(), f.mended));
                told.collect::<Vec<_>>()
            };
            let subject = format!("index {}", path.display());
            assert_eq!(told(false), [(subject.clone(), false)], "{garbage:?}");
            let found = fs_err::read_to_string(&path).ok();
            assert_eq!(found.as_deref(), garbage, "looking changes nothing");
            assert_eq!(told(true), [(subject, true)], "{garbage:?}");
            assert_eq!(told(false), []);
            let known = store.known().unwrap();
            let [known] = known.as_slice() else {
                panic!("{known:?}");
            };
            assert_eq!((&known.image, known.names.len()), (&image, 0));
        }
        assert_eq!(names(&store.path("damaged")).unwrap().len(), 2);
    }

    #[test]
    fn an_image_without_its_documents_is_given_up() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(root.path()).unwrap();
        let tar = tar::Builder::new(Vec::new()).into_inner().unwrap();
        let import = |name: &str, command: &str| {
            let name = name.parse().unwrap();
            let command = crate::images::import::Change::parse(command).unwrap();
            import(&store, tar.as_slice(), Some(&name), &[command]).unwrap()
        };
        let whole = import("whole:1", "CMD a");
        let (one, other) = (import("one:1", "CMD b"), import("other:1", "CMD c"));
        fs_err::remove_file(store.blob_path(&one.manifest)).unwrap();
        fs_err::write(store.blob_path(&other.id), "{}").unwrap();
        let told = |repair: bool| {
            let checked = store.check(repair).unwrap();
            let findings = checked.findings.into_iter();
            let images = findings.filter(|f| f.subject.starts_with("image "));
            images.map(|f| f.subject).collect::<Vec<_>>()
        };
        let both = ["image one:1", "image other:1"];
        assert_eq!(told(false), both);
        assert_eq!(told(true), both);
        assert_eq!(store.check(false).unwrap().findings, []);
        let known = store.known().unwrap();
        assert_eq!(known.iter().map(|k| &k.image).collect::<Vec<_>>(), [&whole]);
    }
}
