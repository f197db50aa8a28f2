//! Builds with the real binary: `image build` and `build`, as a user sees them.

#![allow(
    clippy::allow_attributes,
    clippy::disallowed_methods,
    reason = "tests run real processes"
)]

mod support;

use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;

use serde_json::Value;
use support::{Machine, Ran};

/// A machine with busybox in its store.
fn machine() -> Machine {
    let machine = Machine::new();
    machine.import_busybox();
    machine
}

/// Builds the Dockerfile `text` in the context `c`; returns what the command did.
fn build(machine: &Machine, text: &str, options: &[&str]) -> Ran {
    machine.write("c/Dockerfile", text);
    let mut args = vec!["image", "build", "-t", "built"];
    args.extend_from_slice(options);
    args.push(".");
    machine.run("c", &args)
}

/// As [`build`], and requires success; returns the progress.
fn built(machine: &Machine, text: &str, options: &[&str]) -> String {
    let ran = build(machine, text, options);
    assert_eq!(ran.code, 0, "{}{}", ran.stdout, ran.stderr);
    ran.stderr
}

/// Returns what is known of an image.
fn inspect(machine: &Machine, image: &str) -> Value {
    let text = machine.ok(".", &["image", "inspect", image]);
    serde_json::from_str::<Value>(&text).unwrap_or_default()[0].clone()
}

/// Requires that a step wrote these lines, in this order, each in one of the lines of the progress.
fn wrote(progress: &str, lines: &[&str]) {
    let mut rest = progress.lines();
    for line in lines {
        assert!(
            rest.any(|found| found.ends_with(line)),
            "`{line}` is not (in order) in\n{progress}"
        );
    }
}

#[test]
fn an_image_is_built_named_and_built_again_from_the_cache() {
    let machine = machine();
    machine.write("c/file", "text\n");
    let text =
        "FROM busybox\nARG V=1\nRUN echo v$V > /v\nCOPY file /\nCMD [\"cat\", \"/v\", \"/file\"]\n";
    let first = machine.write("c/Dockerfile", text);
    assert!(first.exists());
    let options = [
        "image",
        "build",
        "-q",
        "-t",
        "one",
        "-t",
        "two:x",
        "--iidfile",
        "id",
        "--label",
        "a=b",
        ".",
    ];
    let id = machine.ok("c", &options);
    assert_eq!(
        id.trim(),
        fs_err::read_to_string(machine.path().join("c/id")).unwrap()
    );
    assert!(id.starts_with("sha256:"), "{id}");
    assert_eq!(machine.ok("c", &options), id);
    // It may go down a pipe; and a build that fails leaves none of an earlier one.
    let devices = [
        &options[..7],
        &["--label", "a=b", "--iidfile", "/dev/stdout"],
        &["--metadata-file", "link", "."],
    ]
    .concat();
    machine.sh("ln -s m.json c/link");
    assert_eq!(machine.ok("c", &devices), format!("{}{id}", id.trim()));
    let kinds = machine.sh("cd c; stat -c %F link m.json; stat -L -c %F /dev/stdout");
    assert_eq!(kinds, "symbolic link\nregular file\nfifo\n");
    machine.write("c/bad", "FROM busybox\nRUN false\n");
    let failed = ["image", "build", "-f", "bad", "--iidfile", "id", "."];
    assert_eq!(machine.run("c", &failed).code, 1);
    assert!(!machine.path().join("c/id").exists());
    let listed = machine.ok(".", &["image", "ls"]);
    for name in ["one", "two"] {
        assert!(listed.contains(name), "{listed}");
    }
    wrote(
        &built(&machine, text, &[]),
        &["RUN echo v1 > /v", "CACHED", "COPY file /", "CACHED"],
    );
    let why = built(&machine, text, &["--explain", "--build-arg", "V=2"]);
    wrote(
        &why,
        &[
            "not cached: environment: `V` changed",
            "not cached: layers below changed",
        ],
    );
    machine.write("c/file", "other\n");
    let why = built(&machine, text, &["--explain", "--build-arg", "V=2"]);
    wrote(
        &why,
        &[
            "RUN echo v2 > /v",
            "CACHED",
            "COPY file /",
            "not cached: files changed",
        ],
    );
    machine.assert_clean();
}

/// A step for each kind of mount, and what is to be left of them.
const MOUNTS: &str = r#"FROM busybox AS st
RUN mkdir /out && echo from-stage > /out/f
FROM busybox
RUN --mount=type=bind,source=src,target=/ro --mount=type=bind,source=src,target=/rw,rw \
    ls /ro && ! touch /ro/x && echo new > /rw/new && cat /rw/new
