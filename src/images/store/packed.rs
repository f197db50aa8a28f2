//! Layers as they are pushed: compressed, kept by (diff id, algorithm, level) beside the layer, so that no layer is compressed twice.
//!
//! ```text
//! tree (unpack::writer) or tar blob ─> tar ─┬─ sha256 = the diff id, else the layer is damaged
//!                                           └─ blocks of 512 KiB ─> threads ─> in order ─> sha256, file ─> blobs/
//! ```
//!
//! Gzip is one member (RFC 1952, no name, no time): each block is deflated by itself with the 32 KiB before it as dictionary and
//! ends at a byte (as pigz does), so the bytes depend on the tar and the level alone, not on the number of threads. Never more than
//! a few blocks are in memory.

use std::collections::{BTreeSet, VecDeque};
use std::io::{self, Read as _, Seek as _, Write};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use flate2::{Compress, Compression, FlushCompress, Status};
use serde::{Deserialize, Serialize};

use super::super::manifest::{Descriptor, OCI_LAYER_GZIP, OCI_LAYER_ZSTD};
use super::super::reference::Digest;
use super::super::unpack::writer::write_layer;
use super::hashing::Hashing;
use super::{Store, StoreError, document_bytes};
use crate::sys::atomic::Durability;

/// Of the tar, compressed at once.
const BLOCK_BYTES: usize = 512 << 10;
/// What deflate looks back upon.
const WINDOW_BYTES: usize = 32 << 10;
/// More threads than this keep too many blocks in memory.
const MAX_THREADS: usize = 8;

/// A compression and how hard it tries; shown and recorded as `gzip/6`, `zstd/3`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Packing {
    /// Level 1 to 9.
    Gzip(u32),
    /// Level 1 to 19.
    Zstd(i32),
}

impl Default for Packing {
    fn default() -> Self {
        Self::Gzip(6)
    }
}

impl Packing {
    /// Returns `algorithm` (`gzip`, `zstd`) at `level`, or at its usual one; `None` where there is no such thing.
    pub fn new(algorithm: &str, level: Option<u32>) -> Option<Self> {
        match (algorithm, level) {
            ("gzip", None) => Some(Self::Gzip(6)),
            ("gzip", Some(level @ 1..=9)) => Some(Self::Gzip(level)),
            ("zstd", None) => Some(Self::Zstd(3)),
            ("zstd", Some(level @ 1..=19)) => i32::try_from(level).ok().map(Self::Zstd),
            _ => None,
        }
    }

    /// Whether a blob of that media type, OCI's or Docker's, is compressed so, at whatever level.
    pub(crate) fn is_of(self, media_type: &str) -> bool {
        let algorithm = match self {
            Self::Gzip(_) => "gzip",
            Self::Zstd(_) => "zstd",
        };
        media_type.ends_with(algorithm)
    }

    fn media_type(self) -> &'static str {
        match self {
            Self::Gzip(_) => OCI_LAYER_GZIP,
            Self::Zstd(_) => OCI_LAYER_ZSTD,
        }
    }
}

impl std::fmt::Display for Packing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Gzip(level) => write!(f, "gzip/{level}"),
            Self::Zstd(level) => write!(f, "zstd/{level}"),
        }
    }
}

impl From<Packing> for String {
    fn from(packing: Packing) -> Self {
        packing.to_string()
    }
}

impl TryFrom<String> for Packing {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let parsed = text.split_once('/').and_then(|(algorithm, level)| {
            let level = level.parse().ok()?;
            Self::new(algorithm, Some(level))
        });
        parsed.ok_or_else(|| format!("`{text}` is not a compression and its level"))
    }
}

/// One compressed form of a layer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Packed {
    /// How it was made.
    pub packing: Packing,
    /// What a manifest says of it.
    pub blob: Descriptor,
}

impl Store {
    /// Adds up the blobs that are kept of a layer.
    pub(crate) fn packed_bytes(&self, diff_id: &Digest) -> Result<u64, StoreError> {
        let Some(record) = self.layer(diff_id)? else {
            return Ok(0);
        };
        let made = record.packed.iter().map(|packed| &packed.blob);
        let blobs: BTreeSet<&Digest> = record
            .blobs
            .iter()
            .chain(made)
            .map(|blob| &blob.digest)
            .collect();
        let mut bytes = 0;
        for digest in blobs {
            bytes += self.blob_file(digest)?.map_or(0, |(_, size)| size);
        }
        Ok(bytes)
    }

