//! The whole room against the kernel, each test on a host of its own.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};

use crate::net::config::{EndpointConfig, Protocol, SandboxConfig};
use crate::net::error::NetError;
use crate::net::testing::{
    Container, REACHABLE_WITHIN, Server, TestHost, UNREACHABLE_AFTER, add_outside, ask, network,
    on_host, open, port, range, sandbox,
};
use crate::net::{nft, ruleset};
use crate::sys::netlink::{Family, Socket};
use crate::sys::netns;

/// One line of the matrix: who, to where, and the address the server sees; `None`: unreachable.
type Case<'a> = (&'a str, &'a OwnedFd, SocketAddr, Option<IpAddr>);

fn check_all(cases: &[Case<'_>]) {
    let wrong: Vec<String> = std::thread::scope(|scope| {
        let threads: Vec<_> = cases
            .iter()
            .map(|(name, from, to, expected)| {
                scope.spawn(move || {
                    let within = if expected.is_some() {
                        REACHABLE_WITHIN
                    } else {
                        UNREACHABLE_AFTER
                    };
                    let found = ask(*from, *to, within);
                    let expected = expected.map(|address| address.to_string());
                    (found != expected)
                        .then(|| format!("{name}: {to} saw {found:?}, expected {expected:?}"))
                })
            })
            .collect();
        threads
            .into_iter()
            .filter_map(|thread| thread.join().unwrap())
            .collect()
    });
    assert_eq!(wrong, Vec::<String>::new());
}

/// The matrix of `reference/net/nettest.sh`, with the address that the server sees.
#[expect(clippy::too_many_lines, reason = "one table")]
async fn reachability(host: TestHost, bridge_netfilter: &str) {
    for key in ["bridge-nf-call-iptables", "bridge-nf-call-ip6tables"] {
        fs_err::write(format!("/proc/sys/net/bridge/{key}"), bridge_netfilter).unwrap();
    }
    let outside = add_outside().await;
    let mut a = network("a");
    a.subnets = vec![range("10.1.0.0/16"), range("fd01::/64")];
    let mut b = network("b");
    b.subnets = vec![range("10.2.0.0/16"), range("fd02::/64")];
    let mut internal = network("internal");
    internal.internal = true;
    for config in [&a, &b, &internal] {
        host.net.ensure_network(config).await.unwrap();
    }
    let mut published = sandbox("c1", &["a"]);
    published.ports = vec![
        port(None, 80, Protocol::Tcp),
        port(Some("127.0.0.1"), 80, Protocol::Tcp),
    ];
    let c1 = host.start(published).await;
    let c2 = host.start(sandbox("c2", &["a"])).await;
    let c3 = host.start(sandbox("c3", &["b"])).await;
    let c4 = host.start(sandbox("c4", &["internal"])).await;
    let _server = Server::start(&c1.netns, 80);
    let _internal = Server::start(&c4.netns, 80);
    let _outside = Server::start(&outside, 80);
    let open_port = c1.reserved[0].port.host.port();
    let local_port = c1.reserved[2].port.host.port();
    let ip = |text: &str| text.parse::<IpAddr>().unwrap();
    let at = |text: &str, port| SocketAddr::new(ip(text), port);
    let here = &host.netns;
    let (gateway, gateway6) = (Some(ip("10.1.0.1")), Some(ip("fd01::1")));
    let (out, out6) = (Some(ip("192.168.77.2")), Some(ip("fd77::2")));
    let v4 = |c: &Container| c.address(true);
    let v6 = |c: &Container| c.address(false);
    let direct = |c: &Container| SocketAddr::new(v4(c), 80);
    let direct6 = |c: &Container| SocketAddr::new(v6(c), 80);
    check_all(&[
        (
            "outside to published",
            &outside,
            at("192.168.77.1", open_port),
            out,
        ),
        ("outside to container", &outside, direct(&c1), None),
        (
            "outside to loopback-only",
            &outside,
            at("192.168.77.1", local_port),
            None,
        ),
        (
            "host to published on its address",
            here,
            at("192.168.77.1", open_port),
            gateway,
        ),
        (
            "host to published on 127.0.0.1",
            here,
            at("127.0.0.1", open_port),
            gateway,
        ),
        (
            "host to published on another loopback address",
            here,
            at("127.1.2.3", open_port),
            gateway,
        ),
        (
            "host to published on a gateway",
            here,
            at("10.1.0.1", open_port),
            gateway,
        ),
        (
            "host to loopback-only",
            here,
            at("127.0.0.1", local_port),
            gateway,
        ),
        (
            "host to loopback-only on its address",
            here,
            at("192.168.77.1", local_port),
            None,
        ),
        ("same network", &c2.netns, direct(&c1), Some(v4(&c2))),
        ("other network", &c3.netns, direct(&c1), None),
        (
            "other network to published",
            &c3.netns,
            at("192.168.77.1", open_port),
            gateway,
        ),
        (
            "itself through published",
            &c1.netns,
            at("192.168.77.1", open_port),
            gateway,
        ),
        (
            "same network through the gateway",
            &c2.netns,
            at("10.1.0.1", open_port),
            gateway,
        ),
        (
            "internal to published",
            &c4.netns,
            at("192.168.77.1", open_port),
            None,
        ),
        (
            "internal to outside",
            &c4.netns,
            at("192.168.77.2", 80),
            None,
        ),
        ("other network to internal", &c3.netns, direct(&c4), None),
        (
            "container to outside",
            &c2.netns,
            at("192.168.77.2", 80),
            Some(ip("192.168.77.1")),
        ),
        (
            "container to outside, IPv6",
            &c2.netns,
            at("fd77::2", 80),
            Some(ip("fd77::1")),
        ),
        (
            "outside to published, IPv6",
            &outside,
            at("fd77::1", open_port),
            out6,
        ),
        ("outside to container, IPv6", &outside, direct6(&c1), None),
        (
            "host to published, IPv6",
            here,
            at("fd77::1", open_port),
            gateway6,
        ),
        (
            "itself through published, IPv6",
            &c1.netns,
            at("fd77::1", open_port),
            gateway6,
        ),
        ("other network, IPv6", &c3.netns, direct6(&c1), None),
        (
            "other network to published, IPv6",
            &c3.netns,
            at("fd77::1", open_port),
            gateway6,
        ),
    ]);
    // Gone with the release, also for those that had it.
    host.net.release(&["c1"]).unwrap();
    check_all(&[("outside to released", &outside, direct(&c1), None)]);
}

#[test]
fn who_reaches_whom() {
    on_host(|host| reachability(host, "0"));
}

#[test]
fn who_reaches_whom_when_bridges_call_the_firewall() {
    on_host(|host| reachability(host, "1"));
}

#[test]
fn the_table_is_whole_and_comes_back_after_a_flush() {
    on_host(|host| async move {
        // A new namespace has this as the machine has it.
        fs_err::write("/proc/sys/net/ipv4/ip_forward", "0").unwrap();
        host.net.ensure_network(&network("one")).await.unwrap();
        let socket = Socket::open(Family::Netfilter).unwrap();
        let table = || nft::read_table(&socket, "stack-1a2b3c4d").unwrap();
        let whole = Some(nft::TableFound {
            comment: Some(ruleset::VERSION.to_owned()),
            rules: ruleset::RULES,
        });
        assert_eq!(table(), whole);
        let mut config = sandbox("c1", &["one"]);
        config.ports = vec![port(None, 80, Protocol::Tcp)];
        let container = host.start(config).await;
        let _server = Server::start(&container.netns, 80);
        let published = SocketAddr::new(
            [127, 0, 0, 1].into(),
            container.reserved[0].port.host.port(),
        );
        let mut flush = nft::Batch::new(nft::Family::Inet);
        flush.delete_table("stack-1a2b3c4d");
        flush.commit(&socket).unwrap();
        assert_eq!(table(), None);
        let restored =
            "firewall table `stack-1a2b3c4d` was missing or changed and has been made again";
        let forwarding = "turned on /proc/sys/net/ipv4/ip_forward: this host now forwards packets between all its networks unless a firewall forbids it";
        let warnings: Vec<String> = host
            .net
            .repair()
            .unwrap()
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(warnings, [forwarding, restored]);
        assert_eq!(table(), whole);
        assert_eq!(
            ask(&host.netns, published, REACHABLE_WITHIN),
            Some("172.17.0.1".to_owned())
        );
        // Twice is once.
        assert_eq!(host.net.repair().unwrap(), Vec::new());
        host.net.release(&["c1", "never"]).unwrap();
        host.net.release(&["c1"]).unwrap();
        host.net.forget(&["c1"]).unwrap();
        host.net.remove_network("one").await.unwrap();
        assert_eq!(table(), None);
    });
}

#[test]
fn nothing_is_left_after_the_last_network() {
    on_host(|host| async move {
        let links = || {
            let text = fs_err::read_to_string("/proc/thread-self/net/dev").unwrap();
            text.lines()
                .skip(2)
                .map(|l| l.split(':').next().unwrap().trim().to_owned())
                .collect::<Vec<_>>()
        };
        let before = links();
        host.net.ensure_network(&network("one")).await.unwrap();
        host.net.ensure_network(&network("two")).await.unwrap();
        let c1 = host.start(sandbox("c1", &["one", "two"])).await;
        let c2 = host.start(sandbox("c2", &["two"])).await;
        assert_eq!(links().len(), before.len() + 2 + 3);
        let in_use = host.net.remove_network("two").await.unwrap_err();
        assert_eq!(
            in_use.iter().map(ToString::to_string).collect::<Vec<_>>(),
            ["network `two` is in use by c1, c2"]
        );
        host.net.release(&["c1", "c2"]).unwrap();
        host.net.forget(&["c1", "c2"]).unwrap();
        // The namespaces are still there: the links go all the same.
        host.net.remove_network("two").await.unwrap();
        host.net.remove_network("one").await.unwrap();
        host.net.remove_network("one").await.unwrap();
        assert_eq!(links(), before);
        drop((c1, c2));
        let files = |path: &str| {
            let directory = host.directory.path().join(path);
            let mut names: Vec<_> = fs_err::read_dir(directory)
                .unwrap()
                .map(|e| e.unwrap().file_name())
                .collect();
            names.sort();
            names
        };
        assert_eq!(files("1a2b3c4d/lib/networks"), [".lock", "leases"]);
        assert_eq!(files("1a2b3c4d/lib/networks/leases"), [""; 0]);
        assert_eq!(files("1a2b3c4d/run/net/names"), [""; 0]);
        assert_eq!(files("1a2b3c4d/run/net/published"), [""; 0]);
        assert_eq!(files("roots"), [""; 0]);
    });
}

#[test]
fn tasks_of_one_process_change_networks_at_the_same_time() {
    on_host(|host| async move {
        let (net, here) = (&host.net, std::slice::from_ref);
        net.ensure_network(&network("one")).await.unwrap();
        let sandbox = |id: &str| SandboxConfig {
            id: id.to_owned(),
            endpoints: vec![EndpointConfig {
                network: "one".to_owned(),
                names: Vec::new(),
                address: None,
            }],
            ports: Vec::new(),
        };
        let (two, three) = (network("two"), network("three"));
        let (first, second, third) = tokio::join!(
            net.ensure_network(&two),
            net.ensure_network(&three),
            async { net.allocate(here(&sandbox("a"))) },
        );
        let (first, second) = (first.unwrap(), second.unwrap());
        assert_ne!(first.subnets, second.subnets);
        assert_eq!(third.unwrap().len(), 1);
        let (gone, forgotten, made) = tokio::join!(
            net.remove_network("two"),
            async { net.forget(&["a"]) },
            net.ensure_network(&two),
        );
        gone.unwrap();
        forgotten.unwrap();
        made.unwrap();
    });
}

#[test]
fn a_network_is_repaired_after_a_reboot() {
    on_host(|host| async move {
        let record = host.net.ensure_network(&network("one")).await.unwrap();
        // A namespace without anything is what a boot leaves; the run directory is empty then.
        let rebooted = netns::create().unwrap();
        fs_err::remove_dir_all(host.directory.path().join("1a2b3c4d/run")).unwrap();
        let again = netns::run_in(rebooted.as_fd(), || {
            let net = open(&host.directory, "1a2b3c4d");
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let first = net.ensure_network(&network("one")).await.unwrap();
                let second = net.ensure_network(&network("one")).await.unwrap();
                assert_eq!(first, second);
            });
            let socket = Socket::open(Family::Netfilter).unwrap();
            nft::read_table(&socket, "stack-1a2b3c4d")
                .unwrap()
                .unwrap()
                .rules
        });
        assert_eq!(again.unwrap(), ruleset::RULES);
        let mut other = network("one");
        other.internal = true;
        let error = host.net.ensure_network(&other).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "network `one` exists with any range, wanted any range, internal"
        );
        assert_eq!(host.net.networks().unwrap(), [record]);
    });
}

