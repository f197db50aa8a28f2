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

/// Returns the hexadecimal digits of an image's ID.
fn id_of(machine: &Machine, name: &str) -> String {
    let id = machine.ok(".", &["image", "inspect", "-f", "{{slice .Id 7}}", name]);
    id.trim().to_owned()
}

/// Whether a tool is there; says so where it is not.
fn has(machine: &Machine, tool: &str) -> bool {
    let found = machine.sh(&format!("command -v {tool} || true"));
    if found.trim().is_empty() {
        eprintln!("skipped: {tool} is not installed");
    }
    !found.trim().is_empty()
}

/// The labels of the service's image: its Dockerfile's, and Compose's.
fn labels_of_web() -> Value {
    serde_json::json!({
        "a": "b",
        "com.docker.compose.project": "p",
        "com.docker.compose.service": "web",
        "com.docker.compose.version": env!("CARGO_PKG_VERSION"),
    })
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
    let id = id_of(&machine, "my/web:1");
    let member = |name: &str| -> Value {
        serde_json::from_str(&machine.sh(&format!("tar xOf out.tar {name}"))).unwrap()
    };
    let list = member("manifest.json");
    assert_eq!(list[0]["Config"], format!("blobs/sha256/{}", id.as_str()));
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
            assert!(config.contains(id.as_str()), "{source} {config}");
        }
        let store = machine.root().join("lib/images");
        let seen = machine.sh(&format!(
            "skopeo inspect oci:{}:docker.io/my/web:1",
            store.display()
        ));
        let seen: Value = serde_json::from_str(&seen).unwrap();
        assert_eq!(seen["Labels"], labels_of_web());
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
    // A new archive is its owner's alone, and one that was there keeps its mode.
    let binary = env!("CARGO_BIN_EXE_stack");
    let root = machine.root();
    let seen = machine.sh(&format!(
        "chmod 644 old.tar; \
         for to in new.tar old.tar; do {binary} --root {} image save -o $to busybox; done; stat -c %a new.tar old.tar",
        root.display()
    ));
    assert_eq!(seen, "600\n644\n");
}

#[test]
fn names_move_and_images_go_with_their_last_one() {
    let machine = built();
    let id = id_of(&machine, "my/web:1");
    let id = id.as_str();
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
    assert_eq!(image["Config"]["Labels"], labels_of_web());
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

#[test]
fn what_was_saved_loads_elsewhere_with_its_names() {
    let machine = built();
    let id = id_of(&machine, "my/web:1");
    machine.ok(
        ".",
        &["image", "save", "-o", "out.tar", "my/web", "busybox"],
    );
    machine.ok("p", &["image", "save", "-o", "id.tar", &id]);
    machine.sh("gzip -k out.tar && mv stack first");
    let loaded = "Loaded image: my/web:1\nLoaded image: busybox:latest\n";
    assert_eq!(
        machine.ok(".", &["image", "load", "-q", "-i", "out.tar.gz"]),
        loaded
    );
    assert_eq!(id_of(&machine, "my/web:1"), id);
    // From standard input, and once more: nothing changes.
    let mut again = machine.stack(".", &["image", "load"]);
    let file = fs_err::File::open(machine.path().join("out.tar")).unwrap();
    let output = again.stdin(file.into_file()).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), loaded);
    assert_eq!(machine.ok(".", &["image", "ls", "-q"]).lines().count(), 2);
    assert_eq!(
        machine.ok(".", &["image", "load", "-i", "p/id.tar"]),
        format!("Loaded image ID: sha256:{id}\n")
    );
    machine.ok("p", &["up", "-d"]);
    assert_eq!(machine.ok("p", &["exec", "web", "cat", "/f"]), "hi\n");
    machine.ok("p", &["down", "-t", "0"]);
    machine.ok(".", &["image", "tag", "busybox", "my/web:1"]);
    let said = machine.ok(".", &["image", "load", "-i", "out.tar"]);
    let moved = format!(
        "The image my/web:1 already exists, renaming the old one with ID sha256:{} to empty string\n",
        id_of(&machine, "busybox")
    );
    assert_eq!(said, moved + loaded);
    machine.write("garbage", &"not a tar ".repeat(200));
    let ran = machine.run(".", &["image", "load", "-q", "-i", "garbage"]);
    assert_eq!(
        (ran.code, ran.stderr.as_str()),
        (
            1,
            "error: read the archive: the archive is malformed: a header's field is not a number\n"
        )
    );
}

