//! What Docker Compose does at its edges, a row each.

use super::support::{Files, blocked, load_text, options, said, yaml};
use stack::spec::{LoadOptions, Phase, Steps, load, render};

/// The errors of a service `w` with these attributes.
fn refused(attributes: &str) -> String {
    let text = format!("services: {{w: {{image: x, {attributes}}}}}\n");
    said(&load_text(&text)).trim_end().to_owned()
}

#[test]
fn what_is_fetched_from_elsewhere_is_a_clear_error() {
    let rows = [
        ("oci://registry/app:1", "`oci://registry/app:1`"),
        (
            "https://github.com/a/b.git#main:sub",
            "`https://github.com/a/b.git#main:sub`",
        ),
        ("git@github.com:a/b.git", "`git@github.com:a/b.git`"),
        ("ssh://git@host/a.git", "`ssh://git@host/a.git`"),
        ("github.com/a/b", "`github.com/a/b`"),
    ];
    for (source, shown) in rows {
        let text = format!("include: [\"{source}\"]\nservices: {{w: {{image: x}}}}\n");
        assert_eq!(
            said(&load_text(&text)),
            format!(
                "compose.yaml:1:11: error: include: {shown} is fetched from elsewhere: not supported yet\n"
            )
        );
        let text = format!("services: {{w: {{extends: {{service: a, file: \"{source}\"}}}}}}\n");
        assert_eq!(
            said(&load_text(&text)),
            format!(
                "compose.yaml:1:44: error: extends.file: {shown} is fetched from elsewhere: not supported yet\n"
            )
        );
        let given = LoadOptions {
            files: vec![source.into()],
            ..options()
        };
        assert_eq!(
            said(&load(&given, &Files::default())),
            format!("error: compose file {shown} is fetched from elsewhere: not supported yet\n")
        );
    }
}

#[test]
fn a_linked_directory_names_the_project_and_is_told_of() {
    let files = Files::new([("/work/a-link/compose.yaml", "services: {w: {image: x}}\n")]);
    let linked = LoadOptions {
        working_directory: "/work/a-link".into(),
        ..options()
    };
    let result = load(&linked, &files);
    assert_eq!(
        said(&result),
        "warning: the project has no name of its own, and its directory /work/a-link is a symbolic link: it is called `a-link` after the link\n  hint: give it a name with `name:` in the file\n"
    );
    assert_eq!(result.unwrap().stack.name.as_str(), "a-link");
    let named = LoadOptions {
        project_name: Some("p".to_owned()),
        ..linked
    };
    assert_eq!(said(&load(&named, &files)), "");
}

#[test]
fn paths_of_windows_stay_as_they_are() {
    let text = r"services:
  w:
    image: x
    volumes:
      - 'C:\data:/a'
      - 'c:/data:/b:ro'
      - '\\server\share:/c'
      - {type: bind, source: 'D:\x', target: /d}
      - {type: npipe, source: '\\.\pipe\x', target: '\\.\pipe\x'}
";
    let loaded = load_text(text).unwrap();
    let service = &render::render_json(&loaded.stack)["services"]["w"];
    let mounts = service["volumes"].as_array().unwrap().iter();
    let shown: Vec<String> = mounts
        .map(|mount| {
            let text = |key: &str| mount[key].as_str().unwrap_or_default().to_owned();
            [text("type"), text("source"), text("target")].join(" ")
        })
        .collect();
    assert_eq!(
        shown,
        [
            r"bind C:\data /a",
            "bind c:/data /b",
            r"bind \\server\share /c",
            r"bind D:\x /d",
            r"npipe \\.\pipe\x \\.\pipe\x",
        ]
    );
}

