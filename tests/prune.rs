//! What `prune` and `image rm` take and what they leave: filters, other commands at work, things that cannot be removed.

#![expect(clippy::unwrap_used, reason = "a test's helpers")]

mod support;

use rustix::fs::{FlockOperation, flock};
use support::{Machine, Ran};

/// A service with an anonymous volume.
const FILE: &str = "services:\n  web:\n    image: busybox\n    init: true\n    command: sleep infinity\n    volumes: ['/anonymous']\n";

/// Brings two projects up and down: each leaves an anonymous volume.
fn two_volumes() -> Machine {
    let machine = Machine::project(FILE);
    machine.write("q/compose.yaml", FILE);
    for project in ["p", "q"] {
        machine.ok(project, &["up", "-d"]);
        machine.ok(project, &["down", "-t", "0"]);
    }
    machine
}

/// Counts volumes and entries of the build cache.
fn counts(machine: &Machine) -> String {
    let format = "{{.Type}} {{.TotalCount}}";
    let text = machine.ok(".", &["system", "df", "--format", format]);
    let of = |kind: &str| {
        let mut lines = text.lines();
        lines
            .find_map(|line| line.strip_prefix(kind))
            .unwrap_or("")
            .trim()
            .to_owned()
    };
    format!(
        "{} volumes, {} cached",
        of("Local Volumes"),
        of("Build Cache")
    )
}

#[test]
fn filters_hold_for_volumes_and_for_the_build_cache() {
    let machine = two_volumes();
    machine.write(
        "b/Dockerfile",
        "FROM busybox\nRUN echo a > /a\nRUN echo b > /b\n",
    );
    machine.ok("b", &["image", "build", "-t", "built", "."]);
    let before = counts(&machine);
    assert!(
        before.starts_with("2 volumes, ") && !before.ends_with(" 0 cached"),
        "{before}"
    );
    let prune = |filters: &[&str]| {
        let mut args = vec!["system", "prune", "-f"];
        for filter in filters {
            args.extend(["--filter", *filter]);
        }
        machine.ok(".", &args)
    };
    let prune_volumes = |filter: &str| {
        machine.ok(
            ".",
            &["system", "prune", "-f", "--volumes", "--filter", filter],
        )
    };
    prune_volumes("label=nobody.has.it");
    prune_volumes("label!=com.docker.volume.anonymous");
    prune(&["until=2001-01-01T00:00:00Z"]);
    prune(&["until=2100-01-01T00:00:00Z", "label!=other"]);
    assert_eq!(counts(&machine), before);
    let said = prune_volumes("label=com.docker.compose.project=q");
    assert_eq!(said.matches("Deleted Volumes:\n").count(), 1, "{said}");
    assert_eq!(counts(&machine), before.replace("2 volumes", "1 volumes"));
    let left = machine.sh("cat stack/lib/volumes/*/volume.json");
    assert!(
        left.contains("\"com.docker.compose.project\":\"p\""),
        "{left}"
    );
    prune(&["until=2100-01-01T00:00:00Z"]);
    assert_eq!(counts(&machine), "1 volumes, 0 cached");
    prune_volumes("label!=other");
    assert_eq!(counts(&machine), "0 volumes, 0 cached");
    let ran = machine.run(
        ".",
        &["system", "prune", "-f", "--volumes", "--filter", "until=1h"],
    );
    assert_eq!(ran.code, 2);
    assert!(
        ran.stderr
            .contains("the \"until\" filter is not supported with `--volumes`"),
        "{}",
        ran.stderr
    );
}

#[test]
fn volumes_stay_while_containers_are_being_started() {
    let machine = two_volumes();
    // As a command that starts containers holds it.
    let lock = fs_err::File::open(machine.root().join("lib/locks/.instance")).unwrap();
    flock(&lock, FlockOperation::LockShared).unwrap();
    let prune = || machine.run(".", &["system", "prune", "-af", "--volumes"]);
    let ran = prune();
    assert_eq!(ran.code, 1);
    assert!(
        ran.stderr
            .contains("no volume was removed: containers are being started"),
        "{}",
        ran.stderr
    );
    // The rest was done.
    assert!(
        ran.stdout.contains("untagged: busybox:latest\n"),
        "{}",
        ran.stdout
    );
    assert_eq!(counts(&machine), "2 volumes, 0 cached");
    drop(lock);
    let ran = prune();
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
    assert_eq!(counts(&machine), "0 volumes, 0 cached");
}

