//! A thread for what changes the calling thread's namespaces, root or directory.

use std::io;

/// Runs `action` in a thread of its own and returns what it returns, once nothing of that thread is left: a process that
/// had one thread has one again (`crate::sys::clone::SingleThreaded`).
///
/// Errors: no memory for a thread, or `action` panicked.
pub(super) fn run<T: Send>(name: &str, action: impl FnOnce() -> T + Send) -> io::Result<T> {
    let (id, result) = std::thread::scope(|scope| {
        std::thread::Builder::new()
            .name(name.to_owned())
            .stack_size(256 << 10)
            .spawn_scoped(scope, || (rustix::thread::gettid(), action()))?
            .join()
            .map_err(|_| io::Error::other(format!("thread `{name}` panicked")))
    })?;
    // Its stack is free before the kernel takes it off the list.
    let task = format!("/proc/self/task/{}", id.as_raw_nonzero());
    while rustix::fs::stat(&task).is_ok() {
        std::thread::yield_now();
    }
    Ok(result)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_the_thread_is_left() {
        for _ in 0..200 {
            let id = run("test", rustix::thread::gettid).unwrap();
            let task = format!("/proc/self/task/{}", id.as_raw_nonzero());
            assert_eq!(
                rustix::fs::stat(&task).err(),
                Some(rustix::io::Errno::NOENT)
            );
        }
    }

    #[test]
    fn a_panic_is_an_error() {
        let error = run("test", || assert_eq!(1, 2, "on purpose")).unwrap_err();
        assert_eq!(error.to_string(), "thread `test` panicked");
    }
}
