//! `RUN` steps of a build.

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt;

use tokio::sync::Notify;

use super::super::dockerfile::instruction::{Command, Run};
use super::super::dockerfile::mount::{RunNetwork, RunSecurity};
use super::super::manifest::Platform;
use super::super::reference::Digest;
use super::super::store::LayerLock;
use super::builder::Build;
use super::cache::FinishedKey;
use super::error::StepFailure;
use super::keep::{Claim, Placed};
use super::mounts::Asked;
use super::plan::PlannedStep;
use super::resolve::ResolvedRun;
use super::step::{Heard, StepMount, StepNetwork, StepSource};
use super::work::{Cached, Found, StageWork};
use super::{BuildEvent, FoundDevice, Requirements, RunStep, StepLabel, devices, run};

/// Name of the machine that steps see (BuildKit).
pub(super) const HOSTNAME: &str = "buildkitsandbox";

/// A `RUN` with everything that its key needs.
struct Ready {
    args: Vec<String>,
    env: Vec<String>,
    cwd: String,
    user: String,
    platform: String,
    hostname: String,
    network: StepNetwork,
    insecure: bool,
    devices: Vec<FoundDevice>,
    /// A here-document that names its interpreter: where it is mounted, and what it says.
    script: Option<(String, String)>,
}

impl Ready {
    /// Says of a command that could not be executed that it is for another machine, where it is.
    fn unless_foreign(&self, error: StepFailure) -> StepFailure {
        let host = Platform::host();
        let wanted = Platform::parse(&self.platform).ok();
        let is_foreign = wanted.is_some_and(|wanted| !host.preferences().contains(&wanted));
        let is_format = |line: &String| line.to_lowercase().contains("exec format error");
        match error {
            StepFailure::Exit {
                exit_code: 126,
                command,
                tail,
            } if is_foreign && tail.iter().any(is_format) => StepFailure::Foreign {
                command,
                platform: self.platform.clone(),
                host: host.to_string(),
            },
            error => error,
        }
    }
}

impl Build<'_> {
    /// Tells that the command of a step failed, and returns that.
    pub(super) fn exited(
        &self,
        step: &RunStep,
        label: StepLabel<'_>,
        (exit_code, tail): (i32, Vec<String>),
    ) -> StepFailure {
        self.progress.event(BuildEvent::Failed {
            step: label,
            exit_code,
            tail: &tail,
        });
        StepFailure::Exit {
            command: step.args.join(" "),
            exit_code,
            tail,
        }
    }
}

impl StageWork<'_, '_> {
    /// Does a `RUN`.
    pub(super) async fn run(
        &mut self,
        (run, resolved): (&Run, &ResolvedRun),
        step: &PlannedStep,
        label: StepLabel<'_>,
    ) -> Result<Cached, StepFailure> {
        let ready = self.ready(run, resolved)?;
        let by = self.state.history_of_run(&ready.args);
        let asked = self.ask_for_mounts(&resolved.mounts, &step.mounts);
        let asked = asked.await?;
        let mut claim = Claim::default();
        // Another key of the step, which is looked for first, and the one that says more.
        let mut quick = None;
        // Above a layer that is new, this step was never done.
        if self.pending.is_none() {
            let layers = &self.state.layers;
            let mut key = self.key_of(&ready, &asked.by_layers, layers);
            if let Some(content) = &asked.by_content {
                if self.take(&key.hex, &by).await? {
                    return Ok(Cached::Yes);
                }
                let full = self.key_of(&ready, content, &self.state.layers);
                let quicker = std::mem::replace(&mut key, full);
                quick = Some((quicker, key.hex.clone()));
            }
            if self.is_all_in_history(run, &ready)
                && (self.take(&key.hex, &by).await? || self.take_by_history(&key.hex, &by).await?)
            {
                return Ok(Cached::Yes);
            }
            claim = match self.find(key, &by, label).await? {
                Found::Nothing(claim) => claim,
                Found::Layer => {
                    if let Some((quick, full)) = &quick {
                        self.alias(quick, full)?;
                    }
                    return Ok(Cached::Yes);
                }
            };
        }
        self.start(label);
        let staging = self.build.store().staging()?;
        let mut prepared = self.prepare_mounts(&asked, staging.directory()).await?;
        let step = self.assemble(&ready, &mut prepared, &staging)?;
        let ran = self.run_command(&step, label, |work, lock_below| {
            claim = work.claim_above(&ready, &asked)?;
            // Whoever waits for the step below comes to this one next.
            drop(lock_below);
            Ok(())
        });
        let ran = ran.await;
        ran.map_err(|error| ready.unless_foreign(error))?;
        if prepared.is_unsteady {
            // What the step saw is not what its key says.
            claim.key = None;
            quick = None;
        }
        // What was mounted must not go before.
        drop(prepared);
        self.commit(staging, claim, by).await?;
        if let Some((quick, full)) = &quick {
            self.settle().await?;
            self.alias(quick, full)?;
        }
        Ok(Cached::No)
    }

