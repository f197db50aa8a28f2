//! The network as a user meets it: published ports on every address, names, networks kept apart.

#![allow(
    clippy::allow_attributes,
    clippy::disallowed_methods,
    reason = "tests run real processes"
)]

mod support;

use std::collections::BTreeSet;

use support::Machine;

/// A server of each protocol. Debian's busybox serves no datagrams: the host's perl does.
const PORTS: &str = r#"
name: demo
services:
  tcp:
    image: busybox
    init: true
    command: nc -ll -p 9000 -e echo from-tcp
    ports: ["18000:9000", "127.0.0.1:18001:9000", "18010-18011:9000-9001"]
  udp:
    image: busybox
    init: true
    command:
      - /usr/bin/perl
      - -e
      - |
        use Socket;
        socket(S, PF_INET, SOCK_DGRAM, 0) && bind(S, sockaddr_in(9000, INADDR_ANY)) || die $$!;
        while (my $$from = recv(S, my $$asked, 512, 0)) { send(S, "from-udp\n", 0, $$from) }
    volumes: ["/usr:/usr:ro", "/lib:/lib:ro", "/lib64:/lib64:ro"]
    ports:
      - {target: 9000, published: "18000", protocol: udp}
"#;

/// A service that sleeps.
fn sleeper(name: &str, extra: &str) -> String {
    format!("  {name}:\n    image: busybox\n    init: true\n    command: sleep infinity\n{extra}")
}

/// The addresses that `name` has in the service `from`, in the order of the answer.
fn lookup(machine: &Machine, from: &str, name: &str) -> Vec<String> {
    let ran = machine.run("p", &["exec", "-T", from, "nslookup", "-type=a", name]);
    let answer = ran.stdout.split_once("Name:").map_or("", |(_, rest)| rest);
    answer
        .lines()
        .filter_map(|line| line.strip_prefix("Address: "))
        .map(str::to_owned)
        .collect()
}

#[test]
fn ports_are_reached_on_every_address_of_the_host_by_tcp_and_udp() {
    let machine = Machine::project(PORTS);
    machine.sh("ip addr add 192.0.2.7/32 dev lo && ip addr add 2001:db8::7/128 dev lo nodad");
    machine.ok("p", &["up", "-d"]);
    let ask = |protocol: &str, address: &str, port: u16| {
        // Ask until the server listens.
        let script = format!(
            "for i in $(seq 100); do exec 3<>/dev/{protocol}/{address}/{port} && echo >&3 && \
             timeout 0.3 head -n 1 <&3 | grep . && exit 0; exec 3>&-; done 2>/dev/null; echo no answer"
        );
        machine.sh(&format!("bash -c '{script}'"))
    };
    for protocol in ["tcp", "udp"] {
        for address in ["127.0.0.1", "localhost", "::1", "192.0.2.7", "2001:db8::7"] {
            let answer = ask(protocol, address, 18000);
            assert_eq!(answer, format!("from-{protocol}\n"), "{protocol} {address}");
        }
    }
    assert_eq!(ask("tcp", "127.0.0.1", 18001), "from-tcp\n");
    assert_eq!(ask("tcp", "127.0.0.1", 18010), "from-tcp\n");
    let refused = machine.sh("bash -c ': <>/dev/tcp/192.0.2.7/18001' 2>&1 || true");
    assert!(refused.contains("refused"), "{refused}");
    machine.ok("p", &["down"]);
    machine.assert_clean();
}

#[test]
fn a_name_gives_every_replica_in_turn_and_aliases_are_names_too() {
    let machine = Machine::project(&format!(
        "name: demo\nservices:\n{}{}{}networks:\n  default:\n",
        sleeper(
            "web",
            "    deploy: {replicas: 2}\n    networks:\n      default:\n        aliases: [www, site.example]\n"
        ),
        sleeper("client", ""),
        sleeper(
            "named",
            "    container_name: the-one\n    hostname: its-host\n"
        ),
    ));
    machine.ok("p", &["up", "-d", "--scale", "web=3"]);
    assert_eq!(machine.ok("p", &["ps", "-q", "web"]).lines().count(), 3);
    let all: BTreeSet<String> = lookup(&machine, "client", "web").into_iter().collect();
    assert_eq!(all.len(), 3, "{all:?}");
    let first: BTreeSet<String> = (0..9)
        .filter_map(|_| lookup(&machine, "client", "web").into_iter().next())
        .collect();
    assert_eq!(first, all, "each replica is first in some answer");
    for alias in ["www", "site.example", "WEB"] {
        let found: BTreeSet<String> = lookup(&machine, "client", alias).into_iter().collect();
        assert_eq!(found, all, "{alias}");
    }
    let one = lookup(&machine, "client", "demo-web-2");
    assert!(one.len() == 1 && all.contains(&one[0]), "{one:?}");
    assert_eq!(
        lookup(&machine, "client", "the-one"),
        lookup(&machine, "client", "named")
    );
    assert_eq!(lookup(&machine, "client", "the-one").len(), 1);
    assert_eq!(lookup(&machine, "client", "nobody"), [""; 0]);
    // Backwards too, and what is scaled down is no longer named.
    let back = machine.run("p", &["exec", "-T", "client", "nslookup", &one[0]]);
    assert!(back.stdout.contains("demo-web-2"), "{}", back.stdout);
    machine.ok("p", &["up", "-d", "--scale", "web=1"]);
    assert_eq!(lookup(&machine, "client", "web").len(), 1);
    machine.ok("p", &["down", "-t", "0"]);
    machine.assert_clean();
}

#[test]
fn networks_are_apart_and_an_internal_one_has_no_way_out() {
    let machine = Machine::project(&format!(
        "name: demo\nservices:\n{}{}{}{}networks:\n  front:\n  back:\n    internal: true\n",
        sleeper("web", "    networks: [front]\n"),
        sleeper("app", "    networks: [front, back]\n"),
        sleeper("db", "    networks: [back]\n"),
        sleeper("alone", "    network_mode: none\n"),
    ));
    machine.sh("ip addr add 192.0.2.7/32 dev lo");
    let mut outside = machine
        .command(".", "busybox")
        .args(["httpd", "-f", "-p", "192.0.2.7:80"])
        .spawn()
        .unwrap();
    machine.ok("p", &["up", "-d"]);
    let reaches = |from: &str, to: &str| {
        machine
            .run("p", &["exec", "-T", from, "ping", "-c", "1", "-W", "2", to])
            .code
            == 0
    };
    let address = |of: &str| lookup(&machine, "app", of).remove(0);
    let (web, db) = (address("web"), address("db"));
    let seen = [
        reaches("app", "web"),
        reaches("app", "db"),
        reaches("web", "app"),
        reaches("db", "app"),
        reaches("web", "db"),
        reaches("db", "web"),
        reaches("web", &db),
        reaches("db", &web),
        reaches("web", "192.0.2.7"),
        reaches("db", "192.0.2.7"),
    ];
    assert_eq!(
        seen,
        [
            true, true, true, true, false, false, false, false, true, false
        ]
    );
    let links = machine.ok("p", &["exec", "-T", "alone", "ls", "/sys/class/net"]);
    assert_eq!(links, "lo\n");
    outside.kill().unwrap();
    outside.wait().unwrap();
    machine.ok("p", &["down", "-t", "0"]);
    machine.assert_clean();
}
