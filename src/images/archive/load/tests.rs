use super::super::super::import::import;
use super::super::super::manifest::{OCI_INDEX, OCI_MANIFEST};
use super::super::save::save;
use super::*;

fn store() -> (tempfile::TempDir, Store) {
    let root = tempfile::tempdir().unwrap();
    let store = Store::open(root.path()).unwrap();
    (root, store)
}

/// A tar of files and, where the content begins with `->`, of symbolic links.
fn tar_of(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (path, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        if let Some(target) = content.strip_prefix(b"->") {
            header.set_entry_type(tar::EntryType::Symlink);
            header.set_size(0);
            let target = std::str::from_utf8(target).unwrap();
            builder.append_link(&mut header, path, target).unwrap();
            continue;
        }
        header.set_size(content.len() as u64);
        // Names that the library itself would refuse.
        header.as_gnu_mut().unwrap().name[..path.len()].copy_from_slice(path.as_bytes());
        header.set_cksum();
        builder.append(&header, *content).unwrap();
    }
    builder.into_inner().unwrap()
}

fn layer(content: &str) -> (Vec<u8>, Digest) {
    let tar = tar_of(&[("f", content.as_bytes())]);
    let digest = Digest::of(&tar);
    (tar, digest)
}

fn config_of(diff_ids: &[&Digest]) -> Vec<u8> {
    let config = serde_json::json!({"architecture": "amd64", "os": "linux", "config": {"Cmd": ["sh"]},
        "rootfs": {"type": "layers", "diff_ids": diff_ids}});
    serde_json::to_vec(&config).unwrap()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut encoder, bytes).unwrap();
    encoder.finish().unwrap()
}

fn load_bytes(store: &Store, bytes: Vec<u8>) -> Result<Vec<Loaded>, String> {
    let loaded = load(store, std::io::Cursor::new(bytes), None, &|_, _, _| {});
    loaded.map_err(|error| crate::images::registry::error::chain(&error))
}

fn names(loaded: &[Loaded]) -> Vec<String> {
    let names = loaded.iter().flat_map(|image| &image.names);
    names.map(Reference::familiar).collect()
}

#[test]
fn what_was_saved_comes_back_the_same() {
    let (_root, from) = store();
    let (tar, _) = layer("x");
    let name: Reference = "a/b:1".parse().unwrap();
    let image = import(&from, gzip(&tar).as_slice(), Some(&name), &[]).unwrap();
    let mut archive = Vec::new();
    save(&from, &["a/b".to_owned()], None, &mut archive).unwrap();
    for packed in [
        archive.clone(),
        gzip(&archive),
        zstd::encode_all(archive.as_slice(), 1).unwrap(),
    ] {
        let (root, to) = store();
        let loaded = load_bytes(&to, packed).unwrap();
        assert_eq!(names(&loaded), ["a/b:1"]);
        let known = to.find_known("a/b:1").unwrap().unwrap();
        // Manifest and blob too: a push would find what the registry has.
        assert_eq!(known.image, image);
        assert!(to.blob_path(&Digest::of(&gzip(&tar))).exists());
        drop(to);
        let left = fs_err::read_dir(root.path().join("tmp")).unwrap().count();
        assert_eq!(left, 1, "the lock");
    }
}

#[test]
fn reads_what_docker_wrote_before_there_were_layouts() {
    let (_root, store) = store();
    let ((one, one_id), (two, two_id)) = (layer("1"), layer("2"));
    let config = config_of(&[&one_id, &two_id, &one_id]);
    let list = r#"[{"Config":"c.json","RepoTags":["old:1","old:2"],"Layers":["1/layer.tar","2/layer.tar","3/layer.tar"]},
        {"Config":"c.json","RepoTags":null,"Layers":["1/layer.tar","2/layer.tar","3/layer.tar"]}]"#;
    let archive = tar_of(&[
        ("1/layer.tar", &one),
        ("2/layer.tar", &gzip(&two)),
        ("3/layer.tar", b"->../1/layer.tar"),
        ("c.json", &config),
        ("manifest.json", list.as_bytes()),
        ("repositories", b"{}"),
    ]);
    let loaded = load_bytes(&store, archive).unwrap();
    assert_eq!(names(&loaded), ["old:1", "old:2"]);
    assert_eq!(loaded[0].id, Digest::of(&config));
    let known = store.find_known("old:2").unwrap().unwrap();
    assert_eq!(known.image.layers, [one_id.clone(), two_id.clone(), one_id]);
    // Another image takes one of the names.
    let (three, three_id) = layer("3");
    let config = config_of(&[&three_id]);
    let archive = tar_of(&[
        (
            "manifest.json",
            br#"[{"Config":"c","RepoTags":["old:2"],"Layers":["l"]}]"#,
        ),
        ("c", &config),
        ("l", &three),
    ]);
    let loaded = load_bytes(&store, archive).unwrap();
    assert_eq!(
        loaded[0].replaced,
        [("old:2".parse().unwrap(), known.image.id)]
    );
}

