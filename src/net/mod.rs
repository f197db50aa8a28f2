//! Networks: addresses, bridges, veth pairs, the firewall table, published ports, names.
//!
//! This room never says which larger application an endpoint belongs to: identity travels as opaque labels and names.

pub mod config;
