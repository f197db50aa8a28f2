//! Pulls from scripted servers, for their faults, and from Debian's docker-registry, for the truth.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::super::import::Change;
use super::super::registry::Retry;
use super::super::{Images, Silent};
use super::*;

/// What a scripted server is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Asked {
    path: String,
    headers: BTreeMap<String, String>,
}

/// What it answers; `cut` breaks the connection after so many bytes of the body.
#[derive(Debug, Clone, Default)]
struct Reply {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    cut: Option<usize>,
}

impl Reply {
    fn ok(body: &[u8]) -> Self {
        Self {
            status: 200,
            body: body.to_vec(),
            ..Self::default()
        }
    }

    fn status(status: u16) -> Self {
        Self {
            status,
            ..Self::default()
        }
    }

    fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }
}

struct Server {
    host: String,
    log: Arc<Mutex<Vec<Asked>>>,
}

impl Server {
    /// Serves plain HTTP; `answer` gets the request and how often its path was asked before.
    fn start(answer: impl Fn(&Asked, usize) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let log: Arc<Mutex<Vec<Asked>>> = Arc::default();
        let (answer, seen) = (Arc::new(answer), log.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (answer, seen) = (answer.clone(), seen.clone());
                std::thread::spawn(move || converse(stream.unwrap(), &*answer, &seen));
            }
        });
        Self { host, log }
    }

    fn asked(&self, part: &str) -> Vec<Asked> {
        let log = self.log.lock().unwrap();
        log.iter()
            .filter(|asked| asked.path.contains(part))
            .cloned()
            .collect()
    }

    fn reference(&self) -> Reference {
        Reference::parse(&format!("{}/a/b:v1", self.host)).unwrap()
    }
}

fn converse(
    mut stream: TcpStream,
    answer: &dyn Fn(&Asked, usize) -> Reply,
    log: &Mutex<Vec<Asked>>,
) {
    loop {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            match stream.read(&mut byte) {
                // A TLS hello is no HTTP.
                Ok(1) if head.is_empty() && byte[0] == 0x16 => return,
                Ok(1) => head.push(byte[0]),
                _ => return,
            }
        }
        let head = String::from_utf8(head).unwrap();
        let mut lines = head.lines();
        let path = lines.next().unwrap().split(' ').nth(1).unwrap().to_owned();
        let headers = lines.filter_map(|line| line.split_once(": "));
        let headers = headers.map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()));
        let asked = Asked {
            path,
            headers: headers.collect(),
        };
        let before = {
            let mut log = log.lock().unwrap();
            let before = log.iter().filter(|known| known.path == asked.path).count();
            log.push(asked.clone());
            before
        };
        let reply = answer(&asked, before);
        let mut text = format!(
            "HTTP/1.1 {} x\r\ncontent-length: {}\r\n",
            reply.status,
            reply.body.len()
        );
        for (name, value) in &reply.headers {
            text.extend([name.as_str(), ": ", value.as_str(), "\r\n"]);
        }
        text.push_str("\r\n");
        let mut bytes = text.into_bytes();
        let cut = reply.cut.unwrap_or(reply.body.len());
        bytes.extend_from_slice(&reply.body[..cut]);
        if stream.write_all(&bytes).is_err() || reply.cut.is_some() {
            return;
        }
    }
}

/// An image of two layers, as a registry has it.
#[derive(Clone)]
struct Served {
    manifest: Vec<u8>,
    index: Vec<u8>,
    blobs: BTreeMap<String, Vec<u8>>,
    layers: Vec<String>,
}

