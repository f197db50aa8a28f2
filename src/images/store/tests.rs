//! The store on a real file system.

use std::collections::BTreeSet;
use std::os::unix::fs::{MetadataExt, symlink};

use super::super::import::{Change, import};
use super::layers::chain_ids;
use super::*;

fn store() -> (tempfile::TempDir, Store) {
    let root = tempfile::tempdir().unwrap();
    let store = Store::open(root.path()).unwrap();
    (root, store)
}

fn reference(text: &str) -> Reference {
    Reference::parse(text).unwrap()
}

/// A tar of files, in order; a name that ends in `/` is a directory.
fn tar_of(files: &[(&str, &str)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_mode(if name.ends_with('/') { 0o755 } else { 0o644 });
        header.set_size(content.len() as u64);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1);
        if name.ends_with('/') {
            header.set_entry_type(tar::EntryType::Directory);
        }
        builder
            .append_data(&mut header, name, content.as_bytes())
            .unwrap();
    }
    builder.into_inner().unwrap()
}

fn layer(store: &Store, fill: impl FnOnce(&Path)) -> LayerRecord {
    let staging = store.staging().unwrap();
    fill(&staging.diff());
    store.commit_layer(staging).unwrap()
}

fn tmp_names(root: &Path) -> Vec<String> {
    let entries = fs_err::read_dir(root.join("tmp")).unwrap();
    let mut names: Vec<String> = entries
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .filter(|name| name != "lock")
        .collect();
    names.sort();
    names
}

#[test]
fn imports_tags_lists_and_finds() {
    let (root, store) = store();
    let tar = tar_of(&[("bin/", ""), ("bin/sh", "#!"), ("etc/passwd", "root")]);
    let changes = [
        Change::parse(r#"CMD ["sh"]"#).unwrap(),
        Change::parse("ENV A=b").unwrap(),
    ];
    let image = import(&store, tar.as_slice(), Some(&reference("base")), &changes).unwrap();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut gzip, &tar).unwrap();
    let gzip = gzip.finish().unwrap();
    let zstd = zstd::encode_all(tar.as_slice(), 1).unwrap();
    for packed in [gzip, zstd] {
        let same = import(&store, packed.as_slice(), None, &[]).unwrap();
        assert_eq!(same.layers, image.layers);
    }
    let directories = store.layer_directories(&image.layers);
    assert_eq!(
        fs_err::read_to_string(directories[0].join("bin/sh")).unwrap(),
        "#!"
    );
    assert_eq!(image.config.config.cmd, Some(vec!["sh".to_owned()]));
    assert_eq!(
        store.resolve(&reference("base")).unwrap(),
        Some(image.clone())
    );
    assert_eq!(store.find(image.id.short()).unwrap(), Some(image.clone()));
    assert_eq!(
        store.find(&image.manifest.to_string()).unwrap(),
        Some(image.clone())
    );
    assert_eq!(store.resolve(&reference("other")).unwrap(), None);
    let by_digest = reference(&format!("x/y@{}", image.manifest));
    assert_eq!(store.resolve(&by_digest).unwrap(), Some(image.clone()));
    let rows = store.list().unwrap();
    let row = rows.iter().find(|row| row.repository.is_some()).unwrap();
    assert_eq!(
        (
            rows.len(),
            row.repository.as_deref(),
            row.tag.as_deref(),
            row.size_bytes
        ),
        (3, Some("base"), Some("latest"), 6)
    );
    let record = store.layer(&image.layers[0]).unwrap().unwrap();
    assert_eq!((record.blobs.len(), record.boot), (3, None));
    drop(store);
    assert_eq!(tmp_names(root.path()), Vec::<String>::new());
}

