//! Which changed path concerns which rule. Pure: paths are only compared.
//!
//! ```text
//! in scope  =  beneath `path`
//!            ∧ no `.git`, no editor's temporary
//!            ∧ not left out by .dockerignore (relative to the build context), then by `ignore` (relative to `path`)
//!            ∧ matched by `include`, where there is one
//! ```

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use crate::engine::watch::error::WatchError;
use crate::images::build::pattern::{IgnoreRules, Matched};
use crate::spec::model::build::{WatchAction, WatchRule};
use crate::spec::model::service::Service;
use crate::spec::model::volume::MountSource;

/// One rule of one service, ready to judge paths.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Rule {
    /// Whose containers it is about.
    pub(crate) service: String,
    /// What a change does.
    pub(crate) action: WatchAction,
    /// What is watched, absolute, without links.
    pub(crate) path: PathBuf,
    /// Where it goes in the container; only with the actions that sync.
    pub(crate) target: Option<PathBuf>,
    /// Whether everything in scope is synced once.
    pub(crate) initial_sync: bool,
    /// `.dockerignore` and `ignore`, each with the directory its patterns are relative to.
    ignore: Vec<(PathBuf, IgnoreRules)>,
    /// `include`.
    include: IgnoreRules,
}

/// How a path stands to a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Scope {
    /// Not its concern, and nothing beneath it is.
    Out,
    /// Not its concern, but something beneath it may be.
    Below,
    /// Its concern.
    In,
}

/// `.dockerignore` of one service's build: the context and its patterns.
pub(crate) type ContextIgnore = Option<(PathBuf, IgnoreRules)>;

impl Rule {
    /// Makes the rules of one service; what is left out of them is said in `warnings`. `resolve` follows the links of a path.
    pub(crate) fn of_service(
        name: &str,
        service: &Service,
        context: &ContextIgnore,
        resolve: impl Fn(&Path) -> PathBuf,
        warnings: &mut Vec<String>,
    ) -> Result<Vec<Self>, WatchError> {
        let mut rules = Vec::new();
        for written in &service.watch {
            if written.action == WatchAction::Rebuild && service.build.is_none() {
                return Err(WatchError::NothingToBuild {
                    service: name.to_owned(),
                });
            }
            let mut written = written.clone();
            if let Some(bind) = bind_over(service, &written) {
                let path = written.path.display();
                if written.action == WatchAction::Sync {
                    warnings.push(format!(
                        "service `{name}`: `{path}` is not synced, because its target is in the bind mount `{bind}`"
                    ));
                    continue;
                }
                // The container sees the file as it is: only the restart is left to do.
                warnings.push(format!(
                    "service `{name}`: `{path}` only restarts, because its target is in the bind mount `{bind}`"
                ));
                written.action = WatchAction::Restart;
            }
            rules.push(Self::new(name, &written, context, &resolve)?);
        }
        Ok(rules)
    }

    fn new(
        service: &str,
        written: &WatchRule,
        context: &ContextIgnore,
        resolve: impl Fn(&Path) -> PathBuf,
    ) -> Result<Self, WatchError> {
        let wrong = |source| WatchError::Pattern {
            service: service.to_owned(),
            path: written.path.clone(),
            source,
        };
        let path = resolve(&written.path);
        let own = IgnoreRules::of(written.ignore.iter().map(String::as_str)).map_err(wrong)?;
        let context = context
            .iter()
            .map(|(base, rules)| (resolve(base), rules.clone()));
        let ignore = context.chain([(path.clone(), own)]);
        let syncs = matches!(written.action, WatchAction::Sync | WatchAction::SyncRestart);
        Ok(Self {
            service: service.to_owned(),
            action: written.action,
            ignore: ignore.filter(|(_, rules)| !rules.is_empty()).collect(),
            include: IgnoreRules::of(written.include.iter().map(String::as_str)).map_err(wrong)?,
            target: written
                .target
                .as_ref()
                .filter(|_| syncs)
                .map(|target| target_of(target, &path)),
            initial_sync: written.initial_sync && syncs,
            path,
        })
    }

    /// Judges `path`, which is absolute and without links.
    pub(crate) fn judge(&self, path: &Path) -> Scope {
        let Ok(below) = path.strip_prefix(&self.path) else {
            return Scope::Out;
        };
        if below
            .components()
            .any(|part| is_never_watched(part.as_os_str()))
        {
            return Scope::Out;
        }
        let mut scope = Scope::In;
        for (base, rules) in &self.ignore {
            scope = scope.min(judge_ignore(base, rules, path));
        }
        if !self.include.is_empty() && below != Path::new("") {
            let (included, _) = walk(&self.include, below);
            if !included {
                scope = scope.min(Scope::Below);
            }
        }
        scope
    }

    /// Returns where `path`, which is in scope, goes in the container.
    pub(crate) fn target_of(&self, path: &Path) -> Option<PathBuf> {
        let target = self.target.as_ref()?;
        match path.strip_prefix(&self.path) {
            Ok(below) if below == Path::new("") => Some(target.clone()),
            Ok(below) => Some(target.join(below)),
            Err(_) => None,
        }
    }

