//! What loads but cannot be built or run: kept from the load, said where it is used.

use super::support::{blocked, load_text, said, show};
use stack::spec::{Phase, render};

/// What running, and what building, all services of `text` says, beside a load that says nothing.
#[track_caller]
fn check(text: &str, run: &str, build: &str) {
    assert_eq!(said(&load_text(text)), "", "{text}");
    assert_eq!(blocked(text, Phase::Run).trim_end(), run.trim(), "{text}");
    assert_eq!(
        blocked(text, Phase::Build).trim_end(),
        build.trim(),
        "{text}"
    );
}

#[test]
fn what_nothing_acts_on_is_said_by_who_would_use_it() {
    check(
        "
services:
  web:
    image: x
    logging: {driver: syslog, options: {a: b}}
    build: {context: ., cache_from: [a]}
    deploy: {restart_policy: {condition: any}}
    networks: {other: {mac_address: a}}
    pull_policy: daily
    volumes: [{type: image, source: i, target: /i}, 'data:/d']
    secrets: [away]
    tmpfs: /t:uid=5
    x-anything: {a: 1}
  mode:
    image: x
    network_mode: bridge
    ports: [80/sctp]
networks:
  other: {driver: overlay, driver_opts: {a: b}}
  spare: {driver: overlay}
volumes:
  data: {driver_opts: {type: nfs}}
  rest: {driver: nfs}
secrets: {away: {external: true}}
x-top: []
",
        "
compose.yaml:5:15: error: services.web.logging.driver: not supported yet
  label: valid, but nothing acts on it yet
compose.yaml:5:31: error: services.web.logging.options: not supported yet
  label: valid, but nothing acts on it yet
compose.yaml:7:14: error: services.web.deploy.restart_policy: not supported yet
  label: valid, but nothing acts on it yet
compose.yaml:8:24: error: services.web.networks.other.mac_address: not supported yet
  label: valid, but nothing acts on it yet
compose.yaml:9:18: error: services.web.pull_policy daily: not supported yet
  label: valid, but nothing acts on it yet
compose.yaml:10:22: error: services.web.volumes.0: a mount of type image: not supported yet
  label: valid, but nothing acts on it yet
compose.yaml:12:12: error: services.web.tmpfs.0: the option `uid=5`: not supported yet
  label: valid, but nothing acts on it yet
compose.yaml:16:19: error: services.mode.network_mode bridge: not supported yet
  label: valid, but nothing acts on it yet
compose.yaml:17:13: error: services.mode.ports: protocol sctp: not supported yet
  label: valid, but nothing acts on it yet
compose.yaml:19:19: error: networks.other.driver overlay: not supported yet
  label: valid, but nothing acts on it yet
compose.yaml:19:28: error: networks.other.driver_opts: not supported yet
  label: valid, but nothing acts on it yet
compose.yaml:22:10: error: volumes.data.driver_opts: not supported yet
  label: valid, but nothing acts on it yet
compose.yaml:24:18: error: secrets.away.external: not supported yet
  label: valid, but nothing acts on it yet
",
        "
",
    );
}

#[test]
fn only_what_the_selected_services_use_is_in_the_way() {
    let text = "
services:
  good: {image: x}
  bad: {image: x, cpu_shares: 5, networks: [n]}
networks: {n: {driver: macvlan}}
";
    let loaded = load_text(text).unwrap();
    let named = |name: &str| {
        loaded
            .stack
            .services
            .keys()
            .filter(|key| key.as_str() == name)
            .collect::<Vec<_>>()
    };
    assert_eq!(loaded.usable(named("good"), Phase::Run).unwrap(), []);
    let failure = loaded.usable(named("bad"), Phase::Run).unwrap_err();
    let shown: String = failure
        .diagnostics
        .iter()
        .map(|diagnostic| show(diagnostic, &failure.sources))
        .collect();
    assert_eq!(
        shown,
        "\
compose.yaml:4:19: error: services.bad.cpu_shares: not supported yet
  label: valid, but nothing acts on it yet
compose.yaml:5:24: error: networks.n.driver macvlan: not supported yet
  label: valid, but nothing acts on it yet
"
    );
}

