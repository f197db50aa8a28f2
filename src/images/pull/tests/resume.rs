//! Downloads that go on where they stopped.

use super::*;

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
