//! The sockets of the name server: queries of the container, and the same queries on their way to other servers.
//!
//! Nothing here waits: each socket is read when it is ready, each query and each connection has a deadline, and there is a limit
//! to how many of either there are. A forwarded query has a random id, a socket of its own (hence a random port) connected to
//! the server asked, and an answer only counts with that id and the same question.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use hickory_proto::op::ResponseCode;

use crate::net::dns::answer::{self, Reply, Transport};
use crate::net::dns::names::{NameIndex, NameReader};
use crate::net::dns::servers::Servers;
use crate::net::poll::{Interest, Poll};

/// Queries on their way at a time.
const MOST_QUERIES: usize = 256;
/// Connections of clients at a time; the one that waits longest makes room for a new one.
const MOST_CLIENTS: usize = 32;
/// How long a server has to answer before the next is asked: two fit into the five seconds that a resolver waits.
const SERVER_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a client's connection may be idle, or slow.
const CLIENT_TIMEOUT: Duration = Duration::from_secs(4);
/// Largest message (RFC 1035 section 4.2.2).
const LARGEST: usize = u16::MAX as usize;

/// Token of the datagram socket.
const UDP: u64 = 0;
/// Token of the listener.
const TCP: u64 = 1;

/// The name server of one container.
#[derive(Debug)]
pub(crate) struct Server {
    names: Vec<NameReader>,
    /// `None`: unknown names are refused.
    forward: Option<Servers>,
    udp: UdpSocket,
    tcp: TcpListener,
    clients: BTreeMap<u64, Client>,
    queries: BTreeMap<u64, Query>,
    next_token: u64,
    turn: usize,
}

/// A client's connection.
#[derive(Debug)]
struct Client {
    stream: TcpStream,
    input: Vec<u8>,
    output: Vec<u8>,
    deadline: Instant,
    /// A query of it is being forwarded; the next one has to wait.
    is_waiting: bool,
}

/// A query that somebody else is asked.
#[derive(Debug)]
struct Query {
    upstream: Upstream,
    id: u16,
    /// As it came, with the client's id.
    request: Vec<u8>,
    asker: Asker,
    /// Servers to ask after this one.
    others: VecDeque<SocketAddr>,
    deadline: Instant,
}

/// Who gets the answer.
#[derive(Debug, Clone, Copy)]
enum Asker {
    Datagram(SocketAddr),
    Connection(u64),
}

impl Asker {
    fn transport(self) -> Transport {
        match self {
            Self::Datagram(_) => Transport::Udp,
            Self::Connection(_) => Transport::Tcp,
        }
    }
}

/// A connection to the server asked.
#[derive(Debug)]
enum Upstream {
    Datagram(UdpSocket),
    Stream { stream: TcpStream, output: Vec<u8>, input: Vec<u8> },
}

impl AsFd for Upstream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Datagram(socket) => socket.as_fd(),
            Self::Stream { stream, .. } => stream.as_fd(),
        }
    }
}

impl Server {
    /// Returns a server on two non-blocking sockets, and starts waiting for them.
    pub(crate) fn new(
        names: Vec<NameReader>,
        forward: Option<Servers>,
        (udp, tcp): (UdpSocket, TcpListener),
        poll: &Poll,
    ) -> io::Result<Self> {
        poll.add(&udp, UDP, Interest::READ)?;
        poll.add(&tcp, TCP, Interest::READ)?;
        let (clients, queries) = (BTreeMap::new(), BTreeMap::new());
        Ok(Self { names, forward, udp, tcp, clients, queries, next_token: TCP + 1, turn: 0 })
    }

