//! A further process in a running container, started by this process itself: it works when the monitor does not.

use std::os::fd::{AsFd, OwnedFd};

use crate::engine::error::EngineError;
use crate::engine::view::ExecOptions;
use crate::engine::{Engine, readable};
use crate::plan::naming;
use crate::runtime::cgroup::Cgroups;
use crate::runtime::config::{Process, Seccomp};
use crate::runtime::exec::{self, Child, ExecRequest};
use crate::runtime::init::{Stdio, capabilities};
use crate::runtime::status::{Container, Status};
use crate::spec::names::ProjectName;

/// A process that runs in a container.
#[derive(Debug)]
pub struct ExecSession {
    /// Master end of its terminal, where it has one; without one it has this process's own standard streams.
    pub terminal: Option<OwnedFd>,
    /// What could not be had but was only a default.
    pub warnings: Vec<String>,
    child: Child,
}

impl ExecSession {
    /// Waits for the end and returns the exit code, 128 + N after signal N.
    pub async fn wait(self) -> Result<i32, EngineError> {
        let failed = |source| EngineError::System {
            attempted: "wait for the process".to_owned(),
            source,
        };
        readable(&self.child.pidfd).await.map_err(failed)?;
        self.child.wait().map_err(failed)
    }
}

impl Engine {
    /// Starts a process in a container of `service`.
    pub async fn exec(
        &self,
        project: &ProjectName,
        service: &str,
        options: &ExecOptions,
    ) -> Result<ExecSession, EngineError> {
        let container = self.running(project, service, options.index)?;
        self.adopt(&container).await?;
        let Status::Running { pid, .. } = container.status else {
            return Err(EngineError::NotRunning {
                service: service.to_owned(),
                index: options.index,
            });
        };
        let failed = |source| EngineError::System {
            attempted: format!("open process {pid}"),
            source,
        };
        let init = rustix::process::Pid::from_raw(pid)
            .ok_or_else(|| failed(std::io::ErrorKind::NotFound.into()))?;
        let init = rustix::process::pidfd_open(init, rustix::process::PidfdFlags::empty())
            .map_err(|e| failed(e.into()))?;
        // Looked at again with the process held: its number cannot have passed to another meanwhile.
        if self.runtime.get(container.id())?.pid() != Some(pid) {
            return Err(EngineError::NotRunning {
                service: service.to_owned(),
                index: options.index,
            });
        }
        let cgroups =
            Cgroups::detect(self.instance.as_str()).map_err(|error| EngineError::Start {
                code: 1,
                message: error.to_string(),
            })?;
        let process = process(&container, options);
        let null = fs_err::File::options()
            .read(true)
            .write(true)
            .open("/dev/null")
            .map_err(failed)?;
        let (stdin, stdout, stderr) = (std::io::stdin(), std::io::stdout(), std::io::stderr());
        let stdio = if options.detach {
            Stdio::Pipes {
                out: null.as_fd(),
                err: null.as_fd(),
                input: None,
            }
        } else if options.terminal.is_some() {
            Stdio::Terminal
        } else {
            Stdio::Pipes {
                out: stdout.as_fd(),
                err: stderr.as_fd(),
                input: Some(stdin.as_fd()),
            }
        };
        let request = ExecRequest {
            init: init.as_fd(),
            process: &process,
            stdio,
            cgroup: &cgroups.existing(container.id().as_str()),
        };
        let mut child = exec::run(&request).map_err(|error| EngineError::Start {
            code: error.exec_exit_code(),
            message: crate::engine::chain(&error),
        })?;
        let terminal = child.terminal.take();
        if let (Some(master), Some((columns, rows))) = (&terminal, options.terminal) {
            let size = rustix::termios::Winsize {
                ws_row: rows,
                ws_col: columns,
                ws_xpixel: 0,
                ws_ypixel: 0,
            };
            rustix::termios::tcsetwinsize(master, size).map_err(|e| failed(e.into()))?;
        }
        Ok(ExecSession {
            terminal,
            warnings: std::mem::take(&mut child.warnings),
            child,
        })
    }

    /// Finds a service's running container by its number.
    fn running(
        &self,
        project: &ProjectName,
        service: &str,
        index: u32,
    ) -> Result<Container, EngineError> {
        let label = |container: &Container, name: &str, value: &str| {
            container
                .config()
                .labels
                .get(name)
                .is_some_and(|found| found == value)
        };
        let fits = |container: &Container| {
            label(container, naming::PROJECT, project.as_str())
                && label(container, naming::SERVICE, service)
                && label(container, naming::NUMBER, &index.to_string())
                && matches!(container.status, Status::Running { .. })
        };
        let missing = || EngineError::NotRunning {
            service: service.to_owned(),
            index,
        };
        self.runtime
            .list()?
            .into_iter()
            .find(fits)
            .ok_or_else(missing)
    }
}

/// Returns the process: the container's own, as `options` change it.
fn process(container: &Container, options: &ExecOptions) -> Process {
    let main = &container.config().process;
    let mut env = main.env.clone();
    for line in &options.env {
        let name = line.split('=').next().unwrap_or(line);
        env.retain(|old| old.split('=').next() != Some(name));
        env.push(line.clone());
    }
    if options.terminal.is_some() && !env.iter().any(|line| line.starts_with("TERM=")) {
        env.push("TERM=xterm".to_owned());
    }
    Process {
        args: options.args.clone(),
        env,
        cwd: options.cwd.clone().unwrap_or_else(|| main.cwd.clone()),
        user: options.user.clone().unwrap_or_else(|| main.user.clone()),
        tty: options.terminal.is_some(),
        stdin_open: true,
        init: false,
        capabilities: if options.privileged {
            capabilities::ALL
        } else {
            main.capabilities
        },
        seccomp: if options.privileged {
            Seccomp::Unconfined
        } else {
            main.seccomp.clone()
        },
        ..main.clone()
    }
}
