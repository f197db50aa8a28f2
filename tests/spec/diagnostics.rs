//! Every diagnostic, as it is shown.

use super::support::{Files, load_text, options, said};
use stack::spec::{LoadOptions, load};

/// What loading each text as `compose.yaml` says; services beneath `s:` are wrapped.
#[track_caller]
fn check(text: &str, expected: &str) {
    assert_eq!(
        said(&load_text(text)).trim_end(),
        expected.trim(),
        "\n{text}"
    );
}

#[test]
fn what_is_not_yaml_names_both_places() {
    check(
        "services:\n  web: [a\n",
        "compose.yaml:2:8: error: failed to parse YAML: did not find expected ',' or ']'\n  label: the text ends before what begins here does",
    );
    check(
        "services:\n  web:\n    image: \"x\n",
        "compose.yaml:3:12: error: failed to parse YAML: found unexpected end of stream\n  label: the text ends before what begins here does",
    );
    check(
        "services:\n  web: [\n\n# é\n",
        "compose.yaml:4:3: error: failed to parse YAML: did not find expected node content\n  label: the text ends after this",
    );
    check(
        "services:\n  web: [a}\n  db: {}\n",
        "compose.yaml:2:10: error: failed to parse YAML: did not find expected ',' or ']'\n  note: compose.yaml:2:8: while parsing a flow sequence",
    );
    check(
        "a: b: c\n",
        "compose.yaml:1:5: error: failed to parse YAML: mapping values are not allowed in this context",
    );
    check(
        "services:\n\tweb: {}\n",
        "compose.yaml:2:1: error: failed to parse YAML: found character that cannot start any token\n  note: compose.yaml:2:1: while scanning for the next token",
    );
    check(
        "a: \u{7}\n",
        "compose.yaml:1:4: error: failed to parse YAML: control character U+0007 is not allowed",
    );
    check(
        "x-a: [!!str, b]\n",
        "compose.yaml:1:7: error: failed to parse YAML: a tag must be followed by a space\n  hint: write a space between the tag and the comma",
    );
    check(
        "a: *none\nb: &non x\n",
        "compose.yaml:1:4: error: unknown anchor `none` referenced",
    );
    check(
        "x-a: &a\n  b: *a\n",
        "compose.yaml:2:6: error: cycle detected: anchor `a` contains itself\n  note: compose.yaml:1:6: the anchor",
    );
    check(
        "x-a: 1\n<<: 3\n",
        "compose.yaml:2:5: error: map merge requires map or sequence of maps as the value\n  label: this is a number",
    );
}

#[test]
fn keys_are_checked_as_they_are_read() {
    check(
        "services:\n  web:\n    image: a\n    image: b\n",
        "compose.yaml:4:5: error: mapping key \"image\" already defined\n  note: compose.yaml:3:5: first defined here",
    );
    check(
        "services:\n  web:\n    image: a\n    environment:\n      8080: x\n",
        "compose.yaml:5:7: error: non-string key in services.web.environment: 8080\n  hint: put it in quotes: \"8080\"",
    );
    check(
        "? [a, b]\n: c\nservices: {}\n",
        "compose.yaml:1:3: error: a key must be a string",
    );
}

#[test]
fn what_a_file_is_at_all() {
    check(
        "",
        "compose.yaml:1:1: error: empty compose file\n  hint: it needs at least `services:`",
    );
    check(
        "# nothing\n",
        "compose.yaml:1:1: error: empty compose file\n  hint: it needs at least `services:`",
    );
    check(
        "- a\n",
        "compose.yaml:1:1: error: top-level object must be a mapping\n  label: this is a list",
    );
    let mut files = Files::default();
    assert_eq!(
        said(&load(&options(), &files)),
        "error: no configuration file provided: not found\n  hint: write a compose.yaml in /work/app or in a directory above it, or name one with -f\n"
    );
    files
        .0
        .insert("/work/app/compose.yaml".into(), b"name: \xff\n".to_vec());
    assert_eq!(
        said(&load(&options(), &files)),
        "compose.yaml:1:7: error: invalid UTF-8\n  hint: save the file in the encoding UTF-8\n"
    );
    let missing = LoadOptions {
        files: vec!["sub/other.yaml".into()],
        env_files: vec!["no.env".into()],
        ..options()
    };
    assert_eq!(
        said(&load(&missing, &files)),
        "error: compose file sub/other.yaml not found\nerror: couldn't find env file: no.env\n"
    );
}

