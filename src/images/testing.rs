//! What tests of registries share: scripted servers, for their faults, Debian's docker-registry, for the truth, and stores.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::manifest::Platform;
use super::progress::{BlobState, Progress};
use super::reference::{Digest, Reference};
use super::registry::error::chain;
use super::registry::{ClientEnvironment, Retry};
use super::store::Image;
use super::{Images, Silent};

/// What a scripted server is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: Vec<u8>,
}

/// What it answers; `cut` breaks the connection after so many bytes of the body.
#[derive(Debug, Clone, Default)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    pub(crate) cut: Option<usize>,
    /// After so many bytes of the body nothing more comes, until the other side hangs up.
    pub(crate) pause: Option<usize>,
}

impl Reply {
    pub(crate) fn ok(body: &[u8]) -> Self {
        Self {
            status: 200,
            body: body.to_vec(),
            ..Self::default()
        }
    }

    pub(crate) fn status(status: u16) -> Self {
        Self {
            status,
            ..Self::default()
        }
    }

    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }
}

pub(crate) struct Server {
    pub(crate) host: String,
    pub(crate) log: Arc<Mutex<Vec<Asked>>>,
}

impl Server {
    /// Serves plain HTTP; `answer` gets the request and how often its path was asked before.
    pub(crate) fn start(answer: impl Fn(&Asked, usize) -> Reply + Send + Sync + 'static) -> Self {
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

    pub(crate) fn asked(&self, part: &str) -> Vec<Asked> {
        let log = self.log.lock().unwrap();
        log.iter()
            .filter(|asked| asked.path.contains(part))
            .cloned()
            .collect()
    }

    pub(crate) fn reference(&self) -> Reference {
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
        let mut words = lines.next().unwrap().split(' ').map(str::to_owned);
        let (method, path) = (words.next().unwrap(), words.next().unwrap());
        let headers = lines.filter_map(|line| line.split_once(": "));
        let headers = headers.map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()));
        let headers: BTreeMap<String, String> = headers.collect();
        let length = headers.get("content-length");
        let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
        if stream.read_exact(&mut body).is_err() {
            return;
        }
        let asked = Asked {
            method,
            path,
            headers,
            body,
        };
        let before = {
            let mut log = log.lock().unwrap();
            let before = log
                .iter()
                .filter(|k| (&k.method, &k.path) == (&asked.method, &asked.path))
                .count();
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
        let whole = if asked.method == "HEAD" {
            0
        } else {
            reply.body.len()
        };
        let cut = reply.cut.unwrap_or(whole);
        if let Some(pause) = reply.pause {
            bytes.extend_from_slice(&reply.body[..pause]);
            stream.write_all(&bytes).unwrap();
            // The other side says nothing more, and hangs up in the end.
            let _hung_up = stream.read(&mut [0]);
            return;
        }
        bytes.extend_from_slice(&reply.body[..cut]);
        if stream.write_all(&bytes).is_err() || reply.cut.is_some() {
            return;
        }
    }
}

/// An image of two layers, as a registry has it.
#[derive(Clone)]
pub(crate) struct Served {
    pub(crate) manifest: Vec<u8>,
    pub(crate) index: Vec<u8>,
    pub(crate) blobs: BTreeMap<String, Vec<u8>>,
    pub(crate) layers: Vec<String>,
}

impl Served {
    pub(crate) fn new() -> Self {
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

    pub(crate) fn answer(&self, asked: &Asked) -> Reply {
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
pub(crate) struct Recorder(pub(crate) RefCell<Vec<(String, BlobState)>>);

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

pub(crate) struct Fixture {
    pub(crate) root: tempfile::TempDir,
    pub(crate) images: Images,
}

pub(crate) fn environment(directory: &Path) -> ClientEnvironment {
    ClientEnvironment {
        docker_config: Some(directory.join("config.json")),
        daemon_json: directory.join("daemon.json"),
        registries_conf: directory.join("registries.conf"),
        registries_conf_directory: directory.join("registries.conf.d"),
        hosts_directories: vec![directory.join("hosts.d")],
        certs_directories: vec![directory.join("certs.d")],
        docker_auth_config: None,
        containers_auth: None,
        retry: Retry {
            stall: Duration::from_mins(1),
            attempts: 4,
            first_wait: Duration::from_millis(1),
            longest_wait: Duration::from_millis(5),
        },
    }
}

pub(crate) fn fixture() -> Fixture {
    let root = tempfile::tempdir().unwrap();
    let images = Images::open(root.path(), environment(root.path())).unwrap();
    Fixture { root, images }
}

pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(future)
}

impl Fixture {
    pub(crate) fn pull(&self, reference: &Reference) -> Result<Image, String> {
        let platform = Platform::parse("linux/amd64").unwrap();
        let pulled = block_on(self.images.pull(reference, &platform, &Silent));
        pulled.map_err(|error| chain(&error))
    }

    pub(crate) fn at(&self, name: &str) -> std::path::PathBuf {
        self.root.path().join(name)
    }
}

/// A process that ends with the test.
pub(crate) struct Child(pub(crate) std::process::Child);

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
pub(crate) fn tool(program: &str, args: &[&str]) -> String {
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
pub(crate) fn registry(directory: &Path) -> (Child, String) {
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
