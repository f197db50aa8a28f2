//! A container's configuration as an OCI runtime configuration (OCI runtime-spec 1.2, config.md and config-linux.md), from
//! the same decisions that our own init is given.

use std::collections::BTreeMap;
use std::str::FromStr;

use oci_spec::OciSpecError;
use oci_spec::runtime::{
    Arch, Capabilities, Capability, LinuxBuilder, LinuxCapabilities, LinuxCapabilitiesBuilder,
    LinuxCpuBuilder, LinuxIdMapping, LinuxIdMappingBuilder, LinuxMemoryBuilder, LinuxNamespace,
    LinuxNamespaceBuilder, LinuxNamespaceType, LinuxPidsBuilder, LinuxResourcesBuilder,
    LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompArgBuilder, LinuxSeccompBuilder,
    LinuxSeccompOperator, LinuxSyscallBuilder, MountBuilder, PosixRlimitBuilder, PosixRlimitType,
    ProcessBuilder, RootBuilder, Spec, SpecBuilder, UserBuilder,
};
use serde_json::Value;

use crate::runtime::config::{
    ContainerConfig, FileOrigin, IdMap, MountSource, Namespace, Process, UserNamespace,
};
use crate::runtime::init::capabilities;
use crate::runtime::init::seccomp;
use crate::runtime::init::seccomp::profile::{Action, Compare, Condition, Rule};

/// Renders the OCI configuration of a generation. `root.path` is relative to the generation's directory.
///
/// Errors: what the configuration says that has no form there, such as a seccomp profile that is not understood.
pub fn render(config: &ContainerConfig, cgroup: &str) -> Result<Value, OciSpecError> {
    let mut value = serde_json::to_value(spec(config, cgroup)?)?;
    // Sets are not ordered; maps are, in a value.
    let sets = value.pointer_mut("/process/capabilities");
    for set in sets.and_then(Value::as_object_mut).into_iter().flatten() {
        if let Some(names) = set.1.as_array_mut() {
            names.sort_by(|a, b| a.as_str().cmp(&b.as_str()));
        }
    }
    Ok(value)
}

/// Renders it in oci-spec's types.
fn spec(config: &ContainerConfig, cgroup: &str) -> Result<Spec, OciSpecError> {
    let process = process(&config.process)?;
    let mut mounts = Vec::new();
    for mount in &config.mounts {
        let builder = MountBuilder::default().destination(mount.target.clone());
        let access = if mount.read_only { "ro" } else { "rw" }.to_owned();
        let builder = match &mount.source {
            MountSource::Bind { path, propagation } => builder
                .typ("bind")
                .source(path)
                .options(vec!["rbind".to_owned(), propagation.clone(), access]),
            MountSource::Volume { path, subpath, .. } => builder
                .typ("bind")
                .source(
                    subpath
                        .as_ref()
                        .map_or_else(|| path.clone(), |sub| path.join(sub)),
                )
                .options(vec!["rbind".to_owned(), access]),
            MountSource::Layers { lowers, scratch } => {
                let lowers: Vec<String> = lowers.iter().map(|l| l.display().to_string()).collect();
                let mut options = vec![format!("lowerdir={}", lowers.join(":")), access];
                if let Some((upper, work)) = scratch {
                    options.push(format!("upperdir={}", upper.display()));
                    options.push(format!("workdir={}", work.display()));
                }
                builder.typ("overlay").source("overlay").options(options)
            }
            MountSource::Tmpfs {
                size_bytes,
                mode,
                executable,
            } => {
                let mut options = vec!["nosuid".to_owned(), access];
                if !executable {
                    options.extend(["nodev".to_owned(), "noexec".to_owned()]);
                }
                options.extend(size_bytes.map(|bytes| format!("size={bytes}")));
                options.extend(mode.map(|mode| format!("mode={mode:o}")));
                builder.typ("tmpfs").source("tmpfs").options(options)
            }
        };
        mounts.push(builder.build()?);
    }
    for file in &config.files {
        // The content of the others is not shown: they are secrets.
        if let FileOrigin::HostFile(path) = &file.origin {
            let builder = MountBuilder::default()
                .destination(file.target.clone())
                .typ("bind")
                .source(path)
                .options(vec!["bind".to_owned(), "ro".to_owned()]);
            mounts.push(builder.build()?);
        }
    }
    let root = RootBuilder::default()
        .path("rootfs")
        .readonly(config.read_only)
        .build()?;
    let mut spec = SpecBuilder::default()
        .version("1.2.0")
        .hostname(config.hostname.clone())
        .root(root)
        .process(process)
        .mounts(mounts)
        .annotations(unordered(&config.labels))
        .linux(linux(config, cgroup)?)
        .build()?;
    spec.set_domainname(config.domainname.clone());
    Ok(spec)
}

