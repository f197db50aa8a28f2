//! What surrounds a step while it runs.

use std::collections::BTreeMap;
use std::io::{Read, Write as _};
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use super::agent::{self, Agent};
use super::warden::Warden;
use super::{BUILD_NETWORK, NETWORKS, STEP_NETWORK, config};
use crate::engine::host::HostResult;
use crate::engine::{Engine, chain, readable};
use crate::images::build::{Heard, RunStep, StepDevice, StepNetwork, StepSource};
use crate::net::config::{EndpointConfig, NetworkConfig, SandboxConfig};
use crate::net::record::{Attachment, NetworkRecord};
use crate::net::sidecar::{self, SidecarConfig};
use crate::runtime::cgroup::Cgroup;
use crate::runtime::config::{ContainerId, EtcFiles};
use crate::runtime::init::{self, RootFs, SpawnRequest, Stdio};
use crate::spec::diagnostic::nearest;
use crate::sys::clone::{self, Forked};
use crate::sys::lock::Lock;
use crate::sys::{netns, pidfd, process};

/// What a scene was made for: another step of the same kind can have it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Kind {
    pub(super) network: StepNetwork,
    pub(super) insecure: bool,
    pub(super) devices: Vec<StepDevice>,
    pub(super) memory_bytes: Option<u64>,
}

impl Kind {
    /// Returns what a step needs.
    pub(super) fn of(step: &RunStep) -> Self {
        Self {
            network: step.network.clone(),
            insecure: step.insecure,
            devices: step.devices.clone(),
            memory_bytes: step.requirements.memory_bytes,
        }
    }
}

/// What exists only while a build runs; dropped, it is taken apart, also when the build is cut off.
pub(super) struct Scene<'a> {
    pub(super) engine: &'a Engine,
    pub(super) kind: Kind,
    pub(super) id: ContainerId,
    /// Of its own beneath the run directory.
    pub(super) directory: PathBuf,
    pub(super) cgroup: Option<Cgroup>,
    pub(super) netns: Option<OwnedFd>,
    /// The name server, where it has one.
    pub(super) names: Option<OwnedFd>,
    /// Says that this build lives.
    pub(super) owner: Option<Lock>,
    /// The machine as its network reaches it.
    pub(super) gateway: Option<IpAddr>,
}

