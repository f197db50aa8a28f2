//! Copies with real files.

use std::os::unix::fs::{FileTypeExt, PermissionsExt, symlink};

use super::super::super::unpack::writer;
use super::super::context::{Origin, Taking};
use super::super::pattern::IgnoreRules;
use super::*;
use crate::sys::atomic::{self, Durability};

/// A context, an image of one layer, and the layer that is made.
struct Place {
    temp: tempfile::TempDir,
}

/// What is known of a path of the image: kind and mode, owner, content or target.
type Facts = BTreeMap<String, String>;

impl Place {
    /// Unpacks an archive to `/x`.
    fn add(&self, bytes: &[u8]) {
        let mut filling = Filling::new(&self.path("diff"), &[self.path("image")]);
        let to = Destination::parse("/x", "/");
        filling.unpack(bytes, &to, None).unwrap();
        filling.finish().unwrap();
    }

    fn new() -> Self {
        let temp = tempfile::tempdir().unwrap();
        for directory in ["context", "image", "diff"] {
            fs_err::create_dir(temp.path().join(directory)).unwrap();
        }
        Self { temp }
    }

    fn path(&self, path: &str) -> PathBuf {
        self.temp.path().join(path)
    }

    /// Writes files; what ends in `/` is a directory, `a -> b` a link; modes are 0644 and 0755, or what follows `@`.
    fn fill(&self, root: &str, items: &[&str]) {
        for item in items {
            let (item, mode) = match item.split_once('@') {
                Some((item, mode)) => (item, u32::from_str_radix(mode, 8).ok()),
                None => (*item, None),
            };
            if let Some((name, target)) = item.split_once(" -> ") {
                symlink(target, self.path(root).join(name)).unwrap();
                continue;
            }
            let path = self.path(root).join(item.trim_end_matches('/'));
            let is_directory = item.ends_with('/');
            fs_err::create_dir_all(if is_directory {
                &path
            } else {
                path.parent().unwrap()
            })
            .unwrap();
            if !is_directory {
                atomic::write(&path, item.as_bytes(), 0o644, Durability::Cached).unwrap();
            }
            let mode = mode.unwrap_or(if is_directory { 0o755 } else { 0o644 });
            fs_err::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
        }
    }

    /// Copies sources to a destination, as a `COPY` with these flags would.
    fn copy(&self, line: &str, style: &Style) -> Result<(), String> {
        let (parents, line) = match line.strip_prefix("--parents ") {
            Some(line) => (true, line),
            None => (false, line),
        };
        let (mut exclude, mut words) = (Vec::new(), Vec::new());
        for word in line.split(' ') {
            match word.strip_prefix("--exclude=") {
                Some(pattern) => exclude.push(pattern),
                None => words.push(word),
            }
        }
        let destination = Destination::parse(words.pop().unwrap(), "/w");
        let exclude = IgnoreRules::of(exclude).unwrap();
        let tree = Tree::directory(&self.path("context"));
        let origin = Origin {
            tree: &tree,
            ignore: &IgnoreRules::default(),
            name: "the build context",
            stop: &Stop::default(),
        };
        let taking = Taking {
            exclude: &exclude,
            parents,
        };
        let mut filling = Filling::new(&self.path("diff"), &[self.path("image")]);
        for word in words {
            let selected = origin.take(word, taking).map_err(|e| e.to_string())?;
            for source in &selected {
                let copied = filling.copy(source, &destination, style);
                copied.map_err(|error| error.to_string())?;
            }
        }
        filling.finish().map_err(|error| error.to_string())
    }

    /// Returns what the layer has.
    fn facts(&self) -> Facts {
        let mut facts = Facts::new();
        let root = self.path("diff");
        list(&root, &root, &mut facts);
        facts
    }

    /// The layer's paths with mode and content, in order.
    fn shown(&self) -> String {
        let facts = self.facts().into_iter();
        let lines = facts.map(|(path, fact)| format!("{path} {fact}"));
        lines.collect::<Vec<_>>().join("; ")
    }
}

