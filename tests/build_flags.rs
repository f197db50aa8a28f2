//! What `image build` and `build` are asked for, and where images go, with the real binary.

#![allow(
    clippy::allow_attributes,
    clippy::disallowed_methods,
    reason = "tests run real processes"
)]
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod support;

use serde_json::{Value, json};
use support::{Machine, Ran};

/// A machine with busybox, and the context `c` of a Dockerfile.
fn machine(dockerfile: &str) -> Machine {
    let machine = Machine::new();
    machine.import_busybox();
    machine.write("c/Dockerfile", dockerfile);
    machine
}

/// Builds the context `c`.
fn build(machine: &Machine, options: &[&str]) -> Ran {
    machine.run("c", &[&["image", "build"], options, &["."]].concat())
}

/// As [`build`], and requires success.
fn built(machine: &Machine, options: &[&str]) -> Ran {
    let ran = build(machine, options);
    assert_eq!(ran.code, 0, "{options:?}\n{}{}", ran.stdout, ran.stderr);
    ran
}

fn inspect(machine: &Machine, image: &str) -> Value {
    let text = machine.ok(".", &["image", "inspect", image]);
    serde_json::from_str::<Value>(&text).unwrap()[0].clone()
}

/// The IDs of all images but busybox.
fn images(machine: &Machine) -> Vec<String> {
    let listed = machine.ok(
        ".",
        &[
            "image",
            "ls",
            "--no-trunc",
            "--format",
            "{{.Repository}} {{.ID}}",
        ],
    );
    let others = listed.lines().filter(|line| !line.starts_with("busybox "));
    others.map(str::to_owned).collect()
}

