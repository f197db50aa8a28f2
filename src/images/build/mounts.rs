//! The mounts of a `RUN`: what they add to its key, and what is mounted when it runs.
//!
//! | type | in the key | at the run |
//! | --- | --- | --- |
//! | bind | the content of the source, or the layers it is in | a copy of that part of the context, or the layers as they are; writes go to a directory that is thrown away |
//! | cache | its name where it is given, its seed | `cache/mounts/…`: see [`super::caches`] |
//! | tmpfs | its size | memory |
//! | secret, ssh | name, owner, mode | a file in memory; a socket |
//!
//! Files are copied from the context since rules may leave some out, since they are root's in a build whoever has them outside, and since
//! they must hold still while a step reads them.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use super::super::dockerfile::mount::{Access, MountKind, Sharing};
use super::super::stop::Stop;
use super::super::store::Staging;
use super::caches::Held;
use super::context::{self, Origin, Owners, Selected};
use super::contexts::{ContextCopy, Local};
use super::copy::{Destination, Filling, Owner, Style, open_regular};
use super::error::StepFailure;
use super::pattern::{self, IgnoreRules};
use super::plan::Base;
use super::resolve::ResolvedMount;
use super::step::{StepFile, StepMount, StepSource};
use super::tree::{Last, Node, Tree};
use super::work::StageWork;
use crate::sys::paths;

/// The mounts of a `RUN`, with all that its key needs.
#[derive(Default)]
pub(super) struct Asked {
    mounts: Vec<AskedMount>,
    /// Adds to the key: with the layers that files come from.
    pub(super) by_layers: Vec<String>,
    /// The same with the content of the files, where that says more.
    pub(super) by_content: Option<Vec<String>>,
}

/// One of them.
struct AskedMount {
    kind: MountKind,
    /// Absolute and clean; empty where there is none.
    target: String,
    /// Where its files come from.
    files: Option<Files>,
    /// A digest of the files.
    digest: String,
}

/// Files to mount, or to begin a cache with.
#[derive(Clone)]
enum Files {
    /// Of the context.
    Context(Arc<Vec<Selected>>),
    /// Of layers, top first: the node of the source.
    Layers(Box<Node>),
    /// Nothing at all.
    Empty,
}

/// What a step is given, and what must live as long as it runs.
#[derive(Default)]
pub(super) struct Prepared {
    pub(super) mounts: Vec<StepMount>,
    /// `NAME=value`, not in the key.
    pub(super) env: Vec<String>,
    /// The same of secrets.
    pub(super) secret_env: Vec<OsString>,
    /// Whether what is mounted is not what was hashed: it changed in between.
    pub(super) is_unsteady: bool,
    /// Copies and caches.
    held: Vec<Kept>,
}

/// A cache that a step wants.
struct Wanted<'a> {
    /// The strictest of its mounts.
    sharing: Sharing,
    access: Access,
    /// What it begins with.
    files: Option<&'a Files>,
    /// Where it is mounted: places in [`Asked`].
    mounts: Vec<usize>,
}

/// What must not go while a step runs.
enum Kept {
    #[expect(dead_code, reason = "held, not read")]
    Copy(Rc<ContextCopy>),
    #[expect(dead_code, reason = "held, not read")]
    Cache(Rc<Held>),
}

impl Prepared {
    /// Returns the mount points that the step needs: path, and whether it is a directory.
    pub(super) fn points(&self) -> Vec<(PathBuf, bool)> {
        let mounts = self.mounts.iter();
        mounts
            .map(|mount| {
                let is_directory = match &mount.source {
                    StepSource::Host(path) => path.is_dir(),
                    StepSource::Inside { is_directory, .. } => *is_directory,
                    StepSource::Layers { .. } | StepSource::Tmpfs(_) => true,
                    StepSource::File(_) | StepSource::Agent { .. } => false,
                };
                (PathBuf::from(&mount.target), is_directory)
            })
            .collect()
    }
}

/// Returns the path of a mount's source in a context.
pub(super) fn source_path(source: &str) -> PathBuf {
    let source = if source.is_empty() { "." } else { source };
    PathBuf::from(pattern::clean(source))
}

