//! Where the files of a container are, and its generations.
//!
//! `gen/<n>/config.json` is the generation as an OCI runtime configuration (OCI runtime-spec 1.2, config.md): what another
//! OCI runtime would be given, and what people read. Our own init starts from the [`ContainerConfig`] in `record.json`.

use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use oci_spec::OciSpecError;
use rustix::fs::{IFlags, Mode, OFlags};

use crate::runtime::config::{ContainerConfig, ContainerId};
use crate::runtime::oci;
use crate::runtime::record::{self, Record, RecordError};
use crate::sys::atomic::{self, Durability};

/// Files of a container that cannot be made or read.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// A directory or link.
    #[error("make `{}`", .0.display())]
    Make(PathBuf, #[source] io::Error),
    /// A directory's list.
    #[error("list `{}`", .0.display())]
    List(PathBuf, #[source] io::Error),
    /// The configuration has no OCI form.
    #[error("render the OCI configuration of `{0}`")]
    Render(String, #[source] OciSpecError),
    /// A record among the files.
    #[error(transparent)]
    Record(#[from] RecordError),
}

/// The paths of an instance's containers; drawn in [`crate::runtime`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// Persistent.
    pub root: PathBuf,
    /// Gone at boot.
    pub run: PathBuf,
    /// 8 hexadecimal digits.
    pub instance: String,
}

impl Layout {
    /// Makes the directories that every other method relies on.
    pub fn prepare(&self) -> Result<(), BundleError> {
        self.make_mount_points()?;
        if !self.containers().exists() {
            make_directory(&self.containers())?;
            spread(&self.containers());
        }
        for directory in [
            self.containers(),
            self.names(),
            self.root.join("logs"),
            self.root.join("volumes"),
            self.states(),
            self.run.join("c"),
        ] {
            make_directory(&directory)?;
        }
        Ok(())
    }

    /// The lowest layer of every container: what is mounted on where the image has nothing of that name.
    ///
    /// Without it each start of an image that lacks them would make seven files in the writable layer.
    pub fn mount_points(&self) -> PathBuf {
        self.root.join("mount-points")
    }

    /// Returns the lower directories of a container's root file system, top-most first.
    pub fn lowers(&self, config: &ContainerConfig) -> Vec<PathBuf> {
        let mut lowers = config.image.layers.clone();
        lowers.push(self.mount_points());
        lowers
    }

    fn make_mount_points(&self) -> Result<(), BundleError> {
        let directory = self.mount_points();
        let etc = directory.join("etc");
        // Made last.
        if etc.join("hosts").exists() {
            return Ok(());
        }
        make_directory(&self.root)?;
        for (path, mode) in [
            (directory.clone(), 0o755),
            (directory.join("proc"), 0o555),
            (directory.join("sys"), 0o555),
            (directory.join("dev"), 0o755),
            (etc.clone(), 0o755),
        ] {
            match make(&path, mode) {
                // Another command makes them too, or was killed while it did.
                Err(BundleError::Make(_, error))
                    if error.kind() == io::ErrorKind::AlreadyExists => {}
                made => made?,
            }
        }
        for name in ["resolv.conf", "hostname", "hosts"] {
            let path = etc.join(name);
            atomic::write(&path, b"", 0o644, Durability::Cached)
                .map_err(|error| BundleError::Make(path, error))?;
        }
        Ok(())
    }

    /// `containers`.
    pub fn containers(&self) -> PathBuf {
        self.root.join("containers")
    }

    /// The lock of creation and removal.
    pub fn containers_lock(&self) -> PathBuf {
        self.root.join("containers.lock")
    }

    /// The links from names to ids.
    pub fn names(&self) -> PathBuf {
        self.root.join("names")
    }

    /// The link of one name.
    pub fn name(&self, name: &str) -> PathBuf {
        self.names().join(name)
    }

    /// One container.
    pub fn container(&self, id: &ContainerId) -> PathBuf {
        self.containers().join(id.as_str())
    }

    /// Its directory while it is made.
    pub fn being_made(&self, id: &ContainerId) -> PathBuf {
        self.containers().join(format!(".new-{id}"))
    }

    /// Its directory while it is removed.
    pub fn being_removed(&self, id: &ContainerId) -> PathBuf {
        self.containers().join(format!(".gone-{id}"))
    }

    /// Its record.
    pub fn record(&self, id: &ContainerId) -> PathBuf {
        self.container(id).join("record.json")
    }

    /// Its exit record.
    pub fn exit(&self, id: &ContainerId) -> PathBuf {
        self.container(id).join("exit.json")
    }

    /// One of its generations.
    pub fn generation(&self, id: &ContainerId, number: u32) -> PathBuf {
        self.container(id).join("gen").join(number.to_string())
    }

    /// The directory of all live states.
    pub fn states(&self) -> PathBuf {
        self.run.join("s")
    }

    /// The directory of its generated `/etc` files.
    pub fn etc(&self, id: &ContainerId) -> PathBuf {
        self.control(id).join("etc")
    }

    /// Its live state.
    pub fn live(&self, id: &ContainerId) -> PathBuf {
        self.states().join(format!("{id}.json"))
    }

    /// The directory of its locks, pipes and socket.
    pub fn control(&self, id: &ContainerId) -> PathBuf {
        self.run.join("c").join(id.short())
    }

    /// What its living monitor holds.
    pub fn monitor_lock(&self, id: &ContainerId) -> PathBuf {
        self.control(id).join("monitor.lock")
    }

    /// What whoever starts a monitor holds, and then the monitor until it listens.
    pub fn spawn_lock(&self, id: &ContainerId) -> PathBuf {
        self.control(id).join("spawn.lock")
    }

    /// What whoever changes its record holds.
    pub fn record_lock(&self, id: &ContainerId) -> PathBuf {
        self.control(id).join("record.lock")
    }

    /// Its newest log file.
    pub fn log(&self, id: &ContainerId) -> PathBuf {
        self.root.join("logs").join(format!("{id}.log"))
    }

    /// Returns the container that has `name`.
    pub fn named(&self, name: &str) -> Result<Option<ContainerId>, BundleError> {
        if !is_name(name) {
            return Ok(None);
        }
        let link = self.name(name);
        match fs_err::read_link(&link) {
            Ok(target) => {
                let id = target.to_str().and_then(ContainerId::new);
                Ok(id.filter(|id| self.is_written(id)))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(BundleError::List(link, error)),
        }
    }

    /// Whether there is a container `id` with a record; what cannot be looked into is taken for one.
    fn is_written(&self, id: &ContainerId) -> bool {
        match fs_err::read(self.record(id)) {
            Ok(bytes) => !record::is_unwritten(&bytes),
            Err(error) => error.kind() != io::ErrorKind::NotFound,
        }
    }

    /// Returns the containers whose record did not reach the disk before the machine lost its power.
    pub fn unwritten(&self) -> Result<Vec<ContainerId>, BundleError> {
        let mut ids = self.ids()?;
        ids.retain(|id| !self.is_written(id));
        Ok(ids)
    }

    /// Where what is left of such a container is kept.
    pub fn damaged(&self, id: &ContainerId) -> PathBuf {
        self.root.join("damaged/containers").join(id.as_str())
    }

    /// Returns the ids of all containers, in their order.
    pub fn ids(&self) -> Result<Vec<ContainerId>, BundleError> {
        let mut ids: Vec<_> = entries(&self.containers())?
            .iter()
            .filter_map(|name| ContainerId::new(name))
            .collect();
        ids.sort_unstable();
        Ok(ids)
    }

    /// Returns the directories that creations (`.new-`) and removals (`.gone-`) left when they were killed.
    pub fn leftovers(&self) -> Result<Vec<PathBuf>, BundleError> {
        let containers = self.containers();
        Ok(entries(&containers)?
            .iter()
            .filter(|name| name.starts_with(".new-") || name.starts_with(".gone-"))
            .map(|name| containers.join(name))
            .collect())
    }

    /// Returns the records of containers whose removal was interrupted.
    pub fn half_removed(&self) -> Result<Vec<Record>, BundleError> {
        let mut records = Vec::new();
        for path in self.leftovers()? {
            if let Ok(Some(record)) = record::read::<Record>(&path.join("record.json"))
                && path == self.being_removed(&record.id)
            {
                records.push(record);
            }
        }
        Ok(records)
    }

    /// Makes generation `number` inside `container`, a container's directory: empty `upper` and `work`, and `config.json`.
    pub fn make_generation(
        &self,
        container: &Path,
        number: u32,
        (id, config): (&ContainerId, &ContainerConfig),
        durability: Durability,
    ) -> Result<(), BundleError> {
        let directory = container.join("gen").join(number.to_string());
        make_directory(&directory)?;
        // The root of the container as its processes see it: everybody may pass.
        make(&directory.join("upper"), 0o755)?;
        make(&directory.join("work"), 0o700)?;
        let value = oci::render(config, &format!("/stack-{}/{id}", self.instance))
            .map_err(|error| BundleError::Render(config.name.clone(), error))?;
        let path = directory.join("config.json");
        let bytes =
            serde_json::to_vec(&value).map_err(|error| RecordError::Parse(path.clone(), error))?;
        atomic::write(&path, &bytes, 0o600, durability)
            .map_err(|error| BundleError::Make(path, error))
    }
}

/// Tells whether `name` can name a container: a file name of at most 200 bytes of `[a-zA-Z0-9][a-zA-Z0-9_.-]*`.
pub fn is_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    (1..=200).contains(&name.len())
        && name
            .as_bytes()
            .first()
            .is_some_and(u8::is_ascii_alphanumeric)
        && name.bytes().all(plain)
}

/// Makes a directory and its parents, mode 0700.
pub(crate) fn make_directory(path: &Path) -> Result<(), BundleError> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|error| BundleError::Make(path.to_owned(), error))
}

