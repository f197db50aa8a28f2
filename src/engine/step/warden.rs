//! The process that no step of a build outlives.
//!
//! ```text
//! builder ──┬── warden          pid namespace W; sleeps until the builder has ended, and ends
//!           └── RUN's command   pid namespace within W: the kernel ends it with W (`man 7 pid_namespaces`)
//! ```
//!
//! `kill -9` leaves a builder no time to end anything. A parent's death signal would, but a step takes that away from itself: by
//! `prctl`, or by executing a program with set-id bits (`man 2 prctl`). The end of a namespace it cannot escape.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use crate::sys::clone::{self, Cloned, Forked, SingleThreaded};
use crate::sys::{fds, pidfd, process};

/// A warden; dropped, it ends with everything in its namespace, whose processes must be reaped by then.
#[derive(Debug)]
pub(super) struct Warden {
    process: OwnedFd,
}

impl Warden {
    /// Starts the warden of this process.
    pub(super) fn start() -> io::Result<Self> {
        let watched = pidfd::open(rustix::process::getpid().as_raw_nonzero().get())?;
        let (ours, theirs) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
        // A process with threads must not clone by itself; what it forks may.
        let between = match clone::fork()? {
            Forked::Child(proof) => stand_between(&proof, &watched, &theirs),
            Forked::Parent(between) => between,
        };
        drop(theirs);
        let mut answer = [0; 4];
        let heard = read_exactly(&ours, &mut answer);
        process::reap(between)?;
        heard?;
        // It is our child and unreaped, so the id is still its own.
        let process = pidfd::open(i32::from_ne_bytes(answer))?;
        Ok(Self { process })
    }

    /// The process whose namespace it is.
    pub(super) fn pidfd(&self) -> BorrowedFd<'_> {
        self.process.as_fd()
    }
}

impl Drop for Warden {
    fn drop(&mut self) {
        let _killed = pidfd::signal(self.process.as_fd(), libc::SIGKILL);
        let _reaped = pidfd::wait(self.process.as_fd());
    }
}

/// Clones the warden as the builder's own child, and tells its id.
fn stand_between(proof: &SingleThreaded, watched: &OwnedFd, answer: &OwnedFd) -> ! {
    let _guard = process::ExitOnDrop(2);
    // An interrupt from the terminal is the builder's to act on, and its handlers are not ours to run.
    process::block_signals();
    match clone::clone3(proof, clone::CLONE_NEWPID | clone::CLONE_PARENT, None) {
        Ok(Cloned::Child) => watch(watched),
        Ok(Cloned::Parent { pid, pidfd: _ }) => {
            // Unheard, the builder has ended: so does the warden.
            let told = rustix::io::write(answer, &pid.to_ne_bytes());
            process::exit_now(i32::from(told.is_err()))
        }
        Err(_) => process::exit_now(1),
    }
}

/// Sleeps until the builder has ended.
fn watch(builder: &OwnedFd) -> ! {
    let _guard = process::ExitOnDrop(2);
    // What the builder has locked, and the ends of its pipes, must not stay here.
    if fds::close_all_but(&[builder.as_raw_fd()]).is_err() || leave_streams().is_err() {
        process::exit_now(1);
    }
    let mut ended = [rustix::event::PollFd::new(
        builder,
        rustix::event::PollFlags::IN,
    )];
    while let Err(rustix::io::Errno::INTR) = rustix::event::poll(&mut ended, None) {}
    process::exit_now(0)
}

/// Lets go of the builder's terminal and pipes.
fn leave_streams() -> io::Result<()> {
    let null = fs_err::File::options()
        .read(true)
        .write(true)
        .open("/dev/null")?;
    for number in 0..3 {
        process::set_stdio(null.file().as_fd(), number)?;
    }
    Ok(())
}

/// Reads a whole buffer.
fn read_exactly(from: &OwnedFd, buffer: &mut [u8]) -> io::Result<()> {
    let count = rustix::io::retry_on_intr(|| rustix::io::read(from, &mut *buffer))?;
    if count == buffer.len() {
        return Ok(());
    }
    Err(io::Error::other(
        "no process could be made for the namespace of the steps",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns a process in the warden's namespace that sleeps for ever.
    fn sleeper(warden: &Warden) -> OwnedFd {
        match clone::fork_within(warden.pidfd()).unwrap() {
            Forked::Child(_) => loop {
                let _guard = process::ExitOnDrop(2);
                let _never = rustix::event::poll(&mut [], None);
            },
            Forked::Parent(pid) => pidfd::open(pid).unwrap(),
        }
    }

    #[test]
    fn nothing_outlives_it() {
        let warden = Warden::start().unwrap();
        let sleeper = sleeper(&warden);
        // The thread forks where it did.
        let namespace = |of: &str| fs_err::read_link(format!("/proc/thread-self/ns/{of}")).unwrap();
        assert_eq!(namespace("pid"), namespace("pid_for_children"));
        assert_eq!(pidfd::peek(sleeper.as_fd()).unwrap(), None);
        pidfd::signal(warden.pidfd(), libc::SIGKILL).unwrap();
        let killed = pidfd::Exit::Signal(libc::SIGKILL);
        assert_eq!(pidfd::wait(sleeper.as_fd()).unwrap(), killed);
    }

    #[test]
    fn it_ends_with_the_process_that_started_it() {
        // Whose pid goes through the pipe, and whose end closes it: a warden keeps none of its builder's descriptors.
        let (ours, theirs) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
        let builder = match clone::fork().unwrap() {
            Forked::Child(_) => {
                let _guard = process::ExitOnDrop(2);
                drop(ours);
                let warden = Warden::start().unwrap();
                let pid = pidfd::pid_of(warden.pidfd()).unwrap().unwrap();
                rustix::io::write(&theirs, &pid.to_ne_bytes()).unwrap();
                loop {
                    let _never = rustix::event::poll(&mut [], None);
                }
            }
            Forked::Parent(builder) => builder,
        };
        drop(theirs);
        let mut answer = [0; 4];
        read_exactly(&ours, &mut answer).unwrap();
        let warden = pidfd::open(i32::from_ne_bytes(answer)).unwrap();
        process::kill(builder, libc::SIGKILL).unwrap();
        process::reap(builder).unwrap();
        let mut ended = [rustix::event::PollFd::new(
            &warden,
            rustix::event::PollFlags::IN,
        )];
        let limit = rustix::event::Timespec {
            tv_sec: 30,
            tv_nsec: 0,
        };
        assert_eq!(rustix::event::poll(&mut ended, Some(&limit)), Ok(1));
    }
}
