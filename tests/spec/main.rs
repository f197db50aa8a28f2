//! The loader from outside: files in memory, whole results compared.

mod diagnostics;
mod hostile;
mod pipeline;
mod support;
