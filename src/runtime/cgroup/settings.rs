//! From limits to writes. Pure.

use crate::runtime::cgroup::{CgroupError, Version};
use crate::runtime::config::Resources;

/// One write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Setting {
    /// The controller whose hierarchy has the file.
    pub(crate) controller: &'static str,
    /// The file.
    pub(crate) file: &'static str,
    /// What is written.
    pub(crate) value: String,
    /// Whether the file may be missing: swap accounting is an option of the kernel's.
    pub(crate) optional: bool,
}

/// Turns limits into writes, for a host that has each controller in the version that `owner` says.
///
/// Errors: a limit whose controller nobody has.
pub(crate) fn settings(
    resources: &Resources,
    owner: impl Fn(&str) -> Option<Version>,
) -> Result<Vec<Setting>, CgroupError> {
    let find = |limit, controller| {
        owner(controller).ok_or(CgroupError::NoController { limit, controller })
    };
    let mut settings = Vec::new();
    let mut add = |controller, file, value: String, optional| {
        settings.push(Setting {
            controller,
            file,
            value,
            optional,
        });
    };
    if let Some(bytes) = resources.memory_bytes {
        match find("memory", "memory")? {
            // As much swap as memory, as Docker: the total is twice the limit.
            Version::V2 => {
                add("memory", "memory.max", bytes.to_string(), false);
                add("memory", "memory.swap.max", bytes.to_string(), true);
            }
            Version::V1 => {
                let total = bytes.saturating_mul(2).to_string();
                add("memory", "memory.limit_in_bytes", bytes.to_string(), false);
                add("memory", "memory.memsw.limit_in_bytes", total, true);
            }
        }
    }
    if let Some(milli) = resources.cpu_milli {
        let (quota, period) = cpu_quota(milli);
        match find("cpus", "cpu")? {
            Version::V2 => add("cpu", "cpu.max", format!("{quota} {period}"), false),
            Version::V1 => {
                add("cpu", "cpu.cfs_period_us", period.to_string(), false);
                add("cpu", "cpu.cfs_quota_us", quota.to_string(), false);
            }
        }
    }
    if let Some(count) = resources.pids {
        find("pids", "pids")?;
        add("pids", "pids.max", count.to_string(), false);
    }
    Ok(settings)
}

/// Returns quota and period in microseconds; the kernel takes no quota below 1000.
fn cpu_quota(milli: u64) -> (u64, u64) {
    match milli {
        0..10 => (milli.max(1) * 1000, 1_000_000),
        _ => (milli.saturating_mul(100), 100_000),
    }
}
