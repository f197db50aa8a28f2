//! DESIGN.md section 3: who dies, and what survives. Each case kills exactly that process.

use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::time::{Duration, Instant};

use stack::runtime::config::{ContainerId, RestartPolicy};
use stack::runtime::record::{Exit, HealthStatus, Live, Phase, Timestamp};
use stack::runtime::status::{Status, Watch, wants_boot};
use stack::runtime::{Adoption, RuntimeError, Starting};
use stack::sys::atomic::Durability;
use stack::sys::lock::{Lock, Mode};

use crate::Case;
use crate::fixture::{Instance, health, kill_and_wait, memory, until_gone};

/// The cases of this file.
pub(crate) const CASES: &[Case] = &[
    ("the_command_dies_and_all_goes_on", command),
    (
        "the_command_dies_before_its_monitor_has_begun_and_nobody_starts_another",
        command_before_monitor,
    ),
    (
        "the_command_dies_before_its_monitor_has_begun_and_a_removal_waits_for_it",
        removal_before_monitor,
    ),
    ("the_sidecar_dies_and_is_started_again", sidecar),
    (
        "the_init_dies_and_is_started_again_in_the_same_network",
        init,
    ),
    (
        "the_monitor_dies_and_nothing_that_was_written_is_lost",
        monitor_logs,
    ),
    (
        "the_monitor_dies_and_health_sidecar_and_restarts_go_on",
        monitor_duties,
    ),
    (
        "the_monitor_of_a_terminal_dies_and_nobody_is_hung_up",
        monitor_terminal,
    ),
    ("the_keeper_of_a_terminal_dies_and_another_is_made", keeper),
    (
        "a_terminal_without_monitor_is_stopped_and_its_keeper_ends",
        keeper_without_monitor,
    ),
    ("the_monitor_dies_and_a_stop_does_its_work", monitor_stop),
    (
        "the_monitor_dies_at_its_end_and_what_it_saw_is_kept",
        monitor_at_end,
    ),
    (
        "the_monitor_dies_and_of_several_callers_one_does_its_work",
        monitor_callers,
    ),
    (
        "the_monitor_dies_while_the_log_disk_is_full_and_another_takes_its_place",
        monitor_full_disk,
    ),
    (
        "the_monitor_and_then_the_init_die_unseen",
        monitor_then_init,
    ),
    ("the_host_dies_and_boot_knows_what_to_start", host),
    (
        "the_host_goes_down_and_the_container_is_asked_to_end",
        shutdown,
    ),
];

const COUNT: &str = "i=0; while :; do i=$((i+1)); echo $i; sleep 0.01; done";

