//! Trees and what is taken from them.

use std::path::Path;

use sha2::{Digest as _, Sha256};

use super::super::pattern::IgnoreRules;
use super::super::tree::Tree;
use super::index::Identity;
use super::*;
use crate::images::Stop;
use crate::sys::atomic::{self, Durability};

/// A context with `a.txt`, `b.md`, `d/c.txt`, `d/e/f`, and a link to `d`.
fn context() -> tempfile::TempDir {
    let temp = tempfile::tempdir().unwrap();
    fs_err::create_dir_all(temp.path().join("d/e")).unwrap();
    for file in ["a.txt", "b.md", "d/c.txt", "d/e/f"] {
        fill(&temp.path().join(file), file);
    }
    std::os::unix::fs::symlink("d", temp.path().join("link")).unwrap();
    temp
}

fn fill(path: &Path, text: &str) {
    atomic::write(path, text.as_bytes(), 0o644, Durability::Cached).unwrap();
}

/// Reads a source, with `--parents` before it where that is asked for.
fn asked<'a>(source: &'a str, exclude: &'a IgnoreRules) -> (&'a str, Taking<'a>) {
    let bare = source.strip_prefix("--parents ");
    let parents = bare.is_some();
    (bare.unwrap_or(source), Taking { exclude, parents })
}

/// `name: path path …` for each selected source.
fn shown(root: &Path, rules: &str, source: &str, exclude: &[&str]) -> String {
    let tree = Tree::directory(root);
    let ignore = IgnoreRules::parse(rules).unwrap();
    let origin = Origin {
        tree: &tree,
        ignore: &ignore,
        name: "the build context",
        stop: &Stop::default(),
    };
    let exclude = IgnoreRules::of(exclude.iter().copied()).unwrap();
    let (source, taking) = asked(source, &exclude);
    let early = origin.expect(source, taking);
    match origin.take(source, taking) {
        Err(error) => {
            let early = early.err().map(|early| early.to_string());
            assert!(early.is_none_or(|early| early == error.to_string()));
            error.to_string()
        }
        Ok(selected) => {
            // What is told early must be so.
            early.unwrap();
            let lines = selected.iter().map(|source| {
                let paths = source.entries.iter().map(|entry| {
                    let leads = if entry.leads { "(" } else { "" };
                    format!("{leads}{}", entry.path.display())
                });
                let name = source.name.display();
                format!("{name}: {}", paths.collect::<Vec<_>>().join(" "))
            });
            lines.collect::<Vec<_>>().join("; ")
        }
    }
}

#[test]
fn what_cannot_be_taken_is_known_without_a_walk() {
    let temp = context();
    let expect = |rules: &str, source: &str| {
        let (tree, ignore) = (Tree::directory(temp.path()), IgnoreRules::parse(rules));
        let (ignore, stop, exclude) = (ignore.unwrap(), Stop::default(), IgnoreRules::default());
        let origin = Origin {
            tree: &tree,
            ignore: &ignore,
            name: "the build context",
            stop: &stop,
        };
        let (source, taking) = asked(source, &exclude);
        let found = origin.expect(source, taking);
        found.err().map(|error| error.to_string())
    };
    let not_found = |path: &str| Some(format!("\"/{path}\": not found in the build context"));
    let excluded = |path: &str| Some(format!("\"/{path}\": excluded by .dockerignore"));
    let table = [
        ("", "a.txt", None),
        ("", "link/../../d/e", None),
        ("", "link/e/f", None),
        ("", "nope", not_found("nope")),
        ("", "../d/nope", not_found("d/nope")),
        ("", "a.txt/x", not_found("a.txt/x")),
        ("", "\\[x\\]", not_found("[x]")),
        ("a.txt", "a.txt", excluded("a.txt")),
        ("d/*", "link/e/f", excluded("link/e/f")),
        ("d", "d", excluded("d")),
        // Something of it may be kept: only a walk can tell.
        ("d\n!d/x", "d", None),
        ("", "no*", None),
        ("", "d/no*/x", None),
        ("", "nope/*.txt", not_found("nope")),
        ("d", "d/*.txt", excluded("d")),
        ("", "d/*/[", Some("syntax error in pattern `[`".to_owned())),
        ("", "--parents d/./e/f", None),
        ("", "--parents d/./e/g", not_found("d/e/g")),
        ("", "--parents nope/*/./x", None),
        ("d", "--parents d/./e", excluded("d/e")),
    ];
    for (rules, source, expected) in table {
        assert_eq!(expect(rules, source), expected, "{rules:?} {source}");
    }
}

