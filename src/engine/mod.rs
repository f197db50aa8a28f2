//! Where the rooms meet: observe, lower, plan, apply.

pub mod cancel;
pub mod event;
pub mod instance;
pub mod roots;
pub mod view;
