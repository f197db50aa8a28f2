//! The real binary from outside, on a machine of the test's own: what a user does, and what is left afterwards.

mod support;

use support::Machine;

/// Copies an example into the machine and returns its directory's name.
fn example(machine: &Machine, name: &str) -> String {
    let from = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("examples/stacks")
        .join(name);
    machine.sh(&format!("cp -r {} {name}", from.display()));
    name.to_owned()
}

/// A file of one sleeping service whose body is `extra`, each line indented by four.
fn sleeper(extra: &str) -> String {
    let extra: String = extra.lines().map(|line| format!("    {line}\n")).collect();
    format!(
        "name: demo\nservices:\n  web:\n    image: busybox\n    init: true\n    command: sleep infinity\n{extra}"
    )
}

#[test]
fn hello_serves_its_page_to_the_host_and_to_the_other_container_and_leaves_nothing() {
    let machine = Machine::new();
    machine.import_busybox();
    let hello = example(&machine, "hello");
    machine.ok(&hello, &["up", "-d"]);
    let page = machine.sh("curl -sS --fail --max-time 10 http://127.0.0.1:8080/");
    let by_name = machine.ok(
        &hello,
        &[
            "exec",
            "-T",
            "reader",
            "wget",
            "-q",
            "-O",
            "-",
            "http://page/",
        ],
    );
    let expected = "Hello from a container that `stack` started.\n";
    assert_eq!([page.as_str(), by_name.as_str()], [expected, expected]);
    let log = machine.ok(&hello, &["logs", "--no-log-prefix", "reader"]);
    assert_eq!(log, expected);
    machine.ok(&hello, &["down"]);
    machine.assert_clean();
}

#[test]
fn a_second_up_plans_nothing_and_a_changed_key_recreates_that_container_alone() {
    let machine = Machine::new();
    machine.import_busybox();
    let two = |level: &str| {
        sleeper(&format!("environment:\n  LOG_LEVEL: {level}"))
            + "  other:\n    image: busybox\n    init: true\n    command: sleep infinity\n"
    };
    machine.write("p/compose.yaml", &two("debug"));
    machine.ok("p", &["up", "-d"]);
    let before = machine.ok("p", &["ps", "-q"]);
    assert_eq!(machine.ok("p", &["up", "--dry-run", "-d"]), "");
    machine.ok("p", &["up", "-d"]);
    assert_eq!(machine.ok("p", &["ps", "-q"]), before);

    machine.write("p/compose.yaml", &two("info"));
    let plan = machine.ok("p", &["up", "--dry-run", "-d"]);
    assert!(
        plan.contains("environment.LOG_LEVEL debug → info"),
        "{plan}"
    );
    assert!(!plan.contains("demo-other-1"), "{plan}");
    machine.ok("p", &["up", "-d"]);
    let after = machine.ok("p", &["ps", "-q"]);
    let kept = before.lines().filter(|id| after.contains(id)).count();
    assert_eq!(
        (before.lines().count(), after.lines().count(), kept),
        (2, 2, 1),
        "{before}{after}"
    );
    machine.ok("p", &["down"]);
    machine.assert_clean();
}

#[test]
fn a_named_volume_survives_down_and_goes_with_its_own_option_only() {
    let machine = Machine::new();
    machine.import_busybox();
    machine.write(
        "p/compose.yaml",
        &(sleeper("volumes:\n  - data:/data") + "volumes:\n  data:\n"),
    );
    machine.ok("p", &["up", "-d"]);
    machine.ok(
        "p",
        &["exec", "-T", "web", "sh", "-c", "echo kept > /data/file"],
    );
    machine.ok("p", &["down"]);
    machine.assert_clean();
    machine.ok("p", &["up", "-d"]);
    assert_eq!(
        machine.ok("p", &["exec", "-T", "web", "cat", "/data/file"]),
        "kept\n"
    );
    machine.ok("p", &["down", "-v"]);
    machine.ok("p", &["up", "-d"]);
    assert_eq!(machine.ok("p", &["exec", "-T", "web", "ls", "/data"]), "");
    machine.ok("p", &["down", "-v"]);
    machine.assert_clean();
}

#[test]
fn a_failing_command_says_where_it_was_looked_for_and_leaves_nothing_running() {
    let machine = Machine::new();
    machine.import_busybox();
    machine.write(
        "p/compose.yaml",
        &sleeper("").replace("sleep infinity", "no-such-program"),
    );
    let ran = machine.run("p", &["up", "-d"]);
    assert_eq!(ran.code, 127, "{ran:?}");
    assert!(
        ran.stderr.contains("no-such-program") && ran.stderr.contains("PATH="),
        "{}",
        ran.stderr
    );
    machine.ok("p", &["down"]);
    machine.assert_clean();
}

