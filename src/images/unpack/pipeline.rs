//! One layer through two threads: see the drawing in [`super`].

use std::io::{self, BufRead, Read, Write};
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};

use sha2::Digest as _;

use super::super::reference::Digest;
use super::error::UnpackError;
use super::extract::{Limits, Report, unpack};

/// Of uncompressed bytes between the threads; several layers go through at once, and all of them together stay small.
const CHUNK_BYTES: usize = 256 << 10;
/// Chunks that wait.
const QUEUE: usize = 4;
/// Below this many bytes, any ratio of unpacked to packed ones is fine.
const BOMB_FLOOR_BYTES: u64 = 4 << 30;
/// Unpacked to packed; gzip cannot exceed 1032, honest layers stay below 50.
const BOMB_RATIO: u64 = 500;
/// Of zstd's window, as a power of two: 128 MiB.
const ZSTD_WINDOW_LOG: u32 = 27;
/// Every stream may have as much, whatever its first frame says: the later ones may have more.
const LEAST_WINDOW_BYTES: u64 = 4 << 20;
/// Windows of zstd that are in memory at once; a larger one is alone there.
const WINDOWS_BYTES: u64 = 16 << 20;

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
    let window_bytes = zstd_window(start);
    match sniff(start)? {
        Compression::Gzip => {
            packed.compression = "+gzip";
            let mut decoder = flate2::bufread::MultiGzDecoder::new(packed);
            to.all(&mut decoder, |decoder| decoder.get_ref().size_bytes)
        }
        Compression::Zstd => {
            packed.compression = "+zstd";
            let window_bytes = window_bytes.clamp(LEAST_WINDOW_BYTES, 1 << ZSTD_WINDOW_LOG);
            let _room = WindowRoom::take(window_bytes);
            let mut decoder =
                zstd::stream::read::Decoder::with_buffer(packed).map_err(UnpackError::Read)?;
            decoder
                // Later frames of the stream have no more than what was taken for the first.
                .window_log_max(window_bytes.next_power_of_two().trailing_zeros())
                .map_err(UnpackError::Read)?;
            to.all(&mut decoder, |decoder| decoder.get_ref().size_bytes)
        }
        Compression::None => to.all(packed, |packed| packed.size_bytes),
    }
}

/// Returns how many bytes the first frame of a zstd stream looks back upon (RFC 8878 3.1.1.1), or what is usual at most.
fn zstd_window(start: &[u8]) -> u64 {
    const USUAL: u64 = 8 << 20;
    let (Some([0x28, 0xb5, 0x2f, 0xfd]), Some(&descriptor)) = (start.get(..4), start.get(4)) else {
        return USUAL;
    };
    let is_single_segment = descriptor & 0x20 != 0;
    if !is_single_segment {
        let Some(&window) = start.get(5) else {
            return USUAL;
        };
        let base = 1_u64 << (10 + u32::from(window >> 3));
        return base + base / 8 * u64::from(window & 7);
    }
    // Then the window is the content, whose size follows the dictionary's id.
    let skipped = [0, 1, 2, 4]
        .get(usize::from(descriptor & 3))
        .copied()
        .unwrap_or(4);
    let length = [1, 2, 4, 8]
        .get(usize::from(descriptor >> 6))
        .copied()
        .unwrap_or(8);
    match start.get(5 + skipped..5 + skipped + length) {
        Some(size) => size
            .iter()
            .rev()
            .fold(0, |sum, &byte| (sum << 8) | u64::from(byte)),
        None => USUAL,
    }
}

/// Part of [`WINDOWS_BYTES`], given back when it is dropped.
struct WindowRoom(u64);

/// What is taken of them, and who waits for some.
static WINDOWS: (std::sync::Mutex<u64>, std::sync::Condvar) =
    (std::sync::Mutex::new(0), std::sync::Condvar::new());

impl WindowRoom {
    /// Waits until there is room.
    fn take(bytes: u64) -> Self {
        let bytes = bytes.min(WINDOWS_BYTES);
        let (taken, changed) = &WINDOWS;
        // Nobody panics while it is held.
        let mut sum = taken
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        while *sum + bytes > WINDOWS_BYTES {
            sum = changed
                .wait(sum)
                .unwrap_or_else(std::sync::PoisonError::into_inner);
        }
        *sum += bytes;
        Self(bytes)
    }
}

impl Drop for WindowRoom {
    fn drop(&mut self) {
        let (taken, changed) = &WINDOWS;
        *taken
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner) -= self.0;
        changed.notify_all();
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_of_zstd_are_known_from_its_header() {
        let sized = |level: i32, length: usize| {
            let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), level).unwrap();
            encoder.write_all(&vec![1; length]).unwrap();
            zstd_window(&encoder.finish().unwrap())
        };
        // Windows of levels 3 and 19 (zstd's own table).
        assert_eq!(
            (sized(3, 10 << 20), sized(19, 10 << 20)),
            (2 << 20, 8 << 20)
        );
        // All at once, it says how much it is.
        let packed = zstd::bulk::compress(&vec![1; 70_000], 3).unwrap();
        assert_eq!(zstd_window(&packed), 70_000);
        assert_eq!(zstd_window(b"\x28\xb5\x2f\xfd"), 8 << 20);
        assert_eq!(zstd_window(b""), 8 << 20);
    }
}
