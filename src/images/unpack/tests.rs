//! Hostile and odd archives.
