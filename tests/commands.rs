//! What the file's keys and the commands do to real containers, as a user sees it.

#![allow(
    clippy::allow_attributes,
    clippy::disallowed_methods,
    reason = "tests run real processes"
)]

mod support;

use serde_json::Value;
use support::Machine;

/// Takes the project down and asserts that nothing is left.
fn finish(machine: &Machine) {
    machine.ok("p", &["down", "-v", "-t", "0"]);
    machine.assert_clean();
}

/// Runs a script in a service.
fn inside(machine: &Machine, service: &str, script: &str) -> String {
    machine.ok("p", &["exec", "-T", service, "sh", "-c", script])
}

#[test]
fn a_container_is_as_its_keys_say() {
    let machine = Machine::project(
        r#"
name: demo
services:
  web:
    image: busybox
    init: true
    entrypoint: [sh, -c]
    command: ["sleep infinity"]
    hostname: front
    user: "65534:12"
    working_dir: /srv/www
    env_file: [one.env]
    environment: {OVER: mapped, FROM_DOTENV: "${DOTENV:?}", BARE: null}
    tmpfs: ["/scratch:size=1m,mode=1777"]
    labels: {a.b: c}
    mem_limit: 64m
    cpus: 0.5
    pids_limit: 50
    ulimits: {nofile: {soft: 100, hard: 200}}
    read_only: true
    cap_drop: [ALL]
    extra_hosts: ["far=192.0.2.9"]
    secrets: [token, {source: token, target: /etc/token2}]
    configs: [{source: settings, target: /etc/settings}]
    volumes:
      - ./file:/etc/file:ro
      - data:/data
      - {type: tmpfs, target: /more, tmpfs: {size: 65536}}
volumes: {data: null}
secrets: {token: {file: ./token.txt}}
configs: {settings: {file: ./settings.txt}}
"#,
    );
    machine.write("p/.env", "DOTENV=dotted\n");
    machine.write("p/one.env", "FROM_FILE=filed\nOVER=filed\n");
    machine.write("p/token.txt", "hidden\n");
    machine.write("p/settings.txt", "set\n");
    machine.write("p/file", "bound\n");
    machine.ok("p", &["up", "-d"]);
    let script = "hostname; id -u; id -g; pwd; echo $FROM_FILE $OVER $FROM_DOTENV ${BARE-unset}; ulimit -Sn; ulimit -Hn; \
                  cat /run/secrets/token /etc/token2 /etc/settings /etc/file; grep far /etc/hosts; \
                  grep -E '^Cap(Eff|Bnd)|^NoNew|^Seccomp:' /proc/self/status; \
                  for f in /etc/file /x /etc/settings; do echo a >> $f || true; done; echo ok > /scratch/a && cat /scratch/a; \
                  df -k /scratch /more | awk 'NR > 1 {print $2, $6}'; cat /proc/1/comm";
    let seen = machine.run("p", &["exec", "-T", "web", "sh", "-c", script]);
    assert_eq!(
        seen.stdout,
        "front\n65534\n12\n/srv/www\nfiled mapped dotted unset\n100\n200\nhidden\nhidden\nset\nbound\n192.0.2.9\tfar\n\
         CapEff:\t0000000000000000\nCapBnd:\t0000000000000000\nNoNewPrivs:\t0\nSeccomp:\t2\nok\n1024 /scratch\n64 /more\nstack-init\n",
        "{}",
        seen.stderr
    );
    assert_eq!(
        seen.stderr,
        "sh: can't create /etc/file: Permission denied\nsh: can't create /x: Read-only file system\n\
         sh: can't create /etc/settings: Permission denied\n"
    );
    let limits = machine.sh(&format!(
        "for d in $(find /sys/fs/cgroup -type d -path '*stack-'$(cat {}/lib/instance)'/*'); do for f in memory.max memory.limit_in_bytes \
         cpu.max cpu.cfs_quota_us pids.max; do [ -f $d/$f ] && echo $f $(cat $d/$f); done; done | sort -u",
        machine.root().display()
    ));
    for (new, old) in [
        ("memory.max 67108864", "memory.limit_in_bytes 67108864"),
        ("cpu.max 50000 100000", "cpu.cfs_quota_us 50000"),
        ("pids.max 50", "pids.max 50"),
    ] {
        assert!(
            limits.contains(new) || limits.contains(old),
            "{new}\n{limits}"
        );
    }
    finish(&machine);
}

