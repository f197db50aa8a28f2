//! `stack apply` and `stack boot` from outside, on a machine of the test's own.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests")]

mod support;

use std::io::{BufRead, BufReader, Lines};
use std::process::{Child, ChildStdout, Stdio};

use serde_json::Value;
use support::{Machine, Ran};

/// A file of sleeping services.
fn services(names: &[&str]) -> String {
    let services: String = names
        .iter()
        .map(|name| {
            format!("  {name}:\n    image: busybox\n    init: true\n    command: sleep infinity\n")
        })
        .collect();
    format!("name: demo\nservices:\n{services}")
}

/// Reads lines of JSON and checks that each has every key.
fn lines(text: &str) -> Vec<Value> {
    let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
    let lines: Vec<Value> = lines.collect();
    for line in &lines {
        for key in [
            "time", "project", "revision", "kind", "name", "action", "cause", "status", "error",
        ] {
            assert!(line.get(key).is_some(), "{key} is missing: {line}");
        }
    }
    lines
}

/// `action kind name: status` of each line.
fn told(lines: &[Value]) -> Vec<String> {
    let word = |line: &Value, key: &str| line[key].as_str().unwrap().to_owned();
    lines
        .iter()
        .map(|line| {
            let [action, kind, name, status] =
                ["action", "kind", "name", "status"].map(|key| word(line, key));
            format!("{action} {kind} {name}: {status}")
        })
        .collect()
}

/// Makes a repository of the machine's file tree `repo` and returns its URL.
fn repository(machine: &Machine) -> String {
    commit(machine, "first");
    format!("file://{}", machine.path().join("repo").display())
}

/// Commits everything in `repo`; returns the commit.
fn commit(machine: &Machine, message: &str) -> String {
    let id = machine.sh(&format!(
        "cd repo && git init -q -b main . && git add -A && \
         git -c user.name=t -c user.email=t@example.invalid commit -q --allow-empty -m {message} && git rev-parse HEAD"
    ));
    id.trim().to_owned()
}

/// Ids of the running containers of `demo`.
fn running(machine: &Machine) -> Vec<String> {
    let ids = machine.ok(".", &["-p", "demo", "ps", "-q"]);
    let mut ids: Vec<String> = ids.lines().map(str::to_owned).collect();
    ids.sort();
    ids
}

/// Names of the running containers of `demo`.
fn names(machine: &Machine) -> Vec<String> {
    let listed = machine.ok(".", &["-p", "demo", "ps", "--format", "json"]);
    let mut names: Vec<String> = listed
        .lines()
        .map(|line| {
            let container: Value = serde_json::from_str(line).unwrap();
            container["Name"].as_str().unwrap().to_owned()
        })
        .collect();
    names.sort();
    names
}

fn down(machine: &Machine) {
    machine.ok(".", &["-p", "demo", "down", "-t", "0"]);
    machine.assert_clean();
}

#[test]
fn a_file_is_applied_once_and_then_nothing_changes() {
    let machine = Machine::new();
    machine.import_busybox();
    machine.write("p/other.yaml", &services(&["web"]));
    let planned = machine.ok(".", &["apply", "--dry-run", "p/other.yaml"]);
    assert!(planned.contains("create container demo-web-1"), "{planned}");
    assert_eq!(running(&machine), Vec::<String>::new());
    let code = ["apply", "--dry-run", "--detailed-exitcode", "p/other.yaml"];
    assert_eq!(machine.run(".", &code).code, 4);

    let first = lines(&machine.ok(".", &["apply", "p/other.yaml"]));
    let expected = [
        "create network demo_default: done",
        "create container demo-web-1: done",
        "start container demo-web-1: done",
        "apply project demo: done",
    ];
    let mut sorted = told(&first);
    sorted.sort_by_key(|line| expected.iter().position(|expected| expected == line));
    assert_eq!(sorted, expected);
    assert_eq!(first.last().unwrap()["changes"], 3);
    let before = running(&machine);

    let second = lines(&machine.ok(".", &["apply", "p/other.yaml"]));
    assert_eq!(told(&second), ["apply project demo: done"]);
    assert_eq!(second[0]["changes"], 0);
    assert_eq!(running(&machine), before);
    assert_eq!(machine.ok(".", &["apply", "--dry-run", "p/other.yaml"]), "");
    assert_eq!(machine.run(".", &code).code, 0);
    assert_eq!(
        machine.ok(".", &["apply", "--json=false", "p/other.yaml"]),
        ""
    );
    down(&machine);
}