    /// Returns when [`Self::expire`] has something to do next.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let clients = self.clients.values().map(|client| client.deadline);
        self.queries.values().map(|query| query.deadline).chain(clients).min()
    }

    /// Works off a socket that is ready. Errors of a client or a server are theirs alone.
    pub(crate) fn ready(&mut self, token: u64, poll: &Poll) {
        match token {
            UDP => self.read_datagrams(poll),
            TCP => self.accept(poll),
            _ if self.clients.contains_key(&token) => self.serve_client(token, poll),
            _ => self.serve_query(token, poll),
        }
    }

    /// Ends connections that are idle, and asks the next server where one did not answer in time.
    pub(crate) fn expire(&mut self, now: Instant, poll: &Poll) {
        self.clients.retain(|_, client| client.deadline > now);
        let late: Vec<u64> =
            self.queries.iter().filter(|(_, q)| q.deadline <= now).map(|(token, _)| *token).collect();
        for token in late {
            if let Some(query) = self.queries.remove(&token) {
                self.ask_next(query, poll);
            }
        }
    }

    /// Answers the datagrams that have come, a few at a time so that others get their turn.
    fn read_datagrams(&mut self, poll: &Poll) {
        const AT_A_TIME: usize = 32;
        let mut buffer = [0; 4096];
        for _ in 0..AT_A_TIME {
            // The end of what has come, or an error that belongs to an earlier answer.
            let Ok((length, client)) = self.udp.recv_from(&mut buffer) else {
                return;
            };
            let query = buffer.get(..length).unwrap_or_default();
            if let Some(answer) = self.reply(query, Asker::Datagram(client), poll) {
                self.answer(Asker::Datagram(client), &answer, poll);
            }
        }
    }

    /// Returns the answer, unless there is none or it comes later from somebody else.
    fn reply(&mut self, query: &[u8], asker: Asker, poll: &Poll) -> Option<Vec<u8>> {
        self.turn = self.turn.wrapping_add(1);
        let mut networks: Vec<(&str, &NameIndex)> = Vec::new();
        for reader in &mut self.names {
            match reader.current() {
                Ok(current) => networks.push(current),
                Err(_) => return answer::failure(query, ResponseCode::ServFail, asker.transport()),
            }
        }
        match answer::reply(query, &networks, asker.transport(), self.turn) {
            Reply::Answer(bytes) => Some(bytes),
            Reply::Nothing => None,
            Reply::Forward => self.forward(query, asker, poll),
        }
    }

    /// Sends a query on, or returns why not.
    fn forward(&mut self, query: &[u8], asker: Asker, poll: &Poll) -> Option<Vec<u8>> {
        let refused = |code| answer::failure(query, code, asker.transport());
        let Some(servers) = &mut self.forward else {
            return refused(ResponseCode::ServFail);
        };
        if self.queries.len() >= MOST_QUERIES {
            return refused(ResponseCode::Refused);
        }
        let others = servers.current().iter().copied().collect();
        let request = query.to_vec();
        self.ask(request, asker, others, poll);
        None
    }

    /// Asks the first of `servers` that can be reached; none: the asker is told that it failed.
    fn ask(&mut self, request: Vec<u8>, asker: Asker, mut servers: VecDeque<SocketAddr>, poll: &Poll) {
        while let Some(server) = servers.pop_front() {
            let token = self.next_token;
            let Ok((upstream, id)) = connect(server, &request, asker.transport()) else {
                continue;
            };
            let interest = match &upstream {
                Upstream::Datagram(_) => Interest::READ,
                Upstream::Stream { .. } => Interest::WRITE,
            };
            if poll.add(&upstream, token, interest).is_ok() {
                self.next_token += 1;
                let deadline = Instant::now() + SERVER_TIMEOUT;
                self.queries.insert(token, Query { upstream, id, request, asker, others: servers, deadline });
                return;
            }
        }
        if let Some(failure) = answer::failure(&request, ResponseCode::ServFail, asker.transport()) {
            self.answer(asker, &failure, poll);
        }
    }

    /// Asks the next server.
    fn ask_next(&mut self, query: Query, poll: &Poll) {
        let Query { request, asker, others, .. } = query;
        self.ask(request, asker, others, poll);
    }

    /// Goes on with a query whose server can be read or written.
    fn serve_query(&mut self, token: u64, poll: &Poll) {
        let Some(mut query) = self.queries.remove(&token) else {
            return;
        };
        match query.progress(token, poll) {
            Ok(Progress::Pending) => {
                self.queries.insert(token, query);
            }
            Ok(Progress::Answer(mut bytes)) if is_answer(&bytes, &query) => {
                if is_failure(&bytes) && !query.others.is_empty() {
                    return self.ask_next(query, poll);
                }
                if let (Some(id), Some(theirs)) = (bytes.get_mut(..2), query.request.get(..2)) {
                    id.copy_from_slice(theirs);
                }
                self.answer(query.asker, &bytes, poll);
            }
            // Not from who was asked, or to another question: the right one may still come.
            Ok(Progress::Answer(_)) if matches!(query.upstream, Upstream::Datagram(_)) => {
                self.queries.insert(token, query);
            }
            Ok(Progress::Answer(_)) | Err(_) => self.ask_next(query, poll),
        }
    }

    /// Sends an answer to who asked. A client that is gone does not get it.
    fn answer(&mut self, asker: Asker, bytes: &[u8], poll: &Poll) {
        match asker {
            // A datagram that cannot be sent is lost like any other: the client asks again.
            Asker::Datagram(client) => drop(self.udp.send_to(bytes, client)),
            Asker::Connection(token) => {
                if let Some(client) = self.clients.get_mut(&token) {
                    client.is_waiting = false;
                    client.output.extend(framed(bytes));
                    self.serve_client(token, poll);
                }
            }
        }
    }

    /// Takes the connections that have come.
    fn accept(&mut self, poll: &Poll) {
        while let Ok((stream, _)) = self.tcp.accept() {
            if self.clients.len() >= MOST_CLIENTS {
                let oldest = self.clients.iter().min_by_key(|(_, c)| c.deadline).map(|(token, _)| *token);
                oldest.and_then(|token| self.clients.remove(&token));
            }
            let token = self.next_token;
            let is_ready = stream.set_nonblocking(true).and_then(|()| poll.add(&stream, token, Interest::READ));
            if is_ready.is_ok() {
                self.next_token += 1;
                let deadline = Instant::now() + CLIENT_TIMEOUT;
                let (input, output) = (Vec::new(), Vec::new());
                self.clients.insert(token, Client { stream, input, output, deadline, is_waiting: false });
            }
        }
    }

    /// Reads, answers and writes as far as a client's connection allows; ends it at its end or error.
    fn serve_client(&mut self, token: u64, poll: &Poll) {
        let Some(mut client) = self.clients.remove(&token) else {
            return;
        };
        // Read nothing more while an answer is due, so that a client cannot fill the memory.
        if !client.is_waiting && client.output.is_empty() && !read_some(&mut client.stream, &mut client.input) {
            return;
        }
        let next = (!client.is_waiting).then(|| take_message(&mut client.input)).flatten();
        if let Some(query) = next {
            client.is_waiting = true;
            client.deadline = Instant::now() + CLIENT_TIMEOUT.max(SERVER_TIMEOUT * 4);
            self.clients.insert(token, client);
            if let Some(answer) = self.reply(&query, Asker::Connection(token), poll) {
                self.answer(Asker::Connection(token), &answer, poll);
            }
            return;
        }
        if !write_some(&mut client.stream, &mut client.output) {
            return;
        }
        let has_output = !client.output.is_empty();
        let interest = Interest { read: !has_output && !client.is_waiting, write: has_output };
        if poll.change(&client.stream, token, interest).is_ok() {
            self.clients.insert(token, client);
        }
    }
}

