//! Where the rooms meet: observe, lower, plan, apply.

pub mod event;
pub mod roots;
pub mod view;
