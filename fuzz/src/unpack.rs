//! The unpacker of layers.

#[path = "../../src/images/unpack/error.rs"]
pub mod error;
#[path = "../../src/images/unpack/extract/mod.rs"]
pub mod extract;
#[path = "../../src/images/unpack/reader.rs"]
pub mod reader;
