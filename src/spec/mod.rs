//! Compose files: text in, a typed [`model::Stack`] out.
//!
//! ```text
//! Source text ─parse─> Document ─interpolate, include, extends, merge─> Document ─decode, validate─> Stack
//! ```
//!
//! Pure: files arrive through a [`ReadFile`], the environment as a map. This room must never touch a file, the clock,
//! the environment, a process or a thread.

pub mod model;
pub mod names;
pub mod source;
