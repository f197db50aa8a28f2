//! `COPY` and `ADD` steps of a build: what they say ([`expanded`]), where that is ([`sources`]), and the copy itself.

use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Arc;

use super::super::dockerfile::instruction::Transfer;
use super::super::reference::Digest;
use super::super::stop::Stop;
use super::super::store::Staging;
use super::cache::Key;
use super::context::{Owners, Selected};
use super::contexts::Local;
use super::copy::{Destination, Filling, Owner, Style};
use super::error::StepFailure;
use super::plan::Base;
use super::tree::{Last, Node, Tree};
use super::work::{Cached, Found, StageWork};
use super::{BuildEvent, StepLabel, archive};
use expanded::Styled;
use sources::Piece;

pub(super) use expanded::{Expanded, Keyword, Source};

mod expanded;
mod sources;

impl StageWork<'_, '_> {
    /// Does a `COPY`.
    pub(super) async fn copy(
        &mut self,
        (transfer, expanded): (&Transfer, &Arc<Expanded>),
        from: Option<&Base>,
        label: StepLabel<'_>,
    ) -> Result<Cached, StepFailure> {
        let styled = self.style(expanded)?;
        let Some(from) = from else {
            let key = self.key_of_transfer("copy", transfer, &styled)?;
            let local = Arc::clone(&self.build.context);
            return self.copy_context(&styled, local, key, label).await;
        };
        if let Base::Context(name) = from
            && let Some(local) = self.build.directory_context(name).await?
        {
            let key = self.key_of_transfer("copy", transfer, &styled)?;
            return self.copy_context(&styled, local, key, label).await;
        }
        let layers = self.layers_of(from).await?;
        self.copy_layers(transfer, &styled, &layers, label).await
    }

    /// Does an `ADD`.
    pub(super) async fn add(
        &mut self,
        (transfer, expanded): (&Transfer, &Arc<Expanded>),
        label: StepLabel<'_>,
    ) -> Result<Cached, StepFailure> {
        let styled = self.style(expanded)?;
        let key = self.key_of_transfer("add", transfer, &styled)?;
        let local = Arc::clone(&self.build.context);
        self.copy_context(&styled, local, key, label).await
    }

    /// Begins the key of a `COPY` or `ADD`: above the layers below; with `--link` above nothing, but for what the layer repeats of them,
    /// the directories that lead to the destination.
    fn key_of_transfer(
        &self,
        kind: &'static str,
        transfer: &Transfer,
        styled: &Styled,
    ) -> Result<Key, StepFailure> {
        // What `--parents` makes depends on every directory that is there.
        let is_free = transfer.link && !transfer.parents;
        let leading = if is_free {
            self.leading_to(&styled.expanded.destination)?
        } else {
            None
        };
        let key = match leading {
            None => self.key(kind),
            Some(leading) => self
                .key_above(kind, &[])
                .with_all("directories above the destination", &leading),
        };
        Ok(styled.add_to(key, transfer))
    }

    /// Describes the directories that lead to a destination; `None` where something else is in the way.
    fn leading_to(&self, destination: &Destination) -> Result<Option<Vec<String>>, StepFailure> {
        let tree = Tree::layers(self.directories());
        let resolved = match tree.resolve(&destination.path, Last::Follow) {
            Err(error) if error.kind() == std::io::ErrorKind::NotADirectory => return Ok(None),
            resolved => resolved?,
        };
        let (mut so_far, mut leading) = (PathBuf::new(), Vec::new());
        for part in &resolved.path {
            so_far.push(part);
            let facts = match tree.resolve(&so_far, Last::Keep)?.node {
                None => "-".to_owned(),
                Some(node) if !node.metadata.is_dir() => "file".to_owned(),
                Some(Node { metadata, .. }) => {
                    let mode = metadata.mode() & 0o7777;
                    format!("{mode:o} {}:{}", metadata.uid(), metadata.gid())
                }
            };
            leading.push(format!("{} {facts}", so_far.display()));
        }
        Ok(Some(leading))
    }

