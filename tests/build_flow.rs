//! How a build goes on, with the real binary: at once, beside others, interrupted, killed, and out of room.

#![allow(
    clippy::allow_attributes,
    clippy::disallowed_methods,
    reason = "tests run real processes"
)]
#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

mod support;

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Lines};
use std::process::{Child, ChildStderr, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use support::Machine;

fn machine() -> Machine {
    let machine = Machine::new();
    machine.import_busybox();
    machine
}

/// A build that goes on.
struct Going {
    child: Child,
    lines: Lines<BufReader<ChildStderr>>,
    told: Vec<String>,
}

impl Going {
    /// Begins the build of a Dockerfile in the context `c`.
    fn begin(machine: &Machine, text: &str, options: &[&str]) -> Self {
        let name = format!("Dockerfile.{}", text.len());
        machine.write(&format!("c/{name}"), text);
        let args = ["image", "build", "--progress", "plain", "-f", &name];
        let mut command = machine.stack("c", &[&args, options, &["."]].concat());
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        Self {
            child,
            lines,
            told: Vec::new(),
        }
    }

    /// Waits for a line that contains `text`.
    fn until(&mut self, text: &str) -> String {
        for line in self.lines.by_ref() {
            let line = line.unwrap();
            self.told.push(line.clone());
            if line.contains(text) {
                return line;
            }
        }
        panic!("no `{text}` in\n{}", self.told.join("\n"));
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits for its end; returns its exit code and what it told.
    fn end(mut self) -> (Option<i32>, String) {
        self.told.extend(self.lines.by_ref().map(Result::unwrap));
        let status = self.child.wait().unwrap();
        (status.code(), self.told.join("\n"))
    }
}

/// Builds; returns exit code and progress.
fn build(machine: &Machine, text: &str, options: &[&str]) -> (Option<i32>, String) {
    Going::begin(machine, text, options).end()
}

fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let started = Instant::now();
    while !is_so() {
        let waited = started.elapsed();
        assert!(waited < Duration::from_mins(1), "{what}: not in a minute");
        std::thread::yield_now();
    }
}

/// What builds that ended left below the root.
fn remains(machine: &Machine) -> String {
    machine
        .sh("ls stack/lib/tmp | grep -v '^lock$' || true; ls stack/run/steps 2>/dev/null || true")
}

/// Whether a process, or one of its threads, has a file open.
fn has_open(pid: u32, name: &str) -> bool {
    let Ok(entries) = fs_err::read_dir(format!("/proc/{pid}/fd")) else {
        return false;
    };
    entries.flatten().any(|entry| {
        let target = fs_err::read_link(entry.path());
        target.is_ok_and(|target| target.ends_with(name))
    })
}

fn cached_steps(machine: &Machine) -> usize {
    let steps = fs_err::read_dir(machine.root().join("lib/cache/steps"));
    let names = steps
        .into_iter()
        .flatten()
        .map(|step| step.unwrap().file_name());
    // One that begins with a dot is still being written.
    names
        .filter(|name| !name.as_encoded_bytes().starts_with(b"."))
        .count()
}

#[test]
fn a_large_file_of_the_context_holds_up_neither_interrupts_nor_other_stages() {
    let machine = machine();
    machine.sh("mkdir c && truncate -s 200G c/large");
    for signal in [Signal::INT, Signal::TERM] {
        let going = Going::begin(&machine, "FROM busybox\nCOPY large /\n", &[]);
        let pid = going.child.id();
        wait_until("the file is read", || has_open(pid, "large"));
        let asked = Instant::now();
        going.signal(signal);
        assert_eq!(going.end().0, Some(130));
        assert!(asked.elapsed() < Duration::from_secs(5));
        assert_eq!(remains(&machine), "");
    }
    // Another stage goes on meanwhile, and its failure ends it.
    let text = "FROM busybox AS one\nCOPY large /\nFROM busybox AS two\nRUN echo here; exit 9\n\
                FROM scratch\nCOPY --from=one / /\nCOPY --from=two / /\n";
    let (code, told) = build(&machine, text, &[]);
    assert_eq!(code, Some(1), "{told}");
    assert!(
        told.contains("[two 2/2] RUN echo here; exit 9") && told.contains(" here"),
        "{told}"
    );
    assert!(
        told.contains(":4\n") && told.contains("exit code: 9"),
        "{told}"
    );
    assert_eq!(remains(&machine), "");
    machine.assert_clean();
}

#[test]
fn what_is_finished_is_kept_whatever_becomes_of_the_next_step() {
    let machine = machine();
    machine.sh("mkdir c");
    // Large enough to be hashed beside the next step.
    let first = |name: &str| {
        format!(
            "FROM busybox\nRUN echo {name}; dd if=/dev/zero of=/{name} bs=1M count=24 2>/dev/null\n"
        )
    };
    let is_cached = |name: &str| {
        let (code, told) = build(&machine, &format!("{}RUN true\n", first(name)), &[]);
        assert_eq!(code, Some(0), "{told}");
        told.contains("CACHED") && !told.lines().any(|line| line.ends_with(&format!(" {name}")))
    };
    let (code, told) = build(&machine, &format!("{}RUN exit 3\n", first("failed")), &[]);
    assert_eq!(code, Some(1), "{told}");
    assert!(is_cached("failed"));
    let endless = "RUN echo begun; while :; do sleep 1000; done\n";
    let mut going = Going::begin(&machine, &format!("{}{endless}", first("interrupted")), &[]);
    going.until(" begun");
    going.signal(Signal::INT);
    assert_eq!(going.end().0, Some(130));
    assert_eq!(remains(&machine), "");
    assert!(is_cached("interrupted"));
    let known = cached_steps(&machine);
    let mut going = Going::begin(&machine, &format!("{}{endless}", first("killed")), &[]);
    going.until(" begun");
    // While the next one goes on.
    wait_until("the step is kept", || cached_steps(&machine) > known);
    going.signal(Signal::KILL);
    going.end();
    assert!(is_cached("killed"));
    assert_eq!(remains(&machine), "");
    machine.assert_clean();
}

#[test]
fn a_layer_that_is_there_already_stays_below_the_step_that_began_above_it() {
    let machine = machine();
    machine.sh("mkdir c && head -c 24M /dev/urandom > c/large && touch -d 2020-01-01 c/large");
    let (code, told) = build(
        &machine,
        "FROM busybox\nCOPY large /large\n",
        &["-t", "one"],
    );
    assert_eq!(code, Some(0), "{told}");
    let known = cached_steps(&machine);
    // Another key, and the same layer.
    let text = "FROM busybox\nCOPY larg* /large\n\
                RUN --mount=type=cache,target=/c echo begun; until [ -e /c/go ]; do usleep 1000; done; wc -c /large; ls /\n";
    let mut going = Going::begin(&machine, text, &["-t", "two"]);
    going.until(" begun");
    wait_until("the layer is found to be there", || {
        cached_steps(&machine) > known
    });
    machine.sh("for d in stack/lib/cache/mounts/*/data; do : > $d/go; done");
    let (code, told) = going.end();
    assert_eq!(code, Some(0), "{told}");
    assert!(told.contains("25165824 /large"), "{told}");
    assert_eq!(remains(&machine), "");
    machine.assert_clean();
}

#[test]
fn who_waits_for_another_build_says_so_and_can_be_interrupted() {
    let machine = machine();
    machine.sh("mkdir c");
    let text = "FROM busybox\nRUN --mount=type=cache,target=/c echo begun; until [ -e /c/go ]; do usleep 1000; done; echo made > /made\n";
    let mut first = Going::begin(&machine, text, &["-t", "one"]);
    first.until(" begun");
    let pid = first.child.id();
    let waiting = format!("waiting for another build of this step (pid {pid})");
    let mut second = Going::begin(&machine, text, &[]);
    second.until(&waiting);
    second.signal(Signal::INT);
    let (code, told) = second.end();
    assert_eq!(code, Some(130), "{told}");
    let mut third = Going::begin(&machine, text, &["-t", "two"]);
    third.until(&waiting);
    machine.sh("for d in stack/lib/cache/mounts/*/data; do : > $d/go; done");
    let (code, told) = first.end();
    assert_eq!(code, Some(0), "{told}");
    let (code, told) = third.end();
    assert_eq!(code, Some(0), "{told}");
    assert!(told.contains("CACHED"), "{told}");
    let ids = ["one", "two"].map(|name| {
        machine.ok(
            ".",
            &["image", "inspect", "--format", "{{.RootFS.Layers}}", name],
        )
    });
    assert_eq!(ids[0], ids[1]);
    assert_eq!(remains(&machine), "");
    machine.assert_clean();
}

#[test]
fn the_first_failure_ends_every_stage_and_so_do_interrupts() {
    let machine = machine();
    machine.sh("mkdir c");
    let meet = "--mount=type=cache,target=/c";
    let sleeper = |name: &str| {
        format!(
            "FROM busybox AS {name}\nRUN {meet} printf '{name} sleeps'; : > /c/{name}; sleep 1000\n"
        )
    };
    let all = "for s in a b c; do until [ -e /c/$s ]; do usleep 1000; done; done";
    let stages = [sleeper("a"), sleeper("b"), sleeper("c")].concat();
    let last = "FROM scratch\nCOPY --from=a / /a\nCOPY --from=b / /b\nCOPY --from=c / /c\nCOPY --from=d / /d\n";
    let text = format!("{stages}FROM busybox AS d\nRUN {meet} {all}; echo words; exit 5\n{last}");
    let (code, told) = build(&machine, &text, &[]);
    assert_eq!(code, Some(1), "{told}");
    for wanted in [
        "words",
        "a sleeps",
        "b sleeps",
        "c sleeps",
        "CANCELED",
        "exit code: 5",
    ] {
        assert!(told.contains(wanted), "no `{wanted}` in\n{told}");
    }
    assert_eq!(told.matches("CANCELED").count(), 3, "{told}");
    assert!(told.contains(":8\n"), "{told}");
    assert_eq!(remains(&machine), "");
    machine.assert_clean();
    machine.sh("rm -f stack/lib/cache/mounts/*/data/*");
    // Twice in a row: whatever the second one meets.
    let text =
        format!("{stages}FROM busybox AS d\nRUN {meet} {all}; echo words; sleep 1000\n{last}");
    let mut going = Going::begin(&machine, &text, &[]);
    going.until(" words");
    going.signal(Signal::INT);
    going.signal(Signal::INT);
    let (code, told) = going.end();
    assert_eq!(code, Some(130), "{told}");
    // The next command finds what was given up where it stood.
    let (code, told) = build(&machine, "FROM busybox\nRUN true\n", &[]);
    assert_eq!(code, Some(0), "{told}");
    assert_eq!(remains(&machine), "");
    machine.assert_clean();
}

#[test]
fn a_full_disk_is_said_and_leaves_nothing() {
    let machine = machine();
    machine.sh(
        "mkdir c && dd if=/dev/zero of=c/large bs=1M count=40 2>/dev/null && \
         dd if=/dev/zero bs=1M count=40 2>/dev/null | tar cf - c/large | gzip -1 > c/packed.tgz; \
         mkdir small && mount -t tmpfs -o size=24m small small",
    );
    let run = |text: &str| {
        machine.write("c/Dockerfile", text);
        let mut command = machine.command("c", env!("CARGO_BIN_EXE_stack"));
        let root = machine.path().join("small/root");
        command.arg("--root").arg(root);
        let ran = command.args(["image", "build", "--progress", "plain", "."]);
        support::Ran::of(&ran.output().unwrap())
    };
    let left = || {
        machine.sh("ls small/root/lib/tmp | grep -v '^lock$' || true; ls small/root/run/steps 2>/dev/null || true")
    };
    let busybox = machine.path().join("busybox.tar").display().to_string();
    let stack = env!("CARGO_BIN_EXE_stack");
    machine.sh(&format!(
        "{stack} --root small/root image import -c 'CMD [\"sh\"]' {busybox} busybox:latest"
    ));
    for step in [
        "RUN dd if=/dev/zero of=/big bs=1M",
        "COPY large /",
        "ADD packed.tgz /",
        "RUN --mount=type=bind,target=/c true",
    ] {
        let ran = run(&format!("FROM busybox\n{step}\n"));
        assert_eq!(ran.code, 1, "{step}: {}", ran.stderr);
        assert!(
            ran.stderr.contains("No space left on device"),
            "{step}: {}",
            ran.stderr
        );
        assert!(
            ran.stderr.contains("Dockerfile:2\n"),
            "{step}: {}",
            ran.stderr
        );
        assert_eq!(left(), "", "{step}");
    }
    let ran = run("FROM busybox\nRUN echo works > /w\n");
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert_eq!(left(), "");
}

#[test]
fn no_step_outlives_a_build_that_is_killed() {
    let machine = machine();
    machine.sh("mkdir c");
    // One leaves its session.
    // Told from those of any other run by their arguments.
    let mine = 1_000_000 + std::process::id();
    let text =
        format!("FROM busybox\nRUN (setsid sleep 1{mine} &); echo begun; exec sleep 2{mine}\n");
    let mut going = Going::begin(&machine, &text, &[]);
    going.until(" begun");
    let running = || machine.sh(&format!("pgrep -f '^sleep [12]{mine}$' || true"));
    wait_until("both sleep", || running().lines().count() == 2);
    going.signal(Signal::KILL);
    let (code, _) = going.end();
    assert_eq!(code, None);
    // Without another command.
    wait_until("the step has ended", || running().is_empty());
    let (code, told) = build(&machine, "FROM busybox\nRUN true\n", &[]);
    assert_eq!(code, Some(0), "{told}");
    assert_eq!(remains(&machine), "");
    machine.assert_clean();
}

#[test]
fn what_would_be_lost_in_a_layer_is_told() {
    let machine = machine();
    machine.sh("mkdir c && echo text > c/.wh.passwd && cd c && tar cf ../t.tar .wh.passwd && mv ../t.tar a.tar");
    for (step, path) in [
        ("COPY .wh.passwd /etc/", "`/etc/.wh.passwd`"),
        ("ADD a.tar /etc/", "`/etc/.wh.passwd`"),
        ("RUN echo > /etc/.wh.passwd", "`/etc/.wh.passwd`"),
        (
            "RUN mkdir /d && echo > /d/.wh..wh..opq",
            "`/d/.wh..wh..opq`",
        ),
    ] {
        let (code, told) = build(&machine, &format!("FROM busybox\n{step}\n"), &[]);
        assert_eq!(code, Some(0), "{told}");
        let warned = |line: &str| line.starts_with("warning: ") && line.contains(path);
        assert!(told.lines().any(warned), "{step}: {told}");
    }
    // Overlayfs allows none of the other kind.
    let (code, told) = build(
        &machine,
        "FROM busybox\nRUN ! mknod /etc/passwd- c 0 0\n",
        &[],
    );
    assert_eq!(code, Some(0), "{told}");
    assert_eq!(remains(&machine), "");
}

#[test]
fn attributes_of_the_overlay_come_from_nobody() {
    let machine = machine();
    // An opaque directory and one that leads elsewhere, as the header of a tar would have them.
    machine.sh(
        "mkdir -p c t/d && echo x > t/d/f && cd t && \
         tar --format=pax --pax-option='SCHILY.xattr.trusted.overlay.opaque:=y,SCHILY.xattr.trusted.overlay.redirect:=/etc,SCHILY.xattr.user.overlay.opaque:=y,SCHILY.xattr.user.own:=1' -cf ../c/a.tar d",
    );
    let text = "FROM busybox\nADD a.tar /etc/\nRUN test -e /etc/passwd && test -e /etc/d/f\n";
    let (code, told) = build(&machine, text, &["-t", "x"]);
    assert_eq!(code, Some(0), "{told}");
    // The context as a tar.
    machine.write("t/Dockerfile", "FROM busybox\nCOPY d /etc/d\n");
    machine.sh("cd t && tar --format=pax --pax-option='SCHILY.xattr.trusted.overlay.opaque:=y,SCHILY.xattr.user.own:=1' -cf ../context.tar Dockerfile d");
    let stack = env!("CARGO_BIN_EXE_stack");
    machine.sh(&format!(
        "{stack} --root stack image build -q - < context.tar"
    ));
    let mut found = BTreeSet::new();
    for entry in machine.sh("find stack/lib/layers").lines() {
        let mut names = vec![0; 4096];
        let length = rustix::fs::llistxattr(machine.path().join(entry), &mut names[..]).unwrap();
        let names = names[..length].split(|byte| *byte == 0);
        found.extend(names.map(|name| String::from_utf8_lossy(name).into_owned()));
    }
    // But for what the kernel notes of an upper directory, and labels of the machine's own.
    let by_kernel = ["uuid", "impure", "origin"].map(|name| format!("trusted.overlay.{name}"));
    found.retain(|name| {
        !name.is_empty() && !name.starts_with("security.") && !by_kernel.contains(name)
    });
    assert_eq!(found, BTreeSet::from(["user.own".to_owned()]));
}

#[test]
fn files_of_an_image_go_nowhere_but_into_their_directory() {
    let machine = machine();
    machine.sh("mkdir -p c out elsewhere && echo theirs > elsewhere/f && ln -s ../elsewhere/f out/f && ln -s ../elsewhere out/d");
    let text = "FROM scratch\nCOPY <<E /f\nnew\nE\n";
    let (code, told) = build(&machine, text, &["-o", "../out"]);
    assert_eq!(code, Some(0), "{told}");
    assert_eq!(
        machine.sh("cat out/f elsewhere/f; test ! -L out/f"),
        "new\ntheirs\n"
    );
    let (code, told) = build(
        &machine,
        "FROM scratch\nCOPY <<E /d/f\nnew\nE\n",
        &["-o", "../out"],
    );
    assert_eq!(code, Some(1), "{told}");
    assert!(
        told.contains("is there and is no directory; a link is not followed"),
        "{told}"
    );
    assert_eq!(
        machine.sh("cat elsewhere/f; ls out elsewhere"),
        "theirs\nelsewhere:\nf\n\nout:\nd\nf\n"
    );
}
