//! YAML in and out, as Docker Compose reads and writes it.

pub(crate) mod emit;
pub(crate) mod parse;
pub(crate) mod resolve;