fn list(root: &Path, directory: &Path, facts: &mut Facts) {
    for entry in fs_err::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let m = fs_err::symlink_metadata(&path).unwrap();
        let name = path.strip_prefix(root).unwrap().display().to_string();
        let owner = match (m.uid(), m.gid()) {
            (0, 0) => String::new(),
            (uid, gid) => format!(" {uid}:{gid}"),
        };
        let mode = format!("{:o}{owner}", m.mode() & 0o7777);
        let kind = m.file_type();
        let fact = if m.is_dir() {
            list(root, &path, facts);
            format!("{mode} /")
        } else if kind.is_symlink() {
            format!("-> {}", fs_err::read_link(&path).unwrap().display())
        } else if kind.is_fifo() {
            format!("{mode} fifo")
        } else if kind.is_socket() {
            format!("{mode} socket")
        } else {
            format!("{mode} {}", fs_err::read_to_string(&path).unwrap())
        };
        facts.insert(name, fact);
    }
}

/// As `COPY` from a context does it.
fn plain() -> Style {
    Style {
        owner: Some(Owner::ROOT),
        mode: None,
    }
}

/// Rows of the test below.
const DESTINATIONS: &[(&str, &str)] = &[
    ("f /g", "g 644 f"),
    ("f /n/g", "n 755 /; n/g 644 f"),
    ("f /n/", "n 755 /; n/f 644 f"),
    ("f /n/.", "n 755 /; n/f 644 f"),
    ("f /dir", "dir 711 /; dir/f 644 f"),
    ("f g", "w 755 /; w/g 644 f"),
    ("f .", "w 755 /; w/f 644 f"),
    ("f ./", "w 755 /; w/f 644 f"),
    ("f ../x/../y", "y 644 f"),
    ("f /link/../y", "y 644 f"),
    ("f /abs/sub/../../y/", "y 755 /; y/f 644 f"),
    ("f /../../y", "y 644 f"),
    (
        "d/ /n",
        "n 755 /; n/sub 750 /; n/sub/s 600 d/sub/s; n/x 644 d/x",
    ),
    (
        "d /n/m/",
        "n 755 /; n/m 755 /; n/m/sub 750 /; n/m/sub/s 600 d/sub/s; n/m/x 644 d/x",
    ),
    (
        "d /dir",
        "dir 711 /; dir/sub 750 /; dir/sub/s 600 d/sub/s; dir/x 644 d/x",
    ),
    ("d/sub f /n/", "n 755 /; n/f 644 f; n/s 600 d/sub/s"),
    ("none* /n/", ""),
    ("f none* /n/", "n 755 /; n/f 644 f"),
    ("*f /n/", "n 755 /; n/f 644 f; n/to-f 644 f"),
    (
        "d* /n/",
        "n 755 /; n/sub 750 /; n/sub/s 600 d/sub/s; n/x 644 d/x",
    ),
    ("f /link", "dir 711 /; dir/f 644 f"),
    ("f /link/g", "dir 711 /; dir/g 644 f"),
    ("f /abs/g", "dir 711 /; dir/g 644 f"),
    ("f /flink", "dir 711 /; dir/old 644 f"),
    ("f /out/g", "etc 755 /; etc/g 644 f"),
    ("f /dangling", "n 755 /; n/target 644 f"),
    ("to-f /g", "g 644 f"),
    ("to-f /n/", "n 755 /; n/to-f 644 f"),
    (
        "to-d /n",
        "n 755 /; n/sub 750 /; n/sub/s 600 d/sub/s; n/x 644 d/x",
    ),
    (
        "links /n",
        "n 755 /; n/abs -> /etc/passwd; n/dead -> nowhere; n/up -> ../../x",
    ),
    ("--exclude=sub d /n", "n 755 /; n/x 644 d/x"),
    (
        "--exclude=* --exclude=!sub/s d /n",
        "n 755 /; n/sub 750 /; n/sub/s 600 d/sub/s",
    ),
    (
        "--parents d/sub/s /n/",
        "n 755 /; n/d 700 /; n/d/sub 750 /; n/d/sub/s 600 d/sub/s",
    ),
    (
        "--parents d/./sub/s /dir",
        "dir 711 /; dir/sub 750 /; dir/sub/s 600 d/sub/s",
    ),
    ("--parents f /n/", "n 755 /; n/f 644 f"),
];

