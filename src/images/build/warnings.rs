//! What is told of a Dockerfile before it is built: the warnings of its stages that are needed, and arguments that nothing takes.

use std::collections::BTreeMap;

use super::super::dockerfile::expand::Variables;
use super::super::dockerfile::instruction::Kind;
use super::super::dockerfile::lint::{self, Known, Options, Reached, Warning};
use super::super::dockerfile::{Fault, Span};
use super::super::manifest::Platform;
use super::super::reference::Reference;
use super::BuildEvent;
use super::builder::Build;
use super::error::BuildError;
use super::inputs::automatic_variables;
use super::pattern;
use super::plan::{self, Base, Plan, PlannedStage};
use super::stage::DEFAULT_PATH;

/// The argument that stands above the `check` directive.
const CHECK: &str = "BUILDKIT_DOCKERFILE_CHECK";

impl Build<'_> {
    /// Tells the warnings; fails where the Dockerfile wants them to be errors.
    pub(super) fn check(&self, plan: &Plan) -> Result<(), BuildError> {
        let (options, found) = self.warnings(plan)?;
        for warning in &found {
            // Services that are built from one file have its warnings once.
            let what = format!("lint {} {warning}", self.file.path.display());
            if self.session.add_new(&what) {
                self.progress.event(BuildEvent::Lint(warning, self.file));
            }
        }
        self.check_arguments();
        lint::verdict(&options, &found).map_err(|message| {
            let first = found.first();
            let span = first.map_or_else(Span::default, |warning| warning.span);
            self.faults(vec![Fault::new(span, message)])
        })
    }

    /// Returns the warnings, in the order of their lines, and which count.
    pub(super) fn warnings(&self, plan: &Plan) -> Result<(Options, Vec<Warning>), BuildError> {
        let given = self.given.arguments.get(CHECK).map(String::as_str);
        let options = Options::of(self.file, given).map_err(|fault| self.faults(vec![fault]))?;
        let automatic = automatic_variables(self.request);
        let defaults = plan::global_variables(self.file, &automatic, &Variables::new());
        let defaults = defaults.unwrap_or_else(|_| self.given.globals.clone());
        let is_image = |name: &str| Reference::parse(name).is_ok();
        let globals = &self.given.globals;
        let mut found = lint::file(self.file, &options, globals, &defaults, &is_image);
        let leaves_out = |path: &str| self.context.ignore.leaves_out(&pattern::clean(path));
        let mut ends: BTreeMap<usize, Known> = BTreeMap::new();
        for stage in &plan.stages {
            let start = match &stage.base {
                Base::Stage(index) => ends.get(index).cloned().unwrap_or_default(),
                _ => self.known_of(stage),
            };
            let own = self.file.stages.get(stage.index);
            let reached = Reached {
                instructions: own.map_or(&[], |own| own.instructions.as_slice()),
                globals,
                given: &self.given.arguments,
                leaves_out: &leaves_out,
            };
            let (more, end) = lint::stage(self.file, &options, reached, start);
            found.extend(more);
            found.extend(self.platform_of(stage, &options));
            ends.insert(stage.index, end);
        }
        found.sort();
        found.dedup();
        Ok((options, found))
    }

    /// Returns what a stage starts with that goes on from no other.
    fn known_of(&self, stage: &PlannedStage) -> Known {
        let mut known = Known::default();
        known
            .variables
            .insert("PATH".to_owned(), DEFAULT_PATH.to_owned());
        if let Some(image) = self.base_image(stage) {
            let config = &image.config.config;
            let pairs = config.env.iter().filter_map(|pair| pair.split_once('='));
            let pairs = pairs.map(|(name, value)| (name.to_owned(), value.to_owned()));
            known.variables.extend(pairs);
            known.has_shell = config.shell.is_some();
        }
        known
    }

    /// `InvalidBaseImagePlatform`
    fn platform_of(&self, stage: &PlannedStage, options: &Options) -> Option<Warning> {
        let (image, own) = (self.base_image(stage)?, self.file.stages.get(stage.index)?);
        let expected = match &stage.platform {
            Some(platform) => Platform::parse(platform).ok()?,
            None => self.request.platform.clone(),
        };
        let actual = image.config.platform();
        let fits = actual.os == expected.os && actual.architecture == expected.architecture;
        let message = format!(
            "Base image {} was pulled with platform \"{actual}\", expected \"{expected}\" for current build",
            own.base
        );
        let rule = "InvalidBaseImagePlatform";
        (!fits)
            .then(|| lint::one(self.file, options, own.span, rule, message))
            .flatten()
    }

    /// Tells of build arguments that no `ARG` takes.
    fn check_arguments(&self) {
        let file = self.file;
        let instructions = file.stages.iter().flat_map(|stage| &stage.instructions);
        let declared: Vec<&str> = instructions
            .filter_map(|instruction| match &instruction.kind {
                Kind::Arg(arguments) => Some(arguments),
                _ => None,
            })
            .flatten()
            .chain(&file.arguments)
            .map(|argument| argument.name.as_str())
            .collect();
        let unused: Vec<&str> = self
            .given
            .arguments
            .keys()
            .map(String::as_str)
            .filter(|name| !declared.contains(name) && !is_built_in(name))
            .filter(|name| !automatic_variables(self.request).contains_key(*name))
            .collect();
        if !unused.is_empty() {
            let text = format!(
                "one or more build-args [{}] were not consumed",
                unused.join(" ")
            );
            self.progress.event(BuildEvent::Warning(&text));
        }
    }
}

/// Whether an argument means something without an `ARG`.
fn is_built_in(name: &str) -> bool {
    let upper = name.to_ascii_uppercase();
    upper.starts_with("BUILDKIT_") || upper.ends_with("_PROXY") || upper == "SOURCE_DATE_EPOCH"
}
