//! Images of several platforms with the real binary: built, kept, moved by archive and registry, run.
//!
//! `STACK_SKIP_REGISTRY_TESTS` leaves out what needs docker-registry and skopeo.

#![allow(
    clippy::allow_attributes,
    clippy::disallowed_methods,
    reason = "tests run real processes"
)]
#![expect(clippy::unwrap_used, reason = "a test's helpers")]

mod support;

use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::{Machine, Ran};

/// Both platforms share the first step; no step runs for another processor.
const DOCKERFILE: &str = "FROM --platform=$BUILDPLATFORM busybox AS build\nRUN echo common > /common\nARG TARGETARCH\n\
                          RUN echo for $TARGETARCH > /out\nFROM scratch\nCOPY --from=build /out /common /\nCOPY file /\nCMD [\"/out\"]\n";
const BOTH: &str = "linux/amd64,linux/arm64";

fn machine() -> Machine {
    let machine = Machine::new();
    machine.import_busybox();
    machine.write("c/Dockerfile", DOCKERFILE);
    machine.write("c/file", "text\n");
    machine
}

fn inspected(machine: &Machine, args: &[&str]) -> Value {
    let text = machine.ok(".", &[&["image", "inspect"], args].concat());
    let list: Vec<Value> = serde_json::from_str(&text).unwrap();
    list.into_iter().next().unwrap()
}

/// What the manifests of an index are for.
fn platforms(index: &Value) -> Vec<String> {
    let manifests = index["manifests"].as_array().unwrap().iter();
    let of = |entry: &Value| {
        let platform = &entry["platform"];
        let part = |key: &str| platform[key].as_str().unwrap_or_default().to_owned();
        format!("{}/{}", part("os"), part("architecture"))
    };
    manifests.map(of).collect()
}

#[test]
#[expect(
    clippy::too_many_lines,
    reason = "one image, looked at from every side"
)]
fn several_platforms_are_one_image() {
    let machine = machine();
    let args = [
        "image",
        "build",
        "--progress",
        "plain",
        "--platform",
        BOTH,
        "-t",
        "app:1",
        "--iidfile",
        "id",
        "--metadata-file",
        "meta",
        "c",
    ];
    let ran = machine.run(".", &args);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    for (label, count) in [
        ("[linux/amd64 build 2/3] RUN echo common", 1),
        ("[linux/amd64 build 3/3] RUN echo for amd64", 1),
        ("[linux/amd64->arm64 build 3/3] RUN echo for arm64", 1),
        ("[linux/amd64 stage-1 3/3] COPY file /", 1),
        ("[linux/arm64 stage-1 3/3] COPY file /", 1),
    ] {
        assert_eq!(
            ran.stderr.matches(label).count(),
            count,
            "{label}: {}",
            ran.stderr
        );
    }
    let image = inspected(&machine, &["app:1"]);
    let id = fs_err::read_to_string(machine.path().join("id")).unwrap();
    assert_eq!(image["Id"], id.trim());
    let meta = fs_err::read_to_string(machine.path().join("meta")).unwrap();
    let meta: Value = serde_json::from_str(&meta).unwrap();
    assert_eq!(meta["containerimage.digest"], id.trim());
    assert_eq!(meta["containerimage.descriptor"], image["Descriptor"]);
    assert_eq!(meta.get("containerimage.config.digest"), None);
    let arm = inspected(&machine, &["--platform", "linux/arm64", "app:1"]);
    let shown = |image: &Value| (image["Architecture"].clone(), image["Id"].clone());
    assert_eq!(shown(&image), (json!("amd64"), json!(id.trim())));
    assert_eq!(shown(&arm), (json!("arm64"), json!(id.trim())));
    let ran = machine.run(
        ".",
        &["image", "inspect", "--platform", "linux/s390x", "app:1"],
    );
    assert!(
        ran.stderr
            .contains("does not provide the specified platform (linux/s390x)"),
        "{}",
        ran.stderr
    );
    let history = [
        "image",
        "history",
        "-q",
        "--no-trunc",
        "--platform",
        "linux/arm64",
        "app:1",
    ];
    assert_eq!(machine.ok(".", &history).lines().next(), Some(id.trim()));
    // Nothing changed: nothing is made, and nothing is left without a name.
    let again = [
        "image",
        "build",
        "-q",
        "--platform",
        BOTH,
        "-t",
        "app:1",
        "c",
    ];
    assert_eq!(machine.ok(".", &again).trim(), id.trim());
    let listed = ["image", "ls", "--format", "{{.Repository}} {{.Platform}}"];
    assert_eq!(
        machine.ok(".", &listed),
        "app linux/amd64, linux/arm64\nbusybox linux/amd64\n"
    );
    // Every part is kept as long as a name has it, and goes with the last.
    machine.ok(".", &["image", "tag", "app:1", "other:2"]);
    machine.ok(".", &["image", "rm", "app:1"]);
    machine.ok(".", &["system", "prune", "-f"]);
    let checked = machine.ok(".", &["system", "check", "--repair"]);
    assert!(checked.contains("nothing is damaged"), "{checked}");
    assert_eq!(
        inspected(&machine, &["--platform", "linux/arm64", "other:2"])["Id"],
        id.trim()
    );
    machine.ok(".", &["image", "tag", "other:2", "third:3"]);
    machine.ok(".", &["image", "prune", "-af"]);
    let left = machine.sh(&format!(
        "ls {}/lib/images/blobs/sha256 | wc -l",
        machine.root().display()
    ));
    assert_eq!(left.trim(), "0");
    machine.assert_clean();
}