/// What reading or writing at a server came to.
enum Progress {
    Pending,
    Answer(Vec<u8>),
}

impl Query {
    /// Reads or writes what is possible.
    fn progress(&mut self, token: u64, poll: &Poll) -> io::Result<Progress> {
        match &mut self.upstream {
            Upstream::Datagram(socket) => {
                let mut buffer = vec![0; LARGEST];
                match socket.recv(&mut buffer) {
                    Ok(length) => {
                        buffer.truncate(length);
                        Ok(Progress::Answer(buffer))
                    }
                    Err(error) if is_early(&error) => Ok(Progress::Pending),
                    Err(error) => Err(error),
                }
            }
            Upstream::Stream { stream, output, input } => {
                let ended = || io::Error::from(io::ErrorKind::UnexpectedEof);
                if !output.is_empty() {
                    if !write_some(stream, output) {
                        return Err(ended());
                    }
                    if output.is_empty() {
                        poll.change(&*stream, token, Interest::READ)?;
                    }
                    return Ok(Progress::Pending);
                }
                let is_open = read_some(stream, input);
                match take_message(input) {
                    Some(answer) => Ok(Progress::Answer(answer)),
                    None if is_open => Ok(Progress::Pending),
                    None => Err(ended()),
                }
            }
        }
    }
}