/// An OCI layout of these images, each a platform's architecture, in an index of their own.
fn layout(architectures: &[&str], damage: impl Fn(&mut Vec<(String, Vec<u8>)>)) -> Vec<u8> {
    falsely_described(architectures, "", damage)
}

/// The same, where what is called `lie` is described as a byte longer than it is.
fn falsely_described(
    architectures: &[&str],
    lie: &str,
    damage: impl Fn(&mut Vec<(String, Vec<u8>)>),
) -> Vec<u8> {
    let mut files: Vec<(String, Vec<u8>)> = Vec::new();
    let mut put = |what: &str, bytes: Vec<u8>| {
        let digest = Digest::of(&bytes);
        let size = bytes.len() + usize::from(what == lie);
        files.push((format!("blobs/sha256/{}", digest.hex()), bytes));
        serde_json::json!({"mediaType": OCI_MANIFEST, "digest": digest, "size": size})
    };
    let mut entries = Vec::new();
    for architecture in architectures {
        let (tar, diff_id) = layer(architecture);
        let layer = put("layer", tar);
        let config = String::from_utf8(config_of(&[&diff_id]))
            .unwrap()
            .replace("amd64", architecture);
        let mut config = put("config", config.into_bytes());
        config["mediaType"] = "application/vnd.oci.image.config.v1+json".into();
        let manifest = serde_json::json!({"schemaVersion": 2, "config": config, "layers": [layer]});
        let mut entry = put("manifest", serde_json::to_vec(&manifest).unwrap());
        entry["platform"] = serde_json::json!({"os": "linux", "architecture": architecture});
        entries.push(entry);
    }
    let nested = serde_json::json!({"schemaVersion": 2, "manifests": entries});
    let mut entry = put("index", serde_json::to_vec(&nested).unwrap());
    entry["mediaType"] = "application/vnd.oci.image.index.v1+json".into();
    entry["annotations"] = serde_json::json!({"io.containerd.image.name": "docker.io/x/many:1"});
    let index = serde_json::json!({"schemaVersion": 2, "manifests": [entry]});
    files.push(("index.json".to_owned(), serde_json::to_vec(&index).unwrap()));
    files.push(("oci-layout".to_owned(), b"{}".to_vec()));
    damage(&mut files);
    let files: Vec<(&str, &[u8])> = files
        .iter()
        .map(|(name, bytes)| (name.as_str(), bytes.as_slice()))
        .collect();
    tar_of(&files)
}

#[test]
fn chooses_the_platform_within_nested_indexes() {
    let (_root, store) = store();
    let architecture = |store: &Store| {
        store
            .find_known("x/many:1")
            .unwrap()
            .unwrap()
            .image
            .config
            .architecture
    };
    load_bytes(&store, layout(&["s390x", "amd64", "arm64"], |_| {})).unwrap();
    assert_eq!(architecture(&store), Platform::host().architecture);
    let arm = Platform::parse("linux/arm64").unwrap();
    let source = std::io::Cursor::new(layout(&["s390x", "amd64", "arm64"], |_| {}));
    load(&store, source, Some(&arm), &|_, _, _| {}).unwrap();
    assert_eq!(architecture(&store), "arm64");
    // What is alone is taken as it is, unless another was asked for.
    load_bytes(&store, layout(&["s390x"], |_| {})).unwrap();
    assert_eq!(architecture(&store), "s390x");
    let source = std::io::Cursor::new(layout(&["s390x"], |_| {}));
    let error = load(&store, source, Some(&arm), &|_, _, _| {}).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the archive has no image for the platform linux/arm64"
    );
}

