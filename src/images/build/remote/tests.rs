//! Sources elsewhere: on servers of this machine.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use reqwest::Url;

use super::super::super::registry::transport::Http;
use super::*;

/// What a source is: `url`, `local`, or the parts of a repository that are said; or its fault.
fn shown(source: &str) -> String {
    match Remote::parse(source) {
        Err(error) => error.to_string(),
        Ok(None) => "local".to_owned(),
        Ok(Some(Remote::Url(_))) => "url".to_owned(),
        Ok(Some(Remote::Git(git))) => {
            let mut shown = git.remote;
            for (name, value) in [
                (" ref=", git.reference),
                (" dir=", Some(git.directory).filter(|d| !d.is_empty())),
                (" checksum=", git.checksum),
                (" keep=", git.keep_git_dir.map(|keep| keep.to_string())),
            ] {
                if let Some(value) = value {
                    shown.push_str(name);
                    shown.push_str(&value);
                }
            }
            shown
        }
    }
}

/// Rows of the test below.
const SOURCES: &[(&str, &str)] = &[
    ("https://example.com/", "url"),
    ("https://example.com/foo", "url"),
    ("https://example.com/foo.git", "https://example.com/foo.git"),
    (
        "https://example.com/foo.git#dead",
        "https://example.com/foo.git ref=dead",
    ),
    (
        "https://example.com/foo.git#release/1.2",
        "https://example.com/foo.git ref=release/1.2",
    ),
    ("https://example.com/foo.git/", "url"),
    ("https://example.com/foo.git.bar", "url"),
    ("http://h/x.git:#branch", "url"),
    ("git://example.com/foo", "git://example.com/foo"),
    (
        "ssh://git@h:22/foo#v1:sub/dir",
        "ssh://git@h:22/foo ref=v1 dir=sub/dir",
    ),
    ("github.com/moby/buildkit", "local"),
    ("custom.xyz/moby/buildkit.git", "local"),
    (
        "git@github.com:moby/buildkit",
        "git@github.com:moby/buildkit",
    ),
    ("git@h:a/b.git#r:d", "git@h:a/b.git ref=r dir=d"),
    ("git@h:a/b.git?subdir=/d#r", "git@h:a/b.git ref=r dir=/d"),
    ("me@h", "local"),
    ("a@b/c:d", "local"),
    ("./.git", "local"),
    (".git", "local"),
    ("ftp://h/x", "local"),
    ("https://h/d.git#:sub", "https://h/d.git dir=sub"),
    (
        "https://h/d.git?ref=v1&subdir=/s",
        "https://h/d.git ref=v1 dir=/s",
    ),
    ("https://h/d.git?tag=v1", "https://h/d.git ref=refs/tags/v1"),
    (
        "https://h/d.git?branch=v1",
        "https://h/d.git ref=refs/heads/v1",
    ),
    ("https://h/d.git?ref=a%2Fb", "https://h/d.git ref=a/b"),
    (
        "https://h/d.git?commit=abc&keep-git-dir",
        "https://h/d.git checksum=abc keep=true",
    ),
    (
        "https://h/d.git?checksum=abc&keep-git-dir=0",
        "https://h/d.git checksum=abc keep=false",
    ),
    ("https://h/d.git?ref=a#a", "https://h/d.git ref=a"),
    ("https://h/d.git?ref=a#b", "ref conflicts: \"a\" vs \"b\""),
    (
        "https://h/d.git?ref=a&tag=b",
        "ref conflicts: \"a\" vs \"refs/tags/b\"",
    ),
    (
        "https://h/d.git?tag=a&branch=b",
        "branch conflicts with tag",
    ),
    ("https://h/d.git?invalid=1", "unexpected query \"invalid\""),
    (
        "https://h/d.git?submodules=maybe",
        "invalid submodules value \"maybe\"",
    ),
    (
        "https://h/d.git?mtime=never",
        "invalid mtime value \"never\"",
    ),
    (
        "https://h/d.git#--upload-pack=x",
        "invalid ref \"--upload-pack=x\"",
    ),
    (
        "https://h/d.git?subdir=a#r:b",
        "subdir conflicts: \"a\" vs \"b\"",
    ),
];