#[test]
fn a_process_beyond_its_memory_is_killed_and_told() {
    let machine = Machine::project(
        "name: demo\nservices:\n  web:\n    image: busybox\n    mem_limit: 16m\n    \
         command: sh -c 'x=$$(yes | head -c 64000000)'\n",
    );
    let ran = machine.run("p", &["up", "--exit-code-from", "web"]);
    assert_eq!(ran.code, 137, "{ran:?}");
    finish(&machine);
}

#[test]
fn logs_have_a_tail_times_and_an_order() {
    let machine = Machine::project(
        "name: demo\nservices:\n  a:\n    image: busybox\n    command: sh -c 'for i in 1 2 3; do echo a$$i; done; echo e >&2; printf end'\n  \
         b:\n    image: busybox\n    command: sh -c 'echo b1; echo b2'\n    depends_on:\n      a: {condition: service_completed_successfully}\n",
    );
    machine.ok("p", &["up", "--no-log-prefix"]);
    assert_eq!(
        machine.ok("p", &["logs", "--no-log-prefix", "-n", "2", "b"]),
        "b1\nb2\n"
    );
    let all = machine.run("p", &["logs", "--no-color"]);
    assert_eq!(
        (all.stdout.as_str(), all.stderr.as_str()),
        (
            "a-1  | a1\na-1  | a2\na-1  | a3\na-1  | end\nb-1  | b1\nb-1  | b2\n",
            "a-1  | e\n"
        ),
    );
    let tail = machine.run("p", &["logs", "--no-color", "--tail", "1"]);
    assert_eq!(tail.stdout, "a-1  | end\nb-1  | b2\n");
    let times = machine.ok("p", &["logs", "--no-color", "-t", "b"]);
    for line in times.lines() {
        let (prefix, rest) = line.split_once("| ").unwrap();
        let (time, text) = rest.split_once(' ').unwrap();
        let time: jiff::Timestamp = time.parse().unwrap();
        assert!(
            prefix == "b-1  " && text.starts_with('b') && time.as_second() > 0,
            "{line}"
        );
    }
    // Following ends with what is followed.
    assert_eq!(
        machine.ok("p", &["logs", "-f", "--no-log-prefix", "b"]),
        "b1\nb2\n"
    );
    let unknown = machine.run("p", &["logs", "c"]);
    assert_eq!(unknown.code, 1, "{unknown:?}");
    finish(&machine);
}

#[test]
fn following_shows_what_comes() {
    let machine = Machine::project(
        "name: demo\nservices:\n  web:\n    image: busybox\n    init: true\n    volumes: ['./d:/d']\n    \
         command: sh -c 'echo first; until [ -e /d/go ]; do sleep 0.02; done; echo second'\n",
    );
    machine.write("p/d/keep", "");
    machine.ok("p", &["up", "-d"]);
    let mut follow = machine
        .stack("p", &["logs", "-f", "--no-log-prefix"])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(follow.stdout.take().unwrap()));
    assert_eq!(lines.next().unwrap().unwrap(), "first");
    machine.write("p/d/go", "");
    assert_eq!(lines.next().unwrap().unwrap(), "second");
    assert_eq!(lines.next().unwrap().unwrap(), "web-1 exited with code 0");
    assert!(lines.next().is_none());
    assert!(follow.wait().unwrap().success());
    finish(&machine);
}

#[test]
fn ps_is_a_table_and_json() {
    let machine = Machine::project(
        "name: demo\nservices:\n  web:\n    image: busybox\n    init: true\n    command: sleep infinity\n    ports: ['127.0.0.1:18200:80']\n    \
         healthcheck: {test: 'true', interval: 50ms}\n  job:\n    image: busybox\n    command: sh -c 'exit 3'\n    depends_on: [web]\n",
    );
    machine.ok("p", &["up", "-d", "--wait", "web"]);
    let failed = machine.run("p", &["up", "--exit-code-from", "job", "job"]);
    assert_eq!(failed.code, 3, "{failed:?}");
    machine.ok("p", &["up", "-d", "--wait", "web"]);
    let list = |args: &[&str]| -> Vec<Value> {
        let text = machine.ok("p", args);
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    };
    let seen = list(&["ps", "-a", "--format", "json"]);
    let facts: Vec<_> = seen
        .iter()
        .map(|c| {
            ["Name", "Service", "State", "Health", "Image", "Project"]
                .map(|key| c[key].as_str().unwrap().to_owned())
        })
        .collect();
    assert_eq!(
        facts,
        [
            ["demo-job-1", "job", "exited", "", "busybox", "demo"],
            ["demo-web-1", "web", "running", "healthy", "busybox", "demo"]
        ]
    );
    assert_eq!(seen[0]["ExitCode"], 3);
    let port = &seen[1]["Publishers"][0];
    assert_eq!(
        (
            port["URL"].as_str(),
            port["TargetPort"].as_u64(),
            port["PublishedPort"].as_u64(),
            port["Protocol"].as_str()
        ),
        (Some("127.0.0.1"), Some(80), Some(18200), Some("tcp"))
    );
    assert_eq!(list(&["ps", "--format", "json"]).len(), 1);
    assert_eq!(
        list(&["ps", "--status", "exited", "--format", "json"]).len(),
        1
    );
    let table = machine.ok("p", &["ps"]);
    assert!(
        table.starts_with("NAME ")
            && table.contains("(healthy)")
            && table.contains("127.0.0.1:18200->80/tcp"),
        "{table}"
    );
    finish(&machine);
}

