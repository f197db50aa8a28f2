//! What is known of containers, what is on disk, what is damaged, and several commands at once.

mod support;

use serde_json::Value;
use support::{Machine, Ran};

const FILE: &str = "services:\n  web:\n    image: busybox\n    init: true\n    command: sleep infinity\n    \
    ports: ['127.0.0.1:18377:80']\n    volumes: ['./d:/d:ro', 'data:/v', '/anonymous']\n    restart: always\nvolumes:\n  data: {}\n";

#[test]
fn inspect_tells_of_containers_and_images() {
    let machine = Machine::project(FILE);
    machine.ok("p", &["up", "-d"]);
    let list: Value =
        serde_json::from_str(&machine.ok("p", &["inspect", "p-web-1", "busybox"])).unwrap();
    let container = &list[0];
    for key in ["UpperDir", "WorkDir"] {
        let directory = container["GraphDriver"]["Data"][key].as_str().unwrap();
        assert!(std::path::Path::new(directory).is_dir(), "{directory}");
    }
    assert_eq!(list[1]["RepoTags"], serde_json::json!(["busybox:latest"]));
    assert_eq!(container["Image"], list[1]["Id"]);
    let shown = |format: &str| {
        machine.ok(
            "p",
            &["inspect", "--type", "container", "-f", format, "p-web-1"],
        )
    };
    for (format, expected) in [
        (
            "{{.Name}} {{.State.Status}} {{.State.Running}} {{.RestartCount}}",
            "/p-web-1 running true 0",
        ),
        (
            "{{.Path}} {{.Args}} {{.Config.Image}}",
            "sleep [infinity] busybox",
        ),
        (
            "{{(index (index .NetworkSettings.Ports \"80/tcp\") 0).HostPort}}",
            "18377",
        ),
        (
            "{{range .NetworkSettings.Networks}}{{.Gateway}}{{end}}",
            "172.17.0.1",
        ),
        (
            "{{range .Mounts}}{{.Type}} {{.Destination}} {{.RW}},{{end}}",
            "bind /d false,volume /v true,volume /anonymous true,",
        ),
        (
            "{{.HostConfig.RestartPolicy.Name}} {{.HostConfig.NetworkMode}}",
            "always p_default",
        ),
        (
            "{{index .Config.Labels \"com.docker.compose.service\"}}",
            "web",
        ),
    ] {
        let found = shown(format);
        // Which range a network gets depends on the machine.
        if expected.starts_with("172.") {
            assert!(found.trim().parse::<std::net::IpAddr>().is_ok(), "{found}");
        } else {
            assert_eq!(found.trim_end(), expected, "{format}");
        }
    }
    machine.ok("p", &["down", "-t", "0"]);
    let ran = machine.run("p", &["inspect", "p-web-1"]);
    assert_eq!(
        (ran.code, ran.stdout.as_str(), ran.stderr.as_str()),
        (1, "[]\n", "Error: No such object: p-web-1\n")
    );
}

#[test]
fn df_counts_and_prune_frees() {
    let machine = Machine::project(FILE);
    let df = || {
        machine.ok(
            "p",
            &[
                "system",
                "df",
                "--format",
                "{{.Type}} {{.TotalCount}} {{.Active}} {{.Reclaimable}}",
            ],
        )
    };
    machine.ok("p", &["up", "-d"]);
    machine.ok(
        "p",
        &[
            "exec",
            "web",
            "sh",
            "-c",
            "head -c 5000 /dev/zero > /f; head -c 7000 /dev/zero > /v/f",
        ],
    );
    let text = df();
    assert!(text.contains("Images 1 1 0B (0%)\nContainers 1 1 0B (0%)\nLocal Volumes 2 2 0B (0%)\nBuild Cache 0 0 0B\n"), "{text}");
    let each = machine.ok("p", &["system", "df", "-v"]);
    for part in ["busybox      latest", "p-web-1", "p_data", "7kB"] {
        assert!(each.contains(part), "{part} in\n{each}");
    }
    assert!(
        machine
            .ok("p", &["system", "prune", "-f", "-a", "--volumes"])
            .ends_with("Total reclaimed space: 0B\n")
    );
    machine.ok("p", &["down", "-t", "0"]);
    let refused = machine.ok("p", &["system", "prune"]);
    assert!(
        refused.starts_with("WARNING! This will remove:\n  - all stopped containers\n"),
        "{refused}"
    );
    let pruned = machine.ok("p", &["system", "prune", "-af", "--volumes"]);
    assert!(
        pruned.contains("Deleted Volumes:\n") && pruned.contains("untagged: busybox:latest\n"),
        "{pruned}"
    );
    // A named volume is nobody's to prune.
    assert_eq!(
        df(),
        "Images 0 0 0B\nContainers 0 0 0B\nLocal Volumes 1 0 7kB (100%)\nBuild Cache 0 0 0B\n"
    );
    machine.assert_clean();
}

