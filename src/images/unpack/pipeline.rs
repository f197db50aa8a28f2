//! One layer through two threads: see the drawing in [`super`].

use std::io::{self, BufRead, Read, Write};
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};

use sha2::Digest as _;

use super::super::reference::Digest;
use super::error::UnpackError;
use super::extract::{Limits, Report, unpack};

/// Of uncompressed bytes between the threads.
const CHUNK_BYTES: usize = 1 << 20;
/// Chunks that wait.
const QUEUE: usize = 4;
/// Below this many bytes, any ratio of unpacked to packed ones is fine.
const BOMB_FLOOR_BYTES: u64 = 4 << 30;
/// Unpacked to packed; gzip cannot exceed 1032, honest layers stay below 50.
const BOMB_RATIO: u64 = 500;
/// Of zstd's window, as a power of two: 128 MiB.
const ZSTD_WINDOW_LOG: u32 = 27;

/// Where packed bytes come from, in chunks of the source's choice; `None` at the end.
pub trait Chunks {
    /// Returns the next chunk, not empty.
    fn next_chunk(&mut self) -> io::Result<Option<Vec<u8>>>;
}

/// Chunks of a reader.
#[derive(Debug)]
pub struct ReaderChunks<R>(pub R);

impl<R: Read> Chunks for ReaderChunks<R> {
    fn next_chunk(&mut self) -> io::Result<Option<Vec<u8>>> {
        let mut chunk = Vec::with_capacity(256 << 10);
        self.0.by_ref().take(256 << 10).read_to_end(&mut chunk)?;
        Ok((!chunk.is_empty()).then_some(chunk))
    }
}

/// The packed bytes, as far as they came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packed {
    /// Their hash.
    pub digest: Digest,
    /// Their number.
    pub size_bytes: u64,
    /// The compression that was found: a suffix of the media type (`""`, `+gzip`, `+zstd`).
    pub compression: &'static str,
}

/// The content of a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unpacked {
    /// Hash of the uncompressed tar.
    pub diff_id: Digest,
    /// What came of it.
    pub report: Report,
}

/// Why not all packed bytes came or were kept.
#[derive(Debug, thiserror::Error)]
pub enum PackedError {
    /// The source ended or broke.
    #[error(transparent)]
    Read(io::Error),
    /// They came, and cannot be written.
    #[error(transparent)]
    Write(io::Error),
}

impl PackedError {
    /// Returns what the system said.
    pub fn into_io(self) -> io::Error {
        match self {
            Self::Read(error) | Self::Write(error) => error,
        }
    }

    /// The same error for a reader of the bytes.
    fn to_io(&self) -> io::Error {
        match self {
            Self::Read(error) | Self::Write(error) => {
                io::Error::new(error.kind(), error.to_string())
            }
        }
    }
}

/// Both ends of the pipeline. The packed bytes are read to their end even where they cannot be unpacked, so that a wrong
/// digest, the cause, can be told from a malformed archive, the consequence.
#[derive(Debug)]
pub struct Outcome {
    /// What was read.
    pub packed: Result<Packed, PackedError>,
    /// What was made of it.
    pub unpacked: Result<Unpacked, UnpackError>,
}

/// Reads `source` once: into `blob` as it is, and unpacked into the empty directory `diff`. At most `max_bytes` are read.
pub fn run(
    source: impl Chunks + Send,
    blob: &mut (impl Write + Send),
    diff: &Path,
    max_bytes: u64,
) -> Outcome {
    run_above(source, blob, diff, max_bytes, BOMB_FLOOR_BYTES)
}

/// As [`run`], where more than `floor_bytes` may be a bomb.
pub(super) fn run_above(
    source: impl Chunks + Send,
    blob: &mut (impl Write + Send),
    diff: &Path,
    max_bytes: u64,
    floor_bytes: u64,
) -> Outcome {
    let (sender, receiver) = sync_channel(QUEUE);
    let (back, used) = sync_channel(QUEUE + 1);
    std::thread::scope(|scope| {
        let decoder = scope.spawn(move || {
            let mut packed = PackedReader::new(source, blob, max_bytes);
            let to = Forward {
                sender,
                used,
                floor_bytes,
            };
            let decoded = decode(&mut packed, &to);
            drop(to);
            (packed.finish(), decoded)
        });
        let unpacked = unpack_chunks(receiver, back, diff);
        match decoder.join() {
            Ok((packed, decoded)) => Outcome {
                packed,
                unpacked: match (decoded, unpacked) {
                    (Err(UnpackError::Stopped) | Ok(()), unpacked) => unpacked,
                    (Err(error), _) => Err(error),
                },
            },
            Err(_) => Outcome {
                packed: Err(PackedError::Read(io::Error::other(
                    "the decompressing thread panicked",
                ))),
                unpacked: Err(UnpackError::Stopped),
            },
        }
    })
}

