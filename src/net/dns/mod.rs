//! Names: who has them ([`names`]), what a query gets ([`answer`]), whom else to ask ([`servers`]), and the sockets ([`server`]).

pub(crate) mod answer;
pub(crate) mod names;
pub(crate) mod server;
pub(crate) mod servers;