    /// Returns a kept blob's file and size; `None` if it is not here.
    pub(crate) fn blob_file(
        &self,
        digest: &Digest,
    ) -> Result<Option<(std::path::PathBuf, u64)>, StoreError> {
        let path = self.blob_path(digest);
        match fs_err::metadata(&path) {
            Ok(stat) => Ok(Some((path, stat.len()))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(StoreError::io("look at", &path)(error)),
        }
    }

    /// Returns the compressed form of a layer that is here, made now unless it was made before. `named` is the layer as the
    /// image's manifest names it: a tar, kept or to be made of the tree, or a blob that has another compression. Blocks; uses all
    /// processors.
    pub(crate) fn pack_layer(
        &self,
        diff_id: &Digest,
        named: &Digest,
        packing: Packing,
    ) -> Result<Descriptor, StoreError> {
        let _hold = self.hold()?;
        let missing = || StoreError::NoLayer {
            diff_id: diff_id.clone(),
        };
        let record = self.layer(diff_id)?.ok_or_else(missing)?;
        let known = record.packed.iter().find(|p| p.packing == packing);
        if let Some(known) = known
            && self.blob_file(&known.blob.digest)?.is_some()
        {
            return Ok(known.blob.clone());
        }
        let path = self.scratch()?.next_path();
        let file = fs_err::File::create(&path).map_err(StoreError::io("make", &path))?;
        let written = self.write_packed(diff_id, named, packing, &file);
        let (found, blob) = match written {
            Ok(written) => written,
            Err(error) => {
                super::staging::remove_file(&path)?;
                return Err(error);
            }
        };
        if found != *diff_id {
            super::staging::remove_file(&path)?;
            return Err(StoreError::Damaged {
                expected: diff_id.clone(),
                found,
            });
        }
        // Under its name it counts as whole, also after a crash of the machine.
        file.sync_all().map_err(StoreError::io("sync", &path))?;
        let to = self.blob_path(&blob.digest);
        let _locked = self.lock()?;
        fs_err::rename(&path, &to).map_err(StoreError::io("write", &to))?;
        let mut record = self.layer(diff_id)?.ok_or_else(missing)?;
        record.packed.retain(|p| p.packing != packing);
        record.packed.push(Packed {
            packing,
            blob: blob.clone(),
        });
        record.packed.sort_by_key(|packed| packed.packing);
        let path = self.layer_path(diff_id).join("layer.json");
        let bytes = document_bytes("layer", &record)?;
        self.replace_with(&path, &bytes, Durability::Synced)?;
        Ok(blob)
    }

    fn write_packed(
        &self,
        diff_id: &Digest,
        named: &Digest,
        packing: Packing,
        file: &fs_err::File,
    ) -> Result<(Digest, Descriptor), StoreError> {
        let diff = self.layer_path(diff_id).join("diff");
        let packed = Hashing::new(io::BufWriter::with_capacity(256 << 10, file));
        let failed = |source| StoreError::io("compress", &diff)(source);
        let encoder = Encoder::new(packing, packed).map_err(failed)?;
        let mut tar = Hashing::new(encoder);
        match self.blob_file(named)? {
            Some((path, _)) => {
                let from = fs_err::File::open(&path).map_err(StoreError::io("open", &path))?;
                let mut from: Box<dyn io::Read> = if named == diff_id {
                    Box::new(from)
                } else {
                    expanded(from).map_err(failed)?
                };
                copy(&mut from, &mut tar).map_err(failed)?;
            }
            None => {
                write_layer(&diff, &mut tar).map_err(|source| StoreError::Pack {
                    path: diff.clone(),
                    source,
                })?;
            }
        }
        let (encoder, found, _) = tar.finish();
        let mut packed = encoder.finish().map_err(failed)?;
        packed.flush().map_err(failed)?;
        let (_, digest, size_bytes) = packed.finish();
        Ok((
            found,
            Descriptor::new(packing.media_type(), digest, size_bytes),
        ))
    }
}

/// Reads what a compressed blob has in it.
fn expanded(mut blob: fs_err::File) -> io::Result<Box<dyn io::Read>> {
    let mut magic = [0; 2];
    blob.read_exact(&mut magic)?;
    blob.rewind()?;
    Ok(if magic == [0x1f, 0x8b] {
        let blob = io::BufReader::with_capacity(256 << 10, blob);
        Box::new(flate2::bufread::MultiGzDecoder::new(blob))
    } else {
        Box::new(zstd::Decoder::new(blob)?)
    })
}

fn copy(from: &mut impl io::Read, to: &mut impl Write) -> io::Result<()> {
    let mut buffer = vec![0; 256 << 10];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(length) => to.write_all(buffer.get(..length).unwrap_or_default())?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

enum Encoder<W: Write> {
    Gzip(Box<Gzip<W>>),
    Zstd(Box<zstd::stream::write::Encoder<'static, W>>),
}

impl<W: Write> Encoder<W> {
    fn new(packing: Packing, sink: W) -> io::Result<Self> {
        Ok(match packing {
            Packing::Gzip(level) => {
                let threads = std::thread::available_parallelism().map_or(1, usize::from);
                Self::Gzip(Box::new(Gzip::new(level, threads.min(MAX_THREADS), sink)?))
            }
            Packing::Zstd(level) => {
                let mut encoder = zstd::stream::write::Encoder::new(sink, level)?;
                encoder.include_checksum(true)?;
                Self::Zstd(Box::new(encoder))
            }
        })
    }

    fn finish(self) -> io::Result<W> {
        match self {
            Self::Gzip(encoder) => encoder.finish(),
            Self::Zstd(encoder) => encoder.finish(),
        }
    }
}

impl<W: Write> Write for Encoder<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Gzip(encoder) => encoder.write(bytes),
            Self::Zstd(encoder) => encoder.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        // What is compressed is flushed when it is finished.
        Ok(())
    }
}

/// A block on its way to a thread, and the way back.
struct Block {
    bytes: Vec<u8>,
    /// The last of the block before.
    window: Vec<u8>,
    last: bool,
    done: SyncSender<io::Result<Vec<u8>>>,
}

/// Gzip by several threads.
struct Gzip<W> {
    sink: W,
    blocks: Option<SyncSender<Block>>,
    threads: Vec<std::thread::JoinHandle<()>>,
    /// In the order of the tar.
    pending: VecDeque<Receiver<io::Result<Vec<u8>>>>,
    bytes: Vec<u8>,
    window: Vec<u8>,
    crc: flate2::Crc,
    spare: usize,
}

impl<W: Write> Gzip<W> {
    fn new(level: u32, threads: usize, mut sink: W) -> io::Result<Self> {
        // RFC 1952 2.3: deflate, no flags, no time, no extra flags, unknown system.
        sink.write_all(&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff])?;
        let (blocks, receiver) = sync_channel::<Block>(0);
        let receiver = Arc::new(std::sync::Mutex::new(receiver));
        let workers = (0..threads).map(|_| {
            let receiver = receiver.clone();
            let worker = std::thread::Builder::new();
            worker.spawn(move || compress_blocks(&receiver, level))
        });
        let workers = workers.collect::<io::Result<_>>()?;
        Ok(Self {
            sink,
            blocks: Some(blocks),
            threads: workers,
            pending: VecDeque::new(),
            bytes: Vec::with_capacity(BLOCK_BYTES),
            window: Vec::new(),
            crc: flate2::Crc::new(),
            spare: threads + 1,
        })
    }

