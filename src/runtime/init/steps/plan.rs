//! The decisions, but for file systems.

use crate::runtime::config::{ContainerConfig, ContainerId, Namespace, Process, UserNamespace};
use crate::runtime::init::steps::filesystems::{
    cgroup_filesystems, devices, etc_files, files, kernel_filesystems, mounts,
};
use crate::runtime::init::steps::{Facts, InitStep, Join, Plan};
use crate::sys::clone;

/// Hidden from containers: what the kernel tells about the host or lets root change for all (Docker's list).
const MASKED: [&str; 13] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
    "/sys/fs/selinux",
];

/// Not writable in containers (Docker's list).
const READ_ONLY: [&str; 5] = [
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
];

/// Decides how to start `config`.
///
/// Errors: a sentence on what cannot be, such as a sysctl that would change the host.
pub(crate) fn plan(config: &ContainerConfig, facts: &Facts) -> Result<Plan, String> {
    let mut plan = Plan {
        clone_flags: clone::CLONE_NEWNS,
        join: Vec::new(),
        trees: Vec::new(),
        fills: Vec::new(),
        steps: Vec::new(),
    };
    namespaces(config, facts, &mut plan);
    plan.steps
        .extend([InitStep::IsolateMounts, InitStep::AttachRoot]);
    kernel_filesystems(config, &mut plan);
    devices(config, facts, &mut plan);
    cgroup_filesystems(config, facts, &mut plan);
    for (name, value) in &config.sysctls {
        plan.steps.push(sysctl(config, name, value)?);
    }
    mounts(config, &mut plan)?;
    etc_files(config, facts, &mut plan);
    files(config, &mut plan);
    if config.namespaces.uts == Namespace::Own {
        plan.steps
            .push(InitStep::SetHostname(config.hostname.clone()));
        if let Some(name) = &config.domainname {
            plan.steps.push(InitStep::SetDomainname(name.clone()));
        }
    }
    if !config.privileged {
        let masked = MASKED.iter().map(|&path| path.to_owned());
        let masked = masked.chain(facts.masked.iter().cloned());
        plan.steps.extend(masked.map(InitStep::Mask));
        plan.steps.extend(READ_ONLY.map(InitStep::MakeReadOnly));
    }
    if config.process.tty {
        plan.steps.push(InitStep::OpenTerminal);
    }
    if config.read_only {
        plan.steps
            .push(InitStep::MakeDirectory(config.process.cwd.clone()));
        plan.steps.push(InitStep::MakeRootReadOnly);
    }
    plan.steps.extend([InitStep::Pivot, InitStep::ConnectStdio]);
    process(&config.process, true, &mut plan.steps)?;
    if config.process.init {
        plan.steps.push(InitStep::BecomeReaper);
    }
    Ok(plan)
}

/// Decides what a process that joins a container does.
pub(crate) fn plan_exec(process_config: &Process) -> Result<Vec<InitStep>, String> {
    let mut steps = vec![InitStep::JoinCgroupNamespace];
    if process_config.tty {
        steps.push(InitStep::OpenTerminal);
    }
    steps.push(InitStep::ConnectStdio);
    process(process_config, false, &mut steps)?;
    Ok(steps)
}

/// The steps that every process takes, at the end.
fn process(
    process: &Process,
    make_directory: bool,
    steps: &mut Vec<InitStep>,
) -> Result<(), String> {
    if process.args.first().is_none_or(String::is_empty) {
        return Err("the command is empty".to_owned());
    }
    if !process.cwd.starts_with('/') {
        return Err(format!(
            "the working directory `{}` is not an absolute path",
            process.cwd
        ));
    }
    steps.push(InitStep::JoinKeyring);
    for limit in &process.rlimits {
        let resource = limit_number(&limit.name)
            .ok_or_else(|| format!("limit `{}` is not known", limit.name))?;
        steps.push(InitStep::SetLimit {
            resource,
            limit: limit.clone(),
        });
    }
    steps.push(InitStep::FindUser {
        user: process.user.clone(),
        groups: process.groups.clone(),
    });
    steps.push(InitStep::EnterDirectory {
        path: process.cwd.clone(),
        make: make_directory,
    });
    steps.push(InitStep::DropPrivileges {
        capabilities: process.capabilities,
        no_new_privileges: process.no_new_privileges,
    });
    Ok(())
}

