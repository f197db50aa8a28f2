//! Containers: their records, processes, resources, logs.
//!
//! This room never says which larger application a container belongs to: identity travels as opaque labels.

pub mod config;
