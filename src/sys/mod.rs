//! What the kernel offers, one interface a file, safe outside. The only room with `unsafe`; knows no containers.

pub mod atomic;
pub mod fds;
pub mod lock;
pub mod netlink;
pub mod netns;
