//! The JSON schema against a validator of others (Python's `jsonschema`), and against what loads.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use stack::spec::json_schema;

use super::round_trip::compose_files;
use super::support::{load_text, said};

/// Reads `{"schema": …, "documents": […]}` and prints for each document `true`, or what is wrong with it.
const VALIDATOR: &str = "
import json, sys
from jsonschema import Draft202012Validator
asked = json.load(sys.stdin)
Draft202012Validator.check_schema(asked['schema'])
validator = Draft202012Validator(asked['schema'])
def verdict(document):
    wrong = [f'{error.json_path}: {error.message[:200]}' for error in validator.iter_errors(document)]
    return wrong[0] if wrong else True
print(json.dumps([verdict(document) for document in asked['documents']]))
";

/// Returns for each document `true` or what is wrong with it; `None` where there is no validator.
#[expect(
    clippy::disallowed_methods,
    reason = "the validator is a program of its own"
)]
fn validate(documents: &[Value]) -> Option<Vec<Value>> {
    let mut python = Command::new("python3");
    python
        .args(["-c", "import jsonschema"])
        .stderr(Stdio::null());
    if !python.status().is_ok_and(|status| status.success()) {
        println!("skipped: there is no Python with jsonschema");
        return None;
    }
    let mut child = Command::new("python3")
        .args(["-c", VALIDATOR])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let asked = json!({ "schema": json_schema::schema(), "documents": documents });
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(asked.to_string().as_bytes()).unwrap();
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "the validator failed");
    Some(serde_json::from_slice(&output.stdout).unwrap())
}

/// Reads YAML with merge keys, tags left out.
fn read(text: &str) -> Option<Value> {
    let text = text.replace("!reset", "").replace("!override", "");
    let mut value: serde_yaml::Value = serde_yaml::from_str(&text).ok()?;
    value.apply_merge().ok()?;
    serde_json::to_value(value).ok()
}

