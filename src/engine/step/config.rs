//! The container that a step runs as.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use crate::engine::lower::process::DEFAULT_PATH;
use crate::images::build::{RunStep, StepNetwork, StepSource};
use crate::runtime::cgroup::DeviceAccess;
use crate::runtime::config::{
    ContainerConfig, FileOrigin, ImageUse, InjectedFile, LogConfig, Mount, MountSource, Namespace,
    Namespaces, Process, Resources, RestartPolicy, Rlimit, Seccomp, UserNamespace,
};
use crate::runtime::init::capabilities;
use crate::sys::bpf;

/// Processes and threads of a step for each processor of the machine, and at least: what no honest build comes near, and far from what
/// takes the machine with it.
const PIDS_EACH: u64 = 512;
const PIDS_AT_LEAST: u64 = 4096;

/// Returns the limits of a step's control group.
pub(super) fn limits(step: &RunStep) -> Resources {
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
    let processors = u64::try_from(processors).unwrap_or(1);
    Resources {
        memory_bytes: step.requirements.memory_bytes,
        pids: Some(PIDS_AT_LEAST.max(PIDS_EACH * processors)),
        ..Resources::default()
    }
}

/// Returns the devices that a step's processes may open.
pub(super) fn devices(step: &RunStep) -> DeviceAccess {
    if step.insecure {
        return DeviceAccess::All;
    }
    if step.devices.is_empty() {
        return DeviceAccess::Default;
    }
    let letters = [('r', bpf::READ), ('w', bpf::WRITE), ('m', bpf::MAKE)];
    let rules = step.devices.iter().map(|device| bpf::DeviceRule {
        kind: if device.is_block {
            bpf::DeviceKind::Block
        } else {
            bpf::DeviceKind::Character
        },
        major: Some(device.major),
        minor: Some(device.minor),
        access: letters
            .iter()
            .filter(|(letter, _)| device.permissions.contains(*letter))
            .fold(0, |access, (_, bit)| access | bit),
    });
    DeviceAccess::And(rules.collect())
}

/// Returns the container that a step runs as: Docker's defaults and what the step asks for. `agents` are the sockets of its agents, in
/// order; `etc` is where its `hosts` and `resolv.conf` will be.
pub(super) fn configuration(step: &RunStep, agents: &[&Path], etc: &Path) -> ContainerConfig {
    let (mounts, files) = mounts(step, agents, etc);
    let limits = step.requirements.limits.iter();
    let mut env = step.env.clone();
    if !env.iter().any(|line| line.starts_with("PATH=")) {
        env.push(format!("PATH={DEFAULT_PATH}"));
    }
    ContainerConfig {
        name: "build-step".to_owned(),
        labels: BTreeMap::new(),
        annotations: serde_json::Value::Null,
        image: ImageUse {
            reference: String::new(),
            id: String::new(),
            layers: step.layers.clone(),
        },
        process: Process {
            args: step.args.clone(),
            env,
            cwd: step.cwd.clone(),
            user: step.user.clone(),
            groups: Vec::new(),
            tty: false,
            stdin_open: false,
            init: false,
            no_new_privileges: false,
            capabilities: if step.insecure {
                capabilities::ALL
            } else {
                capabilities::DEFAULT
            },
            rlimits: limits
                .map(|limit| Rlimit {
                    name: limit.name.clone(),
                    soft: limit.soft,
                    hard: limit.hard,
                    required: true,
                })
                .collect(),
            oom_score_adj: None,
            seccomp: if step.insecure {
                Seccomp::Unconfined
            } else {
                Seccomp::Default
            },
        },
        namespaces: Namespaces {
            network: match step.network {
                StepNetwork::Host => Namespace::Host,
                _ => Namespace::Own,
            },
            pid: Namespace::Own,
            ipc: Namespace::Own,
            uts: Namespace::Own,
            cgroup: Namespace::Own,
            user: UserNamespace::Host,
        },
        hostname: step.hostname.clone(),
        domainname: None,
        mounts,
        files,
        read_only: false,
        privileged: step.insecure,
        shm_bytes: step.requirements.shm_bytes.unwrap_or(64 << 20),
        sysctls: BTreeMap::new(),
        resources: Resources::default(),
        restart: RestartPolicy::No,
        health: None,
        stop_signal: 15,
        stop_timeout: Duration::ZERO,
        log: LogConfig {
            max_size_bytes: 0,
            max_files: 0,
        },
    }
}

/// Returns the mounts and files of a step.
fn mounts(step: &RunStep, agents: &[&Path], etc: &Path) -> (Vec<Mount>, Vec<InjectedFile>) {
    let (mut mounts, mut files) = (Vec::new(), Vec::new());
    let bind = |target: &str, path: &Path, read_only| Mount {
        target: target.to_owned(),
        source: MountSource::Bind {
            path: path.to_owned(),
            propagation: "rprivate".to_owned(),
        },
        read_only,
    };
    // What a step would write there would be lost.
    for name in ["hosts", "resolv.conf"] {
        mounts.push(bind(&format!("/etc/{name}"), &etc.join(name), true));
    }
    let mut agents = agents.iter();
    for mount in &step.mounts {
        let (target, read_only) = (mount.target.as_str(), mount.read_only);
        let source = match &mount.source {
            StepSource::Host(path) => {
                mounts.push(bind(target, path, read_only));
                continue;
            }
            StepSource::Agent { .. } => {
                let path = agents.next();
                mounts.extend(path.map(|path| bind(target, path, false)));
                continue;
            }
            StepSource::File(file) => {
                files.push(InjectedFile {
                    target: target.to_owned(),
                    origin: FileOrigin::Bytes(file.content.clone()),
                    uid: file.uid,
                    gid: file.gid,
                    mode: file.mode,
                });
                continue;
            }
            StepSource::Inside { root, path, .. } => MountSource::Volume {
                path: root.clone(),
                subpath: Some(path.clone()),
                copy_up: false,
            },
            StepSource::Layers { lowers, scratch } => MountSource::Layers {
                lowers: lowers.clone(),
                scratch: scratch.clone(),
            },
            StepSource::Tmpfs(size) => MountSource::Tmpfs {
                size_bytes: *size,
                mode: None,
                // BuildKit mounts it `nosuid` alone: compilers run what they wrote there.
                executable: true,
            },
        };
        mounts.push(Mount {
            target: target.to_owned(),
            source,
            read_only,
        });
    }
    (mounts, files)
}
