//! How much the build cache may have, and for how long.
//!
//! | what | goes when unused for | and, the least used first, beyond |
//! | --- | --- | --- |
//! | steps and their layers | 60 days | 80 % of the disk or 100 GB; as much more as keeps 20 % of the disk free, down to 10 % or 10 GB |
//! | cache mounts | 60 days | 10 % of the disk or 10 GB, whichever is less |
//! | hashes of files, what URLs held, what steps were done with | 60 days | |
//!
//! The figures are BuildKit's, but that mounts are not taken after two days: a cache is there to outlive a weekend. A build that did a
//! step looks once an hour, after its image is there; one that found everything looks at nothing. What a build uses is held by its locks.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime};

use super::super::reference::Digest;
use super::super::{ImageError, Images};
use super::cache::{Cache, modified_ns};
use super::caches::{self, CacheMount};
use crate::sys::usage;

/// How long anything may be unused.
const MAX_AGE: Duration = Duration::from_hours(60 * 24);
/// How often it is looked at.
const LOOK_EVERY: Duration = Duration::from_hours(1);
const GB: u64 = 1_000_000_000;

/// A thing that takes room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Item {
    /// Nanoseconds since 1970.
    pub(super) used_ns: i128,
    pub(super) bytes: u64,
}

/// Returns which of `items` go, by their places: those that were last used before `since_ns`, then the least used until no more than
/// `max_bytes` are left.
pub(super) fn superfluous(items: &[Item], since_ns: i128, max_bytes: u64) -> BTreeSet<usize> {
    let mut order: Vec<usize> = (0..items.len()).collect();
    let of = |index: &usize| items.get(*index).map(|item| (item.used_ns, item.bytes));
    order.sort_by_key(|index| of(index));
    let mut left: u64 = items.iter().map(|item| item.bytes).sum();
    let mut gone = BTreeSet::new();
    for index in order {
        let Some((used_ns, bytes)) = of(&index) else {
            continue;
        };
        // What takes no room makes none.
        if used_ns < since_ns || (left > max_bytes && bytes > 0) {
            left = left.saturating_sub(bytes);
            gone.insert(index);
        }
    }
    gone
}

/// A disk, in bytes.
#[derive(Debug, Clone, Copy)]
struct Disk {
    total: u64,
    free: u64,
}

impl Disk {
    fn of(path: &Path) -> io::Result<Self> {
        let found = rustix::fs::statvfs(path)?;
        let bytes = |blocks: u64| blocks.saturating_mul(found.f_frsize);
        Ok(Self {
            total: bytes(found.f_blocks),
            free: bytes(found.f_bavail),
        })
    }

    /// Returns how much of `used` bytes the layers of steps may keep.
    fn for_layers(self, used: u64) -> u64 {
        let reserved = (self.total / 10).min(10 * GB);
        let most = (self.total / 10 * 8).min(100 * GB);
        let lacking = (self.total / 5).saturating_sub(self.free);
        most.min(used.saturating_sub(lacking)).max(reserved)
    }

    /// Returns how much cache mounts may keep.
    fn for_mounts(self) -> u64 {
        (self.total / 10).min(10 * GB)
    }
}

/// What a use of the cache is noted for at most once a day: who does nothing writes nothing.
const NOTE_EVERY: Duration = Duration::from_hours(24);

/// Notes that a file of the cache was of use at `now`. One that cannot be dated is none the worse for it.
pub(super) fn note_use(path: &Path, now: jiff::Timestamp) {
    let now = SystemTime::from(now);
    let modified = fs_err::metadata(path).and_then(|metadata| metadata.modified());
    if modified.is_ok_and(|at| now.duration_since(at).is_ok_and(|age| age > NOTE_EVERY))
        && let Ok(file) = fs_err::File::options().append(true).open(path)
    {
        let _dated = caches::touch(&file);
    }
}