#[test]
fn sources_are_told_apart() {
    for (source, expected) in SOURCES {
        assert_eq!(shown(source), *expected, "{source}");
    }
    let secret = GitSource {
        remote: "https://me:pass@h/x.git".to_owned(),
        ..GitSource::default()
    };
    assert_eq!(secret.shown(), "https://xxxxx:xxxxx@h/x.git");
}

#[test]
fn urls_name_their_files_and_dates_are_read() {
    let table = [
        ("http://h/a/b.txt?x#y", "b.txt"),
        ("http://h/a/b/", "b"),
        ("http://h/", "__unnamed__"),
        ("http://h", "__unnamed__"),
        ("http://h/a%20b", "a b"),
        ("http://h/%2e%2e", "__unnamed__"),
        ("http://h/a%2Fb", "__unnamed__"),
    ];
    for (url, expected) in table {
        assert_eq!(
            http::file_name(&Url::parse(url).unwrap()),
            expected,
            "{url}"
        );
    }
    let date = http::http_date("Sun, 06 Nov 1994 08:49:37 GMT");
    assert_eq!(date, Some(784_111_777));
    assert_eq!(http::http_date("yesterday"), None);
}

/// Serves a directory on a port of its own until dropped; counts bodies sent.
struct Server {
    address: String,
    bodies: Arc<AtomicUsize>,
}

impl Server {
    fn of(root: &Path) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let bodies = Arc::new(AtomicUsize::new(0));
        let (root, counted) = (root.to_owned(), Arc::clone(&bodies));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let _served = serve(&root, stream.unwrap(), &counted);
            }
        });
        Self { address, bodies }
    }
}

/// Answers one request.
fn serve(root: &Path, mut stream: TcpStream, bodies: &AtomicUsize) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        if line.trim().is_empty() {
            break;
        }
        lines.push(line.trim().to_owned());
    }
    let first = lines.first().cloned().unwrap_or_default();
    let target = first.split(' ').nth(1).unwrap_or_default().to_owned();
    let path = target.split('?').next().unwrap_or_default();
    let known = lines
        .iter()
        .any(|line| line.eq_ignore_ascii_case("if-none-match: \"v1\""));
    let logged_in = lines
        .iter()
        .any(|line| line.eq_ignore_ascii_case("authorization: Basic bWU6czNjcjN0"));
    let answer = |head: &str, body: &[u8]| {
        let head = format!(
            "HTTP/1.1 {head}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
            body.len()
        );
        [head.as_bytes(), body].concat()
    };
    let bytes = match path {
        "/moved" => answer("302 Found\r\nLocation: /file", b""),
        "/loop" => answer("301 Moved\r\nLocation: /loop", b""),
        "/away" => answer("307 Moved\r\nLocation: file:///etc/passwd", b""),
        path if path.starts_with("/locked/") && !logged_in => answer("401 Unauthorized", b""),
        "/etag" if known => answer("304 Not Modified", b""),
        "/etag" => {
            bodies.fetch_add(1, Ordering::SeqCst);
            answer("200 OK\r\nETag: \"v1\"", b"tagged")
        }
        path => match std::fs::read(root.join(path.trim_start_matches('/'))) {
            Ok(body) => {
                let dated = "200 OK\r\nLast-Modified: Sun, 06 Nov 1994 08:49:37 GMT";
                answer(dated, &body)
            }
            Err(_) => answer("404 Not Found", b"no"),
        },
    };
    stream.write_all(&bytes)
}

/// Runs to its end.
fn block_on<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.unwrap().block_on(work)
}

