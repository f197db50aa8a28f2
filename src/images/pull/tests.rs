//! Pulls from scripted servers, for their faults, and from Debian's docker-registry, for the truth.

use std::net::TcpListener;
use std::os::unix::fs::MetadataExt;
use std::sync::Mutex;
use std::time::Duration;

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
            "HOST takes no more requests for now: pull rate limit[31m".to_owned(),
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
fn a_challenge_from_behind_a_redirect_is_not_met() {
    let thief = Server::start(|asked, _| {
        let realm = format!("http://{}/token", asked.headers["host"]);
        let challenge = format!(r#"Bearer realm="{realm}",service="s""#);
        Reply::status(401)
            .header("www-authenticate", &challenge)
            .header("www-authenticate", "Basic realm=\"x\"")
    });
    let (answers, other) = (Served::new(), thief.host.clone());
    let server = Server::start(move |asked, _| {
        if asked.path.contains("/blobs/") {
            Reply::status(307).header("location", &format!("http://{other}/blob"))
        } else {
            answers.answer(asked)
        }
    });
    let fixture = fixture();
    let text = format!(r#"{{"auths":{{"{}":{{"auth":"dTpw"}}}}}}"#, server.host);
    fs_err::write(fixture.at("config.json"), text).unwrap();
    let error = fixture.pull(&server.reference()).unwrap_err();
    let error = error
        .replace(&server.host, "HOST")
        .replace(&thief.host, "OTHER");
    assert_eq!(
        error,
        "pull image `HOST/a/b:v1`: access to `a/b` at HOST denied: it does not exist or may require login \
         (OTHER says so, where it redirects to)"
    );
    let asked: Vec<_> = thief.asked("").into_iter().map(|a| a.path).collect();
    assert_eq!(asked, ["/blob"], "no token was asked for");
    let secrets = [thief.asked(""), server.asked("")].concat();
    assert!(
        secrets
            .iter()
            .all(|asked| !asked.headers.contains_key("authorization"))
    );
}

#[test]
fn a_token_server_may_have_moved() {
    let new = Server::start(|asked, _| match asked.headers.get("authorization") {
        None => Reply::ok(br#"{"token":"good"}"#),
        Some(_) => Reply::status(400),
    });
    let (answers, other) = (Served::new(), new.host.clone());
    let server = Server::start(move |asked, _| {
        let host = &asked.headers["host"];
        match asked.path.split('?').next().unwrap() {
            "/token" => Reply::status(307).header("location", "/here"),
            "/here" if asked.headers["authorization"] == "Basic dTpw" => {
                Reply::status(302).header("location", &format!("http://{other}/there"))
            }
            _ if asked
                .headers
                .get("authorization")
                .is_some_and(|a| a == "Bearer good") =>
            {
                answers.answer(asked)
            }
            _ => Reply::status(401).header(
                "www-authenticate",
                &format!("Bearer realm=\"http://{host}/token\""),
            ),
        }
    });
    let fixture = fixture();
    let text = format!(r#"{{"auths":{{"{}":{{"auth":"dTpw"}}}}}}"#, server.host);
    fs_err::write(fixture.at("config.json"), text).unwrap();
    fixture.pull(&server.reference()).unwrap();
    assert_eq!(
        (server.asked("/here").len(), new.asked("/there").len()),
        (1, 1)
    );

    // A refresh token is not sent after it.
    let text = format!(
        r#"{{"auths":{{"{}":{{"identitytoken":"t"}}}}}}"#,
        server.host
    );
    fs_err::write(fixture.at("config.json"), text).unwrap();
    let other = new.host.clone();
    let server = Server::start(move |asked, _| {
        if asked.path == "/token" {
            return Reply::status(307).header("location", &format!("http://{other}/secret?k=1"));
        }
        let challenge = format!("Bearer realm=\"http://{}/token\"", asked.headers["host"]);
        Reply::status(401).header("www-authenticate", &challenge)
    });
    let text = format!(
        r#"{{"auths":{{"{}":{{"identitytoken":"t"}}}}}}"#,
        server.host
    );
    fs_err::write(fixture.at("config.json"), text).unwrap();
    let error = fixture.pull(&server.reference()).unwrap_err();
    let error = error
        .replace(&server.host, "HOST")
        .replace(&new.host, "OTHER");
    assert_eq!(
        error,
        "pull image `HOST/a/b:v1`: HOST redirects to `http://OTHER/secret`, which is refused: \
         a secret would go to another host"
    );
    assert_eq!(new.asked("/secret").len(), 0);
}

/// Carries requests, but for some that find nobody.
struct Flaky<'a> {
    http: Http,
    refused: &'a dyn Fn(&Request) -> bool,
}

impl Transport for Flaky<'_> {
    fn send(&self, request: Request) -> Local<'_, Result<Response, TransportError>> {
        if (self.refused)(&request) {
            let host = request.url.authority().to_owned();
            let reason = "No route to host".to_owned();
            let error = TransportError::Connect { host, reason };
            return Box::pin(std::future::ready(Err(error)));
        }
        self.http.send(request)
    }
}

#[test]
fn a_network_that_is_gone_for_a_moment_is_waited_for() {
    let served = Served::new();
    let layer = served.layers[1].clone();
    let server = ranged(&served, |_, before, reply| Reply {
        cut: (before == 0).then_some(300_000),
        ..reply
    });
    let fixture = fixture();
    let left = std::cell::Cell::new(3);
    let refused = |request: &Request| {
        let is_rest = request.headers.iter().any(|(name, _)| name == "range");
        let refused = is_rest && left.get() > 0;
        left.set(left.get() - i32::from(refused));
        refused
    };
    let flaky = Flaky {
        http: Http::default(),
        refused: &refused,
    };
    let client = Client::new(&flaky, &environment(fixture.root.path())).unwrap();
    let platform = Platform::parse("linux/amd64").unwrap();
    let (store, reference) = (fixture.images.store(), server.reference());
    block_on(pull(store, &client, &reference, &platform, &Silent)).unwrap();
    assert_eq!(left.get(), 0);
    assert_eq!(
        ranges(&server, &layer),
        [None, Some("bytes=300000-".to_owned())]
    );
}

#[test]
fn breaks_count_only_while_nothing_comes() {
    let served = Served::new();
    let layer = served.layers[1].clone();
    let server = ranged(&served, |_, _, reply| Reply {
        cut: (reply.body.len() > 60_000).then_some(60_000),
        ..reply
    });
    let fixture = fixture();
    fixture.pull(&server.reference()).unwrap();
    // More often than there are attempts (4).
    assert!(ranges(&server, &layer).len() > 8);
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
fn a_mirror_that_sends_too_much_is_passed_over() {
    let served = Served::new();
    let layer = served.layers[1].clone();
    let good = ranged(&served, |_, _, reply| reply);
    let bad = ranged(&served, |_, _, mut reply| {
        reply.body.push(0);
        reply
    });
    let fixture = fixture();
    let text = format!(
        "[[registry]]\nlocation = \"x.example/a\"\n\
         [[registry.mirror]]\nlocation = \"{}/a\"\n[[registry.mirror]]\nlocation = \"{}/a\"\n",
        bad.host, good.host
    );
    fs_err::write(fixture.at("registries.conf"), text).unwrap();
    fixture
        .pull(&Reference::parse("x.example/a/b:v1").unwrap())
        .unwrap();
    assert_eq!(
        (ranges(&bad, &layer), ranges(&good, &layer)),
        (vec![None], vec![None])
    );
    let error = fixture.pull(&bad.reference()).err();
    assert_eq!(error, None, "the layer is here");
    let fixture = super::super::testing::fixture();
    let size = served.blobs[&layer].len();
    assert_eq!(
        fixture
            .pull(&bad.reference())
            .unwrap_err()
            .replace(&bad.host, "HOST"),
        format!(
            "pull image `HOST/a/b:v1`: layer {layer} from HOST has the wrong size: expected {size} bytes, got {}",
            size + 1
        )
    );
    assert!(!partial(&fixture, &layer).exists());
}

#[test]
fn only_layers_that_may_not_be_copied_are_looked_for_outside() {
    let foreign = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip";
    for (media_type, expected) in [
        ("application/vnd.docker.image.rootfs.diff.tar.gzip", 0),
        (foreign, 1),
    ] {
        let mut served = Served::new();
        let size = served.blobs[&served.layers[1]].len();
        // Other bytes, of the right number; and an authorization that it does not get.
        let outside = Server::start(move |asked, _| {
            assert!(!asked.headers.contains_key("authorization"));
            Reply::ok(&vec![7; size])
        });
        let mut manifest: serde_json::Value = serde_json::from_slice(&served.manifest).unwrap();
        manifest["layers"][1]["mediaType"] = media_type.into();
        manifest["layers"][1]["urls"] =
            serde_json::json!(["ftp://x/", format!("http://{}/outside", outside.host),]);
        served.manifest = serde_json::to_vec(&manifest).unwrap();
        let digest = Digest::of(&served.manifest);
        let layer = served.layers[1].clone();
        let server = ranged(&served, |_, _, reply| reply);
        let fixture = fixture();
        let text = format!(
            "[[registry]]\nlocation = \"{}\"\ninsecure = true\n",
            server.host
        );
        fs_err::write(fixture.at("registries.conf"), text).unwrap();
        let reference = Reference::parse(&format!("{}/a/b@{digest}", server.host)).unwrap();
        fixture.pull(&reference).unwrap();
        assert_eq!(outside.asked("").len(), expected, "{media_type}");
        assert_eq!(ranges(&server, &layer), [None], "{media_type}");
    }
}

#[test]
fn what_is_whole_is_thrown_away_only_where_it_is_to_blame() {
    let full = || std::io::Error::from(std::io::ErrorKind::StorageFull);
    let path = std::path::Path::new("x");
    let unpack = |source| {
        let layer = "l".to_owned();
        ImageError::Store(StoreError::Unpack { layer, source })
    };
    let mismatch = RegistryError::Size {
        what: "layer",
        digest: Digest::of(b""),
        host: "h".to_owned(),
        expected: 1,
        found: 2,
    };
    for (error, expected) in [
        (unpack(UnpackError::Malformed("x")), true),
        (unpack(UnpackError::io("write", path)(full())), false),
        (
            ImageError::Store(StoreError::io("write", path)(full())),
            false,
        ),
        (
            ImageError::Pull {
                reference: "x".to_owned(),
                source: Box::new(mismatch),
            },
            true,
        ),
    ] {
        assert_eq!(is_useless(&error), expected, "{error:?}");
    }
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
fn what_came_before_a_failure_counts_for_the_next_command() {
    let served = Served::new();
    let layer = served.layers[1].clone();
    // Breaks at once each time, but the first after half of it.
    let server = ranged(&served, |_, before, reply| Reply {
        cut: match before {
            0 => Some(300_000),
            1..4 => Some(0),
            _ => None,
        },
        ..reply
    });
    let fixture = fixture();
    let error = fixture.pull(&server.reference()).unwrap_err();
    assert!(error.contains("broke"), "{error}");
    fixture.assert_clean();
    assert_eq!(
        fs_err::read(partial(&fixture, &layer)).unwrap(),
        served.blobs[&layer][..300_000]
    );
    let image = fixture.pull(&server.reference()).unwrap();
    let rest = Some("bytes=300000-".to_owned());
    assert_eq!(
        ranges(&server, &layer),
        [None, rest.clone(), rest.clone(), rest.clone(), rest]
    );
    let file = fixture.images.layer_directories(&image)[0].join("two");
    assert_eq!(fs_err::metadata(file).unwrap().len(), 600_000);
    assert!(!partial(&fixture, &layer).exists());
}

/// What happens to a partial blob: its name, what is there, what the server does, which ranges are asked for.
type PartialCase = (
    &'static str,
    Vec<u8>,
    fn(Reply, &Reply) -> Reply,
    Vec<Option<String>>,
);

#[test]
fn a_partial_blob_is_not_believed() {
    let served = Served::new();
    let layer = served.layers[1].clone();
    let size = served.blobs[&layer].len();
    let whole = Reply::ok(&served.blobs[&layer]);
    let all: Vec<PartialCase> = vec![
        // Other bytes than the blob's: what comes in the end is not the blob, and it is fetched once more.
        (
            "damaged",
            vec![1; 1000],
            |reply, _| reply,
            vec![Some("bytes=1000-".to_owned()), None],
        ),
        // More bytes than the blob has.
        ("too long", vec![1; size + 1], |reply, _| reply, vec![None]),
        // All of it: nothing is asked for.
        (
            "whole",
            served.blobs[&layer].clone(),
            |reply, _| reply,
            vec![],
        ),
        // A server without ranges.
        (
            "200",
            served.blobs[&layer][..1000].to_vec(),
            |_, whole| whole.clone(),
            vec![Some("bytes=1000-".to_owned())],
        ),
        // One that refuses ours.
        (
            "416",
            served.blobs[&layer][..1000].to_vec(),
            |reply, _| {
                if reply.status == 206 {
                    Reply::status(416)
                } else {
                    reply
                }
            },
            vec![Some("bytes=1000-".to_owned()), None],
        ),
    ];
    for (case, before, fault, expected) in all {
        let whole = whole.clone();
        let server = ranged(&served, move |_, _, reply| fault(reply, &whole));
        let fixture = fixture();
        fs_err::create_dir(fixture.at("images/partial")).unwrap();
        fs_err::write(partial(&fixture, &layer), before).unwrap();
        fixture
            .pull(&server.reference())
            .unwrap_or_else(|error| panic!("{case}: {error}"));
        assert_eq!(ranges(&server, &layer), expected, "{case}");
        assert!(!partial(&fixture, &layer).exists(), "{case}");
    }
}

#[test]
fn another_part_than_asked_for_is_refused() {
    let served = Served::new();
    let layer = served.layers[1].clone();
    let server = ranged(&served, |_, _, mut reply| {
        for (name, value) in &mut reply.headers {
            if name == "content-range" {
                "bytes 2000-9999/10000".clone_into(value);
            }
        }
        reply
    });
    let fixture = fixture();
    fs_err::create_dir(fixture.at("images/partial")).unwrap();
    fs_err::write(partial(&fixture, &layer), &served.blobs[&layer][..1000]).unwrap();
    let error = fixture.pull(&server.reference()).unwrap_err();
    assert_eq!(
        error.replace(&server.host, "HOST"),
        format!(
            "pull image `HOST/a/b:v1`: HOST answered with another part of blob {layer} than the one from byte 1000 on"
        )
    );
    // What was there is still good.
    assert_eq!(
        fs_err::metadata(partial(&fixture, &layer)).unwrap().len(),
        1000
    );
}

#[test]
fn a_download_that_is_interrupted_goes_on_later() {
    let served = Served::new();
    let layer = served.layers[1].clone();
    let whole = served.blobs[&layer].len();
    // It announces all, sends half and then nothing, until the other side is gone.
    let server = ranged(&served, move |_, before, reply| Reply {
        pause: (before == 0).then_some(300_000),
        ..reply
    });
    let fixture = fixture();
    let platform = Platform::parse("linux/amd64").unwrap();
    block_on(async {
        let reference = server.reference();
        let recorder = Recorder::default();
        let pull = fixture.images.pull(&reference, &platform, &recorder);
        let half = async {
            // Until some of what has come lies on disk: it is written in pieces of 128 KiB and more.
            while !fs_err::metadata(partial(&fixture, &layer))
                .is_ok_and(|stat| stat.len() > 100_000)
            {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            _ = pull => panic!("the layer cannot have come"),
            () = half => {}
        }
    });
    fixture.assert_clean();
    let kept = fs_err::metadata(partial(&fixture, &layer)).unwrap().len();
    fixture.pull(&server.reference()).unwrap();
    assert!(kept > 100_000 && kept < whole as u64);
    assert_eq!(
        ranges(&server, &layer),
        [None, Some(format!("bytes={kept}-"))]
    );
}

#[test]
fn a_mirror_goes_on_where_another_broke_off() {
    let served = Served::new();
    let layer = served.layers[1].clone();
    let good = ranged(&served, |_, _, reply| reply);
    let bad = ranged(&served, |_, before, reply| Reply {
        cut: Some(if before == 0 { 300_000 } else { 0 }),
        ..reply
    });
    let fixture = fixture();
    let text = format!(
        "[[registry]]\nlocation = \"x.example/a\"\n\
         [[registry.mirror]]\nlocation = \"{}/a\"\n[[registry.mirror]]\nlocation = \"{}/a\"\n",
        bad.host, good.host
    );
    fs_err::write(fixture.at("registries.conf"), text).unwrap();
    let reference = Reference::parse("x.example/a/b:v1").unwrap();
    fixture.pull(&reference).unwrap();
    assert_eq!(ranges(&good, &layer), [Some("bytes=300000-".to_owned())]);
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

#[test]
fn waits_as_long_as_it_is_told_and_no_longer_than_it_bears() {
    let served = Served::new();
    let answer = |header: &'static str| {
        let served = served.clone();
        Server::start(move |asked, before| {
            if before > 0 || !asked.path.ends_with("/v1") {
                return served.answer(asked);
            }
            let body = br#"{"errors":[{"code":"TOOMANYREQUESTS","message":"You have reached your pull rate limit"}]}"#;
            Reply {
                status: 429,
                ..Reply::ok(body)
            }
            .header("date", "Sat, 21 Nov 2026 16:45:05 GMT")
            .header("retry-after", header)
        })
    };
    let fixture = fixture();
    // A date that is now, by the server's clock.
    let server = answer("Sat, 21 Nov 2026 16:45:05 GMT");
    fixture.pull(&server.reference()).unwrap();
    for (header, wait) in [
        ("3700", "1h 1m"),
        ("Sat, 21 Nov 2026 16:46:20 GMT", "1m 15s"),
    ] {
        let server = answer(header);
        let error = fixture.pull(&server.reference()).unwrap_err();
        assert_eq!(
            error.replace(&server.host, "HOST"),
            format!(
                "pull image `HOST/a/b:v1`: HOST takes no more requests for now: You have reached your pull rate limit; \
                 try again in {wait}"
            )
        );
        assert_eq!(server.asked("/v1").len(), 1);
    }
}

#[test]
fn identity_tokens_and_expired_tokens_are_exchanged() {
    let served = Served::new();
    let answers = served.clone();
    let server = Server::start(move |asked, before| {
        let host = &asked.headers["host"];
        if asked.path == "/token" {
            let form = String::from_utf8(asked.body.clone()).unwrap();
            assert_eq!(
                (asked.method.as_str(), form.as_str()),
                (
                    "POST",
                    "service=s&scope=repository%3Aa%2Fb%3Apull&grant_type=refresh_token&client_id=stack&refresh_token=it"
                )
            );
            return Reply::ok(format!(r#"{{"access_token":"t{before}"}}"#).as_bytes());
        }
        // Each token is good until the configuration is asked for with the first.
        let blob = asked.path.contains("/blobs/");
        let good = if blob { "Bearer t1" } else { "Bearer t0" };
        if asked.headers.get("authorization").map(String::as_str) == Some(good) {
            return answers.answer(asked);
        }
        let challenge = format!(
            r#"Bearer realm="http://{host}/token",service="s",scope="repository:a/b:pull",error="invalid_token""#
        );
        Reply::status(401).header("www-authenticate", &challenge)
    });
    let fixture = fixture();
    let text = format!(
        r#"{{"auths":{{"{}":{{"identitytoken":"it"}}}}}}"#,
        server.host
    );
    fs_err::write(fixture.at("config.json"), text).unwrap();
    fixture.pull(&server.reference()).unwrap();
    assert_eq!(server.asked("/token").len(), 2);
}

#[test]
fn a_hosts_file_says_whom_to_ask_for_what() {
    let served = Served::new();
    let answers = served.clone();
    let blobs_only = Server::start(move |asked, _| {
        assert!(asked.path.ends_with("?ns=x.example"), "{}", asked.path);
        assert_eq!(asked.headers["x-team"], "blue");
        let path = asked.path.split('?').next().unwrap();
        let path = path.strip_prefix("/proxy/cache").unwrap().to_owned();
        answers.answer(&Asked {
            path,
            ..asked.clone()
        })
    });
    let answers = served.clone();
    let server = Server::start(move |asked, _| answers.answer(asked));
    let fixture = fixture();
    fs_err::create_dir_all(fixture.at("hosts.d/x.example")).unwrap();
    let text = format!(
        "server = \"http://{}\"\n[host.\"http://{}/proxy/cache\"]\ncapabilities = [\"pull\"]\noverride_path = true\n\
         [host.\"http://{}/proxy/cache\".header]\nx-team = \"blue\"\n",
        server.host, blobs_only.host, blobs_only.host
    );
    fs_err::write(fixture.at("hosts.d/x.example/hosts.toml"), text).unwrap();
    fixture
        .pull(&Reference::parse("x.example/a/b:v1").unwrap())
        .unwrap();
    // Tags are not its matter, layers are.
    assert_eq!(blobs_only.asked("/manifests/v1").len(), 0);
    assert_eq!(server.asked("/manifests/v1").len(), 1);
    for layer in &served.layers {
        assert_eq!(
            (server.asked(layer).len(), blobs_only.asked(layer).len()),
            (1, 0),
            "the endpoint that had the manifest is asked for its layers first"
        );
    }
}

#[test]
fn tags_that_never_end_are_an_error() {
    let server = Server::start(|asked, _| {
        let next = |page: &str| format!("</v2/{page}>; rel=\"next\"");
        let page = Reply::ok(br#"{"tags":["one"]}"#);
        if asked.path.starts_with("/v2/a/b/") {
            page.header("link", &next("a/b/tags/list?n=1"))
        } else {
            let link = next(&format!(
                "{}x",
                asked
                    .path
                    .trim_start_matches("/v2/")
                    .replace("list", "list?n=1")
                    .replace("?n=1?n=1", "?n=1")
            ));
            page.header("link", &link)
        }
    });
    let fixture = fixture();
    for (repository, expected) in [
        ("a/b", "its pages lead back to one that was read"),
        ("endless", "it has more than 1000 pages"),
    ] {
        let reference = Reference::parse(&format!("{}/{repository}", server.host)).unwrap();
        let error = block_on(fixture.images.remote_tags(&reference)).unwrap_err();
        let shown = chain(&error);
        assert!(
            shown.ends_with(&format!(
                "read the list of tags from {}: {expected}",
                server.host
            )),
            "{shown}"
        );
    }
}

#[test]
fn tags_come_by_the_page() {
    let server = Server::start(|asked, _| match asked.path.as_str() {
        "/v2/a/b/tags/list" => Reply::ok(br#"{"name":"a/b","tags":["one","two"]}"#)
            .header("link", "</v2/a/b/tags/list?n=2&last=two>; rel=\"next\""),
        "/v2/a/b/tags/list?n=2&last=two" => Reply::ok(br#"{"tags":["three"]}"#),
        _ => Reply::ok(br#"{"tags":null}"#),
    });
    let fixture = fixture();
    let tags = |reference: &Reference| block_on(fixture.images.remote_tags(reference)).unwrap();
    assert_eq!(tags(&server.reference()), ["one", "two", "three"]);
    let none = Reference::parse(&format!("{}/none", server.host)).unwrap();
    assert_eq!(tags(&none), Vec::<String>::new());
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
