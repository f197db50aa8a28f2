//! The user's own terminal while a command in a container has one: raw mode, its size, and the relay between both.
//!
//! ```text
//! keyboard ─ stdin ─> relay ─> pty master ═ pty ═ command
//! screen  <─ stdout ─ relay <─ pty master
//! ```
//!
//! The relay is a thread of its own with one `poll` loop: the descriptors of a terminal are shared with other processes
//! and must stay blocking, which no reactor bears. It holds at most one buffer a direction, so that a side that does not
//! read only ever holds up its own direction.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::thread::JoinHandle;

use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::io::Errno;
use rustix::termios::{
    OptionalActions, Termios, Winsize, tcgetattr, tcgetwinsize, tcsetattr, tcsetwinsize,
};

/// Bytes moved at once.
const BUFFER: usize = 16 * 1024;

/// Returns columns and rows of the terminal that `fd` is, if it is one and has a size.
pub(crate) fn size(fd: impl AsFd) -> Option<(u16, u16)> {
    let size = tcgetwinsize(fd).ok()?;
    (size.ws_col > 0 && size.ws_row > 0).then_some((size.ws_col, size.ws_row))
}

/// Gives a pseudo-terminal the size of the user's.
pub(crate) fn copy_size(from: impl AsFd, master: BorrowedFd<'_>) -> io::Result<()> {
    let Some((columns, rows)) = size(from) else {
        return Ok(());
    };
    let size = Winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    Ok(tcsetwinsize(master, size)?)
}

/// Standard input in raw mode; dropping it gives back the mode it had.
pub(crate) struct RawMode {
    before: Termios,
}

impl RawMode {
    /// Enters raw mode.
    pub(crate) fn enter() -> io::Result<Self> {
        let stdin = io::stdin();
        let before = tcgetattr(&stdin)?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(&stdin, OptionalActions::Drain, &raw)?;
        Ok(Self { before })
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        // A terminal that hung up has no mode to give back.
        let _restored = tcsetattr(io::stdin(), OptionalActions::Drain, &self.before);
    }
}

/// The thread that relays.
pub(crate) struct Relay {
    ended: OwnedFd,
    thread: JoinHandle<io::Result<()>>,
}

impl Relay {
    /// Starts to relay between standard input and output and `master`.
    pub(crate) fn start(master: OwnedFd) -> io::Result<Self> {
        let flags = rustix::fs::fcntl_getfl(&master)?;
        rustix::fs::fcntl_setfl(&master, flags | rustix::fs::OFlags::NONBLOCK)?;
        let ended = eventfd(0, EventfdFlags::CLOEXEC)?;
        let watched = ended.try_clone()?;
        let thread = std::thread::Builder::new()
            .name("relay".to_owned())
            .spawn(move || {
                relay(
                    io::stdin().as_fd(),
                    io::stdout().as_fd(),
                    master.as_fd(),
                    watched.as_fd(),
                )
            })?;
        Ok(Self { ended, thread })
    }

    /// Relays what the command, which has ended, still wrote, and ends.
    pub(crate) fn finish(self) -> io::Result<()> {
        rustix::io::write(&self.ended, &1_u64.to_ne_bytes())?;
        match self.thread.join() {
            Ok(result) => result,
            Err(_) => Err(io::Error::other(
                "the relay of the terminal ended unexpectedly",
            )),
        }
    }
}