#[test]
fn damage_is_found_set_aside_and_mended() {
    let machine = Machine::project(
        "services:\n  web: {image: my/web, build: ., init: true, command: sleep infinity}\n",
    );
    machine.write("p/Dockerfile", "FROM busybox\nRUN echo whole > /f\n");
    machine.ok("p", &["build"]);
    machine.ok(
        "p",
        &["image", "save", "-o", "all.tar", "my/web", "busybox"],
    );
    let whole = "checked: nothing is damaged\n";
    let check = |args: &[&str]| machine.run("p", &[&["system", "check"][..], args].concat());
    let ran = check(&[]);
    assert!(
        ran.code == 0 && ran.stdout.ends_with(whole),
        "{}{}",
        ran.stdout,
        ran.stderr
    );
    let layer = |image: &str, which: usize| {
        let format = format!("{{{{slice (index .RootFS.Layers {which}) 7}}}}");
        machine
            .ok("p", &["image", "inspect", "-f", &format, image])
            .trim()
            .to_owned()
    };
    let (base, top) = (layer("busybox", 0), layer("my/web", 1));
    let root = machine.root().join("lib");
    let root = root.display();
    // One that came as a tar, a layer made here, and a blob.
    machine.sh(&format!(
        "echo x >> {root}/layers/{base}/diff/etc/passwd; echo hurt > {root}/layers/{top}/diff/f"
    ));
    let ran = check(&[]);
    assert_eq!(ran.code, 1);
    let told = format!(
        "DAMAGED: layer sha256:{base} is not what its diff id says; run `stack system check --repair`\n"
    );
    assert!(ran.stdout.contains(&told), "{}", ran.stdout);
    let ran = check(&["--repair"]);
    assert!(
        ran.stdout
            .contains(&format!("mended: layer sha256:{base} ")),
        "{}",
        ran.stdout
    );
    // It was saved, so that its tar is here too.
    assert!(
        ran.stdout.contains(&format!("mended: layer sha256:{top} ")),
        "{}",
        ran.stdout
    );
    machine.ok("p", &["up", "-d"]);
    assert_eq!(machine.ok("p", &["exec", "web", "cat", "/f"]), "whole\n");
    machine.ok("p", &["down", "-t", "0"]);
    machine.sh(&format!(
        "echo x >> {root}/images/blobs/sha256/{base}; echo x >> {root}/layers/{base}/diff/etc/group"
    ));
    let ran = check(&["--repair"]);
    assert_eq!(ran.code, 1, "{}", ran.stdout);
    assert!(
        ran.stdout
            .contains("it was set aside: pull or load its image again"),
        "{}",
        ran.stdout
    );
    machine.ok("p", &["image", "load", "-i", "all.tar"]);
    let ran = check(&[]);
    assert!(
        ran.code == 0 && ran.stdout.ends_with(whole),
        "{}{}",
        ran.stdout,
        ran.stderr
    );
    machine.ok("p", &["up", "-d"]);
    machine.ok("p", &["down", "-t", "0"]);
}