impl StageWork<'_, '_> {
    /// Finds what the mounts of a `RUN` take. Waits for the stages that they take from: no lock may be held.
    pub(super) async fn ask_for_mounts(
        &mut self,
        mounts: &[ResolvedMount],
        froms: &[Option<Base>],
    ) -> Result<Asked, StepFailure> {
        let mut asked = Asked::default();
        let mut by_content = Vec::new();
        for (mount, from) in mounts.iter().zip(froms) {
            let (source, uses_context) = match &mount.kind {
                MountKind::Bind { source, .. } => (source.as_str(), from.is_none()),
                MountKind::Cache { source, .. } if from.is_some() => (source.as_str(), false),
                _ => ("", false),
            };
            let mut found = AskedMount {
                target: mount.target.clone(),
                files: None,
                digest: String::new(),
                kind: mount.kind.clone(),
            };
            let told = describe(&found.kind, &found.target);
            let (mut layers, mut content) = (told.clone(), told);
            if uses_context {
                let selected = self.select_context(&self.build.context, source);
                let (selected, digest) = selected.await?;
                found.files = Some(Files::Context(selected));
                layers.push_str(&digest);
                content.push_str(&digest);
                found.digest = digest;
            } else if let Some(from) = from {
                let (files, quick, full) = self.select_layers(from, source).await?;
                found.files = Some(files);
                layers.push_str(&quick);
                content.push_str(&full);
                found.digest = full;
            }
            asked.by_layers.push(layers);
            by_content.push(content);
            asked.mounts.push(found);
        }
        asked.by_content = (by_content != asked.by_layers).then_some(by_content);
        Ok(asked)
    }

    /// Finds a source in a context; returns it with a digest of the content.
    async fn select_context(
        &self,
        context: &Arc<Local>,
        source: &str,
    ) -> Result<(Arc<Vec<Selected>>, String), StepFailure> {
        let path = source_path(source);
        let selected = context.select(&self.build.aside, &path, Owners::Ignored);
        selected.await
    }

    /// Finds a source in layers; returns it with a digest of the layers, and one of the content where only a part is wanted.
    async fn select_layers(
        &mut self,
        from: &Base,
        source: &str,
    ) -> Result<(Files, String, String), StepFailure> {
        // A stage must not be waited for with a lock.
        self.settle().await?;
        if let Base::Context(name) = from
            && let Some(context) = self.build.directory_context(name).await?
        {
            let (selected, digest) = self.select_context(&context, source).await?;
            return Ok((Files::Context(selected), digest.clone(), digest));
        }
        let layers = self.layers_of(from).await?;
        let hexes: Vec<&str> = layers
            .iter()
            .map(super::super::reference::Digest::hex)
            .collect();
        let quick = format!("{}:{source}", hexes.join(" "));
        if layers.is_empty() {
            return Ok((Files::Empty, quick.clone(), quick));
        }
        let directories = self.build.directories(&layers);
        let local = Arc::new(Local::layers(directories, "the layers".to_owned()));
        let path = Path::new("/").join(source);
        let resolved = local.tree.resolve(&path, Last::Follow)?;
        let node = resolved.node.ok_or_else(|| {
            let name = match from {
                Base::Stage(_) => "the stage".to_owned(),
                Base::Image(name) | Base::Context(name) => format!("`{name}`"),
                Base::Scratch => "scratch".to_owned(),
            };
            context::ContextError::NotFound(source.to_owned(), name)
        })?;
        let full = if resolved.path.as_os_str().is_empty() {
            quick.clone()
        } else {
            let aside = &self.build.aside;
            let selected = local.select(aside, &resolved.path, Owners::Counted);
            selected.await?.1
        };
        Ok((Files::Layers(Box::new(node)), quick, full))
    }

