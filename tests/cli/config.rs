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
        command: null
        entrypoint: null
        image: postgres:16
        networks:
          back: null
      web:
        command: null
        depends_on:
          db:
            condition: service_started
            required: true
        entrypoint: null
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
        ipam: {}
        name: demo_back
      default:
        ipam: {}
        name: demo_default
      front:
        ipam: {}
        name: demo_front
      spare:
        ipam: {}
        name: demo_spare
    volumes:
      data:
        name: demo_data
      other:
        name: demo_other
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
        command: null
        entrypoint: null
        image: postgres:16
        networks:
          back: null
    networks:
      back:
        ipam: {}
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
