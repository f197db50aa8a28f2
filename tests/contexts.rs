//! Build contexts that lie elsewhere, with the real binary: git repositories, URLs and OCI layouts.

#![allow(
    clippy::allow_attributes,
    clippy::disallowed_methods,
    reason = "tests run real processes"
)]
#![expect(clippy::unwrap_used, reason = "a test's helpers")]

mod support;

use std::process::{Child, Stdio};

use support::{Machine, Ran};

/// A machine with busybox, a git daemon that serves `git/repo.git` and a web server that serves `web`; they end with it.
struct Site {
    servers: Vec<Child>,
    machine: Machine,
}

impl Drop for Site {
    fn drop(&mut self) {
        for server in &mut self.servers {
            let _ended = server.kill();
            let _reaped = server.wait();
        }
    }
}

/// Makes a repository: `v1` says `one`, the branch `main` says `two`; its directory `sub` has a Dockerfile of its own, and `out` leads out.
const REPOSITORY: &str = "
export GIT_CONFIG_GLOBAL=/dev/null
mkdir -p git web work/sub && cd work && git init -q -b main
g() { git -c user.name=t -c user.email=t@t \"$@\"; }
printf 'FROM busybox\\nCOPY . /c\\nRUN cat /c/said; ls -a /c\\n' > Dockerfile
printf 'FROM busybox\\nCOPY said /\\nRUN cat /said\\n' > sub/Dockerfile
printf 'FROM busybox\\nRUN echo other file\\n' > sub/Other
echo in-sub > sub/said; echo said > .dockerignore; ln -s / out; ln -s /etc/hostname leak
echo one > said && git add . && g commit -qm one && g tag -am v1 v1
echo two > said && g commit -qam two && git rev-parse HEAD~ > ../first
cd .. && git clone -q --bare work git/repo.git
tar -C work/sub -czf web/context.tgz . && tar -C work/sub -cf web/plain.tar .
printf 'FROM busybox\\nRUN echo bare file\\n' > web/Dockerfile
echo named > web/named.txt
";

impl Site {
    fn new() -> Self {
        let machine = Machine::new();
        machine.import_busybox();
        let directory = machine.path().display().to_string();
        machine.sh(&format!("cd {directory} && {REPOSITORY}"));
        let start = |program: &str, args: &[&str]| {
            let mut command = machine.command(".", program);
            command
                .args(args)
                .stdout(Stdio::null())
                .stderr(Stdio::null());
            command.spawn().unwrap()
        };
        let base = format!("--base-path={directory}/git");
        let web = format!("{directory}/web");
        let servers = vec![
            // Not by `git daemon`, which runs it as a child that would live on.
            start(
                &format!("{}/git-daemon", machine.sh("git --exec-path").trim()),
                &["--export-all", "--listen=127.0.0.1", &base],
            ),
            start(
                "busybox",
                &["httpd", "-f", "-p", "127.0.0.1:8000", "-h", &web],
            ),
        ];
        let site = Self { servers, machine };
        site.machine.sh(
            "timeout 60 sh -c 'until git ls-remote -q git://127.0.0.1/repo.git && \
             busybox wget -q -O /dev/null http://127.0.0.1:8000/Dockerfile; do :; done' 2> /dev/null",
        );
        site
    }

    /// Builds a context without the cache.
    fn build(&self, options: &[&str]) -> Ran {
        let mut args = vec!["image", "build", "--no-cache"];
        args.extend_from_slice(options);
        self.machine.run(".", &args)
    }

    /// As [`Site::build`]; requires success and that the steps wrote these lines.
    fn says(&self, options: &[&str], lines: &[&str]) {
        let ran = self.build(options);
        assert_eq!(ran.code, 0, "{options:?}\n{}{}", ran.stdout, ran.stderr);
        let mut rest = ran.stderr.lines();
        for line in lines {
            assert!(
                rest.any(|found| found.ends_with(line)),
                "{options:?}: `{line}` is not (in order) in\n{}",
                ran.stderr
            );
        }
    }
}

#[test]
fn repositories_and_urls_are_contexts() {
    let site = Site::new();
    let repository = "git://127.0.0.1/repo.git";
    let first = fs_err::read_to_string(site.machine.path().join("first")).unwrap();
    let first = first.trim();
    // Ignore rules are for directories of the machine.
    site.says(
        &[repository],
        &[
            "fetching the build context git://127.0.0.1/repo.git",
            " two",
            " .dockerignore",
            " sub",
        ],
    );
    site.says(&[&format!("{repository}#v1")], &[" one"]);
    site.says(&[&format!("{repository}#{first}")], &[" one"]);
    site.says(
        &[&format!("{repository}?branch=main&subdir=sub")],
        &[" in-sub"],
    );
    site.says(&[&format!("{repository}#v1:sub")], &[" in-sub"]);
    site.says(
        &["-f", "Other", &format!("{repository}#:sub")],
        &[" other file"],
    );
    site.says(
        &["--build-arg", "BUILDKIT_CONTEXT_KEEP_GIT_DIR=1", repository],
        &[" .git"],
    );
    let web = "http://127.0.0.1:8000";
    site.says(&[&format!("{web}/context.tgz")], &[" in-sub"]);
    site.says(
        &["-f", "Other", &format!("{web}/plain.tar")],
        &[" other file"],
    );
    site.says(&[&format!("{web}/Dockerfile")], &[" bare file"]);
    for (context, options, expected) in [
        (
            format!("{repository}#none"),
            [].as_slice(),
            "repository does not contain ref none",
        ),
        (
            format!("{repository}#:none"),
            &[],
            "the directory `none` of the repository is not there",
        ),
        (
            format!("{repository}#:out"),
            &[],
            "the directory `out` of the repository is not in it",
        ),
        (
            repository.to_owned(),
            &["-f", "leak"],
            "is not in the build context",
        ),
        (format!("{web}/none"), &[], "invalid response status 404"),
        (
            "ftp://127.0.0.1/x".to_owned(),
            &[],
            "is no directory, nor a URL of http, https, git or ssh",
        ),
    ] {
        let mut args = options.to_vec();
        args.push(&context);
        let ran = site.build(&args);
        assert_ne!(ran.code, 0, "{context}");
        assert!(ran.stderr.contains(expected), "{context}: {}", ran.stderr);
    }
    // Another commit with the same files is the same.
    let second = site
        .machine
        .run(".", &["image", "build", &format!("{repository}#v1:sub")]);
    assert!(second.stderr.contains("CACHED"), "{}", second.stderr);
    site.machine.assert_clean();
}

#[test]
#[expect(clippy::too_many_lines, reason = "one site, asked for every kind")]
fn named_contexts_and_services_come_from_elsewhere() {
    let site = Site::new();
    let machine = &site.machine;
    let text = "FROM busybox\nCOPY --from=repo said /\nCOPY --from=file named.txt /\n\
                RUN --mount=from=repo,target=/r cat /said /named.txt /r/sub/said\n\
                FROM repo AS unused\nFROM base\nCOPY --from=0 /said /\nRUN cat /said /made\n";
    machine.write(
        "made/Dockerfile",
        "FROM busybox\nRUN echo of-layout > /made\n",
    );
    machine.ok(
        ".",
        &[
            "image",
            "build",
            "-t",
            "made:v1",
            "-o",
            "type=oci,dest=layout.tar",
            "made",
        ],
    );
    let layout = machine.path().join("layout");
    machine.sh(&format!(
        "mkdir {0} && tar -xf {0}.tar -C {0}",
        layout.display()
    ));
    // It went there, and not into the store.
    assert_eq!(machine.run(".", &["image", "inspect", "made:v1"]).code, 1);
    machine.write("c/Dockerfile", text);
    let contexts = |base: &'static str| {
        [
            "--build-context",
            "repo=git://127.0.0.1/repo.git#v1",
            "--build-context",
            "file=http://127.0.0.1:8000/named.txt",
            "--build-context",
            "never=http://127.0.0.1:1/unused",
            "--build-context",
            base,
            "c",
        ]
    };
    site.says(
        &contexts("base=oci-layout://layout:v1"),
        &[" one", " named", " in-sub", " one", " of-layout"],
    );
    // The layout is as it was, and serves again; the only image needs no name.
    site.says(&contexts("base=oci-layout://layout"), &[" of-layout"]);
    for (base, expected) in [
        ("base=oci-layout://layout:v2", "has no image `v2`"),
        ("base=oci-layout://none", "index.json"),
        ("base=http://127.0.0.1:1/x", "fetch the build context"),
    ] {
        let ran = site.build(&contexts(base));
        assert_eq!(ran.code, 1, "{base}: {}", ran.stderr);
        assert!(ran.stderr.contains(expected), "{base}: {}", ran.stderr);
    }
    machine.write(
        "p/compose.yaml",
        "name: demo\nservices:\n  app:\n    build: git://127.0.0.1/repo.git#v1:sub\n  other:\n    build:\n      \
         context: http://127.0.0.1:8000/context.tgz\n      dockerfile: Other\n      additional_contexts:\n        \
         unused: oci-layout:///none\n",
    );
    let ran = machine.run("p", &["build"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    for line in [" in-sub", " other file"] {
        assert!(
            ran.stderr.lines().any(|found| found.ends_with(line)),
            "{}",
            ran.stderr
        );
    }
    let wrong = "name: demo\nservices:\n  app:\n    build: git://127.0.0.1/none.git\n";
    machine.write("p/compose.yaml", wrong);
    let ran = machine.run("p", &["build"]);
    assert_eq!(ran.code, 1, "{}", ran.stderr);
    assert!(
        ran.stderr
            .contains("fetch the build context `git://127.0.0.1/none.git`")
            && ran.stderr.contains("compose.yaml:4"),
        "{}",
        ran.stderr
    );
    machine.assert_clean();
}

#[test]
#[expect(clippy::too_many_lines, reason = "one cache, on its way")]
fn a_cache_goes_elsewhere_and_comes_back() {
    let (one, other) = (Machine::new(), Machine::new());
    let text = "FROM busybox AS tool\nRUN echo tool > /t\nFROM busybox\nRUN echo a > /a && mkdir /d && ln /a /d/b\n\
                COPY file /\nCOPY --from=tool /t /\nRUN cat /a /file /t\n";
    // The very same base everywhere.
    one.import_busybox();
    let base = one.path().join("base.tar").display().to_string();
    one.ok(".", &["image", "save", "-o", &base, "busybox"]);
    for machine in [&one, &other] {
        machine.ok(".", &["image", "load", "-i", &base]);
        machine.write("c/Dockerfile", text);
        machine.write("c/file", "text\n");
    }
    let build = |machine: &Machine, options: &[&str]| {
        let mut args = vec!["image", "build", "-t", "built"];
        args.extend_from_slice(options);
        args.push("c");
        let ran = machine.run(".", &args);
        assert_eq!(ran.code, 0, "{options:?}\n{}{}", ran.stdout, ran.stderr);
        ran.stderr
    };
    let count = |text: &str, what: &str| text.lines().filter(|line| line.ends_with(what)).count();
    let missing = build(
        &one,
        &[
            "--cache-from",
            "type=local,src=none",
            "--cache-to",
            "type=gha",
        ],
    );
    assert!(
        missing.contains("the cache `")
            && missing.contains("is not used: there is no cache `latest`"),
        "{missing}"
    );
    assert!(
        missing.contains("`type=gha` of `--cache-to` is ignored"),
        "{missing}"
    );
    let cache = one.path().join("cache");
    let to = format!("type=local,dest={},mode=max", cache.display());
    let said = build(&one, &["--cache-to", &to]);
    assert!(said.contains("writing the cache"), "{said}");
    let from = format!("type=local,src={}", cache.display());
    let said = build(&other, &["--cache-from", &from]);
    assert_eq!(count(&said, "CACHED"), 5, "{said}");
    let digests = |machine: &Machine| {
        let text = machine.ok(".", &["image", "inspect", "built"]);
        let images: serde_json::Value = serde_json::from_str(&text).unwrap();
        images[0]["RootFS"]["Layers"].clone()
    };
    assert_eq!(digests(&one), digests(&other));
    let said = build(&other, &[]);
    assert_eq!(
        count(&said, "CACHED"),
        5,
        "it is this machine's cache now: {said}"
    );
    // One that is damaged is a miss, and said.
    let third = Machine::new();
    third.ok(".", &["image", "load", "-i", &base]);
    third.write("c/Dockerfile", text);
    third.write("c/file", "text\n");
    one.sh(&format!(
        "cd {}/blobs/sha256 && for f in *; do case $(head -c1 $f) in '{{') ;; *) printf x >> $f ;; esac; done",
        cache.display()
    ));
    let said = build(
        &third,
        &["--cache-from", &from, "--provenance=true", "--sbom=false"],
    );
    assert!(said.contains("is not used"), "{said}");
    assert!(
        !said.contains("`sbom") && !said.contains("`provenance"),
        "{said}"
    );
    assert_eq!(count(&said, "CACHED"), 0, "{said}");
    one.write(
        "p/compose.yaml",
        "name: demo\nservices:\n  app:\n    build:\n      context: ../c\n      cache_to: ['type=local,dest=kept']\n      \
         cache_from: ['type=local,src=kept', 'type=inline']\n      platforms: [linux/amd64]\n",
    );
    let ran = one.run("p", &["build"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let expected = "`type=inline` of `--cache-from` is ignored";
    assert!(ran.stderr.contains(expected), "{}", ran.stderr);
    assert!(one.path().join("p/kept/index.json").exists());
    for machine in [&one, &other, &third] {
        machine.assert_clean();
    }
}
