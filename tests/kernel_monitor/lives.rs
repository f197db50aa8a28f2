//! From creation to removal, while nobody dies who should not.

use std::time::{Duration, Instant};

use stack::runtime::config::RestartPolicy;
use stack::runtime::record::HealthStatus;
use stack::runtime::status::{Status, Watch};
use stack::runtime::{RuntimeError, StartError, StopOptions};
use stack::sys::atomic::Durability;

use crate::Case;
use crate::fixture::{Instance, health, memory};

/// The cases of this file.
pub(crate) const CASES: &[Case] = &[
    (
        "a_container_runs_ends_and_is_removed_without_a_trace",
        runs_ends_removed,
    ),
    ("a_command_that_is_not_there_is_127_and_releases", not_there),
    ("a_stop_is_a_signal_then_a_kill", stops),
    (
        "a_stop_that_the_monitor_has_no_room_for_is_done_by_it",
        stop_of_many,
    ),
    (
        "a_restart_keeps_the_root_and_counts_nothing",
        restarts_by_hand,
    ),
    ("on_failure_gives_up_after_its_retries", on_failure),
    ("a_kill_for_lack_of_memory_is_told", out_of_memory),
    ("health_turns_and_its_output_is_kept", health_turns),
    ("a_flood_is_rotated_and_the_monitor_stays_small", flood),
    ("a_terminal_has_a_size_and_an_input", terminal),
    ("a_start_is_quick_and_a_monitor_small", measures),
    ("names_are_unique_and_found_by_their_beginning", names),
];

fn exit_code(status: &Status) -> Option<i32> {
    match status {
        Status::Exited(exit) => Some(exit.code),
        _ => None,
    }
}

fn stop_of_many() {
    let instance = Instance::new();
    let script = "trap 'exit 6' TERM; echo ready; while :; do sleep 0.05; done";
    let id = instance.start(&instance.config("one", script), false);
    instance.until_line(&id, "ready");
    let waiting: Vec<_> = (0..70)
        .map(|_| instance.runtime.wait(&id).unwrap())
        .collect();
    let ended = instance.stop(&id, Duration::from_secs(10));
    assert_eq!((ended.exit.unwrap().code, ended.released), (6, true));
    for waiting in waiting {
        assert_eq!(waiting.finish().unwrap(), ended);
    }
    assert_eq!(instance.releases(), 1);
    assert_eq!(instance.trouble(&id), "");
}

fn runs_ends_removed() {
    let instance = Instance::new();
    let config = instance.config("one", "echo out; echo err >&2; printf tail; exit 7");
    let id = instance.start(&config, true);
    let ended = instance.runtime.wait(&id).unwrap().finish().unwrap();
    assert_eq!((ended.exit.unwrap().code, ended.released), (7, true));
    assert_eq!(exit_code(&instance.get(&id).status), Some(7));
    let mut lines = instance.lines(&id);
    lines.sort();
    assert_eq!(lines, ["err", "out", "tail"]);
    assert_eq!(
        (instance.releases(), instance.trouble(&id)),
        (1, String::new())
    );
    instance
        .runtime
        .remove(&id, false, Durability::Synced)
        .unwrap();
    instance
        .runtime
        .remove(&id, false, Durability::Synced)
        .unwrap();
    let layout = instance.runtime.layout();
    let mut left = Vec::new();
    for directory in [
        layout.containers(),
        layout.names(),
        layout.states(),
        layout.run.join("c"),
    ] {
        let entries = fs_err::read_dir(directory).unwrap();
        left.extend(entries.map(|entry| entry.unwrap().path()));
    }
    assert_eq!(left, Vec::<std::path::PathBuf>::new());
    // The log stays.
    assert_eq!(instance.lines(&id).len(), 3);
    assert_eq!(instance.runtime.logs().list().unwrap().len(), 1);
}

fn not_there() {
    let instance = Instance::new();
    let mut config = instance.config("one", "");
    config.process.args = vec!["no-such-program".to_owned()];
    config.restart = RestartPolicy::Always;
    let id = instance
        .runtime
        .create(&config, Durability::Cached)
        .unwrap();
    let starting = instance.runtime.spawn(&id, instance.launch(true)).unwrap();
    match starting.finish() {
        Err(StartError::Failed { code: 127, message }) => {
            assert!(message.contains("no-such-program"), "{message}");
        }
        other => panic!("{other:?}"),
    }
    let container = instance.until(&id, |c| c.watch == Watch::NotNeeded);
    assert!(
        matches!(
            &container.status,
            Status::Created {
                error: Some((127, _))
            }
        ),
        "{:?}",
        container.status
    );
    assert_eq!(instance.releases(), 1);
}

