//! Hashing on the way.

use std::io::{self, Write};

use sha2::Digest as _;

use super::super::reference::Digest;

/// Hashes what passes.
#[derive(Debug)]
pub(super) struct Hashing<W> {
    sink: W,
    hash: sha2::Sha256,
    size_bytes: u64,
}

impl<W> Hashing<W> {
    /// Hashes nothing yet.
    pub(super) fn new(sink: W) -> Self {
        Self {
            sink,
            hash: sha2::Sha256::new(),
            size_bytes: 0,
        }
    }

    /// Returns the sink, the digest of what passed, and its bytes.
    pub(super) fn finish(self) -> (W, Digest, u64) {
        let digest = Digest::from_hash(&self.hash.finalize());
        (self.sink, digest, self.size_bytes)
    }
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let length = self.sink.write(bytes)?;
        self.hash.update(bytes.get(..length).unwrap_or_default());
        self.size_bytes += length as u64;
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.sink.flush()
    }
}
