//! The real binary from outside, on a machine of the test's own: what a user does, and what is left afterwards.

#![expect(clippy::unwrap_used, reason = "a test's helpers")]

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
fn an_image_for_another_platform_is_not_run() {
    let machine = Machine::new();
    machine.import_busybox();
    let other = if cfg!(target_arch = "s390x") {
        "linux/ppc64le"
    } else {
        "linux/s390x"
    };
    let text = sleeper(&format!("platform: {other}\npull_policy: never"));
    machine.write("compose.yaml", &text);
    let ran = machine.run(".", &["up", "-d"]);
    let said = format!(
        "error: image with reference `busybox` was found but does not provide the specified platform ({other}): it is for "
    );
    assert!(ran.stderr.contains(&said), "{}", ran.stderr);
    assert!(
        ran.stderr.contains("--> compose.yaml:7:15"),
        "{}",
        ran.stderr
    );
    // The machine's own is taken.
    let own = text.replace(other, "linux");
    machine.write("compose.yaml", &own);
    machine.ok(".", &["up", "-d"]);
    machine.ok(".", &["down"]);
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
    machine.sh("timeout 60 sh -c 'until grep -q :1FA3 /proc/net/tcp /proc/net/tcp6; do :; done'");
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

#[test]
fn down_killed_halfway_is_finished_by_the_next_command() {
    let machine = Machine::new();
    machine.import_busybox();
    machine.write("p/compose.yaml", &sleeper("scale: 3\n"));
    let stack = format!(
        "{} --root {}",
        env!("CARGO_BIN_EXE_stack"),
        machine.root().display()
    );
    for milliseconds in [20, 35, 50, 60, 70, 85, 100, 150] {
        machine.ok("p", &["up", "-d"]);
        // The number is where the kill falls, not a wait for anything.
        machine.sh(&format!(
            "cd p && timeout -s KILL 0.{milliseconds:03} {stack} down -t 0 >/dev/null 2>&1 || true"
        ));
        if milliseconds % 20 == 0 {
            machine.ok("p", &["up", "-d"]);
            assert_eq!(machine.ok("p", &["ps", "-q"]).lines().count(), 3);
        }
        machine.ok("p", &["down", "-t", "0"]);
        machine.assert_clean();
    }
}

#[test]
fn nothing_is_made_where_one_container_cannot_be() {
    let machine = Machine::new();
    machine.import_busybox();
    let file = "name: demo\nservices:\n  fine:\n    image: busybox\n    command: sleep infinity\n  wrong:\n    \
                image: busybox\n    depends_on: [fine]\n    cap_add: [FLY]\n    secrets: [gone]\nsecrets:\n  gone: \
                {file: ./gone}\n";
    machine.write("p/compose.yaml", file);
    let ran = machine.run("p", &["up", "-d"]);
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.stderr.contains("gone"), "{}", ran.stderr);
    assert!(!ran.stderr.contains("Creating"), "{}", ran.stderr);
    assert_eq!(machine.ok("p", &["ps", "-a", "-q"]), "");
    machine.assert_clean();
}

/// A service that says so and then is healthy once `/ready` is there, and another that waits for it.
const GATED: &str = r#"
name: demo
services:
  db:
    image: busybox
    command: sh -c 'trap "" TERM; echo db is up; while :; do sleep 1; done'
    healthcheck: {test: [CMD, test, -e, /ready], interval: 20ms, retries: 100000}
  web:
    image: busybox
    init: true
    command: sh -c 'echo web is up; exec sleep infinity'
    depends_on: {db: {condition: service_healthy}}
"#;

/// An attached `up`: reads its output until a line contains `end`.
fn read_until(output: &mut impl std::io::BufRead, end: &str) -> String {
    let mut text = String::new();
    while !text.contains(end) {
        let read = output.read_line(&mut text).unwrap();
        assert_ne!(read, 0, "`{end}` was not said:\n{text}");
    }
    text
}

fn signal(process: &std::process::Child, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(process.id()).unwrap()).unwrap();
    rustix::process::kill_process(pid, signal).unwrap();
}

