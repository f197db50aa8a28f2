//! Runs multi-container applications from Compose files.
//!
//! The rooms and the arrows between them are drawn in the README and enforced by `tests/layering.rs`.

pub mod cli;
pub mod engine;
pub mod images;
pub mod net;
pub mod plan;
pub mod runtime;
pub mod spec;
pub mod sys;
