//! `RUN` steps: the builder's [`StepRunner`] over the runtime.
//!
//! A step is a container without a record or a monitor: this process is its parent, its network is a bridge of the
//! instance's own, and everything of it is gone when it has ended, or when the build is cut off.

use std::collections::BTreeMap;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::time::Duration;

use crate::engine::error::EngineError;
use crate::engine::linux::read_host_resolver;
use crate::engine::lower::process::DEFAULT_PATH;
use crate::engine::{Engine, chain, readable};
use crate::images::build::{RunStep, StepError, StepRunner};
use crate::net::config::{EndpointConfig, NetworkConfig, SandboxConfig};
use crate::runtime::cgroup::{Cgroup, Cgroups, DeviceAccess};
use crate::runtime::config::{
    ContainerConfig, ContainerId, EtcFiles, ImageUse, LogConfig, Namespace, Namespaces, Process,
    Resources, RestartPolicy, Seccomp, UserNamespace,
};
use crate::runtime::init::{self, RootFs, SpawnRequest, Stdio, capabilities};
use crate::sys::lock::{Lock, Mode};
use crate::sys::{netns, pidfd};

/// The network that steps run in; made when the first one runs.
pub(crate) const BUILD_NETWORK: &str = "stack_build";
/// The directory of running steps beneath the run directory: one directory each, named by its id.
const STEPS: &str = "steps";
/// Where systemd-resolved lists the servers behind its own.
const RESOLVED: &str = "/run/systemd/resolve/resolv.conf";

/// Runs steps with the engine's runtime and network.
pub(crate) struct RuntimeSteps<'a> {
    engine: &'a Engine,
    cgroups: Cgroups,
    /// Keeps other commands from cleaning up what steps use.
    _building: Lock,
    /// What steps resolve names with; `None` where only the host's own network can.
    resolv_conf: Option<String>,
}

impl<'a> RuntimeSteps<'a> {
    /// Looks at the host once for all steps.
    pub(crate) fn new(engine: &'a Engine) -> Result<Self, Box<dyn std::error::Error>> {
        let host = read_host_resolver(Path::new("/etc/resolv.conf"))?;
        let behind = read_host_resolver(Path::new(RESOLVED))?;
        let resolv_conf = [host, behind]
            .into_iter()
            .find(|text| reachable(text))
            .map(|text| without_loopback(&text));
        Ok(Self {
            engine,
            cgroups: Cgroups::detect(engine.instance.as_str())?,
            _building: engine.lock_instance(Mode::Shared)?,
            resolv_conf,
        })
    }

    /// Runs one step to its end.
    async fn execute(
        &self,
        step: &RunStep,
        output: &mut dyn FnMut(&[u8]),
    ) -> Result<i32, Box<dyn std::error::Error + Send + Sync>> {
        let id = crate::runtime::random_id()?;
        let mut scene = Scene {
            engine: self.engine,
            id: id.clone(),
            cgroup: None,
            directory: None,
            attached: false,
        };
        let directory = self.engine.roots.run.join(STEPS).join(id.as_str());
        fs_err::create_dir_all(&directory)?;
        scene.directory = Some(directory.clone());
        let group =
            self.cgroups
                .create(id.as_str(), &Resources::default(), DeviceAccess::Default)?;
        let group = scene.cgroup.insert(group);
        let netns = match &self.resolv_conf {
            Some(_) => Some(self.attach(&id).await.map_err(|error| chain(&error))?),
            None => None,
        };
        scene.attached = netns.is_some();
        let config = configuration(
            step,
            if netns.is_some() {
                Namespace::Own
            } else {
                Namespace::Host
            },
        );
        let host =
            read_host_resolver(Path::new("/etc/resolv.conf")).map_err(|error| error.to_string())?;
        let etc = EtcFiles {
            hosts: Vec::new(),
            resolv_conf: self.resolv_conf.clone().unwrap_or(host),
        };
        let (read_end, write_end) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
        let spawned = init::spawn(&SpawnRequest {
            config: &config,
            root: RootFs {
                lowers: step.layers.clone(),
                upper: step.upper.clone(),
                work: step.work.clone(),
            },
            etc: &etc,
            etc_directory: &directory,
            netns: netns.as_ref().map(AsFd::as_fd),
            joined: &[],
            stdio: Stdio::Pipes {
                out: write_end.as_fd(),
                err: write_end.as_fd(),
                input: None,
            },
            cgroup: group,
        });
        drop(write_end);
        match spawned {
            Ok(spawned) => {
                relay(read_end, &spawned.pidfd, output).await?;
                let code = pidfd::wait(spawned.pidfd.as_fd())?.code();
                // What the command left running would go on writing into the layer.
                group.kill_all()?;
                Ok(code)
            }
            // As a shell would say it: the step has failed, not the builder.
            Err(error) if matches!(error.exit_code(), 126 | 127) => {
                output(format!("{error}\n").as_bytes());
                Ok(error.exit_code())
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Gives the step a network namespace on the instance's build network.
    async fn attach(&self, id: &ContainerId) -> Result<OwnedFd, EngineError> {
        let net = &self.engine.net;
        net.ensure_network(&NetworkConfig {
            name: BUILD_NETWORK.to_owned(),
            labels: BTreeMap::new(),
            internal: false,
            subnets: Vec::new(),
        })
        .await?;
        net.repair()?;
        let sandbox = SandboxConfig {
            id: id.to_string(),
            endpoints: vec![EndpointConfig {
                network: BUILD_NETWORK.to_owned(),
                names: Vec::new(),
                address: None,
            }],
            ports: Vec::new(),
        };
        let leases = net.allocate(std::slice::from_ref(&sandbox))?;
        let made = |source| EngineError::System {
            attempted: "make a network namespace".to_owned(),
            source,
        };
        let netns = netns::create().map_err(made)?;
        if let Some(leases) = leases.first() {
            let attachment = net.attach(netns.as_fd(), &sandbox, leases).await?;
            net.publish(&sandbox, &attachment, &[])?;
        }
        Ok(netns)
    }
}

impl StepRunner for RuntimeSteps<'_> {
    fn run<'a>(
        &'a self,
        step: &'a RunStep,
        output: &'a mut dyn FnMut(&[u8]),
    ) -> Pin<Box<dyn Future<Output = Result<i32, StepError>> + 'a>> {
        Box::pin(async move {
            self.execute(step, output)
                .await
                .map_err(|source| StepError {
                    message: format!("run `{}`", step.args.join(" ")),
                    source: Some(source),
                })
        })
    }
}