/// Tells whether the kernel has a limit of this name: `nofile`.
pub(crate) fn is_limit(name: &str) -> bool {
    limit_number(name).is_some()
}

/// The kernel's number of a limit (`man 2 setrlimit`).
fn limit_number(name: &str) -> Option<u32> {
    let names = [
        "cpu",
        "fsize",
        "data",
        "stack",
        "core",
        "rss",
        "nproc",
        "nofile",
        "memlock",
        "as",
        "locks",
        "sigpending",
        "msgqueue",
        "nice",
        "rtprio",
        "rttime",
    ];
    let number = names.iter().position(|known| *known == name)?;
    u32::try_from(number).ok()
}

/// Namespaces: which are new, which are joined.
fn namespaces(config: &ContainerConfig, facts: &Facts, plan: &mut Plan) {
    let namespaces = &config.namespaces;
    let mapped = namespaces.user != UserNamespace::Host;
    for (namespace, flag) in [
        (&namespaces.pid, clone::CLONE_NEWPID),
        (&namespaces.ipc, clone::CLONE_NEWIPC),
        (&namespaces.uts, clone::CLONE_NEWUTS),
    ] {
        match namespace {
            Namespace::Own => plan.clone_flags |= flag,
            Namespace::Host => {}
            Namespace::Container(container) => join(plan, container, flag),
        }
    }
    match (&namespaces.network, facts.netns) {
        // With a user namespace, who enters must still own the network namespace: the process between does.
        (Namespace::Own | Namespace::Container(_), true) if mapped => {}
        (Namespace::Own | Namespace::Container(_), true) => plan.steps.push(InitStep::EnterNetwork),
        (Namespace::Own, false) => {
            plan.clone_flags |= clone::CLONE_NEWNET;
            plan.steps.push(InitStep::LoopbackUp);
        }
        (Namespace::Host, _) => {}
        (Namespace::Container(container), false) => join(plan, container, clone::CLONE_NEWNET),
    }
    match &namespaces.cgroup {
        Namespace::Own => plan.steps.push(InitStep::NewCgroupNamespace),
        Namespace::Host => {}
        Namespace::Container(container) => join(plan, container, clone::CLONE_NEWCGROUP),
    }
}

/// Adds a namespace to enter; those of one container in one call.
fn join(plan: &mut Plan, container: &ContainerId, flag: i32) {
    match plan
        .join
        .iter_mut()
        .find(|join| join.container == *container)
    {
        Some(join) => join.flags |= flag,
        None => plan.join.push(Join {
            container: container.clone(),
            flags: flag,
        }),
    }
}

/// A sysctl that belongs to a namespace of the container's own.
fn sysctl(config: &ContainerConfig, name: &str, value: &str) -> Result<InitStep, String> {
    // Both spellings are in use; with slashes, dots are part of a name (`net/ipv4/conf/eth0.1/…`).
    let path = if name.contains('/') {
        name.to_owned()
    } else {
        name.replace('.', "/")
    };
    let ipc = ["kernel/msg", "kernel/sem", "kernel/shm", "fs/mqueue/"];
    let owner = if path.starts_with("net/") {
        ("network", &config.namespaces.network)
    } else if ipc.iter().any(|prefix| path.starts_with(prefix)) {
        ("ipc", &config.namespaces.ipc)
    } else {
        return Err(format!(
            "sysctl `{name}` is not one that a container has for itself"
        ));
    };
    if *owner.1 != Namespace::Own {
        return Err(format!(
            "sysctl `{name}` needs a {} namespace of the container's own",
            owner.0
        ));
    }
    let unsafe_part = |part: &str| part.is_empty() || part == "." || part == "..";
    if path.split('/').any(unsafe_part) {
        return Err(format!("sysctl `{name}` is not a valid name"));
    }
    Ok(InitStep::SetSysctl {
        path,
        value: value.to_owned(),
    })
}
