//! Images: what must be pulled or built before containers can be planned.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::action::{Action, BuildImage, PullImage};
use super::cause::Cause;
use super::draft::Draft;
use super::error::{PlanError, Warning};
use super::graph::{Dependencies, Selection};
use super::naming;
use super::observed::Observed;
use super::options::{BuildImages, ImageOptions, UpOptions};
use super::{After, Plan};
use crate::spec::model::Stack;
use crate::spec::model::build::Build;
use crate::spec::model::service::{PullPolicy, Service};
use crate::spec::names::ServiceName;

/// All that services ask of one image.
struct Wanted<'a> {
    /// The first service that uses it.
    service: &'a ServiceName,
    /// The first service that can build it.
    build: Option<(&'a ServiceName, &'a Service)>,
    /// Whether any service names it by `image`: else nothing could be pulled.
    has_name: bool,
    /// The most eager policy.
    policy: Option<PullPolicy>,
    platform: Option<String>,
}

/// Image references, each with the platforms that services ask for with it.
pub type References = BTreeMap<String, BTreeSet<String>>;

/// Returns every image reference that planning looks up in [`Observed::images`], those of disabled services among them.
pub fn references(stack: &Stack) -> References {
    let mut all = References::new();
    for (name, service) in stack.services.iter().chain(&stack.disabled) {
        let asked = all.entry(naming::image_reference(stack, name, service));
        asked.or_default().extend(service.platform.clone());
    }
    all
}

/// What is here under a reference.
#[derive(Clone, Copy)]
enum Here<'a> {
    Nothing,
    /// An image for another platform than the one asked for: this one.
    Other(&'a str),
    Image,
}

impl<'a> Here<'a> {
    fn of(observed: &'a Observed, reference: &str, wanted: &Wanted<'_>) -> Self {
        match observed.other_platform(reference, wanted.platform.as_deref()) {
            Some(found) => Self::Other(found),
            None if observed.images.contains_key(reference) => Self::Image,
            None => Self::Nothing,
        }
    }

    fn is_image(self) -> bool {
        matches!(self, Self::Image)
    }

    /// Returns why it must be fetched.
    fn cause(self) -> Cause {
        match self {
            Self::Other(found) => Cause::OtherPlatform(found.to_owned()),
            Self::Nothing | Self::Image => Cause::Missing,
        }
    }

    /// Returns why there is no plan where it may not be fetched.
    fn refused(self, reference: &str, wanted: &Wanted<'_>, reason: &'static str) -> PlanError {
        let (image, service) = (reference.to_owned(), wanted.service.to_string());
        match self {
            Self::Other(found) => PlanError::Platform {
                image,
                service,
                asked: wanted.platform.clone().unwrap_or_default(),
                found: found.to_owned(),
            },
            Self::Nothing | Self::Image => PlanError::Image {
                image,
                service,
                reason,
            },
        }
    }
}

/// Plans the pulls and builds of `up` and `create`.
///
/// An image that can be pulled and built is pulled, and built if that fails, as Docker Compose does (compose-spec build.md).
pub fn images(stack: &Stack, observed: &Observed, options: &UpOptions) -> Result<Plan, PlanError> {
    let dependencies = if options.no_deps {
        Dependencies::Leave
    } else {
        Dependencies::Follow
    };
    let selection = Selection::new(stack, &options.services, dependencies)?;
    let mut draft = Draft::default();
    let all = wanted(stack, &selection, options.pull, Contexts::Follow);
    for (reference, wanted) in &all {
        let here = Here::of(observed, reference, wanted);
        decide(&mut draft, reference, wanted, here, options.build)?;
    }
    warn_of_clashes(&mut draft, stack, &selection, &all);
    order_builds(&mut draft, stack);
    draft.finish()
}

/// Plans `pull`: every image that has a name, or those that are not there.
pub fn pull(stack: &Stack, observed: &Observed, options: &ImageOptions) -> Result<Plan, PlanError> {
    let selection = select(stack, options)?;
    let mut draft = Draft::default();
    for (reference, wanted) in wanted(stack, &selection, None, Contexts::Leave) {
        let here = Here::of(observed, &reference, &wanted);
        let buildable = options.ignore_buildable && wanted.build.is_some();
        let refused = matches!(wanted.policy, Some(PullPolicy::Never | PullPolicy::Build));
        if !wanted.has_name || buildable || refused || (options.missing_only && here.is_image()) {
            continue;
        }
        let cause = if here.is_image() {
            Cause::Command("pull")
        } else {
            here.cause()
        };
        draft.add(pull_action(&reference, &wanted), cause, &[]);
    }
    draft.finish()
}