RUN --mount=from=st,source=/out,target=/o --mount=from=st,source=/out/f,target=/etc/f cat /o/f /etc/f && ! ls /rw
RUN --mount=type=cache,target=/cache,uid=5,mode=700 echo x >> /cache/log; wc -l < /cache/log; stat -c %u:%a /cache
RUN --mount=type=tmpfs,target=/t,size=1m df -k /t | awk 'END {print $2}'
RUN --mount=type=tmpfs,target=/t printf '#!/bin/sh\necho ran\n' > /t/x && chmod +x /t/x && /t/x
RUN --mount=type=cache,id=two,target=/t --mount=type=cache,id=two,source=a/b,target=/o,sharing=locked echo below > /o/f && cat /t/a/b/f
RUN --mount=type=secret,id=s,mode=0440 cat /run/secrets/s && stat -c %a /run/secrets/s
RUN --mount=type=secret,id=s,env=TOKEN echo "got $TOKEN"
RUN --mount=type=secret,id=absent ls /run/secrets 2>/dev/null || echo none
RUN --mount=from=named,target=/named cat /named/n
RUN --network=none ls /sys/class/net | tr '\n' ' '; echo .
RUN grep far /etc/hosts; hostname; ulimit -n; grep machine /etc/hosts
COPY --from=named n /copied
RUN <<-END
#!/bin/awk -f
	BEGIN { print "awk" }
	END
RUN ls / /etc /run 2>/dev/null | tr '\n' ' '; echo .
"#;

#[test]
fn a_step_has_its_mounts_and_its_layer_has_none_of_them() {
    let machine = machine();
    machine.write("c/src/one", "one\n");
    machine.write("c/src/left-out", "x\n");
    machine.write("c/.dockerignore", "src/left-out\n");
    machine.write("c/secret", "hidden\n");
    machine.write("named/n", "named\n");
    let options = [
        "--secret",
        "id=s,src=secret",
        "--build-context",
        "named=../named",
        "--add-host",
        "far:192.0.2.1",
        "--add-host",
        "machine=host-gateway",
        "--ulimit",
        "nofile=90:100",
    ];
    let progress = built(&machine, MOUNTS, &options);
    wrote(
        &progress,
        &[
            " one",
            "touch: /ro/x: Read-only file system",
            " new",
            " from-stage",
            " from-stage",
            " 1",
            " 5:700",
            " 1024",
            " ran",
            " below",
            " hidden",
            " 440",
            " got hidden",
            " none",
            " named",
            " lo .",
            " 192.0.2.1\tfar",
            " buildkitsandbox",
            " 90",
            "\tmachine",
            " awk",
        ],
    );
    let last = progress.lines().rfind(|line| line.ends_with(" .")).unwrap();
    let words: Vec<&str> = last.split(' ').collect();
    let gone = "ro rw o cache t named secrets f buildkit";
    assert!(!gone.split(' ').any(|gone| words.contains(&gone)), "{last}");
    // The cache survives; the secret is in no key.
    machine.write("c/secret", "changed\n");
    let again = built(&machine, MOUNTS, &options);
    assert!(!again.contains(" hidden"), "{again}");
    let anew = built(
        &machine,
        MOUNTS,
        &[&options[..], &["--no-cache-filter", "stage-1"]].concat(),
    );
    wrote(&anew, &[" got changed"]);
    machine.assert_clean();
}

#[test]
fn what_a_step_writes_to_the_host_name_file_is_in_the_image() {
    let machine = machine();
    let text = "FROM busybox\nRUN test ! -e /etc/hostname && echo own > /etc/hostname\nRUN cat /etc/hostname\n";
    wrote(&built(&machine, text, &[]), &[" own"]);
    machine.assert_clean();
}

#[test]
fn a_here_document_never_gets_out_by_its_name() {
    let machine = machine();
    let outside = machine.write("c/x", "").with_file_name("outside");
    let up = "../".repeat(20);
    let name = format!(
        "{up}{}",
        outside.display().to_string().trim_start_matches('/')
    );
    for line in [
        format!("COPY <<{name} /x/\ntext\n{name}\n"),
        format!("RUN <<{name}\n#!/bin/sh\n{name}\n"),
    ] {
        let refused = build(&machine, &format!("FROM busybox\n{line}"), &[]);
        assert_eq!(refused.code, 1, "{line}");
        let why = "the name of a here-document that becomes a file cannot be a path";
        assert!(refused.stderr.contains(why), "{}", refused.stderr);
        assert!(!outside.exists(), "{line}");
    }
    machine.assert_clean();
}

#[test]
fn what_a_step_must_have_or_may_not_do_is_said() {
    let machine = machine();
    let refused = build(
        &machine,
        "FROM busybox\nRUN --mount=type=secret,id=x,required true\n",
        &[],
    );
    assert_eq!(refused.code, 1);
    assert!(
        refused.stderr.contains("secret \"x\": not found"),
        "{}",
        refused.stderr
    );
    let refused = build(
        &machine,
        "FROM busybox\nRUN --security=insecure true\n",
        &[],
    );
    assert!(
        refused.stderr.contains("security.insecure is not allowed"),
        "{}",
        refused.stderr
    );
    let text = "FROM busybox\nRUN --security=insecure grep CapBnd /proc/self/status; mount -t tmpfs x /tmp && echo mounted\n";
    wrote(
        &built(&machine, text, &["--allow", "security.insecure"]),
        &[" mounted"],
    );
    machine.assert_clean();
}