/// Renders the process.
fn process(process: &Process) -> Result<oci_spec::runtime::Process, OciSpecError> {
    let limits = process.rlimits.iter().map(|limit| {
        let name = format!("RLIMIT_{}", limit.name.to_ascii_uppercase());
        PosixRlimitBuilder::default()
            .typ(PosixRlimitType::from_str(&name).map_err(|_| unknown("limit", &limit.name))?)
            .soft(limit.soft)
            .hard(limit.hard)
            .build()
    });
    let builder = ProcessBuilder::default()
        .terminal(process.tty)
        .user(user(process)?)
        .args(process.args.clone())
        .env(process.env.clone())
        .cwd(process.cwd.clone())
        .capabilities(capabilities(process)?)
        .rlimits(limits.collect::<Result<Vec<_>, _>>()?)
        .no_new_privileges(process.no_new_privileges);
    match process.oom_score_adj {
        Some(score) => builder.oom_score_adj(score).build(),
        None => builder.build(),
    }
}

/// Renders whom it runs as, where that is a number: names are looked up in the container's own files when it starts.
fn user(process: &Process) -> Result<oci_spec::runtime::User, OciSpecError> {
    let (uid, gid) = process
        .user
        .split_once(':')
        .unwrap_or((process.user.as_str(), ""));
    let groups: Vec<u32> = process
        .groups
        .iter()
        .filter_map(|group| group.parse().ok())
        .collect();
    let mut builder = UserBuilder::default()
        .uid(uid.parse::<u32>().unwrap_or(0))
        .gid(gid.parse::<u32>().unwrap_or(0));
    if !groups.is_empty() {
        builder = builder.additional_gids(groups);
    }
    builder.build()
}

/// Renders the sets: only root starts with what the bounding set allows
/// ([`DropPrivileges`](crate::runtime::init)).
fn capabilities(process: &Process) -> Result<LinuxCapabilities, OciSpecError> {
    let bounding = capabilities::names(process.capabilities)
        .map(|name| {
            let bare = name.trim_start_matches("CAP_");
            Capability::from_str(bare).map_err(|_| unknown("capability", &name))
        })
        .collect::<Result<Capabilities, _>>()?;
    let user = process.user.split(':').next().unwrap_or_default();
    let own = if matches!(user, "" | "0" | "root") {
        bounding.clone()
    } else {
        Capabilities::default()
    };
    LinuxCapabilitiesBuilder::default()
        .bounding(bounding)
        .effective(own.clone())
        .permitted(own)
        .inheritable(Capabilities::default())
        .ambient(Capabilities::default())
        .build()
}

/// Renders the system call filter.
fn filter(profile: &seccomp::Local) -> Result<LinuxSeccomp, OciSpecError> {
    let named = |name: &&str| Arch::from_str(name).map_err(|_| unknown("architecture", name));
    let architectures: Vec<Arch> = profile
        .architectures()
        .iter()
        .map(named)
        .collect::<Result<_, _>>()?;
    let rule = |rule: &Rule| {
        let (action, errno) = action(rule.action)?;
        let mut builder = LinuxSyscallBuilder::default()
            .names(rule.names.clone())
            .action(action);
        if let Some(errno) = errno {
            builder = builder.errno_ret(errno);
        }
        if !rule.conditions.is_empty() {
            let conditions = rule.conditions.iter().map(condition);
            builder = builder.args(conditions.collect::<Result<Vec<_>, _>>()?);
        }
        builder.build()
    };
    let rules = profile.profile.rules.iter().map(rule);
    let (default, errno) = action(profile.profile.default)?;
    let builder = LinuxSeccompBuilder::default()
        .default_action(default)
        .architectures(architectures)
        .syscalls(rules.collect::<Result<Vec<_>, _>>()?);
    match errno {
        Some(errno) => builder.default_errno_ret(errno).build(),
        None => builder.build(),
    }
}