#[test]
fn attached_up_shows_what_runs_while_the_rest_still_waits_to_start() {
    let machine = Machine::project(GATED);
    let mut up = machine
        .stack("p", &["up"])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let mut output = std::io::BufReader::new(up.stdout.take().unwrap());
    // Only after this was seen is anything let go on.
    assert_eq!(read_until(&mut output, "up\n"), "db-1   | db is up\n");
    assert_eq!(machine.ok("p", &["ps", "--services"]), "db\n");
    machine.ok("p", &["exec", "-T", "db", "touch", "/ready"]);
    assert_eq!(read_until(&mut output, "up\n"), "web-1  | web is up\n");
    signal(&up, rustix::process::Signal::INT);
    read_until(&mut output, "web-1 exited with code 143\n");
    signal(&up, rustix::process::Signal::INT);
    read_until(&mut output, "db-1 exited with code 137\n");
    assert_eq!(up.wait().unwrap().code(), Some(130));
    // What was there before has nothing to say again; what is left alone is followed.
    machine.ok("p", &["up", "-d", "db"]);
    let once = [
        "up",
        "--no-deps",
        "db",
        "web",
        "--abort-on-container-exit",
        "-t",
        "0",
    ];
    machine.write(
        "p/compose.yaml",
        &GATED.replace("exec sleep infinity", "exit 7"),
    );
    let ran = machine.run("p", &once);
    let mut lines: Vec<&str> = ran.stdout.lines().collect();
    lines.sort_unstable();
    let expected = [
        "db-1 exited with code 137",
        "web-1  | web is up",
        "web-1 exited with code 7",
    ];
    assert_eq!((ran.code, lines), (7, expected.to_vec()), "{}", ran.stderr);
    machine.ok("p", &["down", "-t", "0"]);
    machine.assert_clean();
}

#[test]
fn an_interrupt_during_an_attached_start_stops_and_a_second_one_kills() {
    for (signals, code) in [(1, "143"), (2, "137")] {
        let text = if signals == 1 {
            GATED.replace("trap \"\" TERM;", "trap \"exit 143\" TERM;")
        } else {
            GATED.to_owned()
        };
        let machine = Machine::project(&text);
        let mut up = machine
            .stack("p", &["up"])
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut output = std::io::BufReader::new(up.stdout.take().unwrap());
        let mut errors = std::io::BufReader::new(up.stderr.take().unwrap());
        read_until(&mut output, "db is up\n");
        signal(&up, rustix::process::Signal::INT);
        read_until(&mut errors, "Gracefully stopping");
        if signals == 2 {
            read_until(&mut errors, "Container demo-db-1  Stopping\n");
            signal(&up, rustix::process::Signal::TERM);
        }
        read_until(&mut output, &format!("db-1 exited with code {code}\n"));
        assert_eq!(up.wait().unwrap().code(), Some(130));
        assert_eq!(machine.ok("p", &["ps", "-q"]), "");
        machine.ok("p", &["down", "-t", "0"]);
        machine.assert_clean();
    }
}

#[test]
fn attach_says_whose_output_is_shown_and_never_who_is_waited_for() {
    let machine = Machine::project(
        r#"
name: demo
services:
  loud: {image: busybox, command: echo loud}
  quiet: {image: busybox, command: sh -c 'echo quiet; cat /d/go', attach: false, volumes: ["./d:/d"]}
"#,
    );
    machine.sh("mkdir p/d && mkfifo p/d/go");
    let up = |args: &[&str]| {
        let mut command = machine.stack("p", &[&["up", "--no-log-prefix"], args].concat());
        let mut up = command
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut output = std::io::BufReader::new(up.stdout.take().unwrap());
        let mut text = read_until(&mut output, "exited with code 0\n");
        assert_eq!(
            up.try_wait().unwrap(),
            None,
            "it stays as long as `quiet` runs"
        );
        machine.sh("timeout 60 sh -c ': > p/d/go'");
        std::io::Read::read_to_string(&mut output, &mut text).unwrap();
        assert_eq!(up.wait().unwrap().code(), Some(0));
        let mut lines: Vec<&str> = text.lines().collect();
        lines.sort_unstable();
        lines.join("; ")
    };
    assert_eq!(up(&[]), "loud; loud-1 exited with code 0");
    assert_eq!(machine.ok("p", &["logs", "--no-log-prefix"]), "loud\n");
    assert_eq!(
        machine.ok("p", &["logs", "--no-log-prefix", "quiet"]),
        "quiet\n"
    );
    let both = "loud; loud-1 exited with code 0; quiet; quiet-1 exited with code 0";
    assert_eq!(up(&["--attach", "quiet", "--attach", "loud"]), both);
    let ran = machine.run("p", &["up", "--attach", "quiet", "loud"]);
    assert_eq!(ran.code, 2, "{ran:?}");
    assert!(ran.stderr.contains("`--attach quiet`"), "{}", ran.stderr);
    machine.ok("p", &["down", "-t", "0"]);
    machine.assert_clean();
}