#[test]
fn a_linked_copy_stays_cached_whatever_is_below_it() {
    let machine = machine();
    machine.write("c/file", "text\n");
    let text = |below: &str| {
        format!(
            "FROM busybox AS st\nRUN echo st > /st\nFROM busybox\nRUN mkdir /have && echo {below} > /below\n\
             COPY --link file /have/new/file\nCOPY --link --from=st /st /have/\nCOPY file /last\nRUN cat /below /have/new/file /have/st /last\n"
        )
    };
    built(&machine, &text("one"), &[]);
    let again = built(&machine, &text("two"), &[]);
    let cached: Vec<bool> = ["COPY --link file", "COPY --link --from", "COPY file /last"]
        .iter()
        .map(|step| {
            let line = again.lines().find(|line| line.contains(step)).unwrap();
            let number = line
                .split_whitespace()
                .find(|word| word.starts_with('#'))
                .unwrap();
            again.contains(&format!("{number} CACHED"))
        })
        .collect();
    assert_eq!(cached, [true, true, false], "{again}");
    wrote(&again, &[" two", " text", " st", " text"]);
    // The directory that it goes into is not as it was: the layer would bring the old one back.
    let other = text("two").replace("mkdir /have", "mkdir -m 700 /have");
    let third = built(&machine, &format!("{other}RUN stat -c %a /have\n"), &[]);
    wrote(&third, &[" 700"]);
    machine.assert_clean();
}

#[test]
fn stages_go_on_at_once_and_the_first_failure_ends_the_rest() {
    let machine = machine();
    // Each waits for the other, through a cache that both see.
    let meet = |own: &str, other: &str| {
        format!(
            "FROM busybox AS {own}\nRUN --mount=type=cache,target=/m touch /m/{own}; until [ -e /m/{other} ]; do :; done; echo {own} > /{own}\n"
        )
    };
    let text = format!(
        "FROM busybox AS unused\nRUN false\n{}{}FROM busybox\nCOPY --from=a /a /\nCOPY --from=b /b /\nRUN cat /a /b\n",
        meet("a", "b"),
        meet("b", "a")
    );
    wrote(&built(&machine, &text, &[]), &[" a", " b"]);
    let text = "FROM busybox AS endless\nRUN sleep 100000\nFROM busybox AS wrong\nRUN echo last words; exit 7\nFROM busybox\nCOPY --from=wrong / /w\nCOPY --from=endless / /e\n";
    let ran = build(&machine, text, &[]);
    assert_eq!(ran.code, 1);
    assert!(ran.stderr.contains("exit code: 7"), "{}", ran.stderr);
    wrote(&ran.stderr, &[" last words"]);
    machine.assert_clean();
}

#[test]
fn contexts_come_from_standard_input_too() {
    let machine = machine();
    machine.write("c/file", "text\n");
    machine.write("c/Dockerfile", "FROM busybox\nCOPY file /\nRUN cat /file\n");
    let tar = machine.path().join("context.tar.gz");
    machine.sh(&format!(
        "tar -C {} -czf {} .",
        machine.path().join("c").display(),
        tar.display()
    ));
    let feed = |args: &[&str], bytes: &[u8]| {
        let mut command = machine.stack("c", args);
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(bytes).unwrap();
        Ran::of(&child.wait_with_output().unwrap())
    };
    let ran = feed(&["image", "build", "-"], &fs_err::read(&tar).unwrap());
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    wrote(&ran.stderr, &[" text"]);
    let ran = feed(
        &["image", "build", "-"],
        b"FROM busybox\nRUN echo no context\n",
    );
    wrote(&ran.stderr, &[" no context"]);
    let ran = feed(
        &["image", "build", "-f", "-", "."],
        b"FROM busybox\nCOPY file /other\nRUN cat /other\n",
    );
    wrote(&ran.stderr, &[" text"]);
    for args in [["-f", "-", "."], ["-f", "absent", "-"]] {
        let args = [&["image", "build"], args.as_slice()].concat();
        let ran = feed(&args, b"FROM busybox\nRNU x\n");
        assert!(ran.stderr.contains("\n<stdin>:2\n"), "{}", ran.stderr);
    }
    let ran = feed(&["image", "build", "-f", "-", "-"], b"");
    assert_eq!(ran.code, 2, "{}", ran.stderr);
    machine.assert_clean();
}