#[test]
#[expect(clippy::too_many_lines, reason = "a tree with one of everything")]
fn commits_layers_that_unpack_to_the_same_again() {
    let (_root, store) = store();
    let base = layer(&store, |diff| {
        fs_err::create_dir_all(diff.join("etc/old")).unwrap();
        fs_err::write(diff.join("etc/gone"), "x").unwrap();
    });
    let long = "n".repeat(200);
    let top = layer(&store, |diff| {
        fs_err::create_dir_all(diff.join("etc/old")).unwrap();
        rustix::fs::setxattr(
            diff.join("etc/old"),
            "trusted.overlay.opaque",
            b"y",
            rustix::fs::XattrFlags::empty(),
        )
        .unwrap();
        rustix::fs::setxattr(
            diff.join("etc"),
            "trusted.overlay.impure",
            b"y",
            rustix::fs::XattrFlags::empty(),
        )
        .unwrap();
        rustix::fs::mknodat(
            rustix::fs::CWD,
            diff.join("etc/gone"),
            rustix::fs::FileType::CharacterDevice,
            rustix::fs::Mode::empty(),
            0,
        )
        .unwrap();
        let old = rustix::fs::Timespec {
            tv_sec: 1,
            tv_nsec: 0,
        };
        let old = rustix::fs::Timestamps {
            last_access: old,
            last_modification: old,
        };
        let itself = rustix::fs::AtFlags::SYMLINK_NOFOLLOW;
        rustix::fs::utimensat(rustix::fs::CWD, diff.join("etc/gone"), &old, itself).unwrap();
        fs_err::create_dir_all(diff.join(&long)).unwrap();
        fs_err::write(diff.join(&long).join("file"), "content").unwrap();
        fs_err::hard_link(diff.join(&long).join("file"), diff.join("second")).unwrap();
        symlink(&long, diff.join("link")).unwrap();
        rustix::fs::setxattr(
            diff.join("second"),
            "user.note",
            b"a\nb",
            rustix::fs::XattrFlags::empty(),
        )
        .unwrap();
        rustix::fs::chown(
            diff.join("second"),
            Some(rustix::fs::Uid::from_raw(4_000_000)),
            None,
        )
        .unwrap();
    });
    let image = store
        .put_image(
            ImageConfig::new(&Platform::host()),
            &[base.diff_id, top.diff_id.clone()],
        )
        .unwrap();
    assert!(!store.blob_path(&top.diff_id).exists());
    ask_for_blobs(&store, &image);
    let blob = fs_err::File::open(store.blob_path(&top.diff_id)).unwrap();
    let again = import(&store, blob, None, &[]).unwrap();
    assert_eq!(again.layers, std::slice::from_ref(&top.diff_id));

    // The other way: unpacked from the tar, packed again.
    let staging = store.staging().unwrap();
    let mut sink = Vec::new();
    let outcome = super::super::unpack::pipeline::run(
        super::super::unpack::pipeline::ReaderChunks(
            fs_err::File::open(store.blob_path(&top.diff_id)).unwrap(),
        ),
        &mut sink,
        &staging.diff(),
        u64::MAX,
    );
    assert_eq!(outcome.unwrapped_diff_id(), top.diff_id);
    let stat = fs_err::metadata(staging.diff().join("second")).unwrap();
    assert_eq!((stat.uid(), stat.nlink()), (4_000_000, 2));
    assert_eq!(store.commit_layer(staging).unwrap().diff_id, top.diff_id);
    assert_eq!(store.layer_directories(&image.layers).len(), 2);
}

/// The manifest names blobs that are written only where somebody asks for them.
fn ask_for_blobs(store: &Store, image: &Image) {
    let manifest = store.read_blob(&image.manifest).unwrap().unwrap();
    let manifest: Manifest = serde_json::from_slice(&manifest).unwrap();
    for descriptor in &manifest.layers {
        for _ in ["made", "kept"] {
            let blob = store
                .layer_blob(&descriptor.digest, &descriptor.digest)
                .unwrap();
            assert_eq!(blob, *descriptor);
        }
        let written = fs_err::metadata(store.blob_path(&descriptor.digest)).unwrap();
        assert_eq!(written.len(), descriptor.size);
    }
}

#[test]
fn the_tar_of_a_tree_that_changed_is_refused() {
    let (root, store) = store();
    let record = layer(&store, |diff| {
        fs_err::write(diff.join("file"), "as it was").unwrap();
    });
    let file = root
        .path()
        .join("layers")
        .join(record.diff_id.hex())
        .join("diff/file");
    fs_err::write(&file, "as it is!").unwrap();
    match store.layer_blob(&record.diff_id, &record.diff_id) {
        Err(StoreError::Damaged { expected, .. }) => assert_eq!(expected, record.diff_id),
        other => panic!("{other:?}"),
    }
    assert!(!store.blob_path(&record.diff_id).exists());
}

