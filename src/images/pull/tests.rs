//! Pulls.
