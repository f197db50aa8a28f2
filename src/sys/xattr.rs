//! Extended attributes: which of them belong to a file, and not to the machine that it lies on.

/// An access control list that files made in a directory are given.
pub const DEFAULT_ACL: &str = "system.posix_acl_default";

/// Whether an attribute goes with a file into an image, a layer or a volume: the user's own, capabilities and access control lists.
///
/// Those of overlayfs (`trusted.overlay.*`, `user.overlay.*`) would redirect lookups on the host; labels of security modules are the
/// machine's.
pub fn is_kept(name: &[u8]) -> bool {
    let user = name.starts_with(b"user.") && !name.starts_with(b"user.overlay.");
    let others = [
        &b"security.capability"[..],
        b"system.posix_acl_access",
        DEFAULT_ACL.as_bytes(),
    ];
    user || others.contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_the_files_own_is_kept() {
        let table = [
            ("user.k", true),
            ("user.overlay.opaque", false),
            ("trusted.overlay.opaque", false),
            ("security.capability", true),
            ("security.selinux", false),
            ("system.posix_acl_access", true),
            ("system.posix_acl_default", true),
            ("system.nfs4_acl", false),
            ("", false),
        ];
        for (name, expected) in table {
            assert_eq!(is_kept(name.as_bytes()), expected, "{name}");
        }
    }
}