#[test]
fn all_errors_of_a_file_come_at_once_with_suggestions() {
    check(
        "
services:
  web:
    imgae: nginx
    prots: ['80:80']
    tty: maybe
    healthcheck: {intervall: 3s, retries: x, timeout: 5}
    ports: [a:b, {target: 0}, {published: 1}]
  db:
    image: 5
    depends_on: {web: {condition: service_helthy}}
volums: {}
",
        "
compose.yaml:4:5: error: services.web additional properties 'imgae' not allowed
  hint: did you mean `image`?
compose.yaml:5:5: error: services.web additional properties 'prots' not allowed
  hint: did you mean `ports`?
compose.yaml:6:10: error: services.web.tty must be a boolean
  label: this is a string
compose.yaml:7:19: error: services.web.healthcheck additional properties 'intervall' not allowed
  hint: did you mean `interval`?
compose.yaml:7:43: error: services.web.healthcheck.retries must be an integer
  label: this is a string
compose.yaml:7:55: error: services.web.healthcheck.timeout must be a string
  hint: write a number with a unit, such as 30s or 1m30s
compose.yaml:8:13: error: services.web.ports.0: invalid container port `b`: it must be a port up to 65535, or a range FIRST-LAST
compose.yaml:8:31: error: services.web.ports.2: missing property 'target'
compose.yaml:10:12: error: services.db.image must be a string
  label: this is a number
  hint: put it in quotes: \"5\"
compose.yaml:11:35: error: services.db.depends_on.web.condition must be one of service_started, service_healthy, service_completed_successfully
  hint: did you mean `service_healthy`?
compose.yaml:12:1: error: additional properties 'volums' not allowed
  hint: did you mean `volumes`?
",
    );
}

#[test]
fn every_key_of_the_schema_is_known() {
    let schema = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../shared/reference/compose-spec.schema.json");
    let Ok(schema) = std::fs::read_to_string(&schema) else {
        println!("skipped: there is no {}", schema.display());
        return;
    };
    let schema: serde_json::Value = serde_json::from_str(&schema).unwrap();
    let keys = |path: &str| -> Vec<String> {
        let object = schema
            .pointer(path)
            .and_then(|value| value.as_object())
            .unwrap();
        object.keys().cloned().collect()
    };
    let places = [
        ("", "/properties"),
        ("services.a.", "/$defs/service/properties"),
        (
            "services.a.build.",
            "/$defs/service/properties/build/oneOf/1/properties",
        ),
        ("services.a.healthcheck.", "/$defs/healthcheck/properties"),
        ("services.a.deploy.", "/$defs/deployment/properties"),
        ("networks.a.", "/$defs/network/properties"),
        ("volumes.a.", "/$defs/volume/properties"),
        ("secrets.a.", "/$defs/secret/properties"),
        ("configs.a.", "/$defs/config/properties"),
    ];
    for (prefix, path) in places {
        for key in keys(path) {
            let way: Vec<&str> = prefix.split_terminator('.').chain([&*key]).collect();
            let text = way
                .iter()
                .rev()
                .fold("1".to_owned(), |inner, key| format!("{{{key}: {inner}}}"));
            let said = said(&load_text(&text));
            assert!(
                !said.contains("additional properties"),
                "{prefix}{key}: {said}"
            );
        }
    }
}

#[test]
fn null_is_refused_where_something_must_be() {
    check(
        "services:\n  web:\n  db:\n    image:\n    ports:\n    command:\n    build: .\n    depends_on: {web: }\nnetworks:\n",
        "
compose.yaml:2:3: error: services.web must be a mapping
  label: nothing follows it
compose.yaml:4:5: error: services.db.image must be a string
  label: nothing follows it
compose.yaml:5:5: error: services.db.ports must be a list
  label: nothing follows it
compose.yaml:8:23: error: services.db.depends_on.web must be a mapping
  label: this is null
compose.yaml:9:1: error: networks must be a mapping
  label: nothing follows it
",
    );
}