#[test]
fn a_port_in_use_is_said_with_its_holder_before_anything_starts() {
    let machine = Machine::new();
    machine.import_busybox();
    let mut holder = machine
        .command(".", "busybox")
        .args(["httpd", "-f", "-p", "8099"])
        .spawn()
        .unwrap();
    machine.sh("until grep -q ':1FA3' /proc/net/tcp /proc/net/tcp6; do :; done");
    machine.write("p/compose.yaml", &sleeper("ports: ['8099:80']"));
    let ran = machine.run("p", &["up", "-d"]);
    holder.kill().unwrap();
    holder.wait().unwrap();
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(
        ran.stderr.contains("8099") && ran.stderr.contains("busybox httpd"),
        "{}",
        ran.stderr
    );
    assert_eq!(machine.ok("p", &["ps", "-a", "-q"]), "");
    machine.assert_clean();
}

#[test]
fn a_health_check_that_never_passes_says_what_it_printed() {
    let machine = Machine::new();
    machine.import_busybox();
    let check = "healthcheck:\n  test: echo the reason; exit 3\n  interval: 50ms\n  retries: 2";
    let waits = "  late:\n    image: busybox\n    command: 'true'\n    depends_on:\n      web: {condition: service_healthy}\n";
    machine.write("p/compose.yaml", &(sleeper(check) + waits));
    let ran = machine.run("p", &["up", "-d"]);
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(
        ran.stderr.contains("unhealthy") && ran.stderr.contains("the reason"),
        "{}",
        ran.stderr
    );
    machine.ok("p", &["down"]);
    machine.assert_clean();
}

#[test]
fn exec_gives_the_exit_code_and_keeps_the_streams_apart() {
    let machine = Machine::new();
    machine.import_busybox();
    machine.write("p/compose.yaml", &sleeper(""));
    machine.ok("p", &["up", "-d"]);
    let ran = machine.run(
        "p",
        &[
            "exec",
            "-T",
            "web",
            "sh",
            "-c",
            "echo out; echo err >&2; exit 7",
        ],
    );
    assert_eq!(
        (ran.code, ran.stdout.as_str(), ran.stderr.as_str()),
        (7, "out\n", "err\n")
    );
    let missing = machine.run("p", &["exec", "-T", "web", "no-such-program"]);
    assert_eq!(missing.code, 127, "{missing:?}");
    machine.ok("p", &["down"]);
    machine.assert_clean();
}

#[test]
fn a_container_and_its_log_outlive_the_monitor_and_the_next_up_adopts_it() {
    let machine = Machine::new();
    machine.import_busybox();
    let counting = "sh -c 'i=0; while :; do i=$$((i+1)); echo line $$i; sleep 0.05; done'";
    machine.write(
        "p/compose.yaml",
        &sleeper("").replace("sleep infinity", counting),
    );
    machine.ok("p", &["up", "-d"]);
    let id = machine.ok("p", &["ps", "-q"]);
    // `kill` returns before the process is dead: its lock goes with it.
    machine.sh(&format!(
        "p=$(pgrep -o -f 'monitor {}') && kill -9 $p && while grep -qs '^State:.[^Z]' /proc/$p/status; do :; done",
        id.trim()
    ));
    machine.ok("p", &["up", "-d"]);
    assert_eq!(machine.ok("p", &["ps", "-q"]), id);
    let follow = "-f --no-log-prefix web | head -n 60";
    let stack = format!(
        "{} --root {}",
        env!("CARGO_BIN_EXE_stack"),
        machine.root().display()
    );
    let lines = machine.sh(&format!("cd p && timeout 20 {stack} logs {follow}"));
    let expected: String = (1..=60).map(|n| format!("line {n}\n")).collect();
    assert_eq!(lines, expected);
    machine.ok("p", &["down", "-t", "0"]);
    machine.assert_clean();
}

#[test]
fn up_killed_halfway_is_finished_by_the_next_up() {
    let machine = Machine::new();
    machine.import_busybox();
    let service = |n: usize| {
        format!("  s{n}:\n    image: busybox\n    init: true\n    command: sleep infinity\n")
    };
    let file: String = (0..8).map(service).collect();
    machine.write("p/compose.yaml", &format!("name: demo\nservices:\n{file}"));
    for milliseconds in [5, 15, 25, 40, 60, 90] {
        // The number is where the kill falls, not a wait for anything.
        let stack = format!(
            "{} --root {}",
            env!("CARGO_BIN_EXE_stack"),
            machine.root().display()
        );
        machine.sh(&format!(
            "cd p && timeout -s KILL 0.{milliseconds:03} {stack} up -d >/dev/null 2>&1 || true"
        ));
        machine.ok("p", &["up", "-d"]);
        assert_eq!(machine.ok("p", &["ps", "-q"]).lines().count(), 8);
        machine.ok("p", &["down", "-t", "0"]);
        machine.assert_clean();
    }
}
