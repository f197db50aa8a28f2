use std::io::{Read, Write};
use std::net::{Ipv6Addr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use hickory_proto::op::{Message, Query};
use hickory_proto::rr::rdata::A;
use hickory_proto::rr::{Name, RData, Record, RecordType};

use super::*;
use crate::net::config::EndpointConfig;
use crate::net::testing::{
    Container, REACHABLE_WITHIN, Server as TestServer, TestHost, ask, network, on_host, port,
    range, sandbox,
};

/// A thread that ends when dropped.
struct Running {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Running {
    /// Runs `turn` in `netns` until dropped.
    fn start(netns: &OwnedFd, mut turn: impl FnMut() + Send + 'static) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (netns, stopped) = (netns.try_clone().unwrap(), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            netns::enter(&netns).unwrap();
            while !stopped.load(Ordering::SeqCst) {
                turn();
            }
        });
        Self {
            stop,
            thread: Some(thread),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        if let Some(Err(panic)) = self.thread.take().map(JoinHandle::join)
            && !std::thread::panicking()
        {
            std::panic::resume_unwind(panic);
        }
    }
}

const TICK: Duration = Duration::from_millis(20);

/// Starts the sidecar of a container in a thread of the host.
fn start(host: &TestHost, container: &mut Container) -> Running {
    let config = host
        .net
        .sidecar(&container.attachment, &container.ports(), &[]);
    let reserved = container.reserved.drain(..).map(|r| r.socket).collect();
    let mut sidecar = Sidecar::open(&config, container.netns.as_fd(), reserved).unwrap();
    Running::start(&host.netns, move || {
        sidecar.turn(Some(Instant::now() + TICK)).unwrap();
    })
}

/// Answers every query for A with one address, at 127.0.0.`last` port 53 of `netns`, over UDP and TCP.
fn start_upstream(netns: &OwnedFd, last: u8, answer: &'static str) -> [Running; 2] {
    let sockets = netns::run_in(netns.as_fd(), || {
        let address = (Ipv4Addr::new(127, 0, 0, last), 53);
        (
            UdpSocket::bind(address).unwrap(),
            TcpListener::bind(address).unwrap(),
        )
    });
    let (udp, tcp) = sockets.unwrap();
    udp.set_read_timeout(Some(TICK)).unwrap();
    tcp.set_nonblocking(true).unwrap();
    let respond = move |query: &[u8]| {
        let query = Message::from_vec(query).unwrap();
        let mut message = Message::response(query.metadata.id, query.metadata.op_code);
        let name = query.queries[0].name().clone();
        message.add_queries(query.queries);
        message.add_answer(Record::from_rdata(
            name,
            60,
            RData::A(A(answer.parse().unwrap())),
        ));
        message.to_vec().unwrap()
    };
    let datagrams = Running::start(netns, move || {
        let mut buffer = [0; 2048];
        if let Ok((length, client)) = udp.recv_from(&mut buffer) {
            udp.send_to(&respond(&buffer[..length]), client).unwrap();
        }
    });
    let streams = Running::start(netns, move || {
        if let Ok((mut client, _)) = tcp.accept() {
            client.set_nonblocking(false).unwrap();
            client.set_read_timeout(Some(REACHABLE_WITHIN)).unwrap();
            let answer = respond(&read_framed(&mut client));
            client
                .write_all(&u16::try_from(answer.len()).unwrap().to_be_bytes())
                .unwrap();
            client.write_all(&answer).unwrap();
        } else {
            std::thread::park_timeout(TICK);
        }
    });
    [datagrams, streams]
}

fn read_framed(stream: &mut TcpStream) -> Vec<u8> {
    let mut length = [0; 2];
    stream.read_exact(&mut length).unwrap();
    let mut message = vec![0; u16::from_be_bytes(length).into()];
    stream.read_exact(&mut message).unwrap();
    message
}

fn query(name: &str, kind: RecordType) -> Vec<u8> {
    let mut message = Message::query();
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    message.to_vec().unwrap()
}

/// Asks 127.0.0.11 in the container's namespace, over UDP or TCP, and renders the answer.
fn look_up(container: &Container, name: &str, kind: RecordType, is_tcp: bool) -> String {
    let query = query(name, kind);
    let answer = netns::run_in(container.netns.as_fd(), || {
        let server = (Ipv4Addr::new(127, 0, 0, 11), 53);
        if is_tcp {
            let mut stream = TcpStream::connect(server).unwrap();
            stream.set_read_timeout(Some(REACHABLE_WITHIN * 2)).unwrap();
            stream
                .write_all(&u16::try_from(query.len()).unwrap().to_be_bytes())
                .unwrap();
            stream.write_all(&query).unwrap();
            return read_framed(&mut stream);
        }
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        socket.connect(server).unwrap();
        socket.set_read_timeout(Some(REACHABLE_WITHIN * 2)).unwrap();
        socket.send(&query).unwrap();
        let mut buffer = [0; 4096];
        let length = socket.recv(&mut buffer).unwrap();
        buffer[..length].to_vec()
    });
    let message = Message::from_vec(&answer.unwrap()).unwrap();
    assert_eq!(
        message.metadata.id,
        u16::from_be_bytes([query[0], query[1]])
    );
    let data: Vec<String> = message.answers.iter().map(|r| r.data.to_string()).collect();
    format!("{:?} {}", message.metadata.response_code, data.join(" "))
}

fn named(id: &str, network: &str, names: &[&str]) -> crate::net::config::SandboxConfig {
    let mut config = sandbox(id, &[]);
    let names = names.iter().map(|n| (*n).to_owned()).collect();
    config.endpoints = vec![EndpointConfig {
        network: network.to_owned(),
        names,
        address: None,
    }];
    config
}

fn write_resolv_conf(host: &TestHost, text: &str) {
    let path = host.directory.path().join("resolv.conf");
    crate::sys::atomic::write(
        &path,
        text.as_bytes(),
        0o644,
        crate::sys::atomic::Durability::Cached,
    )
    .unwrap();
}

#[test]
fn names_are_answered_followed_and_forwarded() {
    on_host(|host| async move {
        let mut front = network("app_front");
        front.subnets = vec![range("10.4.0.0/24"), range("fd04::/64")];
        host.net.ensure_network(&front).await.unwrap();
        let _upstream = start_upstream(&host.netns, 53, "192.0.2.7");
        write_resolv_conf(&host, "nameserver 127.0.0.53\n");
        let mut asker = host.start(named("asker", "app_front", &["asker"])).await;
        let _sidecar = start(&host, &mut asker);
        // The container's own port 53 is free.
        netns::run_in(asker.netns.as_fd(), || {
            TcpListener::bind("0.0.0.0:53").unwrap();
            UdpSocket::bind("0.0.0.0:53").unwrap();
        })
        .unwrap();
        let a = RecordType::A;
        assert_eq!(look_up(&asker, "web", a, false), "NoError 192.0.2.7");
        let _one = host
            .start(named("one", "app_front", &["web", "app-web-1"]))
            .await;
        let _two = host
            .start(named("two", "app_front", &["web", "app-web-2"]))
            .await;
        let mut both = [
            look_up(&asker, "web", a, false),
            look_up(&asker, "WEB", a, true),
        ];
        both.sort();
        assert_eq!(
            both,
            ["NoError 10.4.0.3 10.4.0.4", "NoError 10.4.0.4 10.4.0.3"]
        );
        assert_eq!(
            look_up(&asker, "app-web-2", RecordType::AAAA, false),
            "NoError fd04::4"
        );
        assert_eq!(
            look_up(&asker, "app-web-2.app_front", a, false),
            "NoError 10.4.0.4"
        );
        let reverse = look_up(&asker, "4.0.4.10.in-addr.arpa", RecordType::PTR, false);
        assert_eq!(reverse, "NoError app-web-2.app_front.");
        assert_eq!(
            look_up(&asker, "example.com", a, false),
            "NoError 192.0.2.7"
        );
        assert_eq!(look_up(&asker, "example.com", a, true), "NoError 192.0.2.7");
        host.net.release(&["one"]).unwrap();
        assert_eq!(look_up(&asker, "web", a, false), "NoError 10.4.0.4");
        // The first server is dead now: refused at once, and the next one is asked.
        let _other = start_upstream(&host.netns, 54, "192.0.2.8");
        write_resolv_conf(&host, "nameserver 127.0.0.99\nnameserver 127.0.0.54\n");
        assert_eq!(
            look_up(&asker, "example.com", a, false),
            "NoError 192.0.2.8"
        );
        assert_eq!(look_up(&asker, "example.com", a, true), "NoError 192.0.2.8");
    });
}

#[test]
fn nothing_is_forwarded_from_internal_networks() {
    on_host(|host| async move {
        let mut internal = network("internal");
        internal.internal = true;
        host.net.ensure_network(&internal).await.unwrap();
        let _upstream = start_upstream(&host.netns, 53, "192.0.2.7");
        write_resolv_conf(&host, "nameserver 127.0.0.53\n");
        let mut asker = host.start(named("asker", "internal", &["asker"])).await;
        let _sidecar = start(&host, &mut asker);
        assert_eq!(
            look_up(&asker, "asker", RecordType::A, false),
            "NoError 172.17.0.2"
        );
        assert_eq!(
            look_up(&asker, "secret.example", RecordType::A, false),
            "ServFail "
        );
        assert_eq!(
            look_up(&asker, "secret.example", RecordType::TXT, true),
            "ServFail "
        );
    });
}

#[test]
fn a_restarted_server_takes_over_and_slow_clients_starve_nobody() {
    on_host(|host| async move {
        host.net.ensure_network(&network("one")).await.unwrap();
        let mut asker = host.start(named("asker", "one", &["asker"])).await;
        drop(start(&host, &mut asker));
        let _sidecar = start(&host, &mut asker);
        let _half_open: Vec<TcpStream> = netns::run_in(asker.netns.as_fd(), || {
            let connect = |n: u8| {
                let mut stream = TcpStream::connect((Ipv4Addr::new(127, 0, 0, 11), 53)).unwrap();
                // Lengths that promise more than comes, and messages that are none.
                stream
                    .write_all(&[0, 40, n, n][..usize::from(n % 5)])
                    .unwrap();
                stream
            };
            (0..100).map(connect).collect()
        })
        .unwrap();
        for is_tcp in [false, true] {
            assert_eq!(
                look_up(&asker, "asker", RecordType::A, is_tcp),
                "NoError 172.17.0.2"
            );
        }
    });
}

/// Answers every datagram at port 9 of `netns` with its text in capitals.
fn start_echo(netns: &OwnedFd) -> Running {
    let socket = netns::run_in(netns.as_fd(), || {
        UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 9)).unwrap()
    })
    .unwrap();
    socket.set_read_timeout(Some(TICK)).unwrap();
    Running::start(netns, move || {
        let mut buffer = [0; 2048];
        if let Ok((length, client)) = socket.recv_from(&mut buffer) {
            buffer[..length].make_ascii_uppercase();
            socket.send_to(&buffer[..length], client).unwrap();
        }
    })
}