impl super::super::unpack::pipeline::Outcome {
    fn unwrapped_diff_id(self) -> Digest {
        self.unpacked.unwrap().diff_id
    }
}

#[test]
fn gives_layers_that_cannot_stand_alone_what_they_take_from_below() {
    let (_root, store) = store();
    let lower = layer(&store, |diff| {
        fs_err::create_dir_all(diff.join("home/u")).unwrap();
        rustix::fs::chown(
            diff.join("home/u"),
            Some(rustix::fs::Uid::from_raw(7)),
            None,
        )
        .unwrap();
        rustix::fs::chmod(diff.join("home/u"), 0o2700.into()).unwrap();
        fs_err::write(diff.join("tool"), "elf").unwrap();
    });
    let mut builder = tar::Builder::new(tar_of(&[("home/u/f", "x")]));
    builder.get_mut().truncate(1024);
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Link);
    header.set_size(0);
    header.set_mode(0o755);
    builder
        .append_link(&mut header, "bin/alias", "tool")
        .unwrap();
    let upper = import(&store, builder.into_inner().unwrap().as_slice(), None, &[]);
    let upper = upper.unwrap_err().to_string();
    // Alone it cannot be: nothing below has `tool`.
    assert!(
        upper.contains("links `bin/alias` to `tool`, which no layer below has"),
        "{upper}"
    );
    let upper = store
        .path("layers")
        .read_dir()
        .unwrap()
        .map(|e| Digest::from_hex(e.unwrap().file_name().to_str().unwrap()).unwrap())
        .find(|id| *id != lower.diff_id)
        .unwrap();
    let image = store
        .put_image(
            ImageConfig::new(&Platform::host()),
            &[lower.diff_id, upper.clone()],
        )
        .unwrap();
    let directories = store.layer_directories(&image.layers);
    let stat = fs_err::metadata(directories[0].join("home/u")).unwrap();
    assert_eq!((stat.uid(), stat.mode() & 0o7777), (7, 0o2700));
    assert_eq!(
        fs_err::read_to_string(directories[0].join("bin/alias")).unwrap(),
        "elf"
    );
    assert_eq!(
        fs_err::read_to_string(directories[0].join("home/u/f")).unwrap(),
        "x"
    );
    assert!(!directories[0].starts_with(store.layer_path(&upper)));
}

/// Imports the layer (alone it cannot be, but it is kept), and returns its diff id.
fn lonely(store: &Store, tar: &[u8]) -> Digest {
    let diff_id = Digest::of(tar);
    drop(import(store, tar, None, &[]));
    assert!(store.layer(&diff_id).unwrap().is_some());
    diff_id
}

#[test]
fn markers_and_implied_directories_are_no_damage() {
    let (_root, store) = store();
    // A whiteout of 1970, and a directory without an entry.
    let tar = tar_of(&[("etc/.wh.gone", ""), ("opt/", ""), ("opt/.wh..wh..opq", "")]);
    let image = import(&store, tar.as_slice(), Some(&reference("a")), &[]).unwrap();
    let diff = store.layer_path(&image.layers[0]).join("diff");
    let mtime = |name: &str| fs_err::symlink_metadata(diff.join(name)).unwrap().mtime();
    assert_eq!((mtime("etc/gone"), mtime("etc"), mtime("opt")), (1, 0, 1));
    let told = |store: &Store| store.check(false).unwrap().findings;
    assert_eq!(told(&store), []);
    // As earlier unpackers left them: of the time of day.
    let now = rustix::fs::Timestamps {
        last_access: rustix::fs::Timespec {
            tv_sec: 9,
            tv_nsec: 9,
        },
        last_modification: rustix::fs::Timespec {
            tv_sec: 9,
            tv_nsec: 9,
        },
    };
    let age = |name: &str| {
        let flags = rustix::fs::AtFlags::SYMLINK_NOFOLLOW;
        rustix::fs::utimensat(rustix::fs::CWD, diff.join(name), &now, flags).unwrap();
    };
    age("etc/gone");
    age("etc");
    assert_eq!(told(&store), []);
    // Another time than the archive says is damage.
    age("opt");
    assert_eq!(told(&store).len(), 1);
}

