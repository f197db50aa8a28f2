//! Inputs that are meant to hurt.

use std::fmt::Write as _;

use proptest::prelude::*;

use super::support::{Files, load_text, options, said};
use stack::spec::{load, render};

#[test]
fn bombs_are_refused_at_once() {
    let mut laughs = String::from("x-a0: &a0 [x,x,x,x,x,x,x,x,x]\n");
    for level in 1..10 {
        let alias = format!("*a{}", level - 1);
        writeln!(
            laughs,
            "x-a{level}: &a{level} [{}]",
            vec![alias; 9].join(",")
        )
        .unwrap();
    }
    assert!(said(&load_text(&laughs)).contains("document contains excessive aliasing"));
    let deep = "[".repeat(100_000);
    assert!(said(&load_text(&deep)).contains("nested too deep"));
    let block = (0..1100).fold(String::new(), |text, depth| {
        text + &" ".repeat(depth) + "a:\n"
    });
    assert!(said(&load_text(&block)).contains("nested too deep"));
    let template = format!(
        "services: {{a: {{image: '{}{}'}}}}",
        "${A:-".repeat(5000),
        "}".repeat(5000)
    );
    assert!(said(&load_text(&template)).contains("nested too deep"));
}

#[test]
fn a_long_chain_of_dependencies_is_no_danger() {
    let mut text = String::from("services:\n  s0: {image: x}\n");
    for index in 1..5000 {
        writeln!(
            text,
            "  s{index}: {{image: x, depends_on: [s{}]}}",
            index - 1
        )
        .unwrap();
    }
    assert_eq!(load_text(&text).unwrap().stack.services.len(), 5000);
    let extending = text
        .replace("depends_on: [", "extends: ")
        .replace("]}", "}");
    assert!(said(&load_text(&extending)).contains("extends nested too deep"));
    let errors = text.replace("image: x", "tty: x");
    assert!(said(&load_text(&errors)).ends_with("further problems are not shown\n"));
}

#[test]
fn line_ends_marks_and_missing_newlines_change_nothing() {
    let text = "services:\n  a:\n    image: x\n    command: |\n      echo a\n      echo b\n";
    let plain = render::render_json(&load_text(text).unwrap().stack);
    for variant in [format!("\u{feff}{text}"), text.replace('\n', "\r\n")] {
        assert_eq!(
            render::render_json(&load_text(&variant).unwrap().stack),
            plain,
            "{variant:?}"
        );
    }
    let last_line = load_text("services: {a: {image: x}}\nx-a: |\n  b").unwrap();
    assert_eq!(render::render_json(&last_line.stack)["x-a"], "b");
}

#[test]
fn what_go_yaml_reads_is_read() {
    let plain = render::render_json(&load_text("services: {a: {image: x}}").unwrap().stack);
    let utf16 = |bytes: fn(u16) -> [u8; 2]| -> Vec<u8> {
        let text = "\u{feff}services: {a: {image: x}}\n";
        text.encode_utf16().flat_map(bytes).collect()
    };
    let texts = [
        utf16(u16::to_le_bytes),
        utf16(u16::to_be_bytes),
        b"services:\r  a:\r    image: x\r".to_vec(),
        b"%YAML 1.1\n---\nservices: {a: {image: x}}\n...\n".to_vec(),
        b"services: {a: {image: !!binary eA==}}".to_vec(),
        b"services: {a: {image: !mine x}}".to_vec(),
        b"services: {a: {image: &i y}}\n---\nservices: {a: {image: &i x}}\n---\nservices: {a: {image: *i}}".to_vec(),
    ];
    for text in texts {
        let mut files = Files::default();
        files
            .0
            .insert("/work/app/compose.yaml".into(), text.clone());
        let loaded = load(&options(), &files);
        assert_eq!(said(&loaded), "", "{text:?}");
        assert_eq!(
            render::render_json(&loaded.unwrap().stack),
            plain,
            "{text:?}"
        );
    }
    let deep = format!("x-a: {}1{}\n{}", "[".repeat(990), "]".repeat(990), SAMPLE);
    assert_eq!(said(&load_text(&deep)), "");
}