#[test]
fn commands_at_once_lose_nothing() {
    let machine = Machine::project(
        "services:\n  a: &a {image: busybox, init: true, command: sleep infinity}\n  b: *a\n",
    );
    machine.ok("p", &["image", "save", "-o", "b.tar", "busybox"]);
    for round in 0..5 {
        let start = |args: &[&str]| {
            let mut command = machine.stack("p", args);
            command
                .stdout(std::process::Stdio::piped())
                .stderr(std::process::Stdio::piped());
            command.spawn().unwrap()
        };
        let children = [
            start(&["image", "load", "-q", "-i", "b.tar"]),
            start(&["image", "load", "-q", "-i", "b.tar"]),
            start(&["image", "rm", "-f", "busybox"]),
            start(&["image", "prune", "-af"]),
            start(&["image", "save", "-o", "c.tar", "busybox"]),
        ];
        for (number, child) in children.into_iter().enumerate() {
            let ran = Ran::of(&child.wait_with_output().unwrap());
            let gone = ran.stderr == "error: No such image: busybox\n";
            assert!(
                ran.code == 0 || gone,
                "round {round}, command {number}: {}{}",
                ran.stdout,
                ran.stderr
            );
        }
        machine.ok("p", &["image", "load", "-i", "b.tar"]);
        let ran = machine.run("p", &["system", "check"]);
        assert_eq!(ran.code, 0, "{}", ran.stdout);
        // What a container uses stays, whoever prunes meanwhile.
        machine.ok("p", &["up", "-d", "a"]);
        let prune = start(&["system", "prune", "-af"]);
        machine.ok("p", &["up", "-d", "b"]);
        assert_eq!(Ran::of(&prune.wait_with_output().unwrap()).code, 0);
        assert_eq!(machine.ok("p", &["exec", "b", "echo", "lives"]), "lives\n");
        machine.ok("p", &["down", "-t", "0"]);
        machine.ok("p", &["image", "load", "-i", "b.tar"]);
    }
    machine.assert_clean();
}

#[test]
fn a_killed_load_leaves_nothing_half() {
    let machine = Machine::project(
        "services:\n  web: {image: busybox, init: true, command: sleep infinity}\n",
    );
    machine.ok("p", &["image", "save", "-o", "b.tar", "busybox"]);
    machine.ok("p", &["image", "rm", "busybox"]);
    let bytes = fs_err::read(machine.path().join("p/b.tar")).unwrap();
    for part in 1..8 {
        // Killed when so much of the archive has come: reading waits for the rest.
        let mut load = machine.stack("p", &["image", "load"]);
        let mut child = load.stdin(std::process::Stdio::piped()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        std::io::Write::write_all(&mut stdin, &bytes[..bytes.len() * part / 8]).unwrap();
        let _killed = child.kill();
        child.wait().unwrap();
        drop(stdin);
        assert_eq!(machine.ok("p", &["image", "ls", "-q"]), "");
        let ran = machine.run("p", &["system", "check"]);
        assert_eq!(ran.code, 0, "{}", ran.stdout);
    }
    let left = machine.sh("ls stack/lib/tmp | grep -v lock | wc -l; ls stack/lib/layers | wc -l");
    assert_eq!(left, "0\n0\n");
    machine.ok("p", &["image", "load", "-i", "b.tar"]);
    // A full disk is an error, and nothing of it stays.
    machine.sh("mkdir -p full && mount -t tmpfs -o size=1m tmpfs full");
    let mut load = machine.command("p", env!("CARGO_BIN_EXE_stack"));
    let root = machine.path().join("full");
    let ran = Ran::of(
        &load
            .arg("--root")
            .arg(&root)
            .args(["image", "load", "-i", "b.tar"])
            .output()
            .unwrap(),
    );
    assert!(
        ran.code == 1 && ran.stderr.contains("No space left on device"),
        "{}",
        ran.stderr
    );
    let left = machine
        .sh("ls full/lib/layers full/lib/images/blobs/sha256 | grep -v : | grep -c . || true");
    assert_eq!(left, "0\n");
}
