//! Room that is put by for the day when there is none: also a removal has to write, the index above all.

use std::io;

use rustix::fs::FallocateFlags;
use rustix::io::Errno;

use super::staging::remove_file;
use super::{Store, StoreError};

/// Far more than an index of a thousand images takes.
const RESERVE_BYTES: u64 = 1 << 20;
/// So much room there must be for it to be put by: so many times itself.
const ROOM: u64 = 8;

impl Store {
    /// Takes the reserve away where there is no more room than it has.
    pub(crate) fn make_room(&self) -> Result<(), StoreError> {
        if self.free_bytes()? < RESERVE_BYTES {
            self.spend_reserve()?;
        }
        Ok(())
    }

    /// Takes the reserve away; returns whether there was one.
    pub(super) fn spend_reserve(&self) -> Result<bool, StoreError> {
        let path = self.path("images/reserve");
        let is_there = path.exists();
        remove_file(&path)?;
        Ok(is_there)
    }

    /// Puts the reserve by, if it is not here and there is room enough.
    pub(crate) fn fill_reserve(&self) -> Result<(), StoreError> {
        let path = self.path("images/reserve");
        if path.exists() || self.free_bytes()? < ROOM * RESERVE_BYTES {
            return Ok(());
        }
        let temporary = self.scratch()?.next_path();
        let file = fs_err::File::create(&temporary).map_err(StoreError::io("make", &temporary))?;
        let mut filled = rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, RESERVE_BYTES);
        if filled == Err(Errno::OPNOTSUPP) {
            let mut file = &file;
            let mut zeros = io::Read::take(io::repeat(0), RESERVE_BYTES);
            let written = io::copy(&mut zeros, &mut file);
            filled = written
                .map(drop)
                .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO));
        }
        match filled {
            Ok(()) => {}
            // There was room a moment ago.
            Err(Errno::NOSPC | Errno::DQUOT) => return remove_file(&temporary),
            Err(errno) => return Err(StoreError::io("write", &temporary)(errno)),
        }
        fs_err::rename(&temporary, &path).map_err(StoreError::io("write", &path))
    }

    /// Returns the bytes that this user may still write.
    fn free_bytes(&self) -> Result<u64, StoreError> {
        let path = self.path("images");
        let stat = rustix::fs::statvfs(&path).map_err(StoreError::io("look at", &path))?;
        let blocks = if rustix::process::geteuid().is_root() {
            stat.f_bfree
        } else {
            stat.f_bavail
        };
        Ok(blocks.saturating_mul(stat.f_frsize))
    }
}