#[test]
fn a_dry_run_is_one_plan_in_lines_or_in_json() {
    let machine = Machine::project(
        "name: demo\nservices:\n  web: {image: mine, build: {context: ., dockerfile_inline: FROM busybox}}\n",
    );
    let plan = "[] -> #1 build image mine: --build\n[] -> #2 create network demo_default: does not exist yet\n\
                [1,2] -> #3 create container demo-web-1: no container yet\n[3] -> #4 start container demo-web-1: not started yet\n";
    assert_eq!(machine.ok("p", &["up", "--build", "--dry-run"]), plan);
    let json = machine.ok("p", &["up", "--build", "--dry-run", "--progress", "json"]);
    let lines: Vec<serde_json::Value> = json
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.len(), 4);
    let expected = serde_json::json!({
        "dry-run": true, "id": "Container demo-web-1", "status": "Planned", "step": 3, "after": ["1", "2"],
        "text": "create container demo-web-1", "cause": "no container yet",
    });
    assert_eq!(lines.get(2), Some(&expected));
}

#[test]
fn variables_of_compose_count_also_from_the_dotenv_file() {
    let machine = Machine::project(&sleeper(""));
    machine.ok("p", &["up", "-d"]);
    machine.write("p/compose.yaml", &sleeper("").replace("  web:", "  other:"));
    let up = |variables: &[(&str, &str)], args: &[&str]| {
        let mut command = machine.stack("p", &[&["up", "-d"], args].concat());
        let output = command.envs(variables.iter().copied()).output().unwrap();
        support::Ran::of(&output)
    };
    assert!(
        up(&[], &[])
            .stderr
            .contains("found orphan containers (demo-web-1)")
    );
    machine.write(
        "p/.env",
        "COMPOSE_IGNORE_ORPHANS=true\nCOMPOSE_PROGRESS=json\nCOMPOSE_STATUS_STDOUT=1\n",
    );
    let quiet = up(&[], &[]);
    assert_eq!(quiet.stderr, "");
    assert_eq!(
        quiet.stdout,
        "{\"id\":\"Container demo-other-1\",\"status\":\"Done\",\"text\":\"Running\"}\n"
    );
    let both = up(&[("COMPOSE_PROGRESS", "plain")], &["--remove-orphans"]);
    assert_eq!(both.code, 2, "{both:?}");
    machine.write("p/.env", "");
    for (name, value, code, words) in [
        (
            "COMPOSE_PARALLEL_LIMIT",
            "none",
            2,
            "COMPOSE_PARALLEL_LIMIT",
        ),
        (
            "COMPOSE_COMPATIBILITY",
            "1",
            2,
            "COMPOSE_COMPATIBILITY: not supported yet",
        ),
        ("COMPOSE_MENU", "true", 0, "COMPOSE_MENU: not supported yet"),
        (
            "COMPOSE_PARALLEL_LIMIT",
            "1",
            0,
            "Container demo-other-1  Running",
        ),
        (
            "COMPOSE_REMOVE_ORPHANS",
            "true",
            0,
            "Container demo-web-1  Removed",
        ),
    ] {
        let ran = up(&[(name, value)], &[]);
        assert!(
            ran.code == code && ran.stderr.contains(words),
            "{name} {ran:?}"
        );
    }
    machine.ok("p", &["down", "-t", "0"]);
    machine.assert_clean();
}

