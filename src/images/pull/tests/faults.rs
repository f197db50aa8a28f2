//! What is said of faults, which of them are waited for, and how long.

use super::*;

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
    let wanted = (&platform, Naming::Take);
    block_on(pull(store, &client, &reference, wanted, &Silent)).unwrap();
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
