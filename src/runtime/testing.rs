//! Containers for the kernel tests of this room: a root of busybox in a temporary directory, a control group of a random name.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::runtime::cgroup::{Cgroup, Cgroups, DeviceAccess};
use crate::runtime::config::{
    ContainerConfig, EtcFiles, ImageUse, LogConfig, Namespace, Namespaces, Process, Resources,
    RestartPolicy, Seccomp, UserNamespace,
};
use crate::runtime::exec::{self, ExecRequest};
use crate::runtime::init::{RootFs, SpawnRequest, Spawned, StartError, Stdio, capabilities, spawn};
use crate::sys::pidfd;

/// Commands that the image has.
const APPLETS: [&str; 22] = [
    "sh", "cat", "id", "ls", "sleep", "mount", "umount", "stat", "grep", "echo", "true", "false",
    "kill", "readlink", "mkdir", "touch", "sort", "hostname", "tty", "head", "wc", "env",
];

/// A container that is not started.
pub(crate) struct Sandbox {
    pub(crate) directory: tempfile::TempDir,
    pub(crate) config: ContainerConfig,
    pub(crate) cgroups: Cgroups,
    pub(crate) cgroup: Cgroup,
}

/// What a command printed and how it ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Sandbox {
    /// Makes one whose command is `/bin/sh -c script`.
    pub(crate) fn new(script: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let image = directory.path().join("image");
        for name in ["bin", "etc", "tmp", "work", "upper", "root"] {
            let above = if ["work", "upper"].contains(&name) {
                directory.path()
            } else {
                &image
            };
            fs_err::create_dir_all(above.join(name)).unwrap();
        }
        fs_err::create_dir(directory.path().join("etc")).unwrap();
        fs_err::copy("/bin/busybox", image.join("bin/busybox")).unwrap();
        for applet in APPLETS {
            fs_err::os::unix::fs::symlink("busybox", image.join("bin").join(applet)).unwrap();
        }
        let passwd = "root:x:0:0::/root:/bin/sh\nweb:x:1000:1000::/home/web:/bin/sh\n";
        put(&image.join("etc/passwd"), passwd);
        put(
            &image.join("etc/group"),
            "root:x:0:\nweb:x:1000:\naudio:x:29:web\n",
        );
        let instance = format!("{:08x}", rand::random_u32());
        let cgroups = Cgroups::detect(&instance).unwrap();
        let cgroup = cgroups
            .create("c", &Resources::default(), &DeviceAccess::Default)
            .unwrap();
        Self {
            config: config(script),
            directory,
            cgroups,
            cgroup,
        }
    }

    /// Returns a path of the image.
    pub(crate) fn image(&self, path: &str) -> PathBuf {
        self.directory.path().join("image").join(path)
    }

    /// Starts it with these streams.
    pub(crate) fn start(&self, stdio: Stdio<'_>) -> Result<Spawned, StartError> {
        let path = |name: &str| self.directory.path().join(name);
        spawn(&SpawnRequest {
            config: &self.config,
            secret_env: &[],
            root: RootFs {
                lowers: vec![path("image")],
                upper: path("upper"),
                work: path("work"),
                is_volatile: false,
            },
            etc: &EtcFiles {
                hosts: vec![("10.9.8.7".parse().unwrap(), "other".to_owned())],
                resolv_conf: "nameserver 127.0.0.11\n".to_owned(),
            },
            etc_directory: &path("etc"),
            hostname_file: true,
            netns: None,
            outer_pids: None,
            joined: &[],
            stdio,
            cgroup: &self.cgroup,
        })
    }

    /// Starts it, waits for its end and returns what it printed.
    pub(crate) fn run(&self) -> Result<Outcome, StartError> {
        let (out, out_end) = pipe();
        let (err, err_end) = pipe();
        let spawned = self.start(Stdio::Pipes {
            out: out_end.as_fd(),
            err: err_end.as_fd(),
            input: None,
        });
        drop((out_end, err_end));
        let spawned = spawned?;
        let (out, err) = (drain(out), drain(err));
        let code = pidfd::wait(spawned.pidfd.as_fd()).unwrap().code();
        Ok(Outcome { code, out, err })
    }

    /// Runs a process in the started container and returns what it printed.
    pub(crate) fn exec(&self, init: &Spawned, process: &Process) -> Result<Outcome, StartError> {
        let (out, out_end) = pipe();
        let (err, err_end) = pipe();
        let child = exec::run(&ExecRequest {
            init: init.pidfd.as_fd(),
            process,
            stdio: Stdio::Pipes {
                out: out_end.as_fd(),
                err: err_end.as_fd(),
                input: None,
            },
            cgroup: &self.cgroup,
        });
        drop((out_end, err_end));
        let child = child?;
        let (out, err) = (drain(out), drain(err));
        let code = child.wait().unwrap();
        Ok(Outcome { code, out, err })
    }

    /// Returns what its command prints, which must succeed.
    pub(crate) fn output(&self) -> String {
        let outcome = self.run().unwrap();
        assert_eq!(
            (outcome.code, outcome.err.as_str()),
            (0, ""),
            "{}",
            outcome.out
        );
        outcome.out
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        self.cgroup.kill_all().unwrap();
        self.cgroup.remove().unwrap();
        self.cgroups.remove_instance().unwrap();
    }
}