#[test]
fn lists_filters_and_histories_are_dockers() {
    let machine = built();
    let id = id_of(&machine, "my/web:1");
    let ls = |args: &[&str]| {
        machine.ok(
            ".",
            &[
                &["image", "ls", "--format", "{{.Repository}}:{{.Tag}}"][..],
                args,
            ]
            .concat(),
        )
    };
    assert_eq!(ls(&[]), "my/web:1\nbusybox:latest\n");
    assert_eq!(ls(&["-f", "label=a=b"]), "my/web:1\n");
    assert_eq!(ls(&["-f", "before=my/web:1"]), "busybox:latest\n");
    assert_eq!(ls(&["-f", "since=busybox"]), "my/web:1\n");
    assert_eq!(ls(&["-f", "reference=*/w*"]), "my/web:1\n");
    assert_eq!(ls(&["-f", "until=1h"]), "");
    assert_eq!(ls(&["busybox:none"]), "");
    let table = machine.ok(".", &["image", "ls", "--digests"]);
    assert!(
        table.starts_with("REPOSITORY   TAG       DIGEST    IMAGE ID       CREATED "),
        "{table}"
    );
    assert_eq!(
        machine.ok(".", &["image", "ls", "-q", "--no-trunc", "my/web"]),
        format!("sha256:{id}\n")
    );
    let row = machine.ok(".", &["image", "ls", "--format", "json", "busybox"]);
    let row: Value = serde_json::from_str(&row).unwrap();
    assert_eq!(
        (&row["Tag"], &row["Digest"]),
        (&Value::from("latest"), &Value::from("<none>"))
    );
    let ran = machine.run(".", &["image", "ls", "-f", "x=y"]);
    assert_eq!(
        (ran.code, ran.stderr.as_str()),
        (1, "error: invalid filter 'x'\n")
    );
    let history = machine.ok(
        ".",
        &[
            "image",
            "history",
            "--format",
            "{{.ID}} {{.Size}}|{{.CreatedBy}}",
            "my/web:1",
        ],
    );
    let lines: Vec<&str> = history.lines().collect();
    assert_eq!(lines[0], format!("{} 0B|LABEL a=b", &id[..12]));
    assert!(lines[1].starts_with("<missing> 3B|RUN "), "{history}");
    // A build that takes the name leaves the old image without one.
    machine.write("p/Dockerfile", "FROM busybox\nRUN echo other > /f\n");
    machine.ok("p", &["build"]);
    assert_eq!(ls(&["-f", "dangling=true"]), "<none>:<none>\n");
    let mut asked = machine.stack(".", &["image", "prune"]);
    let output = asked.output().unwrap();
    let question = "WARNING! This will remove all dangling images.\nAre you sure you want to continue? [y/N] Total reclaimed space: 0B\n";
    assert_eq!(String::from_utf8_lossy(&output.stdout), question);
    let pruned = machine.ok(".", &["image", "prune", "-f"]);
    assert!(
        pruned.starts_with(&format!("Deleted Images:\ndeleted: sha256:{id}\n")),
        "{pruned}"
    );
    assert!(!pruned.contains("space: 0B"), "{pruned}");
    machine.ok("p", &["up", "-d"]);
    // What containers use stays, also the image below it, whose layer they need.
    machine.ok(".", &["image", "prune", "-af", "--filter", "label!=keep"]);
    assert_eq!(ls(&[]), "my/web:1\n");
    assert_eq!(machine.ok("p", &["exec", "web", "cat", "/f"]), "other\n");
    machine.ok("p", &["down", "-t", "0"]);
    machine.assert_clean();
}