#[test]
fn destinations_decide_where_files_go() {
    for (line, expected) in DESTINATIONS {
        let place = Place::new();
        place.fill(
            "context",
            &["f", "d/sub/s@600", "d/x", "links/", "d/@700", "d/sub/@750"],
        );
        place.fill(
            "context",
            &["to-f -> f", "to-d -> /d", "links/abs -> /etc/passwd"],
        );
        place.fill("context", &["links/up -> ../../x", "links/dead -> nowhere"]);
        place.fill(
            "image",
            &["dir/old", "dir/@711", "link -> dir", "abs -> /dir"],
        );
        place.fill(
            "image",
            &[
                "flink -> dir/old",
                "out -> ../../etc",
                "dangling -> /n/target",
            ],
        );
        place.copy(line, &plain()).unwrap();
        assert_eq!(place.shown(), *expected, "{line}");
    }
}

#[test]
fn kinds_replace_each_other_or_do_not() {
    let table = [
        (
            "over /t",
            Ok("t 755 /; t/a 644 over/a; t/b -> c; t/d 755 /; t/d/e 644 over/d/e"),
        ),
        ("file /t/d", Ok("t 755 /; t/d 755 /; t/d/file 644 file")),
        (
            "tofile /t",
            Err("cannot replace to directory \"/t/d\" with file"),
        ),
        (
            "tolink /t",
            Err("cannot replace to directory \"/t/d\" with file"),
        ),
        ("todir /t", Err("cannot copy to non-directory: \"/t/a\"")),
        (
            "tolinkdir /t",
            Err("cannot copy to non-directory: \"/t/l\""),
        ),
        ("over /t/a", Err("cannot copy to non-directory: \"/t/a\"")),
        ("file /t/a/", Err("cannot copy to non-directory: \"/t/a\"")),
    ];
    for (line, expected) in table {
        let place = Place::new();
        place.fill(
            "context",
            &["over/a", "over/d/e", "over/b -> c", "file", "tofile/d"],
        );
        place.fill(
            "context",
            &["tolink/", "tolink/d -> x", "todir/a/x", "tolinkdir/l/x"],
        );
        place.fill("image", &["t/a", "t/b", "t/d/e", "t/l -> d"]);
        let got = place.copy(line, &plain()).map(|()| place.shown());
        let expected = expected.map(str::to_owned).map_err(str::to_owned);
        assert_eq!(got, expected, "{line}");
    }
}

#[test]
fn owners_modes_and_times() {
    let place = Place::new();
    place.fill("context", &["f@4755", "d/x", "d/have/y"]);
    place.fill("image", &["d/have/old", "d/@700", "d/have/@711"]);
    for path in ["image/d", "image/d/have"] {
        rustix::fs::chown(
            place.path(path),
            Some(Uid::from_raw(7)),
            Some(Gid::from_raw(8)),
        )
        .unwrap();
    }
    let old = fs_err::metadata(place.path("image/d")).unwrap().mtime();
    let style = Style {
        owner: Some(Owner { uid: 5, gid: 6 }),
        mode: None,
    };
    place.copy("f /n/m/f", &style).unwrap();
    place.copy("d /d", &style).unwrap();
    assert_eq!(
        place.shown(),
        "d 700 7:8 /; d/have 755 5:6 /; d/have/y 644 5:6 d/have/y; d/x 644 5:6 d/x; \
         n 755 5:6 /; n/m 755 5:6 /; n/m/f 4755 5:6 f@4755"
            .replace("f@4755", "f")
    );
    assert_eq!(fs_err::metadata(place.path("diff/d")).unwrap().mtime(), old);
    let time = |path: &str| {
        fs_err::metadata(place.path(path))
            .unwrap()
            .modified()
            .unwrap()
    };
    assert_eq!(time("diff/n/m/f"), time("context/f"));
    let modes = [
        ("0644", "n 644 /; n/f 644 f"),
        ("4700", "n 700 /; n/f 4700 f"),
        ("u=rwX,go=rX", "n 755 /; n/f 644 f"),
    ];
    for (mode, expected) in modes {
        let place = Place::new();
        place.fill("context", &["f"]);
        let style = Style {
            owner: Some(Owner::ROOT),
            mode: ModeChange::parse(mode),
        };
        place.copy("f /n/f", &style).unwrap();
        assert_eq!(place.shown(), expected, "{mode}");
    }
}

