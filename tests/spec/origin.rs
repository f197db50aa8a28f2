//! `config --origin`: where each value came from.

use super::support::{Files, options, yaml as yaml_or_errors};
use serde_json::json;
use stack::spec::{LoadOptions, Loaded, load, origin, render};

fn loaded(options: &LoadOptions, files: &Files) -> Loaded {
    let result = load(options, files);
    assert!(result.is_ok(), "{}", yaml_or_errors(&result));
    result.unwrap()
}

/// The commented YAML.
fn commented(options: &LoadOptions, files: &Files) -> String {
    let loaded = loaded(options, files);
    let project = render::without_absences(render::render_json(&loaded.stack));
    let leaves = origin::explain(&loaded, &project);
    let text = render::to_yaml(&project, render::Dollars::Doubled);
    origin::yaml(&text, &leaves, &loaded.sources)
}

/// The comments of the lines beneath `services:`, without the gap before them.
fn services(options: &LoadOptions, files: &Files) -> String {
    let text = commented(options, files);
    let start = text.find("services:\n").unwrap() + "services:\n".len();
    let lines = text[start..]
        .lines()
        .take_while(|line| line.starts_with(' '));
    let squeeze = |line: &str| match line.split_once(" # ") {
        Some((value, comment)) => format!("{} # {comment}", value.trim_end()),
        None => line.to_owned(),
    };
    lines.map(|line| squeeze(line) + "\n").collect()
}

fn environment(pairs: &[(&str, &str)]) -> LoadOptions {
    let pairs = pairs
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    LoadOptions {
        environment: pairs
            .chain([("HOME".to_owned(), "/root".to_owned())])
            .collect(),
        ..options()
    }
}

#[test]
fn every_source_of_a_variable_is_told() {
    let files = Files::new([
        (
            "compose.yaml",
            "services:\n  web:\n    image: ${SHELL}-${DOT}-${GIVEN:-${INNER-x}}${ON:+alt}\n    hostname: $$plain\n    domainname: a${NONE-}b\n    network_mode: none\n",
        ),
        (".env", "# c\nDOT=dot\nON=1\nSHELL=hidden\n"),
    ]);
    assert_eq!(
        services(&environment(&[("SHELL", "sh")]), &files),
        "  web:
    domainname: ab # compose.yaml:5:17, NONE by default
    hostname: $$plain # compose.yaml:4:15
    image: sh-dot-xalt # compose.yaml:3:12, SHELL from environment, DOT from .env:2:1, GIVEN by default, INNER by default, ON is set
    network_mode: none # compose.yaml:6:19
"
    );
    let given = LoadOptions {
        env_files: vec!["a.env".into(), "b.env".into()],
        ..options()
    };
    let files = Files::new([
        (
            "compose.yaml",
            "services: {web: {image: \"${A}-${B}\", network_mode: none}}\n",
        ),
        ("a.env", "A=1\nB=1\n"),
        ("b.env", "\nB=2\n"),
        (".env", "A=no\n"),
    ]);
    assert_eq!(
        services(&given, &files),
        "  web:
    image: 1-2 # compose.yaml:1:25, A from --env-file a.env:1:1, B from --env-file b.env:2:1
    network_mode: none # compose.yaml:1:52
"
    );
}

#[test]
fn a_value_is_followed_through_files_and_services() {
    let files = Files::new([
        (
            "compose.yaml",
            "include: [sub/compose.yaml]
x-common: &common
  restart: always
services:
  base:
    image: base
    network_mode: none
  web:
    <<: *common
    extends: base
    hostname: web
  far:
    extends: {file: far.yaml, service: f}
",
        ),
        (
            "compose.override.yaml",
            "services:\n  web:\n    hostname: over\n",
        ),
        (
            "far.yaml",
            "services:\n  f:\n    image: far:${TAG}\n    network_mode: none\n",
        ),
        (
            "sub/compose.yaml",
            "services:\n  inner:\n    image: inner:${TAG}${VER}\n    network_mode: none\n",
        ),
        ("sub/.env", "VER=2\nTAG=no\n"),
        (".env", "TAG=1\n"),
    ]);
    assert_eq!(
        services(&options(), &files),
        "  base:
    image: base # compose.yaml:6:12
    network_mode: none # compose.yaml:7:19
  far:
    image: far:1 # far.yaml:3:12 (services.f), TAG from .env:1:1, extended at compose.yaml:13:21
    network_mode: none # far.yaml:4:19 (services.f), extended at compose.yaml:13:21
  inner:
    image: inner:12 # sub/compose.yaml:3:12, TAG from .env:1:1, VER from sub/.env:1:1, included at compose.yaml:1:11
    network_mode: none # sub/compose.yaml:4:19, included at compose.yaml:1:11
  web:
    hostname: over # compose.override.yaml:3:15, over compose.yaml:11:15
    image: base # compose.yaml:6:12 (services.base), extended at compose.yaml:10:14
    network_mode: none # compose.yaml:7:19 (services.base), extended at compose.yaml:10:14
    restart: always # compose.yaml:3:12 (x-common)
"
    );
}