#[test]
fn what_a_directory_no_longer_names_goes_but_its_volume_stays() {
    let machine = Machine::new();
    machine.import_busybox();
    let old = services(&["web", "old"])
        + "    networks: [side]\n    volumes: ['data:/data']\nnetworks:\n  side:\nvolumes:\n  data:\n";
    machine.write("p/compose.yaml", &old);
    machine.ok(".", &["apply", "p"]);
    let network = "p/../stack/lib/networks/demo_side.json";
    assert!(machine.path().join(network).exists());

    machine.write("p/compose.yaml", &services(&["web"]));
    let planned = machine.ok(".", &["apply", "p", "--dry-run", "--json"]);
    let expected = [
        "stop container demo-old-1",
        "remove container demo-old-1",
        "remove network demo_side",
    ];
    let all = told(&lines(&planned));
    for line in expected {
        assert!(all.contains(&format!("{line}: planned")), "{all:?}");
    }
    assert_eq!(names(&machine), ["demo-old-1", "demo-web-1"]);
    let done = lines(&machine.ok(".", &["apply", "p"]));
    let causes: Vec<_> = done.iter().map(|line| line["cause"].clone()).collect();
    assert_eq!(
        told(&done)[..3],
        expected.map(|line| format!("{line}: done"))
    );
    let orphan = "service old is not in the file";
    assert_eq!(
        causes,
        [
            orphan.into(),
            orphan.into(),
            "not in the file".into(),
            Value::Null
        ]
    );
    assert!(!machine.path().join(network).exists());
    assert!(machine.root().join("lib/volumes/demo_data/_data").is_dir());
    down(&machine);
    machine.sh("rm -rf stack/lib/volumes/demo_data");
}

#[test]
fn a_revision_of_a_repository_is_applied_with_its_files() {
    let machine = Machine::new();
    machine.import_busybox();
    let mounting = services(&["still", "web"]) + "    volumes: ['./page:/page:ro']\n";
    machine.write("repo/deploy/compose.yaml", &mounting);
    machine.write("repo/deploy/page/index.html", "first\n");
    let url = repository(&machine);
    let source = format!("{url}#main:deploy");
    let first = commit(&machine, "same");
    let done = lines(&machine.ok(".", &["apply", &source]));
    assert!(
        done.iter().all(|line| line["revision"] == first.as_str()),
        "{done:?}"
    );
    let page = |machine: &Machine| {
        let exec = ["-p", "demo", "exec", "-T", "web", "cat", "/page/index.html"];
        machine.ok(".", &exec)
    };
    assert_eq!(page(&machine), "first\n");
    let still = ["-p", "demo", "ps", "-q", "still"];
    let before = machine.ok(".", &still);

    machine.write("repo/deploy/page/index.html", "second\n");
    let second = commit(&machine, "second");
    // Nothing changes under a running container.
    assert_eq!(page(&machine), "first\n");
    machine.ok(".", &["apply", &source]);
    assert_eq!(page(&machine), "second\n");
    assert_eq!(
        machine.ok(".", &still),
        before,
        "what mounts nothing of the repository was recreated"
    );
    let again = lines(&machine.ok(".", &["apply", &source]));
    assert_eq!(told(&again), ["apply project demo: done"]);

    // Back, by commit; then by a tag; the tree of `second` is gone as soon as nothing uses it.
    machine.ok(".", &["apply", &format!("{url}#{first}:deploy")]);
    assert_eq!(page(&machine), "first\n");
    machine.sh("cd repo && git -c user.name=t -c user.email=t@example.invalid tag -a -m t v2");
    let tagged = lines(&machine.ok(".", &["apply", &format!("{url}#v2:deploy")]));
    assert_eq!(tagged[0]["revision"], second.as_str());
    assert_eq!(page(&machine), "second\n");
    down(&machine);
    assert_eq!(
        machine.sh("ls stack/lib/cache/git/*/trees"),
        "",
        "trees of a project that is down"
    );
}

