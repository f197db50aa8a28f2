//! Pulls, pushes and logins of the real binary against Debian's docker-registry: plain, with basic authorization, with a certificate
//! of an authority of our own, and behind a proxy.
//!
//! `STACK_SKIP_REGISTRY_TESTS` leaves them out where docker-registry, skopeo, openssl and htpasswd cannot be installed.

#![allow(
    clippy::allow_attributes,
    clippy::disallowed_methods,
    reason = "tests run real processes"
)]
#![expect(clippy::unwrap_used, reason = "a test's helpers")]

mod support;

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use support::{Machine, Ran};

/// A machine of its own with a registry in it, which ends with the test.
struct Site {
    machine: Machine,
    registry: Child,
    /// `host:port`.
    host: String,
}

impl Drop for Site {
    fn drop(&mut self) {
        let _ended = self.registry.kill();
        let _reaped = self.registry.wait();
    }
}

fn skipped() -> bool {
    let skipped = std::env::var_os("STACK_SKIP_REGISTRY_TESTS").is_some();
    if skipped {
        let _said = std::io::Write::write_all(
            &mut std::io::stderr(),
            b"skipped: STACK_SKIP_REGISTRY_TESTS is set\n",
        );
    }
    skipped
}

impl Site {
    /// Starts the registry on port 5000 of `name`, in a network of its own; `http` goes into its configuration.
    fn new(name: &str, http: &str, more: &str) -> Self {
        Self::on(Machine::new(), name, http, more)
    }

    fn on(machine: Machine, name: &str, http: &str, more: &str) -> Self {
        let storage = machine.path().join("storage");
        let config = machine.write(
            "registry.yml",
            &format!(
                "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\n\
                 storage: {{filesystem: {{rootdirectory: {}}}, delete: {{enabled: true}}}}\n\
                 http:\n  addr: 0.0.0.0:5000\n{http}{more}",
                storage.display()
            ),
        );
        let registry = machine
            .command(".", "docker-registry")
            .arg("serve")
            .arg(&config)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let host = format!("{name}:5000");
        let site = Self {
            machine,
            registry,
            host,
        };
        site.wait_for("5000");
        site
    }

    /// Waits until a port of the machine is listened on.
    fn wait_for(&self, port: &str) {
        let started = Instant::now();
        while self
            .machine
            .sh("ss -Htln")
            .lines()
            .all(|line| !line.contains(&format!(":{port} ")))
        {
            assert!(
                started.elapsed() < Duration::from_secs(20),
                "nobody listens on {port}"
            );
            std::thread::yield_now();
        }
    }

    /// Makes an image of one file of `content` under `name`, and returns its ID.
    fn image(&self, name: &str, content: &str) -> String {
        let script = format!(
            "d=$(mktemp -d) && printf %s {content} > $d/file && tar -C $d -cf {0}/image.tar . && rm -rf $d",
            self.machine.path().display()
        );
        self.machine.sh(&script);
        let tar = self.machine.path().join("image.tar");
        let id = self
            .machine
            .ok(".", &["image", "import", tar.to_str().unwrap(), name]);
        id.trim().to_owned()
    }

    /// Runs `stack` with another store beneath the same machine.
    fn other(&self, args: &[&str]) -> Ran {
        self.at("other", args)
    }

    /// The same with the store below `root`.
    fn at(&self, root: &str, args: &[&str]) -> Ran {
        let root = self.machine.path().join(root);
        let mut command = self.machine.command(".", env!("CARGO_BIN_EXE_stack"));
        Ran::of(&command.arg("--root").arg(root).args(args).output().unwrap())
    }

    /// Replaces what differs from run to run.
    fn plain(&self, text: &str) -> String {
        let text = text.replace(&self.host, "HOST");
        let mut shown = String::new();
        let mut rest = text.as_str();
        while let Some((before, after)) = rest.split_once("sha256:") {
            shown.push_str(before);
            shown.push_str("DIGEST");
            rest = after.trim_start_matches(|c: char| c.is_ascii_hexdigit());
        }
        shown + rest
    }
}

#[test]
fn images_go_to_a_registry_and_come_back() {
    if skipped() {
        return;
    }
    let site = Site::new("127.0.0.1", "", "");
    let name = format!("{}/team/app", site.host);
    let id = site.image(&format!("{name}:v1"), "one");
    let ran = site
        .machine
        .run(".", &["image", "push", &format!("{name}:v1")]);
    assert_eq!(
        (
            ran.code,
            site.plain(&ran.stdout).split(" size:").next().unwrap()
        ),
        (
            0,
            "The push refers to repository [HOST/team/app]\nv1: digest: DIGEST"
        ),
        "{}",
        ran.stderr
    );
    assert!(ran.stderr.contains("Pushed"), "{}", ran.stderr);
    let whole = format!("{name}:v1");
    assert_eq!(
        site.machine.ok(".", &["image", "push", "-q", &whole]),
        format!("{whole}\n")
    );
    let pulled = site.other(&["image", "pull", &whole]);
    assert_eq!(
        (pulled.code, site.plain(&pulled.stdout).as_str()),
        (
            0,
            "v1: Pulling from team/app\nDigest: DIGEST\nStatus: Downloaded newer image for HOST/team/app:v1\nHOST/team/app:v1\n"
        ),
        "{}",
        pulled.stderr
    );
    let again = site.other(&["image", "pull", &whole]);
    assert!(
        again
            .stdout
            .contains(&format!("Status: Image is up to date for {whole}\n")),
        "{}",
        again.stdout
    );
    assert_eq!(
        site.other(&["image", "pull", "-q", &whole]).stdout,
        format!("{whole}\n")
    );
    let listed = site.other(&["image", "ls", "-q", "--no-trunc"]);
    assert_eq!(listed.stdout.trim(), id);

    // Without a tag there is one that is meant, and it is not there.
    let missing = site.other(&["image", "pull", &name]);
    assert_eq!(
        (missing.code, site.plain(&missing.stdout).as_str()),
        (
            1,
            "Using default tag: latest\nlatest: Pulling from team/app\n"
        )
    );
    assert!(
        site.plain(&missing.stderr).ends_with(
            "error: pull image `HOST/team/app:latest`: manifest latest of `team/app` not found at HOST: manifest unknown\n"
        ),
        "{}",
        missing.stderr
    );

    // Others read it: skopeo compares every layer with the configuration.
    let copied = format!(
        "skopeo copy -q --insecure-policy --src-tls-verify=false docker://{whole} docker-archive:{}/out.tar:x:y",
        site.machine.path().display()
    );
    site.machine.sh(&copied);
}

