//! `RUN` steps: the builder's [`StepRunner`] over the runtime.
//!
//! A step is a container without a record or a monitor: this process is its parent, its network is a bridge of the
//! instance's own. What a step needs around it (a *scene*: network namespace, addresses, control group, name server) is made for the
//! first step of a build and taken over by the next, and is gone when the build has ended or was cut off. Of a step itself nothing
//! stays in it: its process namespace ends with its command.
//!
//! ```text
//! host's name servers            what a step asks
//! some are not on loopback       those
//! systemd-resolved's 127.0.0.53  those behind it (/run/systemd/resolve/resolv.conf), as with Docker
//! only loopback ones             127.0.0.11: a child of this process that asks them, as containers have (`net::sidecar`)
//! ```

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::{Read, Write as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::time::Duration;

use crate::engine::host::HostResult;
use crate::engine::linux::read_host_resolver;
use crate::engine::lower::process::DEFAULT_PATH;
use crate::engine::{Engine, chain, readable};
use crate::images::build::{RunStep, StepError, StepRunner};
use crate::net::config::{EndpointConfig, NetworkConfig, SandboxConfig};
use crate::net::sidecar::{self, SidecarConfig};
use crate::runtime::cgroup::{Cgroup, Cgroups, DeviceAccess};
use crate::runtime::config::{
    ContainerConfig, ContainerId, EtcFiles, ImageUse, LogConfig, Namespace, Namespaces, Process,
    Resources, RestartPolicy, Seccomp, UserNamespace,
};
use crate::runtime::init::{self, RootFs, SpawnRequest, Stdio, capabilities};
use crate::sys::clone::{self, Forked};
use crate::sys::lock::{Lock, Mode};
use crate::sys::{netns, pidfd, process};

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
    resolver: Resolver,
    /// Scenes whose step has ended.
    idle: RefCell<Vec<Scene<'a>>>,
}

/// What steps resolve names with.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Resolver {
    /// Of `/etc/resolv.conf`.
    text: String,
    /// Whether that names a child of this process, as all of the host's servers are on its loopback.
    is_forwarded: bool,
}

impl<'a> RuntimeSteps<'a> {
    /// Looks at the host once for all steps.
    pub(crate) fn new(engine: &'a Engine) -> Result<Self, Box<dyn std::error::Error>> {
        let host = read_host_resolver(Path::new("/etc/resolv.conf"))?;
        let behind = read_host_resolver(Path::new(RESOLVED))?;
        Ok(Self {
            engine,
            cgroups: Cgroups::detect(engine.instance.as_str())?,
            _building: engine.lock_instance(Mode::Shared)?,
            resolver: resolver(&host, &behind),
            idle: RefCell::default(),
        })
    }

    /// Runs one step to its end.
    async fn execute(
        &self,
        step: &RunStep,
        output: &mut dyn FnMut(&[u8]),
    ) -> Result<i32, Box<dyn std::error::Error + Send + Sync>> {
        let idle = self.idle.borrow_mut().pop();
        let scene = match idle {
            Some(scene) => scene,
            None => self.set_up().await?,
        };
        let code = scene.run(step, &self.resolver.text, output).await?;
        self.idle.borrow_mut().push(scene);
        Ok(code)
    }

    /// Makes a scene.
    async fn set_up(&self) -> Result<Scene<'a>, Box<dyn std::error::Error + Send + Sync>> {
        let id = crate::runtime::random_id()?;
        let mut scene = Scene {
            engine: self.engine,
            directory: self.engine.roots.run.join(STEPS).join(id.as_str()),
            id,
            cgroup: None,
            netns: None,
            names: None,
        };
        // First: it says what there is to be taken apart.
        fs_err::create_dir_all(&scene.directory)?;
        let (limits, devices) = (Resources::default(), DeviceAccess::Default);
        // Also where only a part of it can be made.
        scene.cgroup = Some(self.cgroups.existing(scene.id.as_str()));
        scene.cgroup = Some(self.cgroups.create(scene.id.as_str(), &limits, devices)?);
        let attached = scene.attach(self.resolver.is_forwarded).await;
        attached.map_err(|error| chain(&*error))?;
        Ok(scene)
    }
}