    /// Whether it copies.
    pub(crate) fn syncs(&self) -> bool {
        self.target.is_some()
    }
}

/// Judges a path of any kind for all rules: the widest scope.
pub(crate) fn widest(rules: &[Rule], path: &Path) -> Scope {
    rules
        .iter()
        .map(|rule| rule.judge(path))
        .max()
        .unwrap_or(Scope::Out)
}

/// Returns the paths that the rules watch, without those beneath others.
pub(crate) fn roots(rules: &[Rule]) -> BTreeSet<PathBuf> {
    rules.iter().map(|rule| rule.path.clone()).collect()
}

/// Returns the target of the watched path itself; `dir/` takes a file in.
fn target_of(written: &str, path: &Path) -> PathBuf {
    let clean: PathBuf = Path::new("/").join(written).components().collect();
    match path.file_name() {
        Some(name) if written.ends_with('/') && path.is_file() => clean.join(name),
        _ => clean,
    }
}

/// Returns the bind mount that a rule's target lies in, if it does.
fn bind_over<'a>(service: &'a Service, rule: &WatchRule) -> Option<&'a str> {
    let target = Path::new(rule.target.as_ref()?);
    service
        .volumes
        .iter()
        .filter(|mount| matches!(mount.source, MountSource::Bind { .. }))
        .map(|mount| mount.target.as_str())
        .find(|bind| target.starts_with(bind))
}

/// Judges a path by one set of patterns.
fn judge_ignore(base: &Path, rules: &IgnoreRules, path: &Path) -> Scope {
    let Ok(below) = path.strip_prefix(base) else {
        return Scope::In;
    };
    match walk(rules, below) {
        (false, _) => Scope::In,
        (true, true) => Scope::Below,
        (true, false) => Scope::Out,
    }
}

/// Returns whether patterns match a path or one of its parents, and whether they may let go of something beneath it.
fn walk(rules: &IgnoreRules, below: &Path) -> (bool, bool) {
    let mut verdict = false;
    let mut may_keep = true;
    let mut matched = Matched::default();
    let mut so_far = PathBuf::new();
    for part in below.components() {
        if let Component::Normal(name) = part {
            so_far.push(name);
            let judged = rules.judge(so_far.as_os_str(), &matched);
            (verdict, matched) = (judged.ignored, judged.matched);
            may_keep = !verdict || rules.may_keep_below(so_far.as_os_str());
        }
    }
    (verdict, may_keep)
}

