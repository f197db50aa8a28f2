//! A `COPY` or `ADD` with its variables replaced: what is done, how it looks in the history, and what its key is made of. Pure.

use std::sync::Arc;

use super::super::super::dockerfile::expand::{self, Variables};
use super::super::super::dockerfile::instruction::Transfer;
use super::super::cache::Key;
use super::super::copy::{Destination, Owner, Style};
use super::super::error::StepFailure;
use super::super::mode::ModeChange;
use super::super::owner::OwnerName;
use super::super::pattern::{IgnoreRules, clean, file_name};
use super::super::remote::{GitSource, Remote, RemoteError};
use super::super::stage::{StageError, StageState};
use super::super::tree::Tree;

/// Which of the two instructions it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Keyword {
    Copy,
    /// Takes what is elsewhere too, and unpacks archives of the context.
    Add,
}

/// Where one source is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) enum Source {
    /// A path or pattern.
    Local(String),
    /// `http://…`
    Url(String),
    /// A repository.
    Git(GitSource),
}

/// A `COPY` or `ADD` with everything expanded.
#[derive(Debug)]
pub(in super::super) struct Expanded {
    pub(in super::super) sources: Vec<Source>,
    pub(super) documents: Vec<(String, String)>,
    pub(super) destination: Destination,
    /// `--chown`.
    chown: Option<OwnerName>,
    /// Of files whose owner is not chosen; `None` leaves them their own.
    usual_owner: Option<Owner>,
    /// `--chmod`.
    mode: Option<ModeChange>,
    pub(in super::super) exclude: IgnoreRules,
    pub(in super::super) parents: bool,
    /// Whether archives are unpacked: those of the context, and those from elsewhere.
    pub(super) unpacks: (bool, bool),
    /// Of the one source that is elsewhere.
    pub(super) checksum: Option<String>,
    /// How it looks in the history.
    pub(super) by: String,
}

/// The same with whom and which mode its files get.
pub(super) struct Styled {
    pub(super) expanded: Arc<Expanded>,
    pub(super) style: Style,
    /// Of the members of an archive; `None` leaves them their own.
    pub(super) unpack_owner: Option<Owner>,
}

impl Expanded {
    /// Counts what its names and here-documents take.
    pub(in super::super) fn bytes(&self) -> usize {
        let sources = self.sources.iter().map(|source| match source {
            Source::Local(text) | Source::Url(text) => text.len(),
            Source::Git(_) => 0,
        });
        let documents = self
            .documents
            .iter()
            .map(|(name, text)| name.len() + text.len());
        sources.chain(documents).sum::<usize>() + self.by.len()
    }

    /// Expands, with what variables mean in `state`.
    pub(in super::super) fn of(
        transfer: &Transfer,
        keyword: Keyword,
        state: &StageState,
        escape: char,
    ) -> Result<Self, StepFailure> {
        let variables = state.variables();
        let expand =
            |text: &String| expand::expand(text, escape, variables).map_err(StageError::from);
        let words = transfer.sources.iter().map(expand);
        let words = words.collect::<Result<Vec<_>, _>>()?;
        let destination = expand(&transfer.destination)?;
        let chown = transfer.chown.as_ref().map(expand).transpose()?;
        let chmod = transfer.chmod.as_ref().map(expand).transpose()?;
        let checksum = transfer.checksum.as_ref().map(expand).transpose()?;
        let documents = documents(transfer, variables)?;
        let by = created_by(
            transfer,
            keyword,
            &words,
            [chown.as_deref(), chmod.as_deref()],
            &destination,
        );
        let chown = chown.filter(|text| !text.is_empty());
        let chown = chown.map(|text| OwnerName::parse(&text)).transpose()?;
        let mode = match chmod.filter(|text| !text.is_empty()) {
            None => None,
            Some(text) => Some(ModeChange::parse(&text).ok_or(StepFailure::Mode(text))?),
        };
        let sources = words.iter().map(|word| source(word, keyword, transfer));
        let mut sources = sources.collect::<Result<Vec<_>, _>>()?;
        let checksum = checksum.filter(|text| !text.is_empty());
        if let Some(checksum) = &checksum {
            apply_checksum(&mut sources, checksum)?;
        }
        Ok(Self {
            by,
            sources,
            documents,
            destination: state.destination(&destination),
            chown,
            // Files of the context become root's; those of a stage keep their owner.
            usual_owner: transfer.from.is_none().then_some(Owner::ROOT),
            mode,
            exclude: IgnoreRules::of(transfer.exclude.iter().map(String::as_str))?,
            parents: transfer.parents,
            unpacks: match keyword {
                Keyword::Copy => (false, false),
                Keyword::Add => (
                    transfer.unpack.unwrap_or(true),
                    transfer.unpack.unwrap_or(false),
                ),
            },
            checksum,
        })
    }

