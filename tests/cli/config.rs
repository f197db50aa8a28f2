//! `stack config`, from files to output and errors. It needs no root and opens no engine.

use std::io::Write;
use std::path::Path;
use std::process::Stdio;

use insta::assert_snapshot;

use crate::command::{run, show, shown, stack};

/// Runs `stack` where `compose.yaml` has `text`, and hides the directory's name.
fn with_file(text: &str, arguments: &[&str]) -> String {
    let directory = tempfile::tempdir().unwrap();
    let project = directory.path().join("demo");
    fs_err::create_dir(&project).unwrap();
    write(&project.join("compose.yaml"), text);
    let shown = shown(&mut stack(&project, arguments));
    shown.replace(directory.path().to_str().unwrap(), "/DIR")
}

fn write(path: &Path, text: &str) {
    let mut file = fs_err::File::create(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

const THREE: &str = "\
services:
  web:
    image: busybox
    depends_on: [db]
    networks: [front]
    volumes: ['data:/data']
  db:
    image: postgres:16
    networks: [back]
  tool:
    image: busybox
    profiles: [tools]
networks: {front: {}, back: {}, spare: {}}
volumes: {data: {}, other: {}}
";

#[test]
fn no_file_is_said() {
    assert_snapshot!(run(&["config"]), @r"
    exit 1
    --- stderr
    error: no configuration file provided: not found
    help: write a compose.yaml in /DIR or in a directory above it, or name one with -f
    ");
}

#[test]
fn every_error_has_its_place() {
    let text = "services:\n  web:\n    image: busybox\n    volume: [data]\n    restart: 5\n    depends_on: [bd]\n  db:\n    image: busybox\n";
    assert_snapshot!(with_file(text, &["config"]), @r#"
    exit 1
    --- stderr
    error: services.web additional properties 'volume' not allowed
     --> compose.yaml:4:5
      |
    4 |     volume: [data]
      |     ^^^^^^
      |
      = help: did you mean `volumes`?

    error: services.web.restart must be a string
     --> compose.yaml:5:14
      |
    5 |     restart: 5
      |              ^ this is a number
      |
      = help: put it in quotes: "5"

    error: service "web" depends on undefined service "bd": invalid compose project
     --> compose.yaml:6:18
      |
    6 |     depends_on: [bd]
      |                  ^^
      |
      = help: did you mean `db`?
    "#);
}

#[test]
fn what_is_no_yaml_is_said() {
    assert_snapshot!(with_file("services: [\n  web: }\n", &["config", "-q"]), @r"
    exit 1
    --- stderr
    error: failed to parse YAML: did not find expected node content
     --> compose.yaml:2:8
      |
    2 |   web: }
      |        ^
      |        |
      |        while parsing a flow node
    ");
}

#[test]
fn a_good_file_is_shown_resolved() {
    assert_snapshot!(with_file(THREE, &["config"]), @r"
    exit 0
    --- stdout
    name: demo
    services:
      db:
        image: postgres:16
        networks:
          back: null
      web:
        depends_on:
          db:
            condition: service_started
            required: true
        image: busybox
        networks:
          front: null
        volumes:
          - source: data
            target: /data
            type: volume
            volume: {}
    networks:
      back:
        name: demo_back
      front:
        name: demo_front
    volumes:
      data:
        name: demo_data
    ");
}

#[test]
fn named_services_bring_what_they_need() {
    assert_snapshot!(with_file(THREE, &["config", "db"]), @r"
    exit 0
    --- stdout
    name: demo
    services:
      db:
        image: postgres:16
        networks:
          back: null
    networks:
      back:
        name: demo_back
    ");
    assert_snapshot!(with_file(THREE, &["config", "nosuch"]), @r"
    exit 1
    --- stderr
    error: no such service: nosuch
    ");
}

#[test]
fn lists() {
    let lists = [
        "--services",
        "--images",
        "--volumes",
        "--networks",
        "--profiles",
    ];
    let shown: String = lists
        .iter()
        .map(|list| with_file(THREE, &["config", list]))
        .collect();
    assert_snapshot!(shown, @r"
    exit 0
    --- stdout
    db
    web
    exit 0
    --- stdout
    postgres:16
    busybox
    exit 0
    --- stdout
    data
    exit 0
    --- stdout
    back
    front
    exit 0
    --- stdout
    tools
    ");
}

#[test]
fn standard_input_is_a_file_too_and_an_output_file_is_written() {
    let directory = tempfile::tempdir().unwrap();
    let mut child = stack(
        directory.path(),
        &["-p", "demo", "-f", "-", "config", "-o", "out.yaml"],
    )
    .stdin(Stdio::piped())
    .stdout(Stdio::piped())
    .stderr(Stdio::piped())
    .spawn()
    .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(b"services: {web: {image: busybox}}")
        .unwrap();
    let shown = show(&child.wait_with_output().unwrap());
    let written = fs_err::read_to_string(directory.path().join("out.yaml")).unwrap();
    assert_eq!(
        (shown.as_str(), written.lines().next()),
        ("exit 0\n", Some("name: demo"))
    );
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    assert_snapshot!(run(&["-f", "nowhere.yaml", "config"]), @r"
    exit 1
    --- stderr
    error: compose file nowhere.yaml not found
    ");
    assert_snapshot!(run(&["-f", "/", "config"]), @r"
    exit 1
    --- stderr
    error: compose file /: failed to read from file `/`: is a directory
    ");
}

/// A project with something for each option.
const OPTIONS: &str = "\
services:
  web:
    image: \"nginx:${TAG:-1.25}\"
    build: {context: ./src}
    command: echo $$HOME \"${GREETING:-a b}\"
    environment: [FOO, \"BAR=${BAR}\"]
    env_file: x.env
    ports: [\"${PORT:-8080}:80\", \"443:443\"]
    volumes: [\"./data:/data\", \"${DIR:-./d}:/d\", \"named:/n\"]
    depends_on: [db]
    deploy: {replicas: \"${N:-2}\"}
  db:
    image: postgres:16
    container_name: ${REQ:?must be}
    hostname: ${ALT:+alt}
volumes: {named: {}}
";

/// Runs `stack` beside [`OPTIONS`] with `REQ` and `BAR` set.
fn with_options(arguments: &[&str]) -> String {
    let directory = tempfile::tempdir().unwrap();
    let project = directory.path().join("demo");
    fs_err::create_dir(&project).unwrap();
    write(&project.join("compose.yaml"), OPTIONS);
    write(&project.join("x.env"), "E=1\nF=${BAR}\n");
    let mut command = stack(&project, arguments);
    command.env("REQ", "req").env("BAR", "b");
    shown(&mut command).replace(directory.path().to_str().unwrap(), "/DIR")
}

#[test]
fn variables_can_stay_as_they_are() {
    assert_snapshot!(with_options(&["config", "--no-interpolate"]), @r#"
    exit 0
    --- stdout
    name: demo
    services:
      db:
        container_name: ${REQ:?must be}
        hostname: ${ALT:+alt}
        image: postgres:16
        networks:
          default: null
      web:
        build:
          context: /DIR/demo/src
          dockerfile: Dockerfile
        command: echo $$HOME "${GREETING:-a b}"
        depends_on:
          db:
            condition: service_started
            required: true
        deploy:
          replicas: ${N:-2}
        env_file:
          - path: /DIR/demo/x.env
            required: true
        environment:
          - FOO
          - BAR=${BAR}
        image: nginx:${TAG:-1.25}
        networks:
          default: null
        ports:
          - ${PORT:-8080}:80
          - mode: ingress
            protocol: tcp
            published: "443"
            target: 443
        volumes:
          - bind:
              create_host_path: true
            source: /DIR/demo/data
            target: /data
            type: bind
          - ${DIR:-./d}:/d
          - source: named
            target: /n
            type: volume
            volume: {}
    networks:
      default:
        name: demo_default
    volumes:
      named:
        name: demo_named
    "#);
}

#[test]
#[expect(clippy::too_many_lines, reason = "what is printed, whole")]
fn steps_can_be_left_out() {
    let shown: String = [
        "--no-normalize",
        "--no-path-resolution",
        "--no-env-resolution",
    ]
    .iter()
    .map(|option| format!("{option}: {}", with_options(&["config", option])))
    .collect();
    assert_snapshot!(shown, @r#"
    --no-normalize: exit 0
    --- stdout
    name: demo
    services:
      db:
        container_name: req
        image: postgres:16
      web:
        build:
          context: /DIR/demo/src
        command:
          - echo
          - $$HOME
          - a b
        depends_on:
          db:
            condition: service_started
            required: true
        deploy:
          replicas: 2
        environment:
          BAR: b
          E: "1"
          F: b
          FOO: null
        image: nginx:1.25
        ports:
          - mode: ingress
            protocol: tcp
            published: "8080"
            target: 80
          - mode: ingress
            protocol: tcp
            published: "443"
            target: 443
        volumes:
          - bind: {}
            source: /DIR/demo/data
            target: /data
            type: bind
          - bind: {}
            source: /DIR/demo/d
            target: /d
            type: bind
          - source: named
            target: /n
            type: volume
            volume: {}
    volumes:
      named: {}
    --no-path-resolution: exit 0
    --- stdout
    name: demo
    services:
      db:
        container_name: req
        image: postgres:16
        networks:
          default: null
      web:
        build:
          context: ./src
          dockerfile: Dockerfile
        command:
          - echo
          - $$HOME
          - a b
        depends_on:
          db:
            condition: service_started
            required: true
        deploy:
          replicas: 2
        environment:
          BAR: b
          E: "1"
          F: b
          FOO: null
        image: nginx:1.25
        networks:
          default: null
        ports:
          - mode: ingress
            protocol: tcp
            published: "8080"
            target: 80
          - mode: ingress
            protocol: tcp
            published: "443"
            target: 443
        volumes:
          - bind: {}
            source: ./data
            target: /data
            type: bind
          - bind: {}
            source: ./d
            target: /d
            type: bind
          - source: named
            target: /n
            type: volume
            volume: {}
    networks:
      default:
        name: demo_default
    volumes:
      named:
        name: demo_named
    --no-env-resolution: exit 0
    --- stdout
    name: demo
    services:
      db:
        container_name: req
        image: postgres:16
        networks:
          default: null
      web:
        build:
          context: /DIR/demo/src
          dockerfile: Dockerfile
        command:
          - echo
          - $$HOME
          - a b
        depends_on:
          db:
            condition: service_started
            required: true
        deploy:
          replicas: 2
        env_file:
          - path: /DIR/demo/x.env
        environment:
          BAR: b
          FOO: null
        image: nginx:1.25
        networks:
          default: null
        ports:
          - mode: ingress
            protocol: tcp
            published: "8080"
            target: 80
          - mode: ingress
            protocol: tcp
            published: "443"
            target: 443
        volumes:
          - bind: {}
            source: /DIR/demo/data
            target: /data
            type: bind
          - bind: {}
            source: /DIR/demo/d
            target: /d
            type: bind
          - source: named
            target: /n
            type: volume
            volume: {}
    networks:
      default:
        name: demo_default
    volumes:
      named:
        name: demo_named
    "#);
}

#[test]
fn what_does_not_fit_together_can_be_shown() {
    let text = "services: {a: {image: x, networks: [nosuch], depends_on: [b]}}\n";
    assert_snapshot!(with_file(text, &["config", "--no-consistency"]), @r"
    exit 0
    --- stdout
    name: demo
    services:
      a:
        depends_on:
          b:
            condition: service_started
            required: true
        image: x
        networks:
          nosuch: null
    ");
}

#[test]
#[expect(clippy::too_many_lines, reason = "what is printed, whole")]
fn variables_are_listed() {
    let shown: String = [
        &["--variables"][..],
        &["--variables", "--format", "json"],
        &["--variables", "--format", "yaml"],
    ]
    .iter()
    .map(|options| with_options(&[&["config"], *options].concat()))
    .collect();
    assert_snapshot!(shown, @r#"
    exit 0
    --- stdout
    NAME                REQUIRED            DEFAULT VALUE       ALTERNATE VALUE
    ALT                 false                                   alt
    BAR                 false
    DIR                 false               ./d
    GREETING            false               a b
    N                   false               2
    PORT                false               8080
    REQ                 true
    TAG                 false               1.25
    exit 0
    --- stdout
    {
      "ALT": {
        "DefaultValue": "",
        "Name": "ALT",
        "PresenceValue": "alt",
        "Required": false
      },
      "BAR": {
        "DefaultValue": "",
        "Name": "BAR",
        "PresenceValue": "",
        "Required": false
      },
      "DIR": {
        "DefaultValue": "./d",
        "Name": "DIR",
        "PresenceValue": "",
        "Required": false
      },
      "GREETING": {
        "DefaultValue": "a b",
        "Name": "GREETING",
        "PresenceValue": "",
        "Required": false
      },
      "N": {
        "DefaultValue": "2",
        "Name": "N",
        "PresenceValue": "",
        "Required": false
      },
      "PORT": {
        "DefaultValue": "8080",
        "Name": "PORT",
        "PresenceValue": "",
        "Required": false
      },
      "REQ": {
        "DefaultValue": "",
        "Name": "REQ",
        "PresenceValue": "",
        "Required": true
      },
      "TAG": {
        "DefaultValue": "1.25",
        "Name": "TAG",
        "PresenceValue": "",
        "Required": false
      }
    }
    exit 0
    --- stdout
    ALT:
      defaultvalue: ""
      name: ALT
      presencevalue: alt
      required: false
    BAR:
      defaultvalue: ""
      name: BAR
      presencevalue: ""
      required: false
    DIR:
      defaultvalue: ./d
      name: DIR
      presencevalue: ""
      required: false
    GREETING:
      defaultvalue: a b
      name: GREETING
      presencevalue: ""
      required: false
    "N":
      defaultvalue: "2"
      name: "N"
      presencevalue: ""
      required: false
    PORT:
      defaultvalue: "8080"
      name: PORT
      presencevalue: ""
      required: false
    REQ:
      defaultvalue: ""
      name: REQ
      presencevalue: ""
      required: true
    TAG:
      defaultvalue: "1.25"
      name: TAG
      presencevalue: ""
      required: false
    "#);
}

#[test]
fn json_is_what_docker_compose_prints() {
    let shown = with_options(&["config", "--format", "json", "db"]);
    assert_snapshot!(shown, @r#"
    exit 0
    --- stdout
    {
      "name": "demo",
      "networks": {
        "default": {
          "ipam": {},
          "name": "demo_default"
        }
      },
      "services": {
        "db": {
          "command": null,
          "container_name": "req",
          "entrypoint": null,
          "image": "postgres:16",
          "networks": {
            "default": null
          }
        }
      }
    }
    "#);
    let doubled = with_options(&["config", "--format", "json"]);
    assert!(doubled.contains("\"$$HOME\""), "{doubled}");
}

#[test]
fn hashes_are_stable_and_of_what_containers_are_compared_by() {
    let hash = |text: &str, asked: &str| with_file(text, &["config", "--hash", asked]);
    let one = "services: {a: {image: x, command: c}, b: {image: y}}\n";
    let both = hash(one, "*");
    assert_eq!(hash(one, "b,a"), both);
    let lines: Vec<&str> = both.lines().skip(2).collect();
    assert_eq!(lines.len(), 2);
    assert!(
        lines
            .iter()
            .zip(["a ", "b "])
            .all(|(line, name)| line.starts_with(name) && line.len() == 2 + 64),
        "{both}"
    );
    // How many, and in which order, is nothing of a container's.
    let same =
        "services: {b: {image: y, scale: 3}, a: {command: [c], image: x, depends_on: [b]}}\n";
    assert_eq!(hash(same, "*"), both);
    assert_ne!(
        hash(
            "services: {a: {image: x, command: d}, b: {image: y}}\n",
            "*"
        ),
        both
    );
    assert_snapshot!(hash(one, "nosuch"), @r"
    exit 1
    --- stderr
    error: no such service: nosuch
    ");
}

#[test]
fn origins_are_shown_beside_the_values() {
    assert_snapshot!(with_options(&["config", "--origin", "db"]), @r"
    exit 0
    --- stdout
    name: demo               # name of the directory
    services:
      db:
        container_name: req  # compose.yaml:14:21, REQ from environment
        image: postgres:16   # compose.yaml:13:12
        networks:
          default: null      # default, for compose.yaml:12:3
    networks:
      default:
        name: demo_default   # default, for compose.yaml:12:3
    ");
    assert_snapshot!(with_options(&["config", "--origin", "--format", "json", "db"]), @r#"
    exit 0
    --- stdout
    {
      "/name": {
        "kind": "directory",
        "value": "demo"
      },
      "/networks/default/name": {
        "kind": "default",
        "place": {
          "column": 3,
          "line": 12,
          "path": "compose.yaml"
        },
        "value": "demo_default"
      },
      "/services/db/container_name": {
        "kind": "file",
        "place": {
          "column": 21,
          "line": 14,
          "path": "compose.yaml"
        },
        "value": "req",
        "variables": [
          {
            "at": {
              "column": 21,
              "line": 14,
              "path": "compose.yaml"
            },
            "name": "REQ",
            "source": "environment"
          }
        ]
      },
      "/services/db/image": {
        "kind": "file",
        "place": {
          "column": 12,
          "line": 13,
          "path": "compose.yaml"
        },
        "value": "postgres:16"
      },
      "/services/db/networks/default": {
        "kind": "default",
        "place": {
          "column": 3,
          "line": 12,
          "path": "compose.yaml"
        },
        "value": null
      }
    }
    "#);
}

#[test]
fn the_schema_is_json_and_needs_no_file() {
    let shown = run(&["config", "--schema"]);
    let text = shown.strip_prefix("exit 0\n--- stdout\n").unwrap();
    let schema: serde_json::Value = serde_json::from_str(text).unwrap();
    assert_eq!(
        schema.get("$schema").and_then(serde_json::Value::as_str),
        Some("https://json-schema.org/draft/2020-12/schema")
    );
}

#[test]
fn convert_is_config() {
    assert_eq!(
        with_file(THREE, &["convert", "--services"]),
        with_file(THREE, &["config", "--services"])
    );
}

#[test]
fn an_image_whose_registry_does_not_answer_is_named() {
    let text = "services: {a: {image: \"localhost:1/x:2\"}}\n";
    let shown = with_file(text, &["config", "--lock-image-digests"]);
    let first = shown.lines().nth(2).unwrap_or_default();
    assert!(
        shown.starts_with("exit 1\n--- stderr\n") && first.contains("localhost:1/x:2"),
        "{shown}"
    );
}

/// A project whose services are named alike, one of which has an env file that is not there.
const ALIKE: &str = "\
services:
  web-1: {image: x, depends_on: [base]}
  web-2: {image: x}
  base: {image: x}
  other: {image: x, env_file: missing.env}
";

#[test]
fn services_can_be_named_by_a_pattern() {
    assert_snapshot!(with_file(ALIKE, &["config", "--services", "web-[12]"]), @r"
    exit 0
    --- stdout
    base
    web-1
    web-2
    ");
    assert_snapshot!(with_file(ALIKE, &["config", "--services", "*-3"]), @r"
    exit 1
    --- stderr
    error: no such service: *-3
    ");
}

#[test]
fn only_the_env_files_of_selected_services_are_read() {
    let missing = "--- stderr\nerror: env file missing.env not found\n";
    for (arguments, is_missing) in [
        (&["config", "-q", "web-1"][..], false),
        (&["config", "-q", "web-*", "base"][..], false),
        (&["config", "-q", "other"][..], true),
        (&["config", "-q"][..], true),
        (&["config", "-q", "--no-env-resolution"][..], false),
    ] {
        let shown = with_file(ALIKE, arguments);
        assert_eq!(
            shown.contains(missing),
            is_missing,
            "{arguments:?}: {shown}"
        );
        assert_eq!(shown == "exit 0\n", !is_missing, "{arguments:?}: {shown}");
    }
}

#[test]
fn files_come_from_pipes_too() {
    let directory = tempfile::tempdir().unwrap();
    let mut shell = stack(directory.path(), &[]);
    let stack = shell.get_program().to_owned();
    shell = crate::command::program("bash", directory.path());
    shell.arg("-c").arg(
        "set -e
         printf 'services: {a: {image: x}}' >one.yaml
         \"$0\" -p p -f <(cat one.yaml) -f <(echo 'services: {b: {image: y}}') config --services
         cat one.yaml | \"$0\" -p p -f /dev/stdin config --services
         mkfifo pipe
         cat one.yaml >pipe &
         \"$0\" -p p -f pipe config --services",
    );
    shell.arg(stack);
    assert_eq!(shown(&mut shell), "exit 0\n--- stdout\na\nb\na\na\n");
}

#[test]
fn an_output_file_may_be_a_device_a_pipe_or_a_link() {
    let directory = tempfile::tempdir().unwrap();
    let mut shell = stack(directory.path(), &[]);
    let stack = shell.get_program().to_owned();
    shell = crate::command::program("bash", directory.path());
    // Each line of the output is what one of them wrote first, and what it is afterwards.
    shell.arg("-c").arg(
        "set -e
         umask 027
         printf 'name: p\\nservices: {a: {image: x}}' >compose.yaml
         config() { \"$0\" config -o \"$1\"; }
         first() { head -n 1 \"$1\"; stat -c '%F %a' \"$1\"; }
         echo new; config new; first new
         echo kept; touch kept; chmod 640 kept; chown 1:2 kept; config kept; first kept; stat -c %u:%g kept
         echo link; echo old >there; ln -s there link; config link; first there; stat -c %F link
         echo dangling; mkdir d; ln -s d/none dangling; config dangling; first d/none; stat -c %F dangling
         echo fifo; mkfifo fifo; head -n 1 <fifo & config fifo; wait; stat -c %F fifo
         echo pipe; config /dev/stdout | head -n 1
         echo error; config /dev/stderr 2>&1 >/dev/null | head -n 1
         echo file; { echo before; config /dev/stdout; echo after; } >file; sed -n '1,2p;$p' file
         echo other; config /dev/fd/3 3>other; first other
         echo substitution; config >(head -n 1 >seen); timeout 60 sh -c 'until [ -s seen ]; do :; done'; cat seen
         echo null; config /dev/null; stat -c %F /dev/null
         echo loop; ln -s loop loop; config loop 2>&1 || true
         echo remains; for n in 0 1 2; do ln -s /dev/null .new.$$.$n.tmp; done; exec 4<new
         config new; first new; ls -A | grep -c 'tmp$'",
    );
    shell.arg(stack);
    let expected = "exit 0\n--- stdout\n\
         new\nname: p\nregular file 640\n\
         kept\nname: p\nregular file 640\n1:2\n\
         link\nname: p\nregular file 640\nsymbolic link\n\
         dangling\nname: p\nregular file 640\nsymbolic link\n\
         fifo\nname: p\nfifo\n\
         pipe\nname: p\n\
         error\nname: p\n\
         file\nbefore\nname: p\nafter\n\
         other\nname: p\nregular file 640\n\
         substitution\nname: p\n\
         null\ncharacter special file\n\
         loop\nerror: write `loop`: Too many levels of symbolic links\n\
         remains\nname: p\nregular file 640\n3\n";
    assert_eq!(shown(&mut shell), expected);
}

#[test]
fn a_linked_directory_keeps_its_name() {
    let directory = tempfile::tempdir().unwrap();
    let (real, link) = (directory.path().join("real"), directory.path().join("link"));
    fs_err::create_dir(&real).unwrap();
    write(
        &real.join("compose.yaml"),
        "services: {a: {image: x, volumes: ['./d:/d']}}",
    );
    fs_err::os::unix::fs::symlink("real", &link).unwrap();
    let name = |pwd: &Path| {
        let mut command = stack(&real, &["config", "--format", "json"]);
        command.env("PWD", pwd);
        let project: serde_json::Value =
            serde_json::from_slice(&command.output().unwrap().stdout).unwrap();
        let source = project["services"]["a"]["volumes"][0]["source"]
            .as_str()
            .unwrap();
        let source = Path::new(source).strip_prefix(directory.path()).unwrap();
        format!("{} {}", project["name"].as_str().unwrap(), source.display())
    };
    assert_eq!(name(&link), "link link/d");
    // What is not true, or goes a way about, is nobody's name.
    assert_eq!(name(&real), "real real/d");
    assert_eq!(name(directory.path()), "real real/d");
    assert_eq!(name(&link.join("../link")), "real real/d");
}

#[test]
fn every_digest_that_cannot_be_had_is_told_of() {
    // Nothing listens at port 1.
    let text = "services:\n  a: {image: '127.0.0.1:1/a'}\n  b: {image: '127.0.0.1:1/b:2'}\n  c: {image: BAD}\n";
    let shown = with_file(text, &["config", "--resolve-image-digests"]);
    assert!(shown.starts_with("exit 1\n"), "{shown}");
    let errors = shown.lines().filter(|line| line.starts_with("error: "));
    assert_eq!(errors.count(), 3, "{shown}");
    for subject in ["127.0.0.1:1/a", "127.0.0.1:1/b", "BAD"] {
        assert!(shown.contains(subject), "{subject}: {shown}");
    }
}
