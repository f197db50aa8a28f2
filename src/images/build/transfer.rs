//! `COPY` and `ADD` steps of a build.

use std::rc::Rc;

use super::super::dockerfile::expand;
use super::super::dockerfile::instruction::Transfer;
use super::super::reference::Digest;
use super::super::store::Staging;
use super::cache::Key;
use super::context::{self, FileIndex, Origin, Owners, Selected};
use super::contexts::Local;
use super::copy::{Destination, Filling, Owner, Style};
use super::error::StepFailure;
use super::mode::ModeChange;
use super::pattern::IgnoreRules;
use super::plan::Base;
use super::stage::StageError;
use super::tree::{Last, Tree};
use super::work::{Cached, Found, StageWork};
use super::{BuildEvent, StepLabel, archive, owner};

/// Which of the two instructions it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Keyword {
    Copy,
    /// Unpacks archives of the context.
    Add,
}

impl Keyword {
    fn as_str(self) -> &'static str {
        match self {
            Self::Copy => "COPY",
            Self::Add => "ADD",
        }
    }
}

/// A `COPY` or `ADD` with everything expanded.
struct Expanded {
    keyword: Keyword,
    sources: Vec<String>,
    documents: Vec<(String, String)>,
    destination: Destination,
    style: Style,
    /// Of the members of an archive; `None` leaves them their own.
    unpack_owner: Option<Owner>,
    exclude: IgnoreRules,
    /// How it looks in the history.
    by: String,
}

/// What is copied.
struct Copying<'a> {
    selected: &'a [Selected],
    expanded: &'a Expanded,
}