fn command() {
    let instance = Instance::new();
    let id = instance
        .runtime
        .create(&instance.config("one", COUNT), Durability::Cached)
        .unwrap();
    let mut caller = instance.caller(&id, true);
    let mut caller = caller
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(caller.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    assert_eq!(line, "started\n");
    caller.kill().unwrap();
    caller.wait().unwrap();
    let seen = instance.lines(&id).len();
    instance.until_line(&id, &(seen + 20).to_string());
    assert!(instance.sidecar(&id).is_some());
    assert_eq!(instance.stop(&id, Duration::ZERO).exit.unwrap().code, 137);
}

/// Starts a container by a command that is killed while its monitor has not begun; returns what holds that up.
fn killed_before_monitor(instance: &Instance, id: &ContainerId) -> fs_err::File {
    let held = instance.hold_monitors();
    let mut caller = instance.caller(id, false);
    let mut caller = caller
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let held = held.one();
    // It waits for the answer: all that the monitor needs to go on is in its socket.
    until_in_call(caller.id(), libc::SYS_recvfrom);
    caller.kill().unwrap();
    caller.wait().unwrap();
    held
}

/// Waits until a process is in the system call of that number.
fn until_in_call(pid: u32, call: libc::c_long) {
    let begun = Instant::now();
    let now = || fs_err::read_to_string(format!("/proc/{pid}/syscall")).unwrap();
    while !now().starts_with(&format!("{call} ")) {
        assert!(begun.elapsed() < Duration::from_secs(20), "{}", now());
        std::thread::yield_now();
    }
}

/// Runs `work` beside the monitor that is held up, which goes on once `work` waits for it or is done.
fn beside<T: Send>(
    instance: &Instance,
    id: &ContainerId,
    held: impl Sized,
    work: impl FnOnce() -> T + Send,
) -> T {
    use std::os::unix::fs::MetadataExt;
    let lock = fs_err::metadata(instance.runtime.layout().spawn_lock(id)).unwrap();
    // `1: -> FLOCK  ADVISORY  WRITE 1234 00:1b:5678 0 EOF` is one who waits (man 5 proc_locks).
    let inode = format!(":{} ", lock.ino());
    let waits = || {
        let locks = fs_err::read_to_string("/proc/locks").unwrap();
        locks
            .lines()
            .any(|line| line.contains("->") && line.contains(&inode))
    };
    std::thread::scope(|scope| {
        let working = scope.spawn(work);
        while !working.is_finished() && !waits() {
            std::thread::yield_now();
        }
        drop(held);
        working.join().unwrap()
    })
}

fn command_before_monitor() {
    let instance = Instance::new();
    let config = instance.config("one", "echo run; while :; do sleep 100; done");
    let id = instance
        .runtime
        .create(&config, Durability::Cached)
        .unwrap();
    let held = killed_before_monitor(&instance, &id);
    let other = instance.again();
    let spawning = other.spawning(&id).unwrap();
    assert!(spawning.is_some(), "nobody sees the monitor");
    let second = beside(&instance, &id, held, || {
        other.spawn(&id, instance.launch(false))
    });
    assert!(
        matches!(second, Err(RuntimeError::Running(_))),
        "{:?}",
        second.map(Starting::finish)
    );
    spawning.unwrap().finish().unwrap();
    instance.until(&id, |c| c.pid().is_some());
    assert!(other.spawning(&id).unwrap().is_none());
    instance.until_line(&id, "run");
    assert_eq!(instance.lines(&id), ["run"]);
}

fn removal_before_monitor() {
    let instance = Instance::new();
    let config = instance.config("one", "while :; do sleep 100; done");
    let id = instance
        .runtime
        .create(&config, Durability::Cached)
        .unwrap();
    let held = killed_before_monitor(&instance, &id);
    let other = instance.again();
    beside(&instance, &id, held, || {
        other.remove(&id, true, Durability::Cached).unwrap();
    });
    assert!(instance.runtime.list().unwrap().is_empty());
    let layout = instance.runtime.layout();
    assert!(!layout.control(&id).exists() && !layout.live(&id).exists());
}

fn sidecar() {
    let instance = Instance::new();
    let id = instance.start(&instance.config("one", COUNT), true);
    let first = instance.sidecar(&id).unwrap();
    kill_and_wait(first);
    // Its restart changes no state file; the log's growth is the clock.
    instance.follow(&id, |_| {
        instance.sidecar(&id).is_some_and(|pid| pid != first)
    });
    let container = instance.get(&id);
    assert_eq!(container.restarts, 0);
    assert!(container.pid().is_some());
    let second = instance.sidecar(&id).unwrap();
    instance.stop(&id, Duration::ZERO);
    until_gone(second);
}

fn init() {
    let instance = Instance::new();
    let mut config = instance.config("one", "echo run; while :; do sleep 100; done");
    config.restart = RestartPolicy::Always;
    let id = instance
        .runtime
        .create(&config, Durability::Cached)
        .unwrap();
    let mut launch = instance.launch(true);
    let netns = std::thread::spawn(|| {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
        fs_err::File::open("/proc/thread-self/ns/net")
            .unwrap()
            .into_file()
    });
    launch.netns = Some(netns.join().unwrap().into());
    instance
        .runtime
        .spawn(&id, launch)
        .unwrap()
        .finish()
        .unwrap();
    let network = |pid: i32| fs_err::read_link(format!("/proc/{pid}/ns/net")).unwrap();
    let first = instance.get(&id).pid().unwrap();
    let before = network(first);
    let sidecar = instance.sidecar(&id);
    kill_and_wait(first);
    let container = instance.until(&id, |c| c.pid().is_some_and(|pid| pid != first));
    assert_eq!(network(container.pid().unwrap()), before);
    assert_eq!((container.restarts, instance.sidecar(&id)), (1, sidecar));
    assert_eq!(instance.releases(), 0);
}

fn monitor_logs() {
    let instance = Instance::new();
    let script = "i=0; while [ $i -lt 100000 ]; do i=$((i+1)); echo $i; done; echo end; \
                  while [ ! -e /go ]; do sleep 0.05; done; exit 42";
    let mut config = instance.config("one", script);
    // Nothing is rotated away.
    config.log.max_size_bytes = 64 << 20;
    let id = instance.start(&config, false);
    // The pipe fills: the writer waits for the next monitor instead of dying.
    for lines in [0, 5000, 20_000, 50_000] {
        instance.follow(&id, |entries| entries.len() >= lines);
        instance.kill_monitor(&id);
        let init = instance.get(&id).pid().unwrap();
        let Adoption::Adopting(starting) = instance.again().adopt(&id, &[]).unwrap() else {
            panic!("nothing to adopt");
        };
        assert_eq!(starting.finish().unwrap().pid, init);
    }
    let init = instance.get(&id).pid().unwrap();
    fs_err::File::create(format!("/proc/{init}/root/go")).unwrap();
    let container = instance.until_ended(&id);
    let Status::Exited(exit) = container.status else {
        panic!("{:?}", container.status);
    };
    // A stranger's exit code: kernels from 6.15 tell, on others it may be too late to see it.
    let release = fs_err::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release
        .split(['.', '-'])
        .map_while(|n| n.parse::<u32>().ok());
    let tells = (numbers.next(), numbers.next()) >= (Some(6), Some(15));
    if tells || !exit.unknown {
        assert_eq!((exit.code, exit.unknown), (42, false));
    } else {
        assert_eq!(exit.code, 255);
    }
    let lines = instance.lines(&id);
    let numbers: Vec<u32> = lines.iter().filter_map(|line| line.parse().ok()).collect();
    assert!(
        numbers.iter().copied().eq(1..=100_000),
        "{} of 100000 lines",
        numbers.len()
    );
    assert_eq!(lines.last().unwrap(), "end");
    assert_eq!(instance.releases(), 1);
}

/// A container with a terminal that says when it is hung up, counts to `most`, and answers what is typed.
fn with_terminal(instance: &Instance, most: u32) -> ContainerId {
    let script = format!(
        "trap 'echo hung up; exit 1' HUP; i=0; while [ $i -lt {most} ]; do i=$((i+1)); echo $i; done; \
         echo counted; read line; stty size; echo got $line; exit 4"
    );
    let mut config = instance.config("one", &script);
    config.process.tty = true;
    config.process.stdin_open = true;
    config.log.max_size_bytes = 64 << 20;
    instance.start(&config, false)
}

/// Types into a container with a terminal, and looks at its end and at all that it wrote.
fn finish_terminal(instance: &Instance, id: &ContainerId, most: u32) {
    instance.until_line(id, "counted");
    instance.runtime.resize(id, 33, 77).unwrap();
    let stdin = instance.runtime.open_stdin(id).unwrap();
    rustix::io::write(&stdin, b"hello\n").unwrap();
    let container = instance.until_ended(id);
    assert!(
        matches!(container.status, Status::Exited(exit) if (exit.code, exit.unknown) == (4, false)),
        "{:?}",
        container.status
    );
    let mut expected: Vec<String> = (1..=most).map(|number| number.to_string()).collect();
    expected.extend(["counted", "hello", "33 77", "got hello"].map(str::to_owned));
    assert_eq!(instance.lines(id), expected);
}

fn monitor_terminal() {
    const MOST: u32 = 30_000;
    let instance = Instance::new();
    let id = with_terminal(&instance, MOST);
    let keeper = instance.keeper(&id);
    for _ in 0..2 {
        instance.kill_monitor(&id);
        let init = instance.get(&id).pid().unwrap();
        let Adoption::Adopting(starting) = instance.again().adopt(&id, &[]).unwrap() else {
            panic!("nothing to adopt");
        };
        assert_eq!(starting.finish().unwrap().pid, init);
        assert_eq!(instance.keeper(&id), keeper);
    }
    finish_terminal(&instance, &id, MOST);
    until_gone(keeper);
}

fn keeper() {
    let instance = Instance::new();
    let id = with_terminal(&instance, 1000);
    let first = instance.keeper(&id);
    kill_and_wait(first);
    let second = instance.until_keeper(&id, |pid| pid != first);
    instance.kill_monitor(&id);
    let Adoption::Adopting(starting) = instance.runtime.adopt(&id, &[]).unwrap() else {
        panic!("nothing to adopt");
    };
    starting.finish().unwrap();
    assert_eq!(instance.keeper(&id), second);
    // One that is no child of the monitor's is replaced too.
    kill_and_wait(second);
    let third = instance.until_keeper(&id, |pid| pid != second);
    finish_terminal(&instance, &id, 1000);
    until_gone(third);
}

fn keeper_without_monitor() {
    let instance = Instance::new();
    let id = with_terminal(&instance, 1);
    instance.until_line(&id, "counted");
    let keeper = instance.keeper(&id);
    println!("keeper: Pss {} KiB", memory(keeper, "Pss"));
    instance.kill_monitor(&id);
    instance.stop(&id, Duration::ZERO);
    until_gone(keeper);
    let live = instance.runtime.layout().live(&id);
    assert!(
        fs_err::read_to_string(live)
            .unwrap()
            .contains("\"keeper\":null")
    );
}

fn monitor_duties() {
    let instance = Instance::new();
    let mut config = instance.config(
        "one",
        "echo run; while [ ! -e /stop ]; do sleep 0.05; done; exit 5",
    );
    config.restart = RestartPolicy::OnFailure {
        max_retries: Some(1),
    };
    config.health = Some(health("test ! -e /sick"));
    let id = instance.start(&config, true);
    let healthy = |wanted| {
        instance.until(&id, |c| {
            c.health.as_ref().is_some_and(|h| h.status == wanted)
        })
    };
    healthy(HealthStatus::Healthy);
    let sidecar = instance.sidecar(&id).unwrap();
    instance.kill_monitor(&id);
    until_gone(sidecar);
    let Adoption::Adopting(starting) = instance.runtime.adopt(&id, &[]).unwrap() else {
        panic!("nothing to adopt");
    };
    let pid = starting.finish().unwrap().pid;
    assert!(matches!(
        instance.runtime.adopt(&id, &[]).unwrap(),
        Adoption::NotNeeded
    ));
    assert!(instance.sidecar(&id).is_some());
    let root = format!("/proc/{pid}/root");
    fs_err::File::create(format!("{root}/sick")).unwrap();
    healthy(HealthStatus::Unhealthy);
    fs_err::File::create(format!("{root}/stop")).unwrap();
    let container = instance.until_ended(&id);
    assert_eq!(container.restarts, 1);
    assert!(matches!(container.status, Status::Exited(exit) if exit.code == 5));
    assert_eq!(instance.lines(&id), ["run", "run"]);
}

fn monitor_stop() {
    let instance = Instance::new();
    let script = "trap 'exit 6' TERM; echo ready; while :; do sleep 0.05; done";
    let id = instance.start(&instance.config("one", script), false);
    let deaf = instance.config(
        "two",
        "trap '' TERM; echo ready; while :; do sleep 0.05; done",
    );
    let deaf = instance.start(&deaf, false);
    for (id, code) in [(&id, 6), (&deaf, 137)] {
        instance.until_line(id, "ready");
        instance.kill_monitor(id);
        let ended = instance.stop(id, Duration::from_millis(500));
        assert_eq!((ended.exit.unwrap().code, ended.released), (code, false));
        let container = instance.get(id);
        assert_eq!(container.watch, Watch::NotNeeded);
        assert!(matches!(container.status, Status::Exited(exit) if exit.code == code));
    }
}

/// Waits for something that nobody tells.
fn until_so(what: &str, so: impl Fn() -> bool) {
    let begun = Instant::now();
    while !so() {
        assert!(begun.elapsed() < Duration::from_secs(20), "{what}");
        std::thread::yield_now();
    }
}

fn monitor_at_end() {
    let instance = Instance::new();
    // The monitor's release waits for one who reads.
    let released = instance.root().with_file_name("released");
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    let fifo = rustix::fs::FileType::Fifo;
    rustix::fs::mknodat(rustix::fs::CWD, &released, fifo, mode, 0).unwrap();
    for (name, by_stop) in [("one", true), ("two", false)] {
        let config = instance.config(name, "echo done; exit 7");
        let id = instance.start(&config, false);
        let layout = instance.runtime.layout();
        until_so("no exit record", || layout.exit(&id).exists());
        instance.kill_monitor(&id);
        let exit = if by_stop {
            instance.stop(&id, Duration::ZERO).exit
        } else {
            match instance.runtime.adopt(&id, &[]).unwrap() {
                Adoption::Ended { exit, .. } => Some(exit),
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(exit.map(|exit| (exit.code, exit.unknown)), Some((7, false)));
        let container = instance.get(&id);
        assert_eq!(container.watch, Watch::NotNeeded);
        assert_eq!(container.status, Status::Exited(exit.unwrap()));
        assert_eq!(instance.lines(&id), ["done"]);
    }
}

/// Another caller, who holds the container's lock and has recorded its end when it gives that up.
struct Other<'a> {
    instance: &'a Instance,
    id: &'a ContainerId,
    exit: Exit,
    _lock: Lock,
}

impl Drop for Other<'_> {
    fn drop(&mut self) {
        let path = self.instance.runtime.layout().live(self.id);
        let mut live: Live = serde_json::from_slice(&fs_err::read(&path).unwrap()).unwrap();
        live.phase = Phase::Ended { last: self.exit };
        fs_err::write(path, serde_json::to_vec(&live).unwrap()).unwrap();
    }
}

fn monitor_callers() {
    let instance = Instance::new();
    let config = instance.config("one", "echo ready; while :; do sleep 100; done");
    let id = instance.start(&config, false);
    instance.until_line(&id, "ready");
    let init = instance.get(&id).pid().unwrap();
    instance.kill_monitor(&id);
    let waiting = instance.runtime.wait(&id).unwrap();
    kill_and_wait(init);
    let lock = instance.runtime.layout().spawn_lock(&id);
    let exit = Exit {
        code: 42,
        ..stack::runtime::status::unseen(Timestamp::now(), 0)
    };
    let other = Other {
        instance: &instance,
        id: &id,
        exit,
        _lock: Lock::acquire(&lock, Mode::Exclusive).unwrap(),
    };
    let ended = beside(&instance, &id, other, || waiting.finish().unwrap());
    assert_eq!(ended.exit, Some(exit));
}

fn monitor_full_disk() {
    let instance = Instance::new();
    let logs = instance.root().join("logs");
    let none = nix::mount::MsFlags::empty();
    nix::mount::mount(Some("logs"), &logs, Some("tmpfs"), none, Some("size=1m")).unwrap();
    let script = "while [ ! -e /go ]; do sleep 0.05; done; \
                  i=0; while [ $i -lt 2000 ]; do i=$((i+1)); echo $i; done; \
                  while [ ! -e /stop ]; do sleep 0.05; done; exit 3";
    let plain = instance.config("plain", script);
    let mut terminal = instance.config("terminal", script);
    terminal.process.tty = true;
    terminal.restart = RestartPolicy::Always;
    let plain = instance.start(&plain, false);
    let terminal = instance.start(&terminal, false);
    let filler = logs.join("filler");
    // As much as there is room for.
    let full = fs_err::write(&filler, vec![0; 2 << 20]).unwrap_err();
    assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);
    let make = |id: &ContainerId, name: &str| {
        let init = instance.get(id).pid().unwrap();
        fs_err::File::create(format!("/proc/{init}/root/{name}")).unwrap();
    };
    for id in [&plain, &terminal] {
        make(id, "go");
        until_so("no trouble", || {
            instance.trouble(id).contains("No space left")
        });
    }
    // A new monitor cannot write either what the last one has taken.
    instance.kill_monitor(&plain);
    let init = instance.get(&plain).pid().unwrap();
    let Adoption::Adopting(starting) = instance.runtime.adopt(&plain, &[]).unwrap() else {
        panic!("nothing to adopt");
    };
    assert_eq!(starting.finish().unwrap().pid, init);
    // A terminal that comes meanwhile is not read before the log is written.
    let monitor = instance.monitor(&terminal);
    let first = instance.get(&terminal).pid().unwrap();
    kill_and_wait(first);
    instance.until(&terminal, |c| c.pid().is_some_and(|pid| pid != first));
    fs_err::remove_file(filler).unwrap();
    instance.until_line(&plain, "2000");
    let runs = |entries: &[stack::runtime::logs::Entry]| {
        entries.iter().filter(|entry| entry.text == b"2000").count()
    };
    instance.follow(&terminal, |entries| runs(entries) > 0);
    assert_eq!(instance.monitor(&terminal), monitor);
    make(&plain, "stop");
    let container = instance.until_ended(&plain);
    assert!(matches!(container.status, Status::Exited(exit) if exit.code == 3));
    let numbers: Vec<String> = (1..=2000).map(|number| number.to_string()).collect();
    assert_eq!(instance.lines(&plain), numbers);
    instance.stop(&terminal, Duration::ZERO);
}

