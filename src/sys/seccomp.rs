//! Installs a system call filter (`man 2 seccomp`).
#![expect(unsafe_code, reason = "seccomp is wrapped by no crate")]

use std::io;

/// One instruction of classic BPF (`struct sock_filter`).
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Instruction {
    /// Operation.
    pub code: u16,
    /// Instructions to skip if a test holds.
    pub jt: u8,
    /// Instructions to skip if it does not.
    pub jf: u8,
    /// Operand.
    pub k: u32,
}

/// `struct sock_fprog`.
#[repr(C)]
struct Program {
    len: u16,
    filter: *const Instruction,
}

/// Filters every system call of the calling thread and its children from now on, for good.
///
/// Errors: `EACCES` without `CAP_SYS_ADMIN` or `no_new_privs`; `EINVAL` for a wrong or too long program.
pub fn install(instructions: &[Instruction]) -> io::Result<()> {
    const SECCOMP_SET_MODE_FILTER: libc::c_ulong = 1;
    let len = u16::try_from(instructions.len())
        .map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
    let program = Program {
        len,
        filter: instructions.as_ptr(),
    };
    // SAFETY: `program` is a `sock_fprog` over `len` instructions that live through the call; the kernel copies them.
    let result = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            SECCOMP_SET_MODE_FILTER,
            0,
            &raw const program,
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
