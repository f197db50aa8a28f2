//! What bad input gets: a clear error, exit code 1, 2 or the command's own, nothing half done and nothing leaked.
//!
//! `tests/stacks.rs` has the port in use, the command that does not exist, the health check and the kills of `up`;
//! `tests/spec` has every diagnostic of a file.

#![allow(
    clippy::allow_attributes,
    clippy::disallowed_methods,
    reason = "tests run real processes"
)]

mod support;

use support::{Machine, Ran};

/// A second service, which nothing is wrong with.
const GOOD: &str = "  good:\n    image: busybox\n    init: true\n    command: sleep infinity\n";

/// Runs `up -d` on a file, and asserts that nothing came of it.
fn refused(machine: &Machine, text: &str) -> Ran {
    machine.write("p/compose.yaml", text);
    let ran = machine.run("p", &["up", "-d"]);
    machine.write("p/compose.yaml", "name: demo\nservices: {}\n");
    assert_eq!(machine.ok("p", &["ps", "-a", "-q"]), "");
    machine.assert_clean();
    assert!(!machine.root().join("run/exe").exists());
    ran
}

#[test]
fn a_file_with_faults_starts_nothing() {
    let machine = Machine::new();
    machine.import_busybox();
    let table = [
        (
            "services:\n  web:\n    image: [\n".to_owned(),
            vec!["failed to parse YAML", "compose.yaml:3:12"],
        ),
        (
            format!(
                "name: demo\nservices:\n{GOOD}  web:\n    image: busybox\n    comand: a\n    net: b\n    volumes: 3\n"
            ),
            vec![
                "comand",
                "command",
                "compose.yaml:9:5",
                "compose.yaml:10:5",
                "compose.yaml:11:14",
            ],
        ),
        (
            format!("name: demo\nservices:\n{GOOD}    depends_on: [nobody]\n"),
            vec!["nobody", "compose.yaml:7:18"],
        ),
    ];
    for (text, expected) in table {
        let ran = refused(&machine, &text);
        assert_eq!((ran.code, ran.stdout.as_str()), (1, ""), "{text}{ran:?}");
        for words in expected {
            assert!(
                ran.stderr.contains(words),
                "{words:?} not in\n{}",
                ran.stderr
            );
        }
    }
}

#[test]
fn a_registry_that_is_down_is_named_and_nothing_starts() {
    let machine = Machine::new();
    machine.import_busybox();
    let text = format!("name: demo\nservices:\n{GOOD}  web:\n    image: 127.0.0.1:9/team/web:1\n");
    let ran = refused(&machine, &text);
    assert_eq!(ran.code, 1, "{ran:?}");
    let expected = "error: pull image 127.0.0.1:9/team/web:1: cannot connect to 127.0.0.1:9: Connection refused";
    assert!(ran.stderr.contains(expected), "{}", ran.stderr);
}

#[test]
fn an_image_that_the_registry_does_not_have_is_named_and_nothing_starts() {
    let machine = Machine::new();
    machine.import_busybox();
    machine.write(
        "registry.yml",
        "version: 0.1\nstorage: {filesystem: {rootdirectory: registry}}\nhttp: {addr: 127.0.0.1:5000}\n",
    );
    let mut registry = machine
        .command(".", "docker-registry")
        .args(["serve", "registry.yml"])
        .stderr(std::process::Stdio::null())
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    machine.sh("timeout 60 sh -c 'until curl -s http://127.0.0.1:5000/v2/; do :; done'");
    let text =
        format!("name: demo\nservices:\n{GOOD}  web:\n    image: localhost:5000/team/web:1\n");
    let ran = refused(&machine, &text);
    registry.kill().unwrap();
    registry.wait().unwrap();
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(
        ran.stderr.contains("localhost:5000/team/web:1") && ran.stderr.contains("manifest"),
        "{}",
        ran.stderr
    );
}