fn stops() {
    let instance = Instance::new();
    let kind = instance.config(
        "kind",
        "trap 'exit 3' TERM; echo ready; while :; do sleep 0.1; done",
    );
    let kind = instance.start(&kind, false);
    let mut stubborn = instance.config(
        "stubborn",
        "trap '' TERM; echo ready; while :; do sleep 1; done",
    );
    stubborn.restart = RestartPolicy::Always;
    let stubborn = instance.start(&stubborn, false);
    instance.until_line(&kind, "ready");
    instance.until_line(&stubborn, "ready");
    let ended = instance.stop(&kind, Duration::from_secs(10));
    assert_eq!(ended.exit.unwrap().code, 3);
    let begun = Instant::now();
    let ended = instance.stop(&stubborn, Duration::from_millis(200));
    assert_eq!(ended.exit.unwrap().code, 137);
    assert!(begun.elapsed() >= Duration::from_millis(200));
    for id in [&kind, &stubborn] {
        let container = instance.get(id);
        assert!(container.record.stopped_by_hand);
        assert_eq!(container.watch, Watch::NotNeeded);
        // Stopping what is stopped is nothing.
        let options = StopOptions {
            timeout: None,
            durability: Durability::Cached,
            releases: true,
        };
        let again = instance
            .runtime
            .stop(id, options)
            .unwrap()
            .finish()
            .unwrap();
        assert_eq!(again.exit.map(|e| e.code), exit_code(&container.status));
    }
    assert_eq!(instance.releases(), 2);
}

fn restarts_by_hand() {
    let instance = Instance::new();
    let script = "trap 'exit 0' TERM; echo x >> /kept; cat /kept | while read l; do echo $l; done; echo ready; while :; do sleep 0.1; done";
    let id = instance.start(&instance.config("one", script), false);
    instance.until_line(&id, "ready");
    let before = instance.get(&id).pid().unwrap();
    let restarting = instance
        .runtime
        .restart(&id, Duration::from_secs(5))
        .unwrap();
    restarting.finish().unwrap();
    let after = instance.get(&id);
    assert_ne!(after.pid().unwrap(), before);
    assert_eq!(after.restarts, 0);
    instance.follow(&id, |entries| {
        entries.iter().filter(|e| e.text == b"ready").count() == 2
    });
    assert_eq!(instance.lines(&id), ["x", "ready", "x", "x", "ready"]);
}

fn on_failure() {
    let instance = Instance::new();
    let mut config = instance.config("one", "echo run; exit 9");
    config.restart = RestartPolicy::OnFailure {
        max_retries: Some(2),
    };
    let id = instance.start(&config, true);
    let container = instance.until_ended(&id);
    assert_eq!(
        (exit_code(&container.status), container.restarts),
        (Some(9), 2)
    );
    assert_eq!(instance.lines(&id), ["run", "run", "run"]);
    assert_eq!(instance.releases(), 1);
}

fn out_of_memory() {
    let instance = Instance::new();
    let mut config = instance.config("one", "x=$(yes | head -c 60000000); echo survived");
    config.resources.memory_bytes = Some(8 << 20);
    let id = instance.start(&config, false);
    let container = instance.until_ended(&id);
    assert!(
        matches!(container.status, Status::Exited(exit) if exit.oom && exit.code == 137),
        "{:?}",
        container.status
    );
}

fn health_turns() {
    let instance = Instance::new();
    let mut config = instance.config("one", "echo ready; while :; do sleep 1; done");
    config.health = Some(health("echo probed; test ! -e /sick"));
    let id = instance.start(&config, false);
    let verdict = |wanted| {
        instance.until(&id, |c| {
            c.health.as_ref().is_some_and(|h| h.status == wanted)
        })
    };
    let container = verdict(HealthStatus::Healthy);
    let probe = container.health.unwrap().probes.remove(0);
    assert_eq!((probe.code, probe.output.as_str()), (0, "probed\n"));
    let pid = container.record.id.clone();
    let root = format!("/proc/{}/root/sick", instance.get(&pid).pid().unwrap());
    fs_err::File::create(&root).unwrap();
    let container = verdict(HealthStatus::Unhealthy);
    let health = container.health.unwrap();
    assert!(
        health.failing_streak >= 2 && health.probes.len() <= 5,
        "{health:?}"
    );
    fs_err::remove_file(&root).unwrap();
    verdict(HealthStatus::Healthy);
    instance.stop(&id, Duration::ZERO);
}