/// Renders what happens to a call, with the error or message where there is one.
fn action(action: Action) -> Result<(LinuxSeccompAction, Option<u32>), OciSpecError> {
    use LinuxSeccompAction as Named;
    let data = action.0 & 0xffff;
    match action.0 & 0xffff_0000 {
        0x7fff_0000 => Ok((Named::ScmpActAllow, None)),
        0x0005_0000 => Ok((Named::ScmpActErrno, Some(data))),
        0x8000_0000 => Ok((Named::ScmpActKillProcess, None)),
        0x0000_0000 => Ok((Named::ScmpActKillThread, None)),
        0x0003_0000 => Ok((Named::ScmpActTrap, None)),
        0x7ff0_0000 => Ok((Named::ScmpActTrace, Some(data))),
        0x7ffc_0000 => Ok((Named::ScmpActLog, None)),
        _ => Err(unknown("action", &action.0.to_string())),
    }
}

/// Renders a condition.
fn condition(condition: &Condition) -> Result<LinuxSeccompArg, OciSpecError> {
    use LinuxSeccompOperator as Named;
    let of = |operator| {
        LinuxSeccompArgBuilder::default()
            .index(usize::from(condition.index))
            .op(operator)
    };
    let plain = |operator| of(operator).value(condition.value).build();
    match condition.compare {
        Compare::Equal => plain(Named::ScmpCmpEq),
        Compare::NotEqual => plain(Named::ScmpCmpNe),
        Compare::Less => plain(Named::ScmpCmpLt),
        Compare::LessOrEqual => plain(Named::ScmpCmpLe),
        Compare::Greater => plain(Named::ScmpCmpGt),
        Compare::GreaterOrEqual => plain(Named::ScmpCmpGe),
        // There `value` is the mask and `valueTwo` what is compared with.
        Compare::Masked(mask) => of(Named::ScmpCmpMaskedEq)
            .value(mask)
            .value_two(condition.value)
            .build(),
    }
}

/// Names what has no form there.
fn unknown(kind: &str, name: &str) -> OciSpecError {
    OciSpecError::Other(format!("{kind} `{name}` is not known"))
}

/// Renders the part that is Linux's.
fn linux(config: &ContainerConfig, cgroup: &str) -> Result<oci_spec::runtime::Linux, OciSpecError> {
    let mut resources = LinuxResourcesBuilder::default();
    if let Some(bytes) = config.resources.memory_bytes {
        let limit = i64::try_from(bytes).unwrap_or(i64::MAX);
        resources = resources.memory(LinuxMemoryBuilder::default().limit(limit).build()?);
    }
    if let Some(milli) = config.resources.cpu_milli {
        let quota = i64::try_from(milli.saturating_mul(100)).unwrap_or(i64::MAX);
        let cpu = LinuxCpuBuilder::default().period(100_000_u64).quota(quota);
        resources = resources.cpu(cpu.build()?);
    }
    if let Some(pids) = config.resources.pids {
        let limit = i64::try_from(pids).unwrap_or(i64::MAX);
        resources = resources.pids(LinuxPidsBuilder::default().limit(limit).build()?);
    }
    let builder = LinuxBuilder::default()
        .cgroups_path(cgroup)
        .resources(resources.build()?)
        .namespaces(namespaces(config)?)
        .sysctl(unordered(&config.sysctls));
    let builder = match seccomp::profile_of(&config.process).map_err(OciSpecError::Other)? {
        Some(profile) => builder.seccomp(filter(&profile)?),
        None => builder,
    };
    match &config.namespaces.user {
        UserNamespace::Host => builder.build(),
        UserNamespace::Mapped { uids, gids } => builder
            .uid_mappings(id_mappings(uids)?)
            .gid_mappings(id_mappings(gids)?)
            .build(),
    }
}

