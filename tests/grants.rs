//! What a build is granted beyond its context, and what it leaves: networks, devices, rights, the budget of the cache. With the real binary.

#![allow(
    clippy::allow_attributes,
    clippy::disallowed_methods,
    reason = "tests run real processes"
)]
#![expect(clippy::unwrap_used, reason = "a test's helpers")]

mod support;

use support::{Machine, Ran};

fn machine() -> Machine {
    let machine = Machine::new();
    machine.import_busybox();
    machine
}

/// Builds a Dockerfile in the context `c`.
fn build(machine: &Machine, text: &str, options: &[&str]) -> Ran {
    machine.write("c/Dockerfile", text);
    let args = [&["image", "build", "-t", "built"], options, &["."]].concat();
    let mut command = machine.stack("c", &args);
    Ran::of(
        &command
            .env("STACK_CDI_DIRS", machine.path().join("cdi"))
            .output()
            .unwrap(),
    )
}

/// As [`build`], and requires success and that these ends of lines are in the progress, in this order.
fn built(machine: &Machine, text: &str, options: &[&str], lines: &[&str]) -> String {
    let ran = build(machine, text, options);
    assert_eq!(ran.code, 0, "{}{}", ran.stdout, ran.stderr);
    let mut rest = ran.stderr.lines();
    for line in lines {
        assert!(
            rest.any(|found| found.ends_with(line)),
            "`{line}` is not (in order) in\n{}",
            ran.stderr
        );
    }
    ran.stderr
}

/// As [`build`], and requires a failure that says `expected`.
fn fails(machine: &Machine, text: &str, options: &[&str], expected: &str) {
    let ran = build(machine, text, options);
    assert_eq!(ran.code, 1, "{}", ran.stderr);
    assert!(
        ran.stderr.contains(expected),
        "`{expected}`: {}",
        ran.stderr
    );
}

#[test]
fn steps_are_in_the_network_that_is_named() {
    let machine = machine();
    machine.write(
        "p/compose.yaml",
        "name: p\nservices:\n  web:\n    image: busybox\n    init: true\n    command: httpd -f -p 80 -h /etc\n    networks: [back]\n\
         networks: {back: {}, other: {}}\n",
    );
    machine.ok("p", &["up", "-d"]);
    let text =
        "FROM busybox\nRUN wget -q -O - http://web/passwd | head -1; ls /sys/class/net | wc -l\n";
    built(
        &machine,
        text,
        &["--network", "p_back"],
        &[" root:x:0:0:root:/root:/bin/sh", " 2"],
    );
    // The network is in the key, and one without a network, or the machine's own, has no such name.
    let names = "FROM busybox\nRUN ls /sys/class/net | tr '\\n' ' '; echo .; wget -q -O - http://web/passwd 2>&1 | tail -1\n";
    built(
        &machine,
        names,
        &["--network", "none"],
        &[" lo .", "bad address 'web'"],
    );
    let bridges = machine.sh("ip -o link | wc -l");
    let host = "FROM busybox\nRUN ls /sys/class/net | wc -l\n";
    built(
        &machine,
        host,
        &["--network", "host"],
        &[&format!(" {}", bridges.trim())],
    );
    let one = "FROM busybox\nRUN --network=none ls /sys/class/net\n";
    built(&machine, one, &["--network", "p_back"], &[" lo"]);
    fails(
        &machine,
        "FROM busybox\nRUN --network=host true\n",
        &[],
        "network.host is not allowed: the build must be given `--allow network.host`",
    );
    built(
        &machine,
        "FROM busybox\nRUN --network=host echo granted; ls /sys/class/net | wc -l\n",
        &["--allow", "network.host"],
        &[&format!(" {}", bridges.trim())],
    );
    for (name, expected) in [
        ("p_bakc", "network p_bakc not found: did you mean `p_back`?"),
        ("back", "network back not found: did you mean `p_back`?"),
        ("nothing-like-it", "not found: there are p_back"),
    ] {
        fails(
            &machine,
            "FROM busybox\nRUN echo another\n",
            &["--network", name],
            expected,
        );
    }
    // Of a service, by the name in the file too.
    machine.write(
        "q/compose.yaml",
        "name: q\nservices:\n  a: {build: {network: p_back, dockerfile_inline: \"FROM busybox\\nRUN wget -q -O - http://web/group | head -1\\n\"}}\n  \
         b: {build: {network: none, dockerfile_inline: \"FROM busybox\\nRUN ls /sys/class/net; echo b\\n\"}}\n",
    );
    let ran = machine.run("q", &["build"]);
    assert!(
        ran.code == 0 && ran.stderr.contains("root:x:0:") && ran.stderr.contains(" lo\n"),
        "{}",
        ran.stderr
    );
    machine.ok("p", &["down", "-t", "0"]);
    fails(
        &machine,
        "FROM busybox\nRUN echo last\n",
        &["--network", "p_back"],
        "network p_back not found: there are none: those of a project come with `stack up`",
    );
    machine.assert_clean();
}