#[test]
fn what_go_yaml_refuses_is_refused_with_a_place() {
    let rows = [
        (
            "services: {a: {image: x, labels: {2001-01-01: x}}}",
            "1:35: error: non-string key in services.a.labels: 2001-01-01",
        ),
        (
            "services: {a: {image: x, labels: {[a]: x}}}",
            "1:35: error: a key must be a string",
        ),
        (
            "services: {a: {image: x, labels: {k: !!int abc}}}",
            "1:38: error: failed to parse YAML: cannot decode !!str `abc` as a !!int",
        ),
        (
            "services: {a: {image: x, labels: {k: !!binary x!}}}",
            "1:38: error: failed to parse YAML: !!binary value contains invalid base64 data",
        ),
        (
            "services: {a: {image: x, image: y}}",
            "1:26: error: mapping key \"image\" already defined",
        ),
        (
            "services: {a: {image: x, <<: 3}}",
            "1:30: error: map merge requires map or sequence of maps as the value",
        ),
        (
            "services:\n\ta: {image: x}",
            "2:1: error: failed to parse YAML",
        ),
        (
            "%YAML 1.3\n---\nservices: {}",
            "1:1: error: failed to parse YAML: found incompatible YAML document",
        ),
        (
            "services: {a: {image: \u{0}x}}",
            "1:23: error: failed to parse YAML: control character U+0000 is not allowed",
        ),
        (
            "~\n---\nservices: {}",
            "1:1: error: top-level object must be a mapping",
        ),
    ];
    for (text, expected) in rows {
        let shown = said(&load_text(text));
        assert!(
            shown.starts_with(&format!("compose.yaml:{expected}")),
            "{text}: {shown}"
        );
    }
}

/// A file with something of everything.
const SAMPLE: &str = r#"
name: demo
x-base: &base
  image: "nginx:${TAG:-1.2}"
  environment: [A=1, B]
services:
  web:
    <<: *base
    build: {context: ., args: {X: null}}
    command: sh -c 'echo "hi"'
    ports: ["8080:80/udp", 9000-9002, {target: 1, published: "2"}]
    volumes: [./a:/b:ro, data:/d, {type: tmpfs, target: /t, tmpfs: {size: 1m, mode: 0o1777}}]
    networks: {front: {aliases: [w], ipv4_address: 10.0.0.2}}
    depends_on: {db: {condition: service_healthy}}
    healthcheck: {test: curl x, interval: 1m30s, retries: 3}
    deploy: {replicas: 2, resources: {limits: {cpus: "0.5", memory: 1g}}}
    secrets: [s, {source: s, target: t, mode: 0440}]
    ulimits: {nofile: {soft: 1, hard: 2}, nproc: 3}
    extra_hosts: ["a:1.2.3.4", "b=[::1]"]
    develop: {watch: [{action: sync, path: src, target: /src}]}
  db: {image: !override x, command: !reset null, environment: {A: true, B: 1.50, C: , D: 0644}}
networks: {front: {ipam: {config: [{subnet: 10.0.0.0/24}]}}}
volumes: {data: }
secrets: {s: {file: ~/s}}
"#;

#[test]
fn the_sample_loads() {
    assert_eq!(said(&load_text(SAMPLE)), "");
}

/// This many cases, or as many as `PROPTEST_CASES` wants (`make fuzz`).
fn at_least(cases: u32) -> ProptestConfig {
    let default = ProptestConfig::default();
    ProptestConfig {
        cases: default.cases.max(cases),
        ..default
    }
}

proptest! {
    #![proptest_config(at_least(400))]

    #[test]
    fn no_mutation_panics(edits in prop::collection::vec((any::<prop::sample::Index>(), 0..4_u8, "[\\PC\n\t]{0,3}"), 1..6)) {
        let mut text: Vec<char> = SAMPLE.chars().collect();
        for (at, kind, piece) in edits {
            let at = at.index(text.len() + 1);
            let end = (at + 1 + piece.len()).min(text.len());
            match kind {
                0 => drop(text.splice(at..at, piece.chars())),
                1 => drop(text.splice(at..end, piece.chars())),
                2 => drop(text.drain(at..end)),
                _ => text.truncate(at.max(1)),
            }
        }
        let text: String = text.into_iter().collect();
        if let Ok(loaded) = load_text(&text) {
            drop(render::render_yaml(&loaded.stack));
        }
    }

    #[test]
    fn no_structure_panics(text in "([a-z<&*!|>\"'{}\\[\\]:,# $?\n-]|\\$\\{|: |\n  |- |services|web|image|!!str|&a |\\*a|<<: ){0,60}") {
        drop(said(&load_text(&text)));
    }

    #[test]
    fn what_is_written_is_read_back(value in "\\PC{0,20}|[ \\n:#'\"\\-0-9a-z]{0,12}", extra in "[\\n\\t a-z]{0,6}") {
        let text = format!("{value}{extra}");
        let quoted = serde_json::to_string(&text.replace('$', "$$")).unwrap();
        let source = format!("services: {{a: {{image: x, labels: {{k: {quoted}}}}}}}\n");
        if let Ok(loaded) = load_text(&source) {
            let yaml = render::render_yaml(&loaded.stack);
            let again = load_text(&yaml);
            prop_assert!(again.is_ok(), "{}\n{}", yaml, said(&again));
            let model = |loaded: &stack::spec::Loaded| loaded.stack.services.values().next().unwrap().labels.clone();
            prop_assert_eq!(model(&loaded), model(&again.unwrap()));
            let independent: serde_yaml::Value = serde_yaml::from_str(&yaml).unwrap();
            let label = independent["services"]["a"]["labels"]["k"].as_str().map(|label| label.replace("$$", "$"));
            prop_assert_eq!(label, Some(text));
        }
    }
}