#[test]
fn restart_policies_do_what_they_say() {
    let service = |name: &str, policy: &str, code: u8| {
        format!(
            "  {name}:\n    image: busybox\n    restart: {policy}\n    volumes: ['./d:/d']\n    \
             command: sh -c 'echo x >> /d/{name}; [ $$(wc -l < /d/{name}) -ge 3 ] && exec sleep infinity; exit {code}'\n    stop_grace_period: 0s\n"
        )
    };
    let machine = Machine::project(&format!(
        "name: demo\nservices:\n{}{}{}{}{}{}",
        service("always", "always", 0),
        service("unless", "unless-stopped", 1),
        service("failed", "on-failure", 1),
        service("done", "on-failure", 0),
        service("twice", "'on-failure:1'", 1),
        service("never", "'no'", 1),
    ));
    machine.write("p/d/keep", "");
    machine.ok("p", &["up", "-d"]);
    machine.sh(
        "cd p/d && timeout 30 sh -c 'for f in always unless failed; do until [ $(wc -l < $f) = 3 ]; do :; done; done'",
    );
    let running = machine.ok("p", &["ps", "--services"]);
    let mut running: Vec<&str> = running.lines().collect();
    running.sort_unstable();
    assert_eq!(running, ["always", "failed", "unless"]);
    let counts = machine.sh("cd p/d && wc -l < done && wc -l < twice && wc -l < never");
    assert_eq!(counts, "1\n2\n1\n");
    finish(&machine);
}