#[test]
fn what_a_layer_takes_from_below_is_never_put_outside() {
    for through in ["/{victim}", "../../../../../../../..{victim}", "{victim}"] {
        let (_root, store) = store();
        let victim = tempfile::tempdir().unwrap();
        fs_err::create_dir_all(victim.path().join("sub")).unwrap();
        fs_err::create_dir_all(victim.path().join("old")).unwrap();
        let path = victim.path().to_str().unwrap();
        let link = through.replace("{victim}", path);
        let lower = layer(&store, |diff| {
            fs_err::write(diff.join("payload"), "evil").unwrap();
            fs_err::create_dir_all(diff.join("s/sub")).unwrap();
            let within = diff.join(path.trim_start_matches('/'));
            fs_err::create_dir_all(within.join("sub")).unwrap();
            let uid = |uid| Some(rustix::fs::Uid::from_raw(uid));
            rustix::fs::chown(diff.join("payload"), uid(1234), None).unwrap();
            rustix::fs::chmod(diff.join("payload"), 0o4755.into()).unwrap();
            for sub in [diff.join("s/sub"), within.join("sub")] {
                rustix::fs::chown(&sub, uid(777), None).unwrap();
                rustix::fs::chmod(&sub, 0o777.into()).unwrap();
            }
        });
        let mut builder = tar::Builder::new(Vec::new());
        let mut put = |kind, name: &str, link: &str| {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(kind);
            header.set_size(0);
            header.set_mode(0o755);
            header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
            header.set_link_name_literal(link).unwrap();
            header.set_cksum();
            builder.append(&header, std::io::empty()).unwrap();
        };
        put(tar::EntryType::Directory, &path[1..], "");
        put(tar::EntryType::Symlink, "s", &link);
        put(tar::EntryType::Link, "s/x", "payload");
        put(tar::EntryType::Link, "s/x", "payload");
        put(tar::EntryType::Link, "s/y", "s/x");
        put(tar::EntryType::Regular, "s/sub/f", "");
        put(tar::EntryType::Regular, "s/old/f", "");
        let upper = lonely(&store, &builder.into_inner().unwrap());
        // As unpackers before wrote it: paths as the archive has them.
        for is_old in [false, true] {
            if is_old {
                let json = store.layer_path(&upper).join("layer.json");
                let mut record = store.layer(&upper).unwrap().unwrap();
                record.implied = vec!["s/sub".into(), "s/old".into()];
                record.lower_links = vec![
                    ("s/x".into(), "payload".into()),
                    ("s/x".into(), "payload".into()),
                ];
                fs_err::write(json, document_bytes("layer", &record).unwrap()).unwrap();
                let chain = &chain_ids(&[lower.diff_id.clone(), upper.clone()])[1];
                fs_err::remove_dir_all(store.layer_path(chain)).unwrap();
            }
            let layers = [lower.diff_id.clone(), upper.clone()];
            let config = ImageConfig::new(&Platform::host());
            let image = store.put_image(config, &layers).unwrap();
            let listed = |path: &Path| -> Vec<_> {
                let entries = fs_err::read_dir(path).unwrap();
                let mut names: Vec<_> = entries.map(|e| e.unwrap().file_name()).collect();
                names.sort();
                names
            };
            assert_eq!(listed(victim.path()), ["old", "sub"], "{link}");
            let stat = fs_err::metadata(victim.path().join("sub")).unwrap();
            assert_eq!((stat.uid(), stat.mode() & 0o777), (0, 0o755), "{link}");
            // All of it is within, where the link leads in a container.
            let within = store.layer_directories(&image.layers)[0].join(&path[1..]);
            let stat = fs_err::metadata(within.join("x")).unwrap();
            assert_eq!((stat.uid(), stat.mode() & 0o7777), (1234, 0o4755), "{link}");
            let stat = fs_err::metadata(within.join("sub")).unwrap();
            assert_eq!((stat.uid(), stat.mode() & 0o7777), (777, 0o777), "{link}");
            assert_eq!(within.join("y").exists(), !is_old);
        }
    }
}