#[test]
fn not_being_root_says_what_is_needed_and_reading_works() {
    let machine = Machine::new();
    let file = machine.write("p/compose.yaml", &format!("name: demo\nservices:\n{GOOD}"));
    // The program lies in a directory of root's: handed on as an open file, whoever runs it.
    let script = |args: &str| {
        format!(
            "chmod 755 . p && exec 9< {} && exec setpriv --reuid 65534 --regid 65534 --clear-groups \
             /proc/self/fd/9 --root {}/nobody -f {} {args}",
            env!("CARGO_BIN_EXE_stack"),
            machine.path().display(),
            file.display()
        )
    };
    let run = |args: &str| {
        Ran::of(
            &machine
                .command(".", "sh")
                .args(["-c", &script(args)])
                .output()
                .unwrap(),
        )
    };
    for command in ["up -d", "up", "down", "ps", "exec good true"] {
        let ran = run(command);
        assert_eq!(
            (ran.code, ran.stdout.as_str(), ran.stderr.as_str()),
            (
                1,
                "",
                "error: containers need root: this process runs as user 65534\n\
                 help: run it with `sudo`; running without root is not supported yet\n"
            ),
            "{command}"
        );
    }
    assert_eq!(
        run("config -q"),
        Ran {
            code: 0,
            stdout: String::new(),
            stderr: String::new()
        }
    );
    assert!(!machine.path().join("nobody").exists());
}

#[test]
fn wrong_usage_is_2() {
    let machine = Machine::project(&format!("name: demo\nservices:\n{GOOD}"));
    for args in [
        &["up", "--no-such-option"][..],
        &["upp"],
        &["logs", "--tail", "x"],
        &["up", "-d", "--abort-on-container-exit"],
    ] {
        let ran = machine.run("p", args);
        assert_eq!(ran.code, 2, "{args:?} {ran:?}");
    }
    let ran = machine.run("p", &["up", "-d", "nobody"]);
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.stderr.contains("nobody"), "{}", ran.stderr);
    machine.assert_clean();
}

#[test]
fn what_cannot_be_started_leaves_the_others_as_they_are() {
    let table = [
        ("command: no-such-program", 127, "no-such-program"),
        ("command: /etc/passwd", 126, "/etc/passwd"),
        ("command: 'true'\n    user: nobody-here", 1, "nobody-here"),
    ];
    for (body, code, expected) in table {
        let machine = Machine::project(&format!(
            "name: demo\nservices:\n{GOOD}  web:\n    image: busybox\n    depends_on: [good]\n    {body}\n"
        ));
        let ran = machine.run("p", &["up", "-d"]);
        assert_eq!(ran.code, code, "{body} {ran:?}");
        assert!(ran.stderr.contains(expected), "{}", ran.stderr);
        assert_eq!(machine.ok("p", &["ps", "--services"]), "good\n");
        machine.ok("p", &["down"]);
        machine.assert_clean();
    }
}

#[test]
fn a_container_that_ends_without_its_monitor_is_started_again_and_removed() {
    let machine = Machine::project(&format!("name: demo\nservices:\n{GOOD}"));
    machine.ok("p", &["up", "-d"]);
    let id = machine.ok("p", &["ps", "-q"]);
    let monitor = machine.sh(&format!("pgrep -o -f 'monitor {}'", id.trim()));
    let inside = machine.sh(&format!("pgrep -P {}", monitor.trim()));
    let all = format!("{monitor} {inside}").replace('\n', " ");
    // Killed is not yet ended.
    machine.sh(&format!(
        "kill -9 {all}; timeout 30 sh -c 'for p in {all}; do \
         while grep -q \"^State:.[^Z]\" /proc/$p/status 2>/dev/null; do :; done; done'"
    ));
    assert_eq!(machine.ok("p", &["ps", "-q"]), "");
    machine.ok("p", &["up", "-d"]);
    assert_eq!(
        machine.ok("p", &["exec", "-T", "good", "echo", "back"]),
        "back\n"
    );
    let monitor = machine.sh(&format!(
        "pgrep -o -f 'monitor {}'",
        machine.ok("p", &["ps", "-q"]).trim()
    ));
    machine.sh(&format!("kill -9 {}", monitor.trim()));
    machine.ok("p", &["down"]);
    machine.assert_clean();
}