    /// Makes ready what is mounted, with room for it in the step's staging directory. Waits for caches that others use.
    pub(super) async fn prepare_mounts(
        &self,
        asked: &Asked,
        staging: &Path,
    ) -> Result<Prepared, StepFailure> {
        let mut prepared = Prepared::default();
        let mut held = self.hold_caches(asked).await?;
        let mut agents = 0;
        for (index, mount) in asked.mounts.iter().enumerate() {
            let room = staging.join(format!("mount-{index}"));
            let made = match held.remove(&index) {
                Some(cache) => Some(cached(mount, cache, &mut prepared)?),
                None => self.source_of(mount, &room, &mut prepared).await?,
            };
            let Some((source, read_only)) = made else {
                continue;
            };
            let mut target = mount.target.clone();
            if matches!(source, StepSource::Agent { .. }) {
                if target.is_empty() {
                    target = format!("/run/buildkit/ssh_agent.{agents}");
                }
                if agents == 0 {
                    prepared.env.push(format!("SSH_AUTH_SOCK={target}"));
                }
                agents += 1;
            }
            prepared.mounts.push(StepMount {
                target,
                source,
                read_only,
            });
        }
        // Parents first; of one target the last stays on top.
        let depth = |mount: &StepMount| mount.target.matches('/').count();
        prepared.mounts.sort_by_key(depth);
        Ok(prepared)
    }

    /// Returns what is mounted, and whether it can only be read; `None` where nothing is.
    async fn source_of(
        &self,
        mount: &AskedMount,
        room: &Path,
        prepared: &mut Prepared,
    ) -> Result<Option<(StepSource, bool)>, StepFailure> {
        Ok(match &mount.kind {
            MountKind::Bind { writable, .. } => {
                Some(self.bind(mount, *writable, room, prepared).await?)
            }
            MountKind::Cache { .. } => {
                return Err(StepFailure::Invalid("its cache was not found"));
            }
            MountKind::Tmpfs { size_bytes } => {
                let size = Some(*size_bytes).filter(|size| *size > 0);
                Some((StepSource::Tmpfs(size), false))
            }
            MountKind::Secret {
                id,
                env,
                required,
                access,
            } => {
                let Some(content) = self.build.secret(id, *required)? else {
                    return Ok(None);
                };
                if let Some(name) = env {
                    if content.contains(&0) {
                        return Err(StepFailure::SecretNul(id.clone(), name.clone()));
                    }
                    let mut line = OsString::from(format!("{name}="));
                    line.push(OsStr::from_bytes(&content));
                    prepared.secret_env.push(line);
                }
                let (uid, gid, mode) = owner_and_mode(*access, 0o400);
                let file = StepFile {
                    content,
                    uid,
                    gid,
                    mode,
                };
                (!mount.target.is_empty()).then_some((StepSource::File(file), true))
            }
            MountKind::Ssh {
                id,
                required,
                access,
            } => {
                let (uid, gid, mode) = owner_and_mode(*access, 0o600);
                let socket = self.build.agent(id, *required)?;
                socket.map(|socket| {
                    let agent = StepSource::Agent {
                        socket,
                        uid,
                        gid,
                        mode,
                    };
                    (agent, false)
                })
            }
        })
    }

    /// Returns what is bound, and whether it can only be read.
    async fn bind(
        &self,
        mount: &AskedMount,
        writable: bool,
        room: &Path,
        prepared: &mut Prepared,
    ) -> Result<(StepSource, bool), StepFailure> {
        fs_err::create_dir(room)?;
        let empty = || {
            let path = room.join("empty");
            fs_err::create_dir(&path).map(|()| path)
        };
        let (top, mut lowers) = match &mount.files {
            Some(Files::Context(selected)) => {
                let copy = self.build.copy_of(&mount.digest, selected).await?;
                prepared.is_unsteady |= copy.is_unsteady;
                let top = top_of(&copy.staging, selected);
                prepared.held.push(Kept::Copy(copy));
                (top, Vec::new())
            }
            Some(Files::Layers(node)) if node.metadata.is_dir() => {
                let mut lowers = node.parts().to_vec();
                let top = if lowers.is_empty() {
                    empty()?
                } else {
                    lowers.remove(0)
                };
                // Marks of what layers hide mean something only in an overlay, which has two of them at least.
                lowers.push(empty()?);
                (top, lowers)
            }
            Some(Files::Layers(node)) => (node.host.clone(), Vec::new()),
            Some(Files::Empty) | None => (empty()?, Vec::new()),
        };
        if !writable && lowers.is_empty() {
            return Ok((StepSource::Host(top), true));
        }
        if writable && !top.is_dir() {
            let copy = room.join("file");
            // A layer may have devices and pipes: reading one would be reading the machine's.
            let mut source = open_regular(&top)?;
            let mode = source.metadata()?.permissions();
            let mut file = fs_err::File::create(&copy)?;
            std::io::copy(&mut source, &mut file)?;
            file.set_permissions(mode)?;
            return Ok((StepSource::Host(copy), false));
        }
        if lowers.is_empty() {
            lowers.push(empty()?);
        }
        lowers.insert(0, top);
        let scratch = if writable {
            let (upper, work) = (room.join("upper"), room.join("work"));
            fs_err::create_dir(&upper)?;
            fs_err::create_dir(&work)?;
            Some((upper, work))
        } else {
            None
        };
        Ok((StepSource::Layers { lowers, scratch }, !writable))
    }