/// Hashes and keeps packed bytes while they are read.
struct PackedReader<'a, S, W> {
    source: S,
    blob: &'a mut W,
    max_bytes: u64,
    chunk: Vec<u8>,
    position: usize,
    hash: sha2::Sha256,
    size_bytes: u64,
    compression: &'static str,
    failed: Option<PackedError>,
}

impl<'a, S: Chunks, W: Write> PackedReader<'a, S, W> {
    fn new(source: S, blob: &'a mut W, max_bytes: u64) -> Self {
        Self {
            source,
            blob,
            max_bytes,
            chunk: Vec::new(),
            position: 0,
            hash: sha2::Sha256::new(),
            size_bytes: 0,
            compression: "",
            failed: None,
        }
    }

    fn fetch(&mut self) -> Result<(), PackedError> {
        let chunk = self.source.next_chunk().map_err(PackedError::Read)?;
        let Some(chunk) = chunk else {
            self.chunk.clear();
            return Ok(());
        };
        self.size_bytes += chunk.len() as u64;
        if self.size_bytes > self.max_bytes {
            return Err(PackedError::Read(io::Error::other(format!(
                "there are more than the {} bytes that were announced",
                self.max_bytes
            ))));
        }
        self.hash.update(&chunk);
        self.blob.write_all(&chunk).map_err(PackedError::Write)?;
        self.chunk = chunk;
        Ok(())
    }

    /// Reads on to the end.
    fn finish(mut self) -> Result<Packed, PackedError> {
        loop {
            if let Some(error) = self.failed.take() {
                return Err(error);
            }
            let length = match self.fill_buf() {
                Ok(bytes) => bytes.len(),
                Err(error) => {
                    return Err(self.failed.take().unwrap_or(PackedError::Read(error)));
                }
            };
            if length == 0 {
                break;
            }
            self.consume(length);
        }
        self.blob.flush().map_err(PackedError::Write)?;
        Ok(Packed {
            digest: Digest::from_hash(&self.hash.finalize()),
            size_bytes: self.size_bytes,
            compression: self.compression,
        })
    }
}

impl<S: Chunks, W: Write> Read for PackedReader<'_, S, W> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let bytes = self.fill_buf()?;
        let length = bytes.len().min(buffer.len());
        if let (Some(to), Some(from)) = (buffer.get_mut(..length), bytes.get(..length)) {
            to.copy_from_slice(from);
        }
        self.consume(length);
        Ok(length)
    }
}

impl<S: Chunks, W: Write> BufRead for PackedReader<'_, S, W> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.position >= self.chunk.len() && self.failed.is_none() {
            self.position = 0;
            if let Err(error) = self.fetch() {
                self.chunk.clear();
                let shown = error.to_io();
                self.failed = Some(error);
                return Err(shown);
            }
        }
        match &self.failed {
            Some(error) => Err(error.to_io()),
            None => Ok(self.chunk.get(self.position..).unwrap_or_default()),
        }
    }

    fn consume(&mut self, length: usize) {
        self.position += length;
    }
}

/// Thread A: packed bytes to chunks of the tar.
fn decode<S: Chunks, W: Write>(
    packed: &mut PackedReader<'_, S, W>,
    to: &Forward,
) -> Result<(), UnpackError> {
    let start = packed.fill_buf().map_err(UnpackError::Read)?;
    match sniff(start)? {
        Compression::Gzip => {
            packed.compression = "+gzip";
            let mut decoder = flate2::bufread::MultiGzDecoder::new(packed);
            to.all(&mut decoder, |decoder| decoder.get_ref().size_bytes)
        }
        Compression::Zstd => {
            packed.compression = "+zstd";
            let mut decoder =
                zstd::stream::read::Decoder::with_buffer(packed).map_err(UnpackError::Read)?;
            decoder
                .window_log_max(ZSTD_WINDOW_LOG)
                .map_err(UnpackError::Read)?;
            to.all(&mut decoder, |decoder| decoder.get_ref().size_bytes)
        }
        Compression::None => to.all(packed, |packed| packed.size_bytes),
    }
}

