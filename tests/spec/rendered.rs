//! The errors of a file as the real binary draws them: every one that Docker Compose's loader has
//! (`../shared/reference/compose.md` 2.10), with place, excerpt and suggestion.

use std::path::Path;
use std::process::{Command, Output};

/// Runs `stack` in `directory` with nothing in the environment.
pub(super) fn stack(directory: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_stack"))
        .args(arguments)
        .current_dir(directory)
        .env_clear()
        .env("HOME", "/root")
        .output()
        .unwrap()
}

/// What is wrong, the file, and what is drawn.
const ERRORS: &[(&str, &str, &str)] = &[
    (
        "unknown key",
        r"services:
  web:
    imgae: nginx
",
        r"error: services.web additional properties 'imgae' not allowed
 --> compose.yaml:3:5
  |
3 |     imgae: nginx
  |     ^^^^^
  |
  = help: did you mean `image`?
",
    ),
    (
        "wrong type",
        r"services:
  web:
    image: 5
    environment: {FOO: [1]}
",
        r#"error: services.web.image must be a string
 --> compose.yaml:3:12
  |
3 |     image: 5
  |            ^ this is a number
  |
  = help: put it in quotes: "5"

error: services.web.environment.FOO must be a boolean, null, number or string
 --> compose.yaml:4:24
  |
4 |     environment: {FOO: [1]}
  |                        ^^^ this is a list
"#,
    ),
    (
        "not a mapping",
        r"services: []
",
        r"error: services must be a mapping
 --> compose.yaml:1:11
  |
1 | services: []
  |           ^^ this is a list
",
    ),
    (
        "missing property",
        r"services:
  x:
    build: .
    develop:
      watch:
        - path: ./src
",
        r"error: services.x.develop.watch.0 missing property 'action'
 --> compose.yaml:6:11
  |
6 |         - path: ./src
  |           ^^^^^^^^^^^
",
    ),
    (
        "out of range",
        r"services:
  x:
    image: i
    scale: -1
",
        r"error: services.x.scale must be greater than or equal to 0
 --> compose.yaml:4:12
  |
4 |     scale: -1
  |            ^^
",
    ),
    (
        "not YAML",
        r"services:
  web: {image: x
",
        r"error: failed to parse YAML: did not find expected ',' or '}'
 --> compose.yaml:2:8
  |
2 |   web: {image: x
  |        ^ the text ends before what begins here does
",
    ),
    (
        "neither image nor build",
        r"services:
  x:
    command: top
",
        r#"error: service "x" has neither an image nor a build context specified: invalid compose project
 --> compose.yaml:2:3
  |
2 |   x:
  |   ^
  |
  = help: add `image:` or `build:`
"#,
    ),
    (
        "undefined references",
        r#"services:
  x:
    image: i
    build: {context: ., secrets: [sec]}
    networks: [net]
    volumes: ["vol:/v"]
    configs: [con]
    secrets: [sec]
    models: [mod]
    depends_on: [why]
  y: {image: i, network_mode: "service:z"}
"#,
        r#"error: service "x" refers to undefined build secret sec: invalid compose project
 --> compose.yaml:4:35
  |
4 |     build: {context: ., secrets: [sec]}
  |                                   ^^^
  |
  = help: add `sec:` beneath the top-level `secrets:`

error: service "x" refers to undefined network net: invalid compose project
 --> compose.yaml:5:16
  |
5 |     networks: [net]
  |                ^^^
  |
  = help: add `net:` beneath the top-level `networks:`

error: service "x" refers to undefined volume vol: invalid compose project
 --> compose.yaml:6:15
  |
6 |     volumes: ["vol:/v"]
  |               ^^^^^^^^
  |
  = help: add `vol:` beneath the top-level `volumes:`

error: service "x" refers to undefined config con: invalid compose project
 --> compose.yaml:7:15
  |
7 |     configs: [con]
  |               ^^^
  |
  = help: add `con:` beneath the top-level `configs:`

error: service "x" refers to undefined secret sec: invalid compose project
 --> compose.yaml:8:15
  |
8 |     secrets: [sec]
  |               ^^^
  |
  = help: add `sec:` beneath the top-level `secrets:`

error: service "x" refers to undefined model mod: invalid compose project
 --> compose.yaml:9:14
  |
9 |     models: [mod]
  |              ^^^
  |
  = help: add `mod:` beneath the top-level `models:`

error: service "x" depends on undefined service "why": invalid compose project
  --> compose.yaml:10:18
   |
10 |     depends_on: [why]
   |                  ^^^

error: service "z" not found for network_mode 'service:z'
  --> compose.yaml:11:31
   |
11 |   y: {image: i, network_mode: "service:z"}
   |                               ^^^^^^^^^^^
"#,
    ),
    (
        "network_mode and networks",
        r"services:
  x:
    image: i
    network_mode: host
    networks: [default]
",
        r"error: service x declares mutually exclusive `network_mode` and `networks`: invalid compose project
 --> compose.yaml:4:19
  |
4 |     network_mode: host
  |                   ^^^^
5 |     networks: [default]
  |     -------- networks are given here
",
    ),
    (
        "dockerfile and dockerfile_inline",
        r"services:
  x:
    build:
      dockerfile: D
      dockerfile_inline: FROM scratch
",
        r#"error: service "x" declares mutually exclusive dockerfile and dockerfile_inline: invalid compose project
 --> compose.yaml:5:26
  |
4 |       dockerfile: D
  |                   - a Dockerfile is given here
5 |       dockerfile_inline: FROM scratch
  |                          ^^^^^^^^^^^^
"#,
    ),
    (
        "two origins, none",
        r"services:
  x: {image: i}
configs:
  x: {file: a, content: b}
secrets:
  x: {}
",
        r"error: configs.x: file|environment|content attributes are mutually exclusive
 --> compose.yaml:4:25
  |
4 |   x: {file: a, content: b}
  |             -           ^
  |             |
  |             already given here

error: secrets.x: one of file|environment must be set
 --> compose.yaml:6:3
  |
6 |   x: {}
  |   ^
",
    ),
    (
        "count and device_ids",
        r#"services:
  x:
    image: i
    gpus:
      - count: 1
        device_ids: ["0"]
"#,
        r#"error: services.x.gpus.0: "count" and "device_ids" attributes are exclusive
 --> compose.yaml:6:21
  |
5 |       - count: 1
  |                - already given here
6 |         device_ids: ["0"]
  |                     ^^^^^
"#,
    ),
    (
        "distinct values",
        r"services:
  x:
    image: i
    scale: 2
    cpus: 1
    mem_limit: 1g
    mem_reservation: 1m
    pids_limit: 5
    deploy:
      replicas: 3
      resources:
        limits: {cpus: 2, pids: 6}
        reservations: {memory: 2m}
",
        r"error: services.x: can't set distinct values on 'scale' and 'deploy.replicas': invalid compose project
  --> compose.yaml:4:12
   |
 4 |     scale: 2
   |            ^
...
10 |       replicas: 3
   |                 - set to something else here

error: services.x: can't set distinct values on 'cpus' and 'deploy.resources.limits.cpus': invalid compose project
  --> compose.yaml:5:11
   |
 5 |     cpus: 1
   |           ^
...
12 |         limits: {cpus: 2, pids: 6}
   |                        - set to something else here

error: services.x: can't set distinct values on 'mem_limit' and 'deploy.resources.limits.memory': invalid compose project
  --> compose.yaml:6:16
   |
 6 |     mem_limit: 1g
   |                ^^
...
12 |         limits: {cpus: 2, pids: 6}
   |                 ------------------ not set here

error: services.x: can't set distinct values on 'mem_reservation' and 'deploy.resources.reservations.memory': invalid compose project
  --> compose.yaml:7:22
   |
 7 |     mem_reservation: 1m
   |                      ^^
...
13 |         reservations: {memory: 2m}
   |                                -- set to something else here

error: services.x: can't set distinct values on 'pids_limit' and 'deploy.resources.limits.pids': invalid compose project
  --> compose.yaml:8:17
   |
 8 |     pids_limit: 5
   |                 ^
...
12 |         limits: {cpus: 2, pids: 6}
   |                                 - set to something else here
",
    ),
    (
        "platforms",
        r"services:
  x:
    platform: linux/arm64
    build:
      platforms: [linux/amd64]
",
        r#"error: service.build.platforms MUST include service.platform "linux/arm64": invalid compose project
 --> compose.yaml:3:15
  |
3 |     platform: linux/arm64
  |               ^^^^^^^^^^^
4 |     build:
5 |       platforms: [linux/amd64]
  |                   ----------- built for these
"#,
    ),
    (
        "container_name and scale",
        r"services:
  x:
    image: i
    container_name: one
    deploy: {replicas: 2}
",
        r"error: services.x: can't set container_name and deploy.replicas as container name must be unique
 --> compose.yaml:4:21
  |
4 |     container_name: one
  |                     ^^^
",
    ),
    (
        "mounted twice",
        r#"services:
  x:
    image: i
    tmpfs: /t
    volumes: ["/src:/other", "/src:/t"]
"#,
        r#"error: services.x.volumes[1]: target /t already mounted as services.x.tmpfs[0]
 --> compose.yaml:5:30
  |
4 |     tmpfs: /t
  |            -- mounted here
5 |     volumes: ["/src:/other", "/src:/t"]
  |                              ^^^^^^^^^
"#,
    ),
    (
        "bind without a source",
        r"services:
  x:
    image: i
    volumes:
      - {type: bind, target: /t}
      - {type: volume}
",
        r#"error: services.x.volumes.0: invalid mount config for type "bind": field Source must not be empty
 --> compose.yaml:5:9
  |
5 |       - {type: bind, target: /t}
  |         ^^^^^^^^^^^^^^^^^^^^^^^^

error: services.x.volumes.1: service volume is missing a mount target
 --> compose.yaml:6:9
  |
6 |       - {type: volume}
  |         ^^^^^^^^^^^^^^
"#,
    ),
    (
        "container name in use",
        r"services:
  a: {image: i, container_name: nn}
  b: {image: i, container_name: nn}
",
        r#"error: services.b: container name "nn" is already in use by service a: invalid compose project
 --> compose.yaml:3:33
  |
2 |   a: {image: i, container_name: nn}
  |                                 -- in use here
3 |   b: {image: i, container_name: nn}
  |                                 ^^
"#,
    ),
    (
        "dependency cycle",
        r"services:
  a: {image: i, depends_on: [b]}
  b: {image: i, depends_on: [a]}
",
        r"error: dependency cycle detected: a -> b -> a
 --> compose.yaml:2:30
  |
2 |   a: {image: i, depends_on: [b]}
  |                              ^
3 |   b: {image: i, depends_on: [a]}
  |                              - `b` waits for this
",
    ),
    (
        "additional contexts",
        r#"services:
  x:
    build: {additional_contexts: {z: "service:y"}}
  y: {image: i}
"#,
        r#"error: service "x" declares unknown (or non-buildable) service "y" as additional contexts z
 --> compose.yaml:3:38
  |
3 |     build: {additional_contexts: {z: "service:y"}}
  |                                      ^^^^^^^^^^^
"#,
    ),
    (
        "files",
        r"services:
  x:
    image: i
    env_file: missing.env
    label_file: missing.labels
",
        r"error: env file missing.env not found
 --> compose.yaml:4:15
  |
4 |     env_file: missing.env
  |               ^^^^^^^^^^^

error: label file missing.labels not found
 --> compose.yaml:5:17
  |
5 |     label_file: missing.labels
  |                 ^^^^^^^^^^^^^^
",
    ),
    (
        "extra_hosts",
        r#"services:
  x:
    image: i
    extra_hosts: [x, "=1.2.3.4"]
"#,
        r#"error: services.x.extra_hosts.0: invalid additional host, missing IP: x
 --> compose.yaml:4:19
  |
4 |     extra_hosts: [x, "=1.2.3.4"]
  |                   ^

error: services.x.extra_hosts.1: bad host name ''
 --> compose.yaml:4:22
  |
4 |     extra_hosts: [x, "=1.2.3.4"]
  |                      ^^^^^^^^^^
"#,
    ),
    (
        "disabled dependency",
        r"services:
  x: {image: i, depends_on: [y]}
  y: {image: i, profiles: [p]}
",
        r#"error: service "y" is required by "x" but is disabled. Can be enabled by profiles [p]
 --> compose.yaml:2:30
  |
2 |   x: {image: i, depends_on: [y]}
  |                              ^
3 |   y: {image: i, profiles: [p]}
  |   - disabled, as none of its profiles is active
"#,
    ),
    (
        "health test",
        r"services:
  x:
    image: i
    healthcheck: {test: [curl, localhost]}
",
        r#"error: healthcheck.test must start either by "CMD", "CMD-SHELL" or "NONE"
 --> compose.yaml:4:26
  |
4 |     healthcheck: {test: [curl, localhost]}
  |                          ^^^^
  |
  = help: put "CMD" before it
"#,
    ),
    (
        "condition missing",
        r"services:
  x: {image: i, depends_on: {y: {restart: true}}}
  y: {image: i}
",
        r"error: services.x.depends_on.y missing property 'condition'
 --> compose.yaml:2:33
  |
2 |   x: {image: i, depends_on: {y: {restart: true}}}
  |                                 ^^^^^^^^^^^^^^^
",
    ),
    (
        "repeated item",
        r"services:
  x:
    image: i
    group_add: [a, a]
",
        r"error: services.x.group_add items must be unique: `a` is repeated
 --> compose.yaml:4:20
  |
4 |     group_add: [a, a]
  |                 -  ^
  |                 |
  |                 first listed here
",
    ),
    (
        "variable",
        r#"services:
  x:
    image: "${IMAGE:?say which}"
    command: "${"
"#,
        r#"error: error while interpolating services.x.image: required variable IMAGE is missing a value: say which
 --> compose.yaml:3:13
  |
3 |     image: "${IMAGE:?say which}"
  |             ^^^^^^^^^^^^^^^^^^^

error: invalid interpolation format for services.x.command
 --> compose.yaml:4:15
  |
4 |     command: "${"
  |               ^^
  |
  = help: you may need to escape any $ with another $
"#,
    ),
    (
        "project name",
        r#"name: "..."
services: {}
"#,
        r#"error: project name must not be empty
 --> compose.yaml:1:7
  |
1 | name: "..."
  |       ^^^^^
"#,
    ),
    (
        "external and driver",
        r"services: {}
volumes:
  v: {external: true, driver: local}
",
        r#"error: volumes.v: conflicting parameters "external" and "driver" specified
 --> compose.yaml:3:23
  |
3 |   v: {external: true, driver: local}
  |                       ^^^^^^
"#,
    ),
    (
        "remote include",
        r#"include: ["https://example.com/a.git"]
services: {}
"#,
        r#"error: include: `https://example.com/a.git` is fetched from elsewhere: not supported yet
 --> compose.yaml:1:11
  |
1 | include: ["https://example.com/a.git"]
  |           ^^^^^^^^^^^^^^^^^^^^^^^^^^^
"#,
    ),
];

#[test]
fn every_error_is_drawn_with_its_place() {
    let directory = tempfile::tempdir().unwrap();
    let project = directory.path().join("demo");
    std::fs::create_dir(&project).unwrap();
    for (what, text, expected) in ERRORS {
        std::fs::write(project.join("compose.yaml"), text).unwrap();
        let output = stack(&project, &["config"]);
        let drawn = String::from_utf8(output.stderr).unwrap();
        assert_eq!(
            (&*drawn, output.status.code()),
            (*expected, Some(1)),
            "{what}\n{drawn}"
        );
        assert_eq!(output.stdout, b"", "{what}");
    }
}