#[test]
#[expect(
    clippy::too_many_lines,
    reason = "one image, looked at from every side"
)]
fn outputs_hold_every_platform() {
    let machine = machine();
    let build = |output: &str, platforms: &str| {
        machine.run(
            ".",
            &[
                "image",
                "build",
                "--platform",
                platforms,
                "-t",
                "app",
                "--output",
                output,
                "c",
            ],
        )
    };
    for output in ["files", "type=tar,dest=files.tar", "type=oci,dest=oci.tar"] {
        let ran = build(output, BOTH);
        assert_eq!(ran.code, 0, "{output}: {}", ran.stderr);
    }
    let read = |path: &str| fs_err::read_to_string(machine.path().join(path)).unwrap();
    assert_eq!(read("files/linux_arm64/out"), "for arm64\n");
    assert_eq!(read("files/linux_amd64/out"), "for amd64\n");
    let listed = machine.sh(&format!(
        "tar -xOf {}/files.tar linux_arm64/out",
        machine.path().display()
    ));
    assert_eq!(listed, "for arm64\n");
    let ran = build("type=docker,dest=x.tar", BOTH);
    assert_eq!(ran.code, 2);
    assert!(
        ran.stderr
            .contains("does not currently support exporting manifest lists"),
        "{}",
        ran.stderr
    );
    let ran = build("type=docker,dest=x.tar", "linux/amd64");
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert_eq!(machine.run(".", &["image", "inspect", "app"]).code, 1);
    machine.ok(
        ".",
        &[
            "image",
            "build",
            "-q",
            "--platform",
            "linux/amd64",
            "-t",
            "app",
            "c",
        ],
    );
    // Another store gets all of it, or what it asks for.
    let whole = inspected(&machine, &["app"]);
    machine.ok(
        ".",
        &["image", "build", "-q", "--platform", BOTH, "-t", "app", "c"],
    );
    machine.ok(".", &["image", "save", "-o", "saved.tar", "app"]);
    machine.ok(
        ".",
        &[
            "image",
            "save",
            "--platform",
            "linux/arm64",
            "-o",
            "arm.tar",
            "app",
        ],
    );
    let index = inspected(&machine, &["app"]);
    assert_ne!(whole["Id"], index["Id"]);
    let other = Machine::new();
    let load = |archive: &str, more: &[&str]| {
        let path = machine.path().join(archive);
        other.ok(
            ".",
            &[&["image", "load", "-q", "-i", path.to_str().unwrap()], more].concat(),
        )
    };
    load("saved.tar", &[]);
    assert_eq!(inspected(&other, &["app"])["Id"], index["Id"]);
    assert_eq!(
        inspected(&other, &["--platform", "linux/arm64", "app"])["Architecture"],
        "arm64"
    );
    load("oci.tar", &[]);
    assert_eq!(
        inspected(&other, &["app"])["Id"],
        index["Id"],
        "the same, however it came"
    );
    load("saved.tar", &["--platform", "linux/arm64"]);
    let alone = inspected(&other, &["app"]);
    assert_eq!(
        (&alone["Architecture"], alone.get("Manifests")),
        (&json!("arm64"), None)
    );
    load("arm.tar", &[]);
    assert_eq!(inspected(&other, &["app"])["Id"], alone["Id"]);
    machine.assert_clean();
    other.assert_clean();
}