/// Sends a datagram from the host and returns what comes back from that very address.
fn echo(host: &TestHost, to: SocketAddr) -> Option<String> {
    netns::run_in(host.netns.as_fd(), || {
        let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let socket = UdpSocket::bind(any).unwrap();
        socket.connect(to).unwrap();
        socket.set_read_timeout(Some(REACHABLE_WITHIN)).unwrap();
        socket.send(b"hello").unwrap();
        let mut buffer = [0; 64];
        let length = socket.recv(&mut buffer).ok()?;
        Some(String::from_utf8_lossy(&buffer[..length]).into_owned())
    })
    .unwrap()
}

#[test]
fn what_the_firewall_cannot_redirect_is_carried() {
    on_host(|host| async move {
        let _outside = crate::net::testing::add_outside().await;
        host.net.ensure_network(&network("one")).await.unwrap();
        let mut config = named("web", "one", &["web"]);
        config.ports = vec![port(None, 80, Protocol::Tcp), port(None, 9, Protocol::Udp)];
        let mut web = host.start(config).await;
        let ports = web.ports();
        let (tcp, udp) = (ports[0].host.port(), ports[2].host.port());
        let _sidecar = start(&host, &mut web);
        let _server = TestServer::start(&web.netns, 80);
        let _echo = start_echo(&web.netns);
        let at = |ip: &str, port| SocketAddr::new(ip.parse().unwrap(), port);
        for ip in ["127.0.0.1", "::1", "192.168.77.1", "fd77::1"] {
            let found = (
                ip,
                ask(&host.netns, at(ip, tcp), REACHABLE_WITHIN),
                echo(&host, at(ip, udp)),
            );
            assert_eq!(
                found,
                (ip, Some("172.17.0.1".to_owned()), Some("HELLO".to_owned()))
            );
        }
    });
}