#[test]
fn the_same_inputs_give_the_same_layers_elsewhere() {
    struct Place {
        /// What makes the directory of the context.
        context: &'static str,
        /// In which order its files are written, and when they are said to have been.
        files: &'static str,
        written: u64,
        /// What the command runs with.
        umask: &'static str,
        environment: &'static str,
    }
    let text = "FROM busybox\\nWORKDIR /w/deep\\nCOPY . .\\nADD t.tar /added/\\nCOPY <<E /made/by/hand\\ntext\\nE\\nRUN umask; echo x > made && mkdir d2 && touch d2/y && ln made link && date > /dev/null && rm a\\n";
    let built_at = |place: &Place| {
        let machine = machine();
        let script = format!(
            "cd {top} && mkdir c && {context} && cd c && umask 022 && mkdir d && for f in {files}; do echo $f > $f; done && ln -s a link2 && \
             printf '{text}' > Dockerfile && tar --sort=name --owner=0 --group=0 --mtime=@1 -cf t.tar d && \
             touch -d @{written} d/* d a b && umask {umask} && env {environment} {stack} --root {root} \
             image build -q -t built --build-arg SOURCE_DATE_EPOCH=1000000000 .",
            top = machine.path().display(),
            context = place.context,
            files = place.files,
            written = place.written,
            umask = place.umask,
            environment = place.environment,
            stack = env!("CARGO_BIN_EXE_stack"),
            root = machine.root().display(),
        );
        machine.sh(&script);
        machine.assert_clean();
        inspect(&machine, "built")
    };
    let first = built_at(&Place {
        context: "true",
        files: "a b d/x d/y",
        written: 1_500_000_000,
        umask: "022",
        environment: "TZ=UTC LC_ALL=C",
    });
    let second = built_at(&Place {
        context: "mount -t tmpfs -o mode=755 tmpfs c",
        files: "d/y b d/x a",
        written: 1_600_000_000,
        umask: "077",
        environment: "TZ=Asia/Tokyo LC_ALL=tr_TR.UTF-8 LANG=tr_TR.UTF-8",
    });
    assert_eq!(first["Created"], "2001-09-09T01:46:40Z");
    // All but the first, which is busybox as it was imported.
    let own = |image: &Value| image["RootFS"]["Layers"].as_array().unwrap()[1..].to_vec();
    assert_eq!(own(&first).len(), 5);
    assert_eq!(own(&first), own(&second));
    assert_eq!(first["Config"], second["Config"]);
}

#[test]
fn a_long_chain_of_stages_takes_no_more_than_its_length() {
    let machine = machine();
    let mut text = "FROM busybox AS s0\n".to_owned();
    let stage = |at: i32| format!("FROM s{} AS s{at}\nENV A{at}=1\n", at - 1);
    text.extend((1..3000).map(stage));
    text += "RUN echo $A1$A2999\n";
    machine.write("c/Dockerfile", &text);
    // Copies of what each stage has before it would take more than a gigabyte.
    let script = format!(
        "ulimit -v 1000000; cd {} && {} --root {} image build c 2>&1",
        machine.path().display(),
        env!("CARGO_BIN_EXE_stack"),
        machine.root().display()
    );
    wrote(&machine.sh(&script), &[" 11"]);
    machine.assert_clean();
}

#[test]
fn a_service_is_built_with_every_key() {
    let machine = machine();
    machine.write(
        "p/compose.yaml",
        r#"
name: demo
services:
  base:
    build: {dockerfile_inline: "FROM busybox\nRUN echo of-base > /b\n"}
  app:
    image: app:main
    build:
      context: .
      dockerfile_inline: |
        FROM base AS first
        RUN cat /b
        FROM first
        ARG A
        RUN --mount=type=secret,id=token cat /run/secrets/token; echo $$A
        RUN grep far /etc/hosts; ulimit -n; df -k /dev/shm | awk 'END {print $$2}'; ls /sys/class/net
        RUN --mount=from=dir,target=/d cat /d/n
        FROM nowhere
      target: ""
      args: {A: argument}
      additional_contexts: {base: "service:base", dir: ./named, nowhere: ./named}
      secrets: [token]
      labels: {from: file}
      tags: [app:other]
      extra_hosts: ["far=192.0.2.7"]
      ulimits: {nofile: 77}
      shm_size: 2m
      network: none
      no_cache_filter: [second]
      privileged: true
      entitlements: [network.host]
      platforms: [linux/amd64]
      pull: false
secrets: {token: {file: ./token}}
"#
        .replace("        FROM nowhere\n", "")
        .replace(", nowhere: ./named", "")
        .replace("      target: \"\"\n", "")
        .as_str(),
    );
    machine.write("p/token", "hidden\n");
    machine.write("p/named/n", "named\n");
    let ran = machine.run("p", &["build", "app"]);
    assert_eq!(ran.code, 0, "{}{}", ran.stdout, ran.stderr);
    wrote(
        &ran.stderr,
        &[
            " of-base",
            " hidden",
            " argument",
            " 192.0.2.7\tfar",
            " 77",
            " 2048",
            " lo",
            " named",
        ],
    );
    let listed = machine.ok(".", &["image", "ls"]);
    for name in ["main", "other", "demo-base"] {
        assert!(listed.contains(name), "{listed}");
    }
    let labels = &inspect(&machine, "app:other")["Config"]["Labels"];
    assert_eq!(labels["from"], "file");
    machine.assert_clean();
}

