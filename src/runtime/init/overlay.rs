//! Overlays, in the way that each kernel takes them: none of the ways limits how many layers an image may have.
//!
//! | kernel | how the layers are named |
//! | --- | --- |
//! | from 6.13 | `lowerdir+`, by descriptor |
//! | from 6.7 | `lowerdir+`, a string each |
//! | before | the old call's one string, a page long: the new one's strings end at 255 bytes, some fifteen layers |

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use crate::sys::mount::{self, Attributes, Filesystem};

/// Options that are the same for all: whatever the module's defaults are, layers are shared, and must stay readable as plain
/// directories.
const PLAIN: [&str; 4] = ["index", "metacopy", "redirect_dir", "xino"];

/// The layer that is written.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Writable<'a> {
    /// Upper directory.
    pub(crate) upper: &'a OwnedFd,
    /// Work directory.
    pub(crate) work: &'a OwnedFd,
    /// Whether nothing of it is ever synced.
    pub(crate) is_volatile: bool,
}

/// How directories are named.
#[derive(Debug, Clone, Copy)]
enum Naming {
    Descriptors,
    Paths,
}

/// Mounts an overlay of `lowers`, topmost first, and returns it detached; with a writable one it can be written.
pub(crate) fn mount(lowers: &[OwnedFd], writable: Option<Writable<'_>>) -> io::Result<OwnedFd> {
    for naming in [Naming::Descriptors, Naming::Paths] {
        match configure(lowers, writable, naming) {
            Ok(overlay) => return overlay.mount(Attributes::empty()),
            // Before 6.5 overlays know none of this, and take every string for an option until they are made.
            Err(error) if error.kind() == io::ErrorKind::Unsupported => break,
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => {}
            Err(error) => return Err(error),
        }
    }
    mount_at_once(lowers, writable)
}

/// Describes the overlay to the kernel.
///
/// Errors: `EOPNOTSUPP` and `EINVAL` where the kernel does not know this way of naming.
fn configure(
    lowers: &[OwnedFd],
    writable: Option<Writable<'_>>,
    naming: Naming,
) -> io::Result<Filesystem> {
    let overlay = Filesystem::open("overlay")?;
    let name = |key: &str, directory: &OwnedFd| match naming {
        Naming::Descriptors => overlay.set_fd(key, directory.as_fd()),
        Naming::Paths => {
            let path = format!("/proc/self/fd/{}", directory.as_raw_fd());
            overlay.set(key, Some(&path))
        }
    };
    for lower in lowers {
        name("lowerdir+", lower)?;
    }
    if let Some(writable) = writable {
        name("upperdir", writable.upper)?;
        name("workdir", writable.work)?;
        if writable.is_volatile {
            overlay.set("volatile", None)?;
        }
    }
    overlay.set("source", Some("overlay"))?;
    for key in PLAIN {
        overlay.set(key, Some("off"))?;
    }
    Ok(overlay)
}

/// Mounts it by the old call.
fn mount_at_once(lowers: &[OwnedFd], writable: Option<Writable<'_>>) -> io::Result<OwnedFd> {
    let own = writable.into_iter().flat_map(|w| [w.upper, w.work]);
    let directories: Vec<_> = own.chain(lowers).map(AsFd::as_fd).collect();
    mount::mount_at_once("overlay", &directories, |names| {
        let mut options: Vec<String> = PLAIN.map(|key| format!("{key}=off")).into();
        let lowers = match (writable, names) {
            (Some(writable), [upper, work, lowers @ ..]) => {
                options.push(format!("upperdir={upper},workdir={work}"));
                options.extend(writable.is_volatile.then(|| "volatile".to_owned()));
                lowers
            }
            _ => names,
        };
        options.push(format!("lowerdir={}", lowers.join(":")));
        options.join(",")
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use rustix::fs::{Mode, OFlags};

    use super::*;
    use crate::runtime::testing::put;

    /// More than any image has: Docker's limit is 127.
    const LAYERS: usize = 150;

    /// Makes layers of which each has a file of its own and the file `same`, and opens them, the last one topmost.
    fn layers(directory: &Path) -> Vec<OwnedFd> {
        let make = |number: usize| {
            let layer = directory.join(number.to_string());
            fs_err::create_dir(&layer).unwrap();
            put(&layer.join(format!("of-{number}")), "");
            put(&layer.join("same"), &number.to_string());
            open(&layer)
        };
        (0..LAYERS).rev().map(make).collect()
    }

    fn open(path: &Path) -> OwnedFd {
        rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).unwrap()
    }

    /// Returns how many files a detached overlay shows, and what `same` holds.
    fn look(mounted: &OwnedFd) -> (usize, String) {
        let path = format!("/proc/self/fd/{}", mounted.as_raw_fd());
        let count = fs_err::read_dir(&path).unwrap().count();
        let same = fs_err::read_to_string(format!("{path}/same")).unwrap();
        (count, same)
    }

    #[test]
    fn every_layer_is_seen_in_each_way_that_the_kernel_knows() {
        let directory = tempfile::tempdir().unwrap();
        let lowers = layers(directory.path());
        for name in ["upper", "work"] {
            fs_err::create_dir(directory.path().join(name)).unwrap();
        }
        let (upper, work) = (
            open(&directory.path().join("upper")),
            open(&directory.path().join("work")),
        );
        let expected = (LAYERS + 1, (LAYERS - 1).to_string());
        let of = Some(Writable {
            upper: &upper,
            work: &work,
            is_volatile: false,
        });
        assert_eq!(look(&mount(&lowers, None).unwrap()), expected);
        assert_eq!(look(&mount(&lowers, of).unwrap()), expected);
        assert_eq!(look(&mount_at_once(&lowers, None).unwrap()), expected);
        // As those with another owner are.
        let detached =
            |fd: &OwnedFd| mount::clone_tree(fd.as_fd(), Path::new(""), mount::Depth::One).unwrap();
        let detached: Vec<OwnedFd> = lowers.iter().map(detached).collect();
        assert_eq!(look(&mount_at_once(&detached, None).unwrap()), expected);
        let at_once = mount_at_once(&lowers, of).unwrap();
        assert_eq!(look(&at_once), expected);
        let file = format!("/proc/self/fd/{}/written", at_once.as_raw_fd());
        put(Path::new(&file), "x");
        assert_eq!(
            fs_err::read_to_string(directory.path().join("upper/written")).unwrap(),
            "x"
        );
        if let Ok(overlay) = configure(&lowers, None, Naming::Paths)
            && let Ok(mounted) = overlay.mount(Attributes::empty())
        {
            assert_eq!(look(&mounted), expected);
        }
    }

    #[test]
    fn only_a_volatile_overlay_says_in_its_work_directory_that_nothing_is_synced() {
        let directory = tempfile::tempdir().unwrap();
        for name in ["lower", "upper", "work"] {
            fs_err::create_dir(directory.path().join(name)).unwrap();
        }
        let lowers = [open(&directory.path().join("lower"))];
        let (upper, work) = (
            open(&directory.path().join("upper")),
            open(&directory.path().join("work")),
        );
        // The kernel's own sign of it (overlayfs.rst, "Volatile mount"); it refuses to mount such a directory again.
        let sign = directory.path().join("work/work/incompat/volatile");
        for is_volatile in [false, true] {
            let writable = Writable {
                upper: &upper,
                work: &work,
                is_volatile,
            };
            drop(mount(&lowers, Some(writable)).unwrap());
            assert_eq!(sign.exists(), is_volatile);
        }
    }
}