#[test]
fn a_link_below_is_no_way_to_a_file() {
    let (_root, store) = store();
    let lower = layer(&store, |diff| {
        symlink("/etc", diff.join("etc")).unwrap();
        symlink("/etc/passwd", diff.join("file")).unwrap();
    });
    let linked = |target: &str| {
        let mut builder = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Link);
        header.set_size(0);
        builder.append_link(&mut header, "x", target).unwrap();
        let upper = lonely(&store, &builder.into_inner().unwrap());
        let layers = [lower.diff_id.clone(), upper];
        store.put_image(ImageConfig::new(&Platform::host()), &layers)
    };
    let error = linked("etc/passwd").unwrap_err().to_string();
    assert!(error.contains("which no layer below has"), "{error}");
    // The link itself is linked.
    let image = linked("file").unwrap();
    let made = store.layer_directories(&image.layers)[0].join("x");
    assert_eq!(fs_err::read_link(made).unwrap(), Path::new("/etc/passwd"));
}

#[test]
fn a_tag_moves_and_the_old_image_stays_without_name_until_collected() {
    let (_root, store) = store();
    let first = import(
        &store,
        tar_of(&[("a", "1")]).as_slice(),
        Some(&reference("t")),
        &[],
    )
    .unwrap();
    let second = import(
        &store,
        tar_of(&[("a", "2")]).as_slice(),
        Some(&reference("t")),
        &[],
    )
    .unwrap();
    let tagged = |store: &Store| -> Vec<(Option<String>, Digest)> {
        let mut rows: Vec<_> = store
            .list()
            .unwrap()
            .into_iter()
            .map(|r| (r.tag, r.id))
            .collect();
        rows.sort();
        rows
    };
    assert_eq!(
        tagged(&store),
        [
            (None, first.id.clone()),
            (Some("latest".to_owned()), second.id.clone())
        ]
    );
    store.lease("c1", &first).unwrap();
    store.unname(&first.id, &[], &[], true).unwrap();
    assert_eq!(
        store.collect(&BTreeSet::new()).unwrap(),
        Collected::Removed {
            layers: 0,
            blobs: 0,
            bytes: 0
        }
    );
    store.release("c1").unwrap();
    let blobs = [&first.id, &first.manifest, &first.layers[0]];
    let blobs = blobs.map(|digest| fs_err::metadata(store.blob_path(digest)).unwrap().len());
    let hold = store.hold().unwrap();
    assert_eq!(store.collect(&BTreeSet::new()).unwrap(), Collected::Busy);
    drop(hold);
    assert_eq!(
        store.collect(&BTreeSet::new()).unwrap(),
        Collected::Removed {
            layers: 1,
            blobs: 3,
            // One byte is the tree's.
            bytes: blobs.iter().sum::<u64>() + 1
        }
    );
    assert_eq!(tagged(&store), [(Some("latest".to_owned()), second.id)]);
    assert_eq!(store.load(&first.manifest).unwrap(), None);
    assert!(
        store
            .lease("../x", &first)
            .is_err_and(|e| e.to_string() == "invalid lease holder `../x`")
    );
}

#[test]
fn what_is_whole_of_a_damaged_image_is_not_collected() {
    let (_root, store) = store();
    let layers = ["one", "two"].map(|text| {
        let made = layer(&store, |diff| {
            fs_err::write(diff.join("f"), text).unwrap();
        });
        made.diff_id
    });
    let named = [&reference("t")];
    let image = store
        .put_named(ImageConfig::default(), &layers, &named)
        .unwrap();
    let record = store.layer_path(&layers[1]).join("layer.json");
    fs_err::write(&record, "").unwrap();
    assert_eq!(store.load(&image.manifest).unwrap(), None);
    let nothing = Collected::Removed {
        layers: 0,
        blobs: 0,
        bytes: 0,
    };
    assert_eq!(store.collect(&BTreeSet::new()).unwrap(), nothing);
    // Synced documents are not written again.
    let written = |path: &Path| fs_err::metadata(path).unwrap().modified().unwrap();
    let path = store.blob_path(&image.manifest);
    let (before, bytes) = (written(&path), fs_err::read(&path).unwrap());
    store.put_blob(&bytes).unwrap();
    assert_eq!(written(&path), before);
    fs_err::write(&path, "damaged").unwrap();
    store.put_blob(&bytes).unwrap();
    assert_eq!(fs_err::read(&path).unwrap(), bytes);
}

