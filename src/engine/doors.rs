//! The hidden commands: processes that outlive the command line, or live beside it.
//!
//! `stack monitor ID --root R --run N` is a container's monitor (`crate::runtime::monitor`). Here it meets the network: the
//! child that answers names and carries what the firewall cannot (`crate::net::sidecar`), and the release of names and
//! ports when the container has ended. Nothing here may touch clap or tokio: each costs every container memory.

use std::ffi::OsString;
use std::io::Write;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::process::ExitCode;

use crate::net::Net;
use crate::net::sidecar::{self, SidecarConfig};
use crate::runtime::config::ContainerId;
use crate::runtime::monitor::{self, HookError, MonitorArgs, Sandbox, Sidecar};
use crate::sys::clone::{self, Cloned, SingleThreaded};
use crate::sys::process;

/// The body of `stack monitor`; `arguments` follow that word. Its standard error is /dev/null except when run by hand.
pub fn monitor(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let Some(args) = MonitorArgs::parse(arguments) else {
        complain("stack monitor is started by stack itself");
        return ExitCode::from(2);
    };
    let instance = match fs_err::read_to_string(args.root.join("instance")) {
        Ok(instance) => instance,
        Err(error) => {
            complain(&error.to_string());
            return ExitCode::FAILURE;
        }
    };
    let net = Net::open(&args.root, &args.run, instance.trim());
    let mut hooks = Hooks {
        net,
        id: args.id.clone(),
    };
    match monitor::run(&args, &mut hooks) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&error.to_string());
            ExitCode::FAILURE
        }
    }
}

/// Writes a line to standard error; a door has no renderer, and nobody to tell if even that fails.
fn complain(message: &str) {
    let _nobody = writeln!(std::io::stderr(), "stack monitor: {message}");
}

/// The network's side of a monitor.
struct Hooks {
    net: Net,
    id: ContainerId,
}

impl Sandbox for Hooks {
    fn serve(
        &mut self,
        sandbox: &serde_json::Value,
        netns: Option<BorrowedFd<'_>>,
        fds: Vec<OwnedFd>,
    ) -> Result<Option<Sidecar>, HookError> {
        let (Some(netns), false) = (netns, sandbox.is_null()) else {
            return Ok(None);
        };
        let config: SidecarConfig = serde_json::from_value(sandbox.clone())?;
        let (ours, theirs) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
        let alone = SingleThreaded::check()?.ok_or("the monitor has several threads")?;
        let parent = rustix::process::getpid().as_raw_nonzero().get();
        match clone::clone3(&alone, 0, None)? {
            Cloned::Child => {
                drop(ours);
                process::unblock_signals();
                let error = sidecar::serve(&config, netns, fds, parent, move || drop(theirs));
                complain(&error.to_string());
                process::exit_now(1)
            }
            Cloned::Parent { pid, pidfd } => {
                drop(theirs);
                // The end of the pipe is the child's word that its sockets are bound, or its death.
                let mut byte = [0];
                while let Err(rustix::io::Errno::INTR) = rustix::io::read(&ours, &mut byte) {}
                Ok(Some(Sidecar { pid, pidfd }))
            }
        }
    }

    fn released(&mut self, _sandbox: &serde_json::Value) -> Result<(), HookError> {
        self.net.release(&[self.id.as_str()]).map_err(|errors| {
            let messages: Vec<_> = errors.iter().map(ToString::to_string).collect();
            messages.join("; ").into()
        })
    }
}
