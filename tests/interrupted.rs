//! Commands on images that are killed or interrupted: nothing stands still, nothing half is in use, nothing stays behind.

#![expect(clippy::unwrap_used, reason = "a test's helpers")]

mod support;

use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use support::{Machine, Ran};

/// A container with much to copy.
fn with_much() -> Machine {
    let machine = Machine::project(
        "services:\n  web:\n    image: busybox\n    init: true\n    command: sleep infinity\n",
    );
    machine.ok("p", &["up", "-d"]);
    let write = "head -c 300000000 /dev/urandom > /much";
    machine.ok("p", &["exec", "web", "sh", "-c", write]);
    machine
}

/// Starts a command whose output is kept.
fn start(machine: &Machine, args: &[&str]) -> Child {
    let mut command = machine.stack("p", args);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().unwrap()
}

fn end(child: &Child, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    kill_process(pid, signal).unwrap();
}

fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let started = Instant::now();
    while !is_so() {
        assert!(
            started.elapsed() < Duration::from_mins(1),
            "{what}: not in a minute"
        );
        std::thread::yield_now();
    }
}

/// Whether the container of the machine stands still, by the kernel's word.
fn is_frozen(machine: &Machine) -> bool {
    let instance = fs_err::read_to_string(machine.root().join("lib/instance")).unwrap();
    let found = machine.sh(&format!(
        "find /sys/fs/cgroup -path '*/stack-{}/*' \\( -name cgroup.events -o -name freezer.state \\) -exec cat {{}} +",
        instance.trim()
    ));
    found
        .lines()
        .any(|line| line == "frozen 1" || line == "FROZEN")
}

/// What is left of commands that ended.
fn remains(machine: &Machine) -> String {
    machine
        .sh("ls stack/lib/tmp | grep -v '^lock$' || true; ls stack/run/frozen 2>/dev/null || true")
}

#[test]
fn a_commit_that_is_interrupted_lets_the_container_go_on() {
    let machine = with_much();
    for signal in [Signal::INT, Signal::TERM] {
        let commit = start(&machine, &["commit", "web", "half"]);
        wait_until("the container stands still", || is_frozen(&machine));
        end(&commit, signal);
        let ran = Ran::of(&commit.wait_with_output().unwrap());
        assert_eq!((ran.code, ran.stdout.as_str()), (130, ""), "{}", ran.stderr);
        // Without any other command.
        assert!(!is_frozen(&machine));
        assert_eq!(remains(&machine), "");
    }
    assert_eq!(machine.ok("p", &["image", "ls", "-q", "half"]), "");
    machine.ok("p", &["down", "-t", "0"]);
    machine.assert_clean();
}

#[test]
fn a_commit_that_is_killed_freezes_nothing_for_long() {
    let machine = with_much();
    let mut commit = start(&machine, &["commit", "web", "half"]);
    wait_until("the container stands still", || is_frozen(&machine));
    // While somebody is at it, another command leaves it alone.
    machine.ok("p", &["ps"]);
    assert!(is_frozen(&machine));
    assert_eq!(commit.try_wait().unwrap(), None);
    // The second waits for the first, and can be interrupted meanwhile.
    let second = start(&machine, &["commit", "web", "second"]);
    wait_until("the second waits", || {
        let locks = fs_err::read_to_string("/proc/locks").unwrap();
        let waits = format!("-> FLOCK  ADVISORY  WRITE {} ", second.id());
        locks.lines().any(|line| line.contains(&waits))
    });
    end(&second, Signal::INT);
    assert_eq!(Ran::of(&second.wait_with_output().unwrap()).code, 130);
    end(&commit, Signal::KILL);
    assert_eq!(Ran::of(&commit.wait_with_output().unwrap()).code, 128 + 9);
    assert!(is_frozen(&machine), "it was not killed in time");
    machine.ok("p", &["ps"]);
    assert!(!is_frozen(&machine));
    assert_eq!(remains(&machine), "");
    assert_eq!(machine.ok("p", &["exec", "web", "echo", "on"]), "on\n");
    assert_eq!(machine.ok("p", &["image", "ls", "-q", "half"]), "");
    // What was copied so far is no layer of anything.
    machine.ok("p", &["image", "prune", "-f"]);
    assert_eq!(machine.sh("ls stack/lib/layers | wc -l"), "1\n");
    let checked = machine.ok("p", &["system", "check"]);
    assert!(checked.ends_with("nothing is damaged\n"), "{checked}");
    machine.ok("p", &["commit", "web", "whole"]);
    machine.ok("p", &["down", "-t", "0"]);
    machine.assert_clean();
}

