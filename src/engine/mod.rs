//! Where the rooms meet: observe, lower, plan, apply.
//!
//! ```text
//! up:  lock ─ observe ─ plan::images ─ apply ─ observe ─ plan::containers ─ ports reserved ─ apply ─ unlock
//! ```
//!
//! No database: what is there is read from the labels and records that images, net and runtime own, each time. This room
//! must never print, and never decide what [`crate::plan`] can.
//!
//! In reading order: [`roots`] and [`instance`] (where), [`event`] and [`view`] (what commands see), [`observe`],
//! [`lower`], [`host`] and `linux` (the machine), [`apply`], `blame` (whose fault a failure is), `up` and `down` (`commands`, with `ports`, `recover` and `cleanup`), [`source`] (what `apply` fetches), [`registry`] (pushes and logins), `boot`, [`logs`],
//! [`exec`], [`watch`], `build`, `step` and `cdi` (builds), [`store`], [`load`], [`snapshot`], [`inspect`], [`system`] and [`prune`] (images and disk), [`doors`] (hidden commands).

pub mod annotations;
pub mod apply;
mod blame;
mod boot;
mod build;
pub mod cancel;
mod cdi;
mod cleanup;
mod commands;
#[cfg(test)]
mod converge;
pub mod digests;
pub mod doors;
pub mod error;
pub mod etc;
pub mod event;
pub mod exec;
#[cfg(test)]
mod fake;
mod freeze;
pub mod host;
pub mod inspect;
pub mod instance;
mod linux;
pub mod load;
pub mod logs;
pub mod lower;
mod observe;
mod ports;
mod project;
pub mod prune;
mod recover;
pub mod registry;
pub mod roots;
pub mod snapshot;
pub mod source;
mod step;
pub mod store;
pub mod system;
mod using;
pub mod view;
mod views;
pub mod watch;

use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::rc::Rc;
use std::sync::Arc;

pub use build::blame::in_dockerfile;
pub use build::describe::{Call, Described};
pub use build::{BuiltDescriptor, BuiltImage, ImageBuild};
pub use cancel::Cancel;
pub use commands::{BuildOptions, ImportAsked, ImportSource, Planned, PullOptions};
pub use error::EngineError;
pub use exec::ExecSession;
pub use logs::{Gate, LogStream};

use crate::images::Images;
pub use crate::images::Packing;
pub use crate::images::build::describe::{Outline, Target};
use crate::net::Net;
use crate::runtime::seal::{self, Sealed};
use crate::runtime::{Runtime, RuntimeRoots};
use crate::sys::lock::{Lock, Mode};
use instance::InstanceId;
use roots::Roots;

/// Oldest kernel with all that the start path needs (`reference/runtime.md` 1.4): 5.15.
const KERNEL: (u32, u32) = (5, 15);

/// How often a seal is made again that another command has just taken away.
const SEAL_RETRIES: u32 = 100;
/// The lock of the instance, beneath the root.
const INSTANCE_LOCK: &str = "locks/.instance";

/// One opened instance.
#[derive(Debug)]
pub struct Engine {
    roots: Roots,
    instance: InstanceId,
    /// Shared with threads that do what blocks.
    images: Arc<Images>,
    net: Net,
    runtime: Rc<Runtime>,
    environment: BTreeMap<String, String>,
    /// Most steps at once; no limit of its own where unset.
    parallel: Option<std::num::NonZeroUsize>,
    early: cleanup::Early,
    /// Keeps the path that monitors are started from.
    _sealed: Sealed,
}

/// How images are built beyond what the file says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct BuildChoices {
    /// Run every step again.
    pub no_cache: bool,
    /// Say of each step that is done why it was not in the cache.
    pub explain: bool,
    /// Look for newer base images.
    pub pull: bool,
    /// Agents instead of the file's: `default`, or an id and a socket.
    pub ssh: Vec<String>,
    /// Bytes of memory that a step may use.
    pub memory_bytes: Option<u64>,
    /// Attestations over the file's.
    pub attestations: BTreeMap<&'static str, String>,
    /// Build arguments over the file's.
    pub args: BTreeMap<String, Option<String>>,
    /// For every platform that the file lists, and not only for the one that is to run.
    pub all_platforms: bool,
}

impl Engine {
    /// Opens the instance of `roots`; makes it where it is missing.
    ///
    /// Errors: not root, too old a kernel, a root of a later format.
    pub fn open(
        roots: &Roots,
        environment: &BTreeMap<String, String>,
    ) -> Result<Self, EngineError> {
        let uid = rustix::process::geteuid();
        if !uid.is_root() {
            return Err(EngineError::NotRoot { uid: uid.as_raw() });
        }
        check_kernel()?;
        let instance = instance::open(roots)?;
        // What lies below is later opened by paths without links.
        let real = |path: &std::path::PathBuf| {
            fs_err::canonicalize(path).map_err(|error| EngineError::file("find", path, error))
        };
        let roots = &Roots {
            root: real(&roots.root)?,
            run: real(&roots.run)?,
        };
        let client = digests::client_environment(environment);
        freeze::thaw_abandoned(roots, &instance)?;
        let sealed = sealed_executable(roots)?;
        Ok(Self {
            images: Arc::new(Images::open(&roots.root, client)?),
            net: Net::open(&roots.root, &roots.run, instance.as_str()),
            runtime: Rc::new(Runtime::open(RuntimeRoots {
                root: roots.root.clone(),
                run: roots.run.clone(),
                instance: instance.as_str().to_owned(),
                exe: sealed.path().to_owned(),
            })?),
            _sealed: sealed,
            environment: environment.clone(),
            parallel: None,
            early: cleanup::Early::default(),
            roots: roots.clone(),
            instance,
        })
    }
}