/// Has ext4 put each directory that is made in `directory` into a block group of its own, as it does at the top of a disk:
/// they have nothing to do with each other, and it looks again at each inode of a group that was freed within seconds
/// (`man 1 chattr`, `T`). Other file systems have no such mark, and none is needed.
fn spread(directory: &Path) {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    // Nothing but speed depends on it.
    let _marked = rustix::fs::open(directory, flags, Mode::empty()).and_then(|opened| {
        let marks = rustix::fs::ioctl_getflags(&opened)?;
        rustix::fs::ioctl_setflags(&opened, marks | IFlags::TOPDIR)
    });
}

/// Makes one directory with these permission bits whatever the umask.
fn make(path: &Path, mode: u32) -> Result<(), BundleError> {
    let wrap = |error| BundleError::Make(path.to_owned(), error);
    std::fs::DirBuilder::new()
        .mode(mode)
        .create(path)
        .map_err(wrap)?;
    let permissions = std::os::unix::fs::PermissionsExt::from_mode(mode);
    fs_err::set_permissions(path, permissions).map_err(wrap)
}

/// Returns the names of the entries of `directory`.
fn entries(directory: &Path) -> Result<Vec<String>, BundleError> {
    let wrap = |error| BundleError::List(directory.to_owned(), error);
    let mut names = Vec::new();
    for entry in fs_err::read_dir(directory).map_err(wrap)? {
        if let Ok(name) = entry.map_err(wrap)?.file_name().into_string() {
            names.push(name);
        }
    }
    names.sort_unstable();
    Ok(names)
}
