//! The sources of a `COPY` or `ADD`, found: those of the context, and what is fetched.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use super::super::super::stop::Stop;
use super::super::attest::Material;
use super::super::budget;
use super::super::builder::Build;
use super::super::context::{
    self, FileIndex, Hash, Origin, Owners, Selected, Taking, hash_part, hex,
};
use super::super::contexts::Local;
use super::super::error::StepFailure;
use super::super::pattern::IgnoreRules;
use super::super::remote::{Asked, Fetched, GitSource, Known};
use super::super::tree::Tree;
use super::expanded::{Expanded, Source};
use crate::images::store::Staging;
use crate::sys::atomic::{self, Durability};

/// First line of what is remembered of a URL.
const FORMAT: &str = "stack url 1";

/// One source that is known well enough for the key.
pub(super) enum Found {
    /// Files that are here.
    Local(Vec<Selected>),
    /// A file of a URL.
    Url {
        url: String,
        fetched: Fetched,
        /// Where it lies.
        staging: Option<Staging>,
    },
    /// A commit, not yet checked out.
    Git { source: GitSource, commit: String },
}

impl Found {
    /// Says what it is, where it is from elsewhere.
    fn material(&self) -> Option<Material> {
        match self {
            Self::Local(_) => None,
            Self::Url { url, fetched, .. } => Some(Material::of_url(url, &fetched.digest)),
            Self::Git { source, commit } => {
                let reference = source.reference.as_deref();
                Some(Material::of_git(&source.shown(), reference, commit))
            }
        }
    }
}

/// Every source of a step, found.
pub(super) struct Looked {
    pub(super) found: Vec<Found>,
    /// Of what they hold.
    pub(super) digest: Hash,
}

/// One source, which is here now.
pub(super) enum Piece {
    /// Chosen for the key.
    Selected(Vec<Selected>),
    /// Fetched.
    Fetched {
        /// Keeps it.
        staging: Staging,
        root: PathBuf,
        /// Below `root`.
        path: PathBuf,
        /// What a single file is called.
        name: Option<String>,
        /// Whether an archive is unpacked.
        unpacks: bool,
        /// Whether it is not what was found for the key: it changed in between.
        is_other: bool,
    },
}

/// Finds every source of a context or of layers, and hashes what they hold.
pub(super) async fn look(
    build: &Build<'_>,
    local: Arc<Local>,
    expanded: &Arc<Expanded>,
    owners: Owners,
) -> Result<Looked, StepFailure> {
    let mut elsewhere = Vec::new();
    for source in &expanded.sources {
        elsewhere.push(match source {
            Source::Local(_) => None,
            Source::Url(url) => Some(ask(build, url, expanded.checksum.as_deref()).await?),
            Source::Git(source) => {
                let login = build.request.logins().git(&source.remote)?;
                Some(Found::Git {
                    commit: source.resolve(&login).await?,
                    source: source.clone(),
                })
            }
        });
        let found = elsewhere.last().and_then(Option::as_ref);
        if let Some(material) = found.and_then(Found::material) {
            build.note_material(material);
        }
    }
    let expanded = Arc::clone(expanded);
    let looked = build.aside.run(move |stop| {
        let origin = local.origin(stop);
        let taking = Taking {
            exclude: &expanded.exclude,
            parents: expanded.parents,
        };
        let mut found = Vec::new();
        for (source, elsewhere) in expanded.sources.iter().zip(elsewhere) {
            found.extend(match source {
                Source::Local(path) => Some(Found::Local(origin.take(path, taking)?)),
                Source::Url(_) | Source::Git(_) => elsewhere,
            });
        }
        let digest = digest_of(&found, owners, &local.index, stop)?;
        Ok(Looked { found, digest })
    });
    looked.await?
}

/// Hashes what the sources hold.
fn digest_of(found: &[Found], owners: Owners, index: &FileIndex, stop: &Stop) -> io::Result<Hash> {
    let mut hash = Sha256::new();
    for source in found {
        match source {
            Found::Local(selected) => {
                context::hash_selected(&mut hash, selected, owners, index, stop)?;
            }
            Found::Url { fetched, .. } => {
                let facts = [
                    &fetched.name,
                    &fetched.digest,
                    &fetched.modified.to_string(),
                ];
                for fact in facts {
                    hash_part(&mut hash, fact.as_bytes());
                }
            }
            Found::Git { source, commit } => {
                let facts = format!(
                    "{commit} {:?} {} {:?}",
                    source.keep_git_dir, source.without_submodules, source.times
                );
                hash_part(&mut hash, facts.as_bytes());
                hash_part(&mut hash, source.directory.as_bytes());
            }
        }
    }
    Ok(hash.finalize().into())
}