#[test]
fn sources_select() {
    let temp = context();
    let table: [(&str, &str, &[&str], &str); 26] = [
        ("", "a.txt", &[], "a.txt: "),
        ("", "/../a.txt", &[], "a.txt: "),
        ("", "d/", &[], "d:  c.txt e e/f"),
        ("", ".", &[], ":  a.txt b.md d d/c.txt d/e d/e/f link"),
        ("", "link", &[], "link:  c.txt e e/f"),
        ("", "*.txt", &[], "a.txt: "),
        ("", "*/*.txt", &[], "c.txt: "),
        ("", "no*", &[], ""),
        ("", "link/*.txt", &[], "c.txt: "),
        ("", "l*/c.txt", &[], ""),
        ("", "*k", &[], "link:  c.txt e e/f"),
        ("", "d/c.txt/", &[], "c.txt: "),
        (
            "",
            "d/c.txt/x",
            &[],
            "\"/d/c.txt/x\": not found in the build context",
        ),
        ("", "nope", &[], "\"/nope\": not found in the build context"),
        (
            "",
            "/../no/pe",
            &[],
            "\"/no/pe\": not found in the build context",
        ),
        (
            "a.txt",
            "a.txt",
            &[],
            "\"/a.txt\": excluded by .dockerignore",
        ),
        ("link", "link", &[], "\"/link\": excluded by .dockerignore"),
        ("d", "link", &[], "\"/link\": excluded by .dockerignore"),
        (
            "a.txt",
            "*",
            &[],
            "b.md: ; d:  c.txt e e/f; link:  c.txt e e/f",
        ),
        ("*\n!d/e/f", ".", &[], ":  d d/e d/e/f"),
        ("d/e", "d", &[], "d:  c.txt"),
        ("", "d", &["*.txt"], "d:  e e/f"),
        ("", "a.txt", &["*.txt"], "a.txt: "),
        ("", "*.*", &["*.txt"], "b.md: "),
        ("", "d", &["e", "!e/f"], "d:  c.txt (e e/f"),
        ("", "d", &["e"], "d:  c.txt"),
    ];
    for (rules, source, exclude, expected) in table {
        let got = shown(temp.path(), rules, source, exclude);
        assert_eq!(got, expected, "{rules:?} {source}");
    }
}

#[test]
fn a_wildcard_must_not_find_links_that_lead_nowhere() {
    let temp = context();
    let link = |to: &str, name: &str| {
        std::os::unix::fs::symlink(to, temp.path().join(name)).unwrap();
    };
    link("nowhere", "gone");
    link("/etc/passwd", "out");
    link("loop", "loop");
    link("../a.txt", "d/up");
    let table = [
        ("", "g*", "\"/gone\": not found in the build context"),
        ("gone", "g*", ""),
        ("", "none/*", "\"/none\": not found in the build context"),
        ("d", "d/*", "\"/d\": excluded by .dockerignore"),
        ("d\n!d/e", "d/*", "e:  f"),
        ("", "a.txt/*", ""),
        ("", "ou?", "\"/out\": not found in the build context"),
        ("", "loo*", "too many symbolic links in `loop`"),
        ("", "*/c.txt", "c.txt: "),
        ("", "*/e/*", "f: "),
        ("", "**/up", "up: "),
        ("a.txt", "**/up", "\"/d/up\": excluded by .dockerignore"),
        (
            "",
            ".",
            ":  a.txt b.md d d/c.txt d/e d/e/f d/up gone link loop out",
        ),
    ];
    for (rules, source, expected) in table {
        let got = shown(temp.path(), rules, source, &[]);
        assert_eq!(got, expected, "{rules:?} {source}");
    }
}

