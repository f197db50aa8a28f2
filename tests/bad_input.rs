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
            vec!["failed to parse YAML", "compose.yaml:4:1"],
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
    let expected = "127.0.0.1:9/team/web:1`: cannot connect to 127.0.0.1:9: Connection refused";
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
