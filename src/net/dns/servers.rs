//! The name servers to forward to: those given, or those of `resolv.conf`, read again when it changed.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

/// Servers asked for one query at most (`man 5 resolv.conf`, MAXNS).
const MOST: usize = 3;
/// Port of the domain name system.
const PORT: u16 = 53;

/// A list of servers that follows a file.
#[derive(Debug)]
pub(crate) struct Servers {
    given: Vec<SocketAddr>,
    file: PathBuf,
    seen: Option<(u64, u64, i64, i64)>,
    read: Vec<SocketAddr>,
}

impl Servers {
    /// Returns the servers `given`, or those of `file` where none is.
    pub(crate) fn new(given: &[IpAddr], file: PathBuf) -> Self {
        let given = given.iter().take(MOST).map(|address| SocketAddr::new(*address, PORT)).collect();
        Self { given, file, seen: None, read: Vec::new() }
    }

    /// Returns them as they are now. A file that cannot be read leaves what was known.
    pub(crate) fn current(&mut self) -> &[SocketAddr] {
        if !self.given.is_empty() {
            return &self.given;
        }
        let version = fs_err::metadata(&self.file).ok().map(|m| (m.dev(), m.ino(), m.mtime(), m.mtime_nsec()));
        if (version != self.seen || self.read.is_empty())
            && let Ok(text) = fs_err::read_to_string(&self.file)
        {
            self.read = parse(&text);
            self.seen = version;
        }
        &self.read
    }
}

/// Returns the `nameserver` lines; the machine itself where there is none (`man 5 resolv.conf`).
fn parse(text: &str) -> Vec<SocketAddr> {
    let addresses = text.lines().filter_map(|line| {
        let mut words = line.split_ascii_whitespace();
        let is_server = words.next() == Some("nameserver");
        let address: IpAddr = words.next().filter(|_| is_server)?.parse().ok()?;
        Some(SocketAddr::new(address, PORT))
    });
    let servers: Vec<SocketAddr> = addresses.take(MOST).collect();
    if servers.is_empty() { vec![SocketAddr::new(Ipv4Addr::LOCALHOST.into(), PORT)] } else { servers }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nameserver_lines_are_read() {
        let check = |text: &str, expected: &[&str]| {
            let found: Vec<String> = parse(text).iter().map(SocketAddr::to_string).collect();
            assert_eq!(found, expected, "{text:?}");
        };
        check("", &["127.0.0.1:53"]);
        check("search x\n# nameserver 1.1.1.1\nnameserver 127.0.0.53\noptions edns0\n", &["127.0.0.53:53"]);
        check("nameserver\t::1\n nameserver 10.0.0.1 # x", &["[::1]:53", "10.0.0.1:53"]);
        check("nameserver nonsense\nnameservers 1.1.1.1", &["127.0.0.1:53"]);
        check(&"nameserver 10.0.0.1\n".repeat(5), &["10.0.0.1:53"; 3]);
    }

    #[test]
    fn a_changed_file_is_read_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("resolv.conf");
        let mut servers = Servers::new(&[], path.clone());
        assert_eq!(servers.current(), []);
        for address in ["10.0.0.1:53", "10.0.0.2:53"] {
            let text = format!("nameserver {}\n", address.strip_suffix(":53").unwrap());
            crate::sys::atomic::write(&path, text.as_bytes(), 0o644, crate::sys::atomic::Durability::Cached).unwrap();
            assert_eq!(servers.current(), [address.parse().unwrap()]);
        }
    }
}