/// Whether a name is version control's, or an editor's while it saves (Docker Compose's `EphemeralPathMatcher`).
fn is_never_watched(name: &OsStr) -> bool {
    let name = name.as_bytes();
    let vim_swap = name.starts_with(b".")
        && name.iter().rev().nth(3) == Some(&b'.')
        && name.get(name.len().saturating_sub(3)..name.len().saturating_sub(1)) == Some(b"sw");
    let emacs = name.starts_with(b".#")
        || (name.len() > 1 && name.starts_with(b"#") && name.ends_with(b"#"));
    name == b".git"
        || name == b".idea"
        || name == b"4913"
        || name.ends_with(b"~")
        || name.ends_with(b"___jb_tmp___")
        || name.ends_with(b"___jb_old___")
        || name.ends_with(b".kate-swp")
        || name.ends_with(b"-go-tmp-umask")
        || name.starts_with(b".goutputstream-")
        || vim_swap
        || emacs
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::model::build::Build;
    use crate::spec::model::volume::Mount;
    use Scope::{Below, In, Out};
    use WatchAction::{Rebuild, Restart, Sync, SyncRestart};

    /// `ignore`, `include`, `.dockerignore`, and how paths stand to them.
    type ScopeRow<'a> = (
        &'a [&'a str],
        &'a [&'a str],
        &'a str,
        &'a [(&'a str, Scope)],
    );
    /// The action as written, whether the service is built, whether the target is bound; the actions left, and how many words.
    type Row = (WatchAction, bool, bool, Option<Vec<WatchAction>>, usize);

    fn written(action: WatchAction, path: &str, ignore: &[&str], include: &[&str]) -> WatchRule {
        WatchRule {
            action,
            path: PathBuf::from(path),
            target: (action != Restart).then(|| "/app".to_owned()),
            ignore: ignore.iter().map(ToString::to_string).collect(),
            include: include.iter().map(ToString::to_string).collect(),
            initial_sync: false,
        }
    }

    fn rule(ignore: &[&str], include: &[&str], dockerignore: &str) -> Rule {
        let context = Some((
            PathBuf::from("/p"),
            IgnoreRules::parse(dockerignore).unwrap(),
        ));
        let written = written(Sync, "/p/src", ignore, include);
        Rule::new("web", &written, &context, Path::to_path_buf).unwrap()
    }

    #[test]
    fn the_scope_of_a_rule() {
        let rows: [ScopeRow; 7] = [
            (
                &[],
                &[],
                "",
                &[
                    ("/p/src", In),
                    ("/p/src/a/b.py", In),
                    ("/p", Out),
                    ("/p/srcs/a", Out),
                    ("/p/src/.git", Out),
                    ("/p/src/a/.git/HEAD", Out),
                    ("/p/src/.gitignore", In),
                ],
            ),
            (
                &["node_modules/", "*.log"],
                &[],
                "",
                &[
                    ("/p/src/node_modules", Out),
                    ("/p/src/node_modules/x/y.js", Out),
                    ("/p/src/a/node_modules", In),
                    ("/p/src/x.log", Out),
                    ("/p/src/a/x.log", In),
                ],
            ),
            (
                &["*", "!keep"],
                &[],
                "",
                &[
                    ("/p/src", In),
                    ("/p/src/other", Out),
                    ("/p/src/keep", In),
                    ("/p/src/keep/x", In),
                ],
            ),
            (
                &["a", "!a/b"],
                &[],
                "",
                &[("/p/src/a", Below), ("/p/src/a/b", In), ("/p/src/a/c", Out)],
            ),
            (
                &[],
                &["**/*.css"],
                "",
                &[
                    ("/p/src", In),
                    ("/p/src/a", Below),
                    ("/p/src/a/x.css", In),
                    ("/p/src/a/x.js", Below),
                ],
            ),
            (
                &["skip.css"],
                &["*.css"],
                "",
                &[("/p/src/skip.css", Out), ("/p/src/x.css", In)],
            ),
            (
                &[],
                &[],
                "src/gen\n**/*.tmp\n!src/x.tmp",
                &[
                    ("/p/src/gen", Out),
                    ("/p/src/gen/a", Out),
                    ("/p/src/y.tmp", Out),
                    ("/p/src/x.tmp", In),
                ],
            ),
        ];
        for (ignore, include, dockerignore, paths) in rows {
            let rule = rule(ignore, include, dockerignore);
            for (path, expected) in paths {
                let found = rule.judge(Path::new(path));
                assert_eq!(
                    found, *expected,
                    "{ignore:?} {include:?} {dockerignore:?} {path}"
                );
            }
        }
    }

    #[test]
    fn temporaries_of_editors_are_never_watched() {
        let rows = [
            ("4913", true),
            ("main.py~", true),
            (".main.py.swp", true),
            (".main.py.swx", true),
            (".#main.py", true),
            ("#main.py#", true),
            ("main.py___jb_tmp___", true),
            (".goutputstream-X1Y2Z3", true),
            ("main.py", false),
            (".env", false),
            ("#", false),
            ("main.swp", false),
            ("49130", false),
        ];
        for (name, expected) in rows {
            assert_eq!(is_never_watched(OsStr::new(name)), expected, "{name}");
        }
    }

    #[test]
    fn targets_are_joined_from_the_rule_on() {
        let rule = rule(&[], &[], "");
        let rows = [
            ("/p/src", Some("/app")),
            ("/p/src/a/b", Some("/app/a/b")),
            ("/p/other", None),
        ];
        for (path, expected) in rows {
            assert_eq!(
                rule.target_of(Path::new(path)),
                expected.map(PathBuf::from),
                "{path}"
            );
        }
    }

    #[test]
    fn rules_that_make_no_sense_are_refused_or_left_out_with_a_word() {
        let bind = Mount {
            source: MountSource::Bind {
                source: PathBuf::from("/p/src"),
                create_host_path: true,
                propagation: None,
            },
            target: "/app".to_owned(),
            read_only: false,
        };
        let build = Build {
            context: PathBuf::from("/p"),
            dockerfile: PathBuf::from("Dockerfile"),
            dockerfile_inline: None,
            args: std::collections::BTreeMap::new(),
            target: None,
            more: Box::default(),
        };
        let rows: [Row; 7] = [
            (Rebuild, false, false, None, 0),
            (Rebuild, true, false, Some(vec![Rebuild]), 0),
            (Sync, false, false, Some(vec![Sync]), 0),
            (Sync, false, true, Some(vec![]), 1),
            (SyncRestart, false, true, Some(vec![Restart]), 1),
            (SyncRestart, false, false, Some(vec![SyncRestart]), 0),
            (Restart, false, true, Some(vec![Restart]), 0),
        ];
        for (action, builds, bound, expected, said) in rows {
            let service = Service {
                build: builds.then(|| build.clone()),
                volumes: if bound {
                    vec![bind.clone()]
                } else {
                    Vec::new()
                },
                watch: vec![written(action, "/p/src", &[], &[])],
                ..Service::default()
            };
            let mut warnings = Vec::new();
            let rules = Rule::of_service("web", &service, &None, Path::to_path_buf, &mut warnings);
            let actions = rules
                .ok()
                .map(|rules| rules.iter().map(|rule| rule.action).collect::<Vec<_>>());
            assert_eq!(
                (actions, warnings.len()),
                (expected, said),
                "{action:?} {builds} {bound}"
            );
        }
    }
}
