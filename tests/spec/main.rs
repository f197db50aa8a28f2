//! The loader from outside: files in memory, whole results compared.

#![expect(clippy::unwrap_used, clippy::panic, reason = "tests and their helpers")]
#![expect(clippy::print_stdout, reason = "says what it skips")]

mod diagnostics;
mod hostile;
mod origin;
mod pipeline;
mod round_trip;
mod schema;
mod support;