#[test]
fn files_of_secrets_have_the_owner_and_mode_that_is_asked_for() {
    let machine = Machine::project(
        r#"
name: demo
services:
  web:
    image: busybox
    init: true
    command: sleep infinity
    secrets: [{source: s, target: plain}, {source: s, target: own, uid: "65534", gid: "12", mode: 0440}, {source: d, mode: 0400}]
secrets: {s: {file: ./s}, d: {file: ./d}}
"#,
    );
    machine.write("p/s", "hidden\n");
    machine.write("p/d/inner", "");
    machine.sh("chmod 604 p/s");
    let ran = machine.run("p", &["up", "-d"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(
        ran.stderr
            .contains("`uid`, `gid` and `mode` of `d` are not supported"),
        "{}",
        ran.stderr
    );
    let script = "cd /run/secrets && stat -c '%n %u %g %a' plain own && cat own && ls d";
    assert_eq!(
        machine.ok("p", &["exec", "-T", "web", "sh", "-c", script]),
        "plain 0 0 604\nown 65534 12 440\nhidden\ninner\n"
    );
    assert_eq!(machine.sh("stat -c '%u %a' p/s"), "0 604\n");
    machine.ok("p", &["down", "-t", "0"]);
    machine.write(
        "p/compose.yaml",
        &sleeper("secrets: [{source: s, uid: web}]\n")
            .replace("name: demo", "name: demo\nsecrets: {s: {file: ./s}}"),
    );
    let ran = machine.run("p", &["up", "-d"]);
    assert!(
        ran.code == 1
            && ran
                .stderr
                .contains("services.web.secrets.0.uid: `web` is not a number"),
        "{ran:?}"
    );
    machine.assert_clean();
}

#[test]
fn a_full_disk_is_said_and_what_was_there_can_be_stopped_and_goes_on_later() {
    let machine = Machine::new();
    machine.sh("mkdir stack && mount -t tmpfs -o size=24m tmpfs stack");
    machine.import_busybox();
    machine.write("p/compose.yaml", &sleeper(""));
    let fill = || machine.sh("dd if=/dev/zero of=stack/filler bs=4k 2>/dev/null || true");
    let full = |args: &[&str], subject: &str| {
        let ran = machine.run("p", args);
        assert_eq!(ran.code, 1, "{ran:?}");
        let error = ran.stderr.lines().find(|line| line.starts_with("error"));
        let error = error.unwrap_or_default();
        assert!(
            error.contains(subject) && error.ends_with(": No space left on device"),
            "{}",
            ran.stderr
        );
    };
    fill();
    full(&["up", "-d"], "projects/demo.json");
    assert_eq!(machine.ok("p", &["ps", "-a", "-q"]), "");
    full(&["image", "import", "../busybox.tar", "second"], "write `");
    machine.sh("rm stack/filler");
    machine.ok("p", &["up", "-d"]);
    assert_eq!(machine.ok("p", &["image", "ls"]).lines().count(), 2);
    fill();
    machine.ok("p", &["down"]);
    assert_eq!(machine.ok("p", &["ps", "-a", "-q"]), "");
    machine.sh("rm stack/filler");
    machine.ok("p", &["up", "-d"]);
    machine.ok("p", &["down"]);
    // The test's own mount of it apart.
    machine.sh("umount -l stack");
}

/// A signal to the whole process group, as a terminal and `timeout` send it, at many moments of a start with a build.
#[test]
fn a_signal_to_the_group_ends_a_start_with_a_build_at_any_moment() {
    let machine = Machine::new();
    machine.import_busybox();
    let build = "build:\n  context: .\n  dockerfile_inline: |\n    FROM busybox\n    RUN echo begun; sleep 1000";
    machine.write(
        "p/compose.yaml",
        &sleeper(build).replace("    image: busybox\n", ""),
    );
    for hundredths in 3..25 {
        // The number is where the signal falls, not a wait for anything.
        let stack = format!(
            "{} --root {}",
            env!("CARGO_BIN_EXE_stack"),
            machine.root().display()
        );
        let code = machine.sh(&format!(
            "cd p && {{ timeout -k 20 --preserve-status -s TERM 0.{hundredths:02} {stack} up -d >/dev/null 2>&1; echo $?; }}"
        ));
        assert!(
            ["130\n", "143\n"].contains(&code.as_str()),
            "{hundredths}: {code}"
        );
    }
    machine.ok("p", &["down"]);
    machine.assert_clean();
}