/// Copies what the step writes until its main process has ended and the pipe is empty.
async fn relay(
    pipe: OwnedFd,
    process: &OwnedFd,
    output: &mut dyn FnMut(&[u8]),
) -> std::io::Result<()> {
    rustix::io::ioctl_fionbio(&pipe, true)?;
    let mut pipe = std::io::BufReader::with_capacity(
        1 << 16,
        fs_err::File::from_parts(pipe.into(), PathBuf::from("pipe")),
    );
    let mut buffer = vec![0; 1 << 15];
    loop {
        match pipe.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => output(buffer.get(..count).unwrap_or_default()),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                // A daemon that the command left behind may hold the pipe open for ever: the command's own end counts.
                tokio::select! {
                    ended = readable(process) => {
                        ended?;
                        while let Ok(count @ 1..) = pipe.read(&mut buffer) {
                            output(buffer.get(..count).unwrap_or_default());
                        }
                        break;
                    }
                    more = readable(pipe.get_ref().file()) => more?,
                }
            }
            Err(error) => return Err(error),
        }
    }
    readable(process).await
}

/// What exists only while a step runs; dropped, it is taken apart, also when the build is cut off.
struct Scene<'a> {
    engine: &'a Engine,
    id: ContainerId,
    cgroup: Option<Cgroup>,
    directory: Option<PathBuf>,
    attached: bool,
}

impl Drop for Scene<'_> {
    fn drop(&mut self) {
        // Nobody is left to tell: what stays is found and removed by the next command that tears down.
        if let Some(cgroup) = &self.cgroup {
            let _killed = cgroup.kill_all();
            let _removed = cgroup.remove();
        }
        if self.attached {
            let _released = self.engine.net.release(&[self.id.as_str()]);
            let _forgotten = self.engine.net.forget(&[self.id.as_str()]);
        }
        if let Some(directory) = &self.directory {
            let _removed = fs_err::remove_dir_all(directory);
        }
    }
}

/// Takes apart the steps of builds that were killed; returns what could not be. No build may be running.
pub(crate) fn sweep(engine: &Engine) -> Vec<String> {
    let top = engine.roots.run.join(STEPS);
    let entries = match fs_err::read_dir(&top) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Vec::new(),
        Err(error) => return vec![error.to_string()],
    };
    let mut messages = Vec::new();
    for entry in entries.flatten() {
        let name = entry.file_name();
        let id = name.to_string_lossy();
        let cgroups = Cgroups::detect(engine.instance.as_str());
        let ended = cgroups.and_then(|cgroups| {
            let group = cgroups.existing(&id);
            group.kill_all()?;
            group.remove()
        });
        messages.extend(ended.err().map(|error| chain(&error)));
        let released = engine.net.release(&[&*id]).err().unwrap_or_default();
        messages.extend(released.iter().map(|error| chain(error)));
        messages.extend(engine.net.forget(&[&*id]).err().map(|error| chain(&error)));
        // Last: while anything is left of a step, its directory says so.
        if messages.is_empty() {
            let removed = fs_err::remove_dir_all(entry.path()).err();
            messages.extend(removed.map(|error| error.to_string()));
        }
    }
    messages
}

/// Returns the container that a step runs as: Docker's defaults, nothing mounted, nothing limited.
fn configuration(step: &RunStep, network: Namespace) -> ContainerConfig {
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
            capabilities: capabilities::DEFAULT,
            rlimits: Vec::new(),
            oom_score_adj: None,
            seccomp: Seccomp::Default,
        },
        namespaces: Namespaces {
            network,
            pid: Namespace::Own,
            ipc: Namespace::Own,
            uts: Namespace::Own,
            cgroup: Namespace::Own,
            user: UserNamespace::Host,
        },
        hostname: "build".to_owned(),
        domainname: None,
        mounts: Vec::new(),
        files: Vec::new(),
        read_only: false,
        privileged: false,
        shm_bytes: 64 << 20,
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

/// Whether a resolver configuration names a server that a container can reach.
fn reachable(text: &str) -> bool {
    without_loopback(text)
        .lines()
        .any(|line| line.starts_with("nameserver"))
}

/// Returns the configuration without servers on the host's loopback, which a container does not share.
fn without_loopback(text: &str) -> String {
    let loopback = |line: &str| {
        let mut words = line.split_whitespace();
        words.next() == Some("nameserver")
            && words
                .next()
                .and_then(|server| server.parse::<std::net::IpAddr>().ok())
                .is_some_and(|ip| ip.is_loopback())
    };
    text.lines()
        .filter(|line| !loopback(line))
        .map(|line| format!("{line}\n"))
        .collect()
}
