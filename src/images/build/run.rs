//! `RUN` steps: what the command is, and what is kept out of its layer.