#[test]
fn a_container_becomes_an_image_and_a_tar() {
    let machine = Machine::project(
        "services:\n  web:\n    image: busybox\n    init: true\n    command: sleep infinity\n    volumes: ['./d:/d']\n    tmpfs: /mem\n",
    );
    machine.write("p/d/secret", "not the image's");
    machine.ok("p", &["up", "-d"]);
    let script = "mkdir /new && echo text > /new/f && ln /new/f /new/g && rm /etc/group && rm -r /var && mkdir /var && echo m > /mem/x";
    machine.ok("p", &["exec", "web", "sh", "-c", script]);
    let exported = machine.ok("p", &["export", "web", "-o", "web.tar"]);
    assert_eq!(exported, "");
    let names = machine.sh("tar tf p/web.tar");
    let has = |name: &str| names.lines().any(|line| line == name);
    for (name, there) in [
        ("new/f", true),
        ("etc/passwd", true),
        ("etc/hosts", true),
        ("dev/", true),
        ("proc/", true),
        ("d/", true),
        ("bin/sh", true),
        ("etc/group", false),
        ("d/secret", false),
        ("mem/x", false),
        (".wh.var", false),
        ("var/.wh..wh..opq", false),
    ] {
        assert_eq!(has(name), there, "{name} in\n{names}");
    }
    let args = [
        "commit",
        "-a",
        "me",
        "-m",
        "why",
        "-c",
        "ENV A=1",
        "-c",
        "EXPOSE 80",
        "p-web-1",
        "snap:1",
    ];
    let id = machine.ok("p", &args);
    let inspect = |format: &str| machine.ok(".", &["image", "inspect", "-f", format, "snap:1"]);
    assert_eq!(inspect("{{.Id}}"), id);
    assert_eq!(
        inspect("{{.Author}} {{.Comment}} {{json .Config.Cmd}} {{json .Config.ExposedPorts}}"),
        "me why [\"sleep\",\"infinity\"] {\"80/tcp\":{}}\n"
    );
    assert!(inspect("{{join .Config.Env \"|\"}}").contains("A=1"));
    // The container goes on.
    assert_eq!(machine.ok("p", &["exec", "web", "cat", "/new/g"]), "text\n");
    machine.ok("p", &["down", "-t", "0"]);
    machine.write(
        "q/compose.yaml",
        "services:\n  again:\n    image: snap:1\n    init: true\n",
    );
    machine.ok("q", &["up", "-d"]);
    let seen = machine.ok(
        "q",
        &[
            "exec",
            "again",
            "sh",
            "-c",
            "cat /new/f; stat -c %h /new/f; ls /etc /var /d; echo $A",
        ],
    );
    assert_eq!(
        seen,
        "text\n2\n/d:\n\n/etc:\nhostname\nhosts\npasswd\nresolv.conf\n\n/var:\n1\n"
    );
    machine.ok("q", &["down", "-t", "0"]);
    machine.assert_clean();
}

#[test]
fn a_container_without_changes_makes_no_layer() {
    let machine = Machine::project(
        "services:\n  web:\n    image: busybox\n    init: true\n    command: sleep infinity\n",
    );
    machine.ok("p", &["up", "-d"]);
    // Nothing changed: no layer, and the history says so.
    let same = machine.ok("p", &["commit", "web"]);
    let layers = |image: &str| {
        machine.ok(
            ".",
            &[
                "image",
                "inspect",
                "-f",
                "{{len .RootFS.Layers}}",
                image.trim(),
            ],
        )
    };
    assert_eq!(layers(&same), layers("busybox"));
    machine.ok(".", &["image", "save", "-o", "same.tar", same.trim()]);
    let ran = machine.run("p", &["commit", "nobody"]);
    assert_eq!(
        (ran.code, ran.stderr.as_str()),
        (1, "error: No such container: nobody\n")
    );
    machine.ok("p", &["down", "-t", "0"]);
    machine.assert_clean();
}

