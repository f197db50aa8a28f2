//! An instance of its own, containers made of busybox, and waiting without sleeping.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use stack::runtime::config::{
    ContainerConfig, ContainerId, EtcFiles, HealthCheck, ImageUse, LogConfig, Namespace,
    Namespaces, Process, Resources, RestartPolicy, Seccomp, UserNamespace,
};
use stack::runtime::logs::{Entry, Follower, ReadOptions};
use stack::runtime::monitor::{self, HookError, MonitorArgs, Sandbox, Sidecar};
use stack::runtime::status::{Container, Status, Watch};
use stack::runtime::{Launch, Runtime, RuntimeRoots, StopOptions};
use stack::sys::atomic::Durability;

/// How long anything may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// A named pipe in the run directory: while it is there, monitors wait for its end before they begin.
const HOLD: &str = "hold";

/// The default capabilities of Docker (moby oci/caps/defaults.go).
const CAPABILITIES: u64 = 0xa804_25fb;

/// An instance in a temporary directory; removes what is left of it when it goes.
pub(crate) struct Instance {
    /// The runtime under test.
    pub(crate) runtime: Runtime,
    directory: tempfile::TempDir,
    /// Eight hex digits.
    id: String,
    layer: PathBuf,
}

impl Instance {
    /// Makes the directory, the name and the layer.
    pub(crate) fn new() -> Self {
        let directory = tempfile::Builder::new()
            .prefix("stack-monitor-")
            .tempdir()
            .unwrap();
        let mut random = [0_u8; 4];
        rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty()).unwrap();
        let instance = format!("{:08x}", u32::from_ne_bytes(random));
        let layer = directory.path().join("layer");
        make_layer(&layer);
        Self {
            runtime: open(directory.path(), &instance),
            directory,
            id: instance,
            layer,
        }
    }

    /// Returns the directory of the persistent root.
    pub(crate) fn root(&self) -> PathBuf {
        self.directory.path().join("lib")
    }

    /// A container that runs `script` in busybox's shell.
    pub(crate) fn config(&self, name: &str, script: &str) -> ContainerConfig {
        let own = || Namespace::Own;
        ContainerConfig {
            name: name.to_owned(),
            labels: BTreeMap::from([("test".to_owned(), "yes".to_owned())]),
            annotations: serde_json::Value::Null,
            image: ImageUse {
                reference: "busybox".to_owned(),
                id: "sha256:0".to_owned(),
                layers: vec![self.layer.clone()],
            },
            process: Process {
                args: ["/bin/sh", "-c", script].map(str::to_owned).to_vec(),
                env: vec!["PATH=/bin".to_owned()],
                cwd: "/".to_owned(),
                user: String::new(),
                groups: vec![],
                tty: false,
                stdin_open: false,
                init: false,
                no_new_privileges: false,
                capabilities: CAPABILITIES,
                rlimits: vec![],
                oom_score_adj: None,
                seccomp: Seccomp::Default,
            },
            namespaces: Namespaces {
                network: own(),
                pid: own(),
                ipc: own(),
                uts: own(),
                cgroup: own(),
                user: UserNamespace::Host,
            },
            hostname: name.to_owned(),
            domainname: None,
            mounts: vec![],
            files: vec![],
            read_only: false,
            privileged: false,
            shm_bytes: 1 << 20,
            sysctls: BTreeMap::new(),
            resources: Resources::default(),
            restart: RestartPolicy::No,
            health: None,
            stop_signal: libc::SIGTERM,
            stop_timeout: Duration::from_secs(10),
            log: LogConfig {
                max_size_bytes: 1 << 20,
                max_files: 3,
            },
        }
    }

    /// Creates and starts a container, with or without a sidecar.
    pub(crate) fn start(&self, config: &ContainerConfig, sidecar: bool) -> ContainerId {
        let id = self.runtime.create(config, Durability::Cached).unwrap();
        self.runtime
            .spawn(&id, self.launch(sidecar))
            .unwrap()
            .finish()
            .unwrap();
        id
    }

    /// What a start is handed; the door's sidecar runs where the sandbox says so.
    pub(crate) fn launch(&self, sidecar: bool) -> Launch {
        let released = self.directory.path().join("released");
        Launch {
            netns: None,
            etc: EtcFiles::default(),
            sandbox: serde_json::json!({ "sidecar": sidecar, "released": released }),
            fds: vec![],
        }
    }

    /// Tells how often a monitor has released a sandbox.
    pub(crate) fn releases(&self) -> usize {
        fs_err::read(self.directory.path().join("released")).map_or(0, |bytes| bytes.len())
    }

    /// Returns the container as it is now.
    pub(crate) fn get(&self, id: &ContainerId) -> Container {
        self.runtime.get(id).unwrap()
    }

    /// Waits until the container is as `wanted` says.
    pub(crate) fn until(&self, id: &ContainerId, wanted: impl Fn(&Container) -> bool) -> Container {
        let mut changes = self.runtime.changes().unwrap();
        let deadline = Instant::now() + PATIENCE;
        loop {
            let container = self.get(id);
            if wanted(&container) {
                return container;
            }
            assert!(
                Instant::now() < deadline,
                "{:?} {:?}",
                container.status,
                self.trouble(id)
            );
            wait_for(changes.as_fd(), deadline);
            changes.take().unwrap();
        }
    }

    /// Waits for the end of a container for good.
    pub(crate) fn until_ended(&self, id: &ContainerId) -> Container {
        self.until(id, |c| {
            matches!(c.status, Status::Exited(_)) && c.watch == Watch::NotNeeded
        })
    }

    /// Follows the log until `wanted` says that it has seen enough.
    pub(crate) fn follow(&self, id: &ContainerId, wanted: impl Fn(&[Entry]) -> bool) -> Vec<Entry> {
        let mut follower = Follower::new().unwrap();
        let reader = self.runtime.logs().open(id, ReadOptions::ALL).unwrap();
        let number = follower.add(reader).unwrap();
        let deadline = Instant::now() + PATIENCE;
        let mut entries = Vec::new();
        loop {
            while follower.read(number, &mut entries).unwrap() {}
            if wanted(&entries) {
                return entries;
            }
            assert!(
                Instant::now() < deadline,
                "{} entries, {:?}",
                entries.len(),
                self.trouble(id)
            );
            wait_for(follower.as_fd(), deadline);
            follower.grown().unwrap();
        }
    }

    /// Follows the log until it has a line `text`.
    pub(crate) fn until_line(&self, id: &ContainerId, text: &str) {
        self.follow(id, |entries| {
            entries.iter().any(|e| e.text == text.as_bytes())
        });
    }

    /// Returns the log as lines.
    pub(crate) fn lines(&self, id: &ContainerId) -> Vec<String> {
        let mut reader = self.runtime.logs().open(id, ReadOptions::ALL).unwrap();
        let mut entries = Vec::new();
        while reader.read(&mut entries).unwrap() {}
        entries.extend(reader.finish());
        let text = |entry: &Entry| String::from_utf8_lossy(&entry.text).into_owned();
        entries.iter().map(text).collect()
    }

    /// Stops a container and waits for its end.
    pub(crate) fn stop(&self, id: &ContainerId, timeout: Duration) -> stack::runtime::Ended {
        let options = StopOptions {
            timeout: Some(timeout),
            durability: Durability::Cached,
            releases: true,
        };
        self.runtime.stop(id, options).unwrap().finish().unwrap()
    }

    /// Returns the monitor's pid.
    pub(crate) fn monitor(&self, id: &ContainerId) -> i32 {
        match self.get(id).watch {
            Watch::Alive { pid } => pid,
            other => panic!("{other:?}"),
        }
    }

    /// Kills the monitor with SIGKILL and waits until it is gone.
    pub(crate) fn kill_monitor(&self, id: &ContainerId) {
        kill_and_wait(self.monitor(id));
        self.until(id, |c| c.watch == Watch::Missing);
    }

    /// Returns the pid of the door's sidecar.
    pub(crate) fn sidecar(&self, id: &ContainerId) -> Option<i32> {
        let monitor = self.monitor(id);
        let children = format!("/proc/{monitor}/task/{monitor}/children");
        let pids = fs_err::read_to_string(children).unwrap();
        let mut pids = pids.split_whitespace().map(|pid| pid.parse().unwrap());
        pids.find(|pid| Some(*pid) != self.get(id).pid() && is_sidecar(*pid))
    }

    /// Returns the pid of the process that keeps the container's terminal.
    pub(crate) fn keeper(&self, id: &ContainerId) -> i32 {
        self.until_keeper(id, |_| true)
    }

    /// Waits for a keeper that is as `wanted` says.
    pub(crate) fn until_keeper(&self, id: &ContainerId, wanted: impl Fn(i32) -> bool) -> i32 {
        let keeper = || {
            let live = fs_err::read(self.runtime.layout().live(id)).unwrap();
            let live: stack::runtime::record::Live = serde_json::from_slice(&live).unwrap();
            live.keeper.map(|keeper| keeper.pid)
        };
        self.until(id, |_| keeper().is_some_and(&wanted));
        keeper().unwrap()
    }

    /// Returns what the monitor noted.
    pub(crate) fn trouble(&self, id: &ContainerId) -> String {
        let path = self.runtime.layout().control(id).join("trouble");
        fs_err::read_to_string(path).unwrap_or_default()
    }

    /// Opens the same instance once more, as another command would.
    pub(crate) fn again(&self) -> Runtime {
        open(self.directory.path(), &self.id)
    }

    /// Makes every monitor that is started from now on wait before it does anything.
    pub(crate) fn hold_monitors(&self) -> Held {
        let path = self.runtime.layout().run.join(HOLD);
        let mode = rustix::fs::Mode::from_raw_mode(0o600);
        rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        Held { path }
    }

    /// The arguments with which this program becomes a caller for this instance.
    pub(crate) fn caller(&self, id: &ContainerId, sidecar: bool) -> Command {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .arg("caller")
            .arg(self.directory.path())
            .arg(&self.id)
            .arg(id.as_str())
            .arg(if sidecar { "sidecar" } else { "alone" });
        command
    }
}