impl Images {
    /// Takes from the build cache what is beyond its budget, unless that was looked at within the hour.
    pub(super) fn apply_budget(&self, now: jiff::Timestamp) -> Result<(), ImageError> {
        let root = self.store().root();
        let cache = Cache::below(root);
        let failed = |error| self.cache_failed("look through", error);
        let stamp = cache.budget_stamp();
        if !is_due(&stamp, now).map_err(failed)? {
            return Ok(());
        }
        let since_ns = now.as_nanosecond() - i128::try_from(MAX_AGE.as_nanos()).unwrap_or(0);
        let disk = Disk::of(root).map_err(failed)?;
        self.take_steps(&cache, since_ns, |used| disk.for_layers(used))?;
        for directory in cache.notes() {
            let cleared = Cache::clear_files(&directory, since_ns);
            cleared.map_err(|error| self.cache_failed("clear", error))?;
        }
        self.take_mounts(&cache, since_ns, disk.for_mounts())?;
        // Not before: what failed is tried again by the next build.
        write_stamp(&stamp).map_err(failed)
    }

    /// Forgets the build cache that was last used before `before_ns`; returns the bytes that went with cache mounts. The space of layers is
    /// freed by [`Images::collect`].
    pub fn clear_cache(&self, before_ns: i128) -> Result<u64, ImageError> {
        let cache = Cache::below(self.store().root());
        let failed = |error| self.cache_failed("remove", error);
        cache.clear(before_ns).map_err(failed)?;
        self.take_mounts(&cache, before_ns, u64::MAX)
    }

    /// Returns the cache mounts, and whether a build uses each; and the bytes of all notes.
    pub(in super::super) fn cache_sizes(
        &self,
    ) -> Result<(Vec<(CacheMount, bool)>, u64), ImageError> {
        let cache = Cache::below(self.store().root());
        let failed = |error| self.cache_failed("look through", error);
        let mut mounts = Vec::new();
        for mount in caches::list(&cache.mounts()).map_err(failed)? {
            let is_used = caches::is_used(&mount.path).map_err(failed)?;
            mounts.push((mount, is_used));
        }
        let notes = cache.notes();
        let notes = notes.iter().map(|path| usage::bytes_below(path)).sum();
        Ok((mounts, notes))
    }

    /// Forgets steps that were last used before `since_ns`, or whose layers are too many.
    fn take_steps(
        &self,
        cache: &Cache,
        since_ns: i128,
        budget: impl Fn(u64) -> u64,
    ) -> Result<(), ImageError> {
        let failed = |error| self.cache_failed("look through", error);
        let mut of_images = BTreeSet::new();
        for known in self.known()? {
            of_images.extend(known.image.layers);
        }
        // A layer goes with the last of the steps that made it.
        let mut layers: BTreeMap<Digest, (Item, Vec<String>)> = BTreeMap::new();
        for (key, layer, used_ns) in cache.used().map_err(failed)? {
            let bytes = match self.store().layer(&layer)? {
                Some(record) if !of_images.contains(&layer) => record.size_bytes,
                Some(_) | None => 0,
            };
            let entry = layers.entry(layer);
            let (item, keys) = entry.or_insert((Item { used_ns, bytes }, Vec::new()));
            item.used_ns = item.used_ns.max(used_ns);
            keys.push(key);
        }
        let (items, keys): (Vec<Item>, Vec<Vec<String>>) = layers.into_values().unzip();
        let used = items.iter().map(|item| item.bytes).sum();
        let gone = superfluous(&items, since_ns, budget(used));
        for key in gone.iter().filter_map(|index| keys.get(*index)).flatten() {
            cache
                .remove(key)
                .map_err(|error| self.cache_failed("remove", error))?;
        }
        if !gone.is_empty() {
            // Where another build is at it, the next command that collects frees the space.
            self.collect()?;
        }
        Ok(())
    }

    /// Removes cache mounts that were last used before `since_ns`, or are too many; returns their bytes.
    fn take_mounts(
        &self,
        cache: &Cache,
        since_ns: i128,
        max_bytes: u64,
    ) -> Result<u64, ImageError> {
        let away = |path: &Path| {
            let old = self.store().staging().map_err(io::Error::other)?;
            fs_err::rename(path, old.directory().join("old"))
        };
        let taken = caches::prune(&cache.mounts(), since_ns, max_bytes, away);
        taken.map_err(|error| self.cache_failed("remove mounts of", error))
    }