    /// Takes the caches of a step, in an order that is the same for all; one that is mounted in several places once.
    async fn hold_caches(&self, asked: &Asked) -> Result<BTreeMap<usize, Rc<Held>>, StepFailure> {
        let mut wanted: BTreeMap<String, Wanted<'_>> = BTreeMap::new();
        for (index, mount) in asked.mounts.iter().enumerate() {
            let MountKind::Cache {
                id,
                sharing,
                access,
                source,
                ..
            } = &mount.kind
            else {
                continue;
            };
            let namespace = self.build.given.arguments.get("BUILDKIT_CACHE_MOUNT_NS");
            let name = super::caches::name_of(
                namespace.map_or("", String::as_str),
                id.as_deref().unwrap_or(&mount.target),
                // Owner and mode say how it begins only where it begins as a whole.
                if mount.files.is_some() || source.trim_matches('/').is_empty() {
                    *access
                } else {
                    Access::default()
                },
                &mount.digest,
            );
            let cache = wanted.entry(name).or_insert_with(|| Wanted {
                sharing: *sharing,
                access: *access,
                files: mount.files.as_ref(),
                mounts: Vec::new(),
            });
            cache.sharing = stricter(cache.sharing, *sharing);
            cache.mounts.push(index);
        }
        let mut held = BTreeMap::new();
        for (name, cache) in wanted {
            let Wanted { files, access, .. } = cache;
            let seeded = files.is_some() || access != Access::default();
            let fresh = seeded && self.build.skips_cache(self.stage);
            let files = files.cloned();
            let fill =
                move |path: &Path, stop: &Stop| fill_cache(files.as_ref(), access, path, stop);
            let taken = self.build.hold_cache(&name, cache.sharing, fresh, fill);
            let taken = Rc::new(taken.await?);
            let mounts = cache.mounts.into_iter();
            held.extend(mounts.map(|index| (index, Rc::clone(&taken))));
        }
        Ok(held)
    }
}

/// Begins a cache.
fn fill_cache(
    files: Option<&Files>,
    access: Access,
    path: &Path,
    stop: &Stop,
) -> Result<(), StepFailure> {
    match files {
        None | Some(Files::Empty) => {}
        Some(Files::Context(selected)) => {
            // Its name says what it began with, in every build after this one.
            if let Some(changed) = copy_into(selected, path, stop)?.first() {
                return Err(StepFailure::Changed(changed.clone()));
            }
        }
        Some(Files::Layers(node)) => {
            let tree = Tree::layers(node.parts().to_vec());
            let origin = Origin {
                tree: &tree,
                ignore: &IgnoreRules::default(),
                name: "the seed of the cache",
                stop,
            };
            let selected = origin.take_path(Path::new(""), &IgnoreRules::default())?;
            let style = Style {
                owner: None,
                mode: None,
            };
            fill(&selected, path, &style, stop)?;
        }
    }
    let (uid, gid, mode) = owner_and_mode(access, 0o755);
    fs_err::os::unix::fs::lchown(path, Some(uid), Some(gid))?;
    let mode = rustix::fs::Mode::from_raw_mode(mode);
    Ok(rustix::fs::chmod(path, mode).map_err(std::io::Error::from)?)
}

/// Returns how a cache is held that is asked for in both ways.
fn stricter(a: Sharing, b: Sharing) -> Sharing {
    match (a, b) {
        (Sharing::Locked, _) | (_, Sharing::Locked) => Sharing::Locked,
        (Sharing::Private, _) | (_, Sharing::Private) => Sharing::Private,
        (Sharing::Shared, Sharing::Shared) => Sharing::Shared,
    }
}