#[test]
fn files_are_fetched_as_docker_has_them() {
    let temp = tempfile::tempdir().unwrap();
    fs_err::write(temp.path().join("file"), "hello").unwrap();
    let server = Server::of(temp.path());
    let http = Http::default();
    let get = |path: &str, checksum: Option<&str>, known: Option<&Known>| {
        let directory = tempfile::tempdir().unwrap();
        let url = format!("{}{path}", server.address);
        let asked = Asked {
            checksum,
            known,
            ..Asked::of(&url)
        };
        let got = Fetched::get(&http, asked, directory.path());
        let fetched = block_on(got).map_err(|error| error.to_string())?;
        let facts = fetched.path.as_ref().map(|path| {
            let metadata = fs_err::metadata(path).unwrap();
            let text = fs_err::read_to_string(path).unwrap();
            (text, metadata.mode() & 0o7777, metadata.mtime())
        });
        Ok::<_, String>((fetched, facts))
    };
    let sum = "sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
    for path in ["/file", "/moved", "/file?x=1"] {
        let (fetched, facts) = get(path, None, None).unwrap();
        assert_eq!(
            facts,
            Some(("hello".to_owned(), 0o600, 784_111_777)),
            "{path}"
        );
        assert_eq!(fetched.digest, sum);
    }
    assert_eq!(get("/file", Some(sum), None).unwrap().0.name, "file");
    let other = format!("sha256:{}", "0".repeat(64));
    let wrong = [
        (
            "/file",
            Some(other.as_str()),
            format!("digest mismatch {sum}: {other}"),
        ),
        (
            "/file",
            Some("md5:00"),
            "invalid checksum `md5:00`: it must be sha256:, sha384: or sha512: and the digits"
                .to_owned(),
        ),
        (
            "/none",
            None,
            format!("GET {}/none: invalid response status 404", server.address),
        ),
        (
            "/loop",
            None,
            format!("GET {}/loop: stopped after 10 redirects", server.address),
        ),
        (
            "/away",
            None,
            format!("GET {}/away: it redirects to nowhere", server.address),
        ),
    ];
    for (path, checksum, expected) in wrong {
        assert_eq!(get(path, checksum, None).unwrap_err(), expected);
    }
    let (first, facts) = get("/etag", None, None).unwrap();
    assert_eq!(facts.map(|facts| facts.2), Some(0), "no date is 1970");
    let known = Known {
        etag: first.etag.unwrap(),
        digest: first.digest.clone(),
        modified: 0,
    };
    let (second, facts) = get("/etag", None, Some(&known)).unwrap();
    assert_eq!((second.digest, facts), (first.digest, None));
    assert_eq!(server.bodies.load(Ordering::SeqCst), 1);
}

