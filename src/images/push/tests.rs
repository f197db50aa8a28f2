//! Pushes to a scripted registry, for its faults and for what it is asked, and to Debian's docker-registry.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use super::super::Silent;
use super::super::import::{Change, ImportOptions};
use super::super::registry::error::chain;
use super::super::testing::*;
use super::*;

/// What a registry of ours has.
#[derive(Default)]
struct Shelf {
    /// By repository and digest.
    blobs: BTreeMap<(String, String), Vec<u8>>,
    /// By repository and tag or digest.
    manifests: BTreeMap<(String, String), Vec<u8>>,
}

/// A registry that keeps what it is sent. `fault` may answer instead.
fn keeper(
    fault: impl Fn(&Asked, usize) -> Option<Reply> + Send + Sync + 'static,
) -> (Server, Arc<Mutex<Shelf>>) {
    let shelf: Arc<Mutex<Shelf>> = Arc::default();
    let kept = shelf.clone();
    let server = Server::start(move |asked, before| {
        fault(asked, before).unwrap_or_else(|| keep(&mut kept.lock().unwrap(), asked))
    });
    (server, shelf)
}

fn keep(shelf: &mut Shelf, asked: &Asked) -> Reply {
    let (path, query) = asked.path.split_once('?').unwrap_or((&asked.path, ""));
    let query: BTreeMap<String, String> = reqwest::Url::parse(&format!("http://x/?{query}"))
        .unwrap()
        .query_pairs()
        .into_owned()
        .collect();
    let path = path.strip_prefix("/v2/").unwrap();
    let (repository, rest) = path
        .split_once("/blobs/")
        .map(|(repository, rest)| (repository, format!("blobs/{rest}")))
        .or_else(|| {
            let (repository, rest) = path.split_once("/manifests/")?;
            Some((repository, format!("manifests/{rest}")))
        })
        .unwrap();
    let key = |name: &str| (repository.to_owned(), name.to_owned());
    match (asked.method.as_str(), rest.as_str()) {
        ("POST", "blobs/uploads/") => {
            let from = query.get("from").cloned().unwrap_or_default();
            let mount = query.get("mount").cloned().unwrap_or_default();
            if let Some(blob) = shelf.blobs.get(&(from, mount.clone())).cloned() {
                shelf.blobs.insert(key(&mount), blob);
                return Reply::status(201);
            }
            // Relative, and with a query of its own.
            Reply::status(202).header("location", "session?state=a%2Fb")
        }
        ("PUT", "blobs/uploads/session") => {
            assert_eq!(query["state"], "a/b", "the registry's query is kept");
            let digest = Digest::of(&asked.body).to_string();
            if digest != query["digest"] {
                let body = br#"{"errors":[{"code":"DIGEST_INVALID","message":"wrong digest"}]}"#;
                return Reply {
                    status: 400,
                    ..Reply::ok(body)
                };
            }
            shelf.blobs.insert(key(&digest), asked.body.clone());
            Reply::status(201).header("docker-content-digest", &digest)
        }
        ("PUT", manifest) => {
            let name = manifest.strip_prefix("manifests/").unwrap();
            shelf.manifests.insert(key(name), asked.body.clone());
            Reply::status(201)
        }
        (_, blob) => {
            let digest = blob.rsplit('/').next().unwrap();
            match shelf.blobs.get(&key(digest)) {
                Some(blob) => Reply::ok(blob),
                None => Reply::status(404),
            }
        }
    }
}