/// Monitors that wait.
pub(crate) struct Held {
    path: PathBuf,
}

impl Held {
    /// Waits until one waits; it goes on when what is returned is dropped, and those that come later do not wait.
    pub(crate) fn one(self) -> fs_err::File {
        let mut options = fs_err::OpenOptions::new();
        let end = options.write(true).open(&self.path).unwrap();
        fs_err::remove_file(&self.path).unwrap();
        end
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        for container in self.runtime.list().unwrap_or_default() {
            if let Err(errors) = self
                .runtime
                .remove(container.id(), true, Durability::Cached)
            {
                println!("left of {}: {errors:?}", container.record.config.name);
            }
        }
        if let Err(error) = stack::runtime::cgroup::Cgroups::detect(&self.id)
            .and_then(|cgroups| cgroups.remove_instance())
        {
            println!("left: {error}");
        }
        // What a case mounted there keeps the directory from being removed.
        match nix::mount::umount2(&self.root().join("logs"), nix::mount::MntFlags::MNT_DETACH) {
            Ok(()) | Err(nix::errno::Errno::EINVAL | nix::errno::Errno::ENOENT) => {}
            Err(errno) => println!("left: {errno}"),
        }
    }
}

/// The engine's side: a sidecar that sleeps, and a file that grows by one byte at each release.
struct Door;