#[test]
fn special_files_hard_links_and_attributes() {
    let place = Place::new();
    place.fill("context", &["d/a", "x"]);
    let context = place.path("context");
    fs_err::hard_link(context.join("d/a"), context.join("d/b")).unwrap();
    fs_err::hard_link(context.join("d/a"), context.join("c")).unwrap();
    let make = |name: &str, kind| {
        let mode = Mode::from_raw_mode(0o640);
        rustix::fs::mknodat(CWD, context.join(name), kind, mode, 0).unwrap();
    };
    make("d/fifo", rustix::fs::FileType::Fifo);
    make("d/socket", rustix::fs::FileType::Socket);
    let flags = rustix::fs::XattrFlags::empty();
    let has_attributes = rustix::fs::lsetxattr(context.join("x"), "user.k", b"v", flags).is_ok();
    place.copy("d x c /n/", &plain()).unwrap();
    assert_eq!(
        place.shown(),
        "n 755 /; n/a 644 d/a; n/b 644 d/a; n/c 644 d/a; n/fifo 640 fifo; n/socket 640 socket; n/x 644 x"
    );
    let inode = |name: &str| {
        fs_err::metadata(place.path("diff/n").join(name))
            .unwrap()
            .ino()
    };
    assert_eq!(inode("a"), inode("b"));
    assert_ne!(inode("a"), inode("c"), "another source");
    if has_attributes {
        let kept = attributes(&place.path("diff/n/x"));
        assert_eq!(kept, [("user.k".into(), b"v".to_vec())]);
    }
}

