//! Containers: their records, processes, resources, logs.
//!
//! This room never says which larger application a container belongs to: identity travels as opaque labels.

pub mod cgroup;
pub mod config;
pub mod exec;
pub mod init;
pub mod seal;
#[cfg(test)]
mod testing;