    /// Finds out whose the files become; `tree` is what names are looked up in.
    pub(super) fn styled(
        self: &Arc<Self>,
        tree: impl FnOnce() -> Tree,
    ) -> Result<Styled, StepFailure> {
        let chown = self.chown.as_ref();
        let chosen = chown.map(|name| name.find(&tree())).transpose()?;
        Ok(Styled {
            expanded: Arc::clone(self),
            style: Style {
                owner: chosen.or(self.usual_owner),
                mode: self.mode.clone(),
            },
            unpack_owner: chosen,
        })
    }
}

impl Styled {
    /// Adds to the key of a step all but what the sources hold.
    pub(super) fn add_to(&self, key: Key, transfer: &Transfer) -> Key {
        let Style { owner, mode } = &self.style;
        let expanded = &self.expanded;
        let sources = expanded.sources.iter().map(|source| match source {
            // However it is written; but for `/./`, which means something with `--parents`.
            Source::Local(path) if !expanded.parents => clean(path),
            Source::Local(path) => path.clone(),
            // What comes counts, and not from where.
            Source::Url(_) => "url:".to_owned(),
            Source::Git(_) => "git:".to_owned(),
        });
        let sources: Vec<String> = sources.collect();
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
                &format!("{owner:?} {mode:?} {}", self.unpack_owner.is_some()),
            )
            .with(
                "flags",
                &format!("{} {:?}", expanded.parents, expanded.unpacks),
            )
            .with_all("exclusions", &transfer.exclude)
            .with_all("sources", &sources);
        for (name, content) in &expanded.documents {
            key = key.with("name", name).with("here-document", content);
        }
        key
    }
}

/// Expands the here-documents that are to be.
fn documents(
    transfer: &Transfer,
    variables: &Variables,
) -> Result<Vec<(String, String)>, StepFailure> {
    let documents = transfer.documents.iter().map(|document| {
        let content = document.content();
        let content = if document.expand {
            expand::expand_heredoc(&content, variables).map_err(StageError::from)?
        } else {
            content
        };
        let name = file_name(&document.name).ok_or(StepFailure::DocumentName)?;
        Ok((name, content))
    });
    documents.collect()
}

/// Tells where a source is.
fn source(word: &str, keyword: Keyword, transfer: &Transfer) -> Result<Source, StepFailure> {
    if transfer.from.is_some() {
        return Ok(Source::Local(word.to_owned()));
    }
    match (Remote::parse(word)?, keyword) {
        (None, _) => Ok(Source::Local(word.to_owned())),
        (Some(Remote::Url(_)), Keyword::Copy) => {
            Err(StepFailure::Invalid("source can't be a URL for COPY"))
        }
        (Some(Remote::Git(_)), Keyword::Copy) => {
            Err(StepFailure::Invalid("source can't be a git ref for COPY"))
        }
        (Some(Remote::Url(url)), Keyword::Add) => Ok(Source::Url(url)),
        (Some(Remote::Git(mut git)), Keyword::Add) => {
            git.keep_git_dir = match (transfer.keep_git_dir, git.keep_git_dir) {
                (Some(flag), Some(said)) if flag != said => {
                    return Err(StepFailure::Invalid(
                        "inconsistent keep-git-dir configuration",
                    ));
                }
                (flag, said) => said.or(flag),
            };
            Ok(Source::Git(git))
        }
    }
}

/// Gives the checksum to the only source.
fn apply_checksum(sources: &mut [Source], checksum: &str) -> Result<(), StepFailure> {
    match sources {
        [Source::Url(_)] => Ok(()),
        [Source::Git(git)] => {
            if let Some(said) = git.checksum.replace(checksum.to_owned())
                && said != checksum
            {
                let text = format!("checksum mismatch {checksum:?} != {said:?}");
                return Err(RemoteError::Source(text).into());
            }
            Ok(())
        }
        [Source::Local(_)] => Err(StepFailure::Invalid(
            "checksum requires HTTP(S) or Git sources",
        )),
        _ => Err(StepFailure::Invalid(
            "checksum can't be specified for multiple sources",
        )),
    }
}

