//! The doors: the command line, and the hidden commands that the engine enters by.

fn main() {}
