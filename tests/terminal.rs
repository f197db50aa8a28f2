//! What a user at a terminal does, with the real binary and real containers: attached `up`, interrupts, `exec`.
//!
//! `script` gives the command a pseudo-terminal of its own; what the test writes is typed there.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test's helpers")]

mod support;

use std::io::{Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use support::Machine;

/// A command at a terminal.
struct Session {
    child: Child,
    keyboard: ChildStdin,
    screen: ChildStdout,
    seen: Vec<u8>,
}

impl Session {
    /// Starts `stack ARGS` in `cwd` at a terminal of 90 columns and 20 rows.
    fn start(machine: &Machine, cwd: &str, args: &str) -> Self {
        let binary = env!("CARGO_BIN_EXE_stack");
        let root = machine.root();
        let line = format!(
            "stty cols 90 rows 20; exec {binary} --root {} {args}",
            root.display()
        );
        Self::run(machine, cwd, &line)
    }

    /// Starts a line of shell in `cwd` at a terminal.
    fn run(machine: &Machine, cwd: &str, line: &str) -> Self {
        let mut child = machine
            .command(cwd, "script")
            .args(["-qefc", line, "/dev/null"])
            .env("TERM", "xterm")
            .env("SHELL", "/bin/sh")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let keyboard = child.stdin.take().unwrap();
        let screen = child.stdout.take().unwrap();
        Self {
            child,
            keyboard,
            screen,
            seen: Vec::new(),
        }
    }

    /// Types.
    fn type_in(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).unwrap();
    }

    /// Reads until the screen has shown `text`.
    fn until(&mut self, text: &str) {
        let deadline = Instant::now() + Duration::from_mins(1);
        while !self.shown().contains(text) {
            assert!(
                self.read_until(deadline) > 0,
                "ended before it showed {text:?}\n{}",
                self.shown()
            );
        }
    }

    /// Reads to the end; returns the exit code and everything shown.
    fn end(mut self) -> (i32, String) {
        let deadline = Instant::now() + Duration::from_mins(1);
        while self.read_until(deadline) > 0 {}
        let code = self.child.wait().unwrap().code().unwrap();
        (code, self.shown())
    }

    /// Reads what is there, or comes before `deadline`; returns the count of bytes, 0 at the end.
    fn read_until(&mut self, deadline: Instant) -> usize {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec::try_from(left).unwrap();
        let ready = poll(
            &mut [PollFd::new(&self.screen, PollFlags::IN)],
            Some(&timeout),
        );
        if ready.unwrap() == 0 {
            self.child.kill().unwrap();
            self.child.wait().unwrap();
            panic!("nothing more is shown\n{}", self.shown());
        }
        let mut buffer = [0; 4096];
        let count = self.screen.read(&mut buffer).unwrap();
        self.seen.extend_from_slice(&buffer[..count]);
        count
    }

    fn shown(&self) -> String {
        String::from_utf8_lossy(&self.seen).replace('\r', "")
    }
}

/// A service that says `ready` and then, on SIGTERM, does what `on_term` says.
fn service(on_term: &str) -> String {
    format!(
        "name: demo\nservices:\n  web:\n    image: busybox\n    command:\n      - sh\n      - -c\n      - |\n        \
         trap '{on_term}' TERM\n        echo ready\n        while :; do sleep 0.05; done\n"
    )
}

/// A machine with busybox and one file, `p/compose.yaml`.
fn machine(text: &str) -> Machine {
    let machine = Machine::new();
    machine.import_busybox();
    machine.write("p/compose.yaml", text);
    machine
}

#[test]
fn an_interrupt_stops_gracefully() {
    let machine = machine(&service("echo bye; exit 0"));
    let mut session = Session::start(&machine, "p", "up");
    session.until("web-1  |\u{1b}[0m ready");
    session.type_in("\u{3}");
    let (code, shown) = session.end();
    for expected in [
        "Attaching to web-1",
        "Gracefully stopping... (press Ctrl+C again to force)",
        " bye\n",
        " exited with code 0\n",
    ] {
        assert!(shown.contains(expected), "{expected:?} is not in\n{shown}");
    }
    assert_eq!(code, 130, "{shown}");
    assert_eq!(machine.ok("p", &["ps", "-q"]), "");
    machine.ok("p", &["down"]);
    machine.assert_clean();
}