#[test]
fn a_client_of_datagrams_reaches_the_next_holder_of_the_port() {
    on_host(|host| async move {
        host.net.ensure_network(&network("one")).await.unwrap();
        let client = netns::run_in(host.netns.as_fd(), || {
            UdpSocket::bind("127.0.0.1:0").unwrap()
        })
        .unwrap();
        client.set_read_timeout(Some(REACHABLE_WITHIN)).unwrap();
        let mut host_ports = None;
        for (id, greeting) in [("first", "FIRST"), ("second", "SECOND")] {
            let mut config = named(id, "one", &[id]);
            config.ports = vec![port(Some("127.0.0.1"), 9, Protocol::Udp)];
            config.ports[0].host_ports = host_ports;
            let web = host.start(config).await;
            let to = web.ports()[0].host;
            host_ports = Some((to.port(), to.port()));
            let _echo = start_echo(&web.netns);
            client
                .send_to(greeting.to_lowercase().as_bytes(), to)
                .unwrap();
            let mut buffer = [0; 64];
            let length = client.recv(&mut buffer).unwrap();
            assert_eq!(String::from_utf8_lossy(&buffer[..length]), greeting);
            host.net.release(&[id]).unwrap();
        }
    });
}

#[test]
fn a_carried_connection_passes_on_any_amount_and_its_end() {
    on_host(|host| async move {
        host.net.ensure_network(&network("one")).await.unwrap();
        let mut config = named("web", "one", &["web"]);
        config.ports = vec![port(None, 81, Protocol::Tcp)];
        let mut web = host.start(config).await;
        let address = SocketAddr::new(Ipv6Addr::LOCALHOST.into(), web.ports()[1].host.port());
        let _sidecar = start(&host, &mut web);
        let listener = netns::run_in(web.netns.as_fd(), || {
            TcpListener::bind("0.0.0.0:81").unwrap()
        })
        .unwrap();
        // Answers with all it got, once it has got all: more than any buffer on the way holds.
        let server = std::thread::spawn(move || {
            let (mut client, _) = listener.accept().unwrap();
            let mut all = Vec::new();
            client.read_to_end(&mut all).unwrap();
            client.write_all(&all).unwrap();
        });
        let sent: Vec<u8> = (0..8_u32 << 20).map(|n| (n % 251) as u8).collect();
        let mut client =
            netns::run_in(host.netns.as_fd(), || TcpStream::connect(address).unwrap()).unwrap();
        client.set_read_timeout(Some(REACHABLE_WITHIN)).unwrap();
        client.write_all(&sent).unwrap();
        client.shutdown(std::net::Shutdown::Write).unwrap();
        let mut received = Vec::new();
        client.read_to_end(&mut received).unwrap();
        server.join().unwrap();
        assert!(
            received == sent,
            "{} of {} bytes came back",
            received.len(),
            sent.len()
        );
    });
}

