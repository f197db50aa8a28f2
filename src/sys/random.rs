//! Bytes from the kernel's generator (`man 2 getrandom`).

use std::io;

use rustix::rand::{GetRandomFlags, getrandom};

/// Returns 32 random bits.
pub fn u32() -> io::Result<u32> {
    bytes::<4>().map(u32::from_ne_bytes)
}

/// Returns `N` random bytes; `N` is at most 256, which the kernel never cuts short.
pub fn bytes<const N: usize>() -> io::Result<[u8; N]> {
    const { assert!(N <= 256) };
    let mut buffer = [0; N];
    let mut filled = 0;
    while filled < N {
        let rest = buffer.get_mut(filled..).ok_or(io::ErrorKind::InvalidData)?;
        filled += getrandom(rest, GetRandomFlags::empty())?;
    }
    Ok(buffer)
}