#[test]
fn a_scanner_tells_what_is_in_an_image() {
    let machine = machine();
    let scanner = "FROM busybox\nCOPY --chmod=755 <<\"EOF\" /scan\n#!/bin/sh\nset -e\ncd $BUILDKIT_SCAN_SOURCE\n\
                   ! touch made 2>/dev/null\n\
                   printf '{\"predicateType\": \"https://spdx.dev/Document\", \"predicate\": {\"files\": \"%s\", \"word\": \"%s\"}}' \
                   \"$(find . -type f | sort | tr '\\n' ' ')\" $BUILDKIT_SCAN_WORD >$BUILDKIT_SCAN_DESTINATION/sbom.spdx.json\n\
                   EOF\nENTRYPOINT [\"/scan\"]\nCMD []\n";
    machine.write("scanner/Dockerfile", scanner);
    machine.ok(".", &["image", "build", "-q", "-t", "scanner", "scanner"]);
    let args = [
        "image",
        "build",
        "--sbom",
        "generator=scanner,WORD=x",
        "-t",
        "told",
        "-o",
        "type=oci,dest=told.tar",
        "c",
    ];
    let built = machine.run(".", &args);
    assert_eq!(built.code, 0, "{}", built.stderr);
    let told = "[linux/amd64 1/1] generating sbom using scanner";
    assert!(built.stderr.contains(told), "{}", built.stderr);
    machine.sh("mkdir -p told && tar -C told -xf told.tar");
    let blob = |digest: &Value| -> Value {
        let hex = digest.as_str().unwrap().strip_prefix("sha256:").unwrap();
        let path = machine.path().join("told/blobs/sha256").join(hex);
        serde_json::from_slice(&fs_err::read(path).unwrap()).unwrap()
    };
    let top: Value =
        serde_json::from_slice(&fs_err::read(machine.path().join("told/index.json")).unwrap())
            .unwrap();
    let index = blob(&top["manifests"][0]["digest"]);
    assert_eq!(platforms(&index), ["linux/amd64", "unknown/unknown"]);
    let layer = blob(&index["manifests"][1]["digest"])["layers"][0].clone();
    assert_eq!(
        layer["annotations"]["in-toto.io/predicate-type"],
        "https://spdx.dev/Document"
    );
    let statement = blob(&layer["digest"]);
    assert_eq!(
        statement["predicate"],
        json!({"files": "./common ./file ./out ", "word": "x"})
    );
    let about = index["manifests"][0]["digest"].as_str().unwrap();
    assert_eq!(
        format!(
            "sha256:{}",
            statement["subject"][0]["digest"]["sha256"]
                .as_str()
                .unwrap()
        ),
        about
    );
    // One that fails fails the build, and says so.
    let broken = "FROM busybox\nENTRYPOINT [\"sh\", \"-c\", \"echo no licence; exit 3\"]\n";
    machine.write("scanner/Dockerfile", broken);
    machine.ok(".", &["image", "build", "-q", "-t", "scanner", "scanner"]);
    let failed = machine.run(
        ".",
        &[
            "image",
            "build",
            "--sbom",
            "generator=scanner",
            "-t",
            "other",
            "c",
        ],
    );
    assert_eq!(failed.code, 1);
    for text in [
        "no licence",
        "make a bill of materials with `scanner`",
        "exit code: 3",
    ] {
        assert!(failed.stderr.contains(text), "{}", failed.stderr);
    }
    assert_eq!(machine.ok(".", &["image", "ls", "-q", "other"]), "");
    machine.assert_clean();
}

#[test]
fn a_service_gets_the_image_of_its_platform() {
    let machine = machine();
    // A program that is there for both, of which this machine runs one.
    machine.write(
        "c/Dockerfile",
        "FROM --platform=$BUILDPLATFORM busybox AS b\nFROM scratch\nARG TARGETARCH\nCOPY --from=b /bin/busybox /bin/sleep\n\
         ENV FOR=$TARGETARCH\nCMD [\"/bin/sleep\", \"1000\"]\n",
    );
    machine.write(
        "p/compose.yaml",
        "name: demo\nservices:\n  here:\n    image: both\n    init: true\n    build: {context: ../c, platforms: [linux/arm64, linux/amd64]}\n  \
         there:\n    image: both\n    init: true\n    platform: linux/arm64\n",
    );
    machine.ok("p", &["build", "-q", "here"]);
    let index = inspected(&machine, &["both"]);
    assert_eq!(index["Manifests"].as_array().unwrap().len(), 2);
    machine.ok("p", &["up", "-d", "--no-build"]);
    for (container, expected) in [("demo-here-1", "FOR=amd64"), ("demo-there-1", "FOR=arm64")] {
        let env = machine.ok(
            ".",
            &["inspect", "--format", "{{json .Config.Env}}", container],
        );
        assert!(env.contains(expected), "{container}: {env}");
    }
    // What runs keeps the image, whichever of its platforms it is.
    let ran = machine.run(".", &["image", "rm", "both"]);
    assert_eq!(ran.code, 1, "{}", ran.stdout);
    assert!(ran.stderr.contains("conflict"), "{}", ran.stderr);
    machine.ok("p", &["down", "-t", "0"]);
    // `up` builds for what is to run alone.
    machine.ok(".", &["image", "rm", "both"]);
    machine.write(
        "p/compose.yaml",
        "name: demo\nservices:\n  here:\n    image: both\n    build: {context: ../c, platforms: [linux/arm64, linux/amd64]}\n",
    );
    machine.ok("p", &["up", "-d"]);
    let built = inspected(&machine, &["both"]);
    assert_eq!(
        (&built["Architecture"], built.get("Manifests")),
        (&json!("amd64"), None)
    );
    machine.ok("p", &["down", "-t", "0"]);
    machine.assert_clean();
}