impl Served {
    fn new() -> Self {
        let mut blobs = BTreeMap::new();
        let mut layers = Vec::new();
        let mut diff_ids = Vec::new();
        // Enough that a break in the middle is one of the stream, not of the first chunk.
        let mut state = 1_u32;
        let noise = std::iter::repeat_with(|| {
            // xorshift32
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            state.to_le_bytes()[0]
        });
        let noise: Vec<u8> = noise.take(600_000).collect();
        for (name, content) in [("one", &b"1"[..]), ("two", &noise)] {
            let mut builder = tar::Builder::new(Vec::new());
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            header.set_mode(0o644);
            builder.append_data(&mut header, name, content).unwrap();
            let tar = builder.into_inner().unwrap();
            diff_ids.push(Digest::of(&tar).to_string());
            let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            gzip.write_all(&tar).unwrap();
            let gzip = gzip.finish().unwrap();
            let digest = Digest::of(&gzip).to_string();
            layers.push(digest.clone());
            blobs.insert(digest, gzip);
        }
        let config = serde_json::json!({"architecture": "amd64", "os": "linux", "config": {"Cmd": ["x"]},
            "rootfs": {"type": "layers", "diff_ids": diff_ids}});
        let config = serde_json::to_vec(&config).unwrap();
        let descriptors: Vec<_> = layers
            .iter()
            .map(|digest| {
                serde_json::json!({"mediaType": "application/vnd.docker.image.rootfs.diff.tar.gzip",
                    "digest": digest, "size": blobs[digest].len()})
            })
            .collect();
        let manifest = serde_json::json!({"schemaVersion": 2,
            "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
            "config": {"mediaType": "application/vnd.docker.container.image.v1+json",
                "digest": Digest::of(&config), "size": config.len()},
            "layers": descriptors});
        let manifest = serde_json::to_vec(&manifest).unwrap();
        let index = serde_json::json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json",
            "manifests": [{"mediaType": "application/vnd.docker.distribution.manifest.v2+json",
                "digest": Digest::of(&manifest), "size": manifest.len(),
                "platform": {"os": "linux", "architecture": "amd64"}}]});
        blobs.insert(Digest::of(&config).to_string(), config);
        Self {
            manifest,
            index: serde_json::to_vec(&index).unwrap(),
            blobs,
            layers,
        }
    }

    fn answer(&self, asked: &Asked) -> Reply {
        let name = asked.path.rsplit('/').next().unwrap();
        if asked.path.contains("/manifests/") {
            let own = Digest::of(&self.manifest).to_string();
            if name == own {
                return Reply::ok(&self.manifest);
            }
            if name == "v1" || name == Digest::of(&self.index).to_string() {
                let media_type = "application/vnd.oci.image.index.v1+json; x=y";
                return Reply::ok(&self.index).header("content-type", media_type);
            }
            return Reply::status(404);
        }
        match self.blobs.get(name) {
            Some(blob) => Reply::ok(blob),
            None => Reply::status(404),
        }
    }
}

#[derive(Default)]
struct Recorder(RefCell<Vec<(String, BlobState)>>);

impl Progress for Recorder {
    fn blob(&self, blob: &Digest, state: BlobState) {
        let mut seen = self.0.borrow_mut();
        let downloading = |state: &BlobState| matches!(state, BlobState::Downloading { .. });
        // Of the downloads only the last counts here.
        seen.retain(|(known, old)| {
            *known != blob.to_string() || !downloading(old) || !downloading(&state)
        });
        seen.push((blob.to_string(), state));
    }
}

struct Fixture {
    root: tempfile::TempDir,
    images: Images,
}

fn environment(directory: &Path) -> ClientEnvironment {
    ClientEnvironment {
        docker_config: Some(directory.join("config.json")),
        daemon_json: directory.join("daemon.json"),
        registries_conf: directory.join("registries.conf"),
        registries_conf_directory: directory.join("registries.conf.d"),
        retry: Retry {
            attempts: 4,
            first_wait: Duration::from_millis(1),
            longest_wait: Duration::from_millis(5),
        },
    }
}

fn fixture() -> Fixture {
    let root = tempfile::tempdir().unwrap();
    let images = Images::open(root.path(), root.path(), environment(root.path())).unwrap();
    Fixture { root, images }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(future)
}

