//! The cache in an image (`type=inline`, `BUILDKIT_INLINE_CACHE=1`): the keys of the steps that made its layers, in its configuration.
//!
//! ```text
//! "vnd.stack.cache.v1": {"records": [{"key", "layer", "created"}, …]}     layer: position in rootfs.diff_ids
//! ```
//!
//! BuildKit has `moby.buildkit.cache.v0` in that place, with keys that no other builder can make. Of its images, and of anybody's without
//! keys, the history serves: a step has its layer where everything before it is the same, entry by entry and layer by layer, and it is
//! in the history with the same words. That says all of a `RUN` that has no mounts and of a `WORKDIR`; of a `COPY` it does not say what was
//! copied, so that none is ever taken.

use serde::{Deserialize, Serialize};

use super::super::super::boolean::parse_bool;
use super::super::super::manifest::{History, ImageConfig};
use super::super::super::reference::Digest;
use super::super::BuildRequest;
use super::super::builder::Build;
use super::super::cache::Made;
use super::{CacheError, CachePlace, Record};

/// The key in a configuration.
const KEY: &str = "vnd.stack.cache.v1";

/// BuildKit's.
const BUILDKIT_KEY: &str = "moby.buildkit.cache.v0";

/// What it holds.
#[derive(Serialize, Deserialize)]
struct Inline {
    records: Vec<Record>,
}

impl BuildRequest {
    /// Whether the image is to have the cache of its own layers.
    pub(in super::super) fn is_inline(&self) -> bool {
        let exports = &self.cache_to;
        let argument = self.args.get("BUILDKIT_INLINE_CACHE");
        let argument = argument.and_then(Option::as_deref).unwrap_or_default();
        exports
            .iter()
            .any(|export| export.place == CachePlace::Inline)
            || parse_bool(argument) == Some(true)
    }
}

impl Build<'_> {
    /// Writes the records of an image's layers into its configuration, where that was asked for.
    pub(in super::super) fn add_inline(&self, config: &mut ImageConfig, layers: &[Digest]) {
        // Those of an image that this one is built on are about its layers alone.
        for key in [KEY, BUILDKIT_KEY] {
            config.extra.remove(key);
        }
        if !self.request.is_inline() {
            return;
        }
        let used = self.used.borrow();
        let records = used.iter().filter_map(|(key, made)| {
            Some(Record {
                key: key.clone(),
                layer: layers.iter().position(|layer| *layer == made.layer)?,
                created: made.created.clone(),
            })
        });
        let records = records.collect();
        if let Ok(value) = serde_json::to_value(Inline { records }) {
            config.extra.insert(KEY.to_owned(), value);
        }
    }
}

/// Returns the records of an image; nothing if it has none.
pub(super) fn records_in(config: &ImageConfig) -> Result<Option<Vec<Record>>, CacheError> {
    let Some(value) = config.extra.get(KEY) else {
        return Ok(None);
    };
    let read = Inline::deserialize(value);
    let read = read.map_err(|error| CacheError::Wrong(format!("its records: {error}")))?;
    Ok(Some(read.records))
}

/// Returns what the step `by` made in an image, if all before it is what `config` and `layers` are so far.
pub(super) fn step_after(
    image: &ImageConfig,
    config: &ImageConfig,
    layers: &[Digest],
    by: &str,
) -> Option<Made> {
    let (before, rest) = image.history.split_at_checked(config.history.len())?;
    let made_layers = before.iter().filter(|entry| !entry.empty_layer).count();
    let is_same = |(a, b): (&History, &History)| {
        (&a.created_by, a.empty_layer) == (&b.created_by, b.empty_layer)
    };
    let same = image.platform() == config.platform()
        && before.iter().zip(&config.history).all(is_same)
        && made_layers == layers.len()
        && image.rootfs.diff_ids.get(..layers.len()) == Some(layers);
    let step = rest.first().filter(|_| same)?;
    let is_it = !step.empty_layer && step.created_by.as_deref() == Some(by);
    let layer = image.rootfs.diff_ids.get(layers.len()).filter(|_| is_it)?;
    let created = step.created.clone()?;
    created.parse::<jiff::Timestamp>().ok()?;
    Some(Made {
        layer: layer.clone(),
        created,
    })
}

#[cfg(test)]
mod tests {
    use super::super::super::super::manifest::Platform;
    use super::*;

    /// Makes a configuration; `-` begins an entry without a layer. Layers are digests of `names`.
    fn config(entries: &[&str], names: &[&str]) -> (ImageConfig, Vec<Digest>) {
        let mut config = ImageConfig::new(&Platform::host());
        config.history = entries
            .iter()
            .map(|entry| History {
                created: Some("2026-01-02T03:04:05Z".to_owned()),
                created_by: Some(entry.trim_start_matches('-').to_owned()),
                empty_layer: entry.starts_with('-'),
                ..History::default()
            })
            .collect();
        let layers: Vec<Digest> = names
            .iter()
            .map(|name| Digest::of(name.as_bytes()))
            .collect();
        config.rootfs.diff_ids.clone_from(&layers);
        (config, layers)
    }

    /// History so far, layers so far, the step, and its layer.
    type Row = (
        &'static [&'static str],
        &'static [&'static str],
        &'static str,
        Option<&'static str>,
    );

    #[test]
    fn a_step_has_the_layer_of_an_image_where_all_before_it_is_the_same() {
        let (image, _) = config(&["base", "-ENV A=1", "RUN x", "RUN y"], &["b", "x", "y"]);
        let table: [Row; 9] = [
            (&["base", "-ENV A=1"], &["b"], "RUN x", Some("x")),
            (
                &["base", "-ENV A=1", "RUN x"],
                &["b", "x"],
                "RUN y",
                Some("y"),
            ),
            (&["base", "-ENV A=1"], &["b"], "RUN y", None),
            (&["base", "-ENV A=2"], &["b"], "RUN x", None),
            (&["base", "ENV A=1"], &["b", "e"], "RUN x", None),
            (&["base", "-ENV A=1"], &["other"], "RUN x", None),
            (&["base"], &["b"], "RUN x", None),
            (&["base"], &["b"], "ENV A=1", None),
            (
                &["base", "-ENV A=1", "RUN x", "RUN y"],
                &["b", "x", "y"],
                "RUN z",
                None,
            ),
        ];
        for (entries, names, by, expected) in table {
            let (now, layers) = config(entries, names);
            let made = step_after(&image, &now, &layers, by);
            let expected = expected.map(|name| Digest::of(name.as_bytes()));
            assert_eq!(made.map(|made| made.layer), expected, "{entries:?} {by}");
        }
        let (mut other, layers) = config(&["base", "-ENV A=1"], &["b"]);
        "riscv64".clone_into(&mut other.architecture);
        assert_eq!(step_after(&image, &other, &layers, "RUN x"), None);
    }
}
