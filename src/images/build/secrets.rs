//! Secrets of a build: what a step or a server is shown, and nobody else.
//!
//! A secret is read when it is needed and held no longer; no file of the store, no key, no history and no message has it.

use std::io::{self, Read};
use std::path::PathBuf;

/// Bytes of the largest secret (BuildKit `MaxSecretSize`).
const MAX_BYTES: usize = 500 * 1024;

/// Where the content of a secret comes from.
#[derive(Clone, PartialEq, Eq)]
pub enum SecretSource {
    /// A file, read when a step needs it.
    File(PathBuf),
    /// This.
    Value(Vec<u8>),
}

impl std::fmt::Debug for SecretSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
            Self::Value(_) => f.write_str("Value(…)"),
        }
    }
}

/// A secret that cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// More than a secret may have.
    #[error("secret \"{0}\" is too big: it may have 500 KB at most")]
    Size(String),
    /// Its file.
    #[error("read the secret \"{id}\"")]
    Read {
        /// Which.
        id: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

impl SecretSource {
    /// Returns the content of the secret `id`.
    pub(super) fn read(&self, id: &str) -> Result<Vec<u8>, SecretError> {
        let content = match self {
            Self::Value(content) => content.clone(),
            Self::File(path) => {
                let failed = |source| SecretError::Read {
                    id: id.to_owned(),
                    source,
                };
                // No more than tells that it is too big: it may be a device.
                let limit = MAX_BYTES as u64 + 1;
                let mut content = Vec::new();
                let file = fs_err::File::open(path).map_err(failed)?;
                file.take(limit).read_to_end(&mut content).map_err(failed)?;
                content
            }
        };
        if content.len() > MAX_BYTES {
            return Err(SecretError::Size(id.to_owned()));
        }
        Ok(content)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_has_half_a_megabyte_at_most() {
        let temp = tempfile::tempdir().unwrap();
        let file = |length: usize| {
            let path = temp.path().join(length.to_string());
            fs_err::write(&path, vec![b'x'; length]).unwrap();
            SecretSource::File(path)
        };
        let of = |source: SecretSource| {
            let read = source.read("s").map(|content| content.len());
            read.map_err(|error| error.to_string())
        };
        let big = Err("secret \"s\" is too big: it may have 500 KB at most".to_owned());
        for (length, expected) in [(0, Ok(0)), (512_000, Ok(512_000)), (512_001, big.clone())] {
            assert_eq!(of(file(length)), expected);
            assert_eq!(of(SecretSource::Value(vec![0; length])), expected);
        }
        assert_eq!(of(SecretSource::File("/dev/zero".into())), big);
        let none = of(SecretSource::File(temp.path().join("none")));
        assert_eq!(none, Err("read the secret \"s\"".to_owned()));
        let shown = format!("{:?}", SecretSource::Value(b"hush".to_vec()));
        assert_eq!(shown, "Value(…)");
    }
}