/// Gets what is not here yet.
pub(super) async fn obtain(
    build: &Build<'_>,
    found: Vec<Found>,
    expanded: &Expanded,
) -> Result<Vec<Piece>, StepFailure> {
    let mut pieces = Vec::new();
    for source in found {
        pieces.push(match source {
            Found::Local(selected) => Piece::Selected(selected),
            Found::Url {
                url,
                fetched,
                staging,
            } => {
                let hashed = (fetched.digest.clone(), fetched.modified);
                let (fetched, staging) = match (fetched.path.is_some(), staging) {
                    (true, Some(staging)) => (fetched, staging),
                    // It was the same as ever when it was asked for, and is wanted after all.
                    _ => fetch(build, &url, expanded.checksum.as_deref(), None).await?,
                };
                let is_other = hashed != (fetched.digest.clone(), fetched.modified);
                Piece::Fetched {
                    root: staging.directory().to_owned(),
                    path: "body".into(),
                    name: Some(fetched.name),
                    unpacks: expanded.unpacks.1,
                    is_other,
                    staging,
                }
            }
            Found::Git { source, commit } => {
                let staging = build.store().staging()?;
                let keep = source.keep_git_dir.unwrap_or(false);
                let login = build.request.logins().git(&source.remote)?;
                let checkout = source.checkout(&commit, staging.directory(), keep, &login);
                let checkout = checkout.await?;
                let directory = match source.directory.as_str() {
                    "" => ".",
                    directory => directory,
                };
                Piece::Fetched {
                    root: checkout.directory,
                    path: directory.into(),
                    name: None,
                    unpacks: false,
                    is_other: false,
                    staging,
                }
            }
        });
    }
    Ok(pieces)
}

/// Takes a path of what was fetched.
pub(super) fn select(
    root: &Path,
    path: &Path,
    expanded: &Expanded,
    stop: &Stop,
) -> Result<Vec<Selected>, StepFailure> {
    let tree = Tree::directory(root);
    let origin = Origin {
        tree: &tree,
        ignore: &IgnoreRules::default(),
        name: "the source",
        stop,
    };
    Ok(origin.take_path(path, &expanded.exclude)?)
}

/// Asks what a URL holds: nothing that is known and must have that checksum, and only what changed where the server can tell.
async fn ask(build: &Build<'_>, url: &str, checksum: Option<&str>) -> Result<Found, StepFailure> {
    let file = record(build, url);
    let known = fs_err::read_to_string(&file).ok();
    let known = known.and_then(|text| parse_known(&text));
    if let (Some(known), Some(checksum)) = (&known, checksum)
        && known.digest == checksum
    {
        budget::note_use(&file, build.request.started);
        let fetched = Fetched::known(url, known)?;
        return Ok(Found::Url {
            url: url.to_owned(),
            fetched,
            staging: None,
        });
    }
    let known = known.filter(|known| !known.etag.is_empty());
    let (fetched, staging) = fetch(build, url, checksum, known.as_ref()).await?;
    let text = format!(
        "{FORMAT}\n{}\n{}\n{}\n",
        fetched.etag.as_deref().unwrap_or_default(),
        fetched.digest,
        fetched.modified
    );
    if let Some(directory) = file.parent() {
        fs_err::create_dir_all(directory)?;
    }
    atomic::write(&file, text.as_bytes(), 0o600, Durability::Cached)?;
    Ok(Found::Url {
        url: url.to_owned(),
        staging: fetched.path.is_some().then_some(staging),
        fetched,
    })
}

/// Gets a URL into a staging directory of its own.
async fn fetch(
    build: &Build<'_>,
    url: &str,
    checksum: Option<&str>,
    known: Option<&Known>,
) -> Result<(Fetched, Staging), StepFailure> {
    let staging = build.store().staging()?;
    let authorization = build.request.logins().web(url)?;
    let asked = Asked {
        url,
        checksum,
        known,
        authorization: authorization.as_deref(),
    };
    let fetched = Fetched::get(build.transport(), asked, staging.directory()).await?;
    Ok((fetched, staging))
}

/// Returns where is remembered what a URL held.
fn record(build: &Build<'_>, url: &str) -> PathBuf {
    let name = hex(&Sha256::digest(url.as_bytes()));
    build.cache.urls().join(name)
}

/// Reads what is remembered of a URL; nothing of what is not of that form.
fn parse_known(text: &str) -> Option<Known> {
    let mut lines = text.lines();
    if lines.next() != Some(FORMAT) {
        return None;
    }
    Some(Known {
        etag: lines.next()?.to_owned(),
        digest: lines.next()?.to_owned(),
        modified: lines.next()?.parse().ok()?,
    })
}
