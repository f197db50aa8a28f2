//! What a `COPY` or `ADD` takes from a tree: which files ([`Origin`]), and a digest of them that does not depend on times ([`index`]).

use std::ffi::OsString;
use std::fs::Metadata;
use std::io;
use std::path::PathBuf;

use super::pattern::PatternError;

mod index;
mod select;
#[cfg(test)]
mod tests;
mod walk;

pub use index::{FileIndex, Hash, Owners, RACY_NS, changed, hash_part, hash_selected, hex};
pub use select::{Origin, Taking};

/// What is taken could not be found or read.
#[derive(Debug, thiserror::Error)]
pub enum ContextError {
    /// Nothing by that name.
    #[error("\"/{0}\": not found in {1}")]
    NotFound(String, String),
    /// It is there, but the ignore rules leave it out.
    #[error("\"/{0}\": excluded by {1}")]
    Ignored(String, String),
    /// A wildcard that cannot be read.
    #[error(transparent)]
    Pattern(#[from] PatternError),
    /// A file that cannot be read.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// One thing to copy.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Below the source; empty for the source itself.
    pub path: PathBuf,
    /// Where it lies.
    pub host: PathBuf,
    /// Of itself, not of what a link points to.
    pub metadata: Metadata,
    /// A directory that is there only for what is taken from below it: one that the destination has keeps its owner and times.
    pub leads: bool,
}

/// One source and all below it, parents before children, in the order of their bytes.
#[derive(Debug, Clone)]
pub struct Selected {
    /// The name that a file keeps when it is copied into a directory.
    pub name: OsString,
    /// At least the source itself.
    pub entries: Vec<Entry>,
}
