//! The few kernel parameters that are set, and why each. `/proc/sys/net` is that of the calling thread's namespace.

use std::io;

use crate::net::error::NetError;

/// A key below `/proc/sys/net` and its value.
pub(crate) type Setting = (String, &'static str);

/// Returns what a bridge needs.
pub(crate) fn of_bridge(bridge: &str, has_ipv6: bool) -> Vec<Setting> {
    let v4 = |key: &str| format!("ipv4/conf/{bridge}/{key}");
    let v6 = |key: &str| format!("ipv6/conf/{bridge}/{key}");
    let mut settings = vec![
        // Connections to 127.0.0.1 can be redirected to a container; the firewall drops such packets from outside.
        (v4("route_localnet"), "1"),
        // Loose: a container with two networks may answer through the other one.
        (v4("rp_filter"), "2"),
    ];
    if has_ipv6 {
        settings.extend([
            (v6("disable_ipv6"), "0"),
            // A container's router advertisement must not reach the host (CVE-2020-13401).
            (v6("accept_ra"), "0"),
            // Duplicate detection would keep the gateway's address unusable for a second.
            (v6("accept_dad"), "0"),
        ]);
    } else {
        // No link-local way from a container to the host's services (CVE-2024-32473).
        settings.push((v6("disable_ipv6"), "1"));
    }
    settings
}

/// Returns what a container's namespace needs as a whole: those that Docker gives its containers.
pub(crate) fn of_container() -> Vec<Setting> {
    vec![
        ("ipv4/ip_unprivileged_port_start".to_owned(), "0"),
        ("ipv4/ping_group_range".to_owned(), "0 2147483647"),
    ]
}

/// Returns what a container's link needs.
pub(crate) fn of_container_link(link: &str, has_ipv6: bool) -> Vec<Setting> {
    let mut settings = vec![
        // Neighbours learn at once who has the address now.
        (format!("ipv4/conf/{link}/arp_notify"), "1"),
        (
            format!("ipv6/conf/{link}/disable_ipv6"),
            if has_ipv6 { "0" } else { "1" },
        ),
    ];
    if has_ipv6 {
        settings.push((format!("ipv6/conf/{link}/accept_ra"), "0"));
    }
    settings
}

/// Writes all of them. A key of IPv6 that does not exist is passed over: then the kernel has no IPv6.
pub(crate) fn write(settings: &[Setting]) -> Result<(), NetError> {
    for (key, value) in settings {
        match fs_err::write(path(key), value) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && key.starts_with("ipv6/") => {}
            Err(source) => {
                let (key, value) = (key.clone(), (*value).to_owned());
                return Err(NetError::Sysctl { key, value, source });
            }
            Ok(()) => {}
        }
    }
    Ok(())
}

/// Turns on a switch that belongs to the host as a whole. Returns whether it was off.
pub(crate) fn turn_on(key: &str) -> Result<bool, NetError> {
    let is_off = |text: String| text.trim() == "0";
    match fs_err::read_to_string(path(key)).map(is_off) {
        Ok(true) => write(&[(key.to_owned(), "1")]).map(|()| true),
        Ok(false) => Ok(false),
        Err(error) if error.kind() == io::ErrorKind::NotFound && key.starts_with("ipv6/") => {
            Ok(false)
        }
        Err(source) => Err(NetError::Sysctl {
            key: key.to_owned(),
            value: "1".to_owned(),
            source,
        }),
    }
}

/// Returns a key's file.
fn path(key: &str) -> String {
    format!("/proc/sys/net/{key}")
}
