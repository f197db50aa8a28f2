//! Hostile and odd archives: what they make inside, and that the canary outside is what it was.

use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use tar::{EntryType, Header};

use super::error::UnpackError;
use super::extract::{Limits, Report, unpack};

/// An archive made entry by entry, names as they are.
#[derive(Default)]
pub(super) struct Archive(pub(super) Vec<u8>);

impl Archive {
    pub(super) fn raw(
        mut self,
        kind: EntryType,
        name: &str,
        link: &str,
        mode: u32,
        content: &[u8],
    ) -> Self {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_mode(mode);
        header.set_uid(5);
        header.set_gid(6);
        header.set_mtime(7);
        header.set_size(content.len() as u64);
        if matches!(kind, EntryType::Char | EntryType::Block) {
            header.set_device_major(1).unwrap();
            header.set_device_minor(3).unwrap();
        }
        header.set_cksum();
        self.0.extend_from_slice(header.as_bytes());
        self.0.extend_from_slice(content);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    pub(super) fn file(self, name: &str, content: &str) -> Self {
        self.raw(EntryType::Regular, name, "", 0o644, content.as_bytes())
    }

    pub(super) fn directory(self, name: &str) -> Self {
        self.raw(EntryType::Directory, name, "", 0o755, b"")
    }

    pub(super) fn symlink(self, name: &str, target: &str) -> Self {
        self.raw(EntryType::Symlink, name, target, 0o777, b"")
    }

    pub(super) fn link(self, name: &str, target: &str) -> Self {
        self.raw(EntryType::Link, name, target, 0o644, b"")
    }

    pub(super) fn pax(self, records: &[(&str, &[u8])]) -> Self {
        let mut bytes = Vec::new();
        for (key, value) in records {
            let rest = key.len() + value.len() + 3;
            let mut length = rest + 1;
            while length != rest + length.to_string().len() {
                length = rest + length.to_string().len();
            }
            bytes.extend_from_slice(format!("{length} {key}=").as_bytes());
            bytes.extend_from_slice(value);
            bytes.push(b'\n');
        }
        self.raw(EntryType::XHeader, "pax", "", 0o644, &bytes)
    }

    pub(super) fn end(mut self) -> Vec<u8> {
        self.0.extend_from_slice(&[0; 1024]);
        self.0
    }
}

/// Lists a tree: path, kind, mode, owner and content or target, sorted.
fn list(root: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    let mut left = vec![root.to_owned()];
    while let Some(directory) = left.pop() {
        for entry in fs_err::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            let stat = fs_err::symlink_metadata(&path).unwrap();
            let kind = stat.file_type();
            let shown = if kind.is_dir() {
                left.push(path.clone());
                let mut value = [0; 8];
                let opaque = rustix::fs::lgetxattr(&path, super::extract::OPAQUE_XATTR, &mut value);
                format!("dir{}", if opaque.is_ok() { " opaque" } else { "" })
            } else if kind.is_symlink() {
                format!("-> {}", fs_err::read_link(&path).unwrap().display())
            } else if kind.is_char_device() {
                format!(
                    "char {}:{}",
                    rustix::fs::major(stat.rdev()),
                    rustix::fs::minor(stat.rdev())
                )
            } else if kind.is_block_device() {
                "block".to_owned()
            } else if kind.is_fifo() {
                "fifo".to_owned()
            } else if stat.nlink() > 1 {
                format!(
                    "file*{} {}",
                    stat.nlink(),
                    fs_err::read_to_string(&path).unwrap()
                )
            } else {
                format!("file {}", fs_err::read_to_string(&path).unwrap())
            };
            let name = path.strip_prefix(root).unwrap().display().to_string();
            lines.push(format!(
                "{name} {:o} {}:{} {shown}",
                stat.mode() & 0o7777,
                stat.uid(),
                stat.gid()
            ));
        }
    }
    lines.sort();
    lines
}