#[test]
fn extensions_never_contradict() {
    let files = Files::new([
        (
            "compose.yaml",
            "x-a: [1]\nservices:\n  w: {image: x, x-a: {b: [1]}, x-e: {b: [1]}, deploy: {x-d: text}}\n",
        ),
        (
            "compose.override.yaml",
            "x-a: {b: c}\nservices:\n  w: {x-a: {b: {c: d}}, x-e: {c: 2}, deploy: {x-d: [1]}}\n",
        ),
    ]);
    let result = load(&options(), &files);
    assert_eq!(said(&result), "");
    let stack = result.unwrap().stack;
    let rows = [
        (
            render::Form::Model,
            [
                r#"{"b":"c"}"#,
                r#"{"b":{"c":"d"}}"#,
                r#"{"b":[1],"c":2}"#,
                "[1]",
            ],
        ),
        // The structures that Docker Compose prints as JSON have those of the top level alone.
        (render::Form::Json, [r#"{"b":"c"}"#, "null", "null", "null"]),
    ];
    for (form, expected) in rows {
        let project = render::render(&stack, form);
        let service = &project["services"]["w"];
        let shown = [
            &project["x-a"],
            &service["x-a"],
            &service["x-e"],
            &service["deploy"]["x-d"],
        ];
        assert_eq!(shown.map(ToString::to_string), expected, "{form:?}");
    }
}

#[test]
fn what_an_env_file_says_itself_stands_above_earlier_files() {
    let first = "A=1\nB=first\n";
    let second = "A=2\nC=${A}-${B}-${OWN}-${SHELL_ONE}\nOWN=file\nSHELL_ONE=file\n";
    let files = Files::new([
        (
            "compose.yaml",
            "services: {w: {image: x, env_file: [one.env, two.env], environment: {OWN: own}}}\n",
        ),
        ("one.env", first),
        ("two.env", second),
        (
            "include.yaml",
            "include: [{path: w.yaml, env_file: [one.env, two.env]}]\n",
        ),
        (
            "w.yaml",
            "services: {w: {image: 'x:$A-$B-$C', environment: [SHELL_ONE]}}\n",
        ),
        ("plain.yaml", "services: {w: {image: 'x:$A-$B-$C'}}\n"),
    ]);
    let of = |given: LoadOptions, key: &str| {
        let stack = load(&given, &files).unwrap().stack;
        render::render_json(&stack)["services"]["w"][key].to_string()
    };
    let with = |file: &str| {
        let mut given = LoadOptions {
            files: vec![file.into()],
            ..options()
        };
        let shell = ("SHELL_ONE".to_owned(), "shell".to_owned());
        given.environment.extend([shell]);
        given
    };
    assert_eq!(
        of(with("compose.yaml"), "environment"),
        r#"{"A":"2","B":"first","C":"2-first-own-shell","OWN":"own","SHELL_ONE":"file"}"#
    );
    // Of several env files of an include, and of the command line, the last one counts.
    assert_eq!(
        of(with("include.yaml"), "image"),
        r#""x:2-first-2-first--shell""#
    );
    let given = LoadOptions {
        env_files: vec!["one.env".into(), "two.env".into()],
        ..with("plain.yaml")
    };
    assert_eq!(of(given, "image"), r#""x:2-first-2-first--shell""#);
}

#[test]
fn nothing_is_no_item_of_a_list() {
    let rows = [
        ("cap_add: [ALL, null]", "cap_add.1 must be a string"),
        ("command: [null]", "command.0 must be a string"),
        ("entrypoint: [~]", "entrypoint.0 must be a string"),
        ("dns: [null]", "dns.0 must be a string"),
        (
            "healthcheck: {test: [CMD, null]}",
            "healthcheck.test.1 must be a string",
        ),
        ("expose: [null]", "expose.0 must be a string or a number"),
        ("gpus: [null]", "gpus.0 must be a mapping"),
        ("post_start: [null]", "post_start.0 must be a mapping"),
        (
            "develop: {watch: [{path: a, action: sync+exec, target: /b, exec: {}}]}",
            "develop.watch.0.exec missing property 'command'",
        ),
        (
            "deploy: {placement: {preferences: [{spread: null}]}}",
            "deploy.placement.preferences.0.spread must be a string",
        ),
    ];
    for (attribute, expected) in rows {
        let said = refused(attribute);
        let said = said.lines().next().unwrap_or_default();
        let message = said.split("error: ").nth(1);
        let expected = format!("services.w.{expected}");
        assert_eq!(message, Some(&*expected), "{attribute}: {said}");
    }
}

#[test]
fn a_link_with_two_colons_names_nothing() {
    let said = refused("links: ['w:x:y']");
    assert!(
        said.contains("service \"w\" depends on undefined service \"w:x:y\""),
        "{said}"
    );
}

#[test]
fn an_empty_logging_is_one() {
    for (text, expected) in [
        ("logging: {}", "{}"),
        ("logging: {driver: '', options: {}}", "{}"),
        ("logging: {driver: a}", r#"{"driver":"a"}"#),
    ] {
        let text = format!("services: {{w: {{image: x, {text}}}}}\n");
        let project = render::render_json(&load_text(&text).unwrap().stack);
        let shown = project["services"]["w"]["logging"].to_string();
        assert_eq!(shown, expected, "{text}");
    }
}

#[test]
fn a_repeated_option_is_an_error_in_one_file_and_none_across_two() {
    for key in [
        "group_add",
        "security_opt",
        "external_links",
        "device_cgroup_rules",
    ] {
        let place = 35 + key.len();
        assert_eq!(
            refused(&format!("{key}: [a, b, a]")),
            format!(
                "compose.yaml:1:{}: error: services.w.{key} items must be unique: `a` is repeated\n  note: compose.yaml:1:{}: first listed here",
                place,
                place - 6
            )
        );
    }
    let files = Files::new([
        (
            "compose.yaml",
            "services: {w: {image: x, group_add: [a, b]}}\n",
        ),
        (
            "compose.override.yaml",
            "services: {w: {group_add: [a, c]}}\n",
        ),
    ]);
    let loaded = load(&options(), &files).unwrap();
    let groups = &render::render_json(&loaded.stack)["services"]["w"]["group_add"];
    assert_eq!(groups.to_string(), r#"["a","b","c"]"#);
}

#[test]
fn whole_numbers_are_asked_for_where_the_schema_does() {
    let rows = [
        ("scale: 2.5", "services.w.scale must be an integer"),
        (
            "deploy: {replicas: 2.5}",
            "services.w.deploy.replicas must be an integer",
        ),
        (
            "deploy: {resources: {limits: {pids: 2.5}}}",
            "services.w.deploy.resources.limits.pids must be an integer",
        ),
        (
            "cpu_percent: 2.5",
            "services.w.cpu_percent must be an integer",
        ),
        (
            "oom_score_adj: 2.5",
            "services.w.oom_score_adj must be an integer",
        ),
        (
            "pids_limit: .inf",
            "services.w.pids_limit must be an integer",
        ),
    ];
    for (attribute, message) in rows {
        let said = refused(attribute);
        assert!(
            said.contains(&format!("error: {message}\n")),
            "{attribute}: {said}"
        );
    }
    assert_eq!(
        refused("mem_limit: 1500.7"),
        "compose.yaml:1:37: warning: services.w.mem_limit: 1500.7 is no whole number of bytes; it is ignored\n  hint: write a number with b, k, m, g or t after it, such as 512m"
    );
}

#[test]
fn what_can_never_work_is_said() {
    let long = "a".repeat(65);
    let rows = [
        ("volumes: ['/tmp:/y:zz']", ""),
        ("hostname: a_b.c-d", ""),
        (
            "hostname: a b",
            "compose.yaml:1:36: warning: services.w.hostname: `a b` is no valid host name (RFC 1123)\n  hint: use letters, digits and hyphens\n",
        ),
        (
            "hostname: \"a\\nb\"",
            "compose.yaml:1:36: error: services.w.hostname must not have a line break or a control character\n",
        ),
        (
            &format!("hostname: {long}"),
            "compose.yaml:1:36: error: services.w.hostname is longer than 64 bytes, the most Linux takes\n",
        ),
        ("platform: linux/arm64/v8", ""),
        ("platform: amd64", ""),
        (
            "platform: foo/bar",
            "compose.yaml:1:36: error: services.w.platform: containers of foo do not run on Linux\n",
        ),
        (
            "platform: a/b/c/d",
            "compose.yaml:1:36: error: services.w.platform: `a/b/c/d` is no platform: it must be OS[/ARCHITECTURE[/VARIANT]], such as linux/amd64\n",
        ),
        // No limit, as for Docker.
        ("pids_limit: -5", ""),
        ("healthcheck: {test: []}", ""),
        (
            "healthcheck: {test: ''}",
            "compose.yaml:1:46: warning: services.w.healthcheck.test is empty: it says that the service is well, whatever it does\n  hint: write the command, or `disable: true`\n",
        ),
        (
            "healthcheck: {test: [CMD-SHELL]}",
            "compose.yaml:1:46: error: services.w.healthcheck.test has no command\n",
        ),
        (
            "healthcheck: {test: [CMD]}",
            "compose.yaml:1:46: error: services.w.healthcheck.test has no command\n",
        ),
    ];
    for (attribute, expected) in rows {
        let text = format!("services: {{w: {{image: x, {attribute}}}}}\n");
        assert_eq!(blocked(&text, Phase::Run), expected, "{attribute}");
    }
    assert_eq!(
        refused("volumes: ['/tmp:/y:zz,ro']"),
        "compose.yaml:1:36: warning: services.w.volumes.0: the option `zz` is unknown; it is ignored\n  hint: did you mean `Z`?"
    );
}

/// A project whose files are named by variables.
fn with_variables() -> Files {
    Files::new([
        (
            "compose.yaml",
            "include: ['${INC:-inc}.yaml', {path: $$x.yaml}]
services:
  w:
    extends: {file: '${BASE:-base}.yaml', service: \"${W:-w}\"}
    environment: [A=$A, B]
    labels: {n: 1, t: true, e: }
    build: {args: [C, HOME, D=$D]}
    volumes: ['./v:/v']
    extra_hosts: ['h:1.2.3.4']
    tty: false
    env_file: [{path: x.env, required: false}]
",
        ),
        (
            "compose.override.yaml",
            "services: {w: {environment: {B: $B, C: 3}, extra_hosts: {i: 1.2.3.5}}}\n",
        ),
        ("inc.yaml", "services: {i: {image: 'i:$TAG'}}\n"),
        ("$x.yaml", "services: {j: {image: j}}\n"),
        ("base.yaml", "services: {w: {image: 'w:$TAG'}}\n"),
    ])
}

#[test]
fn without_interpolation_a_project_is_shown_as_it_is_written() {
    let options = LoadOptions {
        steps: Steps {
            interpolate: false,
            ..Steps::default()
        },
        ..options()
    };
    let loaded = load(&options, &with_variables()).unwrap();
    let project = render::render(&loaded.stack, render::Form::AsWritten);
    let shown = render::to_yaml(&project, render::Dollars::AsTheyAre);
    insta::assert_snapshot!(shown, @r#"
    name: app
    services:
      i:
        image: i:$TAG
        networks:
          default: null
      j:
        image: j
        networks:
          default: null
      w:
        build:
          args:
            - HOME=/home/user
            - D=$D
          context: /work/app
          dockerfile: Dockerfile
        env_file:
          - path: /work/app/x.env
            required: false
        environment:
          - A=$A
          - B=$B
          - C=3
        extra_hosts:
          - h:1.2.3.4
          - i=1.2.3.5
        image: w:$TAG
        labels:
          e: null
          "n": 1
          t: true
        networks:
          default: null
        tty: false
        volumes:
          - bind:
              create_host_path: true
            source: /work/app/v
            target: /v
            type: bind
    networks:
      default:
        name: app_default
    "#);
    let loaded = load(&super::support::options(), &with_variables());
    assert!(yaml(&loaded).contains("image: 'i:'"), "{}", yaml(&loaded));
}