#[test]
fn a_build_killed_in_a_step_leaves_nothing_after_the_next_command() {
    let build = "    build: {context: ., dockerfile_inline: \"FROM busybox\\nRUN echo begun && sleep 10000\"}\n";
    let machine = Machine::project(&format!("name: demo\nservices:\n  web:\n{build}"));
    let mut building = machine
        .stack("p", &["build"])
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let output = std::io::BufReader::new(building.stderr.take().unwrap());
    let begun = std::io::BufRead::lines(output).any(|line| line.unwrap().ends_with(" begun"));
    building.kill().unwrap();
    building.wait().unwrap();
    assert!(begun);
    assert_ne!(machine.leftovers(), [""; 0], "the step was running");
    machine.write("p/compose.yaml", "name: demo\nservices: {}\n");
    machine.ok("p", &["down"]);
    machine.assert_clean();
    assert_eq!(machine.sh("ls stack/run/steps; ls stack/lib/tmp"), "lock\n");
}

/// What fails only when it is used is shown with the key that asked for it.
#[test]
#[expect(clippy::too_many_lines, reason = "one table")]
fn failures_name_the_place_of_the_file_that_asked_for_it() {
    // The service's keys, further top-level keys, the place, what the message says, the exit code.
    let table: &[(&str, &str, &str, &str, i32)] = &[
        (
            "user: nobody-here",
            "",
            "5:11",
            "start container demo-web-1: find the user `nobody-here`: user `nobody-here` is not in /etc/passwd",
            1,
        ),
        (
            "group_add: [nosuch]",
            "",
            "5:17",
            "find the user `root`: group `nosuch` is not in /etc/group",
            1,
        ),
        (
            "command: nosuch",
            "",
            "5:5",
            "start container demo-web-1: executable `nosuch` not found in PATH=",
            127,
        ),
        (
            "command: /etc/passwd",
            "",
            "5:5",
            "start container demo-web-1: execute `/etc/passwd`: Permission denied\n",
            126,
        ),
        (
            "working_dir: rel",
            "",
            "5:18",
            "create container demo-web-1: working_dir: `rel` is not an absolute path",
            1,
        ),
        (
            "stop_signal: SIGNOPE",
            "",
            "5:18",
            "`SIGNOPE` is not a signal",
            1,
        ),
        (
            "ulimits: {nosuch: 3}",
            "",
            "5:23",
            "limit `nosuch` is not known",
            1,
        ),
        (
            "sysctls: {net.ipv4.nosuch: 1}",
            "",
            "5:32",
            "set sysctl `net.ipv4.nosuch` to `1`: No such file or directory\n",
            1,
        ),
        (
            "security_opt: ['seccomp=./none.json']",
            "",
            "5:20",
            "/none.json`: No such file or directory\n",
            1,
        ),
        (
            "volumes: [{type: bind, source: ./none, target: /x, bind: {create_host_path: false}}]",
            "",
            "5:15",
            "bind source path does not exist: ",
            1,
        ),
        (
            "volumes: ['./p:/etc/passwd/x']",
            "",
            "5:15",
            "mount on `/etc/passwd/x`: Not a directory\n",
            1,
        ),
        (
            "volumes: ['v:/v']",
            "volumes: {v: {external: true}}",
            "6:14",
            "volume `v` is declared as external, but does not exist",
            1,
        ),
        (
            "networks: [n]",
            "networks: {n: {external: true}}",
            "6:15",
            "network `n` is declared as external, but does not exist",
            1,
        ),
        (
            "networks: [n]",
            "networks: {n: {ipam: {config: [{subnet: 127.0.0.0/8}]}}}",
            "6:15",
            "create network demo_n: range 127.0.0.0/8",
            1,
        ),
        (
            "networks: {n: {ipv4_address: 10.99.0.9}}",
            "networks: {n: {ipam: {config: [{subnet: 10.98.0.0/24}]}}}",
            "5:19",
            "address 10.99.0.9 cannot be used",
            1,
        ),
        (
            "secrets: [s]",
            "secrets: {s: {file: ./none}}",
            "5:15",
            "/none` of `s`: No such file or directory\n",
            1,
        ),
        (
            "configs: [s]",
            "configs: {s: {environment: NOT_SET}}",
            "5:15",
            "comes from the variable `NOT_SET`, which is not set",
            1,
        ),
        (
            "ports: ['192.0.2.1:80:80']",
            "",
            "5:13",
            "host port 192.0.2.1:80/tcp for container demo-web-1 cannot be bound: Cannot assign requested address\n",
            1,
        ),
        (
            "image: 'a b'",
            "",
            "4:12",
            "services.web.image: invalid reference format: `a b`",
            1,
        ),
        (
            "image: 'localhost:1/x'",
            "",
            "4:12",
            "error: pull image localhost:1/x: cannot connect to localhost:1: Connection refused\n",
            1,
        ),
        (
            "image: x\n    pull_policy: never",
            "",
            "4:12",
            "image `x` of service `web` is not here, and its pull policy does not let it be pulled",
            1,
        ),
        ("build: ./none", "", "4:12", "read the Dockerfile `", 1),
        (
            "command: sleep 100\n    healthcheck: {test: 'echo bad; exit 2', interval: 20ms, retries: 1}\n  late: {image: busybox, depends_on: {web: {condition: service_healthy}}}",
            "",
            "6:5",
            "container demo-web-1 is unhealthy: its health check exited with 2 and printed: bad\n",
            1,
        ),
    ];
    let machine = Machine::new();
    machine.import_busybox();
    for (keys, top, place, message, code) in table {
        let image = if keys.starts_with("image") || keys.starts_with("build") {
            ""
        } else {
            "    image: busybox\n"
        };
        let text = format!("name: demo\nservices:\n  web:\n{image}    {keys}\n{top}\n");
        machine.write("p/compose.yaml", &text);
        let ran = machine.run("p", &["up", "-d"]);
        assert_eq!(ran.code, *code, "{keys} {ran:?}");
        let place = format!(" --> compose.yaml:{place}\n");
        assert!(
            ran.stderr.contains(message) && ran.stderr.contains(&place),
            "{keys}: {message}{place}\n{}",
            ran.stderr
        );
        machine.ok("p", &["down", "-v", "-t", "0"]);
        machine.assert_clean();
    }
}