/// Unpacks into `layer` beside a canary; returns the tree and the report.
pub(super) fn unpacked(archive: &[u8]) -> Result<(Vec<String>, Report), UnpackError> {
    let outside = tempfile::tempdir().unwrap();
    let root = outside.path().join("layer");
    fs_err::create_dir(&root).unwrap();
    fs_err::create_dir(outside.path().join("canary")).unwrap();
    fs_err::write(outside.path().join("canary/file"), "alive").unwrap();
    let before = list(&outside.path().join("canary"));
    let limits = Limits {
        entries: 100,
        bytes: 1 << 20,
        apparent_bytes: 1 << 40,
    };
    let result = unpack(archive, &root, limits);
    assert_eq!(list(&outside.path().join("canary")), before, "the canary");
    let others: Vec<_> = fs_err::read_dir(outside.path()).unwrap().collect();
    assert_eq!(others.len(), 2, "something was made outside");
    result.map(|report| (list(&root), report))
}

pub(super) fn check(archive: Archive, expected: &[&str]) {
    let shown = match unpacked(&archive.end()) {
        Ok((tree, _)) => tree,
        Err(error) => vec![format!("error: {error}")],
    };
    assert_eq!(shown, expected);
}

#[test]
fn makes_every_kind_with_its_owner_and_mode() {
    check(
        Archive::default()
            .raw(EntryType::Directory, "d/", "", 0o2750, b"")
            .raw(EntryType::Regular, "./d/setuid", "", 0o4755, b"x")
            .raw(EntryType::Regular, "/d/absolute", "", 0o600, b"y")
            .symlink("link", "/etc/passwd")
            .link("d/second", "./d/setuid")
            .raw(EntryType::Fifo, "fifo", "", 0o600, b"")
            .raw(EntryType::Char, "null", "", 0o666, b"")
            .raw(EntryType::Block, "block", "", 0o660, b""),
        &[
            "block 660 5:6 block",
            "d 2750 5:6 dir",
            "d/absolute 600 5:6 file y",
            "d/second 4755 5:6 file*2 x",
            "d/setuid 4755 5:6 file*2 x",
            "fifo 600 5:6 fifo",
            "link 777 5:6 -> /etc/passwd",
            "null 666 5:6 char 1:3",
        ],
    );
}

#[test]
fn nothing_leaves_the_layer() {
    check(
        Archive::default().file("../x", "x"),
        &["error: entry `../x` leaves the layer"],
    );
    check(
        Archive::default().file("a/../../x", "x"),
        &["error: entry `a/../../x` leaves the layer"],
    );
    check(
        Archive::default().link("x", "../canary/file"),
        &["error: entry `../canary/file` leaves the layer"],
    );
    check(
        Archive::default().file("a/../x", "x"),
        &["x 644 5:6 file x"],
    );
    // A link out of the layer is followed as a container would follow it: within.
    check(
        Archive::default()
            .symlink("out", "../canary")
            .file("out/file", "dead"),
        &["out 755 0:0 dir", "out/file 644 5:6 file dead"],
    );
    check(
        Archive::default()
            .directory("canary")
            .symlink("out", "../../canary")
            .file("out/file", "x"),
        &[
            "canary 755 5:6 dir",
            "canary/file 644 5:6 file x",
            "out 777 5:6 -> ../../canary",
        ],
    );
    check(
        Archive::default()
            .symlink("out", "/canary/file")
            .file("out", "x"),
        &["out 644 5:6 file x"],
    );
    check(
        Archive::default()
            .symlink("a", "../canary/file")
            .link("b", "a")
            .raw(EntryType::Regular, "b", "", 0o777, b"x"),
        &["a 777 5:6 -> ../canary/file", "b 777 5:6 file x"],
    );
    check(
        Archive::default()
            .symlink("p", "/proc/self/root")
            .file("p/x", "x"),
        &["p 755 0:0 dir", "p/x 644 5:6 file x"],
    );
    check(
        Archive::default()
            .symlink("loop", "loop")
            .file("loop/x", "x"),
        &["error: open `loop`"],
    );
    // A directory's late description does not follow a link that took its place.
    check(
        Archive::default()
            .raw(EntryType::Directory, "d", "", 0o777, b"")
            .symlink("d", "../canary"),
        &["d 777 5:6 -> ../canary"],
    );
    check(
        Archive::default().symlink(".wh.x", "y").file(".wh..", "x"),
        &["error: entry `.wh..` has an invalid name"],
    );
    check(
        Archive::default().file(".wh...", "x"),
        &["error: entry `.wh...` has an invalid name"],
    );
    check(
        Archive::default().file("", "x"),
        &["error: entry `` has an invalid name"],
    );
}

