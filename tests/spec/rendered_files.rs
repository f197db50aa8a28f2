//! More errors as the real binary draws them: those that reach across files, and those of what stands around a file.

use super::rendered::stack;

/// What is wrong, the files, the arguments, and what is drawn.
type Case = (
    &'static str,
    &'static [(&'static str, &'static str)],
    &'static [&'static str],
    &'static str,
);

const ERRORS: &[Case] = &[
    (
        "key twice, key that is no string",
        &[("compose.yaml", "services:
  x:
    image: i
    image: j
    environment: {8080: x}
")],
        &["config"],
        r#"error: mapping key "image" already defined
 --> compose.yaml:4:5
  |
3 |     image: i
  |     ----- first defined here
4 |     image: j
  |     ^^^^^

error: non-string key in services.x.environment: 8080
 --> compose.yaml:5:19
  |
5 |     environment: {8080: x}
  |                   ^^^^
  |
  = help: put it in quotes: "8080"
"#,
    ),
    (
        "no mapping at the top",
        &[("compose.yaml", "- a
")],
        &["config"],
        "error: top-level object must be a mapping
 --> compose.yaml:1:1
  |
1 | - a
  | ^^^ this is a list
",
    ),
    (
        "nothing in it",
        &[("compose.yaml", "# nothing
")],
        &["config"],
        "error: empty compose file
 --> compose.yaml:1:1
  |
1 | # nothing
  | ^
  |
  = help: it needs at least `services:`
",
    ),
    (
        "anchor within itself",
        &[("compose.yaml", "x-a: &a
  b: *a
services: {}
")],
        &["config"],
        "error: cycle detected: anchor `a` contains itself
 --> compose.yaml:2:6
  |
1 | x-a: &a
  |      -- the anchor
2 |   b: *a
  |      ^^
",
    ),
    (
        "mounts",
        &[("compose.yaml", "services:
  x:
    image: i
    volumes: ['a::ro', 'a:/b:ro:x']
")],
        &["config"],
        "error: services.x.volumes.0: invalid volume `a::ro`: empty section between colons
 --> compose.yaml:4:15
  |
4 |     volumes: ['a::ro', 'a:/b:ro:x']
  |               ^^^^^^^

error: services.x.volumes.1: invalid volume `a:/b:ro:x`: too many colons
 --> compose.yaml:4:24
  |
4 |     volumes: ['a::ro', 'a:/b:ro:x']
  |                        ^^^^^^^^^^^
",
    ),
    (
        "addresses",
        &[("compose.yaml", "services:
  x:
    image: i
    ports: ['1.2.3:80:80', {target: 80, host_ip: x}]
")],
        &["config"],
        "error: services.x.ports.0: invalid ip address: 1.2.3
 --> compose.yaml:4:13
  |
4 |     ports: ['1.2.3:80:80', {target: 80, host_ip: x}]
  |             ^^^^^^^^^^^^^

error: services.x.ports.1: invalid ip address: x
 --> compose.yaml:4:50
  |
4 |     ports: ['1.2.3:80:80', {target: 80, host_ip: x}]
  |                                                  ^
",
    ),
    (
        "space after a name",
        &[("compose.yaml", "services:
  x:
    image: i
    environment: ['A =1', B=2]
")],
        &["config"],
        "error: services.x.environment.0: environment variable `A ` is declared with a trailing space
 --> compose.yaml:4:19
  |
4 |     environment: ['A =1', B=2]
  |                   ^^^^^^
",
    ),
    (
        "key of the agent",
        &[("compose.yaml", "services:
  x:
    build: {context: ., ssh: [foo]}
")],
        &["config"],
        r#"error: services.x.build.ssh.0: invalid ssh key "foo"
 --> compose.yaml:3:31
  |
3 |     build: {context: ., ssh: [foo]}
  |                               ^^^
  |
  = help: write `default` for the agent, or ID=PATH
"#,
    ),
    (
        "watch",
        &[("compose.yaml", "services:
  x:
    build: .
    develop: {watch: [{path: ., action: sync}, {path: '', action: rebuild}]}
")],
        &["config"],
        "error: services.x.develop.watch: target is required for non-rebuild actions
 --> compose.yaml:4:23
  |
4 |     develop: {watch: [{path: ., action: sync}, {path: '', action: rebuild}]}
  |                       ^^^^^^^^^^^^^^^^^^^^^^^

error: services.x.develop.watch: path: value can't be blank
 --> compose.yaml:4:55
  |
4 |     develop: {watch: [{path: ., action: sync}, {path: '', action: rebuild}]}
  |                                                       ^^
",
    ),
    (
        "names",
        &[("compose.yaml", "services:
  'a b': {image: i}
  c: {image: i, container_name: 'a b'}
")],
        &["config"],
        "error: service name `a b` is not valid: it must match [a-zA-Z0-9._-]+
 --> compose.yaml:2:3
  |
2 |   'a b': {image: i}
  |   ^^^^^

error: services.c.container_name does not match [a-zA-Z0-9][a-zA-Z0-9_.-]+
 --> compose.yaml:3:33
  |
3 |   c: {image: i, container_name: 'a b'}
  |                                 ^^^^^
",
    ),
    (
        "values of variables",
        &[("compose.yaml", "services:
  x:
    image: i
    cpus: '${X:-many}'
    init: ${I:-perhaps}
")],
        &["config"],
        "error: services.x.cpus must be a number
 --> compose.yaml:4:11
  |
4 |     cpus: '${X:-many}'
  |           ^^^^^^^^^^^^ this is a string

error: services.x.init must be a boolean
 --> compose.yaml:5:11
  |
5 |     init: ${I:-perhaps}
  |           ^^^^^^^^^^^^^ this is a string
",
    ),
    (
        "durations and sizes",
        &[("compose.yaml", "services:
  x:
    image: i
    stop_grace_period: 5
    healthcheck: {interval: 5y}
    mem_limit: 5q
")],
        &["config"],
        "error: services.x.stop_grace_period must be a string
 --> compose.yaml:4:24
  |
4 |     stop_grace_period: 5
  |                        ^
  |
  = help: write a number with a unit, such as 30s or 1m30s

error: services.x.healthcheck.interval: invalid duration `5y`
 --> compose.yaml:5:29
  |
5 |     healthcheck: {interval: 5y}
  |                             ^^
  |
  = help: write a number with a unit, such as 30s or 1m30s

error: services.x.mem_limit: invalid size
 --> compose.yaml:6:16
  |
6 |     mem_limit: 5q
  |                ^^
  |
  = help: write a number with b, k, m, g or t after it, such as 512m
",
    ),
    (
        "container_name and scale",
        &[("compose.yaml", "services:
  x:
    image: i
    container_name: nn
    scale: 2
")],
        &["config"],
        "error: services.x: can't set container_name and scale as container name must be unique
 --> compose.yaml:4:21
  |
4 |     container_name: nn
  |                     ^^
",
    ),
    (
        "no origin",
        &[("compose.yaml", "services: {}
configs:
  c: {}
")],
        &["config"],
        "error: configs.c: one of file|environment|content must be set
 --> compose.yaml:3:3
  |
3 |   c: {}
  |   ^
",
    ),
    (
        "services that are not there",
        &[("compose.yaml", "services:
  x:
    image: i
    links: [qq]
    volumes_from: [zz]
    ipc: service:ii
    pid: service:pp
")],
        &["config"],
        r#"error: service "x" depends on undefined service "qq": invalid compose project
 --> compose.yaml:4:13
  |
4 |     links: [qq]
  |             ^^

error: service "x" depends on undefined service "zz": invalid compose project
 --> compose.yaml:5:20
  |
5 |     volumes_from: [zz]
  |                    ^^

error: service "x" depends on undefined service "ii": invalid compose project
 --> compose.yaml:6:10
  |
6 |     ipc: service:ii
  |          ^^^^^^^^^^

error: service "x" depends on undefined service "pp": invalid compose project
 --> compose.yaml:7:10
  |
7 |     pid: service:pp
  |          ^^^^^^^^^^
"#,
    ),
    (
        "no such service",
        &[("compose.yaml", "services:
  x:
    image: i
")],
        &["config", "nope"],
        "error: no such service: nope
",
    ),
    (
        "no env file",
        &[("compose.yaml", "services:
  x:
    image: i
")],
        &["--env-file", "no.env", "config"],
        "error: couldn't find env file: no.env
",
    ),
    (
        "no compose file",
        &[("compose.yaml", "services:
  x:
    image: i
")],
        &["-f", "no.yaml", "config"],
        "error: compose file no.yaml not found
",
    ),
    (
        "name of the project",
        &[("compose.yaml", "services:
  x:
    image: i
")],
        &["-p", "Bad Name", "config"],
        r#"error: invalid project name "Bad Name": must consist only of lowercase alphanumeric characters, hyphens, and underscores as well as start with a letter or number
"#,
    ),
    (
        "space in a key of a dotenv file",
        &[("compose.yaml", "services:
  x:
    image: i
"), (".env", "A=1
B C=2
")],
        &["config"],
        "error: failed to read .env: key `B C` cannot contain a space
 --> .env:2:1
  |
2 | B C=2
  | ^^^
",
    ),
    (
        "quote that stays open",
        &[("compose.yaml", "services:
  x:
    image: i
"), (".env", "A=1
B='x
")],
        &["config"],
        "error: failed to read .env: unterminated quoted value 'x
 --> .env:2:3
  |
2 | B='x
  |   ^^
",
    ),
    (
        "sign in a key of a dotenv file",
        &[("compose.yaml", "services:
  x:
    image: i
"), (".env", "B%=2
")],
        &["config"],
        r#"error: failed to read .env: unexpected character "%" in variable name "B%=2"
 --> .env:1:2
  |
1 | B%=2
  |  ^
"#,
    ),
    (
        "template in an env file",
        &[("compose.yaml", "services:
  x:
    image: i
    env_file: e.env
"), ("e.env", "A=1
B=${
")],
        &["config"],
        "error: failed to read e.env: invalid interpolation format
 --> e.env:2:3
  |
2 | B=${
  |   ^^
",
    ),
    (
        "include cycle",
        &[("compose.yaml", "include: [a.yaml]
services: {}
"), ("a.yaml", "include:
  - b.yaml
"), ("b.yaml", "include:
  - a.yaml
")],
        &["config"],
        "error: include cycle detected: compose.yaml -> a.yaml -> b.yaml -> a.yaml
 --> b.yaml:2:5
  |
2 |   - a.yaml
  |     ^^^^^^
  |
 ::: compose.yaml:1:11
  |
1 | include: [a.yaml]
  |           ------ included from compose.yaml
  |
 ::: a.yaml:2:5
  |
2 |   - b.yaml
  |     ------ included from a.yaml
",
    ),
    (
        "extends cycle",
        &[("compose.yaml", "services:
  a:
    extends: {service: b, file: b.yaml}
"), ("b.yaml", "services:
  b:
    extends:
      file: compose.yaml
      service: a
")],
        &["config"],
        "error: circular reference: a in compose.yaml extends b in b.yaml extends a in compose.yaml
 --> compose.yaml:3:24
  |
3 |     extends: {service: b, file: b.yaml}
  |                        ^        ------ extended from b.yaml:4:13
  |
 ::: b.yaml:4:13
  |
4 |       file: compose.yaml
  |             ------------ extended from compose.yaml:3:24
5 |       service: a
  |                - `b` extends this
",
    ),
    (
        "extends",
        &[("compose.yaml", "services:
  a: {extends: {service: b, file: b.yaml}}
  c: {extends: {service: b, file: c.yaml}}
  d: {extends: aa}
  e: {extends: {service: b, file: d.yaml}}
  f: {extends: {file: b.yaml}}
"), ("b.yaml", "services:
  bb: {image: i}
"), ("c.yaml", "networks: {}
")],
        &["config"],
        r#"error: cannot extend service "a" in compose.yaml: service "b" not found in b.yaml
 --> compose.yaml:2:26
  |
2 |   a: {extends: {service: b, file: b.yaml}}
  |                          ^

error: cannot extend from c.yaml: no services section
 --> compose.yaml:3:35
  |
3 |   c: {extends: {service: b, file: c.yaml}}
  |                                   ^^^^^^
  |
 ::: c.yaml:1:1
  |
1 | networks: {}
  | - this file

error: cannot extend service "d" in compose.yaml: service "aa" not found
 --> compose.yaml:4:16
  |
4 |   d: {extends: aa}
  |                ^^
  |
  = help: did you mean `a`?

error: extended file d.yaml not found
 --> compose.yaml:5:35
  |
5 |   e: {extends: {service: b, file: d.yaml}}
  |                                   ^^^^^^

error: extends.f.service is required
 --> compose.yaml:6:16
  |
6 |   f: {extends: {file: b.yaml}}
  |                ^^^^^^^^^^^^^^
"#,
    ),
    (
        "errors of the extended",
        &[("compose.yaml", "services:
  a: {extends: {service: b, file: b.yaml}}
"), ("b.yaml", "services:
  b:
    image: i
    prots: []
    tty: maybe
")],
        &["config"],
        "error: services.b additional properties 'prots' not allowed
 --> b.yaml:4:5
  |
4 |     prots: []
  |     ^^^^^
  |
 ::: compose.yaml:2:35
  |
2 |   a: {extends: {service: b, file: b.yaml}}
  |                                   ------ extended from b.yaml:4:5
  |
  = help: did you mean `ports`?

error: services.b.tty must be a boolean
 --> b.yaml:5:10
  |
5 |     tty: maybe
  |          ^^^^^ this is a string
  |
 ::: compose.yaml:2:35
  |
2 |   a: {extends: {service: b, file: b.yaml}}
  |                                   ------ extended from b.yaml:5:10
",
    ),
    (
        "errors of the included",
        &[("compose.yaml", "include:
  - sub/a.yaml
  - {path: sub/b.yaml, env_file: no.env}
services: {}
"), ("sub/a.yaml", "services:
  b:
    image: 5
    env_file: no.env
"), ("sub/b.yaml", "services: {}
")],
        &["config"],
        r#"error: env file no.env not found
 --> compose.yaml:3:34
  |
3 |   - {path: sub/b.yaml, env_file: no.env}
  |                                  ^^^^^^

error: services.b.image must be a string
 --> sub/a.yaml:3:12
  |
3 |     image: 5
  |            ^ this is a number
  |
 ::: compose.yaml:2:5
  |
2 |   - sub/a.yaml
  |     ---------- included from here
  |
  = help: put it in quotes: "5"

error: env file sub/no.env not found
 --> sub/a.yaml:4:15
  |
4 |     env_file: no.env
  |               ^^^^^^
  |
 ::: compose.yaml:2:5
  |
2 |   - sub/a.yaml
  |     ---------- included from here
"#,
    ),
    (
        "other types in an override",
        &[("compose.yaml", "services:
  x:
    image: i
    logging: {driver: x}
    healthcheck: {test: a}
"), ("compose.override.yaml", "services:
  x:
    logging: [a]
    healthcheck: []
    networks: [n]
")],
        &["config"],
        r#"error: services.x.logging must be a mapping
 --> compose.override.yaml:3:14
  |
3 |     logging: [a]
  |              ^^^ this is a list

error: services.x.healthcheck must be a mapping
 --> compose.override.yaml:4:18
  |
4 |     healthcheck: []
  |                  ^^ this is a list

error: service "x" refers to undefined network n: invalid compose project
 --> compose.override.yaml:5:16
  |
5 |     networks: [n]
  |                ^
  |
  = help: add `n:` beneath the top-level `networks:`
"#,
    ),
];

#[test]
fn every_error_is_drawn_across_its_files() {
    for (what, files, arguments, expected) in ERRORS {
        let directory = tempfile::tempdir().unwrap();
        let project = directory.path().join("demo");
        for (name, text) in *files {
            let path = project.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let output = stack(&project, arguments);
        let drawn = String::from_utf8(output.stderr).unwrap();
        assert_eq!(
            (&*drawn, output.status.code()),
            (*expected, Some(1)),
            "{what}\n{drawn}"
        );
        assert_eq!(output.stdout, b"", "{what}");
    }
}