#[test]
fn an_image_is_built_again_for_a_new_commit_only() {
    let machine = Machine::new();
    machine.import_busybox();
    let file = "services:\n  web:\n    build: .\n    init: true\n    command: sleep infinity\n";
    machine.write("repo/compose.yaml", file);
    machine.write("repo/Dockerfile", "FROM busybox\nCOPY page /page\n");
    machine.write("repo/page", "first\n");
    let url = repository(&machine);
    let built = told(&lines(&machine.ok(".", &["apply", &url])));
    assert!(
        built.contains(&"build image repo-web: done".to_owned()),
        "{built:?}"
    );
    assert_eq!(
        told(&lines(&machine.ok(".", &["apply", &url]))),
        ["apply project repo: done"]
    );
    machine.write("repo/README", "unused by the image\n");
    commit(&machine, "readme");
    machine.write("repo/page", "second\n");
    commit(&machine, "page");
    let built = told(&lines(&machine.ok(".", &["apply", &url])));
    assert!(
        built.contains(&"build image repo-web: done".to_owned()),
        "{built:?}"
    );
    let page = machine.ok(".", &["-p", "repo", "exec", "-T", "web", "cat", "/page"]);
    assert_eq!(page, "second\n");
    machine.ok(".", &["-p", "repo", "down", "-t", "0"]);
    machine.assert_clean();
}

#[test]
fn hostile_and_wrong_sources_do_nothing_but_say_so() {
    let machine = Machine::new();
    machine.write("repo/compose.yaml", &services(&["web"]));
    machine.write("repo/empty/x", "");
    machine.sh("cd repo && ln -s /etc etc && ln -s ../.. up && mkdir file && ln -s /etc/passwd file/compose.yaml");
    let url = repository(&machine);
    let marker = machine.path().join("ran");
    // A helper protocol, and an upload-pack that would make the marker.
    let touch = format!("touch {}", marker.display());
    let rows = [
        (format!("{url}#--upload-pack={touch}"), 2, "git ref"),
        (format!("{url}#--upload-pack=x"), 2, "git ref"),
        (format!("{url}#main:../.."), 2, "must be relative"),
        (format!("{url}#main:/etc"), 2, "must be relative"),
        (
            format!("ssh://-oProxyCommand={}/r", marker.display()),
            2,
            "`-`",
        ),
        ("ext://sh".to_owned(), 2, "https://"),
        (
            format!("ext::sh -c touch% {}", marker.display()),
            1,
            "no file or directory",
        ),
        (format!("{url}#main:etc"), 1, "leads out of the repository"),
        (format!("{url}#main:up"), 1, "leads out of the repository"),
        (format!("{url}#main:file"), 1, "leads out of the repository"),
        (format!("{url}#main:missing"), 1, "no directory `missing`"),
        (format!("{url}#main:empty"), 1, "no Compose file"),
        (
            format!("{url}#missing"),
            1,
            "no branch, tag or commit `missing`",
        ),
        (
            format!("{url}#{}", "0".repeat(40)),
            1,
            "no branch, tag or commit `000",
        ),
        (format!("{url}-missing"), 1, "repo-missing"),
        // Nobody listens there; the password is nobody's business.
        (
            "http://user:hunter2@127.0.0.1:9/r".to_owned(),
            1,
            "http://user@127.0.0.1:9/r",
        ),
    ];
    for (source, code, said) in rows {
        let ran = machine.run(".", &["apply", &source]);
        assert_eq!(ran.code, code, "{source}\n{}", ran.stderr);
        assert!(ran.stderr.contains(said), "{source}\n{}", ran.stderr);
        assert!(
            !ran.stderr.contains("hunter2") && !ran.stdout.contains("hunter2"),
            "{ran:?}"
        );
        if code == 1 {
            let last = lines(&ran.stdout);
            assert!(
                last.iter().all(|line| line["status"] == "failed"),
                "{}",
                ran.stdout
            );
        }
    }
    let mut hidden = machine.command(".", "env");
    hidden.args(["PATH=/nonexistent", env!("CARGO_BIN_EXE_stack"), "--root"]);
    let hidden = hidden.arg(machine.root()).args(["apply", &url]).output();
    let ran = Ran::of(&hidden.unwrap());
    assert_eq!(ran.code, 1);
    assert!(
        ran.stderr.contains("there is no program `git`"),
        "{}",
        ran.stderr
    );
    assert!(!marker.exists());
    machine.assert_clean();
}