#[test]
fn files_that_change_are_copied_again_or_refused() {
    let place = Place::new();
    place.fill("context", &["f"]);
    let path = place.path("context/f");
    let seen = fs_err::symlink_metadata(&path).unwrap();
    fs_err::remove_file(&path).unwrap();
    atomic::write(&path, b"longer than before", 0o644, Durability::Cached).unwrap();
    let to = place.path("diff/f");
    let (_, changed) = copy_content(&path, &to, &seen, &Stop::default()).unwrap();
    assert!(changed);
    assert_eq!(fs_err::read_to_string(&to).unwrap(), "longer than before");
    // A pipe in its place is no file, and is not waited for.
    fs_err::remove_file(&path).unwrap();
    let mode = Mode::from_raw_mode(0o644);
    rustix::fs::mknodat(CWD, &path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    let error = copy_content(&path, &place.path("diff/g"), &seen, &Stop::default()).unwrap_err();
    assert!(
        error.to_string().ends_with("is no longer a file"),
        "{error}"
    );
    open_regular(&path).unwrap_err();
}

#[test]
fn a_directory_that_became_a_link_is_not_gone_through() {
    let place = Place::new();
    fs_err::create_dir(place.path("elsewhere")).unwrap();
    for name in ["context", "elsewhere"] {
        fs_err::write(place.path(name).join("f"), name).unwrap();
    }
    let path = place.path("context/f");
    open_regular(&path).unwrap();
    let seen = fs_err::symlink_metadata(&path).unwrap();
    fs_err::rename(place.path("context"), place.path("aside")).unwrap();
    fs_err::os::unix::fs::symlink("elsewhere", place.path("context")).unwrap();
    let to = place.path("diff/f");
    let error = copy_content(&path, &to, &seen, &Stop::default()).unwrap_err();
    let told = format!("`{}` is a link by now, or lies behind one", path.display());
    assert_eq!(error.to_string(), told);
}

/// Packs members: name, kind, content or target.
fn packed(members: &[(&str, tar::EntryType, &str)]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (name, kind, content) in members {
        let mut header = tar::Header::new_gnu();
        // As given, `..` and all.
        let field = &mut header.as_old_mut().name;
        field[..name.len()].copy_from_slice(name.as_bytes());
        header.set_entry_type(*kind);
        header.set_mode(0o640);
        header.set_uid(7);
        header.set_gid(8);
        header.set_mtime(1_000_000_000);
        let is_link = kind.is_symlink() || kind.is_hard_link();
        if is_link {
            header.set_link_name_literal(content).unwrap();
        }
        let data = if is_link { "" } else { content };
        header.set_size(data.len() as u64);
        header.set_cksum();
        archive.append(&header, data.as_bytes()).unwrap();
    }
    archive.into_inner().unwrap()
}

#[test]
fn archives_stay_inside() {
    use tar::EntryType::{Directory, Fifo, Link, Regular, Symlink};
    let place = Place::new();
    place.fill("image", &["have/@700", "have/old", "abs -> /have"]);
    let bytes = packed(&[
        ("a/f", Regular, "f"),
        ("../../up", Regular, "up"),
        ("/abs", Regular, "abs"),
        ("d/", Directory, ""),
        ("l", Symlink, "/have"),
        ("l/through", Regular, "t"),
        ("hard", Link, "a/f"),
        ("p", Fifo, ""),
        ("a/f2", Regular, "1"),
        ("a/f2", Regular, "2"),
    ]);
    place.add(&bytes);
    assert_eq!(
        place.shown(),
        "x 755 /; x/a 755 /; x/a/f 640 7:8 f; x/a/f2 640 7:8 2; x/abs 640 7:8 abs; x/d 640 7:8 /; x/hard 640 7:8 f; \
         x/have 755 /; x/have/through 640 7:8 t; x/l -> /have; x/p 640 7:8 fifo; x/up 640 7:8 up"
    );
    let time = fs_err::metadata(place.path("diff/x/a/f")).unwrap().mtime();
    assert_eq!(time, 1_000_000_000);
    for (name, kind, content, expected) in [
        (
            "h",
            Link,
            "../../../etc/passwd",
            "hard link to `/x/etc/passwd`",
        ),
        (".", Regular, "x", "no file name"),
        ("..", Regular, "x", "no file name"),
    ] {
        let place = Place::new();
        place.fill("image", &["x/have/"]);
        let mut filling = Filling::new(&place.path("diff"), &[place.path("image")]);
        let bytes = packed(&[(name, kind, content)]);
        let to = Destination::parse("/x", "/");
        let error = filling.unpack(bytes.as_slice(), &to, None).unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
    }
}

#[test]
fn an_archive_says_what_its_place_is_like_as_a_root_and_not_as_a_dot() {
    use tar::EntryType::Directory;
    for (name, expected) in [
        ("/", "x 640 7:8 /"),
        ("/a/..", "x 640 7:8 /"),
        ("./", "x 755 /"),
        ("a/..", "x 755 /"),
    ] {
        let place = Place::new();
        place.add(&packed(&[(name, Directory, "")]));
        assert_eq!(place.shown(), expected, "{name}");
        let time = fs_err::metadata(place.path("diff/x")).unwrap().mtime();
        assert_eq!(time == 1_000_000_000, expected.contains("7:8"), "{name}");
    }
}

#[test]
fn links_on_the_way_of_an_archive_begin_where_it_is_unpacked() {
    use tar::EntryType::{Link, Regular, Symlink};
    let place = Place::new();
    place.fill(
        "image",
        &[
            "x/y/z/@700",
            "x/to -> /y/z",
            "x/up -> ../../../e",
            "y/z/",
            "e/",
        ],
    );
    let bytes = packed(&[
        ("to/f", Regular, "1"),
        ("up/f", Regular, "2"),
        ("h", Link, "to/f"),
        ("own", Symlink, "../y/../../y"),
        ("own/g", Regular, "3"),
    ]);
    place.add(&bytes);
    assert_eq!(
        place.shown(),
        "x 755 /; x/e 755 /; x/e/f 640 7:8 2; x/h 640 7:8 1; x/own -> ../y/../../y; x/y 755 /; x/y/g 640 7:8 3; \
         x/y/z 700 /; x/y/z/f 640 7:8 1"
    );
}

#[test]
fn what_is_no_longer_wanted_ends() {
    let place = Place::new();
    place.fill("context", &["f"]);
    let stop = Stop::default();
    stop.ask();
    let mut filling = Filling::new(&place.path("diff"), &[]).heeding(&stop);
    let to = Destination::parse("/x", "/");
    let bytes = packed(&[("f", tar::EntryType::Regular, "1")]);
    filling.unpack(bytes.as_slice(), &to, None).unwrap_err();
    // Also within a file, whatever its size.
    let path = place.path("endless");
    let file = fs_err::File::create(&path).unwrap();
    file.set_len(1 << 40).unwrap();
    let seen = fs_err::symlink_metadata(&path).unwrap();
    let error = copy_content(&path, &place.path("diff/g"), &seen, &stop).unwrap_err();
    assert!(error.to_string().contains("no longer wanted"), "{error}");
}

#[test]
fn what_is_in_the_way_of_an_archive_goes() {
    use tar::EntryType::{Directory, Regular};
    let place = Place::new();
    place.fill(
        "image",
        &["x/have/old", "x/file", "x/link -> /etc", "etc/keep"],
    );
    let bytes = packed(&[
        ("have", Regular, "now a file"),
        ("file/", Directory, ""),
        ("file/in", Regular, "1"),
        ("link/", Directory, ""),
        ("link/in", Regular, "2"),
        ("new/f", Regular, "3"),
        ("new", Regular, "4"),
    ]);
    place.add(&bytes);
    assert_eq!(
        place.shown(),
        "x 755 /; x/file 640 7:8 /; x/file/in 640 7:8 1; x/have 640 7:8 now a file; x/link 640 7:8 /; \
         x/link/in 640 7:8 2; x/new 640 7:8 4"
    );
}

#[test]
fn members_take_the_place_of_what_is_there() {
    use tar::EntryType::{Directory, Regular, Symlink};
    let place = Place::new();
    place.fill(
        "image",
        &["x/@711", "x/d/old", "x/link -> ../e", "e/f", "x/file"],
    );
    let bytes = packed(&[
        ("./", Directory, ""),
        ("d", Regular, "now a file"),
        ("link/", Directory, ""),
        ("link/in", Regular, "in"),
        ("link/sub/f", Regular, "f"),
        ("file", Symlink, "d"),
        ("new/a", Regular, "a"),
        ("new", Regular, "b"),
        ("again", Regular, "1"),
        ("again/", Directory, ""),
    ]);
    place.add(&bytes);
    assert_eq!(
        place.shown(),
        "x 711 /; x/again 640 7:8 /; x/d 640 7:8 now a file; x/file -> d; x/link 640 7:8 /; x/link/in 640 7:8 in; \
         x/link/sub 755 /; x/link/sub/f 640 7:8 f; x/new 640 7:8 b"
    );
    // A directory that was a file in between begins empty.
    let place = Place::new();
    place.fill("image", &["x/d/old"]);
    let bytes = packed(&[
        ("d", Regular, "x"),
        ("d/", Directory, ""),
        ("d/new", Regular, "n"),
    ]);
    place.add(&bytes);
    let tree = Tree::layers(vec![place.path("diff"), place.path("image")]);
    let node = tree
        .resolve(Path::new("/x/d"), Last::Keep)
        .unwrap()
        .node
        .unwrap();
    let children = tree.children(&node).unwrap().into_iter();
    let names: Vec<_> = children.map(|(name, _)| name).collect();
    assert_eq!(names, ["new"]);
}

#[test]
fn an_archive_takes_no_more_memory_than_its_headers_may() {
    let place = Place::new();
    for kind in [b'x', b'g', b'L', b'K'] {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::new(kind));
        header.set_size(3 << 30);
        header.set_cksum();
        let bytes = io::Read::chain(&header.as_bytes()[..], io::repeat(b'a'));
        let mut filling = Filling::new(&place.path("diff"), &[]);
        let to = Destination::parse("/x", "/");
        let error = filling.unpack(bytes, &to, None).unwrap_err();
        assert!(error.to_string().contains("1048576"), "{error}");
    }
}