#[test]
fn files_that_load_are_valid() {
    let project = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    compose_files(&project.join("examples"), &mut files);
    compose_files(
        &project.join("../shared/conformance/config/trees"),
        &mut files,
    );
    let read = files.iter().filter_map(|file| {
        let text = std::fs::read_to_string(file).unwrap();
        Some((file, read(&text)?))
    });
    let (files, documents): (Vec<_>, Vec<Value>) = read.unzip();
    let Some(verdicts) = validate(&documents) else {
        return;
    };
    let wrong: Vec<String> = files
        .iter()
        .zip(&verdicts)
        .filter(|(_, verdict)| **verdict != Value::Bool(true))
        .map(|(file, verdict)| format!("{}: {verdict}", file.display()))
        .filter(|line| !REFUSED.iter().any(|refused| line.contains(refused)))
        .collect();
    println!("{} files", files.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Files that no loader takes, or not whole: only services of the first are extended from.
const REFUSED: [&str; 1] = ["loader/extends/base.yaml: \"$.services.nil: None"];

/// One service's attributes, and whether the schema takes them. What loads alone must be taken.
const ROWS: &[(&str, bool)] = &[
    ("image: a", true),
    ("image: 5", false),
    ("imgae: a", false),
    ("x-anything: [1, {a: b}]", true),
    ("build: .", true),
    ("build: {context: ., args: [A=b], dockerfile: x}", true),
    ("build: {contxt: .}", false),
    ("build: [a]", false),
    ("command: null", true),
    ("command: [a, b]", true),
    ("command: {a: b}", false),
    (
        "ports: [80, \"8080:80/tcp\", {target: 80, published: 8080}, \"${PORT}:80\"]",
        true,
    ),
    ("ports: [{published: 80}]", false),
    ("ports: [{target: 80, frotz: 1}]", false),
    ("ports: \"80:80\"", false),
    (
        "volumes: [\"./a:/b\", {type: bind, source: ./a, target: /b}]",
        true,
    ),
    ("volumes: [{source: ./a, target: /b}]", false),
    ("environment: {A: 1, B: true, C: null, D: x}", true),
    ("environment: [A=1, B]", true),
    ("environment: {A: [x]}", false),
    ("depends_on: [b]", true),
    ("depends_on: {b: {condition: service_healthy}}", true),
    ("depends_on: {b: {condition: service_well}}", false),
    ("depends_on: {b: {restart: true}}", false),
    ("healthcheck: {test: x, interval: 1m30s, retries: 3}", true),
    ("healthcheck: {interval: fast}", false),
    ("healthcheck: {interval: 30}", false),
    ("healthcheck: {interval: \"${EVERY}\"}", true),
    ("mem_limit: 512m", true),
    ("mem_limit: 1.5 gb", true),
    ("mem_limit: big", false),
    ("cpus: 0.5", true),
    ("cpus: \"0.5\"", true),
    ("cpus: -1", false),
    ("scale: 2", true),
    ("scale: -2", false),
    ("scale: \"${N:-2}\"", true),
    ("tty: true", true),
    ("tty: \"true\"", true),
    ("tty: \"yes\"", true),
    ("tty: perhaps", false),
    ("tty: 1", false),
    ("ulimits: {nofile: 10, core: {soft: 1, hard: 2}}", true),
    ("ulimits: {nofile: {soft: 1}}", false),
    ("extra_hosts: [\"a=1.2.3.4\"]", true),
    ("extra_hosts: {a: 1.2.3.4, b: [1.2.3.4]}", true),
    ("env_file: a.env", true),
    ("env_file: [a.env, {path: b.env, required: false}]", true),
    ("env_file: [{required: false}]", false),
    ("networks: [a]", true),
    ("networks: {a: null, b: {aliases: [x]}}", true),
    ("networks: {a: {alias: [x]}}", false),
    ("secrets: [a, {source: b, mode: 0440}]", true),
    ("restart: no", true),
    ("restart: 5", false),
    ("develop: {watch: [{path: ., action: rebuild}]}", true),
    ("develop: {watch: [{path: .}]}", false),
    ("develop: {watch: [{path: ., action: jump}]}", false),
];

#[test]
fn attributes_are_valid_where_they_load() {
    let documents: Vec<Value> = ROWS
        .iter()
        .map(|(attribute, _)| read(&format!("services: {{s: {{{attribute}}}}}")).unwrap())
        .collect();
    let Some(verdicts) = validate(&documents) else {
        return;
    };
    for ((attribute, expected), verdict) in ROWS.iter().zip(verdicts) {
        assert_eq!(
            verdict == Value::Bool(true),
            *expected,
            "{attribute}: {verdict}"
        );
        // What names nothing that is there is only found by loading; a key or a form that is wrong is found by both.
        let said = said(&load_text(&format!("services: {{s: {{{attribute}}}}}\n")));
        let is_form = said.contains("must be")
            || said.contains("additional properties")
            || said.contains("missing property")
            || said.contains("invalid size")
            || said.contains("invalid duration `fast`");
        assert_eq!(!is_form, *expected, "{attribute}: {said}");
    }
}

#[test]
fn whole_files() {
    let rows = [
        ("services: {}", true),
        ("servces: {}", false),
        ("services: []", false),
        ("services: {\"a b\": {image: x}}", false),
        ("services: {x-a: {image: x}}", true),
        ("include: [a.yaml, {path: [b.yaml], env_file: c}]", true),
        ("include: [{env_file: c}]", false),
        (
            "networks: {a: null, b: {driver: bridge, ipam: {config: [{subnet: 10.0.0.0/8}]}}}",
            true,
        ),
        ("networks: {a: {drivr: bridge}}", false),
        ("volumes: {a: , b: {external: true}}", true),
        ("configs: {a: {content: x}}", true),
        ("secrets: {a: {file: ./x, extra: 1}}", false),
        ("x-top: 1", true),
        ("name: a", true),
        ("name: [a]", false),
        ("version: \"3\"", true),
    ];
    let documents: Vec<Value> = rows.iter().map(|(text, _)| read(text).unwrap()).collect();
    let Some(verdicts) = validate(&documents) else {
        return;
    };
    for ((text, expected), verdict) in rows.iter().zip(verdicts) {
        assert_eq!(verdict == Value::Bool(true), *expected, "{text}: {verdict}");
    }
}