#[test]
fn nothing_of_a_repository_runs_while_it_is_fetched() {
    let machine = Machine::new();
    machine.import_busybox();
    let marker = machine.path().join("ran");
    machine.write("repo/compose.yaml", &services(&["web"]));
    machine.write("repo/.gitattributes", "*.dat filter=evil\n");
    machine.write("repo/x.dat", "data\n");
    machine.write(
        ".gitconfig",
        &format!(
            "[filter \"evil\"]\n smudge = touch {0}; cat\n[core]\n hooksPath = {1}/hooks\n",
            marker.display(),
            machine.path().display()
        ),
    );
    for hook in [
        "post-checkout",
        "reference-transaction",
        "post-index-change",
    ] {
        machine.write(
            &format!("hooks/{hook}"),
            &format!("#!/bin/sh\ntouch {}\n", marker.display()),
        );
    }
    let url = repository(&machine);
    machine.sh("chmod +x hooks/* && rm -f ran");
    machine.ok(".", &["apply", &url]);
    assert!(!marker.exists());
    down(&machine);
}

/// A `stack apply` that goes on.
struct Following {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Following {
    fn start(machine: &Machine, args: &[&str]) -> Self {
        let mut command = machine.stack(".", args);
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    /// Returns the next line that sums a round up.
    fn round(&mut self) -> Value {
        loop {
            let line = self.lines.next().expect("it ended").unwrap();
            let line: Value = serde_json::from_str(&line).unwrap();
            if line["kind"] == "project" {
                return line;
            }
        }
    }

    /// Sends a signal and returns the exit code.
    fn end(mut self, signal: rustix::process::Signal) -> i32 {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).unwrap();
        self.child.wait().unwrap().code().unwrap()
    }
}

#[test]
fn an_interval_follows_commits_tells_failures_and_heals() {
    let machine = Machine::new();
    machine.import_busybox();
    machine.write("repo/compose.yaml", &services(&["web"]));
    let url = repository(&machine);
    let mut following = Following::start(&machine, &["apply", &url, "--interval", "20ms"]);
    let first = following.round();
    assert_eq!(
        (&first["status"], &first["changes"]),
        (&"done".into(), &3.into())
    );

    machine.write("repo/compose.yaml", &services(&["web", "more"]));
    let second = commit(&machine, "more");
    let round = following.round();
    assert_eq!(
        (&round["revision"], &round["changes"]),
        (&second.as_str().into(), &2.into())
    );
    assert_eq!(names(&machine), ["demo-more-1", "demo-web-1"]);

    machine.write("repo/compose.yaml", "services: [\n");
    let broken = commit(&machine, "broken");
    let round = following.round();
    assert_eq!(
        (&round["revision"], &round["status"]),
        (&broken.as_str().into(), &"failed".into())
    );
    assert!(
        round["error"].as_str().unwrap().contains("compose.yaml"),
        "{round}"
    );
    assert_eq!(names(&machine), ["demo-more-1", "demo-web-1"]);

    machine.write("repo/compose.yaml", &services(&["web"]));
    let fixed = commit(&machine, "fixed");
    let round = loop {
        // The broken one may be told several times.
        let round = following.round();
        if round["revision"] == fixed.as_str() {
            break round;
        }
    };
    assert_eq!(round["status"], "done");
    assert_eq!(names(&machine), ["demo-web-1"]);

    // Somebody takes the container away; the source has not changed.
    machine.ok(".", &["-p", "demo", "down", "-t", "0"]);
    let round = loop {
        let round = following.round();
        if round["changes"] != 0 && names(&machine) == ["demo-web-1"] {
            break round;
        }
    };
    assert_eq!(round["revision"], fixed.as_str());
    assert_eq!(following.end(rustix::process::Signal::TERM), 0);
    let following = Following::start(&machine, &["apply", &url, "--interval", "1h"]);
    let mut following = following;
    assert_eq!(following.round()["changes"], 0);
    assert_eq!(following.end(rustix::process::Signal::INT), 130);
    down(&machine);
}

#[test]
fn apply_killed_halfway_is_finished_by_the_next_one() {
    let machine = Machine::new();
    machine.import_busybox();
    machine.write("repo/compose.yaml", &services(&["a", "b", "c", "d"]));
    let url = repository(&machine);
    for milliseconds in [3, 10, 20, 40, 60, 80, 120, 160] {
        // The number is where the kill falls, not a wait for anything.
        let stack = env!("CARGO_BIN_EXE_stack");
        let root = machine.root();
        machine.sh(&format!(
            "timeout -s KILL 0.{milliseconds:03} {stack} --root {} apply {url} >/dev/null 2>&1 || true",
            root.display()
        ));
        machine.ok(".", &["apply", &url]);
        assert_eq!(running(&machine).len(), 4);
        down(&machine);
        machine.sh("rm -rf stack/lib/cache/git");
    }
}

/// Ends everything of the root at once and forgets what a boot forgets. Monitors are stopped before any dies, since a living one
/// would bring its container back.
fn crash(machine: &Machine) {
    let script = r#"
        monitors=$(for p in /proc/[0-9]*; do
            tr '\0' ' ' < $p/cmdline 2>/dev/null | grep -q "monitor .*--root $ROOT/lib" && echo ${p#/proc/}
        done)
        kill -STOP $monitors
        kill -KILL $monitors
        for group in $(find /sys/fs/cgroup -maxdepth 4 -name stack-$(cat $ROOT/lib/instance)); do
            until [ -z "$(find $group -name cgroup.procs -exec cat {} +)" ]; do
                find $group -name cgroup.procs -exec cat {} + | xargs -r kill -KILL
            done
            find $group -depth -type d -exec rmdir {} +
        done
        for link in $(ip -o link | cut -d: -f2 | cut -d@ -f1); do
            [ $link = lo ] || ip link del $link || true
        done
        nft flush ruleset
        while read -r _ at _; do case $at in $ROOT/*) umount -l $at;; esac; done < /proc/mounts
        rm -rf $ROOT/run
    "#;
    machine.sh(&format!(
        "ROOT={}; ({script}) 2>/dev/null",
        machine.root().display()
    ));
}

#[test]
#[expect(clippy::too_many_lines, reason = "one boot, looked at from every side")]
fn boot_brings_back_what_should_run_and_nothing_else() {
    let machine = Machine::new();
    machine.import_busybox();
    let service = |name: &str, more: &str| {
        format!(
            "  {name}:\n    image: busybox\n    init: true\n    command: sleep infinity\n{more}"
        )
    };
    let file = format!(
        "name: demo\nservices:\n{}{}{}{}{}{}volumes:\n  data:\n",
        service(
            "db",
            "    restart: unless-stopped\n    volumes: ['data:/data']\n    healthcheck: {test: 'true', interval: 50ms}\n"
        ),
        service(
            "web",
            "    restart: always\n    ports: ['18080:80']\n    depends_on:\n      db: {condition: service_healthy}\n"
        ),
        service(
            "shares",
            "    restart: always\n    network_mode: 'service:web'\n"
        ),
        service("failed", "    restart: on-failure\n"),
        service("by-hand", "    restart: unless-stopped\n"),
        service("never", ""),
    );
    machine.write("p/compose.yaml", &file);
    machine.ok(".", &["apply", "p"]);
    machine.ok(
        ".",
        &[
            "-p",
            "demo",
            "exec",
            "-T",
            "db",
            "sh",
            "-c",
            "echo kept > /data/file",
        ],
    );
    let address = |service: &str| {
        machine.ok(
            ".",
            &["-p", "demo", "exec", "-T", service, "hostname", "-i"],
        )
    };
    let addresses = ["db", "web", "failed"].map(address);
    stop_by_hand(&machine, "by-hand");

    crash(&machine);
    assert_eq!(names(&machine), Vec::<String>::new());
    let planned = machine.ok(".", &["boot", "--dry-run"]);
    let order = ["demo-db-1", "demo-web-1", "demo-shares-1"].map(|name| {
        planned
            .find(&format!("start container {name}"))
            .unwrap_or_else(|| panic!("{planned}"))
    });
    assert!(order.is_sorted(), "{planned}");
    machine.ok(".", &["boot"]);
    let expected = ["demo-db-1", "demo-failed-1", "demo-shares-1", "demo-web-1"];
    assert_eq!(names(&machine), expected);
    assert_eq!(["db", "web", "failed"].map(address), addresses);
    let exec = ["-p", "demo", "exec", "-T"];
    let run = |args: &[&str]| machine.ok(".", &[&exec[..], args].concat());
    assert_eq!(run(&["db", "cat", "/data/file"]), "kept\n");
    // Names, the way in through a published port, and the firewall are there again.
    run(&["web", "sh", "-c", "echo hello > /tmp/page; httpd -h /tmp"]);
    let page = machine.sh("timeout 20 busybox wget -q -O - http://127.0.0.1:18080/page");
    assert_eq!(page, "hello\n");

    let before = running(&machine);
    assert_eq!(machine.ok(".", &["boot", "--dry-run"]), "");
    machine.ok(".", &["boot"]);
    assert_eq!(running(&machine), before);
    // Without `boot`, the next command that brings the project up repairs as much.
    crash(&machine);
    machine.ok(".", &["apply", "p"]);
    run(&["web", "nslookup", "db"]);
    // And the file is what it was: applying it starts only what boot rightly left.
    let after = told(&lines(&machine.ok(".", &["apply", "p"])));
    assert!(
        !after
            .iter()
            .any(|line| line.contains("create") || line.contains("stop")),
        "{after:?}"
    );
    down(&machine);
    machine.sh("rm -rf stack/lib/volumes/demo_data");
}

/// Stops a service by the interrupt of an attached `up`.
fn stop_by_hand(machine: &Machine, service: &str) {
    let mut up = machine.stack("p", &["up", "--no-deps", service]);
    let mut up = up
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(up.stderr.take().unwrap()).lines();
    assert!(said.any(|line| line.unwrap().starts_with("Attaching")));
    let pid = rustix::process::Pid::from_child(&up);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    said.for_each(drop);
    assert_eq!(up.wait().unwrap().code(), Some(130));
}

#[test]
fn what_did_not_reach_the_disk_before_the_power_was_lost_keeps_nobody_from_anything() {
    let machine = Machine::new();
    machine.import_busybox();
    let file = "name: demo\nservices:\n  a:\n    image: busybox\n    init: true\n    command: sleep infinity\n  \
                b:\n    image: busybox\n    init: true\n    command: sleep infinity\n    volumes: ['data:/data']\nvolumes:\n  data:\n";
    machine.write("p/compose.yaml", file);
    machine.ok("p", &["up", "-d"]);
    machine.ok("p", &["exec", "a", "sh", "-c", "echo kept > /in-a"]);
    machine.ok("p", &["exec", "b", "sh", "-c", "echo kept > /data/in-b"]);
    let id = |name: &str| machine.sh(&format!("readlink stack/lib/names/demo-{name}-1"));
    let (a, b) = (id("a"), id("b"));
    let (a, b) = (a.trim(), b.trim());
    crash(&machine);
    for lost in [
        format!("containers/{a}/record.json"),
        format!("logs/{a}.json"),
        format!("containers/{b}/exit.json"),
        format!("leases/{b}.json"),
        "volumes/demo_data/volume.json".to_owned(),
    ] {
        fs_err::write(machine.root().join("lib").join(lost), "").unwrap();
    }
    let pruned = machine.run("p", &["image", "prune", "-f"]);
    assert_eq!(pruned.code, 1);
    let told = format!("the lease of container {b} did not reach the disk");
    assert!(pruned.stderr.contains(&told), "{}", pruned.stderr);

    let up = machine.run("p", &["up", "-d"]);
    assert_eq!(up.code, 0, "{}", up.stderr);
    let kept = machine.root().join("lib/damaged/containers").join(a);
    let told = format!("what is left of it is in `{}`", kept.display());
    assert!(up.stderr.contains(&told), "{}", up.stderr);
    assert_eq!(
        fs_err::read_to_string(kept.join("gen/1/upper/in-a")).unwrap(),
        "kept\n"
    );
    assert_eq!(names(&machine), ["demo-a-1", "demo-b-1"]);
    assert_eq!(
        machine.ok("p", &["exec", "b", "cat", "/data/in-b"]),
        "kept\n"
    );
    machine.ok("p", &["image", "prune", "-f"]);
    machine.ok("p", &["system", "df"]);
    machine.ok("p", &["down", "-v", "-t", "0"]);
    let left = machine
        .sh("ls stack/lib/containers stack/lib/leases stack/lib/volumes | grep -v using$ || true");
    assert!(
        !left.contains(a) && !left.contains(b) && !left.contains("demo_data"),
        "{left}"
    );
    machine.assert_clean();
}
