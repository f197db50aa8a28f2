//! `COPY` and `ADD` steps of a build: what they say ([`expanded`]), where that is ([`sources`]), and the copy itself.

use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::rc::Rc;

use super::super::dockerfile::instruction::Transfer;
use super::super::reference::Digest;
use super::super::store::Staging;
use super::cache::Key;
use super::context::{FileIndex, Origin, Owners, Selected};
use super::contexts::Local;
use super::copy::{Destination, Filling, Owner};
use super::error::StepFailure;
use super::pattern::IgnoreRules;
use super::plan::Base;
use super::tree::{Last, Node, Tree};
use super::work::{Cached, Found, StageWork};
use super::{BuildEvent, StepLabel, archive};
use expanded::{Expanded, Keyword};
use sources::Piece;

mod expanded;
mod sources;

impl StageWork<'_, '_> {
    /// Does a `COPY`.
    pub(super) async fn copy(
        &mut self,
        transfer: &Transfer,
        from: Option<&Base>,
        label: StepLabel<'_>,
    ) -> Result<Cached, StepFailure> {
        let expanded = self.expand(transfer, Keyword::Copy)?;
        let Some(from) = from else {
            let key = self.key_of_transfer("copy", transfer, &expanded)?;
            return self.copy_context(&expanded, None, key, label).await;
        };
        if let Base::Context(name) = from
            && let Some(local) = self.build.directory_context(name).await?
        {
            let key = self.key_of_transfer("copy", transfer, &expanded)?;
            return self.copy_context(&expanded, Some(local), key, label).await;
        }
        let layers = self.layers_of(from).await?;
        self.copy_layers(transfer, &expanded, &layers, label).await
    }

    /// Does an `ADD`.
    pub(super) async fn add(
        &mut self,
        transfer: &Transfer,
        label: StepLabel<'_>,
    ) -> Result<Cached, StepFailure> {
        let expanded = self.expand(transfer, Keyword::Add)?;
        let key = self.key_of_transfer("add", transfer, &expanded)?;
        self.copy_context(&expanded, None, key, label).await
    }

