//! The loader from outside: files in memory, whole results compared.

#![expect(clippy::unwrap_used, clippy::panic, reason = "tests and their helpers")]
#![expect(clippy::disallowed_methods, reason = "tests run the real binary")]
#![expect(clippy::print_stdout, reason = "says what it skips")]

mod diagnostics;
mod hostile;
mod obstacles;
mod origin;
mod pipeline;
mod reference;
mod rendered;
mod rendered_files;
mod round_trip;
mod schema;
mod support;
