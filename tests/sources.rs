//! Sources of a build that lie elsewhere, and the secrets that are for their servers, with the real binary.

#![allow(
    clippy::allow_attributes,
    clippy::disallowed_methods,
    reason = "tests run real processes"
)]
#![expect(clippy::unwrap_used, reason = "a test's helpers")]

mod support;

use std::process::{Child, Stdio};

use support::{Machine, Ran};

/// A machine with busybox and a web server that serves its directory `web` on port 8000 of every address.
///
/// | path | is |
/// | --- | --- |
/// | `/locked/…` | the file, for who sends one of the headers in `headers` |
/// | `/away/…`, `/near/…` | the same under another name of the host; on this one |
/// | `/tagged` | a file with a tag, whatever is asked |
/// | `/named` | a file with another name in its headers |
/// | `/endless` | zeros |
/// | `/broken` | less than it says |
const SERVER: &str = r#"
import http.server, os, sys, threading
top = os.path.abspath('web')
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'
    def log_message(self, *_): pass
    def answer(self, status, body=b'', **headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace('_', '-'), value)
        self.send_header('Content-Length', str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def do_GET(self):
        sent = self.headers.get('Authorization', '-')
        host = self.headers.get('Host', '').split(':')[0]
        with open('requests', 'a') as log:
            log.write(f'{host} {self.path} {sent}\n')
        path = self.path.split('?')[0]
        if path.startswith('/locked/'):
            if sent not in open('headers').read().splitlines():
                return self.answer(401, WWW_Authenticate='Basic')
            path = path[len('/locked'):]
        elif path.startswith('/away/'):
            return self.answer(302, Location='http://localhost:8000' + self.path[len('/away'):])
        elif path.startswith('/near/'):
            return self.answer(302, Location='/locked' + self.path[len('/near'):])
        elif path == '/tagged':
            return self.answer(200, b'tagged', ETag='W/"v1"')
        elif path == '/named':
            return self.answer(200, b'named', Content_Disposition='attachment; filename="other"')
        elif path == '/broken':
            self.send_response(200)
            self.send_header('Content-Length', '100')
            self.end_headers()
            self.wfile.write(b'few')
            self.close_connection = True
            return
        elif path == '/endless':
            self.send_response(200)
            self.send_header('Connection', 'close')
            self.end_headers()
            while True:
                try: self.wfile.write(bytes(1 << 20))
                except OSError: return
        try:
            with open(os.path.join(top, path.lstrip('/')), 'rb') as file:
                body = file.read()
        except OSError:
            return self.answer(404)
        self.answer(200, body, Last_Modified='Sun, 06 Nov 1994 08:49:37 GMT')
http.server.ThreadingHTTPServer.request_queue_size = 50
http.server.ThreadingHTTPServer(('', 8000), Handler).serve_forever()
"#;

/// What the server is told to accept, and what is not to be found anywhere.
const TOKEN: &str = "t0ken-of-the-server";

struct Site {
    server: Child,
    machine: Machine,
}

impl Drop for Site {
    fn drop(&mut self) {
        let _ended = self.server.kill();
        let _reaped = self.server.wait();
    }
}

impl Site {
    fn new() -> Self {
        let machine = Machine::new();
        machine.import_busybox();
        machine.write("server.py", SERVER);
        machine.write("web/file", "hello");
        machine.write("headers", "");
        let server = machine
            .command(".", "python3")
            .arg("server.py")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let site = Self { server, machine };
        site.machine.sh(
            "timeout 60 sh -c 'until busybox wget -q -O /dev/null http://127.0.0.1:8000/file; do :; done' 2> /dev/null",
        );
        site
    }

    /// Makes the server accept `headers`, and nothing else.
    fn accept(&self, headers: &[&str]) {
        self.machine.write("headers", &headers.join("\n"));
    }

    /// Builds a Dockerfile in the context `c`.
    fn build(&self, text: &str, options: &[&str]) -> Ran {
        self.machine.write("c/Dockerfile", text);
        let mut command = self.machine.stack("c", &["image", "build", "-t", "built"]);
        command.args(options).arg(".").env("TOKEN", TOKEN);
        Ran::of(&command.output().unwrap())
    }

    /// As [`Site::build`], and requires success.
    fn built(&self, text: &str, options: &[&str]) -> String {
        let ran = self.build(text, options);
        assert_eq!(ran.code, 0, "{}{}", ran.stdout, ran.stderr);
        ran.stderr
    }

    /// As [`Site::build`], and requires a failure that says `expected`.
    fn fails(&self, text: &str, options: &[&str], expected: &str) {
        let ran = self.build(text, options);
        assert_eq!(ran.code, 1, "{text}: {}", ran.stderr);
        assert!(
            ran.stderr.contains(expected),
            "`{expected}` is not in\n{}",
            ran.stderr
        );
        assert!(!ran.stderr.contains(TOKEN), "{}", ran.stderr);
    }

    /// Takes what was asked for since the last time: host, path, authorization.
    fn requests(&self) -> Vec<String> {
        let path = self.machine.path().join("requests");
        let text = fs_err::read_to_string(&path).unwrap_or_default();
        let _gone = fs_err::remove_file(path);
        text.lines().map(str::to_owned).collect()
    }

    /// Requires that no file below the root, and none of `files`, has any of these words.
    fn nowhere(&self, words: &[&str], files: &[&str]) {
        for word in words {
            let script = format!("grep -rlaF -- '{word}' stack {} || true", files.join(" "));
            let found = self
                .machine
                .sh(&format!("cd {} && {script}", self.machine.path().display()));
            assert_eq!(found, "", "`{word}` was kept");
        }
    }
}

#[test]
fn a_secret_logs_in_at_the_host_it_is_for() {
    let site = Site::new();
    let bearer = format!("Bearer {TOKEN}");
    let locked = "FROM busybox\nADD http://127.0.0.1:8000/locked/file /f\nRUN cat /f; echo .\n";
    site.fails(
        locked,
        &[],
        "invalid response status 401: it wants a login: give the build a secret HTTP_AUTH_TOKEN_127.0.0.1",
    );
    site.accept(&[&bearer]);
    let token = ["--secret", "id=HTTP_AUTH_TOKEN_127.0.0.1,env=TOKEN"];
    site.requests();
    let args = [
        &token[..],
        &["--progress", "json", "--metadata-file", "m.json"],
    ]
    .concat();
    let progress = site.built(locked, &args);
    assert!(progress.contains("hello"), "{progress}");
    assert_eq!(
        site.requests(),
        [format!("127.0.0.1 /locked/file {bearer}")]
    );
    // The same file is the same layer, however it was had.
    site.accept(&["Custom x"]);
    site.machine.write("c/header", "Custom x\n");
    let header = ["--secret", "id=HTTP_AUTH_HEADER_127.0.0.1,src=header"];
    let progress = site.built(locked, &header);
    assert!(progress.contains("CACHED"), "{progress}");
    assert_eq!(site.requests(), ["127.0.0.1 /locked/file Custom x"]);
    // On the same host it goes along; to another one never.
    site.accept(&[&bearer]);
    let near = "FROM busybox\nADD http://127.0.0.1:8000/near/file /f\n";
    site.built(near, &token);
    let away = "FROM busybox\nADD http://127.0.0.1:8000/away/file /f\n";
    site.built(away, &token);
    assert_eq!(
        site.requests(),
        [
            format!("127.0.0.1 /near/file {bearer}"),
            format!("127.0.0.1 /locked/file {bearer}"),
            format!("127.0.0.1 /away/file {bearer}"),
            "localhost /file -".to_owned(),
        ]
    );
    let back = "FROM busybox\nADD http://127.0.0.1:8000/away/near/file /f\n";
    site.fails(back, &token, "invalid response status 401");
    // A context is had in the same way.
    site.machine
        .write("web/Dockerfile", "FROM busybox\nRUN echo from afar\n");
    let mut command = site.machine.stack("c", &["image", "build"]);
    command.args(token).env("TOKEN", TOKEN);
    let ran = Ran::of(
        &command
            .arg("http://127.0.0.1:8000/locked/Dockerfile")
            .output()
            .unwrap(),
    );
    assert!(
        ran.code == 0 && ran.stderr.contains("from afar"),
        "{}",
        ran.stderr
    );
    let history = site
        .machine
        .ok(".", &["image", "history", "--no-trunc", "built"]);
    assert!(!history.contains(TOKEN), "{history}");
    assert!(!progress.contains(TOKEN));
    site.nowhere(&[TOKEN, "Custom x"], &["c/m.json", "c/Dockerfile"]);
    site.machine.assert_clean();
}

/// Makes `web/repo.git`.
const REPOSITORY: &str = "
export GIT_CONFIG_GLOBAL=/dev/null
mkdir -p web work && cd work && git init -q -b main
printf 'FROM busybox\\nRUN echo from the repository\\n' > Dockerfile
echo said > said && git add . && git -c user.name=t -c user.email=t@t commit -qm one
cd .. && git clone -q --bare work web/repo.git && git -C web/repo.git update-server-info
";

#[test]
fn a_secret_logs_in_at_a_repository() {
    let site = Site::new();
    let directory = site.machine.path().display().to_string();
    site.machine.sh(&format!("cd {directory} && {REPOSITORY}"));
    // x-access-token:t0ken-of-the-server
    let basic = "Basic eC1hY2Nlc3MtdG9rZW46dDBrZW4tb2YtdGhlLXNlcnZlcg==";
    let add = "FROM busybox\nADD http://127.0.0.1:8000/locked/repo.git /r\nRUN cat /r/said\n";
    site.fails(add, &[], "give the build a secret GIT_AUTH_TOKEN");
    site.accept(&[basic]);
    site.requests();
    let token = ["--secret", "id=GIT_AUTH_TOKEN,env=TOKEN"];
    site.built(add, &token);
    let asked = site.requests();
    let sent = format!(" {basic}");
    assert!(
        !asked.is_empty() && asked.iter().all(|line| line.ends_with(&sent)),
        "{asked:?}"
    );
    // The nearer secret counts.
    let nearer = [
        "--secret",
        "id=GIT_AUTH_TOKEN,src=Dockerfile",
        "--secret",
        "id=GIT_AUTH_TOKEN.127.0.0.1:8000,env=TOKEN",
        "--no-cache",
    ];
    site.built(add, &nearer);
    // Nothing goes where the server points.
    site.requests();
    let away = add.replace("/locked/", "/away/");
    site.fails(&away, &token, "it points elsewhere");
    let asked = site.requests();
    assert!(
        asked.iter().all(|line| line.starts_with("127.0.0.1 ")),
        "{asked:?}"
    );
    // A context, of a command and of a service.
    let mut command = site.machine.stack("c", &["image", "build", "--no-cache"]);
    command.args(token).env("TOKEN", TOKEN);
    let ran = Ran::of(
        &command
            .arg("http://127.0.0.1:8000/locked/repo.git")
            .output()
            .unwrap(),
    );
    assert!(
        ran.code == 0 && ran.stderr.contains("from the repository"),
        "{}",
        ran.stderr
    );
    site.machine.write(
        "p/compose.yaml",
        "name: p\nservices:\n  a:\n    build:\n      context: http://127.0.0.1:8000/locked/repo.git\n      \
         no_cache: true\n      secrets: [GIT_AUTH_TOKEN]\nsecrets: {GIT_AUTH_TOKEN: {environment: TOKEN}}\n",
    );
    let mut command = site.machine.stack("p", &["build"]);
    let ran = Ran::of(&command.env("TOKEN", TOKEN).output().unwrap());
    assert!(
        ran.code == 0 && ran.stderr.contains("from the repository"),
        "{}",
        ran.stderr
    );
    site.nowhere(&[TOKEN, basic], &["c", "p"]);
    site.machine.assert_clean();
}

#[test]
fn files_by_url_are_what_docker_makes_of_them() {
    let site = Site::new();
    let url = "http://127.0.0.1:8000";
    let sum = "sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
    site.machine.sh(&format!(
        "cd {}/web && mkdir d && echo in > d/in && tar -czf tree.tgz d && rm -r d",
        site.machine.path().display()
    ));
    let text = format!(
        "FROM busybox\n\
         ADD --checksum={sum} {url}/file /a/\n\
         ADD --chmod=0640 --chown=nobody {url}/file /b\n\
         ADD {url}/named /c/\n\
         ADD {url}/tagged {url}/file?x=1 /d/\n\
         ADD {url}/tree.tgz /e/\n\
         ADD --unpack {url}/tree.tgz /f/\n\
         RUN stat -c '%n %a %u %Y' /a/file /b /c/* /d/* /e/*; cat /f/d/in\n"
    );
    let progress = site.built(&text, &[]);
    for line in [
        " /a/file 600 0 784111777",
        " /b 640 65534 784111777",
        " /c/named 600 0 0",
        " /d/file 600 0 784111777",
        " /d/tagged 600 0 0",
        " /e/tree.tgz 600 0 784111777",
        " in",
    ] {
        assert!(
            progress.lines().any(|found| found.ends_with(line)),
            "{line}: {progress}"
        );
    }
    site.requests();
    let again = site.built(&text, &[]);
    assert_eq!(again.matches(" CACHED").count(), 7, "{again}");
    // What has a checksum is known without asking.
    assert_eq!(site.requests().len(), 6);
    let zeros = format!("sha256:{}", "0".repeat(64));
    let fails = |line: &str, expected: &str| {
        site.fails(&format!("FROM busybox\n{line}\n"), &[], expected);
    };
    fails(
        &format!("ADD --checksum={zeros} {url}/file /"),
        &format!("digest mismatch {sum}: {zeros}"),
    );
    fails(
        &format!("ADD --checksum={sum} file /"),
        "checksum requires HTTP(S) or Git sources",
    );
    fails(
        &format!("ADD {url}/none /"),
        "GET http://127.0.0.1:8000/none: invalid response status 404",
    );
    fails(
        &format!("ADD {url}/broken /"),
        "GET http://127.0.0.1:8000/broken",
    );
    fails(
        "ADD http://127.0.0.1:9/x /",
        "cannot connect to 127.0.0.1:9",
    );
    fails(
        &format!("COPY {url}/file /"),
        "source can't be a URL for COPY",
    );
    site.machine.assert_clean();
}

#[test]
fn a_body_without_end_leaves_room_on_the_disk() {
    let site = Site::new();
    let root = site.machine.root();
    let root = root.display();
    site.machine.sh(&format!(
        "mkdir -p {root}.small && mount -t tmpfs -o size=120m tmpfs {root}.small && cp -a {root}/. {root}.small && \
         mount --move {root}.small {root}"
    ));
    site.fails(
        "FROM busybox\nADD http://127.0.0.1:8000/endless /\n",
        &[],
        "GET http://127.0.0.1:8000/endless: the disk has no room for it",
    );
    let free = site
        .machine
        .sh(&format!("df -k --output=avail {root} | tail -1"));
    assert!(free.trim().parse::<u64>().unwrap() > 60_000, "{free}");
    site.machine.sh(&format!("umount {root}"));
    site.machine.assert_clean();
}

#[test]
fn secrets_are_seen_by_their_steps_alone() {
    let site = Site::new();
    let word = "hush-of-the-test";
    site.machine.write("c/file", word);
    site.machine.write("c/env", "from-a-file");
    site.machine.sh(&format!(
        "head -c 512000 /dev/zero > {0}/c/largest; head -c 512001 /dev/zero > {0}/c/larger",
        site.machine.path().display()
    ));
    let text = "FROM busybox\n\
        RUN --mount=type=secret,id=a,required cat /run/secrets/a | tr h H; stat -c %a:%u /run/secrets/a\n\
        RUN --mount=type=secret,id=b,target=/x/y,uid=65534,gid=7,mode=0604 stat -c %a:%u:%g /x/y; cat /x/y | tr t T\n\
        RUN --mount=type=secret,id=c,env=C echo \"${#C}\"; test ! -e /run/secrets/c\n\
        RUN --mount=type=secret,id=d,env=D,target=/d cat /d | tr t T; test \"$D\" = \"$(cat /d)\"\n\
        RUN --mount=type=secret,id=none test ! -e /run/secrets/none\n\
        RUN --mount=type=secret,id=largest wc -c < /run/secrets/largest\n\
        RUN ls /run /x 2>/dev/null | wc -l\n";
    let options = [
        "--secret",
        "id=a,src=file",
        "--secret",
        "id=b,env=TOKEN",
        "--secret",
        "type=env,id=c,src=TOKEN",
        "--secret",
        "type=file,id=d,source=env",
        "--secret",
        "id=largest",
        "--progress",
        "json",
        "--metadata-file",
        "m.json",
    ];
    let progress = site.built(text, &options);
    let last = format!("{}", TOKEN.len());
    for expected in [
        "Hus",
        "400:0",
        "604:65534:7",
        "T0ken",
        &last,
        "from-a-file".replace('t', "T").as_str(),
        "512000",
    ] {
        assert!(progress.contains(expected), "{expected}: {progress}");
    }
    assert!(
        !progress.contains(word) && !progress.contains(TOKEN),
        "{progress}"
    );
    let history = site
        .machine
        .ok(".", &["image", "history", "--no-trunc", "built"]);
    assert!(
        !history.contains(word) && !history.contains(TOKEN),
        "{history}"
    );
    site.nowhere(&[word, TOKEN], &["c/m.json"]);
    site.fails(
        "FROM busybox\nRUN --mount=type=secret,id=none,required true\n",
        &[],
        "secret \"none\": not found",
    );
    site.fails(
        "FROM busybox\nRUN --mount=type=secret,id=larger true\n",
        &["--secret", "id=larger"],
        "secret \"larger\" is too big: it may have 500 KB at most",
    );
    site.machine.assert_clean();
}
