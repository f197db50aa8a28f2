//! Pulls from scripted servers, for their faults, and from Debian's docker-registry, for the truth.

mod faults;
mod login;
mod mirrors;
mod odd_answers;
mod resume;
mod tags;

use std::net::TcpListener;
use std::os::unix::fs::MetadataExt;
use std::sync::Mutex;
use std::time::Duration;

use tokio::sync::oneshot;

use super::super::import::{Change, ImportOptions};
use super::super::registry::transport::{Local, Request, Response, Transport, TransportError};
use super::super::testing::*;
use super::super::{Images, Silent};
use super::*;

impl Fixture {
    /// Waits for the threads of given-up downloads, and then finds nothing of them.
    fn assert_clean(&self) {
        assert_eq!(self.images.list().unwrap(), []);
        let deadline = std::time::Instant::now() + Duration::from_secs(10);
        loop {
            let entries = fs_err::read_dir(self.root.path().join("tmp")).unwrap();
            let directories = entries.filter(|e| {
                let path = e.as_ref().unwrap().path();
                path.join("diff").exists() || path.join("blob").exists()
            });
            if directories.count() == 0 {
                return;
            }
            assert!(
                std::time::Instant::now() < deadline,
                "temporary directories are left"
            );
            std::thread::yield_now();
        }
    }
}

/// Serves `Served`, with ranges; `fault` may change what is answered for the big layer.
fn ranged(
    served: &Served,
    fault: impl Fn(&Asked, usize, Reply) -> Reply + Send + Sync + 'static,
) -> Server {
    let answers = served.clone();
    Server::start(move |asked, before| {
        let mut reply = answers.answer(asked);
        if !asked.path.contains(&answers.layers[1]) {
            return reply;
        }
        let range = asked.headers.get("range");
        if let Some(start) = range.and_then(|r| r.strip_prefix("bytes=")?.strip_suffix('-')) {
            let (start, whole): (usize, usize) = (start.parse().unwrap(), reply.body.len());
            reply.body.drain(..start);
            reply.status = 206;
            let range = format!("bytes {start}-{}/{whole}", whole - 1);
            reply = reply.header("content-range", &range);
        }
        fault(asked, before, reply)
    })
}

fn ranges(server: &Server, layer: &str) -> Vec<Option<String>> {
    let asked = server.asked(layer).into_iter();
    asked
        .map(|asked| asked.headers.get("range").cloned())
        .collect()
}

fn partial(fixture: &Fixture, layer: &str) -> std::path::PathBuf {
    fixture.at("images/partial").join(&layer[7..])
}

#[test]
fn pulls_and_then_finds_everything_there() {
    let served = Served::new();
    let answers = served.clone();
    let server = Server::start(move |asked, _| answers.answer(asked));
    let fixture = fixture();
    let platform = Platform::parse("linux/amd64").unwrap();
    let first = Recorder::default();
    let image = block_on(fixture.images.pull(&server.reference(), &platform, &first)).unwrap();
    for digest in &served.layers {
        let size = served.blobs[digest].len() as u64;
        let seen = first.0.borrow();
        let states: Vec<_> = seen
            .iter()
            .filter(|(d, _)| d == digest)
            .map(|(_, s)| *s)
            .collect();
        let whole = BlobState::Downloading {
            done_bytes: size,
            total_bytes: size,
        };
        assert_eq!(
            states,
            [
                BlobState::Waiting,
                whole,
                BlobState::Extracting,
                BlobState::Done
            ]
        );
    }
    let directories = fixture.images.layer_directories(&image);
    assert_eq!(
        fs_err::metadata(directories[0].join("two")).unwrap().len(),
        600_000
    );
    assert_eq!(fs_err::read(directories[1].join("one")).unwrap(), b"1");
    assert_eq!(
        fixture.images.resolve(&server.reference()).unwrap(),
        Some(image.clone())
    );
    let by_index = Reference::parse(&format!(
        "{}/a/b@{}",
        server.host,
        Digest::of(&served.index)
    ))
    .unwrap();
    assert_eq!(
        fixture.images.resolve(&by_index).unwrap(),
        Some(image.clone())
    );
    let second = Recorder::default();
    let again = block_on(fixture.images.pull(&server.reference(), &platform, &second)).unwrap();
    assert_eq!(again, image);
    let states: Vec<_> = second.0.borrow().iter().map(|(_, s)| *s).collect();
    assert_eq!(
        states,
        [
            BlobState::Waiting,
            BlobState::Waiting,
            BlobState::Exists,
            BlobState::Exists
        ]
    );
    for digest in &served.layers {
        assert_eq!(server.asked(digest).len(), 1);
    }
    assert_eq!(fixture.images.list().unwrap().len(), 1);
    let left = fs_err::read_dir(fixture.root.path().join("tmp")).unwrap();
    let left = left.filter(|e| e.as_ref().unwrap().path().is_file());
    assert_eq!(left.count(), 1, "only tmp/lock");
}

#[test]
fn two_pulls_at_once_share_each_layer() {
    let served = Served::new();
    let answers = served.clone();
    let server = Server::start(move |asked, _| answers.answer(asked));
    let fixture = fixture();
    let reference = server.reference();
    let other = Images::open(fixture.root.path(), environment(fixture.root.path())).unwrap();
    let platform = Platform::parse("linux/amd64").unwrap();
    let (one, two) = block_on(async {
        let one = fixture.images.pull(&reference, &platform, &Silent);
        let two = other.pull(&reference, &platform, &Silent);
        tokio::join!(one, two)
    });
    assert_eq!(one.unwrap(), two.unwrap());
    for digest in &served.layers {
        assert_eq!(server.asked(digest).len(), 1);
    }
}

