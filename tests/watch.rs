//! `stack watch` and `up --watch` with the real binary: files are saved as editors save them, and containers are looked into.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::excessive_nesting,
    reason = "helpers of tests"
)]

mod support;

use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use support::Machine;

/// Longest wait for anything; nothing takes a tenth of it.
const PATIENCE: Duration = Duration::from_mins(1);

/// A command that goes on, read line by line.
struct Watching {
    child: Child,
    lines: Receiver<String>,
    heard: Vec<String>,
}

impl Watching {
    /// Starts `stack ARGS` in `p`.
    fn start(machine: &Machine, args: &[&str]) -> Self {
        let mut command = machine.stack("p", args);
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (sender, lines) = channel();
        let streams: [Box<dyn Read + Send>; 2] = [
            Box::new(child.stderr.take().unwrap()),
            Box::new(child.stdout.take().unwrap()),
        ];
        for stream in streams {
            let sender = sender.clone();
            std::thread::spawn(move || {
                for line in BufReader::new(stream).lines() {
                    let Ok(line) = line else { break };
                    if sender.send(line).is_err() {
                        break;
                    }
                }
            });
        }
        Self {
            child,
            lines,
            heard: Vec::new(),
        }
    }

    /// Starts `stack watch` and waits until it watches.
    fn watch(machine: &Machine) -> Self {
        let mut watching = Self::start(machine, &["watch"]);
        watching.hear("watch  enabled");
        watching
    }

    /// Waits for a line that contains `words`.
    fn hear(&mut self, words: &str) -> String {
        loop {
            match self.lines.recv_timeout(PATIENCE) {
                Ok(line) => {
                    self.heard.push(line.clone());
                    if line.contains(words) {
                        return line;
                    }
                }
                Err(error) => panic!(
                    "{words:?} was not said ({error}):\n{}",
                    self.heard.join("\n")
                ),
            }
        }
    }

    /// Waits for lines that contain each of `words`, in any order.
    fn hear_all(&mut self, words: &[&str]) {
        let mut missing = words.to_vec();
        while !missing.is_empty() {
            let line = self.hear("");
            missing.retain(|words| !line.contains(words));
        }
    }

