//! What is there: tables, chains, rules.

use std::io;

use super::attributes::{Attributes, comment_text, patch, size32, write_header};
use super::{Family, SUBSYSTEM, message};
use crate::sys::netlink::{ACK, DUMP, Message, Socket, attributes};

/// A table that exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TableFound {
    /// Its comment.
    pub(crate) comment: Option<String>,
    /// Number of rules in its chains.
    pub(crate) rules: usize,
}

/// A base chain that exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ChainFound {
    /// Address family of its table: 1 inet, 2 ip, 10 ip6.
    pub(crate) family: u8,
    /// Its table.
    pub(crate) table: String,
    /// Its name.
    pub(crate) name: String,
    /// Hook number where it is a base chain: 2 for forward.
    pub(crate) hook: Option<u32>,
    /// Whether its policy is drop.
    pub(crate) drops: bool,
}

/// A rule that exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RuleFound {
    /// The kernel's number for it.
    pub(crate) handle: u64,
    /// Its comment.
    pub(crate) comment: Option<String>,
}

/// Returns the inet table, or `None` where there is none.
pub(crate) fn read_table(socket: &Socket, table: &str) -> io::Result<Option<TableFound>> {
    let request = request(message::GETTABLE, ACK, Family::Inet as u8, |m| {
        m.text(1, table);
    });
    let answers = match socket.dump(&request) {
        Ok(answers) => answers,
        Err(error) if is_missing(&error) => return Ok(None),
        Err(error) => return Err(error),
    };
    let comment = answers.iter().find_map(|m| comment_of(m, 6));
    let rules = read_rules(socket, Family::Inet, table, None)?.len();
    Ok(Some(TableFound { comment, rules }))
}

/// Returns the rules of a table, or of one chain of it; none where there is no such table or chain.
pub(crate) fn read_rules(
    socket: &Socket,
    family: Family,
    table: &str,
    chain: Option<&str>,
) -> io::Result<Vec<RuleFound>> {
    let request = request(message::GETRULE, DUMP, family as u8, |m| {
        m.text(1, table);
        if let Some(chain) = chain {
            m.text(2, chain);
        }
    });
    let answers = match socket.dump(&request) {
        Ok(answers) => answers,
        Err(error) if is_missing(&error) => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    // Kernels without the filter return every table's rules.
    let of_table = |m: &&Message| {
        text_of(m, 1).as_deref() == Some(table)
            && chain.is_none_or(|c| text_of(m, 2).as_deref() == Some(c))
    };
    let found = answers.iter().filter(of_table).map(|m| RuleFound {
        handle: value_of(m, 3)
            .and_then(|v| v.try_into().ok())
            .map_or(0, u64::from_be_bytes),
        comment: comment_of(m, 7),
    });
    Ok(found.collect())
}

/// Returns every chain of every table.
pub(crate) fn read_chains(socket: &Socket) -> io::Result<Vec<ChainFound>> {
    let answers = socket.dump(&request(message::GETCHAIN, DUMP, 0, |_| {}))?;
    let number = |value: &[u8]| value.try_into().ok().map(u32::from_be_bytes);
    let chains = answers.iter().map(|m| ChainFound {
        family: m.payload.first().copied().unwrap_or_default(),
        table: text_of(m, 1).unwrap_or_default(),
        name: text_of(m, 3).unwrap_or_default(),
        hook: value_of(m, 4).and_then(|hook| {
            attributes(hook)
                .find(|(kind, _)| *kind == 1)
                .and_then(|(_, v)| number(v))
        }),
        drops: value_of(m, 5).and_then(number) == Some(0),
    });
    Ok(chains.collect())
}

/// Encodes a request outside of a transaction.
fn request(kind: u16, flags: u16, family: u8, body: impl FnOnce(&mut Attributes<'_>)) -> Vec<u8> {
    let mut bytes = Vec::new();
    write_header(&mut bytes, SUBSYSTEM | kind, flags, 1);
    bytes.extend([family, 0, 0, 0]);
    body(&mut Attributes::new(&mut bytes));
    let length = size32(bytes.len());
    patch(&mut bytes, 0, &length.to_ne_bytes());
    bytes
}

/// Returns whether `error` says that there is no such table, chain, set or element.
pub(crate) fn is_missing(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound
}

/// Returns the attribute of a message after its family header.
fn value_of(message: &Message, kind: u16) -> Option<&[u8]> {
    attributes(message.payload.get(4..)?)
        .find(|(k, _)| *k == kind)
        .map(|(_, value)| value)
}

/// Returns a string attribute.
fn text_of(message: &Message, kind: u16) -> Option<String> {
    value_of(message, kind).map(|v| String::from_utf8_lossy(v).trim_end_matches('\0').to_owned())
}

/// Returns the comment in the user data attribute `kind`.
fn comment_of(message: &Message, kind: u16) -> Option<String> {
    value_of(message, kind)
        .and_then(comment_text)
        .map(str::to_owned)
}