impl Sandbox for Door {
    fn serve(
        &mut self,
        sandbox: &serde_json::Value,
        _netns: Option<BorrowedFd<'_>>,
        _fds: Vec<OwnedFd>,
    ) -> Result<Option<Sidecar>, HookError> {
        if sandbox["sidecar"] != true {
            return Ok(None);
        }
        let mut command = Command::new("/bin/busybox");
        command.args(["sleep", "100000"]);
        #[expect(unsafe_code, reason = "the test's sidecar must die with its monitor")]
        // SAFETY: prctl(2) alone, between fork and exec.
        unsafe {
            command.pre_exec(|| {
                let signal = Some(rustix::process::Signal::KILL);
                Ok(rustix::process::set_parent_process_death_signal(signal)?)
            });
        }
        let child = command.spawn()?;
        let pid = rustix::process::Pid::from_child(&child);
        let pidfd = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty())?;
        Ok(Some(Sidecar {
            pid: pid.as_raw_nonzero().get(),
            pidfd,
        }))
    }

    fn released(&mut self, sandbox: &serde_json::Value) -> Result<(), HookError> {
        use std::io::Write;
        let path = sandbox["released"].as_str().ok_or("no file")?;
        let mut file = fs_err::OpenOptions::new()
            .append(true)
            .create(true)
            .open(path)?;
        Ok(file.write_all(b"x")?)
    }
}