/// Returns how the step looks in the history: as BuildKit writes it, which leaves `--from` and others out.
fn created_by(
    transfer: &Transfer,
    keyword: Keyword,
    sources: &[String],
    [chown, chmod]: [Option<&str>; 2],
    destination: &str,
) -> String {
    let mut by = vec![
        match keyword {
            Keyword::Copy => "COPY",
            Keyword::Add => "ADD",
        }
        .to_owned(),
    ];
    if transfer.parents {
        by.push("--parents".to_owned());
    }
    for (name, value) in [("chown", chown), ("chmod", chmod)] {
        let value = value.filter(|value| !value.is_empty());
        by.extend(value.map(|value| format!("--{name}={value}")));
    }
    by.extend(sources.iter().cloned());
    let documents = transfer.documents.iter();
    by.extend(documents.map(|document| format!("<<{}", document.name)));
    format!("{} {destination} # buildkit", by.join(" "))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::super::super::dockerfile::instruction::Kind;
    use super::super::super::super::dockerfile::parser;
    use super::super::super::super::manifest::Platform;
    use super::*;

    /// What an instruction becomes: how it looks in the history and its sources, or its fault.
    fn shown(line: &str) -> String {
        let file = parser::parse(Path::new("D"), &format!("FROM a\n{line}")).unwrap();
        let (transfer, keyword) = match &file.stages[0].instructions[0].kind {
            Kind::Copy(transfer) => (transfer, Keyword::Copy),
            Kind::Add(transfer) => (transfer, Keyword::Add),
            other => panic!("{other:?}"),
        };
        let state = StageState::of_scratch(&Platform::host());
        match Expanded::of(transfer, keyword, &state, '\\') {
            Err(error) => error.to_string(),
            Ok(expanded) => {
                let remote = expanded.sources.iter().filter_map(|source| match source {
                    Source::Local(_) => None,
                    Source::Url(_) => Some(" url".to_owned()),
                    Source::Git(git) => {
                        Some(format!(" git {:?} {:?}", git.checksum, git.keep_git_dir))
                    }
                });
                let documents = expanded.documents.iter();
                let documents = documents.filter(|(name, _)| name == "e");
                let documents = documents.map(|(name, _)| format!(" file {name}"));
                let rest: String = remote.chain(documents).collect();
                format!("{}{rest}", expanded.by)
            }
        }
    }

    #[test]
    fn history_and_sources() {
        let table = [
            ("COPY a b /d/", "COPY a b /d/ # buildkit"),
            (
                "COPY --from=x --link --exclude=y --chmod=644 --chown=1:2 --parents a /d",
                "COPY --parents --chown=1:2 --chmod=644 a /d # buildkit",
            ),
            ("COPY <<E a <<-F /d/\nE\nF", "COPY a <<E <<F /d/ # buildkit"),
            (
                "COPY [\"$PATH\", \"a b\", \"/d\"]",
                "COPY /usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin a b /d # buildkit",
            ),
            (
                "COPY --chmod=u=rwX,go= a b",
                "COPY --chmod=u=rwX,go= a b # buildkit",
            ),
            ("ADD a.tar /d", "ADD a.tar /d # buildkit"),
            ("ADD https://h/x /d", "ADD https://h/x /d # buildkit url"),
            (
                "ADD --keep-git-dir --checksum=abc https://h/x.git#v1 /d",
                "ADD https://h/x.git#v1 /d # buildkit git Some(\"abc\") Some(true)",
            ),
            ("COPY https://h/x /d", "source can't be a URL for COPY"),
            ("COPY git@h:x /d", "source can't be a git ref for COPY"),
            ("COPY --from=s git@h:x /d", "COPY git@h:x /d # buildkit"),
            (
                "ADD --checksum=abc a /d",
                "checksum requires HTTP(S) or Git sources",
            ),
            (
                "ADD --checksum=abc https://h/x https://h/y /d/",
                "checksum can't be specified for multiple sources",
            ),
            (
                "ADD --checksum=abc https://h/x.git?checksum=def /d",
                "checksum mismatch \"abc\" != \"def\"",
            ),
            (
                "ADD --keep-git-dir=false git://h/x?keep-git-dir=true /d",
                "inconsistent keep-git-dir configuration",
            ),
            ("COPY <<../e /d/\n../e", "COPY <<../e /d/ # buildkit file e"),
            (
                "COPY <<a/b /d/\na/b",
                "the name of a here-document that becomes a file cannot be a path",
            ),
            (
                "COPY <<.. /d/\n..",
                "the name of a here-document that becomes a file cannot be a path",
            ),
            (
                "COPY --chmod=888 a /d",
                "invalid chmod parameter: '888'. it should be octal string and between 0 and 07777",
            ),
        ];
        for (line, expected) in table {
            assert_eq!(shown(line), expected, "{line}");
        }
    }
}
