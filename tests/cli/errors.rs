//! Every error that a Compose file can have (compose.md 2.10), as it is drawn.

use std::path::Path;

use insta::assert_snapshot;

use crate::command::{shown, stack};

/// Runs `stack` where these files are; directory names are hidden, and nothing is on standard output.
fn draw(files: &[(&str, &str)], arguments: &[&str]) -> String {
    let directory = tempfile::tempdir().unwrap();
    let project = directory.path().join("demo");
    for (path, text) in files {
        let path = project.join(path);
        fs_err::create_dir_all(path.parent().unwrap()).unwrap();
        fs_err::write(&path, text).unwrap();
    }
    let shown = shown(&mut stack(&project, arguments));
    let shown = shown.replace(directory.path().to_str().unwrap(), "/DIR");
    match shown.strip_prefix("exit 1\n--- stderr\n") {
        Some(said) => said.to_owned(),
        None => shown,
    }
}

/// Draws what is wrong with each text.
fn all(texts: &[&str]) -> String {
    let drawn = texts
        .iter()
        .map(|text| draw(&[("compose.yaml", text)], &["config", "-q"]));
    drawn.collect::<Vec<_>>().join("----\n")
}

#[test]
fn keys_and_types() {
    assert_snapshot!(all(&[
        "services:\n  web:\n    imgae: nginx\n",
        "services:\n  web:\n    image: [a]\n    environment: {FOO: [b]}\n  db: 3\n",
        "services: []\n",
        "services:\n  a:\n    image: x\n    develop:\n      watch:\n        - path: .\n    healthcheck:\n      retries: -1\n",
        "services:\n  a:\n    image: x\n    healthcheck: {test: [ls], interval: 5 s}\n    mem_limit: lots\n    extra_hosts: [x, \"b:d\"]\n",
    ]), @r#"
    error: services.web additional properties 'imgae' not allowed
     --> compose.yaml:3:5
      |
    3 |     imgae: nginx
      |     ^^^^^
      |
      = help: did you mean `image`?
    ----
    error: services.web.image must be a string
     --> compose.yaml:3:12
      |
    3 |     image: [a]
      |            ^^^ this is a list

    error: services.web.environment.FOO must be a boolean, null, number or string
     --> compose.yaml:4:24
      |
    4 |     environment: {FOO: [b]}
      |                        ^^^ this is a list

    error: services.db must be a mapping
     --> compose.yaml:5:7
      |
    5 |   db: 3
      |       ^ this is a number
    ----
    error: services must be a mapping
     --> compose.yaml:1:11
      |
    1 | services: []
      |           ^^ this is a list
    ----
    error: services.a.develop.watch.0 missing property 'action'
     --> compose.yaml:6:11
      |
    6 |         - path: .
      |           ^^^^^^^

    error: services.a.healthcheck.retries must be greater than or equal to 0
     --> compose.yaml:8:16
      |
    8 |       retries: -1
      |                ^^
    ----
    error: healthcheck.test must start either by "CMD", "CMD-SHELL" or "NONE"
     --> compose.yaml:4:26
      |
    4 |     healthcheck: {test: [ls], interval: 5 s}
      |                          ^^
      |
      = help: put "CMD" before it

    error: services.a.healthcheck.interval: invalid duration `5 s`
     --> compose.yaml:4:41
      |
    4 |     healthcheck: {test: [ls], interval: 5 s}
      |                                         ^^^
      |
      = help: write a number with a unit, such as 30s or 1m30s

    error: services.a.mem_limit: invalid size
     --> compose.yaml:5:16
      |
    5 |     mem_limit: lots
      |                ^^^^
      |
      = help: write a number with b, k, m, g or t after it, such as 512m

    error: services.a.extra_hosts.0: invalid additional host, missing IP: x
     --> compose.yaml:6:19
      |
    6 |     extra_hosts: [x, "b:d"]
      |                   ^
    "#);
}

#[test]
fn what_is_no_project() {
    assert_snapshot!(all(&[
        "",
        "- a\n",
        "services:\n  web: [\n",
        "services:\n  web:\n    image: a\n    image: b\n",
        "services:\n  web:\n    ports: [\"80:80:80:80\", \"x\"]\n",
    ]), @r#"
    error: empty compose file
     --> compose.yaml:1:1
      |
    1 |
      | ^
      |
      = help: it needs at least `services:`
    ----
    error: top-level object must be a mapping
     --> compose.yaml:1:1
      |
    1 | - a
      | ^^^ this is a list
    ----
    error: failed to parse YAML: did not find expected node content
     --> compose.yaml:2:8
      |
    2 |   web: [
      |        ^ the text ends after this
    ----
    error: mapping key "image" already defined
     --> compose.yaml:4:5
      |
    3 |     image: a
      |     ----- first defined here
    4 |     image: b
      |     ^^^^^
    ----
    error: service "web" has neither an image nor a build context specified: invalid compose project
     --> compose.yaml:2:3
      |
    2 |   web:
      |   ^^^
      |
      = help: add `image:` or `build:`

    error: services.web.ports.0: invalid ip address: 80:80: put it in brackets
     --> compose.yaml:3:13
      |
    3 |     ports: ["80:80:80:80", "x"]
      |             ^^^^^^^^^^^^^

    error: services.web.ports.1: invalid container port `x`: it must be a port up to 65535, or a range FIRST-LAST
     --> compose.yaml:3:28
      |
    3 |     ports: ["80:80:80:80", "x"]
      |                            ^^^
    "#);
}

#[test]
fn names_that_refer_to_nothing() {
    assert_snapshot!(all(&[
        "services:\n  web:\n    image: a\n    networks: [frnt]\n    volumes: [\"dta:/d\"]\n    secrets: [key]\n    configs: [conf]\n    depends_on: [bd]\nnetworks: {front: {}}\nvolumes: {data: {}}\n",
        "services:\n  web:\n    image: a\n    network_mode: service:wbe\n",
        "services:\n  web:\n    image: a\n    depends_on: [db]\n  db:\n    image: b\n    profiles: [p]\n",
    ]), @r#"
    error: service "web" refers to undefined network frnt: invalid compose project
     --> compose.yaml:4:16
      |
    4 |     networks: [frnt]
      |                ^^^^
      |
      = help: did you mean `front`?

    error: service "web" refers to undefined volume dta: invalid compose project
     --> compose.yaml:5:15
      |
    5 |     volumes: ["dta:/d"]
      |               ^^^^^^^^
      |
      = help: did you mean `data`?

    error: service "web" refers to undefined secret key: invalid compose project
     --> compose.yaml:6:15
      |
    6 |     secrets: [key]
      |               ^^^
      |
      = help: add `key:` beneath the top-level `secrets:`

    error: service "web" refers to undefined config conf: invalid compose project
     --> compose.yaml:7:15
      |
    7 |     configs: [conf]
      |               ^^^^
      |
      = help: add `conf:` beneath the top-level `configs:`

    error: service "web" depends on undefined service "bd": invalid compose project
     --> compose.yaml:8:18
      |
    8 |     depends_on: [bd]
      |                  ^^
    ----
    error: service "wbe" not found for network_mode 'service:wbe'
     --> compose.yaml:4:19
      |
    4 |     network_mode: service:wbe
      |                   ^^^^^^^^^^^
      |
      = help: did you mean `web`?
    ----
    error: service "db" is required by "web" but is disabled. Can be enabled by profiles [p]
     --> compose.yaml:4:18
      |
    4 |     depends_on: [db]
      |                  ^^
    5 |   db:
      |   -- disabled, as none of its profiles is active
    "#);
}

#[test]
fn what_contradicts() {
    assert_snapshot!(all(&[
        "services:\n  web:\n    image: a\n    network_mode: none\n    networks: [a]\n    container_name: one\n    scale: 2\n    deploy: {replicas: 3}\n  b:\n    image: a\n    container_name: one\nnetworks: {a: {}}\n",
        "services:\n  web:\n    build:\n      dockerfile: a\n      dockerfile_inline: FROM x\n",
        "services:\n  web:\n    image: a\n    tmpfs: /t\n    volumes:\n      - /t\n      - {type: bind, target: /x}\n      - {type: volume, source: v}\nvolumes: {v: {}}\n",
        "services: {a: {image: x}}\nconfigs:\n  c: {file: ./a, content: b}\nsecrets:\n  s: {}\n",
    ]), @r#"
    error: service web declares mutually exclusive `network_mode` and `networks`: invalid compose project
     --> compose.yaml:4:19
      |
    4 |     network_mode: none
      |                   ^^^^
    5 |     networks: [a]
      |     -------- networks are given here

    error: services.web: can't set container_name and scale as container name must be unique
     --> compose.yaml:6:21
      |
    6 |     container_name: one
      |                     ^^^

    error: services.web: container name "one" is already in use by service b: invalid compose project
      --> compose.yaml:6:21
       |
     6 |     container_name: one
       |                     ^^^
    ...
    11 |     container_name: one
       |                     --- in use here

    error: services.web: can't set distinct values on 'scale' and 'deploy.replicas': invalid compose project
     --> compose.yaml:7:12
      |
    7 |     scale: 2
      |            ^
    8 |     deploy: {replicas: 3}
      |                        - set to something else here
    ----
    error: service "web" declares mutually exclusive dockerfile and dockerfile_inline: invalid compose project
     --> compose.yaml:5:26
      |
    4 |       dockerfile: a
      |                   - a Dockerfile is given here
    5 |       dockerfile_inline: FROM x
      |                          ^^^^^^
    ----
    error: services.web.volumes[0]: target /t already mounted as services.web.tmpfs[0]
     --> compose.yaml:6:9
      |
    4 |     tmpfs: /t
      |            -- mounted here
    5 |     volumes:
    6 |       - /t
      |         ^^

    error: services.web.volumes.1: invalid mount config for type "bind": field Source must not be empty
     --> compose.yaml:7:9
      |
    7 |       - {type: bind, target: /x}
      |         ^^^^^^^^^^^^^^^^^^^^^^^^

    error: services.web.volumes.2: service volume is missing a mount target
     --> compose.yaml:8:9
      |
    8 |       - {type: volume, source: v}
      |         ^^^^^^^^^^^^^^^^^^^^^^^^^
    ----
    error: configs.c: file|environment|content attributes are mutually exclusive
     --> compose.yaml:3:27
      |
    3 |   c: {file: ./a, content: b}
      |             ---           ^
      |             |
      |             already given here

    error: secrets.s: one of file|environment must be set
     --> compose.yaml:5:3
      |
    5 |   s: {}
      |   ^
    "#);
}

#[test]
fn what_goes_round() {
    let dependencies = all(&[
        "services:\n  a: {image: x, depends_on: [b]}\n  b: {image: x, depends_on: [a]}\n",
        "services:\n  a: {extends: b}\n  b: {extends: a}\n",
    ]);
    let includes = draw(
        &[
            ("compose.yaml", "include: [b.yaml]\n"),
            ("b.yaml", "include:\n  - compose.yaml\n"),
        ],
        &["config", "-q"],
    );
    assert_snapshot!(format!("{dependencies}----\n{includes}"), @r"
    error: dependency cycle detected: a -> b -> a
     --> compose.yaml:2:30
      |
    2 |   a: {image: x, depends_on: [b]}
      |                              ^
    3 |   b: {image: x, depends_on: [a]}
      |                              - `b` waits for this
    ----
    error: circular reference: a in compose.yaml extends b in compose.yaml extends a in compose.yaml
     --> compose.yaml:2:16
      |
    2 |   a: {extends: b}
      |                ^
    3 |   b: {extends: a}
      |                - `b` extends this
    ----
    error: include cycle detected: compose.yaml -> b.yaml -> compose.yaml
     --> b.yaml:2:5
      |
    2 |   - compose.yaml
      |     ^^^^^^^^^^^^
      |
     ::: compose.yaml:1:11
      |
    1 | include: [b.yaml]
      |           ------ included from compose.yaml
    ");
}

#[test]
#[expect(clippy::too_many_lines, reason = "what is printed, whole")]
fn chains_of_files_are_drawn() {
    let extended = draw(
        &[
            (
                "compose.yaml",
                "services:\n  web:\n    extends:\n      file: base.yaml\n      service: base\n",
            ),
            (
                "base.yaml",
                "services:\n  base:\n    extends: {file: deep/root.yaml, service: root}\n    networks:\n      - frnt\n",
            ),
            (
                "deep/root.yaml",
                "services:\n  root:\n    image: x\n    volumes: [\"nosuch:/v\"]\n    tty: maybe\n",
            ),
        ],
        &["config", "-q"],
    );
    let included = draw(
        &[
            (
                "compose.yaml",
                "include:\n  - sub/compose.yaml\nservices: {a: {image: x}}\n",
            ),
            ("sub/compose.yaml", "include: [inner.yaml]\n"),
            ("sub/inner.yaml", "services:\n  c:\n    imgae: y\n"),
        ],
        &["config", "-q"],
    );
    let within = draw(
        &[(
            "compose.yaml",
            "services:\n  base:\n    image: x\n    depends_on: [bd]\n  web:\n    extends: base\n",
        )],
        &["config", "-q"],
    );
    assert_snapshot!(format!("{extended}----\n{included}----\n{within}"), @r#"
    error: service "web" refers to undefined network frnt: invalid compose project
     --> base.yaml:5:9
      |
    5 |       - frnt
      |         ^^^^
      |
     ::: compose.yaml:4:13
      |
    4 |       file: base.yaml
      |             --------- extended from base.yaml:5:9
      |
      = help: add `frnt:` beneath the top-level `networks:`

    error: service "web" refers to undefined volume nosuch: invalid compose project
     --> deep/root.yaml:4:15
      |
    4 |     volumes: ["nosuch:/v"]
      |               ^^^^^^^^^^^
      |
     ::: base.yaml:3:21
      |
    3 |     extends: {file: deep/root.yaml, service: root}
      |                     -------------- extended from deep/root.yaml:4:15
      |
     ::: compose.yaml:4:13
      |
    4 |       file: base.yaml
      |             --------- extended from base.yaml:3:21
      |
      = help: add `nosuch:` beneath the top-level `volumes:`

    error: services.root.tty must be a boolean
     --> deep/root.yaml:5:10
      |
    5 |     tty: maybe
      |          ^^^^^ this is a string
      |
     ::: base.yaml:3:21
      |
    3 |     extends: {file: deep/root.yaml, service: root}
      |                     -------------- extended from deep/root.yaml:5:10
      |
     ::: compose.yaml:4:13
      |
    4 |       file: base.yaml
      |             --------- extended from base.yaml:3:21
    ----
    error: services.c additional properties 'imgae' not allowed
     --> sub/inner.yaml:3:5
      |
    3 |     imgae: y
      |     ^^^^^
      |
     ::: sub/compose.yaml:1:11
      |
    1 | include: [inner.yaml]
      |           ---------- included from here
      |
     ::: compose.yaml:2:5
      |
    2 |   - sub/compose.yaml
      |     ---------------- included from here
      |
      = help: did you mean `image`?
    ----
    error: service "base" depends on undefined service "bd": invalid compose project
     --> compose.yaml:4:18
      |
    4 |     depends_on: [bd]
      |                  ^^

    error: service "web" depends on undefined service "bd": invalid compose project
     --> compose.yaml:4:18
      |
    4 |     depends_on: [bd]
      |                  ^^
    5 |   web:
    6 |     extends: base
      |              ---- extended from compose.yaml:4:18
    "#);
}

#[test]
fn all_files_are_checked_in_one_run() {
    let drawn = draw(
        &[
            ("compose.yaml", "services:\n  web:\n    tty: perhaps\n"),
            ("compose.override.yaml", "services:\n  web:\n    image: [\n"),
        ],
        &["config", "-q"],
    );
    // The file that is no YAML may say the image: it is not called missing.
    assert_snapshot!(drawn, @r"
    error: services.web.tty must be a boolean
     --> compose.yaml:3:10
      |
    3 |     tty: perhaps
      |          ^^^^^^^ this is a string

    error: failed to parse YAML: did not find expected node content
     --> compose.override.yaml:3:12
      |
    3 |     image: [
      |            ^ the text ends after this
    ");
}

#[test]
fn variables() {
    let drawn = draw(
        &[
            (
                "compose.yaml",
                "services:\n  web:\n    image: \"a:$TGA\"\n    hostname: ${TGA}\n    user: ${MUST:?say who}\n    command: echo ${}\n",
            ),
            (".env", "TAG=1\n"),
        ],
        &["config", "-q"],
    );
    assert_snapshot!(drawn, @r#"
    warning: the "TGA" variable is not set, defaulting to a blank string
     --> compose.yaml:3:15
      |
    3 |     image: "a:$TGA"
      |               ^^^^
    4 |     hostname: ${TGA}
      |               ------ and here
      |
      = help: did you mean `TAG`?
      = help: write $$TGA for a literal $TGA

    error: error while interpolating services.web.user: required variable MUST is missing a value: say who
     --> compose.yaml:5:11
      |
    5 |     user: ${MUST:?say who}
      |           ^^^^^^^^^^^^^^^^

    error: invalid interpolation format for services.web.command
     --> compose.yaml:6:19
      |
    6 |     command: echo ${}
      |                   ^^^
      |
      = help: you may need to escape any $ with another $
    "#);
}

#[test]
fn files_that_are_not_there() {
    let file = (
        "compose.yaml",
        "services:\n  web:\n    image: a\n    env_file: no.env\n",
    );
    let drawn = [
        draw(&[file], &["config", "-q"]),
        draw(&[file], &["--env-file", "none", "config", "-q"]),
        draw(&[file], &["-f", "none.yaml", "config", "-q"]),
        draw(
            &[(
                "compose.yaml",
                "include: [none.yaml]\nservices:\n  a:\n    extends: {file: no.yaml, service: b}\n",
            )],
            &["config", "-q"],
        ),
        draw(
            &[
                (".env", "A B=1\n"),
                ("compose.yaml", "services: {a: {image: b}}\n"),
            ],
            &["config", "-q"],
        ),
        draw(
            &[("compose.yaml", "services: {a: {image: b}}\n")],
            &["config", "-q", "b"],
        ),
    ];
    assert_snapshot!(drawn.join("----\n"), @r"
    error: env file no.env not found
     --> compose.yaml:4:15
      |
    4 |     env_file: no.env
      |               ^^^^^^
    ----
    error: couldn't find env file: none

    error: env file no.env not found
     --> compose.yaml:4:15
      |
    4 |     env_file: no.env
      |               ^^^^^^
    ----
    error: compose file none.yaml not found
    ----
    error: included file none.yaml not found
     --> compose.yaml:1:11
      |
    1 | include: [none.yaml]
      |           ^^^^^^^^^

    error: extended file no.yaml not found
     --> compose.yaml:4:21
      |
    4 |     extends: {file: no.yaml, service: b}
      |                     ^^^^^^^
    ----
    error: failed to read .env: key `A B` cannot contain a space
     --> .env:1:1
      |
    1 | A B=1
      | ^^^
    ----
    error: no such service: b
    ");
}

#[test]
fn a_directory_that_is_no_project_is_said() {
    let directory = tempfile::tempdir().unwrap();
    let said = shown(&mut stack(
        directory.path(),
        &["-p", "Not Good", "-f", "x", "config"],
    ));
    assert!(Path::new(directory.path()).exists());
    assert_snapshot!(said, @r#"
    exit 1
    --- stderr
    error: compose file x not found

    error: invalid project name "Not Good": must consist only of lowercase alphanumeric characters, hyphens, and underscores as well as start with a letter or number
    "#);
}