impl Fixture {
    fn pull(&self, reference: &Reference) -> Result<Image, String> {
        let platform = Platform::parse("linux/amd64").unwrap();
        let pulled = block_on(self.images.pull(reference, &platform, &Silent));
        pulled.map_err(|error| chain(&error))
    }

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
    let other = Images::open(
        fixture.root.path(),
        fixture.root.path(),
        environment(fixture.root.path()),
    )
    .unwrap();
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
fn mends_what_passes() {
    let served = Served::new();
    let answers = served.clone();
    let big = served.layers[1].clone();
    let whole = served.blobs[&big].clone();
    let server = Server::start(move |asked, before| {
        let reply = answers.answer(asked);
        match (
            asked.path.contains(&big),
            before,
            asked.headers.get("range"),
        ) {
            // Broken off three times: before the start, in the middle (then ranges), and a server that forgets ranges.
            (true, 0, _) => Reply::status(500),
            (true, 1, _) => Reply {
                cut: Some(300_000),
                ..reply
            },
            (true, 2, Some(range)) if range == "bytes=300000-" => {
                let rest = &whole[300_000..];
                let range = format!("bytes 300000-{}/{}", whole.len() - 1, whole.len());
                let reply = Reply {
                    status: 206,
                    cut: Some(50_000),
                    ..Reply::ok(rest)
                };
                reply.header("content-range", &range)
            }
            (true, 3, Some(_)) => reply,
            (true, ..) => Reply::status(400),
            // The documents: too many requests, an error, a break.
            (false, 0, _) => Reply::status(429).header("retry-after", "0"),
            (false, 1, _) => Reply::status(503),
            (false, 2, _) => Reply {
                cut: Some(10),
                ..reply
            },
            (false, ..) => reply,
        }
    });
    let fixture = fixture();
    // The small layer cannot break after ten bytes that often, so its answer is whole or none.
    let image = fixture.pull(&server.reference()).unwrap();
    let directories = fixture.images.layer_directories(&image);
    assert_eq!(
        fs_err::metadata(directories[0].join("two")).unwrap().len(),
        600_000
    );
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn says_what_is_wrong_and_leaves_nothing() {
    type Fault = Box<dyn Fn(&Served, &Asked, Reply) -> Reply + Send + Sync>;
    let layer = |fault: fn(Reply) -> Reply| -> Fault {
        Box::new(move |served, asked, reply| {
            if asked.path.contains(&served.layers[1]) {
                fault(reply)
            } else {
                reply
            }
        })
    };
    let manifest = |fault: fn(&Served, Reply) -> Reply| -> Fault {
        Box::new(move |served, asked, reply| {
            if asked.path.ends_with("/v1") {
                fault(served, reply)
            } else {
                reply
            }
        })
    };
    let served = Served::new();
    let big = &served.layers[1];
    let size = served.blobs[big].len();
    let mut flipped = served.blobs[big].clone();
    flipped[size / 2] ^= 1;
    let flipped = Digest::of(&flipped);
    let index_digest = Digest::of(&served.index);
    let cases: Vec<(Fault, String)> = vec![
        (
            layer(|mut reply| {
                let middle = reply.body.len() / 2;
                reply.body[middle] ^= 1;
                reply
            }),
            format!("layer from HOST has the wrong digest: expected {big}, got {flipped}"),
        ),
        (
            layer(|reply| Reply { cut: Some(0), ..reply }),
            "the connection to HOST broke: end of file before message length reached".to_owned(),
        ),
        (
            layer(|mut reply| {
                reply.body.truncate(1000);
                reply
            }),
            // Breaks four times, each time no byte further.
            format!("the connection to HOST broke: only 1000 of {size} bytes came"),
        ),
        (
            layer(|_| Reply::status(404)),
            format!("blob {big} of `a/b` not found at HOST"),
        ),
        (
            layer(|_| Reply::status(500)),
            format!("HOST answered 500 to the request for blob {big} of `a/b`"),
        ),
        (
            manifest(|_, _| {
                let body = br#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}"#;
                Reply { status: 404, ..Reply::ok(body) }
            }),
            "manifest v1 of `a/b` not found at HOST: manifest unknown".to_owned(),
        ),
        (
            manifest(|_, _| Reply::status(401)),
            "access to `a/b` at HOST denied: it does not exist or may require login".to_owned(),
        ),
        (
            manifest(|_, _| {
                let body = br#"{"errors":[{"code":"TOOMANYREQUESTS","message":"pull rate limit\u001b[31m"}]}"#;
                Reply { status: 429, ..Reply::ok(body) }.header("retry-after", "0")
            }),
            "HOST answered 429 to the request for manifest v1 of `a/b`: pull rate limit[31m".to_owned(),
        ),
        (
            manifest(|served, reply| {
                reply.header("docker-content-digest", &Digest::of(&served.manifest).to_string())
            }),
            format!(
                "manifest from HOST has the wrong digest: expected {}, got {index_digest}",
                Digest::of(&served.manifest)
            ),
        ),
        (
            manifest(|_, _| Reply::ok(br#"{"schemaVersion":2,"manifests":[],"layers":[]}"#)),
            "HOST has no usable image there: the manifest is ambiguous: it has both `manifests` and `layers`".to_owned(),
        ),
        (
            manifest(|_, _| Reply::ok(br#"{"schemaVersion":2,"manifests":[{"digest":"sha256:../../x","size":1}]}"#)),
            "HOST has no usable image there: read the index: invalid digest `sha256:../../x`: it must be `sha256:` and 64 \
             lower-case hexadecimal digits at line 1 column 58"
                .to_owned(),
        ),
        (
            manifest(|_, _| Reply::status(307).header("location", "ftp://x/")),
            "HOST redirects to `ftp://x/`, which is refused: it is neither http nor https".to_owned(),
        ),
        (
            manifest(|_, _| Reply::status(307).header("location", "v1")),
            "HOST redirects to `http://HOST/v2/a/b/manifests/v1`, which is refused: there were too many redirects before it"
                .to_owned(),
        ),
        (
            manifest(|_, _| Reply::status(401).header("www-authenticate", "Bearer realm=\"gopher://x\"")),
            "HOST asks for authorization in a way that is not supported: the token server `gopher://x` is not encrypted"
                .to_owned(),
        ),
    ];
    for (fault, expected) in cases {
        let answers = Served::new();
        let server = Server::start(move |asked, _| fault(&answers, asked, answers.answer(asked)));
        let fixture = fixture();
        let error = fixture.pull(&server.reference()).unwrap_err();
        let shown = error.replace(&server.host, "HOST");
        assert_eq!(shown, format!("pull image `HOST/a/b:v1`: {expected}"));
        fixture.assert_clean();
    }
}

#[test]
fn a_registry_that_is_down_is_said_at_once() {
    let port = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let fixture = fixture();
    let reference = Reference::parse(&format!("localhost:{port}/x")).unwrap();
    assert_eq!(
        fixture.pull(&reference).unwrap_err(),
        format!(
            "pull image `localhost:{port}/x:latest`: cannot connect to localhost:{port}: Connection refused (os error 111)"
        )
    );
}

#[test]
fn credentials_go_to_their_host_alone() {
    let served = Served::new();
    let answers = served.clone();
    let elsewhere = Server::start(move |asked, _| answers.answer(asked));
    let (answers, other) = (served.clone(), elsewhere.host.clone());
    let server = Server::start(move |asked, _| {
        let authorization = asked.headers.get("authorization").map(String::as_str);
        if asked.path.starts_with("/token?") {
            // base64 of u:p
            return match authorization {
                Some("Basic dTpw") => Reply::ok(br#"{"token":"good"}"#),
                _ => Reply::status(401),
            };
        }
        if authorization != Some("Bearer good") {
            let host = &asked.headers["host"];
            let challenge = format!(
                r#"Bearer realm="http://{host}/token",service="s",scope="repository:a/b:pull""#
            );
            return Reply::status(401).header("www-authenticate", &challenge);
        }
        if asked.path.contains("/blobs/") {
            Reply::status(307).header("location", &format!("http://{other}{}", asked.path))
        } else {
            answers.answer(asked)
        }
    });
    let fixture = fixture();
    let text = format!(r#"{{"auths":{{"{}":{{"auth":"dTpw"}}}}}}"#, server.host);
    fs_err::write(fixture.root.path().join("config.json"), text).unwrap();
    fixture.pull(&server.reference()).unwrap();
    let tokens: Vec<_> = server
        .asked("/token")
        .into_iter()
        .map(|asked| asked.path)
        .collect();
    assert_eq!(tokens, ["/token?service=s&scope=repository%3Aa%2Fb%3Apull"]);
    let blobs = elsewhere.asked("/blobs/");
    assert_eq!(blobs.len(), 3);
    assert!(
        blobs
            .iter()
            .all(|asked| !asked.headers.contains_key("authorization"))
    );

    // Without them the registry says what it says to anyone.
    fs_err::remove_file(fixture.root.path().join("config.json")).unwrap();
    let error = fixture
        .pull(&server.reference())
        .unwrap_err()
        .replace(&server.host, "HOST");
    assert_eq!(
        error,
        "pull image `HOST/a/b:v1`: access to `a/b` at HOST denied: it does not exist or may require login"
    );
}

#[test]
fn mirrors_stand_in_and_fail_over() {
    let served = Served::new();
    let answers = served.clone();
    let good = Server::start(move |asked, _| {
        let path = asked.path.replace("/v2/hub/library/busybox/", "/v2/a/b/");
        answers.answer(&Asked {
            path: path.replace("/latest", "/v1"),
            ..asked.clone()
        })
    });
    // It has the manifest, but no layer.
    let answers = served.clone();
    let half = Server::start(move |asked, _| {
        if answers.layers.iter().any(|l| asked.path.contains(l)) {
            Reply::status(404)
        } else {
            answers.answer(&Asked {
                path: asked.path.replace("/latest", "/v1"),
                ..asked.clone()
            })
        }
    });
    let fixture = fixture();
    let at = |name: &str| fixture.root.path().join(name);
    fs_err::write(
        at("daemon.json"),
        format!(r#"{{"registry-mirrors":["http://{}"]}}"#, half.host),
    )
    .unwrap();
    let text = format!(
        "[[registry]]\nlocation = \"docker.io\"\n[[registry.mirror]]\nlocation = \"{}/hub\"\ninsecure = true\n",
        good.host
    );
    fs_err::write(at("registries.conf"), text).unwrap();
    let reference = Reference::parse("busybox").unwrap();
    let image = fixture.pull(&reference).unwrap();
    assert_eq!(fixture.images.resolve(&reference).unwrap(), Some(image));
    assert_eq!(half.asked("/v2/library/busybox/manifests/latest").len(), 1);
    assert_eq!(good.asked("/v2/hub/library/busybox/blobs/").len(), 2);
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

/// A process that ends with the test.
struct Child(std::process::Child);

impl Drop for Child {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the tools that the test compares with"
)]
fn run(program: &str, args: &[&str]) -> String {
    let output = std::process::Command::new(program).args(args).output();
    let output =
        output.unwrap_or_else(|error| panic!("{program} (apt-get install {program}): {error}"));
    assert!(
        output.status.success(),
        "{program} {args:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

/// Starts Debian's docker-registry on a free port.
#[expect(
    clippy::disallowed_methods,
    reason = "the registry that the test pulls from"
)]
fn registry(directory: &Path) -> (Child, String) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let host = listener.local_addr().unwrap().to_string();
    drop(listener);
    let config = directory.join("registry.yml");
    let storage = directory.join("registry");
    let text = format!(
        "version: 0.1\nstorage:\n  filesystem:\n    rootdirectory: {}\nhttp:\n  addr: {host}\n",
        storage.display()
    );
    fs_err::write(&config, text).unwrap();
    let child = std::process::Command::new("docker-registry")
        .arg("serve")
        .arg(&config)
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn();
    let child = Child(
        child.unwrap_or_else(|e| panic!("docker-registry (apt-get install docker-registry): {e}")),
    );
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    while TcpStream::connect(&host).is_err() {
        assert!(
            std::time::Instant::now() < deadline,
            "docker-registry does not listen"
        );
        std::thread::yield_now();
    }
    (child, host)
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
    let changes = [Change::parse(r#"CMD ["/bin/tool"]"#).unwrap()];
    let made = one
        .images
        .import(tar.as_slice(), Some(&name), &changes)
        .unwrap();
    let layout = one.root.path().join("images");
    // skopeo reads our store and pushes from it.
    let ours = format!("oci:{}:{name}", layout.display());
    let to = format!("docker://{host}/made/here:v1");
    run(
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
    let tool = two.images.layer_directories(&pulled)[0].join("bin/tool");
    let stat = fs_err::metadata(tool).unwrap();
    assert_eq!(
        (stat.mode() & 0o7777, stat.uid(), stat.gid()),
        (0o4755, 3, 4)
    );
    let layout = two.root.path().join("images");
    let inspected = run(
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