#[test]
fn layers_of_another_boot_that_were_not_synced_do_not_count() {
    let (_root, store) = store();
    let committed = layer(&store, |diff| fs_err::write(diff.join("f"), "x").unwrap());
    let path = store.layer_path(&committed.diff_id).join("layer.json");
    let text = fs_err::read_to_string(&path).unwrap();
    fs_err::write(&path, text.replace(&store.boot, "another")).unwrap();
    assert_eq!(store.layer(&committed.diff_id).unwrap(), None);
    // Made again, it takes the place of the old one.
    let again = layer(&store, |diff| fs_err::write(diff.join("f"), "x").unwrap());
    assert_eq!(store.layer(&again.diff_id).unwrap(), Some(again));
}

/// Places a tar as a pull does that is killed before it has sealed its layers.
fn place_gzip(store: &Store, tar: &[u8]) -> (LayerRecord, Descriptor) {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut gzip, tar).unwrap();
    let gzip = gzip.finish().unwrap();
    let staging = store.staging().unwrap();
    let path = staging.directory().join("blob");
    let mut blob = fs_err::File::create(&path).unwrap();
    let outcome = super::super::unpack::pipeline::run(
        super::super::unpack::pipeline::ReaderChunks(gzip.as_slice()),
        &mut blob,
        &staging.diff(),
        u64::MAX,
    );
    let unpacked = outcome.unpacked.unwrap();
    let media_type = format!("{}+gzip", super::super::manifest::OCI_LAYER);
    let blob = Descriptor::new(&media_type, Digest::of(&gzip), gzip.len() as u64);
    let record = LayerRecord::new(unpacked.diff_id, blob.clone(), unpacked.report);
    let placed = store.place_layer(&staging, Some(&path), record).unwrap();
    (placed, blob)
}

#[test]
fn another_blob_of_a_synced_layer_does_not_make_it_count_less() {
    let (root, store) = store();
    let tar = tar_of(&[("f", "x")]);
    let image = import(&store, tar.as_slice(), Some(&reference("a")), &[]).unwrap();
    let (placed, gzip) = place_gzip(&store, &tar);
    assert_eq!((placed.blobs.len(), placed.boot), (2, None));
    drop(store);
    let mut rebooted = Store::open(root.path()).unwrap();
    "another".clone_into(&mut rebooted.boot);
    assert_eq!(rebooted.resolve(&reference("a")).unwrap(), Some(image));
    // The same blob once more does not take the place of the synced one.
    let inode = |store: &Store| {
        let path = store.blob_path(&gzip.digest);
        fs_err::metadata(path).unwrap().ino()
    };
    let before = inode(&rebooted);
    let (again, _) = place_gzip(&rebooted, &tar);
    assert_eq!((again.blobs.len(), inode(&rebooted)), (2, before));
}

#[test]
fn the_blob_that_a_manifest_names_is_handed_out_whatever_others_there_are() {
    let (_root, store) = store();
    let made = layer(&store, |diff| fs_err::write(diff.join("f"), "x").unwrap());
    let layers = std::slice::from_ref(&made.diff_id);
    let config = || ImageConfig::new(&Platform::host());
    let image = store.put_image(config(), layers).unwrap();
    let mut tar = Vec::new();
    super::super::unpack::writer::write_layer(
        &store.layer_path(&made.diff_id).join("diff"),
        &mut tar,
    )
    .unwrap();
    let (placed, gzip) = place_gzip(&store, &tar);
    assert_eq!(placed.diff_id, made.diff_id);
    ask_for_blobs(&store, &image);
    let blob = store.layer_blob(&made.diff_id, &gzip.digest).unwrap();
    assert_eq!(blob, gzip);
    match store.layer_blob(&made.diff_id, &image.id) {
        Err(StoreError::NoBlob { digest }) => assert_eq!(digest, image.id),
        other => panic!("{other:?}"),
    }
}

#[test]
fn removes_what_killed_commands_left_and_nothing_else() {
    let (root, store) = store();
    let alive = store.staging().unwrap();
    fs_err::create_dir_all(root.path().join("tmp/1.0/diff/x")).unwrap();
    fs_err::write(root.path().join("tmp/layer-00"), "").unwrap();
    let _second = Store::open(root.path()).unwrap();
    let name = alive
        .directory()
        .file_name()
        .unwrap()
        .to_str()
        .unwrap()
        .to_owned();
    let mut expected = vec![name];
    expected.extend(store.scratch.get().map(|s| {
        s.directory()
            .file_name()
            .unwrap()
            .to_str()
            .unwrap()
            .to_owned()
    }));
    expected.sort();
    assert_eq!(tmp_names(root.path()), expected);
}