/// Chooses what steps resolve names with, by the host's resolver configuration and the one behind systemd-resolved.
fn resolver(host: &str, behind: &str) -> Resolver {
    let usable = [host, behind].into_iter().find(|text| reachable(text));
    match usable {
        Some(text) => Resolver {
            text: without_loopback(text),
            is_forwarded: false,
        },
        None => Resolver {
            text: format!("nameserver 127.0.0.11\n{}", without_loopback(host)),
            is_forwarded: true,
        },
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

/// What exists only while a build runs; dropped, it is taken apart, also when the build is cut off.
struct Scene<'a> {
    engine: &'a Engine,
    id: ContainerId,
    /// Of its own beneath the run directory.
    directory: PathBuf,
    cgroup: Option<Cgroup>,
    netns: Option<OwnedFd>,
    /// The name server, where it has one.
    names: Option<OwnedFd>,
}

impl Scene<'_> {
    /// Makes a network namespace on the instance's build network, with a name server of its own if `serves_names`.
    async fn attach(&mut self, serves_names: bool) -> HostResult<()> {
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
            id: self.id.to_string(),
            endpoints: vec![EndpointConfig {
                network: BUILD_NETWORK.to_owned(),
                names: Vec::new(),
                address: None,
            }],
            ports: Vec::new(),
        };
        let leases = net.allocate(std::slice::from_ref(&sandbox))?;
        let leases = leases.first().ok_or("no addresses were leased")?;
        let netns = self.netns.insert(netns::create()?);
        // It has neither names nor ports, so that nothing needs to be published.
        let attachment = net.attach(netns.as_fd(), &sandbox, leases).await?;
        if serves_names {
            let config = net.sidecar(&attachment, &[], &[]);
            self.names = Some(serve_names(&config, netns.as_fd())?);
        }
        Ok(())
    }

    /// Runs one step to its end, and with it everything that it started.
    async fn run(
        &self,
        step: &RunStep,
        resolv_conf: &str,
        output: &mut dyn FnMut(&[u8]),
    ) -> Result<i32, Box<dyn std::error::Error + Send + Sync>> {
        let cgroup = self.cgroup.as_ref().ok_or("the step has no cgroup")?;
        let etc = EtcFiles {
            hosts: Vec::new(),
            resolv_conf: resolv_conf.to_owned(),
        };
        let (read_end, write_end) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
        let spawned = init::spawn(&SpawnRequest {
            config: &configuration(step),
            root: RootFs {
                lowers: step.layers.clone(),
                upper: step.upper.clone(),
                work: step.work.clone(),
                // The store syncs a layer when the image is whole, and throws away half ones.
                is_volatile: true,
            },
            etc: &etc,
            etc_directory: &self.directory,
            netns: self.netns.as_ref().map(AsFd::as_fd),
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
                relay(read_end, &spawned.pidfd, output).await?;
                // What the command left running ended before it, with the process namespace (`man 7 pid_namespaces`).
                Ok(pidfd::wait(spawned.pidfd.as_fd())?.code())
            }
            // As a shell would say it: the step has failed, not the builder.
            Err(error) if matches!(error.exit_code(), 126 | 127) => {
                output(format!("{error}\n").as_bytes());
                Ok(error.exit_code())
            }
            Err(error) => Err(error.into()),
        }
    }
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

/// Takes apart the steps of builds that were killed; returns what could not be. No build may be running.
pub(crate) fn sweep(engine: &Engine) -> Vec<String> {
    sweep_directories(&engine.roots.run.join(STEPS), |id| take_apart(engine, id))
}

