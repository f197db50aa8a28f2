//! Files, environment, merging, profiles and the model, end to end.

use std::collections::BTreeMap;

use super::support::{Files, load_text, options, said, yaml};
use stack::spec::model::service::{HealthTest, Restart};
use stack::spec::{LoadOptions, load, render};

/// What merging `over` onto `base`, both in `compose.yaml` and its override, gives for the service `a`.
#[track_caller]
fn merged(base: &str, over: &str, expected: &str) {
    let files = Files::new([
        (
            "compose.yaml",
            &format!(
                "services: {{a: {{image: i, {base}}}}}\nvolumes: {{v: {{}}, w: {{}}}}\nsecrets: {{s: {{environment: S}}}}\nconfigs: {{c: {{content: x}}, d: {{content: y}}}}\n"
            ),
        ),
        (
            "compose.override.yaml",
            &format!("services: {{a: {{{over}}}}}\n"),
        ),
    ]);
    let result = load(&options(), &files);
    let Ok(loaded) = &result else {
        panic!("{base} + {over}: {}", said(&result));
    };
    let mut service = render::render_json(&loaded.stack)["services"]["a"].clone();
    for (key, usual) in [
        ("image", "\"i\""),
        ("networks", "{\"default\":null}"),
        ("command", "null"),
        ("entrypoint", "null"),
    ] {
        if service[key] == serde_json::from_str::<serde_json::Value>(usual).unwrap() {
            service.as_object_mut().unwrap().remove(key);
        }
    }
    assert_eq!(service.to_string(), expected, "{base} + {over}");
}