/// Writes a small file.
pub(crate) fn put(path: &Path, text: &str) {
    use crate::sys::atomic::{Durability, write};
    write(path, text.as_bytes(), 0o644, Durability::Cached).unwrap();
}

/// Reads to the end.
pub(crate) fn drain(fd: OwnedFd) -> String {
    let mut text = String::new();
    fs_err::File::from_parts(fd.into(), "pipe")
        .read_to_string(&mut text)
        .unwrap();
    text
}

/// Makes a pipe: read end, write end.
pub(crate) fn pipe() -> (OwnedFd, OwnedFd) {
    rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap()
}

/// A process with Docker's defaults.
pub(crate) fn shell(script: &str) -> Process {
    Process {
        args: vec!["/bin/sh".to_owned(), "-c".to_owned(), script.to_owned()],
        env: vec!["PATH=/usr/bin:/bin".to_owned()],
        cwd: "/".to_owned(),
        user: String::new(),
        groups: Vec::new(),
        tty: false,
        stdin_open: false,
        init: false,
        no_new_privileges: false,
        capabilities: capabilities::DEFAULT,
        rlimits: Vec::new(),
        oom_score_adj: None,
        seccomp: Seccomp::Default,
    }
}

/// A container with Docker's defaults.
pub(crate) fn config(script: &str) -> ContainerConfig {
    ContainerConfig {
        name: "test".to_owned(),
        labels: BTreeMap::new(),
        annotations: serde_json::Value::Null,
        image: ImageUse {
            reference: "busybox".to_owned(),
            id: "sha256:0".to_owned(),
            layers: Vec::new(),
        },
        process: shell(script),
        namespaces: Namespaces {
            network: Namespace::Own,
            pid: Namespace::Own,
            ipc: Namespace::Own,
            uts: Namespace::Own,
            cgroup: Namespace::Own,
            user: UserNamespace::Host,
        },
        hostname: "box".to_owned(),
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
        stop_timeout: Duration::from_secs(10),
        log: LogConfig {
            max_size_bytes: 1 << 20,
            max_files: 2,
        },
    }
}

mod rand {
    /// Returns a number that no other test of this or another run has.
    pub(super) fn random_u32() -> u32 {
        let mut bytes = [0_u8; 4];
        rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty()).unwrap();
        u32::from_le_bytes(bytes)
    }
}

/// Runs `body` in a child with a mount namespace of its own; fails if it fails.
pub(crate) fn in_private_mounts(body: impl FnOnce()) {
    use crate::sys::{clone, mount, process};
    match clone::fork().unwrap() {
        clone::Forked::Child(_) => {
            let _guard = process::ExitOnDrop(1);
            clone::unshare(clone::CLONE_NEWNS).unwrap();
            mount::make_all_slaves().unwrap();
            body();
            process::exit_now(0);
        }
        clone::Forked::Parent(pid) => {
            let pidfd = pidfd::open(pid).unwrap();
            let exit = pidfd::wait(pidfd.as_fd()).unwrap();
            assert_eq!(exit, pidfd::Exit::Code(0), "see its output above");
        }
    }
}