impl StageWork<'_, '_> {
    /// Does a `COPY`.
    pub(super) async fn copy(
        &mut self,
        transfer: &Transfer,
        from: Option<&Base>,
        label: StepLabel<'_>,
    ) -> Result<Cached, StepFailure> {
        if transfer.sources.iter().any(|source| is_remote(source)) {
            return Err(StepFailure::Invalid("a source can't be a URL for COPY"));
        }
        let expanded = self.expand(transfer, Keyword::Copy)?;
        let Some(from) = from else {
            let key = transfer_key(self.key("copy"), transfer, &expanded);
            return self.copy_context(&expanded, None, key, label).await;
        };
        if let Base::Context(name) = from
            && let Some(local) = self.build.directory_context(name)?
        {
            let key = transfer_key(self.key("copy"), transfer, &expanded);
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
        if let Some(remote) = expanded.sources.iter().find(|source| is_remote(source)) {
            return Err(StepFailure::NotSupported(format!("ADD of `{remote}`")));
        }
        let key = transfer_key(self.key("add"), transfer, &expanded);
        self.copy_context(&expanded, None, key, label).await
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
        let selected = select(&origin, expanded)?;
        let key = key.with_hashed("files", |hash| {
            let mut index = local.index.borrow_mut();
            context::hash_selected(hash, &selected, Owners::Ignored, &mut index)
        })?;
        let mut claim = match self.find(key.finish(), &expanded.by, label).await? {
            Found::Layer => return Ok(Cached::Yes),
            Found::Nothing(claim) => claim,
        };
        self.start(label);
        let work = Copying {
            selected: &selected,
            expanded,
        };
        let (staging, steady) = self.fill(&work)?;
        if !steady {
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
        let first = transfer_key(self.key("copy layers"), transfer, expanded)
            .with_all("layers copied from", &from_hexes)
            .finish();
        if self.take(&first.hex, &expanded.by)? {
            return Ok(Cached::Yes);
        }
        let tree = Tree::layers(build.directories(from));
        let name = format!("`{}`", transfer.from.as_deref().unwrap_or_default());
        let origin = Origin {
            tree: &tree,
            ignore: &IgnoreRules::default(),
            name: &name,
        };
        let selected = select(&origin, expanded)?;
        let second = transfer_key(self.key("copy content"), transfer, expanded);
        let second = second.with_hashed("files", |hash| {
            let mut unknown = FileIndex::none();
            context::hash_selected(hash, &selected, Owners::Counted, &mut unknown)
        })?;
        let claim = match self.find(second.finish(), &expanded.by, label).await? {
            Found::Layer => {
                self.alias(&first)?;
                return Ok(Cached::Yes);
            }
            Found::Nothing(claim) => claim,
        };
        self.start(label);
        let work = Copying {
            selected: &selected,
            expanded,
        };
        let (staging, _) = self.fill(&work)?;
        self.commit(staging, claim, expanded.by.clone())?;
        self.settle().await?;
        self.alias(&first)?;
        Ok(Cached::No)
    }

    /// Copies into a new staging directory; returns it, and whether every file held still meanwhile.
    fn fill(&self, work: &Copying<'_>) -> Result<(Staging, bool), StepFailure> {
        let staging = self.build.store().staging()?;
        let layers = self.directories();
        let Expanded {
            keyword,
            destination,
            style,
            unpack_owner,
            ..
        } = work.expanded;
        // A name that several files would get one after the other is a mistake.
        let files = work.selected.iter().filter(|source| {
            let first = source.entries.first();
            first.is_some_and(|entry| !entry.metadata.is_dir())
        });
        if files.count() + work.expanded.documents.len() > 1 && !destination.is_directory {
            let resolved = Tree::layers(layers.clone()).resolve(&destination.path, Last::Follow)?;
            if !resolved.node.is_some_and(|node| node.metadata.is_dir()) {
                let path = destination.path.display().to_string();
                return Err(StepFailure::Destination(path));
            }
        }
        let mut filling = Filling::new(&staging.diff(), &layers);
        for source in work.selected {
            let unpacks = *keyword == Keyword::Add;
            if !(unpacks && unpack(&mut filling, source, destination, *unpack_owner)?) {
                filling.copy(source, destination, style)?;
            }
        }
        for (name, content) in &work.expanded.documents {
            filling.document(name, content, destination, style)?;
        }
        filling.finish()?;
        for path in &filling.unsteady {
            let text = format!("`{}` changed while it was copied", path.display());
            self.build.progress.event(BuildEvent::Warning(&text));
        }
        let steady = filling.unsteady.is_empty();
        Ok((staging, steady))
    }

    /// Expands a `COPY` or `ADD`.
    fn expand(&self, transfer: &Transfer, keyword: Keyword) -> Result<Expanded, StepFailure> {
        let state = &self.state;
        let variables = state.variables();
        let expand = |text: &String| {
            expand::expand(text, self.build.given.escape, &variables).map_err(StageError::from)
        };
        let sources = transfer.sources.iter().map(expand);
        let sources = sources.collect::<Result<Vec<_>, _>>()?;
        let destination = expand(&transfer.destination)?;
        let chown = transfer.chown.as_ref().map(expand).transpose()?;
        let chmod = transfer.chmod.as_ref().map(expand).transpose()?;
        let mut documents = Vec::new();
        for document in &transfer.documents {
            let content = document.content();
            let content = if document.expand {
                expand::expand_heredoc(&content, &variables).map_err(StageError::from)?
            } else {
                content
            };
            documents.push((document.name.clone(), content));
        }
        let chosen = match &chown {
            None => None,
            Some(text) => {
                let tree = Tree::layers(self.directories());
                Some(owner::find(text, &tree)?)
            }
        };
        // Files of the context become root's; those of a stage keep their owner.
        let usual = transfer.from.is_none().then_some(Owner::ROOT);
        let owner = chosen.or(usual);
        let mode = match &chmod {
            None => None,
            Some(text) => {
                let change = ModeChange::parse(text);
                Some(change.ok_or_else(|| StepFailure::Mode(text.clone()))?)
            }
        };
        let flags = [
            ("chown", &chown),
            ("chmod", &chmod),
            ("from", &transfer.from),
        ];
        let flags = flags.iter().filter_map(|(name, value)| {
            let value = value.as_ref()?;
            Some(format!("--{name}={value} "))
        });
        let flags: String = flags.collect();
        let words: Vec<&str> = sources.iter().map(String::as_str).collect();
        let heredocs: Vec<String> = documents.iter().map(|(n, _)| format!("<<{n}")).collect();
        let heredocs: Vec<&str> = heredocs.iter().map(String::as_str).collect();
        let words = [heredocs, words, vec![destination.as_str()]]
            .concat()
            .join(" ");
        Ok(Expanded {
            by: format!("{} {flags}{words} # buildkit", keyword.as_str()),
            keyword,
            destination: state.destination(&destination),
            exclude: IgnoreRules::of(transfer.exclude.iter().map(String::as_str))?,
            style: Style { owner, mode },
            unpack_owner: chosen,
            sources,
            documents,
        })
    }
}

/// Finds every source.
fn select(origin: &Origin<'_>, expanded: &Expanded) -> Result<Vec<Selected>, StepFailure> {
    let mut selected = Vec::new();
    for source in &expanded.sources {
        selected.extend(origin.select(source, &expanded.exclude)?);
    }
    Ok(selected)
}

/// Starts the key of a `COPY` or `ADD` with all but the files.
fn transfer_key(key: Key, transfer: &Transfer, expanded: &Expanded) -> Key {
    let Style { owner, mode } = &expanded.style;
    let mut key = key
        .with("destination", &expanded.destination.path.to_string_lossy())
        .with(
            "kind of destination",
            if expanded.destination.is_directory {
                "/"
            } else {
                ""
            },
        )
        .with(
            "owner and mode",
            &format!("{owner:?} {mode:?} {}", expanded.unpack_owner.is_some()),
        )
        .with_all("exclusions", &transfer.exclude)
        .with_all("sources", &expanded.sources);
    for (name, content) in &expanded.documents {
        key = key.with("name", name).with("here-document", content);
    }
    key
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
    if let archive::Kind::Unreadable(compression) = kind {
        let name = source.name.display();
        let what = format!("ADD of the {compression} archive `{name}`");
        return Err(StepFailure::NotSupported(what));
    }
    let Some(reader) = archive::open(&entry.host, kind)? else {
        return Ok(false);
    };
    filling.unpack(reader, destination, owner)?;
    Ok(true)
}

/// Returns whether a source lies elsewhere than in the context.
fn is_remote(source: &str) -> bool {
    let schemes = ["http://", "https://", "git://", "ssh://", "git@", "ftp://"];
    schemes.iter().any(|scheme| source.starts_with(scheme))
}