#[test]
fn a_step_for_another_processor_says_what_it_takes() {
    let machine = machine();
    let header = "\\177ELF\\002\\001\\001\\0\\0\\0\\0\\0\\0\\0\\0\\0\\002\\0\\267\\0\\001\\0\\0\\0";
    machine.sh(&format!(
        "cd {} && mkdir -p arm/bin && printf '{header}' > arm/bin/sh && head -c 100 /dev/zero >> arm/bin/sh && \
         chmod 755 arm/bin/sh && tar -C arm -cf arm.tar .",
        machine.path().display()
    ));
    machine.ok(
        ".",
        &[
            "image",
            "import",
            "--platform",
            "linux/arm64",
            "arm.tar",
            "arm",
        ],
    );
    if machine
        .sh("ls /proc/sys/fs/binfmt_misc")
        .contains("aarch64")
    {
        return;
    }
    machine.write("c/Dockerfile", "FROM arm\nRUN make\n");
    let ran = machine.run(".", &["image", "build", "--platform", "linux/arm64", "c"]);
    assert_eq!(ran.code, 1);
    for expected in [
        "exec format error",
        "it is for linux/arm64, and this machine runs linux/amd64",
        "qemu-user-static",
        ">>> RUN make",
    ] {
        assert!(ran.stderr.contains(expected), "{expected}: {}", ran.stderr);
    }
    // A base that is here for one of them is not taken for the other.
    machine.write("c/Dockerfile", "FROM busybox\nCOPY file /\n");
    let ran = machine.run(".", &["image", "build", "--platform", BOTH, "c"]);
    assert_eq!(ran.code, 1);
    let expected = "base image `busybox` is here for linux/amd64 only, and for linux/arm64 it cannot be pulled";
    assert!(ran.stderr.contains(expected), "{}", ran.stderr);
    machine.assert_clean();
}

/// A registry in the machine, which ends with the test.
struct Registry(Child);

impl Drop for Registry {
    fn drop(&mut self) {
        let _ended = self.0.kill();
        let _reaped = self.0.wait();
    }
}

fn registry(machine: &Machine) -> Option<Registry> {
    if std::env::var_os("STACK_SKIP_REGISTRY_TESTS").is_some() {
        let text = b"skipped: STACK_SKIP_REGISTRY_TESTS is set\n";
        let _said = std::io::Write::write_all(&mut std::io::stderr(), text);
        return None;
    }
    let config = machine.write(
        "registry.yml",
        &format!(
            "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\n\
             storage: {{filesystem: {{rootdirectory: {}/storage}}}}\nhttp: {{addr: '127.0.0.1:5000'}}\n",
            machine.path().display()
        ),
    );
    let mut command = machine.command(".", "docker-registry");
    command.arg("serve").arg(config);
    let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let registry = Registry(child.unwrap());
    let started = Instant::now();
    while !machine.sh("ss -Htln").contains(":5000 ") {
        assert!(started.elapsed() < Duration::from_secs(20), "no registry");
        std::thread::yield_now();
    }
    Some(registry)
}

/// What the registry has under a name, as it has it.
fn raw(machine: &Machine, name: &str) -> Value {
    let asked = format!("skopeo inspect --tls-verify=false --raw docker://{name}");
    serde_json::from_str(&machine.sh(&asked)).unwrap()
}