#[test]
fn variables() {
    check(
        "services:\n  web:\n    image: a:$TAG\n    command: echo ${TAG} ${OTHER}\n    user: ${}\n    hostname: \"${MUST:?set it}\"\n    domainname: '$$X ${A:-b}'\n",
        "
compose.yaml:3:14: warning: the \"TAG\" variable is not set, defaulting to a blank string
  note: compose.yaml:4:19: and here
  hint: write $$TAG for a literal $TAG
compose.yaml:4:26: warning: the \"OTHER\" variable is not set, defaulting to a blank string
  hint: write $$OTHER for a literal $OTHER
compose.yaml:5:11: error: invalid interpolation format for services.web.user
  hint: you may need to escape any $ with another $
compose.yaml:6:16: error: error while interpolating services.web.hostname: required variable MUST is missing a value: set it
",
    );
}

#[test]
fn undefined_names() {
    check(
        "
services:
  web:
    image: x
    networks: [fornt]
    volumes: ['dta:/d', {type: volume, source: other, target: /o}]
    secrets: [a]
    configs: [{source: b, target: /b}]
    depends_on: [dbb]
  db:
    image: x
    network_mode: service:wbe
networks: {front: {}}
volumes: {data: {}}
",
        "
compose.yaml:5:16: error: service \"web\" refers to undefined network fornt: invalid compose project
  hint: did you mean `front`?
compose.yaml:6:15: error: service \"web\" refers to undefined volume dta: invalid compose project
  hint: did you mean `data`?
compose.yaml:6:48: error: service \"web\" refers to undefined volume other: invalid compose project
  hint: add `other:` beneath the top-level `volumes:`
compose.yaml:7:15: error: service \"web\" refers to undefined secret a: invalid compose project
  hint: add `a:` beneath the top-level `secrets:`
compose.yaml:8:24: error: service \"web\" refers to undefined config b: invalid compose project
  hint: add `b:` beneath the top-level `configs:`
compose.yaml:9:18: error: service \"web\" depends on undefined service \"dbb\": invalid compose project
  hint: did you mean `db`?
compose.yaml:12:19: error: service \"wbe\" not found for network_mode 'service:wbe'
  hint: did you mean `web`?
",
    );
}

#[test]
fn cycles_are_drawn() {
    check(
        "
services:
  a: {image: x, depends_on: [b]}
  b: {image: x, depends_on: [c]}
  c: {image: x, depends_on: [b]}
  d: {image: x, depends_on: [d]}
",
        "
compose.yaml:4:30: error: dependency cycle detected: b -> c -> b
  note: compose.yaml:5:30: `c` waits for this
compose.yaml:6:30: error: dependency cycle detected: d -> d
",
    );
}

