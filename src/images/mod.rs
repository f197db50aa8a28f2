//! Images: references, registries, the store, unpacking, Dockerfiles, building.
//!
//! This room never says which larger application an image is for, and never runs a container itself: the builder hands
//! its steps to a [`build::StepRunner`] that the engine implements.

pub mod build;
pub mod dockerfile;