#[test]
#[expect(clippy::too_many_lines, reason = "one table")]
fn each_kind_of_attribute_merges_by_its_rule() {
    let rows = [
        ("user: a", "user: b", r#"{"user":"b"}"#),
        ("user: a", "user: null", r#"{"user":"a"}"#),
        ("command: a b", "command: [c]", r#"{"command":["c"]}"#),
        ("command: a b", "command: null", "{}"),
        (
            "environment: {A: 1, B: 2}",
            "environment: [B=3, C]",
            r#"{"environment":{"A":"1","B":"3","C":null}}"#,
        ),
        (
            "environment: [A=1, HOME=x]",
            "environment: {HOME: }",
            r#"{"environment":{"A":"1","HOME":"/home/user"}}"#,
        ),
        (
            "labels: [a=1, b]",
            "labels: {b: 2}",
            r#"{"labels":{"a":"1","b":"2"}}"#,
        ),
        (
            "dns: 1.1.1.1",
            "dns: [2.2.2.2, 1.1.1.1]",
            r#"{"dns":["1.1.1.1","2.2.2.2"]}"#,
        ),
        (
            "cap_add: [A, B]",
            "cap_add: [B, C]",
            r#"{"cap_add":["A","B","C"]}"#,
        ),
        (
            "ports: ['80:80', '81:81']",
            "ports: ['80:80', {target: 81, published: 82}]",
            r#"{"ports":[{"mode":"ingress","protocol":"tcp","published":"80","target":80},{"mode":"ingress","protocol":"tcp","published":"81","target":81},{"mode":"ingress","protocol":"tcp","published":"82","target":81}]}"#,
        ),
        (
            "volumes: ['v:/d', /ee]",
            "volumes: ['w:/d:ro']",
            r#"{"volumes":[{"read_only":true,"source":"w","target":"/d","type":"volume","volume":{}},{"target":"/ee","type":"volume","volume":{}}]}"#,
        ),
        (
            "build: ctx",
            "build: {target: t}",
            r#"{"build":{"context":"/work/app/ctx","dockerfile":"Dockerfile","target":"t"}}"#,
        ),
        (
            "healthcheck: {test: [CMD, a], interval: 60s}",
            "healthcheck: {test: b c, retries: 0}",
            r#"{"healthcheck":{"interval":"1m0s","retries":0,"test":["CMD-SHELL","b c"]}}"#,
        ),
        (
            "networks: [default]",
            "networks: {default: {aliases: [x]}}",
            r#"{"networks":{"default":{"aliases":["x"]}}}"#,
        ),
        (
            "ulimits: {nproc: 1, nofile: 2}",
            "ulimits: {nofile: {soft: 3, hard: 4}}",
            r#"{"ulimits":{"nofile":{"hard":4,"soft":3},"nproc":1}}"#,
        ),
        ("tmpfs: /a", "tmpfs: [/b]", r#"{"tmpfs":["/a","/b"]}"#),
        (
            "extra_hosts: ['a:1.1.1.1']",
            "extra_hosts: {a: 1.1.1.1, b: '::1'}",
            r#"{"extra_hosts":["a=1.1.1.1","b=::1"]}"#,
        ),
        ("cpus: '0.5'", "cpus: 2", r#"{"cpus":2}"#),
        (
            "mem_limit: 1g",
            "mem_limit: 512m",
            r#"{"mem_limit":"536870912"}"#,
        ),
        ("tty: true", "tty: 'false'", "{}"),
        ("init: true", "init: false", r#"{"init":false}"#),
        (
            "deploy: {replicas: 2}",
            "deploy: {resources: {limits: {cpus: '1'}}}",
            r#"{"deploy":{"placement":{},"replicas":2,"resources":{"limits":{"cpus":1}}}}"#,
        ),
        (
            "logging: {driver: json-file, options: {a: b}}",
            "logging: {options: {c: 1}}",
            r#"{"logging":{"driver":"json-file","options":{"a":"b","c":"1"}}}"#,
        ),
        (
            "logging: {driver: json-file, options: {a: b}}",
            "logging: {driver: local, options: {c: d}}",
            r#"{"logging":{"driver":"local","options":{"c":"d"}}}"#,
        ),
        (
            "logging: {options: {a: b}}",
            "logging: {driver: local, options: {c: d}}",
            r#"{"logging":{"driver":"local","options":{"a":"b","c":"d"}}}"#,
        ),
        (
            "devices: [/dev/a, /dev/x]",
            "devices: ['/dev/b:/dev/a']",
            r#"{"devices":[{"permissions":"rwm","source":"/dev/b","target":"/dev/a"},{"permissions":"rwm","source":"/dev/x","target":"/dev/x"}]}"#,
        ),
        (
            "gpus: [{count: 1}]",
            "gpus: [{device_ids: [a]}]",
            r#"{"gpus":[{"count":1},{"device_ids":["a"]}]}"#,
        ),
        (
            "post_start: [{command: a}]",
            "post_start: [{command: b}]",
            r#"{"post_start":[{"command":["a"]},{"command":["b"]}]}"#,
        ),
        (
            "deploy: {labels: [a=1], placement: {constraints: [x]}}",
            "deploy: {labels: {b: 2}, placement: {constraints: [y]}}",
            r#"{"deploy":{"labels":{"a":"1","b":"2"},"placement":{"constraints":["x","y"]},"resources":{}}}"#,
        ),
        (
            "sysctls: [a=1], annotations: [x=1]",
            "sysctls: {a: 2}, annotations: {y: 2}",
            r#"{"annotations":{"x":"1","y":"2"},"sysctls":{"a":"2"}}"#,
        ),
        (
            "storage_opt: {a: 1}",
            "storage_opt: {b: 2}",
            r#"{"storage_opt":{"a":"1","b":"2"}}"#,
        ),
        (
            "build: {labels: [a=1], tags: [a, b], cache_from: [q], ssh: [default]}",
            "build: {labels: {b: 1}, tags: [b, c], cache_from: [q], ssh: [k=/p]}",
            r#"{"build":{"cache_from":["q","q"],"context":"/work/app","dockerfile":"Dockerfile","labels":{"a":"1","b":"1"},"ssh":["default","k=/p"],"tags":["a","b","c"]}}"#,
        ),
        (
            "security_opt: [a], group_add: [g]",
            "security_opt: [a, b], group_add: [g]",
            r#"{"group_add":["g"],"security_opt":["a","b"]}"#,
        ),
        (
            "expose: [80], profiles: []",
            "expose: ['80', 81]",
            r#"{"expose":["80","81"]}"#,
        ),
        (
            "blkio_config: {weight: 1, device_read_bps: [{path: /a, rate: 1}]}",
            "blkio_config: {weight: 2, device_read_bps: [{path: /a, rate: 2}]}",
            r#"{"blkio_config":{"device_read_bps":[{"Path":"/a","Rate":"1"},{"Path":"/a","Rate":"2"}],"weight":2}}"#,
        ),
        (
            "provider: {type: a, options: {x: 1}}",
            "provider: {options: {y: [2]}}",
            r#"{"provider":{"options":{"x":["1"],"y":["2"]},"type":"a"}}"#,
        ),
        (
            "secrets: [s], configs: [c]",
            "secrets: [{source: s, mode: 0400}], configs: [{source: d, target: /c}]",
            r#"{"configs":[{"source":"d","target":"/c"}],"secrets":[{"mode":"0400","source":"s","target":"/run/secrets/s"}]}"#,
        ),
        // Tags.
        ("ports: ['80:80']", "ports: !reset []", "{}"),
        (
            "environment: {A: 1, B: 2}",
            "environment: {A: !reset null}",
            r#"{"environment":{"B":"2"}}"#,
        ),
        (
            "environment: {A: 1}",
            "environment: !override {B: 2}",
            r#"{"environment":{"B":"2"}}"#,
        ),
        (
            "ports: ['80:80']",
            "ports: !override ['81:81']",
            r#"{"ports":[{"mode":"ingress","protocol":"tcp","published":"81","target":81}]}"#,
        ),
        (
            "cap_add: [A]",
            "cap_drop: !reset [B]",
            r#"{"cap_add":["A"]}"#,
        ),
    ];
    for (base, over, expected) in rows {
        merged(base, over, expected);
    }
}

#[test]
fn the_files_are_found_upward_and_the_environment_has_its_order() {
    let mut files = Files::new([
        (
            "compose.yml",
            "services: {a: {image: 'x:${A}-${B}-${C}'}}\n",
        ),
        (".env", "A=project\nB=project\nC=project\n"),
        ("sub/.env", "B=sub\nC=sub\n"),
        ("other.env", "C=other\nB=${A:-unset}\n"),
        ("docker-compose.yaml", "services: {b: {image: x}}\n"),
    ]);
    let image = |options: &LoadOptions, files: &Files| {
        let result = load(options, files);
        let loaded = result
            .as_ref()
            .unwrap_or_else(|_| panic!("{}", said(&result)));
        let service = loaded.stack.services.values().next().unwrap();
        (
            service.image.clone().unwrap(),
            loaded.stack.name.to_string(),
            said(&result),
        )
    };
    let mut below = LoadOptions {
        working_directory: "/work/app/sub".into(),
        ..options()
    };
    below.environment.insert("C".into(), "shell".into());
    let many = "warning: found multiple config files with supported names: /work/app/compose.yml, /work/app/docker-compose.yaml; using /work/app/compose.yml\n";
    assert_eq!(
        image(&below, &files),
        ("x:project-sub-shell".into(), "app".into(), many.into())
    );

    let explicit = LoadOptions {
        env_files: vec!["other.env".into()],
        ..options()
    };
    let unset = "compose.yml:1:26: warning: the \"A\" variable is not set, defaulting to a blank string\n  hint: write $$A for a literal $A\n";
    assert_eq!(
        image(&explicit, &files),
        (
            "x:-unset-other".into(),
            "app".into(),
            format!("{}{unset}", many.replace("/work/app/sub", ""))
        )
    );

    files.0.insert("/work/app/.env".into(), b"COMPOSE_FILE=docker-compose.yaml,compose.yml\nCOMPOSE_PATH_SEPARATOR=,\nCOMPOSE_PROJECT_NAME=named\nA=1\nB=2\nC=3\n".to_vec());
    assert_eq!(image(&options(), &files).1, "named");
    assert_eq!(load(&options(), &files).unwrap().stack.services.len(), 2);
    let flag = LoadOptions {
        project_name: Some("flag".into()),
        files: vec!["-".into(), "compose.yml".into()],
        stdin: Some(b"services: {a: {hostname: '${COMPOSE_PROJECT_NAME}'}}".to_vec()),
        ..options()
    };
    let loaded = load(&flag, &files).unwrap();
    let service = loaded.stack.services.values().next().unwrap();
    assert_eq!(
        (service.hostname.as_deref(), service.image.as_deref()),
        (Some("flag"), Some("x:1-2-3"))
    );
    assert_eq!(loaded.stack.directory, std::path::Path::new("/work/app"));
}

#[test]
fn project_names_have_their_order() {
    let name = |text: &str, environment: Option<&str>| {
        let mut options = options();
        options
            .environment
            .extend(environment.map(|name| ("COMPOSE_PROJECT_NAME".to_owned(), name.to_owned())));
        load(&options, &Files::new([("compose.yaml", text)]))
            .unwrap()
            .stack
            .name
            .to_string()
    };
    let rows = [
        ("services: {}", None, "app"),
        ("name: My.App", None, "myapp"),
        ("name: ${X:-from}_var", None, "from_var"),
        ("name: ''\nservices: {}", None, "app"),
        ("name: one", Some("env"), "env"),
        ("name: one\n---\nname: two", None, "two"),
    ];
    for (text, environment, expected) in rows {
        assert_eq!(name(text, environment), expected, "{text}");
    }
}

#[test]
fn profiles_enable_services() {
    let text = "
services:
  a: {image: x}
  b: {image: x, profiles: [p]}
  c: {image: x, profiles: [q, p], depends_on: {b: {condition: service_started, required: false}}}
  d: {image: x, depends_on: {b: {condition: service_started, required: false}}}
";
    let enabled = |profiles: &[&str], variable: Option<&str>| {
        let mut options = LoadOptions {
            profiles: profiles.iter().map(ToString::to_string).collect(),
            ..options()
        };
        options
            .environment
            .extend(variable.map(|value| ("COMPOSE_PROFILES".to_owned(), value.to_owned())));
        let loaded = load(&options, &Files::new([("compose.yaml", text)])).unwrap();
        let names = |services: &BTreeMap<_, stack::spec::model::service::Service>| {
            let names =
                services
                    .iter()
                    .map(|(name, service): (&stack::spec::names::ServiceName, _)| {
                        format!(
                            "{name}{}",
                            if service.depends_on.is_empty() {
                                ""
                            } else {
                                "+"
                            }
                        )
                    });
            names.collect::<Vec<_>>().join(" ")
        };
        format!(
            "{} / {}",
            names(&loaded.stack.services),
            names(&loaded.stack.disabled)
        )
    };
    assert_eq!(enabled(&[], None), "a d / b c+");
    assert_eq!(enabled(&["p"], None), "a b c+ d+ / ");
    assert_eq!(enabled(&["q"], None), "a c d / b");
    assert_eq!(enabled(&["*"], None), "a b c+ d+ / ");
    assert_eq!(enabled(&[], Some(" q , z")), "a c d / b");
    assert_eq!(enabled(&["p"], Some("q")), "a b c+ d+ / ");
}

#[test]
fn env_files_lie_beneath_environment() {
    let files = Files::new([
        (
            "compose.yaml",
            "services:\n  a:\n    image: x\n    env_file: [one.env, {path: two.env}, {path: none.env, required: false}, {path: raw.env, format: raw}]\n    environment: {OWN: own, SHELL_ONE: , NOWHERE: }\n",
        ),
        ("one.env", "A=1\nB=1\nOWN=no\nSHELL_ONE=no\n"),
        ("two.env", "B=2-$A-$OWN\n"),
        ("raw.env", "R='$A'\n"),
    ]);
    let mut options = options();
    options
        .environment
        .insert("SHELL_ONE".into(), "shell".into());
    let loaded = load(&options, &files).unwrap();
    let environment = &loaded.stack.services.values().next().unwrap().environment;
    let shown: Vec<String> = environment
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    assert_eq!(
        shown,
        ["A=1", "B=2-1-own", "OWN=own", "R='$A'", "SHELL_ONE=shell"]
    );
}

#[test]
fn extends_and_include_keep_their_own_directories() {
    let files = Files::new([
        (
            "compose.yaml",
            "
include: [sub/inc.yaml]
services:
  a:
    extends: {file: base/base.yaml, service: middle}
    environment: {A: own}
    ports: !override ['1:1']
  inc:
    environment: {B: over}
",
        ),
        (
            "base/base.yaml",
            "
services:
  middle: {extends: deep, volumes: ['./m:/m'], ports: ['2:2']}
  deep: {image: 'x:${TAG:-d}', environment: {A: base, Z: z}, build: ., env_file: e.env}
  broken: 5
",
        ),
        ("base/e.env", "E=e\n"),
        (
            "sub/inc.yaml",
            "services:\n  inc: {image: 'i:${SUB}', volumes: ['./s:/s'], environment: {B: b, C: c}}\n",
        ),
        ("sub/.env", "SUB=sub\n"),
    ]);
    let expected = "\
name: app
services:
  a:
    build:
      context: /work/app/base
      dockerfile: Dockerfile
    env_file:
      - path: /work/app/base/e.env
    environment:
      A: own
      E: e
      Z: z
    image: x:d
    networks:
      default: null
    ports:
      - mode: ingress
        protocol: tcp
        published: \"1\"
        target: 1
    volumes:
      - bind: {}
        source: /work/app/base/m
        target: /m
        type: bind
  inc:
    environment:
      B: over
      C: c
    image: i:sub
    networks:
      default: null
    volumes:
      - bind: {}
        source: /work/app/sub/s
        target: /s
        type: bind
networks:
  default:
    name: app_default
";
    assert_eq!(yaml(&load(&options(), &files)), expected);
}

#[test]
fn anchors_and_merge_keys() {
    let text = "
x-one: &one {image: one, user: u}
x-two: &two {image: two, tty: true}
services:
  a: {<<: *one}
  b: {<<: [*two, *one], hostname: h}
  c: {<<: *one, image: own}
";
    let loaded = load_text(text).unwrap();
    let shown: Vec<String> = loaded
        .stack
        .services
        .iter()
        .map(|(name, service)| {
            format!(
                "{name} {:?} {:?} {}",
                service.image, service.user, service.tty
            )
        })
        .collect();
    assert_eq!(
        shown,
        [
            "a Some(\"one\") Some(\"u\") false",
            "b Some(\"two\") Some(\"u\") true",
            "c Some(\"own\") Some(\"u\") false"
        ]
    );
}

#[test]
#[expect(clippy::too_many_lines, reason = "one example")]
fn the_model_has_the_values() {
    let loaded = load_text(
        "
services:
  a:
    image: x
    restart: on-failure:3
    healthcheck: {disable: true}
    stop_grace_period: 1m30s
    shm_size: 64m
    cap_add: [cap_net_admin]
    tmpfs: /run:size=1m,mode=700
    secrets: [s]
    configs: [c, {source: c, target: /etc/c, mode: 0400, uid: '5'}]
    ports: ['8000-8001:80', 127.0.0.1:0:53/udp]
    network_mode: host
    privileged: 'yes'
    deploy: {replicas: 0, resources: {limits: {cpus: 0.25, memory: 1k, pids: 7}}}
secrets: {s: {environment: S}}
configs: {c: {content: 'text ${HOME}'}}
networks: {unused: {external: true}}
volumes: {unused: {}}
",
    )
    .unwrap();
    let stack = &loaded.stack;
    let service = stack.services.values().next().unwrap();
    assert_eq!(
        service.restart,
        Some(Restart::OnFailure {
            max_retries: Some(3)
        })
    );
    assert_eq!(
        service
            .healthcheck
            .as_ref()
            .and_then(|check| check.test.clone()),
        Some(HealthTest::None)
    );
    let shown = serde_json::to_value(service).unwrap();
    let field = |key: &str| shown[key].to_string();
    assert_eq!(field("stop_grace_period"), r#"{"nanos":0,"secs":90}"#);
    assert_eq!(field("shm_size"), "67108864");
    assert_eq!(field("cap_add"), r#"["NET_ADMIN"]"#);
    assert_eq!(
        field("volumes"),
        r#"[{"mode":448,"read_only":false,"size_bytes":1048576,"target":"/run","type":"tmpfs"}]"#
    );
    assert_eq!(
        field("secrets"),
        r#"[{"source":"s","target":"/run/secrets/s"}]"#
    );
    assert_eq!(
        field("configs"),
        r#"[{"source":"c","target":"/c"},{"mode":256,"source":"c","target":"/etc/c","uid":5}]"#
    );
    assert_eq!(
        field("ports"),
        r#"[{"protocol":"tcp","published":{"first":8000,"last":8001},"target":80},{"host_ip":"127.0.0.1","protocol":"udp","target":53}]"#
    );
    assert_eq!(field("network_mode"), r#""host""#);
    assert_eq!(
        (
            field("scale"),
            field("cpus"),
            field("mem_limit"),
            field("pids_limit")
        ),
        ("0".into(), "0.25".into(), "1024".into(), "7".into())
    );
    assert!(stack.networks.is_empty() && stack.volumes.is_empty());
    let place = |key: &str| {
        loaded
            .sources
            .place(service.places[key])
            .map(|place| place.to_string())
    };
    assert_eq!(place("image").as_deref(), Some("compose.yaml:4:12"));
    assert_eq!(place("ports.0").as_deref(), Some("compose.yaml:13:13"));
    assert_eq!(
        loaded
            .warnings
            .iter()
            .map(|warning| warning.message.as_str())
            .collect::<Vec<_>>(),
        ["\"yes\" for boolean is not supported by YAML 1.2, please use `true`"]
    );
}

#[test]
fn rendered_yaml_loads_back_to_the_same() {
    let text = "
services:
  a:
    image: x
    command: [sh, -c, \"echo $$HOME\\nline\\n\", 'yes', '0644', '22:22', '', ' a', '#x', 'a: b', '=', '<<', '2001-01-01', \"\\t\", é, '🦀', \"\\u2028\"]
    labels: {true: x}
    environment: {'quoted': 'null', multi: \"a\\n  b\\n\\n\"}
    healthcheck: {test: [CMD, a], start_period: 0s}
x-more: {list: [1, 1.5, true, null, [], {}]}
"
    .replace("    labels: {true: x}\n", "");
    let first = load_text(&text).unwrap();
    let rendered = render::render_yaml(&first.stack);
    let second = load_text(&rendered);
    assert!(second.is_ok(), "{rendered}\n{}", said(&second));
    assert_eq!(render::render_yaml(&second.unwrap().stack), rendered);
}

#[test]
fn pools_merge_by_their_subnet() {
    let files = Files::new([
        (
            "compose.yaml",
            "services: {}\nnetworks: {n: {ipam: {config: [{subnet: 10.0.0.0/8, gateway: 10.0.0.1}, {subnet: 172.16.0.0/16}]}}}\n",
        ),
        (
            "compose.override.yaml",
            "networks: {n: {ipam: {config: [{subnet: 10.0.0.0/8, ip_range: 10.1.0.0/16}, {subnet: 192.168.0.0/24}]}}}\n",
        ),
    ]);
    let result = load(&options(), &files);
    let Ok(loaded) = &result else {
        panic!("{}", said(&result));
    };
    assert_eq!(
        render::render_json(&loaded.stack)["networks"]["n"]["ipam"]["config"].to_string(),
        r#"[{"gateway":"10.0.0.1","ip_range":"10.1.0.0/16","subnet":"10.0.0.0/8"},{"subnet":"172.16.0.0/16"},{"subnet":"192.168.0.0/24"}]"#
    );
}

#[test]
fn label_files_lie_beneath_labels() {
    let files = Files::new([
        (
            "compose.yaml",
            "services: {a: {image: x, label_file: [one.labels, two.labels], labels: [own=own]}}\n",
        ),
        ("one.labels", "a=1\nb=1\nown=no\n"),
        ("two.labels", "b=2-$a\n"),
    ]);
    let loaded = load(&options(), &files).unwrap();
    let labels = &loaded.stack.services.values().next().unwrap().labels;
    let shown: Vec<String> = labels
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    assert_eq!(shown, ["a=1", "b=2-1", "own=own"]);
}

#[test]
fn an_override_extends_what_the_base_has_and_takes_back_what_is_included() {
    let files = Files::new([
        (
            "compose.yaml",
            "include: [inc.yaml]\nservices:\n  base: {image: x, environment: {A: 1}}\n  gone: !reset null\n",
        ),
        (
            "inc.yaml",
            "services:\n  gone: {image: g}\n  kept: {image: k, user: u}\n",
        ),
        (
            "compose.override.yaml",
            "services:\n  child: {extends: base, environment: [B=2]}\n  kept: {user: over}\n",
        ),
    ]);
    let loaded = load(&options(), &files).unwrap();
    let shown: Vec<String> = loaded
        .stack
        .services
        .iter()
        .map(|(name, service)| {
            format!(
                "{name} {:?} {:?} {:?}",
                service.image, service.user, service.environment
            )
        })
        .collect();
    assert_eq!(
        shown,
        [
            r#"base Some("x") None {"A": "1"}"#,
            r#"child Some("x") None {"A": "1", "B": "2"}"#,
            r#"kept Some("k") Some("over") {}"#,
        ]
    );
}

#[test]
fn a_service_that_waits_for_nobody_must_say_who_may_be_missing() {
    let rows = [
        (
            "services:\n  a: {image: x, depends_on: {b: {condition: service_started, required: false}}}\n",
            "compose.yaml:2:30: error: service \"a\" depends on undefined service \"b\": invalid compose project\n",
        ),
        (
            "services:\n  a: {image: x, depends_on: {b: {condition: service_started, required: false}}}\n  b: {image: x, profiles: [p]}\n",
            "",
        ),
        (
            "services:\n  a: {image: x, links: [b]}\n  b: {image: x, profiles: [p]}\n",
            "compose.yaml:2:25: error: service \"b\" is required by \"a\" but is disabled. Can be enabled by profiles [p]\n  note: compose.yaml:3:3: disabled, as none of its profiles is active\n",
        ),
        (
            "services:\n  a: {image: x, volumes_from: [c]}\n",
            "compose.yaml:2:32: error: service \"a\" depends on undefined service \"c\": invalid compose project\n",
        ),
        (
            "services: {a: {image: x, env_file: [{path: e, format: rwa}]}}\n",
            "compose.yaml:1:55: error: unsupported env_file format \"rwa\"\n  hint: did you mean `raw`?\n",
        ),
        (
            "version: 3\nservices: {}\n",
            "compose.yaml:1:10: error: version must be a string\n  label: this is a number\n  hint: put it in quotes: \"3\"\n",
        ),
    ];
    for (text, expected) in rows {
        let files = Files::new([("compose.yaml", text), ("e", "A=1\n")]);
        assert_eq!(
            said(&load(&options(), &files))
                .lines()
                .filter(|line| !line.contains("obsolete"))
                .map(|line| format!("{line}\n"))
                .collect::<String>(),
            expected,
            "{text}"
        );
    }
}