#[test]
fn an_interrupt_at_a_question_leaves_the_terminal_as_it_was() {
    let machine = Machine::new();
    for (arguments, question) in [
        ("login -u me 127.0.0.1:1", "Password: "),
        ("login 127.0.0.1:1", "Username: "),
    ] {
        // The shell goes on where this program ends.
        let binary = env!("CARGO_BIN_EXE_stack");
        let line = format!("trap : INT; {binary} {arguments}; echo code=$?; stty -a");
        let mut session = Session::run(&machine, ".", &line);
        session.until(question);
        session.type_in("\u{3}");
        let (code, shown) = session.end();
        assert_eq!(code, 0, "{shown}");
        assert!(shown.contains("code=130\n"), "{shown}");
        let modes: Vec<&str> = shown.split([' ', '\n']).collect();
        for mode in ["echo", "icanon", "isig"] {
            assert!(modes.contains(&mode), "{mode}: {shown}");
        }
        for key in ["quit = ^\\", "susp = ^Z"] {
            assert!(shown.contains(key), "{key}: {shown}");
        }
    }
    // What is typed is not shown, and is the password: the registry is asked, and is not there.
    let binary = env!("CARGO_BIN_EXE_stack");
    let line = format!("{binary} login 127.0.0.1:1; stty -a");
    let mut session = Session::run(&machine, ".", &line);
    session.until("Username: ");
    session.type_in("me\r");
    session.until("Password: ");
    session.type_in("hidden\u{1c}\r");
    let (_, shown) = session.end();
    assert!(shown.contains("127.0.0.1:1"), "{shown}");
    assert!(!shown.contains("hidden"), "{shown}");
}

#[test]
fn a_second_interrupt_kills() {
    let machine = machine(&service("echo not yet"));
    let mut session = Session::start(&machine, "p", "up -t 600");
    session.until(" ready");
    session.type_in("\u{3}");
    session.until(" not yet");
    session.type_in("\u{3}");
    let (code, shown) = session.end();
    assert!(shown.contains(" exited with code 137\n"), "{shown}");
    assert_eq!(code, 130, "{shown}");
    machine.ok("p", &["down"]);
    machine.assert_clean();
}

#[test]
fn a_command_gets_the_terminal_its_size_and_its_keys_and_gives_its_exit_code() {
    let machine = machine(&service("exit 0"));
    machine.ok("p", &["up", "-d"]);
    let mut session = Session::start(&machine, "p", "exec web sh");
    session.type_in("stty size; tty; echo typed-$((40 + 2))\r");
    session.until("20 90\n");
    session.until("/dev/pts/0\n");
    session.until("typed-42\n");
    // The interrupt is the command's, not this program's.
    // It is the command in the foreground that says so: a shell that is interrupted just before it starts one waits for it.
    session.type_in("sh -c 'echo asleep-$((1 + 1)); exec sleep 1000'\r");
    session.until("asleep-2\n");
    session.type_in("\u{3}");
    session.type_in("echo awake-$((1 + 2)); exit 5\r");
    let (code, shown) = session.end();
    assert!(shown.contains("awake-3\n"), "{shown}");
    assert_eq!(code, 5, "{shown}");
    machine.ok("p", &["down", "-t", "0"]);
    machine.assert_clean();
}

#[test]
fn the_end_of_one_container_ends_all_and_is_the_result() {
    let machine = machine(
        "name: demo\nservices:\n  long:\n    image: busybox\n    init: true\n    command: sh -c 'trap \"exit 9\" TERM; while :; do sleep 0.05; done'\n  \
         job:\n    image: busybox\n    command: sh -c 'echo said >&2; exit 3'\n",
    );
    let ended = machine.run("p", &["up", "--abort-on-container-exit"]);
    assert_eq!(ended.code, 3, "{}{}", ended.stdout, ended.stderr);
    assert!(
        ended.stderr.contains("job-1   | said\n"),
        "{}",
        ended.stderr
    );
    assert!(
        ended.stdout.contains("job-1 exited with code 3\n"),
        "{}",
        ended.stdout
    );
    let chosen = machine.run("p", &["up", "--exit-code-from", "long"]);
    assert_eq!(chosen.code, 9, "{}{}", chosen.stdout, chosen.stderr);
    let all = machine.run("p", &["up", "--no-log-prefix", "--no-deps", "job"]);
    assert_eq!(
        (all.code, all.stdout.as_str()),
        (0, "job-1 exited with code 3\n"),
        "{}",
        all.stderr
    );
    machine.ok("p", &["down"]);
    machine.assert_clean();
}
