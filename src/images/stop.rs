//! What tells work in a thread that nobody wants it any more.

use std::io::{self, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Whether work is still wanted; every clone says the same. Whoever works looks at it before every entry and every piece of a file.
#[derive(Debug, Clone, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Asks whoever works to end.
    pub fn ask(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Fails once somebody asked. Not as [`io::ErrorKind::Interrupted`], after which readers and writers try again.
    pub fn check(&self) -> io::Result<()> {
        if self.0.load(Ordering::Relaxed) {
            return Err(io::Error::other("it is no longer wanted"));
        }
        Ok(())
    }
}

/// A reader or writer that fails once somebody asked to stop.
#[derive(Debug)]
pub struct Heeding<T> {
    inner: T,
    stop: Stop,
}

impl<T> Heeding<T> {
    /// Wraps one.
    pub fn new(inner: T, stop: &Stop) -> Self {
        let stop = stop.clone();
        Self { inner, stop }
    }
}

impl<T: Read> Read for Heeding<T> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stop.check()?;
        self.inner.read(buffer)
    }
}

impl<T: Write> Write for Heeding<T> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stop.check()?;
        self.inner.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
