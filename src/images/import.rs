//! A root file system tar becomes an image of one layer.

/// A `--change`: a Dockerfile instruction applied to the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// `CMD`.
    Cmd(Vec<String>),
}

/// A `--change` that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid change `{text}`: {rule}")]
pub struct ChangeError {
    text: String,
    rule: String,
}

impl Change {
    /// Parses `CMD ["sh"]`, `ENV A=b`, ….
    pub fn parse(text: &str) -> Result<Self, ChangeError> {
        Err(ChangeError {
            text: text.to_owned(),
            rule: "not yet".to_owned(),
        })
    }
}