#[test]
fn sizes_are_not_believed_either() {
    for several in [&["amd64"][..], &["amd64", "arm64"]] {
        for lie in ["layer", "config", "manifest", "index"] {
            let (_root, store) = store();
            let error = load_bytes(&store, falsely_described(several, lie, |_| {})).unwrap_err();
            let numbers = error
                .split(' ')
                .filter_map(|word| word.parse::<u64>().ok())
                .collect::<Vec<_>>();
            assert!(
                matches!(numbers.as_slice(), [found, expected] if found + 1 == *expected),
                "{lie}: {error}"
            );
            assert_eq!(store.known().unwrap(), [], "{lie}");
        }
    }
}

#[test]
fn believes_nothing() {
    let (root, store) = store();
    let (tar, diff_id) = layer("x");
    let (other, other_id) = layer("y");
    let config = config_of(&[&diff_id]);
    let list = |layers: &str| {
        format!(r#"[{{"Config":"c","RepoTags":["t"],"Layers":{layers}}}]"#).into_bytes()
    };
    for (archive, expected) in [
        (tar_of(&[("x", b"y")]), "invalid archive: does not contain a manifest.json".to_owned()),
        (tar_of(&[("manifest.json", b"[]")]), "invalid archive: `manifest.json` names no image".to_owned()),
        (
            tar_of(&[("oci-layout", b"{}"), ("index.json", br#"{"schemaVersion":2,"manifests":[]}"#)]),
            "invalid archive: `index.json` names no image".to_owned(),
        ),
        (
            tar_of(&[("oci-layout", b"{}"), ("index.json", &index_of(&diff_id, 1, 1))]),
            "invalid archive: `blobs/sha256/HEX` is missing".to_owned(),
        ),
        (Vec::new(), "invalid archive: does not contain a manifest.json".to_owned()),
        (vec![7; 4096], "read the archive: the archive is malformed: a header's field is not a number".to_owned()),
        (b"BZh9xxxxxxxxxxxxxxxxxx".to_vec(), "the archive is compressed with bzip2, which is not supported: decompress it first (`bzip2 -dc FILE | stack image load`)".to_owned()),
        (
            tar_of(&[("manifest.json", &list(r#"["l"]"#)), ("c", &config), ("l", &other)]),
            format!("invalid diffID for layer 0: expected \"{diff_id}\", got \"{other_id}\""),
        ),
        (
            tar_of(&[("manifest.json", &list(r#"["../../../etc/passwd"]"#)), ("c", &config)]),
            "invalid archive: `../../../etc/passwd` is missing".to_owned(),
        ),
        (
            tar_of(&[("manifest.json", &list(r#"["l"]"#)), ("c", &config), ("l", b"->l2"), ("l2", b"->l")]),
            "invalid archive: `l` is missing".to_owned(),
        ),
        (
            tar_of(&[("manifest.json", &list(r#"["l","l"]"#)), ("c", &config), ("l", &tar)]),
            format!("invalid archive: `configuration {}`: the manifest has 2 layers, but the configuration has 1 diff ids", Digest::of(&config)),
        ),
        (
            tar_of(&[("manifest.json", br#"[{"Config":"c","RepoTags":["UP"],"Layers":[]}]"#), ("c", &config)]),
            "invalid archive: the name `UP`: invalid reference format: `UP`: repository name must be lowercase".to_owned(),
        ),
        (
            layout(&["amd64"], |files| files[0].1[0] ^= 1),
            "blob DIGEST is damaged: its content is DIGEST".to_owned(),
        ),
        (
            layout(&["amd64"], |files| drop(files.remove(0))),
            "invalid archive: `blobs/sha256/HEX` is missing".to_owned(),
        ),
    ] {
        let error = load_bytes(&store, archive).unwrap_err();
        let mut shown = String::new();
        for word in error.split_inclusive([' ', ':', '`', '/']) {
            let (core, end) = word.split_at(word.trim_end_matches([' ', ':', '`', '/']).len());
            let is_hex = core.len() == 64 && !expected.contains(core);
            shown.push_str(if is_hex { "HEX" } else { core });
            shown.push_str(end);
        }
        assert_eq!(shown.replace("sha256:HEX", "DIGEST"), expected);
    }
    assert_eq!(store.known().unwrap(), []);
    assert_eq!(store.find("t").unwrap(), None);
    // Nothing of a layer stands outside.
    assert_eq!(
        fs_err::read_dir(root.path().join("layers"))
            .unwrap()
            .count(),
        0
    );
}

/// An index that names the same document `times` over.
#[test]
fn a_name_that_reads_like_an_id_or_claims_a_digest_is_refused() {
    let (_root, store) = store();
    let (tar, diff_id) = layer("victim");
    let victim = import(&store, tar.as_slice(), Some(&"bb:1".parse().unwrap()), &[]).unwrap();
    let config = config_of(&[&diff_id]);
    let ambiguous = "refusing to create an ambiguous tag using digest algorithm as name";
    let digest = Digest::of(b"nobody has checked it");
    for (name, expected) in [
        (victim.id.to_string(), ambiguous),
        ("sha256:latest".to_owned(), ambiguous),
        (
            format!("alpine@{digest}"),
            "refusing to create a tag with a digest reference",
        ),
    ] {
        let list = format!(r#"[{{"Config":"c.json","RepoTags":["{name}"],"Layers":["l.tar"]}}]"#);
        let archive = tar_of(&[
            ("l.tar", &tar),
            ("c.json", &config),
            ("manifest.json", list.as_bytes()),
        ]);
        let error = load_bytes(&store, archive).unwrap_err();
        assert!(
            error.starts_with(&format!("invalid tag \"{name}\": ")),
            "{error}"
        );
        assert!(error.contains(expected), "{error}");
        assert_eq!(store.known().unwrap().len(), 1);
        assert_eq!(store.known_of(&Digest::of(&config)).unwrap(), None);
    }
}

fn index_of(digest: &Digest, size: usize, times: usize) -> Vec<u8> {
    let entry = serde_json::json!({"mediaType": OCI_INDEX, "digest": digest, "size": size});
    let index = serde_json::json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": vec![entry; times]});
    serde_json::to_vec(&index).unwrap()
}

#[test]
fn indexes_that_name_each_other_many_times_are_read_once() {
    let (_root, store) = store();
    let mut files: Vec<(String, Vec<u8>)> = vec![("oci-layout".to_owned(), b"{}".to_vec())];
    let mut inner = serde_json::to_vec(
        &serde_json::json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": []}),
    )
    .unwrap();
    // 200 to the power of 6 ways lead to the innermost one.
    for _ in 0..6 {
        let (digest, size) = (Digest::of(&inner), inner.len());
        files.push((format!("blobs/sha256/{}", digest.hex()), inner));
        inner = index_of(&digest, size, 200);
    }
    files.push(("index.json".to_owned(), inner));
    let mut builder = tar::Builder::new(Vec::new());
    for (path, content) in &files {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        header.set_size(content.len() as u64);
        builder
            .append_data(&mut header, path, content.as_slice())
            .unwrap();
    }
    let error = load_bytes(&store, builder.into_inner().unwrap()).unwrap_err();
    let host = Platform::host();
    assert_eq!(
        error,
        format!("the archive has no image for the platform {host}")
    );
}

#[test]
fn an_archive_is_read_to_the_end_of_its_stream() {
    let (tar, diff_id) = layer("x");
    let config = config_of(&[&diff_id]);
    let list = br#"[{"Config":"config.json","RepoTags":["a/b:1"],"Layers":["layer.tar"]}]"#;
    let mut archive = tar_of(&[
        ("config.json", config.as_slice()),
        ("layer.tar", tar.as_slice()),
        ("manifest.json", list.as_slice()),
    ]);
    // What `tar` pads with, and more.
    archive.resize(archive.len() + (2 << 20), 0);
    let mut packed = gzip(&archive);
    let (_root, store) = store();
    assert_eq!(
        names(&load_bytes(&store, packed.clone()).unwrap()),
        ["a/b:1"]
    );
    let checksum = packed.len() - 8;
    packed[checksum] ^= 1;
    let said = load_bytes(&store, packed).unwrap_err();
    assert!(
        said.starts_with("read the archive: read the archive: "),
        "{said}"
    );
}

#[test]
fn names_take_no_memory_without_end() {
    let (_root, store) = store();
    let long = |length: usize, count: usize| {
        let mut builder = tar::Builder::new(Vec::new());
        for number in 0..count {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(tar::EntryType::Symlink);
            header.set_size(0);
            let target = format!("{number}/{}", "t".repeat(length));
            builder
                .append_link(&mut header, number.to_string(), target)
                .unwrap();
        }
        load_bytes(&store, builder.into_inner().unwrap()).unwrap_err()
    };
    assert_eq!(
        long(4000, 1),
        "invalid archive: does not contain a manifest.json"
    );
    for (length, count, limit) in [
        (4096, 1, "4096 bytes in a name"),
        (4000, 4300, "16777216 bytes of names"),
    ] {
        assert_eq!(
            long(length, count),
            format!("read the archive: the layer exceeds the limit of {limit}")
        );
    }
}
