//! The heap of the C library.
#![cfg_attr(
    target_env = "gnu",
    expect(unsafe_code, reason = "a setting of malloc")
)]

/// Has all threads share one heap. glibc gives each of the first ones its own, which it grows by a page and a system call at a time
/// (`sysmalloc` of malloc.c, `grow_heap` of arena.c); ours work one after another more than side by side.
///
/// To be called before the second thread is made.
pub fn share() {
    #[cfg(target_env = "gnu")]
    {
        // SAFETY: sets a number that malloc reads when a thread allocates for the first time. What it returns says whether it
        // knows the setting; where not, all is as before.
        let _known = unsafe { libc::mallopt(libc::M_ARENA_MAX, 1) };
    }
}
