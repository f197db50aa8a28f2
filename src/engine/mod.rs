//! Where the rooms meet: observe, lower, plan, apply.

pub mod apply;
#[cfg(test)]
mod converge;
pub mod event;
#[cfg(test)]
mod fake;
pub mod host;
pub mod roots;
pub mod view;