#[test]
fn an_image_goes_where_its_outputs_say() {
    let machine = machine();
    machine.write("c/file", "text\n");
    let text = "FROM busybox AS b\nRUN mkdir /d && echo made > /d/m && chmod 600 /d/m\nFROM scratch\nCOPY --from=b /d /d\nCOPY file /\n";
    built(
        &machine,
        text,
        &[
            "-o",
            "out",
            "-o",
            "type=tar,dest=files.tar",
            "-o",
            "type=oci,dest=image.tar",
            "--load",
            "--metadata-file",
            "m.json",
        ],
    );
    let seen = machine.sh(&format!(
        "cd {}/c && cat out/file out/d/m && stat -c %a out/d/m && tar -tf files.tar | sort | tr '\\n' ' ' && tar -tf image.tar | grep -c blobs/",
        machine.path().display()
    ));
    assert!(seen.starts_with("text\nmade\n600\nd/ d/m file "), "{seen}");
    let metadata = fs_err::read_to_string(machine.path().join("c/m.json")).unwrap();
    let metadata: Value = serde_json::from_str(&metadata).unwrap();
    assert_eq!(metadata["image.name"], "built");
    assert_eq!(
        metadata["containerimage.config.digest"],
        inspect(&machine, "built")["Id"]
    );
    machine.assert_clean();
}

#[test]
fn hostile_steps_end_and_leave_nothing() {
    let machine = machine();
    let bomb = "FROM busybox\nRUN while :; do sleep 100000 & done\n";
    let ran = build(&machine, bomb, &[]);
    assert_eq!(ran.code, 1, "{}", ran.stderr);
    assert!(ran.stderr.contains("fork"), "{}", ran.stderr);
    machine.assert_clean();
    let ran = build(
        &machine,
        "FROM busybox\nRUN dd if=/dev/zero of=/big bs=1M\n",
        &["--memory", "64m", "--ulimit", "fsize=1000000"],
    );
    assert_eq!(ran.code, 1, "{}", ran.stderr);
    // Killed while a step runs. What it does goes on until the next build, which has the cache for itself.
    let mount = "RUN --mount=type=cache,id=c,target=/c,sharing=locked";
    let endless = "echo begun; while :; do echo more >>/c/x; done";
    machine.write(
        "c/Dockerfile",
        &format!("FROM busybox\n{mount} {endless}\n"),
    );
    let mut command = machine.stack("c", &["image", "build", "--progress", "plain", "."]);
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().ends_with(" begun")));
    child.kill().unwrap();
    child.wait().unwrap();
    let twice = "wc -c /c/x >/before; usleep 200000; wc -c /c/x | cmp - /before";
    built(&machine, &format!("FROM busybox\n{mount} {twice}\n"), &[]);
    machine.assert_clean();
    let left = machine.sh(&format!(
        "ls {}/lib/tmp {}/run/steps 2>/dev/null | grep -v : || true",
        machine.root().display(),
        machine.root().display()
    ));
    assert!(!left.contains('.'), "{left}");
}

#[test]
fn a_deep_tree_is_a_layer_and_a_fifo_is_no_dockerfile() {
    let machine = machine();
    // Nearly as deep as a path can say it.
    let deep = "FROM busybox\nRUN i=0; while [ $i -lt 1500 ]; do mkdir d && cd d || exit 1; i=$((i+1)); done; touch end\n\
                RUN find / -xdev -name end | tr -dc d | wc -c\n";
    let ran = build(&machine, deep, &[]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    wrote(&ran.stderr, &["1501"]);
    for name in ["c/fifo", "c/Dockerfile.dockerignore"] {
        machine.sh(&format!("mkfifo {}", machine.path().join(name).display()));
    }
    for options in [["-f", "fifo"], ["-f", "Dockerfile"]] {
        let ran = build(&machine, "FROM busybox\n", &options);
        assert_eq!(ran.code, 1, "{}", ran.stderr);
        assert!(ran.stderr.contains("nobody writes to it"), "{}", ran.stderr);
    }
    machine.assert_clean();
}

#[test]
fn a_step_that_writes_without_end_is_interrupted() {
    let machine = machine();
    machine.write("c/Dockerfile", "FROM busybox\nRUN yes\n");
    let mut command = machine.stack("c", &["image", "build", "--progress", "plain", "."]);
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().ends_with(" y")));
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    // To the end of what it writes: were it deaf, there would be none.
    let last = lines.map(|line| line.unwrap()).last();
    assert_eq!(last.as_deref(), Some("error: interrupted"));
    assert_eq!(child.wait().unwrap().code(), Some(130));
    machine.assert_clean();
}

