//! What the kernel offers, one interface a file, safe outside. The only room with `unsafe`; knows no containers.

pub mod atomic;
pub mod daemon;
pub mod ending;
pub mod inotify;
pub mod lock;
pub mod packets;
pub mod poll;
pub mod procfs;
pub mod signals;
pub mod timer;
pub mod bpf;
pub mod caps;
pub mod clone;
pub mod lock;
pub mod mount;
pub mod paths;
pub mod pidfd;
pub mod process;
pub mod pty;
pub mod seccomp;