/// Lists the namespaces that are not the host's. One shared with another container has no path while nothing runs; an
/// annotation-free `config.json` lists it as its own.
fn namespaces(config: &ContainerConfig) -> Result<Vec<LinuxNamespace>, OciSpecError> {
    let wanted: BTreeMap<&str, (&Namespace, LinuxNamespaceType)> = BTreeMap::from([
        (
            "network",
            (&config.namespaces.network, LinuxNamespaceType::Network),
        ),
        ("pid", (&config.namespaces.pid, LinuxNamespaceType::Pid)),
        ("ipc", (&config.namespaces.ipc, LinuxNamespaceType::Ipc)),
        ("uts", (&config.namespaces.uts, LinuxNamespaceType::Uts)),
        (
            "cgroup",
            (&config.namespaces.cgroup, LinuxNamespaceType::Cgroup),
        ),
    ]);
    let mut kinds = vec![LinuxNamespaceType::Mount];
    for (namespace, kind) in wanted.into_values() {
        if !matches!(namespace, Namespace::Host) {
            kinds.push(kind);
        }
    }
    if matches!(config.namespaces.user, UserNamespace::Mapped { .. }) {
        kinds.push(LinuxNamespaceType::User);
    }
    let build = |kind| LinuxNamespaceBuilder::default().typ(kind).build();
    kinds.into_iter().map(build).collect()
}

/// Renders one id map.
fn id_mappings(maps: &[IdMap]) -> Result<Vec<LinuxIdMapping>, OciSpecError> {
    let build = |map: &IdMap| {
        LinuxIdMappingBuilder::default()
            .container_id(map.inside)
            .host_id(map.outside)
            .size(map.count)
            .build()
    };
    maps.iter().map(build).collect()
}

/// Copies a map into the type that oci-spec has.
#[expect(
    clippy::disallowed_types,
    reason = "oci-spec's field; its order is mended when the value is written"
)]
fn unordered(map: &BTreeMap<String, String>) -> std::collections::HashMap<String, String> {
    map.clone().into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::config::{Rlimit, Seccomp};
    use crate::runtime::testing::Sandbox;

    /// Renders a container's configuration as `change` makes it.
    fn rendered(change: impl FnOnce(&mut ContainerConfig)) -> Value {
        let mut config = Sandbox::new("true").config.clone();
        change(&mut config);
        render(&config, "/stack-0/id").unwrap()
    }

    #[test]
    fn root_has_what_the_bounding_set_allows_and_others_start_with_nothing() {
        let bounding = serde_json::json!(["CAP_CHOWN", "CAP_NET_RAW"]);
        for (user, own) in [
            ("", bounding.clone()),
            ("root:5", bounding.clone()),
            ("1000:1000", serde_json::json!([])),
            ("web", serde_json::json!([])),
        ] {
            let value = rendered(|config| {
                config.process.capabilities = 1 | 1 << 13;
                user.clone_into(&mut config.process.user);
            });
            let expected = serde_json::json!({
                "bounding": bounding, "effective": own, "permitted": own, "inheritable": [], "ambient": [],
            });
            assert_eq!(value["process"]["capabilities"], expected, "{user}");
        }
        let value = rendered(|config| "1000:7".clone_into(&mut config.process.user));
        let user = &value["process"]["user"];
        assert_eq!((&user["uid"], &user["gid"]), (&1000.into(), &7.into()));
    }

    #[test]
    fn limits_are_as_runc_spec_writes_them() {
        let value = rendered(|config| {
            config.process.rlimits = vec![Rlimit {
                name: "nofile".to_owned(),
                soft: 1024,
                hard: 4096,
                required: true,
            }];
        });
        let expected = serde_json::json!([{"type": "RLIMIT_NOFILE", "soft": 1024, "hard": 4096}]);
        assert_eq!(value["process"]["rlimits"], expected);
    }

    #[test]
    fn the_filter_is_the_one_that_the_init_installs() {
        // What is read back from the file compiles to the same program.
        for capabilities in [capabilities::DEFAULT, capabilities::ALL] {
            let mut process = Sandbox::new("true").config.process.clone();
            process.capabilities = capabilities;
            process.seccomp = Seccomp::Default;
            let own = seccomp::compile(&process).unwrap();
            let value = rendered(|config| config.process = process.clone());
            let filter = &value["linux"]["seccomp"];
            assert_eq!(filter["defaultAction"], "SCMP_ACT_ERRNO");
            process.seccomp = Seccomp::Profile(filter.to_string());
            assert_eq!(seccomp::compile(&process).unwrap(), own);
        }
        let value = rendered(|config| config.process.seccomp = Seccomp::Unconfined);
        assert!(value["linux"].get("seccomp").is_none());
    }
}