    /// Copies from a context.
    async fn copy_context(
        &mut self,
        styled: &Styled,
        local: Arc<Local>,
        key: Key,
        label: StepLabel<'_>,
    ) -> Result<Cached, StepFailure> {
        let (build, expanded) = (self.build, &styled.expanded);
        build.progress.event(BuildEvent::Looking(label));
        let looked = sources::look(build, local, expanded, Owners::Ignored).await?;
        let key = key.with_digest("files", looked.digest).finish();
        let mut claim = match self.find(key, &expanded.by, label).await? {
            Found::Layer => return Ok(Cached::Yes),
            Found::Nothing(claim) => claim,
        };
        self.start(label);
        let pieces = sources::obtain(build, looked.found, expanded).await?;
        let (staging, is_steady) = self.fill(pieces, styled).await?;
        if !is_steady {
            claim.key = None;
        }
        self.commit(staging, claim, expanded.by.clone()).await?;
        Ok(Cached::No)
    }

    /// Copies from layers. The layers themselves make a first key, so that nothing is read where they are the same; the content that
    /// is taken makes a second one, so that a stage that was built again to the same end changes nothing after it.
    async fn copy_layers(
        &mut self,
        transfer: &Transfer,
        styled: &Styled,
        from: &[Digest],
        label: StepLabel<'_>,
    ) -> Result<Cached, StepFailure> {
        let (build, expanded) = (self.build, &styled.expanded);
        let from_hexes: Vec<&str> = from.iter().map(Digest::hex).collect();
        let first = self
            .key_of_transfer("copy layers", transfer, styled)?
            .with_all("layers copied from", &from_hexes)
            .finish();
        if self.take(&first.hex, &expanded.by).await? {
            return Ok(Cached::Yes);
        }
        let name = format!("`{}`", transfer.from.as_deref().unwrap_or_default());
        let local = Arc::new(Local::layers(build.directories(from), name));
        build.progress.event(BuildEvent::Looking(label));
        let looked = sources::look(build, local, expanded, Owners::Counted).await?;
        let second = self.key_of_transfer("copy content", transfer, styled)?;
        let second = second.with_digest("files", looked.digest).finish();
        let full = second.hex.clone();
        let claim = match self.find(second, &expanded.by, label).await? {
            Found::Layer => {
                self.alias(&first, &full)?;
                return Ok(Cached::Yes);
            }
            Found::Nothing(claim) => claim,
        };
        self.start(label);
        let pieces = sources::obtain(build, looked.found, expanded).await?;
        let (staging, _) = self.fill(pieces, styled).await?;
        self.commit(staging, claim, expanded.by.clone()).await?;
        self.settle().await?;
        self.alias(&first, &full)?;
        Ok(Cached::No)
    }

    /// Copies into a new staging directory; returns it, and whether what was copied is what was found.
    async fn fill(
        &self,
        pieces: Vec<Piece>,
        styled: &Styled,
    ) -> Result<(Staging, bool), StepFailure> {
        let copy = Copy {
            pieces,
            expanded: Arc::clone(&styled.expanded),
            style: styled.style.clone(),
            unpack_owner: styled.unpack_owner,
            layers: self.directories(),
            staging: self.build.store().staging()?,
        };
        let copied = self.build.aside.run(move |stop| copy.run(stop));
        let copied = copied.await??;
        if copied.is_ambiguous {
            let text = format!(
                "several files are copied to `{}`, of which the last stays: a directory's name ends with a /",
                styled.expanded.destination.path.display()
            );
            self.build.progress.event(BuildEvent::Warning(&text));
        }
        self.build.warn_of_changes(&copied.changed);
        let is_steady = copied.changed.is_empty() && !copied.is_other;
        Ok((copied.staging, is_steady))
    }