/// Removes each directory of `top` whose step `take_apart` has nothing to say about any more; returns what it said else, and
/// why directories could not be removed.
fn sweep_directories(top: &Path, mut take_apart: impl FnMut(&str) -> Vec<String>) -> Vec<String> {
    let entries = match fs_err::read_dir(top) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Vec::new(),
        Err(error) => return vec![error.to_string()],
    };
    let mut messages = Vec::new();
    for entry in entries {
        let path = match entry {
            Ok(entry) => entry.path(),
            Err(error) => {
                messages.push(error.to_string());
                continue;
            }
        };
        let id = path.file_name().unwrap_or_default().to_string_lossy();
        let left = take_apart(&id);
        // Last: while anything is left of a step, its directory says so.
        if left.is_empty() {
            let removed = fs_err::remove_dir_all(&path).err();
            messages.extend(removed.map(|error| error.to_string()));
        }
        messages.extend(left);
    }
    messages
}

/// Removes what one step put on the machine, its directory left out; returns what could not be.
fn take_apart(engine: &Engine, id: &str) -> Vec<String> {
    let cgroups = Cgroups::detect(engine.instance.as_str());
    let ended = cgroups.and_then(|cgroups| {
        let group = cgroups.existing(id);
        group.kill_all()?;
        group.remove()
    });
    let mut messages: Vec<String> = ended.err().map(|error| chain(&error)).into_iter().collect();
    let released = engine.net.release(&[id]).err().unwrap_or_default();
    messages.extend(released.iter().map(|error| chain(error)));
    messages.extend(engine.net.forget(&[id]).err().map(|error| chain(&error)));
    messages
}

/// Returns the container that a step runs as: Docker's defaults, nothing mounted, nothing limited.
fn configuration(step: &RunStep) -> ContainerConfig {
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
            network: Namespace::Own,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_that_stays_keeps_no_other() {
        let top = tempfile::tempdir().unwrap();
        for id in ["a", "b", "c", "d"] {
            fs_err::create_dir_all(top.path().join(id).join("etc")).unwrap();
        }
        let mut asked = Vec::new();
        let messages = sweep_directories(top.path(), |id| {
            asked.push(id.to_owned());
            // Whichever comes first is the one that stays.
            let is_first = asked.len() == 1;
            is_first
                .then(|| format!("{id} is busy"))
                .into_iter()
                .collect()
        });
        let left = fs_err::read_dir(top.path()).unwrap();
        let left: Vec<_> = left.map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(asked.len(), 4);
        assert_eq!(left, [asked[0].as_str()]);
        assert_eq!(messages, [format!("{} is busy", asked[0])]);
        assert_eq!(
            sweep_directories(&top.path().join("none"), |_| unreachable!()),
            Vec::<String>::new()
        );
    }

    #[test]
    fn steps_never_need_the_hosts_loopback() {
        let table = [
            ("nameserver 10.0.0.2\n", "", "nameserver 10.0.0.2\n", false),
            (
                "nameserver 127.0.0.53\nnameserver 10.0.0.2\nsearch a b\n",
                "",
                "nameserver 10.0.0.2\nsearch a b\n",
                false,
            ),
            (
                "nameserver 127.0.0.53\noptions edns0\n",
                "nameserver 10.0.0.3\nsearch lan\n",
                "nameserver 10.0.0.3\nsearch lan\n",
                false,
            ),
            (
                "search lan\nnameserver ::1\n",
                "nameserver 127.0.0.1\n",
                "nameserver 127.0.0.11\nsearch lan\n",
                true,
            ),
            ("", "", "nameserver 127.0.0.11\n", true),
        ];
        for (host, behind, text, is_forwarded) in table {
            let expected = Resolver {
                text: text.to_owned(),
                is_forwarded,
            };
            assert_eq!(resolver(host, behind), expected, "{host:?} {behind:?}");
        }
    }
}