/// Is the monitor.
pub(crate) fn be_the_monitor() -> ExitCode {
    match MonitorArgs::parse(std::env::args_os().skip(2)) {
        Some(arguments) => {
            let hold = arguments.run.join(HOLD);
            if hold.exists() {
                // Until the test has closed its end: the monitor has done nothing yet.
                fs_err::read(hold).unwrap();
            }
            match monitor::run(&arguments, &mut Door) {
                Ok(()) => ExitCode::SUCCESS,
                Err(_) => ExitCode::FAILURE,
            }
        }
        None => ExitCode::from(2),
    }
}

/// Is a command that starts a container, says `started`, and waits to be killed.
pub(crate) fn be_the_caller(arguments: &[String]) -> ExitCode {
    let [_, directory, instance, id, sidecar] = arguments else {
        return ExitCode::from(2);
    };
    let runtime = open(Path::new(directory), instance);
    let launch = Launch {
        netns: None,
        etc: EtcFiles::default(),
        sandbox: serde_json::json!({
            "sidecar": sidecar == "sidecar",
            "released": Path::new(directory).join("released"),
        }),
        fds: vec![],
    };
    let id = ContainerId::new(id).unwrap();
    runtime.spawn(&id, launch).unwrap().finish().unwrap();
    println!("started");
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).unwrap();
    ExitCode::SUCCESS
}

/// A health check by a shell line.
pub(crate) fn health(script: &str) -> HealthCheck {
    HealthCheck {
        test: ["/bin/sh", "-c", script].map(str::to_owned).to_vec(),
        interval: Duration::from_millis(100),
        timeout: Duration::from_secs(2),
        retries: 2,
        start_period: Duration::ZERO,
        start_interval: Duration::from_millis(50),
    }
}

/// Kills a process that need not be a child, and waits until it is gone.
pub(crate) fn kill_and_wait(pid: i32) {
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    let pidfd = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).unwrap();
    rustix::process::pidfd_send_signal(&pidfd, rustix::process::Signal::KILL).unwrap();
    wait_for(pidfd.as_fd(), Instant::now() + PATIENCE);
}

/// Waits until a process has ended.
pub(crate) fn until_gone(pid: i32) {
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    match rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()) {
        Ok(pidfd) => {
            let deadline = Instant::now() + PATIENCE;
            wait_for(pidfd.as_fd(), deadline);
            assert!(Instant::now() < deadline, "{pid:?} lives");
        }
        Err(errno) => assert_eq!(errno, rustix::io::Errno::SRCH),
    }
}

/// Waits until a descriptor is readable.
pub(crate) fn wait_for(fd: BorrowedFd<'_>, deadline: Instant) {
    let left = deadline.saturating_duration_since(Instant::now());
    let timeout = rustix::time::Timespec {
        tv_sec: left.as_secs().try_into().unwrap(),
        tv_nsec: left.subsec_nanos().into(),
    };
    let mut fds = [PollFd::from_borrowed_fd(fd, PollFlags::IN)];
    poll(&mut fds, Some(&timeout)).unwrap();
}

/// Tells whether the process is the door's sidecar.
fn is_sidecar(pid: i32) -> bool {
    fs_err::read_to_string(format!("/proc/{pid}/cmdline")).is_ok_and(|c| c.contains("100000"))
}

/// Opens an instance in `directory` whose monitors are this program.
fn open(directory: &Path, instance: &str) -> Runtime {
    Runtime::open(RuntimeRoots {
        root: directory.join("lib"),
        run: directory.join("run"),
        instance: instance.to_owned(),
        exe: std::env::current_exe().unwrap(),
    })
    .unwrap()
}

/// Makes a root file system of busybox.
fn make_layer(layer: &Path) {
    for directory in ["bin", "etc", "proc", "sys", "dev", "tmp"] {
        fs_err::create_dir_all(layer.join(directory)).unwrap();
    }
    fs_err::copy("/bin/busybox", layer.join("bin/busybox")).unwrap();
    for applet in [
        "sh", "sleep", "cat", "true", "yes", "head", "kill", "stty", "echo", "test",
    ] {
        std::os::unix::fs::symlink("busybox", layer.join("bin").join(applet)).unwrap();
    }
}

/// Returns a line of `smaps_rollup`, KiB.
pub(crate) fn memory(pid: i32, what: &str) -> u64 {
    let text = fs_err::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
    let line = text
        .lines()
        .find(|line| line.starts_with(&format!("{what}:")))
        .unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}