#[test]
fn the_last_entry_of_a_name_wins() {
    check(
        Archive::default().file("a", "1").file("a", "2"),
        &["a 644 5:6 file 2"],
    );
    check(
        Archive::default()
            .directory("a")
            .file("a/b", "1")
            .file("a", "2"),
        &["a 644 5:6 file 2"],
    );
    check(
        Archive::default()
            .file("a", "1")
            .directory("a")
            .file("a/b", "2"),
        &["a 755 5:6 dir", "a/b 644 5:6 file 2"],
    );
    check(
        Archive::default().file("a", "1").file("a/b", "2"),
        &["a 755 0:0 dir", "a/b 644 5:6 file 2"],
    );
    check(
        Archive::default().directory("a").file("a/b", "1").raw(
            EntryType::Directory,
            "a",
            "",
            0o700,
            b"",
        ),
        &["a 700 5:6 dir", "a/b 644 5:6 file 1"],
    );
    check(
        Archive::default()
            .directory("d")
            .file("d/f", "1")
            .file("d", "x")
            .directory("d")
            .file("d/g", "2"),
        &["d 755 5:6 dir", "d/g 644 5:6 file 2"],
    );
}

#[test]
fn whiteouts_become_overlays() {
    check(
        Archive::default()
            .file("d/.wh.gone", "")
            .file("d/.wh..wh..opq", "")
            .file(".wh..wh.plnk", ""),
        &["d 755 0:0 dir opaque", "d/gone 0 0:0 char 0:0"],
    );
    for archive in [
        Archive::default()
            .file(".wh.d", "")
            .directory("d")
            .file("d/f", "x"),
        Archive::default()
            .directory("d")
            .file("d/f", "x")
            .file(".wh.d", ""),
    ] {
        check(archive, &["d 755 5:6 dir opaque", "d/f 644 5:6 file x"]);
    }
    for archive in [
        Archive::default().file(".wh.f", "").file("f", "x"),
        Archive::default().file("f", "x").file(".wh.f", ""),
    ] {
        check(archive, &["f 644 5:6 file x"]);
    }
    check(
        Archive::default().file(".wh.d", "").file("d/f", "x"),
        &["d 755 0:0 dir opaque", "d/f 644 5:6 file x"],
    );
}

#[test]
fn tells_what_it_takes_from_below() {
    let archive = Archive::default()
        .file("usr/bin/tool", "x")
        .directory("usr/bin")
        .link("usr/alias", "lib/missing")
        .link("usr/taken", "lib/missing")
        .file("usr/taken", "y");
    let (_, report) = unpacked(&archive.end()).unwrap();
    assert_eq!(
        report,
        Report {
            size_bytes: 2,
            implied: vec!["usr".into()],
            lower_links: vec![("usr/alias".into(), "lib/missing".into())],
        }
    );
}

