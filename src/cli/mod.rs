//! The command line: arguments, one small file a command, rendering. Decides nothing about containers.