#[test]
fn what_cannot_be_removed_keeps_no_command_from_its_work() {
    let (root, store) = store();
    drop(store);
    // Deeper than there are descriptors, and than any path can say.
    let dead = root.path().join("tmp/1.0");
    fs_err::create_dir(&dead).unwrap();
    let mut here =
        rustix::fs::open(&dead, rustix::fs::OFlags::PATH, rustix::fs::Mode::empty()).unwrap();
    for _ in 0..3000 {
        rustix::fs::mkdirat(&here, "d", rustix::fs::Mode::RWXU).unwrap();
        let flags = rustix::fs::OFlags::PATH;
        here = rustix::fs::openat(&here, "d", flags, rustix::fs::Mode::empty()).unwrap();
    }
    drop(Store::open(root.path()).unwrap());
    assert_eq!(tmp_names(root.path()), Vec::<String>::new());
    // Nobody may remove this.
    fs_err::create_dir_all(dead.join("kept")).unwrap();
    let other = root.path().join("tmp/2.0");
    fs_err::create_dir_all(other.join("x")).unwrap();
    let immutable = |on: bool| {
        let file = fs_err::File::open(dead.join("kept")).unwrap();
        let mut flags = rustix::fs::ioctl_getflags(&file)?;
        flags.set(rustix::fs::IFlags::IMMUTABLE, on);
        rustix::fs::ioctl_setflags(&file, flags)
    };
    if let Err(errno) = immutable(true) {
        // A file system without such flags, or no right to set them.
        assert!(matches!(
            errno,
            rustix::io::Errno::NOTTY | rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::PERM
        ));
        return;
    }
    let opened = Store::open(root.path()).map(drop);
    let left = tmp_names(root.path());
    let told = Store::open(root.path()).and_then(|store| store.check(true));
    immutable(false).unwrap();
    opened.unwrap();
    assert_eq!(left, ["1.0"]);
    let findings = told.unwrap().findings;
    let subjects: Vec<_> = findings.iter().map(|found| &found.subject).collect();
    assert_eq!(subjects, [&format!("directory {}", dead.display())]);
}

#[test]
fn refuses_a_store_of_another_version() {
    let (root, store) = store();
    drop(store);
    fs_err::write(root.path().join("images/VERSION"), "9\n").unwrap();
    let error = Store::open(root.path()).unwrap_err().to_string();
    let images = root.path().join("images");
    assert_eq!(
        error,
        format!(
            "the image store `{}` has version `9`, this program knows only 1",
            images.display()
        )
    );
}

#[test]
fn no_name_takes_the_place_of_an_id() {
    let (root, store) = store();
    let import_one = |text: &str, name: &str| {
        let tar = tar_of(&[("f", text)]);
        import(&store, tar.as_slice(), Some(&reference(name)), &[]).unwrap()
    };
    let real = import_one("real", "bb:1");
    let forged = import_one("forged", "forged:1");
    // As an earlier version may have written it.
    let path = root.path().join("images/index.json");
    let index = fs_err::read_to_string(&path).unwrap();
    let name = format!("docker.io/library/{}", real.id);
    let index = index.replace("docker.io/library/forged:1", &name);
    fs_err::write(&path, index).unwrap();
    for text in [real.id.to_string(), real.id.hex().to_owned()] {
        assert_eq!(store.find(&text).unwrap(), Some(real.clone()));
    }
    assert_eq!(store.image_of(&real.id).unwrap(), Some(real.clone()));
    // By its name alone it is there, to be removed.
    assert_eq!(store.find(&name).unwrap(), Some(forged.clone()));
    store
        .unname(&real.id, &[reference("bb:1")], &[], true)
        .unwrap();
    assert_eq!(store.image_of(&real.id).unwrap(), None);
    assert_eq!(store.find(&real.id.to_string()).unwrap(), None);
    let other = reference(&format!("x@{}", forged.id));
    let error = store.adopt(&forged, &[&other], None).unwrap_err();
    assert!(matches!(error, StoreError::TagDigest { .. }), "{error}");
}
