//! The image store from outside: archives that other tools read, names, removal.

#![expect(clippy::print_stderr, reason = "a test that skips says so")]

mod support;

use serde_json::Value;
use support::Machine;

/// A machine with `busybox` and `my/web:1`, of two layers, that was built on it.
fn built() -> Machine {
    let machine = Machine::project(
        "services:\n  web:\n    image: my/web:1\n    build: .\n    command: sleep infinity\n    init: true\n",
    );
    machine.write(
        "p/Dockerfile",
        "FROM busybox\nRUN echo hi > /f && rm /bin/tac\nLABEL a=b\n",
    );
    machine.ok("p", &["build"]);
    machine
}

/// Whether a tool is there; says so where it is not.
fn has(machine: &Machine, tool: &str) -> bool {
    let found = machine.sh(&format!("command -v {tool} || true"));
    if found.trim().is_empty() {
        eprintln!("skipped: {tool} is not installed");
    }
    !found.trim().is_empty()
}

#[test]
fn an_archive_is_both_dockers_and_ocis() {
    let machine = built();
    machine.ok(".", &["image", "tag", "my/web:1", "localhost:5000/x:2"]);
    let asked = ["my/web", "localhost:5000/x:2", "busybox"];
    machine.ok(
        ".",
        &[&["image", "save", "-o", "out.tar"][..], &asked].concat(),
    );
    machine.ok(
        ".",
        &[&["image", "save", "-o", "again.tar"][..], &asked].concat(),
    );
    machine.sh("cmp out.tar again.tar");
    let id = machine.ok(".", &["image", "ls", "-q", "my/web"]);
    let member = |name: &str| -> Value {
        serde_json::from_str(&machine.sh(&format!("tar xOf out.tar {name}"))).unwrap()
    };
    let list = member("manifest.json");
    assert_eq!(list[0]["Config"], format!("blobs/sha256/{}", id.trim()));
    assert_eq!(
        list[0]["RepoTags"],
        serde_json::json!(["my/web:1", "localhost:5000/x:2"])
    );
    assert_eq!(list[1]["RepoTags"], serde_json::json!(["busybox:latest"]));
    let index = member("index.json");
    let names: Vec<&str> = index["manifests"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| {
            entry["annotations"]["io.containerd.image.name"]
                .as_str()
                .unwrap()
        })
        .collect();
    assert_eq!(
        names,
        [
            "docker.io/my/web:1",
            "localhost:5000/x:2",
            "docker.io/library/busybox:latest"
        ]
    );
    // Every path is there, and holds what its name says.
    machine.sh("mkdir t && tar -C t -xf out.tar && cd t/blobs/sha256 && for f in *; do [ $(sha256sum $f | cut -d' ' -f1) = $f ] || exit 1; done");
    for image in list.as_array().unwrap() {
        for layer in image["Layers"].as_array().unwrap() {
            assert!(
                machine
                    .path()
                    .join("t")
                    .join(layer.as_str().unwrap())
                    .exists()
            );
        }
    }
    if has(&machine, "skopeo") {
        let copied = "Copying config";
        for source in ["docker-archive:out.tar:my/web:1", "oci-archive:out.tar:2"] {
            let said = machine.sh(&format!("rm -rf d && skopeo copy {source} dir:d 2>&1"));
            assert!(said.contains(copied), "{said}");
            let config = machine.sh("cat d/manifest.json");
            assert!(config.contains(id.trim()), "{source} {config}");
        }
        let store = machine.root().join("lib/images");
        let seen = machine.sh(&format!(
            "skopeo inspect oci:{}:docker.io/my/web:1",
            store.display()
        ));
        let seen: Value = serde_json::from_str(&seen).unwrap();
        assert_eq!(seen["Labels"], serde_json::json!({"a": "b"}));
    }
}

