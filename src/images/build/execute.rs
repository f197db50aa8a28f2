//! `RUN` steps of a build.

use super::super::dockerfile::instruction::Run;
use super::super::reference::Digest;
use super::cache::Key;
use super::error::StepFailure;
use super::plan::PlannedStep;
use super::work::{Cached, Claim, Found, StageWork};
use super::{BuildEvent, RunStep, StepLabel, run};

impl StageWork<'_, '_> {
    /// Does a `RUN`.
    pub(super) async fn run(
        &mut self,
        run: &Run,
        _step: &PlannedStep,
        label: StepLabel<'_>,
    ) -> Result<Cached, StepFailure> {
        let args = self.state.arguments_of(&run::command_of(run));
        let by = self.state.history_of_run(&args);
        let env = self.state.run_environment();
        let cwd = self.state.working_directory();
        let user = self.state.config.config.user.clone();
        let platform = self.state.config.platform().to_string();
        let key = |layers: &[Digest]| {
            Key::new("run", layers)
                .with_all("command", &args)
                .with_all("environment", &env)
                .with("working directory", &cwd)
                .with("user", &user)
                .with("platform", &platform)
                .finish()
        };
        // Above a layer that is new, this step was never done.
        let mut claim = Claim::default();
        if self.pending.is_none() {
            claim = match self.find(key(&self.state.layers), &by, label).await? {
                Found::Layer => return Ok(Cached::Yes),
                Found::Nothing(claim) => claim,
            };
        }
        self.start(label);
        let staging = self.build.store().staging()?;
        let mut layers = self.directories();
        if let Some(pending) = &self.pending {
            layers.insert(0, pending.staging.diff());
        }
        let points = staging.directory().join("mount-points");
        if run::make_mount_points(&staging.diff(), &points, &layers)? {
            layers.insert(0, points);
        }
        let step = RunStep {
            layers,
            upper: staging.diff(),
            work: staging.work(),
            args: args.clone(),
            env: [env.clone(), self.state.proxies(&self.build.given.arguments)].concat(),
            cwd: cwd.clone(),
            user: user.clone(),
        };
        let ran = self.run_command(&step, label).await;
        // What is below is kept also where this step failed.
        let lock_below = self.settle_keeping().await?;
        ran?;
        if claim.key.is_none() {
            let key = key(&self.state.layers);
            // Whoever waits for the step below comes to this one next.
            claim.lock = self.build.try_lock(&key)?;
            claim.key = Some(key);
        }
        drop(lock_below);
        self.commit(staging, claim, by)?;
        Ok(Cached::No)
    }

    /// Runs the command of a `RUN`.
    async fn run_command(&self, step: &RunStep, label: StepLabel<'_>) -> Result<(), StepFailure> {
        let progress = self.build.progress;
        let mut hear = |line: &[u8]| progress.event(BuildEvent::Output(label, line));
        let mut lines = run::Lines::new(&mut hear);
        let exit_code = self
            .build
            .runner
            .run(step, &mut |piece| lines.take(piece))
            .await?;
        let tail = lines.finish();
        if exit_code == 0 {
            return Ok(());
        }
        progress.event(BuildEvent::Failed {
            step: label,
            exit_code,
            tail: &tail,
        });
        Err(StepFailure::Exit {
            command: step.args.join(" "),
            exit_code,
            tail,
        })
    }
}