    /// Hands the gathered block to a thread; waits for the oldest one where enough are on their way.
    fn hand_on(&mut self, last: bool) -> io::Result<()> {
        while self.pending.len() >= self.spare {
            self.take_oldest()?;
        }
        let bytes = std::mem::replace(&mut self.bytes, Vec::with_capacity(BLOCK_BYTES));
        self.crc.update(&bytes);
        let from = bytes.len().saturating_sub(WINDOW_BYTES);
        let window = bytes.get(from..).unwrap_or_default().to_vec();
        let window = std::mem::replace(&mut self.window, window);
        let (done, result) = sync_channel(1);
        let block = Block {
            bytes,
            window,
            last,
            done,
        };
        let sent = self.blocks.as_ref().map(|blocks| blocks.send(block));
        if !matches!(sent, Some(Ok(()))) {
            return Err(gone());
        }
        self.pending.push_back(result);
        Ok(())
    }

    fn take_oldest(&mut self) -> io::Result<()> {
        let Some(oldest) = self.pending.pop_front() else {
            return Ok(());
        };
        let packed = oldest.recv().map_err(|_| gone())??;
        self.sink.write_all(&packed)
    }

    fn finish(mut self) -> io::Result<W> {
        self.hand_on(true)?;
        while !self.pending.is_empty() {
            self.take_oldest()?;
        }
        self.blocks = None;
        for thread in self.threads.drain(..) {
            thread.join().map_err(|_| gone())?;
        }
        self.sink.write_all(&self.crc.sum().to_le_bytes())?;
        self.sink.write_all(&self.crc.amount().to_le_bytes())?;
        Ok(self.sink)
    }
}