    /// Whether the history says all that a `RUN` depends on, as far as any history does.
    fn is_all_in_history(&self, run: &Run, ready: &Ready) -> bool {
        run.mounts.is_empty()
            && run.devices.is_empty()
            && ready.script.is_none()
            && ready.network == StepNetwork::Own
            && !ready.insecure
            && ready.hostname == HOSTNAME
            && self.build.request.requirements == Requirements::default()
    }

    /// Takes the right to do a step above a layer that was new when it began, where nobody has it.
    fn claim_above(&self, ready: &Ready, asked: &Asked) -> Result<Claim, StepFailure> {
        let parts = asked.by_content.as_ref().unwrap_or(&asked.by_layers);
        let key = self.key_of(ready, parts, &self.state.layers);
        let lock = self.build.try_lock(&key)?;
        Ok(Claim {
            key: Some(key),
            lock,
        })
    }

    /// Finds out what a `RUN` runs.
    fn ready(&self, run: &Run, resolved: &ResolvedRun) -> Result<Ready, StepFailure> {
        let request = self.build.request;
        let network = match run.network {
            RunNetwork::Default => request.network.clone(),
            RunNetwork::None => StepNetwork::None,
            RunNetwork::Host => StepNetwork::Host,
        };
        let insecure = run.security == RunSecurity::Insecure;
        let script = resolved.script.clone();
        let command = match &script {
            Some((path, _)) => Command::Shell(path.clone()),
            None => run::command_of(run),
        };
        let given = &self.build.given.arguments;
        let hostname = given.get("BUILDKIT_SANDBOX_HOSTNAME");
        Ok(Ready {
            args: self.state.arguments_of(&command),
            env: self.state.run_environment(),
            cwd: self.state.working_directory(),
            user: self.state.config.config.user.clone(),
            platform: self.state.config.platform().to_string(),
            hostname: hostname.map_or_else(|| HOSTNAME.to_owned(), Clone::clone),
            network,
            insecure,
            devices: self.build.devices(run)?,
            script,
        })
    }

    /// Returns the key of a `RUN` above `layers`.
    fn key_of(&self, ready: &Ready, mounts: &[String], layers: &[Digest]) -> FinishedKey {
        let given = &self.build.request.requirements;
        let names: Vec<&str> = given.hosts.iter().map(|(_, name)| name.as_str()).collect();
        let limits = given.limits.iter();
        let limits: Vec<String> = limits
            .map(|limit| format!("{}={}:{}", limit.name, limit.soft, limit.hard))
            .collect();
        let script = ready.script.as_ref();
        let mut key = self.key_above("run", layers);
        // A compiler's tests, say, see how much there is.
        if let Some(bytes) = given.shm_bytes {
            key = key.with("size of /dev/shm", &format!("{bytes} bytes of /dev/shm"));
        }
        if !ready.devices.is_empty() {
            let names = ready.devices.iter().map(|device| device.name.as_str());
            key = key.with_all("devices", &names.collect::<Vec<_>>());
        }
        key.with_all("command", &ready.args)
            .with_all("environment", &ready.env)
            .with("working directory", &ready.cwd)
            .with("user", &ready.user)
            .with("platform", &ready.platform)
            .with("here-document", script.map_or("", |(_, text)| text))
            .with_all("mounts", mounts)
            .with("network", &ready.network.to_string())
            .with(
                "security",
                if ready.insecure {
                    "insecure"
                } else {
                    "sandbox"
                },
            )
            .with("host name", &ready.hostname)
            .with_all("names of extra hosts", &names)
            .with_all("limits", &limits)
            .finish()
    }