#[test]
fn an_id_is_not_pulled() {
    let fixture = fixture();
    let reference = Reference::parse(&Digest::of(b"x").to_string()).unwrap();
    assert_eq!(
        fixture.pull(&reference).unwrap_err(),
        "refusing to create an ambiguous tag using digest algorithm as name"
    );
}

#[test]
fn a_pull_that_is_given_up_cleans_up_after_itself() {
    let served = Served::new();
    let big = served.layers[1].clone();
    let answers = served.clone();
    let (release, held) = std::sync::mpsc::channel::<()>();
    let held = Mutex::new(held);
    let (arrived, arrival) = oneshot::channel();
    let arrived = Mutex::new(Some(arrived));
    let server = Server::start(move |asked, _| {
        if asked.path.contains(&big) {
            if let Some(arrived) = arrived.lock().unwrap().take() {
                arrived.send(()).unwrap();
            }
            // Until the end of the test.
            held.lock().unwrap().recv().unwrap_err();
        }
        answers.answer(asked)
    });
    let fixture = fixture();
    let platform = Platform::parse("linux/amd64").unwrap();
    block_on(async {
        let reference = server.reference();
        let pull = fixture.images.pull(&reference, &platform, &Silent);
        tokio::select! {
            _ = pull => panic!("the layer cannot have come"),
            arrived = arrival => arrived.unwrap(),
        }
    });
    fixture.assert_clean();
    drop(release);
    fixture.pull(&server.reference()).unwrap();
}

#[test]
fn a_name_that_still_stands_for_the_same_costs_one_question() {
    let served = Served::new();
    let answers = served.clone();
    let digest = Digest::of(&served.index).to_string();
    let server = Server::start(move |asked, _| {
        let reply = answers.answer(asked);
        if asked.path.ends_with("/v1") {
            reply.header("docker-content-digest", &digest)
        } else {
            reply
        }
    });
    let fixture = fixture();
    let platform = Platform::parse("linux/amd64").unwrap();
    let reference = server.reference();
    let fetch = || block_on(fixture.images.fetch(&reference, &platform, &Silent)).unwrap();
    let first = fetch();
    assert!(first.is_new);
    let before = server.asked("").len();
    let second = fetch();
    assert_eq!(
        second,
        Pulled {
            is_new: false,
            ..first
        }
    );
    let asked: Vec<String> = server
        .asked("")
        .into_iter()
        .skip(before)
        .map(|asked| format!("{} {}", asked.method, asked.path))
        .collect();
    assert_eq!(asked, ["HEAD /v2/a/b/manifests/v1"]);
    // A blob that somebody removed is fetched again.
    let blob = fixture
        .at("images/blobs/sha256")
        .join(&served.layers[0][7..]);
    fs_err::remove_file(&blob).unwrap();
    fetch();
    assert!(blob.exists());
}

/// Debian's docker-registry and skopeo as the other side; `STACK_SKIP_REGISTRY_TESTS` leaves it out where they cannot be installed.
#[test]
fn a_real_registry_and_skopeo_agree_with_us() {
    if std::env::var_os("STACK_SKIP_REGISTRY_TESTS").is_some() {
        return;
    }
    let theirs = tempfile::tempdir().unwrap();
    let (_child, host) = registry(theirs.path());
    let one = fixture();
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(5);
    header.set_mode(0o4755);
    header.set_uid(3);
    header.set_gid(4);
    builder
        .append_data(&mut header, "bin/tool", &b"hello"[..])
        .unwrap();
    let tar = builder.into_inner().unwrap();
    let name = Reference::parse("made/here:v1").unwrap();
    let options = ImportOptions {
        changes: vec![Change::parse(r#"CMD ["/bin/tool"]"#).unwrap()],
        ..ImportOptions::default()
    };
    let made = one
        .images
        .import(tar.as_slice(), Some(&name), &options)
        .unwrap();
    let layout = one.root.path().join("images");
    // skopeo reads our store and pushes from it.
    let ours = format!("oci:{}:{name}", layout.display());
    let to = format!("docker://{host}/made/here:v1");
    tool(
        "skopeo",
        &[
            "copy",
            "--insecure-policy",
            "--dest-tls-verify=false",
            &ours,
            &to,
        ],
    );
    let two = fixture();
    let remote = Reference::parse(&format!("{host}/made/here:v1")).unwrap();
    let pulled = two.pull(&remote).unwrap();
    assert_eq!(
        (&pulled.config, &pulled.layers),
        (&made.config, &made.layers)
    );
    let file = two.images.layer_directories(&pulled)[0].join("bin/tool");
    let stat = fs_err::metadata(file).unwrap();
    assert_eq!(
        (stat.mode() & 0o7777, stat.uid(), stat.gid()),
        (0o4755, 3, 4)
    );
    let layout = two.root.path().join("images");
    let inspected = tool(
        "skopeo",
        &["inspect", &format!("oci:{}:{remote}", layout.display())],
    );
    let inspected: serde_json::Value = serde_json::from_str(&inspected).unwrap();
    assert_eq!(inspected["Digest"], pulled.manifest.to_string());
    let missing = Reference::parse(&format!("{host}/not/there")).unwrap();
    let error = two.pull(&missing).unwrap_err().replace(&host, "HOST");
    assert_eq!(
        error,
        "pull image `HOST/not/there:latest`: manifest latest of `not/there` not found at HOST: manifest unknown"
    );
}