    /// Begins the key of a `COPY` or `ADD`: above the layers below; with `--link` above nothing, but for what the layer repeats of them,
    /// the directories that lead to the destination.
    fn key_of_transfer(
        &self,
        kind: &'static str,
        transfer: &Transfer,
        expanded: &Expanded,
    ) -> Result<Key, StepFailure> {
        // What `--parents` makes depends on every directory that is there.
        let is_free = transfer.link && !transfer.parents;
        let leading = if is_free {
            self.leading_to(&expanded.destination)?
        } else {
            None
        };
        let key = match leading {
            None => self.key(kind),
            Some(leading) => self
                .key_above(kind, &[])
                .with_all("directories above the destination", &leading),
        };
        Ok(expanded.add_to(key, transfer))
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

    /// Copies from the context.
    async fn copy_context(
        &mut self,
        expanded: &Expanded,
        named: Option<Rc<Local>>,
        key: Key,
        label: StepLabel<'_>,
    ) -> Result<Cached, StepFailure> {
        let build = self.build;
        let local: &Local = match &named {
            Some(named) => named,
            None => &build.context,
        };
        let origin = local.origin();
        let found = sources::find(build, &origin, expanded).await?;
        let key = key.with_hashed("files", |hash| {
            let mut index = local.index.borrow_mut();
            sources::hash(hash, &found, Owners::Ignored, &mut index)
        })?;
        let mut claim = match self.find(key.finish(), &expanded.by, label).await? {
            Found::Layer => return Ok(Cached::Yes),
            Found::Nothing(claim) => claim,
        };
        self.start(label);
        let pieces = sources::obtain(build, found, expanded).await?;
        let (staging, steady) = self.fill(&pieces, expanded)?;
        if !steady || pieces.iter().any(|piece| piece.is_other) {
            claim.key = None;
        }
        self.commit(staging, claim, expanded.by.clone())?;
        Ok(Cached::No)
    }

    /// Copies from layers. The layers themselves make a first key, so that nothing is read where they are the same; the content that
    /// is taken makes a second one, so that a stage that was built again to the same end changes nothing after it.
    async fn copy_layers(
        &mut self,
        transfer: &Transfer,
        expanded: &Expanded,
        from: &[Digest],
        label: StepLabel<'_>,
    ) -> Result<Cached, StepFailure> {
        let build = self.build;
        let from_hexes: Vec<&str> = from.iter().map(Digest::hex).collect();
        let first = self
            .key_of_transfer("copy layers", transfer, expanded)?
            .with_all("layers copied from", &from_hexes)
            .finish();
        if self.take(&first.hex, &expanded.by).await? {
            return Ok(Cached::Yes);
        }
        let tree = Tree::layers(build.directories(from));
        let name = format!("`{}`", transfer.from.as_deref().unwrap_or_default());
        let origin = Origin {
            tree: &tree,
            ignore: &IgnoreRules::default(),
            name: &name,
        };
        let found = sources::find(build, &origin, expanded).await?;
        let second = self.key_of_transfer("copy content", transfer, expanded)?;
        let second = second.with_hashed("files", |hash| {
            let mut unknown = FileIndex::none();
            sources::hash(hash, &found, Owners::Counted, &mut unknown)
        })?;
        let second = second.finish();
        let full = second.hex.clone();
        let claim = match self.find(second, &expanded.by, label).await? {
            Found::Layer => {
                self.alias(&first, &full)?;
                return Ok(Cached::Yes);
            }
            Found::Nothing(claim) => claim,
        };
        self.start(label);
        let pieces = sources::obtain(build, found, expanded).await?;
        let (staging, _) = self.fill(&pieces, expanded)?;
        self.commit(staging, claim, expanded.by.clone())?;
        self.settle().await?;
        self.alias(&first, &full)?;
        Ok(Cached::No)
    }

    /// Copies into a new staging directory; returns it, and whether every file held still meanwhile.
    fn fill(&self, pieces: &[Piece], expanded: &Expanded) -> Result<(Staging, bool), StepFailure> {
        let staging = self.build.store().staging()?;
        let layers = self.directories();
        let Expanded {
            destination, style, ..
        } = expanded;
        // A name that several files get one after the other is a mistake, and BuildKit makes it.
        let selected = pieces.iter().flat_map(|piece| &piece.selected);
        let files = selected.filter(|source| {
            let first = source.entries.first();
            first.is_some_and(|entry| !entry.metadata.is_dir())
        });
        if files.count() + expanded.documents.len() > 1 && !destination.is_directory {
            let resolved = Tree::layers(layers.clone()).resolve(&destination.path, Last::Follow)?;
            if !resolved.node.is_some_and(|node| node.metadata.is_dir()) {
                let text = format!(
                    "several files are copied to `/{}`, of which the last stays: a directory's name ends with a /",
                    destination.path.display()
                );
                self.build.progress.event(BuildEvent::Warning(&text));
            }
        }
        let mut filling = Filling::new(&staging.diff(), &layers);
        for piece in pieces {
            for source in &piece.selected {
                let owner = expanded.unpack_owner;
                if !(piece.unpacks && unpack(&mut filling, source, destination, owner)?) {
                    filling.copy(source, destination, style)?;
                }
            }
        }
        for (name, content) in &expanded.documents {
            filling.document(name, content, destination, style)?;
        }
        filling.finish()?;
        self.build.warn_of_changes(&filling.unsteady);
        let steady = filling.unsteady.is_empty();
        Ok((staging, steady))
    }

    /// Expands a `COPY` or `ADD`.
    fn expand(&self, transfer: &Transfer, keyword: Keyword) -> Result<Expanded, StepFailure> {
        let tree = || Tree::layers(self.directories());
        let escape = self.build.given.escape;
        Expanded::of(transfer, keyword, &self.state, escape, tree)
    }
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
