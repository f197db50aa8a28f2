//! Dockerfiles as people write them, of six kinds, built and run on a Debian base with the real binary.
//!
//! Steps get packages from Debian's mirror: no machine of the test's own here, but a root of its own, whose containers reach the
//! network as any user's do.

#![expect(clippy::disallowed_methods, reason = "tests run real processes")]
#![expect(clippy::unwrap_used, reason = "a test's helpers")]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Writes a Python package as an index would have it: `wheels/greeting-1.0-py3-none-any.whl`.
const WHEEL: &str = r#"
import os, zipfile
os.mkdir('wheels')
with zipfile.ZipFile('wheels/greeting-1.0-py3-none-any.whl', 'w') as wheel:
    wheel.writestr('greeting.py', 'version = "1.0"\n')
    info = 'greeting-1.0.dist-info/'
    wheel.writestr(info + 'METADATA', 'Metadata-Version: 2.1\nName: greeting\nVersion: 1.0\n')
    wheel.writestr(info + 'WHEEL', 'Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n')
    wheel.writestr(info + 'RECORD', '')
"#;

/// One Dockerfile, the files beside it, and what its container writes.
struct Kind {
    name: &'static str,
    dockerfile: &'static str,
    files: &'static [(&'static str, &'static str)],
    /// What its standard output must be.
    expected: &'static str,
}

