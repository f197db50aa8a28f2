//! What the unpacker needs of the system.

#[path = "../../src/sys/beneath.rs"]
pub mod beneath;
#[path = "../../src/sys/remove.rs"]
pub mod remove;
#[path = "../../src/sys/xattr.rs"]
pub mod xattr;