#[test]
fn a_script_with_a_cache_and_a_static_program_on_nothing() {
    let machine = machine();
    machine.write("c/main.sh", "echo compiled\n");
    let text = r#"FROM busybox AS compile
WORKDIR /src
COPY <<END make.sh
set -e
mkdir -p /cache/objects
[ -e /cache/objects/main ] || { echo compiling; cp main.sh /cache/objects/main; }
cp /cache/objects/main /out
END
COPY main.sh .
RUN --mount=type=cache,target=/cache,sharing=locked sh make.sh
FROM scratch
COPY --from=compile /bin/busybox /bin/busybox
COPY --from=compile --chmod=755 /out /main
ENTRYPOINT ["/bin/busybox", "sh", "/main"]
"#;
    wrote(&built(&machine, text, &[]), &[" compiling"]);
    let anew = built(&machine, text, &["--no-cache"]);
    assert!(!anew.contains(" compiling\n"), "{anew}");
    machine.write(
        "p/compose.yaml",
        "name: demo\nservices:\n  a: {image: built}\n",
    );
    let ran = machine.run("p", &["up", "--no-log-prefix"]);
    assert_eq!(
        (ran.code, ran.stdout.as_str()),
        (0, "compiled\na-1 exited with code 0\n"),
        "{}",
        ran.stderr
    );
    machine.ok("p", &["down", "-t", "0"]);
    machine.assert_clean();
}

/// Builds a Dockerfile that must fail; returns what is said at the end, with the test's directory taken away.
fn fault(machine: &Machine, text: &str, options: &[&str]) -> String {
    let ran = build(machine, text, options);
    assert_eq!(ran.code, 1, "{}{}", ran.stdout, ran.stderr);
    said(machine, &ran.stderr)
}

/// Returns the diagnostics of a command's standard error, with the test's directory taken away.
fn said(machine: &Machine, stderr: &str) -> String {
    let from = match stderr.find("\nerror: ") {
        Some(at) if !stderr.starts_with("error: ") => at + 1,
        _ => 0,
    };
    stderr[from..].replace(&format!("{}/", machine.path().display()), "")
}

#[test]
fn what_is_wrong_in_a_dockerfile_is_shown_in_it() {
    let machine = machine();
    let text = "FROM busybox\nRNU true\nCOPY --form=a /a /b\n";
    assert_eq!(
        fault(&machine, text, &[]),
        "error: unknown instruction: RNU
Dockerfile:2
--------------------
   1 |     FROM busybox
   2 | >>> RNU true
     |     ^^^
   3 |     COPY --form=a /a /b
--------------------
help: did you mean RUN?

error: unknown flag: form
Dockerfile:3
--------------------
   1 |     FROM busybox
   2 |     RNU true
   3 | >>> COPY --form=a /a /b
     |          ^^^^^^^^
--------------------
help: did you mean from?
"
    );
    let text = "FROM busybox AS build\nFROM busybox AS two\nRUN true\n";
    assert_eq!(
        fault(&machine, text, &["--target", "biuld"]),
        "error: target stage `biuld` could not be found in `Dockerfile`
help: did you mean `build`?
"
    );
    let text = "FORM busybox\nRUN true\n";
    assert_eq!(
        fault(&machine, text, &[]),
        "error: unknown instruction: FORM
Dockerfile:1
--------------------
   1 | >>> FORM busybox
     |     ^^^^
   2 |     RUN true
--------------------
help: did you mean FROM?
"
    );
    let text = "FROM busybox AS build\nFROM busybox\nCOPY --from=biuld /bin/sh /sh2\n";
    let shown = fault(&machine, text, &[]);
    assert!(shown.starts_with("error: pull image `biuld"), "{shown}");
    assert!(
        shown.ends_with(
            "
Dockerfile:3
--------------------
   1 |     FROM busybox AS build
   2 |     FROM busybox
   3 | >>> COPY --from=biuld /bin/sh /sh2
--------------------
help: did you mean the stage `build`?
"
        ),
        "{shown}"
    );
    let text = "FROM busybox\nCOPY absent /\n";
    assert_eq!(
        fault(&machine, text, &[]),
        "error: \"/absent\": not found in the build context
Dockerfile:2
--------------------
   1 |     FROM busybox
   2 | >>> COPY absent /
--------------------
"
    );
    machine.assert_clean();
}