#[test]
fn times_that_no_octal_field_holds_come_back() {
    let (layer, again) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    // A file system that cannot keep the last one brings it to its own end.
    let wanted = [-31_536_001, -1, 0, 8_589_934_591, 8_589_934_592];
    let times = |root: &Path| {
        let names = (0..wanted.len()).map(|index| root.join(index.to_string()));
        let times = names.map(|path| fs_err::metadata(path).unwrap().mtime());
        times.collect::<Vec<i64>>()
    };
    for (index, seconds) in wanted.iter().enumerate() {
        let path = layer.path().join(index.to_string());
        fs_err::write(&path, "").unwrap();
        let time = rustix::fs::Timespec {
            tv_sec: *seconds,
            tv_nsec: 500_000_000,
        };
        let times = rustix::fs::Timestamps {
            last_access: time,
            last_modification: time,
        };
        let flags = rustix::fs::AtFlags::empty();
        rustix::fs::utimensat(rustix::fs::CWD, &path, &times, flags).unwrap();
    }
    let mut packed = Vec::new();
    super::writer::write_layer(layer.path(), &mut packed).unwrap();
    assert!(
        packed
            .windows(19)
            .any(|record| record == b"19 mtime=-31536001\n")
    );
    let limits = Limits {
        entries: 9,
        bytes: 9999,
        apparent_bytes: 1 << 40,
    };
    unpack(packed.as_slice(), again.path(), limits).unwrap();
    assert_eq!(times(again.path()), times(layer.path()));
    assert_eq!(times(layer.path())[..3], wanted[..3]);
}