/// Returns a connection to a server, the query sent or about to be, and the query's random id.
fn connect(server: SocketAddr, request: &[u8], transport: Transport) -> io::Result<(Upstream, u16)> {
    let mut id = [0; 2];
    rustix::rand::getrandom(&mut id, rustix::rand::GetRandomFlags::empty())?;
    let mut message = request.to_vec();
    message.get_mut(..2).ok_or(io::ErrorKind::InvalidInput)?.copy_from_slice(&id);
    let upstream = match transport {
        Transport::Udp => {
            let any = if server.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
            let socket = UdpSocket::bind(any)?;
            socket.set_nonblocking(true)?;
            socket.connect(server)?;
            socket.send(&message)?;
            Upstream::Datagram(socket)
        }
        Transport::Tcp => {
            let stream = begin_connecting(server)?;
            Upstream::Stream { stream, output: framed(&message), input: Vec::new() }
        }
    };
    Ok((upstream, u16::from_be_bytes(id)))
}

/// Starts a connection without waiting for it.
pub(crate) fn begin_connecting(address: SocketAddr) -> io::Result<TcpStream> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, connect, socket_with};
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket: OwnedFd = socket_with(family, SocketType::STREAM, flags, None)?;
    match connect(&socket, &address) {
        Ok(()) | Err(rustix::io::Errno::INPROGRESS) => Ok(socket.into()),
        Err(errno) => Err(errno.into()),
    }
}

/// Returns whether `bytes` is the answer to a forwarded query: id, the answer bit, the same question.
fn is_answer(bytes: &[u8], query: &Query) -> bool {
    let is_response = bytes.get(2).is_some_and(|flags| flags & 0x80 != 0);
    bytes.get(..2) == Some(&query.id.to_be_bytes()[..])
        && is_response
        && answer::question(&query.request).is_some_and(|ours| answer::question(bytes) == Some(ours))
}

/// Returns whether an answer says that this server cannot help: SERVFAIL or REFUSED.
fn is_failure(bytes: &[u8]) -> bool {
    bytes.get(3).is_some_and(|flags| [2, 5].contains(&(flags & 0xf)))
}

/// Puts the length of a message before it (RFC 1035 section 4.2.2).
fn framed(message: &[u8]) -> Vec<u8> {
    let message = message.get(..message.len().min(LARGEST)).unwrap_or_default();
    let length = u16::try_from(message.len()).unwrap_or(u16::MAX);
    [&length.to_be_bytes()[..], message].concat()
}

/// Takes a whole message from the beginning of what has been read.
fn take_message(input: &mut Vec<u8>) -> Option<Vec<u8>> {
    let (length, rest) = input.split_first_chunk::<2>()?;
    let length = usize::from(u16::from_be_bytes(*length));
    let message = rest.get(..length)?.to_vec();
    input.drain(..2 + length);
    Some(message)
}

/// Reads what is there, up to one message's worth; false at the end or an error.
fn read_some(stream: &mut TcpStream, input: &mut Vec<u8>) -> bool {
    let mut buffer = [0; 4096];
    while input.len() < LARGEST + 2 {
        match stream.read(&mut buffer) {
            Ok(0) => return false,
            Ok(length) => input.extend(buffer.get(..length).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return error.kind() == io::ErrorKind::WouldBlock,
        }
    }
    true
}

/// Writes what is possible; false on an error.
fn write_some(stream: &mut TcpStream, output: &mut Vec<u8>) -> bool {
    while !output.is_empty() {
        match stream.write(output) {
            Ok(length) => drop(output.drain(..length)),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return is_early(&error),
        }
    }
    true
}

/// Returns whether an error only says to come again.
fn is_early(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted | io::ErrorKind::NotConnected)
}
