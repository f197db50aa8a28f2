//! What a container changed becomes an image (moby `daemon/commit.go`).

use std::io::Read;
use std::path::Path;

use super::error::ImageError;
use super::import::Change;
use super::manifest::{History, Platform, RunConfig};
use super::reference::{Digest, Reference};
use super::stop::{Heeding, Stop};
use super::store::{Hold, Image, LayerRecord, Store, StoreError};
use super::unpack::UnpackError;
use super::unpack::pipeline::{ReaderChunks, run};
use super::unpack::writer::write_layer;

/// What is committed beside the files.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct CommitOptions {
    /// Name that the image gets.
    pub name: Option<Reference>,
    /// Who made it.
    pub author: Option<String>,
    /// Why.
    pub message: Option<String>,
    /// Dockerfile instructions on top.
    pub changes: Vec<Change>,
    /// What the container ran; it comes over the image's own.
    pub config: RunConfig,
    /// Its command, for the history.
    pub command: String,
}

/// What a container changed, as a layer that no image has yet and nobody collects.
#[derive(Debug)]
pub struct Changes {
    layer: Option<Digest>,
    #[expect(dead_code, reason = "held, not read")]
    hold: Hold,
}

/// Copies what the overlay upper directory `upper`, which must hold still, has.
pub(super) fn changes(store: &Store, upper: &Path, stop: &Stop) -> Result<Changes, ImageError> {
    let hold = store.hold()?;
    let layer = layer_of(store, upper, stop)?;
    Ok(Changes { layer, hold })
}

/// Makes an image of `base` and of what was changed above it.
pub(super) fn commit(
    store: &Store,
    base: &Image,
    changes: &Changes,
    options: &CommitOptions,
) -> Result<Image, ImageError> {
    let layer = changes.layer.clone();
    let now = jiff::Timestamp::now().to_string();
    let mut config = base.config.clone();
    config.config = merged(&base.config.config, &options.config);
    for change in &options.changes {
        change.apply(&mut config.config);
    }
    config.author.clone_from(&options.author);
    config.created = Some(now.clone());
    let platform = Platform::host();
    if config.os.is_empty() {
        config.os = platform.os;
        config.architecture = platform.architecture;
    }
    config.history.push(History {
        created: Some(now),
        created_by: Some(options.command.clone()),
        author: options.author.clone(),
        comment: options.message.clone(),
        empty_layer: layer.is_none(),
        ..History::default()
    });
    let mut layers = base.layers.clone();
    layers.extend(layer);
    let names: Vec<&Reference> = options.name.iter().collect();
    Ok(store.put_named(config, &layers, &names)?)
}

/// Copies the changes into a layer; `None` where there are none.
fn layer_of(store: &Store, upper: &Path, stop: &Stop) -> Result<Option<Digest>, ImageError> {
    let failed = |attempted| StoreError::io(attempted, upper);
    let is_empty = fs_err::read_dir(upper).map(|mut entries| entries.next().is_none());
    if is_empty.map_err(failed("list"))? {
        return Ok(None);
    }
    let staging = store.staging()?;
    let (reader, mut writer) = std::io::pipe().map_err(failed("read"))?;
    let (packed, outcome) = std::thread::scope(|scope| {
        let packing = scope.spawn(move || {
            let mut sink = std::io::BufWriter::with_capacity(256 << 10, &mut writer);
            let written = write_layer(upper, &mut sink);
            let flushed = std::io::Write::flush(&mut sink);
            // The reader went away: it says why.
            drop(flushed);
            written
        });
        let source: Box<dyn Read + Send> = Box::new(Heeding::new(reader, stop));
        let outcome = run(
            ReaderChunks(source),
            &mut std::io::sink(),
            &staging.diff(),
            u64::MAX,
        );
        (packing.join(), outcome)
    });
    let unpack = |source| StoreError::Unpack {
        layer: "of the container".to_owned(),
        source,
    };
    let pack = |source| StoreError::Pack {
        path: upper.to_owned(),
        source,
    };
    let Ok(written) = packed else {
        let panicked = std::io::Error::other("the thread that did it panicked");
        return Err(failed("pack")(panicked).into());
    };
    // Where the reader broke off, the writer only follows.
    let unpacked = outcome.unpacked.map_err(unpack);
    if unpacked.is_ok()
        && let Some(path) = written.map_err(pack)?.reserved
    {
        // It was taken for the deletion of another file, and would be lost.
        return Err(pack(UnpackError::Reserved { path }).into());
    }
    let packed = outcome.packed;
    let packed = packed.map_err(|error| failed("read")(error.into_io()))?;
    let unpacked = unpacked?;
    let record = LayerRecord {
        diff_id: unpacked.diff_id,
        size_bytes: unpacked.report.size_bytes,
        blobs: Vec::new(),
        packed: Vec::new(),
        tar_bytes: Some(packed.size_bytes),
        implied: unpacked.report.implied,
        lower_links: unpacked.report.lower_links,
        boot: None,
    };
    Ok(Some(store.place_layer(&staging, None, record)?.diff_id))
}

/// Puts what a container ran over what its image says: its own values win, sets are united.
fn merged(image: &RunConfig, container: &RunConfig) -> RunConfig {
    let mut merged = container.clone();
    for line in &image.env {
        let name = line.split_once('=').map_or(line.as_str(), |(name, _)| name);
        let has = |own: &String| own.split_once('=').map_or(own.as_str(), |(own, _)| own) == name;
        if !merged.env.iter().any(has) {
            merged.env.push(line.clone());
        }
    }
    merged
        .exposed_ports
        .extend(image.exposed_ports.iter().cloned());
    merged.volumes.extend(image.volumes.iter().cloned());
    for (key, value) in &image.labels {
        merged
            .labels
            .entry(key.clone())
            .or_insert_with(|| value.clone());
    }
    // What ran is both at once; as far as it is the image's entrypoint, that stays one.
    if let (Some(entrypoint), Some(ran)) = (&image.entrypoint, &container.cmd)
        && let Some(rest) = ran.strip_prefix(entrypoint.as_slice())
    {
        merged.entrypoint = Some(entrypoint.clone());
        merged.cmd = (!rest.is_empty()).then(|| rest.to_vec());
    }
    if merged.working_dir.is_empty() {
        merged.working_dir.clone_from(&image.working_dir);
    }
    if merged.user.is_empty() {
        merged.user.clone_from(&image.user);
    }
    if merged.healthcheck.is_none() {
        merged.healthcheck.clone_from(&image.healthcheck);
    }
    if merged.stop_signal.is_empty() {
        merged.stop_signal.clone_from(&image.stop_signal);
    }
    merged.on_build.clone_from(&image.on_build);
    merged.shell.clone_from(&image.shell);
    merged
}
