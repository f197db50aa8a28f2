//! The names of a network, as files that any number of readers follow without being told.
//!
//! ```text
//! net/names/<network>/            0755: read through a descriptor opened before rights are given up
//! net/names/<network>/<id>        {"addresses":["172.18.0.2"],"names":["web","app-web-1"]}, replaced by rename
//! ```

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// One container's names in one network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NameEntry {
    /// Its addresses there.
    pub(crate) addresses: Vec<IpAddr>,
    /// Its names there, most specific last; the first is what an address resolves back to.
    pub(crate) names: Vec<String>,
}

/// All names of one network: container id → entry.
pub(crate) type NameTable = BTreeMap<String, NameEntry>;