#[test]
fn who_collects_takes_nothing_that_a_pull_or_a_build_needs() {
    if skipped() {
        return;
    }
    let site = Site::new("127.0.0.1", "", "");
    let machine = &site.machine;
    let name = format!("{}/team/base:v1", site.host);
    site.image(&name, "base");
    machine.ok(".", &["image", "push", "-q", &name]);
    machine.write("context/one", "1");
    machine.write("context/two", "2");
    let from = format!("FROM {name}\nCOPY one /\nCOPY two /\nWORKDIR /three\n");
    machine.write("context/Dockerfile", &from);
    let start = |args: &[&str]| {
        let mut command = machine.stack("context", args);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().unwrap()
    };
    for round in 0..12 {
        let children = [
            start(&["system", "prune", "-af"]),
            start(&["image", "pull", &name]),
            start(&["image", "build", "--no-cache", "-t", "made", "."]),
            start(&["image", "prune", "-af"]),
            start(&["image", "build", "-t", "made-too", "."]),
            start(&["image", "rm", "-f", &name]),
        ];
        for (number, child) in children.into_iter().enumerate() {
            let ran = Ran::of(&child.wait_with_output().unwrap());
            let gone = number == 5 && ran.stderr.contains("No such image");
            assert!(
                ran.code == 0 || gone,
                "round {round}, command {number}: {}{}",
                ran.stdout,
                ran.stderr
            );
        }
        // What is left is whole.
        let checked = machine.run(".", &["system", "check"]);
        assert_eq!(checked.code, 0, "{}", checked.stdout);
    }
    machine.ok("context", &["image", "build", "-t", "made", "."]);
    machine.ok(".", &["image", "save", "-o", "made.tar", "made"]);
}

/// Checks that layers that came compressed are compressed anew only where that is forced.
fn compresses_anew_where_forced(site: &Site, cache: &str, context: &str) {
    let machine = &site.machine;
    let pushed = format!("{}/team/made:v1", site.host);
    machine.ok(".", &["image", "tag", "made", &pushed]);
    machine.ok(".", &["image", "push", "-q", &pushed]);
    let pulled = site.at("third", &["image", "pull", "-q", &pushed]);
    assert_eq!(pulled.code, 0, "{}", pulled.stderr);
    for (more, expected) in [
        ("", "tar+gzip\n"),
        (",force-compression=true", "tar+zstd\n"),
    ] {
        let to = format!("type=local,dest=brought,reset=true,compression=zstd{more}");
        let args = [
            "image",
            "build",
            "--cache-from",
            cache,
            "--cache-to",
            &to,
            context,
        ];
        let ran = site.at("third", &args);
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        let types = machine.sh(
            "cd brought/blobs/sha256 && grep -ahrq '\"layers\":' . && grep -ahro 'layer.v1.tar+[a-z]*' . | \
             sed s/layer.v1.// | sort -u",
        );
        assert_eq!(types, expected, "{more}");
    }
    let args = [
        "image",
        "build",
        "--cache-from",
        "type=local,src=brought",
        context,
    ];
    let ran = site.at("fourth", &args);
    let cached = ran.stderr.lines().filter(|line| line.ends_with(" CACHED"));
    assert_eq!((ran.code, cached.count()), (0, 1), "{}", ran.stderr);
}

#[test]
fn the_cache_of_a_build_goes_through_a_registry() {
    if skipped() {
        return;
    }
    let site = Site::new("127.0.0.1", "", "");
    let machine = &site.machine;
    let name = format!("{}/team/base:v1", site.host);
    site.image(&name, "base");
    machine.ok(".", &["image", "push", "-q", &name]);
    machine.write("context/one", "1");
    machine.write(
        "context/Dockerfile",
        &format!(
            "FROM {name} AS first\nCOPY one /made\nFROM {name}\nCOPY --from=first /made /taken\n"
        ),
    );
    let cache = format!("{}/team/cache:main", site.host);
    let to = format!("type=registry,ref={cache},mode=max");
    let context = machine.path().join("context");
    let context = context.to_str().unwrap();
    let missing = machine.run(
        ".",
        &[
            "image",
            "build",
            "--cache-from",
            &cache,
            "-t",
            "made",
            context,
        ],
    );
    assert!(
        missing.code == 0
            && site
                .plain(&missing.stderr)
                .contains("warning: the cache `HOST/team/cache:main` is not used: manifest main of `team/cache` not found"),
        "{}",
        missing.stderr
    );
    machine.ok(
        ".",
        &["image", "build", "--cache-to", &to, "-t", "made", context],
    );
    let layers = machine.ok(
        ".",
        &["image", "inspect", "-f", "{{json .RootFS.Layers}}", "made"],
    );
    // Somebody else, who has never built it.
    let ran = site.other(&[
        "image",
        "build",
        "--cache-from",
        &cache,
        "-t",
        "made",
        context,
    ]);
    let cached = ran.stderr.lines().filter(|line| line.ends_with(" CACHED"));
    assert_eq!((ran.code, cached.count()), (0, 2), "{}", ran.stderr);
    let theirs = site.other(&["image", "inspect", "-f", "{{json .RootFS.Layers}}", "made"]);
    assert_eq!(theirs.stdout, layers);
    compresses_anew_where_forced(&site, &cache, context);
}

