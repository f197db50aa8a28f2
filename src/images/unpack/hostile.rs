//! More hostile archives: whiteouts and links aimed outside, every form of names, sizes and sparse files, bombs, and
//! archives that nobody thought of.

use std::io::Write;
use std::os::unix::fs::MetadataExt;

use proptest::prelude::*;
use tar::EntryType;

use super::error::UnpackError;
use super::extract::{Limits, unpack};
use super::pipeline::{ReaderChunks, run_above};
use super::tests::{Archive, check, unpacked};

/// What unpacking says, or the tree.
fn said(archive: Archive) -> String {
    match unpacked(&archive.end()) {
        Ok((tree, _)) => format!("{tree:?}"),
        Err(error) => super::super::registry::error::chain(&error),
    }
}

/// Sets a field of the last header, and its checksum again.
fn patched(mut archive: Archive, at: usize, field: &[u8]) -> Archive {
    let size = archive.0.len();
    let header = &mut archive.0[size - 512..];
    header[at..at + field.len()].copy_from_slice(field);
    checksum(header);
    archive
}

/// Writes the checksum of a header block.
fn checksum(header: &mut [u8]) {
    header[148..156].copy_from_slice(b"        ");
    let sum: u32 = header[..512].iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

#[test]
fn whiteouts_stay_within() {
    for name in ["../.wh.file", "a/../../.wh.file", "../canary/.wh.file"] {
        check(
            Archive::default().file(name, ""),
            &[&format!("error: entry `{name}` leaves the layer")],
        );
    }
    check(
        Archive::default().file("../.wh..wh..opq", ""),
        &["error: entry `../.wh..wh..opq` leaves the layer"],
    );
    // Through a link that leads out, they lie where a container would see them.
    let (Ok((tree, _)), Ok((linked, _))) = (
        unpacked(
            &Archive::default()
                .symlink("out", "../canary")
                .file("out/.wh.file", "")
                .end(),
        ),
        unpacked(
            &Archive::default()
                .directory("canary")
                .symlink("out", "/canary")
                .file("out/.wh.file", "")
                .end(),
        ),
    ) else {
        panic!("both are valid");
    };
    let names = |tree: &[String]| -> Vec<String> {
        let first = |line: &String| line.split(' ').next().unwrap_or_default().to_owned();
        tree.iter().map(first).collect()
    };
    assert_eq!(names(&tree), ["out", "out/file"]);
    assert_eq!(names(&linked), ["canary", "canary/file", "out"]);
    check(
        Archive::default()
            .symlink("out", "../canary")
            .file("out/.wh..wh..opq", ""),
        &["out 755 0:0 dir opaque"],
    );
    // What a link leads to is not hidden through the link.
    check(
        Archive::default()
            .directory("d")
            .symlink("out", "d")
            .file("out/.wh..wh..opq", ""),
        &["error: open `out`"],
    );
    // Nothing that an attribute says makes a directory opaque, or leads elsewhere.
    let overlay = Archive::default()
        .pax(&[
            ("SCHILY.xattr.trusted.overlay.opaque", b"y"),
            ("SCHILY.xattr.trusted.overlay.redirect", b"/etc"),
            ("SCHILY.xattr.user.overlay.opaque", b"y"),
        ])
        .directory("d");
    check(overlay, &["d 755 5:6 dir"]);
}

#[test]
fn hard_links_stay_within() {
    let (tree, report) = unpacked(
        &Archive::default()
            .symlink("out", "../canary")
            .link("x", "out/file")
            .link("y", "/canary/file")
            .end(),
    )
    .unwrap();
    assert_eq!(tree, ["out 777 5:6 -> ../canary"]);
    // They name what is within the layers below, if anything.
    assert_eq!(
        report.lower_links,
        [
            ("x".into(), "out/file".into()),
            ("y".into(), "canary/file".into())
        ]
    );
    assert_eq!(
        said(Archive::default().directory("d").link("x", "d")),
        "make the hard link `x`: Operation not permitted (os error 1)"
    );
    assert_eq!(
        said(Archive::default().link("x", "")),
        "entry `` has an invalid name"
    );
    assert_eq!(
        said(Archive::default().link("x", "a/../../y")),
        "entry `a/../../y` leaves the layer"
    );
    // To itself, to what replaces itself, and to what it then is the last name of.
    check(
        Archive::default().file("a", "1").link("a", "./a"),
        &["a 644 5:6 file 1"],
    );
    check(
        Archive::default()
            .file("a", "1")
            .link("b", "a")
            .file("a", "2"),
        &["a 644 5:6 file 2", "b 644 5:6 file 1"],
    );
    check(
        Archive::default()
            .raw(EntryType::Fifo, "p", "", 0o600, b"")
            .link("q", "p"),
        &["p 600 5:6 fifo", "q 600 5:6 fifo"],
    );
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn every_form_of_a_name_is_read() {
    let long = "l".repeat(180);
    let terminated = format!("{long}\0");
    check(
        Archive::default()
            .raw(
                EntryType::GNULongLink,
                "././@LongLink",
                "",
                0o644,
                terminated.as_bytes(),
            )
            .symlink("gnu", "cut")
            .pax(&[("linkpath", long.as_bytes())])
            .symlink("pax", "cut"),
        &[
            &format!("gnu 777 5:6 -> {long}"),
            &format!("pax 777 5:6 -> {long}"),
        ],
    );
    // ustar: a prefix, a slash and the name. An old header has no magic, and marks a directory by a slash.
    let mut ustar = Archive::default().file("name", "");
    ustar.0[257..265].copy_from_slice(b"ustar\x0000");
    ustar = patched(ustar, 345, b"some/prefix\0");
    let old = Archive::default().raw(EntryType::new(0), "old/", "", 0o755, b"");
    let old = patched(patched(old, 156, &[0]), 257, &[0; 255]);
    let mut both = ustar.0;
    both.extend_from_slice(&old.0);
    check(
        Archive(both),
        &[
            "old 755 5:6 dir",
            "some 755 0:0 dir",
            "some/prefix 755 0:0 dir",
            "some/prefix/name 644 5:6 file ",
        ],
    );
    // Bytes that are no text, and control characters, are names like any other.
    let odd = Archive::default()
        .pax(&[("path", b"a\nb\xff")])
        .file("x", "");
    let (tree, _) = unpacked(&odd.end()).unwrap();
    assert_eq!(tree, ["a\nb\u{fffd} 644 5:6 file "]);
    // As long as the system takes, and longer.
    let deep = "d/".repeat(511) + "f";
    let limits = Limits {
        entries: 512,
        bytes: 4096 * 511,
        apparent_bytes: 1 << 40,
    };
    let within = tempfile::tempdir().unwrap();
    let archive = Archive::default()
        .pax(&[("path", deep.as_bytes())])
        .file("x", "");
    let archive = archive.end();
    unpack(archive.as_slice(), within.path(), limits).unwrap();
    // Directories without entries take room as those that have one.
    for (entries, bytes, unit) in [
        (511, limits.bytes, "entries"),
        (512, limits.bytes - 1, super::error::ROOM),
    ] {
        let within = tempfile::tempdir().unwrap();
        let less = Limits {
            entries,
            bytes,
            ..limits
        };
        match unpack(archive.as_slice(), within.path(), less) {
            Err(UnpackError::Limit { unit: said, .. }) => assert_eq!(said, unit),
            other => panic!("{other:?}"),
        }
    }
    let archive = Archive::default()
        .pax(&[("path", ("d/".to_owned() + &deep).as_bytes())])
        .file("x", "");
    assert_eq!(
        said(archive),
        "the layer exceeds the limit of 512 directories in each other"
    );
    let too_deep = "d/".repeat(2048) + "f";
    let archive = Archive::default()
        .pax(&[("path", too_deep.as_bytes())])
        .file("x", "");
    assert!(said(archive).ends_with("has an invalid name"));
    let wide = "w".repeat(256);
    let archive = Archive::default()
        .pax(&[("path", wide.as_bytes())])
        .file("x", "");
    assert_eq!(
        said(archive),
        format!("create `{wide}`: File name too long (os error 36)")
    );
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn every_form_of_a_number_is_read() {
    // Base 256: the first bit, then big-endian bytes.
    let mut size = [0_u8; 12];
    size[0] = 0x80;
    size[11] = 3;
    let mut file = patched(Archive::default().file("a", ""), 124, &size);
    file.0.extend_from_slice(b"abc");
    file.0.resize(file.0.len().next_multiple_of(512), 0);
    check(file, &["a 644 5:6 file abc"]);
    let mut owner = [0_u8; 8];
    owner[0] = 0x80;
    owner[4..].copy_from_slice(&3_000_000_000_u32.to_be_bytes());
    check(
        patched(Archive::default().file("a", ""), 108, &owner),
        &["a 644 3000000000:6 file "],
    );
    // PAX says it over the header.
    let mut wrong = Archive::default()
        .pax(&[("size", b"2"), ("gid", b"9")])
        .file("a", "");
    wrong.0.extend_from_slice(b"ab");
    wrong.0.resize(wrong.0.len().next_multiple_of(512), 0);
    check(wrong, &["a 644 5:9 file ab"]);
    let refused = [
        (124, &[0xff_u8; 12][..], "a header's field is not a number"),
        (124, b"99999999999\0", "a header's field is not a number"),
        (
            108,
            &[0x80, 0, 0, 0, 0xff, 0xff, 0xff, 0xff],
            "an owner's number is too great",
        ),
        (
            108,
            &[0x80, 0, 0, 1, 0, 0, 0, 0],
            "an owner's number is too great",
        ),
    ];
    for (at, field, expected) in refused {
        assert_eq!(
            said(patched(Archive::default().file("a", ""), at, field)),
            format!("the archive is malformed: {expected}")
        );
    }
    // Before 1970, in two's complement.
    let mut time = [0xff_u8; 12];
    time[11] = 0xfe;
    let within = tempfile::tempdir().unwrap();
    let limits = Limits {
        entries: 9,
        bytes: 9999,
        apparent_bytes: 0,
    };
    let archive = patched(Archive::default().file("a", ""), 136, &time).file("d/b", "");
    unpack(archive.end().as_slice(), within.path(), limits).unwrap();
    let stat = fs_err::metadata(within.path().join("a")).unwrap();
    assert_eq!(stat.mtime(), -2);
    let stat = fs_err::metadata(within.path().join("d")).unwrap();
    assert_eq!(stat.mtime(), 0);
    // A directory that a slash marks, whatever is in it.
    let old = Archive::default().file("old/", "content");
    let old = old.file("after", "x");
    check(old, &["after 644 5:6 file x", "old 644 5:6 dir"]);
    let mut old = Archive::default().file("old/", "content");
    old.0[156] = 0;
    checksum(&mut old.0[..512]);
    let old = old.file("after", "x");
    check(old, &["after 644 5:6 file x", "old 644 5:6 dir"]);
    // More is announced than there is.
    let mut huge = [0_u8; 12];
    huge[0] = 0x80;
    huge[4..].copy_from_slice(&u64::MAX.to_be_bytes());
    assert_eq!(
        said(patched(Archive::default().file("a", ""), 124, &huge)),
        "read the archive: unexpected end of file"
    );
    let archive = patched(Archive::default().file("a", ""), 124, &huge).end();
    let mut passed_over = super::reader::TarReader::new(archive.as_slice());
    passed_over.next_entry().unwrap();
    assert_eq!(
        passed_over.next_entry().unwrap_err().to_string(),
        "read the archive"
    );
    let chain = (0..17).fold(Archive::default(), |archive, _| archive.pax(&[("a", b"b")]));
    assert_eq!(
        said(chain.file("a", "")),
        "the archive is malformed: too many extended headers in a row"
    );
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn every_form_of_a_sparse_file_is_read() {
    let mut forms = Vec::new();
    // PAX 0.0: a record for each number.
    forms.push(
        Archive::default()
            .pax(&[
                ("GNU.sparse.size", b"4096"),
                ("GNU.sparse.numblocks", b"2"),
                ("GNU.sparse.offset", b"1"),
                ("GNU.sparse.numbytes", b"2"),
                ("GNU.sparse.offset", b"4000"),
                ("GNU.sparse.numbytes", b"1"),
            ])
            .file("s", "abc"),
    );
    // PAX 0.1: all numbers in one.
    forms.push(
        Archive::default()
            .pax(&[
                ("GNU.sparse.size", b"4096"),
                ("GNU.sparse.map", b"1,2,4000,1"),
                ("GNU.sparse.name", b"s"),
            ])
            .file("GNUSparseFile.7/s", "abc"),
    );
    // The old GNU format: four pieces in the header, the others in a block behind it.
    let pieces = |numbers: &[(u64, u64)]| -> Vec<u8> {
        let texts = numbers.iter();
        texts
            .flat_map(|(offset, length)| format!("{offset:011o}\0{length:011o}\0").into_bytes())
            .collect()
    };
    let header = Archive::default().raw(EntryType::GNUSparse, "s", "", 0o644, b"");
    let header = patched(header, 124, b"00000000003\0");
    let header = patched(header, 386, &pieces(&[(1, 1), (2, 1), (3, 0), (4, 0)]));
    let header = patched(header, 482, &[1]);
    let mut header = patched(header, 483, b"00000010000\0");
    let mut more = pieces(&[(4000, 1)]);
    more.resize(512, 0);
    header.0.extend_from_slice(&more);
    header.0.extend_from_slice(b"abc");
    header.0.resize(header.0.len().next_multiple_of(512), 0);
    forms.push(header);
    for archive in forms {
        let directory = tempfile::tempdir().unwrap();
        let limits = Limits {
            entries: 1,
            bytes: 3,
            apparent_bytes: 1 << 40,
        };
        let report = unpack(archive.end().as_slice(), directory.path(), limits).unwrap();
        assert_eq!(report.size_bytes, 3);
        let mut expected = vec![0; 4096];
        expected[1..3].copy_from_slice(b"ab");
        expected[4000] = b'c';
        let found = fs_err::read(directory.path().join("s")).unwrap();
        assert_eq!(found, expected);
    }
    // Terabytes of nothing.
    let hole = |size: &[u8], apparent_bytes| {
        let archive = Archive::default()
            .pax(&[("GNU.sparse.size", size), ("GNU.sparse.map", b"0,1")])
            .file("s", "a");
        let directory = tempfile::tempdir().unwrap();
        let limits = Limits {
            entries: 1,
            bytes: 1,
            apparent_bytes,
        };
        unpack(archive.end().as_slice(), directory.path(), limits).map(|report| report.size_bytes)
    };
    assert!(matches!(hole(b"1000", 1000), Ok(1)));
    assert!(matches!(
        hole(b"1000", 999),
        Err(UnpackError::Limit { limit: 999, .. })
    ));
    assert!(matches!(
        hole(b"8796093022208", u64::MAX),
        Err(UnpackError::Bomb { .. })
    ));
    let endless = Archive::default().pax(&[
        ("GNU.sparse.major", b"1"),
        ("GNU.sparse.minor", b"0"),
        ("GNU.sparse.realsize", b"8"),
    ]);
    assert_eq!(
        said(endless.file("s", "99999999\n0\n")),
        "the archive is malformed: a sparse map is not whole"
    );
}

#[test]
fn setuid_capabilities_and_owners_stay_together() {
    let capability = b"\x01\0\0\x02\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    let archive = Archive::default()
        .pax(&[("SCHILY.xattr.security.capability", capability)])
        .raw(EntryType::Regular, "tool", "", 0o6755, b"x")
        .pax(&[
            ("SCHILY.xattr.security.selinux", b"l"),
            ("SCHILY.xattr.user.a", b"1"),
        ])
        .raw(EntryType::Directory, "d", "", 0o3777, b"");
    let directory = tempfile::tempdir().unwrap();
    let limits = Limits {
        entries: 2,
        bytes: 4097,
        apparent_bytes: 1 << 40,
    };
    unpack(archive.end().as_slice(), directory.path(), limits).unwrap();
    let mut value = [0; 64];
    let tool = directory.path().join("tool");
    let length = rustix::fs::getxattr(&tool, "security.capability", &mut value).unwrap();
    let stat = fs_err::metadata(&tool).unwrap();
    assert_eq!(
        (&value[..length], stat.mode() & 0o7777, stat.uid()),
        (&capability[..], 0o6755, 5)
    );
    let stat = fs_err::metadata(directory.path().join("d")).unwrap();
    assert_eq!(stat.mode() & 0o7777, 0o3777);
    let mut names = [0; 256];
    let length = rustix::fs::listxattr(directory.path().join("d"), &mut names).unwrap();
    assert_eq!(&names[..length], b"user.a\0");
}

#[test]
fn only_what_was_in_a_replaced_directory_is_forgotten() {
    let private =
        |archive: Archive, name: &str| archive.raw(EntryType::Directory, name, "", 0o700, b"");
    let names = ["x", "x/sub", "x/sub/deep", "x-", "x.a", "x0", "y"];
    let archive = names.into_iter().fold(Archive::default(), private);
    let archive = archive.file("x/implied/f", "").file("x.a/implied/f", "");
    let (tree, report) = unpacked(
        &archive
            .file("x", "")
            .file("x/again/f", "")
            .directory("x/sub")
            .end(),
    )
    .unwrap();
    assert_eq!(
        tree,
        [
            "x 755 0:0 dir",
            "x- 700 5:6 dir",
            "x.a 700 5:6 dir",
            "x.a/implied 755 0:0 dir",
            "x.a/implied/f 644 5:6 file ",
            "x/again 755 0:0 dir",
            "x/again/f 644 5:6 file ",
            "x/sub 755 5:6 dir",
            "x0 700 5:6 dir",
            "y 700 5:6 dir",
        ]
    );
    let implied = ["x", "x/again", "x.a/implied"];
    assert_eq!(report.implied, implied.map(std::path::PathBuf::from));
}

#[test]
fn what_waits_for_the_end_is_bounded() {
    // Each line of the archive makes ten directories of long names, packed to next to nothing.
    let long = "n".repeat(250);
    let archive = (0..2000).fold(Archive::default(), |archive, number| {
        let path = format!("{number}/{}f", format!("{long}/").repeat(10));
        archive.pax(&[("path", path.as_bytes())]).file("x", "")
    });
    let within = tempfile::tempdir().unwrap();
    let limits = Limits {
        entries: u64::MAX,
        bytes: u64::MAX,
        apparent_bytes: 0,
    };
    let said = unpack(archive.end().as_slice(), within.path(), limits).unwrap_err();
    assert_eq!(
        said.to_string(),
        "the layer exceeds the limit of 16777216 bytes of paths that are left to the layers below"
    );
    let value = vec![b'v'; 600 << 10];
    let twice = Archive::default()
        .pax(&[("SCHILY.xattr.user.a", &value)])
        .pax(&[("SCHILY.xattr.user.b", &value)])
        .directory("d");
    let said = unpacked(&twice.end()).unwrap_err().to_string();
    assert_eq!(
        said,
        "the layer exceeds the limit of 1048576 bytes in an extended header"
    );
}

#[test]
fn a_later_frame_of_zstd_takes_no_more_than_the_first() {
    let frame = |window_log: u32, content: &[u8]| {
        let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
        encoder.window_log(window_log).unwrap();
        encoder.write_all(content).unwrap();
        encoder.finish().unwrap()
    };
    let tar = Archive::default()
        .raw(EntryType::Regular, "a", "", 0o644, &vec![1; 30 << 20])
        .end();
    let (start, rest) = tar.split_at(1 << 20);
    for (second, fits) in [(21, true), (24, false)] {
        let packed = [frame(20, start), frame(second, rest)].concat();
        let diff = tempfile::tempdir().unwrap();
        let source = ReaderChunks(packed.as_slice());
        let outcome = run_above(source, &mut Vec::new(), diff.path(), u64::MAX, u64::MAX);
        assert_eq!(outcome.unpacked.is_ok(), fits, "{:?}", outcome.unpacked);
    }
}

#[test]
fn bombs_go_off_outside() {
    // An honest end, and then as many zeros as one likes.
    let mut tar = Archive::default().file("a", "content").end();
    tar.resize(16 << 20, 0);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    gzip.write_all(&tar).unwrap();
    let zstd = zstd::encode_all(tar.as_slice(), 3).unwrap();
    for packed in [gzip.finish().unwrap(), zstd] {
        let bomb = |floor_bytes| {
            let diff = tempfile::tempdir().unwrap();
            let source = ReaderChunks(packed.as_slice());
            let outcome = run_above(source, &mut Vec::new(), diff.path(), u64::MAX, floor_bytes);
            // The digest of what came is known all the same.
            assert_eq!(outcome.packed.unwrap().size_bytes, packed.len() as u64);
            outcome.unpacked
        };
        // The one file of the archive.
        assert_eq!(bomb(32 << 20).unwrap().report.size_bytes, 7);
        match bomb(1 << 20) {
            Err(UnpackError::Bomb {
                packed_bytes,
                unpacked_bytes,
            }) => assert!(
                packed_bytes <= packed.len() as u64 && unpacked_bytes <= 9 << 20,
                "{packed_bytes} {unpacked_bytes}"
            ),
            other => panic!("{other:?}"),
        }
    }
}

/// Parts that names are made of: few, so that entries meet.
const PARTS: [&str; 12] = [
    "a",
    "b",
    "c",
    "..",
    ".",
    "",
    "canary",
    "file",
    ".wh.a",
    ".wh.file",
    ".wh..wh..opq",
    ".wh.",
];

fn name() -> impl Strategy<Value = String> {
    let part = (0..PARTS.len()).prop_map(|index| PARTS[index]);
    (any::<bool>(), prop::collection::vec(part, 1..4)).prop_map(|(absolute, parts)| {
        let slash = if absolute { "/" } else { "" };
        format!("{slash}{}", parts.join("/"))
    })
}

proptest! {
    /// Whatever entries follow on each other: the canary lives (see [`unpacked`]), and the same comes of it twice.
    #[test]
    fn no_archive_panics_or_leaves_its_layer(
        entries in prop::collection::vec((0..9_u8, name(), name(), 0..0o10000_u32), 0..24)
    ) {
        let mut archive = Archive::default();
        for (kind, name, link, mode) in &entries {
            let kind = match kind {
                0 | 1 => EntryType::Regular,
                2 => EntryType::Directory,
                3 | 4 => EntryType::Symlink,
                5 => EntryType::Link,
                6 => EntryType::Fifo,
                7 => EntryType::Char,
                _ => EntryType::Block,
            };
            let content: &[u8] = if kind == EntryType::Regular { b"content" } else { b"" };
            archive = archive.raw(kind, name, link, *mode, content);
        }
        let archive = archive.end();
        let first = unpacked(&archive).map_err(|error| error.to_string());
        let second = unpacked(&archive).map_err(|error| error.to_string());
        prop_assert_eq!(first, second);
    }

    /// Whatever bytes: no panic, and nothing outside.
    #[test]
    fn any_bytes_are_an_archive_or_an_error(
        mut bytes in prop::collection::vec(any::<u8>(), 0..4096),
        kind in prop::sample::select(b"\x000123456789xgLKSV".to_vec()),
        size in 0..2000_u64,
    ) {
        if let Some(header) = bytes.get_mut(..512) {
            header[156] = kind;
            header[124..136].copy_from_slice(format!("{size:011o}\0").as_bytes());
            checksum(header);
        }
        drop(unpacked(&bytes));
    }
}