fn monitor_then_init() {
    let instance = Instance::new();
    let mut config = instance.config("one", "while :; do sleep 100; done");
    config.restart = RestartPolicy::Always;
    let id = instance.start(&config, false);
    let init = instance.get(&id).pid().unwrap();
    instance.kill_monitor(&id);
    kill_and_wait(init);
    let container = instance.until(&id, |c| c.pid().is_none());
    assert_eq!(container.watch, Watch::Missing);
    match instance.runtime.adopt(&id, &[]).unwrap() {
        Adoption::Ended { exit, restart } => {
            // Until somebody has reaped it the kernel tells.
            let code = if exit.unknown { 255 } else { 137 };
            assert_eq!((exit.code, restart), (code, true));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(instance.get(&id).watch, Watch::NotNeeded);
    instance
        .runtime
        .spawn(&id, instance.launch(false))
        .unwrap()
        .finish()
        .unwrap();
    assert!(instance.get(&id).pid().is_some());
}

fn host() {
    let instance = Instance::new();
    let mut ids = Vec::new();
    for (name, restart, stopped) in [
        ("always", RestartPolicy::Always, false),
        ("always-stopped", RestartPolicy::Always, true),
        ("unless", RestartPolicy::UnlessStopped, false),
        ("unless-stopped", RestartPolicy::UnlessStopped, true),
        ("no", RestartPolicy::No, false),
    ] {
        let mut config = instance.config(name, "while :; do sleep 100; done");
        config.restart = restart;
        let id = instance.start(&config, false);
        if stopped {
            instance.stop(&id, Duration::ZERO);
        }
        ids.push(id);
    }
    // Everything that runs is gone, and /run with it.
    for id in &ids {
        if let Watch::Alive { .. } = instance.get(id).watch {
            let init = instance.get(id).pid().unwrap();
            instance.kill_monitor(id);
            kill_and_wait(init);
        }
        let layout = instance.runtime.layout();
        fs_err::remove_file(layout.live(id)).unwrap();
        fs_err::remove_dir_all(layout.control(id)).unwrap();
    }
    let boot: Vec<_> = instance
        .again()
        .list()
        .unwrap()
        .iter()
        .filter(|container| wants_boot(container))
        .map(|container| container.record.config.name.clone())
        .collect();
    assert_eq!(boot, ["always", "always-stopped", "unless"]);
}

fn shutdown() {
    let instance = Instance::new();
    let mut config = instance.config(
        "one",
        "trap 'exit 8' TERM; echo ready; while :; do sleep 0.05; done",
    );
    config.restart = RestartPolicy::Always;
    let id = instance.start(&config, false);
    instance.until_line(&id, "ready");
    let monitor = rustix::process::Pid::from_raw(instance.monitor(&id)).unwrap();
    rustix::process::kill_process(monitor, rustix::process::Signal::TERM).unwrap();
    let container = instance.until_ended(&id);
    assert!(matches!(container.status, Status::Exited(exit) if exit.code == 8));
    assert!(!container.record.stopped_by_hand);
    assert!(wants_boot(&container));
}
