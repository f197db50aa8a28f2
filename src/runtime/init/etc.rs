//! The files that a container's `/etc` gets from us. They lie in the container's directory and are bound over the image's.

use std::fmt::Write as _;
use std::net::IpAddr;

use crate::runtime::init::{SpawnRequest, StartError};
use crate::sys::atomic::{self, Durability};

/// Lines that every hosts file begins with.
const HOSTS: &str = "127.0.0.1\tlocalhost\n\
    ::1\tlocalhost ip6-localhost ip6-loopback\n\
    fe00::\tip6-localnet\n\
    ff00::\tip6-mcastprefix\n\
    ff02::1\tip6-allnodes\n\
    ff02::2\tip6-allrouters\n";

/// Renders /etc/hosts.
fn render_hosts(entries: &[(IpAddr, String)]) -> String {
    let mut text = HOSTS.to_owned();
    for (address, names) in entries {
        // Writing to a string cannot fail.
        let _infallible = writeln!(text, "{address}\t{names}");
    }
    text
}

/// Writes `hosts`, `hostname` and `resolv.conf`, as far as they are not what they are to be; they mean nothing after a boot.
pub(crate) fn write(request: &SpawnRequest<'_>) -> Result<(), StartError> {
    let files = [
        ("hosts", render_hosts(&request.etc.hosts)),
        ("hostname", format!("{}\n", request.config.hostname)),
        ("resolv.conf", request.etc.resolv_conf.clone()),
    ];
    for (name, text) in files {
        let path = request.etc_directory.join(name);
        // The steps of a build have the same ones, and to write over a file costs a file system more than to read it.
        if fs_err::read(&path).is_ok_and(|known| known == text.as_bytes()) {
            continue;
        }
        atomic::write(&path, text.as_bytes(), 0o644, Durability::Cached).map_err(|source| {
            StartError::Step {
                step: format!("write `{}`", path.display()),
                source,
            }
        })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_end_with_the_containers_own() {
        let entries = [("10.1.0.2".parse().unwrap(), "web web-1".to_owned())];
        assert_eq!(
            render_hosts(&entries).strip_prefix(HOSTS),
            Some("10.1.0.2\tweb web-1\n")
        );
    }
}