    /// Names the cache that could not be worked on.
    pub(super) fn cache_failed(&self, attempted: &'static str, error: io::Error) -> ImageError {
        let path = self.store().root().join("cache");
        super::super::StoreError::io(attempted, &path)(error).into()
    }
}

/// Whether a look is due: the last one is an hour ago, or in the future.
fn is_due(stamp: &Path, now: jiff::Timestamp) -> io::Result<bool> {
    let every = i128::try_from(LOOK_EVERY.as_nanos()).unwrap_or(0);
    match modified_ns(stamp) {
        Ok(at) => Ok(!(0..every).contains(&(now.as_nanosecond() - at))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(error) => Err(error),
    }
}

/// Notes that a look has been taken.
fn write_stamp(stamp: &Path) -> io::Result<()> {
    if let Some(directory) = stamp.parent() {
        fs_err::create_dir_all(directory)?;
    }
    caches::touch(&fs_err::File::create(stamp)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_old_goes_and_of_too_much_the_least_used() {
        let item = |used_ns: i128, bytes: u64| Item { used_ns, bytes };
        let items = [
            item(5, 10),
            item(1, 10),
            item(3, 0),
            item(2, 10),
            item(9, 10),
        ];
        let gone = |since_ns, max_bytes| -> Vec<usize> {
            superfluous(&items, since_ns, max_bytes)
                .into_iter()
                .collect()
        };
        assert_eq!(gone(0, 100), [0; 0]);
        assert_eq!(gone(3, 100), [1, 3]);
        assert_eq!(gone(4, 100), [1, 2, 3]);
        assert_eq!(gone(0, 39), [1]);
        assert_eq!(gone(0, 25), [1, 3]);
        assert_eq!(gone(0, 0), [0, 1, 3, 4]);
        assert_eq!(gone(i128::MAX, 100), [0, 1, 2, 3, 4]);
    }

    #[test]
    fn a_budget_is_a_share_of_the_disk() {
        let disk = |total, free| Disk {
            total: total * GB,
            free: free * GB,
        };
        for (disk, used, layers, mounts) in [
            // Room enough.
            (disk(1000, 500), 50, 50, 10),
            (disk(1000, 500), 300, 100, 10),
            // A fifth is to stay free.
            (disk(100, 15), 40, 35, 10),
            (disk(100, 0), 40, 20, 10),
            // But not all of it goes.
            (disk(100, 0), 25, 10, 10),
            (disk(20, 0), 16, 12, 2),
        ] {
            let found = (disk.for_layers(used * GB) / GB, disk.for_mounts() / GB);
            assert_eq!(found, (layers, mounts), "{disk:?} {used}");
        }
    }

    #[test]
    fn it_is_looked_at_once_an_hour() {
        let temp = tempfile::tempdir().unwrap();
        let stamp = temp.path().join("cache/.budget");
        let now = jiff::Timestamp::now();
        let later = |minutes: u64| now.checked_add(Duration::from_mins(minutes)).unwrap();
        assert!(is_due(&stamp, now).unwrap());
        write_stamp(&stamp).unwrap();
        assert!(!is_due(&stamp, later(59)).unwrap());
        assert!(is_due(&stamp, later(62)).unwrap());
    }

    #[test]
    fn a_use_is_noted_once_a_day() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("f");
        fs_err::write(&path, "x").unwrap();
        let now = jiff::Timestamp::now();
        let dated = |hours: u64| {
            let at = SystemTime::from(now) - Duration::from_hours(hours);
            let file = fs_err::File::options().append(true).open(&path).unwrap();
            file.set_modified(at).unwrap();
            note_use(&path, now);
            let age = modified_ns(&path).unwrap() - now.as_nanosecond();
            age.abs() < 60_000_000_000
        };
        assert!(!dated(23));
        assert!(dated(25));
    }
}