/// Makes an image of one file of `bytes` here.
fn make(fixture: &Fixture, name: &Reference, bytes: &[u8]) {
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(bytes.len() as u64);
    header.set_mode(0o644);
    builder.append_data(&mut header, "file", bytes).unwrap();
    let tar = builder.into_inner().unwrap();
    let options = ImportOptions {
        changes: vec![Change::parse(r#"CMD ["/file"]"#).unwrap()],
        ..ImportOptions::default()
    };
    let images = &fixture.images;
    images.import(tar.as_slice(), Some(name), &options).unwrap();
}

/// Makes an image with one layer of a directory, which has no blob.
fn build(fixture: &Fixture, name: &Reference, bytes: &[u8]) {
    let store = fixture.images.store();
    let staging = store.staging().unwrap();
    fs_err::write(staging.diff().join("file"), bytes).unwrap();
    let layer = store.commit_layer(staging).unwrap();
    let config = parse_config(
        br#"{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}"#,
    );
    store
        .put_named(config.unwrap(), &[layer.diff_id], &[name])
        .unwrap();
}

fn name(server: &Server, rest: &str) -> Reference {
    Reference::parse(&format!("{}/{rest}", server.host)).unwrap()
}

fn push(fixture: &Fixture, reference: &Reference) -> Result<(Pushed, Vec<BlobState>), String> {
    let choices = PushChoices::default();
    let recorder = Recorder::default();
    let work = fixture.images.push(reference, &choices, &recorder);
    let pushed = block_on(work).map_err(|error| chain(&error))?;
    let states = recorder.0.take().into_iter().map(|(_, state)| state);
    // How far an upload was seen depends on the time it took.
    let states = states.filter(|state| !matches!(state, BlobState::Uploading { .. }));
    Ok((pushed, states.collect()))
}

fn choices(packing: Packing) -> PushChoices {
    PushChoices {
        packing,
        platform: None,
    }
}

fn count(server: &Server, method: &str, part: &str) -> usize {
    let asked = server.asked(part);
    asked.iter().filter(|asked| asked.method == method).count()
}

#[test]
fn a_layer_made_here_is_compressed_once_and_comes_back_the_same() {
    let (server, shelf) = keeper(|_, _| None);
    let fixture = fixture();
    let one = name(&server, "a/b:v1");
    build(&fixture, &one, &vec![7; 100_000]);
    let (pushed, states) = push(&fixture, &one).unwrap();
    assert_eq!(
        states,
        [BlobState::Waiting, BlobState::Preparing, BlobState::Pushed]
    );
    let manifest = {
        let shelf = shelf.lock().unwrap();
        shelf.manifests[&("a/b".to_owned(), "v1".to_owned())].clone()
    };
    assert_eq!(
        (Digest::of(&manifest), manifest.len() as u64),
        (pushed.digest.clone(), pushed.size_bytes)
    );
    let value: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
    assert_eq!(value["mediaType"], OCI_MANIFEST);
    assert_eq!(value["layers"][0]["mediaType"], OCI_LAYER_GZIP);
    // Known by the digest it has there, too.
    let by_digest = name(&server, &format!("a/b@{}", pushed.digest));
    let image = fixture.images.resolve(&one).unwrap();
    assert_eq!(fixture.images.resolve(&by_digest).unwrap(), image);

    // Again, and to another repository: nothing is compressed, nothing sent.
    let layer = value["layers"][0]["digest"].as_str().unwrap().to_owned();
    let blob = fixture.at("images/blobs/sha256").join(&layer[7..]);
    let before = fs_err::metadata(&blob).unwrap().modified().unwrap();
    let sent = count(&server, "PUT", "/blobs/uploads/");
    assert_eq!(
        push(&fixture, &one).unwrap(),
        (
            pushed.clone(),
            vec![BlobState::Waiting, BlobState::Preparing, BlobState::Exists]
        )
    );
    let other = name(&server, "c:v1");
    fixture.images.store().tag(&image.unwrap(), &other).unwrap();
    assert_eq!(
        push(&fixture, &other).unwrap(),
        (
            pushed,
            vec![BlobState::Waiting, BlobState::Preparing, BlobState::Mounted]
        )
    );
    // The configuration alone, which is small.
    assert_eq!(count(&server, "PUT", "/blobs/uploads/"), sent + 1);
    let after = fs_err::metadata(&blob).unwrap().modified().unwrap();
    assert_eq!(before, after);
    let asked = server.asked("/v2/c/blobs/uploads/?mount=");
    assert_eq!(
        asked[0].path,
        format!("/v2/c/blobs/uploads/?mount={layer}&from=a/b")
    );
    // Garbage collection leaves it.
    fixture.images.store().collect(&BTreeSet::new()).unwrap();
    assert!(blob.exists());
}

#[test]
fn a_tar_that_was_imported_is_compressed_each_time() {
    let (server, _shelf) = keeper(|_, _| None);
    let fixture = fixture();
    let one = name(&server, "a/b:v1");
    make(&fixture, &one, &vec![7; 100_000]);
    let (first, _) = push(&fixture, &one).unwrap();
    let (second, states) = push(&fixture, &one).unwrap();
    assert_eq!(first, second);
    assert_eq!(states.last(), Some(&BlobState::Exists));
}

#[test]
fn what_was_pulled_goes_as_it_came() {
    let served = Served::new();
    let answers = served.clone();
    let from = Server::start(move |asked, _| answers.answer(asked));
    let (server, shelf) = keeper(|_, _| None);
    let fixture = fixture();
    fixture.pull(&from.reference()).unwrap();
    let image = fixture.images.resolve(&from.reference()).unwrap().unwrap();
    let to = name(&server, "copy:v2");
    fixture.images.store().tag(&image, &to).unwrap();
    let (pushed, _) = push(&fixture, &to).unwrap();
    let shelf = shelf.lock().unwrap();
    let at = |tag: &str| {
        shelf
            .manifests
            .get(&("copy".to_owned(), tag.to_owned()))
            .cloned()
    };
    // The whole index is here, so it is what the tag names.
    assert_eq!(at("v2"), Some(served.index.clone()));
    assert_eq!(
        at(&Digest::of(&served.manifest).to_string()),
        Some(served.manifest.clone())
    );
    assert_eq!(pushed.digest, Digest::of(&served.index));
    for (digest, blob) in &served.blobs {
        let kept = &shelf.blobs[&("copy".to_owned(), digest.clone())];
        assert!(kept == blob, "{digest}");
    }
}

#[test]
fn what_passes_is_repeated() {
    // The first upload is refused for now, the second breaks, the third is kept but its answer lost; so is the manifest's first.
    let (server, _shelf) = keeper(|asked, before| match (asked.method.as_str(), before) {
        ("PUT", 0) if asked.path.contains("/uploads/") => {
            Some(Reply::status(503).header("retry-after", "0"))
        }
        ("PUT", 1) if asked.path.contains("/uploads/") => Some(Reply {
            cut: Some(0),
            ..Reply::ok(b"x")
        }),
        ("POST", 0) => Some(Reply::status(429).header("retry-after", "0")),
        ("PUT", 0) if asked.path.contains("/manifests/") => Some(Reply::status(500)),
        _ => None,
    });
    let fixture = fixture();
    let one = name(&server, "a/b:v1");
    make(&fixture, &one, &vec![1; 300_000]);
    push(&fixture, &one).unwrap();
    assert_eq!(count(&server, "PUT", "/manifests/v1"), 2);
}

#[test]
fn a_tag_that_moved_meanwhile_stays_where_it_is() {
    let fixture = fixture();
    let root = fixture.root.path().to_owned();
    let (server, _shelf) = keeper(move |asked, _| {
        if asked.method == "PUT" && asked.path.contains("/manifests/") {
            // Somebody builds anew while the old one goes up.
            let store = Store::open(&root).unwrap();
            let newer = store.find("newer:1").unwrap().unwrap();
            let tag = Reference::parse(&format!("{}/a/b:v1", asked.headers["host"])).unwrap();
            store.tag(&newer, &tag).unwrap();
        }
        None
    });
    make(&fixture, &server.reference(), b"old");
    make(&fixture, &Reference::parse("newer:1").unwrap(), b"new");
    let newer = fixture.images.find("newer:1").unwrap();
    let (pushed, _) = push(&fixture, &server.reference()).unwrap();
    let now = fixture.images.resolve(&server.reference()).unwrap();
    assert_eq!(now, newer);
    let known = fixture.images.find_known("newer:1").unwrap();
    assert_eq!(known.digests, [], "{pushed:?} was not it");
}

#[test]
fn says_what_is_wrong() {
    let denied = |_: &Asked, _| {
        let body = br#"{"errors":[{"code":"DENIED","message":"requested access to the resource is denied"}]}"#;
        Some(Reply {
            status: 403,
            ..Reply::ok(body)
        })
    };
    let (server, _shelf) = keeper(denied);
    let fixture = fixture();
    let one = name(&server, "a/b:v1");
    make(&fixture, &one, b"1");
    let error = push(&fixture, &one)
        .unwrap_err()
        .replace(&server.host, "HOST");
    assert_eq!(
        error,
        "push image `HOST/a/b:v1`: access to `a/b` at HOST denied: it does not exist or may require login \
         (requested access to the resource is denied)"
    );
    let missing = Reference::parse("nobody/has:this").unwrap();
    let error = push(&fixture, &missing).unwrap_err();
    assert_eq!(
        error,
        "an image does not exist locally with the tag: nobody/has:this"
    );
    let digest = Reference::parse(&format!("x@sha256:{}", "a".repeat(64))).unwrap();
    let error = push(&fixture, &digest).unwrap_err();
    assert!(
        error.starts_with("cannot push a digest reference: `x@sha256:"),
        "{error}"
    );

    // A registry that cannot be trusted with what it got.
    let (server, _shelf) = keeper(|asked, _| {
        let put = asked.method == "PUT" && asked.path.contains("/uploads/");
        let other = format!("sha256:{}", "b".repeat(64));
        put.then(|| Reply::status(201).header("docker-content-digest", &other))
    });
    let two = name(&server, "a/b:v1");
    make(&fixture, &two, b"2");
    let error = push(&fixture, &two).unwrap_err();
    assert!(
        error.contains("has the wrong digest: expected sha256:"),
        "{error}"
    );
}

#[test]
fn uploads_to_another_host_carry_no_credentials() {
    let (elsewhere, _shelf) = keeper(|_, _| None);
    let other = elsewhere.host.clone();
    let (server, _kept) = keeper(move |asked, _| {
        if asked.headers.get("authorization").map(String::as_str) != Some("Basic dTpw") {
            return Some(Reply::status(401).header("www-authenticate", "Basic realm=x"));
        }
        (asked.method == "POST").then(|| {
            let location = format!("http://{other}/v2/a/b/blobs/uploads/session?state=a%2Fb");
            Reply::status(202).header("location", &location)
        })
    });
    let fixture = fixture();
    let text = format!(r#"{{"auths":{{"{}":{{"auth":"dTpw"}}}}}}"#, server.host);
    fs_err::write(fixture.at("config.json"), text).unwrap();
    let one = name(&server, "a/b:v1");
    make(&fixture, &one, b"1");
    push(&fixture, &one).unwrap();
    let uploads = elsewhere.asked("/blobs/uploads/");
    assert_eq!(uploads.len(), 2);
    assert!(
        uploads
            .iter()
            .all(|asked| !asked.headers.contains_key("authorization"))
    );
}

#[test]
fn an_image_with_docker_layers_and_ours_is_an_oci_image() {
    let manifest: Manifest = serde_json::from_value(serde_json::json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
        "config": {"mediaType": "application/vnd.docker.container.image.v1+json",
            "digest": Digest::of(b"c").to_string(), "size": 1},
        "layers": [], "annotations": {"a": "b"}, "x": 1,
    }))
    .unwrap();
    let docker = "application/vnd.docker.image.rootfs.diff.tar.gzip";
    let layers = [
        Descriptor::new(docker, Digest::of(b"1"), 1),
        Descriptor::new(OCI_LAYER_ZSTD, Digest::of(b"2"), 2),
    ];
    let bytes = rewritten(&manifest, &layers).unwrap();
    let found: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
    assert_eq!(
        found,
        serde_json::json!({
            "schemaVersion": 2, "mediaType": OCI_MANIFEST,
            "config": {"mediaType": OCI_CONFIG, "digest": Digest::of(b"c").to_string(), "size": 1},
            "layers": [
                {"mediaType": OCI_LAYER_GZIP, "digest": Digest::of(b"1").to_string(), "size": 1},
                {"mediaType": OCI_LAYER_ZSTD, "digest": Digest::of(b"2").to_string(), "size": 2},
            ],
            "annotations": {"a": "b"}, "x": 1,
        })
    );
}

/// Debian's docker-registry keeps what we push, and skopeo reads it; `STACK_SKIP_REGISTRY_TESTS` leaves it out.
#[test]
fn a_real_registry_and_skopeo_read_what_we_push() {
    if std::env::var_os("STACK_SKIP_REGISTRY_TESTS").is_some() {
        return;
    }
    let theirs = tempfile::tempdir().unwrap();
    let (_child, host) = registry(theirs.path());
    let one = fixture();
    let remote = |rest: &str| Reference::parse(&format!("{host}/{rest}")).unwrap();
    let made = remote("team/made:v1");
    build(&one, &made, &vec![3; 2_000_000]);
    for (packing, tag) in [(Packing::Gzip(9), "v1"), (Packing::Zstd(3), "v2")] {
        let to = remote(&format!("team/made:{tag}"));
        let image = one.images.resolve(&made).unwrap().unwrap();
        one.images.store().tag(&image, &to).unwrap();
        let pushed = block_on(one.images.push(&to, &choices(packing), &Silent)).unwrap();
        let inspected = tool(
            "skopeo",
            &["inspect", "--tls-verify=false", &format!("docker://{to}")],
        );
        let inspected: serde_json::Value = serde_json::from_str(&inspected).unwrap();
        assert_eq!(inspected["Digest"], pushed.digest.to_string());
        // Docker's archive has layers uncompressed, compared with the configuration; it cannot hold zstd.
        let to_format = if tag == "v1" { "docker-archive" } else { "oci" };
        let out = theirs.path().join(format!("out-{tag}"));
        tool(
            "skopeo",
            &[
                "copy",
                "--insecure-policy",
                "--src-tls-verify=false",
                &format!("docker://{to}"),
                &format!("{to_format}:{}:x", out.display()),
            ],
        );
        let two = fixture();
        let pulled = two.pull(&to).unwrap();
        assert_eq!((&pulled.id, &pulled.layers), (&image.id, &image.layers));
        let file = two.images.layer_directories(&pulled)[0].join("file");
        assert!(fs_err::read(file).unwrap() == vec![3; 2_000_000]);
        // What was pulled is pushed again unchanged.
        let again = remote("other/copy:v1");
        two.images.store().tag(&pulled, &again).unwrap();
        let copied = block_on(two.images.push(&again, &PushChoices::default(), &Silent)).unwrap();
        assert_eq!(copied, pushed);
    }
    let tags = block_on(one.images.remote_tags(&made)).unwrap();
    assert_eq!(tags, ["v1", "v2"]);
}
