//! Who else is asked for an image.

use super::*;

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
    let fixture = crate::images::testing::fixture();
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
