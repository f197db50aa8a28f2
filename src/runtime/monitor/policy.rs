//! skeleton
/// How many probes are remembered.
pub const PROBES_KEPT: usize = 5;