    /// Presses Ctrl-C and returns the exit code.
    fn interrupt(mut self) -> i32 {
        let pid = rustix::process::Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
        let mut ended = None;
        until(&true, || {
            ended = self.child.try_wait().unwrap();
            ended.is_some()
        });
        ended.unwrap().code().unwrap()
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// Waits until `found` gives what is wanted.
#[track_caller]
fn until<T: PartialEq + std::fmt::Debug>(wanted: &T, mut found: impl FnMut() -> T) {
    let started = Instant::now();
    loop {
        let now = found();
        if now == *wanted {
            return;
        }
        assert!(
            started.elapsed() < PATIENCE,
            "{now:?} instead of {wanted:?}"
        );
        std::thread::yield_now();
    }
}

/// Returns the ids of a service's containers.
fn ids(machine: &Machine, service: &str) -> Vec<String> {
    let ids = machine.ok("p", &["ps", "-q", "--no-trunc", service]);
    ids.lines().map(str::to_owned).collect()
}

/// Returns the root that a container's first process sees, if one runs.
fn root(machine: &Machine, id: &str) -> Option<PathBuf> {
    let live = machine.root().join("run/s").join(format!("{id}.json"));
    let live: serde_json::Value = serde_json::from_slice(&fs_err::read(live).ok()?).ok()?;
    let pid = live.get("init")?.get("pid")?.as_i64()?;
    Some(PathBuf::from(format!("/proc/{pid}/root")))
}

/// Kills a container's first process, if one runs.
fn end_init(machine: &Machine, id: &str) {
    let Some(root) = root(machine, id) else {
        return;
    };
    let pid = root
        .components()
        .nth(2)
        .unwrap()
        .as_os_str()
        .to_str()
        .unwrap();
    let pid = rustix::process::Pid::from_raw(pid.parse().unwrap()).unwrap();
    let _ended = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
}

/// Reads a file of a container.
fn read(machine: &Machine, id: &str, path: &str) -> Option<String> {
    let path = root(machine, id)?.join(path.trim_start_matches('/'));
    fs_err::read_to_string(path).ok()
}

/// A project of one service that sleeps, with `extra` and these rules.
fn project(machine: &Machine, extra: &str, rules: &str) {
    networked(machine, "    network_mode: none\n", extra, rules);
}

/// The same with another line about its network.
fn networked(machine: &Machine, network: &str, extra: &str, rules: &str) {
    let indent = |text: &str, by: &str| -> String {
        text.lines().map(|line| format!("{by}{line}\n")).collect()
    };
    let text = format!(
        "name: demo\nservices:\n  web:\n    init: true\n{network}{}    develop:\n      watch:\n{}",
        indent(extra, "    "),
        indent(rules, "        ")
    );
    machine.write("p/compose.yaml", &text);
}

const SLEEPS: &str = "image: busybox\ncommand: sleep infinity";
const SYNC: &str = "- action: sync\n  path: ./src\n  target: /app";

/// Replaces a file as vim does: aside, anew, away.
fn save_by_rename(machine: &Machine, name: &str, text: &str) {
    let path = machine.path().join(name);
    let temporary = machine.write(&format!("{name}.new"), text);
    fs_err::rename(temporary, path).unwrap();
}

#[test]
fn a_save_is_seen_in_the_container_at_once() {
    let machine = Machine::new();
    machine.import_busybox();
    machine.write("p/src/file", "0");
    project(&machine, SLEEPS, SYNC);
    let watching = Watching::watch(&machine);
    let id = ids(&machine, "web").remove(0);
    let seen = root(&machine, &id).unwrap().join("app/file");
    let mut times = Vec::new();
    for number in 1..=20 {
        let text = format!("content {number}");
        let saved = Instant::now();
        if number % 2 == 0 {
            machine.write("p/src/file", &text);
        } else {
            save_by_rename(&machine, "p/src/file", &text);
        }
        until(&Some(text), || fs_err::read_to_string(&seen).ok());
        times.push(saved.elapsed());
    }
    times.sort();
    let (least, middle, most) = (times[0], times[10], times[19]);
    println!("save to seen: least {least:?}, median {middle:?}, most {most:?}");
    assert!(least < Duration::from_millis(50), "{times:?}");
    assert_eq!(watching.interrupt(), 130);
    // It leaves the containers as they are.
    assert_eq!(ids(&machine, "web"), [id]);
    machine.ok("p", &["down", "-t", "0"]);
    machine.assert_clean();
}

#[test]
fn thousands_of_files_at_once_all_arrive() {
    let machine = Machine::new();
    machine.import_busybox();
    machine.write("p/src/file", "0");
    project(&machine, SLEEPS, SYNC);
    let watching = Watching::watch(&machine);
    let id = ids(&machine, "web").remove(0);
    let target = root(&machine, &id).unwrap().join("app");
    let count =
        |path: &std::path::Path| machine.sh(&format!("find {} -type f | wc -l", path.display()));
    for (script, expected) in [
        (
            "for d in $(seq 40); do mkdir -p src/$d && for f in $(seq 50); do echo $d $f > src/$d/$f; done; done",
            "2000\n",
        ),
        ("for d in $(seq 40); do mv src/$d src/to$d; done", "2000\n"),
        ("rm -r src/to1*; sed -i s/^/x/ src/to2*/*", "1450\n"),
    ] {
        machine.sh(&format!("cd p && {script}"));
        let saved = Instant::now();
        until(&expected.to_owned(), || count(&target));
        let (from, to) = (machine.path().join("p/src"), target.display());
        until(&0, || {
            // Nothing that the host does not have, and nothing else than it has.
            let diff = machine
                .command(".", "diff")
                .arg("-rq")
                .arg(&from)
                .arg(to.to_string())
                .output();
            let lines = String::from_utf8(diff.unwrap().stdout).unwrap();
            lines
                .lines()
                .filter(|line| !line.ends_with("src: file"))
                .count()
        });
        println!(
            "2000 files: {:?} after the last was written",
            saved.elapsed()
        );
    }
    drop(watching);
    machine.ok("p", &["down", "-t", "0"]);
    machine.assert_clean();
}

#[test]
fn every_replica_follows_new_trees_modes_links_and_deletions() {
    let machine = Machine::new();
    machine.import_busybox();
    machine.write("p/src/old/file", "old");
    machine.write("p/src/keep", "kept");
    // The target is behind a link that leads out of the container, were it not for its root.
    let setup = "image: busybox\nscale: 2\ncommand: sh -c 'mkdir -p /real/old; cp /etc/passwd /real/old/file; \
                 ln -s ../../../real /app; touch /ready; sleep infinity'";
    project(
        &machine,
        setup,
        &format!("{SYNC}\n  ignore: [skip/, '*.log']"),
    );
    let mut watching = Watching::watch(&machine);
    let ids = ids(&machine, "web");
    assert_eq!(ids.len(), 2);
    for id in &ids {
        until(&Some(String::new()), || read(&machine, id, "/ready"));
    }
    machine.sh(
        "cd p/src && mkdir -p skip a/b/c && echo x > skip/no && echo x > no.log && echo deep > a/b/c/file && \
         printf run > tool && chmod 751 tool && ln -s tool link && rm -r old && echo x > file~ && mkdir empty",
    );
    watching.hear("synced");
    let tree = |id: &String| {
        let root = root(&machine, id).unwrap();
        machine.sh(&format!(
            "cd {}/real && find . -printf '%p %y %m %l\\n' | sort",
            root.display()
        ))
    };
    let expected = ". d 755 \n./a d 755 \n./a/b d 755 \n./a/b/c d 755 \n./a/b/c/file f 644 \n./empty d 755 \n./link l 777 tool\n./tool f 751 \n";
    for id in &ids {
        until(&expected.to_owned(), || tree(id));
    }
    machine.sh("cd p/src && rm -r a && mv tool moved");
    let expected = ". d 755 \n./empty d 755 \n./link l 777 tool\n./moved f 751 \n";
    for id in &ids {
        until(&expected.to_owned(), || tree(id));
    }
    drop(watching);
    machine.ok("p", &["down", "-t", "0"]);
    machine.assert_clean();
}

#[test]
fn restart_and_sync_restart_keep_the_container_and_its_address() {
    let machine = Machine::new();
    machine.import_busybox();
    machine.write("p/src/file", "first\n");
    machine.write("p/conf/file", "one\n");
    let says = "image: busybox\nvolumes: ['./conf:/conf']\nstop_grace_period: 1s\n\
                command: sh -c 'cat /app/file /conf/file; hostname -i; exec sleep infinity'";
    let rules = "- action: sync+restart\n  path: ./src\n  target: /app\n- action: restart\n  path: ./conf\n\
                 - action: sync\n  path: ./conf\n  target: /conf/x";
    networked(&machine, "", says, rules);
    let mut watching = Watching::start(&machine, &["watch"]);
    watching.hear("is not synced, because its target is in the bind mount `/conf`");
    watching.hear("watch  enabled");
    let before = ids(&machine, "web");
    machine.write("p/src/file", "second\n");
    watching.hear("synced 1 file, restarted 1 container");
    let log = || machine.ok("p", &["logs", "--no-log-prefix", "web"]);
    let mut lines = Vec::new();
    let mut said = |times: usize| {
        until(&times, || {
            lines = log().lines().map(str::to_owned).collect();
            lines.iter().filter(|line| line.contains('.')).count()
        });
    };
    // It has read the file before that is written again: a write empties it first.
    said(2);
    machine.write("p/conf/file", "two\n");
    watching.hear("restarted 1 container");
    said(3);
    let address = lines.last().unwrap().clone();
    lines.retain(|line| !line.starts_with("cat:"));
    let expected = [
        "one", &address, "second", "one", &address, "second", "two", &address,
    ];
    assert_eq!(lines, expected);
    assert_eq!(ids(&machine, "web"), before);
    drop(watching);
    machine.ok("p", &["down", "-t", "0"]);
    machine.assert_clean();
}

const BUILDS: &str = "build: .\ncommand: sleep infinity\nstop_grace_period: 0s";
const REBUILD: &str =
    "- action: rebuild\n  path: ./src\n- action: sync\n  path: ./live\n  target: /live";

#[test]
fn a_newer_save_supersedes_a_build_and_a_failed_build_leaves_the_old_container() {
    let machine = Machine::new();
    machine.import_busybox();
    machine.write(
        "p/Dockerfile",
        "FROM busybox\nCOPY src/file /file\nCOPY live /live\n\
         RUN if grep -q slow /file; then sleep 1000; fi; if grep -q bad /file; then echo the reason; exit 3; fi\n",
    );
    machine.write("p/src/file", "first");
    machine.write("p/live/file", "live 1");
    project(&machine, BUILDS, REBUILD);
    let mut watching = Watching::watch(&machine);
    let first = ids(&machine, "web").remove(0);

    machine.write("p/src/file", "slow");
    watching.hear("[3/4]");
    // Other files go on being synced while it builds.
    machine.write("p/live/file", "live 2");
    until(&Some("live 2".to_owned()), || {
        read(&machine, &first, "/live/file")
    });
    machine.write("p/src/file", "second");
    watching.hear("given up for a newer change");
    let line = watching.hear("watch  web  rebuilt");
    println!("{line}");
    let second = ids(&machine, "web").remove(0);
    assert_ne!(first, second);
    let content = |id: &str| {
        (
            read(&machine, id, "/file"),
            read(&machine, id, "/live/file"),
        )
    };
    let both = |one: &str, other: &str| (Some(one.to_owned()), Some(other.to_owned()));
    until(&both("second", "live 2"), || content(&second));

    machine.write("p/src/file", "bad");
    watching.hear("rebuild: failed");
    watching.hear("the reason");
    assert_eq!(ids(&machine, "web"), std::slice::from_ref(&second));
    assert_eq!(content(&second), both("second", "live 2"));
    machine.write("p/src/file", "good");
    watching.hear("watch  web  rebuilt");
    let third = ids(&machine, "web").remove(0);
    until(&both("good", "live 2"), || content(&third));
    drop(watching);
    machine.ok("p", &["down", "-t", "0"]);
    machine.assert_clean();
}

#[test]
fn a_container_that_restarts_or_is_replaced_meanwhile_is_given_everything() {
    let machine = Machine::new();
    machine.import_busybox();
    machine.write("p/src/file", "0");
    let restarts = format!("{SLEEPS}\nrestart: always\ntmpfs: [/memory]\nstop_grace_period: 0s");
    let rules = format!("{SYNC}\n- action: sync\n  path: ./src\n  target: /memory");
    project(&machine, &restarts, &rules);
    let mut watching = Watching::watch(&machine);
    let id = ids(&machine, "web").remove(0);
    // Fewer than would make the restart policy wait for seconds.
    for number in 1..=5 {
        until(&true, || root(&machine, &id).is_some());
        machine.write("p/src/file", &format!("content {number}"));
        machine.write(&format!("p/src/dir/{number}"), "x");
        end_init(&machine, &id);
        // Each path that was saved, also the one saved while nothing ran.
        machine.write(&format!("p/src/late/{number}"), "x");
        until(&Some(format!("content {number}")), || {
            read(&machine, &id, "/app/file")
        });
    }
    for number in 1..=5 {
        for place in ["app", "memory"] {
            for directory in ["dir", "late"] {
                let path = format!("/{place}/{directory}/{number}");
                until(&Some("x".to_owned()), || read(&machine, &id, &path));
            }
        }
    }
    machine.ok("p", &["up", "-d", "--force-recreate"]);
    let other = ids(&machine, "web").remove(0);
    assert_ne!(id, other);
    until(&Some("content 5".to_owned()), || {
        read(&machine, &other, "/app/file")
    });
    watching.hear("synced");
    drop(watching);
    machine.ok("p", &["down", "-t", "0"]);
    machine.assert_clean();
}

#[test]
fn a_program_that_crashed_on_one_save_comes_back_with_the_next() {
    let machine = Machine::new();
    machine.import_busybox();
    machine.write("p/src/file", "good 1");
    let program = "image: busybox\ncommand: sh -c 'if grep -q bad /app/file; then exit 3; fi; touch /up; exec sleep infinity'\nstop_grace_period: 0s";
    let rules = "- action: sync+restart\n  path: ./src\n  target: /app\n  initial_sync: true";
    for policy in ["no", "always"] {
        project(&machine, &format!("{program}\nrestart: '{policy}'"), rules);
        let mut watching = Watching::watch(&machine);
        watching.hear("synced");
        let id = ids(&machine, "web").remove(0);
        until(&Some("good 1".to_owned()), || {
            read(&machine, &id, "/app/file")
        });
        machine.write("p/src/file", "bad");
        watching.hear("restarted");
        let state = || {
            machine
                .ok("p", &["ps", "-a", "--format", "json"])
                .contains("running")
        };
        until(&false, state);
        machine.write("p/src/file", "good 2");
        watching.hear("restarted");
        until(&Some("good 2".to_owned()), || {
            read(&machine, &id, "/app/file")
        });
        assert_eq!(ids(&machine, "web"), [id]);
        drop(watching);
        machine.write("p/src/file", "good 1");
        machine.ok("p", &["down", "-t", "0"]);
        machine.assert_clean();
    }
}

#[test]
fn up_watch_shows_output_and_stops_the_containers_at_the_end() {
    let machine = Machine::new();
    machine.import_busybox();
    machine.write("p/src/file", "first");
    let says =
        "image: busybox\ncommand: sh -c 'echo started; exec sleep infinity'\nstop_grace_period: 1s";
    project(
        &machine,
        says,
        "- action: sync+restart\n  path: ./src\n  target: /app",
    );
    let mut watching = Watching::start(&machine, &["up", "--watch"]);
    watching.hear_all(&["| started", "watch  enabled"]);
    machine.write("p/src/file", "second");
    // The container's own word may come first.
    watching.hear_all(&["restarted 1 container", "| started"]);
    let second = machine.run("p", &["watch", "--no-up"]);
    assert_eq!(second.code, 1, "{second:?}");
    assert!(
        second
            .stderr
            .contains("project `demo` is watched already by process"),
        "{}",
        second.stderr
    );
    assert_eq!(watching.interrupt(), 130);
    assert_eq!(ids(&machine, "web"), [""; 0]);
    machine.ok("p", &["down"]);
    machine.assert_clean();
}

#[test]
fn what_cannot_be_watched_is_said_before_anything_starts() {
    let machine = Machine::new();
    machine.import_busybox();
    let rows = [
        (
            "- action: rebuild\n  path: ./src",
            "can't watch service \"web\" with action rebuild without a build context",
        ),
        (
            "- action: sync\n  path: ./src\n  target: /app\n  ignore: ['[a']",
            "syntax error in pattern `[a`",
        ),
    ];
    for (rules, expected) in rows {
        project(&machine, SLEEPS, rules);
        let ran = machine.run("p", &["watch"]);
        assert_eq!(ran.code, 1, "{ran:?}");
        assert!(ran.stderr.contains(expected), "{}", ran.stderr);
    }
    machine.write(
        "p/compose.yaml",
        "name: demo\nservices:\n  web:\n    image: busybox\n",
    );
    let ran = machine.run("p", &["watch"]);
    assert_eq!(
        (
            ran.code,
            ran.stderr
                .contains("none of the selected services has a `develop.watch` section")
        ),
        (1, true),
        "{ran:?}"
    );
    assert_eq!(machine.ok("p", &["ps", "-a", "-q"]), "");
    machine.ok("p", &["down"]);
    machine.assert_clean();
}