/// Relays until the terminal's other side is closed, or `ended` is readable and nothing is left to read.
fn relay(
    stdin: BorrowedFd<'_>,
    stdout: BorrowedFd<'_>,
    master: BorrowedFd<'_>,
    ended: BorrowedFd<'_>,
) -> io::Result<()> {
    let mut typed: Vec<u8> = Vec::new();
    let mut reading = true;
    loop {
        let wanted = match typed.is_empty() {
            true => PollFlags::IN,
            false => PollFlags::IN | PollFlags::OUT,
        };
        let mut watched = vec![
            PollFd::new(&master, wanted),
            PollFd::new(&ended, PollFlags::IN),
        ];
        if reading && typed.is_empty() {
            watched.push(PollFd::new(&stdin, PollFlags::IN));
        }
        match poll(&mut watched, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let ready: Vec<PollFlags> = watched.iter().map(PollFd::revents).collect();
        let is_ready = |index: usize, flags: PollFlags| {
            ready.get(index).is_some_and(|seen| seen.intersects(flags))
        };
        if is_ready(0, PollFlags::IN | PollFlags::HUP | PollFlags::ERR) {
            if !pass_output(master, stdout)? {
                return Ok(());
            }
        } else if is_ready(1, PollFlags::IN) {
            return Ok(());
        }
        if is_ready(0, PollFlags::OUT) {
            pass_input(&mut typed, master)?;
        }
        if is_ready(2, PollFlags::IN | PollFlags::HUP) {
            reading = read_input(stdin, &mut typed)?;
        }
    }
}

/// Moves one buffer from the command to the screen; false once its side is closed.
fn pass_output(master: BorrowedFd<'_>, stdout: BorrowedFd<'_>) -> io::Result<bool> {
    let mut buffer = [0_u8; BUFFER];
    match rustix::io::read(master, &mut buffer) {
        // A pseudo-terminal whose last slave was closed says EIO.
        Ok(0) | Err(Errno::IO) => Ok(false),
        Ok(count) => {
            let mut rest = buffer.get(..count).unwrap_or_default();
            while !rest.is_empty() {
                match rustix::io::write(stdout, rest) {
                    Ok(written) => rest = rest.get(written..).unwrap_or_default(),
                    Err(Errno::INTR) => {}
                    Err(Errno::AGAIN) => {
                        poll(&mut [PollFd::new(&stdout, PollFlags::OUT)], None)?;
                    }
                    // Nobody looks any more; the command goes on.
                    Err(Errno::PIPE | Errno::IO) => return Ok(true),
                    Err(error) => return Err(error.into()),
                }
            }
            Ok(true)
        }
        Err(Errno::AGAIN | Errno::INTR) => Ok(true),
        Err(error) => Err(error.into()),
    }
}

/// Writes what was typed as far as the pseudo-terminal takes it.
fn pass_input(typed: &mut Vec<u8>, master: BorrowedFd<'_>) -> io::Result<()> {
    match rustix::io::write(master, typed) {
        Ok(written) => {
            typed.drain(..written.min(typed.len()));
            Ok(())
        }
        Err(Errno::AGAIN | Errno::INTR) => Ok(()),
        // The command closed its side; what is left to read ends the relay.
        Err(Errno::IO) => {
            typed.clear();
            Ok(())
        }
        Err(error) => Err(error.into()),
    }
}

/// Reads what was typed; false once nothing more can come.
fn read_input(stdin: BorrowedFd<'_>, typed: &mut Vec<u8>) -> io::Result<bool> {
    let mut buffer = [0_u8; BUFFER];
    match rustix::io::read(stdin, &mut buffer) {
        Ok(0) | Err(Errno::IO) => Ok(false),
        Ok(count) => {
            typed.extend_from_slice(buffer.get(..count).unwrap_or_default());
            Ok(true)
        }
        Err(Errno::AGAIN | Errno::INTR) => Ok(true),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    use super::*;

    /// The relay between two socket pairs and one that stands for the pseudo-terminal.
    #[test]
    fn both_directions_pass_and_neither_holds_up_the_other() {
        let (mut keyboard, stdin) = UnixStream::pair().unwrap();
        let (mut screen, stdout) = UnixStream::pair().unwrap();
        let (mut command, master) = UnixStream::pair().unwrap();
        master.set_nonblocking(true).unwrap();
        let ended = eventfd(0, EventfdFlags::CLOEXEC).unwrap();
        let watched = ended.try_clone().unwrap();
        let thread = std::thread::spawn(move || {
            relay(
                stdin.as_fd(),
                stdout.as_fd(),
                master.as_fd(),
                watched.as_fd(),
            )
        });
        keyboard.write_all(b"typed").unwrap();
        let mut buffer = [0; 5];
        command.read_exact(&mut buffer).unwrap();
        assert_eq!(&buffer, b"typed");
        // Far more than any buffer is typed and not read, and output still comes.
        let flood = std::thread::spawn(move || {
            let result = keyboard.write_all(&vec![b'x'; 4 << 20]);
            drop(keyboard);
            result
        });
        command.write_all(b"shown").unwrap();
        screen.read_exact(&mut buffer).unwrap();
        assert_eq!(&buffer, b"shown");
        command.write_all(b"last").unwrap();
        rustix::io::write(&ended, &1_u64.to_ne_bytes()).unwrap();
        let mut rest = String::new();
        screen.read_to_string(&mut rest).unwrap();
        assert_eq!(rest, "last");
        thread.join().unwrap().unwrap();
        assert_eq!(
            flood.join().unwrap().map_err(|error| error.kind()),
            Err(io::ErrorKind::BrokenPipe)
        );
    }
}