#[test]
fn an_image_is_the_cache_of_its_own_build() {
    if skipped() {
        return;
    }
    let site = Site::new("127.0.0.1", "", "");
    let machine = &site.machine;
    machine.import_busybox();
    let base = format!("{}/base:v1", site.host);
    machine.ok(".", &["image", "tag", "busybox", &base]);
    machine.ok(".", &["image", "push", "-q", &base]);
    machine.write("context/one", "1");
    machine.write(
        "context/Dockerfile",
        &format!(
            "FROM {base} AS first\nRUN echo made > /made\nFROM {base}\nENV A=1\nRUN echo $A > /a\nWORKDIR /w\n\
             COPY one /made\nCOPY --from=first /made /taken\nRUN cat /made /taken > both\n"
        ),
    );
    let context = machine.path().join("context");
    let context = context.to_str().unwrap();
    let layers = |machine: &dyn Fn(&[&str]) -> Ran| {
        machine(&["image", "inspect", "-f", "{{json .RootFS.Layers}}", "made"]).stdout
    };
    let here = |args: &[&str]| machine.run(".", args);
    for (name, option, cached) in [
        // The step of the stage that is not in the image is done again, and comes to the same file.
        ("records", &["--cache-to", "type=inline"][..], 5),
        ("argument", &["--build-arg", "BUILDKIT_INLINE_CACHE=1"], 5),
        // The history says what the first RUN and the WORKDIR were, and of a COPY not what it copied.
        ("plain", &[], 2),
    ] {
        let image = format!("{}/team/{name}:v1", site.host);
        let mut args = vec!["image", "build", "-q", "-t", &image, "-t", "made"];
        args.extend_from_slice(option);
        args.push(context);
        let id = machine.ok(".", &args);
        assert_eq!(
            machine.ok(".", &args),
            id,
            "{name}: it is the same image again"
        );
        machine.ok(".", &["image", "push", "-q", &image]);
        let has_records = machine.sh(&format!(
            "grep -l vnd.stack.cache.v1 {}/lib/images/blobs/sha256/{} || true",
            machine.root().display(),
            id.trim().trim_start_matches("sha256:")
        ));
        assert_eq!(has_records.is_empty(), option.is_empty(), "{name}");
        // Somebody else, whose store is empty.
        let other = format!("other-{name}");
        let theirs = |args: &[&str]| {
            let mut command = machine.command(".", env!("CARGO_BIN_EXE_stack"));
            let root = machine.path().join(&other);
            Ran::of(&command.arg("--root").arg(root).args(args).output().unwrap())
        };
        let ran = theirs(&[
            "image",
            "build",
            "--cache-from",
            &image,
            "-t",
            "made",
            context,
        ]);
        let found = ran.stderr.lines().filter(|line| line.ends_with(" CACHED"));
        assert_eq!(
            (ran.code, found.count()),
            (0, cached),
            "{name}: {}",
            ran.stderr
        );
        if !option.is_empty() {
            assert_eq!(layers(&theirs), layers(&here), "{name}");
        }
    }
    // Another base, and nothing of it is right any more.
    machine.ok(".", &["image", "tag", "made", &base]);
    machine.ok(".", &["image", "push", "-q", &base]);
    let image = format!("{}/team/plain:v1", site.host);
    let ran = site.other(&["image", "build", "--cache-from", &image, context]);
    let found = ran.stderr.lines().filter(|line| line.ends_with(" CACHED"));
    assert_eq!((ran.code, found.count()), (0, 0), "{}", ran.stderr);
}

#[test]
fn all_tags_go_there_and_back() {
    if skipped() {
        return;
    }
    let site = Site::new("127.0.0.1", "", "");
    let name = format!("{}/team/app", site.host);
    let whole = format!("{name}:v1");
    site.image(&whole, "one");
    site.machine.ok(".", &["image", "push", "-q", &whole]);
    assert_eq!(site.other(&["image", "pull", "-q", &whole]).code, 0);
    site.image(&format!("{name}:v2"), "two");
    let pushed = site.machine.ok(".", &["image", "push", "-a", &name]);
    let tags: Vec<&str> = pushed
        .lines()
        .filter_map(|line| line.split_once(": digest"))
        .map(|(tag, _)| tag)
        .collect();
    assert_eq!(tags, ["v1", "v2"]);
    let all = site.other(&["image", "pull", "-a", &name]);
    let status: Vec<String> = all
        .stdout
        .lines()
        .filter(|line| line.starts_with("Status"))
        .map(|line| site.plain(line))
        .collect();
    assert_eq!(
        status,
        [
            "Status: Image is up to date for HOST/team/app:v1",
            "Status: Downloaded newer image for HOST/team/app:v2"
        ]
    );
    assert!(all.stdout.ends_with(&format!("\n{name}\n")));
    let with_tag = site.other(&["image", "pull", "-a", &whole]);
    assert_eq!(
        (with_tag.code, with_tag.stderr.as_str()),
        (2, "error: tag can't be used with --all-tags/-a\n")
    );
    let nowhere = site.machine.run(".", &["image", "push", "nobody/has:this"]);
    assert_eq!(nowhere.code, 1);
    assert!(
        nowhere
            .stderr
            .ends_with("error: an image does not exist locally with the tag: nobody/has:this\n"),
        "{}",
        nowhere.stderr
    );
}