#[test]
fn parents_are_kept() {
    let temp = tempfile::tempdir().unwrap();
    for file in [
        "t/a/b/c/d/foo",
        "t/a/b/c/d/e/bay",
        "t/a/b2/c/d/e/bar",
        "t/a/b/c2/d/e/baz",
        "t/a/b/c2/d/e2/baz",
        "x",
    ] {
        let path = temp.path().join(file);
        fs_err::create_dir_all(path.parent().unwrap()).unwrap();
        fill(&path, file);
    }
    let table: [(&str, &[&str], &str); 17] = [
        (
            "t/a/b/c/d/foo",
            &[],
            ":  (t (t/a (t/a/b (t/a/b/c (t/a/b/c/d t/a/b/c/d/foo",
        ),
        ("/t/a/b/./c/d", &[], "b:  (c c/d c/d/e c/d/e/bay c/d/foo"),
        (
            "t/a/b/c/d/.",
            &[],
            ":  (t (t/a (t/a/b (t/a/b/c t/a/b/c/d t/a/b/c/d/e t/a/b/c/d/e/bay t/a/b/c/d/foo",
        ),
        (
            "./t/a/b2/c",
            &[],
            ":  (t (t/a (t/a/b2 t/a/b2/c t/a/b2/c/d t/a/b2/c/d/e t/a/b2/c/d/e/bar",
        ),
        (
            "/t/a/./b/./c",
            &[],
            "a:  (b b/c b/c/d b/c/d/e b/c/d/e/bay b/c/d/foo",
        ),
        (
            "/t/a/./*/c",
            &[],
            "a:  (b b/c b/c/d b/c/d/e b/c/d/e/bay b/c/d/foo (b2 b2/c b2/c/d b2/c/d/e b2/c/d/e/bar",
        ),
        (
            "/t/a/b*/./c/**/e",
            &[],
            "b:  (c (c/d c/d/e c/d/e/bay; b2:  (c (c/d c/d/e c/d/e/bar",
        ),
        (
            "/t/a/b/c*/./d/**/baz",
            &[],
            "c2:  (d (d/e d/e/baz (d/e2 d/e2/baz",
        ),
        (
            "**/ba?",
            &["**/baz"],
            ":  (t (t/a (t/a/b (t/a/b/c (t/a/b/c/d (t/a/b/c/d/e t/a/b/c/d/e/bay (t/a/b2 (t/a/b2/c (t/a/b2/c/d (t/a/b2/c/d/e t/a/b2/c/d/e/bar",
        ),
        ("x", &[], ":  x"),
        ("./x", &[], ":  x"),
        ("t/a/b3*/c", &[], ""),
        ("t/a/b/./c3*", &[], ""),
        ("t/none", &[], "\"/t/none\": not found in the build context"),
        (
            "none/./x",
            &[],
            "\"/none/x\": not found in the build context",
        ),
        ("x/./y*", &[], ""),
        ("../../x", &[], ":  x"),
    ];
    for (source, exclude, expected) in table {
        let got = shown(temp.path(), "", &format!("--parents {source}"), exclude);
        assert_eq!(got, expected, "{source}");
    }
    let got = shown(temp.path(), "t/a/b", "--parents t/a/b/c/d/foo", &[]);
    assert_eq!(got, "\"/t/a/b/c/d/foo\": excluded by .dockerignore");
}

#[test]
fn hostile_trees_end_in_an_error_or_a_plain_copy() {
    let temp = tempfile::tempdir().unwrap();
    let outside = tempfile::tempdir().unwrap();
    fill(&outside.path().join("secret"), "x");
    for (name, target) in [
        ("out", outside.path().join("secret").display().to_string()),
        ("up", "../../../../../../../etc/passwd".to_owned()),
        ("loop", "loop".to_owned()),
    ] {
        std::os::unix::fs::symlink(target, temp.path().join(name)).unwrap();
    }
    for name in ["out", "up"] {
        let got = shown(temp.path(), "", name, &[]);
        assert_eq!(got, format!("\"/{name}\": not found in the build context"));
    }
    assert!(shown(temp.path(), "", "loop", &[]).starts_with("too many symbolic links"));
    assert_eq!(shown(temp.path(), "", ".", &[]), ":  loop out up");
    let mode = rustix::fs::Mode::from_raw_mode(0o644);
    let fifo = temp.path().join("fifo");
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    // Nobody writes to it: reading it would never end.
    let (first, _) = digest(temp.path(), outside.path());
    assert_eq!(digest(temp.path(), outside.path()).0, first);
    let nul = shown(temp.path(), "", "a\0b", &[]);
    assert!(nul.to_lowercase().contains("nul byte"), "{nul}");
}

