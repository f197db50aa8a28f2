//! The end of a step: its directory becomes a layer, and the cache learns of it.
//!
//! That goes on in a thread to its end, also where the next step fails meanwhile or the build is interrupted: what is finished is kept.
//! A small layer is in its place when the next step begins. A large one is hashed beside that, which has its directory mounted below its
//! own; once it is (a mount holds on to a directory whatever it is called), or nobody is going to mount it, the directory may be moved.
//!
//! ```text
//! step ends ─ hash up to BESIDE_BYTES ─┬─ all of it ───────────────────────────────────────────> layers/<diffID>, cache/steps/<key>
//!                                      └─ not yet ─> Pending ─ hash ─ the next one is mounted ──^
//! ```

use std::convert::Infallible;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};

use tokio::sync::oneshot;

use super::super::reference::Digest;
use super::super::stop::{Heeding, Stop};
use super::super::store::layers::Measured;
use super::super::store::{LayerLock, Staging, Store, StoreError};
use super::aside::{Aside, panicked};
use super::cache::{Cache, FinishedKey, Made};
use super::error::StepFailure;
use super::explain;

/// Bytes of a layer's tar above which it is hashed beside the next step: what takes no longer than to start one.
const BESIDE_BYTES: u64 = 8 << 20;

/// What a step's result is remembered under, and the right to make it.
#[derive(Debug, Default)]
pub(super) struct Claim {
    /// `None` where it must not be remembered.
    pub(super) key: Option<FinishedKey>,
    /// Keeps others from doing the same meanwhile.
    pub(super) lock: Option<LayerLock>,
}

/// A step that is done, with all that is needed to keep what it made.
pub(super) struct Finished {
    pub(super) store: Arc<Store>,
    pub(super) cache: Cache,
    /// Where is remembered what it was done with.
    pub(super) reasons: PathBuf,
    /// Its directory.
    pub(super) staging: Staging,
    pub(super) claim: Claim,
    /// When, RFC 3339.
    pub(super) created: String,
    /// Nothing in it is younger.
    pub(super) epoch: Option<jiff::Timestamp>,
}

/// A layer in its place.
pub(super) struct Placed {
    pub(super) layer: Digest,
    /// What the step is remembered under, if it is.
    pub(super) key: Option<String>,
    /// Of the step, to be held until that of the step above is.
    pub(super) lock: Option<LayerLock>,
    /// The first path of it that other builders and runtimes take for the deletion of another one.
    pub(super) reserved: Option<PathBuf>,
    /// To be held as long as a mount has what was [`Pending`]: a layer that the store had already is not moved but removed.
    pub(super) mounted: Option<InUse>,
}

/// Held by who uses the directory of a step: dropped, it may go.
pub(super) type InUse = mpsc::Sender<Infallible>;

/// A layer that is still being hashed.
pub(super) struct Pending {
    /// Where it lies until it is released.
    pub(super) diff: PathBuf,
    /// Dropped, the layer may be moved.
    held: Option<InUse>,
    placed: oneshot::Receiver<Result<Placed, StepFailure>>,
}

impl Pending {
    /// Lets it be moved to its place: whoever wanted it by its path has it.
    pub(super) fn release(&mut self) {
        self.held = None;
    }

    /// Waits until it is in its place, which is not before it is released.
    pub(super) async fn placed(&mut self) -> Result<Placed, StepFailure> {
        (&mut self.placed).await.map_err(|_| panicked())?
    }
}

/// How far a finished step has come.
pub(super) enum Kept {
    Placed(Placed),
    Pending(Pending),
}

impl Finished {
    /// Keeps what the step made; returns as soon as it is in its place, or is found to be large.
    pub(super) async fn keep(self, aside: &Aside) -> Result<Kept, StepFailure> {
        let (sender, kept) = oneshot::channel();
        aside.keep(move |stop| self.work(sender, stop))?;
        kept.await.map_err(|_| panicked())?
    }

    /// Whoever asked may be gone: then nobody hears of it, and it is found by its key.
    fn work(mut self, kept: oneshot::Sender<Result<Kept, StepFailure>>, stop: &Stop) -> Staging {
        match self.measure_small() {
            Err(error) => drop(kept.send(Err(error))),
            Ok(Some(measured)) => drop(kept.send(self.place(measured).map(Kept::Placed))),
            Ok(None) => {
                let (held, released) = mpsc::channel();
                let (sender, placed) = oneshot::channel();
                drop(kept.send(Ok(Kept::Pending(Pending {
                    diff: self.staging.diff(),
                    held: Some(held),
                    placed,
                }))));
                let sink = Heeding::new(io::sink(), stop);
                let measured = Measured::writing(&self.staging.diff(), sink);
                let _closed = released.recv();
                let placed = measured.map_err(StepFailure::from);
                let placed = placed.and_then(|measured| self.place(measured));
                let (mounted, unmounted) = mpsc::channel();
                drop(sender.send(placed.map(|placed| Placed {
                    mounted: Some(mounted),
                    ..placed
                })));
                let _closed = unmounted.recv();
            }
        }
        // What is left beside the layer is removed here.
        self.staging
    }

    /// Makes nothing too young, and hashes a layer that is not large.
    fn measure_small(&self) -> Result<Option<Measured>, StepFailure> {
        let diff = self.staging.diff();
        if let Some(epoch) = self.epoch {
            clamp(&diff, epoch)?;
        }
        let measured: Result<_, StoreError> = Measured::within(&diff, BESIDE_BYTES);
        Ok(measured?)
    }

    /// Moves the layer into the store, and remembers it.
    fn place(&mut self, measured: Measured) -> Result<Placed, StepFailure> {
        let reserved = measured.reserved().map(Path::to_owned);
        let layer = self.store.commit_measured(&self.staging, measured)?.diff_id;
        let key = self.claim.key.take();
        if let Some(key) = &key {
            let made = Made {
                layer: layer.clone(),
                created: self.created.clone(),
            };
            self.cache.put(&key.hex, &made)?;
            explain::write(&self.reasons, key)?;
        }
        Ok(Placed {
            layer,
            key: key.map(|key| key.hex),
            lock: self.claim.lock.take(),
            reserved,
            mounted: None,
        })
    }
}

/// Makes nothing below a directory, nor itself, younger than a time.
fn clamp(path: &Path, latest: jiff::Timestamp) -> io::Result<()> {
    let metadata = fs_err::symlink_metadata(path)?;
    if metadata.is_dir() {
        for entry in fs_err::read_dir(path)? {
            clamp(&entry?.path(), latest)?;
        }
    }
    let changed = (metadata.mtime(), metadata.mtime_nsec());
    if changed <= (latest.as_second(), 0) {
        return Ok(());
    }
    let time = rustix::fs::Timespec {
        tv_sec: latest.as_second(),
        tv_nsec: 0,
    };
    let times = rustix::fs::Timestamps {
        last_access: time,
        last_modification: time,
    };
    let flags = rustix::fs::AtFlags::SYMLINK_NOFOLLOW;
    Ok(rustix::fs::utimensat(rustix::fs::CWD, path, &times, flags)?)
}