#[test]
fn capabilities_and_lists_are_copied_whoever_owns_the_copy() {
    let place = Place::new();
    place.fill("context", &["d/f@755", "d/sub/g"]);
    let flags = rustix::fs::XattrFlags::empty();
    // `struct vfs_cap_data`, revision 2: cap_net_bind_service, effective.
    let mut capability = [0_u8; 20];
    capability[..8].copy_from_slice(&[1, 0, 0, 2, 0, 4, 0, 0]);
    // Version 2; user::rwx, user:7:rwx, group::r-x, mask::rwx, other::r-x.
    let mut list = vec![2, 0, 0, 0];
    let none = u32::MAX;
    for (tag, bits, id) in [
        (1_u16, 7_u16, none),
        (2, 7, 7),
        (4, 5, none),
        (0x10, 7, none),
        (0x20, 5, none),
    ] {
        list.extend(tag.to_le_bytes());
        list.extend(bits.to_le_bytes());
        list.extend(id.to_le_bytes());
    }
    let set = |path: &str, name: &str, value: &[u8]| {
        rustix::fs::lsetxattr(place.path(path), name, value, flags).unwrap();
    };
    set("context/d/f", "security.capability", &capability);
    let acl = ["system.posix_acl_access", "system.posix_acl_default"];
    let has_lists =
        rustix::fs::lsetxattr(place.path("context/d/sub"), acl[0], &list, flags).is_ok();
    if has_lists {
        set("context/d/sub", acl[1], &list);
    }
    let style = Style {
        owner: Some(Owner { uid: 5, gid: 6 }),
        mode: None,
    };
    place.copy("d /n/", &style).unwrap();
    let kept = |path: &str| attributes(&place.path(path));
    assert_eq!(
        kept("diff/n/f"),
        [("security.capability".into(), capability.to_vec())]
    );
    if has_lists {
        let both = acl.map(|name| (OsString::from(name), list.clone()));
        assert_eq!(kept("diff/n/sub"), both);
        // It was not there yet when the file was made.
        assert_eq!(kept("diff/n/sub/g"), []);
    }
}