#[test]
#[expect(
    clippy::too_many_lines,
    reason = "one image, looked at from every side"
)]
fn a_registry_gets_all_of_it_and_what_is_attested() {
    let machine = machine();
    let Some(_registry) = registry(&machine) else {
        return;
    };
    let name = "127.0.0.1:5000/team/app:1";
    let args = [
        "image",
        "build",
        "--platform",
        BOTH,
        "--provenance",
        "mode=max",
        "--build-arg",
        "X=1",
        "-t",
        name,
        "--push",
        "--metadata-file",
        "meta",
        "c",
    ];
    machine.ok(".", &args);
    let index = raw(&machine, name);
    assert_eq!(
        platforms(&index),
        [
            "linux/amd64",
            "linux/arm64",
            "unknown/unknown",
            "unknown/unknown"
        ]
    );
    let meta = fs_err::read_to_string(machine.path().join("meta")).unwrap();
    let meta: Value = serde_json::from_str(&meta).unwrap();
    let digests = inspected(&machine, &[name])["RepoDigests"].clone();
    let digest = meta["containerimage.digest"].as_str().unwrap().to_owned();
    assert_eq!(
        digests,
        json!([format!("127.0.0.1:5000/team/app@{digest}")])
    );
    // What is attested speaks of the manifest that is there, not of the one that is here.
    let pair = |at: usize| {
        index["manifests"][at]["digest"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    for (image, attestation) in [(pair(0), pair(2)), (pair(1), pair(3))] {
        let entries = index["manifests"].as_array().unwrap().iter();
        let mut entries = entries.filter(|entry| entry["digest"] == attestation.as_str());
        let annotations = &entries.next().unwrap()["annotations"];
        assert_eq!(
            annotations["vnd.docker.reference.type"],
            "attestation-manifest"
        );
        assert_eq!(annotations["vnd.docker.reference.digest"], image.as_str());
        let manifest = raw(&machine, &format!("127.0.0.1:5000/team/app@{attestation}"));
        let layer = &manifest["layers"][0];
        assert_eq!(layer["mediaType"], "application/vnd.in-toto+json");
        assert_eq!(
            layer["annotations"]["in-toto.io/predicate-type"],
            "https://slsa.dev/provenance/v1"
        );
        let hex = layer["digest"].as_str().unwrap().replace("sha256:", "");
        let blob = format!(
            "cat {}/storage/docker/registry/v2/blobs/sha256/{}/{hex}/data",
            machine.path().display(),
            hex.get(..2).unwrap()
        );
        let statement: Value = serde_json::from_str(&machine.sh(&blob)).unwrap();
        assert_eq!(
            statement["subject"][0]["digest"]["sha256"],
            image.replace("sha256:", "")
        );
        let build = &statement["predicate"]["buildDefinition"];
        assert_eq!(
            build["externalParameters"]["request"]["args"],
            json!({"build-arg:X": "1"})
        );
        assert_eq!(
            build["resolvedDependencies"][0]["uri"],
            "pkg:docker/busybox@latest?platform=linux%2Famd64"
        );
    }
    // Another store gets one platform, then the other under the same name; attestations run nowhere and stay where they are.
    let other = machine.path().join("other");
    let other = |args: &[&str]| {
        let mut command = machine.command(".", env!("CARGO_BIN_EXE_stack"));
        let ran = Ran::of(
            &command
                .arg("--root")
                .arg(&other)
                .args(args)
                .output()
                .unwrap(),
        );
        assert_eq!(ran.code, 0, "{args:?}: {}", ran.stderr);
        ran.stdout
    };
    let format = [
        "image",
        "ls",
        "--digests",
        "--format",
        "{{.Platform}} {{.Digest}}",
    ];
    other(&["image", "pull", "-q", name]);
    assert_eq!(other(&format), format!("linux/amd64 {digest}\n"));
    other(&["image", "pull", "-q", "--platform", "linux/arm64", name]);
    assert_eq!(
        other(&format),
        format!("linux/amd64, linux/arm64 {digest}\n")
    );
    let by_digest = format!("127.0.0.1:5000/team/app@{}", pair(1));
    let shown = other(&[
        "image",
        "inspect",
        "--format",
        "{{.Architecture}}",
        &by_digest,
    ]);
    assert_eq!(shown, "arm64\n");
    // From there it goes on as an index of what is there, or one of it.
    let second = "127.0.0.1:5000/team/second:1";
    other(&["image", "tag", name, second]);
    other(&["image", "push", "-q", second]);
    let pushed = raw(&machine, second);
    assert_eq!(platforms(&pushed), ["linux/amd64", "linux/arm64"]);
    assert_eq!(pushed["manifests"][1]["digest"], pair(1), "byte for byte");
    other(&["image", "push", "-q", "--platform", "linux/arm64", second]);
    let single = raw(&machine, second);
    assert_eq!(
        single["config"]["mediaType"],
        "application/vnd.oci.image.config.v1+json"
    );
    machine.assert_clean();
}