#[test]
fn reads_long_names_attributes_and_sparse_files() {
    let long = format!("{}/{}", "p".repeat(120), "n".repeat(120));
    let capability = b"\x01\0\0\x02\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    let archive = Archive::default()
        .pax(&[
            ("path", long.as_bytes()),
            ("uid", b"3000000000"),
            ("mtime", b"-1.5"),
            ("SCHILY.xattr.security.capability", capability),
            ("SCHILY.xattr.user.note", b"a\nb"),
            ("SCHILY.xattr.trusted.overlay.redirect", b"/etc"),
            ("SCHILY.xattr.trusted.overlay.opaque", b"y"),
        ])
        .file("short", "x")
        .raw(
            EntryType::GNULongName,
            "././@LongLink",
            "",
            0o644,
            format!("{}\0", "g".repeat(150)).as_bytes(),
        )
        .file("cut", "gnu")
        .pax(&[
            ("GNU.sparse.major", b"1"),
            ("GNU.sparse.minor", b"0"),
            ("GNU.sparse.name", b"sparse"),
            ("GNU.sparse.realsize", b"4096"),
        ])
        .raw(EntryType::Regular, "GNUSparseFile.0/sparse", "", 0o644, &{
            let mut data = b"2\n0\n1\n4000\n2\n".to_vec();
            data.resize(512, 0);
            data.extend_from_slice(b"abc");
            data
        });
    let directory = tempfile::tempdir().unwrap();
    let limits = Limits {
        entries: 9,
        bytes: 9999,
        apparent_bytes: 1 << 40,
    };
    unpack(archive.end().as_slice(), directory.path(), limits).unwrap();
    let at = |name: &str| directory.path().join(name);
    let stat = fs_err::metadata(at(&long)).unwrap();
    assert_eq!(
        (stat.uid(), stat.mtime(), stat.mtime_nsec()),
        (3_000_000_000, -2, 500_000_000)
    );
    let mut names = [0; 4096];
    let length = rustix::fs::listxattr(at(&long), &mut names).unwrap();
    let mut names: Vec<_> = names[..length]
        .split(|&b| b == 0)
        .filter(|n| !n.is_empty())
        .collect();
    names.sort_unstable();
    assert_eq!(names, [&b"security.capability"[..], b"user.note"]);
    assert_eq!(fs_err::read(at(&"g".repeat(150))).unwrap(), b"gnu");
    let sparse = fs_err::read(at("sparse")).unwrap();
    assert_eq!(
        (sparse.len(), &sparse[..2], &sparse[4000..4003]),
        (4096, &b"a\0"[..], &b"bc\0"[..])
    );
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn refuses_malformed_archives() {
    let malformed = |archive: Vec<u8>| match unpacked(&archive) {
        Ok((tree, _)) => format!("{tree:?}"),
        Err(error) => super::super::registry::error::chain(&error),
    };
    let good = Archive::default().file("a", "content").end();
    let mut wrong_sum = good.clone();
    wrong_sum[0] ^= 1;
    assert_eq!(
        malformed(wrong_sum),
        "the archive is malformed: a header's checksum is wrong"
    );
    assert_eq!(
        malformed(good[..515].to_vec()),
        "read the archive: unexpected end of file"
    );
    assert_eq!(
        malformed(good[..300].to_vec()),
        "read the archive: failed to fill whole buffer"
    );
    assert_eq!(malformed(Vec::new()), "[]");
    let mut lone = vec![0; 512];
    lone.extend_from_slice(&good);
    assert_eq!(
        malformed(lone),
        "the archive is malformed: an entry follows a single zero block"
    );
    let mut huge = Archive::default().raw(EntryType::XHeader, "x", "", 0, b"");
    huge.0[124..136].copy_from_slice(b"77777777777\0");
    let sum: u32 = huge.0[..512]
        .iter()
        .enumerate()
        .map(|(i, &b)| {
            if (148..156).contains(&i) {
                32
            } else {
                u32::from(b)
            }
        })
        .sum();
    huge.0[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    assert_eq!(
        malformed(huge.end()),
        "the layer exceeds the limit of 1048576 bytes in an extended header"
    );
    for (record, expected) in [
        (
            &b"99 path=x\n"[..],
            "a PAX record is not `length key=value`",
        ),
        (b"x path=x\n", "a number is not decimal"),
        (b"11 path=xyz", "a PAX record is not `length key=value`"),
        (
            b"5 x=\n9 size=-1\n",
            "a PAX record is not `length key=value`",
        ),
    ] {
        let archive = Archive::default()
            .raw(EntryType::XHeader, "x", "", 0, record)
            .file("a", "");
        assert_eq!(
            malformed(archive.end()),
            format!("the archive is malformed: {expected}")
        );
    }
    let sparse = |map: &[u8]| {
        let archive = Archive::default().pax(&[("GNU.sparse.size", b"8"), ("GNU.sparse.map", map)]);
        malformed(archive.file("s", "ab").end())
    };
    for map in [&b"0,9"[..], b"4,1,0,1", b"18446744073709551615,2"] {
        assert_eq!(
            sparse(map),
            "the archive is malformed: a sparse map is out of order"
        );
    }
    assert_eq!(
        sparse(b"0,1"),
        "the archive is malformed: a sparse map does not take the stored bytes"
    );
    let kind = Archive::default().raw(EntryType::new(b'V'), "volume", "", 0, b"");
    assert_eq!(
        malformed(kind.end()),
        "entry `volume` has the unsupported type `V`"
    );
    let many = (0..101).fold(Archive::default(), |archive, n| {
        archive.file(&n.to_string(), "")
    });
    assert_eq!(
        malformed(many.end()),
        "the layer exceeds the limit of 100 entries"
    );
    let large = Archive::default().raw(EntryType::Regular, "l", "", 0, &vec![1; (1 << 20) + 1]);
    assert_eq!(
        malformed(large.end()),
        "the layer exceeds the limit of 1048576 bytes, which is what the file system has left"
    );
    let nul = Archive::default().pax(&[("path", b"a\0b")]).file("x", "");
    assert_eq!(
        malformed(nul.end()),
        format!(
            "entry `{}` has an invalid name",
            Path::new(std::ffi::OsStr::from_bytes(b"a\0b")).display()
        )
    );
}

#[test]
fn a_full_disk_is_told_from_a_broken_source() {
    use super::pipeline::{Chunks, PackedError, ReaderChunks, run};
    struct Broken;
    impl Chunks for Broken {
        fn next_chunk(&mut self) -> std::io::Result<Option<Vec<u8>>> {
            Err(std::io::ErrorKind::ConnectionReset.into())
        }
    }
    let archive = Archive::default().file("a", "content").end();
    let diff = tempfile::tempdir().unwrap();
    let full = Path::new("/dev/full");
    let mut blob = fs_err::OpenOptions::new().write(true).open(full).unwrap();
    let outcome = run(
        ReaderChunks(archive.as_slice()),
        &mut blob,
        diff.path(),
        u64::MAX,
    );
    match outcome.packed {
        Err(PackedError::Write(error)) => {
            assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
        }
        other => panic!("{other:?}"),
    }
    match run(Broken, &mut blob, diff.path(), u64::MAX).packed {
        Err(PackedError::Read(error)) => {
            assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_file_with_holes_is_packed_as_it_reads() {
    use std::os::unix::fs::FileExt;
    let layer = tempfile::tempdir().unwrap();
    let file = fs_err::File::create(layer.path().join("f")).unwrap();
    let size = (3 << 20) + 100;
    file.file().write_all_at(b"middle", 1 << 20).unwrap();
    file.file().write_all_at(b"later", 2 << 20).unwrap();
    file.set_len(size).unwrap();
    let mut packed = Vec::new();
    let written = super::writer::write_layer(layer.path(), &mut packed).unwrap();
    let mut expected = fs_err::read(layer.path().join("f")).unwrap();
    expected.resize(expected.len().next_multiple_of(512) + 1024, 0);
    assert_eq!(written.size_bytes, size);
    assert!(packed[512..] == expected);
}

#[test]
fn a_directory_that_becomes_a_link_meanwhile_leads_nowhere() {
    use super::writer::{Tree, write_tree};
    use crate::sys::descent::Descent;
    use std::ffi::{OsStr, OsString};
    use std::io;
    use std::os::fd::BorrowedFd;
    struct Racing<'a>(Descent, &'a Path);
    impl Tree for Racing<'_> {
        fn enter(&mut self, name: &OsStr) -> io::Result<()> {
            let path = self.1.join("layer").join(name);
            fs_err::rename(&path, self.1.join("away"))?;
            std::os::unix::fs::symlink(self.1.join("secret"), &path)?;
            self.0.enter(name)
        }
        fn leave(&mut self) -> io::Result<()> {
            self.0.leave()
        }
        fn names(&self) -> io::Result<Vec<OsString>> {
            self.0.names()
        }
        fn directory_of(&self, _: &OsStr) -> io::Result<BorrowedFd<'_>> {
            Ok(self.0.here())
        }
        fn is_layer(&self) -> bool {
            true
        }
    }
    let root = tempfile::tempdir().unwrap();
    fs_err::create_dir_all(root.path().join("layer/d")).unwrap();
    fs_err::create_dir(root.path().join("secret")).unwrap();
    fs_err::write(root.path().join("secret/f"), "of the host").unwrap();
    let mut packed = Vec::new();
    let top = Descent::new(&root.path().join("layer")).unwrap();
    let said = write_tree(&mut Racing(top, root.path()), &mut packed).unwrap_err();
    assert_eq!(said.to_string(), "open `d`");
    assert!(!packed.windows(11).any(|part| part == b"of the host"));
}

#[test]
fn a_tree_may_be_as_deep_as_a_step_makes_it() {
    const DEPTH: usize = 700;
    let layer = tempfile::tempdir().unwrap();
    let mut deepest = layer.path().to_owned();
    deepest.extend(std::iter::repeat_n("d", DEPTH));
    fs_err::create_dir_all(&deepest).unwrap();
    fs_err::write(deepest.join("f"), "content").unwrap();
    let root = layer.path().to_owned();
    // No room for a call within a call for each level.
    let pack = move || {
        let mut packed = Vec::new();
        super::writer::write_layer(&root, &mut packed).map(|_| packed)
    };
    let thread = std::thread::Builder::new().stack_size(256 << 10);
    let packed = thread.spawn(pack).unwrap().join().unwrap().unwrap();
    let mut archive = tar::Archive::new(packed.as_slice());
    let entries = archive.entries().unwrap().map(Result::unwrap);
    let depths = entries.map(|entry| entry.path().unwrap().components().count());
    let expected: Vec<usize> = (1..=DEPTH).chain([DEPTH + 1]).collect();
    assert_eq!(depths.collect::<Vec<_>>(), expected);
}