#[test]
fn a_tar_that_lies_elsewhere_is_imported() {
    let machine = Machine::new();
    machine.sh("mkdir -p w/tree && echo text > w/tree/file && tar -C w/tree -czf w/root.tgz .");
    let server = machine
        .command("w", "busybox")
        .args(["httpd", "-f", "-p", "127.0.0.1:8098"])
        .spawn();
    let mut server = server.unwrap();
    machine.sh("timeout 60 sh -c 'until busybox nc 127.0.0.1 8098 </dev/null; do :; done'");
    let url = "http://me:secret@127.0.0.1:8098/root.tgz";
    let id = machine.ok(".", &["image", "import", url, "far:1"]);
    let change = [
        "image",
        "import",
        "-m",
        "made by hand",
        "--platform",
        "linux/arm/v7",
        "-c",
        "ENV A=b",
        "w/root.tgz",
        "near:1",
    ];
    machine.ok(".", &change);
    let absent = machine.run(".", &["image", "import", "http://127.0.0.1:8098/absent"]);
    server.kill().unwrap();
    server.wait().unwrap();
    let refused = machine.run(".", &["image", "import", url]);
    let of = |image: &str| {
        let text = machine.ok(".", &["image", "inspect", image]);
        serde_json::from_str::<Value>(&text).unwrap()[0].clone()
    };
    let far = of("far:1");
    assert_eq!(far["Id"], id.trim());
    let from = "Imported from http://xxxxx:xxxxx@127.0.0.1:8098/root.tgz";
    assert_eq!(far["Comment"], from);
    let near = of("near:1");
    assert_eq!(near["RootFS"], far["RootFS"]);
    let words = ["Comment", "Architecture", "Variant", "Os"].map(|key| near[key].clone());
    assert_eq!(words, ["made by hand", "arm", "v7", "linux"]);
    assert_eq!(near["Config"]["Env"], serde_json::json!(["A=b"]));
    let history = ["image", "history", "--format", "{{.Comment}}", "near:1"];
    assert_eq!(machine.ok(".", &history), "made by hand\n");
    machine.sh("tar -C w/tree -cf - . > w/plain.tar");
    let ran = machine.run(".", &["image", "import", "w/plain.tar", "plain"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert_eq!(of("plain")["Comment"], "Imported from -");
    assert_eq!(absent.code, 1);
    assert!(absent.stderr.contains("404"), "{}", absent.stderr);
    assert_eq!(refused.code, 1);
    assert!(
        refused.stderr.contains("127.0.0.1:8098"),
        "{}",
        refused.stderr
    );
    assert!(!refused.stderr.contains("secret"), "{}", refused.stderr);
    let wrong = machine.run(
        ".",
        &["image", "import", "--platform", "a/b/c/d/e", "w/plain.tar"],
    );
    assert_eq!(wrong.code, 1, "{}", wrong.stderr);
}

#[test]
fn a_load_tells_how_far_it_is_unless_it_is_to_be_quiet() {
    let machine = built();
    machine.ok("p", &["image", "save", "-o", "all.tar", "busybox"]);
    machine.ok("p", &["image", "prune", "-af"]);
    let load = |args: &[&str]| {
        machine.run(
            "p",
            &[&["image", "load", "-i", "all.tar"][..], args].concat(),
        )
    };
    let ran = load(&["-q"]);
    assert_eq!(
        (ran.code, ran.stdout.as_str(), ran.stderr.as_str()),
        (0, "Loaded image: busybox:latest\n", "")
    );
    machine.ok("p", &["image", "prune", "-af"]);
    let ran = load(&[]);
    assert_eq!(
        (ran.code, ran.stdout.as_str()),
        (0, "Loaded image: busybox:latest\n")
    );
    let lines: Vec<&str> = ran.stderr.lines().collect();
    assert!(
        matches!(lines.as_slice(), [" Archive all.tar  Loading", layer, " Archive all.tar  Loaded"]
            if layer.starts_with(" Image busybox:latest layer ") && layer.ends_with("  Loaded")),
        "{lines:?}"
    );
    let ran = machine.run(
        "p",
        &["--progress", "json", "image", "load", "-i", "all.tar"],
    );
    let events = ran.stderr.lines();
    let events: Vec<Value> = events
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect();
    let read = events.iter().filter(|event| event["text"] == "Reading");
    let read = read.filter_map(|event| event["current"].as_u64()).max();
    let size = fs_err::metadata(machine.path().join("p/all.tar"))
        .unwrap()
        .len();
    // The end of a tar is more zeros than need be read.
    let is_near = read.is_some_and(|read| read <= size && size - read < 1 << 20);
    assert!(is_near, "{read:?} of {size}: {}", ran.stderr);
    assert!(ran.stderr.contains("Already exists"), "{}", ran.stderr);
}

#[test]
fn commands_of_projects_name_their_likes_for_images() {
    let machine = Machine::new();
    machine.sh("mkdir empty");
    for (command, hint) in [
        ("pull", "stack image pull NAME"),
        ("push", "stack image push NAME"),
        ("images", "stack image ls"),
    ] {
        let ran = machine.run("empty", &[command]);
        assert!(
            ran.code != 0 && ran.stderr.contains(hint),
            "{command}: {}",
            ran.stderr
        );
    }
}
