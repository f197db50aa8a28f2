//! Names: who has them ([`names`]), what a query gets ([`answer`]), who else to ask ([`upstream`]), and the sockets ([`server`]).

pub(crate) mod names;