/// What `push` brings to registries.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pushes {
    /// References, each once.
    pub pushed: BTreeSet<String>,
    /// Those of services that are not built here or have no name.
    pub skipped: BTreeSet<String>,
}

/// Chooses what `push` pushes: the images of services that have both a name and a build, as Docker Compose does.
pub fn pushes(stack: &Stack, options: &ImageOptions) -> Result<Pushes, PlanError> {
    let selection = select(stack, options)?;
    let mut pushes = Pushes::default();
    for (reference, wanted) in wanted(stack, &selection, None, Contexts::Leave) {
        let chosen = if wanted.has_name && wanted.build.is_some() {
            &mut pushes.pushed
        } else {
            &mut pushes.skipped
        };
        chosen.insert(reference);
    }
    Ok(pushes)
}

/// Plans `build`: every image that can be built.
pub fn build(stack: &Stack, options: &ImageOptions) -> Result<Plan, PlanError> {
    let selection = select(stack, options)?;
    let mut draft = Draft::default();
    let all = wanted(stack, &selection, None, Contexts::Follow);
    for (reference, wanted) in &all {
        if let Some(action) = build_action(reference, wanted) {
            draft.add(action, Cause::Command("build"), &[]);
        }
    }
    warn_of_clashes(&mut draft, stack, &selection, &all);
    order_builds(&mut draft, stack);
    draft.finish()
}

/// Returns the services that `build` is about: those that can be built.
pub fn built<'a>(
    stack: &'a Stack,
    options: &ImageOptions,
) -> Result<Vec<(&'a ServiceName, &'a Service)>, PlanError> {
    let selection = select(stack, options)?;
    let mut services = gathered(stack, &selection, Contexts::Follow);
    services.retain(|(_, service)| service.build.is_some());
    Ok(services)
}

/// Selects for `pull` and `build`.
fn select<'a>(stack: &'a Stack, options: &ImageOptions) -> Result<Selection<'a>, PlanError> {
    let dependencies = if options.with_dependencies {
        Dependencies::Follow
    } else {
        Dependencies::Leave
    };
    Selection::new(stack, &options.services, dependencies)
}

/// Whether the images count that builds take from (`additional_contexts: x: service:y`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Contexts {
    /// For what builds: it needs them first.
    Follow,
    /// For what moves the images of the selected services alone, as Docker Compose's `pull` and `push` do.
    Leave,
}

/// Returns the selected services, and those whose images their builds take from where these count.
fn gathered<'a>(
    stack: &'a Stack,
    selection: &Selection<'a>,
    contexts: Contexts,
) -> Vec<(&'a ServiceName, &'a Service)> {
    let mut ahead: VecDeque<(&ServiceName, &Service)> =
        selection.services.iter().copied().collect();
    let mut seen = BTreeSet::new();
    let mut found = Vec::new();
    while let Some((name, service)) = ahead.pop_front() {
        if !seen.insert(name) {
            continue;
        }
        if contexts == Contexts::Follow {
            let named = service.build.iter().flat_map(Build::services);
            ahead.extend(named.filter_map(|name| stack.services.get_key_value(name)));
        }
        found.push((name, service));
    }
    found
}

/// Gathers the images of the selected services; `pull` stands instead of every policy.
fn wanted<'a>(
    stack: &'a Stack,
    selection: &Selection<'a>,
    pull: Option<PullPolicy>,
    contexts: Contexts,
) -> BTreeMap<String, Wanted<'a>> {
    let mut all: BTreeMap<String, Wanted<'a>> = BTreeMap::new();
    for (name, service) in gathered(stack, selection, contexts) {
        let reference = naming::image_reference(stack, name, service);
        let policy = pull.or(service.pull_policy);
        let entry = all.entry(reference).or_insert(Wanted {
            service: name,
            build: None,
            has_name: false,
            policy: None,
            platform: None,
        });
        entry.has_name |= service.image.is_some();
        entry.policy = more_eager(entry.policy, policy);
        if entry.platform.is_none() {
            entry.platform.clone_from(&service.platform);
        }
        if entry.build.is_none() && service.build.is_some() {
            entry.build = Some((name, service));
        }
    }
    all
}

/// Warns of services whose build is not done, since another one that is has the name of their image.
fn warn_of_clashes(
    draft: &mut Draft,
    stack: &Stack,
    selection: &Selection<'_>,
    all: &BTreeMap<String, Wanted<'_>>,
) {
    let mut services = gathered(stack, selection, Contexts::Follow);
    services.retain(|(_, service)| service.build.is_some());
    for (name, service) in services {
        let image = naming::image_reference(stack, name, service);
        let Some((built, first)) = all.get(&image).and_then(|wanted| wanted.build) else {
            continue;
        };
        let is_it =
            |action: &Action| matches!(action, Action::BuildImage(build) if build.image == image);
        let is_built = || draft.steps().iter().any(|step| is_it(&step.action));
        if service.build != first.build && is_built() {
            draft.warnings.push(Warning::SameImage {
                image,
                built: built.to_string(),
                other: name.to_string(),
            });
        }
    }
}