/// How much a process has written to a file of `p` that has no name yet.
fn written(pid: u32) -> u64 {
    let Ok(entries) = fs_err::read_dir(format!("/proc/{pid}/fd")) else {
        return 0;
    };
    let of_output = entries.flatten().filter(|entry| {
        let target = fs_err::read_link(entry.path()).unwrap_or_default();
        target.to_string_lossy().contains("/p/#")
    });
    let sizes = of_output.filter_map(|entry| Some(fs_err::metadata(entry.path()).ok()?.len()));
    sizes.max().unwrap_or(0)
}

#[test]
fn a_save_that_is_killed_leaves_the_old_file_and_nothing_in_the_store() {
    let machine = with_much();
    machine.ok("p", &["commit", "web", "much"]);
    machine.ok("p", &["down", "-t", "0"]);
    machine.write("p/out.tar", "the old one");
    let bytes_before = machine.sh("ls stack/lib/images/blobs/sha256 | wc -l");
    for moment in 0..8 {
        let save = start(&machine, &["image", "save", "-o", "out.tar", "much"]);
        let size = || written(save.id());
        // From before it has a file to when most of that is written.
        let wanted = moment * 30_000_000;
        if moment > 0 {
            wait_until("so much is written", || size() >= wanted);
        }
        end(&save, Signal::KILL);
        assert_eq!(Ran::of(&save.wait_with_output().unwrap()).code, 128 + 9);
        let old = fs_err::read_to_string(machine.path().join("p/out.tar")).unwrap();
        assert_eq!(old, "the old one");
        machine.ok("p", &["image", "prune", "-f"]);
        assert_eq!(remains(&machine), "");
    }
    let checked = machine.ok("p", &["system", "check"]);
    assert!(checked.ends_with("nothing is damaged\n"), "{checked}");
    machine.ok("p", &["image", "save", "-o", "out.tar", "much"]);
    // The killed ones left nothing beside it.
    assert_eq!(machine.sh("ls -A p | grep tmp || true"), "");
    assert!(bytes_before.trim().parse::<u32>().unwrap() > 0);
    machine.sh("tar tf p/out.tar > /dev/null");
}

#[test]
fn who_waits_for_another_command_says_so_and_hears_an_interrupt() {
    let machine = Machine::project(
        "services:\n  web:\n    image: busybox\n    init: true\n    command: sleep infinity\n  made:\n    build: .\n    profiles: [made]\n",
    );
    machine.ok("p", &["config", "-q"]);
    machine.ok("p", &["up", "-d"]);
    let lock = machine.root().join("lib/locks/p");
    let held = fs_err::File::open(&lock).unwrap();
    rustix::fs::flock(&held, rustix::fs::FlockOperation::LockExclusive).unwrap();
    for args in [
        &["up", "-d"][..],
        &["down", "-t", "0"],
        &["pull"],
        &["--profile", "made", "build"],
    ] {
        let mut waiting = start(&machine, args);
        let mut told = std::io::BufReader::new(waiting.stderr.take().unwrap());
        let mut line = String::new();
        std::io::BufRead::read_line(&mut told, &mut line).unwrap();
        assert_eq!(
            line, "warning: waiting for another command that is changing project p\n",
            "{args:?}"
        );
        end(&waiting, Signal::INT);
        assert_eq!(waiting.wait().unwrap().code(), Some(130), "{args:?}");
    }
    drop(held);
    machine.ok("p", &["down", "-t", "0"]);
    machine.assert_clean();
}