/// Devices that are the null device under other names.
const SPEC: &str = "
cdiVersion: '0.6.0'
kind: vendor.com/thing
devices:
  - name: one
    containerEdits:
      env: [ONE=first]
      deviceNodes: [{path: /dev/one, hostPath: /dev/null}]
  - name: two
    containerEdits:
      deviceNodes: [{path: /dev/two, type: c, major: 1, minor: 5, fileMode: 416, gid: 7}]
      hooks: [{hookName: createContainer, path: /bin/true}]
  - name: kmsg
    containerEdits:
      deviceNodes: [{path: /dev/kmsg-of-test, hostPath: /dev/kmsg, permissions: r}]
containerEdits:
  mounts: [{hostPath: /etc/hostname, containerPath: /opt/thing/host, options: [ro]}]
";

/// Steps that use them.
const DEVICES: &str = "FROM busybox\n\
        RUN --device=vendor.com/thing=one,required echo \"is $ONE\"; echo gone > /dev/one; stat -c %t:%T /dev/one; test -s /opt/thing/host; echo x > /opt/thing/host || echo fixed\n\
        RUN --device=vendor.com/thing=two stat -c %t:%T:%a:%g /dev/two; head -c 3 /dev/two | wc -c\n\
        RUN --device=vendor.com/thing=kmsg dd if=/dev/kmsg-of-test of=/dev/null bs=8k count=1 2>&1 | tail -1 | cut -d' ' -f1; echo > /dev/kmsg-of-test || echo read-only\n\
        RUN --device=vendor.com/none=x echo without\n\
        RUN ls -A /opt /dev/one 2>&1 | tail -1; echo \"and$ONE.\"; cat /dev/kmsg 2>&1 | head -1\n";

#[test]
#[expect(
    clippy::too_many_lines,
    reason = "one description of devices, looked at from every side"
)]
fn devices_have_names_and_must_be_allowed() {
    let machine = machine();
    machine.write("cdi/vendor.yaml", SPEC);
    machine.write(
        "cdi/free.json",
        r#"{"kind": "free.org/thing", "annotations": {"org.mobyproject.buildkit.device.autoallow": "true"},
            "devices": [{"name": "x", "containerEdits": {"env": ["FREE=1"]}}]}"#,
    );
    fails(
        &machine,
        DEVICES,
        &[],
        "device \"vendor.com/thing=one\" is not allowed: the build must be given `--allow device` or `--allow device=vendor.com/thing=one`",
    );
    let progress = built(
        &machine,
        DEVICES,
        &["--allow", "device"],
        &[
            " is first",
            " 1:3",
            " fixed",
            " 1:5:640:7",
            " 3",
            " read-only",
            " without",
            " and.",
        ],
    );
    for said in [
        "the device `vendor.com/thing=two`: its hooks are not run",
        "the device `vendor.com/none=x` is not registered: the step runs without it",
    ] {
        assert!(progress.contains(said), "{said}: {progress}");
    }
    let again = built(&machine, DEVICES, &["--allow", "device"], &[]);
    assert_eq!(again.matches(" CACHED").count(), 5, "{again}");
    let one = "FROM busybox\nRUN --device=vendor.com/thing=one,required echo $ONE again\n";
    let alias = "device=vendor.com/thing=one,alias=my/thing=x";
    built(
        &machine,
        one,
        &["--allow", "device=vendor.com/thing=one"],
        &[" first again"],
    );
    built(
        &machine,
        "FROM busybox\nRUN --device=my/thing=x,required echo $ONE aliased\n",
        &["--allow", alias],
        &[" first aliased"],
    );
    fails(
        &machine,
        one,
        &["--allow", "device=vendor.com/thing=two"],
        "is not allowed",
    );
    let free = "FROM busybox\nRUN --device=free.org/thing echo $FREE free\n";
    built(&machine, free, &[], &[" 1 free"]);
    let none = "FROM busybox\nRUN --device=vendor.com/thing=none,required true\n";
    fails(
        &machine,
        none,
        &[],
        "required device \"vendor.com/thing=none\" is not registered",
    );
    let path = "FROM busybox\nRUN --device=/dev/null true\n";
    fails(
        &machine,
        path,
        &[],
        "invalid device \"/dev/null\": it must be VENDOR/CLASS[=NAME]",
    );
    machine.sh(&format!(
        "chmod 666 {}/cdi/free.json",
        machine.path().display()
    ));
    fails(
        &machine,
        "FROM busybox\nRUN --device=free.org/thing true\n",
        &[],
        "others than root can write it",
    );
    machine.assert_clean();
}