enum Compression {
    None,
    Gzip,
    Zstd,
}

/// Tells the compression by the first bytes; media types are not to be trusted.
fn sniff(start: &[u8]) -> Result<Compression, UnpackError> {
    let skippable = start.first().is_some_and(|b| b & 0xf0 == 0x50)
        && start.get(1..4) == Some(&[0x2a, 0x4d, 0x18]);
    Ok(match start {
        [0x1f, 0x8b, 0x08, ..] => Compression::Gzip,
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Compression::Zstd,
        _ if skippable => Compression::Zstd,
        [b'B', b'Z', b'h', ..] => return Err(UnpackError::Compression("bzip2")),
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => return Err(UnpackError::Compression("xz")),
        _ => Compression::None,
    })
}

/// The way of unpacked bytes to the other thread.
struct Forward {
    sender: SyncSender<Vec<u8>>,
    used: Receiver<Vec<u8>>,
    floor_bytes: u64,
}

impl Forward {
    fn all<D: Read>(
        &self,
        decoder: &mut D,
        packed_bytes: impl Fn(&D) -> u64,
    ) -> Result<(), UnpackError> {
        let mut unpacked_bytes = 0_u64;
        loop {
            let mut chunk = self.used.try_recv().unwrap_or_default();
            chunk.resize(CHUNK_BYTES, 0);
            let length = read_full(decoder, &mut chunk).map_err(UnpackError::Read)?;
            chunk.truncate(length);
            unpacked_bytes += length as u64;
            let packed_bytes = packed_bytes(decoder);
            let ratio = unpacked_bytes / packed_bytes.max(1);
            if unpacked_bytes > self.floor_bytes && ratio > BOMB_RATIO {
                return Err(UnpackError::Bomb {
                    packed_bytes,
                    unpacked_bytes,
                });
            }
            // The empty chunk marks a proper end, which a closed channel alone does not.
            let end = length == 0;
            if self.sender.send(chunk).is_err() {
                return Err(UnpackError::Stopped);
            }
            if end {
                return Ok(());
            }
        }
    }
}

fn read_full(reader: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match reader.read(rest) {
            Ok(0) => break,
            Ok(length) => filled += length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// Thread B: chunks of the tar to its hash and to files.
fn unpack_chunks(
    receiver: Receiver<Vec<u8>>,
    back: SyncSender<Vec<u8>>,
    diff: &Path,
) -> Result<Unpacked, UnpackError> {
    let limits = Limits::of_directory(diff).map_err(UnpackError::io("look at", diff))?;
    let mut reader = ChunkReader {
        receiver,
        back,
        chunk: Vec::new(),
        position: 0,
        hash: sha2::Sha256::new(),
        ended: false,
    };
    let report = unpack(&mut reader, diff, limits)?;
    Ok(Unpacked {
        diff_id: Digest::from_hash(&reader.hash.finalize()),
        report,
    })
}

struct ChunkReader {
    receiver: Receiver<Vec<u8>>,
    back: SyncSender<Vec<u8>>,
    chunk: Vec<u8>,
    position: usize,
    hash: sha2::Sha256,
    ended: bool,
}

impl Read for ChunkReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let bytes = self.fill_buf()?;
        let length = bytes.len().min(buffer.len());
        if let (Some(to), Some(from)) = (buffer.get_mut(..length), bytes.get(..length)) {
            to.copy_from_slice(from);
        }
        self.consume(length);
        Ok(length)
    }
}

impl BufRead for ChunkReader {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.position >= self.chunk.len() && !self.ended {
            let next = self.receiver.recv().map_err(|_| {
                io::Error::new(io::ErrorKind::UnexpectedEof, "the stream broke off")
            })?;
            let used = std::mem::replace(&mut self.chunk, next);
            match self.back.try_send(used) {
                // A full or closed way back only means that the buffer is not used again.
                Ok(()) | Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {}
            }
            self.position = 0;
            self.ended = self.chunk.is_empty();
            self.hash.update(&self.chunk);
        }
        Ok(self.chunk.get(self.position..).unwrap_or_default())
    }

    fn consume(&mut self, length: usize) {
        self.position += length;
    }
}