    /// Finds out whose files a `COPY` or `ADD` makes.
    fn style(&self, expanded: &Arc<Expanded>) -> Result<Styled, StepFailure> {
        expanded.styled(|| Tree::layers(self.directories()))
    }
}

/// A copy that is to be made.
struct Copy {
    pieces: Vec<Piece>,
    expanded: Arc<Expanded>,
    style: Style,
    /// Of the members of archives.
    unpack_owner: Option<Owner>,
    /// What it lies above, top first.
    layers: Vec<PathBuf>,
    staging: Staging,
}

/// What a copy came to.
struct Copied {
    staging: Staging,
    /// What was not what it had been when it was hashed.
    changed: Vec<PathBuf>,
    /// Whether something was fetched that is not what was found.
    is_other: bool,
    /// Whether several files got one name.
    is_ambiguous: bool,
}

impl Copy {
    /// Makes it, file by file.
    fn run(self, stop: &Stop) -> Result<Copied, StepFailure> {
        let destination = &self.expanded.destination;
        let (mut taken, mut is_other, mut kept) = (Vec::new(), false, Vec::new());
        for piece in self.pieces {
            match piece {
                Piece::Selected(selected) => taken.push((selected, self.expanded.unpacks.0)),
                Piece::Fetched {
                    staging,
                    root,
                    path,
                    name,
                    unpacks,
                    is_other: is_new,
                } => {
                    let mut selected = sources::select(&root, &path, &self.expanded, stop)?;
                    for source in &mut selected {
                        source.name = name.as_ref().map_or(source.name.clone(), Into::into);
                    }
                    is_other |= is_new;
                    taken.push((selected, unpacks));
                    kept.push(staging);
                }
            }
        }
        let is_ambiguous = is_ambiguous(&taken, &self.expanded, &self.layers)?;
        let mut filling = Filling::new(&self.staging.diff(), &self.layers).heeding(stop);
        for (selected, unpacks) in &taken {
            for source in selected {
                let owner = self.unpack_owner;
                if !(*unpacks && unpack(&mut filling, source, destination, owner)?) {
                    filling.copy(source, destination, &self.style)?;
                }
            }
        }
        for (name, content) in &self.expanded.documents {
            filling.document(name, content, destination, &self.style)?;
        }
        filling.finish()?;
        drop(kept);
        Ok(Copied {
            staging: self.staging,
            changed: filling.unsteady,
            is_other,
            is_ambiguous,
        })
    }
}

/// Whether several files get one name after the other, which is a mistake, and BuildKit makes it.
fn is_ambiguous(
    taken: &[(Vec<Selected>, bool)],
    expanded: &Expanded,
    layers: &[PathBuf],
) -> std::io::Result<bool> {
    let Expanded {
        destination,
        documents,
        ..
    } = expanded;
    let files = taken.iter().flat_map(|(selected, _)| selected);
    let files = files.filter(|source| {
        let first = source.entries.first();
        first.is_some_and(|entry| !entry.metadata.is_dir())
    });
    if files.count() + documents.len() <= 1 || destination.is_directory {
        return Ok(false);
    }
    let tree = Tree::layers(layers.to_vec());
    let resolved = tree.resolve(&destination.path, Last::Follow)?;
    Ok(!resolved.node.is_some_and(|node| node.metadata.is_dir()))
}

/// Unpacks a source that is an archive; returns whether it is one.
fn unpack(
    filling: &mut Filling,
    source: &Selected,
    destination: &Destination,
    owner: Option<Owner>,
) -> Result<bool, StepFailure> {
    let Some(entry) = source.entries.first().filter(|e| e.metadata.is_file()) else {
        return Ok(false);
    };
    let kind = archive::kind_of(&entry.host)?;
    let Some(reader) = archive::open(&entry.host, kind)? else {
        return Ok(false);
    };
    filling.unpack(reader, destination, owner)?;
    Ok(true)
}