#[test]
fn contradictions() {
    check(
        "
services:
  a:
    image: x
    container_name: one
    scale: 2
    cpus: 1
    mem_limit: 1g
    deploy: {replicas: 3, resources: {limits: {cpus: '2', memory: 1024m}}}
    build: {dockerfile: D, dockerfile_inline: FROM x}
    tmpfs: /t
    volumes: ['/t', 'rel']
    develop: {watch: [{action: sync, path: .}, {action: rebuild}]}
  b:
    image: x
    container_name: one
    restart: alway
    extra_hosts: [noip, '=1.2.3.4', 'h:1.2.3']
    dns: nope
    healthcheck: {test: [curl, x]}
    command: \"echo 'open\"
    entrypoint: a && b
secrets:
  s: {}
configs:
  c: {file: a, content: b}
networks:
  n: {external: true, internal: true, name: n}
  m: {ipam: {config: [{subnet: 10.0.0.0/8, gateway: 11.0.0.1}, {subnet: 10}]}}
",
        "
compose.yaml:5:21: error: services.a: can't set container_name and scale as container name must be unique
compose.yaml:6:12: error: services.a: can't set distinct values on 'scale' and 'deploy.replicas': invalid compose project
  note: compose.yaml:9:24: set to something else here
compose.yaml:7:11: error: services.a: can't set distinct values on 'cpus' and 'deploy.resources.limits.cpus': invalid compose project
  note: compose.yaml:9:54: set to something else here
compose.yaml:10:47: error: service \"a\" declares mutually exclusive dockerfile and dockerfile_inline: invalid compose project
  note: compose.yaml:10:25: a Dockerfile is given here
compose.yaml:12:15: error: services.a.volumes[0]: target /t already mounted as services.a.tmpfs[0]
  note: compose.yaml:11:12: mounted here
compose.yaml:13:23: error: services.a.develop.watch: target is required for non-rebuild actions
compose.yaml:13:48: error: services.a.develop.watch.1 missing property 'path'
compose.yaml:16:21: error: services.b: container name \"one\" is already in use by service a: invalid compose project
  note: compose.yaml:5:21: in use here
compose.yaml:18:19: error: services.b.extra_hosts.0: invalid additional host, missing IP: noip
compose.yaml:18:25: error: services.b.extra_hosts.1: bad host name ''
compose.yaml:20:26: error: healthcheck.test must start either by \"CMD\", \"CMD-SHELL\" or \"NONE\"
  hint: put \"CMD\" before it
compose.yaml:21:14: error: services.b.command: invalid command line string
  label: a quote or an escape is left open, or there is a bare parenthesis
  hint: write it as a list: [\"sh\", \"-c\", \"…\"]
compose.yaml:22:17: warning: services.b.entrypoint: `&& b` is dropped, as no shell reads this
  hint: write it as a list: [\"sh\", \"-c\", \"…\"]
compose.yaml:24:3: error: secrets.s: one of file|environment must be set
compose.yaml:26:25: error: configs.c: file|environment|content attributes are mutually exclusive
  note: compose.yaml:26:13: already given here
compose.yaml:29:73: error: networks.m.ipam.config.1.subnet must be a string
  label: this is a number
  hint: put it in quotes: \"10\"
",
    );
}

#[test]
fn a_disabled_dependency_names_its_profiles() {
    check(
        "services:\n  a: {image: x, depends_on: [b]}\n  b: {image: x, profiles: [p, q]}\n",
        "compose.yaml:2:30: error: service \"b\" is required by \"a\" but is disabled. Can be enabled by profiles [p q]\n  note: compose.yaml:3:3: disabled, as none of its profiles is active",
    );
}

#[test]
fn errors_across_files_name_each_file() {
    let files = Files::new([
        (
            "compose.yaml",
            "include: [inc.yaml, missing.yaml]\nservices:\n  a: {extends: {file: base.yaml, service: bas}}\n  b: {extends: {service: c}}\n  c: {extends: {service: b}}\n",
        ),
        (
            "inc.yaml",
            "include: [compose.yaml]\nservices: {i: {image: 1}}\n",
        ),
        ("base.yaml", "services: {base: {image: x}}\n"),
        (
            "compose.override.yaml",
            "services: {o: {image: x, env_file: [no.env, {path: opt.env, required: false}]}}\n",
        ),
        (".env", "A=1\nB%=2\n"),
    ]);
    assert_eq!(
        said(&load(&options(), &files)),
        "\
.env:2:2: error: failed to read .env: unexpected character \"%\" in variable name \"B%=2\"
compose.yaml:1:21: error: included file missing.yaml not found
compose.yaml:3:43: error: cannot extend service \"a\" in compose.yaml: service \"bas\" not found in base.yaml
  hint: did you mean `base`?
compose.yaml:4:26: error: circular reference: b in compose.yaml extends c in compose.yaml extends b in compose.yaml
  note: compose.yaml:5:26: `c` extends this
compose.override.yaml:1:37: error: env file no.env not found
inc.yaml:1:11: error: include cycle detected: compose.yaml -> inc.yaml -> compose.yaml
  note: compose.yaml:1:11: included from compose.yaml
inc.yaml:2:23: error: services.i.image must be a string
  label: this is a number
  note: compose.yaml:1:11: included from here
  hint: put it in quotes: \"1\"
"
    );
}

#[test]
fn names_of_projects() {
    let named = |name: &str| LoadOptions {
        project_name: Some(name.to_owned()),
        ..options()
    };
    let files = Files::new([("compose.yaml", "services: {}\n")]);
    for name in ["Upper", "-x", "a.b", "a b"] {
        assert_eq!(
            said(&load(&named(name), &files)),
            format!(
                "error: invalid project name \"{name}\": must consist only of lowercase alphanumeric characters, \
                 hyphens, and underscores as well as start with a letter or number\n"
            )
        );
    }
    check(
        "name: '...'\nservices: {}\n",
        "compose.yaml:1:7: error: project name must not be empty",
    );
}