#[test]
fn what_is_wrong_is_told_before_the_first_step() {
    let machine = machine();
    let text = "FROM busybox AS base
ENV PORT=80
RUN echo it ran
FROM base
ARG KIND=bidn
RUN --mount=type=$KIND,target=/x --mount=type=cache,target=/ true
EXPOSE $PORT-70
";
    let expected = "error: unsupported mount type \"bidn\" (did you mean bind?)
Dockerfile:6
--------------------
   4 |     FROM base
   5 |     ARG KIND=bidn
   6 | >>> RUN --mount=type=$KIND,target=/x --mount=type=cache,target=/ true
     |         ^^^^^^^^^^^^^^^^^^^^^^^^^^^^
   7 |     EXPOSE $PORT-70
--------------------

error: invalid mount target \"/\"
Dockerfile:6
--------------------
   4 |     FROM base
   5 |     ARG KIND=bidn
   6 | >>> RUN --mount=type=$KIND,target=/x --mount=type=cache,target=/ true
     |                                      ^^^^^^^^^^^^^^^^^^^^^^^^^^^
   7 |     EXPOSE $PORT-70
--------------------

error: invalid port `80-70`: it must be like 80, 80/udp or 8000-8010/tcp
Dockerfile:7
--------------------
   5 |     ARG KIND=bidn
   6 |     RUN --mount=type=$KIND,target=/x --mount=type=cache,target=/ true
   7 | >>> EXPOSE $PORT-70
--------------------
";
    for option in ["--progress=plain", "--check"] {
        let ran = build(&machine, text, &[option]);
        assert_eq!((ran.code, ran.stdout.as_str()), (1, ""), "{}", ran.stderr);
        assert_eq!(said(&machine, &ran.stderr), expected, "{option}");
        assert!(!ran.stderr.contains("] RUN"), "{}", ran.stderr);
    }
    // What the contexts do not have, before a step takes long for nothing.
    machine.write("c/.dockerignore", "left\n");
    machine.write("c/left", "out\n");
    machine.write("n/there", "\n");
    let text = "FROM busybox
ENV NAME=absent
RUN echo it ran
COPY there no*match ${NAME} left /d/
COPY --from=named gone there /d/
RUN --mount=type=bind,source=none,target=/s true
";
    machine.write("c/there", "\n");
    let ran = build(&machine, text, &["--build-context=named=../n"]);
    let shown = said(&machine, &ran.stderr);
    let errors: Vec<&str> = shown.lines().filter(|l| l.starts_with("error")).collect();
    assert_eq!(
        errors,
        [
            "error: \"/absent\": not found in the build context",
            "error: \"/left\": excluded by .dockerignore",
            "error: \"/gone\": not found in context `named`",
            "error: \"/none\": not found in the build context",
        ]
    );
    assert!(!ran.stderr.contains("] RUN"), "{}", ran.stderr);
    let text = "FROM busybox\nONBUILD RUN true\nONBUILD COPY gone /\n";
    built(&machine, text, &["-t", "parent"]);
    let shown = fault(&machine, "FROM parent\n", &[]);
    assert!(
        shown.starts_with(
            "error: trigger `COPY gone /` of the base image: \"/gone\": not found in the build context\nDockerfile:1\n"
        ),
        "{shown}"
    );
    // What somebody else has to allow is asked for first too.
    let text = "FROM busybox\nRUN echo it ran\nRUN --network=host true\n";
    let ran = build(&machine, text, &[]);
    assert!(ran.stderr.contains("error: network.host is not allowed"));
    assert!(!ran.stderr.contains("] RUN"), "{}", ran.stderr);
    assert_eq!(build(&machine, text, &["--check"]).code, 0);
    machine.assert_clean();
}

#[test]
fn an_image_that_cannot_be_had_ends_the_build_before_its_step_comes() {
    let machine = machine();
    let text = "FROM busybox\nRUN sleep 1000\nCOPY --from=127.0.0.1:1/nobody/here /a /b\n";
    let shown = fault(&machine, text, &[]);
    assert!(
        shown.starts_with("error: pull image `127.0.0.1:1/nobody/here"),
        "{shown}"
    );
    assert!(shown.contains("\nDockerfile:3\n"), "{shown}");
    machine.assert_clean();
}

#[test]
fn what_a_step_writes_drives_no_terminal() {
    let machine = machine();
    let text = "FROM busybox as odd
RUN printf '10%%\\r20%%\\n\\033[2J\\033]0;t\\007gone\\n'; exit 3
";
    let ran = build(&machine, text, &["--progress=plain"]);
    wrote(&ran.stderr, &[" 10%", " 20%", " gone"]);
    let mut lines = ran.stderr.lines().filter(|line| line.ends_with(" 20%"));
    assert!(lines.all(|line| line.contains("| #2 ")), "{}", ran.stderr);
    let tail = "its output ends with:\n20%\ngone\n";
    assert!(ran.stderr.ends_with(tail), "{}", ran.stderr);
    assert!(
        !ran.stderr.contains(['\r', '\x1b', '\x07']),
        "{}",
        ran.stderr
    );
    // Nor is anything said of style where the ID is all that is wanted.
    assert!(ran.stderr.contains("FromAsCasing"), "{}", ran.stderr);
    let ran = build(&machine, "FROM busybox as odd\n", &["-q"]);
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
    machine.assert_clean();
}

#[test]
fn every_line_of_what_failed_is_shown_under_the_name_that_was_typed() {
    let machine = machine();
    machine.write(
        "c/sub/other",
        "FROM busybox\nRUN true \\\n  # why\n  && false\nUSER a\n",
    );
    let ran = machine.run(".", &["image", "build", "-f", "c/sub/other", "c"]);
    assert_eq!(
        said(&machine, &ran.stderr),
        "error: process \"/bin/sh -c true   && false\" did not complete successfully: exit code: 1
c/sub/other:2
--------------------
   1 |     FROM busybox
   2 | >>> RUN true \\
   3 | >>>   # why
   4 | >>>   && false
   5 |     USER a
--------------------
"
    );
    machine.assert_clean();
}