#[test]
fn what_cannot_be_removed_hides_nothing_that_was() {
    let machine = two_volumes();
    // What something is mounted on cannot be unlinked.
    machine.sh(
        "mkdir -p stack/lib/cache/steps && cd stack/lib/cache/steps && : > odd && mount --bind odd odd",
    );
    let ran = machine.run(".", &["system", "prune", "-af", "--volumes"]);
    assert_eq!(ran.code, 1);
    for part in [
        "Deleted Volumes:\n",
        "untagged: busybox:latest\n",
        "Total reclaimed space: ",
    ] {
        assert!(ran.stdout.contains(part), "{part}: {}", ran.stdout);
    }
    assert!(
        ran.stderr.contains("cache") && ran.stderr.contains("busy"),
        "{}",
        ran.stderr
    );
    machine.sh("umount stack/lib/cache/steps/odd");
    machine.assert_clean();
}

/// Returns the file that who uses the image locks, and who removes it.
fn lock_of_busybox(machine: &Machine) -> std::path::PathBuf {
    let inspect = ["image", "inspect", "-f", "{{slice .Id 7}}", "busybox"];
    let id = machine.ok("p", &inspect);
    let name = format!("lib/leases/{}.using", id.trim());
    machine.root().join(name)
}

#[test]
fn an_image_that_is_about_to_be_used_is_not_removed() {
    let machine = Machine::project(FILE);
    let path = lock_of_busybox(&machine);
    // As an `up` holds it between its plan and its containers.
    let file = fs_err::File::create(&path).unwrap();
    flock(&file, FlockOperation::LockShared).unwrap();
    let ran = machine.run(".", &["image", "rm", "-f", "busybox"]);
    assert_eq!(ran.code, 1);
    assert!(
        ran.stderr
            .contains("a container is being made of the image"),
        "{}",
        ran.stderr
    );
    let said = machine.ok(".", &["image", "prune", "-af"]);
    assert_eq!(said, "Total reclaimed space: 0B\n");
    drop(file);
    let said = machine.ok(".", &["image", "rm", "busybox"]);
    assert!(
        said.starts_with("Untagged: busybox:latest\nDeleted: sha256:"),
        "{said}"
    );
    assert!(!path.exists());
}

/// Waits until somebody waits for the flock of this file.
fn wait_for_waiter(inode: u64) {
    let started = std::time::Instant::now();
    let waits = |line: &str| line.contains("->") && line.contains(&format!(":{inode} "));
    while !fs_err::read_to_string("/proc/locks")
        .unwrap()
        .lines()
        .any(waits)
    {
        assert!(started.elapsed().as_secs() < 30, "nobody waited in 30 s");
        std::thread::yield_now();
    }
}

#[test]
fn an_up_that_waited_for_a_removal_looks_again() {
    use std::os::unix::fs::MetadataExt;
    let machine = Machine::project(&FILE.replace("busybox", "busybox\n    pull_policy: never"));
    machine.ok("p", &["image", "save", "-o", "b.tar", "busybox"]);
    let path = lock_of_busybox(&machine);
    let index = machine.root().join("lib/images/index.json");
    let whole = fs_err::read(&index).unwrap();
    for is_back in [false, true] {
        // As a removal holds it until the image is out of the index.
        let file = fs_err::File::create(&path).unwrap();
        flock(&file, FlockOperation::LockExclusive).unwrap();
        let mut up = machine.stack("p", &["up", "-d"]);
        up.stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped());
        let up = up.spawn().unwrap();
        wait_for_waiter(file.metadata().unwrap().ino());
        if !is_back {
            fs_err::write(&index, br#"{"schemaVersion":2,"manifests":[]}"#).unwrap();
        }
        drop(file);
        let ran = Ran::of(&up.wait_with_output().unwrap());
        assert_eq!(ran.code == 0, is_back, "{}", ran.stderr);
        let told = ran.stderr.contains("is not here, and its pull policy");
        assert_eq!(told, !is_back, "{}", ran.stderr);
        fs_err::write(&index, &whole).unwrap();
    }
    machine.ok("p", &["down", "-t", "0"]);
    machine.assert_clean();
}