#[test]
fn a_file_never_gets_out_by_its_name() {
    let temp = tempfile::tempdir().unwrap();
    let diff = temp.path().join("diff");
    fs_err::create_dir(&diff).unwrap();
    let mut filling = Filling::new(&diff, &[]);
    let style = Style {
        owner: None,
        mode: None,
    };
    for name in ["../out", "..", ".", "a/../../out", "/out", "a/", ""] {
        let into = Destination::parse("/d/", "/");
        let error = filling.document(name, "x", &into, &style).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("a file cannot be called `{name}`")
        );
    }
    let into = Destination::parse("/d/", "/");
    filling.document("...", "x", &into, &style).unwrap();
    assert_eq!(fs_err::read(diff.join("d/...")).unwrap(), b"x");
}

#[test]
fn what_a_layer_would_take_for_a_deletion_is_told() {
    let place = Place::new();
    place.fill("context", &["d/.wh.f", "f"]);
    let measured = |filling: Filling| {
        filling.finish().unwrap();
        writer::write_layer(&place.path("diff"), &mut io::sink()).unwrap()
    };
    let add = |bytes: &[u8]| {
        let mut filling = Filling::new(&place.path("diff"), &[place.path("image")]);
        let to = Destination::parse("/x", "/");
        let unpacked = filling.unpack(bytes, &to, None);
        unpacked
            .map(|()| filling)
            .map_err(|error| error.to_string())
    };
    let filling = add(&packed(&[("a/.wh.b", tar::EntryType::Regular, "")])).unwrap();
    assert_eq!(measured(filling).reserved, Some("x/a/.wh.b".into()));
    let bytes = packed(&[("c", tar::EntryType::Char, "")]);
    let Err(error) = add(&bytes) else {
        panic!("a whiteout of the overlay was made");
    };
    assert!(error.contains("character device 0:0"), "{error}");
    assert_eq!(place.copy("d /y", &plain()), Ok(()));
    let mut bytes = Vec::new();
    writer::write_files(&place.path("diff"), &mut bytes).unwrap();
    let mut archive = tar::Archive::new(bytes.as_slice());
    let names = archive.entries().unwrap();
    let mut names = names.map(|entry| entry.unwrap().path().unwrap().into_owned());
    assert!(names.any(|name| name == Path::new("x/a/.wh.b")));
}