#[test]
fn what_says_what_is_done_anyway_is_in_nobodys_way() {
    check(
        "
services:
  web:
    image: x
    attach: true
    oom_kill_disable: false
    cgroup: private
    ipc: private
    runtime: runc
    isolation: default
    logging: {driver: json-file}
    links: []
    blkio_config: {}
    mem_reservation: 0
    deploy: {mode: replicated, endpoint_mode: vip, resources: {reservations: {}}}
    build: {context: ., network: default, sbom: false, no_cache: false}
    volumes: [{type: bind, source: ., target: /b, bind: {recursive: enabled, propagation: ''}}]
networks: {default: {enable_ipv4: true, enable_ipv6: false, ipam: {driver: default}, driver: bridge}}
",
        "",
        "",
    );
    assert_eq!(
        blocked(
            "services: {a: {image: x}}\nnetworks: {default: {enable_ipv4: false, enable_ipv6: true}}\n",
            Phase::Run
        ),
        "\
compose.yaml:2:22: error: networks.default.enable_ipv4: not supported yet
  label: valid, but nothing acts on it yet
compose.yaml:2:42: error: networks.default.enable_ipv6: not supported yet
  label: valid, but nothing acts on it yet
"
    );
}

#[test]
fn what_no_linux_engine_acts_on_is_warned_of_once() {
    check(
        "
services:
  a:
    image: x
    isolation: hyperv
    cpu_count: 2
    cpu_percent: 50
    credential_spec: {file: f}
    deploy:
      mode: global
      endpoint_mode: dnsrr
      labels: [l]
      placement: {constraints: [node.role == manager]}
      update_config: {order: start-first}
      rollback_config: {parallelism: 1}
      resources: {reservations: {cpus: 1, generic_resources: [{discrete_resource_spec: {kind: k, value: 1}}]}}
  b:
    image: x
    isolation: process
    build: {context: ., isolation: hyperv}
networks: {default: {attachable: true}}
",
        "
compose.yaml:5:5: warning: `isolation` is ignored: it is for Windows or a swarm
compose.yaml:6:5: warning: `cpu_count` is ignored: it is for Windows or a swarm
compose.yaml:7:5: warning: `cpu_percent` is ignored: it is for Windows or a swarm
compose.yaml:8:5: warning: `credential_spec` is ignored: it is for Windows or a swarm
compose.yaml:10:7: warning: `deploy.mode` is ignored: it is for Windows or a swarm
compose.yaml:11:7: warning: `deploy.endpoint_mode` is ignored: it is for Windows or a swarm
compose.yaml:12:7: warning: `deploy.labels` is ignored: it is for Windows or a swarm
compose.yaml:13:7: warning: `deploy.placement` is ignored: it is for Windows or a swarm
compose.yaml:14:7: warning: `deploy.update_config` is ignored: it is for Windows or a swarm
compose.yaml:15:7: warning: `deploy.rollback_config` is ignored: it is for Windows or a swarm
compose.yaml:16:34: warning: `deploy.resources.reservations.cpus` is ignored: it is for Windows or a swarm
compose.yaml:16:43: warning: `deploy.resources.reservations.generic_resources` is ignored: it is for Windows or a swarm
compose.yaml:20:25: warning: `build.isolation` is ignored: it is for Windows or a swarm
compose.yaml:21:22: warning: `networks.*.attachable` is ignored: it is for Windows or a swarm
",
        "compose.yaml:20:25: warning: `build.isolation` is ignored: it is for Windows or a swarm",
    );
}