impl Engine {
    /// Lets at most so many steps of a plan go on at once.
    pub fn limit(&mut self, parallel: Option<std::num::NonZeroUsize>) {
        self.parallel = parallel;
    }
}

/// Makes this process run from a place that nothing in a container can write to (CVE-2019-5736), for commands that start
/// processes in containers by themselves: executes this program again, with the same arguments, through the sealed mount.
/// Returns where it already does. To be called before anything is read from standard input.
pub fn run_sealed(roots: &Roots) -> Result<(), EngineError> {
    let failed = |source| EngineError::System {
        attempted: "run this program sealed".to_owned(),
        source,
    };
    if !rustix::process::geteuid().is_root() || seal::is_sealed().map_err(failed)? {
        return Ok(());
    }
    instance::open(roots)?;
    let invalid = |_| failed(std::io::ErrorKind::InvalidInput.into());
    let arguments = std::env::args_os().map(|word| std::ffi::CString::new(word.into_vec()));
    let arguments = arguments.collect::<Result<Vec<_>, _>>().map_err(invalid)?;
    let mut retries = SEAL_RETRIES;
    loop {
        let sealed = sealed_executable(roots)?;
        let path = std::ffi::CString::new(sealed.path().as_os_str().as_bytes()).map_err(invalid)?;
        match nix::unistd::execv(&path, &arguments) {
            Err(nix::errno::Errno::ENOENT) if retries > 0 => retries -= 1,
            Err(errno) => return Err(failed(errno.into())),
        }
    }
}

/// Returns the path that monitors are started from: this program behind a mount that nothing can write through.
fn sealed_executable(roots: &Roots) -> Result<Sealed, EngineError> {
    let failed = |source| EngineError::System {
        attempted: "find this program".to_owned(),
        source,
    };
    // Another command's `down` takes the mount away with the last container, also from under a command that goes on.
    if seal::is_sealed().map_err(failed)? {
        return Ok(seal::running());
    }
    let exe = std::env::current_exe().map_err(failed)?;
    let mut sealed = seal::seal(&roots.run, &exe);
    for _ in 0..SEAL_RETRIES {
        if !sealed.as_ref().is_err_and(seal::SealError::is_gone) {
            break;
        }
        sealed = seal::seal(&roots.run, &exe);
    }
    sealed.map_err(|error| EngineError::System {
        attempted: "seal this program".to_owned(),
        source: std::io::Error::other(chain(&error)),
    })
}

/// Removes the sealed program where the instance has no container, at the end of every command: most are not what a container
/// ends with. What cannot be removed now is removed by a later command.
pub fn leave(roots: &Roots) {
    let containers = roots.root.join("containers");
    let is_empty =
        || fs_err::read_dir(&containers).is_ok_and(|mut entries| entries.next().is_none());
    if !roots.run.join("exe").exists() || !is_empty() {
        return;
    }
    // Whoever starts containers or build steps holds it.
    let lock = Lock::try_acquire(&roots.root.join(INSTANCE_LOCK), Mode::Exclusive);
    if let Ok(Some(_lock)) = lock
        && is_empty()
    {
        let _later = seal::unseal(&roots.run);
    }
}

/// Refuses kernels below [`KERNEL`].
fn check_kernel() -> Result<(), EngineError> {
    let name = rustix::system::uname();
    let release = name.release().to_string_lossy().into_owned();
    let mut numbers = release
        .split(['.', '-'])
        .map_while(|part| part.parse::<u32>().ok());
    let found = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if found < KERNEL {
        Err(EngineError::Kernel { found: release })
    } else {
        Ok(())
    }
}

/// Waits until `fd` can be read, or its other end is gone.
pub(crate) async fn readable(fd: &impl AsFd) -> std::io::Result<()> {
    crate::sys::ready::readable(fd.as_fd()).await
}

/// Joins an error and its causes: `a: b: c`. What the words before it say already is not said again.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut message = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let words = error.to_string();
        let (path, reason) = split_path(&words);
        let words = match path {
            Some(path) if message.contains(path) || is_temporary(path) => reason,
            _ => &words,
        };
        if !message.ends_with(words) {
            if !message.is_empty() {
                message.push_str(": ");
            }
            message.push_str(words);
        }
        cause = error.source();
    }
    message
}

/// Splits the path off that `fs_err` names before the system's reason: ``failed to open file `PATH`: REASON``.
fn split_path(words: &str) -> (Option<&str>, &str) {
    let named = words.strip_prefix("failed to ");
    let named = named.and_then(|rest| rest.split_once('`')?.1.split_once("`: "));
    named.map_or((None, words), |(path, reason)| (Some(path), reason))
}

/// Whether a path is that of a file on its way to another name (`sys::atomic`), which the message names.
fn is_temporary(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or_default();
    let parts = name
        .strip_prefix('.')
        .and_then(|rest| rest.rsplit_once('.'));
    parts.is_some_and(|(_, ending)| ending == "tmp")
}

/// Returns the system's reason alone.
pub(crate) fn reason(error: &std::io::Error) -> String {
    split_path(&error.to_string()).1.to_owned()
}

/// Turns an error of volumes into the engine's.
pub(crate) fn volume_error(error: &crate::runtime::volumes::VolumeError) -> EngineError {
    EngineError::System {
        attempted: "read the volumes".to_owned(),
        source: std::io::Error::other(chain(error)),
    }
}