/// The digest of the whole context through the index kept in `cache`.
fn digest(root: &Path, cache: &Path) -> (String, usize) {
    let tree = Tree::directory(root);
    let none = IgnoreRules::default();
    let origin = Origin {
        tree: &tree,
        ignore: &none,
        name: "",
        stop: &Stop::default(),
    };
    let index = FileIndex::open(cache, root).unwrap();
    let mut hash = Sha256::new();
    let taking = Taking {
        exclude: &none,
        parents: false,
    };
    let selected = origin.take(".", taking).unwrap();
    hash_selected(
        &mut hash,
        &selected,
        Owners::Ignored,
        &index,
        &Stop::default(),
    )
    .unwrap();
    index.save().unwrap();
    let known = index.entries().known.len();
    (hex(&hash.finalize()), known)
}

#[test]
fn digests_depend_on_content_mode_and_names_but_not_on_times() {
    use std::os::unix::fs::PermissionsExt;
    let (temp, cache) = (context(), tempfile::tempdir().unwrap());
    let root = temp.path();
    let (first, _) = digest(root, cache.path());
    fill(&root.join("a.txt"), "a.txt");
    assert_eq!(digest(root, cache.path()).0, first, "written again");
    fill(&root.join("a.txt"), "A.txt");
    let (second, _) = digest(root, cache.path());
    assert_ne!(second, first, "content");
    fs_err::set_permissions(root.join("a.txt"), PermissionsExt::from_mode(0o600)).unwrap();
    let (third, _) = digest(root, cache.path());
    assert_ne!(third, second, "mode");
    fs_err::rename(root.join("a.txt"), root.join("z.txt")).unwrap();
    assert_ne!(digest(root, cache.path()).0, third, "name");
}

#[test]
fn an_index_is_trusted_by_identity_and_only_for_settled_files() {
    let (temp, cache) = (context(), tempfile::tempdir().unwrap());
    let root = temp.path();
    let path = root.join("a.txt");
    let metadata = fs_err::symlink_metadata(&path).unwrap();
    let entry = Entry {
        path: PathBuf::new(),
        host: path.clone(),
        metadata: metadata.clone(),
        leads: false,
    };
    let index = FileIndex::open(cache.path(), root).unwrap();
    let real = index.hash_of(&entry, &Stop::default()).unwrap();
    let known = index.entries().known.len();
    assert_eq!(known, 0, "a fresh file may change in this tick");
    let known = (Identity::of(&metadata), [7; 32]);
    index.entries().known.insert(b"a.txt".to_vec(), known);
    index.entries().changed = true;
    index.save().unwrap();
    let index = FileIndex::open(cache.path(), root).unwrap();
    assert_eq!(index.hash_of(&entry, &Stop::default()).unwrap(), [7; 32]);
    fill(&path, "a.txt");
    let metadata = fs_err::symlink_metadata(&path).unwrap();
    let entry = Entry { metadata, ..entry };
    assert_eq!(index.hash_of(&entry, &Stop::default()).unwrap(), real);
}

#[test]
fn attributes_of_directories_count() {
    let temp = context();
    let digest = || {
        let tree = Tree::directory(temp.path());
        let origin = Origin {
            tree: &tree,
            ignore: &IgnoreRules::default(),
            name: "the build context",
            stop: &Stop::default(),
        };
        let selected = origin
            .take_path(Path::new("d"), &IgnoreRules::default())
            .unwrap();
        let mut hash = Sha256::new();
        hash_selected(
            &mut hash,
            &selected,
            Owners::Ignored,
            &FileIndex::none(),
            &Stop::default(),
        )
        .unwrap();
        hex(&hash.finalize())
    };
    let set = |path: &str, value: &[u8]| {
        let flags = rustix::fs::XattrFlags::empty();
        rustix::fs::lsetxattr(temp.path().join(path), "user.k", value, flags).is_ok()
    };
    let before = digest();
    if !set("d", b"1") {
        return;
    }
    // The source's own are not copied.
    assert_eq!(digest(), before);
    set("d/e", b"1");
    let with = digest();
    set("d/e", b"2");
    let other = digest();
    assert!(before != with && with != other && other != before);
}
