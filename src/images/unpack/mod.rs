//! Layers: tar to files and back.
//!
//! A layer arrives as bytes that nobody vouches for yet (its digest is known to be right only at its end), so everything
//! here treats them as hostile: see [`reader`] for what is read, [`extract`] for where it may go.
//!
//! ```text
//! source ─chunks─> sha256 ─> blob file        ┐ thread A
//!                    └─> gunzip | zstd | plain ┘
//!                          └─ 1 MiB chunks, 4 at most ─> sha256 ─> tar entries ─> files   thread B
//! ```
//!
//! Reading order: [`pipeline`], [`reader`], [`extract`], [`writer`].

pub mod error;
pub mod extract;
pub mod pipeline;
pub mod reader;
pub mod writer;

pub use error::UnpackError;

#[cfg(test)]
mod hostile;
#[cfg(test)]
mod tests;