#[test]
fn dependencies_wait_for_their_condition() {
    let machine = Machine::project(
        r#"
name: demo
services:
  last:
    image: busybox
    init: true
    command: sh -c 'cat /d/order; exec sleep infinity'
    volumes: ["./d:/d"]
    depends_on:
      healthy: {condition: service_healthy}
      job: {condition: service_completed_successfully}
      plain: {condition: service_started}
  healthy:
    image: busybox
    init: true
    command: sh -c 'cat /d/healthy; echo healthy >> /d/order; touch /ready; exec sleep infinity'
    volumes: ["./d:/d"]
    healthcheck: {test: [CMD, test, -e, /ready], interval: 50ms, retries: 1000}
  job:
    image: busybox
    command: sh -c 'cat /d/job; echo job >> /d/order'
    volumes: ["./d:/d"]
  plain: {image: busybox, init: true, command: sleep infinity}
"#,
    );
    machine.sh("mkdir p/d && mkfifo p/d/healthy p/d/job");
    let mut up = machine.stack("p", &["up", "-d"]).spawn().unwrap();
    let let_go = |name: &str| machine.sh(&format!("timeout 60 sh -c ': > p/d/{name}'"));
    let_go("healthy");
    let started = std::time::Instant::now();
    while !machine
        .ok("p", &["ps", "--format", "json"])
        .contains(r#""Health":"healthy""#)
    {
        assert!(started.elapsed().as_secs() < 60, "never healthy");
    }
    assert!(!machine.ok("p", &["ps", "--services"]).contains("last"));
    let_go("job");
    assert!(up.wait().unwrap().success());
    assert_eq!(
        machine.ok("p", &["logs", "--no-log-prefix", "last"]),
        "healthy\njob\n"
    );
    machine.ok("p", &["down", "-t", "0"]);
    // A job that fails fails what waits for it, though nothing else it waits for ever comes about.
    machine.sh("sed -i 's/cat .d.job; echo job .. .d.order/exit 4/' p/compose.yaml");
    let failed = machine.run("p", &["up", "-d"]);
    assert_eq!(failed.code, 1, "{failed:?}");
    assert!(
        failed.stderr.contains("job") && failed.stderr.contains("demo-job-1 exited (4)"),
        "{}",
        failed.stderr
    );
    assert!(!machine.ok("p", &["ps", "--services"]).contains("last"));
    finish(&machine);
}

#[test]
fn names_profiles_and_orphans() {
    let service = |name: &str, extra: &str| {
        format!(
            "  {name}:\n    image: busybox\n    init: true\n    command: sleep infinity\n{extra}"
        )
    };
    let both = format!(
        "services:\n{}{}{}",
        service("web", ""),
        service("old", ""),
        service("tool", "    profiles: [debug]\n")
    );
    let machine = Machine::project(&both);
    let names = |args: &[&str]| -> Vec<String> {
        let mut names: Vec<String> = machine.ok("p", args).lines().map(str::to_owned).collect();
        names.sort();
        names
    };
    machine.ok("p", &["up", "-d"]);
    assert_eq!(names(&["ps", "--services"]), ["old", "web"]);
    assert!(machine.ok("p", &["ps"]).contains("p-web-1"));
    machine.ok("p", &["--profile", "debug", "up", "-d"]);
    assert_eq!(
        names(&["--profile", "debug", "ps", "--services"]),
        ["old", "tool", "web"]
    );
    machine.ok("p", &["-p", "other", "up", "-d", "web"]);
    assert_eq!(names(&["-p", "other", "ps", "--services"]), ["web"]);
    machine.ok("p", &["-p", "other", "down", "-t", "0"]);
    // Naming a service enables the profile that it is behind.
    machine.ok("p", &["-p", "named", "up", "-d", "tool"]);
    let running = machine.ok(
        "p",
        &["-p", "named", "--profile", "debug", "ps", "--services"],
    );
    assert_eq!(running, "tool\n");
    machine.ok(
        "p",
        &["-p", "named", "--profile", "debug", "down", "-t", "0"],
    );

    machine.write(
        "p/compose.yaml",
        &format!("services:\n{}", service("web", "")),
    );
    let ran = machine.run("p", &["up", "-d"]);
    assert!(
        ran.code == 0 && ran.stderr.contains("orphan") && ran.stderr.contains("p-old-1"),
        "{ran:?}"
    );
    assert_eq!(names(&["ps", "--services"]), ["old", "tool", "web"]);
    assert_eq!(names(&["ps", "--services", "--orphans=false"]), ["web"]);
    machine.ok("p", &["up", "-d", "--remove-orphans", "-t", "0"]);
    assert_eq!(names(&["ps", "--services"]), ["web"]);
    finish(&machine);
}

#[test]
fn several_files_standard_input_and_a_subdirectory() {
    let machine = Machine::project(
        "name: demo\nservices:\n  web:\n    image: busybox\n    init: true\n    command: sleep infinity\n",
    );
    machine.write(
        "p/over.yaml",
        "services:\n  web:\n    environment: {A: over}\n",
    );
    machine.write("p/deep/down/keep", "");
    machine.ok("p", &["-f", "compose.yaml", "-f", "over.yaml", "up", "-d"]);
    assert_eq!(inside(&machine, "web", "echo $A"), "over\n");
    assert_eq!(machine.ok("p/deep/down", &["ps", "--services"]), "web\n");
    let stack = format!(
        "{} --root {}",
        env!("CARGO_BIN_EXE_stack"),
        machine.root().display()
    );
    machine.sh(&format!(
        "cd p && sed s/infinity/10000/ compose.yaml | {stack} -f - up -d -t 0"
    ));
    assert_eq!(
        inside(
            &machine,
            "web",
            "tr '\\0' ' ' < /proc/$(pidof sleep)/cmdline; echo ${A-unset}"
        ),
        "sleep 10000 unset\n"
    );
    finish(&machine);
}

#[test]
fn a_build_is_cached_and_its_change_recreates() {
    let machine = Machine::project(
        "name: demo\nservices:\n  web:\n    build: {context: ., args: {WHO: me}}\n    init: true\n",
    );
    let dockerfile = |text: &str| {
        format!(
            "FROM busybox AS base\nARG WHO\nRUN echo built by $WHO > /who\nFROM base\nCOPY --chmod=644 file /file\nENV A=b\nWORKDIR /srv\nUSER 65534\nCMD {text}\n"
        )
    };
    machine.write("p/file", "copied\n");
    machine.write("p/Dockerfile", &dockerfile("[\"sleep\", \"infinity\"]"));
    machine.ok("p", &["up", "-d"]);
    assert_eq!(
        inside(&machine, "web", "cat /who /file; echo $A; pwd; id -u"),
        "built by me\ncopied\nb\n/srv\n65534\n"
    );
    let again = machine.run("p", &["build"]);
    assert!(
        again.stderr.contains("CACHED") || again.stdout.contains("CACHED"),
        "{again:?}"
    );
    let id = machine.ok("p", &["ps", "-q"]);
    machine.ok("p", &["up", "-d", "--build"]);
    assert_eq!(machine.ok("p", &["ps", "-q"]), id);
    machine.write("p/file", "changed\n");
    machine.ok("p", &["up", "-d", "--build", "-t", "0"]);
    assert_ne!(machine.ok("p", &["ps", "-q"]), id);
    assert_eq!(inside(&machine, "web", "cat /file"), "changed\n");
    let images = machine.ok("p", &["images"]);
    assert!(images.contains("demo-web"), "{images}");
    machine.write("p/Dockerfile", "FROM busybox\nRUN echo why; exit 9\n");
    let failed = machine.run("p", &["build"]);
    assert_eq!(failed.code, 1, "{failed:?}");
    assert!(
        failed.stderr.contains("Dockerfile:2\n")
            && failed.stderr.contains("why")
            && failed.stderr.contains('9'),
        "{}",
        failed.stderr
    );
    finish(&machine);
}

#[test]
fn config_prints_the_hash_that_containers_are_labelled_with() {
    let machine = Machine::project(
        "name: demo
services:
  web:
    image: busybox
    command: sleep infinity
    init: true
    environment: {A: b}
    secrets: [token]
secrets: {token: {file: ./token.txt}}
",
    );
    machine.write("p/token.txt", "first");
    machine.ok("p", &["up", "-d"]);
    let hash = || {
        let line = machine.ok("p", &["config", "--hash", "web"]);
        line.trim().strip_prefix("web ").unwrap().to_owned()
    };
    let labelled = machine.sh("find stack -name record.json -exec cat {} +");
    let before = hash();
    assert!(labelled.contains(&before), "{before} is not in {labelled}");
    machine.write("p/token.txt", "second");
    assert_ne!(hash(), before, "what the secret holds is compared too");
    finish(&machine);
}

#[test]
fn config_pins_images_to_what_their_registry_has() {
    let machine = Machine::new();
    machine.write(
        "registry.yml",
        "version: 0.1\nstorage: {filesystem: {rootdirectory: registry}}\nhttp: {addr: 127.0.0.1:5000}\n",
    );
    let mut registry = machine
        .command(".", "docker-registry")
        .args(["serve", "registry.yml"])
        .stderr(std::process::Stdio::null())
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    machine.sh("timeout 60 sh -c 'until curl -s http://127.0.0.1:5000/v2/; do :; done'");
    // A manifest is all that is asked for; what it names need not be there, but the registry looks.
    let digest = machine.sh(
        r#"set -e
put() { # FILE -> its digest, stored as a blob
  digest=sha256:$(sha256sum "$1" | cut -d' ' -f1)
  where=$(curl -s -i -X POST http://127.0.0.1:5000/v2/team/web/blobs/uploads/ | tr -d '\r' | sed -n 's/^Location: //p')
  curl -s -X PUT -H 'Content-Type: application/octet-stream' --data-binary "@$1" "$where&digest=$digest" >/dev/null
  echo "$digest"
}
printf '{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]},"config":{}}' > config.json
digest=$(put config.json)
printf '{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"%s","size":%s},"layers":[]}' \
  "$digest" "$(wc -c < config.json)" > manifest.json
curl -s -f -X PUT -H 'Content-Type: application/vnd.oci.image.manifest.v1+json' --data-binary @manifest.json \
  http://127.0.0.1:5000/v2/team/web/manifests/1
sha256sum manifest.json | cut -d' ' -f1"#,
    );
    machine.write(
        "p/compose.yaml",
        "name: demo\nservices:\n  a: {image: \"localhost:5000/team/web:1\", tty: true}\n  b: {build: .}\n",
    );
    let locked = machine.ok("p", &["config", "--lock-image-digests"]);
    let resolved = machine.ok(
        "p",
        &["config", "--resolve-image-digests", "--format", "json"],
    );
    registry.kill().unwrap();
    registry.wait().unwrap();
    let pinned = format!("localhost:5000/team/web:1@sha256:{}", digest.trim());
    assert_eq!(locked, format!("services:\n  a:\n    image: {pinned}\n"));
    let resolved: Value = serde_json::from_str(&resolved).unwrap();
    assert_eq!(resolved["services"]["a"]["image"], pinned);
    assert_eq!(resolved["services"]["a"]["tty"], true);
    assert_eq!(resolved["services"]["b"]["image"], Value::Null);
    // What is locked merges onto the file.
    machine.write("p/lock.yaml", &locked);
    let merged = machine.ok(
        "p",
        &[
            "-f",
            "compose.yaml",
            "-f",
            "lock.yaml",
            "config",
            "--images",
        ],
    );
    assert!(merged.contains(&pinned), "{merged}");
}
