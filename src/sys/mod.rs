//! What the kernel offers, one interface a file, safe outside. The only room with `unsafe`; knows no containers.

pub mod atomic;
pub mod bpf;
pub mod caps;
pub mod clone;
pub mod daemon;
pub mod ending;
pub mod fds;
pub mod inotify;
pub mod inside;
pub mod lock;
pub mod mount;
pub mod netlink;
pub mod netns;
pub mod packets;
pub mod paths;
pub mod pidfd;
pub mod poll;
pub mod process;
pub mod procfs;
pub mod pty;
pub mod random;
pub mod ready;
pub mod seccomp;
pub mod signals;
mod thread;
pub mod timer;
pub mod xtables;