    /// Puts a step together.
    fn assemble(
        &self,
        ready: &Ready,
        prepared: &mut super::mounts::Prepared,
        staging: &super::super::store::Staging,
    ) -> Result<RunStep, StepFailure> {
        if let Some((target, text)) = &ready.script {
            let path = staging.directory().join("script");
            fs_err::File::create(&path)?.write_all(text.as_bytes())?;
            fs_err::set_permissions(&path, std::fs::Permissions::from_mode(0o755))?;
            prepared.mounts.push(StepMount {
                target: target.clone(),
                source: StepSource::Host(path),
                read_only: true,
            });
        }
        let devices = devices::add(&ready.devices, prepared, staging.directory())?;
        // Parents before what is below them, whoever asked for them.
        let depth = |mount: &StepMount| mount.target.trim_matches('/').split('/').count();
        prepared.mounts.sort_by_key(depth);
        let mut layers = self.directories();
        if let Some(pending) = &self.pending {
            layers.insert(0, pending.diff.clone());
        }
        let points = staging.directory().join("mount-points");
        if run::make_mount_points(&staging.diff(), &points, &layers, &prepared.points())? {
            layers.insert(0, points);
        }
        let env = self.state.proxied_environment(&self.build.given.arguments);
        Ok(RunStep {
            layers,
            upper: staging.diff(),
            work: staging.work(),
            args: ready.args.clone(),
            env: [env.as_slice(), &prepared.env].concat(),
            secret_env: prepared.secret_env.clone(),
            cwd: ready.cwd.clone(),
            user: ready.user.clone(),
            mounts: prepared.mounts.clone(),
            network: ready.network.clone(),
            insecure: ready.insecure,
            devices,
            hostname: ready.hostname.clone(),
            requirements: self.build.request.requirements.clone(),
        })
    }

    /// Runs the command of a `RUN`. The layer below, where it is still being hashed, comes to its place meanwhile or after it: then
    /// `settled` hears of it, with the lock of its step.
    async fn run_command(
        &mut self,
        step: &RunStep,
        label: StepLabel<'_>,
        mut settled: impl FnMut(&mut Self, Option<LayerLock>) -> Result<(), StepFailure>,
    ) -> Result<(), StepFailure> {
        let (build, mounted) = (self.build, Notify::new());
        let mut hear_line = |line: &[u8]| build.progress.event(BuildEvent::Output(label, line));
        let mut lines = run::Lines::new(&mut hear_line);
        let mut hear = |heard: Heard<'_>| match heard {
            Heard::Mounted => mounted.notify_one(),
            Heard::Output(piece) => lines.take(piece),
        };
        let mut in_use = None;
        let mut running = build.runner.run(step, &mut hear);
        let (ended, placed) = tokio::select! {
            biased;
            ended = &mut running => (Some(ended?), None),
            placed = self.placed_after(&mounted) => (None, Some(placed?)),
        };
        if let Some(mut placed) = placed {
            self.pending = None;
            in_use = placed.mounted.take();
            let lock = self.put_on_top(placed);
            settled(self, lock)?;
        }
        let exit_code = match ended {
            Some(exit_code) => exit_code,
            None => (&mut running).await?,
        };
        drop((running, in_use));
        let tail = lines.finish();
        if exit_code == 0 {
            if self.pending.is_some() {
                let lock = self.settle_keeping().await?;
                settled(self, lock)?;
            }
            return Ok(());
        }
        Err(build.exited(step, label, (exit_code, tail)))
    }

    /// Waits until the layer below is in its place, which it comes to once the next step has it mounted; never ends where there is none.
    async fn placed_after(&mut self, mounted: &Notify) -> Result<Placed, StepFailure> {
        let Some(pending) = &mut self.pending else {
            return std::future::pending().await;
        };
        mounted.notified().await;
        pending.release();
        pending.placed().await
    }
}
