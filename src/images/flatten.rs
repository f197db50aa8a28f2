//! Overlay layers as the one tree that a container sees, without a mount: for `export`.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::io::{self, Write};
use std::os::fd::BorrowedFd;
use std::path::PathBuf;

use rustix::fs::{AtFlags, FileType, fgetxattr, statat};
use rustix::io::Errno;

use super::unpack::UnpackError;
use super::unpack::extract::OPAQUE_XATTR;
use super::unpack::writer::{Tree, write_tree};
use crate::sys::descent::Descent;

/// Writes what an overlay of `layers`, top-most first, shows as a tar without whiteouts. They may change meanwhile: what is gone or
/// exchanged by the time it is read is an error, and nothing outside of them is ever read.
pub fn write_flat(layers: &[PathBuf], sink: &mut impl Write) -> Result<(), UnpackError> {
    let open = |layer: &PathBuf| Descent::new(layer).map_err(UnpackError::io("open", layer));
    let walks: Result<Vec<_>, _> = layers.iter().map(open).collect();
    let walks = walks?;
    let mut merged = Merged {
        parts: vec![(0..walks.len()).collect()],
        walks,
    };
    write_tree(&mut merged, sink).map(drop)
}

/// Layers seen as one.
struct Merged {
    /// Each as deep as it has the directory.
    walks: Vec<Descent>,
    /// From the top to where it is: those of `walks` that a directory is made of, top-most first.
    parts: Vec<Vec<usize>>,
}

impl Merged {
    fn here(&self) -> impl Iterator<Item = (usize, &Descent)> {
        let parts = self.parts.last().into_iter().flatten();
        parts.filter_map(|&number| Some((number, self.walks.get(number)?)))
    }
}

impl Tree for Merged {
    fn enter(&mut self, name: &OsStr) -> io::Result<()> {
        let mut parts = Vec::new();
        for number in self.parts.last().cloned().unwrap_or_default() {
            let Some(walk) = self.walks.get_mut(number) else {
                continue;
            };
            match walk.enter(name) {
                Ok(()) => {}
                Err(error) => match Errno::from_io_error(&error) {
                    Some(Errno::NOENT) => continue,
                    // A whiteout or a file: what is below does not show.
                    Some(Errno::NOTDIR | Errno::LOOP) => break,
                    _ => return Err(error),
                },
            }
            parts.push(number);
            if is_opaque(walk.here())? {
                break;
            }
        }
        self.parts.push(parts);
        Ok(())
    }

    fn leave(&mut self) -> io::Result<()> {
        for number in self.parts.pop().unwrap_or_default() {
            if let Some(walk) = self.walks.get_mut(number) {
                walk.leave()?;
            }
        }
        Ok(())
    }

    fn names(&self) -> io::Result<Vec<OsString>> {
        let mut seen = BTreeSet::new();
        let mut names = BTreeSet::new();
        for (_, walk) in self.here() {
            for name in walk.names()? {
                if seen.insert(name.clone()) && !is_whiteout(walk.here(), &name)? {
                    names.insert(name);
                }
            }
        }
        Ok(names.into_iter().collect())
    }

    fn directory_of(&self, name: &OsStr) -> io::Result<BorrowedFd<'_>> {
        for (_, walk) in self.here() {
            match statat(walk.here(), name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(_) => return Ok(walk.here()),
                Err(Errno::NOENT) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Err(Errno::NOENT.into())
    }

    fn is_layer(&self) -> bool {
        false
    }
}

fn is_whiteout(directory: BorrowedFd<'_>, name: &OsStr) -> io::Result<bool> {
    let stat = statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)?;
    let kind = FileType::from_raw_mode(stat.st_mode);
    Ok(kind == FileType::CharacterDevice && stat.st_rdev == 0)
}

fn is_opaque(directory: BorrowedFd<'_>) -> io::Result<bool> {
    let mut value = [0; 2];
    match fgetxattr(directory, OPAQUE_XATTR, &mut value) {
        Ok(length) => Ok(value.get(..length) == Some(b"y".as_slice())),
        Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::RANGE) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_what_an_overlay_shows() {
        let root = tempfile::tempdir().unwrap();
        let put = |path: &str, text: &str| {
            let path = root.path().join(path);
            fs_err::create_dir_all(path.parent().unwrap()).unwrap();
            fs_err::write(path, text).unwrap();
        };
        let whiteout = |path: &str| {
            let path = root.path().join(path);
            fs_err::create_dir_all(path.parent().unwrap()).unwrap();
            let kind = FileType::CharacterDevice;
            rustix::fs::mknodat(rustix::fs::CWD, path, kind, rustix::fs::Mode::empty(), 0).unwrap();
        };
        put("1/a/kept", "1");
        put("1/a/gone", "1");
        put("1/a/changed", "1");
        put("1/opaque/hidden", "1");
        put("1/was-directory/x", "1");
        put("1/was-file", "1");
        put("2/a/changed", "2");
        whiteout("2/a/gone");
        put("2/opaque/new", "2");
        rustix::fs::setxattr(
            root.path().join("2/opaque"),
            OPAQUE_XATTR,
            b"y",
            rustix::fs::XattrFlags::empty(),
        )
        .unwrap();
        put("3/was-directory", "3");
        put("3/was-file/x", "3");
        put("3/a/gone", "3");
        let layers = ["3", "2", "1"].map(|layer| root.path().join(layer));
        let mut bytes = Vec::new();
        write_flat(&layers, &mut bytes).unwrap();
        let mut archive = tar::Archive::new(bytes.as_slice());
        let shown: Vec<String> = archive
            .entries()
            .unwrap()
            .map(|entry| {
                let mut entry = entry.unwrap();
                let mut text = String::new();
                io::Read::read_to_string(&mut entry, &mut text).unwrap();
                format!("{}={text}", entry.path().unwrap().display())
            })
            .collect();
        assert_eq!(
            shown,
            [
                "a/=",
                "a/changed=2",
                "a/gone=3",
                "a/kept=1",
                "opaque/=",
                "opaque/new=2",
                "was-directory=3",
                "was-file/=",
                "was-file/x=3"
            ]
        );
    }
}