/// Returns what of a cache is mounted, and whether it can only be read.
fn cached(
    mount: &AskedMount,
    cache: Rc<Held>,
    prepared: &mut Prepared,
) -> Result<(StepSource, bool), StepFailure> {
    let MountKind::Cache {
        writable, source, ..
    } = &mount.kind
    else {
        return Err(StepFailure::Invalid("its cache was not found"));
    };
    let data = cache.data();
    prepared.held.push(Kept::Cache(cache));
    let source = if mount.files.is_some() || source.trim_matches('/').is_empty() {
        StepSource::Host(data)
    } else {
        inside(data, source)?
    };
    Ok((source, !*writable))
}

/// Copies what was selected of a context into an empty directory, as root's; returns what changed since it was selected.
pub(super) fn copy_into(
    selected: &[Selected],
    path: &Path,
    stop: &Stop,
) -> Result<Vec<PathBuf>, StepFailure> {
    let style = Style {
        owner: Some(Owner::ROOT),
        mode: None,
    };
    Ok(fill(selected, path, &style, stop)?)
}

/// Copies what was selected into an empty directory; returns what changed since it was selected.
fn fill(
    selected: &[Selected],
    path: &Path,
    style: &Style,
    stop: &Stop,
) -> std::io::Result<Vec<PathBuf>> {
    let mut filling = Filling::plain(path).heeding(stop);
    for source in selected {
        let is_file = source
            .entries
            .first()
            .is_some_and(|entry| !entry.metadata.is_dir());
        let destination = Destination {
            path: if is_file {
                Path::new("/").join(&source.name)
            } else {
                PathBuf::from("/")
            },
            is_directory: !is_file,
        };
        filling.copy(source, &destination, style)?;
    }
    filling.finish()?;
    Ok(filling.unsteady)
}

/// Returns what of a copy is mounted: all of it, or its one file.
fn top_of(copy: &Staging, selected: &[Selected]) -> PathBuf {
    match selected {
        [only] if only.entries.first().is_some_and(|e| !e.metadata.is_dir()) => {
            copy.diff().join(&only.name)
        }
        _ => copy.diff(),
    }
}

/// Returns a part of a cache, a directory that is made if it is missing. Steps that write into the cache meanwhile may exchange its
/// names and links: it is found by the kernel, here and where it is mounted, without leaving the cache.
fn inside(data: PathBuf, source: &str) -> Result<StepSource, StepFailure> {
    let root = fs_err::File::open(&data)?;
    let path = Path::new("/").join(source);
    let found = paths::open_or_create(root.as_fd(), &path, paths::Kind::Directory)?;
    let mode = rustix::fs::fstat(&found)
        .map_err(std::io::Error::from)?
        .st_mode;
    Ok(StepSource::Inside {
        root: data,
        path,
        is_directory: rustix::fs::FileType::from_raw_mode(mode).is_dir(),
    })
}

/// Returns owner, group and mode.
fn owner_and_mode(access: Access, usual: u32) -> (u32, u32, u32) {
    (
        access.uid.unwrap_or(0),
        access.gid.unwrap_or(0),
        access.mode.unwrap_or(usual),
    )
}

/// Returns what of a mount counts, but for its files.
fn describe(kind: &MountKind, target: &str) -> String {
    let shown = |access: &Access| {
        let (uid, gid, mode) = (access.uid, access.gid, access.mode);
        format!("{uid:?} {gid:?} {mode:?}")
    };
    let what = match kind {
        MountKind::Bind { writable, .. } => format!("bind {writable} "),
        MountKind::Cache {
            id,
            writable,
            source,
            access,
            ..
        } => format!("cache {id:?} {writable} {source:?} {} ", shown(access)),
        MountKind::Tmpfs { size_bytes } => format!("tmpfs {size_bytes}"),
        MountKind::Secret {
            id,
            env,
            required,
            access,
        } => format!("secret {id:?} {env:?} {required} {}", shown(access)),
        MountKind::Ssh {
            id,
            required,
            access,
        } => format!("ssh {id:?} {required} {}", shown(access)),
    };
    format!("{target} {what}")
}