#[test]
fn ranges_keep_off_the_host_and_off_other_roots() {
    on_host(|host| async move {
        let _outside = add_outside().await;
        let other = open(&host.directory, "99998888");
        let first = host.net.ensure_network(&network("one")).await.unwrap();
        let second = other.ensure_network(&network("one")).await.unwrap();
        assert_eq!(
            [first, second].map(|record| record.subnets[0].range.to_string()),
            ["172.17.0.0/16", "172.18.0.0/16"]
        );
        let mut taken = network("two");
        taken.subnets = vec![range("192.168.77.128/25")];
        let error = host.net.ensure_network(&taken).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "range 192.168.77.128/25 of network `two` overlaps 192.168.77.0/24 (a route or address of this host)"
        );
        taken.subnets = vec![range("172.18.4.0/24")];
        let error = host.net.ensure_network(&taken).await.unwrap_err();
        assert!(error.to_string().starts_with(
            "range 172.18.4.0/24 of network `two` overlaps 172.18.0.0/16 (network `one` in "
        ));
    });
}

#[test]
fn addresses_are_kept_until_forgotten_and_then_not_used_again_at_once() {
    on_host(|host| async move {
        let mut config = network("one");
        config.subnets = vec![range("10.9.0.0/29")];
        host.net.ensure_network(&config).await.unwrap();
        let leased = |sandboxes: &[_]| {
            let leases = host.net.allocate(sandboxes)?;
            let address = |l: crate::net::record::Leases| l.endpoints[0].addresses[0].to_string();
            Ok::<_, NetError>(leases.into_iter().map(address).collect::<Vec<_>>())
        };
        let mut fixed = sandbox("fixed", &["one"]);
        fixed.endpoints[0].address = Some("10.9.0.2".parse().unwrap());
        let all = [
            sandbox("a", &["one"]),
            sandbox("b", &["one"]),
            fixed.clone(),
        ];
        assert_eq!(
            leased(&all).unwrap(),
            ["10.9.0.3/29", "10.9.0.4/29", "10.9.0.2/29"]
        );
        assert_eq!(
            leased(&all).unwrap(),
            ["10.9.0.3/29", "10.9.0.4/29", "10.9.0.2/29"]
        );
        host.net.forget(&["a", "unknown"]).unwrap();
        assert_eq!(leased(&[sandbox("c", &["one"])]).unwrap(), ["10.9.0.5/29"]);
        let rest = [sandbox("d", &["one"]), sandbox("e", &["one"])];
        assert_eq!(leased(&rest).unwrap(), ["10.9.0.6/29", "10.9.0.3/29"]);
        assert_eq!(
            leased(&[sandbox("f", &["one"])]).unwrap_err().to_string(),
            "no free address in 10.9.0.0/29 of network `one`"
        );
        fixed.id = "other".to_owned();
        assert_eq!(
            leased(&[fixed.clone()]).unwrap_err().to_string(),
            "address 10.9.0.2 cannot be used in network `one`: container fixed has it"
        );
        fixed.endpoints[0].address = Some("10.9.0.1".parse().unwrap());
        assert_eq!(
            leased(&[fixed.clone()]).unwrap_err().to_string(),
            "address 10.9.0.1 cannot be used in network `one`: it is the gateway"
        );
        fixed.endpoints[0].address = Some("10.8.0.1".parse().unwrap());
        assert_eq!(
            leased(&[fixed]).unwrap_err().to_string(),
            "address 10.8.0.1 cannot be used in network `one`: it is outside of 10.9.0.0/29"
        );
    });
}