#[test]
fn an_archive_that_cannot_be_written_is_not_begun() {
    let machine = built();
    for (args, message) in [
        (
            &["image", "save", "nope"][..],
            "error: No such image: nope\n",
        ),
        (
            &["image", "save", "--platform", "linux/s390x", "busybox"],
            "error: image with reference busybox was found but does not provide the specified platform (linux/s390x)\n",
        ),
        (
            &["image", "save", "-o", "no/such/directory.tar", "busybox"],
            "error: write `no/such/directory.tar`: No such file or directory\n",
        ),
    ] {
        let ran = machine.run(".", args);
        assert_eq!((ran.code, ran.stderr.as_str()), (1, message));
    }
    machine.write("old.tar", "kept");
    let ran = machine.run(".", &["image", "save", "-o", "old.tar", "nope"]);
    assert_eq!(ran.code, 1);
    assert_eq!(
        machine.sh("cat old.tar; ls -a | grep -c tmp$ || true"),
        "kept0\n"
    );
}

#[test]
fn names_move_and_images_go_with_their_last_one() {
    let machine = built();
    let id = machine.ok(".", &["image", "ls", "-q", "my/web"]);
    let id = id.trim();
    machine.ok(".", &["image", "tag", id, "other:3"]);
    let ran = machine.run(".", &["image", "rm", id]);
    let short = &id[..12];
    assert_eq!(
        (ran.code, ran.stderr),
        (
            1,
            format!(
                "error: conflict: unable to delete {short} (must be forced) - image is referenced in multiple repositories\n"
            )
        )
    );
    assert_eq!(
        machine.ok(".", &["image", "rm", "other:3"]),
        "Untagged: other:3\n"
    );
    machine.ok("p", &["up", "-d"]);
    let container = machine.ok("p", &["ps", "-q"]);
    let ran = machine.run(".", &["image", "rm", "my/web:1", "nope"]);
    let name = format!(
        "error: conflict: unable to remove repository reference \"my/web:1\" (must force) - container {} is using its referenced image {short}\nerror: No such image: nope\n",
        &container[..12]
    );
    assert_eq!((ran.code, ran.stderr), (1, name));
    // By force the name goes; what a container runs stays, and runs.
    assert_eq!(
        machine.ok(".", &["image", "rm", "-f", "my/web:1"]),
        "Untagged: my/web:1\n"
    );
    assert_eq!(machine.ok("p", &["exec", "web", "cat", "/f"]), "hi\n");
    machine.ok("p", &["down", "-t", "0"]);
    let removed = machine.ok(".", &["image", "rm", id]);
    assert!(
        removed.starts_with(&format!("Deleted: sha256:{id}\n")),
        "{removed}"
    );
    machine.ok(".", &["image", "rm", "busybox"]);
    assert_eq!(machine.ok(".", &["image", "ls", "-q"]), "");
    machine.assert_clean();
}

#[test]
fn inspect_tells_all_in_dockers_order() {
    let machine = built();
    let ran = machine.run(".", &["image", "inspect", "my/web:1", "nope"]);
    assert_eq!(
        (ran.code, ran.stderr.as_str()),
        (1, "Error: No such image: nope\n")
    );
    let list: Value = serde_json::from_str(&ran.stdout).unwrap();
    let image = &list[0];
    let data = &image["GraphDriver"]["Data"];
    for key in ["LowerDir", "UpperDir"] {
        let directory = data[key].as_str().unwrap();
        assert!(std::path::Path::new(directory).is_dir(), "{directory}");
    }
    assert_eq!(image["RepoTags"], serde_json::json!(["my/web:1"]));
    assert_eq!(image["Config"]["Labels"], serde_json::json!({"a": "b"}));
    let keys: Vec<&str> = ran
        .stdout
        .lines()
        .filter_map(|line| line.strip_prefix("        \"")?.split('"').next())
        .collect();
    assert_eq!(
        keys,
        [
            "Id",
            "RepoTags",
            "RepoDigests",
            "Parent",
            "Comment",
            "Created",
            "DockerVersion",
            "Author",
            "Config",
            "Architecture",
            "Os",
            "Size",
            "GraphDriver",
            "RootFS",
            "Metadata",
            "Descriptor",
        ]
    );
    let ran = machine.run(".", &["image", "inspect", "nope"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (1, "[]\n"));
}
