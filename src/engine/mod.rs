//! Where the rooms meet: observe, lower, plan, apply.

pub mod apply;
pub mod event;
pub mod host;
pub mod roots;
pub mod view;