/// Makes builds wait for those whose images they take from.
fn order_builds(draft: &mut Draft, stack: &Stack) {
    let mut orders = Vec::new();
    for step in draft.steps() {
        let Action::BuildImage(build) = &step.action else {
            continue;
        };
        for name in build.build.services() {
            let Some((name, service)) = stack.services.get_key_value(name) else {
                continue;
            };
            let image = naming::image_reference(stack, name, service);
            let gets = |action: &Action| match action {
                Action::BuildImage(other) => other.image == image,
                Action::PullImage(pull) => pull.reference == image,
                _ => false,
            };
            let first = draft.steps().iter().filter(|other| gets(&other.action));
            let first: Vec<_> = first.map(|other| other.id).collect();
            orders.extend(first.iter().map(|other| match first.len() {
                1 => (step.id, After::Success(*other)),
                // Of a pull and the build that makes up for its failure, one may not be needed.
                _ => (step.id, After::End(*other)),
            }));
        }
    }
    for (step, after) in orders {
        draft.order(step, after);
    }
}

/// Returns the more eager of two policies: one pull or build serves every service of the image.
fn more_eager(one: Option<PullPolicy>, other: Option<PullPolicy>) -> Option<PullPolicy> {
    let rank = |policy| match policy {
        None => 0,
        Some(PullPolicy::Never) => 1,
        Some(PullPolicy::Missing) => 2,
        Some(PullPolicy::Build) => 3,
        Some(PullPolicy::Always) => 4,
    };
    std::cmp::max_by_key(one, other, |policy| rank(*policy))
}

/// Adds what one image needs.
fn decide(
    draft: &mut Draft,
    reference: &str,
    wanted: &Wanted<'_>,
    here: Here<'_>,
    building: BuildImages,
) -> Result<(), PlanError> {
    let build = match building {
        BuildImages::Never => None,
        BuildImages::Missing | BuildImages::Always => build_action(reference, wanted),
    };
    if let (Some(build), BuildImages::Always) = (&build, building) {
        draft.add(build.clone(), Cause::Flag("--build"), &[]);
        return Ok(());
    }
    match (wanted.policy, build) {
        (Some(PullPolicy::Build), Some(build)) => {
            draft.add(build, Cause::PullPolicy("build"), &[]);
        }
        (Some(PullPolicy::Always), build) if wanted.has_name => {
            pull_or_build(draft, reference, wanted, Cause::PullPolicy("always"), build);
        }
        _ if here.is_image() => {}
        (Some(PullPolicy::Never | PullPolicy::Build), None) => {
            let reason = "its pull policy does not let it be pulled";
            return Err(here.refused(reference, wanted, reason));
        }
        (Some(PullPolicy::Never), Some(build)) => {
            draft.add(build, here.cause(), &[]);
        }
        (_, build) if wanted.has_name => {
            pull_or_build(draft, reference, wanted, here.cause(), build);
        }
        (_, Some(build)) => {
            draft.add(build, here.cause(), &[]);
        }
        (_, None) => {
            let reason = "it may not be built (`--no-build`)";
            return Err(here.refused(reference, wanted, reason));
        }
    }
    Ok(())
}

/// Adds a pull and, where it can be built, the build that makes up for its failure.
fn pull_or_build(
    draft: &mut Draft,
    reference: &str,
    wanted: &Wanted<'_>,
    cause: Cause,
    build: Option<Action>,
) {
    let pull = draft.add(pull_action(reference, wanted), cause, &[]);
    if let Some(build) = build {
        draft.add(build, Cause::PullFailed, &[After::Failure(pull)]);
    }
}

/// Returns the pull of an image.
fn pull_action(reference: &str, wanted: &Wanted<'_>) -> Action {
    Action::PullImage(PullImage {
        reference: reference.to_owned(),
        platform: wanted.platform.clone(),
    })
}

/// Returns the build of an image that can be built.
fn build_action(reference: &str, wanted: &Wanted<'_>) -> Option<Action> {
    let (name, service) = wanted.build?;
    Some(Action::BuildImage(Box::new(BuildImage {
        image: reference.to_owned(),
        service: name.clone(),
        build: service.build.clone()?,
        platform: service.platform.clone(),
    })))
}