/// What is done with an option.
enum Fate {
    /// It has an effect that another test sees, or none where there is nothing to do.
    Taken,
    /// A warning says that it has none.
    Warned,
    /// An error says why.
    Refused(&'static str),
}

/// Every option of `docker buildx build` 0.14 to 0.28 and of `docker build` 20.10 to 28.
const OPTIONS: &[(&[&str], Fate)] = &[
    (&["--add-host", "a:192.0.2.1,b:192.0.2.2"], Fate::Taken),
    (&["--allow", "network.host"], Fate::Taken),
    (&["--annotation", "manifest:a=b"], Fate::Taken),
    (
        &["--annotation", "index:a=b"],
        Fate::Refused("there is no index"),
    ),
    (&["--annotation", "x"], Fate::Refused("expected key=value")),
    (&["--attest", "type=provenance,mode=max"], Fate::Taken),
    (
        &["--attest", "type=provenance,reproducible=yes"],
        Fate::Refused("reproducible is `true` or `false`"),
    ),
    (&["--build-arg", "A=b"], Fate::Taken),
    (&["--build-context", "x=."], Fate::Taken),
    (&["--builder", "default"], Fate::Taken),
    (&["--cache-from", "type=local,src=cache"], Fate::Taken),
    (
        &["--cache-to", "type=local,dest=cache,force-compression=true"],
        Fate::Taken,
    ),
    (
        &["--cache-to", "type=local,dest=cache,ignore-error=x"],
        Fate::Refused("ignore-error is `true` or `false`"),
    ),
    (&["--call", "targets"], Fate::Taken),
    (&["--call", "outline,format=json"], Fate::Taken),
    (&["--call", "check,ignorestatus=true"], Fate::Taken),
    (
        &["--call", "describe"],
        Fate::Refused("it must be check, outline, targets or build"),
    ),
    (
        &["--cgroup-parent", "/x"],
        Fate::Refused("not supported: steps run in the control group"),
    ),
    (&["--check"], Fate::Taken),
    (&["--check=false"], Fate::Taken),
    (&["--compress"], Fate::Taken),
    (&["--cpu-period", "1000"], Fate::Warned),
    (&["--cpu-quota", "-1"], Fate::Warned),
    (&["--cpu-shares", "5"], Fate::Warned),
    (&["--cpuset-cpus", "0-3"], Fate::Warned),
    (&["--cpuset-mems", "0,1"], Fate::Warned),
    (&["-D"], Fate::Taken),
    (&["--debug"], Fate::Taken),
    (&["--detach"], Fate::Refused("there is one builder")),
    (&["--disable-content-trust"], Fate::Taken),
    (
        &["--disable-content-trust=false"],
        Fate::Refused("no signatures"),
    ),
    (&["-f", "Dockerfile"], Fate::Taken),
    (&["--force-rm"], Fate::Taken),
    (&["--iidfile", "id"], Fate::Taken),
    (
        &["--iidfile", "id", "-o", "out"],
        Fate::Refused("incompatible with image ID file"),
    ),
    (
        &["--invoke", "-q"],
        Fate::Refused("there is no shell in a build"),
    ),
    (
        &["--invoke=/bin/sh"],
        Fate::Refused("there is no shell in a build"),
    ),
    (&["--isolation", "default"], Fate::Warned),
    (&["--label", "a=b"], Fate::Taken),
    (&["--load"], Fate::Taken),
    (&["-m", "64m"], Fate::Taken),
    (&["--memory-swap", "-1"], Fate::Warned),
    (&["--metadata-file", "m.json"], Fate::Taken),
    (&["--network", "none"], Fate::Taken),
    (&["--no-cache"], Fate::Taken),
    (
        &["--no-cache-filter", "a,b", "--no-cache-filter", "c"],
        Fate::Taken,
    ),
    (
        &["--on", "error"],
        Fate::Refused("there is no shell in a build"),
    ),
    (&["-o", "type=docker"], Fate::Taken),
    (
        &["-o", "type=docker,push=x"],
        Fate::Refused("push is `true` or `false`"),
    ),
    (&["--platform", "linux/amd64"], Fate::Taken),
    (&["--policy", "reset=true"], Fate::Refused("no policies")),
    (&["--print", "targets"], Fate::Taken),
    (&["--progress", "auto"], Fate::Taken),
    (&["--progress", "plain"], Fate::Taken),
    (&["--progress", "tty"], Fate::Taken),
    (&["--progress", "quiet"], Fate::Taken),
    (&["--progress", "rawjson"], Fate::Taken),
    (
        &["--progress", "none"],
        Fate::Refused("invalid value 'none'"),
    ),
    (
        &["-q", "--progress", "plain"],
        Fate::Refused("progress=plain and quiet cannot be used together"),
    ),
    (&["--provenance", "false"], Fate::Taken),
    (&["--pull=false"], Fate::Taken),
    (
        &["--push"],
        Fate::Refused("a tag is needed when pushing to a registry"),
    ),
    (&["-q"], Fate::Taken),
    (&["--rm=false"], Fate::Taken),
    (&["--sbom", "false"], Fate::Taken),
    (&["--secret", "id=Dockerfile"], Fate::Taken),
    (&["--security-opt", "seccomp=x"], Fate::Warned),
    (
        &["--server-config", "x"],
        Fate::Refused("there is one builder"),
    ),
    (&["--shm-size", "64m"], Fate::Taken),
    (&["--squash"], Fate::Warned),
    (
        &["--ssh", "default"],
        Fate::Refused("SSH_AUTH_SOCK is not set"),
    ),
    (&["--stream"], Fate::Warned),
    (&["-t", "app"], Fate::Taken),
    (&["--target", "0"], Fate::Taken),
    (&["--ulimit", "nofile=9:10"], Fate::Taken),
];

#[test]
fn every_option_of_docker_is_taken_or_refused_with_a_reason() {
    let machine = machine("FROM busybox\nLABEL a=b\n");
    machine.write("c/.dockerignore", "cache\n");
    // There must be one to read.
    built(&machine, &["--cache-to", "type=local,dest=cache"]);
    let mut wrong = Vec::new();
    for (options, fate) in OPTIONS {
        let ran = build(&machine, options);
        let lines: Vec<&str> = ran.stderr.lines().collect();
        let ignored = |line: &&str| {
            line.starts_with("warning: ") && line.contains(" is ignored, as with BuildKit: ")
        };
        let count = lines.iter().filter(|line| ignored(line)).count();
        let is_so = match fate {
            Fate::Taken => ran.code == 0 && count == 0,
            Fate::Warned => ran.code == 0 && count == 1 && ran.stderr.contains(options[0]),
            Fate::Refused(why) => {
                let is_said = ran.stderr.starts_with("error: ") && ran.stderr.contains(why);
                [1, 2].contains(&ran.code) && is_said
            }
        };
        if !is_so {
            wrong.push(format!(
                "{options:?}: {}\n{}{}",
                ran.code, ran.stdout, ran.stderr
            ));
        }
    }
    assert_eq!(wrong, [""; 0]);
    machine.assert_clean();
}

#[test]
fn an_image_that_goes_elsewhere_is_not_in_the_store_and_the_cache_is_kept() {
    let machine =
        machine("FROM busybox AS b\nRUN echo made > /m\nFROM scratch\nCOPY --from=b /m /\n");
    let blobs = || machine.sh("ls stack/lib/images/blobs/sha256 | wc -l");
    let before = blobs();
    for (output, told) in [
        ("out", "exporting to client directory"),
        ("type=tar,dest=f.tar", "exporting to client tarball"),
        ("type=oci,dest=o.tar", "exporting to oci image format"),
        ("type=docker,dest=d.tar", "exporting to docker image format"),
    ] {
        for name in [&[][..], &["-t", "app:1"]] {
            let ran = built(&machine, &[name, &["-o", output]].concat());
            assert!(ran.stderr.contains(told), "{}", ran.stderr);
            assert!(!ran.stderr.contains("writing image"), "{}", ran.stderr);
            assert_eq!(images(&machine), [""; 0], "{output} {name:?}");
        }
    }
    // The tar of the layer is kept for the next archive; nothing else is.
    let left = |text: &str| text.trim().parse::<usize>().unwrap();
    assert!(left(&blobs()) <= left(&before) + 1, "{before}{}", blobs());
    assert_eq!(
        machine.sh("cat c/out/m; tar -xOf c/f.tar m"),
        "made\nmade\n"
    );
    let names = machine.sh("tar -xOf c/d.tar manifest.json");
    assert!(names.contains(r#""RepoTags":["app:1"]"#), "{names}");
    // What was built is in the cache, and what an archive has can be loaded.
    let ran = built(&machine, &["-t", "app:2", "-o", "type=image", "-o", "out"]);
    assert_eq!(ran.stderr.matches(" CACHED").count(), 2, "{}", ran.stderr);
    assert_eq!(images(&machine).len(), 1);
    machine.ok("c", &["image", "load", "-q", "-i", "o.tar"]);
    assert_eq!(
        inspect(&machine, "app:1")["Id"],
        inspect(&machine, "app:2")["Id"]
    );
    // There is no ID of files alone.
    let ran = built(&machine, &["-q", "-o", "out", "--metadata-file", "m.json"]);
    assert_eq!((ran.stdout.as_str(), ran.stderr.as_str()), ("", ""));
    assert_eq!(machine.sh("cat c/m.json"), "{}\n");
    let ran = machine.run(
        ".",
        &["image", "build", "-q", "-o", "type=docker,dest=-", "c"],
    );
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    machine.assert_clean();
}

#[test]
fn the_id_of_what_was_built_is_told() {
    let machine = machine("FROM busybox\nLABEL a=b\n");
    let ran = built(&machine, &[]);
    let id = images(&machine)
        .concat()
        .rsplit(' ')
        .next()
        .unwrap()
        .to_owned();
    assert!(
        ran.stderr.contains(&format!(" writing image {id} done\n")),
        "{id}\n{}",
        ran.stderr
    );
    assert_eq!(
        built(&machine, &["--progress", "quiet"]).stdout,
        format!("{id}\n")
    );
    let ran = built(&machine, &["--progress", "tty", "-t", "app"]);
    let last = ran.stderr.rsplit("[+] Building").next().unwrap();
    assert!(
        last.contains(&format!("writing image {id}\n")),
        "{}",
        ran.stderr
    );
    assert!(
        last.contains("naming to docker.io/library/app:latest\n"),
        "{}",
        ran.stderr
    );
    machine.assert_clean();
}

#[test]
fn raw_progress_is_buildkits() {
    let machine = machine("FROM busybox\nRUN echo hello\n");
    let lines = |ran: &Ran| -> Vec<Value> {
        let lines = ran.stderr.lines();
        lines
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    };
    let all = lines(&built(&machine, &["--progress", "rawjson"]));
    let vertexes: Vec<&Value> = all
        .iter()
        .filter_map(|line| line["vertexes"].get(0))
        .collect();
    let run = vertexes
        .iter()
        .find(|v| v["name"] == "[2/2] RUN echo hello")
        .unwrap();
    let log = all.iter().find_map(|line| line["logs"].get(0)).unwrap();
    assert_eq!(
        (&log["vertex"], &log["data"]),
        (&run["digest"], &json!("aGVsbG8K"))
    );
    let mut ended = vertexes.iter().filter(|v| v["digest"] == run["digest"]);
    assert!(ended.next_back().unwrap()["completed"].is_string());
    let mut again = machine.stack("c", &["image", "build", "."]);
    let again = Ran::of(&again.env("BUILDKIT_PROGRESS", "rawjson").output().unwrap());
    let cached = lines(&again);
    assert!(
        cached
            .iter()
            .any(|line| line["vertexes"][0]["cached"] == true)
    );
    let ran = machine.run(".", &["--progress", "rawjson", "image", "ls"]);
    assert_eq!(ran.code, 2, "{}", ran.stderr);
    machine.assert_clean();
}

#[test]
fn annotations_are_in_manifests_and_indexes() {
    let machine = machine("FROM busybox\nLABEL a=b\n");
    let read = |options: &[&str]| -> Value {
        built(
            &machine,
            &[options, &["-t", "app", "-o", "type=oci,dest=o.tar"]].concat(),
        );
        machine.sh("rm -rf o && mkdir o && tar -xf c/o.tar -C o");
        let blob = |path: String| -> Value {
            let bytes = fs_err::read(machine.path().join("o").join(path)).unwrap();
            serde_json::from_slice(&bytes).unwrap()
        };
        let top = blob("index.json".to_owned());
        let digest = top["manifests"][0]["digest"].as_str().unwrap().to_owned();
        blob(format!("blobs/{}", digest.replace(':', "/")))
    };
    let manifest = read(&[
        "--annotation",
        "a=b",
        "--annotation",
        "manifest[linux/s390x]:c=d",
    ]);
    assert_eq!(manifest["annotations"], json!({"a": "b"}));
    assert_eq!(read(&[]).get("annotations"), None);
    let index = read(&[
        "--provenance",
        "true",
        "--annotation",
        "index,manifest-descriptor:e=f",
    ]);
    assert_eq!(index["annotations"], json!({"e": "f"}));
    assert_eq!(index["manifests"][0]["annotations"], json!({"e": "f"}));
    // They are kept in the store, and a build without them takes them away.
    let saved = |options: &[&str]| {
        built(&machine, &[options, &["-t", "kept"]].concat());
        machine.sh("rm -f kept.tar");
        machine.ok(".", &["image", "save", "-o", "kept.tar", "kept"]);
        machine
            .sh("tar -xOf kept.tar")
            .contains(r#""annotations":{"a":"b"}"#)
    };
    assert!(saved(&["--annotation", "a=b"]));
    assert!(saved(&["--annotation", "a=b"]));
    assert!(!saved(&[]));
    // Also where another name has the same image with them.
    assert!(saved(&["-t", "also", "--annotation", "a=b"]));
    built(&machine, &["-t", "also"]);
    machine.ok(".", &["image", "save", "-o", "also.tar", "also:latest"]);
    assert!(
        !machine
            .sh("tar -xOf also.tar")
            .contains("annotations\":{\"a")
    );
    machine.assert_clean();
}

#[test]
fn images_of_services_have_composes_labels_and_change_with_nothing() {
    let text = "name: demo\nservices:\n  web: {build: {context: c, labels: {own: x, com.docker.compose.service: y}}}\n  twin: {build: c, image: demo-web}\n";
    let machine = machine("FROM busybox\nRUN true\n");
    machine.write("compose.yaml", text);
    let ran = machine.run(".", &["build", "web"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let first = inspect(&machine, "demo-web");
    let version = machine.ok(".", &["version", "--short"]);
    assert_eq!(
        first["Config"]["Labels"],
        json!({
            "own": "x",
            "com.docker.compose.project": "demo",
            "com.docker.compose.service": "web",
            "com.docker.compose.version": version.trim(),
        })
    );
    let ran = machine.run(".", &["build", "web"]);
    assert!(ran.stderr.contains(" CACHED"), "{}", ran.stderr);
    let id = first["Id"].as_str().unwrap();
    assert!(
        ran.stderr.contains(&format!("writing image {id} done")),
        "{}",
        ran.stderr
    );
    assert_eq!(inspect(&machine, "demo-web"), first);
    let filter = "label=com.docker.compose.project=demo";
    let listed = machine.ok(
        ".",
        &["image", "ls", "-q", "--no-trunc", "--filter", filter],
    );
    assert_eq!(listed.trim(), id);
    machine.assert_clean();
}

#[test]
fn the_first_build_that_fails_ends_the_others_at_once() {
    let text = "name: demo\nservices:\n\
                \x20 long: {build: {context: c, dockerfile_inline: \"FROM busybox\\nRUN echo began; sleep 1000\\n\"}}\n\
                \x20 wrong: {build: {context: c, dockerfile_inline: \"FROM busybox\\nRUN echo no luck; exit 7\\n\"}}\n\
                \x20 z: {build: {context: c, dockerfile_inline: \"FROM busybox\\nRUN echo never\\n\"}}\n";
    let machine = machine("");
    machine.write("compose.yaml", text);
    for command in [&["build"][..], &["up", "-d"]] {
        // It ends before the 1000 seconds of the other one.
        let ran = machine.run(".", command);
        assert_eq!(ran.code, 1, "{}", ran.stderr);
        assert!(
            ran.stderr.contains(" Image demo-long  Canceled\n"),
            "{}",
            ran.stderr
        );
        assert!(ran.stderr.contains("exit code: 7"), "{}", ran.stderr);
        assert_eq!(ran.stderr.matches("error: ").count(), 1, "{}", ran.stderr);
        assert!(!ran.stderr.contains("demo-z"), "{}", ran.stderr);
    }
    machine.assert_clean();
}

#[test]
fn what_cannot_be_built_is_told_before_anything_is() {
    let text = "name: demo\nservices:\n\
                \x20 a: {build: {context: c}}\n\
                \x20 b: {build: {context: c, secrets: [s, d]}}\n\
                \x20 c: {image: busybox}\n\
                secrets:\n  s: {file: none}\n  d: {file: c}\n";
    let machine = machine("FROM busybox\nRUN echo never\n");
    machine.write("compose.yaml", text);
    for command in [&["build"][..], &["up", "-d"]] {
        let ran = machine.run(".", command);
        assert_eq!(ran.code, 1, "{}", ran.stderr);
        assert!(!ran.stderr.contains("Building"), "{}", ran.stderr);
        for said in [
            "secret `s` of the build of service `b`: file `",
            "/none`: No such file or directory",
            "secret `d` of the build of service `b`: file `",
            "/c`: Is a directory",
            "compose.yaml:4:",
        ] {
            assert!(ran.stderr.contains(said), "{said}\n{}", ran.stderr);
        }
    }
    for options in [&[][..], &["--print"], &["--check"]] {
        let ran = machine.run(".", &[&["build"], options, &["c"]].concat());
        assert_eq!((ran.code, ran.stdout.as_str()), (0, ""), "{}", ran.stderr);
        assert_eq!(ran.stderr, "warning: No services to build\n");
    }
    machine.assert_clean();
}

#[test]
fn builds_are_printed_as_docker_compose_prints_them() {
    let text = "name: demo\nservices:\n\
                \x20 base: {build: {context: c}, image: registry.example/base}\n\
                \x20 app.x:\n    image: app\n    build:\n      context: c\n      dockerfile: D\n      args: {A: 'a$${B}', HOME: , NONE: }\n      \
                additional_contexts: {b: 'service:base', far: 'docker-image://x'}\n      secrets: [s, {source: e, target: t}]\n      \
                tags: [more]\n      ssh: [default]\n      privileged: true\n      ulimits: {nofile: 5}\n      provenance: mode=max\n      sbom: false\n      \
                extra_hosts: ['h:192.0.2.1']\n      shm_size: 1k\n      labels: {l: '$${v}'}\n\
                secrets:\n  s: {file: c/secret}\n  e: {environment: HOME}\n";
    let machine = machine("");
    machine.write("compose.yaml", text);
    let printed = |options: &[&str]| -> Value {
        let text = machine.ok(".", &[&["build", "--print"], options].concat());
        serde_json::from_str(&text).unwrap()
    };
    let path = |name: &str| machine.path().canonicalize().unwrap().join(name);
    let labels = |service: &str| {
        let version = machine.ok(".", &["version", "--short"]);
        json!({
            "com.docker.compose.project": "demo",
            "com.docker.compose.service": service,
            "com.docker.compose.version": version.trim(),
        })
    };
    let mut own = labels("app.x");
    own["l"] = json!("$${v}");
    let base = json!({
        "context": path("c"),
        "dockerfile": path("c/Dockerfile"),
        "labels": labels("base"),
        "tags": ["registry.example/base"],
        "output": ["type=docker"],
    });
    let app = json!({
        "context": path("c"),
        "contexts": {"b": "target:base", "far": "docker-image://x"},
        "dockerfile": path("c/D"),
        "args": {"A": "a$${B}", "HOME": machine.path()},
        "labels": own,
        "tags": ["more", "app"],
        "secret": [
            format!("id=s,type=file,src={}", path("c/secret").display()),
            "id=t,type=env,env=HOME",
        ],
        "ssh": ["default="],
        "shm-size": "1024",
        "ulimits": ["nofile=5"],
        "entitlements": ["security.insecure"],
        "extra-hosts": {"h": "192.0.2.1"},
        "output": ["type=docker"],
        "attest": ["type=provenance,mode=max", "type=sbom,disabled=true"],
    });
    assert_eq!(
        printed(&["app.x"]),
        json!({
            "group": {"default": {"targets": ["app_x", "base"]}},
            "target": {"app_x": app, "base": base},
        })
    );
    let asked = printed(&[
        "--no-cache",
        "--pull",
        "--push",
        "--build-arg",
        "A=${x}",
        "base",
    ]);
    let target = &asked["target"]["base"];
    assert_eq!(target["args"], json!({"A": "$${x}"}));
    assert_eq!(
        (&target["no-cache"], &target["pull"]),
        (&json!(true), &json!(true))
    );
    assert_eq!(target["output"], json!(["type=registry"]));
    assert_eq!(
        printed(&["--check", "base"])["target"]["base"]["call"],
        "lint"
    );
    machine.assert_clean();
}

#[test]
fn what_is_likely_a_mistake_is_told() {
    let machine = machine("FROM busybox\n");
    let refused = |args: &[&str], told: &str| {
        let ran = machine.run("c", &[&["image", "build"], args].concat());
        assert_ne!(ran.code, 0, "{args:?}");
        assert!(ran.stderr.contains(told), "{args:?}\n{}", ran.stderr);
    };
    refused(&[""], "no build context was given");
    refused(
        &["--build-context", "q=/nope", "."],
        "named context `q`: build context `/nope`: ",
    );
    refused(
        &["--platform", "linux/s390x", "."],
        "is here for linux/amd64 only",
    );
    // A variable of a script that is not set asks for nothing.
    built(&machine, &["-o", "", "--cache-to", "", "--cache-from", ""]);
    assert_eq!(machine.sh("ls c"), "Dockerfile\n");
    let text = "name: demo\nservices:\n\
                \x20 x: {image: same, build: {context: c, args: {A: x}}}\n\
                \x20 y: {image: same, build: {context: c, args: {A: y}}}\n\
                \x20 z: {image: same, build: {context: c, args: {A: x}}}\n";
    machine.write("compose.yaml", text);
    let ran = machine.run(".", &["build"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let told: Vec<&str> = ran
        .stderr
        .lines()
        .filter(|line| line.contains("each in another way"))
        .collect();
    assert_eq!(
        told,
        [
            "warning: services `x` and `y` build image `same`, each in another way: it is built as `x` says"
        ]
    );
}