/// What the process of [`a_process_of_its_own_serves_without_rights`] says when all was as it should be.
const SERVED: &str = "served without rights";

/// Not a test: the process in which [`serve`] runs, beside a thread that asks it.
#[test]
#[ignore = "the body of another test's process"]
fn serving_process() {
    on_host(|host| async move {
        host.net.ensure_network(&network("one")).await.unwrap();
        let mut config = named("asker", "one", &["asker"]);
        config.ports = vec![port(None, 80, Protocol::Tcp)];
        let mut asker = host.start(config).await;
        let config = host.net.sidecar(&asker.attachment, &asker.ports(), &[]);
        let reserved: Vec<OwnedFd> = asker.reserved.drain(..).map(|r| r.socket).collect();
        let parent = rustix::process::getppid().unwrap().as_raw_pid();
        let status = format!("/proc/self/task/{}/status", thread::gettid().as_raw_pid());
        let (netns, inside) = (
            asker.netns.try_clone().unwrap(),
            asker.netns.try_clone().unwrap(),
        );
        let (ready, started) = std::sync::mpsc::channel();
        let (prepared, is_prepared) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            // A table of descriptors of its own: the server closes all that are in its one.
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_FILES).unwrap();
            netns::enter(&inside).unwrap();
            prepared.send(()).unwrap();
            started.recv().unwrap();
            while !fs_err::read_to_string(&status)
                .unwrap()
                .contains("NoNewPrivs:\t1")
            {
                std::thread::yield_now();
            }
            let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
            socket
                .send_to(
                    &query("asker", RecordType::A),
                    (Ipv4Addr::new(127, 0, 0, 11), 53),
                )
                .unwrap();
            let mut buffer = [0; 512];
            let length = socket.recv(&mut buffer).unwrap();
            let answer = Message::from_vec(&buffer[..length]).unwrap();
            assert_eq!(answer.answers[0].data.to_string(), "172.17.0.2");
            rustix::io::write(rustix::stdio::stderr(), SERVED.as_bytes()).unwrap();
        });
        is_prepared.recv().unwrap();
        let error = serve(&config, netns.as_fd(), reserved, parent, || {
            ready.send(()).unwrap();
        });
        panic!("{error:?}");
    });
}