impl<W: Write> Write for Gzip<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = BLOCK_BYTES - self.bytes.len();
        let length = room.min(bytes.len());
        self.bytes
            .extend_from_slice(bytes.get(..length).unwrap_or_default());
        if self.bytes.len() == BLOCK_BYTES {
            self.hand_on(false)?;
        }
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn gone() -> io::Error {
    io::Error::other("a compressing thread is gone")
}

/// A thread: blocks as they come, until nobody sends any more.
fn compress_blocks(blocks: &std::sync::Mutex<Receiver<Block>>, level: u32) {
    let mut compress = Compress::new(Compression::new(level), false);
    loop {
        let next = match blocks.lock() {
            Ok(receiver) => receiver.recv(),
            Err(_) => return,
        };
        let Ok(block) = next else { return };
        let packed = deflate(&mut compress, &block);
        // Whoever gave up does not want it.
        drop(block.done.send(packed));
    }
}

/// Deflates one block to a byte's end, or to the stream's.
fn deflate(compress: &mut Compress, block: &Block) -> io::Result<Vec<u8>> {
    compress.reset();
    if !block.window.is_empty() {
        compress
            .set_dictionary(&block.window)
            .map_err(io::Error::other)?;
    }
    let flush = if block.last {
        FlushCompress::Finish
    } else {
        FlushCompress::Sync
    };
    let mut packed = Vec::with_capacity(block.bytes.len() / 2 + 1024);
    loop {
        let consumed = usize::try_from(compress.total_in()).unwrap_or(usize::MAX);
        let rest = block.bytes.get(consumed..).unwrap_or_default();
        let status = compress
            .compress_vec(rest, &mut packed, flush)
            .map_err(io::Error::other)?;
        let all_in = compress.total_in() == block.bytes.len() as u64;
        match status {
            Status::StreamEnd => return Ok(packed),
            // Room is left: all is out.
            Status::Ok if all_in && !block.last && packed.len() < packed.capacity() => {
                return Ok(packed);
            }
            Status::BufError if all_in && !block.last => return Ok(packed),
            Status::Ok | Status::BufError => packed.reserve(BLOCK_BYTES / 4),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    fn noise(length: usize) -> Vec<u8> {
        let mut state = 7_u32;
        let bytes = std::iter::repeat_with(|| {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            // Half of it can be compressed.
            if state & 1 == 0 {
                b'a'
            } else {
                state.to_le_bytes()[1]
            }
        });
        bytes.take(length).collect()
    }

    fn gzip(bytes: &[u8], threads: usize, pieces: usize) -> Vec<u8> {
        let mut encoder = Gzip::new(6, threads, Vec::new()).unwrap();
        for piece in bytes.chunks(pieces.max(1)) {
            encoder.write_all(piece).unwrap();
        }
        encoder.finish().unwrap()
    }

    #[test]
    fn gzip_of_many_threads_is_that_of_one_and_unpacks() {
        for length in [
            0,
            1,
            BLOCK_BYTES - 1,
            BLOCK_BYTES,
            BLOCK_BYTES + 1,
            5 * BLOCK_BYTES + 77,
        ] {
            let bytes = noise(length);
            let one = gzip(&bytes, 1, 10_000);
            assert!(gzip(&bytes, 5, 700_000) == one, "{length} bytes");
            let mut decoder = flate2::read::GzDecoder::new(one.as_slice());
            let mut found = Vec::new();
            decoder.read_to_end(&mut found).unwrap();
            assert!(found == bytes, "{length} bytes");
            assert_eq!(decoder.into_inner().len(), 0, "one member and no more");
        }
    }

    #[test]
    fn packings_have_names() {
        for (text, expected) in [
            ("gzip/6", Some(Packing::Gzip(6))),
            ("zstd/19", Some(Packing::Zstd(19))),
            ("gzip/10", None),
            ("gzip/0", None),
            ("zstd/20", None),
            ("bzip2/1", None),
            ("gzip", None),
        ] {
            assert_eq!(Packing::try_from(text.to_owned()).ok(), expected, "{text}");
        }
        assert_eq!(Packing::default().to_string(), "gzip/6");
    }
}
