//! Interrupts: the first one asks, the second one insists.

use std::pin::pin;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::failure::CliError;
use super::render::progress::{FRAME, Progress};
use crate::engine::EngineError;
use crate::engine::cancel::Cancel;

/// SIGINT and SIGTERM, from now on.
pub(crate) struct Interrupts {
    interrupt: Signal,
    terminate: Signal,
}

impl Interrupts {
    /// Takes the signals over from their default, which is to end the process.
    pub(crate) fn listen() -> Result<Self, CliError> {
        let listen = |kind| {
            signal(kind).map_err(|source| CliError::System {
                attempted: "listen for signals",
                source,
            })
        };
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
        })
    }

    /// Returns with the next signal's number. Nothing is lost where the future is dropped.
    pub(crate) async fn next(&mut self) -> i32 {
        tokio::select! {
            _ = self.interrupt.recv() => libc::SIGINT,
            _ = self.terminate.recv() => libc::SIGTERM,
        }
    }
}

/// Does `work` while progress is drawn. The first interrupt cancels it and waits for its orderly end, the second one
/// gives it up where it stands, which the next command puts right.
pub(crate) async fn drive<T>(
    work: impl Future<Output = Result<T, EngineError>>,
    progress: &Progress<'_>,
    interrupts: &mut Interrupts,
    cancel: &Cancel,
) -> Result<T, CliError> {
    let mut work = pin!(work);
    let mut ticks = tokio::time::interval(if progress.is_live() {
        FRAME
    } else {
        Duration::from_hours(1)
    });
    let result = loop {
        tokio::select! {
            biased;
            result = &mut work => break result.map_err(CliError::from),
            _ = interrupts.next() => {
                if cancel.is_cancelled() {
                    break Err(CliError::Interrupted);
                }
                cancel.cancel();
            }
            _ = ticks.tick() => progress.tick(),
        }
    };
    progress.finish();
    if result.is_err() && cancel.is_cancelled() {
        if let Err(CliError::Engine(error)) = &result
            && error.exit_code() != 130
        {
            return result;
        }
        return Err(CliError::Interrupted);
    }
    result
}