#[test]
fn a_file_without_an_end_is_not_read_for_ever() {
    let machine = Machine::project(&format!("name: demo\nservices:\n{GOOD}"));
    for args in [
        &["-f", "/dev/zero", "config"][..],
        &["--env-file", "/dev/zero", "config"],
    ] {
        let ran = machine.run("p", args);
        assert_eq!(ran.code, 1, "{ran:?}");
        assert!(
            ran.stderr.contains("/dev/zero: larger than 32 MiB"),
            "{}",
            ran.stderr
        );
    }
    machine.sh(&format!(
        "cd p && ! {} -f - config < /dev/zero",
        env!("CARGO_BIN_EXE_stack")
    ));
}

#[test]
fn a_port_of_a_container_is_refused_by_its_name_before_anything_starts() {
    let sleeping = |name: &str, more: &str| {
        format!(
            "  {name}: {{image: busybox, init: true, command: sleep infinity, ports: ['8097:80']{more}}}\n"
        )
    };
    let machine = Machine::new();
    machine.import_busybox();
    machine.write(
        "other/compose.yaml",
        &format!("name: other\nservices:\n{}", sleeping("web", "")),
    );
    machine.ok("other", &["up", "-d"]);
    let table = [
        (
            sleeping("a", ""),
            "for container demo-a-1 is in use by container other-web-1 of project other",
        ),
        (
            sleeping("a", "") + &sleeping("b", ""),
            "for container demo-b-1 is in use by container other-web-1",
        ),
    ];
    let refused = |services: &str, expected: &str| {
        machine.write(
            "p/compose.yaml",
            &format!("name: demo\nservices:\n{services}"),
        );
        let ran = machine.run("p", &["up", "-d"]);
        assert_eq!(ran.code, 1, "{ran:?}");
        assert!(
            ran.stderr
                .contains(&format!("host port 0.0.0.0:8097/tcp {expected}"))
                && ran.stderr.contains(" --> compose.yaml:"),
            "{}",
            ran.stderr
        );
        assert_eq!(machine.ok("p", &["ps", "-a", "-q"]), "");
    };
    for (services, expected) in &table {
        refused(services, expected);
    }
    machine.ok("other", &["down"]);
    refused(
        &(sleeping("a", "") + &sleeping("b", "")),
        "for container demo-b-1 is also for container demo-a-1",
    );
    refused(
        &sleeping("a", ", scale: 2"),
        "for container demo-a-2 is also for container demo-a-1",
    );
    // A port that goes from one service to another is free by then.
    machine.write(
        "p/compose.yaml",
        &format!("name: demo\nservices:\n{}", sleeping("z", "")),
    );
    machine.ok("p", &["up", "-d"]);
    let moved = sleeping("a", "") + &sleeping("z", "").replace("8097", "8096");
    machine.write("p/compose.yaml", &format!("name: demo\nservices:\n{moved}"));
    machine.ok("p", &["up", "-d"]);
    let moved = sleeping("b", "");
    machine.write("p/compose.yaml", &format!("name: demo\nservices:\n{moved}"));
    machine.ok("p", &["up", "-d", "--remove-orphans"]);
    assert_eq!(machine.ok("p", &["ps", "--services"]), "b\n");
    machine.ok("p", &["down", "-t", "0"]);
    machine.assert_clean();
}