#[test]
fn a_projects_images_are_pushed() {
    if skipped() {
        return;
    }
    let site = Site::new("127.0.0.1", "", "");
    site.machine.import_busybox();
    let host = &site.host;
    site.machine.write(
        "p/compose.yaml",
        &format!(
            "name: demo\nservices:\n  web:\n    image: {host}/demo/web:1\n    build: {{dockerfile_inline: \"FROM busybox\\nRUN echo web > /web\\n\", additional_contexts: {{db: \"service:db\"}}}}\n    depends_on: [db]\n\
             \x20   env_file: absent.env\n\
             \x20 db:\n    image: {host}/demo/db:1\n    build: {{dockerfile_inline: \"FROM busybox\\nRUN echo db > /db\\n\"}}\n\
             \x20 plain: {{image: busybox}}\n  nameless: {{build: {{dockerfile_inline: \"FROM busybox\"}}}}\n"
        ),
    );
    site.machine.ok("p", &["build"]);
    let tags = |name: &str| {
        let url = format!("http://{host}/v2/demo/{name}/tags/list");
        let text = site.machine.sh(&format!("curl -s {url}"));
        serde_json::from_str::<Value>(&text).unwrap()["tags"].clone()
    };
    // A pattern is a name; and no env file need be there.
    site.machine.ok("p", &["push", "-q", "w*"]);
    assert_eq!(
        (tags("web"), tags("db")),
        (serde_json::json!(["1"]), Value::Null)
    );
    let ran = site.machine.run("p", &["push"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert_eq!(tags("db"), serde_json::json!(["1"]));
    let lines: Vec<String> = ran.stderr.lines().map(|line| site.plain(line)).collect();
    for line in [
        " Image HOST/demo/web:1  Pushed",
        " Image HOST/demo/db:1  Pushed",
        " Image busybox  Skipped",
        " Image demo-nameless  Skipped",
    ] {
        assert!(
            lines.iter().any(|known| known == line),
            "{line}\n{}",
            lines.join("\n")
        );
    }
    // The other machine's store has them by `pull`, the base layer once.
    let path = site.machine.path().join("p/compose.yaml");
    let pulled = site.other(&["-f", path.to_str().unwrap(), "pull", "web", "db"]);
    assert_eq!(pulled.code, 0, "{}", pulled.stderr);
    // One that fails is told, and kept from nothing.
    site.machine.write(
        "p/compose.yaml",
        &format!(
            "name: demo\nservices:\n  gone: {{image: {host}/demo/gone:1, build: .}}\n  web: {{image: {host}/demo/web:1, build: .}}\n"
        ),
    );
    let failed = site.machine.run("p", &["push"]);
    assert_eq!(failed.code, 1);
    assert!(
        site.plain(&failed.stderr)
            .contains("an image does not exist locally with the tag: HOST/demo/gone:1"),
        "{}",
        failed.stderr
    );
    assert_eq!(
        site.machine
            .run("p", &["push", "--ignore-push-failures"])
            .code,
        0
    );
    site.machine.ok("p", &["down"]);
}

/// Makes a password file (bcrypt) for `user` with the password `pass word`.
fn with_password(machine: &Machine) -> String {
    let path = machine.path().join("htpasswd");
    machine.sh(&format!(
        "htpasswd -Bbn user 'pass word' > {}",
        path.display()
    ));
    format!(
        "auth: {{htpasswd: {{realm: test, path: {}}}}}\n",
        path.display()
    )
}

fn typed(site: &Site, args: &[&str], input: &str) -> Ran {
    use std::io::Write;
    let mut command = site.machine.stack(".", args);
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(input.as_bytes())
        .unwrap();
    Ran::of(&child.wait_with_output().unwrap())
}

#[test]
#[expect(clippy::too_many_lines, reason = "one story")]
fn a_login_lets_in_and_a_logout_does_not() {
    if skipped() {
        return;
    }
    let machine = Machine::new();
    let more = with_password(&machine);
    let site = Site::on(machine, "127.0.0.1", "", &more);
    let host = site.host.as_str();
    let name = format!("{host}/private:1");
    site.image(&name, "secret");
    let denied = site.machine.run(".", &["image", "push", &name]);
    assert_eq!(denied.code, 1);
    assert!(
        site.plain(&denied.stderr).ends_with(
            "error: push image `HOST/private:1`: access to `private` at HOST denied: it does not exist or may require login\n"
        ),
        "{}",
        denied.stderr
    );
    let wrong = typed(
        &site,
        &["login", "-u", "user", "--password-stdin", host],
        "nonsense\n",
    );
    assert_eq!(
        (
            wrong.code,
            wrong.stdout.as_str(),
            site.plain(&wrong.stderr).as_str()
        ),
        (
            1,
            "",
            "error: log in to HOST: unauthorized: incorrect username or password\n"
        )
    );
    let config = site.machine.path().join(".docker/config.json");
    assert!(!config.exists(), "a secret that is refused is not kept");
    let right = typed(
        &site,
        &["login", "-u", "user", "--password-stdin", host],
        "pass word\n",
    );
    assert_eq!(
        (right.code, right.stdout.as_str()),
        (0, "Login Succeeded\n"),
        "{}",
        right.stderr
    );
    assert!(
        right.stderr.starts_with(&format!(
            "WARNING! Your credentials are stored unencrypted in '{}'.\n",
            config.display()
        )),
        "{}",
        right.stderr
    );
    let mode = fs_err::metadata(&config).unwrap().permissions().mode() & 0o7777;
    let kept: Value = serde_json::from_slice(&fs_err::read(&config).unwrap()).unwrap();
    // base64 of `user:pass word`
    assert_eq!(
        (mode, kept),
        (
            0o600,
            serde_json::json!({"auths": {host: {"auth": "dXNlcjpwYXNzIHdvcmQ="}}})
        )
    );
    site.machine.ok(".", &["image", "push", &name]);
    assert_eq!(site.other(&["image", "pull", "-q", &name]).code, 0);
    // skopeo is let in by the same file.
    site.machine.sh(&format!(
        "skopeo inspect --tls-verify=false --authfile {} docker://{name} >/dev/null",
        config.display()
    ));
    assert_eq!(
        site.machine.ok(".", &["logout", host]),
        format!("Removing login credentials for {host}\n")
    );
    assert_eq!(
        site.machine.ok(".", &["logout", host]),
        format!("Not logged in to {host}\n")
    );
    assert_eq!(site.machine.run(".", &["image", "push", &name]).code, 1);
    // The variable stands for the file.
    let mut command = site.machine.stack(".", &["image", "pull", "-q", &name]);
    let auths = format!(r#"{{"auths":{{"{host}":{{"auth":"dXNlcjpwYXNzIHdvcmQ="}}}}}}"#);
    let ran = Ran::of(&command.env("DOCKER_AUTH_CONFIG", auths).output().unwrap());
    assert_eq!(ran.code, 0, "{}", ran.stderr);
}

#[test]
fn a_login_without_a_name_or_a_password_is_refused() {
    let machine = Machine::new();
    let host = "127.0.0.1:1";
    for (args, message) in [
        (
            &["login", "--password-stdin", host][..],
            "Must provide --username with --password-stdin",
        ),
        (
            &["login", "-u", "x", "-p", "y", "--password-stdin", host],
            "--password and --password-stdin are mutually exclusive",
        ),
        (
            &["login", host],
            "Cannot perform an interactive login from a non TTY device",
        ),
    ] {
        let ran = machine.run(".", args);
        assert_eq!(
            (ran.code, ran.stderr),
            (2, format!("error: {message}\n")),
            "{args:?}"
        );
    }
}

#[test]
fn a_credential_helper_keeps_what_a_login_gives_it() {
    if skipped() {
        return;
    }
    let machine = Machine::new();
    let more = with_password(&machine);
    let site = Site::on(machine, "127.0.0.1", "", &more);
    let host = site.host.as_str();
    let directory = site.machine.path().display().to_string();
    let helper = site.machine.write(
        "bin/docker-credential-test",
        &format!(
            "#!/bin/sh\nkept={directory}/kept.json\ncase $1 in\nstore) cat > $kept;;\n\
             get) [ -s $kept ] && exec cat $kept; echo 'credentials not found in native keychain'; exit 1;;\n\
             erase) rm $kept;;\nesac\n"
        ),
    );
    fs_err::set_permissions(&helper, std::fs::Permissions::from_mode(0o755)).unwrap();
    let config = site.machine.write(
        ".docker/config.json",
        r#"{"credHelpers":{"127.0.0.1:5000":"test"},"psFormat":"x"}"#,
    );
    let run = |args: &[&str], input: &str| {
        use std::io::Write;
        let mut command = site.machine.stack(".", args);
        let path = format!("{directory}/bin:/usr/bin:/bin:/usr/sbin:/sbin");
        command
            .env("PATH", path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child
            .stdin
            .take()
            .unwrap()
            .write_all(input.as_bytes())
            .unwrap();
        Ran::of(&child.wait_with_output().unwrap())
    };
    let name = format!("{host}/private:1");
    site.image(&name, "secret");
    let logged_in = run(
        &["login", "-u", "user", "--password-stdin", host],
        "pass word",
    );
    assert_eq!(
        (
            logged_in.code,
            logged_in.stdout.as_str(),
            logged_in.stderr.as_str()
        ),
        (0, "Login Succeeded\n", "")
    );
    let kept: Value =
        serde_json::from_slice(&fs_err::read(site.machine.path().join("kept.json")).unwrap())
            .unwrap();
    assert_eq!(
        kept,
        serde_json::json!({"ServerURL": host, "Username": "user", "Secret": "pass word"})
    );
    let text: Value = serde_json::from_slice(&fs_err::read(&config).unwrap()).unwrap();
    assert_eq!(
        text,
        serde_json::json!({"credHelpers": {host: "test"}, "psFormat": "x", "auths": {host: {}}})
    );
    let pushed = run(&["image", "push", &name], "");
    assert_eq!(pushed.code, 0, "{}", pushed.stderr);
    assert_eq!(run(&["logout", host], "").code, 0);
    assert!(!site.machine.path().join("kept.json").exists());
    // A helper that is not there is no reason not to ask, and is said where that fails.
    let helperless = site.machine.run(".", &["image", "pull", &name]);
    assert_eq!(helperless.code, 1);
    assert!(
        helperless.stderr.contains(
            "may require login (run the credential helper `docker-credential-test`: No such file"
        ),
        "{}",
        helperless.stderr
    );
}

/// Makes an authority and a certificate for `name`; returns lines for the registry's configuration.
fn with_certificate(machine: &Machine, name: &str) -> String {
    let directory = machine.path().display().to_string();
    machine.sh(&format!(
        "cd {directory} && openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=ca \
           -keyout ca.key -out ca.crt 2>/dev/null && \
         openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN={name} -keyout tls.key -out tls.csr 2>/dev/null && \
         printf 'subjectAltName=DNS:{name}\\n' > ext && \
         openssl x509 -req -in tls.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 -extfile ext -out tls.crt 2>/dev/null"
    ));
    format!("  tls: {{certificate: {directory}/tls.crt, key: {directory}/tls.key}}\n")
}

/// Gives the machine an `/etc` of its own, where `name` is this machine.
fn own_etc(machine: &Machine, name: &str) {
    let directory = machine.path().display().to_string();
    machine.sh(&format!(
        "mkdir {directory}/etc && mount -t tmpfs tmpfs {directory}/etc && cp -a /etc/. {directory}/etc/ && \
         mount --bind {directory}/etc /etc && rm -rf /etc/docker /etc/containers /etc/containerd && \
         mkdir -p /etc/docker /etc/containers && ip addr add 10.99.0.1/32 dev lo && echo 10.99.0.1 {name} > /etc/hosts"
    ));
}

#[test]
fn certificates_are_checked_and_authorities_can_be_added() {
    if skipped() {
        return;
    }
    let machine = Machine::new();
    own_etc(&machine, "registry.test");
    let http = with_certificate(&machine, "registry.test");
    let site = Site::on(machine, "registry.test", &http, "");
    let name = format!("{}/app:1", site.host);
    site.image(&name, "x");
    let push = || site.machine.run(".", &["image", "push", "-q", &name]);
    let unknown = push();
    assert_eq!(unknown.code, 1);
    assert!(
        site.plain(&unknown.stderr)
            .contains("cannot connect to HOST: invalid peer certificate: UnknownIssuer"),
        "{}",
        unknown.stderr
    );
    let directory = site.machine.path().display().to_string();
    for (case, prepare, undo) in [
        (
            "Docker's certs.d",
            "mkdir -p /etc/docker/certs.d/registry.test:5000 && cp DIR/ca.crt /etc/docker/certs.d/registry.test:5000/",
            "rm -r /etc/docker/certs.d",
        ),
        (
            "containerd's hosts.toml",
            "mkdir -p /etc/containerd/certs.d/registry.test_5000_ && printf 'server = \"https://registry.test:5000\"\\nca = \"DIR/ca.crt\"\\n' \
             > /etc/containerd/certs.d/registry.test_5000_/hosts.toml",
            "rm -r /etc/containerd",
        ),
        (
            "an insecure registry of Docker's",
            "echo '{\"insecure-registries\": [\"registry.test:5000\"]}' > /etc/docker/daemon.json",
            "rm /etc/docker/daemon.json",
        ),
        (
            "an insecure registry of containers'",
            "printf '[[registry]]\\nlocation = \"registry.test:5000\"\\ninsecure = true\\n' > /etc/containers/registries.conf",
            "rm /etc/containers/registries.conf",
        ),
    ] {
        site.machine.sh(&prepare.replace("DIR", &directory));
        let ran = push();
        assert_eq!(
            (ran.code, ran.stdout),
            (0, format!("{name}\n")),
            "{case}: {}",
            ran.stderr
        );
        site.machine.sh(undo);
        assert_eq!(push().code, 1, "{case}: undone");
    }
    let mut command = site.machine.stack(".", &["image", "push", "-q", &name]);
    command.env("SSL_CERT_FILE", format!("{directory}/ca.crt"));
    let ran = Ran::of(&command.output().unwrap());
    assert_eq!(ran.code, 0, "SSL_CERT_FILE: {}", ran.stderr);
}

#[test]
fn a_proxy_is_asked_but_for_what_is_excepted() {
    if skipped() {
        return;
    }
    let machine = Machine::new();
    own_etc(&machine, "registry.test");
    machine.sh("echo '{\"insecure-registries\": [\"hidden.test:5000\", \"registry.test:5000\"]}' > /etc/docker/daemon.json");
    let site = Site::on(machine, "registry.test", "", "");
    let log = site.machine.path().join("proxy.log");
    let script = site.machine.write("proxy.py", PROXY);
    let mut proxy = site.machine.command(".", "python3");
    let proxy = proxy.arg(&script).arg(&log).arg("3128").spawn().unwrap();
    let _proxy = Ends(proxy);
    site.wait_for("3128");
    // The proxy alone knows where that is.
    let hidden = "hidden.test:5000/app:1";
    site.image(hidden, "x");
    let near = format!("{}/app:2", site.host);
    site.image(&near, "y");
    let push = |name: &str| {
        let mut command = site.machine.stack(".", &["image", "push", "-q", name]);
        command
            .env("HTTP_PROXY", "http://127.0.0.1:3128")
            .env("HTTPS_PROXY", "http://127.0.0.1:3128")
            .env("NO_PROXY", "registry.test,10.0.0.0/8");
        Ran::of(&command.output().unwrap())
    };
    let ran = push(hidden);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let asked = fs_err::read_to_string(&log).unwrap();
    assert!(asked.contains("hidden.test:5000"), "{asked}");
    fs_err::write(&log, "").unwrap();
    let ran = push(&near);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert_eq!(fs_err::read_to_string(&log).unwrap(), "");
}

struct Ends(Child);

impl Drop for Ends {
    fn drop(&mut self) {
        let _ended = self.0.kill();
        let _reaped = self.0.wait();
    }
}

/// Sends every request for plain HTTP on to the registry, whatever its host; no tunnels.
const PROXY: &str = r#"
import http.server, http.client, sys
log, port = sys.argv[1], int(sys.argv[2])
class Proxy(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def log_message(self, *args):
        pass
    def pass_on(self):
        with open(log, "a") as file:
            file.write(self.command + " " + self.path + "\n")
        if self.command == "CONNECT":
            self.send_error(502)
            return
        length = int(self.headers.get("content-length", 0))
        body = self.rfile.read(length)
        up = http.client.HTTPConnection("10.99.0.1", 5000)
        headers = {name: value for name, value in self.headers.items() if name.lower() != "proxy-connection"}
        up.request(self.command, "/" + self.path.split("/", 3)[3], body, headers)
        answer = up.getresponse()
        data = answer.read()
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in ("transfer-encoding", "content-length", "connection"):
                self.send_header(name, value)
        self.send_header("content-length", answer.getheader("content-length", str(len(data))) if self.command == "HEAD" else str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)
    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_CONNECT = pass_on
http.server.ThreadingHTTPServer(("127.0.0.1", port), Proxy).serve_forever()
"#;

/// Serves one blob slowly: half of it, and the rest only when it is asked for again.
#[test]
fn a_killed_pull_goes_on_where_it_was() {
    if skipped() {
        return;
    }
    let site = Site::new("127.0.0.1", "", "");
    let name = format!("{}/big:1", site.host);
    // 8 MB that cannot be compressed.
    let tar = site.machine.path().join("image.tar");
    site.machine.sh(&format!(
        "d=$(mktemp -d) && head -c 8000000 /dev/urandom > $d/file && tar -C $d -cf {} . && rm -rf $d",
        tar.display()
    ));
    site.machine
        .ok(".", &["image", "import", tar.to_str().unwrap(), &name]);
    site.machine.ok(".", &["image", "push", "-q", &name]);
    let log = site.machine.path().join("slow.log");
    let script = site.machine.write("slow.py", SLOW);
    let mut slow = site.machine.command(".", "python3");
    let _slow = Ends(slow.arg(&script).arg(&log).arg("5001").spawn().unwrap());
    site.wait_for("5001");
    let slowly = "127.0.0.1:5001/big:1";
    let root = site.machine.path().join("other");
    let mut command = site.machine.command(".", env!("CARGO_BIN_EXE_stack"));
    let mut pull = command
        .arg("--root")
        .arg(&root)
        .args(["image", "pull", slowly])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let partial = root.join("lib/images/partial");
    let length = |directory: &Path| {
        let entries =
            fs_err::read_dir(directory).map(|entries| entries.flatten().collect::<Vec<_>>());
        let entries = entries.unwrap_or_default();
        entries
            .iter()
            .map(|entry| entry.metadata().map_or(0, |stat| stat.len()))
            .max()
            .unwrap_or(0)
    };
    let started = Instant::now();
    while length(&partial) < 3_000_000 {
        assert!(started.elapsed() < Duration::from_secs(30), "nothing came");
        std::thread::yield_now();
    }
    pull.kill().unwrap();
    pull.wait().unwrap();
    let kept = length(&partial);
    assert!(
        !root.join("lib/layers").read_dir().unwrap().any(|_| true),
        "no half layer"
    );
    let ran = site.other(&["image", "pull", "-q", slowly]);
    assert_eq!(
        (ran.code, ran.stdout),
        (0, format!("{slowly}\n")),
        "{}",
        ran.stderr
    );
    let asked = fs_err::read_to_string(&log).unwrap();
    assert!(asked.contains(&format!("bytes={kept}-")), "{kept}\n{asked}");
    assert_eq!(length(&partial), 0);
    // Nothing of the killed command is left.
    let left = fs_err::read_dir(root.join("lib/tmp")).unwrap().flatten();
    assert_eq!(left.filter(|entry| entry.path().is_dir()).count(), 0);
}

/// A registry before the registry: the first blob of more than 1 MB stops in the middle, once.
const SLOW: &str = r#"
import http.server, http.client, sys, threading
log, port = sys.argv[1], int(sys.argv[2])
stopped = threading.Event()
class Slow(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def log_message(self, *args):
        pass
    def pass_on(self):
        with open(log, "a") as file:
            file.write(self.path + " " + self.headers.get("range", "") + "\n")
        up = http.client.HTTPConnection("127.0.0.1", 5000)
        up.request(self.command, self.path, None, dict(self.headers.items()))
        answer = up.getresponse()
        data = answer.read()
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in ("transfer-encoding", "connection"):
                self.send_header(name, value)
        self.end_headers()
        if len(data) > 1000000 and not stopped.is_set():
            stopped.set()
            self.wfile.write(data[:4000000])
            self.wfile.flush()
            self.rfile.read(1)
            return
        self.wfile.write(data)
    do_GET = do_HEAD = pass_on
http.server.ThreadingHTTPServer(("127.0.0.1", port), Slow).serve_forever()
"#;

/// Where the reference engines of a development machine are started from; they see `/tmp` alone.
const PEERS: &str = "/work/shared/peers/run";

/// Runs a command among the peers.
fn peer(args: &[&str]) -> Ran {
    Ran::of(&Command::new(PEERS).args(args).output().unwrap())
}

/// Docker and Podman read what we push, and we read what they push. Only where they have been started (`peers/up`), as they are no
/// part of this project: elsewhere it says that it is skipped.
#[test]
#[expect(clippy::too_many_lines, reason = "one story")]
fn docker_and_podman_agree_with_us() {
    let is_up = Path::new(PEERS).exists() && peer(&["docker", "version"]).code == 0;
    if skipped() || !is_up {
        let words = format!("skipped: no dockerd answers {PEERS}\n");
        let _said = std::io::Write::write_all(&mut std::io::stderr(), words.as_bytes());
        return;
    }
    let directory = tempfile::tempdir_in("/tmp").unwrap();
    let at = |name: &str| directory.path().join(name).display().to_string();
    // On the host itself, where the peers are.
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let host = format!("127.0.0.1:{port}");
    let config = format!(
        "version: 0.1\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: \"{host}\"}}\n",
        at("storage")
    );
    fs_err::write(at("registry.yml"), config).unwrap();
    let mut registry = Command::new("docker-registry");
    registry.arg("serve").arg(at("registry.yml"));
    let registry = registry
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let _registry = Ends(registry);
    let started = Instant::now();
    while std::net::TcpStream::connect(&host).is_err() {
        assert!(
            started.elapsed() < Duration::from_secs(20),
            "nobody listens on {host}"
        );
        std::thread::yield_now();
    }
    let stack = |root: &str, args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_stack"));
        let ran = Ran::of(
            &command
                .arg("--root")
                .arg(at(root))
                .args(args)
                .output()
                .unwrap(),
        );
        assert_eq!(ran.code, 0, "{args:?}: {}", ran.stderr);
        ran.stdout
    };
    let theirs = |args: &[&str]| {
        let ran = peer(args);
        assert_eq!(ran.code, 0, "{args:?}: {}", ran.stderr);
        ran.stdout.trim().to_owned()
    };
    let tree = directory.path().join("tree");
    fs_err::create_dir(&tree).unwrap();
    fs_err::copy("/bin/busybox", tree.join("busybox")).unwrap();
    let packed = Command::new("tar")
        .args(["-C", &at("tree"), "-cf", &at("image.tar"), "."])
        .status();
    assert!(packed.unwrap().success());
    let name = format!("{host}/ours/app");
    let (gzip, zstd) = (format!("{name}:gzip"), format!("{name}:zstd"));
    let change = "CMD [\"/busybox\", \"echo\", \"it runs\"]";
    let id = stack(
        "one",
        &[
            "image",
            "import",
            "--change",
            change,
            &at("image.tar"),
            &gzip,
        ],
    );
    stack("one", &["image", "tag", &gzip, &zstd]);
    stack("one", &["image", "push", &gzip]);
    stack(
        "one",
        &["image", "push", "--compression-format", "zstd", &zstd],
    );
    for reference in [&gzip, &zstd] {
        theirs(&["docker", "pull", "-q", reference]);
        let found = theirs(&["docker", "image", "inspect", "-f", "{{.Id}}", reference]);
        assert_eq!(found, id.trim(), "{reference}");
        assert_eq!(
            theirs(&["docker", "run", "--rm", "--network=none", reference]),
            "it runs"
        );
        theirs(&["docker", "image", "rm", reference]);
        theirs(&["podman", "pull", "-q", "--tls-verify=false", reference]);
        let found = theirs(&["podman", "image", "inspect", "-f", "{{.Id}}", reference]);
        assert_eq!(format!("sha256:{found}"), id.trim(), "{reference}");
    }
    // From them to us, and back under another name with the same digest.
    theirs(&["docker", "pull", "-q", &gzip]);
    for (engine, push) in [
        ("docker", &["docker", "push", "-q"][..]),
        ("podman", &["podman", "push", "-q", "--tls-verify=false"]),
    ] {
        let pushed = format!("{host}/theirs/{engine}:1");
        theirs(&[engine, "tag", &gzip, &pushed]);
        theirs(&[push, &[&pushed]].concat());
        let pulled = stack(engine, &["image", "pull", &pushed]);
        let listed = stack(engine, &["image", "ls", "-q", "--no-trunc"]);
        assert_eq!(listed.trim(), id.trim(), "{engine}");
        let copy = format!("{host}/copies/{engine}:1");
        stack(engine, &["image", "tag", &pushed, &copy]);
        let copied = stack(engine, &["image", "push", &copy]);
        let digest = |text: &str| {
            let (_, rest) = text.split_once("sha256:").unwrap();
            rest.chars()
                .take_while(char::is_ascii_hexdigit)
                .collect::<String>()
        };
        assert_eq!(digest(&pulled), digest(&copied), "{engine}");
        theirs(&[engine, "image", "rm", "-f", &pushed, &gzip]);
    }
    theirs(&["podman", "image", "rm", "-f", &zstd]);
}
