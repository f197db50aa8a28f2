//! Answers that a registry should not give, and words that it has for people.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use super::super::super::manifest::Platform;
use super::super::super::progress::{BlobState, Progress};
use super::super::super::reference::Digest;
use super::super::super::registry::Retry;
use super::super::super::registry::error::chain;
use super::super::super::testing::{Asked, Reply, Served, Server, environment};
use super::super::super::{Images, Silent};

/// Pulls what `answer` serves; gives up after `stall` without a byte.
fn pull(
    answer: impl Fn(&Asked, usize) -> Reply + Send + Sync + 'static,
    stall: Duration,
    progress: &dyn Progress,
) -> Result<(), String> {
    let server = Server::start(answer);
    let root = tempfile::tempdir().unwrap();
    let mut environment = environment(root.path());
    environment.retry = Retry {
        attempts: 2,
        stall,
        ..environment.retry
    };
    let images = Images::open(root.path(), environment).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let platform = Platform::parse("linux/amd64").unwrap();
    let pulled = runtime.block_on(images.pull(&server.reference(), &platform, progress));
    pulled
        .map(drop)
        .map_err(|error| chain(&error).replace(&server.host, "HOST"))
}

#[test]
fn a_body_that_stalls_is_given_up() {
    let served = Served::new();
    let big = served.layers[1].clone();
    let answer = move |asked: &Asked, _| {
        let mut reply = served.answer(asked);
        if asked.path.ends_with(&big) {
            reply.pause = Some(1000);
        }
        reply
    };
    let started = Instant::now();
    let error = pull(answer, Duration::from_millis(300), &Silent).unwrap_err();
    assert!(
        error.ends_with("the connection to HOST broke: nothing came for 0.3 s"),
        "{error}"
    );
    assert!(started.elapsed() < Duration::from_secs(30));
}

#[test]
fn a_redirect_to_nowhere_is_said_to_be_one() {
    for location in [None, Some(" ")] {
        let answer = move |_: &Asked, _| {
            let reply = Reply::status(307);
            match location {
                Some(location) => reply.header("location", location),
                None => reply,
            }
        };
        let error = pull(answer, Duration::from_mins(1), &Silent).unwrap_err();
        assert!(
            error.ends_with(
                "HOST answered 307, a redirect that does not say where to (no `Location` header)"
            ),
            "{error}"
        );
    }
}

#[derive(Default)]
struct Warned(RefCell<Vec<String>>);

impl Progress for Warned {
    fn blob(&self, _: &Digest, _: BlobState) {}

    fn warning(&self, text: &str) {
        self.0.borrow_mut().push(text.to_owned());
    }
}

#[test]
fn warnings_of_the_registry_are_told_once() {
    let served = Served::new();
    let answer = move |asked: &Asked, _| {
        let reply = served.answer(asked);
        if !asked.path.contains("/manifests/") {
            return reply;
        }
        reply
            .header("warning", "299 - \"v1 \\\"goes\\\" away\\u{7}soon\"")
            .header("warning", "199 - \"not for people\"")
            .header("warning", "299 - \"\"")
            .header("warning", "299 - \"tab\there\"")
    };
    let warned = Warned::default();
    pull(answer, Duration::from_mins(1), &warned).unwrap();
    let told: Vec<String> = warned.0.into_inner();
    let told: Vec<&str> = told
        .iter()
        .filter_map(|text| text.split_once(" says: ").map(|(_, text)| text))
        .collect();
    assert_eq!(told, ["tab here", "v1 \"goes\" awayu{7}soon"]);
}