#[test]
fn values_that_only_an_engine_refuses() {
    check(
        "
services:
  a:
    image: Bad/Name:x
    stop_grace_period: -5s
    restart: alway
    container_name: my name
    dns: nope
    healthcheck: {test: [CMD]}
    expose: [zz]
    volumes: ['/a:rel', {type: bind, source: /b, target: /b, bind: {propagation: rshard}}]
    ports: [{target: 0}, {target: 80, published: abc}, {target: 80, protocol: foo}]
    extra_hosts: ['h:1.2.3']
    networks: {default: {ipv4_address: q}}
    environment: ['=x', A]
    mem_limit: -5
    command: [\"a\\0b\"]
networks: {default: {ipam: {config: [{subnet: 10.0.0.0/8, gateway: 11.0.0.1}, {subnet: ten}]}}}
",
        "
compose.yaml:4:12: error: services.a.image: invalid reference format: `Bad/Name:x`: the name must be in lower case: letters, digits and single separators between them
compose.yaml:5:24: error: services.a.stop_grace_period must not be negative
compose.yaml:6:14: error: services.a.restart: invalid restart policy `alway`: it must be no, always, unless-stopped, on-failure
  hint: did you mean `always`?
compose.yaml:7:21: error: services.a.container_name does not match [a-zA-Z0-9][a-zA-Z0-9_.-]+
compose.yaml:8:10: error: services.a.dns: invalid DNS address: nope
compose.yaml:9:25: error: services.a.healthcheck.test has no command
compose.yaml:10:14: error: services.a.expose: `zz` is no port, nor a range of ports
compose.yaml:11:15: error: services.a.volumes.0: invalid mount path `rel`: it must be absolute
compose.yaml:11:82: error: services.a.volumes.1: invalid propagation `rshard`: it must be one of private, rprivate, shared, rshared, slave, rslave
  hint: did you mean `rshared`?
compose.yaml:12:22: error: services.a.ports: invalid container port: it must be 1 to 65535
compose.yaml:12:50: error: services.a.ports: invalid host port `abc`
compose.yaml:12:56: error: services.a.ports: protocol foo: not supported yet
  label: valid, but nothing acts on it yet
compose.yaml:13:19: error: services.a.extra_hosts: invalid additional host, bad IP: 1.2.3
compose.yaml:14:40: error: services.a.networks.default.ipv4_address: invalid ip address: q
compose.yaml:15:19: error: services.a.environment: a variable has no name
compose.yaml:16:16: error: services.a.mem_limit must be greater than or equal to 0
compose.yaml:17:15: error: services.a.command.0 must not have a NUL byte in it
compose.yaml:18:68: error: networks.default.ipam.config: the gateway 11.0.0.1 is not in the subnet 10.0.0.0/8
compose.yaml:18:88: error: networks.default.ipam.config: invalid subnet ten
",
        "",
    );
}

/// Every attribute loads, and reaches the canonical form in its one shape.
#[test]
#[expect(clippy::too_many_lines, reason = "one table")]
fn every_attribute_has_its_canonical_form() {
    let rows = [
        (
            "annotations: [a, b=1]",
            r#"{"annotations":{"a":"","b":"1"}}"#,
        ),
        ("attach: 'false'", r#"{"attach":false}"#),
        (
            "blkio_config: {weight: 300, weight_device: [{path: /a, weight: '4'}], device_read_bps: [{path: /b, rate: 12mb}]}",
            r#"{"blkio_config":{"device_read_bps":[{"Path":"/b","Rate":"12582912"}],"weight":300,"weight_device":[{"Path":"/a","Weight":4}]}}"#,
        ),
        (
            "blkio_config: {device_write_iops: [{path: /a}], weight_device: []}",
            r#"{"blkio_config":{"device_write_iops":[{"Path":"/a","Rate":"0"}]}}"#,
        ),
        ("cgroup: host", r#"{"cgroup":"host"}"#),
        ("cgroup_parent: m", r#"{"cgroup_parent":"m"}"#),
        (
            "cpu_count: 2\n    cpu_percent: 50\n    cpu_period: '100'\n    cpu_quota: -1\n    cpu_rt_period: 3\n    cpu_rt_runtime: 4\n    cpu_shares: 5\n    cpuset: 0-1",
            r#"{"cpu_count":2,"cpu_percent":50,"cpu_period":100,"cpu_quota":-1,"cpu_rt_period":3,"cpu_rt_runtime":4,"cpu_shares":5,"cpuset":"0-1"}"#,
        ),
        (
            "credential_spec: {file: f}",
            r#"{"credential_spec":{"file":"f"}}"#,
        ),
        (
            "device_cgroup_rules: ['c 1:3 mr']",
            r#"{"device_cgroup_rules":["c 1:3 mr"]}"#,
        ),
        (
            "devices: [/dev/a, '/dev/b:/dev/c', '/dev/b:/dev/d:r', vendor.com/class=name, {source: /dev/e, target: /dev/f}]",
            r#"{"devices":[{"permissions":"rwm","source":"/dev/a","target":"/dev/a"},{"permissions":"rwm","source":"/dev/b","target":"/dev/c"},{"permissions":"r","source":"/dev/b","target":"/dev/d"},{"permissions":"rwm","source":"vendor.com/class=name","target":"vendor.com/class=name"},{"source":"/dev/e","target":"/dev/f"}]}"#,
        ),
        (
            "external_links: [q, 'w:e']",
            r#"{"external_links":["q","w:e"]}"#,
        ),
        ("gpus: all", r#"{"gpus":[{"count":-1}]}"#),
        (
            "gpus: [{driver: nvidia, count: '2', capabilities: [a], options: [o=1]}, {device_ids: ['0']}]",
            r#"{"gpus":[{"capabilities":["a"],"count":2,"driver":"nvidia","options":{"o":"1"}},{"device_ids":["0"]}]}"#,
        ),
        ("isolation: hyperv", r#"{"isolation":"hyperv"}"#),
        (
            "links: ['other:o', other]",
            r#"{"depends_on":{"other":{"condition":"service_started","required":true,"restart":true}},"links":["other:o","other"]}"#,
        ),
        (
            "ipc: service:other",
            r#"{"depends_on":{"other":{"condition":"service_started","required":true,"restart":true}},"ipc":"service:other"}"#,
        ),
        (
            "pid: service:other\n    depends_on: {other: {condition: service_healthy}}",
            r#"{"depends_on":{"other":{"condition":"service_healthy","required":true}},"pid":"service:other"}"#,
        ),
        (
            "volumes_from: ['other:ro', 'container:z']",
            r#"{"depends_on":{"other":{"condition":"service_started","required":true}},"volumes_from":["other:ro","container:z"]}"#,
        ),
        ("pid: ", "{}"),
        (
            "pid: host\n    uts: host\n    userns_mode: host",
            r#"{"pid":"host","userns_mode":"host","uts":"host"}"#,
        ),
        (
            "logging: {driver: json-file, options: {max-size: 10m, max-file: 3, none: }}",
            r#"{"logging":{"driver":"json-file","options":{"max-file":"3","max-size":"10m","none":""}}}"#,
        ),
        (
            "mac_address: '02:42:ac:11:65:43'",
            r#"{"mac_address":"02:42:ac:11:65:43"}"#,
        ),
        (
            "mem_limit: -1\n    mem_reservation: 20m\n    memswap_limit: -1\n    mem_swappiness: 60",
            r#"{"mem_limit":"-1","mem_reservation":"20971520","mem_swappiness":"60","memswap_limit":"-1"}"#,
        ),
        ("mem_limit: 0\n    shm_size: 0", "{}"),
        ("models: [m]", r#"{"models":{"m":null}}"#),
        (
            "models: {m: {endpoint_var: E, model_var: M}}",
            r#"{"models":{"m":{"endpoint_var":"E","model_var":"M"}}}"#,
        ),
        (
            "oom_kill_disable: 'true'\n    oom_score_adj: -500",
            r#"{"oom_kill_disable":true,"oom_score_adj":-500}"#,
        ),
        (
            "post_start: [{command: echo hi, user: root, privileged: true, working_dir: /w, environment: [A=1, B]}]",
            r#"{"post_start":[{"command":["echo","hi"],"environment":{"A":"1","B":null},"privileged":true,"user":"root","working_dir":"/w"}]}"#,
        ),
        (
            "pre_stop: [{command: [a, b]}]",
            r#"{"pre_stop":[{"command":["a","b"]}]}"#,
        ),
        (
            "pre_start: [{command: a, per_replica: true}, {image: own}]",
            r#"{"pre_start":[{"command":["a"],"image":"i","per_replica":true},{"image":"own"}]}"#,
        ),
        (
            "provider: {type: p, options: {a: b, c: [1, true]}}",
            r#"{"provider":{"options":{"a":["b"],"c":["1","true"]},"type":"p"}}"#,
        ),
        (
            "pull_policy: if_not_present\n    pull_refresh_after: 1h",
            r#"{"pull_policy":"missing","pull_refresh_after":"1h"}"#,
        ),
        ("runtime: crun", r#"{"runtime":"crun"}"#),
        (
            "storage_opt: {size: 1G, n: 5}",
            r#"{"storage_opt":{"n":"5","size":"1G"}}"#,
        ),
        ("use_api_socket: true", r#"{"use_api_socket":true}"#),
        (
            "build: {context: ., additional_contexts: {a: ./x, b: 'docker-image://x', c: 'service:built', d: 'https://x/y', e: '~/q', f: 'target:t'}}",
            r#"{"build":{"additional_contexts":{"a":"/work/app/x","b":"docker-image://x","c":"service:built","d":"https://x/y","e":"/home/user/q","f":"target:t"},"context":"/work/app","dockerfile":"Dockerfile"}}"#,
        ),
        (
            "build: {args: [NOWHERE, B=1, HOME], cache_from: [a], cache_to: [b], entitlements: [c], extra_hosts: {h: 1.2.3.4}, labels: [l]}",
            r#"{"build":{"args":{"B":"1","HOME":"/home/user"},"cache_from":["a"],"cache_to":["b"],"context":"/work/app","dockerfile":"Dockerfile","entitlements":["c"],"extra_hosts":["h=1.2.3.4"],"labels":{"l":""}}}"#,
        ),
        (
            "build: {network: host, no_cache: true, no_cache_filter: s, platforms: [linux/amd64], privileged: true, provenance: true, pull: true, sbom: x}",
            r#"{"build":{"context":"/work/app","dockerfile":"Dockerfile","network":"host","no_cache":true,"no_cache_filter":["s"],"platforms":["linux/amd64"],"privileged":true,"provenance":"true","pull":true,"sbom":"x"}}"#,
        ),
        (
            "build: {secrets: [s, {source: s, target: t}], shm_size: 128m, ssh: [default, 'k=./p'], tags: [t], ulimits: {nofile: 5}}",
            r#"{"build":{"context":"/work/app","dockerfile":"Dockerfile","secrets":[{"source":"s"},{"source":"s","target":"t"}],"shm_size":"134217728","ssh":["default","k=/work/app/p"],"tags":["t"],"ulimits":{"nofile":5}}}"#,
        ),
        (
            "build: {ssh: {default: , k: ./p}}",
            r#"{"build":{"context":"/work/app","dockerfile":"Dockerfile","ssh":["default","k=/work/app/p"]}}"#,
        ),
        (
            "deploy: {mode: global, endpoint_mode: vip, labels: [a=b], placement: {constraints: [c], preferences: [{spread: s}], max_replicas_per_node: '3'}}",
            r#"{"deploy":{"endpoint_mode":"vip","labels":{"a":"b"},"mode":"global","placement":{"constraints":["c"],"max_replicas_per_node":3,"preferences":[{"spread":"s"}]},"resources":{}}}"#,
        ),
        (
            "deploy: {restart_policy: {condition: any, delay: 0s, max_attempts: 0, window: 120s}, update_config: {parallelism: 0, delay: 0s, failure_action: pause, monitor: 60s, max_failure_ratio: 0.3, order: start-first}}",
            r#"{"deploy":{"placement":{},"resources":{},"restart_policy":{"condition":"any","delay":"0s","max_attempts":0,"window":"2m0s"},"update_config":{"failure_action":"pause","max_failure_ratio":0.3,"monitor":"1m0s","order":"start-first","parallelism":0}}}"#,
        ),
        (
            "deploy: {resources: {reservations: {cpus: '0.5', memory: 20M, devices: [{capabilities: [gpu]}, {capabilities: [x], device_ids: [a]}], generic_resources: [{discrete_resource_spec: {kind: g, value: 2}}]}}}",
            r#"{"deploy":{"placement":{},"resources":{"reservations":{"cpus":0.5,"devices":[{"capabilities":["gpu"],"count":-1},{"capabilities":["x"],"device_ids":["a"]}],"generic_resources":[{"discrete_resource_spec":{"kind":"g","value":2}}],"memory":"20971520"}}}}"#,
        ),
        ("deploy: \n    develop: ", "{}"),
        (
            "develop: {watch: [{path: ., action: sync+exec, target: /t, exec: {command: ls}, include: a, initial_sync: true}]}",
            r#"{"develop":{"watch":[{"action":"sync+exec","exec":{"command":["ls"]},"include":["a"],"initial_sync":true,"path":"/work/app","target":"/t"}]}}"#,
        ),
        (
            "networks: {default: {driver_opts: {q: 1}, gw_priority: 3, interface_name: e, ipv6_address: '::1', link_local_ips: [l], mac_address: m}}",
            r#"{"networks":{"default":{"driver_opts":{"q":"1"},"gw_priority":3,"interface_name":"e","ipv6_address":"::1","link_local_ips":["l"],"mac_address":"m"}}}"#,
        ),
        (
            r"volumes: [{type: image, source: q, target: /i, image: {subpath: a}}, {type: npipe, source: '\\.\pipe\p', target: /p}, {type: bind, source: 'C:\x', target: /w}, '\\.\pipe\q:/q']",
            r#"{"volumes":[{"image":{"subpath":"a"},"source":"q","target":"/i","type":"image"},{"source":"\\\\.\\pipe\\p","target":"/p","type":"npipe"},{"source":"C:\\x","target":"/w","type":"bind"},{"bind":{},"source":"\\\\.\\pipe\\q","target":"/q","type":"bind"}]}"#,
        ),
        (
            "volumes: ['vol:/d:z,nocopy', './a:/b:z,nocopy', /q]",
            r#"{"volumes":[{"bind":{"selinux":"z"},"source":"vol","target":"/d","type":"volume","volume":{"nocopy":true}},{"bind":{"selinux":"z"},"source":"/work/app/a","target":"/b","type":"bind","volume":{"nocopy":true}},{"target":"/q","type":"volume"}]}"#,
        ),
        (
            "secrets: [{source: s, mode: 0440, uid: '1', gid: '2'}]",
            r#"{"secrets":[{"gid":"2","mode":"0440","source":"s","target":"/run/secrets/s","uid":"1"}]}"#,
        ),
        ("dns: ['', 1.1.1.1]", r#"{"dns":["1.1.1.1"]}"#),
        (
            "ulimits: {a: 1, b: {soft: 0, hard: 5}}",
            r#"{"ulimits":{"a":1,"b":{"hard":5}}}"#,
        ),
        ("ulimits: {nofile: 0}", r#"{"ulimits":{"nofile":{}}}"#),
        ("build: ''", r#"{"build":{"dockerfile":"Dockerfile"}}"#),
        ("shm_size: 1.5", "{}"),
        ("shm_size: '1.5'", r#"{"shm_size":"1"}"#),
        ("mem_limit: 1e9", r#"{"mem_limit":"1000000000"}"#),
        (
            "environment: {A: 123456789.5, B: 1e6, C: -0, D: -0.0, E: 0.00001, F: 0.5}",
            r#"{"environment":{"A":"1.234567895e+08","B":"1e+06","C":"0","D":"-0","E":"1e-05","F":"0.5"}}"#,
        ),
        (
            "pids_limit: -2.9\n    cpu_shares: 2.26\n    healthcheck: {test: a, retries: 2.26}",
            r#"{"cpu_shares":2,"healthcheck":{"retries":2,"test":["CMD-SHELL","a"]},"pids_limit":-2}"#,
        ),
        (
            "volumes: [{type: tmpfs, target: /t, tmpfs: {mode: 0o1770}}, {type: tmpfs, target: /u, tmpfs: {mode: '0700'}}]",
            r#"{"volumes":[{"target":"/t","tmpfs":{"mode":1016},"type":"tmpfs"},{"target":"/u","tmpfs":{"mode":448},"type":"tmpfs"}]}"#,
        ),
        (
            "deploy: {placement: {}}",
            r#"{"deploy":{"placement":{},"resources":{}}}"#,
        ),
        ("labels: ['=x', a]", r#"{"labels":{"":"x","a":""}}"#),
        (
            "healthcheck: {test: [], interval: 0s}",
            r#"{"healthcheck":{"interval":"0s"}}"#,
        ),
    ];
    for (attribute, expected) in rows {
        let text = format!(
            "services:\n  a:\n    image: i\n    {attribute}\n  other: {{image: o}}\n  built: {{build: .}}\nsecrets: {{s: {{environment: S}}}}\nvolumes: {{vol: }}\nmodels: {{m: {{model: x}}}}\n"
        );
        let result = load_text(&text);
        let Ok(loaded) = &result else {
            panic!("{attribute}: {}", said(&result));
        };
        let mut service = render::render_json(&loaded.stack)["services"]["a"].clone();
        let fields = service.as_object_mut().unwrap();
        fields.retain(|key, value| {
            let usual = match key.as_str() {
                "image" => "\"i\"",
                "networks" => "{\"default\":null}",
                "command" | "entrypoint" => "null",
                _ => "",
            };
            let shown = value.to_string();
            shown != usual
        });
        assert_eq!(service.to_string(), expected, "{attribute}");
        // What is printed loads to the same.
        let printed = render::render_yaml(&loaded.stack);
        let again = load_text(&printed);
        assert!(again.is_ok(), "{attribute}: {}\n{printed}", said(&again));
        assert_eq!(
            render::render_yaml(&again.unwrap().stack),
            printed,
            "{attribute}"
        );
    }
}

#[test]
fn resources_have_their_canonical_form() {
    let text = "
services: {a: {image: x, networks: [n, e, f], volumes: ['vol:/a', 'old:/b']}}
networks:
  n: {driver: d, driver_opts: {a: 1, b: x}, enable_ipv6: false, attachable: true, internal: 'yes', ipam: {driver: d, config: [{subnet: 10.0.0.0/8, ip_range: 10.1.0.0/16, gateway: 10.0.0.1, aux_addresses: {h: 10.0.0.5}}], options: {o: p}}}
  e: {external: {name: there}}
  f: {external: true, internal: true}
volumes:
  vol: {driver: local, driver_opts: {type: none, o: bind, device: ./data}, labels: [l]}
  old: {external: true}
secrets: {s: {external: true}, d: {driver: v, driver_opts: {a: 1}, template_driver: t, labels: {l: 1}}}
configs: {c: {content: '$$x', labels: [l]}}
models: {m: {model: ai/x, context_size: 5, runtime_flags: [a], name: n}}
";
    let result = load_text(text);
    assert_eq!(
        said(&result),
        "\
compose.yaml:4:93: warning: \"yes\" for boolean is not supported by YAML 1.2, please use `true`
compose.yaml:5:18: warning: networks.e: external.name is deprecated. Please set name and external: true
"
    );
    let mut project = render::render_json(&result.unwrap().stack);
    project.as_object_mut().unwrap().remove("services");
    let expected = serde_json::json!({
        "name": "app",
        "networks": {
            "n": {"name": "app_n", "driver": "d", "driver_opts": {"a": "1", "b": "x"}, "enable_ipv6": false, "attachable": true, "internal": true,
                "ipam": {"driver": "d", "config": [{"subnet": "10.0.0.0/8", "ip_range": "10.1.0.0/16", "gateway": "10.0.0.1", "aux_addresses": {"h": "10.0.0.5"}}]}},
            "e": {"name": "there", "external": true, "ipam": {}},
            "f": {"name": "f", "external": true, "internal": true, "ipam": {}},
        },
        "volumes": {
            "vol": {"name": "app_vol", "driver": "local", "driver_opts": {"type": "none", "o": "bind", "device": "/work/app/data"}, "labels": {"l": ""}},
            "old": {"name": "old", "external": true},
        },
        "secrets": {
            "s": {"name": "s", "external": true},
            "d": {"name": "app_d", "driver": "v", "driver_opts": {"a": "1"}, "template_driver": "t", "labels": {"l": "1"}},
        },
        "configs": {"c": {"name": "app_c", "content": "$x", "labels": {"l": ""}}},
        "models": {"m": {"model": "ai/x", "context_size": 5, "runtime_flags": ["a"], "name": "n"}},
    });
    assert_eq!(project, expected);
}