#[test]
fn what_is_unused_for_long_goes_and_is_counted_before() {
    let machine = machine();
    machine.write("c/file", "text\n");
    let text = |name: &str| {
        format!(
            "FROM busybox\nRUN --mount=type=cache,target=/{name} head -c 300000 /dev/zero > /{name}/zeros; head -c 200000 /dev/zero > /made-{name}\n"
        )
    };
    built(&machine, &text("old"), &[], &[]);
    built(&machine, &text("new"), &[], &[]);
    let cache = machine.root().join("lib/cache");
    let cache = cache.display();
    let count = |what: &str| -> usize {
        let found = machine.sh(&format!(
            "find {cache}/{what} -mindepth 1 -maxdepth 1 | wc -l"
        ));
        found.trim().parse().unwrap()
    };
    assert_eq!((count("mounts"), count("steps")), (2, 2));
    let usage = machine.ok(
        ".",
        &[
            "system",
            "df",
            "--format",
            "{{.Type}} {{.Size}} {{.Reclaimable}}",
        ],
    );
    let row = usage
        .lines()
        .find(|line| line.starts_with("Build Cache"))
        .unwrap();
    // Two mounts, and little else: the layers are those of images.
    assert!(row.contains(" 6") && row.contains("kB"), "{usage}");
    // Of the first build nothing was used for long; a look within the hour sees nothing of that.
    machine.sh(&format!(
        "cd {cache} && touch -d '100 days ago' $(grep -lr zeros why | head -1) && \
         for m in mounts/*; do touch -d '100 days ago' $m/lock; break; done && \
         for s in steps/*; do touch -d '100 days ago' $s; break; done"
    ));
    built(&machine, "FROM busybox\nRUN echo one\n", &[], &[]);
    assert_eq!((count("mounts"), count("steps"), count("why")), (2, 3, 1));
    machine.sh(&format!("touch -d '2 hours ago' {cache}/.budget"));
    // Nothing is done, and nothing is looked at.
    built(&machine, "FROM busybox\nRUN echo one\n", &[], &[" CACHED"]);
    assert_eq!((count("mounts"), count("steps")), (2, 3));
    built(&machine, "FROM busybox\nRUN echo two\n", &[], &[]);
    assert_eq!((count("mounts"), count("steps")), (1, 3));
    // Each goes with what is older than is asked for.
    machine.sh(&format!("touch -d '3 hours ago' {cache}/mounts/*/lock"));
    machine.ok(".", &["system", "prune", "-f", "--filter", "until=5h"]);
    assert_eq!((count("mounts"), count("steps")), (1, 3));
    let pruned = machine.ok(".", &["system", "prune", "-f", "--filter", "until=2h"]);
    assert_eq!((count("mounts"), count("steps")), (0, 3), "{pruned}");
    machine.ok(".", &["system", "prune", "-f"]);
    assert_eq!((count("steps"), count("why"), count("files")), (0, 0, 0));
    machine.assert_clean();
}