const KINDS: [Kind; 6] = [
    Kind {
        name: "compiled",
        dockerfile: r#"# syntax=docker/dockerfile:1
ARG DEBIAN=bookworm
FROM debian:${DEBIAN} AS tools
RUN apt-get update \
 && apt-get install -y --no-install-recommends gcc libc6-dev make \
 && rm -rf /var/lib/apt/lists/*

FROM tools AS compile
ARG VERSION=0
WORKDIR /src
COPY Makefile *.c ./
RUN make CFLAGS="-O2 -DVERSION=\"\\\"${VERSION}\\\"\"" && strip hello

FROM debian:${DEBIAN}
COPY --from=compile --chmod=0755 /src/hello /usr/local/bin/
USER nobody
ENTRYPOINT ["hello"]
CMD ["nobody in particular"]
"#,
        files: &[
            ("Makefile", "hello: hello.o\n\t$(CC) -o $@ $^\n"),
            (
                "hello.c",
                "#include <stdio.h>\nint main(int n, char **a) { printf(\"hello %s from %s\\n\", a[1], VERSION); return 0; }\n",
            ),
            (".dockerignore", "*\n!Makefile\n!*.c\n"),
        ],
        expected: "hello nobody in particular from 1.2\n",
    },
    Kind {
        name: "apt",
        dockerfile: r"FROM debian:bookworm
ENV DEBIAN_FRONTEND=noninteractive
RUN apt-get update && apt-get install -y --no-install-recommends jq && \
    # what is not needed goes
    rm -rf /var/lib/apt/lists/*
RUN groupadd -r app && useradd -r -g app -d /app app
WORKDIR /app
COPY --chown=app:app in.json .
USER app
CMD jq -r .words[] in.json; id -un; stat -c %U in.json
",
        files: &[("in.json", "{\"words\": [\"one\", \"two\"]}\n")],
        expected: "one\ntwo\napp\napp\n",
    },
    Kind {
        name: "python",
        dockerfile: r#"FROM debian:bookworm AS base
RUN --mount=type=cache,target=/var/cache/apt,sharing=locked apt-get update \
 && apt-get install -y --no-install-recommends python3-venv \
 && rm -rf /var/lib/apt/lists/*

FROM base AS packages
RUN python3 -m venv /opt/venv
ENV PATH="/opt/venv/bin:$PATH"
COPY requirements.txt .
RUN --mount=type=cache,target=/root/.cache/pip --mount=type=bind,source=wheels,target=/wheels --mount=type=secret,id=token \
    test -s /run/secrets/token && pip install --no-index --find-links /wheels -r requirements.txt

FROM base
COPY --from=packages /opt/venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1
WORKDIR /app
COPY app app
HEALTHCHECK --interval=1s CMD python -c 'import greeting'
CMD ["python", "-m", "app"]
"#,
        files: &[
            ("requirements.txt", "greeting==1.0\n"),
            ("app/__init__.py", ""),
            (
                "app/__main__.py",
                "import greeting, os, sys\nprint(greeting.version, sys.prefix, os.path.exists('/run/secrets/token'))\n",
            ),
        ],
        expected: "1.0 /opt/venv False\n",
    },
    Kind {
        name: "node",
        dockerfile: r#"FROM debian:bookworm AS node
RUN apt-get update && apt-get install -y --no-install-recommends nodejs && rm -rf /var/lib/apt/lists/*

FROM node
ENV NODE_ENV=production
WORKDIR /usr/src/app
COPY package.json ./
COPY --exclude=*.test.js src ./src
EXPOSE 3000
STOPSIGNAL SIGINT
CMD [ "node", "src/main.js" ]
"#,
        files: &[
            (
                "package.json",
                "{\"name\": \"shop\", \"version\": \"3.1.0\"}\n",
            ),
            (
                "src/main.js",
                "const p = require('../package.json');\nconsole.log(p.name, p.version, process.env.NODE_ENV, require('fs').readdirSync('src').join());\n",
            ),
            ("src/main.test.js", "throw new Error('left out');\n"),
        ],
        expected: "shop 3.1.0 production main.js\n",
    },
    Kind {
        name: "static",
        dockerfile: r#"FROM debian:bookworm AS from
RUN apt-get update && apt-get install -y --no-install-recommends busybox-static
RUN echo 'web:x:65532:65532::/:/' > /passwd

FROM scratch
COPY --from=from /passwd /etc/passwd
COPY --link --from=from /bin/busybox /bin/busybox
COPY page /srv/
USER web
ENTRYPOINT ["/bin/busybox"]
CMD ["cat", "/srv/index.html"]
"#,
        files: &[("page/index.html", "<p>static</p>\n")],
        expected: "<p>static</p>\n",
    },
    Kind {
        name: "heredocs",
        dockerfile: r#"# syntax=docker/dockerfile:1.4
FROM debian:bookworm
SHELL ["/bin/bash", "-euo", "pipefail", "-c"]
ARG GREETING=hello
COPY <<tool <<"quoted" /opt/
#!/bin/bash
echo "tool says ${GREETING}"
tool
not ${GREETING}
quoted
RUN --mount=type=cache,target=/cache,id=made <<EOF
chmod +x /opt/tool
for n in 1 2 3; do
  [ -e /cache/$n ] || echo "made $n" > /cache/$n
done
cat /cache/{1,2,3} | tee /opt/made
EOF
RUN <<-"PERL" perl > /opt/perl
	print "perl ", 6 * 7, "\n";
	PERL
CMD /opt/tool; cat /opt/quoted /opt/made /opt/perl; [ -e /cache ] || echo no cache
"#,
        files: &[],
        expected: "tool says hello\nnot ${GREETING}\nmade 1\nmade 2\nmade 3\nperl 42\nno cache\n",
    },
];

/// A root of the test's own, taken down at the end.
struct Root(tempfile::TempDir);

impl Root {
    fn stack(&self, directory: &Path, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_stack"));
        command.current_dir(directory).stdin(Stdio::null());
        command.arg("--root").arg(self.0.path().join("root"));
        command.args(args);
        command
    }

    /// Runs a command, requires success, returns standard output and standard error.
    fn ok(&self, directory: &Path, args: &[&str]) -> (String, String) {
        let output = self.stack(directory, args).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (out, error) = (text(&output.stdout), text(&output.stderr));
        assert!(output.status.success(), "stack {args:?}\n{out}{error}");
        (out, error)
    }

    /// Writes the files of a kind; returns its directory.
    fn write(&self, kind: &Kind) -> PathBuf {
        let directory = self.0.path().join(kind.name);
        let files = kind.files.iter().copied();
        let files = files.chain([("Dockerfile", kind.dockerfile)]);
        for (name, text) in files {
            let path = directory.join(name);
            fs_err::create_dir_all(path.parent().unwrap()).unwrap();
            fs_err::write(path, text).unwrap();
        }
        directory
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        for kind in &KINDS {
            let directory = self.0.path().join(kind.name);
            if directory.join("compose.yaml").exists() {
                let mut down = self.stack(&directory, &["down", "-v", "-t", "0"]);
                // A test that fails says why itself.
                let _told = down.output();
            }
        }
    }
}

/// Builds a kind, builds it again, and runs it.
fn build_and_run(root: &Root, kind: &Kind) {
    let directory = root.write(kind);
    let image = format!("real-{}", kind.name);
    let python = Command::new("python3")
        .args(["-c", WHEEL])
        .current_dir(&directory)
        .status();
    assert!(python.unwrap().success());
    let mut args = vec!["image", "build", "-t", &image];
    let secret = "id=token,src=Dockerfile";
    args.extend(["--build-arg", "VERSION=1.2", "--secret", secret, "."]);
    root.ok(&directory, &args);
    let (_, again) = root.ok(&directory, &args);
    let lines = |fits: fn(&&str) -> bool| again.lines().filter(fits).count();
    let steps =
        lines(|line| line.contains(" | #") && line.contains("] ") && !line.contains("] FROM "));
    let cached = lines(|line| line.ends_with(" CACHED"));
    assert!(steps > 0 && steps == cached, "{}:\n{again}", kind.name);
    let compose = format!("name: {image}\nservices:\n  app: {{image: {image}}}\n");
    fs_err::write(directory.join("compose.yaml"), compose).unwrap();
    let (out, _) = root.ok(&directory, &["up", "--no-log-prefix"]);
    let expected = format!("{}app-1 exited with code 0\n", kind.expected);
    assert_eq!(out, expected, "{}", kind.name);
    root.ok(&directory, &["down", "-t", "0"]);
}

#[test]
fn real_world_dockerfiles_build_and_run() {
    let root = Root(tempfile::tempdir().unwrap());
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/base-images.sh");
    let made = Command::new(script)
        .arg(env!("CARGO_BIN_EXE_stack"))
        .arg("--root")
        .arg(root.0.path().join("root"))
        .env("IMAGES", "debian:bookworm")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    std::thread::scope(|scope| {
        for kind in &KINDS {
            let root = &root;
            scope.spawn(move || build_and_run(root, kind));
        }
    });
}