#[test]
fn an_up_has_its_image_or_says_that_it_is_not_there() {
    use std::fmt::Write as _;
    let mut text = String::from("services:\n");
    for number in 0..10 {
        writeln!(text, "  s{number}: {{image: busybox, pull_policy: never, init: true, command: sleep infinity}}").unwrap();
    }
    let machine = Machine::project(&text);
    machine.ok("p", &["image", "save", "-o", "b.tar", "busybox"]);
    let start = |args: &[&str]| {
        let mut command = machine.stack("p", args);
        command
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped());
        command.spawn().unwrap()
    };
    let (mut came_up, mut removed) = (0, 0);
    for round in 0..12 {
        let up = start(&["up", "-d"]);
        let others = match round % 3 {
            0 => vec![start(&["image", "rm", "-f", "busybox"])],
            1 => vec![
                start(&["image", "prune", "-af"]),
                start(&["image", "rm", "busybox"]),
            ],
            _ => vec![start(&["system", "prune", "-af"])],
        };
        let up = Ran::of(&up.wait_with_output().unwrap());
        for other in others {
            let ran = Ran::of(&other.wait_with_output().unwrap());
            let refused = ran.stderr.contains("conflict: ") || ran.stderr.contains("No such image");
            assert!(ran.code == 0 || refused, "round {round}: {}", ran.stderr);
        }
        let is_here = !machine.ok("p", &["image", "ls", "-q"]).is_empty();
        if up.code == 0 {
            came_up += 1;
            let running = machine.ok("p", &["ps", "-q"]);
            assert_eq!(running.lines().count(), 10, "round {round}");
            assert!(is_here, "round {round}: {}", up.stderr);
        } else {
            removed += 1;
            assert!(
                up.stderr.contains("is not here, and its pull policy"),
                "round {round}: {}",
                up.stderr
            );
            assert!(!is_here, "round {round}");
        }
        machine.ok("p", &["down", "-t", "0"]);
        machine.ok("p", &["image", "load", "-q", "-i", "b.tar"]);
    }
    assert_eq!(came_up + removed, 12);
    machine.assert_clean();
}

#[test]
fn images_can_be_removed_from_a_full_disk() {
    let machine = Machine::project("services:\n  web: {image: busybox, command: 'true'}\n");
    machine.ok("p", &["image", "save", "-o", "b.tar", "busybox"]);
    machine.sh("mkdir full && mount -t tmpfs -o size=32m tmpfs full");
    let root = machine.path().join("full");
    let run = |args: &[&str]| {
        let mut command = machine.command("p", env!("CARGO_BIN_EXE_stack"));
        let command = command.arg("--root").arg(&root).args(args);
        Ran::of(&command.output().unwrap())
    };
    let ok = |args: &[&str]| {
        let ran = run(args);
        assert_eq!(ran.code, 0, "{args:?}: {}{}", ran.stdout, ran.stderr);
        ran.stdout
    };
    for removal in [
        &["image", "rm", "busybox"][..],
        &["image", "prune", "-af"],
        &["system", "prune", "-af"],
    ] {
        ok(&["image", "load", "-q", "-i", "b.tar"]);
        if removal[0] == "system" {
            ok(&["up"]);
        }
        let full = "head -c 100m /dev/zero > full/fill; ! head -c 1 /dev/zero > full/more; df --output=avail full | tail -1";
        assert_eq!(machine.sh(full).trim(), "0", "{removal:?}");
        ok(removal);
        assert_eq!(ok(&["image", "ls", "-q"]), "", "{removal:?}");
        machine.sh("head -c 1000000 /dev/zero > full/more && rm full/more full/fill");
        // For the next time.
        ok(&["image", "load", "-q", "-i", "b.tar"]);
        ok(&["image", "rm", "busybox"]);
        machine.sh("test -e full/lib/images/reserve");
    }
    assert_eq!(ok(&["ps", "-aq"]), "");
    machine.sh("rm -rf full/lib; umount full/run/* full/run/*/* 2>/dev/null; umount full");
}