#[test]
fn a_file_that_is_included_twice_sees_two_environments() {
    let files = Files::new([
        (
            "compose.yaml",
            "include:\n  - {path: [sub/c.yaml], env_file: a.env}\n  - {path: [sub/d.yaml, sub/c.yaml], env_file: b.env}\n",
        ),
        (
            "sub/c.yaml",
            "services: {\"c\": {image: \"c:${V}\", network_mode: none}}\n",
        ),
        (
            "sub/d.yaml",
            "services: {\"d\": {image: \"d:${V}\", network_mode: none}}\n",
        ),
        ("a.env", "V=1\n"),
        ("b.env", "V=2\n"),
    ]);
    let shown = services(&options(), &files);
    let images: Vec<&str> = shown
        .lines()
        .filter(|line| line.contains("image"))
        .collect();
    assert_eq!(
        images,
        [
            "    image: c:2 # sub/c.yaml:1:25, V from b.env:1:1, included at compose.yaml:2:13",
            "    image: d:2 # sub/d.yaml:1:25, V from b.env:1:1, included at compose.yaml:3:13",
        ]
    );
}

#[test]
fn short_forms_bare_variables_and_defaults() {
    let files = Files::new([
        (
            "compose.yaml",
            "services:
  web:
    build: ./ctx
    ports: [\"${IP}:${PORT:-8080}:80\"]
    environment: [FOO, \"BAR=${PORT-1}\", NONE]
    env_file: s.env
    command: run ${PORT-1} now
    depends_on: [db]
    healthcheck: {test: ok}
  db: {image: db, network_mode: none}
",
        ),
        ("s.env", "# c\nENV=1\n"),
    ]);
    assert_eq!(
        services(&environment(&[("FOO", "f"), ("IP", "127.0.0.1")]), &files),
        "  db:
    image: db # compose.yaml:10:15
    network_mode: none # compose.yaml:10:33
  web:
    build:
      context: /work/app/ctx # compose.yaml:3:12
      dockerfile: Dockerfile # default, for compose.yaml:3:12
    command:
      - run # compose.yaml:7:14
      - \"1\" # compose.yaml:7:14, PORT by default
      - now # compose.yaml:7:14
    depends_on:
      db:
        condition: service_started # default, for compose.yaml:8:18
        required: true # default, for compose.yaml:8:18
    env_file:
      - path: /work/app/s.env # compose.yaml:6:15
    environment:
      BAR: \"1\" # compose.yaml:5:24, PORT by default
      ENV: \"1\" # s.env:2:1
      FOO: f # compose.yaml:5:19, FOO from environment
      NONE: null # compose.yaml:5:41, NONE unset
    healthcheck:
      test:
        - CMD-SHELL # default, for compose.yaml:9:25
        - ok # compose.yaml:9:25
    networks:
      default: null # default, for compose.yaml:2:3
    ports:
      - host_ip: 127.0.0.1 # compose.yaml:4:13, IP from environment
        mode: ingress # default, for compose.yaml:4:13
        protocol: tcp # default, for compose.yaml:4:13
        published: \"8080\" # compose.yaml:4:13, PORT by default
        target: 80 # compose.yaml:4:13
"
    );
}

#[test]
fn the_projects_name_has_an_origin_too() {
    let file = |text| Files::new([("compose.yaml", text)]);
    let plain = "services: {a: {image: b, network_mode: none}}\n";
    let first = |options: &LoadOptions, files: &Files| {
        let text = commented(options, files);
        text.lines()
            .next()
            .unwrap()
            .split_once("# ")
            .unwrap()
            .1
            .to_owned()
    };
    assert_eq!(first(&options(), &file(plain)), "name of the directory");
    let named = format!("name: x\n{plain}");
    assert_eq!(first(&options(), &file(&named)), "compose.yaml:1:7");
    let option = LoadOptions {
        project_name: Some("p".to_owned()),
        ..options()
    };
    assert_eq!(first(&option, &file(&named)), "option -p");
    let variable = environment(&[("COMPOSE_PROJECT_NAME", "e")]);
    assert_eq!(
        first(&variable, &file(&named)),
        "COMPOSE_PROJECT_NAME from environment"
    );
}

#[test]
fn machines_get_every_leaf_by_its_pointer() {
    let files = Files::new([
        (
            "compose.yaml",
            "services: {w: {image: \"x:${T}\", labels: {a/b: c}, network_mode: none}}\n",
        ),
        (".env", "T=1\n"),
    ]);
    let loaded = loaded(&options(), &files);
    let project = render::without_absences(render::render_json(&loaded.stack));
    let leaves = origin::explain(&loaded, &project);
    let shown = origin::json(&leaves, &loaded.sources);
    let place =
        |path: &str, line: u32, column: u32| json!({"path": path, "line": line, "column": column});
    let expected = json!({
        "/name": {"value": "app", "kind": "directory"},
        "/services/w/image": {
            "value": "x:1",
            "kind": "file",
            "place": place("compose.yaml", 1, 23),
            "variables": [{
                "name": "T",
                "at": place("compose.yaml", 1, 26),
                "source": "dotenv",
                "place": place(".env", 1, 1),
            }],
        },
        "/services/w/labels/a~1b": {
            "value": "c",
            "kind": "file",
            "place": place("compose.yaml", 1, 47),
        },
        "/services/w/network_mode": {
            "value": "none",
            "kind": "file",
            "place": place("compose.yaml", 1, 65),
        },
    });
    assert_eq!(shown, expected);
}