#[test]
fn what_is_not_wise_is_told_once_and_can_be_asked_for() {
    let machine = machine();
    let text =
        "# one which busybox\nFROM busybox AS One\nRUN --mount=type=secret,id=s true\nCMD echo x\n";
    let progress = built(&machine, text, &[]);
    let casing = "warning: StageNameCasing: Stage name 'One' should be lowercase
Dockerfile:2
--------------------
   1 |     # one which busybox
   2 | >>> FROM busybox AS One
   3 |     RUN --mount=type=secret,id=s true
   4 |     CMD echo x
--------------------
";
    assert_eq!(progress.matches(casing).count(), 1, "{progress}");
    assert_eq!(progress.matches("warning: ").count(), 2, "{progress}");
    for option in ["--check", "--call=check", "--print=lint"] {
        let ran = build(&machine, text, &[option]);
        assert_eq!(ran.code, 1, "{}", ran.stderr);
        assert!(
            ran.stdout.starts_with("Check complete, 2 warnings have been found!\n\nWARNING: StageNameCasing - https://docs.docker.com/go/dockerfile/rule/stage-name-casing/\nStage name 'One' should be lowercase\nDockerfile:2\n"),
            "{}",
            ran.stdout
        );
    }
    let asked = |option: &str| {
        let ran = build(&machine, text, &[option]);
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        ran.stdout
    };
    assert_eq!(
        asked("--call=targets"),
        "TARGET          DESCRIPTION\none (default)   which busybox\n"
    );
    assert_eq!(
        asked("--call=outline"),
        "TARGET:      one\nDESCRIPTION: which busybox\n\nSECRET   REQUIRED\ns\n"
    );
    let json: Value = serde_json::from_str(&asked("--call=targets,format=json")).unwrap();
    assert_eq!(json["targets"][0]["base"], "busybox");
    assert_eq!(build(&machine, text, &["--call=x"]).code, 2);
    // Services that are built from one file have its warnings once.
    machine.write("p/Dockerfile", text);
    machine.write(
        "p/compose.yaml",
        "name: demo\nservices:\n  a: {build: .}\n  b: {build: {context: ., args: {A: b}}}\n",
    );
    let ran = machine.run("p", &["build"]);
    assert_eq!(ran.stderr.matches(casing).count(), 1, "{}", ran.stderr);
    let ran = machine.run("p", &["build", "--check"]);
    assert_eq!(ran.code, 1, "{}", ran.stderr);
    assert!(ran.stdout.contains(", 2 warnings"), "{}", ran.stdout);
    let bake: Value = serde_json::from_str(&machine.ok("p", &["build", "--print", "b"])).unwrap();
    assert_eq!(bake["group"]["default"]["targets"][0], "b");
    assert_eq!(bake["target"]["b"]["args"]["A"], "b");
    assert_eq!(bake["target"]["b"]["tags"][0], "demo-b");
    machine.assert_clean();
}

#[test]
fn a_step_that_fails_is_shown_with_the_end_of_its_output() {
    let machine = machine();
    let text = "FROM busybox\nRUN true\nRUN seq 1 50; echo last words >&2; exit 7\n";
    let drawn = |before: &str, path: &str| {
        let last: String = (32..=50).map(|number| format!("{number}\n")).collect();
        format!(
            "error: {before}process \"/bin/sh -c seq 1 50; echo last words >&2; exit 7\" did not complete successfully: exit code: 7
{path}:3
--------------------
   1 |     FROM busybox
   2 |     RUN true
   3 | >>> RUN seq 1 50; echo last words >&2; exit 7
--------------------
its output ends with:
{last}last words
"
        )
    };
    assert_eq!(fault(&machine, text, &[]), drawn("", "Dockerfile"));
    machine.write("p/w/Dockerfile", text);
    machine.write(
        "p/compose.yaml",
        "name: demo\nservices:\n  web: {build: w}\n",
    );
    for command in ["build", "up"] {
        let ran = machine.run("p", &[command]);
        assert_eq!(ran.code, 1, "{}", ran.stderr);
        assert_eq!(
            said(&machine, &ran.stderr),
            drawn("build image demo-web: ", "w/Dockerfile"),
            "{command}"
        );
    }
    machine.write(
        "p/compose.yaml",
        "name: demo\nservices:\n  web:\n    build:\n      dockerfile_inline: |\n        FROM busybox\n        RUNN x\n",
    );
    let ran = machine.run("p", &["up", "--build"]);
    assert_eq!(
        said(&machine, &ran.stderr),
        "error: build image demo-web: unknown instruction: RUNN
dockerfile_inline:2
--------------------
   1 |     FROM busybox
   2 | >>> RUNN x
     |     ^^^^
--------------------
help: did you mean RUN?
"
    );
    machine.assert_clean();
}
