//! Where the rooms meet: observe, lower, plan, apply.

pub mod apply;
pub mod cancel;
pub mod etc;
pub mod event;
pub mod host;
pub mod instance;
pub mod lower;
pub mod roots;
pub mod view;