#[test]
fn a_port_in_use_names_its_holder() {
    on_host(|host| async move {
        let held = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let taken = held.local_addr().unwrap();
        let mut config = port(None, 80, Protocol::Tcp);
        config.host_ports = Some((taken.port(), taken.port()));
        let error = crate::net::ports::reserve(std::slice::from_ref(&config)).unwrap_err();
        let NetError::PortInUse {
            address,
            holder: Some(holder),
            ..
        } = &error
        else {
            panic!("{error}");
        };
        assert_eq!(
            (address.port(), holder.pid),
            (taken.port(), std::process::id().cast_signed())
        );
        let expected = format!(
            "host port 0.0.0.0:{}/tcp is in use by process {} (",
            taken.port(),
            holder.pid
        );
        assert!(error.to_string().starts_with(&expected), "{error}");
        // A range goes on to the next one; UDP is another matter than TCP; two holders conflict.
        config.host_ports = Some((taken.port(), taken.port() + 1));
        let reserved = crate::net::ports::reserve(std::slice::from_ref(&config)).unwrap();
        let hosts: Vec<_> = reserved.iter().map(|r| r.port.host.to_string()).collect();
        let next = taken.port() + 1;
        assert_eq!(hosts, [format!("0.0.0.0:{next}"), format!("[::]:{next}")]);
        crate::net::ports::reserve(&[config.clone()]).unwrap_err();
        config.protocol = Protocol::Udp;
        config.host_ports = Some((taken.port(), taken.port()));
        let _udp = crate::net::ports::reserve(&[config.clone()]).unwrap();
        let error = crate::net::ports::reserve(&[config]).unwrap_err();
        let expected = format!(
            "host port 0.0.0.0:{}/udp is in use by process",
            taken.port()
        );
        assert!(error.to_string().starts_with(&expected), "{error}");
        drop(host);
    });
}