fn flood() {
    let instance = Instance::new();
    let id = instance.start(
        &instance.config("one", "yes flood | head -c 20000000; echo; echo done"),
        false,
    );
    let before = memory(instance.monitor(&id), "Rss");
    instance.until_line(&id, "done");
    let ended = instance.until_ended(&id);
    assert_eq!(exit_code(&ended.status), Some(0));
    let mut sizes = Vec::new();
    for entry in fs_err::read_dir(instance.root().join("logs")).unwrap() {
        sizes.push(entry.unwrap().metadata().unwrap().len());
    }
    assert_eq!(sizes.len(), 4, "index and three files");
    assert!(sizes.iter().all(|size| *size <= 1 << 20), "{sizes:?}");
    println!("flood: rss at start {before} KiB");
}

fn terminal() {
    let instance = Instance::new();
    let mut config = instance.config(
        "one",
        "echo ready; read line; stty size; echo got $line; exit 4",
    );
    config.process.tty = true;
    config.process.stdin_open = true;
    let id = instance.start(&config, false);
    instance.until_line(&id, "ready");
    instance.runtime.resize(&id, 33, 77).unwrap();
    let stdin = instance.runtime.open_stdin(&id).unwrap();
    rustix::io::write(&stdin, b"hello\n").unwrap();
    let container = instance.until_ended(&id);
    assert_eq!(exit_code(&container.status), Some(4));
    let lines = instance.lines(&id);
    assert_eq!(lines, ["ready", "hello", "33 77", "got hello"]);
}

fn names() {
    let instance = Instance::new();
    let one = instance
        .runtime
        .create(&instance.config("one", ""), Durability::Cached)
        .unwrap();
    let two = instance
        .runtime
        .create(&instance.config("two", ""), Durability::Synced)
        .unwrap();
    match instance
        .runtime
        .create(&instance.config("one", ""), Durability::Cached)
    {
        Err(RuntimeError::NameInUse { holder, .. }) => assert_eq!(holder, one),
        other => panic!("{other:?}"),
    }
    let runtime = instance.again();
    let found = |key: &str| runtime.find(key).map(|c| c.record.id.clone());
    assert_eq!(found("two").unwrap(), two);
    assert_eq!(found(two.short()).unwrap(), two);
    assert!(matches!(found(""), Err(RuntimeError::NotFound(_))));
    assert!(matches!(found("../one"), Err(RuntimeError::NotFound(_))));
    let ids: Vec<_> = runtime
        .list()
        .unwrap()
        .iter()
        .map(|c| c.id().clone())
        .collect();
    assert_eq!(ids, [one, two]);
}

/// Prints what `make bench` watches; the bound is the budget of DESIGN.md section 6, for release builds.
fn measures() {
    let instance = Instance::new();
    let mut starts = Vec::new();
    let mut ids = Vec::new();
    for number in 0..10 {
        let config = instance.config(
            &format!("c{number}"),
            "echo ready; while :; do sleep 100; done",
        );
        let id = instance
            .runtime
            .create(&config, Durability::Cached)
            .unwrap();
        let begun = Instant::now();
        let starting = instance.runtime.spawn(&id, instance.launch(false)).unwrap();
        starting.finish().unwrap();
        starts.push(begun.elapsed());
        ids.push(id);
    }
    let pss: Vec<_> = ids
        .iter()
        .map(|id| memory(instance.monitor(id), "Pss"))
        .collect();
    println!(
        "spawn to started: min {:?}, max {:?}",
        starts.iter().min().unwrap(),
        starts.iter().max().unwrap()
    );
    println!("monitor, 10 at once: Pss {pss:?} KiB");
    assert!(pss.iter().all(|kib| *kib < 2048), "{pss:?}");
    for id in &ids {
        instance
            .runtime
            .remove(id, true, Durability::Cached)
            .unwrap();
    }
}
