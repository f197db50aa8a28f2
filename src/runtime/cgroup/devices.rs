//! Which devices a container may use.

use crate::sys::bpf;

/// Which devices its processes may open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeviceAccess {
    /// Docker's default list.
    Default,
    /// That, and these.
    And(Vec<bpf::DeviceRule>),
    /// Every device.
    All,
}

/// Docker's default devices: any may be made; null, zero, full, random, urandom, tty, console, ptmx, terminals and tun be used.
pub(super) const DEVICES: [bpf::DeviceRule; 12] = {
    use bpf::{DeviceKind, DeviceRule};
    const fn character(major: u32, minor: Option<u32>) -> DeviceRule {
        DeviceRule {
            kind: DeviceKind::Character,
            major: Some(major),
            minor,
            access: bpf::READ | bpf::WRITE | bpf::MAKE,
        }
    }
    const fn make(kind: DeviceKind) -> DeviceRule {
        DeviceRule {
            kind,
            major: None,
            minor: None,
            access: bpf::MAKE,
        }
    }
    [
        make(DeviceKind::Character),
        make(DeviceKind::Block),
        character(1, Some(3)),
        character(1, Some(5)),
        character(1, Some(7)),
        character(1, Some(8)),
        character(1, Some(9)),
        character(5, Some(0)),
        character(5, Some(1)),
        character(5, Some(2)),
        character(136, None),
        character(10, Some(200)),
    ]
};