impl Scene<'_> {
    /// Makes a network namespace on the network of its kind, with a name server of its own if `serves_names`.
    pub(super) async fn attach(&mut self, serves_names: bool) -> HostResult<()> {
        let net = &self.engine.net;
        let (attachment, serves_names) = match &self.kind.network {
            StepNetwork::None => return Ok(()),
            StepNetwork::Host => {
                self.gateway = Some(Ipv4Addr::LOCALHOST.into());
                return Ok(());
            }
            StepNetwork::Named(name) => {
                let networks = net.networks()?;
                let known = networks.iter().find(|n| n.config.name == *name);
                let known = known
                    .ok_or_else(|| unknown_network(name, &networks))?
                    .clone();
                (self.attach_to(known.config).await?, true)
            }
            StepNetwork::Own => {
                let netns = self.netns.insert(netns::create()?);
                let own = network(STEP_NETWORK);
                let alone = net.attach_alone(&own, self.id.as_str(), netns.as_fd());
                let attachment = match alone.await? {
                    Some(attachment) => attachment,
                    None => self.attach_to(network(BUILD_NETWORK)).await?,
                };
                (attachment, serves_names)
            }
        };
        let mut gateways = attachment.endpoints.iter().flat_map(|e| &e.gateways);
        self.gateway = gateways.next().copied();
        if serves_names && let Some(netns) = &self.netns {
            let config = net.sidecar(&attachment, &[], &[]);
            self.names = Some(serve_names(&config, netns.as_fd())?);
        }
        Ok(())
    }

    /// Makes a link to a bridge in its network namespace, which is made if it has none.
    async fn attach_to(&mut self, network: NetworkConfig) -> HostResult<Attachment> {
        let net = &self.engine.net;
        net.ensure_network(&network).await?;
        net.repair()?;
        let sandbox = SandboxConfig {
            id: self.id.to_string(),
            endpoints: vec![EndpointConfig {
                network: network.name,
                names: Vec::new(),
                address: None,
            }],
            ports: Vec::new(),
        };
        let leases = net.allocate(std::slice::from_ref(&sandbox))?;
        let leases = leases.first().ok_or("no addresses were leased")?;
        let netns = match self.netns.take() {
            Some(netns) => netns,
            None => netns::create()?,
        };
        let netns = self.netns.insert(netns);
        // It has neither names nor ports, so that nothing needs to be published.
        Ok(net.attach(netns.as_fd(), &sandbox, leases).await?)
    }

    /// Makes the sockets of the agents that a step is given.
    fn agents(&self, step: &RunStep) -> std::io::Result<Vec<Agent>> {
        let mut agents = Vec::new();
        for mount in &step.mounts {
            if let StepSource::Agent {
                socket,
                uid,
                gid,
                mode,
            } = &mount.source
            {
                let name = format!("agent.{}", agents.len());
                let access = (*uid, *gid, *mode);
                agents.push(Agent::new(&self.directory, &name, socket, access)?);
            }
        }
        Ok(agents)
    }

    /// Runs one step to its end, and with it everything that it started.
    pub(super) async fn run(
        &self,
        step: &RunStep,
        resolv_conf: String,
        warden: &Warden,
        hear: &mut dyn FnMut(Heard<'_>),
    ) -> Result<i32, Box<dyn std::error::Error + Send + Sync>> {
        let cgroup = self.cgroup.as_ref().ok_or("the step has no cgroup")?;
        let etc = EtcFiles {
            hosts: hosts(step, self.gateway),
            resolv_conf,
        };
        let agents = self.agents(step)?;
        let sockets: Vec<&Path> = agents.iter().map(|agent| agent.path.as_path()).collect();
        let (read_end, write_end) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
        let spawned = init::spawn(&SpawnRequest {
            config: &config::configuration(step, &sockets, &self.directory),
            secret_env: &step.secret_env,
            root: RootFs {
                lowers: step.layers.clone(),
                upper: step.upper.clone(),
                work: step.work.clone(),
                // The store syncs a layer when the image is whole, and throws away half ones.
                is_volatile: true,
            },
            etc: &etc,
            etc_directory: &self.directory,
            // What a step writes there is of the image, as with BuildKit.
            hostname_file: false,
            netns: self.netns.as_ref().map(AsFd::as_fd),
            outer_pids: Some(warden.pidfd()),
            joined: &[],
            stdio: Stdio::Pipes {
                out: write_end.as_fd(),
                err: write_end.as_fd(),
                input: None,
            },
            cgroup,
        });
        drop(write_end);
        match spawned {
            Ok(spawned) => {
                let command = Child::new(spawned.pidfd);
                hear(Heard::Mounted);
                let mut output = |piece: &[u8]| hear(Heard::Output(piece));
                let relay = Relay::new(read_end, &mut output)?;
                tokio::select! {
                    relayed = relay.run(&command.pidfd) => relayed?,
                    failed = agent::serve(&agents) => match failed? {},
                }
                // What the command left running ended before it, with the process namespace (`man 7 pid_namespaces`).
                Ok(command.wait()?.code())
            }
            // As a shell would say it: the step has failed, not the builder.
            Err(error) if matches!(error.exit_code(), 126 | 127) => {
                hear(Heard::Output(super::not_executed(&error).as_bytes()));
                Ok(error.exit_code())
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// The first process of a step; one that is cut off is ended and reaped, since no namespace around it ends before.
struct Child {
    pidfd: OwnedFd,
    is_reaped: bool,
}

impl Child {
    fn new(pidfd: OwnedFd) -> Self {
        Self {
            pidfd,
            is_reaped: false,
        }
    }

    /// Waits for its end.
    fn wait(mut self) -> std::io::Result<pidfd::Exit> {
        let exit = pidfd::wait(self.pidfd.as_fd())?;
        self.is_reaped = true;
        Ok(exit)
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if !self.is_reaped {
            let _killed = pidfd::signal(self.pidfd.as_fd(), libc::SIGKILL);
            let _reaped = pidfd::wait(self.pidfd.as_fd());
        }
    }
}

/// Says that there is no network of that name, and which one may be meant.
fn unknown_network(name: &str, networks: &[NetworkRecord]) -> String {
    let known = networks.iter().map(|network| network.config.name.as_str());
    let known: Vec<&str> = known.filter(|known| !NETWORKS.contains(known)).collect();
    // Of a project's network people know the short name.
    let of_project = known.iter().find(|known| {
        known
            .split_once('_')
            .is_some_and(|(_, short)| short == name)
    });
    let near = of_project
        .copied()
        .or_else(|| nearest(name, known.iter().copied()));
    let hint = match (near, known.as_slice()) {
        (Some(near), _) => format!("did you mean `{near}`?"),
        (None, []) => "there are none: those of a project come with `stack up`".to_owned(),
        (None, known) => format!("there are {}", known.join(", ")),
    };
    format!("network {name} not found: {hint}")
}

/// Returns a network of steps.
fn network(name: &str) -> NetworkConfig {
    NetworkConfig {
        name: name.to_owned(),
        labels: BTreeMap::new(),
        internal: false,
        subnets: Vec::new(),
    }
}

/// Returns the lines of `/etc/hosts` beyond the usual ones.
fn hosts(step: &RunStep, gateway: Option<IpAddr>) -> Vec<(IpAddr, String)> {
    let own = (Ipv4Addr::LOCALHOST.into(), step.hostname.clone());
    // A step without a network has no way to the machine, by whatever name.
    let asked = step
        .requirements
        .hosts
        .iter()
        .filter_map(|(address, name)| Some((address.or(gateway)?, name.clone())));
    std::iter::once(own).chain(asked).collect()
}

/// Starts the child that answers names in `netns`; returns when it does, or has ended.
fn serve_names(config: &SidecarConfig, netns: BorrowedFd<'_>) -> HostResult<OwnedFd> {
    let (ours, theirs) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    let parent = rustix::process::getpid().as_raw_nonzero().get();
    match clone::fork()? {
        Forked::Child(_alone) => {
            drop(ours);
            process::unblock_signals();
            let error = sidecar::serve(config, netns, Vec::new(), parent, move || drop(theirs));
            let _nobody = writeln!(std::io::stderr(), "stack build: {}", chain(&error));
            process::exit_now(1)
        }
        Forked::Parent(pid) => {
            let child = pidfd::open(pid)?;
            drop(theirs);
            let mut byte = [0];
            while let Err(rustix::io::Errno::INTR) = rustix::io::read(&ours, &mut byte) {}
            Ok(child)
        }
    }
}

impl Drop for Scene<'_> {
    fn drop(&mut self) {
        // Nobody is left to tell: what stays is found and removed by the next command that tears down.
        let mut is_gone = true;
        if let Some(cgroup) = &self.cgroup {
            is_gone &= cgroup.kill_all().and_then(|()| cgroup.remove()).is_ok();
        }
        if let Some(names) = &self.names {
            let _killed = pidfd::signal(names.as_fd(), libc::SIGKILL);
            let _reaped = pidfd::wait(names.as_fd());
        }
        if let Some(netns) = self.netns.take() {
            self.engine.net.keep(netns);
        }
        // Its addresses are leased before it has a namespace.
        is_gone &= self.engine.net.forget(&[self.id.as_str()]).is_ok();
        // By its directory the rest is found.
        if is_gone {
            let _removed = fs_err::remove_dir_all(&self.directory);
        }
    }
}

/// Copies what a step writes. Dropped, it copies what is written by then.
struct Relay<'a> {
    pipe: std::io::BufReader<fs_err::File>,
    buffer: Vec<u8>,
    output: &'a mut dyn FnMut(&[u8]),
}

/// How many times a full buffer is read of a step that is cut off: as much as a pipe holds, and no more of one that writes without end.
const LAST_READS: usize = 4;

impl<'a> Relay<'a> {
    fn new(pipe: OwnedFd, output: &'a mut dyn FnMut(&[u8])) -> std::io::Result<Self> {
        rustix::io::ioctl_fionbio(&pipe, true)?;
        let pipe = fs_err::File::from_parts(pipe.into(), PathBuf::from("pipe"));
        Ok(Self {
            pipe: std::io::BufReader::with_capacity(1 << 16, pipe),
            buffer: vec![0; 1 << 15],
            output,
        })
    }

    /// Copies what there is; returns the number of bytes.
    fn once(&mut self) -> std::io::Result<usize> {
        let count = self.pipe.read(&mut self.buffer)?;
        if count > 0 {
            (self.output)(self.buffer.get(..count).unwrap_or_default());
        }
        Ok(count)
    }

    /// Copies until the step's main process has ended and the pipe is empty.
    async fn run(mut self, process: &OwnedFd) -> std::io::Result<()> {
        loop {
            match self.once() {
                Ok(0) => break,
                // A command that writes without a pause (`yes`) must keep neither interrupts nor other stages from their turn.
                Ok(_) => tokio::task::yield_now().await,
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    // A daemon that the command left behind may hold the pipe open for ever: the command's own end counts.
                    tokio::select! {
                        ended = readable(process) => {
                            ended?;
                            while let Ok(1..) = self.once() {}
                            break;
                        }
                        more = readable(self.pipe.get_ref().file()) => more?,
                    }
                }
                Err(error) => return Err(error),
            }
        }
        readable(process).await
    }
}

impl Drop for Relay<'_> {
    fn drop(&mut self) {
        for _ in 0..LAST_READS {
            if !matches!(self.once(), Ok(1..)) {
                break;
            }
        }
    }
}
