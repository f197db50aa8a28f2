//! What the kernel offers, one interface a file, safe outside. The only room with `unsafe`; knows no containers.

pub mod atomic;
pub mod daemon;
pub mod ending;
pub mod inotify;
pub mod lock;
pub mod netlink;
pub mod netns;
pub mod packets;
pub mod poll;
pub mod procfs;
pub mod random;
pub mod signals;
pub mod timer;
pub mod clone;
pub mod pidfd;
pub mod process;
pub mod ready;
