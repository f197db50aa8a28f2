//! Compose files: text in, a typed [`model::Stack`] out.
//!
//! ```text
//! bytes ─yaml─> Node ─template─> Node ─canonical─> Node ─include, extends, merge─> Node ─normalize─> Node ─decode, validate─> Stack
//! ```
//!
//! One tree type ([`tree::Node`]) from the first step to the last but one: every node keeps the [`source::Span`] it was
//! written at, through interpolation, short forms and merging, so that whatever is found wrong at any step has a place.
//! Short forms become long ones, and relative paths absolute ones, file by file (`canonical`), before anything is
//! merged: merging then only ever sees one form of each attribute. [`schema`] is the one table of attributes; checking,
//! merging and rendering are driven by it. The tree that was decoded stays in [`model::Stack::document`] and is what
//! [`render`] prints.
//!
//! Pure: files arrive through a [`ReadFile`], the environment as a map. This room must never touch a file, the clock,
//! the environment, a process or a thread.

pub(crate) mod assemble;
pub(crate) mod budget;
pub(crate) mod canonical;
pub(crate) mod decode;
pub mod diagnostic;
pub(crate) mod discover;
pub(crate) mod dotenv;
pub(crate) mod interpolate;
pub mod json_schema;
pub mod load;
pub(crate) mod merge;
pub mod model;
pub mod names;
pub(crate) mod normalize;
pub mod obstacle;
pub mod origin;
pub mod render;
pub(crate) mod schema;
pub(crate) mod session;
pub mod source;
pub(crate) mod template;
pub mod tree;
pub(crate) mod units;
pub(crate) mod validate;
pub mod variables;
pub(crate) mod words;
pub(crate) mod yaml;

pub use diagnostic::{Diagnostic, Severity};
pub use load::{LoadFailure, LoadOptions, Loaded, ReadError, ReadFile, Steps, environment, load};
pub use obstacle::Phase;
pub use session::MAX_FILE as MAX_FILE_BYTES;