/// Runs a program of the machine in the namespace of the calling thread and returns what it prints.
#[expect(
    clippy::disallowed_methods,
    reason = "an independent reader of what we wrote"
)]
pub(super) fn run(program: &str, arguments: &[&str]) -> String {
    let output = std::process::Command::new(program)
        .args(arguments)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    text
}

#[test]
fn the_table_reads_as_intended() {
    on_host(|host| async move {
        let mut config = network("one");
        config.subnets = vec![range("10.1.0.0/16"), range("fd01::/64")];
        config.internal = true;
        host.net.ensure_network(&config).await.unwrap();
        config.internal = false;
        config.name = "two".to_owned();
        config.subnets = vec![range("10.2.0.0/16"), range("10.3.0.0/16")];
        host.net.ensure_network(&config).await.unwrap();
        let mut published = sandbox("c1", &["two"]);
        published.ports = vec![
            port(Some("0.0.0.0"), 80, Protocol::Tcp),
            port(Some("127.0.0.1"), 53, Protocol::Udp),
        ];
        let container = host.start(published).await;
        let mut text = run("nft", &["list", "table", "inet", "stack-1a2b3c4d"]);
        for (index, name) in ["one", "two"].into_iter().enumerate() {
            let record = host.net.record(name).unwrap();
            text = text.replace(&record.bridge, ["BRIDGE1", "BRIDGE2"][index]);
        }
        for (index, port) in container.ports().iter().enumerate() {
            text = text.replace(
                &format!(". {} :", port.host.port()),
                [". PORT1 :", ". PORT2 :"][index],
            );
        }
        // Element order of hash sets is nobody's business.
        for (one, other) in [
            (r#""BRIDGE2", "BRIDGE1""#, r#""BRIDGE1", "BRIDGE2""#),
            (
                "{ \"BRIDGE2\" . \"BRIDGE2\",\n\t\t\t     \"BRIDGE1\" . \"BRIDGE1\" }",
                "{ \"BRIDGE1\" . \"BRIDGE1\",\n\t\t\t     \"BRIDGE2\" . \"BRIDGE2\" }",
            ),
            (
                "{ \"BRIDGE2\",\n\t\t\t     \"BRIDGE1\" }",
                "{ \"BRIDGE1\",\n\t\t\t     \"BRIDGE2\" }",
            ),
        ] {
            text = text.replace(one, other);
        }
        insta::assert_snapshot!(text);
    });
}

#[test]
fn docker_lets_our_links_through_and_iptables_goes_on_working() {
    on_host(|host| async move {
        // What dockerd sets up with iptables-nft.
        for arguments in [
            "-P FORWARD DROP",
            "-N DOCKER-USER",
            "-A DOCKER-USER -j RETURN",
            "-I FORWARD -j DOCKER-USER",
        ] {
            run("iptables", &arguments.split(' ').collect::<Vec<_>>());
        }
        let outside = add_outside().await;
        host.net.ensure_network(&network("one")).await.unwrap();
        let mut config = sandbox("c1", &["one"]);
        config.ports = vec![port(None, 80, Protocol::Tcp)];
        let container = host.start(config).await;
        let _server = Server::start(&container.netns, 80);
        let _outside = Server::start(&outside, 80);
        let address = |text: &str, port| SocketAddr::new(text.parse().unwrap(), port);
        let out = address("192.168.77.2", 80);
        let published = address("192.168.77.1", container.reserved[0].port.host.port());
        check_all(&[
            ("out past docker's policy", &container.netns, out, None),
            ("in past docker's policy", &outside, published, None),
        ]);
        host.net.repair().unwrap();
        assert_eq!(host.net.repair().unwrap(), Vec::new());
        check_all(&[
            (
                "out",
                &container.netns,
                out,
                Some("192.168.77.1".parse().unwrap()),
            ),
            (
                "in",
                &outside,
                published,
                Some("192.168.77.2".parse().unwrap()),
            ),
        ]);
        let listed = run("iptables", &["-S", "DOCKER-USER"]);
        let rules: Vec<&str> = listed.lines().collect();
        let (incoming, outgoing) = (
            "-A DOCKER-USER -i s1a2b+ -m comment --comment stack-1a2b3c4d -j ACCEPT",
            "-A DOCKER-USER -o s1a2b+ -m comment --comment stack-1a2b3c4d -j ACCEPT",
        );
        assert_eq!(
            rules,
            [
                "-N DOCKER-USER",
                incoming,
                outgoing,
                "-A DOCKER-USER -j RETURN"
            ]
        );
        run("iptables", &["-L", "-n", "-v"]);
        run("iptables-save", &[]);
        host.net.release(&["c1"]).unwrap();
        host.net.forget(&["c1"]).unwrap();
        host.net.remove_network("one").await.unwrap();
        let listed = run("iptables", &["-S", "DOCKER-USER"]);
        assert_eq!(
            listed.lines().collect::<Vec<_>>(),
            ["-N DOCKER-USER", "-A DOCKER-USER -j RETURN"]
        );
    });
}

#[test]
fn other_firewalls_are_told_apart() {
    on_host(|host| async move {
        host.net.ensure_network(&network("one")).await.unwrap();
        let warnings = || {
            host.net
                .repair()
                .unwrap()
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
        };
        host.net.repair().unwrap();
        assert_eq!(warnings(), Vec::<String>::new());
        let told = |firewall: &str, remedy: &str| {
            vec![format!(
                "{firewall} drops forwarded packets; containers cannot reach the outside until it lets `s1a2b+` through: {remedy}"
            )]
        };
        run(
            "nft",
            &[
                "add table inet mine; add chain inet mine mine { type filter hook forward priority 0; policy drop; }",
            ],
        );
        let remedy = "nft insert rule inet mine mine iifname \"s1a2b*\" accept && nft insert rule inet mine mine oifname \"s1a2b*\" accept";
        assert_eq!(warnings(), told("chain `inet mine mine`", remedy));
        run(
            "nft",
            &[
                "delete table inet mine; add table inet firewalld; add chain inet firewalld filter_FORWARD { type filter hook forward priority 10; policy accept; }",
            ],
        );
        let remedy = "firewall-cmd --permanent --zone=trusted --add-interface=s1a2b+ && firewall-cmd --reload";
        assert_eq!(warnings(), told("firewalld", remedy));
        run(
            "nft",
            &[
                "delete table inet firewalld; add table ip filter; add chain ip filter FORWARD { type filter hook forward priority 0; policy drop; }; add chain ip filter ufw-user-forward",
            ],
        );
        assert_eq!(
            warnings(),
            told(
                "ufw",
                "ufw route allow in on s1a2b+ && ufw route allow out on s1a2b+"
            )
        );
    });
}

/// Beside a real dockerd, which `make vm` has; elsewhere `cargo test --lib net::tests::beside_dockerd -- --ignored`.
#[test]
#[ignore = "changes this machine's network, and needs a dockerd there: run by `make vm`"]
fn beside_dockerd() {
    crate::net::testing::on_this_machine(|host| async move {
        let before = run("iptables-save", &[]);
        assert!(
            before.contains(":FORWARD DROP") && before.contains("DOCKER-USER"),
            "no dockerd: {before}"
        );
        let outside = add_outside().await;
        host.net.ensure_network(&network("one")).await.unwrap();
        let mut config = sandbox("c1", &["one"]);
        config.ports = vec![port(None, 80, Protocol::Tcp)];
        let container = host.start(config).await;
        let _server = Server::start(&container.netns, 80);
        let _outside = Server::start(&outside, 80);
        assert_eq!(host.net.repair().unwrap(), Vec::new());
        let address = |text: &str, port| SocketAddr::new(text.parse().unwrap(), port);
        let published = container.reserved[0].port.host.port();
        let gateway = host.net.networks().unwrap()[0].subnets[0].gateway;
        check_all(&[
            (
                "out",
                &container.netns,
                address("192.168.77.2", 80),
                Some("192.168.77.1".parse().unwrap()),
            ),
            (
                "in",
                &outside,
                address("192.168.77.1", published),
                Some("192.168.77.2".parse().unwrap()),
            ),
            (
                "host",
                &host.netns,
                address("127.0.0.1", published),
                Some(gateway),
            ),
        ]);
        run("iptables", &["-L", "-n"]);
        host.net.release(&["c1"]).unwrap();
        host.net.forget(&["c1"]).unwrap();
        host.net.remove_network("one").await.unwrap();
        let rules = |text: &str| {
            text.lines()
                .filter(|l| l.starts_with("-A"))
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        assert_eq!(rules(&run("iptables-save", &[])), rules(&before));
    });
}