#[test]
#[expect(
    clippy::disallowed_methods,
    reason = "a process of its own is the subject"
)]
fn a_process_of_its_own_serves_without_rights() {
    let arguments = [
        "--exact",
        "net::sidecar::tests::serving_process",
        "--ignored",
        "--nocapture",
    ];
    // What it leaves behind when it is killed goes with this.
    let directory = tempfile::tempdir().unwrap();
    let mut child = std::process::Command::new(std::env::current_exe().unwrap())
        .args(arguments)
        .env("TMPDIR", directory.path())
        .stderr(std::process::Stdio::piped())
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let mut said = vec![0; SERVED.len()];
    let read = child.stderr.take().unwrap().read_exact(&mut said);
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(
        (read.is_ok(), String::from_utf8_lossy(&said).as_ref()),
        (true, SERVED)
    );
}

#[test]
fn rights_are_given_up_for_good() {
    let status = std::thread::spawn(|| {
        give_up_rights().unwrap();
        fs_err::read_to_string("/proc/thread-self/status").unwrap()
    })
    .join()
    .unwrap();
    let lines: Vec<&str> = status
        .lines()
        .filter(|l| {
            ["Uid", "Gid", "Groups", "Cap", "NoNewPrivs"]
                .iter()
                .any(|start| l.starts_with(start))
        })
        .collect();
    let none = "0000000000000000";
    let expected = [
        "Uid:\t65534\t65534\t65534\t65534".to_owned(),
        "Gid:\t65534\t65534\t65534\t65534".to_owned(),
        "Groups:\t ".to_owned(),
        format!("CapInh:\t{none}"),
        format!("CapPrm:\t{none}"),
        format!("CapEff:\t{none}"),
        format!("CapBnd:\t{none}"),
        format!("CapAmb:\t{none}"),
        "NoNewPrivs:\t1".to_owned(),
    ];
    assert_eq!(lines, expected);
}