/// Runs git in a directory.
fn git(directory: &Path, arguments: &[&str]) -> String {
    #[expect(
        clippy::disallowed_methods,
        reason = "makes the repository that is fetched"
    )]
    let output = std::process::Command::new("git")
        .args(["-c", "user.name=t", "-c", "user.email=t@t"])
        .args(arguments)
        .current_dir(directory)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_COMMITTER_DATE", "2001-02-03T04:05:06Z")
        .env("GIT_AUTHOR_DATE", "2001-02-03T04:05:06Z")
        .output()
        .unwrap();
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[test]
fn repositories_are_checked_out() {
    let temp = tempfile::tempdir().unwrap();
    let work = temp.path().join("work");
    fs_err::create_dir_all(work.join("sub")).unwrap();
    git(&work, &["init", "-q", "-b", "main"]);
    for (name, text) in [("a", "1"), ("sub/run", "#!/bin/sh")] {
        fs_err::write(work.join(name), text).unwrap();
    }
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o700);
    fs_err::set_permissions(work.join("sub/run"), mode).unwrap();
    git(&work, &["add", "."]);
    git(&work, &["commit", "-qm", "one"]);
    let one = git(&work, &["rev-parse", "HEAD"]);
    git(&work, &["tag", "-am", "v1", "v1"]);
    git(&work, &["branch", "old"]);
    fs_err::write(work.join("a"), "2").unwrap();
    git(&work, &["commit", "-qam", "two"]);
    let two = git(&work, &["rev-parse", "HEAD"]);
    git(&work, &["update-server-info"]);
    let served = temp.path().join("served");
    fs_err::create_dir(&served).unwrap();
    fs_err::rename(work.join(".git"), served.join("repo.git")).unwrap();
    let server = Server::of(&served);
    let source = |rest: &str| {
        let text = format!("{}/repo.git{rest}", server.address);
        match Remote::parse(&text).unwrap() {
            Some(Remote::Git(git)) => git,
            other => panic!("{other:?}"),
        }
    };
    let table = [
        ("", &two),
        ("#main", &two),
        ("#v1", &one),
        ("#refs/tags/v1", &one),
        ("?branch=old", &one),
        ("?tag=v1", &one),
        (&format!("#{one}"), &one),
        (&format!("?checksum={}", &two[..7]), &two),
    ];
    let nobody = GitLogin::default();
    let resolve = |rest: &str| block_on(source(rest).resolve(&nobody));
    for (rest, expected) in table {
        assert_eq!(resolve(rest).unwrap(), *expected, "{rest}");
    }
    let none = resolve("#none").unwrap_err().to_string();
    assert!(
        none.ends_with("repository does not contain ref none"),
        "{none}"
    );
    let wrong = resolve("?checksum=0000000").unwrap_err();
    assert_eq!(
        wrong.to_string(),
        format!("expected checksum to match 0000000, got {two}")
    );
    for (rest, commit, keep, text) in [
        ("", &two, false, "2"),
        ("?tag=v1&mtime=commit", &one, true, "1"),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let source = source(rest);
        let checkout = source.checkout(commit, directory.path(), keep, &nobody);
        let top = block_on(checkout).unwrap().directory;
        assert_eq!(fs_err::read_to_string(top.join("a")).unwrap(), text);
        let mode = |path: &str| fs_err::metadata(top.join(path)).unwrap().mode() & 0o777;
        assert_eq!(
            (mode("a"), mode("sub/run"), mode("sub")),
            (0o644, 0o755, 0o755)
        );
        assert_eq!(top.join(".git").exists(), keep);
        let time = fs_err::metadata(top.join("sub/run")).unwrap().mtime();
        assert_eq!(
            time == 981_173_106,
            keep,
            "the time of the commit only where asked for"
        );
    }
    a_password_goes_to_the_server_alone(&served, &server, &two);
}

/// Checks out what needs a login: what logs in comes neither into the checkout nor to people.
fn a_password_goes_to_the_server_alone(served: &Path, server: &Server, commit: &str) {
    fs_err::create_dir(served.join("locked")).unwrap();
    let link = served.join("locked/repo.git");
    std::os::unix::fs::symlink("../repo.git", link).unwrap();
    let host = server.address.trim_start_matches("http://");
    let locked = |login: &str| {
        let remote = format!("http://{login}{host}/locked/repo.git");
        GitSource {
            remote,
            ..GitSource::default()
        }
    };
    let refused = block_on(locked("ghp_x@").resolve(&GitLogin::default()))
        .unwrap_err()
        .to_string();
    assert!(!refused.contains("ghp_x"), "{refused}");
    let directory = tempfile::tempdir().unwrap();
    let source = locked("me:s3cr3t@");
    let top =
        block_on(source.checkout(commit, directory.path(), true, &GitLogin::default())).unwrap();
    let kept = top.directory.join(".git");
    let config = fs_err::read_to_string(kept.join("config")).unwrap();
    assert!(config.contains("/locked/repo.git") && !config.contains("s3cr3t"));
    for gone in ["FETCH_HEAD", "logs"] {
        assert!(!kept.join(gone).exists(), "{gone}");
    }
}
