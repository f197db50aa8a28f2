//! Capability sets as bit masks: bit N is capability N (`man 7 capabilities`).

/// Names in order of their numbers, without `CAP_`.
const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// Every capability that this program knows, of which a kernel or a parent may have fewer.
pub const ALL: u64 = (1 << NAMES.len()) - 1;

/// Docker's default set: `CHOWN`, `DAC_OVERRIDE`, `FSETID`, `FOWNER`, `MKNOD`, `NET_RAW`, `SETGID`, `SETUID`, `SETFCAP`,
/// `SETPCAP`, `NET_BIND_SERVICE`, `SYS_CHROOT`, `KILL` and `AUDIT_WRITE`.
pub const DEFAULT: u64 = 1
    | 1 << 1
    | 1 << 3
    | 1 << 4
    | 1 << 5
    | 1 << 6
    | 1 << 7
    | 1 << 8
    | 1 << 10
    | 1 << 13
    | 1 << 18
    | 1 << 27
    | 1 << 29
    | 1 << 31;

/// Returns the mask of the capability of that name, in any case, with or without `CAP_`; [`ALL`] for `ALL`.
pub fn by_name(name: &str) -> Option<u64> {
    let upper = name.to_ascii_uppercase();
    let bare = upper.strip_prefix("CAP_").unwrap_or(&upper);
    if bare == "ALL" {
        return Some(ALL);
    }
    let number = NAMES.iter().position(|known| *known == bare)?;
    Some(1 << number)
}

/// Returns the names of a mask's capabilities, with `CAP_`, in order of their numbers.
pub fn names(mask: u64) -> impl Iterator<Item = String> {
    let numbered = NAMES.iter().enumerate();
    numbered
        .filter(move |(number, _)| mask >> number & 1 == 1)
        .map(|(_, name)| format!("CAP_{name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_masks_are_each_other() {
        let found = |name: &str| by_name(name);
        assert_eq!(
            (
                found("CAP_CHOWN"),
                found("net_raw"),
                found("all"),
                found("nope")
            ),
            (Some(1), Some(1 << 13), Some(ALL), None)
        );
        assert_eq!(
            DEFAULT, 0xa804_25fb,
            "as `CapBnd` shows it in Docker's containers"
        );
        let round: u64 = names(DEFAULT).filter_map(|name| by_name(&name)).sum();
        assert_eq!(round, DEFAULT);
    }
}
