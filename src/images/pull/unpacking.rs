//! What unpacks a layer while it is fetched: the bytes that are there already, then those that come, all of them hashed and kept.

use std::convert::Infallible;
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::super::store::{Partial, Staging};
use super::super::unpack::pipeline::{Chunks, Outcome, run};

/// Packed bytes between the network and the pipeline: chunks of this size, so many at most.
pub(super) const CHUNK_BYTES: usize = 128 << 10;
const QUEUE: usize = 4;

/// The threads that hash, unpack and keep what is there already and what comes; they own the directory meanwhile. Dropped, with their
/// sender before it, it waits until that is removed.
pub(super) struct Unpacking {
    pub(super) result: oneshot::Receiver<(Staging, Outcome)>,
    /// Closed with their end.
    ended: std::sync::mpsc::Receiver<Infallible>,
}

/// How long a pull that is cut off waits for its threads: nothing else goes on meanwhile. What they leave, the next command removes.
const CUT_OFF: Duration = Duration::from_millis(500);

impl Unpacking {
    /// Starts them; they wait for the first chunk. `max_bytes` are what the layer may be packed.
    pub(super) fn start(
        staging: Staging,
        partial: Arc<Partial>,
        max_bytes: u64,
    ) -> std::io::Result<(Self, mpsc::Sender<Option<Vec<u8>>>)> {
        let (chunks, receiver) = mpsc::channel(QUEUE);
        let (sender, result) = oneshot::channel();
        let (alive, ended) = std::sync::mpsc::channel();
        std::thread::Builder::new().spawn(move || {
            let received = ResumedChunks {
                partial: partial.clone(),
                position: 0,
                rest: ChannelChunks {
                    receiver,
                    ended: false,
                },
            };
            let mut blob = PartialWriter {
                position: 0,
                partial,
            };
            let outcome = run(received, &mut blob, &staging.diff(), max_bytes);
            drop(blob);
            // Nobody may want it any more; then the directory is removed here.
            drop(sender.send((staging, outcome)));
            drop::<std::sync::mpsc::Sender<Infallible>>(alive);
        })?;
        Ok((Self { result, ended }, chunks))
    }
}

impl Drop for Unpacking {
    fn drop(&mut self) {
        // What it sent is not taken any more.
        self.result.close();
        let _closed = self.ended.recv_timeout(CUT_OFF);
    }
}

/// What is there of a blob, then what comes.
struct ResumedChunks {
    partial: Arc<Partial>,
    position: u64,
    rest: ChannelChunks,
}

impl Chunks for ResumedChunks {
    fn next_chunk(&mut self) -> std::io::Result<Option<Vec<u8>>> {
        let left = self.partial.length_bytes() - self.position;
        if left == 0 {
            return self.rest.next_chunk();
        }
        let limit = usize::try_from(left).map_or(CHUNK_BYTES, |left| left.min(CHUNK_BYTES));
        let chunk = self.partial.read_at(self.position, limit)?;
        if chunk.is_empty() {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        self.position += chunk.len() as u64;
        Ok(Some(chunk))
    }
}

/// Adds what comes to what is there, and passes over the latter.
struct PartialWriter {
    partial: Arc<Partial>,
    position: u64,
}

impl Write for PartialWriter {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let known = self.partial.length_bytes().saturating_sub(self.position);
        let known = usize::try_from(known).map_or(bytes.len(), |known| known.min(bytes.len()));
        let new = bytes.get(known..).unwrap_or_default();
        self.partial.write_at(new, self.position + known as u64)?;
        self.position += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// The pipeline's end of the channel. `None` marks the proper end; a closed channel is a download that was given up.
struct ChannelChunks {
    receiver: mpsc::Receiver<Option<Vec<u8>>>,
    ended: bool,
}

impl Chunks for ChannelChunks {
    fn next_chunk(&mut self) -> std::io::Result<Option<Vec<u8>>> {
        if self.ended {
            return Ok(None);
        }
        match self.receiver.blocking_recv() {
            Some(Some(chunk)) => Ok(Some(chunk)),
            Some(None) => {
                self.ended = true;
                Ok(None)
            }
            None => Err(std::io::Error::new(
                std::io::ErrorKind::ConnectionAborted,
                "the download was given up",
            )),
        }
    }
}
