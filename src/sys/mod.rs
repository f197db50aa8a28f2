//! What the kernel offers, one interface a file, safe outside. The only room with `unsafe`; knows no containers.

pub mod atomic;
pub mod clone;
pub mod daemon;
pub mod ending;
pub mod inotify;
pub mod lock;
pub mod netlink;
pub mod netns;
pub mod packets;
pub mod pidfd;
pub mod poll;
pub mod process;
pub mod procfs;
pub mod random;
pub mod ready;
pub mod signals;
pub mod timer;