#[test]
fn a_port_held_by_others_is_said_before_a_container_is_stopped_for_its_own() {
    let sleeping = |name: &str, ports: &str| {
        format!(
            "services: {{{name}: {{image: busybox, init: true, command: sleep infinity, ports: [{ports}]}}}}\n"
        )
    };
    let machine = Machine::new();
    machine.import_busybox();
    machine.write("other/compose.yaml", &sleeping("web", "'8098:80'"));
    machine.ok("other", &["up", "-d"]);
    machine.write("p/compose.yaml", &sleeping("before", "'8097:80'"));
    machine.ok("p", &["up", "-d"]);
    let running = machine.ok("p", &["ps", "-q"]);
    machine.write(
        "p/compose.yaml",
        &sleeping("after", "'8096:80', '8097:80', '8098:80'"),
    );
    let up = ["up", "-d", "--remove-orphans", "-t", "0"];
    let ran = machine.run("p", &up);
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(
        ran.stderr.contains(
            "host port 0.0.0.0:8098/tcp for container p-after-1 is in use by container other-web-1"
        ),
        "{}",
        ran.stderr
    );
    assert_eq!(machine.ok("p", &["ps", "-q", "--orphans"]), running);
    machine.ok("other", &["down", "-t", "0"]);
    machine.ok("p", &up);
    assert_eq!(machine.ok("p", &["ps", "--services"]), "after\n");
    machine.ok("p", &["down", "-t", "0"]);
    machine.assert_clean();
}

#[test]
fn a_container_that_cannot_be_made_leaves_no_volume() {
    let machine = Machine::new();
    machine.import_busybox();
    for (fault, expected) in [
        ("security_opt: ['seccomp=./none.json']", "none.json"),
        ("cap_add: [NOSUCH]", "`NOSUCH` is not a capability"),
    ] {
        machine.write(
            "p/compose.yaml",
            &format!("services:\n  web:\n    image: busybox\n    volumes: [/data]\n    {fault}\n"),
        );
        let ran = machine.run("p", &["up", "-d"]);
        assert_eq!(ran.code, 1, "{ran:?}");
        assert!(ran.stderr.contains(expected), "{}", ran.stderr);
        assert_eq!(machine.sh("ls stack/lib/volumes"), "", "{fault}");
    }
    machine.ok("p", &["down"]);
    machine.assert_clean();
}
